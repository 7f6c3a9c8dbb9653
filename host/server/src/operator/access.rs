//! The gate in front of every call of the private listener, and the tokens that open it (promise O2).

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tollgate_api::calls;
use tollgate_api::tokens::{IssuedToken, RevokeBody, RevokedToken, TokenPath, TokenView, WantedToken};
use tollgate_api::whoami::WhoAmI;
use tollgate_core::access::{self, Caller, Denied, Permission};
use tollgate_core::ids::{TenantName, TokenId};
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;
use tollgate_store::{Changes, Control, NewToken, StoreError, TokenRecord, Topic, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal};
use crate::cached::Cached;
use crate::clock;
use crate::config::Config;

/// Knows callers by what they send.
pub(crate) struct Gate {
    /// The one that the configuration names.
    own: Secret,
    /// Those of the store that prove somebody, by digest.
    issued: Cached<HashMap<[u8; 32], TokenRecord>>,
}

impl Gate {
    pub(crate) fn new(store: &impl Changes, own: Secret) -> Self {
        Self {
            own,
            issued: Cached::of(store, Topic::Tokens),
        }
    }

    /// # Errors
    /// When the store cannot be read.
    async fn caller(&self, store: &impl Views, token: &[u8], now: UnixMillis) -> Result<Option<Caller>, StoreError> {
        if self.own.matches(token) {
            return Ok(Some(Caller::operator()));
        }
        let read = async {
            let tokens = store.tokens().await?.into_iter();
            let valid = tokens.filter(|token| token.revoked.is_none());
            Ok(valid.map(|token| (token.digest.0, token)).collect())
        };
        let issued = self.issued.get(read).await?;
        let found = issued.get(&access::token_digest(token).0);
        let valid = found.filter(|token| token.is_valid(now));
        Ok(valid.map(|token| Caller {
            name: format!("{} ({})", token.name, token.id),
            role: token.role,
            tenant: token.tenant.clone(),
            ends_at: token.expires_at,
            look: token.look,
        }))
    }
}

/// Lets a request through when its token proves somebody who has the call's permission, for the tenant that its path names.
pub(super) async fn authorize<S: Views + Control>(
    State(operator): State<Arc<Operator<S>>>,
    path: MatchedPath,
    parameters: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let caller = match given {
        Some(token) => operator.gate.caller(&operator.store, token, clock::wall()).await,
        None => Ok(None),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => return Refusal::from(error).into_response(),
    };
    let Some(caller) = caller else {
        return Refusal::unauthorized("send a token that is valid as `Authorization: Bearer …`").into_response();
    };
    let Some(permission) = calls::permission(request.method().as_str(), path.as_str()) else {
        let detail = format!("there is no {} {}", request.method(), path.as_str());
        return Refusal::not_found(detail).into_response();
    };
    let tenant = parameters.iter().find(|(name, _)| *name == "tenant");
    let allowed = match tenant.map(|(_, name)| name.parse::<TenantName>()) {
        Some(Ok(tenant)) => caller.may(permission, Some(&tenant)),
        Some(Err(error)) => return Refusal::bad(format!("tenant: {error}")).into_response(),
        None if matches!(permission, Permission::HostRead | Permission::HostWrite) => caller.may(permission, None),
        // What such a call shows to a tenant's caller and does for them, it narrows itself.
        None => caller.may(permission, caller.tenant.as_ref()),
    };
    if let Err(denied) = allowed {
        return Refusal::from(denied).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::forbidden(denied.to_string())
    }
}

/// # Errors
/// As if there were no such thing, when it is of a tenant that the caller does not see.
pub(super) async fn own(store: &impl Views, caller: &Caller, target: Target) -> Result<(), Refusal> {
    if caller.tenant.is_none() {
        return Ok(());
    }
    let receipt = store.receipt_of(target).await?;
    let event = store.event(receipt).await?;
    caller.sees(Some(&event.tenant)).map_err(|_| {
        StoreError::NotFound {
            what: target.to_string(),
        }
        .into()
    })
}

/// Who did something, for the history: the token's name, beside what its holder says of themselves.
pub(super) fn actor(caller: &Caller, said: String) -> String {
    match caller {
        caller if said.is_empty() => caller.name.clone(),
        operator if *operator == Caller::operator() => said,
        other => format!("{said}, by {}", other.name),
    }
}

/// The calls about tokens.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router
        .call(who_am_i::<S>)
        .call(list::<S>)
        .call(issue::<S>)
        .call(revoke::<S>)
}

