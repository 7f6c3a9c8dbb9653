//! O14: whoever sets up a source or a destination tries it: a test event takes the way of a real one, a test delivery is sent as any other, and
//! neither has an effect that nobody meant.

use serde_json::{Value, json};
use tollgate_tests::destination::{DESTINATION_SECRET, Destination, Reply};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage, books, source};

/// Beside the sources of every test: one that lets only others in, one whose provider alone can sign, and a route that takes everything.
fn stage(destination: &Destination) -> Stage {
    let guarded = source(
        "guarded",
        "generic-hmac",
        "allow_networks = [\"203.0.113.0/24\"]\nbearer = [{ file = \"../secrets/shop\" }]",
    );
    let fixed = source("fixed", "voucherify-raw", "event_type = \"campaign.clicked\"");
    let rest = format!(
        "{CASHBACK}{guarded}{fixed}[sources.paypal]\nprovider = \"paypal\"\nparameters = {{ webhook_id = \"8PT597110X687430LKGECATA\" }}\n\
         [routes.all]\nsources = [\"orders\"]\nforward = \"body\"\ndestinations = [\"books\"]\n{}\
         [destinations.box]\nkind = \"pull\"\n",
        books("books", destination),
    );
    Setup::acme(&rest)
        .plugin("cashback")
        .secret("guarded", "guarded-secret-of-acme-4711")
        .secret("fixed", "fixed-secret-of-acme-4711")
        .tenant("globex", SOURCES)
        .start()
}

fn test(stage: &Stage, token: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = stage.ask_as(
        token,
        "POST",
        &format!("/v1/tenants/acme/{path}/test"),
        body.to_string().as_bytes(),
    );
    (answer.status, answer.json())
}

