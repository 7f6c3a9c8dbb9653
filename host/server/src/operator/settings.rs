//! What tenants configure themselves: their settings with their versions, and their secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use tollgate_api::calls;
use tollgate_api::plugins::{ActBody, TenantPath};
use tollgate_api::settings::{
    RollbackBody, SecretBody, SecretChange, SecretPath, SettingsBody, SettingsChange, SettingsVersionPath, Tried,
    TriedReceipt, TriedRoute,
};
use tollgate_core::filter::{Direction, Filter, Listing};
use tollgate_core::ids::{ReceiptId, RouteName, TenantName};
use tollgate_core::limits;
use tollgate_core::secret::Secret;
use tollgate_store::{AskedList, Control, Item, StoreError, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::plugins::act;
use super::replay::routed_by;
use super::{Operator, Refusal};
use crate::config::Config;
use crate::registry::Wanted;

/// Receipts of a dry run that are shown because their jobs would be others.
const DIFFERING_MAX: usize = 20;

/// The calls about settings.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router
        .call(show::<S>)
        .call(set::<S>)
        .call(versions::<S>)
        .call(version::<S>)
        .call(roll_back::<S>)
        .call(secrets::<S>)
        .call(set_secret::<S>)
        .call(remove_secret::<S>)
        .call(reseal_secrets::<S>)
}

/// `GET /v1/tenants/{tenant}/settings`.
async fn show<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: TenantPath { tenant },
        ..
    }: Asked<calls::ShowSettings>,
) -> Answered<calls::ShowSettings> {
    Ok(operator.registry.settings(&tenant).await?)
}

/// `PUT /v1/tenants/{tenant}/settings`.
async fn set<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: TenantPath { tenant },
        body,
        ..
    }: Asked<calls::SetSettings>,
) -> Answered<calls::SetSettings> {
    let SettingsBody {
        text,
        expects,
        receipts,
        secret,
        why,
        dry_run,
        actor,
    } = body;
    let act = act(ActBody { why, dry_run, actor }, &caller)?;
    let secret = match secret {
        Some(new) => Some((new.name, pasted("secret.value", &new.value.0)?, nonce()?)),
        None => None,
    };
    if expects.is_none() && !dry_run {
        return Err(Refusal::bad(
            "expects: say which version these settings were made from, 0 for none: somebody else may have changed them since",
        ));
    }
    let wanted = Wanted {
        text,
        expects,
        text_of: None,
        secret,
        act,
    };
    change(&operator, &tenant, wanted, receipts).await
}

/// `GET /v1/tenants/{tenant}/settings/versions`.
async fn versions<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: TenantPath { tenant },
        ..
    }: Asked<calls::SettingsVersions>,
) -> Answered<calls::SettingsVersions> {
    let most = usize::try_from(limits::SETTINGS_VERSIONS_KEPT).unwrap_or(usize::MAX);
    Ok(operator.store.settings_versions(tenant, most).await?)
}

/// `GET /v1/tenants/{tenant}/settings/versions/{version}`.
async fn version<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: SettingsVersionPath { tenant, version },
        ..
    }: Asked<calls::ShowSettingsVersion>,
) -> Answered<calls::ShowSettingsVersion> {
    let found = operator.store.settings(tenant.clone(), Some(version)).await?;
    found.ok_or_else(|| no_version(&tenant, version))
}

fn no_version(tenant: &TenantName, version: u64) -> Refusal {
    Refusal::not_found(format!(
        "`{tenant}` has no version {version} of its settings, or it is no longer kept: the newest {} are",
        limits::SETTINGS_VERSIONS_KEPT
    ))
}

/// `POST /v1/tenants/{tenant}/settings/rollback`.
async fn roll_back<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: TenantPath { tenant },
        body,
        ..
    }: Asked<calls::RollBackSettings>,
) -> Answered<calls::RollBackSettings> {
    let RollbackBody {
        to,
        expects,
        receipts,
        why,
        dry_run,
        actor,
    } = body;
    let act = act(ActBody { why, dry_run, actor }, &caller)?;
    let newest = operator.store.settings_versions(tenant.clone(), 1).await?.pop();
    let newest = newest.map_or(0, |line| line.version);
    let to = match (to, newest.checked_sub(1)) {
        (Some(to), _) => to,
        (None, Some(before)) => before,
        (None, None) => {
            return Err(Refusal::conflict(format!(
                "`{tenant}` has no settings yet: there is nothing to go back from"
            )));
        }
    };
    let text = match to {
        // Before the first version there was nothing.
        0 => String::new(),
        to => {
            let found = operator.store.settings(tenant.clone(), Some(to)).await?;
            found.ok_or_else(|| no_version(&tenant, to))?.text
        }
    };
    let wanted = Wanted {
        text,
        // What is gone back from is what was looked at just now.
        expects: Some(expects.unwrap_or(newest)),
        text_of: Some(to),
        secret: None,
        act,
    };
    change(&operator, &tenant, wanted, receipts).await
}

async fn change<S: Views + Control>(
    operator: &Operator<S>,
    tenant: &TenantName,
    wanted: Wanted,
    receipts: Option<u64>,
) -> Result<SettingsChange, Refusal> {
    if !wanted.act.dry_run {
        return Ok(operator.registry.set_settings(tenant, wanted).await?);
    }
    let planned = operator.registry.plan_settings(tenant, &wanted).await?;
    let most = limits::SETTINGS_TRIED_RECEIPTS_MAX;
    let receipts = receipts.map_or(limits::SETTINGS_TRIED_RECEIPTS, |asked| {
        usize::try_from(asked).unwrap_or(most).min(most)
    });
    let now = operator.config.load_full();
    let tried = tried(&operator.store, tenant, (&now, &planned.config), receipts).await?;
    Ok(SettingsChange {
        tried: Some(tried),
        ..planned.change
    })
}

