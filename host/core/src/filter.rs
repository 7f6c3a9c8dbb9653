//! The filter language (promise O10): what an operator writes to say which events, jobs, runs, actions, deliveries or refused requests
//! are meant.
//!
//! ```text
//! status:dead type:order.*,refund.* -source:shop since:24h body.data.amount:>1000
//! ```
//!
//! A filter is a list of terms, and all of them must hold. A term is a key, a colon and one value or several with commas between
//! them, of which one must fit; `-` before it turns it round. The text is the same in API and command line. Time is an argument:
//! `24h` is counted back from it once, when the filter is read.
//!
//! [`Filter::holds`] is the only place that decides whether something fits. A store may pass over what cannot fit, and does not decide.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use crate::limits;
use crate::mask;
use crate::time::UnixMillis;

/// Which end of a list a walk through it begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// As people read it.
    NewestFirst,
    /// As it came.
    OldestFirst,
}

/// What a filter is about: each has a list of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listing {
    /// Receipts of events.
    Events,
    /// Receipts on routes.
    Jobs,
    /// Executions of plugins.
    Runs,
    /// What runs proposed and grants allowed.
    Actions,
    /// Actions on their way to destinations.
    Deliveries,
    /// Events × destinations: whether each event reached each place.
    Undelivered,
    /// Requests that became no event.
    Refused,
}

impl Listing {
    /// Every list, in the order of this enum.
    pub const ALL: [Self; 7] = [
        Self::Events,
        Self::Jobs,
        Self::Runs,
        Self::Actions,
        Self::Deliveries,
        Self::Undelivered,
        Self::Refused,
    ];

    /// Whether it is a list of events and of what became of them, which a store has. What was refused is in the memory of a host.
    pub fn is_of_events(self) -> bool {
        self != Self::Refused
    }

    /// The word in paths and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Jobs => "jobs",
            Self::Runs => "runs",
            Self::Actions => "actions",
            Self::Deliveries => "deliveries",
            Self::Undelivered => "undelivered",
            Self::Refused => "refused",
        }
    }

    /// The words that `status` has in this list; none where it has no `status`.
    pub fn statuses(self) -> &'static [&'static str] {
        match self {
            Self::Events => &[
                "waiting",
                "ready",
                "leased",
                "blocked",
                "done",
                "delivered",
                "held",
                "dead",
                "dismissed",
                "unrouted",
            ],
            Self::Jobs => &[
                "waiting",
                "ready",
                "leased",
                "blocked",
                "done",
                "held",
                "dead",
                "dismissed",
            ],
            Self::Runs | Self::Refused => &[],
            Self::Actions => &["recorded", "conflict"],
            Self::Deliveries => &["waiting", "ready", "leased", "blocked", "delivered", "dead"],
            Self::Undelivered => &["waiting", "held", "dead", "delivered", "not-meant"],
        }
    }

    /// The keys that a filter of this list may have, `body.…` aside, which every list of events has.
    pub fn keys(self) -> impl Iterator<Item = Key> {
        Key::PLAIN.into_iter().filter(move |key| key.is_of(self))
    }
}

impl std::str::FromStr for Listing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|list| list.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str);
            format!("`{}` is no list; there are: {}", mask::line(text, 60), known.join(", "))
        })
    }
}

/// What a term is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Whose it is.
    Tenant,
    /// Where the event came in.
    Source,
    /// The provider's type of the event.
    Type,
    /// The provider's id of the event.
    Event,
    /// The receipt's id.
    Receipt,
    /// What the event is about.
    Subject,
    /// The family of the event's lifecycle.
    Family,
    /// The event's status in its lifecycle, or the provider's label where it is not mapped.
    Lifecycle,
    /// The money that the event is about, in minor units of its currency.
    Amount,
    /// The currency of that money.
    Currency,
    /// What the lifecycle made of the event: accepted, superseded or held.
    Disposition,
    /// Not before this instant.
    Since,
    /// Before this instant.
    Until,
    /// How far the work has come; see [`Listing::statuses`].
    Status,
    /// The route that took it.
    Route,
    /// The plugin that ran.
    Plugin,
    /// How the run ended.
    Outcome,
    /// Where it goes.
    Destination,
    /// What a destination answered to an attempt, or the host to what it refused.
    Code,
    /// How often it was tried.
    Attempts,
    /// The kind of an action.
    Kind,
    /// The operation key of an action.
    Operation,
    /// Why it is where it is, in words.
    Reason,
    /// Why a request was refused, in one word.
    Cause,
    /// A value in the event's body: the names that lead to it. `*` is each member or element.
    Body(Vec<String>),
}

