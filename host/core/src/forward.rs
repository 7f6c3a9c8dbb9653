//! Forwarding: a route without a plugin hands the event itself to its destinations.
//!
//! What it records is an action like any other, made here and by no plugin. It holds none of the event: what a destination receives is
//! composed from the receipt when it is delivered, the same at every attempt.

use data_encoding::BASE64;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::action::{Action, Forward, ForwardForm, GrantedAction};
use crate::event::Event;
use crate::ids::{OperationKey, PluginName, ReceiptId};
use crate::money::Money;
use crate::outbox::OutboxClaim;
use crate::own_header;

/// Stands in the place of a plugin's name for routes that forward, in runs and as the namespace of operations. No plugin may have it.
pub const NAME: &str = "forward";

/// What the run of such a job is called: [`crate::outcome::Outcome::name`] of what no plugin ran.
pub const OUTCOME: &str = "forwarded";

/// [`NAME`], as a plugin's name.
pub fn plugin_name() -> PluginName {
    PluginName::new(NAME).expect("a constant name")
}

/// The one action of a route that forwards. Its operation is the receipt in this form: two routes that hand an event on in one form
/// share it, and each destination gets it once; in another form it is another one.
pub fn action(receipt: ReceiptId, form: ForwardForm) -> GrantedAction {
    let key = OperationKey::new(&format!("{receipt}/{form}")).expect("an id and a word are visible ASCII");
    GrantedAction::new(key, Action::Forward(Forward { receipt, form }))
}

/// The form that a recorded action hands an event on in; none for an action of a plugin's.
pub fn form_of(action_json: &str) -> Option<ForwardForm> {
    match serde_json::from_str(action_json) {
        Ok(Action::Forward(forward)) => Some(forward.form),
        Ok(_) | Err(_) => None,
    }
}

/// What a destination receives of an event.
pub(crate) fn body(form: ForwardForm, claim: &OutboxClaim, event: &Event) -> Vec<u8> {
    match form {
        ForwardForm::Body => event.payload.to_vec(),
        ForwardForm::Envelope => to_vec(&Envelope {
            message_type: "event",
            id: claim.action.to_string(),
            tenant: event.tenant.as_str(),
            receipt: claim.receipt,
            namespace: claim.namespace.as_str(),
            operation_key: claim.operation_key.as_str(),
            recorded_at: claim.recorded_at.to_string(),
            event: Read::of(event),
        }),
        ForwardForm::CloudEvents => {
            let payload = Payload::of(&event.payload);
            let (data, data_base64) = match payload {
                Payload::Json(json) => (Some(Data::Json(json)), None),
                Payload::Text(text) => (Some(Data::Text(text)), None),
                Payload::Bytes(bytes) => (None, Some(BASE64.encode(bytes))),
            };
            to_vec(&CloudEvent {
                specversion: "1.0",
                id: event.id.as_str(),
                source: format!("/tollgate/{}/{}", event.tenant, event.source),
                event_type: event.event_type.as_str(),
                subject: event.subject.as_ref().map(|subject| subject.as_str()),
                time: event.occurred_at.unwrap_or(event.received_at).to_string(),
                datacontenttype: media_type(&event.payload),
                tollgatereceipt: claim.receipt,
                data,
                data_base64,
            })
        }
    }
}

/// The content type of [`body`]. The request's own is not kept, so that of a body alone is told from the body's form.
pub(crate) fn content_type(form: ForwardForm, event: &Event) -> &'static str {
    match form {
        ForwardForm::Envelope => "application/json",
        ForwardForm::Body => media_type(&event.payload),
        ForwardForm::CloudEvents => "application/cloudevents+json; charset=utf-8",
    }
}

