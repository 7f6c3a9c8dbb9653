//! O5: evidence. A store is audited by the command, beside its host and after it, and whatever was done to its files meanwhile is
//! named, with its exit status.
//!
//! Files are changed here as somebody with a hex editor and old backups would. What a database shell can do to rows is tried in
//! the store's own tests (`host/store/tests/contract/audit.rs`), where the same audit answers.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tollgate_core::commitment::body_commitment;
use tollgate_core::secret::Secret;
use tollgate_tests::console::{Person, text};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::{list, says};

use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, Ran, SOURCES, Setup, Stage, books, tollgate};

const FILES: [&str; 3] = ["tollgate.db", "tollgate.db-log-0000000000000000", "tollgate.db-key"];

/// Two tenants, who are sent in turns, with a plugin that records an action for each event.
fn stage() -> Stage {
    Setup::acme(CASHBACK)
        .native()
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .start()
}

fn body(number: usize) -> String {
    redeemed(&format!("evt_{number:02}"), &format!("red_{number:02}"), "success")
}

fn send(stage: &Stage, numbers: std::ops::RangeInclusive<usize>) {
    for number in numbers {
        let tenant = ["globex", "acme"][number % 2];
        let answer = stage.post_to(tenant, "shop", &signer("shop").sign("", body(number)));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
}

/// A copy of a stopped host's files, or of what another copy became.
fn copy(stage: &Stage, name: &str) -> PathBuf {
    let folder = stage.path(name);
    fs::create_dir(&folder).expect("a folder");
    for file in FILES {
        fs::copy(stage.path(file), folder.join(file)).expect("a copy");
    }
    folder
}

fn verify(store: &Path, more: &[&str]) -> Ran {
    let store = store.join("tollgate.db");
    let mut all = vec!["audit", "verify", "--store", store.to_str().expect("a path in UTF-8")];
    all.extend(more);
    tollgate(&all, b"")
}

#[track_caller]
fn assert_broken(folder: &Path, expect: &str) {
    let ran = verify(folder, &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains(expect), "{expect}: {ran:?}");
    assert!(ran.stdout.contains("how to go on"), "{ran:?}");
    let json = verify(folder, &["--json"]);
    assert_eq!((json.code, &json.json()["ok"]), (1, &false.into()), "{json:?}");
}

fn edit(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("a file");
    change(&mut bytes);
    fs::write(file, bytes).expect("a file");
}

#[track_caller]
fn place_of(bytes: &[u8], text: &[u8]) -> usize {
    let mut places = bytes.windows(text.len()).enumerate().filter(|(_, here)| *here == text);
    let first = places.next().expect("it is there").0;
    assert!(places.next().is_none(), "it is there once");
    first
}

#[test]
fn o5_a_store_passes_beside_its_host_and_what_is_done_to_its_files_is_named() {
    let mut stage = stage();
    send(&stage, 1..=9);
    stage.quiet();
    let beside = stage.ask(&["audit", "verify"]).json();
    assert_eq!(beside["ok"], true, "{beside}");
    assert_eq!(
        (&beside["chain"]["receipts"], &beside["problems"]),
        (&9.into(), &serde_json::json!([]))
    );
    assert_eq!(beside["tenants"]["acme"]["receipts"], 5);
    stage.stop();
    let after = stage.ask(&["audit", "verify"]).json();
    assert_eq!(after, beside, "stopping changes nothing of it");

    let index = |stage: &Stage| stage.ask(&["audit", "verify", "--index"]);
    assert_eq!(index(&stage).ok().json()["problems"], serde_json::json!([]));
    let said = stage.ask_for_people(&["audit", "verify", "--index"]).stdout;
    assert!(
        said.contains("the chain holds, and every row is what the log says"),
        "{said}"
    );
    // An amount, changed in the database alone: in the first row that has one.
    let folder = copy(&stage, "amount");
    edit(&folder.join(FILES[0]), |database| {
        let name = b"\"minor_units\":";
        let at = database
            .windows(name.len())
            .position(|here| here == name)
            .expect("an action");
        database[at + 14] ^= 1;
    });
    let ran = verify(&folder, &["--index"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stdout.contains("say otherwise than the log"), "{ran:?}");
    assert!(
        ran.stdout.contains("tollgate store rebuild"),
        "the log holds, and is the way out: {ran:?}"
    );

    let named = |what: &str| format!("receipt 5 (rcpt_{what}");
    let id = stage.trace("evt_05")["receipt"]["id"].as_str().expect("an id")[5..].to_owned();
    let named = named(&id);

    let folder = copy(&stage, "body");
    edit(&folder.join(FILES[1]), |log| {
        let at = place_of(log, body(5).as_bytes());
        let five = place_of(body(5).as_bytes(), b"red_05");
        log[at + five + 5] = b'6';
    });
    assert_broken(
        &folder,
        &format!("{named}) of acme: its body is not the one that was admitted"),
    );

    let folder = copy(&stage, "facts");
    edit(&folder.join(FILES[1]), |log| {
        // Behind its length, as the receipt's facts have it; what follows from it has it otherwise.
        let at = place_of(log, b"\x06evt_05");
        log[at + 6] = b'4';
    });
    assert_broken(
        &folder,
        &format!("{named}) of acme: it is not the one that was admitted in this place"),
    );

    // Two receipts exchanged, bodies and all: from the receipt's id to the link, facts are of one length here.
    let folder = copy(&stage, "swapped");
    let key = Secret::new(fs::read(folder.join(FILES[2])).expect("the key"));
    edit(&folder.join(FILES[1]), |log| {
        let facts = |number: usize| {
            let event = place_of(log, format!("\x06evt_{number:02}").as_bytes());
            let commitment = body_commitment(&key, &"acme".parse().expect("a name"), body(number).as_bytes());
            let commitment = place_of(log, &commitment.0);
            // An id of 16 bytes and an origin's number of one stand before the event; behind the commitment the body's form, its key and the link.
            event - 17..commitment + 32 + 2 + 32
        };
        let (five, seven) = (facts(5), facts(7));
        assert_eq!(five.len(), seven.len());
        let kept = log[five.clone()].to_vec();
        log.copy_within(seven.clone(), five.start);
        log[seven].copy_from_slice(&kept);
    });
    edit(&folder.join(FILES[1]), |bodies| {
        let length = body(5).len();
        let (five, seven) = (
            place_of(bodies, body(5).as_bytes()),
            place_of(bodies, body(7).as_bytes()),
        );
        bodies[five..five + length].copy_from_slice(body(7).as_bytes());
        bodies[seven..seven + length].copy_from_slice(body(5).as_bytes());
    });
    assert_broken(
        &folder,
        &format!("it is not the one that was admitted in this place; that is rcpt_{id}, which stands in place 7"),
    );

    let folder = copy(&stage, "cut");
    edit(&folder.join(FILES[1]), |bodies| {
        bodies.truncate(place_of(bodies, body(5).as_bytes()) + 10)
    });
    assert_broken(&folder, &format!("{named}) of acme cannot be read: log: bytes"));

    let folder = copy(&stage, "gone");
    fs::remove_file(folder.join(FILES[1])).expect("the log");
    assert_broken(&folder, "receipt 1 cannot be read: log: bytes");

    let folder = copy(&stage, "half");
    edit(&folder.join(FILES[0]), |store| store.truncate(store.len() / 2));
    assert_broken(&folder, "database: ");

    let folder = copy(&stage, "no-header");
    edit(&folder.join(FILES[0]), |store| store[..100].fill(0xA5));
    assert_broken(&folder, "database: file is not a database");
    let store = folder.join(FILES[0]);
    tollgate(
        &[
            "copy",
            "--from",
            store.to_str().expect("UTF-8"),
            "--to",
            folder.join("copy").to_str().expect("UTF-8"),
        ],
        b"",
    )
    .fails(3, "`tollgate audit verify` says what is left");

    // What is no store at all is no finding.
    let nothing = verify(&stage.path("nowhere"), &[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (3, ""), "{nothing:?}");
}

/// An older copy put back in place of the newest: consistent in itself, so only what was noted elsewhere shows it.
#[test]
fn o5_a_store_that_was_put_back_or_replaced_is_seen_by_its_checkpoint() {
    let mut stage = stage();
    let key = stage.path("audit.key");
    let key = key.to_str().expect("a path in UTF-8");
    tollgate(&["plugin", "key", "new", key], b"").ok();
    let public = format!("{key}.pub");
    let note = |stage: &Stage, name: &str, more: &[&str]| {
        let file = stage.path(name).to_str().expect("UTF-8").to_owned();
        let mut all = vec!["audit", "checkpoint", "--key", key, "--output", &file];
        all.extend(more);
        stage.ask(&all).ok();
        file
    };

    send(&stage, 1..=6);
    stage.quiet();
    let early = note(&stage, "early.json", &[]);
    stage.stop();
    let backup = copy(&stage, "backup");
    stage.start();
    send(&stage, 7..=9);
    stage.quiet();
    // Beside the running host.
    let late = note(&stage, "late.json", &[]);
    let for_acme = note(&stage, "acme.json", &["--tenant", "acme"]);
    let text = fs::read_to_string(&for_acme).expect("a checkpoint");
    assert!(text.contains("acme") && !text.contains("globex"), "{text}");
    stage.stop();
    let all = [
        "--checkpoint",
        &early,
        "--checkpoint",
        &late,
        "--checkpoint",
        &for_acme,
        "--key",
        &public,
    ];
    let now = stage.path("");
    let whole = verify(&now, &all).ok();
    assert_eq!(whole.stdout.matches("holds  checkpoint").count(), 3, "{whole:?}");

    assert_eq!(verify(&backup, &[]).code, 0, "a backup is whole");
    let put_back = verify(&backup, &all);
    assert_eq!(put_back.code, 1, "{put_back:?}");
    says(
        &put_back.stdout,
        &["the store had 9 receipts then, and has 6 now: its end was cut off"],
    );
    says(&put_back.stdout, &["acme: it had 5 receipts then, and has 3 now"]);
    assert_eq!(
        put_back.stdout.matches("holds  checkpoint").count(),
        1,
        "the early one: {put_back:?}"
    );

    // The backup goes on with other events, until it has as many receipts.
    for file in FILES {
        fs::copy(backup.join(file), stage.path(file)).expect("a copy");
    }
    stage.start();
    send(&stage, 17..=19);
    stage.quiet();
    stage.stop();
    assert_eq!(verify(&now, &[]).code, 0, "its own chain holds");
    let rewritten = verify(&now, &all);
    assert_eq!(rewritten.code, 1, "{rewritten:?}");
    assert!(rewritten.stdout.contains("the chain was written anew"), "{rewritten:?}");
    // For acme alone, with its own note and with a word about nobody else.
    let acme = ["--tenant", "acme", "--checkpoint", &for_acme, "--key", &public];
    let shown = verify(&now, &acme);
    assert_eq!(shown.code, 1, "{shown:?}");
    assert!(!shown.stdout.contains("globex"), "{shown:?}");
    assert_eq!(
        verify(&now, &["--tenant", "acme"]).code,
        0,
        "without its note nothing is known"
    );

    // A note that was changed, or that somebody else signed, is worth nothing.
    let forged = stage.path("forged.json");
    let text = fs::read_to_string(&late).expect("a checkpoint");
    fs::write(&forged, text.replacen("\"receipts\": 9", "\"receipts\": 8", 1)).expect("a file");
    verify(
        &now,
        &["--checkpoint", forged.to_str().expect("UTF-8"), "--key", &public],
    )
    .fails(1, "signature does not fit");
    let no_key = verify(&now, &["--checkpoint", &late]);
    assert_eq!(no_key.code, 2, "{no_key:?}");
    let no_checkpoint = verify(&now, &["--checkpoint", &public, "--key", &public]);
    assert_eq!(no_checkpoint.code, 2, "{no_checkpoint:?}");
}

/// Nothing is signed that is not whole.
#[test]
fn o5_a_broken_store_gets_no_checkpoint() {
    let mut stage = stage();
    let key = stage.path("audit.key");
    let key = key.to_str().expect("a path in UTF-8");
    tollgate(&["plugin", "key", "new", key], b"").ok();
    send(&stage, 1..=3);
    stage.quiet();
    stage.stop();
    edit(&stage.path(FILES[1]), |bodies| {
        let at = place_of(bodies, body(1).as_bytes());
        bodies[at] ^= 1;
    });
    let refused = stage.ask(&["audit", "checkpoint", "--key", key]);
    refused.fails(1, "nothing was signed");
    assert!(!refused.stdout.contains("signature"), "{refused:?}");
}

#[test]
fn o5_what_people_changed_is_listed_to_those_who_may_see_it() {
    let stage = stage();
    send(&stage, 1..=4);
    let link = json!({ "may": ["read"], "for": "1h", "why": "shows ana the shop", "name": "ana" });
    let made = stage
        .operator_post("/v1/tenants/acme/portal-links", &link.to_string())
        .json();
    let link = made["url"]
        .as_str()
        .and_then(|url| url.rsplit('/').next())
        .expect("a link")
        .to_owned();
    let pause = json!({ "why": "they move house", "actor": "ana" }).to_string();
    for tenant in ["acme", "globex"] {
        let path = format!("/v1/tenants/{tenant}/routes/cashback/pause");
        assert_eq!(stage.operator_post(&path, &pause).status, 200);
    }
    let settings = json!({ "text": "# ours", "expects": 0, "why": "a first word of ours", "actor": "ana" }).to_string();
    let set = stage.operator_send("PUT", "/v1/tenants/acme/settings", settings.as_bytes());
    assert_eq!(set.status, 200, "{set:?}");
    let bulk = json!({ "action": "replay", "of": "jobs", "filter": "tenant:acme", "why": "once more", "actor": "ana" });
    assert_eq!(stage.operator_post("/v1/bulk", &bulk.to_string()).status, 200);

    let all = stage.operator_get("/v1/audit").json();
    let said = |audit: &Value, tenant: &str| -> Vec<String> {
        let lines = list(&audit["changes"])
            .into_iter()
            .filter(|line| line["tenant"] == tenant);
        lines
            .map(|line| line["what"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let (of_acme, of_globex) = (said(&all, "acme"), said(&all, "globex"));
    for what in ["link made", "paused", "settings-set"] {
        assert!(of_acme.iter().any(|line| line == what), "{what}: {all:#}");
    }
    assert!(of_globex.iter().any(|line| line == "paused"), "{all:#}");
    let times: Vec<_> = list(&all["changes"])
        .iter()
        .map(|line| line["at"].to_string())
        .collect();
    assert!(
        times.is_sorted_by(|one, other| one >= other),
        "the newest first: {times:?}"
    );
    let paused = list(&all["changes"]);
    let paused = paused.iter().find(|line| line["what"] == "paused").expect("a pause");
    assert_eq!(paused["why"], "they move house");
    let made = list(&all["changes"]);
    let made = made.iter().find(|line| line["what"] == "link made").expect("a link");
    assert_eq!(made["actor"], "operator");
    assert_eq!(
        stage.operator_get("/v1/audit?limit=2").json()["changes"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );

    // The chain that the host tells of is the one that is verified.
    assert_eq!(all["chain"]["receipts"], 4);
    let verified = tollgate(
        &[
            "audit",
            "verify",
            "--store",
            &stage.path("tollgate.db").display().to_string(),
        ],
        b"",
    );
    says(&verified.stdout, &[all["chain"]["head"].as_str().expect("a link")]);

    // Each sees what the calls that list one kind of it would show.
    let seen = |token: &str| stage.ask_as(token, "GET", "/v1/audit", b"").json();
    for (token, sees, not) in [
        (
            stage.token("tenant-admin", "acme"),
            &["paused", "settings-set", "link made"][..],
            &[][..],
        ),
        (
            stage.token("viewer", "acme"),
            &["paused"],
            &["settings-set", "link made"],
        ),
        (
            stage.token("plugin-author", "acme"),
            &["paused"],
            &["settings-set", "link made", "bulk action begun"],
        ),
        (link, &["paused"], &["settings-set", "link made"]),
    ] {
        let audit = seen(&token);
        assert_eq!(said(&audit, "globex"), [""; 0], "{audit:#}");
        assert_eq!(audit["chain"], Value::Null);
        let of_acme = said(&audit, "acme");
        for what in sees {
            assert!(of_acme.iter().any(|line| line == what), "{what}: {audit:#}");
        }
        for what in not {
            assert!(!of_acme.iter().any(|line| line == what), "{what}: {audit:#}");
        }
    }
    let others = stage.ask_as(&stage.token("viewer", "globex"), "GET", "/v1/audit?tenant=acme", b"");
    assert_eq!(others.status, 403, "{others:?}");

    let shown = stage.ask_for_people(&["audit", "changes", "--tenant", "acme"]);
    says(
        &shown.stdout,
        &[
            "paused acme/cashback",
            "they move house",
            "settings-set acme",
            "a first word of ours",
            "the chain has 4 receipts",
        ],
    );
    assert!(!shown.stdout.contains("globex"), "{shown:?}");
    let mut person = Person::signed_in(&stage, stage.operator_token());
    let page = text(&person.get("/console/audit?tenant=acme"));
    says(
        &page,
        &[
            "they move house",
            "/console/routes/acme/cashback",
            "4 receipts",
            "tollgate audit verify",
        ],
    );
    assert!(!page.contains("globex"), "{page}");
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "globex"));
    let page = text(&admin.get("/console/audit"));
    assert!(
        page.contains("they move house") && !page.contains("acme") && !page.contains("The chain of receipts"),
        "{page}"
    );
}

#[test]
fn o5_what_people_did_to_events_is_listed_once_for_each_request_with_who_and_why() {
    let to_books = Destination::start();
    let stage = Setup::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", &to_books)))
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .start();
    to_books.script([Reply::Status(410), Reply::Status(410)]);
    for number in 1..=3 {
        assert_eq!(stage.redeem(number).status, 202);
        stage.quiet();
    }
    let odd = signer("shop").sign("", redeemed("evt_odd", "red_odd", "teleported"));
    assert_eq!(stage.post_to("acme", "shop", &odd).status, 202);
    stage.quiet();
    let odd = stage.trace("evt_odd")["receipt"]["id"]
        .as_str()
        .expect("a receipt")
        .to_owned();
    let post = |path: &str, body: Value| {
        let answer = stage.operator_post(path, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    };
    // Whoever says that they are somebody else is named beside it, and a reason that looks like a name is a reason.
    let reason = "dismissed by eve: no";
    post(
        "/v1/review",
        json!({ "id": odd, "dismiss": true, "actor": "ana by day", "why": reason }),
    );
    post(
        "/v1/replay",
        json!({ "dead_letters": {}, "actor": "ben", "why": "they are back" }),
    );
    stage.quiet();
    post(
        "/v1/resend",
        json!({ "deliveries": { "destination": "books" }, "actor": "cem", "why": "they lost them" }),
    );
    stage.quiet();

    let lines = |token: &str| list(&stage.ask_as(token, "GET", "/v1/audit?tenant=acme", b"").json()["changes"]);
    let all = lines(stage.operator_token());
    let of = |what: &str| -> Vec<Value> { all.iter().filter(|line| line["what"] == what).cloned().collect() };
    let decided = of("decided");
    assert_eq!(decided.len(), 1, "{all:#?}");
    assert_eq!(
        (&decided[0]["actor"], &decided[0]["why"], &decided[0]["to"]),
        (&json!("ana by day"), &json!(reason), &json!(format!("{odd} dismissed")))
    );
    let replayed = of("replayed");
    assert_eq!(replayed.len(), 1, "{all:#?}");
    says(
        replayed[0]["actor"].as_str().unwrap_or_default(),
        &["ben: they are back"],
    );
    says(
        replayed[0]["to"].as_str().unwrap_or_default(),
        &["(to books), and 1 more"],
    );
    let sent = of("sent again");
    assert_eq!(sent.len(), 1, "{all:#?}");
    assert_eq!(
        (&sent[0]["actor"], &sent[0]["why"]),
        (&json!("cem"), &json!("they lost them"))
    );
    says(sent[0]["to"].as_str().unwrap_or_default(), &["(to books), and 2 more"]);

    for (role, sees) in [("tenant-admin", true), ("viewer", true), ("plugin-author", false)] {
        let found = lines(&stage.token(role, "acme"));
        assert_eq!(
            found.iter().any(|line| line["what"] == "decided"),
            sees,
            "{role}: {found:#?}"
        );
    }
    let others = stage
        .ask_as(&stage.token("viewer", "globex"), "GET", "/v1/audit", b"")
        .json();
    assert!(
        !list(&others["changes"]).iter().any(|line| line["tenant"] == "acme"),
        "{others:#}"
    );
    let mut person = Person::signed_in(&stage, stage.operator_token());
    says(
        &text(&person.get("/console/audit?tenant=acme")),
        &[&format!("/console/find?id={odd}"), "and 2 more", "they lost them"],
    );
    says(
        &stage.ask_for_people(&["audit", "changes", "--tenant", "acme"]).stdout,
        &["decided", "sent again", "they lost them"],
    );
}
