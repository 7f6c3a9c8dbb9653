//! Questions about what is in the store, and replay.
//!
//! Questions read the store's file directly: they work beside a running host and without one. A replay writes, so a running host
//! is asked to do it through its private listener; without one, the store is opened for the moment.

use anyhow::Context as _;
use tollgate_core::secret::Secret;
use tollgate_store::sqlite::{OpenOptions, SqliteStore};
use tollgate_store::{DeadLetter, ReplayReport, Store, StoreError, Trace, TraceBy, TraceQuery};

use super::{Exit, Target, Usage, print_json, show, wire};
use crate::clock;
use crate::config::{self, Config};
use crate::operator::{DeadLetterQuery, ReplayBody};

/// `tollgate trace`.
pub(super) fn trace(target: &Target, id: Option<&str>, tenant: Option<&str>, limit: usize) -> anyhow::Result<Exit> {
    let query = TraceQuery {
        by: id.map_or(TraceBy::Newest, TraceBy::named),
        tenant: tenant
            .map(str::parse)
            .transpose()
            .map_err(|error| Usage(format!("--tenant: {error}")))?,
        receipts_max: limit,
    };
    let traces = match &target.spin {
        Some(app) => {
            let mut question = form_urlencoded::Serializer::new("/v1/trace?".to_owned());
            question.append_pair("limit", &limit.to_string());
            for (name, value) in [("id", id), ("tenant", tenant)] {
                value.map(|value| question.append_pair(name, value));
            }
            ask_spin(app, &question.finish())?
        }
        None => ask(target, async |store| store.trace(query).await)?,
    };
    if target.json {
        print_json(&traces)?;
    } else if traces.is_empty() {
        match id {
            Some(id) => anstream::eprintln!("nothing is known of `{id}`"),
            None => anstream::eprintln!("the store has no receipts yet"),
        }
    } else if id.is_none() {
        show::receipts(&traces);
    } else {
        traces.iter().for_each(show::trace);
    }
    Ok(if traces.is_empty() { Exit::No } else { Exit::Yes })
}

/// `tollgate dlq list`.
pub(super) fn dead_letters(target: &Target, filter: DeadLetterQuery) -> anyhow::Result<Exit> {
    let letters = dead_letters_of(target, filter)?;
    if target.json {
        print_json(&letters)?;
    } else if letters.is_empty() {
        anstream::println!("no dead letters");
    } else {
        show::dead_letters(&letters);
        anstream::println!("\nshow one with its event:  tollgate dlq show {}", letters[0].id);
        anstream::println!("what a replay would do:   tollgate replay {} --dry-run", letters[0].id);
    }
    Ok(Exit::Yes)
}

/// `tollgate dlq show`.
pub(super) fn dead_letter(target: &Target, id: &str) -> anyhow::Result<Exit> {
    let query = DeadLetterQuery {
        id: Some(id.to_owned()),
        with_replayed: true,
        ..DeadLetterQuery::default()
    };
    let letters = dead_letters_of(target, query)?;
    let Some(letter) = letters.first() else {
        anstream::eprintln!("there is no dead letter {id}");
        return Ok(Exit::No);
    };
    let traces: Vec<Trace> = match &target.spin {
        Some(app) => ask_spin(app, &format!("/v1/trace?id={}", letter.receipt))?,
        None => {
            let query = TraceQuery {
                by: TraceBy::Receipt(letter.receipt),
                tenant: None,
                receipts_max: 1,
            };
            ask(target, async |store| store.trace(query).await)?
        }
    };
    if target.json {
        print_json(&serde_json::json!({ "dead_letter": letter, "trace": traces.first() }))?;
    } else {
        show::dead_letters(&letters);
        anstream::println!();
        traces.iter().for_each(show::trace);
    }
    Ok(Exit::Yes)
}

