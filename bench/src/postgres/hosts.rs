//! Two hosts beside one, where PostgreSQL is not what they wait for.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::wire::Wire;
use super::{Database, ROUNDS, WARMING};
use crate::bare::{LATE, Mode};
use crate::process::{Events, IN_FLIGHT_MAX, Server, Setup};
use crate::{load, median};

/// How long what is said to PostgreSQL is on its way, and as long its answer: about that of a place in the same region.
const FAR: Duration = Duration::from_millis(2);
/// Connections to each host.
const CONNECTIONS: usize = 128;
const DURATION: Duration = Duration::from_secs(5);
/// Events whose actions a slow destination takes.
const EVENTS: u64 = 800;

pub(super) fn bench(runtime: &Runtime) -> anyhow::Result<()> {
    println!(
        "deliveries to a destination that answers after {} ms, {IN_FLIGHT_MAX} at once from each host:",
        LATE.as_millis()
    );
    beside(|hosts| delivered(runtime, hosts))?;
    println!(
        "admissions {} ms away from PostgreSQL, {CONNECTIONS} connections to each host:",
        FAR.as_millis()
    );
    beside(|hosts| admitted_far_away(runtime, hosts))
}

/// Prints events a second of one host, of two, and their ratio, as medians of several runs in turns.
fn beside(per_second: impl Fn(usize) -> anyhow::Result<f64>) -> anyhow::Result<()> {
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        one.push(per_second(1)?);
        two.push(per_second(2)?);
    }
    let (one, two) = (median(&one), median(&two));
    println!(
        "  one host {one:6.0} events/s  two hosts {two:6.0} events/s  {:.2}\u{d7}",
        two / one
    );
    Ok(())
}

/// From the first event to the last delivery.
fn delivered(runtime: &Runtime, hosts: usize) -> anyhow::Result<f64> {
    let database = Database::start()?;
    let books = Server::start(Setup::Bare(Mode::AnswerLate))?;
    let setup = Setup::OnPostgres(Events::Delivered { books: books.door.port });
    let hosts = start(setup, &database.postgres.url(), hosts)?;
    let each = EVENTS / hosts.len() as u64;
    let begun = Instant::now();
    all(&hosts, |host| runtime.block_on(load::run_count(&host.door, 16, each)))?;
    database.wait_until_settled(runtime)?;
    let per_second = EVENTS as f64 / begun.elapsed().as_secs_f64();
    hosts.into_iter().try_for_each(Server::stop)?;
    books.stop()?;
    Ok(per_second)
}

fn admitted_far_away(runtime: &Runtime, hosts: usize) -> anyhow::Result<f64> {
    let database = Database::start()?;
    let wire = Wire::to(database.socket(), FAR)?;
    let hosts = start(Setup::OnPostgres(Events::TakenIn), &wire.url(), hosts)?;
    let load = |duration| {
        all(&hosts, |host| {
            runtime.block_on(load::run(&host.door, CONNECTIONS, duration))
        })
    };
    load(WARMING)?;
    let begun = Instant::now();
    let per_second = load(DURATION)? as f64 / begun.elapsed().as_secs_f64();
    hosts.into_iter().try_for_each(Server::stop)?;
    Ok(per_second)
}

fn start(setup: Setup, url: &str, hosts: usize) -> anyhow::Result<Vec<Server>> {
    (0..hosts).map(|_| Server::start_on(setup, url)).collect()
}

/// Loads all of them at once, and returns how many events were taken in.
fn all(hosts: &[Server], load: impl Fn(&Server) -> anyhow::Result<load::Load> + Sync) -> anyhow::Result<u64> {
    std::thread::scope(|scope| {
        let load = &load;
        let loads: Vec<_> = hosts.iter().map(|host| scope.spawn(move || load(host))).collect();
        let mut taken = 0;
        for load in loads {
            taken += load.join().map_err(|_| anyhow::anyhow!("a load panicked"))??.requests;
        }
        Ok(taken)
    })
}
