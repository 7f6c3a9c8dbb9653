//! The short forms of the campaigns; the long ones are `cargo xtask campaign NAME`. Seeds are fixed, so that a failure is repeated
//! by the command that it names.

mod hostile;
mod kill;
mod outage;
mod soak;
