//! One pass over a JSON document that picks out the scalars at given pointers and builds no tree.
//!
//! The pointers are compiled into a trie. Whatever is not on a wanted path is only checked. Guarantees: a key that stands
//! twice on a wanted path is refused, since two readers could take different values; nesting is bounded. A wanted value that no reader
//! can hold exactly (half of a surrogate pair, a number beyond 64 bits) does not spoil the document: it is kept as what it is.
//!
//! Two readers: `scan.rs` takes the usual document, quickly, and what it does not take is left to the careful one here.

mod scan;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::limits::JSON_DEPTH_MAX;

/// Wanted keys of one object; their marks fit into one word.
const CHILDREN_MAX: usize = 64;

/// A set of JSON pointers (RFC 6901), compiled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pointers {
    /// `nodes[0]` is the document.
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Node {
    /// Where a scalar found here goes.
    slot: Option<usize>,
    children: Vec<Child>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Child {
    key: String,
    /// The key as an array position, where it is one.
    index: Option<usize>,
    node: usize,
}

/// Where a pointer's value is found after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot(usize);

/// The scalars of one read.
#[derive(Debug)]
pub(crate) struct Values<'a>(Vec<Option<Scalar<'a>>>);

impl<'a> Values<'a> {
    /// The scalar under a pointer; `None` when nothing, null, an array or an object is there.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Scalar<'a>> {
        self.0.get(slot.0).and_then(Option::as_ref)
    }
}

/// A scalar other than null.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// A text with parts that are no characters: half of a surrogate pair, or bytes that are not UTF-8.
    Broken(Broken),
    Integer(i128),
    /// A number with a fraction or an exponent, or one beyond 128 bits; infinite where no float holds it. Beside it its own digits.
    Float(f64, Cow<'a, str>),
    Bool(bool),
}

/// A text that is none in places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// With U+FFFD for what is no character.
    pub(crate) shown: String,
    /// SHA-256 of the bytes as they came: two texts that are shown alike are told apart by it.
    pub(crate) digest: [u8; 32],
}

impl Scalar<'_> {
    /// The scalar as text. Numbers have the shortest form that reads back the same.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Broken(broken) => Cow::Borrowed(&broken.shown),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::Float(number, _) => Cow::Owned(number.to_string()),
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        }
    }
}

impl<'a> Scalar<'a> {
    /// The text of bytes that should be UTF-8.
    pub(crate) fn of_bytes(bytes: Cow<'a, [u8]>) -> Self {
        let broken = |bytes: &[u8]| {
            Self::Broken(Broken {
                shown: String::from_utf8_lossy(bytes).into_owned(),
                digest: Sha256::digest(bytes).into(),
            })
        };
        match bytes {
            Cow::Borrowed(bytes) => {
                std::str::from_utf8(bytes).map_or_else(|_| broken(bytes), |text| Self::Text(text.into()))
            }
            Cow::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::Text(text.into()),
                Err(error) => broken(error.as_bytes()),
            },
        }
    }
}

