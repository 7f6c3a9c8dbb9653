//! The steps of a delivery, without I/O: what an attempt sends, what its end means, and what follows.
//!
//! A host claims an entry, looks up its destination ([`OutboxClaim::without_destination`] when there is none), reads the event where one is
//! handed on, sends what [`OutboxClaim::compose`] returns, and records what [`OutboxClaim::attempted`] makes of the end.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::action::ActionKind;
use crate::event::Event;
use crate::forward;
use crate::ids::{DestinationName, Digest, LeaseEpoch, OutboxId, ReceiptId, TenantName};
use crate::limits::{ANSWER_BYTES_KEPT, RETRY_AFTER_MS_MAX};
pub use crate::outbox::OutboxClaim;
use crate::outbox::idempotency_key;
use crate::profile::Profile;
use crate::retry::{Jitter, Moment, NextStep, RetryPolicy};
use crate::secret::{NO_PARAMETERS, Secret, SourceSecret};
use crate::sign::{SignInput, sign};
use crate::time::UnixMillis;

/// How one attempt to deliver ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// The destination answered with this status.
    Answered {
        /// The status of the answer.
        http_status: u16,
        /// How long the destination asks to be left alone, where its answer asks for that.
        retry_after_ms: Option<i64>,
    },
    /// The mail server answered an e-mail with this status.
    Mailed {
        /// The status of SMTP: `250` when it took the e-mail.
        smtp_status: u16,
        /// What it answered to. Before this was kept, it is taken to be the message.
        #[serde(default)]
        stage: MailStage,
    },
    /// No whole answer: refused, reset, timed out, TLS or DNS trouble.
    Failed {
        /// What went wrong, in words.
        reason: String,
    },
    /// Its owner fetched it from a pulled destination, and confirmed it.
    Confirmed,
    /// Its owner fetched it from a pulled destination, and gave it back.
    GivenBack {
        /// How long it is not to be offered again, where its owner says that.
        retry_after_ms: Option<i64>,
        /// Why, in its owner's words.
        reason: String,
    },
    /// The host's own rules forbid to connect there. No attempt will ever pass until the configuration changes.
    Forbidden {
        /// Which rule, in words.
        reason: String,
    },
}

/// What a mail server was told when it answered, in the order of an attempt. What it refuses before it knows for whom an e-mail is, it refuses
/// of every e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MailStage {
    /// The connection, and EHLO.
    Hello,
    /// STARTTLS.
    Tls,
    /// The host's user and password.
    Login,
    /// Who writes; also a refusal of this host or of who writes that comes as the answer to a recipient.
    Sender,
    /// To whom.
    Recipient,
    /// DATA, and the message itself.
    #[default]
    Message,
}

/// What becomes of an outbox entry after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum EntryEnd {
    /// The destination has it.
    Delivered,
    /// One more attempt follows.
    RetryAt {
        /// Not before this instant.
        at: UnixMillis,
        /// Why this attempt was not enough.
        reason: String,
    },
    /// No further attempt follows; the entry is a dead letter.
    Dead {
        /// Why, for people.
        reason: String,
    },
}

/// What of a destination the sending depends on.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// The shipped profile `standard-webhooks`.
    pub scheme: &'a Profile,
    /// Every one of them signs. None signs where its owner pulls it without a secret.
    pub secrets: &'a [SourceSecret],
    /// Its own headers. No name is one of ours ([`crate::own_header::name`]).
    pub headers: &'a [(&'a str, &'a Secret)],
    /// The host's own name.
    pub user_agent: &'a str,
}

/// A POST as it goes out. Each name stands once; values are kept as secrets are, since some of them are.
#[derive(Debug)]
pub struct Outgoing {
    /// Names in lower case, with their values.
    pub headers: Vec<(String, Secret)>,
    /// What was signed.
    pub body: Vec<u8>,
}

impl OutboxClaim {
    /// Whether the destination is handed the receipt's event, which the outbox does not hold.
    pub fn hands_on_event(&self) -> bool {
        self.kind == ActionKind::Forward
    }

