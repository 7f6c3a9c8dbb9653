//! A small real HTTP destination: verifies every signature, applies each Idempotency-Key once, and fails now and then as real ones do.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::{Profile, standard_webhooks};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::verify::{Keyring, verify};

use tollgate_server::clock;

/// One operation as the destination saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Effect {
    pub(super) operation_key: String,
    pub(super) kind: String,
    /// How often a correctly signed message for it came: at least once.
    pub(super) arrivals: u32,
    /// What was answered, in order.
    pub(super) answers: Vec<u16>,
    /// How often it was applied: once, by its Idempotency-Key.
    pub(super) applied: u32,
    /// Whether every arrival carried the same action.
    pub(super) same_content: bool,
    #[serde(skip)]
    content: serde_json::Value,
}

/// The destination; stops with the runtime.
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    books: Arc<Books>,
}

struct Books {
    profile: Arc<Profile>,
    keyring: Keyring,
    effects: Mutex<BTreeMap<(String, String), Effect>>,
}

impl Destination {
    /// Listens on a port of the kernel's choice.
    pub(super) async fn start(secret: &str) -> anyhow::Result<Self> {
        let profile = Arc::clone(standard_webhooks());
        let secret = SourceSecret {
            id: KeyId::new("demo")?,
            text: Secret::new(secret),
            not_before: None,
            not_after: None,
        };
        let keyring = Keyring::new(&profile, &[secret])?;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let books = Arc::new(Books {
            profile,
            keyring,
            effects: Mutex::default(),
        });
        let open = Arc::clone(&books);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let books = Arc::clone(&open);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| receive(Arc::clone(&books), request));
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self { address, books })
    }

    pub(super) fn effects(&self) -> Vec<Effect> {
        self.books
            .effects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

async fn receive(books: Arc<Books>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let status = match Limited::new(body, 1024 * 1024).collect().await {
        Ok(body) => books.enter(&head, &body.to_bytes()),
        Err(_) => StatusCode::BAD_REQUEST,
    };
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    Ok(response)
}

impl Books {
    fn enter(&self, head: &http::request::Parts, body: &[u8]) -> StatusCode {
        let headers: Vec<Header<'_>> = head
            .headers
            .iter()
            .map(|(name, value)| Header {
                name: name.as_str(),
                value: value.as_bytes(),
            })
            .collect();
        let request = RawRequest {
            method: "POST",
            path: None,
            query: None,
            headers: &headers,
            body,
            url: None,
            received_at: clock::now(),
        };
        if verify(&self.profile, &self.keyring, request).is_err() {
            return StatusCode::UNAUTHORIZED;
        }
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let key = head
            .headers
            .get("idempotency-key")
            .and_then(|key| key.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let action = message.get("action").cloned().unwrap_or_default();
        let kind = action
            .get("kind")
            .and_then(|kind| kind.as_str())
            .unwrap_or_default()
            .to_owned();
        let operation_key = message
            .get("operation_key")
            .and_then(|key| key.as_str())
            .unwrap_or_default()
            .to_owned();

        let mut effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        let effect = effects.entry((kind.clone(), key)).or_insert_with(|| Effect {
            operation_key,
            kind: kind.clone(),
            arrivals: 0,
            answers: Vec::new(),
            applied: 0,
            same_content: true,
            content: action.clone(),
        });
        effect.arrivals += 1;
        effect.same_content &= effect.content == action;
        // The books are down for the first message of each credit: it must come again.
        let status = if kind == "credit" && effect.arrivals == 1 {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            if effect.applied == 0 {
                effect.applied = 1;
            }
            StatusCode::NO_CONTENT
        };
        effect.answers.push(status.as_u16());
        status
    }
}
