//! The page about every shipped provider, `docs/providers.md`, made from the profiles.

use std::fmt::Write as _;

use crate::profile::{Profile, shipped};

/// The page. `cargo run -p tollgate-core --example providers` prints it; a test holds the file against it.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Providers\n\n\
         Made from `host/core/profiles/` by `cargo run -p tollgate-core --example providers > docs/providers.md`; change the profiles, not \
         this page.\n\n\
         *Replay window*: how far the signed instant may be from the receipt, both ways; without one a recorded request stays valid for \
         ever, and only the event id keeps it from counting twice. *Id*: where the event id comes from; an unsigned one can be made up by \
         whoever has one authentic request, so the body's digest is kept beside it.\n\n\
         | name | provider | scheme | replay window | id | answer within |\n\
         |---|---|---|---|---|---|\n",
    );
    for profile in shipped().values() {
        let _ = writeln!(page, "{}", row(profile));
    }
    for profile in shipped().values() {
        section(&mut page, profile);
    }
    page
}

fn row(profile: &Profile) -> String {
    let window = match profile.tolerance_s() {
        Some(seconds) => format!("{seconds} s"),
        None => "none".into(),
    };
    let signed = if profile.id_is_signed() { "" } else { ", unsigned" };
    let within = match profile.about().ack_within_s {
        Some(seconds) => format!("{seconds} s"),
        None => "not stated".into(),
    };
    format!(
        "| `{}` | {} | {} | {window} | `{}`{signed} | {within} |",
        profile.name,
        cell(&profile.title),
        cell(&profile.scheme_title()),
        cell(&profile.id_places()),
    )
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn section(page: &mut String, profile: &Profile) {
    let about = profile.about();
    let _ = writeln!(page, "\n## {} (`{}`)\n", profile.title, profile.name);
    for (name, text) in [("Rotation", &about.rotation), ("Retries", &about.retries)] {
        if !text.is_empty() {
            let _ = writeln!(page, "- **{name}.** {text}");
        }
    }
    if !profile.body_is_signed() {
        let _ = writeln!(page, "- **The signature does not hold the whole body.**");
    }
    for parameter in profile.parameters() {
        let need = match (parameter.required, &parameter.default) {
            (true, _) => "required".to_owned(),
            (false, Some(default)) => format!("default `{default}`"),
            (false, None) => "optional".to_owned(),
        };
        let _ = writeln!(page, "- Parameter `{}` ({need}): {}", parameter.name, parameter.what);
    }
    if profile.needs_event_type() {
        let _ = writeln!(page, "- The source says what type its events are of: `event_type`.");
    }
    for gotcha in &about.gotchas {
        let _ = writeln!(page, "- {gotcha}");
    }
}
