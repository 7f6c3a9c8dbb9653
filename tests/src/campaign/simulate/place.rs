//! Where a simulated host keeps its store, and how that place looks after a process has died.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tollgate_store::{Layout, OpenOptions, Outbox as _, SqliteStore, Store as _, Views as _};

use crate::random::Random;

/// New, empty stores of both layouts, made once: making one takes longer than a short life. Their receipt ids are made under one
/// key each, drawn anew each time, so that nothing may hang on which receipt has which id.
pub(super) struct Templates {
    rows: TempDir,
    log: TempDir,
}

impl Templates {
    /// # Panics
    /// When no store can be made.
    pub(super) fn make() -> Self {
        let made = |layout| {
            let folder = temporary();
            let options = OpenOptions {
                layout,
                ..OpenOptions::default()
            };
            let store = SqliteStore::open(folder.path().join(NAME), options).expect("a new store");
            drop(store);
            folder
        };
        Self {
            rows: made(Layout::Rows),
            log: made(Layout::Log),
        }
    }
}

const NAME: &str = "tollgate.db";

/// In memory where the system has a place for that: a crash is played by copying, so nothing hangs on the disk.
fn temporary() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("tollgate-sim-");
    builder
        .tempdir_in("/dev/shm")
        .or_else(|_| builder.tempdir())
        .expect("a temporary folder")
}

/// The folder of one life, and how its store is opened.
pub(super) struct Place {
    folder: TempDir,
    /// Each crash moves into another folder.
    generation: u32,
    options: OpenOptions,
}

impl Place {
    /// A place with a new store of either layout, with much memory or hardly any.
    pub(super) fn new(random: &mut Random, templates: &Templates) -> Result<Self> {
        let (template, layout) = match random.below(3) {
            0 => (&templates.rows, Layout::Rows),
            _ => (&templates.log, Layout::Log),
        };
        let plenty = OpenOptions::default();
        let options = OpenOptions {
            layout,
            keys_in_memory_max: [2, 12, 150][random.below(3) as usize],
            recent_bytes_max: [0, 2_000, plenty.recent_bytes_max][random.below(3) as usize],
            // Small enough that a checkpoint falls into most lives.
            wal_bytes_max: [40_000, 400_000, plenty.wal_bytes_max][random.below(3) as usize],
            ..plenty
        };
        let place = Self {
            folder: temporary(),
            generation: 0,
            options,
        };
        copy(template.path(), &place.current())?;
        Ok(place)
    }

    pub(super) fn open(&self) -> Result<SqliteStore> {
        SqliteStore::open(self.current().join(NAME), self.options).context("the store does not open")
    }

    /// Closes the store in good order and opens it again.
    pub(super) async fn restart(&self, store: SqliteStore) -> Result<SqliteStore> {
        store.close().await;
        drop(store);
        self.open()
    }

    /// Opens the store as it would be found if the process had died now: everything that it had written, nothing tidied up.
    pub(super) async fn crash(&mut self, store: SqliteStore) -> Result<SqliteStore> {
        // What nobody waits for is committed by the machine's clock, which is not this world's: whoever reads has it committed now. What
        // a death takes of it is a matter for `kill`, `points` and `power`, with real hosts.
        store.counts().await?;
        // The writer answers before it moves its log. The answer to one more write says that it is done with that.
        let now = tollgate_core::time::UnixMillis(0);
        store.release_outbox(Vec::new(), now).await?;
        let before = self.current();
        self.generation += 1;
        copy(&before, &self.current())?;
        drop(store);
        fs::remove_dir_all(before)?;
        self.open()
    }

    fn current(&self) -> PathBuf {
        self.folder.path().join(self.generation.to_string())
    }
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