/// The headers that say where a forwarded event is from.
pub(crate) fn headers(receipt: ReceiptId, event: &Event) -> Vec<(String, String)> {
    let mut headers = vec![
        ("tollgate-receipt".to_owned(), receipt.to_string()),
        ("tollgate-tenant".to_owned(), event.tenant.to_string()),
        ("tollgate-source".to_owned(), event.source.to_string()),
    ];
    // A header's value must be one word of ASCII; the other forms say the rest in their JSON.
    for (name, value) in [
        ("tollgate-event-id", event.id.as_str()),
        ("tollgate-event-type", event.event_type.as_str()),
    ] {
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    headers
}

/// The headers of the request that the event's source keeps, with their names in lower case. What was shortened, or is not one line of visible
/// ASCII, is no header's value any more.
pub(crate) fn kept_headers(event: &Event) -> impl Iterator<Item = (&str, &str)> {
    event.attributes.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(own_header::KEPT)?;
        own_header::check_value(value.as_bytes())
            .is_ok()
            .then_some((name, value.as_str()))
    })
}

fn to_vec(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and JSON that was read")
}

/// A body in a JSON document: as JSON where it is JSON, else as text or base64.
enum Payload<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Payload<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let without_mark = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match (serde_json::from_slice(without_mark), std::str::from_utf8(bytes)) {
            (Ok(json), _) => Self::Json(json),
            (Err(_), Ok(text)) => Self::Text(text),
            (Err(_), Err(_)) => Self::Bytes(bytes),
        }
    }
}

fn media_type(bytes: &[u8]) -> &'static str {
    match Payload::of(bytes) {
        Payload::Json(_) => "application/json",
        Payload::Text(text) if text.trim_start().starts_with('<') => "application/xml",
        Payload::Text(text) if text.contains('=') && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "application/x-www-form-urlencoded"
        }
        Payload::Text(_) => "text/plain; charset=utf-8",
        Payload::Bytes(_) => "application/octet-stream",
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    message_type: &'static str,
    id: String,
    tenant: &'a str,
    receipt: ReceiptId,
    namespace: &'a str,
    operation_key: &'a str,
    recorded_at: String,
    event: Read<'a>,
}

/// An event as it was read, under the names that fixtures have.
#[derive(Serialize)]
struct Read<'a> {
    source: &'a str,
    id: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<String>,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Money>,
    attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// The body where it is text and no JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_text: Option<&'a str>,
    /// The body in base64, where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl<'a> Read<'a> {
    fn of(event: &'a Event) -> Self {
        let (mut json, mut text, mut base64) = (None, None, None);
        match Payload::of(&event.payload) {
            Payload::Json(value) => json = Some(value),
            Payload::Text(value) => text = Some(value),
            Payload::Bytes(value) => base64 = Some(BASE64.encode(value)),
        }
        Self {
            source: event.source.as_str(),
            id: event.id.as_str(),
            event_type: event.event_type.as_str(),
            subject: event.subject.as_ref().map(|subject| subject.as_str()),
            family: event.reading.family().map(|family| family.as_str()),
            status: event.reading.status().map(|status| status.as_str()),
            occurred_at: event.occurred_at.map(|at| at.to_string()),
            received_at: event.received_at.to_string(),
            amount: event.amount,
            attributes: Attributes(&event.attributes),
            payload: json,
            payload_text: text,
            payload_base64: base64,
        }
    }
}

