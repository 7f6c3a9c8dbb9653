//! Grants: what a route lets a plugin ask for, and the judgement of what it asked.
//!
//! Guest output is untrusted. [`judge`] makes a [`GrantedAction`] of each proposal or says what is wrong with the first one
//! that is not allowed; a run's proposals are granted all together or not at all.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::{
    Action, ActionKind, Extension, GiftCard, GrantedAction, Proposal, Stock, Transfer, UncheckedAction, UncheckedMoney,
    UncheckedTransfer,
};
use crate::budget::Budget;
use crate::ids::{IdError, OperationKey};
use crate::limits;
use crate::mask;
use crate::money::{Currency, Money};

/// One permission of a route: a kind of action, and bounds where the kind has something to bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Grant {
    /// What the plugin may propose.
    pub kind: ActionKind,
    /// For kinds that move money: the most per action, in minor units. Money needs this bound.
    pub amount_max: Option<i64>,
    /// For kinds that move money: the allowed currencies. Money needs at least one.
    pub currencies: Vec<Currency>,
    /// For stock: the most per action.
    pub quantity_max: Option<u32>,
    /// For stock: what the article must start with.
    pub sku_prefix: Option<String>,
    /// For extensions: the allowed names.
    pub extensions: Vec<String>,
    /// What all actions of this kind on the route may come to, within windows of time. A grant that was kept before there were budgets
    /// has none.
    #[serde(default)]
    pub budgets: Vec<Budget>,
}

impl Grant {
    /// A grant of `kind` without bounds; for kinds that move money it grants nothing until bounds are set.
    pub fn of(kind: ActionKind) -> Self {
        Self {
            kind,
            amount_max: None,
            currencies: Vec::new(),
            quantity_max: None,
            sku_prefix: None,
            extensions: Vec::new(),
            budgets: Vec::new(),
        }
    }
}

/// For people: `credit: at most 20.00 USD each, 500.00 USD a day, 3 actions a day per account`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        let mut parts = Vec::new();
        if let Some(amount_max) = self.amount_max {
            let each = self.currencies.iter();
            let amounts: Vec<_> = each
                .filter_map(|currency| Money::new(amount_max, *currency))
                .map(|money| money.to_string())
                .collect();
            parts.push(format!("at most {} each", amounts.join(" or ")));
        }
        if let Some(quantity_max) = self.quantity_max {
            parts.push(format!("at most {quantity_max} each"));
        }
        if let Some(prefix) = &self.sku_prefix {
            parts.push(format!("articles that begin with `{}`", mask::shown(prefix)));
        }
        parts.extend(self.extensions.iter().map(|name| mask::shown(name).into_owned()));
        parts.extend(self.budgets.iter().map(Budget::to_string));
        if !parts.is_empty() {
            write!(f, ": {}", parts.join(", "))?;
        }
        Ok(())
    }
}

