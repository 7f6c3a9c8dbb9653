//! Deliveries from a real store to a real HTTP peer on the loopback.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tollgate_core::action::{ActionKind, Flag, Proposal, UncheckedAction};
use tollgate_core::admission::{Admission, Identity, JobSpec, OnHeld, OnReplay, lane, receipt_id};
use tollgate_core::commitment::body_commitment;
use tollgate_core::event::{Event, Proof, StatusReading};
use tollgate_core::grant::{Grant, judge};
use tollgate_core::ids::Digest;
use tollgate_core::outcome::JobEnd;
use tollgate_core::profile;
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::verify::{Keyring, verify};
use tollgate_store::OpenOptions;
use tollgate_store::{
    AttemptView, Control as _, Intake as _, OutboxView, ReceiptKey as _, RunRecord, Settlement, Store as _, Targets,
    TraceBy, TraceQuery, Work as _,
};

use super::*;
use crate::config::{OutboundRules, load_from_texts};
use crate::store::LocalStore;

const OLD_SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const NEW_SECRET: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";

/// A request as the peer got it.
#[derive(Debug, Clone)]
struct Seen {
    path: String,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

/// What the peer answers.
struct Reply {
    after: Duration,
    status: u16,
    header: Option<(&'static str, String)>,
    body: ReplyBody,
}

enum ReplyBody {
    Whole(Bytes),
    /// These bytes, then nothing and no end.
    Stalled(Bytes),
    /// These bytes, for ever.
    Endless(Bytes),
}

fn reply(status: u16) -> Reply {
    Reply {
        after: Duration::ZERO,
        status,
        header: None,
        body: ReplyBody::Whole(Bytes::new()),
    }
}

/// A destination that answers the n-th request (from 0) as it is told.
struct Peer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    busiest: Arc<AtomicUsize>,
}

impl Peer {
    async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            connections: Arc::default(),
            busiest: Arc::default(),
        };
        let (seen, connections, busiest) = (
            Arc::clone(&peer.seen),
            Arc::clone(&peer.connections),
            Arc::clone(&peer.busiest),
        );
        let (script, busy) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (seen, busiest) = (Arc::clone(&seen), Arc::clone(&busiest));
                let (script, busy) = (Arc::clone(&script), Arc::clone(&busy));
                let service = service_fn(move |request| {
                    let (seen, busiest) = (Arc::clone(&seen), Arc::clone(&busiest));
                    let (script, busy) = (Arc::clone(&script), Arc::clone(&busy));
                    async move {
                        busiest.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let at = note(request, &seen).await;
                        let reply = script(at);
                        tokio::time::sleep(reply.after).await;
                        busy.fetch_sub(1, Ordering::SeqCst);
                        Ok::<_, Infallible>(respond(reply))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        peer
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn saw(&self, requests: usize) -> Vec<Seen> {
        until(async || self.seen().len() >= requests).await;
        self.seen()
    }
}

async fn note(request: Request<Incoming>, seen: &Mutex<Vec<Seen>>) -> usize {
    let (head, body) = request.into_parts();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect();
    let body = body.collect().await.unwrap().to_bytes();
    let mut seen = seen.lock().unwrap();
    seen.push(Seen {
        path: head.uri.path().to_owned(),
        headers,
        body,
    });
    seen.len() - 1
}

fn respond(reply: Reply) -> Response<BoxBody<Bytes, Infallible>> {
    let body = match reply.body {
        ReplyBody::Whole(bytes) => Full::new(bytes).boxed(),
        ReplyBody::Stalled(bytes) => Stalled(Some(bytes)).boxed(),
        ReplyBody::Endless(bytes) => Endless(bytes).boxed(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap();
    if let Some((name, value)) = reply.header {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// A body that gives its bytes and then neither more nor an end.
struct Stalled(Option<Bytes>);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .take()
            .map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

struct Endless(Bytes);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
    }
}

/// A host that delivers to a peer.
struct Host {
    store: LocalStore,
    config: Arc<ArcSwap<Config>>,
    shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

const QUICK: &str = "[delivery.retry]\nattempts_max = 3\nbase_ms = 20\ncap_ms = 40\n";
const ALLOW_LOOPBACK: &str = "[delivery]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\", \"::1\"]\n";

fn config(operator: &str, url: &str, more: &str) -> Config {
    let tenant = format!(
        "[destinations.ledger]\nurl = \"{url}\"\nsecrets = [{{ env = \"OLD\" }}, {{ env = \"NEW\" }}]\n{more}\n"
    );
    let env = |name: &str| match name {
        "OLD" => Some(OLD_SECRET.to_owned()),
        "NEW" => Some(NEW_SECRET.to_owned()),
        "TOKEN" => Some("Bearer hunter2hunter2".to_owned()),
        _ => None,
    };
    load_from_texts(operator, &[("acme", &tenant)], &env).unwrap_or_else(|problems| panic!("{problems}"))
}

impl Host {
    fn open(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            store: LocalStore::open(folder.path().join("tollgate.db"), OpenOptions::default()).unwrap(),
            config: Arc::new(ArcSwap::from_pointee(config)),
            shutdown: CancellationToken::new(),
            running: None,
            _folder: folder,
        }
    }

    fn start(&mut self, settings: Settings) {
        let delivery = Delivery::new(
            "host/1".to_owned(),
            self.store.clone(),
            Arc::clone(&self.config),
            Arc::default(),
            self.shutdown.clone(),
            settings,
        );
        self.running = Some(tokio::spawn(delivery.run()));
    }

    /// Records `actions` actions of one run, each with an outbox entry for the destination `ledger`.
    async fn record(&self, actions: usize) {
        let name = |text: &str| text.parse().unwrap();
        let (tenant, source) = ("acme".parse().unwrap(), "rewards".parse().unwrap());
        let now = clock::now();
        let receipt = receipt_id(self.store.receipt_key(), &tenant, &source, &"evt_1".parse().unwrap());
        let body = Bytes::from_static(b"{}");
        let admission = Admission {
            filtered: Vec::new(),
            hold: None,
            receipt,
            identity: Identity::EventId,
            body_commitment: body_commitment(self.store.receipt_key(), &tenant, &body),
            lifecycle: None,
            due_at: now,
            jobs: vec![JobSpec {
                route: "cashback".parse().unwrap(),
                lane: lane(&tenant, &"cashback".parse().unwrap(), None, None, receipt),
                late: tollgate_core::route::Late::default(),
            }],
            on_held: OnHeld::Review,
            scope: tollgate_core::subject::Scope::default(),
            on_replay: OnReplay::Hold,
            proof: Proof {
                provider: "standard-webhooks".parse().unwrap(),
                profile_version: 1,
                scheme: "v1".into(),
                key_id: "a".parse().unwrap(),
                signed_at: None,
            },
            event: Arc::new(Event {
                tenant,
                source,
                id: "evt_1".parse().unwrap(),
                event_type: "customer.rewarded".parse().unwrap(),
                subject: None,
                reading: StatusReading::Stateless,
                occurred_at: None,
                received_at: now,
                amount: None,
                attributes: Vec::new(),
                payload: body,
            }),
        };
        let _ = self.store.admit(vec![admission]).await.unwrap();
        let request = ClaimRequest {
            worker: "test".into(),
            now,
            lease_ms: 10_000,
            rows_max: 1,
            passed_over: Vec::new(),
        };
        let job = self.store.claim_jobs(request).await.unwrap().remove(0);
        let proposals = (0..actions)
            .map(|at| Proposal {
                operation_key: format!("flag:{at}"),
                action: UncheckedAction::Flag(Flag {
                    subject: "cust_1".into(),
                    score: 7,
                    reasons: vec!["velocity".into()],
                }),
            })
            .collect();
        let settlement = Settlement {
            job: job.job,
            epoch: job.epoch,
            run: RunRecord {
                plugin: name("fraud"),
                digest: Digest::of(b"plugin"),
                config_digest: Digest::of(b"{}"),
                config: "{}".into(),
                runtime: "none".into(),
                started_at: now,
                duration_us: 1,
                fuel: 1,
                outcome: "completed".into(),
                message: String::new(),
                reads: Vec::new(),
                logs: Vec::new(),
            },
            end: JobEnd::Done,
            writes: Vec::new(),
            state_total_max: None,
            budgets: Vec::new(),
            actions: judge(proposals, &[Grant::of(ActionKind::Flag)]).unwrap(),
            namespace: "flags".parse().unwrap(),
            targets: Targets {
                destinations: vec!["ledger".parse().unwrap()],
                ..Targets::default()
            },
        };
        let _ = self.store.settle(settlement).await.unwrap();
    }

    async fn entries(&self) -> Vec<OutboxView> {
        let query = TraceQuery {
            by: TraceBy::Newest,
            tenant: None,
            after: None,
            receipts_max: 10,
        };
        let traces = self.store.trace(query).await.unwrap();
        let runs = traces.into_iter().flat_map(|trace| trace.jobs).flat_map(|job| job.runs);
        runs.flat_map(|run| run.actions)
            .flat_map(|action| action.deliveries)
            .collect()
    }

    /// The only entry, once it has at least `attempts` attempts.
    async fn entry_after(&self, attempts: usize) -> OutboxView {
        until(async || {
            self.entries()
                .await
                .first()
                .is_some_and(|entry| entry.attempts.len() >= attempts)
        })
        .await;
        self.entries().await.remove(0)
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.await.unwrap();
        }
        self.store.close().await;
    }
}

async fn until(condition: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that within ten seconds");
}

fn ends(attempts: &[AttemptView]) -> Vec<AttemptEnd> {
    attempts.iter().map(|attempt| attempt.end.clone()).collect()
}

fn answered(http_status: u16) -> AttemptEnd {
    AttemptEnd::Answered {
        http_status,
        retry_after_ms: None,
    }
}

fn hooks(address: SocketAddr) -> String {
    format!("http://{address}/hooks")
}

#[tokio::test]
async fn a_delivery_is_signed_by_every_secret_and_keeps_its_names_over_retries() {
    let peer = Peer::start(|at| reply(if at == 0 { 500 } else { 204 })).await;
    let mut host = Host::open(config(&format!("{ALLOW_LOOPBACK}{QUICK}"), &hooks(peer.address), ""));
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let seen = peer.saw(2).await;
    let entry = host.entry_after(2).await;
    assert_eq!(entry.state, "delivered");
    assert_eq!(ends(&entry.attempts), [answered(500), answered(204)]);

    let scheme = profile::standard_webhooks();
    let mut ids = std::collections::BTreeSet::new();
    for request in &seen {
        for secret in [OLD_SECRET, NEW_SECRET] {
            let secret = SourceSecret {
                id: "k".parse().unwrap(),
                text: Secret::new(secret),
                not_before: None,
                not_after: None,
            };
            let keyring = Keyring::new(scheme, &[secret]).unwrap();
            let headers: Vec<_> = request
                .headers
                .iter()
                .map(|(name, value)| Header {
                    name,
                    value: value.as_bytes(),
                })
                .collect();
            let raw = RawRequest {
                method: "POST",
                path: None,
                query: None,
                headers: &headers,
                body: &request.body,
                url: None,
                received_at: clock::now(),
            };
            verify(scheme, &keyring, raw).expect("the destination can prove it");
        }
        assert_eq!(request.path, "/hooks");
        ids.insert(request.headers["webhook-id"].clone());
        assert_eq!(request.headers["idempotency-key"], "flags/flag/flag:0");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(
            request.headers["user-agent"],
            concat!("tollgate/", env!("CARGO_PKG_VERSION"))
        );
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["type"], "action.flag");
        assert_eq!(body["tenant"], "acme");
        assert_eq!(body["operation_key"], "flag:0");
        let receipt = body["receipt"].as_str().unwrap().strip_prefix("rcpt_").unwrap();
        assert_eq!(request.headers["traceparent"].split('-').nth(1), Some(receipt));
        let action = r#""action":{"kind":"flag","subject":"cust_1","score":7,"reasons":["velocity"]}}"#;
        assert!(
            request.body.ends_with(action.as_bytes()),
            "byte for byte as recorded: {body}"
        );
    }
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(ids.len(), 1, "one message, however often it is sent: {ids:?}");
    assert_ne!(seen[0].headers["traceparent"], seen[1].headers["traceparent"]);
    host.stop().await;
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let peer = Peer::start(|_| Reply {
        header: Some(("location", "/elsewhere".into())),
        ..reply(307)
    })
    .await;
    let mut host = Host::open(config(&format!("{ALLOW_LOOPBACK}{QUICK}"), &hooks(peer.address), ""));
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(3).await;
    assert_eq!(ends(&entry.attempts), [answered(307), answered(307), answered(307)]);
    until(async || host.entries().await[0].state == "dead").await;
    assert!(peer.seen().iter().all(|request| request.path == "/hooks"));
    host.stop().await;
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let peer = Peer::start(|_| Reply {
        header: Some(("retry-after", "3600".into())),
        ..reply(429)
    })
    .await;
    let mut host = Host::open(config(&format!("{ALLOW_LOOPBACK}{QUICK}"), &hooks(peer.address), ""));
    host.record(1).await;
    let before = clock::now();
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(1).await;
    assert_eq!(
        ends(&entry.attempts),
        [AttemptEnd::Answered {
            http_status: 429,
            retry_after_ms: Some(3_600_000)
        }]
    );
    let due = UnixMillis::from_rfc3339(&entry.due_at.unwrap()).unwrap();
    assert!(due.since(before) >= 3_600_000, "{due}");
    host.stop().await;
}

#[tokio::test]
async fn a_big_answer_is_cut_and_one_without_end_does_not_hold_the_attempt() {
    let peer = Peer::start(|at| {
        let body = match at {
            0 => ReplyBody::Endless(Bytes::from_static(&[b'x'; 1000])),
            _ => ReplyBody::Stalled(Bytes::from_static(b"thank\x1byou")),
        };
        Reply {
            body,
            ..reply(if at == 0 { 500 } else { 200 })
        }
    })
    .await;
    let mut host = Host::open(config(&format!("{ALLOW_LOOPBACK}{QUICK}"), &hooks(peer.address), ""));
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(2).await;
    assert_eq!(entry.attempts[0].answer, "x".repeat(limits::ANSWER_BYTES_KEPT));
    assert!(
        entry.attempts[0].duration_us < 1_500_000,
        "what is kept was read and no more"
    );
    assert_eq!(entry.attempts[1].answer, "thank you", "no control characters");
    assert_eq!(entry.state, "delivered", "the head decides");
    host.stop().await;
}

#[tokio::test]
async fn a_destinations_own_headers_go_with_each_attempt_and_are_never_shown() {
    let peer = Peer::start(|at| Reply {
        body: ReplyBody::Whole(Bytes::from_static(match at {
            0 => b"who is Bearer hunter2hunter2? (hunter2hunter2)",
            _ => b"thanks",
        })),
        ..reply(if at == 0 { 401 } else { 200 })
    })
    .await;
    let own = "headers = { X-Team = \"payments\", Authorization = { env = \"TOKEN\" } }";
    let config = config(&format!("{ALLOW_LOOPBACK}{QUICK}"), &hooks(peer.address), own);
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("payments"), "{shown}");
    let mut host = Host::open(config);
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(2).await;
    for seen in peer.seen() {
        assert_eq!(seen.headers["x-team"], "payments");
        assert_eq!(seen.headers["authorization"], "Bearer hunter2hunter2");
        assert_eq!(seen.headers["content-type"], "application/json");
    }
    assert_eq!(entry.attempts[0].answer, "who is …? (…)", "what it echoes is not kept");
    assert_eq!(entry.attempts[1].answer, "thanks");
    host.stop().await;
}

#[tokio::test]
async fn a_destinations_own_timeout_goes_before_that_of_all() {
    let slow = |_| Reply {
        after: Duration::from_millis(400),
        ..reply(200)
    };
    let peer = Peer::start(slow).await;
    let operator = format!("{ALLOW_LOOPBACK}{QUICK}");
    for (timeout, patience, expected) in [
        ("timeout_ms = 150", 10_000, "dead"),
        ("timeout_ms = 10000", 150, "delivered"),
    ] {
        let mut host = Host::open(config(&operator, &hooks(peer.address), timeout));
        host.record(1).await;
        host.start(Settings {
            attempt_ms: patience,
            ..Settings::DEFAULT
        });
        until(async || host.entries().await[0].state == expected).await;
        host.stop().await;
    }
}

#[tokio::test]
async fn a_slow_answer_times_out_and_a_closed_port_is_said_so() {
    let peer = Peer::start(|_| Reply {
        after: Duration::from_secs(60),
        ..reply(200)
    })
    .await;
    let mut host = Host::open(config(&format!("{ALLOW_LOOPBACK}{QUICK}"), &hooks(peer.address), ""));
    host.record(1).await;
    host.start(Settings {
        attempt_ms: 100,
        ..Settings::DEFAULT
    });
    let entry = host.entry_after(1).await;
    assert_eq!(
        ends(&entry.attempts[..1]),
        [AttemptEnd::Failed {
            reason: "no answer within 100 ms".into()
        }]
    );
    host.stop().await;

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut host = Host::open(config(&format!("{ALLOW_LOOPBACK}{QUICK}"), &hooks(closed), ""));
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(1).await;
    let AttemptEnd::Failed { reason } = &entry.attempts[0].end else {
        panic!("{entry:?}")
    };
    assert!(
        reason.starts_with(&format!("cannot connect to {closed}: Connection refused")),
        "{reason}"
    );
    host.stop().await;
}

#[tokio::test]
async fn a_breaker_opens_and_the_others_wait_without_an_attempt() {
    let peer = Peer::start(|_| reply(503)).await;
    let operator = format!("{ALLOW_LOOPBACK}[delivery.retry]\nbase_ms = 60000\ncap_ms = 60000\n");
    let mut host = Host::open(config(&operator, &hooks(peer.address), "in_flight_max = 1"));
    host.record(10).await;
    host.start(Settings {
        breaker: BreakerPolicy {
            failures_max: 3,
            open_ms: 60_000,
        },
        ..Settings::DEFAULT
    });
    peer.saw(3).await;
    // For a fourth, which must not come.
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Each of the three is recorded, and the others went back.
    until(async || {
        let entries = host.entries().await;
        let attempts: usize = entries.iter().map(|entry| entry.attempts.len()).sum();
        attempts == 3 && entries.iter().all(|entry| entry.state == "ready")
    })
    .await;
    assert_eq!(peer.seen().len(), 3, "closed after three failures in a row");
    host.stop().await;
}

#[tokio::test]
async fn a_destination_gets_no_more_at_once_than_it_may_and_connections_are_kept() {
    let peer = Peer::start(|_| Reply {
        after: Duration::from_millis(30),
        ..reply(200)
    })
    .await;
    let mut host = Host::open(config(ALLOW_LOOPBACK, &hooks(peer.address), "in_flight_max = 2"));
    host.record(20).await;
    host.start(Settings::DEFAULT);
    until(async || host.entries().await.iter().all(|entry| entry.state == "delivered")).await;
    assert_eq!(peer.seen().len(), 20, "each once");
    assert_eq!(peer.busiest.load(Ordering::SeqCst), 2);
    assert_eq!(peer.connections.load(Ordering::SeqCst), 2);
    host.stop().await;
}

#[tokio::test]
async fn a_name_that_leads_inside_is_forbidden_and_never_connected_to() {
    let peer = Peer::start(|_| reply(200)).await;
    let url = format!("http://localhost:{}/hooks", peer.address.port());
    let mut host = Host::open(config("[delivery]\nallow_http = true\n", &url, ""));
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(1).await;
    let AttemptEnd::Forbidden { reason } = &entry.attempts[0].end else {
        panic!("{entry:?}")
    };
    assert!(
        reason.contains(" is a loopback address, not a public address"),
        "{reason}"
    );
    assert!(reason.contains("[delivery] allow_networks"), "{reason}");
    assert_eq!(entry.state, "dead");
    assert_eq!(peer.connections.load(Ordering::SeqCst), 0);

    // The operator allows it and a person replays: the same entry is delivered.
    host.config.store(Arc::new(config(ALLOW_LOOPBACK, &url, "")));
    let replay = tollgate_store::ReplayRequest {
        what: tollgate_store::ReplayWhat::DeadLetters(tollgate_store::DeadLetterFilter {
            rows_max: 10,
            ..Default::default()
        }),
        dry_run: false,
        routes: Vec::new(),
        now: clock::now(),
        actor: "test".into(),
        why: None,
    };
    assert_eq!(host.store.replay(replay).await.unwrap().replayed.len(), 1);
    let again = host.entry_after(2).await;
    assert_eq!((again.state.as_str(), again.id), ("delivered", entry.id));
    host.stop().await;
}

#[tokio::test]
async fn an_address_in_a_url_meets_the_same_guard() {
    let peer = Peer::start(|_| reply(200)).await;
    let port = peer.address.port();
    let rules = |allow_networks: &[&str]| OutboundRules {
        allow_networks: allow_networks.iter().map(|text| text.parse().unwrap()).collect(),
        allow_http: true,
        ..OutboundRules::default()
    };
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
        let request = || {
            let uri = format!("http://{host}:{port}/");
            Request::post(uri).body(Full::new(Bytes::new())).unwrap()
        };
        let refused = client::Client::new(&rules(&[]))
            .send(request(), Duration::from_secs(5), &[])
            .await;
        assert!(
            matches!(refused.end, AttemptEnd::Forbidden { .. }),
            "{host}: {refused:?}"
        );
        let allowed = client::Client::new(&rules(&["127.0.0.0/8", "::1"]))
            .send(request(), Duration::from_secs(5), &[])
            .await;
        assert_eq!(allowed.end, answered(200), "{host}");
    }
}

#[tokio::test]
async fn without_allow_http_nothing_is_sent_in_the_clear() {
    let peer = Peer::start(|_| reply(200)).await;
    let rules = OutboundRules {
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..OutboundRules::default()
    };
    let request = |scheme: &str| {
        Request::post(format!("{scheme}://{}/", peer.address))
            .body(Full::new(Bytes::new()))
            .unwrap()
    };
    let client = client::Client::new(&rules);
    let plain = client.send(request("http"), Duration::from_secs(5), &[]).await;
    assert!(matches!(plain.end, AttemptEnd::Failed { .. }), "{plain:?}");
    let not_tls = client.send(request("https"), Duration::from_secs(5), &[]).await;
    assert!(matches!(not_tls.end, AttemptEnd::Failed { .. }), "{not_tls:?}");
    assert_eq!(peer.seen().len(), 0);
}

/// A certificate for `localhost` and 127.0.0.1 that nobody signed but itself, and its key, as DER. Good for nothing but this test.
const SELF_SIGNED: &str = "\
    MIIBnDCCAUGgAwIBAgIUR3lgJ8N5y2Bkaqc8E3bFJQNK2IswCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2\
    MTEyMjA3MjAwMloYDzIxMjYxMDI5MDcyMDAyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC\
    AAR6Ad2H5kVaoSTApw1vR7kVyiAowf6RT/YxKQLW7wkVKg1Du1QrE9hKNq/bNGCyJ1XZNc6HIhwH2F2rh/4f/57Zo28wbTAdBgNV\
    HQ4EFgQUHsj8ZcpCiq51QBkcdsZ2LkhEGzgwHwYDVR0jBBgwFoAUHsj8ZcpCiq51QBkcdsZ2LkhEGzgwDwYDVR0TAQH/BAUwAwEB\
    /zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZIzj0EAwIDSQAwRgIhAKk21PVMh3tx5I3c154WOeMn0isNW8JDhJOl\
    MP+tBkQSAiEAreV9zm4owRRLBKG9HBFuFxUdWx8TM7xI+jBd0HSTZDk=\
";
const SELF_SIGNED_KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTiem/xddpVcDg9OHumX8DUPKpYmrri4auXcOFiOIy2WhRANCAAR6\
    Ad2H5kVaoSTApw1vR7kVyiAowf6RT/YxKQLW7wkVKg1Du1QrE9hKNq/bNGCyJ1XZNc6HIhwH2F2rh/4f/57Z\
";

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let der = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![der(SELF_SIGNED).into()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(der(SELF_SIGNED_KEY)).into(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/hooks", listener.local_addr().unwrap().port());
    let handshake = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(|_| ()).unwrap_err().to_string()
    });
    let mut host = Host::open(config(
        "[delivery]\nallow_networks = [\"127.0.0.0/8\", \"::1\"]\n",
        &url,
        "",
    ));
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(1).await;
    let AttemptEnd::Failed { reason } = &entry.attempts[0].end else {
        panic!("{entry:?}")
    };
    assert!(
        reason.starts_with("cannot connect: invalid peer certificate"),
        "{reason}"
    );
    let said = handshake.await.unwrap();
    assert!(
        said.starts_with("received fatal alert"),
        "nothing came but the refusal: {said}"
    );
    host.stop().await;
}

