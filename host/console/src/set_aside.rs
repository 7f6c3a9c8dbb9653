//! What waits for a person: what was held or is in conflict, and what was given up.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tollgate_api::dead_letters::{DeadLetter, DeadLetterQuery, DeadWork};
use tollgate_api::set_aside::{HeldCountsQuery, HeldQuery, SetAside, SetAsideKind};
use tollgate_api::{calls, read_query};
use tollgate_core::access::Permission;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::sheets::Narrower;
use crate::table::{Cell, Part, Table, address, event_page};
use crate::timeline::reviewed;
use crate::visit::Visit;
use crate::words::number;

/// Rows of a page, unless its address says another number.
const ROWS: u64 = 50;

#[derive(Template)]
#[template(path = "held.html")]
struct Held {
    frame: Frame,
    kinds: Vec<Narrower>,
    about: &'static str,
    table: Table,
    next: Option<String>,
}

/// `GET /console/held`.
pub(crate) async fn held(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let query = read_query::<calls::Held>(uri.query().unwrap_or_default()).map_err(Trouble::bad)?;
    let query = HeldQuery {
        limit: query.limit.or(Some(ROWS)),
        ..query
    };
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let found = console.read::<calls::Held>(token, &query).await?;
    let counts = HeldCountsQuery {
        tenant: query.tenant.clone(),
    };
    let counts = console.read::<calls::HeldCounts>(token, &counts).await?;
    let of = |fits: &dyn Fn(SetAsideKind) -> bool| {
        let such = || counts.iter().filter(|count| fits(count.kind));
        let more = if such().any(|count| count.at_least) { "+" } else { "" };
        format!("{}{more}", number(such().map(|count| count.count).sum::<u64>()))
    };
    let mut kinds = vec![Narrower {
        name: "all that wait".to_owned(),
        count: of(&SetAsideKind::waits),
        href: address("/held", &[]),
        is_here: query.kind.is_none(),
    }];
    for kind in SetAsideKind::ALL {
        let word = kind.as_str();
        kinds.push(Narrower {
            name: word.replace('-', " "),
            count: of(&|found| found == kind),
            href: address("/held", &[("kind", word)]),
            is_here: query.kind.as_deref() == Some(word),
        });
    }
    let frame = Frame::of(&visit, "Held");
    let mut table = Table::new(
        "what is set aside",
        &[
            ("Since", "time"),
            ("Event", "main"),
            ("Source", ""),
            ("Why", ""),
            ("Reason", "wide"),
            ("", "act"),
        ],
    );
    let may_decide = may(&visit, Permission::ReviewWrite);
    table.rows = found.iter().map(|one| held_row(one, may_decide, now)).collect();
    let is_full = found.len() as u64 >= query.limit.unwrap_or(ROWS);
    let next = found.last().filter(|_| is_full).map(|last| {
        address(
            "/held",
            &[("kind", query.kind.as_deref().unwrap_or_default()), ("after", &last.id)],
        )
    });
    let kind = query.kind.as_deref().and_then(|kind| kind.parse().ok());
    Ok(show(&Held {
        frame,
        kinds,
        about: about(kind),
        table,
        next,
    }))
}

fn about(kind: Option<SetAsideKind>) -> &'static str {
    match kind {
        None => "Events and jobs without the effect that they would have had, until somebody decides.",
        Some(SetAsideKind::HeldReceipt) => {
            "Events whose status is not known here, or contradicts what is known of their subject."
        }
        Some(SetAsideKind::HeldJob) => "Jobs that their plugins held.",
        Some(SetAsideKind::Conflict) => "Deliveries with the id of an event and other bytes.",
        Some(SetAsideKind::SuspectedReplay) => "Deliveries with the signed message of an event under another name.",
        Some(SetAsideKind::LedgerConflict) => "Proposals whose operation is recorded with other content.",
        Some(SetAsideKind::Superseded) => "Events that came late. Nobody is asked.",
        Some(SetAsideKind::NoRoute) => "Events that no route took. Nobody is asked.",
    }
}

