//! Forms that make something: a token, a portal link, a bulk action. What would be made is looked at first, as all that forms do here.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use tollgate_api::bulk::BulkBody;
use tollgate_api::plugins::TenantPath;
use tollgate_api::portal::NewLinkBody;
use tollgate_api::tokens::NewTokenBody;
use tollgate_core::access::{Capability, Permission, Role};
use tollgate_core::bulk::BulkAction;
use tollgate_core::filter::Listing;
use tollgate_core::ids::TenantName;

use crate::act::{ACTOR, Act};
use crate::asked::Trouble;
use crate::bulks::actions;
use crate::fields::{Field, Form, Kind, NO_REASON, Unfit, Wrote, line, pairs};
use crate::page::{Frame, may, show, show_as};
use crate::settings::tenants;
use crate::table::address;
use crate::visit::{Filled, Visit, asked, field, named};
use crate::{Console, ROOT, acting};

/// How long a link may be asked to last by the form; the command line takes any time.
const TIMES: [(&str, &str); 6] = [
    ("30m", "30 minutes"),
    ("1h", "an hour"),
    ("8h", "8 hours"),
    ("1d", "a day"),
    ("3d", "3 days"),
    ("7d", "7 days"),
];

/// `GET /console/make/{what}`: the form.
pub(crate) async fn form(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    Ok(show(&blank(&console, &visit, &what, &asked(&uri)).await?))
}

/// `POST /console/make/{what}`: what would be made.
pub(crate) async fn preview(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    form: Filled,
) -> Result<Response, Trouble> {
    let looked = match act(&visit, &what, &form) {
        _ if form.given("why").is_none() => Err(Unfit::said(NO_REASON)),
        Ok(act) => acting::looked_at(&console, &visit, act, form.get("why"), back(&what, &form.0)).await,
        Err(says) => Err(Unfit::said(says)),
    };
    let wrong = match looked {
        Ok(page) => return Ok(page),
        Err(unfit) => unfit.wrong(Wrote::Fields)?,
    };
    let mut page = blank(&console, &visit, &what, &form.0).await?;
    page.blame(wrong);
    Ok(show_as(StatusCode::BAD_REQUEST, &page))
}

fn back(what: &str, fields: &[(String, String)]) -> String {
    match (what, field(fields, "of").parse::<Listing>()) {
        ("bulk", Ok(list)) => address(&format!("/{}", list.as_str()), &[("filter", field(fields, "filter"))]),
        ("bulk", Err(_)) => address("/bulk", &[]),
        _ => address("/tokens", &[]),
    }
}

async fn blank(console: &Console, visit: &Visit, what: &str, fields: &[(String, String)]) -> Result<Form, Trouble> {
    let needs = if what == "bulk" {
        Permission::BulkWrite
    } else {
        Permission::TokenWrite
    };
    if !may(visit, needs) {
        let says = format!("your token has no permission {}", needs.as_str());
        return Err(Trouble::new(StatusCode::FORBIDDEN, says));
    }
    let own = visit.visitor.who.tenant.as_ref().map(ToString::to_string);
    let mut form = Form::new(
        Frame::of(visit, ""),
        format!("{ROOT}/make/{what}"),
        own.as_deref().unwrap_or_default(),
        back(what, fields),
    );
    form.frame.title = match what {
        "token" => {
            form.about = "It is shown once, when it is made. Nobody gives more than they have.".to_owned();
            let roles = Role::ALL.map(|role| (role.as_str().to_owned(), role_says(role)));
            let roles = roles
                .into_iter()
                .filter(|(role, _)| own.is_none() || role != "operator");
            form.fields = vec![
                line(
                    "name",
                    "What it is for",
                    "For example: CI of the cashback plugin.",
                    true,
                ),
                Field {
                    kind: Kind::One(roles.rev().collect()),
                    ..line("role", "Role", "", true)
                },
            ];
            if own.is_none() {
                let hint = "An operator is of the whole host; a viewer may be.";
                let whole = (String::new(), "the whole host".to_owned());
                form.fields.push(Field {
                    kind: Kind::One(
                        std::iter::once(whole)
                            .chain(named_tenants(console, visit).await?)
                            .collect(),
                    ),
                    ..line("tenant", "Tenant", hint, false)
                });
            }
            let hint = "Days until it ends; empty: when it is revoked.";
            form.fields.push(line("expires_in_days", "Days", hint, false));
            "Make a token"
        }
        "link" => {
            form.about =
                "It opens this console for one tenant. It is shown once, when it is made; hand it to whom it is for."
                    .to_owned();
            if own.is_none() {
                form.fields.push(Field {
                    kind: Kind::One(named_tenants(console, visit).await?),
                    ..line("tenant", "Tenant", "Whose console it opens.", true)
                });
            }
            let is_first = !fields.iter().any(|(name, _)| name == "why");
            let listed = Capability::ALL.map(|one| {
                let chosen = field(fields, &format!("may-{}", one.as_str())) == "on";
                let is_read = is_first && one == Capability::Read;
                (one.as_str().to_owned(), one.says().to_owned(), chosen || is_read)
            });
            let times = TIMES.map(|(value, name)| (value.to_owned(), name.to_owned()));
            let schemes = [("", "as their browser says"), ("light", "light"), ("dark", "dark")];
            let schemes = schemes.map(|(value, name)| (value.to_owned(), name.to_owned()));
            form.fields.extend([
                line("name", "Who it is for", "The history names what they do by this.", true),
                Field {
                    kind: Kind::Any(listed.into()),
                    ..line("may", "What it lets them do", "", false)
                },
                Field {
                    kind: Kind::One(times.into()),
                    value: "1h".to_owned(),
                    ..line("for", "How long it lasts", "", true)
                },
                line(
                    "accent",
                    "Accent",
                    "A colour of your own, for example #0a7; empty for the console's.",
                    false,
                ),
                Field {
                    kind: Kind::One(schemes.into()),
                    ..line("scheme", "Colours", "Until they choose.", false)
                },
            ]);
            "Make a portal link"
        }
        "bulk" => {
            let list: Listing = named("of", field(fields, "of")).map_err(Trouble::bad)?;
            form.about =
                "It is done to all that fits now, in steps; what comes in meanwhile is left alone. It can be ended."
                    .to_owned();
            form.of = vec![
                ("of", list.as_str().to_owned()),
                ("filter", field(fields, "filter").to_owned()),
            ];
            let offered = actions(visit, list);
            if offered.is_empty() {
                return Err(Trouble::bad(format!("nothing is done to all of the {}", list.as_str())));
            }
            let gives_status = offered.iter().any(|(action, _)| *action == BulkAction::Map);
            let offered = offered
                .into_iter()
                .map(|(action, says)| (action.as_str().to_owned(), says.to_owned()));
            form.fields.push(Field {
                kind: Kind::One(offered.collect()),
                ..line("action", "What is done", "", true)
            });
            if gives_status {
                let hint = "Only where held events are given one: a status of their lifecycle, for example completed.";
                form.fields.push(line("to", "Status", hint, false));
            }
            "Do one thing to all of these"
        }
        _ => return Err(Trouble::not_found("there is no such thing to make")),
    }
    .to_owned();
    form.refill(fields);
    Ok(form)
}

