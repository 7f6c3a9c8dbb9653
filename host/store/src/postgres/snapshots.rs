//! Who keeps dead rows: as long as a session holds an old state of the database, the server keeps every row that was changed since. What looks for one row
//! among its older versions takes longer and longer, and the files grow.

use std::time::{Duration, Instant};

use crate::reminder::Reminder;
use crate::sql::{Connection, OptionalExtension as _, Result};

/// After how long a session is told of: there are tens of thousands of dead rows then, at hundreds of events a second.
pub(super) const OLD: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOKS_EVERY: Duration = Duration::from_secs(10);

/// A session of the same database that holds an old state of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct HeldSnapshot {
    /// The server's process of the session: `pg_terminate_backend` ends it.
    pub pid: i64,
    /// As what it is connected.
    pub user: String,
    /// What the program says it is, such as `pg_dump`; may be empty.
    pub program: String,
    /// For how long its transaction has been going on, in seconds.
    pub held_s: i64,
}

impl std::fmt::Display for HeldSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            pid,
            user,
            program,
            held_s,
        } = self;
        write!(
            f,
            "the session {pid} ({program:?}, as {user}) has held an old state of the database for {held_s} s: whatever was changed since stays, so work takes longer \
             and longer, and files grow. Wait for its end, or end it: SELECT pg_terminate_backend({pid})"
        )
    }
}

/// The session whose transaction has been going on for the longest, if that is longer than this. The server shows a user the sessions of others only
/// where it may read all statistics (`GRANT pg_read_all_stats`).
pub(super) fn oldest(connection: &Connection, older_than: Duration) -> Result<Option<HeldSnapshot>> {
    let ms = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    connection
        .query_row(
            "SELECT pid::bigint AS pid, usename::text AS usename, application_name, \
             extract(epoch FROM clock_timestamp() - xact_start)::bigint AS held_s FROM pg_stat_activity \
             WHERE datname = current_database() AND backend_xmin IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_backend_pid() \
             AND extract(epoch FROM clock_timestamp() - xact_start) * 1000 > ?1::bigint ORDER BY xact_start LIMIT 1",
            [ms],
            |row| {
                Ok(HeldSnapshot {
                    pid: row.get(0)?,
                    user: row.get(1)?,
                    program: row.get(2)?,
                    held_s: row.get(3)?,
                })
            },
        )
        .optional()
}

/// Says in the log who holds an old state, and when that is over.
#[derive(Debug, Default)]
pub(super) struct Watch {
    looked: Option<Instant>,
    said: Option<Reminder>,
}

impl Watch {
    pub(super) fn look(&mut self, connection: &Connection, store: &str) -> Result<()> {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < LOOKS_EVERY) {
            return Ok(());
        }
        self.looked = Some(now);
        match oldest(connection, OLD)? {
            Some(held) => {
                if self.said.get_or_insert_default().is_due(now) {
                    tracing::warn!(store, "{held}");
                }
            }
            None => {
                if self.said.take().is_some() {
                    tracing::info!(store, "nobody holds an old state of the database any more");
                }
            }
        }
        Ok(())
    }
}
