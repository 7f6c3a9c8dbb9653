//! Pages that are one table or a few, each with what to do first where it is empty.

use askama::Template;

use crate::page::Frame;
use crate::table::Table;

#[derive(Template)]
#[template(path = "sheets.html")]
pub(crate) struct Sheets {
    pub(crate) frame: Frame,
    pub(crate) about: &'static str,
    pub(crate) kinds: Vec<Narrower>,
    pub(crate) problems: Vec<String>,
    /// Where somebody of the whole host says which tenant they mean.
    pub(crate) whose: Option<&'static str>,
    pub(crate) sheets: Vec<Sheet>,
}

impl Sheets {
    /// A page that is one table.
    pub(crate) fn one(frame: Frame, about: &'static str, table: Table, empty: Empty) -> Self {
        Self {
            frame,
            about,
            kinds: Vec::new(),
            problems: Vec::new(),
            whose: None,
            sheets: vec![Sheet {
                title: "",
                about: "",
                table,
                empty,
                add: None,
            }],
        }
    }
}

/// One of a page's tables.
pub(crate) struct Sheet {
    /// Empty where the page's own says it.
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    pub(crate) table: Table,
    pub(crate) empty: Empty,
    /// Where a form is that adds one.
    pub(crate) add: Option<(&'static str, String)>,
}

/// What is said where there is nothing.
pub(crate) struct Empty {
    pub(crate) says: &'static str,
    /// What to do first.
    pub(crate) then: &'static str,
    pub(crate) command: &'static str,
}

/// A way to narrow a list.
pub(crate) struct Narrower {
    pub(crate) name: String,
    /// How many there are; empty where nobody counted.
    pub(crate) count: String,
    pub(crate) href: String,
    pub(crate) is_here: bool,
}
