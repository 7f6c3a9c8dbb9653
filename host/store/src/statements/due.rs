//! From when on something of a tenant or a destination may be due: where a claim begins to look.
//!
//! A claim finds what is due by an index, from the oldest on. SQLite's has nothing but what waits. PostgreSQL's keeps what has ended as well, for as
//! long as any session holds an older state of the database, and a look from its beginning passes by all of that. So there the writer remembers,
//! for each party that something waits for, a time before which nothing of it is due. It learns that time from what it writes itself, from its own looks, and
//! from [`Survey`]s, which find what other hosts wrote.
//!
//! What is remembered says only where to look; what is found, the rows alone decide. A time that is too early makes a look longer. One that is too late
//! makes work wait for the next survey, and for nothing else.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use tollgate_core::time::UnixMillis;

/// The surveys after which a party is forgotten that none of them found, and for which nothing became ready meanwhile. More than one, because what is being
/// written while a survey is taken is not in it.
#[cfg(not(target_family = "wasm"))]
const FORGOTTEN_AFTER: u64 = 2;
/// When whoever looked comes again, if finding out when the next is due would take too long.
const LOOK_AGAIN_MS: i64 = 1_000;

/// For whom something waits, and from when on it may be due.
#[cfg(not(target_family = "wasm"))]
#[derive(Debug, Default)]
pub(crate) struct Survey<N> {
    pub(crate) parties: Vec<(N, UnixMillis)>,
    /// It took so long that nobody is to look from the beginning.
    pub(crate) is_costly: bool,
}

/// What a writer remembers of what is due. `N` names a party.
#[derive(Debug)]
pub(crate) struct Due<N> {
    /// None where nothing is remembered, and the index is asked.
    parties: Option<BTreeMap<N, Party>>,
    /// How many were heard of. Before the first not all parties are known.
    surveys: u64,
    is_costly: bool,
    /// What the transaction under way changed by looking, as it was before.
    before: Vec<(N, UnixMillis)>,
}

#[derive(Debug, Clone, Copy)]
struct Party {
    /// Before this nothing is due.
    from: UnixMillis,
    /// The survey since which something was known to wait.
    seen: u64,
}

impl<N> Default for Due<N> {
    fn default() -> Self {
        Self {
            parties: None,
            surveys: 0,
            is_costly: false,
            before: Vec::new(),
        }
    }
}

impl<N: Ord + Clone> Due<N> {
    /// Begins to remember.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn remember(&mut self) {
        self.parties.get_or_insert_default();
    }

    /// Whether there was a survey: only then are all parties known.
    pub(crate) fn is_known(&self) -> bool {
        self.surveys > 0
    }

    /// Hears of a survey.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn hear(&mut self, survey: &Survey<N>) {
        self.surveys += 1;
        self.is_costly = survey.is_costly;
        let (now, parties) = (self.surveys, self.parties.get_or_insert_default());
        for (name, from) in &survey.parties {
            lower(parties, name, *from, now);
        }
        parties.retain(|_, party| party.seen + FORGOTTEN_AFTER > now);
    }

    /// The first party behind `name`; None where the index is to be asked.
    #[expect(clippy::option_option, reason = "no party, or nothing known of any")]
    pub(crate) fn behind(&self, name: &N) -> Option<Option<N>> {
        let parties = self.parties.as_ref().filter(|_| self.is_known())?;
        let mut behind = parties.range((Excluded(name), Unbounded));
        Some(behind.next().map(|(name, _)| name.clone()))
    }

    /// The time before which nothing of a party is due.
    pub(crate) fn from(&self, name: &N) -> UnixMillis {
        let party = self.parties.as_ref().and_then(|parties| parties.get(name));
        party.map_or(UnixMillis(i64::MIN), |party| party.from)
    }

    /// When to look again, where to find out when the next is due would take too long.
    pub(crate) fn look_again(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.is_costly.then(|| now.plus_ms(LOOK_AGAIN_MS))
    }

    /// Something of a party is ready, and due at a time.
    pub(crate) fn note(&mut self, name: impl FnOnce() -> N, due_at: UnixMillis) {
        if let Some(parties) = &mut self.parties {
            lower(parties, &name(), due_at, self.surveys);
        }
    }

    /// A look has found that nothing of a party is due before a time, but what it has leased.
    pub(crate) fn looked(&mut self, name: &N, to: UnixMillis) {
        let party = self.parties.as_mut().and_then(|parties| parties.get_mut(name));
        if let Some(party) = party
            && party.from < to
        {
            self.before.push((name.clone(), party.from));
            party.from = to;
        }
    }

    /// A transaction begins: the one before was committed.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn begin(&mut self) {
        self.before.clear();
    }

    /// The transaction was rolled back: what it had leased is due again.
    pub(crate) fn roll_back(&mut self) {
        let Some(parties) = &mut self.parties else { return };
        for (name, from) in self.before.drain(..) {
            lower(parties, &name, from, self.surveys);
        }
    }
}

