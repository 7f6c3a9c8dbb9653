//! The plugin registry: versions, bindings, routes set by API, publishers' keys, and what is known of a version before it advances.
//!
//! Every change is one transaction: what it does, and its line of history. A change that is tried dry goes the same way and stops
//! before it writes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tollgate_core::ids::{Digest, Namespace, PluginDigest, PluginName, RouteName, TenantName};
use tollgate_core::limits;
use tollgate_core::registry::{
    Bindable, Binding, Canary, Change, Evidence, PromotionGate, Refused, ShadowTally, Share, Standing, TrialResult,
};
use tollgate_core::signature::{PluginSignature, PublicKey};

use super::fault::Fault;
use super::history::{Line, append, owner_text};
use super::rows::{self, get, id, id_opt, signed};
use crate::registry::{
    Act, ApiRoute, BindingChange, BoundRoute, BoundView, ChangeRequest, ConfiguredRoute, HistoryFilter, KeyRegistered,
    NamespaceChange, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView, RegistryLine, RevokePublisherKey,
    RouteNamespace, SetRoute, ShadowFilter, ShadowRecord, ShadowReport, ShadowRunView, SignatureView, StepRequest,
    TrialRecord, VersionFilter, VersionKey,
};
use crate::sql::{Connection, OptionalExtension as _, Params, Row, params};

/// What a transaction found that a request cannot be done, and why.
type Judged<T> = Result<Result<T, Refused>, Fault>;

/// Goes on with what was not refused.
macro_rules! granted {
    ($judged:expr) => {
        match $judged {
            Ok(value) => value,
            Err(refused) => return Ok(Err(refused)),
        }
    };
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

fn to_json(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::damaged("json", error))
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

pub(super) fn history(connection: &Connection, filter: &HistoryFilter) -> Result<Vec<RegistryLine>, Fault> {
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
        "SELECT * FROM plugin_history WHERE (?1 IS NULL OR tenant = ?1 OR (tenant = '' AND route IS NULL)) \
         AND (?2 IS NULL OR route = ?2) AND (?3 IS NULL OR digest = ?3) ORDER BY id DESC LIMIT ?4",
        params![
            filter.tenant.as_ref().map(TenantName::as_str),
            filter.route.as_ref().map(RouteName::as_str),
            filter.digest.map(|digest| digest.0.to_vec()),
            limit
        ],
        read,
    )
}

// Versions.

/// A version's row, as far as the rules must know it.
struct VersionRow {
    id: i64,
    name: PluginName,
    version: String,
    standing: Standing,
    signature: Option<String>,
}

fn version_row(row: &Row<'_>) -> Result<VersionRow, Fault> {
    Ok(VersionRow {
        id: get(row, "id")?,
        name: id(row, "name")?,
        version: get(row, "version")?,
        standing: standing(row)?,
        signature: get(row, "signature")?,
    })
}

