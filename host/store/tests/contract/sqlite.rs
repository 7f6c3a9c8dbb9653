//! What is SQLite's own: its files, one process, one writer, and what becomes of them when things go wrong.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tempfile::TempDir;
use tollgate_core::limits::COUNTED_MAX;
use tollgate_store::copy::Place;
use tollgate_store::{
    Admitted, Control as _, DeadLetterFilter, Intake as _, Layout, OpenOptions, ReceiptKey as _, ReplayRequest,
    ReplayWhat, SetAsideFilter, SetAsideKind, SqliteStore, Store as _, StoreError, TraceBy, Views as _, Work as _,
};

use crate::support::{ACCEPTED, Backend, Sent, at, claim_one, settlement, trace_one, trace_text};

/// A directory for one store, and how it is opened.
pub(crate) struct Sqlite(TempDir, OpenOptions);

impl Sqlite {
    pub(crate) fn new() -> Self {
        Self::with(OpenOptions::default())
    }

    pub(crate) fn with(options: OpenOptions) -> Self {
        Self(tempfile::tempdir().unwrap(), options)
    }

    /// Keeps receipts as rows.
    pub(crate) fn of_rows() -> Self {
        Self::with(OpenOptions {
            layout: Layout::Rows,
            ..OpenOptions::default()
        })
    }

    /// Keeps receipts in a log and next to nothing of them in memory: keys are on their way into the indexes all the time. The log begins a
    /// new segment every few records.
    pub(crate) fn of_log_without_memory() -> Self {
        Self::with(OpenOptions {
            log_segment_bytes: 8 * 1024,
            layout: Layout::Log,
            keys_in_memory_max: 2,
            recent_bytes_max: 0,
            ..OpenOptions::default()
        })
    }

    /// In memory where the system has a place for that: for many short stores whose durability is not the question.
    pub(crate) fn quick(self) -> Self {
        Self(
            tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()),
            self.1,
        )
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("tollgate.db")
    }

    /// The files of the log, in order, and the key.
    fn log_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|file| file.unwrap().path());
        let is_of_log = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("tollgate.db-log-") || ["tollgate.db-key", "tollgate.db-begun"].contains(&name)
        };
        let mut files: Vec<_> = files.filter(is_of_log).collect();
        files.sort();
        files
    }

    /// Gives the store that will be here a key of its own choice.
    pub(crate) fn with_key(self, key: &[u8]) -> Self {
        std::fs::write(self.0.path().join("tollgate.db-key"), key).unwrap();
        self
    }

    pub(crate) fn key(&self) -> Vec<u8> {
        std::fs::read(self.0.path().join("tollgate.db-key")).unwrap()
    }

    /// The newest segment of the log.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.log_files().pop().unwrap()
    }

    fn copy_log(&self, to: &Self) {
        for file in self.log_files() {
            let copied = |file: &PathBuf| std::fs::copy(file, to.0.path().join(file.file_name().unwrap()));
            // A full segment may be replaced by its compressed file meanwhile.
            let replaced = || copied(&PathBuf::from(format!("{}.zst", file.display())));
            copied(&file).or_else(|_| replaced()).unwrap();
        }
    }

    /// What a loss of power leaves of `self` when the disk kept of the index what `earlier` holds, and `log` of the newest segment.
    pub(crate) fn after_power_loss(&self, earlier: &Self, log: &[u8]) -> Self {
        let left = Self::with(self.1).quick();
        for file in ["tollgate.db", "tollgate.db-wal"] {
            std::fs::copy(earlier.0.path().join(file), left.0.path().join(file)).unwrap();
        }
        self.copy_log(&left);
        std::fs::write(left.log_path(), log).unwrap();
        left
    }

    /// A copy of a closed store as a guest has it: one file of rows.
    pub(crate) fn exported(&self) -> Self {
        let copy = Self::new().quick();
        tollgate_store::copy::copy(
            &Place::Files(self.path()),
            &Place::Guest(copy.path()),
            false,
            &mut |_| {},
        )
        .unwrap();
        assert!(copy.log_files().is_empty(), "a guest's store is one file");
        copy
    }

    /// A closed store's files in another place.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::with(self.1).quick();
        std::fs::copy(self.path(), copy.path()).unwrap();
        self.copy_log(&copy);
        copy
    }

    /// A copy of the files in the middle of whatever goes on: what a process that dies now leaves behind.
    pub(crate) fn copied_as_it_is(&self, options: OpenOptions) -> Self {
        let copy = Self::with(options).quick();
        for file in ["tollgate.db", "tollgate.db-wal"] {
            std::fs::copy(self.0.path().join(file), copy.0.path().join(file)).unwrap();
        }
        self.copy_log(&copy);
        copy
    }

    /// How many pages of the WAL are in the file already, as its index has it (`nBackfill`, https://www.sqlite.org/walformat.html).
    pub(crate) fn wal_moved(&self) -> u32 {
        let index = std::fs::read(self.0.path().join("tollgate.db-shm")).unwrap_or_default();
        let moved = index.get(96..100).and_then(|bytes| bytes.try_into().ok());
        moved.map_or(0, u32::from_ne_bytes)
    }

    pub(crate) fn wal_bytes(&self) -> u64 {
        std::fs::metadata(self.0.path().join("tollgate.db-wal")).map_or(0, |wal| wal.len())
    }

    /// How often the WAL was begun anew, because all of it had been moved: bytes 12 to 15, as SQLite's file format has them.
    fn wal_begun(&self) -> Option<u32> {
        let wal = std::fs::read(self.0.path().join("tollgate.db-wal")).ok()?;
        Some(u32::from_be_bytes(*wal.get(12..)?.first_chunk()?))
    }

    fn try_open(&self, options: OpenOptions) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.path(), options)
    }

    pub(crate) fn read_only(&self) -> SqliteStore {
        SqliteStore::open_read_only(self.path()).unwrap()
    }

    /// The file itself, as a person with a database shell has it.
    pub(crate) fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

