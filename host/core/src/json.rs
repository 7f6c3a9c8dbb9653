//! One pass over a JSON document that picks out the scalars at given pointers and builds no tree.
//!
//! The pointers are compiled into a trie. Whatever is not on a wanted path is only checked. Guarantees: a key that stands
//! twice on a wanted path is refused, since two readers could take different values; nesting is bounded.
//!
//! Two readers: `scan.rs` takes the usual document, quickly, and what it does not take is left to the careful one here.

mod scan;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

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

/// A JSON scalar other than null.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'a> {
    Text(Cow<'a, str>),
    Integer(i128),
    Float(f64),
    Bool(bool),
}

impl Scalar<'_> {
    /// The scalar as text. Numbers have the shortest form that reads back the same.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Integer(number) => Cow::Owned(number.to_string()),
            Self::Float(number) => Cow::Owned(number.to_string()),
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
        }
    }
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
            let child = self.nodes[0].children.iter().find(|child| child.key == name);
            let Some(slot) = child.and_then(|child| self.nodes[child.node].slot) else {
                continue;
            };
            if values[slot].replace(Scalar::Text(value)).is_some() {
                return Err(ReadError::RepeatedKey(name.into_owned()));
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

    fn read_carefully<'a>(&self, text: &'a str) -> Result<Values<'a>, ReadError> {
        // A document with so few brackets cannot be too deep: what is not wanted need not be counted level by level.
        self.read_with(text, opening_brackets(text) <= JSON_DEPTH_MAX)
    }

    fn read_with<'a>(&self, text: &'a str, shallow: bool) -> Result<Values<'a>, ReadError> {
        let mut values = vec![None; self.slots];
        let fault = Cell::new(None);
        let mut deserializer = serde_json::Deserializer::from_str(text);
        // Our own count bounds the depth, to the level and with an error of its own.
        deserializer.disable_recursion_limit();
        let visit = Visit {
            pointers: self,
            node: Some(0),
            depth: 0,
            shallow,
            values: &mut values,
            fault: &fault,
        };
        match visit.deserialize(&mut deserializer).and_then(|()| deserializer.end()) {
            Ok(()) => Ok(Values(values)),
            Err(error) => Err(fault.take().unwrap_or_else(|| syntax(&error))),
        }
    }
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

/// Visits one value.
struct Visit<'p, 'a> {
    pointers: &'p Pointers,
    /// The trie's node for this value; `None` off the wanted paths.
    node: Option<usize>,
    /// Containers around this value.
    depth: usize,
    shallow: bool,
    values: &'p mut Vec<Option<Scalar<'a>>>,
    fault: &'p Cell<Option<ReadError>>,
}

impl<'a> Visit<'_, 'a> {
    fn keep<E>(self, scalar: impl FnOnce() -> Scalar<'a>) -> Result<(), E> {
        if let Some(slot) = self.node.and_then(|node| self.pointers.nodes[node].slot) {
            self.values[slot] = Some(scalar());
        }
        Ok(())
    }

    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth < JSON_DEPTH_MAX {
            return Ok(());
        }
        self.fault.set(Some(ReadError::TooDeep));
        Err(E::custom("too deep"))
    }

    fn children(&self) -> &[Child] {
        self.node.map_or(&[], |node| &self.pointers.nodes[node].children)
    }

    fn inner(&mut self, node: Option<usize>) -> Visit<'_, 'a> {
        Visit {
            pointers: self.pointers,
            node,
            depth: self.depth + 1,
            shallow: self.shallow,
            values: self.values,
            fault: self.fault,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Visit<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.node.is_none() && self.shallow {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ());
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Visit<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.keep(|| Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.keep(|| Scalar::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.keep(|| Scalar::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.keep(|| Scalar::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.keep(|| Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.keep(|| Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut seen = 0_u64;
        while let Some(at) = map.next_key_seed(Key(self.children()))? {
            let node = match at {
                None => None,
                Some(at) => {
                    if seen & (1 << at) != 0 {
                        let key = self.children()[at].key.clone();
                        self.fault.set(Some(ReadError::RepeatedKey(key)));
                        return Err(A::Error::custom("repeated key"));
                    }
                    seen |= 1 << at;
                    Some(self.children()[at].node)
                }
            };
            map.next_value_seed(self.inner(node))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut position = 0;
        loop {
            let node = self
                .children()
                .iter()
                .find(|child| child.index == Some(position))
                .map(|child| child.node);
            if seq.next_element_seed(self.inner(node))?.is_none() {
                return Ok(());
            }
            position += 1;
        }
    }
}

/// Finds a key among the wanted ones.
struct Key<'p>(&'p [Child]);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|child| child.key == key))
    }
}
