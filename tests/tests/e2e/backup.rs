//! D4, the part that stands: a backup beside a running host, restored as docs/backup.md says; files that do not belong together; who
//! keeps the log from being emptied.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tollgate_tests::events::{any_event, signer};
use tollgate_tests::stage::{Setup, Stage, tollgate, wait_until};

/// Posts an event; whether it was taken.
fn send(stage: &Stage, id: &str) -> (u16, String) {
    stage
        .post("shop", &signer("shop").sign("", any_event("shop", id)))
        .verdict()
}

/// The commands of docs/backup.md, with folders under this one in place of the page's.
fn documented(folder: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(tollgate_tests::root().join("docs/backup.md")).expect("docs/backup.md");
    page.lines()
        .filter_map(|line| line.strip_prefix("tollgate backup "))
        .map(|line| {
            let command = line.split('#').next().unwrap_or_default();
            let words = command.split_whitespace();
            let words = words.map(|word| word.replace("/backups", folder));
            ["backup".to_owned()].into_iter().chain(words).collect()
        })
        .collect()
}

#[test]
fn d4_what_the_docs_say_restores_every_event_that_was_acknowledged_before_the_backup() {
    let mut stage = Setup::acme("").store_lines("wal_bytes_max = 1048576").start();
    let folder = stage.path("backups").to_str().expect("UTF-8").to_owned();
    fs::create_dir(&folder).expect("a folder");
    let commands = documented(&folder);
    let [take, take_next, verify, restore] = commands.as_slice() else {
        panic!("take, take the next, verify, restore: {commands:?}");
    };
    let ask = |stage: &Stage, command: &[String]| {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        stage.ask(&words)
    };
    let (acknowledged, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let known = thread::scope(|scope| {
        for sender in 0..3 {
            let (stage, acknowledged, stop) = (&stage, &acknowledged, &stop);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("evt_{sender}_{number}");
                    if send(stage, &id).0 == 202 {
                        acknowledged.lock().expect("the list").push(id.clone());
                    }
                    if number % 7 == 0 {
                        // A redelivery's commit is synced with all that it holds.
                        send(stage, &id);
                    }
                }
            });
        }
        wait_until("some events", || {
            (acknowledged.lock().expect("the list").len() > 300).then_some(())
        });
        let known = acknowledged.lock().expect("the list").clone();
        let taken = ask(&stage, take);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(taken.code, 0, "{taken:?}");
        ask(&stage, take_next).ok();
        known
    });
    stage.kill();
    let words: Vec<&str> = verify.iter().map(String::as_str).collect();
    tollgate(&words, b"").ok();
    let occupied = ask(&stage, restore);
    assert_eq!(occupied.code, 3, "a store is there: {occupied:?}");
    for file in [
        "tollgate.db",
        "tollgate.db-log-0000000000000000",
        "tollgate.db-key",
        "tollgate.db-wal",
        "tollgate.db-shm",
        "tollgate.db.lock",
    ] {
        let _ = fs::rename(stage.path(file), stage.path(&format!("lost-{file}")));
    }
    ask(&stage, restore).ok();
    stage.start();
    for id in &known {
        assert_eq!(
            send(&stage, id),
            (200, "same".to_owned()),
            "{id} was acknowledged before the backup"
        );
    }
    stage.assert_whole();
    assert!(stage.log_with("was older than the log").is_empty(), "{:?}", stage.log());
}

#[test]
fn d4_a_backup_that_was_cut_or_changed_or_not_finished_is_refused() {
    let stage = Setup::acme("").native().start();
    for number in 0..20 {
        assert_eq!(send(&stage, &format!("evt_{number}")).0, 202);
    }
    let folder = stage.path("backup");
    let name = folder.to_str().expect("UTF-8");
    stage.ask(&["backup", "--to", name]).ok();
    let again = stage.ask(&["backup", "--to", name]);
    assert_eq!(again.code, 3, "nothing is written over: {again:?}");
    assert!(again.stderr.contains("not empty"), "{again:?}");
    let verify = || tollgate(&["backup", "verify", name], b"");
    assert_eq!(verify().code, 0);

    let log = folder.join("tollgate.db-log-0000000000000000");
    let kept = fs::read(&log).expect("the log");
    let mut changed = kept.clone();
    changed[kept.len() / 2] ^= 1;
    for (bytes, expect) in [
        (&kept[..kept.len() - 1], "it was cut or changed"),
        (&changed[..], "SHA-256 is another"),
    ] {
        fs::write(&log, bytes).expect("a file");
        let ran = verify();
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stdout.contains(expect), "{ran:?}");
        let elsewhere = stage.path("elsewhere.db");
        let elsewhere = elsewhere.to_str().expect("UTF-8");
        let restored = tollgate(&["backup", "restore", name, "--store", elsewhere], b"");
        assert_eq!(restored.code, 3, "{restored:?}");
        assert!(!stage.path("elsewhere.db").exists(), "nothing of it is left");
        assert!(!stage.path("elsewhere.db-key").exists(), "nothing of it is left");
    }
    fs::write(&log, &kept).expect("a file");
    fs::remove_file(folder.join("backup.json")).expect("the manifest");
    let unfinished = verify();
    assert_eq!(unfinished.code, 1, "{unfinished:?}");
    assert!(unfinished.stdout.contains("was not finished"), "{unfinished:?}");
}

