//! Requests in a provider's shape: what its events look like, for whoever tries a source (promises O9, O14).
//!
//! A sample is one that the provider's documentation shows, or that was recorded. A test is made of it: under an id and a type of its own, so
//! that it is nobody's event and nothing follows from it that was not meant to.

use serde::Deserialize;
use serde_json::Value;

use crate::form;
use crate::profile::{BodyFormat, FieldSource, Profile, Step, Vector, VectorEvent};
use crate::vector::{self, Outcome};

/// Requests in the shape of providers whose known answers carry no event.
const REQUESTS: &str = include_str!("../../../tests/samples/requests.json");
/// The key that a test's body has at its top, with the test's id.
const MARK: &str = "tollgate_test";
/// Numbers that every reader of JSON reads exactly.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// One unsigned request as a provider sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Names in lower case, with their values. A signature among them is of the sample's own secret.
    pub headers: Vec<(String, String)>,
    /// The body as it was sent.
    pub body: String,
}

/// A request of [`REQUESTS`].
#[derive(Deserialize)]
struct Shown {
    provider: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Sample {
    /// A request in the provider's shape: one that ships with Tollgate, or the first of its known answers that is an event. None where there is
    /// neither.
    pub fn of(profile: &Profile) -> Option<Self> {
        let mut shipped: Vec<Shown> = serde_json::from_str(REQUESTS).unwrap_or_default();
        let at = shipped.iter().position(|shown| shown.provider == profile.name.as_str());
        let (mut headers, body) = match at.map(|at| shipped.swap_remove(at)) {
            Some(shown) => (shown.headers, shown.body),
            None => {
                let vectors = vector::of(profile);
                let shown = vectors.into_iter().find(|vector| is_event(profile, vector))?;
                (shown.headers, shown.body)
            }
        };
        for (name, _) in &mut headers {
            name.make_ascii_lowercase();
        }
        if !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        Some(Self { headers, body })
    }

    /// The request as a test: with this id, of this type where one is given, and marked in its body. What of it the provider writes in another place
    /// than the body or a header stays as it is.
    #[must_use]
    pub fn as_test(mut self, profile: &Profile, id: &str, event_type: Option<&str>) -> Self {
        let event = &profile.event;
        if let (Some(FieldSource::Header { name, .. }), Some(event_type)) = (event.event_type.first(), event_type) {
            let name = name.in_set(0);
            self.headers.retain(|(known, _)| known != name);
            self.headers.push((name.to_owned(), event_type.to_owned()));
        }
        let mut places = places(profile, &event.id, id);
        if let Some(event_type) = event_type {
            places.extend(self::places(profile, &event.event_type, event_type));
        }
        match event.body {
            BodyFormat::Form => self.body = form_with(&self.body, &places, id),
            BodyFormat::Json => {
                if let Ok(mut body) = serde_json::from_str::<Value>(&self.body) {
                    let steps: &[Step] = profile.batch.as_ref().map_or(&[], |batch| &batch.steps);
                    mark(&mut body, steps, &places, id);
                    self.body = body.to_string();
                }
            }
        }
        self
    }
}

/// Whether a known answer verifies and is read as an event, whatever it says of it.
fn is_event(profile: &Profile, vector: &Vector) -> bool {
    let mut asked = vector.clone();
    if asked.events.is_empty() {
        asked.events = vec![VectorEvent::default()];
    }
    vector.refused.is_none() && vector.unreadable.is_none() && vector::run(profile, &asked) == Outcome::Passed
}

/// The pointers into the event that a value may come from, each with the text that is to stand there. Of a text that is joined of several places
/// the first alone.
fn places<'t>(profile: &Profile, sources: &[FieldSource], text: &'t str) -> Vec<(String, &'t str)> {
    let pointer = |source: &FieldSource| {
        let first = match source {
            FieldSource::Joined(parts) => parts.iter().find(|part| matches!(part, FieldSource::Body(_)))?,
            source => source,
        };
        match first {
            FieldSource::Body(slot) => Some(profile.event.pointers.text(*slot)),
            _ => None,
        }
    };
    sources
        .iter()
        .filter_map(pointer)
        .map(|pointer| (pointer, text))
        .collect()
}

/// Writes the values into the first event of a body, leaves the others out, and marks the body.
fn mark(body: &mut Value, steps: &[Step], places: &[(String, &str)], id: &str) {
    let is_batch = item(&mut body.clone(), steps).is_some();
    if let Some(event) = item(body, if is_batch { steps } else { &[] }) {
        let is_there = |event: &Value, pointer: &str| event.pointer(pointer).is_some_and(|value| !value.is_null());
        // Of alternatives, those that are there; the first where none is.
        let mut written: Vec<&str> = Vec::new();
        for (pointer, text) in places {
            if is_there(event, pointer) || !written.contains(text) {
                put(event, pointer, text);
                written.push(text);
            }
        }
        if let Some(members) = event.as_object_mut() {
            members.insert(MARK.to_owned(), id.into());
        }
    }
}

/// The first event of a body.
fn item<'v>(body: &'v mut Value, steps: &[Step]) -> Option<&'v mut Value> {
    let mut at = body;
    for step in steps {
        at = match step {
            Step::Key(key) => at.get_mut(key)?,
            Step::Each => {
                let all = at.as_array_mut()?;
                all.truncate(1);
                all.first_mut()?
            }
        };
    }
    Some(at)
}

