//! Forms that change what a tenant configures itself. Each writes the settings' text anew, or sets a secret; what it comes to is looked at
//! first, as a dry run of the call, and then done, as all forms of the console are. A secret that was filled in is in no page.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use tollgate_api::plugins::{ActBody, TenantPath};
use tollgate_api::settings::{RollbackBody, SecretBody, SecretPath, SecretText, SettingsBody};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::ids::{SecretName, TenantName};
use tollgate_core::mask;
use tollgate_core::profile::{self, Profile};
use tollgate_core::secret::Secret;

use crate::Console;
use crate::act::{ACTOR, Act};
use crate::acting;
use crate::asked::Trouble;
use crate::form::{Field, Form, Kind, line};
use crate::page::{Frame, may, show, show_as};
use crate::settings::{asked, tenant, view};
use crate::table::address;
use crate::visit::{Filled, Visit, field};
use crate::written::written;

/// `GET /console/set/{what}`: the form.
pub(crate) async fn form(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    let fields = asked(&uri);
    Ok(show(&blank(&console, &visit, &what, &fields, String::new()).await?))
}

/// `POST /console/set/{what}`: what would be done.
pub(crate) async fn preview(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    form: Filled,
) -> Result<Response, Trouble> {
    let act = match act(&console, &visit, &what, &form).await {
        Ok(act) => act,
        Err(trouble) if trouble.status == StatusCode::BAD_REQUEST => {
            let page = blank(&console, &visit, &what, &form.0, trouble.says).await?;
            return Ok(show_as(StatusCode::BAD_REQUEST, &page));
        }
        Err(trouble) => return Err(trouble),
    };
    match acting::looked_at(
        &console,
        &visit,
        act,
        form.get("why"),
        back(&what, form.get("tenant"), &form.0),
    )
    .await
    {
        Ok(page) => Ok(page),
        // What is wrong with what was filled in is said beside it.
        Err(trouble) if matches!(trouble.status, StatusCode::BAD_REQUEST | StatusCode::CONFLICT) => {
            let page = blank(&console, &visit, &what, &form.0, trouble.says).await?;
            Ok(show_as(StatusCode::BAD_REQUEST, &page))
        }
        Err(trouble) => Err(trouble),
    }
}

fn back(what: &str, tenant: &str, fields: &[(String, String)]) -> String {
    let page = match (what, field(fields, "kind")) {
        ("source", _) | ("remove", "source") => "/sources",
        ("route", _) | ("remove", "route") => "/routes",
        ("destination", _) | ("remove", "destination") => "/destinations",
        ("secret" | "remove-secret", _) => "/secrets",
        _ => "/settings",
    };
    address(page, &[("tenant", tenant)])
}

/// The tenant's secrets by name, to choose from.
async fn secrets(console: &Console, visit: &Visit, tenant: &TenantName) -> Result<Vec<(String, String)>, Trouble> {
    let path = TenantPath { tenant: tenant.clone() };
    let found = console
        .ask::<calls::Secrets>(&visit.visitor.token, &path, &Nothing {}, &Nothing {})
        .await?;
    let names = found.iter().map(|secret| secret.name.to_string());
    let none = (String::new(), "choose one".to_owned());
    Ok(std::iter::once(none)
        .chain(names.map(|name| (name.clone(), name)))
        .collect())
}

