//! Intake, in the order of its steps: find the source, see who asks, take the body within bounds, verify, read, admit, answer.
//!
//! The order cannot be changed by mistake: `verify` alone makes a `Verified`, `read` takes nothing else, and `admit` is the only
//! way to an answer that says the event was kept.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tokio::sync::SemaphorePermit;
use tollgate_core::admission::{Admission, Disposition, Identity};
use tollgate_core::answer::{Ack, Answer, Happening, Rejection, answer, answer_all};
use tollgate_core::challenge::{self, Reply};
use tollgate_core::envelope;
use tollgate_core::event::{Event, Proof};
use tollgate_core::ids::ReceiptId;
use tollgate_core::mode::HOST_TEST;
use tollgate_core::rate::Rate;
use tollgate_core::request::{Header, RawRequest, source_of_path};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{KeyNeed, Keyring, verify};
use tollgate_core::{limits, mask};
use tollgate_store::{Admitted, Intake, StoreError};

use super::access::{self, Client, Peer};
use super::connections::Slot;
use super::keys::NoKey;
use super::refused::{self, Head, Refused, header_bytes};
use super::time_budget;
use super::{Edge, HEALTH_PATH};
use crate::clock;
use crate::config::{Config, Source, Tenant};
use crate::failpoints::{Failpoint, pass};
use crate::telemetry::Whose;

/// How often one request looks for the key that it names: others may fetch other keys of its source meanwhile.
const KEY_LOOKS_MAX: usize = 4;
/// Bodies up to here have a part of the memory for bodies to themselves and need not queue: most events are smaller than a
/// tenth of it.
const SMALL_BODY_BYTES: usize = 64 * 1024;
/// What a 401 must say where basic auth is asked for (RFC 9110, 11.6.1): some senders present nothing before they are asked.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"tollgate\", charset=\"UTF-8\"");

/// Answers one request.
pub(super) async fn handle<S: Intake>(
    edge: &Edge<S>,
    slot: &Slot,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    slot.waits_for_peer();
    slot.queue_if_refused().await;
    let config = edge.config.load_full();
    let client = Client::of(&config.edge, peer, request.headers());
    let path = request.uri().path();
    let response = match locate(&config, client, path) {
        _ if path == HEALTH_PATH && matches!(*request.method(), Method::GET | Method::HEAD) => health(edge),
        Ok((tenant, source)) => {
            let asked = Asked {
                edge,
                slot,
                config: &config,
                tenant,
                source,
                client,
            };
            asked.answer(request).await
        }
        Err(Unlocated { rejection, whose }) => {
            let happening = Happening::Rejected(rejection);
            edge.counters.count(whose, &happening);
            let answer = answer(&happening, &Ack::default());
            let (parts, body) = request.into_parts();
            let head = Head {
                parts: &parts,
                from: client.address,
                body_bytes: body.size_hint().exact(),
            };
            refused::tell(edge, whose, &head, &rejection.into(), answer.http_status);
            respond(&answer)
        }
    };
    slot.was_refused(!response.status().is_success());
    slot.waits_for_peer();
    Ok(response)
}

/// What a load balancer asks before it sends anybody here: whether the host takes requests.
fn health<S: Intake>(edge: &Edge<S>) -> Response<Full<Bytes>> {
    if edge.shutdown.is_cancelled() {
        response(503, "text/plain; charset=utf-8", "stopping\n".to_owned())
    } else {
        response(200, "text/plain; charset=utf-8", "ok\n".to_owned())
    }
}

/// Why a request is for no source, and for which tenant it is, if any.
struct Unlocated<'c> {
    rejection: Rejection,
    whose: Whose<'c>,
}

/// Finds the source that a request is for: `/in/{tenant}/{source}`.
fn locate<'c>(config: &'c Config, client: Client, path: &str) -> Result<(&'c Tenant, &'c Source), Unlocated<'c>> {
    let nowhere = |rejection, whose| Unlocated { rejection, whose };
    let found = find(config, path);
    if config.edge.require_https && !client.https {
        let whose = found.map_or(Whose::Nobodys, |(tenant, source)| {
            Whose::Sources(&tenant.name, &source.name)
        });
        return Err(nowhere(Rejection::Insecure, whose));
    }
    found
}

