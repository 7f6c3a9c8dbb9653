//! Golden events: what a plugin's author says that it does. A host tries them before it accepts the plugin.
//!
//! They travel inside the component as the custom section [`SECTION`], so the digest covers them: a JSON list of names and
//! [fixtures](crate::fixture). A component without one is tried on [`neutral`], of which is only asked that it ends in something
//! other than a fault.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::action::ActionKind;
use crate::fixture::{Ending, Fixture, FixtureError, Series};
use crate::manifest::Manifest;
use crate::mask;
use crate::outcome::Outcome;
use crate::state::StateWrite;

/// The name of the custom section that holds golden events.
pub const SECTION: &str = "tollgate:golden";
/// The longest contents of that section.
pub const SECTION_BYTES_MAX: usize = 256 * 1024;
/// The most golden events of one component: each is a run before anything is published.
pub const EVENTS_MAX: usize = 16;

/// One golden event: what goes in, and what must come out.
#[derive(Debug, Clone)]
pub struct Golden {
    /// For people: what it shows. At most 128 bytes, on one line.
    pub name: String,
    /// The events that are run, and how each must end.
    pub series: Series,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGolden<'a> {
    name: String,
    #[serde(borrow)]
    fixture: &'a RawValue,
}

/// Why a section is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GoldenError {
    /// The section is over the bound.
    #[error("it is {bytes} bytes long; at most {SECTION_BYTES_MAX} are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The section cannot be read.
    #[error("it is not the JSON list that is expected: {reason}")]
    Json {
        /// What is wrong, in words.
        reason: String,
    },
    /// The section has no event, or too many.
    #[error("it lists {count} events, those of one fixture counted one by one; 1 to {EVENTS_MAX} are allowed")]
    Count {
        /// How many it lists, those of one fixture counted one by one.
        count: usize,
    },
    /// One of the fixtures is wrong.
    #[error("`{name}`: {error}")]
    Fixture {
        /// The name of the golden event.
        name: String,
        /// What is wrong with its fixture.
        error: FixtureError,
    },
}

/// Reads the section.
///
/// # Errors
/// What is wrong with it.
pub fn from_json(json: &[u8]) -> Result<Vec<Golden>, GoldenError> {
    if json.len() > SECTION_BYTES_MAX {
        return Err(GoldenError::TooLong { bytes: json.len() });
    }
    let raw: Vec<RawGolden<'_>> = serde_json::from_slice(json).map_err(|error| GoldenError::Json {
        reason: mask::line(&error.to_string(), 512),
    })?;
    if raw.is_empty() || raw.len() > EVENTS_MAX {
        return Err(GoldenError::Count { count: raw.len() });
    }
    let golden = raw.into_iter().map(|raw| {
        let name = mask::line(&raw.name, 128);
        match Series::from_json(raw.fixture.get().as_bytes()) {
            Ok(series) => Ok(Golden { name, series }),
            Err(error) => Err(GoldenError::Fixture { name, error }),
        }
    });
    let golden: Vec<_> = golden.collect::<Result<_, _>>()?;
    let count = events(&golden);
    if count > EVENTS_MAX {
        return Err(GoldenError::Count { count });
    }
    Ok(golden)
}

/// How many runs these golden events take.
pub fn events(golden: &[Golden]) -> usize {
    golden.iter().map(|golden| golden.series.count()).sum()
}

/// The event for a component that brings none: of a type that it is written for, with nothing in it.
pub fn neutral(manifest: &Manifest) -> Golden {
    let of = |event_type: &str| {
        let event = serde_json::json!({ "type": event_type, "subject": "golden" });
        Fixture::of_event(event.to_string().as_bytes())
    };
    // A long pattern may be none of a type that there can be.
    let first = manifest.events.first();
    let written = first.and_then(|pattern| of(&pattern.to_string().replace('*', "golden")).ok());
    Golden {
        name: "a neutral event".to_owned(),
        series: written
            .unwrap_or_else(|| of("golden").expect("a constant event"))
            .into(),
    }
}

