//! I1, I7: keys that providers publish, while strangers name others. A name that proved a request, or that the source lists, has a budget
//! of its own, is kept over restarts and renewed before it ends; names that nobody vouches for share a small one by address.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::client::Client;
use tollgate_tests::disk_library;
use tollgate_tests::events::{Message, Signer, now};
use tollgate_tests::json::holds;
use tollgate_tests::stage::{Setup, Stage, source as source_of, tollgate, tollgate_line, wait_until};
use tollgate_tests::tls::{FIRST, PAYPAL_LIKE, Publisher};

const SECRET: &str = "fetch-secret-of-the-tests";
const KEPT: &str = "published-keys.tollgate.db";

fn source(lines: &str) -> String {
    format!(
        "[sources.bank]\nprofile = {{ file = \"profiles/plaid-here.toml\" }}\n\
         parameters = {{ client_id = \"client-1\", secret = {{ file = \"../secrets/plaid-secret\" }} }}\n{lines}\n"
    )
}

/// A stage whose source `bank` fetches Plaid's keys from `publisher`. Not started.
fn bank(publisher: &Publisher, edge: &str) -> Stage {
    let stage = Setup::default()
        .edge(edge)
        .delivery("allow_networks = [\"127.0.0.0/8\", \"::1\"]\nextra_roots = \"secrets/roots.pem\"")
        .tenancy(&format!("fetch_hosts = [\"localhost:{}\"]", publisher.address.port()))
        .secret("roots.pem", &FIRST.certificate_pem())
        .secret("plaid-secret", SECRET)
        .tenant("acme", &source(""))
        .set();
    let port = publisher.address.port();
    let own = include_str!("../../../host/core/profiles/plaid.toml")
        .replace("name = \"plaid\"", "name = \"plaid-here\"")
        .replace(
            "https://{config:environment}.plaid.com/",
            &format!("https://localhost:{port}/"),
        )
        .replace(
            "\"production.plaid.com\", \"sandbox.plaid.com\"",
            &format!("\"localhost:{port}\""),
        );
    stage.write("tenants/profiles/plaid-here.toml", &own);
    stage
}

/// A key as Plaid would have it.
struct Jwk {
    private: Value,
    public: Value,
}

impl Jwk {
    /// Made in the stage's folder under that name.
    fn made(stage: &Stage, name: &str) -> Self {
        let file = stage.path(name).display().to_string();
        let line = format!("send --provider plaid --url http://127.0.0.1:1/ --test-key {file} --body - --dry-run");
        tollgate_line(&line, b"{}").ok();
        let read = |file: &str| serde_json::from_str(&std::fs::read_to_string(file).expect("a key")).expect("a JWK");
        let mut jwk = Self {
            private: read(&file),
            public: read(&format!("{file}.pub")),
        };
        jwk.private["kid"] = json!(name);
        jwk.public["kid"] = json!(name);
        jwk
    }

    fn published(&self) -> Vec<u8> {
        json!({ "key": self.public }).to_string().into_bytes()
    }

    /// An event that this key signs, under another name where there is one, as the client at `from` sends it.
    fn event(&self, name: Option<&str>, item: &str, from: &str) -> Message {
        let mut key = self.private.clone();
        if let Some(name) = name {
            key["kid"] = json!(name);
        }
        let body = json!({ "webhook_type": "TRANSFER", "webhook_code": "DONE", "item_id": item }).to_string();
        let mut message = Signer::new("plaid", &key.to_string()).sign(item, body);
        message.headers.push(("x-forwarded-for".to_owned(), from.to_owned()));
        message
    }
}

/// The keys that were asked for, by name.
fn asked(publisher: &Publisher) -> Vec<String> {
    let name = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        body["key_id"].as_str().unwrap_or_default().to_owned()
    };
    publisher.asked().iter().map(|(_, body)| name(body)).collect()
}

/// Posts what `message` makes of each number, one after the other, until `stop`; counts them in `sent`.
fn flood(stage: &Stage, stop: &AtomicBool, sent: &AtomicU64, message: impl Fn(u64) -> Message) {
    let mut client: Option<Client> = None;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let connected = client.get_or_insert_with(|| stage.connect());
        match connected.post("/in/acme/bank", &message(number)) {
            Ok(answer) => {
                assert_eq!(
                    answer.status, 503,
                    "a made-up name proves nothing, and refuses nothing either"
                );
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => client = None,
        }
    }
}

