//! Tables: every list of the console is one. On a narrow screen each row is a card, and each value has its column's name before it.

use crate::words::{instant, mark};
use tollgate_core::mask;
use tollgate_core::time::UnixMillis;

/// The most bytes of a text that came from outside in one cell; the page of the thing has all of it.
const CELL_BYTES_MAX: usize = 160;

/// A column.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// `number` is aligned to the right, `wide` takes what room there is, `main` leads a card.
    pub(crate) class: &'static str,
}

/// What stands in one cell.
#[derive(Default)]
pub(crate) struct Cell {
    pub(crate) parts: Vec<Part>,
    /// A second line, quieter.
    pub(crate) below: Option<Part>,
}

/// A piece of text.
#[derive(Default, Clone)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) href: Option<String>,
    /// The shape before it.
    pub(crate) mark: Option<&'static str>,
    /// An instant, whole, of which the text is the short form.
    pub(crate) at: Option<String>,
    /// `code` for names, `dim` for what is less.
    pub(crate) class: &'static str,
}

/// A table.
#[derive(Default)]
pub(crate) struct Table {
    /// What it is of, for whoever does not see it.
    pub(crate) caption: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(caption: impl Into<String>, columns: &[(&'static str, &'static str)]) -> Self {
        let columns = columns.iter().map(|(name, class)| Column { name, class });
        Self {
            caption: caption.into(),
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }
}

impl Part {
    /// A text of ours.
    pub(crate) fn said(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// A text that came from outside: one line, cut, with what would not be seen written out.
    pub(crate) fn told(text: &str) -> Self {
        Self::said(mask::line(text, CELL_BYTES_MAX))
    }

    /// A word of state with its shape.
    pub(crate) fn state(word: &str) -> Self {
        Self {
            mark: Some(mark(word)),
            ..Self::told(word)
        }
    }

    /// An instant, as the API says it.
    pub(crate) fn at(text: &str, now: UnixMillis) -> Self {
        Self {
            text: instant(text, now),
            at: Some(mask::line(text, 60)),
            ..Self::default()
        }
    }

    pub(crate) fn to(self, href: impl Into<String>) -> Self {
        Self {
            href: Some(href.into()),
            ..self
        }
    }

    pub(crate) fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    pub(crate) fn marked(self, word: &str) -> Self {
        Self {
            mark: Some(mark(word)),
            ..self
        }
    }
}

impl From<Part> for Cell {
    fn from(part: Part) -> Self {
        Self {
            parts: vec![part],
            below: None,
        }
    }
}

impl Cell {
    pub(crate) fn of(parts: impl IntoIterator<Item = Part>) -> Self {
        Self {
            parts: parts.into_iter().collect(),
            below: None,
        }
    }

    pub(crate) fn below(self, part: Part) -> Self {
        Self {
            below: Some(part),
            ..self
        }
    }

    /// What may be absent.
    pub(crate) fn maybe(part: Option<Part>) -> Self {
        part.map(Self::from).unwrap_or_default()
    }
}

/// A question as an address.
pub(crate) fn address(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    let query = query.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{path}{mark}{query}", crate::ROOT)
}

/// The page of an event.
pub(crate) fn event_page(receipt: impl std::fmt::Display) -> String {
    format!("{}/events/{receipt}", crate::ROOT)
}

/// The page of a route.
pub(crate) fn route_page(tenant: &str, route: &str) -> String {
    address(&format!("/routes/{}/{}", segment(tenant), segment(route)), &[])
}

/// Names are of letters, digits and few marks; what is none of that stands in no address.
pub(crate) fn segment(text: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@');
    text.chars().filter(is_plain).take(100).collect()
}
