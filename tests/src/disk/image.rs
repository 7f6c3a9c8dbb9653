//! What a disk may hold after the power went, worked out from a recording.
//!
//! The model, which is harsher than any one file system:
//!
//! * A sector of 512 bytes holds what it held after the last sync of its file that ended well, or what any later write to it made
//!   of it: each sector by itself, so that writes are dropped, torn and reordered. A sector itself is never torn, and the bytes beside a
//!   written one in its sector stay: SQLite and every journaling file system ask that of a disk as well.
//! * A sync covers what was done to its file before it began, once it has ended. One that failed covers nothing, and no later one covers
//!   what it should have: the system may have dropped those pages. A sync under way when another begins and fails says what is so of
//!   what came before its own beginning: systems tell of a failure whoever waits then.
//! * A file's size is the synced one or any later one, whatever became of the data. Where the size came and the data did not, there
//!   are zeros or bytes of somebody else's.
//! * A name in the folder is what it was at the last sync of the folder, or any later one, each name by itself; syncing a file does
//!   nothing for its name.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use super::recording::{Operation, Recording};
use crate::random::Random;

const SECTOR_BYTES: usize = 512;

/// Files that mean nothing after a restart: memory that processes share, and a lock.
const MEANS_NOTHING: [&str; 2] = ["-shm", ".lock"];

/// The files of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub files: BTreeMap<String, Vec<u8>>,
}

/// What became of the things that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Nothing,
    /// Everything, as after a kill.
    All,
    /// All up to somewhere, and of the write there some sectors.
    Torn,
    /// Late writes and not the early ones.
    Reordered,
    /// Any sector, any size, any name.
    Random,
    /// The same, and somebody else's bytes where a file grew.
    Stale,
}

impl Outcome {
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::All,
        Self::Torn,
        Self::Reordered,
        Self::Random,
        Self::Stale,
    ];
}

type Sector = [u8; SECTOR_BYTES];

/// A value as of the last sync, and the later ones by the number of the operation that made them.
#[derive(Debug, Clone)]
struct Versions<T> {
    durable: T,
    later: Vec<(usize, T)>,
    /// Syncs that failed: when each began, and how many of `later` it should have covered.
    doubts: Vec<(usize, usize)>,
}

impl<T: Clone> Versions<T> {
    fn new(durable: T) -> Self {
        Self {
            durable,
            later: Vec::new(),
            doubts: Vec::new(),
        }
    }

    fn newest(&self) -> &T {
        self.later.last().map_or(&self.durable, |(_, value)| value)
    }

    fn push(&mut self, number: usize, value: T) {
        self.later.push((number, value));
    }

    /// A sync that began at `number` has ended well. What failed after that began was another sync's to report.
    fn synced(&mut self, number: usize) {
        let covered = self.meant(number);
        let before = self.doubts.iter().take_while(|(began, _)| *began < number);
        let doubtful = before.map(|(_, meant)| *meant).max().unwrap_or(0);
        if covered > doubtful {
            let kept = self.later.split_off(covered);
            if let Some((_, value)) = self.later.pop() {
                self.durable = value;
            }
            self.later = kept;
            self.doubts.retain_mut(|(_, meant)| {
                *meant = meant.saturating_sub(covered);
                *meant > 0
            });
        }
    }

    /// A sync that began at `number` has failed.
    fn sync_failed(&mut self, number: usize) {
        let meant = self.meant(number);
        let at = self.doubts.partition_point(|(began, _)| *began < number);
        if self.doubts[..at].iter().all(|(_, known)| *known < meant) && meant > 0 {
            self.doubts.insert(at, (number, meant));
        }
    }

    /// How many of `later` a sync covers that begins at `number`.
    fn meant(&self, number: usize) -> usize {
        self.later.iter().take_while(|(at, _)| *at < number).count()
    }

