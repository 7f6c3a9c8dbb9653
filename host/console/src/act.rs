//! What somebody wants done: a call of the API that changes something, whole. It is looked at first, as a dry run, and kept by the session;
//! what is confirmed is exactly what was looked at, and it is done once.

use std::fmt::{self, Write as _};

use tollgate_api::bulk::{AbortBody, BulkBody, BulkPath};
use tollgate_api::dead_letters::DeadLetterQuery;
use tollgate_api::hosts::{DrainBody, HostPath};
use tollgate_api::issues::{IssueBody, IssuePath};
use tollgate_api::pauses::DestinationPath;
use tollgate_api::plugins::{ActBody, ChangeBody, PluginPath, PluginQuery, RoutePath, TenantPath};
use tollgate_api::portal::NewLinkBody;
use tollgate_api::replay::ReplayBody;
use tollgate_api::resend::{ResendBody, SentQuery};
use tollgate_api::settings::{RollbackBody, SecretBody, SecretPath, SettingsBody};
use tollgate_api::tokens::{NewTokenBody, RevokeBody, TokenPath};
use tollgate_api::tryouts::{SourcePath, TestDeliveryBody, TestEventBody};
use tollgate_core::registry::Step;
use tollgate_core::review::ReviewBody;

use crate::visit::named;

/// Who the history says asked, beside the token's name.
pub(crate) const ACTOR: &str = "console";

/// A call that changes something.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Puts work back.
    Replay(Box<ReplayBody>),
    /// Sends again what was delivered.
    Resend(ResendBody),
    /// Decides about what is set aside.
    Review(ReviewBody),
    /// Lets versions in quarantine run again.
    Lift(RoutePath, ActBody),
    /// Sets a tenant's settings.
    Settings(TenantPath, Box<SettingsBody>),
    /// Goes back to an earlier version of them.
    RollBackSettings(TenantPath, RollbackBody),
    /// Sets a secret, which is kept with the session until then.
    Secret(SecretPath, SecretBody),
    /// Removes one.
    RemoveSecret(SecretPath, ActBody),
    /// Sets settings with a secret that this host made: whoever set them sees it once, when it is done.
    SettingsAndShow(TenantPath, Box<SettingsBody>),
    /// Publishes or retires a plugin's version.
    Version(Step, PluginPath, PluginQuery, ActBody),
    /// Changes what a route runs.
    Binding(Binding, RoutePath, ChangeBody),
    /// Sends a source a test event.
    TestSource(SourcePath, TestEventBody),
    /// Sends a destination a test delivery.
    TestDestination(DestinationPath, TestDeliveryBody),
    /// Says what becomes of an issue.
    Issue(IssuePath, IssueBody),
    /// Does one thing to all that fits a filter.
    Bulk(Box<BulkBody>),
    /// Ends that.
    Abort(BulkPath, AbortBody),
    /// Pauses a route or a destination.
    Pause(Paused, ActBody),
    /// Lets it go on.
    Resume(Paused, ActBody),
    /// Has a host claim nothing more, or again.
    Drain(HostPath, DrainBody),
    /// Makes a token.
    Token(Box<NewTokenBody>),
    /// Makes a portal link.
    Link(TenantPath, Box<NewLinkBody>),
    /// Ends either.
    Revoke(TokenPath, RevokeBody),
}

/// What is done to a route's binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    Shadow,
    Canary,
    Promote,
    RollBack,
    FollowFile,
}

/// What is paused.
#[derive(Debug, Clone)]
pub(crate) enum Paused {
    Route(RoutePath),
    Destination(DestinationPath),
}

