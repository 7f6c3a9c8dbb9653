//! Stores of every format that was fixed, as they were written then (promise R8): this binary reads each of them, whole, with all that it holds,
//! and goes on with it.
//!
//! A folder is never written again once its format is released. A new format gets a folder of its own:
//! `TOLLGATE_WRITE_FORMAT=1 cargo nextest run -p tollgate-store r8_what_is_kept_now`, after the number here.

use std::path::{Path, PathBuf};

use tollgate_core::delivery::EntryEnd;
use tollgate_store::{
    Admitted, AttemptRecorded, BlockingReads as _, OpenOptions, Outbox as _, Settled, SqliteStore, Store as _,
    Views as _,
};

use crate::sqlite::Sqlite;
use crate::support::{
    ACCEPTED, Backend as _, Sent, SettlementExt as _, at, claim, claim_outbox_one, name, settle, settlement, trace_one,
};

const NEWEST: u32 = 1;
const EVENTS: usize = 24;
/// Has the newest format written into its folder.
const WRITE: &str = "TOLLGATE_WRITE_FORMAT";
/// Most of its pages are empty.
const INDEX: &str = "tollgate.db.zst";

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/{format}"))
}

fn event(id: usize) -> Sent {
    let line = format!(r#"{{"order":"o_{id}"}},"#);
    Sent::new(&format!("e{id}"))
        .of(&format!("r_{}", id % 5))
        .body(&line.repeat(40))
}

/// Writes what [`holds`] looks for.
async fn fill(store: &SqliteStore) {
    for id in 0..EVENTS {
        assert_eq!(event(id).admit(store).await, ACCEPTED);
    }
    assert_eq!(event(3).admit(store).await, Admitted::Same { delivery: 2 });
    let other = event(4).body("other bytes");
    assert_eq!(other.admit(store).await, Admitted::Conflict { delivery: 2 });
    for (number, claim) in claim(store, at(100), 5).await.iter().enumerate() {
        let settlement = settlement(claim)
            .acts(&format!("op-{number}"), 7)
            .writes("seen", Some(b"yes"));
        let settlement = if number == 0 {
            settlement.to("ledger")
        } else {
            settlement
        };
        assert!(matches!(settle(store, settlement).await, Settled::Committed { .. }));
    }
    let delivery = claim_outbox_one(store, at(200)).await;
    let recorded = store
        .record_attempt(crate::suite::attempt(&delivery, 210, EntryEnd::Delivered))
        .await;
    assert_eq!(recorded.unwrap(), AttemptRecorded::Recorded);
}

async fn holds(store: &SqliteStore, what: &str) {
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0], "{what}");
    let counts = store.counts().await.unwrap();
    assert_eq!(
        (
            counts.receipts,
            counts.redeliveries,
            counts.conflicts,
            counts.actions,
            counts.delivered
        ),
        (EVENTS as u64, 1, 1, 5, 1),
        "{what}"
    );
    for id in 0..EVENTS {
        let event = event(id);
        assert!(
            store.event(event.receipt(store)).await.unwrap().payload == event.body,
            "{what}: e{id}"
        );
    }
    let trace = trace_one(store, &event(0)).await;
    let action = &trace.jobs[0].runs[0].actions[0];
    assert_eq!(action.operation_key, "op-0", "{what}");
    assert_eq!(action.deliveries[0].attempts.len(), 1, "{what}");
    let value = store.read_state(&name("acme"), &name("cashback"), "seen").unwrap();
    assert_eq!(value.value.as_deref(), Some(&b"yes"[..]), "{what}");
}

fn place() -> Sqlite {
    Sqlite::with(OpenOptions {
        log_segment_bytes: 16 * 1024,
        ..OpenOptions::default()
    })
}

/// The store that a folder keeps.
fn taken_from(folder: &Path, with_index: bool) -> Sqlite {
    let place = place();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        if file.file_name() != INDEX {
            std::fs::copy(file.path(), place.path().with_file_name(file.file_name())).unwrap();
        } else if with_index {
            let packed = std::fs::read(file.path()).unwrap();
            std::fs::write(place.path(), zstd::stream::decode_all(&packed[..]).unwrap()).unwrap();
        }
    }
    place
}

fn keep_in(folder: &Path, place: &Sqlite) {
    std::fs::create_dir_all(folder).unwrap();
    for file in std::fs::read_dir(place.path().parent().unwrap()).unwrap() {
        let file = file.unwrap();
        if file.path() == place.path() {
            let index = std::fs::read(file.path()).unwrap();
            std::fs::write(folder.join(INDEX), zstd::stream::encode_all(&index[..], 19).unwrap()).unwrap();
        } else if file.path().is_file() && file.file_name() != "tollgate.db.lock" {
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn r8_a_store_of_every_format_is_read_whole_and_goes_on() {
    for format in 1..=NEWEST {
        for with_index in [true, false] {
            let what = format!("format {format}, with its index: {with_index}");
            let place = taken_from(&folder(format), with_index);
            let store = place.open();
            holds(&store, &what).await;
            assert_eq!(Sent::new("next").admit(&store).await, ACCEPTED, "{what}");
            let claims = claim(&store, at(1000), 1).await;
            let settled = settle(&store, settlement(&claims[0]).acts("op-next", 1)).await;
            assert!(matches!(settled, Settled::Committed { .. }), "{what}");
            assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0], "{what}");
            store.close().await;
        }
    }
}

/// What is kept of the next format will be read as it was written; and with [`WRITE`] it is kept in its folder.
#[tokio::test]
async fn r8_what_is_kept_now_is_read_so_too() {
    let place = place();
    let store = place.open();
    fill(&store).await;
    crate::compressed::all_compressed(&place);
    store.close().await;
    let folder = match std::env::var_os(WRITE) {
        Some(_) => folder(NEWEST),
        None => place.path().with_file_name("kept"),
    };
    keep_in(&folder, &place);
    let taken = taken_from(&folder, true);
    let store = taken.open();
    holds(&store, "as it was kept").await;
    store.close().await;
}
