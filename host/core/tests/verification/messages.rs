//! Messages as rows of `messages.toml`: what is signed, what is bent of it on its way, and what comes out. Each table of that file is a
//! test of its own, and `profiles.toml` has the same for texts of profiles and secrets.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::message::{Message, body, key, secret};
use serde::Deserialize;
use tollgate_core::answer::Rejection;
use tollgate_core::challenge;
use tollgate_core::envelope::READING_NOTES;
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::verify::Keyring;

type Pairs = Vec<(String, String)>;

/// A kind of message: what its rows share.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    /// Each row is tried with each of them, unless it names its own.
    #[serde(default)]
    providers: Vec<String>,
    rows: Vec<Row>,
    #[serde(default)]
    secret: Option<String>,
    /// What is signed where the row says nothing else; `<name>` stands for what the row fills in.
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    set: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Row {
    provider: Option<String>,

    // What is signed: by default the provider's sample, by a key that suits it.
    secret: Option<String>,
    body: Option<String>,
    /// A file of tests/samples.
    sample: Option<String>,
    fill: BTreeMap<String, String>,
    /// Texts that the signed body has instead of others.
    with: Pairs,

    // What becomes of it on its way.
    set: BTreeMap<String, String>,
    unset: Vec<String>,
    /// A header that comes once more, with this value.
    again: Pairs,
    /// Of a header's value, a text and what stands there instead.
    bent: Vec<(String, String, String)>,
    sent: Option<String>,
    /// As `with`, after the signature was made.
    altered: Pairs,
    url: Option<String>,
    query: Option<String>,
    method: Option<String>,
    late_s: i64,
    /// No key is given: it would have to be fetched.
    keyless: bool,

    // What comes out.
    /// `verified`, or the reason of the refusal.
    proof: Option<String>,
    differs: Option<String>,
    hint: Option<String>,
    /// Why what is authentic is no event, and a part of the sentence.
    unread: Option<String>,
    says: Option<String>,
    rejection: Option<String>,
    /// The only event, or one of several: by field, `@` before an attribute's name; an empty text is an absent one.
    event: Option<BTreeMap<String, String>>,
    events: Option<Vec<BTreeMap<String, String>>>,
    /// What a challenge is answered with; an empty text for no answer.
    challenge: Option<String>,
}

static KINDS: LazyLock<BTreeMap<String, Kind>> =
    LazyLock::new(|| toml::from_str(include_str!("messages.toml")).unwrap());

fn sample(name: &str) -> &'static str {
    match name {
        "pending" => include_str!("../../../../tests/samples/voucherify-customer.reward_redemptions.pending.json"),
        "completed" => include_str!("../../../../tests/samples/voucherify-customer.reward_redemptions.completed.json"),
        "rewarded" => include_str!("../../../../tests/samples/voucherify-customer.rewarded.json"),
        "native" => include_str!("../../../../tests/samples/native-reward.redeemed.json"),
        other => panic!("no sample `{other}`"),
    }
}

/// Tries every row of the table of this name.
fn check(name: &str) {
    let kind = &KINDS[name];
    for (number, row) in kind.rows.iter().enumerate() {
        let providers = row.provider.as_ref().map_or(&kind.providers[..], std::slice::from_ref);
        assert!(!providers.is_empty(), "{name}, row {number}: nobody sends it");
        for provider in providers {
            row.check(
                &row.message(kind, provider),
                &format!("{name}, row {number}, {provider}"),
            );
        }
    }
}

fn replaced(text: &str, pairs: &Pairs) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from.as_str()), "{from} is not in {text}");
        text.replace(from.as_str(), to)
    })
}

