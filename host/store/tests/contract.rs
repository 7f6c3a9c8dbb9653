//! The store's tests: one contract for every backend, properties, and what is SQLite's own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "contract/suite.rs"]
mod suite;
#[path = "contract/support.rs"]
mod support;

#[path = "contract/model.rs"]
mod model;
#[path = "contract/sqlite.rs"]
mod sqlite;

mod sqlite_keeps_the_contract {
    crate::contract!(crate::sqlite::Sqlite::new());
}
