//! How much of everything a host has.

use serde::{Deserialize, Serialize};

/// How much of everything there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Counts {
    pub receipts: u64,
    pub redeliveries: u64,
    pub conflicts: u64,
    /// Deliveries of a signed message that was received before under another id or type.
    pub suspected_replays: u64,
    pub superseded: u64,
    /// Receipts that wait for review.
    pub held: u64,
    /// Jobs that their plugins held and that nobody decided about.
    pub held_jobs: u64,
    /// Conflicting deliveries that are kept and that nobody decided about.
    pub conflicts_open: u64,
    /// Proposals that conflict with the ledger and that nobody decided about.
    pub ledger_conflicts_open: u64,
    pub jobs_waiting: u64,
    pub jobs_done: u64,
    pub runs: u64,
    pub actions: u64,
    pub outbox_waiting: u64,
    pub delivered: u64,
    pub dead_letters_open: u64,
}
