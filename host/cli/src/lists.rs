//! The lists: `tollgate events`, `jobs`, `runs`, `actions`, `deliveries`, `undelivered` and `refused`, each narrowed by a filter, and
//! `tail`, which follows the first of them.

use std::time::Duration;

use anyhow::Context as _;
use tollgate_api::lists::{
    ActionRow, Count, CountQuery, DeliveryRow, EventRow, JobRow, ListQuery, Listed, OfEvent, Page, RefusedRow, RunRow,
    UndeliveredRow,
};
use tollgate_api::{Call, Nothing, calls};
use tollgate_core::admission::Disposition;
use tollgate_core::filter::{Filter, Listing};
use tollgate_core::mask;
use tollgate_core::time::UnixMillis;
use tollgate_server::clock;
use tollgate_server::operator::{count_by_now, list_by_now};

use super::ask::{ask_configured, host_or_app};
use super::registry::asked_at;
use super::show::{BOLD, DIM, WARN, counted, state};
use super::{Exit, Target, Usage, print_json, print_json_line};

/// What every list says of its filters.
pub(super) const FILTERS: &str = "A filter is a list of terms that must all hold; `-` before a term turns it round, and of values with commas \
    between them one must fit:\n\n\
    \x20 status:dead since:24h                     what was given up of the last day\n\
    \x20 type:order.*,refund.* -source:shop        a `*` stands at the end of a value\n\
    \x20 subject:\"order 7, late\"                   quotes where a value has spaces or commas\n\
    \x20 body.data.amount:>1000                    a value of the body, found by looking\n\
    \x20 code:5xx,none attempts:>3                 numbers are compared by <, <=, >=, >\n\
    \x20 since:2026-05-05T10:00:00Z until:1h       instants, or how long ago\n\n\
    Put the filter in quotes, or behind `--` where it begins with `-`. A filter that no index serves looks at 10000 at a time and \
    says how far it came.\n\
    Keys and their words: docs/lists.md.\n\n\
    Exit status: 0 something was found, 1 nothing was, 2 the filter is not one.";

/// Pages that are asked for before it is said how far was looked.
const PAGES_MAX: usize = 20;
/// Rows of one question where all are wanted.
const ROWS_AT_ONCE: u64 = 1000;
/// Between two looks of who follows.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

#[derive(clap::Args, Clone)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// What must hold, for example 'status:dead since:24h'; without it everything
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Print one JSON object a line; without --limit all there are
    #[arg(long, conflicts_with = "json")]
    ndjson: bool,
    /// Only say how many there are
    #[arg(long, conflicts_with_all = ["ndjson", "follow", "limit"])]
    count: bool,
    /// Show the newest, and then what comes, until Ctrl-C
    #[arg(long, conflicts_with_all = ["json", "after"])]
    follow: bool,
    /// Go on behind this place, which the list before names
    #[arg(long, value_name = "PLACE")]
    after: Option<String>,
    /// At most this many, newest first [default: 20]
    #[arg(long)]
    limit: Option<u64>,
}

#[derive(clap::Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    target: Target,
    /// What must hold, for example 'source:shop type:order.*'; without it everything
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "json")]
    ndjson: bool,
    /// How many of the newest are shown first
    #[arg(long, default_value_t = 10)]
    limit: u64,
}

/// `tollgate tail`.
pub(super) fn tail(args: TailArgs) -> anyhow::Result<Exit> {
    let args = Args {
        // One object a line is the only JSON that has no end.
        ndjson: args.ndjson || args.target.json,
        target: args.target,
        filter: args.filter,
        count: false,
        follow: true,
        after: None,
        limit: Some(args.limit),
    };
    run::<calls::Events, _>(&args)
}

/// A list, as its arguments have it.
pub(super) fn run<C, L>(args: &Args) -> anyhow::Result<Exit>
where
    C: Call<Path = Nothing, Query = ListQuery, Body = Nothing, Answer = Page<L>>,
    L: Listed + Shown,
{
    let filter = args.filter.join(" ");
    Filter::read(&filter, L::LIST, clock::now()).map_err(|error| Usage(error.pointed(&filter)))?;
    let query = ListQuery {
        filter: Some(filter).filter(|filter| !filter.trim().is_empty()),
        after: args.after.clone(),
        newer: None,
        limit: args.limit,
    };
    if args.count {
        return count::<L>(args, query);
    }
    if args.follow {
        return follow::<C, L>(args, query);
    }
    if args.ndjson {
        return lines::<C, L>(args, query);
    }
    let page = pages::<C, L>(&args.target, query)?;
    if args.target.json {
        print_json(&page)?;
    } else {
        page.items.iter().for_each(Shown::show);
        how_far(L::LIST.as_str(), &page);
    }
    Ok(found(!page.items.is_empty()))
}

