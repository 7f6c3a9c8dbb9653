//! The store of many hosts at rest, to be copied: a connection of its own, and nobody else there.

use std::time::Duration;

use tollgate_core::secret::Secret;

use super::client::Client;
use super::schema;
use super::target::Target;
use super::writer::HOSTS;
use crate::StoreError;
use crate::sql::{Connection, Sql};
use crate::statements::fault::Fault;

/// How often it is looked whether nobody else is there, and how long it is waited in between: who was killed is still seen for a moment.
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_millis(100);

/// How a URL is shown to people: without a password.
pub(crate) fn shown(url: &Secret) -> String {
    Target::parse(url).map_or_else(|_| "postgres://…".to_owned(), |target| target.shown)
}

/// A connection that keeps hosts out for as long as it lives.
pub(crate) struct Alone {
    client: Client,
    /// For people: without the password.
    shown: String,
}

impl Alone {
    /// Blocks, and not where futures are polled.
    ///
    /// # Errors
    /// [`StoreError::Away`], and [`StoreError::Open`] when a host is there or the URL is none.
    pub(crate) fn connect(url: &Secret) -> Result<Self, StoreError> {
        let target = Target::parse(url)?;
        let shown = target.shown.clone();
        let connect = || {
            let client = Client::connect(&target)?;
            client.take_long()?;
            Ok(client)
        };
        let client = connect().map_err(|error: crate::sql::Error| opening(&shown, error.into()))?;
        match is_alone(&client) {
            Ok(true) => Ok(Self { client, shown }),
            Ok(false) => Err(StoreError::Open {
                path: shown,
                detail: "a host has it open: stop all of its hosts first".to_owned(),
            }),
            Err(fault) => Err(opening(&shown, fault)),
        }
    }

    /// The connection, and how its place is shown.
    pub(crate) fn into_parts(self) -> (Box<dyn Sql>, String) {
        (Box::new(self.client), self.shown)
    }

    /// The schema that is there; 0 where there is none.
    pub(crate) fn schema(&self) -> Result<u32, StoreError> {
        schema::version(&self.client).map_err(|fault| opening(&self.shown, fault))
    }

    /// Refuses a schema that this Tollgate cannot read as it is.
    pub(crate) fn check_schema(&self) -> Result<(), StoreError> {
        let refused = |detail: String| StoreError::Open {
            path: self.shown.clone(),
            detail,
        };
        match (self.schema()?, schema::VERSION) {
            (found, known) if found == known => Ok(()),
            (found, known) if found > known => Err(StoreError::NewerSchema {
                path: self.shown.clone(),
                found,
                known,
            }),
            (0, _) => Err(refused("there is no store".to_owned())),
            (found, known) => Err(refused(format!(
                "it has schema {found}, and this Tollgate reads {known}; start a host once to bring it up to date"
            ))),
        }
    }

    /// As a host does when it starts.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`], and whatever else keeps it from being done.
    pub(crate) fn migrate(&self) -> Result<(), StoreError> {
        schema::migrate(&self.client, &self.shown).map(drop)
    }
}

fn is_alone(connection: &Connection) -> Result<bool, Fault> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(TRY_EVERY);
        }
        if connection.query_row(&format!("SELECT pg_try_advisory_lock({HOSTS})"), [], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn opening(shown: &str, fault: Fault) -> StoreError {
    match fault.of_writer(shown) {
        error @ (StoreError::Away { .. } | StoreError::Busy | StoreError::NoSpace { .. }) => error,
        error => StoreError::Open {
            path: shown.to_owned(),
            detail: error.to_string(),
        },
    }
}
