//! The binary `tollgate`: its command line. It prints for people by default and takes `--json` everywhere, and scripts can rely on its
//! exit codes.

mod ask;
mod audit;
mod backup;
mod budgets;
mod bulk;
mod check;
mod copy;
mod demo;
mod hosts;
mod key_file;
mod issues;
mod kit;
mod lists;
mod pauses;
mod portal;
mod provider;
mod pull;
mod registry;
mod repeat;
mod state;
mod request;
mod send;
mod settings;
mod settings_file;
mod show;
mod spin;
mod status;
mod store;
mod store_files;
mod test_key;
mod token;
mod traces;
mod tryouts;
mod verify;
mod wire;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use clap::{Parser, Subcommand};
use tollgate_api::budgets::BudgetsQuery;
use tollgate_api::calls;
use tollgate_api::dead_letters::DeadLetterQuery;
use tollgate_api::resend::SentQuery;
use tollgate_api::set_aside::HeldQuery;
use tollgate_api::tokens::NewTokenBody;

use tollgate_server::log::{self, LogFormat};
use tollgate_server::serve::{BrokenTenants, COMPILE_PLUGIN};

/// What is allocated on one thread is often freed on another here (an event is made by the edge and dropped by the writer),
/// which the system's allocator pays for with locks. SQLite allocates from it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Written by `cargo xtask licenses`.
const LICENSES: &str = include_str!("../licenses.txt");

/// How a command ended, as its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done, and the answer is yes.
    Yes,
    /// 1: done, and the answer is no: not authentic, problems found, nothing found, a promise not kept.
    No,
}

/// 2: the command line, or a file it names, is not usable. Clap uses the same.
const USAGE: u8 = 2;
/// 3: it could not be done: nothing listens, a disk or the network failed.
const FAILED: u8 = 3;

/// An error that is the caller's to mend: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// What was asked for cannot be, and nothing was done: exit status 1.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

#[derive(Parser)]
#[command(
    name = "tollgate",
    version,
    about = "The ingest host for reward and payment webhooks.",
    long_about = "The ingest host for reward and payment webhooks.\n\nProves that an event is authentic over its raw bytes, writes a durable \
                  receipt, acknowledges, and then runs sandboxed WebAssembly plugins that turn the event into typed actions.",
    after_help = "Exit status: 0 yes or done, 1 no (not authentic, problems found, nothing found), 2 bad usage, 3 could not be done.\n\
                  Every command takes --json where it prints an answer."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args, Clone)]
