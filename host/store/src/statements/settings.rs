//! Tenants' settings and secrets, as they set them by API (promise O14).
//!
//! A version is never changed: going back is a new version with an old text. Two people who read the same version cannot both set the next
//! one: the second is told who was faster.

use std::collections::BTreeMap;

use tollgate_core::ids::{SecretName, TenantName};
use tollgate_core::limits;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::history;
use super::rows::{self, get, id};
use super::transaction::Transaction;
use crate::registry::{Act, Line};
use crate::sql::{Connection, OptionalExtension as _, Row, params};
use crate::{NewSettings, SealedSecret, SecretReseal, SecretView, SettingsLine, SettingsPut, SettingsVersion, Topic};

/// How often each tenant's settings or secrets changed.
pub(crate) fn changes(connection: &Connection) -> Result<BTreeMap<TenantName, u64>, Fault> {
    let mut statement = connection.prepare_cached("SELECT tenant, number FROM settings_changes")?;
    let mut found = statement.query([])?;
    let mut changes = BTreeMap::new();
    while let Some(row) = found.next()? {
        changes.insert(id(row, "tenant")?, rows::unsigned(row, "number")?);
    }
    Ok(changes)
}

/// One version, or the newest; none when there is no such version.
pub(crate) fn version(
    connection: &Connection,
    tenant: &TenantName,
    number: Option<u64>,
) -> Result<Option<SettingsVersion>, Fault> {
    let number = number.map(rows_number);
    let mut statement = connection.prepare_cached(
        "SELECT version, octet_length(text) AS bytes, text, text_of, at, actor, why FROM settings WHERE tenant = ?1 \
         AND (?2 IS NULL OR version = ?2) ORDER BY version DESC LIMIT 1",
    )?;
    let mut found = statement.query(params![tenant.as_str(), number])?;
    found
        .next()?
        .map(|row| {
            Ok(SettingsVersion {
                line: line(row)?,
                text: get(row, "text")?,
            })
        })
        .transpose()
}

/// A tenant's versions, the newest first.
pub(crate) fn versions(
    connection: &Connection,
    tenant: &TenantName,
    rows_max: usize,
) -> Result<Vec<SettingsLine>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT version, octet_length(text) AS bytes, text_of, at, actor, why FROM settings WHERE tenant = ?1 ORDER BY version DESC LIMIT ?2",
    )?;
    let mut found = statement.query(params![tenant.as_str(), rows_max as i64])?;
    let mut lines = Vec::new();
    while let Some(row) = found.next()? {
        lines.push(line(row)?);
    }
    Ok(lines)
}

fn line(row: &Row<'_>) -> Result<SettingsLine, Fault> {
    let text_of = get::<Option<i64>>(row, "text_of")?;
    Ok(SettingsLine {
        version: rows::unsigned(row, "version")?,
        bytes: rows::unsigned(row, "bytes")?,
        text_of: text_of.and_then(|number| u64::try_from(number).ok()),
        at: rows::millis(row, "at")?,
        actor: get(row, "actor")?,
        why: get(row, "why")?,
    })
}

fn rows_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Keeps a version, if the newest is the one that was expected.
pub(crate) fn put(transaction: &mut Transaction<'_>, new: &NewSettings) -> Result<SettingsPut, Fault> {
    let connection = transaction.connection;
    let newest = versions(connection, &new.tenant, 1)?.pop();
    let before = newest.as_ref().map_or(0, |line| line.version);
    if before != new.expects {
        return Ok(SettingsPut::Overtaken(newest));
    }
    if let Some(secret) = &new.secret {
        // Somebody's by now, which other settings may come to use.
        if is_there(connection, &new.tenant, &secret.view.name)? {
            return Ok(SettingsPut::Overtaken(newest));
        }
        put_secret(transaction, &new.tenant, secret)?;
    }
    let version = before.saturating_add(1);
    connection
        .prepare_cached(
            "INSERT INTO settings (tenant, version, text, text_of, at, actor, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            new.tenant.as_str(),
            rows_number(version),
            new.text,
            new.text_of.map(rows_number),
            new.now.0,
            new.actor,
            new.why,
        ])?;
    if let Some(gone) = version.checked_sub(limits::SETTINGS_VERSIONS_KEPT) {
        connection
            .prepare_cached("DELETE FROM settings WHERE tenant = ?1 AND version <= ?2")?
            .execute(params![new.tenant.as_str(), rows_number(gone)])?;
    }
    let act = act(new.now, &new.actor, &new.why);
    let said = |version: u64| (version > 0).then(|| format!("settings {version}"));
    note(
        transaction,
        &new.tenant,
        &act,
        "settings-set",
        said(before),
        said(version),
    )?;
    Ok(SettingsPut::Kept(SettingsLine {
        version,
        bytes: new.text.len() as u64,
        text_of: new.text_of,
        at: new.now,
        actor: new.actor.clone(),
        why: new.why.clone(),
    }))
}