impl Key {
    /// Every key but those of bodies.
    const PLAIN: [Self; 24] = [
        Self::Tenant,
        Self::Source,
        Self::Type,
        Self::Event,
        Self::Receipt,
        Self::Subject,
        Self::Family,
        Self::Lifecycle,
        Self::Amount,
        Self::Currency,
        Self::Disposition,
        Self::Since,
        Self::Until,
        Self::Status,
        Self::Route,
        Self::Plugin,
        Self::Outcome,
        Self::Destination,
        Self::Code,
        Self::Attempts,
        Self::Kind,
        Self::Operation,
        Self::Reason,
        Self::Cause,
    ];

    /// The word before the colon; of a body's value only its beginning.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Source => "source",
            Self::Type => "type",
            Self::Event => "event",
            Self::Receipt => "receipt",
            Self::Subject => "subject",
            Self::Family => "family",
            Self::Lifecycle => "lifecycle",
            Self::Amount => "amount",
            Self::Currency => "currency",
            Self::Disposition => "disposition",
            Self::Since => "since",
            Self::Until => "until",
            Self::Status => "status",
            Self::Route => "route",
            Self::Plugin => "plugin",
            Self::Outcome => "outcome",
            Self::Destination => "destination",
            Self::Code => "code",
            Self::Attempts => "attempts",
            Self::Kind => "kind",
            Self::Operation => "operation",
            Self::Reason => "reason",
            Self::Cause => "cause",
            Self::Body(_) => "body.",
        }
    }

    /// Whether filters of a list may have it.
    fn is_of(&self, list: Listing) -> bool {
        use Listing::{Actions, Deliveries, Events, Jobs, Refused, Runs, Undelivered};
        match self {
            Self::Tenant | Self::Source | Self::Since | Self::Until => true,
            Self::Type
            | Self::Event
            | Self::Receipt
            | Self::Subject
            | Self::Family
            | Self::Lifecycle
            | Self::Amount
            | Self::Currency
            | Self::Disposition
            | Self::Route
            | Self::Body(_) => list.is_of_events(),
            Self::Status => !list.statuses().is_empty(),
            Self::Plugin => matches!(list, Events | Jobs | Runs | Actions | Deliveries),
            Self::Outcome => matches!(list, Events | Jobs | Runs),
            Self::Destination => matches!(list, Events | Actions | Deliveries | Undelivered),
            Self::Code => matches!(list, Events | Deliveries | Refused),
            Self::Attempts => matches!(list, Events | Jobs | Runs | Deliveries),
            Self::Kind | Self::Operation => matches!(list, Events | Actions | Deliveries),
            Self::Reason => matches!(list, Jobs | Runs | Deliveries | Undelivered | Refused),
            Self::Cause => list == Refused,
        }
    }

    /// Whether the event alone says it, whatever became of the event.
    pub fn is_of_event(&self) -> bool {
        matches!(
            self,
            Self::Tenant
                | Self::Source
                | Self::Type
                | Self::Event
                | Self::Receipt
                | Self::Subject
                | Self::Family
                | Self::Lifecycle
                | Self::Amount
                | Self::Currency
                | Self::Disposition
                | Self::Body(_)
        )
    }

    /// Whether a route may ask for it: what an event says before it has a receipt.
    fn is_of_route(&self) -> bool {
        self.is_of_event() && !matches!(self, Self::Tenant | Self::Receipt | Self::Disposition)
    }

    /// What is cheap to know is asked first: 0 stands in the row, 2 is read out of a body.
    fn cost(&self) -> u8 {
        match self {
            Self::Since | Self::Until => 0,
            Self::Body(_) => 2,
            _ => 1,
        }
    }
}

/// One value that something has under a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found<'a> {
    /// A word, a name or an identifier.
    Text(&'a str),
    /// A count or a status code; of [`Key::Since`] and [`Key::Until`] milliseconds since the Unix epoch.
    Number(i64),
    /// An attempt that got no answer.
    NoAnswer,
    /// A value in a body.
    Json(&'a Value),
}

/// Something that a filter is held against.
pub trait Facts {
    /// Why a value cannot be read.
    type Error;

    /// Hands each value under `key` to `fits`, until one does. Returns whether one did.
    ///
    /// # Errors
    /// When what it has under the key cannot be read.
    fn any(&mut self, key: &Key, fits: &mut dyn FnMut(Found<'_>) -> bool) -> Result<bool, Self::Error>;
}

/// A filter that was read and makes sense for its list. The default holds for everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Those that are cheap to judge first.
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    key: Key,
    is_negated: bool,
    /// One of them must fit.
    tests: Vec<Test>,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Is(String),
    Begins(String),
    Contains(String),
    Compares(Order, Number),
    /// The hundred of a status code: 5 for `5xx`.
    Class(i64),
    NoAnswer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Less,
    LessOrSame,
    Same,
    MoreOrSame,
    More,
}

/// A number as it is written: whole numbers are compared exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Whole(i128),
    Real(f64),
}

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// Which character it is about, from 1.
    pub column: usize,
    /// What is wrong, and what was expected.
    pub message: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter, column {}: {}", self.column, self.message)
    }
}
impl std::error::Error for FilterError {}