pub(crate) struct Target {
    /// The operator's configuration file
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
    pub(crate) config: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask the Spin app at this URL instead of a store; its operator_token in TOLLGATE_SPIN_TOKEN
    #[arg(long, value_name = "URL")]
    pub(crate) spin: Option<String>,
    /// Ask the host whose private listener is at this URL, as whoever holds the token in TOLLGATE_TOKEN
    #[arg(long, value_name = "URL", env = "TOLLGATE_URL", conflicts_with = "spin")]
    pub(crate) url: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the host until SIGTERM; SIGHUP reads the configuration again
    Serve {
        /// The operator's configuration file
        #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
        config: PathBuf,
        /// How log lines look
        #[arg(long, value_parser = log_format(), default_value = "text")]
        log: LogFormat,
        /// Start without the tenants whose files are wrong and of which nothing good is known; they are answered 503
        #[arg(long)]
        without_broken_tenants: bool,
    },
    /// Show Tollgate at work: a host, two tenants, real signed events, a crash in the middle, and what became of each event
    Demo(demo::Args),
    /// Check the configuration without starting anything
    Check {
        #[command(flatten)]
        target: Target,
    },
    /// Show how a running host is doing: its parts, what waits, and what needs a person
    #[command(after_help = "Exit status: 0 every part of the host works, 1 one does not, 3 nothing answers.")]
    Status {
        #[command(flatten)]
        target: Target,
        /// Show what the host did in the last hour instead
        #[arg(long)]
        lately: bool,
    },
    /// List the hosts that share a PostgreSQL store: which are there, what they run, and what they hold
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "A host is gone when it has said nothing for ten seconds. A host that has its store alone is a list of one.\n\n\
                      Exit status: 0 done, 3 the store or the host cannot be asked."
    )]
    Hosts {
        #[command(flatten)]
        target: Target,
        #[command(subcommand)]
        command: Option<hosts::Command>,
    },
    /// Sign an event as its provider would, and send it
    Send(send::Args),
    /// Check one recorded request offline: is it authentic, and if not, why
    Verify(verify::Args),
    /// Show everything that became of an event, from any one identifier
    #[command(after_help = "Without an identifier: the newest receipts.\n\
                            Identifiers: a provider's event id, a subject, an operation key, or rcpt_… job_… run_… act_… out_… dead_…")]
    Trace {
        #[command(flatten)]
        target: Target,
        /// Any one identifier
        id: Option<String>,
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<String>,
        /// Go on behind this receipt, the last of the list before
        #[arg(long, value_name = "RECEIPT")]
        after: Option<String>,
        /// At most this many receipts, newest first
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// List events by a filter, newest first
    #[command(after_help = lists::FILTERS)]
    Events(lists::Args),
    /// List jobs by a filter: events on routes, with the newest event first
    #[command(after_help = lists::FILTERS)]
    Jobs(lists::Args),
    /// List runs of plugins by a filter, newest first
    #[command(after_help = lists::FILTERS)]
    Runs(lists::Args),
    /// List actions of the ledger by a filter, newest first
    #[command(after_help = lists::FILTERS)]
    Actions(lists::Args),
    /// List deliveries by a filter: actions on their way to destinations, with the newest action first
    #[command(after_help = lists::FILTERS)]
    Deliveries(lists::Args),
    /// List what is due at each destination and has not arrived, with the reason
    #[command(after_help = lists::FILTERS)]
    Undelivered(lists::Args),
    /// List requests that a running host refused, newest first, with the reason; neither bodies nor values of headers are kept
    #[command(after_help = lists::FILTERS)]
    Refused(lists::Args),
    /// Show events as they come in, until Ctrl-C
    #[command(after_help = lists::FILTERS)]
    Tail(lists::TailArgs),
    /// Export what became of events as OpenTelemetry traces
    Traces {
        #[command(subcommand)]
        command: traces::Command,
    },
    /// List dead letters: what was given up, and why
    Dlq {
        #[command(subcommand)]
        command: DlqCommand,
    },
    /// Run dead or held work again, or route receipts again by the routes of now
    #[command(
        after_help = "Three kinds of work, each narrowed by its flags, and each with --dry-run first:\n\n\
                      \x20 tollgate replay [FILTER]            open dead letters\n\
                      \x20 tollgate replay --held [FILTER]     jobs that their plugins held\n\
                      \x20 tollgate replay --routes [FILTER]   receipts, routed again: those that came before their route, say\n\n\
                      With an identifier: that dead letter, or all of a receipt's ended jobs and those that it lacks.\n\
                      A receipt has one job per route and an operation one effect, so that a replay has no second effect."
    )]
    Replay(ReplayArgs),
    /// List failures that are one failure, with what to do first, and say what becomes of them
    Issues(issues::Args),
    /// Do one thing to everything that fits a filter: look first, then follow its progress, or end it
    Bulk {
        #[command(subcommand)]
        command: bulk::Command,
    },
    /// Send again what was delivered, on purpose: one delivery's, action's or receipt's, or those that match
    #[command(
        after_help = "The destination gets the same webhook-id and Idempotency-Key as before, and the header tollgate-resend, so that it \
                      can tell. What was given up is put back with `tollgate replay`.\n\n\
                      A filter sends what was delivered and matches: look first with --dry-run."
    )]
    Resend(ResendArgs),
    /// List what is set aside, and decide about it
    #[command(
        after_help = "Without an identifier: the list of what waits for a person's word, kind by kind, of each the newest first.\n\n\
                      A held receipt (rcpt_…) is mapped to the status that you name, and the lifecycle judges it as it would have judged the \
                      provider; or it is replaced with another form of its event that came later (dlv_…); or dismissed.\n\
                      A job that its plugin or a budget held (job_…) runs again, beyond its budgets where you say so, or is dismissed.\n\
                      A delivery with the id of a receipt and other bytes (dlv_…) runs as an event of its own, or is dismissed.\n\
                      An action whose operation is recorded with other content (act_…) is kept out of the ledger, or recorded under \
                      another operation key.\n\n\
                      The routes of now apply. Receipts stay as they were; the decision is kept beside them, once.\n\n\
                      Exit status: 0 done, 1 it cannot be (not held, reviewed before, a status that contradicts the subject's)."
    )]
    Review {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        args: ReviewArgs,
    },
    /// Show the budgets of routes: what is spent, what is left, and until when
    #[command(
        after_help = "A grant may have budgets: so much money or so many actions in an hour, a day or a month (UTC), of the route or of each \
                      account. What would go beyond one is held: list it with `tollgate review --kind held-job --reason budget`, and let \
                      it go with `tollgate review job_… --run`, once there is enough left, or with --beyond-budget."
    )]
    Budgets {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        query: BudgetsQuery,
    },
    /// What a tenant configures itself beside the operator's file: its settings, their versions, and its secrets
    #[command(
        after_help = "Settings are one text in the grammar of a tenant's file. They add sources, routes and destinations; what the operator's file says \
                      stays as it is. They are checked whole before anything is kept, and in effect on every host at once. A host is asked for all of it: \
                      the one at --url with the token in TOLLGATE_TOKEN, or the one whose configuration is here.\n\n\
                      Without --tenant it is the tenant of the token."
    )]
    Settings {
        #[command(subcommand)]
        command: settings::Command,
    },
    /// Try a source of a running host: send it a test event
    Source {
        #[command(subcommand)]
        command: tryouts::SourceCommand,
    },
    /// Try a destination of a running host: send it a test delivery
    Destination {
        #[command(subcommand)]
        command: tryouts::DestinationCommand,
    },
    /// Write what is configured by API as files
    Config {
        #[command(subcommand)]
        command: settings::ConfigCommand,
    },
    /// Let no more jobs of a route begin, or send nothing more to a destination, until it is resumed
    #[command(
        after_help = "Events are taken in as ever, and nothing is lost: jobs and deliveries wait, however long. What runs already runs to its end.\n\n\
                      It holds on every host of the store from its commit on. `tollgate paused` lists what is paused; `tollgate status` shows it too."
    )]
    Pause {
        #[command(subcommand)]
        on: pauses::On,
    },
    /// Let a paused route's jobs run, or send to a paused destination again
    Resume {
        #[command(subcommand)]
        on: pauses::On,
    },
    /// List the routes and destinations that are paused
    Paused {
        #[command(flatten)]
        target: Target,
    },
    /// Fetch what waits for a pulled destination, and confirm what was done
    #[command(
        after_help = "For destinations with kind = \"pull\": whoever owns one fetches over HTTP what others are sent, for example from behind a firewall.\n\n\
                      Each delivery is one line of JSON, with its lease, headers and body. It is confirmed once it was printed; with --exec, \
                      once the command has ended with 0, which gets the body on its standard input and each header as TOLLGATE_HEADER_NAME. \
                      What the command does not accept is given back and comes again, as an attempt that failed. With --no-confirm \
                      nothing is said: what is fetched comes again when its lease is over, unless it is confirmed by the API.\n\n\
                      Whoever was handed a delivery twice knows it by its idempotency-key.\n\n\
                      Exit status: 0 something was fetched and accepted, 1 nothing was, or something was given back."
    )]
    Pull(pull::Args),
    /// Show what Tollgate knows of each provider, and run its known answers
    Provider {
        #[command(subcommand)]
        command: ProviderCommand,
    },
    /// Write, test and manage plugins
    Plugin {
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Manage the routes of a running host
    Route {
        #[command(subcommand)]
        command: registry::RouteCommand,
    },
    /// Manage the publishers' keys that a tenant trusts
    Publisher {
        #[command(subcommand)]
        command: registry::PublisherCommand,
    },
    /// Manage the tokens of the private listener
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Manage links that open the console for one tenant, for a time
    Portal {
        #[command(subcommand)]
        command: portal::Command,
    },
    /// Verify that the store holds what was admitted, and sign checkpoints of it
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Back the store up while the host runs; verify a backup, and put one back
    Backup(backup::Args),
    /// Mend the files of a store while no host runs
    Store {
        #[command(subcommand)]
        command: store::Command,
    },
    /// Copy a whole store: between a native host's files, a Spin app's file and PostgreSQL
    Copy(copy::Args),
    /// Edit and check a Spin app: its plugins in spin.toml
    Spin {
        #[command(subcommand)]
        command: spin::Command,
    },
    /// Print what Tollgate is made of besides its own code, and the terms of each package
    Licenses,
    #[command(name = COMPILE_PLUGIN, hide = true)]
    CompilePlugin,
}

