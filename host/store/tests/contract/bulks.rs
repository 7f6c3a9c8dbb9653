//! Bulk actions, on every backend: what a step does and how far it came are one commit (promise O11).

use tollgate_core::admission::on_time;
use tollgate_core::bulk::{BulkAction, BulkState};
use tollgate_core::delivery::EntryEnd;
use tollgate_core::filter::Listing;
use tollgate_core::ids::{BulkId, JobId, OutboxId};
use tollgate_core::outcome::JobEnd;
use tollgate_store::{
    Bulk, BulkAbort, BulkFilter, BulkItem, BulkStep, Control as _, JobClaim, NewBulk, Outbox as _, OutboxClaim, Quotas,
    Store, StoreError, Views as _,
};

use crate::suite::attempt;
use crate::support::{
    ACCEPTED, Backend, Sent, SettlementExt as _, at, claim, claim_one, claim_request, finish_all, name, settle,
    settlement, trace_one,
};

fn new(action: BulkAction, list: Listing, upto: i64) -> NewBulk {
    NewBulk {
        action,
        to: None,
        list,
        filter: "status:dead".to_owned(),
        tenant: Some(name("acme")),
        actor: "ana".to_owned(),
        why: "they are back".to_owned(),
        started_at: at(100),
        expected: 3,
        upto,
    }
}

fn step(bulk: &Bulk, items: Vec<BulkItem>, next: Option<i64>) -> BulkStep {
    BulkStep {
        bulk: bulk.id,
        from: bulk.place,
        next,
        items,
        passed_over: 0,
        looked_at: 5,
        now: at(200),
    }
}

fn job(id: JobId, status: &str) -> BulkItem {
    BulkItem::Job(id, status.to_owned())
}

fn entry(id: OutboxId, status: &str) -> BulkItem {
    BulkItem::Entry(id, status.to_owned())
}

async fn ends(store: &impl Store, ms: i64, end: &JobEnd) -> Vec<JobClaim> {
    let claims = claim(store, at(ms), 10).await;
    for claim in &claims {
        let _ = settle(store, settlement(claim).end(end.clone())).await;
    }
    claims
}

async fn leaves(store: &impl Store, ms: i64) -> Vec<OutboxClaim> {
    let claims = store
        .claim_outbox(claim_request(at(ms), 10), Quotas::unlimited())
        .await
        .unwrap();
    claims.claims
}

fn dead() -> JobEnd {
    JobEnd::Dead {
        reason: "trap: Unreachable".into(),
    }
}

async fn all(store: &impl Store, filter: BulkFilter) -> Vec<Bulk> {
    let filter = BulkFilter { rows_max: 10, ..filter };
    store.bulks(filter).await.unwrap()
}