    /// How an attempt ends whose destination is no longer configured: it is not retried.
    pub fn without_destination(&self) -> AttemptEnd {
        let Self {
            tenant, destination, ..
        } = self;
        AttemptEnd::Forbidden {
            reason: format!(
                "the tenant `{tenant}` has no destination `{destination}` any more; if another took its place, say formerly = \
                 [\"{destination}\"] there, else add it again; then replay"
            ),
        }
    }

    /// Composes and signs one attempt. `event` is the receipt's, where [`Self::hands_on_event`]; `at` is the time as the receiver knows it, and
    /// `started_at` the one that the attempt is recorded with: by it the receiver's spans find the attempt's.
    ///
    /// Beside the signature after Standard Webhooks go `Idempotency-Key`, `traceparent`, in a resend `tollgate-resend` with its id, and with
    /// a forwarded event where it is from. `webhook-id` and `Idempotency-Key` stay the same over every attempt and replay of one entry.
    /// Headers that the source keeps give way to the destination's own.
    ///
    /// # Errors
    /// How the attempt ends when it cannot be composed; a checked configuration does not come to that.
    pub fn compose(
        &self,
        event: Option<&Event>,
        to: &Recipient<'_>,
        at: UnixMillis,
        started_at: UnixMillis,
    ) -> Result<Outgoing, AttemptEnd> {
        let forbidden = |reason: String| AttemptEnd::Forbidden { reason };
        let handed_on = event
            .map(|event| match forward::form_of(&self.action_json) {
                Some(form) => Ok((form, event)),
                None => Err(forbidden("the recorded action says no form of the event".to_owned())),
            })
            .transpose()?;
        let (content_type, body) = match handed_on {
            Some((form, event)) => (forward::content_type(form, event), forward::body(form, self, event)),
            None => ("application/json", self.action_body()),
        };
        let input = SignInput {
            body: &body,
            id: &self.message_id,
            at,
            url: None,
        };
        let signature = match to.secrets {
            [] => vec![("webhook-id".to_owned(), self.message_id.clone())],
            secrets => {
                let signed = sign(to.scheme, secrets, &NO_PARAMETERS, &input);
                signed
                    .map_err(|error| forbidden(format!("cannot be signed: {error}")))?
                    .headers
            }
        };

        let is_free = |name: &str| to.headers.iter().all(|(own, _)| *own != name);
        let kept = event.into_iter().flat_map(forward::kept_headers);
        let mut headers: Vec<_> = kept
            .filter(|(name, _)| is_free(name))
            .chain([("content-type", content_type), ("user-agent", to.user_agent)])
            .map(|(name, value)| (name.to_owned(), Secret::new(value)))
            .collect();
        let own = to.headers.iter();
        headers.extend(own.map(|(name, value)| ((*name).to_owned(), (*value).clone())));
        let ours = signature
            .into_iter()
            .chain(
                event
                    .into_iter()
                    .flat_map(|event| forward::headers(self.receipt, event)),
            )
            .chain([
                (
                    "idempotency-key".to_owned(),
                    idempotency_key(&self.namespace, self.kind, &self.operation_key),
                ),
                ("traceparent".to_owned(), self.traceparent(started_at)),
            ])
            .chain(
                self.resend
                    .map(|resend| ("tollgate-resend".to_owned(), resend.to_string())),
            );
        headers.extend(ours.map(|(name, value)| (name, Secret::new(value))));
        Ok(Outgoing { headers, body })
    }

