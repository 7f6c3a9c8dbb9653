//! Issues: failures that are one failure, with what to do first.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tollgate_api::issues::{IssueView, IssuesQuery};
use tollgate_api::{calls, read_query};
use tollgate_core::access::Permission;
use tollgate_core::issue::IssueState;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::sheets::{Empty, Narrower, Sheets};
use crate::table::{Cell, Part, Table, address};
use crate::visit::Visit;
use crate::words::number;

/// Rows of the page, unless its address says another number.
const ROWS: u64 = 100;

/// `GET /console/issues`.
pub(crate) async fn issues(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let query = read_query::<calls::Issues>(uri.query().unwrap_or_default()).map_err(Trouble::bad)?;
    let query = IssuesQuery {
        limit: query.limit.or(Some(ROWS)),
        ..query
    };
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let found = console.read::<calls::Issues>(token, &query).await?;
    let tenant = query.tenant.as_deref().unwrap_or_default();
    let narrower = |name: &str, pairs: &[(&str, &str)], is_here| Narrower {
        name: name.to_owned(),
        count: String::new(),
        href: address("/issues", &[&[("tenant", tenant)], pairs].concat()),
        is_here,
    };
    let mut kinds = vec![narrower("those that wait", &[], query.state.is_none() && !query.all)];
    for state in IssueState::ALL {
        let word = state.as_str();
        kinds.push(narrower(word, &[("state", word)], query.state.as_deref() == Some(word)));
    }
    kinds.push(narrower("all", &[("all", "true")], query.all));
    let mut table = Table::new(
        "issues",
        &[
            ("Failed last", "time"),
            ("What fails", "main"),
            ("Times", "number"),
            ("State", ""),
            ("What to do first", "wide"),
            ("", "act"),
        ],
    );
    let (of_all, may_change) = (visit.visitor.who.tenant.is_none(), may(&visit, Permission::IssueWrite));
    table.rows = found.iter().map(|issue| row(issue, of_all, may_change, now)).collect();
    let is_narrowed = query.state.is_some();
    let empty = match is_narrowed {
        true => Empty {
            says: "No issue is in this state.",
            then: "",
            command: "",
        },
        false => Empty {
            says: "Nothing was given up.",
            then: "What fails is tried again first, and stands under Undelivered meanwhile. What is given up is grouped here by what failed, where and how, with what to do first.",
            command: "",
        },
    };
    let about = "Failures that are one failure: of one kind, at one place, with one code.";
    Ok(show(&Sheets {
        kinds,
        ..Sheets::one(Frame::of(&visit, "Issues"), about, table, empty)
    }))
}

/// What fails, leading to the failures.
pub(crate) fn what(issue: &IssueView) -> Part {
    let what = match issue.kind.as_str() {
        "dead-job" => format!("Route {}: {}", issue.place, issue.code),
        "dead-delivery" => match issue.code.as_str() {
            "none" => format!("To {}: no answer", issue.place),
            code => format!("To {}: answered {code}", issue.place),
        },
        kind => format!("{kind} {}: {}", issue.place, issue.code),
    };
    Part::told(&what).to(address(&format!("/{}", issue.list), &[("filter", &issue.filter)]))
}

fn row(issue: &IssueView, of_all: bool, may_change: bool, now: UnixMillis) -> Vec<Cell> {
    let id = issue.issue.to_string();
    let below = match of_all {
        true => format!("{id}, {}", issue.tenant),
        false => id.clone(),
    };
    let state = Cell::from(Part::told(&issue.state).marked(mark(&issue.state)));
    let state = match (issue.changed_by.as_str(), issue.why.as_str()) {
        ("", _) => state,
        (by, "") => state.below(Part::told(&format!("by {by}"))),
        (by, why) => state.below(Part::told(&format!("by {by}: {why}"))),
    };
    let change = || Part::said("Change").to(address("/act/issue", &[("issue", &id)]));
    vec![
        Part::at(&issue.last_seen, now).class("time").into(),
        Cell::from(what(issue)).below(Part::said(below)),
        Cell::from(Part::said(number(issue.count))),
        state,
        Cell::from(Part::told(&issue.first_action)).below(Part::told(&issue.reason)),
        Cell::maybe(may_change.then(change)),
    ]
}

/// The word whose shape stands beside a state of an issue.
fn mark(state: &str) -> &'static str {
    match state {
        "open" => "dead",
        "acknowledged" => "waiting",
        "resolved" => "done",
        _ => "none",
    }
}
