//! Routing: which of a tenant's routes an event takes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::content::{Content, ContentFilter};
use crate::event::Event;
use crate::ids::{SourceName, Status};
use crate::lifecycle::Lateness;

/// A pattern over event types: exact, or a prefix with `*` at its end (`customer.*`, `*`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypePattern {
    text: String,
    prefix: bool,
}

impl TypePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When the pattern is empty or has a `*` anywhere but at its end.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let (text, prefix) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        if pattern.is_empty() || text.contains('*') {
            return Err(format!(
                "`{pattern}` is not a type pattern: write an event type, or a prefix that ends in `*`"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            prefix,
        })
    }

    /// Whether the event type fits the pattern.
    pub fn matches(&self, event_type: &str) -> bool {
        if self.prefix {
            event_type.starts_with(&self.text)
        } else {
            event_type == self.text
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}
impl fmt::Debug for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When a route takes an event. Empty lists and absent fields take everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// The sources whose events it takes.
    pub sources: Vec<SourceName>,
    /// The types that it takes.
    pub types: Vec<TypePattern>,
    /// The lifecycle statuses that it takes; an event without one is then not taken.
    pub statuses: Vec<Status>,
    /// What it asks of an event's content; absent: nothing.
    pub filter: Option<ContentFilter>,
    /// What it does with late events.
    pub late: Late,
}

/// Whether a route takes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// It does: the event has a job on it.
    Yes,
    /// The event is from another source, or of another type or status.
    NotMeant,
    /// It would be one of its events, but its content does not fit the route's filter.
    Filtered,
}

/// What a route does with an event whose subject is already further.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// What the lifecycle says: what is due runs, what is open is held, what is overtaken is left out.
    #[default]
    AsDeclared,
    /// Runs the job as for an event that came on time.
    Run,
    /// Makes no job.
    Skip,
    /// Makes a job that waits for a person.
    Hold,
}

/// How the job of a late event begins, if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateJob {
    /// It runs as for an event that came on time.
    Runs,
    /// It waits for a person, who lets it run or dismisses it.
    Held,
    /// No job: the event is superseded on this route.
    None,
}

impl Late {
    /// The words of a route's `late`, and what they mean.
    pub const WORDS: [(&'static str, Self); 3] = [("run", Self::Run), ("skip", Self::Skip), ("hold", Self::Hold)];

    /// What a route's word means; none when there is no such word.
    pub fn from_word(word: &str) -> Option<Self> {
        let known = Self::WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, late)| *late)
    }

    /// The word that says it in a route, if one does.
    pub fn word(self) -> Option<&'static str> {
        let known = Self::WORDS.iter().find(|(_, late)| *late == self);
        known.map(|(word, _)| *word)
    }

    /// How the job of an event begins that comes so late.
    #[must_use]
    pub fn job(self, lateness: Lateness) -> LateJob {
        match (self, lateness) {
            (Self::Run, _) | (Self::AsDeclared, Lateness::Due) => LateJob::Runs,
            (Self::Hold, _) | (Self::AsDeclared, Lateness::Open) => LateJob::Held,
            (Self::Skip, _) | (Self::AsDeclared, Lateness::Overtaken) => LateJob::None,
        }
    }
}

impl RouteMatch {
    /// Whether the route takes an event. Its content is looked at last.
    pub fn takes(&self, content: &mut Content<'_>) -> Takes {
        if !self.means(content.event()) {
            return Takes::NotMeant;
        }
        match &self.filter {
            Some(filter) if !filter.fits(content) => Takes::Filtered,
            Some(_) | None => Takes::Yes,
        }
    }

    /// Whether it is about such events, whatever they hold.
    fn means(&self, event: &Event) -> bool {
        (self.sources.is_empty() || self.sources.contains(&event.source))
            && (self.types.is_empty()
                || self
                    .types
                    .iter()
                    .any(|pattern| pattern.matches(event.event_type.as_str())))
            && (self.statuses.is_empty()
                || event
                    .reading
                    .status()
                    .is_some_and(|status| self.statuses.contains(status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_types_or_prefixes() {
        for (pattern, event_type, expect) in [
            ("customer.rewarded", "customer.rewarded", true),
            ("customer.rewarded", "customer.rewarded.loyalty_points", false),
            ("customer.*", "customer.rewarded", true),
            ("customer.*", "customers", false),
            ("*", "anything", true),
        ] {
            assert_eq!(
                TypePattern::new(pattern).unwrap().matches(event_type),
                expect,
                "{pattern} on {event_type}"
            );
        }
        assert!(TypePattern::new("a.*.b").is_err());
        assert!(TypePattern::new("").is_err());
    }
}
