//! I1, I9, T1 for every provider that ships: each verifies the first time that its secret is pasted, once per event, and never when it was
//! altered. Batches, questions, published keys, and profiles of one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::vector;
use tollgate_core::verify::{KeyError, Keyring};
use tollgate_tests::client::{Answer, request};
use tollgate_tests::events::{Message, Signer, now};
use tollgate_tests::json::{holds, list, says};
use tollgate_tests::stage::{CASHBACK, Setup, Stage, source, tollgate, tollgate_line};

/// What a test knows of one provider: how a source is set up for it, and what it sends.
struct Provider {
    profile: &'static Profile,
    secret: String,
    parameters: BTreeMap<String, String>,
    public_url: String,
    /// Signs with a private key that only the provider has.
    test_key: bool,
}

impl Provider {
    fn name(&self) -> &str {
        self.profile.name.as_str()
    }

    /// The source's table in the tenant's file.
    fn source(&self) -> String {
        let name = self.name();
        let mut text = format!(
            "\n[sources.{name}]\nprovider = \"{name}\"\nsecrets = [{{ id = \"test-key\", value = {{ file = \"../secrets/{name}{}\" }} }}]\n",
            if self.test_key { ".pub" } else { "" }
        );
        if self.profile.signs_url() {
            let _ = writeln!(text, "public_url = \"{}\"", self.public_url);
        }
        if self.profile.needs_event_type() {
            text.push_str("event_type = \"campaign.clicked\"\n");
        }
        let parameters: Vec<String> = self
            .profile
            .parameters()
            .iter()
            .filter_map(|parameter| {
                let value = self.parameters.get(&parameter.name)?;
                Some(if parameter.secret {
                    format!("{0} = {{ file = \"../secrets/{name}.{0}\" }}", parameter.name)
                } else {
                    format!("{} = {value:?}", parameter.name)
                })
            })
            .collect();
        if !parameters.is_empty() {
            let _ = writeln!(text, "parameters = {{ {} }}", parameters.join(", "));
        }
        text
    }

    /// Writes what the source and the sender read; makes the test key.
    fn set(&self, stage: &Stage) {
        let name = self.name();
        for (parameter, value) in &self.parameters {
            stage.write(&format!("secrets/{name}.{parameter}"), value);
        }
        if self.test_key {
            self.send(stage, &["--dry-run"]);
        } else {
            stage.write(&format!("secrets/{name}"), &self.secret);
        }
    }

    /// `tollgate send` as this provider, with further flags.
    fn send(&self, stage: &Stage, flags: &[&str]) -> Vec<Value> {
        let name = self.name();
        let url = format!("http://{}/in/acme/{name}", stage.edge);
        let key = stage.path(&format!("secrets/{name}")).display().to_string();
        let parameters: String = self
            .parameters
            .iter()
            .map(|(name, value)| format!(" --parameter {name}={value}"))
            .collect();
        let (secret, public_url) = (
            if self.test_key { "--test-key" } else { "--secret-file" },
            &self.public_url,
        );
        let ran = tollgate_line(
            &format!(
                "send --provider {name} --url {url} --public-url {public_url} {secret} {key}{parameters} --key-id test-key {} --json",
                flags.join(" ")
            ),
            b"",
        );
        assert!(ran.code == 0 || ran.code == 1, "{name}: {ran:?}");
        if flags.contains(&"--dry-run") {
            return Vec::new();
        }
        list(&ran.json())
    }
}

/// Every provider whose requests can be proved.
fn providers() -> Vec<Provider> {
    shipped()
        .values()
        .filter(|profile| !matches!(Keyring::new(profile, &[]), Err(KeyError::FetchBack { .. })))
        .map(|profile| provider(profile))
        .collect()
}