fn lower<N: Ord + Clone>(parties: &mut BTreeMap<N, Party>, name: &N, from: UnixMillis, seen: u64) {
    match parties.get_mut(name) {
        Some(party) => {
            party.from = party.from.min(from);
            party.seen = seen;
        }
        None => {
            parties.insert(name.clone(), Party { from, seen });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE_MS: i64 = 10;

    /// What waits, as the table has it.
    #[derive(Debug, Clone)]
    struct Row {
        party: u8,
        due_at: i64,
        /// This writer wrote it, or a survey found it.
        is_known: bool,
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Something becomes ready: by this writer, or by another host.
        Ready {
            party: u8,
            due_at: i64,
            is_own: bool,
        },
        Claim {
            party: u8,
            now: i64,
            rows_max: usize,
        },
        Ends {
            at: usize,
        },
        Commit,
        RollBack,
        /// What is ready is found; with what is being written by this writer, or without.
        Survey {
            is_costly: bool,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..3_u8, 0..100_i64, any::<bool>()).prop_map(|(party, due_at, is_own)| Step::Ready { party, due_at, is_own }),
            4 => (0..3_u8, 0..120_i64, 1..4_usize).prop_map(|(party, now, rows_max)| Step::Claim { party, now, rows_max }),
            2 => (0..8_usize).prop_map(|at| Step::Ends { at }),
            2 => Just(Step::Commit),
            1 => Just(Step::RollBack),
            2 => any::<bool>().prop_map(|is_costly| Step::Survey { is_costly }),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// A survey sees what is committed. What this writer wrote is, before it hears of a second one.
    fn survey(rows: &mut [Row], committed: &mut [Row], is_costly: bool) -> Survey<u8> {
        let mut first = BTreeMap::new();
        for row in committed.iter() {
            let from = first.entry(row.party).or_insert(row.due_at);
            *from = row.due_at.min(*from);
        }
        for row in rows.iter_mut().chain(committed) {
            row.is_known |= first.get(&row.party).is_some_and(|from| *from <= row.due_at);
        }
        Survey {
            parties: first
                .into_iter()
                .map(|(party, from)| (party, UnixMillis(from)))
                .collect(),
            is_costly,
        }
    }

    proptest! {
        /// A look that begins where the writer remembers finds whatever the writer wrote, and whatever a survey found.
        #[test]
        fn nothing_that_is_known_to_wait_is_passed_by(steps in steps()) {
            let mut due = Due::default();
            due.remember();
            let (mut rows, mut committed): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
            due.hear(&Survey::default());
            let mut was_surveyed = false;
            for step in steps {
                match step {
                    Step::Ready { party, due_at, is_own } => {
                        if is_own {
                            due.note(|| party, UnixMillis(due_at));
                        }
                        rows.push(Row { party, due_at, is_known: is_own });
                    }
                    Step::Claim { party, now, rows_max } => {
                        let from = due.from(&party).0;
                        rows.sort_by_key(|row| row.due_at);
                        let found = rows.iter_mut().filter(|row| row.party == party && (from..=now).contains(&row.due_at)).take(rows_max);
                        let mut leased = 0;
                        let mut last = now;
                        for row in found {
                            (last, leased) = (row.due_at, leased + 1);
                            row.due_at = now + LEASE_MS;
                        }
                        due.looked(&party, UnixMillis(if leased == rows_max { last } else { now }));
                    }
                    Step::Ends { at } if at < rows.len() => drop(rows.swap_remove(at)),
                    Step::Ends { .. } => {}
                    Step::Commit => {
                        committed.clone_from(&rows);
                        due.begin();
                        was_surveyed = false;
                    }
                    Step::RollBack => {
                        rows.clone_from(&committed);
                        due.roll_back();
                    }
                    Step::Survey { is_costly } => {
                        if std::mem::replace(&mut was_surveyed, true) {
                            committed.clone_from(&rows);
                            due.begin();
                        }
                        due.hear(&survey(&mut rows, &mut committed, is_costly));
                    }
                }
                for row in rows.iter().filter(|row| row.is_known) {
                    prop_assert!(due.parties.as_ref().is_some_and(|parties| parties.contains_key(&row.party)), "{row:?}");
                    prop_assert!(due.from(&row.party).0 <= row.due_at, "{row:?} before {:?}", due.from(&row.party));
                }
            }
        }
    }

    #[test]
    fn a_party_is_forgotten_once_two_surveys_have_not_found_it() {
        let mut due = Due::default();
        due.remember();
        // It was written after the survey was taken that is heard of next.
        due.note(|| "acme", UnixMillis(7));
        assert_eq!(due.behind(&""), None, "not all are known before the first");
        due.hear(&Survey::default());
        assert_eq!(due.behind(&""), Some(Some("acme")));
        due.note(|| "acme", UnixMillis(8));
        assert_eq!(due.behind(&""), Some(Some("acme")));
        // It may have been written while this one was taken.
        due.hear(&Survey::default());
        assert_eq!(due.behind(&""), Some(Some("acme")));
        assert_eq!(due.from(&"acme"), UnixMillis(7));
        due.hear(&Survey::default());
        assert_eq!(due.behind(&""), Some(None));
    }

    #[test]
    fn when_to_look_again_is_said_while_surveys_are_costly() {
        let mut due: Due<&str> = Due::default();
        assert_eq!(due.look_again(UnixMillis(5)), None);
        for is_costly in [true, false] {
            due.hear(&Survey {
                parties: Vec::new(),
                is_costly,
            });
            let again = is_costly.then_some(UnixMillis(5 + LOOK_AGAIN_MS));
            assert_eq!(due.look_again(UnixMillis(5)), again);
        }
    }
}
