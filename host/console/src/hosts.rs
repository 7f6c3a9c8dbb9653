//! The hosts that share the store, and who of them claims work.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use tollgate_api::hosts::{HostState, HostView};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::sheets::{Empty, Sheets};
use crate::table::{Cell, Part, Table, address};
use crate::visit::Visit;
use crate::words::{counted, instant, span};

/// `GET /console/hosts`.
pub(crate) async fn hosts(State(console): State<Arc<Console>>, visit: Visit) -> Result<Response, Trouble> {
    let now = (console.host.now)();
    let hosts = console.read::<calls::Hosts>(&visit.visitor.token, &Nothing {}).await?;
    // What has its store alone knows of itself, and nobody would take its work over.
    let is_alone = matches!(&hosts[..], [only] if only.jobs.is_none());
    let may_drain = may(&visit, Permission::HostWrite) && !is_alone;
    let mut table = Table::new(
        "hosts",
        &[
            ("Seen", "time"),
            ("Host", "main"),
            ("State", ""),
            ("Holds", ""),
            ("Runs", "wide"),
            ("", "act"),
        ],
    );
    table.rows = hosts.iter().map(|host| row(host, may_drain, now)).collect();
    let mut configurations: Vec<_> = hosts
        .iter()
        .filter(|host| host.state == HostState::Running && !host.configuration.is_empty())
        .map(|host| &host.configuration)
        .collect();
    configurations.sort();
    configurations.dedup();
    let mut problems = Vec::new();
    if configurations.len() > 1 {
        problems.push("Their configurations differ: the tenants' files are not the same on all of them.".to_owned());
    }
    let about = match is_alone {
        true => "One host: it has its store alone.",
        false => "Processes that share the store. What one of them holds, another takes over when it is gone.",
    };
    let empty = Empty {
        says: "No host has had this store open yet.",
        then: "",
        command: "",
    };
    Ok(show(&Sheets {
        problems,
        ..Sheets::one(Frame::of(&visit, "Hosts"), about, table, empty)
    }))
}

fn row(host: &HostView, may_drain: bool, now: UnixMillis) -> Vec<Cell> {
    let (word, mark) = match (host.state, &host.drain) {
        (HostState::Running, None) => ("running", "done"),
        (HostState::Running, Some(_)) if host.is_drained() => ("drained", "held"),
        (HostState::Running, Some(_)) => ("draining", "held"),
        (HostState::Gone, _) => ("gone", "dead"),
        (HostState::Stopped, _) => ("stopped", "none"),
    };
    let state = Cell::from(Part::said(word).marked(mark));
    let state = match &host.drain {
        Some(drain) => state.below(Part::told(&format!("by {}: {}", drain.by, drain.why))),
        None => state,
    };
    let holds = match (host.jobs, host.deliveries) {
        (Some(jobs), Some(1)) => format!("{}, 1 delivery", counted(jobs, "job")),
        (Some(jobs), Some(deliveries)) => format!("{}, {}", counted(jobs, "job"), counted(deliveries, "delivery")),
        _ => String::new(),
    };
    let name = host.name.as_str();
    let act = match (&host.drain, host.state) {
        (Some(_), _) => Some(Part::said("Let it work").to(address("/act/undrain", &[("host", name)]))),
        (None, HostState::Running) => Some(Part::said("Drain").to(address("/act/drain", &[("host", name)]))),
        (None, _) => None,
    };
    let runs = match host.configuration.as_str() {
        "" => format!("Tollgate {}", host.version),
        configuration => format!("Tollgate {}, configuration {configuration}", host.version),
    };
    vec![
        Cell::from(Part::at(&host.seen_at.to_string(), now).class("time"))
            .below(Part::said(format!("{} ago", span(host.seen_ms / 1000)))),
        Cell::from(Part::said(name)).below(Part::told(&host.process).class("code")),
        state,
        Cell::maybe((!holds.is_empty()).then(|| Part::said(holds))),
        Cell::from(Part::told(&runs)).below(Part::said(format!(
            "since {}",
            instant(&host.started_at.to_string(), now)
        ))),
        Cell::maybe(act.filter(|_| may_drain)),
    ]
}