impl FilterError {
    /// The filter with a mark below the place, for people: three lines. `text` is what was read.
    pub fn pointed(&self, text: &str) -> String {
        let before: String = text.chars().take(self.column - 1).collect();
        let rest: String = text.chars().skip(self.column - 1).collect();
        let (before, rest) = (mask::shown(&before), mask::shown(&rest));
        let room = " ".repeat(before.chars().count());
        format!("{}\n  {before}{rest}\n  {room}^", self.message)
    }
}

impl Filter {
    /// Reads a filter of a list. An empty text holds for everything.
    ///
    /// # Errors
    /// At the first place that is not what it should be.
    pub fn read(text: &str, list: Listing, now: UnixMillis) -> Result<Self, FilterError> {
        if text.len() > limits::FILTER_BYTES_MAX {
            return Err(too_long(text));
        }
        Reader::of(text, false).terms(list, now, limits::FILTER_TERMS_MAX)
    }

    /// Reads what a route asks of an event. See [`crate::content::ContentFilter`].
    ///
    /// # Errors
    /// As [`Self::read`], and where it asks for what became of an event, or for nothing.
    pub(crate) fn read_of_route(text: &str) -> Result<Self, FilterError> {
        if text.len() > limits::FILTER_BYTES_MAX {
            return Err(too_long(text));
        }
        // No term of it counts back from an instant.
        let filter = Reader::of(text, true).terms(Listing::Events, UnixMillis(0), limits::ROUTE_FILTER_TERMS_MAX)?;
        if filter.is_empty() {
            return Err(wrong_at(0, "it is empty: write what the route takes, or leave it out"));
        }
        Ok(filter)
    }