fn provider(profile: &'static Profile) -> Provider {
    let accepted = vector::of(profile)
        .into_iter()
        .find(|vector| vector.refused.is_none() && vector.not_run.is_none());
    let public_url = format!("https://hooks.example/in/acme/{}", profile.name);
    let Some(vector) = accepted else {
        return Provider {
            profile,
            // Text, hex and base64 alike.
            secret: "D7DD5BA6146493707BF0BE7496F6404EC7A63616B7158EC927B9F54BB436765F".to_owned(),
            parameters: BTreeMap::new(),
            public_url,
            test_key: false,
        };
    };
    let secrets = vector.secrets().expect("the vector's secrets");
    let input = SignInput {
        body: vector.body.as_bytes(),
        id: "msg_1",
        at: now(),
        url: Some("https://hooks.example/"),
    };
    Provider {
        profile,
        secret: vector
            .secret
            .as_ref()
            .map(|secret| secret.text.clone())
            .unwrap_or_default(),
        // A shared secret signs as it verifies; anything else is a public key, which does not.
        test_key: sign(profile, &secrets, &vector.parameters(), &input).is_err(),
        parameters: vector.parameters,
        public_url: vector.url.unwrap_or(public_url),
    }
}

#[test]
fn i1_every_provider_verifies_at_first_once_and_never_altered() {
    let providers = providers();
    assert!(providers.len() >= 30, "only {} providers can be tried", providers.len());
    let sources: String = providers.iter().map(Provider::source).collect();
    let mut stage = Setup::default().tenant("acme", &sources).set();
    providers.iter().for_each(|provider| provider.set(&stage));
    stage.start();
    let mut asymmetric = BTreeSet::new();
    for provider in &providers {
        let name = provider.name();
        let before = stage.counts();
        let answers = provider.send(&stage, &["--times", "2"]);
        let statuses: Vec<_> = answers
            .iter()
            .map(|answer| answer["http_status"].as_u64().unwrap_or(0))
            .collect();
        assert!(
            statuses.len() == 2 && statuses.iter().all(|status| (200..300).contains(status)),
            "{name}: {answers:?}\n{}",
            stage.log().join("\n")
        );
        let after = stage.counts();
        let grown = |field: &str| after[field].as_u64().unwrap_or(0) - before[field].as_u64().unwrap_or(0);
        let events = grown("receipts");
        assert!(events >= 1, "{name}: {before} {after}");
        assert_eq!(
            (grown("redeliveries"), grown("conflicts")),
            (events, 0),
            "{name}: the same request again is the same, event by event"
        );
        if provider.profile.body_is_signed() {
            let altered = provider.send(&stage, &["--tamper"]);
            assert_eq!(altered[0]["http_status"], 401, "{name}: {altered:?}");
            assert_eq!(stage.counts(), after, "{name}: nothing of it is kept");
        }
        if provider.test_key {
            asymmetric.insert(name.to_owned());
        }
    }
    for name in ["sendgrid", "wise", "paypal", "plaid"] {
        assert!(
            asymmetric.contains(name),
            "{name} signs with a private key: {asymmetric:?}"
        );
    }
    stage.assert_whole();
}

#[test]
fn i1_a_provider_whose_requests_prove_nothing_is_refused_when_it_is_configured() {
    let refused: Vec<_> = shipped()
        .values()
        .filter(|profile| matches!(Keyring::new(profile, &[]), Err(KeyError::FetchBack { .. })))
        .map(|profile| profile.name.to_string())
        .collect();
    assert_eq!(refused, ["mollie-classic"]);
    let mut stage = Setup::default()
        .secret("mollie", "s3cret")
        .tenant("acme", &source("mollie", "mollie-classic", ""))
        .set();
    let said = stage.try_start().expect_err("the host refuses to start");
    assert!(said.contains("fetched back"), "{said}");
}

/// A tenant with one source of a provider, and its signer.
fn one(provider: &str, secret: &str) -> (Stage, Signer) {
    let tenant = format!("{}{CASHBACK}", source("one", provider, ""));
    let stage = Setup::default()
        .secret("one", secret)
        .tenant("acme", &tenant)
        .plugin("cashback")
        .start();
    (stage, Signer::new(provider, secret))
}

#[track_caller]
fn ask(stage: &Stage, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut client = stage.connect();
    client.send(&request(method, path, &headers, b"")).expect("a request");
    client.answer().expect("an answer")
}

