//! Reading: turns a verified request into the one [`Event`] shape, by the places that the profile names (promises I3, I8, I11, T5).
//!
//! The body is checked whole but only once, and only what the profile names is kept. What is authentic and has its id and its type is
//! kept: only a body that cannot be read, or a missing id or type, refuses. A value that cannot be what the profile says it is, or
//! breaks a bound, is shortened or left out rather than guessed, and the attribute [`READING_NOTES`] says so.
//!
//! A name (id, type, subject, attribute) that does not fit is shortened to its beginning and its SHA-256, so that two different ones never
//! become the same.
//!
//! One request may carry several events. They are read all or none: an item without id or type refuses the request, because an answer
//! is for the whole of it, and what is not acknowledged comes again; so nothing is lost, and nobody has to know which items were kept.
//! A batch without items is refused too, unless the profile calls it a question (see [`crate::challenge`]): there is nothing that a
//! receipt could be written for, and there is no 2xx without a receipt.

use std::borrow::Cow;
use std::cell::RefCell;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::answer::Rejection;
use crate::batch::{self, BatchError};
use crate::event::{Event, StatusReading};
use crate::form;
use crate::ids::{self, EventId, EventType, SourceName, Status, Subject, TenantName};
use crate::json::{self, ReadError, Scalar, Slot, Values};
use crate::limits::{ATTRIBUTE_BYTES_MAX, BATCH_ITEMS_MAX, JSON_DEPTH_MAX};
use crate::mode::MODE;
use crate::money::{Currency, Money};
use crate::own_header;
use crate::profile::{
    AmountSum, AmountUnit, Amounts, BodyFormat, EventRule, FieldSource, HeaderForm, Profile, TimeFormat, TypeRule,
};
use crate::time::UnixMillis;
use crate::verify::Verified;

/// The attribute that says what of an event is not read as it was sent: shortened, or left out. Only such events have it, and no profile
/// may fill it.
pub const READING_NOTES: &str = "reading_notes";

/// Why an authentic request is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A body must be UTF-8.
    #[error("the body is not UTF-8: byte {at} begins no character")]
    NotUtf8 {
        /// The position of the first byte that is not, from 0.
        at: usize,
    },
    /// The body has JSON's place, and is none.
    #[error("the body is not JSON: line {line}, column {column}: {detail}")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser expected.
        detail: String,
    },
    /// The nesting is over the bound.
    #[error("the body is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    /// One object has a key twice.
    #[error("the body has the key `{key}` twice in one object, so two readers could understand it differently")]
    RepeatedKey {
        /// That key.
        key: String,
    },
    /// The profile reads this header, and several came.
    #[error("the header `{name}` came more than once")]
    RepeatedHeader {
        /// The header's name.
        name: String,
    },
    /// None of the profile's places holds an id.
    #[error("no event id: the profile looks for it at {where_}")]
    MissingId {
        /// The places, in words.
        where_: String,
    },
    /// None of the profile's places holds a type.
    #[error("no event type: the profile looks for it at {where_}")]
    MissingType {
        /// The places, in words.
        where_: String,
    },
    /// The body has a form's place, and is none.
    #[error("the body is not a form: {detail}")]
    NotAForm {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A batch must have an item.
    #[error("the batch is empty")]
    EmptyBatch,
    /// The batch has more items than the bound.
    #[error("the batch has {items} items; at most {BATCH_ITEMS_MAX} are allowed")]
    BatchTooLarge {
        /// How many it has.
        items: usize,
    },
    /// One item of a batch cannot be read, so the request is not.
    #[error("item {index} of the batch (the first is 0): {cause}")]
    Item {
        /// The item's position, from 0.
        index: usize,
        /// Why the item cannot be read.
        cause: Box<Unreadable>,
    },
}

impl Unreadable {
    /// A short name for counters and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "not-utf8",
            Self::NotJson { .. } => "not-json",
            Self::TooDeep => "too-deep",
            Self::RepeatedKey { .. } => "repeated-key",
            Self::RepeatedHeader { .. } => "repeated-header",
            Self::MissingId { .. } => "missing-id",
            Self::MissingType { .. } => "missing-type",
            Self::NotAForm { .. } => "not-a-form",
            Self::EmptyBatch => "empty-batch",
            Self::BatchTooLarge { .. } => "batch-too-large",
            Self::Item { cause, .. } => cause.reason(),
        }
    }
}

