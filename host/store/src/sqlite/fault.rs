//! What can go wrong inside a transaction, and what it is to the caller.

use rusqlite::ErrorCode;
use rusqlite::ffi;
use tollgate_core::work::IllegalEvent;

use crate::StoreError;

/// Trouble inside a transaction, before it is known what it means for the store as a whole.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    /// A row holds what no version of Tollgate writes.
    Damaged(String),
    NotFound(String),
    /// The state of a job or an outbox entry does not allow what was asked.
    Illegal(IllegalEvent),
    /// The file of bodies could not be written or synced.
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "a guest has no such file"))]
    Io(std::io::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Damaged(error.to_string()),
            other => Self::Sql(other),
        }
    }
}

impl From<IllegalEvent> for Fault {
    fn from(event: IllegalEvent) -> Self {
        Self::Illegal(event)
    }
}

impl Fault {
    pub(super) fn damaged(what: &str, detail: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("{what}: {detail}"))
    }

    /// Nothing was written and nothing is in doubt: there is no space.
    pub(super) fn is_no_space(&self) -> bool {
        match self {
            // The second is the WAL's index that could not grow. It is memory of the running processes and is built anew from the
            // WAL, so nothing on the disk is in doubt; it is what a full disk looks like when the index is what does not fit.
            Self::Sql(rusqlite::Error::SqliteFailure(error, _)) => {
                error.code == ErrorCode::DiskFull || error.extended_code == ffi::SQLITE_IOERR_SHMSIZE
            }
            Self::Io(error) => matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// The disk failed: after that nobody knows what the file holds.
    pub(super) fn is_of_disk(&self) -> bool {
        !self.is_no_space()
            && match self {
                Self::Sql(rusqlite::Error::SqliteFailure(error, _)) => error.code == ErrorCode::SystemIoFailure,
                Self::Io(_) => true,
                _ => false,
            }
    }

    /// SQLite found that the file is not one, or not whole.
    pub(super) fn is_corruption(&self) -> bool {
        matches!(self, Self::Sql(rusqlite::Error::SqliteFailure(error, _))
            if matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    /// What is stored is not what was stored.
    #[cfg_attr(
        target_family = "wasm",
        expect(dead_code, reason = "a guest's host looks after its files")
    )]
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_)) || self.is_corruption()
    }

    /// What the writer answers. `Fatal` only for failures of the disk: after one, nobody knows what the file holds.
    pub(super) fn of_writer(self, path: &str) -> StoreError {
        match &self {
            _ if self.is_no_space() => StoreError::NoSpace { path: path.to_owned() },
            _ if self.is_of_disk() => StoreError::Fatal { detail: self.detail() },
            _ => self.of_reader(),
        }
    }

    /// What a reader answers: nothing was to be written, so nothing is in doubt.
    pub(super) fn of_reader(self) -> StoreError {
        match self {
            _ if self.is_corruption() => StoreError::Damaged { detail: self.detail() },
            Self::Sql(rusqlite::Error::SqliteFailure(error, _)) if error.code == ErrorCode::DatabaseBusy => {
                StoreError::Busy
            }
            Self::Sql(_) | Self::Io(_) => StoreError::Database { detail: self.detail() },
            Self::Damaged(detail) => StoreError::Damaged { detail },
            Self::NotFound(what) => StoreError::NotFound { what },
            Self::Illegal(event) => StoreError::Illegal(event),
        }
    }

    /// The text with SQLite's extended code, which names the failed system call.
    pub(super) fn detail(&self) -> String {
        match self {
            Self::Sql(rusqlite::Error::SqliteFailure(error, text)) => {
                let text = text.as_deref().unwrap_or_else(|| ffi::code_to_str(error.extended_code));
                format!("{text} (SQLite code {})", error.extended_code)
            }
            Self::Sql(error) => error.to_string(),
            Self::Damaged(detail) => detail.clone(),
            Self::NotFound(what) => format!("{what} does not exist"),
            Self::Illegal(event) => event.to_string(),
            Self::Io(error) => format!("bodies: {error}"),
        }
    }
}
