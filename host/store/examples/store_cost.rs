//! What the SQLite store costs: CPU of the whole process per operation, the tasks that wait included.
//!
//! `cargo run --release -p tollgate-store --example store_cost -- [receipts] [waiting at once] [directory] [log|rows]`
//!
//! `… store_cost -- restart GIGABYTES [directory]`: how long a store of that many bytes of bodies takes to start after its process was killed, to
//! be audited, and to have its index made anew; and what it takes on the disk.
#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::unwrap_used, reason = "it measures; an error ends it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tollgate_core::action::{ActionKind, Flag, GrantedAction, Proposal, UncheckedAction};
use tollgate_core::admission::{Admission, Identity, JobSpec, OnHeld, OnReplay, lane, receipt_id};
use tollgate_core::commitment::body_commitment;
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::grant::{Grant, judge};
use tollgate_core::ids::Digest;
use tollgate_core::lifecycle::Lifecycle;
use tollgate_core::outcome::JobEnd;
use tollgate_core::time::UnixMillis;
use tollgate_store::{
    AttemptRecord, ClaimRequest, Intake as _, JobClaim, Layout, OpenOptions, Outbox as _, Quotas, ReceiptKey as _,
    RunRecord, Settlement, SqliteStore, Store as _, Targets, Views as _, Work as _,
};

const BODY_BYTES: usize = 2_500;
const NOW: UnixMillis = UnixMillis(1_777_975_200_000);

/// What differs between the measured kinds of event.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    subject: bool,
    lifecycle: bool,
    job: bool,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "subject, lifecycle, 1 job",
        subject: true,
        lifecycle: true,
        job: true,
    },
    Kind {
        name: "subject, 1 job",
        subject: true,
        lifecycle: false,
        job: true,
    },
    Kind {
        name: "no subject (no subject index), 1 job",
        subject: false,
        lifecycle: false,
        job: true,
    },
    Kind {
        name: "subject, lifecycle, no job",
        subject: true,
        lifecycle: true,
        job: false,
    },
    Kind {
        name: "no subject, no job",
        subject: false,
        lifecycle: false,
        job: false,
    },
];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.peek().map(String::as_str) {
        Some("restart") => return restart(arguments.skip(1)),
        Some(DIES) => return fill_and_die(arguments.skip(1)).await,
        _ => {}
    }
    let receipts: usize = arguments.next().map_or(50_000, |text| text.parse().unwrap());
    let waiting: usize = arguments.next().map_or(128, |text| text.parse().unwrap());
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, std::path::PathBuf::from);
    let options = OpenOptions {
        layout: match arguments.next().as_deref() {
            Some("rows") => Layout::Rows,
            _ => Layout::Log,
        },
        ..OpenOptions::default()
    };
    println!(
        "{:?}: {receipts} receipts of {BODY_BYTES} bytes, {waiting} waiting at once, in {}",
        options.layout,
        directory.display()
    );
    println!("{:44} {:>10} {:>10} {:>12}", "", "µs CPU", "µs wall", "MB file");
    warm_up(&directory, options, waiting).await;
    for kind in KINDS {
        let place = tempfile::tempdir_in(&directory).unwrap();
        let store = SqliteStore::open(place.path().join("t.db"), options).unwrap();
        admit(&store, kind, receipts, waiting, &place).await;
        if kind.lifecycle && kind.job {
            admit_again(&store, kind, receipts, waiting, &place).await;
            work(&store, receipts, waiting).await;
            deliver(&store, receipts, waiting).await;
        }
        store.close().await;
    }
    claim_from_many(&directory, options).await;
}

/// How this program starts itself as one that fills a store and dies.
const DIES: &str = "fill-and-die";

