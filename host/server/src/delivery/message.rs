//! What a destination receives: one recorded action, signed after Standard Webhooks.
//!
//! The body names what happened and embeds the action byte for byte as the ledger has it:
//! `{"type":"action.credit","id":"act_7","tenant":…,"receipt":…,"operation_key":…,"recorded_at":…,"action":{"kind":"credit",…}}`.
//!
//! Headers that stay the same over every attempt and replay of one entry: `webhook-id` (the entry, `out_…`) and
//! `Idempotency-Key` (the operation key; unique per tenant and kind of action, so a destination keeps it beside the body's `type`).
//! `traceparent` carries the receipt as the trace and the attempt as the span.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use tollgate_core::ids::Digest;
use tollgate_core::profile;
use tollgate_core::secret::Parameters;
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;
use tollgate_store::OutboxClaim;

use crate::config::Destination;

const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// Composes and signs one attempt.
///
/// # Errors
/// When it cannot be composed at all; says why. A checked configuration does not come to that.
pub(super) fn compose(
    claim: &OutboxClaim,
    destination: &Destination,
    at: UnixMillis,
) -> Result<Request<Full<Bytes>>, String> {
    let uri: Uri = destination
        .url
        .parse()
        .map_err(|error| format!("the destination's URL: {error}"))?;
    let body = body(claim);
    let scheme = profile::shipped()
        .get("standard-webhooks")
        .ok_or("the profile `standard-webhooks` is missing")?;
    let id = claim.entry.to_string();
    let input = SignInput {
        body: &body,
        id: &id,
        at,
        url: None,
    };
    let signed = sign(scheme, &destination.secrets, &Parameters::new(), &input)
        .map_err(|error| format!("cannot be signed: {error}"))?
        .headers;

    let unfit = |error: http::header::InvalidHeaderValue| format!("a header cannot be sent: {error}");
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(
        "idempotency-key",
        HeaderValue::from_str(claim.operation_key.as_str()).map_err(unfit)?,
    );
    headers.insert(
        "traceparent",
        HeaderValue::from_str(&traceparent(claim)).map_err(unfit)?,
    );
    for (name, value) in signed {
        let name = header::HeaderName::try_from(name).map_err(|error| format!("a header cannot be sent: {error}"))?;
        headers.insert(name, HeaderValue::from_str(&value).map_err(unfit)?);
    }
    Ok(request)
}

fn body(claim: &OutboxClaim) -> Vec<u8> {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"{{"type":"action.{kind}","id":"{id}","tenant":{tenant},"receipt":"{receipt}","operation_key":{key},"recorded_at":"{recorded_at}","action":{action}}}"#,
        kind = claim.kind,
        id = claim.action,
        tenant = text(claim.tenant.as_str()),
        receipt = claim.receipt,
        key = text(claim.operation_key.as_str()),
        recorded_at = claim.recorded_at,
        action = claim.action_json,
    )
    .into_bytes()
}

/// W3C Trace Context: the trace is the receipt, the span this attempt.
fn traceparent(claim: &OutboxClaim) -> String {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let span = Digest::of(format!("{}/{}", claim.entry, claim.attempt).as_bytes());
    format!("00-{}-{}-01", hex(&claim.receipt.0), hex(&span.0[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::action::ActionKind;
    use tollgate_core::ids::{ActionId, LeaseEpoch, OutboxId, ReceiptId};

    #[test]
    fn the_body_embeds_the_action_as_recorded() {
        let claim = OutboxClaim {
            entry: OutboxId(9),
            epoch: LeaseEpoch(1),
            attempt: 2,
            tenant: "acme".parse().unwrap(),
            destination: "ledger".parse().unwrap(),
            action: ActionId(7),
            operation_key: r#"cash"back\:1"#.parse().unwrap(),
            kind: ActionKind::ReserveStock,
            // Spacing and order are the ledger's.
            action_json: r#"{"kind":"reserve-stock",  "b":1,"a":2}"#.to_owned(),
            receipt: ReceiptId([0xab; 16]),
            recorded_at: UnixMillis(1_777_975_200_000),
        };
        let text = String::from_utf8(body(&claim)).unwrap();
        assert_eq!(
            text,
            r#"{"type":"action.reserve-stock","id":"act_7","tenant":"acme","receipt":"rcpt_abababababababababababababababab","operation_key":"cash\"back\\:1","recorded_at":"2026-05-05T10:00:00.000Z","action":{"kind":"reserve-stock",  "b":1,"a":2}}"#
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let trace = traceparent(&claim);
        assert!(trace.starts_with("00-abababababababababababababababab-"), "{trace}");
        assert_eq!(trace.len(), 55);
        assert_ne!(
            trace,
            traceparent(&OutboxClaim { attempt: 3, ..claim }),
            "each attempt is a span of its own"
        );
    }
}
