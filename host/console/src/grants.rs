//! What a route lets its plugin ask for, in words, and the fields of a form that say it.
//!
//! Budgets are written as they are read: `500.00 USD a day`, `3 actions a day per account`, one a line.

use serde::Deserialize;
use serde_json::Value as Json;
use tollgate_core::action::ActionKind;
use tollgate_core::budget::{Budget, Most, Per, Window};
use tollgate_core::grant::Grant;
use tollgate_core::mask;
use tollgate_core::money::{Currency, Money};
use toml_edit::{Array, InlineTable, Value};

use crate::fields::{Field, Kind, Wrong, head, line};
use crate::visit::Filled;

/// What a grant allows, as a sentence: `May credit at most 20.00 USD each, 500.00 USD a day, 3 actions a day per account`.
pub(crate) fn in_words(grant: &Grant) -> String {
    let mut parts = Vec::new();
    if let Some(most) = grant.amount_max {
        let amounts = grant
            .currencies
            .iter()
            .filter_map(|currency| Money::new(most, *currency));
        let amounts: Vec<_> = amounts.map(|money| money.to_string()).collect();
        parts.push(format!("at most {} each", amounts.join(" or ")));
    }
    if let Some(most) = grant.quantity_max {
        parts.push(format!("at most {most} each"));
    }
    if let Some(prefix) = &grant.sku_prefix {
        parts.push(format!("articles that begin with {}", mask::line(prefix, 60)));
    }
    parts.extend(grant.extensions.iter().map(|name| mask::line(name, 80)));
    parts.extend(grant.budgets.iter().map(Budget::to_string));
    let does = does(grant.kind);
    match parts.as_slice() {
        [] => format!("May {does}"),
        parts => format!("May {does} {}", parts.join(", ")),
    }
}

/// The kind as a verb.
pub(crate) fn does(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Credit => "credit",
        ActionKind::Debit => "debit",
        ActionKind::ReserveStock => "reserve stock:",
        ActionKind::ReleaseStock => "release stock:",
        ActionKind::IssueGiftCard => "issue gift cards of",
        ActionKind::Flag => "flag a subject",
        ActionKind::Notify => "notify somebody",
        ActionKind::Extension => "do what is its own:",
        ActionKind::Forward => "hand the event on",
    }
}

/// What a plugin says that it may propose, as a list.
pub(crate) fn kinds_in_words(kinds: &[ActionKind]) -> String {
    let verbs = kinds
        .iter()
        .map(|kind| does(*kind).trim_end_matches(':').trim_end_matches(" of"));
    verbs.collect::<Vec<_>>().join(", ")
}

fn name(kind: ActionKind, what: &str) -> String {
    format!("grant.{kind}.{what}")
}