fn restart(mut arguments: impl Iterator<Item = String>) {
    let gigabytes: f64 = arguments.next().map_or(1.0, |text| text.parse().unwrap());
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, std::path::PathBuf::from);
    let place = tempfile::tempdir_in(&directory).unwrap();
    let path = place.path().join("t.db");
    let receipts = (gigabytes * 1e9 / BODY_BYTES as f64) as usize;
    let on_disk = || {
        let files = std::fs::read_dir(place.path()).unwrap();
        let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        bytes as f64 / receipts as f64
    };
    let timed = |what: &str, work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        let (seconds, bytes) = (begun.elapsed().as_secs_f64(), on_disk());
        println!("{what:44} {seconds:>10.2} s {bytes:>12.0} bytes a receipt on the disk");
    };
    timed(&format!("{receipts} receipts, and killed"), &mut || {
        let program = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new(program);
        let ended = child
            .args([DIES, path.to_str().unwrap(), &receipts.to_string()])
            .status();
        assert!(!ended.unwrap().success(), "it dies");
    });
    let mut store = None;
    timed("start", &mut || {
        store = Some(SqliteStore::open(&path, OpenOptions::default()).unwrap())
    });
    let full = |path: std::path::PathBuf| path.to_str().unwrap().contains("-log-") && path.extension().is_none();
    timed("until all full segments are compressed", &mut || {
        let plain = || {
            std::fs::read_dir(place.path())
                .unwrap()
                .filter(|file| full(file.as_ref().unwrap().path()))
                .count()
        };
        while plain() > 1 {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    timed("audit", &mut || {
        let problems = store.as_ref().unwrap().audited().unwrap().in_words();
        assert!(problems.is_empty(), "{problems:?}");
    });
    drop(store.take());
    timed("start after an orderly end", &mut || {
        drop(SqliteStore::open(&path, OpenOptions::default()).unwrap())
    });
    timed("index made anew", &mut || {
        SqliteStore::rebuild(&path, &mut |_, _| {}).unwrap();
    });
}

async fn fill_and_die(mut arguments: impl Iterator<Item = String>) {
    let path = arguments.next().unwrap();
    let receipts = arguments.next().unwrap().parse().unwrap();
    let store = SqliteStore::open(path, OpenOptions::default()).unwrap();
    admit_range(&store, KINDS[0], receipts, 128).await;
    std::process::abort();
}

/// The first thousands of anything are slower; they are not what is asked.
async fn warm_up(directory: &std::path::Path, options: OpenOptions, waiting: usize) {
    let place = tempfile::tempdir_in(directory).unwrap();
    let store = SqliteStore::open(place.path().join("t.db"), options).unwrap();
    admit_range(&store, KINDS[0], 10_000, waiting).await;
    store.close().await;
}

/// CPU time of this process so far, all threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    let ticks: u64 = fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

struct Meter {
    wall: Duration,
    cpu: Duration,
}

impl Meter {
    fn new() -> Self {
        Self {
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }

    async fn measure<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (wall, before) = (Instant::now(), cpu());
        let done = work.await;
        self.wall += wall.elapsed();
        self.cpu += cpu() - before;
        done
    }

    fn print(&self, name: &str, operations: usize, place: Option<&tempfile::TempDir>) {
        let each = |all: Duration| all.as_secs_f64() * 1e6 / operations as f64;
        let file = place.map_or(0, |place| std::fs::metadata(place.path().join("t.db")).unwrap().len());
        println!(
            "{name:44} {:>10.1} {:>10.1} {:>12}",
            each(self.cpu),
            each(self.wall),
            file / 1_000_000
        );
    }
}

/// Works on a list from `waiting` tasks at once.
async fn spread<T: Send + Sync + 'static, F>(
    items: Vec<T>,
    waiting: usize,
    work: impl Fn(Arc<Vec<T>>, usize) -> F + Clone + 'static,
) where
    F: Future<Output = ()>,
{
    let items = Arc::new(items);
    let next = Arc::new(AtomicUsize::new(0));
    let local = tokio::task::LocalSet::new();
    for _ in 0..waiting {
        let (items, next, work) = (Arc::clone(&items), Arc::clone(&next), work.clone());
        local.spawn_local(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= items.len() {
                    break;
                }
                work(Arc::clone(&items), at).await;
            }
        });
    }
    local.await;
}

/// As providers send them: names that repeat, and ids that do not.
fn body(number: usize) -> Vec<u8> {
    let mut text = String::with_capacity(BODY_BYTES + 256);
    let mut id = number as u64;
    while text.len() < BODY_BYTES {
        id = id
            .wrapping_mul(0x5851_F42D_4C95_7F2D)
            .wrapping_add(0x1405_7B7E_F767_814F);
        let (customer, amount) = (id >> 40, id % 100_000);
        text += &format!(
            r#"{{"id":"r_{id:016x}","object":"redemption","customer_id":"cust_{customer:06x}","amount":{amount},"currency":"USD","result":"SUCCESS","order":{{"id":"ord_{number}","status":"PAID"}}}},"#
        );
    }
    text.truncate(BODY_BYTES);
    text.into_bytes()
}

