//! Bulk actions: those that were begun, one with its progress, and where one begins.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use tollgate_api::bulk::{BulkPath, BulkView, BulksQuery};
use tollgate_api::{Nothing, calls, read_query};
use tollgate_core::access::Permission;
use tollgate_core::bulk::BulkAction;
use tollgate_core::filter::Listing;
use tollgate_core::ids::BulkId;
use tollgate_core::mask;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::sheets::{Empty, Sheets};
use crate::table::{Cell, Part, Table, address};
use crate::visit::Visit;
use crate::words::{instant, number};

/// Rows of the page, unless its address says another number.
const ROWS: u64 = 50;

/// `GET /console/bulk`.
pub(crate) async fn bulks(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let query = read_query::<calls::Bulks>(uri.query().unwrap_or_default()).map_err(Trouble::bad)?;
    let query = BulksQuery {
        limit: query.limit.or(Some(ROWS)),
        ..query
    };
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let found = console.read::<calls::Bulks>(token, &query).await?;
    let mut table = Table::new(
        "bulk actions",
        &[
            ("Began", "time"),
            ("Action", "main"),
            ("Filter", "wide"),
            ("Done", "number"),
            ("State", ""),
            ("By", ""),
        ],
    );
    table.rows = found.iter().map(|bulk| row(bulk, now)).collect();
    let may_begin = may(&visit, Permission::BulkWrite);
    Ok(show(&Sheets::one(
        Frame::of(&visit, "Bulk actions"),
        "One thing done to everything that fits a filter, in steps that nothing does twice.",
        table,
        Empty {
            says: "None was begun.",
            then: match may_begin {
                true => {
                    "One begins at a list: narrow Events, Jobs or Deliveries by a filter, and choose Do one thing to all of these."
                }
                false => "",
            },
            command: "",
        },
    )))
}

fn row(bulk: &BulkView, now: UnixMillis) -> Vec<Cell> {
    let page = address(&format!("/bulk/{}", bulk.bulk), &[]);
    let whose = bulk.tenant.as_ref().map_or("all tenants", |tenant| tenant.as_str());
    vec![
        Part::at(&bulk.started_at, now).class("time").into(),
        Cell::from(Part::said(format!("{} {}", bulk.action, bulk.of)).to(page))
            .below(Part::said(format!("{}, {whose}", bulk.bulk))),
        Part::told(&bulk.filter).class("code").into(),
        Part::said(format!("{} of {}", number(bulk.done), number(bulk.expected))).into(),
        state(bulk).into(),
        Cell::from(Part::told(&bulk.actor)).below(Part::told(&bulk.why)),
    ]
}

fn state(bulk: &BulkView) -> Part {
    Part::told(&bulk.state).marked(match bulk.state.as_str() {
        "running" => "waiting",
        "done" => "done",
        _ => "held",
    })
}

#[derive(Template)]
#[template(path = "bulk.html")]
struct BulkPage {
    frame: Frame,
    state: Part,
    is_running: bool,
    filter: String,
    says: String,
    looked: u64,
    expected: u64,
    facts: Vec<(&'static str, String)>,
    here: String,
    abort: Option<String>,
}

/// `GET /console/bulk/{bulk}`.
pub(crate) async fn bulk(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(bulk): Path<String>,
) -> Result<Response, Trouble> {
    let bulk: BulkId = bulk
        .parse()
        .map_err(|_| Trouble::not_found("there is no such bulk action"))?;
    let (nothing, now) = (Nothing {}, (console.host.now)());
    let found = console
        .ask::<calls::ShowBulk>(&visit.visitor.token, &BulkPath { bulk }, &nothing, &nothing)
        .await?;
    let id = found.bulk.to_string();
    let is_running = found.state == "running";
    // More may have fitted than one count looks at.
    let expected = found.expected.max(found.done + found.passed_over);
    let whose = found.tenant.as_ref().map_or("all tenants", |tenant| tenant.as_str());
    let mut facts = vec![
        ("Done", number(found.done)),
        ("Fitted at first", number(found.expected)),
        ("Passed over", number(found.passed_over)),
        ("Looked at", number(found.looked_at)),
        ("Of", whose.to_owned()),
        ("Began", instant(&found.started_at, now)),
        ("By", mask::line(&found.actor, 100)),
        ("Why", mask::line(&found.why, 600)),
    ];
    if let Some(ended) = &found.ended_at {
        facts.push(("Ended", instant(ended, now)));
    }
    if let Some(by) = &found.ended_by {
        let why = found.ended_why.as_deref().unwrap_or_default();
        facts.push(("Ended by", mask::line(&format!("{by}: {why}"), 600)));
    }
    Ok(show(&BulkPage {
        frame: Frame::of(&visit, format!("{} {}", found.action, found.of)),
        state: state(&found),
        is_running,
        filter: mask::shown(&found.filter).into_owned(),
        says: match found.passed_over {
            0 => format!("Done to {} of {}", number(found.done), number(expected)),
            left => format!(
                "Done to {} of {}, {} left as they are",
                number(found.done),
                number(expected),
                number(left)
            ),
        },
        looked: found.done + found.passed_over,
        expected,
        facts,
        here: address(&format!("/bulk/{id}"), &[]),
        abort: (is_running && may(&visit, Permission::BulkWrite)).then(|| address("/act/abort", &[("bulk", &id)])),
    }))
}

/// What may be done to all of a list by somebody: the action, and what people call it.
pub(crate) fn actions(visit: &Visit, list: Listing) -> Vec<(BulkAction, &'static str)> {
    if !may(visit, Permission::BulkWrite) {
        return Vec::new();
    }
    let says = |action| match action {
        BulkAction::Replay => (Permission::WorkReplay, "run these jobs again"),
        BulkAction::Redeliver => (Permission::DeliveryResend, "send these deliveries again"),
        BulkAction::Route => (
            Permission::WorkReplay,
            "route these events again, for jobs that they lack",
        ),
        BulkAction::Dismiss => (Permission::ReviewWrite, "dismiss what of these is held"),
        BulkAction::Map => (Permission::ReviewWrite, "give the held of these a status"),
    };
    let of_list = BulkAction::ALL
        .into_iter()
        .filter(|action| action.lists().contains(&list));
    of_list
        .map(|action| (action, says(action)))
        .filter(|(_, (permission, _))| may(visit, *permission))
        .map(|(action, (_, says))| (action, says))
        .collect()
}