fn find<'c>(config: &'c Config, path: &str) -> Result<(&'c Tenant, &'c Source), Unlocated<'c>> {
    let nowhere = |rejection, whose| Unlocated { rejection, whose };
    let unknown = || nowhere(Rejection::UnknownSource, Whose::Nobodys);
    let (tenant, source) = source_of_path(path).ok_or_else(unknown)?;
    let tenant = config.tenants.get(tenant).ok_or_else(|| {
        // A 404 would end the provider's retries for a tenant that is only misconfigured.
        if config.broken.contains_key(tenant) {
            nowhere(Rejection::TenantUnavailable, Whose::Nobodys)
        } else {
            unknown()
        }
    })?;
    let source = tenant.sources.get(source);
    let source = source.ok_or_else(|| {
        // It may be one that the tenant set, where what it set does not fit on this host.
        let rejection = if config.has_in_effect(&tenant.name) {
            Rejection::UnknownSource
        } else {
            Rejection::TenantUnavailable
        };
        nowhere(rejection, Whose::Tenants(&tenant.name))
    })?;
    Ok((tenant, source))
}

/// One request to a known source.
struct Asked<'r, S> {
    edge: &'r Edge<S>,
    slot: &'r Slot,
    config: &'r Config,
    tenant: &'r Tenant,
    source: &'r Source,
    client: Client,
}

/// What a request turned out to be.
enum Proved {
    /// A question of the provider's, whose answer is all that it wants.
    Challenge(Reply),
    /// One event, or those of a batch in their order.
    Events(Vec<Admission>),
}

/// Why a request is not proved, or not yet.
enum NotProved {
    Refused(Refused),
    NeedsKey(KeyNeed),
}