impl Backend for Sqlite {
    type Store = SqliteStore;

    fn open(&self) -> SqliteStore {
        self.try_open(self.1).unwrap()
    }

    /// The chain of receipts and what leads from row to row; and the index as a whole, held against the log.
    fn problems(&self, store: &SqliteStore) -> Vec<String> {
        store.problems().unwrap()
    }
}

/// A file that was removed or replaced takes writes and syncs, and loses them with the process.
#[tokio::test]
async fn a_store_whose_files_are_gone_acknowledges_nothing() {
    for (file, replaced) in [
        ("tollgate.db", false),
        ("tollgate.db", true),
        ("tollgate.db-log-0000000000000000", false),
        ("tollgate.db-log-0000000000000000", true),
    ] {
        let place = Sqlite::new();
        let store = place.open();
        assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
        let path = place.0.path().join(file);
        if replaced {
            let copy = place.0.path().join("copy");
            std::fs::copy(&path, &copy).unwrap();
            std::fs::rename(&copy, &path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        for event in ["e2", "e3"] {
            let error = store.admit(vec![Sent::new(event).admission(&store)]).await.unwrap_err();
            assert!(matches!(error, StoreError::Fatal { .. }), "{file} {replaced}: {error}");
        }
    }
}

#[tokio::test]
async fn a_full_queue_answers_at_once_and_a_failure_harms_no_neighbour() {
    let place = Sqlite::new();
    let store = place
        .try_open(OpenOptions {
            write_queue_max: 4,
            ..OpenOptions::default()
        })
        .unwrap();
    assert_eq!(Sent::new("e0").admit(&store).await, ACCEPTED);
    let mut guilty = settlement(&claim_one(&store, at(0)).await);
    guilty.job = tollgate_core::ids::JobId(77);

    // Somebody holds the file's write lock, so the writer waits with the first piece and the queue fills behind it.
    let raw = place.raw();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let admit = |id: &str| {
        let (store, admission) = (store.clone(), Sent::new(id).admission(&store));
        tokio::spawn(async move { store.admit(vec![admission]).await })
    };
    let first = admit("e1");
    // Nothing says that the writer has the first piece. It waits for the lock for five seconds, within which all of this has to happen.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut queued = vec![admit("e2"), admit("e3")];
    tokio::task::yield_now().await;
    let failing = tokio::spawn({
        let store = store.clone();
        async move { store.settle(guilty).await }
    });
    tokio::task::yield_now().await;
    queued.push(admit("e4"));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let before = Instant::now();
    assert!(matches!(
        store.admit(vec![Sent::new("e5").admission(&store)]).await,
        Err(StoreError::Full)
    ));
    // Whoever was kept waiting would be until the writer gave the lock up, which is later.
    assert!(before.elapsed() < Duration::from_secs(3), "a full queue does not block");
    raw.execute_batch("ROLLBACK").unwrap();

    assert_eq!(first.await.unwrap().unwrap(), [ACCEPTED]);
    for answer in queued {
        assert_eq!(
            answer.await.unwrap().unwrap(),
            [ACCEPTED],
            "a neighbour of the failing piece"
        );
    }
    let error = failing.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    let report = store.audited().unwrap();
    assert_eq!(
        (report.whole.receipts, report.in_words()),
        (5, vec![]),
        "the chain survives a rollback"
    );
    assert_eq!(
        Sent::new("e5").admit(&store).await,
        ACCEPTED,
        "what was refused was not written"
    );
}

#[tokio::test]
async fn what_was_handed_over_is_written_even_if_nobody_waits() {
    let place = Sqlite::new();
    let store = place.open();
    let raw = place.raw();
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let admission = Sent::new("e1").admission(&store);
    let gave_up = tokio::time::timeout(Duration::from_millis(50), store.admit(vec![admission])).await;
    assert!(gave_up.is_err());
    raw.execute_batch("ROLLBACK").unwrap();
    store.close().await;
    drop(store);
    assert_eq!(
        Sent::new("e1").admit(&place.open()).await,
        Admitted::Same { delivery: 2 }
    );
}

#[test]
fn a_store_is_open_once() {
    let place = Sqlite::new();
    let store = place.open();
    let error = place.try_open(OpenOptions::default()).unwrap_err();
    assert!(
        matches!(&error, StoreError::InUse { path } if path.ends_with("tollgate.db")),
        "{error:?}"
    );
    drop(store);
    drop(place.open());
}

#[tokio::test]
async fn a_reader_reads_beside_the_writer_and_writes_nothing() {
    let place = Sqlite::new();
    let error = SqliteStore::open_read_only(place.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Open { path, .. } if path.ends_with("tollgate.db")),
        "{error:?}"
    );
    let store = place.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let reader = SqliteStore::open_read_only(place.path()).unwrap();
    assert_eq!(reader.receipt_key().expose(), store.receipt_key().expose());
    let seen = async |receipts| {
        // Whoever is not in the writer's process sees commits, and the next is never far.
        for _ in 0..400 {
            if reader.counts().await.unwrap().receipts == receipts {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        false
    };
    assert!(seen(1).await);
    assert_eq!(trace_text(&reader, "e1").await, ["e1"]);
    assert_eq!(Sent::new("e2").admit(&store).await, ACCEPTED);
    let later = SqliteStore::open_read_only(place.path()).unwrap();
    assert_eq!(
        later.counts().await.unwrap().receipts,
        2,
        "who opens it sees what was acknowledged before"
    );
    assert!(seen(2).await, "it sees what is committed");

    let error = reader
        .admit(vec![Sent::new("e3").admission(&reader)])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::ReadOnly { path } if path.ends_with("tollgate.db")),
        "{error:?}"
    );
    let request = |dry_run| ReplayRequest {
        what: ReplayWhat::DeadLetters(DeadLetterFilter::default()),
        dry_run,
        routes: Vec::new(),
        now: at(0),
        actor: "alice".into(),
        why: None,
    };
    assert!(reader.replay(request(true)).await.unwrap().replayed.is_empty());
    assert!(matches!(
        reader.replay(request(false)).await,
        Err(StoreError::ReadOnly { .. })
    ));
    reader.close().await;
    assert!(matches!(reader.counts().await, Err(StoreError::Closed)));

    store.close().await;
    drop((store, reader));
    let alone = SqliteStore::open_read_only(place.path()).unwrap();
    assert_eq!(alone.counts().await.unwrap().receipts, 2, "no server runs");
}

#[test]
fn a_newer_schema_is_refused() {
    let place = Sqlite::new();
    drop(place.open());
    place.raw().execute_batch("PRAGMA user_version = 999").unwrap();
    for error in [
        place.try_open(OpenOptions::default()).unwrap_err(),
        SqliteStore::open_read_only(place.path()).unwrap_err(),
    ] {
        assert!(
            matches!(&error, StoreError::NewerSchema { found: 999, .. }),
            "{error:?}"
        );
    }
}

#[test]
fn what_is_no_store_is_refused() {
    let place = Sqlite::new();
    std::fs::write(
        place.path(),
        b"this is not a database, but it is long enough to look like one ".repeat(200),
    )
    .unwrap();
    let error = place.try_open(OpenOptions::default()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { detail, .. } if detail.contains("not a database")),
        "{error:?}"
    );
    let error = SqliteStore::open(place.0.path().join("missing/dir/t.db"), OpenOptions::default()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Open { detail, .. } if detail.contains("missing/dir")),
        "{error:?}"
    );
    let error = SqliteStore::open(place.0.path(), OpenOptions::default()).unwrap_err();
    assert!(matches!(&error, StoreError::Open { .. }), "a directory: {error:?}");
}

