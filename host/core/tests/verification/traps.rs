//! The traps that providers' schemes set, each with a test of its own: what was measured in their libraries must not happen here.
//! And what the families beyond a header's HMAC must hold.

use std::sync::Arc;

use crate::message::{Message, P256_JWK, P256_KEY, RSA_KEY, body, key, parameters, provable, secret};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tollgate_core::admission::{Admission, Decision, Existing, Identity, decide};
use tollgate_core::answer::{self, Happening, Rejection};
use tollgate_core::challenge;
use tollgate_core::envelope::Unreadable;
use tollgate_core::explain::Differs;
use tollgate_core::ids::{Digest, ReceiptId};
use tollgate_core::limits::{BATCH_ITEMS_MAX, FETCHED_KEY_MS_MAX, FETCHED_KEY_RENEWED_MS_MIN, FETCHED_KEYS_MAX};
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::secret::{NO_PARAMETERS, Parameters, Secret};
use tollgate_core::time::UnixMillis;
use tollgate_core::vector;
use tollgate_core::verify::{Credential, KeyError, Keyring, Unproven, verify};

// What is signed, and what is not.

/// What a profile leaves open is known, and changes by a decision only.
#[test]
fn what_profiles_leave_open_is_known() {
    type Known<'a> = (&'a str, fn(&Profile) -> bool, &'a str);
    let known: [Known<'_>; 5] = [
        (
            "an id that no signature holds",
            |profile| !profile.id_is_signed(),
            "braze cloudevents-http github hookdeck ietf-idempotency-key mollie-classic razorpay shopify talon-one",
        ),
        (
            "a body that no signature holds",
            |profile| !profile.body_is_signed(),
            "adyen braze cloudevents-http ietf-idempotency-key mailgun mollie-classic paypal talon-one",
        ),
        (
            "a URL that is signed",
            Profile::signs_url,
            "rfc9421-http-message-signatures square twilio",
        ),
        (
            "a word for test and live",
            Profile::tells_mode,
            "adyen adyen-platform mollie paypal plaid shopify stripe wise",
        ),
        (
            "no known answer: no scheme of its own, or nothing published",
            |profile| {
                vector::of(profile)
                    .iter()
                    .all(|vector| vector.refused.is_some() || vector.not_run.is_some())
            },
            "adyen-platform braze cloudevents-http generic-hmac-timestamped ietf-idempotency-key meta mollie-classic \
             rfc9421-http-message-signatures talon-one voucherify-2018 voucherify-raw",
        ),
    ];
    for (what, holds, expect) in known {
        let profiles = shipped().values().filter(|profile| holds(profile));
        let names: Vec<_> = profiles.map(|profile| profile.name.as_str()).collect();
        assert_eq!(names.join(" "), expect, "{what}");
    }
}

