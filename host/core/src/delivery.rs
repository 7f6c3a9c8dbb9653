//! Delivery: what an attempt's end means, and how an outgoing message is signed.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::action::ActionKind;
use crate::event::Event;
use crate::forward::{self, ForwardForm};
use crate::ids::{
    ActionId, DestinationName, Digest, LeaseEpoch, Namespace, OperationKey, OutboxId, ReceiptId, ResendId, TenantName,
};
use crate::limits::{ANSWER_BYTES_KEPT, RETRY_AFTER_MS_MAX};
use crate::profile::Profile;
use crate::retry::{Jitter, Moment, NextStep, RetryPolicy};
use crate::secret::{NO_PARAMETERS, Secret, SourceSecret};
use crate::sign::{SignError, SignInput, sign};
use crate::time::UnixMillis;

/// How one attempt to deliver ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The destination answered with this status.
    Answered {
        http_status: u16,
        retry_after_ms: Option<i64>,
    },
    /// No whole answer: refused, reset, timed out, TLS or DNS trouble.
    Failed { reason: String },
    /// The host's own rules forbid to connect there. No attempt will ever pass until the configuration changes.
    Forbidden { reason: String },
}

/// What becomes of an outbox entry after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum EntryEnd {
    Delivered,
    RetryAt { at: UnixMillis, reason: String },
    Dead { reason: String },
}

/// A leased outbox entry, with all that its delivery needs.
#[derive(Debug, Clone)]
pub struct OutboxClaim {
    pub entry: OutboxId,
    /// [`message_id`].
    pub message_id: String,
    pub epoch: LeaseEpoch,
    /// Which attempt this is, from 1. Counts since the entry was made or last replayed.
    pub attempt: u32,
    pub tenant: TenantName,
    pub destination: DestinationName,
    pub action: ActionId,
    pub namespace: Namespace,
    pub operation_key: OperationKey,
    pub kind: ActionKind,
    /// [`Action::to_json`](crate::action::Action::to_json), byte for byte as recorded.
    pub action_json: String,
    pub receipt: ReceiptId,
    pub recorded_at: UnixMillis,
    /// Set when it was delivered before, and somebody has it sent again.
    pub resend: Option<ResendId>,
}

impl OutboxClaim {
    /// What the destination is sent.
    pub fn message<'c>(&'c self, content: Content<'c>) -> Message<'c> {
        Message {
            entry: self.entry,
            id: &self.message_id,
            attempt: self.attempt,
            tenant: &self.tenant,
            action: self.action,
            namespace: &self.namespace,
            operation_key: &self.operation_key,
            kind: self.kind,
            content,
            receipt: self.receipt,
            recorded_at: self.recorded_at,
            resend: self.resend,
        }
    }

    /// An attempt that ended so, and what follows from it. `duration_us` is how long it took, in microseconds; `moment` is after it.
    pub fn attempted(
        &self,
        (started_at, duration_us): (UnixMillis, u64),
        end: AttemptEnd,
        answer: String,
        policy: &RetryPolicy,
        moment: Moment,
    ) -> AttemptRecord {
        AttemptRecord {
            entry: self.entry,
            epoch: self.epoch,
            started_at,
            duration_us,
            entry_end: entry_end(&end, policy, self.attempt, moment.now, moment.jitter),
            end,
            answer,
        }
    }
}

/// One attempt and its consequence.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    pub entry: OutboxId,
    pub epoch: LeaseEpoch,
    pub started_at: UnixMillis,
    pub duration_us: u64,
    pub end: AttemptEnd,
    /// [`kept_answer`].
    pub answer: String,
    pub entry_end: EntryEnd,
}

impl AttemptEnd {
    pub fn is_success(&self) -> bool {
        matches!(
            self,
            Self::Answered {
                http_status: 200..=299,
                ..
            }
        )
    }

    /// Whether the destination is well, as far as its breaker is concerned: it answered, and neither with a fault of its own nor
    /// with a plea to slow down. That it refused this one message says nothing about the next.
    pub fn is_healthy(&self) -> bool {
        match self {
            Self::Answered { http_status, .. } => *http_status < 500 && *http_status != 429,
            Self::Failed { .. } | Self::Forbidden { .. } => false,
        }
    }
}

