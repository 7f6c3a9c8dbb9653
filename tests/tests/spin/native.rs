//! Both shells over one core: the vectors and the samples come out the same, and an app's database is a native store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::Vector;
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::vector;
use tollgate_store::{TraceBy, TraceQuery, Views};
use tollgate_tests::client::{Client, request};
use tollgate_tests::events::{Message, Signer, now, redeemed, signer};
use tollgate_tests::spin::{SpinSetup, SpinStage};
use tollgate_tests::stage::{CASHBACK, Ran, Setup, Stage, block_on, sample, tollgate, wait_until};

/// The cases: what is sent where.
struct Case {
    method: &'static str,
    /// The source, and a query behind it.
    source: String,
    message: Message,
}

impl Case {
    fn post(source: &str, message: Message) -> Self {
        Self {
            method: "POST",
            source: source.to_owned(),
            message,
        }
    }

    fn told_by(&self, address: SocketAddr) -> (u16, String, Option<String>) {
        let Message { headers, body } = &self.message;
        let mut client = Client::connect(address).expect("it takes connections");
        client
            .send(&request(
                self.method,
                &format!("/in/acme/{}", self.source),
                headers,
                body,
            ))
            .expect("a request");
        let answer = client.answer().expect("an answer");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        (answer.status, body, answer.header("content-type").map(str::to_owned))
    }
}

/// One known answer's source, but for how its secret is written.
fn source_of(vector: &Vector, profile: &Profile) -> String {
    let mut text = format!("provider = \"{}\"\n", profile.name);
    if let Some(url) = &vector.url {
        let _ = writeln!(text, "public_url = {url:?}");
    }
    if profile.needs_event_type() {
        text.push_str("event_type = \"campaign.clicked\"\n");
    }
    if !vector.parameters.is_empty() {
        let parameters: Vec<_> = vector
            .parameters
            .iter()
            .map(|(name, value)| format!("{name} = {value:?}"))
            .collect();
        let _ = writeln!(text, "parameters = {{ {} }}", parameters.join(", "));
    }
    text
}

/// The vector's event as if it was sent now, where its secret can sign.
fn signed_now(vector: &Vector, profile: &Profile) -> Option<(Message, Option<String>)> {
    let secret = vector.secret.as_ref()?;
    let secret = SourceSecret {
        id: KeyId::new(&secret.id).expect("a key id"),
        text: Secret::new(secret.text.as_str()),
        not_before: None,
        not_after: None,
    };
    let parameters = vector
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), Secret::new(value.as_str())))
        .collect();
    let input = SignInput {
        body: vector.body.as_bytes(),
        id: "e76c6bd4-55c9-4987-8304-da1588d8988b",
        at: now(),
        url: vector.url.as_deref(),
    };
    let signed = sign(profile, &[secret], &parameters, &input).ok()?;
    let message = Message {
        headers: signed.headers,
        body: signed.body.into_owned(),
    };
    Some((message, signed.query))
}

