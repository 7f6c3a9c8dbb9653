//! Who keeps the WAL from being emptied. A reader's snapshot pins it: nothing that is newer than what somebody reads is moved
//! into the file, and the WAL grows with every commit until the reader is done. A shell that was left in a transaction, or a copy
//! that hangs, does that for ever, and the host cannot end it; it can say who it is.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use crate::reminder::Reminder;

/// The bytes of the WAL's index (`-shm`) that readers lock, one of them each (SQLite's `WAL_READ_LOCK`, 120 bytes and 3 locks in).
const READ_LOCKS: std::ops::RangeInclusive<u64> = 123..=127;
/// That the WAL is kept from being emptied.
#[derive(Debug)]
pub(super) struct Pin {
    since: Instant,
    reminder: Reminder,
}

impl Pin {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            reminder: Reminder::default(),
        }
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether it is time to say it, for the first time or again.
    pub(super) fn is_to_be_said(&mut self) -> bool {
        self.reminder.is_due(Instant::now())
    }
}

/// In words, which processes read the database whose WAL's index is at `index`, as the kernel knows its locks.
pub(super) fn readers(index: &Path) -> String {
    let pids = std::fs::metadata(index)
        .ok()
        .zip(std::fs::read_to_string("/proc/locks").ok())
        .map(|(index, locks)| holders(&locks, index.dev(), index.ino()))
        .unwrap_or_default();
    if pids.is_empty() {
        return "a process that the system does not name (one of another container, or that has ended by now)"
            .to_owned();
    }
    let named = pids.into_iter().map(|pid| {
        if pid == std::process::id() {
            return format!("this host itself (process {pid}): a long question or a backup");
        }
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
        format!("process {pid} ({name})")
    });
    named.collect::<Vec<_>>().join(", ")
}

/// The processes that hold a reader's lock on the file of this device and number, from the text of `/proc/locks`.
fn holders(locks: &str, device: u64, inode: u64) -> BTreeSet<u32> {
    let place = format!(
        "{:02x}:{:02x}:{inode}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    locks
        .lines()
        .filter_map(|line| {
            // 1: POSIX  ADVISORY  READ 1234 fd:01:5678 124 124
            let mut words = line.split_whitespace().skip_while(|word| *word != "READ").skip(1);
            let pid = words.next()?.parse().ok()?;
            let is_ours = words.next()? == place;
            let first: u64 = words.next()?.parse().ok()?;
            (is_ours && READ_LOCKS.contains(&first)).then_some(pid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_told_from_other_locks_of_the_same_file() {
        let locks = "1: POSIX  ADVISORY  READ 11 fd:01:77 124 124\n\
                     2: POSIX  ADVISORY  READ 12 fd:01:77 128 128\n\
                     3: POSIX  ADVISORY  WRITE 13 fd:01:77 123 123\n\
                     4: FLOCK  ADVISORY  WRITE 14 fd:01:77 0 EOF\n\
                     5: -> POSIX  ADVISORY  READ 15 fd:01:77 123 123\n\
                     6: POSIX  ADVISORY  READ 16 fd:01:78 124 124\n\
                     7: POSIX  ADVISORY  READ -1 fd:01:77 124 124\n";
        let device = rustix::fs::makedev(0xfd, 1);
        assert_eq!(holders(locks, device, 77), BTreeSet::from([11, 15]));
        assert!(holders("", device, 77).is_empty());
        assert!(holders("READ", device, 77).is_empty());
    }
}