#[derive(Subcommand)]
enum DlqCommand {
    /// List dead letters, newest first
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        filter: DeadLetterQuery,
    },
    /// Show one dead letter with its event's whole trace
    Show {
        #[command(flatten)]
        target: Target,
        /// For example dead_7
        id: String,
    },
}

#[derive(clap::Args)]
struct ReplayArgs {
    #[command(flatten)]
    target: Target,
    /// A dead letter (dead_7) or a receipt (rcpt_…)
    id: Option<String>,
    #[command(flatten)]
    filter: DeadLetterQuery,
    /// Jobs that their plugins held, instead of dead letters
    #[arg(long, conflicts_with_all = ["id", "destination", "with_replayed"])]
    held: bool,
    /// Receipts, routed again by the routes of now: each gets the jobs that it lacks
    #[arg(long, conflicts_with_all = ["id", "held", "route", "destination", "reason", "with_replayed"])]
    routes: bool,
    /// Only receipts of this event type; `*` at its end stands for the rest
    #[arg(long = "type", value_name = "TYPE", requires = "routes")]
    event_type: Option<String>,
    /// Only receipts with this status
    #[arg(long, requires = "routes")]
    status: Option<String>,
    /// Only receipts of this subject
    #[arg(long, requires = "routes")]
    subject: Option<String>,
    /// Only receipts received before this instant (RFC 3339)
    #[arg(long, requires = "routes")]
    until: Option<String>,
    /// accepted: only those that did not come late. superseded: only those that did, whatever their routes say of late events.
    /// Absent: all, each judged as when it came
    #[arg(long, requires = "routes")]
    disposition: Option<String>,
    /// Only receipts that no route took
    #[arg(long, requires = "routes")]
    no_route: bool,
    /// All that there is; asked for when neither an identifier nor a filter is given
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
struct ResendArgs {
    #[command(flatten)]
    target: Target,
    /// A delivery (out_7), an action (act_7) or a receipt (rcpt_…): all that was delivered of it
    id: Option<String>,
    #[command(flatten)]
    filter: SentQuery,
    /// Why, for the history; needed unless --dry-run
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Say what would be sent, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::Args)]
struct ReviewArgs {
    /// A held receipt (rcpt_…), a held job (job_…), a conflicting delivery (dlv_…) or an action that conflicts with the ledger (act_…)
    id: Option<String>,
    /// The status that a held receipt's event has, of its family's lifecycle
    #[arg(long, value_name = "STATUS", requires = "id", conflicts_with_all = ["dismiss", "run", "replace_with", "keep", "record"])]
    map: Option<String>,
    /// The delivery (dlv_…) that takes a held receipt's place
    #[arg(long, value_name = "DELIVERY", requires = "id", conflicts_with_all = ["dismiss", "run", "keep", "record"])]
    replace_with: Option<String>,
    /// With --map: the subject has this status from now on, whatever it was; needs --why
    #[arg(long, requires = "map", requires = "why")]
    set_right: bool,
    /// Run a held job again, or a conflicting delivery as an event of its own
    #[arg(long, requires = "id", conflicts_with_all = ["dismiss", "keep", "record"])]
    run: bool,
    /// With --run of a held job: record what it proposes whatever its budgets have left, this once; needs --why
    #[arg(long, requires = "run", requires = "why")]
    beyond_budget: bool,
    /// Nothing is to be done with it
    #[arg(long, requires_all = ["id", "why"], conflicts_with_all = ["keep", "record"])]
    dismiss: bool,
    /// What is recorded stands, and the conflicting action has no effect
    #[arg(long, requires_all = ["id", "why"], conflicts_with = "record")]
    keep: bool,
    /// The conflicting action is recorded too, under this operation key, and sent where its route sends
    #[arg(long, value_name = "KEY", requires = "id")]
    record: Option<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", requires = "id")]
    why: Option<String>,
    /// Say what would be done, and write nothing
    #[arg(long, requires = "id")]
    dry_run: bool,
    /// How much there is, by tenant, place and kind, with the oldest; of all kinds
    #[arg(long, conflicts_with = "id")]
    counts: bool,
    #[command(flatten)]
    filter: HeldQuery,
}

