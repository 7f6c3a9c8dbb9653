//! What a route lets its plugin ask for.

use std::cell::RefCell;

use tollgate_core::action::ActionKind;
use tollgate_core::budget::{Budget, Most, Per, Window};
use tollgate_core::grant::Grant;
use tollgate_core::limits::{self, MINOR_UNITS_MAX};
use tollgate_core::money::{Currency, Money};

use super::raw::{Section, Value};

pub(super) fn grants(list: &Value) -> Vec<Grant> {
    // Of all grants of the route: a budget bounds a kind, whichever grant of it allowed the action.
    let budgets = RefCell::default();
    list.list_of(|element| {
        let section = element.section()?;
        let grant = grant(&section, &budgets);
        section.finish();
        grant
    })
}

/// Which bounds a kind of action has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bounds {
    Money,
    Stock,
    Names,
    None,
}

fn grant(section: &Section, of_route: &RefCell<Vec<Budget>>) -> Option<Grant> {
    let kind_value = section.require("kind", "add kind = \"credit\" or another kind of action");
    let amount_max = section.get("amount_max");
    let currencies = section.get("currencies");
    let quantity_max = section.get("quantity_max");
    let sku_prefix = section.get("sku_prefix");
    let extensions = section.get("extensions");
    let budgets = section.get("budgets");

    let kind_value = kind_value?;
    let name = kind_value.text()?;
    let Some(kind) = ActionKind::from_name(name) else {
        let known = ActionKind::ALL.into_iter().map(ActionKind::as_str);
        kind_value.unknown(format!("there is no kind of action `{name}`"), name, known, "known");
        return None;
    };
    let bounds = match kind {
        ActionKind::Credit | ActionKind::Debit | ActionKind::IssueGiftCard => Bounds::Money,
        ActionKind::ReserveStock | ActionKind::ReleaseStock => Bounds::Stock,
        ActionKind::Extension => Bounds::Names,
        // A grant cannot name a forward.
        ActionKind::Flag | ActionKind::Notify | ActionKind::Forward => Bounds::None,
    };
    for (value, belongs) in [
        (&amount_max, Bounds::Money),
        (&currencies, Bounds::Money),
        (&quantity_max, Bounds::Stock),
        (&sku_prefix, Bounds::Stock),
        (&extensions, Bounds::Names),
    ] {
        if let Some(value) = value
            && belongs != bounds
        {
            value.problem(
                format!("`{}` bounds nothing in a grant of `{kind}`", value.key()),
                "remove it",
            );
        }
    }

    let mut grant = Grant::of(kind);
    grant.amount_max = amount_max.as_ref().and_then(|value| value.integer(1..=MINOR_UNITS_MAX));
    grant.currencies = currencies
        .as_ref()
        .map(|list| list.list_of(currency))
        .unwrap_or_default();
    grant.quantity_max = quantity_max
        .and_then(|value| value.integer(1..=i64::from(u32::MAX)))
        .and_then(|number| u32::try_from(number).ok());
    grant.sku_prefix = sku_prefix.and_then(|value| value.text().map(str::to_owned));
    grant.extensions = extensions
        .as_ref()
        .map(|list| list.list_of(|element| element.text().map(str::to_owned)))
        .unwrap_or_default();
    if let Some(list) = budgets {
        grant.budgets = list.list_of(|element| budget(element, &grant, of_route));
        if grant.budgets.len() > limits::BUDGETS_PER_GRANT_MAX {
            list.problem(
                format!("a grant has at most {} budgets", limits::BUDGETS_PER_GRANT_MAX),
                "remove some",
            );
        }
    }

    if bounds == Bounds::Money && amount_max.is_none() {
        kind_value.problem(
            format!("a grant of `{kind}` needs `amount_max`"),
            "add amount_max = the most per action, in minor units: 5000 is 50.00 USD",
        );
    }
    if bounds == Bounds::Money && currencies.is_none_or(|list| list.is_empty_list()) {
        kind_value.problem(
            format!("a grant of `{kind}` needs `currencies`"),
            "add currencies = [\"USD\"]",
        );
    }
    if bounds == Bounds::Names && extensions.is_none_or(|list| list.is_empty_list()) {
        kind_value.problem(
            "a grant of `extension` needs `extensions`",
            "add extensions = [\"acme/points\"], the allowed names",
        );
    }
    Some(grant)
}

