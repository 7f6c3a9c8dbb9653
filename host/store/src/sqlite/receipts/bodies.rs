//! The bodies of receipts in segments: a file beside the database that is only ever appended to.
//!
//! A body is most of an event's bytes. In the database it would be written twice, to the WAL and to its page, in pieces of a page;
//! here it is written once, all bodies of a commit in one piece. They are durable before the rows that point at them are, so
//! what a row points at is there. What was written for a commit that did not come is overwritten by the next. Before its bodies
//! stands what else the commit admitted; see [`super::redo`].

use std::fs::File;
use std::io::{self, IoSlice, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;

use super::super::fault::Fault;
use super::super::open::{self, StorePath, sync_directory};
use super::redo;
use crate::sql::{Connection, OptionalExtension as _};

/// The writer's end of the file.
#[derive(Debug)]
pub(super) struct Bodies {
    file: File,
    /// Where the next commit's bodies begin: the end of what the database knows.
    end: u64,
    /// The same after the transaction under way.
    next: u64,
    bytes_max: u64,
}

impl Bodies {
    /// Opens the file behind what the database knows of it; makes it if the database knows nothing.
    ///
    /// What stands behind that and is not the rest of one write is set aside first, see [`redo::set_aside`].
    ///
    /// # Errors
    /// In words when the file is missing or shorter than the database knows, or when the database is new and the file is not.
    pub(super) fn open(connection: &Connection, path: &StorePath, bytes_max: Option<u64>) -> Result<Self, Fault> {
        let end = known_end(connection)?;
        let bodies = path.bodies();
        let trouble = |detail: String| Fault::damaged("bodies", format_args!("{} {detail}", bodies.display()));
        let file = open::private()
            .read(true)
            .write(true)
            .create(end == 0)
            .truncate(false)
            .open(&bodies)
            .map_err(|error| trouble(format!("cannot be opened: {error}")))?;
        let found = file
            .metadata()
            .map_err(|error| trouble(format!("cannot be read: {error}")))?
            .len();
        if found < end {
            return Err(trouble(format!(
                "has {found} bytes, but the store knows of {end}: part of it is lost"
            )));
        }
        redo::set_aside(&file, path, end..found)?;
        if end == 0 {
            sync_directory(path).map_err(|error| trouble(format!("cannot be made durable: {error}")))?;
        }
        Ok(Self {
            file,
            end,
            next: end,
            bytes_max: bytes_max.unwrap_or(u64::MAX),
        })
    }

    /// Where the next commit's record begins.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Appends pieces, durably; answers where they begin.
    pub(super) fn append(&mut self, pieces: &mut [IoSlice<'_>]) -> Result<u64, Fault> {
        let at = self.end;
        let next = at + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if next > self.bytes_max {
            return Err(Fault::Io(io::ErrorKind::StorageFull.into()));
        }
        // Known before the first byte is written: what a failure leaves there is undone as well.
        self.next = next;
        self.write_all(pieces, at).map_err(Fault::Io)?;
        self.file.sync_data().map_err(Fault::Io)?;
        Ok(at)
    }

    /// The pieces are not joined first: they are most of what a commit writes.
    fn write_all(&self, mut pieces: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(at))?;
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

    pub(super) fn kept(&mut self) {
        self.end = self.next;
    }

    pub(super) fn rolled_back(&mut self) {
        if self.next != self.end {
            redo::undo(&self.file, self.end);
        }
        self.next = self.end;
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// The end of what the database points at.
pub(super) fn known_end(connection: &Connection) -> Result<u64, Fault> {
    let end: Option<i64> = connection
        .query_row(
            "SELECT bodies_at + bodies_bytes FROM segments ORDER BY first DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    let end = end.unwrap_or(0);
    u64::try_from(end).map_err(|_| Fault::damaged("bodies", end))
}

/// Reads a piece of the file that a committed row points at.
pub(super) fn read(file: Option<&File>, range: Range<u64>) -> Result<Bytes, Fault> {
    let lacking = |detail: &str| Fault::damaged("bodies", format_args!("bytes {range:?} {detail}"));
    let file = file.ok_or_else(|| lacking("cannot be read: their file was not there when the store was opened"))?;
    let length = range
        .end
        .checked_sub(range.start)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| lacking("are no range"))?;
    // A damaged row must not make this allocate what no file holds.
    if file.metadata().map_err(|error| lacking(&error.to_string()))?.len() < range.end {
        return Err(lacking("are behind the end of their file"));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)
        .map_err(|error| lacking(&format!("cannot be read: {error}")))?;
    Ok(bytes.into())
}
