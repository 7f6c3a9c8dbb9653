//! A route: which events it takes, and the plugin that they run or the form in which they are handed on.

use std::collections::BTreeSet;

use tollgate_core::action::ForwardForm;
use tollgate_core::content::ContentFilter;
use tollgate_core::forward;
use tollgate_core::ids::{DestinationName, Digest, Namespace, PluginName, RouteName, SourceName, Status, TenantName};
use tollgate_core::route::{Late, RouteMatch, TypePattern};

use super::config;
use super::grant::grants;
use super::raw::{Section, Value, set};
use super::{Offer, references};
use crate::route::{MIB, PluginLimits, Route};

/// What a route may name.
pub(super) struct Scope<'o> {
    /// The tenant whose route it is; none where the file has no tenant's name: then configurations are checked against no schema.
    pub(super) tenant: Option<&'o TenantName>,
    pub(super) offer: &'o Offer<'o>,
    pub(super) sources: BTreeSet<SourceName>,
    pub(super) destinations: BTreeSet<DestinationName>,
    /// Those of them that are written to by e-mail: no route sends there.
    pub(super) mailed: BTreeSet<DestinationName>,
}

pub(super) fn route(name: RouteName, section: &Section, scope: &Scope) -> Option<Route> {
    let matches = RouteMatch {
        sources: section
            .get("sources")
            .map(|list| references(&list, &scope.sources, "source"))
            .unwrap_or_default(),
        types: section
            .get("types")
            .map(|list| list.list_of(type_pattern))
            .unwrap_or_default(),
        statuses: section
            .get("statuses")
            .map(|list| statuses(&list, scope.offer))
            .unwrap_or_default(),
        filter: section.get("filter").and_then(|value| filter(&value)),
        late: section.get("late").and_then(|value| late(&value)).unwrap_or_default(),
    };
    if let Some(value) = section.get("forward") {
        return forwarding(name, section, &value, matches, scope);
    }
    let plugin = section
        .require(
            "plugin",
            "add plugin = \"NAME\"; or forward = \"envelope\", \"body\" or \"cloudevents\" to hand the event itself on",
        )
        .and_then(|value| plugin(&value, scope.offer.plugins));
    let operations = section.get("operations").map(|value| {
        value.parse::<Namespace>("write the name of a plugin whose operations these are, or one of your own")
    });
    let destinations = section
        .get("destinations")
        .map(|list| destinations(&list, scope))
        .unwrap_or_default();
    let grants = section.get("grants").map(|list| grants(&list)).unwrap_or_default();
    let config = section.get("config");
    let config_json = match &config {
        Some(config) => config::json(config),
        None => Some("{}".to_owned()),
    };
    if let (Some(tenant), Some(schemas), Some(plugin), Some(json)) =
        (scope.tenant, scope.offer.schemas, &plugin, &config_json)
    {
        for version in schemas.of(tenant, &name, plugin) {
            config::hold_against(version, plugin, json, config.as_ref(), section);
        }
    }
    let mut limits = scope.offer.limits;
    if let Some(section) = section.section("limits") {
        scope.offer.natively_only(
            &section,
            &["state_keys", "state_bytes"],
            "leave it out: the host calls that each plugin is enclosed with hold every run to the same",
        );
        limits.read(&section, &scope.offer.limits);
    }
    section.finish();
    let config_json = config_json?;
    let config_digest = Digest::of(config_json.as_bytes());
    Some(Route {
        name,
        matches,
        namespace: match operations {
            Some(named) => named?,
            None => Namespace::from(plugin.as_ref()?),
        },
        plugin: plugin?,
        forward: None,
        config_json,
        config_digest,
        grants,
        destinations,
        limits,
        binding: None,
    })
}

/// Where a route sends to.
fn destinations(list: &Value, scope: &Scope) -> Vec<DestinationName> {
    let elements = list.raw().is_array().then(|| list.list()).flatten();
    for element in elements.unwrap_or_default() {
        let name = element.raw().as_str();
        if let Some(name) = name.filter(|name| scope.mailed.iter().any(|known| known.as_str() == *name)) {
            element.problem(
                format!("`{name}` is written to by e-mail, which tells of issues alone: no route sends there"),
                "remove it, or name a destination that has a `url`",
            );
        }
    }
    references(list, &scope.destinations, "destination")
}

