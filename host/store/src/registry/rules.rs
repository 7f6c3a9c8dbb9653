//! The registry's rules: what each request makes of the rows that it finds, what is refused, and which line of history follows. Every
//! backend applies them inside of the transaction of the request; a request that is tried dry goes the same way and stops before it
//! writes. `tollgate_core::registry` says what a version, a binding and a gate mean.

use tollgate_core::ids::{PluginDigest, PluginName, RouteName, TenantName};
use tollgate_core::limits;
use tollgate_core::registry::{Bindable, Binding, Change, Evidence, PromotionGate, Refused, Standing};
use tollgate_core::signature::{PluginSignature, PublicKey};

use super::rows::{Missing, RegistryRows, VersionRow};
use super::{
    Act, BindingChange, BoundRoute, BoundView, ChangeRequest, ConfiguredRoute, KeyRegistered, Line, NamespaceChange,
    NewPublisherKey, NewVersion, PluginVersion, RevokePublisherKey, RouteNamespace, SetRoute, SignatureView,
    StepRequest, VersionKey,
};

/// What a request came to, or why it is refused.
type Judged<T, E> = Result<Result<T, Refused>, E>;

/// Returns the refusal at once, and goes on with what was not refused.
macro_rules! granted {
    ($judged:expr) => {
        match $judged {
            Ok(value) => value,
            Err(refused) => return Ok(Err(refused)),
        }
    };
}

// Versions.

