//! The registry's rows: versions, bindings, routes set by API, publishers' keys, and what is known of a version before it advances.
//! What may be written is decided by `crate::registry::rules`.

use serde::de::DeserializeOwned;
use tollgate_core::ids::{Digest, Namespace, PluginDigest, PluginName, RouteName, TenantName};
use tollgate_core::limits;
use tollgate_core::registry::{Binding, Canary, ShadowTally, Share, Standing, TrialResult};
use tollgate_core::signature::{PluginSignature, PublicKey};
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::history::{append, owner_text};
use super::rows::{self, get, id, id_opt, signed};
use crate::registry::rows::{Missing, RegistryRows, VersionRow};
use crate::registry::rules::{bound_to, signature_view};
use crate::registry::{
    Act, ApiRoute, BoundRoute, HistoryFilter, Line, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView,
    RegistryLine, RevokePublisherKey, ShadowFilter, ShadowRecord, ShadowReport, ShadowRunView, TrialRecord,
    VersionFilter, VersionKey,
};
use crate::sql::{Connection, OptionalExtension as _, Params, Row, params};

impl From<Missing> for Fault {
    fn from(Missing(what): Missing) -> Self {
        Self::NotFound(what)
    }
}

fn standing_code(standing: Standing) -> i64 {
    match standing {
        Standing::Vetted => 0,
        Standing::Published => 1,
        Standing::Retired => 2,
    }
}

fn standing(row: &Row<'_>) -> Result<Standing, Fault> {
    match get::<i64>(row, "standing")? {
        0 => Ok(Standing::Vetted),
        1 => Ok(Standing::Published),
        2 => Ok(Standing::Retired),
        other => Err(Fault::damaged("standing", other)),
    }
}

fn owner(row: &Row<'_>, column: &str) -> Result<Option<TenantName>, Fault> {
    let text: String = get(row, column)?;
    match text.as_str() {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|error| Fault::damaged(column, error)),
    }
}