impl<S: Intake> Asked<'_, S> {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let mut head = Head {
            parts: &parts,
            from: self.client.address,
            body_bytes: body.size_hint().exact(),
        };
        match self.decide(&mut head, body).await {
            Ok(Outcome::Challenge(reply)) => {
                self.edge.counters.challenges.inc();
                reply_to(&reply)
            }
            Ok(Outcome::Events(happenings)) => {
                for happening in &happenings {
                    self.edge.counters.count(self.whose(), happening);
                }
                self.tell_what_has_no_effect(&happenings);
                respond(&answer_all(&happenings, &self.source.ack))
            }
            Err(refused) => self.refuse(&head, &refused),
        }
    }

    async fn decide(&self, head: &mut Head<'_>, body: Incoming) -> Result<Outcome, Refused> {
        let rate = self.config.edge.rates.of(&self.tenant.name);
        self.let_in(rate, head.parts)?;
        if head.parts.method == Method::POST {
            self.take_in(rate, head, body).await
        } else {
            Ok(Outcome::Challenge(self.preflight(head.parts)?))
        }
    }

    fn whose(&self) -> Whose<'_> {
        Whose::Sources(&self.tenant.name, &self.source.name)
    }

    /// Counts and logs what was kept and has no effect, because it is not what the receipt of its identity says.
    fn tell_what_has_no_effect(&self, happenings: &[Happening]) {
        for happening in happenings {
            let (cause, receipt, what) = match happening {
                Happening::Conflict(receipt) => {
                    ("conflict", receipt, "another body came under an id that has a receipt")
                }
                Happening::SuspectedReplay(receipt) => (
                    "suspected-replay",
                    receipt,
                    "what was signed came before under another id or type",
                ),
                Happening::Accepted(_)
                | Happening::Superseded(_)
                | Happening::Held(_)
                | Happening::Same(_)
                | Happening::Rejected(_) => continue,
            };
            let (tenant, source) = (&self.tenant.name, &self.source.name);
            if let Some(left_out) = self.edge.counters.set_aside(self.whose(), cause, clock::now()) {
                tracing::warn!(%tenant, %source, cause, left_out, %receipt, "kept without effect, for review (`tollgate review`): {what}");
            }
        }
    }

    fn refuse(&self, head: &Head<'_>, refused: &Refused) -> Response<Full<Bytes>> {
        let happening = Happening::Rejected(refused.rejection);
        self.edge.counters.count(self.whose(), &happening);
        let mut answer = answer(&happening, &self.source.ack);
        answer.retry_after_s = refused.retry_after_s.or(answer.retry_after_s);
        if refused.rejection == Rejection::BodyTooLarge {
            answer = answer.with_body_bound(self.source.body_bytes_max);
        }
        refused::tell(self.edge, self.whose(), head, refused, answer.http_status);
        let mut response = respond(&answer);
        if refused.rejection == Rejection::Unauthentic && self.source.access.asks_basic {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, BASIC);
        }
        response
    }

    /// Decides from the head alone whether the request may come in.
    fn let_in(&self, rate: Option<Rate>, head: &Parts) -> Result<(), Refused> {
        if self.client.is_host {
            return access::check_rate(self.edge, self.tenant, rate);
        }
        access::check_address(self.source, self.client)?;
        // A question that comes by another method is asked by whoever sets the endpoint up, and carries what the profile asks for.
        if head.method == Method::POST && !self.source.access.credentials.is_empty() {
            let mut slots = NO_HEADERS;
            access::check_credential(self.source, &raw_request(head, &mut slots, self.source)?)?;
        }
        access::check_rate(self.edge, self.tenant, rate)
    }

    /// Answers a question that comes before any event and without a signature, where the profile knows one.
    fn preflight(&self, head: &Parts) -> Result<Reply, Rejection> {
        let mut slots = NO_HEADERS;
        let head = raw_request(head, &mut slots, self.source)?;
        let reply = challenge::preflight(&self.source.profile, &self.source.keyring, &head);
        reply.unwrap_or(Err(Rejection::Method))
    }

    /// Takes one request to its end.
    async fn take_in(&self, rate: Option<Rate>, head: &mut Head<'_>, body: Incoming) -> Result<Outcome, Refused> {
        let edge = self.edge;
        // Held until the answer: what waits for its commit takes memory as well.
        let mut held = HeldBytes {
            all: &edge.body_bytes,
            slot: self.slot,
            own: 0,
        };
        let bounds = BodyBounds {
            bytes_max: self.source.body_bytes_max,
            read_ms_max: self.config.edge.body_read_ms_max,
        };
        let body = bounded_body(bounds, head.parts, body, &mut held).await?;
        head.body_bytes = Some(body.len() as u64);
        self.slot.works_for_peer();
        let admissions = match self.prove(head.parts, &body).await? {
            Proved::Challenge(reply) => return Ok(Outcome::Challenge(reply)),
            Proved::Events(admissions) => admissions,
        };
        let token = access::take_rate_token(edge, self.tenant, rate)?;
        let receipts: Vec<_> = admissions.iter().map(|admission| admission.receipt).collect();
        pass(Failpoint::BeforeAdmit);
        let asked_at = Instant::now();
        let admitted = edge.store.admit(admissions).await;
        let admitted = admitted.map_err(|error| self.unkept(&error))?;
        edge.counters.admit.observe(asked_at.elapsed().as_secs_f64());
        pass(Failpoint::AfterAdmit);
        token.spend();
        self.tell_what_is_held(&receipts, &admitted);
        Ok(Outcome::Events(
            receipts
                .into_iter()
                .zip(admitted)
                .map(|(receipt, admitted)| admitted.happening(receipt))
                .collect(),
        ))
    }

    /// Counts and logs what is held: it has no effect before somebody decides.
    fn tell_what_is_held(&self, receipts: &[ReceiptId], admitted: &[Admitted]) {
        let (tenant, source) = (&self.tenant.name, &self.source.name);
        for (receipt, admitted) in receipts.iter().zip(admitted) {
            let Admitted::New(Disposition::Held { reason }) = admitted else {
                continue;
            };
            if let Some(left_out) = self.edge.counters.set_aside(self.whose(), "held", clock::now()) {
                let reason = mask::line(reason, 300);
                tracing::warn!(%tenant, %source, cause = "held", left_out, %receipt,
                    "held for review (`tollgate review`): {reason}");
            }
        }
    }

    /// Verifies and reads a request; fetches the key that it names where the source does not hold it.
    async fn prove(&self, head: &Parts, body: &[u8]) -> Result<Proved, Refused> {
        // The senders' timestamps are held against the system's clock, as it is.
        let received_at = clock::wall();
        let mut keyring = self.edge.keys.keyring(self.tenant, self.source);
        for _ in 0..KEY_LOOKS_MAX {
            let proved = {
                let _turn = match body.len() {
                    ..=SMALL_BODY_BYTES => None,
                    _ => self.slot.turn().await,
                };
                self.prove_with(&keyring, head, body, received_at)
            };
            let need = match proved {
                Ok(proved) => return Ok(proved),
                Err(NotProved::Refused(refused)) => return Err(refused),
                Err(NotProved::NeedsKey(need)) => need,
            };
            let rules = &self.config.delivery.outbound;
            let fetched = self
                .edge
                .keys
                .fetch(rules, self.tenant, self.source, &keyring, &need, self.client.address);
            keyring = fetched.await.map_err(|no_key| without_key(&no_key))?;
        }
        Err(without_key(&NoKey::TooMany))
    }

    /// Nothing was kept: the sender must come again.
    fn unkept(&self, error: &StoreError) -> Refused {
        let (cause, rejection) = match error {
            StoreError::Full => ("store-queue-full", Rejection::Overloaded),
            StoreError::Closed => ("store-closed", Rejection::ShuttingDown),
            StoreError::NoSpace { .. } => ("store-no-space", Rejection::StoreUnavailable),
            StoreError::Fatal { .. } => ("store-fatal", Rejection::StoreUnavailable),
            _ => ("store-error", Rejection::StoreUnavailable),
        };
        if matches!(error, StoreError::Fatal { .. }) {
            // What is on the disk is unknown. Stop; a restart finds out what was committed.
            self.edge.shutdown.cancel();
        }
        Refused::for_now(rejection, cause, format_args!("an event was not kept: {error}"))
    }

    /// Verifies and reads a request and makes everything that the durable commit needs.
    fn prove_with(
        &self,
        keyring: &Keyring,
        head: &Parts,
        body: &[u8],
        received_at: UnixMillis,
    ) -> Result<Proved, NotProved> {
        let Self { tenant, source, .. } = self;
        let mut slots = NO_HEADERS;
        let request = RawRequest {
            body,
            received_at,
            ..raw_request(head, &mut slots, source).map_err(|rejection| NotProved::Refused(rejection.into()))?
        };
        let verified = verify(&source.profile, keyring, request).map_err(|unproven| {
            if let Some(need) = unproven.needs_key() {
                return NotProved::NeedsKey(need.clone());
            }
            NotProved::Refused(Refused::because(Rejection::Unauthentic, unproven.reason(), &unproven))
        })?;
        let key_id = &verified.proof().key_id;
        self.edge.keys.proved(tenant, source, keyring, key_id, received_at);
        if let Some(reply) = challenge::answer(&source.profile, &verified) {
            return Ok(Proved::Challenge(reply));
        }
        let events = envelope::read(&source.profile, &verified, &tenant.name, &source.name);
        let events = events.map_err(|unreadable| {
            let rejection = Rejection::from(&unreadable);
            NotProved::Refused(Refused::because(rejection, unreadable.reason(), &unreadable))
        })?;
        let identities: Vec<_> = (0..events.len()).map(|index| verified.identity(index)).collect();
        let proofs = std::iter::repeat_n(verified.into_proof(), events.len());
        let admissions = events.into_iter().zip(identities).zip(proofs);
        Ok(Proved::Events(
            admissions
                .map(|((event, identity), proof)| self.admission(event, identity, proof))
                .collect(),
        ))
    }

    fn admission(&self, mut event: Event, identity: Identity, proof: Proof) -> Admission {
        if self.client.is_host {
            event.attributes.push((HOST_TEST.to_owned(), "true".to_owned()));
        }
        let lifecycle = self.config.lifecycle_of(&event);
        let (key, scope) = (self.edge.store.receipt_key(), self.tenant.sharing.scope(&event));
        let admission = Admission::of(key, event, identity, proof, lifecycle, &mut self.tenant.matches()).about(scope);
        Admission {
            due_at: clock::now(),
            on_held: self.source.on_held,
            on_replay: self.source.on_replay,
            ..admission.accepted_by(self.source.profile.accept())
        }
    }
}

