//! Questions about what is in the store, replay and review.
//!
//! Questions read the store's file directly: they work beside a running host and without one. A replay or a review writes, so a
//! running host is asked to do it through its private listener; without one, the store is opened for the moment.

use anyhow::Context as _;
use tollgate_store::sqlite::{OpenOptions, SqliteStore};
use tollgate_store::{ReplayReport, ReviewReport, Store, StoreError, TraceBy, TraceQuery};

use super::{Exit, Refused, ReviewArgs, Target, Usage, print_json, show, wire};
use crate::clock;
use crate::config::{self, Config};
use crate::operator::{DeadLetterQuery, HeldQuery, ReplayBody, ReviewBody, ReviewError, review_receipt, trace_by};

/// `tollgate trace`.
pub(super) fn trace(target: &Target, id: Option<&str>, tenant: Option<&str>, limit: usize) -> anyhow::Result<Exit> {
    let query = TraceQuery {
        by: id.map_or(TraceBy::Newest, trace_by),
        tenant: tenant
            .map(str::parse)
            .transpose()
            .map_err(|error| Usage(format!("--tenant: {error}")))?,
        receipts_max: limit,
    };
    let traces = ask(target, async |store| store.trace(query).await)?;
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
    let filter = filter.checked().map_err(Usage)?;
    let letters = ask(target, async |store| store.dead_letters(filter).await)?;
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
    let filter = query.checked().map_err(Usage)?;
    let (letters, traces) = ask(target, async |store| {
        let letters = store.dead_letters(filter).await?;
        let traces = match letters.first() {
            Some(letter) => {
                store
                    .trace(TraceQuery {
                        by: TraceBy::Receipt(letter.receipt),
                        tenant: None,
                        receipts_max: 1,
                    })
                    .await?
            }
            None => Vec::new(),
        };
        Ok((letters, traces))
    })?;
    let Some(letter) = letters.first() else {
        anstream::eprintln!("there is no dead letter {id}");
        return Ok(Exit::No);
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
    let actor = actor();
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
    let request = body.clone().checked(clock::now()).map_err(Usage)?;
    let config = config::load(&target.config)?;
    let report: ReplayReport = write(&config, "/v1/replay", &body, async |store| {
        Ok(store.replay(request).await?)
    })?;
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

/// Does something that writes: the running host is asked at `path` with `body`, or the store itself when no host has it.
fn write<T: serde::de::DeserializeOwned>(
    config: &Config,
    path: &str,
    body: &impl serde::Serialize,
    here: impl AsyncFnOnce(&SqliteStore) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    runtime()?.block_on(async {
        match SqliteStore::open(&config.store.path, OpenOptions::default()) {
            Ok(store) => {
                let done = here(&store).await;
                store.close().await;
                done
            }
            Err(StoreError::InUse { path: used }) => {
                let operator = &config.operator;
                let (Some(listen), Some(token)) = (operator.listen, &operator.token) else {
                    anyhow::bail!(
                        "a host uses {used}, and it has no private listener to ask: set [operator] listen and token"
                    );
                };
                wire::ask_host(listen, token, path, body)
                    .await
                    .with_context(|| format!("asking the host at {listen}"))
            }
            Err(error) => Err(error.into()),
        }
    })
}

/// `tollgate review`: the list, or one decision.
pub(super) fn review(target: &Target, args: ReviewArgs) -> anyhow::Result<Exit> {
    let Some(receipt) = args.receipt else {
        return held(target, args.filter);
    };
    let body = ReviewBody {
        receipt,
        map: args.map,
        dismiss: args.dismiss,
        why: args.why,
        dry_run: args.dry_run,
        actor: actor(),
    };
    let asked = body.clone().checked().map_err(Usage)?;
    let config = config::load(&target.config)?;
    let report: ReviewReport = write(&config, "/v1/review", &body, async |store| {
        match review_receipt(store, &config, asked, clock::now()).await {
            Ok(report) => Ok(report),
            Err(ReviewError::Refused(why)) => Err(Refused(why).into()),
            Err(ReviewError::Store(error)) => Err(error.into()),
        }
    })?;
    if target.json {
        print_json(&report)?;
    } else {
        show::review(&report);
    }
    Ok(Exit::Yes)
}

fn held(target: &Target, filter: HeldQuery) -> anyhow::Result<Exit> {
    let filter = filter.checked().map_err(Usage)?;
    let held = ask(target, async |store| store.held(filter).await)?;
    if target.json {
        print_json(&held)?;
    } else if held.is_empty() {
        anstream::println!("nothing waits for review");
    } else {
        show::held(&held);
        let first = held[0].receipt;
        anstream::println!("\nwhat mapping would do:  tollgate review {first} --map STATUS --dry-run");
        anstream::println!("set it aside for good:  tollgate review {first} --dismiss --why TEXT");
    }
    Ok(Exit::Yes)
}

/// Who decides, for the history.
fn actor() -> String {
    std::env::var("USER").unwrap_or_else(|_| "cli".to_owned())
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
