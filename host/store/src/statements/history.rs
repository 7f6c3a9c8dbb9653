//! The registry's history: one line for each change of what runs where.

use tollgate_core::ids::{PluginName, RouteName, TenantName};

use super::fault::Fault;
use crate::registry::{Act, Line};
use crate::sql::{Connection, params};

/// An owner or a tenant as its column has it: '' is the operator.
pub(crate) fn owner_text(owner: Option<&TenantName>) -> &str {
    owner.map_or("", TenantName::as_str)
}

/// Appends a line.
pub(crate) fn append(connection: &Connection, act: &Act, line: &Line<'_>) -> Result<(), Fault> {
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