    /// What a destination receives of a plugin's action: says what happened and embeds the action byte for byte as the ledger has it:
    /// `{"type":"action.credit","id":"act_7","tenant":…,"receipt":…,"namespace":…,"operation_key":…,"recorded_at":…,"action":{"kind":"credit",…}}`.
    fn action_body(&self) -> Vec<u8> {
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
            action = self.action_json,
        )
        .into_bytes()
    }

    /// W3C Trace Context: the trace is the receipt, the span this attempt.
    fn traceparent(&self, started_at: UnixMillis) -> String {
        let span = span_id(self.receipt, &attempt_span(self.entry, &started_at));
        format!("00-{}-{span}-01", HEXLOWER.encode(&self.receipt.0))
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

/// What a destination is sent when somebody tries it: a message of no effect, signed and dressed as every delivery is.
#[derive(Debug, Clone, Copy)]
pub struct TestMessage<'a> {
    /// Whose destination it is.
    pub tenant: &'a TenantName,
    /// The destination.
    pub destination: &'a DestinationName,
    /// Its `webhook-id`: unique, and such that a receiver sees that it is a test.
    pub id: &'a str,
}

impl TestMessage<'_> {
    /// Composes and signs it; `at` is the time as the receiver knows it. It has the header `tollgate-test` beside those of every delivery.
    ///
    /// # Errors
    /// How the attempt ends when it cannot be composed; a checked configuration does not come to that.
    pub fn compose(&self, to: &Recipient<'_>, at: UnixMillis) -> Result<Outgoing, AttemptEnd> {
        let body = serde_json::json!({
            "type": "tollgate.test",
            "id": self.id,
            "tenant": self.tenant,
            "destination": self.destination,
            "sent_at": at.to_string(),
            "says": "A test of this destination. Nothing happened, and nothing is to be done.",
        });
        let body = body.to_string().into_bytes();
        let input = SignInput {
            body: &body,
            id: self.id,
            at,
            url: None,
        };
        let signed = sign(to.scheme, to.secrets, &NO_PARAMETERS, &input).map_err(|error| AttemptEnd::Forbidden {
            reason: format!("cannot be signed: {error}"),
        })?;
        let own = to.headers.iter();
        let own = own.map(|(name, value)| ((*name).to_owned(), (*value).clone()));
        let ours = [
            ("content-type".to_owned(), "application/json".to_owned()),
            ("user-agent".to_owned(), to.user_agent.to_owned()),
            ("idempotency-key".to_owned(), format!("tollgate-test/{}", self.id)),
            ("tollgate-test".to_owned(), "true".to_owned()),
        ];
        let ours = ours.into_iter().chain(signed.headers);
        let headers = own
            .chain(ours.map(|(name, value)| (name, Secret::new(value))))
            .collect();
        Ok(Outgoing { headers, body })
    }
}

/// What an attempt is among the spans of its trace. Its entry counts attempts anew after a replay, so it is known by when it began.
pub fn attempt_span(entry: OutboxId, started_at: &dyn fmt::Display) -> String {
    format!("{entry} {started_at}")
}

/// The id of a span of a receipt's trace: the first half of SHA-256 over the receipt's id and what the span is, in hex. Whoever is sent an attempt
/// has its id as the parent of what it does, and an export of traces gives the attempt that id.
pub fn span_id(receipt: ReceiptId, of: &str) -> String {
    let digest = Digest::of(format!("tollgate span 1 {receipt} {of}").as_bytes());
    HEXLOWER.encode(&digest.0[..8])
}

/// One attempt and its consequence.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The entry that was attempted.
    pub entry: OutboxId,
    /// The lease under which it was attempted.
    pub epoch: LeaseEpoch,
    /// When the attempt began.
    pub started_at: UnixMillis,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub end: AttemptEnd,
    /// What is kept of the destination's answer, as [`kept_answer`] cuts it.
    pub answer: String,
    /// What becomes of the entry.
    pub entry_end: EntryEnd,
}

impl AttemptEnd {
    /// The end of an attempt that was answered. `retry_after` is that header, which counts only where the answer asks for patience; `now` is
    /// the time as the destination knows it.
    pub fn answered(http_status: u16, retry_after: Option<&str>, now: UnixMillis) -> Self {
        let asks_for_patience = !matches!(http_status, 200..=299 | 410);
        Self::Answered {
            http_status,
            retry_after_ms: retry_after
                .filter(|_| asks_for_patience)
                .and_then(|value| retry_after_ms(value, now)),
        }
    }