async fn blank(
    console: &Console,
    visit: &Visit,
    what: &str,
    fields: &[(String, String)],
    wrong: String,
) -> Result<Form, Trouble> {
    if !may(visit, Permission::SettingsWrite) {
        return Err(Trouble::new(StatusCode::FORBIDDEN, "your token changes no settings"));
    }
    let tenant = tenant(visit, fields)?.ok_or_else(|| Trouble::bad("tenant: say whose"))?;
    let given = |name: &str| field(fields, name).to_owned();
    let of = |names: &[&'static str]| -> Vec<(&'static str, String)> {
        let named = names.iter().map(|name| (*name, field(fields, name).to_owned()));
        named.filter(|(_, value)| !value.is_empty()).collect()
    };
    let mut form = Form {
        frame: Frame::of(visit, ""),
        action: format!("{}/set/{what}", crate::ROOT),
        about: "",
        of: Vec::new(),
        needs: Vec::new(),
        fields: Vec::new(),
        is_question: false,
        why: given("why"),
        back: back(what, tenant.as_str(), fields),
        tenant: tenant.to_string(),
        wrong,
    };
    let title = match what {
        "source" => {
            source_form(console, visit, &tenant, &given("provider"), &mut form).await?;
            "Add a source"
        }
        "route" => {
            form.about = "Which events it takes, and what becomes of them.";
            let forms = [
                ("envelope", "hand on the envelope with the event"),
                ("body", "hand on the body as it came"),
                ("cloudevents", "hand on a CloudEvent"),
                ("plugin", "run a plugin"),
            ];
            let forms = forms.map(|(value, name)| (value.to_owned(), name.to_owned()));
            form.fields = vec![
                line("name", "Name", "Small letters, digits, - and _.", true),
                line("sources", "Sources", "With commas between them; empty for all.", false),
                line(
                    "types",
                    "Types of events",
                    "With commas between them, for example customer.*; empty for all.",
                    false,
                ),
                Field {
                    kind: Kind::One(forms.to_vec()),
                    ..line("runs", "What it does", "", true)
                },
                line("plugin", "Plugin", "The name of a plugin, where one is run.", false),
                line("destinations", "Destinations", "With commas between them.", false),
                Field {
                    kind: Kind::Lines(5),
                    ..line(
                        "more",
                        "Further keys",
                        "As TOML, for example grants and config of a plugin.",
                        false,
                    )
                },
            ];
            "Add a route"
        }
        "destination" => {
            form.about = "An HTTPS endpoint of your own. Each delivery is signed after Standard Webhooks.";
            form.fields = vec![
                line("name", "Name", "Small letters, digits, - and _.", true),
                line("url", "URL", "With https.", true),
                Field {
                    kind: Kind::One(secrets(console, visit, &tenant).await?),
                    ..line(
                        "secret",
                        "Secret that signs",
                        "Set it under Secrets first: the base64 of 24 to 64 random bytes behind the prefix of Standard Webhooks.",
                        true,
                    )
                },
            ];
            "Add a destination"
        }
        "secret" => {
            form.about = "It is sealed at once and never shown again. What uses it must fit it.";
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
            form.about = "The whole text takes the place of the one before.";
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
                "The text of that version is in effect again, as a new version. Version 0 is no settings at all.";
            form.of = of(&["to"]);
            "Go back"
        }
        "remove" => {
            form.about = "It is taken out of the settings.";
            form.of = of(&["kind", "name"]);
            "Remove it"
        }
        "remove-secret" => {
            form.about = "A secret that something uses stays.";
            form.of = of(&["name"]);
            "Remove a secret"
        }
        _ => return Err(Trouble::not_found("there is no such thing to set")),
    };
    for one in &mut form.fields {
        let was = field(fields, &one.name);
        if one.value.is_empty() && !was.is_empty() && !matches!(one.kind, Kind::Hidden) {
            one.value = was.to_owned();
        }
    }
    form.frame.title = title.to_owned();
    Ok(form)
}

