//! The registry's calls: plugins by third parties, what routes run, routes and publishers' keys.
//!
//! A plugin is named by its digest (`sha256:…`), by the first digits of it, or by `name@version`; what is changed is always the
//! digest that this means at that moment, and the answer says which.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Json, Router};
use http_body_util::BodyExt as _;
use tollgate_api::plugins::{
    ActBody, BindingChange, ChangeBody, PluginPath, PluginQuery, PluginVersion, PublisherBody, PublisherPath,
    PublisherRegistered, PublisherRevoked, RouteBody, RouteLimits, RoutePath, RouteView, TenantPath,
};
use tollgate_api::{Call, FieldProblem, SIGNATURE_HEADER, calls};
use tollgate_core::access::{Caller, Permission};
use tollgate_core::ids::{PluginDigest, TenantName};
use tollgate_core::registry::{Canary, Change, Refused, Share, Step};
use tollgate_core::signature::{DOCUMENT_BYTES_MAX, PluginSignature, PublicKey};
use tollgate_core::{limits, mask};
use tollgate_store::registry::{
    Act, HistoryFilter, KeyRegistered, NewPublisherKey, RevokePublisherKey, ShadowFilter, StepRequest, VersionFilter,
    VersionKey,
};
use tollgate_store::{Control, Views};

use super::access::actor;
use super::asked::{Answered, Asked, Heading, Routes as _};
use super::{Operator, Refusal};
use crate::clock;
use crate::registry::{self, LiveRoute, Upload};

/// The most time from the head of an upload to the end of its body.
const UPLOAD_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(120);
/// The fewest digits that a shortened digest has; fewer could be a plugin's name.
const DIGEST_DIGITS_MIN: usize = 8;

impl From<registry::Error> for Refusal {
    fn from(error: registry::Error) -> Self {
        use registry::Error;
        let message = error.to_string();
        match error {
            Error::Store(error) => error.into(),
            Error::Refused(refused) => refused.into(),
            Error::Vetting(refusal) => Self::bad(message).with_code(refusal.code()),
            Error::Signature(_) => Self::bad(message).with_code("signature"),
            Error::Definition(problems) => {
                let problems: Vec<_> = problems
                    .as_data()
                    .iter()
                    .map(|problem| FieldProblem {
                        // It was sent as JSON, which has no lines that anybody wrote.
                        line: None,
                        column: None,
                        ..registry::field_problem(problem)
                    })
                    .collect();
                let first = problems.first().map(|problem| problem.message.as_str());
                let message = format!("{message}: {}", first.unwrap_or_default());
                Self::bad(message).with_code("definition").with_problems(problems)
            }
            Error::Settings(problems) => {
                let problems: Vec<_> = problems.as_data().iter().map(registry::field_problem).collect();
                let first = problems.first().map_or_else(String::new, |problem| {
                    let line = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
                    format!("{line}{} ({})", problem.message, problem.help)
                });
                let more = match problems.len().saturating_sub(1) {
                    0 => String::new(),
                    more => format!("; and {more} more"),
                };
                Self::bad(format!("{message}: {first}{more}"))
                    .with_code("settings")
                    .with_problems(problems)
            }
            Error::Overtaken(_) => Self::conflict(message).with_code("overtaken"),
            Error::NoSealKey => Self::conflict(message).with_code("no-seal-key"),
            Error::NoTenant(_) => Self::not_found(message),
            Error::File(_) => Self::new(StatusCode::CONFLICT, message).with_code("file"),
            Error::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with_code("busy"),
        }
    }
}
impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::new(StatusCode::CONFLICT, refused.to_string()).with_code(refused.code())
    }
}

/// The registry's calls.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router
        .other(calls::UploadPlugin, upload::<S>)
        .call(list::<S>)
        .call(show::<S>)
        .call(history::<S>)
        .call(|operator, asked: Asked<calls::PublishPlugin>| step(operator, asked, Step::Publish))
        .call(|operator, asked: Asked<calls::RetirePlugin>| step(operator, asked, Step::Retire))
        .call(routes::<S>)
        .call(route::<S>)
        .call(set_route::<S>)
        .call(remove_route::<S>)
        .call(|operator, asked: Asked<calls::Shadow>| change(operator, asked, Wanted::Shadow))
        .call(|operator, asked: Asked<calls::Canary>| change(operator, asked, Wanted::Canary))
        .call(|operator, asked: Asked<calls::Promote>| change(operator, asked, Wanted::Promote))
        .call(|operator, asked: Asked<calls::Rollback>| change(operator, asked, Wanted::Rollback))
        .call(|operator, asked: Asked<calls::FollowFile>| change(operator, asked, Wanted::FollowFile))
        .call(shadow_runs::<S>)
        .call(route_history::<S>)
        .call(publishers::<S>)
        .call(register_publisher::<S>)
        .call(revoke_publisher::<S>)
}