fn found(something: bool) -> Exit {
    if something { Exit::Yes } else { Exit::No }
}

/// Below a list: whether that was all, and where it goes on.
fn how_far<L>(list: &str, page: &Page<L>) {
    if page.items.is_empty() {
        anstream::eprintln!("nothing of the {list} fits");
    }
    if let Some(next) = &page.next {
        let back_to = page.looked_back_to.as_deref().unwrap_or_default();
        anstream::println!(
            "\n{DIM}looked at {} back to {back_to}{DIM:#}; go on with --after {next}",
            page.looked_at
        );
    }
}

/// Asks for pages until there are as many as wanted, all are there, or it was looked far enough.
fn pages<C, L>(target: &Target, query: ListQuery) -> anyhow::Result<Page<L>>
where
    C: Call<Path = Nothing, Query = ListQuery, Body = Nothing, Answer = Page<L>>,
    L: Listed,
{
    let wanted = query.limit.unwrap_or(20);
    let mut all: Option<Page<L>> = None;
    for _ in 0..PAGES_MAX {
        let mut query = query.clone();
        if let Some(all) = &all {
            query.after.clone_from(&all.next);
            query.limit = Some(wanted - all.items.len() as u64);
        }
        let page = ask::<C, L>(target, &query)?;
        match &mut all {
            None => all = Some(page),
            Some(all) => {
                all.items.extend(page.items);
                all.next = page.next;
                all.looked_at += page.looked_at;
                all.looked_back_to = page.looked_back_to.or(all.looked_back_to.take());
            }
        }
        if all
            .as_ref()
            .is_some_and(|all| all.next.is_none() || all.items.len() as u64 >= wanted)
        {
            break;
        }
    }
    all.context("nothing was answered")
}

fn ask<C, L>(target: &Target, query: &ListQuery) -> anyhow::Result<Page<L>>
where
    C: Call<Path = Nothing, Query = ListQuery, Body = Nothing, Answer = Page<L>>,
    L: Listed,
{
    let asked = query.clone().checked(L::LIST, clock::now()).map_err(Usage)?;
    if !L::LIST.is_of_events() {
        return asked_at::<C>(host_or_app(target)?, &Nothing {}, query, &Nothing {});
    }
    ask_configured::<C>(target, &Nothing {}, query, async |store, config| {
        Ok(list_by_now::<L>(&store, config, asked).await?)
    })
}

fn count<L: Listed>(args: &Args, query: ListQuery) -> anyhow::Result<Exit> {
    let query = CountQuery {
        of: L::LIST.as_str().to_owned(),
        filter: query.filter,
        after: query.after,
    };
    let asked = query.clone().checked(clock::now()).map_err(Usage)?;
    let count: Count = if L::LIST.is_of_events() {
        ask_configured::<calls::Count>(&args.target, &Nothing {}, &query, async |store, config| {
            Ok(count_by_now(&store, config, asked).await?)
        })?
    } else {
        asked_at::<calls::Count>(host_or_app(&args.target)?, &Nothing {}, &query, &Nothing {})?
    };
    if args.target.json {
        print_json(&count)?;
    } else if let Some(next) = &count.next {
        anstream::println!(
            "{BOLD}{}{BOLD:#} of the newest {} {}, back to {}; count on with --after {next}",
            count.count,
            count.looked_at,
            count.of,
            count.looked_back_to.as_deref().unwrap_or_default(),
        );
    } else {
        anstream::println!("{}", so_many(count.count, L::LIST));
    }
    Ok(found(count.count > 0))
}

/// `1 event`, `7 deliveries`.
pub(super) fn so_many(count: u64, list: Listing) -> String {
    match list {
        Listing::Undelivered | Listing::Refused => format!("{count} {}", list.as_str()),
        Listing::Deliveries if count == 1 => "1 delivery".to_owned(),
        Listing::Deliveries => format!("{count} deliveries"),
        Listing::Events | Listing::Jobs | Listing::Runs | Listing::Actions => {
            counted(count, list.as_str().trim_end_matches('s'))
        }
    }
}