fn digest_opt(row: &Row<'_>, column: &str) -> Result<Option<Digest>, Fault> {
    match get::<Option<Vec<u8>>>(row, column)? {
        None => Ok(None),
        Some(_) => rows::digest(row, column).map(Some),
    }
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T, Fault> {
    let text: String = get(row, column)?;
    serde_json::from_str(&text).map_err(|error| Fault::damaged(column, error))
}

/// Each row of a query.
fn collect<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query(parameters)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// The first row of a query.
fn first<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Option<T>, Fault> {
    Ok(collect(connection, sql, parameters, read)?.into_iter().next())
}

fn count(connection: &Connection, sql: &str, parameters: impl Params) -> Result<usize, Fault> {
    let count: i64 = connection
        .prepare_cached(sql)?
        .query_row(parameters, |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn run(connection: &Connection, sql: &str, parameters: impl Params) -> Result<(), Fault> {
    connection.prepare_cached(sql)?.execute(parameters)?;
    Ok(())
}

fn signature(row: &Row<'_>) -> Result<Option<PluginSignature>, Fault> {
    get::<Option<String>>(row, "signature")?
        .map(|text| PluginSignature::from_json(text.as_bytes()))
        .transpose()
        .map_err(|error| Fault::damaged("signature", error))
}

fn version_row(row: &Row<'_>) -> Result<VersionRow, Fault> {
    Ok(VersionRow {
        id: get(row, "id")?,
        name: id(row, "name")?,
        version: get(row, "version")?,
        standing: standing(row)?,
        signature: signature(row)?,
    })
}

const VERSIONS: &str = "SELECT v.id, v.owner, v.digest, v.name, v.version, v.publisher, v.standing, v.manifest, v.report, v.signature, v.added_at, v.added_by, \
     length(c.bytes) AS component_bytes FROM plugin_versions v JOIN components c ON c.digest = v.digest";

fn version(row: &Row<'_>) -> Result<PluginVersion, Fault> {
    Ok(PluginVersion {
        digest: rows::digest(row, "digest")?,
        owner: owner(row, "owner")?,
        name: id(row, "name")?,
        version: get(row, "version")?,
        publisher: get(row, "publisher")?,
        standing: standing(row)?,
        component_bytes: rows::unsigned(row, "component_bytes")?,
        manifest: json(row, "manifest")?,
        report: json(row, "report")?,
        signature: signature(row)?.as_ref().map(signature_view),
        added_at: rows::millis(row, "added_at")?.to_string(),
        added_by: get(row, "added_by")?,
        bound: Vec::new(),
    })
}

fn binding(row: &Row<'_>) -> Result<Binding, Fault> {
    let share = get::<Option<u16>>(row, "share")?
        .map(Share::per_mille)
        .transpose()
        .map_err(|error| Fault::damaged("share", error))?;
    Ok(Binding {
        plugin: id(row, "plugin")?,
        active: rows::digest(row, "active")?,
        canary: digest_opt(row, "canary")?
            .zip(share)
            .map(|(digest, share)| Canary { digest, share }),
        shadow: digest_opt(row, "shadow")?,
        previous: json(row, "previous")?,
        by_hand: get(row, "by_hand")?,
    })
}

fn publisher_key(row: &Row<'_>) -> Result<PublisherKeyView, Fault> {
    let key =
        PublicKey::from_bytes(&rows::bytes(row, "public_key")?).map_err(|error| Fault::damaged("public_key", error))?;
    Ok(PublisherKeyView {
        tenant: id(row, "tenant")?,
        publisher: id(row, "publisher")?,
        key_id: id(row, "key_id")?,
        public_key: key.to_text(),
        registered_at: rows::millis(row, "registered_at")?.to_string(),
        registered_by: get(row, "registered_by")?,
        revoked_at: rows::millis_opt(row, "revoked_at")?.map(|at| at.to_string()),
        revoked_by: get(row, "revoked_by")?,
    })
}

impl RegistryRows for Connection {
    type Error = Fault;

    fn versions_of(&self, key: &VersionKey) -> Result<Vec<VersionRow>, Fault> {
        collect(
            self,
            "SELECT id, name, version, standing, signature FROM plugin_versions WHERE owner = ?1 AND digest = ?2 ORDER BY id",
            params![owner_text(key.owner.as_ref()), key.digest.0.as_slice()],
            version_row,
        )
    }

    fn shown(&self, version_id: i64) -> Result<PluginVersion, Fault> {
        first(self, &format!("{VERSIONS} WHERE v.id = ?1"), [version_id], version)?
            .ok_or_else(|| Fault::damaged("plugin version", format_args!("{version_id} does not exist")))
    }

    fn count_versions(&self, owner: Option<&TenantName>, standing: Option<Standing>) -> Result<usize, Fault> {
        count(
            self,
            "SELECT count(*) FROM plugin_versions WHERE owner = ?1 AND (?2 IS NULL OR standing = ?2)",
            params![owner_text(owner), standing.map(standing_code)],
        )
    }

    fn other_of_that_version(&self, key: &VersionKey, row: &VersionRow) -> Result<Option<PluginDigest>, Fault> {
        first(
            self,
            "SELECT digest FROM plugin_versions WHERE owner = ?1 AND name = ?2 AND version = ?3 AND standing <> 0 AND digest <> ?4",
            params![
                owner_text(key.owner.as_ref()),
                row.name.as_str(),
                row.version,
                key.digest.0.as_slice()
            ],
            |row| rows::digest(row, "digest"),
        )
    }

    fn bindable(
        &self,
        tenant: &TenantName,
        plugin: &PluginName,
        digest: PluginDigest,
    ) -> Result<Option<VersionRow>, Fault> {
        first(
            self,
            "SELECT id, name, version, standing, signature FROM plugin_versions WHERE digest = ?1 AND owner IN ('', ?2) \
             ORDER BY name = ?3 DESC, standing = 1 DESC, owner DESC LIMIT 1",
            params![digest.0.as_slice(), tenant.as_str(), plugin.as_str()],
            version_row,
        )
    }

    fn newest_published(&self, tenant: &TenantName, plugin: &PluginName) -> Result<Option<PluginDigest>, Fault> {
        first(
            self,
            "SELECT digest FROM plugin_versions WHERE owner IN ('', ?1) AND name = ?2 AND standing = 1 \
             ORDER BY owner DESC, id DESC LIMIT 1",
            params![tenant.as_str(), plugin.as_str()],
            |row| rows::digest(row, "digest"),
        )
    }

    fn insert_version(&self, new: &NewVersion, standing: Standing, act: &Act) -> Result<i64, Fault> {
        self.prepare_cached("INSERT INTO components (digest, bytes) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING")?
            .execute(params![new.digest.0.as_slice(), &*new.bytes])?;
        self
            .prepare_cached(
                "INSERT INTO plugin_versions (owner, digest, name, version, publisher, standing, manifest, report, signature, added_at, \
                 added_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                owner_text(new.owner.as_ref()),
                new.digest.0.as_slice(),
                new.name.as_str(),
                new.version,
                new.publisher,
                standing_code(standing),
                new.manifest_json,
                new.report_json,
                new.signature.as_ref().map(PluginSignature::to_json),
                act.at.0,
                act.actor,
            ])?;
        Ok(self.last_insert_rowid())
    }

    fn set_signature(&self, version: i64, signature: &PluginSignature) -> Result<(), Fault> {
        run(
            self,
            "UPDATE plugin_versions SET signature = ?2 WHERE id = ?1",
            params![version, signature.to_json()],
        )
    }

    fn set_standing(&self, version: i64, standing: Standing) -> Result<(), Fault> {
        run(
            self,
            "UPDATE plugin_versions SET standing = ?2 WHERE id = ?1",
            params![version, standing_code(standing)],
        )
    }

    fn bindings(&self, tenant: Option<&TenantName>) -> Result<Vec<BoundRoute>, Fault> {
        collect(
            self,
            "SELECT tenant, route, plugin, active, canary, share, shadow, previous, by_hand, changed_at FROM plugin_bindings \
             WHERE (?1 IS NULL OR tenant = ?1) ORDER BY tenant, route",
            params![tenant.map(TenantName::as_str)],
            |row| {
                Ok(BoundRoute {
                    tenant: id(row, "tenant")?,
                    route: id(row, "route")?,
                    binding: binding(row)?,
                    changed_at: rows::millis(row, "changed_at")?.to_string(),
                })
            },
        )
    }

    fn binding(&self, tenant: &TenantName, route: &RouteName) -> Result<Option<Binding>, Fault> {
        first(
            self,
            "SELECT plugin, active, canary, share, shadow, previous, by_hand FROM plugin_bindings WHERE tenant = ?1 AND route = ?2",
            params![tenant.as_str(), route.as_str()],
            binding,
        )
    }

    fn put_binding(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        binding: &Binding,
        at: UnixMillis,
    ) -> Result<(), Fault> {
        let previous = serde_json::to_string(&binding.previous).map_err(|error| Fault::damaged("json", error))?;
        run(
            self,
            "INSERT OR REPLACE INTO plugin_bindings (tenant, route, plugin, active, canary, share, shadow, previous, by_hand, \
             changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                tenant.as_str(),
                route.as_str(),
                binding.plugin.as_str(),
                binding.active.0.as_slice(),
                binding.canary.map(|canary| canary.digest.0.to_vec()),
                binding.canary.map(|canary| canary.share.as_per_mille()),
                binding.shadow.map(|shadow| shadow.0.to_vec()),
                previous,
                binding.by_hand,
                at.0,
            ],
        )
    }

    fn remove_binding(&self, tenant: &TenantName, route: &RouteName) -> Result<(), Fault> {
        run(
            self,
            "DELETE FROM plugin_bindings WHERE tenant = ?1 AND route = ?2",
            params![tenant.as_str(), route.as_str()],
        )
    }

    fn count_other_routes(&self, tenant: &TenantName, route: &RouteName) -> Result<usize, Fault> {
        count(
            self,
            "SELECT count(*) FROM api_routes WHERE tenant = ?1 AND route <> ?2",
            params![tenant.as_str(), route.as_str()],
        )
    }

    fn definition(&self, tenant: &TenantName, route: &RouteName) -> Result<Option<String>, Fault> {
        first(
            self,
            "SELECT definition FROM api_routes WHERE tenant = ?1 AND route = ?2",
            params![tenant.as_str(), route.as_str()],
            |row| get(row, "definition"),
        )
    }

    fn put_route(&self, tenant: &TenantName, route: &RouteName, definition: &str, act: &Act) -> Result<(), Fault> {
        run(
            self,
            "INSERT OR REPLACE INTO api_routes (tenant, route, definition, changed_at, changed_by) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![tenant.as_str(), route.as_str(), definition, act.at.0, act.actor],
        )
    }

    fn remove_route(&self, tenant: &TenantName, route: &RouteName) -> Result<(), Fault> {
        run(
            self,
            "DELETE FROM api_routes WHERE tenant = ?1 AND route = ?2",
            params![tenant.as_str(), route.as_str()],
        )
    }

    fn namespace(&self, tenant: &TenantName, route: &RouteName) -> Result<Option<Namespace>, Fault> {
        first(
            self,
            "SELECT namespace FROM route_namespaces WHERE tenant = ?1 AND route = ?2",
            params![tenant.as_str(), route.as_str()],
            |row| id(row, "namespace"),
        )
    }

    fn put_namespace(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        namespace: &Namespace,
        since: UnixMillis,
    ) -> Result<(), Fault> {
        run(
            self,
            "INSERT OR REPLACE INTO route_namespaces (tenant, route, namespace, since) VALUES (?1, ?2, ?3, ?4)",
            params![tenant.as_str(), route.as_str(), namespace.as_str(), since.0],
        )
    }

    fn publisher_keys(&self, tenant: Option<&TenantName>) -> Result<Vec<PublisherKeyView>, Fault> {
        collect(
            self,
            "SELECT tenant, publisher, key_id, public_key, registered_at, registered_by, revoked_at, revoked_by FROM publisher_keys \
             WHERE (?1 IS NULL OR tenant = ?1) ORDER BY tenant, publisher, key_id",
            params![tenant.map(TenantName::as_str)],
            publisher_key,
        )
    }

    fn insert_key(&self, new: &NewPublisherKey) -> Result<(), Fault> {
        run(
            self,
            "INSERT INTO publisher_keys (tenant, publisher, key_id, public_key, registered_at, registered_by) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                new.tenant.as_str(),
                new.publisher.as_str(),
                new.key_id.as_str(),
                new.public_key.as_bytes().as_slice(),
                new.act.at.0,
                new.act.actor
            ],
        )
    }

    fn set_key_revoked(&self, request: &RevokePublisherKey) -> Result<(), Fault> {
        run(
            self,
            "UPDATE publisher_keys SET revoked_at = ?4, revoked_by = ?5 WHERE tenant = ?1 AND publisher = ?2 AND key_id = ?3",
            params![
                request.tenant.as_str(),
                request.publisher.as_str(),
                request.key_id.as_str(),
                request.act.at.0,
                request.act.actor
            ],
        )
    }

    fn trial(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        active: PluginDigest,
        candidate: PluginDigest,
    ) -> Result<Option<TrialResult>, Fault> {
        first(
            self,
            "SELECT runs, differences, unreadable FROM plugin_trials \
             WHERE tenant = ?1 AND route = ?2 AND candidate = ?3 AND active = ?4 ORDER BY runs DESC, id DESC LIMIT 1",
            params![
                tenant.as_str(),
                route.as_str(),
                candidate.0.as_slice(),
                active.0.as_slice()
            ],
            |row| {
                Ok(TrialResult {
                    runs: rows::unsigned(row, "runs")?,
                    differences: rows::unsigned(row, "differences")?,
                    unreadable: rows::unsigned(row, "unreadable")?,
                })
            },
        )
    }

    fn tally(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        active: PluginDigest,
        shadow: PluginDigest,
    ) -> Result<Option<ShadowTally>, Fault> {
        first(
            self,
            "SELECT runs, differences FROM shadow_tallies WHERE tenant = ?1 AND route = ?2 AND active = ?3 AND shadow = ?4",
            params![
                tenant.as_str(),
                route.as_str(),
                active.0.as_slice(),
                shadow.0.as_slice()
            ],
            |row| {
                Ok(ShadowTally {
                    runs: rows::unsigned(row, "runs")?,
                    differences: rows::unsigned(row, "differences")?,
                })
            },
        )
    }

    fn append(&self, act: &Act, line: &Line<'_>) -> Result<(), Fault> {
        append(self, act, line)
    }
}

