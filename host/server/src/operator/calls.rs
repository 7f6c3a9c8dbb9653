//! Every call of the private listener, with the permission that it needs. What is not in this list is not answered.

use tollgate_core::access::Permission;

/// One call.
pub(super) struct Call {
    pub(super) method: &'static str,
    /// As the router has it. `{tenant}` in it is the tenant that the call is about.
    pub(super) path: &'static str,
    pub(super) permission: Permission,
}

const fn call(method: &'static str, path: &'static str, permission: Permission) -> Call {
    Call {
        method,
        path,
        permission,
    }
}

pub(super) const CALLS: &[Call] = &[
    call("GET", "/metrics", Permission::HostRead),
    call("GET", "/v1/counts", Permission::HostRead),
    call("GET", "/v1/trace", Permission::ReceiptRead),
    call("GET", "/v1/fixture", Permission::ReceiptRead),
    call("GET", "/v1/dead-letters", Permission::ReceiptRead),
    call("POST", "/v1/replay", Permission::ReceiptWrite),
    call("POST", "/v1/resend", Permission::ReceiptWrite),
    call("GET", "/v1/state", Permission::ReceiptRead),
    call("POST", "/v1/state", Permission::ReceiptWrite),
    call("GET", "/v1/held", Permission::ReceiptRead),
    call("GET", "/v1/held/counts", Permission::ReceiptRead),
    call("POST", "/v1/review", Permission::ReceiptWrite),
    call(
        "POST",
        "/v1/tenants/{tenant}/routes/{route}/trials",
        Permission::PluginTrial,
    ),
    call("GET", "/v1/quarantines", Permission::PluginRead),
    call(
        "POST",
        "/v1/tenants/{tenant}/routes/{route}/lift-quarantine",
        Permission::PluginPromote,
    ),
    call("GET", "/v1/tokens", Permission::TokenRead),
    call("POST", "/v1/tokens", Permission::TokenWrite),
    call("POST", "/v1/tokens/{token}/revoke", Permission::TokenWrite),
    call("GET", "/v1/plugins", Permission::PluginRead),
    call("POST", "/v1/plugins", Permission::PluginUpload),
    call("GET", "/v1/plugins/{plugin}", Permission::PluginRead),
    call("GET", "/v1/plugins/{plugin}/history", Permission::PluginRead),
    call("POST", "/v1/plugins/{plugin}/publish", Permission::PluginPromote),
    call("POST", "/v1/plugins/{plugin}/retire", Permission::PluginPromote),
    call("GET", "/v1/tenants/{tenant}/routes", Permission::PluginRead),
    call("GET", "/v1/tenants/{tenant}/routes/{route}", Permission::PluginRead),
    call("PUT", "/v1/tenants/{tenant}/routes/{route}", Permission::RouteWrite),
    call("DELETE", "/v1/tenants/{tenant}/routes/{route}", Permission::RouteWrite),
    call(
        "POST",
        "/v1/tenants/{tenant}/routes/{route}/shadow",
        Permission::PluginPromote,
    ),
    call(
        "POST",
        "/v1/tenants/{tenant}/routes/{route}/canary",
        Permission::PluginPromote,
    ),
    call(
        "POST",
        "/v1/tenants/{tenant}/routes/{route}/promote",
        Permission::PluginPromote,
    ),
    call(
        "POST",
        "/v1/tenants/{tenant}/routes/{route}/rollback",
        Permission::PluginPromote,
    ),
    call(
        "POST",
        "/v1/tenants/{tenant}/routes/{route}/follow-file",
        Permission::PluginPromote,
    ),
    call(
        "GET",
        "/v1/tenants/{tenant}/routes/{route}/shadow-runs",
        Permission::ReceiptRead,
    ),
    call(
        "GET",
        "/v1/tenants/{tenant}/routes/{route}/history",
        Permission::PluginRead,
    ),
    call("GET", "/v1/tenants/{tenant}/publishers", Permission::PluginRead),
    call("POST", "/v1/tenants/{tenant}/publishers", Permission::PublisherWrite),
    call(
        "POST",
        "/v1/tenants/{tenant}/publishers/{publisher}/{key}/revoke",
        Permission::PublisherWrite,
    ),
];

/// The permission of a call; none when there is no such call.
pub(super) fn permission(method: &str, path: &str) -> Option<Permission> {
    CALLS
        .iter()
        .find(|call| call.method == method && call.path == path)
        .map(|call| call.permission)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn o2_openapi_describes_every_call_and_no_other() {
        let document: serde_json::Value = serde_json::from_str(super::super::OPENAPI).unwrap();
        let described: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(move |(method, call)| (path, method, call))
            })
            .map(|(path, method, call)| {
                let permission = call["x-permission"].as_str().unwrap_or_default().to_owned();
                (method.to_uppercase(), path.clone(), permission)
            })
            .collect();
        let listed: BTreeSet<_> = CALLS
            .iter()
            .map(|call| {
                (
                    call.method.to_owned(),
                    call.path.to_owned(),
                    call.permission.as_str().to_owned(),
                )
            })
            .collect();
        assert_eq!(described, listed);
    }
}
