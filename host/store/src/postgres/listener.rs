//! Hears what other hosts changed, by looking: a host's row counts what the others have to hear of.
//!
//! It says that the host is there, too, and hears whether the host is to claim nothing.
//!
//! While it cannot look, everything that hosts keep in memory may be out of date, and is read again: the numbers of all topics move.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tollgate_core::limits;

use super::client::Client;
use super::hosts::{self, Presence};
use super::snapshots;
use super::target::Target;
use crate::queue::Signals;
use crate::sql::{Connection, Result};
use crate::statements::fault::Fault;
use crate::{StoreError, Topic};

/// How often it looks. What another host changed is known here after this and one read.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// What other hosts counted. From row to row backwards by the index, so that each look finds the newest version of a row first: while some session holds an old
/// state of the database, all older ones are there too.
const OTHERS: &str = "WITH RECURSIVE h AS (\
     (SELECT id, jobs, outbox, tokens, quarantines, registry FROM hosts ORDER BY id DESC LIMIT 1) UNION ALL \
     SELECT n.id, n.jobs, n.outbox, n.tokens, n.quarantines, n.registry FROM h CROSS JOIN LATERAL (\
     SELECT id, jobs, outbox, tokens, quarantines, registry FROM hosts WHERE id < h.id ORDER BY id DESC LIMIT 1) n) \
     SELECT coalesce(sum(jobs), 0), coalesce(sum(outbox), 0), coalesce(sum(tokens), 0), coalesce(sum(quarantines), 0), \
     coalesce(sum(registry), 0) FROM h WHERE id <> ?1";

/// For how long a host that ends waits until it has said so.
const LAST_WORD_MAX: Duration = Duration::from_secs(2);

/// Looks until it is closed or dropped.
#[derive(Debug)]
pub(super) struct Listener {
    stop: Mutex<Option<SyncSender<()>>>,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
}

/// What other hosts have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    jobs: i64,
    outbox: i64,
    tokens: i64,
    quarantines: i64,
    registry: i64,
}

impl Listener {
    /// `heard` is what was so when the store was opened: whatever the host keeps in memory, it reads after.
    pub(super) fn start(
        target: &Target,
        host: i64,
        heard: Heard,
        signals: &Arc<Signals>,
        presence: Option<Arc<Presence>>,
    ) -> std::result::Result<Self, StoreError> {
        let (stop, stopped) = sync_channel(0);
        let (alive, ended) = watch::channel(());
        let listening = Listening {
            target: target.clone(),
            host,
            signals: Arc::clone(signals),
            presence,
            heard,
            looked: Instant::now(),
            lag: Duration::ZERO,
            beat: None,
            snapshots: snapshots::Watch::default(),
        };
        std::thread::Builder::new()
            .name("store-listener".into())
            .spawn(move || {
                listening.run(&stopped);
                drop(alive);
            })
            .map_err(|error| StoreError::Database {
                detail: format!("cannot start the listener thread: {error}"),
            })?;
        Ok(Self {
            stop: Mutex::new(Some(stop)),
            ended,
        })
    }

    /// Says that the host has ended, where it can be said soon.
    pub(super) async fn close(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut ended = self.ended.clone();
        // An error is its end. What is not said in time, the others find out.
        let _ = tokio::time::timeout(LAST_WORD_MAX, ended.changed()).await;
    }
}

struct Listening {
    target: Target,
    host: i64,
    signals: Arc<Signals>,
    presence: Option<Arc<Presence>>,
    heard: Heard,
    /// When it last looked.
    looked: Instant,
    /// The longest that it had not, since the host last said that it is there.
    lag: Duration,
    /// When the host last said so.
    beat: Option<Instant>,
    snapshots: snapshots::Watch,
}

impl Listening {
    fn run(mut self, stopped: &Receiver<()>) {
        let mut client: Option<Client> = None;
        loop {
            let looked = client.take().map_or_else(|| self.connect(), Ok).and_then(|connected| {
                self.look(&connected)?;
                Ok(connected)
            });
            match looked {
                Ok(connected) => client = Some(connected),
                Err(_) => [Topic::Tokens, Topic::Quarantines, Topic::Registry]
                    .into_iter()
                    .for_each(|topic| self.signals.note_change(topic)),
            }
            if !matches!(stopped.recv_timeout(LOOKS_EVERY), Err(RecvTimeoutError::Timeout)) {
                break;
            }
        }
        if let (Some(client), Some(_)) = (&client, &self.presence) {
            // What cannot be said now, the others find out.
            let _ = hosts::end(client, self.host);
        }
    }

    fn connect(&self) -> std::result::Result<Client, Fault> {
        let client = Client::connect(&self.target)?;
        // Nobody is told that a host is there, so it waits for no disk and no standby.
        client.batch("SET synchronous_commit = off")?;
        Ok(client)
    }

    fn look(&mut self, connection: &Connection) -> std::result::Result<(), Fault> {
        let heard = look(connection, self.host)?;
        tell(&self.signals, &std::mem::replace(&mut self.heard, heard), &heard);
        self.lag = self.lag.max(self.looked.elapsed());
        self.looked = Instant::now();
        let Some(presence) = &self.presence else { return Ok(()) };
        if presence.told(hosts::drain_of(connection, &presence.identity.name)?) {
            self.signals.work.notify_one();
            self.signals.outbox.notify_one();
        }
        presence.rates.exchange(connection, self.host)?;
        let every = Duration::from_millis(limits::HOST_HEARTBEAT_MS);
        if self.beat.is_none_or(|beat| beat.elapsed() >= every) {
            presence.hear_clock(connection)?;
            presence.beat(connection, self.host, std::mem::take(&mut self.lag))?;
            self.beat = Some(Instant::now());
            // A server that does not say it keeps nobody from hearing the others.
            let _ = self.snapshots.look(connection, &self.target.shown);
        }
        Ok(())
    }
}

pub(super) fn look(connection: &Connection, host: i64) -> Result<Heard> {
    connection.query_row(OTHERS, [host], |row| {
        Ok(Heard {
            jobs: row.get(0)?,
            outbox: row.get(1)?,
            tokens: row.get(2)?,
            quarantines: row.get(3)?,
            registry: row.get(4)?,
        })
    })
}

fn tell(signals: &Signals, last: &Heard, heard: &Heard) {
    if heard.jobs != last.jobs {
        signals.work.notify_one();
    }
    if heard.outbox != last.outbox {
        signals.outbox.notify_one();
    }
    for (topic, moved) in [
        (Topic::Tokens, heard.tokens != last.tokens),
        (Topic::Quarantines, heard.quarantines != last.quarantines),
        (Topic::Registry, heard.registry != last.registry),
    ] {
        if moved {
            signals.note_change(topic);
        }
    }
}
