//! I7: who may speak to a source at all: by HTTPS, from an address, with a credential, at a rate. Each decided before the body is read.

use std::time::{Duration, Instant};

use tollgate_tests::client::{Answer, Client, request};
use tollgate_tests::events::{Message, redeemed, signer};
use tollgate_tests::stage::{Setup, Stage, wait_until};
use tollgate_tests::tls::{FIRST, Identity, SECOND};

/// A tenant whose one source `shop` has these lines beside its secret.
fn shop(lines: &str) -> String {
    format!(
        "[sources.shop]\nprovider = \"generic-hmac\"\nsecrets = [{{ id = \"shop-1\", value = {{ file = \"../secrets/shop\" }} }}]\n{lines}\n"
    )
}

fn event(id: &str) -> Message {
    signer("shop").sign("", redeemed(id, id, "success"))
}

fn with(mut message: Message, headers: &[(&str, &str)]) -> Message {
    let more = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    message.headers.extend(more);
    message
}

#[track_caller]
fn verdict(answer: &Answer) -> (u16, &'static str) {
    let words = ["accepted", "same", "unauthentic", "address", "insecure", "rate-limited"];
    let word = answer.word();
    (
        answer.status,
        words.into_iter().find(|known| *known == word).unwrap_or("?"),
    )
}

/// The answer to a head whose body never comes.
#[track_caller]
fn without_body(stage: &Stage, headers: &[(&str, &str)]) -> Answer {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let mut client = stage.connect();
    client
        .send(format!("POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n{lines}\r\n").as_bytes())
        .expect("a head");
    client.answer().expect("an answer before the body")
}

#[test]
fn i7_a_bearer_token_is_asked_for_beside_the_signature() {
    let stage = Setup::default()
        .secret("bearer-old", "t0ken-of-last-year")
        .secret("bearer-new", "t0ken-of-this-year")
        .tenant(
            "acme",
            &shop("bearer = [{ file = \"../secrets/bearer-old\" }, { file = \"../secrets/bearer-new\" }]"),
        )
        .start();
    let bearer =
        |message: Message, year: &str| with(message, &[("authorization", &format!("Bearer t0ken-of-{year}-year"))]);
    for (what, message, expect) in [
        ("none", event("evt_1"), (401, "unauthentic")),
        ("the old one", bearer(event("evt_2"), "last"), (202, "accepted")),
        ("the new one", bearer(event("evt_3"), "this"), (202, "accepted")),
        ("another", bearer(event("evt_4"), "next"), (401, "unauthentic")),
        (
            "twice",
            bearer(bearer(event("evt_3"), "this"), "this"),
            (401, "unauthentic"),
        ),
        // The token replaces nothing: the signature is still asked for.
        (
            "unsigned",
            bearer(event("evt_5").unsigned(), "this"),
            (401, "unauthentic"),
        ),
        (
            "tampered",
            bearer(event("evt_6").tampered(), "this"),
            (401, "unauthentic"),
        ),
    ] {
        assert_eq!(verdict(&stage.post("shop", &message)), expect, "{what}");
    }

    let answer = without_body(&stage, &[("authorization", "Bearer wrong")]);
    assert_eq!(
        (verdict(&answer), answer.header("www-authenticate")),
        ((401, "unauthentic"), None)
    );
    assert_eq!(stage.counts()["receipts"], 2, "nothing of the refused was kept");
    assert_eq!(stage.metric("tollgate_refused_total{cause=\"missing-credential\"}"), 1);
    assert_eq!(stage.metric("tollgate_refused_total{cause=\"wrong-credential\"}"), 2);
    let log = stage.log().join("\n");
    assert!(
        !log.contains("t0ken"),
        "neither ours nor what was presented is logged:\n{log}"
    );
}

#[test]
fn i7_basic_auth_is_asked_for_beside_the_signature() {
    let stage = Setup::default()
        .secret("password", "swordfish")
        .tenant(
            "acme",
            &shop("basic = [{ user = \"hooks\", password = { file = \"../secrets/password\" } }]"),
        )
        .start();
    // hooks:swordfish
    let right = with(event("evt_1"), &[("authorization", "Basic aG9va3M6c3dvcmRmaXNo")]);
    assert_eq!(verdict(&stage.post("shop", &right)), (202, "accepted"));
    let wrong = with(event("evt_2"), &[("authorization", "Basic aG9va3M6c3dvcmRmaXNI")]);
    let answer = stage.post("shop", &wrong);
    assert_eq!(verdict(&answer), (401, "unauthentic"));
    let asked = answer.header("www-authenticate").unwrap_or_default();
    assert!(
        asked.starts_with("Basic "),
        "some senders present nothing before they are asked: {asked}"
    );
    assert_eq!(stage.counts()["receipts"], 1);
}