/// All that fits, or as many as wanted, as one object a line.
fn lines<C, L>(args: &Args, mut query: ListQuery) -> anyhow::Result<Exit>
where
    C: Call<Path = Nothing, Query = ListQuery, Body = Nothing, Answer = Page<L>>,
    L: Listed,
{
    let mut left = query.limit;
    let mut some = false;
    loop {
        query.limit = Some(left.unwrap_or(ROWS_AT_ONCE).min(ROWS_AT_ONCE));
        let page = ask::<C, L>(&args.target, &query)?;
        for item in &page.items {
            some = true;
            print_json_line(item)?;
        }
        left = left.map(|left| left.saturating_sub(page.items.len() as u64));
        match page.next {
            Some(next) if left != Some(0) => query.after = Some(next),
            Some(_) | None => return Ok(found(some)),
        }
    }
}

/// Shows the newest, the oldest of them first, and then what comes.
fn follow<C, L>(args: &Args, mut query: ListQuery) -> anyhow::Result<Exit>
where
    C: Call<Path = Nothing, Query = ListQuery, Body = Nothing, Answer = Page<L>>,
    L: Listed + Shown,
{
    let show = |items: &[L]| -> anyhow::Result<()> {
        for item in items.iter().rev() {
            if args.ndjson {
                print_json_line(item)?;
            } else {
                item.show();
            }
        }
        Ok(())
    };
    let mut page = pages::<C, L>(&args.target, query.clone())?;
    query.limit = Some(ROWS_AT_ONCE);
    loop {
        show(&page.items)?;
        query.newer = page.newest.or(query.newer);
        std::thread::sleep(FOLLOW_EVERY);
        page = since::<C, L>(&args.target, &query)?;
    }
}

/// All that came since the last look.
fn since<C, L>(target: &Target, query: &ListQuery) -> anyhow::Result<Page<L>>
where
    C: Call<Path = Nothing, Query = ListQuery, Body = Nothing, Answer = Page<L>>,
    L: Listed,
{
    let mut all = ask::<C, L>(target, query)?;
    while let Some(next) = all.next.take() {
        let page = ask::<C, L>(
            target,
            &ListQuery {
                after: Some(next),
                ..query.clone()
            },
        )?;
        all.items.extend(page.items);
        all.next = page.next;
    }
    Ok(all)
}

/// Can be read by a person, in a line or two.
pub(super) trait Shown {
    fn show(&self);
}

/// An event, where something else is in front. What an event says is whatever its sender wrote.
fn event(event: &OfEvent) -> String {
    format!("{} {}", mask::shown(&event.event_type), mask::shown(&event.event_id))
}

fn place(event: &OfEvent) -> String {
    format!("{}/{}", event.tenant, event.source)
}

/// A reason on a line of its own.
fn because(reason: Option<&str>) {
    if let Some(reason) = reason.filter(|reason| !reason.is_empty()) {
        anstream::println!("  {DIM}reason{DIM:#}  {}", mask::line(reason, 300));
    }
}

/// `, 3 h ago`, from a minute on.
fn ago(since: &str) -> String {
    let Some(since) = UnixMillis::from_rfc3339(since) else {
        return String::new();
    };
    match clock::now().since(since) / 60_000 {
        ..1 => String::new(),
        minutes @ 1..120 => format!(", {minutes} min ago"),
        minutes @ 120..2880 => format!(", {} h ago", minutes / 60),
        minutes => format!(", {} days ago", minutes / 1440),
    }
}

impl Shown for EventRow {
    fn show(&self) {
        let disposition = match &self.disposition {
            Disposition::Accepted => state("accepted"),
            Disposition::Superseded { current } => {
                format!("{} (the subject is already {current})", state("superseded"))
            }
            Disposition::Held { reason } => format!("{} ({})", state("held"), mask::line(reason, 120)),
        };
        let subject = self.event.subject.as_deref().map(mask::shown).unwrap_or_default();
        let work: Vec<_> = self
            .work
            .iter()
            .map(|(word, count)| format!("{count} {}", state(word)))
            .collect();
        anstream::println!(
            "{}  {}  {BOLD}{}{BOLD:#}  {}  {disposition}  {DIM}{} {subject}{DIM:#}  {}",
            self.event.received_at,
            self.event.receipt,
            mask::shown(&self.event.event_type),
            place(&self.event),
            mask::shown(&self.event.event_id),
            work.join(", "),
        );
    }
}

