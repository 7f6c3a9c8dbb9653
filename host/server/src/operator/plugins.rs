//! The registry's calls: plugins by third parties, what routes run, routes and publishers' keys.
//!
//! A plugin is named by its digest (`sha256:…`), by the first digits of it, or by `name@version`; what is changed is always the
//! digest that this means at that moment, and the answer says which.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tollgate_core::access::{Caller, Permission};
use tollgate_core::ids::{PluginDigest, RouteName, TenantName};
use tollgate_core::limits;
use tollgate_core::mask;
use tollgate_core::registry::{Canary, Change, Refused, Share, Step};
use tollgate_core::signature::{DOCUMENT_BYTES_MAX, PluginSignature, PublicKey};
use tollgate_store::Store;
use tollgate_store::registry::{
    Act, BindingChange, HistoryFilter, KeyRegistered, NewPublisherKey, PluginVersion, RevokePublisherKey, ShadowFilter,
    StepRequest, VersionFilter, VersionKey,
};

use super::access::actor;
use super::{Operator, Refusal};
use crate::clock;
use crate::registry::{self, LiveRoute, Upload};

/// The header that carries a signature document.
pub(crate) const SIGNATURE_HEADER: &str = "tollgate-plugin-signature";
/// From the head of an upload to the end of its body.
const UPLOAD_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(120);
const ROWS_DEFAULT: usize = 50;
const ROWS_MAX: usize = 1000;
/// Fewer digits of a digest could be a name.
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
                    .map(|problem| json!({ "field": problem.field, "message": problem.message, "help": problem.help }))
                    .collect();
                let first = problems.first().and_then(|problem| problem["message"].as_str());
                let message = format!("{message}: {}", first.unwrap_or_default());
                Self::bad(message).with_code("definition").with_problems(problems)
            }
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

/// Why a change is made, and whether it only is tried.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ActBody {
    /// For the history. Required: somebody will read it when things went wrong.
    #[serde(default)]
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub(crate) actor: String,
}

impl ActBody {
    pub(super) fn checked(self, caller: &Caller) -> Result<Act, Refusal> {
        for (field, text) in [("why", &self.why), ("actor", &self.actor)] {
            mask::check_note(field, text, limits::WHY_BYTES_MAX).map_err(Refusal::bad)?;
        }
        if self.why.trim().is_empty() {
            return Err(Refusal::bad("why: say why, for the history"));
        }
        Ok(Act {
            actor: actor(caller, self.actor),
            why: Some(self.why),
            at: clock::now(),
            dry_run: self.dry_run,
        })
    }
}

/// A change of what a route runs.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    /// Digest, first digits of it, or `name@version`. Absent to end a shadow or a canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plugin: Option<String>,
    /// A canary's share of subjects, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) per_mille: Option<u16>,
    #[serde(default)]
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[serde(default)]
    pub(crate) actor: String,
}

/// A route on its way in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteBody {
    /// The keys of `[routes.NAME]` in a tenant's file.
    pub(crate) definition: serde_json::Value,
    /// What it runs: digest, first digits of it, or `name@version`. Absent: what it is bound to, or the newest that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plugin: Option<String>,
    #[serde(default)]
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[serde(default)]
    pub(crate) actor: String,
}

/// A publisher's key on its way in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublisherBody {
    pub(crate) publisher: String,
    pub(crate) key_id: String,
    /// Ed25519, 32 bytes in base64.
    pub(crate) public_key: String,
    #[serde(default)]
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
    #[serde(default)]
    pub(crate) actor: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UploadQuery {
    tenant: Option<String>,
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListQuery {
    tenant: Option<String>,
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RowsQuery {
    tenant: Option<String>,
    limit: Option<usize>,
    differing: bool,
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("the body is not what is asked for: {error}")))
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
pub(super) async fn upload<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
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
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    // Beside the store, which is where the host may write.
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
            actor: actor(&caller, String::new()),
            why: None,
            at: clock::now(),
            dry_run: query.dry_run,
        },
    };
    Ok(Json(operator.registry.upload(upload).await?).into_response())
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
pub(super) async fn list<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<PluginVersion>>, Refusal> {
    let filter = VersionFilter {
        tenant: tenant_of(&caller, query.tenant.as_deref())?,
        name: query.name.as_deref().map(|name| named("name", name)).transpose()?,
        digest: None,
    };
    Ok(Json(operator.store.plugin_versions(filter).await?))
}

/// The version that a text means among those that a tenant sees: by digest, by the first digits of one, by `name@version`.
pub(super) async fn meant<S: Store>(
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
pub(super) async fn show<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Json<PluginVersion>, Refusal> {
    let tenant = tenant_of(&caller, query.tenant.as_deref())?;
    Ok(Json(meant(&operator.store, tenant, &plugin).await?))
}

/// `GET /v1/plugins/{plugin}/history`.
pub(super) async fn history<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
    Query(query): Query<RowsQuery>,
) -> Result<Response, Refusal> {
    let tenant = tenant_of(&caller, query.tenant.as_deref())?;
    let version = meant(&operator.store, tenant.clone(), &plugin).await?;
    let filter = HistoryFilter {
        tenant,
        route: None,
        digest: Some(version.digest),
        rows_max: query.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
    };
    Ok(Json(operator.store.registry_history(filter).await?).into_response())
}