/// The fields that grant these kinds, filled in with what is granted already.
pub(crate) fn fields(kinds: &[ActionKind], granted: &[Grant]) -> Vec<Field> {
    let mut fields = vec![head(
        "What it may do",
        "Nothing is recorded that is not granted here, whatever the plugin proposes.",
    )];
    for kind in kinds {
        let grant = granted.iter().find(|grant| grant.kind == *kind);
        let verb = does(*kind).trim_end_matches(':').trim_end_matches(" of");
        fields.push(Field {
            kind: Kind::Tick,
            value: grant.map(|_| "true".to_owned()).unwrap_or_default(),
            ..line(&name(*kind, "granted"), &format!("It may {verb}"), "", false)
        });
        let with = |what: &str, label: String, hint: &str, value: String| Field {
            value,
            ..line(&name(*kind, what), &label, hint, false)
        };
        if kind.moves_money() {
            let currencies = grant.map(|grant| grant.currencies.clone()).unwrap_or_default();
            let most = grant.and_then(|grant| Money::new(grant.amount_max?, *currencies.first()?));
            let most = most.map(|money| amount(&money)).unwrap_or_default();
            let codes: Vec<_> = currencies.iter().map(|currency| currency.as_str().to_owned()).collect();
            fields.push(with(
                "most",
                format!("At most, each time it may {verb}"),
                "An amount, for example 20.00.",
                most,
            ));
            fields.push(with(
                "currencies",
                format!("Currencies in which it may {verb}"),
                "Codes with commas between them, for example USD, EUR.",
                codes.join(", "),
            ));
        }
        if matches!(kind, ActionKind::ReserveStock | ActionKind::ReleaseStock) {
            let most = grant.and_then(|grant| grant.quantity_max).map(|most| most.to_string());
            fields.push(with(
                "quantity",
                format!("At most, each time it may {verb}"),
                "Pieces; empty for no bound.",
                most.unwrap_or_default(),
            ));
            fields.push(with(
                "sku",
                format!("Articles of which it may {verb}"),
                "How they begin; empty for all.",
                grant.and_then(|grant| grant.sku_prefix.clone()).unwrap_or_default(),
            ));
        }
        if *kind == ActionKind::Extension {
            fields.push(with(
                "names",
                "Names of its own actions".to_owned(),
                "With commas between them, for example acme/points.",
                grant.map(|grant| grant.extensions.join(", ")).unwrap_or_default(),
            ));
        }
        let budgets = grant.map(|grant| grant.budgets.iter().map(Budget::to_string).collect::<Vec<_>>());
        fields.push(Field {
            kind: Kind::Lines(2),
            value: budgets.unwrap_or_default().join("\n"),
            ..line(
                &name(*kind, "budgets"),
                &format!("Budgets within which it may {verb}"),
                match kind.moves_money() {
                    true => "One a line, for example 500.00 USD a day, or 3 actions a day per account. What goes beyond waits for a person.",
                    false => "One a line, for example 100 actions an hour. What goes beyond waits for a person.",
                },
                false,
            )
        });
    }
    fields
}

fn amount(money: &Money) -> String {
    let text = money.to_string();
    text.rsplit_once(' ')
        .map_or(text.clone(), |(amount, _)| amount.to_owned())
}

/// Reads the grants of a form.
///
/// # Errors
/// What is wrong with its fields.
pub(crate) fn read(kinds: &[ActionKind], form: &Filled) -> Result<Vec<Grant>, Vec<Wrong>> {
    let (mut grants, mut wrong) = (Vec::new(), Vec::new());
    for kind in kinds {
        if form.get(&name(*kind, "granted")) != "true" {
            continue;
        }
        let mut grant = Grant::of(*kind);
        let given = |what: &str| form.given(&name(*kind, what));
        let mut blame = |what: &str, says: String| wrong.push((name(*kind, what), says));
        if kind.moves_money() {
            let (mut currencies, mut unknown) = (Vec::new(), None);
            for code in given("currencies").unwrap_or_default().split(',').map(str::trim) {
                match Currency::new(code) {
                    Some(currency) => currencies.push(currency),
                    None if code.is_empty() => {}
                    None => unknown = Some(code.to_owned()),
                }
            }
            if let Some(code) = unknown {
                blame("currencies", format!("`{}` is no currency code", mask::line(&code, 20)));
            } else if currencies.is_empty() {
                blame("currencies", "name one, for example USD".to_owned());
            }
            let digits: Vec<u32> = currencies.iter().map(Currency::exponent).collect();
            match (given("most"), currencies.first()) {
                (None, _) => blame("most", "say how much at most; money needs a bound".to_owned()),
                (Some(_), _) if digits.windows(2).any(|pair| pair[0] != pair[1]) => blame(
                    "currencies",
                    "their amounts have different numbers of digits, so that one bound means two things; write this grant under Settings".to_owned(),
                ),
                (Some(text), Some(currency)) => match minor_units(&text, *currency) {
                    Ok(units) => grant.amount_max = Some(units),
                    Err(says) => blame("most", says),
                },
                (Some(_), None) => {}
            }
            grant.currencies = currencies;
        }
        if let Some(text) = given("quantity") {
            match text.parse() {
                Ok(most) if most > 0 => grant.quantity_max = Some(most),
                Ok(_) | Err(_) => blame("quantity", "write a whole number of at least 1".to_owned()),
            }
        }
        grant.sku_prefix = given("sku");
        if *kind == ActionKind::Extension {
            let names = given("names").unwrap_or_default();
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            grant.extensions = names.map(str::to_owned).collect();
            if grant.extensions.is_empty() {
                blame("names", "name the actions that it may propose".to_owned());
            }
        }
        for (at, text) in form.get(&name(*kind, "budgets")).lines().enumerate() {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            match budget(*kind, text) {
                Ok(budget) => grant.budgets.push(budget),
                Err(says) => blame("budgets", format!("line {}: {says}", at + 1)),
            }
        }
        grants.push(grant);
    }
    if wrong.is_empty() { Ok(grants) } else { Err(wrong) }
}