#[test]
fn i7_only_listed_addresses_get_in_and_a_strangers_claim_counts_nothing() {
    let lines = "allow_networks = [\"203.0.113.0/24\"]";
    let direct = Setup::default().tenant("acme", &shop(lines)).start();
    let claimed = with(event("evt_1"), &[("x-forwarded-for", "203.0.113.7")]);
    assert_eq!(
        verdict(&direct.post("shop", &claimed)),
        (403, "address"),
        "nobody is trusted, so the peer's own address counts"
    );
    let log = wait_until("the refusal is logged", || {
        direct.log_with("address-not-allowed").into_iter().next()
    });
    assert!(log.contains("127.0.0.0/24") && !log.contains("127.0.0.1"), "{log}");

    let behind = Setup::default()
        .edge("threads = 2\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]")
        .tenant("acme", &shop(lines))
        .start();
    let from = |id: &str, hops: &str| verdict(&behind.post("shop", &with(event(id), &[("x-forwarded-for", hops)])));
    assert_eq!(from("evt_1", "203.0.113.7"), (202, "accepted"));
    assert_eq!(from("evt_2", "203.0.113.7, 10.1.2.3"), (202, "accepted"));
    assert_eq!(
        from("evt_3", "203.0.113.7, 198.51.100.9, 10.1.2.3"),
        (403, "address"),
        "what a stranger wrote to the left of itself is its own claim"
    );
    assert_eq!(from("evt_4", "198.51.100.9"), (403, "address"));
    assert_eq!(from("evt_5", "203.0.113.7, nonsense"), (403, "address"));
    assert_eq!(verdict(&behind.post("shop", &event("evt_6"))), (403, "address"));
    assert_eq!(
        verdict(&without_body(&behind, &[("x-forwarded-for", "198.51.100.9")])),
        (403, "address")
    );
    assert_eq!(behind.counts()["receipts"], 2);
    assert_eq!(behind.metric("tollgate_intake_total{result=\"address\"}"), 5);
}

#[test]
fn i7_a_tenant_that_sends_too_much_is_told_when_to_come_again_and_others_are_not() {
    let stage = Setup::default()
        .edge("threads = 2\n[edge.rate]\nrequests_per_s = 1\nburst = 3\n[edge.rate.tenants.globex]\nrequests_per_s = 100000")
        .tenant("acme", &shop(""))
        .tenant("globex", &shop(""))
        .start();
    let post = |tenant: &str, message: &Message| {
        stage
            .connect()
            .post(&format!("/in/{tenant}/shop"), message)
            .expect("an answer")
    };
    // Strangers use up nothing: what they took is given back.
    for _ in 0..20 {
        assert_eq!(post("acme", &event("evt_1").tampered()).status, 401);
        assert_eq!(
            post("acme", &with(event("evt_1"), &[("content-encoding", "gzip")])).status,
            415
        );
    }
    let begun = Instant::now();
    for number in 1..=3 {
        let answer = post("acme", &event(&format!("evt_{number}")));
        assert_eq!(verdict(&answer), (202, "accepted"), "{number} of a burst of 3");
    }
    // On a slow machine more is earned while it posts: one in each second, and no more.
    let mut accepted = 3;
    let mut refused = || loop {
        let answer = post("acme", &event(&format!("evt_{}", accepted + 1)));
        if answer.status == 429 {
            return answer;
        }
        assert_eq!(verdict(&answer), (202, "accepted"));
        accepted += 1;
        let earned = begun.elapsed().as_secs() + 1;
        assert!(accepted <= 3 + earned, "{accepted} after {:?}", begun.elapsed());
    };
    let answer = refused();
    assert_eq!(
        (verdict(&answer), answer.header("retry-after")),
        ((429, "rate-limited"), Some("1"))
    );
    // One that was earned since the last refusal would let the head in, whose body never comes: then it is used up and asked again.
    wait_until("a head is refused before its body is read", || {
        let early = without_body(&stage, &[]);
        let is_refused = verdict(&early) == (429, "rate-limited");
        if !is_refused {
            drop(refused());
        }
        is_refused.then_some(())
    });
    for number in 1..=50 {
        assert_eq!(
            post("globex", &event(&format!("evt_{number}"))).status,
            202,
            "another tenant's own rate"
        );
    }
    // Whoever comes again as told gets in; nothing was lost by the 429.
    let start = Instant::now();
    let later = wait_until("the tenant may send again", || {
        let answer = post("acme", &event(&format!("evt_{}", accepted + 1)));
        (answer.status != 429).then_some(answer)
    });
    assert_eq!(verdict(&later), (202, "accepted"));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(stage.counts()["receipts"], accepted + 50 + 1);
}

fn tls_lines(rest: &str) -> String {
    format!("threads = 2\n{rest}\n[edge.tls]\ncertificate = \"secrets/tls.crt\"\nkey = \"secrets/tls.key\"")
}

