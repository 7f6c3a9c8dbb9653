//! Budgets: how much of a kind of action a route may record in a window of time, as a whole or for each account (promise W6).
//!
//! A grant bounds one action; a budget bounds what they come to. A store counts what it records in the transaction that records it, so
//! that two runs never spend the same rest. A run that would go beyond a budget records nothing, and its job is held for a person.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionKind};
use crate::ids::{Digest, OperationKey};
use crate::mask;
use crate::money::{Currency, Money};
use crate::time::UnixMillis;

/// The outcome of a run whose job a budget held.
pub const OUTCOME: &str = "over-budget";
/// How the reason of such a job begins.
pub const OVER: &str = "over the budget of ";
/// The longest account that is counted under its whole name, in bytes.
const ACCOUNT_BYTES_MAX: usize = 256;
/// How much of a longer one stands before its digest, in bytes.
const ACCOUNT_BYTES_SHOWN: usize = 128;
/// How much of an account a reason shows, in bytes.
const REASON_BYTES_SHOWN: usize = 64;

/// The most that a route's actions of one kind may come to within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Budget {
    /// The kind of action that it bounds.
    pub kind: ActionKind,
    /// How long it counts before it begins anew.
    pub window: Window,
    /// Who has it.
    pub per: Per,
    /// How much it is.
    pub most: Most,
}

/// A part of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// From minute 0 to the next hour.
    Hour,
    /// From midnight in UTC to the next.
    Day,
    /// From midnight in UTC of a month's first day to that of the next month.
    Month,
}

/// Who has a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// The route as a whole.
    Route,
    /// Each account that the route's actions name.
    Account,
}

/// How much a budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Most {
    /// So much money; actions in other currencies take nothing of it.
    Money(Money),
    /// So many actions, in whatever currency.
    Actions(u32),
}

impl Window {
    /// Every window, the shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// The word in files, in JSON and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The window with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == word)
    }

    /// When the window that `at` lies in ends: the first instant of the next one.
    pub fn ends_at(self, at: UnixMillis) -> UnixMillis {
        match self {
            Self::Hour => at.next_multiple_of(60 * 60 * 1000),
            Self::Day => at.next_multiple_of(24 * 60 * 60 * 1000),
            Self::Month => at.next_month(),
        }
    }
}

impl Per {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Route, Self::Account];

    /// The word in files and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Account => "account",
        }
    }

    /// The one with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|per| per.as_str() == word)
    }
}

impl Most {
    /// What is counted: minor units, or actions.
    pub fn number(self) -> i64 {
        match self {
            Self::Money(money) => money.minor_units(),
            Self::Actions(actions) => i64::from(actions),
        }
    }

    /// The currency whose minor units are counted; none where actions are.
    pub fn currency(self) -> Option<Currency> {
        match self {
            Self::Money(money) => Some(money.currency()),
            Self::Actions(_) => None,
        }
    }

    /// So much of the same, for people: `20.00 USD`, `1 action`, `3 actions`.
    pub fn in_words(self, number: i64) -> String {
        match self.currency() {
            Some(currency) => match Money::new(number, currency) {
                Some(money) => money.to_string(),
                None => format!("{number} minor units of {currency}"),
            },
            None if number == 1 => "1 action".to_owned(),
            None => format!("{number} actions"),
        }
    }
}

/// For people: `500.00 USD a day`, `3 actions a day per account`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = match self.window {
            Window::Hour => "an",
            Window::Day | Window::Month => "a",
        };
        let most = self.most.in_words(self.most.number());
        write!(f, "{most} {article} {}", self.window.as_str())?;
        match self.per {
            Per::Route => Ok(()),
            Per::Account => f.write_str(" per account"),
        }
    }
}

impl Budget {
    /// Whether both count the same thing, so that a route can have only one of them.
    pub fn counts_as(&self, other: &Self) -> bool {
        let what = |budget: &Self| (budget.kind, budget.window, budget.per, budget.most.currency());
        what(self) == what(other)
    }

    /// How much is left when so much is spent; never negative. More may be spent than there was, where a person said so.
    pub fn left(&self, spent: i64) -> i64 {
        self.most.number().saturating_sub(spent).max(0)
    }

    /// What an action takes of it, and of whose part: empty for the route's. None where it takes nothing.
    fn taken<'a>(&self, action: &'a Action) -> Option<(Cow<'a, str>, i64)> {
        if action.kind() != self.kind {
            return None;
        }
        let number = match self.most {
            Most::Money(most) => action
                .amount()
                .filter(|amount| amount.currency() == most.currency())?
                .minor_units(),
            Most::Actions(_) => 1,
        };
        let account = match self.per {
            Per::Route => Cow::Borrowed(""),
            Per::Account => counted_as(action.account()?),
        };
        Some((account, number))
    }
}

/// The name under which an account is counted: its own, or of a long one its beginning and its SHA-256.
pub fn counted_as(account: &str) -> Cow<'_, str> {
    if account.len() <= ACCOUNT_BYTES_MAX {
        return Cow::Borrowed(account);
    }
    let shown = &account[..account.floor_char_boundary(ACCOUNT_BYTES_SHOWN)];
    Cow::Owned(format!("{shown}…{}", Digest::of(account.as_bytes())))
}

