//! Which keys are surely not in the indexes: a Bloom filter.
//!
//! Nearly every event is new, and so are its keys: asking the indexes for them is nearly always in vain. The filter says so
//! without asking. It may say "perhaps" of a key that is not there, and then the index is asked; it never denies one that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::super::fault::Fault;
use crate::sql::Connection;

/// Keys that the filter is made for: at 16 bits each, one in some 400 that are not there is asked for in vain. With more the
/// filter is given up and every key is asked for.
const KEYS_MAX: usize = 4 << 20;
const BITS: usize = 16 * KEYS_MAX;
/// After how many keys a reading looks whether it is to end.
const LOOK_EVERY: usize = 4096;

/// What is known of the keys in the indexes.
#[derive(Debug, Default)]
pub(super) enum Indexed {
    /// They are read beside. What is carried into the indexes meanwhile is added here.
    Reading(Filter, Reading),
    Known(Filter),
    /// Every key is asked for.
    #[default]
    Unknown,
}

impl Indexed {
    /// Has the indexes read beside, through a connection of its own: they grow with the store, and no start waits for them.
    ///
    /// `read` must see what was committed before this call; of what is carried from here on it may see any part.
    pub(super) fn read(read: impl FnOnce(&AtomicBool) -> Option<Filter> + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("store-filter".into()).spawn({
            let ends = Arc::clone(&ends);
            move || read(&ends)
        });
        match thread {
            Ok(thread) => Self::Reading(
                Filter::default(),
                Reading {
                    ends,
                    thread: Some(thread),
                },
            ),
            // Slower, not wrong.
            Err(_) => Self::Unknown,
        }
    }

    /// Takes in what was read, once it was.
    pub(super) fn look(&mut self) {
        if let Self::Reading(since, reading) = self
            && let Some(read) = reading.finished()
        {
            *self = match read {
                Some(mut filter) => {
                    filter.add_all(since);
                    Self::Known(filter).unless_full()
                }
                None => Self::Unknown,
            };
        }
    }

    /// These keys are in the indexes from now on, or on their way there.
    pub(super) fn expect<'k>(&mut self, keys: impl Iterator<Item = &'k [u8; 16]>) {
        if let Self::Reading(filter, _) | Self::Known(filter) = self {
            keys.for_each(|key| filter.add(key));
            *self = std::mem::take(self).unless_full();
        }
    }

    /// Only where it is sure that the indexes do not have the key.
    pub(super) fn surely_lacks(&self, key: &[u8; 16]) -> bool {
        match self {
            Self::Known(filter) => !filter.may_hold(key),
            Self::Reading(..) | Self::Unknown => false,
        }
    }

    fn unless_full(self) -> Self {
        match &self {
            Self::Reading(filter, _) | Self::Known(filter) if filter.is_full() => Self::Unknown,
            _ => self,
        }
    }
}

/// A thread that reads the indexes. Dropping it ends it, and waits for that: its connection would keep the WAL from being emptied.
#[derive(Debug)]
pub(super) struct Reading {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Filter>>>,
}

impl Reading {
    /// What was read, when it was. One that panicked has read nothing.
    fn finished(&mut self) -> Option<Option<Filter>> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        Some(thread.join().ok().flatten())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// 8 MiB, whatever it holds.
#[derive(Debug)]
pub(super) struct Filter {
    words: Box<[u64]>,
    keys: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            words: vec![0; BITS / 64].into_boxed_slice(),
            keys: 0,
        }
    }
}

