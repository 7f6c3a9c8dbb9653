//! What names of keys that nobody vouches for may cost: few fetches, divided by the clients' addresses.
//!
//! Whoever sends a request makes up its key's name. So there is a bound on such fetches for each source, a budget within it for each address,
//! and turns: an address that asks for many names waits behind itself, not others behind it. Who has used up its budget is heard again
//! for a name that it repeats, because a provider repeats its names and whoever makes them up gains nothing by it.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::net::IpAddr;

use tollgate_core::rate::{Bucket, Rate};
use tollgate_core::verify::KeyNeed;

use super::NoKey;

/// Such fetches of one source in all.
const FETCHES_PER_S: u32 = 1;
const FETCHES_AT_ONCE: u32 = 8;
/// Such fetches of one source that are under way.
const UNDER_WAY_MAX: usize = 4;
/// Of one address: so many at once, and then one in [`SHARE_EVERY_S`] seconds.
const ASKER_AT_ONCE: u32 = 4;
const SHARE_EVERY_S: u64 = 10;
/// Addresses whose askers are remembered; of more, the one that was silent for longest has a new one.
const ADDRESSES_MAX: usize = 1024;
/// What may wait for its turn.
const WAITING_OF_ONE_MAX: usize = 4;
const WAITING_ADDRESSES_MAX: usize = 256;
/// A name that could not be had is not asked for again so long.
pub(super) const FAILURE_KEPT_NS: u64 = 10_000_000_000;
/// Failures remembered; beyond, the oldest are forgotten and the rate alone bounds what is asked.
const FAILURES_MAX: usize = 64;
/// Names of which it is remembered that they were asked for, in each of two generations.
const ASKED_MAX: usize = 4096;

/// Who asks: an IPv4 address, or the IPv6 network that one customer has (/64). `None` where it cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker(Option<IpAddr>);

impl Asker {
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        }))
    }
}

/// What becomes of a name that nobody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// It is fetched now; the caller says when that is over.
    Now,
    /// It waits for its turn.
    Later,
}

#[derive(Debug, Default)]
pub(super) struct Strangers {
    all: Bucket,
    askers: BTreeMap<Asker, AskerBudget>,
    under_way: usize,
    waiting: Turns,
    asked: AskedBefore,
    /// Until when a name is not asked for again.
    failed: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct AskerBudget {
    bucket: Bucket,
    last_ns: u64,
}

impl Strangers {
    /// # Errors
    /// When the name failed a moment ago, or its asker has used up its budget.
    pub(super) fn ask(&mut self, asker: Asker, need: &KeyNeed, now_ns: u64) -> Result<Asked, NoKey> {
        self.failed.retain(|_, until_ns| *until_ns > now_ns);
        if self.failed.contains_key(need.name()) {
            return Err(NoKey::FailedBefore);
        }
        if self.waiting.has(asker, need) {
            return Ok(Asked::Later);
        }
        let has_budget = self.take_budget(asker, now_ns);
        if has_budget && self.waiting.is_empty() && self.may_begin(now_ns) {
            return Ok(Asked::Now);
        }
        if !has_budget && !self.asked.before(need.name()) {
            return Err(NoKey::TooMany);
        }
        if self.waiting.push(asker, need.clone()) {
            Ok(Asked::Later)
        } else {
            Err(NoKey::TooMany)
        }
    }

    /// Whose turn it is to be fetched now. The caller says when that is over.
    pub(super) fn next(&mut self, now_ns: u64) -> Option<KeyNeed> {
        if self.waiting.is_empty() || !self.may_begin(now_ns) {
            return None;
        }
        self.waiting.pop()
    }

