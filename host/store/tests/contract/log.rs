//! What is the packed layout's own: keys on their way into their indexes while processes end, work fails and people decide;
//! sizes at the edges of a segment; what an audit must see beside the chain.

use tollgate_core::access::Role;
use tollgate_core::admission::Disposition;
use tollgate_core::ids::Digest;
use tollgate_core::route::Late;
use tollgate_store::{
    Admitted, BlockingReads as _, Control as _, Intake as _, Layout, NewToken, OpenOptions, ReplyBatcher, Settled,
    SqliteStore, Store as _, TraceBy, TraceQuery, Views as _, Work as _,
};

use crate::sqlite::Sqlite;
use crate::support::{
    ACCEPTED, Backend as _, Sent, SettlementExt as _, at, claim, claim_outbox_one, event_ids, name, settle, settlement,
    trace_one, trace_text,
};

fn keeping(keys_in_memory_max: usize, recent_bytes_max: usize) -> OpenOptions {
    OpenOptions {
        layout: Layout::Log,
        keys_in_memory_max,
        recent_bytes_max,
        ..OpenOptions::default()
    }
}

/// The same, in a store that commits when somebody needs it to and not before.
fn keeping_open(keys_in_memory_max: usize, recent_bytes_max: usize) -> OpenOptions {
    OpenOptions {
        commit_ms_max: 600_000,
        ..keeping(keys_in_memory_max, recent_bytes_max)
    }
}

fn number(place: &Sqlite, sql: &str) -> i64 {
    place.raw().query_row(sql, [], |row| row.get(0)).unwrap()
}

async fn assert_whole(store: &SqliteStore, what: &str) {
    let problems = store.audited().unwrap().in_words();
    assert_eq!(problems, [] as [String; 0], "{what}");
}

/// The ways of a status through its lifecycle, so that a subject that forgot its status is found out.
fn step(id: usize, subject: usize, step: usize) -> Sent {
    Sent::new(&format!("e{id}"))
        .of(&format!("r_{subject}"))
        .status(["created", "pending", "completed"][step])
        .at(id as i64)
        // Some of these tests send them from several sources.
        .shared()
}

/// A process that ends before a load is through must not begin it again for ever: `recent` is what every reader reads, and
/// what the next process holds in memory.
#[tokio::test]
async fn keys_reach_their_indexes_however_short_processes_live() {
    for lives in [1, 2] {
        let keys_max = 100;
        let place = Sqlite::with(keeping(keys_max, 0)).quick();
        let mut sent = 0;
        while sent < 5 * keys_max {
            let store = place.open();
            for _ in 0..lives {
                let event = Sent::new(&format!("e{sent}")).of(&format!("r_{sent}"));
                assert!(matches!(event.admit(&store).await, Admitted::New(_)));
                sent += 1;
            }
            store.close().await;
            let waiting = number(&place, "SELECT count(*) FROM recent");
            assert!(
                waiting <= 2 * keys_max as i64,
                "{waiting} keys wait after {sent} receipts in lives of {lives}"
            );
        }
        let store = place.open();
        assert_whole(&store, "after many short lives").await;
        for id in 0..sent {
            let event = Sent::new(&format!("e{id}")).of(&format!("r_{id}"));
            assert_eq!(event.admit(&store).await, Admitted::Same { delivery: 2 });
        }
    }
}

