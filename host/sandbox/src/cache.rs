//! Compiled plugins on disk. Loading machine code is as good as running it, so an entry is believed only when its tag proves
//! that this host made it: HMAC-SHA256 under a key that lies beside the entries and that only this user may read.
//!
//! What this does not stop: someone who can read the key, or who may write to this process's memory, needs no cache.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tollgate_core::ids::{Digest, PluginDigest};
use tollgate_core::limits;
use tollgate_core::secret::Secret;

/// The directory in which compiled plugins are kept. It is made when it does not exist.
#[derive(Debug, Clone)]
pub struct CacheDir {
    /// The folder.
    pub path: PathBuf,
    /// What its entries may take in all, but for those that are in use. What was not used for longest goes first.
    pub bytes_max: u64,
}

impl CacheDir {
    /// A cache in this folder, with [`PLUGIN_CACHE_BYTES_MAX`](limits::PLUGIN_CACHE_BYTES_MAX).
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            bytes_max: limits::PLUGIN_CACHE_BYTES_MAX,
        }
    }
}

/// The beginning of every entry. Every change of the entry's layout changes it.
const MAGIC: &[u8; 8] = b"tollgat1";
const TAG_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// A bound on what is read back: no artifact that this crate writes is bigger.
const ENTRY_BYTES_MAX: u64 = crate::compile::ARTIFACT_BYTES_MAX as u64 + 64;

/// A temporary file that is older than this was left by a process that died.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(60 * 60);

/// An opened [`CacheDir`].
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
    key: Secret,
    /// What never goes. Absent until somebody says so: then nothing goes.
    in_use: Mutex<Option<BTreeSet<PluginDigest>>>,
}

/// One entry, as it is looked at when there are too many bytes.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used_at: SystemTime,
    plugin: Option<PluginDigest>,
}

impl Cache {
    /// Opens the directory and its key; makes both when they do not exist.
    pub(crate) fn open(directory: &CacheDir) -> io::Result<Self> {
        let path = &directory.path;
        make_private_directory(path)?;
        Ok(Self {
            directory: path.clone(),
            bytes_max: directory.bytes_max,
            key: key(path)?,
            in_use: Mutex::new(None),
        })
    }

    /// From now on the code of these plugins is never evicted. Code of others is, when there is too much.
    pub(crate) fn pin(&self, in_use: BTreeSet<PluginDigest>) {
        *self.in_use() = Some(in_use);
        self.evict();
    }

    fn in_use(&self) -> MutexGuard<'_, Option<BTreeSet<PluginDigest>>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what was not used for longest, until the entries keep to their bound or only those in use are left; and what a process that
    /// died was writing.
    fn evict(&self) {
        // The lock is held until the end, so that nothing is removed that is pinned meanwhile.
        let in_use = self.in_use();
        let Some(in_use) = &*in_use else { return };
        let entries = match self.entries() {
            Ok(entries) => entries,
            Err(error) => return tracing::warn!(%error, "the cache of compiled plugins cannot be looked through"),
        };
        let mut bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let is_free = |entry: &&Entry| entry.plugin.is_none_or(|plugin| !in_use.contains(&plugin));
        let mut free: Vec<&Entry> = entries.iter().filter(is_free).collect();
        free.sort_by_key(|entry| entry.used_at);
        for entry in free {
            if bytes <= self.bytes_max {
                break;
            }
            match fs::remove_file(&entry.path) {
                Ok(()) => bytes -= entry.bytes,
                Err(error) => tracing::warn!(%error, "an entry of the cache of compiled plugins cannot be removed"),
            }
        }
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            // Another host on the same folder may be faster.
            let Ok(metadata) = file.metadata() else { continue };
            let (path, used_at) = (file.path(), metadata.modified()?);
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(".tmp") {
                if used_at.elapsed().is_ok_and(|age| age > LEFT_OVER_AFTER) {
                    let _ = fs::remove_file(&path);
                }
            } else if let Some(code) = name.strip_suffix(".code") {
                entries.push(Entry {
                    path,
                    bytes: metadata.len(),
                    used_at,
                    plugin: code
                        .split_once('-')
                        .and_then(|(digest, _)| format!("sha256:{digest}").parse().ok()),
                });
            }
        }
        Ok(entries)
    }

    /// The compiled code of a plugin, if it is there and proves to be this host's own for this engine.
    pub(crate) fn read(&self, plugin: PluginDigest, engine: Digest) -> Option<Vec<u8>> {
        let path = self.entry(plugin, engine);
        let size = fs::metadata(&path).ok()?.len();
        if size > ENTRY_BYTES_MAX {
            tracing::warn!(plugin = %plugin, "a cache entry is too long and is ignored");
            return None;
        }
        let mut entry = fs::read(&path).ok()?;
        let start = MAGIC.len() + TAG_BYTES;
        let proven = entry.len() >= start
            && entry.starts_with(MAGIC)
            && self
                .mac(plugin, engine, &entry[start..])
                .verify_slice(&entry[MAGIC.len()..start])
                .is_ok();
        if !proven {
            tracing::warn!(plugin = %plugin, "a cache entry is damaged or not this host's own and is ignored");
            return None;
        }
        entry.drain(..start);
        // The entry that was used last is evicted last. In a folder that cannot be written the order stays that of filling.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(entry)
    }

    /// Keeps compiled code. A file appears whole or not at all; a failure costs only the next compilation.
    pub(crate) fn write(&self, plugin: PluginDigest, engine: Digest, code: &[u8]) {
        let tag: [u8; TAG_BYTES] = self.mac(plugin, engine, code).finalize().into_bytes().into();
        let written = (|| {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(MAGIC)?;
            file.write_all(&tag)?;
            file.write_all(code)?;
            file.persist(self.entry(plugin, engine)).map_err(|error| error.error)
        })();
        if let Err(error) = written {
            tracing::warn!(plugin = %plugin, %error, "compiled code could not be cached");
        }
        self.evict();
    }

    fn entry(&self, plugin: PluginDigest, engine: Digest) -> PathBuf {
        let hex = data_encoding::HEXLOWER;
        self.directory
            .join(format!("{}-{}.code", hex.encode(&plugin.0), hex.encode(&engine.0[..8])))
    }

    /// Binds the code to the plugin and to the engine, so that one entry cannot stand in for another.
    fn mac(&self, plugin: PluginDigest, engine: Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose()).expect("HMAC takes a key of any length");
        for part in [MAGIC.as_slice(), &plugin.0, &engine.0, code] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Reads the key, or makes one. Of two processes that make one at once, the first wins and both use its key.
fn key(directory: &Path) -> io::Result<Secret> {
    let path = directory.join("key");
    if !path.exists() {
        let mut fresh = [0; KEY_BYTES];
        getrandom::fill(&mut fresh).map_err(io::Error::other)?;
        // A temporary file is readable for its owner only (mode 0600) from the start.
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&fresh)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.error),
        }
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&path)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(io::Error::other(format!(
                "{} may be read by others (mode {:o}); remove the cache directory, or set the key's mode to 600",
                path.display(),
                mode & 0o777
            )));
        }
    }
    let key = fs::read(&path)?;
    if key.len() != KEY_BYTES {
        return Err(io::Error::other(format!(
            "{} is damaged; remove the cache directory",
            path.display()
        )));
    }
    Ok(Secret::new(key))
}
