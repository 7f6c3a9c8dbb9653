//! What an audit reports: how far it is, and what it found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use tollgate_core::checkpoint::{Mark, StoreId};
use tollgate_core::ids::{ReceiptId, TenantName};

/// How far an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditProgress {
    /// SQLite looks at its pages, which it does in one piece.
    Pages,
    /// Receipts are read and held against their chain.
    Receipts {
        /// Receipts that were read.
        done: u64,
        /// Receipts that the store says it has.
        of: u64,
    },
    /// References between rows, beside the chain, are looked up.
    Relations,
    /// The log is read.
    Log {
        /// Bytes that were read.
        done: u64,
        /// Bytes that the index was made from.
        of: u64,
    },
    /// An index is made from the log, to be held against the store's own.
    Index {
        /// Bytes of the log that it was made from.
        done: u64,
        /// Bytes that the store's own was made from.
        of: u64,
    },
}

/// What an audit found.
#[derive(Debug, Clone, Serialize)]
pub struct AuditReport {
    /// The store's id; none when its key cannot be read.
    pub store: Option<StoreId>,
    /// The chain as far as it is whole: all of it, or up to the first broken row.
    pub whole: Mark,
    /// The first row that is wrong; none when the chain is whole.
    pub first_broken: Option<Broken>,
    /// Receipts behind the first broken row, each judged by its own body, facts and link.
    pub after: After,
    /// Each tenant's receipts, chained by themselves.
    pub tenants: BTreeMap<TenantName, TenantFound>,
    /// What else is wrong, in words: pages, indexes, rows that are in no chain.
    pub problems: Vec<String>,
    /// What was found for each checkpoint, in the order in which they were given.
    pub checkpoints: Vec<CheckpointFound>,
}

impl AuditReport {
    /// Whether everything holds, the checkpoints too.
    pub fn is_whole(&self) -> bool {
        let holds = |found: &CheckpointFound| found.problems.is_empty() && found.tenants.values().all(Option::is_none);
        self.first_broken.is_none() && self.problems.is_empty() && self.checkpoints.iter().all(holds)
    }

    /// What is wrong with the store itself, in words; empty when nothing is.
    pub fn in_words(&self) -> Vec<String> {
        let broken = self.first_broken.iter().map(ToString::to_string);
        self.problems.iter().cloned().chain(broken).collect()
    }
}

/// Receipts behind the first broken one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct After {
    /// Receipts whose body, facts and link are right.
    pub whole: u64,
    /// Receipts with something wrong.
    pub broken: u64,
    /// Receipts that are not there, or stand behind a place from which on nothing can be read.
    pub missing: u64,
}

/// A tenant's receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TenantFound {
    /// How many receipts the tenant has, and the link of the last.
    #[serde(flatten)]
    pub mark: Mark,
    /// How many of them are broken.
    pub broken: u64,
}

/// Whether the store still begins with what a checkpoint says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckpointFound {
    /// What of the store's own chain is not as it was.
    pub problems: Vec<String>,
    /// Of each of its tenants: what is not as it was, or nothing.
    pub tenants: BTreeMap<TenantName, Option<String>>,
}

/// The first row that is not what was admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The receipt's number: its place in the order of admission, from 1.
    pub number: i64,
    /// As the row says it; none where there is no row that can be read.
    pub receipt: Option<ReceiptId>,
    /// As the row says it; none where what is wrong is that rows are not there.
    pub tenant: Option<TenantName>,
    /// What is wrong with it.
    pub what: BrokenWhat,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BrokenWhat {
    /// Receipts before this one are not there, from this number on.
    Missing {
        /// The number of the first that is missing.
        from: i64,
    },
    /// Its body is not the one that its facts name.
    Body,
    /// Its body or its facts cannot be read.
    Unreadable {
        /// What stands there instead.
        detail: String,
    },
    /// It is not the one that the chain was linked over.
    Facts,
    /// As before, and the right one stands elsewhere.
    Swapped {
        /// The receipt that the chain was linked over.
        receipt: ReceiptId,
        /// The number under which it stands now.
        stands_at: i64,
    },
    /// Its facts fit the row after it; its own link was changed.
    Link,
    /// The last receipt that is there is not the one that the chain's head names.
    End {
        /// The number that the head names.
        head: u64,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number;
        let row = || {
            let id = self.receipt.map(|id| format!(" ({id})")).unwrap_or_default();
            let of = self.tenant.as_ref().map(|tenant| format!(" of {tenant}"));
            format!("receipt {number}{id}{}", of.unwrap_or_default())
        };
        match &self.what {
            BrokenWhat::Missing { from } => {
                let id = self.receipt.map(|id| format!(" ({id})")).unwrap_or_default();
                write!(f, "the receipts between {} and {number}{id} are missing", from - 1)
            }
            BrokenWhat::Body => write!(f, "{}: its body is not the one that was admitted", row()),
            BrokenWhat::Unreadable { detail } => write!(f, "{} cannot be read: {detail}", row()),
            BrokenWhat::Facts => write!(f, "{}: it is not the one that was admitted in this place", row()),
            BrokenWhat::Swapped { receipt, stands_at } => write!(
                f,
                "{}: it is not the one that was admitted in this place; that is {receipt}, which stands in place {stands_at}",
                row()
            ),
            BrokenWhat::Link => write!(f, "{}: its link was changed, its facts were not", row()),
            BrokenWhat::End { head } if *head as i64 == number => write!(
                f,
                "the chain's head is receipt {head}, but with another link than {} has",
                row()
            ),
            BrokenWhat::End { head } => write!(
                f,
                "the chain's head is receipt {head}, but the receipts end with {number}"
            ),
        }
    }
}
