//! O11: one thing done to everything that fits a filter, looked at first, with progress, an end, and no second effect.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, redeemed, signer};
use tollgate_tests::json::{list, text};
use tollgate_tests::random::Random;
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, tollgate_with, wait_until};

/// A route whose plugin holds every event.
const HELD: &str = "[routes.notes]\ntypes = [\"note\"]\nplugin = \"hold\"\n";

fn send(stage: &Stage, tenant: &str, body: String) {
    let answer = stage.post_to(tenant, "shop", &signer("shop").sign("", body));
    assert_eq!(answer.status, 202);
}

/// Runs the command line with this on its standard input.
fn answering(stage: &Stage, arguments: &[&str], stdin: &str) -> tollgate_tests::stage::Ran {
    let config = stage.config();
    let config = config.to_str().expect("a path in UTF-8");
    tollgate_with(&[], &[arguments, &["--config", config]].concat(), stdin.as_bytes())
}

fn ended(stage: &Stage, bulk: &str) -> Value {
    wait_until("the bulk action has ended", || {
        let bulk = stage.operator_get(&format!("/v1/bulk/{bulk}")).json();
        bulk["ended_at"].is_string().then_some(bulk)
    })
}

fn started(stage: &Stage, action: &str, filter: &str) -> String {
    let body = json!({ "action": action, "filter": filter, "actor": "ana", "why": "a test" });
    let answer = stage.operator_post("/v1/bulk", &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    text(&answer.json()["bulk"], "bulk").to_owned()
}

#[test]
fn o11_deliveries_that_were_given_up_go_again_by_filter_after_a_look() {
    let destination = Destination::start();
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    destination.otherwise(Reply::Status(410));
    for n in 0..7 {
        send(
            &stage,
            "acme",
            redeemed(&format!("evt_{n}"), &format!("red_{n}"), "success"),
        );
    }
    stage.quiet();
    let given_up = destination.take_arrivals();
    assert_eq!(given_up.len(), 7);
    let filter = "status:dead destination:books since:1h";

    // A look changes nothing, and says how many there are.
    let look = stage.ask(&["bulk", "redeliver", filter, "--dry-run"]).ok().json();
    assert_eq!(
        (&look["fitting"]["count"], list(&look["deliveries"]).len()),
        (&7.into(), 5)
    );
    assert!(look.get("bulk").is_none());
    for (said, code) in [("n\n", 1), ("", 1)] {
        let ran = answering(&stage, &["bulk", "redeliver", filter, "--why", "it is back"], said);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(
            ran.stdout.contains("7 deliveries fit") && ran.stderr.contains("[y/N]"),
            "{ran:?}"
        );
        assert!(ran.stderr.contains("nothing was done"), "{ran:?}");
    }
    for (arguments, says) in [
        (
            &["bulk", "redeliver", "", "--yes", "--why", "x"][..],
            "an empty filter fits all deliveries",
        ),
        (&["bulk", "redeliver", filter, "--yes"], "why: say why it is done"),
        (
            &["bulk", "redeliver", "statsu:dead", "--yes", "--why", "x"],
            "did you mean `status`?",
        ),
    ] {
        stage.ask_for_people(arguments).fails(2, says);
    }
    let empty = json!({ "action": "redeliver", "filter": " ", "actor": "ana", "why": "x" });
    assert_eq!(stage.operator_post("/v1/bulk", &empty.to_string()).status, 400);
    assert!(destination.take_arrivals().is_empty() && stage.ask(&["bulk", "list"]).json() == json!([]));

    destination.otherwise(Reply::Status(204));
    let ran = answering(&stage, &["bulk", "redeliver", filter, "--why", "it is back"], "y\n");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("7 of 7, 0 passed over"), "{ran:?}");
    let counts = stage.quiet();
    assert_eq!((&counts["delivered"], &counts["actions"]), (&7.into(), &7.into()));
    let names = |arrivals: &[tollgate_tests::destination::Arrival]| -> BTreeSet<String> {
        arrivals
            .iter()
            .map(|arrival| arrival.header("webhook-id").to_owned())
            .collect()
    };
    let again = destination.take_arrivals();
    assert_eq!(
        (again.len(), names(&again)),
        (7, names(&given_up)),
        "each once more, under its own name"
    );
    let history = stage.trace("evt_3")["history"].to_string();
    assert!(history.contains("bulk_1: it is back"), "{history}");
    let nothing = stage.ask(&["bulk", "redeliver", filter, "--yes", "--why", "x"]);
    assert_eq!((nothing.code, &nothing.json()["fitting"]["count"]), (1, &0.into()));

    // What arrived is sent again on purpose, and says so.
    stage
        .ask(&[
            "bulk",
            "redeliver",
            "status:delivered event:evt_3",
            "--yes",
            "--why",
            "lost",
        ])
        .ok();
    let arrived = destination.wait_for(1);
    assert!(
        arrived[0].header("tollgate-resend").starts_with("resend_"),
        "{:?}",
        arrived[0]
    );
}