/// The sender is asked to come again: that a key cannot be had says nothing about the request.
fn without_key(no_key: &NoKey) -> Refused {
    let reason = format_args!("a key that a request names cannot be had: {no_key}");
    Refused::for_now(Rejection::KeyUnavailable, "key-unavailable", reason)
}

/// What becomes of a request that is not refused.
enum Outcome {
    Challenge(Reply),
    Events(Vec<Happening>),
}

/// Places for a request's headers, so that reading them allocates nothing.
type HeaderSlots<'a> = [Header<'a>; limits::HEADER_COUNT_MAX];
const NO_HEADERS: HeaderSlots<'static> = [Header { name: "", value: &[] }; limits::HEADER_COUNT_MAX];

/// The request as core sees it, without a body and as of no time.
fn raw_request<'a>(
    head: &'a Parts,
    slots: &'a mut HeaderSlots<'a>,
    source: &'a Source,
) -> Result<RawRequest<'a>, Rejection> {
    // The listener reads no more than there are slots, but it is not this function's place to know.
    let slots = slots.get_mut(..head.headers.len()).ok_or(Rejection::HeadersTooLarge)?;
    for (place, (name, value)) in slots.iter_mut().zip(&head.headers) {
        *place = Header {
            name: name.as_str(),
            value: value.as_bytes(),
        };
    }
    Ok(RawRequest {
        method: head.method.as_str(),
        path: Some(head.uri.path()),
        query: head.uri.query(),
        headers: slots,
        body: &[],
        url: source.public_url.as_deref(),
        received_at: UnixMillis(0),
    })
}