/// Takes a vetted component in. One that is there already under this owner and name is answered as it is; a signature that it
/// lacked, or another one, is kept with it.
pub(super) fn add_version(connection: &Connection, new: &NewVersion, act: &Act) -> Judged<PluginVersion> {
    let owner = owner_text(new.owner.as_ref());
    let existing = collect(
        connection,
        "SELECT id, name, version, standing, signature FROM plugin_versions WHERE owner = ?1 AND digest = ?2 AND name = ?3",
        params![owner, new.digest.0.as_slice(), new.name.as_str()],
        version_row,
    )?;
    let signature = new.signature.as_ref().map(PluginSignature::to_json);
    let line = |what, was: Option<String>, became: String| Line {
        what,
        tenant: new.owner.as_ref(),
        route: None,
        plugin: Some(&new.name),
        digest: Some(new.digest),
        was,
        became: Some(became),
    };
    if let Some(existing) = existing.first() {
        if signature.is_some() && signature != existing.signature && !act.dry_run {
            connection
                .prepare_cached("UPDATE plugin_versions SET signature = ?2 WHERE id = ?1")?
                .execute(params![existing.id, signature])?;
            append(
                connection,
                act,
                &line("signed", existing.signature.clone(), signature.unwrap_or_default()),
            )?;
        }
        if new.published && existing.standing == Standing::Vetted && !act.dry_run {
            set_standing(connection, existing.id, Standing::Published)?;
            append(
                connection,
                act,
                &line("published", Some("vetted".to_owned()), "published".to_owned()),
            )?;
        }
        return one_version(connection, existing.id).map(Ok);
    }
    let count = |condition: &str| -> Result<usize, Fault> {
        let sql = format!("SELECT count(*) FROM plugin_versions WHERE owner = ?1 AND {condition}");
        let count: i64 = connection.query_row(&sql, [owner], |row| row.get(0))?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    };
    // What the operator's own file names is the operator's business.
    if !new.published {
        for (condition, count_max) in [
            ("1", limits::PLUGIN_VERSIONS_MAX),
            ("standing = 0", limits::PLUGIN_VERSIONS_VETTED_MAX),
        ] {
            if count(condition)? >= count_max {
                return Ok(Err(Refused::TooMany { count_max }));
            }
        }
    }
    let standing = if new.published {
        Standing::Published
    } else {
        Standing::Vetted
    };
    if act.dry_run {
        return Ok(Ok(PluginVersion {
            digest: new.digest,
            owner: new.owner.clone(),
            name: new.name.clone(),
            version: new.version.clone(),
            publisher: new.publisher.clone(),
            standing,
            component_bytes: new.bytes.len() as u64,
            manifest: serde_json::from_str(&new.manifest_json).unwrap_or_default(),
            report: serde_json::from_str(&new.report_json).unwrap_or_default(),
            signature: new.signature.as_ref().map(signature_view),
            added_at: act.at.to_string(),
            added_by: act.actor.clone(),
            bound: Vec::new(),
        }));
    }
    connection
        .prepare_cached("INSERT INTO components (digest, bytes) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING")?
        .execute(params![new.digest.0.as_slice(), &*new.bytes])?;
    connection
        .prepare_cached(
            "INSERT INTO plugin_versions (owner, digest, name, version, publisher, standing, manifest, report, signature, added_at, \
             added_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            owner,
            new.digest.0.as_slice(),
            new.name.as_str(),
            new.version,
            new.publisher,
            standing_code(standing),
            new.manifest_json,
            new.report_json,
            signature,
            act.at.0,
            act.actor,
        ])?;
    let row = connection.last_insert_rowid();
    append(connection, act, &line("added", None, standing.to_string()))?;
    one_version(connection, row).map(Ok)
}

fn signature_view(signature: &PluginSignature) -> SignatureView {
    SignatureView {
        publisher: signature.publisher.clone(),
        key_id: signature.key_id.clone(),
    }
}

const VERSIONS: &str =
    "SELECT v.*, length(c.bytes) AS component_bytes FROM plugin_versions v JOIN components c ON c.digest = v.digest";

fn version(row: &Row<'_>) -> Result<PluginVersion, Fault> {
    let signature = get::<Option<String>>(row, "signature")?
        .map(|text| PluginSignature::from_json(text.as_bytes()))
        .transpose()
        .map_err(|error| Fault::damaged("signature", error))?;
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
        signature: signature.as_ref().map(signature_view),
        added_at: rows::millis(row, "added_at")?.to_string(),
        added_by: get(row, "added_by")?,
        bound: Vec::new(),
    })
}

fn one_version(connection: &Connection, row: i64) -> Result<PluginVersion, Fault> {
    let found = collect(connection, &format!("{VERSIONS} WHERE v.id = ?1"), [row], version)?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Fault::damaged("plugin version", format_args!("{row} does not exist")))
}

pub(super) fn versions(connection: &Connection, filter: &VersionFilter) -> Result<Vec<PluginVersion>, Fault> {
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
    let bindings = bindings(connection, filter.tenant.as_ref())?;
    for version in &mut found {
        version.bound = bindings
            .iter()
            .filter(|bound| {
                bound.binding.plugin == version.name
                    && version.owner.as_ref().is_none_or(|owner| *owner == bound.tenant)
            })
            .flat_map(|bound| stages(bound, version.digest))
            .collect();
    }
    Ok(found)
}

