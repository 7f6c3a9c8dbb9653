//! Pulled destinations, on every backend that a native host has: leased once, ended once, and otherwise as if they were sent to (promise P9).

use std::collections::BTreeSet;

use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::ids::{LeaseEpoch, OutboxId};
use tollgate_core::retry::{Jitter, RetryPolicy};
use tollgate_core::work::EntryState;
use tollgate_store::registry::Act;
use tollgate_store::{
    Control as _, Outbox as _, OutboxClaim, Place, PullEnd, PullEnded, PullLease, PullRequest, Quotas, Settled,
    Settlement, Store, Views as _,
};

use crate::support::{
    ACCEPTED, Backend, LEASE_MS, Sent, SettlementExt as _, at, at_once, claim_one, claim_request, name, settle,
    settlement, trace_one,
};

const POLICY: RetryPolicy = RetryPolicy {
    attempts_max: 3,
    base_ms: 100,
    cap_ms: 100,
};

/// An event whose run recorded one action for `inside`, as `settling` says it.
async fn records(store: &impl Store, sent: &Sent, settling: impl FnOnce(Settlement) -> Settlement) {
    assert_eq!(sent.admit(store).await, ACCEPTED);
    let claim = claim_one(store, at(0)).await;
    let settled = settle(store, settling(settlement(&claim).acts(&sent.id, 1))).await;
    assert!(matches!(settled, Settled::Committed { .. }), "{settled:?}");
}

async fn sends(store: &impl Store, id: &str) {
    records(store, &Sent::new(id), |settling| settling.to("inside")).await;
}

fn request(tenant: &str, names: &[&str], ms: i64, rows_max: usize) -> PullRequest {
    PullRequest {
        claim: claim_request(at(ms), rows_max),
        tenant: name(tenant),
        destinations: names.iter().map(|destination| name(destination)).collect(),
        policy: POLICY,
        jitter: Jitter::NONE,
    }
}

async fn pull(store: &impl Store, ms: i64) -> Vec<OutboxClaim> {
    store.pull(request("acme", &["inside"], ms, 10)).await.unwrap().claims
}

fn keys(claims: &[OutboxClaim]) -> Vec<&str> {
    claims.iter().map(|claim| claim.operation_key.as_str()).collect()
}

fn lease(claim: &OutboxClaim) -> PullLease {
    PullLease {
        entry: claim.entry,
        epoch: claim.epoch,
    }
}

fn given_back(retry_after_ms: Option<i64>) -> AttemptEnd {
    AttemptEnd::GivenBack {
        retry_after_ms,
        reason: "no room".into(),
    }
}

async fn ends_at(
    store: &impl Store,
    tenant: &str,
    place: &str,
    of: &[PullLease],
    ms: i64,
    end: AttemptEnd,
) -> Vec<PullEnded> {
    let end = PullEnd {
        tenant: name(tenant),
        destinations: vec![name(place)],
        leases: of.to_vec(),
        end,
        now: at(ms),
        policy: POLICY,
        jitter: Jitter::NONE,
    };
    store.end_pulled(end).await.unwrap()
}

async fn ends(store: &impl Store, claim: &OutboxClaim, ms: i64, end: AttemptEnd) -> PullEnded {
    ends_at(store, "acme", "inside", &[lease(claim)], ms, end)
        .await
        .remove(0)
}

const CONFIRMED: PullEnded = PullEnded::Recorded {
    entry_end: EntryEnd::Delivered,
};