/// Fills a store, each receipt in a commit of its own, and closes it.
async fn filled(place: Sqlite, receipts: usize) -> Sqlite {
    let store = place.open();
    for number in 1..=receipts {
        let sent = Sent::new(&format!("e{number}"))
            .of(&format!("r_{}", number % 5))
            .status("completed")
            .body(&format!("{number}{}", "x".repeat(3000)));
        assert_eq!(sent.admit(&store).await, ACCEPTED);
    }
    store.close().await;
    place
}

#[tokio::test]
async fn a_damaged_file_gives_errors_and_never_a_panic() {
    for place in [Sqlite::of_rows(), Sqlite::new(), Sqlite::of_log_without_memory()] {
        damage_each_page(filled(place, 20).await).await;
    }
}

/// Each page in turn is overwritten, the first one too, and then each piece of the bodies.
async fn damage_each_page(whole: Sqlite) {
    let bytes = std::fs::read(whole.path()).unwrap();
    let page_bytes = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    let pages = bytes.len() / page_bytes;
    let bodies = std::fs::read(whole.log_path()).unwrap_or_default();
    for page in 0..pages + bodies.len() / page_bytes {
        let place = whole.copy();
        let (file, mut damaged, at) = if page < pages {
            (place.path(), bytes.clone(), page * page_bytes)
        } else {
            (place.log_path(), bodies.clone(), (page - pages) * page_bytes)
        };
        damaged[at..at + page_bytes].fill(0xA5);
        std::fs::write(file, damaged).unwrap();
        let store = match place.try_open(OpenOptions::default()) {
            Ok(store) => store,
            Err(StoreError::Open { .. } | StoreError::Corrupt { .. }) => continue,
            Err(other) => panic!("page {page}: {other:?}"),
        };
        for number in 1..=21 {
            let sent = Sent::new(&format!("e{number}")).of("r_1");
            match store.admit(vec![sent.admission(&store)]).await {
                Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Database { .. }) => {}
                Err(other) => panic!("page {page}, receipt {number}: {other:?}"),
            }
        }
        match store
            .trace(tollgate_store::TraceQuery {
                by: TraceBy::Newest,
                tenant: None,
                after: None,
                receipts_max: 100,
            })
            .await
        {
            Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Database { .. }) => {}
            Err(other) => panic!("page {page}: {other:?}"),
        }
        assert!(
            !store.audited().unwrap().in_words().is_empty(),
            "page {page} is damaged and the check says nothing"
        );
    }
}