/// What a version is to a route: nothing, or one or two of active, canary, shadow.
fn stages(bound: &BoundRoute, digest: PluginDigest) -> Vec<BoundView> {
    let binding = &bound.binding;
    [
        ("active", Some(binding.active)),
        ("canary", binding.canary.map(|canary| canary.digest)),
        ("shadow", binding.shadow),
    ]
    .into_iter()
    .filter(|(_, found)| *found == Some(digest))
    .map(|(stage, _)| BoundView {
        tenant: bound.tenant.clone(),
        route: bound.route.clone(),
        stage: stage.to_owned(),
    })
    .collect()
}

/// The bytes of a component.
pub(super) fn component(connection: &Connection, digest: PluginDigest) -> Result<Vec<u8>, Fault> {
    connection
        .prepare_cached("SELECT bytes FROM components WHERE digest = ?1")?
        .query_row([digest.0.as_slice()], |row| row.get(0))
        .optional()?
        .ok_or_else(|| Fault::NotFound(format!("the component {digest}")))
}

fn set_standing(connection: &Connection, row: i64, standing: Standing) -> Result<(), Fault> {
    connection
        .prepare_cached("UPDATE plugin_versions SET standing = ?2 WHERE id = ?1")?
        .execute(params![row, standing_code(standing)])?;
    Ok(())
}

fn rows_of(connection: &Connection, key: &VersionKey) -> Result<Vec<VersionRow>, Fault> {
    let found = collect(
        connection,
        "SELECT id, name, version, standing, signature FROM plugin_versions WHERE owner = ?1 AND digest = ?2 ORDER BY id",
        params![owner_text(key.owner.as_ref()), key.digest.0.as_slice()],
        version_row,
    )?;
    if found.is_empty() {
        return Err(Fault::NotFound(format!("the plugin version {}", key.digest)));
    }
    Ok(found)
}

/// Publishes or retires a version, under all names that it has.
pub(super) fn step(connection: &Connection, request: &StepRequest) -> Judged<PluginVersion> {
    let StepRequest {
        version: key,
        step,
        act,
    } = request;
    let rows = rows_of(connection, key)?;
    let mut after = Standing::Vetted;
    for row in &rows {
        after = granted!(row.standing.next(*step));
        match after {
            Standing::Published => granted!(require_free(connection, key, row)?),
            Standing::Retired => granted!(require_unbound(connection, key)?),
            Standing::Vetted => {}
        }
    }
    if act.dry_run {
        let mut view = one_version(connection, rows[0].id)?;
        view.standing = after;
        return Ok(Ok(view));
    }
    for row in &rows {
        set_standing(connection, row.id, after)?;
        let line = Line {
            what: if after == Standing::Published {
                "published"
            } else {
                "retired"
            },
            tenant: key.owner.as_ref(),
            route: None,
            plugin: Some(&row.name),
            digest: Some(key.digest),
            was: Some(row.standing.to_string()),
            became: Some(after.to_string()),
        };
        append(connection, act, &line)?;
    }
    one_version(connection, rows[0].id).map(Ok)
}

/// A name and version mean one digest for ever.
fn require_free(connection: &Connection, key: &VersionKey, row: &VersionRow) -> Judged<()> {
    let other = connection
        .prepare_cached(
            "SELECT digest FROM plugin_versions WHERE owner = ?1 AND name = ?2 AND version = ?3 AND standing <> 0 AND digest <> ?4",
        )?
        .query_row(
            params![owner_text(key.owner.as_ref()), row.name.as_str(), row.version, key.digest.0.as_slice()],
            |row| Ok(Digest(row.get::<_, [u8; 32]>(0)?)),
        )
        .optional()?;
    Ok(match other {
        None => Ok(()),
        Some(digest) => Err(Refused::VersionTaken {
            name: row.name.clone(),
            version: row.version.clone(),
            digest,
        }),
    })
}

fn require_unbound(connection: &Connection, key: &VersionKey) -> Judged<()> {
    let routes: Vec<String> = bindings(connection, key.owner.as_ref())?
        .iter()
        .filter(|bound| bound.binding.digests().any(|digest| digest == key.digest))
        .map(|bound| format!("{}/{}", bound.tenant, bound.route))
        .collect();
    Ok(if routes.is_empty() {
        Ok(())
    } else {
        Err(Refused::InUse { routes })
    })
}