impl From<&Unreadable> for Rejection {
    fn from(unreadable: &Unreadable) -> Self {
        match unreadable {
            Unreadable::BatchTooLarge { .. } => Self::BatchTooLarge,
            // No later profile can read these bytes.
            Unreadable::NotUtf8 { .. }
            | Unreadable::NotJson { .. }
            | Unreadable::TooDeep
            | Unreadable::RepeatedKey { .. }
            | Unreadable::NotAForm { .. } => Self::Unreadable,
            // The next try may find a profile or a source that knows where to look.
            Unreadable::RepeatedHeader { .. }
            | Unreadable::MissingId { .. }
            | Unreadable::MissingType { .. }
            | Unreadable::EmptyBatch => Self::Malformed,
            Unreadable::Item { cause, .. } => Self::from(&**cause),
        }
    }
}

impl From<ReadError> for Unreadable {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Syntax { line, column, detail } => Self::NotJson { line, column, detail },
            ReadError::TooDeep => Self::TooDeep,
            ReadError::RepeatedKey(key) => Self::RepeatedKey { key },
        }
    }
}

/// Reads a verified request into its events: one, or those of a batch in their order. Never none.
///
/// # Errors
/// When the body is not one document within bounds, or the profile's places do not hold what an event needs; for one item of a batch,
/// with its position.
pub fn read(
    profile: &Profile,
    verified: &Verified<'_>,
    tenant: &TenantName,
    source: &SourceName,
) -> Result<Vec<Event>, Unreadable> {
    let text = json::document(verified.body()).map_err(|at| Unreadable::NotUtf8 { at })?;
    let field = match &profile.event.form_field {
        // The bytes, which are signed, tell whether the body is a form; the Content-Type is not signed.
        Some(name) if !text.trim_start().starts_with(['{', '[']) => Some(json_in_form(text, name)?),
        _ => None,
    };
    let text = field.as_deref().unwrap_or(text);
    let reader = Reader {
        profile,
        verified,
        tenant,
        source,
    };
    let items = match &profile.batch {
        Some(rule) => batch::split(rule, text).map_err(|error| match error {
            BatchError::Json(error) => error.into(),
            BatchError::Empty => Unreadable::EmptyBatch,
            BatchError::TooMany { items } => Unreadable::BatchTooLarge { items },
        })?,
        None => None,
    };
    let Some(items) = items else {
        return Ok(vec![reader.event(text, text)?]);
    };
    let read = |(index, item)| {
        reader.event(item, text).map_err(|cause| Unreadable::Item {
            index,
            cause: Box::new(cause),
        })
    };
    items.into_iter().enumerate().map(read).collect()
}

/// The JSON document in a field of a form.
fn json_in_form(text: &str, name: &str) -> Result<String, Unreadable> {
    let not_a_form = |detail| Unreadable::NotAForm { detail };
    let fields = form::parse(text).map_err(not_a_form)?;
    let mut values = fields.into_iter().filter(|(known, _)| **known == *name.as_bytes());
    let (_, value) = values
        .next()
        .ok_or_else(|| not_a_form("it is neither JSON nor a form with the field that holds some"))?;
    if values.next().is_some() {
        return Err(Unreadable::RepeatedKey { key: name.to_owned() });
    }
    match json::document(&value) {
        Ok(document) => Ok(document.to_owned()),
        Err(_) => Err(not_a_form("the field that holds the JSON is not UTF-8")),
    }
}

/// What the events of one request have in common.
struct Reader<'r> {
    profile: &'r Profile,
    verified: &'r Verified<'r>,
    tenant: &'r TenantName,
    source: &'r SourceName,
}

