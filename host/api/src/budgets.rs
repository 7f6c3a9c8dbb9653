//! What routes have spent of the budgets of their grants (promise W6).

use serde::{Deserialize, Serialize};
use tollgate_core::action::ActionKind;
use tollgate_core::budget::{Budget, Most, Per, Window};
use tollgate_core::ids::{RouteName, TenantName};
use tollgate_core::money::{Currency, Money};
use tollgate_core::time::UnixMillis;

use crate::check::{ROWS_MAX, parse, rows_within};

/// Accounts that one answer shows of a budget that each account has: those that have spent most.
pub const BUDGET_ACCOUNTS_MAX: usize = 20;
/// Budgets that one answer shows when nobody asks for another number.
const BUDGETS_DEFAULT: usize = 100;

/// Which budgets are shown, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BudgetsQuery {
    /// Only this tenant's
    #[cfg_attr(feature = "cli", arg(long))]
    pub tenant: Option<String>,
    /// Only this route's
    #[cfg_attr(feature = "cli", arg(long))]
    pub route: Option<String>,
    /// Of budgets that each account has, only this account's part; without it, the accounts that have spent most
    #[cfg_attr(feature = "cli", arg(long))]
    pub account: Option<String>,
    /// At most this many budgets, by tenant and route; 100 unless said
    #[cfg_attr(feature = "cli", arg(long))]
    pub limit: Option<u64>,
}

/// A [`BudgetsQuery`], checked.
#[derive(Debug, Clone)]
pub struct BudgetsAsked {
    /// Only this tenant's.
    pub tenant: Option<TenantName>,
    /// Only this route's.
    pub route: Option<RouteName>,
    /// Only this account's part.
    pub account: Option<String>,
    /// The most budgets that are shown.
    pub rows_max: usize,
}

impl BudgetsQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<BudgetsAsked, String> {
        Ok(BudgetsAsked {
            tenant: parse("tenant", self.tenant)?,
            route: parse("route", self.route)?,
            account: self.account,
            rows_max: rows_within(self.limit, BUDGETS_DEFAULT, ROWS_MAX),
        })
    }
}

/// A budget, and what is spent of it in the window of now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct BudgetView {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route whose grant has it.
    pub route: RouteName,
    /// The kind of action that it bounds.
    pub kind: ActionKind,
    /// How long it counts before it begins anew.
    pub window: Window,
    /// Who has it.
    pub per: Per,
    /// The currency whose minor units are counted; null where actions are.
    pub currency: Option<Currency>,
    /// How much it is: minor units, or actions.
    pub most: i64,
    /// When the window of now ends; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub ends_at: UnixMillis,
    /// What is spent: of a route's budget, one row; of one that each account has, a row for each of the 20 accounts that have spent most, or
    /// for the one that was asked for.
    pub spent: Vec<AccountSpent>,
}

/// What is spent of one part of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct AccountSpent {
    /// Whose part it is: the account, of one longer than 256 bytes its beginning and its SHA-256; null for the route's.
    pub account: Option<String>,
    /// How much is spent, in what the budget counts. It is more than the budget where a person let more go.
    pub spent: i64,
    /// How much is left.
    pub left: i64,
}

impl BudgetView {
    /// The budget, as it was configured. None where it is none that can be.
    pub fn budget(&self) -> Option<Budget> {
        Some(Budget {
            kind: self.kind,
            window: self.window,
            per: self.per,
            most: match self.currency {
                Some(currency) => Most::Money(Money::new(self.most, currency)?),
                None => Most::Actions(u32::try_from(self.most).ok()?),
            },
        })
    }
}
