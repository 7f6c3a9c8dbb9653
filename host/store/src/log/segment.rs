//! How records stand in segment files. `FORMAT.md` has the same as a table.
//!
//! A position counts the bytes of all segments, their headers included, from the first on. A segment's file is named by the position at
//! which it begins, in hexadecimal, so that the order of names is the order of segments.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tollgate_core::secret::Secret;

use super::stored::Stored;

/// The first bytes of a segment, with the format's number.
const SEGMENT_MAGIC: [u8; 8] = *b"tollgat1";
/// The first bytes of a record.
const RECORD_MAGIC: [u8; 4] = *b"tgr1";
/// What stands before a segment's first record: the magic, where it begins, the seal before it, and its own seal.
pub(crate) const HEADER_BYTES: u64 = 8 + 8 + 32 + 32;
/// What stands before a record's facts: the magic, three lengths, the checksum of the bodies, and the seal.
pub(super) const RECORD_BYTES: u64 = 4 + 3 * 4 + 4 + 32;
/// What a compressed segment's name ends with.
const COMPRESSED: &str = ".zst";
/// HMAC-SHA-256 of a record and the seal before it.
pub(crate) type Seal = [u8; 32];

/// A place in the log between two records, and the seal of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: u64,
    pub(crate) seal: Seal,
}

impl Mark {
    /// Before the first record.
    pub(crate) const BEGIN: Self = Self {
        position: 0,
        seal: [0; 32],
    };

    fn from_bytes(bytes: &[u8; 40]) -> Self {
        let (position, seal) = bytes.split_at(8);
        let mut mark = Self::BEGIN;
        mark.position = u64::from_le_bytes(position.try_into().unwrap_or_default());
        mark.seal.copy_from_slice(seal);
        mark
    }

    /// The same place, where it is the beginning of a segment: behind the segment's header.
    pub(super) fn behind_header(self, start: u64) -> Self {
        Self {
            position: self.position.max(start + HEADER_BYTES),
            ..self
        }
    }
}

/// Up to where an index was made from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Behind the last record that the index has.
    pub(crate) end: Mark,
    /// Before that record, so that it can be found whether the log is the one that the index was made from.
    pub(crate) last: Mark,
}

impl Applied {
    /// Nothing.
    pub(crate) const NOTHING: Self = Self {
        end: Mark::BEGIN,
        last: Mark::BEGIN,
    };

    /// As `meta` has it.
    pub(crate) fn to_bytes(self) -> [u8; 80] {
        let mut bytes = [0; 80];
        for (mark, at) in [(self.end, 0), (self.last, 40)] {
            bytes[at..at + 8].copy_from_slice(&mark.position.to_le_bytes());
            bytes[at + 8..at + 40].copy_from_slice(&mark.seal);
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (end, last) = bytes.split_first_chunk()?;
        Some(Self {
            end: Mark::from_bytes(end),
            last: Mark::from_bytes(last.try_into().ok()?),
        })
    }
}

/// Seals under a key of its own, which is made from the store's.
#[derive(Debug, Clone)]
pub(super) struct Sealer(Secret);

impl Sealer {
    pub(super) fn new(key: &Secret) -> Self {
        let seal = mac(key, &[b"tollgate log seal 1"]);
        Self(Secret::new(seal.to_vec()))
    }

    pub(super) fn seal(&self, pieces: &[&[u8]]) -> Seal {
        mac(&self.0, pieces)
    }
}

fn mac(key: &Secret, pieces: &[&[u8]]) -> Seal {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    pieces.iter().for_each(|piece| mac.update(piece));
    mac.finalize().into_bytes().into()
}

/// What a record says of itself before its facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) facts: u32,
    pub(super) bodies: u32,
    pub(super) changes: u32,
    /// CRC-32 of the bodies: a write that was stopped is known by it. What a body must be, its receipt's facts say.
    pub(super) crc: u32,
}