/// Why proposals were not granted. `at` counts proposals from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The run proposed more actions than the bound.
    #[error("{count} actions in one run; at most {} are allowed", limits::ACTIONS_PER_RUN_MAX)]
    TooMany {
        /// How many it proposed.
        count: usize,
    },
    /// The operation key cannot be one.
    #[error("action {at}: {source}")]
    OperationKey {
        /// Which proposal.
        at: usize,
        /// What is wrong with the key.
        source: IdError,
    },
    /// Two proposals of one kind have the same operation key.
    #[error("action {at}: the operation key `{key}` came before in this run for another {kind}")]
    RepeatedKey {
        /// The later of the two.
        at: usize,
        /// The key that they share.
        key: OperationKey,
        /// Their kind.
        kind: ActionKind,
    },
    /// The route has no grant of this kind.
    #[error("action {at}: the route does not grant `{kind}`; grant it on the route or remove it from the plugin")]
    NotGranted {
        /// Which proposal.
        at: usize,
        /// The kind that it proposes.
        kind: ActionKind,
    },
    /// The currency has not the form of one.
    #[error("action {at}: `{currency}` is not a currency code such as USD")]
    Currency {
        /// Which proposal.
        at: usize,
        /// What stands in the currency's place.
        currency: String,
    },
    /// The amount is zero, negative or too large to be exact everywhere.
    #[error("action {at}: the amount {minor_units} must be at least 1 and at most 2^53−1 minor units")]
    Amount {
        /// Which proposal.
        at: usize,
        /// The amount, in minor units.
        minor_units: i64,
    },
    /// The amount is over the grant's bound.
    #[error("action {at}: {amount} is over the route's {amount_max} minor units per `{kind}`")]
    AmountOverGrant {
        /// Which proposal.
        at: usize,
        /// The kind that it proposes.
        kind: ActionKind,
        /// How much it would move.
        amount: Money,
        /// The grant's bound, in minor units.
        amount_max: i64,
    },
    /// The grant does not list the currency.
    #[error("action {at}: the route does not grant `{kind}` in {currency}")]
    CurrencyNotGranted {
        /// Which proposal.
        at: usize,
        /// The kind that it proposes.
        kind: ActionKind,
        /// The currency that it proposes.
        currency: Currency,
    },
    /// The quantity is zero.
    #[error("action {at}: a quantity must be at least 1")]
    NoQuantity {
        /// Which proposal.
        at: usize,
    },
    /// The quantity is over the grant's bound.
    #[error("action {at}: quantity {quantity} is over the route's {quantity_max}")]
    QuantityOverGrant {
        /// Which proposal.
        at: usize,
        /// How many pieces it would hold or let go.
        quantity: u32,
        /// The grant's bound.
        quantity_max: u32,
    },
    /// The grant is for other articles.
    #[error("action {at}: article `{sku}` does not start with the route's `{prefix}`")]
    SkuNotGranted {
        /// Which proposal.
        at: usize,
        /// The article that it proposes.
        sku: String,
        /// What the article must start with.
        prefix: String,
    },
    /// The score is over 100.
    #[error("action {at}: score {score} is over 100")]
    Score {
        /// Which proposal.
        at: usize,
        /// The score that it gives.
        score: u32,
    },
    /// The grant does not list the extension.
    #[error("action {at}: the extension `{name}` is not granted on this route")]
    ExtensionNotGranted {
        /// Which proposal.
        at: usize,
        /// The extension that it proposes.
        name: String,
    },
    /// The body of an extension is no JSON.
    #[error("action {at}: the extension's body is not JSON: {reason}")]
    ExtensionBody {
        /// Which proposal.
        at: usize,
        /// What the parser says.
        reason: String,
    },
    /// A text that the receiver needs is empty.
    #[error("action {at}: `{field}` is empty")]
    EmptyText {
        /// Which proposal.
        at: usize,
        /// The field of the action.
        field: &'static str,
    },
    /// A text is over the bound.
    #[error(
        "action {at}: `{field}` is {bytes} bytes long; at most {} are allowed",
        limits::ACTION_TEXT_BYTES_MAX
    )]
    LongText {
        /// Which proposal.
        at: usize,
        /// The field of the action.
        field: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// A list is over the bound.
    #[error(
        "action {at}: `{field}` has {count} entries; at most {} are allowed",
        limits::ACTION_LIST_MAX
    )]
    LongList {
        /// Which proposal.
        at: usize,
        /// The field of the action.
        field: &'static str,
        /// How many entries it has.
        count: usize,
    },
    /// The whole action is over the bound.
    #[error(
        "action {at}: {bytes} bytes as JSON; at most {} are allowed",
        limits::ACTION_BYTES_MAX
    )]
    TooBig {
        /// Which proposal.
        at: usize,
        /// Its length as JSON.
        bytes: usize,
    },
}

impl Violation {
    /// The rule that was broken, as a stable slug for metrics.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "too-many",
            Self::OperationKey { .. } => "operation-key",
            Self::RepeatedKey { .. } => "repeated-key",
            Self::NotGranted { .. } => "kind",
            Self::Currency { .. } | Self::Amount { .. } => "money",
            Self::AmountOverGrant { .. } => "amount-max",
            Self::CurrencyNotGranted { .. } => "currencies",
            Self::NoQuantity { .. } => "quantity",
            Self::QuantityOverGrant { .. } => "quantity-max",
            Self::SkuNotGranted { .. } => "sku-prefix",
            Self::Score { .. } => "score",
            Self::ExtensionNotGranted { .. } => "extensions",
            Self::ExtensionBody { .. } => "extension-body",
            Self::EmptyText { .. } | Self::LongText { .. } | Self::LongList { .. } => "text",
            Self::TooBig { .. } => "size",
        }
    }
}

/// Judges a run's proposals by the route's grants and the host's bounds.
///
/// # Errors
/// The first violation; then none of the proposals is granted.
pub fn judge(proposals: Vec<Proposal>, grants: &[Grant]) -> Result<Vec<GrantedAction>, Violation> {
    let well_formed = well_formed_with(proposals, |at, action| check_grant(at, action, grants))?;
    Ok(well_formed
        .into_iter()
        .map(|(key, action)| GrantedAction::new(key, action))
        .collect())
}