/// What a process that dies after each single commit leaves behind: the file and its WAL, copied between commits.
#[tokio::test]
async fn a_death_between_any_two_commits_loses_no_key_and_no_status() {
    let options = keeping(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    let mut sent: Vec<Sent> = Vec::new();
    let mut reached = [None; 30];
    // Each subject goes through its steps at its own pace, so that one subject's values are in memory, on their way and in
    // the index at once.
    for commit in 0..100 {
        let burst: Vec<_> = (0..[1, 3, 1, 9][commit % 4])
            .map(|_| {
                let id = sent.len();
                let subject = (id * 7) % reached.len();
                let event = match reached[subject].map_or(0, |reached: usize| reached + 1) {
                    next @ 0..3 => {
                        reached[subject] = Some(next);
                        step(id, subject, next)
                    }
                    _ => Sent::new(&format!("e{id}")),
                };
                sent.push(event.clone());
                event.admission(&store)
            })
            .collect();
        let admitted = store.admit(burst).await.unwrap();
        assert!(admitted.iter().all(|admitted| *admitted == ACCEPTED), "{admitted:?}");

        let copy = place.copied_as_it_is(options);
        let after = copy.open();
        assert_whole(&after, &format!("commit {commit}")).await;
        let again = sent.iter().map(|event| event.admission(&after)).collect();
        let again = after.admit(again).await.unwrap();
        let new = again
            .iter()
            .position(|admitted| *admitted != Admitted::Same { delivery: 2 });
        assert_eq!(new, None, "commit {commit}: an event is admitted twice");
        for (subject, reached) in reached
            .iter()
            .enumerate()
            .filter_map(|(at, reached)| Some((at, (*reached)?)))
        {
            let late = step(100_000 + subject, subject, 0).admit(&after).await;
            let said = if reached == 0 { "Accepted" } else { "Superseded" };
            assert!(
                format!("{late:?}").contains(said),
                "commit {commit}: subject {subject} at {reached}: {late:?}"
            );
        }
    }
}

/// The database's own log is not synced for commits that only admit: what the disk kept of it may be any earlier commit. The records
/// beside it bring everything back: receipts, their order, keys, statuses, origins, jobs, and what was not accepted.
#[tokio::test]
async fn what_the_disk_lost_of_the_database_comes_back_from_the_records() {
    let options = keeping(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    let mut copies = Vec::new();
    let mut sent: Vec<Sent> = Vec::new();
    for commit in 0..60 {
        copies.push((sent.len(), place.copied_as_it_is(options)));
        let burst: Vec<_> = (0..[1, 3, 1, 9][commit % 4])
            .map(|_| {
                let id = sent.len();
                let mut event = step(id, id % 20, (id / 20) % 3);
                event.source = ["s1", "s2", "s3", "s4", "s5", "s6"][id / 30 % 6];
                event.unmapped = id % 17 == 16;
                event.body = "x".repeat(id % 7 * 500);
                sent.push(event.clone());
                event.admission(&store)
            })
            .collect();
        let _ = store.admit(burst).await.unwrap();
        if commit % 5 == 4 {
            // Neither claims nor settlements are synced, so they may be lost as well.
            for claim in claim(&store, at(1_000_000), 3).await {
                let _ = settle(&store, settlement(&claim)).await;
            }
        }
    }
    let bodies = std::fs::read(place.log_path()).unwrap();
    let whole = store.counts().await.unwrap();
    assert!(
        whole.held > 5 && whole.superseded > 50 && whole.jobs_done > 10,
        "{whole:?}"
    );
    for (kept, earlier) in &copies {
        let left = place.after_power_loss(earlier, &bodies);
        let after = left.open();
        assert_whole(&after, &format!("from {kept} on")).await;
        let counts = after.counts().await.unwrap();
        assert_eq!(
            (counts.receipts, counts.held, counts.jobs_waiting + counts.jobs_done),
            (whole.receipts, whole.held, whole.jobs_waiting + whole.jobs_done),
            "from {kept} on"
        );
        let links = |place: &Sqlite| -> Vec<u8> {
            place
                .raw()
                .query_row("SELECT link FROM chain_heads", [], |row| row.get(0))
                .unwrap()
        };
        assert_eq!(links(&left), links(&place), "the chain is the same, from {kept} on");
        let again = sent.iter().map(|event| event.admission(&after)).collect();
        let again = after.admit(again).await.unwrap();
        assert!(
            again.iter().all(|admitted| *admitted == Admitted::Same { delivery: 2 }),
            "from {kept} on: {again:?}"
        );
        after.close().await;
        // Admitted again once, not each time that the store is opened.
        assert_eq!(left.open().counts().await.unwrap().receipts, whole.receipts);
    }
}

/// What the power left half written was acknowledged to nobody; it is not there, and neither is anything behind it.
#[tokio::test]
async fn a_record_that_is_not_whole_is_not_believed() {
    let options = keeping(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    assert_eq!(Sent::new("e0").admit(&store).await, ACCEPTED);
    let earlier = place.copied_as_it_is(options);
    let from = std::fs::metadata(place.log_path()).unwrap().len() as usize;
    let mut ends = Vec::new();
    for id in 1..=3 {
        let event = Sent::new(&format!("e{id}")).body(&format!("{id}").repeat(700));
        assert_eq!(event.admit(&store).await, ACCEPTED);
        ends.push(std::fs::metadata(place.log_path()).unwrap().len() as usize);
    }
    let bodies = std::fs::read(place.log_path()).unwrap();
    let receipts = async |bodies: &[u8]| {
        let left = place.after_power_loss(&earlier, bodies);
        let after = left.open();
        assert_whole(&after, "what is left").await;
        after.counts().await.unwrap().receipts
    };
    assert_eq!(receipts(&bodies).await, 4);
    for cut in (from..=bodies.len())
        .step_by(41)
        .chain(ends.iter().flat_map(|end| [end - 1, *end]))
    {
        let expect = 1 + ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(receipts(&bodies[..cut]).await, expect, "cut at {cut}");
        let mut zeroed = bodies.clone();
        zeroed[cut..].fill(0);
        // A record may end with zeroes by itself.
        let expect = expect
            + ends
                .iter()
                .filter(|end| **end > cut && zeroed[..**end] == bodies[..**end])
                .count() as u64;
        assert!(receipts(&zeroed).await <= expect, "zeroes from {cut}");
    }
    for touched in (from..ends[1]).step_by(13) {
        let mut other = bodies.clone();
        other[touched] ^= 1;
        let expect = 1 + ends.iter().filter(|end| **end <= touched).count() as u64;
        assert_eq!(receipts(&other).await, expect, "touched at {touched}");
    }
}

/// A segment that was being made when the process died, or the power went, holds nothing; it is made again when its turn comes.
#[tokio::test]
async fn a_segment_that_was_not_finished_is_made_again() {
    let options = OpenOptions {
        log_segment_bytes: 1,
        ..keeping(20, 0)
    };
    let place = Sqlite::with(options).quick();
    let store = place.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    assert_eq!(Sent::new("e2").admit(&store).await, ACCEPTED);
    store.close().await;
    let newest = place.log_path();
    let end = u64::from_str_radix(&newest.to_str().unwrap()[newest.to_str().unwrap().len() - 16..], 16).unwrap()
        + std::fs::metadata(&newest).unwrap().len();
    for (bytes, expect) in [(0, 2), (79, 2), (80, 2)] {
        let died = place.copy();
        let begun = format!("tollgate.db-log-{end:016x}");
        std::fs::write(died.path().with_file_name(&begun), vec![0; bytes]).unwrap();
        for start in 0..2 {
            let store = died.open();
            assert_eq!(
                store.counts().await.unwrap().receipts,
                expect + start,
                "{bytes} bytes, {start}"
            );
            assert_eq!(Sent::new(&format!("e{}", 3 + start)).admit(&store).await, ACCEPTED);
            assert_whole(&store, "with the segment").await;
            store.close().await;
        }
    }
}

/// Whoever may send bodies must not be able to send receipts in them, and what failed must not come back.
#[tokio::test]
async fn a_record_inside_a_body_and_one_that_was_undone_are_nothing() {
    let options = keeping(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    assert_eq!(Sent::new("e0").admit(&store).await, ACCEPTED);
    let earlier = place.copied_as_it_is(options);
    let from = std::fs::metadata(place.log_path()).unwrap().len() as usize;
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let record = std::fs::read(place.log_path()).unwrap()[from..].to_vec();

    // The same record in another place, where the next one would stand.
    let twice = [std::fs::read(place.log_path()).unwrap(), record].concat();
    let left = place.after_power_loss(&earlier, &twice);
    let after = left.open();
    assert_eq!(after.counts().await.unwrap().receipts, 2);

    place
        .raw()
        .execute_batch("CREATE TRIGGER fails BEFORE INSERT ON pieces BEGIN SELECT RAISE(ABORT, 'on purpose'); END")
        .unwrap();
    let undone = Sent::new("e2").admission(&store);
    assert!(store.admit(vec![undone]).await.is_err());
    place.raw().execute_batch("DROP TRIGGER fails").unwrap();
    let bodies = std::fs::read(place.log_path()).unwrap();
    let left = place.after_power_loss(&place.copied_as_it_is(options), &bodies);
    let after = left.open();
    assert_eq!(after.counts().await.unwrap().receipts, 2, "what failed stays away");
}

/// Whatever a group did is in its record, so the index may be as old as it likes.
#[tokio::test]
async fn a_record_brings_back_all_that_its_group_did() {
    let options = keeping(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    assert_eq!(Sent::new("e0").admit(&store).await, ACCEPTED);
    let earlier = place.copied_as_it_is(options);
    let both = vec![Sent::new("e0").admission(&store), Sent::new("e1").admission(&store)];
    let both = store.admit(both).await.unwrap();
    assert_eq!(both, [Admitted::Same { delivery: 2 }, ACCEPTED]);
    let log = std::fs::read(place.log_path()).unwrap();
    let left = place.after_power_loss(&earlier, &log);
    for start in 0..3 {
        let after = left.open();
        let counts = after.counts().await.unwrap();
        assert_eq!((counts.receipts, counts.redeliveries), (2, 1), "start {start}");
        assert_whole(&after, "after a start").await;
        after.close().await;
    }
}

/// Groups share a transaction of the index, so a commit that fails, or a piece of work, takes with it what was answered before. All of that
/// is in the log: nothing is taken back, leases neither.
#[tokio::test]
async fn what_was_answered_outlives_a_transaction_that_fails() {
    let cases = [
        ("ABORT", "chain_heads"),
        ("ROLLBACK", "chain_heads"),
        ("ABORT", "origins"),
        ("ROLLBACK", "origins"),
    ];
    for (how, place_of_failure) in cases {
        let in_commit = place_of_failure == "chain_heads";
        let place = Sqlite::with(keeping_open(20, 1 << 20)).quick();
        let store = place.open();
        let (first, second) = (Sent::new("e1").of("r_1"), Sent::new("e2").of("r_2"));
        assert_eq!(first.admit(&store).await, ACCEPTED);
        let before = claim(&store, at(1), 8).await;
        store.counts().await.unwrap();
        let raw = place.raw();
        raw.execute_batch(&format!(
            "CREATE TRIGGER fails BEFORE INSERT ON {place_of_failure} BEGIN SELECT RAISE({how}, 'on purpose'); END"
        ))
        .unwrap();

        // All of it is answered before it fails.
        let settled = settle(
            &store,
            settlement(&before[0]).acts("op-1", 1).writes("limit", Some(b"1")),
        )
        .await;
        let Settled::Committed { run, .. } = settled else {
            panic!("{settled:?}")
        };
        assert_eq!(second.admit(&store).await, ACCEPTED);
        let meanwhile = claim(&store, at(2), 8).await;
        assert_eq!(meanwhile.len(), 1);
        let limit = || {
            let blocking = store.blocking();
            blocking.read_state(&name("acme"), &name("cashback"), "limit").unwrap()
        };
        assert_eq!(limit().version, run.0, "runs see what was settled before they began");
        if in_commit {
            assert_eq!(
                store.counts().await.unwrap().receipts,
                1,
                "{how}: its commit has failed"
            );
        } else {
            let mut stranger = Sent::new("e3");
            stranger.source = "s2";
            assert!(store.admit(vec![stranger.admission(&store)]).await.is_err());
            let receipts = store.counts().await.unwrap().receipts;
            assert_eq!(receipts, 2, "{how}: whoever looks sees what was acknowledged");
        }

        raw.execute_batch("DROP TRIGGER fails").unwrap();
        assert_eq!(
            event_ids(&claim(&store, at(3), 8).await),
            [""; 0],
            "{how}: the lease holds"
        );
        assert_eq!(limit().version, run.0, "{how}: what was written stays");
        let done = settlement(&meanwhile[0])
            .reads("limit", run.0, Some(b"1"))
            .acts("op-2", 1);
        assert!(matches!(settle(&store, done).await, Settled::Committed { .. }), "{how}");
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.receipts, counts.jobs_done, counts.actions), (2, 2, 2), "{how}");
        assert_whole(&store, how).await;
        store.close().await;
        assert_whole(&place.open(), how).await;
    }
}

/// A run that kills its host is known as an attempt from the second time on: or it would kill it for ever.
#[tokio::test]
async fn attempts_that_kill_the_process_are_counted() {
    let options = keeping(20, 1 << 20);
    let mut place = Sqlite::with(options).quick();
    let store = place.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    let mut attempt = claim(&store, at(1), 1).await[0].attempt;
    let mut alive = vec![store];
    for _ in 0..3 {
        place = place.copied_as_it_is(options);
        let store = place.open();
        let again = claim(&store, at(1), 1).await[0].attempt;
        assert!(again > attempt || alive.len() == 1, "{again} after {attempt}");
        attempt = again;
        alive.push(store);
    }
    assert!(attempt >= 3, "{attempt}");
}

/// What was answered is in the log before it is answered, so a process that dies takes nothing with it.
#[tokio::test]
async fn what_was_answered_outlives_its_process() {
    let options = keeping(20, 1 << 20);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    let died = |sql: &str| {
        let died = place.copied_as_it_is(options);
        drop(died.open());
        number(&died, sql)
    };
    let event = Sent::new("e1");
    assert_eq!(event.admit(&store).await, ACCEPTED);
    let job = claim(&store, at(1), 1).await.remove(0);
    assert_eq!(died("SELECT attempts FROM jobs"), 1, "a claim");
    let settled = settle(&store, settlement(&job).acts("op-1", 1).to("shop")).await;
    assert!(matches!(settled, Settled::Committed { .. }));
    assert_eq!(died("SELECT count(*) FROM actions"), 1, "a settlement");
    assert_eq!(claim_outbox_one(&store, at(2)).await.attempt, 1);
    assert_eq!(
        died("SELECT attempts FROM outbox"),
        1,
        "an entry that is being delivered"
    );
    assert_eq!(event.admit(&store).await, Admitted::Same { delivery: 2 });
    assert_eq!(died("SELECT count(*) FROM deliveries"), 1, "a redelivery");
    let token = NewToken {
        digest: Digest([7; 32]),
        name: "night".to_owned(),
        role: Role::Viewer,
        tenant: None,
        created_by: "me".to_owned(),
        why: String::new(),
        now: at(1),
        expires_at: None,
        look: tollgate_core::portal::Appearance::default(),
    };
    store.issue_token(token).await.unwrap();
    assert_eq!(died("SELECT count(*) FROM tokens"), 1, "what an operator did");
}

/// Where a process stopped because a sync had failed, part of its WAL may stand nowhere but in the kernel's memory, and what is appended
/// behind it would be lost with it: so its WAL is moved first.
#[tokio::test]
async fn the_wal_of_a_process_that_did_not_end_by_itself_is_moved_first() {
    let options = keeping(20, 1 << 20);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    store.counts().await.unwrap();
    assert!(place.wal_bytes() > 0);
    let died = place.copied_as_it_is(options);
    let after = died.open();
    assert_eq!(died.wal_bytes(), 0);
    assert_eq!(after.counts().await.unwrap().receipts, 1);
}

/// Of groups that share a transaction only their records are durable when the process dies before it commits.
#[tokio::test]
async fn a_process_that_dies_before_its_commit_has_what_it_acknowledged() {
    let options = keeping_open(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    let raw = place.raw();
    raw.execute_batch("CREATE TRIGGER fails BEFORE INSERT ON chain_heads BEGIN SELECT RAISE(ABORT, 'on purpose'); END")
        .unwrap();
    let sent: Vec<Sent> = (0..5).map(|id| Sent::new(&format!("e{id}"))).collect();
    let admissions = sent.iter().map(|event| event.admission(&store)).collect();
    assert_eq!(store.admit(admissions).await.unwrap(), vec![ACCEPTED; 5]);
    let died = place.copied_as_it_is(options);
    died.raw().execute_batch("DROP TRIGGER fails").unwrap();
    assert_eq!(number(&died, "SELECT count(*) FROM pieces"), 0, "nothing was committed");
    let beside_nobody = died.read_only();
    assert_eq!(
        beside_nobody.counts().await.unwrap().receipts,
        5,
        "whoever looks sees it"
    );
    drop(beside_nobody);
    let after = died.open();
    assert_eq!(after.counts().await.unwrap().receipts, 5);
    assert_eq!(claim(&after, at(1), 8).await.len(), 5);
    assert_whole(&after, "after it died").await;
}

/// Nobody routes again what is not on the list of what no route took.
#[tokio::test]
async fn what_no_route_took_is_known_after_a_death_too() {
    let options = keeping_open(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    let raw = place.raw();
    raw.execute_batch("CREATE TRIGGER fails BEFORE INSERT ON chain_heads BEGIN SELECT RAISE(ABORT, 'on purpose'); END")
        .unwrap();
    let routes: [&[&str]; 4] = [&[], &["cashback"], &[], &["cashback"]];
    let sent: Vec<Sent> = routes
        .into_iter()
        .enumerate()
        .map(|(id, routes)| Sent::new(&format!("e{id}")).routes(routes))
        .collect();
    let admissions = sent.iter().map(|event| event.admission(&store)).collect();
    assert_eq!(store.admit(admissions).await.unwrap(), vec![ACCEPTED; 4]);
    let died = place.copied_as_it_is(options);
    died.raw().execute_batch("DROP TRIGGER fails").unwrap();
    let after = died.open();
    let filter = tollgate_store::SetAsideFilter {
        kind: Some(tollgate_store::SetAsideKind::NoRoute),
        rows_max: 10,
        ..tollgate_store::SetAsideFilter::default()
    };
    let listed = after.set_aside(filter).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|item| item.event_id.as_str()).collect();
    assert_eq!(ids, ["e2", "e0"]);
    assert_eq!(after.set_aside_counts(None).await.unwrap()[0].count, 2);
}

/// What became of a late event's jobs is in the record: those that run and those that wait for a person come back.
#[tokio::test]
async fn jobs_of_late_events_are_known_after_a_death_too() {
    let options = keeping_open(20, 0);
    let place = Sqlite::with(options).quick();
    let store = place.open();
    let raw = place.raw();
    raw.execute_batch("CREATE TRIGGER fails BEFORE INSERT ON chain_heads BEGIN SELECT RAISE(ABORT, 'on purpose'); END")
        .unwrap();
    let later = Sent::new("e1").of("r_1").status("completed").routes(&[]);
    let late = Sent::new("e2").of("r_1").status("pending").routes(&["a", "b", "c"]);
    let mut admission = late.admission(&store);
    for (job, says) in admission.jobs.iter_mut().zip([Late::Run, Late::Skip, Late::Hold]) {
        job.late = says;
    }
    store.admit(vec![later.admission(&store), admission]).await.unwrap();
    let died = place.copied_as_it_is(options);
    died.raw().execute_batch("DROP TRIGGER fails").unwrap();
    let after = died.open();
    assert_eq!(claim(&after, at(1), 8).await.len(), 1);
    let held = "SELECT count(*) FROM jobs WHERE state = 4 AND route = 'c' AND reason LIKE 'it came late%'";
    assert_eq!(number(&died, held), 1);
    assert_eq!(number(&died, "SELECT count(*) FROM jobs"), 2);
}

/// What is not on this list is held, and nobody is told (promise T4).
#[tokio::test]
async fn an_audit_misses_what_is_held_and_not_listed() {
    for sql in [
        "DELETE FROM not_accepted WHERE seq = 2",
        "UPDATE not_accepted SET disposition = 1 WHERE seq = 2",
        "UPDATE not_accepted SET seq = 1 WHERE seq = 2",
        "INSERT INTO not_accepted (seq, disposition) VALUES (1, 2)",
    ] {
        let place = Sqlite::with(keeping(2, 0)).quick();
        let store = place.open();
        assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
        let mut unknown = Sent::new("e2").of("r_1").status("exploded");
        unknown.unmapped = true;
        assert!(matches!(
            unknown.admit(&store).await,
            Admitted::New(Disposition::Held { .. })
        ));
        assert_whole(&store, "untouched").await;
        place.raw().execute_batch(sql).unwrap();
        let problems = store.audited().unwrap().in_words();
        assert_eq!(problems.len(), 1, "{sql}: {problems:?}");
        assert!(
            problems[0].contains("list of superseded and held"),
            "{sql}: {problems:?}"
        );
    }
}

/// A write that fails, at each place of a transaction: the group is undone, each of its pieces fails alone, and everything that
/// is remembered beside the file is undone with it. Receipts that come next take the numbers of those that failed.
#[tokio::test]
async fn a_failure_at_any_place_leaves_no_trace() {
    const PLACES: [&str; 9] = [
        "INSERT ON pieces",
        "INSERT ON recent",
        "INSERT ON receipt_keys",
        "INSERT ON subjects",
        "DELETE ON recent",
        "UPDATE ON origins",
        "INSERT ON origins",
        "INSERT ON chain_heads",
        "INSERT ON jobs",
    ];
    for (keys_max, recent_bytes_max) in [(3, 0), (25, 6_000), (25, 1 << 20)] {
        let place = Sqlite::with(keeping(keys_max, recent_bytes_max)).quick();
        let mut store = place.open();
        let raw = place.raw();
        let mut kept: Vec<Sent> = Vec::new();
        let mut reached = [0; 40];
        let (mut failed, mut id) = (0, 0);
        for round in 0..108 {
            let how = ["ABORT", "ROLLBACK"][round / PLACES.len() % 2];
            let trigger = PLACES[round % PLACES.len()];
            // The index is committed for whoever reads; until then its writer has it locked.
            store.counts().await.unwrap();
            raw.execute_batch(&format!(
                "CREATE TRIGGER fails BEFORE {trigger} BEGIN SELECT RAISE({how}, 'on purpose'); END"
            ))
            .unwrap();
            for fails in [true, false] {
                if !fails {
                    raw.execute_batch("DROP TRIGGER fails").unwrap();
                }
                let mut sending = Vec::new();
                for _ in 0..[1, 3, 2][round % 3] {
                    id += 1;
                    let subject = (id * 7) % reached.len();
                    let mut event = match reached[subject] {
                        // What jumps ahead and fails must not stand before what comes after.
                        0..3 if fails && id % 2 == 0 => step(id, subject, 2),
                        next @ 0..3 => step(id, subject, next),
                        _ => Sent::new(&format!("e{id}")),
                    };
                    if id % 11 == 0 {
                        // An origin that is new, and new again when it failed.
                        event.source = ["s1", "s2", "s3", "s4", "s5", "s6"][id / 11 % 6];
                    }
                    event.body = "x".repeat(id % 5 * 400);
                    let (store, admission) = (store.clone(), event.admission(&store));
                    let sent = tokio::spawn(async move { store.admit(vec![admission]).await });
                    sending.push((event, sent));
                }
                for (event, sent) in sending {
                    match sent.await.unwrap() {
                        Ok(admitted) => {
                            assert_eq!(admitted, [ACCEPTED], "{trigger} {round}: {event:?}");
                            if let Some(subject) = &event.subject {
                                let step = ["created", "pending", "completed"]
                                    .iter()
                                    .position(|status| Some(*status) == event.status);
                                reached[subject[2..].parse::<usize>().unwrap()] = step.unwrap() + 1;
                            }
                            kept.push(event);
                        }
                        Err(error) => {
                            assert!(fails, "{trigger} {round}: {error}");
                            failed += 1;
                        }
                    }
                }
            }
            for claim in claim(&store, at(1_000_000), 2).await {
                let event = kept.iter().find(|event| event.id == claim.event.id.as_str()).unwrap();
                assert_eq!(claim.event.payload, event.body, "{trigger} {round}");
                let _ = settle(&store, settlement(&claim)).await;
            }
            if round % 40 == 39 {
                store.close().await;
                store = place.open();
            }
        }
        assert!(failed > 40, "{failed}");
        assert_whole(&store, "after failures").await;
        assert_eq!(store.counts().await.unwrap().receipts, kept.len() as u64);
        for event in &kept {
            assert_eq!(event.admit(&store).await, Admitted::Same { delivery: 2 }, "{event:?}");
            let trace = trace_one(&store, event).await;
            assert_eq!(trace.receipt.event_id, event.id);
        }
        let newest = TraceQuery {
            by: TraceBy::Newest,
            tenant: Some(name("acme")),
            after: None,
            receipts_max: usize::MAX,
        };
        assert_eq!(
            store.trace(newest).await.unwrap().len(),
            kept.len(),
            "from origin to origin"
        );
        for (subject, reached) in reached.iter().enumerate() {
            let subject_name = format!("r_{subject}");
            let mut expect: Vec<_> = kept
                .iter()
                .filter(|event| event.subject.as_ref() == Some(&subject_name))
                .map(|event| event.id.clone())
                .collect();
            let mut found = trace_text(&store, &subject_name).await;
            found.sort();
            expect.sort();
            assert_eq!(found, expect, "from receipt to receipt of {subject_name}");
            let late = step(100_000 + subject, subject, 0).admit(&store).await;
            let said = if *reached < 2 { "Accepted" } else { "Superseded" };
            assert!(
                format!("{late:?}").contains(said),
                "subject {subject} at {reached}: {late:?}"
            );
        }
    }
}

/// Bodies of nothing and of a mebibyte, more receipts than a segment holds, and claims of what has left memory.
#[tokio::test]
async fn bodies_of_all_sizes_come_back() {
    const SEGMENT: usize = 128 * 1024;
    let sizes = [0, 1, SEGMENT - 1, 0, SEGMENT, 0, 1 << 20, 0, SEGMENT + 1];
    for recent_bytes_max in [0, 1 << 30] {
        let place = Sqlite::with(keeping(10, recent_bytes_max)).quick();
        let mut store = place.open();
        let events: Vec<_> = (0..200)
            .map(|id| {
                let size = sizes.get(id % 100).copied().unwrap_or(0);
                Sent::new(&format!("e{id}")).body(&" ".repeat(size))
            })
            .collect();
        let (together, alone) = events.split_at(130);
        let admissions = together.iter().map(|event| event.admission(&store)).collect();
        assert_eq!(store.admit(admissions).await.unwrap(), vec![ACCEPTED; together.len()]);
        for event in alone {
            assert_eq!(event.admit(&store).await, ACCEPTED);
        }
        assert_whole(&store, "bodies").await;
        for reopened in [false, true] {
            for event in &events {
                let found = store.event(event.receipt(&store)).await.unwrap();
                assert!(
                    found.payload == event.body,
                    "{} of {} bytes, {reopened}",
                    event.id,
                    event.body.len()
                );
            }
            for claim in claim(&store, at(1000), 100).await {
                let event = events.iter().find(|event| event.id == claim.event.id.as_str()).unwrap();
                assert!(claim.event.payload == event.body, "{} is claimed, {reopened}", event.id);
            }
            store.close().await;
            store = place.open();
        }
    }
}

/// Whoever reads beside the writer finds what was answered, at every moment of its way from memory into the indexes, while
/// the WAL is moved into the file under him.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_finds_at_once_what_was_answered() {
    let place = Sqlite::with(OpenOptions {
        wal_bytes_max: 64 * 1024,
        ..keeping(30, 0)
    })
    .quick();
    let store = place.open();
    let reader = store.clone();
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let event = |id: usize| {
        Sent::new(&format!("e{id}"))
            .of(&format!("r_{id}"))
            .body(&"x".repeat(id * 37 % 9000))
    };
    let reading = tokio::spawn({
        let answered = std::sync::Arc::clone(&answered);
        async move {
            let mut asked = 0;
            loop {
                let count = answered.load(std::sync::atomic::Ordering::Acquire);
                if count == 600 {
                    return asked;
                }
                asked += 1;
                let Some(id) = (asked * 31_usize).checked_rem(count) else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let event = event(id);
                assert!(
                    reader.event(event.receipt(&reader)).await.unwrap().payload == event.body,
                    "e{id}"
                );
                assert_eq!(trace_text(&reader, &format!("r_{id}")).await, [event.id], "of {count}");
                let held = reader.counts().await.unwrap();
                assert!(held.receipts >= count as u64);
            }
        }
    });
    for id in 0..600 {
        assert_eq!(event(id).admit(&store).await, ACCEPTED);
        answered.store(id + 1, std::sync::atomic::Ordering::Release);
    }
    assert!(reading.await.unwrap() > 20);
}

/// A thread's batcher goes with its runtime; what the thread asks later is answered all the same.
#[test]
fn a_thread_outlives_its_batcher() {
    let place = Sqlite::with(keeping(10, 0)).quick();
    let store = place.open();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    first.block_on(async {
        let batcher = tokio::spawn(ReplyBatcher::of_this_thread().run());
        assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
        batcher.abort();
        let _ = batcher.await;
        assert_eq!(Sent::new("e2").admit(&store).await, ACCEPTED);
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(Sent::new("e3").admit(&store).await, ACCEPTED);
        // One that goes while it holds the answer: whoever waits is told something, and no good news.
        let batcher = ReplyBatcher::of_this_thread();
        let raw = place.raw();
        raw.execute_batch("BEGIN IMMEDIATE").unwrap();
        let waiting = tokio::spawn({
            let (store, admission) = (store.clone(), Sent::new("e4").admission(&store));
            async move { store.admit(vec![admission]).await }
        });
        tokio::task::yield_now().await;
        raw.execute_batch("ROLLBACK").unwrap();
        while store.counts().await.unwrap().receipts < 4 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        drop(batcher);
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await;
        assert!(answer.expect("it waits for ever").unwrap().is_err());
        assert_eq!(Sent::new("e4").admit(&store).await, Admitted::Same { delivery: 2 });
    });
}

/// Two stores went on from one copy. What one decided is not in the other's log, so its index is not the other's.
#[tokio::test]
async fn an_index_of_another_history_is_refused_and_the_log_kept() {
    let place = Sqlite::with(keeping(20, 0)).quick();
    let store = place.open();
    for id in ["e1", "e2"] {
        assert_eq!(Sent::new(id).admit(&store).await, ACCEPTED);
    }
    store.close().await;
    let other = place.copy();
    // Of one length, so that only the seals tell them apart: one event id, since a number made of it takes as many bytes as it needs.
    for (place, body) in [(&place, r#"{"of":"a"}"#), (&other, r#"{"of":"b"}"#)] {
        let store = place.open();
        assert_eq!(Sent::new("e3").body(body).admit(&store).await, ACCEPTED);
        store.close().await;
    }
    std::fs::copy(other.path(), place.path()).unwrap();
    let before = std::fs::read(place.log_path()).unwrap();
    let error = SqliteStore::open(place.path(), keeping(20, 0)).unwrap_err().to_string();
    assert!(error.contains("another history"), "{error}");
    assert_eq!(std::fs::read(place.log_path()).unwrap(), before, "nothing was changed");
    std::fs::remove_file(place.path()).unwrap();
    let store = place.open();
    let kept = Sent::new("e3").receipt(&store);
    assert_eq!(store.event(kept).await.unwrap().payload, r#"{"of":"a"}"#);
    assert_whole(&store, "with an index made anew").await;
}