#[test]
fn d4_an_older_index_beside_a_newer_log_loses_nothing_and_is_said() {
    let mut stage = Setup::acme("").native().start();
    for number in 0..10 {
        assert_eq!(send(&stage, &format!("evt_{number}")).0, 202);
    }
    stage.stop();
    fs::copy(stage.path("tollgate.db"), stage.path("old.db")).expect("a copy");
    stage.start();
    for number in 10..30 {
        let id = format!("evt_{number}");
        assert_eq!(send(&stage, &id).0, 202);
        assert_eq!(send(&stage, &id).1, "same");
    }
    stage.stop();
    fs::copy(stage.path("old.db"), stage.path("tollgate.db")).expect("a copy");
    let store = stage.path("tollgate.db");
    let audited = tollgate(&["audit", "verify", "--store", store.to_str().expect("UTF-8")], b"");
    assert_eq!(audited.code, 1, "{audited:?}");
    assert!(
        audited.stdout.contains("the index is older than the log"),
        "{audited:?}"
    );
    stage.start();
    assert!(
        !stage.log_with("the index was older than the log").is_empty(),
        "{:?}",
        stage.log()
    );
    for number in 0..30 {
        assert_eq!(send(&stage, &format!("evt_{number}")).1, "same", "evt_{number}");
    }
    stage.assert_whole();
    // An index may also be made anew, while no host runs.
    let rebuild = |stage: &Stage| stage.ask(&["store", "rebuild"]);
    let refused = rebuild(&stage);
    assert_eq!(refused.code, 3, "{refused:?}");
    stage.stop();
    fs::write(stage.path("tollgate.db"), b"no database at all").expect("a file");
    let made = rebuild(&stage);
    assert_eq!((made.code, &made.json()["ok"]), (0, &true.into()), "{made:?}");
    stage.start();
    for number in 0..30 {
        assert_eq!(send(&stage, &format!("evt_{number}")).1, "same", "evt_{number}");
    }
    stage.assert_whole();
}

#[test]
fn i4_a_second_host_is_refused_though_the_lock_file_was_removed() {
    let stage = Setup::acme("").native().start();
    assert_eq!(send(&stage, "evt_1").0, 202);
    fs::remove_file(stage.path("tollgate.db.lock")).expect("the lock file");
    let mut second = Setup::acme("")
        .store(stage.path("tollgate.db").to_str().expect("UTF-8"))
        .set();
    let refused = second.try_start().expect_err("a second host on one store");
    assert!(refused.contains("another process already uses the store"), "{refused}");
    assert_eq!(send(&stage, "evt_2").0, 202, "the first goes on");
}

/// A shell that was left in a transaction, on a store whose log is small.
#[test]
fn i4_a_reader_that_keeps_the_log_from_being_emptied_is_named() {
    let stage = Setup::acme("").store_lines("wal_bytes_max = 262144").start();
    let bulky = |number: usize| {
        let body = serde_json::json!({ "event": "note", "event_id": format!("evt_{number}") });
        stage.post("shop", &signer("shop").sign("", body.to_string()))
    };
    assert_eq!(bulky(0).status, 202);
    let script = "import sqlite3, sys\n\
                  c = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
                  c.execute('BEGIN'); c.execute('SELECT count(*) FROM meta').fetchall()\n\
                  print('reading', flush=True); sys.stdin.read()";
    let mut reader = Command::new("python3")
        .args(["-c", script])
        .arg(stage.path("tollgate.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut line = String::new();
    BufReader::new(reader.stdout.take().expect("its output"))
        .read_line(&mut line)
        .expect("a line");
    assert_eq!(line, "reading\n");
    let mut number = 0;
    let said = wait_until("the reader's name in the log", || {
        for _ in 0..20 {
            number += 1;
            assert_eq!(bulky(number).status, 202, "nothing waits for a reader");
        }
        stage.log_with("cannot be emptied").first().cloned()
    });
    assert!(said.contains(&format!("process {} (python", reader.id())), "{said}");
    assert!(stage.metric("tollgate_store_wal_bytes") >= 2 * 262_144);
    drop(reader.stdin.take());
    reader.wait().expect("its end");
    wait_until("the log is moved again", || {
        number += 1;
        assert_eq!(bulky(number).status, 202);
        thread::sleep(Duration::from_millis(5));
        (!stage.log_with("is moved again").is_empty()).then_some(())
    });
    assert_eq!(stage.metric("tollgate_store_wal_pinned_seconds"), 0);
}
