//! The registry's history: one line for each change of what runs where.

use rusqlite::{Connection, params};
use tollgate_core::ids::{PluginDigest, PluginName, RouteName, TenantName};

use super::fault::Fault;
use crate::registry::Act;

/// An owner or a tenant as its column has it: '' is the operator.
pub(super) fn owner_text(owner: Option<&TenantName>) -> &str {
    owner.map_or("", TenantName::as_str)
}

/// A line of history.
pub(super) struct Line<'a> {
    pub(super) what: &'a str,
    pub(super) tenant: Option<&'a TenantName>,
    pub(super) route: Option<&'a RouteName>,
    pub(super) plugin: Option<&'a PluginName>,
    pub(super) digest: Option<PluginDigest>,
    pub(super) was: Option<String>,
    pub(super) became: Option<String>,
}

pub(super) fn append(connection: &Connection, act: &Act, line: &Line<'_>) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO plugin_history (at, actor, what, why, tenant, route, plugin, digest, was, became) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            act.at.0,
            act.actor,
            line.what,
            act.why,
            owner_text(line.tenant),
            line.route.map(RouteName::as_str),
            line.plugin.map(PluginName::as_str),
            line.digest.map(|digest| digest.0.to_vec()),
            line.was,
            line.became,
        ])?;
    Ok(())
}
