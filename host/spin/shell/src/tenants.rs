//! The tenants' pieces, as `tollgate-tenants` built them and `spin.toml` mounts them.

use std::io::ErrorKind;

use tollgate_core::ids::{SourceName, TenantName};
use tollgate_tenants::{FormError, Intake, Work};

/// Where `spin.toml` mounts them.
const FOLDER: &str = "/tenants";

/// What a source's events need until they are acknowledged; `Ok(None)` when there is no such source.
///
/// # Errors
/// In words, when its piece cannot be read.
pub fn intake(tenant: &TenantName, source: &SourceName) -> Result<Option<Intake>, String> {
    piece(&Intake::file_name(tenant, source), Intake::decode)
}

/// What is done for a tenant later; `Ok(None)` when there is no such tenant.
///
/// # Errors
/// As [`intake`].
pub fn work(tenant: &TenantName) -> Result<Option<Work>, String> {
    piece(&Work::file_name(tenant), Work::decode)
}

fn piece<T>(name: &str, decode: fn(&[u8]) -> Result<T, FormError>) -> Result<Option<T>, String> {
    match std::fs::read(format!("{FOLDER}/{name}")) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(|error| format!("{name}: {error}")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{name} cannot be read: {error}")),
    }
}
