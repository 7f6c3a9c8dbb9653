//! O10 and P11: lists by filter, in API and command line alike, and what did not arrive.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::Value;
use tollgate_core::mask;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, redeemed, redeemed_by, signer};
use tollgate_tests::json::{list, text};
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, tollgate_with, wait_until};
use tollgate_tests::tollgate_bin;

/// A route that hands everything of one type on, to a destination of its own.
const NOTES: &str = "[routes.notes]\ntypes = [\"note\"]\nforward = \"envelope\"\ndestinations = [\"mail\"]\n";

fn send(stage: &Stage, body: String) -> String {
    let answer = stage.post("shop", &signer("shop").sign("", body));
    stage.quiet();
    answer.receipt()
}

/// Four events: one delivered, one given up by its destination, one held, and one that no route took.
fn scene() -> (Stage, Destination, Destination) {
    let (to_books, to_mail) = (Destination::start(), Destination::start());
    let tenant = format!(
        "{CASHBACK_TO_BOOKS}{NOTES}{}{}",
        books("books", &to_books),
        books("mail", &to_mail)
    );
    let stage = Setup::acme(&tenant)
        .tenant("globex", SOURCES)
        .plugin("cashback")
        .start();
    send(&stage, redeemed("evt_1", "red_1", "success"));
    to_books.script([Reply::Status(410)]);
    send(&stage, redeemed("evt_2", "red_2", "success"));
    send(&stage, redeemed("evt_3", "red_3", "teleported"));
    send(&stage, plain("order.seen", "evt_4"));
    (stage, to_books, to_mail)
}

fn events(page: &Value) -> Vec<String> {
    let items = list(&page["items"]);
    items.iter().map(|item| text(item, "event_id").to_owned()).collect()
}

fn query(list: &str, filter: &str) -> String {
    let escaped: String = filter
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("/v1/{list}?filter={escaped}")
}

#[test]
fn o10_one_filter_finds_the_same_by_api_and_by_command_line() {
    let (stage, _books, _mail) = scene();
    for (list, filter, expect) in [
        ("events", "", &["evt_4", "evt_3", "evt_2", "evt_1"][..]),
        ("events", "status:dead since:1h", &["evt_2"]),
        ("events", "status:held", &["evt_3"]),
        ("events", "status:unrouted type:order.*", &["evt_4"]),
        ("events", "code:410", &["evt_2"]),
        ("events", "-type:order.* -status:held", &["evt_2", "evt_1"]),
        (
            "events",
            "body.amount:>=500 body.user_id:user_678",
            &["evt_3", "evt_2", "evt_1"],
        ),
        ("events", "tenant:globex", &[]),
        ("events", "destination:books attempts:1", &["evt_2", "evt_1"]),
        ("jobs", "status:done", &["evt_2", "evt_1"]),
        ("runs", "plugin:cashback outcome:completed", &["evt_2", "evt_1"]),
        ("actions", "kind:credit destination:books", &["evt_2", "evt_1"]),
        ("deliveries", "status:delivered", &["evt_1"]),
        ("deliveries", "code:4xx", &["evt_2"]),
        ("undelivered", "", &["evt_3", "evt_3", "evt_2"]),
        ("undelivered", "destination:books", &["evt_3", "evt_2"]),
        ("undelivered", "status:delivered", &["evt_1"]),
    ] {
        let by_api = stage.operator_get(&query(list, filter));
        assert_eq!(by_api.status, 200, "{by_api:?}");
        assert_eq!(events(&by_api.json()), expect, "{list} {filter}");
        let by_command = if filter.starts_with('-') {
            // The flags that the stage adds stand before the filter then.
            let config = stage.config();
            let config = config.to_str().expect("a path in UTF-8");
            tollgate_with(&[], &[list, "--json", "--config", config, "--", filter], b"")
        } else {
            stage.ask(&[list, filter])
        };
        assert_eq!(by_command.code, i32::from(expect.is_empty()), "{by_command:?}");
        assert_eq!(by_command.json()["items"], by_api.json()["items"], "{list} {filter}");
        let count =
            stage.operator_get(&query(list, filter).replace(&format!("/v1/{list}?"), &format!("/v1/count?of={list}&")));
        assert_eq!(count.json()["count"], expect.len(), "{list} {filter}");
        assert_eq!(count.json()["complete"], true);
    }
    let counted = stage.ask_for_people(&["events", "status:dead", "--count"]);
    assert_eq!((counted.code, counted.stdout.as_str()), (0, "1 event\n"));
    // Pages.
    let first = stage.ask(&["events", "--limit", "3"]).json();
    assert_eq!(events(&first), ["evt_4", "evt_3", "evt_2"]);
    send(&stage, plain("order.seen", "evt_5"));
    let next = text(&first, "next");
    let second = stage.ask(&["events", "--after", next]).json();
    assert_eq!(events(&second), ["evt_1"], "what came meanwhile moves nothing");
    assert!(second.get("next").is_none());
    let newer = stage.operator_get(&format!("/v1/events?newer={}", text(&first, "newest")));
    assert_eq!(events(&newer.json()), ["evt_5"]);
}

