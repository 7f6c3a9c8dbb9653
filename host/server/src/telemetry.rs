//! What the host counts of its requests, for the private listener, and what of it is logged.
//!
//! Refused traffic is counted by tenant, source and reason and logged sampled, with identifiers masked: of each the first, then at
//! most one line a second that says how many were left out, and [`LINES_PER_S_MAX`] of all together, so that a flood of forged
//! requests cannot fill a disk with its own refusals, nor one tenant's hide another's (promise I2).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_core::answer::{Happening, Rejection};
use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::rate::{Bucket, Rate};
use tollgate_core::time::UnixMillis;

const KEPT: [&str; 6] = ["accepted", "superseded", "held", "same", "conflict", "suspected-replay"];

/// Lines about refusals, of all tenants and reasons together.
const LINES_PER_S_MAX: u32 = 20;
const LINES_BURST: u32 = 60;
/// How soon a second line is written about the same thing.
const AGAIN_AFTER_MS: i64 = 1000;

/// Counters of the edge. Shared by its threads; relaxed, because nothing is decided by them.
#[derive(Debug, Default)]
pub(crate) struct EdgeCounters {
    kept: [AtomicU64; KEPT.len()],
    rejected: [AtomicU64; Rejection::ALL.len()],
    refusals: Mutex<Refusals>,
    /// What was kept and has no effect.
    set_aside: Mutex<Refusals>,
    /// Providers' questions that were answered; nothing is kept of them.
    pub(crate) challenges: AtomicU64,
    pub(crate) connections_open: AtomicI64,
    pub(crate) connections_total: AtomicU64,
}

/// Whose a refused request was, as far as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Of no tenant that there is.
    Nobodys,
    /// For no source that the tenant has.
    Tenants(&'a TenantName),
    Sources(&'a TenantName, &'a SourceName),
}

/// Why requests were refused, and of whom. By the core's slugs and the configuration's names, so strangers cannot make it grow.
#[derive(Debug, Default)]
struct Refusals {
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

/// How often something happened, and how much of it was said.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    last_said: Option<UnixMillis>,
    left_out: u64,
}

impl Tally {
    /// Counts one more. When it is to be said: how many were left out since the last that was.
    pub(crate) fn count(&mut self, now: UnixMillis) -> Option<u64> {
        self.count_within(now, || true)
    }

