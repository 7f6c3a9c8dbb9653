//! Forms that change what a tenant configures itself. Each writes the settings' text anew, or sets a secret; what it comes to is looked at
//! first, as a dry run of the call, and then done, as all forms of the console are. A secret that was filled in is in no page.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use tollgate_api::lists::ListQuery;
use tollgate_api::pauses::DestinationPath;
use tollgate_api::plugins::{ActBody, PluginVersion, PluginsQuery, TenantPath};
use tollgate_api::settings::{NewSecret, RollbackBody, SecretBody, SecretPath, SecretText, SettingsBody};
use tollgate_api::tryouts::{SourcePath, TestDeliveryBody, TestEventBody};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::ids::{SecretName, TenantName};
use tollgate_core::mask;
use tollgate_core::profile;
use tollgate_core::registry::Standing;
use tollgate_core::secret::Secret;
use toml_edit::Table as TomlTable;

use crate::Console;
use crate::act::{ACTOR, Act};
use crate::acting;
use crate::asked::Trouble;
use crate::destination_form::{self, Way};
use crate::fields::{Field, Form, Kind, NO_REASON, Unfit, Wrote, line, pairs};
use crate::grants;
use crate::page::{Frame, may, show, show_as};
use crate::route_form::{self, Asks, Now, Offered, Runs};
use crate::settings::{EVENTS_LOOKED_AT, needs, tenant, view};
use crate::source_form;
use crate::table::{address, route_page, segment};
use crate::visit::{Filled, Visit, asked, field, named};
use crate::written;

/// What is said of secrets where the operator names no key that they are sealed with.
pub(crate) const NO_SEAL_KEY: &str = "No secret can be set yet: the operator has named no key that secrets are sealed with. `seal_keys = [{ env = \"TOLLGATE_SEAL_KEY\" }]` in \
     `[tenants]` of `tollgate.toml` names one (`openssl rand -hex 32` makes it); the host is started again with that variable.";
/// What the addresses of these forms begin with.
pub(crate) const PATH: &str = "/console/set/";
/// Who the registry says added a version that the operator's file names.
const BY_FILE: &str = "configuration";
/// What a name of a secret is cut at that is made of others: a number fits behind it.
const SECRET_NAME_BYTES_MADE: usize = 58;
/// Types of events that a route's form offers.
const TYPES_SHOWN: usize = 40;

/// `GET /console/set/{what}`: the form.
pub(crate) async fn form(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    Ok(show(&blank(&console, &visit, &what, &asked(&uri)).await?))
}

/// `POST /console/set/{what}`: what would be done.
pub(crate) async fn preview(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    form: Filled,
) -> Result<Response, Trouble> {
    let looked = match act(&console, &visit, &what, &form).await {
        Ok((act, notes)) => {
            let back = back(&what, field(&form.0, "tenant"), &form.0);
            acting::looked_at_with(&console, &visit, act, form.get("why"), back, notes).await
        }
        Err(unfit) => Err(unfit),
    };
    let wrote = if what == "settings" { Wrote::Text } else { Wrote::Fields };
    let wrong = match looked {
        Ok(page) => return Ok(page),
        Err(unfit) => unfit.wrong(wrote)?,
    };
    let mut page = blank(&console, &visit, &what, &form.0).await?;
    page.blame(wrong);
    for one in page
        .fields
        .iter_mut()
        .filter(|one| one.name == "filter" && !one.wrong.is_empty())
    {
        one.place = route_form::place(&form).unwrap_or_default();
    }
    Ok(show_as(StatusCode::BAD_REQUEST, &page))
}

fn back(what: &str, tenant: &str, fields: &[(String, String)]) -> String {
    let page = match (what, field(fields, "kind")) {
        ("source" | "change-source" | "rotate" | "end-key" | "test-source", _) | ("remove", "source") => "/sources",
        ("route", _) | ("remove", "route") => "/routes",
        ("destination" | "test-destination", _) | ("remove", "destination") => "/destinations",
        ("secret" | "remove-secret", _) => "/secrets",
        _ => "/settings",
    };
    address(page, &[("tenant", tenant)])
}