    /// A fetch that was begun is over.
    pub(super) fn is_over(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    pub(super) fn remember_failure(&mut self, name: &str, now_ns: u64) {
        if self.failed.len() >= FAILURES_MAX
            && let Some(oldest) = self
                .failed
                .iter()
                .min_by_key(|(_, until_ns)| **until_ns)
                .map(|(name, _)| name.clone())
        {
            self.failed.remove(&oldest);
        }
        self.failed
            .insert(name.to_owned(), now_ns.saturating_add(FAILURE_KEPT_NS));
    }

    fn may_begin(&mut self, now_ns: u64) -> bool {
        let begins = self.under_way < UNDER_WAY_MAX
            && Rate::new(FETCHES_PER_S, FETCHES_AT_ONCE).is_some_and(|rate| self.all.take(rate, now_ns).is_ok());
        self.under_way += usize::from(begins);
        begins
    }

    fn take_budget(&mut self, asker: Asker, now_ns: u64) -> bool {
        if self.askers.len() >= ADDRESSES_MAX
            && !self.askers.contains_key(&asker)
            && let Some(silent) = self.askers.iter().min_by_key(|(_, budget)| budget.last_ns)
        {
            let silent = *silent.0;
            self.askers.remove(&silent);
        }
        let budget = self.askers.entry(asker).or_default();
        budget.last_ns = now_ns;
        // A rate is at least one a second; this clock is slower.
        let slow_ns = now_ns / SHARE_EVERY_S;
        Rate::new(1, ASKER_AT_ONCE).is_some_and(|rate| budget.bucket.take(rate, slow_ns).is_ok())
    }
}

/// What waits, by who asked for it. Whoever has something waiting gets a turn before anybody gets a second one.
#[derive(Debug, Default)]
struct Turns {
    waiting: BTreeMap<Asker, VecDeque<KeyNeed>>,
    /// Each asker of `waiting` once, the next one first.
    order: VecDeque<Asker>,
}

impl Turns {
    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn has(&self, asker: Asker, need: &KeyNeed) -> bool {
        self.waiting.get(&asker).is_some_and(|its| its.contains(need))
    }

    /// Returns whether the budget allowed it.
    fn push(&mut self, asker: Asker, need: KeyNeed) -> bool {
        match self.waiting.get_mut(&asker) {
            Some(its) if its.len() >= WAITING_OF_ONE_MAX => return false,
            Some(its) => its.push_back(need),
            None if self.order.len() >= WAITING_ADDRESSES_MAX => return false,
            None => {
                self.waiting.insert(asker, VecDeque::from([need]));
                self.order.push_back(asker);
            }
        }
        true
    }

