//! One destination's client: an attempt, as the outbox wants to know of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tollgate_core::delivery::{AttemptEnd, kept_answer, retry_after_ms};
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
        let end = AttemptEnd::Answered {
            http_status: response.status().as_u16(),
            retry_after_ms: retry_after(&response),
        };
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

/// Only an answer that asks for patience may name a time: a success needs none.
fn retry_after(response: &Response<Incoming>) -> Option<i64> {
    if response.status().is_success() || response.status() == StatusCode::GONE {
        return None;
    }
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    retry_after_ms(value, clock::wall())
}

/// As much of an answer as is kept. The rest is not read, and the connection closed.
async fn first_bytes(mut body: Incoming, time_to_read: Duration) -> Vec<u8> {
    let mut kept = Vec::new();
    let reading = async {
        while kept.len() < limits::ANSWER_BYTES_KEPT {
            let Some(Ok(frame)) = body.frame().await else { break };
            let Ok(data) = frame.into_data() else { continue };
            let room = limits::ANSWER_BYTES_KEPT - kept.len();
            kept.extend_from_slice(&data[..data.len().min(room)]);
        }
    };
    let _ = tokio::time::timeout(time_to_read, reading).await;
    kept
}
