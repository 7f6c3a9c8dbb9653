//! Versions in quarantine (promise P6).

use tollgate_core::ids::{RouteName, TenantName};
use tollgate_core::quarantine::Row;

use super::fault::Fault;
use super::history;
use super::receipts::View;
use super::rows::{self, get, id};
use super::transaction::Transaction;
use crate::registry::{Act, Line};
use crate::sql::{OptionalExtension as _, params};
use crate::{Quarantine, RunEnd, Topic};

/// Puts a version into quarantine, if it is not there.
pub(crate) fn put(transaction: &mut Transaction<'_>, quarantine: &Quarantine) -> Result<(), Fault> {
    let connection = transaction.connection;
    let put = connection
        .prepare_cached(
            "INSERT INTO quarantines (tenant, route, plugin, digest, at, faults, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT DO NOTHING",
        )?
        .changed(params![
            quarantine.tenant.as_str(),
            quarantine.route.as_str(),
            quarantine.plugin.as_str(),
            quarantine.digest.0.as_slice(),
            quarantine.at.0,
            quarantine.faults,
            quarantine.reason,
        ])?;
    if put == 0 {
        return Ok(());
    }
    let act = Act {
        actor: "host".to_owned(),
        why: Some(format!(
            "{} faults in a row, the last: {}",
            quarantine.faults,
            quarantine.fault()
        )),
        at: quarantine.at,
        dry_run: false,
    };
    transaction.changed.push(Topic::Quarantines);
    history::append(connection, &act, &line(quarantine, "quarantined"))
}

fn line<'a>(quarantine: &'a Quarantine, what: &'a str) -> Line<'a> {
    Line {
        what,
        tenant: Some(&quarantine.tenant),
        route: Some(&quarantine.route),
        plugin: Some(&quarantine.plugin),
        digest: Some(quarantine.digest),
        was: None,
        became: None,
    }
}

/// Counts how a run ended, for a host that remembers nothing itself. Returns the version that is in quarantine from now on, if
/// it was one fault too many.
pub(crate) fn count(
    transaction: &mut Transaction<'_>,
    end: &RunEnd,
    faults_max: u32,
) -> Result<Option<Quarantine>, Fault> {
    let connection = transaction.connection;
    let place = params![end.tenant.as_str(), end.route.as_str(), end.digest.0.as_slice()];
    let before: Option<u32> = connection
        .prepare_cached("SELECT faults FROM fault_rows WHERE tenant = ?1 AND route = ?2 AND digest = ?3")?
        .query_row(place, |row| row.get(0))
        .optional()?;
    let mut row = Row::of(before.unwrap_or(0));
    let enough = row.add(end.fault, faults_max);
    if enough.is_some() || row.faults() == 0 {
        if before.is_some() {
            connection
                .prepare_cached("DELETE FROM fault_rows WHERE tenant = ?1 AND route = ?2 AND digest = ?3")?
                .execute(place)?;
        }
    } else {
        connection
            .prepare_cached(
                "INSERT INTO fault_rows (tenant, route, digest, faults) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (tenant, route, digest) DO UPDATE SET faults = excluded.faults",
            )?
            .execute(params![
                end.tenant.as_str(),
                end.route.as_str(),
                end.digest.0.as_slice(),
                row.faults(),
            ])?;
    }
    let Some(quarantine) = enough.and_then(|faults| end.clone().quarantine(faults)) else {
        return Ok(None);
    };
    put(transaction, &quarantine)?;
    Ok(Some(quarantine))
}

/// What is in quarantine, the newest first.
pub(crate) fn list(view: View<'_>) -> Result<Vec<Quarantine>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT tenant, route, plugin, digest, at, faults, reason FROM quarantines WHERE lifted_at IS NULL ORDER BY id DESC",
    )?;
    let mut found = statement.query([])?;
    let mut quarantines = Vec::new();
    while let Some(row) = found.next()? {
        quarantines.push(Quarantine {
            tenant: id(row, "tenant")?,
            route: id(row, "route")?,
            plugin: id(row, "plugin")?,
            digest: rows::digest(row, "digest")?,
            at: rows::millis(row, "at")?,
            faults: rows::unsigned32(row, "faults")?,
            reason: get(row, "reason")?,
        });
    }
    Ok(quarantines)
}

/// Lets a route's versions run again; with a dry run, says which would. Returns which were in quarantine.
pub(crate) fn lift(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    route: &RouteName,
    act: &Act,
) -> Result<Vec<Quarantine>, Fault> {
    let lifted: Vec<_> = list(transaction.view())?
        .into_iter()
        .filter(|one| one.tenant == *tenant && one.route == *route)
        .collect();
    if act.dry_run {
        return Ok(lifted);
    }
    let connection = transaction.connection;
    connection
        .prepare_cached(
            "UPDATE quarantines SET lifted_at = ?3, lifted_by = ?4 WHERE tenant = ?1 AND route = ?2 AND lifted_at IS NULL",
        )?
        .execute(params![tenant.as_str(), route.as_str(), act.at.0, act.actor])?;
    for quarantine in &lifted {
        history::append(connection, act, &line(quarantine, "quarantine lifted"))?;
    }
    transaction.changed.push(Topic::Quarantines);
    Ok(lifted)
}
