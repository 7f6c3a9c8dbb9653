//! HTTP to places that somebody else chose: destinations that tenants name, and keys that requests name. It follows no redirects, knows
//! no proxies, and connects only to addresses that the guard let through: each new connection resolves the name once, judges every
//! address, and dials one of exactly those.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tollgate_core::limits;
use tollgate_core::network::{self, Forbidden, Network};

use crate::config::OutboundRules;

/// One address of several may be dead; the others get their turn.
const CONNECT_MS_MAX: u64 = 5_000;
/// The head of an answer.
const ANSWER_HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long an idle connection is kept.
const IDLE_MS_MAX: u64 = 30_000;

/// An HTTP/1.1 client under the operator's rules. Cheap to keep: connections are opened when needed and closed when idle.
pub(crate) struct Client {
    http: legacy::Client<HttpsConnector<GuardedConnector>, Full<Bytes>>,
    rules: OutboundRules,
}

/// Why no answer came, in one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreached {
    /// The operator's rules do not let anything go there.
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    Failed(String),
}

impl Client {
    /// Keeps at most `idle_connections_max` connections that nobody uses at the moment.
    pub(crate) fn new(rules: &OutboundRules, idle_connections_max: usize) -> Self {
        let schemes = HttpsConnectorBuilder::new().with_tls_config(tls(rules));
        let schemes = if rules.allow_http {
            schemes.https_or_http()
        } else {
            schemes.https_only()
        };
        let connector = schemes.enable_http1().wrap_connector(GuardedConnector {
            allow_networks: rules.allow_networks.as_slice().into(),
        });
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(IDLE_MS_MAX))
            .pool_max_idle_per_host(idle_connections_max)
            .http1_max_buf_size(ANSWER_HEAD_BYTES_MAX)
            .http1_max_headers(limits::HEADER_COUNT_MAX)
            .build(connector);
        Self {
            http,
            rules: rules.clone(),
        }
    }

    /// Whether the client was made for these rules.
    pub(crate) fn obeys(&self, rules: &OutboundRules) -> bool {
        self.rules == *rules
    }

    /// Sends, and waits for the head of the answer; `deadline` at most.
    ///
    /// # Errors
    /// When the address is forbidden, nothing answers, or nothing did in time.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<Response<Incoming>, Unreached> {
        match tokio::time::timeout(deadline, self.http.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreached(&error)),
            Err(_) => Err(Unreached::Failed(format!(
                "no answer within {} ms",
                deadline.as_millis()
            ))),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// Mozilla's roots and the operator's own, and ring, whatever other providers the process may have.
fn tls(rules: &OutboundRules) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    // Each was checked to be a certificate when the configuration was read.
    roots.add_parsable_certificates(rules.extra_roots.iter().cloned());
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring serves TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Says in one line why no answer came.
fn unreached(error: &legacy::Error) -> Unreached {
    let chain = || std::iter::successors(Some(error as &(dyn Error + 'static)), |error| (*error).source());
    match chain().find_map(|error| error.downcast_ref::<ConnectError>()) {
        Some(ConnectError::Forbidden(forbidden)) => Unreached::Forbidden(forbidden.to_string()),
        Some(other) => Unreached::Failed(other.to_string()),
        None => {
            let what = if error.is_connect() {
                "cannot connect"
            } else {
                "the connection broke"
            };
            let cause = chain().last().map_or_else(String::new, ToString::to_string);
            Unreached::Failed(format!("{what}: {cause}"))
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
        network::judge(address.ip(), allow_networks).map_err(ConnectError::Forbidden)?;
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
