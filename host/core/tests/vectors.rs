//! Verification, signing and reading by the shipped profiles: known answers, tables of rules, properties.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod message;

use std::sync::Arc;

use message::{Message, key, provable, secret};
use proptest::prelude::*;
use tollgate_core::answer::Rejection;
use tollgate_core::envelope::{READING_NOTES, Unreadable};
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::explain::Differs;
use tollgate_core::ids::KeyId;
use tollgate_core::lifecycle;
use tollgate_core::limits::{JSON_DEPTH_MAX, SIGNATURE_ENTRIES_MAX};
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::secret::{NO_PARAMETERS, SourceSecret};
use tollgate_core::sign::{SignError, SignInput, sign};
use tollgate_core::time::UnixMillis;
use tollgate_core::vector::{self, Outcome};
use tollgate_core::verify::{KeyError, Keyring, Unproven, verify};

const PENDING: &str = include_str!("../../../tests/samples/voucherify-customer.reward_redemptions.pending.json");
const COMPLETED: &str = include_str!("../../../tests/samples/voucherify-customer.reward_redemptions.completed.json");
const REWARDED: &str = include_str!("../../../tests/samples/voucherify-customer.rewarded.json");
const NATIVE: &str = include_str!("../../../tests/samples/native-reward.redeemed.json");

