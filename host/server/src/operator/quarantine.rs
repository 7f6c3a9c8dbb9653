//! Versions in quarantine: which, and letting them run again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use tollgate_core::access::{Caller, Permission};
use tollgate_core::ids::{RouteName, TenantName};
use tollgate_store::{Quarantine, Store};

use super::{ActBody, Operator, Refusal};

/// `GET /v1/quarantines`.
pub(super) async fn list<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<Quarantine>> {
    let mut seen = operator.ward.all();
    seen.retain(|one| caller.sees(Some(&one.tenant)).is_ok());
    if !caller.role.may(Permission::ReceiptRead) {
        // What a plugin says when it ends may be of the event that it ran on.
        for one in &mut seen {
            one.reason = one.fault().to_owned();
        }
    }
    Json(seen)
}

/// `POST /v1/tenants/{tenant}/routes/{route}/lift-quarantine`. Answers what was lifted.
pub(super) async fn lift<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, route)): Path<(TenantName, RouteName)>,
    body: axum::body::Bytes,
) -> Result<Json<Vec<Quarantine>>, Refusal> {
    let body: ActBody =
        serde_json::from_slice(&body).map_err(|error| Refusal::bad(format!("the body says no why: {error}")))?;
    let act = body.checked(&caller)?;
    Ok(Json(operator.ward.lift(&operator.store, tenant, route, act).await?))
}
