//! R3: a store moves whole from any of its places to any other.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tempfile::TempDir;
use tollgate_core::action::{ActionKind, Verdict};
use tollgate_core::budget::{Budget, Per, Window};
use tollgate_core::bulk::BulkAction;
use tollgate_core::delivery::EntryEnd;
use tollgate_core::filter::Listing;
use tollgate_core::outcome::JobEnd;
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_store::copy::{CopyError, CopyProgress, CopyReport, Place, copy};
use tollgate_store::registry::Act;
use tollgate_store::{
    Admitted, GroupFailures, NewBulk, Notified, OpenOptions, PostgresStore, Quotas, ResendRequest, ReviewDecision,
    SettingsPut, Settled, SqliteStore, StateEdit, Store, StoreError, TraceBy, Views as _,
};

use crate::server::Postgres;
use crate::suite::attempt;
use crate::support::{
    ACCEPTED, Backend as _, Sent, SettlementExt as _, at, claim, claim_one, claim_request, decision, name, settle,
    settlement, times, trace,
};

/// Places for stores of one test.
struct Places(TempDir);

impl Places {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    /// A folder of its own for each name.
    fn path(&self, name: &str) -> PathBuf {
        let folder = self.0.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("tollgate.db")
    }

    fn files(&self, name: &str) -> Place {
        Place::Files(self.path(name))
    }

    fn guest(&self, name: &str) -> Place {
        Place::Guest(self.path(name))
    }
}

fn server_of(server: &Postgres) -> Place {
    Place::Server(Secret::new(server.url().into_bytes()))
}

fn copied(from: &Place, to: &Place) -> CopyReport {
    copy(from, to, false, &mut |_| {}).unwrap()
}

