//! What operators and tenants oversee, as acts: issues, bulk actions, pauses, hosts.

use tollgate_api::bulk::{AbortBody, BulkAnswer, BulkBody, BulkPath, BulkView};
use tollgate_api::hosts::{DrainBody, HostPath};
use tollgate_api::issues::{IssueBody, IssuePath};
use tollgate_api::lists::OfEvent;
use tollgate_api::pauses::{DestinationPath, Pause};
use tollgate_api::plugins::{ActBody, RoutePath};
use tollgate_api::{Call, Nothing, calls};
use tollgate_core::mask;
use tollgate_core::secret::Secret;

use crate::Console;
use crate::act::{Act, Paused};
use crate::asked::Trouble;
use crate::outcome::Outcome;
use crate::table::{Cell, Part, Table, address, event_page};
use crate::timeline;
use crate::words::number;

pub(crate) async fn issue(
    console: &Console,
    token: &Secret,
    path: IssuePath,
    body: &IssueBody,
) -> Result<Outcome, Trouble> {
    let (nothing, dry_run) = (Nothing {}, body.dry_run);
    let was = console
        .ask::<calls::ShowIssue>(token, &path, &nothing, &nothing)
        .await?;
    let found = console.ask::<calls::ChangeIssue>(token, &path, &nothing, body).await?;
    let what = mask::line(&format!("{}, {} with {}", found.issue, found.place, found.code), 300);
    let is_so = dry_run && found.state == was.state;
    // What was given up stays so until somebody puts it back.
    let place = if found.kind == "dead-job" {
        "route"
    } else {
        "destination"
    };
    let of = [("tenant", found.tenant.as_str()), (place, found.place.as_str())];
    let dead = Part::said("What was given up, to be replayed").to(address("/dead-letters", &of));
    Ok(Outcome {
        is_nothing: is_so,
        then: vec![dead],
        ..Outcome::said(match (dry_run, is_so) {
            (_, true) => format!("{what} is {} already.", found.state),
            (true, false) => format!("{what} is {} and would be {}.", was.state, found.state),
            (false, false) => format!("{what} is {}.", found.state),
        })
    })
}

pub(crate) async fn bulk(console: &Console, token: &Secret, body: BulkBody) -> Result<Outcome, Trouble> {
    let nothing = Nothing {};
    let answer = console
        .ask::<calls::StartBulk>(token, &nothing, &nothing, &body)
        .await?;
    let of = &answer.fitting.of;
    let action = match &body.to {
        Some(status) => mask::line(&format!("{} to {status}", answer.action), 100),
        None => answer.action.clone(),
    };
    let more = if answer.fitting.complete { "" } else { " and more" };
    let says = match &answer.bulk {
        Some(begun) => format!(
            "{} began: {} of {of}{more} fitted.",
            begun.bulk,
            number(answer.fitting.count)
        ),
        None if answer.fitting.count == 0 && answer.fitting.complete => "Nothing fits.".to_owned(),
        None => format!(
            "{action} would be done to {} {of}{more}. The newest of them:",
            number(answer.fitting.count)
        ),
    };
    let mut outcome = Outcome {
        table: match &answer.bulk {
            Some(begun) => begun_table(begun),
            None => examples(&answer),
        },
        is_nothing: answer.fitting.count == 0 && answer.fitting.complete,
        ..Outcome::said(says)
    };
    if answer.bulk.is_none() {
        // What comes in meanwhile was not looked at.
        outcome.narrowed = Some(Act::Bulk(Box::new(BulkBody {
            upto: Some(answer.upto),
            ..body
        })));
    }
    Ok(outcome)
}

fn begun_table(bulk: &BulkView) -> Table {
    let mut table = Table::new("the bulk action", &[("Bulk action", "main"), ("Filter", "wide")]);
    let page = address(&format!("/bulk/{}", bulk.bulk), &[]);
    table.rows = vec![vec![
        Part::said(format!("{} {}", bulk.bulk, bulk.action)).to(page).into(),
        Part::told(&bulk.filter).class("code").into(),
    ]];
    table
}