#[derive(Subcommand)]
enum ProviderCommand {
    /// List the providers that ship with Tollgate, with their schemes
    List {
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what one provider needs, signs and does
    Show {
        /// A provider's name, or the file of a profile of your own (own.toml)
        provider: String,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a profile's known answers; exit status 1 when one comes out otherwise, or when there is none
    Test {
        /// A provider's name, or the file of a profile of your own (own.toml)
        provider: Option<String>,
        /// All that ship with Tollgate
        #[arg(long, conflicts_with = "provider")]
        all: bool,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a token for the private listener; it is shown once
    Create {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        token: NewTokenBody,
    },
    /// List the tokens, without their texts
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Say who the host takes the asker for, and what they may do
    Whoami {
        #[command(flatten)]
        target: Target,
    },
    /// Revoke a token at once
    Revoke {
        #[command(flatten)]
        target: Target,
        /// For example tok_3
        id: String,
        /// Why it is revoked, kept with it
        #[arg(long, default_value = "", hide_default_value = true)]
        why: String,
    },
}

#[derive(Subcommand)]
enum PluginCommand {
    #[command(flatten)]
    Kit(kit::Command),
    #[command(flatten)]
    Registry(registry::Command),
    #[command(flatten)]
    Repeat(repeat::Command),
    #[command(flatten)]
    State(state::Command),
}

/// A command whose answer cannot be written is not broken: whoever read it has gone (`| head`), or the disk is full. The macros that
/// print panic then.
fn end_where_nothing_can_be_printed() {
    let ordinary = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        match said.strip_prefix("failed printing to ") {
            Some(why) => {
                let _ = writeln!(std::io::stderr(), "error: the answer could not be written to {why}");
                std::process::exit(i32::from(FAILED));
            }
            None => ordinary(panic),
        }
    }));
}

