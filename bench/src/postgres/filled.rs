//! What an admission costs over a large store beside a small one. History and keys are filled in by PostgreSQL itself, in the shape in which a host leaves
//! them: receipts with their ids, subjects, and jobs that have ended.

use tokio::runtime::Runtime;

use super::{Database, ROUNDS, Taken, taken};
use crate::median;
use crate::process::{Events, Server, Setup};
use crate::system::say;

const CONNECTIONS: usize = 256;
const SMALL: u64 = 10_000;
const LARGE: u64 = 10_000_000;
const KINDS: [Events; 2] = [Events::TakenIn, Events::Settled];
/// Rows of one transaction.
const STEP: u64 = 500_000;

pub(super) fn bench(runtime: &Runtime) -> anyhow::Result<()> {
    let small = over(runtime, SMALL)?;
    let large = over(runtime, LARGE)?;
    for ((of, small), large) in KINDS.iter().zip(small).zip(large) {
        let us = |taken: &Taken| taken.host_us + taken.server_us;
        println!(
            "  {}: {:6.0} events/s over {LARGE} receipts, {:6.0} over {SMALL}; processor time of both {:.0} and {:.0} \u{b5}s each, {:.2}\u{d7}",
            Setup::OnPostgres(*of).name(),
            large.per_second,
            small.per_second,
            us(&large),
            us(&small),
            us(&large) / us(&small),
        );
    }
    Ok(())
}

/// For each of [`KINDS`] the median of several runs, on one database that grows by what they send.
fn over(runtime: &Runtime, receipts: u64) -> anyhow::Result<Vec<Taken>> {
    let database = Database::start()?;
    let start = |of| Server::start_on(Setup::OnPostgres(of), &database.postgres.url());
    // Makes the tables, and takes one event in, whose rows are what the others are made of.
    let first = start(Events::Settled)?;
    database.wait_until_settled(runtime)?;
    first.stop()?;
    fill(&database, receipts)?;
    let each = |of| -> anyhow::Result<Taken> {
        let server = start(of)?;
        let all = (0..ROUNDS)
            .map(|_| taken(runtime, &database, &server, CONNECTIONS))
            .collect::<anyhow::Result<Vec<_>>>()?;
        server.stop()?;
        let of = |figure: fn(&Taken) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
        Ok(Taken {
            per_second: of(|taken| taken.per_second),
            host_us: of(|taken| taken.host_us),
            server_us: of(|taken| taken.server_us),
        })
    };
    KINDS.into_iter().map(each).collect()
}

fn fill(database: &Database, receipts: u64) -> anyhow::Result<()> {
    let mut last: u64 = database.ask("SELECT seq FROM tollgate.chain_heads")?.parse()?;
    while last < receipts {
        let next = receipts.min(last + STEP);
        database.ask(&FILL.replace("$1", &last.to_string()).replace("$2", &next.to_string()))?;
        last = next;
        say(&format!("{last} of {receipts} receipts filled in"));
    }
    database.ask("VACUUM ANALYZE")?;
    database.ask("CHECKPOINT")?;
    Ok(())
}

/// Receipts behind number $1 up to $2, and what goes with them. Their bodies are short, so that a disk holds them: no admission reads them.
const FILL: &str = "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL search_path = tollgate, pg_catalog; \
    CREATE TEMP TABLE numbers ON COMMIT DROP AS SELECT $1 + n AS seq, md5('r' || ($1 + n)) AS a, md5('s' || ($1 + n)) AS b FROM generate_series(1, $2 - $1) n; \
    INSERT INTO receipts SELECT (m).* FROM (SELECT jsonb_populate_record(NULL::receipts, to_jsonb(r) || jsonb_build_object(\
        'seq', n.seq, 'id', '\\x' || n.a, 'event_id', 'evt_' || n.a, 'subject', 'rewr_' || n.b, 'link', '\\x' || n.a || n.b, 'body', '\\x7b7d')) AS m \
        FROM numbers n, receipts r WHERE r.seq = 1) made; \
    INSERT INTO subjects SELECT decode(b, 'hex'), s.status, n.seq FROM numbers n, (SELECT status FROM subjects LIMIT 1) s; \
    INSERT INTO jobs (id, receipt, route, lane, state, attempts, due_at, epoch, tenant, ended_at) \
        SELECT n.seq, n.seq, j.route, n.seq, 3, 1, j.due_at, 1, j.tenant, j.due_at FROM numbers n, (SELECT route, due_at, tenant FROM jobs LIMIT 1) j; \
    UPDATE chain_heads SET seq = $2, link = (SELECT link FROM receipts WHERE seq = $2); COMMIT";