/// The actions that a run's proposals are when they keep to the host's bounds, whatever a route would grant. For trying plugins.
///
/// # Errors
/// The first violation.
pub fn well_formed(proposals: Vec<Proposal>) -> Result<Vec<(OperationKey, Action)>, Violation> {
    well_formed_with(proposals, |_, _| Ok(()))
}

fn well_formed_with(
    proposals: Vec<Proposal>,
    granted: impl Fn(usize, &Action) -> Result<(), Violation>,
) -> Result<Vec<(OperationKey, Action)>, Violation> {
    if proposals.len() > limits::ACTIONS_PER_RUN_MAX {
        return Err(Violation::TooMany { count: proposals.len() });
    }
    let mut seen = BTreeSet::new();
    let mut well_formed = Vec::with_capacity(proposals.len());
    for (at, proposal) in proposals.into_iter().enumerate() {
        let key =
            OperationKey::new(&proposal.operation_key).map_err(|source| Violation::OperationKey { at, source })?;
        let action = check_shape(at, proposal.action)?;
        granted(at, &action)?;
        if !seen.insert((action.kind(), key.clone())) {
            return Err(Violation::RepeatedKey {
                at,
                key,
                kind: action.kind(),
            });
        }
        well_formed.push((key, action));
    }
    Ok(well_formed)
}

/// Makes a well-formed [`Action`] of guest output, whatever the route grants.
fn check_shape(at: usize, unchecked: UncheckedAction) -> Result<Action, Violation> {
    let text = |field, value: String| match value.len() {
        0 => Err(Violation::EmptyText { at, field }),
        bytes if bytes > limits::ACTION_TEXT_BYTES_MAX => Err(Violation::LongText { at, field, bytes }),
        _ => Ok(value),
    };
    let list = |field, count| {
        if count > limits::ACTION_LIST_MAX {
            Err(Violation::LongList { at, field, count })
        } else {
            Ok(())
        }
    };
    let transfer = |unchecked: UncheckedTransfer| {
        Ok(Transfer {
            account: text("account", unchecked.account)?,
            amount: money(at, unchecked.amount)?,
            reason: text("reason", unchecked.reason)?,
        })
    };
    let stock = |stock: Stock| {
        if stock.quantity == 0 {
            return Err(Violation::NoQuantity { at });
        }
        Ok(Stock {
            sku: text("sku", stock.sku)?,
            quantity: stock.quantity,
            reference: text("reference", stock.reference)?,
        })
    };
    let action = match unchecked {
        UncheckedAction::Credit(unchecked) => Action::Credit(transfer(unchecked)?),
        UncheckedAction::Debit(unchecked) => Action::Debit(transfer(unchecked)?),
        UncheckedAction::ReserveStock(unchecked) => Action::ReserveStock(stock(unchecked)?),
        UncheckedAction::ReleaseStock(unchecked) => Action::ReleaseStock(stock(unchecked)?),
        UncheckedAction::IssueGiftCard {
            recipient,
            amount,
            template,
        } => Action::IssueGiftCard(GiftCard {
            recipient: text("recipient", recipient)?,
            amount: money(at, amount)?,
            template: text("template", template)?,
        }),
        UncheckedAction::Flag(flag) => {
            if flag.score > 100 {
                return Err(Violation::Score { at, score: flag.score });
            }
            list("reasons", flag.reasons.len())?;
            text("subject", flag.subject.clone())?;
            for reason in &flag.reasons {
                text("reasons", reason.clone())?;
            }
            Action::Flag(flag)
        }
        UncheckedAction::Notify(notice) => {
            list("values", notice.values.len())?;
            text("channel", notice.channel.clone())?;
            text("recipient", notice.recipient.clone())?;
            text("template", notice.template.clone())?;
            Action::Notify(notice)
        }
        UncheckedAction::Extension(extension) => {
            text("kind", extension.name.clone())?;
            text("schema", extension.schema.clone())?;
            serde_json::from_str::<serde::de::IgnoredAny>(&extension.body).map_err(|error| {
                Violation::ExtensionBody {
                    at,
                    reason: error.to_string(),
                }
            })?;
            Action::Extension(extension)
        }
    };
    let bytes = action.to_json().len();
    if bytes > limits::ACTION_BYTES_MAX {
        return Err(Violation::TooBig { at, bytes });
    }
    Ok(action)
}