// What is listed.

pub(crate) fn history(connection: &Connection, filter: &HistoryFilter) -> Result<Vec<RegistryLine>, Fault> {
    let limit = i64::try_from(filter.rows_max).unwrap_or(i64::MAX);
    let read = |row: &Row<'_>| {
        Ok(RegistryLine {
            at: rows::millis(row, "at")?.to_string(),
            actor: get(row, "actor")?,
            what: get(row, "what")?,
            why: get(row, "why")?,
            tenant: owner(row, "tenant")?,
            route: id_opt(row, "route")?,
            plugin: id_opt(row, "plugin")?,
            digest: digest_opt(row, "digest")?,
            from: get(row, "was")?,
            to: get(row, "became")?,
        })
    };
    collect(
        connection,
        "SELECT id, at, actor, what, why, tenant, route, plugin, digest, was, became FROM plugin_history \
         WHERE (?1 IS NULL OR tenant = ?1 OR (tenant = '' AND route IS NULL)) \
         AND (?2 IS NULL OR route = ?2) AND (?3 IS NULL OR digest = ?3) \
         AND (?4 = 0 OR (what NOT LIKE 'settings-%' AND what NOT LIKE 'secret-%')) ORDER BY id DESC LIMIT ?5",
        params![
            filter.tenant.as_ref().map(TenantName::as_str),
            filter.route.as_ref().map(RouteName::as_str),
            filter.digest.map(|digest| digest.0.to_vec()),
            i64::from(filter.without_settings),
            limit
        ],
        read,
    )
}

