//! Bulk actions, as people ask for them: what fits is shown first, and what is begun is an object with progress (promise O11).

use std::sync::Arc;

use axum::Router;
use tollgate_api::bulk::{AskedBulk, BulkAnswer, BulkFilter, BulkPath, BulkView, NewBulk, WouldBecome};
use tollgate_api::calls;
use tollgate_api::lists::{Item, place_name, place_number};
use tollgate_core::access::{Caller, Permission};
use tollgate_core::bulk::{BulkAction, BulkState};
use tollgate_core::ids::{BulkId, Status, TenantName};
use tollgate_core::limits;
use tollgate_core::review::{Decision, Target, Word};
use tollgate_core::time::UnixMillis;
use tollgate_store::{Bulk, Control, StoreError, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::review::{ReviewError, review};
use super::{Operator, Refusal, access};
use crate::clock;

/// How many of what fits are shown.
const EXAMPLES: usize = 5;

/// The calls about bulk actions.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(start::<S>).call(list::<S>).call(show::<S>).call(abort::<S>)
}

async fn start<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, body, .. }: Asked<calls::StartBulk>,
) -> Answered<calls::StartBulk> {
    let now = clock::now();
    let mut asked = body.checked(now).map_err(Refusal::bad)?;
    // Nobody does to many what they may not do to one.
    caller.may(permission(asked.action), caller.tenant.as_ref())?;
    asked.actor = access::actor(&caller, asked.actor);
    let tenant = caller.narrowed(None)?;
    let mut answer = preview(&operator.store, &asked, tenant.clone()).await?;
    if let Some(to) = &asked.to {
        answer.would_become = would_become(&operator, &answer, to, now).await?;
    }
    let nothing_fits = answer.fitting.count == 0 && answer.fitting.complete;
    if asked.dry_run || nothing_fits {
        return Ok(answer);
    }
    let running = BulkFilter {
        tenant: tenant.clone(),
        is_running: true,
        rows_max: limits::BULKS_RUNNING_MAX,
        ..BulkFilter::default()
    };
    if operator.store.bulks(running).await?.len() >= limits::BULKS_RUNNING_MAX {
        return Err(Refusal::conflict(format!(
            "{} bulk actions go on; wait for one to end, or end one",
            limits::BULKS_RUNNING_MAX
        )));
    }
    let begun = operator.store.start_bulk(begin(asked, &answer, tenant, now)).await?;
    operator.bulk_begun.notify_one();
    Ok(BulkAnswer {
        bulk: Some(begun.into()),
        ..answer
    })
}

/// What somebody must be allowed who does this to one.
fn permission(action: BulkAction) -> Permission {
    match action {
        BulkAction::Replay | BulkAction::Route => Permission::WorkReplay,
        BulkAction::Redeliver => Permission::DeliveryResend,
        BulkAction::Dismiss | BulkAction::Map => Permission::ReviewWrite,
    }
}

/// What a bulk action would be about.
async fn preview(store: &impl Views, asked: &AskedBulk, tenant: Option<TenantName>) -> Result<BulkAnswer, StoreError> {
    let listed = asked.listed(tenant, EXAMPLES);
    let page = store.list(listed.clone()).await?;
    let newest = page
        .newest
        .as_deref()
        .and_then(|newest| place_number(asked.list, newest));
    let mut answer = BulkAnswer {
        action: asked.action.to_string(),
        fitting: store.count(listed).await?,
        upto: place_name(asked.list, asked.upto.or(newest).unwrap_or_default()),
        jobs: Vec::new(),
        deliveries: Vec::new(),
        events: Vec::new(),
        would_become: Vec::new(),
        bulk: None,
    };
    for item in page.items {
        match item {
            Item::Job(job) => answer.jobs.push(job),
            Item::Delivery(delivery) => answer.deliveries.push(delivery),
            Item::Event(event) => answer.events.push(event),
            // No action has these lists.
            Item::Run(_) | Item::Action(_) | Item::Undelivered(_) | Item::Refused(_) => {}
        }
    }
    Ok(answer)
}

/// What a status would make of the events that are shown. Nothing is changed.
async fn would_become<S: Views + Control>(
    operator: &Operator<S>,
    answer: &BulkAnswer,
    to: &Status,
    now: UnixMillis,
) -> Result<Vec<WouldBecome>, StoreError> {
    let config = operator.config.load_full();
    let mut would_become = Vec::with_capacity(answer.events.len());
    for row in &answer.events {
        let receipt = row.event.receipt;
        let asked = tollgate_core::review::Asked {
            target: Target::Receipt(receipt),
            decision: Decision::Map(to.clone(), Word::Judged),
            why: None,
            dry_run: true,
            actor: String::new(),
        };
        let (reviewed, refused) = match review(&operator.store, &config, asked, now).await {
            Ok(report) => (Some(report.reviewed), None),
            Err(ReviewError::Refused(why)) => (None, Some(why)),
            Err(ReviewError::Store(error)) => return Err(error),
        };
        would_become.push(WouldBecome {
            receipt,
            reviewed,
            refused,
        });
    }
    Ok(would_become)
}

fn begin(asked: AskedBulk, answer: &BulkAnswer, tenant: Option<TenantName>, now: UnixMillis) -> NewBulk {
    NewBulk {
        action: asked.action,
        to: asked.to,
        list: asked.list,
        filter: asked.filter_text,
        tenant,
        actor: asked.actor,
        why: asked.why,
        started_at: now,
        expected: answer.fitting.count,
        upto: place_number(asked.list, &answer.upto).unwrap_or_default(),
    }
}

async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Bulks>,
) -> Answered<calls::Bulks> {
    let mut filter = query.checked().map_err(Refusal::bad)?;
    filter.tenant = caller.narrowed(filter.tenant)?;
    let bulks = operator.store.bulks(filter).await?;
    Ok(bulks.into_iter().map(BulkView::from).collect())
}

/// # Errors
/// As if there were none, when it is another tenant's, or the operator's.
async fn own(store: &impl Views, caller: &Caller, bulk: BulkId) -> Result<Bulk, Refusal> {
    let filter = BulkFilter {
        id: Some(bulk),
        tenant: caller.narrowed(None)?,
        rows_max: 1,
        ..BulkFilter::default()
    };
    let found = store.bulks(filter).await?.pop();
    found.ok_or_else(|| Refusal::not_found(format!("{bulk} does not exist")))
}

async fn show<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: BulkPath { bulk },
        ..
    }: Asked<calls::ShowBulk>,
) -> Answered<calls::ShowBulk> {
    Ok(own(&operator.store, &caller, bulk).await?.into())
}

async fn abort<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: BulkPath { bulk },
        body,
        ..
    }: Asked<calls::AbortBulk>,
) -> Answered<calls::AbortBulk> {
    let dry_run = body.dry_run;
    let mut asked = body.checked(bulk, clock::now()).map_err(Refusal::bad)?;
    let mut found = own(&operator.store, &caller, bulk).await?;
    asked.by = access::actor(&caller, asked.by);
    if dry_run {
        if found.state == BulkState::Running {
            found.state = BulkState::Aborted;
            (found.ended_at, found.ended_by) = (Some(asked.now), Some((asked.by, asked.why)));
        }
        return Ok(found.into());
    }
    Ok(operator.store.abort_bulk(asked).await?.into())
}
