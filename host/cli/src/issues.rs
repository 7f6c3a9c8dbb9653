//! `tollgate issues`: failures that are one failure, what to do first, and what is said of them.

use tollgate_api::issues::{IssueBody, IssuePath, IssueView, IssuesQuery};
use tollgate_api::{Nothing, calls};
use tollgate_core::ids::IssueId;
use tollgate_core::mask;

use super::show::{BAD, BOLD, DIM, GOOD, WARN, counted};
use super::{Exit, Target, Usage, ask, print_json, registry};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(clap::Args)]
struct ListArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    query: IssuesQuery,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show one issue
    Show {
        #[command(flatten)]
        target: Target,
        /// For example issue_7
        id: String,
    },
    /// Say that somebody works on it
    Acknowledge(Says),
    /// Say that its cause is mended; it is opened again when it fails once more
    Resolve(Says),
    /// Say that nothing is to be done, however often it fails
    Ignore(Says),
    /// Open it again
    Reopen(Says),
}

#[derive(clap::Args)]
struct Says {
    #[command(flatten)]
    target: Target,
    /// For example issue_7
    id: String,
    /// Why, kept with it
    #[arg(long, default_value = "", hide_default_value = true)]
    why: String,
    /// Show what it would be, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        None => list(&args.list),
        Some(Command::Show { target, id }) => {
            let (place, path) = (ask::host_or_app(&target)?, path(&id)?);
            let issue = registry::asked_at::<calls::ShowIssue>(place, &path, &Nothing {}, &Nothing {})?;
            tell(&target, &issue)
        }
        Some(Command::Acknowledge(says)) => say(says, "acknowledged"),
        Some(Command::Resolve(says)) => say(says, "resolved"),
        Some(Command::Ignore(says)) => say(says, "ignored"),
        Some(Command::Reopen(says)) => say(says, "open"),
    }
}

fn path(id: &str) -> anyhow::Result<IssuePath> {
    let issue: IssueId = id.parse().map_err(|error| Usage(format!("{error}")))?;
    Ok(IssuePath { issue })
}

fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    args.query.clone().checked().map_err(Usage)?;
    let place = ask::host_or_app(&args.target)?;
    let issues = registry::asked_at::<calls::Issues>(place, &Nothing {}, &args.query, &Nothing {})?;
    if args.target.json {
        print_json(&issues)?;
    } else if issues.is_empty() {
        anstream::println!("no issues");
    } else {
        issues.iter().for_each(show);
    }
    Ok(if issues.is_empty() { Exit::No } else { Exit::Yes })
}

fn say(says: Says, state: &str) -> anyhow::Result<Exit> {
    let Says {
        target,
        id,
        why,
        dry_run,
    } = says;
    let body = IssueBody {
        state: state.to_owned(),
        actor: ask::actor(),
        why,
        dry_run,
    };
    let (place, path) = (ask::host_or_app(&target)?, path(&id)?);
    let issue = registry::asked_at::<calls::ChangeIssue>(place, &path, &Nothing {}, &body)?;
    if dry_run && !target.json {
        anstream::println!("nothing was changed; it would be:");
    }
    tell(&target, &issue)
}

fn tell(target: &Target, issue: &IssueView) -> anyhow::Result<Exit> {
    if target.json {
        print_json(issue)?;
    } else {
        show(issue);
    }
    Ok(Exit::Yes)
}

fn show(issue: &IssueView) {
    let style = match issue.state.as_str() {
        "open" => BAD,
        "acknowledged" => WARN,
        "resolved" => GOOD,
        _ => DIM,
    };
    anstream::println!(
        "{BOLD}{}{BOLD:#}  {style}{}{style:#}  {} at {} of {}: {}, {}  {DIM}{} to {}{DIM:#}",
        issue.issue,
        mask::shown(&issue.state),
        mask::shown(&issue.kind),
        mask::shown(&issue.place),
        issue.tenant,
        mask::shown(&issue.code),
        counted(issue.count, "failure"),
        issue.first_seen,
        issue.last_seen,
    );
    anstream::println!("  {DIM}reason{DIM:#}  {}", mask::line(&issue.reason, 300));
    anstream::println!("  {DIM}first{DIM:#}   {}", mask::shown(&issue.first_action));
    anstream::println!(
        "  {DIM}list{DIM:#}    tollgate {} '{}'",
        mask::shown(&issue.list),
        mask::shown(&issue.filter)
    );
    if !issue.changed_by.is_empty() {
        let why = if issue.why.is_empty() {
            String::new()
        } else {
            format!(": {}", mask::shown(&issue.why))
        };
        anstream::println!(
            "  {DIM}{} {} by {}{why}{DIM:#}",
            mask::shown(&issue.state),
            issue.changed_at,
            mask::shown(&issue.changed_by)
        );
    }
}
