//! `tollgate bulk`: one thing done to everything that fits a filter. What fits is shown first, and whoever asks says yes.

use std::io::{BufRead as _, Write as _};
use std::time::Duration;

use tollgate_api::bulk::{AbortBody, BulkAnswer, BulkBody, BulkPath, BulkView, BulksQuery};
use tollgate_api::{Nothing, calls};
use tollgate_core::filter::{Filter, Listing};
use tollgate_core::ids::BulkId;
use tollgate_core::mask;
use tollgate_server::clock;

use super::lists::{self, Shown};
use super::show::{BOLD, DIM, state};
use super::{Exit, Target, Usage, ask, print_json, registry, show as shown};

/// Between two looks at one that goes on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Run jobs again that have ended, for example 'status:dead since:24h'
    #[command(after_help = lists::FILTERS)]
    Replay(Args),
    /// Try deliveries again that were given up, and send those again that arrived, for example 'status:dead destination:books'
    #[command(after_help = lists::FILTERS)]
    Redeliver(Args),
    /// Give events the jobs that they lack by the routes of now, for example 'status:unrouted type:order.*'
    #[command(after_help = lists::FILTERS)]
    Route(Args),
    /// Say that nothing is to be done about held jobs, or with --of events about held events
    #[command(after_help = lists::FILTERS)]
    Dismiss {
        #[command(flatten)]
        args: Args,
        /// Whose list the filter is of: jobs or events
        #[arg(long, default_value = "jobs")]
        of: String,
    },
    /// Give held events a status, for example 'disposition:held source:shop lifecycle:teleported' --to completed; the lifecycle judges each by its
    /// own subject
    #[command(after_help = lists::FILTERS)]
    Map {
        #[command(flatten)]
        args: Args,
        /// The status that the events have, for example completed
        #[arg(long, value_name = "STATUS")]
        to: String,
    },
    /// List bulk actions with their progress, newest first
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        query: BulksQuery,
    },
    /// Show one bulk action
    Show {
        #[command(flatten)]
        target: Target,
        /// For example bulk_7
        id: String,
    },
    /// End a bulk action before its next step; what it did stays done
    Abort {
        #[command(flatten)]
        target: Target,
        /// For example bulk_7
        id: String,
        /// Why, kept with it
        #[arg(long, default_value = "", hide_default_value = true)]
        why: String,
        /// Show what it would be, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Which are meant; an empty filter is refused
    #[arg(value_name = "FILTER", required = true)]
    filter: Vec<String>,
    /// Show how many fit and some of them, and change nothing
    #[arg(long, conflicts_with_all = ["yes", "no_wait"])]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Return when it has begun, and do not wait for its end
    #[arg(long)]
    no_wait: bool,
    /// Why it is done, for the history; required, but for --dry-run
    #[arg(long, default_value = "", hide_default_value = true)]
    why: String,
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Replay(args) => start("replay", None, Listing::Jobs, &args),
        Command::Redeliver(args) => start("redeliver", None, Listing::Deliveries, &args),
        Command::Route(args) => start("route", None, Listing::Events, &args),
        Command::Map { args, to } => start("map", Some(to), Listing::Events, &args),
        Command::Dismiss { args, of } => {
            let list = of.parse().map_err(|error| Usage(format!("--of: {error}")))?;
            start("dismiss", None, list, &args)
        }
        Command::List { target, query } => list(&target, &query),
        Command::Show { target, id } => {
            let bulk = shown_at(&target, named(&id)?)?;
            tell(&target, &bulk)
        }
        Command::Abort {
            target,
            id,
            why,
            dry_run,
        } => {
            let (actor, place) = (ask::actor(), ask::host_or_app(&target)?);
            let path = BulkPath { bulk: named(&id)? };
            let body = AbortBody { actor, why, dry_run };
            let bulk = registry::asked_at::<calls::AbortBulk>(place, &path, &Nothing {}, &body)?;
            if dry_run && !target.json {
                anstream::println!("nothing was changed; it would be:");
            }
            tell(&target, &bulk)
        }
    }
}

fn named(id: &str) -> anyhow::Result<BulkId> {
    id.parse().map_err(|error| Usage(format!("{error}")).into())
}

fn start(action: &str, to: Option<String>, list: Listing, args: &Args) -> anyhow::Result<Exit> {
    let filter = args.filter.join(" ");
    Filter::read(&filter, list, clock::now()).map_err(|error| Usage(error.pointed(&filter)))?;
    let body = BulkBody {
        action: action.to_owned(),
        of: Some(list.as_str().to_owned()),
        to,
        filter,
        upto: None,
        dry_run: true,
        actor: ask::actor(),
        why: args.why.clone(),
    };
    let begin = BulkBody {
        dry_run: args.dry_run,
        ..body.clone()
    };
    begin.clone().checked(clock::now()).map_err(Usage)?;
    let preview = asked(&args.target, &body)?;
    if args.dry_run || preview.fitting.count == 0 {
        return previewed(&args.target, list, &preview);
    }
    if !args.target.json {
        preview_for_people(list, &preview);
    }
    let question = match &body.to {
        Some(to) => format!("{action} to {to}"),
        None => action.to_owned(),
    };
    if !args.yes && !agreed(&question, list, &preview)? {
        anstream::eprintln!("nothing was done");
        return Ok(Exit::No);
    }
    // What came while it was looked at is not meant.
    let begin = BulkBody {
        upto: Some(preview.upto),
        ..begin
    };
    let Some(begun) = asked(&args.target, &begin)?.bulk else {
        anstream::eprintln!("nothing fits any more");
        return Ok(Exit::No);
    };
    if args.no_wait {
        return tell(&args.target, &begun);
    }
    if !args.target.json {
        anstream::eprintln!("{} goes on, also without this command", begun.bulk);
    }
    let mut bulk = begun;
    while bulk.ended_at.is_none() {
        std::thread::sleep(LOOK_EVERY);
        bulk = shown_at(&args.target, bulk.bulk)?;
    }
    tell(&args.target, &bulk)
}