/// One budget of a grant that is read so far; `of_route` are those that its route has already.
fn budget(element: &Value, grant: &Grant, of_route: &RefCell<Vec<Budget>>) -> Option<Budget> {
    let section = element.section()?;
    let kind = grant.kind;
    let window = section.require("window", "add window = \"hour\", \"day\" or \"month\", in UTC");
    let per = section.get("per");
    let amount_max = section.get("amount_max");
    let currency = section.get("currency");
    let actions_max = section.get("actions_max");
    section.finish();

    let window = window.and_then(|value| {
        word(
            &value,
            "is no window",
            &Window::ALL.map(Window::as_str),
            Window::from_word,
        )
    });
    let per = match per {
        None => Some(Per::Route),
        Some(value) => word(&value, "can have no budget", &Per::ALL.map(Per::as_str), Per::from_word)
            .filter(|per| *per == Per::Route || has_account(&value, grant)),
    };
    let most = match (amount_max, actions_max) {
        (Some(amount), None) if kind.moves_money() => {
            let currency = of_budget(&amount, currency.as_ref(), grant);
            let amount = amount.integer(1..=MINOR_UNITS_MAX);
            Money::new(amount?, currency?).map(Most::Money)
        }
        (Some(amount), None) => {
            amount.problem(
                format!("a `{kind}` moves no money, so that `amount_max` bounds nothing"),
                "write actions_max = how many actions there may be",
            );
            None
        }
        (None, Some(actions)) => {
            if let Some(currency) = currency {
                currency.problem("actions are counted in whatever currency they are", "remove it");
            }
            let actions = actions.integer(1..=i64::from(u32::MAX))?;
            u32::try_from(actions).ok().map(Most::Actions)
        }
        (Some(_), Some(actions)) => {
            actions.problem(
                "a budget counts money or actions, not both",
                "make a budget of its own of it, beside this one",
            );
            None
        }
        (None, None) => {
            section.problem(
                "a budget needs `amount_max` or `actions_max`",
                "add amount_max = minor units, or actions_max = how many actions",
            );
            None
        }
    };
    let budget = Budget {
        kind,
        window: window?,
        per: per?,
        most: most?,
    };
    let is_there = of_route.borrow().iter().any(|other| other.counts_as(&budget));
    if is_there {
        element.problem(
            format!("the route has such a budget for `{kind}` already, and it bounds all of them"),
            "remove one",
        );
        return None;
    }
    of_route.borrow_mut().push(budget);
    Some(budget)
}

/// What one of these words means; of another, `not` says that it means nothing.
fn word<T>(value: &Value, not: &str, words: &[&str], read: fn(&str) -> Option<T>) -> Option<T> {
    let text = value.text()?;
    let found = read(text);
    if found.is_none() {
        value.unknown(format!("`{text}` {not}"), text, words.iter().copied(), "there are");
    }
    found
}

fn has_account(per: &Value, grant: &Grant) -> bool {
    let kind = grant.kind;
    if !kind.has_account() {
        per.problem(
            format!("a `{kind}` has no account, so that none can have a budget of it"),
            "remove it: the budget is the route's then",
        );
    }
    kind.has_account()
}

/// The currency of a budget: the one that it says, or the only one of its grant.
fn of_budget(amount: &Value, said: Option<&Value>, grant: &Grant) -> Option<Currency> {
    match (said, grant.currencies.as_slice()) {
        (None, [only]) => Some(*only),
        (None, _) => {
            amount.problem(
                "a budget of money needs `currency`, since its grant has not just one",
                "add currency = \"USD\"; each currency has a budget of its own",
            );
            None
        }
        (Some(value), granted) => {
            let currency = currency(value)?;
            if !granted.contains(&currency) {
                value.problem(
                    format!("the grant allows nothing in {currency}, so that the budget bounds nothing"),
                    "name a currency of `currencies`",
                );
            }
            Some(currency)
        }
    }
}

pub(super) fn currency(element: &Value) -> Option<Currency> {
    let text = element.text()?;
    let currency = Currency::new(text);
    if currency.is_none() {
        element.problem(
            format!("`{text}` is not a currency code"),
            "write three letters, for example \"USD\"",
        );
    }
    currency
}