/// A document's text: UTF-8, without the byte order mark that some senders put before it.
///
/// # Errors
/// The first byte that begins no character.
pub(crate) fn document(body: &[u8]) -> Result<&str, usize> {
    let text = std::str::from_utf8(body).map_err(|error| error.valid_up_to())?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadError {
    Syntax { line: usize, column: usize, detail: String },
    TooDeep,
    RepeatedKey(String),
}

impl Pointers {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
            slots: 0,
        }
    }

    /// Adds a pointer; the same pointer again gives the same slot.
    ///
    /// # Errors
    /// What is wrong with the pointer, for the author of the profile.
    pub(crate) fn add(&mut self, pointer: &str) -> Result<Slot, String> {
        let Some(path) = pointer.strip_prefix('/') else {
            return Err(format!(
                "`{pointer}` is not a JSON pointer: it begins with `/`, as `/data/id`"
            ));
        };
        let mut at = 0;
        for (depth, token) in path.split('/').enumerate() {
            if depth + 1 > JSON_DEPTH_MAX {
                return Err(format!("`{pointer}` is deeper than {JSON_DEPTH_MAX} levels"));
            }
            let key = token.replace("~1", "/").replace("~0", "~");
            at = match self.nodes[at].children.iter().find(|child| child.key == key) {
                Some(child) => child.node,
                None if self.nodes[at].children.len() == CHILDREN_MAX => {
                    return Err(format!(
                        "more than {CHILDREN_MAX} different keys are wanted beside `{pointer}`"
                    ));
                }
                None => {
                    let node = self.nodes.len();
                    let is_index = !key.is_empty()
                        && key.bytes().all(|b| b.is_ascii_digit())
                        && (key == "0" || !key.starts_with('0'));
                    let index = if is_index { key.parse().ok() } else { None };
                    self.nodes.push(Node::default());
                    self.nodes[at].children.push(Child { key, index, node });
                    node
                }
            };
        }
        let slots = &mut self.slots;
        let slot = *self.nodes[at].slot.get_or_insert_with(|| {
            *slots += 1;
            *slots - 1
        });
        Ok(Slot(slot))
    }

    /// The pointer of a slot, for messages.
    pub(crate) fn text(&self, slot: Slot) -> String {
        let Some(mut node) = self.nodes.iter().position(|node| node.slot == Some(slot.0)) else {
            return String::new();
        };
        let mut text = String::new();
        while let Some((parent, child)) = self.parent(node) {
            text = format!("/{}{text}", child.key.replace('~', "~0").replace('/', "~1"));
            node = parent;
        }
        text
    }

    /// Takes the fields of a form instead: a pointer with one step is a field's name.
    ///
    /// # Errors
    /// When a wanted field comes twice.
    pub(crate) fn read_form<'a>(&self, fields: Vec<crate::form::Field<'a>>) -> Result<Values<'a>, ReadError> {
        let mut values = vec![None; self.slots];
        for (name, value) in fields {
            let mut children = self.nodes[0].children.iter();
            let Some(child) = children.find(|child| *child.key.as_bytes() == *name) else {
                continue;
            };
            let Some(slot) = self.nodes[child.node].slot else {
                continue;
            };
            if values[slot].replace(Scalar::of_bytes(value)).is_some() {
                return Err(ReadError::RepeatedKey(child.key.clone()));
            }
        }
        Ok(Values(values))
    }

    fn parent(&self, node: usize) -> Option<(usize, &Child)> {
        let mut edges = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(at, parent)| parent.children.iter().map(move |child| (at, child)));
        edges.find(|(_, child)| child.node == node)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// Reads a whole document.
    ///
    /// # Errors
    /// When it is not exactly one JSON value, is nested too deep, or repeats a wanted key.
    pub(crate) fn read<'a>(&self, text: &'a str) -> Result<Values<'a>, ReadError> {
        match scan::read(self, text) {
            Some(values) => Ok(values),
            None => self.read_carefully(text),
        }
    }

    /// First the grammar of the whole document, with the place of what is wrong; then its depth; then the wanted values, each read from
    /// its own text.
    fn read_carefully<'a>(&self, text: &'a str) -> Result<Values<'a>, ReadError> {
        let document: &RawValue = serde_json::from_str(text).map_err(|error| syntax(&error))?;
        // A document with so few brackets cannot be too deep.
        if opening_brackets(text) > JSON_DEPTH_MAX && depth(text) > JSON_DEPTH_MAX {
            return Err(ReadError::TooDeep);
        }
        let mut values = vec![None; self.slots];
        let repeated = Cell::new(None);
        let visit = Visit {
            pointers: self,
            node: 0,
            values: &mut values,
            repeated: &repeated,
        };
        match visit.value(document.get()) {
            Ok(()) => Ok(Values(values)),
            Err(error) => Err(repeated.take().map_or_else(|| syntax(&error), ReadError::RepeatedKey)),
        }
    }
}

/// How deep a document is nested, whose grammar is right.
fn depth(text: &str) -> usize {
    let (mut level, mut deepest, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !in_text => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// How many `{` and `[` stand in a text. They differ in one bit; pieces whose count fits into a byte are counted side by side.
fn opening_brackets(text: &str) -> usize {
    let in_piece = |piece: &[u8]| piece.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    text.as_bytes()
        .chunks(usize::from(u8::MAX))
        .map(|piece| usize::from(in_piece(piece)))
        .sum()
}

/// serde_json's error, with the place as a field of its own.
pub(crate) fn syntax(error: &serde_json::Error) -> ReadError {
    let mut detail = error.to_string();
    if let Some(at) = detail.rfind(" at line ") {
        detail.truncate(at);
    }
    ReadError::Syntax {
        line: error.line(),
        column: error.column(),
        detail,
    }
}

/// Visits one value on a wanted path.
struct Visit<'p, 'a> {
    pointers: &'p Pointers,
    /// The trie's node for this value.
    node: usize,
    values: &'p mut Vec<Option<Scalar<'a>>>,
    /// A wanted key that came twice.
    repeated: &'p Cell<Option<String>>,
}

impl<'a> Visit<'_, 'a> {
    /// Takes a value by its own text, whose grammar is right.
    fn value(self, text: &'a str) -> serde_json::Result<()> {
        let node = &self.pointers.nodes[self.node];
        let scalar = match text.as_bytes().first() {
            Some(b'{' | b'[') if node.children.is_empty() => return Ok(()),
            Some(b'{' | b'[') => {
                let mut deserializer = serde_json::Deserializer::from_str(text);
                // Its depth is known to be within bounds.
                deserializer.disable_recursion_limit();
                return deserializer.deserialize_any(self);
            }
            Some(b'"') => {
                let mut deserializer = serde_json::Deserializer::from_str(text);
                // As bytes a text may hold half of a surrogate pair.
                Some(Scalar::of_bytes(deserializer.deserialize_bytes(Bytes)?))
            }
            Some(b't') => Some(Scalar::Bool(true)),
            Some(b'f') => Some(Scalar::Bool(false)),
            Some(b'-' | b'0'..=b'9') => Some(number(text)),
            _ => None,
        };
        if let (Some(slot), Some(_)) = (node.slot, &scalar) {
            self.values[slot] = scalar;
        }
        Ok(())
    }

    fn inner(&mut self, node: usize) -> Visit<'_, 'a> {
        Visit {
            pointers: self.pointers,
            node,
            values: self.values,
            repeated: self.repeated,
        }
    }
}

/// A number by its digits. Minus zero is no integer.
fn number<'a>(text: &'a str) -> Scalar<'a> {
    match text.parse::<i128>() {
        Ok(integer) if text != "-0" => Scalar::Integer(integer),
        _ => Scalar::Float(text.parse().unwrap_or(f64::INFINITY), text.into()),
    }
}

