//! Portal links: who may make one, what its address is, and how one ends (promise O13). What a link proves is judged by the gate, as of all
//! tokens.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use tollgate_api::calls;
use tollgate_api::plugins::TenantPath;
use tollgate_api::portal::{IssuedLink, LinkView, WantedLink};
use tollgate_api::tokens::{TokenPath, TokenView};
use tollgate_api::whoami;
use tollgate_core::access::Role;
use tollgate_core::ids::TenantName;
use tollgate_core::limits;
use tollgate_store::{Control, StoreError, TokenRecord, Views};

use super::access::{actor, issue_token, known_tenant, revoked};
use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal};
use crate::clock;
use crate::config::ConsoleConfig;

/// The calls about portal links.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(list::<S>).call(create::<S>).call(revoke::<S>)
}

/// Why no link was made.
#[derive(Debug, thiserror::Error)]
pub enum NoLink {
    /// In words.
    #[error("{0}")]
    Refused(String),
    /// The store did not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<NoLink> for Refusal {
    fn from(error: NoLink) -> Self {
        match error {
            NoLink::Refused(message) => Self::new(StatusCode::CONFLICT, message),
            NoLink::Store(error) => error.into(),
        }
    }
}

/// `GET /v1/portal-links`.
async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::PortalLinks>,
) -> Answered<calls::PortalLinks> {
    let (tenant, all) = query.checked().map_err(Refusal::bad)?;
    let tenant = caller.narrowed(tenant)?;
    Ok(links(&operator.store, tenant.as_ref(), all).await?)
}

/// Portal links, the newest first; of all tenants without one.
///
/// # Errors
/// When the store cannot be read.
pub async fn links(store: &impl Views, tenant: Option<&TenantName>, all: bool) -> Result<Vec<LinkView>, StoreError> {
    let now = clock::now();
    let tokens = store.tokens().await?.into_iter().map(TokenView::from);
    let links = tokens.filter_map(|token| LinkView::of(token, now));
    let fits = |link: &LinkView| (all || link.is_open()) && tenant.is_none_or(|tenant| link.tenant == *tenant);
    Ok(links.filter(fits).collect())
}

/// `POST /v1/tenants/{tenant}/portal-links`.
async fn create<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: TenantPath { tenant },
        body,
        ..
    }: Asked<calls::CreatePortalLink>,
) -> Answered<calls::CreatePortalLink> {
    let dry_run = body.dry_run;
    let mut wanted = body.checked(tenant, clock::wall()).map_err(Refusal::bad)?;
    wanted.token.created_by = actor(&caller, wanted.token.created_by);
    caller
        .may_link(&wanted.tenant, wanted.capabilities, wanted.ends_at)
        .map_err(Refusal::forbidden)?;
    let config = operator.config.load_full();
    known_tenant(&config, Some(&wanted.tenant)).map_err(|message| Refusal::new(StatusCode::CONFLICT, message))?;
    Ok(create_link(
        &operator.store,
        &config.console,
        Some(operator.address),
        wanted,
        dry_run,
    )
    .await?)
}

/// Makes a link, or looks whether it could be made. `listens` is where the console is, unless the configuration says where people reach it.
///
/// # Errors
/// When there is nowhere that a link could lead to, there are too many of them, or the store does not keep it.
pub async fn create_link(
    store: &(impl Views + Control),
    console: &ConsoleConfig,
    listens: Option<SocketAddr>,
    wanted: WantedLink,
    dry_run: bool,
) -> Result<IssuedLink, NoLink> {
    let base = base(console, listens).map_err(NoLink::Refused)?;
    let now = clock::now();
    let is_open = |token: &TokenRecord| {
        matches!(token.role, Role::Portal(_)) && token.tenant.as_ref() == Some(&wanted.tenant) && token.is_valid(now)
    };
    let open = store.tokens().await?.iter().filter(|token| is_open(token)).count();
    if open >= limits::PORTAL_LINKS_OPEN_MAX {
        return Err(NoLink::Refused(format!(
            "{open} links of `{}` are open, as many as may be: let them last for less, or revoke some",
            wanted.tenant
        )));
    }
    let mut link = IssuedLink {
        id: None,
        url: None,
        name: wanted.token.name.clone(),
        may: whoami::listed(wanted.token.role),
        ends_at: wanted.ends_at.to_string(),
        tenant: wanted.tenant,
    };
    if !dry_run {
        let issued = issue_token(store, wanted.token).await?;
        link.id = issued.id;
        link.url = issued
            .token
            .map(|secret| format!("{base}{}/{secret}", tollgate_console::DOOR));
    }
    Ok(link)
}

/// Scheme and host of the console, as people reach it.
fn base(console: &ConsoleConfig, listens: Option<SocketAddr>) -> Result<String, String> {
    if let Some(address) = &console.address {
        return Ok(address.as_str().to_owned());
    }
    match listens {
        Some(address) if !address.ip().is_unspecified() => Ok(format!("http://{address}")),
        Some(_) => Err(
            "the private listener is on every address, and none of them is named: say where people reach the console, with address in [console]"
                .to_owned(),
        ),
        None => Err("no private listener is configured, so there is no console that a link could open: set [operator] listen and token".to_owned()),
    }
}

/// `POST /v1/portal-links/{token}/revoke`.
async fn revoke<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: TokenPath { token: id },
        body,
        ..
    }: Asked<calls::RevokePortalLink>,
) -> Answered<calls::RevokePortalLink> {
    revoked(&operator, &caller, id, body, |token| {
        matches!(token.role, Role::Portal(_))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o13_a_link_leads_where_the_operator_says_or_where_the_host_listens() {
        let stated = ConsoleConfig {
            address: Some("https://hooks.example".parse().unwrap()),
            embed: Vec::new(),
        };
        let here: SocketAddr = "127.0.0.1:9090".parse().unwrap();
        let everywhere: SocketAddr = "0.0.0.0:9090".parse().unwrap();
        assert_eq!(base(&stated, Some(everywhere)).as_deref(), Ok("https://hooks.example"));
        let none = ConsoleConfig::default();
        assert_eq!(base(&none, Some(here)).as_deref(), Ok("http://127.0.0.1:9090"));
        assert!(base(&none, Some(everywhere)).unwrap_err().contains("[console]"));
        assert!(base(&none, None).unwrap_err().contains("[operator]"));
    }
}
