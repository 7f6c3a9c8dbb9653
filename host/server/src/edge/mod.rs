//! The edge: the public listener. It proves, admits and answers, and waits for nothing but the durable commit.
//!
//! One thread per core, each with a single-threaded runtime and a listener of its own on the same port: no request crosses threads
//! except into the store's writer and back. What is answered is the core's table; see [`intake`].

mod access;
mod connections;
mod intake;
mod keys;
mod own;
mod refused;
mod time_budget;
mod wire;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tollgate_core::limits;
use tollgate_store::{Intake, ReplyBatcher};

pub(crate) use self::access::Buckets;
use self::access::Peer;
pub(crate) use self::connections::{Connections, Follows, Slot};
pub(crate) use self::keys::Keys;
pub(crate) use self::own::ask as ask_own;
pub(crate) use self::refused::RefusedRequests;
use self::time_budget::TimeBudget;
pub(crate) use self::wire::{Patience, Wire};
use crate::clock;
use crate::config::{Config, EdgeConfig};
use crate::telemetry::{EdgeCounters, Whose};

/// How long an answer may stay unread before the kernel drops the connection.
#[cfg(target_os = "linux")]
const UNREAD_MAX: Duration = Duration::from_secs(10);

/// The path of the public listener that is no tenant's: load balancers ask it whether the host is up.
const HEALTH_PATH: &str = "/healthz";

/// Connections that the kernel keeps until they are taken, as far as it allows so many. When there are more it drops their
/// beginnings, and the peer tries again after a second.
const BACKLOG: i32 = 4096;

/// File descriptors that the edge leaves alone: a thousand deliveries under way, and what the store and the operators open.
const FILES_OF_OTHERS: u64 = 1536;

/// Everything that a request may touch.
pub(crate) struct Edge<S> {
    pub(crate) store: S,
    pub(crate) config: Arc<ArcSwap<Config>>,
    pub(crate) counters: Arc<EdgeCounters>,
    /// What was refused, for whoever it was for.
    pub(crate) refused: Arc<RefusedRequests>,
    /// Body bytes that requests hold now, over all threads; see [`limits::EDGE_BODY_BYTES_MAX`].
    pub(crate) body_bytes: AtomicUsize,
    /// What each tenant has used of its rate.
    pub(crate) buckets: Buckets,
    /// Keys that providers publish, as far as they are known.
    pub(crate) keys: Arc<Keys>,
    /// Cancelled when the host stops: no new connections, running requests are finished.
    pub(crate) shutdown: CancellationToken,
}

/// The edge's listeners, one for each thread, all on one address.
pub(crate) struct Listeners {
    pub(crate) address: SocketAddr,
    listeners: Vec<std::net::TcpListener>,
}

/// Opens the public listeners. No connection is accepted yet; the kernel keeps those that come.
///
/// # Errors
/// When the address cannot be bound, as when anybody else listens there.
pub(crate) fn listen(settings: &EdgeConfig) -> anyhow::Result<Listeners> {
    let listening = || -> std::io::Result<Listeners> {
        // Alone: whoever else listens at the address, sharing it or not, makes this fail. Only then is the address shared, with the
        // listeners of the other threads. The next host finds it taken in the same way.
        let first = bind(settings.listen, Sharing::Alone)?;
        first.listen(BACKLOG)?;
        first.set_reuse_port(true)?;
        let first: std::net::TcpListener = first.into();
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        for _ in 1..settings.threads.max(1) {
            let further = bind(address, Sharing::WithOurs)?;
            further.listen(BACKLOG)?;
            listeners.push(further.into());
        }
        Ok(Listeners { address, listeners })
    };
    listening().with_context(|| format!("cannot listen on {}; is the port taken?", settings.listen))
}

