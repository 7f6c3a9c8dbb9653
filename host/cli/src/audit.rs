//! `tollgate audit`: is the store what was admitted, and can somebody else be shown that it is?
//!
//! Both commands read the store's files themselves, beside a running host or without one, and read all of them. What an audit
//! can find and what not stands in `docs/audit.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tollgate_api::audit::{AuditQuery, ChainView};
use tollgate_api::{Nothing, calls};
use tollgate_core::checkpoint::{Checkpoint, CheckpointError, Mark, SignedCheckpoint};
use tollgate_core::ids::TenantName;
use tollgate_core::signature::PublicKey;
use tollgate_store::audit::{AuditProgress, AuditReport, Broken, CheckpointFound, TenantFound};

use super::key_file::{private_key, write_new};
use super::show::{BAD, BOLD, DIM, GOOD, counted};
use super::store_files::StoreFiles;
use super::{Exit, Refused, Target, Usage, print_json, read, registry};
use tollgate_server::clock;
use tollgate_server::store::LocalStore;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Read everything that the store keeps, and name the first row that is not what was admitted
    #[command(
        after_help = "It names the receipt and what is wrong: its body, its facts, its place, or that it is missing. What lies beside the \
                      receipts (runs, actions, outbox, attempts, reviews, the registry) stands in the log, record by record under one chain of seals. Without \
                      --index its rows are checked for what leads nowhere; with it, each is held against the log.\n\n\
                      Without a checkpoint, an end that was cut off together with its head, or a chain that was computed anew, looks whole.\n\n\
                      Exit status: 0 whole, 1 broken, 2 a checkpoint or key cannot be used, 3 the store could not be read."
    )]
    Verify(Verify),
    /// Write a signed note of what the store has now, to be kept where the store's host cannot change it
    #[command(
        after_help = "The key is one of `tollgate plugin key new`, or an Ed25519 private key in PEM (PKCS #8).\n\n\
                      Exit status: 0 written, 1 the store is broken and nothing was signed, 2 the key cannot be used, 3 the store could \
                      not be read."
    )]
    Checkpoint(Write),
    /// Show what people changed, and why: plugins and routes, settings and secrets, pauses, tokens and links, bulk actions, issues, replays, decisions
    #[command(
        after_help = "A host is asked for it, not the store's files. Of an issue it is the last change that somebody made. What one request did to several \
                      events is one line; `tollgate trace` shows it of each. A tenant's token sees what is the tenant's.\n\n\
                      Exit status: 0 shown, 1 nothing was changed yet, 2 the question cannot be asked."
    )]
    Changes {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        query: AuditQuery,
    },
}

#[derive(clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    files: StoreFiles,
    /// A checkpoint: the store must still begin with what it says. May be given several times
    #[arg(long = "checkpoint", value_name = "FILE", requires = "key")]
    checkpoints: Vec<PathBuf>,
    /// The public key that the checkpoints are signed with: its file (FILE.pub), or the key itself
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Answer for this tenant's receipts alone, and say nothing of others
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
    /// Also make the index anew from the log, and hold every row against it. Takes the room of the database, beside it, while it runs
    #[arg(long, conflicts_with = "tenant")]
    index: bool,
}

#[derive(clap::Args)]
pub(super) struct Write {
    #[command(flatten)]
    files: StoreFiles,
    /// The file of the private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Note this tenant's receipts alone, for the tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
    /// Where to write it; nothing may be there yet. Without it, to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Verify(args) => verify(&args),
        Command::Checkpoint(args) => checkpoint(&args),
        Command::Changes { target, query } => changes(&target, &query),
    }
}