/// Decides what follows an attempt (number `attempt`, from 1). Standard Webhooks: only 2xx is success, 3xx is a failure, 410 means
/// that the destination is gone.
pub fn entry_end(end: &AttemptEnd, policy: &RetryPolicy, attempt: u32, now: UnixMillis, jitter: Jitter) -> EntryEnd {
    let retry = |floor_ms: i64, reason: String| match policy.next(attempt, floor_ms, now, jitter) {
        NextStep::RetryAt(at) => EntryEnd::RetryAt { at, reason },
        NextStep::GiveUp => EntryEnd::Dead {
            reason: format!("{reason} (gave up after {attempt} attempts)"),
        },
    };
    match end {
        AttemptEnd::Answered {
            http_status: 200..=299, ..
        } => EntryEnd::Delivered,
        AttemptEnd::Answered { http_status: 410, .. } => EntryEnd::Dead {
            reason: "the destination answered 410 Gone".into(),
        },
        AttemptEnd::Answered {
            http_status,
            retry_after_ms,
        } => retry(
            retry_after_ms.unwrap_or(0).clamp(0, RETRY_AFTER_MS_MAX),
            format!("the destination answered {http_status}"),
        ),
        AttemptEnd::Failed { reason } => retry(0, reason.clone()),
        AttemptEnd::Forbidden { reason } => EntryEnd::Dead { reason: reason.clone() },
    }
}

/// Reads a Retry-After header: seconds, or an HTTP date (RFC 9110 section 10.2.3). `None` when it is neither.
pub fn retry_after_ms(value: &str, now: UnixMillis) -> Option<i64> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse::<i64>().unwrap_or(i64::MAX / 1000).saturating_mul(1000));
    }
    let instant = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(UnixMillis(instant.as_millisecond()).since(now).max(0))
}

/// A shorter piece of a secret is not looked for in an answer: it stands in any text.
const ECHO_BYTES_MIN: usize = 4;

/// What is kept of a destination's answer, whose body begins with `bytes`: at most [`ANSWER_BYTES_KEPT`] bytes of text, a blank for each
/// control character, and `…` for each of `secrets` that it echoes, also for one that the end of `bytes` cuts off.
pub fn kept_answer(bytes: &[u8], secrets: &[&Secret]) -> String {
    let mut bytes = bytes.to_vec();
    for secret in secrets {
        let whole = secret.expose();
        // Of `Bearer …` a destination shows the token alone as well.
        let word = whole.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        for piece in [whole, word] {
            hide(&mut bytes, piece);
        }
    }
    let mut kept = String::with_capacity(bytes.len().min(ANSWER_BYTES_KEPT));
    for c in String::from_utf8_lossy(&bytes).trim().chars() {
        if kept.len() + c.len_utf8() > ANSWER_BYTES_KEPT {
            break;
        }
        kept.push(if c.is_control() { ' ' } else { c });
    }
    kept
}

/// Puts `…` where `secret` stands in `bytes`, or where its beginning stands at their end.
fn hide(bytes: &mut Vec<u8>, secret: &[u8]) {
    if secret.len() < ECHO_BYTES_MIN {
        return;
    }
    let mut from = 0;
    while let Some(at) = bytes[from..].windows(secret.len()).position(|window| window == secret) {
        let at = from + at;
        bytes.splice(at..at + secret.len(), "…".bytes());
        from = at + "…".len();
    }
    let cut = (ECHO_BYTES_MIN..secret.len())
        .rev()
        .find(|length| bytes.ends_with(&secret[..*length]));
    if let Some(length) = cut {
        bytes.truncate(bytes.len() - length);
        bytes.extend("…".bytes());
    }
}

/// What a destination knows an effect by: `{namespace}/{kind}/{operation key}`, at most 300 bytes of visible ASCII. Neither a namespace
/// nor a kind holds a slash, so the first two end where they say, and no two effects of a tenant share one.
pub fn idempotency_key(namespace: &Namespace, kind: ActionKind, key: &OperationKey) -> String {
    format!("{namespace}/{kind}/{key}")
}

