//! One event: its facts, its timeline, and its body.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{Uri, header};
use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_api::calls;
use tollgate_api::fixtures::FixtureQuery;
use tollgate_api::trace::{Trace, TraceParameters};
use tollgate_core::access::Permission;
use tollgate_core::forward;
use tollgate_core::ids::ReceiptId;
use tollgate_core::mask;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::table::{Cell, Part, Table, address, event_page};
use crate::timeline::{self, Now, Step};
use crate::visit::{Visit, asked, field, go};
use crate::words::{lines_shown, number, size};

/// What of a body a page shows, in bytes; the rest is a link away.
const BODY_BYTES_MAX: usize = 32 * 1024;
/// Events that one identifier may stand for.
const FOUND_MAX: u64 = 50;

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    frame: Frame,
    id: String,
    event_id: String,
    facts: Vec<(&'static str, String)>,
    headers: Vec<(String, String)>,
    steps: Vec<Step>,
    standing: Vec<Now>,
    more: String,
    body: Body,
    replay: Option<String>,
}

/// What is shown of a body.
#[derive(Default)]
struct Body {
    text: String,
    /// Why there is none, or not all.
    note: String,
    whole: String,
}

#[derive(Template)]
#[template(path = "found.html")]
struct FoundPage {
    frame: Frame,
    id: String,
    table: Table,
}

/// `GET /console/find?id=`: whatever anybody calls it by.
pub(crate) async fn find(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let id = field(&asked(&uri), "id").trim().to_owned();
    let now = (console.host.now)();
    let mut table = Table::new(
        "events of that name",
        &[("Time", "time"), ("Event", "main"), ("Source", ""), ("Subject", "wide")],
    );
    if !id.is_empty() {
        let found = match traces(&console, &visit, &id, FOUND_MAX).await {
            Ok(found) => found,
            Err(trouble) if trouble.status == http::StatusCode::NOT_FOUND => Vec::new(),
            Err(trouble) => return Err(trouble),
        };
        if let [trace] = found.as_slice() {
            return Ok(go(&event_page(trace.receipt.id)));
        }
        table.rows = found
            .iter()
            .map(|Trace { receipt, .. }| {
                vec![
                    Part::at(&receipt.received_at, now).class("time").into(),
                    Cell::from(Part::told(&receipt.event_type).to(event_page(receipt.id)))
                        .below(Part::told(&receipt.event_id).class("code")),
                    Cell::from(Part::said(receipt.source.to_string())).below(Part::said(receipt.tenant.to_string())),
                    Cell::maybe(
                        receipt
                            .subject
                            .as_deref()
                            .map(|subject| Part::told(subject).class("code")),
                    ),
                ]
            })
            .collect();
    }
    Ok(show(&FoundPage {
        frame: Frame::of(&visit, "Find"),
        id: mask::line(&id, 200),
        table,
    }))
}

async fn traces(console: &Console, visit: &Visit, id: &str, most: u64) -> Result<Vec<Trace>, Trouble> {
    let query = TraceParameters {
        id: Some(id.to_owned()),
        limit: Some(most),
        ..TraceParameters::default()
    };
    console.read::<calls::Trace>(&visit.visitor.token, &query).await
}

async fn traced(console: &Console, visit: &Visit, receipt: &str) -> Result<Trace, Trouble> {
    let no_such = || Trouble::not_found(format!("there is no event {}", mask::line(receipt, 100)));
    // Of this page's address the id is a receipt's, and nothing else finds anything.
    receipt.parse::<ReceiptId>().map_err(|_| no_such())?;
    let found = traces(console, visit, receipt, 1).await?;
    found.into_iter().next().ok_or_else(no_such)
}