impl Header {
    /// The bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        RECORD_BYTES + u64::from(self.facts) + u64::from(self.bodies) + u64::from(self.changes)
    }

    fn plain(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        for (at, number) in [self.facts, self.bodies, self.changes, self.crc]
            .into_iter()
            .enumerate()
        {
            bytes[4 + 4 * at..8 + 4 * at].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The header's bytes, with the seal that the record has behind `before`.
    pub(super) fn sealed(
        &self,
        sealer: &Sealer,
        before: &Mark,
        facts: &[&[u8]],
        changes: &[u8],
    ) -> ([u8; RECORD_BYTES as usize], Seal) {
        let plain = self.plain();
        let position = before.position.to_le_bytes();
        let mut pieces: Vec<&[u8]> = vec![&before.seal, &position, &plain];
        pieces.extend_from_slice(facts);
        pieces.push(changes);
        let seal = sealer.seal(&pieces);
        let mut bytes = [0; RECORD_BYTES as usize];
        bytes[..20].copy_from_slice(&plain);
        bytes[20..].copy_from_slice(&seal);
        (bytes, seal)
    }

    /// Nothing where no record begins.
    pub(super) fn read(bytes: &[u8; RECORD_BYTES as usize]) -> Option<(Self, Seal)> {
        let (plain, seal) = bytes.split_at(20);
        let (magic, numbers) = plain.split_at(4);
        if magic != RECORD_MAGIC {
            return None;
        }
        let number = |at: usize| {
            let bytes = numbers[4 * at..].first_chunk().copied().unwrap_or_default();
            u32::from_le_bytes(bytes)
        };
        let header = Self {
            facts: number(0),
            bodies: number(1),
            changes: number(2),
            crc: number(3),
        };
        Some((header, seal.try_into().ok()?))
    }
}

/// A segment's file.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// The position at which it begins.
    pub(crate) start: u64,
    pub(crate) path: PathBuf,
    pub(super) is_compressed: bool,
}

impl Segment {
    /// # Errors
    /// When it cannot be read; of a compressed one, when its table is none. The error names the file.
    pub(crate) fn open(&self) -> io::Result<Stored> {
        let opened = self
            .file()
            .and_then(|(path, file)| match path == self.path && !self.is_compressed {
                true => Ok(Stored::Plain(file)),
                false => Stored::compressed(file),
            });
        opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }

    /// The file as it stands: its path, compressed if a host has compressed it since it was listed.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn file(&self) -> io::Result<(PathBuf, File)> {
        match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_compressed => {
                let compressed = compressed_path(&self.path);
                File::open(&compressed).map(|file| (compressed, file))
            }
            opened => opened.map(|file| (self.path.clone(), file)),
        }
    }

    /// Bytes of the segment, its header included.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn bytes(&self) -> io::Result<u64> {
        self.open()?.bytes()
    }
}

/// Where a segment stands when it is compressed.
pub(super) fn compressed_path(plain: &Path) -> PathBuf {
    let mut path = plain.as_os_str().to_owned();
    path.push(COMPRESSED);
    path.into()
}

/// The segments of a log, in order, each once. `stem` is the path of each up to its position.
pub(super) fn list(stem: &Path) -> io::Result<Vec<Segment>> {
    let prefix = stem.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder_of(stem))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(rest) = name.strip_prefix(&prefix) else {
            continue;
        };
        let (start, is_compressed) = rest
            .strip_suffix(COMPRESSED)
            .map_or((rest, false), |start| (start, true));
        let start = Some(start).filter(|start| start.len() == 16);
        if let Some(start) = start.and_then(|start| u64::from_str_radix(start, 16).ok()) {
            segments.push(Segment {
                start,
                path,
                is_compressed,
            });
        }
    }
    // Of one that is there both ways, because its compressing was not finished, the plain one counts.
    segments.sort_unstable_by_key(|segment| (segment.start, segment.is_compressed));
    segments.dedup_by_key(|segment| segment.start);
    Ok(segments)
}

fn folder_of(stem: &Path) -> &Path {
    stem.parent().unwrap_or(Path::new("/"))
}

pub(super) fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn path_of(stem: &Path, start: u64) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(format!("{start:016x}"));
    path.into()
}

/// Makes the segment that begins at `end`, durably, name and all.
pub(super) fn create(stem: &Path, sealer: &Sealer, end: Mark) -> io::Result<(PathBuf, File)> {
    let path = path_of(stem, end.position);
    let mut file = super::private()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    let made = file
        .write_all(&header(sealer, end))
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_folder(stem));
    if let Err(error) = made {
        // Half of a header would be taken for damage.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok((path, file))
}

