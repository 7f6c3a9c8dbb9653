//! Forms that change what a plugin's version is, or what a route runs: publish, retire, shadow, canary, promote, roll back, follow the file. Each is
//! looked at first.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use tollgate_api::plugins::{ActBody, ChangeBody, PluginPath, PluginQuery, PluginVersion, PluginsQuery, RoutePath};
use tollgate_api::{Nothing, calls};
use tollgate_core::access::Permission;
use tollgate_core::mask;
use tollgate_core::registry::{Standing, Step};

use crate::Console;
use crate::act::{ACTOR, Act, Binding};
use crate::acting::looked_at;
use crate::asked::Trouble;
use crate::fields::{Field, Form, Kind, NO_REASON, Unfit, Wrote, line};
use crate::page::{Frame, may, show, show_as};
use crate::table::{address, route_page, segment};
use crate::visit::{Filled, Visit, asked, field, named};
use crate::words::short;

/// What is to be done, by the last part of a form's address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Step(Step),
    /// A version is brought to a route.
    Bring(Binding),
    /// What was brought is taken away again, or something else is done that brings none.
    Leave(Binding),
}

impl Wanted {
    fn of(what: &str) -> Option<Self> {
        Some(match what {
            "publish" => Self::Step(Step::Publish),
            "retire" => Self::Step(Step::Retire),
            "shadow" => Self::Bring(Binding::Shadow),
            "canary" => Self::Bring(Binding::Canary),
            "promote" => Self::Bring(Binding::Promote),
            "end-shadow" => Self::Leave(Binding::Shadow),
            "end-canary" => Self::Leave(Binding::Canary),
            "roll-back" => Self::Leave(Binding::RollBack),
            "follow-file" => Self::Leave(Binding::FollowFile),
            _ => return None,
        })
    }

    fn title(self) -> &'static str {
        match self {
            Self::Step(Step::Publish) => "Publish a version",
            Self::Step(Step::Retire) => "Retire a version",
            Self::Bring(Binding::Shadow) => "Run a version in shadow",
            Self::Bring(Binding::Canary) => "Give a version a share",
            Self::Bring(_) => "Promote a version",
            Self::Leave(Binding::Shadow) => "End the shadow",
            Self::Leave(Binding::Canary) => "End the canary",
            Self::Leave(Binding::FollowFile) => "Follow the file again",
            Self::Leave(_) => "Roll back",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Step(Step::Publish) => {
                "It may be brought to routes from then on, and its name and version mean this digest for ever. Nothing runs it by that."
            }
            Self::Step(Step::Retire) => {
                "It is never brought to a route again, which is for ever. What it recorded stays."
            }
            Self::Bring(Binding::Shadow) => {
                "It runs beside the active version on live events. What it proposes is compared and dropped: it has no effect."
            }
            Self::Bring(Binding::Canary) => {
                "It runs in the active version's stead for a part of the subjects, with all its effects. The same subject stays with the same version."
            }
            Self::Bring(_) => {
                "It becomes the route's active version. The one before is remembered, and one step goes back to it."
            }
            Self::Leave(Binding::Shadow) => "Nothing runs beside the active version any more.",
            Self::Leave(Binding::Canary) => "Its subjects go back to the active version.",
            Self::Leave(Binding::FollowFile) => {
                "The route runs what the operator's file names from then on, also when that changes."
            }
            Self::Leave(_) => {
                "The last step forward is taken back: the canary ends if there is one; else what ran before runs again. A shadow ends as well."
            }
        }
    }
}

/// `GET /console/bring/{what}`.
pub(crate) async fn form(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    Ok(show(&blank(&console, &visit, &what, &asked(&uri)).await?))
}