/// Compares how a run of a golden event ended, and what it wrote, with what is expected. Without an expectation it must not have failed.
///
/// # Errors
/// The difference, in words.
pub fn check(
    expected: Option<&Ending>,
    outcome: &Outcome,
    kinds: &[ActionKind],
    writes: &[StateWrite],
) -> Result<(), String> {
    let found = Ending::of(outcome, kinds, writes).map_err(|broken| broken.to_string())?;
    let shown = |ending: &Ending| mask::line(&serde_json::to_string(ending).unwrap_or_default(), 400);
    match expected {
        Some(expected) if !expected.allows(&found) => Err(format!(
            "expected {}, but it came to {}",
            shown(expected),
            shown(&found)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Flag, Proposal, UncheckedAction};
    use crate::outcome::Fault;

    const SECTION: &str = r#"[{"name": "a flag", "fixture": {
        "event": {"type": "customer.rewarded", "subject": "r_1", "payload": {"id": 1}},
        "state": {"count": "1"},
        "expect": {"actions": [{"operation_key": "k:1", "action": {"kind": "flag", "subject": "s", "score": 7, "reasons": []}}]}
    }}]"#;
    const KINDS: &[ActionKind] = &[ActionKind::Flag];

    fn flag(score: u32) -> Outcome {
        Outcome::Completed {
            proposals: vec![Proposal {
                operation_key: "k:1".into(),
                action: UncheckedAction::Flag(Flag {
                    subject: "s".into(),
                    score,
                    reasons: vec![],
                }),
            }],
        }
    }

    fn fault() -> Outcome {
        Outcome::Fault {
            fault: Fault::Trap,
            message: "here".into(),
        }
    }

    #[test]
    fn a_section_is_read_and_held_against_what_came() {
        let golden = &from_json(SECTION.as_bytes()).unwrap()[0];
        let fixture = golden.series.only().unwrap();
        let expected = fixture.expect.as_ref();
        assert_eq!(golden.name, "a flag");
        assert_eq!(&fixture.event.payload[..], br#"{"id":1}"#);
        assert_eq!(fixture.read("count").value.as_deref(), Some(&b"1"[..]));
        assert_eq!(check(expected, &flag(7), KINDS, &[]), Ok(()));
        let other = check(expected, &flag(8), KINDS, &[]).unwrap_err();
        assert!(
            other.contains("\"score\":7") && other.contains("\"score\":8"),
            "{other}"
        );
        let nothing = Outcome::Completed { proposals: vec![] };
        assert!(check(expected, &nothing, KINDS, &[]).is_err());
        assert_eq!(check(expected, &fault(), KINDS, &[]), Err("trap: here".into()));
        let unlisted = check(expected, &flag(7), &[], &[]).unwrap_err();
        assert!(unlisted.contains("does not list `flag`"), "{unlisted}");
    }

    #[test]
    fn the_neutral_event_asks_only_for_no_fault() {
        let manifest = |events: &str| {
            let json =
                format!(r#"{{"name":"p","version":"1","publisher":"p","events":{events},"actions":[],"state":false}}"#);
            Manifest::from_json(json.as_bytes()).unwrap()
        };
        let golden = neutral(&manifest(r#"["customer.*"]"#));
        assert_eq!(
            golden.series.only().unwrap().event.event_type.as_str(),
            "customer.golden"
        );
        let long = format!("[\"{}*\"]", "x".repeat(crate::ids::EventType::BYTES_MAX - 1));
        assert_eq!(
            neutral(&manifest(&long))
                .series
                .only()
                .unwrap()
                .event
                .event_type
                .as_str(),
            "golden"
        );
        let held = Outcome::Held { message: "why".into() };
        assert_eq!(check(None, &held, KINDS, &[]), Ok(()));
        assert_eq!(check(None, &flag(7), KINDS, &[]), Ok(()));
        assert!(check(None, &flag(101), KINDS, &[]).unwrap_err().contains("score 101"));
        assert!(check(None, &fault(), KINDS, &[]).unwrap_err().contains("trap: here"));
    }

    #[test]
    fn a_bad_section_is_told_what_is_wrong() {
        let check = |from: &str, to: &str, expect: &str| {
            assert!(SECTION.contains(from), "{from}");
            let error = from_json(SECTION.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{to}: {error}");
        };
        check(
            "\"type\"",
            "\"kind\"",
            "`a flag`: it is not JSON as expected: unknown field `kind`",
        );
        check("\"subject\": \"r_1\"", "\"status\": \"done\"", "name the family");
        check("\"name\"", "\"title\"", "unknown field `title`");
        assert!(matches!(from_json(b"[]"), Err(GoldenError::Count { count: 0 })));
        // Events of one fixture are runs like any others.
        let series = |count| {
            let events = [r#"{"event": {"type": "a"}}"#].repeat(count).join(",");
            from_json(format!(r#"[{{"name": "n", "fixture": {{"events": [{events}]}}}}]"#).as_bytes())
        };
        assert_eq!(events(&series(EVENTS_MAX).unwrap()), EVENTS_MAX);
        assert!(matches!(series(EVENTS_MAX + 1), Err(GoldenError::Count { count }) if count == EVENTS_MAX + 1));
        assert!(matches!(from_json(b"{}"), Err(GoldenError::Json { .. })));
        let long = vec![b' '; SECTION_BYTES_MAX + 1];
        assert!(matches!(from_json(&long), Err(GoldenError::TooLong { .. })));
    }
}
