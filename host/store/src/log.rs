//! The log: everything that a native store knows, in the order in which it happened. It is the truth; the database beside it is an index
//! that is made from it, and can be made from it again.
//!
//! The log is a row of segment files that are only ever appended to. A record is what one group of work did: the facts and bodies of
//! the receipts that it admitted, and the changes that it made to the index, as statements with their values. Each record is sealed under
//! the store's key, and its seal covers the seal before it, so no record can be changed, removed or moved unseen, and bytes that a sender
//! put into a body are never taken for a record. `FORMAT.md` says what every byte is.
//!
//! Cast: `segment` is how records stand in files, `changes` how statements stand in records, [`Log`] appends, [`Scan`] reads in order,
//! and [`Contents`] reads the pieces that the index points at. Segments that are full are compressed, and `stored` reads them either way.

mod changes;
mod contents;
mod scan;
mod segment;
mod stored;

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tollgate_core::secret::Secret;

pub(crate) use self::changes::{Kind, Recording, apply};
pub(crate) use self::contents::Contents;
pub(crate) use self::scan::Scan;
pub(crate) use self::segment::{Applied, HEADER_BYTES, Mark, Segment};
use self::segment::{Header, Sealer};

/// What bounds a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// A segment that has this many bytes is followed by a new one.
    pub(crate) segment_bytes: u64,
    /// Bytes that the log may have in all.
    pub(crate) bytes_max: u64,
}

/// Where a log is, and under which key it is sealed.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The path of each segment, up to its position.
    stem: PathBuf,
    sealer: Sealer,
}

impl Place {
    pub(crate) fn new(stem: PathBuf, key: &Secret) -> Self {
        Self {
            stem,
            sealer: Sealer::new(key),
        }
    }
}

/// What one group of work brings into the log.
#[derive(Debug, Default)]
pub(crate) struct Group<'g> {
    /// Of receipts, as the index points at them; sealed.
    pub(crate) facts: Vec<&'g [u8]>,
    /// The receipts' bodies. The facts hold their digests, so they need no seal.
    pub(crate) bodies: &'g [Bytes],
    /// What it does to the index; sealed.
    pub(crate) changes: &'g [u8],
    /// How much of the disk it leaves to others.
    pub(crate) leaves: Leaves,
}

/// What a record leaves of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Nothing: a restart has the index follow the log, and frees what was leased.
    #[default]
    Nothing,
    /// Room for a restart.
    Restart,
    /// The same, and room for the work that events made: they are refused first.
    RestartAndWork,
}

/// Room for either is so many bytes, and no more than the 32nd part of the disk.
const ROOM_BYTES: u64 = 1024 * 1024;

/// The end of the log, where one process appends.
#[derive(Debug)]
pub(crate) struct Log {
    place: Place,
    file: File,
    path: PathBuf,
    /// Where the current segment begins.
    start: u64,
    /// Where the next record begins: behind the last one, or behind the header of a segment that has none.
    end: Mark,
    /// What an index that has every record was made from.
    applied: Applied,
    /// Up to where the log is on the disk for certain.
    synced: u64,
    bounds: Bounds,
}

impl Log {
    /// Opens the log behind its last record, which [`Scan`] found. What stands behind that is cut off; the caller has looked at it.
    ///
    /// # Errors
    /// When the files cannot be opened or made.
    pub(crate) fn open(place: Place, behind: Applied, bounds: Bounds) -> io::Result<Self> {
        let end = behind.end;
        let mut segments = segment::list(&place.stem)?;
        if let Some(newest) = segments.last()
            && segment::is_unfinished(newest, &place.sealer)?
        {
            // It is made again, when its turn comes.
            std::fs::remove_file(&newest.path)?;
            segments.pop();
        }
        let (start, path, file) = match segments.pop() {
            // It is full, and the index that came with it knows of no later one: what is restored from a backup may end so.
            Some(segment) if segment.is_compressed && segment.start + segment.bytes()? == end.position => {
                let (path, file) = segment::create(&place.stem, &place.sealer, end)?;
                (end.position, path, file)
            }
            Some(segment) if segment.start <= end.position && !segment.is_compressed => {
                let file = segment::open_to_append(&segment.path)?;
                let bytes = end.behind_header(segment.start).position - segment.start;
                if file.metadata()?.len() > bytes {
                    file.set_len(bytes)?;
                }
                (segment.start, segment.path, file)
            }
            Some(segment) => {
                return Err(io::Error::other(format!(
                    "{} does not end with the last record of the log that can be believed",
                    segment.path.display()
                )));
            }
            None => {
                let (path, file) = segment::create(&place.stem, &place.sealer, end)?;
                (end.position, path, file)
            }
        };
        Ok(Self {
            place,
            file,
            path,
            start,
            end: end.behind_header(start),
            applied: behind,
            synced: 0,
            bounds,
        })
    }

