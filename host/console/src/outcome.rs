//! What an act came to, or would.

use crate::act::Act;
use crate::table::{Part, Table};
use crate::words::counted;

/// What was done, or would be.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) says: String,
    pub(crate) table: Table,
    pub(crate) text: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) is_nothing: bool,
    /// What is shown this once: a token, or a link.
    pub(crate) secret: String,
    /// Where it goes on from here, once it is done: the first is what most want.
    pub(crate) then: Vec<Part>,
    /// What is to be confirmed, where that is narrower than what was asked for.
    pub(crate) narrowed: Option<Act>,
}

impl Outcome {
    pub(crate) fn said(says: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            ..Self::default()
        }
    }
}

pub(crate) fn would(dry_run: bool, count: usize, thing: &str, done: &str) -> String {
    match (dry_run, count) {
        (_, 0) => format!("Nothing is there to be {done}."),
        (true, count) => format!("{} would be {done}.", counted(count as u64, thing)),
        (false, 1) => format!("1 {thing} was {done}."),
        (false, count) => format!("{} were {done}.", counted(count as u64, thing)),
    }
}
