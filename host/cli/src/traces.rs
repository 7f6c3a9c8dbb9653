//! `tollgate traces export`: what became of events, as OpenTelemetry traces.
//!
//! A trace is derived from the ledger when somebody asks, so it costs the host nothing while it works and is there for the past as well. An
//! event is a span; below it are its admission, the runs for it and, below each run, the attempts to deliver what it recorded. The trace's id
//! is the receipt's, and each span's id is a hash of the receipt's and the span's own name: an export of the same things twice is the same.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_api::trace::{ActionView, AttemptView, OutboxView, RunView, Trace, TraceParameters};
use tollgate_api::{Nothing, calls};
use tollgate_core::action::Verdict;
use tollgate_core::delivery::{AttemptEnd, attempt_span, span_id};
use tollgate_core::ids::ReceiptId;
use tollgate_core::mask;
use tollgate_core::time::UnixMillis;
use tollgate_server::clock;
use tollgate_store::Views as _;

use super::{Exit, Target, Usage, ask, print_json, print_json_line, wire};

/// Receipts that are asked for at once, and whose spans are one line, or one request.
const RECEIPTS_AT_ONCE: u64 = 50;
/// How far admission may be out of the order in which requests came in. Behind it nothing newer is looked for.
const OUT_OF_ORDER_MS: i64 = 60_000;
/// What a collector may be told beside the spans, as OpenTelemetry's own exporters are: `name=value,name=value`.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Export what became of events as OpenTelemetry traces (OTLP/JSON), to a file, standard output or a collector
    #[command(
        after_help = "One line, or one request to a collector, is an OTLP ExportTraceServiceRequest as JSON. Each event is a trace: its span has the children \
                      admit, run, and below runs the attempts to deliver. Ids are derived from the receipt's, so that what is exported twice is the same; \
                      of an event that is still worked on there is more the next time. --until 5m leaves out what is that new.\n\n\
                      Headers for the collector, a token for example, are taken from OTEL_EXPORTER_OTLP_HEADERS: name=value, with commas between.\n\n\
                      Exit status: 0 done, 1 no event to export, 3 the collector did not take them."
    )]
    Export(Export),
}

#[derive(clap::Args)]
pub(super) struct Export {
    #[command(flatten)]
    target: Target,
    /// Events that came in since then: an age (30s, 15m, 1h, 2d), or an instant (RFC 3339)
    #[arg(long, value_name = "WHEN")]
    since: String,
    /// And before then
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// One event in so many, the same ones each time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    sample: u64,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE", conflicts_with = "post")]
    output: Option<PathBuf>,
    /// Post to a collector's OTLP/HTTP endpoint, for example http://127.0.0.1:4318/v1/traces
    #[arg(long, value_name = "URL")]
    post: Option<String>,
}

/// What an export came to.
#[derive(Default, serde::Serialize)]
struct Report {
    /// Events that were exported, each as one trace.
    traces: usize,
    spans: usize,
    /// Lines or requests.
    batches: usize,
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    let Command::Export(args) = command;
    let now = clock::now();
    let when = |flag: &str, text: &str| {
        instant(text, now).ok_or_else(|| {
            Usage(format!(
                "--{flag}: `{}` is neither an age such as 15m, 1h or 2d nor an instant such as 2026-05-05T00:00:00Z",
                mask::line(text, 60)
            ))
        })
    };
    let since = when("since", &args.since)?;
    let until = args.until.as_deref().map(|text| when("until", text)).transpose()?;
    let mut sink = Sink::of(&args)?;
    let mut report = Report::default();
    let mut after: Option<String> = None;
    loop {
        let query = TraceParameters {
            tenant: args.tenant.clone(),
            after: after.take(),
            limit: Some(RECEIPTS_AT_ONCE),
            ..TraceParameters::default()
        };
        let asked = query.clone().checked().map_err(|error| Usage(format!("--{error}")))?;
        let page = ask::ask::<calls::Trace>(&args.target, &Nothing {}, &query, async |store| {
            store.trace(asked).await
        })?;
        let came_in = |trace: &Trace| UnixMillis::from_rfc3339(&trace.receipt.received_at);
        let wanted: Vec<_> = page
            .iter()
            .filter(|trace| came_in(trace).is_some_and(|at| at >= since && until.is_none_or(|until| at < until)))
            .filter(|trace| is_sampled(trace.receipt.id, args.sample))
            .collect();
        let spans: Vec<_> = wanted.iter().flat_map(|trace| spans(trace)).collect();
        if !spans.is_empty() {
            report.traces += wanted.len();
            report.spans += spans.len();
            report.batches += 1;
            sink.take(&request(&spans))?;
        }
        let Some(last) = page.last() else { break };
        if came_in(last).is_some_and(|at| since.since(at) > OUT_OF_ORDER_MS) {
            break;
        }
        after = Some(last.receipt.id.to_string());
    }
    sink.end()?;
    if let Sink::Output = sink {
        // Standard output is the traces'.
    } else if args.target.json {
        print_json(&report)?;
    } else {
        let traces = super::show::counted(report.traces as u64, "trace");
        anstream::println!(
            "{traces} with {} exported",
            super::show::counted(report.spans as u64, "span")
        );
    }
    Ok(if report.traces == 0 { Exit::No } else { Exit::Yes })
}