#[test]
fn r2_both_shells_decide_the_same_and_record_it_byte_for_byte() {
    let (mut native_tenant, mut spin_tenant) = (String::new(), String::new());
    let mut secrets = BTreeMap::new();
    let mut cases = Vec::new();
    let mut source = |name: &str, text: &str, id: &str, secret: &str| {
        let head = format!("[sources.{name}]\n{text}secrets = [{{ id = {id:?}, value = ");
        let _ = writeln!(native_tenant, "{head}{{ file = \"../secrets/{name}\" }} }}]");
        let _ = writeln!(spin_tenant, "{head}{{ env = \"{}\" }} }}]", name.to_uppercase());
        secrets.insert(name.to_owned(), secret.to_owned());
    };
    let mut voucherify = None;
    for (at, vector) in vector::shipped().iter().enumerate() {
        let name = format!("v{at}");
        let provider = vector.provider.as_deref().expect("a provider");
        let profile = shipped().get(provider).expect("a profile");
        // What a provider publishes is fetched by the native host alone.
        let (Some(secret), None, None) = (&vector.secret, &vector.published, &vector.not_run) else {
            continue;
        };
        source(&name, &source_of(vector, profile), &secret.id, &secret.text);
        if provider == "voucherify" {
            voucherify = Some(name.clone());
        }
        let to = |query: Option<&str>| query.map_or_else(|| name.clone(), |query| format!("{name}?{query}"));
        let recorded = Message {
            headers: vector.headers.clone(),
            body: vector.body.clone().into_bytes(),
        };
        cases.push(Case::post(&to(vector.query.as_deref()), recorded));
        // Recorded instants are long past; signed now, what is an event is kept.
        if vector.refused.is_none()
            && let Some((message, query)) = signed_now(vector, profile)
        {
            cases.push(Case::post(&to(query.as_deref()), message));
        }
    }
    let voucherify = voucherify.expect("a vector of Voucherify's");

    // Questions, and a batch that comes twice, then with a broken item.
    source("slack", "provider = \"slack\"\n", "s", "slack-secret");
    let slack = Signer::new("slack", "slack-secret");
    let question = r#"{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmd","type":"url_verification"}"#;
    cases.push(Case::post("slack", slack.sign("", question)));
    cases.push(Case::post("slack", slack.sign("", question).tampered()));
    let no_message = Message {
        headers: Vec::new(),
        body: Vec::new(),
    };
    for method in ["GET", "OPTIONS", "PUT"] {
        cases.push(Case {
            method,
            source: "slack?hub.mode=subscribe".to_owned(),
            message: no_message.clone(),
        });
    }
    source(
        "events",
        "provider = \"cloudevents-http\"\nparameters = { allowed_origin = \"events.example\" }\n",
        "e",
        "bearer-of-the-tests",
    );
    let origin = ("webhook-request-origin".to_owned(), "events.example".to_owned());
    cases.push(Case {
        method: "OPTIONS",
        source: "events".to_owned(),
        message: Message {
            headers: vec![origin],
            body: Vec::new(),
        },
    });
    let events = Signer::new("cloudevents-http", "bearer-of-the-tests");
    let batch = |items: &[&str]| {
        let mut message = events.sign("", format!("[{}]", items.join(",")));
        let batch = "application/cloudevents-batch+json".to_owned();
        message.headers.push(("content-type".to_owned(), batch));
        message
    };
    let item = |id: &str| {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/shop","type":"paid","subject":"o_1","data":{{}}}}"#)
    };
    let (one, two) = (item("ce_1"), item("ce_2"));
    cases.push(Case::post("events", batch(&[&one, &two])));
    cases.push(Case::post("events", batch(&[&one, &two])));
    cases.push(Case::post("events", batch(&[&item("ce_3"), "{}"])));
    cases.push(Case::post("events", batch(&[])));
    let rewards = Signer::new("voucherify", "secretKey");
    for name in [
        "voucherify-customer.rewarded.json",
        "voucherify-customer.reward_redemptions.completed.json",
        "voucherify-customer.reward_redemptions.pending.json",
    ] {
        let message = rewards.sign("", sample(name));
        for _ in 0..2 {
            cases.push(Case::post(&voucherify, message.clone()));
        }
    }

    let setup = secrets.iter().fold(
        Setup::default().tenant("acme", &native_tenant),
        |setup, (name, secret)| setup.secret(name, secret),
    );
    let mut native = setup.set();
    native.start();
    // One receipt key for both, so that receipts have one name: the app gets a copy of the still empty store, in the rows that
    // it can read.
    assert_eq!(native.stop(), Some(0));
    let app = secrets
        .iter()
        .fold(SpinSetup::of(spin_tenant), |setup, (name, secret)| {
            setup.variable(name, secret)
        });
    let mut spin = app.set();
    to_spin(&native.path("tollgate.db"), &spin.database()).ok();
    native.start();
    spin.start();

    let mut kept = 0;
    for (at, case) in cases.iter().enumerate() {
        let (here, there) = (case.told_by(native.edge), case.told_by(spin.address));
        assert_eq!(here, there, "case {at}, {} {}", case.method, case.source);
        kept += usize::from(here.0 < 300);
    }
    assert!(kept >= 40, "only {kept} of {} cases were taken", cases.len());
    let (here, there) = (native_receipts(&native), spin_receipts(&spin));
    assert!(here.len() >= 20, "{} receipts", here.len());
    assert_eq!(here, there);
    native.assert_whole();
}

/// What each store says of each receipt, but for the instants at which it came.
fn native_receipts(stage: &Stage) -> Vec<String> {
    receipts(&stage.store())
}

fn spin_receipts(stage: &SpinStage) -> Vec<String> {
    let store = stage.store();
    assert_eq!(store.audited().expect("a report").in_words(), [""; 0]);
    receipts(&store)
}