/// The names of the tenant's secrets.
async fn secret_names(console: &Console, visit: &Visit, tenant: &TenantName) -> Result<Vec<SecretName>, Trouble> {
    let path = TenantPath { tenant: tenant.clone() };
    let found = console
        .ask::<calls::Secrets>(&visit.visitor.token, &path, &Nothing {}, &Nothing {})
        .await?;
    Ok(found.into_iter().map(|secret| secret.name).collect())
}

/// The tenant's secrets by name, to choose from.
async fn secrets(console: &Console, visit: &Visit, tenant: &TenantName) -> Result<Vec<(String, String)>, Trouble> {
    let names = secret_names(console, visit, tenant).await?;
    let none = (String::new(), "choose one".to_owned());
    Ok(std::iter::once(none)
        .chain(pairs(names.iter().map(SecretName::as_str)))
        .collect())
}

async fn blank(console: &Console, visit: &Visit, what: &str, fields: &[(String, String)]) -> Result<Form, Trouble> {
    if !may(visit, Permission::SettingsWrite) {
        return Err(Trouble::new(StatusCode::FORBIDDEN, "your token changes no settings"));
    }
    let tenant = tenant(visit, fields)?.ok_or_else(|| Trouble::bad("tenant: say whose"))?;
    let given = |name: &str| field(fields, name).to_owned();
    let of = |names: &[&'static str]| -> Vec<(&'static str, String)> {
        let named = names.iter().map(|name| (*name, field(fields, name).to_owned()));
        named.filter(|(_, value)| !value.is_empty()).collect()
    };
    let mut form = Form::new(
        Frame::of(visit, ""),
        format!("{}/set/{}", crate::ROOT, segment(what)),
        tenant.as_str(),
        back(what, tenant.as_str(), fields),
    );
    let title = match what {
        "source" => {
            source_fields(console, visit, &tenant, &given("provider"), &mut form).await?;
            "Add a source"
        }
        "change-source" => {
            form.about = "Its secrets are rotated on its page. What has no field here stays as it is.".to_owned();
            let found = view(console, visit, &tenant).await?;
            form.fields = source_form::fields(&found.text, &given("name"));
            if form.fields.is_empty() {
                let says = "there is nothing to change by form; change it under Settings, or in the operator's file";
                return Err(Trouble::bad(says));
            }
            form.of = of(&["name"]);
            form.of.push(("expects", expected(fields, found.version)));
            "Change a source"
        }
        "route" => route_fields(console, visit, &tenant, fields, &mut form).await?,
        "destination" => destination_fields(console, visit, &tenant, fields, &mut form).await?,
        "rotate" => {
            form.about = "The new secret verifies beside the old one from the next request on. Once the provider signs with the new one alone, end the old one."
                .to_owned();
            form.of = of(&["name"]);
            let month = (console.host.now)().to_string();
            form.fields = vec![
                Field {
                    kind: Kind::Hidden,
                    ..line(
                        "new_secret",
                        "New secret",
                        "As the provider shows it, with its prefix. It is sealed and never shown again.",
                        true,
                    )
                },
                Field {
                    value: month.get(..10).unwrap_or("new").to_owned(),
                    ..line(
                        "secret_id",
                        "What receipts call it",
                        "For example the day on which it was made.",
                        true,
                    )
                },
            ];
            "Rotate the secret"
        }
        "end-key" => {
            form.about = "Requests that are signed with it are refused from the next one on. The secret itself stays under Secrets until it is removed there.".to_owned();
            form.of = of(&["name", "key"]);
            "End a secret"
        }
        "test-source" => {
            form.about = "The host makes an event that looks like the provider's, signs it with the source's own secret, and sends it through the edge. It is marked as a test, \
                          and has a receipt like any other."
                .to_owned();
            form.of = of(&["name"]);
            form.asks_why = false;
            form.fields.push(line(
                "event_type",
                "Type",
                "Empty: tollgate.test, which only routes take that ask for no types. Routes that take it do what they do with any event.",
                false,
            ));
            "Send a test event"
        }
        "test-destination" => {
            form.about = "One request or e-mail, sent as every delivery is and marked as a test. Nothing of it is kept, and it is not tried again.".to_owned();
            form.of = of(&["name"]);
            form.asks_why = false;
            "Send a test delivery"
        }
        "secret" => {
            form.about = "It is sealed at once and never shown again. What uses it must fit it.".to_owned();
            form.of = of(&["name"]);
            if form.of.is_empty() {
                form.fields.push(line(
                    "name",
                    "Name",
                    "Small letters, digits, - and _. Settings refer to it by this.",
                    true,
                ));
            }
            form.fields.push(Field {
                kind: Kind::Hidden,
                ..line("value", "Secret", "As the provider shows it, with its prefix.", true)
            });
            "Set a secret"
        }
        "settings" => {
            form.about = "The whole text takes the place of the one before.".to_owned();
            let found = view(console, visit, &tenant).await?;
            let is_sent = fields.iter().any(|(name, _)| name == "text");
            let (expects, text) = match is_sent {
                true => (given("expects"), given("text")),
                false => (found.version.to_string(), found.text),
            };
            form.of = vec![("expects", expects)];
            form.fields.push(Field {
                kind: Kind::Lines(24),
                value: text,
                ..line(
                    "text",
                    "Settings",
                    "TOML, as in a tenant's file. Secrets are { store = \"NAME\" }.",
                    false,
                )
            });
            "Change the settings"
        }
        "rollback" => {
            form.about =
                "The text of that version is in effect again, as a new version. Version 0 is no settings at all."
                    .to_owned();
            form.of = of(&["to"]);
            "Go back"
        }
        "remove" => {
            form.about = "It is taken out of the settings.".to_owned();
            form.of = of(&["kind", "name"]);
            "Remove it"
        }
        "remove-secret" => {
            form.about = "A secret that something uses stays.".to_owned();
            form.of = of(&["name"]);
            "Remove a secret"
        }
        _ => return Err(Trouble::not_found("there is no such thing to set")),
    };
    form.refill(fields);
    form.frame.title = title.to_owned();
    Ok(form)
}

