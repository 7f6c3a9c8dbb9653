//! Both shells over one core: the vectors and the samples come out the same, and an app's database is a native store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use tollgate_core::profile::shipped;
use tollgate_store::{Store as _, TraceBy, TraceQuery};
use tollgate_tests::client::Answer;
use tollgate_tests::events::{Message, Signer, redeemed, signer};
use tollgate_tests::spin::{SpinSetup, SpinStage};
use tollgate_tests::stage::{Setup, Stage, block_on, sample, tollgate};

/// The cases: a source, and a message to it.
struct Case {
    source: String,
    message: Message,
}

#[test]
fn r2_both_shells_decide_the_same_and_record_it_byte_for_byte() {
    let vectors: Vec<Value> = serde_json::from_slice(
        &std::fs::read(tollgate_tests::root().join("tests/vectors/providers.json")).expect("vectors"),
    )
    .expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut native_tenant, mut spin_tenant) = (String::new(), String::new());
    let mut secrets = BTreeMap::new();
    let mut cases = Vec::new();
    for (at, vector) in vectors.iter().enumerate() {
        let (provider, secret) = (text(&vector["provider"]), text(&vector["secret"]["text"]));
        let source = format!("v{at}");
        let url = match vector["url"].as_str() {
            Some(url) => format!("public_url = \"{url}\"\n"),
            None => String::new(),
        };
        let head = format!(
            "[sources.{source}]\nprovider = \"{provider}\"\n{url}secrets = [{{ id = {}, value = ",
            vector["secret"]["id"]
        );
        let _ = writeln!(native_tenant, "{head}{{ file = \"../secrets/{source}\" }} }}]");
        let _ = writeln!(spin_tenant, "{head}{{ env = \"{}\" }} }}]", source.to_uppercase());
        secrets.insert(source.clone(), secret.clone());
        let headers = vector["headers"].as_array().cloned().unwrap_or_default();
        let body = text(&vector["body"]).into_bytes();
        cases.push(Case {
            source: source.clone(),
            message: Message {
                headers: headers.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
                body: body.clone(),
            },
        });
        // Recorded instants are long past; signed now, what is an event is kept.
        let signs = secret.starts_with("whpk_")
            || shipped()
                .get(provider.as_str())
                .is_some_and(|profile| profile.signs_url());
        if vector["refused"].is_null() && !signs {
            let message = Signer::new(&provider, &secret).sign("e76c6bd4-55c9-4987-8304-da1588d8988b", body);
            cases.push(Case { source, message });
        }
    }
    let rewards = Signer::new("voucherify", "secretKey");
    let voucherify = vectors
        .iter()
        .position(|vector| vector["provider"] == "voucherify")
        .expect("one");
    for name in [
        "voucherify-customer.rewarded.json",
        "voucherify-customer.reward_redemptions.completed.json",
        "voucherify-customer.reward_redemptions.pending.json",
    ] {
        let message = rewards.sign("", sample(name));
        for _ in 0..2 {
            cases.push(Case {
                source: format!("v{voucherify}"),
                message: message.clone(),
            });
        }
    }

    let setup = secrets.iter().fold(
        Setup::default().tenant("acme", &native_tenant),
        |setup, (name, secret)| setup.secret(name, secret),
    );
    let mut native = setup.set();
    native.start();
    // One receipt key for both, so that receipts have one name: the app gets a copy of the still empty store.
    assert_eq!(native.stop(), Some(0));
    let app = secrets
        .iter()
        .fold(SpinSetup::of(spin_tenant), |setup, (name, secret)| {
            setup.variable(name, secret)
        });
    let mut spin = app.set();
    std::fs::copy(native.path("tollgate.db"), spin.database()).expect("a copy of the store");
    native.start();
    spin.start();

    let mut kept = 0;
    for (at, case) in cases.iter().enumerate() {
        let told = |answer: &Answer| (answer.status, String::from_utf8_lossy(&answer.body).into_owned());
        let (here, there) = (
            native.post(&case.source, &case.message),
            spin.post(&case.source, &case.message),
        );
        assert_eq!(told(&here), told(&there), "case {at}, source {}", case.source);
        kept += usize::from(here.status < 300);
    }
    assert!(kept >= 20, "only {kept} of {} cases were kept", cases.len());
    let (here, there) = (native_receipts(&native), spin_receipts(&spin));
    assert!(here.len() >= 12, "{} receipts", here.len());
    assert_eq!(here, there);
    native.assert_whole();
}