/// `POST /console/bring/{what}`: what would be done.
pub(crate) async fn preview(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    form: Filled,
) -> Result<Response, Trouble> {
    let looked = match act(&what, &form) {
        Ok(act) => looked_at(&console, &visit, act, form.get("why"), back(&form.0)).await,
        Err(unfit) => Err(unfit),
    };
    let wrong = match looked {
        Ok(page) => return Ok(page),
        Err(unfit) => unfit.wrong(Wrote::Fields)?,
    };
    let mut page = blank(&console, &visit, &what, &form.0).await?;
    page.blame(wrong);
    Ok(show_as(StatusCode::BAD_REQUEST, &page))
}

/// Where somebody came from: the route, or the version.
fn back(fields: &[(String, String)]) -> String {
    let (tenant, route) = (field(fields, "tenant"), field(fields, "route"));
    if !tenant.is_empty() && !route.is_empty() {
        return route_page(tenant, route);
    }
    match field(fields, "plugin") {
        "" => address("/plugins", &[]),
        plugin => address(&format!("/plugins/{}", segment(plugin)), &[]),
    }
}

async fn blank(console: &Console, visit: &Visit, what: &str, given: &[(String, String)]) -> Result<Form, Trouble> {
    let wanted = Wanted::of(what).ok_or_else(|| Trouble::not_found("there is no such thing to do"))?;
    if !may(visit, Permission::PluginPromote) {
        return Err(Trouble::new(
            StatusCode::FORBIDDEN,
            "your token brings no plugin to a route; the operator's and a tenant admin's do",
        ));
    }
    let kept = |name: &'static str| (name, field(given, name).to_owned());
    let action = format!("{}/bring/{}", crate::ROOT, segment(what));
    let mut form = Form::new(Frame::of(visit, wanted.title()), action, "", back(given));
    form.about = wanted.about().to_owned();
    match wanted {
        Wanted::Step(_) => form.of = vec![kept("plugin")],
        Wanted::Leave(_) => form.of = vec![kept("tenant"), kept("route")],
        Wanted::Bring(binding) => {
            form.of = vec![kept("tenant"), kept("route")];
            let path = route_path(given).map_err(Trouble::bad)?;
            let token = &visit.visitor.token;
            let nothing = Nothing {};
            let route = console
                .ask::<calls::ShowRoute>(token, &path, &nothing, &nothing)
                .await?;
            let Some(plugin) = route.plugin else {
                return Err(Trouble::bad("this route hands events on, and runs no plugin"));
            };
            let query = PluginsQuery {
                tenant: Some(path.tenant.to_string()),
                name: Some(plugin.to_string()),
            };
            let versions = console.read::<calls::Plugins>(token, &query).await?;
            let active = route.binding.as_ref().map(|binding| binding.active);
            let choices = versions
                .iter()
                .filter(|version| version.standing == Standing::Published && Some(version.digest) != active)
                .map(|version| (version.digest.to_string(), version_name(version)));
            let choices: Vec<_> = choices.collect();
            if choices.is_empty() {
                form.wrong =
                    format!("There is no other published version of {plugin}: upload one and publish it first.");
            }
            form.fields.push(Field {
                kind: Kind::One(choices),
                value: field(given, "plugin").to_owned(),
                ..line(
                    "plugin",
                    "Version",
                    "Published versions of the plugin, the newest first.",
                    true,
                )
            });
            if binding == Binding::Canary {
                form.fields.push(line(
                    "share",
                    "Share of the subjects, in per cent",
                    "From 0.1 to 99.9, for example 5.",
                    true,
                ));
            }
        }
    }
    form.refill(given);
    Ok(form)
}

/// A version as people tell it from others.
pub(crate) fn version_name(version: &PluginVersion) -> String {
    let digest = version.digest.to_string();
    format!(
        "{} {} ({})",
        version.name,
        mask::line(&version.version, 40),
        short(&digest)
    )
}

/// The route that a form is about.
///
/// # Errors
/// In words, when it names none.
pub(crate) fn route_path(given: &[(String, String)]) -> Result<RoutePath, String> {
    Ok(RoutePath {
        tenant: named("tenant", field(given, "tenant"))?,
        route: named("route", field(given, "route"))?,
    })
}