/// Runs every known answer; says of none that it passed that was not run.
#[test]
fn known_answers_come_out_as_known() {
    let (mut passed, mut not_run, mut failed) = (0, Vec::new(), Vec::new());
    for vector in vector::shipped() {
        let provider = vector.provider.as_deref().unwrap();
        match vector::run(&shipped()[provider], vector) {
            Outcome::Passed => passed += 1,
            Outcome::NotRun(reason) => not_run.push((vector.id.as_str(), reason)),
            Outcome::Failed(what) => failed.push(format!("{} ({}): {what}", vector.id, vector.what)),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    // All 60 of the collection: those that cannot be requests are held to elsewhere, each with its reason.
    let ids: Vec<_> = not_run.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        ids,
        [
            "paypal-crc32",
            "mollie-classic",
            "rfc9530-content-digest-b2-request",
            "rfc9530-sha256-with-LF"
        ]
    );
    // And three of our own making, for what no provider publishes one of.
    assert_eq!((passed, passed + not_run.len()), (59, 63));
}

#[test]
fn what_known_answers_carry_is_signed_alike() {
    let mut signed = 0;
    for vector in vector::shipped() {
        let Some(private) = &vector.signing_secret else {
            continue;
        };
        let header = |wanted: &str| vector.headers.iter().find(|(name, _)| name == wanted);
        let id = ["svix-id", "webhook-id"].into_iter().find_map(header).unwrap();
        let input = SignInput {
            body: vector.body.as_bytes(),
            id: &id.1,
            at: UnixMillis::from_seconds(vector.received_at_s),
            url: None,
        };
        let profile = &shipped()[vector.provider.as_deref().unwrap()];
        let ours = sign(profile, &[secret("private", private)], &NO_PARAMETERS, &input).unwrap();
        for (name, value) in ours.headers {
            assert_eq!(header(&name), Some(&(name.clone(), value)), "{}", vector.id);
        }
        signed += 1;
    }
    assert_eq!(signed, 2);
}

/// Those without one have no scheme of their own, or nothing published.
#[test]
fn every_shipped_profile_has_a_known_answer_or_a_reason() {
    let without: Vec<_> = shipped()
        .values()
        .filter(|profile| {
            !vector::of(profile)
                .iter()
                .any(|vector| vector.refused.is_none() && vector.not_run.is_none())
        })
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(
        without,
        [
            "adyen-platform",
            "braze",
            "cloudevents-http",
            "generic-hmac-timestamped",
            "ietf-idempotency-key",
            "meta",
            "mollie-classic",
            "rfc9421-http-message-signatures",
            "talon-one",
            "voucherify-2018",
            "voucherify-raw"
        ]
    );
}

#[test]
fn statuses_that_profiles_map_to_are_statuses_of_the_lifecycle() {
    let lifecycles = lifecycle::shipped();
    for (provider, profile) in shipped() {
        for (family, status) in profile.statuses() {
            assert!(lifecycles[family].knows(status), "{provider} maps to {family} {status}");
        }
    }
}

#[test]
fn what_a_profile_signs_it_verifies() {
    for provider in provable() {
        let message = Message::sample(provider);
        assert_eq!(message.verify().as_deref(), Ok("a"), "{provider}");
        let read = message.read();
        // Some bodies here are no events; what is one has its own bytes.
        if let Ok(event) = read {
            assert!(std::str::from_utf8(&event.payload).is_ok(), "{provider}");
        }
    }
}

#[test]
fn a_missing_header_is_a_refusal_and_never_a_weaker_rule() {
    for provider in provable() {
        let message = Message::sample(provider);
        let unsigned_id = !message.profile.id_is_signed();
        for (at, (name, _)) in message.headers.iter().enumerate() {
            let mut without = message.clone();
            without.headers.remove(at);
            let is_id = unsigned_id && without.verify().is_ok();
            assert!(
                is_id || matches!(without.verify(), Err(Unproven::MissingHeader { .. })),
                "{provider} without {name}"
            );
        }
    }
}

#[test]
fn a_header_that_comes_twice_is_refused() {
    // Mollie repeats its header on purpose, and RFC 9421 joins what comes twice: then the signature is another.
    let once = |name: &&str| !["mollie", "rfc9421-http-message-signatures"].contains(name);
    for provider in provable().into_iter().filter(once) {
        let message = Message::sample(provider);
        let unsigned_id = !message.profile.id_is_signed();
        for header in &message.headers {
            let mut twice = message.clone();
            twice.headers.push(header.clone());
            let is_id = unsigned_id && twice.verify().is_ok();
            assert!(
                is_id || matches!(twice.verify(), Err(Unproven::RepeatedHeader { .. })),
                "{provider}: {}",
                header.0
            );
        }
    }
}

#[test]
fn tolerance_is_inclusive_and_holds_both_ways() {
    for (provider, bound_s) in [
        ("standard-webhooks", 300),
        ("svix", 300),
        ("stripe", 300),
        ("slack", 300),
        ("zendesk", 300),
        ("twitch", 600),
    ] {
        let message = Message::signed(provider, &[("a", key(provider))], "{}");
        let signed_at = message.received_at;
        for (distance_s, expect) in [
            (0, "verified"),
            (bound_s, "verified"),
            (-bound_s, "verified"),
            (bound_s + 1, "timestamp-outside-tolerance"),
            (-bound_s - 1, "timestamp-outside-tolerance"),
        ] {
            let mut message = message.clone();
            message.received_at = signed_at.plus_ms(distance_s * 1000);
            assert_eq!(message.reason(), expect, "{provider} after {distance_s} s");
        }
    }
    let mut message = Message::signed("stripe", &[("a", "s")], "{}");
    message.received_at = message.received_at.plus_ms(301_000);
    let unproven = message.verify().unwrap_err();
    assert_eq!(
        unproven,
        Unproven::TimestampOutsideTolerance {
            seconds: 301,
            tolerance_s: 300
        }
    );
    assert_eq!(
        unproven.to_string(),
        "the request was signed 301 s before it came in; at most 300 s are allowed"
    );
}

#[test]
fn timestamps_are_plain_decimals_and_are_signed_as_sent() {
    let mut message = Message::signed("standard-webhooks", &[("a", key("svix"))], "{}");
    for text in [
        "",
        " 1700000000",
        "+1700000000",
        "1700000000.9",
        "1700000000abc",
        "1_700_000_000",
        "0001700000000",
    ] {
        message.set("webhook-timestamp", text);
        assert!(
            matches!(message.reason(), "malformed-timestamp" | "forbidden-shape"),
            "{text:?}: {}",
            message.reason()
        );
    }
    // The same number written another way is another message.
    message.set("webhook-timestamp", "01700000000");
    assert_eq!(message.reason(), "no-match");
}

#[test]
fn signed_parts_cannot_flow_into_each_other() {
    // An id `msg_1.1` at 2 with the body `x` joins to the bytes of id `msg_1` at 1 with the body `2.x`.
    let mut message = Message::signed("standard-webhooks", &[("a", key("svix"))], "{}");
    message.set("webhook-id", "msg.1");
    let unproven = message.verify().unwrap_err();
    assert!(
        matches!(&unproven, Unproven::ForbiddenShape { part, .. } if part == "header:webhook-id"),
        "{unproven}"
    );

    let mut message = Message::signed("twitch", &[("a", key("twitch"))], "{}");
    let joined = message.header("twitch-eventsub-message-id") + "2";
    message.set("twitch-eventsub-message-id", &joined);
    assert_eq!(message.reason(), "forbidden-shape");

    let profile = shipped()["standard-webhooks"].clone();
    let input = SignInput {
        body: b"",
        id: "a.b",
        at: UnixMillis(0),
        url: None,
    };
    let refused = sign(&profile, &[secret("a", key("svix"))], &NO_PARAMETERS, &input);
    assert_eq!(
        refused,
        Err(SignError::ForbiddenId {
            id: "a.b".into(),
            text: ".".into()
        })
    );
}

#[test]
fn hexadecimal_of_any_case_is_the_same_signature() {
    let mut message = Message::signed("voucherify", &[("a", "secretKey")], "{}");
    let upper = message.header("x-voucherify-signature").to_uppercase();
    message.set("x-voucherify-signature", &upper);
    assert_eq!(message.reason(), "verified");
}

#[test]
fn a_signature_of_the_wrong_length_is_no_match() {
    let message = Message::signed("voucherify", &[("a", "secretKey")], "{}");
    let whole = message.header("x-voucherify-signature");
    for (text, expect) in [
        (whole[..62].to_owned(), "no-match"),
        (format!("{whole}00"), "no-match"),
        (whole[..63].to_owned(), "malformed-signature"),
        (String::new(), "malformed-signature"),
        ("00".repeat(512), "no-match"),
        // Longer than any signature of any algorithm.
        ("00".repeat(513), "malformed-signature"),
    ] {
        let mut message = message.clone();
        message.set("x-voucherify-signature", &text);
        assert_eq!(message.reason(), expect, "{text:?}");
    }
}

#[test]
fn labels_are_passed_over_when_unknown_and_looked_at_up_to_a_bound() {
    let message = Message::signed("stripe", &[("a", "whsec_x")], "{}");
    let (time, right) = message
        .header("stripe-signature")
        .split_once(",v1=")
        .map(|(t, v)| (t.to_owned(), v.to_owned()))
        .unwrap();
    let wrong = "0".repeat(64);
    let check = |header: String, expect: &str| {
        let mut message = message.clone();
        message.set("stripe-signature", &header);
        assert_eq!(message.reason(), expect, "{header}");
    };
    check(format!("{time},v0={right}"), "malformed-signature");
    check(format!("{time},v2={right}"), "malformed-signature");
    check(format!("{time},v0={wrong},v1={wrong},v1={right}"), "verified");
    check(format!("{time},{time},v1={right}"), "malformed-signature");
    check(format!("v1={right}"), "malformed-signature");
    check(format!("{time}, v1={right}"), "malformed-signature");
    let many = |count: usize| format!("{time}{},v1={right}", format!(",v1={wrong}").repeat(count));
    check(many(SIGNATURE_ENTRIES_MAX - 2), "verified");
    check(many(SIGNATURE_ENTRIES_MAX - 1), "no-match");
}

#[test]
fn secrets_verify_within_their_windows_only() {
    let mut message = Message::signed("voucherify", &[("old", "one"), ("new", "two")], "{}");
    let now = message.received_at;
    assert_eq!(
        message.verify().as_deref(),
        Ok("old"),
        "a scheme with room for one signature is signed with the first"
    );
    message.secrets[0].not_after = Some(now.plus_ms(1));
    assert_eq!(message.reason(), "verified");
    message.secrets[0].not_after = Some(now);
    assert_eq!(
        message.reason(),
        "no-match",
        "the end is exclusive, and the new secret is still tried"
    );
    assert!(
        message.explain().hints[0].contains("matches secret `old`, which was not valid at"),
        "{:?}",
        message.explain().hints
    );
    message.secrets[1].not_before = Some(now.plus_ms(1));
    assert_eq!(message.verify(), Err(Unproven::NoActiveSecret));
    message.secrets[0] = SourceSecret {
        not_before: Some(now),
        ..secret("old", "one")
    };
    assert_eq!(message.reason(), "verified", "the beginning is inclusive");
}

#[test]
fn all_secrets_sign_during_rotation_and_any_of_them_verifies() {
    let (old, new) = (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
    );
    for provider in ["standard-webhooks", "svix", "stripe", "paddle", "mollie", "hookdeck"] {
        let mut message = Message::signed(provider, &[("old", old), ("new", new)], "{}");
        for id in ["old", "new"] {
            message.secrets = vec![secret(id, if id == "old" { old } else { new })];
            assert_eq!(message.verify().as_deref(), Ok(id), "{provider}");
        }
    }
}

#[test]
fn one_keyring_holds_shared_and_public_keys() {
    let private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=";
    let mut message = Message::signed("standard-webhooks", &[("p", private)], "{}");
    assert!(message.header("webhook-signature").starts_with("v1a,"));
    assert_eq!(
        message.verify().as_deref(),
        Ok("p"),
        "a private key verifies by its public half"
    );
    message.secrets = vec![secret("s", key("svix")), secret("q", public)];
    assert_eq!(message.verify().as_deref(), Ok("q"));
    message.secrets.truncate(1);
    assert_eq!(
        message.verify(),
        Err(Unproven::NoActiveSecret),
        "a shared secret never answers for v1a"
    );
    let input = SignInput {
        body: b"",
        id: "m",
        at: UnixMillis(0),
        url: None,
    };
    let refused = sign(&message.profile, &[secret("q", public)], &NO_PARAMETERS, &input);
    assert_eq!(
        refused,
        Err(SignError::PublicKey {
            id: KeyId::new("q").unwrap()
        })
    );
}

#[test]
fn public_key_checks_are_bounded_whatever_the_sender_lists() {
    let private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let seed = |byte: u8| format!("whsk_{}", data_encoding::BASE64.encode(&[byte; 32]));
    let mut message = Message::signed("standard-webhooks", &[("p", private)], "{}");
    message.secrets.insert(0, secret("other", &seed(7)));
    let right = message.header("webhook-signature");
    let wrong = Message::signed("standard-webhooks", &[("x", &seed(9))], "{}").header("webhook-signature");
    for (wrongs, expect) in [(7, "verified"), (15, "no-match")] {
        message.set(
            "webhook-signature",
            &format!("{}{right}", format!("{wrong} ").repeat(wrongs)),
        );
        assert_eq!(
            message.reason(),
            expect,
            "{wrongs} wrong signatures before the right one, two keys"
        );
    }
}

#[test]
fn whsec_is_text_for_stripe_and_a_prefix_for_standard_webhooks() {
    let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut stripe = Message::signed("stripe", &[("a", text)], "{}");
    stripe.secrets = vec![secret("a", &text["whsec_".len()..])];
    assert_eq!(stripe.reason(), "no-match");
    let mut standard = Message::signed("standard-webhooks", &[("a", text)], "{}");
    standard.secrets = vec![secret("a", &text["whsec_".len()..])];
    assert_eq!(standard.reason(), "verified");
}

#[test]
fn a_bad_secret_is_named_and_not_shown() {
    let check = |provider: &str, texts: &[(&str, &str)], expect: &str| {
        let secrets: Vec<_> = texts.iter().map(|(id, text)| secret(id, text)).collect();
        let error = Keyring::new(&shipped()[provider], &secrets).unwrap_err();
        assert_eq!(error.to_string(), expect);
    };
    check(
        "standard-webhooks",
        &[("k1", "whsec_not base64!")],
        "secret `k1` is not base64 after whsec_",
    );
    check(
        "standard-webhooks",
        &[("k1", "not base64!")],
        "secret `k1` is not base64",
    );
    check(
        "standard-webhooks",
        &[("k1", "whpk_AAAA")],
        "secret `k1` decodes to 3 bytes; an ed25519 public key has 32",
    );
    check("standard-webhooks", &[("k1", "whsec_")], "secret `k1` is empty");
    check("stripe", &[("k1", "")], "secret `k1` is empty");
    check(
        "stripe",
        &[("k1", "whsec_x\n")],
        "secret `k1` begins or ends with white space, perhaps a line break at the end of its file: remove it",
    );
    check("stripe", &[("k1", "a"), ("k1", "b")], "two secrets have the id `k1`");
    check("stripe", &[], "a source needs at least one secret");
    let nine: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
        .iter()
        .map(|id| secret(id, "x"))
        .collect();
    assert_eq!(
        Keyring::new(&shipped()["stripe"], &nine).unwrap_err(),
        KeyError::TooMany { count: 9 }
    );
    let keyring = Keyring::new(&shipped()["stripe"], &[secret("k1", "hunter2")]).unwrap();
    assert_eq!(
        format!("{keyring:?}"),
        r#"Keyring { provider: "stripe", keys: ["k1"], .. }"#
    );
}

/// What came with a secret when it was copied is named, and never taken for part of it.
#[test]
fn what_was_copied_with_a_secret_is_named() {
    let check = |provider: &str, text: &str, expect: &str| {
        let error = Keyring::new(&shipped()[provider], &[secret("lab", text)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(expect) && error.contains("`lab`"), "{provider}: {error}");
    };
    let whsec = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    for provider in ["svix", "standard-webhooks", "stripe", "generic-hmac"] {
        check(provider, &format!("v1,{whsec}"), "begins with `v1,`");
        check(provider, &format!("\"{whsec}\""), "stands in quotes");
        check(provider, &format!("'{whsec}'"), "stands in quotes");
        check(provider, &format!("\u{feff}{whsec}"), "byte order mark");
        check(provider, &format!("{whsec}\n"), "white space");
    }
    assert!(Keyring::new(&shipped()["generic-hmac"], &[secret("lab", "v1,and more")]).is_ok());
}

/// What people write for a URL, and proxies make of it.
#[test]
fn hints_say_what_of_the_url_differs() {
    let check = |configured: &str, query: Option<&str>, expect: &str| {
        let mut message = Message::signed("square", &[("a", "key")], "{}");
        message.url = Some(configured.into());
        message.query = query.map(str::to_owned);
        assert_eq!(message.reason(), "no-match", "{configured}");
        let explanation = message.explain();
        assert_eq!(explanation.differs, Differs::Url, "{configured}");
        assert!(
            explanation.hints.iter().any(|hint| hint.contains(expect)),
            "{configured}: {:?}",
            explanation.hints
        );
    };
    // It is signed for https://in.example.test/hook.
    check(
        "https://in.example.test/hook/",
        None,
        "https://in.example.test/hook: configure",
    );
    check("http://in.example.test/hook", None, "the other of http and https");
    check("https://in.example.test/hook", Some("a=1"), "without its query");
    check("https://in.example.test/hook?a=1", None, "without its query");
    check(
        "https://user:word@in.example.test/hook",
        None,
        "without user and password",
    );
}

#[test]
fn two_sets_of_headers_are_never_combined() {
    let svix = Message::signed("svix", &[("a", key("svix"))], "{}");
    let rename = |message: &Message, only: &str| {
        let mut message = message.clone();
        for (name, _) in &mut message.headers {
            if only.is_empty() || name.ends_with(only) {
                *name = name.replace("svix-", "webhook-");
            }
        }
        message
    };
    assert_eq!(rename(&svix, "").reason(), "verified");
    for part in ["-id", "-timestamp", "-signature"] {
        assert_eq!(rename(&svix, part).reason(), "missing-header", "{part}");
    }
}

#[test]
fn a_named_key_is_the_only_one_tried() {
    let mut message = Message::signed("klarna", &[("krn:1", "one"), ("krn:2", "two")], "{}");
    assert_eq!(message.verify().as_deref(), Ok("krn:1"));
    message.set("klarna-signing-key-id", "krn:2");
    assert_eq!(message.reason(), "no-match");
    message.set("klarna-signing-key-id", "krn:3");
    assert_eq!(message.reason(), "unknown-key");
}

#[test]
fn the_url_is_the_sources_own() {
    let mut message = Message::signed("square", &[("a", "key")], "{}");
    message.url = None;
    assert_eq!(message.verify(), Err(Unproven::NoUrl));
    message.url = Some("https://in.example.test/hook/".into());
    assert_eq!(message.reason(), "no-match");
    assert_eq!(
        message.explain().hints,
        [
            "the signature matches for the URL https://in.example.test/hook: configure the URL exactly as the provider has it"
        ]
    );
}

#[test]
fn a_keyring_serves_the_profile_it_was_made_for() {
    let message = Message::signed("voucherify", &[("a", "s")], "{}");
    let other = Keyring::new(&shipped()["stripe"], &message.secrets).unwrap();
    let unproven = message.request(|_, request| verify(&message.profile, &other, request).unwrap_err());
    assert_eq!(unproven.reason(), "foreign-keyring");
}

#[test]
fn hints_say_what_happened_to_the_bytes() {
    let check = |signed: &str, received: &str, expect: &str| {
        let mut message = Message::signed("razorpay", &[("a", "s")], signed);
        message.body = received.as_bytes().to_vec();
        assert_eq!(message.reason(), "no-match");
        assert!(
            message.explain().hints.iter().any(|hint| hint.contains(expect)),
            "{expect}: {:?}",
            message.explain().hints
        );
    };
    check(r#"{"a":"b c"}"#, "{\n  \"a\": \"b c\"\n}", "matches the minified body");
    check("{}", "{}\r\n", "without the line break at the body's end");
    check("{}\n", "{}", "with a line break at the body's end");
    check("{\"a\":\n1}", "{\"a\":\r\n1}", "LF line breaks");
    check("{}", "\u{feff}{}", "byte order mark");
    check(r#"{"a":"é"}"#, r#"{"a":"\u00e9"}"#, "parsed and written again");
    let mut message = Message::signed("stripe", &[("a", "s")], "{}");
    message.received_at = message.received_at.plus_ms(3_600_000);
    assert!(
        message.explain().hints[0].contains("the signature itself is right (secret `a`)"),
        "{:?}",
        message.explain().hints
    );
    assert_eq!(message.explain().differs, Differs::Time);
    message.received_at = message.received_at.plus_ms(-3_600_000);
    message.body.push(b'!');
    assert_eq!(message.explain().differs, Differs::Signature);
}

fn attributes(event: &Event) -> Vec<(&str, &str)> {
    event
        .attributes
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn mapped(event: &Event) -> (String, String) {
    (
        event.reading.family().unwrap().to_string(),
        event.reading.status().unwrap().to_string(),
    )
}

#[test]
fn the_redemption_is_read_alike_on_its_way() {
    for (body, id, status, at, group) in [
        (
            PENDING,
            "evcus_1f3611301g3127bega",
            "pending",
            "2024-05-13T12:34:10.464Z",
            "v-1f36113948e50fc4ge",
        ),
        (
            COMPLETED,
            "evcus_1f3612c81d7127begc",
            "completed",
            "2024-05-13T12:40:02.310Z",
            "v-1f3612c81e650fc4gf",
        ),
    ] {
        let message = Message::signed("voucherify", &[("a", "secretKey")], body);
        let event = message.read().unwrap();
        assert_eq!(event.id.as_str(), id);
        assert_eq!(
            event.event_type.as_str(),
            format!("customer.reward_redemptions.{status}")
        );
        assert_eq!(
            event.subject.as_ref().unwrap().as_str(),
            "rewr_23IX6dCFJe03AX4M56KcI95D"
        );
        assert_eq!(mapped(&event), ("reward-redemption".into(), status.into()));
        assert_eq!(event.occurred_at.unwrap().to_string(), at);
        assert_eq!(event.received_at, message.received_at);
        assert_eq!(event.amount, None);
        assert_eq!(event.payload, body.as_bytes());
        assert_eq!(
            attributes(&event),
            [
                ("customer", "cust_2myfc5acSBgoMV72R5tyTBc8"),
                ("group", group),
                ("operation", "r_0ebe386a24c311bff7"),
                ("product", "laptop_123"),
                ("reward", "rew_6cXu5JUKsjDo1T1LmFLF3eML"),
            ]
        );
    }
}

#[test]
fn a_reward_given_is_read_with_its_order() {
    let mut message = Message::signed("voucherify", &[("a", "secretKey")], REWARDED);
    let event = message.read().unwrap();
    assert_eq!(event.id.as_str(), "evcus_1f08d2a4b1f127begd");
    assert_eq!(event.subject.as_ref().unwrap().as_str(), "r_0e2907cc52498573ee");
    assert_eq!(event.reading, StatusReading::Stateless);
    assert_eq!(event.amount, None, "Voucherify sends no currency");
    assert_eq!(
        attributes(&event),
        [
            ("customer", "cust_IdgAFZxYwwHctOk9pPuMu308"),
            ("group", "v-1f08d2a4b3250fc4gg"),
            ("operation", "r_0e2907cc52498573ee"),
            ("order", "ord_8GGVSci7FUPX1UX94qBHQPSE"),
            ("order_amount", "2900"),
            ("product", "star-th-bottle"),
            ("reward", "rew_oOrlSAeYmfh6gYGOH7JMYVzv"),
        ]
    );
    let usd = tollgate_core::money::Currency::new("USD").unwrap();
    message.profile = Arc::new((*message.profile).clone().with_currency(usd));
    assert_eq!(
        message.read().unwrap().amount.unwrap().to_string(),
        "29.00 USD",
        "the source knows its currency"
    );
}

#[test]
fn the_native_sample_is_read() {
    for provider in ["generic-hmac", "generic-hmac-timestamped"] {
        let event = Message::signed(provider, &[("a", "secret")], NATIVE).read().unwrap();
        assert_eq!(
            (event.id.as_str(), event.event_type.as_str()),
            ("evt_12345", "reward.redeemed")
        );
        assert_eq!(event.subject.as_ref().unwrap().as_str(), "evt_12345");
        assert_eq!(mapped(&event), ("reward-redemption".into(), "completed".into()));
        assert_eq!(event.amount.unwrap().to_string(), "5.00 INR");
        assert_eq!(event.occurred_at.unwrap().to_string(), "2026-05-05T10:00:00.000Z");
        assert_eq!(
            attributes(&event),
            [
                ("customer", "user_678"),
                ("operation", "evt_12345"),
                ("product", "reward_999")
            ]
        );
    }
}

#[test]
fn payments_are_read_into_one_lifecycle() {
    let check = |event_type: &str, status: &str, expect: Option<&str>| {
        let body = format!(
            r#"{{"id":"evt_1","type":"{event_type}","created":1700000000,"data":{{"object":{{"id":"pi_1","status":"{status}","amount":1999,"currency":"usd","customer":"cus_1"}}}}}}"#
        );
        let event = Message::signed("stripe", &[("a", "whsec_x")], &body).read().unwrap();
        assert_eq!(
            event.reading.status().map(|status| status.as_str()),
            expect,
            "{event_type} {status}"
        );
        if expect.is_none() {
            let family = "payment".parse().unwrap();
            assert_eq!(
                event.reading,
                StatusReading::Unmapped {
                    family,
                    label: Some(status.to_owned())
                },
                "held, not guessed"
            );
        }
        assert_eq!(event.amount.unwrap().to_string(), "19.99 USD");
        assert_eq!(event.occurred_at, Some(UnixMillis::from_seconds(1_700_000_000)));
        assert_eq!(attributes(&event)[..2], [("customer", "cus_1"), ("operation", "pi_1")]);
    };
    check("payment_intent.created", "requires_payment_method", Some("created"));
    check(
        "payment_intent.payment_failed",
        "requires_payment_method",
        Some("failed"),
    );
    check("payment_intent.requires_action", "requires_action", Some("pending"));
    check(
        "payment_intent.amount_capturable_updated",
        "requires_capture",
        Some("authorized"),
    );
    check("payment_intent.succeeded", "succeeded", Some("captured"));
    check("payment_intent.canceled", "canceled", Some("canceled"));
    check("payment_intent.succeeded", "levitated", None);
}

/// Minor units that are not ISO 4217's, as each provider publishes them (its profile's `[amounts] source`).
#[test]
fn i12_a_providers_own_minor_units_are_exact_money() {
    let stripe = |amount: &str, currency: &str| {
        let body = format!(
            r#"{{"id":"evt_1","type":"payment_intent.succeeded","created":1,"data":{{"object":{{"id":"pi_1","status":"succeeded","amount":{amount},"amount_received":{amount},"currency":"{currency}"}}}}}}"#
        );
        Message::signed("stripe", &[("a", "whsec_x")], &body).read().unwrap()
    };
    for (amount, currency, expect) in [
        ("1999", "usd", "19.99 USD"),
        ("500000", "ugx", "5000 UGX"),
        ("27900", "isk", "279 ISK"),
        ("500", "mga", "500 MGA"),
        ("500", "jpy", "500 JPY"),
        ("100000", "clp", "100000 CLP"),
        ("5120", "kwd", "5.120 KWD"),
        ("1000", "huf", "10.00 HUF"),
    ] {
        let event = stripe(amount, currency);
        assert_eq!(event.amount.unwrap().to_string(), expect, "{currency}");
    }
    let inexact = stripe("27950", "isk");
    assert_eq!(inexact.amount, None, "no half krona is made up, and none is lost");
    let notes = attributes(&inexact)
        .into_iter()
        .find(|(name, _)| *name == READING_NOTES);
    assert!(notes.is_some_and(|(_, notes)| notes.contains("27950")), "{notes:?}");

    let exponent = |provider: &str, currency: &str| {
        let currency = tollgate_core::money::Currency::new(currency).unwrap();
        shipped()[provider].amounts().exponent(currency)
    };
    for (provider, currency, expect) in [
        ("adyen", "CLP", 2),
        ("adyen", "CVE", 0),
        ("adyen", "IDR", 0),
        ("adyen", "ISK", 2),
        ("adyen", "UGX", 0),
        ("adyen", "EUR", 2),
        ("checkout-com", "CLP", 2),
        ("checkout-com", "ISK", 0),
        ("checkout-com", "KWD", 3),
        ("voucherify", "JPY", 2),
        ("voucherify", "KWD", 2),
        ("razorpay", "JPY", 0),
        ("square", "JPY", 0),
    ] {
        assert_eq!(exponent(provider, currency), expect, "{provider} {currency}");
    }
    for profile in shipped().values() {
        let states_it = profile.amounts().source.is_some()
            || profile.writes_major_units()
            || profile.name.as_str().starts_with("generic-");
        assert!(
            !profile.reads_amounts() || states_it,
            "{} does not say where its minor units are published",
            profile.name
        );
    }
}

/// An order that is refunded in parts, with money that is still on its way, failed, or was only set aside.
#[test]
fn an_amount_that_is_said_in_parts_is_the_sum_of_those_that_count() {
    let read = |rest: &str| {
        let body = format!(r#"{{"id":509,"admin_graphql_api_id":"gid://shopify/Refund/509","order_id":450{rest}}}"#);
        let mut message = Message::signed("shopify", &[("a", "secret")], &body);
        message.set("x-shopify-webhook-id", "1");
        message.set("x-shopify-topic", "refunds/create");
        message.read().unwrap()
    };
    let part = |kind: &str, status: &str, amount: &str, currency: &str| {
        format!(r#"{{"id":1,"kind":"{kind}","status":"{status}","amount":{amount},"currency":"{currency}"}}"#)
    };
    let refund = |amount: &str| part("refund", "success", amount, "USD");
    let of = |parts: &[String]| read(&format!(r#","transactions":[{}]"#, parts.join(",")));
    let several = of(&[
        refund(r#""41.94""#),
        part("refund", "pending", r#""9.00""#, "USD"),
        part("refund", "failure", r#""8.00""#, "USD"),
        part("void", "success", r#""7.00""#, "USD"),
        refund(r#""0.06""#),
    ]);
    assert_eq!(several.amount.unwrap().to_string(), "42.00 USD");
    assert!(attributes(&several).contains(&("order", "gid://shopify/Order/450")));
    assert_eq!(
        several.reading,
        StatusReading::Stateless,
        "`orders/updated` says the same of the same money"
    );

    let notes = |event: &Event| {
        let found = attributes(event).into_iter().find(|(name, _)| *name == READING_NOTES);
        found.map(|(_, notes)| notes.to_owned()).unwrap_or_default()
    };
    for (event, says) in [
        // No money moved, or none yet: there is nothing to note.
        (of(&[]), ""),
        (read(""), ""),
        (of(&[part("refund", "pending", r#""9.00""#, "USD")]), ""),
        // What counts and cannot be read leaves no half of a sum.
        (of(&[refund(r#""1.00""#), refund(r#""one""#)]), "one"),
        (of(&[refund(r#""1.00""#), refund("null")]), "no amount"),
        (
            of(&[refund(r#""1.00""#), part("refund", "success", r#""1.00""#, "CAD")]),
            "several currencies",
        ),
        (of(&[refund(r#""90071992547409.91""#), refund(r#""0.01""#)]), "outside"),
        (read(r#","transactions":{"0":1}"#), ""),
        (of(&vec![refund(r#""1.00""#); 10_001]), "more than are added up"),
    ] {
        assert_eq!(event.amount, None, "{says}: {:?}", event.amount);
        let notes = notes(&event);
        assert_eq!(notes.is_empty(), says.is_empty(), "{notes}");
        assert!(notes.contains(says), "`{notes}` does not say `{says}`");
    }
}

/// A try that failed is no deed: whatever Adyen says did not succeed reads as what it was before, or as failed.
#[test]
fn a_notification_of_a_failed_try_never_reads_as_done() {
    let file: toml::Table = include_str!("../profiles/adyen.toml").parse().unwrap();
    let statuses = |family: &str| -> Vec<(String, String)> {
        let labels = file["statuses"][family].as_table().unwrap();
        let each = labels.iter();
        each.map(|(label, status)| (label.clone(), status.as_str().unwrap().to_owned()))
            .collect()
    };
    let mut failed = 0;
    for (family, undone) in [
        ("payment", ["authorized", "failed", "capture-failed"].as_slice()),
        ("refund", &["failed"]),
    ] {
        for (label, status) in statuses(family) {
            let Some((code, "false")) = label.rsplit_once('.') else {
                continue;
            };
            assert!(undone.contains(&status.as_str()), "{family}: {label} reads as {status}");
            assert!(
                statuses(family)
                    .iter()
                    .any(|(other, _)| *other == format!("{code}.true")),
                "{family}: {label} alone"
            );
            failed += 1;
        }
    }
    assert!(failed >= 10, "{failed}");
}

/// Captured and not intended, refunded in this event and not in all.
#[test]
fn i12_the_amount_is_the_one_that_the_event_is_about() {
    let read = |provider: &str, body: &str| {
        let headers: &[(&str, &str)] = match provider {
            "razorpay" => &[("x-razorpay-event-id", "evt_1")],
            "shopify" => &[("x-shopify-webhook-id", "1"), ("x-shopify-topic", "orders/updated")],
            _ => &[],
        };
        let mut message = Message::signed(provider, &[("a", "secret")], body);
        for (name, value) in headers {
            message.set(name, value);
        }
        message.read().unwrap()
    };
    let stripe = |event_type: &str, object: &str| {
        read(
            "stripe",
            &format!(r#"{{"id":"evt_1","type":"{event_type}","created":1,"data":{{"object":{object}}}}}"#),
        )
    };
    for (event_type, object, expect) in [
        (
            "payment_intent.succeeded",
            r#"{"id":"pi_1","status":"succeeded","amount":2000,"amount_received":500,"currency":"usd"}"#,
            "5.00 USD",
        ),
        (
            "payment_intent.amount_capturable_updated",
            r#"{"id":"pi_1","status":"requires_capture","amount":2000,"amount_capturable":1500,"amount_received":0,"currency":"usd"}"#,
            "15.00 USD",
        ),
        (
            "charge.captured",
            r#"{"id":"ch_1","amount":2000,"amount_captured":700,"currency":"usd"}"#,
            "7.00 USD",
        ),
        (
            "charge.refunded",
            r#"{"id":"ch_1","amount":2000,"amount_refunded":900,"refunds":{"data":[{"amount":400},{"amount":500}]},"currency":"usd"}"#,
            "4.00 USD",
        ),
        (
            "charge.refunded",
            r#"{"id":"ch_1","amount":2000,"amount_refunded":900,"currency":"usd"},"previous_attributes":{"amount_refunded":650}"#,
            "2.50 USD",
        ),
        (
            "refund.created",
            r#"{"id":"re_1","status":"succeeded","amount":400,"currency":"usd"}"#,
            "4.00 USD",
        ),
        (
            "charge.dispute.created",
            r#"{"id":"dp_1","amount":1200,"currency":"usd"}"#,
            "12.00 USD",
        ),
        (
            "invoice.paid",
            r#"{"id":"in_1","amount_due":3000,"amount_paid":2500,"currency":"usd"}"#,
            "25.00 USD",
        ),
    ] {
        assert_eq!(
            stripe(event_type, object).amount.unwrap().to_string(),
            expect,
            "{event_type}"
        );
    }
    let captured = stripe(
        "payment_intent.succeeded",
        r#"{"id":"pi_1","status":"succeeded","amount":2000,"amount_received":500,"currency":"usd"}"#,
    );
    assert!(attributes(&captured).contains(&("amount_intended", "2000")));
    // Neither what was before nor the list: then nobody knows which part is new, and the total is no amount of this event.
    let unlisted = stripe(
        "charge.refunded",
        r#"{"id":"ch_1","amount":2000,"amount_refunded":900,"currency":"usd"}"#,
    );
    assert_eq!(unlisted.amount, None);
    assert!(attributes(&unlisted).contains(&("amount_refunded_total", "900")));

    let shrunk = stripe(
        "charge.refunded",
        r#"{"id":"ch_1","amount_refunded":100,"currency":"usd"},"previous_attributes":{"amount_refunded":650}"#,
    );
    assert_eq!(shrunk.amount, None);
    assert!(
        attributes(&shrunk)
            .iter()
            .any(|(name, notes)| *name == READING_NOTES && notes.contains("6.50 USD"))
    );

    let others = [
        (
            "paddle",
            r#"{"event_id":"evt_1","event_type":"transaction.completed","occurred_at":"2027-01-01T00:00:00Z","data":{"id":"txn_1","status":"completed","currency_code":"JPY","details":{"totals":{"total":"900","grand_total":"990"}}}}"#,
            "990 JPY",
        ),
        (
            "paddle",
            r#"{"event_id":"evt_1","event_type":"adjustment.updated","occurred_at":"2027-01-01T00:00:00Z","data":{"id":"adj_1","action":"refund","currency_code":"USD","totals":{"total":"1250"}}}"#,
            "12.50 USD",
        ),
        (
            "adyen-platform",
            r#"{"type":"balancePlatform.transfer.updated","timestamp":"2027-01-01T00:00:00Z","environment":"live","data":{"id":"t_1","status":"captured","amount":{"value":100000,"currency":"CLP"}}}"#,
            "1000 CLP",
        ),
        (
            "paypal",
            r#"{"id":"WH-1","event_type":"PAYMENT.SALE.COMPLETED","resource":{"id":"s_1","state":"completed","amount":{"total":"0.48","currency":"USD"}}}"#,
            "0.48 USD",
        ),
        (
            "paypal",
            r#"{"id":"WH-1","event_type":"PAYMENT.AUTHORIZATION.CREATED","resource":{"id":"a_1","amount":{"value":"7.50","currency_code":"EUR"}}}"#,
            "7.50 EUR",
        ),
        (
            "paypal",
            r#"{"id":"WH-1","event_type":"CUSTOMER.DISPUTE.CREATED","resource":{"dispute_id":"PP-D-1","dispute_amount":{"value":"96","currency_code":"USD"}}}"#,
            "96.00 USD",
        ),
    ];
    for (provider, body, expect) in others {
        let amount = match provider {
            "paypal" => Message::signed(provider, &[("a", message::RSA_KEY)], body).read(),
            "adyen-platform" => Message::signed(provider, &[("a", "ab12")], body).read(),
            _ => Message::signed(provider, &[("a", "secret")], body).read(),
        };
        assert_eq!(amount.unwrap().amount.unwrap().to_string(), expect, "{body}");
    }

    let paid_in_part = read(
        "razorpay",
        r#"{"event":"order.paid","payload":{"order":{"entity":{"id":"o_1","status":"paid","amount":50000,"amount_paid":20000,"currency":"INR"}}}}"#,
    );
    assert_eq!(paid_in_part.amount.unwrap().to_string(), "200.00 INR");
    let with_tip = read(
        "square",
        r#"{"event_id":"1","type":"payment.updated","data":{"id":"p_1","object":{"payment":{"status":"COMPLETED","amount_money":{"amount":1000,"currency":"USD"},"total_money":{"amount":1200,"currency":"USD"}}}}}"#,
    );
    assert_eq!(with_tip.amount.unwrap().to_string(), "12.00 USD");
}

/// What providers publish of the ways that money goes: none of it waits for a person.
#[test]
fn normal_life_of_money_is_never_held() {
    let ways: [(&str, &[&str]); 14] = [
        ("payout", &["pending", "in-transit", "paid", "failed"]),
        ("payout", &["in-transit", "paid", "failed", "returned"]),
        ("payout", &["created", "canceled", "returned"]),
        (
            "payment",
            &[
                "created",
                "failed",
                "authorized",
                "captured",
                "partially-refunded",
                "refunded",
            ],
        ),
        ("payment", &["captured", "partially-refunded", "disputed", "upheld"]),
        ("payment", &["captured", "disputed", "upheld", "lost", "won"]),
        ("payment", &["captured", "refunded", "disputed"]),
        ("payment", &["authorized", "captured", "capture-failed"]),
        ("payment", &["authorized", "canceled"]),
        ("payment", &["captured", "disputed", "refunded"]),
        ("refund", &["pending", "completed", "failed"]),
        (
            "order",
            &["pending", "partially-paid", "paid", "partially-refunded", "refunded"],
        ),
        ("order", &["paid", "partially-paid", "paid"]),
        ("order", &["pending", "canceled"]),
    ];
    for (family, way) in ways {
        let lifecycle = &lifecycle::shipped()[family];
        let mut current: Option<tollgate_core::ids::Status> = None;
        for status in way {
            let status = status.parse().unwrap();
            match lifecycle.transition(current.as_ref(), &status) {
                lifecycle::Transition::Apply => current = Some(status),
                lifecycle::Transition::Superseded { .. } => {}
                held => panic!("{family}: {way:?}: {held:?}"),
            }
        }
    }
}

#[test]
fn test_events_are_told_from_live_ones_where_the_provider_says_it() {
    let stripe = |live: &str| {
        let body = format!(r#"{{"id":"evt_1","type":"charge.succeeded"{live},"data":{{"object":{{"id":"ch_1"}}}}}}"#);
        Message::signed("stripe", &[("a", "whsec_x")], &body).read().unwrap()
    };
    let mode = |event: &Event| {
        let found = attributes(event).into_iter().find(|(name, _)| *name == "mode");
        found.map(|(_, mode)| mode.to_owned())
    };
    assert_eq!(mode(&stripe(r#","livemode":false"#)).as_deref(), Some("test"));
    assert_eq!(mode(&stripe(r#","livemode":true"#)).as_deref(), Some("live"));
    assert_eq!(mode(&stripe("")), None);
    let telling: Vec<_> = shipped()
        .values()
        .filter(|profile| profile.tells_mode())
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(
        telling,
        [
            "adyen",
            "adyen-platform",
            "mollie",
            "paypal",
            "plaid",
            "shopify",
            "stripe",
            "wise"
        ]
    );
    let mut source = stripe(r#","livemode":false"#);
    let profile = &shipped()["stripe"];
    let why_not = |profile: &Profile, source: &Event| profile.accept().why_not(&source.attributes);
    assert!(why_not(profile, &source).is_some_and(|why| why.contains("accept")));
    let both = Profile::clone(profile).with_accept(tollgate_core::mode::Accept::Both);
    assert_eq!(why_not(&both, &source), None);
    source.attributes.clear();
    assert_eq!(why_not(profile, &source), None, "who says nothing is live");
}

#[test]
fn what_is_no_event_is_refused_by_name() {
    let read = |body: &str| {
        Message::signed("generic-hmac", &[("a", "secret")], body)
            .read()
            .map(|_| ())
    };
    let check = |body: &str, expect: &str| assert_eq!(read(body).unwrap_err().reason(), expect, "{body}");
    check("", "not-json");
    check("{", "not-json");
    check(r#"{"event_id":"1","event":"e"} x"#, "not-json");
    check(r#"{"event_id":"1","event":"e","x":[1,]}"#, "not-json");
    check("[]", "missing-id");
    check(r#"{"event_id":null,"event":"e"}"#, "missing-id");
    check(r#"{"event_id":"","event":"e"}"#, "missing-id");
    check(r#"{"event_id":{"a":1},"event":"e"}"#, "missing-id");
    check(r#"{"event_id":"1"}"#, "missing-type");
    check(r#"{"event_id":"1","event":"e","event_id":"2"}"#, "repeated-key");
    check(r#"{"event_id":"1","event":"e","event_\u0069d":"2"}"#, "repeated-key");
    assert_eq!(
        read(r#"{"event_id":"1","event":"e","x":{"k":1,"k":2}}"#),
        Ok(()),
        "elsewhere a reader may choose"
    );
    assert_eq!(
        read("{\n  \"event_id\": 1,\n  oops").unwrap_err(),
        Unreadable::NotJson {
            line: 3,
            column: 3,
            detail: "key must be a string".into()
        }
    );
    assert_eq!(
        read(r#"{"event":"e"}"#).unwrap_err(),
        Unreadable::MissingId {
            where_: "/event_id or /id".into()
        }
    );
    let mut message = Message::signed("generic-hmac", &[("a", "secret")], "");
    message.body = b"{\"event_id\":\"\xff\"}".to_vec();
    let signed = {
        let input = SignInput {
            body: &message.body,
            id: "",
            at: message.received_at,
            url: None,
        };
        sign(&message.profile, &message.secrets, &NO_PARAMETERS, &input)
            .unwrap()
            .headers
    };
    message.set("x-signature", &signed[0].1);
    assert_eq!(message.read().unwrap_err(), Unreadable::NotUtf8 { at: 13 });
}

/// Only what can never be read may be answered with the status after which a provider gives up.
#[test]
fn a_body_that_can_never_be_read_is_told_from_one_that_lacks_something() {
    let rejection = |body: &str| {
        let message = Message::signed("generic-hmac", &[("a", "secret")], body);
        Rejection::from(&message.read().unwrap_err())
    };
    let deep = format!(
        r#"{{"event_id":"1","event":"e","x":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for body in [
        "",
        "{",
        "a=b",
        r#"{"event_id":"1","event_id":"2","event":"e"}"#,
        deep.as_str(),
    ] {
        assert_eq!(rejection(body), Rejection::Unreadable, "{body}");
    }
    for body in ["{}", "[]", r#"{"event":"e"}"#, r#"{"event_id":"1"}"#] {
        assert_eq!(rejection(body), Rejection::Malformed, "{body}");
    }
    let items = |body: &str| {
        let message = Message::signed("sendgrid", &[("a", message::P256_KEY)], body);
        Rejection::from(&message.read_all().unwrap_err())
    };
    assert_eq!(items(r#"[{"sg_event_id":"e1"}]"#), Rejection::Malformed);
    assert_eq!(items("[]"), Rejection::Malformed);
    assert_eq!(
        items(r#"[{"sg_event_id":"e1","sg_event_id":"e2","event":"open"}]"#),
        Rejection::Unreadable
    );
}

/// I11: a value that we only show is shortened, left out or flagged; it refuses neither its event nor its neighbours.
#[test]
fn a_value_that_breaks_a_bound_refuses_no_event() {
    let read = |fields: &str| {
        let body = format!(r#"{{"event_id":"1","event":"e",{fields}}}"#);
        Message::signed("generic-hmac", &[("a", "secret")], &body)
            .read()
            .unwrap()
    };
    let notes = |event: &Event| {
        let found = event.attributes.iter().find(|(name, _)| name == READING_NOTES);
        found.map(|(_, notes)| notes.clone()).unwrap_or_default()
    };
    let attribute = |event: &Event, wanted: &str| {
        let found = event.attributes.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    // Amounts that are none.
    for fields in [
        r#""amount":"x","currency":"INR""#,
        r#""amount":1.5,"currency":"INR""#,
        r#""amount":9007199254740992,"currency":"INR""#,
        r#""amount":1e999,"currency":"INR""#,
        r#""amount":123456789012345678901234567890,"currency":"INR""#,
        r#""amount":true,"currency":"INR""#,
        r#""amount":1,"currency":"RUPEE""#,
        r#""amount":1,"currency":"\ud800""#,
    ] {
        let event = read(fields);
        assert_eq!(event.amount, None, "{fields}");
        assert!(
            notes(&event).starts_with("amount: left out: `"),
            "{fields}: {}",
            notes(&event)
        );
    }
    let negative = read(r#""amount":-5,"currency":"INR""#);
    assert_eq!(negative.amount.unwrap().minor_units(), -5);
    assert_eq!(notes(&negative), "", "nothing is noted of what is read as it was sent");
    assert_eq!(
        read(r#""amount":1.0,"currency":"INR""#).amount.unwrap().minor_units(),
        1
    );

    // A text too long, with half of a surrogate pair, with a NUL, a number that no float holds.
    let long = "x".repeat(1025);
    let shortened = attribute(&read(&format!(r#""user_id":"{long}""#)), "customer");
    assert!(shortened.len() <= 1024 && shortened.starts_with("xxx") && shortened.contains('…'));
    assert_ne!(
        shortened,
        attribute(&read(&format!(r#""user_id":"{long}y""#)), "customer"),
        "two customers never become one"
    );
    let event = read(r#""user_id":"a\udc00","redemption_id":18446744073709551616.5"#);
    assert!(attribute(&event, "customer").starts_with('a'));
    assert!(notes(&event).contains("customer: shortened"), "{}", notes(&event));
    assert_eq!(
        attribute(&event, "operation"),
        "18446744073709551616.5",
        "a number is its digits"
    );
    assert_eq!(attribute(&read(r#""user_id":"a\u0000b""#), "customer"), "a\0b");

    // An instant that is none decides nothing.
    for at in [
        r#""soon""#,
        "1e999",
        "99999999999999",
        "-1e30",
        r#""2024-13-01T00:00:00Z""#,
    ] {
        let event = read(&format!(r#""timestamp":{at}"#));
        assert_eq!(event.occurred_at, None, "{at}");
        assert!(notes(&event).contains("occurred_at: `"), "{at}: {}", notes(&event));
    }
}

/// The names of an event may be of any length and form: what is shortened stays a name of its own.
#[test]
fn a_name_that_breaks_a_bound_stays_a_name_of_its_own() {
    let read = |id: &str, event_type: &str, subject: &str| {
        let body = format!(r#"{{"event_id":{id},"event":{event_type},"redemption_id":{subject}}}"#);
        Message::signed("generic-hmac", &[("a", "secret")], &body)
            .read()
            .unwrap()
    };
    let quoted = |text: &str| format!("\"{text}\"");
    let long = quoted(&"m".repeat(998));
    let one = read("\"1\"", "\"e\"", &long);
    let subject = one.subject.as_ref().unwrap().as_str();
    assert!(
        subject.len() <= 255 && subject.starts_with("mmm") && subject.contains("…sha256:"),
        "{subject}"
    );
    assert_eq!(
        one.subject,
        read("\"2\"", "\"e\"", &long).subject,
        "an ordering key is the same each time"
    );
    let other = quoted(&format!("{}n", "m".repeat(997)));
    assert_ne!(one.subject, read("\"1\"", "\"e\"", &other).subject);
    let ids = [
        long.clone(),
        other,
        quoted("1\\n"),
        quoted("1\\u0000"),
        quoted("\\ud800"),
        quoted("\\ud801"),
        quoted("1"),
        "1.0".into(),
        "1.00".into(),
        "123456789012345678901234567890123456789012345".into(),
        "123456789012345678901234567890123456789012346".into(),
        "1e400".into(),
        "1e401".into(),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for id in &ids {
        let event = read(id, "\"e\"", "\"s\"");
        assert!(seen.insert(event.id.as_str().to_owned()), "{id} is read as another");
    }
    assert_eq!(
        read("123456789012345678901234567890", "\"e\"", "1").id.as_str(),
        "123456789012345678901234567890"
    );
    let typed = read("\"1\"", &long, "1");
    assert!(typed.event_type.as_str().len() <= 127 && typed.event_type.as_str().starts_with("mmm"));
}

/// Of a batch as of an event: one bad value spoils nothing beside it.
#[test]
fn a_value_that_breaks_a_bound_refuses_no_neighbour() {
    let reason = "552 no ".repeat(185);
    let body = format!(
        r#"[{{"sg_event_id":"e1","event":"delivered"}},{{"sg_event_id":"e2","event":"bounce","reason":"{reason}","timestamp":1e99}}]"#
    );
    let events = Message::signed("sendgrid", &[("a", message::P256_KEY)], &body)
        .read_all()
        .unwrap();
    assert_eq!(events.len(), 2);
    assert!(!attributes(&events[0]).iter().any(|(name, _)| *name == READING_NOTES));
    let (_, shown) = *attributes(&events[1])
        .iter()
        .find(|(name, _)| *name == "reason")
        .unwrap();
    assert!(shown.starts_with("552 no 552") && shown.contains('…'), "{shown}");
    let (_, notes) = *attributes(&events[1])
        .iter()
        .find(|(name, _)| *name == READING_NOTES)
        .unwrap();
    assert!(
        notes.contains("reason: shortened") && notes.contains("from 1295 bytes"),
        "{notes}"
    );
    assert!(notes.contains("occurred_at"), "{notes}");

    // A form's field may be bytes that are no text, and a `%` may stand for itself.
    let form = "MessageSid=SM1&MessageStatus=delivered&To=%ff%2B1&From=100%&SmsStatus=%E4";
    let event = Message::signed("twilio", &[("a", "s")], form).read().unwrap();
    assert!(
        attributes(&event)
            .iter()
            .any(|(name, value)| *name == "customer" && value.contains("…sha256:"))
    );
    assert!(
        attributes(&event)
            .iter()
            .any(|(name, value)| *name == "from" && *value == "100%")
    );
}

#[test]
fn a_header_that_came_twice_refuses_only_where_it_names() {
    let mut message = Message::signed("github", &[("a", "s")], r#"{"repository":{"full_name":"a/b"}}"#);
    message.set("x-github-event", "push");
    message.headers.push(("x-github-event".into(), b"ping".to_vec()));
    assert_eq!(message.read().unwrap_err().reason(), "repeated-header");
    let mut twilio = Message::sample("twilio");
    for token in ["1", "2"] {
        twilio.headers.push(("i-twilio-idempotency-token".into(), token.into()));
    }
    let event = twilio.read().unwrap();
    assert!(attributes(&event).iter().any(|(name, _)| *name == READING_NOTES));
}

#[test]
fn a_byte_order_mark_before_json_is_skipped_and_signed() {
    let text = r#"{"event_id":"1","event":"e"}"#;
    let message = Message::signed("generic-hmac", &[("a", "secret")], &format!("\u{feff}{text}"));
    let event = message.read().unwrap();
    assert_eq!((event.id.as_str(), &event.payload[..]), ("1", text.as_bytes()));
    let mut without = message.clone();
    without.body = text.into();
    assert_eq!(
        without.reason(),
        "no-match",
        "the signature is over the bytes as they came"
    );
    let adyen = Message::signed("adyen", &[("a", key("adyen"))], message::body("adyen"));
    let mut marked = adyen.clone();
    marked.body = ["\u{feff}".as_bytes(), &adyen.body].concat();
    assert_eq!(
        marked.read_all().unwrap().len(),
        1,
        "where fields are signed, the mark is none of them"
    );
}

/// GitHub sends a form when its webhook is set up so, Slack when somebody presses a button.
#[test]
fn json_in_a_field_of_a_form_is_the_event_where_the_profile_says_so() {
    let json = r#"{"action":"created","repository":{"full_name":"a/b"},"note":"50% & more"}"#;
    let form = format!("payload={}", percent(json));
    let read = |body: &str| {
        let mut message = Message::signed("github", &[("a", "s")], body);
        message.set("x-github-event", "star");
        message.read()
    };
    let event = read(&form).unwrap();
    assert_eq!(event.subject.as_ref().unwrap().as_str(), "a/b");
    assert_eq!(&event.payload[..], json.as_bytes(), "a plugin is given the JSON");
    assert_eq!(read(json).unwrap().subject, event.subject);
    assert_eq!(read("payload=%7B").unwrap_err().reason(), "not-json");
    assert_eq!(read("other=%7B%7D").unwrap_err().reason(), "not-a-form");
    assert_eq!(read(&format!("{form}&{form}")).unwrap_err().reason(), "repeated-key");
    let slack = r#"{"type":"block_actions","trigger_id":"12.34.ab","user":{"id":"U1"},"team":{"id":"T1"},"channel":{"id":"C1"}}"#;
    let event = Message::signed("slack", &[("a", "s")], &format!("payload={}", percent(slack)))
        .read()
        .unwrap();
    assert_eq!(
        (event.id.as_str(), event.event_type.as_str()),
        ("12.34.ab", "block_actions")
    );
    // Where the profile says nothing, a form is no event.
    let stripe = Message::signed("stripe", &[("a", "s")], &format!("payload={}", percent("{}")));
    assert_eq!(stripe.read().unwrap_err().reason(), "not-json");
}

fn percent(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

#[test]
fn nesting_is_bounded_to_the_level() {
    let read = |levels: usize, wide: usize| {
        let nested = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let body = format!(
            r#"{{"event_id":"1","event":"e","x":{nested},"y":[{}0]}}"#,
            "[],".repeat(wide)
        );
        Message::signed("generic-hmac", &[("a", "secret")], &body)
            .read()
            .map(|_| ())
    };
    // The document's own object is a level.
    for wide in [0, 200] {
        assert_eq!(read(JSON_DEPTH_MAX - 1, wide), Ok(()), "{wide}");
        assert_eq!(read(JSON_DEPTH_MAX, wide), Err(Unreadable::TooDeep), "{wide}");
        assert_eq!(read(100_000, wide), Err(Unreadable::TooDeep), "{wide}");
    }
}

#[test]
fn a_bad_profile_is_refused_where_it_is_bad() {
    let good = include_str!("../profiles/standard-webhooks.toml");
    let check = |from: &str, to: &str, expect: &str| {
        assert!(good.contains(from), "{from}");
        let error = Profile::from_toml(&good.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}\nexpected: {expect}");
    };
    check(
        "version = 2",
        "version = 2\ncolour = 1",
        "line 4, column 1: unknown field `colour`",
    );
    check(
        "grammar = \"list\"",
        "grammar = \"lisp\"",
        "line 8, column 11: unknown variant `lisp`",
    );
    check(
        "algorithm = \"hmac-sha256\"",
        "algorithm = \"credential\"",
        "a shared text without a signature is a `[credential]`",
    );
    check(
        "from = \"header:webhook-timestamp\"",
        "from = \"header:date\"",
        "line 25, column 8: `header:date` is not a signed part",
    );
    check(".{body}\"", "\"", "the signed bytes do not contain the body");
    check("{body}", "{payload}", "`{payload}` is no part; there are body,");
    check("{body}", "{body", "a `{` has no `}` after it");
    check("-id}.{header", "-id}{header:x-b}{header", "stand side by side");
    check(
        "id = \"header:webhook-id\"",
        "id = \"header:x-id\"",
        "`id_signed = false`",
    );
    check(
        "id = \"header:webhook-id\"",
        "id = \"header:webhook-id\"\nid_signed = false",
        "by the rules above it is true",
    );
    check(
        "subject = \"/data/id\"",
        "subject = \"data.id\"",
        "`data.id` is no place",
    );
    check(
        "subject = \"/data/id\"",
        "family = \"payment\"",
        "the family `payment` has no table of labels",
    );
    check(
        "tolerance_s = 300",
        "tolerance_s = 0",
        "the tolerance is 1 to 86400 seconds",
    );
    check(
        "headers = [\"webhook-signature\"]",
        "headers = [\"Webhook-Signature\"]",
        "is not a header name in lower case",
    );
    check(
        ", private_prefix = \"whsk_\"",
        "",
        "`private_prefix` belongs to ed25519 keys",
    );
}

#[test]
fn parts_of_the_grammar_that_no_shipped_profile_uses_work() {
    let profile = |signed: &str, algorithm: &str| {
        let text = format!(
            "name = \"own\"\nversion = 1\ntitle = \"Own\"\n[signature]\nheaders = [\"x-sig\"]\ngrammar = \"plain\"\nsigned = \"{signed}\"\n\
             [[signature.scheme]]\nname = \"mac\"\nalgorithm = \"{algorithm}\"\nencoding = \"hex\"\nkey = {{ decode = \"hex\" }}\n\
             [event]\nid = \"/id\"\ntype = \"/type\"\namount = \"/amount\"\namount_unit = \"major\"\ncurrency = \"literal:EUR\"\n"
        );
        Arc::new(Profile::from_toml(&text).unwrap())
    };
    let message = |profile: &Arc<Profile>, body: &str, signed: &str| {
        // Signing the joined bytes as a body of `{body}` gives the signature that a sender of the other template would give.
        let plain = self::tests_profile(profile, signed);
        let mut message = plain;
        message.body = body.as_bytes().to_vec();
        message.profile = profile.clone();
        message
    };
    fn body_of(text: &str) -> String {
        use std::fmt::Write as _;
        let digest = tollgate_core::ids::Digest::of(text.as_bytes());
        digest.0.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
    let body = r#"{"id":"1","type":"t","amount":"12.5"}"#;
    let digest = profile("{body-sha256-hex}", "hmac-sha512");
    let event = message(&digest, body, &body_of(body)).read().unwrap();
    assert_eq!(event.amount.unwrap().to_string(), "12.50 EUR");
    let field = profile("{json:/id}:{body}", "hmac-sha512");
    assert_eq!(message(&field, body, &format!("1:{body}")).reason(), "verified");
    assert_eq!(message(&field, "{}", "1:{}").reason(), "unreadable-body");
}

/// A message whose signature is HMAC-SHA512, in hexadecimal, over `signed` alone.
fn tests_profile(like: &Profile, signed: &str) -> Message {
    let text = format!(
        "name = \"{}\"\nversion = 1\ntitle = \"Own\"\n[signature]\nheaders = [\"x-sig\"]\ngrammar = \"plain\"\nsigned = \"{{body}}\"\n\
         [[signature.scheme]]\nname = \"mac\"\nalgorithm = \"hmac-sha512\"\nencoding = \"hex\"\nkey = {{ decode = \"hex\" }}\n\
         [event]\nid = \"/id\"\ntype = \"/type\"\n",
        like.name
    );
    Message::signed_by(Arc::new(Profile::from_toml(&text).unwrap()), &[("a", "00ff10")], signed)
}

proptest! {
    /// Whatever single bit changes in the body, the signature, the signed instant or a signed id, nothing verifies any more;
    /// only the case of hexadecimal digits and of `Bearer` does not matter.
    #[test]
    fn no_flipped_bit_verifies(provider in 0_usize..64, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let names = provable();
        let provider = names[provider % names.len()];
        let message = Message::sample(provider);
        let mut bent = message.clone();
        let unsigned_id = !message.profile.id_is_signed();
        let proofs = ["signature", "hmac-sha256", "signature-256", "sha256", "timestamp", "authorization", "input", "digest"];
        let mut bytes: Vec<&mut u8> = Vec::new();
        if message.profile.body_is_signed() {
            bytes.extend(bent.body.iter_mut());
        }
        for (name, value) in &mut bent.headers {
            // A key that the tenant gave needs no place to be fetched from, so nobody looks at that header.
            let is_proof = proofs.iter().any(|end| name.ends_with(end));
            if (is_proof || !unsigned_id) && name != "paypal-cert-url" {
                bytes.extend(value.iter_mut());
            }
        }
        if bytes.is_empty() {
            // The proof is in the body (Adyen, Mailgun): `traps.rs` bends it field by field.
            return Ok(());
        }
        let at = place.index(bytes.len());
        *bytes[at] ^= 1 << bit;
        let folded = |message: &Message| {
            message.headers.iter().map(|(name, value)| (name.clone(), value.to_ascii_lowercase())).collect::<Vec<_>>()
        };
        let only_case = folded(&bent) == folded(&message) && bent.body == message.body;
        prop_assert!(bent.verify().is_err() || only_case, "{provider}: {:?}", bent.headers);
    }

    /// Every profile verifies what it signs, whatever the body; a signature inside a body needs a body that can hold it.
    #[test]
    fn every_profile_verifies_what_it_signs(provider in 0_usize..64, body in "\\PC{0,200}") {
        let names = provable();
        let provider = names[provider % names.len()];
        prop_assume!(!["adyen", "mailgun", "twilio", "wise"].contains(&provider));
        let message = Message::signed(provider, &[("a", key(provider))], &body);
        prop_assert_eq!(message.reason(), "verified");
    }

    /// No bytes from a peer make verification, explanations or reading panic.
    #[test]
    fn nothing_that_a_peer_sends_is_fatal(
        provider in 0_usize..64,
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 4),
        body in prop::collection::vec(any::<u8>(), 0..200),
        query in "[a-zA-Z0-9%&=]{0,40}",
    ) {
        let names = provable();
        let provider = names[provider % names.len()];
        let mut message = Message::sample(provider);
        for ((_, value), other) in message.headers.iter_mut().zip(values) {
            *value = other;
        }
        message.body = body;
        message.query = Some(query);
        if message.verify().is_err() {
            message.explain();
        }
    }

    /// No profile that a tenant writes is fatal, whatever piece of it is missing or doubled.
    #[test]
    fn no_profile_text_is_fatal(
        provider in 0_usize..64,
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        text in r#"[\[\]{}:*/"=a-z .\n]{0,12}"#,
    ) {
        let texts = [
            include_str!("../profiles/adyen.toml"),
            include_str!("../profiles/paypal.toml"),
            include_str!("../profiles/plaid.toml"),
            include_str!("../profiles/svix.toml"),
            include_str!("../profiles/cloudevents-http.toml"),
            include_str!("../profiles/rfc9421-http-message-signatures.toml"),
        ];
        let good = texts[provider % texts.len()];
        let chars: Vec<char> = good.chars().collect();
        let (from, to) = (from.index(chars.len()), to.index(chars.len()));
        let bad: String = chars[..from.min(to)].iter().copied().chain(text.chars()).chain(chars[from.max(to)..].iter().copied()).collect();
        if let Err(error) = Profile::from_toml(&bad) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// No text is fatal to the reader, and whatever it takes serde_json takes too.
    #[test]
    fn the_reader_takes_json_only(body in r#"[\[\]{}:,"a-e0-9 \\.-]{0,60}"#) {
        let read = Message::signed("generic-hmac", &[("a", "secret")], &body).read();
        // Its grammar alone: a number may be larger than any reader holds.
        let parsed = serde_json::from_str::<serde::de::IgnoredAny>(&body);
        prop_assert_eq!(matches!(read, Err(Unreadable::NotJson { .. })), parsed.is_err());
    }
}
