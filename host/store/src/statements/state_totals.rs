//! How much state plugins have for a tenant in all, in bytes of keys and values: a row for each, so that nobody adds up keys.

use tollgate_core::ids::{PluginName, TenantName};

use super::fault::Fault;
use crate::sql::{Connection, OptionalExtension as _, params};

/// The question, for who asks ahead.
pub(crate) const ASKED: &str = "SELECT bytes FROM plugin_state_totals WHERE tenant = ?1 AND plugin = ?2";

pub(crate) fn get(connection: &Connection, tenant: &TenantName, plugin: &PluginName) -> Result<i64, Fault> {
    let total = connection
        .prepare_cached(ASKED)?
        .query_row(params![tenant.as_str(), plugin.as_str()], |row| row.get(0))
        .optional()?;
    Ok(total.unwrap_or(0))
}

/// Adds what became of it; `bytes` is negative where there is less.
pub(crate) fn add(connection: &Connection, tenant: &TenantName, plugin: &PluginName, bytes: i64) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO plugin_state_totals (tenant, plugin, bytes) VALUES (?1, ?2, ?3) \
             ON CONFLICT (tenant, plugin) DO UPDATE SET bytes = plugin_state_totals.bytes + excluded.bytes",
        )?
        .execute(params![tenant.as_str(), plugin.as_str(), bytes])?;
    Ok(())
}