fn examples(answer: &BulkAnswer) -> Table {
    let mut table = Table::new(
        "some of what fits",
        &[("Event", "main"), ("Source", ""), ("Of", ""), ("Status", "")],
    );
    let row = |event: &OfEvent, of: String, status: Option<Part>| {
        vec![
            Cell::from(Part::told(&event.event_type).to(event_page(event.receipt)))
                .below(Part::told(&event.event_id).class("code")),
            Cell::from(Part::said(event.source.to_string())).below(Part::said(event.tenant.to_string())),
            Part::said(of).into(),
            Cell::maybe(status),
        ]
    };
    let jobs = answer.jobs.iter().map(|job| {
        row(
            &job.event,
            format!("{} on {}", job.job, job.route),
            Some(Part::state(&job.status)),
        )
    });
    let deliveries = answer.deliveries.iter().map(|entry| {
        row(
            &entry.event,
            format!("{} to {}", entry.entry, entry.destination),
            Some(Part::state(&entry.status)),
        )
    });
    let becomes = |receipt| {
        let would = answer.would_become.iter().find(|would| would.receipt == receipt)?;
        Some(match &would.reviewed {
            Some(reviewed) => Part::told(&format!("would be {}", timeline::reviewed(reviewed))),
            None => Part::told(&format!(
                "passed over: {}",
                would.refused.as_deref().unwrap_or_default()
            ))
            .marked("held"),
        })
    };
    let events = answer
        .events
        .iter()
        .map(|event| row(&event.event, String::new(), becomes(event.event.receipt)));
    table.rows = jobs.chain(deliveries).chain(events).collect();
    table
}

pub(crate) async fn abort(
    console: &Console,
    token: &Secret,
    path: BulkPath,
    body: &AbortBody,
) -> Result<Outcome, Trouble> {
    let (nothing, dry_run) = (Nothing {}, body.dry_run);
    let was = console.ask::<calls::ShowBulk>(token, &path, &nothing, &nothing).await?;
    let found = console.ask::<calls::AbortBulk>(token, &path, &nothing, body).await?;
    let done = format!("{} of {} are done", number(found.done), number(found.expected));
    let is_over = dry_run && was.state == found.state;
    Ok(Outcome {
        is_nothing: is_over,
        ..Outcome::said(match (dry_run, is_over) {
            (_, true) => format!("{} is {} already; {done}.", found.bulk, found.state),
            (true, false) => format!("{} would end now; {done}.", found.bulk),
            (false, false) => format!("{} is {}; {done}.", found.bulk, found.state),
        })
    })
}

pub(crate) async fn pause(
    console: &Console,
    token: &Secret,
    place: &Paused,
    body: &ActBody,
) -> Result<Outcome, Trouble> {
    let pause = at::<calls::PauseRoute, calls::PauseDestination>(console, token, place, body).await?;
    let would = if body.dry_run { "would be" } else { "is" };
    Ok(Outcome::said(format!("{} {would} paused.", named(&pause))))
}

pub(crate) async fn resume(
    console: &Console,
    token: &Secret,
    place: &Paused,
    body: &ActBody,
) -> Result<Outcome, Trouble> {
    let pause = at::<calls::ResumeRoute, calls::ResumeDestination>(console, token, place, body).await?;
    let would = if body.dry_run { "would go" } else { "goes" };
    Ok(Outcome::said(format!(
        "{}, paused since {} by {}, {would} on.",
        named(&pause),
        pause.at,
        mask::line(&pause.actor, 100)
    )))
}

/// Asks the call for a route, or that for a destination.
async fn at<R, D>(console: &Console, token: &Secret, place: &Paused, body: &ActBody) -> Result<Pause, Trouble>
where
    R: Call<Path = RoutePath, Query = Nothing, Body = ActBody, Answer = Pause>,
    D: Call<Path = DestinationPath, Query = Nothing, Body = ActBody, Answer = Pause>,
{
    match place {
        Paused::Route(path) => console.ask::<R>(token, path, &Nothing {}, body).await,
        Paused::Destination(path) => console.ask::<D>(token, path, &Nothing {}, body).await,
    }
}

fn named(pause: &Pause) -> String {
    format!("The {} {} of {}", pause.place.kind(), pause.place.name(), pause.tenant)
}

pub(crate) async fn drain(
    console: &Console,
    token: &Secret,
    path: &HostPath,
    body: &DrainBody,
) -> Result<Outcome, Trouble> {
    let (name, dry_run) = (&path.host, body.dry_run);
    let report = console.ask::<calls::DrainHost>(token, path, &Nothing {}, body).await?;
    let (is_drained, changed) = (report.drain.is_some(), report.changed);
    let is_so = !changed;
    let says = match (dry_run && !is_so, body.undo, is_so) {
        (_, _, true) if is_drained => format!("{name} is drained already."),
        (_, _, true) => format!("{name} is not drained."),
        (true, false, _) => format!("{name} would claim nothing more from then on."),
        (true, true, _) => format!("{name} would claim work again."),
        (false, false, _) => format!("{name} claims nothing more."),
        (false, true, _) => format!("{name} claims work again."),
    };
    Ok(Outcome {
        is_nothing: dry_run && is_so,
        ..Outcome::said(says)
    })
}
