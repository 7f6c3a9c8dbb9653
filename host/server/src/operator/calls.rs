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
    call("GET", "/v1/dead-letters", Permission::ReceiptRead),
    call("POST", "/v1/replay", Permission::ReceiptWrite),
    call("GET", "/v1/held", Permission::ReceiptRead),
    call("POST", "/v1/review", Permission::ReceiptWrite),
    call("GET", "/v1/tokens", Permission::TokenRead),
    call("POST", "/v1/tokens", Permission::TokenWrite),
    call("POST", "/v1/tokens/{token}/revoke", Permission::TokenWrite),
];

/// The permission of a call; none when there is no such call.
pub(super) fn permission(method: &str, path: &str) -> Option<Permission> {
    CALLS
        .iter()
        .find(|call| call.method == method && call.path == path)
        .map(|call| call.permission)
}
