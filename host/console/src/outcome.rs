//! What was done, or would be, as it is shown.

use crate::table::Table;

/// What a call that changes something came to.
pub(crate) struct Outcome {
    pub(crate) says: String,
    pub(crate) table: Table,
    /// Lines that differ, or that are shown as they are.
    pub(crate) text: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) is_nothing: bool,
}