fn asked(target: &Target, body: &BulkBody) -> anyhow::Result<BulkAnswer> {
    registry::asked_at::<calls::StartBulk>(ask::host_or_app(target)?, &Nothing {}, &Nothing {}, body)
}

fn shown_at(target: &Target, bulk: BulkId) -> anyhow::Result<BulkView> {
    let path = BulkPath { bulk };
    registry::asked_at::<calls::ShowBulk>(ask::host_or_app(target)?, &path, &Nothing {}, &Nothing {})
}

fn previewed(target: &Target, list: Listing, preview: &BulkAnswer) -> anyhow::Result<Exit> {
    if target.json {
        print_json(preview)?;
    } else {
        preview_for_people(list, preview);
    }
    Ok(if preview.fitting.count == 0 {
        Exit::No
    } else {
        Exit::Yes
    })
}

/// `12 jobs`, or how many as far as it was looked.
fn fitting(list: Listing, preview: &BulkAnswer) -> String {
    let many = lists::so_many(preview.fitting.count, list);
    if preview.fitting.complete {
        many
    } else {
        format!("{many} or more")
    }
}

fn preview_for_people(list: Listing, preview: &BulkAnswer) {
    anstream::println!(
        "{} fit{}",
        fitting(list, preview),
        if preview.fitting.count == 1 { "s" } else { "" }
    );
    preview.jobs.iter().for_each(Shown::show);
    preview.deliveries.iter().for_each(Shown::show);
    preview.events.iter().for_each(Shown::show);
    for would in &preview.would_become {
        let what = match (&would.reviewed, &would.refused) {
            (Some(reviewed), _) => shown::reviewed(reviewed),
            (None, refused) => format!(
                "passed over: {}",
                mask::line(refused.as_deref().unwrap_or_default(), 300)
            ),
        };
        anstream::println!("  {DIM}{} would be{DIM:#} {what}", would.receipt);
    }
    let shown = preview.jobs.len() + preview.deliveries.len() + preview.events.len();
    if preview.fitting.count > shown as u64 {
        anstream::println!("{DIM}and more: these are the first{DIM:#}");
    }
}

/// Asks whether it is meant. Who says nothing means no.
fn agreed(action: &str, list: Listing, preview: &BulkAnswer) -> anyhow::Result<bool> {
    anstream::eprint!("{action} {}? [y/N] ", fitting(list, preview));
    std::io::stderr().flush()?;
    let mut said = String::new();
    std::io::stdin().lock().read_line(&mut said)?;
    Ok(matches!(said.trim(), "y" | "Y" | "yes"))
}

fn list(target: &Target, query: &BulksQuery) -> anyhow::Result<Exit> {
    query.clone().checked().map_err(Usage)?;
    let bulks = registry::asked_at::<calls::Bulks>(ask::host_or_app(target)?, &Nothing {}, query, &Nothing {})?;
    if target.json {
        print_json(&bulks)?;
    } else if bulks.is_empty() {
        anstream::println!("no bulk actions");
    } else {
        bulks.iter().for_each(show);
    }
    Ok(Exit::Yes)
}

fn tell(target: &Target, bulk: &BulkView) -> anyhow::Result<Exit> {
    if target.json {
        print_json(bulk)?;
    } else {
        show(bulk);
    }
    Ok(Exit::Yes)
}

fn show(bulk: &BulkView) {
    let tenant = bulk.tenant.as_ref().map(|tenant| format!(" of {tenant}"));
    anstream::println!(
        "{BOLD}{}{BOLD:#}  {}{} {} '{}'{}: {}, {} of {}, {} passed over",
        bulk.bulk,
        mask::shown(&bulk.action),
        bulk.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default(),
        mask::shown(&bulk.of),
        mask::shown(&bulk.filter),
        tenant.unwrap_or_default(),
        state(&bulk.state),
        bulk.done,
        bulk.expected,
        bulk.passed_over,
    );
    anstream::println!(
        "  {DIM}{} by {}: {}{DIM:#}",
        bulk.started_at,
        mask::shown(&bulk.actor),
        mask::shown(&bulk.why)
    );
    if let (Some(at), Some(by)) = (&bulk.ended_at, &bulk.ended_by) {
        let why = bulk.ended_why.as_deref().filter(|why| !why.is_empty());
        let why = why.map(|why| format!(": {}", mask::shown(why)));
        anstream::println!(
            "  {DIM}ended {at} by {}{}{DIM:#}",
            mask::shown(by),
            why.unwrap_or_default()
        );
    }
}