#[test]
fn o14_a_test_event_takes_the_way_of_a_real_one_and_is_marked() {
    let destination = Destination::start();
    let stage = stage(&destination);
    let admin = stage.token("tenant-admin", "acme");
    let before = stage.counts();

    // Looked at first: nothing is sent.
    let (status, looked) = test(&stage, &admin, "sources/shop", &json!({ "dry_run": true }));
    assert_eq!(status, 200, "{looked:#}");
    holds(
        &looked,
        &json!({ "dry_run": true, "event_type": "tollgate.test", "answer": null, "routes": [], "signed_with": "shop-1" }),
    );
    says(text(&looked, "body"), &["tollgate.test", text(&looked, "event_id")]);
    assert_eq!(stage.counts(), before, "nothing came in");

    let mut receipts = Vec::new();
    for source in ["shop", "orders", "payments", "rewards", "guarded"] {
        for again in 0..2 {
            let (status, sent) = test(&stage, &admin, &format!("sources/{source}"), &json!({}));
            assert_eq!(status, 200, "{source}: {sent:#}");
            let answered = sent["answer"]["http_status"].as_u64().unwrap_or(0);
            assert_eq!(answered / 100, 2, "{source}: {sent:#}");
            let receipt = text(&sent["answer"], "receipt").to_owned();
            assert!(
                !receipts.contains(&receipt),
                "{source} {again}: each is an event of its own"
            );
            let trace = stage.finished(&receipt);
            holds(
                &trace["receipt"],
                &json!({ "source": source, "event_id": sent["event_id"], "event_type": sent["event_type"], "host_test": true }),
            );
            // What would be taken is taken, and nothing else.
            let jobs: Vec<_> = list(&trace["jobs"]).iter().map(|job| job["route"].clone()).collect();
            assert_eq!(Value::Array(jobs), sent["routes"], "{source}");
            receipts.push(receipt);
        }
    }
    let (_, sent) = test(&stage, &admin, "sources/guarded", &json!({ "dry_run": true }));
    assert_eq!(list(&sent["passes_over"]).len(), 2, "{sent:#}");
    let (_, of_orders) = test(&stage, &admin, "sources/orders", &json!({ "dry_run": true }));
    assert_eq!(of_orders["routes"], json!(["all"]));
    assert_eq!(
        destination.wait_for(2).len(),
        2,
        "what takes everything takes tests as well"
    );
    assert_eq!(
        stage.operator_get("/v1/actions?filter=kind%3Acredit").json()["items"],
        json!([])
    );

    // A type that a route takes: it does what it does with any event.
    let (_, sent) = test(
        &stage,
        &admin,
        "sources/shop",
        &json!({ "event_type": "reward.redeemed" }),
    );
    holds(
        &sent,
        &json!({ "event_type": "reward.redeemed", "routes": ["cashback"] }),
    );
    let trace = stage.finished(text(&sent["answer"], "receipt"));
    assert_eq!(list(&trace["jobs"]).len(), 1);

    // Where a test cannot set the type, it is of one that routes may take: somebody has to ask for it.
    let (status, refused) = test(&stage, &admin, "sources/fixed", &json!({}));
    assert_eq!((status, text(&refused, "code")), (400, "event-type"), "{refused:#}");
    says(text(&refused, "error"), &["ask for the type `campaign.clicked`"]);
    let (status, sent) = test(
        &stage,
        &admin,
        "sources/fixed",
        &json!({ "event_type": "campaign.clicked" }),
    );
    assert_eq!(status, 200, "{sent:#}");

    // Who cannot be played, and what is not there.
    let (status, refused) = test(&stage, &admin, "sources/paypal", &json!({}));
    assert_eq!(status, 409, "{refused:#}");
    says(text(&refused, "error"), &["no test event can be made", "PayPal"]);
    assert_eq!(test(&stage, &admin, "sources/nothing", &json!({})).0, 404);
    let (status, refused) = test(&stage, &admin, "sources/shop", &json!({ "event_type": "" }));
    assert_eq!(status, 400, "{refused:#}");
    let kept = stage.counts();
    for (role, tenant) in [
        ("viewer", "acme"),
        ("plugin-author", "acme"),
        ("tenant-admin", "globex"),
    ] {
        let token = stage.token(role, tenant);
        assert_eq!(
            test(&stage, &token, "sources/shop", &json!({})).0,
            403,
            "{role} of {tenant}"
        );
        assert_eq!(
            test(&stage, &token, "destinations/books", &json!({})).0,
            403,
            "{role} of {tenant}"
        );
    }
    assert_eq!(stage.counts(), kept);

    // By command, for people and for programs.
    let ran = stage
        .ask_for_people(&["source", "test", "--tenant", "acme", "shop"])
        .ok();
    says(
        &ran.stdout,
        &[
            "tollgate.test",
            "kept",
            "the edge answered 202",
            "tollgate trace rcpt_",
            "no route takes it",
        ],
    );
    let dry = stage
        .ask(&[
            "source",
            "test",
            "--tenant",
            "acme",
            "--dry-run",
            "--type",
            "reward.redeemed",
            "shop",
        ])
        .ok();
    holds(&dry.json(), &json!({ "routes": ["cashback"], "answer": null }));
    stage
        .ask(&["source", "test", "--tenant", "acme", "paypal"])
        .fails(1, "no test event can be made");
    let log = stage.log().join("\n");
    assert!(log.contains("a test event goes through the edge"), "{log}");
    for secret in ["guarded-secret", "shop-secret", DESTINATION_SECRET] {
        assert!(!log.contains(secret), "the log has {secret}");
    }
}