/// Commands about a tenant's routes and publishers, which took the tenant as their first word before `--tenant` was the one way of all
/// commands.
const TENANT_FIRST: [(&str, &[&str]); 3] = [
    (
        "plugin",
        &["shadow", "canary", "promote", "rollback", "lift", "follow-file"],
    ),
    ("route", &["list", "set", "remove", "history"]),
    ("publisher", &["list", "add", "revoke"]),
];

/// Takes a command line that still names the tenant first as one with `--tenant`.
fn with_tenant_named(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let word = |at: usize| arguments.get(at).and_then(|argument| argument.to_str());
    let (Some(group), Some(command), Some(first)) = (word(1), word(2), word(3)) else {
        return arguments;
    };
    let takes_a_tenant = TENANT_FIRST
        .iter()
        .any(|(name, commands)| *name == group && commands.contains(&command));
    let is_named = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .any(|argument| argument == "--tenant" || argument.starts_with("--tenant="));
    if takes_a_tenant && !is_named && !first.starts_with('-') {
        arguments.insert(3, "--tenant".into());
    }
    arguments
}

fn main() -> ExitCode {
    end_where_nothing_can_be_printed();
    let cli = Cli::parse_from(with_tenant_named(std::env::args_os().collect()));
    let result = match cli.command {
        Command::CompilePlugin => return tollgate_sandbox::compile_child_main(),
        Command::Serve {
            config,
            log: format,
            without_broken_tenants,
        } => {
            let broken = if without_broken_tenants {
                BrokenTenants::LeftOut
            } else {
                BrokenTenants::Refused
            };
            let served = log::start(format)
                .context("no thread for the log could be started")
                .and_then(|()| tollgate_server::serve::serve(&config, broken));
            // Nothing of a host waits for whoever reads its words.
            let status = status(served.as_ref().map(|()| Exit::Yes));
            log::end_with(
                &served
                    .err()
                    .map(|error| for_standard_error(&words(&error)))
                    .unwrap_or_default(),
            );
            return status;
        }
        Command::Demo(args) => demo::run(&args),
        Command::Licenses => {
            anstream::print!("{LICENSES}");
            Ok(Exit::Yes)
        }
        Command::Check { target } => check::run(&target),
        Command::Status { target, lately: false } => status::run(&target),
        Command::Status { target, lately: true } => status::lately(&target),
        Command::Send(args) => send::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Trace {
            target,
            id,
            tenant,
            after,
            limit,
        } => ask::trace(&target, id.as_deref(), tenant.as_deref(), after.as_deref(), limit),
        Command::Events(args) => lists::run::<calls::Events, _>(&args),
        Command::Jobs(args) => lists::run::<calls::Jobs, _>(&args),
        Command::Runs(args) => lists::run::<calls::Runs, _>(&args),
        Command::Actions(args) => lists::run::<calls::Actions, _>(&args),
        Command::Deliveries(args) => lists::run::<calls::Deliveries, _>(&args),
        Command::Undelivered(args) => lists::run::<calls::Undelivered, _>(&args),
        Command::Refused(args) => lists::run::<calls::Refused, _>(&args),
        Command::Tail(args) => lists::tail(args),
        Command::Traces { command } => traces::run(command),
        Command::Dlq {
            command: DlqCommand::List { target, filter },
        } => ask::dead_letters(&target, filter),
        Command::Dlq {
            command: DlqCommand::Show { target, id },
        } => ask::dead_letter(&target, &id),
        Command::Replay(args) => ask::replay(args),
        Command::Issues(args) => issues::run(args),
        Command::Bulk { command } => bulk::run(command),
        Command::Resend(args) => ask::resend(args),
        Command::Review { target, args } => ask::review(&target, args),
        Command::Settings { command } => settings::run(command),
        Command::Source { command } => tryouts::source(command),
        Command::Destination { command } => tryouts::destination(command),
        Command::Config { command } => settings::config(command),
        Command::Hosts { target, command } => hosts::run(&target, command),
        Command::Budgets { target, query } => budgets::run(&target, &query),
        Command::Pause { on } => pauses::pause(&on),
        Command::Resume { on } => pauses::resume(&on),
        Command::Paused { target } => pauses::list(&target),
        Command::Token { command } => token::run(command),
        Command::Portal { command } => portal::run(command),
        Command::Pull(args) => pull::run(&args),
        Command::Provider { command } => provider::run(command),
        Command::Audit { command } => audit::run(command),
        Command::Backup(args) => backup::run(args),
        Command::Store { command } => store::run(command),
        Command::Copy(args) => copy::run(&args),
        Command::Spin { command } => spin::run(command),
        Command::Plugin { command } => match command {
            PluginCommand::Kit(command) => kit::run(command),
            PluginCommand::Registry(command) => registry::run(command),
            PluginCommand::Repeat(command) => repeat::run(command),
            PluginCommand::State(command) => state::run(command),
        },
        Command::Route { command } => registry::route(command),
        Command::Publisher { command } => registry::publisher(command),
    };
    if let Err(error) = &result {
        // Where nobody reads it, there is nobody to tell.
        let _ = writeln!(anstream::stderr(), "{}", words(error));
    }
    status(result.as_ref().copied())
}

