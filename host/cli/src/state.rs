//! `tollgate plugin state`: what plugins keep for a tenant, in people's hands.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use data_encoding::BASE64;
use tollgate_api::state::{Shown, StateBody, StateList, StateQuery};
use tollgate_api::{Nothing, calls};
use tollgate_core::mask;

use super::{Exit, Refused, Target, Usage, ask, print_json};
use tollgate_server::clock;
use tollgate_server::operator::{edit_state_by_now, state_by_now};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show, export and change what a plugin keeps for a tenant
    #[command(subcommand)]
    State(State),
}

#[derive(clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    target: Target,
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// The plugin's name
    plugin: String,
}

#[derive(clap::Args)]
pub(super) struct Change {
    #[command(flatten)]
    place: Place,
    /// The key
    key: String,
    /// The version that `show` told; 0 for a new key
    #[arg(long, allow_hyphen_values = true)]
    version: i64,
    /// Why: its history keeps it
    #[arg(long)]
    why: String,
    /// Say whether it would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Subcommand)]
pub(super) enum State {
    /// List the keys, with the lengths of their values
    List {
        #[command(flatten)]
        place: Place,
        /// Only keys that begin so
        #[arg(long)]
        prefix: Option<String>,
    },
    /// Show one key: its value, its version, and what people changed of it
    Show {
        #[command(flatten)]
        place: Place,
        /// The key
        key: String,
    },
    /// Export all keys with their values, one JSON object a line
    Export {
        #[command(flatten)]
        place: Place,
        /// Only keys that begin so
        #[arg(long)]
        prefix: Option<String>,
    },
    /// Set a key to a file's content, if it still has this version
    Set {
        #[command(flatten)]
        change: Change,
        /// The value; - reads it from standard input
        #[arg(long, value_name = "FILE")]
        value: PathBuf,
    },
    /// Remove a key, if it still has this version
    Delete {
        #[command(flatten)]
        change: Change,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    let Command::State(command) = command;
    match command {
        State::List { place, prefix } => list(&place, prefix),
        State::Show { place, key } => show(&place, &key),
        State::Export { place, prefix } => export(&place, prefix),
        State::Set { change, value } => {
            let bytes = if value.as_os_str() == "-" {
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
                bytes
            } else {
                std::fs::read(&value).with_context(|| value.display().to_string())?
            };
            let shown = String::from_utf8(bytes)
                .map_or_else(|error| Shown::Base64(BASE64.encode(error.as_bytes())), Shown::Text);
            apply(change, Some(shown))
        }
        State::Delete { change } => apply(change, None),
    }
}

fn query(place: &Place) -> StateQuery {
    StateQuery {
        tenant: place.tenant.clone(),
        plugin: place.plugin.clone(),
        key: None,
        prefix: None,
        after: None,
        limit: None,
    }
}

fn page(place: &Place, query: &StateQuery) -> anyhow::Result<StateList> {
    let filter = query.clone().checked().map_err(Usage)?;
    ask::ask::<calls::PluginState>(&place.target, &Nothing {}, query, async |store| {
        state_by_now(&store, filter).await
    })
}

/// Hands all keys to `each`, page by page.
fn all(
    place: &Place,
    prefix: Option<String>,
    mut each: impl FnMut(StateList) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut query = StateQuery { prefix, ..query(place) };
    loop {
        let list = page(place, &query)?;
        query.after.clone_from(&list.next);
        each(list)?;
        if query.after.is_none() {
            return Ok(());
        }
    }
}

fn list(place: &Place, prefix: Option<String>) -> anyhow::Result<Exit> {
    let mut keys = Vec::new();
    all(place, prefix, |list| {
        keys.extend(list.keys.into_iter().map(|one| (one.key, one.version, one.bytes)));
        Ok(())
    })?;
    if place.target.json {
        let keys: Vec<_> = keys
            .iter()
            .map(|(key, version, bytes)| serde_json::json!({ "key": key, "version": version, "bytes": bytes }))
            .collect();
        print_json(&keys)?;
    } else if keys.is_empty() {
        anstream::println!("{} keeps nothing for {}", place.plugin, place.tenant);
    } else {
        for (key, version, bytes) in &keys {
            anstream::println!("{bytes:>8} bytes  version {version:<10}  {}", mask::line(key, 300));
        }
    }
    Ok(Exit::Yes)
}

fn show(place: &Place, key: &str) -> anyhow::Result<Exit> {
    let list = page(
        place,
        &StateQuery {
            key: Some(key.to_owned()),
            ..query(place)
        },
    )?;
    if place.target.json {
        print_json(&serde_json::json!({ "state": list.keys.first(), "edits": list.edits }))?;
    } else {
        match list.keys.first() {
            None => anstream::println!("{} has no key {}", place.plugin, mask::line(key, 300)),
            Some(one) => {
                anstream::println!("version {}, {} bytes", one.version, one.bytes);
                match &one.value {
                    Shown::Text(text) => anstream::println!("{}", mask::shown(text)),
                    Shown::Base64(text) => anstream::println!("base64 {text}"),
                }
            }
        }
        for edit in &list.edits {
            let what = if edit.after.is_some() { "set" } else { "removed" };
            anstream::println!(
                "{}  {what} by {}: {}",
                edit.at,
                mask::line(&edit.actor, 60),
                mask::line(&edit.why, 300)
            );
        }
    }
    Ok(if list.keys.is_empty() { Exit::No } else { Exit::Yes })
}

fn export(place: &Place, prefix: Option<String>) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    all(place, prefix, |list| {
        for one in list.keys {
            writeln!(out, "{}", mask::json(&serde_json::to_string(&one)?))?;
        }
        Ok(())
    })?;
    Ok(Exit::Yes)
}

fn apply(change: Change, value: Option<Shown>) -> anyhow::Result<Exit> {
    let target = &change.place.target;
    let body = StateBody {
        tenant: change.place.tenant.clone(),
        plugin: change.place.plugin.clone(),
        key: change.key.clone(),
        value,
        version: change.version,
        actor: ask::actor(),
        why: change.why.clone(),
        dry_run: change.dry_run,
    };
    let edit = body.clone().checked(clock::now()).map_err(Usage)?;
    let report = ask::write::<calls::ChangeState>(target, &Nothing {}, &body, async |store, _| {
        edit_state_by_now(store, edit).await?.map_err(|why| Refused(why).into())
    })?;
    if target.json {
        print_json(&report)?;
    } else {
        let would = if report.dry_run {
            "would be changed; it has"
        } else {
            "changed; it has now"
        };
        anstream::println!("{} {would} version {}", mask::line(&report.key, 300), report.version);
    }
    Ok(Exit::Yes)
}
