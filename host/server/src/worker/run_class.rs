//! Two classes, so that a slow plugin holds up nobody but its own tenant (promise P6).
//!
//! Every run begins on the fast pool and gets [`FAST_MS`] there. What is not through by then is stopped and begun again on the
//! slow threads with its whole deadline: a run is a pure function of what it reads, so nothing is lost but that time. What was slow
//! a moment ago begins there. The slow threads have a lower priority, tenants take turns at them, and a tenant whose slow runs wait
//! gets no new jobs until they are through. However long a run waits there, its job's lease is extended, so that nobody else begins it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tollgate_core::ids::{PluginDigest, TenantName};
use tollgate_core::time::UnixMillis;

use super::pool::Pool;
use crate::thread_priority;

/// The wall-clock time that a run gets on the fast pool.
pub(super) const FAST_MS: u64 = 25;
/// How long a version that was slow for a tenant is taken to be slow.
const SLOW_FOR_MS: i64 = 10_000;
/// Slow threads at the least: with a single one, each run that takes its whole deadline holds up all other slow tenants.
const SLOW_THREADS_MIN: usize = 2;
/// Slow runs of one tenant that wait or run before it is passed over.
const SLOW_PER_TENANT_MAX: usize = 8;

/// How long a run may take before it makes way for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunClass {
    /// The run gets [`FAST_MS`] on the fast pool.
    Fast,
    /// The run gets its whole deadline on a slow thread.
    Slow,
}

/// Whether a job that waits for its run is still this worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    Still,
    Lost,
}

/// The slow threads, and who is slow.
pub(super) struct RunClasses {
    slow: Pool,
    known: Mutex<HashMap<(TenantName, PluginDigest), UnixMillis>>,
    slow_in_flight: Mutex<BTreeMap<TenantName, usize>>,
    /// Wakes when a slow run has ended.
    freed: Notify,
}

impl RunClasses {
    /// Half as many slow threads as there are fast ones, at least [`SLOW_THREADS_MIN`].
    pub(super) fn start(threads: usize) -> Self {
        Self {
            slow: Pool::start(
                "plugin-slow",
                (threads / 2).max(SLOW_THREADS_MIN),
                thread_priority::lower_to_slow_work,
            ),
            known: Mutex::default(),
            slow_in_flight: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// Where a run of this version for this tenant begins.
    pub(super) fn of(&self, tenant: &TenantName, digest: PluginDigest, now: UnixMillis) -> RunClass {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, until| now < *until);
        if known.contains_key(&(tenant.clone(), digest)) {
            RunClass::Slow
        } else {
            RunClass::Fast
        }
    }

    /// Remembers how a run went.
    pub(super) fn remember(&self, tenant: &TenantName, digest: PluginDigest, class: RunClass, now: UnixMillis) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = (tenant.clone(), digest);
        match class {
            RunClass::Fast => known.remove(&whose),
            RunClass::Slow => known.insert(whose, now.plus_ms(SLOW_FOR_MS)),
        };
    }

    /// Runs `task` on a slow thread when it is the tenant's turn, and calls `hold` every `hold_every` until it is through. `None` when
    /// the threads are gone, the task panicked, or `hold` says that the job is lost; a task that has not begun is dropped then.
    pub(super) async fn run_slowly<T: Send + 'static>(
        &self,
        tenant: &TenantName,
        task: impl FnOnce() -> T + Send + 'static,
        hold_every: Duration,
        hold: impl AsyncFn() -> Held,
    ) -> Option<T> {
        let mut run = std::pin::pin!(self.slow.run(tenant, task));
        loop {
            match tokio::time::timeout(hold_every, run.as_mut()).await {
                Ok(result) => return result,
                Err(_) => match hold().await {
                    Held::Still => {}
                    Held::Lost => return None,
                },
            }
        }
    }

    /// Counts a job as slow until what this returns is dropped.
    pub(super) fn count_slow(self: &Arc<Self>, tenant: &TenantName) -> SlowJob {
        let mut in_flight = self.slow_in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        *in_flight.entry(tenant.clone()).or_default() += 1;
        SlowJob {
            classes: Arc::clone(self),
            tenant: tenant.clone(),
        }
    }

    /// Tenants that get no jobs now: enough of their slow runs wait.
    pub(super) fn passed_over(&self) -> Vec<TenantName> {
        let in_flight = self.slow_in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = in_flight.iter().filter(|(_, count)| **count >= SLOW_PER_TENANT_MAX);
        waiting.map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Whether no slow run waits or runs.
    pub(super) fn is_idle(&self) -> bool {
        let in_flight = self.slow_in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.is_empty()
    }

    /// Wakes when a slow run has ended.
    pub(super) fn freed(&self) -> &Notify {
        &self.freed
    }
}

/// A job that runs slowly, or waits for that.
pub(super) struct SlowJob {
    classes: Arc<RunClasses>,
    tenant: TenantName,
}

impl Drop for SlowJob {
    fn drop(&mut self) {
        let mut in_flight = self
            .classes
            .slow_in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_flight.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                in_flight.remove(&self.tenant);
            }
        }
        drop(in_flight);
        self.classes.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn p6_who_was_slow_begins_slowly_for_a_while_and_is_passed_over() {
        let classes = Arc::new(RunClasses::start(1));
        let (acme, globex): (TenantName, TenantName) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let digest = PluginDigest::of(b"a component");
        let now = UnixMillis(1_000);
        assert_eq!(classes.of(&acme, digest, now), RunClass::Fast);
        classes.remember(&acme, digest, RunClass::Slow, now);
        assert_eq!(classes.of(&acme, digest, now.plus_ms(SLOW_FOR_MS - 1)), RunClass::Slow);
        assert_eq!(
            classes.of(&globex, digest, now),
            RunClass::Fast,
            "of another tenant it is fast"
        );
        assert_eq!(classes.of(&acme, digest, now.plus_ms(SLOW_FOR_MS)), RunClass::Fast);
        classes.remember(&acme, digest, RunClass::Slow, now);
        classes.remember(&acme, digest, RunClass::Fast, now);
        assert_eq!(classes.of(&acme, digest, now), RunClass::Fast, "it has become fast");

        let mut slow: Vec<_> = (0..SLOW_PER_TENANT_MAX).map(|_| classes.count_slow(&acme)).collect();
        slow.push(classes.count_slow(&globex));
        assert_eq!(classes.passed_over(), [acme]);
        slow.remove(0);
        assert_eq!(classes.passed_over(), []);
        let held = async || Held::Still;
        assert_eq!(
            classes.run_slowly(&globex, || 7, MOMENT, held).await,
            Some(7),
            "there is a slow thread where there is one thread"
        );
    }

    const MOMENT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn p6_the_lease_of_a_slow_run_is_extended_while_it_waits_and_runs_and_a_lost_one_is_left() {
        let classes = RunClasses::start(1);
        let acme: TenantName = "acme".parse().unwrap();
        let extended = std::cell::Cell::new(0);
        let slow = || std::thread::sleep(10 * MOMENT);
        let hold = async || {
            extended.set(extended.get() + 1);
            Held::Still
        };
        assert_eq!(classes.run_slowly(&acme, slow, MOMENT, hold).await, Some(()));
        assert!(extended.get() > 2, "{}", extended.get());

        let lost = async || Held::Lost;
        assert_eq!(classes.run_slowly(&acme, slow, MOMENT, lost).await, None);
    }
}
