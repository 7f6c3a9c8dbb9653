//! O7: a real host is broken on purpose in every way that an alert is there for, at once; a real Prometheus that asks it has each alert firing,
//! and none any more when the host is mended.
//!
//! The rules are those of `ops/alerts.yml` with shorter times: nobody waits a day in a test for what has waited a day. What is not on this machine
//! (Prometheus, PostgreSQL, leave to mount a small disk) is said, and what needs it is passed over.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tollgate_core::time::UnixMillis;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::disk::{ENOSPC, Fault, Image, Watch, What};
use tollgate_tests::events::{plain, redeemed, signer};
use tollgate_tests::json::{list, text};
use tollgate_tests::postgres::Postgres;
use tollgate_tests::root;
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Ran, SOURCES, Setup, Stage, books, tollgate_with, wait_until};

use crate::prometheus::{Prometheus, is_installed};

/// Of a disk that can be filled: two segments of the log, and the index.
const DISK_MIB: u64 = 256;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Until what is broken is seen, and what is mended.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// The shipped rules with shorter times, and the names of the alerts.
fn rules() -> (String, BTreeSet<String>) {
    let mut text = fs::read_to_string(root().join("ops/alerts.yml")).expect("the rules");
    for (is, shorter) in [
        ("[5m]", "[8s]"),
        ("[10m]", "[8s]"),
        ("[15m]", "[8s]"),
        ("_oldest_waiting_seconds > 600", "_oldest_waiting_seconds > 2"),
        ("_oldest_waiting_seconds > 3600", "_oldest_waiting_seconds > 2"),
        ("> 86400", "> 2"),
        ("wal_pinned_seconds > 300", "wal_pinned_seconds > 1"),
    ] {
        assert!(text.contains(is), "ops/alerts.yml has no `{is}` any more");
        text = text.replace(is, shorter);
    }
    let line = |line: &str| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 1s\n"),
        _ => format!("{line}\n"),
    };
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names = names.map(str::to_owned).collect();
    (text.lines().map(line).collect(), names)
}

/// Whether the tests may mount a disk of their own.
fn may_mount() -> bool {
    let mut asked = Command::new("unshare");
    asked.args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    let may = asked.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let may = may.is_ok_and(|status| status.success());
    if !may {
        say("skipped: nothing may be mounted here, so no disk was filled up (TollgateDiskFilling)");
    }
    may
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// What is seen of the alerts.
struct Watcher<'p> {
    prometheus: &'p Prometheus,
    fired: BTreeSet<String>,
    begun: Instant,
}