/// The tenants, to choose from.
async fn named_tenants(console: &Console, visit: &Visit) -> Result<Vec<(String, String)>, Trouble> {
    Ok(pairs(tenants(console, visit).await?.iter().map(TenantName::as_str)))
}

fn role_says(role: Role) -> String {
    let says = match role {
        Role::Operator => "runs the host, of every tenant",
        Role::TenantAdmin => "runs one tenant",
        Role::PluginAuthor => "uploads and tries plugins of one tenant",
        Role::Puller => "fetches what waits for one tenant's pulled destinations",
        Role::Viewer => "reads, and changes nothing",
        Role::Portal(_) => "came by a link",
    };
    format!("{role}: {says}")
}

/// The call that a form asks for.
fn act(visit: &Visit, what: &str, form: &Filled) -> Result<Act, String> {
    let why = form.given("why").unwrap_or_default();
    let own = visit.visitor.who.tenant.as_ref().map(ToString::to_string);
    let tenant = own.or_else(|| form.given("tenant"));
    Ok(match what {
        "token" => Act::Token(Box::new(NewTokenBody {
            name: form.get("name").trim().to_owned(),
            role: form.get("role").to_owned(),
            tenant,
            expires_in_days: form
                .given("expires_in_days")
                .map(|days| {
                    days.parse()
                        .map_err(|_| format!("expires_in_days: `{days}` is no number of days"))
                })
                .transpose()?,
            why,
            dry_run: false,
            actor: ACTOR.to_owned(),
        })),
        "link" => {
            let tenant = tenant.ok_or("tenant: say whose console it opens")?;
            let listed = Capability::ALL.map(Capability::as_str);
            let chosen = listed
                .into_iter()
                .filter(|word| form.get(&format!("may-{word}")) == "on");
            let path = TenantPath {
                tenant: named("tenant", &tenant)?,
            };
            let body = NewLinkBody {
                may: chosen.map(str::to_owned).collect(),
                lasts: form.get("for").to_owned(),
                why,
                name: form.get("name").trim().to_owned(),
                accent: form.given("accent"),
                scheme: form.given("scheme"),
                dry_run: false,
                actor: ACTOR.to_owned(),
            };
            Act::Link(path, Box::new(body))
        }
        "bulk" => Act::Bulk(Box::new(BulkBody {
            action: form.get("action").to_owned(),
            of: form.given("of"),
            to: form.given("to"),
            filter: form.get("filter").to_owned(),
            upto: None,
            dry_run: false,
            actor: ACTOR.to_owned(),
            why,
        })),
        _ => return Err("there is no such thing to make".to_owned()),
    })
}
