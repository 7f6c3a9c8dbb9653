//! `tollgate export` and `import`: a whole store from one place to another, its hash chain checked on both sides.
//!
//! Both do the same; the words are for the person who moves. The copy is one file of rows, which a Spin app
//! reads too: this is how receipts, ledger and plugin state move between the two kinds of host.

use std::path::PathBuf;

use anyhow::Context as _;
use tollgate_store::audit::AuditReport;

use super::{Exit, Usage, print_json};
use tollgate_server::store::LocalStore;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The store's file; the host that has it should be stopped, or what it still takes in stays behind
    #[arg(long)]
    from: PathBuf,
    /// Where the copy goes; nothing may be there yet
    #[arg(long)]
    to: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.to.exists() {
        return Err(Usage(format!("{} is there already; name another place", args.to.display())).into());
    }
    let source = LocalStore::open_read_only(&args.from)?;
    let before = source.audited()?;
    if !before.is_whole() {
        return answer(args, &before);
    }
    source.copy_to(&args.to)?;
    let copy = LocalStore::open_read_only(&args.to).context("the copy cannot be read")?;
    answer(args, &copy.audited()?)
}

fn answer(args: &Args, report: &AuditReport) -> anyhow::Result<Exit> {
    let (whole, receipts, problems) = (report.is_whole(), report.whole.receipts, report.in_words());
    if args.json {
        print_json(&serde_json::json!({ "ok": whole, "receipts": receipts, "problems": problems }))?;
    } else if whole {
        let (good, dim) = (super::show::GOOD, super::show::DIM);
        anstream::println!(
            "{good}copied{good:#}  {} receipts, the chain holds  {dim}{}{dim:#}",
            receipts,
            args.to.display()
        );
    } else {
        let bad = super::show::BAD;
        for problem in problems {
            anstream::println!("{bad}problem{bad:#}  {problem}");
        }
    }
    Ok(if whole { Exit::Yes } else { Exit::No })
}
