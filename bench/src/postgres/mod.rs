//! Hosts and a PostgreSQL on one machine: what an event costs each of them, and what becomes of that with more hosts, a larger store and a snapshot that
//! somebody holds.

mod filled;
mod hosts;
mod pinned;
mod wire;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tollgate_core::secret::Secret;
use tollgate_store::Views as _;
use tollgate_store::postgres::PostgresStore;
use tollgate_tests::postgres::{Postgres, command};

use super::peers::Peer;
use super::process::{Events, Server, Setup};
use super::system::{empty_folder, tree_cpu_time};
use super::{load, machine, median};

/// Each figure is the median of so many runs, of which each has a server and a database of its own.
const ROUNDS: usize = 3;
const DURATION: Duration = Duration::from_secs(5);
/// The first connections of a server cost more.
const WARMING: Duration = Duration::from_secs(1);
/// How long the jobs may take that are left when the load ends.
const SETTLED_WITHIN: Duration = Duration::from_secs(600);

/// What can be measured: its name, what it is, and whether it is asked for by its name alone.
pub(super) const PARTS: [(&str, &str, bool); 5] = [
    ("events", "what an event costs the host and PostgreSQL", false),
    (
        "peers",
        "the same of Fastify + pg, a row and a commit for each event",
        false,
    ),
    (
        "hosts",
        "two hosts beside one: far from PostgreSQL, and with a slow destination",
        true,
    ),
    (
        "filled",
        "admissions over ten million receipts beside those over ten thousand",
        true,
    ),
    (
        "pinned",
        "the same load for half an hour while somebody holds a snapshot",
        true,
    ),
];

/// Measures these parts, or all that need not be asked for.
pub(super) fn bench(runtime: &Runtime, parts: Option<&str>) -> anyhow::Result<()> {
    let asked: Vec<&str> = parts.map(|parts| parts.split(',').collect()).unwrap_or_default();
    if let Some(strange) = asked.iter().find(|name| PARTS.iter().all(|(part, ..)| part != *name)) {
        anyhow::bail!("there is no part `{strange}` of --postgres");
    }
    println!(
        "a PostgreSQL that syncs each commit, the hosts and the load, all on this machine; commit {}",
        machine::commit()
    );
    for (part, summary, by_name_alone) in PARTS {
        if !asked.contains(&part) && (by_name_alone || !asked.is_empty()) {
            continue;
        }
        println!("\n== {part}: {summary}");
        match part {
            "events" => events(runtime)?,
            "peers" => peers(runtime)?,
            "hosts" => hosts::bench(runtime)?,
            "filled" => filled::bench(runtime)?,
            _ => pinned::bench(runtime)?,
        }
    }
    Ok(())
}

fn events(runtime: &Runtime) -> anyhow::Result<()> {
    for (of, title) in [
        (Events::TakenIn, "without a route"),
        (Events::Settled, "with a route to a plugin"),
    ] {
        println!("{title}:");
        for connections in [16, 64, 256] {
            table_row(runtime, Setup::OnPostgres(of), connections)?;
        }
    }
    Ok(())
}

fn peers(runtime: &Runtime) -> anyhow::Result<()> {
    if let Err(error) = Peer::FastifyPg.install() {
        println!("SKIPPED: {error:#}");
        return Ok(());
    }
    println!("{}:", Peer::FastifyPg.versions()?);
    for connections in [16, 64, 256] {
        table_row(runtime, Setup::Peer(Peer::FastifyPg), connections)?;
    }
    Ok(())
}

/// Medians of several runs of one server.
fn table_row(runtime: &Runtime, setup: Setup, connections: usize) -> anyhow::Result<()> {
    let all = (0..ROUNDS)
        .map(|_| {
            let database = Database::start()?;
            let server = Server::start_on(setup, &database.postgres.url())?;
            let taken = taken(runtime, &database, &server, connections)?;
            server.stop()?;
            Ok(taken)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let of = |figure: fn(&Taken) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
    println!(
        "  {connections:3} connections  {:6.0} events/s, all of their work done  {:6.0} \u{b5}s of the host and {:6.0} \u{b5}s of PostgreSQL each",
        of(|taken| taken.per_second),
        of(|taken| taken.host_us),
        of(|taken| taken.server_us),
    );
    Ok(())
}

/// A PostgreSQL of this run's own, on a disk.
struct Database {
    postgres: Postgres,
    /// Dropped last: the server is in it.
    _place: TempDir,
}

impl Database {
    fn start() -> anyhow::Result<Self> {
        let place = empty_folder()?;
        // The server's own user is another.
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let postgres = Postgres::durable(place.path()).context("there is no PostgreSQL to measure with")?;
        Ok(Self {
            postgres,
            _place: place,
        })
    }

    /// The port of its socket is the same for all.
    fn socket(&self) -> &Path {
        self.postgres.folder()
    }

    /// What PostgreSQL's own program prints of this, without decoration.
    fn ask(&self, sql: &str) -> anyhow::Result<String> {
        let mut psql = command("psql");
        psql.arg(self.postgres.url())
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .stdout(Stdio::piped());
        let output = psql.output().context("psql")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn wait_until_settled(&self, runtime: &Runtime) -> anyhow::Result<()> {
        let begun = Instant::now();
        let store = PostgresStore::open_read_only(&Secret::new(self.postgres.url().into_bytes()))?;
        loop {
            // Counting what waits takes the server a hundredth of a second where much does, and that would be in what an event costs it.
            let due = runtime.block_on(store.next_due())?;
            if due.job.is_none() && due.outbox.is_none() {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < SETTLED_WITHIN, "the jobs did not settle");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

struct Taken {
    /// Until the last job is settled.
    per_second: f64,
    /// Processor time for one event.
    host_us: f64,
    server_us: f64,
}

/// Loads a server that has its store in this database.
fn taken(runtime: &Runtime, database: &Database, server: &Server, connections: usize) -> anyhow::Result<Taken> {
    let postgres = database.postgres.pid();
    runtime.block_on(load::run(&server.door, connections, WARMING))?;
    wait_for_work(runtime, database, server)?;
    let before = (server.cpu_time()?, tree_cpu_time(postgres)?);
    let begun = Instant::now();
    let load = runtime.block_on(load::run(&server.door, connections, DURATION))?;
    wait_for_work(runtime, database, server)?;
    let elapsed = begun.elapsed();
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / load.requests as f64;
    Ok(Taken {
        per_second: load.requests as f64 / elapsed.as_secs_f64(),
        host_us: each(server.cpu_time()? - before.0),
        server_us: each(tree_cpu_time(postgres)? - before.1),
    })
}

/// A peer works on nothing that it has answered.
fn wait_for_work(runtime: &Runtime, database: &Database, server: &Server) -> anyhow::Result<()> {
    match server.is_peer() {
        true => Ok(()),
        false => database.wait_until_settled(runtime),
    }
}