/// `tollgate replay`.
pub(super) fn replay(
    target: &Target,
    id: Option<String>,
    filter: DeadLetterQuery,
    all: bool,
    dry_run: bool,
) -> anyhow::Result<Exit> {
    let is_receipt = id.as_deref().is_some_and(|id| id.starts_with("rcpt_"));
    let narrowed = serde_json::to_value(&filter)? != serde_json::to_value(DeadLetterQuery::default())?;
    if id.is_none() && !all && !narrowed && !dry_run {
        return Err(Usage("name a dead letter or a receipt, narrow with a filter, or say --all".to_owned()).into());
    }
    let actor = std::env::var("USER").unwrap_or_else(|_| "cli".to_owned());
    let body = if is_receipt {
        ReplayBody {
            receipt: id,
            dead_letters: None,
            dry_run,
            actor,
        }
    } else {
        let limit = filter.limit.or(Some(usize::MAX));
        ReplayBody {
            receipt: None,
            dead_letters: Some(DeadLetterQuery { id, limit, ..filter }),
            dry_run,
            actor,
        }
    };
    body.clone().checked(clock::now()).map_err(Usage)?;
    let report = match &target.spin {
        Some(app) => runtime()?.block_on(spin_app(app, &spin_token()?).replay(&body))?,
        None => replay_on(&config::load(&target.config)?, &body)?,
    };
    if target.json {
        print_json(&report)?;
    } else {
        show::replay(&report);
    }
    Ok(if report.replayed.is_empty() {
        Exit::No
    } else {
        Exit::Yes
    })
}

/// Replays through the running host, or on the store itself when no host has it.
fn replay_on(config: &Config, body: &ReplayBody) -> anyhow::Result<ReplayReport> {
    runtime()?.block_on(async {
        match SqliteStore::open(&config.store.path, OpenOptions::default()) {
            Ok(store) => {
                let request = body.clone().checked(clock::now()).map_err(Usage)?;
                let report = store.replay(request).await;
                store.close().await;
                Ok(report?)
            }
            Err(StoreError::InUse { path }) => {
                let operator = &config.operator;
                let (Some(listen), Some(token)) = (operator.listen, &operator.token) else {
                    anyhow::bail!(
                        "a host uses {path}, and it has no private listener to ask: set [operator] listen and token"
                    );
                };
                let base = format!("http://{listen}");
                wire::Operated { base, token }
                    .replay(body)
                    .await
                    .with_context(|| format!("asking the host at {listen}"))
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn dead_letters_of(target: &Target, query: DeadLetterQuery) -> anyhow::Result<Vec<DeadLetter>> {
    let filter = query.clone().checked().map_err(Usage)?;
    match &target.spin {
        Some(app) => {
            let mut question = form_urlencoded::Serializer::new("/v1/dead-letters?".to_owned());
            if let serde_json::Value::Object(fields) = serde_json::to_value(&query)? {
                for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    question.append_pair(name, &text);
                }
            }
            ask_spin(app, &question.finish())
        }
        None => ask(target, async |store| store.dead_letters(filter).await),
    }
}

/// The variable that holds a Spin app's `operator_token`.
const SPIN_TOKEN: &str = "TOLLGATE_SPIN_TOKEN";

fn spin_token() -> anyhow::Result<Secret> {
    let token =
        std::env::var(SPIN_TOKEN).map_err(|_| Usage(format!("set {SPIN_TOKEN} to the app's operator_token")))?;
    Ok(Secret::new(token))
}

fn spin_app<'t>(url: &str, token: &'t Secret) -> wire::Operated<'t> {
    let base = url.trim_end_matches('/').to_owned();
    wire::Operated { base, token }
}

fn ask_spin<T: serde::de::DeserializeOwned>(app: &str, question: &str) -> anyhow::Result<T> {
    let token = spin_token()?;
    runtime()?
        .block_on(spin_app(app, &token).ask(question))
        .with_context(|| format!("asking the app at {app}"))
}

/// Opens the store for reading and asks it.
fn ask<T>(target: &Target, question: impl AsyncFnOnce(SqliteStore) -> Result<T, StoreError>) -> anyhow::Result<T> {
    let config = config::load(&target.config)?;
    let store = SqliteStore::open_read_only(&config.store.path)?;
    Ok(runtime()?.block_on(question(store))?)
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}
