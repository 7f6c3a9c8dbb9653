//! The load: signed events with ids of their own, over connections that stay open. Closed, each connection sends when it was answered;
//! paced, each event has its instant, and how late it was answered counts from there.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::shipped;
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;

use super::system::folder_bytes;

/// What requests are signed with.
pub(super) const SECRET: &str = "bench-secret";

/// Where a server takes events in.
pub(super) struct Door {
    /// The server's.
    pub(super) name: &'static str,
    pub(super) port: u16,
    /// Where the source is.
    pub(super) path: &'static str,
    /// Whether a request names its event in a header, because the server does not look for it in the body.
    pub(super) with_key: bool,
    /// The folder where each body is, as it came, when it is answered; of a server that keeps none, none.
    pub(super) keeps_in: Option<PathBuf>,
}

impl Door {
    /// Fails when a server that says that it keeps events has not kept so many: it would be cheap for another reason.
    fn check_kept(&self, requests: u64) -> anyhow::Result<()> {
        let Some(folder) = &self.keeps_in else { return Ok(()) };
        let kept = folder_bytes(folder)?.max(end_of_log(folder)?);
        let (name, sent) = (self.name, requests * BODY.len() as u64);
        anyhow::ensure!(
            kept >= sent,
            "{name} answered {sent} bytes of events and keeps only {kept}"
        );
        Ok(())
    }
}

/// Where the log of a native store ends; 0 where there is none. Full segments are compressed, and places in the log count what they hold.
fn end_of_log(folder: &Path) -> anyhow::Result<u64> {
    let mut end = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let place = name.to_str().and_then(|name| name.rsplit_once("-log-"));
        if let Some(begins_at) = place.and_then(|(_, place)| u64::from_str_radix(place, 16).ok()) {
            end = end.max(begins_at + entry.metadata()?.len());
        }
    }
    Ok(end)
}

/// A real event; its ids are replaced in each request.
pub(super) const BODY: &str = include_str!("../../tests/samples/voucherify-customer.reward_redemptions.pending.json");
/// Its ids with their prefixes: event, redemption, reward redemption, customer.
const IDS: [(&str, &str); 4] = [
    ("evcus_1f3611301g3127bega", "evcus_"),
    ("r_0ebe386a24c311bff7", "r_"),
    ("rewr_23IX6dCFJe03AX4M56KcI95D", "rewr_"),
    ("cust_2myfc5acSBgoMV72R5tyTBc8", "cust_"),
];

/// Numbers events over all runs of one process, so that none is sent twice.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Signatures are made before the clock starts, for so many requests a second at most: the load generator shares the machine with
/// what it measures, so it does as little as it can meanwhile.
const REQUESTS_PER_SECOND_MAX: u64 = 40_000;

pub(super) struct Load {
    /// Those that were answered 202.
    pub(super) requests: u64,
    /// Those that were answered 503.
    pub(super) turned_away: u64,
    pub(super) elapsed: Duration,
}

/// Loads a server over `connections` for `duration`, or until the prepared requests are used up.
///
/// # Errors
/// When a request is answered by anything but 202.
pub(super) async fn run(door: &Door, connections: usize, duration: Duration) -> anyhow::Result<Load> {
    let requests_max = REQUESTS_PER_SECOND_MAX * duration.as_secs().max(1);
    closed(door, connections, requests_max, duration, Busy::Fails).await
}

/// What an answer of 503 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Busy {
    /// The load has failed.
    Fails,
    /// It is counted, and the next event sent.
    IsCounted,
}

/// As [`run`], or until so many requests were sent. An answer of 503 is counted, and its event is not sent again.
///
/// # Errors
/// When a request is answered by anything but 202 and 503.
pub(super) async fn run_counted(
    door: &Door,
    connections: usize,
    requests_max: u64,
    duration: Duration,
) -> anyhow::Result<Load> {
    closed(door, connections, requests_max, duration, Busy::IsCounted).await
}

/// The same for so many requests, however long they take.
///
/// # Errors
/// As [`run`].
pub(super) async fn run_count(door: &Door, connections: usize, requests: u64) -> anyhow::Result<Load> {
    closed(door, connections, requests, Duration::from_secs(3600), Busy::Fails).await
}

