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
    let columns = database.ask(COLUMNS)?;
    let mut last: u64 = database.ask("SELECT seq FROM tollgate.chain_heads")?.parse()?;
    while last < receipts {
        let next = receipts.min(last + STEP);
        let of = [
            ("{columns}", &*columns),
            ("{last}", &last.to_string()),
            ("{next}", &next.to_string()),
        ];
        database.ask(&of.iter().fold(FILL.to_owned(), |sql, (name, is)| sql.replace(name, is)))?;
        last = next;
        say(&format!("{last} of {receipts} receipts filled in"));
    }
    database.ask("VACUUM ANALYZE")?;
    database.ask("CHECKPOINT")?;
    Ok(())
}

/// What stands in each column of a receipt that is filled in: as in the one that a host took in, `r`, but for what names it. Their bodies are short, so
/// that a disk holds them: no admission reads them.
const COLUMNS: &str = "SELECT string_agg(CASE column_name WHEN 'seq' THEN 'n.seq' WHEN 'id' THEN 'decode(n.a, ''hex'')' \
    WHEN 'event_id' THEN '''evt_'' || n.a' WHEN 'subject' THEN '''rewr_'' || n.b' WHEN 'link' THEN 'decode(n.a || n.b, ''hex'')' \
    WHEN 'body' THEN '''\\x7b7d''::bytea' ELSE 'r.' || column_name END, ', ' ORDER BY ordinal_position) \
    FROM information_schema.columns WHERE table_schema = 'tollgate' AND table_name = 'receipts'";

/// Receipts behind one number up to another, and what goes with them.
const FILL: &str = "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL search_path = tollgate, pg_catalog; \
    CREATE TEMP TABLE numbers ON COMMIT DROP AS \
        SELECT {last} + n AS seq, md5('r' || ({last} + n)) AS a, md5('s' || ({last} + n)) AS b FROM generate_series(1, {next} - {last}) n; \
    INSERT INTO receipts SELECT {columns} FROM numbers n, receipts r WHERE r.seq = 1; \
    INSERT INTO subjects SELECT decode(b, 'hex'), s.status, n.seq FROM numbers n, (SELECT status FROM subjects LIMIT 1) s; \
    INSERT INTO jobs (id, receipt, route, lane, state, attempts, due_at, epoch, tenant, ended_at) \
        SELECT n.seq, n.seq, j.route, n.seq, 3, 1, j.due_at, 1, j.tenant, j.due_at FROM numbers n, (SELECT route, due_at, tenant FROM jobs LIMIT 1) j; \
    UPDATE chain_heads SET seq = {next}, link = (SELECT link FROM receipts WHERE seq = {next}); COMMIT";