impl Watcher<'_> {
    /// The alerts that fire now.
    fn firing(&mut self) -> BTreeSet<String> {
        let answer = self.prometheus.get("/api/v1/alerts").unwrap_or_default();
        let alerts = list(&answer["data"]["alerts"]);
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let firing: BTreeSet<String> = firing
            .map(|alert| text(&alert["labels"], "alertname").to_owned())
            .collect();
        self.fired.extend(firing.iter().cloned());
        firing
    }

    /// Goes on with `meanwhile` until all of these have fired.
    #[track_caller]
    fn see(&mut self, names: &[&str], mut meanwhile: impl FnMut()) {
        let begun = Instant::now();
        while !names.iter().all(|name| self.fired.contains(*name)) {
            meanwhile();
            self.firing();
            let missing: Vec<_> = names.iter().filter(|name| !self.fired.contains(**name)).collect();
            assert!(begun.elapsed() < SEEN_WITHIN, "never fired: {missing:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
        say(&format!("after {:.1?} {names:?} fired", self.begun.elapsed()));
    }

    /// Waits until nothing fires any more.
    #[track_caller]
    fn calm(&mut self, mut meanwhile: impl FnMut()) {
        let begun = Instant::now();
        loop {
            let firing = self.firing();
            if firing.is_empty() {
                say(&format!("after {:.1?} nothing fires", self.begun.elapsed()));
                return;
            }
            assert!(begun.elapsed() < SEEN_WITHIN, "still fires: {firing:?}");
            meanwhile();
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The command line, of the running host alone: its disk may be one that only it sees.
#[track_caller]
fn ask(stage: &Stage, arguments: &[&str]) -> Ran {
    let (url, token) = (format!("http://{}", stage.operator), stage.operator_token());
    let variables = [("TOLLGATE_URL", url.as_str()), ("TOLLGATE_TOKEN", token)];
    tollgate_with(&variables, &[arguments, &["--json"]].concat(), b"").ok()
}

/// Somebody's shell that was left in a transaction.
struct Reader(Child);

impl Reader {
    /// Where the host of this process sees the store.
    fn of(store: &Path, host: u32, mounts: bool) -> Self {
        let script = "import sqlite3, sys\n\
                      c = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
                      c.execute('BEGIN'); c.execute('SELECT count(*) FROM meta').fetchall()\n\
                      print('reading', flush=True); sys.stdin.read()";
        let mut python = match mounts {
            true => {
                let mut python = Command::new("nsenter");
                python.args(["--target", &host.to_string(), "--mount", "python3"]);
                python
            }
            false => Command::new("python3"),
        };
        python.args(["-c", script]).arg(store);
        let python = python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().expect("python3");
        let mut line = String::new();
        BufReader::new(python.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line, "reading\n");
        Self(python)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The tenant whose everything goes wrong; `secret` are further keys of its shop's secret, and `plugin` runs on its route `bad`.
fn tenant(to_books: &Destination, gone: &Destination, secret: &str, plugin: &str) -> String {
    let shop = "secrets = [{ id = \"shop-1\", value = { file = \"../secrets/shop\" }";
    let sources = SOURCES.replace(shop, &format!("{shop}{secret}"));
    assert!(sources.contains(secret));
    format!(
        "{sources}{CASHBACK_TO_BOOKS}{}{}\n[routes.notes]\ntypes = [\"note\"]\nforward = \"body\"\ndestinations = [\"gone\"]\n\
         [routes.later]\ntypes = [\"later\"]\nforward = \"body\"\ndestinations = [\"books\"]\n\
         [routes.bad]\ntypes = [\"bad\"]\nplugin = \"{plugin}\"\ngrants = [{{ kind = \"flag\" }}]\n",
        books("books", to_books),
        books("gone", gone),
    )
}

#[test]
fn o7_every_alert_fires_when_a_real_host_is_broken_and_ends_when_it_is_mended() {
    if !is_installed() {
        return;
    }
    let (to_books, gone) = (Destination::start(), Destination::start());
    let watch = Watch::over(&Image::default());
    let mounts = may_mount();
    let mut wrapper = watch.wrapper();
    if mounts {
        let mount = format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs \"$0\" && exec \"$@\"");
        let folder = watch.folder().display().to_string();
        let within = ["unshare", "--mount", "sh", "-c", &mount, &folder].map(str::to_owned);
        wrapper = within.into_iter().chain(wrapper).collect();
    }
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let tomorrow = UnixMillis(i64::try_from(now.as_millis()).expect("a time") + DAY_MS);
    let ends = format!(", not_after = \"{tomorrow}\"");
    let mut stage = Setup::default()
        .tenant("acme", &tenant(&to_books, &gone, &ends, "panic"))
        .tenant("globex", SOURCES)
        .plugin("cashback")
        .hostile("panic")
        .hostile("good")
        .worker("threads = 2\nquarantine_after = 3\n[worker.retry]\nattempts_max = 1")
        .delivery(
            "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[delivery.retry]\nattempts_max = 1000\nbase_ms = 50\ncap_ms = 200",
        )
        .store(&watch.store().to_string_lossy())
        .store_lines("wal_bytes_max = 65536")
        .wrapper(&wrapper)
        .start();
    // A second host has its store elsewhere, and loses it.
    let server = Postgres::if_there();
    let shared = server.as_ref().map(|server| {
        Setup::acme("")
            .secret("store", &server.url())
            .store_lines("url = { file = \"secrets/store\" }")
            .start()
    });
    let (rules, mut names) = rules();
    stage.write("alerts.yml", &rules);
    let stages: Vec<&Stage> = [&stage].into_iter().chain(&shared).collect();
    let prometheus = Prometheus::of(&stages, &stage.path("alerts.yml"));
    let hosts = stages.len();
    let mut seen = Watcher {
        prometheus: &prometheus,
        fired: BTreeSet::new(),
        begun: Instant::now(),
    };
    wait_until("Prometheus has asked the hosts", || {
        (prometheus.query("up == 1") == Ok(hosts)).then_some(())
    });
    // Of a counter that is new nothing is known of before.
    wait_until("a host is known for a while", || {
        (prometheus.query("min_over_time(up[3s]) == 1 and count_over_time(up[3s]) > 2") == Ok(hosts)).then_some(())
    });

    // Everything at once.
    to_books.otherwise(Reply::Status(503));
    gone.otherwise(Reply::Status(410));
    let post = |stage: &Stage, body: String| stage.post("shop", &signer("shop").sign("", body)).status;
    ask(
        &stage,
        &["pause", "route", "--tenant", "acme", "later", "--why", "a test"],
    );
    for n in 0..6 {
        assert_eq!(
            post(
                &stage,
                redeemed(&format!("evt_paid_{n}"), &format!("red_{n}"), "success")
            ),
            202
        );
        assert_eq!(post(&stage, plain("bad", &format!("evt_bad_{n}"))), 202);
    }
    assert_eq!(post(&stage, plain("note", "evt_note")), 202);
    assert_eq!(post(&stage, plain("later", "evt_later")), 202);
    assert_eq!(post(&stage, redeemed("evt_odd", "red_odd", "teleported")), 202);
    stage.write("tenants/globex.toml", "colour = 1\n");
    stage.signal("HUP");
    // As only the host itself sees it.
    let store = if mounts {
        PathBuf::from(format!("/proc/{}/root{}", stage.pid(), watch.store().display()))
    } else {
        watch.store()
    };
    let reader = Reader::of(&watch.store(), stage.pid(), mounts);
    let mut server = server;
    if let Some(server) = &mut server {
        server.kill();
    }
    let filler = store.with_file_name("filler");
    if mounts {
        let free = stage.metric("tollgate_store_disk_free_bytes");
        let bytes = free.saturating_sub(DISK_MIB * 1024 * 1024 / 16);
        fs::File::create(&filler)
            .and_then(|file| std::io::copy(&mut std::io::Read::take(std::io::repeat(0), bytes), &mut &file))
            .expect("a file that fills the disk");
    }
    let mut number = 0;
    let mut more = |stage: &Stage| {
        number += 1;
        // Somebody else's signature.
        let forged = signer("shop").sign("", plain("order.paid", &format!("evt_forged_{number}")));
        assert_eq!(stage.post("orders", &forged).status, 401);
        for part in 0..5 {
            assert_eq!(post(stage, plain("nothing", &format!("evt_{number}_{part}"))), 202);
        }
    };
    let mut expected = vec![
        "TollgateJobsLate",
        "TollgateDeliveriesLate",
        "TollgateBreakerOpen",
        "TollgateDeadLetters",
        "TollgatePluginQuarantined",
        "TollgateRunsFail",
        "TollgateSourceRefused",
        "TollgateSecretEnds",
        "TollgateTenantConfigBroken",
        "TollgateReviewWaits",
        "TollgateWalPinned",
    ];
    if mounts {
        expected.push("TollgateDiskFilling");
    } else {
        names.remove("TollgateDiskFilling");
    }
    if shared.is_some() {
        expected.extend(["TollgateStoreDown", "TollgateNotReady"]);
    } else {
        names.retain(|name| !["TollgateStoreDown", "TollgateNotReady"].contains(&name.as_str()));
    }
    seen.see(&expected, || more(&stage));

    // Then the disk: first slow, then full.
    let fault = |what, error| Fault {
        what,
        suffix: "",
        nth: 1,
        lasts: true,
        error,
    };
    watch.arm(fault(What::SlowSync, 1_500));
    let mut slow = 0;
    seen.see(&["TollgateAdmitSlow"], || {
        slow += 1;
        assert_eq!(post(&stage, plain("nothing", &format!("evt_slow_{slow}"))), 202);
    });
    watch.arm(fault(What::Write, ENOSPC));
    let mut turned_away = 0;
    seen.see(&["TollgateTurnsEventsAway"], || {
        turned_away += 1;
        assert_eq!(post(&stage, plain("nothing", &format!("evt_away_{turned_away}"))), 503);
    });
    watch.lift();

    // All of it is mended.
    if let Some(server) = &mut server {
        server.start_again();
    }
    drop(reader);
    if mounts {
        fs::remove_file(&filler).expect("the file that filled the disk");
    }
    to_books.otherwise(Reply::Status(204));
    gone.otherwise(Reply::Status(204));
    wait_until("events are taken in again", || {
        (post(&stage, plain("nothing", "evt_again")) != 503).then_some(())
    });
    stage.write("tenants/globex.toml", SOURCES);
    stage.write("tenants/acme.toml", &tenant(&to_books, &gone, "", "good"));
    stage.reload();
    ask(&stage, &["plugin", "lift", "acme", "bad", "--why", "another plugin"]);
    ask(
        &stage,
        &["resume", "route", "--tenant", "acme", "later", "--why", "a test"],
    );
    ask(
        &stage,
        &["bulk", "replay", "status:dead", "--yes", "--why", "another plugin"],
    );
    ask(
        &stage,
        &["bulk", "redeliver", "status:dead", "--yes", "--why", "it is back"],
    );
    let odd = list(&stage.operator_get("/v1/events?filter=event%3Aevt_odd").json()["items"]);
    ask(
        &stage,
        &["review", text(&odd[0], "receipt"), "--dismiss", "--why", "a test"],
    );
    let mut after = 0;
    seen.calm(|| {
        // So that the WAL is moved, and the breaker's probe has something to send.
        after += 1;
        let _ = post(&stage, plain("nothing", &format!("evt_after_{after}")));
    });

    // The host itself.
    stage.stop();
    seen.see(&["TollgateDown"], || ());
    stage.start();
    seen.calm(|| ());
    assert_eq!(seen.fired, names, "each alert was seen");
}
