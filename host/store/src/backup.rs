//! What a backup is: a folder with the store's files as of one commit, and a manifest that says what they must be.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tollgate_core::checkpoint::{Mark, StoreId};
use tollgate_core::ids::Digest;

/// The manifest's name in the folder. It is written last: a folder without one is no backup.
pub const MANIFEST: &str = "backup.json";

/// The version of the manifest's form.
pub const FORMAT: u32 = 2;

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupProgress {
    /// SQLite copies the database, in one piece.
    Database,
    /// The log is copied.
    Log {
        /// Bytes that were copied.
        done: u64,
        /// Bytes that there are.
        of: u64,
    },
    /// The copy is hashed and synced.
    Sealing,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Of the Tollgate that made it.
    pub version: String,
    /// When it was begun (RFC 3339): every event that was acknowledged before is in it.
    pub begun_at: String,
    /// The store that was copied.
    pub store: StoreId,
    /// The newest receipt and its link: `tollgate audit verify` of the copy comes to the same.
    pub newest: Mark,
    /// The database first.
    pub files: Vec<BackupFile>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Its name in the folder, without a path.
    pub name: String,
    /// How long it was.
    pub bytes: u64,
    /// SHA-256 of its contents.
    pub sha256: Digest,
}

/// Why a folder is not a backup, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The folder has no manifest.
    #[error("{path} has no {MANIFEST}: it is no backup, or one that was not finished")]
    NoManifest {
        /// The folder.
        path: PathBuf,
    },
    /// A file or the manifest cannot be read.
    #[error("{path} cannot be read: {detail}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        detail: String,
    },
    /// The backup is of another version.
    #[error("{path} is a backup of format {found}; this Tollgate knows {FORMAT}")]
    Format {
        /// The manifest.
        path: PathBuf,
        /// The format that it says.
        found: u32,
    },
    /// A file has another length than the manifest says.
    #[error("{path} has {found} bytes, but was backed up with {expected}: it was cut or changed")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length in bytes that the manifest says.
        expected: u64,
    },
    /// A file has other contents than the manifest says.
    #[error("{path} is not the file that was backed up: its SHA-256 is another")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The place that a restore would write to is not empty.
    #[error("{path} is there already: a restore never writes over a store; move it away first")]
    Occupied {
        /// The file that is there.
        path: PathBuf,
    },
    /// A file of the restored store cannot be written.
    #[error("{path} cannot be written: {detail}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        detail: String,
    },
}

impl Manifest {
    /// Reads the manifest of a backup's folder.
    ///
    /// # Errors
    /// When there is none, or it is not one of ours.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(MANIFEST);
        let unreadable = |detail: String| BackupError::Unreadable {
            path: path.clone(),
            detail,
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(BackupError::NoManifest {
                    path: folder.to_owned(),
                });
            }
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let manifest: Self = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(BackupError::Format {
                path,
                found: manifest.format,
            });
        }
        // A file of the folder, never one elsewhere, and named as the database is: so that it can be put beside it.
        let stem = manifest.files.first().map_or("", |database| &database.name);
        let is_plain = |name: &str| {
            let is_name = Path::new(name).file_name().is_some_and(|last| last == name);
            !name.is_empty() && is_name && name.starts_with(stem)
        };
        match manifest.files.iter().find(|file| !is_plain(&file.name)) {
            Some(file) => Err(unreadable(format!(
                "`{}` is no name of a file in the folder",
                file.name
            ))),
            None if manifest.files.is_empty() => Err(unreadable("it names no files".to_owned())),
            None => Ok(manifest),
        }
    }

    /// The database's file in the folder.
    pub fn database(&self, folder: &Path) -> PathBuf {
        folder.join(self.files.first().map_or("", |file| file.name.as_str()))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}