/// Whether the fields of these kinds say all that is granted: then whoever sends them as they are grants the same again.
pub(crate) fn have_fields(kinds: &[ActionKind], granted: &[Grant]) -> bool {
    let sent = fields(kinds, granted)
        .into_iter()
        .map(|field| (field.name, field.value));
    let by_kind = |mut grants: Vec<Grant>| {
        grants.sort_by_key(|grant| grant.kind);
        grants
    };
    read(kinds, &Filled(sent.collect())).is_ok_and(|again| by_kind(again) == by_kind(granted.to_vec()))
}

/// The grants of a route as settings have them. None where they have something else there.
pub(crate) fn in_settings(grants: &Json) -> Option<Vec<Grant>> {
    let listed = Vec::<Written>::deserialize(grants).ok()?;
    listed.into_iter().map(Written::grant).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: ActionKind,
    amount_max: Option<i64>,
    #[serde(default)]
    currencies: Vec<Currency>,
    quantity_max: Option<u32>,
    sku_prefix: Option<String>,
    #[serde(default)]
    extensions: Vec<String>,
    #[serde(default)]
    budgets: Vec<WrittenBudget>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBudget {
    window: Window,
    per: Option<Per>,
    amount_max: Option<i64>,
    currency: Option<Currency>,
    actions_max: Option<u32>,
}

impl Written {
    fn grant(self) -> Option<Grant> {
        let budgets = self.budgets.iter();
        let budgets = budgets.map(|budget| {
            Some(Budget {
                kind: self.kind,
                window: budget.window,
                per: budget.per.unwrap_or(Per::Route),
                most: match (budget.amount_max, budget.actions_max) {
                    // A currency may go without saying where the grant has only one.
                    (Some(most), None) => Money::new(
                        most,
                        match (budget.currency, self.currencies.as_slice()) {
                            (Some(said), _) => said,
                            (None, [only]) => *only,
                            (None, _) => return None,
                        },
                    )
                    .map(Most::Money)?,
                    (None, Some(count)) => Most::Actions(count),
                    (Some(_), Some(_)) | (None, None) => return None,
                },
            })
        });
        Some(Grant {
            budgets: budgets.collect::<Option<_>>()?,
            kind: self.kind,
            amount_max: self.amount_max,
            currencies: self.currencies,
            quantity_max: self.quantity_max,
            sku_prefix: self.sku_prefix,
            extensions: self.extensions,
        })
    }
}

/// An amount as people write it, in minor units.
fn minor_units(text: &str, currency: Currency) -> Result<i64, String> {
    let wrong = || {
        format!(
            "`{}` is no amount of {currency}: write for example {}",
            mask::line(text, 40),
            example(currency)
        )
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let exponent = currency.exponent() as usize;
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(part) || part.len() > exponent {
        return Err(wrong());
    }
    let digits = format!("{whole}{part:0<exponent$}");
    let units = digits.parse().map_err(|_| wrong())?;
    match Money::new(units, currency) {
        Some(_) if units > 0 => Ok(units),
        Some(_) | None => Err(wrong()),
    }
}

fn example(currency: Currency) -> String {
    let units = 10_i64.pow(currency.exponent()) * 20;
    Money::new(units, currency).map_or_else(String::new, |money| amount(&money))
}

/// Reads a budget as it is shown.
fn budget(kind: ActionKind, text: &str) -> Result<Budget, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let shape = || match kind.moves_money() {
        true => "write it as 500.00 USD a day, or 3 actions a day per account".to_owned(),
        false => "write it as 100 actions an hour".to_owned(),
    };
    let (number, of, article, window, rest) = match words.as_slice() {
        [number, of, article, window, rest @ ..] => (*number, *of, *article, *window, rest),
        _ => return Err(shape()),
    };
    let window = Window::from_word(window).filter(|_| matches!(article, "a" | "an" | "per"));
    let window = window.ok_or_else(|| format!("the window is an hour, a day or a month; {}", shape()))?;
    let per = match rest {
        [] => Per::Route,
        ["per", "account"] if kind.has_account() => Per::Account,
        ["per", "account"] => return Err(format!("a {kind} has no account, so that none can have a budget of it")),
        _ => return Err(shape()),
    };
    let most = match of {
        "action" | "actions" => {
            let count = number.parse().ok().filter(|count| *count > 0);
            Most::Actions(count.ok_or_else(|| format!("`{}` is no number of actions", mask::line(number, 20)))?)
        }
        code if kind.moves_money() => {
            let currency =
                Currency::new(code).ok_or_else(|| format!("`{}` is no currency; {}", mask::line(code, 20), shape()))?;
            let money = Money::new(minor_units(number, currency)?, currency);
            Most::Money(money.ok_or_else(shape)?)
        }
        _ => return Err(shape()),
    };
    Ok(Budget {
        kind,
        window,
        per,
        most,
    })
}

/// Grants as settings have them.
pub(crate) fn written(grants: &[Grant]) -> Array {
    grants.iter().map(|grant| Value::InlineTable(one(grant))).collect()
}

fn one(grant: &Grant) -> InlineTable {
    let mut table = InlineTable::new();
    table.insert("kind", grant.kind.as_str().into());
    if let Some(most) = grant.amount_max {
        table.insert("amount_max", most.into());
    }
    if !grant.currencies.is_empty() {
        let codes: Array = grant.currencies.iter().map(|currency| currency.as_str()).collect();
        table.insert("currencies", Value::Array(codes));
    }
    if let Some(most) = grant.quantity_max {
        table.insert("quantity_max", i64::from(most).into());
    }
    if let Some(prefix) = &grant.sku_prefix {
        table.insert("sku_prefix", prefix.as_str().into());
    }
    if !grant.extensions.is_empty() {
        let names: Array = grant.extensions.iter().map(String::as_str).collect();
        table.insert("extensions", Value::Array(names));
    }
    if !grant.budgets.is_empty() {
        let budgets: Array = grant
            .budgets
            .iter()
            .map(|budget| {
                let mut table = InlineTable::new();
                table.insert("window", budget.window.as_str().into());
                if budget.per == Per::Account {
                    table.insert("per", budget.per.as_str().into());
                }
                match budget.most {
                    Most::Money(money) => {
                        table.insert("amount_max", money.minor_units().into());
                        table.insert("currency", money.currency().as_str().into());
                    }
                    Most::Actions(count) => {
                        table.insert("actions_max", i64::from(count).into());
                    }
                }
                Value::InlineTable(table)
            })
            .collect();
        table.insert("budgets", Value::Array(budgets));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o14_a_grant_is_read_as_it_is_shown() {
        let form = Filled::of(&[
            ("grant.credit.granted", "true"),
            ("grant.credit.most", "20"),
            ("grant.credit.currencies", "usd"),
            (
                "grant.credit.budgets",
                "500.00 USD a day\r\n3 actions a day per account\n",
            ),
            ("grant.debit.most", "1"),
            ("grant.flag.granted", "true"),
        ]);
        let kinds = [ActionKind::Credit, ActionKind::Debit, ActionKind::Flag];
        let grants = read(&kinds, &form).unwrap();
        let words: Vec<_> = grants.iter().map(in_words).collect();
        assert_eq!(
            words,
            [
                "May credit at most 20.00 USD each, 500.00 USD a day, 3 actions a day per account",
                "May flag a subject"
            ]
        );
        assert_eq!(
            written(&grants).to_string(),
            "[{ kind = \"credit\", amount_max = 2000, currencies = [\"USD\"], budgets = [{ window = \"day\", amount_max = 50000, currency = \"USD\" }, \
             { window = \"day\", per = \"account\", actions_max = 3 }] }, { kind = \"flag\" }]"
        );
        // What is shown of them again says the same.
        let shown = fields(&kinds, &grants);
        let again = shown
            .iter()
            .map(|field| (field.name.clone(), field.value.clone()))
            .collect();
        assert_eq!(read(&kinds, &Filled(again)).unwrap(), grants);
    }

    #[test]
    fn o14_what_fields_do_not_say_of_grants_has_none() {
        let credit = r#"{"kind": "credit", "amount_max": 2000, "currencies": ["USD"], "budgets": [{"window": "day", "amount_max": 50000}]}"#;
        let kinds = [ActionKind::Flag, ActionKind::Credit, ActionKind::ReserveStock];
        for (text, expect) in [
            ("[]".to_owned(), true),
            (format!("[{credit}, {{\"kind\": \"flag\"}}]"), true),
            // Granted twice: in another currency, and the same once more.
            (
                format!("[{credit}, {{\"kind\": \"credit\", \"amount_max\": 50, \"currencies\": [\"JPY\"]}}]"),
                false,
            ),
            (r#"[{"kind": "flag"}, {"kind": "flag"}]"#.to_owned(), false),
            // No kind of the plugin's.
            (r#"[{"kind": "notify"}]"#.to_owned(), false),
            // One bound that means two things, and a prefix whose blank a field would cut off: it fits more without.
            (
                r#"[{"kind": "credit", "amount_max": 50, "currencies": ["USD", "JPY"]}]"#.to_owned(),
                false,
            ),
            (r#"[{"kind": "reserve-stock", "sku_prefix": "a "}]"#.to_owned(), false),
        ] {
            let granted = in_settings(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(have_fields(&kinds, &granted), expect, "{text}");
        }
        for text in [
            "{}",
            r#"[{"kind": "credits"}]"#,
            r#"[{"kind": "flag", "amount": 5}]"#,
            r#"[{"kind": "flag", "budgets": [{"window": "day"}]}]"#,
        ] {
            assert!(in_settings(&serde_json::from_str(text).unwrap()).is_none(), "{text}");
        }
    }

    #[test]
    fn o14_what_is_wrong_with_a_grant_is_said_at_its_field() {
        for (fields, at, says) in [
            (
                &[("grant.credit.most", "20"), ("grant.credit.currencies", "dollars")][..],
                "grant.credit.currencies",
                "no currency code",
            ),
            (&[("grant.credit.most", "20")], "grant.credit.currencies", "name one"),
            (
                &[("grant.credit.currencies", "USD")],
                "grant.credit.most",
                "needs a bound",
            ),
            (
                &[("grant.credit.most", "0.001"), ("grant.credit.currencies", "USD")],
                "grant.credit.most",
                "no amount of USD",
            ),
            (
                &[("grant.credit.most", "1.5"), ("grant.credit.currencies", "JPY")],
                "grant.credit.most",
                "no amount of JPY",
            ),
            (
                &[("grant.credit.most", "0"), ("grant.credit.currencies", "USD")],
                "grant.credit.most",
                "no amount",
            ),
            (
                &[("grant.credit.most", "5"), ("grant.credit.currencies", "USD,JPY")],
                "grant.credit.currencies",
                "different numbers of digits",
            ),
            (
                &[
                    ("grant.credit.most", "5"),
                    ("grant.credit.currencies", "USD"),
                    ("grant.credit.budgets", "\nmuch a day"),
                ],
                "grant.credit.budgets",
                "line 2: write it as",
            ),
            (
                &[
                    ("grant.credit.most", "5"),
                    ("grant.credit.currencies", "USD"),
                    ("grant.credit.budgets", "5.00 USD a year"),
                ],
                "grant.credit.budgets",
                "an hour, a day or a month",
            ),
        ] {
            let fields = [&[("grant.credit.granted", "true")][..], fields].concat();
            let wrong = read(&[ActionKind::Credit], &Filled::of(&fields)).unwrap_err();
            assert!(
                wrong.iter().any(|(name, text)| name == at && text.contains(says)),
                "{fields:?}: {wrong:?}"
            );
        }
    }
}
