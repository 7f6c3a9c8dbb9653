//! A segment's file as whoever reads it sees it: plain, or compressed when it was full, the same bytes at the same places.
//!
//! A compressed file is in the Zstandard seekable format (`contrib/seekable_format` of zstd's sources): frames of [`FRAME_BYTES`] each, and
//! behind them a table that says how long each is. Any zstd program unpacks it whole; a piece is read by unpacking the frames that hold it.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the segment that one frame holds: what reading one body unpacks.
const FRAME_BYTES: usize = 64 * 1024;
/// zstd's fastest ordinary level: six times smaller at 500 MB a second; higher ones take twice as long for a tenth more.
const LEVEL: i32 = 1;
/// After so many bytes the disk has them, so that whoever waits for the log's own sync never waits for a whole segment.
const SYNC_BYTES: usize = 512 * 1024;
/// Of the skippable frame that holds the table.
const TABLE_MAGIC: u32 = 0x184D_2A5E;
/// The last bytes of the file.
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Before the table's entries: the magic and the length.
const TABLE_HEADER_BYTES: u64 = 8;
/// Behind them: how many there are, a byte of flags, the magic.
const FOOTER_BYTES: u64 = 9;
/// The lengths of a frame, compressed and not.
const ENTRY_BYTES: u64 = 8;

/// A segment's contents.
#[derive(Debug)]
pub(crate) enum Stored {
    /// As it was written.
    Plain(File),
    /// As [`compress`] wrote it.
    Compressed(Frames),
}

/// A compressed file and its table.
#[derive(Debug)]
pub(crate) struct Frames {
    file: File,
    frames: Vec<Frame>,
    bytes: u64,
    /// The frame that was read last: records are read one behind the other, several from one frame.
    last: Mutex<Option<(usize, Arc<[u8]>)>>,
}

/// Where a frame stands in the file, and what it holds of the segment.
#[derive(Debug)]
struct Frame {
    file: Range<u64>,
    segment: Range<u64>,
}

impl Stored {
    /// # Errors
    /// When the file cannot be read, or its table is none.
    pub(super) fn compressed(file: File) -> io::Result<Self> {
        Frames::open(file).map(Self::Compressed)
    }

    /// How many bytes the segment has.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Compressed(frames) => Ok(frames.bytes),
        }
    }

    /// Fills `bytes` with what stands at `at`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the segment ends before; [`io::ErrorKind::InvalidData`] where a frame cannot be unpacked.
    pub(super) fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.read_exact_at(bytes, at),
            Self::Compressed(frames) => frames.read_exact_at(bytes, at),
        }
    }
}

impl Frames {
    fn open(file: File) -> io::Result<Self> {
        let file_bytes = file.metadata()?.len();
        let mut footer = [0; FOOTER_BYTES as usize];
        let footer_at = file_bytes
            .checked_sub(FOOTER_BYTES)
            .ok_or_else(|| damaged("it is cut"))?;
        file.read_exact_at(&mut footer, footer_at)?;
        let [count, magic] = [&footer[..4], &footer[5..]].map(number);
        if magic != SEEKABLE_MAGIC || footer[4] != 0 {
            return Err(damaged("it does not end with a table of frames"));
        }
        let entries_bytes = u64::from(count) * ENTRY_BYTES;
        // Below the file's length, so nothing larger is asked of the memory.
        let table_at = footer_at
            .checked_sub(entries_bytes + TABLE_HEADER_BYTES)
            .ok_or_else(|| damaged("its table is longer than itself"))?;
        let mut table = vec![0; (TABLE_HEADER_BYTES + entries_bytes) as usize];
        file.read_exact_at(&mut table, table_at)?;
        let (header, entries) = table.split_at(TABLE_HEADER_BYTES as usize);
        let [magic, length] = [&header[..4], &header[4..]].map(number);
        if magic != TABLE_MAGIC || u64::from(length) != entries_bytes + FOOTER_BYTES {
            return Err(damaged("its table is none"));
        }
        let (mut in_file, mut in_segment) = (0, 0);
        let mut frames = Vec::with_capacity(count as usize);
        for entry in entries.chunks_exact(ENTRY_BYTES as usize) {
            let [compressed, plain] = [&entry[..4], &entry[4..]].map(|bytes| u64::from(number(bytes)));
            let is_last = frames.len() + 1 == count as usize;
            if plain > FRAME_BYTES as u64 || (plain < FRAME_BYTES as u64 && !is_last) {
                return Err(damaged("a frame has another length than frames have"));
            }
            frames.push(Frame {
                file: in_file..in_file + compressed,
                segment: in_segment..in_segment + plain,
            });
            in_file += compressed;
            in_segment += plain;
        }
        if in_file != table_at {
            return Err(damaged("its frames do not reach to its table"));
        }
        Ok(Self {
            file,
            frames,
            bytes: in_segment,
            last: Mutex::default(),
        })
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = at + done as u64;
            let number = (at / FRAME_BYTES as u64) as usize;
            let Some(frame) = self.frames.get(number).filter(|frame| frame.segment.contains(&at)) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let plain = self.unpacked(number, frame)?;
            let from = (at - frame.segment.start) as usize;
            let length = (plain.len() - from).min(bytes.len() - done);
            bytes[done..done + length].copy_from_slice(&plain[from..from + length]);
            done += length;
        }
        Ok(())
    }

    fn unpacked(&self, number: usize, frame: &Frame) -> io::Result<Arc<[u8]>> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, plain)) = &*last()
            && *known == number
        {
            return Ok(Arc::clone(plain));
        }
        let mut packed = vec![0; (frame.file.end - frame.file.start) as usize];
        self.file.read_exact_at(&mut packed, frame.file.start)?;
        let length = (frame.segment.end - frame.segment.start) as usize;
        let plain = unpack(&packed, length)
            .ok()
            .filter(|plain| plain.len() == length)
            .ok_or_else(|| damaged(format_args!("frame {number} cannot be unpacked")))?;
        let plain: Arc<[u8]> = plain.into();
        *last() = Some((number, Arc::clone(&plain)));
        Ok(plain)
    }
}

