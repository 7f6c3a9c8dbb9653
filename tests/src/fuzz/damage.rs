//! A store whose files were damaged: bits turned, ranges overwritten, moved and cut off, in the database, its log and its bodies.
//! Reader, writer and audit answer or say what is wrong; none of them panics or stays away, and what an audit calls whole is whole.
//!
//! An input is a byte that chooses the store, and pieces of nine bytes, each a change of its files. The stores are the same each time:
//! their key, and so their receipts' ids and links, is a constant.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tollgate_core::action::{ActionKind, Flag, Proposal, UncheckedAction};
use tollgate_core::admission::{Admission, Identity};
use tollgate_core::checkpoint::Checkpoint;
use tollgate_core::delivery::{AttemptEnd, EntryEnd};
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::grant::{Grant, judge};
use tollgate_core::ids::{Digest, ReceiptId};
use tollgate_core::outcome::JobEnd;
use tollgate_core::route::RouteMatch;
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;
use tollgate_store::{
    Admitted, AttemptRecord, ClaimRequest, DeadLetterFilter, Intake as _, Layout, OpenOptions, Outbox as _, Quotas,
    ReceiptKey as _, RecordedRunFilter, RunRecord, SetAsideFilter, Settlement, SqliteStore, Store as _, Targets,
    TraceBy, TraceQuery, Views as _, Work as _,
};

use super::{Input, Target, said};

pub(super) const TARGET: Target = Target {
    name: "damage",
    what: "damaged stores: audit, reader and writer on files with bits turned, ranges moved and ends cut off",
    seeds,
    run,
    short: 120,
};

const FILES: [&str; 4] = [
    "tollgate.db",
    "tollgate.db-wal",
    "tollgate.db-log-0000000000000000",
    "tollgate.db-key",
];
const KEY: [u8; 32] = *b"the key of every store in here..";
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
const EVENTS: usize = 24;
/// Longer than anything of this size can take.
const PATIENCE: Duration = Duration::from_secs(20);
/// One change of a file.
const CHANGE_BYTES: usize = 9;

/// A store as its files, and what is true of it.
struct Image {
    options: OpenOptions,
    files: [Option<Vec<u8>>; FILES.len()],
    checkpoint: Checkpoint,
    events: Vec<Event>,
}

fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let layouts = [
            (Layout::Log, 4, true),
            (Layout::Log, 65_536, false),
            (Layout::Rows, 4, true),
            (Layout::Rows, 4, false),
        ];
        layouts
            .into_iter()
            .map(|(layout, keys_in_memory_max, hot)| {
                let options = OpenOptions {
                    layout,
                    keys_in_memory_max,
                    recent_bytes_max: 0,
                    ..OpenOptions::default()
                };
                image(options, hot)
            })
            .collect()
    })
}

fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a folder")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    thread_local!(static RUNTIME: OnceCell<tokio::runtime::Runtime> = const { OnceCell::new() });
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.max_blocking_threads(2).enable_all().build().expect("a runtime")
        });
        runtime.block_on(work)
    })
}

/// Makes a store and works with it. A hot one is taken as it lies while its host runs, with everything in the log.
fn image(options: OpenOptions, hot: bool) -> Image {
    let folder = folder();
    let path = folder.path().join(FILES[0]);
    fs::write(folder.path().join(FILES[3]), KEY).expect("the key");
    let store = SqliteStore::open(&path, options).expect("the store");
    let events = (0..EVENTS).map(event).collect();
    block_on(work(&store));
    if hot {
        // Whoever reads has the index follow.
        block_on(store.counts()).expect("counts");
    } else {
        block_on(store.close());
    }
    let files = FILES.map(|file| fs::read(folder.path().join(file)).ok());
    drop(store);
    let place = folder_with(&files);
    let report = SqliteStore::audit(place.path().join(FILES[0]), &[], &mut |_| {}).expect("an audit");
    assert!(
        report.is_whole() && report.whole.receipts == EVENTS as u64,
        "{report:?}"
    );
    Image {
        options,
        files,
        events,
        checkpoint: Checkpoint {
            store: report.store.expect("a key"),
            at: NOW,
            chain: Some(report.whole),
            tenants: report
                .tenants
                .into_iter()
                .map(|(name, found)| (name, found.mark))
                .collect(),
        },
    }
}

fn folder_with(files: &[Option<Vec<u8>>; FILES.len()]) -> TempDir {
    let folder = folder();
    for (name, bytes) in FILES.iter().zip(files) {
        if let Some(bytes) = bytes {
            fs::write(folder.path().join(name), bytes).expect("a file");
        }
    }
    folder
}