/// A version that a tenant may bind under this name: its own before the operator's, a published one before others. Without one of
/// this name, one of another, so that the refusal can name it.
fn bindable(
    connection: &Connection,
    tenant: &TenantName,
    plugin: &PluginName,
    digest: PluginDigest,
) -> Result<Option<VersionRow>, Fault> {
    let found = collect(
        connection,
        "SELECT id, name, version, standing, signature FROM plugin_versions WHERE digest = ?1 AND owner IN ('', ?2) \
         ORDER BY name = ?3 DESC, standing = 1 DESC, owner DESC LIMIT 1",
        params![digest.0.as_slice(), tenant.as_str(), plugin.as_str()],
        version_row,
    )?;
    Ok(found.into_iter().next())
}

// Bindings.

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

fn binding_of(connection: &Connection, tenant: &TenantName, route: &RouteName) -> Result<Option<Binding>, Fault> {
    let found = collect(
        connection,
        "SELECT * FROM plugin_bindings WHERE tenant = ?1 AND route = ?2",
        params![tenant.as_str(), route.as_str()],
        binding,
    )?;
    Ok(found.into_iter().next())
}

pub(super) fn bindings(connection: &Connection, tenant: Option<&TenantName>) -> Result<Vec<BoundRoute>, Fault> {
    collect(
        connection,
        "SELECT * FROM plugin_bindings WHERE ?1 IS NULL OR tenant = ?1 ORDER BY tenant, route",
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

/// The swap: one statement, so that whoever reads sees one binding or the other.
fn write_binding(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    binding: &Binding,
    act: &Act,
) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO plugin_bindings (tenant, route, plugin, active, canary, share, shadow, previous, by_hand, \
             changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            tenant.as_str(),
            route.as_str(),
            binding.plugin.as_str(),
            binding.active.0.as_slice(),
            binding.canary.map(|canary| canary.digest.0.to_vec()),
            binding.canary.map(|canary| canary.share.as_per_mille()),
            binding.shadow.map(|shadow| shadow.0.to_vec()),
            to_json(&binding.previous)?,
            binding.by_hand,
            act.at.0,
        ])?;
    Ok(())
}

pub(super) fn change(connection: &Connection, request: &ChangeRequest) -> Judged<BindingChange> {
    let ChangeRequest {
        tenant,
        route,
        change,
        gate,
        act,
    } = request;
    let before = binding_of(connection, tenant, route)?
        .ok_or_else(|| Fault::NotFound(format!("the route `{route}` of `{tenant}`")))?;
    let after = granted!(before.after(change));
    let mut warnings = Vec::new();
    if let Some(brought) = change.brings() {
        let evidence = granted!(may_bring(connection, tenant, route, &before, change, brought, gate)?);
        warnings.extend(evidence.warning(change));
    }
    // The way back may lead to a version that was retired meanwhile.
    if after.active != before.active && change.brings().is_none() {
        let version = bindable(connection, tenant, &after.plugin, after.active)?;
        let standing = version.map_or(Standing::Retired, |version| version.standing);
        granted!(after.admits(&Bindable {
            name: &after.plugin,
            standing,
        }));
    }
    let report = BindingChange {
        dry_run: act.dry_run,
        tenant: tenant.clone(),
        route: route.clone(),
        what: change.name().to_owned(),
        before: Some(before),
        after: Some(after),
        warnings,
    };
    record_change(connection, &report, act)?;
    Ok(Ok(report))
}

/// Whether a version may come to a route, by the rules and by what the tenant asks of it; with what is known of it.
fn may_bring(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    binding: &Binding,
    change: &Change,
    digest: PluginDigest,
    gate: &PromotionGate,
) -> Judged<Evidence> {
    let version = bindable(connection, tenant, &binding.plugin, digest)?
        .ok_or_else(|| Fault::NotFound(format!("the plugin version {digest}")))?;
    granted!(binding.admits(&Bindable {
        name: &version.name,
        standing: version.standing,
    }));
    let evidence = Evidence {
        unsigned: unsigned(connection, tenant, &version, digest)?,
        trial: trial(connection, tenant, route, binding.active, digest)?,
        shadow: tally(connection, tenant, route, binding.active, digest)?.unwrap_or_default(),
    };
    let unmet = gate.unmet(change, &evidence);
    Ok(if unmet.is_empty() {
        Ok(evidence)
    } else {
        Err(Refused::Unmet { unmet })
    })
}

