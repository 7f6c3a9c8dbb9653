//! What a page of a list costs over many receipts: the time from the question to the page, the slowest of several.
//!
//! `cargo run --release -p tollgate-store --example lists_cost -- [receipts] [directory] [log|rows]`
//!
//! A receipt in ten has a job, most of which are done with an action that is delivered; one in a thousand of those is dead, one waits.
#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::unwrap_used, reason = "it measures; an error ends it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tollgate_core::action::{ActionKind, Flag, GrantedAction, Proposal, UncheckedAction};
use tollgate_core::admission::{Admission, Identity, JobSpec, OnHeld, OnReplay, lane, receipt_id};
use tollgate_core::commitment::body_commitment;
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::filter::{Direction, Filter, Listing};
use tollgate_core::grant::{Grant, judge};
use tollgate_core::ids::Digest;
use tollgate_core::outcome::JobEnd;
use tollgate_core::time::UnixMillis;
use tollgate_store::{
    AskedList, AttemptRecord, ClaimRequest, Intake as _, JobClaim, Layout, OpenOptions, Outbox as _, Quotas,
    ReceiptKey as _, RunRecord, Settlement, SqliteStore, Store as _, Targets, Views as _, Work as _,
};

const BEGIN: UnixMillis = UnixMillis(1_777_975_200_000);
/// Between two receipts.
const APART_MS: i64 = 500;
/// Admitted in one commit.
const AT_ONCE: usize = 2_000;
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// How often each question is asked.
const TIMES: usize = 5;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let receipts: usize = arguments.next().map_or(1_000_000, |text| text.parse().unwrap());
    let place = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let layout = match arguments.next().as_deref() {
        Some("rows") => Layout::Rows,
        _ => Layout::Log,
    };
    let options = OpenOptions {
        layout,
        ..OpenOptions::default()
    };
    let store = SqliteStore::open(place.path().join("t.db"), options).unwrap();
    let began = Instant::now();
    fill(&store, receipts).await;
    println!(
        "{receipts} receipts in {:.0} s, {layout:?}\n",
        began.elapsed().as_secs_f64()
    );
    let now = BEGIN.plus_ms(receipts as i64 * APART_MS);
    println!("{:64} {:>9} {:>7} {:>9}", "", "ms", "items", "looked at");
    for (list, filter, tenant) in [
        (Listing::Events, "", None),
        (Listing::Events, "", Some("globex")),
        (Listing::Events, "tenant:globex", None),
        (Listing::Events, "status:dead", None),
        (Listing::Events, "status:dead since:24h", Some("acme")),
        (Listing::Events, "status:waiting", None),
        (Listing::Events, "status:done", None),
        (Listing::Events, "event:evt_777", None),
        (Listing::Events, "subject:order_777", None),
        (Listing::Events, "type:order.*", None),
        (Listing::Events, "type:nothing", None),
        (Listing::Events, "destination:nothing", None),
        (Listing::Events, "code:5xx", None),
        (Listing::Events, "body.data.amount:>999999", None),
        (Listing::Events, "until:48h", None),
        (Listing::Jobs, "", None),
        (Listing::Jobs, "status:dead", None),
        (Listing::Jobs, "plugin:nothing", None),
        (Listing::Runs, "", None),
        (Listing::Runs, "outcome:trap", None),
        (Listing::Actions, "kind:flag", None),
        (Listing::Deliveries, "", None),
        (Listing::Deliveries, "status:dead", None),
        (Listing::Deliveries, "code:5xx", None),
        (Listing::Undelivered, "", None),
        (Listing::Undelivered, "status:delivered", None),
    ] {
        let asked = AskedList {
            list,
            filter: Filter::read(filter, list, now).unwrap(),
            tenant: tenant.map(|tenant| tenant.parse().unwrap()),
            before: None,
            newer: None,
            direction: Direction::NewestFirst,
            rows_max: 20,
            sends: BTreeMap::new(),
        };
        let mut slowest = 0.0_f64;
        let mut page = None;
        for _ in 0..TIMES {
            let began = Instant::now();
            page = Some(store.list(asked.clone()).await.unwrap());
            slowest = slowest.max(began.elapsed().as_secs_f64() * 1e3);
        }
        let page = page.unwrap();
        let of = tenant.map(|tenant| format!(" (token of {tenant})")).unwrap_or_default();
        println!(
            "{:64} {slowest:>9.1} {:>7} {:>9}",
            format!("{} {filter}{of}", list.as_str()),
            page.items.len(),
            page.looked_at
        );
    }
    store.close().await;
}

