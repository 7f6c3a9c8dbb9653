//! Reads a log in order, and believes nothing that its seal does not say.

use std::io;

use super::Place;
use super::segment::{self, Applied, HEADER_BYTES, Header, HeaderFault, Mark, RECORD_BYTES, Seal, Sealer, Segment};
use super::stored::Stored;
use crate::statements::fault::Fault;

/// One record, as far as an index is made from it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) changes: Vec<u8>,
    /// Behind it.
    pub(crate) end: Mark,
}

/// The way along a log, from a place that the index knows.
#[derive(Debug)]
pub(crate) struct Scan {
    place: Place,
    segments: Vec<Segment>,
    /// The segment under way, by its place in `segments`.
    at: usize,
    file: Option<Stored>,
    mark: Mark,
    /// What an index was made from that has every record that was read.
    applied: Applied,
    /// The texts of the statements of the segment under way.
    texts: Vec<String>,
}

impl Scan {
    /// Stands behind what an index has of the log. `texts` are those of the statements that its last segment holds up to there.
    ///
    /// # Errors
    /// [`Fault::Damaged`] in words that name the file: when a segment is missing, cut, swapped or another store's, or the log does not lead
    /// to `applied`, because it ends before or has another history. [`Fault::Io`] when it cannot be read.
    pub(crate) fn new(place: &Place, applied: Applied, texts: Vec<String>) -> Result<Self, Fault> {
        let mut segments = segment::list(&place.stem).map_err(Fault::Io)?;
        if let Some(newest) = segments.last().filter(|newest| newest.start >= applied.end.position)
            && segment::is_unfinished(newest, &place.sealer).map_err(Fault::Io)?
        {
            segments.pop();
        }
        let stem = place.stem.display();
        let trouble = |what: String| Fault::damaged("log", what);
        check_row(&segments, &place.sealer).map_err(trouble)?;
        let end = applied.end;
        let Some(first) = segments.first() else {
            if applied == Applied::NOTHING {
                return Ok(Self::of(place, segments, 0, applied));
            }
            return Err(trouble(format!(
                "there are no segments at {stem}…, but the index was made from some"
            )));
        };
        if end.position < first.start {
            return Err(trouble(format!(
                "the segments before {} are gone, and the index does not know what they held",
                first.path.display()
            )));
        }
        if applied == Applied::NOTHING {
            let mut scan = Self::of(place, segments, 0, applied);
            scan.enter()?;
            return Ok(scan);
        }
        // The last record that the index has, in the segment that holds it.
        let at = segments.partition_point(|segment| segment.start <= applied.last.position) - 1;
        let mut scan = Self::of(place, segments, at, applied);
        scan.enter()?;
        scan.mark = applied.last;
        let record = scan.record(Bodies::AreNotRead)?;
        if record.is_none_or(|record| record.end != end) {
            let found = scan.file.as_ref().and_then(|file| file.bytes().ok()).unwrap_or(0);
            let reaches = scan.segments.get(at).map_or(0, |segment| segment.start) + found;
            return Err(trouble(match reaches < end.position {
                true => format!(
                    "{} ends at {reaches}, but the index was made from what came up to {}: part of the log is lost",
                    scan.path(),
                    end.position
                ),
                false => format!(
                    "{} does not hold at {} the record up to which the index was made: it is another history of the store, or was changed",
                    scan.path(),
                    applied.last.position
                ),
            }));
        }
        scan.texts = texts;
        Ok(scan)
    }

    fn of(place: &Place, segments: Vec<Segment>, at: usize, applied: Applied) -> Self {
        Self {
            place: place.clone(),
            segments,
            at,
            file: None,
            mark: applied.end,
            applied,
            texts: Vec::new(),
        }
    }

    /// Behind the last record that was read.
    pub(crate) fn mark(&self) -> Mark {
        self.mark
    }

    /// What an index was made from that has every record that was read.
    pub(crate) fn applied(&self) -> Applied {
        self.applied
    }

