//! The house: the connections of one edge thread, each on a seat, and who has to go when there is none left.
//!
//! A connection costs nothing to open and nothing to keep, so whoever wants to lock others out opens many. When the house is full,
//! those leave for newcomers that have kept it waiting for longest: for a head, for a body, for an answer to be read. Whoever
//! waits for the host, for a commit or for a key, is never sent away. Bodies that stay away while memory for bodies is short go in
//! the same order.
//!
//! Before the seats there is one line for all that costs much or is worth little: large bodies, piece by piece, and requests of
//! connections whose last one was refused. Of those in line one goes on between two looks at all the others, and refusals have a
//! [`Share`] of the time: a flood of them takes that, and what is more than it waits in the kernel, and then at its sender's.
//!
//! A peer that was sent away while its request was on the wire sees its connection end without an answer and sends again:
//! nothing was kept of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::share::{self, Share};
use crate::clock;

/// Nobody is sent away sooner: a head and its body need a moment to come.
const WAIT_NS_MIN: u64 = 250_000_000;
/// How soon a newcomer looks again whether somebody has waited long enough.
const LOOK: Duration = Duration::from_millis(20);
/// Of so many seats one is cleared at once, so that a full house is not searched for each newcomer.
const CLEARED_SHARE: usize = 64;
/// So much of a body is worth asking back.
const BODY_BYTES_MUCH: usize = 16 * 1024;
/// It is the peer that waits.
const AT_WORK: u64 = u64::MAX;

/// The seats of one edge thread, or of the private listener.
pub(crate) struct House {
    free: Arc<Semaphore>,
    seats_max: usize,
    guests: Mutex<Guests>,
    /// One permit, given in the order of asking. Giving it on puts the next one behind everybody who is ready to run.
    line: Semaphore,
    /// What the line may take of the thread when it has to be short.
    share: Share,
    /// Ends all conversations, gently.
    shutdown: CancellationToken,
}

/// By seat.
#[derive(Default)]
struct Guests {
    seated: Vec<Option<Arc<Guest>>>,
    empty: Vec<usize>,
}

/// Whether and since when a connection keeps the house waiting.
struct Guest {
    waits_since_ns: AtomicU64,
    body_bytes: AtomicUsize,
    leave: CancellationToken,
}