    /// Whether it holds for everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether all of its terms hold.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub fn holds<F: Facts>(&self, facts: &mut F) -> Result<bool, F::Error> {
        for term in &self.terms {
            let fits = facts.any(&term.key, &mut |found| term.tests.iter().any(|test| test.fits(found)))?;
            if fits == term.is_negated {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Those of its terms whose keys `wanted` names.
    #[must_use]
    pub fn part(&self, wanted: impl Fn(&Key) -> bool) -> Self {
        Self {
            terms: self.terms.iter().filter(|term| wanted(&term.key)).cloned().collect(),
        }
    }

    /// Whether a term is about the key, turned round or not.
    pub fn asks(&self, wanted: impl Fn(&Key) -> bool) -> bool {
        self.terms.iter().any(|term| wanted(&term.key))
    }

    /// The values of which a thing must have one under `key`, where a term says so word by word.
    pub fn only(&self, key: &Key) -> Option<Vec<&str>> {
        self.terms
            .iter()
            .filter(|term| term.key == *key && !term.is_negated)
            .find_map(|term| term.tests.iter().map(Test::exact).collect())
    }

    /// Nothing before this instant fits.
    pub fn since(&self) -> Option<UnixMillis> {
        self.instants(&Key::Since).max()
    }

    /// Nothing at or after this instant fits.
    pub fn until(&self) -> Option<UnixMillis> {
        self.instants(&Key::Until).min()
    }

    fn instants(&self, key: &Key) -> impl Iterator<Item = UnixMillis> {
        let terms = self
            .terms
            .iter()
            .filter(move |term| term.key == *key && !term.is_negated);
        terms.filter_map(|term| match term.tests.as_slice() {
            [Test::Compares(_, Number::Whole(at))] => Some(UnixMillis(i64::try_from(*at).ok()?)),
            _ => None,
        })
    }
}

/// Leads to the values of a body that the names of a [`Key::Body`] mean, and hands each to `fits` until one does. At most
/// [`limits::FILTER_BODY_VALUES_MAX`] are looked at.
pub fn in_body(body: &Value, path: &[String], fits: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
    let mut left = limits::FILTER_BODY_VALUES_MAX;
    lead(body, path, &mut left, fits)
}

fn lead(value: &Value, path: &[String], left: &mut usize, fits: &mut dyn FnMut(Found<'_>) -> bool) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    let Some((name, rest)) = path.split_first() else {
        return match value {
            // A list has a value when one of its elements is that.
            Value::Array(elements) => {
                let looked_at = elements.len().min(*left);
                *left -= looked_at;
                elements[..looked_at].iter().any(|element| fits(Found::Json(element)))
            }
            value => fits(Found::Json(value)),
        };
    };
    match value {
        Value::Object(members) if name == "*" => members.values().any(|member| lead(member, rest, left, fits)),
        Value::Object(members) => members.get(name).is_some_and(|member| lead(member, rest, left, fits)),
        Value::Array(elements) if name == "*" => elements.iter().any(|element| lead(element, rest, left, fits)),
        Value::Array(elements) => name
            .parse::<usize>()
            .ok()
            .and_then(|at| elements.get(at))
            .is_some_and(|element| lead(element, rest, left, fits)),
        _ => false,
    }
}

impl Test {
    fn exact(&self) -> Option<&str> {
        match self {
            Self::Is(text) => Some(text),
            Self::Begins(_) | Self::Contains(_) | Self::Compares(..) | Self::Class(_) | Self::NoAnswer => None,
        }
    }

    fn fits(&self, found: Found<'_>) -> bool {
        match (self, found) {
            (Self::NoAnswer, Found::NoAnswer) => true,
            (Self::Class(hundred), Found::Number(code)) => code / 100 == *hundred,
            (Self::Compares(order, wanted), Found::Number(number)) => {
                order.takes(Number::Whole(number.into()).compared(*wanted))
            }
            (Self::Compares(order, wanted), Found::Json(value)) => {
                Number::of_json(value).is_some_and(|number| order.takes(number.compared(*wanted)))
            }
            (Self::Is(wanted), Found::Json(Value::Number(number))) => {
                let wanted = Number::read(wanted);
                let found = Number::read(&number.to_string());
                matches!((found, wanted), (Some(found), Some(wanted)) if found.compared(wanted) == Some(Ordering::Equal))
            }
            // A `*` alone asks whether there is anything.
            (Self::Begins(wanted), Found::Json(value)) if wanted.is_empty() => !value.is_null(),
            (Self::Is(wanted), Found::Json(Value::Bool(value))) => wanted == if *value { "true" } else { "false" },
            (Self::Is(wanted), Found::Json(Value::Null)) => wanted == "null",
            (test, Found::Json(Value::String(text))) => test.fits(Found::Text(text)),
            (Self::Is(wanted), Found::Text(text)) => text == wanted,
            (Self::Begins(wanted), Found::Text(text)) => text.starts_with(wanted),
            (Self::Contains(wanted), Found::Text(text)) => text.to_lowercase().contains(wanted),
            // What has another shape does not fit.
            (
                Self::Is(_)
                | Self::Begins(_)
                | Self::Contains(_)
                | Self::Compares(..)
                | Self::Class(_)
                | Self::NoAnswer,
                _,
            ) => false,
        }
    }
}

impl Order {
    fn takes(self, compared: Option<Ordering>) -> bool {
        match compared {
            None => false,
            Some(Ordering::Less) => matches!(self, Self::Less | Self::LessOrSame),
            Some(Ordering::Equal) => matches!(self, Self::LessOrSame | Self::Same | Self::MoreOrSame),
            Some(Ordering::Greater) => matches!(self, Self::More | Self::MoreOrSame),
        }
    }
}

impl Number {
    fn read(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        // Rust reads `inf` and `nan` as numbers, and nobody else means them.
        let begins = text.trim_start_matches(['-', '+']).chars().next()?;
        let real: f64 = text.parse().ok()?;
        (begins.is_ascii_digit() && real.is_finite()).then_some(Self::Real(real))
    }

    /// Amounts come as numbers and as texts.
    fn of_json(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Self::read(&number.to_string()),
            Value::String(text) => Self::read(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "one of the two is no whole number, and was not exact before"
    )]
    fn compared(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(&other)),
            (Self::Whole(one), Self::Real(other)) => (one as f64).partial_cmp(&other),
            (Self::Real(one), Self::Whole(other)) => one.partial_cmp(&(other as f64)),
            (Self::Real(one), Self::Real(other)) => one.partial_cmp(&other),
        }
    }
}

/// Reads a filter, letter by letter.
struct Reader {
    letters: Vec<char>,
    /// The next letter.
    at: usize,
    /// The filter is a route's.
    is_of_route: bool,
}

/// One value as it is written.
struct Written {
    text: String,
    /// In quotes: every letter stands for itself.
    is_quoted: bool,
    /// Where it begins.
    at: usize,
}

impl Reader {
    fn of(text: &str, is_of_route: bool) -> Self {
        Self {
            letters: text.chars().collect(),
            at: 0,
            is_of_route,
        }
    }