/// Who changes something, when and why, for the registry's history.
pub(super) fn act(body: ActBody, caller: &Caller) -> Result<Act, Refusal> {
    for (field, text) in [("why", &body.why), ("actor", &body.actor)] {
        mask::check_note(field, text, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
    }
    if body.why.trim().is_empty() {
        return Err(Refusal::bad("why: say why, for the history"));
    }
    Ok(Act {
        actor: actor(caller, body.actor),
        why: Some(body.why),
        at: clock::now(),
        dry_run: body.dry_run,
    })
}

fn named<T: std::str::FromStr<Err = tollgate_core::ids::IdError>>(field: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error| Refusal::bad(format!("{field}: {error}")))
}

fn tenant_of(caller: &Caller, asked: Option<&str>) -> Result<Option<TenantName>, Refusal> {
    let asked = asked.map(|name| named("tenant", name)).transpose()?;
    Ok(caller.narrowed(asked)?)
}

// Versions.

/// `POST /v1/plugins`: the body is the component.
async fn upload<S: Views + Control>(
    State(operator): State<Arc<Operator<S>>>,
    Heading { caller, query, .. }: Heading<calls::UploadPlugin>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PluginVersion>, Refusal> {
    let owner = tenant_of(&caller, query.tenant.as_deref())?;
    caller.may(Permission::PluginUpload, owner.as_ref())?;
    if let Some(tenant) = &owner
        && !operator.config.load().tenants.contains_key(tenant)
    {
        return Err(Refusal::not_found(format!("there is no tenant `{tenant}`")));
    }
    let signature = match headers.get(SIGNATURE_HEADER) {
        None => None,
        Some(value) if value.len() > DOCUMENT_BYTES_MAX => return Err(Refusal::bad("the signature is too long")),
        Some(value) => Some(PluginSignature::from_json(value.as_bytes()).map_err(registry::Error::from)?),
    };
    mask::check_note("actor", &query.actor, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    // The file is beside the store, since the host may write there.
    let store = operator.config.load().store.path.clone();
    let folder = store.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    let received = tokio::time::timeout(UPLOAD_TIME_MAX, receive(folder, body, announced))
        .await
        .map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "the upload took too long"))??;
    // What waits for its turn is in a file and not in memory.
    let _turn = operator.registry.vetting_turn(owner.clone()).await?;
    let bytes = received.read()?;
    let upload = Upload {
        owner,
        bytes,
        signature,
        act: Act {
            actor: actor(&caller, query.actor),
            why: None,
            at: clock::now(),
            dry_run: query.dry_run,
        },
    };
    Ok(Json(operator.registry.upload(upload).await?))
}

fn too_big() -> Refusal {
    let most = limits::COMPONENT_BYTES_MAX;
    let message = format!("the component is more than {most} bytes long, which is the most that is taken");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message).with_code("too-big")
}

fn disk(error: std::io::Error) -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("the upload cannot be kept: {error}"),
    )
}

/// An upload in a file that has no name any more: it is gone when this is, however the host ends.
struct Received {
    file: std::fs::File,
    bytes: usize,
}

impl Received {
    fn read(mut self) -> Result<Arc<[u8]>, Refusal> {
        let mut bytes = Vec::with_capacity(self.bytes);
        self.file.seek(SeekFrom::Start(0)).map_err(disk)?;
        self.file.read_to_end(&mut bytes).map_err(disk)?;
        Ok(bytes.into())
    }
}

/// Takes a body in through a file in `folder`, so that slow uploads hold no memory; never more than a component may be.
async fn receive(folder: &std::path::Path, mut body: Body, announced: Option<usize>) -> Result<Received, Refusal> {
    if announced.is_some_and(|bytes| bytes > limits::COMPONENT_BYTES_MAX) {
        return Err(too_big());
    }
    let mut file = tempfile::tempfile_in(folder).map_err(disk)?;
    let mut count = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::bad(format!("the upload broke off: {error}")))?;
        let Some(piece) = frame.data_ref() else { continue };
        count = count.saturating_add(piece.len());
        if count > limits::COMPONENT_BYTES_MAX {
            return Err(too_big());
        }
        // A piece is some kilobytes, and goes to the page cache.
        file.write_all(piece).map_err(disk)?;
    }
    Ok(Received { file, bytes: count })
}

