//! How long the index's WAL is, and when it is moved into the file, by whom: the rules, without a clock or a disk of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The disk is asked for its space again after so many pages of WAL.
const SPACE_ASKED_PAGES: u64 = 64;
/// The WAL is moved when it has grown by this part of its bound, if the last move is [`MOVED_APART`] ago: whoever waits for a sync of the log waits for what is moved
/// meanwhile, and a little of it often is a shorter wait than all of it now and then. Under load a move takes more at once, which costs less.
const MOVED_PART: u64 = 8;
const MOVED_APART: Duration = Duration::from_millis(500);

/// What is to be done about the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The checkpointer moves what there is, beside the writer.
    Move,
    /// The writer moves what came since, so that the WAL begins anew. Nobody is answered meanwhile.
    MoveRest,
    /// The writer waits a little for readers, and cuts the WAL.
    Empty,
}

/// The length of the WAL, as the last commit reported it, and what was done about it.
#[derive(Debug)]
pub(super) struct Wal {
    /// Zero when all of it is in the file: the next commit begins it anew.
    pages: Arc<AtomicU64>,
    pages_max: u64,
    page_bytes: u64,
    /// It is full no sooner than with so many pages: set when readers kept the last move from its end, else zero.
    next_try: u64,
    /// How long it was when the checkpointer was asked for it last, and when that was.
    moved: u64,
    last_move: Instant,
    /// Whether that was a move of a full one: then the rest is due.
    was_full: bool,
    /// How long it was when the disk was last asked for its space.
    asked_at: u64,
}

impl Wal {
    pub(super) fn new(bytes_max: u64, page_bytes: u64, now: Instant) -> Self {
        Self {
            pages: Arc::default(),
            pages_max: (bytes_max / page_bytes).max(1),
            page_bytes,
            next_try: 0,
            moved: 0,
            last_move: now,
            was_full: false,
            asked_at: 0,
        }
    }

