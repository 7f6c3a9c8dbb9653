//! A disk under a real host: what it does to its store's folder is recorded, and made to fail. `tests/disk` is the library that does
//! that inside of the host; here is what a campaign needs of it.

pub mod image;
pub mod recording;

// Each end needs some of it.
#[path = "../../disk/src/format.rs"]
mod format;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;

use tempfile::TempDir;

use self::format::{CONTROL, FOLDER, LAUNCHED, PAGE_BYTES, RECORDING, SUFFIX_AT, Word, fault};
pub use self::image::{Image, Model, Outcome};
pub use self::recording::{Operation, Recording, Said};
use crate::disk_library;

/// The error numbers that a disk fails with.
pub const EIO: u64 = 5;
pub const ENOSPC: u64 = 28;

/// The store's file in a watched folder.
pub const STORE: &str = "tollgate.db";

/// A folder that is watched while a host has its store there.
pub struct Watch {
    folder: TempDir,
    outside: TempDir,
    /// What was there before: (inode, name, bytes).
    base: Vec<(u64, String, Vec<u8>)>,
}

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub what: What,
    /// In files whose names end so; the folder's own name is `.`.
    pub suffix: &'static str,
    /// At this call of the kind, from 1, counted from when the fault is armed.
    pub nth: u64,
    /// From there on, and not only then.
    pub lasts: bool,
    /// What the system says; of a slow sync, milliseconds.
    pub error: u64,
}

/// The kind of call that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Write,
    /// Half is written, and the caller told so.
    ShortWrite,
    /// Half is written, and the next write fails.
    TornWrite,
    Sync,
    Truncate,
    /// A sync that does nothing and says that it went well.
    LyingSync,
    /// A sync that takes as many milliseconds longer as the fault's `error` says.
    SlowSync,
}

impl Watch {
    /// Watches a new folder that holds `image`.
    ///
    /// # Panics
    /// When a folder cannot be made.
    pub fn over(image: &Image) -> Self {
        let folder = tempfile::Builder::new().prefix("tollgate-disk-").tempdir();
        let outside = tempfile::Builder::new().prefix("tollgate-tape-").tempdir();
        let watch = Self {
            folder: folder.expect("a temporary folder"),
            outside: outside.expect("a temporary folder"),
            base: Vec::new(),
        };
        fs::write(watch.recording_file(), "").expect("a file for the recording");
        fs::write(watch.control_file(), [0; PAGE_BYTES]).expect("a file for the control page");
        image.write_into(&watch.folder());
        let base = image.files.iter().map(|(name, bytes)| {
            let metadata = fs::metadata(watch.folder().join(name)).expect("a file that was just written");
            (metadata.ino(), name.clone(), bytes.clone())
        });
        Self {
            base: base.collect(),
            ..watch
        }
    }

    /// What is watched, as the host has to name it: without symbolic links.
    pub fn folder(&self) -> PathBuf {
        let path = self.folder.path();
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    }

    fn recording_file(&self) -> PathBuf {
        self.outside.path().join("recording")
    }

    fn control_file(&self) -> PathBuf {
        self.outside.path().join("control")
    }

    /// The store's path.
    pub fn store(&self) -> PathBuf {
        self.folder().join(STORE)
    }

    /// The environment of a host on the watched folder.
    fn environment(&self) -> [(&'static str, PathBuf); 4] {
        [
            ("LD_PRELOAD", disk_library()),
            (FOLDER, self.folder()),
            (RECORDING, self.recording_file()),
            (CONTROL, self.control_file()),
        ]
    }

    /// The same for a program that starts the host, as `spin up` does.
    pub fn environment_of_launcher(&self) -> Vec<(&'static str, PathBuf)> {
        let launched = (LAUNCHED, PathBuf::from("1"));
        self.environment().into_iter().chain([launched]).collect()
    }

    /// The command that runs a host on the watched folder.
    pub fn wrapper(&self) -> Vec<String> {
        let set = |(name, path): (&str, PathBuf)| format!("{name}={}", path.display());
        let environment = self.environment().into_iter().map(set);
        std::iter::once("env".to_owned()).chain(environment).collect()
    }

    /// What was recorded so far.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn recording(&self) -> Recording {
        let bytes = fs::read(self.recording_file()).expect("the recording");
        Recording::read(bytes, self.base.clone())
    }

    /// The files as they are.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn files(&self) -> Image {
        Image::read_from(&self.folder())
    }

    /// Has the disk fail from now on; a fault that was armed before is no more.
    ///
    /// # Panics
    /// When the control page cannot be written.
    pub fn arm(&self, fault: Fault) {
        self.lift();
        let page = self.page();
        let what = match fault.what {
            What::Write => fault::WRITE,
            What::ShortWrite => fault::SHORT_WRITE,
            What::TornWrite => fault::TORN_WRITE,
            What::Sync => fault::SYNC,
            What::Truncate => fault::TRUNCATE,
            What::LyingSync => fault::LYING_SYNC,
            What::SlowSync => fault::SLOW_SYNC,
        };
        page.write_all_at(fault.suffix.as_bytes(), SUFFIX_AT as u64)
            .expect("the control page");
        for (word, number) in [
            (Word::SuffixLength, fault.suffix.len() as u64),
            (Word::Nth, fault.nth),
            (Word::Lasting, fault.lasts.into()),
            (Word::Error, fault.error),
            (Word::Seen, 0),
            (Word::Fired, 0),
            (Word::Fault, what),
        ] {
            put(&page, word, number);
        }
    }

    /// The disk is well again.
    ///
    /// # Panics
    /// When the control page cannot be written.
    pub fn lift(&self) {
        put(&self.page(), Word::Fault, 0);
    }

    /// Calls of the armed kind so far.
    pub fn seen(&self) -> u64 {
        get(&self.page(), Word::Seen)
    }

    /// Calls that failed so far.
    pub fn fired(&self) -> u64 {
        get(&self.page(), Word::Fired)
    }

    fn page(&self) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.control_file())
            .expect("the control page")
    }
}

fn put(page: &File, word: Word, number: u64) {
    page.write_all_at(&number.to_ne_bytes(), word as u64 * 8)
        .expect("the control page");
}

fn get(page: &File, word: Word) -> u64 {
    let mut bytes = [0; 8];
    page.read_exact_at(&mut bytes, word as u64 * 8)
        .expect("the control page");
    u64::from_ne_bytes(bytes)
}