/// `count` events whose jobs their plugin held.
fn held(count: usize) -> Stage {
    let stage = Setup::acme(HELD).hostile("hold").start();
    // By several senders, since what comes at once is committed at once.
    const SENDERS: usize = 8;
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let stage = &stage;
            scope.spawn(move || {
                for n in (sender..count).step_by(SENDERS) {
                    send(stage, "acme", plain("note", &format!("evt_{n}")));
                }
            });
        }
    });
    stage.quiet();
    assert_eq!(stage.counts()["held_jobs"], count);
    stage
}

/// How often each job was put back.
fn replays(stage: &Stage) -> Vec<u64> {
    let jobs = stage.operator_get("/v1/jobs?limit=1000").json();
    list(&jobs["items"])
        .iter()
        .map(|job| job["replays"].as_u64().expect("a number"))
        .collect()
}

#[test]
fn o11_a_killed_host_goes_on_where_the_last_step_ended_and_does_nothing_twice() {
    const JOBS: usize = 350;
    let mut stage = held(JOBS);
    // Each is held again by its run, and so fits for ever.
    let bulk = started(&stage, "replay", "status:held");
    wait_until("a step is done", || {
        let done = stage.operator_get(&format!("/v1/bulk/{bulk}")).json()["done"].as_u64();
        (done > Some(0)).then_some(())
    });
    stage.kill();
    stage.start();
    let ended = ended(&stage, &bulk);
    assert_eq!(
        (text(&ended, "state"), &ended["done"], &ended["passed_over"]),
        ("done", &JOBS.into(), &0.into())
    );
    stage.quiet();
    assert_eq!(replays(&stage), vec![1; JOBS]);
    assert_eq!(stage.counts()["held_jobs"], JOBS);
    stage.assert_whole();
}

/// Kills the host at random moments while a bulk action is under way, so often at the most. Returns how it ended.
fn ended_through_kills(stage: &mut Stage, bulk: &str, random: &mut Random, mut kills_left: u32) -> (Value, u32) {
    let kills_max = kills_left;
    loop {
        std::thread::sleep(std::time::Duration::from_millis(random.below(150)));
        let shown = stage.operator_get(&format!("/v1/bulk/{bulk}")).json();
        if shown["ended_at"].is_string() {
            return (shown, kills_max - kills_left);
        }
        if kills_left > 0 {
            stage.kill();
            stage.start();
            kills_left -= 1;
        }
    }
}