fn status(result: Result<Exit, &anyhow::Error>) -> ExitCode {
    match result {
        Ok(Exit::Yes) => ExitCode::SUCCESS,
        Ok(Exit::No) => ExitCode::from(1),
        Err(error) if error.is::<Refused>() => ExitCode::from(1),
        Err(error) if error.is::<Usage>() || error.is::<tollgate_server::config::Problems>() => ExitCode::from(USAGE),
        Err(_) => ExitCode::from(FAILED),
    }
}

/// What a person reads of an error, in colours.
fn words(error: &anyhow::Error) -> String {
    let style = anstyle::AnsiColor::Red.on_default().bold();
    match error.downcast_ref::<tollgate_server::config::Problems>() {
        // Each says `error:` itself, with its line.
        Some(problems) => problems.render(tollgate_server::config::Ink::Coloured),
        None => format!("{style}error:{style:#} {error:#}"),
    }
}

/// A line as standard error shows it: with its colours, or without where there is no terminal.
fn for_standard_error(text: &str) -> String {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => format!("{}\n", anstream::adapter::strip_str(text)),
        anstream::ColorChoice::Auto | anstream::ColorChoice::AlwaysAnsi | anstream::ColorChoice::Always => {
            format!("{text}\n")
        }
    }
}

/// Reads how log lines are to look.
fn log_format() -> impl clap::builder::TypedValueParser<Value = LogFormat> {
    let words = [
        PossibleValue::new("text").help("For people"),
        PossibleValue::new("json").help("One JSON object a line"),
    ];
    PossibleValuesParser::new(words).map(|word| match word.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    })
}