/// What the actions of one run take of one budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spending {
    /// The budget.
    pub budget: Budget,
    /// Whose part of it; empty for the route's.
    pub account: String,
    /// How much, in what the budget counts.
    pub number: i64,
}

/// What actions take of budgets, each part of each budget once.
pub fn spendings<'a>(budgets: &[Budget], actions: impl Iterator<Item = &'a Action> + Clone) -> Vec<Spending> {
    let mut spendings = Vec::new();
    for budget in budgets {
        let mut parts: BTreeMap<Cow<'a, str>, i64> = BTreeMap::new();
        for (account, number) in actions.clone().filter_map(|action| budget.taken(action)) {
            let part = parts.entry(account).or_default();
            *part = part.saturating_add(number);
        }
        spendings.extend(parts.into_iter().map(|(account, number)| Spending {
            budget: *budget,
            account: account.into_owned(),
            number,
        }));
    }
    spendings
}

impl Spending {
    /// Why it cannot be spent at `at`, when so much is spent in that window already. None when there is enough left.
    pub fn over(&self, spent: i64, at: UnixMillis) -> Option<Over> {
        let after = spent.saturating_add(self.number);
        (after > self.budget.most.number()).then(|| Over {
            spending: self.clone(),
            spent,
            ends_at: self.budget.window.ends_at(at),
        })
    }
}

/// A budget that a run would go beyond. As text it says which, for the person who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// What the run asks for.
    pub spending: Spending,
    /// What is spent already.
    pub spent: i64,
    /// When the window ends.
    pub ends_at: UnixMillis,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spending {
            budget,
            account,
            number,
        } = &self.spending;
        let (kind, most) = (budget.kind, budget.most);
        write!(f, "{OVER}{budget} for `{kind}`: ")?;
        if budget.per == Per::Account {
            write!(f, "`{}` has ", mask::line(account, REASON_BYTES_SHOWN))?;
        }
        write!(
            f,
            "{} spent, {} more asked for; the {} ends at {}",
            most.in_words(self.spent),
            most.in_words(*number),
            budget.window.as_str(),
            self.ends_at
        )
    }
}

/// What the budgets of one route would have held, if its runs had been settled one after the other: for runs that are repeated.
///
/// It knows only what it was shown: a budget is whole at the first run of each window, and a run beyond it spends nothing.
#[derive(Debug, Default)]
pub struct Tally {
    spent: BTreeMap<(ActionKind, Window, Option<Currency>, String, UnixMillis), i64>,
    recorded: BTreeSet<(ActionKind, OperationKey)>,
}

impl Tally {
    /// Takes the actions of a run at `at`, each with its operation key. Returns the budget that would have held it. An operation that
    /// came before spends nothing a second time.
    pub fn add(&mut self, budgets: &[Budget], actions: &[(OperationKey, Action)], at: UnixMillis) -> Option<Over> {
        let name = |key: &OperationKey, action: &Action| (action.kind(), key.clone());
        let new: Vec<_> = actions
            .iter()
            .filter(|(key, action)| !self.recorded.contains(&name(key, action)))
            .collect();
        let spendings = spendings(budgets, new.iter().map(|(_, action)| action));
        let place = |spending: &Spending| {
            let Budget { kind, window, most, .. } = spending.budget;
            (
                kind,
                window,
                most.currency(),
                spending.account.clone(),
                window.ends_at(at),
            )
        };
        for spending in &spendings {
            let spent = self.spent.get(&place(spending)).copied().unwrap_or_default();
            let over = spending.over(spent, at);
            if over.is_some() {
                return over;
            }
        }
        for spending in &spendings {
            let spent = self.spent.entry(place(spending)).or_default();
            *spent = spent.saturating_add(spending.number);
        }
        self.recorded.extend(new.iter().map(|(key, action)| name(key, action)));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Flag, Transfer};

    fn money(minor_units: i64, currency: &str) -> Money {
        Money::new(minor_units, Currency::new(currency).unwrap()).unwrap()
    }

    fn credit(account: &str, minor_units: i64, currency: &str) -> Action {
        Action::Credit(Transfer {
            account: account.into(),
            amount: money(minor_units, currency),
            reason: "cashback".into(),
        })
    }

    fn budget(window: Window, per: Per, most: Most) -> Budget {
        Budget {
            kind: ActionKind::Credit,
            window,
            per,
            most,
        }
    }

    fn at(text: &str) -> UnixMillis {
        UnixMillis::from_rfc3339(text).unwrap()
    }