/// Ends a flood when it is dropped.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `act` while a flood is under way.
fn during_a_flood<T>(stage: &Stage, message: impl Fn(u64) -> Message + Send, act: impl FnOnce() -> T) -> (T, u64) {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        scope.spawn(|| flood(stage, &stop, &sent, message));
        // Also when something in here panics: the scope waits for the flood.
        let _stops = Stops(&stop);
        wait_until("the flood is on", || (sent.load(Ordering::Relaxed) >= 40).then_some(()));
        act()
    });
    (done, sent.into_inner())
}

#[test]
fn i1_made_up_names_of_keys_keep_no_genuine_event_out() {
    let publisher = Publisher::start(&FIRST, b"{}");
    let mut stage = bank(&publisher, "threads = 1");
    let (genuine, attacker) = (Jwk::made(&stage, "genuine"), Jwk::made(&stage, "attacker"));
    publisher.answer(200, &genuine.published());
    stage.start();
    let made_up = |number| attacker.event(Some(&format!("made-up-{number}")), "item-x", "");
    let post = |stage: &Stage, item: &str| stage.post("bank", &genuine.event(None, item, "")).status;

    // From the first moment, from the same address: what is repeated is heard.
    let start = Instant::now();
    let (tries, sent) = during_a_flood(&stage, made_up, || {
        let tries = (1..20).find(|number| {
            thread::sleep(Duration::from_millis(700));
            post(&stage, &format!("item-{number}")) == 200
        });
        for number in 100..105 {
            assert_eq!(post(&stage, &format!("item-{number}")), 200, "and from then on at once");
        }
        tries
    });
    let tries = tries.expect("a genuine event comes through");
    assert!(tries <= 8, "{tries} tries beside {sent} of the attacker's");
    let caused = asked(&publisher).iter().filter(|name| *name != "genuine").count();
    let most = 4 + usize::try_from(start.elapsed().as_secs() / 10).unwrap_or(0) + 1;
    assert!(
        caused <= most,
        "{caused} fetches with the tenant's credentials, by {sent} requests"
    );
    assert_eq!(
        asked(&publisher).iter().filter(|name| *name == "genuine").count(),
        1,
        "once"
    );
    wait_until("the key is kept", || stage.path(KEPT).exists().then_some(()));

    // A host that was killed comes up while nothing is published, and the flood goes on.
    stage.kill();
    let kept = std::fs::read_to_string(stage.path(KEPT)).expect("the file of published keys");
    assert!(
        kept.contains("genuine") && !kept.contains("made-up") && !kept.contains(SECRET),
        "{kept}"
    );
    let mode = std::fs::metadata(stage.path(KEPT))
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    publisher.answer(500, b"");
    stage.start();
    let before = publisher.asked().len();
    let (statuses, _) = during_a_flood(&stage, made_up, || {
        ["item-200", "item-201"].map(|item| post(&stage, item))
    });
    assert_eq!(statuses, [200, 200]);
    assert!(
        !asked(&publisher)[before..].contains(&"genuine".to_owned()),
        "nobody was asked for it"
    );

    // A key that is there refuses.
    assert_eq!(
        stage
            .post("bank", &genuine.event(None, "item-202", "").tampered())
            .status,
        401
    );
    stage.assert_whole();
}

