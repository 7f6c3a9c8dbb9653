//! T2, P7: an effect belongs to who claims it, goes to every destination that was meant, and has a name that no other effect ever has.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tollgate_tests::destination::Destination;
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::plugins_dir;
use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books};

fn send(stage: &Stage, number: u32) -> String {
    stage.redeem(number).receipt()
}

/// A route of the cashback plugin under a name of its own, with this rate and bound, to these destinations.
fn route(name: &str, plugin: &str, rate_bps: u32, amount_max: u32, destinations: &str) -> String {
    format!(
        "[routes.{name}]\ntypes = [\"reward.redeemed\"]\nplugin = \"{plugin}\"\ndestinations = [{destinations}]\n\
         grants = [{{ kind = \"credit\", amount_max = {amount_max}, currencies = [\"INR\"] }}]\n\
         [routes.{name}.config]\nrate_bps = {rate_bps}\ncurrency = \"INR\"\n"
    )
}

/// The route named no destination, and the money stayed in the ledger. A replay after it was mended sends it, and its dry run says so.
#[test]
fn t2_a_replay_sends_what_was_recorded_before_its_route_was_mended() {
    let destination = Destination::start();
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    let receipt = send(&stage, 1);
    stage.quiet();
    assert_eq!(stage.counts()["actions"], 1);
    let mended = format!("{SOURCES}{CASHBACK_TO_BOOKS}{}", books("books", &destination));
    stage.write("tenants/acme.toml", &mended);
    stage.reload();

    let before = stage.counts();
    let dry = stage.ask(&["replay", &receipt, "--dry-run"]);
    let adds = &dry.json()["replayed"][0]["adds"];
    assert_eq!(
        *adds,
        json!([{ "action": "act_1", "operation_key": "cashback:red_1", "destination": "books" }]),
        "{dry:?}"
    );
    let people = stage.ask_for_people(&["replay", &receipt, "--dry-run"]);
    says(&people.stdout, &["act_1 (cashback:red_1) to books"]);
    assert_eq!(stage.counts(), before, "a dry run adds nothing");
    assert!(destination.arrivals().is_empty());

    let asked = ["replay", &receipt, "--why", "the route has its destination now"];
    stage.ask(&asked).ok();
    let history = stage.trace(&receipt)["history"].to_string();
    says(&history, &["by tester: the route has its destination now"]);
    let arrivals = destination.wait_for(1);
    stage.quiet();
    assert_eq!(arrivals[0].json()["id"], "act_1");
    assert_eq!(stage.counts()["actions"], 1, "no second effect");
    let nothing_more = stage.ask(&["replay", &receipt, "--dry-run"]);
    assert_eq!(nothing_more.json()["replayed"][0]["adds"], Value::Null);
    stage.ask(&["replay", &receipt]).ok();
    stage.quiet();
    assert_eq!(destination.arrivals().len(), 1, "what was delivered is not sent again");
    stage.assert_whole();
}

/// Two routes of one plugin mean one action and two destinations: each gets all of them, whichever route runs first.
#[test]
fn t2_one_action_reaches_every_destination_that_was_meant() {
    let (ledger, crm) = (Destination::start(), Destination::start());
    let routes = [
        route("first", "cashback", 1000, 5000, "\"ledger\""),
        route("second", "cashback", 1000, 5000, "\"crm\", \"ledger\""),
        books("ledger", &ledger),
        books("crm", &crm),
    ];
    let stage = Setup::acme(&routes.concat()).plugin("cashback").start();
    for number in 1..=20 {
        send(&stage, number);
    }
    stage.quiet();
    for (name, destination) in [("ledger", &ledger), ("crm", &crm)] {
        let keys: Vec<String> = destination
            .arrivals()
            .iter()
            .map(|arrival| arrival.header("idempotency-key").to_owned())
            .collect();
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!((keys.len(), distinct.len()), (20, 20), "{name}: {keys:?}");
    }
    assert_eq!(stage.counts()["actions"], 20);
    stage.assert_whole();
}

