//! Who asks, as the host knows them.

use serde::{Deserialize, Serialize};
use tollgate_core::access::{Caller, Permission};
use tollgate_core::ids::TenantName;

/// What a token proves, and what its holder may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct WhoAmI {
    /// The name of the token with its id, which the history keeps; `operator` for the token that the configuration names.
    pub name: String,
    /// operator, tenant-admin, plugin-author, puller or viewer.
    pub role: String,
    /// The only tenant that the token sees; null for the whole host.
    pub tenant: Option<TenantName>,
    /// What its holder may do, by the words of `x-permission`. A tenant's token may do it to that tenant only.
    pub permissions: Vec<String>,
}

impl WhoAmI {
    /// What a host says of a caller.
    pub fn of(caller: &Caller) -> Self {
        let of_host = |permission: &Permission| matches!(permission, Permission::HostRead | Permission::HostWrite);
        let may = Permission::ALL
            .into_iter()
            .filter(|permission| caller.role.may(*permission) && !(caller.tenant.is_some() && of_host(permission)));
        Self {
            name: caller.name.clone(),
            role: caller.role.to_string(),
            tenant: caller.tenant.clone(),
            permissions: may.map(|permission| permission.as_str().to_owned()).collect(),
        }
    }
}
