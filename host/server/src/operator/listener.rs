//! The private listener's connections, each within its bounds before anything is known of who speaks: so many at once, a time for
//! a head, for silence and for a body. What it uses up is not the public listener's.
//!
//! When there are too many, the one that the host has waited for longest is evicted, as on the public listener ([`Connections`]).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tollgate_core::limits;
use tower_service::Service as _;

use crate::edge::{Connections, Follows, Patience, Slot, Wire};

/// How long running requests may go on after shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long an answer may stay unread before the kernel drops the connection.
#[cfg(target_os = "linux")]
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// Serves connections until shutdown.
pub(super) async fn serve(router: Router, listener: TcpListener, shutdown: CancellationToken) {
    let mut http = http1::Builder::new();
    // Heads are timed by the wire.
    http.header_read_timeout(None)
        .max_buf_size(limits::HEADER_BYTES_MAX.max(8 * 1024))
        .max_headers(limits::HEADER_COUNT_MAX);
    let connections = Connections::new(limits::OPERATOR_CONNECTIONS_MAX, shutdown.clone());
    loop {
        let Some(slot) = connections.slot().await else { break };
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = shutdown.cancelled() => break,
        };
        let Ok((stream, _)) = stream else {
            // Out of file descriptors, or a connection that died in the queue: evict others, and give them a moment.
            drop(slot);
            connections.evict_some();
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_MAX));
        let (http, router, shutdown) = (http.clone(), router.clone(), shutdown.clone());
        tokio::spawn(async move { converse(&http, &slot, stream, router, shutdown).await });
    }
    drop(listener);
    // A peer that began a request and does not end it must not hold the stop up.
    if tokio::time::timeout(DRAIN_MAX, connections.drained()).await.is_err() {
        tracing::warn!("some requests on the private listener did not end before the stop");
    }
}

/// Speaks HTTP on one connection until the peer goes, is evicted, or the host stops.
async fn converse(http: &http1::Builder, slot: &Slot, stream: TcpStream, router: Router, shutdown: CancellationToken) {
    let patience = Patience {
        head_ms_max: limits::HEADER_READ_MS_MAX,
        idle_ms_max: limits::IDLE_MS_MAX,
    };
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        slot.is_asked(Follows::from(request.body()));
        // Whoever is let in may take its time; whoever is not is answered at once, without a look at the body.
        slot.works_for_peer();
        let answering = router.clone().call(request.map(TimedBody::new));
        async move {
            let answer = answering.await;
            slot.has_answered();
            slot.waits_for_peer();
            answer
        }
    });
    let wire = TokioIo::new(Wire::new(stream, slot, patience));
    let mut connection = std::pin::pin!(http.serve_connection(wire, service));
    // A peer that breaks off or stalls is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = slot.close().cancelled() => {
            if shutdown.is_cancelled() {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }
}

/// A body that has to come in time, piece by piece and as a whole.
struct TimedBody {
    body: Incoming,
    pause: Pin<Box<Sleep>>,
    end: Pin<Box<Sleep>>,
}

/// The body did not come in time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the body did not come in time")]
    TooSlow,
    #[error("the body broke off: {0}")]
    Off(hyper::Error),
}

impl TimedBody {
    const PAUSE_MAX: Duration = Duration::from_millis(limits::OPERATOR_BODY_PAUSE_MS_MAX);

    fn new(body: Incoming) -> Self {
        let whole = Duration::from_millis(limits::OPERATOR_BODY_READ_MS_MAX);
        Self {
            body,
            pause: Box::pin(tokio::time::sleep(Self::PAUSE_MAX)),
            end: Box::pin(tokio::time::sleep(whole)),
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.pause.as_mut().reset(Instant::now() + Self::PAUSE_MAX);
                Poll::Ready(frame.map(|frame| frame.map_err(Broken::Off)))
            }
            Poll::Pending if self.pause.as_mut().poll(cx).is_ready() || self.end.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Some(Err(Broken::TooSlow)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