fn event(number: usize) -> Event {
    let id = format!("evt_{number}");
    Event {
        tenant: ["acme", "globex"][number % 2].parse().expect("a name"),
        source: "shop".parse().expect("a name"),
        id: id.parse().expect("an id"),
        event_type: "reward.redeemed".parse().expect("a type"),
        subject: format!("red_{}", number % 5).parse().ok(),
        reading: StatusReading::Stateless,
        occurred_at: Some(NOW),
        received_at: NOW.plus_ms(number as i64),
        amount: None,
        attributes: vec![("customer".to_owned(), "c_1".to_owned())],
        payload: format!("{{\"id\":\"{id}\",\"text\":\"{}\"}}", "x".repeat(number * 60))
            .into_bytes()
            .into(),
    }
}

fn admission(store: &SqliteStore, event: Event) -> Admission {
    let proof = Proof {
        provider: "standard-webhooks".parse().expect("a name"),
        profile_version: 1,
        scheme: "v1".to_owned(),
        key_id: "a".parse().expect("an id"),
        signed_at: Some(NOW),
    };
    let route = ("cashback".parse().expect("a name"), RouteMatch::default());
    Admission::of(
        store.receipt_key(),
        event,
        Identity::EventId,
        proof,
        None,
        &mut [(&route.0, &route.1)].into_iter(),
    )
}

fn claims(rows_max: usize) -> ClaimRequest {
    ClaimRequest {
        worker: "w".to_owned(),
        now: NOW.plus_ms(1_000),
        lease_ms: 30_000,
        rows_max,
        passed_over: Vec::new(),
    }
}