/// `POST /v1/plugins/{plugin}/publish`.
pub(super) async fn publish<S: Store>(
    operator: State<Arc<Operator<S>>>,
    caller: Extension<Caller>,
    plugin: Path<String>,
    query: Query<ListQuery>,
    body: axum::body::Bytes,
) -> Result<Json<PluginVersion>, Refusal> {
    step(operator, caller, plugin, query, body, Step::Publish).await
}

/// `POST /v1/plugins/{plugin}/retire`.
pub(super) async fn retire<S: Store>(
    operator: State<Arc<Operator<S>>>,
    caller: Extension<Caller>,
    plugin: Path<String>,
    query: Query<ListQuery>,
    body: axum::body::Bytes,
) -> Result<Json<PluginVersion>, Refusal> {
    step(operator, caller, plugin, query, body, Step::Retire).await
}

async fn step<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path(plugin): Path<String>,
    Query(query): Query<ListQuery>,
    body: axum::body::Bytes,
    step: Step,
) -> Result<Json<PluginVersion>, Refusal> {
    let act = read::<ActBody>(&body)?.checked(&caller)?;
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
    Ok(Json(operator.registry.step(request).await?))
}

// Routes and what they run. The gate has looked at the path's tenant already.

type RoutePath = Path<(TenantName, RouteName)>;

/// A route as it is shown.
fn route_view(tenant: &TenantName, live: &LiveRoute) -> serde_json::Value {
    let route = &live.route;
    let limits = &route.limits;
    json!({
        "tenant": tenant,
        "route": route.name,
        "set_by": if live.api.is_some() { "api" } else { "file" },
        "definition": live.api.as_ref().map(|api| &api.definition),
        "plugin": route.forward.is_none().then_some(&route.plugin),
        "forward": route.forward,
        "binding": route.binding,
        "config": serde_json::from_str::<serde_json::Value>(&route.config_json).unwrap_or_default(),
        "config_digest": route.config_digest,
        "grants": route.grants.iter().map(grant_view).collect::<Vec<_>>(),
        "operations": route.namespace,
        "destinations": route.destinations,
        "sources": route.matches.sources,
        "types": route.matches.types.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "statuses": route.matches.statuses,
        "late": route.matches.late.word(),
        "limits": {
            "fuel": limits.fuel,
            "deadline_ms": limits.deadline_ms,
            "memory_bytes": limits.memory_bytes_max,
            "state_keys": limits.state_keys_max,
            "state_bytes": limits.state_bytes_max,
        },
        "changed_at": live.api.as_ref().map(|api| &api.changed_at),
        "changed_by": live.api.as_ref().map(|api| &api.changed_by),
    })
}

fn grant_view(grant: &tollgate_core::grant::Grant) -> serde_json::Value {
    json!({
        "kind": grant.kind,
        "amount_max": grant.amount_max,
        "currencies": grant.currencies.iter().map(|currency| currency.as_str()).collect::<Vec<_>>(),
        "quantity_max": grant.quantity_max,
        "sku_prefix": grant.sku_prefix,
        "extensions": grant.extensions,
    })
}

/// `GET /v1/tenants/{tenant}/routes`.
pub(super) async fn routes<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Path(tenant): Path<TenantName>,
) -> Result<Response, Refusal> {
    let routes = operator.registry.routes(&tenant).await?;
    let views: Vec<_> = routes.iter().map(|live| route_view(&tenant, live)).collect();
    Ok(Json(views).into_response())
}

/// `GET /v1/tenants/{tenant}/routes/{route}`.
pub(super) async fn route<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Path((tenant, route)): RoutePath,
) -> Result<Response, Refusal> {
    let routes = operator.registry.routes(&tenant).await?;
    match routes.iter().find(|live| live.route.name == route) {
        Some(live) => Ok(Json(route_view(&tenant, live)).into_response()),
        None => Err(Refusal::not_found(format!("there is no route `{route}` of `{tenant}`"))),
    }
}

/// `PUT /v1/tenants/{tenant}/routes/{route}`.
pub(super) async fn set_route<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, route)): RoutePath,
    body: axum::body::Bytes,
) -> Result<Json<BindingChange>, Refusal> {
    let RouteBody {
        definition,
        plugin,
        why,
        dry_run,
        actor,
    } = read(&body)?;
    let act = ActBody { why, dry_run, actor }.checked(&caller)?;
    let digest = match plugin {
        Some(text) => Some(meant(&operator.store, Some(tenant.clone()), &text).await?.digest),
        None => None,
    };
    let set = operator.registry.set_route(tenant, route, definition, digest, act);
    Ok(Json(set.await?))
}

