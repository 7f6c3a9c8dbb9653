//! Tenants' files for the Spin app: read and checked where the app is built, so that a component, which lives for one request, has
//! neither TOML to parse nor a profile to check.
//!
//! [`file`] reads the file that a person writes. `form` is what is made of it: one piece per source, with all that an event of it
//! needs until it is acknowledged, and one per tenant, with all that is done later. [`build`] puts the pieces into a folder.
//!
//! Guarantee: no secret is in a piece, only the name of the app's variable that holds it.

mod build;
mod file;
mod form;

pub use build::{BuildError, Built, build};
pub use form::{Basic, Destination, FormError, Intake, Parameter, Route, SecretRef, Tenant, Variable, Work};

/// The folder of the pieces, inside that of the tenants' files.
pub const BUILT: &str = "built";
