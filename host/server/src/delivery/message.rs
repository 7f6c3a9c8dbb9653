//! What a destination receives: one recorded action, or the event that it hands on, signed after Standard Webhooks.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use tollgate_core::delivery::Content;
use tollgate_core::event::Event;
use tollgate_core::forward;
use tollgate_core::profile;
use tollgate_core::time::UnixMillis;
use tollgate_store::OutboxClaim;

use crate::config::Destination;

const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// Composes and signs one attempt. `event` is that of the receipt, where the action hands it on.
///
/// # Errors
/// When it cannot be composed at all; says why. A checked configuration does not come to that.
pub(super) fn compose(
    claim: &OutboxClaim,
    event: Option<&Event>,
    destination: &Destination,
    at: UnixMillis,
) -> Result<Request<Full<Bytes>>, String> {
    let uri: Uri = destination
        .url
        .parse()
        .map_err(|error| format!("the destination's URL: {error}"))?;
    let content = match event {
        Some(event) => Content::Event {
            form: forward::form_of(&claim.action_json).ok_or("the recorded action says no form of the event")?,
            event,
        },
        None => Content::Action(&claim.action_json),
    };
    let message = claim.message(content);
    let body = message.body();
    let scheme = profile::shipped()
        .get("standard-webhooks")
        .ok_or("the profile `standard-webhooks` is missing")?;
    let signed = message
        .headers(scheme, &body, &destination.secrets, at)
        .map_err(|error| format!("cannot be signed: {error}"))?;

    let unfit = |error: http::header::InvalidHeaderValue| format!("a header cannot be sent: {error}");
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    // First, so that whatever they are called, the destination's and ours stand.
    for (name, value) in message.kept_headers() {
        let name = header::HeaderName::try_from(name).map_err(|error| format!("a header cannot be sent: {error}"))?;
        headers.insert(name, HeaderValue::from_str(value).map_err(unfit)?);
    }
    for (name, value) in &destination.headers {
        let mut value = HeaderValue::from_bytes(value.expose()).map_err(unfit)?;
        value.set_sensitive(true);
        headers.insert(name.clone(), value);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(message.content_type()));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    for (name, value) in signed {
        let name = header::HeaderName::try_from(name).map_err(|error| format!("a header cannot be sent: {error}"))?;
        headers.insert(name, HeaderValue::from_str(&value).map_err(unfit)?);
    }
    Ok(request)
}
