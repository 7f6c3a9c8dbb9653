//! One host and a PostgreSQL on one machine: what an event costs each of them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tollgate_core::secret::Secret;
use tollgate_store::Views as _;
use tollgate_store::postgres::PostgresStore;
use tollgate_tests::postgres::Postgres;

use super::process::{Server, Setup};
use super::system::{empty_folder, tree_cpu_time};
use super::{load, machine, median};

/// Each figure is the median of so many runs, of which each has a server and a database of its own.
const ROUNDS: usize = 3;
const DURATION: Duration = Duration::from_secs(5);
/// The first connections of a server cost more.
const WARMING: Duration = Duration::from_secs(1);
/// How long the jobs may take that are left when the load ends.
const SETTLED_WITHIN: Duration = Duration::from_secs(600);

pub(super) fn bench(runtime: &Runtime) -> anyhow::Result<()> {
    println!(
        "one host, one PostgreSQL that syncs each commit, the load, all on this machine; commit {}; medians of {ROUNDS} runs",
        machine::commit()
    );
    for whole_way in [false, true] {
        println!(
            "\n{}:",
            if whole_way {
                "with a route to a plugin"
            } else {
                "without a route"
            }
        );
        for connections in [16, 64, 256] {
            let all = (0..ROUNDS)
                .map(|_| taken(runtime, whole_way, connections))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let of = |figure: fn(&Taken) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
            println!(
                "  {connections:3} connections  {:6.0} events/s, all of their work done  {:6.0} \u{b5}s of the host and {:6.0} \u{b5}s of PostgreSQL each",
                of(|taken| taken.per_second),
                of(|taken| taken.host_us),
                of(|taken| taken.server_us),
            );
        }
    }
    Ok(())
}

struct Taken {
    /// Until the last job is settled.
    per_second: f64,
    /// Processor time for one event.
    host_us: f64,
    server_us: f64,
}

fn taken(runtime: &Runtime, whole_way: bool, connections: usize) -> anyhow::Result<Taken> {
    let place = empty_folder()?;
    // The server's own user is another.
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
    let postgres = Postgres::durable(place.path()).context("there is no PostgreSQL to measure with")?;
    let host = Server::start_on(Setup::OnPostgres { whole_way }, &postgres)?;
    runtime.block_on(load::run(&host.door, connections, WARMING))?;
    wait_until_settled(runtime, &postgres)?;
    let before = (host.cpu_time()?, tree_cpu_time(postgres.pid())?);
    let begun = Instant::now();
    let load = runtime.block_on(load::run(&host.door, connections, DURATION))?;
    wait_until_settled(runtime, &postgres)?;
    let elapsed = begun.elapsed();
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / load.requests as f64;
    let taken = Taken {
        per_second: load.requests as f64 / elapsed.as_secs_f64(),
        host_us: each(host.cpu_time()? - before.0),
        server_us: each(tree_cpu_time(postgres.pid())? - before.1),
    };
    host.stop()?;
    Ok(taken)
}

fn wait_until_settled(runtime: &Runtime, postgres: &Postgres) -> anyhow::Result<()> {
    let begun = Instant::now();
    let store = PostgresStore::open_read_only(&Secret::new(postgres.url().into_bytes()))?;
    while runtime.block_on(store.counts())?.jobs_waiting > 0 {
        anyhow::ensure!(begun.elapsed() < SETTLED_WITHIN, "the jobs did not settle");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