impl Reader<'_> {
    /// Reads one event from its own text and the text around it.
    fn event(&self, text: &str, around: &str) -> Result<Event, Unreadable> {
        let profile = self.profile;
        let rule = &profile.event;
        let fields = Fields {
            verified: self.verified,
            in_body: self.is_structured(),
            text,
            values: match self.verified.format() {
                BodyFormat::Json => rule.pointers.read(text)?,
                BodyFormat::Form => {
                    let fields = form::parse(text).map_err(|detail| Unreadable::NotAForm { detail })?;
                    rule.pointers.read_form(fields)?
                }
            },
            around: if rule.around.is_empty() {
                None
            } else {
                Some(rule.around.read(around)?)
            },
            notes: RefCell::default(),
        };

        let missing_id = || Unreadable::MissingId {
            where_: profile.places(&rule.id),
        };
        let missing_type = || Unreadable::MissingType {
            where_: match profile.places(&rule.event_type) {
                places if places.is_empty() => "the source's own `event_type`".into(),
                places => places,
            },
        };
        let id = fields.first(&rule.id)?.ok_or_else(missing_id)?;
        let id = EventId::new(&fields.fitted("id", &id, EventId::BYTES_MAX)).map_err(|_| missing_id())?;
        let event_type = fields.first(&rule.event_type)?.ok_or_else(missing_type)?;
        let event_type =
            EventType::new(&fields.fitted("type", &event_type, EventType::BYTES_MAX)).map_err(|_| missing_type())?;
        let occurred_at = fields.occurred_at(rule);

        let by_type = rule
            .by_type
            .iter()
            .find(|(patterns, _)| patterns.iter().any(|pattern| pattern.matches(event_type.as_str())));
        let rule = by_type.map_or(&profile.event.otherwise, |(_, rule)| rule);
        let subject = fields
            .shown("subject", &rule.subject)
            .and_then(|found| Subject::new(&fields.fitted("subject", &found, Subject::BYTES_MAX)).ok());
        let reading = fields.reading(profile, rule);
        let amount = fields.amount(rule, &profile.event.amounts);
        let attributes = fields.attributes(profile, rule);

        Ok(Event {
            tenant: self.tenant.clone(),
            source: self.source.clone(),
            id,
            event_type,
            subject,
            reading,
            occurred_at,
            received_at: self.verified.request().received_at,
            amount,
            attributes,
            payload: Bytes::copy_from_slice(text.as_bytes()),
        })
    }

    /// Whether the Content-Type says that the body holds the whole event.
    fn is_structured(&self) -> bool {
        let Some(prefix) = &self.profile.event.structured else {
            return false;
        };
        let mut types = self.verified.request().header_values("content-type");
        types.any(|value| {
            value
                .get(..prefix.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(prefix.as_bytes()))
        })
    }
}

/// Why the parts of an amount cannot be read, in words.
fn parts_unread(error: &BatchError) -> String {
    match error {
        BatchError::Json(error) => Unreadable::from(error.clone()).to_string(),
        BatchError::Empty => "its list of parts is empty".to_owned(),
        BatchError::TooMany { items } => format!("{items} parts are more than are added up"),
    }
}

/// A value and the kind of place that it came from.
enum FoundValue<'f> {
    /// From the body or a header.
    Sent(Cow<'f, Scalar<'f>>),
    /// Written in the profile.
    Literal(&'f str),
}

impl FoundValue<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Sent(scalar) => scalar.text(),
            Self::Literal(text) => Cow::Borrowed(text),
        }
    }

    /// The text of something that names: two different names never read the same. A number is its own digits, and a text that is none in
    /// places has its digest behind it.
    fn name(&self) -> Cow<'_, str> {
        match self.as_scalar() {
            Some(Scalar::Float(_, digits)) => Cow::Borrowed(digits),
            Some(Scalar::Broken(broken)) => Cow::Owned(ids::shorten(&broken.shown, &broken.digest, EventId::BYTES_MAX)),
            _ => self.text(),
        }
    }

    fn is_empty(&self) -> bool {
        self.as_scalar() == Some(&Scalar::Text("".into()))
    }

    fn as_scalar(&self) -> Option<&Scalar<'_>> {
        match self {
            Self::Sent(scalar) => Some(scalar),
            Self::Literal(_) => None,
        }
    }
}