/// `GET /v1/plugins`.
async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Plugins>,
) -> Answered<calls::Plugins> {
    let filter = VersionFilter {
        tenant: tenant_of(&caller, query.tenant.as_deref())?,
        name: query.name.as_deref().map(|name| named("name", name)).transpose()?,
        digest: None,
    };
    Ok(operator.store.plugin_versions(filter).await?)
}

/// The version that a text means among those that a tenant sees: by digest, by the first digits of one, by `name@version`.
pub(super) async fn meant<S: Views + Control>(
    store: &S,
    tenant: Option<TenantName>,
    text: &str,
) -> Result<PluginVersion, Refusal> {
    let filter = VersionFilter {
        tenant: tenant.clone(),
        ..VersionFilter::default()
    };
    let versions = store.plugin_versions(filter).await?;
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_digits = digits.len() >= DIGEST_DIGITS_MIN && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digest_start = format!("sha256:{}", digits.to_ascii_lowercase());
    let means = |version: &PluginVersion| match text.split_once('@') {
        Some((name, label)) => version.name.as_str() == name && version.version == label,
        None => is_digits && version.digest.to_string().starts_with(&digest_start),
    };
    let mut found: Vec<PluginVersion> = versions.into_iter().filter(means).collect();
    // A tenant's own before the operator's of the same name; what is published before what is not.
    found.sort_by_key(|version| {
        let own = version.owner == tenant;
        let published = version.standing == tollgate_core::registry::Standing::Published;
        (!own, !published)
    });
    let shown = mask::line(text, 128);
    let Some(first) = found.first() else {
        return Err(Refusal::not_found(format!(
            "there is no plugin `{shown}`; name one by its digest, by {DIGEST_DIGITS_MIN} or more digits of it, or by name@version"
        )));
    };
    let rank = |version: &PluginVersion| (version.owner == tenant, version.standing);
    if found
        .iter()
        .any(|other| other.digest != first.digest && rank(other) == rank(first))
    {
        let digests: Vec<_> = found.iter().map(|version| version.digest.to_string()).collect();
        return Err(Refusal::new(
            StatusCode::CONFLICT,
            format!("`{shown}` means several: {}", digests.join(", ")),
        )
        .with_code("ambiguous"));
    }
    Ok(found.swap_remove(0))
}

/// `GET /v1/plugins/{plugin}`.
async fn show<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: PluginPath { plugin },
        query,
        ..
    }: Asked<calls::ShowPlugin>,
) -> Answered<calls::ShowPlugin> {
    let tenant = tenant_of(&caller, query.tenant.as_deref())?;
    meant(&operator.store, tenant, &plugin).await
}

/// `GET /v1/plugins/{plugin}/history`.
async fn history<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: PluginPath { plugin },
        query,
        ..
    }: Asked<calls::PluginHistory>,
) -> Answered<calls::PluginHistory> {
    let tenant = tenant_of(&caller, query.tenant.as_deref())?;
    let version = meant(&operator.store, tenant.clone(), &plugin).await?;
    let filter = HistoryFilter {
        tenant,
        route: None,
        digest: Some(version.digest),
        without_settings: false,
        with_events: false,
        rows_max: query.rows_max(),
    };
    Ok(operator.store.registry_history(filter).await?)
}

async fn step<S, C>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: PluginPath { plugin },
        query,
        body,
    }: Asked<C>,
    step: Step,
) -> Result<PluginVersion, Refusal>
where
    S: Views + Control,
    C: Call<Path = PluginPath, Query = PluginQuery, Body = ActBody>,
{
    let act = act(body, &caller)?;
    let tenant = tenant_of(&caller, query.tenant.as_deref())?;
    let version = meant(&operator.store, tenant, &plugin).await?;
    caller.may(Permission::PluginPromote, version.owner.as_ref())?;
    let request = StepRequest {
        version: VersionKey {
            owner: version.owner,
            digest: version.digest,
        },
        step,
        act,
    };
    Ok(operator.registry.step(request).await?)
}

// Routes and what they run. The gate has looked at the path's tenant already.

