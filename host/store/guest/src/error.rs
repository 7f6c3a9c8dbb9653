//! Errors, under rusqlite's names as far as the store tells them apart.

use crate::DriverError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The database refused or failed. The second part is the host's text.
    #[error("{}", .1.as_deref().unwrap_or("the database failed"))]
    SqliteFailure(ffi::Error, Option<String>),
    #[error("the query returned no rows")]
    QueryReturnedNoRows,
    #[error("column {0} cannot be read: {1}")]
    FromSqlConversionFailure(String, String),
    #[error("column {0}: {1} is out of range")]
    IntegralValueOutOfRange(String, i64),
    #[error("column {0} has another type: {1}")]
    InvalidColumnType(String, String),
    #[error("column {0} is not UTF-8")]
    Utf8Error(String),
    #[error("there is no column {0}")]
    InvalidColumnName(String),
    #[error("there is no value for the parameter {0}")]
    InvalidParameterName(String),
}

/// What a failure was, as far as the store acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorCode {
    /// Another connection holds the lock.
    DatabaseBusy,
    DiskFull,
    SystemIoFailure,
    DatabaseCorrupt,
    NotADatabase,
    Unknown,
}

/// The part of SQLite's C interface that the store names.
pub mod ffi {
    use super::ErrorCode;

    /// SQLite's code for a WAL index that cannot grow. A host does not tell; no failure has it here.
    pub const SQLITE_IOERR_SHMSIZE: i32 = 10 | (19 << 8);

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Error {
        pub code: ErrorCode,
        /// SQLite's primary code, as far as the text tells it.
        pub extended_code: i32,
    }

    pub fn code_to_str(_code: i32) -> &'static str {
        "the database failed"
    }
}

impl Error {
    /// A host passes SQLite's message on, and nothing else. The messages are SQLite's own (`sqlite3_errstr`), and part of its
    /// documented interface.
    pub(crate) fn of_driver(error: DriverError) -> Self {
        let (code, extended_code, text) = match error {
            DriverError::Full => (ErrorCode::DiskFull, 13, "the database is full".to_owned()),
            DriverError::Other(text) => {
                let said = |words: &str| text.contains(words);
                let (code, number) = if said("database is locked") || said("database table is locked") {
                    (ErrorCode::DatabaseBusy, 5)
                } else if said("database or disk is full") {
                    (ErrorCode::DiskFull, 13)
                } else if said("disk I/O error") {
                    (ErrorCode::SystemIoFailure, 10)
                } else if said("database disk image is malformed") {
                    (ErrorCode::DatabaseCorrupt, 11)
                } else if said("file is not a database") {
                    (ErrorCode::NotADatabase, 26)
                } else {
                    (ErrorCode::Unknown, 1)
                };
                (code, number, text)
            }
        };
        Self::SqliteFailure(ffi::Error { code, extended_code }, Some(text))
    }
}