/// The call that a form asks for.
fn act(what: &str, form: &Filled) -> Result<Act, Unfit> {
    let wanted = Wanted::of(what).ok_or_else(|| Unfit::said("there is no such thing to do"))?;
    let why = form.given("why").ok_or_else(|| Unfit::said(NO_REASON))?;
    let (dry_run, actor) = (false, ACTOR.to_owned());
    let binding = |binding, plugin, per_mille| {
        let path = route_path(&form.0).map_err(Unfit::said)?;
        let body = ChangeBody {
            plugin,
            per_mille,
            why: why.clone(),
            dry_run,
            actor: actor.clone(),
        };
        Ok(Act::Binding(binding, path, body))
    };
    match wanted {
        Wanted::Step(step) => {
            let path = PluginPath {
                plugin: form.get("plugin").to_owned(),
            };
            let body = ActBody { why, dry_run, actor };
            Ok(Act::Version(step, path, PluginQuery::default(), body))
        }
        Wanted::Leave(of) => binding(of, None, None),
        Wanted::Bring(of) => {
            let plugin = form.given("plugin");
            let plugin = plugin.ok_or_else(|| Unfit::at("plugin", "choose a version"))?;
            let share = match of {
                Binding::Canary => {
                    let share = per_mille(form.get("share"));
                    Some(share.ok_or_else(|| Unfit::at("share", "write a number from 0.1 to 99.9"))?)
                }
                _ => None,
            };
            binding(of, Some(plugin), share)
        }
    }
}

/// Per cent, with one digit behind the point at most, in thousandths.
fn per_mille(text: &str) -> Option<u16> {
    let text = text.trim().trim_end_matches('%').trim_end();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number =
        |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole, 2) || !is_number(part, 1) {
        return None;
    }
    let share: u16 = format!("{whole}{part}").parse().ok()?;
    (1..=999).contains(&share).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w1_a_share_is_per_cent() {
        for (text, share) in [
            ("5", Some(50)),
            ("0.1", Some(1)),
            ("99.9 %", Some(999)),
            (" 12.5% ", Some(125)),
        ] {
            assert_eq!(per_mille(text), share, "{text}");
        }
        for text in ["", "0", "0.0", "100", "0.01", "-5", "5,5", "1e1"] {
            assert_eq!(per_mille(text), None, "{text}");
        }
    }

    #[test]
    fn w1_a_form_brings_what_it_names_and_nothing_else() {
        let of = [("tenant", "acme"), ("route", "cashback"), ("why", "w")];
        let with = |more: &[(&str, &str)]| Filled::of(&[&of[..], more].concat());
        let Ok(Act::Binding(Binding::Canary, path, body)) =
            act("canary", &with(&[("plugin", "sha256:aa"), ("share", "5")]))
        else {
            panic!()
        };
        assert_eq!(
            (path.route.as_str(), body.per_mille, body.plugin.as_deref()),
            ("cashback", Some(50), Some("sha256:aa"))
        );
        let Ok(Act::Binding(Binding::Shadow, _, body)) = act("end-shadow", &with(&[("plugin", "sha256:aa")])) else {
            panic!()
        };
        assert_eq!(body.plugin, None, "what ends brings nothing");
        for (what, form) in [
            ("canary", with(&[("plugin", "x")])),
            ("promote", with(&[])),
            (
                "promote",
                Filled::of(&[("tenant", "acme"), ("route", "r"), ("plugin", "x")]),
            ),
            (
                "shadow",
                Filled::of(&[("tenant", "No One"), ("route", "r"), ("plugin", "x"), ("why", "w")]),
            ),
            ("erase", with(&[])),
        ] {
            assert!(act(what, &form).is_err(), "{what}");
        }
        assert_eq!(segment("a/../b\"<"), "a..b");
    }
}