/// Each check changes a copy of `whole` and says what an audit must find, and nothing else.
async fn touched_receipts_are_named(whole: &Sqlite, checks: &[(&str, &str, &str)]) {
    for (what, sql, expect) in checks {
        let place = whole.copy();
        place.raw().execute_batch(sql).unwrap();
        let problems = place.open().audited().unwrap().in_words();
        assert_eq!(problems.len(), 1, "{what}: {problems:?}");
        assert!(problems[0].contains(expect), "{what}: {problems:?}");
    }
}

const PLACE_OF_5: &str = "receipt 5 (rcpt_";

#[tokio::test]
async fn the_chain_names_the_first_row_that_was_touched() {
    let whole = filled(Sqlite::of_rows(), 9).await;
    let edit = |set: &'static str| format!("UPDATE receipts SET {set} WHERE seq = 5");
    let edits = [
        "event_type = 'x'",
        "received_at = received_at + 1",
        "key_id = 'x'",
        "disposition = 2, disposition_detail = 'x'",
        "link = zeroblob(32)",
        "subject = 'r_other'",
        "status = 'failed'",
        "amount = amount + 1",
        "currency = 'EUR'",
        "attributes = '[[\"product\",\"prod_2\"]]'",
        "occurred_at = occurred_at + 1",
        "provider = 'stripe'",
        "profile_version = 9",
        "signed_at = signed_at - 1",
        "envelope_version = 7",
        "lifecycle_version = 8",
    ]
    .map(edit);
    let mut checks: Vec<_> = edits
        .iter()
        .map(|sql| (sql.as_str(), sql.as_str(), PLACE_OF_5))
        .collect();
    let other_body = edit("body = x'00'");
    checks.extend([
        ("a body", other_body.as_str(), PLACE_OF_5),
        ("a body", other_body.as_str(), "its body is not the one"),
        ("an origin", "UPDATE origins SET tenant = 'globex'", "receipt 1 (rcpt_"),
        (
            "a removed receipt",
            "DELETE FROM receipts WHERE seq = 5",
            "between 4 and 6",
        ),
        (
            "the first removed",
            "DELETE FROM receipts WHERE seq = 1",
            "between 0 and 2",
        ),
        (
            "the newest removed",
            "DELETE FROM receipts WHERE seq = 9",
            "head is receipt 9",
        ),
        (
            "one removed, closed up",
            "DELETE FROM receipts WHERE seq = 5; UPDATE receipts SET seq = seq - 1 WHERE seq > 5",
            PLACE_OF_5,
        ),
        (
            "two swapped",
            "UPDATE receipts SET seq = -1 WHERE seq = 5; UPDATE receipts SET seq = 5 WHERE seq = 6; \
             UPDATE receipts SET seq = 6 WHERE seq = -1",
            PLACE_OF_5,
        ),
    ]);
    touched_receipts_are_named(&whole, &checks).await;
}

