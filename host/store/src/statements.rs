//! What happens inside a transaction, whoever holds it: one file per concern. Decisions come from `tollgate-core`, called with what
//! the transaction found.

pub(crate) mod admit;
pub(crate) mod append;
pub(crate) mod budgets;
pub(crate) mod bulks;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod chain;
pub(crate) mod counts;
pub(crate) mod deliveries;
pub(crate) mod fault;
pub(crate) mod head;
pub(crate) mod history;
pub(crate) mod issues;
pub(crate) mod jobs;
pub(crate) mod lists;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod operators;
pub(crate) mod order;
pub(crate) mod outbox;
pub(crate) mod pauses;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod pulls;
pub(crate) mod quarantine;
pub(crate) mod receipts;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod registry;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod relations;
pub(crate) mod replay;
pub(crate) mod resends;
pub(crate) mod reviewed;
pub(crate) mod reviews;
pub(crate) mod rows;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod set_aside;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod state_edits;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod tokens;
pub(crate) mod trace;
pub(crate) mod transaction;
pub(crate) mod unfinished;

pub use self::receipts::Layout;