#[test]
fn o14_a_test_delivery_is_sent_as_any_other_and_nothing_of_it_is_kept() {
    let destination = Destination::start();
    let mut stage = stage(&destination);
    let admin = stage.token("tenant-admin", "acme");
    let before = stage.counts();
    let (status, looked) = test(&stage, &admin, "destinations/books", &json!({ "dry_run": true }));
    assert_eq!(status, 200, "{looked:#}");
    holds(&looked, &json!({ "dry_run": true, "end": null, "delivered": null }));
    assert!(!looked["url"].as_str().unwrap_or_default().is_empty());
    assert_eq!(destination.arrivals().len(), 0);

    let (_, sent) = test(&stage, &admin, "destinations/books", &json!({}));
    holds(
        &sent,
        &json!({ "delivered": true, "end": { "end": "answered", "http_status": 204 } }),
    );
    let arrivals = destination.take_arrivals();
    assert_eq!(arrivals.len(), 1);
    assert!(arrivals[0].is_authentic, "signed as every delivery is");
    assert_eq!(arrivals[0].header("tollgate-test"), "true");
    assert_eq!(arrivals[0].header("webhook-id"), text(&sent, "message_id"));
    holds(
        &arrivals[0].json(),
        &json!({ "type": "tollgate.test", "tenant": "acme", "destination": "books" }),
    );

    // What it answers decides, and is told.
    destination.script([Reply::Status(500), Reply::Status(410)]);
    for status in [500, 410] {
        let (_, refused) = test(&stage, &admin, "destinations/books", &json!({}));
        holds(
            &refused,
            &json!({ "delivered": false, "end": { "end": "answered", "http_status": status } }),
        );
    }
    let ran = stage
        .ask_for_people(&["destination", "test", "--tenant", "acme", "books"])
        .ok();
    says(&ran.stdout, &["delivered", "answered 204"]);
    destination.script([Reply::Status(503)]);
    stage
        .ask(&["destination", "test", "--tenant", "acme", "books"])
        .fails(1, "");
    assert_eq!(destination.take_arrivals().len(), 4, "none was tried again");
    assert_eq!(stage.counts(), before, "nothing of it is kept");
    assert_eq!(stage.operator_get("/v1/deliveries").json()["items"], json!([]));

    // What it says is for those who may read deliveries.
    let made = stage.operator_post(
        "/v1/tenants/acme/portal-links",
        &json!({ "may": ["settings"], "for": "1h", "why": "a visit" }).to_string(),
    );
    let url = made.json()["url"].as_str().unwrap_or_default().to_owned();
    let secret = url.rsplit('/').next().unwrap_or_default();
    for (token, says) in [(admin.as_str(), "thanks"), (secret, "")] {
        destination.script([Reply::Says(200, "thanks")]);
        let (_, sent) = test(&stage, token, "destinations/books", &json!({}));
        holds(&sent, &json!({ "delivered": true, "answer": says }));
    }
    assert_eq!(destination.take_arrivals().len(), 2);

    // Where nothing is sent for now, no test is.
    stage
        .ask(&["pause", "destination", "--tenant", "acme", "books", "--why", "moving"])
        .ok();
    let (status, paused) = test(&stage, &admin, "destinations/books", &json!({}));
    assert_eq!((status, text(&paused, "code")), (409, "paused"), "{paused:#}");
    assert_eq!(destination.arrivals().len(), 0);
    stage
        .ask(&["resume", "destination", "--tenant", "acme", "books", "--why", "moved"])
        .ok();

    let (status, pulled) = test(&stage, &admin, "destinations/box", &json!({}));
    assert_eq!(status, 409);
    says(text(&pulled, "error"), &["its owner pulls"]);
    assert_eq!(test(&stage, &admin, "destinations/nothing", &json!({})).0, 404);

    // The same guard holds: where no delivery goes, no test goes.
    stage.delivery("allow_http = true");
    let url = destination.url().replace("127.0.0.1", "localhost");
    let tenant = format!(
        "{SOURCES}[destinations.books]\nurl = \"{url}\"\nsecrets = [{{ file = \"../secrets/destination\" }}]\n"
    );
    stage.write("tenants/acme.toml", &tenant);
    stage.stop();
    stage.start();
    let (_, forbidden) = test(&stage, &admin, "destinations/books", &json!({}));
    holds(
        &forbidden,
        &json!({ "delivered": false, "end": { "end": "forbidden" } }),
    );
    assert_eq!(destination.arrivals().len(), 0);
    let log = stage.log().join("\n");
    assert!(!log.contains(DESTINATION_SECRET));
}
