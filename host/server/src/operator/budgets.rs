//! Shows the budgets of routes, and what is left of them.

use std::sync::Arc;

use axum::Router;
use tollgate_api::budgets::BudgetsAsked;
use tollgate_api::calls;
use tollgate_store::{BudgetAsked, Control, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal};
use crate::clock;
use crate::config::Config;

/// The calls about budgets.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(list::<S>)
}

/// `GET /v1/budgets`.
async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Budgets>,
) -> Answered<calls::Budgets> {
    let mut asked = query.checked().map_err(Refusal::bad)?;
    asked.tenant = caller.narrowed(asked.tenant)?;
    let budgets = configured(&operator.config.load(), &asked);
    Ok(operator.store.budgets(budgets, asked.account, clock::now()).await?)
}

/// The budgets of the routes of now, by tenant and route.
fn configured(config: &Config, asked: &BudgetsAsked) -> Vec<BudgetAsked> {
    let mut found = Vec::new();
    for tenant in config.tenants.values() {
        if asked.tenant.as_ref().is_some_and(|only| *only != tenant.name) {
            continue;
        }
        for route in &tenant.routes {
            if asked.route.as_ref().is_some_and(|only| *only != route.name) {
                continue;
            }
            found.extend(BudgetAsked::of_route(&tenant.name, &route.name, &route.grants));
        }
    }
    found.sort_by(|one, other| (&one.tenant, &one.route).cmp(&(&other.tenant, &other.route)));
    found.truncate(asked.rows_max);
    found
}
