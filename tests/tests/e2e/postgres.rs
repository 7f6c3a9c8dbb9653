//! R3: many hosts share one PostgreSQL; any takes in, any works, and each may end.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tollgate_tests::console::{Person, confirming, text};
use tollgate_tests::destination::Destination;
use tollgate_tests::events::{self, redeemed, signer};
use tollgate_tests::postgres::{Postgres, folder};
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Setup, Stage, books, tollgate, wait_until};
use tollgate_tests::{disk_library, tollgate_bin};

use tollgate_tests::certificates::{Authority, Validity};

/// A test on a server of its own, or none where there is no server.
macro_rules! server {
    () => {
        match Postgres::if_there() {
            Some(server) => server,
            None => return,
        }
    };
}

fn host(server: &Postgres, destination: &Destination) -> Setup {
    Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", destination)))
        .plugin("cashback")
        .secret("store", &server.url())
        .store_lines("url = { file = \"secrets/store\" }")
}

fn post(stage: &Stage, number: u32) -> (u16, String) {
    let body = redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success");
    stage.post("shop", &signer("shop").sign("", body)).verdict()
}

#[test]
fn r3_an_event_is_kept_run_and_delivered_on_postgresql_and_found_again_after_a_kill() {
    let (server, destination) = (server!(), Destination::start());
    let mut stage = host(&server, &destination).start();
    let body = redeemed("evt_1", "red_1", "success");
    let answer = stage.post("shop", &signer("shop").sign("", body));
    assert_eq!(answer.verdict(), (202, "accepted".to_owned()));
    let receipt = answer.receipt();
    stage.quiet();
    let delivered =
        |stage: &Stage| stage.trace(&receipt)["jobs"][0]["runs"][0]["actions"][0]["deliveries"][0]["state"].clone();
    assert_eq!(delivered(&stage), json!("delivered"));
    assert_eq!(destination.arrivals().len(), 1);
    assert!(!stage.path("tollgate.db").exists(), "nothing of the store is in files");
    stage.kill();
    stage.start();
    assert_eq!(post(&stage, 1), (200, "same".to_owned()));
    stage.quiet();
    assert_eq!(delivered(&stage), json!("delivered"));
    assert_eq!(destination.arrivals().len(), 1);
    // The command line reads the store beside the host, and after it.
    assert_eq!(stage.stop(), Some(0));
    let traced = stage.ask(&["trace", &receipt]);
    assert_eq!((traced.code, traced.stdout.contains(&receipt)), (0, true), "{traced:?}");
}

#[test]
fn r3_what_a_host_that_was_killed_took_in_another_finishes() {
    let (server, destination) = (server!(), Destination::start());
    // A short deadline, and so the shortest lease of a job that there is.
    let set = || {
        let setup = host(&server, &destination);
        let worker = format!("{}\n[worker.limits]\ndeadline_ms = 400", setup.worker);
        setup.worker(&worker)
    };
    let mut one = set().start();
    let other = set().start();
    for number in 0..20 {
        assert_eq!(post(&one, number), (202, "accepted".to_owned()));
    }
    one.kill();
    // What it had leased is free when the leases run out: a job's after 30 seconds, and a delivery's after 60, which is longer than a test waits
    // for anything else.
    let killed = Instant::now();
    while other.counts()["delivered"] != 20 {
        assert!(killed.elapsed() < Duration::from_secs(150), "{}", other.counts());
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut seen: Vec<_> = destination
        .arrivals()
        .iter()
        .map(|arrival| arrival.header("idempotency-key").to_owned())
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20);
    assert_eq!(post(&other, 3), (200, "same".to_owned()));
    assert_eq!(
        (other.counts()["receipts"].clone(), other.counts()["actions"].clone()),
        (json!(20), json!(20))
    );
}