async fn closed(
    door: &Door,
    connections: usize,
    requests_max: u64,
    duration: Duration,
    busy: Busy,
) -> anyhow::Result<Load> {
    let prepared = Arc::new(Prepared::new(door, requests_max)?);
    let start = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(connection(door.port, Arc::clone(&prepared), start + duration, busy)))
        .collect();
    let (mut requests, mut turned_away) = (0, 0);
    for task in tasks {
        let (taken, refused) = task.await??;
        requests += taken;
        turned_away += refused;
    }
    let elapsed = start.elapsed();
    door.check_kept(requests)?;
    Ok(Load {
        requests,
        turned_away,
        elapsed,
    })
}

/// Returns how many were answered 202, and how many 503.
async fn connection(port: u16, prepared: Arc<Prepared>, end: Instant, busy: Busy) -> anyhow::Result<(u64, u64)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .context("cannot connect to the server")?;
    stream.set_nodelay(true)?;
    let mut request = prepared.template.bytes.clone();
    let mut answer = Vec::with_capacity(1024);
    let (mut requests, mut turned_away) = (0, 0);
    while Instant::now() < end && prepared.next(&mut request).is_some() {
        stream.write_all(&request).await?;
        answer.clear();
        while !is_whole(&answer)? {
            anyhow::ensure!(stream.read_buf(&mut answer).await? > 0, CLOSED);
        }
        if busy == Busy::IsCounted && answer.starts_with(b"HTTP/1.1 503 ") {
            turned_away += 1;
            continue;
        }
        check(&answer)?;
        requests += 1;
    }
    Ok((requests, turned_away))
}

/// Sends `per_second` requests, each at its instant whether or not those before are answered, over so many connections. How long
/// after its instant each was answered: a request that had to wait for a connection was waiting for the door.
///
/// # Errors
/// As [`run`].
pub(super) fn paced(
    door: &Door,
    per_second: u64,
    duration: Duration,
    connections: usize,
) -> anyhow::Result<Vec<Duration>> {
    let requests = per_second * duration.as_secs();
    let prepared = Prepared::new(door, requests)?;
    let start = Instant::now() + Duration::from_millis(200);
    // Threads, because they wake within some ten microseconds of their instant; the runtime's clock ticks in milliseconds.
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| on_its_instants(door.port, &prepared, start, per_second)))
            .collect();
        let mut latencies = Vec::new();
        for thread in threads {
            latencies.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        anyhow::Ok(latencies)
    })?;
    door.check_kept(requests)?;
    Ok(latencies)
}

fn on_its_instants(port: u16, prepared: &Prepared, start: Instant, per_second: u64) -> anyhow::Result<Vec<Duration>> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut request = prepared.template.bytes.clone();
    let mut latencies = Vec::new();
    while let Some(at) = prepared.next(&mut request) {
        let due = start + Duration::from_nanos(at * 1_000_000_000 / per_second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        exchange(&mut stream, &request)?;
        latencies.push(due.elapsed());
    }
    Ok(latencies)
}

/// Sends one event.
///
/// # Errors
/// When nobody listens, or the answer is not 202.
pub(super) fn one(door: &Door) -> anyhow::Result<()> {
    let prepared = Prepared::new(door, 1)?;
    let mut request = prepared.template.bytes.clone();
    prepared.next(&mut request);
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", door.port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    exchange(&mut stream, &request)
}

fn exchange(stream: &mut std::net::TcpStream, request: &[u8]) -> anyhow::Result<()> {
    stream.write_all(request)?;
    let mut answer = [0; 2048];
    let mut length = 0;
    while !is_whole(&answer[..length])? {
        let read = stream.read(&mut answer[length..])?;
        anyhow::ensure!(read > 0, CLOSED);
        length += read;
    }
    check(&answer[..length])
}

/// Signed requests that differ in their ids and signatures only.
struct Prepared {
    template: Template,
    first: u64,
    signatures: Vec<[u8; SIGNATURE_BYTES]>,
    used: AtomicUsize,
}

/// A hex HMAC-SHA256.
const SIGNATURE_BYTES: usize = 64;