fn changes(target: &Target, query: &AuditQuery) -> anyhow::Result<Exit> {
    let rows_max = query.clone().checked().map_err(Usage)?.rows_max;
    let audit = registry::asked::<calls::Audit>(target, &Nothing {}, query, &Nothing {})?;
    if target.json {
        print_json(&audit)?;
    } else {
        registry::lines(target, &audit.changes);
        if audit.changes.is_empty() {
            anstream::println!("nobody changed anything yet");
        } else if audit.changes.len() == rows_max {
            anstream::println!("\nthere may be more: narrow with --tenant, or ask for more with --limit");
        }
        if let Some(ChainView { receipts, head }) = &audit.chain {
            anstream::println!(
                "\nthe chain has {}  {DIM}and ends with{DIM:#} {head}",
                counted(*receipts, "receipt")
            );
        }
    }
    Ok(if audit.changes.is_empty() { Exit::No } else { Exit::Yes })
}

/// Reads everything, and shows how far it is.
fn read_whole(
    files: &StoreFiles,
    checkpoints: &[Checkpoint],
    with_index: bool,
) -> anyhow::Result<(PathBuf, AuditReport)> {
    let path = files.database()?;
    let bar = if files.json {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    let mut report = LocalStore::audit(&path, checkpoints, &mut |progress| show(&bar, progress));
    if with_index && let Ok(report) = &mut report {
        let found = LocalStore::audit_index(&path, &mut |progress| show(&bar, progress));
        let found = found.context("an index could not be made anew to hold the store's own against")?;
        let no_log = || {
            vec!["there is no log to hold the database against: no native host has opened this store yet".to_owned()]
        };
        report.problems.extend(found.unwrap_or_else(no_log));
    }
    bar.finish_and_clear();
    Ok((path, report?))
}

/// On a terminal, how far it is; without one, nothing.
fn show(bar: &ProgressBar, progress: AuditProgress) {
    let template = match progress {
        AuditProgress::Pages => "{spinner} the file's pages  {elapsed}",
        AuditProgress::Receipts { done: 0, of } => {
            bar.set_length(of);
            "{wide_bar} {human_pos}/{human_len} receipts  {per_sec}  {eta} left"
        }
        AuditProgress::Receipts { done, .. } => return bar.set_position(done),
        AuditProgress::Relations => "{spinner} what leads from row to row  {elapsed}",
        AuditProgress::Log { done, of } => {
            bar.set_length(of);
            bar.set_position(done);
            "{wide_bar} {bytes}/{total_bytes} of the log  {eta} left"
        }
        AuditProgress::Index { done, of } => {
            bar.set_length(of);
            bar.set_position(done);
            "{wide_bar} {bytes}/{total_bytes} of an index made anew  {eta} left"
        }
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
}

/// A checkpoint's file and what was found of it.
#[derive(Serialize)]
struct Held {
    file: PathBuf,
    ok: bool,
    at: String,
    #[serde(flatten)]
    found: CheckpointFound,
}

/// The answer for programs.
#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    store: Option<String>,
    /// Whole ones, up to the first that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<Mark>,
    first_broken: Option<&'a Broken>,
    /// The same in words.
    broken: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<tollgate_store::audit::After>,
    tenants: &'a BTreeMap<TenantName, TenantFound>,
    problems: &'a [String],
    checkpoints: &'a [Held],
}

fn verify(args: &Verify) -> anyhow::Result<Exit> {
    let signed = args
        .checkpoints
        .iter()
        .map(|file| signed_checkpoint(file))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let key = args.key.as_deref().map(public_key).transpose()?;
    let mut checkpoints = Vec::new();
    for (file, signed) in args.checkpoints.iter().zip(&signed) {
        // Clap sees to it that there is a key where there are checkpoints.
        let Some(key) = &key else { break };
        match signed.verify(key) {
            Ok(checkpoint) => checkpoints.push(checkpoint.clone()),
            Err(error @ CheckpointError::Forged) => return Err(Refused(format!("{}: {error}", file.display())).into()),
            Err(error) => return Err(unusable(file, &error)),
        }
    }
    let (path, mut report) = read_whole(&args.files, &checkpoints, args.index)?;
    if let Some(tenant) = &args.tenant {
        narrow(&mut report, tenant, &checkpoints);
    }
    let of_tenant = |found: &TenantFound| found.broken == 0;
    let ok = match &args.tenant {
        None => report.is_whole(),
        Some(_) => report.is_whole() && report.tenants.values().all(of_tenant),
    };
    let held: Vec<_> = report
        .checkpoints
        .iter()
        .zip(&args.checkpoints)
        .zip(&checkpoints)
        .map(|((found, file), checkpoint)| Held {
            file: file.clone(),
            ok: found.problems.is_empty() && found.tenants.values().all(Option::is_none),
            at: checkpoint.at.to_string(),
            found: found.clone(),
        })
        .collect();
    if args.files.json {
        let whole_store = args.tenant.is_none();
        print_json(&Answer {
            ok,
            store: report.store.map(|store| store.to_string()),
            chain: whole_store.then_some(report.whole),
            first_broken: report.first_broken.as_ref(),
            broken: report.first_broken.as_ref().map(ToString::to_string),
            after: whole_store.then_some(report.after),
            tenants: &report.tenants,
            problems: &report.problems,
            checkpoints: &held,
        })?;
    } else {
        tell(&path, &report, &held, args.tenant.as_ref(), args.index, ok);
    }
    Ok(if ok { Exit::Yes } else { Exit::No })
}

/// Leaves of a report what concerns one tenant. What is broken of others is nothing of it: its own chain goes on past that.
fn narrow(report: &mut AuditReport, tenant: &TenantName, checkpoints: &[Checkpoint]) {
    let store = report.store;
    report.tenants.retain(|name, _| name == tenant);
    for (found, checkpoint) in report.checkpoints.iter_mut().zip(checkpoints) {
        found.problems.retain(|_| store != Some(checkpoint.store));
        found.tenants.retain(|name, _| name == tenant);
        if found.tenants.is_empty() {
            found.problems.push(format!("it says nothing of {tenant}"));
        }
    }
    // These are the operator's, and may speak of others.
    report.problems.clear();
    let of_others = |broken: &Broken| broken.tenant.as_ref().is_some_and(|of| of != tenant);
    if report.first_broken.as_ref().is_some_and(of_others) {
        report.first_broken = None;
        // What is not there may have been anybody's.
        if report.after.missing > 0 {
            let missing = format!("{} receipts are missing, and may have been its", report.after.missing);
            report.problems.push(missing);
        }
    }
}

fn tell(path: &Path, report: &AuditReport, held: &[Held], tenant: Option<&TenantName>, with_index: bool, ok: bool) {
    let place = path.display();
    match tenant {
        Some(tenant) => {
            let receipts = report.tenants.get(tenant).map_or(0, |found| found.mark.receipts);
            let (style, word) = if ok { (GOOD, "whole") } else { (BAD, "broken") };
            anstream::println!(
                "{style}{word}{style:#}  {} of {tenant}  {DIM}{place}{DIM:#}",
                counted(receipts, "receipt")
            );
        }
        None if report.first_broken.is_none() && report.problems.is_empty() => {
            let Mark { receipts, head } = report.whole;
            anstream::println!(
                "{GOOD}whole{GOOD:#}  {}, the chain holds{}  {DIM}{place}{DIM:#}",
                counted(receipts, "receipt"),
                if with_index {
                    ", and every row is what the log says"
                } else {
                    ""
                }
            );
            anstream::println!("  {DIM}ends with{DIM:#} {head}");
        }
        None => {}
    }
    if let Some(broken) = &report.first_broken {
        anstream::println!("{BAD}broken{BAD:#}  {broken}");
        if tenant.is_none() {
            let (before, after) = (report.whole.receipts, report.after);
            anstream::println!(
                "  whole before it: {}; of those after it, {} whole by themselves and {} broken",
                counted(before, "receipt"),
                after.whole,
                after.broken
            );
        }
    }
    for problem in &report.problems {
        anstream::println!("{BAD}problem{BAD:#}  {problem}");
    }
    for (name, found) in &report.tenants {
        let TenantFound { mark, broken } = found;
        let broken = match broken {
            0 => String::new(),
            broken => format!("  {BAD}{broken} of them broken{BAD:#}"),
        };
        anstream::println!(
            "  {BOLD}{name}{BOLD:#}  {}  {DIM}{}{DIM:#}{broken}",
            counted(mark.receipts, "receipt"),
            mark.head
        );
    }
    for Held { file, ok, at, found } in held {
        let (style, word) = if *ok { (GOOD, "holds") } else { (BAD, "does not hold") };
        anstream::println!("{style}{word}{style:#}  checkpoint {} of {at}", file.display());
        for problem in &found.problems {
            anstream::println!("  {problem}");
        }
        for (tenant, problem) in &found.tenants {
            if let Some(problem) = problem {
                anstream::println!("  {BOLD}{tenant}{BOLD:#}: {problem}");
            }
        }
    }
    let is_of_index = |problem: &String| problem.starts_with("index: ");
    if !ok && report.first_broken.is_none() && !report.problems.is_empty() && report.problems.iter().all(is_of_index) {
        anstream::println!(
            "\nhow to go on: the log holds, and the database is only an index of it. Stop the host, keep a copy of {place} as evidence, and make it\n\
             anew with `tollgate store rebuild`. docs/audit.md has the steps."
        );
    } else if !ok {
        anstream::println!(
            "\nhow to go on: stop the host and keep its files as they are ({place}, with -wal, -key and -log-… beside it), for what is in them and\n\
             as evidence; then restore the newest copy that this command calls whole. docs/audit.md has the steps."
        );
    }
}

fn checkpoint(args: &Write) -> anyhow::Result<Exit> {
    let key = private_key(&args.key)?;
    let (path, mut report) = read_whole(&args.files, &[], false)?;
    if !report.is_whole() {
        tell(&path, &report, &[], None, false, false);
        return Err(Refused("the store is not whole; nothing was signed".to_owned()).into());
    }
    let store = report.store.context("the store has no key to be known by")?;
    if let Some(tenant) = &args.tenant {
        report.tenants.retain(|name, _| name == tenant);
        if report.tenants.is_empty() {
            return Err(Refused(format!("the store has no receipts of {tenant}")).into());
        }
    }
    let marks = report.tenants.into_iter().map(|(name, found)| (name, found.mark));
    let signed = Checkpoint {
        store,
        at: clock::now(),
        chain: args.tenant.is_none().then_some(report.whole),
        tenants: marks.collect(),
    }
    .signed(&key);
    let text = signed.to_json() + "\n";
    let Some(output) = &args.output else {
        anstream::print!("{text}");
        return Ok(Exit::Yes);
    };
    write_new(output, &text, false)?;
    if args.files.json {
        print_json(&serde_json::json!({ "file": output, "store": store, "chain": report.whole }))?;
    } else {
        anstream::println!(
            "{GOOD}signed{GOOD:#}  {} receipts  {DIM}{}{DIM:#}\n  keep it where this host cannot change it",
            report.whole.receipts,
            output.display()
        );
    }
    Ok(Exit::Yes)
}

fn signed_checkpoint(file: &Path) -> anyhow::Result<SignedCheckpoint> {
    SignedCheckpoint::from_json(&read(file)?).map_err(|error| unusable(file, &error))
}

fn unusable(file: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    Usage(format!("{}: {error}", file.display())).into()
}

/// The key itself, or the file that holds it.
fn public_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Ok(key) = PublicKey::from_text(text) {
        return Ok(key);
    }
    let file = Path::new(text);
    let bytes = read(file)?;
    PublicKey::from_text(&String::from_utf8_lossy(&bytes)).map_err(|error| unusable(file, &error))
}
