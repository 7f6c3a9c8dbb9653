//! Forms that do something. Each has two steps: what would be done, which is a dry run of the call, and then the call itself.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use tollgate_api::issues::IssuePath;
use tollgate_api::replay::{ReplayReport, ReplayedWork};
use tollgate_api::resend::ResendReport;
use tollgate_api::set_aside::ReviewReport;
use tollgate_api::settings::{SecretChange, SettingsChange};
use tollgate_api::trace::{Trace, TraceParameters};
use tollgate_api::{Nothing, calls};
use tollgate_core::admission::Disposition;
use tollgate_core::ids::TenantName;
use tollgate_core::mask;
use tollgate_core::registry::Step;

use crate::Console;
use crate::act::{Act, Binding};
use crate::asked::Trouble;
use crate::did;
use crate::fields::{NO_REASON, Unfit, Wrote};
use crate::outcome::{Outcome, would};
use crate::page::{Frame, show, show_as};
use crate::settings::source_page;
use crate::table::{Cell, Part, Table, address, event_page, route_page};
use crate::timeline::reviewed;
use crate::visit::{Filled, Visit, asked, field, named, own_place};
use crate::words::counted;
use crate::{given, issues, overseen};

#[derive(Template)]
#[template(path = "act.html")]
struct Form {
    frame: Frame,
    what: String,
    about: &'static str,
    /// Fields that say of what, as they were given.
    of: Vec<(String, String)>,
    /// What whoever decides should know of it.
    facts: Vec<(&'static str, Part)>,
    /// What stands over the choices.
    asks: &'static str,
    choices: Vec<Choice>,
    chosen: String,
    fields: Vec<(String, String)>,
    why: String,
    back: String,
    wrong: String,
}

/// Something that may be decided.
struct Choice {
    word: &'static str,
    name: &'static str,
    says: &'static str,
    /// A field that it needs: its name, and what stands in front of it.
    field: Option<(&'static str, &'static str)>,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm {
    frame: Frame,
    number: u32,
    says: String,
    table: Table,
    /// Lines that differ.
    text: String,
    warnings: Vec<String>,
    why: String,
    back: String,
    is_nothing: bool,
}

#[derive(Template)]
#[template(path = "done.html")]
struct Done {
    frame: Frame,
    says: String,
    table: Table,
    text: String,
    warnings: Vec<String>,
    /// What is shown this once.
    secret: String,
    /// Where it goes on.
    then: Vec<Part>,
    back: String,
}

/// Ways to go on from what was done.
const THEN_MAX: usize = 3;
/// Names of fields that say of what something is done.
const OF: [&str; 14] = [
    "issue",
    "bulk",
    "host",
    "token",
    "receipt",
    "dead_letter",
    "dead_letters",
    "id",
    "tenant",
    "source",
    "route",
    "destination",
    "since",
    "reason",
];

/// `GET /console/act/{what}`: the form.
pub(crate) async fn form(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    uri: Uri,
) -> Result<Response, Trouble> {
    Ok(show(
        &blank(&console, &visit, &what, &asked(&uri), String::new()).await?,
    ))
}

async fn blank(
    console: &Console,
    visit: &Visit,
    what: &str,
    fields: &[(String, String)],
    wrong: String,
) -> Result<Form, Trouble> {
    let id = field(fields, "id");
    let (title, about) = match what {
        "replay" => (
            "Replay",
            "Work that ended is put back. An operation has one effect, however often it is replayed: what is recorded is not recorded twice.",
        ),
        "resend" => (
            "Send again",
            "What was delivered goes to its destination once more, under the same webhook-id and Idempotency-Key.",
        ),
        "review" => (
            "Decide",
            "A decision stands beside the event for ever, with your name and your reason.",
        ),
        "lift" => (
            "Let it run again",
            "The versions in quarantine on this route run again. What became a dead letter meanwhile is replayed by itself.",
        ),
        "issue" => (
            "Say what becomes of it",
            "The failures stay what they are; this says who looks after them. Whoever is told of issues is told of the change, once.",
        ),
        "pause" => (
            "Pause it",
            "Nothing of it begins any more. What comes in for it is taken as ever, and waits.",
        ),
        "resume" => ("Let it go on", "What waited goes on as well."),
        "drain" => (
            "Drain the host",
            "It claims nothing more and finishes what it has; the others take the rest. That holds over restarts, until it is taken back.",
        ),
        "undrain" => ("Let the host work again", "It claims work again."),
        "abort" => ("End it", "It ends before its next step. What it did stays done."),
        "revoke" => ("Revoke it", "Whoever has it is out at the next request, for ever."),
        _ => return Err(Trouble::not_found("there is no such thing to do")),
    };
    let of = OF.into_iter().filter_map(|name| {
        let value = field(fields, name);
        (!value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
    });
    let back = back(what, fields);
    Ok(Form {
        frame: Frame::of(visit, title).within(&back),
        what: what.to_owned(),
        about,
        of: of.collect(),
        facts: known(console, visit, what, fields).await,
        asks: match what {
            "issue" => "What becomes of it?",
            _ => "What is it?",
        },
        choices: match what {
            "review" => choices(id),
            "issue" => issue_choices(),
            _ => Vec::new(),
        },
        chosen: field(fields, "decision").to_owned(),
        fields: fields.to_vec(),
        why: field(fields, "why").to_owned(),
        back,
        wrong,
    })
}

/// What is known of what is decided about: the event and why it waits, or what fails. Where nothing is, the call says so in its turn.
async fn known(console: &Console, visit: &Visit, what: &str, fields: &[(String, String)]) -> Vec<(&'static str, Part)> {
    let token = &visit.visitor.token;
    match what {
        "review" => {
            let id = field(fields, "id");
            let query = TraceParameters {
                id: Some(id.to_owned()),
                limit: Some(1),
                ..TraceParameters::default()
            };
            let found = console.read::<calls::Trace>(token, &query).await;
            let Some(Trace { receipt, jobs, .. }) = found.ok().and_then(|found| found.into_iter().next()) else {
                return Vec::new();
            };
            let event = format!("{} {}", receipt.event_type, receipt.event_id);
            let mut facts = vec![("Event", Part::told(&event).to(event_page(receipt.id)))];
            let job = jobs.iter().find(|job| job.id.to_string() == id);
            let why = match (&receipt.disposition, job) {
                (_, Some(job)) => job.reason.as_deref(),
                (Disposition::Held { reason }, None) => Some(reason.as_str()),
                (_, None) => None,
            };
            facts.extend(why.map(|why| ("Why it waits", Part::told(why))));
            if let (Some(family), Some(subject)) = (&receipt.family, &receipt.subject) {
                facts.push(("Lifecycle", Part::told(&format!("{family} of {subject}"))));
            }
            facts
        }
        "issue" => {
            let Ok(issue) = named("issue", field(fields, "issue")) else {
                return Vec::new();
            };
            let (path, nothing) = (IssuePath { issue }, Nothing {});
            let found = console.ask::<calls::ShowIssue>(token, &path, &nothing, &nothing).await;
            let Ok(found) = found else { return Vec::new() };
            vec![
                ("What fails", issues::what(&found)),
                ("What to do first", Part::told(&found.first_action)),
            ]
        }
        _ => Vec::new(),
    }
}

impl Form {
    /// What somebody wrote into a field of a choice.
    fn value(&self, name: &str) -> &str {
        field(&self.fields, name)
    }

    fn is_chosen(&self, word: &str) -> bool {
        self.chosen == word
    }
}

fn issue_choices() -> Vec<Choice> {
    [
        ("acknowledged", "Acknowledge it", "Somebody works on it."),
        (
            "resolved",
            "Resolve it",
            "Its cause is mended. It opens again when it fails once more.",
        ),
        ("ignored", "Ignore it", "Nothing is to be done, however often it fails."),
        ("open", "Open it again", "Nobody has looked after it yet."),
    ]
    .map(|(word, name, says)| Choice {
        word,
        name,
        says,
        field: None,
    })
    .into()
}

/// What may be decided about something, which its name tells.
fn choices(id: &str) -> Vec<Choice> {
    let choice = |word, name, says, field| Choice {
        word,
        name,
        says,
        field,
    };
    let dismiss = choice(
        "dismiss",
        "Dismiss it",
        "Nothing is to be done. The reason is kept.",
        None,
    );
    match id.split('_').next().unwrap_or_default() {
        "rcpt" => vec![
            choice(
                "map",
                "It has this status",
                "The lifecycle judges it as it judges a provider's.",
                Some(("status", "Status")),
            ),
            choice(
                "set-right",
                "Set its subject right",
                "The subject gets this status, whatever it had.",
                Some(("status", "Status")),
            ),
            choice(
                "replace",
                "Another delivery takes its place",
                "A delivery of the same event that came later, with other bytes.",
                Some(("delivery", "Delivery")),
            ),
            dismiss,
        ],
        "job" => vec![
            choice("run", "Run it again", "The plugin decides anew.", None),
            choice(
                "run-beyond-budget",
                "Run it beyond its budgets",
                "What it proposes is recorded whatever its budgets have left, this once.",
                None,
            ),
            dismiss,
        ],
        "act" => vec![
            choice(
                "keep",
                "What is recorded stands",
                "This proposal has no effect, now or when it comes again.",
                None,
            ),
            choice(
                "record",
                "Record this one as well",
                "It is an effect of its own, under a key of its own.",
                Some(("operation_key", "Operation key")),
            ),
        ],
        _ => vec![
            choice(
                "run",
                "It is an event of its own",
                "It is admitted beside the one that it conflicts with.",
                None,
            ),
            dismiss,
        ],
    }
}

/// Where somebody came from.
fn back(what: &str, fields: &[(String, String)]) -> String {
    let (receipt, id) = (field(fields, "receipt"), field(fields, "id"));
    match what {
        "replay" if !receipt.is_empty() => event_page(mask::line(receipt, 100)),
        "replay" => address("/dead-letters", &[]),
        "resend" | "review" if !id.is_empty() => address("/find", &[("id", id)]),
        "lift" => address("/plugins", &[]),
        "issue" => address("/issues", &[]),
        "pause" | "resume" => address("/pauses", &[("tenant", field(fields, "tenant"))]),
        "drain" | "undrain" => address("/hosts", &[]),
        "abort" => address("/bulk", &[]),
        "revoke" => address("/tokens", &[]),
        _ => address("", &[]),
    }
}

/// `POST /console/act/{what}`: what would be done.
pub(crate) async fn preview(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(what): Path<String>,
    form: Filled,
) -> Result<Response, Trouble> {
    let looked = match Act::read(&what, |name| form.given(name)) {
        Ok(_) if form.given("why").is_none() => Err(Unfit::said(NO_REASON)),
        Ok(act) => looked_at(&console, &visit, act, form.get("why"), back(&what, &form.0)).await,
        Err(says) => Err(Unfit::said(says)),
    };
    let wrong = match looked {
        Ok(page) => return Ok(page),
        Err(unfit) => unfit.wrong(Wrote::Fields)?,
    };
    let says: Vec<_> = wrong.into_iter().map(|(_, says)| says).collect();
    let page = blank(&console, &visit, &what, &form.0, says.join("; ")).await?;
    Ok(show_as(StatusCode::BAD_REQUEST, &page))
}

/// Shows what an act comes to, and keeps it for whoever confirms it.
///
/// # Errors
/// When the call says no.
pub(crate) async fn looked_at(
    console: &Console,
    visit: &Visit,
    act: Act,
    why: &str,
    back: String,
) -> Result<Response, Unfit> {
    looked_at_with(console, visit, act, why, back, Vec::new()).await
}

/// As [`looked_at`], with what whoever confirms it should read first.
pub(crate) async fn looked_at_with(
    console: &Console,
    visit: &Visit,
    act: Act,
    why: &str,
    back: String,
    notes: Vec<String>,
) -> Result<Response, Unfit> {
    let mut outcome = done(console, visit, act.clone(), true).await?;
    outcome.warnings.splice(0..0, notes);
    let act = outcome.narrowed.take().unwrap_or(act);
    let number = console
        .sessions()
        .keep(visit.session.expose(), act, (console.host.now)())
        .ok_or_else(|| Trouble::new(StatusCode::UNAUTHORIZED, "your session is over"))?;
    Ok(show(&Confirm {
        frame: Frame::of(visit, "Look at it first").within(&back),
        number,
        says: outcome.says,
        table: outcome.table,
        text: outcome.text,
        warnings: outcome.warnings,
        why: mask::line(why, 600),
        back,
        is_nothing: outcome.is_nothing,
    }))
}

/// `POST /console/acts/{number}`: does what was looked at.
pub(crate) async fn confirm(
    State(console): State<Arc<Console>>,
    visit: Visit,
    Path(number): Path<u32>,
    form: Filled,
) -> Result<Response, Trouble> {
    let kept = console
        .sessions()
        .take(visit.session.expose(), number, (console.host.now)());
    let act = kept.ok_or_else(|| {
        Trouble::new(
            StatusCode::CONFLICT,
            "this was done before, or was looked at too long ago; nothing was done now. Look at how it is, and begin anew where that is needed",
        )
    })?;
    let outcome = done(&console, &visit, act, false).await?;
    let back = own_place(form.get("back"));
    Ok(show(&Done {
        frame: Frame::of(&visit, "Done").within(back),
        says: outcome.says,
        table: outcome.table,
        text: outcome.text,
        warnings: outcome.warnings,
        secret: outcome.secret,
        then: outcome.then,
        back: back.to_owned(),
    }))
}

async fn done(console: &Console, visit: &Visit, act: Act, dry_run: bool) -> Result<Outcome, Trouble> {
    let (token, nothing) = (&visit.visitor.token, Nothing {});
    Ok(match act.dry(dry_run) {
        Act::Replay(body) => replayed(console.ask::<calls::Replay>(token, &nothing, &nothing, &body).await?),
        Act::Resend(body) => resent(console.ask::<calls::Resend>(token, &nothing, &nothing, &body).await?),
        Act::Review(body) => {
            let id = body.id.clone();
            decided(
                &id,
                console.ask::<calls::Review>(token, &nothing, &nothing, &body).await?,
            )
        }
        Act::Lift(path, body) => {
            let lifted = console
                .ask::<calls::LiftQuarantine>(token, &path, &nothing, &body)
                .await?;
            let mut table = Table::new("versions", &[("Plugin", "main"), ("Version", ""), ("Route", "wide")]);
            table.rows = lifted
                .iter()
                .map(|one| {
                    vec![
                        Part::said(one.plugin.to_string()).into(),
                        Part::said(one.digest.to_string()).class("code").into(),
                        Part::said(format!("{}/{}", one.tenant, one.route)).into(),
                    ]
                })
                .collect();
            Outcome {
                is_nothing: lifted.is_empty(),
                table,
                ..Outcome::said(would(body.dry_run, lifted.len(), "version", "let run again"))
            }
        }
        Act::Settings(path, body) => configured(
            &path.tenant,
            &console.ask::<calls::SetSettings>(token, &path, &nothing, &body).await?,
        ),
        Act::SettingsAndShow(path, body) => {
            let change = console.ask::<calls::SetSettings>(token, &path, &nothing, &body).await?;
            let mut outcome = configured(&path.tenant, &change);
            match &body.secret {
                Some(secret) if body.dry_run => outcome.warnings.push(format!(
                    "A secret {} is made and sealed. It is shown once, when this is done.",
                    secret.name
                )),
                Some(secret) => {
                    outcome.says = format!(
                        "{} This is the secret {}, which is shown this once:",
                        outcome.says, secret.name
                    );
                    outcome.secret = String::from_utf8_lossy(secret.value.0.expose()).into_owned();
                }
                None => {}
            }
            outcome
        }
        Act::Version(step, path, query, body) => match step {
            Step::Publish => {
                let version = console.ask::<calls::PublishPlugin>(token, &path, &query, &body).await?;
                did::stepped(&version, "published", body.dry_run)
            }
            Step::Retire => {
                let version = console.ask::<calls::RetirePlugin>(token, &path, &query, &body).await?;
                did::stepped(&version, "retired", body.dry_run)
            }
        },
        Act::Binding(binding, path, body) => did::bound(&match binding {
            Binding::Shadow => console.ask::<calls::Shadow>(token, &path, &nothing, &body).await?,
            Binding::Canary => console.ask::<calls::Canary>(token, &path, &nothing, &body).await?,
            Binding::Promote => console.ask::<calls::Promote>(token, &path, &nothing, &body).await?,
            Binding::RollBack => console.ask::<calls::Rollback>(token, &path, &nothing, &body).await?,
            Binding::FollowFile => console.ask::<calls::FollowFile>(token, &path, &nothing, &body).await?,
        }),
        Act::TestSource(path, body) => {
            did::test_event(&console.ask::<calls::TestSource>(token, &path, &nothing, &body).await?)
        }
        Act::TestDestination(path, body) => did::test_delivery(
            &console
                .ask::<calls::TestDestination>(token, &path, &nothing, &body)
                .await?,
        ),
        Act::RollBackSettings(path, body) => {
            let change = console
                .ask::<calls::RollBackSettings>(token, &path, &nothing, &body)
                .await?;
            configured(&path.tenant, &change)
        }
        Act::Secret(path, body) => {
            let done = if body.dry_run { "would be set" } else { "is set" };
            let change = console.ask::<calls::SetSecret>(token, &path, &nothing, &body).await?;
            let again = if change.was_there {
                ", in the place of the one before"
            } else {
                ""
            };
            secret(&change, format!("The secret {} {done}{again}.", change.name))
        }
        Act::Issue(path, body) => overseen::issue(console, token, path, &body).await?,
        Act::Bulk(body) => overseen::bulk(console, token, *body).await?,
        Act::Abort(path, body) => overseen::abort(console, token, path, &body).await?,
        Act::Pause(place, body) => overseen::pause(console, token, &place, &body).await?,
        Act::Resume(place, body) => overseen::resume(console, token, &place, &body).await?,
        Act::Drain(path, body) => overseen::drain(console, token, &path, &body).await?,
        Act::Token(body) => given::token(console, token, &body).await?,
        Act::Link(path, body) => given::link(console, token, &path, &body).await?,
        Act::Revoke(path, body) => given::revoke(console, token, &path, &body).await?,
        Act::RemoveSecret(path, body) => {
            let done = if body.dry_run { "would be removed" } else { "is removed" };
            let change = console
                .ask::<calls::RemoveSecret>(token, &path, &nothing, &body)
                .await?;
            secret(&change, format!("The secret {} {done}.", change.name))
        }
    })
}

/// What a change of settings comes to.
fn configured(tenant: &TenantName, change: &SettingsChange) -> Outcome {
    let is_same = change.version == change.was;
    let mut says = match (is_same, change.dry_run) {
        (true, _) => format!("Version {} of the settings says so already.", change.was),
        (false, true) => format!("It fits, and would be version {} of the settings.", change.version),
        (false, false) => format!("Version {} of the settings is in effect.", change.version),
    };
    let tried = change.tried.as_ref().filter(|tried| tried.receipts > 0);
    if let Some(tried) = tried {
        let others = match tried.differing.len() {
            0 => "none".to_owned(),
            some => some.to_string(),
        };
        says = match tried.receipts {
            1 if tried.differing.is_empty() => format!("{says} The newest event would have the same jobs."),
            1 => format!("{says} The newest event would have other jobs."),
            newest => format!(
                "{says} Of the newest {}, {others} would have other jobs.",
                counted(newest, "event")
            ),
        };
    }
    let jobs: Vec<_> = tried
        .iter()
        .flat_map(|tried| &tried.routes)
        .filter(|route| route.before != route.after)
        .map(|route| (&route.route, format!("{} now, {} then", route.before, route.after)))
        .collect();
    let mut columns = vec![("What", "main"), ("How", "wide")];
    if !jobs.is_empty() {
        columns.push(("Jobs of the newest events", "wide"));
    }
    let mut table = Table::new("what differs", &columns);
    for part in &change.changes {
        let what = Part::told(&format!("{} {}", part.kind, part.name));
        let mut row = vec![what.into(), Part::told(&part.what).into()];
        row.resize_with(columns.len(), Cell::default);
        table.rows.push(row);
    }
    for (route, says) in jobs {
        let what = Part::told(&format!("jobs of the route {route}"));
        table
            .rows
            .push(vec![what.into(), Cell::default(), Part::said(says).into()]);
    }
    let lines = change
        .difference
        .lines()
        .map(|line| mask::shown(&line.replace('\t', "    ")).into_owned());
    let warnings = change.warnings.iter().map(|warning| mask::line(warning, 600)).collect();
    let stays = change.changes.iter().filter(|part| part.what != "removed");
    let then = stays.filter_map(|part| {
        let named = [("tenant", tenant.as_str()), ("name", part.name.as_str())];
        Some(match part.kind.as_str() {
            "source" => Part::said(format!("The URL of {}, and a test event", part.name))
                .to(source_page(tenant.as_str(), &part.name)),
            "route" => Part::said(format!("The route {}", part.name)).to(route_page(tenant.as_str(), &part.name)),
            "destination" => {
                Part::said(format!("Send {} a test", part.name)).to(address("/set/test-destination", &named))
            }
            _ => return None,
        })
    });
    Outcome {
        table,
        text: lines.collect::<Vec<_>>().join("\n"),
        warnings,
        then: then.take(THEN_MAX).collect(),
        is_nothing: is_same,
        ..Outcome::said(says)
    }
}

fn secret(change: &SecretChange, says: String) -> Outcome {
    let mut table = Table::new("what uses it", &[("Used by", "main")]);
    table.rows = change
        .used_by
        .iter()
        .map(|part| vec![Part::told(part).into()])
        .collect();
    Outcome {
        table,
        ..Outcome::said(says)
    }
}

fn replayed(report: ReplayReport) -> Outcome {
    let mut table = Table::new(
        "what is put back",
        &[("What", "main"), ("Event", ""), ("Of", ""), ("Reason", "wide")],
    );
    for one in &report.replayed {
        let what = match &one.work {
            ReplayedWork::Job { job, route } => {
                Cell::from(Part::said(format!("Route {route}"))).below(Part::said(job.to_string()))
            }
            ReplayedWork::NewJob { route } => {
                Cell::from(Part::said(format!("Route {route}"))).below(Part::said("a new job"))
            }
            ReplayedWork::Delivery { entry, destination, .. } => {
                Cell::from(Part::said(format!("To {destination}"))).below(Part::said(entry.to_string()))
            }
        };
        let reason = Cell::from(Part::told(&one.reason).class("dim"));
        let adds: Vec<_> = one.adds.iter().map(|added| added.destination.to_string()).collect();
        table.rows.push(vec![
            what,
            Cell::from(Part::told(&one.event_type).to(event_page(one.receipt)))
                .below(Part::told(&one.event_id).class("code")),
            Part::said(one.tenant.to_string()).into(),
            if adds.is_empty() {
                reason
            } else {
                reason.below(Part::said(format!(
                    "goes to {} as well, where it never went",
                    adds.join(", ")
                )))
            },
        ]);
    }
    let mut warnings = Vec::new();
    if report.replayed.len() >= 1000 || report.next.is_some() {
        warnings.push("There may be more than one step does. Do it again afterwards for the rest.".to_owned());
    }
    Outcome {
        is_nothing: report.replayed.is_empty(),
        table,
        warnings,
        ..Outcome::said(would(report.dry_run, report.replayed.len(), "item", "put back"))
    }
}

fn resent(report: ResendReport) -> Outcome {
    let mut table = Table::new(
        "what is sent again",
        &[("To", "main"), ("Action", ""), ("Event", ""), ("Sent again", "wide")],
    );
    let passed_over = report.passed_over.iter().map(|over| (&over.sent, Some(&over.because)));
    for (sent, because) in report.resent.iter().map(|sent| (sent, None)).chain(passed_over) {
        table.rows.push(vec![
            Cell::from(Part::said(sent.destination.to_string()))
                .below(Part::said(sent.entry.to_string()).class("code")),
            Cell::from(Part::told(&sent.kind)).below(Part::told(&sent.operation_key).class("code")),
            Cell::from(Part::told(&sent.event_type).to(event_page(sent.receipt)))
                .below(Part::told(&sent.event_id).class("code")),
            match because {
                None => Part::said("yes").marked("delivered").into(),
                Some(because) => Part::told(&format!("no: {because}")).marked("held").into(),
            },
        ]);
    }
    Outcome {
        is_nothing: report.resent.is_empty(),
        table,
        ..Outcome::said(would(report.dry_run, report.resent.len(), "delivery", "sent again"))
    }
}

fn decided(id: &str, report: ReviewReport) -> Outcome {
    let would = if report.dry_run { "would be" } else { "was" };
    let mut table = Table::new("what follows", &[("Follows", "main"), ("Where", "wide")]);
    for route in &report.routes {
        table.rows.push(vec![
            Part::said("a job").into(),
            Part::said(format!("route {route}")).into(),
        ]);
    }
    for destination in &report.destinations {
        table.rows.push(vec![
            Part::said("a delivery").into(),
            Part::said(format!("to {destination}")).into(),
        ]);
    }
    Outcome {
        table,
        ..Outcome::said(format!(
            "{} {would} {}.",
            mask::line(id, 100),
            reviewed(&report.reviewed)
        ))
    }
}
