//! Routes and destinations that people paused (promise P10).
//!
//! A claim reads them in its own transaction, so a pause holds on every host from its commit on, and what runs by then runs to its end. A
//! paused destination's entries are not looked at. A paused route's jobs are put off without end as claims come to them, so that none looks
//! at them again; when the route is resumed, claims make them due a few at a time, and no transaction is as long as what waited.

use tollgate_core::ids::{RouteName, TenantName};
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::history;
use super::rows::{self, get, id};
use super::transaction::Transaction;
use crate::registry::{Act, Line};
use crate::sql::{Connection, Row, params};
use crate::{Pause, Place};

/// When a job is due whose route is paused: the end of the year 9999.
pub(crate) const PUT_OFF: UnixMillis = UnixMillis(253_402_300_799_000);
/// Jobs that one claim makes due again.
const TAKEN_UP_MAX: i64 = 256;

/// What is paused.
#[derive(Debug, Default)]
pub(crate) struct Paused {
    pauses: Vec<Pause>,
    /// Routes that were, and whose jobs are still put off.
    over: Vec<(TenantName, RouteName)>,
}

impl Paused {
    pub(crate) fn read(connection: &Connection) -> Result<Self, Fault> {
        let mut paused = Self::default();
        let mut statement = connection.prepare_cached(
            "SELECT tenant, kind, name, is_over, at, actor, why FROM pauses ORDER BY at, tenant, kind, name",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let pause = read(row)?;
            match (get::<i64>(row, "is_over")?, pause.place) {
                (0, place) => paused.pauses.push(Pause { place, ..pause }),
                (_, Place::Route(route)) => paused.over.push((pause.tenant, route)),
                (_, Place::Destination(_)) => return Err(Fault::damaged("pause", "a destination has no jobs")),
            }
        }
        Ok(paused)
    }

    pub(crate) fn has_route(&self, tenant: &TenantName, route: &RouteName) -> bool {
        let is_it =
            |pause: &Pause| pause.tenant == *tenant && matches!(&pause.place, Place::Route(name) if name == route);
        self.pauses.iter().any(is_it)
    }

    pub(crate) fn has_destination(&self, tenant: &str, destination: &str) -> bool {
        let is_it = |pause: &Pause| {
            pause.tenant.as_str() == tenant
                && matches!(&pause.place, Place::Destination(name) if name.as_str() == destination)
        };
        self.pauses.iter().any(is_it)
    }

    /// Makes jobs due again of routes that were resumed; the next claim goes on with what is left.
    pub(crate) fn take_up(&self, transaction: &mut Transaction<'_>, now: UnixMillis) -> Result<(), Fault> {
        let connection = transaction.connection;
        for (tenant, route) in &self.over {
            let due = connection
                .prepare_cached(
                    "UPDATE jobs SET due_at = ?3 WHERE id IN (SELECT id FROM jobs WHERE state IN (1, 2) AND tenant = ?1 \
                     AND due_at = ?4 AND route = ?2 ORDER BY id LIMIT ?5)",
                )?
                .changed(params![tenant.as_str(), route.as_str(), now.0, PUT_OFF.0, TAKEN_UP_MAX])?;
            if due > 0 {
                transaction.memory.jobs_due.note(|| tenant.to_string(), now);
            }
            if due as i64 == TAKEN_UP_MAX {
                transaction.jobs_ready = true;
            } else {
                remove(connection, tenant, &Place::Route(route.clone()))?;
            }
        }
        Ok(())
    }
}

/// Puts a paused route's job off.
pub(crate) fn put_off(connection: &Connection, job: i64) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE jobs SET due_at = ?2 WHERE id = ?1")?
        .execute(params![job, PUT_OFF.0])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Pause, Fault> {
    Ok(Pause {
        tenant: id(row, "tenant")?,
        place: match get::<String>(row, "kind")?.as_str() {
            "route" => Place::Route(id(row, "name")?),
            "destination" => Place::Destination(id(row, "name")?),
            other => return Err(Fault::damaged("pause", other)),
        },
        at: rows::millis(row, "at")?,
        actor: get(row, "actor")?,
        why: get(row, "why")?,
    })
}

/// What is paused, the longest first.
pub(crate) fn list(connection: &Connection) -> Result<Vec<Pause>, Fault> {
    Ok(Paused::read(connection)?.pauses)
}

/// Whether a place is paused.
fn find(connection: &Connection, tenant: &TenantName, place: &Place) -> Result<Option<Pause>, Fault> {
    let pauses = list(connection)?;
    Ok(pauses
        .into_iter()
        .find(|pause| pause.tenant == *tenant && pause.place == *place))
}

/// Pauses a place; one that is paused already stays so. Returns its pause.
pub(crate) fn pause(connection: &Connection, tenant: &TenantName, place: &Place, act: &Act) -> Result<Pause, Fault> {
    if let Some(before) = find(connection, tenant, place)? {
        return Ok(before);
    }
    let pause = Pause {
        tenant: tenant.clone(),
        place: place.clone(),
        at: act.at,
        actor: act.actor.clone(),
        why: act.why.clone().unwrap_or_default(),
    };
    if act.dry_run {
        return Ok(pause);
    }
    // Of a route that was resumed a moment ago, whose jobs are not all due again: they stay put off.
    remove(connection, tenant, place)?;
    connection
        .prepare_cached("INSERT INTO pauses (tenant, kind, name, at, actor, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            tenant.as_str(),
            place.kind(),
            place.name(),
            pause.at.0,
            pause.actor,
            pause.why,
        ])?;
    note(connection, tenant, place, act, "paused")?;
    Ok(pause)
}

/// Ends a pause. Returns which it was, if the place was paused.
pub(crate) fn resume(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    place: &Place,
    act: &Act,
) -> Result<Option<Pause>, Fault> {
    let connection = transaction.connection;
    let Some(before) = find(connection, tenant, place)? else {
        return Ok(None);
    };
    if act.dry_run {
        return Ok(Some(before));
    }
    match place {
        Place::Route(_) => {
            connection
                .prepare_cached("UPDATE pauses SET is_over = 1 WHERE tenant = ?1 AND kind = ?2 AND name = ?3")?
                .execute(params![tenant.as_str(), place.kind(), place.name()])?;
            transaction.jobs_ready = true;
        }
        Place::Destination(_) => {
            remove(connection, tenant, place)?;
            transaction.outbox_ready = true;
        }
    }
    note(connection, tenant, place, act, "resumed")?;
    Ok(Some(before))
}

fn remove(connection: &Connection, tenant: &TenantName, place: &Place) -> Result<(), Fault> {
    connection
        .prepare_cached("DELETE FROM pauses WHERE tenant = ?1 AND kind = ?2 AND name = ?3")?
        .execute(params![tenant.as_str(), place.kind(), place.name()])?;
    Ok(())
}

fn note(connection: &Connection, tenant: &TenantName, place: &Place, act: &Act, what: &str) -> Result<(), Fault> {
    let (route, destination) = match place {
        Place::Route(route) => (Some(route), None),
        Place::Destination(destination) => (None, Some(format!("destination {destination}"))),
    };
    let line = Line {
        what,
        tenant: Some(tenant),
        route,
        plugin: None,
        digest: None,
        was: None,
        became: destination,
    };
    history::append(connection, act, &line)
}
