//! Lists the versions in quarantine, and lets them run again.

use std::sync::Arc;

use axum::Router;
use tollgate_api::calls;
use tollgate_api::plugins::RoutePath;
use tollgate_core::access::Permission;
use tollgate_store::{Control, Views};

use super::Operator;
use super::asked::{Answered, Asked, Routes as _};
use super::plugins::act;

/// The calls about quarantines.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(list::<S>).call(lift::<S>)
}

/// `GET /v1/quarantines`.
async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, .. }: Asked<calls::Quarantines>,
) -> Answered<calls::Quarantines> {
    let mut seen = operator.quarantines.held(&operator.store).await?.all();
    seen.retain(|one| caller.sees(Some(&one.tenant)).is_ok());
    if !caller.role.may(Permission::ReceiptRead) {
        // What a plugin says when it ends may be of the event that it ran on.
        for one in &mut seen {
            one.reason = one.fault().to_owned();
        }
    }
    Ok(seen)
}

/// `POST /v1/tenants/{tenant}/routes/{route}/lift-quarantine`. Returns what was lifted.
async fn lift<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: RoutePath { tenant, route },
        body,
        ..
    }: Asked<calls::LiftQuarantine>,
) -> Answered<calls::LiftQuarantine> {
    let act = act(body, &caller)?;
    Ok(operator.store.lift_quarantine(tenant, route, act).await?)
}
