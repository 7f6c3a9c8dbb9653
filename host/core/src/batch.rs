//! Batches: one request that carries several events. Splitting hands out each item's own bytes and builds no tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{ReadError, syntax};
use crate::limits::BATCH_ITEMS_MAX;
use crate::profile::{BatchRule, Step};

/// Why a body is no batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BatchError {
    Json(ReadError),
    /// The list is empty.
    Empty,
    TooMany {
        items: usize,
    },
}

/// The items' bytes as they came, in their order. `None` when the body has no such list and the rule says that it need not.
pub(crate) fn split<'a>(rule: &BatchRule, body: &'a str) -> Result<Option<Vec<&'a str>>, BatchError> {
    let mut level: Vec<&'a str> = vec![body];
    for step in &rule.steps {
        level = match step {
            Step::Key(key) => {
                let mut found = Vec::with_capacity(level.len());
                for text in level {
                    match run(text, KeyOf(key))? {
                        Some(value) => found.push(value),
                        None if rule.optional => return Ok(None),
                        None => {
                            return Err(BatchError::Json(ReadError::Syntax {
                                line: 1,
                                column: 1,
                                detail: format!("no `{key}` on the way to the items of the batch"),
                            }));
                        }
                    }
                }
                found
            }
            Step::Each => {
                // The rule names one list, so one text is found.
                let text = level.first().copied().unwrap_or_default();
                if rule.optional && !text.trim_start().starts_with('[') {
                    return Ok(None);
                }
                let items = run(text, Elements)?;
                if items.len() > BATCH_ITEMS_MAX {
                    return Err(BatchError::TooMany { items: items.len() });
                }
                items
            }
        };
    }
    if level.is_empty() {
        return Err(BatchError::Empty);
    }
    Ok(Some(level))
}

fn run<'a, S: DeserializeSeed<'a>>(text: &'a str, seed: S) -> Result<S::Value, BatchError> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| BatchError::Json(syntax(&error)))
}

/// The text under one key of an object. Refuses the key when it comes twice.
struct KeyOf<'k>(&'k str);

impl<'de> DeserializeSeed<'de> for KeyOf<'_> {
    type Value = Option<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for KeyOf<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`, on the way to the items of the batch", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(A::Error::custom(format!("the key `{}` comes twice", self.0)));
            } else {
                found = Some(map.next_value::<&'de RawValue>()?.get());
            }
        }
        Ok(found)
    }
}

/// The texts of a list's elements. Further ones than a batch may have are counted, not kept.
struct Elements;

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Vec<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list of the batch's items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&'de RawValue>()? {
            items.push(item.get());
        }
        Ok(items)
    }
}