#[tokio::test]
async fn the_chain_names_the_first_receipt_of_a_segment_that_was_touched() {
    // In key order some of the receipts are in the index, and the last are not yet.
    let whole = filled(Sqlite::of_log_without_memory(), 9).await;
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        whole.raw().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert!(count("receipt_keys") > 0 && count("recent") > 0);
    touched_receipts_are_named(
        &whole,
        &[
            (
                "where its body is",
                "UPDATE pieces SET bodies_at = bodies_at - 1 WHERE first = 5",
                "its body is not the one",
            ),
            (
                "a shorter body",
                "UPDATE pieces SET bodies_bytes = bodies_bytes - 1 WHERE first = 5",
                "number 5 lacks its body",
            ),
            (
                "a longer body",
                "UPDATE pieces SET bodies_bytes = bodies_bytes + 1 WHERE first = 5",
                "other bodies than its receipts have",
            ),
            ("an origin", "UPDATE origins SET tenant = 'globex'", "receipt 1 (rcpt_"),
            (
                "a removed piece",
                "DELETE FROM pieces WHERE first = 5",
                "between 4 and 6",
            ),
            (
                "the first removed",
                "DELETE FROM pieces WHERE first = 1",
                "between 0 and 2",
            ),
            (
                "the newest removed",
                "DELETE FROM pieces WHERE first = 9",
                "head is receipt 9",
            ),
            (
                "two swapped",
                "UPDATE pieces SET first = -1 WHERE first = 5; UPDATE pieces SET first = 5 WHERE first = 6; \
                 UPDATE pieces SET first = 6 WHERE first = -1",
                PLACE_OF_5,
            ),
            (
                "an id that the index lost",
                "DELETE FROM receipt_keys WHERE seq = (SELECT min(seq) FROM receipt_keys)",
                "the ids of 1 receipts do not lead to them",
            ),
            ("ids that are recent", "DELETE FROM recent", "do not lead to them"),
            (
                "an id in the index that leads elsewhere",
                "UPDATE receipt_keys SET seq = 9 WHERE seq = (SELECT min(seq) FROM receipt_keys)",
                "the ids of 1 receipts do not lead to them",
            ),
            (
                "a recent id that leads elsewhere",
                "UPDATE recent SET first = 8 WHERE first = 9",
                "the ids of 1 receipts do not lead to them",
            ),
            (
                "an id that no receipt has",
                "INSERT INTO receipt_keys (id, seq) VALUES (zeroblob(16), 5)",
                "1 ids are of no receipt",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn bodies_that_were_touched_or_lost_are_found() {
    let whole = filled(Sqlite::new(), 9).await;
    let bodies = std::fs::read(whole.log_path()).unwrap();

    let touched = whole.copy();
    let mut other = bodies.clone();
    let fifth: i64 = whole
        .raw()
        .query_row("SELECT bodies_at FROM pieces WHERE first = 5", [], |row| row.get(0))
        .unwrap();
    other[fifth as usize + 100] ^= 1;
    std::fs::write(touched.log_path(), other).unwrap();
    let problems = touched.open().audited().unwrap().in_words();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0].contains("log: its records can be believed up to"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains(PLACE_OF_5) && problems[1].contains("its body is not the one"),
        "{problems:?}"
    );

    let cut = whole.copy();
    std::fs::write(cut.log_path(), &bodies[..bodies.len() - 1]).unwrap();
    let error = cut.try_open(OpenOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("part of the log is lost") && error.contains("-log-0000"),
        "{error}"
    );

    let gone = whole.copy();
    std::fs::remove_file(gone.log_path()).unwrap();
    let error = gone.try_open(OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("there are no segments at"), "{error}");

    // Of a log without an index a new one is made, with all that it says.
    let alone = whole.copy();
    std::fs::remove_file(alone.path()).unwrap();
    let store = alone.open();
    assert_eq!(store.counts().await.unwrap().receipts, 9);
    assert_eq!(
        Sent::new("e1").of("r_1").admit(&store).await,
        Admitted::Conflict { delivery: 2 }
    );
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);

    // An index without a log is none.
    let index = whole.copy();
    index
        .log_files()
        .iter()
        .for_each(|file| std::fs::remove_file(file).unwrap());
    let error = index.try_open(OpenOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("restore them; the database alone is an index of the log"),
        "{error}"
    );

    // Of equal length, so that the facts can still be read.
    for (from, to) in [
        ("e5", "e6"),
        ("customer.rewarded", "customer.punished"),
        ("key-2026", "key-2027"),
        ("USD", "EUR"),
        ("prod_1", "prod_2"),
        ("r_0", "r_9"),
    ] {
        let place = whole.copy();
        let mut other = bodies.clone();
        let facts = other[..fifth as usize].windows(from.len());
        let at = facts.enumerate().rfind(|(_, here)| *here == from.as_bytes()).unwrap().0;
        other[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(place.log_path(), other).unwrap();
        let problems = place.open().audited().unwrap().in_words();
        assert!(problems[1].contains(PLACE_OF_5), "{from}: {problems:?}");
    }

    // What stands behind the end was written for a commit that never came.
    let longer = whole.copy();
    std::fs::write(longer.log_path(), [bodies, b"left over".to_vec()].concat()).unwrap();
    let store = longer.open();
    assert_eq!(Sent::new("e10").body("the next").admit(&store).await, ACCEPTED);
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
}

#[tokio::test]
async fn no_space_is_said_and_passes() {
    for place in [Sqlite::of_rows(), Sqlite::new(), Sqlite::of_log_without_memory()] {
        fill(place).await;
    }
}

async fn fill(place: Sqlite) {
    let small = OpenOptions {
        file_bytes_max: Some(1024 * 1024),
        ..place.1
    };
    let store = place.try_open(small).unwrap();
    let sent = |number: usize| Sent::new(&format!("e{number}")).body(&"x".repeat(20_000));
    let mut kept = 0;
    let error = loop {
        match store.admit(vec![sent(kept).admission(&store)]).await {
            Ok(admitted) => assert_eq!(admitted, [ACCEPTED]),
            Err(error) => break error,
        }
        kept += 1;
        assert!(kept < 100, "the bound is never reached");
    };
    assert!(
        matches!(&error, StoreError::NoSpace { path } if path.ends_with("tollgate.db")),
        "{error:?}"
    );
    assert_eq!(store.counts().await.unwrap().receipts, kept as u64, "reading goes on");
    assert!(matches!(
        store.admit(vec![sent(kept).admission(&store)]).await,
        Err(StoreError::NoSpace { .. })
    ));
    drop(store);
    let store = place.open();
    assert_eq!(sent(kept).admit(&store).await, ACCEPTED, "there is space again");
    assert_eq!(sent(0).admit(&store).await, Admitted::Same { delivery: 2 });
    let report = store.audited().unwrap();
    assert_eq!((report.whole.receipts, report.in_words()), (kept as u64 + 1, vec![]));
}

/// A store whose WAL has this bound, and holds what events make of it: the schema's own steps would fill most of a short one.
async fn with_wal(wal_bytes_max: u64) -> (Sqlite, SqliteStore) {
    let place = Sqlite::new();
    place.open().close().await;
    let store = place.try_open(OpenOptions {
        wal_bytes_max,
        ..OpenOptions::default()
    });
    (place, store.unwrap())
}

/// A sync of the log waits for what is moved meanwhile: all of a long WAL at once kept one in a hundred events waiting.
#[tokio::test]
async fn o10_the_wal_is_moved_little_by_little_where_there_is_time() {
    let bound = 16 * 1024 * 1024;
    let (place, store) = with_wal(bound).await;
    let mut number = 0;
    while place.wal_begun().unwrap_or(0) == 0 && place.wal_moved() == 0 {
        assert!(place.wal_bytes() < bound, "{} bytes of WAL", place.wal_bytes());
        number += 1;
        let sent = Sent::new(&format!("e{number}")).body(&"x".repeat(5000));
        assert_eq!(sent.admit(&store).await, ACCEPTED);
        // Whoever looks has what was written before committed.
        store.counts().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    store.close().await;
}

#[tokio::test]
async fn the_wal_is_kept_short() {
    let bound = 512 * 1024;
    let (place, store) = with_wal(bound).await;
    let mut longest = 0;
    // Whoever looks has what was written before committed.
    for number in 0..300 {
        assert_eq!(
            Sent::new(&format!("e{number}"))
                .body(&"x".repeat(5000))
                .admit(&store)
                .await,
            ACCEPTED
        );
        store.counts().await.unwrap();
        longest = longest.max(place.wal_bytes());
    }
    assert!(longest > bound, "the test writes enough: {longest}");
    assert!(longest < bound * 2, "{longest} bytes of WAL");

    // A reader that keeps its snapshot makes it grow; when it lets go, the WAL is cut.
    let raw = place.raw();
    raw.execute_batch("BEGIN; SELECT count(*) FROM receipts;").unwrap();
    for number in 300..500 {
        assert_eq!(
            Sent::new(&format!("e{number}"))
                .body(&"x".repeat(5000))
                .admit(&store)
                .await,
            ACCEPTED
        );
        store.counts().await.unwrap();
    }
    assert!(place.wal_bytes() > bound * 4, "{} bytes of WAL", place.wal_bytes());
    raw.execute_batch("COMMIT").unwrap();
    for number in 500..540 {
        assert_eq!(
            Sent::new(&format!("e{number}"))
                .body(&"x".repeat(5000))
                .admit(&store)
                .await,
            ACCEPTED
        );
        store.counts().await.unwrap();
    }
    assert!(place.wal_bytes() < bound * 2, "{} bytes of WAL", place.wal_bytes());
    drop(raw);
    store.close().await;
    assert_eq!(place.wal_bytes(), 0, "closing leaves no WAL");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named() {
    let place = filled(Sqlite::of_rows(), 3).await;
    place
        .raw()
        .execute("UPDATE receipts SET reading = 9 WHERE seq = ?1", params![2])
        .unwrap();
    let store = place.open();
    assert_eq!(trace_one(&store, &Sent::new("e1")).await.receipt.seq, 1);
    let by = TraceBy::Receipt(Sent::new("e2").receipt(&store));
    let error = store
        .trace(tollgate_store::TraceQuery {
            by,
            tenant: None,
            after: None,
            receipts_max: 1,
        })
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { detail } if detail == "reading: 9"),
        "{error:?}"
    );
}

// Tests that need a process of its own to die: this test binary, run again for one "test" that is none by itself.

const CHILD: &str = "TOLLGATE_STORE_TEST_CHILD";

/// Opens the store named by the environment and admits events one after the other, saying each when it is durable.
#[tokio::test]
#[ignore = "run by other tests, as a process of its own"]
async fn child_admits_until_it_dies() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let store = SqliteStore::open(path, OpenOptions::default()).unwrap();
    let mut out = std::io::stdout();
    for number in 0.. {
        let sent = Sent::new(&format!("e{number}"))
            .of(&format!("r_{}", number % 7))
            .body(&"x".repeat(4000));
        let line = match store.admit(vec![sent.admission(&store)]).await {
            Ok(_) => format!("acked e{number}"),
            Err(error) => format!("error {error:?}"),
        };
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() || line.starts_with("error") {
            break;
        }
    }
    for _ in 0..3 {
        let after = store.admit(vec![Sent::new("after").admission(&store)]).await;
        let read = store.counts().await;
        let _ = writeln!(out, "after {after:?} {read:?}");
    }
}

fn child(place: &Sqlite, wrapper: &[&str]) -> Child {
    let exe = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(exe),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(exe);
            command
        }
    };
    command
        .args([
            "sqlite::child_admits_until_it_dies",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_answered_and_leaves_no_lock() {
    let place = Sqlite::new();
    let mut expect = 0;
    for (round, lines) in [1, 40, 7, 120].into_iter().enumerate() {
        let mut writer = child(&place, &[]);
        let output = BufReader::new(writer.stdout.take().unwrap());
        let acked: Vec<_> = output
            .lines()
            .map_while(Result::ok)
            .filter(|line| line.contains("acked"))
            .take(lines)
            .collect();
        assert_eq!(acked.len(), lines, "round {round}");
        let error = place.try_open(OpenOptions::default()).unwrap_err();
        assert!(
            matches!(error, StoreError::InUse { .. }),
            "another process has it: {error:?}"
        );
        writer.kill().unwrap();
        writer.wait().unwrap();
        expect = expect.max(lines);

        let store = place.open();
        for number in 0..expect {
            let found = trace_text(&store, &format!("e{number}")).await;
            assert_eq!(found.len(), 1, "round {round}: e{number} was answered and is not there");
        }
        assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0], "round {round}");
    }
}

/// A shell that somebody left in a transaction keeps the WAL, and no host from its start.
#[tokio::test]
async fn a_start_after_a_kill_does_not_wait_for_whoever_reads() {
    let place = Sqlite::new();
    let mut writer = child(&place, &[]);
    let output = BufReader::new(writer.stdout.take().unwrap());
    let acked = output
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("acked"));
    assert_eq!(acked.take(40).count(), 40);
    let raw = place.raw();
    raw.execute_batch("BEGIN; SELECT count(*) FROM meta").unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    let begun = Instant::now();
    let store = place.open();
    let waited = begun.elapsed();
    assert!(store.counts().await.unwrap().receipts >= 40);
    // It would wait for a lock for five seconds.
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    drop(raw);
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
}

