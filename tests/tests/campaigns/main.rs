//! The short forms of the campaigns; the long ones are `cargo xtask campaign NAME`. Seeds are fixed, so that a failure is repeated
//! by the command that it names.

mod fleet;
mod fuzz;
mod hostile;
mod io;
mod kill;
mod outage;
mod points;
mod power;
mod shards;
mod simulate;
mod soak;
