//! Questions that are answered instead of kept (promise I9): a provider asks whether the endpoint is ours before it sends events.
//!
//! [`preflight`] answers those that come without a signature, before a body is read. [`answer`] answers those that are signed, after
//! [`crate::verify::verify`]; an empty batch is one of them where the profile says so. Neither stores anything, and neither says more than
//! the provider already knows: what is repeated is bounded, printable ASCII, and plain text that no browser takes for a page.

use crate::answer::Rejection;
use crate::batch::{self, BatchError};
use crate::form;
use crate::json::{self, Scalar};
use crate::limits::CHALLENGE_BYTES_MAX;
use crate::profile::{EmptyBatch, FieldSource, Handshake, Profile};
use crate::request::RawRequest;
use crate::verify::{Keyring, Verified};

/// The HTTP response to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status of the HTTP response.
    pub http_status: u16,
    /// Its media type: never one that a browser runs.
    pub content_type: &'static str,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// What the provider asked to have repeated, or nothing.
    pub body: String,
}

/// Answers a question without a signature: Meta's GET with `hub.challenge`, CloudEvents' OPTIONS. Looks at method, query and headers
/// only. `None` when the profile knows no such question: then the method is refused.
///
/// # Errors
/// When the question is not the profile's, or its token or origin is not the source's.
pub fn preflight(profile: &Profile, keyring: &Keyring, request: &RawRequest<'_>) -> Option<Result<Reply, Rejection>> {
    match (profile.handshake?, request.method) {
        (Handshake::HubChallenge { token }, "GET") => Some(hub_challenge(keyring.parameter(token), request)),
        (Handshake::WebHookOrigin { origin }, "OPTIONS") => Some(web_hook_origin(keyring.parameter(origin), request)),
        _ => None,
    }
}

fn hub_challenge(token: Option<&[u8]>, request: &RawRequest<'_>) -> Result<Reply, Rejection> {
    let field = |name: &str| form::single(request.query, name).and_then(|text| form::decode(text, true).ok());
    let (Some(mode), Some(said), Some(challenge)) =
        (field("hub.mode"), field("hub.verify_token"), field("hub.challenge"))
    else {
        return Err(Rejection::Malformed);
    };
    let is_ours = token.is_some_and(|token| crate::secret::Secret::new(token).matches(said.as_bytes()));
    if mode != "subscribe" || !is_ours {
        return Err(Rejection::Unauthentic);
    }
    plain(&challenge).ok_or(Rejection::Malformed)
}

/// Section 4 of HTTP 1.1 Web Hooks for Event Delivery: an origin that may send is told so, and how fast.
fn web_hook_origin(allowed: Option<&[u8]>, request: &RawRequest<'_>) -> Result<Reply, Rejection> {
    let Ok(Some(origin)) = request.single_header("webhook-request-origin") else {
        return Err(Rejection::Malformed);
    };
    if allowed.is_none_or(|allowed| allowed != b"*" && !allowed.eq_ignore_ascii_case(origin)) {
        return Err(Rejection::Method);
    }
    let is_host = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'/' | b'_');
    let origin = std::str::from_utf8(origin).map_err(|_| Rejection::Malformed)?;
    if origin.is_empty() || origin.len() > 255 || !origin.as_bytes().iter().all(is_host) {
        return Err(Rejection::Malformed);
    }
    Ok(Reply {
        http_status: 200,
        content_type: "text/plain; charset=utf-8",
        headers: vec![
            ("webhook-allowed-origin", origin.to_owned()),
            // A tenant's rate limit is enforced by answering 429, so no rate is announced here.
            ("webhook-allowed-rate", "*".into()),
            ("allow", "POST, OPTIONS".into()),
        ],
        body: String::new(),
    })
}

/// Answers a verified request that asks something: Slack's `url_verification`, Twitch's `webhook_callback_verification`. `None` when
/// it is no question, but an event.
pub fn answer(profile: &Profile, verified: &Verified<'_>) -> Option<Reply> {
    empty_batch(profile, verified).or_else(|| question(profile, verified))
}

/// Xero asks with an empty list whether the endpoint holds its key, and wants 200 without a body.
fn empty_batch(profile: &Profile, verified: &Verified<'_>) -> Option<Reply> {
    let rule = profile.batch.as_ref()?;
    if rule.empty != EmptyBatch::Acknowledge {
        return None;
    }
    let text = json::document(verified.body()).ok()?;
    matches!(batch::split(rule, text), Err(BatchError::Empty)).then(|| Reply {
        http_status: profile.ack().kept_status(),
        content_type: "text/plain; charset=utf-8",
        headers: Vec::new(),
        body: String::new(),
    })
}

fn question(profile: &Profile, verified: &Verified<'_>) -> Option<Reply> {
    let rule = profile.challenge.as_ref()?;
    let (source, expected) = &rule.when;
    if let FieldSource::Header { name, .. } = source {
        let value = verified.request().single_header(name.in_set(verified.header_set()));
        if value != Ok(Some(expected.as_bytes())) {
            return None;
        }
    }
    let text = json::document(verified.body()).ok()?;
    let values = rule.pointers.read(text).ok()?;
    if let FieldSource::Body(slot) = source {
        let is_asked = matches!(values.get(*slot), Some(Scalar::Text(text)) if text == expected);
        if !is_asked {
            return None;
        }
    }
    match values.get(rule.answer)? {
        Scalar::Text(challenge) => plain(challenge),
        _ => None,
    }
}

fn plain(challenge: &str) -> Option<Reply> {
    let is_plain = challenge.bytes().all(|b| b.is_ascii_graphic());
    (is_plain && !challenge.is_empty() && challenge.len() <= CHALLENGE_BYTES_MAX).then(|| Reply {
        http_status: 200,
        content_type: "text/plain; charset=utf-8",
        headers: vec![("x-content-type-options", "nosniff".into())],
        body: challenge.to_owned(),
    })
}
