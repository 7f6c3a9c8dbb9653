//! I1, I2, I8: only what its provider signed comes in; the rest leaves no trace but a count.

use std::fs;
use std::time::Instant;

use serde_json::json;
use tollgate_tests::client::Client;
use tollgate_tests::events::{self, Signer, any_event, signer};
use tollgate_tests::json::{holds, says};
use tollgate_tests::stage::{Setup, Stage, source, tollgate, tollgate_line};

/// Of one family; how a window is judged is tested in tollgate-core for all.
#[test]
fn i1_several_secrets_verify_inside_their_windows() {
    let mut setup = Setup::default();
    let mut tenant = "[sources.shop]\nprovider = \"generic-hmac\"\n".to_owned();
    let windows = [
        ("expired", "not_after = 2020-01-01T00:00:00Z", 401),
        (
            "current",
            "not_before = 2020-01-01T00:00:00Z\nnot_after = 2090-01-01T00:00:00Z",
            202,
        ),
        ("next", "", 202),
        ("future", "not_before = 2090-01-01T00:00:00Z", 401),
    ];
    for (name, window, _) in windows {
        tenant.push_str(&format!(
            "[[sources.shop.secrets]]\nid = \"{name}\"\nvalue = {{ file = \"../secrets/{name}\" }}\n{window}\n"
        ));
        setup = setup.secret(name, &format!("the-{name}-secret"));
    }
    let stage = setup.tenant("acme", &tenant).start();
    for (name, _, status) in windows {
        let signer = Signer::new("generic-hmac", &format!("the-{name}-secret"));
        let answer = stage.post("shop", &signer.sign(name, any_event("shop", name)));
        assert_eq!(answer.status, status, "{name}");
        if status == 202 {
            assert_eq!(stage.trace(&answer.receipt())["receipt"]["proof"]["key_id"], name);
        }
    }
}

#[test]
fn i2_a_flood_of_forgeries_is_counted_by_reason_and_leaves_nothing_else() {
    let stage = Setup::acme("").start();
    let forger = Signer::new("generic-hmac", "guessed-secret-4711");
    let flood = Instant::now();
    std::thread::scope(|scope| {
        for connection in 0..5 {
            let (stage, forger) = (&stage, &forger);
            scope.spawn(move || {
                let mut client = Client::connect(stage.edge).expect("a connection");
                for number in 0..100 {
                    let id = format!("forged-marker-{connection}-{number}");
                    let message = forger.sign(&id, any_event("shop", &id));
                    let message = if number % 5 == 0 { message.unsigned() } else { message };
                    let answer = client.post("/in/acme/shop", &message).expect("an answer");
                    assert_eq!(answer.verdict(), (401, "unauthentic".to_owned()));
                }
            });
        }
    });
    let seconds = flood.elapsed().as_secs() as usize + 1;

    assert_eq!(stage.metric("tollgate_intake_total{result=\"unauthentic\"}"), 500);
    assert_eq!(stage.metric("tollgate_refused_total{cause=\"no-match\"}"), 400);
    assert_eq!(stage.metric("tollgate_refused_total{cause=\"missing-header\"}"), 100);
    for cause in ["no-match", "missing-header"] {
        let lines = stage.log_with(cause);
        assert!(
            (1..=seconds + 1).contains(&lines.len()),
            "{} lines about {cause} in {seconds} s",
            lines.len()
        );
    }
    let log = stage.log().join("\n");
    for secret in [
        "forged-marker",
        "guessed-secret",
        "shop-secret",
        "user_678",
        "reward_999",
    ] {
        assert!(!log.contains(secret), "the log shows `{secret}`:\n{log}");
    }
    assert_eq!(stage.counts()["receipts"], 0);
    for name in ["tollgate.db", "tollgate.db-wal"] {
        let bytes = fs::read(stage.path(name)).unwrap_or_default();
        assert!(
            !bytes.windows(13).any(|window| window == b"forged-marker"),
            "{name} holds a forgery"
        );
    }
}

/// `messages.toml` of tollgate-core has what each provider is read as.
#[test]
fn i8_a_receipt_shows_the_one_envelope() {
    let stage = Setup::acme("").start();
    let body = events::redeemed("evt_1", "red_1", "success");
    let answer = stage.post("shop", &signer("shop").sign("", body.clone()));
    let receipt = stage.trace(&answer.receipt())["receipt"].clone();
    let envelope = json!({
        "tenant": "acme", "source": "shop", "event_id": "evt_1", "event_type": "reward.redeemed", "subject": "red_1",
        "family": "reward-redemption", "status": "completed", "occurred_at": "2026-05-05T10:00:00.000Z",
        "amount": "5.00 INR", "body_bytes": body.len(),
    });
    holds(&receipt, &envelope);
    assert!(receipt["received_at"].as_str().is_some_and(|at| at.ends_with('Z')));
}

