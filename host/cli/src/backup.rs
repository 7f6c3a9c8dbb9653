//! `tollgate backup`: copies the store as of one moment while the host runs, verifies a copy, and puts one back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tollgate_store::backup::{BackupProgress, Manifest};

use super::show::{BAD, DIM, GOOD};
use super::store_files::StoreFiles;
use super::{Exit, Usage, print_json};
use tollgate_server::clock;
use tollgate_server::store::LocalStore;

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Works beside a running host, and without one. Every event that was acknowledged before the command began is in the \
                  backup. Configuration, secrets and plugins' files are not: they are yours already.\n\n\
                  Exit status: 0 done or whole, 1 not whole, 2 bad usage, 3 could not be done."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    take: Take,
}

#[derive(clap::Args)]
struct Take {
    /// The folder of this backup; it must not exist yet, or be empty
    #[arg(long, value_name = "FOLDER", required = true)]
    to: Option<PathBuf>,
    /// An earlier backup of this store: what both have of the log takes no room again. Each can be deleted without the other
    #[arg(long, value_name = "FOLDER")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    files: StoreFiles,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Read a whole backup: is it what was backed up, and is the store in it whole
    Verify {
        /// The backup's folder
        folder: PathBuf,
        /// Print the answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a backup where the configuration wants the store; the host is stopped, and nothing may be there yet
    Restore {
        /// The backup's folder
        folder: PathBuf,
        #[command(flatten)]
        files: StoreFiles,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        None => take(&args.take),
        Some(Command::Verify { folder, json }) => verify(&folder, json),
        Some(Command::Restore { folder, files }) => restore(&folder, &files),
    }
}

fn take(take: &Take) -> anyhow::Result<Exit> {
    let Some(to) = &take.to else {
        return Err(Usage("where to? name a folder with --to".to_owned()).into());
    };
    let json = take.files.json;
    let begun_at = clock::now();
    let store = LocalStore::open_read_only(take.files.database()?)?;
    let bar = progress(json);
    let made = store.backup_to(
        to,
        take.previous.as_deref(),
        env!("CARGO_PKG_VERSION"),
        begun_at,
        &mut |done| show(&bar, done),
    );
    bar.finish_and_clear();
    said("backed up", &made?, to, json)
}

fn verify(folder: &Path, json: bool) -> anyhow::Result<Exit> {
    let bar = progress(json);
    bar.set_message("reading the backup");
    let checked = LocalStore::verify_backup(folder);
    let manifest = match checked {
        Ok(manifest) => manifest,
        Err(error) => return broken(&[error.to_string()], json),
    };
    bar.set_message("auditing the store in it");
    let report = LocalStore::audit(manifest.database(folder), &[], &mut |_| {})?;
    bar.finish_and_clear();
    let mut problems = report.in_words();
    if report.whole != manifest.newest {
        problems.push(format!(
            "it holds {} receipts, but its manifest says {}",
            report.whole.receipts, manifest.newest.receipts
        ));
    }
    match problems.as_slice() {
        [] => said("whole", &manifest, folder, json),
        problems => broken(problems, json),
    }
}

fn restore(folder: &Path, files: &StoreFiles) -> anyhow::Result<Exit> {
    let store = files.database()?;
    let bar = progress(files.json);
    bar.set_message("copying the backup back");
    let restored = LocalStore::restore_backup(folder, &store);
    bar.finish_and_clear();
    said("restored", &restored?, &store, files.json)
}

fn progress(json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn show(bar: &ProgressBar, progress: BackupProgress) {
    const MIB: u64 = 1024 * 1024;
    bar.set_message(match progress {
        BackupProgress::Database => "copying the database".to_owned(),
        BackupProgress::Log { done, of } => format!("copying the log: {} of {} MiB", done / MIB, of.div_ceil(MIB)),
        BackupProgress::Sealing => "hashing and syncing the copy".to_owned(),
    });
}

fn said(word: &str, manifest: &Manifest, place: &Path, json: bool) -> anyhow::Result<Exit> {
    if json {
        print_json(&serde_json::json!({ "ok": true, "path": place, "backup": manifest }))?;
    } else {
        anstream::println!(
            "{GOOD}{word}{GOOD:#}  {} receipts, {} bytes in {} files, as of {}  {DIM}{}{DIM:#}",
            manifest.newest.receipts,
            manifest.bytes(),
            manifest.files.len(),
            manifest.begun_at,
            place.display()
        );
    }
    Ok(Exit::Yes)
}

fn broken(problems: &[String], json: bool) -> anyhow::Result<Exit> {
    if json {
        print_json(&serde_json::json!({ "ok": false, "problems": problems }))?;
    } else {
        for problem in problems {
            anstream::println!("{BAD}not whole{BAD:#}  {problem}");
        }
    }
    Ok(Exit::No)
}
