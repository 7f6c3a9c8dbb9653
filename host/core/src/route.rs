//! Routing: which of a tenant's routes an event takes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::ids::{SourceName, Status};

/// A pattern over event types: exact, or a prefix with `*` at its end (`customer.*`, `*`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypePattern {
    text: String,
    prefix: bool,
}

impl TypePattern {
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
    pub sources: Vec<SourceName>,
    pub types: Vec<TypePattern>,
    pub statuses: Vec<Status>,
}

impl RouteMatch {
    pub fn takes(&self, event: &Event) -> bool {
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
