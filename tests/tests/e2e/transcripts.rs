//! R1: what people read of every command, held by snapshots in `tests/snapshots`. A test is a scene and the commands that are run in it.

use std::fs;

use serde_json::json;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, redeemed, signer};
use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, tollgate, wait_until};
use tollgate_tests::transcript::Transcript;
use tollgate_tests::{hostile_dir, plugins_dir};

use super::registry::cashback;

/// Sends an event of the shop and waits until all of its work is done, so that ids are the same each time.
fn send(stage: &Stage, body: String) -> String {
    let answer = stage.post("shop", &signer("shop").sign("", body));
    stage.quiet();
    answer.receipt()
}

/// The help of a command, and of all below it.
fn help(said: &mut Transcript, command: &[&str]) {
    let arguments = [command, &["--help"]].concat();
    let ran = tollgate(&arguments, b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{command:?}");
    said.add(&arguments, &ran);
    for below in commands(&ran.stdout) {
        help(said, &[command, &[below.as_str()]].concat());
    }
}

/// The commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn r1_the_command_line_explains_itself() {
    let whole = tollgate(&["--help"], b"");
    let mut said = Transcript::default();
    said.add(&["--help"], &whole);
    for wrong in [
        &[][..],
        &["no-such-command"],
        &["trace", "--limit", "many"],
        &["dlq"],
        &["send"],
    ] {
        said.run(wrong);
    }
    said.hold("help");
    let commands = commands(&whole.stdout);
    assert!(commands.len() > 15, "{commands:?}");
    for command in &commands {
        let mut said = Transcript::default();
        help(&mut said, &[command]);
        said.hold(&format!("help-{command}"));
    }
}

#[test]
fn r1_o10_what_is_read_of_lists() {
    let destination = Destination::start();
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    let mut said = Transcript::default();
    said.ask(&stage, &["events"]);
    send(&stage, redeemed("evt_1", "red_1", "success"));
    destination.script([Reply::Status(410)]);
    send(&stage, redeemed("evt_2", "red_2", "success"));
    send(&stage, redeemed("evt_3", "red_3", "teleported"));
    send(&stage, plain("order.seen", "evt_4"));
    for command in [
        &["events"][..],
        &["events", "status:dead,held"],
        &["events", "type:order.* since:1h", "--count"],
        &["events", "--limit", "2"],
        &["events", "body.amount:>1000"],
        &["events", "status:deda"],
        &["events", "statsu:dead"],
        &["events", "yesterday"],
        &["runs", "status:dead"],
        &["events", "--after", "job_1"],
        &["jobs"],
        &["runs", "plugin:cashback"],
        &["actions"],
        &["deliveries"],
        &["deliveries", "code:4xx", "--count"],
        &["undelivered"],
        &["undelivered", "status:delivered,not-meant event:evt_1,evt_4"],
    ] {
        said.ask(&stage, command);
    }
    said.hold("lists");
}

#[test]
fn r1_i13_what_is_read_of_what_was_refused() {
    let stage = Setup::acme("").start();
    let mut said = Transcript::default();
    said.ask(&stage, &["refused"]);
    stage.post(
        "shop",
        &signer("shop").sign("", plain("order.seen", "evt_1")).tampered(),
    );
    stage.post(
        "nowhere",
        &signer("shop").sign("", plain("order.seen", "evt_2")).unsigned(),
    );
    for command in [
        &["refused"][..],
        &["refused", "source:shop cause:no-match", "--count"],
        &["refused", "body.id:7"],
    ] {
        said.ask(&stage, command);
    }
    said.hold("refused");
}