/// Starts the edge's threads, and returns a handle of each.
///
/// # Errors
/// When the system starts no thread.
pub(crate) fn start<S: Intake>(
    edge: Arc<Edge<S>>,
    listeners: Listeners,
    files_max: u64,
) -> anyhow::Result<Vec<std::thread::JoinHandle<()>>> {
    let mut settings = edge.config.load().edge.clone();
    let slots_max = slots(files_max) / settings.threads.max(1);
    if slots_max < settings.connections_max {
        tracing::warn!(
            connections_max = settings.connections_max,
            slots_max,
            files_max,
            "the process may not have as many files open as there may be connections; there will be so many slots per thread"
        );
        settings.connections_max = slots_max.max(1);
    }
    let threads = listeners
        .listeners
        .into_iter()
        .enumerate()
        .map(|(at, listener)| {
            let (edge, settings) = (Arc::clone(&edge), settings.clone());
            std::thread::Builder::new().name(format!("edge-{at}")).spawn(move || {
                match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(accept(edge, settings, listener)),
                    Err(error) => tracing::error!(%error, "an edge thread could not start"),
                }
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(threads)
}

/// How many connections a process that may have so many files open can take: the rest is for the store, for deliveries and for
/// operators.
fn slots(files_max: u64) -> usize {
    let others = (files_max / 2).min(FILES_OF_OTHERS);
    usize::try_from(files_max - others).unwrap_or(usize::MAX)
}

/// With whom an address is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    /// With listeners of this process that share it as well.
    WithOurs,
}

fn bind(address: SocketAddr, sharing: Sharing) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a host that has just ended do not keep the next one out; a listener does.
    socket.set_reuse_address(true)?;
    match sharing {
        Sharing::Alone => {}
        Sharing::WithOurs => socket.set_reuse_port(true)?,
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn accept<S: Intake>(edge: Arc<Edge<S>>, settings: EdgeConfig, listener: std::net::TcpListener) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "an edge thread lost its listener"),
    };
    let mut http = http1::Builder::new();
    // Heads are timed by the wire.
    http.header_read_timeout(None)
        .max_buf_size(limits::HEADER_BYTES_MAX.max(8 * 1024))
        .max_headers(limits::HEADER_COUNT_MAX)
        // Head and body of our short answers in one buffer. Not `pipeline_flush`, which does that too: it holds an answer back
        // while any byte of a next request waits (a line break after the body is enough), and then without bound.
        .writev(false);
    tokio::spawn(ReplyBatcher::of_this_thread().run());
    tokio::spawn(keep_a_timer());
    // Each connection looks at its own child of it whenever it is polled; a token of the thread's own is not fought for.
    let shutdown = edge.shutdown.child_token();
    let connections = Connections::new(settings.connections_max, shutdown.clone());
    // Connections that come all at once would also be let go all at once.
    let budget = TimeBudget::default();
    loop {
        budget.take(time_budget::CONNECTION_NS).await;
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, address)) = stream else {
            // Out of file descriptors, or a connection that died in the queue: evict others, and give them a moment.
            connections.evict_some();
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Those that nothing can be evicted for stay in the kernel's queue instead of being refused.
        let Some(slot) = connections.slot().await else { break };
        let _ = stream.set_nodelay(true);
        // Answers are small: a peer that takes none of them for so long only holds a slot and a file descriptor.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_MAX));
        edge.counters.connections.inc();
        edge.counters.connections_open.inc();
        let (edge, http) = (Arc::clone(&edge), http.clone());
        tokio::spawn(async move {
            let patience = Patience {
                head_ms_max: settings.header_read_ms_max,
                idle_ms_max: settings.idle_ms_max,
            };
            if says_something(&stream, &slot, patience.head_ms_max).await {
                elsewhere(|| attend(&edge, &http, &slot, stream, address, patience)).await;
            }
            edge.counters.connections_open.dec();
            drop(slot);
        });
    }
    // Whoever connects now is refused at once, and asks elsewhere.
    drop(listener);
    // Let running requests reach their answer; whoever is slower than this gets none and will redeliver.
    let _ = tokio::time::timeout(Duration::from_secs(5), connections.drained()).await;
}

/// Keeps the thread's clock set to something near. The runtime writes to its own wake-up descriptor whenever a timer is set that
/// is due before every other, and a connection sets one after each answer: with all others waiting for their commit, that was
/// a system call for nearly every request.
async fn keep_a_timer() {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
    }
}