/// An age before `now`, or an instant.
fn instant(text: &str, now: UnixMillis) -> Option<UnixMillis> {
    let age = || {
        let unit_ms: i64 = match text.as_bytes().last()? {
            b's' => 1_000,
            b'm' => 60_000,
            b'h' => 3_600_000,
            b'd' => 86_400_000,
            _ => return None,
        };
        let count: u32 = text.get(..text.len() - 1)?.parse().ok()?;
        Some(now.plus_ms(i64::from(count).saturating_mul(unit_ms).saturating_neg()))
    };
    age().or_else(|| UnixMillis::from_rfc3339(text))
}

/// Whether a receipt is among one in `sample`: by its id, which nobody chooses.
fn is_sampled(receipt: ReceiptId, sample: u64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = receipt.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).is_multiple_of(sample.max(1))
}

/// Where the traces go.
enum Sink {
    Output,
    File(File, PathBuf),
    Collector {
        url: String,
        headers: Vec<(String, String)>,
    },
}

impl Sink {
    fn of(args: &Export) -> anyhow::Result<Self> {
        if let Some(url) = &args.post {
            let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            headers.extend(given_headers(&std::env::var(HEADERS).unwrap_or_default())?);
            let url = url.clone();
            return Ok(Self::Collector { url, headers });
        }
        let Some(path) = &args.output else {
            return Ok(Self::Output);
        };
        let file = File::create(path).map_err(|error| Usage(format!("cannot write {}: {error}", path.display())))?;
        Ok(Self::File(file, path.clone()))
    }

    fn take(&mut self, request: &Value) -> anyhow::Result<()> {
        match self {
            Self::Output => print_json_line(request)?,
            Self::File(file, path) => {
                writeln!(file, "{request}").with_context(|| format!("writing {}", path.display()))?;
            }
            Self::Collector { url, headers } => {
                let body = Bytes::from(request.to_string());
                let (status, answer) = ask::runtime()?.block_on(wire::Http::new().post(url, headers, body))?;
                let said = mask::line(&answer, 300);
                anyhow::ensure!((200..300).contains(&status), "{url} answered {status}: {said}");
                // A collector that takes some of them answers 200 and says so.
                let rejected = serde_json::from_str::<Value>(&answer).ok();
                let rejected = rejected.and_then(|answer| answer.pointer("/partialSuccess/rejectedSpans").cloned());
                let is_none = |count: &Value| matches!(count.to_string().trim_matches('"'), "0" | "null");
                anyhow::ensure!(
                    rejected.as_ref().is_none_or(is_none),
                    "{url} did not take all spans: {said}"
                );
            }
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File(file, path) => file.sync_all().with_context(|| format!("writing {}", path.display())),
            Self::Output | Self::Collector { .. } => Ok(()),
        }
    }
}

/// Reads `name=value,name=value`; values are percent-encoded.
fn given_headers(text: &str) -> Result<Vec<(String, String)>, Usage> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            // The value may be a token: it is not repeated.
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Usage(format!(
                    "{HEADERS} has a part without `=`; it is name=value, with commas between"
                ))
            })?;
            Ok((name.trim().to_owned(), percent_decoded(value.trim())))
        })
        .collect()
}

/// With `%20` and the like as what they stand for; anything else stands for itself.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let code = (*first == b'%').then(|| others.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Spans as a collector takes them: an OTLP `ExportTraceServiceRequest`, as JSON.
fn request(spans: &[Value]) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "resourceSpans": [{
            "resource": { "attributes": attributes(&[("service.name", "tollgate".into()), ("service.version", version.into())]) },
            "scopeSpans": [{ "scope": { "name": "tollgate", "version": version }, "spans": spans }],
        }],
    })
}

