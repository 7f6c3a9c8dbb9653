//! Issues, on every backend: what fails in one way is one issue, counted once, and each change of its state is told once (promise O12).

use std::collections::BTreeMap;

use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::ids::{IssueId, OutboxId};
use tollgate_core::issue::{IssueKind, IssueState};
use tollgate_core::outcome::JobEnd;
use tollgate_store::{
    AttemptRecord, Control as _, GroupFailures, IssueChange, IssueFilter, IssueRecord, Notified, OutboxClaim, Quotas,
    Settlement, Store, StoreError, Views as _,
};

use crate::support::{
    ACCEPTED, Backend, Sent, SettlementExt as _, at, claim_one, claim_request, name, run, settle, settlement, trace_one,
};

fn told(destinations: &[&str]) -> Notified {
    let destinations = destinations.iter().map(|destination| name(destination)).collect();
    BTreeMap::from([(name("acme"), destinations)])
}

async fn group(store: &impl Store, destinations: &[&str], ms: i64) -> usize {
    let request = GroupFailures {
        notified: told(destinations),
        now: at(ms),
    };
    store.group_failures(request).await.unwrap()
}

async fn issues(store: &impl Store, tenant: Option<&str>) -> Vec<IssueRecord> {
    let filter = IssueFilter {
        id: None,
        tenant: tenant.map(name),
        states: IssueState::ALL.to_vec(),
        rows_max: 10,
    };
    store.issues(filter).await.unwrap()
}

/// An event whose job dies of `outcome`.
async fn dies(store: &impl Store, sent: &Sent, outcome: &str, ms: i64) {
    assert_eq!(sent.admit(store).await, ACCEPTED);
    let claim = claim_one(store, at(ms)).await;
    let end = JobEnd::Dead {
        reason: format!("{outcome}: of {}", sent.id),
    };
    let settling = Settlement {
        run: run(outcome),
        ..settlement(&claim).end(end)
    };
    let _ = settle(store, settling.started_at(at(ms))).await;
}

async fn leaves(store: &impl Store, ms: i64) -> Vec<OutboxClaim> {
    let claims = store
        .claim_outbox(claim_request(at(ms), 10), Quotas::unlimited())
        .await
        .unwrap();
    claims.claims
}

async fn attempted(store: &impl Store, claim: &OutboxClaim, http_status: u16, end: EntryEnd, ms: i64) {
    let record = AttemptRecord {
        entry: claim.entry,
        epoch: claim.epoch,
        started_at: at(ms),
        duration_us: 1_000,
        end: AttemptEnd::Answered {
            http_status,
            retry_after_ms: None,
        },
        answer: String::new(),
        entry_end: end,
    };
    let _ = store.record_attempt(record).await.unwrap();
}

fn given_up() -> EntryEnd {
    EntryEnd::Dead {
        reason: "given up".into(),
    }
}

async fn says(store: &impl Store, issue: IssueId, state: IssueState, ms: i64) -> IssueRecord {
    let change = IssueChange {
        issue,
        state,
        by: "ana".to_owned(),
        why: "looked at it".to_owned(),
        now: at(ms),
    };
    store.change_issue(change, told(&["ops"])).await.unwrap()
}