    fn choose(&self, choice: &mut Choice<'_>) -> &T {
        let version = match choice.outcome {
            Outcome::Nothing => 0,
            Outcome::All => self.later.len(),
            Outcome::Torn => {
                let whole = self.later.iter().take_while(|(at, _)| *at < choice.cut).count();
                let torn = self.later.get(whole).is_some_and(|(at, _)| *at == choice.cut);
                whole + usize::from(torn && choice.random.below(2) == 0)
            }
            Outcome::Reordered => match self.later.last() {
                Some((at, _)) if *at >= choice.cut => self.later.len(),
                _ => 0,
            },
            Outcome::Random | Outcome::Stale => choice.random.below(self.later.len() as u64 + 1) as usize,
        };
        match version.checked_sub(1) {
            Some(later) => &self.later[later].1,
            None => &self.durable,
        }
    }
}

struct Choice<'a> {
    outcome: Outcome,
    /// The number of the operation where a torn or reordered outcome is cut.
    cut: usize,
    random: &'a mut Random,
}

#[derive(Debug, Clone)]
struct File {
    size: Versions<u64>,
    /// Those that were ever written; the others are zeros.
    sectors: BTreeMap<u64, Versions<Sector>>,
    /// Those of `sectors` with later versions.
    unsynced: Vec<u64>,
}

impl File {
    fn new(bytes: &[u8]) -> Self {
        let sectors = bytes.chunks(SECTOR_BYTES).enumerate().map(|(number, chunk)| {
            let mut sector = [0; SECTOR_BYTES];
            sector[..chunk.len()].copy_from_slice(chunk);
            (number as u64, Versions::new(sector))
        });
        Self {
            size: Versions::new(bytes.len() as u64),
            sectors: sectors.collect(),
            unsynced: Vec::new(),
        }
    }

    fn change(&mut self, operation: usize, sector: u64, change: impl FnOnce(&mut Sector)) {
        let versions = self
            .sectors
            .entry(sector)
            .or_insert_with(|| Versions::new([0; SECTOR_BYTES]));
        let mut new = *versions.newest();
        change(&mut new);
        if versions.later.is_empty() {
            self.unsynced.push(sector);
        }
        versions.push(operation, new);
    }

    fn write(&mut self, operation: usize, at: u64, mut bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        let mut position = at;
        while !bytes.is_empty() {
            let within = (position % SECTOR_BYTES as u64) as usize;
            let (now, rest) = bytes.split_at(bytes.len().min(SECTOR_BYTES - within));
            self.change(operation, position / SECTOR_BYTES as u64, |sector| {
                sector[within..within + now.len()].copy_from_slice(now);
            });
            position += now.len() as u64;
            bytes = rest;
        }
        // What is written behind the synced end makes the file longer when it gets to the disk, though a write that never got there
        // was as long; and so does what is written behind a cut that is not synced.
        if end > self.size.durable || end > *self.size.newest() {
            self.size.push(operation, end.max(*self.size.newest()));
        }
    }

    fn truncate(&mut self, operation: usize, size: u64) {
        let first = size / SECTOR_BYTES as u64;
        let within = (size % SECTOR_BYTES as u64) as usize;
        let cut: Vec<u64> = self.sectors.range(first..).map(|(sector, _)| *sector).collect();
        for sector in cut {
            let from = if sector == first { within } else { 0 };
            self.change(operation, sector, |sector| sector[from..].fill(0));
        }
        self.size.push(operation, size);
    }

    fn each_unsynced(&mut self, mut act: impl FnMut(&mut Versions<Sector>)) {
        let sectors = &mut self.sectors;
        self.unsynced.retain(|number| {
            sectors.get_mut(number).is_some_and(|versions| {
                act(versions);
                !versions.later.is_empty()
            })
        });
    }

    fn outcome(&self, choice: &mut Choice<'_>) -> Vec<u8> {
        let size = *self.size.choose(choice) as usize;
        let mut bytes = vec![0; size];
        for (number, versions) in &self.sectors {
            let start = *number as usize * SECTOR_BYTES;
            let Some(place) = bytes.get_mut(start..) else { break };
            let length = place.len().min(SECTOR_BYTES);
            let chosen = versions.choose(choice);
            place[..length].copy_from_slice(&chosen[..length]);
            // Where the file grew, what was not written is whatever the disk had there.
            let grew = start as u64 >= self.size.durable;
            if choice.outcome == Outcome::Stale && grew && *chosen == versions.durable {
                place[..length].fill_with(|| choice.random.number() as u8);
            }
        }
        bytes
    }
}

