//! One destination's client: makes an attempt, and reports how it ended as the outbox records it.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tollgate_core::delivery::{AttemptEnd, Outgoing, kept_answer};
use tollgate_core::limits;
use tollgate_core::secret::Secret;

use crate::clock;
use crate::config::OutboundRules;
use crate::outbound::{self, Unreached};

/// After the head has come, for as much of the body as is kept. The head decides; the body is for people.
const ANSWER_READ_MS_MAX: u64 = 2_000;
const IDLE_CONNECTIONS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Client {
    outbound: outbound::Client,
}

/// How an attempt ended, with what was kept of the answer.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) end: AttemptEnd,
    pub(super) answer: String,
}

impl Client {
    pub(super) fn new(rules: &OutboundRules) -> Self {
        Self {
            outbound: outbound::Client::new(rules, IDLE_CONNECTIONS_MAX),
        }
    }

    /// Whether the client was made for these rules.
    pub(super) fn obeys(&self, rules: &OutboundRules) -> bool {
        self.outbound.obeys(rules)
    }

    /// Sends, and waits for the answer; `deadline` at most in all. What the answer echoes of `secrets` is not kept.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, deadline: Duration, secrets: &[&Secret]) -> Attempt {
        let started = Instant::now();
        let response = match self.outbound.send(request, deadline).await {
            Ok(response) => response,
            Err(Unreached::Forbidden(reason)) => return Attempt::without_answer(AttemptEnd::Forbidden { reason }),
            Err(Unreached::Failed(reason)) => return Attempt::without_answer(AttemptEnd::Failed { reason }),
        };
        let time_to_read = deadline
            .saturating_sub(started.elapsed())
            .min(Duration::from_millis(ANSWER_READ_MS_MAX));
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let end = AttemptEnd::answered(
            response.status().as_u16(),
            retry_after.and_then(|value| value.to_str().ok()),
            clock::wall(),
        );
        Attempt {
            end,
            answer: kept_answer(&first_bytes(response.into_body(), time_to_read).await, secrets),
        }
    }
}

impl Attempt {
    pub(super) fn without_answer(end: AttemptEnd) -> Self {
        Self {
            end,
            answer: String::new(),
        }
    }
}

/// What goes to this URL.
///
/// # Errors
/// When it cannot be sent as HTTP; says why. A checked configuration does not come to that.
pub(super) fn request(url: &str, outgoing: Outgoing) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::new(Full::new(Bytes::from(outgoing.body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = url.parse().map_err(|error| format!("the destination's URL: {error}"))?;
    for (name, value) in outgoing.headers {
        let unfit = |error: &dyn fmt::Display| format!("the header `{name}` cannot be sent: {error}");
        let mut value = HeaderValue::from_bytes(value.expose()).map_err(|error| unfit(&error))?;
        value.set_sensitive(true);
        let name = HeaderName::try_from(&name).map_err(|error| unfit(&error))?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// As much of an answer as is kept. The rest is not read, and the connection closed.
async fn first_bytes(mut body: Incoming, time_to_read: Duration) -> Vec<u8> {
    let mut kept = Vec::new();
    let reading = async {
        while kept.len() < limits::ANSWER_BYTES_KEPT {
            let Some(Ok(frame)) = body.frame().await else { break };
            let Ok(data) = frame.into_data() else { continue };
            let left = limits::ANSWER_BYTES_KEPT - kept.len();
            kept.extend_from_slice(&data[..data.len().min(left)]);
        }
    };
    let _ = tokio::time::timeout(time_to_read, reading).await;
    kept
}
