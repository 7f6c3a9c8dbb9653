//! Reading an event.

use serde_json::Value;

use crate::{Event, Failure};

impl Event {
    /// The value that the source's profile read under `name`, for example `customer`. The first, should there be several.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Like [`Event::attribute`], for what the rule cannot do without.
    ///
    /// # Errors
    /// [`Failure::Hold`] when it is absent or empty: a person must mend the source's profile, and then the event can be replayed.
    pub fn required_attribute(&self, name: &str) -> Result<&str, Failure> {
        self.attribute(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            Failure::hold(format!(
                "the event has no attribute `{name}`; the profile of source `{}` must read it",
                self.source
            ))
        })
    }

    /// Which business operation the event is about: attribute `operation`, else the subject, else the event's own id.
    /// Two events that mean one operation must give one name here.
    pub fn operation(&self) -> &str {
        let attribute = self.attribute("operation").filter(|operation| !operation.is_empty());
        attribute.or(self.subject.as_deref()).unwrap_or(&self.id)
    }

    /// The event's own time in milliseconds since the Unix epoch: when it happened according to the provider, but not after the
    /// host received it, as a wrong date far ahead would make every later event look late; without one, when the host received
    /// it. The same on every retry and replay, so windows count by it and never by a clock.
    pub fn time_ms(&self) -> i64 {
        self.occurred_at_ms.map_or(self.received_at_ms, |occurred_at_ms| {
            occurred_at_ms.min(self.received_at_ms)
        })
    }

    /// Whether one of `patterns` is the event's type, or a prefix of it that ends in `*` (`customer.*`). None match an empty list.
    pub fn type_is_one_of(&self, patterns: &[String]) -> bool {
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => self.event_type.starts_with(prefix),
            None => self.event_type == *pattern,
        })
    }

    /// The whole body as JSON. For one or two values of a large body a [`crate::Lookup`] is cheaper: it builds nothing.
    ///
    /// # Errors
    /// [`Failure::Hold`] when the body is not JSON.
    pub fn payload_json(&self) -> Result<Value, Failure> {
        serde_json::from_str(&self.payload).map_err(|error| self.not_json(&error))
    }

    pub(crate) fn not_json(&self, error: &serde_json::Error) -> Failure {
        Failure::hold(format!("the event's body is not JSON: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use crate::Failure;
    use crate::testing::EventBuilder;

    #[test]
    fn an_operation_is_named_by_attribute_subject_or_id() {
        let event = EventBuilder::new("a.b").id("evt_1");
        assert_eq!(event.clone().build().operation(), "evt_1");
        assert_eq!(event.clone().subject("r_1").build().operation(), "r_1");
        assert_eq!(
            event
                .clone()
                .subject("r_1")
                .attribute("operation", "op_1")
                .build()
                .operation(),
            "op_1"
        );
        assert_eq!(
            event.subject("r_1").attribute("operation", "").build().operation(),
            "r_1"
        );
    }

    #[test]
    fn time_is_the_events_own() {
        let event = EventBuilder::new("a.b").received_at_ms(20);
        assert_eq!(event.clone().build().time_ms(), 20);
        assert_eq!(event.clone().occurred_at_ms(10).build().time_ms(), 10);
        assert_eq!(event.occurred_at_ms(30).build().time_ms(), 20);
    }

    #[test]
    fn types_match_whole_or_by_prefix() {
        let event = EventBuilder::new("customer.rewarded").build();
        for (pattern, expect) in [
            ("customer.rewarded", true),
            ("customer.*", true),
            ("*", true),
            ("customer", false),
            ("customer.rewarded.x", false),
        ] {
            assert_eq!(event.type_is_one_of(&[pattern.to_owned()]), expect, "{pattern}");
        }
        assert!(!event.type_is_one_of(&[]));
    }

    #[test]
    fn what_is_missing_is_named() {
        let event = EventBuilder::new("a.b").attribute("customer", "").build();
        let expect = "the event has no attribute `customer`; the profile of source `test-source` must read it";
        assert_eq!(event.required_attribute("customer"), Err(Failure::hold(expect)));
        assert!(matches!(
            EventBuilder::new("a").payload("{").build().payload_json(),
            Err(Failure::Hold(_))
        ));
    }
}
