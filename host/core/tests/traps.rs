//! The traps that providers' schemes set, each with a test of its own: what was measured in their libraries must not happen here.
//! And what the families beyond a header's HMAC must hold.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod message;

use std::sync::Arc;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use message::{Message, P256_JWK, RSA_KEY, body, key, parameters, provable, secret};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tollgate_core::admission::{Admission, Decision, Existing, Identity, decide};
use tollgate_core::answer::{self, Happening, Rejection};
use tollgate_core::challenge::{self, Reply};
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

#[test]
fn unsigned_ids_are_known_and_the_bytes_beside_them_stay_the_same() {
    let unsigned: Vec<_> = shipped()
        .values()
        .filter(|profile| !profile.id_is_signed())
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(
        unsigned,
        [
            "braze",
            "cloudevents-http",
            "github",
            "hookdeck",
            "ietf-idempotency-key",
            "mollie-classic",
            "razorpay",
            "shopify",
            "talon-one"
        ]
    );
    let message = Message::signed("razorpay", &[("a", "s")], r#"{"event":"payment.captured","id":"1"}"#);
    let mut replayed = message.clone();
    replayed.set("x-razorpay-event-id", "another");
    let (first, second) = (message.read().unwrap(), replayed.read().unwrap());
    assert_ne!(first.id, second.id);
    // The digest that is kept beside the id tells the two for one.
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
            body_digest: first.body_digest,
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

#[test]
fn a_profile_cannot_tell_events_apart_by_a_message_that_each_try_signs_anew() {
    let file = include_str!("../profiles/stripe.toml").replace("[event]\n", "[event]\nidentity = \"signed-message\"\n");
    let error = Profile::from_toml(&file).unwrap_err();
    assert!(error.to_string().contains("without an instant"), "{error}");
    let file = include_str!("../profiles/github.toml").replace("[event]\n", "[event]\nidentity = \"event-id\"\n");
    let error = Profile::from_toml(&file).unwrap_err();
    assert!(error.to_string().contains("write `signed-message`"), "{error}");
}

#[test]
fn bodies_that_no_signature_holds_are_known() {
    let loose: Vec<_> = shipped()
        .values()
        .filter(|profile| !profile.body_is_signed())
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(
        loose,
        [
            "adyen",
            "braze",
            "cloudevents-http",
            "ietf-idempotency-key",
            "mailgun",
            "mollie-classic",
            "paypal",
            "talon-one"
        ]
    );
}

#[test]
fn mailguns_token_is_the_id_so_that_one_signature_counts_once() {
    let message = Message::sample("mailgun");
    let event = message.read().unwrap();
    let mut forged = message.clone();
    forged.body = String::from_utf8(forged.body)
        .unwrap()
        .replace("delivered", "complained")
        .into_bytes();
    let other = forged.read().unwrap();
    assert_eq!(event.id, other.id, "the forged event conflicts with the first");
    assert_ne!(Digest::of(&event.payload), Digest::of(&other.payload));
}

#[test]
fn paypals_transmission_is_the_id_because_a_crc_can_be_kept() {
    let message = Message::sample("paypal");
    assert_eq!(message.reason(), "verified");
    assert_eq!(message.header("paypal-transmission-id"), "msg_1");
    let event = Message::signed(
        "paypal",
        &[("a", RSA_KEY)],
        r#"{"id":"WH-1","event_type":"PAYMENT.CAPTURE.COMPLETED","resource":{"id":"c1","status":"COMPLETED","amount":{"value":"1.50","currency_code":"USD"}}}"#,
    )
    .read()
    .unwrap();
    assert_eq!(event.id.as_str(), "msg_1");
    assert_eq!(event.amount.unwrap().to_string(), "1.50 USD");
    // The checksum is unsigned and decimal: the published one of a known body, which has its highest bit set.
    let crc = vector::shipped()
        .iter()
        .find(|vector| vector.id == "paypal-crc32")
        .unwrap();
    let signed = Message::signed("paypal", &[("a", RSA_KEY)], &crc.body);
    let own = own_crc_profile("2771810304");
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

/// PayPal's template with a literal for the checksum.
fn own_crc_profile(crc: &str) -> Arc<Profile> {
    let text = include_str!("../profiles/paypal.toml")
        .replace("{body-crc32}", crc)
        .replace("{config:webhook_id}", "WH-1");
    Arc::new(Profile::from_toml(&text).unwrap())
}

#[test]
fn adyen_proves_eight_fields_and_each_of_them() {
    let message = Message::sample("adyen");
    assert_eq!(message.reason(), "verified");
    let bend = |from: &str, to: &str| {
        let mut bent = message.clone();
        let text = String::from_utf8(bent.body.clone()).unwrap();
        assert!(text.contains(from), "{from}");
        bent.body = text.replacen(from, to, 1).into_bytes();
        bent.reason()
    };
    for (from, to) in [
        ("7914073381342284", "7914073381342285"),
        ("TestMerchant", "TestMerchanT"),
        ("order:1", "order:2"),
        ("1130", "1131"),
        ("EUR", "USD"),
        ("AUTHORISATION", "CAPTURE"),
        ("\"success\":\"true\"", "\"success\":\"false\""),
        ("\"pspReference\":", "\"originalReference\":\"x\",\"pspReference\":"),
    ] {
        assert_eq!(bend(from, to), "no-match", "{from}");
    }
    assert_eq!(bend("2024-01-01", "2024-01-02"), "verified", "the date is not proved");
    assert_eq!(
        bend("\"success\":\"true\"", "\"success\":true"),
        "verified",
        "a boolean is its text"
    );
    assert_eq!(
        bend("\"value\":1130", "\"value\":\"1130\""),
        "verified",
        "a number is its text"
    );
}

#[test]
fn adyens_separator_moves_nothing_between_fields() {
    // In Adyen's own libraries `x` and `y:z` sign like `x:y` and `z`. Only the merchant's reference may hold a colon.
    let message = |original: &str, account: &str| {
        let text = body("adyen")
            .replace("\"TestMerchant\"", &format!("\"{account}\""))
            .replace(
                "\"pspReference\"",
                &format!("\"originalReference\":\"{original}\",\"pspReference\""),
            );
        Message::signed("adyen", &[("a", key("adyen"))], &text)
    };
    assert_eq!(message("x", "y").reason(), "verified");
    assert_eq!(message("x", "y:z").reason(), "forbidden-shape");
    assert_eq!(message("x:y", "z").reason(), "forbidden-shape");
}

/// What is joined by colons must be read in one way only, whatever may hold one.
#[test]
fn a_reports_reference_may_hold_colons_as_a_merchants_may() {
    let item = |psp: &str, reference: &str, code: &str| {
        let text = body("adyen")
            .replace("7914073381342284", psp)
            .replace("order:1", reference)
            .replace("AUTHORISATION", code);
        Message::signed("adyen", &[("a", key("adyen"))], &text)
    };
    let report = "fx_report_2027-01-04T00:00:00_2027-01-04T23:59:59.csv";
    let message = item(report, "", "REPORT_AVAILABLE");
    assert_eq!(message.reason(), "verified");
    let event = message.read().unwrap();
    assert!(event.id.as_str().contains(report), "{}", event.id);
    assert_eq!(item("7914", "a:b:c", "AUTHORISATION").reason(), "verified");
    assert_eq!(
        item("79:14", "a", "AUTHORISATION").reason(),
        "forbidden-shape",
        "no other reference is a file"
    );
    assert_eq!(
        item(report, "a:b", "REPORT_AVAILABLE").reason(),
        "forbidden-shape",
        "one part at most is free"
    );
}

#[test]
fn which_part_is_free_is_said_by_a_part_that_cannot_be_moved() {
    let text = include_str!("../profiles/adyen.toml");
    let refused = |from: &str, to: &str, expect: &str| {
        assert!(text.contains(from), "{from}");
        let error = Profile::from_toml(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let when = "when = \"json:/eventCode\"";
    refused(
        when,
        "when = \"json:/originalReference\"",
        "left or right of all parts that may be free",
    );
    refused(
        when,
        "when = \"json:/merchantReference\"",
        "left or right of all parts that may be free",
    );
    refused(when, "when = \"json:/nowhere\"", "is not a signed part");
    refused("is = [\"REPORT_AVAILABLE\"]", "is = []", "one needs the other");
    refused(
        ", when = \"json:/eventCode\", is = [\"REPORT_AVAILABLE\"]",
        "",
        "so it comes last",
    );
    refused(
        "}:{json?:/originalReference}",
        "}::{json?:/originalReference}",
        "separates nothing for certain",
    );
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
    let own = include_str!("../profiles/coinbase-cdp.toml");
    let error = |from: &str, to: &str| Profile::from_toml(&own.replacen(from, to, 1)).unwrap_err().to_string();
    assert!(error("listed = {", "# {").contains("needs `listed = { headers = [..] }`"));
    assert!(error(".{body}\"", ".{body-sha256-hex}\"").contains("could be split in two ways"));
    assert!(error("free = \"x-event-type\"", "free = \"host\"").contains("not among the headers"));
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
fn absence_of_a_header_never_selects_a_weaker_mode() {
    // Mollie's library takes a request without the header for a classic one; GitHub and Square have SHA-1 headers beside.
    for (provider, strong, weak) in [
        ("mollie", "x-mollie-signature", "x-mollie-classic"),
        ("github", "x-hub-signature-256", "x-hub-signature"),
        ("square", "x-square-hmacsha256-signature", "x-square-signature"),
    ] {
        let mut message = Message::sample(provider);
        message.unset(strong);
        message.set(weak, "sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(message.reason(), "missing-header", "{provider}");
    }
    let mut stripe = Message::sample("stripe");
    let v0 = stripe.header("stripe-signature").replace("v1=", "v0=");
    stripe.set("stripe-signature", &v0);
    assert_eq!(stripe.reason(), "malformed-signature", "v0 is test mode's decoy");
    let mut paypal = Message::sample("paypal");
    paypal.set("paypal-auth-algo", "SHA1withRSA");
    assert_eq!(paypal.reason(), "foreign");
    paypal.unset("paypal-auth-algo");
    assert_eq!(paypal.reason(), "missing-header");
}

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
    for provider in ["stripe", "github", "razorpay", "slack", "paddle"] {
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
fn malformed_timestamps_are_no_timestamps() {
    for (provider, header) in [
        ("standard-webhooks", "webhook-timestamp"),
        ("slack", "x-slack-request-timestamp"),
        ("sendgrid", "x-twilio-email-event-webhook-timestamp"),
    ] {
        for text in [
            "01700000000x",
            "+1700000000",
            " 1700000000",
            "1700000000abc",
            "1700000000.9",
            "0x6553f100",
            "",
        ] {
            let mut message = Message::sample(provider);
            message.set(header, text);
            assert!(
                ["malformed-timestamp", "forbidden-shape"].contains(&message.reason()),
                "{provider} {text:?}: {}",
                message.reason()
            );
        }
    }
    for text in ["2023-11-14 22:13:20Z", "2023-11-14T22: 13: 20Z", "2023-11-14T22:13:20"] {
        let mut message = Message::sample("zendesk");
        message.set("x-zendesk-webhook-signature-timestamp", text);
        assert_eq!(message.reason(), "malformed-timestamp", "{text:?}");
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
fn a_dot_in_an_id_moves_nothing_into_the_body() {
    // In the reference library id `a.1`, instant 2, body `x` signs like id `a`, instant 1, body `2.x`.
    for provider in ["standard-webhooks", "svix"] {
        let mut message = Message::sample(provider);
        let header = if provider == "svix" { "svix-id" } else { "webhook-id" };
        message.set(header, "msg.1");
        assert_eq!(message.reason(), "forbidden-shape", "{provider}");
    }
}

#[test]
fn bytes_are_judged_as_they_came() {
    // A byte order mark, CRLF and bytes that are no UTF-8 are part of what is signed; Stripe's own library refuses two of them.
    for text in ["\u{feff}{}", "{}\r\n", "{\r\n}"] {
        let message = Message::signed("stripe", &[("a", "s")], text);
        assert_eq!(message.reason(), "verified", "{text:?}");
        let mut trimmed = message.clone();
        trimmed.body = text.trim_matches(['\u{feff}', '\r', '\n']).as_bytes().to_vec();
        trimmed.body.retain(|b| *b != b'\r');
        assert_eq!(trimmed.reason(), "no-match", "{text:?}");
    }
    let mut sendgrid = Message::signed("sendgrid", &[("a", key("sendgrid"))], "[{}]\r\n");
    sendgrid.body.truncate(4);
    assert_eq!(sendgrid.reason(), "no-match");
    assert!(
        sendgrid.explain().hints[0].contains("something removed it"),
        "{:?}",
        sendgrid.explain()
    );
}

#[test]
fn a_key_that_comes_twice_is_two_readings_and_none_of_ours() {
    let check = |provider: &str, text: &str, reason: &str| {
        let message = Message::signed(provider, &[("a", key(provider))], text);
        assert_eq!(message.read_all().unwrap_err().reason(), reason, "{provider}: {text}");
    };
    check("stripe", r#"{"id":"1","id":"2","type":"t"}"#, "repeated-key");
    check("twilio", "MessageSid=1&MessageSid=2", "repeated-key");
    check(
        "meta",
        r#"{"entry":[],"entry":[{"id":"1"}],"object":"page"}"#,
        "not-json",
    );
    // Where a repeated key is among what is signed, not even that is believed.
    let mut adyen = Message::sample("adyen");
    let text = String::from_utf8(adyen.body).unwrap();
    adyen.body = text
        .replace("\"pspReference\":", "\"pspReference\":\"x\",\"pspReference\":")
        .into_bytes();
    assert_eq!(adyen.reason(), "unreadable-body");
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
    let signs_url: Vec<_> = shipped()
        .values()
        .filter(|profile| profile.signs_url())
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(signs_url, ["rfc9421-http-message-signatures", "square", "twilio"]);
    for provider in signs_url {
        let mut message = Message::sample(provider);
        message.set("host", "in.example.test");
        message.set("x-forwarded-host", "in.example.test");
        message.url = Some("https://other.example.test/hook".into());
        assert_eq!(message.reason(), "no-match", "{provider}");
        message.url = None;
        assert_eq!(message.reason(), "no-url", "{provider}");
    }
}

#[test]
fn a_redelivery_with_other_bytes_keeps_its_id() {
    let attempt = |number: u32| {
        let text = format!(r#"{{"id":1,"attempt_number":{number},"event":{{"id":"e1","type":"charge:created"}}}}"#);
        Message::signed("coinbase-commerce", &[("a", "s")], &text)
            .read()
            .unwrap()
    };
    assert_eq!(
        attempt(1).id,
        attempt(2).id,
        "the digest of the body would be no id here"
    );
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
fn a_certificates_url_is_the_attackers_until_it_is_listed() {
    let vector = vector::shipped()
        .iter()
        .find(|vector| vector.id == "paypal-java-sdk")
        .unwrap();
    let mut message = Message::sample("paypal");
    message.secrets = Vec::new();
    let judge = |url: &str| {
        let mut message = message.clone();
        message.set("paypal-cert-url", url);
        message.reason()
    };
    assert_eq!(
        judge("https://api.paypal.com/v1/notifications/certs/CERT-1"),
        "needs-key"
    );
    for url in [
        "http://api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com.evil.test/v1/notifications/certs/CERT-1",
        "https://api.paypal.com@evil.test/v1/notifications/certs/CERT-1",
        "https://evil.test/api.paypal.com/v1/notifications/certs/CERT-1",
        "https://api.paypal.com:8443/v1/notifications/certs/CERT-1",
        "https://api.paypal.com/other/CERT-1",
        "https://api.paypal.com/v1/notifications/../../other",
        "https://api.paypal.com/v1/notifications/certs/x?y=z",
        "https://api.paypal.com/v1/notifications//certs",
        "HTTPS://API.PAYPAL.COM/v1/notifications/certs/CERT-1",
        "",
    ] {
        assert_eq!(judge(url), "foreign-key", "{url}");
    }
    // A certificate proves within its own time, and for its own name.
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
        &include_str!("../profiles/paypal.toml").replace("messageverificationcerts.sandbox.paypal.com", "example.test"),
    );
    let error = keyring
        .learn(&other.unwrap(), &need, published.as_bytes(), message.received_at)
        .unwrap_err();
    assert!(error.to_string().contains("for another name"), "{error}");
}

#[test]
fn message_signatures_cover_method_target_and_body_or_prove_nothing() {
    let provider = "rfc9421-http-message-signatures";
    for key in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", message::P256_KEY, RSA_KEY] {
        let message = Message::signed(provider, &[("k1", key)], body(provider));
        assert_eq!(message.verify().as_deref(), Ok("k1"));
        let mut altered = message.clone();
        altered.body.push(b' ');
        assert_eq!(altered.reason(), "wrong-digest");
        let mut put = message.clone();
        put.method = "PUT".into();
        assert_eq!(put.reason(), "no-match");
    }
    let message = Message::sample(provider);
    let bend = |from: &str, to: &str| {
        let mut bent = message.clone();
        let input = bent.header("signature-input");
        assert!(input.contains(from), "{input}");
        bent.set("signature-input", &input.replace(from, to));
        bent.reason()
    };
    assert_eq!(bend("\"content-digest\"", ""), "uncovered");
    assert_eq!(bend("\"@method\" ", ""), "uncovered");
    assert_eq!(bend("keyid=\"a\"", "keyid=\"b\""), "unknown-key");
    assert_eq!(bend("keyid=\"a\"", "keyid=\"a\";alg=\"ed25519\""), "no-active-secret");
    assert_eq!(
        bend("keyid=\"a\"", "keyid=\"a\";alg=\"rsa-pss-sha512\""),
        "malformed-signature"
    );
    assert_eq!(bend("created=1700000000", "created=1700000001"), "no-match");
    assert_eq!(bend("created=1700000000;", ""), "malformed-timestamp");
    assert_eq!(bend("keyid", "expires=1699999999;keyid"), "expired");
    assert_eq!(bend("\"@method\"", "\"@method\" \"@method\""), "malformed-signature");
    assert_eq!(bend("\"@method\"", "\"@method\";req"), "malformed-signature");
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
    let text = include_str!("../profiles/rfc9421-http-message-signatures.toml").replace(
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
fn static_credentials_are_compared_whole() {
    for (provider, right) in [
        ("cloudevents-http", "Bearer s3cRe7-at-least-10"),
        ("talon-one", "s3cRe7-at-least-10"),
    ] {
        let message = Message::sample(provider);
        assert_eq!(message.header("authorization"), right);
        for wrong in [
            "",
            "s3cRe7",
            "Bearer ",
            "Bearer s3cRe7-at-least-1",
            "Basic s3cRe7-at-least-10",
            "Bearer s3cRe7-at-least-100",
        ] {
            let mut bent = message.clone();
            bent.set("authorization", wrong);
            assert_eq!(bent.reason(), "wrong-credential", "{provider} {wrong:?}");
        }
        let mut twice = message.clone();
        twice.headers.push(("authorization".into(), right.as_bytes().to_vec()));
        assert_eq!(twice.reason(), "repeated-header");
    }
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
fn a_batch_is_several_events_all_or_none() {
    let element = |id: usize| format!(r#"{{"sg_event_id":"e{id}","event":"delivered"}}"#);
    let read = |items: &[String]| {
        Message::signed(
            "sendgrid",
            &[("a", key("sendgrid"))],
            &format!("[{}]", items.join(", ")),
        )
        .read_all()
    };
    let events = read(&[element(1), element(2)]).unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["e1", "e2"]);
    assert_eq!(events[1].payload, element(2).as_bytes(), "each has its own bytes");
    assert_eq!(read(&[]).unwrap_err(), Unreadable::EmptyBatch);
    assert_eq!(
        read(&[element(1), "{}".into()]).unwrap_err().to_string(),
        "item 1 of the batch (the first is 0): no event id: the profile looks for it at /sg_event_id"
    );
    let many: Vec<_> = (0..=BATCH_ITEMS_MAX).map(element).collect();
    let too_many = read(&many).unwrap_err();
    assert_eq!(
        too_many,
        Unreadable::BatchTooLarge {
            items: BATCH_ITEMS_MAX + 1
        }
    );
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
    let events = batch(&[item, &other]).read_all().unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(
        events[0].id.as_str(),
        "TestMerchant:AUTHORISATION:true:7914073381342284"
    );
    assert_eq!(events[0].reading.status().unwrap().as_str(), "authorized");
    assert!(events[0].attributes.contains(&("live".into(), "false".into())));
    let forged = item.replace("1130", "9130");
    let unproven = batch(&[item, &forged]).verify().unwrap_err();
    assert!(matches!(&unproven, Unproven::Item { index: 1, .. }), "{unproven}");
    assert_eq!(unproven.reason(), "no-match");
    assert_eq!(batch(&[]).reason(), "unreadable-body");
}

#[test]
fn cloudevents_come_in_three_modes() {
    let token = &[("a", "t0ken")];
    let mut binary = Message::signed("cloudevents-http", token, r#"{"id":"not this one","order":1}"#);
    binary.set("ce-id", "1%20a");
    binary.set("ce-source", "/shop");
    binary.set("ce-type", "order.paid");
    binary.set("ce-time", "2024-01-01T00:00:00Z");
    binary.set("content-type", "application/json");
    let event = binary.read().unwrap();
    assert_eq!(
        (event.id.as_str(), event.event_type.as_str()),
        ("/shop 1 a", "order.paid")
    );
    assert_eq!(event.occurred_at.unwrap().to_string(), "2024-01-01T00:00:00.000Z");
    let one = r#"{"specversion":"1.0","id":"2","source":"/shop","type":"order.paid","subject":"o2","data":{}}"#;
    let mut structured = Message::signed("cloudevents-http", token, one);
    structured.set("content-type", "application/cloudevents+json; charset=utf-8");
    structured.set("ce-id", "stray");
    structured.set("ce-source", "stray");
    let event = structured.read().unwrap();
    assert_eq!(event.id.as_str(), "/shop 2", "stray headers are not looked at");
    assert_eq!(event.subject.unwrap().as_str(), "o2");
    let mut batched = Message::signed(
        "cloudevents-http",
        token,
        &format!("[{one},{}]", one.replace("\"2\"", "\"3\"")),
    );
    batched.set("content-type", "application/cloudevents-batch+json");
    let events = batched.read_all().unwrap();
    assert_eq!(
        events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(),
        ["/shop 2", "/shop 3"]
    );
    let spaced = one.replace("/shop", "/a b");
    let read = |text: &str| {
        let mut message = Message::signed("cloudevents-http", token, text);
        message.set("content-type", "application/cloudevents+json");
        message.read().unwrap().id
    };
    let id = read(&spaced);
    assert!(id.as_str().contains(" 2") && !id.as_str().contains("/a b"), "{id}");
    assert_ne!(
        id,
        read(&one.replace("/shop", "/a").replace("\"2\"", "\"b 2\"")),
        "the parts stay apart"
    );
    let mut broken = binary.clone();
    broken.set("ce-id", "%zz");
    assert_eq!(
        broken.read().unwrap().id.as_str(),
        "/shop %zz",
        "a `%` that begins no escape is itself"
    );
}

#[test]
fn the_envelopes_that_differ_are_read_as_they_are() {
    let old = r#"{"id":"ev_1","object":"event","webhook_id":"whs_1","type":"redemption.succeeded","created_at":"2024-01-01T00:00:00Z","data":{"id":"r_1"}}"#;
    let event = Message::signed("voucherify-2018", &[("a", "s")], old).read().unwrap();
    assert_eq!((event.id.as_str(), event.subject.unwrap().as_str()), ("ev_1", "r_1"));
    let free = r#"{"id":"whs_1","type":"Our campaign went out!","event":{"id":"ev_2","type":"customer.rewarded"}}"#;
    let event = Message::signed("voucherify", &[("a", "s")], free).read().unwrap();
    assert_eq!(
        (event.id.as_str(), event.event_type.as_str()),
        ("ev_2", "customer.rewarded")
    );
    let thin = r#"{"id":"evt_1","object":"v2.core.event","type":"v1.billing.meter.error","created":"2024-09-17T06:20:52.246Z","related_object":{"id":"mtr_1"}}"#;
    let event = Message::signed("stripe", &[("a", "s")], thin).read().unwrap();
    assert_eq!(event.occurred_at.unwrap().to_string(), "2024-09-17T06:20:52.246Z");
    assert_eq!(event.subject.unwrap().as_str(), "mtr_1");
    let raw = Message::signed("voucherify-raw", &[("a", "s")], r#"{"points": 5}"#);
    assert_eq!(raw.read().unwrap_err().reason(), "missing-type");
    let mut typed = raw.clone();
    let profile = Profile::clone(&raw.profile).with_event_type(&"loyalty.points".parse().unwrap());
    typed.profile = Arc::new(profile);
    let event = typed.read().unwrap();
    assert_eq!(event.event_type.as_str(), "loyalty.points");
    let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(br#"{"points": 5}"#));
    assert_eq!(event.id.as_str(), digest);
    let talon = r#"{"TotalResultSize":2,"NotificationType":"LoyaltyPointsAdded","Data":[{"TransactionUUID":"t1"},{"TransactionUUID":"t2"}]}"#;
    let events = Message::signed("talon-one", &[("a", "s")], talon).read_all().unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1].event_type.as_str(), "LoyaltyPointsAdded");
    let mut keyed = Message::signed("ietf-idempotency-key", &[("a", "s")], r#"{"type":"t"}"#);
    for text in ["\"8e03978e\"", "8e03978e"] {
        keyed.set("idempotency-key", text);
        assert_eq!(keyed.read().unwrap().id.as_str(), "8e03978e");
    }
    keyed.set("idempotency-key", "\"8e03");
    assert_eq!(
        keyed.read().unwrap().id.as_str(),
        "\"8e03",
        "a quote without its other half is itself"
    );
}

#[test]
fn refunds_payouts_and_orders_have_lifecycles() {
    let check = |provider: &str, text: &str, family: &str, status: &str| {
        let mut message = Message::signed(provider, &[("a", key(provider))], text);
        if provider == "shopify" {
            message.set("x-shopify-topic", "orders/paid");
        }
        let event = message.read().unwrap();
        assert_eq!(
            event.reading.family().map(|family| family.as_str()),
            Some(family),
            "{text}"
        );
        assert_eq!(
            event.reading.status().map(|status| status.as_str()),
            Some(status),
            "{text}"
        );
    };
    let stripe = |kind: &str, status: &str| {
        format!(r#"{{"id":"e","type":"{kind}","data":{{"object":{{"id":"o","status":"{status}"}}}}}}"#)
    };
    check("stripe", &stripe("refund.updated", "succeeded"), "refund", "completed");
    check("stripe", &stripe("payout.paid", "paid"), "payout", "paid");
    check(
        "razorpay",
        r#"{"event":"order.paid","payload":{"order":{"entity":{"id":"o","status":"paid"}}}}"#,
        "order",
        "paid",
    );
    check("wise", body("wise"), "payout", "pending");
    check(
        "shopify",
        r#"{"id":1,"financial_status":"paid","total_price":"10.00","currency":"USD"}"#,
        "order",
        "paid",
    );
}

// Challenges and acknowledgements.

#[test]
fn challenges_are_answered_after_the_signature_only() {
    let slack = Message::signed(
        "slack",
        &[("a", "s")],
        r#"{"type":"url_verification","challenge":"3eZbrw1aB10"}"#,
    );
    let answer = |message: &Message| message.verified(|verified| challenge::answer(&message.profile, verified));
    let reply = answer(&slack).unwrap();
    assert_eq!((reply.http_status, reply.body.as_str()), (200, "3eZbrw1aB10"));
    assert!(reply.content_type.starts_with("text/plain"));
    let mut forged = slack.clone();
    forged.body = br#"{"type":"url_verification","challenge":"another"}"#.to_vec();
    assert_eq!(forged.reason(), "no-match", "nobody gets as far as the challenge");
    for text in [
        r#"{"type":"event_callback","challenge":"x"}"#,
        r#"{"type":"url_verification"}"#,
        r#"{"type":"url_verification","challenge":"<script>alert(1)</script> x"}"#,
        r#"{"type":"url_verification","challenge":7}"#,
    ] {
        assert_eq!(answer(&Message::signed("slack", &[("a", "s")], text)), None, "{text}");
    }
    let long = format!(r#"{{"type":"url_verification","challenge":"{}"}}"#, "x".repeat(1025));
    assert_eq!(answer(&Message::signed("slack", &[("a", "s")], &long)), None);
    let mut twitch = Message::signed("twitch", &[("a", "s3cRe7-at-least-10")], r#"{"challenge":"pogchamp"}"#);
    assert_eq!(answer(&twitch), None, "without its type it is an event");
    twitch.set("twitch-eventsub-message-type", "webhook_callback_verification");
    assert_eq!(answer(&twitch).unwrap().body, "pogchamp");
    let replying: Vec<_> = provable()
        .into_iter()
        .filter(|provider| answer(&Message::sample(provider)).is_some())
        .collect();
    assert_eq!(replying, [""; 0], "no ordinary event is a challenge");
}

#[test]
fn handshakes_without_a_signature_need_what_the_source_said() {
    let ask = |provider: &str, method: &str, query: Option<&str>, headers: &[(&str, &str)], own: &Parameters| {
        let mut message = Message::sample(provider);
        message.method = method.into();
        message.query = query.map(str::to_owned);
        message.headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let keyring = Keyring::with_parameters(&message.profile, &message.secrets, own).unwrap();
        message.request_with(&keyring, |keyring, request| {
            challenge::preflight(&message.profile, keyring, &request)
        })
    };
    let body = |reply: Option<Result<Reply, Rejection>>| reply.unwrap().map(|reply| reply.body);
    let meta = parameters("meta");
    let good = "hub.mode=subscribe&hub.verify_token=t0ken&hub.challenge=1158201444";
    assert_eq!(
        body(ask("meta", "GET", Some(good), &[], &meta)),
        Ok("1158201444".into())
    );
    let wrong = good.replace("t0ken", "other");
    assert_eq!(
        body(ask("meta", "GET", Some(&wrong), &[], &meta)),
        Err(Rejection::Unauthentic)
    );
    assert_eq!(
        body(ask("meta", "GET", Some(good), &[], &NO_PARAMETERS)),
        Err(Rejection::Unauthentic)
    );
    assert_eq!(body(ask("meta", "GET", None, &[], &meta)), Err(Rejection::Malformed));
    let markup = good.replace("1158201444", "%3Cscript%3E%20");
    assert_eq!(
        body(ask("meta", "GET", Some(&markup), &[], &meta)),
        Err(Rejection::Malformed)
    );
    assert_eq!(ask("meta", "OPTIONS", Some(good), &[], &meta), None);
    assert_eq!(ask("stripe", "GET", Some(good), &[], &NO_PARAMETERS), None);
    let origin = [("webhook-request-origin", "events.example.test")];
    let cloud = parameters("cloudevents-http");
    let reply = ask("cloudevents-http", "OPTIONS", None, &origin, &cloud)
        .unwrap()
        .unwrap();
    assert!(
        reply
            .headers
            .contains(&("webhook-allowed-origin", "events.example.test".into()))
    );
    assert_eq!(
        body(ask("cloudevents-http", "OPTIONS", None, &origin, &NO_PARAMETERS)),
        Err(Rejection::Method)
    );
    let other = [("webhook-request-origin", "evil.example.test")];
    assert_eq!(
        body(ask("cloudevents-http", "OPTIONS", None, &other, &cloud)),
        Err(Rejection::Method)
    );
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
    let text = include_str!("../profiles/generic-hmac.toml").replace("name = \"generic-hmac\"", "name = \"acme-pay\"");
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
    let page = include_str!("../../../docs/providers.md");
    assert!(
        page == tollgate_core::catalogue::markdown(),
        "docs/providers.md is old: cargo run -p tollgate-core --example providers > docs/providers.md"
    );
    for name in shipped().keys() {
        assert!(page.contains(&format!("(`{name}`)")), "{name}");
    }
}
