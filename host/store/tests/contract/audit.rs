//! Evidence: whatever is done to a store's rows behind its back is found, and the first row that it was done to is named; what
//! leaves the chain consistent is found by a checkpoint.

use std::collections::BTreeMap;

use tollgate_core::checkpoint::{Checkpoint, Mark};
use tollgate_store::audit::{After, AuditProgress, AuditReport, BrokenWhat};
use tollgate_store::{Admitted, Settled, SqliteStore, Store as _};

use crate::sqlite::Sqlite;
use crate::support::{ACCEPTED, Backend as _, Sent, SettlementExt as _, at, claim, name, settle, settlement};

/// Receipts of a closed store: those with odd numbers are of acme, the others of globex.
async fn filled(place: Sqlite, receipts: usize) -> Sqlite {
    let store = place.open();
    for number in 1..=receipts {
        // One length for all, so that a body can stand in another's place.
        let sent = Sent::new(&format!("e{number:02}"))
            .tenant(["globex", "acme"][number % 2])
            .body(&format!("{number:02}{}", "x".repeat(500)));
        assert_eq!(sent.admit(&store).await, ACCEPTED);
    }
    store.close().await;
    place
}

fn audit(place: &Sqlite, checkpoints: &[Checkpoint]) -> AuditReport {
    SqliteStore::audit(place.path(), checkpoints, &mut |_| {}).unwrap()
}

/// What `tollgate audit checkpoint` signs.
fn checkpoint(place: &Sqlite) -> Checkpoint {
    let report = audit(place, &[]);
    assert!(report.is_whole(), "{report:?}");
    Checkpoint {
        store: report.store.unwrap(),
        at: at(0),
        chain: Some(report.whole),
        tenants: report
            .tenants
            .iter()
            .map(|(name, found)| (name.clone(), found.mark))
            .collect(),
    }
}

fn layouts() -> [Sqlite; 3] {
    [Sqlite::of_rows(), Sqlite::new(), Sqlite::of_log_without_memory()].map(Sqlite::quick)
}

#[tokio::test]
async fn a_whole_store_passes_and_says_how_far_it_is() {
    for place in layouts() {
        let place = filled(place, 9).await;
        let mut steps = Vec::new();
        let report = SqliteStore::audit(place.path(), &[], &mut |step| steps.push(step)).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.whole.receipts, 9);
        assert_eq!(
            steps,
            [
                AuditProgress::Pages,
                AuditProgress::Receipts { done: 0, of: 9 },
                AuditProgress::Receipts { done: 9, of: 9 },
                AuditProgress::Relations,
            ]
        );
        let receipts = |tenant| report.tenants[tenant].mark.receipts;
        assert_eq!((receipts("acme"), receipts("globex")), (5, 4));
    }
}

/// A tenant's own chain follows from its own receipts: it is the same whoever else was there in between.
#[tokio::test]
async fn a_tenants_chain_is_its_own_and_the_same_in_every_layout() {
    let mut found = Vec::new();
    for place in layouts() {
        found.push(checkpoint(&filled(place, 9).await));
    }
    // Receipt ids are made with each store's own key, so heads differ; a copy has the key, and another layout.
    let place = filled(Sqlite::new().quick(), 9).await;
    let copy = place.exported();
    let (of_place, of_copy) = (checkpoint(&place), checkpoint(&copy));
    assert_eq!(of_place, of_copy);
    assert_ne!(found[0].tenants, found[1].tenants);
    assert!(audit(&copy, &[of_place]).is_whole());
}

/// What is done with SQL to one store of nine receipts, the first row that must be named, and why.
type Touch<'a> = (&'a str, String, i64, BrokenWhat);

