//! Plugins' state in people's hands: looked at, and changed with who and why.
//!
//! An edit is one more version of its key. Runs that read the key before it commit are begun again, as after another run.

use tollgate_core::ids::{PluginName, TenantName};
use tollgate_core::state::StateValue;

use super::fault::Fault;
use super::receipts::View;
use super::rows::{get, millis};
use super::transaction::{StateChange, Transaction};
use crate::sql::{Connection, OptionalExtension as _, Row, params};
use crate::{StateEdit, StateEditView, StateEdited, StateEntry, StateFilter};

/// Edits of one key that are shown, the newest.
const EDITS_MAX: i64 = 100;

/// Keys in the order of their bytes, each with its value and by whom it was last changed by hand.
pub(crate) fn list(view: View<'_>, filter: &StateFilter) -> Result<Vec<StateEntry>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT key, version, value FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key > ?3 \
         AND (?4 IS NULL OR key = ?4) AND substr(key, 1, length(?5)) = ?5 ORDER BY key LIMIT ?6",
    )?;
    let mut found = statement.query(params![
        filter.tenant.as_str(),
        filter.plugin.as_str(),
        filter.after.as_deref().unwrap_or_default(),
        filter.key,
        filter.prefix.as_deref().unwrap_or_default(),
        i64::try_from(filter.rows_max).unwrap_or(i64::MAX),
    ])?;
    let mut entries = Vec::new();
    while let Some(row) = found.next()? {
        entries.push(StateEntry {
            key: get(row, "key")?,
            version: get(row, "version")?,
            value: get(row, "value")?,
        });
    }
    Ok(entries)
}

/// What people changed at a key, the newest first.
pub(crate) fn edits(
    view: View<'_>,
    tenant: &TenantName,
    plugin: &PluginName,
    key: &str,
) -> Result<Vec<StateEditView>, Fault> {
    let mut statement = view.prepare_cached(
        "SELECT id, at, actor, why, before, after FROM state_edits WHERE tenant = ?1 AND plugin = ?2 AND key = ?3 \
         ORDER BY id DESC LIMIT ?4",
    )?;
    let mut found = statement.query(params![tenant.as_str(), plugin.as_str(), key, EDITS_MAX])?;
    let mut edits = Vec::new();
    while let Some(row) = found.next()? {
        edits.push(edit_of(row)?);
    }
    Ok(edits)
}

fn edit_of(row: &Row<'_>) -> Result<StateEditView, Fault> {
    Ok(StateEditView {
        version: -get::<i64>(row, "id")?,
        at: millis(row, "at")?,
        actor: get(row, "actor")?,
        why: get(row, "why")?,
        before: get(row, "before")?,
        after: get(row, "after")?,
    })
}

fn current(connection: &Connection, edit: &StateEdit) -> Result<StateValue, Fault> {
    let found = connection
        .prepare_cached("SELECT version, value FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3")?
        .query_row(params![edit.tenant.as_str(), edit.plugin.as_str(), edit.key], |row| {
            Ok(StateValue {
                version: row.get(0)?,
                value: Some(row.get(1)?),
            })
        })
        .optional()?;
    Ok(found.unwrap_or(StateValue {
        version: 0,
        value: None,
    }))
}

/// What an edit would be. A dry run ends here.
pub(crate) fn plan(view: View<'_>, edit: &StateEdit) -> Result<StateEdited, Fault> {
    let now = current(view.connection, edit)?;
    Ok(if now.version == edit.version {
        StateEdited::Done { version: now.version }
    } else {
        StateEdited::OtherVersion { version: now.version }
    })
}

/// Sets or removes a key, if it still has the version that whoever changes it saw.
pub(crate) fn edit(transaction: &mut Transaction<'_>, edit: &StateEdit) -> Result<StateEdited, Fault> {
    let connection = transaction.connection;
    let before = current(connection, edit)?;
    if before.version != edit.version {
        return Ok(StateEdited::OtherVersion {
            version: before.version,
        });
    }
    let (tenant, plugin) = (edit.tenant.as_str(), edit.plugin.as_str());
    connection
        .prepare_cached(
            "INSERT INTO state_edits (at, actor, why, tenant, plugin, key, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![edit.now.0, edit.actor, edit.why, tenant, plugin, edit.key, before.value, edit.value])?;
    let version = -connection.last_insert_rowid();
    let bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| (edit.key.len() + value.len()) as i64);
    match &edit.value {
        Some(value) => connection
            .prepare_cached(
                "INSERT INTO plugin_state (tenant, plugin, key, version, value) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (tenant, plugin, key) DO UPDATE SET version = excluded.version, value = excluded.value",
            )?
            .execute(params![tenant, plugin, edit.key, version, value])?,
        None => connection
            .prepare_cached("DELETE FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 AND key = ?3")?
            .execute(params![tenant, plugin, edit.key])?,
    };
    transaction.grow_state(&edit.tenant, &edit.plugin, bytes(&edit.value) - bytes(&before.value))?;
    let version = if edit.value.is_some() { version } else { 0 };
    transaction.state.push(StateChange {
        tenant: edit.tenant.clone(),
        plugin: edit.plugin.clone(),
        key: edit.key.clone(),
        value: StateValue {
            version,
            value: edit.value.clone(),
        },
    });
    Ok(StateEdited::Done { version })
}