fn held_row(one: &SetAside, may_decide: bool, now: UnixMillis) -> Vec<Cell> {
    let reason = Cell::from(Part::told(&one.reason).class("dim"));
    let place = match &one.route {
        Some(route) => format!("{}, route {route}", one.tenant),
        None => one.tenant.to_string(),
    };
    let decide = (may_decide && one.kind.waits() && one.review.is_none())
        .then(|| Part::said("Decide").to(address("/act/review", &[("id", &one.id)])));
    vec![
        Part::at(&one.since, now).class("time").into(),
        Cell::from(Part::told(&one.event_type).to(event_page(one.receipt)))
            .below(Part::told(&one.event_id).class("code")),
        Cell::from(Part::said(one.source.to_string())).below(Part::said(place)),
        Cell::from(Part::said(one.kind.as_str().replace('-', " ")).marked(one.kind.as_str()))
            .below(Part::said(&one.id).class("code")),
        match &one.review {
            Some(review) => reason.below(Part::said(reviewed(&review.reviewed))),
            None => reason,
        },
        Cell::maybe(decide),
    ]
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLetters {
    frame: Frame,
    query: DeadLetterQuery,
    table: Table,
    next: Option<String>,
    /// Where all that fit are replayed.
    replay: Option<String>,
    is_narrowed: bool,
}

/// `GET /console/dead-letters`.
pub(crate) async fn dead_letters(
    State(console): State<Arc<Console>>,
    visit: Visit,
    uri: Uri,
) -> Result<Response, Trouble> {
    let query = read_query::<calls::DeadLetters>(uri.query().unwrap_or_default()).map_err(Trouble::bad)?;
    // A form sends its empty fields as well.
    let given = |field: Option<String>| field.filter(|text| !text.trim().is_empty());
    let query = DeadLetterQuery {
        tenant: given(query.tenant),
        source: given(query.source),
        route: given(query.route),
        destination: given(query.destination),
        since: given(query.since),
        reason: given(query.reason),
        limit: query.limit.or(Some(ROWS)),
        ..query
    };
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let found = console.read::<calls::DeadLetters>(token, &query).await?;
    let frame = Frame::of(&visit, "Dead letters");
    let may_replay = may(&visit, Permission::WorkReplay);
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let narrowing = [
        ("tenant", text(&query.tenant)),
        ("source", text(&query.source)),
        ("route", text(&query.route)),
        ("destination", text(&query.destination)),
        ("since", text(&query.since)),
        ("reason", text(&query.reason)),
    ];
    let pairs: Vec<_> = narrowing.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut table = Table::new(
        "dead letters",
        &[
            ("Died", "time"),
            ("Event", "main"),
            ("Source", ""),
            ("What", ""),
            ("Tries", "number"),
            ("Reason", "wide"),
            ("", "act"),
        ],
    );
    table.rows = found.iter().map(|letter| dead_row(letter, may_replay, now)).collect();
    let is_full = found.len() as u64 >= query.limit.unwrap_or(ROWS);
    let next = found.last().filter(|_| is_full).map(|last| {
        let after = last.id.to_string();
        let mut pairs = pairs.clone();
        pairs.push(("after", &after));
        address("/dead-letters", &pairs)
    });
    let is_open = found.iter().any(|letter| letter.replayed_at.is_none());
    let mut all = pairs.clone();
    all.push(("dead_letters", "all"));
    Ok(show(&DeadLetters {
        replay: (may_replay && is_open).then(|| address("/act/replay", &all)),
        is_narrowed: narrowing.iter().any(|(_, value)| !value.is_empty()),
        frame,
        table,
        next,
        query,
    }))
}

fn dead_row(letter: &DeadLetter, may_replay: bool, now: UnixMillis) -> Vec<Cell> {
    let id = letter.id.to_string();
    let (what, below) = match &letter.work {
        DeadWork::Job { job, route } => (format!("Route {route}"), job.to_string()),
        DeadWork::Delivery { entry, destination, .. } => (format!("To {destination}"), entry.to_string()),
    };
    let act = (may_replay && letter.replayed_at.is_none())
        .then(|| Part::said("Replay").to(address("/act/replay", &[("dead_letter", &id)])));
    let reason = Cell::from(Part::told(&letter.reason).class("dim"));
    vec![
        Part::at(&letter.died_at, now).class("time").into(),
        Cell::from(Part::told(&letter.event_type).to(event_page(letter.receipt)))
            .below(Part::told(&letter.event_id).class("code")),
        Cell::from(Part::said(letter.source.to_string())).below(Part::said(letter.tenant.to_string())),
        Cell::from(Part::said(what).marked(if letter.replayed_at.is_some() { "none" } else { "dead" }))
            .below(Part::said(format!("{id}, {below}")).class("code")),
        Part::said(number(letter.attempts)).into(),
        match (&letter.replayed_at, &letter.answer) {
            (Some(at), _) => reason.below(Part::said(format!("replayed {at}"))),
            (None, Some(answer)) => reason.below(Part::told(&format!("it answered: {answer}"))),
            (None, None) => reason,
        },
        Cell::maybe(act),
    ]
}