impl Prepared {
    fn new(door: &Door, requests: u64) -> anyhow::Result<Self> {
        let first = NEXT.fetch_add(requests, Ordering::Relaxed);
        let template = Template::new(door.path, door.with_key)?;
        let mut body = BODY.as_bytes().to_vec();
        let signatures = (first..first + requests)
            .map(|number| {
                template.number(&mut body, 0, number);
                let (_, signature) = signature(&body)?;
                signature.as_bytes().try_into().context("a signature of another length")
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            template,
            first,
            signatures,
            used: AtomicUsize::new(0),
        })
    }

    /// Makes `request` the next one, and says which of them it is; none when all are used.
    fn next(&self, request: &mut [u8]) -> Option<u64> {
        let at = self.used.fetch_add(1, Ordering::Relaxed);
        let signature = self.signatures.get(at)?;
        let (template, at) = (&self.template, at as u64);
        request[template.signature_at..][..SIGNATURE_BYTES].copy_from_slice(signature);
        template.number(request, template.body_at, self.first + at);
        if let Some((key_at, width)) = template.key {
            write_number(&mut request[key_at..][..width], self.first + at);
        }
        Some(at)
    }
}

struct Template {
    bytes: Vec<u8>,
    signature_at: usize,
    body_at: usize,
    /// Where in the body ids stand, past their prefixes, and how long they are.
    ids: Vec<(usize, usize)>,
    /// The same of the event's id in the head.
    key: Option<(usize, usize)>,
}

impl Template {
    fn new(path: &str, with_key: bool) -> anyhow::Result<Self> {
        let (name, signature) = signature(BODY.as_bytes())?;
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{name}: ",
            BODY.len()
        )
        .into_bytes();
        let signature_at = bytes.len();
        bytes.extend_from_slice(signature.as_bytes());
        let key = with_key.then(|| {
            let (event, prefix) = IDS[0];
            bytes.extend_from_slice(format!("\r\nidempotency-key: {event}").as_bytes());
            let width = event.len() - prefix.len();
            (bytes.len() - width, width)
        });
        bytes.extend_from_slice(b"\r\n\r\n");
        let body_at = bytes.len();
        bytes.extend_from_slice(BODY.as_bytes());
        let ids = IDS
            .iter()
            .flat_map(|(id, prefix)| {
                BODY.match_indices(id)
                    .map(|(at, id)| (at + prefix.len(), id.len() - prefix.len()))
            })
            .collect();
        Ok(Self {
            bytes,
            signature_at,
            body_at,
            ids,
            key,
        })
    }

    /// Writes a number into every id of the body that begins at `body_at`.
    fn number(&self, bytes: &mut [u8], body_at: usize, number: u64) {
        for &(at, width) in &self.ids {
            write_number(&mut bytes[body_at + at..][..width], number);
        }
    }
}

/// In as many digits as there is room for.
fn write_number(digits: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The header that proves a body, and its value.
fn signature(body: &[u8]) -> anyhow::Result<(String, String)> {
    let profile = shipped().get("voucherify").context("no voucherify profile")?;
    let secret = SourceSecret {
        id: KeyId::new("bench")?,
        text: Secret::new(SECRET),
        not_before: None,
        not_after: None,
    };
    let input = SignInput {
        body,
        id: "bench",
        at: UnixMillis(0),
        url: None,
    };
    let signed = sign(profile, &[secret], &Parameters::new(), &input)?;
    signed.headers.into_iter().next().context("no signature")
}

/// The event of that number: another id, redemption and customer, and the same length to the byte.
pub(super) fn body(number: u64) -> anyhow::Result<Vec<u8>> {
    let mut body = BODY.as_bytes().to_vec();
    Template::new("/in/bench/rewards", false)?.number(&mut body, 0, number);
    Ok(body)
}

const CLOSED: &str = "the server closed the connection";

/// Whether an answer is there to its end.
fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(false);
    };
    let text = std::str::from_utf8(&answer[..head])?.to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("no content-length")?;
    Ok(answer.len() >= head + 4 + length.trim().parse::<usize>()?)
}

fn check(answer: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(
        answer.starts_with(b"HTTP/1.1 202 "),
        "answered {}",
        String::from_utf8_lossy(&answer[..answer.len().min(200)])
    );
    Ok(())
}