fn money(at: usize, unchecked: UncheckedMoney) -> Result<Money, Violation> {
    let currency = Currency::new(&unchecked.currency).ok_or(Violation::Currency {
        at,
        currency: unchecked.currency,
    })?;
    Money::new(unchecked.minor_units, currency)
        .filter(|money| money.minor_units() >= 1)
        .ok_or(Violation::Amount {
            at,
            minor_units: unchecked.minor_units,
        })
}

/// An action is granted when one grant of its kind allows it; the violation is the last such grant's.
fn check_grant(at: usize, action: &Action, grants: &[Grant]) -> Result<(), Violation> {
    let mut violation = Violation::NotGranted {
        at,
        kind: action.kind(),
    };
    for grant in grants.iter().filter(|grant| grant.kind == action.kind()) {
        match within(at, action, grant) {
            Ok(()) => return Ok(()),
            Err(over) => violation = over,
        }
    }
    Err(violation)
}

fn within(at: usize, action: &Action, grant: &Grant) -> Result<(), Violation> {
    if let Some(amount) = action.amount() {
        let Some(amount_max) = grant.amount_max else {
            return Err(Violation::NotGranted { at, kind: grant.kind });
        };
        if !grant.currencies.contains(&amount.currency()) {
            return Err(Violation::CurrencyNotGranted {
                at,
                kind: grant.kind,
                currency: amount.currency(),
            });
        }
        if amount.minor_units() > amount_max {
            return Err(Violation::AmountOverGrant {
                at,
                kind: grant.kind,
                amount,
                amount_max,
            });
        }
    }
    match action {
        Action::ReserveStock(stock) | Action::ReleaseStock(stock) => {
            if let Some(quantity_max) = grant.quantity_max
                && stock.quantity > quantity_max
            {
                return Err(Violation::QuantityOverGrant {
                    at,
                    quantity: stock.quantity,
                    quantity_max,
                });
            }
            if let Some(prefix) = &grant.sku_prefix
                && !stock.sku.starts_with(prefix.as_str())
            {
                return Err(Violation::SkuNotGranted {
                    at,
                    sku: stock.sku.clone(),
                    prefix: prefix.clone(),
                });
            }
        }
        Action::Extension(Extension { name, .. }) => {
            if !grant.extensions.contains(name) {
                return Err(Violation::ExtensionNotGranted { at, name: name.clone() });
            }
        }
        Action::Credit(_)
        | Action::Debit(_)
        | Action::IssueGiftCard(_)
        | Action::Flag(_)
        | Action::Notify(_)
        // No proposal becomes a forward.
        | Action::Forward(_) => {}
    }
    Ok(())
}

