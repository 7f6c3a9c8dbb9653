//! `tollgate hosts`: who shares a store, and who of them works.

use tollgate_api::hosts::{Drain, DrainBody, DrainReport, HostPath, HostState, HostView};
use tollgate_api::{Nothing, calls, question};
use tollgate_core::ids::HostName;
use tollgate_core::mask;
use tollgate_store::{Control as _, Views as _};

use super::show::{BAD, BOLD, DIM, GOOD, WARN, counted};
use super::{Exit, Refused, Target, Usage, ask, print_json, wire};
use tollgate_server::{clock, config};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Have a host claim nothing more: it finishes what it has, and the others take the rest
    #[command(
        after_help = "The host goes on taking events in, and /readyz on its private listener answers 503, so that load balancers leave it out. `tollgate hosts` \
                      shows what it still holds. The word holds until it is taken back with --undo, over restarts too.\n\n\
                      Exit status: 0 done, 1 it was so before."
    )]
    Drain {
        #[command(flatten)]
        target: Target,
        /// The host's name, as the list shows it; all processes of that name
        host: String,
        /// Let it claim work again
        #[arg(long)]
        undo: bool,
        /// Why, for those who see it drained
        #[arg(long, default_value = "")]
        why: String,
        /// Say what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn run(target: &Target, command: Option<Command>) -> anyhow::Result<Exit> {
    match command {
        None => list(native(target)?),
        Some(Command::Drain {
            target,
            host,
            undo,
            why,
            dry_run,
        }) => {
            let host = host.parse().map_err(|error| Usage(format!("{error}")))?;
            let actor = ask::actor();
            let body = DrainBody {
                undo,
                why,
                actor,
                dry_run,
            };
            drain(native(&target)?, host, &body)
        }
    }
}

fn native(target: &Target) -> Result<&Target, Usage> {
    match target.spin {
        None => Ok(target),
        Some(_) => Err(Usage(
            "a Spin app knows of no hosts: ask the platform that runs it".to_owned(),
        )),
    }
}

fn list(target: &Target) -> anyhow::Result<Exit> {
    let is_shared = target.url.is_none() && config::load(&target.config)?.store.url.is_some();
    let hosts: Vec<HostView> = if is_shared || target.url.is_some() {
        ask::ask::<calls::Hosts>(target, &Nothing {}, &Nothing {}, async |store| store.hosts().await)?
    } else {
        // What has its store alone knows of itself.
        let (base, token) = ask::host(target)?;
        let asked = wire::Operated { base, token: &token };
        ask::runtime()?.block_on(asked.ask(&question::<calls::Hosts>(&Nothing {}, &Nothing {})?))?
    };
    if target.json {
        print_json(&hosts)?;
        return Ok(Exit::Yes);
    }
    if hosts.is_empty() {
        anstream::println!("no host has had this store open yet");
    }
    hosts.iter().for_each(show);
    let running = || hosts.iter().filter(|host| host.state == HostState::Running);
    let mut configurations: Vec<_> = running()
        .map(|host| &host.configuration)
        .filter(|name| !name.is_empty())
        .collect();
    configurations.sort();
    configurations.dedup();
    if configurations.len() > 1 {
        anstream::println!(
            "\n{WARN}their configurations differ{WARN:#}: the tenants' files are not the same on all of them"
        );
    }
    if let [only] = &hosts[..]
        && only.jobs.is_none()
    {
        anstream::println!("\n{DIM}one host: it has its store alone{DIM:#}");
    }
    Ok(Exit::Yes)
}

fn show(host: &HostView) {
    let (style, word) = match (host.state, &host.drain) {
        (HostState::Running, None) => (GOOD, "running"),
        (HostState::Running, Some(_)) if host.is_drained() => (WARN, "drained"),
        (HostState::Running, Some(_)) => (WARN, "draining"),
        (HostState::Gone, _) => (BAD, "gone"),
        (HostState::Stopped, _) => (DIM, "stopped"),
    };
    let mut said = vec![format!("tollgate {}", mask::line(&host.version, 40))];
    if !host.configuration.is_empty() {
        said.push(format!("configuration {}", mask::line(&host.configuration, 40)));
    }
    if let (Some(lag_ms), HostState::Running) = (host.lag_ms, host.state) {
        said.push(format!("lag {lag_ms} ms"));
    }
    said.push(format!("seen {}", ago(host.seen_ms)));
    if let (Some(jobs), Some(deliveries)) = (host.jobs, host.deliveries)
        && jobs + deliveries > 0
    {
        let deliveries = match deliveries {
            1 => "1 delivery".to_owned(),
            more => format!("{more} deliveries"),
        };
        said.push(format!("holds {}, {deliveries}", counted(jobs, "job")));
    }
    anstream::println!(
        "{BOLD}{:16}{BOLD:#} {style}{word:9}{style:#} {DIM}{}  {}{DIM:#}",
        host.name,
        mask::line(&host.process, 90),
        said.join(", "),
    );
    if let Some(Drain { at, by, why }) = &host.drain {
        let because = if why.is_empty() {
            String::new()
        } else {
            format!(": {}", mask::line(why, 200))
        };
        anstream::println!(
            "{:16} {DIM}drained by {} at {at}{because}{DIM:#}",
            "",
            mask::line(by, 100)
        );
    }
}

fn ago(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s ago"),
        seconds @ 120..7200 => format!("{} min ago", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

fn drain(target: &Target, host: HostName, body: &DrainBody) -> anyhow::Result<Exit> {
    let wanted = body.clone().checked(clock::now()).map_err(Usage)?;
    let path = HostPath { host: host.clone() };
    let report: DrainReport = ask::write::<calls::DrainHost>(target, &path, body, async |store, config| {
        if config.store.url.is_none() {
            let alone = "no host has this store open, and none shares it";
            return Err(Refused(alone.to_owned()).into());
        }
        Ok(store.drain_host(host, wanted, body.dry_run).await?)
    })?;
    if target.json {
        print_json(&report)?;
    } else {
        let name = &report.host;
        match (&report.drain, report.changed) {
            (Some(_), true) if body.dry_run => anstream::println!("{name} would claim nothing more"),
            (None, true) if body.dry_run => anstream::println!("{name} would claim work again"),
            (Some(_), true) => {
                anstream::println!("{name} claims nothing more from now on; what it still holds:  tollgate hosts")
            }
            (Some(Drain { at, by, .. }), false) => {
                anstream::println!("{name} was drained before, by {} at {at}", mask::line(by, 100))
            }
            (None, true) => anstream::println!("{name} claims work again"),
            (None, false) => anstream::println!("{name} was not drained"),
        }
    }
    Ok(if report.changed { Exit::Yes } else { Exit::No })
}