#[test]
fn r1_o11_what_is_read_of_bulk_actions() {
    let destination = Destination::start();
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    let mut said = Transcript::default();
    said.ask(&stage, &["bulk", "list"]);
    destination.otherwise(Reply::Status(410));
    send(&stage, redeemed("evt_1", "red_1", "success"));
    send(&stage, redeemed("evt_2", "red_2", "success"));
    destination.otherwise(Reply::Status(204));
    for command in [
        &["bulk", "redeliver", "status:dead", "--dry-run"][..],
        &["bulk", "redeliver", "status:dead", "--why", "it is back"],
        &["bulk", "redeliver", "status:dead", "--yes"],
        &["bulk", "redeliver", " "],
        &["bulk", "redeliver", "status:held"],
        &["bulk", "dismiss", "plugin:x", "--of", "runs", "--dry-run"],
        &["bulk", "replay", "status:dead", "--dry-run"],
        &["bulk", "redeliver", "status:dead", "--yes", "--why", "it is back"],
        &["bulk", "show", "bulk_1"],
        &["bulk", "show", "bulk_9"],
        &["bulk", "show", "job_1"],
        &["bulk", "abort", "bulk_1", "--why", "too late"],
    ] {
        said.ask(&stage, command);
    }
    said.hold("bulk");
}

#[test]
fn r1_o12_what_is_read_of_issues() {
    let destination = Destination::start();
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    let mut said = Transcript::default();
    said.ask(&stage, &["issues"]);
    destination.otherwise(Reply::Status(410));
    send(&stage, redeemed("evt_1", "red_1", "success"));
    wait_until("it is grouped", || (stage.ask(&["issues"]).code == 0).then_some(()));
    for command in [
        &["issues"][..],
        &["issues", "acknowledge", "issue_1", "--why", "they were called"],
        &["issues", "resolve", "issue_1"],
        &["issues"],
        &["issues", "--state", "resolved"],
        &["issues", "--state", "closed"],
        &["issues", "show", "issue_9"],
    ] {
        said.ask(&stage, command);
    }
    said.hold("issues");
}

/// A route whose plugin holds every event.
const HELD: &str = "[routes.notes]\ntypes = [\"note\"]\nplugin = \"hold\"\n";

#[test]
fn r1_o3_what_is_read_of_events_dead_letters_and_what_is_set_aside() {
    let destination = Destination::start();
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{HELD}{}", books("books", &destination)))
        .plugin("cashback")
        .hostile("hold")
        .start();
    let mut said = Transcript::default();
    said.ask(&stage, &["trace"]);
    said.ask(&stage, &["dlq", "list"]);
    said.ask(&stage, &["review"]);
    let receipt = send(&stage, redeemed("evt_1", "red_1", "success"));
    send(&stage, redeemed("evt_1", "red_1", "success"));
    send(&stage, redeemed("evt_1", "red_9", "success"));
    send(&stage, redeemed("evt_2", "red_1", "pending"));
    let held = send(&stage, redeemed("evt_3", "red_3", "teleported"));
    destination.script([Reply::Status(410)]);
    send(&stage, redeemed("evt_4", "red_4", "success"));
    send(&stage, plain("order.seen", "evt_5"));
    send(&stage, plain("note", "evt_6"));
    for command in [
        &["trace"][..],
        &["trace", "--limit", "2"],
        &["trace", "evt_1"],
        &["trace", "evt_2"],
        &["trace", "evt_3"],
        &["trace", "evt_4"],
        &["trace", "evt_5"],
        &["trace", "evt_6"],
        &["trace", "evt_9"],
        &["trace", "--tenant", "Acme"],
        &["dlq", "list"],
        &["dlq", "list", "--tenant", "globex"],
        &["dlq", "list", "--since", "yesterday"],
        &["dlq", "show", "dead_1"],
        &["dlq", "show", "dead_9"],
        &["dlq", "show", "not-an-id"],
        &["replay"],
        &["replay", "--all", "--dry-run"],
        &["replay", &receipt, "--dry-run"],
        &["replay", "--routes", "--dry-run"],
        &["replay", "dead_1"],
        &["replay", "dead_1"],
    ] {
        said.ask(&stage, command);
        stage.quiet();
    }
    said.ask(&stage, &["dlq", "list", "--with-replayed"]);
    for command in [
        &["resend", "out_1", "--dry-run"][..],
        &["resend", "out_1"],
        &["resend", "--why", "all of them"],
        &["resend", "out_1", "--why", "their database was lost"],
    ] {
        said.ask(&stage, command);
        stage.quiet();
    }
    said.ask(&stage, &["trace", "evt_1"]);
    said.hold("events");

    let mut said = Transcript::default();
    let conflict = stage.ask(&["review", "--kind", "conflict"]).json();
    let conflict = conflict[0]["id"].as_str().expect("a delivery");
    for command in [
        &["review"][..],
        &["review", "--counts"],
        &["review", "--kind", "no-route"],
        &["review", "--kind", "lost"],
        &["replay", "--held", "--dry-run"],
        &["review", "job_3", "--run", "--dry-run"],
        &["review", "job_3", "--dismiss", "--why", "a test of theirs"],
        &["review", "job_3", "--run"],
        &["review", &held, "--map", "vanished"],
        &["review", &held, "--map", "completed", "--dry-run"],
        &["review", &held, "--map", "completed", "--why", "renamed in March"],
        &["review", &held, "--map", "completed"],
        &["review", conflict, "--run", "--dry-run"],
        &["review", conflict, "--dismiss"],
        &["review", conflict, "--dismiss", "--why", "a test of theirs"],
        &["review", "evt_1", "--run"],
        &["review"],
        &["review", "--with-reviewed"],
        &["trace", "evt_3"],
        &["budgets"],
        &["review", "job_3", "--run", "--beyond-budget"],
    ] {
        said.ask(&stage, command);
        stage.quiet();
    }
    said.hold("review");
}

