//! What an event says of itself, as filters ask it: of lists (promise O10), and of routes that take events by their content (promise P10).

use std::convert::Infallible;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, StatusReading};
use crate::filter::{self, Facts, Filter, FilterError, Found, Key};

/// Hands the values that an event has under `key` to `fits`, until one does. Returns whether one did. What stands in the body, or became of
/// the event, is not the event's own: under such a key it has nothing.
pub fn in_event(event: &Event, key: &Key, fits: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
    let mut text = |text: &str| fits(Found::Text(text));
    match key {
        Key::Tenant => text(event.tenant.as_str()),
        Key::Source => text(event.source.as_str()),
        Key::Type => text(event.event_type.as_str()),
        Key::Event => text(event.id.as_str()),
        Key::Subject => event.subject.as_ref().is_some_and(|subject| text(subject.as_str())),
        Key::Family => event.reading.family().is_some_and(|family| text(family.as_str())),
        // The status in the lifecycle, or the provider's own word.
        Key::Lifecycle => match &event.reading {
            StatusReading::Stateless => false,
            StatusReading::Mapped { status, .. } => text(status.as_str()),
            StatusReading::Unmapped { label, .. } => label.as_deref().is_some_and(text),
        },
        Key::Currency => event.amount.is_some_and(|amount| text(amount.currency().as_str())),
        Key::Amount => event
            .amount
            .is_some_and(|amount| fits(Found::Number(amount.minor_units()))),
        Key::Receipt
        | Key::Disposition
        | Key::Since
        | Key::Until
        | Key::Status
        | Key::Route
        | Key::Plugin
        | Key::Outcome
        | Key::Destination
        | Key::Code
        | Key::Attempts
        | Key::Kind
        | Key::Operation
        | Key::Reason
        | Key::Cause
        | Key::Body(_) => false,
    }
}

/// An event with its body, which is read when a filter first asks for a value of it, and once for all filters. A body that is no JSON has no
/// values.
#[derive(Debug)]
pub struct Content<'e> {
    event: &'e Event,
    body: Option<Value>,
}

impl<'e> Content<'e> {
    /// Nothing is read yet.
    pub fn of(event: &'e Event) -> Self {
        Self { event, body: None }
    }

    /// The event.
    pub fn event(&self) -> &'e Event {
        self.event
    }
}

impl Facts for Content<'_> {
    type Error = Infallible;

    fn any(&mut self, key: &Key, fits: &mut dyn FnMut(Found<'_>) -> bool) -> Result<bool, Infallible> {
        let Key::Body(path) = key else {
            return Ok(in_event(self.event, key, fits));
        };
        let read = || serde_json::from_slice(&self.event.payload).unwrap_or(Value::Null);
        Ok(filter::in_body(self.body.get_or_insert_with(read), path, fits))
    }
}

/// What a route asks of an event's content, as its file says it.
///
/// What it may cost is bounded: by [`limits::ROUTE_FILTER_TERMS_MAX`](crate::limits::ROUTE_FILTER_TERMS_MAX) terms, each of which looks at
/// no more than [`limits::FILTER_BODY_VALUES_MAX`](crate::limits::FILTER_BODY_VALUES_MAX) values of a body that is read once.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentFilter {
    text: String,
    filter: Filter,
}