fn refused(from: &Place, to: &Place) -> String {
    match copy(from, to, false, &mut |_| {}) {
        Err(error @ CopyError::Refused { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// So many of what `acts` does, in a month.
fn flags(actions: u32) -> Budget {
    Budget {
        kind: ActionKind::Flag,
        per: Per::Route,
        ..times(Window::Month, actions)
    }
}

/// Brings something into every table.
async fn fill(store: &impl Store) {
    crate::registry::fill(store).await;
    let first = Sent::new("e1").of("r_1").status("pending");
    assert_eq!(first.admit(store).await, ACCEPTED);
    assert!(matches!(first.admit(store).await, Admitted::Same { .. }));
    let other_bytes = Sent::new("e1").of("r_1").status("pending").body("{}");
    assert!(matches!(other_bytes.admit(store).await, Admitted::Conflict { .. }));
    assert_eq!(Sent::new("m1").message("what was signed").admit(store).await, ACCEPTED);
    assert_eq!(Sent::new("nobody").routes(&[]).admit(store).await, ACCEPTED);
    let held = Sent::new("held").of("r_2").unmapped();
    assert!(matches!(held.admit(store).await, Admitted::New(_)));
    let _ = store
        .review(crate::support::map(store, &held, "completed", 3))
        .await
        .unwrap();
    assert!(matches!(
        Sent::new("held again").of("r_3").unmapped().admit(store).await,
        Admitted::New(_)
    ));
    // Two that act, one that repeats the first, one that contradicts it, one that is held, one that dies.
    for (event, ends) in [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)] {
        assert_eq!(Sent::new(event).admit(store).await, ACCEPTED, "{ends}");
    }
    let claims = claim(store, at(10), 100).await;
    assert!(claims.len() >= 7, "{}", claims.len());
    for taken in &claims {
        let plain = settlement(taken);
        let settlement = match taken.event.id.as_str() {
            "a" => plain
                .acts("op", 1)
                .to("shop")
                .to("books")
                .reads("k", 0, None)
                .writes("k", Some(b"\x00v"))
                .within(&[flags(1)]),
            "b" => plain.acts("op", 1).to("shop"),
            "c" => plain.acts("op", 2).to("shop"),
            "d" => plain.end(JobEnd::Held {
                reason: "who knows".into(),
            }),
            "e" => plain.end(JobEnd::Dead {
                reason: "trap: it fell".into(),
            }),
            // Leased when the store is closed.
            "m1" => continue,
            _ => plain,
        };
        assert!(matches!(settle(store, settlement).await, Settled::Committed { .. }));
        if taken.event.id.as_str() == "d" {
            let dismissed = decision(Target::Job(taken.job), ReviewDecision::Dismiss, 20);
            let _ = store.review(dismissed).await.unwrap();
        }
    }
    let entries = store
        .claim_outbox(claim_request(at(30), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    assert_eq!(entries.len(), 2);
    let ends = [EntryEnd::Delivered, EntryEnd::Dead { reason: "410".into() }];
    for (entry, end) in entries.iter().zip(ends) {
        let _ = store.record_attempt(attempt(entry, 40, end)).await.unwrap();
    }
    let resend = ResendRequest {
        entries: vec![entries[0].entry],
        now: at(50),
        actor: "ana".into(),
        why: "their database was lost".into(),
    };
    store.resend(resend).await.unwrap();
    let act = Act {
        actor: "ana".into(),
        why: Some("they move".into()),
        at: at(55),
        dry_run: false,
    };
    store
        .pause(name("acme"), tollgate_store::Place::Destination(name("elsewhere")), act)
        .await
        .unwrap();
    let settings = crate::settings::new("[sources]\n# é\n", 0);
    assert!(matches!(
        store.put_settings(settings).await.unwrap(),
        SettingsPut::Kept(_)
    ));
    let secret = crate::settings::secret("stripe", b"\x00\xff sealed");
    assert!(!store.put_secret(name("acme"), secret).await.unwrap());
    let edit = StateEdit {
        tenant: name("acme"),
        plugin: name("cashback"),
        key: "customer/c_1".to_owned(),
        value: Some(b"{}".to_vec()),
        version: 0,
        actor: "ann".to_owned(),
        why: "a test".to_owned(),
        now: at(60),
        dry_run: false,
    };
    let _ = store.edit_state(edit).await.unwrap();
    let bulk = NewBulk {
        action: BulkAction::Replay,
        to: None,
        list: Listing::Jobs,
        filter: "status:dead".to_owned(),
        tenant: None,
        actor: "ana".to_owned(),
        why: "a test".to_owned(),
        started_at: at(70),
        expected: 1,
        upto: 1,
    };
    let _ = store.start_bulk(bulk).await.unwrap();
    let failures = GroupFailures {
        notified: Notified::new(),
        now: at(80),
    };
    assert_eq!(store.group_failures(failures).await.unwrap(), 2);
}

async fn everything(store: &impl Store) -> String {
    serde_json::to_string(&trace(store, TraceBy::Newest).await).unwrap()
}

async fn filled(place: &Place) -> String {
    let Place::Files(path) = place else { unreachable!() };
    let store = SqliteStore::open(path, OpenOptions::default()).unwrap();
    fill(&store).await;
    let everything = everything(&store).await;
    store.close().await;
    // Whoever opens a store frees what was leased.
    let leased = r#""state":"leased","attempts":1,"due_at":null"#;
    let free = r#""state":"ready","attempts":1,"due_at":"1970-01-01T00:00:00.000Z""#;
    assert!(everything.contains(leased));
    everything.replace(leased, free)
}

/// Of its store, that it is whole, knows what it took in, and goes on.
async fn goes_on(store: &impl Store, everything_was: &str) {
    assert!(everything(store).await == everything_was, "the traces differ");
    assert!(matches!(
        Sent::new("e1").of("r_1").status("pending").admit(store).await,
        Admitted::Same { .. }
    ));
    assert!(matches!(
        Sent::new("m1").message("what was signed").admit(store).await,
        Admitted::Same { .. }
    ));
    assert_eq!(
        Sent::new("new").of("r_1").status("completed").admit(store).await,
        ACCEPTED
    );
    let claims = claim(store, at(100), 10).await;
    assert!(
        claims.iter().any(|taken| taken.event.id.as_str() == "m1"),
        "what was leased is free"
    );
    let newest = claims.iter().find(|taken| taken.event.id.as_str() == "new").unwrap();
    let again = settlement(newest).acts("op", 1);
    let Settled::Committed { verdicts, .. } = settle(store, again).await else {
        panic!()
    };
    assert_eq!(verdicts, [Verdict::AlreadyDone]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_store_moves_to_postgresql_and_back_table_by_table() {
    let Some(server) = Postgres::if_there() else { return };
    let places = Places::new();
    let (here, back) = (places.files("here"), places.files("back"));
    let was = filled(&here).await;
    let there = copied(&here, &server_of(&server));
    let empty: BTreeSet<&str> = there
        .tables
        .iter()
        .filter(|(_, table)| table.rows == 0)
        .map(|(name, _)| name.as_str())
        .collect();
    let not_filled = BTreeSet::from(["fault_rows"]);
    assert!(empty.is_subset(&not_filled), "a table that no test copies: {empty:?}");
    assert_eq!((there.found, there.texts_changed), (0, 1));
    let again = copied(&server_of(&server), &back);
    assert_eq!(
        (&again.tables, again.newest, again.store),
        (&there.tables, there.newest, there.store)
    );
    let Place::Files(path) = &back else { unreachable!() };
    let store = SqliteStore::open(path, OpenOptions::default()).unwrap();
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
    goes_on(&store, &was).await;
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
    let store = PostgresStore::open(&Secret::new(server.url().into_bytes())).unwrap();
    goes_on(&store, &was).await;
    assert_eq!(store.problems().unwrap(), [] as [String; 0]);
}

/// PostgreSQL keeps no NUL in a text, and a receipt's text is part of its chain: what cannot be kept as it was is not called whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_what_is_read_back_otherwise_is_not_called_whole_and_no_host_opens_it() {
    let Some(server) = Postgres::if_there() else { return };
    let places = Places::new();
    let here = places.files("here");
    let Place::Files(path) = &here else { unreachable!() };
    let store = SqliteStore::open(path, OpenOptions::default()).unwrap();
    let sent = Sent::new("e1").of("r_1").labelled("a\0b");
    assert!(matches!(sent.admit(&store).await, Admitted::New(_)));
    store.close().await;
    let said = copy(&here, &server_of(&server), false, &mut |_| {})
        .unwrap_err()
        .to_string();
    assert!(said.contains("receipts"), "{said}");
    let opened = PostgresStore::open(&Secret::new(server.url().into_bytes()));
    assert!(opened.unwrap_err().to_string().contains("copy"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_store_moves_to_a_spin_apps_file_and_back_table_by_table() {
    let places = Places::new();
    let (here, back) = (places.files("here"), places.files("back"));
    let was = filled(&here).await;
    let there = copied(&here, &places.guest("spin"));
    // It is known as a guest's without being told.
    let again = copied(&places.files("spin"), &back);
    assert_eq!(
        (&again.tables, again.newest, again.store),
        (&there.tables, there.newest, there.store)
    );
    // And once more from the same, with nothing lost of the first.
    assert_eq!(copied(&back, &places.guest("other")).tables, there.tables);
    let Place::Files(path) = &back else { unreachable!() };
    let store = SqliteStore::open(path, OpenOptions::default()).unwrap();
    goes_on(&store, &was).await;
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
    store.close().await;
    // A log that was copied makes its index again.
    SqliteStore::rebuild(path, &mut |_, _| {}).unwrap();
    let store = SqliteStore::open_read_only(path).unwrap();
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
    let settings = store.settings(name("acme"), None).await.unwrap().unwrap();
    let secrets = store.sealed_secrets(name("acme")).await.unwrap();
    assert_eq!(
        (settings.text.as_str(), secrets[0].sealed.as_slice()),
        ("[sources]\n# é\n", &b"\x00\xff sealed"[..])
    );
}

/// A copy is ended at its piece of a number; the panic is the test's own.
fn ended_at(from: &Place, to: &Place, piece: usize) {
    let mut pieces = 0;
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        copy(from, to, false, &mut |progress| {
            if matches!(progress, CopyProgress::Copying { .. }) {
                pieces += 1;
                assert!(pieces < piece, "ended here");
            }
        })
    }));
    assert!(ended.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_copy_that_was_ended_goes_on_and_no_host_opens_it_before() {
    let places = Places::new();
    let server = Postgres::if_there();
    let here = places.files("here");
    filled(&here).await;
    let whole = copied(&here, &places.files("whole"));
    let other = places.files("other");
    filled(&other).await;
    for piece in [1, 2, 9, 30] {
        let mut targets = vec![
            places.files(&format!("log {piece}")),
            places.guest(&format!("spin {piece}")),
        ];
        targets.extend(server.iter().filter(|_| piece == 9).map(server_of));
        for to in targets {
            ended_at(&here, &to, piece);
            let opened = match &to {
                Place::Files(path) => SqliteStore::open(path, OpenOptions::default()).map(drop),
                Place::Guest(path) => SqliteStore::open_read_only(path).map(drop),
                Place::Server(url) => PostgresStore::open(url).map(drop),
            };
            let Err(StoreError::Open { detail, .. }) = opened else {
                panic!("{to:?} is opened")
            };
            assert!(detail.contains("repeat `tollgate copy`"), "{detail}");
            let said = refused(&other, &to);
            assert!(
                said.contains("beginning of a copy of store_") || said.contains("a store is there already"),
                "{said}"
            );
            let report = copied(&here, &to);
            assert!(report.found > 0, "{report:?}");
            // PostgreSQL keeps no NUL.
            let mut tables = report.tables;
            if matches!(to, Place::Server(_)) {
                tables.insert("shadow_runs".to_owned(), whole.tables["shadow_runs"]);
            }
            assert_eq!((tables, report.newest), (whole.tables.clone(), whole.newest));
            // Once more is no harm, and does nothing.
            let again = copied(&here, &to);
            assert_eq!((again.found, again.newest), (again.rows(), whole.newest));
        }
    }
}

/// A new index has all of its schema or none of it, and whoever was ended before the first piece leaves nothing that is in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_copy_that_was_ended_before_its_first_piece_begins_again() {
    let places = Places::new();
    let here = places.files("here");
    filled(&here).await;
    let mut failed = 0;
    // The index may have so few pages that its schema does not fit; with more of them it fails further on.
    for pages in (1..).step_by(17) {
        let to = places.path(&format!("to {pages}"));
        std::fs::copy(
            places.path("here").with_extension("db-key"),
            to.with_extension("db-key"),
        )
        .unwrap();
        let options = OpenOptions {
            file_bytes_max: Some(pages * 8192),
            ..OpenOptions::default()
        };
        if SqliteStore::open(&to, options).is_ok() {
            break;
        }
        failed += 1;
        copied(&here, &Place::Files(to));
    }
    assert!(failed > 3, "{failed}");
    let guest = places.path("guest");
    let raw = rusqlite::Connection::open(&guest).unwrap();
    raw.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    drop(raw);
    assert!(guest.metadata().unwrap().len() > 0);
    copied(&here, &Place::Guest(guest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_source_that_changed_is_not_gone_on_with() {
    let places = Places::new();
    let (here, to) = (places.files("here"), places.guest("to"));
    filled(&here).await;
    ended_at(&here, &to, 20);
    let Place::Files(path) = &here else { unreachable!() };
    let store = SqliteStore::open(path, OpenOptions::default()).unwrap();
    let leased = claim_one(&store, at(1000)).await;
    let _ = settle(&store, settlement(&leased)).await;
    store.close().await;
    let Err(CopyError::NotWhole(problems)) = copy(&here, &to, false, &mut |_| {}) else {
        panic!()
    };
    assert!(problems[0].contains("the source has changed"), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_what_somebody_has_open_is_not_copied_and_what_is_taken_not_written() {
    let places = Places::new();
    let (here, taken) = (places.files("here"), places.files("taken"));
    filled(&here).await;
    filled(&taken).await;
    assert!(refused(&here, &taken).contains("a store is there already"));
    assert!(refused(&here, &here).contains("it is the source"));
    let Place::Files(path) = &here else { unreachable!() };
    let host = SqliteStore::open(path, OpenOptions::default()).unwrap();
    let beside = copy(&here, &places.guest("a"), false, &mut |_| {});
    assert!(
        matches!(beside, Err(CopyError::Store(StoreError::InUse { .. }))),
        "{beside:?}"
    );
    host.close().await;
    let guest = places.guest("guest");
    copied(&here, &guest);
    let Place::Guest(file) = &guest else { unreachable!() };
    let app = rusqlite::Connection::open(file).unwrap();
    app.query_row("SELECT count(*) FROM meta", [], |_| Ok(())).unwrap();
    let Err(CopyError::Store(error)) = copy(&guest, &places.files("b"), false, &mut |_| {}) else {
        panic!()
    };
    assert!(error.to_string().contains("an app has it open"), "{error}");
    drop(app);
    let dry = copy(&guest, &places.files("c"), true, &mut |_| {}).unwrap();
    assert!(dry.rows() > 30 && dry.tables["receipts"].digest.is_none());
    assert!(!places.path("c").exists());
    if let Some(server) = Postgres::if_there() {
        let host = server.open();
        let Err(CopyError::Store(error)) = copy(&guest, &server_of(&server), false, &mut |_| {}) else {
            panic!()
        };
        assert!(error.to_string().contains("a host has it open"), "{error}");
        host.close().await;
        drop(host);
        copied(&guest, &server_of(&server));
    }
}

/// One byte of one body: it is said, and nothing is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o5_a_source_that_is_not_whole_is_not_copied() {
    let places = Places::new();
    let (here, guest) = (places.files("here"), places.guest("guest"));
    filled(&here).await;
    copied(&here, &guest);
    let Place::Guest(file) = &guest else { unreachable!() };
    let raw = rusqlite::Connection::open(file).unwrap();
    raw.execute("UPDATE receipts SET body = x'00' WHERE seq = 2", [])
        .unwrap();
    drop(raw);
    let Err(CopyError::NotWhole(problems)) = copy(&guest, &places.files("to"), false, &mut |_| {}) else {
        panic!()
    };
    assert_eq!(problems, ["receipt 2: its body is not the one that was admitted"]);
    assert!(!places.path("to").exists());
}