/// Keeps a vetted component. One that is there already under this owner and name is returned as it is; a signature that it
/// lacked, or another one, is kept with it.
pub(crate) fn add_version<R: RegistryRows + ?Sized>(
    rows: &R,
    new: &NewVersion,
    act: &Act,
) -> Judged<PluginVersion, R::Error> {
    let key = VersionKey {
        owner: new.owner.clone(),
        digest: new.digest,
    };
    let line = |what, was: Option<String>, became: String| Line {
        what,
        tenant: new.owner.as_ref(),
        route: None,
        plugin: Some(&new.name),
        digest: Some(new.digest),
        was,
        became: Some(became),
    };
    let known = rows.versions_of(&key)?.into_iter().find(|row| row.name == new.name);
    if let Some(known) = known {
        if let Some(signature) = &new.signature
            && known.signature.as_ref() != Some(signature)
            && !act.dry_run
        {
            rows.set_signature(known.id, signature)?;
            let was = known.signature.as_ref().map(PluginSignature::to_json);
            rows.append(act, &line("signed", was, signature.to_json()))?;
        }
        if new.published && known.standing == Standing::Vetted && !act.dry_run {
            rows.set_standing(known.id, Standing::Published)?;
            let was = Some(Standing::Vetted.to_string());
            rows.append(act, &line("published", was, Standing::Published.to_string()))?;
        }
        return rows.shown(known.id).map(Ok);
    }
    // What the operator's own file names is the operator's business.
    if !new.published {
        for (standing, count_max) in [
            (None, limits::PLUGIN_VERSIONS_MAX),
            (Some(Standing::Vetted), limits::PLUGIN_VERSIONS_VETTED_MAX),
        ] {
            if rows.count_versions(new.owner.as_ref(), standing)? >= count_max {
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
    let version = rows.insert_version(new, standing, act)?;
    rows.append(act, &line("added", None, standing.to_string()))?;
    rows.shown(version).map(Ok)
}

/// Whose signature it is, without the signature.
pub(crate) fn signature_view(signature: &PluginSignature) -> SignatureView {
    SignatureView {
        publisher: signature.publisher.clone(),
        key_id: signature.key_id.clone(),
    }
}

/// Says of each version what it is to which route.
pub(crate) fn bound_to(versions: &mut [PluginVersion], bindings: &[BoundRoute]) {
    for version in versions {
        let may_be_its = |bound: &&BoundRoute| {
            bound.binding.plugin == version.name && version.owner.as_ref().is_none_or(|owner| *owner == bound.tenant)
        };
        version.bound = bindings
            .iter()
            .filter(may_be_its)
            .flat_map(|bound| stages(bound, version.digest))
            .collect();
    }
}

/// What a version is to a route: nothing, or one or more of active, canary, shadow.
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

/// Publishes or retires a version, under all names that it has.
pub(crate) fn step<R: RegistryRows + ?Sized>(rows: &R, request: &StepRequest) -> Judged<PluginVersion, R::Error> {
    let StepRequest {
        version: key,
        step,
        act,
    } = request;
    let versions = rows.versions_of(key)?;
    let Some(first) = versions.first().map(|version| version.id) else {
        return Err(Missing(format!("the plugin version {}", key.digest)).into());
    };
    let mut after = Standing::Vetted;
    for version in &versions {
        after = granted!(version.standing.next(*step));
        match after {
            Standing::Published => granted!(require_free(rows, key, version)?),
            Standing::Retired => granted!(require_unbound(rows, key)?),
            Standing::Vetted => {}
        }
    }
    if act.dry_run {
        let mut view = rows.shown(first)?;
        view.standing = after;
        return Ok(Ok(view));
    }
    for version in &versions {
        rows.set_standing(version.id, after)?;
        let what = after.to_string();
        let line = Line {
            what: &what,
            tenant: key.owner.as_ref(),
            route: None,
            plugin: Some(&version.name),
            digest: Some(key.digest),
            was: Some(version.standing.to_string()),
            became: Some(what.clone()),
        };
        rows.append(act, &line)?;
    }
    rows.shown(first).map(Ok)
}

/// A name and version mean one digest for ever.
fn require_free<R: RegistryRows + ?Sized>(rows: &R, key: &VersionKey, row: &VersionRow) -> Judged<(), R::Error> {
    Ok(match rows.other_of_that_version(key, row)? {
        None => Ok(()),
        Some(digest) => Err(Refused::VersionTaken {
            name: row.name.clone(),
            version: row.version.clone(),
            digest,
        }),
    })
}

fn require_unbound<R: RegistryRows + ?Sized>(rows: &R, key: &VersionKey) -> Judged<(), R::Error> {
    let routes: Vec<String> = rows
        .bindings(key.owner.as_ref())?
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

// Bindings.

/// Changes what a route runs, if the rules and the tenant's gate let it.
pub(crate) fn change<R: RegistryRows + ?Sized>(rows: &R, request: &ChangeRequest) -> Judged<BindingChange, R::Error> {
    let ChangeRequest {
        tenant,
        route,
        change,
        gate,
        act,
    } = request;
    let before = rows
        .binding(tenant, route)?
        .ok_or_else(|| Missing(format!("the route `{route}` of `{tenant}`")))?;
    let after = granted!(before.after(change));
    let mut warnings = Vec::new();
    if let Some(brought) = change.brings() {
        let evidence = granted!(may_bring(rows, (tenant, route), &before, change, brought, gate)?);
        warnings.extend(evidence.warning(change));
    }
    // The way back may lead to a version that was retired meanwhile.
    if after.active != before.active && change.brings().is_none() {
        let version = rows.bindable(tenant, &after.plugin, after.active)?;
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
    record_change(rows, &report, act)?;
    Ok(Ok(report))
}

/// Whether a version may come to a route, by the rules and by what the tenant asks of it; with what is known of it.
fn may_bring<R: RegistryRows + ?Sized>(
    rows: &R,
    (tenant, route): (&TenantName, &RouteName),
    binding: &Binding,
    change: &Change,
    digest: PluginDigest,
    gate: &PromotionGate,
) -> Judged<Evidence, R::Error> {
    let version = rows
        .bindable(tenant, &binding.plugin, digest)?
        .ok_or_else(|| Missing(format!("the plugin version {digest}")))?;
    granted!(binding.admits(&Bindable {
        name: &version.name,
        standing: version.standing,
    }));
    let evidence = Evidence {
        unsigned: unsigned(rows, tenant, &version, digest)?,
        trial: rows.trial(tenant, route, binding.active, digest)?,
        shadow: rows.tally(tenant, route, binding.active, digest)?.unwrap_or_default(),
    };
    let unmet = gate.unmet(change, &evidence);
    Ok(if unmet.is_empty() {
        Ok(evidence)
    } else {
        Err(Refused::Unmet { unmet })
    })
}

/// Writes what a change made, and its line; a dry run ends here.
fn record_change<R: RegistryRows + ?Sized>(rows: &R, report: &BindingChange, act: &Act) -> Result<(), R::Error> {
    let (Some(after), false) = (&report.after, report.dry_run) else {
        return Ok(());
    };
    rows.put_binding(&report.tenant, &report.route, after, act.at)?;
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
    rows.append(act, &line)
}

/// Lets routes that nobody bound by hand run what the configuration names. A route that names another plugin now starts anew: what
/// was bound to it is of no use. Returns the routes that were left as they were because their version is retired.
pub(crate) fn follow<R: RegistryRows + ?Sized>(
    rows: &R,
    routes: &[ConfiguredRoute],
    act: &Act,
) -> Result<Vec<ConfiguredRoute>, R::Error> {
    let mut left = Vec::new();
    for configured in routes {
        let ConfiguredRoute {
            tenant,
            route,
            plugin,
            digest,
        } = configured;
        let before = rows.binding(tenant, route)?;
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
        let standing = rows.bindable(tenant, plugin, *digest)?.map(|version| version.standing);
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
        record_change(rows, &report, act)?;
    }
    Ok(left)
}

/// Keeps under which namespaces routes record from now on, and returns those that did so under another.
pub(crate) fn follow_namespaces<R: RegistryRows + ?Sized>(
    rows: &R,
    routes: &[RouteNamespace],
    act: &Act,
) -> Result<Vec<NamespaceChange>, R::Error> {
    let mut moved = Vec::new();
    for RouteNamespace {
        tenant,
        route,
        namespace,
    } in routes
    {
        let before = rows.namespace(tenant, route)?;
        if before.as_ref() == Some(namespace) {
            continue;
        }
        if !act.dry_run {
            rows.put_namespace(tenant, route, namespace, act.at)?;
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
            rows.append(act, &line)?;
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

/// Sets a route and, if it has none of this plugin yet, its binding.
pub(crate) fn set_route<R: RegistryRows + ?Sized>(rows: &R, request: &SetRoute) -> Judged<BindingChange, R::Error> {
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
    let count_max = limits::API_ROUTES_MAX;
    if rows.count_other_routes(tenant, route)? >= count_max {
        return Ok(Err(Refused::TooMany { count_max }));
    }
    let before = rows.binding(tenant, route)?;
    let after = match plugin {
        None => None,
        Some(plugin) => Some(granted!(first_or_next(
            rows,
            (tenant, route),
            plugin,
            before.as_ref(),
            *digest,
            gate
        )?)),
    };
    let named = RouteNamespace {
        tenant: tenant.clone(),
        route: route.clone(),
        namespace: namespace.clone(),
    };
    let moved = follow_namespaces(rows, &[named], act)?;
    let report = BindingChange {
        dry_run: act.dry_run,
        tenant: tenant.clone(),
        route: route.clone(),
        what: "route set".to_owned(),
        before,
        after,
        warnings: moved.iter().map(NamespaceChange::warning).collect(),
    };
    if act.dry_run {
        return Ok(Ok(report));
    }
    let was = rows.definition(tenant, route)?;
    let became = definition.to_string();
    rows.put_route(tenant, route, &became, act)?;
    match &report.after {
        Some(after) if report.before.as_ref() != Some(after) => rows.put_binding(tenant, route, after, act.at)?,
        Some(_) => {}
        None => rows.remove_binding(tenant, route)?,
    }
    let line = Line {
        what: "route set",
        tenant: Some(tenant),
        route: Some(route),
        plugin: plugin.as_ref(),
        digest: report.after.as_ref().map(|after| after.active),
        was,
        became: Some(became),
    };
    rows.append(act, &line)?;
    Ok(Ok(report))
}

/// What a route runs that is set to a plugin: what it runs already, the version that is asked for, or the newest that is published.
fn first_or_next<R: RegistryRows + ?Sized>(
    rows: &R,
    (tenant, route): (&TenantName, &RouteName),
    plugin: &PluginName,
    before: Option<&Binding>,
    digest: Option<PluginDigest>,
    gate: &PromotionGate,
) -> Judged<Binding, R::Error> {
    if let Some(before) = before.filter(|before| before.plugin == *plugin) {
        let Some(digest) = digest.filter(|digest| before.active != *digest) else {
            return Ok(Ok(before.clone()));
        };
        let promote = Change::Promote(digest);
        granted!(may_bring(rows, (tenant, route), before, &promote, digest, gate)?);
        return Ok(before.after(&promote));
    }
    // Named once, when a route is set without a digest; what is bound is the digest.
    let digest = match digest {
        Some(digest) => digest,
        None => rows
            .newest_published(tenant, plugin)?
            .ok_or_else(|| Missing(format!("a published version of the plugin `{plugin}`")))?,
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
        rows,
        (tenant, route),
        &first,
        &promote,
        digest,
        &signed_only
    )?);
    Ok(Ok(first))
}

/// Removes a route that was set by API. `configured` is what the file's route of the same name runs, when there is one: it comes
/// back.
pub(crate) fn remove_route<R: RegistryRows + ?Sized>(
    rows: &R,
    tenant: &TenantName,
    route: &RouteName,
    configured: Option<&ConfiguredRoute>,
    act: &Act,
) -> Judged<BindingChange, R::Error> {
    let was = rows
        .definition(tenant, route)?
        .ok_or_else(|| Missing(format!("a route `{route}` of `{tenant}` that was set by API")))?;
    let report = BindingChange {
        dry_run: act.dry_run,
        tenant: tenant.clone(),
        route: route.clone(),
        what: "route removed".to_owned(),
        before: rows.binding(tenant, route)?,
        after: configured.map(|configured| Binding::new(configured.plugin.clone(), configured.digest)),
        warnings: Vec::new(),
    };
    if act.dry_run {
        return Ok(Ok(report));
    }
    rows.remove_route(tenant, route)?;
    match &report.after {
        Some(after) => rows.put_binding(tenant, route, after, act.at)?,
        None => rows.remove_binding(tenant, route)?,
    }
    let before = report.before.as_ref();
    let line = Line {
        what: "route removed",
        tenant: Some(tenant),
        route: Some(route),
        plugin: before.map(|binding| &binding.plugin),
        digest: before.map(|binding| binding.active),
        was: Some(was),
        became: report.after.as_ref().map(ToString::to_string),
    };
    rows.append(act, &line)?;
    Ok(Ok(report))
}

// Publishers.

/// The same key again is no change; another one under a known id is refused: an id means one key for ever.
pub(crate) fn register_key<R: RegistryRows + ?Sized>(
    rows: &R,
    new: &NewPublisherKey,
) -> Result<KeyRegistered, R::Error> {
    let known = rows.publisher_keys(Some(&new.tenant))?;
    let same_id = known
        .iter()
        .find(|key| key.publisher == new.publisher && key.key_id == new.key_id);
    if let Some(existing) = same_id {
        return Ok(if existing.public_key != new.public_key.to_text() {
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
    if !new.act.dry_run {
        rows.insert_key(new)?;
        let key = format!("{}/{}", new.publisher, new.key_id);
        rows.append(&new.act, &key_line("key registered", &new.tenant, key))?;
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

/// Returns whether the key was not revoked before.
pub(crate) fn revoke_key<R: RegistryRows + ?Sized>(rows: &R, request: &RevokePublisherKey) -> Result<bool, R::Error> {
    let RevokePublisherKey {
        tenant,
        publisher,
        key_id,
        act,
    } = request;
    let known = rows.publisher_keys(Some(tenant))?;
    let key = known
        .iter()
        .find(|key| key.publisher == *publisher && key.key_id == *key_id)
        .ok_or_else(|| Missing(format!("the key `{key_id}` of the publisher `{publisher}`")))?;
    let is_new = key.revoked_at.is_none();
    if is_new && !act.dry_run {
        rows.set_key_revoked(request)?;
        rows.append(act, &key_line("key revoked", tenant, format!("{publisher}/{key_id}")))?;
    }
    Ok(is_new)
}

/// Why a version's signature does not count for a tenant; `None` when it does.
fn unsigned<R: RegistryRows + ?Sized>(
    rows: &R,
    tenant: &TenantName,
    version: &VersionRow,
    digest: PluginDigest,
) -> Result<Option<String>, R::Error> {
    let Some(signature) = &version.signature else {
        return Ok(Some("it carries no signature".to_owned()));
    };
    let keys = rows.publisher_keys(Some(tenant))?;
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
        Some(key) => match PublicKey::from_text(&key.public_key) {
            Ok(public) => signature.verify(&public, digest).err().map(|error| error.to_string()),
            Err(error) => Some(format!(
                "the key `{}` of `{}` cannot be read: {error}",
                key.key_id, key.publisher
            )),
        },
    })
}