impl ContentFilter {
    /// Reads a route's filter.
    ///
    /// # Errors
    /// At the first place that is not what it should be. An empty filter is one: it would say nothing.
    pub fn read(text: &str) -> Result<Self, FilterError> {
        Ok(Self {
            text: text.to_owned(),
            filter: Filter::read_of_route(text)?,
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the event is one of those that the route means.
    pub fn fits(&self, content: &mut Content<'_>) -> bool {
        let Ok(fits) = self.filter.holds(content);
        fits
    }
}

/// The text says all that there is.
impl PartialEq for ContentFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for ContentFilter {}

impl fmt::Debug for ContentFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl From<ContentFilter> for String {
    fn from(filter: ContentFilter) -> Self {
        filter.text
    }
}

impl TryFrom<String> for ContentFilter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        Self::read(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use crate::money::{Currency, Money};
    use crate::time::UnixMillis;

    fn event(body: &str) -> Event {
        Event {
            tenant: "acme".parse().unwrap(),
            source: "shop".parse().unwrap(),
            id: "evt_1".parse().unwrap(),
            event_type: "order.paid".parse().unwrap(),
            subject: Some("order_7".parse().unwrap()),
            reading: StatusReading::Mapped {
                family: "order".parse().unwrap(),
                status: "paid".parse().unwrap(),
            },
            occurred_at: None,
            received_at: UnixMillis(0),
            amount: Money::new(1_250, Currency::new("EUR").unwrap()),
            attributes: Vec::new(),
            payload: body.as_bytes().to_vec().into(),
        }
    }

    fn fits(text: &str, event: &Event) -> bool {
        let filter = ContentFilter::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        filter.fits(&mut Content::of(event))
    }

    #[test]
    fn p10_a_route_asks_of_the_event_and_of_its_body() {
        let paid = event(r#"{"data":{"amount":120,"country":"DE","items":[{"sku":"a"},{"sku":"b"}]}}"#);
        for (text, expect) in [
            ("body.data.amount:>=100 body.data.country:DE", true),
            ("body.data.amount:>=121", false),
            ("-body.data.country:DE,AT", false),
            ("body.data.items.*.sku:b", true),
            ("amount:>1000 currency:EUR", true),
            ("amount:1250", true),
            ("amount:<1250", false),
            ("currency:USD", false),
            ("-currency:USD", true),
            (
                "type:order.* source:shop subject:order_7 family:order lifecycle:paid event:evt_*",
                true,
            ),
            ("lifecycle:refunded", false),
        ] {
            assert_eq!(fits(text, &paid), expect, "{text}");
        }
        let form = event("amount=120&country=DE");
        assert!(!fits("body.amount:120", &form) && fits("-body.amount:120", &form));
        let without = Event {
            amount: None,
            subject: None,
            ..paid
        };
        assert!(!fits("amount:>=0", &without) && fits("-amount:>=0", &without));
    }

    #[test]
    fn p10_a_routes_filter_is_about_the_event_alone_and_short() {
        for (text, column, part) in [
            ("", 1, "is empty"),
            ("type:a status:dead", 8, "about what an event says"),
            ("-route:cashback", 2, "about what an event says"),
            ("since:1h", 1, "about what an event says"),
            ("receipt:rcpt_1", 1, "about what an event says"),
            ("disposition:held", 1, "about what an event says"),
            ("amount:many", 8, "is no amount"),
            ("amount:>=12.5", 8, "is no amount"),
            ("typ:a", 1, "did you mean `type`?"),
            ("body.a:>x", 8, "compares with no number"),
        ] {
            let error = ContentFilter::read(text).unwrap_err();
            assert!(
                error.column == column && error.message.contains(part),
                "{text}: {error}"
            );
        }
        let many = "type:a ".repeat(limits::ROUTE_FILTER_TERMS_MAX + 1);
        assert!(ContentFilter::read(&many).unwrap_err().message.contains("at most"));
    }

    #[test]
    fn p10_what_a_body_may_cost_is_bounded() {
        let values: Vec<_> = (0..limits::FILTER_BODY_VALUES_MAX * 2)
            .map(|number| number.to_string())
            .collect();
        let long = event(&format!(r#"{{"list":[{}]}}"#, values.join(",")));
        let (near, far) = (100, limits::FILTER_BODY_VALUES_MAX + 100);
        assert!(fits(&format!("body.list:{near}"), &long) && fits(&format!("body.list.*:{near}"), &long));
        assert!(!fits(&format!("body.list:{far}"), &long) && !fits(&format!("body.list.*:{far}"), &long));
        // Nothing but the text tells two filters apart, and it is what is written down.
        let filter = ContentFilter::read("type:a").unwrap();
        let written = serde_json::to_string(&filter).unwrap();
        assert_eq!(written, "\"type:a\"");
        assert_eq!(serde_json::from_str::<ContentFilter>(&written).unwrap(), filter);
        assert!(serde_json::from_str::<ContentFilter>("\"status:dead\"").is_err());
    }
}