    /// The end of an attempt that a mail server answered; `said` is the text of its answer.
    ///
    /// Many servers hear a recipient before they refuse a host or a sender (Postfix does, unless it is told otherwise). Then the enhanced status
    /// (RFC 3463) tells whom they mean.
    pub fn mailed(smtp_status: u16, stage: MailStage, said: &str) -> Self {
        let enhanced = said.split_whitespace().next().unwrap_or_default();
        let is_of_sender = matches!(enhanced, "5.1.7" | "5.1.8") || enhanced.starts_with("5.7.");
        let stage = match stage {
            MailStage::Recipient if is_of_sender => MailStage::Sender,
            stage => stage,
        };
        Self::Mailed { smtp_status, stage }
    }

    /// The end of an attempt whose event could not be read: it is tried again.
    pub fn event_unread(why: &dyn fmt::Display) -> Self {
        Self::Failed {
            reason: format!("the event could not be read: {why}"),
        }
    }

    /// Whether the destination took the message: it or the mail server answered 2xx, or its owner confirmed it.
    pub fn is_success(&self) -> bool {
        matches!(
            self,
            Self::Answered {
                http_status: 200..=299,
                ..
            } | Self::Mailed {
                smtp_status: 200..=299,
                ..
            } | Self::Confirmed
        )
    }

    /// The end of a lease that ran out: whoever pulled the entry said nothing of it.
    pub fn lease_ran_out() -> Self {
        Self::Failed {
            reason: "it was fetched, and neither confirmed nor given back in time".to_owned(),
        }
    }

    /// Whether the destination is well, as far as its breaker is concerned: it answered, and neither with a fault of its own nor
    /// with a plea to slow down. That it refused this one message says nothing about the next.
    pub fn is_healthy(&self) -> bool {
        match self {
            Self::Answered { http_status, .. } => *http_status < 500 && *http_status != 429,
            // 421: the server closes. That it refuses one e-mail, or wants it later, says nothing about the next.
            Self::Mailed { smtp_status, stage } => {
                *stage >= MailStage::Recipient && *smtp_status != 421 && !is_about_login(*smtp_status)
            }
            Self::Confirmed | Self::GivenBack { .. } => true,
            Self::Failed { .. } | Self::Forbidden { .. } => false,
        }
    }
}

/// Whether a status says of the host's own user and password that they are not taken (RFC 4954, section 6), and nothing of the message.
fn is_about_login(smtp_status: u16) -> bool {
    matches!(smtp_status, 530 | 534 | 535 | 538)
}

/// Decides what follows an attempt (number `attempt`, from 1). Standard Webhooks: only 2xx is success, 3xx is a failure, 410 means
/// that the destination is gone. SMTP: 5xx is for good where it is about the recipients or the message; about the host, its user and password or
/// who writes, it says nothing of this e-mail, and the operator has to mend it.
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
        AttemptEnd::Confirmed
        | AttemptEnd::Mailed {
            smtp_status: 200..=299, ..
        } => EntryEnd::Delivered,
        AttemptEnd::Mailed { smtp_status, .. } if is_about_login(*smtp_status) => retry(
            0,
            format!("the mail server does not take the host's user and password: {smtp_status}"),
        ),
        AttemptEnd::Mailed {
            smtp_status: status @ 500..,
            stage,
        } => match stage {
            MailStage::Hello => retry(0, format!("the mail server refuses this host: {status}")),
            MailStage::Tls => retry(0, format!("the mail server refuses TLS: {status}")),
            MailStage::Login => retry(0, format!("the mail server refuses the host's login: {status}")),
            MailStage::Sender => retry(
                0,
                format!("the mail server takes nothing from this host or its sender: {status}"),
            ),
            MailStage::Recipient | MailStage::Message => EntryEnd::Dead {
                reason: format!("the mail server refused it: {status}"),
            },
        },
        AttemptEnd::Mailed { smtp_status, .. } => retry(0, format!("the mail server answered {smtp_status}")),
        AttemptEnd::GivenBack { retry_after_ms, reason } => retry(
            retry_after_ms.unwrap_or(0).clamp(0, RETRY_AFTER_MS_MAX),
            if reason.is_empty() {
                "its owner gave it back".to_owned()
            } else {
                format!("its owner gave it back: {reason}")
            },
        ),
        AttemptEnd::Failed { reason } => retry(0, reason.clone()),
        AttemptEnd::Forbidden { reason } => EntryEnd::Dead { reason: reason.clone() },
    }
}

