//! The plugins that routes run, compiled and linked, by digest. Each is loaded once, when it is first needed; one that does not load
//! costs only those who need it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tollgate_core::ids::PluginDigest;
use tollgate_sandbox::{Plugin, Sandbox};
use tollgate_store::{StoreError, Views};

/// A plugin that did not load is not compiled again for every job that needs it.
const RETRY_AFTER: Duration = Duration::from_secs(30);

pub(crate) struct Shelf<S> {
    store: S,
    sandbox: Sandbox,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    loaded: HashMap<PluginDigest, Plugin>,
    /// One loads a digest; the others wait for it.
    loading: HashMap<PluginDigest, Arc<tokio::sync::Mutex<Option<Failed>>>>,
}

/// The last load of a digest, when it failed.
struct Failed {
    why: String,
    at: Instant,
}

/// Why there is no plugin of a digest.
#[derive(Debug)]
pub(crate) enum Unloadable {
    Store(StoreError),
    Refused(String),
}

impl fmt::Display for Unloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl<S: Views> Shelf<S> {
    pub(crate) fn new(store: S, sandbox: Sandbox) -> Self {
        Self {
            store,
            sandbox,
            inside: Mutex::default(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a plugin that somebody loaded already.
    pub(crate) fn put(&self, plugin: Plugin) {
        self.inside().loaded.insert(plugin.digest(), plugin);
    }

    /// The plugin, loaded now if it was not before. That may take as long as compiling takes; no thread is held meanwhile but one
    /// that may block.
    ///
    /// # Errors
    /// When the store has no such component, or the sandbox refuses it.
    pub(crate) async fn ready(&self, digest: PluginDigest) -> Result<Plugin, Unloadable> {
        let loading = {
            let mut inside = self.inside();
            if let Some(plugin) = inside.loaded.get(&digest) {
                return Ok(plugin.clone());
            }
            Arc::clone(inside.loading.entry(digest).or_default())
        };
        let mut failed = loading.lock().await;
        if let Some(plugin) = self.inside().loaded.get(&digest) {
            return Ok(plugin.clone());
        }
        if let Some(failed) = failed.as_ref().filter(|failed| failed.at.elapsed() < RETRY_AFTER) {
            return Err(Unloadable::Refused(failed.why.clone()));
        }
        let bytes = self.store.component(digest).await.map_err(Unloadable::Store)?;
        let sandbox = self.sandbox.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let loaded = sandbox.load(&bytes);
            loaded.map_err(|refusal| refusal.to_string())
        });
        let loaded = match loaded.await {
            Ok(loaded) => loaded,
            Err(lost) => Err(lost.to_string()),
        };
        match loaded {
            Ok(plugin) => {
                let mut inside = self.inside();
                inside.loaded.insert(digest, plugin.clone());
                inside.loading.remove(&digest);
                Ok(plugin)
            }
            Err(why) => {
                *failed = Some(Failed {
                    why: why.clone(),
                    at: Instant::now(),
                });
                Err(Unloadable::Refused(why))
            }
        }
    }

    /// Lets go of what no route runs any more. A run that is under way keeps its own.
    pub(crate) fn keep_only(&self, digests: &BTreeSet<PluginDigest>) {
        let mut inside = self.inside();
        inside.loaded.retain(|digest, _| digests.contains(digest));
        // Who waits for a load keeps the lock alive, and finds it again under the same digest or makes a new one.
        inside.loading.retain(|digest, _| digests.contains(digest));
    }

    /// How many plugins are loaded.
    pub(crate) fn len(&self) -> usize {
        self.inside().loaded.len()
    }
}

#[cfg(test)]
mod tests {
    use tollgate_sandbox::SandboxOptions;
    use tollgate_store::registry::{Act, NewVersion};
    use tollgate_store::{Control as _, OpenOptions, Store as _};

    use super::*;
    use crate::store::LocalStore;

    #[tokio::test]
    async fn what_does_not_load_is_said_and_not_tried_again_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path().join("tollgate.db"), OpenOptions::default()).unwrap();
        let sandbox = Sandbox::new(SandboxOptions {
            instances_max: 1,
            ..SandboxOptions::default()
        })
        .unwrap();
        let shelf = Shelf::new(store.clone(), sandbox);
        let bytes = b"this was a component once";
        let digest = PluginDigest::of(bytes);
        let missing = shelf.ready(digest).await.unwrap_err();
        assert!(
            matches!(missing, Unloadable::Store(StoreError::NotFound { .. })),
            "{missing}"
        );
        let version = NewVersion {
            owner: None,
            digest,
            bytes: bytes.as_slice().into(),
            name: "old".parse().unwrap(),
            version: "1".into(),
            publisher: "Acme".into(),
            manifest_json: "{}".into(),
            report_json: "{}".into(),
            signature: None,
            published: true,
        };
        let act = Act {
            actor: "tests".into(),
            why: None,
            at: crate::clock::now(),
            dry_run: false,
        };
        store.add_version(version, act).await.unwrap().unwrap();
        let refused = shelf.ready(digest).await.unwrap_err().to_string();
        assert!(refused.contains("not a component"), "{refused}");
        // The store is not asked again: it is gone, and the answer is the same.
        store.close().await;
        assert_eq!(shelf.ready(digest).await.unwrap_err().to_string(), refused);
        assert_eq!(shelf.len(), 0);
    }
}