/// `DELETE /v1/tenants/{tenant}/routes/{route}`.
pub(super) async fn remove_route<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, route)): RoutePath,
    body: axum::body::Bytes,
) -> Result<Json<BindingChange>, Refusal> {
    let act = read::<ActBody>(&body)?.checked(&caller)?;
    Ok(Json(operator.registry.remove_route(tenant, route, act).await?))
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

/// `POST /v1/tenants/{tenant}/routes/{route}/shadow`.
pub(super) async fn shadow<S: Store>(
    operator: State<Arc<Operator<S>>>,
    caller: Extension<Caller>,
    path: RoutePath,
    body: axum::body::Bytes,
) -> Result<Json<BindingChange>, Refusal> {
    change(operator, caller, path, body, Wanted::Shadow).await
}

/// `POST /v1/tenants/{tenant}/routes/{route}/canary`.
pub(super) async fn canary<S: Store>(
    operator: State<Arc<Operator<S>>>,
    caller: Extension<Caller>,
    path: RoutePath,
    body: axum::body::Bytes,
) -> Result<Json<BindingChange>, Refusal> {
    change(operator, caller, path, body, Wanted::Canary).await
}

/// `POST /v1/tenants/{tenant}/routes/{route}/promote`.
pub(super) async fn promote<S: Store>(
    operator: State<Arc<Operator<S>>>,
    caller: Extension<Caller>,
    path: RoutePath,
    body: axum::body::Bytes,
) -> Result<Json<BindingChange>, Refusal> {
    change(operator, caller, path, body, Wanted::Promote).await
}

/// `POST /v1/tenants/{tenant}/routes/{route}/rollback`.
pub(super) async fn rollback<S: Store>(
    operator: State<Arc<Operator<S>>>,
    caller: Extension<Caller>,
    path: RoutePath,
    body: axum::body::Bytes,
) -> Result<Json<BindingChange>, Refusal> {
    change(operator, caller, path, body, Wanted::Rollback).await
}

/// `POST /v1/tenants/{tenant}/routes/{route}/follow-file`.
pub(super) async fn follow_file<S: Store>(
    operator: State<Arc<Operator<S>>>,
    caller: Extension<Caller>,
    path: RoutePath,
    body: axum::body::Bytes,
) -> Result<Json<BindingChange>, Refusal> {
    change(operator, caller, path, body, Wanted::FollowFile).await
}

async fn change<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, route)): RoutePath,
    body: axum::body::Bytes,
    wanted: Wanted,
) -> Result<Json<BindingChange>, Refusal> {
    let ChangeBody {
        plugin,
        per_mille,
        why,
        dry_run,
        actor,
    } = read(&body)?;
    let act = ActBody { why, dry_run, actor }.checked(&caller)?;
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
    Ok(Json(operator.registry.change(tenant, route, decide, act).await?))
}

/// `GET /v1/tenants/{tenant}/routes/{route}/shadow-runs`.
pub(super) async fn shadow_runs<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Path((tenant, route)): RoutePath,
    Query(query): Query<RowsQuery>,
) -> Result<Response, Refusal> {
    let filter = ShadowFilter {
        tenant,
        route,
        differing_only: query.differing,
        rows_max: query.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
    };
    Ok(Json(operator.store.shadow_runs(filter).await?).into_response())
}

/// `GET /v1/tenants/{tenant}/routes/{route}/history`.
pub(super) async fn route_history<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Path((tenant, route)): RoutePath,
    Query(query): Query<RowsQuery>,
) -> Result<Response, Refusal> {
    let filter = HistoryFilter {
        tenant: Some(tenant),
        route: Some(route),
        digest: None,
        rows_max: query.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
    };
    Ok(Json(operator.store.registry_history(filter).await?).into_response())
}

// Publishers.

/// `GET /v1/tenants/{tenant}/publishers`.
pub(super) async fn publishers<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Path(tenant): Path<TenantName>,
) -> Result<Response, Refusal> {
    Ok(Json(operator.store.publisher_keys(Some(tenant)).await?).into_response())
}

/// `POST /v1/tenants/{tenant}/publishers`.
pub(super) async fn register_publisher<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantName>,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let PublisherBody {
        publisher,
        key_id,
        public_key,
        why,
        dry_run,
        actor,
    } = read(&body)?;
    let act = ActBody { why, dry_run, actor }.checked(&caller)?;
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
        KeyRegistered::New => Ok(Json(json!({ "registered": true, "new": true })).into_response()),
        KeyRegistered::Known => Ok(Json(json!({ "registered": true, "new": false })).into_response()),
        KeyRegistered::OtherKey => conflict("another key has this id, which means one key for ever; take another id"),
        KeyRegistered::Revoked => conflict("this key was revoked, which is for ever; make another one"),
        KeyRegistered::TooMany => conflict("the tenant has as many keys as are kept"),
    }
}

/// `POST /v1/tenants/{tenant}/publishers/{publisher}/{key}/revoke`.
pub(super) async fn revoke_publisher<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Path((tenant, publisher, key_id)): Path<(TenantName, String, String)>,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let act = read::<ActBody>(&body)?.checked(&caller)?;
    let revoked = operator
        .store
        .revoke_publisher_key(RevokePublisherKey {
            tenant,
            publisher: named("publisher", &publisher)?,
            key_id: named("key", &key_id)?,
            act,
        })
        .await?;
    Ok(Json(json!({ "revoked": revoked })).into_response())
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
