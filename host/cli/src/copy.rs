//! `tollgate copy`: a whole store from one place to another, whichever kinds the two are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tollgate_core::secret::Secret;
use tollgate_server::config;
use tollgate_store::copy::{CopyError, CopyProgress, CopyReport, Place, copy};

use super::show::{BAD, DIM, GOOD};
use super::{Exit, Usage, print_json};

/// The index's name where a place is a folder.
const INDEX: &str = "tollgate.db";

#[derive(clap::Args)]
#[command(after_help = "A place is one of:\n\n\
                  \x20 tollgate.toml       what its [store] names, so that no password is on the command line\n\
                  \x20 store/tollgate.db   a native store, by its index or folder, with its log and key\n\
                  \x20 spin:sqlite_db.db   a Spin app's store, one file of rows\n\
                  \x20 postgres://…        a store in PostgreSQL\n\n\
                  Everything goes along: receipts with their chain and bodies, work, ledger, outbox, plugins' state, registry, tokens, and the store's \
                  key. Whoever may read the target may read the key: in PostgreSQL and a Spin app's file it is a row of the table `meta`.\n\n\
                  Both places are at rest: hosts that use them are stopped first. The target is empty, or the beginning of a copy of the same source: \
                  then that goes on. It is read back and held against the source before any host opens it.\n\n\
                  Exit status: 0 copied, 1 the source or the copy is not whole, 2 bad usage or a target that is taken, 3 could not be done.")]
pub(super) struct Args {
    /// The store that is copied
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Where the copy goes
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// Check the source, look at the target, and say what would be copied
    #[arg(long)]
    dry_run: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let (from, to) = (place(&args.from)?, place(&args.to)?);
    let bar = progress(args.json);
    let copied = copy(&from, &to, args.dry_run, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    match copied {
        Ok(report) => said(args, (&from, &to), &report),
        Err(CopyError::NotWhole(problems)) => broken(args, &problems),
        Err(error @ CopyError::Refused { .. }) => Err(Usage(error.to_string()).into()),
        Err(CopyError::Store(error)) => Err(error.into()),
    }
}

fn place(text: &str) -> anyhow::Result<Place> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(Place::Server(Secret::new(text)));
    }
    if let Some(file) = text.strip_prefix("spin:") {
        return Ok(Place::Guest(file.into()));
    }
    let path = Path::new(text);
    if path.extension().is_some_and(|extension| extension == "toml") {
        let store = config::load(path)?.store;
        return Ok(match store.url {
            Some(url) => Place::Server(url),
            None => Place::Files(store.path),
        });
    }
    let index = match path.is_dir() {
        true => path.join(INDEX),
        false => PathBuf::from(path),
    };
    Ok(Place::Files(index))
}

fn progress(json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} rows  {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn show(bar: &ProgressBar, progress: CopyProgress) {
    match progress {
        CopyProgress::Auditing => bar.set_message("checking the source"),
        CopyProgress::Copying { table, done, of } => {
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(format!("copying {table}"));
        }
        CopyProgress::Comparing { table, done, of } => {
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(format!("comparing {table}"));
        }
    }
}

fn said(args: &Args, (from, to): (&Place, &Place), report: &CopyReport) -> anyhow::Result<Exit> {
    if args.json {
        print_json(&json!({ "ok": true, "dry_run": args.dry_run, "rows": report.rows(), "copy": report }))?;
        return Ok(Exit::Yes);
    }
    let (receipts, rows) = (report.newest.receipts, report.rows());
    if args.dry_run {
        anstream::println!(
            "{GOOD}would copy{GOOD:#}  {receipts} receipts, about {rows} rows in all  {DIM}{from} → {to}{DIM:#}"
        );
    } else {
        anstream::println!(
            "{GOOD}copied{GOOD:#}  {receipts} receipts, {rows} rows in all; both places hold the same  {DIM}{from} → {to}{DIM:#}"
        );
    }
    if report.found > 0 {
        anstream::println!("  {} rows were there from a copy that was not finished", report.found);
    }
    if report.texts_changed > 0 {
        anstream::println!(
            "  {} texts had a NUL, which PostgreSQL keeps in no text; it became U+FFFD",
            report.texts_changed
        );
    }
    Ok(Exit::Yes)
}

fn broken(args: &Args, problems: &[String]) -> anyhow::Result<Exit> {
    if args.json {
        print_json(&json!({ "ok": false, "problems": problems }))?;
    } else {
        for problem in problems {
            anstream::println!("{BAD}not whole{BAD:#}  {problem}");
        }
    }
    Ok(Exit::No)
}
