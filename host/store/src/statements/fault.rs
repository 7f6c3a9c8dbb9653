//! What can go wrong inside a transaction, and what it is to the caller.

use tollgate_core::work::IllegalEvent;

use crate::StoreError;
use crate::sql::{Error, Kind};

/// Trouble inside a transaction, before it is known what it means for the store as a whole.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(Error),
    /// A row holds what no version of Tollgate writes.
    Damaged(String),
    NotFound(String),
    /// The state of a job or an outbox entry does not allow what was asked.
    Illegal(IllegalEvent),
    /// The log could not be read, written or synced.
    Io(std::io::Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Column(detail) => Self::Damaged(detail),
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
    pub(crate) fn damaged(what: &str, detail: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("{what}: {detail}"))
    }

    /// What SQLite said it was.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Sql(Error::Failed { kind, .. }) => Some(*kind),
            #[cfg(not(target_family = "wasm"))]
            Self::Sql(Error::Server { kind, .. }) => Some(*kind),
            _ => None,
        }
    }

    /// Nothing was written and nothing is in doubt: there is no space.
    pub(crate) fn is_no_space(&self) -> bool {
        match self {
            Self::Io(error) => matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            _ => self.kind() == Some(Kind::NoSpace),
        }
    }

    /// The disk failed: after that nobody knows what the file holds.
    pub(crate) fn is_of_disk(&self) -> bool {
        match self {
            Self::Io(_) => !self.is_no_space(),
            _ => self.kind() == Some(Kind::Disk),
        }
    }

    /// SQLite found that the file is not one, or not whole.
    pub(crate) fn is_corruption(&self) -> bool {
        self.kind() == Some(Kind::Corrupt)
    }

    /// The connection to a server is gone.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn is_of_connection(&self) -> bool {
        self.kind() == Some(Kind::Away)
    }

    /// What is stored is not what was stored.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_)) || self.is_corruption()
    }

    /// What the writer answers. `Fatal` only for failures of the disk: after one, nobody knows what the file holds.
    pub(crate) fn of_writer(self, path: &str) -> StoreError {
        match &self {
            _ if self.is_no_space() => StoreError::NoSpace { path: path.to_owned() },
            _ if self.is_of_disk() => StoreError::Fatal { detail: self.detail() },
            _ => self.of_reader(),
        }
    }

    /// What a reader answers: nothing was to be written, so nothing is in doubt.
    pub(crate) fn of_reader(self) -> StoreError {
        match self {
            _ if self.is_corruption() => StoreError::Damaged { detail: self.detail() },
            _ if self.kind() == Some(Kind::Busy) => StoreError::Busy,
            #[cfg(not(target_family = "wasm"))]
            _ if self.is_of_connection() => StoreError::Away { detail: self.detail() },
            Self::Sql(_) | Self::Io(_) => StoreError::Database { detail: self.detail() },
            Self::Damaged(detail) => StoreError::Damaged { detail },
            Self::NotFound(what) => StoreError::NotFound { what },
            Self::Illegal(event) => StoreError::Illegal(event),
        }
    }

    /// The text with SQLite's extended code, which names the failed system call.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Sql(error) => error.to_string(),
            Self::Damaged(detail) => detail.clone(),
            Self::NotFound(what) => format!("{what} does not exist"),
            Self::Illegal(event) => event.to_string(),
            Self::Io(error) => format!("log: {error}"),
        }
    }
}