fn admission(store: &SqliteStore, kind: Kind, number: usize, lifecycle: &Arc<Lifecycle>) -> Admission {
    let (tenant, source) = ("acme".parse().unwrap(), "rewards".parse().unwrap());
    let id = format!("evt_{number:08x}_{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .parse()
        .unwrap();
    let receipt = receipt_id(store.receipt_key(), &tenant, &source, &id);
    let subject = kind
        .subject
        .then(|| format!("r_0ebe386a24c3{number:010x}").parse().unwrap());
    let route = "cashback".parse().unwrap();
    let job = JobSpec {
        lane: lane(&tenant, &route, None, subject.as_ref(), receipt),
        route,
        late: tollgate_core::route::Late::default(),
    };
    let payload = body(number);
    Admission {
        filtered: Vec::new(),
        hold: None,
        receipt,
        identity: Identity::EventId,
        body_commitment: body_commitment(store.receipt_key(), &tenant, &payload),
        lifecycle: kind.lifecycle.then(|| Arc::clone(lifecycle)),
        due_at: NOW,
        jobs: if kind.job { vec![job] } else { vec![] },
        on_held: OnHeld::Review,
        scope: tollgate_core::subject::Scope::default(),
        on_replay: OnReplay::Hold,
        proof: Proof {
            provider: "voucherify".parse().unwrap(),
            profile_version: 1,
            scheme: "v1".into(),
            key_id: "key-2026".parse().unwrap(),
            signed_at: Some(NOW),
        },
        event: Arc::new(Event {
            tenant,
            source,
            id,
            event_type: "customer.reward_redemptions.pending".parse().unwrap(),
            subject,
            reading: if kind.lifecycle {
                StatusReading::Mapped {
                    family: "reward-redemption".parse().unwrap(),
                    status: "pending".parse().unwrap(),
                }
            } else {
                StatusReading::Stateless
            },
            occurred_at: Some(NOW),
            received_at: NOW,
            amount: None,
            attributes: vec![("product".into(), "prod_0a9f7aeddb019a42db".into())],
            payload: payload.into(),
        }),
    }
}

fn redemption() -> Arc<Lifecycle> {
    Arc::new(Lifecycle::from_toml(include_str!("../../core/lifecycles/reward-redemption.toml")).unwrap())
}

async fn admit(store: &SqliteStore, kind: Kind, receipts: usize, waiting: usize, place: &tempfile::TempDir) {
    let meter = admit_range(store, kind, receipts, waiting).await;
    meter.print(&format!("admit: {}", kind.name), receipts, Some(place));
}

async fn admit_again(store: &SqliteStore, kind: Kind, receipts: usize, waiting: usize, place: &tempfile::TempDir) {
    let meter = admit_range(store, kind, receipts, waiting).await;
    meter.print("admit: redeliveries", receipts, Some(place));
}

async fn admit_range(store: &SqliteStore, kind: Kind, receipts: usize, waiting: usize) -> Meter {
    let lifecycle = redemption();
    let mut meter = Meter::new();
    // In chunks, so that making the admissions is not measured and does not fill the memory.
    for chunk in (0..receipts).collect::<Vec<_>>().chunks(10_000) {
        let admissions: Vec<_> = chunk
            .iter()
            .map(|&number| admission(store, kind, number, &lifecycle))
            .collect();
        let store = store.clone();
        let work = move |items: Arc<Vec<Admission>>, at: usize| {
            let store = store.clone();
            async move {
                let _ = store.admit(vec![items[at].clone()]).await.unwrap();
            }
        };
        meter.measure(spread(admissions, waiting, work)).await;
    }
    meter
}

fn request(rows_max: usize) -> ClaimRequest {
    ClaimRequest {
        worker: "worker-1".into(),
        now: NOW.plus_ms(1000),
        lease_ms: 30_000,
        rows_max,
        passed_over: Vec::new(),
    }
}

fn action(key: &str) -> GrantedAction {
    let flag = Flag {
        subject: "r_1".into(),
        score: 7,
        reasons: vec!["because".into()],
    };
    let proposal = Proposal {
        operation_key: key.into(),
        action: UncheckedAction::Flag(flag),
    };
    judge(vec![proposal], &[Grant::of(ActionKind::Flag)]).unwrap().remove(0)
}

fn settlement(claim: &JobClaim) -> Settlement {
    Settlement {
        job: claim.job,
        epoch: claim.epoch,
        run: RunRecord {
            plugin: "cashback".parse().unwrap(),
            digest: Digest::of(b"p"),
            config_digest: Digest([7; 32]),
            config: "percent = 5".into(),
            runtime: "wasmtime 48.0.8".into(),
            started_at: NOW,
            duration_us: 60,
            fuel: 100_000,
            outcome: "completed".into(),
            message: String::new(),
            reads: vec![],
            logs: vec![],
        },
        end: JobEnd::Done,
        writes: vec![],
        state_total_max: None,
        budgets: Vec::new(),
        actions: vec![action(&format!("cashback:{}", claim.event.id))],
        namespace: "cashback".parse().unwrap(),
        targets: Targets {
            destinations: vec!["shop".parse().unwrap()],
            ..Targets::default()
        },
    }
}

async fn work(store: &SqliteStore, jobs: usize, waiting: usize) {
    let (mut claiming, mut settling) = (Meter::new(), Meter::new());
    let mut done = 0;
    while done < jobs {
        let claims = claiming.measure(store.claim_jobs(request(waiting))).await.unwrap();
        done += claims.len();
        let settlements: Vec<_> = claims.iter().map(settlement).collect();
        let store = store.clone();
        let work = move |items: Arc<Vec<Settlement>>, at: usize| {
            let store = store.clone();
            async move {
                let _ = store.settle(items[at].clone()).await.unwrap();
            }
        };
        settling.measure(spread(settlements, waiting, work)).await;
    }
    claiming.print(&format!("claim jobs, {waiting} at once, per job"), jobs, None);
    settling.print("settle: 1 run, 1 action, 1 outbox entry", jobs, None);
}

async fn deliver(store: &SqliteStore, entries: usize, waiting: usize) {
    let (mut claiming, mut recording) = (Meter::new(), Meter::new());
    let mut done = 0;
    while done < entries {
        let claiming_some = store.claim_outbox(request(waiting), Quotas::unlimited());
        let claims = claiming.measure(claiming_some).await.unwrap().claims;
        done += claims.len();
        let attempts: Vec<_> = claims
            .iter()
            .map(|claim| AttemptRecord {
                entry: claim.entry,
                epoch: claim.epoch,
                started_at: NOW,
                duration_us: 1000,
                end: AttemptEnd::Answered {
                    http_status: 204,
                    retry_after_ms: None,
                },
                answer: "ok".into(),
                entry_end: EntryEnd::Delivered,
            })
            .collect();
        let store = store.clone();
        let work = move |items: Arc<Vec<AttemptRecord>>, at: usize| {
            let store = store.clone();
            async move {
                let _ = store.record_attempt(items[at].clone()).await.unwrap();
            }
        };
        recording.measure(spread(attempts, waiting, work)).await;
    }
    claiming.print(&format!("claim outbox, {waiting} at once, per entry"), entries, None);
    recording.print("record an attempt", entries, None);
}

/// 100,000 waiting jobs, half of them in one lane: a claim must not look at them all.
async fn claim_from_many(directory: &std::path::Path, options: OpenOptions) {
    let place = tempfile::tempdir_in(directory).unwrap();
    let store = SqliteStore::open(place.path().join("t.db"), options).unwrap();
    let lifecycle = redemption();
    let mut admissions: Vec<_> = (0..100_000)
        .map(|number| admission(&store, KINDS[0], number, &lifecycle))
        .collect();
    for (number, admission) in admissions.iter_mut().enumerate() {
        if number % 2 == 0 {
            admission.jobs[0].lane = 7;
        }
    }
    let admitting = store.clone();
    let work = move |items: Arc<Vec<Admission>>, at: usize| {
        let store = admitting.clone();
        async move {
            let _ = store.admit(vec![items[at].clone()]).await.unwrap();
        }
    };
    spread(admissions, 512, work).await;
    for _ in 0..5 {
        let before = Instant::now();
        let claims = store.claim_jobs(request(64)).await.unwrap();
        let claimed = before.elapsed();
        assert_eq!(claims.len(), 64);
        let before = Instant::now();
        let _ = store.settle(settlement(&claims[0])).await.unwrap();
        let settled = before.elapsed();
        let before = Instant::now();
        let due = store.next_due().await.unwrap();
        let asked = before.elapsed();
        println!(
            "100,000 waiting, 50,000 of one lane: claim of 64 {claimed:?}, settle {settled:?}, next_due {asked:?}"
        );
        assert!(due.job.is_some());
    }
    store.close().await;
}
