//! What the host itself sends a source: test events. They take the way of every request, from the bytes of the head on, over a connection that
//! has no network in it; only who may call a source is not asked (`access`).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tollgate_store::{Intake, ReplyBatcher};

use super::access::Peer;
use super::connections::Connections;
use super::{Edge, Follows, intake};

/// Of the connection, in either direction.
const BUFFER_BYTES: usize = 64 * 1024;
/// Of an answer: what is answered to providers is short.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Until there is an answer. The edge's own bounds are below.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a request, and returns what the edge answers. `place` is held until it has: whoever asks may be gone by then.
///
/// # Errors
/// In words, when it does not answer.
pub(crate) async fn ask<S: Intake>(
    edge: Arc<Edge<S>>,
    request: Request<Full<Bytes>>,
    place: OwnedSemaphorePermit,
) -> Result<Response<Bytes>, String> {
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own, as each of the edge's: the store's replies are handed out thread by thread.
    let thread = std::thread::Builder::new().name("edge-own".to_owned()).spawn(move || {
        let answered = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(converse(&edge, request)),
            Err(error) => Err(error.to_string()),
        };
        drop(place);
        // Whoever asked may be gone.
        let _ = tell.send(answered);
    });
    thread.map_err(|error| format!("the system starts no thread: {error}"))?;
    told.await.unwrap_or_else(|_| Err("it broke off".to_owned()))
}

async fn converse<S: Intake>(edge: &Edge<S>, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
    tokio::spawn(ReplyBatcher::of_this_thread().run());
    let connections = Connections::new(1, edge.shutdown.child_token());
    let slot = connections.slot().await.ok_or("the host stops")?;
    let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
    let (slot, peer) = (&slot, Peer::host());
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        slot.is_asked(Follows::from(request.body()));
        async move {
            let answered = intake::handle(edge, slot, peer, request).await;
            slot.has_answered();
            answered
        }
    });
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
    let asking = async {
        let broke = |error: hyper::Error| format!("the connection broke: {error}");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours))
            .await
            .map_err(broke)?;
        let answering = async {
            let response = sender.send_request(request).await.map_err(broke)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::select! {
            answered = answering => answered,
            ended = connection => Err(ended.err().map_or_else(|| "the connection ended".to_owned(), broke)),
        }
    };
    tokio::select! {
        answered = asking => answered,
        _ = serving => Err("the connection ended".to_owned()),
        () = tokio::time::sleep(PATIENCE) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