    /// Where a commit says how many pages the WAL has now.
    pub(super) fn length(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.pages)
    }

    fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.pages() * self.page_bytes
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.pages_max * self.page_bytes
    }

    /// Whether readers kept the last move from its end.
    pub(super) fn is_kept(&self) -> bool {
        self.next_try > 0
    }

    /// What is due. While the checkpointer is at work nothing is, until the WAL comes close to twice its bound: then whoever asked waits for it. From four times
    /// the bound on, readers are waited for a little, once per bound's worth of growth: short reads that overlap for ever would keep the WAL growing for ever.
    pub(super) fn due(&mut self, is_under_way: bool, now: Instant) -> Due {
        let pages = self.pages();
        if pages < self.moved {
            // The checkpointer moved all of it, and it began anew.
            self.begin();
        }
        let is_full = pages >= self.pages_max.max(self.next_try);
        let part = (self.pages_max / MOVED_PART).max(1);
        let is_part_due = pages >= self.moved + part && now.saturating_duration_since(self.last_move) >= MOVED_APART;
        let waits_from = self.moved.max(self.pages_max * 3 / 2) + self.pages_max / 4;
        if !(is_full || is_part_due || self.was_full) || (is_under_way && pages < waits_from) {
            return Due::Nothing;
        }
        if is_full && pages >= self.pages_max * 4 {
            self.was_full = false;
            Due::Empty
        } else if std::mem::take(&mut self.was_full) {
            Due::MoveRest
        } else {
            self.was_full = is_full;
            self.moved = pages;
            self.last_move = now;
            Due::Move
        }
    }

    /// All of it is in the file.
    pub(super) fn is_empty_now(&mut self) {
        self.pages.store(0, Ordering::Relaxed);
        self.begin();
    }

    /// It begins anew.
    fn begin(&mut self) {
        self.next_try = 0;
        self.moved = 0;
        self.was_full = false;
    }

    /// Readers keep some of it, or the disk does: it is tried again after this part of its bound.
    pub(super) fn is_kept_now(&mut self, part: u64) {
        self.next_try = self.pages() + self.pages_max / part;
    }

    /// How much of the disk the file could need to take in the WAL; nothing where that was asked a few pages ago. Past that point a move could fail, and only a
    /// move gives the WAL's space back.
    pub(super) fn space_to_ask_for(&mut self) -> Option<u64> {
        let pages = self.pages();
        if pages >= self.asked_at && pages < self.asked_at + SPACE_ASKED_PAGES {
            return None;
        }
        self.asked_at = pages;
        Some((pages + 2 * SPACE_ASKED_PAGES) * self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A WAL of 64 pages, and what was due as it grew by a page every 100 ms with a checkpointer that is done at once.
    fn grown(until: u64, kept_at_its_bound: bool) -> Vec<(u64, Due)> {
        let begun = Instant::now();
        let mut wal = Wal::new(64 * 4096, 4096, begun);
        let length = wal.length();
        let mut found = Vec::new();
        for step in 1..=until {
            length.fetch_add(1, Ordering::Relaxed);
            let now = begun + Duration::from_millis(100) * u32::try_from(step).unwrap();
            match wal.due(false, now) {
                Due::Nothing => continue,
                due => found.push((step, due)),
            }
            match (found.last(), kept_at_its_bound) {
                (Some((_, Due::MoveRest)), false) => wal.is_empty_now(),
                (Some((_, Due::MoveRest)), true) => wal.is_kept_now(4),
                (Some((_, Due::Empty)), _) => wal.is_kept_now(1),
                _ => {}
            }
        }
        found
    }

    #[test]
    fn o10_the_writer_moves_the_rest_of_the_wal_at_its_bound_and_not_at_each_part() {
        let parts = (1..=8).map(|part| (8 * part, Due::Move));
        let expect: Vec<_> = parts.chain([(65, Due::MoveRest), (73, Due::Move)]).collect();
        assert_eq!(grown(75, false), expect);
    }

    #[test]
    fn what_readers_keep_is_tried_again_after_a_quarter_and_cut_from_four_times_the_bound_on() {
        let found = grown(340, true);
        let of = |wanted: Due| -> Vec<u64> {
            let steps = found.iter().filter(|(_, due)| *due == wanted);
            steps.map(|(step, _)| *step).collect()
        };
        assert_eq!(of(Due::MoveRest)[..4], [65, 82, 99, 116]);
        assert_eq!(of(Due::Empty), [268, 332], "once per bound's worth of growth");
    }

    #[test]
    fn a_part_is_moved_no_sooner_than_half_a_second_after_the_last() {
        let begun = Instant::now();
        let mut wal = Wal::new(64 * 4096, 4096, begun);
        wal.length().store(20, Ordering::Relaxed);
        assert_eq!(
            wal.due(false, begun + MOVED_APART - Duration::from_millis(1)),
            Due::Nothing
        );
        assert_eq!(wal.due(false, begun + MOVED_APART), Due::Move);
        wal.length().store(60, Ordering::Relaxed);
        assert_eq!(wal.due(false, begun + MOVED_APART * 3 / 2), Due::Nothing);
    }

    #[test]
    fn whoever_writes_waits_for_the_checkpointer_only_close_to_twice_the_bound() {
        let begun = Instant::now();
        let mut wal = Wal::new(64 * 4096, 4096, begun);
        wal.length().store(64, Ordering::Relaxed);
        assert_eq!(wal.due(false, begun), Due::Move, "it is full");
        wal.length().store(111, Ordering::Relaxed);
        assert_eq!(wal.due(true, begun), Due::Nothing);
        wal.length().store(112, Ordering::Relaxed);
        assert_eq!(wal.due(true, begun), Due::MoveRest);
    }

    #[test]
    fn a_wal_that_began_anew_by_itself_owes_nothing() {
        let begun = Instant::now();
        let mut wal = Wal::new(64 * 4096, 4096, begun);
        wal.length().store(64, Ordering::Relaxed);
        assert_eq!(wal.due(false, begun), Due::Move);
        wal.is_kept_now(4);
        wal.length().store(3, Ordering::Relaxed);
        assert_eq!(wal.due(false, begun), Due::Nothing);
        assert!(!wal.is_kept());
    }
}
