//! How much of what happens again and again is logged: of each thing the first, then at most one line a second that says how many were
//! left out, and [`LINES_PER_S_MAX`] of all together.

use std::collections::BTreeMap;

use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::rate::{Bucket, Rate};
use tollgate_core::time::UnixMillis;

use super::Whose;

/// Lines about refusals, of all tenants and reasons together.
const LINES_PER_S_MAX: u32 = 20;
pub(super) const LINES_BURST: u32 = 60;
/// How soon a second line is written about the same thing.
const AGAIN_AFTER_MS: i64 = 1000;

/// What was logged of refusals, and of whom. By the core's slugs and the configuration's names, so strangers cannot make it grow.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    nobodys: Causes,
    tenants: BTreeMap<TenantName, OfTenant>,
    lines: Bucket,
}

#[derive(Debug, Default)]
struct OfTenant {
    sourceless: Causes,
    sources: BTreeMap<SourceName, Causes>,
}

type Causes = BTreeMap<&'static str, Tally>;

/// How much of one thing was said.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    last_said: Option<UnixMillis>,
    left_out: u64,
}

impl Tally {
    /// Takes one more. When it is to be said: how many were left out since the last that was.
    pub(crate) fn count(&mut self, now: UnixMillis) -> Option<u64> {
        self.count_within(now, || true)
    }

    /// As [`Self::count`], where `may_say` is asked as well, last.
    fn count_within(&mut self, now: UnixMillis, may_say: impl FnOnce() -> bool) -> Option<u64> {
        self.left_out += 1;
        self.say(now, may_say).map(|all| all - 1)
    }

    /// What was left out and has not been said for a second.
    pub(crate) fn left_over(&mut self, now: UnixMillis) -> Option<u64> {
        if self.left_out == 0 {
            None
        } else {
            self.say(now, || true)
        }
    }

    fn say(&mut self, now: UnixMillis, may_say: impl FnOnce() -> bool) -> Option<u64> {
        let is_time = self.last_said.is_none_or(|last| now.since(last) >= AGAIN_AFTER_MS);
        (is_time && may_say()).then(|| {
            self.last_said = Some(now);
            std::mem::take(&mut self.left_out)
        })
    }
}

impl Tallies {
    /// Takes one more. When it is to be said: how many of the same were left out before it.
    pub(super) fn count(&mut self, whose: Whose<'_>, cause: &'static str, now: UnixMillis) -> Option<u64> {
        let Self {
            nobodys,
            tenants,
            lines,
        } = self;
        let causes = match whose {
            Whose::Nobodys => nobodys,
            Whose::Tenants(tenant) => &mut entry(tenants, tenant).sourceless,
            Whose::Sources(tenant, source) => entry(&mut entry(tenants, tenant).sources, source),
        };
        let tally = causes.entry(cause).or_default();
        tally.count_within(now, || may_write(lines, now))
    }

    /// Logs what was left out of the log and is over.
    pub(super) fn say_left_over(&mut self, now: UnixMillis) {
        let Self {
            nobodys,
            tenants,
            lines,
        } = self;
        for (cause, tally) in nobodys {
            if let Some(left_out) = left_over(tally, lines, now) {
                tracing::warn!(cause, left_out, "refused before, and not logged one by one");
            }
        }
        for (tenant, of_tenant) in tenants {
            for (cause, tally) in &mut of_tenant.sourceless {
                if let Some(left_out) = left_over(tally, lines, now) {
                    tracing::warn!(%tenant, cause, left_out, "refused before, and not logged one by one");
                }
            }
            for (source, causes) in &mut of_tenant.sources {
                for (cause, tally) in causes {
                    if let Some(left_out) = left_over(tally, lines, now) {
                        tracing::warn!(%tenant, %source, cause, left_out, "refused before, and not logged one by one");
                    }
                }
            }
        }
    }
}

/// The entry of a name, which is copied only when it is new.
fn entry<'m, K: Ord + Clone, V: Default>(map: &'m mut BTreeMap<K, V>, key: &K) -> &'m mut V {
    if !map.contains_key(key) {
        map.insert(key.clone(), V::default());
    }
    map.get_mut(key).expect("it was put there just now")
}

/// Takes one line from the log's budget.
fn may_write(lines: &mut Bucket, now: UnixMillis) -> bool {
    let Some(rate) = Rate::new(LINES_PER_S_MAX, LINES_BURST) else {
        return true;
    };
    let now_ns = u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000_000);
    lines.take(rate, now_ns).is_ok()
}

fn left_over(tally: &mut Tally, lines: &mut Bucket, now: UnixMillis) -> Option<u64> {
    // Asked in this order, so that what has nothing to say takes nothing from it.
    tally.left_over(now).inspect(|_| {
        let _ = may_write(lines, now);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i2_what_is_left_out_of_the_log_is_said_when_the_flood_is_over() {
        let mut tally = Tally::default();
        assert_eq!(tally.left_over(UnixMillis(0)), None);
        assert_eq!(tally.count(UnixMillis(0)), Some(0));
        assert_eq!(tally.left_over(UnixMillis(5_000)), None, "all of it was said");
        assert_eq!(tally.count(UnixMillis(5_000)), Some(0));
        assert_eq!(
            (tally.count(UnixMillis(5_001)), tally.count(UnixMillis(5_002))),
            (None, None)
        );
        assert_eq!(tally.left_over(UnixMillis(5_999)), None, "it may go on");
        assert_eq!(tally.left_over(UnixMillis(6_000)), Some(2));
        assert_eq!(tally.left_over(UnixMillis(9_000)), None, "once");
    }
}