/// A plugin that may credit a paisa proposes the genuine one's operation keys first. Each has its own.
#[test]
fn t2_no_plugin_takes_anothers_operation_key() {
    let destination = Destination::start();
    let routes = [
        route("a-stranger", "stranger", 1, 1, "\"books\""),
        route("genuine", "cashback", 1000, 5000, "\"books\""),
        books("books", &destination),
    ];
    let stage = Setup::acme(&routes.concat())
        .plugin("cashback")
        .plugin_file("stranger", &plugins_dir().join("cashback.wasm"))
        .start();
    for number in 1..=5 {
        send(&stage, number);
    }
    stage.quiet();
    let genuine = destination.arrivals().into_iter().filter(|arrival| {
        let key = arrival.header("idempotency-key").to_owned();
        assert_eq!(
            key,
            format!(
                "{}/credit/{}",
                text(&arrival.json(), "namespace"),
                text(&arrival.json(), "operation_key")
            )
        );
        key.starts_with("cashback/credit/cashback:red_")
    });
    assert_eq!(genuine.count(), 5);
    let trace = stage.trace("cashback:red_1");
    for job in list(&trace["jobs"]) {
        for action in list(&job["runs"][0]["actions"]) {
            assert_eq!(action["verdict"], "recorded", "{trace}");
        }
    }

    // A successor goes on under the name of its predecessor, and repeats nothing.
    let successor = format!(
        "{SOURCES}{}{}",
        route("genuine", "stranger", 1000, 5000, "\"books\"")
            .replace("plugin =", "operations = \"cashback\"\nplugin ="),
        books("books", &destination)
    );
    let actions = stage.counts()["actions"].clone();
    stage.write("tenants/acme.toml", &successor);
    stage.reload();
    let receipt = text(&stage.trace("evt_1")["receipt"], "id").to_owned();
    stage.ask(&["replay", &receipt]).ok();
    stage.quiet();
    assert_eq!(stage.counts()["actions"], actions, "it inherits what was done");
    stage.assert_whole();
}

/// A route that moves to another namespace records again what it recorded before: whoever moves it is told, before and after.
#[test]
fn t2_a_changed_namespace_is_warned_of_and_kept_in_the_history() {
    let mut stage = Setup::acme(CASHBACK).plugin("cashback").start();
    send(&stage, 1);
    stage.quiet();
    let warned = |stage: &Stage| {
        let ran = stage.ask(&["check"]).ok();
        let warnings = list(&ran.json()["warnings"]);
        let mut fields = warnings.iter().map(|warning| text(warning, "field").to_owned());
        fields.any(|field| field == "acme.routes.cashback.operations")
    };
    assert!(!warned(&stage));
    let moved = CASHBACK.replace("plugin =", "operations = \"loyalty\"\nplugin =");
    stage.write("tenants/acme.toml", &format!("{SOURCES}{moved}"));
    assert!(warned(&stage), "before the host adopts it");
    let people = stage.ask_for_people(&["check"]).stdout;
    assert!(people.contains("operations = \"cashback\""), "{people}");

    // It is found over a restart as well, not only by a reload.
    assert_eq!(stage.stop(), Some(0));
    stage.start();
    assert!(!warned(&stage), "what runs is what the file says");
    let log = stage.log_with("under the namespace `loyalty`");
    assert!(log.len() == 1 && log[0].contains("acme"), "{log:?}");
    let history = |stage: &Stage| {
        let answer = stage.operator_get("/v1/tenants/acme/routes/cashback/history").json();
        let lines = list(&answer);
        let moves = lines.iter().filter(|line| line["what"] == "operations moved");
        moves
            .map(|line| [text(line, "actor"), text(line, "from"), text(line, "to")].map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let by_file = ["configuration", "cashback", "loyalty"].map(str::to_owned);
    assert_eq!(history(&stage), std::slice::from_ref(&by_file));

    // A route that is set by API answers it, and a dry run says it as well.
    let put = |dry_run: bool| {
        let body = json!({
            "definition": {
                "types": ["reward.redeemed"], "plugin": "cashback", "operations": "points",
                "grants": [{ "kind": "credit", "amount_max": 5000, "currencies": ["INR"] }],
                "config": { "rate_bps": 1000, "currency": "INR" },
            },
            "why": "a new programme", "actor": "ann", "dry_run": dry_run,
        });
        let path = "/v1/tenants/acme/routes/cashback";
        stage.operator_send("PUT", path, body.to_string().as_bytes()).json()
    };
    for dry_run in [true, false] {
        let answer = put(dry_run);
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains("operations = \\\"loyalty\\\""), "{answer}");
    }
    assert_eq!(put(false)["warnings"], Value::Null, "it is where it was");
    let by_ann = ["ann", "loyalty", "points"].map(str::to_owned);
    assert_eq!(history(&stage), [by_ann, by_file]);
    stage.assert_whole();
}

/// Two hosts, or one and its restored store, never give one `webhook-id` to two effects: a receiver would drop the second.
#[test]
fn p7_no_two_stores_give_one_webhook_id() {
    let destination = Destination::start();
    let tenant = format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination));
    for _ in 0..2 {
        let stage = Setup::acme(&tenant).plugin("cashback").start();
        send(&stage, 1);
        send(&stage, 2);
        stage.quiet();
    }
    let arrivals = destination.arrivals();
    let ids: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.header("webhook-id")).collect();
    assert_eq!((arrivals.len(), ids.len()), (4, 4), "{ids:?}");
    assert!(ids.iter().all(|id| id.starts_with("msg_")), "{ids:?}");
}