/// A route as it is shown.
fn route_view(tenant: &TenantName, live: &LiveRoute) -> RouteView {
    let route = &live.route;
    let limits = &route.limits;
    RouteView {
        tenant: tenant.clone(),
        route: route.name.clone(),
        set_by: live.set_by,
        definition: live.api.as_ref().map(|api| api.definition.clone()),
        plugin: route.forward.is_none().then(|| route.plugin.clone()),
        forward: route.forward,
        binding: route.binding.clone(),
        config: serde_json::from_str(&route.config_json).unwrap_or_default(),
        config_digest: route.config_digest,
        grants: route.grants.clone(),
        operations: route.namespace.clone(),
        destinations: route.destinations.clone(),
        sources: route.matches.sources.clone(),
        types: route.matches.types.iter().map(ToString::to_string).collect(),
        statuses: route.matches.statuses.clone(),
        filter: route.matches.filter.as_ref().map(|filter| filter.text().to_owned()),
        late: route.matches.late.word().map(str::to_owned),
        limits: RouteLimits {
            fuel: limits.fuel,
            deadline_ms: limits.deadline_ms,
            memory_bytes: limits.memory_bytes_max as u64,
            state_keys: limits.state_keys_max as u64,
            state_bytes: limits.state_bytes_max as u64,
        },
        changed_at: live.api.as_ref().map(|api| api.changed_at.clone()),
        changed_by: live.api.as_ref().map(|api| api.changed_by.clone()),
    }
}

/// `GET /v1/tenants/{tenant}/routes`.
async fn routes<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: TenantPath { tenant },
        ..
    }: Asked<calls::Routes>,
) -> Answered<calls::Routes> {
    let routes = operator.registry.routes(&tenant).await?;
    let views: Vec<_> = routes.iter().map(|live| route_view(&tenant, live)).collect();
    Ok(views)
}

/// `GET /v1/tenants/{tenant}/routes/{route}`.
async fn route<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: RoutePath { tenant, route },
        ..
    }: Asked<calls::ShowRoute>,
) -> Answered<calls::ShowRoute> {
    let routes = operator.registry.routes(&tenant).await?;
    match routes.iter().find(|live| live.route.name == route) {
        Some(live) => Ok(route_view(&tenant, live)),
        None => Err(Refusal::not_found(format!("there is no route `{route}` of `{tenant}`"))),
    }
}

/// `PUT /v1/tenants/{tenant}/routes/{route}`.
async fn set_route<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: RoutePath { tenant, route },
        body,
        ..
    }: Asked<calls::SetRoute>,
) -> Answered<calls::SetRoute> {
    let RouteBody {
        definition,
        plugin,
        why,
        dry_run,
        actor,
    } = body;
    let act = act(ActBody { why, dry_run, actor }, &caller)?;
    let digest = match plugin {
        Some(text) => Some(meant(&operator.store, Some(tenant.clone()), &text).await?.digest),
        None => None,
    };
    let set = operator.registry.set_route(tenant, route, definition, digest, act);
    Ok(set.await?)
}

/// `DELETE /v1/tenants/{tenant}/routes/{route}`.
async fn remove_route<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: RoutePath { tenant, route },
        body,
        ..
    }: Asked<calls::RemoveRoute>,
) -> Answered<calls::RemoveRoute> {
    let act = act(body, &caller)?;
    Ok(operator.registry.remove_route(tenant, route, act).await?)
}

/// What a change's call does with its body.
#[derive(Clone, Copy)]
enum Wanted {
    Shadow,
    Canary,
    Promote,
    Rollback,
    FollowFile,
}

async fn change<S, C>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: RoutePath { tenant, route },
        body,
        ..
    }: Asked<C>,
    wanted: Wanted,
) -> Result<BindingChange, Refusal>
where
    S: Views + Control,
    C: Call<Path = RoutePath, Body = ChangeBody>,
{
    let ChangeBody {
        plugin,
        per_mille,
        why,
        dry_run,
        actor,
    } = body;
    let act = act(ActBody { why, dry_run, actor }, &caller)?;
    if per_mille.is_some() && !matches!(wanted, Wanted::Canary) {
        return Err(Refusal::bad("per_mille: only a canary has a share"));
    }
    let brings = matches!(wanted, Wanted::Shadow | Wanted::Canary | Wanted::Promote);
    let digest = match plugin {
        Some(_) if !brings => return Err(Refusal::bad("plugin: this call brings none in")),
        Some(text) => Some(meant(&operator.store, Some(tenant.clone()), &text).await?.digest),
        None => None,
    };
    let decide = |configured: Option<PluginDigest>| {
        Ok(match (wanted, digest) {
            (Wanted::Shadow, Some(digest)) => Change::Shadow(digest),
            (Wanted::Shadow, None) => Change::EndShadow,
            (Wanted::Canary, Some(digest)) => Change::Canary(Canary {
                digest,
                share: Share::per_mille(per_mille.unwrap_or(0))?,
            }),
            (Wanted::Canary, None) => Change::EndCanary,
            (Wanted::Promote, Some(digest)) => Change::Promote(digest),
            (Wanted::Promote, None) => {
                return Err(registry::Error::File(
                    "name the version that is to be active".to_owned(),
                ));
            }
            (Wanted::Rollback, _) => Change::Rollback,
            (Wanted::FollowFile, _) => Change::FollowFile(configured.ok_or_else(|| {
                registry::Error::File("no file says what this route runs; it was set by API".to_owned())
            })?),
        })
    };
    Ok(operator.registry.change(tenant, route, decide, act).await?)
}

