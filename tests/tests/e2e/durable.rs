//! I4, I5: no acknowledgement without a durable receipt, and no acknowledgement that waits for anything else.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tollgate_tests::client::Answer;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{Message, any_event, signer};
use tollgate_tests::json::says;
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Setup, Stage, books, books_at, free_port, tollgate, wait_until};

/// A signed event of about 60 KB.
fn bulky(id: &str) -> Message {
    let body = serde_json::json!({ "event": "note", "event_id": id, "text": "x".repeat(60_000) });
    signer("shop").sign("", body.to_string())
}

/// Posts bulky events until one is not taken. Answers the ids that were, and the refused one with its answer.
fn fill(stage: &Stage) -> (Vec<String>, String, Answer) {
    fill_from(stage, 0)
}

fn fill_from(stage: &Stage, first: u32) -> (Vec<String>, String, Answer) {
    let mut kept = Vec::new();
    for number in first..first + 400 {
        let id = format!("bulky-{number}");
        let answer = stage.post("shop", &bulky(&id));
        if answer.status != 202 {
            return (kept, id, answer);
        }
        kept.push(id);
    }
    panic!("400 events of 60 KB fitted into a store that is bounded");
}

#[test]
fn i4_a_kill_right_after_the_answer_loses_nothing() {
    let mut stage = Setup::acme("").start();
    for number in 0..10 {
        let message = signer("shop").sign("", any_event("shop", &format!("evt_{number}")));
        let answer = stage.post("shop", &message);
        stage.kill();
        assert_eq!(answer.verdict(), (202, "accepted".to_owned()));
        stage.start();
        let again = stage.post("shop", &message);
        assert_eq!(again.verdict(), (200, "same".to_owned()));
        assert_eq!(again.receipt(), answer.receipt());
    }
    assert_eq!(stage.counts()["receipts"], 10);
    stage.assert_whole();
}

/// Into a removed file one can write and sync, and all of it is gone with the process.
#[test]
fn i4_a_store_whose_file_is_removed_acknowledges_nothing_and_stops() {
    let mut stage = Setup::acme("").native().start();
    let message = |id: &str| signer("shop").sign("", any_event("shop", id));
    assert_eq!(stage.post("shop", &message("evt_1")).status, 202);
    fs::remove_file(stage.path("tollgate.db")).expect("the store's file");
    assert_eq!(stage.post("shop", &message("evt_2")).status, 503);
    assert_eq!(
        stage.wait_for_exit(),
        Some(3),
        "what is on the disk is unknown: the host stops"
    );
    assert!(
        !stage
            .log_with("was removed or replaced while the store was open")
            .is_empty(),
        "{:?}",
        stage.log()
    );
}

/// Whether a test may make a file system of its own, which a machine may withhold; says so when not.
fn may_mount() -> bool {
    let may_mount = Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !may_mount {
        let skipped = "skipped: this machine does not let a test mount a file system of its own\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), skipped.as_bytes());
    }
    may_mount
}

/// The write-ahead log may grow to 64 MiB, of which a small disk has not that much: when it is full, the log gives way.
#[test]
fn i4_the_log_leaves_a_small_disk_to_receipts() {
    if !may_mount() {
        return;
    }
    let script =
        "mkdir -p \"$STAGE/disk\" && mount -t tmpfs -o size=8m,mode=0700 none \"$STAGE/disk\" && exec \"$0\" \"$@\"";
    let stage = Setup::acme("")
        .store("disk/tollgate.db")
        .wrapper(&["unshare", "-rm", "sh", "-c", script])
        .start();
    // Each of these commits writes some 40 KB of log, and keeps less than one.
    for number in 0..600 {
        let sent = signer("shop").sign("", any_event("shop", &format!("evt_{number}")));
        assert_eq!(
            stage.post("shop", &sent).verdict(),
            (202, "accepted".to_owned()),
            "event {number}"
        );
    }
}