/// The disk at one moment of a recording.
#[derive(Debug, Clone)]
pub struct Model<'a> {
    recording: &'a Recording,
    /// Operations done.
    done: usize,
    files: Vec<File>,
    /// Which of `files` an inode is now.
    inodes: BTreeMap<u64, usize>,
    names: BTreeMap<String, Versions<Option<usize>>>,
    /// Syncs under way: the operation that began them.
    syncs: BTreeMap<u64, usize>,
    /// Whose syncs do nothing, by name: the folder's is `.`.
    ignores: fn(&str) -> bool,
}

impl<'a> Model<'a> {
    /// The disk before the first operation. `ignores` names the files whose syncs do nothing.
    pub fn new(recording: &'a Recording, ignores: fn(&str) -> bool) -> Self {
        let mut model = Self {
            recording,
            done: 0,
            files: Vec::new(),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            syncs: BTreeMap::new(),
            ignores,
        };
        for (inode, name, bytes) in &recording.base {
            model.inodes.insert(*inode, model.files.len());
            model.names.insert(name.clone(), Versions::new(Some(model.files.len())));
            model.files.push(File::new(bytes));
        }
        model
    }

    /// Does the next operation, and says which it was.
    pub fn step(&mut self) -> Option<&'a Operation> {
        let number = self.done;
        let operation = self.recording.operations.get(number)?;
        self.done += 1;
        match operation {
            Operation::Create { inode, name } => {
                self.inodes.insert(*inode, self.files.len());
                self.name(number, name, Some(self.files.len()));
                self.files.push(File::new(&[]));
            }
            Operation::Write { inode, at, bytes } => {
                let bytes = self.recording.bytes(bytes);
                if let Some(file) = self.file(*inode) {
                    file.write(number, *at, bytes);
                }
            }
            Operation::Truncate { inode, size } => {
                if let Some(file) = self.file(*inode) {
                    file.truncate(number, *size);
                }
            }
            Operation::Sync { number: sync, .. } => {
                self.syncs.insert(*sync, number);
            }
            Operation::Synced { inode, number: sync } => {
                if let Some(began) = self.syncs.remove(sync)
                    && !self.is_ignored(*inode)
                {
                    self.synced(*inode, began);
                }
            }
            Operation::SyncFailed { inode, number: sync } => {
                if let Some(began) = self.syncs.remove(sync) {
                    self.sync_failed(*inode, began);
                }
            }
            Operation::Unlink { name } => self.name(number, name, None),
            Operation::Rename { from, to } => {
                let file = self.names.get(from).and_then(|file| *file.newest());
                self.name(number, from, None);
                self.name(number, to, file);
            }
            Operation::Open { .. } | Operation::Said(_) | Operation::Fault { .. } => {}
        }
        Some(operation)
    }

    /// Operations done so far.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The disk as it may be found when the power goes now.
    pub fn crash(&self, outcome: Outcome, random: &mut Random) -> Image {
        let unsynced: Vec<usize> = self.unsynced();
        let cut = random.below(unsynced.len() as u64) as usize;
        let mut choice = Choice {
            outcome,
            cut: unsynced.get(cut).copied().unwrap_or(self.done),
            random,
        };
        let mut files = BTreeMap::new();
        for (name, versions) in &self.names {
            let means_something = !MEANS_NOTHING.iter().any(|suffix| name.ends_with(suffix));
            if let Some(file) = versions.choose(&mut choice).filter(|_| means_something) {
                files.insert(name.clone(), self.files[file].outcome(&mut choice));
            }
        }
        Image { files }
    }

    /// The operations whose effect is not durable.
    fn unsynced(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = Vec::new();
        for file in &self.files {
            numbers.extend(file.size.later.iter().map(|(number, _)| *number));
            let sectors = file.unsynced.iter().filter_map(|sector| file.sectors.get(sector));
            numbers.extend(sectors.flat_map(|sector| sector.later.iter().map(|(number, _)| *number)));
        }
        for name in self.names.values() {
            numbers.extend(name.later.iter().map(|(number, _)| *number));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    fn file(&mut self, inode: u64) -> Option<&mut File> {
        self.files.get_mut(*self.inodes.get(&inode)?)
    }

    fn name(&mut self, number: usize, name: &str, file: Option<usize>) {
        self.names
            .entry(name.to_owned())
            .or_insert_with(|| Versions::new(None))
            .push(number, file);
    }

    fn is_ignored(&self, inode: u64) -> bool {
        let file = self.inodes.get(&inode);
        let mut names = self.names.iter().filter(|(_, versions)| {
            let is_it = |value: &Option<usize>| value.is_some() && value.as_ref() == file;
            is_it(&versions.durable) || versions.later.iter().any(|(_, value)| is_it(value))
        });
        match inode {
            0 => (self.ignores)("."),
            _ => names.any(|(name, _)| (self.ignores)(name)),
        }
    }

    fn synced(&mut self, inode: u64, began: usize) {
        if inode == 0 {
            self.names.values_mut().for_each(|name| name.synced(began));
        } else if let Some(file) = self.file(inode) {
            file.size.synced(began);
            file.each_unsynced(|sector| sector.synced(began));
        }
    }

    fn sync_failed(&mut self, inode: u64, began: usize) {
        if inode == 0 {
            self.names.values_mut().for_each(|name| name.sync_failed(began));
        } else if let Some(file) = self.file(inode) {
            file.size.sync_failed(began);
            file.each_unsynced(|sector| sector.sync_failed(began));
        }
    }
}

impl Image {
    /// Writes the files into an empty folder.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write_into(&self, folder: &Path) {
        for (name, bytes) in &self.files {
            fs::write(folder.join(name), bytes).expect("a file of an image");
        }
    }

    /// The files of a folder that mean something.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn read_from(folder: &Path) -> Self {
        let files = fs::read_dir(folder).expect("a folder").filter_map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            // A folder beside the store's files is the configuration's.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let means_something = is_file && !MEANS_NOTHING.iter().any(|suffix| name.ends_with(suffix));
            means_something.then(|| (name, fs::read(entry.path()).expect("a file")))
        });
        Self { files: files.collect() }
    }

    /// Tells images apart.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.hash(&mut hasher);
        hasher.finish()
    }

    /// Where this differs from what is really there, in words.
    pub fn differences(&self, real: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (name, bytes) in &real.files {
            match self.files.get(name) {
                None => differences.push(format!("{name} is there")),
                Some(known) if known == bytes => {}
                Some(known) => {
                    let at = known.iter().zip(bytes).position(|(left, right)| left != right);
                    let (length, real) = (known.len(), bytes.len());
                    differences.push(format!("{name}: {length} bytes and {real}, first other at {at:?}"));
                }
            }
        }
        let gone = self.files.keys().filter(|name| !real.files.contains_key(*name));
        differences.extend(gone.map(|name| format!("{name} is not there")));
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::{File, Versions};

    #[test]
    fn a_file_that_was_cut_and_written_again_is_as_long_as_its_end_though_it_was_longer_on_the_disk() {
        let mut file = File::new(&[7; 300]);
        file.truncate(1, 100);
        file.write(2, 100, &[8; 50]);
        assert_eq!((file.size.durable, *file.size.newest()), (300, 150));
        file.size.synced(3);
        assert_eq!(file.size.durable, 150);
    }

    fn written() -> Versions<u8> {
        let mut versions = Versions::new(0);
        versions.push(1, 1);
        versions
    }

    #[test]
    fn a_sync_makes_durable_what_came_before_it_began() {
        let mut versions = written();
        versions.push(3, 2);
        versions.synced(2);
        assert_eq!((versions.durable, versions.later), (1, vec![(3, 2)]));
    }

    #[test]
    fn no_sync_makes_up_for_an_earlier_one_that_failed() {
        let mut versions = written();
        versions.sync_failed(2);
        versions.synced(3);
        assert_eq!(versions.durable, 0);
        // Until it is written again.
        versions.push(4, 2);
        versions.synced(5);
        assert_eq!(versions.durable, 2);
    }

    #[test]
    fn a_failure_that_began_later_takes_nothing_from_a_sync_under_way() {
        let mut versions = written();
        versions.push(3, 2);
        versions.sync_failed(4);
        versions.synced(2);
        assert_eq!(versions.durable, 1);
        versions.synced(5);
        assert_eq!(versions.durable, 1, "the rest was not made durable");
    }
}
