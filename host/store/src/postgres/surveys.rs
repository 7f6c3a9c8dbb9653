//! Surveys of what is due: for whom something waits, and since when, found by a reader beside the writer.
//!
//! A survey looks from the beginning of the index on. It passes by what has ended for as long as some session holds an old state of the database, so it
//! may take long; nobody else has to, since claims begin where it and their own looks say that something may be due (see `statements::due`). While surveys are
//! cheap there is one before each claim, unless the last claim was given all that it asked for; else they take a twentieth of the time. What this host
//! makes ready its claims find without them; what waits for a survey is what other hosts left.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tollgate_core::time::UnixMillis;

use super::readers::Readers;
use crate::StoreError;
use crate::sql::{Connection, Row};
use crate::statements::due::Survey;
use crate::statements::fault::Fault;
use crate::statements::rows::{get, millis};

/// One that takes longer is costly.
const CHEAP: Duration = Duration::from_millis(2);
/// How many times as long as a costly one took is waited before the next.
const PAUSE: u32 = 20;
/// Between cheap ones while claims are given all that they ask for.
const PAUSE_OF_BUSY: Duration = Duration::from_millis(200);
/// After this whoever asks when the next is due asks again, while surveys are costly.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long a claim waits for a survey, while they are cheap. One that takes longer is heard of by the next claim.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// One that fails after this long, fails for having taken too long.
const TOO_LONG: Duration = Duration::from_secs(5);

/// The first row of what waits for each tenant, by way of the index from one tenant to the next. The last row says how long that took the server: what a busy
/// machine adds says nothing of the index.
const OF_JOBS: &str = "WITH RECURSIVE t AS (\
     (SELECT tenant, due_at FROM jobs WHERE state IN (1, 2) ORDER BY tenant, due_at LIMIT 1) UNION ALL \
     SELECT n.tenant, n.due_at FROM t CROSS JOIN LATERAL (SELECT tenant, due_at FROM jobs WHERE state IN (1, 2) \
     AND tenant > t.tenant ORDER BY tenant, due_at LIMIT 1) n) SELECT tenant, due_at, NULL::bigint AS took_us FROM t UNION ALL \
     SELECT NULL, NULL, (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1e6)::bigint";
/// And for each tenant's destination.
const OF_OUTBOX: &str = "WITH RECURSIVE t AS (\
     (SELECT tenant, destination, due_at FROM outbox WHERE state IN (1, 2) ORDER BY tenant, destination, due_at LIMIT 1) UNION ALL \
     SELECT n.tenant, n.destination, n.due_at FROM t CROSS JOIN LATERAL (SELECT tenant, destination, due_at FROM outbox \
     WHERE state IN (1, 2) AND (tenant, destination) > (t.tenant, t.destination) ORDER BY tenant, destination, due_at LIMIT 1) n) \
     SELECT tenant, destination, due_at, NULL::bigint AS took_us FROM t UNION ALL \
     SELECT NULL, NULL, NULL, (extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1e6)::bigint";