/// Asks what the route is to do first, and then for what that needs. Returns the page's title.
async fn route_fields(
    console: &Console,
    visit: &Visit,
    tenant: &TenantName,
    fields: &[(String, String)],
    form: &mut Form,
) -> Result<&'static str, Trouble> {
    let (name, is_change) = (field(fields, "name"), is_change(fields));
    let found = view(console, visit, tenant).await?;
    let now = match is_change || !name.is_empty() && field(fields, "runs").is_empty() {
        true => Some(written_route(&found.text, name)?),
        false => None,
    };
    let runs = match (&now, field(fields, "runs")) {
        (Some((runs, _)), _) => Some(runs.clone()),
        (None, text) => Runs::of(text),
    };
    let Some(runs) = runs else {
        form.about = "What becomes of the events that it takes?".to_owned();
        form.is_question = true;
        let forms = [
            ("body", "hand events on as the provider sent them"),
            (
                "envelope",
                "hand events on in Tollgate's envelope: type, subject, amount and the rest read out, the body in it",
            ),
            ("cloudevents", "hand events on as CloudEvents"),
        ];
        let mut choices: Vec<_> = forms.map(|(value, name)| (value.to_owned(), name.to_owned())).to_vec();
        for version in plugins(console, visit, tenant).await? {
            let says = format!("run {} {}", version.name, mask::line(&version.version, 40));
            choices.push((format!("plugin:{}", version.name), says));
        }
        form.fields.push(Field {
            kind: Kind::One(choices),
            ..line(
                "runs",
                "What it does",
                "Plugins that are published are here too; one that is not yet is published on its page, under Plugins. A plugin begins with the version that \
                 is named; another is brought in on the route's page.",
                true,
            )
        });
        return Ok("Add a route");
    };
    let asks = asks(console, visit, tenant, &runs).await?;
    let offered = Offered {
        sources: found.sources.iter().map(|source| source.name.clone()).collect(),
        destinations: found
            .destinations
            .iter()
            .map(|destination| destination.name.clone())
            .collect(),
        types: types_seen(console, visit, tenant).await?,
    };
    form.of = vec![("runs", said(&runs))];
    form.about = match &runs {
        Runs::Forward(form) => format!("Events are handed on to destinations as they came ({form})."),
        Runs::Plugin(plugin) => format!("Each event that it takes is a job of {plugin}."),
    };
    let title = if now.is_some() {
        form.of.push(("name", name.to_owned()));
        form.of.push(("change", "yes".to_owned()));
        form.back = route_page(tenant.as_str(), name);
        "Change a route"
    } else {
        form.fields
            .push(line("name", "Name", "Small letters, digits, - and _.", true));
        "Add a route"
    };
    let now = match now {
        Some((_, table)) => Now::of(table, &asks).map_err(Trouble::bad)?,
        None => Now::default(),
    };
    form.fields.extend(route_form::fields(&runs, &asks, &offered, &now));
    Ok(title)
}