#[test]
fn r1_o3_what_check_says_of_a_configuration() {
    let destination = Destination::start();
    let mut stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    stage.stop();
    let mut said = Transcript::default();
    said.ask(&stage, &["check"]);
    let path = stage.path("tenants/acme.toml");
    let right = fs::read_to_string(&path).expect("the tenant's file");
    for (from, to) in [
        ("plugin = \"cashback\"", "plugin = \"cashbak\""),
        ("rate_bps = 1000", "rate_bsp = 1000"),
        ("[sources.shop]", "[sources.shop]\nprovidr = \"stripe\""),
        ("destinations = [\"books\"]", "destinations = [\"boks\"]"),
        ("provider = \"stripe\"", "provider = \"strip\""),
        ("../secrets/shop", "../secrets/nowhere"),
        ("url = \"http", "url = \"gopher"),
        ("kind = \"credit\"", "kind = \"credits\""),
        ("[sources.shop]", "[sources.shop"),
        ("currencies = [\"INR\"]", "currencies = [\"XXY\"]"),
    ] {
        assert!(right.contains(from), "{from}");
        fs::write(&path, right.replacen(from, to, 1)).expect("the tenant's file");
        said.ask(&stage, &["check"]);
    }
    fs::write(&path, &right).expect("the tenant's file");
    let path = stage.config();
    let right = fs::read_to_string(&path).expect("the operator's file");
    for (from, to) in [
        ("threads = 2\n[operator]", "thread = 2\n[operator]"),
        ("threads = 2\n[operator]", "threads = 0\n[operator]"),
        (
            "[delivery.retry]\nattempts_max = 4",
            "[delivery.retry]\nattempts_max = \"4\"",
        ),
        ("operator.token", "operator.tokn"),
        ("/cashback.wasm", "/cashbak.wasm"),
    ] {
        assert!(right.contains(from), "{from}");
        fs::write(&path, right.replacen(from, to, 1)).expect("the operator's file");
        said.ask(&stage, &["check"]);
    }
    fs::remove_file(&path).expect("the operator's file");
    said.ask(&stage, &["check"]);
    said.ask(&stage, &["serve"]);
    said.hold("check");
}

