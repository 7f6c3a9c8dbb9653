//! Test deliveries: one attempt to a destination now, by the same rules for where it may go and with the same signature, and nothing of it kept.
//!
//! It is no attempt of the outbox: the destination's breaker and rate know nothing of it, so that a test cannot hold up what waits there.

use std::time::{Duration, Instant};

use tollgate_core::delivery::{AttemptEnd, Recipient, TestMessage};
use tollgate_core::limits;
use tollgate_core::mail::{Mail, MailAddress};
use tollgate_core::profile;
use tollgate_core::secret::Secret;

use super::USER_AGENT;
use super::client::{Attempt, Client, request};
use super::mail;
use crate::clock;
use crate::config::{Destination, MailConfig, OutboundRules};

/// What goes to a destination that is tried.
pub(crate) struct Composed {
    /// Names in lower case; some values are secret.
    pub(crate) header_names: Vec<String>,
    pub(crate) body: Vec<u8>,
    outgoing: tollgate_core::delivery::Outgoing,
}

/// How the attempt ended.
pub(crate) struct Tried {
    pub(crate) end: AttemptEnd,
    pub(crate) answer: String,
    pub(crate) took: Duration,
}

/// Composes and signs the message.
///
/// # Errors
/// How an attempt ends that cannot be composed.
pub(crate) fn compose(message: &TestMessage<'_>, destination: &Destination) -> Result<Composed, AttemptEnd> {
    let own = own_headers(destination);
    let recipient = Recipient {
        scheme: profile::standard_webhooks(),
        secrets: &destination.secrets,
        headers: &own,
        user_agent: USER_AGENT,
    };
    let outgoing = message.compose(&recipient, clock::wall())?;
    Ok(Composed {
        header_names: outgoing.headers.iter().map(|(name, _)| name.clone()).collect(),
        body: outgoing.body.clone(),
        outgoing,
    })
}

/// Sends it.
pub(crate) async fn send(rules: &OutboundRules, destination: &Destination, url: &str, composed: Composed) -> Tried {
    let began = Instant::now();
    let ms = destination.timeout_ms.unwrap_or(limits::ATTEMPT_MS);
    let secrets: Vec<_> = destination.headers.iter().map(|(_, value)| value).collect();
    let attempt = match request(url, composed.outgoing) {
        Ok(request) => {
            Client::new(rules)
                .send(request, Duration::from_millis(ms), &secrets)
                .await
        }
        Err(reason) => Attempt::without_answer(AttemptEnd::Forbidden { reason }),
    };
    Tried {
        end: attempt.end,
        answer: attempt.answer,
        took: began.elapsed(),
    }
}

/// Hands a test to the operator's mail server, for these people. Where no answer came, what broke is returned for the operator's log.
pub(crate) async fn mail(
    server: &MailConfig,
    rules: &OutboundRules,
    destination: &Destination,
    (message, to): (Mail, &[MailAddress]),
) -> (Tried, Option<String>) {
    let began = Instant::now();
    let ms = destination.timeout_ms.unwrap_or(limits::ATTEMPT_MS);
    let (attempt, error) = mail::hand_over(server, &rules.extra_roots, message, to, Duration::from_millis(ms)).await;
    let tried = Tried {
        end: attempt.end,
        answer: attempt.answer,
        took: began.elapsed(),
    };
    (tried, error)
}

fn own_headers(destination: &Destination) -> Vec<(&str, &Secret)> {
    let own = destination.headers.iter();
    own.map(|(name, value)| (name.as_str(), value)).collect()
}
