//! One destination's HTTP/1.1 client. It follows no redirects, knows no proxies, and connects only to addresses that the guard let
//! through: each new connection resolves the name once, judges every address, and dials one of exactly those.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tollgate_core::delivery::{AttemptEnd, retry_after_ms};
use tollgate_core::limits;

use super::guard::{self, Forbidden};
use crate::clock;
use crate::config::{DeliveryConfig, Network};

/// One address of several may be dead; the others get their turn.
const CONNECT_MS_MAX: u64 = 5_000;
/// After the head has come, for as much of the body as is kept. The head decides; the body is for people.
const ANSWER_READ_MS_MAX: u64 = 2_000;
/// The head of an answer.
const ANSWER_HEAD_BYTES_MAX: usize = 32 * 1024;
/// An idle connection is kept this long.
const IDLE_MS_MAX: u64 = 30_000;
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Cheap to keep: connections are opened when needed and closed when idle.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    allow_networks: Arc<[Network]>,
    allow_http: bool,
}

/// How an attempt ended, with what was kept of the answer.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) end: AttemptEnd,
    pub(super) answer: String,
}

impl Client {
    pub(super) fn new(rules: &DeliveryConfig) -> Self {
        let allow_networks: Arc<[Network]> = rules.allow_networks.as_slice().into();
        let schemes = HttpsConnectorBuilder::new().with_tls_config(tls().clone());
        let schemes = if rules.allow_http {
            schemes.https_or_http()
        } else {
            schemes.https_only()
        };
        let connector = schemes.enable_http1().wrap_connector(GuardedConnector {
            allow_networks: Arc::clone(&allow_networks),
        });
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(IDLE_MS_MAX))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .http1_max_headers(limits::HEADER_COUNT_MAX)
            .build(connector);
        Self {
            http,
            allow_networks,
            allow_http: rules.allow_http,
        }
    }

    /// Whether the client was made for these rules.
    pub(super) fn obeys(&self, rules: &DeliveryConfig) -> bool {
        *self.allow_networks == *rules.allow_networks && self.allow_http == rules.allow_http
    }

    /// Sends, and waits for the answer; `deadline` at most in all.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>, deadline: Duration) -> Attempt {
        let started = Instant::now();
        let response = match tokio::time::timeout(deadline, self.http.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Attempt::without_answer(failure(&error)),
            Err(_) => {
                let reason = format!("no answer within {} ms", deadline.as_millis());
                return Attempt::without_answer(AttemptEnd::Failed { reason });
            }
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
            answer: first_bytes(response.into_body(), time_to_read).await,
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("allow_networks", &self.allow_networks)
            .finish_non_exhaustive()
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

/// Mozilla's roots and ring, whatever other providers the process may have.
fn tls() -> &'static ClientConfig {
    static TLS: OnceLock<ClientConfig> = OnceLock::new();
    TLS.get_or_init(|| {
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring serves TLS 1.2 and 1.3")
            .with_webpki_roots()
            .with_no_client_auth()
    })
}

/// Only an answer that asks for patience may name a time: a success needs none.
fn retry_after(response: &Response<Incoming>) -> Option<i64> {
    if response.status().is_success() || response.status() == StatusCode::GONE {
        return None;
    }
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    retry_after_ms(value, clock::now())
}

/// What is kept of an answer: its first bytes as text, without control characters, which could play with a terminal. The rest is
/// not read, and the connection closed.
async fn first_bytes(mut body: Incoming, time_to_read: Duration) -> String {
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
    let text = String::from_utf8_lossy(&kept);
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Says in one line why no answer came.
fn failure(error: &legacy::Error) -> AttemptEnd {
    let chain = || std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    match chain().find_map(|error| error.downcast_ref::<ConnectError>()) {
        Some(ConnectError::Forbidden(forbidden)) => AttemptEnd::Forbidden {
            reason: forbidden.to_string(),
        },
        Some(other) => AttemptEnd::Failed {
            reason: other.to_string(),
        },
        None => {
            let what = if error.is_connect() {
                "cannot connect"
            } else {
                "the connection broke"
            };
            let cause = chain().last().map_or_else(String::new, ToString::to_string);
            AttemptEnd::Failed {
                reason: format!("{what}: {cause}"),
            }
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Forbidden(Forbidden),
    #[error("the URL has no host")]
    NoHost,
    #[error("cannot resolve {host}: {detail}")]
    Resolve { host: String, detail: String },
    #[error("cannot connect to {address}: {detail}")]
    Connect { address: SocketAddr, detail: String },
}

/// Opens TCP connections under the guard.
#[derive(Clone)]
struct GuardedConnector {
    allow_networks: Arc<[Network]>,
}

impl tower_service::Service<Uri> for GuardedConnector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let allow_networks = Arc::clone(&self.allow_networks);
        Box::pin(async move { connect(&uri, &allow_networks).await.map(TokioIo::new) })
    }
}

async fn connect(uri: &Uri, allow_networks: &[Network]) -> Result<TcpStream, ConnectError> {
    let host = uri.host().ok_or(ConnectError::NoHost)?;
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let addresses = resolve(host, port).await?;
    for address in &addresses {
        guard::judge(address.ip(), allow_networks).map_err(ConnectError::Forbidden)?;
    }
    let mut failed = ConnectError::Resolve {
        host: host.to_owned(),
        detail: "it has no addresses".to_owned(),
    };
    for address in addresses {
        let connecting = tokio::time::timeout(Duration::from_millis(CONNECT_MS_MAX), TcpStream::connect(address));
        let error = match connecting.await {
            Ok(Ok(stream)) => {
                // A message is one write; waiting for more to send only costs time.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {CONNECT_MS_MAX} ms"),
            ),
        };
        failed = ConnectError::Connect {
            address,
            detail: error.to_string(),
        };
    }
    Err(failed)
}

/// The host's addresses. An address in place of a name stands for itself.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(ConnectError::Resolve {
            host: host.to_owned(),
            detail: error.to_string(),
        }),
    }
}
