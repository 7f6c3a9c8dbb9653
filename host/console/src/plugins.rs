//! Plugins and their standing, where each version runs, what is in quarantine, and what budgets have left.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use tollgate_api::budgets::BudgetsQuery;
use tollgate_api::plugins::{PluginHistoryQuery, PluginPath, PluginQuery, PluginVersion, PluginsQuery};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::budget::Per;
use tollgate_core::mask;
use tollgate_core::money::Money;

use crate::Console;
use crate::asked::Trouble;
use crate::page::{Frame, may, show};
use crate::table::{Cell, Part, Table, address};
use crate::visit::Visit;
use crate::words::{lines_shown, number, size};

#[derive(Template)]
#[template(path = "plugins.html")]
struct Plugins {
    frame: Frame,
    quarantined: Table,
    versions: Table,
}

#[derive(Template)]
#[template(path = "plugin.html")]
struct Plugin {
    frame: Frame,
    facts: Vec<(&'static str, String)>,
    standing: Part,
    bound: Table,
    history: Table,
    manifest: String,
}

#[derive(Template)]
#[template(path = "budgets.html")]
struct Budgets {
    frame: Frame,
    table: Table,
}

/// `GET /console/plugins`.
pub(crate) async fn plugins(State(console): State<Arc<Console>>, visit: Visit) -> Result<Response, Trouble> {
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let held = console.read::<calls::Quarantines>(token, &Nothing {}).await?;
    let versions = console.read::<calls::Plugins>(token, &PluginsQuery::default()).await?;
    let mut quarantined = Table::new(
        "versions in quarantine",
        &[
            ("Since", "time"),
            ("Plugin", "main"),
            ("Route", ""),
            ("Faults in a row", "number"),
            ("The last of them", "wide"),
            ("", "act"),
        ],
    );
    let may_lift = may(&visit, Permission::PluginPromote);
    for one in &held {
        let (tenant, route) = (one.tenant.to_string(), one.route.to_string());
        let lift = may_lift
            .then(|| Part::said("Let it run").to(address("/act/lift", &[("tenant", &tenant), ("route", &route)])));
        quarantined.rows.push(vec![
            Part::at(&one.at.to_string(), now).class("time").into(),
            Cell::from(Part::said(one.plugin.to_string()).marked("quarantined")).below(digest(&one.digest.to_string())),
            Cell::from(Part::said(route)).below(Part::said(tenant)),
            Part::said(number(one.faults)).into(),
            Part::told(&one.reason).class("dim").into(),
            Cell::maybe(lift),
        ]);
    }
    let mut table = Table::new(
        "versions of plugins",
        &[
            ("Plugin", "main"),
            ("Version", ""),
            ("Standing", ""),
            ("Runs on", "wide"),
            ("Of", ""),
            ("Size", "number"),
            ("Added", "time"),
        ],
    );
    table.rows = versions.iter().map(|version| row(version, now)).collect();
    Ok(show(&Plugins {
        frame: Frame::of(&visit, "Plugins"),
        quarantined,
        versions: table,
    }))
}

fn row(version: &PluginVersion, now: tollgate_core::time::UnixMillis) -> Vec<Cell> {
    let name = Part::said(version.name.to_string()).to(format!("{}/plugins/{}", crate::ROOT, version.digest));
    let bound = match version.bound.as_slice() {
        [] => Cell::from(Part::said("nothing").class("dim")),
        bound => Cell::of(bound.iter().take(4).map(|place| {
            let stage = if place.stage == "active" {
                String::new()
            } else {
                format!(" ({})", place.stage)
            };
            Part::said(format!("{}/{}{stage}", place.tenant, place.route)).marked(&place.stage)
        })),
    };
    let bound = match version.bound.len() {
        0..=4 => bound,
        many => bound.below(Part::said(format!("and {} more", many - 4))),
    };
    vec![
        Cell::from(name).below(digest(&version.digest.to_string())),
        Part::told(&version.version).into(),
        Part::state(&version.standing.to_string()).into(),
        bound,
        Cell::from(match &version.owner {
            Some(tenant) => Part::said(tenant.to_string()),
            None => Part::said("the operator"),
        })
        .below(Part::told(&version.publisher)),
        Part::said(size(version.component_bytes)).into(),
        Part::at(&version.added_at, now).class("time").into(),
    ]
}

/// The beginning of a digest, as people tell versions apart.
fn digest(digest: &str) -> Part {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    Part::said(hex.get(..12).unwrap_or(hex)).class("code")
}

/// `GET /console/plugins/{digest}`.
pub(crate) async fn plugin(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(plugin): Path<String>,
) -> Result<Response, Trouble> {
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let (path, nothing) = (PluginPath { plugin }, Nothing {});
    let version = console
        .ask::<calls::ShowPlugin>(token, &path, &PluginQuery::default(), &nothing)
        .await?;
    let lines = console
        .ask::<calls::PluginHistory>(token, &path, &PluginHistoryQuery::default(), &nothing)
        .await?;
    let mut bound = Table::new(
        "routes that run it",
        &[("Route", "main"), ("Tenant", ""), ("As", "wide")],
    );
    bound.rows = version
        .bound
        .iter()
        .map(|place| {
            vec![
                Part::said(place.route.to_string()).into(),
                Part::said(place.tenant.to_string()).into(),
                Part::state(&place.stage).into(),
            ]
        })
        .collect();
    let mut history = Table::new(
        "what was done with it",
        &[
            ("Time", "time"),
            ("What", "main"),
            ("By", ""),
            ("Where", ""),
            ("Why", "wide"),
        ],
    );
    for line in &lines {
        let place = match (&line.tenant, &line.route) {
            (Some(tenant), Some(route)) => format!("{tenant}/{route}"),
            (Some(tenant), None) => tenant.to_string(),
            (None, _) => String::new(),
        };
        history.rows.push(vec![
            Part::at(&line.at, now).class("time").into(),
            Part::told(&line.what).into(),
            Part::told(&line.actor).into(),
            Part::said(place).into(),
            Cell::maybe(line.why.as_deref().map(|why| Part::told(why).class("dim"))),
        ]);
    }
    let mut facts = vec![
        ("Digest", version.digest.to_string()),
        ("Publisher", mask::line(&version.publisher, 120)),
        ("Size", size(version.component_bytes)),
        (
            "Added",
            format!("{} by {}", version.added_at, mask::line(&version.added_by, 120)),
        ),
    ];
    facts.push((
        "Signature",
        match &version.signature {
            Some(signature) => format!("names {} with the key {}", signature.publisher, signature.key_id),
            None => "nobody signed it".to_owned(),
        },
    ));
    let page = Plugin {
        frame: Frame::of(&visit, format!("{} {}", version.name, mask::line(&version.version, 60))),
        facts,
        standing: Part::state(&version.standing.to_string()),
        bound,
        history,
        manifest: lines_shown(&serde_json::to_string_pretty(&version.manifest).unwrap_or_default()),
    };
    Ok(show(&page))
}

/// `GET /console/budgets`.
pub(crate) async fn budgets(State(console): State<Arc<Console>>, visit: Visit) -> Result<Response, Trouble> {
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let found = console.read::<calls::Budgets>(token, &BudgetsQuery::default()).await?;
    let mut table = Table::new(
        "budgets",
        &[
            ("Route", "main"),
            ("What", ""),
            ("Whose", "wide"),
            ("Spent", "number"),
            ("Left", "number"),
            ("Of", "number"),
            ("Ends", "time"),
        ],
    );
    for budget in &found {
        let much = |amount: i64| match budget.currency {
            Some(currency) => Money::new(amount, currency).map_or_else(|| number(amount), |money| money.to_string()),
            None => number(amount),
        };
        let what = format!("{} per {}", budget.kind.as_str(), budget.window.as_str());
        let route = || Cell::from(Part::said(budget.route.to_string())).below(Part::said(budget.tenant.to_string()));
        for spent in &budget.spent {
            let whose = match (&spent.account, budget.per) {
                (Some(account), _) => Part::told(account).class("code"),
                (None, Per::Account) => Part::said("each account").class("dim"),
                (None, Per::Route) => Part::said("the route").class("dim"),
            };
            let left = Part::said(much(spent.left));
            table.rows.push(vec![
                route(),
                Part::said(&what).into(),
                whose.into(),
                Part::said(much(spent.spent)).into(),
                if spent.left <= 0 {
                    left.marked("held").into()
                } else {
                    left.into()
                },
                Part::said(much(budget.most)).into(),
                Part::at(&budget.ends_at.to_string(), now).class("time").into(),
            ]);
        }
        if budget.spent.is_empty() {
            table.rows.push(vec![
                route(),
                Part::said(&what).into(),
                Part::said("nobody yet").class("dim").into(),
                Part::said(much(0)).into(),
                Part::said(much(budget.most)).into(),
                Part::said(much(budget.most)).into(),
                Part::at(&budget.ends_at.to_string(), now).class("time").into(),
            ]);
        }
    }
    Ok(show(&Budgets {
        frame: Frame::of(&visit, "Budgets"),
        table,
    }))
}
