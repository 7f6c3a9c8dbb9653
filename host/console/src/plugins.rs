//! Plugins and their standing, where each version runs, what is in quarantine, and what budgets have left.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use tollgate_api::budgets::{BudgetView, BudgetsQuery};
use tollgate_api::plugins::{PluginHistoryQuery, PluginPath, PluginQuery, PluginVersion, PluginsQuery, RoutePath};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::action::ActionKind;
use tollgate_core::budget::Per;
use tollgate_core::ids::{RouteName, TenantName};
use tollgate_core::mask;
use tollgate_core::money::Money;
use tollgate_core::registry::Standing;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::grants;
use crate::page::{Frame, may, show};
use crate::table::{Cell, Part, Table, address, route_page};
use crate::visit::{Visit, asked, field};
use crate::words::{lines_shown, number, short, size};

/// Routes that a version's page lists.
const ROUTES_SHOWN: usize = 20;

#[derive(Template)]
#[template(path = "plugins.html")]
struct Plugins {
    frame: Frame,
    quarantined: Table,
    versions: Table,
    may_upload: bool,
}

#[derive(Template)]
#[template(path = "plugin.html")]
struct Plugin {
    frame: Frame,
    facts: Vec<(&'static str, String)>,
    description: String,
    standing: Part,
    /// It was handed in just now.
    is_new: bool,
    /// What it asks for, and what routes allow it.
    asks: Vec<(&'static str, String)>,
    granted: Table,
    /// Routes that run a version of this plugin.
    bound: Table,
    acts: Vec<Part>,
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
        may_upload: may(&visit, Permission::PluginUpload),
    }))
}