/// A successor goes on under its predecessor's keys and pays at another rate: what it proposes for a redemption that is told again has
/// another content than what is recorded. It waits for a person, who is told, and decides once.
#[test]
fn t2_a_conflict_with_the_ledger_is_listed_counted_said_and_decided() {
    let destination = Destination::start();
    let tenant = |plugin: &str, rate_bps| {
        let to_books = route("cashback", plugin, rate_bps, 50_000, "\"books\"");
        let named = to_books.replace("plugin =", "operations = \"cashback\"\nplugin =");
        format!("{named}{}", books("books", &destination))
    };
    let stage = Setup::acme(&tenant("cashback", 1000))
        .plugin("cashback")
        .plugin_file("successor", &plugins_dir().join("cashback.wasm"))
        .start();
    let spend = |event: &str, redemption: &str| {
        let body = redeemed(event, redemption, "success");
        stage.post("shop", &signer("shop").sign("", body)).receipt()
    };
    spend("evt_1", "red_1");
    // One after the other: actions are numbered as they are recorded.
    stage.quiet();
    spend("evt_2", "red_2");
    stage.quiet();
    stage.write("tenants/acme.toml", &format!("{SOURCES}{}", tenant("successor", 2000)));
    stage.reload();
    let second = spend("evt_3", "red_1");
    stage.quiet();
    spend("evt_4", "red_2");
    stage.quiet();
    holds(&stage.counts(), &json!({ "actions": 2, "ledger_conflicts_open": 2 }));
    let listed = list(&stage.ask(&["review"]).json());
    assert_eq!(listed.len(), 2, "{listed:?}");
    for one in &listed {
        assert_eq!((text(one, "kind"), text(one, "route")), ("ledger-conflict", "cashback"));
        assert!(
            text(one, "reason").contains("is recorded as cashback/cashback:red_"),
            "{one}"
        );
    }
    let place = "{tenant=\"acme\",route=\"cashback\",kind=\"ledger-conflict\"}";
    assert_eq!(stage.metric(&format!("tollgate_set_aside{place}")), 2);
    assert_eq!(
        stage.metric("tollgate_ledger_conflicts_total{tenant=\"acme\",route=\"cashback\"}"),
        2
    );
    let log = stage.log_with("a proposal conflicts with the ledger");
    assert!(
        !log.is_empty() && log[0].contains("acme") && log[0].contains("cashback"),
        "{log:?}"
    );
    let people = stage.ask_for_people(&["review"]).stdout;
    says(&people, &["--keep --why TEXT", "--record KEY"]);

    let (kept, wanted) = (text(&listed[0], "id"), text(&listed[1], "id"));
    assert_eq!(stage.trace(wanted)["receipt"]["id"], second);
    for (arguments, code) in [
        (["review", kept, "--keep"].as_slice(), 2),
        (&["review", kept, "--dismiss", "--why", "a test"], 2),
        (&["review", kept, "--run"], 2),
        (&["review", wanted, "--record", "cashback:red_1"], 1),
        (&["review", "act_1", "--keep", "--why", "a test"], 1),
    ] {
        assert_eq!(stage.ask(arguments).code, code, "{arguments:?}");
    }
    let before = stage.counts();
    let dry = stage.ask(&["review", wanted, "--record", "cashback:red_1:b", "--dry-run"]);
    assert_eq!(
        (dry.code, text(&dry.json(), "became"), &dry.json()["destinations"]),
        (0, "recorded", &json!(["books"])),
        "{dry:?}"
    );
    assert_eq!(stage.counts(), before);
    let ran = stage.ask(&["review", wanted, "--record", "cashback:red_1:b", "--why", "two orders"]);
    assert_eq!((ran.code, text(&ran.json(), "became")), (0, "recorded"), "{ran:?}");
    let ran = stage.ask(&["review", kept, "--keep", "--why", "the first was right"]);
    assert_eq!((ran.code, text(&ran.json(), "became")), (0, "kept"), "{ran:?}");
    for decided in [wanted, kept] {
        let again = stage.ask(&["review", decided, "--record", "cashback:other"]);
        assert_eq!(again.code, 1, "decided before: {again:?}");
    }
    let arrivals = destination.wait_for(3);
    stage.quiet();
    let keys: Vec<_> = arrivals
        .iter()
        .map(|arrival| arrival.header("idempotency-key"))
        .collect();
    assert_eq!(keys[2], "cashback/credit/cashback:red_1:b");
    let counts = stage.counts();
    holds(&counts, &json!({ "actions": 3, "ledger_conflicts_open": 0 }));
    let history = stage.trace(&second)["history"].to_string();
    says(&history, &["under cashback:red_1:b", "by tester: two orders"]);
    let people = stage.ask_for_people(&["trace", "evt_4"]).stdout;
    assert!(people.contains("without effect: act_2 stands by tester"), "{people}");

    // A replay finds both decided, and does nothing again.
    for event in ["evt_3", "evt_4"] {
        let receipt = text(&stage.trace(event)["receipt"], "id").to_owned();
        stage.ask(&["replay", &receipt]).ok();
    }
    stage.quiet();
    let after = stage.counts();
    holds(&after, &json!({ "actions": 3, "ledger_conflicts_open": 0 }));
    assert_eq!(destination.arrivals().len(), 3);
    stage.assert_whole();
}