/// A write that fails for another reason than a full disk: here a limit on the file's size, which the system answers with
/// EFBIG, as a broken disk is answered with EIO.
#[cfg(unix)]
#[tokio::test]
async fn a_failing_disk_is_fatal() {
    let place = Sqlite::new();
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 4000; exec \"$@\"", "sh"];
    let output = child(&place, &limited).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let acked = text.lines().filter(|line| line.contains("acked")).count();
    assert!(acked > 10, "{text}");
    assert!(text.contains("error Fatal"), "{text}");
    assert_eq!(text.matches("after Err(Fatal").count(), 3, "it stays fatal: {text}");
    assert_eq!(text.matches("Err(Fatal").count(), 6, "for reading as well: {text}");
    let store = place.open();
    let kept = store.counts().await.unwrap().receipts;
    assert!(kept >= acked as u64, "{kept} receipts, but {acked} were answered");
    assert_eq!(store.audited().unwrap().in_words(), [] as [String; 0]);
}

/// A count goes so far and no further, however much there is, and says so. What is beyond is put into the index itself: nobody waits for so many
/// events.
#[tokio::test]
async fn o10_counts_of_what_waits_or_is_set_aside_end_and_say_so() {
    let backend = Sqlite::new().quick();
    let store = backend.open();
    for tenant in ["globex", "acme"] {
        let sent = |id: &str, status| Sent::new(id).tenant(tenant).of("r_1").status(status).routes(&[]);
        assert_eq!(sent("e1", "completed").admit(&store).await, ACCEPTED);
        let late = sent("e2", "created").admit(&store).await;
        assert!(matches!(late, Admitted::New(_)) && late != ACCEPTED, "{late:?}");
    }
    let few = store.set_aside_counts(None).await.unwrap();
    assert!(few.len() == 4 && few.iter().all(|count| !count.at_least), "{few:?}");
    assert!(!store.counts().await.unwrap().bounded);
    store.close().await;
    let most = i64::try_from(COUNTED_MAX).unwrap();
    let raw = backend.raw();
    let many = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)";
    for (what, count) in [
        (
            "INSERT INTO not_accepted (seq, disposition, origin) SELECT 1000 + n, 1, (SELECT origin FROM not_accepted WHERE seq = 4) FROM n",
            most - 1,
        ),
        (
            "INSERT INTO jobs (receipt, route, lane, state, due_at, tenant) SELECT 1, 'cashback', n, 1, 0, 'acme' FROM n",
            most + 7,
        ),
        (
            "INSERT INTO jobs (receipt, route, lane, state, due_at, tenant, ended_at) SELECT 1, 'cashback', n, 4, 0, 'acme', n FROM n",
            most + 7,
        ),
        (
            "INSERT INTO jobs (receipt, route, lane, state, due_at, tenant, ended_at) SELECT 1, 'cashback', n, 4, 0, 'globex', n FROM n",
            3,
        ),
        (
            "INSERT INTO dead_letters (job, receipt, died_at, attempts, reason, context) SELECT n, 1, 0, 1, '', '{}' FROM n",
            most + 7,
        ),
    ] {
        raw.execute(&format!("{many} {what}"), [count]).unwrap();
    }
    let origin: i64 = raw
        .query_row("SELECT origin FROM not_accepted WHERE seq = 4", [], |row| row.get(0))
        .unwrap();
    let entries: Vec<u8> = (0..u32::try_from(most - 1).unwrap())
        .flat_map(|distance| [distance.to_le_bytes().as_slice(), &origin.to_le_bytes()].concat())
        .collect();
    raw.execute("INSERT INTO unrouted (first, entries) VALUES (1000, ?1)", [entries])
        .unwrap();
    drop(raw);

    let store = backend.read_only();
    let counts = store.counts().await.unwrap();
    assert!(counts.bounded);
    assert_eq!(
        [
            counts.superseded,
            counts.jobs_waiting,
            counts.held_jobs,
            counts.dead_letters_open
        ],
        [COUNTED_MAX; 4]
    );
    let counted = async |tenant: Option<&str>| {
        let counts = store
            .set_aside_counts(tenant.map(|tenant| tenant.parse().unwrap()))
            .await;
        counts
            .unwrap()
            .into_iter()
            .map(|count| {
                (
                    count.kind.as_str(),
                    count.tenant.to_string(),
                    count.count,
                    count.at_least,
                )
            })
            .collect::<Vec<_>>()
    };
    // Of globex nothing was among those that were looked at, and that is said.
    let of_globex = [
        ("held-job", "globex".to_owned(), 3, false),
        ("superseded", "globex".to_owned(), 0, true),
        ("no-route", "globex".to_owned(), 0, true),
    ];
    assert_eq!(counted(Some("globex")).await, of_globex);
    let of_acme = ["held-job", "superseded", "no-route"].map(|kind| (kind, "acme".to_owned(), COUNTED_MAX, true));
    assert_eq!(counted(None).await, [of_acme, of_globex].concat());
    // A list that is of one tenant reads no receipt of another: those that were put into the index are none.
    for (kind, id) in [(SetAsideKind::Superseded, "e2"), (SetAsideKind::NoRoute, "e1")] {
        let filter = SetAsideFilter {
            kind: Some(kind),
            tenant: Some("globex".parse().unwrap()),
            rows_max: 10,
            ..SetAsideFilter::default()
        };
        let found = store.set_aside(filter).await.unwrap();
        assert_eq!(found.iter().map(|one| one.event_id.as_str()).collect::<Vec<_>>(), [id]);
    }
}