#[test]
fn i9_a_question_is_answered_after_verification_and_nothing_is_kept_of_it() {
    let (stage, slack) = one("slack", "8f742231b10e8888abcd99yyyzzz85a5");
    let question = json!({ "token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": "url_verification" });
    let message = slack.sign("", question.to_string());
    let answer = stage.post("one", &message);
    assert_eq!(
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
        (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P".to_owned())
    );
    assert!(
        answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
    assert_eq!(
        stage.post("one", &message.clone().tampered()).status,
        401,
        "but not a stranger's"
    );
    assert_eq!(stage.counts()["receipts"], 0);
    assert_eq!(stage.metric("tollgate_challenges_total"), 1);
    // Slack's endpoints take POST alone.
    for method in ["GET", "OPTIONS", "PUT"] {
        let answer = ask(&stage, method, "/in/acme/one?hub.mode=subscribe", &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
}

#[test]
fn i9_a_subscription_by_get_and_an_origin_by_options_are_answered() {
    let tenant = [
        source(
            "meta",
            "meta",
            "parameters = { verify_token = { file = \"../secrets/meta-token\" } }",
        ),
        source(
            "events",
            "cloudevents-http",
            "parameters = { allowed_origin = \"events.example\" }",
        ),
    ];
    let stage = Setup::default()
        .secret("meta", "app-secret-of-the-tests")
        .secret("meta-token", "verify-me-4711")
        .secret("events", "bearer-of-the-tests")
        .tenant("acme", &tenant.concat())
        .start();
    let subscribe = "/in/acme/meta?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=verify-me";
    for (method, path, origin, status, body) in [
        ("GET", format!("{subscribe}-4711"), "", 200, "1158201444"),
        ("GET", format!("{subscribe}-4712"), "", 401, ""),
        ("OPTIONS", "/in/acme/meta".to_owned(), "", 405, ""),
        ("OPTIONS", "/in/acme/events".to_owned(), "events.example", 200, ""),
        ("OPTIONS", "/in/acme/events".to_owned(), "evil.example", 405, ""),
        ("GET", "/in/acme/events".to_owned(), "", 405, ""),
    ] {
        let headers = [("webhook-request-origin", origin)];
        let answer = ask(&stage, method, &path, if origin.is_empty() { &[] } else { &headers });
        assert_eq!(answer.status, status, "{method} {path} {origin}");
        if status == 200 {
            assert_eq!(String::from_utf8_lossy(&answer.body), body, "{method} {path}");
            assert_eq!(answer.header("webhook-allowed-origin").unwrap_or_default(), origin);
        }
    }
    assert_eq!(stage.counts()["receipts"], 0);
    assert_eq!(stage.metric("tollgate_challenges_total"), 2);
}

fn cloud_event(id: &str, subject: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/shop", "type": "shop.order.paid", "subject": subject,
        "time": "2026-05-05T10:00:00Z", "data": { "order": subject },
    })
}

#[test]
fn i1_t1_a_batch_becomes_one_receipt_per_item_and_is_acknowledged_as_a_whole() {
    let (stage, signer) = one("cloudevents-http", "bearer-of-the-tests");
    let batch = |items: &[Value]| {
        let mut message = signer.sign("", Value::from(items).to_string());
        message.headers.push((
            "content-type".to_owned(),
            "application/cloudevents-batch+json".to_owned(),
        ));
        message
    };
    let items: Vec<Value> = (1..=3)
        .map(|number| cloud_event(&format!("ce_{number}"), "o_1"))
        .collect();
    let answer = stage.post("one", &batch(&items[..2]));
    assert!((200..300).contains(&answer.status), "{answer:?}");
    let receipts = list(&answer.json()["receipts"]);
    assert_eq!(receipts.len(), 2, "the answer names each receipt: {answer:?}");
    assert_ne!(receipts[0], receipts[1]);
    let second = stage.trace(receipts[1].as_str().unwrap_or_default());
    assert!(
        second["receipt"]["event_id"]
            .as_str()
            .is_some_and(|id| id.contains("ce_2")),
        "in the order of the items: {second}"
    );

    // Each is deduplicated by itself: one that is known does not hide one that is new.
    let again = stage.post("one", &batch(&items));
    assert_eq!(list(&again.json()["receipts"])[..2], receipts[..]);
    let counts = stage.counts();
    holds(&counts, &json!({ "receipts": 3, "redeliveries": 2 }));

    // All or nothing: a bad item, an empty batch and one that is too large leave nothing behind.
    let bad = stage.post(
        "one",
        &batch(&[cloud_event("ce_4", "o_1"), json!({ "specversion": "1.0" })]),
    );
    assert_eq!(bad.verdict(), (400, "malformed".to_owned()));
    assert_eq!(stage.post("one", &batch(&[])).verdict(), (400, "malformed".to_owned()));
    let many: Vec<Value> = (0..2049)
        .map(|number| cloud_event(&format!("m_{number}"), "o"))
        .collect();
    assert_eq!(
        stage.post("one", &batch(&many)).verdict(),
        (413, "batch-too-large".to_owned())
    );
    assert_eq!(stage.counts()["receipts"], 3);
    // As many as are allowed are one commit, and one answer within bounds.
    let start = Instant::now();
    let most = stage.post("one", &batch(&many[..2048]));
    assert!((200..300).contains(&most.status), "{}", most.status);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(most.body.len() < 128 * 1024, "{} bytes", most.body.len());
    assert_eq!(stage.counts()["receipts"], 3 + 2048);
    stage.assert_whole();
}

/// A profile of one's own, as docs/adding-a-provider.md has it.
const OWN: &str = include_str!("../../../host/server/examples/tenants/profiles/loyalty-club.toml");

#[test]
fn i1_a_profile_of_ones_own_verifies_maps_and_is_tested() {
    let mut stage = Setup::default()
        .secret("club", "club-secret-of-the-tests")
        .tenant(
            "acme",
            &source("club", "", "profile = { file = \"profiles/club.toml\" }").replace("provider = \"\"\n", ""),
        )
        .set();
    stage.write("tenants/profiles/club.toml", OWN);
    stage.start();
    let profile = stage.path("tenants/profiles/club.toml").display().to_string();
    let tested = tollgate(&["provider", "test", &profile, "--json"], b"").ok();
    assert!(list(&tested.json()).len() >= 2);

    let url = format!("http://{}/in/acme/club", stage.edge);
    let key = stage.path("secrets/club").display().to_string();
    let line = format!("send --provider {profile} --url {url} --secret-file {key} --json");
    let sent = tollgate_line(&line, b"").ok();
    let receipt = sent.json()[0]["answer"]["receipt"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let trace = stage.trace(&receipt);
    assert_eq!(trace["receipt"]["proof"]["provider"], "loyalty-club");
    assert_eq!(trace["receipt"]["family"], "reward-redemption");

    // A mistake is shown at its line of the profile's own file; a shipped name is not taken over.
    let mistaken = OWN.replace("algorithm = \"hmac-sha256\"", "algorithm = \"hmac-sha257\"");
    stage.write("tenants/profiles/club.toml", &mistaken);
    let ran = stage.ask(&["check"]);
    assert_eq!(ran.code, 1);
    let problem = &ran.json()["problems"][0];
    let line = mistaken
        .lines()
        .position(|line| line.contains("hmac-sha257"))
        .map(|at| at + 1);
    assert!(
        problem["file"].as_str().is_some_and(|file| file.ends_with("club.toml")),
        "{problem}"
    );
    assert_eq!(problem["line"].as_u64(), line.map(|line| line as u64), "{problem}");
    stage.write(
        "tenants/profiles/club.toml",
        &OWN.replace("name = \"loyalty-club\"", "name = \"stripe\""),
    );
    let ran = stage.ask(&["check"]);
    says(&ran.stdout, &["which is a provider that ships with Tollgate"]);

    // A profile whose known answers come out otherwise says so.
    stage.write(
        "tenants/profiles/club.toml",
        &OWN.replace("signed = \"{param:t}.{body}\"", "signed = \"{param:t}:{body}\""),
    );
    let failed = tollgate(&["provider", "test", &profile], b"");
    assert_eq!(failed.code, 1, "{failed:?}");
}

#[test]
fn i1_the_known_answers_of_every_profile_come_out() {
    let ran = tollgate(&["provider", "test", "--all", "--json"], b"");
    let tested = list(&ran.json());
    let failed: Vec<_> = tested.iter().filter(|one| one["outcome"] == "failed").collect();
    assert_eq!((ran.code, failed.len()), (0, 0), "{failed:#?}");
    let providers: BTreeSet<_> = tested.iter().map(|one| one["provider"].to_string()).collect();
    let known: usize = shipped().values().map(|profile| vector::of(profile).len()).sum();
    assert_eq!(tested.len(), known);
    assert!(known > 50 && providers.len() > 25, "{known} of {}", providers.len());
    let listed = list(&tollgate(&["provider", "list", "--json"], b"").json());
    assert_eq!(listed.len(), shipped().len());
    for one in &listed {
        let name = one["name"].as_str().unwrap_or_default();
        let shown = tollgate(&["provider", "show", name, "--json"], b"");
        assert_eq!((shown.code, &shown.json()["name"]), (0, &one["name"]));
        tollgate(&["provider", "show", name], b"").ok();
    }
    assert_eq!(tollgate(&["provider", "show", "strip"], b"").code, 2);
    assert_eq!(tollgate(&["provider", "test"], b"").code, 2);
}

#[test]
fn o9_verify_agrees_with_every_known_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let vectors: Vec<_> = vector::shipped()
        .iter()
        .filter(|vector| vector.not_run.is_none())
        .collect();
    assert!(vectors.len() > 50);
    for vector in vectors {
        // Named as the list of providers names them, too.
        let provider = vector.provider.as_deref().unwrap_or_default().replace('-', "_");
        let mut arguments = vec!["verify".to_owned(), "--json".to_owned()];
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        flag("--provider", provider);
        flag("--at", vector.received_at_s.to_string());
        flag("--method", vector.method.clone());
        for (name, value) in &vector.headers {
            flag("--header", format!("{name}: {value}"));
        }
        for (name, value) in &vector.parameters {
            flag("--parameter", format!("{name}={value}"));
        }
        if let Some(query) = &vector.query {
            flag("--query", query.clone());
        }
        if let Some(url) = &vector.url {
            flag("--url", url.clone());
        }
        if let Some(secret) = &vector.secret {
            flag("--secret-file", file("secret", &secret.text));
        }
        if let Some(published) = &vector.published {
            flag("--published-key", file("published", published));
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let ran = tollgate(&arguments, vector.body.as_bytes());
        assert_eq!(ran.code, i32::from(vector.refused.is_some()), "{}: {ran:?}", vector.id);
        let answer = ran.json();
        assert_eq!(answer["authentic"], vector.refused.is_none(), "{}", vector.id);
        if let Some(reason) = &vector.refused {
            assert_eq!(answer["reason"], *reason, "{}", vector.id);
            let explained = answer["explanation"].as_str().is_some_and(|text| !text.is_empty());
            assert!(explained && answer["differs"].is_string(), "{}: {answer}", vector.id);
        }
    }
}

#[test]
fn i1_the_tenant_is_told_what_differs_and_the_sender_is_not() {
    let secret = "voucherify-secret-09aa";
    let (stage, signer) = one("voucherify", secret);
    let spaced = "{\n  \"id\": \"whs_1\"\n}";
    let message = signer.sign("", spaced);
    let altered = Message {
        body: br#"{"id": "whs_1"}"#.to_vec(),
        ..message.clone()
    };
    let answer = stage.post("one", &altered);
    assert_eq!(
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
        (401, "{\"status\":\"unauthentic\"}\n".to_owned()),
        "the sender learns the status alone"
    );
    let line = stage.log_with("no-match").join("\n");
    assert!(!line.contains(secret) && !line.contains("whs_1"), "{line}");

    stage.write("secret", secret);
    let file = stage.path("secret").display().to_string();
    let header = message
        .headers
        .iter()
        .find(|(name, _)| name.contains("signature"))
        .expect("a signature");
    let header = format!("{}: {}", header.0, header.1);
    let explain = |body: &[u8], header: &str| {
        let arguments = [
            "verify",
            "--provider",
            "voucherify",
            "--secret-file",
            &file,
            "--header",
            header,
            "--json",
        ];
        let ran = tollgate(&arguments, body);
        assert_eq!(ran.code, 1, "{ran:?}");
        ran.json()
    };
    let crlf = spaced.replace('\n', "\r\n");
    let told = explain(crlf.as_bytes(), &header);
    holds(&told, &json!({ "reason": "no-match", "differs": "body" }));
    assert!(!list(&told["hints"]).is_empty());
    let missing = explain(spaced.as_bytes(), "x-other: 1");
    holds(&missing, &json!({ "reason": "missing-header", "differs": "form" }));
}