/// A connection's place, given back when it is dropped.
pub(crate) struct Seat {
    house: Arc<House>,
    guest: Arc<Guest>,
    number: usize,
    /// What its last request came to.
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

impl House {
    pub(crate) fn new(seats_max: usize, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(seats_max)),
            seats_max,
            guests: Mutex::default(),
            line: Semaphore::new(1),
            share: Share::default(),
            shutdown,
        })
    }

    /// A seat, for which others are sent away if need be. `None` when the host stops first.
    pub(crate) async fn seat(self: &Arc<Self>) -> Option<Seat> {
        loop {
            if let Ok(free) = Arc::clone(&self.free).try_acquire_owned() {
                return Some(self.take(free));
            }
            self.make_room();
            tokio::select! {
                free = Arc::clone(&self.free).acquire_owned() => return Some(self.take(free.ok()?)),
                () = tokio::time::sleep(LOOK) => {}
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    fn take(self: &Arc<Self>, free: OwnedSemaphorePermit) -> Seat {
        let guest = Arc::new(Guest {
            waits_since_ns: AtomicU64::new(clock::steady_ns()),
            body_bytes: AtomicUsize::new(0),
            leave: self.shutdown.child_token(),
        });
        let mut guests = self.guests();
        let number = guests.empty.pop().unwrap_or(guests.seated.len());
        let seated = Some(Arc::clone(&guest));
        match guests.seated.get_mut(number) {
            Some(place) => *place = seated,
            None => guests.seated.push(seated),
        }
        Seat {
            house: Arc::clone(self),
            guest,
            number,
            refused: AtomicBool::new(false),
            follows: AtomicU64::new(NOTHING_SAID),
            being_answered: AtomicBool::new(false),
            bare_line_feed: AtomicBool::new(false),
            _free: free,
        }
    }

    /// Sends some of those away that have kept the house waiting for longest.
    pub(crate) fn make_room(&self) {
        self.send_away(self.seats_max.div_ceil(CLEARED_SHARE), 0);
    }

    /// Sends the one away that has kept the house waiting for longest with much of a body. Answers whether there was one.
    pub(super) fn free_body(&self) -> bool {
        self.send_away(1, BODY_BYTES_MUCH) > 0
    }

    fn send_away(&self, guests_max: usize, body_bytes_min: usize) -> usize {
        let long_ago = clock::steady_ns().saturating_sub(WAIT_NS_MIN);
        let guests = self.guests();
        let mut waiting: Vec<(u64, &Arc<Guest>)> = guests
            .seated
            .iter()
            .flatten()
            .filter(|guest| guest.body_bytes.load(Ordering::Relaxed) >= body_bytes_min)
            .map(|guest| (guest.waits_since_ns.load(Ordering::Relaxed), guest))
            .filter(|(since, _)| *since <= long_ago)
            .collect();
        if waiting.len() > guests_max {
            waiting.select_nth_unstable_by_key(guests_max, |(since, _)| *since);
            waiting.truncate(guests_max);
        }
        for (_, guest) in &waiting {
            // Until its task has noticed, there is nothing more to be had of it.
            guest.waits_since_ns.store(AT_WORK, Ordering::Relaxed);
            guest.leave.cancel();
        }
        waiting.len()
    }

    /// Waits until all have left.
    pub(crate) async fn empty(&self) {
        let everyone = u32::try_from(self.seats_max).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(everyone).await;
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Cancelled when the connection has to go: at once, unless the host stops.
    pub(crate) fn leave(&self) -> &CancellationToken {
        &self.guest.leave
    }

    /// A head was parsed: what follows it on the wire. Its request is being answered from now on.
    pub(crate) fn is_asked(&self, follows: Follows) {
        let said = match follows {
            // No peer sends so much; nothing is misread if one says that it will.
            Follows::Bytes(bytes) => bytes.min(CHUNKS - 1),
            Follows::Chunks => CHUNKS,
        };
        self.follows.store(said, Ordering::Relaxed);
        self.being_answered.store(true, Ordering::Relaxed);
    }

    /// The request's answer is there.
    pub(crate) fn has_answered(&self) {
        self.being_answered.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_being_answered(&self) -> bool {
        self.being_answered.load(Ordering::Relaxed)
    }

    /// How long the house has waited for the peer; not at all when it is at work for it.
    pub(super) fn has_waited(&self) -> Duration {
        let since_ns = self.guest.waits_since_ns.load(Ordering::Relaxed);
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

    /// The peer has begun something, and the house waits for the rest of it.
    pub(crate) fn waits(&self) {
        self.guest.waits_since_ns.store(clock::steady_ns(), Ordering::Relaxed);
    }

    /// The peer waits for the house.
    pub(crate) fn is_waited_for(&self) {
        self.guest.waits_since_ns.store(AT_WORK, Ordering::Relaxed);
    }

    /// Says how much memory the connection's body takes.
    pub(super) fn holds(&self, body_bytes: usize) {
        self.guest.body_bytes.store(body_bytes, Ordering::Relaxed);
    }

    /// Remembers whether the connection's last request was refused.
    pub(super) fn was_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Waits in the line, and for the line's share, if the connection's last request was refused.
    pub(super) async fn line_up_if_refused(&self) {
        if self.refused.load(Ordering::Relaxed) {
            drop(self.dear_turn(share::REFUSAL_NS).await);
        }
    }

    /// A turn that takes so much of the line's share: the line stands still until there is some again.
    pub(super) async fn dear_turn(&self, cost_ns: u64) -> Option<SemaphorePermit<'_>> {
        let turn = self.turn().await;
        self.house.share.take(cost_ns).await;
        turn
    }

    /// Waits in the line. While the turn is held nobody else in the line goes on, so it is not held while waiting.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.house.line.acquire().await.ok()
    }

    /// See [`House::free_body`].
    pub(super) fn free_body(&self) -> bool {
        self.house.free_body()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut guests = self.house.guests();
        if let Some(place) = guests.seated.get_mut(self.number) {
            *place = None;
        }
        guests.empty.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn full(seats: usize) -> (Arc<House>, Vec<Seat>) {
        let house = House::new(seats, CancellationToken::new());
        let mut guests = Vec::new();
        for _ in 0..seats {
            guests.push(house.seat().await.unwrap());
        }
        (house, guests)
    }

    fn since(seat: &Seat, ns: u64) {
        seat.guest.waits_since_ns.store(ns, Ordering::Relaxed);
    }

    /// Old enough to be sent away, whatever the clock has come to.
    async fn later() {
        clock::steady_ns();
        tokio::time::sleep(Duration::from_nanos(WAIT_NS_MIN + 20_000_000)).await;
    }

    #[tokio::test]
    async fn who_keeps_a_full_house_waiting_for_longest_leaves_for_a_newcomer() {
        let (house, mut guests) = full(3).await;
        later().await;
        since(&guests[0], 3);
        since(&guests[1], 1);
        guests[2].is_waited_for();
        let newcomer = tokio::spawn({
            let house = Arc::clone(&house);
            async move { house.seat().await }
        });
        guests[1].leave().cancelled().await;
        assert!(!guests[0].leave().is_cancelled(), "one newcomer, one seat");
        assert!(!guests[2].leave().is_cancelled());
        drop(guests.remove(1));
        let newcomer = newcomer.await.unwrap().unwrap();
        // The seat is used again, and its new guest is looked at like any other.
        assert_eq!(newcomer.number, 1);
        since(&newcomer, 2);
        house.make_room();
        assert!(newcomer.leave().is_cancelled() && !guests[0].leave().is_cancelled());
    }

    #[tokio::test]
    async fn nobody_is_sent_away_at_once_or_while_the_house_works_for_him() {
        let (house, guests) = full(2).await;
        house.make_room();
        assert!(
            guests.iter().all(|guest| !guest.leave().is_cancelled()),
            "they have just come"
        );
        later().await;
        guests.iter().for_each(Seat::is_waited_for);
        house.make_room();
        assert!(guests.iter().all(|guest| !guest.leave().is_cancelled()));
        guests[0].waits();
        house.make_room();
        assert!(!guests[0].leave().is_cancelled(), "its answer has just been given");
    }

    #[tokio::test]
    async fn memory_is_asked_back_from_whoever_holds_much_of_it_for_longest() {
        let (house, guests) = full(3).await;
        later().await;
        for (guest, (ns, bytes)) in guests.iter().zip([(1, 10), (3, BODY_BYTES_MUCH), (2, BODY_BYTES_MUCH)]) {
            since(guest, ns);
            guest.holds(bytes);
        }
        let left = || {
            guests
                .iter()
                .map(|guest| guest.leave().is_cancelled())
                .collect::<Vec<_>>()
        };
        assert!(house.free_body());
        assert_eq!(left(), [false, false, true]);
        assert!(house.free_body());
        assert_eq!(left(), [false, true, true]);
        assert!(!house.free_body(), "the rest is not worth it");
    }

    #[tokio::test]
    async fn a_stop_lets_everybody_leave() {
        let (house, guests) = full(2).await;
        house.shutdown.cancel();
        assert!(guests.iter().all(|guest| guest.leave().is_cancelled()));
        assert!(house.seat().await.is_none());
        drop(guests);
        house.empty().await;
    }
}