/// A little of everything that leaves rows.
async fn work(store: &SqliteStore) {
    for number in 0..EVENTS {
        let admitted = store
            .admit(vec![admission(store, event(number))])
            .await
            .expect("an admission");
        assert!(matches!(&admitted[..], [Admitted::New(_)]), "{admitted:?}");
        if number % 6 == 0 {
            let again = store
                .admit(vec![admission(store, event(number))])
                .await
                .expect("a redelivery");
            assert!(matches!(&again[..], [Admitted::Same { .. }]), "{again:?}");
        }
    }
    for claim in store.claim_jobs(claims(8)).await.expect("claims") {
        let proposal = Proposal {
            operation_key: format!("flag:{}", claim.job),
            action: UncheckedAction::Flag(Flag {
                subject: "s".to_owned(),
                score: 1,
                reasons: Vec::new(),
            }),
        };
        let settlement = Settlement {
            job: claim.job,
            epoch: claim.epoch,
            run: RunRecord {
                plugin: "cashback".parse().expect("a name"),
                digest: Digest::of(b"plugin"),
                config_digest: Digest::of(b"{}"),
                config: "{}".to_owned(),
                runtime: "none".to_owned(),
                started_at: NOW,
                duration_us: 1,
                fuel: 1,
                outcome: "completed".to_owned(),
                message: String::new(),
                reads: Vec::new(),
                logs: Vec::new(),
            },
            end: JobEnd::Done,
            writes: Vec::new(),
            state_total_max: None,
            budgets: Vec::new(),
            actions: judge(vec![proposal], &[Grant::of(ActionKind::Flag)]).expect("a grant"),
            namespace: "books".parse().expect("a name"),
            targets: Targets {
                destinations: vec!["books".parse().expect("a name")],
                ..Targets::default()
            },
        };
        let _ = store.settle(settlement).await.expect("a settlement");
    }
    for (at, claim) in store
        .claim_outbox(claims(4), Quotas::unlimited())
        .await
        .expect("claims")
        .claims
        .iter()
        .enumerate()
    {
        let attempt = AttemptRecord {
            entry: claim.entry,
            epoch: claim.epoch,
            started_at: NOW,
            duration_us: 1,
            end: AttemptEnd::Answered {
                http_status: 200,
                retry_after_ms: None,
            },
            answer: String::new(),
            entry_end: [
                EntryEnd::Delivered,
                EntryEnd::Dead {
                    reason: "no".to_owned(),
                },
            ][at % 2]
                .clone(),
        };
        let _ = store.record_attempt(attempt).await.expect("an attempt");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let change = |file: u8, kind: u8, at: u32, value: u8, length: u16| {
        let mut change = vec![file, kind];
        change.extend(at.to_le_bytes());
        change.push(value);
        change.extend(length.to_le_bytes());
        change
    };
    let mut seeds = Vec::new();
    for image in 0..4_u8 {
        seeds.push(vec![image]);
        for file in 0..3 {
            for kind in 0..7 {
                let at = 40_000 * u32::from(kind) + 777 * u32::from(file);
                seeds.push([vec![image], change(file, kind, at, 0x5A, 200)].concat());
            }
        }
    }
    seeds
}

fn run(input: &[u8]) {
    let begun = Instant::now();
    let mut input = Input(input);
    let image = &images()[usize::from(input.byte()) % 4];
    let mut files = image.files.clone();
    while input.0.len() >= CHANGE_BYTES {
        change(&mut files, &mut input);
    }
    let place = folder_with(&files);
    let path = place.path().join(FILES[0]);
    let audit = SqliteStore::audit(&path, std::slice::from_ref(&image.checkpoint), &mut |_| {});
    let is_whole = match &audit {
        Ok(report) => report.is_whole(),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    };
    read(&path, image, is_whole);
    write(&path, image, is_whole);
    assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
}

fn change(files: &mut [Option<Vec<u8>>; FILES.len()], input: &mut Input<'_>) {
    let (file, kind) = (input.byte(), input.byte());
    let place = input
        .bytes(4)
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let value = input.byte();
    let length = input
        .bytes(2)
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let slot = &mut files[usize::from(file) % 3];
    let Some(bytes) = slot.as_mut().filter(|bytes| !bytes.is_empty()) else {
        return;
    };
    let at = place % bytes.len();
    let end = (at + length).min(bytes.len());
    match kind % 8 {
        0 => bytes[at] ^= 1 << (value % 8),
        1 => bytes[at] = value,
        2 => bytes[at..end].fill(value),
        3 => bytes.truncate(at),
        4 => {
            // From somewhere else in the file.
            let from = (place / 7) % bytes.len();
            let length = (end - at).min(bytes.len() - from);
            bytes.copy_within(from..from + length, at);
        }
        5 => {
            // Two pages change places.
            const PAGE: usize = 8 * 1024;
            let pages = bytes.len() / PAGE;
            if pages > 1 {
                let (one, other) = (at / PAGE % pages, usize::from(value) % pages);
                for byte in 0..PAGE {
                    bytes.swap(one * PAGE + byte, other * PAGE + byte);
                }
            }
        }
        6 => bytes.extend(std::iter::repeat_n(value, length)),
        _ => *slot = None,
    }
}

/// What any command asks of a store beside its host.
fn read(path: &Path, image: &Image, is_whole: bool) {
    let store = match SqliteStore::open_read_only(path) {
        Ok(store) => store,
        Err(error) => {
            assert!(!is_whole, "an audit calls it whole: {error}");
            return assert!(!error.to_string().is_empty());
        }
    };
    block_on(async {
        let everything = TraceQuery {
            by: TraceBy::Newest,
            tenant: None,
            after: None,
            receipts_max: 100,
        };
        let _ = store.trace(everything).await;
        let _ = store.counts().await;
        let _ = store.next_due().await;
        let _ = store.dead_letters(DeadLetterFilter::default()).await;
        let _ = store.set_aside(SetAsideFilter::default()).await;
        let _ = store.recorded_runs(RecordedRunFilter::default()).await;
        for id in ["evt_7", "red_3", "flag:job_2"] {
            let by = TraceQuery {
                by: TraceBy::named(id),
                tenant: None,
                after: None,
                receipts_max: 100,
            };
            let _ = store.trace(by).await;
        }
        let _ = store.audited();
        // All of them where all must be right; elsewhere a few, which is quicker.
        let looked_at = if is_whole { EVENTS } else { 2 };
        for event in image.events.iter().take(looked_at) {
            let found = store.event(receipt(event)).await;
            match found {
                Ok(found) if is_whole => assert_eq!(said(&found), said(event), "an audit calls it whole"),
                Err(error) if is_whole => panic!("an audit calls it whole: {error}"),
                Ok(_) | Err(_) => {}
            }
        }
        store.close().await;
    });
}

fn receipt(event: &Event) -> ReceiptId {
    let key = Secret::new(KEY.to_vec());
    tollgate_core::admission::receipt_id(&key, &event.tenant, &event.source, &event.id)
}

/// A host that starts on it. It may refuse; what it takes in, it must know again.
fn write(path: &Path, image: &Image, is_whole: bool) {
    let store = match SqliteStore::open(path, image.options) {
        Ok(store) => store,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    block_on(async {
        let mut taken = BTreeSet::new();
        for number in [EVENTS + 1, 3, EVENTS + 2, EVENTS + 1] {
            let admission = admission(&store, event(number));
            let id = admission.receipt;
            match store
                .admit(vec![admission])
                .await
                .map(|mut admitted| admitted.remove(0))
            {
                Ok(Admitted::New(_)) => {
                    assert!(taken.insert(id), "the same event is new twice");
                    assert!(
                        !is_whole || number != 3,
                        "an audit calls it whole, and it does not know its own event"
                    );
                }
                Ok(Admitted::Conflict { .. }) => {
                    assert!(!is_whole, "an audit calls it whole, and its bodies are others")
                }
                Ok(Admitted::Replaced { .. }) => panic!("no source here replaces what is held"),
                Ok(Admitted::Same { .. } | Admitted::SuspectedReplay { .. }) | Err(_) => {}
            }
        }
        let _ = store.claim_jobs(claims(50)).await;
        let _ = store.claim_outbox(claims(50), Quotas::unlimited()).await;
        let _ = store.audited();
        store.close().await;
    });
}
