//! Test events to sources, and test deliveries to destinations.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tollgate_api::calls;
use tollgate_api::pauses::DestinationPath;
use tollgate_api::trace::{TraceBy, TraceQuery};
use tollgate_api::tryouts::{EdgeAnswer, SourcePath, TestDelivery, TestDeliveryBody, TestEvent};
use tollgate_core::access::Permission;
use tollgate_core::content::Content;
use tollgate_core::delivery::{AttemptEnd, TestMessage};
use tollgate_core::envelope;
use tollgate_core::event::Event;
use tollgate_core::ids::{EventType, KeyId, ReceiptId, RouteName, SourceName, TenantName};
use tollgate_core::mail::{Mail, MailAddress};
use tollgate_core::mode::HOST_TEST;
use tollgate_core::request::{Header, RawRequest, signed_url};
use tollgate_core::route::Takes;
use tollgate_core::sample::Sample;
use tollgate_core::sign::{SignError, SignInput, sign};
use tollgate_core::verify::verify;
use tollgate_core::{limits, mask};
use tollgate_store::{Control, Pause, Place, StoreError, Views};
use tollgate_tenants::file::Way;

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal, access};
use crate::clock;
use crate::config::{MailConfig, Source, Tenant};
use crate::delivery::tryout;
use crate::registry::origin;

/// What begins the id of everything that the host makes for a test.
const ID: &str = "tollgate-test-";
/// The type of a test event for which nobody asked for another.
const TEST_TYPE: &str = "tollgate.test";
/// How long a test e-mail keeps its place: with [`limits::TRYOUTS_MAX`] of them, how many there are in a second at the most.
const MAIL_EVERY_MS: u64 = 1_000;
/// Of an answer of the edge, what is shown.
const SAID_BYTES_MAX: usize = 1024;

/// What a request to the edge comes to.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send>>;
/// The edge, for the host's own requests.
type Edge = Box<dyn Fn(Request<Full<Bytes>>, OwnedSemaphorePermit) -> Answering + Send + Sync>;

/// What test events go through, and how many there may be at once.
pub(crate) struct Tryouts {
    edge: Edge,
    places: Arc<Semaphore>,
}

impl Tryouts {
    pub(crate) fn new(edge: Edge) -> Self {
        Self {
            edge,
            places: Arc::new(Semaphore::new(limits::TRYOUTS_MAX)),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = "other tests are under way on this host; try again in a moment";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).with_code("busy")
        })
    }
}

/// The calls about tests.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(test_source::<S>).call(test_destination::<S>)
}

/// 16 random digits.
fn digits() -> Result<[u8; 16], Refusal> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Refusal::internal(format!("the system's random source: {error}")))?;
    Ok(random)
}

fn tenant_of<'c>(config: &'c crate::config::Config, tenant: &TenantName) -> Result<&'c Tenant, Refusal> {
    let found = config.tenants.get(tenant);
    found.ok_or_else(|| Refusal::not_found(format!("there is no tenant `{tenant}`")))
}