/// Asks for the provider first, and then for what that one needs.
async fn source_form(
    console: &Console,
    visit: &Visit,
    tenant: &TenantName,
    provider: &str,
    form: &mut Form,
) -> Result<(), Trouble> {
    let Some(profile) = profile::shipped().get(provider) else {
        form.about = "Who sends events there? Tollgate knows how each proves itself.";
        form.is_question = true;
        let known = profile::shipped().iter();
        let known = known.map(|(name, profile)| (name.to_string(), profile.title.clone()));
        form.fields.push(Field {
            kind: Kind::One(known.collect()),
            ..line("provider", "Provider", "", true)
        });
        return Ok(());
    };
    form.about = "Set its secret under Secrets first. The path to give to the provider is shown once it is added.";
    form.of = vec![("provider", provider.to_owned())];
    form.needs = needs(profile);
    form.fields.push(line(
        "name",
        "Name",
        "The last part of its URL: small letters, digits, - and _.",
        true,
    ));
    let secrets = secrets(console, visit, tenant).await?;
    if profile.needs_secrets() {
        let now = (console.host.now)().to_string();
        form.fields.push(Field {
            kind: Kind::One(secrets.clone()),
            ..line(
                "secret",
                "Secret",
                "What the provider signs with, as it was set under Secrets.",
                true,
            )
        });
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
    if profile.signs_url() {
        form.fields.push(line(
            "public_url",
            "Public URL",
            "Scheme and host as the provider has them: it signs them.",
            true,
        ));
    }
    if profile.needs_event_type() {
        form.fields.push(line(
            "event_type",
            "Type of its events",
            "What such an event is to you, for example campaign.clicked.",
            true,
        ));
    }
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

/// What is known of a provider, for whoever sets a source up.
fn needs(profile: &Profile) -> Vec<(&'static str, String)> {
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

/// The call that a form asks for.
async fn act(console: &Console, visit: &Visit, what: &str, form: &Filled) -> Result<Act, Trouble> {
    let tenant = tenant(visit, &form.0)?.ok_or_else(|| Trouble::bad("tenant: say whose"))?;
    let why = form.get("why").trim().to_owned();
    if why.is_empty() {
        return Err(Trouble::bad("why: say why: the history keeps it"));
    }
    let path = TenantPath { tenant: tenant.clone() };
    let secret_path = || -> Result<SecretPath, Trouble> {
        Ok(SecretPath {
            tenant: tenant.clone(),
            secret: named::<SecretName>("name", form.get("name"))?,
        })
    };
    let number = |name: &str| -> Result<u64, Trouble> {
        let number = form.get(name).parse();
        number.map_err(|_| Trouble::bad(format!("{name}: this form is not whole; open it again")))
    };
    let settings = |text: String, expects: u64| {
        let body = SettingsBody {
            // A browser sends lines as they are sent in mails.
            text: text.replace("\r\n", "\n"),
            expects: Some(expects),
            receipts: None,
            why: why.clone(),
            dry_run: false,
            actor: ACTOR.to_owned(),
        };
        Act::Settings(path.clone(), Box::new(body))
    };
    Ok(match what {
        "settings" => settings(form.get("text").to_owned(), number("expects")?),
        "rollback" => {
            let newest = view(console, visit, &tenant).await?.version;
            let body = RollbackBody {
                to: Some(number("to")?),
                expects: Some(newest),
                receipts: None,
                why,
                dry_run: false,
                actor: ACTOR.to_owned(),
            };
            Act::RollBackSettings(path, body)
        }
        "secret" => {
            let body = SecretBody {
                value: SecretText(Secret::new(form.get("value"))),
                why,
                dry_run: false,
                actor: ACTOR.to_owned(),
            };
            Act::Secret(secret_path()?, body)
        }
        "remove-secret" => {
            let body = ActBody {
                why,
                dry_run: false,
                actor: ACTOR.to_owned(),
            };
            Act::RemoveSecret(secret_path()?, body)
        }
        "source" | "route" | "destination" | "remove" => {
            let found = view(console, visit, &tenant).await?;
            let text = written(what, &found.text, form).map_err(Trouble::bad)?;
            settings(text, found.version)
        }
        _ => return Err(Trouble::not_found("there is no such thing to set")),
    })
}

fn named<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Trouble> {
    text.trim()
        .parse()
        .map_err(|error| Trouble::bad(format!("{field}: {error}")))
}