async fn who_am_i<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, .. }: Asked<calls::WhoAmI>,
) -> Answered<calls::WhoAmI> {
    let who = WhoAmI::of(&caller);
    Ok(match who.tenant {
        Some(_) => who,
        None => WhoAmI {
            tenants: operator.config.load().tenants.keys().cloned().collect(),
            ..who
        },
    })
}

async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, .. }: Asked<calls::Tokens>,
) -> Answered<calls::Tokens> {
    let tokens = operator.store.tokens().await?;
    let seen = tokens
        .into_iter()
        .filter(|token| caller.sees(token.tenant.as_ref()).is_ok());
    Ok(seen.map(TokenView::from).collect())
}

async fn issue<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, body, .. }: Asked<calls::IssueToken>,
) -> Answered<calls::IssueToken> {
    let dry_run = body.dry_run;
    let mut wanted = body.checked(clock::wall()).map_err(Refusal::bad)?;
    wanted.created_by = actor(&caller, wanted.created_by);
    caller
        .may_issue(wanted.role, wanted.tenant.as_ref(), wanted.expires_at)
        .map_err(Refusal::forbidden)?;
    known_tenant(&operator.config.load(), wanted.tenant.as_ref())
        .map_err(|message| Refusal::new(StatusCode::CONFLICT, message))?;
    match dry_run {
        true => Ok(not_issued(wanted)),
        false => Ok(issue_token(&operator.store, wanted).await?),
    }
}

/// What a dry run answers.
pub fn not_issued(wanted: WantedToken) -> IssuedToken {
    IssuedToken {
        id: None,
        token: None,
        name: wanted.name,
        role: wanted.role.to_string(),
        tenant: wanted.tenant,
        expires_at: wanted.expires_at.map(|at| at.to_string()),
    }
}

/// A token of a tenant that is not there would open nothing, and everything of whoever gets that name later.
///
/// # Errors
/// In words, when there is no such tenant.
pub fn known_tenant(config: &Config, tenant: Option<&TenantName>) -> Result<(), String> {
    let Some(tenant) = tenant else { return Ok(()) };
    if config.tenants.contains_key(tenant) || config.broken.contains_key(tenant.as_str()) {
        return Ok(());
    }
    let known: Vec<_> = config.tenants.keys().map(TenantName::as_str).take(20).collect();
    Err(match known.as_slice() {
        [] => format!("there is no tenant `{tenant}`: there are none yet"),
        known => format!("there is no tenant `{tenant}`; there are: {}", known.join(", ")),
    })
}

/// Makes a token and keeps its digest.
///
/// # Errors
/// When the system has no random bytes, or the store does not keep it.
pub async fn issue_token(store: &impl Control, wanted: WantedToken) -> Result<IssuedToken, StoreError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| StoreError::Database {
        detail: format!("the system's random source: {error}"),
    })?;
    let token = access::token(wanted.role, random);
    let WantedToken {
        name,
        role,
        tenant,
        created_by,
        why,
        expires_at,
        look,
    } = wanted;
    let kept = NewToken {
        digest: access::token_digest(token.expose()),
        name: name.clone(),
        role,
        tenant: tenant.clone(),
        created_by,
        why,
        now: clock::now(),
        expires_at,
        look,
    };
    let id = store.issue_token(kept).await?;
    Ok(IssuedToken {
        id: Some(id),
        token: Some(String::from_utf8_lossy(token.expose()).into_owned()),
        name,
        role: role.to_string(),
        tenant,
        expires_at: expires_at.map(|at| at.to_string()),
    })
}

async fn revoke<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: TokenPath { token: id },
        body,
        ..
    }: Asked<calls::RevokeToken>,
) -> Answered<calls::RevokeToken> {
    revoked(&operator, &caller, id, body, |_| true).await
}

/// Ends a token that fits.
///
/// # Errors
/// As if there were none, when it does not fit, or the caller does not see it.
pub(super) async fn revoked<S: Views + Control>(
    operator: &Operator<S>,
    caller: &Caller,
    id: TokenId,
    body: RevokeBody,
    fits: impl Fn(&TokenRecord) -> bool,
) -> Result<RevokedToken, Refusal> {
    let dry_run = body.dry_run;
    let mut end = body.checked(clock::now()).map_err(Refusal::bad)?;
    end.by = actor(caller, end.by);
    let tokens = operator.store.tokens().await?;
    let seen = |token: &&TokenRecord| token.id == id && caller.sees(token.tenant.as_ref()).is_ok() && fits(token);
    let found = tokens.iter().find(seen);
    let found = found.ok_or_else(|| Refusal::not_found(format!("{id} does not exist")))?;
    let revoked = match dry_run {
        true => found.revoked.is_none(),
        false => operator.store.revoke_token(id, end).await?,
    };
    Ok(RevokedToken { id, revoked })
}
