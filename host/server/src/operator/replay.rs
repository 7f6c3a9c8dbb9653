//! Replays what is asked for, by what the routes say now.

use tollgate_api::replay::{AskedReplay, ReplayOf};
use tollgate_core::admission::{self, NewJob};
use tollgate_core::ids::{ReceiptId, RouteName};
use tollgate_core::mode::Accept;
use tollgate_core::time::UnixMillis;
use tollgate_store::{
    Control, ReplayReport, ReplayRequest, ReplayWhat, Routable, RoutableFilter, RoutableStanding, RouteTargets,
    StoreError, Views,
};

use crate::config::{Config, Tenant};

/// Puts work back, and makes the jobs that receipts lack by the routes of `config`.
///
/// # Errors
/// When the store does not do it, or what is named is not there.
pub async fn replay(
    store: &(impl Views + Control),
    config: &Config,
    asked: AskedReplay,
    now: UnixMillis,
) -> Result<ReplayReport, StoreError> {
    let mut next = None;
    let what = match asked.what {
        ReplayOf::DeadLetters(filter) => ReplayWhat::DeadLetters(filter),
        ReplayOf::HeldJobs(filter) => ReplayWhat::HeldJobs(filter),
        ReplayOf::Receipt(receipt) => ReplayWhat::Receipt {
            receipt,
            jobs: routed_now(store, config, receipt).await?,
        },
        ReplayOf::Receipts(filter) => {
            let (rows_max, standing) = (filter.rows_max, filter.standing);
            let found = store.routable(filter).await?;
            if found.len() == rows_max {
                next = found.last().map(|last| last.receipt);
            }
            let routed = found.iter().map(|found| (found.receipt, jobs(config, found, standing)));
            ReplayWhat::Routed(routed.collect())
        }
    };
    let request = ReplayRequest {
        what,
        dry_run: asked.dry_run,
        routes: route_targets(config),
        now,
        actor: asked.actor,
        why: asked.why,
    };
    Ok(ReplayReport {
        next,
        ..store.replay(request).await?
    })
}

/// Where the routes of now send what they record.
fn route_targets(config: &Config) -> Vec<RouteTargets> {
    let of = |tenant: &Tenant| {
        let routes = tenant.routes.iter().map(|route| RouteTargets {
            tenant: tenant.name.clone(),
            route: route.name.clone(),
            targets: tenant.targets(route),
        });
        routes.collect::<Vec<_>>()
    };
    config.tenants.values().flat_map(of).collect()
}

/// The jobs that the routes of now give to a receipt as it was judged; none where it may have none.
///
/// # Errors
/// When the store cannot be read, or has not one of them.
pub(crate) async fn routed_now(
    store: &impl Views,
    config: &Config,
    receipt: ReceiptId,
) -> Result<Vec<NewJob>, StoreError> {
    let filter = RoutableFilter {
        receipt: Some(receipt),
        rows_max: 1,
        ..RoutableFilter::default()
    };
    let found = store.routable(filter).await?;
    let found = found.first();
    Ok(found.map_or_else(Vec::new, |found| jobs(config, found, RoutableStanding::AsJudged)))
}

/// The routes of two configurations that give a job to a receipt as it was judged; none where it may have none.
///
/// # Errors
/// As [`routed_now`].
pub(super) async fn routed_by(
    store: &impl Views,
    configs: [&Config; 2],
    receipt: ReceiptId,
) -> Result<Option<[Vec<RouteName>; 2]>, StoreError> {
    let filter = RoutableFilter {
        receipt: Some(receipt),
        rows_max: 1,
        ..RoutableFilter::default()
    };
    let found = store.routable(filter).await?;
    let routes = |found: &Routable, config: &Config| {
        let jobs = jobs(config, found, RoutableStanding::AsJudged).into_iter();
        jobs.map(|job| job.spec.route).collect()
    };
    Ok(found.first().map(|found| configs.map(|config| routes(found, config))))
}

/// The jobs that the routes of now give to a receipt. One that came late is judged as the first time, unless those that came late were asked for.
fn jobs(config: &Config, found: &Routable, standing: RoutableStanding) -> Vec<NewJob> {
    let Some(tenant) = config.tenants.get(&found.event.tenant) else {
        return Vec::new();
    };
    // What the source does not accept has no effect the second time either: a test event pays nobody.
    let source = tenant.sources.get(&found.event.source);
    let accept = source.map_or(Accept::default(), |source| source.profile.accept());
    if accept.why_not(&found.event.attributes).is_some() {
        return Vec::new();
    }
    let jobs = admission::jobs(
        &found.event,
        found.receipt,
        tenant.sharing.scope(&found.event),
        &mut tenant.matches(),
    );
    match (&found.late_after, standing) {
        (Some(current), RoutableStanding::AsJudged | RoutableStanding::Accepted) => {
            let lifecycle = config.lifecycle_of(&found.event);
            admission::made_late(&jobs, lifecycle.as_deref(), found.event.reading.status(), current)
        }
        (Some(_), RoutableStanding::Superseded) | (None, _) => admission::on_time(jobs),
    }
}