impl Shown for JobRow {
    fn show(&self) {
        anstream::println!(
            "{}  {BOLD}{}{BOLD:#}  {} on route {}: {}  {DIM}{}  {}{DIM:#}",
            self.event.received_at,
            self.job,
            place(&self.event),
            self.route,
            state(&self.status),
            event(&self.event),
            counted(u64::from(self.attempts), "attempt"),
        );
        because(self.reason.as_deref());
    }
}

impl Shown for RunRow {
    fn show(&self) {
        anstream::println!(
            "{}  {BOLD}{}{BOLD:#}  {} of {} on route {}: {}  {DIM}{}  {:.1} ms, {} fuel{DIM:#}",
            self.started_at,
            self.run,
            self.plugin,
            place(&self.event),
            self.route,
            state(&self.outcome),
            event(&self.event),
            self.duration_us as f64 / 1000.0,
            self.fuel,
        );
        because(Some(&self.message));
    }
}

impl Shown for ActionRow {
    fn show(&self) {
        anstream::println!(
            "{}  {BOLD}{}{BOLD:#}  {}: {}  {}  {DIM}{}  {}{DIM:#}",
            self.recorded_at,
            self.action,
            place(&self.event),
            mask::line(&self.summary, 300),
            state(&self.status),
            mask::shown(&format!("{}/{}", self.namespace, self.operation_key)),
            event(&self.event),
        );
    }
}

impl Shown for DeliveryRow {
    fn show(&self) {
        let code = self.code.map(|code| format!("  answered {code}")).unwrap_or_default();
        anstream::println!(
            "{}  {BOLD}{}{BOLD:#}  {} to {}: {}{code}  {DIM}{}  {}  {}{DIM:#}",
            self.recorded_at,
            self.entry,
            place(&self.event),
            self.destination,
            state(&self.status),
            mask::shown(&self.operation_key),
            event(&self.event),
            counted(u64::from(self.attempts), "attempt"),
        );
        because(self.reason.as_deref());
    }
}

impl Shown for UndeliveredRow {
    fn show(&self) {
        let style = if self.status == "not-meant" { DIM } else { WARN };
        let status = match state(&self.status) {
            plain if plain == self.status => format!("{style}{plain}{style:#}"),
            coloured => coloured,
        };
        anstream::println!(
            "{}  {}  {} to {}: {status}  {DIM}since {}{}{DIM:#}\n  {DIM}reason{DIM:#}  {}",
            self.event.receipt,
            event(&self.event),
            place(&self.event),
            self.destination,
            self.since,
            ago(&self.since),
            mask::line(&self.reason, 300),
        );
    }
}

impl Shown for RefusedRow {
    fn show(&self) {
        let whose = match (&self.tenant, &self.source, &self.path) {
            (Some(tenant), Some(source), _) => format!("{tenant}/{source}"),
            (_, _, Some(path)) => mask::shown(path).into_owned(),
            (..) => "no source".to_owned(),
        };
        let body = match self.body_bytes {
            Some(bytes) => format!("{bytes} bytes"),
            None => "a body of unknown length".to_owned(),
        };
        let from = self
            .from
            .as_ref()
            .map(|network| format!(" from {}", mask::shown(network)));
        anstream::println!(
            "{}  {BOLD}{}{BOLD:#}  {WARN}{}{WARN:#}, answered {}  {DIM}{} of {body}{}{DIM:#}",
            self.refused_at,
            whose,
            mask::shown(&self.cause),
            self.code,
            mask::shown(&self.method),
            from.unwrap_or_default(),
        );
        because(Some(&self.reason));
        let names: Vec<_> = self.headers.iter().map(|name| mask::shown(name)).collect();
        let rest = match self.header_count.saturating_sub(names.len() as u64) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        anstream::println!(
            "  {DIM}headers{DIM:#} {}{rest} ({} bytes)",
            names.join(", "),
            self.header_bytes
        );
    }
}
