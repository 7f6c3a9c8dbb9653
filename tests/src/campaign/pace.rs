//! Signed events at a steady pace, whatever the host does: what campaigns measure latencies with.
//!
//! The pace is an open loop. Each event has its instant before anything is sent, and its latency is counted from there: a host that
//! stands still for a second is charged for everything that should have been sent meanwhile. Half of the senders keep their
//! connection, half make one for each event, as providers do both. An event whose connection breaks is sent again, as providers
//! do, and its latency goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Answer, Client};
use crate::events::Message;

/// Sends of one event before it counts as not taken.
const SENDS_MAX: u32 = 5;

/// How fast, and over how much.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub to: SocketAddr,
    /// Events per second, of all senders together.
    pub per_second: u32,
    /// At least 2.
    pub senders: u32,
}

/// What one stretch of the pace saw.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    /// From the instant that an event had to its acknowledgement. Sorted.
    pub latencies: Vec<Duration>,
    /// Events that were acknowledged, by number, with their receipts.
    pub acknowledged: BTreeMap<u64, String>,
    /// Answers that were no acknowledgement, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Connections that broke or could not be made.
    pub broken: u64,
    /// Events that were given up.
    pub lost: Vec<u64>,
}

impl Stretch {
    /// The latency that this share of the events (0 to 1) did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        percentile(&self.latencies, share)
    }

    fn enter(&mut self, number: u64, due: Instant, answer: Option<Answer>) {
        match answer {
            Some(answer) => {
                self.latencies.push(due.elapsed());
                self.acknowledged.insert(number, answer.receipt());
            }
            None => self.lost.push(number),
        }
    }

    pub fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        self.acknowledged.extend(other.acknowledged);
        for (status, times) in other.refused {
            *self.refused.entry(status).or_default() += times;
        }
        self.broken += other.broken;
        self.lost.extend(other.lost);
    }
}

/// The value that this share (0 to 1) of the sorted ones does not exceed; the default of none.
pub fn percentile<T: Copy + Default>(sorted: &[T], share: f64) -> T {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// The middle one.
pub fn median<T: Copy + Default + Ord>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    percentile(&values, 0.5)
}

impl Pace {
    /// Sends events for so long, numbered from `first` on: `event` makes the path and the message of a number.
    pub fn run(self, first: u64, duration: Duration, event: &(dyn Fn(u64) -> (String, Message) + Sync)) -> Stretch {
        let begun = Instant::now();
        let mut all = Stretch::default();
        thread::scope(|scope| {
            let senders: Vec<_> = (0..self.senders)
                .map(|sender| scope.spawn(move || self.send(sender, first, begun, duration, event)))
                .collect();
            for sender in senders {
                // A sender that panicked has said why; what it left out is missed in the sums.
                all.add(sender.join().unwrap_or_default());
            }
        });
        all
    }

    /// Sends for so long without a pace: each sender when it was answered. All connections are kept.
    pub fn flat_out(
        self,
        first: u64,
        duration: Duration,
        event: &(dyn Fn(u64) -> (String, Message) + Sync),
    ) -> Stretch {
        let begun = Instant::now();
        let next = AtomicU64::new(first);
        let mut all = Stretch::default();
        thread::scope(|scope| {
            let send = || {
                let (mut stretch, mut kept) = (Stretch::default(), None);
                while begun.elapsed() < duration {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (path, message) = event(number);
                    let sent = Instant::now();
                    let answer = self.post(&mut kept, &path, &message, &mut stretch);
                    stretch.enter(number, sent, answer);
                }
                stretch
            };
            let senders: Vec<_> = (0..self.senders).map(|_| scope.spawn(send)).collect();
            for sender in senders {
                all.add(sender.join().unwrap_or_default());
            }
        });
        all
    }

    /// How many events a stretch of `duration` has.
    pub fn events_in(self, duration: Duration) -> u64 {
        u64::from(self.per_second) * duration.as_millis() as u64 / 1000
    }

    fn send(
        self,
        sender: u32,
        first: u64,
        begun: Instant,
        duration: Duration,
        event: &(dyn Fn(u64) -> (String, Message) + Sync),
    ) -> Stretch {
        let mut stretch = Stretch::default();
        let mut kept: Option<Client> = None;
        let keeps = sender.is_multiple_of(2);
        let interval = Duration::from_secs(1) / self.per_second.max(1);
        let mut at = u64::from(sender);
        while at < self.events_in(duration) {
            let due = begun + interval * u32::try_from(at).unwrap_or(u32::MAX);
            let number = first + at;
            at += u64::from(self.senders);
            // Made before its instant: signing is no part of the latency.
            let (path, message) = event(number);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = self.post(&mut kept, &path, &message, &mut stretch);
            stretch.enter(number, due, answer);
            if !keeps {
                kept = None;
            }
        }
        stretch
    }

    /// Posts until the event is acknowledged; `None` when it is given up.
    fn post(self, kept: &mut Option<Client>, path: &str, message: &Message, stretch: &mut Stretch) -> Option<Answer> {
        for _ in 0..SENDS_MAX {
            let answer = match kept.take().map_or_else(|| Client::connect(self.to), Ok) {
                Ok(mut client) => client.post(path, message).map(|answer| (answer, client)),
                Err(error) => Err(error),
            };
            match answer {
                Ok((answer, client)) => {
                    if answer.header("connection") != Some("close") {
                        *kept = Some(client);
                    }
                    if matches!(answer.status, 200 | 202) {
                        return Some(answer);
                    }
                    *stretch.refused.entry(answer.status).or_default() += 1;
                }
                Err(_) => stretch.broken += 1,
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }
}
