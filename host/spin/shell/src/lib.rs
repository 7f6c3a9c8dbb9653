//! What the components of the Spin app share: HTTP, the clock, the database, the app's variables and the tenants' pieces.
//!
//! It decides nothing and keeps nothing: `tollgate-core` decides, and `tollgate-store` keeps. A component's instance lives for one
//! request; several run at once.

pub mod clock;
pub mod database;
pub mod tenants;
pub mod web;

use spin_sdk::variables;
use tollgate_core::secret::Secret;
use tollgate_tenants::Variable;

/// The name of the app's variable with which a timer and the ingest component wake the worker.
pub const SWEEP_TOKEN: &str = "sweep_token";

/// What an app's variable holds.
///
/// # Errors
/// In words, when it is not set or empty.
pub fn variable(Variable(name): &Variable) -> Result<Secret, String> {
    match variables::get(name) {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
        _ => Err(format!("the variable `{name}` is not set")),
    }
}

/// Says one line to whoever operates the app. Never a secret, and nothing of a payload.
#[expect(
    clippy::print_stderr,
    reason = "standard error is where Spin takes a component's log from"
)]
pub fn log(line: &str) {
    eprintln!("{line}");
}