/// What is published is no key, or nothing, or the operator does not allow the way there: ours to mend, so the sender is asked to come again.
#[test]
fn i1_a_key_is_fetched_once_where_the_profile_lists_it_and_a_failure_is_never_a_refusal() {
    let publisher = Publisher::start(&FIRST, b"nothing yet");
    let mut stage = bank(&publisher, "");
    let genuine = Jwk::made(&stage, "genuine");
    let other = source("").replace("[sources.bank]", "[sources.other]");
    stage.write("tenants/acme.toml", &format!("{}{other}", source("")));
    stage.start();
    let send = |source: &str, item: &str| stage.post(source, &genuine.event(None, item, "")).verdict();
    let unavailable = (503, "key-unavailable".to_owned());
    assert_eq!(send("bank", "item-1"), unavailable);
    let (first, body) = publisher.asked().remove(0);
    assert_eq!(first, "POST /webhook_verification_key/get HTTP/1.1");
    let said: Value = serde_json::from_slice(&body).expect("a JSON body");
    holds(&said, &json!({ "client_id": "client-1", "secret": SECRET }));
    // The failure is remembered: nobody is asked again so soon.
    assert_eq!(send("bank", "item-1"), unavailable);
    assert_eq!(publisher.asked().len(), 1);

    // Another source fetches by itself; its key is published by now, and asked for once.
    publisher.answer(200, &genuine.published());
    for number in 0..3 {
        assert_eq!(send("other", &format!("item-{number}")).0, 200);
    }
    assert_eq!(publisher.asked().len(), 2);
    assert_eq!(stage.trace("item-2")["receipt"]["proof"]["key_id"], "genuine");
    // The host that publishes is down: what is known still verifies.
    publisher.answer(500, b"");
    assert_eq!(send("other", "item-10").0, 200);
    let log = stage.log().join("\n");
    assert!(log.contains("key-unavailable") && !log.contains(SECRET), "{log}");
    assert_eq!(stage.counts()["receipts"], 4);
}

#[test]
fn i1_a_key_is_not_fetched_from_a_network_that_the_operator_does_not_allow() {
    let publisher = Publisher::start(&FIRST, b"{}");
    let mut stage = bank(&publisher, "");
    let genuine = Jwk::made(&stage, "genuine");
    stage.delivery("extra_roots = \"secrets/roots.pem\"");
    stage.start();
    assert_eq!(stage.post("bank", &genuine.event(None, "item-1", "")).status, 503);
    assert_eq!(publisher.asked().len(), 0, "the guard stands before the connection");
    assert_eq!(stage.counts()["receipts"], 0);
}

