//! Tenants' files, read and checked once for every host.
//!
//! [`mod@file`] reads the file that a person writes, with every problem at its line: for the native host, whose configuration is made of it,
//! and for the Spin app. A component of that app lives for one request, so it has neither TOML to parse nor a profile to check: `form` is
//! what is made for it where the app is built, one piece per source, with all that an event of it needs until it is acknowledged, and one
//! per tenant, with all that is done later. [`build`] puts the pieces into a folder.
//!
//! Guarantee: no secret is in a piece, only the name of the app's variable that holds it.

#[cfg(not(target_family = "wasm"))]
mod build;
#[cfg(not(target_family = "wasm"))]
pub mod file;
mod form;
mod route;

#[cfg(not(target_family = "wasm"))]
pub use build::{BuildError, Built, build, check};
pub use form::{Basic, Destination, FormError, Intake, Parameter, Pieces, SecretRef, Variable, Work};
pub use route::{PluginLimits, Route};

/// The folder of the pieces, inside that of the tenants' files.
pub const BUILT: &str = "built";