/// Writes what a change made, and its line; a dry run ends here.
fn record_change(connection: &Connection, report: &BindingChange, act: &Act) -> Result<(), Fault> {
    let (Some(after), false) = (&report.after, report.dry_run) else {
        return Ok(());
    };
    write_binding(connection, &report.tenant, &report.route, after, act)?;
    let line = Line {
        what: &report.what,
        tenant: Some(&report.tenant),
        route: Some(&report.route),
        plugin: Some(&after.plugin),
        digest: Some(match report.what.as_str() {
            "shadow" => after.shadow.unwrap_or(after.active),
            "canary" => after.canary.map_or(after.active, |canary| canary.digest),
            _ => after.active,
        }),
        was: report.before.as_ref().map(ToString::to_string),
        became: Some(after.to_string()),
    };
    append(connection, act, &line)
}

/// Lets routes that nobody bound by hand run what the configuration names. A route that names another plugin now starts anew: what
/// was bound to it is of no use. Answers the routes that were left as they were because their version is retired.
pub(super) fn follow(
    connection: &Connection,
    routes: &[ConfiguredRoute],
    act: &Act,
) -> Result<Vec<ConfiguredRoute>, Fault> {
    let mut left = Vec::new();
    for configured in routes {
        let ConfiguredRoute {
            tenant,
            route,
            plugin,
            digest,
        } = configured;
        let before = binding_of(connection, tenant, route)?;
        let after = match &before {
            Some(before) if before.plugin == *plugin && (before.by_hand || before.active == *digest) => continue,
            Some(before) if before.plugin == *plugin => {
                let by_hand = Binding {
                    by_hand: true,
                    ..before.clone()
                };
                match by_hand.after(&Change::FollowFile(*digest)) {
                    Ok(after) => after,
                    Err(_) => continue,
                }
            }
            Some(_) | None => Binding::new(plugin.clone(), *digest),
        };
        let standing = bindable(connection, tenant, plugin, *digest)?.map(|version| version.standing);
        if standing != Some(Standing::Published) {
            left.push(configured.clone());
            continue;
        }
        let report = BindingChange {
            dry_run: false,
            tenant: tenant.clone(),
            route: route.clone(),
            what: "follows the file".to_owned(),
            before,
            after: Some(after),
            warnings: Vec::new(),
        };
        record_change(connection, &report, act)?;
    }
    Ok(left)
}

/// Keeps under which namespaces routes record from now on, and answers those that did so under another.
pub(super) fn follow_namespaces(
    connection: &Connection,
    routes: &[RouteNamespace],
    act: &Act,
) -> Result<Vec<NamespaceChange>, Fault> {
    let mut moved = Vec::new();
    for RouteNamespace {
        tenant,
        route,
        namespace,
    } in routes
    {
        let known = collect(
            connection,
            "SELECT namespace FROM route_namespaces WHERE tenant = ?1 AND route = ?2",
            params![tenant.as_str(), route.as_str()],
            |row| id::<Namespace>(row, "namespace"),
        )?;
        let before = known.into_iter().next();
        if before.as_ref() == Some(namespace) {
            continue;
        }
        if !act.dry_run {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO route_namespaces (tenant, route, namespace, since) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![tenant.as_str(), route.as_str(), namespace.as_str(), act.at.0])?;
        }
        let Some(before) = before else { continue };
        if !act.dry_run {
            let line = Line {
                what: "operations moved",
                tenant: Some(tenant),
                route: Some(route),
                plugin: None,
                digest: None,
                was: Some(before.to_string()),
                became: Some(namespace.to_string()),
            };
            append(connection, act, &line)?;
        }
        moved.push(NamespaceChange {
            tenant: tenant.clone(),
            route: route.clone(),
            before,
            after: namespace.clone(),
        });
    }
    Ok(moved)
}

// Routes.

