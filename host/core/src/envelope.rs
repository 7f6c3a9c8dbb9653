//! Reading: a verified request into the house's one [`Event`] shape, by the places that the profile names (promises I3, I8, T5).
//!
//! The body is checked whole but only once, and only what the profile names is kept. What is there but cannot be what the
//! profile says it is, is refused rather than guessed; `occurred_at` alone, which decides nothing, is left out instead.
//!
//! One request may carry several events. They are read all or none: one bad item refuses the request, because an answer is for the whole
//! of it, and what is not acknowledged comes again; so nothing is lost, and nobody has to know which items were kept. A batch without
//! items is refused too: there is nothing that a receipt could be written for, and there is no 2xx without a receipt.

use std::borrow::Cow;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::answer::Rejection;
use crate::batch::{self, BatchError};
use crate::event::{Event, StatusReading};
use crate::form;
use crate::ids::{EventId, EventType, IdError, SourceName, Status, Subject, TenantName};
use crate::json::{ReadError, Scalar, Values};
use crate::limits::{ATTRIBUTE_BYTES_MAX, BATCH_ITEMS_MAX, JSON_DEPTH_MAX, MINOR_UNITS_MAX};
use crate::money::{Currency, Money};
use crate::profile::{AmountUnit, BodyFormat, FieldSource, HeaderForm, Profile, TimeFormat, TypeRule};
use crate::time::UnixMillis;
use crate::verify::Verified;

