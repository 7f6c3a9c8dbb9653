//! What calls about plugins, sources and destinations did, or would do, as it is shown.

use tollgate_api::plugins::{BindingChange, PluginVersion};
use tollgate_api::tryouts::{TestDelivery, TestEvent};
use tollgate_core::delivery::AttemptEnd;
use tollgate_core::mask;
use tollgate_core::registry::{Binding, Standing};

use crate::outcome::Outcome;
use crate::table::{Cell, Part, Table, address, event_page};
use crate::words::{lines_shown, short, took};

/// A version was published or retired.
pub(crate) fn stepped(version: &PluginVersion, done: &str, dry_run: bool) -> Outcome {
    let name = format!("{} {}", version.name, mask::line(&version.version, 60));
    let would = if dry_run { "would be" } else { "is" };
    let mut table = Table::new(
        "the version",
        &[("Plugin", "main"), ("Version", ""), ("Digest", "wide")],
    );
    table.rows.push(vec![
        Part::said(version.name.to_string()).into(),
        Part::told(&version.version).into(),
        Part::said(version.digest.to_string()).class("code").into(),
    ]);
    let then = match version.standing {
        Standing::Published => vec![Part::said("To the routes, one of which may run it").to(address("/routes", &[]))],
        _ => Vec::new(),
    };
    Outcome {
        table,
        then,
        ..Outcome::said(format!("{name} {would} {done}."))
    }
}

/// What a binding has in one place, as it is shown.
type OfBinding = fn(&Binding) -> Option<String>;

/// What a route runs was changed.
pub(crate) fn bound(change: &BindingChange) -> Outcome {
    let mut table = Table::new("what it runs", &[("As", "main"), ("Now", ""), ("Then", "wide")]);
    let version = |binding: Option<&Binding>, of: OfBinding| match binding.and_then(of) {
        Some(digest) => Part::said(digest).class("code"),
        None => Part::said("nothing").class("dim"),
    };
    let rows: [(&str, OfBinding); 3] = [
        ("Active", |binding| Some(short(&binding.active.to_string()).to_owned())),
        ("Canary", |binding| {
            let canary = binding.canary?;
            Some(format!(
                "{} for {} of subjects",
                short(&canary.digest.to_string()),
                canary.share
            ))
        }),
        ("Shadow", |binding| Some(short(&binding.shadow?.to_string()).to_owned())),
    ];
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    for (name, of) in rows {
        if before.and_then(of).is_some() || after.and_then(of).is_some() {
            table.rows.push(vec![
                Part::said(name).into(),
                version(before, of).into(),
                version(after, of).into(),
            ]);
        }
    }
    let would = if change.dry_run { "This would be done" } else { "Done" };
    let says = format!(
        "{would} on the route {} of {}: {}.",
        change.route, change.tenant, change.what
    );
    Outcome {
        table,
        warnings: change.warnings.iter().map(|warning| mask::line(warning, 900)).collect(),
        is_nothing: change.before == change.after,
        ..Outcome::said(says)
    }
}

/// A test event was sent, or is looked at.
pub(crate) fn test_event(event: &TestEvent) -> Outcome {
    let mut table = Table::new(
        "the test event",
        &[
            ("Event", "main"),
            ("Type", ""),
            ("Signed with", ""),
            ("Routes that take it", "wide"),
        ],
    );
    let routes: Vec<_> = event.routes.iter().map(ToString::to_string).collect();
    let id = Part::told(&event.event_id).class("code");
    let receipt = event.answer.as_ref().and_then(|answer| answer.receipt);
    table.rows.push(vec![
        match receipt {
            Some(receipt) => id.to(event_page(receipt)),
            None => id,
        }
        .into(),
        Part::told(&event.event_type).into(),
        Part::told(event.signed_with.as_str()).class("code").into(),
        match routes.as_slice() {
            [] => Part::said("none").class("dim").into(),
            routes => Cell::from(Part::said(routes.join(", "))),
        },
    ]);
    let mut warnings: Vec<_> = event
        .passes_over
        .iter()
        .map(|passed| format!("Not tried: {}.", mask::line(passed, 300)))
        .collect();
    let (says, text) = match &event.answer {
        None => {
            if !routes.is_empty() {
                warnings.insert(
                    0,
                    "Routes that take it do what they do with any event: what follows is no test.".to_owned(),
                );
            }
            let says = format!(
                "A test event would be sent to the source {}, through the edge, as its provider sends them.",
                event.source
            );
            (says, lines_shown(&event.body))
        }
        Some(answer) => {
            let kept = match answer.receipt {
                Some(_) => "was verified and kept",
                None => "was not kept",
            };
            let says = format!(
                "The test event {kept}: the edge answered {} after {}.",
                answer.http_status,
                took(answer.duration_us)
            );
            (says, lines_shown(&answer.says))
        }
    };
    Outcome {
        table,
        text,
        warnings,
        ..Outcome::said(says)
    }
}

/// A test delivery was sent, or is looked at.
pub(crate) fn test_delivery(delivery: &TestDelivery) -> Outcome {
    let mut table = Table::new(
        "the test delivery",
        &[("Message", "main"), ("To", "wide"), ("Ended", ""), ("Took", "number")],
    );
    let ended = match (&delivery.end, delivery.delivered) {
        (None, _) => Part::said("not sent yet").class("dim"),
        (Some(end), Some(true)) => Part::said(in_words(end)).marked("delivered"),
        (Some(end), _) => Part::told(&in_words(end)).marked("failed"),
    };
    table.rows.push(vec![
        Part::told(&delivery.message_id).class("code").into(),
        Part::told(&delivery.url).class("code").into(),
        ended.into(),
        match delivery.end {
            Some(_) => Part::said(took(delivery.duration_us)).into(),
            None => Cell::default(),
        },
    ]);
    let (says, text, warnings) = match (&delivery.end, delivery.delivered) {
        (None, _) => (
            format!(
                "One {} would be sent to {}, marked as a test. Nothing of it is kept.",
                if delivery.url.starts_with("mailto:") {
                    "e-mail"
                } else {
                    "signed request"
                },
                delivery.destination
            ),
            format!("{}\n\n{}", delivery.headers.join("\n"), lines_shown(&delivery.body))
                .trim_start()
                .to_owned(),
            Vec::new(),
        ),
        (Some(_), Some(true)) => (
            format!("{} took the test delivery.", delivery.destination),
            lines_shown(&delivery.answer),
            Vec::new(),
        ),
        (Some(end), _) => (
            format!("{} did not take the test delivery.", delivery.destination),
            lines_shown(&delivery.answer),
            vec![mask::line(&in_words(end), 600)],
        ),
    };
    Outcome {
        table,
        text,
        warnings,
        ..Outcome::said(says)
    }
}

fn in_words(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Answered { http_status, .. } => format!("answered {http_status}"),
        AttemptEnd::Failed { reason } | AttemptEnd::Forbidden { reason } | AttemptEnd::GivenBack { reason, .. } => {
            mask::line(reason, 300)
        }
        AttemptEnd::Confirmed => "confirmed".to_owned(),
        AttemptEnd::Mailed { smtp_status, .. } => format!("answered {smtp_status}"),
    }
}
