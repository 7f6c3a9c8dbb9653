//! `tollgate plugin check`: says whether a host would take the component, and if not, why.

use super::super::Exit;
use super::project::sandbox;
use super::vetting::{prove, tell};
use super::which::Which;

#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 a host would take it, 1 it is refused, 2 there is no such file.")]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let path = args.which.component()?;
    let vetted = prove(&sandbox(args.which.cache()?)?, &path)?;
    tell(&path.display().to_string(), vetted, args.json)
}
