//! Verification, signing and reading by the shipped profiles: known answers, tables of rules, properties.

use std::sync::Arc;

use crate::message::{Message, P256_KEY, key, provable, secret};
use proptest::prelude::*;
use tollgate_core::envelope::{READING_NOTES, Unreadable};
use tollgate_core::event::Event;
use tollgate_core::ids::KeyId;
use tollgate_core::lifecycle;
use tollgate_core::limits::{JSON_DEPTH_MAX, SIGNATURE_ENTRIES_MAX};
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::secret::{NO_PARAMETERS, SourceSecret};
use tollgate_core::sign::{SignError, SignInput, sign};
use tollgate_core::time::UnixMillis;
use tollgate_core::vector::{self, Outcome};
use tollgate_core::verify::{Keyring, Unproven, verify};

const REWARDED: &str = include_str!("../../../../tests/samples/voucherify-customer.rewarded.json");

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

/// What would be refused at the other end is not signed.
#[test]
fn an_id_that_could_flow_into_another_part_is_not_signed() {
    let input = SignInput {
        body: b"",
        id: "a.b",
        at: UnixMillis(0),
        url: None,
    };
    let profile = &shipped()["standard-webhooks"];
    let refused = sign(profile, &[secret("a", key("svix"))], &NO_PARAMETERS, &input);
    let (id, text) = ("a.b".into(), ".".into());
    assert_eq!(refused, Err(SignError::ForbiddenId { id, text }));
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

/// One set is as good as the other; `messages.toml` has what comes of a mixture.
#[test]
fn either_set_of_headers_proves() {
    let mut message = Message::signed("svix", &[("a", key("svix"))], "{}");
    for (name, _) in &mut message.headers {
        *name = name.replace("svix-", "webhook-");
    }
    assert_eq!(message.reason(), "verified");
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
fn a_keyring_serves_the_profile_it_was_made_for() {
    let message = Message::signed("voucherify", &[("a", "s")], "{}");
    let other = Keyring::new(&shipped()["stripe"], &message.secrets).unwrap();
    let unproven = message.request(|_, request| verify(&message.profile, &other, request).unwrap_err());
    assert_eq!(unproven.reason(), "foreign-keyring");
}

/// An attribute's value; an absent one is empty.
fn attribute(event: &Event, wanted: &str) -> String {
    let found = event.attributes.iter().find(|(name, _)| name == wanted);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

#[test]
fn i12_a_source_can_know_the_currency_that_its_provider_does_not_send() {
    let mut message = Message::signed("voucherify", &[("a", "secretKey")], REWARDED);
    let usd = tollgate_core::money::Currency::new("USD").unwrap();
    message.profile = Arc::new((*message.profile).clone().with_currency(usd));
    assert_eq!(message.read().unwrap().amount.unwrap().to_string(), "29.00 USD");
}

/// As each provider publishes them, in its profile's `[amounts] source`.
#[test]
fn i12_a_profile_has_its_providers_own_minor_units() {
    for (provider, expect) in [
        ("adyen", "CLP 2 CVE 0 IDR 0 ISK 2 UGX 0 EUR 2"),
        ("checkout-com", "CLP 2 ISK 0 KWD 3"),
        ("voucherify", "JPY 2 KWD 2"),
        ("razorpay", "JPY 0"),
        ("square", "JPY 0"),
    ] {
        let words: Vec<_> = expect.split(' ').collect();
        for pair in words.chunks(2) {
            let currency = tollgate_core::money::Currency::new(pair[0]).unwrap();
            let exponent = shipped()[provider].amounts().exponent(currency);
            assert_eq!(exponent.to_string(), pair[1], "{provider} {currency}");
        }
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

#[test]
fn an_amount_of_more_parts_than_are_added_up_is_none() {
    let part = r#"{"kind":"refund","status":"success","amount":"1.00","currency":"USD"}"#;
    let parts = vec![part; 10_001].join(",");
    let body = format!(r#"{{"id":509,"admin_graphql_api_id":"r","order_id":450,"transactions":[{parts}]}}"#);
    let mut message = Message::signed("shopify", &[("a", "secret")], &body);
    message.set("x-shopify-topic", "refunds/create");
    let event = message.read().unwrap();
    assert_eq!(event.amount, None);
    assert!(attribute(&event, READING_NOTES).contains("more than are added up"));
}

/// A try that failed is no deed: whatever Adyen says did not succeed reads as what it was before, or as failed.
#[test]
fn a_notification_of_a_failed_try_never_reads_as_done() {
    let file: toml::Table = include_str!("../../profiles/adyen.toml").parse().unwrap();
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

#[test]
fn normal_life_of_money_is_never_held() {
    for way in [
        "payout pending in-transit paid failed",
        "payout in-transit paid failed returned",
        "payout created canceled returned",
        "payment created failed authorized captured partially-refunded refunded",
        "payment captured partially-refunded disputed upheld",
        "payment captured disputed upheld lost won",
        "payment captured refunded disputed",
        "payment authorized captured capture-failed",
        "payment authorized canceled",
        "payment captured disputed refunded",
        "refund pending completed failed",
        "order pending partially-paid paid partially-refunded refunded",
        "order paid partially-paid paid",
        "order pending canceled",
    ] {
        let mut words = way.split(' ');
        let lifecycle = &lifecycle::shipped()[words.next().unwrap()];
        let mut current: Option<tollgate_core::ids::Status> = None;
        for status in words {
            let status = status.parse().unwrap();
            match lifecycle.transition(current.as_ref(), &status) {
                lifecycle::Transition::Apply => current = Some(status),
                lifecycle::Transition::Superseded { .. } => {}
                held => panic!("{way}: {held:?}"),
            }
        }
    }
}

#[test]
fn a_test_event_is_accepted_where_the_source_says_so() {
    let profile = &shipped()["stripe"];
    let both = Profile::clone(profile).with_accept(tollgate_core::mode::Accept::Both);
    let why_not = |profile: &Profile, mode: &str| {
        let attributes: Vec<_> = (!mode.is_empty())
            .then(|| ("mode".into(), mode.into()))
            .into_iter()
            .collect();
        profile.accept().why_not(&attributes)
    };
    assert!(why_not(profile, "test").is_some_and(|why| why.contains("accept")));
    assert_eq!(why_not(&both, "test"), None);
    assert_eq!(why_not(profile, "live"), None);
    assert_eq!(why_not(profile, ""), None, "who says nothing is live");
}

#[test]
fn a_body_that_is_no_text_is_no_event() {
    let mut message = Message::signed("generic-hmac", &[("a", "secret")], "");
    message.body = b"{\"event_id\":\"\xff\"}".to_vec();
    let input = SignInput {
        body: &message.body,
        id: "",
        at: message.received_at,
        url: None,
    };
    let signed = sign(&message.profile, &message.secrets, &NO_PARAMETERS, &input).unwrap();
    message.set("x-signature", &signed.headers[0].1);
    assert_eq!(message.read().unwrap_err(), Unreadable::NotUtf8 { at: 13 });
}

/// I11: `messages.toml` has the other values that break a bound.
#[test]
fn i11_a_text_too_long_is_shortened_to_one_of_its_own() {
    let read = |customer: &str| {
        let body = format!(r#"{{"event_id":"1","event":"e","user_id":"{customer}"}}"#);
        let event = Message::signed("generic-hmac", &[("a", "secret")], &body)
            .read()
            .unwrap();
        attribute(&event, "customer")
    };
    let long = "x".repeat(1025);
    let shortened = read(&long);
    assert!(shortened.len() <= 1024 && shortened.starts_with("xxx") && shortened.contains('…'));
    assert_ne!(shortened, read(&format!("{long}y")), "two customers never become one");
    assert!(read("a\\udc00").starts_with('a'));
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
fn i11_a_value_that_breaks_a_bound_refuses_no_neighbour() {
    let reason = "552 no ".repeat(185);
    let body = format!(
        r#"[{{"sg_event_id":"e1","event":"delivered"}},{{"sg_event_id":"e2","event":"bounce","reason":"{reason}","timestamp":1e99}}]"#
    );
    let message = Message::signed("sendgrid", &[("a", P256_KEY)], &body);
    let events = message.read_all().unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(attribute(&events[0], READING_NOTES), "");
    let shown = attribute(&events[1], "reason");
    assert!(shown.starts_with("552 no 552") && shown.contains('…'), "{shown}");
    let notes = attribute(&events[1], READING_NOTES);
    for said in ["reason: shortened", "from 1295 bytes", "occurred_at"] {
        assert!(notes.contains(said), "{notes}");
    }

    // A form's field may be bytes that are no text, and a `%` may stand for itself.
    let form = "MessageSid=SM1&MessageStatus=delivered&To=%ff%2B1&From=100%&SmsStatus=%E4";
    let event = Message::signed("twilio", &[("a", "s")], form).read().unwrap();
    assert!(attribute(&event, "customer").contains("…sha256:"));
    assert_eq!(attribute(&event, "from"), "100%");
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
    for (body, reason) in [
        ("payload=%7B", "not-json"),
        ("other=%7B%7D", "not-a-form"),
        (&format!("{form}&{form}"), "repeated-key"),
    ] {
        assert_eq!(read(body).unwrap_err().reason(), reason, "{body}");
    }
    let slack = r#"{"type":"block_actions","trigger_id":"12.34.ab","user":{"id":"U1"},"team":{"id":"T1"},"channel":{"id":"C1"}}"#;
    let slack = Message::signed("slack", &[("a", "s")], &format!("payload={}", percent(slack)));
    let event = slack.read().unwrap();
    assert_eq!(
        (event.id.as_str(), event.event_type.as_str()),
        ("12.34.ab", "block_actions")
    );
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
            include_str!("../../profiles/adyen.toml"),
            include_str!("../../profiles/paypal.toml"),
            include_str!("../../profiles/plaid.toml"),
            include_str!("../../profiles/svix.toml"),
            include_str!("../../profiles/cloudevents-http.toml"),
            include_str!("../../profiles/rfc9421-http-message-signatures.toml"),
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
