//! How much of everything a host has.

use serde::{Deserialize, Serialize};
use tollgate_core::limits;

/// How much of everything there is. What waits or is set aside is counted up to 100 000: one of those that stands there is at least so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Counts {
    /// Events that were admitted.
    pub receipts: u64,
    /// Deliveries of an event that came again with the same bytes.
    pub redeliveries: u64,
    /// Deliveries of an event that came again with other bytes.
    pub conflicts: u64,
    /// Deliveries of a signed message that was received before under another id or type.
    pub suspected_replays: u64,
    /// Receipts whose event came late.
    pub superseded: u64,
    /// Receipts that wait for review.
    pub held: u64,
    /// Jobs that their plugins held and that nobody decided about.
    pub held_jobs: u64,
    /// Conflicting deliveries that are kept and that nobody decided about.
    pub conflicts_open: u64,
    /// Proposals that conflict with the ledger and that nobody decided about.
    pub ledger_conflicts_open: u64,
    /// Jobs that are ready, leased or blocked.
    pub jobs_waiting: u64,
    /// Jobs that are done.
    pub jobs_done: u64,
    /// Runs of plugins that are recorded.
    pub runs: u64,
    /// Actions in the ledger.
    pub actions: u64,
    /// Outbox entries that wait for an attempt or are in one.
    pub outbox_waiting: u64,
    /// Outbox entries that their destination took.
    pub delivered: u64,
    /// Dead letters that were not replayed.
    pub dead_letters_open: u64,
    /// Whether a count ended at its bound. `jobs_done`, `actions` and `delivered`, which are what is left of all others, are then at most what
    /// they say.
    #[serde(default)]
    pub bounded: bool,
}

/// A count of what waits or is set aside, for people: `7`, `at least 100000`.
pub fn in_words(count: u64) -> String {
    if count >= limits::COUNTED_MAX {
        format!("at least {}", limits::COUNTED_MAX)
    } else {
        count.to_string()
    }
}