fn said(runs: &Runs) -> String {
    match runs {
        Runs::Forward(form) => form.to_string(),
        Runs::Plugin(plugin) => format!("plugin:{plugin}"),
    }
}

fn is_change(fields: &[(String, String)]) -> bool {
    field(fields, "change") == "yes"
}

/// A route of the settings as it stands there, to be changed, and what it runs.
fn written_route(text: &str, name: &str) -> Result<(Runs, TomlTable), Trouble> {
    let Some(table) = written::part(text, "routes", name) else {
        return Err(Trouble::not_found(format!(
            "the settings have no route `{}`; what the operator's file says is changed there",
            mask::line(name, 60)
        )));
    };
    let text = |key: &str| table.get(key).and_then(|item| item.as_str()).map(str::to_owned);
    let runs = match (text("forward"), text("plugin")) {
        (Some(form), None) => Runs::of(&form),
        (None, Some(plugin)) => Some(Runs::Plugin(plugin)),
        (Some(_), Some(_)) | (None, None) => None,
    };
    let runs =
        runs.ok_or_else(|| Trouble::bad("this route says neither a plugin nor a form; change it under Settings"))?;
    Ok((runs, table))
}

/// The published versions that a tenant's routes begin with: of each plugin the one that the operator's file names, or else the newest.
async fn plugins(console: &Console, visit: &Visit, tenant: &TenantName) -> Result<Vec<PluginVersion>, Trouble> {
    let query = PluginsQuery {
        tenant: Some(tenant.to_string()),
        name: None,
    };
    let all = console.read::<calls::Plugins>(&visit.visitor.token, &query).await?;
    let is_of_file = |version: &PluginVersion| version.owner.is_none() && version.added_by == BY_FILE;
    let mut first: Vec<PluginVersion> = Vec::new();
    // The newest come first.
    for version in all
        .into_iter()
        .filter(|version| version.standing == Standing::Published)
    {
        match first.iter_mut().find(|known| known.name == version.name) {
            None => first.push(version),
            Some(known) if is_of_file(&version) && !is_of_file(known) => *known = version,
            Some(_) => {}
        }
    }
    first.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    Ok(first)
}

async fn asks(console: &Console, visit: &Visit, tenant: &TenantName, runs: &Runs) -> Result<Asks, Trouble> {
    let Runs::Plugin(plugin) = runs else {
        return Ok(Asks::default());
    };
    let found = plugins(console, visit, tenant).await?;
    let found = found.into_iter().find(|version| version.name.as_str() == plugin);
    let found = found.ok_or_else(|| {
        Trouble::bad(format!(
            "no version of `{}` is published to this tenant",
            mask::line(plugin, 60)
        ))
    })?;
    Ok(Asks::of(&found.manifest))
}

/// Types of the tenant's newest events, for whoever may see those.
async fn types_seen(console: &Console, visit: &Visit, tenant: &TenantName) -> Result<Vec<String>, Trouble> {
    if !may(visit, Permission::ReceiptRead) {
        return Ok(Vec::new());
    }
    let query = ListQuery {
        filter: Some(format!("tenant:{tenant}")),
        limit: Some(EVENTS_LOOKED_AT),
        ..ListQuery::default()
    };
    let events = console.read::<calls::Events>(&visit.visitor.token, &query).await?;
    let mut types: Vec<String> = events
        .items
        .iter()
        .map(|row| row.event.event_type.to_string())
        .collect();
    types.sort();
    types.dedup();
    // Of what a peer may call anything, what fits a list of names.
    types.retain(|name| {
        name.len() <= 64
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b'*'))
    });
    types.truncate(TYPES_SHOWN);
    Ok(types)
}