    fn pop(&mut self) -> Option<KeyNeed> {
        let asker = self.order.pop_front()?;
        let its = self.waiting.get_mut(&asker)?;
        let need = its.pop_front();
        if its.is_empty() {
            self.waiting.remove(&asker);
        } else {
            self.order.push_back(asker);
        }
        need
    }
}

/// Which names were asked for before, by their hashes under a key of this process. Of two generations the older one goes when the newer
/// is full, so that names that come once push out a repeated one only after thousands.
#[derive(Debug, Default)]
struct AskedBefore {
    hasher: RandomState,
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl AskedBefore {
    /// Whether the name was asked for before. From now on it was.
    fn before(&mut self, name: &str) -> bool {
        let hash = self.hasher.hash_one(name);
        let before = self.newer.contains(&hash) || self.older.contains(&hash);
        if self.newer.len() >= ASKED_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(hash);
        before
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tollgate_core::profile::{self, Profile};
    use tollgate_core::secret::{Parameters, Secret};
    use tollgate_core::verify::Keyring;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const START: u64 = 100 * SECOND_NS;

    fn plaid() -> (&'static Profile, Keyring) {
        let plaid = &profile::shipped()["plaid"];
        let parameters: Parameters = [("client_id", "c"), ("secret", "s")]
            .map(|(name, value)| (name.to_owned(), Secret::new(value)))
            .into();
        (plaid, Keyring::with_parameters(plaid, &[], &parameters).unwrap())
    }

    fn needs() -> impl Fn(&str) -> KeyNeed {
        let (plaid, keyring) = plaid();
        move |name| keyring.need(plaid, name.as_bytes()).unwrap()
    }

    fn v4(last: u32) -> Asker {
        Asker::of(Some(Ipv4Addr::from(0xCB00_7100 + last).into()))
    }

    #[test]
    fn names_that_a_sender_makes_up_cause_few_fetches_and_fill_no_memory() {
        let (need, mut strangers) = (needs(), Strangers::default());
        let mut now = 0;
        for number in 0..20_000_u64 {
            let at = START + number * SECOND_NS / 200;
            match strangers.ask(v4(1), &need(&format!("key-{number}")), at) {
                Ok(Asked::Now) => {
                    now += 1;
                    strangers.is_over();
                    strangers.remember_failure(&format!("key-{number}"), at);
                }
                Ok(Asked::Later) => panic!("made up once each, and nothing waits"),
                Err(no_key) => assert_eq!(no_key, NoKey::TooMany),
            }
        }
        // 100 seconds.
        assert_eq!(now, ASKER_AT_ONCE + 9, "a budget at once, and one in ten seconds");
        for number in 0..10 * FAILURES_MAX as u64 {
            strangers.remember_failure(&format!("name-{number}"), START + number);
        }
        assert_eq!(strangers.failed.len(), FAILURES_MAX);
        assert!(
            strangers
                .failed
                .contains_key(&format!("name-{}", 10 * FAILURES_MAX - 1)),
            "the oldest go"
        );
        for number in 0..3 * ADDRESSES_MAX as u32 {
            let _ = strangers.ask(v4(number), &need(&format!("other-{number}")), START + u64::from(number));
        }
        assert!(strangers.askers.len() <= ADDRESSES_MAX);
        assert!(strangers.waiting.order.len() <= WAITING_ADDRESSES_MAX);
        assert!(strangers.asked.newer.len() <= ASKED_MAX && strangers.asked.older.len() <= ASKED_MAX);
    }

    #[test]
    fn a_failure_is_remembered_and_not_for_ever() {
        let (need, mut strangers) = (needs(), Strangers::default());
        assert_eq!(strangers.ask(v4(1), &need("a"), START), Ok(Asked::Now));
        strangers.is_over();
        strangers.remember_failure("a", START);
        assert_eq!(
            strangers.ask(v4(2), &need("a"), START + SECOND_NS),
            Err(NoKey::FailedBefore)
        );
        assert_eq!(
            strangers.ask(v4(2), &need("a"), START + FAILURE_KEPT_NS),
            Ok(Asked::Now)
        );
    }

    #[test]
    fn another_address_has_its_turn_however_much_one_asks_for() {
        let (need, mut strangers) = (needs(), Strangers::default());
        // Each made-up name twice, so that they wait as well.
        for number in 0..1000 {
            for _ in 0..2 {
                let _ = strangers.ask(v4(1), &need(&format!("made-up-{number}")), START);
            }
        }
        assert_eq!(strangers.waiting.waiting[&v4(1)].len(), WAITING_OF_ONE_MAX);
        assert_eq!(strangers.ask(v4(2), &need("genuine"), START), Ok(Asked::Later));
        for _ in 0..ASKER_AT_ONCE {
            strangers.is_over();
        }
        let next = |strangers: &mut Strangers, at| {
            let next = strangers.next(at).map(|need| need.name().to_owned());
            strangers.is_over();
            next
        };
        let turns: Vec<_> = (0..6)
            .filter_map(|_| next(&mut strangers, START + 60 * SECOND_NS))
            .collect();
        assert_eq!(turns.iter().position(|name| name == "genuine"), Some(1), "{turns:?}");
        assert_eq!(turns.len(), 5, "and all that waited");
    }

    #[test]
    fn a_repeated_name_is_heard_beside_names_that_come_once_from_the_same_address() {
        let (need, mut strangers) = (needs(), Strangers::default());
        let (mut at, mut tries, mut made_up) = (START, 0, 0_u64);
        let mut fetched = None;
        while fetched.is_none() && tries < 5 {
            for _ in 0..500 {
                at += SECOND_NS / 500;
                made_up += 1;
                if strangers.ask(v4(1), &need(&format!("made-up-{made_up}")), at) == Ok(Asked::Now) {
                    strangers.is_over();
                }
            }
            tries += 1;
            let _ = strangers.ask(v4(1), &need("genuine"), at);
            fetched = strangers.next(at).map(|need| need.name().to_owned());
        }
        assert_eq!((fetched.as_deref(), tries), (Some("genuine"), 2), "when it came again");
    }

    #[test]
    fn an_asker_is_an_address_or_the_network_of_one_customer() {
        let v6 = |text: &str| Asker::of(Some(text.parse::<Ipv6Addr>().unwrap().into()));
        assert_eq!(v6("2001:db8:1:2::3"), v6("2001:db8:1:2:ffff::9"));
        assert_ne!(v6("2001:db8:1:2::3"), v6("2001:db8:1:3::3"));
        assert_ne!(v4(1), v4(2));
        assert_eq!(Asker::of(None), Asker(None));
    }
}
