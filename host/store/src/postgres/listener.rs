//! Hears what other hosts changed, by looking: a host's row counts what the others have to hear of.
//!
//! While it cannot look, everything that hosts keep in memory may be out of date, and is read again: the numbers of all topics move.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::client::Client;
use super::target::Target;
use crate::queue::Signals;
use crate::sql::{Connection, Result};
use crate::{StoreError, Topic};

/// How often it looks. What another host changed is known here after this and one read.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Looks until it is dropped.
#[derive(Debug)]
pub(super) struct Listener {
    _stop: SyncSender<()>,
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
    ) -> std::result::Result<Self, StoreError> {
        let (stop, stopped) = sync_channel(0);
        let (target, signals) = (target.clone(), Arc::clone(signals));
        std::thread::Builder::new()
            .name("store-listener".into())
            .spawn(move || listen(&target, host, heard, &signals, &stopped))
            .map_err(|error| StoreError::Database {
                detail: format!("cannot start the listener thread: {error}"),
            })?;
        Ok(Self { _stop: stop })
    }
}

fn listen(target: &Target, host: i64, mut last: Heard, signals: &Signals, stopped: &Receiver<()>) {
    let mut client: Option<Client> = None;
    while matches!(stopped.recv_timeout(LOOKS_EVERY), Err(RecvTimeoutError::Timeout)) {
        let looked = match client.take() {
            Some(client) => Ok(client),
            None => Client::connect(target),
        }
        .and_then(|connected| {
            let heard = look(&connected, host)?;
            client = Some(connected);
            Ok(heard)
        });
        match looked {
            Ok(heard) => tell(signals, &std::mem::replace(&mut last, heard), &heard),
            Err(_) => [Topic::Tokens, Topic::Quarantines, Topic::Registry]
                .into_iter()
                .for_each(|topic| signals.note_change(topic)),
        }
    }
}

pub(super) fn look(connection: &Connection, host: i64) -> Result<Heard> {
    connection.query_row(
        "SELECT coalesce(sum(jobs), 0), coalesce(sum(outbox), 0), coalesce(sum(tokens), 0), coalesce(sum(quarantines), 0), \
         coalesce(sum(registry), 0) FROM hosts WHERE id <> ?1",
        [host],
        |row| {
            Ok(Heard {
                jobs: row.get(0)?,
                outbox: row.get(1)?,
                tokens: row.get(2)?,
                quarantines: row.get(3)?,
                registry: row.get(4)?,
            })
        },
    )
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
