//! The author's kit: `tollgate plugin new`, `build`, `check`, `test`, `run`, `bench`, `sign` and `key`. It needs no server and no account.
//!
//! What it runs is the component that would be published, in the engine and under the limits of a host, so a green test here
//! is a green run there.

mod bench;
mod build;
mod check;
mod fixture;
mod new;
mod project;
mod run;
mod sign;
mod test;
mod vetting;
mod which;

use super::Exit;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Start a plugin: a small project with source, manifest and fixtures that builds and passes at once
    New(new::Args),
    /// Build a project into plugin.wasm, and vet it
    Build(build::Args),
    /// Vet a component: what it is, what it imports, whether it starts; and if it is refused, why and how to mend it
    Check(check::Args),
    /// Run a plugin on its fixtures and compare how each run ends; builds first when a source is newer
    Test(test::Args),
    /// Run a plugin on one event and show what it proposes
    Run(run::Args),
    /// Measure what a plugin's runs cost: fuel, memory, time, per cent of the limits
    Bench(bench::Args),
    /// Write what a plugin was given for a receipt as a fixture
    Fixture(fixture::Args),
    /// Sign a component: vouch for its exact bytes as a publisher, in a file beside it
    Sign(sign::Args),
    /// Make a publisher's key
    Key {
        #[command(subcommand)]
        command: sign::KeyCommand,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fixture(args) => fixture::run(&args),
        Command::Sign(args) => sign::run(&args),
        Command::Key { command } => sign::key(&command),
    }
}