#[test]
fn o10_a_filter_that_is_none_is_refused_at_its_place() {
    let stage = Setup::acme("").start();
    let answer = stage.operator_get(&query("events", "tenant:acme status:deda"));
    assert_eq!(answer.status, 400);
    let said = answer.json();
    assert!(
        text(&said, "error").contains("column 20") && text(&said, "error").contains("did you mean `dead`?"),
        "{said}"
    );
    let ran = stage.ask_for_people(&["events", "tenant:acme status:deda"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr
            .contains("\n  tenant:acme status:deda\n                     ^"),
        "{}",
        ran.stderr
    );
    for path in [
        "/v1/events?after=job_1",
        "/v1/count?of=events&limit=1",
        "/v1/count",
        "/v1/count?of=all",
    ] {
        assert_eq!(stage.operator_get(path).status, 400, "{path}");
    }
}

#[test]
fn o10_an_export_streams_lines_of_json() {
    let (stage, _books, _mail) = scene();
    let mut stream = stage.operator_stream();
    let head = stage.operator_head("GET", "/v1/events", "accept: application/x-ndjson");
    stream.write_all(&head).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.to_lowercase().contains("content-type: application/x-ndjson"),
        "{answer}"
    );
    let lines: Vec<Value> = answer
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    let ids: Vec<_> = lines.iter().map(|line| text(line, "event_id")).collect();
    assert_eq!(ids, ["evt_4", "evt_3", "evt_2", "evt_1"]);
    let ran = stage.ask_for_people(&["events", "type:reward.*", "--ndjson"]);
    let ids: Vec<_> = ran
        .stdout
        .lines()
        .map(|line| {
            text(
                &serde_json::from_str::<Value>(line).expect("an object a line"),
                "event_id",
            )
            .to_owned()
        })
        .collect();
    assert_eq!(ids, ["evt_3", "evt_2", "evt_1"]);
}

