//! Pauses routes and destinations, and resumes them.

use std::sync::Arc;

use axum::Router;
use tollgate_api::calls;
use tollgate_api::pauses::{DestinationPath, Pause, Place};
use tollgate_api::plugins::{ActBody, RoutePath};
use tollgate_core::access::Caller;
use tollgate_core::ids::{DestinationName, RouteName, TenantName};
use tollgate_store::{Control, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::plugins::act;
use super::{Operator, Refusal};

/// The calls about pauses.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router
        .call(list::<S>)
        .call(pause_route::<S>)
        .call(resume_route::<S>)
        .call(pause_destination::<S>)
        .call(resume_destination::<S>)
}

/// `GET /v1/pauses`.
async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, .. }: Asked<calls::Pauses>,
) -> Answered<calls::Pauses> {
    let mut seen = operator.store.pauses().await?;
    seen.retain(|one| caller.sees(Some(&one.tenant)).is_ok());
    Ok(seen)
}

/// `POST /v1/tenants/{tenant}/routes/{route}/pause`.
async fn pause_route<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: RoutePath { tenant, route },
        body,
        ..
    }: Asked<calls::PauseRoute>,
) -> Answered<calls::PauseRoute> {
    let act = act(body, &caller)?;
    find_route(&operator, &tenant, &route).await?;
    Ok(operator.store.pause(tenant, Place::Route(route), act).await?)
}

/// `POST /v1/tenants/{tenant}/routes/{route}/resume`. A route that is gone may be resumed: its jobs end by the rules of such.
async fn resume_route<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: RoutePath { tenant, route },
        body,
        ..
    }: Asked<calls::ResumeRoute>,
) -> Answered<calls::ResumeRoute> {
    resume(&operator, &caller, tenant, vec![Place::Route(route)], body).await
}

/// `POST /v1/tenants/{tenant}/destinations/{destination}/pause`. What waits under a name that the destination had before waits as well.
async fn pause_destination<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: DestinationPath { tenant, destination },
        body,
        ..
    }: Asked<calls::PauseDestination>,
) -> Answered<calls::PauseDestination> {
    let act = act(body, &caller)?;
    let (name, formerly) = names(&operator, &tenant, &destination)
        .ok_or_else(|| Refusal::not_found(format!("there is no destination `{destination}` of `{tenant}`")))?;
    for name in formerly {
        operator
            .store
            .pause(tenant.clone(), Place::Destination(name), act.clone())
            .await?;
    }
    Ok(operator.store.pause(tenant, Place::Destination(name), act).await?)
}

/// `POST /v1/tenants/{tenant}/destinations/{destination}/resume`.
async fn resume_destination<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: DestinationPath { tenant, destination },
        body,
        ..
    }: Asked<calls::ResumeDestination>,
) -> Answered<calls::ResumeDestination> {
    let (name, formerly) = names(&operator, &tenant, &destination).unwrap_or_else(|| (destination, Vec::new()));
    let places = std::iter::once(name).chain(formerly).map(Place::Destination);
    resume(&operator, &caller, tenant, places.collect(), body).await
}

/// Resumes places that are one for their owner. The first of them names it.
async fn resume<S: Views + Control>(
    operator: &Operator<S>,
    caller: &Caller,
    tenant: TenantName,
    places: Vec<Place>,
    body: ActBody,
) -> Result<Pause, Refusal> {
    let act = act(body, caller)?;
    let mut ended = None;
    let said = places
        .first()
        .map(|place| format!("the {} `{}`", place.kind(), place.name()));
    for place in places {
        let resumed = operator.store.resume(tenant.clone(), place, act.clone()).await?;
        ended = ended.or(resumed);
    }
    ended.ok_or_else(|| Refusal::conflict(format!("{} of `{tenant}` is not paused", said.unwrap_or_default())))
}

async fn find_route<S: Views + Control>(
    operator: &Operator<S>,
    tenant: &TenantName,
    route: &RouteName,
) -> Result<(), Refusal> {
    let routes = operator.registry.routes(tenant).await?;
    match routes.iter().any(|live| live.route.name == *route) {
        true => Ok(()),
        false => Err(Refusal::not_found(format!("there is no route `{route}` of `{tenant}`"))),
    }
}

/// A destination's name of now, and those that it had before.
fn names<S: Views + Control>(
    operator: &Operator<S>,
    tenant: &TenantName,
    destination: &DestinationName,
) -> Option<(DestinationName, Vec<DestinationName>)> {
    let config = operator.config.load();
    let destinations = &config.tenants.get(tenant)?.destinations;
    let found = destinations
        .iter()
        .find(|(name, known)| *name == destination || known.formerly.contains(destination));
    found.map(|(name, known)| (name.clone(), known.formerly.clone()))
}