    /// All terms up to the end.
    fn terms(mut self, list: Listing, now: UnixMillis, terms_max: usize) -> Result<Filter, FilterError> {
        let mut terms = Vec::new();
        loop {
            self.pass_spaces();
            if self.peek().is_none() {
                break;
            }
            if terms.len() == terms_max {
                let whose = if self.is_of_route {
                    "a route's filter"
                } else {
                    "a filter"
                };
                return Err(self.wrong(format!("{whose} has at most {terms_max} terms")));
            }
            terms.push(self.term(list, now)?);
        }
        terms.sort_by_key(|term: &Term| term.key.cost());
        Ok(Filter { terms })
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn pass_spaces(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn wrong(&self, message: impl Into<String>) -> FilterError {
        wrong_at(self.at, message)
    }

    fn term(&mut self, list: Listing, now: UnixMillis) -> Result<Term, FilterError> {
        let is_negated = self.peek() == Some('-');
        if is_negated {
            self.at += 1;
        }
        let begins = self.at;
        let mut word = String::new();
        while let Some(letter) = self.peek()
            && !letter.is_whitespace()
            && letter != ':'
        {
            if letter == '"' {
                return Err(self.wrong(format!(
                    "a key stands before what is quoted, for example subject:\"…\"; there are: {}",
                    keys_of(list)
                )));
            }
            word.push(letter);
            self.at += 1;
        }
        if self.peek() != Some(':') {
            return Err(wrong_at(begins, no_colon(&word, list)));
        }
        let key = key(&word, begins, list)?;
        if self.is_of_route && !key.is_of_route() {
            let known: Vec<_> = list.keys().filter(Key::is_of_route).map(|key| key.word()).collect();
            return Err(wrong_at(
                begins,
                format!(
                    "a route's filter is about what an event says, and `{}` is not of that; there are: {}, body.…",
                    key.word(),
                    known.join(", ")
                ),
            ));
        }
        self.at += 1;
        let mut tests = Vec::new();
        loop {
            if tests.len() == limits::FILTER_VALUES_MAX {
                return Err(self.wrong(format!("a term has at most {} values", limits::FILTER_VALUES_MAX)));
            }
            let value = self.value(&word)?;
            tests.push(test(&key, &value, list, now)?);
            if self.peek() != Some(',') {
                break;
            }
            if matches!(key, Key::Since | Key::Until) {
                return Err(self.wrong(format!("{word} has one instant")));
            }
            self.at += 1;
        }
        Ok(Term { key, is_negated, tests })
    }

    /// One value, up to a comma, a space or the end.
    fn value(&mut self, key: &str) -> Result<Written, FilterError> {
        let at = self.at;
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let mut text = String::new();
        while let Some(letter) = self.peek()
            && !letter.is_whitespace()
            && letter != ','
        {
            if letter == '"' {
                return Err(self.wrong("a quote stands at the beginning of a value, or not at all"));
            }
            text.push(letter);
            self.at += 1;
        }
        if text.is_empty() {
            return Err(self.wrong(format!("a value is missing behind `{}:`", mask::line(key, 60))));
        }
        Ok(Written {
            text,
            is_quoted: false,
            at,
        })
    }

    fn quoted(&mut self) -> Result<Written, FilterError> {
        let at = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(wrong_at(at, "this quote is not closed")),
                Some('"') => break,
                Some('\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(letter @ ('"' | '\\')) => text.push(letter),
                        _ => return Err(self.wrong("behind `\\` stands `\"` or `\\`")),
                    }
                }
                Some(letter) => text.push(letter),
            }
            self.at += 1;
        }
        self.at += 1;
        if self
            .peek()
            .is_some_and(|letter| !letter.is_whitespace() && letter != ',')
        {
            return Err(self.wrong("behind a closing quote stands a comma or a space"));
        }
        Ok(Written {
            text,
            is_quoted: true,
            at,
        })
    }
}

fn too_long(text: &str) -> FilterError {
    let most = limits::FILTER_BYTES_MAX;
    wrong_at(
        0,
        format!("a filter has at most {most} bytes; this one has {}", text.len()),
    )
}

fn wrong_at(at: usize, message: impl Into<String>) -> FilterError {
    FilterError {
        column: at + 1,
        message: message.into(),
    }
}

fn keys_of(list: Listing) -> String {
    let words: Vec<_> = list.keys().map(|key| key.word()).collect();
    let body = if list.is_of_events() { ", body.…" } else { "" };
    format!("{}{body}", words.join(", "))
}

fn no_colon(word: &str, list: Listing) -> String {
    let said = mask::line(word, 60);
    if let Some(key) = list.keys().find(|key| key.word() == word) {
        return format!("`{said}` lacks its value: write {}:…", key.word());
    }
    format!(
        "`{said}` has no key: write key:value, with one of {}. Any one identifier is found by `tollgate trace`",
        keys_of(list)
    )
}

