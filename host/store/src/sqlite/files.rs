//! The store's files: where they are, who may read them, and which process alone may write them.

use std::fs::{File, OpenOptions as FileOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::StoreError;

/// Mode of the store's files.
#[cfg(unix)]
const PRIVATE: u32 = 0o600;
/// Links that are followed from a path to the store's file; the system follows as many.
const LINKS_MAX: usize = 40;

/// The store's file and how to speak of it.
#[derive(Debug, Clone)]
pub(super) struct StorePath {
    path: PathBuf,
    /// For messages.
    pub(super) text: String,
}

impl StorePath {
    pub(super) fn new(path: &Path) -> Result<Self, StoreError> {
        let text = path.display().to_string();
        // Absolute, because SQLite would read a relative `file:…` as a URI. Behind links, because SQLite keeps its WAL beside the file
        // itself, and what we keep beside it has to be found by whoever opens the file by any name.
        match std::path::absolute(path).and_then(behind_links) {
            Ok(path) => Ok(Self { path, text }),
            Err(error) => Err(StoreError::Open {
                path: text,
                detail: error.to_string(),
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn cannot_open(&self, detail: impl std::fmt::Display) -> StoreError {
        StoreError::Open {
            path: self.text.clone(),
            detail: detail.to_string(),
        }
    }

    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    /// Whether the last process did not end by itself: it would have emptied its WAL.
    pub(super) fn was_left_open(&self) -> bool {
        self.beside("-wal").metadata().is_ok_and(|wal| wal.len() > 0)
    }

    /// The WAL's index, on which readers hold their locks.
    pub(super) fn wal_index(&self) -> PathBuf {
        self.beside("-shm")
    }

    /// The path of each segment of the log, up to its position.
    pub(super) fn log(&self) -> PathBuf {
        self.beside("-log-")
    }

    /// The store's key.
    pub(super) fn key(&self) -> PathBuf {
        self.beside("-key")
    }

    /// Another index, beside this one.
    pub(super) fn beside_as_store(&self, suffix: &str) -> Result<Self, StoreError> {
        Self::new(&self.beside(suffix))
    }

    /// Removes the index and what SQLite keeps beside it.
    pub(super) fn remove_index(&self) -> std::io::Result<()> {
        remove(&self.path)?;
        self.remove_wal()
    }

    /// Removes what SQLite keeps beside the index: without it the index is what it was at its last checkpoint.
    pub(super) fn remove_wal(&self) -> std::io::Result<()> {
        remove(&self.beside("-wal"))?;
        remove(&self.beside("-shm"))
    }

    /// The index as it was when the log began, where the store was not begun with it.
    pub(super) fn snapshot(&self) -> PathBuf {
        self.beside("-begun")
    }

    /// All that a store at this path has, or had while a host ran, but for the log's segments behind the first.
    pub(super) fn all_files(&self) -> [PathBuf; 8] {
        [
            "",
            "-log-0000000000000000",
            "-log-0000000000000000.zst",
            "-key",
            "-begun",
            "-wal",
            "-shm",
            ".lock",
        ]
        .map(|suffix| self.beside(suffix))
    }

    /// A file of it that could not be read or written.
    pub(super) fn failed(&self, error: &std::io::Error) -> StoreError {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::NoSpace {
                path: self.text.clone(),
            },
            _ => self.cannot_open(error),
        }
    }

    /// Errors while opening: full disks, damage and newer schemas keep their own names, all else is "cannot open".
    pub(super) fn opening(&self, fault: Fault) -> StoreError {
        if fault.is_no_space() {
            StoreError::NoSpace {
                path: self.text.clone(),
            }
        } else if fault.is_corruption() {
            StoreError::Corrupt {
                path: self.text.clone(),
                detail: fault.detail(),
            }
        } else {
            self.cannot_open(fault.detail())
        }
    }
}

fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file that a path means, where the path is a link; there may be none yet.
fn behind_links(mut path: PathBuf) -> std::io::Result<PathBuf> {
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            // No link; whether it is anything else shows when it is opened.
            Err(_) => return Ok(path),
        }
    }
    Err(std::io::Error::other(format!(
        "more than {LINKS_MAX} links, one behind another"
    )))
}

/// How the files of a store are made: for the host's own user alone. They hold customers' data, and the key that proves receipts.
pub(super) fn private() -> FileOptions {
    let mut options = FileOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, PRIVATE);
    options
}

/// Sees to it that nobody but the host's own user may read the store: a new file is made so before SQLite opens it, which gives its WAL
/// the same mode, and the files of a store that was made before are closed to others.
///
/// # Errors
/// When the file can neither be made nor be seen. A mode that cannot be changed, because another user owns the file, is said and no more.
pub(super) fn keep_private(path: &StorePath) -> Result<(), StoreError> {
    match private().write(true).create_new(true).open(&path.path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(path.cannot_open(error)),
    }
    #[cfg(unix)]
    for file in path.all_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let Ok(metadata) = file.metadata() else { continue };
        if metadata.permissions().mode() & 0o077 != 0
            && let Err(error) = std::fs::set_permissions(&file, std::fs::Permissions::from_mode(PRIVATE))
        {
            tracing::warn!(path = %file.display(), %error, "a file of the store may be read by others");
        }
    }
    Ok(())
}

/// Proof that this process alone writes the store. The operating system takes the locks back when the process ends, however
/// it ends; the lock file itself stays and means nothing.
///
/// The store's key is locked as well: whoever removes the lock file, as old advice has it, lets nobody in. The database's own file cannot
/// be: closing it would end SQLite's locks on it.
#[derive(Debug)]
pub(super) struct SoleUse([Option<File>; 2]);

impl SoleUse {
    pub(super) fn take(path: &StorePath) -> Result<Self, StoreError> {
        let lock = lock_alone(path, &path.beside(".lock"), true)?;
        Ok(Self([lock, lock_alone(path, &path.key(), false)?]))
    }

    /// Of a store that had no key before.
    pub(super) fn lock_key(&mut self, path: &StorePath) -> Result<(), StoreError> {
        if self.0[1].is_none() {
            self.0[1] = lock_alone(path, &path.key(), false)?;
        }
        Ok(())
    }
}

/// Locks a file for as long as it stays open. Nothing when it is not there and is not to be made.
fn lock_alone(path: &StorePath, file: &Path, make: bool) -> Result<Option<File>, StoreError> {
    let trouble = |error: std::io::Error| path.cannot_open(format_args!("{}: {error}", file.display()));
    let opened = private().create(make).truncate(false).write(true).open(file);
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) if !make && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(trouble(error)),
    };
    match opened.try_lock() {
        Ok(()) => Ok(Some(opened)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
            path: path.text.clone(),
        }),
        Err(TryLockError::Error(error)) => Err(trouble(error)),
    }
}

/// Whether a process holds the store, as far as its lock file tells. Makes no file.
pub(super) fn is_in_use(path: &StorePath) -> bool {
    let Ok(lock) = File::open(path.beside(".lock")) else {
        return false;
    };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Makes the names of new files durable.
pub(super) fn sync_directory(path: &StorePath) -> std::io::Result<()> {
    let directory = path.path.parent().unwrap_or(Path::new("/"));
    if cfg!(unix) {
        File::open(directory)?.sync_all()
    } else {
        Ok(())
    }
}