#[test]
fn r1_w1_what_is_read_of_a_plugins_life_on_a_host() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    for number in 1..=3 {
        send(
            &stage,
            redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success"),
        );
    }
    let [one, broken] = ["one.wasm", "broken.wasm"].map(|name| stage.path(name).display().to_string());
    fs::write(&one, cashback("2.0.0")).expect("a component");
    fs::write(&broken, "not a component").expect("a file");
    stage.write(
        "route.toml",
        "plugin = \"cashback\"\ntypes = [\"reward.*\"]\ngrants = [{ kind = \"flag\" }]\n[config]\nrate_bps = 5\n",
    );
    stage.write("wrong.toml", "plugin = \"cashback\"\ntipes = []\n");
    let [route, wrong] = ["route.toml", "wrong.toml"].map(|name| stage.path(name).display().to_string());
    let forbidden = hostile_dir().join("wasi_import.wasm").display().to_string();
    let on = ["--tenant", "acme", "cashback"];
    let why = ["--why", "a test"];
    let new = ["cashback@2.0.0"];
    let mut said = Transcript::default();
    for command in [
        &[&["plugin", "list"][..]],
        &[&["plugin", "push", &broken, "--tenant", "acme"][..]],
        &[&["plugin", "push", &forbidden, "--tenant", "acme"][..]],
        &[&["plugin", "push", &one, "--tenant", "acme", "--dry-run"][..]],
        &[&["plugin", "push", &one, "--tenant", "acme"][..]],
        &[&["plugin", "push", &one, "--tenant", "acme"][..]],
        &[&["plugin", "list", "--tenant", "acme"][..]],
        &[&["plugin", "show", "--tenant", "acme", "cashback@2.0.0"][..]],
        &[&["plugin", "show", "cashback@9.9.9"][..]],
    ] {
        said.ask(&stage, &command.concat());
    }
    for command in [
        &[&["plugin", "promote"][..], &on, &new, &why][..],
        &[&["plugin", "publish", "--tenant", "acme"], &new, &why],
        &[&["plugin", "trial", &one, "--route", "cashback", "--threads", "1"]],
        &[&["plugin", "shadow"], &on, &new, &why],
        &[&["plugin", "shadow"], &on, &["--report"]],
        &[&["plugin", "canary"], &on, &new, &["--per-mille", "100"], &why],
        &[&["plugin", "promote"], &on, &new, &why, &["--dry-run"]],
        &[&["plugin", "promote"], &on, &new, &why],
        &[&["plugin", "promote"], &on, &["cashback@7.7.7"], &why],
        &[&["plugin", "retire", "--tenant", "acme"], &new, &why],
        &[&["plugin", "rollback"], &on, &why],
        &[&["plugin", "rollback"], &on, &why],
        &[&["plugin", "quarantined"]],
        &[&["plugin", "lift"], &on, &why],
        &[&["plugin", "history", "--tenant", "acme"], &new],
        &[&["plugin", "replay", "run_1"]],
        &[&["plugin", "replay", "run_99"]],
        &[&["plugin", "proof"]],
        &[&["route", "list", "--tenant", "acme"]],
        &[&["route", "set"], &on, &["--file", &wrong], &why],
        &[&["route", "set"], &on, &["--file", &route], &why, &["--dry-run"]],
        &[&["route", "set"], &on, &["--file", &route], &why],
        &[&["route", "history"], &on],
        &[&["route", "remove"], &on, &why],
        &[&["route", "remove"], &on, &why],
        &[&["route", "list", "--tenant", "globex"]],
        &[&["plugin", "state", "list", "--tenant", "acme", "cashback"]],
        &[&[
            "plugin",
            "state",
            "show",
            "--tenant",
            "acme",
            "cashback",
            "customer/user_678",
        ]],
        &[&[
            "plugin",
            "state",
            "show",
            "--tenant",
            "acme",
            "cashback",
            "customer/nobody",
        ]],
        &[&["publisher", "list", "--tenant", "acme"]],
        &[
            &["publisher", "add", "--tenant", "acme", "acme-inc", "key-1", "short"],
            &why,
        ],
        &[
            &[
                "publisher",
                "add",
                "--tenant",
                "acme",
                "acme-inc",
                "key-1",
                "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            ],
            &why,
        ],
        &[&["publisher", "list", "--tenant", "acme"]],
        &[&["publisher", "revoke", "--tenant", "acme", "acme-inc", "key-1"], &why],
        &[&["publisher", "revoke", "--tenant", "acme", "acme-inc", "key-2"], &why],
        &[&["token", "list"]],
        &[&[
            "token",
            "create",
            "CI of acme",
            "--role",
            "viewer",
            "--tenant",
            "acme",
            "--why",
            "ticket 7",
        ]],
        &[&["token", "create", "x", "--role", "root"]],
        &[&["token", "list"]],
        &[&["token", "revoke", "tok_1", "--why", "seen in a log"]],
        &[&["token", "revoke", "tok_1"]],
        &[&["token", "revoke", "tok_99"]],
        &[&["token", "list"]],
    ] {
        said.ask(&stage, &command.concat());
    }
    said.hold("plugins-on-a-host");
}

