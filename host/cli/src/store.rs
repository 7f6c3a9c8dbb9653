//! `tollgate store`: what is done to a store's files while no host runs.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tollgate_server::store::LocalStore;

use super::show::{DIM, GOOD};
use super::store_files::StoreFiles;
use super::{Exit, print_json};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Make the index (tollgate.db) anew from the log; the host is stopped
    #[command(
        after_help = "The log (tollgate.db-log-…) and the key (tollgate.db-key) are the store; the index is made from them. The old index stays in its place \
                      until the new one is whole.\n\n\
                      Exit status: 0 done, 2 bad usage, 3 could not be done."
    )]
    Rebuild {
        #[command(flatten)]
        files: StoreFiles,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    let Command::Rebuild { files } = command;
    let path = files.database()?;
    let bar = progress(files.json);
    let made = LocalStore::rebuild(&path, &mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let records = made?;
    if files.json {
        print_json(&serde_json::json!({ "ok": true, "path": path, "records": records }))?;
    } else {
        let place = path.display();
        anstream::println!("{GOOD}made anew{GOOD:#}  from {records} records of its log  {DIM}{place}{DIM:#}");
    }
    Ok(Exit::Yes)
}

fn progress(json: bool) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} of the log  {eta} left") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