impl Row {
    fn message(&self, kind: &Kind, provider: &str) -> Message {
        let secret = self
            .secret
            .as_deref()
            .or(kind.secret.as_deref())
            .unwrap_or(key(provider));
        let given = self
            .sample
            .as_deref()
            .map(sample)
            .or(self.body.as_deref())
            .or(kind.body.as_deref());
        let text = given.unwrap_or(body(provider));
        let filled = self.fill.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("<{name}>"), value)
        });
        let mut message = Message::signed(provider, &[("a", secret)], &replaced(&filled, &self.with));
        for (name, value) in kind.set.iter().chain(&self.set) {
            message.set(name, value);
        }
        self.unset.iter().for_each(|name| message.unset(name));
        for (name, value) in &self.again {
            message.headers.push((name.clone(), value.clone().into_bytes()));
        }
        for (name, from, to) in &self.bent {
            let value = replaced(&message.header(name), &vec![(from.clone(), to.clone())]);
            message.set(name, &value);
        }
        if let Some(sent) = &self.sent {
            message.body = sent.clone().into_bytes();
        }
        if !self.altered.is_empty() {
            message.body = replaced(std::str::from_utf8(&message.body).unwrap(), &self.altered).into_bytes();
        }
        message.url = self.url.clone().or(message.url);
        message.query = self.query.clone().or(message.query);
        message.method = self.method.clone().unwrap_or(message.method);
        message.received_at = message.received_at.plus_ms(self.late_s * 1000);
        if self.keyless {
            message.secrets.clear();
        }
        message
    }

    fn check(&self, message: &Message, row: &str) {
        let wanted = self.proof.as_deref().unwrap_or("verified");
        assert_eq!(message.reason(), wanted, "{row}");
        if self.differs.is_some() || self.hint.is_some() {
            let explanation = message.explain();
            if let Some(differs) = &self.differs {
                assert_eq!(explanation.differs.as_str(), differs, "{row}");
            }
            let hint = self.hint.as_deref().unwrap_or_default();
            let hints = &explanation.hints;
            assert!(
                hint.is_empty() || hints.iter().any(|given| given.contains(hint)),
                "{row}: {hints:?}"
            );
        }
        if self.unread.is_some() || self.says.is_some() || self.rejection.is_some() {
            let unreadable = message.read_all().unwrap_err();
            let rejection = format!("{:?}", Rejection::from(&unreadable));
            let said = unreadable.to_string();
            for (found, wanted) in [(unreadable.reason(), &self.unread), (&rejection, &self.rejection)] {
                assert_eq!(found, wanted.as_deref().unwrap_or(found), "{row}: {said}");
            }
            assert!(said.contains(self.says.as_deref().unwrap_or_default()), "{row}: {said}");
        }
        if let Some(fields) = &self.event {
            let event = message.read().unwrap();
            assert_eq!(event.received_at, message.received_at, "{row}");
            assert!(self.sample.is_none() || event.payload == message.body, "{row}");
            holds(&event, fields, row);
        }
        if let Some(events) = &self.events {
            let read = message.read_all().unwrap();
            assert_eq!(read.len(), events.len(), "{row}");
            read.iter()
                .zip(events)
                .for_each(|(event, fields)| holds(event, fields, row));
        }
        if let Some(challenge) = &self.challenge {
            let reply = message.verified(|verified| challenge::answer(&message.profile, verified));
            assert_eq!(reply.map(|reply| reply.body).unwrap_or_default(), *challenge, "{row}");
        }
    }
}