/// Takes surveys of one table, one at a time.
#[derive(Debug)]
pub(super) struct Surveyor<N> {
    sql: &'static str,
    party: fn(&Row<'_>) -> Result<N, Fault>,
    state: Mutex<State<N>>,
}

#[derive(Debug)]
struct State<N> {
    /// How long the last three took the server: one of them may have waited for a processor.
    took: [Duration; 3],
    ended: Option<Instant>,
    is_running: bool,
    /// No claim has heard of it.
    found: Option<Survey<N>>,
    /// The last claim was given all that it asked for.
    is_busy: bool,
    /// The time that the last claim was told, and when that was.
    claimed: Option<(UnixMillis, Instant)>,
}

impl Surveyor<String> {
    /// Finds the tenants for which jobs wait.
    pub(super) fn of_jobs() -> Arc<Self> {
        Self::new(OF_JOBS, |row| get(row, "tenant"))
    }
}

impl Surveyor<(String, String)> {
    /// Finds the tenants and their destinations for which outbox entries wait.
    pub(super) fn of_outbox() -> Arc<Self> {
        Self::new(OF_OUTBOX, |row| Ok((get(row, "tenant")?, get(row, "destination")?)))
    }
}

impl<N: Send + 'static> Surveyor<N> {
    fn new(sql: &'static str, party: fn(&Row<'_>) -> Result<N, Fault>) -> Arc<Self> {
        Arc::new(Self {
            sql,
            party,
            state: Mutex::new(State {
                took: [Duration::ZERO; 3],
                ended: None,
                is_running: false,
                found: None,
                is_busy: false,
                claimed: None,
            }),
        })
    }

    /// The newest survey that no claim has heard of, begun now if it is time for one. A costly one is not waited for.
    pub(super) async fn hear(self: &Arc<Self>, readers: &Arc<Readers>) -> Option<Survey<N>> {
        if self.begin(Need::InTime) {
            let (surveyor, readers) = (Arc::clone(self), Arc::clone(readers));
            let taken = tokio::spawn(async move {
                // What could not be read, the writer finds out too, and says so.
                if let Ok(survey) = surveyor.take(&readers).await {
                    surveyor.locked().found = Some(survey);
                }
            });
            let is_costly = self.locked().is_costly();
            if !is_costly {
                let _ = tokio::time::timeout(WAIT_MAX, taken).await;
            }
        }
        self.locked().found.take()
    }

    /// A survey for a writer that knows of none.
    pub(super) async fn hear_first(self: &Arc<Self>, readers: &Readers) -> Result<Survey<N>, StoreError> {
        self.begin(Need::First);
        self.take(readers).await
    }

    /// When to ask again when the next is due, where finding it out would take as long as a survey.
    pub(super) fn look_again(&self) -> Option<UnixMillis> {
        let state = self.locked();
        let (now, claimed) = state.claimed.filter(|_| state.is_costly())?;
        let since = i64::try_from((claimed.elapsed() + LOOK_AGAIN).as_millis()).unwrap_or(i64::MAX);
        Some(now.plus_ms(since))
    }

    /// A claim at a time was, or was not, given all that it asked for.
    pub(super) fn note_claim(&self, now: UnixMillis, was_given_all: bool) {
        let mut state = self.locked();
        state.claimed = Some((now, Instant::now()));
        state.is_busy = was_given_all;
    }

    fn begin(&self, need: Need) -> bool {
        if matches!(need, Need::InTime) && one_is_enough() {
            return false;
        }
        let mut state = self.locked();
        let begins = match need {
            Need::First => true,
            Need::InTime => !state.is_running && state.ended.is_none_or(|ended| ended.elapsed() >= state.pause()),
        };
        state.is_running |= begins;
        begins
    }

    async fn take(&self, readers: &Readers) -> Result<Survey<N>, StoreError> {
        let begun = Instant::now();
        let (sql, party) = (self.sql, self.party);
        let read = readers.read(move |connection| read(connection, sql, party)).await;
        let mut state = self.locked();
        state.is_running = false;
        let (parties, took) = match read {
            // The server ended it: it says nothing of anybody, and claims go on with what this host makes ready.
            Err(error) if begun.elapsed() >= TOO_LONG => {
                tracing::warn!(%error, "what is due could not be surveyed; what other hosts left waits");
                (Vec::new(), begun.elapsed())
            }
            read => read?,
        };
        state.took.rotate_right(1);
        state.took[0] = took;
        state.ended = Some(Instant::now());
        Ok(Survey {
            parties,
            is_costly: state.is_costly(),
        })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State<N>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only in a build with debug assertions, and where TOLLGATE_ONE_SURVEY is set: there is none but the first. It is how tests show that a host's claims find
/// without them what it made ready.
fn one_is_enough() -> bool {
    cfg!(debug_assertions) && std::env::var_os("TOLLGATE_ONE_SURVEY").is_some()
}

/// Who needs a survey.
enum Need {
    /// Nobody can claim without it.
    First,
    /// Who claims; it can wait.
    InTime,
}

impl<N> State<N> {
    fn took(&self) -> Duration {
        self.took.into_iter().min().unwrap_or_default()
    }

    fn is_costly(&self) -> bool {
        self.took() >= CHEAP
    }

    fn pause(&self) -> Duration {
        match (self.is_costly(), self.is_busy) {
            (true, _) => self.took() * PAUSE,
            (false, true) => PAUSE_OF_BUSY,
            (false, false) => Duration::ZERO,
        }
    }
}

fn read<N>(
    connection: &Connection,
    sql: &str,
    party: fn(&Row<'_>) -> Result<N, Fault>,
) -> Result<(Vec<(N, UnixMillis)>, Duration), Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    let (mut parties, mut took) = (Vec::new(), Duration::ZERO);
    while let Some(row) = found.next()? {
        match get::<Option<i64>>(row, "took_us")? {
            Some(us) => took = Duration::from_micros(u64::try_from(us).unwrap_or_default()),
            None => parties.push((party(row)?, millis(row, "due_at")?)),
        }
    }
    Ok((parties, took))
}