/// `GET /console/events/{receipt}`.
pub(crate) async fn event(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(receipt): Path<String>,
) -> Result<Response, Trouble> {
    let now = (console.host.now)();
    let trace = traced(&console, &visit, &receipt).await?;
    let body = match body_of(&console, &visit, &trace).await {
        Ok(text) => shown(&text, trace.receipt.id),
        Err(trouble) => Body {
            note: trouble.says,
            ..Body::default()
        },
    };
    let frame = Frame::of(&visit, mask::line(&trace.receipt.event_type, 120));
    let more = trace.redelivered.as_ref().map(|all| {
        let shown: u64 = trace.deliveries.iter().map(|delivery| delivery.times).sum();
        match (all.same + all.conflicts + all.suspected_replays).saturating_sub(shown) {
            0 => String::new(),
            more => format!("It came {} more times, the last {}.", number(more), all.last_at),
        }
    });
    let id = trace.receipt.id.to_string();
    let page = EventPage {
        event_id: mask::shown(&trace.receipt.event_id).into_owned(),
        facts: facts(&trace),
        headers: trace
            .receipt
            .kept_headers
            .iter()
            .map(|(name, value)| (mask::line(name, 100), mask::line(value, 400)))
            .collect(),
        steps: timeline::steps(&trace, now),
        standing: timeline::standing(&trace, &|permission| may(&visit, permission), now),
        more: more.unwrap_or_default(),
        body,
        replay: may(&visit, Permission::WorkReplay).then(|| address("/act/replay", &[("receipt", &id)])),
        id,
        frame,
    };
    Ok(show(&page))
}

fn facts(trace: &Trace) -> Vec<(&'static str, String)> {
    let receipt = &trace.receipt;
    let mut facts = vec![
        ("Tenant", receipt.tenant.to_string()),
        ("Source", receipt.source.to_string()),
        ("Type", mask::line(&receipt.event_type, 200)),
    ];
    let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    add(
        "Subject",
        receipt.subject.as_deref().map(|subject| mask::line(subject, 300)),
    );
    if let Some(family) = &receipt.family {
        let status = receipt.status.as_deref().unwrap_or("not mapped");
        add("Lifecycle", Some(format!("{family}: {status}")));
    }
    let test = receipt
        .host_test
        .then(|| "the host made it, to try the source".to_owned());
    add("A test", test);
    add("Amount", receipt.amount.clone());
    add("Happened", receipt.occurred_at.clone());
    add("Came in", Some(receipt.received_at.clone()));
    add("Size", Some(size(receipt.body_bytes as u64)));
    add(
        "Notes",
        receipt.reading_notes.as_deref().map(|notes| mask::line(notes, 300)),
    );
    facts
}

/// What of a fixture is the body.
#[derive(Deserialize)]
struct OfFixture {
    event: OfEvent,
}

#[derive(Deserialize)]
struct OfEvent {
    payload: Box<RawValue>,
}

/// The body exactly as it came.
async fn body_of(console: &Console, visit: &Visit, trace: &Trace) -> Result<String, Trouble> {
    // A receipt on several routes has a fixture for each; the event in them is the same.
    let ran = trace.jobs.iter().find(|job| {
        let last = job.runs.last();
        last.is_some_and(|run| run.plugin.as_str() != forward::NAME)
    });
    let query = FixtureQuery {
        receipt: trace.receipt.id.to_string(),
        route: ran.map(|job| job.route.to_string()),
    };
    let fixture = console.read::<calls::Fixture>(&visit.visitor.token, &query).await?;
    let unreadable = |error: serde_json::Error| Trouble::bad(format!("the body cannot be shown: {error}"));
    let read: OfFixture = serde_json::from_str(fixture.0.get()).map_err(unreadable)?;
    Ok(read.event.payload.get().to_owned())
}

fn shown(body: &str, receipt: ReceiptId) -> Body {
    let pretty = serde_json::from_str::<serde_json::Value>(body).ok();
    let pretty = pretty.and_then(|value| serde_json::to_string_pretty(&value).ok());
    let text = pretty.as_deref().unwrap_or(body);
    let cut = text.len() > BODY_BYTES_MAX;
    let end = (0..=BODY_BYTES_MAX.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    let note = if cut {
        format!(
            "The first {} of {}.",
            size(BODY_BYTES_MAX as u64),
            size(text.len() as u64)
        )
    } else {
        String::new()
    };
    Body {
        text: lines_shown(text.get(..end.unwrap_or(0)).unwrap_or_default()),
        note,
        whole: format!("{}/body", event_page(receipt)),
    }
}

/// `GET /console/events/{receipt}/body`: all of it, as a file, which no browser shows as a page.
pub(crate) async fn body(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(receipt): Path<String>,
) -> Result<Response, Trouble> {
    let trace = traced(&console, &visit, &receipt).await?;
    let body = body_of(&console, &visit, &trace).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{}.json\"", trace.receipt.id),
        ),
    ];
    Ok((headers, body).into_response())
}