    #[test]
    fn w6_windows_are_parts_of_the_calendar_in_utc() {
        use Window::{Day, Hour, Month};
        for (window, instant, ends_at) in [
            (Hour, "2026-05-05T10:00:00Z", "2026-05-05T11:00:00Z"),
            (Hour, "2026-05-05T10:59:59.999Z", "2026-05-05T11:00:00Z"),
            (Hour, "2026-12-31T23:30:00Z", "2027-01-01T00:00:00Z"),
            (Day, "2026-05-05T00:00:00Z", "2026-05-06T00:00:00Z"),
            // The offset is another's: the window is UTC's.
            (Day, "2026-05-05T23:00:00-05:00", "2026-05-07T00:00:00Z"),
            (Day, "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
            (Month, "2026-02-28T23:59:59Z", "2026-03-01T00:00:00Z"),
            (Month, "2024-02-29T12:00:00Z", "2024-03-01T00:00:00Z"),
            (Month, "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Month, "2026-05-31T00:00:00Z", "2026-06-01T00:00:00Z"),
        ] {
            assert_eq!(window.ends_at(at(instant)), at(ends_at), "{window:?} of {instant}");
        }
    }

    #[test]
    fn w6_an_action_takes_of_the_budgets_of_its_kind_currency_and_account() {
        let a_day = budget(Window::Day, Per::Route, Most::Money(money(50_000, "USD")));
        let each = budget(Window::Day, Per::Account, Most::Actions(3));
        let flag = Action::Flag(Flag {
            subject: "r_1".into(),
            score: 1,
            reasons: Vec::new(),
        });
        let actions = [
            credit("ann", 700, "USD"),
            credit("bob", 500, "EUR"),
            credit("ann", 300, "USD"),
            flag,
        ];
        let found: Vec<_> = spendings(&[a_day, each], actions.iter())
            .into_iter()
            .map(|spending| (spending.budget.to_string(), spending.account, spending.number))
            .collect();
        let expect = [
            ("500.00 USD a day", "", 1000),
            ("3 actions a day per account", "ann", 2),
            ("3 actions a day per account", "bob", 1),
        ];
        assert_eq!(
            found,
            expect.map(|(budget, account, number)| (budget.to_owned(), account.to_owned(), number))
        );
    }

    #[test]
    fn w6_what_is_over_says_which_budget_and_until_when() {
        let now = at("2026-05-05T10:00:00Z");
        let a_day = budget(Window::Day, Per::Route, Most::Money(money(50_000, "USD")));
        let each = budget(Window::Hour, Per::Account, Most::Actions(1));
        let spending = |budget, number| Spending {
            budget,
            account: match budget.per {
                Per::Route => String::new(),
                Per::Account => "ann\n".into(),
            },
            number,
        };
        assert_eq!(spending(a_day, 1_000).over(49_000, now), None, "to the last cent");
        let over = |budget, number, spent| spending(budget, number).over(spent, now).unwrap().to_string();
        assert_eq!(
            over(a_day, 1_900, 49_000),
            "over the budget of 500.00 USD a day for `credit`: 490.00 USD spent, 19.00 USD more asked for; the day ends at \
             2026-05-06T00:00:00.000Z"
        );
        assert_eq!(
            over(each, 2, 1),
            "over the budget of 1 action an hour per account for `credit`: `ann ` has 1 action spent, 2 actions more asked for; the hour \
             ends at 2026-05-05T11:00:00.000Z"
        );
        // Where a person let more go, and beyond what a number holds.
        assert_eq!((a_day.left(49_000), a_day.left(60_000)), (1_000, 0));
        assert!(spending(a_day, i64::MAX).over(i64::MAX, now).is_some());
    }

    #[test]
    fn w6_a_long_account_is_counted_under_a_short_name_of_its_own() {
        let long = "é".repeat(500);
        let name = counted_as(&long);
        assert!(name.len() <= ACCOUNT_BYTES_MAX && name.starts_with("éé"), "{name}");
        assert_ne!(name, counted_as(&format!("{long}é")));
        assert_eq!(counted_as("cust_1"), "cust_1");
    }

    #[test]
    fn w6_a_tally_holds_what_a_store_would_hold() {
        let budgets = [
            budget(Window::Day, Per::Route, Most::Money(money(1_000, "USD"))),
            budget(Window::Day, Per::Account, Most::Actions(2)),
        ];
        let mut tally = Tally::default();
        for (time, key, account, minor_units, is_held) in [
            ("2026-05-05T10:00:00Z", "a", "ann", 600, false),
            ("2026-05-05T11:00:00Z", "a", "ann", 600, false),
            ("2026-05-05T11:00:00Z", "b", "bob", 500, true),
            ("2026-05-05T11:00:00Z", "b", "bob", 400, false),
            ("2026-05-05T12:00:00Z", "c", "ann", 1, true),
            ("2026-05-06T00:00:00Z", "c", "ann", 1, false),
            ("2026-05-06T00:00:00Z", "d", "ann", 1, false),
            ("2026-05-06T00:00:00Z", "e", "ann", 1, true),
            ("2026-05-06T00:00:00Z", "e", "bob", 1, false),
        ] {
            let actions = [(OperationKey::new(key).unwrap(), credit(account, minor_units, "USD"))];
            let over = tally.add(&budgets, &actions, at(time));
            assert_eq!(over.is_some(), is_held, "{time} {key}: {over:?}");
        }
    }
}
