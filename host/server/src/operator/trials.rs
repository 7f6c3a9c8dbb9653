//! Trials on the host itself: they run a candidate over a route's recorded runs, and keep the result as evidence for its promotion.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use tollgate_api::calls;
use tollgate_api::plugins::RoutePath;
use tollgate_core::access::Permission;
use tollgate_core::registry::TrialResult;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};
use tollgate_store::registry::TrialRecord;
use tollgate_store::{Control, RecordedRunFilter, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::plugins::meant;
use super::{Operator, Refusal, access};
use crate::clock;
use crate::repeat::Trial;
use crate::thread_priority;

/// The call about trials.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(run::<S>)
}

/// Recorded runs that one trial looks at, when nobody asks for fewer.
const RUNS_MAX: u64 = 1_000_000;

/// `POST /v1/tenants/{tenant}/routes/{route}/trials`. Runs the candidate over what the version that is active now did on the route,
/// without effects, and keeps the result. On one thread, which gives way to everything else.
async fn run<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: RoutePath { tenant, route },
        body,
        ..
    }: Asked<calls::RunTrial>,
) -> Answered<calls::RunTrial> {
    mask::check_note("actor", &body.actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
    let since = match &body.since {
        Some(text) => Some(UnixMillis::from_rfc3339(text).ok_or_else(|| {
            Refusal::bad(format!(
                "since: `{text}` is not an instant such as 2026-05-05T10:00:00Z"
            ))
        })?),
        None => None,
    };
    // What the runs were about is in receipts. Who may not read those is told little, and chooses no runs: by what one run more changes,
    // that run could be read.
    let reads_receipts = caller.role.may(Permission::ReceiptRead);
    if since.is_some() || body.runs_max.is_some() {
        caller.may(Permission::ReceiptRead, Some(&tenant))?;
    }
    // One at a time on the whole host: a trial takes time, memory and an instance that live runs need as well. Tenants take turns.
    let Some(only) = operator.trial.take(Some(tenant.clone())).await else {
        let message = "other trials of this tenant wait on this host; try again later";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).with_code("busy"));
    };
    let version = meant(&operator.store, Some(tenant.clone()), &body.plugin).await?;
    let config = operator.config.load_full();
    let active = config
        .tenants
        .get(&tenant)
        .and_then(|tenant| tenant.routes.iter().find(|known| known.name == route))
        .and_then(|route| route.binding.as_ref())
        .map(|binding| binding.active)
        .ok_or_else(|| Refusal::not_found(format!("nothing runs on a route `{route}` of `{tenant}`")))?;
    let candidate = operator
        .registry
        .shelf()
        .ready(version.digest)
        .await
        .map_err(|why| Refusal::bad(format!("{} does not load: {why}", version.digest)))?;
    // What makes the trial of state needs the active version as well. Without it, the rest of the trial says what it can.
    let beside = operator.registry.shelf().ready(active).await;
    let beside = beside.map_err(|why| format!("{active} does not load: {why}"));
    let filter = RecordedRunFilter {
        tenant: Some(tenant.clone()),
        route: Some(route.clone()),
        digest: Some(active),
        since,
        ..RecordedRunFilter::default()
    };
    let store = operator.store.clone();
    let runtime = tokio::runtime::Handle::current();
    let runs_max = body.runs_max.unwrap_or(RUNS_MAX).min(RUNS_MAX);
    let tried = tokio::task::spawn_blocking(move || {
        // Held until it is through, also when nobody waits for it any more.
        let _only = only;
        let trial = Trial {
            candidate: &candidate,
            against: None,
            active: &|_| beside.clone(),
            filter,
            runs_max,
            config: Some(&config),
            threads: 1,
            begin: thread_priority::lower_to_slow_work,
        };
        trial.run(&|filter| runtime.block_on(store.recorded_runs(filter)), &|_| {})
    });
    let mut report = tried
        .await
        .map_err(|error| Refusal::internal(format!("the trial did not come to its end: {error}")))??;
    let found = TrialResult {
        runs: report.tally.runs,
        differences: report.tally.differing,
        unreadable: report.state.unreadable,
    };
    if !reads_receipts {
        report = report.without_receipts();
    }
    let record = TrialRecord {
        tenant,
        route,
        active,
        candidate: version.digest,
        result: found,
        actor: access::actor(&caller, body.actor),
        at: clock::now(),
    };
    operator.store.record_trial(record).await?;
    Ok(report)
}