/// Waits for a connection's first bytes, as long as for a head. Many say nothing: they are not prepared for.
async fn says_something(stream: &TcpStream, slot: &Slot, ms_max: u64) -> bool {
    let mut first = [0];
    tokio::select! {
        said = tokio::time::timeout(Duration::from_millis(ms_max), stream.peek(&mut first)) => matches!(said, Ok(Ok(1))),
        () = slot.close().cancelled() => false,
    }
}

/// A future in memory of its own, made there: what would await it in place is as large as it is, from its beginning.
#[inline(never)]
fn elsewhere<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

/// Serves one connection until its end, encrypted or not.
async fn attend<S: Intake>(
    edge: &Edge<S>,
    http: &http1::Builder,
    slot: &Slot,
    stream: TcpStream,
    address: SocketAddr,
    patience: Patience,
) {
    // The certificate of now: a reload may have brought a new one.
    let tls = edge.config.load().edge.tls.clone();
    match tls {
        None => {
            converse(
                edge,
                http,
                slot,
                Wire::new(stream, slot, patience),
                Peer::new(address, false),
            )
            .await
        }
        Some(tls) => {
            let accepting = TlsAcceptor::from(tls.server).accept(stream);
            // A peer that breaks off or stalls in the handshake is its own affair.
            if let Some(stream) = within(edge, slot, patience.head_ms_max, accepting).await {
                converse(
                    edge,
                    http,
                    slot,
                    Wire::new(stream, slot, patience),
                    Peer::new(address, true),
                )
                .await;
            }
        }
    }
}

/// Waits for a handshake, but not for ever, not into a stop and not while others have no slot.
async fn within<S: Intake, T, E>(
    edge: &Edge<S>,
    slot: &Slot,
    ms_max: u64,
    handshake: impl Future<Output = Result<T, E>>,
) -> Option<T> {
    tokio::select! {
        done = tokio::time::timeout(Duration::from_millis(ms_max), handshake) => {
            let stream = done.ok().and_then(Result::ok);
            if stream.is_none() {
                edge.counters.refused(Whose::Nobodys, "tls-handshake", clock::now());
            }
            stream
        }
        () = slot.close().cancelled() => None,
    }
}

/// Speaks HTTP on one connection until the peer goes, is evicted, or the host stops.
async fn converse<S: Intake, I>(edge: &Edge<S>, http: &http1::Builder, slot: &Slot, wire: Wire<'_, I>, peer: Peer)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        slot.is_asked(Follows::from(request.body()));
        async move {
            let answered = intake::handle(edge, slot, peer, request).await;
            slot.has_answered();
            answered
        }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(wire), service));
    // A peer that breaks off or stalls is its own affair; nothing of it was kept.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = slot.close().cancelled() => {
            if edge.shutdown.is_cancelled() {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
    if slot.has_sent_a_bare_line_feed()
        && let Some(left_out) = edge.counters.refused(Whose::Nobodys, "bare-line-feed", clock::now())
    {
        tracing::warn!(
            cause = "bare-line-feed",
            left_out,
            "refused: a line of a request's head ends without a carriage return"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: SocketAddr) -> EdgeConfig {
        let text = format!("[edge]\nlisten = \"{listen}\"\nthreads = 3\n");
        crate::config::load_from_texts(&text, &[], &|_| None).unwrap().edge
    }

    /// The two ways in which another process may hold an address: alone, or ready to share it with whoever is of its user.
    #[test]
    fn an_address_in_use_is_refused_whoever_uses_it_and_however() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let ours = listen(&settings(free)).unwrap();
        assert_eq!(ours.listeners.len(), 3, "a listener for each thread");
        let refused = listen(&settings(ours.address)).err().expect("a second host is refused");
        assert!(format!("{refused:#}").contains("is the port taken?"), "{refused:#}");
        let everywhere = SocketAddr::from(([0, 0, 0, 0], ours.address.port()));
        assert!(listen(&settings(everywhere)).is_err(), "at all addresses");
        let address = ours.address;
        drop(ours);

        for sharing in [Sharing::Alone, Sharing::WithOurs] {
            let theirs = bind(address, sharing).unwrap();
            theirs.listen(1).unwrap();
            assert!(listen(&settings(address)).is_err(), "{sharing:?}");
            drop(theirs);
        }
        assert!(listen(&settings(address)).is_ok(), "free again at once");
    }
}
