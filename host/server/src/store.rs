//! The one place of host and commands that names which store they have. Everything else asks for traits of `tollgate_store`, or takes
//! [`LocalStore`] from here where a command needs the store's files: to audit, back up or copy them.

use tollgate_store::{OpenOptions, SqliteStore, StoreError};

use crate::config::StoreConfig;

/// The store of one machine, in one file and what lies beside it.
pub type LocalStore = SqliteStore;

/// Opens the store as its configuration says, for a host or for a command that changes it while no host has it. Blocks.
///
/// # Errors
/// As [`SqliteStore::open`].
pub fn open(config: &StoreConfig) -> Result<LocalStore, StoreError> {
    let options = OpenOptions {
        wal_bytes_max: config.wal_bytes_max,
        keys_in_memory_max: config.keys_in_memory_max,
        ..OpenOptions::default()
    };
    LocalStore::open(&config.path, options)
}