#[test]
fn o11_what_is_mapped_routed_and_sent_again_is_so_once_through_kills_at_any_moment() {
    const EVENTS: usize = 230;
    let destination = Destination::start();
    let tenant = |types: &str| {
        let route = CASHBACK_TO_BOOKS.replacen("\"reward.redeemed\"", types, 1);
        format!("{SOURCES}{route}{}", books("books", &destination))
    };
    let mut stage = Setup::default()
        .tenant("acme", &tenant("\"reward.redeemed\""))
        .plugin("cashback")
        // A kill is an attempt that nobody settled.
        .worker("[worker.retry]\nattempts_max = 50\nbase_ms = 20\ncap_ms = 100")
        .start();
    for n in 0..EVENTS {
        send(
            &stage,
            "acme",
            redeemed(&format!("held_{n}"), &format!("held_{n}"), "teleported"),
        );
        let later = redeemed(&format!("later_{n}"), &format!("later_{n}"), "success");
        send(&stage, "acme", later.replacen("reward.redeemed", "reward.later", 1));
    }
    let mut random = Random(20_261_130);
    let mut kills = 0;
    let mut begun = |stage: &mut Stage, body: Value| {
        let answer = stage.operator_post("/v1/bulk", &body.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        let bulk = text(&answer.json()["bulk"], "bulk").to_owned();
        let (ended, killed) = ended_through_kills(stage, &bulk, &mut random, 6);
        kills += killed;
        assert_eq!(
            (text(&ended, "state"), &ended["passed_over"]),
            ("done", &0.into()),
            "{ended}"
        );
        ended["done"].as_u64().expect("a number") as usize
    };
    let held = json!({ "action": "map", "filter": "status:held", "to": "completed", "why": "a test" });
    assert_eq!(begun(&mut stage, held), EVENTS);
    stage.write("tenants/acme.toml", &tenant("\"reward.redeemed\", \"reward.later\""));
    stage.reload();
    let unrouted = json!({ "action": "route", "filter": "type:reward.later", "why": "a test" });
    assert_eq!(begun(&mut stage, unrouted), EVENTS);
    stage.quiet();
    let effects = |stage: &Stage| {
        let counts = stage.counts();
        (
            counts["actions"].clone(),
            counts["delivered"].clone(),
            counts["receipts"].clone(),
        )
    };
    let each_once = (json!(2 * EVENTS), json!(2 * EVENTS), json!(2 * EVENTS));
    assert_eq!(effects(&stage), each_once);
    let arrived = |destination: &Destination| {
        let arrivals = destination.arrivals();
        let messages = arrivals
            .iter()
            .map(|arrival| (arrival.header("idempotency-key").to_owned(), arrival.body.clone()));
        messages.collect::<BTreeSet<_>>()
    };
    let first = arrived(&destination);
    assert_eq!(first.len(), 2 * EVENTS, "each has one key and one content");
    let again = json!({ "action": "redeliver", "filter": "status:delivered", "why": "a test" });
    assert_eq!(begun(&mut stage, again), 2 * EVENTS);
    stage.quiet();
    assert_eq!(effects(&stage), each_once);
    assert_eq!(arrived(&destination), first, "the same again");
    assert!(destination.arrivals().len() >= 4 * EVENTS, "each was sent again");
    assert!(kills >= 3, "{kills} kills prove little");
    stage.assert_whole();
}

#[test]
fn o11_a_bulk_action_is_ended_between_its_steps() {
    // Fifteen steps with a pause after each: a busy machine has asked twice before they are done.
    const JOBS: usize = 1_500;
    let stage = held(JOBS);
    let bulk = started(&stage, "dismiss", "status:held");
    let body = r#"{ "actor": "tester", "why": "the wrong filter" }"#;
    // What would be ended is not: who ends it is who does so afterwards.
    let look = r#"{ "actor": "somebody", "why": "only a look", "dry_run": true }"#;
    let looked = stage.operator_post(&format!("/v1/bulk/{bulk}/abort"), look).json();
    assert_eq!(
        (text(&looked, "state"), text(&looked, "ended_by")),
        ("aborted", "somebody")
    );
    let aborted = stage.operator_post(&format!("/v1/bulk/{bulk}/abort"), body).json();
    let done = aborted["done"].as_u64().expect("a number");
    assert_eq!(
        (text(&aborted, "state"), text(&aborted, "ended_by")),
        ("aborted", "tester")
    );
    assert!(done < JOBS as u64, "{aborted}");
    // Longer than several of the steps that were left would take.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let left = stage.counts()["held_jobs"].as_u64().expect("a number");
    assert_eq!(left, JOBS as u64 - done, "nothing is done after its end");
    assert_eq!(stage.ask(&["bulk", "show", &bulk]).json(), aborted);
    stage
        .ask_for_people(&["bulk", "abort", "bulk_99"])
        .fails(1, "bulk_99 does not exist");
}

/// What a person would say of each is said of all at once, and the lifecycle judges each by its own subject.
#[test]
fn o11_t4_held_events_are_given_a_status_by_filter_and_each_is_judged_by_its_subject() {
    let destination = Destination::start();
    let mut stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    const HELD: usize = 230;
    for n in 0..HELD {
        send(
            &stage,
            "acme",
            redeemed(&format!("evt_{n}"), &format!("red_{n}"), "teleported"),
        );
    }
    // Of two the subject is further already: by one that the word may follow, and by one that it contradicts.
    for (n, status) in [(0, "success"), (1, "reversed")] {
        send(
            &stage,
            "acme",
            redeemed(&format!("evt_moved_{n}"), &format!("red_{n}"), status),
        );
    }
    stage.quiet();
    let paid = destination.take_arrivals().len();
    let filter = "disposition:held lifecycle:teleported since:1h";

    let look = stage
        .ask(&["bulk", "map", filter, "--to", "completed", "--dry-run"])
        .ok()
        .json();
    assert_eq!(look["fitting"]["count"], HELD, "{look}");
    let would = list(&look["would_become"]);
    assert_eq!(would.len(), 5);
    let became = would.iter().map(|one| one["reviewed"]["became"].as_str());
    // The oldest, of which the second contradicts what its subject has.
    let yes = Some("accepted");
    assert_eq!(became.collect::<Vec<_>>(), [yes, None, yes, yes, yes], "{look}");
    for (arguments, says) in [
        (
            &["bulk", "map", "", "--to", "completed", "--yes", "--why", "x"][..],
            "an empty filter fits all events",
        ),
        (&["bulk", "map", filter, "--to", "a b", "--yes", "--why", "x"], "to: "),
        (&["bulk", "map", filter, "--yes", "--why", "x"], "--to <STATUS>"),
        (
            &["bulk", "map", filter, "--to", "completed", "--yes"],
            "why: say why it is done",
        ),
    ] {
        stage.ask_for_people(arguments).fails(2, says);
    }
    // A status that nobody knows is said before anything is asked.
    let unknown = stage.ask_for_people(&["bulk", "map", filter, "--to", "beamed", "--dry-run"]);
    assert!(
        unknown.stdout.contains("passed over") && unknown.stdout.contains("no status `beamed`"),
        "{unknown:?}"
    );
    assert_eq!(stage.metric("tollgate_held"), HELD as u64);

    let body =
        json!({ "action": "map", "to": "completed", "filter": filter, "actor": "ana", "why": "renamed in March" });
    let begun = stage.operator_post("/v1/bulk", &body.to_string()).json();
    let bulk = text(&begun["bulk"], "bulk").to_owned();
    wait_until("a step is done", || {
        let done = stage.operator_get(&format!("/v1/bulk/{bulk}")).json()["done"].as_u64();
        (done > Some(0)).then_some(())
    });
    stage.kill();
    stage.start();
    let ended = ended(&stage, &bulk);
    assert_eq!(
        (text(&ended, "to"), &ended["done"], &ended["passed_over"]),
        ("completed", &(HELD - 1).into(), &1.into()),
        "{ended}"
    );
    stage.quiet();
    assert_eq!(
        stage.metric("tollgate_held"),
        1,
        "what contradicts waits for a person as before"
    );
    let counts = stage.counts();
    assert_eq!(counts["actions"], HELD as u64 - 1, "each redemption is paid for once");
    let operations: BTreeSet<String> = destination
        .arrivals()
        .iter()
        .map(|arrival| arrival.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(operations.len() + paid, HELD - 1);
    let history = stage.trace("evt_7")["history"].to_string();
    assert!(
        history.contains("mapped to completed by ana: bulk_1: renamed in March"),
        "{history}"
    );
    // Once more: nothing is left that it could be done to.
    let again = stage
        .ask(&["bulk", "map", filter, "--to", "completed", "--yes", "--why", "x"])
        .json();
    assert_eq!(stage.counts()["actions"], counts["actions"], "{again}");
    stage.assert_whole();
}

#[test]
fn o2_o11_a_tenants_bulk_action_is_about_its_own_and_seen_by_it_alone() {
    let globex = format!("{SOURCES}{HELD}");
    let stage = Setup::acme(HELD).tenant("globex", &globex).hostile("hold").start();
    for tenant in ["acme", "globex"] {
        for n in 0..3 {
            send(&stage, tenant, plain("note", &format!("evt_{tenant}_{n}")));
        }
    }
    stage.quiet();
    let (admin, viewer) = (stage.token("tenant-admin", "acme"), stage.token("viewer", "acme"));
    let other = stage.token("tenant-admin", "globex");
    let body = json!({ "action": "dismiss", "filter": "tenant:acme,globex status:held", "actor": "ana", "why": "x" });
    let body = body.to_string();
    assert_eq!(stage.ask_as(&viewer, "POST", "/v1/bulk", body.as_bytes()).status, 403);
    let begun = stage.ask_as(&admin, "POST", "/v1/bulk", body.as_bytes()).json();
    assert_eq!(begun["fitting"]["count"], 3, "{begun}");
    assert!(!begun.to_string().contains("evt_globex"), "{begun}");
    let bulk = text(&begun["bulk"], "bulk").to_owned();
    assert_eq!(ended(&stage, &bulk)["done"], 3);
    assert_eq!(stage.counts()["held_jobs"], 3, "the other's wait as before");
    let path = format!("/v1/bulk/{bulk}");
    assert_eq!(stage.ask_as(&viewer, "GET", &path, b"").json()["tenant"], "acme");
    for (method, path, body) in [
        ("GET", path.clone(), ""),
        ("POST", format!("{path}/abort"), r#"{ "actor": "eve" }"#),
    ] {
        assert_eq!(stage.ask_as(&other, method, &path, body.as_bytes()).status, 404);
    }
    assert_eq!(stage.ask_as(&other, "GET", "/v1/bulk", b"").json(), json!([]));
    // The operator's own is nobody's.
    started(&stage, "dismiss", "status:held");
    assert_eq!(stage.ask_as(&other, "GET", "/v1/bulk", b"").json(), json!([]));
}

/// P8 holds of what is mapped and routed in bulk too: the older event of a subject goes first.
#[test]
fn o11_p8_what_is_of_one_subject_is_mapped_and_routed_in_its_order() {
    let destination = Destination::start();
    let to_books = books("books", &destination);
    let stage = Setup::acme(&to_books).plugin("cashback").start();
    let events = |kind: &str| -> Vec<String> { (0..3).map(|n| format!("evt_{kind}_{n}")).collect() };
    for event in events("routed") {
        send(&stage, "acme", redeemed(&event, "red_1", "success"));
    }
    for event in events("mapped") {
        send(&stage, "acme", redeemed(&event, "red_2", "teleported"));
    }
    stage.quiet();
    stage.write("tenants/acme.toml", &format!("{SOURCES}{CASHBACK_TO_BOOKS}{to_books}"));
    stage.reload();
    // The look shows what is done first.
    let held = "disposition:held lifecycle:teleported";
    let look = ["bulk", "map", held, "--to", "completed", "--dry-run"];
    let look = stage.ask(&look).ok().json();
    let shown = list(&look["events"]);
    let shown: Vec<&str> = shown.iter().map(|row| text(row, "event_id")).collect();
    assert_eq!(shown, events("mapped"), "{look}");
    for arguments in [
        &["bulk", "map", held, "--to", "completed", "--yes", "--why", "renamed"][..],
        &["bulk", "route", "status:unrouted", "--yes", "--why", "the route is new"],
    ] {
        stage.ask(arguments).ok();
    }
    stage.quiet();
    let job = |event: &str| -> u64 {
        let jobs = list(&stage.ask(&["jobs", &format!("event:{event}")]).json()["items"]);
        assert_eq!(jobs.len(), 1, "{event}: {jobs:?}");
        let number = text(&jobs[0], "job").trim_start_matches("job_");
        number.parse().expect("a number")
    };
    for kind in ["mapped", "routed"] {
        let jobs: Vec<u64> = events(kind).iter().map(|event| job(event)).collect();
        assert!(jobs.is_sorted(), "{kind}: {jobs:?}");
    }
}
