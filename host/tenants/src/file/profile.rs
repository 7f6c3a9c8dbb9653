//! The rules that a source verifies and reads by.

use std::sync::Arc;

use tollgate_core::ids::{EventType, ProviderName};
use tollgate_core::mode::Accept;
use tollgate_core::own_header;
use tollgate_core::profile::{self, Profile};

use super::grant;
use super::raw::{Section, Value};

/// The rules that a source verifies and reads by: a shipped provider's, or a file of the tenant's own; and what the source adds to them.
pub(super) fn profile(section: &Section) -> Option<Arc<Profile>> {
    let own = "write provider = \"NAME\" for a provider that ships with Tollgate, or profile = { file = \"path\" } for your own";
    let profile = match (section.get("provider"), section.get("profile")) {
        (Some(provider), None) => {
            let name = provider.text()?;
            let profile = profile::shipped().get(name).cloned();
            if profile.is_none() {
                let known = profile::shipped().keys().map(ProviderName::as_str);
                provider.unknown(format!("there is no provider `{name}`"), name, known, "shipped");
            }
            profile
        }
        (None, Some(profile)) => {
            let reference = profile.section()?;
            let file = reference.require("file", own);
            reference.finish();
            own_profile(&file?)
        }
        (None, None) => {
            section.problem(format!("{} needs `provider` or `profile`", section.title()), own);
            None
        }
        (Some(_), Some(profile)) => {
            profile.problem("`provider` and `profile` exclude each other", own);
            None
        }
    };
    let event_type = section.get("event_type");
    let currency = section.get("currency");
    let profile = profile?;
    if event_type.is_none() && profile.needs_event_type() {
        section.problem(
            format!(
                "{} needs `event_type`: the provider's requests name none",
                section.title()
            ),
            "add event_type = what such an event is to you, for example \"campaign.clicked\"",
        );
    }
    let accept = section.get("accept");
    let keep_headers = section.get("keep_headers");
    if event_type.is_none() && currency.is_none() && accept.is_none() && keep_headers.is_none() {
        return Some(profile);
    }
    let mut own = Profile::clone(&profile);
    if let Some(event_type) = event_type {
        own = own.with_event_type(&event_type.parse::<EventType>("write a type, for example \"campaign.clicked\"")?);
    }
    if let Some(currency) = currency {
        own = own.with_currency(grant::currency(&currency)?);
    }
    if let Some(accept) = accept {
        own = own.with_accept(accepted(&accept, &profile)?);
    }
    if let Some(names) = keep_headers {
        own = own.with_kept_headers(kept_headers(&names)?);
    }
    Some(Arc::new(own))
}

/// Which headers of its requests the source keeps.
fn kept_headers(value: &Value) -> Option<Vec<String>> {
    let names: Option<Vec<&str>> = value.list()?.iter().map(Value::text).collect();
    match own_header::kept(&names?) {
        Ok(names) => Some(names),
        Err(problem) => {
            value.problem(problem, "write names such as keep_headers = [\"x-request-id\"]");
            None
        }
    }
}

/// Which events the source gives effect.
fn accepted(value: &Value, profile: &Profile) -> Option<Accept> {
    const HELP: &str = "write accept = [\"live\"], [\"test\"] or both";
    let names: Option<Vec<&str>> = value.list()?.iter().map(Value::text).collect();
    let accept = Accept::of(&names?);
    match accept {
        None => value.problem("`accept` lists `live`, `test` or both", HELP),
        Some(Accept::Test) if !profile.tells_mode() => {
            value.problem(
                format!(
                    "{} does not tell test events from live ones, so nothing would ever be accepted",
                    profile.name
                ),
                "leave `accept` out",
            );
            return None;
        }
        Some(_) => {}
    }
    accept
}

/// A profile of the tenant's own. Its receipts carry its name, so it may not have the name of one that ships.
fn own_profile(file: &Value) -> Option<Arc<Profile>> {
    let text = file.file_text()?;
    let profile = match Profile::from_toml(&text.0) {
        Ok(profile) => profile,
        Err(error) => {
            let place = error.line.zip(error.column);
            let message = format!("the profile is refused: {}", error.problem);
            file.problem_in_named_file(
                &text,
                place,
                message,
                "docs/adding-a-provider.md shows the grammar; `tollgate provider show` shows a shipped profile",
            );
            return None;
        }
    };
    if profile::shipped().contains_key(&profile.name) {
        file.problem(
            format!("the profile calls itself `{}`, which is a provider that ships with Tollgate", profile.name),
            "give it a name of its own: receipts show the name, and the shipped rules would not have been those that verified",
        );
        return None;
    }
    if let Err(refused) = file.resolver().fetch_hosts(profile.fetch_hosts()) {
        file.problem(refused.message, &refused.help);
        return None;
    }
    Some(Arc::new(profile))
}