/// `webhook-id` of one effect on its way to one destination: HMAC-SHA256 under the store's own key over the length-prefixed parts, cut
/// to 20 bytes, in hex. It is the same for every attempt, replay and resend, in a restored store too if the effect is the same one; it
/// is never another effect's, not in another store either, since each store draws its key.
pub fn message_id(
    key: &Secret,
    receipt: ReceiptId,
    namespace: &Namespace,
    kind: ActionKind,
    operation_key: &OperationKey,
    destination: &DestinationName,
) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    // The label has blanks, which no tenant's name has: no receipt's id is made of these parts.
    let parts: [&[u8]; 6] = [
        b"tollgate webhook-id 1",
        &receipt.0,
        namespace.as_str().as_bytes(),
        kind.as_str().as_bytes(),
        operation_key.as_str().as_bytes(),
        destination.as_str().as_bytes(),
    ];
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    format!("msg_{}", HEXLOWER.encode(&full[..20]))
}

/// What a destination is told.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// [`crate::action::Action::to_json`], byte for byte as recorded.
    Action(&'a str),
    /// The receipt's event itself.
    Event { form: ForwardForm, event: &'a Event },
}

/// One recorded action on its way to a destination.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub entry: OutboxId,
    /// [`message_id`].
    pub id: &'a str,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    pub tenant: &'a TenantName,
    pub action: ActionId,
    pub namespace: &'a Namespace,
    pub operation_key: &'a OperationKey,
    pub kind: ActionKind,
    pub content: Content<'a>,
    pub receipt: ReceiptId,
    pub recorded_at: UnixMillis,
    /// Set when it was delivered before, and somebody has it sent again.
    pub resend: Option<ResendId>,
}