pub(crate) fn versions(connection: &Connection, filter: &VersionFilter) -> Result<Vec<PluginVersion>, Fault> {
    let mut found = collect(
        connection,
        &format!(
            "{VERSIONS} WHERE (?1 IS NULL OR v.owner IN ('', ?1)) AND (?2 IS NULL OR v.name = ?2) \
             AND (?3 IS NULL OR v.digest = ?3) ORDER BY v.id DESC"
        ),
        params![
            filter.tenant.as_ref().map(TenantName::as_str),
            filter.name.as_ref().map(PluginName::as_str),
            filter.digest.map(|digest| digest.0.to_vec())
        ],
        version,
    )?;
    bound_to(&mut found, &connection.bindings(filter.tenant.as_ref())?);
    Ok(found)
}

/// The bytes of a component.
pub(crate) fn component(connection: &Connection, digest: PluginDigest) -> Result<Vec<u8>, Fault> {
    connection
        .prepare_cached("SELECT bytes FROM components WHERE digest = ?1")?
        .query_row([digest.0.as_slice()], |row| row.get(0))
        .optional()?
        .ok_or_else(|| Fault::NotFound(format!("the component {digest}")))
}

pub(crate) fn api_routes(connection: &Connection) -> Result<Vec<ApiRoute>, Fault> {
    collect(
        connection,
        "SELECT tenant, route, definition, changed_at, changed_by FROM api_routes ORDER BY tenant, route",
        [],
        |row| {
            Ok(ApiRoute {
                tenant: id(row, "tenant")?,
                route: id(row, "route")?,
                definition: json(row, "definition")?,
                changed_at: rows::millis(row, "changed_at")?.to_string(),
                changed_by: get(row, "changed_by")?,
            })
        },
    )
}