fn key(word: &str, at: usize, list: Listing) -> Result<Key, FilterError> {
    if let Some(path) = word.strip_prefix("body.") {
        let names: Vec<_> = path.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(wrong_at(
                at,
                "name the value of the body, with dots between the names: body.data.amount",
            ));
        }
        if !list.is_of_events() {
            let said = format!("of what was refused no body is kept; there are: {}", keys_of(list));
            return Err(wrong_at(at, said));
        }
        if names.len() > limits::JSON_DEPTH_MAX {
            return Err(wrong_at(
                at,
                format!("a body is at most {} deep", limits::JSON_DEPTH_MAX),
            ));
        }
        return Ok(Key::Body(names));
    }
    let said = mask::line(word, 60);
    let Some(key) = Key::PLAIN.into_iter().find(|key| key.word() == word) else {
        let guess = closest(word, list.keys().map(|key| key.word()).chain(["body."]));
        return Err(wrong_at(
            at,
            match guess {
                Some(guess) => format!("`{said}` is no key; did you mean `{guess}`?"),
                None => format!("`{said}` is no key; there are: {}", keys_of(list)),
            },
        ));
    };
    if !key.is_of(list) {
        let lists: Vec<_> = Listing::ALL
            .into_iter()
            .filter(|list| key.is_of(*list))
            .map(Listing::as_str)
            .collect();
        return Err(wrong_at(
            at,
            format!(
                "{} have no `{said}`; it is of {}. They have: {}",
                list.as_str(),
                lists.join(", "),
                keys_of(list)
            ),
        ));
    }
    Ok(key)
}

/// What a value asks for, by what its key has.
fn test(key: &Key, value: &Written, list: Listing, now: UnixMillis) -> Result<Test, FilterError> {
    let Written { text, is_quoted, at } = value;
    let wrong = |message: String| Err(wrong_at(*at, message));
    let said = mask::line(text, 60);
    match key {
        Key::Since | Key::Until => {
            let order = if *key == Key::Since {
                Order::MoreOrSame
            } else {
                Order::Less
            };
            match instant(text, now) {
                Some(instant) => Ok(Test::Compares(order, Number::Whole(instant.0.into()))),
                None => wrong(format!(
                    "`{said}` is no instant: write how long ago (30m, 24h, 7d), a day (2026-05-05) or 2026-05-05T10:00:00Z"
                )),
            }
        }
        Key::Status => one_of(key, list.statuses(), value),
        Key::Disposition => one_of(key, &["accepted", "superseded", "held"], value),
        Key::Code => {
            if text == "none" {
                return Ok(Test::NoAnswer);
            }
            if let [hundred @ '1'..='5', 'x', 'x'] = text.chars().collect::<Vec<_>>()[..] {
                return Ok(Test::Class(i64::from(u32::from(hundred) - u32::from('0'))));
            }
            match compared(text) {
                Some((order, number @ Number::Whole(_))) => Ok(Test::Compares(order, number)),
                _ => wrong(format!(
                    "`{said}` is no status code: write 404, 5xx, >=500, or none where no answer came"
                )),
            }
        }
        Key::Attempts => match compared(text) {
            Some((order, number @ Number::Whole(_))) => Ok(Test::Compares(order, number)),
            _ => wrong(format!("`{said}` is no number of attempts: write 3, >3 or <=3")),
        },
        Key::Amount => match compared(text) {
            Some((order, number @ Number::Whole(_))) => Ok(Test::Compares(order, number)),
            _ => wrong(format!(
                "`{said}` is no amount: write it in the minor units of its currency: 1250, >=1000 or <500"
            )),
        },
        Key::Reason => Ok(Test::Contains(text.to_lowercase())),
        Key::Body(_) if !is_quoted && text.starts_with(['<', '>']) => match compared(text) {
            Some((order, number)) => Ok(Test::Compares(order, number)),
            None => wrong(format!(
                "`{said}` compares with no number: write >1000, or in quotes what stands there"
            )),
        },
        Key::Tenant
        | Key::Source
        | Key::Type
        | Key::Event
        | Key::Receipt
        | Key::Subject
        | Key::Family
        | Key::Lifecycle
        | Key::Currency
        | Key::Route
        | Key::Plugin
        | Key::Outcome
        | Key::Destination
        | Key::Kind
        | Key::Operation
        | Key::Cause
        | Key::Body(_) => match text.find('*') {
            Some(star) if !is_quoted && star + 1 == text.len() => Ok(Test::Begins(text[..star].to_owned())),
            Some(_) if !is_quoted => wrong(format!("`{said}`: a `*` stands at the end, or in quotes for itself")),
            _ => Ok(Test::Is(text.clone())),
        },
    }
}

