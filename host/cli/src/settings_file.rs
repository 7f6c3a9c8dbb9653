//! A tenant's settings as the operator would write them into the tenant's file: with variables in place of what is sealed.

use std::collections::BTreeSet;

use anyhow::Context as _;
use tollgate_core::ids::TenantName;
use toml_edit::{DocumentMut, Item, TableLike, Value};

/// The text as the operator would write it, and the variables that it names.
pub(super) fn as_file(tenant: &TenantName, text: &str) -> anyhow::Result<(String, BTreeSet<String>)> {
    let mut document: DocumentMut = text.parse().context("the settings are no TOML")?;
    let mut variables = BTreeSet::new();
    for group in ["sources", "destinations"] {
        if let Some(group) = document.get_mut(group).and_then(Item::as_table_like_mut) {
            refer_to_variables(tenant, group, &mut variables);
        }
    }
    Ok((document.to_string(), variables))
}

fn refer_to_variables(tenant: &TenantName, table: &mut dyn TableLike, variables: &mut BTreeSet<String>) {
    let stored = table.get("store").and_then(Item::as_str).map(str::to_owned);
    if let (1, Some(name)) = (table.len(), stored) {
        let variable = format!("{tenant}_{name}").to_uppercase().replace('-', "_");
        table.remove("store");
        table.insert("env", toml_edit::value(variable.as_str()));
        variables.insert(variable);
        return;
    }
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => refer_to_variables(tenant, table, variables),
            Item::ArrayOfTables(tables) => {
                for table in tables.iter_mut() {
                    refer_to_variables(tenant, table, variables);
                }
            }
            Item::Value(value) => refer_in_value(tenant, value, variables),
            Item::None => {}
        }
    }
}

fn refer_in_value(tenant: &TenantName, value: &mut Value, variables: &mut BTreeSet<String>) {
    match value {
        Value::InlineTable(table) => refer_to_variables(tenant, table, variables),
        Value::Array(list) => list
            .iter_mut()
            .for_each(|value| refer_in_value(tenant, value, variables)),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o14_settings_are_written_as_a_file_with_variables_in_place_of_secrets() {
        let text = "# mine\n[sources.shop]\nprovider = \"stripe\"\nsecrets = [{ id = \"a\", value = { store = \"stripe-a\" } }]\n\n\
                    [[sources.other.secrets]]\nid = \"b\"\nvalue.store = \"b\"\n\n[routes.r]\nconfig = { store = \"x\" }\n";
        let (file, variables) = as_file(&"acme-eu".parse().unwrap(), text).unwrap();
        assert_eq!(variables.iter().collect::<Vec<_>>(), ["ACME_EU_B", "ACME_EU_STRIPE_A"]);
        for says in [
            "# mine",
            "value = { env = \"ACME_EU_STRIPE_A\" }",
            "value.env = \"ACME_EU_B\"",
            "config = { store = \"x\" }",
        ] {
            assert!(file.contains(says), "{says}: {file}");
        }
    }
}