#[test]
fn p11_what_has_not_arrived_is_said_for_each_destination_with_its_reason() {
    let (stage, to_books, _mail) = scene();
    let rows = list(&stage.ask(&["undelivered"]).json()["items"]);
    let dead = rows.iter().find(|row| row["event_id"] == "evt_2").expect("a row");
    assert_eq!(
        (&dead["destination"], &dead["status"]),
        (&"books".into(), &"dead".into())
    );
    assert!(text(dead, "reason").contains("410"), "{dead}");
    assert!(dead["entry"].is_string() && dead["since"].is_string(), "{dead}");
    let held = rows.iter().find(|row| row["event_id"] == "evt_3").expect("a row");
    assert_eq!(held["status"], "held");
    let whole = list(
        &stage
            .ask(&["undelivered", "event:evt_1,evt_4 status:delivered,not-meant"])
            .json()["items"],
    );
    let said: Vec<_> = whole
        .iter()
        .map(|row| (text(row, "event_id"), text(row, "destination"), text(row, "status")))
        .collect();
    assert_eq!(
        said,
        [
            ("evt_4", "books", "not-meant"),
            ("evt_4", "mail", "not-meant"),
            ("evt_1", "books", "delivered"),
            ("evt_1", "mail", "not-meant"),
        ]
    );
    // It is sent after all.
    to_books.otherwise(Reply::Status(204));
    stage.ask(&["replay", "--all"]).ok();
    stage.quiet();
    let left = stage.ask(&["undelivered", "destination:books"]).json();
    assert_eq!(events(&left), ["evt_3"]);
    let shown = stage.ask_for_people(&["undelivered"]).stdout;
    assert!(shown.contains("held") && shown.contains("reason"), "{shown}");
}

#[test]
fn o2_o10_a_tenants_token_lists_its_own() {
    let (stage, _books, _mail) = scene();
    let answer = stage.post_to("globex", "shop", &signer("shop").sign("", plain("note", "evt_globex")));
    assert_eq!(answer.status, 202);
    stage.quiet();
    let (own, other) = (stage.token("viewer", "globex"), stage.token("viewer", "acme"));
    for list in ["events", "jobs", "runs", "actions", "deliveries", "undelivered"] {
        for filter in ["", "tenant:acme", "event:evt_1"] {
            let answer = stage.ask_as(&own, "GET", &query(list, filter), b"");
            assert_eq!(answer.status, 200);
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                !said.contains("acme") && !said.contains("evt_1"),
                "{list} {filter}: {said}"
            );
        }
        let said = stage.ask_as(&other, "GET", &query(list, ""), b"").body;
        assert!(!String::from_utf8_lossy(&said).contains("globex"), "{list}");
        let counted = stage.ask_as(&own, "GET", &format!("/v1/count?of={list}"), b"").json();
        assert_eq!(counted["count"], u64::from(list == "events"), "{list}");
    }
    assert_eq!(
        events(&stage.ask_as(&own, "GET", "/v1/events", b"").json()),
        ["evt_globex"]
    );
}

#[test]
fn o10_nothing_of_an_event_reaches_the_terminal_unseen() {
    let stage = Setup::acme("").start();
    let id = "evt_\u{202e}gpj.exe\u{200b}";
    send(&stage, plain("order.\u{2066}seen", id));
    let shown = stage.ask_for_people(&["events"]).stdout;
    assert!(
        !shown
            .chars()
            .any(|c| matches!(c, '\u{202e}' | '\u{2066}' | '\u{200b}' | '\u{1b}')),
        "{shown:?}"
    );
    assert!(shown.contains("evt_\\u{202e}gpj.exe\\u{200b}"), "{shown}");
    assert_eq!(stage.ask(&["events", &format!("event:{id}")]).code, 0);
    let refused = stage.ask_for_people(&["events", "\u{1b}]0;x\u{7}:1"]);
    assert_eq!(refused.code, 2);
    assert!(
        !refused.stderr.contains('\u{1b}') && !refused.stderr.contains('\u{7}'),
        "{refused:?}"
    );
}

/// Text without the styles that the command line gives it.
fn unstyled(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('m') {
            Some((style, rest)) if style.chars().all(|c| c.is_ascii_digit() || c == ';') => plain.push_str(rest),
            _ => plain.push_str(&format!("\u{1b}[{part}")),
        }
    }
    plain
}

