//! Versions in quarantine: which, and letting them run again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use tollgate_core::access::Caller;
use tollgate_core::ids::{RouteName, TenantName};
use tollgate_store::{Quarantine, Store};

use super::{Operator, Refusal, access};
use crate::clock;

/// `GET /v1/quarantines`.
pub(super) async fn list<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
) -> Json<Vec<Quarantine>> {
    let all = operator.ward.all().into_iter();
    Json(all.filter(|one| caller.sees(Some(&one.tenant)).is_ok()).collect())
}

/// `POST /v1/tenants/{tenant}/routes/{route}/lift-quarantine`. Answers what was lifted.
pub(super) async fn lift<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, route)): Path<(TenantName, RouteName)>,
) -> Result<Json<Vec<Quarantine>>, Refusal> {
    let by = access::actor(&caller, caller.name.clone());
    Ok(Json(
        operator
            .ward
            .lift(&operator.store, tenant, route, by, clock::now())
            .await?,
    ))
}
