//! What people paused, and what of a tenant's could be.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use tollgate_api::pauses::{Pause, Place};
use tollgate_api::plugins::TenantPath;
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::ids::TenantName;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::settings::tenant;
use crate::sheets::{Empty, Sheet, Sheets};
use crate::table::{Cell, Part, Table, address};
use crate::visit::{Visit, asked};

/// `GET /console/pauses`.
pub(crate) async fn pauses(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let token = &visit.visitor.token;
    let may_pause = may(&visit, Permission::PauseWrite);
    let tenant = tenant(&visit, &asked(&uri))?;
    let mut paused = console.read::<calls::Pauses>(token, &Nothing {}).await?;
    if let Some(tenant) = &tenant {
        paused.retain(|pause| pause.tenant == *tenant);
    }
    let now = (console.host.now)();
    let mut table = Table::new(
        "what is paused",
        &[
            ("Since", "time"),
            ("Paused", "main"),
            ("By", ""),
            ("Why", "wide"),
            ("", "act"),
        ],
    );
    table.rows = paused
        .iter()
        .map(|pause| {
            let name = Part::said(format!("{} {}", kind(&pause.place), pause.place.name())).marked("held");
            let resume = || Part::said("Let it go on").to(act("resume", &pause.tenant, &pause.place));
            vec![
                Part::at(&pause.at.to_string(), now).class("time").into(),
                Cell::from(name).below(Part::said(pause.tenant.to_string())),
                Part::told(&pause.actor).into(),
                Part::told(&pause.why).class("dim").into(),
                Cell::maybe(may_pause.then(resume)),
            ]
        })
        .collect();
    let mut sheets = vec![Sheet {
        title: "",
        about: "",
        table,
        empty: Empty {
            says: "Nothing is paused.",
            then: "A route or a destination that is paused begins nothing until it is resumed; what comes in for it waits.",
            command: "",
        },
        add: None,
    }];
    if let Some(tenant) = &tenant {
        sheets.push(running(&console, &visit, tenant, &paused, may_pause).await?);
    }
    Ok(show(&Sheets {
        frame: Frame::of(&visit, "Pauses"),
        about: "Routes and destinations that begin nothing because a person said so. What could be paused stands with its tenant.",
        kinds: Vec::new(),
        problems: Vec::new(),
        whose: tenant.is_none().then_some("/console/pauses"),
        sheets,
    }))
}

fn kind(place: &Place) -> &'static str {
    match place {
        Place::Route(_) => "Route",
        Place::Destination(_) => "Destination",
    }
}

fn act(what: &str, tenant: &TenantName, place: &Place) -> String {
    let named = [("tenant", tenant.as_str()), (place.kind(), place.name())];
    address(&format!("/act/{what}"), &named)
}

/// What runs, and could be paused.
async fn running(
    console: &Console,
    visit: &Visit,
    tenant: &TenantName,
    paused: &[Pause],
    may_pause: bool,
) -> Result<Sheet, Trouble> {
    let path = TenantPath { tenant: tenant.clone() };
    let routes = console
        .ask::<calls::Routes>(&visit.visitor.token, &path, &Nothing {}, &Nothing {})
        .await?;
    let destinations: BTreeSet<_> = routes.iter().flat_map(|route| route.destinations.clone()).collect();
    let places = routes
        .iter()
        .map(|route| Place::Route(route.route.clone()))
        .chain(destinations.into_iter().map(Place::Destination));
    let mut table = Table::new("what runs", &[("Runs", "main"), ("Leads to", "wide"), ("", "act")]);
    for place in places.filter(|place| paused.iter().all(|pause| pause.place != *place)) {
        let leads_to = routes.iter().find(|route| Place::Route(route.route.clone()) == place);
        let leads_to = leads_to.map(|route| {
            let names: Vec<_> = route.destinations.iter().map(ToString::to_string).collect();
            match names.as_slice() {
                [] => "the ledger".to_owned(),
                names => names.join(", "),
            }
        });
        let pause = || Part::said("Pause").to(act("pause", tenant, &place));
        table.rows.push(vec![
            Part::said(format!("{} {}", kind(&place), place.name()))
                .marked("done")
                .into(),
            Cell::maybe(leads_to.map(|names| Part::told(&names))),
            Cell::maybe(may_pause.then(pause)),
        ]);
    }
    Ok(Sheet {
        title: "What runs",
        about: "",
        table,
        empty: Empty {
            says: "No route runs.",
            then: "",
            command: "",
        },
        add: None,
    })
}
