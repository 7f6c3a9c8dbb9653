//! The connections of one edge thread or of the private listener: each holds a slot, and one is evicted when a newcomer finds none free.
//!
//! A connection costs nothing to open and nothing to keep, so whoever wants to lock others out opens many. When every slot is taken,
//! the connections are evicted that the host has waited for longest: for a head, for a body, for an answer to be read. A connection
//! that waits for the host, for a commit or for a key, is never evicted. Bodies that do not arrive while memory for bodies is short
//! are evicted in the same order.
//!
//! One queue holds all that costs much or is worth little: large bodies, piece by piece, and requests of connections whose last one was
//! refused. One of the queue goes on between two turns of all the others, and refusals have a [`TimeBudget`]: a flood of them uses up
//! that budget, and what exceeds it waits in the kernel, and then at its sender's.
//!
//! A peer that was evicted while its request was on the wire sees its connection end without an answer and sends again:
//! nothing was kept of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::time_budget::{self, TimeBudget};
use crate::clock;

/// No connection is evicted sooner: a head and its body need a moment to arrive.
const WAIT_NS_MIN: u64 = 250_000_000;
/// How soon a newcomer looks again for a connection that may be evicted.
const LOOK: Duration = Duration::from_millis(20);
/// One slot of so many is freed at a time, so that all slots are not searched for each newcomer.
const SLOTS_PER_EVICTED: usize = 64;
/// A body that holds less is not evicted for its memory.
const BODY_BYTES_MUCH: usize = 16 * 1024;
/// Stands in the place of an instant: the host works for the peer, which is then never evicted.
const AT_WORK: u64 = u64::MAX;

/// The connections of one edge thread, or of the private listener, by slot.
pub(crate) struct Connections {
    free: Arc<Semaphore>,
    slots_max: usize,
    slots: Mutex<Slots>,
    /// One permit, given in the order of asking. Who gets it runs after every task that is ready now.
    queue: Semaphore,
    /// What metered turns of the queue may take of the thread's time.
    budget: TimeBudget,
    /// Ends all connections, after the answers that are under way.
    shutdown: CancellationToken,
}

#[derive(Default)]
struct Slots {
    taken: Vec<Option<Arc<Connection>>>,
    /// Indices of `taken` that are free.
    free: Vec<usize>,
}

/// The state by which a connection is evicted or not.
struct Connection {
    /// Since when the host has waited for the peer, or [`AT_WORK`].
    waits_since_ns: AtomicU64,
    body_bytes: AtomicUsize,
    close: CancellationToken,
}

/// A connection's slot, freed when it is dropped.
pub(crate) struct Slot {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
    number: usize,
    /// Whether its last request was refused.
    refused: AtomicBool,
    /// What follows the head that was parsed last, until the [`super::Wire`] asks: [`NOTHING_SAID`], [`CHUNKS`], or a body's bytes.
    follows: AtomicU64,
    being_answered: AtomicBool,
    bare_line_feed: AtomicBool,
    _free: OwnedSemaphorePermit,
}

/// What a request's head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follows {
    /// A body of so many bytes, or none.
    Bytes(u64),
    /// A body in chunks.
    Chunks,
}

impl From<&Incoming> for Follows {
    fn from(body: &Incoming) -> Self {
        body.size_hint().exact().map_or(Self::Chunks, Self::Bytes)
    }
}

const NOTHING_SAID: u64 = u64::MAX;
const CHUNKS: u64 = u64::MAX - 1;