#[tokio::test]
async fn an_entry_of_a_removed_destination_dies_with_a_clear_reason() {
    let peer = Peer::start(|_| reply(200)).await;
    let mut host = Host::open(load_from_texts("", &[("acme", "")], &|_| None).unwrap());
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(1).await;
    assert_eq!(entry.state, "dead");
    let reason = "the tenant `acme` has no destination `ledger` any more; if another took its place, say formerly = [\"ledger\"] there, \
                  else add it again; then replay"
        .to_owned();
    assert_eq!(ends(&entry.attempts), [AttemptEnd::Forbidden { reason }]);
    assert_eq!(peer.connections.load(Ordering::SeqCst), 0);
    host.stop().await;
}

#[tokio::test]
async fn shutdown_lets_a_running_attempt_finish_and_starts_no_other() {
    let peer = Peer::start(|_| Reply {
        after: Duration::from_millis(300),
        ..reply(200)
    })
    .await;
    let mut host = Host::open(config(ALLOW_LOOPBACK, &hooks(peer.address), "in_flight_max = 1"));
    host.record(5).await;
    host.start(Settings::DEFAULT);
    peer.saw(1).await;
    host.shutdown.cancel();
    host.running.take().unwrap().await.unwrap();
    let states: Vec<_> = host.entries().await.into_iter().map(|entry| entry.state).collect();
    assert_eq!(
        states.iter().filter(|state| *state == "delivered").count(),
        1,
        "{states:?}"
    );
    assert_eq!(peer.seen().len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_renamed_destination_goes_where_it_is_now() {
    let peer = Peer::start(|_| reply(200)).await;
    let renamed = |config: &str| config.replace("destinations.ledger", "destinations.books");
    let tenant = format!(
        "[destinations.ledger]\nurl = \"http://{}/hooks\"\nsecrets = [{{ env = \"OLD\" }}]\nformerly = [\"ledger\"]\n",
        peer.address
    );
    let env = |name: &str| (name == "OLD").then(|| OLD_SECRET.to_owned());
    let config = load_from_texts(ALLOW_LOOPBACK, &[("acme", &renamed(&tenant))], &env);
    let mut host = Host::open(config.unwrap_or_else(|problems| panic!("{problems}")));
    host.record(1).await;
    host.start(Settings::DEFAULT);
    let entry = host.entry_after(1).await;
    assert_eq!(entry.state, "delivered");
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1);
    host.stop().await;
}