#[test]
fn r1_o5_what_is_read_of_audits_and_backups() {
    let mut stage = Setup::acme(CASHBACK).native().plugin("cashback").start();
    for number in 1..=3 {
        send(
            &stage,
            redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success"),
        );
    }
    let [key, checkpoint, backup, elsewhere] =
        ["key", "checkpoint.json", "backup", "elsewhere.db"].map(|name| stage.path(name).display().to_string());
    let public = format!("{key}.pub");
    let token = stage.path("operator.token").display().to_string();
    let mut said = Transcript::default();
    said.run(&["plugin", "key", "new", &key]);
    for command in [
        &["audit", "verify"][..],
        &["audit", "verify", "--tenant", "acme"],
        &["audit", "checkpoint", "--key", &key, "--output", &checkpoint],
        &["audit", "checkpoint", "--key", &key, "--output", &checkpoint],
        &["audit", "verify", "--checkpoint", &checkpoint, "--key", &public],
        &["audit", "verify", "--checkpoint", &token, "--key", &public],
        &["backup", "--to", &backup],
        &["backup", "--to", &backup],
    ] {
        said.ask(&stage, command);
    }
    said.run(&["backup", "verify", &backup]);
    said.run(&["backup", "restore", &backup, "--store", &elsewhere]);
    said.ask(&stage, &["backup", "restore", &backup]);
    stage.stop();
    let log = stage.path("tollgate.db-log-0000000000000000");
    let mut bytes = fs::read(&log).expect("the log");
    let body = redeemed("evt_2", "red_2", "success");
    let place = bytes.windows(body.len()).position(|here| here == body.as_bytes());
    bytes[place.expect("the body is there")] ^= 1;
    fs::write(&log, bytes).expect("the log");
    said.ask(&stage, &["audit", "verify"]);
    said.ask(
        &stage,
        &["audit", "verify", "--checkpoint", &checkpoint, "--key", &public],
    );
    fs::write(stage.path("backup/tollgate.db-log-0000000000000000"), "cut").expect("a file");
    said.run(&["backup", "verify", &backup]);
    fs::remove_file(stage.path("backup/backup.json")).expect("the manifest");
    said.run(&["backup", "verify", &backup]);
    said.hold("audit");
}

#[test]
fn r1_o9_what_is_read_without_a_host() {
    let stage = Setup::acme("").set();
    let secret = stage.path("secrets/shop").display().to_string();
    let body = stage.path("body.json").display().to_string();
    stage.write("body.json", &redeemed("evt_1", "red_1", "success"));
    let signed = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    let header = signed
        .headers
        .iter()
        .find(|(name, _)| name == "x-signature")
        .expect("a signature");
    let header = format!("{}: {}", header.0, header.1);
    let wrong = header.replace('1', "2");
    let to = ["--url", "http://127.0.0.1:1/in/acme/shop"];
    let sample = ["--sample", "reward-redeemed"];
    let with = ["--secret-file", secret.as_str()];
    let shop = ["verify", "--provider", "generic-hmac", "--body", body.as_str()];
    let mut said = Transcript::default();
    for command in [
        &[&["provider", "list"][..]][..],
        &[&["provider", "show", "stripe"]],
        &[&["provider", "show", "stripes"]],
        &[&["provider", "test", "stripe"]],
        &[&["provider", "test"]],
        &[&["send"], &to, &with, &sample, &["--dry-run"]],
        &[&["send"], &to, &with, &sample],
        &[&["send"], &to, &with],
        &[&["send"], &to, &sample],
        &[&["send"], &to, &with, &["--sample", "nothing"]],
        &[&["send"], &to, &sample, &["--secret-file", "/nowhere/at-all"]],
        &[&["send"], &to, &with, &sample, &["--set", "nowhere=1"]],
        &[&shop, &with, &["--header", &header]],
        &[&shop, &with, &["--header", &wrong]],
        &[&shop, &with],
        &[&shop],
        &[&shop, &with, &["--header", "nonsense"]],
        &[&shop, &with, &["--at", "noon"]],
        &[&["verify", "--provider", "nobody"], &with],
        &[&["verify"], &with],
        &[
            &["verify", "--provider", "stripe"],
            &["--secret-file", "/nowhere/at-all"],
        ],
    ] {
        said.run(&command.concat());
    }
    said.hold("without-a-host");
}