/// Writes a text at a pointer; the objects on the way are made. Where a number stands, a number that the text's digest makes is put.
fn put(event: &mut Value, pointer: &str, text: &str) {
    let mut at = event;
    for key in pointer.split('/').skip(1) {
        let key = key.replace("~1", "/").replace("~0", "~");
        let next = match at {
            Value::Array(all) => key.parse().ok().and_then(|at: usize| all.get_mut(at)),
            Value::Object(members) => Some(members.entry(key).or_insert_with(|| Value::Object(Default::default()))),
            _ => None,
        };
        let Some(next) = next else { return };
        at = next;
    }
    *at = match at {
        Value::Number(_) => number_of(text).into(),
        _ => text.into(),
    };
}

fn number_of(text: &str) -> u64 {
    let digest = crate::ids::Digest::of(text.as_bytes()).0;
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first) & NUMBER_MAX
}

/// A form with these fields in the place of those of their names, and the mark behind them.
fn form_with(body: &str, places: &[(String, &str)], id: &str) -> String {
    let name_of = |pointer: &str| pointer.trim_start_matches('/').replace("~1", "/").replace("~0", "~");
    let mut fields: Vec<String> = Vec::new();
    let mut written: Vec<String> = Vec::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        let plain = String::from_utf8_lossy(&form::bytes(name, true)).into_owned();
        match places.iter().find(|(pointer, _)| name_of(pointer) == plain) {
            Some((_, text)) => {
                fields.push(format!("{name}={}", form::encode(text)));
                written.push(plain);
            }
            None => fields.push(pair.to_owned()),
        }
    }
    fields.push(format!("{MARK}={}", form::encode(id)));
    fields.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope;
    use crate::ids::{SourceName, TenantName};
    use crate::profile;
    use crate::request::{Header, RawRequest};
    use crate::sign::{SignInput, sign};
    use crate::time::UnixMillis;
    use crate::verify::{Keyring, verify};

    /// Of each provider that signs with a shared secret, whether a test of it is an event of its own id and type.
    #[test]
    fn o14_a_test_of_each_provider_that_can_be_signed_is_an_event_of_its_own() {
        let (tenant, source) = (TenantName::new("acme").unwrap(), SourceName::new("shop").unwrap());
        let at = UnixMillis(1_777_975_200_000);
        let (mut own, mut of_type) = (Vec::new(), Vec::new());
        for (name, profile) in profile::shipped() {
            let Some(sample) = Sample::of(profile) else { continue };
            let Some(vector) = vector::of(profile).into_iter().find(|vector| vector.secret.is_some()) else {
                continue;
            };
            let (secrets, parameters) = (vector.secrets().unwrap(), vector.parameters());
            let url = "https://hooks.example/in/acme/shop";
            for id in ["tollgate-test-0011223344556677", "74657374-0011-4233-8455-667788990011"] {
                let test = sample.clone().as_test(profile, id, Some("tollgate.test"));
                let input = SignInput {
                    body: test.body.as_bytes(),
                    id,
                    at,
                    url: Some(url),
                };
                let Ok(signed) = sign(profile, &secrets, &parameters, &input) else {
                    continue;
                };
                let is_said = |name: &str| signed.headers.iter().any(|(said, _)| said == name);
                let headers: Vec<_> = signed
                    .headers
                    .iter()
                    .chain(test.headers.iter().filter(|(name, _)| !is_said(name)))
                    .map(|(name, value)| Header {
                        name,
                        value: value.as_bytes(),
                    })
                    .collect();
                let request = RawRequest {
                    method: "POST",
                    path: Some("/in/acme/shop"),
                    query: signed.query.as_deref(),
                    headers: &headers,
                    body: &signed.body,
                    url: Some(url),
                    received_at: at,
                };
                let keyring = Keyring::with_parameters(profile, &secrets, &parameters).unwrap();
                let Ok(verified) = verify(profile, &keyring, request) else {
                    continue;
                };
                let Ok(events) = envelope::read(profile, &verified, &tenant, &source) else {
                    continue;
                };
                assert_eq!(events.len(), 1, "{name}: one event");
                if events[0].id.as_str().contains(id) && !own.contains(&name.as_str()) {
                    own.push(name.as_str());
                }
                if events[0].event_type.as_str() == "tollgate.test" && !of_type.contains(&name.as_str()) {
                    of_type.push(name.as_str());
                }
            }
        }
        for provider in [
            "stripe",
            "generic-hmac",
            "standard-webhooks",
            "voucherify",
            "shopify",
            "github",
        ] {
            assert!(
                own.contains(&provider),
                "{provider} has no test with an id of its own: {own:?}"
            );
        }
        for provider in ["stripe", "generic-hmac", "voucherify"] {
            assert!(
                of_type.contains(&provider),
                "{provider} has no test of a type of its own: {of_type:?}"
            );
        }
    }

    #[test]
    fn o14_a_test_keeps_the_shape_and_takes_one_event_of_a_batch() {
        let mut body = serde_json::json!({ "events": [{ "id": 7, "kind": "a" }, { "id": 8, "kind": "b" }] });
        let steps = [Step::Key("events".to_owned()), Step::Each];
        mark(
            &mut body,
            &steps,
            &[("/id".to_owned(), "x"), ("/kind".to_owned(), "t")],
            "x",
        );
        assert_eq!(body["events"].as_array().unwrap().len(), 1);
        assert!(body["events"][0]["id"].is_u64() && body["events"][0]["id"] != 7);
        assert_eq!(
            (&body["events"][0]["kind"], &body["events"][0][MARK]),
            (&"t".into(), &"x".into())
        );
        let form = form_with("Sid=S1&Body=a+b", &[("/Sid".to_owned(), "a&b")], "x");
        assert_eq!(form, "Sid=a%26b&Body=a+b&tollgate_test=x");
    }
}