    /// Where the current segment begins.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// What an index that has every record was made from.
    pub(crate) fn applied(&self) -> Applied {
        self.applied
    }

    /// Makes ready for the next record, in a new segment where the current one is full. Returns where the record's facts will begin, and
    /// whether its segment is new: then no statement has a number in it yet.
    ///
    /// # Errors
    /// When a new segment cannot be made. Nothing was appended.
    pub(crate) fn begin(&mut self) -> io::Result<(u64, bool)> {
        let is_full = self.end.position - self.start >= self.bounds.segment_bytes;
        if is_full {
            self.sync()?;
            let (path, file) = segment::create(&self.place.stem, &self.place.sealer, self.end)?;
            self.start = self.end.position;
            self.path = path;
            self.file = file;
            self.end = self.end.behind_header(self.start);
        }
        let is_new = self.end.position == self.start + HEADER_BYTES;
        Ok((self.end.position + segment::RECORD_BYTES, is_new))
    }

    /// Appends a record. It is in the file then, and survives this process; see [`Self::sync`] for the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when there is no room; nothing was appended. Any other error: nobody knows what the file holds.
    pub(crate) fn append(&mut self, group: &Group<'_>) -> io::Result<()> {
        let too_long = |_| io::Error::other("a record is longer than four gigabytes");
        let length = |bytes: usize| u32::try_from(bytes).map_err(too_long);
        let mut crc = crc32fast::Hasher::new();
        group.bodies.iter().for_each(|body| crc.update(body));
        let header = Header {
            facts: length(group.facts.iter().map(|facts| facts.len()).sum())?,
            bodies: length(group.bodies.iter().map(Bytes::len).sum())?,
            changes: length(group.changes.len())?,
            crc: crc.finalize(),
        };
        let (head, seal) = header.sealed(&self.place.sealer, &self.end, &group.facts, group.changes);
        let position = self.end.position + header.record_bytes();
        if position > self.bounds.bytes_max || !self.has_room(header.record_bytes(), group.leaves) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut pieces = Vec::with_capacity(2 + group.facts.len() + group.bodies.len());
        pieces.push(IoSlice::new(&head));
        pieces.extend(group.facts.iter().map(|facts| IoSlice::new(facts)));
        pieces.extend(group.bodies.iter().map(|body| IoSlice::new(body)));
        pieces.push(IoSlice::new(group.changes));
        if let Err(error) = self.write_all(&mut pieces) {
            // Half of a record is none; it is taken away so that the disk has the room again. If that fails, the next record overwrites it.
            let _ = self.file.set_len(self.end.position - self.start);
            return Err(error);
        }
        let last = std::mem::replace(&mut self.end, Mark { position, seal });
        self.applied = Applied { end: self.end, last };
        Ok(())
    }

    /// Whether the disk has so many bytes, and what is to be left. One that does not say is full when it is full.
    fn has_room(&self, bytes: u64, leaves: Leaves) -> bool {
        rustix::fs::fstatvfs(&self.file).map_or(true, |disk| {
            let [free, all] = [disk.f_bavail, disk.f_blocks].map(|blocks| blocks.saturating_mul(disk.f_frsize));
            let room = ROOM_BYTES.min(all / 32);
            let left = match leaves {
                Leaves::Nothing => 0,
                Leaves::Restart => room,
                Leaves::RestartAndWork => 2 * room,
            };
            free >= bytes + left
        })
    }

