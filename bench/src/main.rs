//! `cargo xtask bench`: what Tollgate costs, as processor time of the server per request, beside what cannot be done for less and beside
//! what others make of the same event.
//!
//! Every measure is taken several times in turns on the same machine, and the medians are shown with their ratios: a lone absolute
//! from a noisy machine says nothing. The load generator and the server share the machine; only the processor time of the server and of
//! what it started, as the kernel counts it, is divided by requests. What is found is kept in `docs/performance.json`, from which the
//! page and its chart are written.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

mod bare;
mod chart;
mod lists;
mod load;
mod machine;
mod measures;
mod peers;
mod plugins;
mod postgres;
mod process;
mod report;
mod runs;
mod spin;
mod system;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use measures::{Found, MEASURES, Measure, Plan};
use process::{Server, Setup};
use report::{Report, Taken};
use tokio::runtime::Runtime;

/// The server's own, so that the bare server is held back by nothing that Tollgate does without.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
bench                      what the list below has without brackets; writes docs/performance.*
bench --only NAME[,NAME]   these; what was found before of the others stays
bench --million            the same as --only million,lists: a store of a million receipts
bench --quick [--only …]   shorter, only printed
bench --render             write the page and its chart again from what was found before
bench --spin               what the app does on Spin, or on its stand-in: acknowledgements, processor time, bursts, plugins that loop
bench --postgres [PART,…]  a host on a PostgreSQL: events per second, and what each costs either; the parts are below
bench --memory RECEIPTS    the server's memory over that many receipts
bench --plugins COUNT      memory of that many plugins on one host, and how long one takes from compiled code
";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        // This program as a server that ingest is held against.
        ["bare", mode, port, threads, file] => {
            let mode = bare::Mode::of(mode).context("no such bare server")?;
            bare::serve(mode, port.parse()?, threads.parse()?, Path::new(file))
        }
        [] => bench(&Plan::FULL, &usual(), true),
        ["--only", names] => bench(&Plan::FULL, &named(names)?, true),
        ["--million"] => bench(&Plan::FULL, &named("million,lists")?, true),
        ["--quick"] => bench(&Plan::QUICK, &usual(), false),
        ["--quick", "--only", names] | ["--only", names, "--quick"] => bench(&Plan::QUICK, &named(names)?, false),
        ["--render"] => Report::read()?.write(),
        ["--spin"] => spin::bench(&runtime()?),
        ["--postgres"] => postgres::bench(&runtime()?, None),
        ["--postgres", parts] => postgres::bench(&runtime()?, Some(parts)),
        ["--plugins", count] => plugins::many(count.parse().context("--plugins takes a number of plugins")?),
        ["--memory", receipts] => memory(receipts.parse().context("--memory takes a number of receipts")?),
        _ => {
            println!("{USAGE}");
            for Measure {
                name, summary, usual, ..
            } in MEASURES
            {
                let name = if usual { name.to_owned() } else { format!("[{name}]") };
                println!("  {name:<10} {summary}");
            }
            println!("\nparts of --postgres:");
            for (name, summary, by_name_alone) in postgres::PARTS {
                let name = if by_name_alone {
                    format!("[{name}]")
                } else {
                    name.to_owned()
                };
                println!("  {name:<10} {summary}");
            }
            std::process::exit(2);
        }
    }
}

fn usual() -> Vec<Measure> {
    MEASURES.into_iter().filter(|measure| measure.usual).collect()
}

fn named(names: &str) -> anyhow::Result<Vec<Measure>> {
    let of = |name: &str| MEASURES.into_iter().find(|measure| measure.name == name);
    names
        .split(',')
        .map(|name| of(name).with_context(|| format!("there is no measure `{name}`")))
        .collect()
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

/// Takes these measures one after the other. What was found is written after each, so that a failure loses only what is left.
fn bench(plan: &Plan, measures: &[Measure], write: bool) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let mut report = if write { Report::read()? } else { Report::default() };
    let mut failed = Vec::new();
    for measure in measures {
        eprintln!("== {}: {}", measure.name, measure.summary);
        let commit = machine::commit();
        let watch = machine::Watch::begin()?;
        let mut found = Found::default();
        if let Err(error) = (measure.run)(plan, &runtime, &mut found) {
            eprintln!("FAILED {}: {error:#}", measure.name);
            failed.push(measure.name);
            continue;
        }
        report
            .measures
            .insert(measure.name.to_owned(), Taken::new(found, plan, commit, &watch)?);
        if write {
            report.write()?;
        }
    }
    println!("{}", report.text());
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

/// The value in the middle; of an even number, the mean of the two there.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.get(half), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(middle), 1) => *middle,
        (Some(above), _) => (values[half - 1] + above) / 2.0,
    }
}

fn memory(receipts: u64) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let server = Server::start(Setup::Ingest)?;
    println!("{:>12} {:>14} {:>14}", "receipts", "resident MiB", "store MiB");
    let mut done = 0;
    while done < receipts {
        done += runtime
            .block_on(load::run(&server.door, 64, Duration::from_secs(5)))?
            .requests;
        let resident = server.resident_bytes()? as f64 / (1024.0 * 1024.0);
        let stored = server.store_bytes()? as f64 / (1024.0 * 1024.0);
        println!("{done:12} {resident:14.1} {stored:14.0}");
    }
    server.stop()
}