impl Connections {
    /// `slots_max` at a time; `shutdown` closes them all.
    pub(crate) fn new(slots_max: usize, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(slots_max)),
            slots_max,
            slots: Mutex::default(),
            queue: Semaphore::new(1),
            budget: TimeBudget::default(),
            shutdown,
        })
    }

    /// Returns a free slot, and evicts others for it when there is none. `None` when the host stops first.
    pub(crate) async fn slot(self: &Arc<Self>) -> Option<Slot> {
        loop {
            if let Ok(free) = Arc::clone(&self.free).try_acquire_owned() {
                return Some(self.take(free));
            }
            self.evict_some();
            tokio::select! {
                free = Arc::clone(&self.free).acquire_owned() => return Some(self.take(free.ok()?)),
                () = tokio::time::sleep(LOOK) => {}
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    fn take(self: &Arc<Self>, free: OwnedSemaphorePermit) -> Slot {
        let connection = Arc::new(Connection {
            waits_since_ns: AtomicU64::new(clock::steady_ns()),
            body_bytes: AtomicUsize::new(0),
            close: self.shutdown.child_token(),
        });
        let mut slots = self.slots();
        let number = slots.free.pop().unwrap_or(slots.taken.len());
        let taken = Some(Arc::clone(&connection));
        match slots.taken.get_mut(number) {
            Some(slot) => *slot = taken,
            None => slots.taken.push(taken),
        }
        Slot {
            connections: Arc::clone(self),
            connection,
            number,
            refused: AtomicBool::new(false),
            follows: AtomicU64::new(NOTHING_SAID),
            being_answered: AtomicBool::new(false),
            bare_line_feed: AtomicBool::new(false),
            _free: free,
        }
    }

    /// Evicts some of those that the host has waited for longest.
    pub(crate) fn evict_some(&self) {
        self.evict(self.slots_max.div_ceil(SLOTS_PER_EVICTED), 0);
    }

    /// Evicts the one that the host has waited for longest among those that hold much of a body. Returns whether there was one.
    pub(super) fn evict_a_body(&self) -> bool {
        self.evict(1, BODY_BYTES_MUCH) > 0
    }

    fn evict(&self, at_most: usize, body_bytes_min: usize) -> usize {
        let long_ago = clock::steady_ns().saturating_sub(WAIT_NS_MIN);
        let slots = self.slots();
        let mut waiting: Vec<(u64, &Arc<Connection>)> = slots
            .taken
            .iter()
            .flatten()
            .filter(|connection| connection.body_bytes.load(Ordering::Relaxed) >= body_bytes_min)
            .map(|connection| (connection.waits_since_ns.load(Ordering::Relaxed), connection))
            .filter(|(since, _)| *since <= long_ago)
            .collect();
        if waiting.len() > at_most {
            waiting.select_nth_unstable_by_key(at_most, |(since, _)| *since);
            waiting.truncate(at_most);
        }
        for (_, connection) in &waiting {
            // It is not chosen again while its task ends.
            connection.waits_since_ns.store(AT_WORK, Ordering::Relaxed);
            connection.close.cancel();
        }
        waiting.len()
    }

    /// Waits until all slots are free.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(self.slots_max).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(all).await;
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Cancelled when the connection must end: at once when it is evicted, after its answer when the host stops.
    pub(crate) fn close(&self) -> &CancellationToken {
        &self.connection.close
    }

    /// Records that a head was parsed, and what follows it on the wire. Its request is being answered from now on.
    pub(crate) fn is_asked(&self, follows: Follows) {
        let said = match follows {
            // No peer sends so much; nothing is misread if one says that it will.
            Follows::Bytes(bytes) => bytes.min(CHUNKS - 1),
            Follows::Chunks => CHUNKS,
        };
        self.follows.store(said, Ordering::Relaxed);
        self.being_answered.store(true, Ordering::Relaxed);
    }

    /// Records that the request's answer is there.
    pub(crate) fn has_answered(&self) {
        self.being_answered.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_being_answered(&self) -> bool {
        self.being_answered.load(Ordering::Relaxed)
    }

    /// How long the host has waited for the peer; zero while it works for it.
    pub(super) fn has_waited(&self) -> Duration {
        let since_ns = self.connection.waits_since_ns.load(Ordering::Relaxed);
        Duration::from_nanos(clock::steady_ns().saturating_sub(since_ns))
    }

    /// What follows the last head, once.
    pub(super) fn take_follows(&self) -> Option<Follows> {
        match self.follows.swap(NOTHING_SAID, Ordering::Relaxed) {
            NOTHING_SAID => None,
            CHUNKS => Some(Follows::Chunks),
            bytes => Some(Follows::Bytes(bytes)),
        }
    }

    pub(super) fn sent_a_bare_line_feed(&self) {
        self.bare_line_feed.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_sent_a_bare_line_feed(&self) -> bool {
        self.bare_line_feed.load(Ordering::Relaxed)
    }

    /// Records that the host waits for the peer from now on.
    pub(crate) fn waits_for_peer(&self) {
        self.connection
            .waits_since_ns
            .store(clock::steady_ns(), Ordering::Relaxed);
    }

    /// Records that the peer waits for the host: it is not evicted meanwhile.
    pub(crate) fn works_for_peer(&self) {
        self.connection.waits_since_ns.store(AT_WORK, Ordering::Relaxed);
    }

    /// Records how much memory the connection's body takes.
    pub(super) fn holds(&self, body_bytes: usize) {
        self.connection.body_bytes.store(body_bytes, Ordering::Relaxed);
    }

    /// Records whether the connection's last request was refused.
    pub(super) fn was_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Waits in the queue and for its time budget if the connection's last request was refused.
    pub(super) async fn queue_if_refused(&self) {
        if self.refused.load(Ordering::Relaxed) {
            drop(self.metered_turn(time_budget::REFUSAL_NS).await);
        }
    }

    /// A turn of the queue that uses up so much of its time budget: the queue stands still until there is some again.
    pub(super) async fn metered_turn(&self, cost_ns: u64) -> Option<SemaphorePermit<'_>> {
        let turn = self.turn().await;
        self.connections.budget.take(cost_ns).await;
        turn
    }

    /// Waits in the queue. While the turn is held nobody else in the queue goes on, so it is not held while waiting.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.connections.queue.acquire().await.ok()
    }

    /// See [`Connections::evict_a_body`].
    pub(super) fn evict_a_body(&self) -> bool {
        self.connections.evict_a_body()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.connections.slots();
        if let Some(slot) = slots.taken.get_mut(self.number) {
            *slot = None;
        }
        slots.free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn full(slots_max: usize) -> (Arc<Connections>, Vec<Slot>) {
        let connections = Connections::new(slots_max, CancellationToken::new());
        let mut slots = Vec::new();
        for _ in 0..slots_max {
            slots.push(connections.slot().await.unwrap());
        }
        (connections, slots)
    }

    fn since(slot: &Slot, ns: u64) {
        slot.connection.waits_since_ns.store(ns, Ordering::Relaxed);
    }

    /// Old enough to be evicted, whatever the clock has come to.
    async fn later() {
        clock::steady_ns();
        tokio::time::sleep(Duration::from_nanos(WAIT_NS_MIN + 20_000_000)).await;
    }

    #[tokio::test]
    async fn the_connection_that_was_waited_for_longest_is_evicted_for_a_newcomer() {
        let (connections, mut slots) = full(3).await;
        later().await;
        since(&slots[0], 3);
        since(&slots[1], 1);
        slots[2].works_for_peer();
        let newcomer = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move { connections.slot().await }
        });
        slots[1].close().cancelled().await;
        assert!(!slots[0].close().is_cancelled(), "one newcomer, one slot");
        assert!(!slots[2].close().is_cancelled());
        drop(slots.remove(1));
        let newcomer = newcomer.await.unwrap().unwrap();
        // The slot is used again, and its new connection is judged like any other.
        assert_eq!(newcomer.number, 1);
        since(&newcomer, 2);
        connections.evict_some();
        assert!(newcomer.close().is_cancelled() && !slots[0].close().is_cancelled());
    }

    #[tokio::test]
    async fn no_connection_is_evicted_at_once_or_while_the_host_works_for_it() {
        let (connections, slots) = full(2).await;
        connections.evict_some();
        assert!(
            slots.iter().all(|slot| !slot.close().is_cancelled()),
            "they have just come"
        );
        later().await;
        slots.iter().for_each(Slot::works_for_peer);
        connections.evict_some();
        assert!(slots.iter().all(|slot| !slot.close().is_cancelled()));
        slots[0].waits_for_peer();
        connections.evict_some();
        assert!(!slots[0].close().is_cancelled(), "its answer has just been given");
    }

    #[tokio::test]
    async fn the_body_that_was_waited_for_longest_is_evicted_for_its_memory() {
        let (connections, slots) = full(3).await;
        later().await;
        for (slot, (ns, bytes)) in slots.iter().zip([(1, 10), (3, BODY_BYTES_MUCH), (2, BODY_BYTES_MUCH)]) {
            since(slot, ns);
            slot.holds(bytes);
        }
        let left = || slots.iter().map(|slot| slot.close().is_cancelled()).collect::<Vec<_>>();
        assert!(connections.evict_a_body());
        assert_eq!(left(), [false, false, true]);
        assert!(connections.evict_a_body());
        assert_eq!(left(), [false, true, true]);
        assert!(!connections.evict_a_body(), "the rest is not worth it");
    }

    #[tokio::test]
    async fn a_stop_closes_every_connection() {
        let (connections, slots) = full(2).await;
        connections.shutdown.cancel();
        assert!(slots.iter().all(|slot| slot.close().is_cancelled()));
        assert!(connections.slot().await.is_none());
        drop(slots);
        connections.drained().await;
    }
}