#[test]
fn o10_o11_o12_p11_nothing_of_an_event_reaches_a_terminal_by_any_list_or_export() {
    let destination = Destination::start();
    destination.answer_apart("_dead", Reply::Status(410));
    let budgeted = CASHBACK_TO_BOOKS.replacen(
        "[\"INR\"]",
        "[\"INR\"], budgets = [{ window = \"day\", actions_max = 9, per = \"account\" }]",
        1,
    );
    let stage = Setup::acme(&format!("{budgeted}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    let hostile = [
        "\u{202e}gpj\u{200b}",
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "\u{9b}31m",
        "a\r\n\u{2028}b",
    ];
    for (number, evil) in hostile.into_iter().enumerate() {
        let name = |what: &str| format!("{what}_{number}{evil}");
        // What names an effect is ASCII.
        let (red, dead) = (format!("red_{number}"), format!("red_{number}_dead"));
        for body in [
            redeemed_by(&name("paid"), &red, "success", &name("ann")),
            redeemed_by(&name("same"), &dead, "success", &name("ann")),
            redeemed_by(&name("same"), &name("other"), "success", &name("ann")),
            redeemed_by(&name("hold"), &name("red"), "success", &name("ann")),
            redeemed_by(&name("odd"), &name("odd"), &name("teleported"), &name("ann")),
            plain(&name("order"), &name("order")),
        ] {
            stage.post("shop", &signer("shop").sign("", body));
        }
    }
    stage.post("shop", &signer("orders").sign("", plain("order", "unsigned\u{202e}")));
    stage.quiet();
    wait_until("an issue", || {
        (!list(&stage.operator_get("/v1/issues").json()).is_empty()).then_some(())
    });
    let config = stage.config();
    let config = config.to_str().expect("a path in UTF-8");
    for command in [
        "events",
        "events --json",
        "events --ndjson",
        "jobs",
        "runs",
        "actions",
        "deliveries",
        "deliveries --ndjson",
        "undelivered",
        "undelivered status:delivered,not-meant --ndjson",
        "refused",
        "issues",
        "issues --json",
        "dlq list",
        "trace",
        "trace --json",
        "review",
        "review --counts",
        "budgets",
        "bulk redeliver status:dead --dry-run",
        "bulk dismiss status:held --of events --dry-run",
        "bulk map status:held --to completed --dry-run",
        "bulk route type:order* --dry-run",
        "replay --all --dry-run",
        "resend --tenant acme --dry-run",
        "traces export --since 1h",
        "status",
    ] {
        let arguments: Vec<_> = command.split(' ').chain(["--config", config]).collect();
        // As on a terminal: nothing is taken out of what is printed.
        let ran = tollgate_with(&[("CLICOLOR_FORCE", "1")], &arguments, b"");
        assert!(ran.code == 0 && ran.stdout.lines().count() > 0, "{command}: {ran:?}");
        for said in [unstyled(&ran.stdout), unstyled(&ran.stderr)] {
            let hidden: Vec<_> = said.chars().filter(|c| mask::is_hidden(*c) && *c != '\n').collect();
            assert!(hidden.is_empty(), "{command} prints {hidden:?}: {said:?}");
        }
    }
}

#[test]
fn o10_tail_shows_what_comes() {
    let stage = Setup::acme("").start();
    send(&stage, plain("order.seen", "evt_1"));
    let mut tail = Command::new(tollgate_bin())
        .args(["tail", "type:order.*", "--ndjson", "--config"])
        .arg(stage.config())
        .stdout(Stdio::piped())
        .spawn()
        .expect("tollgate tail");
    let mut lines = BufReader::new(tail.stdout.take().expect("its output")).lines();
    let mut next = || {
        let line = lines.next().expect("a line").expect("a line");
        text(
            &serde_json::from_str::<Value>(&line).expect("an object a line"),
            "event_id",
        )
        .to_owned()
    };
    assert_eq!(next(), "evt_1");
    send(&stage, plain("refund.seen", "evt_2"));
    send(&stage, plain("order.seen", "evt_3"));
    send(&stage, plain("order.seen", "evt_4"));
    assert_eq!(
        [next(), next()],
        ["evt_3", "evt_4"],
        "the oldest first, and what fits alone"
    );
    tail.kill().expect("the end of it");
    tail.wait().expect("its end");
}