/// Asks which kind of destination it is first, and then for what that needs. Returns the page's title.
async fn destination_fields(
    console: &Console,
    visit: &Visit,
    tenant: &TenantName,
    fields: &[(String, String)],
    form: &mut Form,
) -> Result<&'static str, Trouble> {
    let (name, kind) = (field(fields, "name"), field(fields, "kind"));
    let found = match is_change(fields) || !name.is_empty() && kind.is_empty() {
        true => Some(view(console, visit, tenant).await?),
        false => None,
    };
    let now = match &found {
        Some(found) => Some(written_destination(&found.text, name)?),
        None => None,
    };
    let Some(way) = now.as_ref().map(|(way, _)| *way).or_else(|| Way::of(kind)) else {
        form.about = "How does what is recorded get there?".to_owned();
        form.is_question = true;
        let kinds = [
            ("push", "Tollgate sends it: an HTTPS endpoint of your own"),
            ("pull", "Its owner fetches it, for example from behind a firewall"),
            ("email", "People are told of issues by e-mail, and of nothing else"),
        ];
        form.fields.push(Field {
            kind: Kind::One(kinds.map(|(value, name)| (value.to_owned(), name.to_owned())).to_vec()),
            ..line("kind", "Kind", "", true)
        });
        return Ok("Add a destination");
    };
    form.about = match way {
        Way::Push => "Each delivery is signed after Standard Webhooks, so that its receiver can tell whom it is from.",
        Way::Pull => {
            "What waits there is fetched and confirmed with tollgate pull or over HTTP, with a token of the role puller."
        }
        Way::Mail => "Each change of an issue is told there once, by the operator's mail server. No route sends there.",
    }
    .to_owned();
    let mut choices = secrets(console, visit, tenant).await?;
    if let Some(first) = choices.first_mut() {
        first.1 = "make a new one, which is shown once".to_owned();
    }
    form.of = vec![("kind", way.as_str().to_owned())];
    let (title, part) = match (now, found) {
        (Some((_, part)), Some(found)) => {
            // Which fields there are hangs on what it says: of another version they might be others.
            form.of.extend([
                ("name", name.to_owned()),
                ("change", "yes".to_owned()),
                ("expects", expected(fields, found.version)),
            ]);
            let unshown = destination_form::unshown(way, &part);
            if !unshown.is_empty() {
                form.about = format!(
                    "{} What has no field here stays as it is: {}.",
                    form.about,
                    unshown.join(", ")
                );
            }
            ("Change a destination", part)
        }
        _ => {
            form.fields
                .push(line("name", "Name", "Small letters, digits, - and _.", true));
            ("Add a destination", TomlTable::new())
        }
    };
    form.fields.extend(destination_form::fields(way, &part, choices));
    Ok(title)
}

/// The version that a form was made from: the newest, until it is sent.
fn expected(fields: &[(String, String)], newest: u64) -> String {
    match field(fields, "expects") {
        "" => newest.to_string(),
        version => version.to_owned(),
    }
}

/// A destination of the settings as it stands there, to be changed.
fn written_destination(text: &str, name: &str) -> Result<(Way, TomlTable), Trouble> {
    let Some(part) = written::part(text, "destinations", name) else {
        return Err(Trouble::not_found(format!(
            "the settings have no destination `{}`; what the operator's file says is changed there",
            mask::line(name, 60)
        )));
    };
    let way = Way::written(&part);
    let way =
        way.ok_or_else(|| Trouble::bad("this form knows no destination of that kind; change it under Settings"))?;
    Ok((way, part))
}