    /// The texts of the statements that the segment under way holds.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    pub(crate) fn texts_mut(&mut self) -> &mut Vec<String> {
        &mut self.texts
    }

    fn path(&self) -> String {
        self.segments
            .get(self.at)
            .map_or_else(String::new, |segment| segment.path.display().to_string())
    }

    /// Opens the segment under way and stands before its first record.
    fn enter(&mut self) -> Result<(), Fault> {
        let Some(segment) = self.segments.get(self.at).cloned() else {
            return Ok(());
        };
        let (file, seal) = opened(&segment, &self.place.sealer).map_err(|what| Fault::damaged("log", what))?;
        self.file = Some(file);
        self.texts.clear();
        self.mark = Mark {
            position: segment.start + HEADER_BYTES,
            seal,
        };
        Ok(())
    }

    /// The next record; nothing at the end of the log.
    ///
    /// # Errors
    /// [`Fault::Damaged`] when what stands there is no record, although others come behind it in a later segment.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Fault> {
        loop {
            let before = self.mark;
            if self.file.is_none() {
                return Ok(None);
            }
            if let Some(record) = self.record(Bodies::AreChecked)? {
                return Ok(Some(record));
            }
            let Some(next) = self.segments.get(self.at + 1) else {
                return Ok(None);
            };
            if next.start != before.position {
                return Err(Fault::damaged(
                    "log",
                    format_args!(
                        "{} cannot be read from {} on: part of the log is lost",
                        self.path(),
                        before.position
                    ),
                ));
            }
            self.at += 1;
            self.enter()?;
            if self.mark.seal != before.seal {
                let what = format_args!("{} does not follow the segment before it", self.path());
                return Err(Fault::damaged("log", what));
            }
        }
    }

    /// Nothing where no whole record stands that was written for this place.
    fn record(&mut self, bodies: Bodies) -> Result<Option<Record>, Fault> {
        let (Some(file), Some(segment)) = (&self.file, self.segments.get(self.at)) else {
            return Ok(None);
        };
        let read = || -> io::Result<Option<Record>> {
            let at = self.mark.position - segment.start;
            let left = file.bytes()?.saturating_sub(at);
            let mut head = [0; RECORD_BYTES as usize];
            if left < RECORD_BYTES {
                return Ok(None);
            }
            file.read_exact_at(&mut head, at)?;
            // No length is believed before it is known to be within the file.
            let Some((header, seal)) = Header::read(&head).filter(|(header, _)| header.record_bytes() <= left) else {
                return Ok(None);
            };
            let facts_at = at + RECORD_BYTES;
            let bodies_at = facts_at + u64::from(header.facts);
            let changes_at = bodies_at + u64::from(header.bodies);
            let mut facts = vec![0; header.facts as usize];
            file.read_exact_at(&mut facts, facts_at)?;
            let mut changes = vec![0; header.changes as usize];
            file.read_exact_at(&mut changes, changes_at)?;
            let (_, right) = header.sealed(&self.place.sealer, &self.mark, &[&facts], &changes);
            if right != seal {
                return Ok(None);
            }
            if bodies == Bodies::AreChecked && crc_of(file, bodies_at..changes_at)? != header.crc {
                return Ok(None);
            }
            Ok(Some(Record {
                changes,
                end: Mark {
                    position: self.mark.position + header.record_bytes(),
                    seal,
                },
            }))
        };
        let record = read().map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Fault::damaged("log", format_args!("{}: {error}", segment.path.display())),
            _ => Fault::Io(error),
        })?;
        if let Some(record) = &record {
            self.applied = Applied {
                end: record.end,
                last: self.mark,
            };
            self.mark = record.end;
        }
        Ok(record)
    }
}

/// Whether the checksum of the bodies is asked for, which reads all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bodies {
    AreChecked,
    AreNotRead,
}

fn crc_of(file: &Stored, piece: std::ops::Range<u64>) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut bytes = vec![0; (piece.end - piece.start).min(256 * 1024) as usize];
    let mut at = piece.start;
    while at < piece.end {
        let length = bytes.len().min((piece.end - at) as usize);
        file.read_exact_at(&mut bytes[..length], at)?;
        crc.update(&bytes[..length]);
        at += length as u64;
    }
    Ok(crc.finalize())
}

/// A segment, and the seal before its first record.
///
/// # Errors
/// In words that name the file, where its header is not that of this place in this store's log.
fn opened(segment: &Segment, sealer: &Sealer) -> Result<(Stored, Seal), String> {
    let file = segment.open().map_err(|error| error.to_string())?;
    let path = segment.path.display();
    let header = segment::read_header(&file, segment.start, sealer);
    let seal = header.map_err(|error| format!("{path}: {error}"))?.map_err(|fault| {
        let what = match fault {
            HeaderFault::NoSegment => "is no segment of a log, or its beginning is gone",
            HeaderFault::Newer => "was written by a newer Tollgate; use that",
            HeaderFault::OfAnother => "is another store's, or was changed",
            HeaderFault::Misplaced => "has another segment's name",
        };
        format!("{path} {what}")
    })?;
    Ok((file, seal))
}

/// Each segment is the one that its name says, and ends where the next begins.
fn check_row(segments: &[Segment], sealer: &Sealer) -> Result<(), String> {
    for pair in segments.windows(2) {
        let [segment, next] = pair else { continue };
        let (file, _) = opened(segment, sealer)?;
        let bytes = file
            .bytes()
            .map_err(|error| format!("{}: {error}", segment.path.display()))?;
        let end = segment.start + bytes;
        let (here, there) = (segment.path.display(), next.path.display());
        if end < next.start {
            return Err(format!(
                "between {here}, which ends at {end:#x}, and {there} part of the log is missing"
            ));
        }
        if end > next.start {
            return Err(format!("{here} reaches into {there}: one of them does not belong here"));
        }
    }
    Ok(())
}