pub(super) fn api_routes(connection: &Connection) -> Result<Vec<ApiRoute>, Fault> {
    collect(
        connection,
        "SELECT * FROM api_routes ORDER BY tenant, route",
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

fn definition_of(connection: &Connection, tenant: &TenantName, route: &RouteName) -> Result<Option<String>, Fault> {
    Ok(connection
        .prepare_cached("SELECT definition FROM api_routes WHERE tenant = ?1 AND route = ?2")?
        .query_row(params![tenant.as_str(), route.as_str()], |row| row.get(0))
        .optional()?)
}

/// Sets a route and, if it has none of this plugin yet, its binding, in one commit.
pub(super) fn set_route(connection: &Connection, request: &SetRoute) -> Judged<BindingChange> {
    let SetRoute {
        tenant,
        route,
        definition,
        plugin,
        namespace,
        digest,
        gate,
        act,
    } = request;
    let count: i64 = connection.query_row(
        "SELECT count(*) FROM api_routes WHERE tenant = ?1 AND route <> ?2",
        params![tenant.as_str(), route.as_str()],
        |row| row.get(0),
    )?;
    if usize::try_from(count).unwrap_or(usize::MAX) >= limits::API_ROUTES_MAX {
        return Ok(Err(Refused::TooMany {
            count_max: limits::API_ROUTES_MAX,
        }));
    }
    let before = binding_of(connection, tenant, route)?;
    let after = match (plugin, &before, digest) {
        (None, _, _) => None,
        (Some(plugin), Some(before), None) if before.plugin == *plugin => Some(before.clone()),
        (Some(plugin), Some(before), Some(digest)) if before.plugin == *plugin && before.active == *digest => {
            Some(before.clone())
        }
        (Some(plugin), Some(before), Some(digest)) if before.plugin == *plugin => {
            let promote = Change::Promote(*digest);
            granted!(may_bring(connection, tenant, route, before, &promote, *digest, gate)?);
            Some(granted!(before.after(&promote)))
        }
        (Some(plugin), _, digest) => {
            let digest = match digest {
                Some(digest) => *digest,
                None => newest_published(connection, tenant, plugin)?
                    .ok_or_else(|| Fault::NotFound(format!("a published version of the plugin `{plugin}`")))?,
            };
            let first = Binding {
                by_hand: true,
                ..Binding::new(plugin.clone(), digest)
            };
            // There is nothing yet that a trial or a shadow could be held against: only the signature is asked for.
            let signed_only = PromotionGate {
                require_signed: gate.require_signed,
                ..PromotionGate::default()
            };
            let promote = Change::Promote(digest);
            granted!(may_bring(
                connection,
                tenant,
                route,
                &first,
                &promote,
                digest,
                &signed_only
            )?);
            Some(first)
        }
    };
    let named = RouteNamespace {
        tenant: tenant.clone(),
        route: route.clone(),
        namespace: namespace.clone(),
    };
    let moved = follow_namespaces(connection, &[named], act)?;
    let report = BindingChange {
        dry_run: act.dry_run,
        tenant: tenant.clone(),
        route: route.clone(),
        what: "route set".to_owned(),
        before: before.clone(),
        after: after.clone(),
        warnings: moved.iter().map(NamespaceChange::warning).collect(),
    };
    if act.dry_run {
        return Ok(Ok(report));
    }
    let was = definition_of(connection, tenant, route)?;
    let became = to_json(definition)?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO api_routes (tenant, route, definition, changed_at, changed_by) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![tenant.as_str(), route.as_str(), became, act.at.0, act.actor])?;
    match &after {
        Some(after) if before.as_ref() != Some(after) => write_binding(connection, tenant, route, after, act)?,
        Some(_) => {}
        None => {
            connection
                .prepare_cached("DELETE FROM plugin_bindings WHERE tenant = ?1 AND route = ?2")?
                .execute(params![tenant.as_str(), route.as_str()])?;
        }
    }
    let line = Line {
        what: "route set",
        tenant: Some(tenant),
        route: Some(route),
        plugin: plugin.as_ref(),
        digest: after.as_ref().map(|after| after.active),
        was,
        became: Some(became),
    };
    append(connection, act, &line)?;
    Ok(Ok(report))
}

/// Named once, when a route is set without a digest; what is bound is the digest.
fn newest_published(
    connection: &Connection,
    tenant: &TenantName,
    plugin: &PluginName,
) -> Result<Option<PluginDigest>, Fault> {
    Ok(connection
        .prepare_cached(
            "SELECT digest FROM plugin_versions WHERE owner IN ('', ?1) AND name = ?2 AND standing = 1 \
             ORDER BY owner DESC, id DESC LIMIT 1",
        )?
        .query_row(params![tenant.as_str(), plugin.as_str()], |row| {
            Ok(Digest(row.get::<_, [u8; 32]>(0)?))
        })
        .optional()?)
}

/// Removes a route that was set by API. `configured` is what the file's route of the same name runs, when there is one: it comes
/// back.
pub(super) fn remove_route(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    configured: Option<&ConfiguredRoute>,
    act: &Act,
) -> Judged<BindingChange> {
    let was = definition_of(connection, tenant, route)?
        .ok_or_else(|| Fault::NotFound(format!("a route `{route}` of `{tenant}` that was set by API")))?;
    let before = binding_of(connection, tenant, route)?;
    let after = configured.map(|configured| Binding::new(configured.plugin.clone(), configured.digest));
    let report = BindingChange {
        dry_run: act.dry_run,
        tenant: tenant.clone(),
        route: route.clone(),
        what: "route removed".to_owned(),
        before: before.clone(),
        after: after.clone(),
        warnings: Vec::new(),
    };
    if act.dry_run {
        return Ok(Ok(report));
    }
    for table in ["api_routes", "plugin_bindings"] {
        connection
            .prepare_cached(&format!("DELETE FROM {table} WHERE tenant = ?1 AND route = ?2"))?
            .execute(params![tenant.as_str(), route.as_str()])?;
    }
    if let Some(after) = &after {
        write_binding(connection, tenant, route, after, act)?;
    }
    let line = Line {
        what: "route removed",
        tenant: Some(tenant),
        route: Some(route),
        plugin: before.as_ref().map(|binding| &binding.plugin),
        digest: before.as_ref().map(|binding| binding.active),
        was: Some(was),
        became: after.as_ref().map(ToString::to_string),
    };
    append(connection, act, &line)?;
    Ok(Ok(report))
}

// Publishers.

pub(super) fn publisher_keys(
    connection: &Connection,
    tenant: Option<&TenantName>,
) -> Result<Vec<PublisherKeyView>, Fault> {
    collect(
        connection,
        "SELECT * FROM publisher_keys WHERE ?1 IS NULL OR tenant = ?1 ORDER BY tenant, publisher, key_id",
        params![tenant.map(TenantName::as_str)],
        |row| {
            let key = PublicKey::from_bytes(&rows::bytes(row, "public_key")?)
                .map_err(|error| Fault::damaged("public_key", error))?;
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
        },
    )
}

/// Answers whether the key is new. The same key again is no change; another one under a known id is refused as damage would be:
/// an id means one key for ever.
pub(super) fn register_key(connection: &Connection, new: &NewPublisherKey) -> Result<KeyRegistered, Fault> {
    let NewPublisherKey {
        tenant,
        publisher,
        key_id,
        public_key,
        act,
    } = new;
    let known = publisher_keys(connection, Some(tenant))?;
    if let Some(existing) = known
        .iter()
        .find(|key| key.publisher == *publisher && key.key_id == *key_id)
    {
        return Ok(if existing.public_key != public_key.to_text() {
            KeyRegistered::OtherKey
        } else if existing.revoked_at.is_some() {
            KeyRegistered::Revoked
        } else {
            KeyRegistered::Known
        });
    }
    if known.len() >= limits::PUBLISHER_KEYS_MAX {
        return Ok(KeyRegistered::TooMany);
    }
    if !act.dry_run {
        connection
            .prepare_cached(
                "INSERT INTO publisher_keys (tenant, publisher, key_id, public_key, registered_at, registered_by) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                tenant.as_str(),
                publisher.as_str(),
                key_id.as_str(),
                public_key.as_bytes().as_slice(),
                act.at.0,
                act.actor
            ])?;
        append(
            connection,
            act,
            &key_line("key registered", tenant, format!("{publisher}/{key_id}")),
        )?;
    }
    Ok(KeyRegistered::New)
}