    /// The pieces are not joined first: they are most of what a store writes.
    fn write_all(&self, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.end.position - self.start))?;
        while !pieces.is_empty() {
            match file.write_vectored(pieces) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut pieces, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes every record durable.
    ///
    /// # Errors
    /// Nobody knows then what the disk holds.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !self.is_synced() {
            self.file.sync_data()?;
            self.synced = self.end.position;
        }
        Ok(())
    }

    /// Whether every record is durable.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.end.position
    }

    /// Whether the file at the current segment's path is the one that records go to: one that was removed still takes writes, and all
    /// of them are gone with the process.
    pub(crate) fn is_in_place(&self) -> bool {
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let here = self.file.metadata().map(id);
        let there = std::fs::metadata(&self.path).map(id);
        matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    /// The current segment's file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// How the log's files are made: for the host's own user alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Writes a log's files from a position on again as they are, durably. Where the last process stopped because a sync had failed, what can be
/// read may be in the kernel's memory alone, and no later sync would write it.
///
/// # Errors
/// When they cannot be read or written.
pub(crate) fn write_again(place: &Place, from: u64) -> io::Result<()> {
    // What is compressed was durable before.
    for segment in segment::list(&place.stem)?
        .iter()
        .filter(|segment| !segment.is_compressed)
    {
        let file = segment::open_to_append(&segment.path)?;
        let bytes = file.metadata()?.len();
        if segment.start + bytes < from {
            continue;
        }
        let mut at = from.saturating_sub(segment.start);
        let mut piece = vec![0; 1024 * 1024];
        while at < bytes {
            let length = piece.len().min((bytes - at) as usize);
            file.read_exact_at(&mut piece[..length], at)?;
            file.write_all_at(&piece[..length], at)?;
            at += length as u64;
        }
        // The same for its size.
        file.set_len(bytes + 1)?;
        file.set_len(bytes)?;
        file.sync_all()?;
    }
    segment::sync_folder(&place.stem)
}

/// Keeps what stands behind the last record that can be believed, if more records stand there: then it is not what a crash leaves of one
/// write, but another history of this store, and nothing of it may be overwritten unseen. Returns where it is kept.
///
/// # Errors
/// When it cannot be read or kept.
pub(crate) fn set_aside(place: &Place, end: Mark) -> io::Result<Option<PathBuf>> {
    let Some(newest) = segment::list(&place.stem)?.pop().filter(|newest| !newest.is_compressed) else {
        return Ok(None);
    };
    let file = File::open(&newest.path)?;
    let (from, bytes) = (end.position.saturating_sub(newest.start), file.metadata()?.len());
    if !segment::holds_records(&file, from..bytes)? {
        return Ok(None);
    }
    let mut kept = newest.path.clone().into_os_string();
    kept.push(format!(".tail-{}", end.position));
    let kept = PathBuf::from(kept);
    let mut copy = private().write(true).create(true).truncate(true).open(&kept)?;
    let mut at = from;
    let mut piece = vec![0; 1024 * 1024];
    while at < bytes {
        let length = piece.len().min((bytes - at) as usize);
        file.read_exact_at(&mut piece[..length], at)?;
        copy.write_all(&piece[..length])?;
        at += length as u64;
    }
    copy.sync_all()?;
    Ok(Some(kept))
}

/// The log's segments in order.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn segments(place: &Place) -> io::Result<Vec<Segment>> {
    segment::list(&place.stem)
}

/// How many bytes the log has, as far as its files tell.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn bytes(place: &Place) -> io::Result<u64> {
    Ok(match segment::list(&place.stem)?.pop() {
        Some(newest) => newest.start + newest.bytes()?,
        None => 0,
    })
}

/// Compresses every full segment that is not yet, the oldest first: all but the newest, which is appended to. `goes_on` is asked now and then.
///
/// # Errors
/// What kept a segment from being compressed; it stays as it is. [`io::ErrorKind::StorageFull`] where there is no room for both.
pub(crate) fn compress_full(place: &Place, contents: &Contents, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    let segments = segment::list(&place.stem)?;
    let full = segments.split_last().map_or(&[][..], |(_, full)| full);
    for segment in full.iter().filter(|segment| !segment.is_compressed) {
        let plain = File::open(&segment.path)?;
        // Room for a copy that did not become smaller, beside the rooms that events and a restart have.
        let disk = rustix::fs::fstatvfs(&plain)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < plain.metadata()?.len() + 4 * ROOM_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let compressed = segment::compressed_path(&segment.path);
        let mut unfinished = compressed.clone().into_os_string();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        if let Err(error) = stored::compress(&plain, &unfinished, goes_on) {
            let _ = std::fs::remove_file(&unfinished);
            return Err(error);
        }
        std::fs::rename(&unfinished, &compressed)?;
        segment::sync_folder(&place.stem)?;
        std::fs::remove_file(&segment.path)?;
        // Whoever reads through this process opens the new one, and the disk has the old one's room again.
        contents.close(segment.start);
    }
    Ok(())
}
