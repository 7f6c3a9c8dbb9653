//! Which keys are surely not in the indexes: a Bloom filter.
//!
//! Nearly every event is new, and so are its keys: asking the indexes for them is nearly always in vain. The filter says so
//! without asking. It may say "perhaps" of a key that is not there, and then the index is asked; it never denies one that is.

use super::super::fault::Fault;
use crate::sql::Connection;

/// Keys that the filter is made for: at 16 bits each, one in some 400 that are not there is asked for in vain. With more the
/// filter is given up and every key is asked for.
const KEYS_MAX: usize = 4 << 20;
const BITS: usize = 16 * KEYS_MAX;
/// Reading so many keys takes a fraction of a second when a store is opened; with more it does without a filter.
const KEYS_READ_MAX: i64 = 2 << 20;

/// 8 MiB, whatever it holds.
#[derive(Debug)]
pub(super) struct Filter {
    words: Box<[u64]>,
    keys: usize,
}

impl Filter {
    /// The filter of what the indexes hold now.
    pub(super) fn of_indexes(connection: &Connection) -> Result<Option<Self>, Fault> {
        let mut filter = Self {
            words: vec![0; BITS / 64].into_boxed_slice(),
            keys: 0,
        };
        for sql in [
            "SELECT id FROM receipt_keys LIMIT ?1",
            "SELECT key FROM subjects LIMIT ?1",
        ] {
            let mut statement = connection.prepare_cached(sql)?;
            let mut found = statement.query([KEYS_READ_MAX])?;
            let mut read = 0;
            while let Some(row) = found.next()? {
                filter.add(&row.get(0)?);
                read += 1;
            }
            if read == KEYS_READ_MAX {
                return Ok(None);
            }
        }
        Ok(Some(filter))
    }

    pub(super) fn add(&mut self, key: &[u8; 16]) {
        for (word, bit) in places(key) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= bit;
            }
        }
        self.keys += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.keys >= KEYS_MAX
    }

    /// False only of a key that was never added.
    pub(super) fn may_hold(&self, key: &[u8; 16]) -> bool {
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
    use super::*;

    #[test]
    fn what_was_added_is_never_denied_and_little_else_is_thought_to_be_there() {
        let mut filter = Filter {
            words: vec![0; BITS / 64].into_boxed_slice(),
            keys: 0,
        };
        let key = |number: u64| {
            let mut key = [0; 16];
            key.copy_from_slice(&tollgate_core::ids::Digest::of(&number.to_le_bytes()).0[..16]);
            key
        };
        (0..100_000).for_each(|number| filter.add(&key(number)));
        assert!((0..100_000).all(|number| filter.may_hold(&key(number))));
        let in_vain = (100_000..200_000)
            .filter(|number| filter.may_hold(&key(*number)))
            .count();
        assert!(in_vain < 10, "{in_vain} of 100,000");
        assert!(!filter.is_full());
    }
}