/// Routes the tenant's newest receipts by the configuration of now and by another. Nothing is changed.
async fn tried(
    store: &impl Views,
    tenant: &TenantName,
    (now, next): (&Config, &Config),
    receipts_max: usize,
) -> Result<Tried, StoreError> {
    let asked = AskedList {
        list: Listing::Events,
        filter: Filter::default(),
        tenant: Some(tenant.clone()),
        before: None,
        newer: None,
        direction: Direction::NewestFirst,
        rows_max: receipts_max.max(1),
        sends: BTreeMap::new(),
    };
    let newest = store.list(asked).await?.items;
    let newest = newest.into_iter().take(receipts_max).filter_map(|item| match item {
        Item::Event(event) => Some((event.event.receipt, event.event.event_type)),
        Item::Job(_) | Item::Run(_) | Item::Action(_) | Item::Delivery(_) | Item::Undelivered(_) | Item::Refused(_) => {
            None
        }
    });
    let newest: Vec<(ReceiptId, _)> = newest.collect();
    let mut tried = Tried {
        receipts: 0,
        routes: Vec::new(),
        differing: Vec::new(),
    };
    let mut routes: BTreeMap<RouteName, (u64, u64)> = BTreeMap::new();
    for (receipt, event_type) in newest {
        let Some([before, after]) = routed_by(store, [now, next], receipt).await? else {
            continue;
        };
        tried.receipts += 1;
        for route in &before {
            routes.entry(route.clone()).or_default().0 += 1;
        }
        for route in &after {
            routes.entry(route.clone()).or_default().1 += 1;
        }
        if before != after && tried.differing.len() < DIFFERING_MAX {
            let names = |routes: Vec<RouteName>| routes.iter().map(ToString::to_string).collect();
            tried.differing.push(TriedReceipt {
                receipt: receipt.to_string(),
                event_type: event_type.to_string(),
                before: names(before),
                after: names(after),
            });
        }
    }
    let routes = routes.into_iter().map(|(route, (before, after))| TriedRoute {
        route: route.to_string(),
        before,
        after,
    });
    tried.routes = routes.collect();
    Ok(tried)
}

/// `GET /v1/tenants/{tenant}/secrets`.
async fn secrets<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        path: TenantPath { tenant },
        ..
    }: Asked<calls::Secrets>,
) -> Answered<calls::Secrets> {
    Ok(operator.registry.secrets(&tenant).await?)
}

/// `PUT /v1/tenants/{tenant}/secrets/{secret}`.
async fn set_secret<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: SecretPath { tenant, secret: name },
        body,
        ..
    }: Asked<calls::SetSecret>,
) -> Answered<calls::SetSecret> {
    let SecretBody {
        value,
        why,
        dry_run,
        actor,
    } = body;
    let act = act(ActBody { why, dry_run, actor }, &caller)?;
    let value = pasted("value", &value.0)?;
    let nonce = nonce()?;
    let set = operator.registry.set_secret(&tenant, &name, &value, nonce, act).await;
    let (was_there, used_by) = set?;
    Ok(SecretChange {
        name,
        was_there,
        dry_run,
        used_by,
    })
}

/// A secret as somebody pasted it.
///
/// # Errors
/// When it is none; nothing of it is repeated.
fn pasted(field: &str, value: &Secret) -> Result<Secret, Refusal> {
    // As of a secret in a file: line breaks at the end come from how it was pasted.
    let mut text = value.expose();
    while let Some(before) = text.strip_suffix(b"\n").or_else(|| text.strip_suffix(b"\r")) {
        text = before;
    }
    let value = Secret::new(text);
    let bytes = value.expose().len();
    if bytes == 0 {
        return Err(Refusal::bad(format!(
            "{field}: paste the secret, as the provider shows it"
        )));
    }
    if bytes > limits::SETTINGS_SECRET_BYTES_MAX {
        let most = limits::SETTINGS_SECRET_BYTES_MAX;
        return Err(Refusal::bad(format!(
            "{field}: {bytes} bytes; a secret has at most {most}"
        )));
    }
    if value.expose().contains(&0) {
        return Err(Refusal::bad(format!(
            "{field}: a NUL byte stands in it, which is in no provider's secret; copy it again, as text"
        )));
    }
    Ok(value)
}

fn nonce() -> Result<[u8; 12], Refusal> {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).map_err(|error| Refusal::internal(format!("the system's random source: {error}")))?;
    Ok(nonce)
}

/// `DELETE /v1/tenants/{tenant}/secrets/{secret}`.
async fn remove_secret<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: SecretPath { tenant, secret: name },
        body,
        ..
    }: Asked<calls::RemoveSecret>,
) -> Answered<calls::RemoveSecret> {
    let dry_run = body.dry_run;
    let act = act(body, &caller)?;
    if !operator.registry.remove_secret(&tenant, &name, act).await? {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("`{tenant}` has no secret `{name}`"),
        ));
    }
    Ok(SecretChange {
        name,
        was_there: true,
        dry_run,
        used_by: Vec::new(),
    })
}

/// `POST /v1/secrets/reseal`.
async fn reseal_secrets<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, body, .. }: Asked<calls::ResealSecrets>,
) -> Answered<calls::ResealSecrets> {
    let act = act(body, &caller)?;
    let random = || {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).is_ok().then_some(nonce)
    };
    Ok(operator.registry.reseal_secrets(random, act).await?)
}
