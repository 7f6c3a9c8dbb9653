//! Questions about what is in the store, replay and review.
//!
//! Questions read the store's file directly: they work beside a running host and without one. A replay or a review writes, so a
//! running host is asked to do it through its private listener; without one, the store is opened for the moment. With `--url` or
//! `--spin` everything is asked over HTTP, and the configuration is not read.

use anyhow::Context as _;
use tollgate_api::dead_letters::{DeadLetter, DeadLetterQuery};
use tollgate_api::replay::{ReplayBody, ReplayReport, RoutingQuery};
use tollgate_api::resend::{ResendBody, ResendReport, SentQuery};
use tollgate_api::set_aside::{HeldCountsQuery, HeldQuery, SetAside, SetAsideKind};
use tollgate_api::trace::TraceParameters;
use tollgate_api::{Call, Nothing, calls, question};
use tollgate_core::review::ReviewBody;
use tollgate_core::secret::Secret;
use tollgate_core::{budget, mask};
use tollgate_store::{Store as _, StoreError, Views as _};

use super::{Exit, Refused, ReplayArgs, ResendArgs, ReviewArgs, Target, Usage, print_json, show, wire};
use tollgate_server::clock;
use tollgate_server::config::{self, Config};
use tollgate_server::operator::{ReviewError, replay_by_now, resend_by_now, review_by_now};
use tollgate_server::registry;
use tollgate_server::store::{self, HostStore};

