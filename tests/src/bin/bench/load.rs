//! The load: signed events with ids of their own, over connections that stay open, each sending when it was answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::shipped;
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;

use super::process::{SECRET, Server};

/// A real event; its ids are replaced in each request.
pub(super) const BODY: &str = include_str!("../../../samples/voucherify-customer.reward_redemptions.pending.json");
const EVENT_ID: &str = "evcus_1f3611301g3127bega";
const REDEMPTION_ID: &str = "r_0ebe386a24c311bff7";
const REWARD_REDEMPTION_ID: &str = "rewr_23IX6dCFJe03AX4M56KcI95D";
const CUSTOMER_ID: &str = "cust_2myfc5acSBgoMV72R5tyTBc8";

/// Numbers events over all runs of one process, so that none is sent twice.
static NEXT: AtomicU64 = AtomicU64::new(0);

pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) elapsed: Duration,
}

/// Loads `server` over `connections` for `duration`.
///
/// # Errors
/// When a request is answered by anything but 202.
pub(super) async fn run(server: &Server, connections: usize, duration: Duration) -> anyhow::Result<Load> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(connection(server.port, start + duration)))
        .collect();
    let mut requests = 0;
    for task in tasks {
        requests += task.await??;
    }
    Ok(Load {
        requests,
        elapsed: start.elapsed(),
    })
}

async fn connection(port: u16, end: Instant) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .context("cannot connect to the server")?;
    stream.set_nodelay(true)?;
    let mut answer = Vec::with_capacity(1024);
    let mut requests = 0;
    while Instant::now() < end {
        stream
            .write_all(&request(NEXT.fetch_add(1, Ordering::Relaxed))?)
            .await?;
        read_answer(&mut stream, &mut answer).await?;
        anyhow::ensure!(
            answer.starts_with(b"HTTP/1.1 202 "),
            "answered {}",
            String::from_utf8_lossy(&answer[..answer.len().min(200)])
        );
        requests += 1;
    }
    Ok(requests)
}

fn request(number: u64) -> anyhow::Result<Vec<u8>> {
    let body = body(number);
    let (_, profile) = shipped()
        .iter()
        .find(|(name, _)| name.as_str() == "voucherify")
        .context("no voucherify profile")?;
    let secret = SourceSecret {
        id: KeyId::new("bench")?,
        text: Secret::new(SECRET),
        not_before: None,
        not_after: None,
    };
    let input = SignInput {
        body: body.as_bytes(),
        id: "bench",
        at: UnixMillis(0),
        url: None,
    };
    let mut head = format!(
        "POST /in/bench/rewards HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in sign(profile, &[secret], &Parameters::new(), &input)?.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.as_bytes());
    Ok(bytes)
}

/// The event of that number: another id, redemption and customer, and the same length to the byte.
pub(super) fn body(number: u64) -> String {
    [
        (EVENT_ID, "evcus_"),
        (REDEMPTION_ID, "r_"),
        (REWARD_REDEMPTION_ID, "rewr_"),
        (CUSTOMER_ID, "cust_"),
    ]
    .into_iter()
    .fold(BODY.to_owned(), |body, (id, prefix)| {
        let width = id.len() - prefix.len();
        body.replace(id, &format!("{prefix}{number:0width$}"))
    })
}

async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    loop {
        anyhow::ensure!(stream.read_buf(answer).await? > 0, "the server closed the connection");
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&answer[..head])?.to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .context("no content-length")?;
        if answer.len() >= head + 4 + length.trim().parse::<usize>()? {
            return Ok(());
        }
    }
}