/// The budgets in grants that bound one of these kinds of action.
pub fn bounding(grants: &[Grant], is_wanted: impl Fn(ActionKind) -> bool) -> Vec<Budget> {
    grants
        .iter()
        .filter(|grant| is_wanted(grant.kind))
        .flat_map(|grant| grant.budgets.iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn credit(minor_units: i64, currency: &str) -> Proposal {
        Proposal {
            operation_key: "cashback:r_1".into(),
            action: UncheckedAction::Credit(UncheckedTransfer {
                account: "cust_1".into(),
                amount: UncheckedMoney {
                    minor_units,
                    currency: currency.into(),
                },
                reason: "cashback".into(),
            }),
        }
    }

    fn up_to_50_usd() -> Vec<Grant> {
        vec![Grant {
            amount_max: Some(5000),
            currencies: vec![Currency::new("USD").unwrap()],
            ..Grant::of(ActionKind::Credit)
        }]
    }

    #[test]
    fn each_overstep_is_named() {
        let usd = up_to_50_usd();
        let (flag, unbounded) = ([Grant::of(ActionKind::Flag)], [Grant::of(ActionKind::Credit)]);
        let not_granted = "the route does not grant `credit`; grant it on the route or remove it from the plugin";
        let spaced = Proposal {
            operation_key: "a b".into(),
            ..credit(5, "USD")
        };
        for (proposal, grants, expect) in [
            (credit(5000, "USD"), &usd[..], ""),
            (
                credit(5001, "USD"),
                &usd,
                "50.01 USD is over the route's 5000 minor units per `credit`",
            ),
            (credit(1, "EUR"), &usd, "the route does not grant `credit` in EUR"),
            (
                credit(0, "USD"),
                &usd,
                "the amount 0 must be at least 1 and at most 2^53−1 minor units",
            ),
            (
                credit(-5, "USD"),
                &usd,
                "the amount -5 must be at least 1 and at most 2^53−1 minor units",
            ),
            (
                credit(5, "DOLLARS"),
                &usd,
                "`DOLLARS` is not a currency code such as USD",
            ),
            (credit(5, "USD"), &flag, not_granted),
            (credit(5, "USD"), &unbounded, not_granted),
            (
                spaced,
                &usd,
                "operation key has the character ' ' at byte 1; allowed: visible ASCII",
            ),
        ] {
            let found = judge(vec![proposal], grants)
                .err()
                .map(|violation| violation.to_string());
            let expect = (!expect.is_empty()).then(|| format!("action 0: {expect}"));
            assert_eq!(found, expect);
        }
    }

    #[test]
    fn w6_a_grant_is_said_in_words() {
        use crate::budget::{Most, Per, Window};
        let [usd, jpy] = ["USD", "JPY"].map(|code| Currency::new(code).unwrap());
        let budget = |window, per, most| Budget {
            kind: ActionKind::Credit,
            window,
            per,
            most,
        };
        let money = |minor_units| Most::Money(Money::new(minor_units, usd).unwrap());
        for (grant, expect) in [
            (
                Grant {
                    amount_max: Some(2_000),
                    currencies: vec![usd],
                    budgets: vec![
                        budget(Window::Day, Per::Route, money(50_000)),
                        budget(Window::Hour, Per::Account, Most::Actions(3)),
                    ],
                    ..Grant::of(ActionKind::Credit)
                },
                "credit: at most 20.00 USD each, 500.00 USD a day, 3 actions an hour per account",
            ),
            (
                Grant {
                    amount_max: Some(2_000),
                    currencies: vec![usd, jpy],
                    ..Grant::of(ActionKind::Debit)
                },
                "debit: at most 20.00 USD or 2000 JPY each",
            ),
            (
                Grant {
                    quantity_max: Some(2),
                    sku_prefix: Some("mug-".into()),
                    ..Grant::of(ActionKind::ReserveStock)
                },
                "reserve-stock: at most 2 each, articles that begin with `mug-`",
            ),
            (
                Grant {
                    extensions: vec!["acme/points".into()],
                    ..Grant::of(ActionKind::Extension)
                },
                "extension: acme/points",
            ),
            (Grant::of(ActionKind::Flag), "flag"),
        ] {
            assert_eq!(grant.to_string(), expect);
        }
        // One that was kept before there were budgets.
        let kept = r#"{"kind":"flag","amount_max":null,"currencies":[],"quantity_max":null,"sku_prefix":null,"extensions":[]}"#;
        assert_eq!(
            serde_json::from_str::<Grant>(kept).unwrap(),
            Grant::of(ActionKind::Flag)
        );
    }

    #[test]
    fn one_run_cannot_use_an_operation_key_twice_for_a_kind() {
        let violation = judge(vec![credit(1, "USD"), credit(2, "USD")], &up_to_50_usd()).unwrap_err();
        assert!(matches!(violation, Violation::RepeatedKey { at: 1, .. }), "{violation}");
    }

    #[test]
    fn an_extension_is_granted_by_name_and_must_be_json() {
        let extension = |body: &str| Proposal {
            operation_key: "k".into(),
            action: UncheckedAction::Extension(Extension {
                name: "acme/points".into(),
                schema: "1".into(),
                body: body.into(),
            }),
        };
        let grants = [Grant {
            extensions: vec!["acme/points".into()],
            ..Grant::of(ActionKind::Extension)
        }];
        assert!(judge(vec![extension("{}")], &grants).is_ok());
        assert!(matches!(
            judge(vec![extension("{")], &grants),
            Err(Violation::ExtensionBody { at: 0, .. })
        ));
        let other = [Grant {
            extensions: vec!["acme/other".into()],
            ..Grant::of(ActionKind::Extension)
        }];
        assert!(matches!(
            judge(vec![extension("{}")], &other),
            Err(Violation::ExtensionNotGranted { at: 0, .. })
        ));
    }

    proptest! {
        /// Whatever amount a guest names, what is granted lies within the grant.
        #[test]
        fn no_amount_slips_past_its_grant(minor_units in any::<i64>(), amount_max in 0_i64..10_000) {
            let grants = vec![Grant {
                amount_max: Some(amount_max),
                currencies: vec![Currency::new("USD").unwrap()],
                ..Grant::of(ActionKind::Credit)
            }];
            match judge(vec![credit(minor_units, "USD")], &grants) {
                Ok(granted) => {
                    let amount = granted[0].action().amount().unwrap().minor_units();
                    prop_assert_eq!(amount, minor_units);
                    prop_assert!((1..=amount_max).contains(&amount));
                }
                Err(_) => prop_assert!(!(1..=amount_max).contains(&minor_units)),
            }
        }
    }
}
