//! What a tenant configures itself, as people see it: sources, routes, destinations, secrets, and the settings with their versions. Whose
//! each part is stands beside it: what is the operator's is changed in the operator's file.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use tollgate_api::lists::ListQuery;
use tollgate_api::plugins::TenantPath;
use tollgate_api::settings::{SettingsPart, SettingsVersionPath, SettingsView, Whose};
use tollgate_api::{FieldProblem, Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::profile::Profile;
use tollgate_core::{mask, profile};

use crate::Console;
use crate::asked::Trouble;
use crate::destination_form;
use crate::page::{Frame, may, show};
use crate::set_up::NO_SEAL_KEY;
use crate::source_form;
use crate::table::{Cell, Part, Table, address, event_page, route_page, segment};
use crate::visit::{Visit, asked, field, named};
use crate::words::size;

/// The newest events that are looked through for the last of each source.
pub(crate) const EVENTS_LOOKED_AT: u64 = 200;

#[derive(Template)]
#[template(path = "configured.html")]
struct Configured {
    frame: Frame,
    about: &'static str,
    tenant: String,
    /// Where a form is that adds one.
    add: Option<(&'static str, String)>,
    table: Table,
    empty: &'static str,
    /// What to do first, where there is nothing.
    then: &'static str,
    problems: Vec<String>,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct Settings {
    frame: Frame,
    tenant: String,
    version: u64,
    is_newest: bool,
    text: String,
    may_write: bool,
    change: String,
    roll_back: Option<String>,
    in_effect: bool,
    problems: Vec<String>,
    versions: Table,
}

#[derive(Template)]
#[template(path = "whose.html")]
struct AskWhose {
    frame: Frame,
    action: String,
    tenants: Vec<String>,
}

/// The tenant that a page is about: the reader's own, or the one that somebody of the whole host named.
pub(crate) fn tenant(visit: &Visit, fields: &[(String, String)]) -> Result<Option<TenantName>, Trouble> {
    if let Some(own) = &visit.visitor.who.tenant {
        return Ok(Some(own.clone()));
    }
    match field(fields, "tenant") {
        "" => Ok(None),
        tenant => named("tenant", tenant).map(Some).map_err(Trouble::bad),
    }
}

/// The tenants whose things the reader sees, by name.
///
/// # Errors
/// When the host does not say.
pub(crate) async fn tenants(console: &Console, visit: &Visit) -> Result<Vec<TenantName>, Trouble> {
    let who = console.read::<calls::WhoAmI>(&visit.visitor.token, &Nothing {}).await?;
    Ok(who.tenants)
}

/// The tenant that a page is about; of a host with one tenant that one. Otherwise the page that asks somebody of the whole host whose they want.
async fn of_whom(
    console: &Console,
    visit: &Visit,
    title: &str,
    uri: &Uri,
) -> Result<Result<TenantName, Response>, Trouble> {
    if let Some(tenant) = tenant(visit, &asked(uri))? {
        return Ok(Ok(tenant));
    }
    let tenants = tenants(console, visit).await?;
    Ok(match tenants.as_slice() {
        [only] => Ok(only.clone()),
        several => Err(show(&AskWhose {
            frame: Frame::of(visit, title),
            action: uri.path().to_owned(),
            tenants: several.iter().map(ToString::to_string).collect(),
        })),
    })
}

pub(crate) async fn view(console: &Console, visit: &Visit, tenant: &TenantName) -> Result<SettingsView, Trouble> {
    let path = TenantPath { tenant: tenant.clone() };
    console
        .ask::<calls::ShowSettings>(&visit.visitor.token, &path, &Nothing {}, &Nothing {})
        .await
}

pub(crate) fn whose(part: &SettingsPart) -> Part {
    match part.whose {
        Whose::File => Part::said("the operator's").class("dim"),
        Whose::Settings => Part::said("own"),
        Whose::Route => Part::said("set by API"),
    }
}

fn words(problem: &FieldProblem) -> String {
    let line = problem.line.map(|line| format!("Line {line}: ")).unwrap_or_default();
    mask::line(&format!("{line}{} ({})", problem.message, problem.help), 600)
}

fn form(what: &str, tenant: &str, more: &[(&str, &str)]) -> String {
    address(&format!("/set/{what}"), &[&[("tenant", tenant)], more].concat())
}

/// What can be done with a part: only what is the tenant's own is changed here.
fn remove(visit: &Visit, tenant: &str, kind: &str, part: &SettingsPart) -> Cell {
    let is_own = part.whose == Whose::Settings && may(visit, Permission::SettingsWrite);
    let link = || Part::said("Remove").to(form("remove", tenant, &[("kind", kind), ("name", &part.name)]));
    Cell::maybe(is_own.then(link))
}

fn add(visit: &Visit, name: &'static str, what: &str, tenant: &str) -> Option<(&'static str, String)> {
    may(visit, Permission::SettingsWrite).then(|| (name, form(what, tenant, &[])))
}

/// `GET /console/sources`.
pub(crate) async fn sources(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let tenant = match of_whom(&console, &visit, "Sources", &uri).await? {
        Ok(tenant) => tenant,
        Err(asks) => return Ok(asks),
    };
    let (found, now) = (view(&console, &visit, &tenant).await?, (console.host.now)());
    let mut last: BTreeMap<String, (String, String)> = BTreeMap::new();
    if may(&visit, Permission::ReceiptRead) {
        let query = ListQuery {
            filter: Some(format!("tenant:{tenant}")),
            limit: Some(EVENTS_LOOKED_AT),
            ..ListQuery::default()
        };
        let events = console.read::<calls::Events>(&visit.visitor.token, &query).await?;
        for row in events.items {
            let seen = (row.event.received_at, event_page(row.event.receipt));
            last.entry(row.event.source.to_string()).or_insert(seen);
        }
    }
    let tenant = tenant.to_string();
    let mut table = Table::new(
        "sources",
        &[
            ("Source", "main"),
            ("Provider", ""),
            (
                if found.sources.iter().any(|source| source.url.is_some()) {
                    "URL for the provider"
                } else {
                    "Path for the provider"
                },
                "wide",
            ),
            ("Last event", "time"),
            ("Whose", ""),
            ("", "act"),
        ],
    );
    for source in &found.sources {
        let proof = profile::shipped().get(source.says.as_str());
        let provider = proof.map_or_else(|| mask::line(&source.says, 60), |profile| profile.title.clone());
        let provider = Cell::from(Part::told(&provider));
        let provider = match proof {
            Some(profile) => provider.below(Part::said(profile.scheme_title().replace('`', "")).class("dim")),
            None => provider,
        };
        let at = match last.get(&source.name) {
            Some((at, page)) => Part::at(at, now).to(page.clone()),
            None => Part::said("none lately").class("dim"),
        };
        let page = source_page(&tenant, &source.name);
        table.rows.push(vec![
            Part::said(source.name.clone()).to(page).into(),
            provider,
            Part::told(source.url.as_deref().unwrap_or(&source.to.join(" ")))
                .class("code")
                .into(),
            at.into(),
            whose(source).into(),
            remove(&visit, &tenant, "source", source),
        ]);
    }
    Ok(show(&Configured {
        frame: Frame::of(&visit, "Sources"),
        about: "Where providers send events, and how each proves itself.",
        add: add(&visit, "Add a source", "source", &tenant),
        tenant,
        table,
        empty: "No source yet: nothing can come in.",
        then: "A source is where one provider sends its events. Choose the provider from a list and paste the secret that it shows; the URL to paste there comes with it.",
        problems: found.problems.iter().map(words).collect(),
    }))
}

/// The page of a source.
pub(crate) fn source_page(tenant: &str, source: &str) -> String {
    address(&format!("/sources/{}/{}", segment(tenant), segment(source)), &[])
}

#[derive(Template)]
#[template(path = "source.html")]
struct Source {
    frame: Frame,
    about: String,
    /// What the provider is given; where nobody says where the public listener is reached, what stands behind that.
    url: Option<String>,
    path: String,
    may_say_where: bool,
    needs: Vec<(&'static str, String)>,
    facts: Vec<(&'static str, Part)>,
    keys: Table,
    acts: Vec<Part>,
    refused: String,
}

/// `GET /console/sources/{tenant}/{source}`.
pub(crate) async fn source(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path((tenant, name)): Path<(TenantName, SourceName)>,
) -> Result<Response, Trouble> {
    let (found, now) = (view(&console, &visit, &tenant).await?, (console.host.now)());
    let source = found.sources.iter().find(|source| source.name == name.as_str());
    let source = source.ok_or_else(|| Trouble::not_found(format!("there is no source `{name}` of `{tenant}`")))?;
    let profile = profile::shipped().get(source.says.as_str());
    let reads = may(&visit, Permission::ReceiptRead);
    let last = match reads {
        true => {
            let query = ListQuery {
                filter: Some(format!("tenant:{tenant} source:{name}")),
                limit: Some(1),
                ..ListQuery::default()
            };
            let events = console.read::<calls::Events>(&visit.visitor.token, &query).await?;
            events.items.into_iter().next().map(|row| row.event)
        }
        false => None,
    };
    let mut facts = vec![("Whose", whose(source))];
    if reads {
        facts.push((
            "Last verified request",
            match &last {
                Some(event) => Part::at(&event.received_at, now).to(event_page(event.receipt)),
                None => Part::said("none yet").class("dim"),
            },
        ));
    }
    let (tenant, name) = (tenant.to_string(), name.to_string());
    let is_own = source.whose == Whose::Settings;
    let may_write = may(&visit, Permission::SettingsWrite);
    let mut keys = Table::new(
        "secrets that verify its events",
        &[
            ("Receipts call it", "main"),
            ("Secret", ""),
            ("Since", "time"),
            ("Until", "time"),
            ("", "act"),
        ],
    );
    for key in &source.keys {
        let end = [("name", name.as_str()), ("key", key.id.as_str())];
        let ends = may_write && is_own && source.keys.len() > 1;
        let since = key.not_before.as_ref().or(key.since.as_ref());
        keys.rows.push(vec![
            Part::told(&key.id).class("code").into(),
            match &key.secret {
                Some(secret) => Part::said(secret.to_string()).into(),
                None => Part::said("the operator's").class("dim").into(),
            },
            Cell::maybe(since.map(|at| Part::at(at, now).class("time"))),
            Cell::maybe(key.not_after.as_ref().map(|at| Part::at(at, now).class("time"))),
            Cell::maybe(ends.then(|| Part::said("End it").to(form("end-key", &tenant, &end)))),
        ]);
    }
    let mut acts = Vec::new();
    if may_write {
        let named = [("name", name.as_str())];
        acts.push(Part::said("Send a test event").to(form("test-source", &tenant, &named)));
        if is_own {
            let has_fields = !source_form::fields(&found.text, &name).is_empty();
            acts.extend(has_fields.then(|| Part::said("Change it").to(form("change-source", &tenant, &named))));
            let takes = found.takes_secrets && !source.keys.is_empty();
            acts.extend(takes.then(|| Part::said("Rotate the secret").to(form("rotate", &tenant, &named))));
            let kind = [("kind", "source"), ("name", name.as_str())];
            acts.push(Part::said("Remove it").to(form("remove", &tenant, &kind)));
        }
    }
    let title = profile.map_or_else(|| mask::line(&source.says, 60), |profile| profile.title.clone());
    Ok(show(&Source {
        frame: Frame::of(&visit, name.clone()),
        about: format!("{title} sends events of {tenant} here."),
        url: source.url.as_deref().map(|url| mask::line(url, 500)),
        path: source.to.join(" "),
        may_say_where: visit.visitor.who.tenant.is_none(),
        needs: profile.map_or_else(Vec::new, |profile| needs(profile)),
        facts,
        keys,
        acts,
        refused: match reads {
            true => address("/refused", &[("filter", &format!("source:{name}"))]),
            false => String::new(),
        },
    }))
}

/// What is known of a provider, for whoever sets a source up.
pub(crate) fn needs(profile: &Profile) -> Vec<(&'static str, String)> {
    let about = profile.about();
    let window = profile.tolerance_s();
    [
        ("Proof", profile.scheme_title()),
        (
            "Time window",
            window.map_or_else(|| "no time is signed".to_owned(), |seconds| format!("±{seconds} s")),
        ),
        ("Rotation", about.rotation.clone()),
        ("It tries again", about.retries.clone()),
        ("Beware", about.gotchas.join(" ")),
    ]
    .into_iter()
    .filter(|(_, says)| !says.is_empty())
    .map(|(name, says)| (name, mask::line(&says, 900)))
    .collect()
}

/// `GET /console/routes`.
pub(crate) async fn routes(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let tenant = match of_whom(&console, &visit, "Routes", &uri).await? {
        Ok(tenant) => tenant,
        Err(asks) => return Ok(asks),
    };
    let found = view(&console, &visit, &tenant).await?;
    let tenant = tenant.to_string();
    let columns = [
        ("Route", "main"),
        ("Runs", ""),
        ("Sends to", "wide"),
        ("Whose", ""),
        ("", "act"),
    ];
    let mut table = Table::new("routes", &columns);
    for route in &found.routes {
        let to = match route.to.as_slice() {
            [] => "the ledger".to_owned(),
            to => to.join(", "),
        };
        table.rows.push(vec![
            Part::said(route.name.clone())
                .to(route_page(&tenant, &route.name))
                .into(),
            Part::told(&route.says).into(),
            Part::told(&to).into(),
            whose(route).into(),
            remove(&visit, &tenant, "route", route),
        ]);
    }
    Ok(show(&Configured {
        frame: Frame::of(&visit, "Routes"),
        about: "Which events are handed on as they are, or to a plugin, and where what follows goes.",
        add: add(&visit, "Add a route", "route", &tenant),
        tenant,
        table,
        empty: "No route yet: events are kept, and nothing follows from them.",
        then: "A route says which events are handed on to a destination, or run by a plugin. Events that came before it can be replayed by it.",
        problems: found.problems.iter().map(words).collect(),
    }))
}

/// `GET /console/destinations`.
pub(crate) async fn destinations(
    State(console): State<Arc<Console>>,
    visit: Visit,
    uri: Uri,
) -> Result<Response, Trouble> {
    let tenant = match of_whom(&console, &visit, "Destinations", &uri).await? {
        Ok(tenant) => tenant,
        Err(asks) => return Ok(asks),
    };
    let found = view(&console, &visit, &tenant).await?;
    let tenant = tenant.to_string();
    let mut table = Table::new(
        "destinations",
        &[("Destination", "main"), ("URL", "wide"), ("Whose", ""), ("", "act")],
    );
    let changeable = destination_form::changeable(&found.text);
    for destination in &found.destinations {
        let is_url = destination.says.contains("://");
        let is_sent_to = is_url || destination.says.starts_with("e-mail to ");
        let is_sent_to = is_sent_to && may(&visit, Permission::SettingsWrite);
        let named = [("name", destination.name.as_str())];
        let test = is_sent_to.then(|| Part::said("Send a test").to(form("test-destination", &tenant, &named)));
        let mut acts = remove(&visit, &tenant, "destination", destination);
        let is_changed_here = may(&visit, Permission::SettingsWrite) && changeable.contains(&destination.name);
        let change = is_changed_here.then(|| Part::said("Change").to(form("destination", &tenant, &named)));
        acts.parts.splice(0..0, test.into_iter().chain(change));
        table.rows.push(vec![
            Part::said(destination.name.clone()).into(),
            Part::told(&destination.says)
                .class(if is_url { "code" } else { "dim" })
                .into(),
            whose(destination).into(),
            acts,
        ]);
    }
    Ok(show(&Configured {
        frame: Frame::of(&visit, "Destinations"),
        about: "Where actions and forwarded events are sent, signed after Standard Webhooks; and who is told of issues.",
        add: add(&visit, "Add a destination", "destination", &tenant),
        tenant,
        table,
        empty: "No destination yet: what routes record stays in the ledger.",
        then: "A destination is an HTTPS endpoint of yours, a place that its owner fetches from, or people who are told of failures by e-mail.",
        problems: found.problems.iter().map(words).collect(),
    }))
}

/// `GET /console/secrets`.
pub(crate) async fn secrets(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let tenant = match of_whom(&console, &visit, "Secrets", &uri).await? {
        Ok(tenant) => tenant,
        Err(asks) => return Ok(asks),
    };
    let (found, now) = (view(&console, &visit, &tenant).await?, (console.host.now)());
    let path = TenantPath { tenant: tenant.clone() };
    let secrets = console
        .ask::<calls::Secrets>(&visit.visitor.token, &path, &Nothing {}, &Nothing {})
        .await?;
    let tenant = tenant.to_string();
    let columns = [
        ("Secret", "main"),
        ("Used by", "wide"),
        ("Set", "time"),
        ("By", ""),
        ("", "act"),
    ];
    let mut table = Table::new("secrets", &columns);
    let may_write = may(&visit, Permission::SettingsWrite);
    for secret in &secrets {
        let name = Cell::from(Part::said(secret.name.to_string()));
        let name = match secret.opens {
            Some(false) => name.below(Part::said("this host has not its key").marked("dead")),
            Some(true) | None => name,
        };
        let used = match secret.used_by.as_slice() {
            [] => Part::said("nothing").class("dim"),
            used => Part::told(&used.join(", ")),
        };
        let named = [("name", secret.name.as_str())];
        let acts = may_write.then(|| Part::said("Replace").to(form("secret", &tenant, &named)));
        let gone = (may_write && secret.used_by.is_empty())
            .then(|| Part::said("Remove").to(form("remove-secret", &tenant, &named)));
        table.rows.push(vec![
            name,
            used.into(),
            Part::at(&secret.at.to_string(), now).class("time").into(),
            Cell::from(Part::told(&secret.actor)).below(Part::told(&secret.why).class("dim")),
            Cell::of(acts.into_iter().chain(gone)),
        ]);
    }
    let mut problems: Vec<_> = found.problems.iter().map(words).collect();
    if !found.takes_secrets {
        problems.push(NO_SEAL_KEY.to_owned());
    }
    Ok(show(&Configured {
        frame: Frame::of(&visit, "Secrets"),
        about: "What sources and destinations of the settings are verified and signed with, by name. What a secret is, nothing shows.",
        add: add(&visit, "Set a secret", "secret", &tenant).filter(|_| found.takes_secrets),
        tenant,
        table,
        empty: "No secret yet.",
        then: "The forms of sources and destinations set theirs by themselves. One that is set here can be chosen there.",
        problems,
    }))
}

/// `GET /console/settings`: the newest version, or the one that was asked for.
pub(crate) async fn settings(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    let fields = asked(&uri);
    let tenant = match of_whom(&console, &visit, "Settings", &uri).await? {
        Ok(tenant) => tenant,
        Err(asks) => return Ok(asks),
    };
    let (token, now) = (&visit.visitor.token, (console.host.now)());
    let found = view(&console, &visit, &tenant).await?;
    let path = TenantPath { tenant: tenant.clone() };
    let lines = console
        .ask::<calls::SettingsVersions>(token, &path, &Nothing {}, &Nothing {})
        .await?;
    let (version, text) = match field(&fields, "version") {
        "" => (found.version, found.text),
        number => {
            let version = number.parse().map_err(|_| Trouble::bad("version: write its number"))?;
            let path = SettingsVersionPath {
                tenant: tenant.clone(),
                version,
            };
            let one = console
                .ask::<calls::ShowSettingsVersion>(token, &path, &Nothing {}, &Nothing {})
                .await?;
            (version, one.text)
        }
    };
    let tenant = tenant.to_string();
    let may_write = may(&visit, Permission::SettingsWrite);
    let columns = [
        ("Version", "main"),
        ("Set", "time"),
        ("By", ""),
        ("Why", "wide"),
        ("Size", "number"),
    ];
    let mut versions = Table::new("versions of the settings", &columns);
    for line in &lines {
        let number = line.version.to_string();
        let page = address("/settings", &[("tenant", &tenant), ("version", &number)]);
        let name = Cell::from(Part::said(format!("Version {number}")).to(page));
        versions.rows.push(vec![
            match line.text_of {
                Some(0) => name.below(Part::said("back to nothing").class("dim")),
                Some(old) => name.below(Part::said(format!("back to version {old}")).class("dim")),
                None => name,
            },
            Part::at(&line.at.to_string(), now).class("time").into(),
            Part::told(&line.actor).into(),
            Part::told(&line.why).class("dim").into(),
            Part::said(size(line.bytes)).into(),
        ]);
    }
    let is_newest = version == found.version;
    let back_to = match (is_newest, version) {
        (true, newest) => newest.checked_sub(1),
        (false, old) => Some(old),
    };
    let roll_back = back_to.map(|to| form("rollback", &tenant, &[("to", &to.to_string())]));
    Ok(show(&Settings {
        frame: Frame::of(&visit, "Settings"),
        change: form("settings", &tenant, &[]),
        tenant,
        version,
        is_newest,
        text: text
            .lines()
            .map(|line| mask::shown(&line.replace('\t', "    ")).into_owned())
            .collect::<Vec<_>>()
            .join("\n"),
        may_write,
        roll_back: roll_back.filter(|_| may_write),
        in_effect: found.in_effect,
        problems: found.problems.iter().map(words).collect(),
        versions,
    }))
}
