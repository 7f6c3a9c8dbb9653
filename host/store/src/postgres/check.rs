//! What is there: what the server is set to, and what of it is dangerous.

use super::schema;
use super::snapshots;
use super::target::Target;
use crate::sql::Connection;
use crate::statements::fault::Fault;

/// A PostgreSQL server as a store finds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ServerFound {
    /// The version as the server says it, such as `15.18 (Debian 15.18-1)`.
    pub version: String,
    /// The schema's version of the store in it; 0 when there is none yet.
    pub schema: u32,
    /// What is checked of the server before anything is said to it: `disable` (no TLS, or a Unix socket), `require`, `verify-ca` or `verify-full`.
    pub sslmode: &'static str,
    /// The setting `fsync`: `off` loses commits with the power.
    pub fsync: String,
    /// The setting `full_page_writes`: `off` can leave torn pages.
    pub full_page_writes: String,
    /// The setting `synchronous_commit` of this connection.
    pub synchronous_commit: String,
    /// The standby servers that a commit waits for; empty for none.
    pub synchronous_standby_names: String,
    /// How many connections the server takes from everybody together.
    pub max_connections: String,
    /// What of it can lose what was acknowledged, or keep hosts from working, and why.
    pub dangers: Vec<String>,
}

/// The oldest PostgreSQL that the statements are tested with.
const OLDEST: i64 = 150_000;
/// Connections that one host has at the most.
const CONNECTIONS_OF_A_HOST: i64 = 5;

pub(super) fn found(connection: &Connection, target: &Target, schema: u32) -> Result<ServerFound, Fault> {
    let setting = |name: &str| -> Result<String, Fault> {
        Ok(connection.query_row("SELECT current_setting(?1)", [name], |row| row.get(0))?)
    };
    let mut found = ServerFound {
        version: setting("server_version")?,
        schema,
        sslmode: target.mode.as_str(),
        fsync: setting("fsync")?,
        full_page_writes: setting("full_page_writes")?,
        synchronous_commit: setting("synchronous_commit")?,
        synchronous_standby_names: setting("synchronous_standby_names")?,
        max_connections: setting("max_connections")?,
        dangers: target.danger().map(str::to_owned).into_iter().collect(),
    };
    let number = setting("server_version_num")?.parse::<i64>().unwrap_or_default();
    let is_standby: bool = connection.query_row("SELECT pg_is_in_recovery()", [], |row| row.get(0))?;
    let connections = found.max_connections.parse::<i64>().unwrap_or_default();
    let is_newer = schema > schema::VERSION;
    let is_workable = schema::is_workable(connection, schema)?;
    let known = schema::VERSION;
    for (is_so, why) in [
        (
            is_newer && is_workable,
            format!("the schema is {schema}, and this Tollgate knows {known}: its hosts work on, and this one may be brought up to date"),
        ),
        (
            is_newer && !is_workable,
            format!("the schema is {schema}, and this Tollgate knows {known}: none of its hosts works any more; start a newer one"),
        ),
        (
            number < OLDEST,
            "this PostgreSQL is older than 15, with which nothing of Tollgate was tested".to_owned(),
        ),
        (
            found.fsync != "on",
            "`fsync` is off: a loss of power loses acknowledged events and can damage the database".to_owned(),
        ),
        (
            found.full_page_writes != "on",
            "`full_page_writes` is off: a loss of power can leave torn pages".to_owned(),
        ),
        (
            matches!(found.synchronous_commit.as_str(), "off" | "local"),
            format!(
                "`synchronous_commit` is {}: an event is acknowledged before it is {}",
                found.synchronous_commit,
                match found.synchronous_commit.as_str() {
                    "off" => "on any disk, and up to a second of them is lost with the server",
                    _ => "on a standby, which may be promoted without it",
                }
            ),
        ),
        (
            found.synchronous_standby_names.is_empty(),
            "`synchronous_standby_names` is empty: a standby that is promoted may lack what was acknowledged last. With one server and no \
             failover this is no danger"
                .to_owned(),
        ),
        (
            is_standby,
            "this server is a standby and takes no writes".to_owned(),
        ),
        (
            connections < 4 * CONNECTIONS_OF_A_HOST,
            format!("`max_connections` is {connections}: a host has up to {CONNECTIONS_OF_A_HOST}, and a few are kept for administrators"),
        ),
    ] {
        if is_so {
            found.dangers.push(why);
        }
    }
    let held = snapshots::oldest(connection, snapshots::OLD)?;
    found.dangers.extend(held.map(|held| held.to_string()));
    Ok(found)
}