fn receipts(store: &impl Views) -> Vec<String> {
    let query = TraceQuery {
        by: TraceBy::Newest,
        tenant: None,
        after: None,
        receipts_max: 1000,
    };
    let traces = block_on(store.trace(query)).expect("traces");
    traces
        .into_iter()
        .map(|mut trace| {
            trace.receipt.received_at.clear();
            for delivery in &mut trace.deliveries {
                delivery.received_at.clear();
            }
            serde_json::to_string(&(trace.receipt, trace.deliveries)).expect("JSON")
        })
        .collect()
}

/// `tollgate copy` to a native host's files, or to a Spin app's file.
fn to_native(from: &Path, to: &Path) -> Ran {
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    tollgate(&["copy", "--json", "--from", &text(from), "--to", &text(to)], b"")
}

fn to_spin(from: &Path, to: &Path) -> Ran {
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let to = format!("spin:{}", text(to));
    tollgate(&["copy", "--json", "--from", &text(from), "--to", &to], b"")
}

/// A reward is received on Spin, the store moves to a native host, and back: a redelivery is known in both places.
#[test]
fn r2_a_store_moves_from_spin_to_native_and_back() {
    let mut spin = SpinSetup::acme(CASHBACK).plugin("cashback").start();
    let shop = signer("shop");
    let event = |event: &str| shop.sign("", redeemed(event, event, "success"));
    let first = spin.post("shop", &event("evt_1"));
    assert_eq!(first.status, 202);
    spin.finished(&first.receipt());
    spin.kill();

    let mut native = Setup::acme(CASHBACK).plugin("cashback").set();
    let report = to_native(&spin.database(), &native.path("tollgate.db"));
    assert_eq!(
        (report.code, &report.json()["copy"]["newest"]["receipts"]),
        (0, &Value::from(1)),
        "{report:?}"
    );
    native.start();
    let known = native.post("shop", &event("evt_1"));
    assert_eq!(
        (known.verdict(), known.receipt()),
        ((200, "same".into()), first.receipt())
    );
    assert_eq!(
        native.trace("evt_1")["jobs"][0]["runs"][0]["actions"][0]["verdict"],
        "recorded"
    );
    let second = native.post("shop", &event("evt_2"));
    native.finished(&second.receipt());
    native.quiet();
    assert_eq!(native.stop(), Some(0));

    std::fs::remove_dir_all(spin.path("state")).expect("the old state goes");
    std::fs::create_dir(spin.path("state")).expect("a folder");
    assert_eq!(to_spin(&native.path("tollgate.db"), &spin.database()).code, 0);
    let again = to_spin(&native.path("tollgate.db"), &spin.database());
    assert_eq!(again.code, 0, "it is there already: {again:?}");
    spin.start();
    for (name, receipt) in [("evt_1", first.receipt()), ("evt_2", second.receipt())] {
        let known = spin.post("shop", &event(name));
        assert_eq!((known.verdict(), known.receipt()), ((200, "same".into()), receipt));
    }
    let third = spin.post("shop", &event("evt_3"));
    assert_eq!(spin.finished(&third.receipt())["jobs"][0]["state"], "done");
    assert_eq!(spin.counts()["actions"], 3);
    spin.kill();
    assert_eq!(spin.store().audited().expect("a report").in_words(), [""; 0]);

    // One byte of one body: it is said, and nothing is copied.
    let damaged = spin.path("damaged.db");
    assert_eq!(to_spin(&spin.database(), &damaged).code, 0);
    let mut bytes = std::fs::read(&damaged).expect("the copy");
    let needle = b"\"redemption_id\":\"evt_2\"";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .expect("a body");
    bytes[at + 1] = b'x';
    std::fs::write(&damaged, bytes).expect("the copy");
    let refused = to_native(&damaged, &spin.path("never.db"));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(!spin.path("never.db").exists());
}

/// Receipts in a log are beyond an app, and it says so instead of taking events that nobody would find.
#[test]
fn r2_a_native_store_as_it_is_is_refused_and_nothing_acknowledged() {
    let mut native = Setup::acme("").set();
    native.start();
    assert_eq!(native.stop(), Some(0));
    let mut spin = SpinSetup::acme("").set();
    std::fs::copy(native.path("tollgate.db"), spin.database()).expect("a copy of the store");
    spin.launch();
    let (status, told) = wait_until("the app answers", || spin.health());
    assert_eq!(status, 503, "{told}");
    let answer = spin.post("shop", &signer("shop").sign("", redeemed("evt_1", "red_1", "success")));
    assert_eq!(answer.status, 503);
    wait_until("the log says why", || {
        spin.log()
            .contains("`tollgate copy --to spin:FILE` writes them as rows")
            .then_some(())
    });
}