/// Asks for the provider first, and then for what that one needs.
async fn source_fields(
    console: &Console,
    visit: &Visit,
    tenant: &TenantName,
    provider: &str,
    form: &mut Form,
) -> Result<(), Trouble> {
    let Some(profile) = profile::shipped().get(provider) else {
        form.about = "Who sends events there? Tollgate knows how each of these proves itself.".to_owned();
        form.is_question = true;
        let known = profile::shipped().iter();
        let known = known.map(|(name, profile)| (name.to_string(), profile.title.clone()));
        form.fields.push(Field {
            kind: Kind::One(known.collect()),
            ..line(
                "provider",
                "Provider",
                "One that is not here may sign as others do: Standard Webhooks, or an HMAC of the body (generic-hmac).",
                true,
            )
        });
        return Ok(());
    };
    let found = view(console, visit, tenant).await?;
    form.about = format!(
        "{} sends events there. The URL to paste there is shown once the source is added.",
        profile.title
    );
    form.of = vec![("provider", provider.to_owned())];
    form.needs = needs(profile);
    form.needs_of.clone_from(&profile.title);
    let is_free = !found.sources.iter().any(|source| source.name == provider);
    form.fields.push(Field {
        value: if is_free { provider.to_owned() } else { String::new() },
        ..line(
            "name",
            "Name",
            "The last part of its URL: small letters, digits, - and _.",
            true,
        )
    });
    let secrets = secrets(console, visit, tenant).await?;
    if profile.needs_secrets() {
        if !found.takes_secrets {
            form.wrong = NO_SEAL_KEY.to_owned();
        }
        let now = (console.host.now)().to_string();
        form.fields.push(Field {
            kind: Kind::Hidden,
            ..line(
                "new_secret",
                "Secret",
                "What the provider signs with, pasted as it shows it, with its prefix. It is sealed and never shown again.",
                false,
            )
        });
        if secrets.len() > 1 {
            form.fields.push(Field {
                kind: Kind::One(secrets.clone()),
                ..line("secret", "Or one that was set already", "", false)
            });
        }
        form.fields.push(Field {
            value: now.get(..7).unwrap_or("1").to_owned(),
            ..line(
                "secret_id",
                "What receipts call it",
                "For example the month in which the secret was made.",
                true,
            )
        });
    }
    let live = |key| source_form::field(key, if key == "accept" { "live" } else { "" });
    form.fields.extend(source_form::keys(profile).map(live));
    for parameter in profile.parameters().iter().filter(|parameter| parameter.required) {
        let field = line(
            &format!("parameter-{}", parameter.name),
            &parameter.name,
            &parameter.what,
            true,
        );
        form.fields.push(match parameter.secret {
            true => Field {
                kind: Kind::One(secrets.clone()),
                ..field
            },
            false => field,
        });
    }
    Ok(())
}