thread_local! {
    /// Some hundred kilobytes that each thread which unpacks keeps: to make them anew for each frame takes longer than to unpack it.
    static UNPACKER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Into no more than `bytes`.
fn unpack(packed: &[u8], bytes: usize) -> io::Result<Vec<u8>> {
    UNPACKER.with_borrow_mut(|known| {
        let unpacker = match known {
            Some(unpacker) => unpacker,
            None => known.insert(zstd::bulk::Decompressor::new()?),
        };
        unpacker.decompress(packed, bytes)
    })
}

fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the compressed segment is damaged: {what}"),
    )
}

/// Of four bytes.
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default())
}

/// Writes a full segment compressed into a new file, durably, and reads it again: the plain one is only removed for one that holds the same.
/// `goes_on` is asked before each frame.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`] when it does not go on; what was written is left for the next time, which begins again.
pub(super) fn compress(plain: &File, to: &Path, goes_on: &dyn Fn() -> bool) -> io::Result<()> {
    let bytes = plain.metadata()?.len();
    let mut file = super::private()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)?;
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut table = Vec::new();
    let mut unsynced = 0;
    let each = |work: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
        let mut piece = vec![0; FRAME_BYTES];
        let mut at = 0;
        while at < bytes {
            if !goes_on() {
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            let length = piece.len().min((bytes - at) as usize);
            plain.read_exact_at(&mut piece[..length], at)?;
            work(&piece[..length])?;
            at += length as u64;
        }
        Ok(())
    };
    each(&mut |piece| {
        let packed = compressor.compress(piece)?;
        file.write_all(&packed)?;
        unsynced += packed.len();
        if unsynced >= SYNC_BYTES {
            file.sync_data()?;
            unsynced = 0;
        }
        table.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        table.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        Ok(())
    })?;
    let count = (table.len() as u64 / ENTRY_BYTES) as u32;
    let length = table.len() as u32 + FOOTER_BYTES as u32;
    file.write_all(&TABLE_MAGIC.to_le_bytes())?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&table)?;
    file.write_all(&count.to_le_bytes())?;
    file.write_all(&[0])?;
    file.write_all(&SEEKABLE_MAGIC.to_le_bytes())?;
    file.sync_all()?;
    let written = Frames::open(file)?;
    if written.bytes != bytes {
        return Err(damaged("it has not the bytes that it was made from"));
    }
    let mut frames = written.frames.iter().enumerate();
    each(&mut |piece| {
        let same = match frames.next() {
            Some((number, frame)) => *written.unpacked(number, frame)? == *piece,
            None => false,
        };
        match same {
            true => Ok(()),
            false => Err(damaged("it holds other bytes than it was made from")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 7 % 251) as u8 ^ (at / 4096) as u8).collect()
    }

    /// A plain file, and its compressed one.
    fn made(folder: &Path, plain: &[u8]) -> (File, std::path::PathBuf) {
        std::fs::write(folder.join("plain"), plain).unwrap();
        let file = File::open(folder.join("plain")).unwrap();
        compress(&file, &folder.join("packed"), &|| true).unwrap();
        (file, folder.join("packed"))
    }

    #[test]
    fn a_compressed_segment_reads_like_the_plain_one_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        for length in [
            0,
            1,
            FRAME_BYTES - 1,
            FRAME_BYTES,
            FRAME_BYTES + 1,
            3 * FRAME_BYTES + 17,
        ] {
            let whole = bytes(length);
            let (_, packed) = made(folder.path(), &whole);
            let stored = Stored::compressed(File::open(&packed).unwrap()).unwrap();
            assert_eq!(stored.bytes().unwrap(), length as u64);
            for (at, count) in [
                (0, length),
                (0, 1),
                (length / 2, length / 3),
                (FRAME_BYTES - 2, 5),
                (length, 0),
            ] {
                let mut found = vec![0; count];
                let read = stored.read_exact_at(&mut found, at as u64);
                match whole.get(at..at + count) {
                    Some(expected) => assert!(read.is_ok() && found == expected, "{length}: {count} at {at}"),
                    None => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
                }
            }
        }
    }

    #[test]
    fn any_other_byte_of_a_compressed_segment_is_an_error_or_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let whole = bytes(2 * FRAME_BYTES + 3);
        let (_, packed) = made(folder.path(), &whole);
        let right = std::fs::read(&packed).unwrap();
        let read = |changed: &[u8]| -> io::Result<Vec<u8>> {
            std::fs::write(&packed, changed).unwrap();
            let stored = Stored::compressed(File::open(&packed)?)?;
            let mut found = vec![0; stored.bytes()? as usize];
            stored.read_exact_at(&mut found, 0)?;
            Ok(found)
        };
        assert_eq!(read(&right).unwrap(), whole);
        for at in (0..right.len()).rev().take(64).chain((0..right.len()).step_by(97)) {
            let mut changed = right.clone();
            changed[at] ^= 0x10;
            // What unpacks to other bytes has a record whose seal does not fit; nothing here may panic or ask for more than the file holds.
            let _ = read(&changed);
        }
        for length in [0, 8, right.len() - 1, right.len() / 2] {
            assert!(read(&right[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn what_does_not_go_on_says_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plain"), bytes(9)).unwrap();
        let file = File::open(folder.path().join("plain")).unwrap();
        let stopped = compress(&file, &folder.path().join("packed"), &|| false).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
    }
}
