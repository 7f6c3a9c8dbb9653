//! The one place of host and commands that names which store they have. Everything else asks for traits of `tollgate_store`, or takes
//! [`LocalStore`] from here where a command needs the store's files: to audit, back up or copy them.

use tollgate_store::postgres::ServerFound;
use tollgate_store::{AnyStore, HostIdentity, OpenOptions, PostgresStore, SqliteStore, StoreError};

use crate::clock;
use crate::config::StoreConfig;

/// The store of one machine, in one file and what lies beside it.
pub type LocalStore = SqliteStore;

/// The store that the configuration names: of this machine, or one that many hosts share.
pub type HostStore = AnyStore;

/// Opens the store for a host, which others see where they share it. Blocks.
///
/// # Errors
/// As [`SqliteStore::open`] and [`PostgresStore::open_as`].
pub(crate) fn open_as(config: &StoreConfig, identity: HostIdentity) -> Result<HostStore, StoreError> {
    match &config.url {
        Some(url) => PostgresStore::open_as(url, identity, clock::hear).map(HostStore::Shared),
        None => open(config),
    }
}

/// Opens the store as its configuration says, for a command that changes it. Blocks.
///
/// # Errors
/// As [`SqliteStore::open`] and [`PostgresStore::open`].
pub fn open(config: &StoreConfig) -> Result<HostStore, StoreError> {
    if let Some(url) = &config.url {
        return PostgresStore::open(url).map(HostStore::Shared);
    }
    let options = OpenOptions {
        wal_bytes_max: config.wal_bytes_max,
        keys_in_memory_max: config.keys_in_memory_max,
        ..OpenOptions::default()
    };
    LocalStore::open(&config.path, options).map(HostStore::Local)
}

/// Opens the store for reading only, beside whoever may be writing it. Blocks.
///
/// # Errors
/// As [`SqliteStore::open_read_only`] and [`PostgresStore::open_read_only`].
pub fn open_read_only(config: &StoreConfig) -> Result<HostStore, StoreError> {
    match &config.url {
        Some(url) => PostgresStore::open_read_only(url).map(HostStore::Shared),
        None => LocalStore::open_read_only(&config.path).map(HostStore::Local),
    }
}

/// What the server of a shared store is set to, and what of it is dangerous; none where the store is this machine's. Blocks.
///
/// # Errors
/// As [`PostgresStore::find`].
pub fn server(config: &StoreConfig) -> Result<Option<ServerFound>, StoreError> {
    config.url.as_ref().map(PostgresStore::find).transpose()
}