/// The part of the memory for bodies that one request holds. Counted as it is taken, so that a peer cannot reserve by promising.
struct HeldBytes<'a> {
    all: &'a AtomicUsize,
    slot: &'a Slot,
    own: usize,
}

impl<'a> HeldBytes<'a> {
    /// The line's next turn, for so many bytes of a large body. While memory for bodies is short they may not take all the time either.
    async fn turn(&self, bytes: usize) -> Option<SemaphorePermit<'a>> {
        let slot = self.slot;
        if self.all.load(Ordering::Relaxed) < limits::EDGE_BODY_BYTES_MAX / 2 {
            return slot.turn().await;
        }
        slot.metered_turn(bytes as u64 * time_budget::BYTE_NS).await
    }

    /// Counts up to `bytes` in all. When memory is short, the connection that has held much of it for longest is evicted first; there may be too much
    /// until its task has noticed.
    fn grow_to(&mut self, bytes: usize) -> Result<(), Rejection> {
        let more = bytes.saturating_sub(self.own);
        self.own += more;
        self.slot.holds(self.own);
        let all = self.all.fetch_add(more, Ordering::Relaxed) + more;
        let bound = if self.own > SMALL_BODY_BYTES {
            limits::EDGE_BODY_BYTES_MAX - limits::EDGE_BODY_BYTES_MAX / 8
        } else {
            limits::EDGE_BODY_BYTES_MAX
        };
        if all > bound && !self.slot.evict_a_body() {
            Err(Rejection::Overloaded)
        } else {
            Ok(())
        }
    }
}