fn one_of(key: &Key, words: &[&'static str], value: &Written) -> Result<Test, FilterError> {
    if words.contains(&value.text.as_str()) {
        return Ok(Test::Is(value.text.clone()));
    }
    let said = mask::line(&value.text, 60);
    let guess = match closest(&value.text, words.iter().copied()) {
        Some(guess) => format!("did you mean `{guess}`? "),
        None => String::new(),
    };
    let lifecycle = match key {
        Key::Status => "; for what a provider says of its event write lifecycle:…",
        _ => "",
    };
    Err(wrong_at(
        value.at,
        format!(
            "`{said}` is no {}; {guess}There are: {}{lifecycle}",
            key.word(),
            words.join(", ")
        ),
    ))
}

fn compared(text: &str) -> Option<(Order, Number)> {
    let (order, number) = [
        (">=", Order::MoreOrSame),
        ("<=", Order::LessOrSame),
        (">", Order::More),
        ("<", Order::Less),
        ("=", Order::Same),
    ]
    .into_iter()
    .find_map(|(sign, order)| Some((order, text.strip_prefix(sign)?)))
    .unwrap_or((Order::Same, text));
    Some((order, Number::read(number)?))
}

fn instant(text: &str, now: UnixMillis) -> Option<UnixMillis> {
    let unit_ms = match text.chars().next_back()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'w' => 7 * 86_400_000,
        _ => 0,
    };
    if unit_ms > 0
        && let Ok(count) = text[..text.len() - 1].parse::<u32>()
    {
        return Some(now.plus_ms(-(i64::from(count) * unit_ms)));
    }
    UnixMillis::from_rfc3339(text).or_else(|| UnixMillis::from_rfc3339(&format!("{text}T00:00:00Z")))
}

/// The word that was most likely meant, if one is near.
fn closest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let near = words
        .map(|known| (distance(word, known), known))
        .min_by_key(|(far, _)| *far)?;
    let far_max = word.chars().count().div_ceil(3);
    (near.0 <= far_max).then_some(near.1)
}

