//! One route: which events it takes, which versions it runs and which it could, what they may do, and what was done with it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use tollgate_api::budgets::BudgetsQuery;
use tollgate_api::pauses::Place;
use tollgate_api::plugins::{
    PluginVersion, PluginsQuery, RegistryLine, RouteHistoryQuery, RoutePath, RouteView, SetBy, ShadowRunsQuery,
};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::ids::{PluginDigest, RouteName, TenantName};
use tollgate_core::mask;
use tollgate_core::registry::Standing;
use tollgate_core::time::UnixMillis;

use crate::Console;
use crate::asked::Trouble;
use crate::grants;
use crate::page::{Frame, may, show};
use crate::plugins::budget_rows;
use crate::table::{Cell, Part, Table, address, segment};
use crate::visit::Visit;
use crate::words::{counted, lines_shown, number, short};

/// Other versions that are offered; the plugin's page has all of them.
const OTHERS_MAX: usize = 8;

#[derive(Template)]
#[template(path = "route.html")]
struct Route {
    frame: Frame,
    about: String,
    facts: Vec<(&'static str, String)>,
    /// What keeps it from running.
    troubles: Vec<(String, Option<Part>)>,
    runs_plugin: bool,
    versions: Table,
    /// What can be done with what it runs.
    acts: Vec<Part>,
    grants: Vec<String>,
    budgets: Table,
    shadow: Option<ShadowFigures>,
    config: String,
    history: Table,
    change: Option<String>,
    pause: Option<String>,
}

/// What a shadow did so far.
struct ShadowFigures {
    says: String,
    facts: Vec<(&'static str, String)>,
}

/// `GET /console/routes/{tenant}/{route}`.
pub(crate) async fn route(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path((tenant, name)): Path<(TenantName, RouteName)>,
) -> Result<Response, Trouble> {
    let (token, now, nothing) = (&visit.visitor.token, (console.host.now)(), Nothing {});
    let path = RoutePath {
        tenant: tenant.clone(),
        route: name.clone(),
    };
    let found = console
        .ask::<calls::ShowRoute>(token, &path, &nothing, &nothing)
        .await?;
    let lines = console
        .ask::<calls::RouteHistory>(token, &path, &RouteHistoryQuery::default(), &nothing)
        .await?;
    let versions = match &found.plugin {
        Some(plugin) => {
            let query = PluginsQuery {
                tenant: Some(tenant.to_string()),
                name: Some(plugin.to_string()),
            };
            console.read::<calls::Plugins>(token, &query).await?
        }
        None => Vec::new(),
    };
    let reads = may(&visit, Permission::ReceiptRead);
    let mut budgets = Table::new("budgets", &crate::plugins::BUDGET_COLUMNS);
    if reads {
        let query = BudgetsQuery {
            tenant: Some(tenant.to_string()),
            route: Some(name.to_string()),
            ..BudgetsQuery::default()
        };
        let found = console.read::<calls::Budgets>(token, &query).await?;
        budgets.rows = budget_rows(&found, now);
    }
    let has_shadow = found.binding.as_ref().is_some_and(|binding| binding.shadow.is_some());
    let shadow = match has_shadow && reads {
        true => {
            let query = ShadowRunsQuery {
                limit: Some(1),
                differing: true,
            };
            let report = console.ask::<calls::ShadowRuns>(token, &path, &query, &nothing).await?;
            report.tally.map(|tally| {
                let facts = vec![
                    ("Runs beside the active version", number(tally.runs)),
                    ("Differ in meaning", number(tally.differences)),
                ];
                let says = match (tally.runs, tally.differences) {
                    (0, _) => "It has not run yet.".to_owned(),
                    (_, 0) => "It did what the active version did, each time.".to_owned(),
                    (runs, differing) => {
                        format!("Of {}, {} came out otherwise.", counted(runs, "run"), number(differing))
                    }
                };
                ShadowFigures { says, facts }
            })
        }
        false => None,
    };
    let (is_paused, troubles) = troubles(&console, &visit, &tenant, &name, now).await?;
    let place = [("tenant", tenant.as_str()), ("route", name.as_str())];
    let bring = |what: &str, more: &[(&str, &str)]| address(&format!("/bring/{what}"), &[&place[..], more].concat());
    let pause = (may(&visit, Permission::PauseWrite) && !is_paused).then(|| address("/act/pause", &place));
    let is_own = found.set_by == SetBy::Settings && may(&visit, Permission::SettingsWrite);
    let page = Route {
        frame: Frame::of(&visit, name.to_string()),
        pause,
        about: about(&found),
        facts: facts(&found),
        troubles,
        runs_plugin: found.plugin.is_some(),
        versions: versions_table(&visit, &found, &versions, &place),
        acts: match may(&visit, Permission::PluginPromote) {
            true => acts(&found, bring),
            false => Vec::new(),
        },
        grants: found.grants.iter().map(grants::in_words).collect(),
        budgets,
        shadow,
        config: match &found.plugin {
            Some(_) => lines_shown(&serde_json::to_string_pretty(&found.config).unwrap_or_default()),
            None => String::new(),
        },
        history: history(&lines, now),
        change: is_own.then(|| address("/set/route", &[("tenant", tenant.as_str()), ("name", name.as_str())])),
    };
    Ok(show(&page))
}

fn about(route: &RouteView) -> String {
    let whose = match route.set_by {
        SetBy::File => "the operator's file says it",
        SetBy::Settings => "the tenant's settings say it",
        SetBy::Api => "it was set by API",
    };
    let does = match (&route.plugin, &route.forward) {
        (Some(plugin), _) => format!("Runs {plugin}"),
        (None, Some(form)) => format!("Hands events on ({form})"),
        (None, None) => "Runs nothing".to_owned(),
    };
    format!("{does}, for {}; {whose}.", route.tenant)
}

fn facts(route: &RouteView) -> Vec<(&'static str, String)> {
    let listed = |names: Vec<String>, none: &str| match names.is_empty() {
        true => none.to_owned(),
        false => mask::line(&names.join(", "), 400),
    };
    let names = |names: &[String]| names.to_vec();
    let mut facts = vec![
        (
            "From",
            listed(route.sources.iter().map(ToString::to_string).collect(), "all sources"),
        ),
        ("Types", listed(names(&route.types), "all types")),
    ];
    if !route.statuses.is_empty() {
        facts.push((
            "Statuses",
            listed(route.statuses.iter().map(ToString::to_string).collect(), ""),
        ));
    }
    if let Some(filter) = &route.filter {
        facts.push(("Content", mask::line(filter, 400)));
    }
    if let Some(late) = &route.late {
        facts.push(("What comes late", mask::line(late, 40)));
    }
    facts.push((
        "Sends to",
        listed(
            route.destinations.iter().map(ToString::to_string).collect(),
            "the ledger",
        ),
    ));
    if route.plugin.is_some() {
        facts.push(("Records as", route.operations.to_string()));
    }
    facts
}

/// Whether a person paused the route; and what keeps it from running: that, or a version that failed again and again.
async fn troubles(
    console: &Console,
    visit: &Visit,
    tenant: &TenantName,
    route: &RouteName,
    now: UnixMillis,
) -> Result<(bool, Vec<(String, Option<Part>)>), Trouble> {
    let token = &visit.visitor.token;
    let mut troubles = Vec::new();
    let pauses = console.read::<calls::Pauses>(token, &Nothing {}).await?;
    let here = |place: &Place| matches!(place, Place::Route(paused) if paused == route);
    for pause in pauses
        .iter()
        .filter(|pause| pause.tenant == *tenant && here(&pause.place))
    {
        let says = format!(
            "Paused since {} by {}: {}. Its jobs wait; nothing is lost.",
            crate::words::instant(&pause.at.to_string(), now),
            mask::line(&pause.actor, 100),
            mask::line(&pause.why, 300)
        );
        let place = [("tenant", tenant.as_str()), ("route", route.as_str())];
        let resume =
            may(visit, Permission::PauseWrite).then(|| Part::said("Resume it").to(address("/act/resume", &place)));
        troubles.push((says, resume));
    }
    let is_paused = !troubles.is_empty();
    let quarantines = console.read::<calls::Quarantines>(token, &Nothing {}).await?;
    for one in quarantines
        .iter()
        .filter(|one| one.tenant == *tenant && one.route == *route)
    {
        let says = format!(
            "{} is in quarantine after {} faults in a row, the last {}. Its jobs become dead letters.",
            short(&one.digest.to_string()),
            one.faults,
            mask::line(&one.reason, 300)
        );
        let place = [("tenant", tenant.as_str()), ("route", route.as_str())];
        let lift =
            may(visit, Permission::PluginPromote).then(|| Part::said("Let it run").to(address("/act/lift", &place)));
        troubles.push((says, lift));
    }
    Ok((is_paused, troubles))
}

/// What the route runs, what it ran, and what else there is.
fn versions_table(visit: &Visit, route: &RouteView, versions: &[PluginVersion], place: &[(&str, &str); 2]) -> Table {
    let mut table = Table::new(
        "versions on this route",
        &[
            ("Version", "main"),
            ("As", ""),
            ("Standing", ""),
            ("Digest", "wide"),
            ("", "act"),
        ],
    );
    let Some(binding) = &route.binding else { return table };
    let known = |digest: PluginDigest| versions.iter().find(|version| version.digest == digest);
    let mut push = |digest: PluginDigest, stage: Part, brings: bool| {
        let text = digest.to_string();
        let version = known(digest);
        let name = version.map_or_else(|| short(&text).to_owned(), |version| mask::line(&version.version, 60));
        let is_fit = version.is_some_and(|version| version.standing == Standing::Published);
        let with = [&place[..], &[("plugin", text.as_str())]].concat();
        let mut acts = Vec::new();
        if brings && may(visit, Permission::PluginTrial) {
            acts.push(Part::said("Try").to(address("/trial", &with)));
        }
        if brings && is_fit && may(visit, Permission::PluginPromote) {
            for (name, what) in [("Shadow", "shadow"), ("Canary", "canary"), ("Promote", "promote")] {
                acts.push(Part::said(name).to(address(&format!("/bring/{what}"), &with)));
            }
        }
        table.rows.push(vec![
            Part::said(name)
                .to(format!("{}/plugins/{}", crate::ROOT, segment(&text)))
                .into(),
            stage.into(),
            Cell::maybe(version.map(|version| Part::state(&version.standing.to_string()))),
            Part::said(short(&text)).class("code").into(),
            Cell::of(acts),
        ]);
    };
    push(binding.active, Part::state("active"), false);
    if let Some(canary) = &binding.canary {
        push(
            canary.digest,
            Part::said(format!("canary, {}", canary.share)).marked("canary"),
            true,
        );
    }
    if let Some(shadow) = binding.shadow {
        push(shadow, Part::state("shadow"), true);
    }
    let runs = |digest: PluginDigest| {
        digest == binding.active
            || binding.shadow == Some(digest)
            || binding.canary.is_some_and(|canary| canary.digest == digest)
    };
    let others = versions
        .iter()
        .filter(|version| version.standing != Standing::Retired && !runs(version.digest));
    for version in others.take(OTHERS_MAX) {
        let was = binding.previous.contains(&version.digest);
        let stage = if was { "ran before" } else { "not here" };
        push(version.digest, Part::said(stage).class("dim"), true);
    }
    table
}

fn acts(route: &RouteView, bring: impl Fn(&str, &[(&str, &str)]) -> String) -> Vec<Part> {
    let Some(binding) = &route.binding else {
        return Vec::new();
    };
    let mut acts = Vec::new();
    if let Some(canary) = &binding.canary {
        let digest = canary.digest.to_string();
        acts.push(Part::said("Promote the canary").to(bring("promote", &[("plugin", &digest)])));
        acts.push(Part::said("Change its share").to(bring("canary", &[("plugin", &digest)])));
        acts.push(Part::said("End the canary").to(bring("end-canary", &[])));
    }
    if binding.shadow.is_some() {
        acts.push(Part::said("End the shadow").to(bring("end-shadow", &[])));
    }
    if binding.canary.is_none() && !binding.previous.is_empty() {
        acts.push(Part::said("Roll back").to(bring("roll-back", &[])));
    }
    if binding.by_hand && route.set_by == SetBy::File {
        acts.push(Part::said("Follow the file again").to(bring("follow-file", &[])));
    }
    acts
}

fn history(lines: &[RegistryLine], now: UnixMillis) -> Table {
    let mut table = Table::new(
        "what was done with it",
        &[
            ("Time", "time"),
            ("What", "main"),
            ("Version", ""),
            ("By", ""),
            ("Why", "wide"),
        ],
    );
    for line in lines {
        let digest = line
            .digest
            .map(|digest| Part::said(short(&digest.to_string())).class("code"));
        table.rows.push(vec![
            Part::at(&line.at, now).class("time").into(),
            Part::told(&line.what).into(),
            Cell::maybe(digest),
            Part::told(&line.actor).into(),
            Cell::maybe(line.why.as_deref().map(|why| Part::told(why).class("dim"))),
        ]);
    }
    table
}
