//! The one place of this shell that reads a clock or a random source.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::{Either, select};
use spin_executor::{CancelOnDropToken, push_waker_and_get_token};
use tollgate_core::retry::{Jitter, Moment};
use tollgate_core::time::UnixMillis;

/// The time of the host's clock.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Measures how long something took.
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins to measure.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Whole microseconds since it began.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether so many milliseconds have passed.
    pub fn is_over(&self, ms: u64) -> bool {
        self.0.elapsed() >= Duration::from_millis(ms)
    }
}

/// A random delay. Without a random source it is the longest one, which is safe.
pub fn jitter() -> Jitter {
    getrandom::u32().map_or(Jitter::FULL, Jitter)
}

/// A number that is hardly drawn twice; without a random source the time in nanoseconds.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// The time and the jitter for a decision that is made now.
pub fn moment() -> Moment {
    Moment {
        now: now(),
        jitter: jitter(),
    }
}

/// What `work` gives, or `None` when `ms` milliseconds are over first; then `work` is dropped.
pub async fn within<T>(ms: u64, work: impl Future<Output = T>) -> Option<T> {
    let until = Instant::now() + Duration::from_millis(ms);
    match select(Box::pin(work), Sleep { until, waiting: None }).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(((), _)) => None,
    }
}

/// Waits so many milliseconds.
pub async fn sleep(ms: u64) {
    let until = Instant::now() + Duration::from_millis(ms);
    Sleep { until, waiting: None }.await;
}

struct Sleep {
    until: Instant,
    /// Dropped with the future, so that a clock nobody waits for is not polled.
    waiting: Option<CancelOnDropToken>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Poll::Ready(());
        }
        let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        let pollable = wasi::clocks::monotonic_clock::subscribe_duration(nanos);
        let waiting = push_waker_and_get_token(pollable, context.waker().clone());
        drop(self.waiting.replace(waiting.into()));
        Poll::Pending
    }
}