impl<'de> Visitor<'de> for Visit<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let pointers = self.pointers;
        let children = &pointers.nodes[self.node].children;
        let mut seen = 0_u64;
        while let Some(at) = map.next_key_seed(Key(children))? {
            let Some(at) = at else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen & (1 << at) != 0 {
                self.repeated.set(Some(children[at].key.clone()));
                return Err(A::Error::custom("repeated key"));
            }
            seen |= 1 << at;
            let value = map.next_value::<&'de RawValue>()?;
            self.inner(children[at].node)
                .value(value.get())
                .map_err(A::Error::custom)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let pointers = self.pointers;
        let children = &pointers.nodes[self.node].children;
        for position in 0.. {
            let child = children.iter().find(|child| child.index == Some(position));
            let there = match child {
                None => seq.next_element::<IgnoredAny>()?.is_some(),
                Some(child) => match seq.next_element::<&'de RawValue>()? {
                    Some(value) => {
                        let inner = self.inner(child.node);
                        inner.value(value.get()).map_err(A::Error::custom)?;
                        true
                    }
                    None => false,
                },
            };
            if !there {
                break;
            }
        }
        Ok(())
    }
}

/// A text's bytes, escapes undone.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

/// Finds a key among the wanted ones. As bytes, so that one with half of a surrogate pair is none of them rather than an error.
struct Key<'p>(&'p [Child]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_bytes<E>(self, key: &[u8]) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|child| child.key.as_bytes() == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Option<Scalar<'_>>>, ReadError> {
        let mut pointers = Pointers::new();
        for pointer in ["/a", "/a/b", "/c"] {
            pointers.add(pointer).unwrap();
        }
        pointers.read(text).map(|values| values.0)
    }

    #[test]
    fn values_that_no_reader_holds_exactly_do_not_spoil_the_document() {
        let broken = |text: &str| {
            let Scalar::Broken(broken) = read(text).unwrap()[0].clone().unwrap() else {
                panic!("{text} is no broken text");
            };
            (broken.shown, broken.digest)
        };
        let (shown, digest) = broken(r#"{"a":"x\ud800y","c":"\ud834\udd1e"}"#);
        assert!(shown.starts_with('x') && shown.ends_with('y'), "{shown}");
        let (other_shown, other_digest) = broken(r#"{"a":"x\ud801y"}"#);
        assert_eq!(shown, other_shown);
        assert_ne!(digest, other_digest, "what is shown alike is told apart");
        assert_eq!(broken(r#"{"a":"\udc00\ud800"}"#).0.chars().next(), Some('\u{fffd}'));
        // A key is no key that is wanted, and the next one is.
        let values = read(r#"{"\ud800":1,"a":{"b":"\u0000"},"c":1e999}"#).unwrap();
        assert_eq!(values[1], Some(Scalar::Text("\0".into())));
        assert_eq!(values[2], Some(Scalar::Float(f64::INFINITY, "1e999".into())));
        let long = "9".repeat(60);
        let text = format!(r#"{{"a":{long},"c":-0}}"#);
        let values = read(&text).unwrap();
        assert!(matches!(&values[0], Some(Scalar::Float(_, digits)) if *digits == long));
        assert!(matches!(&values[2], Some(Scalar::Float(_, digits)) if digits == "-0"));
        assert_eq!(
            read(r#"{"a":18446744073709551616}"#).unwrap()[0],
            Some(Scalar::Integer(1 << 64))
        );
    }
}