pub(crate) fn record_trial(connection: &Connection, trial: &TrialRecord) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO plugin_trials (at, actor, tenant, route, active, candidate, runs, differences, unreadable) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            trial.at.0,
            trial.actor,
            trial.tenant.as_str(),
            trial.route.as_str(),
            trial.active.0.as_slice(),
            trial.candidate.0.as_slice(),
            signed(trial.result.runs),
            signed(trial.result.differences),
            signed(trial.result.unreadable),
        ])?;
    Ok(())
}

pub(crate) fn record_shadow(connection: &Connection, record: &ShadowRecord) -> Result<(), Fault> {
    let differs = record.differs();
    connection
        .prepare_cached(
            "INSERT INTO shadow_runs (run, tenant, route, active, shadow, started_at, duration_us, fuel, outcome, message, actions, \
             active_outcome, active_actions, active_fuel, beyond_record, differs) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            record.run.0,
            record.tenant.as_str(),
            record.route.as_str(),
            record.active.0.as_slice(),
            record.shadow.0.as_slice(),
            record.started_at.0,
            signed(record.duration_us),
            signed(record.shadow_result.fuel),
            record.shadow_result.outcome,
            record.message,
            record.shadow_result.actions_json,
            record.active_result.outcome,
            record.active_result.actions_json,
            signed(record.active_result.fuel),
            record.beyond_record,
            differs,
        ])?;
    let newest = connection.last_insert_rowid();
    connection
        .prepare_cached("DELETE FROM shadow_runs WHERE id <= ?1")?
        .execute([newest - limits::SHADOW_RUNS_KEPT])?;
    connection
        .prepare_cached(
            "INSERT INTO shadow_tallies (tenant, route, active, shadow, runs, differences) VALUES (?1, ?2, ?3, ?4, 1, ?5) \
             ON CONFLICT (tenant, route, active, shadow) DO UPDATE SET runs = shadow_tallies.runs + 1, \
             differences = shadow_tallies.differences + excluded.differences",
        )?
        .execute(params![
            record.tenant.as_str(),
            record.route.as_str(),
            record.active.0.as_slice(),
            record.shadow.0.as_slice(),
            differs
        ])?;
    Ok(())
}

