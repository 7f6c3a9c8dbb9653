//! Where and on what something was measured, and whether the machine had other work meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tollgate_core::time::UnixMillis;

use super::system::{folder, spent_by_servers, stat};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) processor: String,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
    /// Of the folder where stores are kept.
    pub(super) file_system: String,
}

impl Machine {
    pub(super) fn this() -> anyhow::Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let (processors, memory) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
        let line = |text: &str, key: &str| {
            let mut lines = text.lines();
            lines
                .find_map(|line| Some(line.strip_prefix(key)?.split_once(':')?.1.trim().to_owned()))
                .unwrap_or_else(|| "unknown".to_owned())
        };
        let memory_kib = line(&memory, "MemTotal");
        let memory_kib: u64 = memory_kib.trim_end_matches(" kB").parse()?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: line(&processors, "model name"),
            memory_gib: (memory_kib + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(&folder()?.canonicalize()?, &read("/proc/self/mounts")?),
        })
    }
}

/// The file system that `path` is on: of the mount whose folder is the longest that it is in.
fn file_system(path: &Path, mounts: &str) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    mounts
        .filter(|(place, _)| path.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map_or("unknown", |(_, kind)| kind)
        .to_owned()
}

/// The commit that is checked out, and whether files differ from it; the report's own files do not count.
pub(super) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(tollgate_tests::root())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    match git(&["status", "--porcelain", "--", ".", ":!docs/performance.*"]) {
        Some(changes) if changes.is_empty() => hash,
        _ => format!("{hash}, dirty"),
    }
}

/// Today, as in 2026-01-31.
pub(super) fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    UnixMillis(millis).to_string().chars().take(10).collect()
}

/// Watches how much processor time goes to anything but the servers that are measured and this program.
pub(super) struct Watch {
    start: Instant,
    busy: Duration,
    ours: Duration,
}

impl Watch {
    pub(super) fn begin() -> anyhow::Result<Self> {
        Ok(Self {
            start: Instant::now(),
            busy: busy()?,
            ours: ours()?,
        })
    }

    /// What others used, in per cent of the machine. The kernel's own threads, which write to the disk, are among them.
    pub(super) fn others_per_cent(&self) -> anyhow::Result<f64> {
        let others = (busy()? - self.busy).saturating_sub(ours()? - self.ours);
        let all = self.start.elapsed().as_secs_f64() * std::thread::available_parallelism()?.get() as f64;
        Ok(others.as_secs_f64() * 100.0 / all)
    }

    pub(super) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

fn ours() -> anyhow::Result<Duration> {
    Ok(stat("self")?.own + spent_by_servers())
}

/// Of all processors since the machine was started, in any state but idle; what a hypervisor took away counts.
fn busy() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = text
        .lines()
        .next()
        .context("no processors")?
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [user, nice, system, _idle, _waiting, hard, soft, stolen] = fields[..] else {
        anyhow::bail!("a short line of processors")
    };
    Ok(Duration::from_millis(
        (user + nice + system + hard + soft + stolen) * 10,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_on_the_deepest_mount_above_it() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
        for (path, expect) in [
            ("/srv/x", "ext4"),
            ("/tmp/x", "tmpfs"),
            ("/tmp/disk/x", "xfs"),
            ("/tmp/disks", "tmpfs"),
        ] {
            assert_eq!(file_system(Path::new(path), mounts), expect, "{path}");
        }
    }
}
