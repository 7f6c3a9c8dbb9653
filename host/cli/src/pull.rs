//! `tollgate pull`: an example of a client that fetches what waits for a pulled destination.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tollgate_api::pulls::{ConfirmBody, GiveBackBody, PullEnds, PullPath, PullQuery, PulledDelivery};
use tollgate_api::{Nothing, calls};
use tollgate_core::mask;

use super::registry::{asked_at, named};
use super::{Exit, Target, Usage, ask};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The tenant's destination
    destination: String,
    #[command(flatten)]
    query: PullQuery,
    /// Run this command by `sh -c` for each delivery, and confirm those that it accepts
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Confirm nothing: look only, or confirm by the API
    #[arg(long, conflicts_with = "exec")]
    no_confirm: bool,
    /// Go on until stopped, waiting for what comes
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.target.spin.is_some() {
        return Err(Usage("a Spin app's destinations are sent to, and nobody pulls from it".to_owned()).into());
    }
    let path = PullPath {
        destination: named("destination", &args.destination)?,
    };
    let mut query = args.query.clone();
    if args.follow {
        // The host answers as soon as there is something.
        query.wait = Some(query.wait.unwrap_or(20));
    }
    let mut all_well = true;
    loop {
        let found = asked_at::<calls::Pull>(ask::host_or_app(&args.target)?, &path, &query, &Nothing {})?;
        if found.deliveries.is_empty() && !args.follow {
            return Ok(Exit::No);
        }
        let mut accepted = Vec::new();
        for delivery in &found.deliveries {
            print(delivery)?;
            match &args.exec {
                None => accepted.push(delivery.lease.clone()),
                Some(command) => match accept(command, delivery) {
                    Ok(()) => accepted.push(delivery.lease.clone()),
                    Err(why) => {
                        all_well = false;
                        give_back(args, &path, delivery, &format!("{why:#}"))?;
                    }
                },
            }
        }
        if !args.no_confirm && !accepted.is_empty() {
            let body = ConfirmBody {
                tenant: args.query.tenant.clone(),
                leases: accepted,
            };
            let ends = asked_at::<calls::ConfirmPulled>(ask::host_or_app(&args.target)?, &path, &Nothing {}, &body)?;
            all_well &= say_refused(&ends);
        }
        if !args.follow {
            return Ok(if all_well { Exit::Yes } else { Exit::No });
        }
    }
}

/// One line of JSON. It is out of our hands before it is confirmed.
fn print(delivery: &PulledDelivery) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", mask::json(&serde_json::to_string(delivery)?))?;
    out.flush()
        .context("what was fetched could not be printed, and is not confirmed")
}

/// Hands a delivery to a command. An error is why the command did not accept it.
fn accept(command: &str, delivery: &PulledDelivery) -> anyhow::Result<()> {
    let mut running = Command::new("sh");
    running.args(["-c", command]).stdin(Stdio::piped());
    // What the command prints is not ours.
    running.stdout(std::io::stderr());
    for (name, value) in &delivery.headers {
        let name = name.to_ascii_uppercase().replace('-', "_");
        running.env(format!("TOLLGATE_HEADER_{name}"), value);
    }
    let mut child = running.spawn().context("sh does not start")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command may end without a look at it.
        let _ = stdin.write_all(delivery.body.as_bytes());
    }
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "the command ended with {status}");
    Ok(())
}

fn give_back(args: &Args, path: &PullPath, delivery: &PulledDelivery, why: &str) -> anyhow::Result<()> {
    let body = GiveBackBody {
        tenant: args.query.tenant.clone(),
        leases: vec![delivery.lease.clone()],
        delay: None,
        why: mask::line(why, 200),
    };
    let ends = asked_at::<calls::GiveBackPulled>(ask::host_or_app(&args.target)?, path, &Nothing {}, &body)?;
    say_refused(&ends);
    anstream::eprintln!("{}: given back: {why}", delivery.delivery);
    Ok(())
}

/// Says which leases were refused. Returns whether none was.
fn say_refused(ends: &PullEnds) -> bool {
    for refused in &ends.refused {
        anstream::eprintln!("{}: {}", refused.lease, mask::line(&refused.why, 300));
    }
    ends.refused.is_empty()
}
