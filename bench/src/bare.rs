//! Bare hyper servers of the edge's own shape, beside which ingest is measured: one reads the whole body and answers 202, which is what
//! HTTP alone costs; the others also make the body durable first.
//!
//! They append as the store's writer commits: one thread takes what waits, never waits for more, writes it with one call, and answers each
//! edge thread once for all of its requests after one fdatasync. What is kept is the bytes and nothing else.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};
use tollgate_core::ids::KeyId;
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Keyring, verify};

use super::load::SECRET;

/// As many as the store's: writes that wait, and writes in one commit.
const WAITING_MAX: usize = 4096;
const TOGETHER_MAX: usize = 512;

/// How long a server takes that answers late.
pub(super) const LATE: Duration = Duration::from_millis(200);

/// What a bare server does before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing but to read the body.
    Answer,
    /// The same after [`LATE`].
    AnswerLate,
    /// Appends the body to a file and waits for its fdatasync.
    Append,
    /// The same once Tollgate's own code has proved the signature.
    ProveAndAppend,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Answer, Self::AnswerLate, Self::Append, Self::ProveAndAppend];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Answer => "bare hyper",
            Self::AnswerLate => "late answers",
            Self::Append => "raw append",
            Self::ProveAndAppend => "proof and raw append",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Serves until killed: `threads` single-threaded runtimes, each with its own listener on `port`. Bodies are appended to `file`.
pub(super) fn serve(mode: Mode, port: u16, threads: usize, file: &Path) -> anyhow::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (writer, waiting) = sync_channel(WAITING_MAX);
    let file = File::options().create(true).append(true).open(file)?;
    std::thread::spawn(move || append(&waiting, file));
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let writer = writer.clone();
            std::thread::spawn(move || -> anyhow::Result<()> {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
                socket.set_reuse_address(true)?;
                socket.set_reuse_port(true)?;
                socket.set_nonblocking(true)?;
                socket.bind(&address.into())?;
                socket.listen(1024)?;
                let (batcher, mut batches) = mpsc::unbounded_channel::<Vec<oneshot::Sender<()>>>();
                let edge = Arc::new(Edge::new(mode, writer, batcher)?);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    tokio::spawn(async move {
                        while let Some(answers) = batches.recv().await {
                            answers.into_iter().for_each(|answer| _ = answer.send(()));
                        }
                    });
                    accept(edge, socket.into()).await
                })
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

/// Answers of one commit to one thread.
type Batches = mpsc::UnboundedSender<Vec<oneshot::Sender<()>>>;

struct Piece {
    body: Bytes,
    answer: oneshot::Sender<()>,
    batcher: Batches,
}

fn append(waiting: &Receiver<Piece>, mut file: File) -> std::io::Result<()> {
    let mut together = Vec::with_capacity(TOGETHER_MAX);
    let mut bytes = Vec::new();
    while let Ok(first) = waiting.recv() {
        together.push(first);
        together.extend(waiting.try_iter().take(TOGETHER_MAX - 1));
        bytes.clear();
        together.iter().for_each(|piece| bytes.extend_from_slice(&piece.body));
        file.write_all(&bytes)?;
        file.sync_data()?;
        let mut batchers: Vec<(Batches, Vec<oneshot::Sender<()>>)> = Vec::new();
        for Piece { answer, batcher, .. } in together.drain(..) {
            match batchers.iter_mut().find(|(known, _)| known.same_channel(&batcher)) {
                Some((_, answers)) => answers.push(answer),
                None => batchers.push((batcher, vec![answer])),
            }
        }
        batchers
            .into_iter()
            .for_each(|(batcher, answers)| drop(batcher.send(answers)));
    }
    Ok(())
}

/// What the requests of one thread share.
struct Edge {
    mode: Mode,
    writer: SyncSender<Piece>,
    batcher: Batches,
    profile: Arc<Profile>,
    keyring: Keyring,
}

impl Edge {
    fn new(mode: Mode, writer: SyncSender<Piece>, batcher: Batches) -> anyhow::Result<Self> {
        let profile = shipped()
            .iter()
            .find(|(name, _)| name.as_str() == "voucherify")
            .map(|(_, profile)| Arc::clone(profile))
            .ok_or_else(|| anyhow::anyhow!("no voucherify profile"))?;
        let secret = SourceSecret {
            id: KeyId::new("bench")?,
            text: Secret::new(SECRET),
            not_before: None,
            not_after: None,
        };
        Ok(Self {
            mode,
            writer,
            batcher,
            keyring: Keyring::new(&profile, &[secret])?,
            profile,
        })
    }

    fn proves(&self, head: &hyper::http::request::Parts, body: &Bytes) -> bool {
        let headers: Vec<Header<'_>> = head
            .headers
            .iter()
            .map(|(name, value)| Header {
                name: name.as_str(),
                value: value.as_bytes(),
            })
            .collect();
        let request = RawRequest {
            method: head.method.as_str(),
            path: None,
            query: None,
            headers: &headers,
            body,
            url: None,
            received_at: UnixMillis(0),
        };
        verify(&self.profile, &self.keyring, request).is_ok()
    }

    /// Whether the body is durable now.
    async fn keep(&self, body: Bytes) -> bool {
        let (answer, durable) = oneshot::channel();
        let piece = Piece {
            body,
            answer,
            batcher: self.batcher.clone(),
        };
        self.writer.try_send(piece).is_ok() && durable.await.is_ok()
    }
}

async fn accept(edge: Arc<Edge>, listener: std::net::TcpListener) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let edge = Arc::clone(&edge);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| answer(&edge, request));
            let _ = http1::Builder::new()
                .writev(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(edge: &Edge, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let status = match body.collect().await {
        Err(_) => StatusCode::BAD_REQUEST,
        Ok(_) if edge.mode == Mode::Answer => StatusCode::ACCEPTED,
        Ok(_) if edge.mode == Mode::AnswerLate => {
            tokio::time::sleep(LATE).await;
            StatusCode::ACCEPTED
        }
        Ok(body) => {
            let body = body.to_bytes();
            if edge.mode == Mode::ProveAndAppend && !edge.proves(&head, &body) {
                StatusCode::UNAUTHORIZED
            } else if edge.keep(body).await {
                StatusCode::ACCEPTED
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    };
    let mut response = Response::new(Full::new(Bytes::from_static(
        b"{\"receipt\":\"rcpt_00000000000000000000000000000000\",\"status\":\"accepted\"}\n",
    )));
    *response.status_mut() = status;
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static("application/json"),
    );
    Ok(response)
}