/// The body's wanted values, and the headers beside them.
struct Fields<'f> {
    verified: &'f Verified<'f>,
    /// The body holds the whole event: headers are not looked at.
    in_body: bool,
    /// The event's own text.
    text: &'f str,
    values: Values<'f>,
    around: Option<Values<'f>>,
    /// What is not read as it was sent.
    notes: RefCell<Vec<String>>,
}

impl Fields<'_> {
    fn note(&self, name: &str, what: impl std::fmt::Display) {
        self.notes.borrow_mut().push(format!("{name}: {what}"));
    }

    /// A value that decides nothing: one that is ambiguous is left out.
    fn shown<'s>(&'s self, name: &str, sources: &'s [FieldSource]) -> Option<FoundValue<'s>> {
        match self.first(sources) {
            Ok(found) => found,
            Err(unreadable) => {
                self.note(name, format_args!("left out: {unreadable}"));
                None
            }
        }
    }

    /// The text of something that names, made to fit.
    fn fitted<'s>(&self, name: &str, found: &'s FoundValue<'_>, bytes_max: usize) -> Cow<'s, str> {
        let fitted = match (found.as_scalar(), found.name()) {
            (Some(Scalar::Broken(broken)), _) => Cow::Owned(ids::shorten(&broken.shown, &broken.digest, bytes_max)),
            (_, Cow::Borrowed(text)) => ids::fit(text, bytes_max),
            (_, Cow::Owned(text)) => Cow::Owned(ids::fit(&text, bytes_max).into_owned()),
        };
        self.note_shortened(name, found, &fitted);
        fitted
    }

    /// The text of an attribute: what exceeds its bound, or is broken, is shortened, and said so.
    fn attribute(&self, name: &str, found: &FoundValue<'_>) -> String {
        let fitted = match found.as_scalar() {
            Some(Scalar::Broken(broken)) => ids::shorten(&broken.shown, &broken.digest, ATTRIBUTE_BYTES_MAX),
            _ => ids::fit_bytes(&found.name(), ATTRIBUTE_BYTES_MAX).into_owned(),
        };
        self.note_shortened(name, found, &fitted);
        fitted
    }

    fn note_shortened(&self, name: &str, found: &FoundValue<'_>, fitted: &str) {
        if fitted != found.name() || matches!(found.as_scalar(), Some(Scalar::Broken(_))) {
            let bytes = found.text().len();
            self.note(
                name,
                format_args!("shortened to its beginning and its SHA-256, from {bytes} bytes"),
            );
        }
    }

    /// The first alternative that is there. Null and the empty text count as absent.
    ///
    /// # Errors
    /// When a header of these came more than once: which of them counts must not be a matter of taste.
    fn first<'s>(&'s self, sources: &'s [FieldSource]) -> Result<Option<FoundValue<'s>>, Unreadable> {
        for source in sources {
            if let Some(found) = self.at(source)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn at<'s>(&'s self, source: &'s FieldSource) -> Result<Option<FoundValue<'s>>, Unreadable> {
        let in_values = |values: &'s Values<'_>, slot| {
            let scalar = values.get(slot).filter(|scalar| **scalar != Scalar::Text("".into()));
            Ok(scalar.map(|scalar| FoundValue::Sent(Cow::Borrowed(scalar))))
        };
        match source {
            FieldSource::Literal(text) => Ok(Some(FoundValue::Literal(text))),
            FieldSource::Body(slot) => in_values(&self.values, *slot),
            FieldSource::Around(slot) => self.around.as_ref().map_or(Ok(None), |values| in_values(values, *slot)),
            FieldSource::Header { .. } if self.in_body => Ok(None),
            FieldSource::Header { name, form } => self.header(name.in_set(self.verified.header_set()), *form),
            FieldSource::Digest => {
                let digest = HEXLOWER.encode(&Sha256::digest(self.text.as_bytes()));
                Ok(Some(FoundValue::Sent(Cow::Owned(Scalar::Text(digest.into())))))
            }
            FieldSource::RequestDigest => {
                // No query has a line break, so that it ends where the first one is.
                let query = self.verified.request().query.unwrap_or_default();
                let digest = Sha256::new_with_prefix(query)
                    .chain_update("\n")
                    .chain_update(self.text);
                let digest = HEXLOWER.encode(&digest.finalize());
                Ok(Some(FoundValue::Sent(Cow::Owned(Scalar::Text(digest.into())))))
            }
            FieldSource::Joined(sources) => self.joined(sources),
        }
    }

    fn header<'s>(&'s self, name: &str, form: HeaderForm) -> Result<Option<FoundValue<'s>>, Unreadable> {
        let value = self.verified.request().single_header(name);
        let value = value.map_err(|()| Unreadable::RepeatedHeader { name: name.to_owned() })?;
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let text = match (form, std::str::from_utf8(value)) {
            (HeaderForm::Plain, _) | (_, Err(_)) => Cow::Borrowed(value),
            (HeaderForm::Percent, Ok(text)) => form::bytes(text, false),
            (HeaderForm::Quoted, Ok(text)) => {
                let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                // Quotes that do not match, or more within, are part of a bare text.
                let inner = inner.filter(|inner| !inner.contains(['"', '\\']));
                Cow::Borrowed(inner.unwrap_or(text).as_bytes())
            }
        };
        Ok(Some(FoundValue::Sent(Cow::Owned(Scalar::of_bytes(text)))).filter(|found| !found.is_empty()))
    }

    /// All of the places, one after the other. A value with the text in it that stands after it is its SHA-256 instead, so that the whole
    /// still splits in one way only.
    fn joined<'s>(&'s self, sources: &'s [FieldSource]) -> Result<Option<FoundValue<'s>>, Unreadable> {
        let mut text = String::new();
        for (at, source) in sources.iter().enumerate() {
            let Some(found) = self.at(source)? else {
                return Ok(None);
            };
            let value = found.name();
            let ends_early = |after: &String| format!("{value}{after}").find(after.as_str()) != Some(value.len());
            match (&found, sources.get(at + 1)) {
                (FoundValue::Sent(_), Some(FieldSource::Literal(after)))
                    if ids::is_shortened(&value) || ends_early(after) =>
                {
                    text.push_str(&ids::shorten("", &Sha256::digest(&*value), 0));
                }
                _ => text.push_str(&value),
            }
        }
        Ok(Some(FoundValue::Sent(Cow::Owned(Scalar::Text(text.into())))))
    }

    /// When the event happened. It decides nothing, so that what is no instant is left out.
    fn occurred_at(&self, rule: &EventRule) -> Option<UnixMillis> {
        let found = self.shown("occurred_at", &rule.occurred_at)?;
        let at = instant(rule.occurred_format, found.as_scalar());
        if at.is_none() {
            let text = crate::mask::line(&found.text(), 40);
            self.note(
                "occurred_at",
                format_args!("`{text}` left out: it is not {}", rule.occurred_format),
            );
        }
        at
    }

    fn reading(&self, profile: &Profile, rule: &TypeRule) -> StatusReading {
        let Some(family) = rule.family.clone() else {
            return StatusReading::Stateless;
        };
        let label = match self.shown("status", &rule.status) {
            None => return StatusReading::Unmapped { family, label: None },
            Some(FoundValue::Literal(status)) => {
                let unmapped = |_| StatusReading::Unmapped {
                    family: family.clone(),
                    label: Some(status.to_owned()),
                };
                return Status::new(status).map_or_else(unmapped, |status| StatusReading::Mapped {
                    family: family.clone(),
                    status,
                });
            }
            Some(found) => found.text().into_owned(),
        };
        let labels = profile.event.statuses.get(&family);
        match labels.and_then(|labels| labels.get(&label)) {
            Some(status) => StatusReading::Mapped {
                family,
                status: status.clone(),
            },
            None => StatusReading::Unmapped {
                family,
                label: Some(crate::mask::line(&label, ATTRIBUTE_BYTES_MAX)),
            },
        }
    }

    /// An amount needs a currency: without one it is no amount of money. What is none is left out: an event with another amount than its
    /// provider meant would be worse than one without.
    fn amount(&self, rule: &TypeRule, amounts: &Amounts) -> Option<Money> {
        if let Some(change) = &rule.amount_change
            && let Some(from) = self.money(rule, &change.from, amounts)
            && let Some(to) = self.money(rule, &change.to, amounts)
        {
            // Both are within ±(2^53−1), so that the difference is a number; one that went down is no amount of this event.
            let grown = to.minor_units() - from.minor_units();
            if grown >= 0 {
                return Money::new(grown, to.currency());
            }
            self.note("amount", format_args!("left out: {to} is less than {from} before it"));
            return None;
        }
        match &rule.amount_sum {
            Some(sum) => match batch::split(&sum.list, self.text) {
                Ok(Some(entries)) => self.sum(rule, sum, &entries, amounts),
                // Without the list, or with an empty one, nothing is said in parts.
                Ok(None) | Err(BatchError::Empty) => self.money(rule, &rule.amount, amounts),
                Err(error) => {
                    self.note("amount", format_args!("left out: {}", parts_unread(&error)));
                    None
                }
            },
            None => self.money(rule, &rule.amount, amounts),
        }
    }

    /// The entries of a list that count, added up. One that counts and cannot be read leaves all of it out.
    fn sum(&self, rule: &TypeRule, sum: &AmountSum, entries: &[&str], amounts: &Amounts) -> Option<Money> {
        let mut total: Option<Money> = None;
        for entry in entries {
            let values = match sum.pointers.read(entry) {
                Ok(values) => values,
                Err(error) => {
                    self.note("amount", format_args!("left out: {}", Unreadable::from(error)));
                    return None;
                }
            };
            let counts = |(slot, wanted): &(Slot, Vec<String>)| {
                let found = values.get(*slot).map(Scalar::text);
                found.is_some_and(|found| wanted.iter().any(|wanted| *wanted == found))
            };
            if !sum.only.iter().all(counts) {
                continue;
            }
            let (Some(amount), Some(currency)) = (values.get(sum.amount), values.get(sum.currency)) else {
                self.note("amount", "left out: a part of it has no amount or no currency");
                return None;
            };
            let sent = |scalar| FoundValue::Sent(Cow::Borrowed(scalar));
            let part = self.money_of(rule, &sent(amount), &sent(currency), amounts)?;
            let before = total.map_or(0, |total| total.minor_units());
            if total.is_some_and(|total| total.currency() != part.currency()) {
                self.note("amount", "left out: its parts are in several currencies");
                return None;
            }
            // Both are within ±(2^53−1), so that the sum is a number.
            total = Money::new(before + part.minor_units(), part.currency());
            if total.is_none() {
                self.note(
                    "amount",
                    "left out: the sum of its parts is outside ±(2^53−1) minor units",
                );
                return None;
            }
        }
        total
    }

    /// The money in one place, in the rule's currency.
    fn money(&self, rule: &TypeRule, place: &[FieldSource], amounts: &Amounts) -> Option<Money> {
        let amount = self.shown("amount", place)?;
        let currency = self.shown("currency", &rule.currency)?;
        self.money_of(rule, &amount, &currency, amounts)
    }

    fn money_of(
        &self,
        rule: &TypeRule,
        amount: &FoundValue<'_>,
        currency: &FoundValue<'_>,
        amounts: &Amounts,
    ) -> Option<Money> {
        let left_out = |found: &FoundValue<'_>, detail: &str| {
            let text = crate::mask::line(&found.text(), 40);
            self.note("amount", format_args!("left out: `{text}` {detail}"));
            None
        };
        let Some(code) = Currency::new(&currency.text()) else {
            return left_out(currency, "is not a currency code such as USD");
        };
        let minor_units = match rule.amount_unit {
            AmountUnit::Minor => {
                decimal(&amount.text(), 0).and_then(|units| rescale(units, amounts.exponent(code), code.exponent()))
            }
            AmountUnit::Major => decimal(&amount.text(), code.exponent()),
        };
        let Some(minor_units) = minor_units else {
            return left_out(
                amount,
                match rule.amount_unit {
                    AmountUnit::Minor => "is not a whole number of the currency's minor units",
                    AmountUnit::Major => "is not a decimal with no more digits after the point than the currency has",
                },
            );
        };
        match Money::new(minor_units, code) {
            Some(money) => Some(money),
            None => left_out(amount, "is outside ±(2^53−1) minor units"),
        }
    }

    /// The profile's attributes, behind them the headers that the source keeps, and then what is not read as it was sent.
    fn attributes(&self, profile: &Profile, rule: &TypeRule) -> Vec<(String, String)> {
        let mut attributes = Vec::with_capacity(rule.attributes.len() + 1);
        if let Some(mode) = &profile.event.mode
            && let Some(found) = self.shown(MODE, &mode.from)
        {
            let text = found.text();
            let is_test = mode.test.iter().any(|test| match test.strip_suffix('*') {
                Some(prefix) => text.starts_with(prefix),
                None => *test == text,
            });
            attributes.push((MODE.to_owned(), if is_test { "test" } else { "live" }.to_owned()));
        }
        for (name, sources) in &rule.attributes {
            let Some(found) = self.shown(name, sources) else {
                continue;
            };
            attributes.push((name.clone(), self.attribute(name, &found)));
        }
        for name in &profile.event.kept_headers {
            let attribute = format!("{}{name}", own_header::KEPT);
            match self.header(name, HeaderForm::Plain) {
                Ok(Some(found)) => {
                    let text = self.attribute(&attribute, &found);
                    attributes.push((attribute, text));
                }
                Ok(None) => {}
                Err(repeated) => self.note(&attribute, format_args!("left out: {repeated}")),
            }
        }
        let notes = self.notes.borrow();
        if !notes.is_empty() {
            let notes = crate::mask::line(&notes.join("; "), ATTRIBUTE_BYTES_MAX - '…'.len_utf8());
            attributes.push((READING_NOTES.to_owned(), notes));
        }
        attributes
    }
}

