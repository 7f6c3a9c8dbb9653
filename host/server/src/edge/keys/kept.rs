//! Published keys that proved requests, kept beside the store, so that a host that comes up again needs nobody for its first event.
//!
//! They are public and no secret. Still the file decides who is believed, so it is its owner's alone, appears whole or not at all, and
//! what it holds is judged again by the profile and the source of today, as if it had just been fetched.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::time::UnixMillis;

/// The file of a store's published keys.
#[derive(Debug, Clone)]
pub(super) struct KeyFile {
    path: PathBuf,
}

/// A name that proved a request of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptName {
    pub(super) tenant: TenantName,
    pub(super) source: SourceName,
    pub(super) name: String,
    /// Where it is published.
    pub(super) url: String,
    pub(super) used_at: UnixMillis,
    /// Absent when the name is known and its key is not, any more.
    pub(super) document: Option<Document>,
}

/// A key as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) fetched_at: UnixMillis,
    pub(super) text: String,
}

impl KeyFile {
    /// Under a name that does not begin with the store's: whoever copies the store's files by their name gets those.
    pub(super) fn beside(store: &Path) -> Self {
        let mut name = OsString::from("published-keys.");
        name.push(store.file_name().unwrap_or_default());
        Self {
            path: store.with_file_name(name),
        }
    }

    /// What was kept; nothing when there is no file, or none that can be read: then the keys are fetched again.
    pub(super) fn read(&self) -> Vec<KeptName> {
        let read = match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        read.unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "the published keys that were kept cannot be read; they are fetched again");
            Vec::new()
        })
    }

    /// Keeps the names. Where there are none, and none were kept, no file is made.
    ///
    /// # Errors
    /// When the disk does not take it; what was kept before stays.
    pub(super) fn write(&self, names: &[KeptName]) -> io::Result<()> {
        if names.is_empty() && !self.path.exists() {
            return Ok(());
        }
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // A temporary file of this kind is made for its owner alone.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(names)?)?;
        file.as_file().sync_all()?;
        // Renamed by the C library, as all else of the store's folder is: campaigns look at what that does.
        let part = file.into_temp_path();
        fs::rename(&part, &self.path)?;
        // The file has its name now, so there is no temporary file left to remove.
        part.keep().map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn published_keys_are_kept_for_their_owner_alone_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::beside(&folder.path().join("tollgate.db"));
        assert_eq!(file.read(), []);
        let names = [KeptName {
            tenant: "acme".parse().unwrap(),
            source: "bank".parse().unwrap(),
            name: "key-1".to_owned(),
            url: "https://keys.example/k".to_owned(),
            used_at: UnixMillis(2),
            document: Some(Document {
                fetched_at: UnixMillis(1),
                text: "{}".to_owned(),
            }),
        }];
        file.write(&names).unwrap();
        assert_eq!(file.read(), names);
        let mode = fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the file");
        fs::write(&file.path, "[{").unwrap();
        assert_eq!(file.read(), []);
    }
}