fn header(sealer: &Sealer, before: Mark) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..16].copy_from_slice(&before.position.to_le_bytes());
    bytes[16..48].copy_from_slice(&before.seal);
    let seal = sealer.seal(&[&bytes[..48]]);
    bytes[48..].copy_from_slice(&seal);
    bytes
}

/// What a segment's header says is wrong with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// It is no segment, or its header was cut.
    NoSegment,
    /// A newer Tollgate made it.
    Newer,
    /// It was made under another store's key, or changed.
    OfAnother,
    /// It is not the segment that its name says.
    Misplaced,
}

/// The seal before a segment's first record.
pub(super) fn read_header(file: &Stored, start: u64, sealer: &Sealer) -> io::Result<Result<Seal, HeaderFault>> {
    let mut bytes = [0; HEADER_BYTES as usize];
    if file.bytes()? < HEADER_BYTES {
        return Ok(Err(HeaderFault::NoSegment));
    }
    file.read_exact_at(&mut bytes, 0)?;
    let (plain, seal) = bytes.split_at(48);
    if plain[..8] != SEGMENT_MAGIC {
        let is_newer = plain[..7] == SEGMENT_MAGIC[..7] && plain[7] > SEGMENT_MAGIC[7];
        return Ok(Err(if is_newer {
            HeaderFault::Newer
        } else {
            HeaderFault::NoSegment
        }));
    }
    if sealer.seal(&[plain]) != seal {
        return Ok(Err(HeaderFault::OfAnother));
    }
    if plain[8..16] != start.to_le_bytes() {
        return Ok(Err(HeaderFault::Misplaced));
    }
    let mut before = Seal::default();
    before.copy_from_slice(&plain[16..48]);
    Ok(Ok(before))
}

/// Whether a segment was being made when its process died, or the power went: it has no whole header, and nothing behind it.
pub(super) fn is_unfinished(segment: &Segment, sealer: &Sealer) -> io::Result<bool> {
    let file = segment.open()?;
    Ok(file.bytes()? <= HEADER_BYTES && read_header(&file, segment.start, sealer)?.is_err())
}

/// Makes the names of new segments durable.
pub(super) fn sync_folder(stem: &Path) -> io::Result<()> {
    File::open(folder_of(stem))?.sync_all()
}

/// Whether a record begins in a piece of a file, behind the one that a write may have been stopped in.
pub(super) fn holds_records(file: &File, piece: Range<u64>) -> io::Result<bool> {
    let length = RECORD_MAGIC.len() as u64;
    let mut at = piece.start + 1;
    let mut bytes = Vec::new();
    while at + length <= piece.end {
        bytes.resize((piece.end - at).min(1024 * 1024) as usize, 0);
        file.read_exact_at(&mut bytes, at)?;
        if bytes.windows(RECORD_MAGIC.len()).any(|window| window == RECORD_MAGIC) {
            return Ok(true);
        }
        // A magic may stand across two pieces.
        at += bytes.len() as u64 - (length - 1);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_any_other_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::new(&Secret::new(vec![7; 32]));
        let before = Mark {
            position: 0x1234,
            seal: [9; 32],
        };
        let (path, file) = create(&folder.path().join("log-"), &sealer, before).unwrap();
        assert_eq!(list(&folder.path().join("log-")).unwrap()[0].start, before.position);
        let stored = Stored::Plain(file.try_clone().unwrap());
        let read = |start| read_header(&stored, start, &sealer).unwrap();
        assert_eq!(read(before.position), Ok(before.seal));
        assert_eq!(read(before.position + 1), Err(HeaderFault::Misplaced));
        let other = Sealer::new(&Secret::new(vec![8; 32]));
        assert_eq!(
            read_header(&stored, before.position, &other).unwrap(),
            Err(HeaderFault::OfAnother)
        );
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            file.write_all_at(&bytes, 0).unwrap();
            assert!(read(before.position).is_err(), "byte {at}");
        }
        let mut newer = whole.clone();
        newer[7] += 1;
        file.write_all_at(&newer, 0).unwrap();
        assert_eq!(read(before.position), Err(HeaderFault::Newer));
        file.set_len(40).unwrap();
        assert_eq!(read(before.position), Err(HeaderFault::NoSegment));
    }
}