pub(crate) async fn o12_failures_of_one_kind_place_and_code_are_one_issue_and_none_counts_twice(
    backend: &impl Backend,
) {
    let store = backend.open();
    let sent = ["e1", "e2", "e3"].map(Sent::new);
    dies(&store, &sent[0], "trap", 10).await;
    dies(&store, &sent[1], "out-of-fuel", 20).await;
    dies(&store, &sent[2], "trap", 30).await;
    let foreign = Sent::new("e4").tenant("globex");
    dies(&store, &foreign, "trap", 40).await;
    assert_eq!(store.ungrouped_failures().await.unwrap(), 4);
    assert_eq!(group(&store, &[], 100).await, 4);
    assert_eq!(group(&store, &[], 110).await, 0, "each once");
    assert_eq!(store.ungrouped_failures().await.unwrap(), 0);

    let found = issues(&store, None).await;
    let said: Vec<_> = found
        .iter()
        .map(|record| {
            let issue = &record.issue;
            (
                issue.tenant.as_str(),
                issue.code.as_str(),
                issue.count,
                issue.kind,
                issue.place.as_str(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("globex", "trap", 1, IssueKind::DeadJob, "cashback"),
            ("acme", "trap", 2, IssueKind::DeadJob, "cashback"),
            ("acme", "out-of-fuel", 1, IssueKind::DeadJob, "cashback"),
        ]
    );
    let traps = &found[1];
    assert!(traps.issue.first_seen < traps.issue.last_seen, "{traps:?}");
    assert_eq!(traps.reason, "trap: of e3");
    assert_eq!(
        traps.receipts,
        [sent[2].receipt(&store), sent[0].receipt(&store)],
        "the newest first"
    );
    assert_eq!((traps.issue.state, traps.issue.changes), (IssueState::Open, 1));
    assert_eq!(issues(&store, Some("globex")).await.len(), 1);
    assert_eq!(
        store.counts().await.unwrap().actions,
        0,
        "where nobody is told, nothing is recorded"
    );

    // Also after a restart.
    store.close().await;
    drop(store);
    let store = backend.open();
    assert_eq!(group(&store, &[], 120).await, 0);
    dies(&store, &Sent::new("e5"), "trap", 130).await;
    assert_eq!(group(&store, &[], 140).await, 1);
    assert_eq!(issues(&store, Some("acme")).await[0].issue.count, 3);
    let unknown = IssueChange {
        issue: IssueId(99),
        state: IssueState::Resolved,
        by: "ana".to_owned(),
        why: String::new(),
        now: at(150),
    };
    assert!(matches!(
        store.change_issue(unknown, Notified::new()).await,
        Err(StoreError::NotFound { .. })
    ));
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn o12_each_change_of_an_issues_state_is_told_once_by_the_outbox(backend: &impl Backend) {
    let store = backend.open();
    let first = Sent::new("e1");
    dies(&store, &first, "trap", 10).await;
    dies(&store, &Sent::new("e2"), "trap", 20).await;
    assert_eq!(group(&store, &["ops"], 100).await, 2);
    let claims = leaves(&store, 110).await;
    let [notice] = claims.as_slice() else {
        panic!("{claims:?}")
    };
    assert_eq!(
        (notice.operation_key.as_str(), notice.namespace.as_str()),
        ("issue_1:1", "tollgate")
    );
    assert!(
        notice.action_json.contains("issue-opened") && notice.action_json.contains("\"trap\""),
        "{notice:?}"
    );
    attempted(&store, notice, 200, EntryEnd::Delivered, 110).await;

    // Failing on says nothing new; what people say does, once.
    let issue = IssueId(1);
    assert_eq!(
        says(&store, issue, IssueState::Acknowledged, 200).await.issue.changes,
        2
    );
    let same = says(&store, issue, IssueState::Acknowledged, 210).await;
    assert_eq!(
        (same.issue.changes, same.changed_at, same.changed_by.as_str()),
        (2, at(200), "ana")
    );
    dies(&store, &Sent::new("e3"), "trap", 220).await;
    assert_eq!(group(&store, &["ops"], 230).await, 1);
    assert_eq!(says(&store, issue, IssueState::Resolved, 240).await.issue.changes, 3);
    dies(&store, &Sent::new("e4"), "trap", 250).await;
    assert_eq!(group(&store, &["ops"], 260).await, 1);
    let again = issues(&store, None).await.remove(0);
    assert_eq!(
        (again.issue.state, again.issue.changes, again.issue.count),
        (IssueState::Open, 4, 4)
    );
    assert_eq!(
        says(&store, issue, IssueState::Ignored, 270).await.issue.state,
        IssueState::Ignored
    );
    dies(&store, &Sent::new("e5"), "trap", 280).await;
    assert_eq!(group(&store, &["ops"], 290).await, 1);
    let keys: Vec<_> = leaves(&store, 300)
        .await
        .into_iter()
        .map(|claim| (claim.operation_key.to_string(), claim.action_json.clone()))
        .collect();
    let templates = [
        "issue-acknowledged",
        "issue-resolved",
        "issue-opened-again",
        "issue-ignored",
    ];
    assert_eq!(keys.len(), templates.len(), "{keys:?}");
    for (at, (template, (key, json))) in templates.into_iter().zip(&keys).enumerate() {
        assert_eq!(*key, format!("issue_1:{}", at + 2));
        assert!(json.contains(template), "{template}: {json}");
    }
    // A repeated run does not propose it, and a trace shows it.
    let trace = trace_one(&store, &Sent::new("e2")).await;
    assert_eq!(trace.jobs[0].runs[0].actions.len(), 1, "{trace:?}");
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}

pub(crate) async fn o12_a_destination_is_not_told_that_it_cannot_be_told(backend: &impl Backend) {
    let store = backend.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let done = settlement(&claim_one(&store, at(0)).await).acts("op", 1).to("books");
    let _ = settle(&store, done).await;
    let entry = leaves(&store, 10).await.remove(0);
    attempted(&store, &entry, 410, given_up(), 20).await;
    assert_eq!(group(&store, &["ops", "books"], 30).await, 1);
    let found = issues(&store, None).await.remove(0);
    assert_eq!(
        (found.issue.kind, found.issue.place.as_str()),
        (IssueKind::DeadDelivery, "books")
    );
    assert_eq!(found.issue.code, "410");
    let claims = leaves(&store, 40).await;
    let to: Vec<_> = claims.iter().map(|claim| claim.destination.as_str()).collect();
    assert_eq!(to, ["ops"], "and not books");
    // The notice dies as well: that is an issue, which the other one is told of, and then it is quiet.
    attempted(&store, &claims[0], 503, given_up(), 50).await;
    assert_eq!(group(&store, &["ops", "books"], 60).await, 1);
    let claims = leaves(&store, 70).await;
    let to: Vec<_> = claims
        .iter()
        .map(|claim| (claim.destination.as_str(), claim.operation_key.as_str()))
        .collect();
    assert_eq!(to, [("books", "issue_2:1")]);
    attempted(&store, &claims[0], 410, given_up(), 80).await;
    assert_eq!(group(&store, &["ops", "books"], 90).await, 1);
    assert_eq!(leaves(&store, 100).await.len(), 0, "it is open already");
    assert_eq!(issues(&store, None).await.len(), 2);
    assert!(store.counts().await.unwrap().dead_letters_open >= 3 && entry.entry == OutboxId(1));
    assert_eq!(backend.problems(&store), <[String; 0]>::default());
}