/// On a file system of its own that gets full.
#[test]
fn i4_a_full_disk_is_answered_503_and_recovers_when_space_returns() {
    if !may_mount() {
        return;
    }
    // Ballast is thrown off when the test asks for it.
    let script = "mkdir -p \"$STAGE/disk\" && mount -t tmpfs -o size=4m,mode=0700 none \"$STAGE/disk\" && \
                  head -c 1500000 /dev/zero > \"$STAGE/disk/ballast\" && \
                  { ( while [ ! -e \"$STAGE/lighten\" ]; do sleep 0.05; done; rm \"$STAGE/disk/ballast\" ) >/dev/null 2>&1 & } && \
                  exec \"$0\" \"$@\"";
    let stage = Setup::acme("")
        .store("disk/tollgate.db")
        .wrapper(&["unshare", "-rm", "sh", "-c", script])
        .start();
    let (kept, _, answer) = fill(&stage);
    assert!(!kept.is_empty());
    assert_eq!(answer.verdict(), (503, "store-unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert!(stage.metric("tollgate_refused_total{cause=\"store-no-space\"}") >= 1);
    // Still honest and still up; a log that was moved may have made a little room.
    let (more, refused, _) = fill_from(&stage, 1_000);
    assert!(more.len() < 20, "{} more on a full disk", more.len());
    let kept = [kept, more].concat();

    stage.write("lighten", "");
    let verdict = wait_until("space has returned and is used", || {
        let answer = stage.post("shop", &bulky(&refused));
        (answer.status != 503).then(|| answer.verdict())
    });
    assert_eq!(
        verdict,
        (202, "accepted".to_owned()),
        "what was refused had not been kept"
    );
    for id in &kept {
        assert_eq!(
            stage.post("shop", &bulky(id)).verdict(),
            (200, "same".to_owned()),
            "{id}"
        );
    }
}

#[test]
fn i4_a_failing_disk_is_answered_503_and_the_host_stops() {
    // A file that may not grow further fails a write as a broken disk does.
    let mut stage = Setup::acme("")
        .native()
        .wrapper(&["sh", "-c", "trap '' XFSZ; exec prlimit --fsize=2000000 \"$0\" \"$@\""])
        .start();
    let (kept, refused, answer) = fill(&stage);
    assert_eq!(answer.verdict(), (503, "store-unavailable".to_owned()));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(stage.wait_for_exit(), Some(3));
    let said = stage.log().join("\n");
    assert!(said.contains("the store's disk failed"), "{said}");

    // On a disk that is well again, everything that was acknowledged is there.
    stage.drop_wrapper();
    stage.start();
    for id in &kept {
        assert_eq!(
            stage.post("shop", &bulky(id)).verdict(),
            (200, "same".to_owned()),
            "{id}"
        );
    }
    let status = stage.post("shop", &bulky(&refused)).status;
    assert!(status == 202 || status == 200, "{status}");
    stage.assert_whole();
}

#[test]
fn i4_a_second_process_on_the_same_store_is_refused() {
    let stage = Setup::acme("").native().start();
    let config = stage.config();
    let ran = tollgate(&["serve", "--config", config.to_str().expect("UTF-8")], b"");
    assert_eq!(ran.code, 3, "{ran:?}");
    says(&ran.stderr, &["another process already uses the store", "tollgate.db"]);
    // The first is not disturbed.
    assert_eq!(
        stage
            .post("shop", &signer("shop").sign("", any_event("shop", "evt_1")))
            .status,
        202
    );
}

#[test]
fn i4_a_store_that_is_no_store_is_not_overwritten() {
    let mut stage = Setup::acme("").native().set();
    stage.write("tollgate.db", &"this was something else ".repeat(100));
    let said = stage.try_start().expect_err("a host that refuses");
    assert!(said.contains("file is not a database"), "{said}");
    let kept = fs::read_to_string(stage.path("tollgate.db")).expect("the file");
    assert!(kept.starts_with("this was something else"));
}

/// The time within which 99 % of `count` posts of new events were answered, and the longest.
fn answer_times(stage: &Stage, prefix: &str, count: usize) -> (Duration, Duration) {
    let mut client = stage.connect();
    let mut times: Vec<_> = (0..count)
        .map(|number| {
            let id = format!("{prefix}-{number}");
            let message = signer("shop").sign("", any_event("shop", &id));
            let start = Instant::now();
            let answer = client.post("/in/acme/shop", &message).expect("an answer");
            assert_eq!(answer.status, 202, "{id}");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[count * 99 / 100 - 1], times[count - 1])
}

#[test]
fn i5_answers_do_not_wait_for_what_is_dead_hangs_crawls_or_spins() {
    let alone = answer_times(&Setup::acme("").start(), "alone", 300).0;

    let (hangs, crawls) = (Destination::start(), Destination::start());
    hangs.otherwise(Reply::Hang);
    crawls.otherwise(Reply::After(Duration::from_secs(2), 204));
    let mut rest = CASHBACK_TO_BOOKS.replace("[\"books\"]", "[\"dead\", \"hangs\", \"crawls\"]");
    rest.push_str("[routes.spin]\nplugin = \"spin\"\ngrants = [{ kind = \"flag\" }]\n");
    rest.push_str(&books_at("dead", &format!("http://{}/", free_port())));
    rest.push_str(&books("hangs", &hangs));
    rest.push_str(&books("crawls", &crawls));
    let stage = Setup::acme(&rest).plugin("cashback").hostile("spin").start();
    let (most, longest) = answer_times(&stage, "beside", 300);

    // They were really there: deliveries are under way, and nothing came back from two of them.
    hangs.wait_for(1);
    crawls.wait_for(1);
    assert!(stage.counts()["outbox_waiting"].as_u64() > Some(0));
    // What waits for a destination waits 2 s or more, what waits for all the spinning before it much longer.
    let bound = (alone * 20).max(Duration::from_millis(1000));
    assert!(
        most < bound,
        "99 % of 300 answers in {most:?} (longest {longest:?}); {alone:?} on a host with nothing to do"
    );
}
