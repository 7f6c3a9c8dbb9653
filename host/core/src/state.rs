//! Plugin state: a keyed store per (tenant, plugin) whose reads carry versions.
//!
//! A run's reads are checked against the versions they saw when the run commits, and its writes commit with it; so plugins
//! run in parallel and their results are still serial.

use serde::{Deserialize, Serialize};

/// One value as the store has it. Version 0 means that the key does not exist; a version never comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue {
    pub version: i64,
    pub value: Option<Vec<u8>>,
}

/// A key that a run read, with what it saw: kept so that the run can be repeated (promise W3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRead {
    pub key: String,
    pub version: i64,
    pub value: Option<Vec<u8>>,
}

/// A buffered write; `None` removes the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWrite {
    pub key: String,
    pub value: Option<Vec<u8>>,
}