/// A route without a plugin.
fn forwarding(name: RouteName, section: &Section, form: &Value, matches: RouteMatch, scope: &Scope) -> Option<Route> {
    let form = form.parse::<ForwardForm>("write forward = \"envelope\", \"body\" or \"cloudevents\"");
    for key in ["plugin", "config", "grants", "limits"] {
        if let Some(value) = section.get(key) {
            value.problem(
                format!("a route that forwards runs no plugin: `{key}` means nothing beside `forward`"),
                "remove it, or remove `forward`",
            );
        }
    }
    let operations = section
        .get("operations")
        .map(|value| value.parse::<Namespace>("write a name for what this route hands on"));
    let destinations = section
        .require("destinations", "add destinations = [\"NAME\"]: where the event goes")
        .map(|list| {
            let destinations = destinations(&list, scope);
            if list.is_empty_list() {
                list.problem("`destinations` is empty: the event would go nowhere", "name one");
            }
            destinations
        });
    section.finish();
    let (form, plugin) = (form?, forward::plugin_name());
    let config_json = serde_json::json!({ "forward": form }).to_string();
    Some(Route {
        name,
        matches,
        namespace: match operations {
            Some(named) => named?,
            None => Namespace::from(&plugin),
        },
        plugin,
        forward: Some(form),
        config_digest: Digest::of(config_json.as_bytes()),
        config_json,
        grants: Vec::new(),
        destinations: destinations?,
        limits: scope.offer.limits,
        binding: None,
    })
}

fn type_pattern(element: &Value) -> Option<TypePattern> {
    TypePattern::new(element.text()?)
        .map_err(|message| element.problem(message, "for example \"customer.*\""))
        .ok()
}

fn filter(value: &Value) -> Option<ContentFilter> {
    let text = value.text()?;
    match ContentFilter::read(text) {
        Ok(filter) => Some(filter),
        Err(error) => {
            value.problem(
                format!("`filter`, character {}: {}", error.column, error.message),
                "for example \"body.data.amount:>=100 -type:order.test\"; docs/lists.md has the language",
            );
            None
        }
    }
}

fn late(value: &Value) -> Option<Late> {
    let word = value.text()?;
    let late = Late::from_word(word);
    if late.is_none() {
        let known = Late::WORDS.iter().map(|(word, _)| *word);
        value.unknown(
            format!("`{word}` does not say what is done with what comes late"),
            word,
            known,
            "write",
        );
    }
    late
}

fn statuses(list: &Value, offer: &Offer) -> Vec<Status> {
    list.list_of(|element| {
        let status = element.parse::<Status>("write a status of a lifecycle, in lower case")?;
        if !offer.lifecycles.values().any(|lifecycle| lifecycle.knows(&status)) {
            let known = offer
                .lifecycles
                .values()
                .flat_map(|lifecycle| lifecycle.statuses())
                .map(Status::as_str);
            element.unknown(
                format!("no lifecycle has the status `{status}`"),
                status.as_str(),
                known,
                "known",
            );
        }
        Some(status)
    })
}

fn plugin(value: &Value, offered: Option<&BTreeSet<PluginName>>) -> Option<PluginName> {
    let name = value
        .parse::<PluginName>("write the name of a plugin of tollgate.toml, or of one that was pushed and published")?;
    if let Some(offered) = offered
        && !offered.contains(&name)
    {
        let known = offered.iter().map(PluginName::as_str);
        value.unknown(
            format!("the operator offers no plugin `{name}`, and none of that name is published to this tenant"),
            name.as_str(),
            known,
            "there are",
        );
    }
    Some(name)
}

impl PluginLimits {
    /// Takes what a table says; nothing may exceed `most`.
    pub fn read(&mut self, section: &Section, most: &Self) {
        set(&mut self.fuel, section.number("fuel", 10_000..=signed(most.fuel)));
        set(
            &mut self.deadline_ms,
            section.number("deadline_ms", 1..=signed(most.deadline_ms)),
        );
        let mib = section.number::<usize>("memory_mib", 1..=signed((most.memory_bytes_max / MIB) as u64));
        set(&mut self.memory_bytes_max, mib.map(|mib| mib * MIB));
        set(
            &mut self.state_keys_max,
            section.number("state_keys", 0..=signed(most.state_keys_max as u64)),
        );
        set(
            &mut self.state_bytes_max,
            section.number("state_bytes", 0..=signed(most.state_bytes_max as u64)),
        );
        set(
            &mut self.state_total_max,
            section.number("state_total_bytes", 0..=signed(most.state_total_max)),
        );
        section.finish();
    }
}

fn signed(most: u64) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}
