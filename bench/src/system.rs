//! Folders and ports for servers, signals to them, and what the kernel counts of their processes.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

/// Prints a line about what goes on, on standard error.
#[expect(clippy::print_stderr, reason = "a tool for the terminal")]
pub(super) fn say(line: &str) {
    eprintln!("{line}");
}

/// Sends a signal to a process that leads a group, and to the group.
pub(super) fn signal(name: &str, leader: u32) -> anyhow::Result<()> {
    // With `-s`, since not every shell takes `--` after a signal that is named otherwise.
    let script = format!("kill -s {name} -- -{leader}");
    let status = Command::new("sh").args(["-c", &script]).status()?;
    anyhow::ensure!(status.success(), "no {name} for the server: {status}");
    Ok(())
}

/// Processor time, in microseconds, of servers that have ended.
static SPENT_US: AtomicU64 = AtomicU64::new(0);

/// Adds to what the servers of this process have used.
pub(super) fn spent(time: Duration) {
    SPENT_US.fetch_add(u64::try_from(time.as_micros()).unwrap_or(0), Ordering::Relaxed);
}

/// What the servers that were started and ended until now have used.
pub(super) fn spent_by_servers() -> Duration {
    Duration::from_micros(SPENT_US.load(Ordering::Relaxed))
}

/// A port that nobody listens on now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Where servers keep what they keep: beside the binaries, since a temporary directory may be memory, on which an fsync costs nothing.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("the program is in no folder")?.to_owned())
}

pub(super) fn empty_folder() -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(folder()?)?)
}

/// What a process (its id, or `self`) holds in memory.
pub(super) fn resident_bytes(process: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// One process, as the kernel tells of it.
pub(super) struct Stat {
    parent: u32,
    /// User and system time of its threads.
    pub(super) own: Duration,
    /// The same of children that ended and were waited for, and of theirs.
    pub(super) ended: Duration,
}

/// Of a process (its id, or `self`).
pub(super) fn stat(process: &str) -> anyhow::Result<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may hold spaces; what follows it begins with field 3.
    let fields: Vec<&str> = stat.rsplit_once(") ").context("no stat line")?.1.split(' ').collect();
    let field =
        |number: usize| -> anyhow::Result<u64> { Ok(fields.get(number - 3).context("a short stat line")?.parse()?) };
    // USER_HZ is 100 on every Linux that Tollgate is measured on.
    let time = |first: usize| anyhow::Ok(Duration::from_millis((field(first)? + field(first + 1)?) * 10));
    Ok(Stat {
        parent: u32::try_from(field(4)?)?,
        own: time(14)?,
        ended: time(16)?,
    })
}

/// Of a process and all that it started, living or waited for.
pub(super) fn tree_cpu_time(root: u32) -> anyhow::Result<Duration> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        // A process may end while it is looked at.
        if let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok())
            && let Ok(stat) = stat(&pid.to_string())
        {
            all.insert(pid, stat);
        }
    }
    anyhow::ensure!(all.contains_key(&root), "the server is gone");
    let within = |pid: u32| {
        let mut pid = Some(pid);
        while let Some(id) = pid.filter(|id| *id != root) {
            pid = all.get(&id).map(|stat| stat.parent).filter(|parent| *parent != 0);
        }
        pid.is_some()
    };
    let times = all.iter().filter(|(pid, _)| within(**pid));
    Ok(times.map(|(_, stat)| stat.own + stat.ended).sum())
}

pub(super) fn folder_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A database's log may go while it is looked at.
        let Ok(about) = entry.metadata() else { continue };
        bytes += if about.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}