/// How many letters must be added, left out or changed to make one word of the other. By hand, because a guest pays for each
/// byte of code; words of more than 32 letters are far from all of ours.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one.len() > 32 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (to, known) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != known);
            diagonal = row[to + 1];
            row[to + 1] = changed.min(diagonal + 1).min(row[to] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_777_975_200_000);

    /// Keys with their values, as something has them.
    struct Has(Vec<(&'static str, Found<'static>)>, Value);

    impl Facts for Has {
        type Error = std::convert::Infallible;

        fn any(&mut self, key: &Key, fits: &mut dyn FnMut(Found<'_>) -> bool) -> Result<bool, Self::Error> {
            Ok(match key {
                Key::Body(path) => in_body(&self.1, path, fits),
                key => self.0.iter().any(|(word, found)| *word == key.word() && fits(*found)),
            })
        }
    }

    fn read(text: &str) -> Filter {
        Filter::read(text, Listing::Events, NOW).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn o10_every_term_must_hold_and_of_a_terms_values_one() {
        let mut has = Has(
            vec![
                ("tenant", Found::Text("acme")),
                ("type", Found::Text("order.paid")),
                ("subject", Found::Text("order 7, \"big\"")),
                ("status", Found::Text("dead")),
                ("status", Found::Text("done")),
                ("since", Found::Number(NOW.0 - 60_000)),
                ("until", Found::Number(NOW.0 - 60_000)),
                ("code", Found::Number(503)),
                ("attempts", Found::Number(4)),
            ],
            serde_json::json!({ "data": { "amount": 9_007_199_254_740_993_i64, "price": "12.50", "paid": true,
                "items": [{ "sku": "a" }, { "sku": "b" }], "tags": ["x", "y"], "note": null, "rate": 0.25 } }),
        );
        for (text, expect) in [
            ("", true),
            ("   ", true),
            ("tenant:acme", true),
            ("tenant:globex", false),
            ("tenant:globex,acme", true),
            ("-tenant:globex", true),
            ("-tenant:globex,acme", false),
            ("tenant:acme type:order.*", true),
            ("tenant:acme type:refund.*", false),
            ("type:order", false),
            ("type:\"order.*\"", false),
            (r#"subject:"order 7, \"big\"""#, true),
            (r#"subject:"order 7",x"#, false),
            ("status:dead", true),
            ("status:dead status:done", true),
            ("-status:held", true),
            ("-status:done", false),
            ("since:1h", true),
            ("since:30s", false),
            ("until:30s", true),
            ("until:1h", false),
            ("since:2026-05-05T09:58:00Z until:2026-05-06", true),
            ("code:5xx", true),
            ("code:4xx,503", true),
            ("code:>=500", true),
            ("code:none", false),
            ("attempts:>3", true),
            ("attempts:4", true),
            ("attempts:<=3", false),
            ("body.data.amount:9007199254740993", true),
            ("body.data.amount:9007199254740992", false),
            ("body.data.amount:>9007199254740992", true),
            ("body.data.price:>12", true),
            ("body.data.price:12.50", true),
            ("body.data.price:12.5", false),
            ("body.data.rate:0.25", true),
            ("body.data.rate:<0.3", true),
            ("body.data.paid:true", true),
            ("body.data.note:null", true),
            ("body.data.items.1.sku:b", true),
            ("body.data.items.*.sku:b", true),
            ("body.data.items.2.sku:b", false),
            ("body.data.tags:y", true),
            ("body.data.*:x", true),
            ("body.data.amount:*", true),
            ("body.data:*", true),
            ("body.data.note:*", false),
            ("body.data.none:*", false),
            ("body.none:x", false),
            ("-body.none:x", true),
        ] {
            let Ok(holds) = read(text).holds(&mut has);
            assert_eq!(holds, expect, "{text}");
        }
    }

    #[test]
    fn o10_an_error_names_the_place_and_what_was_meant() {
        for (list, text, column, part) in [
            (Listing::Events, "statsu:dead", 1, "did you mean `status`?"),
            (Listing::Events, "tenant:acme status:deda", 20, "did you mean `dead`?"),
            (Listing::Events, "status:completed", 8, "write lifecycle:"),
            (Listing::Events, "dead", 1, "has no key"),
            (Listing::Events, "-status", 2, "lacks its value"),
            (Listing::Events, "status:", 8, "a value is missing"),
            (Listing::Events, "tenant:a,", 10, "a value is missing"),
            (Listing::Events, "since:noon", 7, "no instant"),
            (Listing::Events, "since:1h,2h", 9, "has one instant"),
            (Listing::Events, "attempts:many", 10, "no number of attempts"),
            (Listing::Events, "code:6xx", 6, "no status code"),
            (Listing::Events, "subject:\"open", 9, "not closed"),
            (Listing::Events, "subject:\"a\"b", 12, "a comma or a space"),
            (Listing::Events, "subject:a\"b", 10, "at the beginning of a value"),
            (Listing::Events, "type:*.paid", 6, "stands at the end"),
            (Listing::Events, "body.:x", 1, "name the value"),
            (Listing::Events, "body.a:>x", 8, "compares with no number"),
            (Listing::Jobs, "destination:books", 1, "it is of events, actions"),
            (Listing::Deliveries, "status:held", 8, "There are: waiting"),
            (Listing::Refused, "source:shop type:order", 13, "it is of events, jobs"),
            (Listing::Refused, "body.id:7", 1, "no body is kept"),
            (Listing::Refused, "status:held", 1, "it is of events, jobs"),
            (Listing::Events, "cause:no-match", 1, "it is of refused"),
            (Listing::Refused, "reasn:x", 1, "did you mean `reason`?"),
            (Listing::Events, "café:1", 1, "no key"),
            (Listing::Events, "subject:é statsu:x", 11, "did you mean `status`?"),
        ] {
            let error = Filter::read(text, list, NOW).unwrap_err();
            assert!(
                error.column == column && error.message.contains(part),
                "{text}: {error}"
            );
        }
        let hidden = "a\u{202e}b:1";
        let error = Filter::read(hidden, Listing::Events, NOW).unwrap_err();
        assert!(!error.message.contains('\u{202e}') && !error.pointed(hidden).contains('\u{202e}'));
        let many = "type:a ".repeat(limits::FILTER_TERMS_MAX + 1);
        assert!(Filter::read(&many, Listing::Events, NOW).is_err());
        assert!(Filter::read(&"x".repeat(limits::FILTER_BYTES_MAX + 1), Listing::Events, NOW).is_err());
        let pointed = Filter::read("tenant:acme status:deda", Listing::Events, NOW)
            .unwrap_err()
            .pointed("tenant:acme status:deda");
        assert!(
            pointed.ends_with("\n  tenant:acme status:deda\n                     ^"),
            "{pointed}"
        );
    }

    #[test]
    fn what_narrows_is_said() {
        let filter = read("status:dead,held -tenant:a source:s* since:1h since:2h until:1m");
        assert_eq!(filter.only(&Key::Status), Some(vec!["dead", "held"]));
        assert_eq!((filter.only(&Key::Tenant), filter.only(&Key::Source)), (None, None));
        assert_eq!(filter.since(), Some(NOW.plus_ms(-3_600_000)));
        assert_eq!(filter.until(), Some(NOW.plus_ms(-60_000)));
        assert!(read("").is_empty() && !filter.part(Key::is_of_event).is_empty());
    }
}