fn key_line<'a>(what: &'a str, tenant: &'a TenantName, key: String) -> Line<'a> {
    Line {
        what,
        tenant: Some(tenant),
        route: None,
        plugin: None,
        digest: None,
        was: None,
        became: Some(key),
    }
}

/// Answers whether the key was not revoked before.
pub(super) fn revoke_key(connection: &Connection, request: &RevokePublisherKey) -> Result<bool, Fault> {
    let RevokePublisherKey {
        tenant,
        publisher,
        key_id,
        act,
    } = request;
    let known = publisher_keys(connection, Some(tenant))?;
    let key = known
        .iter()
        .find(|key| key.publisher == *publisher && key.key_id == *key_id)
        .ok_or_else(|| Fault::NotFound(format!("the key `{key_id}` of the publisher `{publisher}`")))?;
    let is_new = key.revoked_at.is_none();
    if is_new && !act.dry_run {
        connection
            .prepare_cached(
                "UPDATE publisher_keys SET revoked_at = ?4, revoked_by = ?5 WHERE tenant = ?1 AND publisher = ?2 AND key_id = ?3",
            )?
            .execute(params![tenant.as_str(), publisher.as_str(), key_id.as_str(), act.at.0, act.actor])?;
        append(
            connection,
            act,
            &key_line("key revoked", tenant, format!("{publisher}/{key_id}")),
        )?;
    }
    Ok(is_new)
}