/// Reads a file that the command line names.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())).into())
}

/// Prints an answer as JSON, for programs.
pub(crate) fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    anstream::println!("{}", tollgate_core::mask::json(&serde_json::to_string_pretty(value)?));
    Ok(())
}

/// The same in one line.
pub(crate) fn print_json_line(value: &impl serde::Serialize) -> anyhow::Result<()> {
    anstream::println!("{}", tollgate_core::mask::json(&serde_json::to_string(value)?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    /// Every command that is about one tenant takes it as `--tenant`.
    #[test]
    fn a_tenant_is_named_in_one_way_in_all_commands() {
        fn walk(command: &clap::Command, path: &str, found: &mut usize) {
            for argument in command.get_arguments().filter(|argument| argument.get_id() == "tenant") {
                *found += 1;
                assert_eq!(argument.get_long(), Some("tenant"), "{path}");
            }
            for inner in command.get_subcommands() {
                walk(inner, &format!("{path} {}", inner.get_name()), found);
            }
        }
        let mut found = 0;
        walk(&super::Cli::command(), "tollgate", &mut found);
        assert!(found > 20, "{found} commands take a tenant");
        let named = |line: &str| {
            let arguments = line.split(' ').map(Into::into).collect();
            let named = super::with_tenant_named(arguments);
            named.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        for (line, expect) in [
            ("tollgate route list acme", "tollgate route list --tenant acme"),
            (
                "tollgate plugin promote acme cashback x@1 --why y",
                "tollgate plugin promote --tenant acme cashback x@1 --why y",
            ),
            (
                "tollgate plugin promote cashback x@1 --tenant acme",
                "tollgate plugin promote cashback x@1 --tenant acme",
            ),
            (
                "tollgate plugin promote --tenant=acme cashback x@1",
                "tollgate plugin promote --tenant=acme cashback x@1",
            ),
            ("tollgate route list --json acme", "tollgate route list --json acme"),
            ("tollgate plugin push x.wasm", "tollgate plugin push x.wasm"),
            ("tollgate check", "tollgate check"),
        ] {
            assert_eq!(named(line), expect);
        }
    }
}