fn row(version: &PluginVersion, now: UnixMillis) -> Vec<Cell> {
    let name = Part::said(version.name.to_string()).to(format!("{}/plugins/{}", crate::ROOT, version.digest));
    let bound = match version.bound.as_slice() {
        [] => Cell::from(Part::said("nothing").class("dim")),
        bound => Cell::of(bound.iter().take(4).map(|place| {
            let stage = if place.stage == "active" {
                String::new()
            } else {
                format!(" ({})", place.stage)
            };
            let page = route_page(place.tenant.as_str(), place.route.as_str());
            Part::said(format!("{}/{}{stage}", place.tenant, place.route))
                .marked(&place.stage)
                .to(page)
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
    Part::said(short(digest)).class("code")
}

/// `GET /console/plugins/{digest}`.
pub(crate) async fn plugin(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(plugin): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let (path, nothing) = (PluginPath { plugin }, Nothing {});
    let version = console
        .ask::<calls::ShowPlugin>(token, &path, &PluginQuery::default(), &nothing)
        .await?;
    let lines = console
        .ask::<calls::PluginHistory>(token, &path, &PluginHistoryQuery::default(), &nothing)
        .await?;
    let all = PluginsQuery {
        tenant: None,
        name: Some(version.name.to_string()),
    };
    let others = console.read::<calls::Plugins>(token, &all).await?;
    let (bound, granted) = routes_of(&console, &visit, &version, &others).await?;
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
    let manifest = version.manifest.clone();
    let page = Plugin {
        frame: Frame::of(&visit, format!("{} {}", version.name, mask::line(&version.version, 60))),
        description: mask::line(manifest["description"].as_str().unwrap_or_default(), 600),
        is_new: field(&asked(&uri), "uploaded") == "1",
        asks: asks_for(&manifest),
        granted,
        acts: acts(&visit, &version),
        facts,
        standing: Part::state(&version.standing.to_string()),
        bound,
        history,
        manifest: lines_shown(&serde_json::to_string_pretty(&version.manifest).unwrap_or_default()),
    };
    Ok(show(&page))
}

/// What can be done with a version as a whole.
fn acts(visit: &Visit, version: &PluginVersion) -> Vec<Part> {
    if !may(visit, Permission::PluginPromote) {
        return Vec::new();
    }
    let digest = version.digest.to_string();
    let act = |name: &str, what: &str| Part::said(name).to(address(&format!("/bring/{what}"), &[("plugin", &digest)]));
    match version.standing {
        Standing::Vetted => vec![act("Publish it", "publish"), act("Retire it", "retire")],
        Standing::Published => vec![act("Retire it", "retire")],
        Standing::Retired => Vec::new(),
    }
}

/// What a plugin says of itself that it asks for, in words.
fn asks_for(manifest: &serde_json::Value) -> Vec<(&'static str, String)> {
    let texts = |name: &str| -> Vec<String> {
        let listed = manifest[name].as_array().into_iter().flatten();
        listed
            .filter_map(|one| one.as_str())
            .map(|text| mask::line(text, 80))
            .collect()
    };
    let kinds: Vec<_> = texts("actions")
        .iter()
        .filter_map(|name| ActionKind::from_name(name))
        .collect();
    let events = match texts("events") {
        all if all.iter().any(|pattern| pattern == "*") => "events of every type".to_owned(),
        patterns => patterns.join(", "),
    };
    let mut asks = vec![
        ("It is written for", events),
        (
            "It may propose to",
            match kinds.is_empty() {
                true => "do nothing: it only looks".to_owned(),
                false => grants::kinds_in_words(&kinds),
            },
        ),
        (
            "State",
            match manifest["state"].as_bool() {
                Some(true) => "it keeps some, for each tenant apart".to_owned(),
                Some(false) | None => "it keeps none".to_owned(),
            },
        ),
    ];
    if let Some(fuel) = manifest["fuel"].as_u64() {
        asks.push((
            "Fuel of a run",
            format!("at most {}, as its author measured it", number(fuel)),
        ));
    }
    let configuration = match manifest["configuration"].is_object() {
        true => "a route's form is made of its schema",
        false => "it says nothing of it, and judges it alone when it runs",
    };
    asks.push(("Configuration", configuration.to_owned()));
    asks
}

/// What a version is on a route, and which one is active there.
type OnRoute<'v> = (Option<String>, Option<&'v PluginVersion>);

/// The routes that run this plugin, with what can be done there with this version; and what those allow it that run this version.
async fn routes_of(
    console: &Console,
    visit: &Visit,
    version: &PluginVersion,
    all: &[PluginVersion],
) -> Result<(Table, Table), Trouble> {
    let mut bound = Table::new(
        "routes that run the plugin",
        &[
            ("Route", "main"),
            ("Tenant", ""),
            ("This version", ""),
            ("Active version", "wide"),
            ("", "act"),
        ],
    );
    let mut granted = Table::new("what routes allow it", &[("Route", "main"), ("It may", "wide")]);
    let mut places: BTreeMap<(TenantName, RouteName), OnRoute<'_>> = BTreeMap::new();
    for other in all {
        for place in &other.bound {
            let of = places.entry((place.tenant.clone(), place.route.clone())).or_default();
            if other.digest == version.digest {
                of.0 = Some(place.stage.clone());
            }
            if place.stage == "active" {
                of.1 = Some(other);
            }
        }
    }
    let digest = version.digest.to_string();
    // An owner's version runs on the owner's routes alone.
    let is_offered = |tenant: &TenantName| version.owner.as_ref().is_none_or(|owner| owner == tenant);
    for ((tenant, route), (stage, active)) in places.into_iter().take(ROUTES_SHOWN) {
        let (tenant_name, route_name) = (tenant.to_string(), route.to_string());
        let with = [
            ("tenant", tenant_name.as_str()),
            ("route", route_name.as_str()),
            ("plugin", digest.as_str()),
        ];
        let mut acts = Vec::new();
        if stage.as_deref() != Some("active") && is_offered(&tenant) && version.standing != Standing::Retired {
            if may(visit, Permission::PluginTrial) {
                acts.push(Part::said("Try").to(address("/trial", &with)));
            }
            if version.standing == Standing::Published && may(visit, Permission::PluginPromote) {
                for (name, what) in [("Shadow", "shadow"), ("Canary", "canary"), ("Promote", "promote")] {
                    acts.push(Part::said(name).to(address(&format!("/bring/{what}"), &with)));
                }
            }
        }
        bound.rows.push(vec![
            Part::said(&route_name).to(route_page(&tenant_name, &route_name)).into(),
            Part::said(&tenant_name).into(),
            match &stage {
                Some(stage) => Part::state(stage).into(),
                None => Part::said("not here").class("dim").into(),
            },
            match active {
                Some(active) => Cell::from(Part::told(&active.version)).below(self::digest(&active.digest.to_string())),
                None => Cell::default(),
            },
            Cell::of(acts),
        ]);
        if stage.is_none() {
            continue;
        }
        let path = RoutePath { tenant, route };
        let nothing = Nothing {};
        let found = console
            .ask::<calls::ShowRoute>(&visit.visitor.token, &path, &nothing, &nothing)
            .await?;
        let words = found.grants.iter().map(|grant| Part::told(&grants::in_words(grant)));
        granted.rows.push(vec![
            Cell::from(Part::said(&route_name)).below(Part::said(&tenant_name)),
            match found.grants.is_empty() {
                true => Part::said("nothing: the route grants nothing").class("dim").into(),
                false => Cell::of(words),
            },
        ]);
    }
    Ok((bound, granted))
}

/// The columns of budgets.
pub(crate) const BUDGET_COLUMNS: [(&str, &str); 7] = [
    ("Route", "main"),
    ("What", ""),
    ("Whose", "wide"),
    ("Spent", "number"),
    ("Left", "number"),
    ("Of", "number"),
    ("Ends", "time"),
];

/// `GET /console/budgets`.
pub(crate) async fn budgets(State(console): State<Arc<Console>>, visit: Visit) -> Result<Response, Trouble> {
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let found = console.read::<calls::Budgets>(token, &BudgetsQuery::default()).await?;
    let mut table = Table::new("budgets", &BUDGET_COLUMNS);
    table.rows = budget_rows(&found, now);
    Ok(show(&Budgets {
        frame: Frame::of(&visit, "Budgets"),
        table,
    }))
}

/// What is spent of budgets, and left.
pub(crate) fn budget_rows(found: &[BudgetView], now: UnixMillis) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for budget in found {
        let much = |amount: i64| match budget.currency {
            Some(currency) => Money::new(amount, currency).map_or_else(|| number(amount), |money| money.to_string()),
            None => number(amount),
        };
        let what = format!("{} per {}", budget.kind.as_str(), budget.window.as_str());
        let page = route_page(budget.tenant.as_str(), budget.route.as_str());
        let route = || {
            Cell::from(Part::said(budget.route.to_string()).to(page.clone()))
                .below(Part::said(budget.tenant.to_string()))
        };
        let ends = || Part::at(&budget.ends_at.to_string(), now).class("time");
        for spent in &budget.spent {
            let whose = match (&spent.account, budget.per) {
                (Some(account), _) => Part::told(account).class("code"),
                (None, Per::Account) => Part::said("each account").class("dim"),
                (None, Per::Route) => Part::said("the route").class("dim"),
            };
            let left = Part::said(much(spent.left));
            rows.push(vec![
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
                ends().into(),
            ]);
        }
        if budget.spent.is_empty() {
            rows.push(vec![
                route(),
                Part::said(&what).into(),
                Part::said("nobody yet").class("dim").into(),
                Part::said(much(0)).into(),
                Part::said(much(budget.most)).into(),
                Part::said(much(budget.most)).into(),
                ends().into(),
            ]);
        }
    }
    rows
}