impl Drop for HeldBytes<'_> {
    fn drop(&mut self) {
        self.slot.holds(0);
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// How large the body of one request may be, and how long it may take.
#[derive(Clone, Copy)]
struct BodyBounds {
    bytes_max: usize,
    read_ms_max: u64,
}

/// Reads a body within its bounds of size and time, before anything is spent on it.
async fn bounded_body(
    bounds: BodyBounds,
    head: &Parts,
    body: Incoming,
    held: &mut HeldBytes<'_>,
) -> Result<Bytes, Rejection> {
    if header_bytes(head) > limits::HEADER_BYTES_MAX || head.headers.len() > limits::HEADER_COUNT_MAX {
        return Err(Rejection::HeadersTooLarge);
    }
    let mut encodings = head.headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Rejection::Encoded);
    }
    if body.size_hint().lower() > bounds.bytes_max as u64 {
        return Err(Rejection::BodyTooLarge);
    }
    let deadline = Duration::from_millis(bounds.read_ms_max);
    tokio::time::timeout(deadline, read_body(body, bounds.bytes_max, held))
        .await
        .unwrap_or(Err(Rejection::TooSlow))
}

async fn read_body(mut body: Incoming, body_bytes_max: usize, held: &mut HeldBytes<'_>) -> Result<Bytes, Rejection> {
    // Most bodies come in one piece, which is then used as it is.
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // A body that breaks off, or whose length or chunks lie, has no one left who would read the answer.
        let Ok(data) = frame.map_err(|_| Rejection::Malformed)?.into_data() else {
            continue;
        };
        let body_bytes = first.len().max(rest.len()) + data.len();
        if body_bytes > body_bytes_max {
            return Err(Rejection::BodyTooLarge);
        }
        if body_bytes == data.len() {
            held.grow_to(body_bytes)?;
            first = data;
            continue;
        }
        let _turn = match body_bytes {
            ..=SMALL_BODY_BYTES => None,
            _ => held.turn(data.len()).await,
        };
        // Memory grows by halves, not doubled: what is held is what is counted.
        if rest.capacity() < body_bytes {
            let bytes = (body_bytes + body_bytes / 2).min(body_bytes_max);
            held.grow_to(bytes)?;
            let mut wider = BytesMut::with_capacity(bytes);
            wider.extend_from_slice(if rest.is_empty() { &first } else { &rest });
            rest = wider;
            first = Bytes::new();
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn respond(answer: &Answer) -> Response<Full<Bytes>> {
    let mut response = response(answer.http_status, answer.content_type(), answer.body().into_owned());
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        // A profile's headers were held to be some when it was read.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    if let Some(seconds) = answer.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if answer.http_status == 405 {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

fn reply_to(reply: &Reply) -> Response<Full<Bytes>> {
    let mut response = response(reply.http_status, reply.content_type, reply.body.clone());
    for (name, value) in &reply.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

fn response(http_status: u16, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::connections::Connections;
    use super::*;

    #[tokio::test]
    async fn bodies_share_one_bound_and_give_their_bytes_back() {
        const LARGE_MAX: usize = limits::EDGE_BODY_BYTES_MAX - limits::EDGE_BODY_BYTES_MAX / 8;
        let all = AtomicUsize::new(0);
        let connections = Connections::new(1, CancellationToken::new());
        let slot = connections.slot().await.unwrap();
        // They wait for the host, so none of them can be evicted.
        slot.works_for_peer();
        let hold = || HeldBytes {
            all: &all,
            slot: &slot,
            own: 0,
        };
        let mut first = hold();
        assert_eq!(first.grow_to(LARGE_MAX), Ok(()));
        let mut second = hold();
        assert_eq!(
            second.grow_to(SMALL_BODY_BYTES),
            Ok(()),
            "small ones have a part of their own"
        );
        assert_eq!(second.grow_to(SMALL_BODY_BYTES), Ok(()), "counted once");
        assert_eq!(second.grow_to(SMALL_BODY_BYTES + 1), Err(Rejection::Overloaded));
        drop(first);
        assert_eq!(second.grow_to(SMALL_BODY_BYTES + 2), Ok(()));
        drop(second);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