/// The call that a form asks for, and what is to be said beside it.
async fn act(console: &Console, visit: &Visit, what: &str, form: &Filled) -> Result<(Act, Vec<String>), Unfit> {
    let tenant = tenant(visit, &form.0)?.ok_or_else(|| Trouble::bad("tenant: say whose"))?;
    let path = TenantPath { tenant: tenant.clone() };
    let (dry_run, actor) = (false, ACTOR.to_owned());
    match what {
        "test-source" => {
            let path = SourcePath {
                tenant,
                source: named("name", form.get("name")).map_err(Unfit::said)?,
            };
            let body = TestEventBody {
                event_type: form.given("event_type"),
                dry_run,
                actor,
            };
            return Ok((Act::TestSource(path, body), Vec::new()));
        }
        "test-destination" => {
            let path = DestinationPath {
                tenant,
                destination: named("name", form.get("name")).map_err(Unfit::said)?,
            };
            return Ok((
                Act::TestDestination(path, TestDeliveryBody { dry_run, actor }),
                Vec::new(),
            ));
        }
        _ => {}
    }
    let why = form.get("why").trim().to_owned();
    if why.is_empty() {
        return Err(Unfit::said(NO_REASON));
    }
    let secret_path = || -> Result<SecretPath, Unfit> {
        Ok(SecretPath {
            tenant: tenant.clone(),
            secret: named("name", form.get("name")).map_err(Unfit::said)?,
        })
    };
    let number = |name: &str| -> Result<u64, Trouble> {
        let number = form.get(name).parse();
        number.map_err(|_| Trouble::bad(format!("{name}: this form is not whole; open it again")))
    };
    let settings = |text: String, expects: u64, secret: Option<NewSecret>| SettingsBody {
        // A browser sends lines as they are sent in mails.
        text: text.replace("\r\n", "\n"),
        expects: Some(expects),
        receipts: None,
        secret,
        why: why.clone(),
        dry_run: false,
        actor: ACTOR.to_owned(),
    };
    let act = match what {
        "settings" => {
            let body = settings(form.get("text").to_owned(), number("expects")?, None);
            Act::Settings(path, Box::new(body))
        }
        "rollback" => {
            let newest = view(console, visit, &tenant).await?.version;
            let body = RollbackBody {
                to: Some(number("to")?),
                expects: Some(newest),
                receipts: None,
                why,
                dry_run,
                actor,
            };
            Act::RollBackSettings(path, body)
        }
        "secret" => {
            let body = SecretBody {
                value: SecretText(Secret::new(form.get("value"))),
                why,
                dry_run,
                actor,
            };
            Act::Secret(secret_path()?, body)
        }
        "remove-secret" => {
            let body = ActBody { why, dry_run, actor };
            Act::RemoveSecret(secret_path()?, body)
        }
        "source" | "rotate" => {
            let found = view(console, visit, &tenant).await?;
            let taken = secret_names(console, visit, &tenant).await?;
            let (secret, refers) = pasted(form, &taken)?;
            let text = match what {
                "source" => written::source_added(&found.text, form, refers.as_deref()),
                _ => written::key_added(
                    &found.text,
                    form.get("name"),
                    form.get("secret_id").trim(),
                    refers.as_deref(),
                ),
            };
            let body = settings(text.map_err(Trouble::bad)?, found.version, secret);
            Act::Settings(path, Box::new(body))
        }
        "destination" => {
            let found = view(console, visit, &tenant).await?;
            let is_change = is_change(&form.0);
            let (way, part) = match is_change {
                true => written_destination(&found.text, form.get("name").trim())?,
                false => {
                    let way = Way::of(form.get("kind"));
                    let way = way.ok_or_else(|| Unfit::said("this form is not whole; open it again"))?;
                    (way, TomlTable::new())
                }
            };
            let expects = if is_change { number("expects")? } else { found.version };
            let secret = form.given("secret");
            let made = match destination_form::asks_for_secret(way, &part) && secret.is_none() {
                true => {
                    let taken = secret_names(console, visit, &tenant).await?;
                    Some(made(console, form.get("name"), &taken)?)
                }
                false => None,
            };
            let refers = made.as_ref().map(|secret| secret.name.to_string()).or(secret);
            let text = match is_change {
                true => destination_form::changed(&found.text, way, form, refers.as_deref()),
                false => destination_form::added(&found.text, way, form, refers.as_deref()),
            };
            let body = Box::new(settings(text.map_err(Unfit::Wrong)?, expects, made));
            match body.secret {
                Some(_) => Act::SettingsAndShow(path, body),
                None => Act::Settings(path, body),
            }
        }
        "change-source" => {
            let found = view(console, visit, &tenant).await?;
            let text = source_form::changed(&found.text, form).map_err(Trouble::bad)?;
            Act::Settings(path, Box::new(settings(text, number("expects")?, None)))
        }
        "route" => return route_act(console, visit, &tenant, form, &settings).await,
        "end-key" | "remove" => {
            let found = view(console, visit, &tenant).await?;
            let text = match what {
                "remove" => written::removed(&found.text, form.get("kind"), form.get("name").trim()),
                _ => written::key_ended(&found.text, form.get("name"), form.get("key")),
            };
            let body = settings(text.map_err(Trouble::bad)?, found.version, None);
            Act::Settings(path, Box::new(body))
        }
        _ => return Err(Trouble::not_found("there is no such thing to set").into()),
    };
    Ok((act, Vec::new()))
}