impl Filter {
    /// The filter of what the indexes hold now; none when they hold too much for one, or it is to end before it has read all.
    pub(super) fn of_indexes(connection: &Connection, ends: &AtomicBool) -> Result<Option<Self>, Fault> {
        let mut filter = Self::default();
        for sql in ["SELECT id FROM receipt_keys", "SELECT key FROM subjects"] {
            let mut statement = connection.prepare_cached(sql)?;
            let mut found = statement.query([])?;
            while let Some(row) = found.next()? {
                filter.add(&row.get(0)?);
                if filter.is_full() || filter.keys.is_multiple_of(LOOK_EVERY) && ends.load(Ordering::Relaxed) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(filter))
    }

    fn add_all(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        // A key of both counts twice: the filter is given up a little early.
        self.keys += other.keys;
    }

    fn add(&mut self, key: &[u8; 16]) {
        for (word, bit) in places(key) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
        self.keys += 1;
    }

    fn is_full(&self) -> bool {
        self.keys >= KEYS_MAX
    }

    /// False only of a key that was never added.
    fn may_hold(&self, key: &[u8; 16]) -> bool {
        places(key).all(|(word, bit)| self.words.get(word).is_none_or(|word| word & bit != 0))
    }
}

/// Four bits of a key. Keys are keyed hashes: their own bytes are as good as any hash of them.
fn places(key: &[u8; 16]) -> impl Iterator<Item = (usize, u64)> {
    key.chunks_exact(4).map(|piece| {
        let number = piece
            .iter()
            .fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
            % BITS;
        (number / 64, 1 << (number % 64))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn key(number: u64) -> [u8; 16] {
        let mut key = [0; 16];
        key.copy_from_slice(&tollgate_core::ids::Digest::of(&number.to_le_bytes()).0[..16]);
        key
    }

    fn of(numbers: std::ops::Range<u64>) -> Filter {
        let mut filter = Filter::default();
        numbers.for_each(|number| filter.add(&key(number)));
        filter
    }

    #[test]
    fn what_was_added_is_never_denied_and_little_else_is_thought_to_be_there() {
        let filter = of(0..100_000);
        assert!((0..100_000).all(|number| filter.may_hold(&key(number))));
        let in_vain = (100_000..200_000)
            .filter(|number| filter.may_hold(&key(*number)))
            .count();
        assert!(in_vain < 10, "{in_vain} of 100,000");
        assert!(!filter.is_full());
    }

    fn wait(indexed: &mut Indexed) {
        while matches!(indexed, Indexed::Reading(..)) {
            indexed.look();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A key that is denied falsely would be an event that is taken in twice.
    #[test]
    fn no_key_is_denied_before_the_indexes_are_read_nor_one_that_came_into_them_meanwhile() {
        let (goes_on, waits) = mpsc::channel();
        let mut indexed = Indexed::read(move |ends| {
            let read = of(0..100);
            while waits.recv_timeout(Duration::from_millis(1)).is_err() {
                // A test that fails waits for this thread too.
                if ends.load(Ordering::Relaxed) {
                    return None;
                }
            }
            Some(read)
        });
        indexed.expect([key(100), key(101)].iter());
        indexed.look();
        assert!((0..200).all(|number| !indexed.surely_lacks(&key(number))));
        goes_on.send(()).unwrap();
        wait(&mut indexed);
        indexed.expect([key(102)].iter());
        assert!((0..103).all(|number| !indexed.surely_lacks(&key(number))));
        assert!((103..200).all(|number| indexed.surely_lacks(&key(number))));
    }

    #[test]
    fn without_a_reading_every_key_is_asked_for() {
        let readings: [fn(&AtomicBool) -> Option<Filter>; 2] = [|_| None, |_| panic!("a reading that panics")];
        for read in readings {
            let mut indexed = Indexed::read(read);
            wait(&mut indexed);
            indexed.expect([key(1)].iter());
            assert!((0..10).all(|number| !indexed.surely_lacks(&key(number))));
        }
    }

    #[test]
    fn a_reading_that_is_dropped_has_ended() {
        let (end, ended) = mpsc::channel();
        let indexed = Indexed::read(move |ends| {
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            end.send(()).unwrap();
            None
        });
        drop(indexed);
        assert_eq!(ended.try_recv(), Ok(()));
    }
}