/// `POST /v1/tenants/{tenant}/sources/{source}/test`.
async fn test_source<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: SourcePath { tenant, source },
        body,
        ..
    }: Asked<calls::TestSource>,
) -> Answered<calls::TestSource> {
    mask::check_note("actor", &body.actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
    let wanted = body.event_type.map(|text| {
        let read = EventType::new(&text);
        read.map_err(|error| Refusal::bad(format!("event_type: {error}")))
    });
    let wanted = wanted.transpose()?;
    let config = operator.config.load_full();
    let of = tenant_of(&config, &tenant)?;
    let found = of.sources.get(&source);
    let found = found.ok_or_else(|| Refusal::not_found(format!("there is no source `{source}` of `{tenant}`")))?;
    let made = Made::of(&tenant, found, wanted.as_ref(), digits()?)?;
    let routes = made.routes(of, found);
    let mut event = TestEvent {
        dry_run: body.dry_run,
        event_id: made.event.id.to_string(),
        event_type: made.event.event_type.to_string(),
        signed_with: made.signed_with.to_string(),
        body: made.shown.clone(),
        routes,
        passes_over: passes_over(found),
        answer: None,
        tenant,
        source,
    };
    if body.dry_run {
        return Ok(event);
    }
    let place = operator.tryouts.place()?;
    let (id, request) = (event.event_id.clone(), made.request()?);
    let actor = access::actor(&caller, body.actor);
    // Before it is sent: whoever asks may hang up.
    tracing::info!(
        tenant = %event.tenant, source = %event.source, actor = mask::line(&actor, 200), event = mask::line(&id, 100),
        "a test event goes through the edge"
    );
    let began = Instant::now();
    let answer = (operator.tryouts.edge)(request, place).await;
    let took = began.elapsed();
    let answer = answer.map_err(|why| {
        let message = format!("the edge did not answer the test event: {why}");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })?;
    let says = String::from_utf8_lossy(answer.body());
    event.answer = Some(EdgeAnswer {
        http_status: answer.status().as_u16(),
        says: mask::line(&says, SAID_BYTES_MAX),
        duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        receipt: receipt(&operator.store, &event.tenant, &event.source, id).await?,
    });
    Ok(event)
}

/// The receipt of an event, found by the event's id.
async fn receipt(
    store: &impl Views,
    tenant: &TenantName,
    source: &SourceName,
    event_id: String,
) -> Result<Option<ReceiptId>, StoreError> {
    let query = TraceQuery {
        by: TraceBy::Text(event_id),
        tenant: Some(tenant.clone()),
        after: None,
        receipts_max: 2,
    };
    let found = store.trace(query).await?;
    let own = found.into_iter().find(|trace| trace.receipt.source == *source);
    Ok(own.map(|trace| trace.receipt.id))
}

/// What a source asks of others who call it.
fn passes_over(source: &Source) -> Vec<String> {
    let networks = !source.access.allow_networks.is_empty();
    let credentials = !source.access.credentials.is_empty();
    let named = [
        (networks, "the networks that may call the source (allow_networks)"),
        (credentials, "the credential beside the signature (bearer, basic)"),
    ];
    let named = named.into_iter().filter(|(holds, _)| *holds);
    named.map(|(_, says)| says.to_owned()).collect()
}

/// A test event that verifies and is read as one.
struct Made {
    event: Event,
    signed_with: KeyId,
    path_and_query: String,
    headers: Vec<(String, String)>,
    /// As it is sent.
    body: Vec<u8>,
    /// Before it was signed.
    shown: String,
}

impl Made {
    /// Makes one of the provider's sample, signed with the source's secrets.
    fn of(tenant: &TenantName, source: &Source, wanted: Option<&EventType>, random: [u8; 16]) -> Result<Self, Refusal> {
        let title = &source.profile.title;
        let elsewhere = format!(
            "send one from {title}'s own pages; `tollgate send --help` says how to sign one with a test key that the source trusts"
        );
        let sample = Sample::of(&source.profile).ok_or_else(|| {
            Refusal::conflict(format!("there is no sample of what {title} sends: {elsewhere}")).with_code("no-sample")
        })?;
        let hex = HEXLOWER.encode(&random);
        // Where an id must be a UUID it is one of version 4.
        let uuid = format!(
            "{}-{}-4{}-8{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..]
        );
        let ids = [format!("{ID}{}", &hex[..16]), uuid];
        let asked = wanted.map_or(TEST_TYPE, EventType::as_str);
        let mut refused = None;
        for event_type in [Some(asked), None] {
            for id in &ids {
                match Self::tried(tenant, source, sample.clone(), id, event_type) {
                    // A type that nobody asked for may be one that routes take.
                    Ok(made) if made.event.event_type.as_str() != asked => {
                        let message = format!(
                            "{title} writes an event's type where a test cannot set it: this one would be `{0}`; to send that, ask for the type `{0}`",
                            made.event.event_type
                        );
                        return Err(Refusal::bad(message).with_code("event-type"));
                    }
                    Ok(made) => return Ok(made),
                    Err(Unmade::Unsigned(why)) => refused = Some(why),
                    Err(Unmade::NoEvent(why)) => {
                        refused.get_or_insert(why);
                    }
                }
            }
        }
        let why = refused.unwrap_or_default();
        Err(
            Refusal::conflict(format!("no test event can be made for this source: {why}; {elsewhere}"))
                .with_code("cannot-sign"),
        )
    }

    fn tried(
        tenant: &TenantName,
        source: &Source,
        sample: Sample,
        id: &str,
        event_type: Option<&str>,
    ) -> Result<Self, Unmade> {
        let (profile, at) = (&source.profile, clock::wall());
        let test = sample.as_test(profile, id, event_type);
        let path = format!("/in/{tenant}/{}", source.name);
        let url = source.public_url.as_deref();
        let url = url.and_then(|public| signed_url(public, &format!("https://tollgate{path}")));
        let input = SignInput {
            body: test.body.as_bytes(),
            id,
            at,
            url: url.as_deref(),
        };
        let signed = sign(profile, &source.secrets, &source.parameters, &input)
            .map_err(|error| Unmade::Unsigned(without_key(&error)))?;
        let mut headers = signed.headers;
        for (name, value) in test.headers {
            if !headers.iter().any(|(said, _)| *said == name) {
                headers.push((name, value));
            }
        }
        let raw: Vec<_> = headers
            .iter()
            .map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let request = RawRequest {
            method: "POST",
            path: Some(&path),
            query: signed.query.as_deref(),
            headers: &raw,
            body: &signed.body,
            url: source.public_url.as_deref(),
            received_at: at,
        };
        let no_event = |error: &dyn std::fmt::Display| Unmade::NoEvent(error.to_string());
        let verified = verify(profile, &source.keyring, request).map_err(|error| no_event(&error))?;
        let events = envelope::read(profile, &verified, tenant, &source.name).map_err(|error| no_event(&error))?;
        let signed_with = verified.proof().key_id.clone();
        let mut event = events.into_iter().next().ok_or_else(|| no_event(&"it is no event"))?;
        event.attributes.push((HOST_TEST.to_owned(), "true".to_owned()));
        let path_and_query = match &signed.query {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        Ok(Self {
            event,
            signed_with,
            path_and_query,
            body: signed.body.to_vec(),
            shown: test.body.clone(),
            headers,
        })
    }

    /// The routes that would have a job of it.
    fn routes(&self, tenant: &Tenant, source: &Source) -> Vec<RouteName> {
        if source.profile.accept().why_not(&self.event.attributes).is_some() {
            return Vec::new();
        }
        let mut content = Content::of(&self.event);
        let taking = tenant
            .matches()
            .filter(|(_, route)| route.takes(&mut content) == Takes::Yes);
        taking.map(|(name, _)| name.clone()).collect()
    }

    fn request(self) -> Result<Request<Full<Bytes>>, Refusal> {
        let mut request = Request::builder()
            .method("POST")
            .uri(self.path_and_query)
            .header("host", "tollgate");
        for (name, value) in self.headers {
            if !matches!(
                name.as_str(),
                "host" | "content-length" | "transfer-encoding" | "connection"
            ) {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(Bytes::from(self.body)));
        request.map_err(|error| Refusal::internal(format!("the test event cannot be sent: {error}")))
    }
}

/// Why there is no test event.
enum Unmade {
    /// The source's secrets sign nothing.
    Unsigned(String),
    /// What was signed does not verify, or is no event.
    NoEvent(String),
}

fn without_key(error: &SignError) -> String {
    match error {
        SignError::PublicKey { .. } | SignError::NoActiveSecret => {
            "the source has no secret that signs, since the provider alone has the private key, or none that is valid now".to_owned()
        }
        other => other.to_string(),
    }
}

/// `POST /v1/tenants/{tenant}/destinations/{destination}/test`.
async fn test_destination<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: DestinationPath { tenant, destination },
        body,
        ..
    }: Asked<calls::TestDestination>,
) -> Answered<calls::TestDestination> {
    let TestDeliveryBody { dry_run, actor } = body;
    mask::check_note("actor", &actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
    let config = operator.config.load_full();
    let found = tenant_of(&config, &tenant)?.destinations.get(&destination);
    let found =
        found.ok_or_else(|| Refusal::not_found(format!("there is no destination `{destination}` of `{tenant}`")))?;
    let id = format!("{ID}{}", HEXLOWER.encode(&digits()?[..8]));
    let message = TestMessage {
        tenant: &tenant,
        destination: &destination,
        id: &id,
    };
    let cannot = |end: &AttemptEnd| Refusal::conflict(format!("nothing can be sent there: {}", in_words(end)));
    let test = match &found.way {
        Way::Sent(url) => Test::Post(url, tryout::compose(&message, found).map_err(|end| cannot(&end))?),
        Way::Mailed(to) => {
            let server = config.mail.as_deref().ok_or_else(|| {
                Refusal::conflict(
                    "this host sends no e-mail: the operator says how in [notices.email] of tollgate.toml",
                )
                .with_code("no-mail")
            })?;
            Test::Mail(server, message.mail(clock::wall()), to)
        }
        Way::Pulled => {
            let message = format!(
                "nothing is sent to `{destination}`: its owner pulls what waits there. `tollgate pull {destination} --no-confirm` shows whether that works"
            );
            return Err(Refusal::conflict(message).with_code("pulled"));
        }
    };
    let is_of_file = config
        .of_files
        .tenants
        .get(&tenant)
        .is_some_and(|of_file| of_file.destinations.contains_key(&destination));
    let mut delivery = TestDelivery {
        dry_run,
        url: test.goes_to(is_of_file),
        message_id: id.clone(),
        headers: test.headers(),
        body: test.body(),
        end: None,
        delivered: None,
        duration_us: 0,
        answer: String::new(),
        tenant: tenant.clone(),
        destination: destination.clone(),
    };
    if dry_run {
        return Ok(delivery);
    }
    let is_paused = |pause: &Pause| pause.tenant == tenant && pause.place == Place::Destination(destination.clone());
    if operator.store.pauses().await?.iter().any(is_paused) {
        let message = format!("`{destination}` is paused: nothing is sent there until it is resumed");
        return Err(Refusal::conflict(message).with_code("paused"));
    }
    let place = operator.tryouts.place()?;
    let actor = access::actor(&caller, actor);
    tracing::info!(%tenant, %destination, actor = mask::line(&actor, 200), message = id, "a test delivery is sent");
    let rules = &config.delivery.outbound;
    let tried = match test {
        Test::Post(url, composed) => tryout::send(rules, found, url, composed).await,
        Test::Mail(server, mail, to) => {
            // Whoever hangs up has the place taken for no shorter: nobody's inbox is filled by tests.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(MAIL_EVERY_MS)).await;
                drop(place);
            });
            let (tried, error) = tryout::mail(server, rules, found, (mail, to)).await;
            if let Some(error) = error {
                let (server, port) = (&server.server, server.port);
                tracing::info!(%tenant, %destination, server, port, error, "a test e-mail was not taken");
            }
            tried
        }
    };
    delivery.delivered = Some(tried.end.is_success());
    delivery.end = Some(tried.end);
    delivery.duration_us = u64::try_from(tried.took.as_micros()).unwrap_or(u64::MAX);
    // What a destination says is for those who read receipts, as it is of every delivery.
    if caller.may(Permission::ReceiptRead, Some(&tenant)).is_ok() {
        delivery.answer = tried.answer;
    }
    Ok(delivery)
}