/// As an object, in the profile's order.
struct Attributes<'a>(&'a [(String, String)]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// CloudEvents 1.0, section 3.1, and its JSON format. Of one source an event's id is never another event's.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: String,
    datacontenttype: &'static str,
    tollgatereceipt: ReceiptId,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    Text(&'a str),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::action::ActionKind;
    use crate::delivery::{AttemptEnd, Recipient};
    use crate::event::StatusReading;
    use crate::ids::KeyId;
    use crate::outbox::idempotency_key;
    use crate::outbox::tests::claim;
    use crate::profile;
    use crate::secret::{Secret, SourceSecret};
    use crate::time::UnixMillis;

    const RECEIPT: ReceiptId = ReceiptId([0xab; 16]);

    fn event(payload: &[u8]) -> Event {
        Event {
            tenant: "acme".parse().unwrap(),
            source: "shop".parse().unwrap(),
            id: "evt_1".parse().unwrap(),
            event_type: "order.paid".parse().unwrap(),
            subject: Some("order 7".parse().unwrap()),
            reading: StatusReading::Mapped {
                family: "order".parse().unwrap(),
                status: "paid".parse().unwrap(),
            },
            occurred_at: None,
            received_at: UnixMillis(1_777_975_200_000),
            amount: None,
            attributes: vec![("b".into(), "1".into()), ("a".into(), "\"".into())],
            payload: Bytes::copy_from_slice(payload),
        }
    }

    /// The content type, the body and the headers of a forwarded event.
    fn sent(form: ForwardForm, payload: &[u8]) -> (&'static str, Vec<u8>, Vec<(String, String)>) {
        let (granted, event) = (action(RECEIPT, form), event(payload));
        let claim = OutboxClaim {
            namespace: NAME.parse().unwrap(),
            operation_key: granted.operation_key().clone(),
            kind: granted.action().kind(),
            ..claim()
        };
        (
            content_type(form, &event),
            body(form, &claim, &event),
            headers(RECEIPT, &event),
        )
    }

    #[test]
    fn a_forwarded_event_is_one_operation_in_each_form_and_holds_none_of_it() {
        let mut keys = std::collections::BTreeSet::new();
        for form in ForwardForm::ALL {
            let granted = action(RECEIPT, form);
            let json = granted.action().to_json();
            assert_eq!(
                json,
                format!(r#"{{"kind":"forward","receipt":"{RECEIPT}","form":"{form}"}}"#)
            );
            assert_eq!(form_of(&json), Some(form));
            assert_eq!(form.as_str().parse(), Ok(form));
            assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), *granted.action());
            let namespace = NAME.parse().unwrap();
            keys.insert(idempotency_key(
                &namespace,
                ActionKind::Forward,
                granted.operation_key(),
            ));
        }
        assert_eq!(keys.len(), ForwardForm::ALL.len());
        assert_eq!(form_of(r#"{"kind":"flag","subject":"a","score":1,"reasons":[]}"#), None);
        assert!("Body".parse::<ForwardForm>().is_err());
        assert_eq!(ActionKind::from_name("forward"), None, "no plugin may ask for it");
        assert_eq!(ActionKind::of_ledger("forward"), Some(ActionKind::Forward));
    }

    #[test]
    fn a_kept_header_gives_way_to_the_destinations_own_and_each_name_stands_once() {
        let mut event = event(b"{}");
        for (name, value) in [("x-region", "eu"), ("x-request-id", "req-1")] {
            event
                .attributes
                .push((format!("{}{name}", own_header::KEPT), value.to_owned()));
        }
        let granted = action(RECEIPT, ForwardForm::Body);
        let claim = OutboxClaim {
            namespace: NAME.parse().unwrap(),
            operation_key: granted.operation_key().clone(),
            kind: ActionKind::Forward,
            action_json: granted.action().to_json(),
            ..claim()
        };
        assert!(claim.hands_on_event());
        let region = Secret::new("us");
        let secret = |text: &str| SourceSecret {
            id: KeyId::new("a").unwrap(),
            text: Secret::new(text),
            not_before: None,
            not_after: None,
        };
        let composed = |secret: &SourceSecret| {
            let to = Recipient {
                scheme: profile::standard_webhooks(),
                secrets: std::slice::from_ref(secret),
                headers: &[("x-region", &region)],
                user_agent: "tollgate",
            };
            claim.compose(Some(&event), &to, UnixMillis(1_777_975_200_000), UnixMillis(7))
        };
        let outgoing = composed(&secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        assert_eq!(outgoing.body, b"{}");
        let mut sent: Vec<_> = outgoing
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value.expose()).unwrap()))
            .collect();
        for pair in [
            ("content-type", "application/json"),
            ("user-agent", "tollgate"),
            ("webhook-id", "msg_1"),
            ("x-region", "us"),
            ("x-request-id", "req-1"),
        ] {
            assert!(sent.contains(&pair), "{pair:?} of {sent:?}");
        }
        let names = sent.len();
        sent.sort_unstable();
        sent.dedup_by_key(|(name, _)| *name);
        assert_eq!(sent.len(), names, "a name stands twice");
        // What cannot be signed never can be: it is not tried again.
        assert!(matches!(composed(&secret("whsec_")), Err(AttemptEnd::Forbidden { .. })));
    }

    #[test]
    fn a_body_is_handed_on_byte_for_byte() {
        for (payload, media_type) in [
            (&b"{\"b\": 1,\n \"a\":2 }"[..], "application/json"),
            (b"\xef\xbb\xbf{}", "application/json"),
            (b"a=1&b=%20", "application/x-www-form-urlencoded"),
            (b"<a b=\"c\"/>", "application/xml"),
            (b"hello = there", "text/plain; charset=utf-8"),
            (b"\xff\x00", "application/octet-stream"),
        ] {
            let (content_type, body, _) = sent(ForwardForm::Body, payload);
            assert_eq!((content_type, &body[..]), (media_type, payload));
        }
        let (_, _, headers) = sent(ForwardForm::Body, b"{}");
        let names: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            names,
            [
                format!("tollgate-receipt: {RECEIPT}"),
                "tollgate-tenant: acme".to_owned(),
                "tollgate-source: shop".to_owned(),
                "tollgate-event-id: evt_1".to_owned(),
                "tollgate-event-type: order.paid".to_owned(),
            ]
        );
    }

    #[test]
    fn an_envelope_embeds_the_body_as_it_came() {
        let (content_type, body, _) = sent(ForwardForm::Envelope, b"{\"b\":  1.50}");
        assert_eq!(content_type, "application/json");
        let text = String::from_utf8(body).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"type":"event","id":"act_7","tenant":"acme","receipt":"{RECEIPT}","namespace":"forward","operation_key":"{RECEIPT}/envelope","recorded_at":"2026-05-05T10:00:00.000Z","event":{{"source":"shop","id":"evt_1","type":"order.paid","subject":"order 7","family":"order","status":"paid","received_at":"2026-05-05T10:00:00.000Z","attributes":{{"b":"1","a":"\""}},"payload":{{"b":  1.50}}}}}}"#
            )
        );
        let event = |payload: &[u8]| {
            let (_, body, _) = sent(ForwardForm::Envelope, payload);
            serde_json::from_slice::<Value>(&body).unwrap()["event"].clone()
        };
        assert_eq!(event(b"a=1")["payload_text"], "a=1");
        assert_eq!(event(b"\xff")["payload_base64"], "/w==");
        assert_eq!(event(b"\xef\xbb\xbf[]")["payload"], json!([]));
    }

    #[test]
    fn a_cloud_event_has_what_its_specification_asks_for() {
        let read = |payload: &[u8]| {
            let (content_type, body, _) = sent(ForwardForm::CloudEvents, payload);
            assert_eq!(content_type, "application/cloudevents+json; charset=utf-8");
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        assert_eq!(
            read(br#"{"total":7}"#),
            json!({
                "specversion": "1.0", "id": "evt_1", "source": "/tollgate/acme/shop", "type": "order.paid", "subject": "order 7",
                "time": "2026-05-05T10:00:00.000Z", "datacontenttype": "application/json",
                "tollgatereceipt": RECEIPT.to_string(), "data": { "total": 7 }
            })
        );
        let text = read(b"a=1");
        assert_eq!(
            (&text["data"], &text["datacontenttype"]),
            (&json!("a=1"), &json!("application/x-www-form-urlencoded"))
        );
        assert_eq!(read(b"\xff")["data_base64"], "/w==");
    }
}