/// `tollgate trace`.
pub(super) fn trace(
    target: &Target,
    id: Option<&str>,
    tenant: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> anyhow::Result<Exit> {
    let query = TraceParameters {
        id: id.map(str::to_owned),
        tenant: tenant.map(str::to_owned),
        after: after.map(str::to_owned),
        limit: Some(limit as u64),
    };
    let asked = query.clone().checked().map_err(|error| Usage(format!("--{error}")))?;
    let traces = ask::<calls::Trace>(target, &Nothing {}, &query, async |store| store.trace(asked).await)?;
    if target.json {
        print_json(&traces)?;
    } else if traces.is_empty() {
        match id {
            Some(id) => anstream::eprintln!("nothing is known of `{}`", mask::shown(id)),
            None if after.is_some() => anstream::eprintln!("there are no more"),
            None => anstream::eprintln!("the store has no receipts yet"),
        }
    } else if id.is_none() {
        show::receipts(&traces);
        if let (Some(last), true) = (traces.last(), traces.len() == limit) {
            anstream::println!("\nolder ones:  tollgate trace --after {}", last.receipt.id);
        }
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
    let query = TraceParameters {
        id: Some(letter.receipt.to_string()),
        limit: Some(1),
        ..TraceParameters::default()
    };
    let asked = query.clone().checked().map_err(Usage)?;
    let traces = ask::<calls::Trace>(target, &Nothing {}, &query, async |store| store.trace(asked).await)?;
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
pub(super) fn replay(args: ReplayArgs) -> anyhow::Result<Exit> {
    let ReplayArgs { target, id, filter, .. } = &args;
    let routing = RoutingQuery {
        tenant: filter.tenant.clone(),
        source: filter.source.clone(),
        event_type: args.event_type.clone(),
        status: args.status.clone(),
        subject: args.subject.clone(),
        since: filter.since.clone(),
        until: args.until.clone(),
        disposition: args.disposition.clone(),
        no_route: args.no_route,
        after: None,
        limit: filter.limit,
    };
    let narrowed = serde_json::to_value(filter)? != serde_json::to_value(DeadLetterQuery::default())?
        || routing != RoutingQuery::default();
    if id.is_none() && !args.all && !narrowed && !args.dry_run {
        return Err(Usage("name a dead letter or a receipt, narrow with a filter, or say --all".to_owned()).into());
    }
    let of = ReplayBody {
        dry_run: args.dry_run,
        actor: actor(),
        why: args.why.clone(),
        ..ReplayBody::default()
    };
    let limit = filter.limit.or(Some(u64::MAX));
    let body = if args.routes {
        ReplayBody {
            receipts: Some(routing),
            ..of
        }
    } else if args.held {
        let query = HeldQuery {
            kind: Some(SetAsideKind::HeldJob.as_str().to_owned()),
            tenant: filter.tenant.clone(),
            source: filter.source.clone(),
            route: filter.route.clone(),
            since: filter.since.clone(),
            reason: filter.reason.clone(),
            after: filter.after.clone(),
            limit,
            ..HeldQuery::default()
        };
        ReplayBody {
            held_jobs: Some(query),
            ..of
        }
    } else if id.as_deref().is_some_and(|id| id.starts_with("rcpt_")) {
        ReplayBody {
            receipt: id.clone(),
            ..of
        }
    } else {
        let query = DeadLetterQuery {
            id: id.clone(),
            limit,
            ..filter.clone()
        };
        ReplayBody {
            dead_letters: Some(query),
            ..of
        }
    };
    let report = replayed(target, body)?;
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

/// Asks for a replay, and where one answer is not about all receipts, again behind it.
fn replayed(target: &Target, mut body: ReplayBody) -> anyhow::Result<ReplayReport> {
    let mut all: Option<ReplayReport> = None;
    loop {
        let asked = body.clone().checked().map_err(Usage)?;
        let report = write::<calls::Replay>(target, &Nothing {}, &body, async |store, config| {
            Ok(replay_by_now(store, config, asked, clock::now()).await?)
        })?;
        let next = report.next;
        match &mut all {
            Some(all) => all.replayed.extend(report.replayed),
            None => all = Some(report),
        }
        match (&mut body.receipts, next) {
            // A limit was asked for: what is behind it is left to the next.
            (Some(routing), Some(last)) if routing.limit.is_none() => routing.after = Some(last.to_string()),
            _ => break,
        }
    }
    let all = all.context("nothing was answered")?;
    Ok(ReplayReport {
        next: all
            .next
            .filter(|_| body.receipts.is_some_and(|routing| routing.limit.is_some())),
        ..all
    })
}

/// `tollgate resend`.
pub(super) fn resend(args: ResendArgs) -> anyhow::Result<Exit> {
    let mut body = ResendBody {
        deliveries: SentQuery {
            id: args.id,
            ..args.filter
        },
        dry_run: args.dry_run,
        actor: actor(),
        why: args.why.unwrap_or_default(),
    };
    let is_bounded = body.deliveries.limit.is_some();
    let mut all: Option<ResendReport> = None;
    loop {
        let asked = body.clone().checked().map_err(Usage)?;
        let report = write::<calls::Resend>(&args.target, &Nothing {}, &body, async |store, config| {
            Ok(resend_by_now(store, config, asked, clock::now()).await?)
        })?;
        let next = report.next;
        match &mut all {
            Some(all) => {
                all.resent.extend(report.resent);
                all.passed_over.extend(report.passed_over);
                all.next = next;
            }
            None => all = Some(report),
        }
        match next {
            // A limit was asked for: what is behind it is left to the next.
            Some(last) if !is_bounded => body.deliveries.after = Some(last.to_string()),
            Some(_) | None => break,
        }
    }
    let report = all.context("nothing was answered")?;
    if args.target.json {
        print_json(&report)?;
    } else {
        show::resend(&report);
    }
    Ok(if report.resent.is_empty() { Exit::No } else { Exit::Yes })
}

/// Does something that writes: the running host or the remote one is asked for the call, or the store itself when no host has it.
pub(super) fn write<C: Call<Query = Nothing>>(
    target: &Target,
    path: &C::Path,
    body: &C::Body,
    here: impl AsyncFnOnce(&HostStore, &Config) -> anyhow::Result<C::Answer>,
) -> anyhow::Result<C::Answer> {
    let question = question::<C>(path, &Nothing {})?;
    if let Some(remote) = Remote::of(target)? {
        return runtime()?
            .block_on(remote.operated().write(&question, body))
            .with_context(|| format!("asking {}", remote.base));
    }
    let config = config::load(&target.config)?;
    runtime()?.block_on(async {
        match store::open(&config.store) {
            Ok(store) => {
                let done = match registry::with_settings(&store, &config).await {
                    Ok(config) => here(&store, &config).await,
                    Err(error) => Err(error.into()),
                };
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
                    .write(&question, body)
                    .await
                    .with_context(|| format!("asking the host at {listen}"))
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn dead_letters_of(target: &Target, query: DeadLetterQuery) -> anyhow::Result<Vec<DeadLetter>> {
    let filter = query.clone().checked().map_err(Usage)?;
    ask::<calls::DeadLetters>(target, &Nothing {}, &query, async |store| {
        store.dead_letters(filter).await
    })
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
    host_or_app(target)
}

/// As [`host`], or the Spin app at `--spin`, for what both answer.
///
/// # Errors
/// As [`host`].
pub(super) fn host_or_app(target: &Target) -> anyhow::Result<(String, Secret)> {
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
    let Some(id) = args.id else {
        return if args.counts {
            held_counts(target, args.filter.tenant)
        } else {
            held(target, args.filter)
        };
    };
    let body = ReviewBody {
        id,
        map: args.map,
        set_right: args.set_right,
        replace_with: args.replace_with,
        run: args.run,
        beyond_budget: args.beyond_budget,
        dismiss: args.dismiss,
        keep: args.keep,
        record: args.record,
        why: args.why,
        dry_run: args.dry_run,
        actor: actor(),
    };
    let asked = body.clone().checked().map_err(Usage)?;
    let report = write::<calls::Review>(target, &Nothing {}, &body, async |store, config| {
        match review_by_now(store, config, asked, clock::now()).await {
            Ok(report) => Ok(report),
            Err(ReviewError::Refused(why)) => Err(Refused(why).into()),
            Err(ReviewError::Store(error)) => Err(error.into()),
        }
    })?;
    if target.json {
        print_json(&report)?;
    } else {
        show::review(&body.id, &report);
    }
    Ok(Exit::Yes)
}

fn held(target: &Target, query: HeldQuery) -> anyhow::Result<Exit> {
    let filter = query.clone().checked().map_err(Usage)?;
    let rows_max = filter.rows_max;
    let held = ask::<calls::Held>(target, &Nothing {}, &query, async |store| store.set_aside(filter).await)?;
    if target.json {
        print_json(&held)?;
        return Ok(Exit::Yes);
    }
    let Some(last) = held.last() else {
        anstream::println!("nothing waits for review");
        return Ok(Exit::Yes);
    };
    show::held(&held);
    anstream::println!();
    let first = |kind| {
        held.iter()
            .find(|item| item.kind == kind && item.review.is_none())
            .map(|item| &item.id)
    };
    if let Some(receipt) = first(SetAsideKind::HeldReceipt) {
        anstream::println!("what mapping would do:   tollgate review {receipt} --map STATUS --dry-run");
    }
    if let Some(job) = first(SetAsideKind::HeldJob) {
        anstream::println!("run a held job again:    tollgate review {job} --run");
        anstream::println!("or all that match:       tollgate replay --held --dry-run");
        let is_over = |item: &&SetAside| item.review.is_none() && item.reason.starts_with(budget::OVER);
        if let Some(over) = held.iter().find(is_over) {
            anstream::println!(
                "beyond its budgets:      tollgate review {} --run --beyond-budget --why TEXT",
                over.id
            );
        }
    }
    if let Some(delivery) = first(SetAsideKind::Conflict).or_else(|| first(SetAsideKind::SuspectedReplay)) {
        anstream::println!("as an event of its own:  tollgate review {delivery} --run --dry-run");
    }
    if let Some(action) = first(SetAsideKind::LedgerConflict) {
        anstream::println!("keep what is recorded:   tollgate review {action} --keep --why TEXT");
        anstream::println!("record this one as well: tollgate review {action} --record KEY --dry-run");
    }
    if first(SetAsideKind::NoRoute).is_some() {
        anstream::println!("route them again:        tollgate replay --routes --no-route --dry-run");
    }
    let is_dismissed =
        |item: &&SetAside| item.kind.waits() && item.kind != SetAsideKind::LedgerConflict && item.review.is_none();
    if let Some(waiting) = held.iter().find(is_dismissed) {
        anstream::println!(
            "set it aside for good:   tollgate review {} --dismiss --why TEXT",
            waiting.id
        );
    }
    if held.len() == rows_max {
        anstream::println!("more of them:            tollgate review --after {}", last.id);
    }
    Ok(Exit::Yes)
}

/// `tollgate review --counts`.
fn held_counts(target: &Target, tenant: Option<String>) -> anyhow::Result<Exit> {
    let query = HeldCountsQuery { tenant };
    let tenant = query.clone().checked().map_err(Usage)?;
    let counts = ask::<calls::HeldCounts>(target, &Nothing {}, &query, async |store| {
        store.set_aside_counts(tenant).await
    })?;
    if target.json {
        print_json(&counts)?;
    } else if counts.is_empty() {
        anstream::println!("nothing is set aside");
    } else {
        show::held_counts(&counts);
    }
    Ok(Exit::Yes)
}

/// Who decides, for the history.
pub(super) fn actor() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "cli".to_owned());
    mask::shown(&user).into_owned()
}

/// Answers a question: a remote host is asked for the call; else the store is opened for reading and asked.
pub(super) fn ask<C: Call>(
    target: &Target,
    path: &C::Path,
    query: &C::Query,
    here: impl AsyncFnOnce(HostStore) -> Result<C::Answer, StoreError>,
) -> anyhow::Result<C::Answer> {
    ask_or_refused::<C>(target, path, query, async |store| Ok(here(store).await?))
}

/// As [`ask`], where the store alone may refuse as well.
pub(super) fn ask_or_refused<C: Call>(
    target: &Target,
    path: &C::Path,
    query: &C::Query,
    here: impl AsyncFnOnce(HostStore) -> anyhow::Result<C::Answer>,
) -> anyhow::Result<C::Answer> {
    ask_configured::<C>(target, path, query, async |store, _| here(store).await)
}

/// As [`ask_or_refused`], where the answer depends on the configuration too.
pub(super) fn ask_configured<C: Call>(
    target: &Target,
    path: &C::Path,
    query: &C::Query,
    here: impl AsyncFnOnce(HostStore, &Config) -> anyhow::Result<C::Answer>,
) -> anyhow::Result<C::Answer> {
    if let Some(remote) = Remote::of(target)? {
        return remote.ask(&question::<C>(path, query)?);
    }
    let config = config::load(&target.config)?;
    let store = store::open_read_only(&config.store)?;
    runtime()?.block_on(async {
        let config = registry::with_settings(&store, &config).await?;
        here(store, &config).await
    })
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}