impl Message<'_> {
    /// What the destination receives: says what happened and embeds the action byte for byte as the ledger has it:
    /// `{"type":"action.credit","id":"act_7","tenant":…,"receipt":…,"namespace":…,"operation_key":…,"recorded_at":…,"action":{"kind":"credit",…}}`.
    /// Or the event in the form that its route says ([`crate::forward`]).
    pub fn body(&self) -> Vec<u8> {
        let action_json = match self.content {
            Content::Action(json) => json,
            Content::Event { form, event } => return forward::body(form, self, event),
        };
        let text = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            r#"{{"type":"action.{kind}","id":"{id}","tenant":{tenant},"receipt":"{receipt}","namespace":"{namespace}","operation_key":{key},"recorded_at":"{recorded_at}","action":{action}}}"#,
            kind = self.kind,
            id = self.action,
            tenant = text(self.tenant.as_str()),
            receipt = self.receipt,
            namespace = self.namespace,
            key = text(self.operation_key.as_str()),
            recorded_at = self.recorded_at,
            action = action_json,
        )
        .into_bytes()
    }

    /// The content type of [`Self::body`].
    pub fn content_type(&self) -> &'static str {
        match self.content {
            Content::Action(_) => "application/json",
            Content::Event { form, event } => forward::content_type(form, event),
        }
    }

    /// W3C Trace Context: the trace is the receipt, the span this attempt.
    pub fn traceparent(&self) -> String {
        let span = Digest::of(format!("{}/{}", self.entry, self.attempt).as_bytes());
        format!(
            "00-{}-{}-01",
            HEXLOWER.encode(&self.receipt.0),
            HEXLOWER.encode(&span.0[..8])
        )
    }

    /// Headers of the request that a forwarded event came in, which its source keeps; none of an action. Whoever sends them lets headers of
    /// the destination's own and all of [`Self::headers`] stand before one of these.
    pub fn kept_headers(&self) -> Vec<(&str, &str)> {
        match self.content {
            Content::Event { event, .. } => forward::kept_headers(event).collect(),
            Content::Action(_) => Vec::new(),
        }
    }

    /// The headers beside Content-Type and User-Agent: the signature after Standard Webhooks, `Idempotency-Key`, `traceparent`, in a
    /// resend `tollgate-resend` with its id, and with a forwarded event where it is from.
    /// `webhook-id` ([`message_id`]) and `Idempotency-Key` ([`idempotency_key`]) stay the same over every attempt and replay of one
    /// entry.
    ///
    /// `scheme` is the shipped profile `standard-webhooks`.
    ///
    /// # Errors
    /// When a secret is not one that signs.
    pub fn headers(
        &self,
        scheme: &Profile,
        body: &[u8],
        secrets: &[SourceSecret],
        at: UnixMillis,
    ) -> Result<Vec<(String, String)>, SignError> {
        let input = SignInput {
            body,
            id: self.id,
            at,
            url: None,
        };
        let mut headers = sign(scheme, secrets, &NO_PARAMETERS, &input)?.headers;
        headers.push((
            "idempotency-key".to_owned(),
            idempotency_key(self.namespace, self.kind, self.operation_key),
        ));
        headers.push(("traceparent".to_owned(), self.traceparent()));
        if let Content::Event { event, .. } = self.content {
            headers.extend(forward::headers(self.receipt, event));
        }
        headers.extend(
            self.resend
                .map(|resend| ("tollgate-resend".to_owned(), resend.to_string())),
        );
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        let policy = RetryPolicy {
            attempts_max: 3,
            base_ms: 100,
            cap_ms: 1000,
        };
        let answered = |http_status, retry_after_ms| AttemptEnd::Answered {
            http_status,
            retry_after_ms,
        };
        let check = |end: AttemptEnd, attempt, expect: EntryEnd| {
            assert_eq!(
                entry_end(&end, &policy, attempt, UnixMillis(0), Jitter::NONE),
                expect,
                "{end:?}"
            );
        };
        let retry = |at, reason: &str| EntryEnd::RetryAt {
            at: UnixMillis(at),
            reason: reason.into(),
        };
        check(answered(204, None), 1, EntryEnd::Delivered);
        check(answered(302, None), 1, retry(0, "the destination answered 302"));
        check(
            answered(429, Some(7000)),
            1,
            retry(7000, "the destination answered 429"),
        );
        check(
            answered(503, Some(i64::MAX)),
            1,
            retry(RETRY_AFTER_MS_MAX, "the destination answered 503"),
        );
        check(
            answered(500, None),
            3,
            EntryEnd::Dead {
                reason: "the destination answered 500 (gave up after 3 attempts)".into(),
            },
        );
        check(
            answered(410, None),
            1,
            EntryEnd::Dead {
                reason: "the destination answered 410 Gone".into(),
            },
        );
        check(
            AttemptEnd::Failed {
                reason: "timed out".into(),
            },
            1,
            retry(0, "timed out"),
        );
        check(
            AttemptEnd::Forbidden { reason: "no".into() },
            1,
            EntryEnd::Dead { reason: "no".into() },
        );
    }

    #[test]
    fn of_an_answer_one_kibibyte_is_kept_and_no_secret() {
        let kept = |bytes: &[u8]| kept_answer(bytes, &[&Secret::new("Bearer hunter2hunter2"), &Secret::new("abc")]);
        assert_eq!(kept(b" <b>no\r\n\x1b[2J\xff</b> "), "<b>no   [2J\u{fffd}</b>");
        assert_eq!(kept(&[b'x'; 5000]).len(), ANSWER_BYTES_KEPT);
        // Each of these bytes becomes three, and the bound holds all the same.
        assert_eq!(kept(&[0xff; 5000]).len(), ANSWER_BYTES_KEPT / 3 * 3);
        assert_eq!(
            kept(b"you sent Bearer hunter2hunter2, twice: hunter2hunter2"),
            "you sent …, twice: …"
        );
        assert_eq!(kept(b"abc stays, cut off: Bearer hunter"), "abc stays, cut off: …");
        assert_eq!(kept(b"cut off: hunter2h"), "cut off: …");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UnixMillis::from_rfc3339("2026-05-05T10:00:00Z").unwrap();
        assert_eq!(retry_after_ms("120", now), Some(120_000));
        assert_eq!(retry_after_ms("Tue, 05 May 2026 10:00:30 GMT", now), Some(30_000));
        assert_eq!(retry_after_ms("Tue, 05 May 2026 09:00:30 GMT", now), Some(0));
        assert_eq!(retry_after_ms("soon", now), None);
        assert_eq!(
            retry_after_ms("99999999999999999999", now),
            Some(i64::MAX / 1000 * 1000)
        );
    }

    #[test]
    fn the_body_embeds_the_action_as_recorded() {
        let message = Message {
            entry: OutboxId(9),
            id: "msg_1",
            attempt: 2,
            tenant: &"acme".parse().unwrap(),
            action: ActionId(7),
            namespace: &"loyalty".parse().unwrap(),
            operation_key: &r#"cash"back\:1"#.parse().unwrap(),
            kind: ActionKind::ReserveStock,
            // Spacing and order are the ledger's.
            content: Content::Action(r#"{"kind":"reserve-stock",  "b":1,"a":2}"#),
            receipt: ReceiptId([0xab; 16]),
            recorded_at: UnixMillis(1_777_975_200_000),
            resend: None,
        };
        let text = String::from_utf8(message.body()).unwrap();
        assert_eq!(
            text,
            r#"{"type":"action.reserve-stock","id":"act_7","tenant":"acme","receipt":"rcpt_abababababababababababababababab","namespace":"loyalty","operation_key":"cash\"back\\:1","recorded_at":"2026-05-05T10:00:00.000Z","action":{"kind":"reserve-stock",  "b":1,"a":2}}"#
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let trace = message.traceparent();
        assert!(trace.starts_with("00-abababababababababababababababab-"), "{trace}");
        assert_eq!(trace.len(), 55);
        assert_ne!(
            trace,
            Message { attempt: 3, ..message }.traceparent(),
            "each attempt is a span of its own"
        );
    }

    /// The namespace, kind and operation key that [`idempotency_key`] made a text of. `None` for any other text.
    fn read_idempotency_key(text: &str) -> Option<(Namespace, ActionKind, OperationKey)> {
        let mut parts = text.splitn(3, '/');
        let namespace = parts.next()?.parse().ok()?;
        let kind = ActionKind::from_name(parts.next()?)?;
        Some((namespace, kind, parts.next()?.parse().ok()?))
    }

    #[test]
    fn no_two_effects_share_an_idempotency_key() {
        let kinds = ActionKind::ALL;
        let (names, keys) = (["a", "a-b", "credit"], ["a", "credit/a", "/", "a/credit/a", "b/a"]);
        let mut seen = std::collections::BTreeSet::new();
        for namespace in names {
            for kind in kinds {
                for key in keys {
                    let parts = (namespace.parse().unwrap(), kind, key.parse().unwrap());
                    let text = idempotency_key(&parts.0, parts.1, &parts.2);
                    assert_eq!(read_idempotency_key(&text), Some(parts), "{text}");
                    assert!(seen.insert(text.clone()), "{text} names two effects");
                }
            }
        }
        let longest = idempotency_key(
            &"n".repeat(63).parse().unwrap(),
            ActionKind::ReserveStock,
            &"k".repeat(200).parse().unwrap(),
        );
        assert!(longest.len() <= 300, "{}", longest.len());
    }

    #[test]
    fn a_message_id_is_of_one_effect_destination_and_store() {
        let id = |store: &[u8], receipt, namespace: &str, kind, key: &str, to: &str| {
            message_id(
                &Secret::new(store.to_vec()),
                ReceiptId([receipt; 16]),
                &namespace.parse().unwrap(),
                kind,
                &key.parse().unwrap(),
                &to.parse().unwrap(),
            )
        };
        let one = || id(b"a", 1, "n", ActionKind::Credit, "k", "d");
        assert_eq!(one(), one());
        let others = [
            id(b"b", 1, "n", ActionKind::Credit, "k", "d"),
            id(b"a", 2, "n", ActionKind::Credit, "k", "d"),
            id(b"a", 1, "m", ActionKind::Credit, "k", "d"),
            id(b"a", 1, "n", ActionKind::Flag, "k", "d"),
            id(b"a", 1, "n", ActionKind::Credit, "l", "d"),
            id(b"a", 1, "n", ActionKind::Credit, "k", "e"),
            id(b"a", 1, "n", ActionKind::Credit, "kd", "d"),
        ];
        for other in others {
            assert_ne!(one(), other);
        }
    }
}
