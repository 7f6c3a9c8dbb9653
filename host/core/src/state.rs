//! Plugin state: a keyed store per (tenant, plugin) whose reads carry versions.
//!
//! A run's reads are checked against the versions they saw when the run commits, and its writes commit with it. So runs may be
//! parallel, and their results are as if they had been serial.

use serde::{Deserialize, Serialize};

/// One value as the store has it. Version 0 means that the key does not exist; a version never comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue {
    /// Rises with each write of the key.
    pub version: i64,
    /// The bytes; none when the key does not exist.
    pub value: Option<Vec<u8>>,
}

/// A key that a run read, with what it saw: kept so that the run can be repeated (promise W3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRead {
    /// The plugin's name for the value.
    pub key: String,
    /// The version that was read.
    pub version: i64,
    /// The bytes that were read; none when the key did not exist.
    pub value: Option<Vec<u8>>,
}

/// A write that takes effect when its run commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWrite {
    /// The plugin's name for the value.
    pub key: String,
    /// The new bytes; none removes the key.
    pub value: Option<Vec<u8>>,
}