#[test]
fn i1_names_from_another_address_wait_for_nobody_who_asks_for_many() {
    let publisher = Publisher::start(&FIRST, b"{}");
    let mut stage = bank(&publisher, "threads = 1\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let (genuine, attacker) = (Jwk::made(&stage, "genuine"), Jwk::made(&stage, "attacker"));
    publisher.answer(200, &genuine.published());
    stage.start();
    // Each made-up name several times, from a few addresses, so that they wait as whatever is repeated does.
    let made_up = |number: u64| {
        let from = format!("203.0.113.{}", number % 5);
        attacker.event(Some(&format!("made-up-{}", number / 15)), "item-x", &from)
    };
    let (took, sent) = during_a_flood(&stage, made_up, || {
        thread::sleep(Duration::from_secs(3));
        let start = Instant::now();
        wait_until("a genuine event comes through", || {
            thread::sleep(Duration::from_millis(500));
            let message = genuine.event(None, "item-1", "198.51.100.7");
            (stage.post("bank", &message).status == 200).then_some(())
        });
        start.elapsed()
    });
    assert!(
        took < Duration::from_secs(15),
        "{took:?} beside {sent} of the attacker's"
    );
}

#[test]
fn i1_listed_keys_are_fetched_before_anybody_names_them() {
    let publisher = Publisher::start(&FIRST, b"{}");
    let mut stage = bank(&publisher, "threads = 1");
    let (genuine, attacker) = (Jwk::made(&stage, "genuine"), Jwk::made(&stage, "attacker"));
    stage.start();
    publisher.answer(200, &genuine.published());
    let made_up = |number| attacker.event(Some(&format!("made-up-{number}")), "item-x", "");
    let (status, _) = during_a_flood(&stage, made_up, || {
        stage.write("tenants/acme.toml", &source("published_keys = [\"genuine\"]"));
        stage.reload();
        wait_until("the listed key is fetched", || {
            asked(&publisher).contains(&"genuine".to_owned()).then_some(())
        });
        thread::sleep(Duration::from_millis(500));
        stage.post("bank", &genuine.event(None, "item-1", "")).status
    });
    assert_eq!(status, 200, "the first event of all, beside a flood");

    // A name that leads nowhere, a provider that publishes none, and one too often.
    for (text, expect) in [
        (source("published_keys = [\"a b\"]"), "leads to no key"),
        (source("published_keys = [\"a\", \"a\"]"), "stands twice"),
        (
            source_of("shop", "generic-hmac", "published_keys = [\"a\"]"),
            "publishes no keys",
        ),
    ] {
        stage.write("tenants/acme.toml", &text);
        let config = stage.config().display().to_string();
        let ran = tollgate(&["check", "--config", &config], b"");
        assert!(ran.code != 0 && format!("{ran:?}").contains(expect), "{ran:?}");
    }
}

#[test]
fn i1_a_published_key_is_renewed_before_it_ends() {
    let publisher = Publisher::start(&FIRST, b"{}");
    let mut stage = bank(&publisher, "threads = 1");
    let genuine = Jwk::made(&stage, "genuine");
    publisher.answer(200, &genuine.published());
    stage.write("ahead", "0");
    let clock = stage.path("ahead").display().to_string();
    stage.wrap(&[
        "env",
        &format!("LD_PRELOAD={}", disk_library().display()),
        &format!("TOLLGATE_TEST_CLOCK={clock}"),
    ]);
    stage.start();
    let post = |item: &str, hours: i64| {
        let at = now().plus_ms(hours * 60 * 60 * 1000);
        let body = json!({ "webhook_type": "TRANSFER", "webhook_code": "DONE", "item_id": item }).to_string();
        let message = Signer::new("plaid", &genuine.private.to_string()).sign_at(item, body, at);
        stage.post("bank", &message).status
    };
    let set = |hours: i64| stage.write("ahead", &(hours * 60 * 60).to_string());
    assert_eq!(post("item-1", 0), 200);
    assert_eq!(publisher.asked().len(), 1);
    set(12);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(publisher.asked().len(), 1, "half a day is no age");
    // Without any request.
    set(20);
    let twentieth = now().plus_ms(19 * 60 * 60 * 1000);
    wait_until("the key is fetched again, and its answer taken", || {
        let kept: Value = serde_json::from_slice(&std::fs::read(stage.path(KEPT)).ok()?).ok()?;
        (kept[0]["document"]["fetched_at"].as_i64()? > twentieth.0).then_some(())
    });
    // A day after it was first fetched nobody publishes it, and nothing is missing.
    publisher.answer(500, b"");
    set(30);
    assert_eq!(post("item-2", 30), 200);
    set(39);
    let said = wait_until("it is tried in time, and said", || {
        Some(stage.log_with("cannot be fetched ahead")).filter(|said| !said.is_empty())
    });
    assert!(!said.join("").contains(SECRET), "{said:?}");
    assert_eq!(post("item-3", 39), 200, "what is known serves until it ends");
    set(45);
    assert_eq!(post("item-4", 45), 503, "and no longer");
    assert_eq!(stage.counts()["receipts"], 3);
}

/// A source of PayPal's profile whose certificates are published here.
struct PayPalHere {
    publisher: Publisher,
    stage: Stage,
}

impl PayPalHere {
    fn start(edge: &str) -> Self {
        let publisher = Publisher::start(&FIRST, PAYPAL_LIKE.certificate_pem().as_bytes());
        let host = format!("localhost:{}", publisher.address.port());
        let mut stage = Setup::default()
            .edge(edge)
            .delivery("allow_networks = [\"127.0.0.0/8\", \"::1\"]\nextra_roots = \"secrets/roots.pem\"")
            .tenancy(&format!("fetch_hosts = [\"{host}\"]"))
            .secret("roots.pem", &FIRST.certificate_pem())
            .secret("signer.pem", &PAYPAL_LIKE.key_pem())
            .tenant(
                "acme",
                "[sources.bank]\nprofile = { file = \"profiles/paypal-here.toml\" }\nparameters = { webhook_id = \"WH-1\" }\n",
            )
            .set();
        let own = include_str!("../../../host/core/profiles/paypal.toml")
            .replace("name = \"paypal\"", "name = \"paypal-here\"")
            .replace("\"api.paypal.com\", \"api.sandbox.paypal.com\"", &format!("\"{host}\""));
        assert!(own.contains(&format!("[\"{host}\"]")), "{own}");
        stage.write("tenants/profiles/paypal-here.toml", &own);
        stage.start();
        Self { publisher, stage }
    }

    /// Where the certificates are.
    fn host(&self) -> String {
        format!("localhost:{}", self.publisher.address.port())
    }

    /// Sends an event as PayPal would, under a transmission's id; answers the status.
    fn send(&self, id: &str, flags: &[&str]) -> u64 {
        let path = |name: &str| self.stage.path(name).display().to_string();
        let (profile, key) = (path("tenants/profiles/paypal-here.toml"), path("secrets/signer.pem"));
        let url = format!("http://{}/in/acme/bank", self.stage.edge);
        let body = br#"{"id":"WH-EVT-1","event_type":"CUSTOMER.DISPUTE.CREATED","create_time":"2026-05-05T10:00:00Z","resource":{"id":"PP-1"}}"#;
        let arguments = ["send", "--provider", &profile, "--url", &url, "--secret-file", &key];
        let more = ["--parameter", "webhook_id=WH-1", "--body", "-", "--id", id, "--json"];
        let ran = tollgate(&[&arguments, &more, flags].concat(), body);
        assert!(ran.code < 2, "{ran:?}");
        ran.json()[0]["http_status"].as_u64().unwrap_or(0)
    }

    /// The first lines of what the publisher was asked.
    fn asked(&self) -> Vec<String> {
        self.publisher.asked().into_iter().map(|(first, _)| first).collect()
    }
}

#[test]
fn i1_a_certificate_is_fetched_where_the_request_says_and_the_profile_lists_it() {
    let paypal = PayPalHere::start("");
    // A place that the profile does not list is never asked, whatever the request says.
    let port = paypal.publisher.address.port();
    let elsewhere = format!("paypal-cert-url: https://127.0.0.1:{port}/v1/notifications/test");
    assert_eq!(paypal.send("id-1", &["--header", &elsewhere]), 401);
    let below = format!("paypal-cert-url: https://localhost:{port}/v1/notifications/../../test");
    assert_eq!(paypal.send("id-1", &["--header", &below]), 401);
    assert!(paypal.asked().is_empty());

    assert_eq!(paypal.send("id-1", &[]), 202, "{}", paypal.stage.log().join("\n"));
    assert_eq!(paypal.send("id-2", &[]), 202);
    assert_eq!(paypal.send("id-3", &["--tamper"]), 401);
    assert_eq!(paypal.asked(), ["GET /v1/notifications/test HTTP/1.1"], "once");
    assert_eq!(paypal.stage.counts()["receipts"], 2);
}

#[test]
fn i1_certificates_at_made_up_places_push_no_genuine_one_out() {
    let paypal = PayPalHere::start("threads = 1\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let host = paypal.host();
    assert_eq!(paypal.send("id-1", &[]), 202, "{}", paypal.stage.log().join("\n"));
    // The publisher answers everywhere with a certificate that is good: each place is a key, and none of them proved anything.
    let sent: u64 = 20;
    for number in 0..sent {
        let place = format!("https://{host}/v1/notifications/certs/{number}");
        let stamp = now().to_string();
        let message = Message {
            headers: [
                ("paypal-cert-url", place.as_str()),
                ("paypal-transmission-sig", "AAAA"),
                ("paypal-transmission-id", "x"),
                ("paypal-transmission-time", &stamp),
                ("paypal-auth-algo", "SHA256withRSA"),
                ("x-forwarded-for", &format!("203.0.113.{number}")),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            body: b"{}".to_vec(),
        };
        wait_until("the place is asked", || {
            let answer = paypal.stage.post("bank", &message);
            thread::sleep(Duration::from_millis(100));
            (answer.status == 401).then_some(())
        });
    }
    paypal.publisher.answer(500, b"");
    assert_eq!(paypal.send("id-2", &[]), 202, "what proved a request stays");
    let first = paypal
        .asked()
        .into_iter()
        .filter(|first| first.contains("/v1/notifications/test "))
        .count();
    assert_eq!(first, 1, "{:?}", paypal.asked());
}