/// Reads a Retry-After header: seconds, or an HTTP date (RFC 9110 section 10.2.3). `None` when it is neither.
fn retry_after_ms(value: &str, now: UnixMillis) -> Option<i64> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::tests::claim;

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
        let mailed = |smtp_status| AttemptEnd::mailed(smtp_status, MailStage::Message, "");
        let refused = |stage| AttemptEnd::mailed(554, stage, "5.0.0 no");
        let failed = AttemptEnd::Failed {
            reason: "timed out".into(),
        };
        let forbidden = AttemptEnd::Forbidden { reason: "no".into() };
        let given_back = |retry_after_ms, reason: &str| AttemptEnd::GivenBack {
            retry_after_ms,
            reason: reason.to_owned(),
        };
        let far = format!("at {RETRY_AFTER_MS_MAX}: its owner gave it back: busy");
        let patient = format!("at {RETRY_AFTER_MS_MAX}: the destination answered 503");
        for (end, attempt, expect) in [
            (answered(204, None), 1, "delivered"),
            (answered(302, None), 1, "at 0: the destination answered 302"),
            (answered(429, Some(7000)), 1, "at 7000: the destination answered 429"),
            (answered(503, Some(i64::MAX)), 1, &patient),
            (
                answered(500, None),
                3,
                "dead: the destination answered 500 (gave up after 3 attempts)",
            ),
            (answered(410, None), 1, "dead: the destination answered 410 Gone"),
            (failed, 1, "at 0: timed out"),
            (mailed(250), 1, "delivered"),
            (mailed(451), 1, "at 0: the mail server answered 451"),
            (
                mailed(451),
                3,
                "dead: the mail server answered 451 (gave up after 3 attempts)",
            ),
            (mailed(550), 1, "dead: the mail server refused it: 550"),
            (
                mailed(535),
                1,
                "at 0: the mail server does not take the host's user and password: 535",
            ),
            (
                refused(MailStage::Hello),
                1,
                "at 0: the mail server refuses this host: 554",
            ),
            (refused(MailStage::Tls), 1, "at 0: the mail server refuses TLS: 554"),
            (
                refused(MailStage::Login),
                1,
                "at 0: the mail server refuses the host's login: 554",
            ),
            (
                refused(MailStage::Sender),
                1,
                "at 0: the mail server takes nothing from this host or its sender: 554",
            ),
            (
                refused(MailStage::Recipient),
                1,
                "dead: the mail server refused it: 554",
            ),
            (AttemptEnd::Confirmed, 3, "delivered"),
            (given_back(None, ""), 1, "at 0: its owner gave it back"),
            (
                given_back(Some(7000), "busy"),
                1,
                "at 7000: its owner gave it back: busy",
            ),
            (given_back(Some(i64::MAX), "busy"), 1, &far),
            (
                given_back(None, "busy"),
                3,
                "dead: its owner gave it back: busy (gave up after 3 attempts)",
            ),
            (
                AttemptEnd::lease_ran_out(),
                3,
                "dead: it was fetched, and neither confirmed nor given back in time (gave up after 3 attempts)",
            ),
            (forbidden, 1, "dead: no"),
        ] {
            let found = match entry_end(&end, &policy, attempt, UnixMillis(0), Jitter::NONE) {
                EntryEnd::Delivered => "delivered".to_owned(),
                EntryEnd::RetryAt { at, reason } => format!("at {}: {reason}", at.0),
                EntryEnd::Dead { reason } => format!("dead: {reason}"),
            };
            assert_eq!(found, expect, "{end:?}");
        }
    }

    /// A refusal of the host is no fault of the e-mail, and the breaker hears of it.
    #[test]
    fn o12_a_mail_server_is_well_when_it_speaks_of_this_e_mail_alone() {
        use MailStage::{Hello, Login, Message, Recipient, Sender, Tls};
        for (status, stage, said, is_healthy) in [
            (250, Message, "2.0.0 taken", true),
            (451, Message, "4.3.0 busy", true),
            (554, Message, "5.7.1 spam", true),
            (450, Recipient, "4.2.0 greylisted", true),
            (550, Recipient, "5.1.1 nobody of that name", true),
            (550, Recipient, "nobody of that name", true),
            (554, Recipient, "5.7.1 Client host [192.0.2.1] blocked", false),
            (553, Recipient, "5.1.8 no such domain", false),
            (421, Recipient, "4.3.2 closing", false),
            (530, Recipient, "5.7.0 authentication required", false),
            (550, Sender, "5.1.0 not yours", false),
            (451, Sender, "4.1.8 no such domain", false),
            (535, Login, "5.7.8 no", false),
            (454, Tls, "4.7.0 not now", false),
            (554, Hello, "5.7.1 blocked", false),
            (421, Hello, "4.7.0 not now", false),
        ] {
            let end = AttemptEnd::mailed(status, stage, said);
            assert_eq!(end.is_healthy(), is_healthy, "{end:?}: {said}");
            let policy = RetryPolicy::DELIVERIES;
            let is_final = matches!(
                entry_end(&end, &policy, 1, UnixMillis(0), Jitter::NONE),
                EntryEnd::Dead { .. }
            );
            assert_eq!(is_final, status >= 500 && is_healthy, "{end:?}: {said}");
        }
        // As it was recorded before the stage was.
        let before: AttemptEnd = serde_json::from_str(r#"{"end":"mailed","smtp_status":550}"#).unwrap();
        assert_eq!(before, AttemptEnd::mailed(550, Message, ""));
    }

    #[test]
    fn only_an_answer_that_asks_for_patience_names_a_time() {
        let check = |status, expect| {
            let end = AttemptEnd::answered(status, Some("120"), UnixMillis(0));
            let AttemptEnd::Answered { retry_after_ms, .. } = end else {
                panic!("{end:?}");
            };
            assert_eq!(retry_after_ms, expect, "{status}");
        };
        for status in [200, 204, 299, 410] {
            check(status, None);
        }
        for status in [302, 429, 503] {
            check(status, Some(120_000));
        }
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
        let claim = OutboxClaim {
            operation_key: r#"cash"back\:1"#.parse().unwrap(),
            kind: ActionKind::ReserveStock,
            // Spacing and order are the ledger's.
            action_json: r#"{"kind":"reserve-stock",  "b":1,"a":2}"#.to_owned(),
            ..claim()
        };
        let text = String::from_utf8(claim.action_body()).unwrap();
        assert_eq!(
            text,
            r#"{"type":"action.reserve-stock","id":"act_7","tenant":"acme","receipt":"rcpt_abababababababababababababababab","namespace":"loyalty","operation_key":"cash\"back\\:1","recorded_at":"2026-05-05T10:00:00.000Z","action":{"kind":"reserve-stock",  "b":1,"a":2}}"#
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let trace = claim.traceparent(UnixMillis(7));
        assert!(trace.starts_with("00-abababababababababababababababab-"), "{trace}");
        assert_eq!(trace.len(), 55);
        assert_ne!(
            trace,
            claim.traceparent(UnixMillis(8)),
            "each attempt is a span of its own"
        );
    }
}