pub(crate) async fn o11_a_step_is_done_once_whoever_repeats_it_and_goes_on_after_a_restart(backend: &impl Backend) {
    let store = backend.open();
    let sent = ["e1", "e2", "e3"].map(Sent::new);
    for one in &sent {
        assert_eq!(one.admit(&store).await, ACCEPTED);
    }
    let jobs = ends(&store, 10, &dead()).await;
    let begun = store
        .start_bulk(new(BulkAction::Replay, Listing::Jobs, 3))
        .await
        .unwrap();
    assert_eq!((begun.id, begun.state, begun.place), (BulkId(1), BulkState::Running, 4));
    assert_eq!(begun.begun, new(BulkAction::Replay, Listing::Jobs, 3));

    let first = step(
        &begun,
        vec![job(jobs[2].job, "dead"), job(jobs[1].job, "dead")],
        Some(2),
    );
    let after = store.step_bulk(first.clone()).await.unwrap();
    assert_eq!(
        (after.done, after.passed_over, after.looked_at, after.place),
        (2, 0, 5, 2)
    );
    // They die again. Whoever had the same step in hand does nothing: they are behind it.
    assert_eq!(ends(&store, 210, &dead()).await.len(), 2);
    assert_eq!(store.step_bulk(first).await.unwrap(), after);
    assert!(
        claim(&store, at(220), 10).await.is_empty(),
        "nothing was put back twice"
    );

    store.close().await;
    drop(store);
    let store = backend.open();
    let running = BulkFilter {
        is_running: true,
        ..BulkFilter::default()
    };
    assert_eq!(all(&store, running.clone()).await, std::slice::from_ref(&after));
    let last = store
        .step_bulk(step(&after, vec![job(jobs[0].job, "dead")], None))
        .await
        .unwrap();
    assert_eq!(
        (last.state, last.done, last.looked_at, last.ended_at),
        (BulkState::Done, 3, 10, Some(at(200)))
    );
    assert_eq!(finish_all(&store, at(300)).await, ["e1"]);
    assert_eq!(all(&store, running).await, []);
    let again = step(&last, vec![job(jobs[1].job, "dead")], None);
    assert_eq!(store.step_bulk(again).await.unwrap(), last, "it is over");
    let trace = trace_one(&store, &sent[0]).await;
    let said = &trace.history.last().unwrap().detail;
    assert!(
        said.contains("by ana: bulk_1: they are back; it had ended with: trap"),
        "{said}"
    );
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn o11_what_changed_meanwhile_is_passed_over_and_an_aborted_one_does_nothing_more(
    backend: &impl Backend,
) {
    let store = backend.open();
    for id in ["e1", "e2", "e3"] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    let jobs = ends(&store, 10, &dead()).await;
    let begun = store
        .start_bulk(new(BulkAction::Replay, Listing::Jobs, 3))
        .await
        .unwrap();
    // One was put back, and is done, since it was seen.
    let other = store
        .start_bulk(new(BulkAction::Replay, Listing::Jobs, 3))
        .await
        .unwrap();
    store
        .step_bulk(step(&other, vec![job(jobs[1].job, "dead")], None))
        .await
        .unwrap();
    assert_eq!(finish_all(&store, at(210)).await, ["e2"]);
    let seen = vec![job(jobs[2].job, "dead"), job(jobs[1].job, "dead")];
    let after = store
        .step_bulk(BulkStep {
            passed_over: 7,
            ..step(&begun, seen, Some(2))
        })
        .await
        .unwrap();
    assert_eq!((after.done, after.passed_over), (1, 8));
    assert_eq!(
        finish_all(&store, at(220)).await,
        ["e3"],
        "what is done is not run again"
    );

    let abort = BulkAbort {
        bulk: begun.id,
        by: "bob".to_owned(),
        why: "the wrong day".to_owned(),
        now: at(230),
    };
    let aborted = store.abort_bulk(abort.clone()).await.unwrap();
    assert_eq!(
        (aborted.state, aborted.ended_at, aborted.done),
        (BulkState::Aborted, Some(at(230)), 1)
    );
    assert_eq!(aborted.ended_by, Some(("bob".to_owned(), "the wrong day".to_owned())));
    let later = step(&after, vec![job(jobs[0].job, "dead")], None);
    assert_eq!(store.step_bulk(later).await.unwrap(), aborted);
    assert!(
        claim(&store, at(240), 10).await.is_empty(),
        "nothing is done after its end"
    );
    let again = BulkAbort {
        by: "eve".to_owned(),
        ..abort.clone()
    };
    assert_eq!(store.abort_bulk(again).await.unwrap(), aborted, "it ended once");
    let unknown = BulkAbort {
        bulk: BulkId(99),
        ..abort
    };
    assert!(matches!(
        store.abort_bulk(unknown).await,
        Err(StoreError::NotFound { .. })
    ));

    // They are listed by tenant, and by themselves.
    let of = |tenant: &str| BulkFilter {
        tenant: Some(name(tenant)),
        ..BulkFilter::default()
    };
    assert_eq!(all(&store, of("acme")).await.len(), 2);
    assert_eq!(all(&store, of("globex")).await, []);
    let one = BulkFilter {
        id: Some(begun.id),
        ..of("acme")
    };
    assert_eq!(all(&store, one).await, [aborted]);
    let foreign = BulkFilter {
        id: Some(begun.id),
        ..of("globex")
    };
    assert_eq!(all(&store, foreign).await, []);
}

pub(crate) async fn o11_deliveries_go_again_under_their_own_names_events_are_routed_and_held_work_is_dismissed(
    backend: &impl Backend,
) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let done = settlement(&claim_one(&store, at(0)).await)
        .acts("op", 1)
        .to("books")
        .to("crm")
        .to("mail");
    let _ = settle(&store, done).await;
    // One arrives, one is given up, one is on its way.
    let claims = leaves(&store, 10).await;
    let [first, second, third] = claims.as_slice() else {
        panic!("{claims:?}")
    };
    let _ = store
        .record_attempt(attempt(first, 11, EntryEnd::Delivered))
        .await
        .unwrap();
    let given_up = EntryEnd::Dead {
        reason: "answered 410".into(),
    };
    let _ = store.record_attempt(attempt(second, 12, given_up)).await.unwrap();
    let begun = store
        .start_bulk(new(BulkAction::Redeliver, Listing::Deliveries, 1))
        .await
        .unwrap();
    let items = vec![
        entry(first.entry, "delivered"),
        entry(second.entry, "dead"),
        entry(third.entry, "leased"),
    ];
    let after = store.step_bulk(step(&begun, items, None)).await.unwrap();
    assert_eq!((after.done, after.passed_over), (2, 1));
    let again = leaves(&store, 210).await;
    assert_eq!(again.len(), 2);
    for (was, is_marked) in [(first, true), (second, false)] {
        let again = again
            .iter()
            .find(|again| again.entry == was.entry)
            .expect("it goes again");
        assert_eq!(again.message_id, was.message_id);
        assert_eq!(again.resend.is_some(), is_marked, "what arrived is marked");
    }

    // What no route took gets its job once.
    let unrouted = Sent::new("e2").routes(&[]);
    assert_eq!(unrouted.admit(&store).await, ACCEPTED);
    let jobs = on_time(Sent::new("e2").admission(&store).jobs);
    let item = || vec![BulkItem::Receipt(unrouted.receipt(&store), jobs.clone())];
    for expect in [(1, 0), (0, 1)] {
        let begun = store
            .start_bulk(new(BulkAction::Route, Listing::Events, 2))
            .await
            .unwrap();
        let after = store.step_bulk(step(&begun, item(), None)).await.unwrap();
        assert_eq!((after.done, after.passed_over), expect);
    }
    let held = ends(&store, 220, &JobEnd::Held { reason: "ask".into() }).await;
    assert_eq!(held.len(), 1);
    let unknown = Sent::new("e3").unmapped();
    let _ = unknown.admit(&store).await;

    // Nothing is to be done about a held job and a held event, once each.
    for (list, item) in [
        (Listing::Jobs, job(held[0].job, "held")),
        (Listing::Events, BulkItem::Receipt(unknown.receipt(&store), Vec::new())),
    ] {
        for expect in [(1, 0), (0, 1)] {
            let begun = store.start_bulk(new(BulkAction::Dismiss, list, 3)).await.unwrap();
            let after = store.step_bulk(step(&begun, vec![item.clone()], None)).await.unwrap();
            assert_eq!((after.done, after.passed_over), expect, "{item:?}");
        }
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held, counts.held_jobs), (0, 0));
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}
