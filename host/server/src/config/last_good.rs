//! Each tenant's configuration as it last was good, kept beside the store.
//!
//! A host that comes up again takes it for a tenant whose file was spoilt meanwhile, so that one tenant's typo ends neither that tenant's
//! intake nor the others'. Kept are the texts of the tenant's file and of the files that it names, and never what a reference to a secret
//! leads to: a secret is read where it lies, today's.
//!
//! Guarantee: a file appears whole or not at all, and only the host's own user may read it. What cannot be kept is said and harms nobody
//! until it is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tollgate_core::ids::TenantName;
use tollgate_core::time::UnixMillis;

/// The folder where each tenant has a file.
#[derive(Debug, Clone)]
pub(crate) struct LastGood {
    folder: PathBuf,
}

/// A tenant's configuration that was in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    /// When the host took it.
    pub(super) adopted_at: UnixMillis,
    /// When the host first found the tenant's own file wrong since.
    pub(super) stale_since: Option<UnixMillis>,
    pub(super) text: String,
    /// The files that it names, by their paths as written.
    pub(super) files: BTreeMap<String, String>,
}

impl Kept {
    pub(super) fn of(text: String, files: BTreeMap<String, String>, now: UnixMillis) -> Self {
        Self {
            adopted_at: now,
            stale_since: None,
            text,
            files,
        }
    }
}

impl LastGood {
    /// In a folder of its own whose name does not begin with the store's: whoever copies the store's files by their name gets those.
    pub(crate) fn beside(store: &Path) -> Self {
        let mut name = OsString::from("last-good.");
        name.push(store.file_name().unwrap_or_default());
        Self {
            folder: store.with_file_name(name),
        }
    }

    /// The configuration that was kept of a tenant; none when none can be read.
    pub(crate) fn read(&self, tenant: &TenantName) -> Option<Kept> {
        let path = self.file(tenant.as_str());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a tenant's last good configuration cannot be read");
                return None;
            }
        };
        serde_json::from_str(&text)
            .map_err(|error| {
                tracing::warn!(path = %path.display(), %error, "a tenant's last good configuration is damaged");
            })
            .ok()
    }

    /// Keeps what is in effect now: the good ones as they are. What was kept of those in `stale` stays, with the moment from which on
    /// their own files are wrong. What belongs to no file any more is removed.
    ///
    /// # Errors
    /// The first that the disk did not take. The others are kept.
    pub(crate) fn keep(
        &self,
        good: &BTreeMap<TenantName, Kept>,
        stale: &BTreeMap<TenantName, UnixMillis>,
    ) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o700))?;
        let mut kept = Ok(());
        for (tenant, now) in good {
            let before = self.read(tenant);
            let same = before.as_ref().is_some_and(|before| {
                before.stale_since.is_none() && before.text == now.text && before.files == now.files
            });
            if !same {
                kept = kept.and(self.write(tenant, now));
            }
        }
        for (tenant, since) in stale {
            if let Some(mut before) = self.read(tenant).filter(|before| before.stale_since.is_none()) {
                before.stale_since = Some(*since);
                kept = kept.and(self.write(tenant, &before));
            }
        }
        let known: BTreeSet<_> = good
            .keys()
            .chain(stale.keys())
            .map(|tenant| self.file(tenant.as_str()))
            .collect();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !known.contains(&path) {
                kept = kept.and(fs::remove_file(&path));
            }
        }
        kept
    }

    fn write(&self, tenant: &TenantName, kept: &Kept) -> io::Result<()> {
        // Only the owner may read such a temporary file.
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&serde_json::to_vec_pretty(kept)?)?;
        file.as_file().sync_all()?;
        file.persist(self.file(tenant.as_str())).map_err(|error| error.error)?;
        fs::File::open(&self.folder)?.sync_all()
    }

    fn file(&self, tenant: &str) -> PathBuf {
        self.folder.join(format!("{tenant}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_good_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let last_good = LastGood::beside(&folder.path().join("tollgate.db"));
        let name = |name: &str| -> TenantName { name.parse().unwrap() };
        let kept = |text: &str, at| Kept::of(text.to_owned(), BTreeMap::new(), UnixMillis(at));
        let good = BTreeMap::from([(name("acme"), kept("one", 1)), (name("globex"), kept("two", 1))]);
        assert_eq!(last_good.read(&name("acme")), None);
        last_good.keep(&good, &BTreeMap::new()).unwrap();
        assert_eq!(last_good.read(&name("acme")), Some(kept("one", 1)));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&last_good.folder), 0o700);
        assert_eq!(mode(&last_good.file("acme")), 0o600);

        // The same again keeps when it was adopted; another one does not; who is gone is forgotten.
        let again = BTreeMap::from([(name("acme"), kept("one", 2))]);
        last_good.keep(&again, &BTreeMap::new()).unwrap();
        assert_eq!(last_good.read(&name("acme")), Some(kept("one", 1)));
        assert_eq!(last_good.read(&name("globex")), None);

        // While the file of today is wrong, what was good stays, with the moment from which on it is stale.
        for since in [5, 6] {
            let stale = BTreeMap::from([(name("acme"), UnixMillis(since))]);
            last_good.keep(&BTreeMap::new(), &stale).unwrap();
        }
        let stale = Kept {
            stale_since: Some(UnixMillis(5)),
            ..kept("one", 1)
        };
        assert_eq!(last_good.read(&name("acme")), Some(stale));
        last_good
            .keep(&BTreeMap::from([(name("acme"), kept("one", 7))]), &BTreeMap::new())
            .unwrap();
        assert_eq!(last_good.read(&name("acme")), Some(kept("one", 7)));

        fs::write(last_good.file("acme"), "{").unwrap();
        assert_eq!(last_good.read(&name("acme")), None);
    }
}
