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
         ever, and only its identity keeps it from counting twice. *Id*: where the event id comes from; an unsigned one can be made up by \
         whoever has one authentic request. *Told apart by*: what names the receipt; by what was signed, one captured request is one event under \
         whatever id, type or spelling it comes again.\n\n\
         | name | provider | scheme | replay window | id | told apart by | answer within |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for profile in shipped().values() {
        let _ = writeln!(page, "{}", row(profile));
    }
    page.push_str(OPERATIONS);
    for profile in shipped().values() {
        for (types, subject, operation) in profile.operations() {
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} |",
                profile.name,
                types.map_or_else(|| "every other".to_owned(), |types| code(&types)),
                code(&subject),
                code(&operation),
            );
        }
    }
    page.push_str(AMOUNTS);
    for profile in shipped().values().filter(|profile| profile.reads_amounts()) {
        let _ = writeln!(page, "{}", amounts_row(profile));
    }
    for profile in shipped().values() {
        section(&mut page, profile);
    }
    page
}

const OPERATIONS: &str = "\n## Subjects and operations\n\n\
     *Subject*: what an event is about; events of one subject are run in their order. *Operation*: the attribute `operation`, of which a plugin makes \
     the key of an effect that is to come once. Of several places the first that is there counts.\n\n\
     | name | types | subject | operation |\n\
     |---|---|---|---|\n";

fn code(places: &str) -> String {
    if places.is_empty() {
        "none".to_owned()
    } else {
        format!("`{}`", cell(places))
    }
}

const AMOUNTS: &str = "\n## Amounts of money\n\n\
     How each provider writes them, and where it publishes that. *Differs*: digits behind the point where its integers are not in the minor units \
     of ISO 4217. An amount that cannot be said exactly in the currency's own minor units is left out and noted; the event is kept.\n\n\
     | name | written | differs | source |\n\
     |---|---|---|---|\n";

fn amounts_row(profile: &Profile) -> String {
    let amounts = profile.amounts();
    let written = if profile.writes_major_units() {
        "decimals in major units"
    } else {
        "integers in minor units"
    };
    let mut differs: Vec<String> = amounts
        .exponents
        .iter()
        .map(|(currency, exponent)| format!("{currency} {exponent}"))
        .collect();
    if let Some(exponent) = amounts.exponent {
        differs.insert(0, format!("every currency {exponent}"));
    }
    let differs = if differs.is_empty() {
        "no".to_owned()
    } else {
        differs.join(", ")
    };
    let source = amounts.source.as_deref().unwrap_or("ISO 4217");
    format!("| `{}` | {written} | {differs} | {source} |", profile.name)
}

fn row(profile: &Profile) -> String {
    let window = match profile.tolerance_s() {
        Some(seconds) => format!("{seconds} s"),
        None => "none".into(),
    };
    let signed = if profile.id_is_signed() { "" } else { ", unsigned" };
    let identity = if profile.is_told_by_message() {
        "what was signed"
    } else {
        "the id"
    };
    let within = match profile.about().ack_within_s {
        Some(seconds) => format!("{seconds} s"),
        None => "not stated".into(),
    };
    format!(
        "| `{}` | {} | {} | {window} | `{}`{signed} | {identity} | {within} |",
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
    if profile.tells_mode() {
        let _ = writeln!(
            page,
            "- Test events are told from live ones; a source gives effect to live ones unless it says `accept`."
        );
    }
    if profile.needs_event_type() {
        let _ = writeln!(page, "- The source says what type its events are of: `event_type`.");
    }
    for gotcha in &about.gotchas {
        let _ = writeln!(page, "- {gotcha}");
    }
}
