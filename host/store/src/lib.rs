//! Tollgate's durable store: the only crate that knows SQL.
//!
//! The rest of the host sees six traits of it, together a [`Store`]. A method that returns `Ok` has committed; what it
//! returns was decided by `tollgate-core` from what the commit's own transaction found. The commit is on the disk when somebody
//! outside is told of it: an admission, what an operator changed, a settlement before its actions are delivered. Other settlements,
//! claims and attempts reach the disk within a second: a process that dies loses none of them, and after a loss of power they are done
//! again from the receipts, which are all there. Nothing here knows HTTP, plugins or clocks.
#![forbid(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
mod any;
#[cfg(not(target_family = "wasm"))]
pub mod audit;
#[cfg(not(target_family = "wasm"))]
pub mod backup;
#[cfg(not(target_family = "wasm"))]
pub mod copy;
mod guest;
#[cfg(not(target_family = "wasm"))]
mod log;
mod model;
#[cfg(not(target_family = "wasm"))]
mod queue;
pub mod registry;
#[cfg(not(target_family = "wasm"))]
mod reminder;
mod sql;
#[cfg(not(target_family = "wasm"))]
mod seam;
#[cfg(not(target_family = "wasm"))]
pub mod postgres;
#[cfg(not(target_family = "wasm"))]
pub mod sqlite;
#[cfg_attr(
    target_family = "wasm",
    expect(dead_code, reason = "part of it serves only what a native writer remembers")
)]
mod statements;

use tollgate_core::work::IllegalEvent;

#[cfg(not(target_family = "wasm"))]
pub use any::AnyStore;
pub use guest::{GuestStore, StateSnapshot};
pub use model::*;
#[cfg(not(target_family = "wasm"))]
pub use postgres::PostgresStore;
#[cfg(not(target_family = "wasm"))]
pub use queue::ReplyBatcher;
#[cfg(not(target_family = "wasm"))]
pub use seam::{BlockingReads, Changes, Control, Intake, Outbox, ReceiptKey, Store, Views, Work};
pub use sql::{Answer, Driver, DriverError, Value};
#[cfg(not(target_family = "wasm"))]
pub use sqlite::{OpenOptions, SqliteStore};
pub use statements::Layout;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another writer holds the database, and did not let go in time. Nothing was written; try again later.
    #[error("another writer holds the store")]
    Busy,
    /// More writes are waiting than the queue takes. Nothing was written; try again later.
    #[error("the store's write queue is full")]
    Full,
    /// The disk is full. Nothing was written; writes work again when there is space.
    #[error("no space left for the store at {path}: free some; nothing more is taken in until then")]
    NoSpace {
        /// Where the store is.
        path: String,
    },
    /// A write or fsync failed. What is on the disk is unknown: the host must stop and not acknowledge.
    #[error("the store's disk failed: {detail}")]
    Fatal {
        /// What failed.
        detail: String,
    },
    /// The database server cannot be reached, or ended the connection before it had committed. Nothing is queued: try again later.
    #[error("the database server is away: {detail}")]
    Away {
        /// What the connection says.
        detail: String,
    },
    /// Another process has the store open.
    #[error("another process already uses the store {path}; one process at a time may write it")]
    InUse {
        /// Where the store is.
        path: String,
    },
    /// The store was written by a newer Tollgate.
    #[error("the store {path} has schema {found}, but this Tollgate knows up to {known}; use the newer Tollgate")]
    NewerSchema {
        /// Where the store is.
        path: String,
        /// The schema's version in the file.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The store was opened for reading only.
    #[error("the store {path} is open for reading only here")]
    ReadOnly {
        /// Where the store is.
        path: String,
    },
    /// The file cannot be opened as a store.
    #[error("cannot open the store {path}: {detail}")]
    Open {
        /// Where the store is.
        path: String,
        /// Why, in words.
        detail: String,
    },
    /// The file is damaged in a place without which nothing of it can be read.
    #[error("the store {path} is damaged: {detail}; `tollgate audit verify` says what is left of it")]
    Corrupt {
        /// Where the store is.
        path: String,
        /// What is wrong, in words.
        detail: String,
    },
    /// Something of that id does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The job or the delivery has moved on, or was never where it would have to be. Nothing was written.
    #[error("{0}; nothing was changed")]
    Illegal(IllegalEvent),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
    /// A row has bytes that no Tollgate wrote.
    #[error("damaged row: {detail}")]
    Damaged {
        /// Which row, and what is wrong with it.
        detail: String,
    },
    /// The database failed in another way. Nothing was written.
    #[error("database: {detail}")]
    Database {
        /// What the database says.
        detail: String,
    },
}