/// `GET /v1/tenants/{tenant}/routes/{route}/shadow-runs`.
async fn shadow_runs<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: RoutePath { tenant, route },
        query,
        ..
    }: Asked<calls::ShadowRuns>,
) -> Answered<calls::ShadowRuns> {
    let filter = ShadowFilter {
        tenant,
        route,
        differing_only: query.differing,
        rows_max: query.rows_max(),
    };
    Ok(operator.store.shadow_runs(filter).await?)
}

/// `GET /v1/tenants/{tenant}/routes/{route}/history`.
async fn route_history<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: RoutePath { tenant, route },
        query,
        ..
    }: Asked<calls::RouteHistory>,
) -> Answered<calls::RouteHistory> {
    let filter = HistoryFilter {
        tenant: Some(tenant),
        route: Some(route),
        digest: None,
        without_settings: false,
        with_events: false,
        rows_max: query.rows_max(),
    };
    Ok(operator.store.registry_history(filter).await?)
}

// Publishers.

/// `GET /v1/tenants/{tenant}/publishers`.
async fn publishers<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: TenantPath { tenant },
        ..
    }: Asked<calls::Publishers>,
) -> Answered<calls::Publishers> {
    Ok(operator.store.publisher_keys(Some(tenant)).await?)
}

/// `POST /v1/tenants/{tenant}/publishers`.
async fn register_publisher<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: TenantPath { tenant },
        body,
        ..
    }: Asked<calls::RegisterPublisher>,
) -> Answered<calls::RegisterPublisher> {
    let PublisherBody {
        publisher,
        key_id,
        public_key,
        why,
        dry_run,
        actor,
    } = body;
    let act = act(ActBody { why, dry_run, actor }, &caller)?;
    if !operator.config.load().tenants.contains_key(&tenant) {
        return Err(Refusal::not_found(format!("there is no tenant `{tenant}`")));
    }
    let key = NewPublisherKey {
        tenant,
        publisher: named("publisher", &publisher)?,
        key_id: named("key_id", &key_id)?,
        public_key: PublicKey::from_text(&public_key).map_err(|error| Refusal::bad(format!("public_key: {error}")))?,
        act,
    };
    let conflict = |message: &str| Err(Refusal::new(StatusCode::CONFLICT, message));
    match operator.store.register_publisher_key(key).await? {
        KeyRegistered::New => Ok(PublisherRegistered {
            registered: true,
            new: true,
        }),
        KeyRegistered::Known => Ok(PublisherRegistered {
            registered: true,
            new: false,
        }),
        KeyRegistered::OtherKey => conflict("another key has this id, which means one key for ever; take another id"),
        KeyRegistered::Revoked => conflict("this key was revoked, which is for ever; make another one"),
        KeyRegistered::TooMany => conflict("the tenant has as many keys as are kept"),
    }
}

/// `POST /v1/tenants/{tenant}/publishers/{publisher}/{key}/revoke`.
async fn revoke_publisher<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: PublisherPath {
            tenant,
            publisher,
            key: key_id,
        },
        body,
        ..
    }: Asked<calls::RevokePublisher>,
) -> Answered<calls::RevokePublisher> {
    let act = act(body, &caller)?;
    let revoked = operator
        .store
        .revoke_publisher_key(RevokePublisherKey {
            tenant,
            publisher,
            key_id,
            act,
        })
        .await?;
    Ok(PublisherRevoked { revoked })
}

#[cfg(test)]
mod tests {
    use tollgate_store::StoreError;

    use super::*;

    #[test]
    fn each_refusal_has_its_status() {
        let status = |error: registry::Error| Refusal::from(error).status;
        assert_eq!(status(Refused::NothingBefore.into()), StatusCode::CONFLICT);
        assert_eq!(status(StoreError::Full.into()), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            status(StoreError::NotFound { what: "it".into() }.into()),
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            status(tollgate_sandbox::Refusal::MissingManifest.into()),
            StatusCode::BAD_REQUEST
        );
        assert_eq!(status(registry::Error::Busy), StatusCode::SERVICE_UNAVAILABLE);
    }
}