#[test]
fn r1_w5_what_an_author_reads() {
    let stage = Setup::acme("").set();
    let cashback = plugins_dir().join("cashback.wasm").display().to_string();
    let [spin, forbidden] =
        ["spin.wasm", "wasi_import.wasm"].map(|name| hostile_dir().join(name).display().to_string());
    let [bonus, empty, fixtures, event, key, signature] =
        ["bonus", "empty", "fixtures", "event.json", "key", "cashback.sig"]
            .map(|name| stage.path(name).display().to_string());
    let given = json!({
        "type": "reward.redeemed", "amount": { "minor_units": 500, "currency": "INR" },
        "attributes": { "customer": "user_678" },
    });
    let fixture = json!({ "event": given, "config": { "rate_bps": 500 }, "expect": { "actions": [] } });
    stage.write("fixtures/one.json", &fixture.to_string());
    stage.write("event.json", &fixture.to_string());
    stage.write("empty/mine", "");
    let mut said = Transcript::default();
    for command in [
        &["new", "bonus", "--lang", "rust", "--folder", &bonus][..],
        &["new", "bonus", "--lang", "rust", "--folder", &empty],
        &["new", "Bonus", "--lang", "rust"],
        &["build", &empty],
        &["check", &cashback],
        &["check", &forbidden],
        &["test", &cashback, "--fixtures", &fixtures],
        &["test", &cashback, "--fixtures", &fixtures, "--update"],
        &["run", &event, &cashback],
        &["run", &event, &spin, "--fuel", "20000"],
        &["run", "/no/such/event.json", &cashback],
        &["key", "new", &key],
        &["key", "new", &key],
        &["sign", &cashback, "--key", &key, "--output", &signature],
    ] {
        said.run(&[&["plugin"], command].concat());
    }
    said.hold("authors-kit");
}

#[test]
fn r1_what_is_said_where_nothing_listens_or_nobody_may_ask() {
    let mut stage = Setup::acme(CASHBACK)
        .tenant("globex", SOURCES)
        .plugin("cashback")
        .start();
    let token = json!({ "name": "eve", "role": "viewer", "tenant": "globex" });
    let token = stage.operator_post("/v1/tokens", &token.to_string()).json()["token"].clone();
    let url = format!("http://{}", stage.operator);
    let own = [
        ("TOLLGATE_URL", url.as_str()),
        ("TOLLGATE_TOKEN", token.as_str().expect("a token")),
    ];
    let mut said = Transcript::default();
    for (variables, arguments) in [
        (&own[..], &["trace", "--tenant", "acme"][..]),
        (&own[..], &["trace"]),
        (&own[..], &["replay", "--all"]),
        (&own[..1], &["trace"]),
        (&[("TOLLGATE_URL", "http://127.0.0.1:1"), own[1]], &["trace"]),
        (&[], &["trace", "--spin", "http://127.0.0.1:1"]),
        (
            &[("TOLLGATE_SPIN_TOKEN", "x")],
            &["plugin", "list", "--spin", "http://127.0.0.1:1"],
        ),
    ] {
        let ran = tollgate_tests::stage::tollgate_with(variables, arguments, b"");
        said.add(arguments, &ran);
    }
    // A second host on the same store, and a plugin's life without a host.
    said.ask(&stage, &["serve"]);
    stage.stop();
    said.ask(&stage, &["plugin", "list"]);
    fs::remove_file(stage.path("operator.token")).expect("the token");
    said.ask(&stage, &["trace"]);
    said.hold("refusals");
}
