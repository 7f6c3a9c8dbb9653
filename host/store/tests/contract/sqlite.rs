//! What is SQLite's own: one file, one process, one writer, and what becomes of them when things go wrong.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use tempfile::TempDir;
use tollgate_store::{
    Admitted, DeadLetterFilter, OpenOptions, ReplayRequest, ReplayWhat, ReviewAnswer, SqliteStore, Store as _,
    StoreError, TraceBy,
};

use crate::support::{ACCEPTED, Backend, Sent, at, claim_one, map, settlement, trace_one, trace_text};

/// A directory for one store.
pub(crate) struct Sqlite(TempDir);

impl Sqlite {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// In memory where the system has a place for that: for many short stores whose durability is not the question.
    pub(crate) fn quick() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap()))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("tollgate.db")
    }

    fn wal_bytes(&self) -> u64 {
        std::fs::metadata(self.0.path().join("tollgate.db-wal")).map_or(0, |wal| wal.len())
    }

    fn try_open(&self, options: OpenOptions) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.path(), options)
    }

    /// The file itself, as a person with a database shell has it.
    fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

impl Backend for Sqlite {
    type Store = SqliteStore;

    fn open(&self) -> SqliteStore {
        self.try_open(OpenOptions::default()).unwrap()
    }
}

/// A file that was removed or replaced takes writes and syncs, and loses them with the process.
#[tokio::test]
async fn a_store_whose_files_are_gone_acknowledges_nothing() {
    for (file, replaced) in [
        ("tollgate.db", false),
        ("tollgate.db", true),
        ("tollgate.db-wal", false),
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
            let error = store.admit(Sent::new(event).admission(&store)).await.unwrap_err();
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
        tokio::spawn(async move { store.admit(admission).await })
    };
    let first = admit("e1");
    tokio::time::sleep(Duration::from_millis(100)).await;
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
        store.admit(Sent::new("e5").admission(&store)).await,
        Err(StoreError::Full)
    ));
    assert!(
        before.elapsed() < Duration::from_millis(100),
        "a full queue does not block"
    );
    raw.execute_batch("ROLLBACK").unwrap();

    assert_eq!(first.await.unwrap().unwrap(), ACCEPTED);
    for answer in queued {
        assert_eq!(
            answer.await.unwrap().unwrap(),
            ACCEPTED,
            "a neighbour of the failing piece"
        );
    }
    let error = failing.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    let report = store.check_integrity().await.unwrap();
    assert_eq!(
        (report.receipts, report.problems),
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
    let gave_up = tokio::time::timeout(Duration::from_millis(50), store.admit(admission)).await;
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
    assert_eq!(trace_text(&reader, "e1").await, ["e1"]);
    assert_eq!(Sent::new("e2").admit(&store).await, ACCEPTED);
    assert_eq!(reader.counts().await.unwrap().receipts, 2, "it sees what is committed");

    let error = reader.admit(Sent::new("e3").admission(&reader)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::ReadOnly { path } if path.ends_with("tollgate.db")),
        "{error:?}"
    );
    let request = |dry_run| ReplayRequest {
        what: ReplayWhat::DeadLetters(DeadLetterFilter::default()),
        dry_run,
        now: at(0),
        actor: "alice".into(),
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
            matches!(
                &error,
                StoreError::NewerSchema {
                    found: 999,
                    known: 2,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date_with_what_it_holds() {
    let place = Sqlite::new();
    let sent = Sent::new("e1").of("r_1").status("exploded");
    let store = place.open();
    assert!(matches!(sent.admit(&store).await, Admitted::New(_)));
    store.close().await;
    drop(store);
    place
        .raw()
        .execute_batch("DROP TABLE reviews; PRAGMA user_version = 1")
        .unwrap();
    let refused = SqliteStore::open_read_only(place.path()).unwrap_err().to_string();
    assert!(
        refused.contains("start the server once to migrate it to 2"),
        "{refused}"
    );

    let store = place.open();
    assert_eq!(store.counts().await.unwrap().held, 1);
    let answer = store.review(map(&store, &sent, "completed", 1)).await.unwrap();
    assert!(matches!(answer, ReviewAnswer::Reviewed(_)), "{answer:?}");
    assert_eq!(store.check_integrity().await.unwrap().problems, [] as [String; 0]);
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
        matches!(&error, StoreError::Open { detail, .. } if detail.contains("not a database")),
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

/// Fills a store and closes it.
async fn filled(receipts: usize) -> Sqlite {
    let place = Sqlite::new();
    let store = place.open();
    for number in 1..=receipts {
        let sent = Sent::new(&format!("e{number}"))
            .of(&format!("r_{}", number % 5))
            .body(&"x".repeat(3000 + number));
        assert_eq!(sent.admit(&store).await, ACCEPTED);
    }
    store.close().await;
    place
}

#[tokio::test]
async fn a_damaged_file_gives_errors_and_never_a_panic() {
    // Each page in turn is overwritten, the first one too.
    let whole = filled(20).await;
    let bytes = std::fs::read(whole.path()).unwrap();
    for page in 0..bytes.len() / 8192 {
        let place = Sqlite::quick();
        let mut damaged = bytes.clone();
        damaged[page * 8192..(page + 1) * 8192].fill(0xA5);
        std::fs::write(place.path(), damaged).unwrap();
        let store = match place.try_open(OpenOptions::default()) {
            Ok(store) => store,
            Err(StoreError::Open { .. }) => continue,
            Err(other) => panic!("page {page}: {other:?}"),
        };
        for number in 1..=21 {
            let sent = Sent::new(&format!("e{number}")).of("r_1");
            match store.admit(sent.admission(&store)).await {
                Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Database { .. }) => {}
                Err(other) => panic!("page {page}, receipt {number}: {other:?}"),
            }
        }
        match store
            .trace(tollgate_store::TraceQuery {
                by: TraceBy::Newest,
                tenant: None,
                receipts_max: 100,
            })
            .await
        {
            Ok(_) | Err(StoreError::Damaged { .. } | StoreError::Database { .. }) => {}
            Err(other) => panic!("page {page}: {other:?}"),
        }
        let report = store.check_integrity().await.unwrap();
        assert!(
            !report.problems.is_empty(),
            "page {page} is damaged and the check says nothing"
        );
    }
}

#[tokio::test]
async fn the_chain_names_the_first_receipt_that_was_touched() {
    let whole = filled(9).await;
    let bytes = std::fs::read(whole.path()).unwrap();
    let check = async |what: &str, sql: &str, expect: &str| {
        let place = Sqlite::new();
        std::fs::write(place.path(), &bytes).unwrap();
        place.raw().execute_batch(sql).unwrap();
        let problems = place.open().check_integrity().await.unwrap().problems;
        assert_eq!(problems.len(), 1, "{what}: {problems:?}");
        assert!(problems[0].contains(expect), "{what}: {problems:?}");
    };
    let place_of_5 = "receipt 5 (rcpt_";
    check(
        "an edited body",
        "UPDATE receipts SET body = x'00' WHERE seq = 5",
        "its body is not the one",
    )
    .await;
    check(
        "an edited body",
        "UPDATE receipts SET body = x'00' WHERE seq = 5",
        place_of_5,
    )
    .await;
    check(
        "an edited type",
        "UPDATE receipts SET event_type = 'x' WHERE seq = 5",
        place_of_5,
    )
    .await;
    check(
        "an edited time",
        "UPDATE receipts SET received_at = received_at + 1 WHERE seq = 5",
        place_of_5,
    )
    .await;
    check(
        "an edited key id",
        "UPDATE receipts SET key_id = 'x' WHERE seq = 5",
        place_of_5,
    )
    .await;
    check(
        "an edited disposition",
        "UPDATE receipts SET disposition = 2 WHERE seq = 5",
        place_of_5,
    )
    .await;
    check(
        "an edited link",
        "UPDATE receipts SET link = zeroblob(32) WHERE seq = 5",
        place_of_5,
    )
    .await;
    check(
        "an edited origin",
        "UPDATE origins SET tenant = 'globex'",
        "receipt 1 (rcpt_",
    )
    .await;
    check(
        "a removed receipt",
        "DELETE FROM receipts WHERE seq = 5",
        "between 4 and 6",
    )
    .await;
    check(
        "the first removed",
        "DELETE FROM receipts WHERE seq = 1",
        "between 0 and 2",
    )
    .await;
    check(
        "the newest removed",
        "DELETE FROM receipts WHERE seq = 9",
        "the chain's head is receipt 9",
    )
    .await;
    let renumbered = "DELETE FROM receipts WHERE seq = 5; UPDATE receipts SET seq = seq - 1 WHERE seq > 5";
    check("a removed receipt, closed up", renumbered, place_of_5).await;
    let swapped = "UPDATE receipts SET seq = -1 WHERE seq = 5; UPDATE receipts SET seq = 5 WHERE seq = 6; \
                   UPDATE receipts SET seq = 6 WHERE seq = -1";
    check("two swapped", swapped, place_of_5).await;
}

#[tokio::test]
async fn no_space_is_said_and_passes() {
    let place = Sqlite::new();
    let small = OpenOptions {
        file_bytes_max: Some(600 * 1024),
        ..OpenOptions::default()
    };
    let store = place.try_open(small).unwrap();
    let sent = |number: usize| Sent::new(&format!("e{number}")).body(&"x".repeat(20_000));
    let mut kept = 0;
    let error = loop {
        match store.admit(sent(kept).admission(&store)).await {
            Ok(admitted) => assert_eq!(admitted, ACCEPTED),
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
        store.admit(sent(kept).admission(&store)).await,
        Err(StoreError::NoSpace { .. })
    ));
    drop(store);
    let store = place.open();
    assert_eq!(sent(kept).admit(&store).await, ACCEPTED, "there is space again");
    assert_eq!(sent(0).admit(&store).await, Admitted::Same { delivery: 2 });
    let report = store.check_integrity().await.unwrap();
    assert_eq!((report.receipts, report.problems), (kept as u64 + 1, vec![]));
}

#[tokio::test]
async fn the_wal_is_kept_short() {
    let place = Sqlite::new();
    let bound = 256 * 1024;
    let store = place
        .try_open(OpenOptions {
            wal_bytes_max: bound,
            ..OpenOptions::default()
        })
        .unwrap();
    let mut longest = 0;
    for number in 0..300 {
        assert_eq!(
            Sent::new(&format!("e{number}"))
                .body(&"x".repeat(5000))
                .admit(&store)
                .await,
            ACCEPTED
        );
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
    }
    assert!(place.wal_bytes() < bound * 2, "{} bytes of WAL", place.wal_bytes());
    drop(raw);
    store.close().await;
    assert_eq!(place.wal_bytes(), 0, "closing leaves one file");
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named() {
    let place = filled(3).await;
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
        let line = match store.admit(sent.admission(&store)).await {
            Ok(_) => format!("acked e{number}"),
            Err(error) => format!("error {error:?}"),
        };
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() || line.starts_with("error") {
            break;
        }
    }
    for _ in 0..3 {
        let after = store.admit(Sent::new("after").admission(&store)).await;
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
        assert_eq!(
            store.check_integrity().await.unwrap().problems,
            [] as [String; 0],
            "round {round}"
        );
    }
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
    assert_eq!(store.check_integrity().await.unwrap().problems, [] as [String; 0]);
}