fn holds(event: &Event, fields: &BTreeMap<String, String>, row: &str) {
    let attribute = |name: &str| {
        let found = event.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    for (field, wanted) in fields {
        let found = match field.as_str() {
            "id" => event.id.to_string(),
            "type" => event.event_type.to_string(),
            "subject" => event.subject.as_ref().map(ToString::to_string).unwrap_or_default(),
            "family" => event.reading.family().map(ToString::to_string).unwrap_or_default(),
            "status" => event.reading.status().map(ToString::to_string).unwrap_or_default(),
            "unmapped" => match &event.reading {
                StatusReading::Unmapped { label, .. } => label.clone().unwrap_or_default(),
                StatusReading::Stateless | StatusReading::Mapped { .. } => String::new(),
            },
            "amount" => event.amount.map(|amount| amount.to_string()).unwrap_or_default(),
            "at" => event.occurred_at.map(|at| at.to_string()).unwrap_or_default(),
            "payload" => String::from_utf8(event.payload.to_vec()).unwrap(),
            "notes" => {
                let notes = attribute(READING_NOTES);
                assert_eq!(notes.is_empty(), wanted.is_empty(), "{row}: {notes}");
                assert!(
                    notes.contains(wanted.as_str()),
                    "{row}: `{notes}` does not say `{wanted}`"
                );
                continue;
            }
            // Every attribute, in their order.
            "attributes" => {
                let all = event.attributes.iter().map(|(name, value)| format!("{name}={value}"));
                all.collect::<Vec<_>>().join(" ")
            }
            other => attribute(other.strip_prefix('@').unwrap_or_else(|| panic!("no field `{other}`"))),
        };
        assert_eq!(found, *wanted, "{row}: {field}");
    }
}

macro_rules! kinds {
    ($(fn $name:ident();)*) => {
        $(#[test] fn $name() { check(stringify!($name)); })*

        #[test]
        fn every_table_is_a_test() {
            let mut named = [$(stringify!($name)),*];
            named.sort_unstable();
            assert!(KINDS.keys().eq(named), "{:?}", KINDS.keys());
        }
    };
}

kinds! {
    fn a_certificates_url_is_listed_or_refused();
    fn a_key_that_comes_twice_is_two_readings_and_none_of_ours();
    fn a_message_signature_covers_method_target_and_body_or_proves_nothing();
    fn a_redelivery_with_other_bytes_keeps_its_id();
    fn absence_of_a_header_never_selects_a_weaker_mode();
    fn adyen_proves_eight_fields_and_each_of_them();
    fn adyens_separator_moves_nothing_between_fields();
    fn an_amount_that_is_said_in_parts_is_the_sum_of_those_that_count();
    fn challenges_are_answered_after_the_signature_only();
    fn cloudevents_come_in_three_modes();
    fn hints_say_what_happened_to_the_bytes();
    fn hints_say_what_of_the_url_differs();
    fn i11_a_value_that_breaks_a_bound_refuses_no_event();
    fn i12_a_providers_own_minor_units_are_exact_money();
    fn i12_the_amount_is_the_one_that_the_event_is_about();
    fn i8_each_provider_is_read_into_the_one_envelope();
    fn malformed_timestamps_are_no_timestamps();
    fn payments_are_read_into_one_lifecycle();
    fn signed_parts_cannot_flow_into_each_other();
    fn static_credentials_are_compared_whole();
    fn test_events_are_told_from_live_ones();
    fn what_is_no_event_is_refused_by_name();
}

/// Of a profile's text, what stands there instead of what, and what is said of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    /// By profile: from, to, says.
    profiles: BTreeMap<String, Vec<[String; 3]>>,
    secrets: Secrets,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secrets {
    /// Providers, texts, says.
    rows: Vec<(Vec<String>, Vec<String>, String)>,
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| toml::from_str(include_str!("profiles.toml")).unwrap());

#[test]
fn a_bad_profile_is_refused_where_it_is_bad() {
    for (profile, rows) in &TEXTS.profiles {
        let good = match profile.as_str() {
            "adyen" => include_str!("../../profiles/adyen.toml"),
            "coinbase-cdp" => include_str!("../../profiles/coinbase-cdp.toml"),
            "github" => include_str!("../../profiles/github.toml"),
            "standard-webhooks" => include_str!("../../profiles/standard-webhooks.toml"),
            "stripe" => include_str!("../../profiles/stripe.toml"),
            other => panic!("no text of `{other}`"),
        };
        for [from, to, says] in rows {
            assert!(good.contains(from.as_str()), "{profile}: {from}");
            let error = Profile::from_toml(&good.replacen(from.as_str(), to, 1))
                .unwrap_err()
                .to_string();
            assert!(error.contains(says.as_str()), "{profile}: {error}\nexpected: {says}");
        }
    }
}

/// What came with a secret when it was copied is named, and never taken for part of it; the secret itself is not shown.
#[test]
fn a_bad_secret_is_named_and_not_shown() {
    for (providers, texts, says) in &TEXTS.secrets.rows {
        let secrets: Vec<_> = texts.iter().map(|text| secret("k1", text)).collect();
        for provider in providers {
            let error = Keyring::new(&shipped()[provider.as_str()], &secrets)
                .unwrap_err()
                .to_string();
            assert!(error.contains(says.as_str()), "{provider} {texts:?}: {error}");
        }
    }
    let keyring = |text| Keyring::new(&shipped()["generic-hmac"], &[secret("k1", text)]).unwrap();
    assert_eq!(
        format!("{:?}", keyring("hunter2")),
        r#"Keyring { provider: "generic-hmac", keys: ["k1"], .. }"#
    );
    keyring("v1,and more");
}