/// The digest that is kept beside an unsigned id tells two deliveries for one.
#[test]
fn the_bytes_beside_an_unsigned_id_stay_the_same() {
    let message = Message::signed("razorpay", &[("a", "s")], r#"{"event":"payment.captured","id":"1"}"#);
    let mut replayed = message.clone();
    replayed.set("x-razorpay-event-id", "another");
    let (first, second) = (message.read().unwrap(), replayed.read().unwrap());
    assert_ne!(first.id, second.id);
    assert_eq!(Digest::of(&first.payload), Digest::of(&second.payload));
}

fn identity(message: &Message) -> Identity {
    message.verified(|verified| verified.identity(0))
}

/// What the store would decide about `second` after `first`.
fn decision(first: &Message, second: &Message) -> Decision {
    let admission = |message: &Message| {
        let event = message.read().unwrap();
        let proof = message.verified(|verified| verified.proof().clone());
        let key = Secret::new([1; 32]);
        Admission::of(&key, event, identity(message), proof, None, &mut std::iter::empty())
    };
    let (first, second) = (admission(first), admission(second));
    let known = (first.receipt == second.receipt).then(|| match first.identity {
        Identity::EventId => Existing::ById {
            body_commitment: first.body_commitment,
        },
        Identity::SignedMessage(_) => Existing::ByMessage {
            id: first.event.id.clone(),
            event_type: first.event.event_type.clone(),
        },
    });
    decide(&second, known, None)
}

#[test]
fn one_capture_is_one_event_under_whatever_unsigned_id_or_type() {
    let headers = [
        ("razorpay", "x-razorpay-event-id", ""),
        ("github", "x-github-delivery", "x-github-event"),
        ("shopify", "x-shopify-webhook-id", "x-shopify-topic"),
        ("hookdeck", "x-hookdeck-eventid", ""),
    ];
    for (provider, id, event_type) in headers {
        let mut captured = Message::signed(
            provider,
            &[("a", key(provider))],
            r#"{"event":"payment.captured","type":"x","repository":{"full_name":"a/b"}}"#,
        );
        captured.set(id, "first");
        if !event_type.is_empty() {
            captured.set(event_type, "orders/create");
        }
        let mut again = captured.clone();
        again.set("x-retry", "1");
        assert_eq!(decision(&captured, &again), Decision::Same, "{provider}");
        let mut renamed = captured.clone();
        renamed.set(id, "second");
        assert_eq!(decision(&captured, &renamed), Decision::SuspectedReplay, "{provider}");
        if !event_type.is_empty() {
            let mut retyped = captured.clone();
            retyped.set(event_type, "orders/paid");
            assert_eq!(decision(&captured, &retyped), Decision::SuspectedReplay, "{provider}");
        }
    }
}

/// One signature fits every spelling of a form and every way to cut its fields, so they are one event.
#[test]
fn spelling_a_form_otherwise_or_moving_its_fields_gives_no_new_event() {
    let captured = Message::signed("twilio", &[("a", "s")], "CallSid=CA1&CallStatus=in-progress&Digits=1");
    let with = |body: &str| {
        let mut message = captured.clone();
        message.body = body.as_bytes().to_vec();
        message
    };
    for body in [
        "%43allSid=CA1&CallStatus=in-progress&Digits=1",
        "Digits=1&CallSid=CA1&CallStatus=in-progress",
        "CallSid=CA1CallStatusin-progress&Digits=1",
        "CallSidCA1CallStatusin-progressDigits1=",
        "CallSidCA1CallStatusin-progressDigits%31=",
    ] {
        let bent = with(body);
        assert_eq!(identity(&bent), identity(&captured), "{body}");
        assert_eq!(decision(&captured, &bent), Decision::SuspectedReplay, "{body}");
    }
    assert_eq!(decision(&captured, &captured), Decision::Same);
    let next = Message::signed("twilio", &[("a", "s")], "CallSid=CA1&CallStatus=in-progress&Digits=9");
    assert!(
        matches!(decision(&captured, &next), Decision::New(_)),
        "a second Gather is another event"
    );
    assert_ne!(next.read().unwrap().id, captured.read().unwrap().id);
}

/// What is signed tells two items apart, and what is not signed does not.
#[test]
fn signed_fields_tell_items_apart_and_unsigned_ones_do_not() {
    let text = body("adyen");
    let of = |text: &str| Message::signed("adyen", &[("a", key("adyen"))], text);
    let first = of(text);
    let mut redated = first.clone();
    let altered = String::from_utf8(first.body.clone())
        .unwrap()
        .replace("2024-01-01", "2024-02-02");
    redated.body = altered.into_bytes();
    assert_ne!(first.body, redated.body);
    assert_eq!(decision(&first, &redated), Decision::Same);
    for (from, to) in [("TestMerchant", "OtherMerchant"), ("1130", "1131")] {
        assert!(text.contains(from));
        let other = of(&text.replace(from, to));
        assert!(matches!(decision(&first, &other), Decision::New(_)), "{to}");
    }
}

/// Of each provider's every event a plugin's author can take the attribute `operation` for the key of an effect.
#[test]
fn every_event_of_every_provider_has_an_operation() {
    for profile in shipped().values() {
        for (types, _, operation) in profile.operations() {
            assert!(!operation.is_empty(), "{}: {types:?}", profile.name);
        }
    }
    let star = |who: &str, action: &str| {
        let body =
            format!(r#"{{"action":"{action}","repository":{{"full_name":"a/b"}},"sender":{{"login":"{who}"}}}}"#);
        let mut message = Message::signed("github", &[("a", "s")], &body);
        message.set("x-github-event", "star");
        let event = message.read().unwrap();
        let operation = event.attributes.iter().find(|(name, _)| name == "operation");
        (event.subject, operation.map(|(_, value)| value.clone()))
    };
    let [ann, bob, unstarred] = [star("ann", "created"), star("bob", "created"), star("ann", "deleted")];
    assert_ne!(ann, bob, "two people's stars are two operations");
    assert_eq!(ann.0, unstarred.0);
    assert_ne!(ann.1, unstarred.1);
}

/// PayPal's checksum is unsigned and decimal: the published one of a known body, which has its highest bit set.
#[test]
fn a_checksum_with_its_highest_bit_set_is_the_published_one() {
    let crc = vector::shipped()
        .iter()
        .find(|vector| vector.id == "paypal-crc32")
        .unwrap();
    let signed = Message::signed("paypal", &[("a", RSA_KEY)], &crc.body);
    let text = include_str!("../../profiles/paypal.toml")
        .replace("{body-crc32}", "2771810304")
        .replace("{config:webhook_id}", "WH-1");
    let own = Arc::new(Profile::from_toml(&text).unwrap());
    let mut same = Message::signed_by(own, &[("a", RSA_KEY)], &crc.body);
    same.profile = signed.profile.clone();
    same.parameters = parameters("paypal");
    for (name, value) in &signed.headers {
        if name != "paypal-transmission-sig" {
            same.set(name, std::str::from_utf8(value).unwrap());
        }
    }
    assert_eq!(same.reason(), "verified");
}

proptest! {
    /// All splits of one joined text carry its one signature; at most one of them is believed.
    #[test]
    fn adyens_joined_text_is_read_in_one_way_only(
        pieces in prop::collection::vec("[a-c]{0,2}|REPORT_AVAILABLE", 8..12),
        ends in 0_usize..3,
    ) {
        let mut pieces = pieces;
        let last = pieces.len();
        if ends > 0 {
            pieces[last - 2] = if ends == 1 { "REPORT_AVAILABLE".into() } else { "CAPTURE".into() };
        }
        let mut believed = Vec::new();
        let mut signature = None;
        for cuts in cuts(pieces.len(), 8) {
            let parts: Vec<String> = cuts.windows(2).map(|cut| pieces[cut[0]..cut[1]].join(":")).collect();
            let item = serde_json::json!({
                "pspReference": parts[0], "originalReference": parts[1], "merchantAccountCode": parts[2],
                "merchantReference": parts[3], "amount": { "value": parts[4], "currency": parts[5] },
                "eventCode": parts[6], "success": parts[7],
            });
            let text = serde_json::json!({ "notificationItems": [{ "NotificationRequestItem": item }] }).to_string();
            let message = Message::signed("adyen", &[("a", key("adyen"))], &text);
            let sent: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
            let tag = sent["notificationItems"][0]["NotificationRequestItem"]["additionalData"]["hmacSignature"].clone();
            prop_assert_eq!(signature.get_or_insert(tag.clone()), &tag, "one text, one signature");
            match message.reason() {
                "verified" => believed.push(parts),
                "forbidden-shape" => {}
                other => prop_assert!(false, "{}", other),
            }
        }
        prop_assert!(believed.len() <= 1, "{:?}", believed);
    }
}

/// Every way to put `pieces` pieces in a row into `parts` parts, as the places where parts begin and end.
fn cuts(pieces: usize, parts: usize) -> Vec<Vec<usize>> {
    if parts == 1 {
        return vec![vec![0, pieces]];
    }
    let mut all = Vec::new();
    for end in parts - 1..pieces {
        for mut cut in cuts(end, parts - 1) {
            cut.push(pieces);
            all.push(cut);
        }
    }
    all
}

/// Coinbase's platform signs the headers that it lists.
#[test]
fn listed_headers_are_signed_where_the_profile_pins_what_may_be_listed() {
    let profile = &shipped()["coinbase-cdp"];
    let json = r#"{"id":"evt_1","type":"onramp.transaction.created"}"#;
    let at = 1_700_000_000_i64;
    let send = |listed: &str, headers: &[(&str, &str)], json: &str| {
        let values: Vec<&str> = listed
            .split(' ')
            .map(|name| {
                headers
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map_or("", |(_, value)| value)
            })
            .collect();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cRe7-at-least-10").unwrap();
        mac.update(format!("{at}.{listed}.{}.{json}", values.join(".")).as_bytes());
        let tag = data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes());
        let mut message = Message::signed("coinbase-cdp", &[("a", "s3cRe7-at-least-10")], json);
        message.headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        message.set("x-hook0-signature", &format!("t={at},v0=00,h={listed},v1={tag}"));
        message
    };
    let headers = [
        ("content-type", "application/json"),
        ("x-event-id", "7d0f"),
        ("x-event-type", "onramp.transaction.created"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let all = "content-type x-event-id x-event-type";
    let message = send(all, &headers, json);
    assert_eq!(message.reason(), "verified");
    assert_eq!(message.read().unwrap().id.as_str(), "evt_1");
    assert_eq!(send("content-type", &headers, json).reason(), "verified");
    assert_eq!(
        send("x-event-type content-type", &headers, json).reason(),
        "verified",
        "in the order of the list"
    );
    assert_eq!(
        send("content-type x-forwarded-for", &headers, json).reason(),
        "unlisted-header"
    );
    assert_eq!(
        send("content-type content-type", &headers, json).reason(),
        "malformed-signature"
    );
    assert_eq!(
        send("content-type x-hook0-id", &headers, json).reason(),
        "missing-header"
    );
    let dotted = [("content-type", "application/vnd.x+json"), ("x-event-type", "a.b")];
    assert_eq!(
        send("content-type x-event-type", &dotted, json).reason(),
        "forbidden-shape"
    );
    // Nothing moves between a header and another, or the body.
    let mut moved = message.clone();
    moved.set("x-event-id", "7d0f.onramp");
    moved.set("x-event-type", "transaction.created");
    assert_eq!(moved.reason(), "forbidden-shape");
    let mut altered = message.clone();
    altered.set("x-event-type", "onramp.transaction.updated");
    assert_eq!(altered.reason(), "no-match");
    let mut bent = message.clone();
    bent.set(
        "x-hook0-signature",
        &message
            .header("x-hook0-signature")
            .replace(all, "content-type x-event-type x-event-id"),
    );
    assert_eq!(bent.reason(), "no-match");
    assert!(profile.body_is_signed() && profile.id_is_signed());
}

/// Xero's intent to receive.
#[test]
fn an_empty_batch_is_a_question_where_the_profile_says_so() {
    let text = "name = \"xero\"\nversion = 1\ntitle = \"Xero\"\n[signature]\nheaders = [\"x-xero-signature\"]\ngrammar = \"plain\"\n\
        signed = \"{body}\"\n[[signature.scheme]]\nname = \"hmac-sha256\"\nalgorithm = \"hmac-sha256\"\nencoding = \"base64\"\n\
        key = { decode = \"utf8\" }\n[batch]\nitems = \"/events/*\"\nempty = \"acknowledge\"\n[event]\nid = \"/resourceId\"\ntype = \"/eventType\"\n";
    let profile = Arc::new(Profile::from_toml(text).unwrap());
    let ask = |profile: &Arc<Profile>, body: &str| {
        let message = Message::signed_by(profile.clone(), &[("a", "s")], body);
        message.verified(|verified| challenge::answer(profile, verified))
    };
    let reply = ask(&profile, r#"{"events":[],"entropy":"X"}"#).unwrap();
    assert_eq!((reply.http_status, reply.body.as_str()), (200, ""));
    assert_eq!(
        ask(&profile, r#"{"events":[{"resourceId":"1","eventType":"t"}]}"#),
        None
    );
    assert_eq!(ask(&profile, r#"{"entropy":"X"}"#), None, "no list is no empty list");
    // Where the whole body is signed, that is the rule; a profile may say otherwise.
    let usual = Arc::new(Profile::from_toml(&text.replace("empty = \"acknowledge\"\n", "")).unwrap());
    assert!(ask(&usual, r#"{"events":[]}"#).is_some());
    let strict = Arc::new(Profile::from_toml(&text.replace("acknowledge", "refuse")).unwrap());
    assert_eq!(ask(&strict, r#"{"events":[]}"#), None);
    let unproved = text
        .replace("[batch]", "[batch]\nsigned_items = true")
        .replace("headers = [\"x-xero-signature\"]", "field = \"/sig\"");
    let error = Profile::from_toml(&unproved).unwrap_err().to_string();
    assert!(error.contains("needs a signature over the whole body"), "{error}");
}

/// Twilio puts what a callback is about into its query.
#[test]
fn the_signed_url_is_the_one_that_was_called() {
    let called = "https://hooks.example/in/acme/sms?Z=1&Note=it%27s+late";
    let body = "MessageSid=SM1&MessageStatus=delivered";
    let signed_for = |url: &str| {
        let mut message = Message::signed("twilio", &[("a", "s")], body);
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"s").unwrap();
        mac.update(format!("{url}MessageSidSM1MessageStatusdelivered").as_bytes());
        message.set("x-twilio-signature", &BASE64.encode(&mac.finalize().into_bytes()));
        message.path = Some("/in/acme/sms".into());
        message.query = Some("Z=1&Note=it%27s+late".into());
        message
    };
    let reason = |signed: &str, configured: &str| {
        let mut message = signed_for(signed);
        message.url = Some(configured.into());
        message.reason()
    };
    for configured in [
        "https://hooks.example",
        "https://hooks.example/",
        "https://hooks.example/in/acme/sms",
        "https://hooks.example/in/acme/sms?old=1",
        "https://hooks.example:443",
    ] {
        assert_eq!(reason(called, configured), "verified", "{configured}");
    }
    assert_eq!(
        reason(
            "https://hooks.example/twilio?Z=1&Note=it%27s+late",
            "https://hooks.example/twilio"
        ),
        "verified"
    );
    // What differs in the query alone is another event.
    let read = |query: &str| {
        let mut message = Message::sample("twilio");
        message.query = Some(query.into());
        let url = format!("{}?{query}", message.url.clone().unwrap());
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key("twilio").as_bytes()).unwrap();
        mac.update(format!("{url}MessageSidSM1MessageStatusdeliveredTo15550100").as_bytes());
        message.set("x-twilio-signature", &BASE64.encode(&mac.finalize().into_bytes()));
        message.read().unwrap().id
    };
    assert_eq!(read("order=1"), read("order=1"));
    assert_ne!(read("order=1"), read("order=2"));
    assert_eq!(
        reason(
            "https://hooks.example:443/in/acme/sms?Z=1&Note=it%27s+late",
            "https://hooks.example"
        ),
        "verified"
    );
    assert_eq!(reason(called, "https://other.example"), "no-match");
    for other in [
        "https://hooks.example/in/acme/sms",
        "https://hooks.example/in/acme/sms?Z=2&Note=it%27s+late",
        "https://hooks.example/in/acme/other?Z=1&Note=it%27s+late",
    ] {
        assert_eq!(reason(other, "https://hooks.example"), "no-match", "{other}");
    }
}

#[test]
fn a_form_is_signed_sorted_and_a_json_body_by_its_digest() {
    let form = Message::sample("twilio");
    assert_eq!(form.reason(), "verified");
    let mut reordered = form.clone();
    reordered.body = b"To=15550100&MessageStatus=delivered&MessageSid=SM1".to_vec();
    assert_eq!(reordered.reason(), "verified", "order does not matter");
    let json = Message::signed("twilio", &[("a", "s")], r#"{"x":1}"#);
    assert!(json.query.as_ref().unwrap().starts_with("bodySHA256="));
    assert_eq!(json.reason(), "verified");
    let mut altered = json.clone();
    altered.body = br#"{"x":2}"#.to_vec();
    assert_eq!(
        altered.reason(),
        "wrong-digest",
        "the signature itself would still be right"
    );
    let mut stripped = json.clone();
    stripped.query = None;
    assert_eq!(stripped.reason(), "no-match", "without its digest the URL is another");
    let mut twice = json.clone();
    twice.query = Some(format!("{0}&{0}", json.query.unwrap()));
    assert_eq!(twice.reason(), "forbidden-shape");
}

// Downgrades.

#[test]
fn fetch_back_is_refused_when_it_is_configured() {
    let error = Keyring::new(&shipped()["mollie-classic"], &[secret("a", "s")]).unwrap_err();
    assert!(matches!(error, KeyError::FetchBack { .. }));
    assert!(
        error.to_string().contains("proves nothing about its requests"),
        "{error}"
    );
}

#[test]
fn whsec_means_two_things() {
    let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut stripe = Message::signed("stripe", &[("a", text)], "{}");
    stripe.secrets = vec![secret("a", &text["whsec_".len()..])];
    assert_eq!(stripe.reason(), "no-match", "for Stripe it is part of the key");
    let mut standard = Message::signed("standard-webhooks", &[("a", text)], "{}");
    standard.secrets = vec![secret("a", &text["whsec_".len()..])];
    assert_eq!(standard.reason(), "verified", "for Standard Webhooks it is a label");
}

#[test]
fn hexadecimal_of_any_case_is_one_signature() {
    for provider in ["stripe", "github", "razorpay", "slack", "paddle", "voucherify"] {
        let mut message = Message::sample(provider);
        for (name, value) in &mut message.headers {
            if name.contains("signature") {
                let text = String::from_utf8(value.clone()).unwrap();
                let at = text.rfind('=').map_or(0, |at| at + 1);
                *value = format!("{}{}", &text[..at], text[at..].to_uppercase()).into_bytes();
            }
        }
        assert_eq!(message.reason(), "verified", "{provider}");
    }
}

#[test]
fn a_timestamp_far_in_the_future_is_refused_everywhere() {
    for provider in provable() {
        let mut message = Message::sample(provider);
        if message.profile.tolerance_s().is_some() {
            message.received_at = message.received_at.plus_ms(-2 * 24 * 3_600_000);
            assert_eq!(message.reason(), "timestamp-outside-tolerance", "{provider}");
            assert_eq!(message.explain().differs, Differs::Time, "{provider}");
        }
    }
}

#[test]
fn minified_is_tried_only_where_the_provider_signs_it_so() {
    let pretty = "{\n  \"a\": \"b c\",\r\n\t\"d\": 1\n}";
    for provider in provable() {
        let plain = r#"{"a":"b c","d":1}"#;
        if ["adyen", "mailgun", "twilio", "wise"].contains(&provider) || !shipped()[provider].body_is_signed() {
            continue;
        }
        let mut message = Message::signed(provider, &[("a", key(provider))], plain);
        message.body = pretty.as_bytes().to_vec();
        let takes = message.reason() == "verified";
        assert_eq!(takes, provider.starts_with("voucherify"), "{provider}");
        if takes {
            message.verified(|verified| {
                assert_eq!(verified.proof().scheme, "hmac-sha256/minified");
                assert_eq!(verified.body(), plain.as_bytes(), "what is kept is what was signed");
            });
        }
    }
    let mut other = Message::signed("voucherify", &[("a", "s")], r#"{"a":"bc"}"#);
    other.body = br#"{"a":"b c"}"#.to_vec();
    assert_eq!(other.reason(), "no-match", "white space in a text is meaning");
    // Raw bytes come first: a body that was signed with its white space is taken with it.
    let spaced = Message::signed("voucherify", &[("a", "s")], pretty);
    spaced.verified(|verified| assert_eq!(verified.proof().scheme, "hmac-sha256"));
}

#[test]
fn a_shared_public_key_proves_the_provider_and_not_the_recipient() {
    let foreign = body("wise").replace("sub-1", "sub-2");
    let message = Message::signed("wise", &[("a", RSA_KEY)], &foreign);
    assert_eq!(message.reason(), "foreign");
    assert_eq!(message.explain().differs, Differs::Recipient);
    let error = Keyring::new(&shipped()["wise"], &[secret("a", RSA_KEY)]).unwrap_err();
    assert!(matches!(error, KeyError::MissingParameter { .. }), "{error}");
    let mut parameters = parameters("wise");
    parameters.insert("colour".into(), Secret::new("red"));
    let error = Keyring::with_parameters(&shipped()["wise"], &[secret("a", RSA_KEY)], &parameters).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wise has no parameter `colour`; it has subscription_id"
    );
}

#[test]
fn the_url_is_configured_and_never_the_requests() {
    for provider in ["rfc9421-http-message-signatures", "square", "twilio"] {
        let mut message = Message::sample(provider);
        message.set("host", "in.example.test");
        message.set("x-forwarded-host", "in.example.test");
        message.url = Some("https://other.example.test/hook".into());
        assert_eq!(message.reason(), "no-match", "{provider}");
        message.url = None;
        assert_eq!(message.reason(), "no-url", "{provider}");
    }
}

// Families beyond a header's HMAC.

#[test]
fn a_jws_binds_its_claims_its_key_and_the_body() {
    let message = Message::sample("plaid");
    assert_eq!(message.verify().as_deref(), Ok("a"));
    let mut altered = message.clone();
    altered.body.push(b' ');
    assert_eq!(altered.reason(), "wrong-digest");
    assert_eq!(altered.explain().differs, Differs::Body);
    let mut late = message.clone();
    late.received_at = late.received_at.plus_ms(301_000);
    assert_eq!(late.reason(), "timestamp-outside-tolerance");
    let token = message.header("plaid-verification");
    let (head, rest) = token.split_once('.').unwrap();
    let other_head = |text: &str| {
        let mut bent = message.clone();
        let head = data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
        bent.set("plaid-verification", &format!("{head}.{rest}"));
        bent.reason()
    };
    assert_eq!(other_head(r#"{"alg":"none","kid":"a"}"#), "malformed-signature");
    assert_eq!(other_head(r#"{"alg":"HS256","kid":"a"}"#), "malformed-signature");
    assert_eq!(
        other_head(r#"{"alg":"ES256","kid":"a","kid":"b"}"#),
        "malformed-signature"
    );
    assert_eq!(
        other_head(r#"{"alg":"ES256","kid":"a","crit":["x"]}"#),
        "malformed-signature"
    );
    assert_eq!(other_head(r#"{"alg":"ES256","kid":"a"}"#), "no-match");
    for broken in [head.to_owned(), format!("{head}.{rest}.x"), String::new()] {
        let mut bent = message.clone();
        bent.set("plaid-verification", &broken);
        assert_eq!(bent.reason(), "malformed-signature", "{broken}");
    }
}

#[test]
fn a_key_that_nobody_has_is_asked_for_at_a_listed_place_only() {
    let plaid = &shipped()["plaid"];
    let mut message = Message::sample("plaid");
    let jwk: serde_json::Value = serde_json::from_str(P256_JWK).unwrap();
    let mut public = jwk.clone();
    public.as_object_mut().unwrap().remove("d");
    message.secrets = Vec::new();
    message.parameters = [("client_id", "id\"1"), ("secret", "s3cret"), ("environment", "sandbox")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Secret::new(value)))
        .collect();
    let refused = |parameters: &Parameters| {
        let error = Keyring::with_parameters(plaid, &[], parameters).unwrap_err();
        assert!(matches!(error, KeyError::Unfetchable { .. }), "{error}");
        error.to_string()
    };
    assert!(refused(&NO_PARAMETERS).contains("a credential is missing"));
    let mut elsewhere = message.parameters.clone();
    elsewhere.insert("environment".into(), Secret::new("evil.test/"));
    assert!(refused(&elsewhere).contains("a host that the profile does not list"));
    let keyring = message.keyring();
    let unproven = message.verify().unwrap_err();
    let need = unproven.needs_key().unwrap();
    assert_eq!(need.name(), "a");
    assert_eq!(need.url(), "https://sandbox.plaid.com/webhook_verification_key/get");
    assert!(!unproven.to_string().contains("s3cret"), "{unproven}");
    let sent = keyring.fetch_body(plaid, need).unwrap();
    assert_eq!(
        std::str::from_utf8(sent.expose()).unwrap(),
        r#"{"client_id":"id\"1","secret":"s3cret","key_id":"a"}"#
    );
    let document = serde_json::json!({ "key": public }).to_string();
    let at = message.received_at;
    let learned = keyring.learn(plaid, need, document.as_bytes(), at).unwrap();
    let judge = |keyring: &Keyring, received_at: UnixMillis| {
        let mut message = message.clone();
        message.received_at = received_at;
        message.request_with(keyring, |keyring, request| {
            verify(plaid, keyring, request)
                .map_err(|unproven| unproven.reason())
                .map(|_| ())
        })
    };
    assert_eq!(judge(&learned, at), Ok(()));
    let old = keyring
        .learn(plaid, need, document.as_bytes(), at.plus_ms(-FETCHED_KEY_MS_MAX))
        .unwrap();
    assert_eq!(judge(&old, at), Err("needs-key"), "a fetched key is believed for a day");
    let expired = serde_json::json!({ "key": { "expired_at": 1_600_000_000, "kty": "EC", "crv": "P-256", "kid": "a", "x": jwk["x"], "y": jwk["y"] } });
    let expired = keyring.learn(plaid, need, expired.to_string().as_bytes(), at).unwrap();
    assert_eq!(judge(&expired, at), Err("no-active-secret"));
    for (document, expect) in [
        ("{}", "holds no JSON Web Key"),
        ("x", "is no JSON"),
        (&serde_json::json!({ "key": jwk }).to_string(), "private key"),
        (&document.replace("\"kid\":\"a\"", "\"kid\":\"b\""), "another key"),
    ] {
        let error = keyring
            .learn(plaid, need, document.as_bytes(), at)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expect), "{error}");
    }
    let many = (0..FETCHED_KEYS_MAX + 5).fold(keyring.clone(), |keyring, _| {
        keyring.learn(plaid, need, document.as_bytes(), at).unwrap()
    });
    assert_eq!(many.key_ids().count(), 1, "the same key again replaces itself");
    // What was vouched for makes room for no name that a sender made up, and is fetched again while it is believed.
    let named = |name: &str| {
        let need = keyring.need(plaid, name.as_bytes()).unwrap();
        (need, document.replace("\"kid\":\"a\"", &format!("\"kid\":\"{name}\"")))
    };
    let mut crowded = learned.vouch_for("a");
    for number in 0..3 * FETCHED_KEYS_MAX {
        let (need, document) = named(&format!("made-up-{number}"));
        crowded = crowded.learn(plaid, &need, document.as_bytes(), at).unwrap();
    }
    assert_eq!(crowded.key_ids().count(), FETCHED_KEYS_MAX);
    assert_eq!(judge(&crowded, at), Ok(()));
    assert_eq!(crowded.fetched_name(&"a".parse().unwrap()), Some("a"));
    assert_eq!(
        crowded.fetched_name(&"made-up-0".parse().unwrap()),
        None,
        "the oldest went"
    );
    assert_eq!(crowded.renewal("a"), Some(at.plus_ms(FETCHED_KEY_MS_MAX / 4 * 3)));
    assert_eq!(crowded.renewal("made-up-0"), None);
    let again = crowded.learn(plaid, need, document.as_bytes(), at.plus_ms(1)).unwrap();
    let (other, its) = named("last");
    let again = (0..FETCHED_KEYS_MAX).fold(again, |keyring, number| {
        let (need, document) = named(&format!("more-{number}"));
        keyring.learn(plaid, &need, document.as_bytes(), at).unwrap()
    });
    assert_eq!(
        judge(&again, at),
        Ok(()),
        "who was vouched for stays so when it is renewed"
    );
    let mut soon: serde_json::Value = serde_json::from_str(&its).unwrap();
    soon["key"]["expired_at"] = (at.unix_seconds() + 60).into();
    let ending = keyring.learn(plaid, &other, soon.to_string().as_bytes(), at).unwrap();
    assert_eq!(
        ending.renewal("last"),
        Some(at.plus_ms(FETCHED_KEY_RENEWED_MS_MIN)),
        "a key that ends soon is not fetched again and again"
    );
    // A key's name is the sender's to choose: what could lead elsewhere is no name.
    let mut bent = message.clone();
    let rest = message.header("plaid-verification");
    let head = data_encoding::BASE64URL_NOPAD.encode(br#"{"alg":"ES256","kid":"a\",\"x\":\"b"}"#);
    bent.set(
        "plaid-verification",
        &format!("{head}.{}", rest.split_once('.').unwrap().1),
    );
    assert_eq!(bent.reason(), "unknown-key");
}

#[test]
fn a_certificate_proves_within_its_own_time_and_for_its_own_name() {
    let vector = vector::shipped()
        .iter()
        .find(|vector| vector.id == "paypal-java-sdk")
        .unwrap();
    let mut message = Message::sample("paypal");
    message.secrets = Vec::new();
    let profile = &shipped()["paypal"];
    let need = message.verify().unwrap_err().needs_key().unwrap().clone();
    let published = vector.published.as_ref().unwrap();
    let keyring = message.keyring();
    let learned = keyring
        .learn(profile, &need, published.as_bytes(), message.received_at)
        .unwrap();
    let outcome = message.request_with(&learned, |keyring, request| {
        verify(profile, keyring, request).unwrap_err()
    });
    assert_eq!(outcome, Unproven::NoActiveSecret, "it expired in 2019");
    let other = Profile::from_toml(
        &include_str!("../../profiles/paypal.toml")
            .replace("messageverificationcerts.sandbox.paypal.com", "example.test"),
    );
    let error = keyring
        .learn(&other.unwrap(), &need, published.as_bytes(), message.received_at)
        .unwrap_err();
    assert!(error.to_string().contains("for another name"), "{error}");
}

#[test]
fn message_signatures_are_made_and_proved_with_keys_of_each_kind() {
    let provider = "rfc9421-http-message-signatures";
    for key in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", P256_KEY, RSA_KEY] {
        let message = Message::signed(provider, &[("k1", key)], body(provider));
        assert_eq!(message.verify().as_deref(), Ok("k1"));
        let mut altered = message.clone();
        altered.body.push(b' ');
        assert_eq!(altered.reason(), "wrong-digest");
        let mut put = message.clone();
        put.method = "PUT".into();
        assert_eq!(put.reason(), "no-match");
    }
}

#[test]
fn content_digests_are_the_published_ones() {
    let provider = "rfc9421-http-message-signatures";
    for id in ["rfc9530-content-digest-b2-request", "rfc9530-sha256-with-LF"] {
        let vector = vector::shipped().iter().find(|vector| vector.id == id).unwrap();
        let (_, digest) = &vector.headers[0];
        let mut message = Message::sample(provider);
        message.body = vector.body.clone().into_bytes();
        let sign = |message: &mut Message, digest: &str| {
            let input = message.header("signature-input");
            let parameters = input.strip_prefix("sig1=").unwrap();
            let base = format!(
                "\"@method\": POST\n\"@authority\": in.example.test\n\"content-digest\": {digest}\n\"@signature-params\": {parameters}"
            );
            let key = BASE64.decode(key(provider).as_bytes()).unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(base.as_bytes());
            message.set("content-digest", digest);
            message.set(
                "signature",
                &format!("sig1=:{}:", BASE64.encode(&mac.finalize().into_bytes())),
            );
        };
        sign(&mut message, digest);
        assert_eq!(message.reason(), "verified", "{id}");
        message.body.push(b'x');
        assert_eq!(message.reason(), "wrong-digest", "{id}");
        sign(&mut message, "md5=:AAAA:");
        assert_eq!(
            message.reason(),
            "malformed-signature",
            "an unknown digest alone is none"
        );
    }
    // The RFC's own signature is right where a profile asks for no more than it covers.
    let vector = vector::shipped()
        .iter()
        .find(|vector| vector.id == "rfc9421-b26-ed25519")
        .unwrap();
    let text = include_str!("../../profiles/rfc9421-http-message-signatures.toml").replace(
        "components = [\"@method\", [\"@authority\", \"@target-uri\"], \"content-digest\"]",
        "components = [\"@method\", \"@authority\"]\nbody_signed = false",
    );
    let text = text.replace("[event]\n", "[event]\nid_signed = false\n");
    let mut accepted = vector.clone();
    accepted.refused = None;
    assert_eq!(
        vector::run(&Profile::from_toml(&text).unwrap(), &accepted),
        vector::Outcome::Passed
    );
}

#[test]
fn a_sources_own_credential_is_compared_whole() {
    let mut message = Message::sample("github");
    let check = |message: &Message, credential: &Credential| {
        message.request(|_, request| credential.check(&request).map_err(|unproven| unproven.reason()))
    };
    let basic = Credential::basic("user", &Secret::new("pass"));
    assert_eq!(check(&message, &basic), Err("missing-header"));
    message.set("authorization", &format!("basic {}", BASE64.encode(b"user:pass")));
    assert_eq!(check(&message, &basic), Ok(()));
    assert_eq!(
        check(&message, &Credential::bearer(&Secret::new("x"))),
        Err("wrong-credential")
    );
    message.set("x-api-key", "k");
    assert_eq!(
        check(&message, &Credential::header("x-api-key", &Secret::new("k"))),
        Ok(())
    );
    assert!(!format!("{basic:?}").contains("pass"));
}

// Batches.

#[test]
fn a_batch_has_as_many_items_as_are_allowed() {
    let element = |id: usize| format!(r#"{{"sg_event_id":"e{id}","event":"delivered"}}"#);
    let many: Vec<_> = (0..=BATCH_ITEMS_MAX).map(element).collect();
    let read = |items: &[String]| {
        let body = format!("[{}]", items.join(", "));
        Message::signed("sendgrid", &[("a", key("sendgrid"))], &body).read_all()
    };
    let too_many = read(&many).unwrap_err();
    let items = BATCH_ITEMS_MAX + 1;
    assert_eq!(too_many, Unreadable::BatchTooLarge { items });
    assert_eq!(Rejection::from(&too_many), Rejection::BatchTooLarge);
    assert_eq!(read(&many[1..]).unwrap().len(), BATCH_ITEMS_MAX);
}

#[test]
fn every_item_of_a_signed_batch_is_proved() {
    let message = Message::sample("adyen");
    let text = String::from_utf8(message.body.clone()).unwrap();
    let (begin, rest) = text.split_once('[').unwrap();
    let (item, end) = rest.rsplit_once(']').unwrap();
    let batch = |items: &[&str]| {
        let mut message = message.clone();
        message.body = format!("{begin}[{}]{end}", items.join(",")).into_bytes();
        message
    };
    let other = item.replace("2024-01-01", "2024-02-02");
    assert_eq!(batch(&[item, &other]).read_all().unwrap().len(), 2);
    let forged = item.replace("1130", "9130");
    let unproven = batch(&[item, &forged]).verify().unwrap_err();
    assert!(matches!(&unproven, Unproven::Item { index: 1, .. }), "{unproven}");
    assert_eq!(unproven.reason(), "no-match");
    assert_eq!(batch(&[]).reason(), "unreadable-body");
}

#[test]
fn i8_an_event_without_a_type_takes_its_sources() {
    let mut raw = Message::signed("voucherify-raw", &[("a", "s")], r#"{"points": 5}"#);
    let profile = Profile::clone(&raw.profile).with_event_type(&"loyalty.points".parse().unwrap());
    raw.profile = Arc::new(profile);
    let event = raw.read().unwrap();
    assert_eq!(event.event_type.as_str(), "loyalty.points");
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(br#"{"points": 5}"#));
    assert_eq!(event.id.as_str(), digest);
}

// Challenges and acknowledgements.

/// `messages.toml` has what is answered with what.
#[test]
fn i9_a_challenge_is_answered_as_text_and_no_ordinary_event_is_one() {
    let answer = |message: &Message| message.verified(|verified| challenge::answer(&message.profile, verified));
    let asked = |text: &str| {
        let body = format!(r#"{{"type":"url_verification","challenge":"{text}"}}"#);
        answer(&Message::signed("slack", &[("a", "s")], &body))
    };
    let reply = asked("3eZbrw1aB10").unwrap();
    assert_eq!((reply.http_status, reply.body.as_str()), (200, "3eZbrw1aB10"));
    assert!(reply.content_type.starts_with("text/plain"));
    assert_eq!(asked(&"x".repeat(1025)), None);
    for provider in provable() {
        assert_eq!(answer(&Message::sample(provider)), None, "{provider}");
    }
}

#[test]
fn i9_handshakes_without_a_signature_need_what_the_source_said() {
    let good = "hub.mode=subscribe&hub.verify_token=t0ken&hub.challenge=1158201444";
    let wrong = good.replace("t0ken", "other");
    let markup = good.replace("1158201444", "%3Cscript%3E%20");
    let (own, none) = (
        parameters as fn(&str) -> Parameters,
        (|_| Parameters::new()) as fn(&str) -> Parameters,
    );
    let (origin, evil) = ("events.example.test", "evil.example.test");
    // Who is asked, how, with which query or origin, and what the source said; the answer's body and its allowed origin.
    for (provider, method, query, from, said, expect) in [
        ("meta", "GET", good, "", own, Some(Ok("1158201444"))),
        ("meta", "GET", &wrong, "", own, Some(Err(Rejection::Unauthentic))),
        ("meta", "GET", good, "", none, Some(Err(Rejection::Unauthentic))),
        ("meta", "GET", "", "", own, Some(Err(Rejection::Malformed))),
        ("meta", "GET", &markup, "", own, Some(Err(Rejection::Malformed))),
        ("meta", "OPTIONS", good, "", own, None),
        ("stripe", "GET", good, "", none, None),
        ("cloudevents-http", "OPTIONS", "", origin, own, Some(Ok(""))),
        (
            "cloudevents-http",
            "OPTIONS",
            "",
            origin,
            none,
            Some(Err(Rejection::Method)),
        ),
        (
            "cloudevents-http",
            "OPTIONS",
            "",
            evil,
            own,
            Some(Err(Rejection::Method)),
        ),
    ] {
        let mut message = Message::sample(provider);
        message.method = method.into();
        message.query = (!query.is_empty()).then(|| query.to_owned());
        message.headers.clear();
        if !from.is_empty() {
            message.set("webhook-request-origin", from);
        }
        let keyring = Keyring::with_parameters(&message.profile, &message.secrets, &said(provider)).unwrap();
        let reply = message.request_with(&keyring, |keyring, request| {
            challenge::preflight(&message.profile, keyring, &request)
        });
        let row = format!("{provider} {method} {query} {from}");
        if let Some(Ok(reply)) = &reply {
            let allowed = ("webhook-allowed-origin", from.to_owned());
            assert!(from.is_empty() || reply.headers.contains(&allowed), "{row}");
        }
        let body = reply.map(|reply| reply.map(|reply| reply.body));
        assert_eq!(body, expect.map(|expect| expect.map(str::to_owned)), "{row}");
    }
}

#[test]
fn providers_hear_what_they_take_for_an_acknowledgement() {
    let kept = Happening::Accepted(ReceiptId([0; 16]));
    let status =
        |provider: &str, happening: &Happening| answer::answer(happening, shipped()[provider].ack()).http_status;
    for provider in [
        "paddle",
        "plaid",
        "coinbase-commerce",
        "adyen",
        "slack",
        "mailgun",
        "meta",
    ] {
        assert_eq!(status(provider, &kept), 200, "{provider}");
    }
    assert_eq!(answer::answer(&kept, shipped()["adyen"].ack()).body(), "[accepted]");
    // 406 keeps Mailgun from coming again: for what can never be read. What lacks its id may find a better profile at the next try.
    assert_eq!(status("mailgun", &Happening::Rejected(Rejection::Unreadable)), 406);
    assert_eq!(status("mailgun", &Happening::Rejected(Rejection::Malformed)), 400);
    for provider in ["braze", "zendesk"] {
        assert_eq!(
            status(provider, &Happening::Rejected(Rejection::Malformed)),
            503,
            "{provider}"
        );
        assert_eq!(
            status(provider, &Happening::Rejected(Rejection::Unreadable)),
            400,
            "{provider}"
        );
    }
    assert_eq!(
        status("ietf-idempotency-key", &Happening::Conflict(ReceiptId([0; 16]))),
        422
    );
    assert_eq!(status("stripe", &kept), 202);
    // Braze loses for ever what is answered with another 4xx: what may come again is never one of those.
    for rejection in [
        Rejection::Overloaded,
        Rejection::StoreUnavailable,
        Rejection::ShuttingDown,
        Rejection::TooSlow,
    ] {
        assert!([408, 503].contains(&status("braze", &Happening::Rejected(rejection))));
    }
}

// Tenants' own profiles.

#[test]
fn a_tenants_profile_carries_its_own_known_answers() {
    let text =
        include_str!("../../profiles/generic-hmac.toml").replace("name = \"generic-hmac\"", "name = \"acme-pay\"");
    let own = format!(
        "{text}\n[[vector]]\nid = \"own\"\nwhat = \"our sample\"\nsecret = {{ id = \"k\", text = \"test_secret\" }}\n\
         headers = [[\"x-signature\", \"f7f9bd47fb987337b5796fdc1fdb9ba221d0d5396814bfcaf9521f43fd8927fd\"]]\nbody = \"\"\nreceived_at_s = 1700000000\n"
    );
    let profile = Profile::from_toml(&own).unwrap();
    let vectors = vector::of(&profile);
    assert_eq!(vectors.len(), 1);
    assert_eq!(vector::run(&profile, &vectors[0]), vector::Outcome::Passed);
    let mut wrong = vectors[0].clone();
    wrong.body = "x".into();
    let outcome = vector::run(&profile, &wrong);
    assert!(
        matches!(&outcome, vector::Outcome::Failed(what) if what.contains("no-match")),
        "{outcome:?}"
    );
    let error = Profile::from_toml(&own.replace("what = \"our sample\"\n", "")).unwrap_err();
    assert!(error.to_string().contains("missing field `what`"), "{error}");
}

#[test]
fn the_page_about_providers_is_current() {
    let page = include_str!("../../../../docs/providers.md");
    assert!(
        page == tollgate_core::catalogue::markdown(),
        "docs/providers.md is old: cargo run -p tollgate-core --example providers > docs/providers.md"
    );
    for name in shipped().keys() {
        assert!(page.contains(&format!("(`{name}`)")), "{name}");
    }
}
