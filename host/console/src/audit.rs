//! What people changed and why, and how far the chain of receipts goes.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tollgate_api::audit::{AuditQuery, ChainView};
use tollgate_api::plugins::RegistryLine;
use tollgate_api::{calls, read_query};
use tollgate_core::mask;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, show};
use crate::table::{Cell, Part, Table, address, route_page, segment};
use crate::visit::Visit;
use crate::words::{counted, short};

/// The most changes that the page shows, where its address asks for more than are shown at first.
const ROWS_MAX: u64 = 1000;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    /// Whether its reader says whose changes are meant.
    is_of_all: bool,
    tenant: String,
    changes: Table,
    /// Where more of them are, where there may be more.
    more: Option<String>,
    chain: Option<Chain>,
}

struct Chain {
    receipts: String,
    head: String,
}

/// `GET /console/audit`.
pub(crate) async fn audit(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let query = read_query::<calls::Audit>(uri.query().unwrap_or_default()).map_err(Trouble::bad)?;
    let query = AuditQuery {
        tenant: query.tenant.filter(|tenant| !tenant.is_empty()),
        ..query
    };
    let rows_max = query.clone().checked().map_err(Trouble::bad)?.rows_max;
    let found = console.read::<calls::Audit>(&visit.visitor.token, &query).await?;
    let (tenant, now) = (query.tenant.unwrap_or_default(), (console.host.now)());
    let mut changes = Table::new(
        "what people changed",
        &[
            ("Time", "time"),
            ("What", "main"),
            ("Became", "wide"),
            ("By", ""),
            ("Why", "wide"),
        ],
    );
    changes.rows = found.changes.iter().map(|line| row(line, now)).collect();
    let is_full = found.changes.len() >= rows_max && (rows_max as u64) < ROWS_MAX;
    let more = [("tenant", tenant.as_str()), ("limit", &ROWS_MAX.to_string())];
    Ok(show(&AuditPage {
        frame: Frame::of(&visit, "Audit"),
        is_of_all: visit.visitor.who.tenant.is_none(),
        more: is_full.then(|| address("/audit", &more)),
        tenant,
        changes,
        chain: found.chain.map(|ChainView { receipts, head }| Chain {
            receipts: counted(receipts, "receipt"),
            head: mask::line(&head, 100),
        }),
    }))
}

fn row(line: &RegistryLine, now: UnixMillis) -> Vec<Cell> {
    let tenant = line.tenant.as_ref().map(ToString::to_string).unwrap_or_default();
    let what = Part::told(&line.what);
    let (what, of) = match (&line.route, &line.plugin) {
        (Some(route), _) => (
            what.to(route_page(&tenant, route.as_str())),
            format!("route {route} of {tenant}"),
        ),
        (None, Some(plugin)) => {
            let page = line
                .digest
                .map(|digest| address(&format!("/plugins/{}", segment(&digest.to_string())), &[]));
            let what = match page {
                Some(page) => what.to(page),
                None => what,
            };
            (what, format!("plugin {plugin}"))
        }
        (None, None) if tenant.is_empty() => (what, "the whole host".to_owned()),
        (None, None) => (what, tenant),
    };
    let became = line.to.as_deref().map(|to| {
        // What was done to an event begins with what it was done to.
        let first = to.split(' ').next().unwrap_or_default();
        let is_id = ["rcpt_", "job_", "dlv_", "act_", "out_"]
            .iter()
            .any(|kind| first.starts_with(kind));
        let became = Part::told(&shortened(to));
        let became = Cell::from(match is_id {
            true => became.to(address("/find", &[("id", first)])),
            false => became,
        });
        match &line.from {
            Some(from) => became.below(Part::told(&format!("was {}", shortened(from)))),
            None => became,
        }
    });
    vec![
        Part::at(&line.at, now).class("time").into(),
        Cell::from(what).below(Part::said(of)),
        became.unwrap_or_default(),
        Part::told(&line.actor).into(),
        Cell::maybe(line.why.as_deref().map(|why| Part::told(why).class("dim"))),
    ]
}

/// A text with the beginnings of the digests in it.
fn shortened(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.starts_with("sha256:") {
        true => short(word),
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}
