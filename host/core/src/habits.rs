//! Which keys of its state a plugin will ask for, on a host where each that it asks for and was not given costs it another run.
//!
//! Most plugins name what they keep by something that the event says: `customer/{customer}`. So the keys that a run asked for, with what
//! its event said left out, are the keys of the next run on an event of that type, with what that one says put in. A guess that is wrong
//! costs a read and means nothing else: what counts as read is what a run asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Event;
use crate::ids::{EventType, PluginName, TenantName};
use crate::state::StateRead;

/// The most keys that are guessed for one run.
const KEYS_MAX: usize = 8;
/// A shorter value of an event may stand in a key by chance, so it names none.
const SAID_BYTES_MIN: usize = 3;

/// How the keys are named that each plugin asked for, last, on events of each type.
#[derive(Debug, Clone, Default)]
pub struct Habits(BTreeMap<(TenantName, PluginName, EventType), BTreeSet<Name>>);

/// How a key is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    before: String,
    /// The part of the event that stands in the middle of the key, if one does.
    said: Option<Said>,
    after: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Id,
    Subject,
    Attribute(String),
}

impl Habits {
    /// Notes what a plugin's run on an event asked for.
    pub fn note(&mut self, plugin: &PluginName, event: &Event, reads: &[StateRead]) {
        let names = reads.iter().take(KEYS_MAX).map(|read| Name::of(&read.key, event));
        self.0.insert(place(plugin, event), names.collect());
    }

    /// What a plugin's run on an event is likely to ask for: at most eight keys.
    pub fn keys(&self, plugin: &PluginName, event: &Event) -> Vec<String> {
        let names = self.0.get(&place(plugin, event)).into_iter().flatten();
        names.filter_map(|name| name.key(event)).collect()
    }
}

fn place(plugin: &PluginName, event: &Event) -> (TenantName, PluginName, EventType) {
    (event.tenant.clone(), plugin.clone(), event.event_type.clone())
}

fn said(event: &Event) -> impl Iterator<Item = (Said, &str)> {
    let attributes = event.attributes.iter();
    let attributes = attributes.map(|(name, value)| (Said::Attribute(name.clone()), value.as_str()));
    let subject = event.subject.iter().map(|subject| (Said::Subject, subject.as_str()));
    attributes.chain(subject).chain([(Said::Id, event.id.as_str())])
}

impl Name {
    /// Finds the longest text of the event that the key holds: the key is named by it.
    fn of(key: &str, event: &Event) -> Self {
        let in_key = said(event).filter(|(_, text)| text.len() >= SAID_BYTES_MIN && key.contains(text));
        let longest = in_key.max_by_key(|(_, text)| text.len());
        let (before, said, after) = match longest.and_then(|(said, text)| Some((key.split_once(text)?, said))) {
            Some(((before, after), said)) => (before, Some(said), after),
            None => (key, None, ""),
        };
        Self {
            before: before.to_owned(),
            said,
            after: after.to_owned(),
        }
    }

    fn key(&self, event: &Event) -> Option<String> {
        let text = match &self.said {
            None => "",
            Some(what) => said(event).find(|(said, _)| said == what)?.1,
        };
        Some([&self.before, text, &self.after].concat())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::StatusReading;
    use crate::time::UnixMillis;

    fn about(subject: &str, attributes: &[(&str, &str)]) -> Event {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Event {
            tenant: "acme".parse().unwrap(),
            source: "shop".parse().unwrap(),
            id: "evt".parse().unwrap(),
            event_type: "order.paid".parse().unwrap(),
            subject: Some(subject.parse().unwrap()),
            reading: StatusReading::Stateless,
            occurred_at: None,
            received_at: UnixMillis(0),
            amount: None,
            attributes: attributes.iter().map(owned).collect(),
            payload: bytes::Bytes::new(),
        }
    }

    fn reads(keys: &[&str]) -> Vec<StateRead> {
        let read = |key: &&str| StateRead {
            key: (*key).to_owned(),
            version: 0,
            value: None,
        };
        keys.iter().map(read).collect()
    }

    #[test]
    fn the_next_run_is_given_what_the_last_one_asked_for_of_its_own_event() {
        let plugin: PluginName = "fraud".parse().unwrap();
        let mut habits = Habits::default();
        let first = about("order_1", &[("customer", "ann"), ("country", "IN")]);
        assert_eq!(habits.keys(&plugin, &first), [""; 0]);
        habits.note(&plugin, &first, &reads(&["all", "customer/ann/days", "order_1", "IN"]));
        let second = about("order_2", &[("customer", "berta"), ("country", "IN")]);
        assert_eq!(
            habits.keys(&plugin, &second),
            // Two letters stand in any text: `IN` is a name like `all`.
            ["order_2", "IN", "all", "customer/berta/days"]
        );
        // Nobody says which customer it is.
        let anonymous = about("order_3", &[]);
        assert_eq!(habits.keys(&plugin, &anonymous), ["order_3", "IN", "all"]);
        // Other plugins, and events of other types, are not known.
        let mut other = second.clone();
        other.event_type = "another.type".parse().unwrap();
        assert_eq!(habits.keys(&plugin, &other), [""; 0]);
        assert_eq!(habits.keys(&"other".parse().unwrap(), &second), [""; 0]);
        // The last one counts.
        habits.note(&plugin, &second, &reads(&[]));
        assert_eq!(habits.keys(&plugin, &second), [""; 0]);
    }

    #[test]
    fn of_a_plugin_that_asks_for_much_little_is_guessed() {
        let plugin: PluginName = "fraud".parse().unwrap();
        let mut habits = Habits::default();
        let event = about("order_1", &[]);
        let keys: Vec<_> = (0..40).map(|at| format!("key/{at}")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        habits.note(&plugin, &event, &reads(&keys));
        assert_eq!(habits.keys(&plugin, &event).len(), KEYS_MAX);
    }

    proptest! {
        /// The same event again is given the very keys that were asked for.
        #[test]
        fn an_event_is_given_the_keys_that_it_was_asked_for(
            subject in "[a-c]{1,6}", attribute in "[a-c]{0,6}", keys in prop::collection::btree_set("[a-c/]{0,12}", 0..KEYS_MAX),
        ) {
            let plugin: PluginName = "fraud".parse().unwrap();
            let event = about(&subject, &[("customer", &attribute)]);
            let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
            let mut habits = Habits::default();
            habits.note(&plugin, &event, &reads(&asked));
            let given: BTreeSet<_> = habits.keys(&plugin, &event).into_iter().collect();
            prop_assert_eq!(given, keys);
        }
    }
}