pub(crate) async fn p9_what_is_pulled_is_ended_under_its_newest_lease_alone(backend: &impl Backend) {
    let store = backend.open();
    for id in ["e1", "e2", "e3"] {
        sends(&store, id).await;
    }
    // Nobody else's: another tenant, another destination.
    assert!(
        store
            .pull(request("globex", &["inside"], 5, 10))
            .await
            .unwrap()
            .claims
            .is_empty()
    );
    assert!(
        store
            .pull(request("acme", &["outside"], 5, 10))
            .await
            .unwrap()
            .claims
            .is_empty()
    );
    let some = store.pull(request("acme", &["inside"], 10, 2)).await.unwrap().claims;
    assert_eq!(keys(&some), ["e1", "e2"]);
    let rest = pull(&store, 11).await;
    assert_eq!(keys(&rest), ["e3"], "what is leased is nobody else's");
    assert!(pull(&store, 12).await.is_empty());

    // What is not theirs does not exist for them.
    let first = lease(&some[0]);
    for (tenant, place) in [("globex", "inside"), ("acme", "outside")] {
        let answer = ends_at(&store, tenant, place, &[first], 20, AttemptEnd::Confirmed).await;
        assert_eq!(answer, [PullEnded::Unknown]);
    }
    let unknown = PullLease {
        entry: OutboxId(99),
        epoch: LeaseEpoch(1),
    };
    let wrong = PullLease {
        epoch: LeaseEpoch(7),
        ..first
    };
    let answers = ends_at(
        &store,
        "acme",
        "inside",
        &[first, unknown, wrong, first],
        30,
        AttemptEnd::Confirmed,
    )
    .await;
    let over = |state| PullEnded::Over { state };
    assert_eq!(
        answers,
        [
            CONFIRMED,
            PullEnded::Unknown,
            over(EntryState::Delivered),
            over(EntryState::Delivered)
        ]
    );

    // Given back: an attempt that failed, tried again by the rules of retries, or later where its owner says so.
    let RetryAt(later) = retry(&ends(&store, &some[1], 40, given_back(None)).await);
    assert_eq!(later, at(40).0, "without jitter the backoff may be nothing");
    assert_eq!(
        ends(&store, &some[1], 41, AttemptEnd::Confirmed).await,
        over(EntryState::Ready)
    );
    let RetryAt(later) = retry(&ends(&store, &rest[0], 42, given_back(Some(5_000))).await);
    assert_eq!(later, at(5_042).0);
    let again = pull(&store, 5_041).await;
    assert_eq!((keys(&again), again[0].attempt), (vec!["e2"], 2));
    assert_eq!(again[0].message_id, some[1].message_id, "the same names each time");
    assert_eq!(
        ends(&store, &some[1], 5_042, AttemptEnd::Confirmed).await,
        over(EntryState::Leased),
        "an old lease"
    );
    assert_eq!(ends(&store, &again[0], 5_043, AttemptEnd::Confirmed).await, CONFIRMED);
    let last = pull(&store, 5_100).await;
    assert_eq!(keys(&last), ["e3"]);
    assert_eq!(ends(&store, &last[0], 5_101, AttemptEnd::Confirmed).await, CONFIRMED);

    let trace = trace_one(&store, &Sent::new("e2")).await;
    let entry = &trace.jobs[0].runs[0].actions[0].deliveries[0];
    let attempts: Vec<_> = entry.attempts.iter().map(|attempt| attempt.end.clone()).collect();
    assert_eq!(attempts, [given_back(None), AttemptEnd::Confirmed]);
    assert_eq!(entry.attempts[0].started_at, at(10).to_string());
    assert_eq!(entry.attempts[0].duration_us, 30_000);
    assert_eq!(store.counts().await.unwrap().delivered, 3);
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

/// When something is tried again.
struct RetryAt(i64);

fn retry(ended: &PullEnded) -> RetryAt {
    match ended {
        PullEnded::Recorded {
            entry_end: EntryEnd::RetryAt { at, .. },
        } => RetryAt(at.0),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn p9_a_lease_that_runs_out_is_an_attempt_and_the_last_one_a_dead_letter(backend: &impl Backend) {
    let store = backend.open();
    sends(&store, "e1").await;
    let mut ms = 10;
    for attempt in 1..=3 {
        let claims = pull(&store, ms).await;
        assert_eq!((keys(&claims), claims[0].attempt), (vec!["e1"], attempt));
        assert!(pull(&store, ms + LEASE_MS - 1).await.is_empty());
        // Its end alone takes nothing from the holder: whoever pulls next does.
        ms += LEASE_MS;
    }
    assert_eq!(store.counts().await.unwrap().dead_letters_open, 0);
    assert!(pull(&store, ms).await.is_empty());
    assert_eq!(store.counts().await.unwrap().dead_letters_open, 1);
    let trace = trace_one(&store, &Sent::new("e1")).await;
    let entry = &trace.jobs[0].runs[0].actions[0].deliveries[0];
    assert_eq!((entry.state.as_str(), entry.attempts.len()), ("dead", 3));
    assert!(
        entry
            .attempts
            .iter()
            .all(|attempt| attempt.end == AttemptEnd::lease_ran_out())
    );
    assert_eq!(entry.attempts[0].duration_us, u64::try_from(LEASE_MS).unwrap() * 1_000);

    // Late, and nobody else has it: it holds.
    sends(&store, "e2").await;
    let claims = pull(&store, ms).await;
    assert_eq!(
        ends(&store, &claims[0], ms + 9 * LEASE_MS, AttemptEnd::Confirmed).await,
        CONFIRMED
    );
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn p9_what_is_pulled_keeps_order_pauses_and_its_owner_over_a_restart(backend: &impl Backend) {
    let store = backend.open();
    for id in ["a1", "a2"] {
        records(&store, &Sent::new(id).of("a"), |settling| {
            settling.to_in_order("inside")
        })
        .await;
    }
    records(&store, &Sent::new("b1").of("b"), |settling| {
        settling.to_in_order("inside")
    })
    .await;
    // Under a name that it had before.
    records(&store, &Sent::new("c1"), |settling| settling.to("cellar")).await;
    // And one that a host sends.
    records(&store, &Sent::new("d1"), |settling| settling.to("outside")).await;
    let sent = store
        .claim_outbox(
            claim_request(at(5), 10),
            Quotas {
                each_max: 0,
                of: [((name("acme"), name("outside")), 9)].into(),
            },
        )
        .await
        .unwrap();
    assert_eq!(keys(&sent.claims), ["d1"]);
    let claims = store
        .pull(request("acme", &["inside", "cellar"], 10, 10))
        .await
        .unwrap()
        .claims;
    assert_eq!(keys(&claims), ["a1", "b1", "c1"]);
    store.close().await;
    drop(store);
    let store = backend.open();
    // What a host had is free again, and what somebody pulled is still theirs.
    assert!(pull(&store, 20).await.is_empty());
    let all = store
        .claim_outbox(claim_request(at(30), 10), Quotas::unlimited())
        .await
        .unwrap();
    assert_eq!(keys(&all.claims), ["d1"]);
    assert_eq!(ends(&store, &claims[0], 40, AttemptEnd::Confirmed).await, CONFIRMED);

    let act = |what: &str| Act {
        actor: "ann".into(),
        why: Some(what.into()),
        at: at(50),
        dry_run: false,
    };
    let place = Place::Destination(name("inside"));
    store
        .pause(name("acme"), place.clone(), act("they move"))
        .await
        .unwrap();
    assert!(pull(&store, 60).await.is_empty(), "it is paused");
    // What was fetched before is theirs to end.
    assert_eq!(ends(&store, &claims[1], 70, AttemptEnd::Confirmed).await, CONFIRMED);
    store.resume(name("acme"), place, act("they are there")).await.unwrap();
    let second = pull(&store, 80).await;
    assert_eq!(keys(&second), ["a2"], "behind a1, which is confirmed");
    assert_eq!(ends(&store, &second[0], 90, AttemptEnd::Confirmed).await, CONFIRMED);
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn p9_of_many_who_pull_at_once_each_gets_its_own(backend: &impl Backend) {
    let store = backend.open();
    for number in 0..40 {
        sends(&store, &format!("e{number}")).await;
    }
    let pulls = (0..8).map(|_| store.pull(request("acme", &["inside"], 10, 7)));
    let pulled = at_once(pulls).await;
    let claims = pulled.into_iter().flat_map(|answer| answer.unwrap().claims);
    let all: Vec<_> = claims.map(|claim| claim.entry).collect();
    let once: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!((all.len(), once.len()), (40, 40), "each once");
}
