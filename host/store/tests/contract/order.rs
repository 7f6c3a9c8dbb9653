//! Order at a destination, on every backend: what belongs to one subject leaves one after the other, and nobody else waits (promise P8).

use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::delivery::EntryEnd;
use tollgate_core::ids::{OutboxId, SourceName};
use tollgate_core::subject::Sharing;
use tollgate_store::{
    AttemptRecorded, Control as _, DeadLetterFilter, Outbox as _, OutboxClaim, OutboxHold, Quotas, ReplayRequest,
    ReplayWhat, ResendRequest, Settled, Settlement, Store, Views as _,
};

use crate::suite::attempt;
use crate::support::{
    ACCEPTED, Backend, LEASE_MS, Sent, SettlementExt as _, at, claim_one, claim_request, name, settle, settlement,
};

/// An event whose run recorded one action, as the route of `sent` says it by `settling`.
async fn records(store: &impl Store, sent: &Sent, settling: impl FnOnce(Settlement) -> Settlement) {
    assert_eq!(sent.admit(store).await, ACCEPTED);
    let claim = claim_one(store, at(0)).await;
    let settled = settle(store, settling(settlement(&claim).acts(&sent.id, 1))).await;
    assert!(matches!(settled, Settled::Committed { .. }), "{settled:?}");
}

/// The same of an event about `subject`, on its way to `ledger` in order.
async fn sends(store: &impl Store, id: &str, subject: &str) {
    records(store, &Sent::new(id).of(subject), |settling| {
        settling.to_in_order("ledger")
    })
    .await;
}

/// What is leased at this instant.
async fn leaves(store: &impl Store, ms: i64) -> Vec<OutboxClaim> {
    let claimed = store
        .claim_outbox(claim_request(at(ms), 100), Quotas::unlimited())
        .await
        .unwrap();
    claimed.claims
}

fn named(claims: &[OutboxClaim]) -> Vec<String> {
    claims
        .iter()
        .map(|claim| format!("{} {}", claim.destination, claim.operation_key))
        .collect()
}

/// The one that is leased at this instant.
async fn leaves_one(store: &impl Store, ms: i64, id: &str) -> OutboxClaim {
    let mut claims = leaves(store, ms).await;
    assert_eq!(named(&claims), [format!("ledger {id}")]);
    claims.remove(0)
}

async fn ends(store: &impl Store, claim: &OutboxClaim, ms: i64, end: EntryEnd) {
    let recorded = store.record_attempt(attempt(claim, ms, end)).await.unwrap();
    assert_eq!(recorded, AttemptRecorded::Recorded);
}

fn later(ms: i64) -> EntryEnd {
    EntryEnd::RetryAt {
        at: at(ms),
        reason: "busy".into(),
    }
}

fn dead() -> EntryEnd {
    EntryEnd::Dead {
        reason: "gave up".into(),
    }
}

async fn replay(store: &impl Store, ms: i64) -> usize {
    let request = ReplayRequest {
        what: ReplayWhat::DeadLetters(DeadLetterFilter {
            rows_max: 10,
            ..DeadLetterFilter::default()
        }),
        dry_run: false,
        routes: Vec::new(),
        now: at(ms),
        actor: "ann".into(),
        why: Some("they are well".into()),
    };
    store.replay(request).await.unwrap().replayed.len()
}

