//! What differs between two texts of settings, for people.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_api::settings::PartChange;
use tollgate_core::ids::TenantName;

/// The lines that differ, with three lines around them.
pub(super) fn difference(before: &str, after: &str) -> String {
    if before == after {
        return String::new();
    }
    let lines = similar::TextDiff::from_lines(before, after);
    lines.unified_diff().context_radius(3).to_string()
}

/// The sources, routes and destinations that differ between two texts, by what TOML makes of them.
pub(super) fn differing_parts(before: &str, after: &str) -> Vec<PartChange> {
    let (before, after) = (parts(before), parts(after));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    let changes = names.into_iter().filter_map(|part| {
        let what = match (before.get(&part), after.get(&part)) {
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            (Some(before), Some(after)) if before != after => "changed",
            _ => return None,
        };
        let (kind, name) = part;
        Some(PartChange {
            kind,
            name,
            what: what.to_owned(),
        })
    });
    changes.collect()
}

/// Kind and name of each part, with what is said of it.
fn parts(text: &str) -> BTreeMap<(String, String), toml::Value> {
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let groups = [
        ("sources", "source"),
        ("routes", "route"),
        ("destinations", "destination"),
    ];
    let parts = groups.into_iter().flat_map(|(key, kind)| {
        let group = table.get(key).and_then(toml::Value::as_table).cloned();
        let group = group.unwrap_or_default().into_iter();
        group.map(move |(name, value)| ((kind.to_owned(), name), value))
    });
    parts.collect()
}

pub(super) fn warnings(tenant: &TenantName, changes: &[PartChange]) -> Vec<String> {
    let removed = changes.iter().filter(|change| change.what == "removed");
    let warning = |change: &PartChange| {
        let name = &change.name;
        match change.kind.as_str() {
            "source" => Some(format!(
                "requests to /in/{tenant}/{name} are answered 404 from then on, which ends most providers' retries"
            )),
            "destination" => Some(format!(
                "what waits for the destination `{name}` becomes dead letters; if another takes its place, say formerly = [\"{name}\"] there"
            )),
            _ => None,
        }
    };
    removed.filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o14_what_differs_is_said_by_part_and_by_line() {
        let before = "# mine\n[sources.a]\nprovider = \"x\"\n[routes.r]\nforward = \"body\"\n";
        let after = "[sources.a]\nprovider = \"y\"\n[destinations.d]\nurl = \"https://d.example\"\n";
        let changes = differing_parts(before, after);
        let said: Vec<_> = changes
            .iter()
            .map(|change| format!("{} {} {}", change.what, change.kind, change.name))
            .collect();
        assert_eq!(said, ["added destination d", "removed route r", "changed source a"]);
        assert_eq!(differing_parts(before, &before.replace("# mine\n", "")), []);
        let lines = difference(before, after);
        for line in ["-# mine", "-provider = \"x\"", "+provider = \"y\"", " [sources.a]"] {
            assert!(lines.lines().any(|found| found == line), "{lines}");
        }
        assert_eq!(difference(before, before), "");
        let gone = warnings(&"acme".parse().unwrap(), &differing_parts(after, ""));
        assert!(gone.iter().any(|warning| warning.contains("/in/acme/a")), "{gone:?}");
        assert!(
            gone.iter().any(|warning| warning.contains("formerly = [\"d\"]")),
            "{gone:?}"
        );
    }
}
