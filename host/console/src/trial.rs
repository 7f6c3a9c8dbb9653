//! A trial by form: a version is run over what the active one did, without effects, and the money difference is shown before anything is promoted.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use tollgate_api::lists::ListQuery;
use tollgate_api::plugins::{PluginsQuery, RoutePath};
use tollgate_api::trials::{TrialBody, TrialReport};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::action::ActionKind;
use tollgate_core::difference::MoneyLine;
use tollgate_core::mask;
use tollgate_core::money::{Currency, Money};
use tollgate_core::registry::Standing;

use crate::Console;
use crate::act::ACTOR;
use crate::asked::Trouble;
use crate::fields::{Field, Form, Kind, line};
use crate::page::{Frame, may, show, show_as};
use crate::promoting::{route_path, version_name};
use crate::table::{Cell, Part, Table, address, route_page};
use crate::visit::{Filled, Visit, asked, field};
use crate::words::{counted, number, short};

/// Of how many of a route's newest runs a trial is asked for; the API lists no more at once.
const NEWEST: [u64; 3] = [100, 1_000, 0];

#[derive(Template)]
#[template(path = "trial.html")]
struct Trial {
    frame: Frame,
    about: String,
    says: String,
    is_same: bool,
    money: Table,
    counts: Table,
    examples: Table,
    facts: Vec<(&'static str, String)>,
    warnings: Vec<String>,
    acts: Vec<Part>,
    back: String,
}

/// `GET /console/trial`.
pub(crate) async fn form(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    Ok(show(&blank(&console, &visit, &asked(&uri)).await?))
}

async fn blank(console: &Console, visit: &Visit, given: &[(String, String)]) -> Result<Form, Trouble> {
    if !may(visit, Permission::PluginTrial) {
        return Err(Trouble::new(StatusCode::FORBIDDEN, "your token tries no plugins"));
    }
    let (path, nothing, token) = (
        route_path(given).map_err(Trouble::bad)?,
        Nothing {},
        &visit.visitor.token,
    );
    let route = console
        .ask::<calls::ShowRoute>(token, &path, &nothing, &nothing)
        .await?;
    let (tenant, name) = (path.tenant.to_string(), path.route.to_string());
    let Some(plugin) = route.plugin else {
        return Err(Trouble::bad("this route hands events on, and runs no plugin"));
    };
    let query = PluginsQuery {
        tenant: Some(tenant.clone()),
        name: Some(plugin.to_string()),
    };
    let versions = console.read::<calls::Plugins>(token, &query).await?;
    let choices = versions
        .iter()
        .filter(|version| version.standing != Standing::Retired)
        .map(|version| (version.digest.to_string(), version_name(version)));
    let mut form = Form::new(
        Frame::of(visit, "Try a version"),
        format!("{}/trial", crate::ROOT),
        "",
        route_page(&tenant, &name),
    );
    form.about = "It runs over what the active version did on this route, without any effect, and is compared with that: which actions it would add, leave out \
                  or change, and what that comes to in money. The result is kept as evidence for its promotion."
        .to_owned();
    form.of = vec![("tenant", tenant), ("route", name)];
    form.asks_why = false;
    form.button = "Try it";
    form.fields.push(Field {
        kind: Kind::One(choices.collect()),
        value: field(given, "plugin").to_owned(),
        ..line(
            "plugin",
            "Version",
            "Versions of the plugin that are not retired, the newest first.",
            true,
        )
    });
    // Who may not read receipts chooses no runs.
    if may(visit, Permission::ReceiptRead) {
        let choices = NEWEST.map(|newest| {
            let name = match newest {
                0 => "all that are kept".to_owned(),
                newest => format!("the newest {}", number(newest)),
            };
            (newest.to_string(), name)
        });
        form.fields.push(Field {
            kind: Kind::One(choices.to_vec()),
            value: "1000".to_owned(),
            ..line(
                "newest",
                "Runs",
                "More runs take longer; a thousand take some seconds.",
                true,
            )
        });
    }
    form.refill(given);
    Ok(form)
}

/// `POST /console/trial`: runs it, and shows what it found.
pub(crate) async fn run(State(console): State<Arc<Console>>, visit: Visit, form: Filled) -> Result<Response, Trouble> {
    let (path, nothing, token) = (
        route_path(&form.0).map_err(Trouble::bad)?,
        Nothing {},
        &visit.visitor.token,
    );
    let newest: u64 = form.get("newest").parse().unwrap_or(0);
    let since = match NEWEST.contains(&newest) && newest > 0 && may(&visit, Permission::ReceiptRead) {
        true => since_newest(&console, &visit, &path, newest).await?,
        false => None,
    };
    let body = TrialBody {
        plugin: form.get("plugin").to_owned(),
        since,
        runs_max: None,
        actor: ACTOR.to_owned(),
    };
    let report = match console.ask::<calls::RunTrial>(token, &path, &nothing, &body).await {
        Ok(report) => report,
        Err(trouble) if trouble.status.is_client_error() && trouble.status != StatusCode::UNAUTHORIZED => {
            let mut page = blank(&console, &visit, &form.0).await?;
            page.wrong = trouble.says;
            return Ok(show_as(StatusCode::BAD_REQUEST, &page));
        }
        Err(trouble) => return Err(trouble),
    };
    Ok(show(&found(&visit, &path, form.get("plugin"), &report)))
}

/// When the oldest of the route's newest runs began.
async fn since_newest(
    console: &Console,
    visit: &Visit,
    path: &RoutePath,
    newest: u64,
) -> Result<Option<String>, Trouble> {
    let query = ListQuery {
        filter: Some(format!("tenant:{} route:{}", path.tenant, path.route)),
        limit: Some(newest),
        ..ListQuery::default()
    };
    let runs = console.read::<calls::Runs>(&visit.visitor.token, &query).await?;
    // Runs are numbered as they end, not as they begin.
    Ok(runs.items.iter().map(|run| run.started_at.clone()).min())
}

fn money(units: i64, currency: &str) -> String {
    let money = Currency::new(currency).and_then(|currency| Money::new(units, currency));
    money.map_or_else(|| number(units), |money| money.to_string())
}

/// The difference with its sign: more is no better or worse by itself.
fn signed(units: i64, currency: &str) -> String {
    match units {
        0 => "none".to_owned(),
        1.. => format!("+{}", money(units, currency)),
        _ => money(units, currency).replacen('-', "−", 1),
    }
}

fn money_table(lines: &[MoneyLine]) -> Table {
    let mut table = Table::new(
        "money that both versions move",
        &[
            ("What", "main"),
            ("Currency", ""),
            ("Active version", "number"),
            ("This version", "number"),
            ("Difference", "number"),
        ],
    );
    let mut push = |what: String, currency: &str, before: i64, after: i64| {
        let difference = Part::said(signed(after.saturating_sub(before), currency));
        table.rows.push(vec![
            Part::said(what).into(),
            Part::told(currency).into(),
            Part::said(money(before, currency)).into(),
            Part::said(money(after, currency)).into(),
            match before == after {
                true => difference.class("dim").into(),
                false => difference.marked("held").into(),
            },
        ]);
    };
    for line in lines {
        push(line.kind.to_string(), &line.currency, line.before, line.after);
    }
    let mut currencies: Vec<&str> = lines.iter().map(|line| line.currency.as_str()).collect();
    currencies.sort_unstable();
    currencies.dedup();
    for currency in currencies {
        let of: Vec<_> = lines.iter().filter(|line| line.currency == currency).collect();
        if of.len() > 1 {
            // What is taken back is not paid out.
            let sum = |value: fn(&MoneyLine) -> i64| {
                of.iter().fold(0_i64, |sum, line| match line.kind {
                    ActionKind::Debit => sum.saturating_sub(value(line)),
                    _ => sum.saturating_add(value(line)),
                })
            };
            push(
                "paid out in all".to_owned(),
                currency,
                sum(|line| line.before),
                sum(|line| line.after),
            );
        }
    }
    table
}

fn found(visit: &Visit, path: &RoutePath, plugin: &str, report: &TrialReport) -> Trial {
    let tally = &report.tally;
    let (tenant, route) = (path.tenant.as_str(), path.route.as_str());
    let candidate = report.candidate.to_string();
    let says = match (tally.runs, tally.differing) {
        (0, _) => "There is no recorded run of the active version that it could be tried on.".to_owned(),
        (runs, 0) => format!("It would have done the same in {}.", counted(runs, "run")),
        (runs, differing) => format!(
            "Of {}, {} would have come out otherwise.",
            counted(runs, "run"),
            number(differing)
        ),
    };
    let mut counts = Table::new(
        "operations that differ",
        &[
            ("Kind", "main"),
            ("Added", "number"),
            ("Left out", "number"),
            ("Changed", "number"),
        ],
    );
    let kinds = tally
        .actions_added
        .keys()
        .chain(tally.actions_removed.keys())
        .chain(tally.actions_changed.keys());
    let kinds: std::collections::BTreeSet<_> = kinds.collect();
    for kind in kinds {
        let of =
            |counts: &std::collections::BTreeMap<_, u64>| Part::said(number(counts.get(kind).copied().unwrap_or(0)));
        counts.rows.push(vec![
            Part::said(kind.to_string()).into(),
            of(&tally.actions_added).into(),
            of(&tally.actions_removed).into(),
            of(&tally.actions_changed).into(),
        ]);
    }
    let mut examples = Table::new(
        "runs that differ",
        &[
            ("Event", "main"),
            ("What would be otherwise", "wide"),
            ("Its message", ""),
        ],
    );
    for one in &report.examples {
        let event = Part::told(&one.event_id).to(address("/find", &[("id", &one.run.to_string())]));
        let differences = one
            .differences
            .iter()
            .take(6)
            .map(|difference| Part::told(&difference.to_string()));
        let mut differences = Cell::of(differences);
        if one.beyond_record {
            differences =
                differences.below(Part::said("it read state that the recorded run had not read").class("dim"));
        }
        examples.rows.push(vec![
            event.into(),
            differences,
            Cell::maybe((!one.message.is_empty()).then(|| Part::told(&one.message).class("dim"))),
        ]);
    }
    let mut facts: Vec<(&'static str, String)> = vec![("Compared", counted(tally.runs, "run"))];
    if report.seconds > 0.0 {
        facts.push(("Took", format!("{:.1} s", report.seconds)));
    }
    if tally.fuel_after.p95 > 0 {
        facts.push((
            "Fuel, p95",
            format!(
                "{} before, {} now",
                number(tally.fuel_before.p95),
                number(tally.fuel_after.p95)
            ),
        ));
    }
    for (change, count) in &tally.outcomes_changed {
        facts.push((
            "Ended otherwise",
            format!("{}: {}", mask::line(change, 120), number(*count)),
        ));
    }
    for (why, count) in &report.skipped {
        facts.push(("Not compared", format!("{}: {}", mask::line(why, 120), number(*count))));
    }
    let mut warnings = Vec::new();
    for of_route in &report.routes {
        if of_route.over_budget > 0 {
            warnings.push(format!(
                "{} of its runs would go beyond a budget, and wait for a person; of the active version's {}.",
                number(of_route.over_budget),
                number(of_route.over_budget_before)
            ));
        }
    }
    if report.state.unreadable > 0 {
        warnings.push(format!(
            "After {}, the active version could not go on with the state that this one wrote: a rollback would leave those events stuck.",
            counted(report.state.unreadable, "run")
        ));
    }
    if !report.withheld.is_empty() {
        warnings.push(
            "Money, examples and fuel are left out, and counts are rounded: your token reads no events.".to_owned(),
        );
    }
    let mut acts = Vec::new();
    if may(visit, Permission::PluginPromote) && !plugin.is_empty() {
        let with = [("tenant", tenant), ("route", route), ("plugin", candidate.as_str())];
        for (name, what) in [
            ("Run it in shadow", "shadow"),
            ("Give it a share", "canary"),
            ("Promote it", "promote"),
        ] {
            acts.push(Part::said(name).to(address(&format!("/bring/{what}"), &with)));
        }
    }
    Trial {
        frame: Frame::of(visit, "What it would have done"),
        about: format!(
            "{} on the route {route} of {tenant}, without any effect.",
            short(&candidate)
        ),
        says,
        is_same: tally.differing == 0 && tally.runs > 0,
        money: money_table(&tally.money),
        counts,
        examples,
        facts,
        warnings,
        acts,
        back: route_page(tenant, route),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w4_the_money_difference_is_summed_for_each_currency() {
        let of = |kind: &str, currency: &str, before, after| MoneyLine {
            tenant: "acme".parse().unwrap(),
            kind: ActionKind::from_name(kind).unwrap(),
            currency: currency.to_owned(),
            before,
            after,
        };
        let table = money_table(&[
            of("credit", "USD", 1000, 1500),
            of("debit", "USD", 300, 0),
            of("credit", "JPY", 5, 5),
        ]);
        let rows: Vec<Vec<String>> = table
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| cell.parts[0].text.clone()).collect())
            .collect();
        assert_eq!(rows[0], ["credit", "USD", "10.00 USD", "15.00 USD", "+5.00 USD"]);
        assert_eq!(rows[1], ["debit", "USD", "3.00 USD", "0.00 USD", "−3.00 USD"]);
        assert_eq!(rows[2], ["credit", "JPY", "5 JPY", "5 JPY", "none"]);
        assert_eq!(
            rows[3],
            ["paid out in all", "USD", "7.00 USD", "15.00 USD", "+8.00 USD"]
        );
        assert_eq!(rows.len(), 4);
    }
}