pub(crate) async fn p8_of_one_subject_one_leaves_after_the_other_and_nobody_else_waits(backend: &impl Backend) {
    let store = backend.open();
    for (id, subject) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
        let both = |settling: Settlement| settling.to_in_order("ledger").to("mirror");
        records(&store, &Sent::new(id).of(subject), both).await;
    }
    // About nothing: no order. Another tenant's subject of that name: another subject.
    records(&store, &Sent::new("c1"), |settling| settling.to_in_order("ledger")).await;
    records(&store, &Sent::new("c2"), |settling| settling.to_in_order("ledger")).await;
    let of_other = Sent::new("x1").tenant("globex").of("a");
    records(&store, &of_other, |settling| settling.to_in_order("ledger")).await;
    assert_eq!(store.counts().await.unwrap().outbox_waiting, 11);

    let claims = leaves(&store, 10).await;
    let mut found = named(&claims);
    found.sort();
    let expected = [
        "ledger a1",
        "ledger b1",
        "ledger c1",
        "ledger c2",
        "ledger x1",
        "mirror a1",
        "mirror a2",
        "mirror a3",
        "mirror b1",
    ];
    assert_eq!(found, expected);
    let first = claims
        .iter()
        .find(|claim| named(std::slice::from_ref(claim)) == ["ledger a1"])
        .unwrap();
    for claim in claims.iter().filter(|claim| claim.entry != first.entry) {
        ends(&store, claim, 20, EntryEnd::Delivered).await;
    }
    assert!(leaves(&store, 30).await.is_empty(), "a1 is on its way");
    assert_eq!(store.counts().await.unwrap().outbox_waiting, 3);

    // One that is tried again keeps its place, however long it takes.
    ends(&store, first, 40, later(5_000)).await;
    assert!(leaves(&store, 4_999).await.is_empty());
    assert_eq!(store.next_due().await.unwrap().outbox, Some(at(5_000)));
    let again = leaves_one(&store, 5_000, "a1").await;
    // One that is given back too.
    let hold = OutboxHold {
        entry: again.entry,
        epoch: again.epoch,
    };
    store.release_outbox(vec![hold], at(5_100)).await.unwrap();
    let again = leaves_one(&store, 5_100, "a1").await;
    assert_eq!(again.attempt, 2);
    // A lease that ran out is made anew of the same entry.
    let again = leaves_one(&store, 5_100 + LEASE_MS, "a1").await;

    // A dead letter lets the next go, and so does what was delivered.
    ends(&store, &again, 6_000 + LEASE_MS, dead()).await;
    let second = leaves_one(&store, 7_000 + LEASE_MS, "a2").await;
    ends(&store, &second, 8_000 + LEASE_MS, EntryEnd::Delivered).await;
    let third = leaves_one(&store, 9_000 + LEASE_MS, "a3").await;
    ends(&store, &third, 9_500 + LEASE_MS, EntryEnd::Delivered).await;
    let counts = store.counts().await.unwrap();
    assert_eq!(
        (counts.outbox_waiting, counts.delivered, counts.dead_letters_open),
        (0, 10, 1)
    );
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn p8_what_is_put_back_goes_before_what_waits_and_behind_what_is_on_its_way(backend: &impl Backend) {
    let store = backend.open();
    for id in ["a1", "a2", "a3"] {
        sends(&store, id, "a").await;
    }
    let first = leaves_one(&store, 10, "a1").await;
    ends(&store, &first, 20, dead()).await;
    let second = leaves_one(&store, 30, "a2").await;
    assert_eq!(replay(&store, 40).await, 1);
    assert!(leaves(&store, 50).await.is_empty(), "never two at once");
    // The one on its way is not over yet: the older goes first.
    ends(&store, &second, 60, later(70)).await;
    let first = leaves_one(&store, 80, "a1").await;
    ends(&store, &first, 90, dead()).await;
    let second = leaves_one(&store, 100, "a2").await;
    assert_eq!(replay(&store, 110).await, 1);
    // Its lease runs out: the older goes first then, too.
    let first = leaves_one(&store, 100 + LEASE_MS, "a1").await;
    assert!(leaves(&store, 101 + LEASE_MS).await.is_empty());
    assert_eq!(
        store
            .record_attempt(attempt(&second, 102 + LEASE_MS, EntryEnd::Delivered))
            .await
            .unwrap(),
        AttemptRecorded::LeaseLost,
        "who held it has lost it"
    );
    ends(&store, &first, 110 + LEASE_MS, EntryEnd::Delivered).await;
    // Sent again on purpose while the next only waits: it goes before.
    let resent = store
        .resend(ResendRequest {
            entries: vec![first.entry],
            now: at(120 + LEASE_MS),
            actor: "ana".into(),
            why: "their database was lost".into(),
        })
        .await
        .unwrap();
    assert_eq!(resent, [first.entry]);
    let mut seen = Vec::new();
    for round in 1..=3 {
        let from = LEASE_MS + 200 * round;
        let claims = leaves(&store, from).await;
        assert_eq!(claims.len(), 1);
        seen.push(claims[0].operation_key.to_string());
        ends(&store, &claims[0], from + 1, EntryEnd::Delivered).await;
    }
    assert_eq!(seen, ["a1", "a2", "a3"]);
    assert_eq!(store.counts().await.unwrap().delivered, 3);
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn p8_order_outlives_a_restart_a_rename_and_the_setting(backend: &impl Backend) {
    let store = backend.open();
    for id in ["a1", "a2"] {
        sends(&store, id, "a").await;
    }
    let _on_its_way = leaves_one(&store, 10, "a1").await;
    store.close().await;
    drop(store);
    let store = backend.open();
    // The destination is called books now, and what waits for it under its old name goes before.
    let renamed = |mut settling: Settlement| {
        settling = settling.to_in_order("books");
        settling.targets.renamed = vec![(name("ledger"), name("books"))];
        settling
    };
    records(&store, &Sent::new("a3").of("a"), renamed).await;
    // It asks for no order any more: what is recorded from now on waits for nobody, and what waited keeps its order.
    records(&store, &Sent::new("a4").of("a"), |settling| settling.to("books")).await;
    let mut seen = Vec::new();
    for round in 1..=3 {
        let from = LEASE_MS * 2 * round;
        let claims = leaves(&store, from).await;
        seen.push(named(&claims));
        for claim in &claims {
            ends(&store, claim, from + 1, EntryEnd::Delivered).await;
        }
    }
    seen[0].sort();
    assert_eq!(seen, [&["books a4", "ledger a1"][..], &["ledger a2"], &["books a3"]]);
}

pub(crate) async fn p8_a_subject_is_its_sources_own_unless_they_share_it(backend: &impl Backend) {
    let store = backend.open();
    let sharing = |names: &[&str]| {
        let sources: BTreeSet<SourceName> = names.iter().map(|source| name(source)).collect();
        Sharing(BTreeMap::from([(name("reward-redemption"), sources)]))
    };
    for (id, source, shared) in [
        ("a1", "rewards", &[][..]),
        ("a2", "shop", &[]),
        ("b1", "rewards", &["rewards", "shop"]),
        ("b2", "shop", &["rewards", "shop"]),
    ] {
        let sent = Sent::new(id).of(&id[..1]).source(source).status("pending").at(0);
        records(&store, &sent, |mut settling| {
            settling.targets.sharing = sharing(shared);
            settling.to_in_order("ledger")
        })
        .await;
    }
    let mut found = named(&leaves(&store, 10).await);
    found.sort();
    assert_eq!(found, ["ledger a1", "ledger a2", "ledger b1"]);
}

pub(crate) async fn p8_a_long_line_of_one_subject_holds_up_no_other(backend: &impl Backend) {
    const LONG: i64 = 300;
    let store = backend.open();
    for number in 0..LONG {
        sends(&store, &format!("a{number}"), "a").await;
    }
    sends(&store, "b0", "b").await;
    let claims = leaves(&store, 10).await;
    assert_eq!(named(&claims), ["ledger a0", "ledger b0"]);
    let mut next = claims.into_iter().next().unwrap();
    let mut order: Vec<OutboxId> = vec![next.entry];
    for number in 1..LONG {
        ends(&store, &next, 10 + number, EntryEnd::Delivered).await;
        next = leaves_one(&store, 10 + number, &format!("a{number}")).await;
        order.push(next.entry);
    }
    assert!(order.is_sorted());
}
