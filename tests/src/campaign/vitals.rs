//! What the kernel says of a running host and its files.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often the most is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// What a process holds in memory now; 0 when there is none.
pub fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
        * 1024
}

/// The length of a file; 0 when there is none.
pub fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// The files of a store: the database and what stands beside it.
pub fn store_files(database: &Path) -> Vec<PathBuf> {
    let (folder, name) = (database.parent(), database.file_name());
    let (Some(folder), Some(name)) = (folder, name) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|found| found.to_string_lossy().starts_with(&*name))
        })
        .collect()
}

/// How often `needle` stands in a file, read as bytes.
pub fn occurrences(path: &Path, needle: &[u8]) -> usize {
    const PIECE: usize = 1 << 20;
    let Ok(mut file) = fs::File::open(path) else { return 0 };
    let mut window: Vec<u8> = Vec::with_capacity(PIECE + needle.len());
    let mut found = 0;
    loop {
        let before = window.len();
        let read = file.by_ref().take(PIECE as u64).read_to_end(&mut window).unwrap_or(0);
        if read == 0 {
            return found;
        }
        // What was left over is shorter than the needle, so nothing is counted twice.
        debug_assert!(before < needle.len().max(1));
        found += window.windows(needle.len()).filter(|bytes| *bytes == needle).count();
        let keep = (needle.len() - 1).min(window.len());
        window.drain(..window.len() - keep);
    }
}

/// Watches the most memory that a process holds and the longest that a file gets, until it is asked.
pub struct Watch {
    stop: Arc<AtomicBool>,
    resident: Arc<AtomicU64>,
    file: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn over(process: u32, path: PathBuf) -> Self {
        let (stop, resident, file) = (
            Arc::<AtomicBool>::default(),
            Arc::<AtomicU64>::default(),
            Arc::<AtomicU64>::default(),
        );
        let (stopped, most, longest) = (Arc::clone(&stop), Arc::clone(&resident), Arc::clone(&file));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                most.fetch_max(resident_bytes(process), Ordering::Relaxed);
                longest.fetch_max(file_bytes(&path), Ordering::Relaxed);
                thread::sleep(LOOK);
            }
        });
        Self {
            stop,
            resident,
            file,
            thread: Some(thread),
        }
    }

    /// The most since the last time it was asked: resident bytes, bytes of the file.
    pub fn most(&self) -> (u64, u64) {
        (
            self.resident.swap(0, Ordering::Relaxed),
            self.file.swap(0, Ordering::Relaxed),
        )
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Lets this process, and what it starts from now on, have as many files open as it may. Answers how many.
pub fn open_files_as_many_as_possible() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let reached = if setrlimit(Resource::Nofile, raised).is_ok() {
        maximum
    } else {
        current
    };
    reached.unwrap_or(u64::MAX)
}

/// Bytes for people.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}