async fn fill(store: &SqliteStore, receipts: usize) {
    for first in (0..receipts).step_by(AT_ONCE) {
        let numbers = first..(first + AT_ONCE).min(receipts);
        let admissions = numbers.map(|number| admission(store, number)).collect();
        let _ = store.admit(admissions).await.unwrap();
        let now = BEGIN.plus_ms((first + AT_ONCE) as i64 * APART_MS);
        let claim = ClaimRequest {
            worker: "w".into(),
            now,
            lease_ms: 60_000,
            rows_max: AT_ONCE,
            passed_over: Vec::new(),
        };
        let jobs = store.claim_jobs(claim.clone()).await.unwrap();
        let settling: Vec<_> = jobs.iter().map(|job| store.settle(settlement(job, now))).collect();
        for settled in settling {
            let _ = settled.await.unwrap();
        }
        let entries = store.claim_outbox(claim, Quotas::unlimited()).await.unwrap().claims;
        let attempts: Vec<_> = entries
            .iter()
            .map(|entry| {
                let dead = entry.entry.0 % 1_000 == 7;
                store.record_attempt(AttemptRecord {
                    entry: entry.entry,
                    epoch: entry.epoch,
                    started_at: now,
                    duration_us: 900,
                    end: AttemptEnd::Answered {
                        http_status: if dead { 503 } else { 200 },
                        retry_after_ms: None,
                    },
                    answer: String::new(),
                    entry_end: if dead {
                        EntryEnd::Dead { reason: "503".into() }
                    } else {
                        EntryEnd::Delivered
                    },
                })
            })
            .collect();
        for attempted in attempts {
            let _ = attempted.await.unwrap();
        }
    }
}

fn settlement(job: &JobClaim, now: UnixMillis) -> Settlement {
    let dead = job.job.0 % 1_000 == 3;
    Settlement {
        job: job.job,
        epoch: job.epoch,
        run: RunRecord {
            plugin: "cashback".parse().unwrap(),
            digest: Digest::of(b"p"),
            config_digest: Digest::of(b"c"),
            config: "{}".into(),
            runtime: "none".into(),
            started_at: now,
            duration_us: 400,
            fuel: 10_000,
            outcome: if dead { "trap" } else { "completed" }.into(),
            message: String::new(),
            reads: Vec::new(),
            logs: Vec::new(),
        },
        end: if dead {
            JobEnd::Dead { reason: "trap".into() }
        } else {
            JobEnd::Done
        },
        writes: Vec::new(),
        state_total_max: None,
        budgets: Vec::new(),
        actions: if dead {
            Vec::new()
        } else {
            vec![flag(&format!("op_{}", job.job))]
        },
        namespace: "cashback".parse().unwrap(),
        targets: Targets {
            destinations: vec!["books".parse().unwrap()],
            renamed: Vec::new(),
            ..Targets::default()
        },
    }
}

fn flag(key: &str) -> GrantedAction {
    let flag = Flag {
        subject: "s".into(),
        score: 1,
        reasons: vec!["because".into()],
    };
    let proposal = Proposal {
        operation_key: key.into(),
        action: UncheckedAction::Flag(flag),
    };
    judge(vec![proposal], &[Grant::of(ActionKind::Flag)]).unwrap().remove(0)
}

fn admission(store: &SqliteStore, number: usize) -> Admission {
    let (tenant, source) = (TENANTS[number % 3].parse().unwrap(), "shop".parse().unwrap());
    let id = format!("evt_{number}").parse().unwrap();
    let receipt = receipt_id(store.receipt_key(), &tenant, &source, &id);
    let subject = Some(format!("order_{number}").parse().unwrap());
    let route = "cashback".parse().unwrap();
    let job = JobSpec {
        lane: lane(&tenant, &route, None, subject.as_ref(), receipt),
        route,
        late: tollgate_core::route::Late::default(),
    };
    let payload = format!(
        r#"{{"id":"evt_{number}","data":{{"amount":{},"currency":"USD","filler":"{}"}}}}"#,
        number % 1000,
        "x".repeat(700)
    );
    Admission {
        filtered: Vec::new(),
        hold: None,
        receipt,
        identity: Identity::EventId,
        body_commitment: body_commitment(store.receipt_key(), &tenant, payload.as_bytes()),
        lifecycle: None,
        jobs: if number.is_multiple_of(10) {
            vec![job]
        } else {
            Vec::new()
        },
        on_held: OnHeld::Review,
        scope: tollgate_core::subject::Scope::default(),
        on_replay: OnReplay::Hold,
        proof: Proof {
            provider: "voucherify".parse().unwrap(),
            profile_version: 1,
            scheme: "v1".into(),
            key_id: "key-2026".parse().unwrap(),
            signed_at: Some(BEGIN),
        },
        event: Arc::new(Event {
            tenant,
            source,
            id,
            event_type: if number.is_multiple_of(7) {
                "order.paid"
            } else {
                "order.seen"
            }
            .parse()
            .unwrap(),
            subject,
            reading: StatusReading::Stateless,
            occurred_at: None,
            received_at: BEGIN.plus_ms(number as i64 * APART_MS),
            amount: None,
            attributes: Vec::new(),
            payload: payload.into(),
        }),
    }
}