/// Reads `-12.50` with two digits after the point as -1250. Further digits must be zeros; there is no exponent and no other sign.
fn decimal(text: &str, exponent: u32) -> Option<i64> {
    let exponent = usize::try_from(exponent).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, part) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (digits, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || part.len() > 30 || !is_digits(whole) || !is_digits(part) {
        return None;
    }
    let (kept, rest) = part.split_at(part.len().min(exponent));
    if rest.bytes().any(|b| b != b'0') {
        return None;
    }
    let units: i64 = format!("{whole}{kept:0<exponent$}").parse().ok()?;
    Some(if negative { -units } else { units })
}

/// From the year 1 to the year 9999, in seconds since 1970: what every reader of a date can show.
const SECONDS_SHOWN: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

/// An integer with `from` digits behind the point, with `to` of them. Nothing when that would take a fraction of a unit.
fn rescale(units: i64, from: u32, to: u32) -> Option<i64> {
    if to >= from {
        return units.checked_mul(10_i64.checked_pow(to - from)?);
    }
    let scale = 10_i64.checked_pow(from - to)?;
    (units % scale == 0).then_some(units / scale)
}

fn instant(format: TimeFormat, found: Option<&Scalar<'_>>) -> Option<UnixMillis> {
    let at = match (format, found?) {
        // Some providers write newer events' instants as text (Stripe's thin events); it is an instant either way.
        (format, Scalar::Text(text)) => format.parse(text).or_else(|| TimeFormat::Rfc3339.parse(text)),
        (TimeFormat::UnixSeconds, Scalar::Integer(seconds)) => {
            i64::try_from(*seconds).ok().map(UnixMillis::from_seconds)
        }
        (TimeFormat::UnixMillis, Scalar::Integer(millis)) => i64::try_from(*millis).ok().map(UnixMillis),
        // A fraction of a second, as some providers send; good to the millisecond until the year 10000.
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the pattern's guard")]
        (TimeFormat::UnixSeconds, Scalar::Float(seconds, _)) if (0.0..253_402_300_800.0).contains(seconds) => {
            Some(UnixMillis((seconds * 1000.0).round() as i64))
        }
        _ => None,
    };
    at.filter(|at| SECONDS_SHOWN.contains(&at.unix_seconds()))
}
