//! Lists the hosts that share the store, and has one claim nothing more.

use std::sync::Arc;

use axum::Router;
use tollgate_api::calls;
use tollgate_api::hosts::{Drain, DrainReport, HostPath, HostState, HostView};
use tollgate_core::ids::HostName;
use tollgate_store::{Control, StoreError, Views};

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
    Ok(match dry_run {
        true => would_drain(&operator.store, host, drain).await?,
        false => operator.store.drain_host(host, drain).await?,
    })
}

/// What draining a host would do, or with none taking that back.
///
/// # Errors
/// When no host of the name is known, or the store cannot be read.
pub async fn would_drain(store: &impl Views, host: HostName, drain: Option<Drain>) -> Result<DrainReport, StoreError> {
    let hosts = store.hosts().await?;
    let known: Vec<_> = hosts.into_iter().filter(|known| known.name == host).collect();
    if known.is_empty() {
        return Err(StoreError::NotFound {
            what: format!("the host {host}"),
        });
    }
    let before = known.into_iter().find_map(|known| known.drain);
    Ok(DrainReport {
        host,
        changed: before.is_some() != drain.is_some(),
        // The first word holds.
        drain: drain.map(|drain| before.unwrap_or(drain)),
    })
}