async fn touched(whole: &Sqlite, touches: &[Touch<'_>]) {
    let noted = checkpoint(whole);
    for (what, sql, number, expect) in touches {
        let place = whole.copy();
        place.raw().execute_batch(sql).unwrap();
        let report = audit(&place, std::slice::from_ref(&noted));
        let broken = report
            .first_broken
            .as_ref()
            .unwrap_or_else(|| panic!("{what}: nothing was found"));
        assert_eq!((broken.number, &broken.what), (*number, expect), "{what}: {broken}");
        assert!(!report.is_whole(), "{what}");
        // Where the head alone was changed, the store still begins with what was noted.
        let receipts_hold = *expect == BrokenWhat::End { head: 8 };
        assert_eq!(report.checkpoints[0].problems.is_empty(), receipts_hold, "{what}");
        assert_eq!(
            report.whole.receipts,
            u64::try_from(*number).unwrap()
                - match expect {
                    BrokenWhat::Missing { from } => u64::try_from(number - from).unwrap() + 1,
                    BrokenWhat::End { .. } => 0,
                    _ => 1,
                },
            "{what}"
        );
    }
}

#[tokio::test]
async fn rows_that_were_edited_deleted_swapped_or_cut_off_are_named() {
    let whole = filled(Sqlite::of_rows().quick(), 9).await;
    let id = |number: i64| {
        let sql = "SELECT id FROM receipts WHERE seq = ?1";
        tollgate_core::ids::ReceiptId(whole.raw().query_row(sql, [number], |row| row.get(0)).unwrap())
    };
    let swap = |columns: &str| {
        format!(
            "CREATE TABLE kept AS SELECT * FROM receipts WHERE seq IN (5, 8); UPDATE receipts SET id = zeroblob(16) WHERE seq = 5; \
             UPDATE receipts SET ({columns}) = (SELECT {columns} FROM kept WHERE kept.seq = 5) WHERE seq = 8; \
             UPDATE receipts SET ({columns}) = (SELECT {columns} FROM kept WHERE kept.seq = 8) WHERE seq = 5; DROP TABLE kept;"
        )
    };
    let facts = "id, origin, event_id, body_commitment, body";
    let edit = |set: &str| format!("UPDATE receipts SET {set} WHERE seq = 5");
    let (missing, swapped) = (
        |from| BrokenWhat::Missing { from },
        BrokenWhat::Swapped {
            receipt: id(5),
            stands_at: 8,
        },
    );
    touched(
        &whole,
        &[
            ("facts", edit("event_type = 'x'"), 5, BrokenWhat::Facts),
            ("an amount", edit("amount = amount + 1"), 5, BrokenWhat::Facts),
            ("a body", edit("body = x'00'"), 5, BrokenWhat::Body),
            ("a link", edit("link = zeroblob(32)"), 5, BrokenWhat::Link),
            (
                "the last link",
                "UPDATE receipts SET link = zeroblob(32) WHERE seq = 9".to_owned(),
                9,
                BrokenWhat::Link,
            ),
            (
                "two swapped, links too",
                swap(&format!("{facts}, link")),
                5,
                swapped.clone(),
            ),
            ("two swapped but for their links", swap(facts), 5, swapped),
            ("two bodies swapped", swap("body"), 5, BrokenWhat::Body),
            (
                "one deleted",
                "DELETE FROM receipts WHERE seq = 5".to_owned(),
                6,
                missing(5),
            ),
            (
                "three deleted",
                "DELETE FROM receipts WHERE seq IN (5, 6, 7)".to_owned(),
                8,
                missing(5),
            ),
            (
                "the first deleted",
                "DELETE FROM receipts WHERE seq = 1".to_owned(),
                2,
                missing(1),
            ),
            (
                "the last deleted",
                "DELETE FROM receipts WHERE seq = 9".to_owned(),
                8,
                BrokenWhat::End { head: 9 },
            ),
            (
                "the head moved back",
                "UPDATE chain_heads SET seq = 8".to_owned(),
                9,
                BrokenWhat::End { head: 8 },
            ),
            (
                "one deleted, closed up",
                "DELETE FROM receipts WHERE seq = 5; UPDATE receipts SET seq = seq - 1 WHERE seq > 5".to_owned(),
                5,
                BrokenWhat::Facts,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn pieces_that_were_edited_deleted_swapped_or_cut_off_are_named() {
    let whole = filled(Sqlite::of_log_without_memory().quick(), 9).await;
    let log = std::fs::read(whole.log_path()).unwrap();
    let facts = |first: i64| -> std::ops::Range<usize> {
        let sql = "SELECT facts_at, facts_bytes FROM pieces WHERE first = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as usize));
        let (at, bytes) = whole.raw().query_row(sql, [first], row).unwrap();
        at..at + bytes
    };
    let id_of = |first: i64| tollgate_core::ids::ReceiptId(log[facts(first)][1..17].try_into().unwrap());
    // What is changed in the log itself is found by its seal as well.
    let event_id = log[facts(5)].windows(3).position(|here| here == b"e05").unwrap();
    for (what, at) in [("a byte of a fact", event_id + 2), ("a byte of its receipt id", 1)] {
        let place = whole.copy();
        let mut bytes = log.clone();
        bytes[facts(5).start + at] ^= 1;
        std::fs::write(place.log_path(), bytes).unwrap();
        let report = audit(&place, &[]);
        let broken = report.first_broken.unwrap();
        assert_eq!((broken.number, broken.what), (5, BrokenWhat::Facts), "{what}");
        assert!(
            report.problems[0].contains("do not lead to"),
            "{what}: {:?}",
            report.problems
        );
    }
    touched(
        &whole,
        &[
            (
                "where its body is",
                "UPDATE pieces SET bodies_at = bodies_at - 1 WHERE first = 5".to_owned(),
                5,
                BrokenWhat::Body,
            ),
            (
                "two swapped",
                "UPDATE pieces SET first = -1 WHERE first = 5; UPDATE pieces SET first = 5 WHERE first = 8; \
                 UPDATE pieces SET first = 8 WHERE first = -1"
                    .to_owned(),
                5,
                BrokenWhat::Swapped {
                    receipt: id_of(5),
                    stands_at: 8,
                },
            ),
            (
                "one deleted",
                "DELETE FROM pieces WHERE first = 5".to_owned(),
                6,
                BrokenWhat::Missing { from: 5 },
            ),
            (
                "the last deleted",
                "DELETE FROM pieces WHERE first = 9".to_owned(),
                8,
                BrokenWhat::End { head: 9 },
            ),
        ],
    )
    .await;
    // What cannot be read at all is named by where it stands.
    for sql in [
        "facts_bytes = facts_bytes - 1",
        "facts_bytes = 0",
        "facts_at = facts_at + 1",
        "facts_at = 1 << 40",
        "count = 2",
    ] {
        let place = whole.copy();
        let sql = format!("UPDATE pieces SET {sql} WHERE first = 5");
        place.raw().execute_batch(&sql).unwrap();
        let broken = audit(&place, &[]).first_broken.unwrap();
        assert!(matches!(broken.what, BrokenWhat::Unreadable { .. }), "{broken}");
        assert!((5..=6).contains(&broken.number), "{broken}");
    }
}

#[tokio::test]
async fn bodies_that_were_changed_swapped_or_cut_off_are_named() {
    let whole = filled(Sqlite::new().quick(), 9).await;
    let bodies = std::fs::read(whole.log_path()).unwrap();
    // Before its body stands what else was admitted with a receipt, which has its place in the database.
    let places: Vec<std::ops::Range<usize>> = whole
        .raw()
        .prepare("SELECT bodies_at, bodies_bytes FROM pieces ORDER BY first")
        .unwrap()
        .query_map([], |row| {
            let (at, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(at as usize..(at + bytes) as usize)
        })
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(places.len(), 9);
    let check = |what: &str, bodies: &[u8], number: i64, readable: bool| {
        let place = whole.copy();
        std::fs::write(place.log_path(), bodies).unwrap();
        let report = audit(&place, &[]);
        let broken = report
            .first_broken
            .unwrap_or_else(|| panic!("{what}: nothing was found"));
        assert_eq!(
            (broken.number, broken.what == BrokenWhat::Body),
            (number, readable),
            "{what}: {broken}"
        );
        assert!(broken.receipt.is_some() && broken.tenant.is_some(), "{what}: {broken}");
        report.after
    };
    for number in 1..=9_usize {
        let place = places[number - 1].clone();
        for at in [place.start, (place.start + place.end) / 2, place.end - 1] {
            let mut other = bodies.clone();
            other[at] ^= 0x20;
            let after = check("a flipped bit", &other, number as i64, true);
            let whole = 9 - number as u64;
            assert_eq!(
                after,
                After {
                    whole,
                    ..After::default()
                }
            );
        }
        let cut = &bodies[..place.end - 1];
        // With the end of the log go the facts of what comes behind.
        let after = check("a shorter file", cut, number as i64, false);
        let missing = 9 - number as u64;
        assert_eq!(
            after,
            After {
                missing,
                ..After::default()
            }
        );
    }
    let mut swapped = bodies.clone();
    let (five, eight) = (places[4].clone(), places[7].clone());
    swapped.copy_within(eight.clone(), five.start);
    swapped[eight].copy_from_slice(&bodies[five]);
    assert_eq!(check("two swapped", &swapped, 5, true).broken, 1);
    let empty = whole.copy();
    std::fs::write(empty.log_path(), []).unwrap();
    assert_eq!(audit(&empty, &[]).first_broken.unwrap().number, 1);

    let gone = whole.copy();
    std::fs::remove_file(gone.log_path()).unwrap();
    let broken = audit(&gone, &[]).first_broken.unwrap();
    assert_eq!(broken.number, 1, "{broken}");
}

/// What the chain itself cannot show: its end is cut off and the head agrees, or all of it is another.
#[tokio::test]
async fn a_consistent_rewrite_is_seen_by_checkpoints_alone() {
    let whole = filled(Sqlite::of_rows().quick(), 6).await;
    let early = checkpoint(&whole);
    let whole = more(whole, 7..=9).await;
    let late = checkpoint(&whole);

    let cut = whole.copy();
    cut.raw()
        .execute_batch(
            "DELETE FROM receipts WHERE seq > 7; DELETE FROM jobs WHERE receipt > 7; \
             UPDATE chain_heads SET (seq, link) = (SELECT seq, link FROM receipts WHERE seq = 7);",
        )
        .unwrap();
    assert!(audit(&cut, &[]).is_whole(), "no checkpoint, no proof");
    let report = audit(&cut, &[early.clone(), late.clone()]);
    let problems: Vec<_> = report
        .checkpoints
        .iter()
        .map(|found| found.problems.join("; "))
        .collect();
    assert_eq!(
        problems,
        ["", "the store had 9 receipts then, and has 7 now: its end was cut off"]
    );
    let acme = &report.checkpoints[1].tenants["acme"];
    assert_eq!(acme.as_deref(), Some("it had 5 receipts then, and has 4 now"));

    // The same store, restored from when it had six receipts, and then other events: a chain that holds, of the same length.
    let other = filled(Sqlite::of_rows().quick(), 6).await;
    let restored = filled(Sqlite::of_rows().quick().with_key(&whole.key()), 6).await;
    let restored = more(restored, 17..=19).await;
    assert!(audit(&restored, &[]).is_whole());
    let report = audit(&restored, &[early, late.clone()]);
    assert_eq!(report.checkpoints[0].problems, [] as [String; 0], "{report:?}");
    assert!(report.checkpoints[1].problems[0].contains("written anew"), "{report:?}");

    // Another store altogether.
    let report = audit(&other, &[late]);
    assert!(
        report.checkpoints[0].problems[0].contains("of another store"),
        "{report:?}"
    );
}

async fn more(place: Sqlite, numbers: std::ops::RangeInclusive<usize>) -> Sqlite {
    let store = place.open();
    for number in numbers {
        let sent = Sent::new(&format!("e{number:02}")).tenant(["globex", "acme"][number % 2]);
        assert!(matches!(sent.admit(&store).await, Admitted::New(_)));
    }
    store.close().await;
    place
}

/// Who is broken and who is not: one tenant's damage says nothing against another's receipts.
#[tokio::test]
async fn a_tenants_receipts_are_judged_by_themselves() {
    let whole = filled(Sqlite::of_rows().quick(), 9).await;
    let noted = checkpoint(&whole);
    let place = whole.copy();
    place
        .raw()
        .execute_batch(
            "UPDATE receipts SET amount = amount + 1 WHERE seq = 4; UPDATE receipts SET body = x'00' WHERE seq = 8",
        )
        .unwrap();
    let report = audit(&place, std::slice::from_ref(&noted));
    assert_eq!(report.first_broken.as_ref().map(|broken| broken.number), Some(4));
    assert_eq!(
        report.after,
        After {
            whole: 4,
            broken: 1,
            missing: 0
        }
    );
    let broken: BTreeMap<_, _> = report
        .tenants
        .iter()
        .map(|(name, found)| (name.as_str(), found.broken))
        .collect();
    assert_eq!(broken, BTreeMap::from([("acme", 0), ("globex", 2)]));
    let of = |tenant| report.checkpoints[0].tenants[tenant].as_deref();
    assert_eq!(of("acme"), None);
    assert_eq!(
        of("globex"),
        Some("its first 4 receipts are not those of the checkpoint")
    );
    // For a tenant, a checkpoint need not say anything of others.
    let alone = Checkpoint {
        chain: None,
        tenants: [(name("acme"), noted.tenants["acme"])].into(),
        ..noted
    };
    let report = audit(&whole, &[alone]);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(
        report.tenants["acme"].mark,
        Mark {
            receipts: 5,
            ..report.tenants["acme"].mark
        }
    );
}

/// What is in no chain, after real work: each way to break a relation is a problem of its own.
#[tokio::test]
async fn rows_that_lead_nowhere_are_named() {
    let whole = Sqlite::new().quick();
    let store = whole.open();
    for number in 1..=3 {
        let event = Sent::new(&format!("e{number}"));
        assert_eq!(event.admit(&store).await, ACCEPTED);
        assert_eq!(event.admit(&store).await, Admitted::Same { delivery: 2 });
        let mut other = event.clone();
        other.body.push('!');
        assert!(matches!(other.admit(&store).await, Admitted::Conflict { .. }));
    }
    for job in claim(&store, at(0), 10).await {
        let acts = settlement(&job).acts(&format!("flag:{}", job.job), 1).to("books");
        assert!(matches!(settle(&store, acts).await, Settled::Committed { .. }));
    }
    store.close().await;
    let rows = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        whole.raw().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert!(
        rows("runs") == 3 && rows("deliveries") == 6 && rows("outbox") == 3,
        "there is work to break"
    );
    assert!(audit(&whole, &[]).is_whole());
    let checks = [
        (
            "DELETE FROM jobs WHERE id = 2",
            "jobs: row 2 is missing; 2 of 3 are there",
        ),
        (
            "DELETE FROM jobs WHERE id = 2",
            "runs: row 2 lacks its job; 1 such rows",
        ),
        ("DELETE FROM runs WHERE id = 2", "runs: row 2 is missing"),
        (
            "DELETE FROM runs WHERE id = 3",
            "jobs: row 3 lacks the run that ended it",
        ),
        (
            "DELETE FROM configs",
            "runs: row 1 lacks its route's settings; 3 such rows",
        ),
        ("UPDATE configs SET text = text || ' '", "is not what its digest says"),
        (
            "UPDATE jobs SET receipt = 9 WHERE id = 2",
            "jobs: row 2 lacks its receipt",
        ),
        (
            "UPDATE deliveries SET receipt = 0 WHERE id = 1",
            "deliveries: row 1 lacks its receipt",
        ),
        (
            "DELETE FROM deliveries WHERE id = 1",
            "deliveries: row 1 is missing; 5 of 6 are there",
        ),
        (
            "UPDATE deliveries SET body = x'00' WHERE body IS NOT NULL",
            "has another body than came",
        ),
        (
            "INSERT INTO outbox (action, destination, state, due_at) VALUES (99, 'books', 1, 0)",
            "lacks its action",
        ),
        (
            "INSERT INTO repeats VALUES (99, 0, 99)",
            "repeats: row 99 lacks its run",
        ),
        (
            "UPDATE actions SET json = '{}' WHERE id = 1",
            "actions: row 1 is not what its digest says",
        ),
        (
            "UPDATE actions SET run = 3 WHERE id = 2",
            "actions: row 2 lacks a run of its receipt",
        ),
        (
            "UPDATE outbox SET state = 3 WHERE id = 2",
            "outbox: row 2 lacks the attempt that delivered it",
        ),
        ("DELETE FROM actions WHERE id = 2", "outbox: row 2 lacks its action"),
    ];
    for (sql, expect) in checks {
        let place = whole.copy();
        assert!(place.raw().execute(sql, []).unwrap() > 0, "{sql}");
        let report = audit(&place, &[]);
        assert_eq!(report.first_broken, None, "{sql}");
        assert!(
            report.problems.iter().any(|problem| problem.contains(expect)),
            "{sql}: {:?}",
            report.problems
        );
    }
}

/// The file itself: each piece of it overwritten, and cut at each page. An audit always answers, and never that all is well.
/// What the chain of receipts cannot see: each row that the log made is held against the log.
#[tokio::test]
async fn rows_that_the_log_did_not_make_are_named_whatever_they_are_about() {
    let whole = Sqlite::new().quick();
    let store = whole.open();
    for number in 1..=3 {
        assert_eq!(Sent::new(&format!("e{number}")).admit(&store).await, ACCEPTED);
    }
    for job in claim(&store, at(0), 10).await {
        let acts = settlement(&job).acts(&format!("flag:{}", job.job), 1).to("books");
        assert!(matches!(settle(&store, acts).await, Settled::Committed { .. }));
    }
    let of_index = |place: &Sqlite| SqliteStore::audit_index(place.path(), &mut |_| {}).unwrap().unwrap();
    assert_eq!(of_index(&whole), [] as [String; 0], "beside the process that writes");
    store.close().await;
    let mut far = Vec::new();
    let found = SqliteStore::audit_index(whole.path(), &mut |step| far.push(step))
        .unwrap()
        .unwrap();
    assert_eq!(found, [] as [String; 0]);
    assert!(
        matches!(far.last(), Some(AuditProgress::Index { done, of }) if done == of),
        "{far:?}"
    );
    let others = [
        (
            "UPDATE actions SET json = replace(json, '1', '9') WHERE id = 2",
            "index: 1 row of `actions` say otherwise than the log, the first is number 2 (json)",
        ),
        (
            "UPDATE runs SET outcome = 'failed', message = 'x' WHERE id > 1",
            "index: 2 rows of `runs` say otherwise than the log, the first is number 2 (outcome, message)",
        ),
        (
            "DELETE FROM outbox WHERE id = 3",
            "index: 1 row of `outbox` are missing, and are in the log, the first is number 3",
        ),
        (
            "INSERT INTO outbox (id, action, destination, state, due_at) SELECT 9, action, 'other', state, due_at FROM outbox WHERE id = 1",
            "index: 1 row of `outbox` are not in the log, the first is number 9",
        ),
        (
            "INSERT INTO configs (digest, text) VALUES (x'00', 'a')",
            "index: 1 row of `configs` are not in the log",
        ),
        (
            "UPDATE origins SET tenant = 'other'",
            "index: 1 row of `origins` say otherwise than the log, the first is number 1 (tenant)",
        ),
        ("CREATE TABLE more (x)", "index: the table `more` is not of this store"),
        ("DROP TABLE repeats", "index: the table `repeats` is missing"),
    ];
    for (sql, expected) in others {
        let place = whole.copy();
        place
            .raw()
            .execute_batch(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(of_index(&place), [expected], "{sql}");
    }
    // What a run came to is in no chain of receipts, and leads nowhere.
    let place = whole.copy();
    place.raw().execute_batch(others[1].0).unwrap();
    assert!(audit(&place, &[]).is_whole());
    let left = std::fs::read_dir(whole.path().parent().unwrap()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert!(
        left.into_iter().all(|name| !name.contains("audit")),
        "it gives its room back"
    );
}

#[tokio::test]
async fn a_damaged_file_is_an_answer() {
    for place in layouts() {
        let whole = filled(place, 30).await;
        let bytes = std::fs::read(whole.path()).unwrap();
        let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        for at in (0..bytes.len()).step_by(page) {
            for cut in [false, true] {
                let place = whole.copy();
                let mut damaged = bytes.clone();
                if cut {
                    damaged.truncate(at);
                } else {
                    damaged[at..at + page].fill(0xA5);
                }
                std::fs::write(place.path(), damaged).unwrap();
                match SqliteStore::audit(place.path(), &[], &mut |_| {}) {
                    Ok(report) => assert!(!report.is_whole(), "byte {at}, cut {cut}: nothing was found"),
                    // An empty file is a database without anything.
                    Err(error) => assert!(
                        at == 0 && error.to_string().contains("no Tollgate store"),
                        "{at}: {error}"
                    ),
                }
            }
        }
    }
}