impl Act {
    /// What the fields of a form ask for; `what` is the last part of the form's address.
    ///
    /// # Errors
    /// In words, when there is no such thing to do, or the fields do not say of what.
    pub(crate) fn read(what: &str, given: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let why = given("why");
        let reason = why.clone().unwrap_or_default();
        let text = |name: &str| given(name).unwrap_or_default();
        let is = |name: &str, word: &str| given(name).as_deref() == Some(word);
        match what {
            "replay" => {
                let dead_letters = DeadLetterQuery {
                    id: given("dead_letter"),
                    tenant: given("tenant"),
                    source: given("source"),
                    route: given("route"),
                    destination: given("destination"),
                    since: given("since"),
                    reason: given("reason"),
                    ..DeadLetterQuery::default()
                };
                let of_dead_letters = dead_letters.id.is_some() || is("dead_letters", "all");
                let receipt = given("receipt");
                if receipt.is_none() && !of_dead_letters {
                    return Err("say what is replayed: an event, or dead letters".to_owned());
                }
                Ok(Self::Replay(Box::new(ReplayBody {
                    receipt,
                    dead_letters: of_dead_letters.then_some(dead_letters),
                    actor: ACTOR.to_owned(),
                    why,
                    ..ReplayBody::default()
                })))
            }
            "resend" => Ok(Self::Resend(ResendBody {
                deliveries: SentQuery {
                    id: given("id"),
                    ..SentQuery::default()
                },
                dry_run: false,
                actor: ACTOR.to_owned(),
                why: reason,
            })),
            "review" => {
                let decision = text("decision");
                let decided = |word: &str| decision == word;
                Ok(Self::Review(ReviewBody {
                    id: text("id"),
                    map: given("status").filter(|_| decided("map") || decided("set-right")),
                    set_right: decided("set-right"),
                    replace_with: given("delivery").filter(|_| decided("replace")),
                    run: decided("run") || decided("run-beyond-budget"),
                    beyond_budget: decided("run-beyond-budget"),
                    dismiss: decided("dismiss"),
                    keep: decided("keep"),
                    record: given("operation_key").filter(|_| decided("record")),
                    why,
                    dry_run: false,
                    actor: ACTOR.to_owned(),
                }))
            }
            "lift" => {
                let path = RoutePath {
                    tenant: named("tenant", &text("tenant"))?,
                    route: named("route", &text("route"))?,
                };
                let body = ActBody {
                    why: reason,
                    dry_run: false,
                    actor: ACTOR.to_owned(),
                };
                Ok(Self::Lift(path, body))
            }
            "issue" => Ok(Self::Issue(
                IssuePath {
                    issue: named("issue", &text("issue"))?,
                },
                IssueBody {
                    state: given("decision").ok_or("say what becomes of it")?,
                    actor: ACTOR.to_owned(),
                    why: reason,
                    dry_run: false,
                },
            )),
            "pause" | "resume" => {
                let tenant = named("tenant", &text("tenant"))?;
                let place = match given("route") {
                    Some(route) => Paused::Route(RoutePath {
                        tenant,
                        route: named("route", &route)?,
                    }),
                    None => Paused::Destination(DestinationPath {
                        tenant,
                        destination: named("destination", &text("destination"))?,
                    }),
                };
                let body = ActBody {
                    why: reason,
                    dry_run: false,
                    actor: ACTOR.to_owned(),
                };
                Ok(match what {
                    "pause" => Self::Pause(place, body),
                    _ => Self::Resume(place, body),
                })
            }
            "drain" | "undrain" => Ok(Self::Drain(
                HostPath {
                    host: named("host", &text("host"))?,
                },
                DrainBody {
                    undo: what == "undrain",
                    why: reason,
                    actor: ACTOR.to_owned(),
                    dry_run: false,
                },
            )),
            "abort" => Ok(Self::Abort(
                BulkPath {
                    bulk: named("bulk", &text("bulk"))?,
                },
                AbortBody {
                    actor: ACTOR.to_owned(),
                    why: reason,
                    dry_run: false,
                },
            )),
            "revoke" => Ok(Self::Revoke(
                TokenPath {
                    token: named("token", &text("token"))?,
                },
                RevokeBody {
                    why: reason,
                    dry_run: false,
                    actor: ACTOR.to_owned(),
                },
            )),
            _ => Err("there is no such thing to do".to_owned()),
        }
    }

    /// The same, done or only looked at.
    #[must_use]
    pub(crate) fn dry(mut self, dry_run: bool) -> Self {
        match &mut self {
            Self::Replay(body) => body.dry_run = dry_run,
            Self::Resend(body) => body.dry_run = dry_run,
            Self::Review(body) => body.dry_run = dry_run,
            Self::Lift(_, body) | Self::RemoveSecret(_, body) | Self::Version(_, _, _, body) => body.dry_run = dry_run,
            Self::Binding(_, _, body) => body.dry_run = dry_run,
            Self::TestSource(_, body) => body.dry_run = dry_run,
            Self::TestDestination(_, body) => body.dry_run = dry_run,
            Self::Settings(_, body) | Self::SettingsAndShow(_, body) => body.dry_run = dry_run,
            Self::RollBackSettings(_, body) => body.dry_run = dry_run,
            Self::Secret(_, body) => body.dry_run = dry_run,
            Self::Bulk(body) => body.dry_run = dry_run,
            Self::Pause(_, body) | Self::Resume(_, body) => body.dry_run = dry_run,
            Self::Token(body) => body.dry_run = dry_run,
            Self::Link(_, body) => body.dry_run = dry_run,
            Self::Revoke(_, body) => body.dry_run = dry_run,
            Self::Issue(_, body) => body.dry_run = dry_run,
            Self::Abort(_, body) => body.dry_run = dry_run,
            Self::Drain(_, body) => body.dry_run = dry_run,
        }
        self
    }

    /// About how much memory it takes while it is kept, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        struct Counted(usize);
        impl fmt::Write for Counted {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0 += text.len();
                Ok(())
            }
        }
        let secret = match self {
            Self::Secret(_, body) => Some(&body.value),
            Self::Settings(_, body) | Self::SettingsAndShow(_, body) => {
                body.secret.as_ref().map(|secret| &secret.value)
            }
            _ => None,
        };
        // What is told of a secret says nothing of its length.
        let mut counted = Counted(secret.map_or(0, |secret| secret.0.expose().len()));
        let _ = write!(counted, "{self:?}");
        counted.0
    }

    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self::read("resend", |name| (name == "id").then(|| "out_7".to_owned())).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(what: &str, fields: &[(&str, &str)]) -> Result<Act, String> {
        Act::read(what, |name| {
            let found = fields.iter().find(|(field, _)| *field == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn o8_a_form_asks_for_what_it_says_and_for_nothing_wider() {
        let Ok(Act::Replay(body)) = read("replay", &[("dead_letter", "dead_7"), ("why", "mended")]) else {
            panic!()
        };
        assert_eq!(body.dead_letters.unwrap().id.as_deref(), Some("dead_7"));
        assert!(
            read("replay", &[("why", "all of it")])
                .unwrap_err()
                .contains("say what")
        );
        assert!(read("erase", &[]).is_err());
        let Ok(Act::Review(body)) = read(
            "review",
            &[
                ("id", "rcpt_1"),
                ("decision", "dismiss"),
                ("status", "paid"),
                ("operation_key", "k"),
            ],
        ) else {
            panic!()
        };
        assert!(body.dismiss && body.map.is_none() && body.record.is_none() && !body.run);
        // What nobody decided is refused by the API, in its words.
        let Ok(Act::Review(body)) = read("review", &[("id", "job_7")]) else {
            panic!()
        };
        assert!(body.checked().unwrap_err().contains("run it or to dismiss it"));
    }
}