/// What OTLP calls a span's kind.
#[derive(Clone, Copy)]
enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// A span that is being made.
struct Span {
    receipt: ReceiptId,
    /// What it is within its trace; its id is made of it.
    of: String,
    parent: Option<String>,
    name: String,
    kind: Kind,
    start_ns: i128,
    end_ns: i128,
    attributes: Vec<(&'static str, Value)>,
    /// Why it did not come out well.
    error: Option<String>,
}

impl Span {
    fn json(self) -> Value {
        let mut span = json!({
            "traceId": trace_id(self.receipt),
            "spanId": span_id(self.receipt, &self.of),
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": self.start_ns.to_string(),
            "endTimeUnixNano": self.end_ns.to_string(),
            "attributes": attributes(&self.attributes),
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = span_id(self.receipt, &parent).into();
        }
        if let Some(message) = self.error {
            span["status"] = json!({ "code": 2, "message": message });
        }
        span
    }
}

fn trace_id(receipt: ReceiptId) -> String {
    data_encoding::HEXLOWER.encode(&receipt.0)
}

fn attributes(pairs: &[(&'static str, Value)]) -> Value {
    let typed = |value: &Value| match value {
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        Value::Bool(bool) => json!({ "boolValue": bool }),
        Value::String(text) => json!({ "stringValue": text }),
        other => json!({ "stringValue": other.to_string() }),
    };
    let pairs = pairs.iter().filter(|(_, value)| !value.is_null());
    pairs
        .map(|(key, value)| json!({ "key": key, "value": typed(value) }))
        .collect()
}

fn nanoseconds(instant: &str) -> i128 {
    UnixMillis::from_rfc3339(instant).map_or(0, |at| i128::from(at.0) * 1_000_000)
}

const EVENT: &str = "event";

/// The spans of an event, its own first.
fn spans(trace: &Trace) -> Vec<Value> {
    let receipt = &trace.receipt;
    let came_in_ns = nanoseconds(&receipt.received_at);
    let mut below = vec![Span {
        receipt: receipt.id,
        of: "admit".to_owned(),
        parent: Some(EVENT.to_owned()),
        name: "admit".to_owned(),
        kind: Kind::Internal,
        // The ledger says when the request had come in, and not how long its commit took.
        start_ns: came_in_ns,
        end_ns: came_in_ns,
        attributes: vec![
            ("tollgate.receipt", receipt.id.to_string().into()),
            ("tollgate.disposition", disposition(trace)),
        ],
        error: None,
    }];
    let mut delivered = BTreeSet::new();
    for job in &trace.jobs {
        for run in &job.runs {
            let of_run = run.id.to_string();
            let mut span = span_of_run(receipt.id, run);
            span.attributes.push(("tollgate.job", job.id.to_string().into()));
            span.attributes.push(("tollgate.route", job.route.as_str().into()));
            below.push(span);
            // What a run only repeats was delivered for the run that recorded it.
            let recorded = run.actions.iter().filter(|action| action.verdict == Verdict::Recorded);
            for (action, entry) in
                recorded.flat_map(|action| action.deliveries.iter().map(move |entry| (action, entry)))
            {
                if delivered.insert(entry.id) {
                    let attempts = entry.attempts.iter();
                    below.extend(attempts.map(|attempt| span_of_attempt(receipt.id, &of_run, action, entry, attempt)));
                }
            }
        }
    }
    let end_ns = below.iter().map(|span| span.end_ns).max().unwrap_or(came_in_ns);
    let event = Span {
        receipt: receipt.id,
        of: EVENT.to_owned(),
        parent: None,
        name: format!("event {}", receipt.event_type),
        kind: Kind::Server,
        start_ns: came_in_ns,
        end_ns: end_ns.max(came_in_ns),
        attributes: vec![
            ("tollgate.receipt", receipt.id.to_string().into()),
            ("tollgate.tenant", receipt.tenant.as_str().into()),
            ("tollgate.source", receipt.source.as_str().into()),
            ("tollgate.event_id", receipt.event_id.as_str().into()),
            ("tollgate.event_type", receipt.event_type.as_str().into()),
            ("tollgate.disposition", disposition(trace)),
        ],
        error: None,
    };
    std::iter::once(event)
        .chain(below)
        .map(|mut span| {
            // Found by tenant and source wherever one begins to look.
            if span.parent.is_some() {
                span.attributes
                    .push(("tollgate.tenant", receipt.tenant.as_str().into()));
                span.attributes
                    .push(("tollgate.source", receipt.source.as_str().into()));
            }
            span.json()
        })
        .collect()
}

fn disposition(trace: &Trace) -> Value {
    serde_json::to_value(&trace.receipt.disposition)
        .ok()
        .and_then(|value| value.get("disposition").cloned())
        .unwrap_or(Value::Null)
}

fn span_of_run(receipt: ReceiptId, run: &RunView) -> Span {
    let start_ns = nanoseconds(&run.started_at);
    let went_well = run.message.is_empty();
    Span {
        receipt,
        of: run.id.to_string(),
        parent: Some(EVENT.to_owned()),
        name: format!("run {}", run.plugin),
        kind: Kind::Internal,
        start_ns,
        end_ns: start_ns + i128::from(run.duration_us) * 1_000,
        attributes: vec![
            ("tollgate.run", run.id.to_string().into()),
            ("tollgate.attempt", run.attempt.into()),
            ("tollgate.plugin", run.plugin.as_str().into()),
            ("tollgate.plugin.version", run.version.clone().into()),
            ("tollgate.plugin.digest", run.digest.to_string().into()),
            ("tollgate.outcome", run.outcome.as_str().into()),
            ("tollgate.fuel", run.fuel.into()),
            ("tollgate.actions", run.actions.len().into()),
        ],
        // What the plugin said may be of the event; the outcome is not.
        error: (!went_well).then(|| run.outcome.clone()),
    }
}

fn span_of_attempt(
    receipt: ReceiptId,
    of_run: &str,
    action: &ActionView,
    entry: &OutboxView,
    attempt: &AttemptView,
) -> Span {
    let start_ns = nanoseconds(&attempt.started_at);
    let (status, error) = match &attempt.end {
        AttemptEnd::Answered { http_status, .. } => {
            let went_well = (200..300).contains(http_status);
            (
                Some(*http_status),
                (!went_well).then(|| format!("answered {http_status}")),
            )
        }
        AttemptEnd::Mailed { smtp_status, .. } => (
            None,
            (!attempt.end.is_success()).then(|| format!("the mail server answered {smtp_status}")),
        ),
        AttemptEnd::Confirmed => (None, None),
        AttemptEnd::Failed { reason } | AttemptEnd::Forbidden { reason } => (None, Some(mask::line(reason, 200))),
        AttemptEnd::GivenBack { reason, .. } => (None, Some(format!("given back: {}", mask::line(reason, 200)))),
    };
    Span {
        receipt,
        of: attempt_span(entry.id, &attempt.started_at),
        parent: Some(of_run.to_owned()),
        name: format!("deliver {}", entry.destination),
        kind: Kind::Client,
        start_ns,
        end_ns: start_ns + i128::from(attempt.duration_us) * 1_000,
        attributes: vec![
            ("tollgate.delivery", entry.id.to_string().into()),
            ("tollgate.action", action.id.to_string().into()),
            ("tollgate.destination", entry.destination.as_str().into()),
            ("tollgate.attempt", attempt.number.into()),
            ("http.response.status_code", status.into()),
        ],
        error,
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::ids::Digest;

    use super::*;

    #[test]
    fn o7_when_is_an_age_or_an_instant() {
        let now = UnixMillis::from_rfc3339("2026-05-05T12:00:00Z").unwrap();
        for (text, expect) in [
            ("30s", Some("2026-05-05T11:59:30Z")),
            ("15m", Some("2026-05-05T11:45:00Z")),
            ("1h", Some("2026-05-05T11:00:00Z")),
            ("2d", Some("2026-05-03T12:00:00Z")),
            ("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z")),
            ("yesterday", None),
            ("-1h", None),
            ("h", None),
            ("", None),
            ("1é", None),
        ] {
            assert_eq!(instant(text, now), expect.and_then(UnixMillis::from_rfc3339), "{text}");
        }
    }

    #[test]
    fn o7_a_sample_is_the_same_each_time_and_about_one_in_so_many() {
        let receipts = (0..1000_u32).map(|n| ReceiptId(Digest::of(&n.to_be_bytes()).0[..16].try_into().unwrap()));
        let count = receipts.filter(|receipt| is_sampled(*receipt, 10)).count();
        assert!((60..140).contains(&count), "{count}");
        assert!(is_sampled(ReceiptId([7; 16]), 1));
    }

    #[test]
    fn o7_headers_for_a_collector_are_read_as_other_exporters_read_them_and_not_repeated() {
        let read = |text| given_headers(text).map_err(|error| error.to_string());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(
            read("authorization=Bearer%20abc, x-scope=a%zz"),
            Ok(vec![pair("authorization", "Bearer abc"), pair("x-scope", "a%zz")])
        );
        assert!(read("secret").is_err_and(|said| !said.contains("secret")));
    }
}