/// What goes to a destination that is tried.
enum Test<'d> {
    Post(&'d str, tryout::Composed),
    Mail(&'d MailConfig, Mail, &'d [MailAddress]),
}

impl Test<'_> {
    /// What stands behind a host may be a secret of the operator's, where the destination is of a file.
    fn goes_to(&self, is_of_file: bool) -> String {
        match self {
            Self::Post(url, _) if is_of_file => origin(url),
            Self::Post(url, _) => (*url).to_owned(),
            Self::Mail(_, _, to) => {
                let to: Vec<_> = to.iter().map(MailAddress::as_str).collect();
                format!("mailto:{}", to.join(","))
            }
        }
    }

    fn headers(&self) -> Vec<String> {
        match self {
            Self::Post(_, composed) => composed.header_names.clone(),
            Self::Mail(..) => Vec::new(),
        }
    }

    fn body(&self) -> String {
        match self {
            Self::Post(_, composed) => String::from_utf8_lossy(&composed.body).into_owned(),
            Self::Mail(_, mail, _) => format!("{}\n\n{}", mail.subject, mail.text),
        }
    }
}

fn in_words(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Answered { http_status, .. } => format!("answered {http_status}"),
        AttemptEnd::Failed { reason } | AttemptEnd::Forbidden { reason } | AttemptEnd::GivenBack { reason, .. } => {
            reason.clone()
        }
        AttemptEnd::Confirmed => "confirmed".to_owned(),
        AttemptEnd::Mailed { smtp_status, .. } => format!("answered {smtp_status}"),
    }
}