#[test]
fn r3_while_postgresql_is_away_senders_are_asked_to_come_again_and_the_host_goes_on_by_itself() {
    let (mut server, destination) = (server!(), Destination::start());
    let stage = host(&server, &destination).start();
    assert_eq!(post(&stage, 1).0, 202);
    stage.quiet();
    // The mark of its delivery is on the disk within a second; one that is lost before is made again when the lease runs out.
    std::thread::sleep(Duration::from_millis(1_500));
    server.kill();
    for number in 2..5 {
        let begun = Instant::now();
        let body = redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success");
        let answer = stage.post("shop", &signer("shop").sign("", body));
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    server.start_again();
    wait_until("events are taken in again", || (post(&stage, 2).0 == 202).then_some(()));
    wait_until("its action is delivered", || {
        (stage.counts()["delivered"] == 2).then_some(())
    });
    assert_eq!(stage.counts()["receipts"], 2);
}

#[test]
fn r3_a_host_whose_schema_has_gone_on_without_it_takes_nothing_in_and_is_not_ready() {
    let (server, destination) = (server!(), Destination::start());
    let mut stage = host(&server, &destination).start();
    assert_eq!(post(&stage, 1).0, 202);
    stage.quiet();
    server.make_schema_newer(77);
    assert_eq!(post(&stage, 2).0, 503);
    let ready = wait_until("the host says that it is not ready", || {
        let ready = String::from_utf8_lossy(&stage.operator_get("/readyz").body).into_owned();
        ready.contains("store: not ready").then_some(ready)
    });
    assert!(
        ready.contains("nothing can be written: schema: it is 77 now"),
        "{ready}"
    );
    stage.kill();
    let refused = stage.try_start().unwrap_err();
    assert!(
        refused.contains("has schema 77") && refused.contains("use the newer Tollgate"),
        "{refused}"
    );
    server.make_schema_as_it_was(77);
    stage.start();
    assert_eq!(post(&stage, 2).0, 202);
    stage.quiet();
    assert_eq!(stage.counts()["receipts"], 2);
    assert_eq!(destination.arrivals().len(), 2);
}

#[test]
fn r3_a_check_says_what_of_the_server_is_dangerous_and_keeps_the_password_to_itself() {
    let (server, destination) = (server!(), Destination::start());
    let stage = host(&server, &destination)
        .secret("store", &server.url().replace("tollgate@", "tollgate:sesame@"))
        .set();
    let checked = stage.ask(&["check"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    let said = checked.json();
    assert_eq!(
        (&said["store"]["schema"], &said["store"]["fsync"]),
        (&json!(0), &json!("off"))
    );
    let warned = said["warnings"].to_string();
    assert!(
        warned.contains("`fsync` is off") && warned.contains("`synchronous_standby_names` is empty"),
        "{warned}"
    );
    let for_people = stage.ask_for_people(&["check"]).stdout;
    assert!(
        for_people.contains("PostgreSQL 1") && for_people.contains("no schema yet"),
        "{for_people}"
    );
    assert!(!format!("{checked:?}{for_people}").contains("sesame"));
    // A store without files has none to back up.
    let refused = stage.ask(&["backup", "copy"]);
    assert_ne!(refused.code, 0, "{refused:?}");
}

#[test]
fn r3_a_host_serves_over_tls_and_a_check_says_how_its_server_is_reached() {
    let authority = Authority::new("ours");
    let issued = authority.issue("localhost", Validity::Now);
    let Some(server) = Postgres::with_tls(&issued.certificate, &issued.key) else {
        return;
    };
    let (destination, known) = (Destination::start(), folder());
    let root = known.path().join("root.crt");
    std::fs::write(&root, &authority.root).expect("a file");
    let place = |host: &str, tls: &str| {
        format!(
            "postgres://tollgate@{host}:{}/postgres?hostaddr=127.0.0.1&{tls}",
            server.port()
        )
    };
    let url = place(
        "localhost",
        &format!("sslmode=verify-full&sslrootcert={}", root.display()),
    );
    let stage = host(&server, &destination).secret("store", &url).start();
    assert_eq!(post(&stage, 1), (202, "accepted".to_owned()));
    stage.quiet();
    let said = stage.ask(&["check"]).json();
    assert_eq!(said["store"]["sslmode"], json!("verify-full"));
    assert!(!said["warnings"].to_string().contains("sslmode"), "{said}");
    // On another machine, as far as its name says.
    let warned = |tls: &str| {
        let stage = host(&server, &destination)
            .secret("store", &place("db.example", tls))
            .set();
        stage.ask(&["check"]).json()["warnings"].to_string()
    };
    assert!(warned("sslmode=disable").contains("in clear text"));
    assert!(warned("sslmode=require").contains("does not ask who the server is"));
    assert!(warned(&format!("sslrootcert={}", root.display())).contains("is not for `db.example`"));
    assert!(warned("sslmode=prefer").contains("goes on in clear text where"));
}

/// A host of this name.
fn called(name: &str, server: &Postgres, destination: &Destination) -> Setup {
    let lines = format!("url = {{ file = \"secrets/store\" }}\n[host]\nname = \"{name}\"");
    host(server, destination).store_lines(&lines)
}

/// The state of each host of the list, by name, and whether it is drained.
fn hosts(stage: &Stage) -> Vec<(String, String, bool)> {
    let listed = stage.ask(&["hosts"]).ok().json();
    let listed = listed.as_array().expect("a list").iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    listed
        .map(|host| (text(&host["name"]), text(&host["state"]), !host["drain"].is_null()))
        .collect()
}

fn is(name: &str, state: &str, is_drained: bool) -> (String, String, bool) {
    (name.to_owned(), state.to_owned(), is_drained)
}

#[test]
fn r3_hosts_are_listed_and_one_is_drained_and_let_work_again() {
    let (server, destination) = (server!(), Destination::start());
    let mut a = called("a", &server, &destination).start();
    let mut b = called("b", &server, &destination).start();
    assert_eq!(hosts(&a), [is("a", "running", false), is("b", "running", false)]);
    let listed = wait_until("both have said what they run", || {
        let listed = a.ask(&["hosts"]).json();
        let of = |at: usize| listed[at]["configuration"].as_str().unwrap_or_default().to_owned();
        (!of(0).is_empty() && !of(1).is_empty()).then_some(listed)
    });
    assert_eq!(listed[0]["configuration"], listed[1]["configuration"], "{listed}");
    assert_eq!(listed[0]["process"], json!(format!("a/{}", a.pid())));

    // By form: looked at, done, and taken back.
    let mut person = Person::signed_in(&b, b.operator_token());
    assert!(text(&person.get("/console/hosts")).contains("/console/act/drain?host=a"));
    for (what, says, is_drained) in [
        ("drain", "would claim nothing more", true),
        ("undrain", "would claim work again", false),
    ] {
        let looked = text(&person.post(&format!("/console/act/{what}"), &[("host", "a"), ("why", "by form")]));
        assert!(looked.contains(says), "{looked}");
        assert_eq!(hosts(&b)[0].2, !is_drained, "nothing was done yet");
        assert_eq!(person.post(&confirming(&looked), &[]).status, 200);
        assert_eq!(hosts(&b)[0].2, is_drained);
    }
    let nobody = person.post("/console/act/drain", &[("host", "nobody"), ("why", "w")]);
    assert_eq!(nobody.status, 404, "{}", text(&nobody));

    assert_eq!(stage_drain(&b, &["a", "--why", "a new kernel"]), 0);
    assert_eq!(stage_drain(&b, &["a"]), 1, "it was before");
    wait_until("it is not ready", || {
        (a.operator_get("/readyz").status == 503).then_some(())
    });
    let said = a.operator_get("/readyz");
    let said = String::from_utf8_lossy(&said.body);
    assert!(
        said.contains("work: not ready: it claims none") && said.contains("a new kernel"),
        "{said}"
    );
    assert_eq!(b.operator_get("/readyz").status, 200);
    let people = b.ask_for_people(&["hosts"]).ok().stdout;
    assert!(
        people.contains("drained by") && people.contains("a new kernel"),
        "{people}"
    );
    // It still takes in, and the other works.
    assert_eq!(post(&a, 1).0, 202);
    wait_until("the other delivers it", || {
        (destination.arrivals().len() == 1).then_some(())
    });
    // Alone it leaves what comes, over a restart too.
    assert_eq!(b.stop(), Some(0));
    assert_eq!(hosts(&a), [is("a", "running", true), is("b", "stopped", false)]);
    assert_eq!(a.stop(), Some(0));
    a.start();
    assert_eq!(post(&a, 2).0, 202);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(destination.arrivals().len(), 1);
    assert_eq!(a.counts()["jobs_waiting"], 1);
    let answer = a.operator_post("/v1/hosts/a/drain", r#"{"undo":true}"#);
    assert_eq!(answer.json(), json!({ "host": "a", "changed": true, "drain": null }));
    wait_until("it works again", || (destination.arrivals().len() == 2).then_some(()));
    assert_eq!(a.operator_get("/readyz").status, 200);
    assert_eq!(a.operator_post("/v1/hosts/nobody/drain", "{}").status, 404);

    // Who is killed is gone, and who is left says so.
    b.start();
    a.kill();
    let killed = Instant::now();
    wait_until("it is gone", || (hosts(&b)[0] == is("a", "gone", false)).then_some(()));
    // Ten seconds after its last word, which on a busy machine was not just before it was killed.
    assert!(killed.elapsed() > Duration::from_secs(5), "{:?}", killed.elapsed());
    assert!(b.ask_for_people(&["hosts"]).ok().stdout.contains("gone"));
}

/// What others say and hear of the time goes by the machine's own clock; what is due, by PostgreSQL's. So no host refuses its senders because
/// the database's clock is wrong.
#[test]
fn r3_a_host_judges_and_signs_by_its_own_clock_and_schedules_by_the_databases() {
    let (server, destination) = (server!(), Destination::start());
    let clock = tempfile::NamedTempFile::new().expect("a file");
    const AHEAD_S: i64 = 3600;
    std::fs::write(clock.path(), AHEAD_S.to_string()).expect("a file");
    let stage = host(&server, &destination)
        .variable("LD_PRELOAD", &disk_library().display().to_string())
        .variable("TOLLGATE_TEST_CLOCK", &clock.path().display().to_string())
        .start();
    let of_host = events::now().plus_ms(AHEAD_S * 1000);
    let posted = |id: &str, at| {
        let signed = signer("orders").sign_at(id, events::order(id), at);
        stage.post("orders", &signed).status
    };
    assert_eq!(posted("evt_by_its_clock", of_host), 202);
    assert_eq!(posted("evt_by_the_databases", events::now()), 401);
    // Its jobs and deliveries are due at once, though it was received in an hour.
    assert_eq!(post(&stage, 1).0, 202);
    stage.quiet();
    let arrivals = destination.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert!(arrivals[0].is_signed && !arrivals[0].is_authentic, "signed in an hour");
    let differs = "this machine's clock differs from the database's";
    assert!(stage.log().iter().any(|line| line.contains(differs)));
}

#[test]
fn r3_i7_a_tenants_rate_holds_over_all_hosts_about() {
    let (server, destination) = (server!(), Destination::start());
    let start = |name| {
        let limited = "threads = 1\n[edge.rate]\nrequests_per_s = 10\nburst = 10";
        called(name, &server, &destination).edge(limited).start()
    };
    let both = [start("a"), start("b")];
    let (begun, mut kept, mut refused) = (Instant::now(), 0, 0);
    for number in 0.. {
        if begun.elapsed() > Duration::from_secs(4) {
            break;
        }
        for (at, stage) in both.iter().enumerate() {
            match post(stage, number * 2 + at as u32).0 {
                202 => kept += 1,
                429 => refused += 1,
                other => panic!("answered {other}"),
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // One host alone would keep 50, and two that know nothing of each other 100. What they know is a moment old, which is longer on a busy machine,
    // and fewer are sent there.
    assert!(
        (40..=90).contains(&kept) && refused > 20,
        "{kept} kept, {refused} refused"
    );
    // A host that is alone again has all of it.
    let [mut a, b] = both;
    assert_eq!(a.stop(), Some(0));
    std::thread::sleep(Duration::from_secs(4));
    let burst: Vec<u16> = (1_000_000..1_000_010).map(|number| post(&b, number).0).collect();
    assert_eq!(burst, [202; 10]);
}

fn stage_drain(stage: &Stage, arguments: &[&str]) -> i32 {
    stage.ask(&[&["hosts", "drain"], arguments].concat()).code
}

#[test]
fn r3_a_host_that_has_its_store_alone_is_a_list_of_one_and_is_not_drained() {
    let stage = Setup::acme("").store_lines("[host]\nname = \"only\"").start();
    assert_eq!(hosts(&stage), [is("only", "running", false)]);
    let said = stage.ask_for_people(&["hosts"]).ok().stdout;
    assert!(said.contains("one host: it has its store alone"), "{said}");
    let refused = stage.ask(&["hosts", "drain", "only"]);
    assert!(
        refused.code != 0 && refused.stderr.contains("has its store alone"),
        "{refused:?}"
    );
    assert_eq!(stage.operator_get("/readyz").status, 200);
    let wrong = Setup::acme("").store_lines("[host]\nname = \"Not a name\"").set();
    let said = wrong.ask(&["check"]);
    assert!(
        said.code == 1 && said.stdout.contains("host name has the character"),
        "{said:?}"
    );
}

/// `tollgate copy` as a process of its own, which is killed after a while, again and again, each time later, until one has ended by itself.
/// Returns what that one said, and how many were killed.
fn copied_between_kills(arguments: &[&str]) -> (serde_json::Value, u32) {
    let arguments = [&["copy", "--json"], arguments].concat();
    let mut patience = Duration::from_millis(50);
    for killed in 0.. {
        let mut copying = Command::new(tollgate_bin())
            .args(&arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary");
        std::thread::sleep(patience);
        patience = patience * 5 / 4;
        let is_over = copying.try_wait().expect("a process").is_some();
        let _ = copying.kill();
        let said = copying.wait_with_output().expect("what it said");
        if is_over {
            assert!(said.status.success(), "{said:?}");
            return (serde_json::from_slice(&said.stdout).expect("JSON"), killed);
        }
    }
    unreachable!("it ends sometime")
}

#[test]
fn r3_a_store_is_copied_to_postgresql_and_back_between_kills_and_hosts_go_on_with_it() {
    let (server, destination) = (server!(), Destination::start());
    let mut here = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    for number in 0..60 {
        assert_eq!(post(&here, number).0, 202);
    }
    here.quiet();
    let traced = here.trace("evt_7");
    let source = here.path("tollgate.db").display().to_string();
    let mut there = host(&server, &destination).set();
    let target = there.config().display().to_string();
    // Not while a host has it.
    tollgate(&["copy", "--from", &source, "--to", &target], b"").fails(3, "another process already uses the store");
    assert_eq!(here.stop(), Some(0));
    let dry = tollgate(
        &["copy", "--json", "--dry-run", "--from", &source, "--to", &target],
        b"",
    )
    .ok();
    assert_eq!(dry.json()["copy"]["tables"]["receipts"], json!({ "rows": 60 }));

    let (report, killed) = copied_between_kills(&["--from", &source, "--to", &target]);
    assert!(killed > 1, "{killed} copies were killed");
    assert_eq!(report["copy"]["newest"]["receipts"], json!(60));
    there.start();
    tollgate(&["copy", "--from", &target, "--to", "never"], b"").fails(3, "a host has it open");
    assert_eq!(post(&there, 7), (200, "same".to_owned()));
    assert_eq!(post(&there, 100).0, 202);
    there.quiet();
    assert_eq!(there.trace("evt_7")["jobs"], traced["jobs"]);
    assert_eq!(destination.arrivals().len(), 61, "nothing was delivered again");
    assert_eq!(there.stop(), Some(0));

    let back = here.path("back");
    std::fs::create_dir(&back).expect("a folder");
    let back = back.display().to_string();
    let (report, _) = copied_between_kills(&["--from", &target, "--to", &back]);
    tollgate(&["copy", "--from", &source, "--to", &back], b"").fails(2, "a store is there already");
    assert_eq!(report["copy"]["newest"]["receipts"], json!(61));
    for file in ["", "-key", "-log-0000000000000000"] {
        std::fs::rename(
            format!("{back}/tollgate.db{file}"),
            here.path(&format!("tollgate.db{file}")),
        )
        .expect("a file");
    }
    here.start();
    assert_eq!((post(&here, 100), post(&here, 200).0), ((200, "same".to_owned()), 202));
    here.quiet();
    assert_eq!(destination.arrivals().len(), 62);
    assert_eq!(here.stop(), Some(0));
    here.assert_whole();
}

/// Containers are not started here: paths and addresses are this machine's, and all else is as it stands in the file.
#[test]
fn r3_a_host_takes_the_configuration_of_the_compose_file() {
    let server = server!();
    let folder = tempfile::tempdir().unwrap();
    let from = tollgate_tests::root().join("ops/compose");
    std::fs::create_dir(folder.path().join("tenants")).unwrap();
    let compose = std::fs::read_to_string(from.join("compose.yml")).unwrap();
    for file in ["tollgate.toml", "tenants/acme.toml"] {
        let text = std::fs::read_to_string(from.join(file)).unwrap();
        for variable in text.split("env = \"").skip(1) {
            let name = variable.split('"').next().unwrap();
            assert!(
                compose.contains(&format!("      {name}: ")),
                "{name} is in no container"
            );
        }
        let text = text
            .replace("/plugins/", &format!("{}/", tollgate_tests::plugins_dir().display()))
            .replace("/var/lib/tollgate/", &format!("{}/", folder.path().display()))
            .replace("0.0.0.0:8080", "127.0.0.1:8080");
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let check = Command::new(tollgate_bin())
        .args(["check", "--config"])
        .arg(folder.path().join("tollgate.toml"))
        .env("STORE", server.url())
        .env("ACME_VOUCHERIFY", "0123456789abcdef")
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
    assert_eq!((check.status.code(), said.contains("acme")), (Some(0), true), "{said}");
}