/// A tenant's secrets, by name.
pub(crate) fn secrets(connection: &Connection, tenant: &TenantName) -> Result<Vec<SealedSecret>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT name, sealed, sealed_with, at, actor, why FROM settings_secrets WHERE tenant = ?1 ORDER BY name",
    )?;
    let mut found = statement.query([tenant.as_str()])?;
    let mut secrets = Vec::new();
    while let Some(row) = found.next()? {
        secrets.push(SealedSecret {
            view: SecretView {
                name: id(row, "name")?,
                sealed_with: get(row, "sealed_with")?,
                at: rows::millis(row, "at")?,
                actor: get(row, "actor")?,
                why: get(row, "why")?,
                opens: None,
                used_by: Vec::new(),
            },
            sealed: get(row, "sealed")?,
        });
    }
    Ok(secrets)
}

/// Keeps a secret in the place of the one of its name. Returns whether there was one.
pub(crate) fn put_secret(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    secret: &SealedSecret,
) -> Result<bool, Fault> {
    let view = &secret.view;
    let connection = transaction.connection;
    let was_there = is_there(connection, tenant, &view.name)?;
    connection
        .prepare_cached(
            "INSERT INTO settings_secrets (tenant, name, sealed, sealed_with, at, actor, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
             ON CONFLICT (tenant, name) DO UPDATE SET sealed = excluded.sealed, sealed_with = excluded.sealed_with, at = excluded.at, \
             actor = excluded.actor, why = excluded.why",
        )?
        .execute(params![
            tenant.as_str(),
            view.name.as_str(),
            secret.sealed,
            view.sealed_with,
            view.at.0,
            view.actor,
            view.why,
        ])?;
    let act = act(view.at, &view.actor, &view.why);
    let became = Some(format!("secret {}", view.name));
    note(
        transaction,
        tenant,
        &act,
        "secret-set",
        became.clone().filter(|_| was_there),
        became,
    )?;
    Ok(was_there)
}

/// Puts the same secret under another key, if nobody set it since it was read. Who set it, when and why stays as it is. Returns whether it did.
pub(crate) fn reseal_secret(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    reseal: &SecretReseal,
    act: &Act,
) -> Result<bool, Fault> {
    let name = &reseal.name;
    let changed = transaction
        .connection
        .prepare_cached(
            "UPDATE settings_secrets SET sealed = ?3, sealed_with = ?4 WHERE tenant = ?1 AND name = ?2 AND sealed = ?5",
        )?
        .changed(params![
            tenant.as_str(),
            name.as_str(),
            reseal.sealed,
            reseal.sealed_with,
            reseal.was
        ])?;
    if changed > 0 {
        let same = || Some(format!("secret {name}"));
        note(transaction, tenant, act, "secret-resealed", same(), same())?;
    }
    Ok(changed > 0)
}

/// Removes a secret. Returns whether there was one.
pub(crate) fn remove_secret(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    name: &SecretName,
    act: &Act,
) -> Result<bool, Fault> {
    let removed = transaction
        .connection
        .prepare_cached("DELETE FROM settings_secrets WHERE tenant = ?1 AND name = ?2")?
        .changed(params![tenant.as_str(), name.as_str()])?;
    if removed > 0 {
        note(
            transaction,
            tenant,
            act,
            "secret-removed",
            Some(format!("secret {name}")),
            None,
        )?;
    }
    Ok(removed > 0)
}

fn is_there(connection: &Connection, tenant: &TenantName, name: &SecretName) -> Result<bool, Fault> {
    let found = connection
        .prepare_cached("SELECT 1 FROM settings_secrets WHERE tenant = ?1 AND name = ?2")?
        .query_row(params![tenant.as_str(), name.as_str()], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn act(at: UnixMillis, actor: &str, why: &str) -> Act {
    Act {
        actor: actor.to_owned(),
        why: Some(why.to_owned()),
        at,
        dry_run: false,
    }
}

/// Counts the change, tells the hosts of it, and writes its line of history.
fn note(
    transaction: &mut Transaction<'_>,
    tenant: &TenantName,
    act: &Act,
    what: &str,
    was: Option<String>,
    became: Option<String>,
) -> Result<(), Fault> {
    transaction
        .connection
        .prepare_cached(
            "INSERT INTO settings_changes (tenant, number) VALUES (?1, 1) \
             ON CONFLICT (tenant) DO UPDATE SET number = settings_changes.number + 1",
        )?
        .execute([tenant.as_str()])?;
    transaction.changed.push(Topic::Registry);
    let line = Line {
        what,
        tenant: Some(tenant),
        route: None,
        plugin: None,
        digest: None,
        was,
        became,
    };
    history::append(transaction.connection, act, &line)
}