/// Why a version's signature does not count for a tenant; `None` when it does.
fn unsigned(
    connection: &Connection,
    tenant: &TenantName,
    version: &VersionRow,
    digest: PluginDigest,
) -> Result<Option<String>, Fault> {
    let Some(text) = &version.signature else {
        return Ok(Some("it carries no signature".to_owned()));
    };
    let signature = PluginSignature::from_json(text.as_bytes()).map_err(|error| Fault::damaged("signature", error))?;
    let keys = publisher_keys(connection, Some(tenant))?;
    let named = keys
        .iter()
        .find(|key| key.publisher == signature.publisher && key.key_id == signature.key_id);
    Ok(match named {
        None => Some(format!(
            "its signature names the key `{}` of `{}`, which the tenant has not registered",
            signature.key_id, signature.publisher
        )),
        Some(key) if key.revoked_at.is_some() => Some(format!(
            "the key `{}` of `{}`, which signed it, is revoked",
            key.key_id, key.publisher
        )),
        Some(key) => {
            let public = PublicKey::from_text(&key.public_key).map_err(|error| Fault::damaged("public_key", error))?;
            signature.verify(&public, digest).err().map(|error| error.to_string())
        }
    })
}

// What is known before a version advances.

pub(super) fn record_trial(connection: &Connection, trial: &TrialRecord) -> Result<(), Fault> {
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

fn trial(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    active: PluginDigest,
    candidate: PluginDigest,
) -> Result<Option<TrialResult>, Fault> {
    let found = collect(
        connection,
        "SELECT runs, differences, unreadable FROM plugin_trials \
         WHERE tenant = ?1 AND route = ?2 AND candidate = ?3 AND active = ?4 \
         ORDER BY runs DESC, id DESC LIMIT 1",
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
    )?;
    Ok(found.into_iter().next())
}

fn tally(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    active: PluginDigest,
    shadow: PluginDigest,
) -> Result<Option<ShadowTally>, Fault> {
    let found = collect(
        connection,
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
    )?;
    Ok(found.into_iter().next())
}

pub(super) fn record_shadow(connection: &Connection, record: &ShadowRecord) -> Result<(), Fault> {
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
             ON CONFLICT (tenant, route, active, shadow) DO UPDATE SET runs = runs + 1, differences = differences + excluded.differences",
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

pub(super) fn shadow_report(connection: &Connection, filter: &ShadowFilter) -> Result<ShadowReport, Fault> {
    let ShadowFilter {
        tenant,
        route,
        differing_only,
        rows_max,
    } = filter;
    let binding = binding_of(connection, tenant, route)?;
    let tally = match binding
        .as_ref()
        .and_then(|binding| Some((binding.active, binding.shadow?)))
    {
        Some((active, shadow)) => tally(connection, tenant, route, active, shadow)?,
        None => None,
    };
    let runs = collect(
        connection,
        "SELECT * FROM shadow_runs WHERE tenant = ?1 AND route = ?2 AND (?3 = 0 OR differs = 1) ORDER BY id DESC LIMIT ?4",
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
