//! Questions about what is in the store, replay and review.
//!
//! Questions read the store's file directly: they work beside a running host and without one. A replay or a review writes, so a
//! running host is asked to do it through its private listener; without one, the store is opened for the moment. With `--url` or
//! `--spin` everything is asked over HTTP, and the configuration is not read.

use anyhow::Context as _;
use tollgate_core::mask;
use tollgate_core::review::ReviewBody;
use tollgate_core::secret::Secret;
use tollgate_store::sqlite::{OpenOptions, SqliteStore};
use tollgate_store::{
    DeadLetter, HeldReceipt, ReplayReport, ReviewReport, Store, StoreError, Trace, TraceBy, TraceQuery,
};

use super::{Exit, Refused, ReviewArgs, Target, Usage, print_json, show, wire};
use crate::clock;
use crate::config::{self, Config};
use crate::operator::{DeadLetterQuery, HeldQuery, ReplayBody, ReviewError, review_receipt};

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
    let mut question = form_urlencoded::Serializer::new("/v1/trace?".to_owned());
    question.append_pair("limit", &limit.to_string());
    for (name, value) in [("id", id), ("tenant", tenant)] {
        value.map(|value| question.append_pair(name, value));
    }
    let traces = ask(target, &question.finish(), async |store| store.trace(query).await)?;
    if target.json {
        print_json(&traces)?;
    } else if traces.is_empty() {
        match id {
            Some(id) => anstream::eprintln!("nothing is known of `{}`", mask::shown(id)),
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
    let query = TraceQuery {
        by: TraceBy::Receipt(letter.receipt),
        tenant: None,
        receipts_max: 1,
    };
    let question = format!("/v1/trace?id={}", letter.receipt);
    let traces: Vec<Trace> = ask(target, &question, async |store| store.trace(query).await)?;
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
    let report: ReplayReport = write(target, "/v1/replay", &body, async |store, _| {
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

/// Does something that writes: the running host or the remote one is asked at `path` with `body`, or the store itself when no host
/// has it.
pub(super) fn write<T: serde::de::DeserializeOwned>(
    target: &Target,
    path: &str,
    body: &impl serde::Serialize,
    here: impl AsyncFnOnce(&SqliteStore, &Config) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if let Some(remote) = Remote::of(target)? {
        return runtime()?
            .block_on(remote.operated().write(path, body))
            .with_context(|| format!("asking {}", remote.base));
    }
    let config = config::load(&target.config)?;
    runtime()?.block_on(async {
        match SqliteStore::open(&config.store.path, OpenOptions::default()) {
            Ok(store) => {
                let done = here(&store, &config).await;
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
                let base = format!("http://{listen}");
                wire::Operated { base, token }
                    .write(path, body)
                    .await
                    .with_context(|| format!("asking the host at {listen}"))
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn dead_letters_of(target: &Target, query: DeadLetterQuery) -> anyhow::Result<Vec<DeadLetter>> {
    let filter = query.clone().checked().map_err(Usage)?;
    ask(target, &question("/v1/dead-letters", &query)?, async |store| {
        store.dead_letters(filter).await
    })
}

/// A path with a filter as its query.
fn question(path: &str, filter: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut question = form_urlencoded::Serializer::new(format!("{path}?"));
    if let serde_json::Value::Object(fields) = serde_json::to_value(filter)? {
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            question.append_pair(name, &text);
        }
    }
    Ok(question.finish())
}

/// A host or an app that is asked over HTTP.
struct Remote<'t> {
    /// Its operator address, without a `/` at the end.
    base: &'t str,
    token: Secret,
}

impl<'t> Remote<'t> {
    /// # Errors
    /// When the target is remote and its token is not in the environment.
    fn of(target: &'t Target) -> anyhow::Result<Option<Self>> {
        let (url, variable, what) = match (&target.url, &target.spin) {
            (Some(url), _) => (url, "TOLLGATE_TOKEN", "a token of the host"),
            (None, Some(url)) => (url, "TOLLGATE_SPIN_TOKEN", "the app's operator_token"),
            (None, None) => return Ok(None),
        };
        let token = std::env::var(variable).map_err(|_| Usage(format!("set {variable} to {what}")))?;
        Ok(Some(Self {
            base: url.trim_end_matches('/'),
            token: Secret::new(token),
        }))
    }

    fn operated(&self) -> wire::Operated<'_> {
        wire::Operated {
            base: self.base.to_owned(),
            token: &self.token,
        }
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, question: &str) -> anyhow::Result<T> {
        runtime()?
            .block_on(self.operated().ask(question))
            .with_context(|| format!("asking {}", self.base))
    }
}

/// The private listener of a running host, and what opens it: the one at `--url`, or the one whose configuration is here.
///
/// # Errors
/// When neither says where it is and how it is opened.
pub(super) fn host(target: &Target) -> anyhow::Result<(String, Secret)> {
    if target.spin.is_some() {
        return Err(
            Usage("a Spin app has no registry; its plugins are in spin.toml: see `tollgate spin`".to_owned()).into(),
        );
    }
    if let Some(remote) = Remote::of(target)? {
        return Ok((remote.base.to_owned(), remote.token));
    }
    let operator = config::load(&target.config)?.operator;
    match (operator.listen, operator.token) {
        (Some(listen), Some(token)) => Ok((format!("http://{listen}"), token)),
        _ => Err(Usage(format!(
            "{} names no private listener: set [operator] listen and token, or ask a host with --url",
            target.config.display()
        ))
        .into()),
    }
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
    let report: ReviewReport = write(target, "/v1/review", &body, async |store, config| match review_receipt(
        store,
        config,
        asked,
        clock::now(),
    )
    .await
    {
        Ok(report) => Ok(report),
        Err(ReviewError::Refused(why)) => Err(Refused(why).into()),
        Err(ReviewError::Store(error)) => Err(error.into()),
    })?;
    if target.json {
        print_json(&report)?;
    } else {
        show::review(&report);
    }
    Ok(Exit::Yes)
}

fn held(target: &Target, query: HeldQuery) -> anyhow::Result<Exit> {
    let filter = query.clone().checked().map_err(Usage)?;
    let held: Vec<HeldReceipt> = ask(target, &question("/v1/held", &query)?, async |store| {
        store.held(filter).await
    })?;
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
pub(super) fn actor() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "cli".to_owned());
    mask::shown(&user).into_owned()
}

/// Answers a question: a remote host is asked `question`, a path and its query; else the store is opened for reading and asked.
pub(super) fn ask<T: serde::de::DeserializeOwned>(
    target: &Target,
    question: &str,
    here: impl AsyncFnOnce(SqliteStore) -> Result<T, StoreError>,
) -> anyhow::Result<T> {
    if let Some(remote) = Remote::of(target)? {
        return remote.ask(question);
    }
    let config = config::load(&target.config)?;
    let store = SqliteStore::open_read_only(&config.store.path)?;
    Ok(runtime()?.block_on(here(store))?)
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}