/// What the form of a route asks for; what it grants is said in words beside it.
async fn route_act(
    console: &Console,
    visit: &Visit,
    tenant: &TenantName,
    form: &Filled,
    settings: &(dyn Fn(String, u64, Option<NewSecret>) -> SettingsBody + Send + Sync),
) -> Result<(Act, Vec<String>), Unfit> {
    let runs = Runs::of(form.get("runs")).ok_or_else(|| Trouble::bad("this form is not whole; open it again"))?;
    let asks = asks(console, visit, tenant, &runs).await?;
    let table = route_form::read(&runs, &asks, form).map_err(Unfit::Wrong)?;
    let found = view(console, visit, tenant).await?;
    let name = form.get("name").trim();
    if is_change(&form.0) {
        // By now it may be another than the one whose form was sent.
        let (now_runs, now) = written_route(&found.text, name)?;
        if now_runs != runs {
            return Err(Trouble::bad("this route runs something else by now; open its form again").into());
        }
        Now::of(now, &asks).map_err(Trouble::bad)?;
    }
    let text = written::with_part(&found.text, "route", name, table, is_change(&form.0));
    let text = text.map_err(|says| match says.strip_prefix("name: ") {
        Some(says) => Unfit::at("name", says),
        None => Unfit::said(says),
    })?;
    let granted = grants::read(&asks.kinds, form).unwrap_or_default();
    let notes = match (&runs, granted.is_empty()) {
        (Runs::Forward(_), _) => Vec::new(),
        (Runs::Plugin(plugin), true) => vec![format!(
            "{plugin} may do nothing on this route: whatever it proposes is refused."
        )],
        (Runs::Plugin(plugin), false) => {
            let words = granted
                .iter()
                .map(|grant| grants::in_words(grant).replacen("May", "may", 1));
            words.map(|words| format!("{plugin} {words}.")).collect()
        }
    };
    let path = TenantPath { tenant: tenant.clone() };
    Ok((
        Act::Settings(path, Box::new(settings(text, found.version, None))),
        notes,
    ))
}

/// The secret that was pasted into a form, and the name that settings refer to it by; or the name of one that was chosen.
fn pasted(form: &Filled, taken: &[SecretName]) -> Result<(Option<NewSecret>, Option<String>), Unfit> {
    let value = form.get("new_secret");
    if value.trim().is_empty() {
        return Ok((None, form.given("secret")));
    }
    let (name, id) = (form.get("name").trim(), form.get("secret_id").trim());
    let name = named_after(&[name, id], taken)?;
    let secret = NewSecret {
        name: name.clone(),
        value: SecretText(Secret::new(value)),
    };
    Ok((Some(secret), Some(name.to_string())))
}

/// A secret's name made of others, with a number behind it where a secret has that name: one that was used before may still be there, and
/// others may come to the same.
fn named_after(parts: &[&str], taken: &[SecretName]) -> Result<SecretName, Trouble> {
    let joined = parts.join("-").to_ascii_lowercase();
    let plain = joined.chars().map(|c| match c {
        'a'..='z' | '0'..='9' | '-' | '_' => c,
        _ => '-',
    });
    let plain: String = plain.take(SECRET_NAME_BYTES_MADE).collect();
    let plain = plain.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let numbered = (2..=taken.len() + 1).map(|number| format!("{plain}-{number}"));
    for name in std::iter::once(plain.to_owned()).chain(numbered) {
        let name = name
            .parse()
            .map_err(|_| Trouble::bad("name: small letters, digits, - and _"))?;
        if !taken.contains(&name) {
            return Ok(name);
        }
    }
    // Of so many names, that many others cannot take all.
    Err(Trouble::bad("name: its secrets have all names that it comes to"))
}

/// A new secret that signs, as Standard Webhooks writes one.
fn made(console: &Console, destination: &str, taken: &[SecretName]) -> Result<NewSecret, Trouble> {
    let mut random = [0; 32];
    if !(console.host.random)(&mut random) {
        return Err(Trouble::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the system has no randomness now; nothing was done",
        ));
    }
    let text = format!("whsec_{}", data_encoding::BASE64.encode(&random));
    Ok(NewSecret {
        name: named_after(&[destination.trim(), "signing"], taken)?,
        value: SecretText(Secret::new(text)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o14_a_secret_that_is_made_takes_a_name_that_is_free() {
        let mut taken = Vec::new();
        for expect in ["mine-signing", "mine-signing-2", "mine-signing-3"] {
            let name = named_after(&["Mine", "signing"], &taken).unwrap();
            assert_eq!(name.as_str(), expect);
            taken.push(name);
        }
        // What is joined or cut at comes to the same, and is told apart.
        let long = "x".repeat(63);
        for (one, other) in [
            (["a-b", "c"], ["a", "b-c"]),
            ([long.as_str(), "2026-11"], [long.as_str(), "2026-12"]),
        ] {
            let one = named_after(&one, &[]).unwrap();
            assert_ne!(named_after(&other, std::slice::from_ref(&one)).unwrap(), one);
        }
        assert!(named_after(&["", ""], &[]).is_err());
    }
}
