//! Lists the hosts that share the store, and has one claim nothing more.

use std::sync::Arc;

use axum::Router;
use tollgate_api::calls;
use tollgate_api::hosts::{HostPath, HostState, HostView};
use tollgate_store::{Control, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal, access};
use crate::clock;

/// The calls about hosts.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(list::<S>).call(drain::<S>)
}

/// `GET /v1/hosts`.
async fn list<S: Views + Control>(operator: Arc<Operator<S>>, _: Asked<calls::Hosts>) -> Answered<calls::Hosts> {
    let shared = operator.store.hosts().await?;
    if operator.config.load().store.url.is_some() {
        return Ok(shared);
    }
    let identity = operator.identity.clone();
    Ok(vec![HostView {
        name: identity.name,
        process: identity.process,
        version: identity.version,
        state: HostState::Running,
        started_at: operator.started_at,
        seen_at: clock::now(),
        seen_ms: 0,
        configuration: operator.config.load().fingerprint(),
        lag_ms: None,
        jobs: None,
        deliveries: None,
        drain: None,
    }])
}

/// `POST /v1/hosts/{host}/drain`.
async fn drain<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: HostPath { host },
        body,
        ..
    }: Asked<calls::DrainHost>,
) -> Answered<calls::DrainHost> {
    if operator.config.load().store.url.is_none() {
        return Err(Refusal::conflict(
            "this host has its store alone: no other would take its work over. Stop it instead, which finishes what runs",
        ));
    }
    let dry_run = body.dry_run;
    let mut drain = body.checked(clock::now()).map_err(Refusal::bad)?;
    if let Some(drain) = &mut drain {
        drain.by = access::actor(&caller, std::mem::take(&mut drain.by));
    }
    Ok(operator.store.drain_host(host, drain, dry_run).await?)
}