#[track_caller]
fn post_tls(stage: &Stage, identity: &Identity, message: &Message) -> (u16, &'static str) {
    let mut client = Client::connect_tls(stage.edge, identity).expect("a TLS connection");
    verdict(&client.post("/in/acme/shop", message).expect("an answer"))
}

#[test]
fn i7_https_is_spoken_and_a_renewed_certificate_is_taken_without_a_restart() {
    let stage = Setup::default()
        .edge(&tls_lines("require_https = true\nheader_read_ms_max = 300"))
        .secret("tls.crt", &FIRST.certificate_pem())
        .secret("tls.key", &FIRST.key_pem())
        .tenant("acme", &shop(""))
        .start();
    let mut open = Client::connect_tls(stage.edge, &FIRST).expect("a TLS connection");
    let mut post_open = |message: &Message| verdict(&open.post("/in/acme/shop", message).expect("an answer"));
    assert_eq!(post_open(&event("evt_1")), (202, "accepted"));
    assert_eq!(post_open(&event("evt_1")), (200, "same"), "over one connection");
    assert!(Client::connect_tls(stage.edge, &SECOND).is_err());

    // Plain HTTP is no TLS; who never begins a handshake is let go, and so is who does not go on with it.
    let mut plain = stage.connect();
    plain
        .send(&request(
            "POST",
            "/in/acme/shop",
            &event("evt_2").headers,
            &event("evt_2").body,
        ))
        .expect("bytes");
    assert!(plain.answer().is_err(), "no HTTP comes back");
    let mut silent = stage.connect();
    assert!(silent.ends_within(Duration::from_secs(10)));
    let mut stalled = stage.connect();
    stalled.send(b"\x16\x03\x01").expect("bytes");
    assert!(stalled.ends_within(Duration::from_secs(10)));
    // A handshake is counted when its connection has ended, which the peer may see earlier.
    wait_until("three handshakes failed", || {
        (stage.metric("tollgate_refused_total{cause=\"tls-handshake\"}") >= 3).then_some(())
    });

    // A renewed certificate; one that does not fit its key changes nothing.
    stage.write("secrets/tls.crt", &SECOND.certificate_pem());
    stage.signal("HUP");
    wait_until("the reload is refused", || {
        (!stage.log_with("configuration not reloaded").is_empty()).then_some(())
    });
    assert_eq!(post_tls(&stage, &FIRST, &event("evt_3")), (202, "accepted"));
    stage.write("secrets/tls.key", &SECOND.key_pem());
    stage.reload();
    assert_eq!(post_tls(&stage, &SECOND, &event("evt_4")), (202, "accepted"));
    assert!(Client::connect_tls(stage.edge, &FIRST).is_err());
    assert_eq!(stage.counts()["receipts"], 3);
    let log = stage.log().join("\n");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[test]
fn i7_behind_a_trusted_proxy_its_word_is_https_and_nobody_elses_is() {
    let proxied = Setup::default()
        .edge("threads = 2\nrequire_https = true\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .tenant("acme", &shop(""))
        .start();
    let by =
        |stage: &Stage, id: &str, headers: &[(&str, &str)]| verdict(&stage.post("shop", &with(event(id), headers)));
    assert_eq!(
        by(&proxied, "evt_1", &[("x-forwarded-proto", "https")]),
        (202, "accepted")
    );
    assert_eq!(
        by(&proxied, "evt_2", &[("x-forwarded-proto", "http")]),
        (403, "insecure")
    );
    assert_eq!(by(&proxied, "evt_2", &[]), (403, "insecure"));
    let both = [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")];
    assert_eq!(by(&proxied, "evt_2", &both), (403, "insecure"));
    assert_eq!(verdict(&without_body(&proxied, &[])), (403, "insecure"));

    let stranger = Setup::default()
        .edge("threads = 2\nrequire_https = true\ntrusted_proxies = [\"192.0.2.0/24\"]")
        .tenant("acme", &shop(""))
        .start();
    assert_eq!(
        by(&stranger, "evt_1", &[("x-forwarded-proto", "https")]),
        (403, "insecure")
    );
    assert_eq!(stranger.counts()["receipts"], 0);
}

#[test]
fn i7_what_could_let_nobody_or_everybody_in_is_refused_when_it_is_configured() {
    let refused = |edge: &str, part: &str| {
        let mut stage = Setup::default().edge(edge).tenant("acme", &shop("")).set();
        let said = stage.try_start().expect_err("the host refuses to start");
        assert!(said.contains(part), "{edge}: {said}");
    };
    refused("require_https = true", "nothing could come over HTTPS");
    refused("trusted_proxies = [\"0.0.0.0/0\"]", "would trust everybody");
    refused(&tls_lines(""), "cannot be read");
    refused(
        "[edge.rate]\nburst = 5",
        "`burst` bounds nothing without `requests_per_s`",
    );
    refused("[edge.rate.tenants.acme]\nburst = 5", "needs `requests_per_s`");
    refused("[edge.rate]\nrequests_per_s = 0", "out of bounds");
}
