//! Who asks, as the host knows them.

use serde::{Deserialize, Serialize};
use tollgate_core::access::{Caller, Permission, Role};
use tollgate_core::ids::TenantName;

/// What a token proves, and what its holder may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct WhoAmI {
    /// The name of the token with its id, which the history keeps; `operator` for the token that the configuration names.
    pub name: String,
    /// operator, tenant-admin, plugin-author, puller, viewer, or portal for who came by a portal link.
    pub role: String,
    /// The only tenant that the token sees; null for the whole host.
    pub tenant: Option<TenantName>,
    /// Whose things the token shows: its tenant, or of the whole host the tenants that it runs, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantName>,
    /// What its holder may do, by the words of `x-permission`. A tenant's token may do it to that tenant only.
    pub permissions: Vec<String>,
    /// From when on the token proves nothing (RFC 3339); absent where it ends only by revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// What a portal link lists, by its words; absent for other tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may: Vec<String>,
    /// The accent of the console for who came by a portal link, as `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accent: Option<String>,
    /// Whether the console is light or dark for who came by a portal link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
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
            tenants: caller.tenant.iter().cloned().collect(),
            permissions: may.map(|permission| permission.as_str().to_owned()).collect(),
            ends_at: caller.ends_at.map(|at| at.to_string()),
            may: listed(caller.role),
            accent: caller.look.accent.map(|accent| accent.to_string()),
            scheme: caller.look.scheme.map(|scheme| scheme.as_str().to_owned()),
        }
    }
}

/// What a portal link lists; nothing for other roles.
pub fn listed(role: Role) -> Vec<String> {
    match role {
        Role::Portal(capabilities) => capabilities.list().map(|one| one.as_str().to_owned()).collect(),
        _ => Vec::new(),
    }
}