/// One source of `provider`, with further lines of its own.
fn one(provider: &str, secret: &str, lines: &str) -> (Stage, Signer) {
    let tenant = source("one", provider, lines);
    let stage = Setup::default().secret("one", secret).tenant("acme", &tenant).start();
    (stage, Signer::new(provider, secret))
}

/// `messages.toml` of tollgate-core has the values; here is one that is noted and one that orders.
#[test]
fn i11_a_value_that_breaks_a_bound_of_ours_is_shortened_and_refuses_nothing() {
    let (stage, signer) = one("generic-hmac", "shop-secret-1f0c2d", "");
    let post = |id: &str, fields: &str| {
        let message = signer.sign("", format!(r#"{{"event_id":"{id}","event":"e",{fields}}}"#));
        let answer = stage.post("one", &message);
        assert_eq!(answer.verdict(), (202, "accepted".to_owned()), "{fields}");
        stage.trace(&answer.receipt())
    };
    let trace = post("1", r#""amount":"much","currency":"INR","user_id":"a\u0000b""#).to_string();
    says(&trace, &["reading_notes", "amount: left out: `much`"]);
    // What orders is shortened to a key of its own.
    let long = |last: &str| format!(r#""order_id":"<{}{last}@mail.example>""#, "m".repeat(980));
    let [one, other] =
        [("2", "a"), ("3", "bb")].map(|(id, last)| post(id, &long(last))["receipt"]["subject"].to_string());
    assert!(
        one.contains("<mmm") && one.contains("…sha256:") && one.len() <= 257,
        "{one}"
    );
    assert_ne!(one, other);
    stage.assert_whole();
}

#[test]
fn i11_one_bad_value_refuses_no_neighbour_in_its_batch() {
    let profile = "name = \"own\"\nversion = 1\ntitle = \"Own\"\n[signature]\nheaders = [\"x-sig\"]\ngrammar = \"plain\"\nsigned = \"{body}\"\n\
        [[signature.scheme]]\nname = \"hmac\"\nalgorithm = \"hmac-sha256\"\nencoding = \"hex\"\nkey = { decode = \"utf8\" }\n\
        [batch]\nitems = \"/events/*\"\n[event]\nid = \"/id\"\ntype = \"/type\"\nsubject = \"/subject\"\n[event.attributes]\nreason = \"/reason\"\n\
        [ack]\nkept = 200\n";
    let mut stage = Setup::default()
        .secret("a", "shop-secret-1f0c2d")
        .tenant(
            "acme",
            "[sources.one]\nprofile = { file = \"../own.toml\" }\nsecrets = [{ id = \"a\", value = { file = \"../secrets/a\" } }]\n",
        )
        .set();
    stage.write("own.toml", profile);
    stage.start();
    let signer = Signer::new("generic-hmac", "shop-secret-1f0c2d");
    let sign = |body: String| {
        let mut message = signer.sign("", body);
        for (name, value) in &mut message.headers {
            if name == "x-signature" {
                *name = "x-sig".to_owned();
                *value = value.trim_start_matches("sha256=").to_owned();
            }
        }
        message
    };
    let reason = "550 ".repeat(400);
    let batch = format!(
        r#"{{"events":[{{"id":"1","type":"t"}},{{"id":"2","type":"t","reason":"{reason}"}},{{"id":"3","type":"t","subject":"\ud800"}}]}}"#
    );
    let answer = stage.post("one", &sign(batch));
    assert_eq!(answer.verdict(), (200, "accepted".to_owned()));
    assert_eq!(stage.counts()["receipts"], 3);
    // The same with one that differs: all is kept, and the answer says what each came out as.
    let other = r#"{"events":[{"id":"1","type":"t"},{"id":"2","type":"t","reason":"550 no"},{"id":"4","type":"t"}]}"#;
    let answer = stage.post("one", &sign(other.to_owned()));
    assert_eq!(answer.verdict(), (200, "accepted".to_owned()));
    assert_eq!(answer.json()["decisions"], json!(["same", "conflict", "accepted"]));
    assert_eq!(stage.counts()["receipts"], 4);

    // An empty batch under a right signature asks whether the endpoint holds the secret (Xero); a wrong one is told no.
    let asked = sign(r#"{"events":[],"entropy":"X"}"#.to_owned());
    let answer = stage.post("one", &asked);
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    assert_eq!(stage.post("one", &asked.tampered()).status, 401);
    assert_eq!(stage.counts()["receipts"], 4);
    assert_eq!(stage.metric("tollgate_challenges_total"), 1);
}

#[test]
fn i1_a_slash_too_many_is_the_source_and_a_signed_url_is_the_one_that_was_called() {
    let (stage, signer) = one("generic-hmac", "shop-secret-1f0c2d", "");
    for (at, path) in ["/in/acme/one/", "/in/acme/one//", "//in/acme//one", "/in/acme/one"]
        .iter()
        .enumerate()
    {
        let message = signer.sign("", any_event("shop", &format!("evt_{at}")));
        let answer = stage.connect().post(path, &message).expect("an answer");
        assert_eq!(answer.status, 202, "{path}");
    }
    let message = signer.sign("", any_event("shop", "evt_more"));
    for path in ["/in/acme/one/more", "/in/acme", "/acme/one"] {
        assert_eq!(
            stage.connect().post(path, &message).expect("an answer").status,
            404,
            "{path}"
        );
    }

    let secret = "12345";
    let (stage, _) = one("twilio", secret, "public_url = \"https://hooks.example\"");
    stage.write("twilio-secret", secret);
    stage.write("body", "MessageSid=SM01&MessageStatus=delivered");
    let send = |public: &str, query: &str| {
        let (body, secret) = (stage.path("body"), stage.path("twilio-secret"));
        let line = format!(
            "send --url http://{}/in/acme/one{query} --public-url {public} --provider twilio --json --secret-file {} --body {}",
            stage.edge,
            secret.display(),
            body.display()
        );
        tollgate_line(&line, b"").json()[0]["http_status"].clone()
    };
    // The scheme's own words, or the whole URL, as it was written before.
    assert_eq!(send("https://hooks.example", "?order=1"), 202);
    assert_eq!(send("https://hooks.example/in/acme/one", "?order=2"), 202);
    assert_eq!(send("https://hooks.example", ""), 202);
    assert_eq!(send("https://other.example", "?order=3"), 401);
    assert_eq!(stage.counts()["receipts"], 3, "each query is an event of its own");
}

/// `verify` and `check` name what came with a secret when it was copied, and `verify` what of a URL differs.
#[test]
fn o3_what_was_copied_wrongly_is_named() {
    let whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for (text, expect) in [
        (format!("v1,{whsec}"), "begins with `v1,`"),
        (format!("\"{whsec}\""), "stands in quotes"),
        (format!("\u{feff}{whsec}"), "begins with a byte order mark"),
    ] {
        let stage = Setup::default()
            .secret("one", &text)
            .tenant("acme", &source("one", "svix", ""))
            .set();
        stage.write("tollgate.toml", "[tenants]\ntrust_files = true\n");
        let config = stage.path("tollgate.toml");
        let checked = tollgate(&["check", "--config", config.to_str().unwrap_or_default()], b"");
        assert_eq!(checked.code, 1, "{checked:?}");
        let said = format!("{checked:?}");
        assert!(said.contains(expect) && !said.contains("copy it whole"), "{said}");
        let file = stage.path("secrets/one");
        let line = format!(
            "verify --provider svix --secret-file {} --header svix-id:m1",
            file.display()
        );
        let verified = tollgate_line(&line, b"{}");
        assert_eq!(verified.code, 2, "{verified:?}");
        assert!(format!("{verified:?}").contains(expect), "{verified:?}");
    }
}

/// Braze gives up after any 4xx but two: what lacks its id may come again until the template is mended.
#[test]
fn i11_what_lacks_its_id_or_type_is_never_told_to_stay_away() {
    let (stage, signer) = one("braze", "braze-credential", "");
    let answer = stage.post("one", &signer.sign("", r#"{"type":"campaign.clicked"}"#));
    assert_eq!(answer.verdict(), (503, "malformed".to_owned()));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let never = stage.post("one", &signer.sign("", "no JSON"));
    assert_eq!(never.verdict(), (400, "malformed".to_owned()));
    assert_eq!(stage.counts()["receipts"], 0);
}