    /// As [`Self::count`], where `may_say` is asked as well, last.
    fn count_within(&mut self, now: UnixMillis, may_say: impl FnOnce() -> bool) -> Option<u64> {
        self.count += 1;
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

impl EdgeCounters {
    pub(crate) fn count(&self, happening: &Happening) {
        let counter = match happening {
            Happening::Accepted(_) => &self.kept[0],
            Happening::Superseded(_) => &self.kept[1],
            Happening::Held(_) => &self.kept[2],
            Happening::Same(_) => &self.kept[3],
            Happening::Conflict(_) => &self.kept[4],
            Happening::SuspectedReplay(_) => &self.kept[5],
            Happening::Rejected(rejection) => &self.rejected[*rejection as usize],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal. When it is to be logged: how many of the same were left out before it.
    pub(crate) fn refused(&self, whose: Whose<'_>, cause: &'static str, now: UnixMillis) -> Option<u64> {
        self.refusals().count(whose, cause, now)
    }

    /// Counts an event that was kept without effect. When it is to be logged: how many of the same were left out before it.
    pub(crate) fn set_aside(&self, whose: Whose<'_>, cause: &'static str, now: UnixMillis) -> Option<u64> {
        locked(&self.set_aside).count(whose, cause, now)
    }

    /// Logs what was left out of the log and is over.
    pub(crate) fn say_left_over(&self, now: UnixMillis) {
        let mut refusals = self.refusals();
        let Refusals {
            nobodys,
            tenants,
            lines,
        } = &mut *refusals;
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

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        locked(&self.refusals)
    }

    /// The counters in Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        out.push_str("# HELP tollgate_intake_total Requests at the edge by what became of them.\n");
        out.push_str("# TYPE tollgate_intake_total counter\n");
        let kept = KEPT.iter().copied().zip(&self.kept);
        let rejected = Rejection::ALL
            .iter()
            .map(|rejection| rejection.as_str())
            .zip(&self.rejected);
        // Some rejections have one name.
        let mut results: Vec<(&str, u64)> = Vec::new();
        for (name, counter) in kept.chain(rejected) {
            let count = counter.load(Ordering::Relaxed);
            match results.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += count,
                None => results.push((name, count)),
            }
        }
        for (name, count) in results {
            let _ = writeln!(out, "tollgate_intake_total{{result=\"{name}\"}} {count}");
        }
        self.refusals().render(
            out,
            ("tollgate_refused_total", "Refused requests by cause."),
            (
                "tollgate_source_refused_total",
                "Refused requests by tenant, source and cause, as far as they came.",
            ),
        );
        locked(&self.set_aside).render(
            out,
            (
                "tollgate_set_aside_total",
                "Events that were kept without effect, by cause.",
            ),
            (
                "tollgate_source_set_aside_total",
                "Events that were kept without effect, by tenant, source and cause.",
            ),
        );
        out.push_str("# HELP tollgate_log_lines_left_out_total Log lines that could not be written.\n");
        out.push_str("# TYPE tollgate_log_lines_left_out_total counter\n");
        let _ = writeln!(
            out,
            "tollgate_log_lines_left_out_total {}",
            crate::log::left_out_total()
        );
        out.push_str("# HELP tollgate_challenges_total Providers' questions that were answered.\n");
        out.push_str("# TYPE tollgate_challenges_total counter\n");
        let _ = writeln!(
            out,
            "tollgate_challenges_total {}",
            self.challenges.load(Ordering::Relaxed)
        );
        out.push_str(
            "# HELP tollgate_connections_open Open public connections.\n# TYPE tollgate_connections_open gauge\n",
        );
        let _ = writeln!(
            out,
            "tollgate_connections_open {}",
            self.connections_open.load(Ordering::Relaxed)
        );
        out.push_str("# HELP tollgate_connections_total Public connections since start.\n");
        out.push_str("# TYPE tollgate_connections_total counter\n");
        let _ = writeln!(
            out,
            "tollgate_connections_total {}",
            self.connections_total.load(Ordering::Relaxed)
        );
    }
}

impl Refusals {
    fn count(&mut self, whose: Whose<'_>, cause: &'static str, now: UnixMillis) -> Option<u64> {
        let Refusals {
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

    fn render(&self, out: &mut String, (all, all_help): (&str, &str), (each, each_help): (&str, &str)) {
        let mut totals: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut by_source = String::new();
        let mut add = |causes: &Causes, whose: &str| {
            for (cause, Tally { count, .. }) in causes {
                *totals.entry(cause).or_default() += count;
                let _ = writeln!(by_source, "{each}{{{whose}cause=\"{cause}\"}} {count}");
            }
        };
        add(&self.nobodys, "");
        for (tenant, of_tenant) in &self.tenants {
            add(&of_tenant.sourceless, &format!("tenant=\"{tenant}\","));
            for (source, causes) in &of_tenant.sources {
                add(causes, &format!("tenant=\"{tenant}\",source=\"{source}\","));
            }
        }
        let _ = writeln!(out, "# HELP {all} {all_help}\n# TYPE {all} counter");
        for (cause, count) in totals {
            let _ = writeln!(out, "{all}{{cause=\"{cause}\"}} {count}");
        }
        let _ = writeln!(out, "# HELP {each} {each_help}\n# TYPE {each} counter");
        out.push_str(&by_source);
    }
}

fn locked(refusals: &Mutex<Refusals>) -> MutexGuard<'_, Refusals> {
    refusals.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn i2_refusals_are_logged_once_a_second_per_tenant_source_and_cause_with_how_many_were_left_out() {
        let counters = EdgeCounters::default();
        let (acme, globex): (TenantName, TenantName) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let (shop, bank): (SourceName, SourceName) = ("shop".parse().unwrap(), "bank".parse().unwrap());
        let refused = |whose: Whose<'_>, cause, now| counters.refused(whose, cause, UnixMillis(now));
        assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", 0), Some(0));
        for at in 1..=99 {
            assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", at), None);
        }
        // A flood to one source hides no other cause, source or tenant.
        for whose in [
            Whose::Sources(&acme, &bank),
            Whose::Sources(&globex, &shop),
            Whose::Tenants(&acme),
            Whose::Nobodys,
        ] {
            assert_eq!(refused(whose, "no-match", 99), Some(0), "{whose:?}");
        }
        assert_eq!(refused(Whose::Sources(&acme, &shop), "body-too-large", 99), Some(0));
        assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", 1000), Some(99));
        assert_eq!(refused(Whose::Sources(&acme, &shop), "no-match", 2000), Some(0));

        counters.count(&Happening::Rejected(Rejection::Unauthentic));
        let mut text = String::new();
        counters.render(&mut text);
        for line in [
            "tollgate_refused_total{cause=\"no-match\"} 106\n",
            "tollgate_source_refused_total{tenant=\"acme\",source=\"shop\",cause=\"no-match\"} 102\n",
            "tollgate_source_refused_total{tenant=\"globex\",source=\"shop\",cause=\"no-match\"} 1\n",
            "tollgate_source_refused_total{tenant=\"acme\",cause=\"no-match\"} 1\n",
            "tollgate_source_refused_total{cause=\"no-match\"} 1\n",
            "tollgate_intake_total{result=\"unauthentic\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

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

    #[test]
    fn i2_refusals_of_many_sources_together_are_a_few_lines_a_second() {
        let counters = EdgeCounters::default();
        let shop: SourceName = "shop".parse().unwrap();
        let lines = (0..500)
            .filter(|n| {
                let tenant: TenantName = format!("tenant-{n}").parse().unwrap();
                counters
                    .refused(Whose::Sources(&tenant, &shop), "no-match", UnixMillis(1_000_000))
                    .is_some()
            })
            .count();
        assert_eq!(lines, LINES_BURST as usize);
    }

    #[test]
    fn every_rejection_has_its_own_counter() {
        for (at, rejection) in Rejection::ALL.into_iter().enumerate() {
            assert_eq!(rejection as usize, at);
        }
    }
}
