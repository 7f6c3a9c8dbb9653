//! What a snapshot costs that somebody holds, as a forgotten console or a long report does: whatever was changed since stays.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tollgate_tests::postgres::command;

use super::Database;
use crate::load;
use crate::process::{Events, Server, Setup};

const HELD: Duration = Duration::from_secs(30 * 60);
/// Events a second meanwhile: a third of what the host settles at its best.
const PER_SECOND: u64 = 500;
/// How long each figure is taken over.
const LOOK: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 32;

pub(super) fn bench(runtime: &Runtime) -> anyhow::Result<()> {
    let database = Database::start()?;
    let server = Server::start_on(Setup::OnPostgres(Events::Settled), &database.postgres.url())?;
    println!("{PER_SECOND} events a second, each claimed, run and settled:");
    paced(&database, &server, "before")?;
    at_its_best(runtime, &database, &server)?;
    let snapshot = Snapshot::hold(&database)?;
    let begun = Instant::now();
    while begun.elapsed() < HELD {
        let minutes = (begun.elapsed().as_secs() + 30) / 60;
        paced(&database, &server, &format!("held for {minutes} min"))?;
    }
    at_its_best(runtime, &database, &server)?;
    snapshot.let_go()?;
    database.ask("VACUUM tollgate.jobs")?;
    paced(&database, &server, "let go, and vacuumed")?;
    at_its_best(runtime, &database, &server)?;
    server.stop()
}

/// How long after their receipt events of a minute were run.
fn paced(database: &Database, server: &Server, when: &str) -> anyhow::Result<()> {
    let first: u64 = database.ask("SELECT max(seq) FROM tollgate.receipts")?.parse()?;
    let mut latencies = load::paced(&server.door, PER_SECOND, LOOK, CONNECTIONS)?;
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    let waited = database.ask(&format!(
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY r.started_at - e.received_at) || ' / ' || \
         percentile_disc(0.99) WITHIN GROUP (ORDER BY r.started_at - e.received_at) \
         FROM tollgate.runs r JOIN tollgate.jobs j ON j.id = r.job JOIN tollgate.receipts e ON e.seq = j.receipt WHERE e.seq > {first}"
    ))?;
    let dead = database.ask("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'jobs'")?;
    println!(
        "  {when}: claimed {waited} ms after its receipt (median / p99), acknowledged p99 {:.0} ms, {dead} dead rows of jobs",
        p99.as_secs_f64() * 1e3
    );
    Ok(())
}

fn at_its_best(runtime: &Runtime, database: &Database, server: &Server) -> anyhow::Result<()> {
    database.wait_until_settled(runtime)?;
    let begun = Instant::now();
    let load = runtime.block_on(load::run(&server.door, 64, Duration::from_secs(10)))?;
    database.wait_until_settled(runtime)?;
    let per_second = load.requests as f64 / begun.elapsed().as_secs_f64();
    println!("  at its best: {per_second:.0} events/s, until all are settled");
    Ok(())
}

/// Whoever holds a snapshot.
struct Snapshot(Child);

impl Snapshot {
    fn hold(database: &Database) -> anyhow::Result<Self> {
        let mut psql = command("psql");
        psql.arg(database.postgres.url()).args(["-XqAt"]);
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut says = psql.stdin.take().context("no way to psql")?;
        writeln!(
            says,
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tollgate.chain_heads;"
        )?;
        psql.stdin = Some(says);
        let mut answer = String::new();
        BufReader::new(psql.stdout.as_mut().context("no way from psql")?).read_line(&mut answer)?;
        anyhow::ensure!(answer.trim() == "1", "psql answered {answer}");
        Ok(Self(psql))
    }

    fn let_go(mut self) -> anyhow::Result<()> {
        drop(self.0.stdin.take());
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