/// Why an authentic request is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the body is not UTF-8: byte {at} begins no character")]
    NotUtf8 { at: usize },
    #[error("the body is not JSON: line {line}, column {column}: {detail}")]
    NotJson { line: usize, column: usize, detail: String },
    #[error("the body is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep,
    #[error("the body has the key `{key}` twice in one object, so two readers could understand it differently")]
    RepeatedKey { key: String },
    #[error("the header `{name}` came more than once")]
    RepeatedHeader { name: String },
    #[error("no event id: the profile looks for it at {where_}")]
    MissingId { where_: String },
    #[error("no event type: the profile looks for it at {where_}")]
    MissingType { where_: String },
    #[error("{0}")]
    BadId(IdError),
    #[error("the {field} `{found}` is a number that not every reader keeps exactly; send it as text")]
    InexactNumber { field: String, found: String },
    #[error("`{found}` is no amount: {detail}")]
    BadAmount { found: String, detail: &'static str },
    #[error("`{found}` is not a currency code such as USD")]
    BadCurrency { found: String },
    #[error("the attribute `{name}` is {bytes} bytes long; at most {ATTRIBUTE_BYTES_MAX} are allowed")]
    AttributeTooLong { name: String, bytes: usize },
    #[error("the body is not a form: {detail}")]
    NotAForm { detail: &'static str },
    #[error("the header `{name}` cannot be decoded: {detail}")]
    BadHeader { name: String, detail: &'static str },
    #[error("`{found}` holds {text:?}, which stands between two values here, so that two events could read the same")]
    Ambiguous { found: String, text: String },
    #[error("the batch is empty")]
    EmptyBatch,
    #[error("the batch has {items} items; at most {BATCH_ITEMS_MAX} are allowed")]
    BatchTooLarge { items: usize },
    #[error("item {index} of the batch (the first is 0): {cause}")]
    Item { index: usize, cause: Box<Unreadable> },
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
            Self::BadId(_) => "bad-id",
            Self::InexactNumber { .. } => "inexact-number",
            Self::BadAmount { .. } => "bad-amount",
            Self::BadCurrency { .. } => "bad-currency",
            Self::AttributeTooLong { .. } => "attribute-too-long",
            Self::NotAForm { .. } => "not-a-form",
            Self::BadHeader { .. } => "bad-header",
            Self::Ambiguous { .. } => "ambiguous",
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
            _ => Self::Malformed,
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
    let body = verified.body();
    let text = std::str::from_utf8(body).map_err(|error| Unreadable::NotUtf8 {
        at: error.valid_up_to(),
    })?;
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
        };

        let id = fields.first(&rule.id)?.ok_or_else(|| Unreadable::MissingId {
            where_: profile.places(&rule.id),
        })?;
        let id = EventId::new(&id.name("event id")?).map_err(Unreadable::BadId)?;
        let event_type = fields.first(&rule.event_type)?.ok_or_else(|| Unreadable::MissingType {
            where_: match profile.places(&rule.event_type) {
                places if places.is_empty() => "the source's own `event_type`".into(),
                places => places,
            },
        })?;
        let event_type = EventType::new(&event_type.name("event type")?).map_err(Unreadable::BadId)?;
        let occurred_at = fields
            .first(&rule.occurred_at)?
            .and_then(|found| instant(rule.occurred_format, found.as_scalar()));

        let by_type = rule
            .by_type
            .iter()
            .find(|(patterns, _)| patterns.iter().any(|pattern| pattern.matches(event_type.as_str())));
        let rule = by_type.map_or(&profile.event.otherwise, |(_, rule)| rule);
        let subject = match fields.first(&rule.subject)? {
            Some(found) => Some(Subject::new(&found.name("subject")?).map_err(Unreadable::BadId)?),
            None => None,
        };
        let reading = fields.reading(profile, rule)?;
        let amount = fields.amount(rule)?;
        let attributes = fields.attributes(rule)?;

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

    /// The text of something that names: two different names must never read the same, so a number must be an integer that was
    /// read exactly. Integers beyond 64 bits come as floats.
    fn name(&self, field: &str) -> Result<Cow<'_, str>, Unreadable> {
        match self.as_scalar() {
            Some(Scalar::Float(_)) => Err(self.inexact(field)),
            _ => Ok(self.text()),
        }
    }

    /// The text of something that may be a fraction, but no number that lost its last digits when it was read.
    fn exact(&self, field: &str) -> Result<Cow<'_, str>, Unreadable> {
        match self.as_scalar() {
            Some(Scalar::Float(number)) if number.abs() > MINOR_UNITS_MAX as f64 => Err(self.inexact(field)),
            _ => Ok(self.text()),
        }
    }

    fn inexact(&self, field: &str) -> Unreadable {
        Unreadable::InexactNumber {
            field: field.to_owned(),
            found: crate::mask::line(&self.text(), 40),
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
}

impl Fields<'_> {
    /// The first alternative that is there. Null and the empty text count as absent.
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
            FieldSource::Joined(sources) => self.joined(sources),
        }
    }

    fn header<'s>(&'s self, name: &str, form: HeaderForm) -> Result<Option<FoundValue<'s>>, Unreadable> {
        let value = self.verified.request().single_header(name);
        let value = value.map_err(|()| Unreadable::RepeatedHeader { name: name.to_owned() })?;
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let bad = |detail| Unreadable::BadHeader {
            name: name.to_owned(),
            detail,
        };
        let text = match form {
            HeaderForm::Plain => String::from_utf8_lossy(value),
            HeaderForm::Percent => {
                let text = std::str::from_utf8(value).map_err(|_| bad("it is not ASCII"))?;
                form::decode(text, false).map_err(bad)?
            }
            HeaderForm::Quoted => {
                let text = std::str::from_utf8(value).map_err(|_| bad("it is not ASCII"))?;
                match text.strip_prefix('"') {
                    Some(rest) => {
                        let inner = rest.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\']));
                        Cow::Borrowed(inner.ok_or_else(|| bad("its quotes do not match"))?)
                    }
                    None => Cow::Borrowed(text),
                }
            }
        };
        Ok(Some(FoundValue::Sent(Cow::Owned(Scalar::Text(text)))).filter(|found| !found.is_empty()))
    }

    /// All of the places, one after the other. A value may not hold the text that stands after it.
    fn joined<'s>(&'s self, sources: &'s [FieldSource]) -> Result<Option<FoundValue<'s>>, Unreadable> {
        let mut text = String::new();
        for (at, source) in sources.iter().enumerate() {
            let Some(found) = self.at(source)? else {
                return Ok(None);
            };
            let value = found.name("part of a name")?;
            if let (FoundValue::Sent(_), Some(FieldSource::Literal(after))) = (&found, sources.get(at + 1))
                && value.contains(after.as_str())
            {
                return Err(Unreadable::Ambiguous {
                    found: crate::mask::line(&value, 40),
                    text: after.clone(),
                });
            }
            text.push_str(&value);
        }
        Ok(Some(FoundValue::Sent(Cow::Owned(Scalar::Text(text.into())))))
    }

    fn reading(&self, profile: &Profile, rule: &TypeRule) -> Result<StatusReading, Unreadable> {
        let Some(family) = rule.family.clone() else {
            return Ok(StatusReading::Stateless);
        };
        let label = match self.first(&rule.status)? {
            None => return Ok(StatusReading::Unmapped { family, label: None }),
            Some(FoundValue::Literal(status)) => {
                let unmapped = |_| StatusReading::Unmapped {
                    family: family.clone(),
                    label: Some(status.to_owned()),
                };
                return Ok(
                    Status::new(status).map_or_else(unmapped, |status| StatusReading::Mapped {
                        family: family.clone(),
                        status,
                    }),
                );
            }
            Some(found) => found.text().into_owned(),
        };
        Ok(
            match profile
                .event
                .statuses
                .get(&family)
                .and_then(|labels| labels.get(&label))
            {
                Some(status) => StatusReading::Mapped {
                    family,
                    status: status.clone(),
                },
                None => StatusReading::Unmapped {
                    family,
                    label: Some(crate::mask::line(&label, ATTRIBUTE_BYTES_MAX)),
                },
            },
        )
    }

    /// An amount needs a currency: without one it is no amount of money.
    fn amount(&self, rule: &TypeRule) -> Result<Option<Money>, Unreadable> {
        let (Some(amount), Some(currency)) = (self.first(&rule.amount)?, self.first(&rule.currency)?) else {
            return Ok(None);
        };
        let currency = currency.text();
        let Some(currency) = Currency::new(&currency) else {
            return Err(Unreadable::BadCurrency {
                found: crate::mask::line(&currency, 40),
            });
        };
        let bad = |detail| Unreadable::BadAmount {
            found: crate::mask::line(&amount.text(), 40),
            detail,
        };
        let minor_units = match rule.amount_unit {
            AmountUnit::Minor => {
                decimal(&amount.text(), 0).ok_or_else(|| bad("the profile expects an integer in minor units"))?
            }
            AmountUnit::Major => decimal(&amount.text(), currency.exponent()).ok_or_else(|| {
                bad("the profile expects a decimal with no more digits after the point than the currency has")
            })?,
        };
        Money::new(minor_units, currency)
            .map(Some)
            .ok_or_else(|| bad("it is outside ±(2^53−1) minor units"))
    }

    fn attributes(&self, rule: &TypeRule) -> Result<Vec<(String, String)>, Unreadable> {
        let mut attributes = Vec::with_capacity(rule.attributes.len());
        for (name, sources) in &rule.attributes {
            let Some(found) = self.first(sources)? else { continue };
            let text = found.exact(name)?;
            if text.len() > ATTRIBUTE_BYTES_MAX {
                return Err(Unreadable::AttributeTooLong {
                    name: name.clone(),
                    bytes: text.len(),
                });
            }
            attributes.push((name.clone(), text.into_owned()));
        }
        Ok(attributes)
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

fn instant(format: TimeFormat, found: Option<&Scalar<'_>>) -> Option<UnixMillis> {
    match (format, found?) {
        // Some providers write newer events' instants as text (Stripe's thin events); it is an instant either way.
        (format, Scalar::Text(text)) => format.parse(text).or_else(|| TimeFormat::Rfc3339.parse(text)),
        (TimeFormat::UnixSeconds, Scalar::Integer(seconds)) => {
            i64::try_from(*seconds).ok().map(UnixMillis::from_seconds)
        }
        (TimeFormat::UnixMillis, Scalar::Integer(millis)) => i64::try_from(*millis).ok().map(UnixMillis),
        // A fraction of a second, as some providers send; good to the millisecond until the year 10000.
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the pattern's guard")]
        (TimeFormat::UnixSeconds, Scalar::Float(seconds)) if (0.0..253_402_300_800.0).contains(seconds) => {
            Some(UnixMillis((seconds * 1000.0).round() as i64))
        }
        _ => None,
    }
}
