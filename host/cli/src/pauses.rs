//! `tollgate pause`, `tollgate resume` and `tollgate paused`: routes and destinations that wait for a person.

use clap::Subcommand;
use tollgate_api::pauses::{DestinationPath, Pause, Place};
use tollgate_api::plugins::{ActBody, RoutePath};
use tollgate_api::{Call, Nothing, calls};
use tollgate_core::mask;

use super::registry::{Act, OnRoute, asked_at, named};
use super::{Exit, Target, ask, print_json, show};

/// What is paused or resumed.
#[derive(Subcommand)]
pub(super) enum On {
    /// A route: none of its jobs begins
    Route {
        #[command(flatten)]
        on: OnRoute,
        #[command(flatten)]
        act: Act,
    },
    /// A destination: nothing is sent there
    Destination {
        #[command(flatten)]
        target: Target,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The tenant's destination
        destination: String,
        #[command(flatten)]
        act: Act,
    },
}

pub(super) fn pause(on: &On) -> anyhow::Result<Exit> {
    change::<calls::PauseRoute, calls::PauseDestination>(on, "paused")
}

pub(super) fn resume(on: &On) -> anyhow::Result<Exit> {
    change::<calls::ResumeRoute, calls::ResumeDestination>(on, "resumed")
}

fn change<R, D>(on: &On, done: &str) -> anyhow::Result<Exit>
where
    R: Call<Path = RoutePath, Query = Nothing, Body = ActBody, Answer = Pause>,
    D: Call<Path = DestinationPath, Query = Nothing, Body = ActBody, Answer = Pause>,
{
    let (target, act, pause) = match on {
        On::Route { on, act } => {
            let at = ask::host_or_app(&on.target)?;
            (
                &on.target,
                act,
                asked_at::<R>(at, &on.path()?, &Nothing {}, &act.clone().body())?,
            )
        }
        On::Destination {
            target,
            tenant,
            destination,
            act,
        } => {
            let path = DestinationPath {
                tenant: named("tenant", tenant)?,
                destination: named("destination", destination)?,
            };
            let at = ask::host_or_app(target)?;
            (target, act, asked_at::<D>(at, &path, &Nothing {}, &act.clone().body())?)
        }
    };
    if target.json {
        print_json(&pause)?;
    } else {
        let would = if act.dry_run { "would be " } else { "" };
        anstream::println!("{would}{done}:");
        one(&pause);
    }
    Ok(Exit::Yes)
}

/// Shows what is paused. No when it is nothing.
pub(super) fn list(target: &Target) -> anyhow::Result<Exit> {
    let pauses = asked_at::<calls::Pauses>(ask::host_or_app(target)?, &Nothing {}, &Nothing {}, &Nothing {})?;
    if target.json {
        print_json(&pauses)?;
    } else if pauses.is_empty() {
        anstream::println!("nothing is paused");
    } else {
        pauses.iter().for_each(one);
    }
    Ok(if pauses.is_empty() { Exit::No } else { Exit::Yes })
}

fn one(pause: &Pause) {
    let (bold, dim) = (show::BOLD, show::DIM);
    let what = match &pause.place {
        Place::Route(route) => format!("route {bold}{}/{route}{bold:#}", pause.tenant),
        Place::Destination(destination) => format!("destination {bold}{}/{destination}{bold:#}", pause.tenant),
    };
    anstream::println!(
        "{what}  {dim}since {} by {}: {}{dim:#}",
        pause.at,
        mask::line(&pause.actor, 100),
        mask::line(&pause.why, 300)
    );
}
