//! Reads the pieces of the log that the index points at, in this process or beside another.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::segment;
use crate::statements::fault::Fault;

/// The log's files as readers see them. A file is opened when something in it is asked for.
#[derive(Debug)]
pub(crate) struct Contents {
    stem: PathBuf,
    files: Mutex<BTreeMap<u64, Arc<File>>>,
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
            .map_err(|error| lacking(format!("cannot be read: {error}")))?
            .ok_or_else(|| lacking("are in no segment of the log".to_owned()))?;
        // A damaged row must not make this allocate what no file holds.
        let found = file.metadata().map_err(|error| lacking(error.to_string()))?.len();
        if found < range.end - start {
            return Err(lacking("are behind the end of their segment".to_owned()));
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start - start)
            .map_err(|error| lacking(format!("cannot be read: {error}")))?;
        Ok(bytes.into())
    }

    fn file_of(&self, range: &Range<u64>) -> std::io::Result<Option<(u64, Arc<File>)>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.range(..=range.start).next_back();
        if let Some((start, file)) = known
            && start + file.metadata()?.len() >= range.end
        {
            return Ok(Some((*start, Arc::clone(file))));
        }
        // A segment that is newer than the last look.
        for segment in segment::list(&self.stem)? {
            if let Entry::Vacant(place) = files.entry(segment.start) {
                place.insert(Arc::new(File::open(&segment.path)?));
            }
        }
        let found = files.range(..=range.start).next_back();
        Ok(found.map(|(start, file)| (*start, Arc::clone(file))))
    }
}
