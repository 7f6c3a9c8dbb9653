//! Turns: decides who is given work when more waits than one claim takes, for tenants' jobs and for destinations' outbox entries alike.
//!
//! Whoever waits gets an equal share of each claim, and the next claim goes on behind the last that got one; so a party with much
//! waiting delays no other, and none waits for longer than it takes to come round to it. What one leaves of its share goes to those
//! who have more.

/// Parties that one claim looks at; the next goes on behind them.
const LOOKS_MAX: usize = 256;

/// What waits, by party: a tenant or a destination.
pub trait Line {
    /// The name of a party. The default comes before every name, and is no party's.
    type Name: Ord + Clone + Default;
    /// Why what waits cannot be read or leased.
    type Error;

    /// The first party behind `name` for which something waits, due or not.
    ///
    /// # Errors
    /// When it cannot be read.
    fn behind(&mut self, name: &Self::Name) -> Result<Option<Self::Name>, Self::Error>;

    /// How much the party may be given now; 0 when nothing of it is due, or none may be given. Such a one takes nobody's turn.
    ///
    /// # Errors
    /// When it cannot be read.
    fn quota(&mut self, name: &Self::Name) -> Result<usize, Self::Error>;

    /// Leases up to `rows_max` of what is due of the party.
    ///
    /// # Errors
    /// When it cannot be leased.
    fn lease(&mut self, name: &Self::Name, rows_max: usize) -> Result<Leased, Self::Error>;
}

/// What one party was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leased {
    /// How many rows it was given.
    pub rows: usize,
    /// Whether more of it may be due.
    pub may_be_more: bool,
}

/// Leases up to `rows_max` rows by turns, behind `last`, who had the last one. Leaves there who had it now, or where to look next.
///
/// # Errors
/// Those of the line; what was leased until then is leased.
pub fn take<L: Line>(line: &mut L, last: &mut L::Name, rows_max: usize) -> Result<(), L::Error> {
    let mut waiting = in_turn(line, last, rows_max)?;
    let mut left = rows_max;
    while !waiting.is_empty() && left > 0 {
        let share = (left / waiting.len()).max(1);
        let mut with_more = Vec::new();
        for (name, quota) in waiting {
            let wanted = share.min(left).min(quota);
            if wanted == 0 {
                break;
            }
            let leased = line.lease(&name, wanted)?;
            left = left.saturating_sub(leased.rows);
            *last = name.clone();
            let quota = quota.saturating_sub(leased.rows);
            if leased.may_be_more && quota > 0 {
                with_more.push((name, quota));
            }
        }
        waiting = with_more;
    }
    Ok(())
}

/// Those with quota, behind `last` in the order of their names and then from the first on, `last` itself at the end. Leaves in
/// `last` how far it looked.
fn in_turn<L: Line>(line: &mut L, last: &mut L::Name, parties_max: usize) -> Result<Vec<(L::Name, usize)>, L::Error> {
    let nobody = L::Name::default();
    let begun_at = last.clone();
    let mut wrapped = begun_at == nobody;
    let mut waiting = Vec::new();
    let mut looks = 0;
    while waiting.len() < parties_max && looks < LOOKS_MAX {
        match line.behind(last)? {
            Some(name) if wrapped && begun_at != nobody && name > begun_at => break,
            Some(name) => {
                looks += 1;
                let quota = line.quota(&name)?;
                if quota > 0 {
                    waiting.push((name.clone(), quota));
                }
                *last = name;
            }
            None if wrapped => break,
            None => (*last, wrapped) = (nobody.clone(), true),
        }
    }
    Ok(waiting)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// How much waits for each party, and how much of it may be given.
    #[derive(Debug, Clone, Default)]
    struct Waiting {
        parties: BTreeMap<u32, (usize, usize)>,
        given: Vec<u32>,
    }

    impl Waiting {
        fn of(parties: &[(u32, usize)]) -> Self {
            Self {
                parties: parties.iter().map(|(name, due)| (*name, (*due, usize::MAX))).collect(),
                given: Vec::new(),
            }
        }

        /// One claim: how much each was given, in the order of the names.
        fn claim(&mut self, last: &mut u32, rows_max: usize) -> BTreeMap<u32, usize> {
            self.given.clear();
            let Ok(()) = take(self, last, rows_max);
            let mut all = BTreeMap::new();
            for name in &self.given {
                *all.entry(*name).or_default() += 1;
            }
            all
        }
    }

    impl Line for Waiting {
        type Name = u32;
        type Error = Infallible;

        fn behind(&mut self, name: &u32) -> Result<Option<u32>, Infallible> {
            Ok(self.parties.range(name + 1..).next().map(|(name, _)| *name))
        }

        fn quota(&mut self, name: &u32) -> Result<usize, Infallible> {
            let (due, quota) = self.parties[name];
            Ok(if due == 0 { 0 } else { quota })
        }

        fn lease(&mut self, name: &u32, rows_max: usize) -> Result<Leased, Infallible> {
            let (due, _) = self.parties.get_mut(name).expect("it was found");
            let rows = rows_max.min(*due);
            *due -= rows;
            self.given.extend(std::iter::repeat_n(*name, rows));
            Ok(Leased {
                rows,
                may_be_more: rows == rows_max,
            })
        }
    }

    #[test]
    fn who_has_little_waiting_leaves_its_share_to_who_has_much() {
        let mut line = Waiting::of(&[(1, 100), (2, 1), (3, 100)]);
        let given = line.claim(&mut 0, 9);
        assert_eq!(given, BTreeMap::from([(1, 4), (2, 1), (3, 4)]));
    }

    #[test]
    fn a_claim_for_one_goes_round() {
        let mut line = Waiting::of(&[(1, 100), (2, 100), (3, 100)]);
        let mut last = 0;
        let turns: Vec<_> = (0..7).flat_map(|_| line.claim(&mut last, 1).into_keys()).collect();
        assert_eq!(turns, [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn of_more_parties_than_one_claim_looks_at_the_next_claims_reach_the_rest() {
        let nothing_due: Vec<_> = (1..=600).map(|name| (name, 0)).chain([(700, 1)]).collect();
        let mut line = Waiting::of(&nothing_due);
        let mut last = 0;
        let claims: Vec<_> = (0..3).map(|_| line.claim(&mut last, 4).len()).collect();
        assert_eq!(claims, [0, 0, 1]);
    }

    proptest! {
        /// Nothing is left lying while there is quota, nobody is given more than its quota or than waits, and the shares of two who
        /// could both take more differ by one.
        #[test]
        fn shares_are_fair(
            parties in prop::collection::btree_map(1..40_u32, (0..20_usize, 0..20_usize), 0..12),
            mut last in 0..41_u32,
            rows_max in 1..64_usize,
        ) {
            let before = Waiting { parties, given: Vec::new() };
            let mut line = before.clone();
            let given = line.claim(&mut last, rows_max);
            let could: usize = before.parties.values().map(|(due, quota)| due.min(quota)).sum();
            prop_assert_eq!(given.values().sum::<usize>(), could.min(rows_max));
            let of = |name: &u32| given.get(name).copied().unwrap_or(0);
            for (name, (due, quota)) in &before.parties {
                prop_assert!(of(name) <= *due.min(quota));
                for (other, (their_due, their_quota)) in &before.parties {
                    let both_want = of(name) < *due.min(quota) && of(other) < *their_due.min(their_quota);
                    if both_want {
                        prop_assert!(of(name).abs_diff(of(other)) <= 1, "{} of {name}, {} of {other}", of(name), of(other));
                    }
                }
            }
        }
    }
}