/// What each store says of each receipt, but for the instants at which it came.
fn native_receipts(stage: &Stage) -> Vec<String> {
    receipts(&stage.store())
}

fn spin_receipts(stage: &SpinStage) -> Vec<String> {
    let store = stage.store();
    assert_eq!(block_on(store.check_integrity()).expect("a report").problems, [""; 0]);
    receipts(&store)
}

fn receipts(store: &tollgate_store::SqliteStore) -> Vec<String> {
    let query = TraceQuery {
        by: TraceBy::Newest,
        tenant: None,
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

/// A reward is received on Spin, the store moves to a native host, and back: a redelivery is known in both places.
#[test]
fn r2_a_store_moves_from_spin_to_native_and_back() {
    let route = "\n[routes.cashback]\ntypes = [\"reward.redeemed\"]\nplugin = \"cashback\"\n\
                 grants = [{ kind = \"credit\", amount_max = 5000, currencies = [\"INR\"] }]\n\
                 [routes.cashback.config]\nrate_bps = 1000\ncurrency = \"INR\"\n";
    let mut spin = SpinSetup::acme(route).plugin("cashback").start();
    let shop = signer("shop");
    let event = |event: &str| shop.sign("", redeemed(event, event, "success"));
    let first = spin.post("shop", &event("evt_1"));
    assert_eq!(first.status, 202);
    spin.finished(&first.receipt());
    spin.kill();

    let move_store = |command: &str, from: &Path, to: &Path| {
        let paths = [from, to].map(|path| path.to_str().expect("a path in UTF-8").to_owned());
        tollgate(&[command, "--json", "--from", &paths[0], "--to", &paths[1]], b"")
    };
    let mut native = Setup::acme(route).plugin("cashback").set();
    let exported = spin.path("moved.db");
    let report = move_store("export", &spin.database(), &exported);
    assert_eq!(
        (report.code, &report.json()["receipts"]),
        (0, &Value::from(1)),
        "{report:?}"
    );
    assert_eq!(move_store("import", &exported, &native.path("tollgate.db")).code, 0);
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
    assert_eq!(
        move_store("import", &native.path("tollgate.db"), &spin.database()).code,
        0
    );
    let there_already = move_store("import", &native.path("tollgate.db"), &spin.database());
    assert_eq!(there_already.code, 2, "{there_already:?}");
    spin.start();
    for (name, receipt) in [("evt_1", first.receipt()), ("evt_2", second.receipt())] {
        let known = spin.post("shop", &event(name));
        assert_eq!((known.verdict(), known.receipt()), ((200, "same".into()), receipt));
    }
    let third = spin.post("shop", &event("evt_3"));
    assert_eq!(spin.finished(&third.receipt())["jobs"][0]["state"], "done");
    assert_eq!(spin.counts()["actions"], 3);
    spin.kill();
    assert_eq!(
        block_on(spin.store().check_integrity()).expect("a report").problems,
        [""; 0]
    );

    // One byte of one body: it is said, and nothing is copied.
    let damaged = spin.path("damaged.db");
    assert_eq!(move_store("export", &spin.database(), &damaged).code, 0);
    let mut bytes = std::fs::read(&damaged).expect("the copy");
    let needle = b"\"redemption_id\":\"evt_2\"";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle)
        .expect("a body");
    bytes[at + 1] = b'x';
    std::fs::write(&damaged, bytes).expect("the copy");
    let refused = move_store("import", &damaged, &spin.path("never.db"));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(!spin.path("never.db").exists());
}