pub(crate) fn shadow_report(connection: &Connection, filter: &ShadowFilter) -> Result<ShadowReport, Fault> {
    let ShadowFilter {
        tenant,
        route,
        differing_only,
        rows_max,
    } = filter;
    let binding = connection.binding(tenant, route)?;
    let tally = match binding
        .as_ref()
        .and_then(|binding| Some((binding.active, binding.shadow?)))
    {
        Some((active, shadow)) => connection.tally(tenant, route, active, shadow)?,
        None => None,
    };
    let runs = collect(
        connection,
        "SELECT run, active, shadow, started_at, duration_us, fuel, outcome, message, actions, active_outcome, active_actions, \
         active_fuel, beyond_record, differs FROM shadow_runs WHERE tenant = ?1 AND route = ?2 AND (?3 = 0 OR differs = 1) ORDER BY id DESC LIMIT ?4",
        params![
            tenant.as_str(),
            route.as_str(),
            differing_only,
            i64::try_from(*rows_max).unwrap_or(i64::MAX)
        ],
        |row| {
            Ok(ShadowRunView {
                run: tollgate_core::ids::RunId(get(row, "run")?),
                active: rows::digest(row, "active")?,
                shadow: rows::digest(row, "shadow")?,
                started_at: rows::millis(row, "started_at")?.to_string(),
                duration_us: rows::unsigned(row, "duration_us")?,
                fuel: rows::unsigned(row, "fuel")?,
                outcome: get(row, "outcome")?,
                message: get(row, "message")?,
                actions: json(row, "actions")?,
                active_outcome: get(row, "active_outcome")?,
                active_actions: json(row, "active_actions")?,
                active_fuel: rows::unsigned(row, "active_fuel")?,
                beyond_record: get(row, "beyond_record")?,
                differs: get(row, "differs")?,
            })
        },
    )?;
    Ok(ShadowReport { tally, runs })
}
