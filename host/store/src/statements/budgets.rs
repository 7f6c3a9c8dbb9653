//! What routes have spent of their budgets (promise W6): counted in the transaction that records the actions.
//!
//! A count outlives its budget: a budget that is made larger or smaller goes on with what was spent in its window.

use tollgate_core::action::Action;
use tollgate_core::budget::{self, Budget, Over, Per, Spending};
use tollgate_core::ids::{ActionId, RouteName, TenantName};
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::rows::{self, get};
use crate::sql::{Connection, OptionalExtension as _, params};
use crate::{AccountSpent, BUDGET_ACCOUNTS_MAX, BudgetAsked, BudgetView};

/// How long the counts of a window are kept after its end, in milliseconds: longer than clocks of hosts differ.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// What a run takes of a budget, and what was spent of it before.
pub(crate) struct Spent {
    spending: Spending,
    before: i64,
}

impl Spent {
    /// Why there is not enough left.
    pub(crate) fn over(&self, at: UnixMillis) -> Option<Over> {
        self.spending.over(self.before, at)
    }
}

/// Reads what was spent before, in the windows of `at`.
pub(crate) fn spent(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    spendings: Vec<Spending>,
    at: UnixMillis,
) -> Result<Vec<Spent>, Fault> {
    let each = spendings.into_iter().map(|spending| {
        let before = of_account(connection, tenant, route, &spending.budget, &spending.account, at)?;
        Ok(Spent { spending, before })
    });
    each.collect()
}

/// Counts what a run takes, in the windows of `at`. The transaction is the only one that writes, and has read what was there.
pub(crate) fn count(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    spent: &[Spent],
    at: UnixMillis,
) -> Result<(), Fault> {
    for Spent { spending, before } in spent {
        let budget = &spending.budget;
        connection
            .prepare_cached(
                "INSERT INTO budget_counts (tenant, route, kind, unit, span, account, ends_at, spent) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
                 ON CONFLICT (tenant, route, kind, unit, span, ends_at, account) DO UPDATE SET spent = excluded.spent",
            )?
            .execute(params![
                tenant.as_str(),
                route.as_str(),
                budget.kind.as_str(),
                unit(budget),
                budget.window.as_str(),
                spending.account,
                budget.window.ends_at(at).0,
                before.saturating_add(spending.number),
            ])?;
        if *before == 0 {
            forget_old(connection, at)?;
        }
    }
    Ok(())
}

/// Removes a few counts of windows that are over, more than one is made: so there are never many of them.
fn forget_old(connection: &Connection, at: UnixMillis) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "DELETE FROM budget_counts WHERE (tenant, route, kind, unit, span, account, ends_at) IN \
             (SELECT tenant, route, kind, unit, span, account, ends_at FROM budget_counts WHERE ends_at < ?1 \
             ORDER BY ends_at, tenant, route, kind, unit, span, account LIMIT 4)",
        )?
        .execute([at.0.saturating_sub(KEPT_MS)])?;
    Ok(())
}

/// Counts an action that a person had recorded.
pub(crate) fn count_recorded(
    connection: &Connection,
    action: ActionId,
    budgets: &[Budget],
    at: UnixMillis,
) -> Result<(), Fault> {
    if budgets.is_empty() {
        return Ok(());
    }
    let mut statement = connection.prepare_cached(
        "SELECT a.json, j.tenant, j.route FROM actions a JOIN runs r ON r.id = a.run JOIN jobs j ON j.id = r.job WHERE a.id = ?1",
    )?;
    let mut found = statement.query([action.0])?;
    let row = found.next()?.ok_or_else(|| Fault::NotFound(action.to_string()))?;
    let (tenant, route): (TenantName, RouteName) = (rows::id(row, "tenant")?, rows::id(row, "route")?);
    let recorded: Action = rows::json(row, "json")?;
    let spendings = budget::spendings(budgets, std::iter::once(&recorded));
    let spent = spent(connection, &tenant, &route, spendings, at)?;
    count(connection, &tenant, &route, &spent, at)
}

/// What is counted: a currency's minor units, or for `''` actions.
fn unit(budget: &Budget) -> String {
    let currency = budget.most.currency();
    currency.map(|currency| currency.to_string()).unwrap_or_default()
}

/// What is spent in the window of `at`, of an account or with `''` of the route.
fn of_account(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    budget: &Budget,
    account: &str,
    at: UnixMillis,
) -> Result<i64, Fault> {
    let spent = connection
        .prepare_cached(
            "SELECT spent FROM budget_counts WHERE tenant = ?1 AND route = ?2 AND kind = ?3 AND unit = ?4 AND span = ?5 \
             AND account = ?6 AND ends_at = ?7",
        )?
        .query_row(
            params![
                tenant.as_str(),
                route.as_str(),
                budget.kind.as_str(),
                unit(budget),
                budget.window.as_str(),
                account,
                budget.window.ends_at(at).0,
            ],
            |row| row.get(0),
        )
        .optional()?;
    Ok(spent.unwrap_or(0))
}

/// What is spent of budgets in the windows of `at`. Of one that each account has: what `account` has spent, or without one those that
/// have spent most of it.
pub(crate) fn list(
    connection: &Connection,
    asked: &[BudgetAsked],
    account: Option<&str>,
    at: UnixMillis,
) -> Result<Vec<BudgetView>, Fault> {
    let view = |BudgetAsked { tenant, route, budget }: &BudgetAsked| {
        let of = |account: &str| of_account(connection, tenant, route, budget, account, at);
        let parts = match (budget.per, account) {
            (Per::Route, _) => vec![(None, of("")?)],
            (Per::Account, Some(account)) => {
                let account = budget::counted_as(account);
                vec![(Some(account.to_string()), of(&account)?)]
            }
            (Per::Account, None) => most_spent(connection, tenant, route, budget, at)?,
        };
        let spent = parts.into_iter().map(|(account, spent)| AccountSpent {
            account,
            spent,
            left: budget.left(spent),
        });
        Ok(BudgetView {
            tenant: tenant.clone(),
            route: route.clone(),
            kind: budget.kind,
            window: budget.window,
            per: budget.per,
            currency: budget.most.currency(),
            most: budget.most.number(),
            ends_at: budget.window.ends_at(at),
            spent: spent.collect(),
        })
    };
    asked.iter().map(view).collect()
}

/// The accounts that have spent most of a budget, with how much.
fn most_spent(
    connection: &Connection,
    tenant: &TenantName,
    route: &RouteName,
    budget: &Budget,
    at: UnixMillis,
) -> Result<Vec<(Option<String>, i64)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT account, spent FROM budget_counts WHERE tenant = ?1 AND route = ?2 AND kind = ?3 AND unit = ?4 AND span = ?5 \
         AND ends_at = ?6 AND account <> '' ORDER BY spent DESC, account LIMIT ?7",
    )?;
    let mut found = statement.query(params![
        tenant.as_str(),
        route.as_str(),
        budget.kind.as_str(),
        unit(budget),
        budget.window.as_str(),
        budget.window.ends_at(at).0,
        BUDGET_ACCOUNTS_MAX as i64,
    ])?;
    let mut accounts = Vec::new();
    while let Some(row) = found.next()? {
        accounts.push((Some(get(row, "account")?), get(row, "spent")?));
    }
    Ok(accounts)
}
