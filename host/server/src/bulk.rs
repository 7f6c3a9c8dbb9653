//! Carries bulk actions out, step by step, on this host or another (promise O11).
//!
//! What is to be done is read from the store each time, so a restart goes on where the last step ended. Of several hosts that do the same step,
//! one finds the bulk action where the step began, and the others do nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tollgate_api::lists::{AskedList, Item, place_number};
use tollgate_core::bulk::BulkAction;
use tollgate_core::filter::{Direction, Filter};
use tollgate_core::ids::BulkId;
use tollgate_core::limits;
use tollgate_core::review::Word;
use tollgate_core::time::UnixMillis;
use tollgate_store::{Bulk, BulkAbort, BulkFilter, BulkItem, BulkStep, Control, NewBulk, StoreError, Views};

use crate::clock;
use crate::config::Config;
use crate::operator::{ReviewError, map, routed_now};

/// How often it is looked for what another host, or an earlier process, has begun.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long one rests whose step failed.
const REST_MS: i64 = 5_000;
/// Pages that one step looks at without finding anything.
const PAGES_MAX: usize = 10;

/// Carries out whatever is begun, until shutdown.
pub(crate) async fn run<S: Views + Control>(
    store: S,
    config: Arc<ArcSwap<Config>>,
    begun: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let pause = Duration::from_millis(limits::BULK_PAUSE_MS);
    let mut resting = Resting::new();
    loop {
        let wait = match round(&store, &config, &mut resting).await {
            Ok(0) => LOOK_EVERY,
            Ok(_) => pause,
            Err(error) => {
                tracing::warn!(%error, "bulk actions wait: the store does not say which there are");
                LOOK_EVERY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = begun.notified(), if wait == LOOK_EVERY => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Those whose last step failed, each with when it is tried again.
type Resting = BTreeMap<BulkId, UnixMillis>;

/// One step of each that goes on. Returns how many those were.
async fn round<S: Views + Control>(
    store: &S,
    config: &ArcSwap<Config>,
    resting: &mut Resting,
) -> Result<usize, StoreError> {
    let running = BulkFilter {
        is_running: true,
        rows_max: usize::MAX,
        ..BulkFilter::default()
    };
    let running = store.bulks(running).await?;
    let config = config.load_full();
    Ok(each(running, resting, clock::now(), |bulk| step(store, &config, bulk)).await)
}

/// Does a step of each that does not rest, the oldest first. One that fails rests, and holds up no other. Returns how many did theirs.
async fn each<F: Future<Output = Result<(), StoreError>>>(
    running: Vec<Bulk>,
    resting: &mut Resting,
    now: UnixMillis,
    step: impl Fn(Bulk) -> F,
) -> usize {
    resting.retain(|_, until| *until > now);
    let mut stepped = 0;
    for bulk in running.into_iter().rev() {
        let id = bulk.id;
        if resting.contains_key(&id) {
            continue;
        }
        match step(bulk).await {
            Ok(()) => stepped += 1,
            Err(error) => {
                tracing::warn!(bulk = %id, %error, "a bulk action waits: its step could not be done; it is tried again");
                resting.insert(id, now.plus_ms(REST_MS));
            }
        }
    }
    stepped
}

async fn step<S: Views + Control>(store: &S, config: &Config, bulk: Bulk) -> Result<(), StoreError> {
    let begun = &bulk.begun;
    let filter = match Filter::read(&begun.filter, begun.list, begun.started_at) {
        Ok(filter) => filter,
        // It was read when it began, by another version.
        Err(error) => {
            let abort = BulkAbort {
                bulk: bulk.id,
                by: "the host".to_owned(),
                why: error.to_string(),
                now: clock::now(),
            };
            store.abort_bulk(abort).await?;
            return Ok(());
        }
    };
    let mut asked = AskedList {
        list: begun.list,
        filter,
        tenant: begun.tenant.clone(),
        before: None,
        newer: None,
        direction: begun.action.direction(),
        rows_max: limits::BULK_STEP_ITEMS_MAX,
        sends: BTreeMap::new(),
    };
    let mut looked_at = 0;
    let mut items = Vec::new();
    let mut next = Some(bulk.place);
    for _ in 0..PAGES_MAX {
        match asked.direction {
            Direction::NewestFirst => asked.before = next,
            Direction::OldestFirst => (asked.before, asked.newer) = (Some(begun.upto.saturating_add(1)), next),
        }
        let page = store.list(asked.clone()).await?;
        looked_at += page.looked_at;
        items = page.items;
        next = page.next.as_deref().and_then(|next| place_number(begun.list, next));
        if !items.is_empty() || next.is_none() {
            break;
        }
    }
    let fitting = items.len();
    let mut doable = Vec::with_capacity(fitting);
    for item in items {
        doable.extend(what_is_done(store, config, begun, item).await?);
    }
    let step = BulkStep {
        bulk: bulk.id,
        from: bulk.place,
        next,
        passed_over: (fitting - doable.len()) as u64,
        items: doable,
        looked_at,
        now: clock::now(),
    };
    let after = store.step_bulk(step).await?;
    if after.ended_at.is_some() && after.state != bulk.state {
        let (bulk, done, passed_over) = (after.id, after.done, after.passed_over);
        tracing::info!(%bulk, action = %after.begun.action, done, passed_over, "a bulk action is done");
    }
    Ok(())
}

/// What a step does to an item; nothing where the configuration of now has no place for it.
async fn what_is_done(
    store: &impl Views,
    config: &Config,
    begun: &NewBulk,
    item: Item,
) -> Result<Option<BulkItem>, StoreError> {
    Ok(match (begun.action, item) {
        (BulkAction::Replay | BulkAction::Dismiss, Item::Job(row)) => Some(BulkItem::Job(row.job, row.status)),
        (BulkAction::Redeliver, Item::Delivery(row)) => {
            let is_there = config.has_destination(&row.event.tenant, &row.destination);
            is_there.then_some(BulkItem::Entry(row.entry, row.status))
        }
        (BulkAction::Route, Item::Event(row)) => {
            let jobs = routed_now(store, config, row.event.receipt).await?;
            Some(BulkItem::Receipt(row.event.receipt, jobs))
        }
        (BulkAction::Dismiss, Item::Event(row)) => Some(BulkItem::Receipt(row.event.receipt, Vec::new())),
        (BulkAction::Map, Item::Event(row)) => match begun.to.clone() {
            Some(to) => match map(store, config, row.event.receipt, to, Word::Judged).await {
                Ok(decision) => Some(BulkItem::Held(row.event.receipt, decision)),
                Err(ReviewError::Refused(_)) => None,
                Err(ReviewError::Store(error)) => return Err(error),
            },
            None => None,
        },
        (BulkAction::Replay | BulkAction::Redeliver | BulkAction::Route | BulkAction::Dismiss | BulkAction::Map, _) => {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tollgate_core::bulk::BulkState;
    use tollgate_core::filter::Listing;

    use super::*;

    fn bulk(id: i64) -> Bulk {
        Bulk {
            id: BulkId(id),
            begun: NewBulk {
                action: BulkAction::Map,
                to: None,
                list: Listing::Events,
                filter: "disposition:held".to_owned(),
                tenant: None,
                actor: "ana".to_owned(),
                why: "a test".to_owned(),
                started_at: UnixMillis(0),
                expected: 0,
                upto: 0,
            },
            state: BulkState::Running,
            place: 0,
            done: 0,
            passed_over: 0,
            looked_at: 0,
            ended_at: None,
            ended_by: None,
        }
    }

    /// One damaged receipt would stop everybody's otherwise.
    #[tokio::test]
    async fn o11_a_bulk_action_that_cannot_do_its_step_rests_and_the_others_go_on() {
        let running = |ids: &[i64]| ids.iter().copied().map(bulk).collect();
        let tried = Mutex::new(Vec::new());
        let step = async |bulk: Bulk| {
            tried.lock().unwrap().push(bulk.id.0);
            match bulk.id.0 {
                1 => Err(StoreError::NotFound {
                    what: "a damaged receipt".to_owned(),
                }),
                _ => Ok(()),
            }
        };
        let mut resting = Resting::new();
        for (now, stepped, expect) in [
            (0, 2, &[1, 2, 3][..]),
            (REST_MS - 1, 2, &[2, 3]),
            (REST_MS, 2, &[1, 2, 3]),
        ] {
            assert_eq!(
                each(running(&[3, 2, 1]), &mut resting, UnixMillis(now), &step).await,
                stepped
            );
            assert_eq!(std::mem::take(&mut *tried.lock().unwrap()), expect, "at {now}");
        }
        assert_eq!(each(running(&[1]), &mut resting, UnixMillis(REST_MS), &step).await, 0);
    }
}
