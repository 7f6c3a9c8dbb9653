//! Reads the pieces of the log that the index points at, in this process or beside another.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::segment;
use super::stored::Stored;
use crate::statements::fault::Fault;

/// Segments that are open at once.
const FILES_MAX: usize = 64;

/// The log's files as readers see them. A file is opened when something in it is asked for.
#[derive(Debug)]
pub(crate) struct Contents {
    stem: PathBuf,
    files: Mutex<BTreeMap<u64, Arc<Stored>>>,
}

impl Contents {
    pub(crate) fn new(stem: PathBuf) -> Self {
        Self {
            stem,
            files: Mutex::default(),
        }
    }

    /// A piece of the log that a committed row points at.
    ///
    /// # Errors
    /// [`Fault::Damaged`] when it is not there.
    pub(crate) fn read(&self, range: Range<u64>) -> Result<Bytes, Fault> {
        let lacking = |detail: String| Fault::damaged("log", format_args!("bytes {range:?} {detail}"));
        let unread = |error: io::Error| lacking(format!("cannot be read: {error}"));
        let length = range
            .end
            .checked_sub(range.start)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or_else(|| lacking("are no range".to_owned()))?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let (start, file) = self
            .file_of(&range)
            .map_err(unread)?
            .ok_or_else(|| lacking("are in no segment of the log".to_owned()))?;
        // A damaged row must not make this allocate what no file holds.
        if file.bytes().map_err(unread)? < range.end - start {
            return Err(lacking("are behind the end of their segment".to_owned()));
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start - start).map_err(unread)?;
        Ok(bytes.into())
    }

    /// Lets go of a segment's file: it was replaced.
    pub(crate) fn close(&self, start: u64) {
        self.lock().remove(&start);
    }

    fn file_of(&self, range: &Range<u64>) -> io::Result<Option<(u64, Arc<Stored>)>> {
        let mut files = self.lock();
        let known = files.range(..=range.start).next_back();
        if let Some((start, file)) = known
            && start + file.bytes()? >= range.end
        {
            return Ok(Some((*start, Arc::clone(file))));
        }
        // A segment that was not asked for before, or that is newer than the last look.
        let segments = segment::list(&self.stem)?;
        let Some(segment) = segments.iter().rfind(|segment| segment.start <= range.start) else {
            return Ok(None);
        };
        let file = Arc::new(segment.open()?);
        if files.len() >= FILES_MAX {
            files.clear();
        }
        files.insert(segment.start, Arc::clone(&file));
        Ok(Some((segment.start, file)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Stored>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
