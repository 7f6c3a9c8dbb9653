//! For native tests of a rule: an event in a few words, and a state in memory.

use std::collections::BTreeMap;

use crate::{Event, Money, State};

/// A state that lives in memory. Writes are there at once; a test that expects a failed run to leave nothing behind compares
/// a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    /// What is kept, by key.
    pub values: BTreeMap<String, Vec<u8>>,
}

impl State for MemoryState {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.values.get(key).cloned()
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        self.values.insert(key.to_owned(), value.to_vec());
    }

    fn delete(&mut self, key: &str) {
        self.values.remove(key);
    }
}

/// An event, piece by piece. What is not set: tenant `test-tenant`, source `test-source`, id `evt_1`, received at
/// 2026-05-05T10:00:00Z, body `{}`, everything else absent.
#[derive(Debug, Clone)]
pub struct EventBuilder {
    event: Event,
}

impl EventBuilder {
    /// An event of this type.
    pub fn new(event_type: &str) -> Self {
        Self {
            event: Event {
                tenant: "test-tenant".into(),
                source: "test-source".into(),
                id: "evt_1".into(),
                event_type: event_type.into(),
                subject: None,
                family: None,
                status: None,
                occurred_at_ms: None,
                received_at_ms: 1_777_975_200_000,
                amount: None,
                attributes: Vec::new(),
                payload: "{}".into(),
            },
        }
    }

    /// The provider's event id.
    pub fn id(mut self, id: &str) -> Self {
        self.event.id = id.into();
        self
    }

    /// What the event is about.
    pub fn subject(mut self, subject: &str) -> Self {
        self.event.subject = Some(subject.into());
        self
    }

    /// The family with its lifecycle, and where in it the subject is.
    pub fn status(mut self, family: &str, status: &str) -> Self {
        self.event.family = Some(family.into());
        self.event.status = Some(status.into());
        self
    }

    /// When it happened, in milliseconds since the Unix epoch.
    pub fn occurred_at_ms(mut self, occurred_at_ms: i64) -> Self {
        self.event.occurred_at_ms = Some(occurred_at_ms);
        self
    }

    /// When it was received, in milliseconds since the Unix epoch.
    pub fn received_at_ms(mut self, received_at_ms: i64) -> Self {
        self.event.received_at_ms = received_at_ms;
        self
    }

    /// The event's own amount.
    pub fn amount(mut self, minor_units: i64, currency: &str) -> Self {
        self.event.amount = Some(Money::new(minor_units, currency));
        self
    }

    /// One more attribute.
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.event.attributes.push((name.into(), value.into()));
        self
    }

    /// The body.
    pub fn payload(mut self, payload: &str) -> Self {
        self.event.payload = payload.into();
        self
    }

    /// The event.
    pub fn build(self) -> Event {
        self.event
    }
}
