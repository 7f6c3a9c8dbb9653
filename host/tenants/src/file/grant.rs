//! What a route lets its plugin ask for.

use tollgate_core::action::ActionKind;
use tollgate_core::grant::Grant;
use tollgate_core::limits::MINOR_UNITS_MAX;
use tollgate_core::money::Currency;

use super::raw::{Section, Value};

pub(super) fn grants(list: &Value) -> Vec<Grant> {
    list.list_of(|element| {
        let section = element.section()?;
        let grant = grant(&section);
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

fn grant(section: &Section) -> Option<Grant> {
    let kind_value = section.require("kind", "add kind = \"credit\" or another kind of action");
    let amount_max = section.get("amount_max");
    let currencies = section.get("currencies");
    let quantity_max = section.get("quantity_max");
    let sku_prefix = section.get("sku_prefix");
    let extensions = section.get("extensions");

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
