//! `cargo xtask bench`: what Tollgate costs, as processor time of the server per request, beside what cannot be done for less.
//!
//! Every measure is taken several times in turns on the same machine, and the medians are shown with their ratios: a lone absolute
//! from a noisy machine says nothing. The load generator and the server share the machine; only the server's processor time, as the
//! kernel counts it for the process, is divided by requests.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

mod bare;
mod load;
mod plugins;
mod process;
mod runs;

use std::time::Duration;

use anyhow::Context as _;
use process::{Server, Setup};

/// The server's own, so that the bare server is held back by nothing that Tollgate does without.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Plan {
    rounds: usize,
    seconds: u64,
    runs: u32,
}

const USAGE: &str = "\
bench [--quick]            what ingest, a run and the whole way cost
bench --spin               what ingest costs on Spin's interfaces, beside the native host's
bench --memory RECEIPTS    the server's memory over that many receipts
bench --plugins COUNT      memory of that many plugins on one host, and how long one takes from compiled code";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        // This program as the bare server that ingest is held against.
        ["bare", port, threads] => bare::serve(port.parse()?, threads.parse()?),
        [] => bench(&Plan {
            rounds: 5,
            seconds: 5,
            runs: 20_000,
        }),
        ["--quick"] => bench(&Plan {
            rounds: 3,
            seconds: 2,
            runs: 5_000,
        }),
        ["--spin"] => spin(&Plan {
            rounds: 3,
            seconds: 5,
            runs: 0,
        }),
        ["--plugins", count] => plugins::many(count.parse().context("--plugins takes a number of plugins")?),
        ["--memory", receipts] => memory(receipts.parse().context("--memory takes a number of receipts")?),
        _ => {
            println!("{USAGE}");
            std::process::exit(2);
        }
    }
}

/// One measure over one stretch of load.
#[derive(Clone, Copy)]
struct Sample {
    requests_per_second: f64,
    cpu_us: f64,
}

fn bench(plan: &Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let duration = Duration::from_secs(plan.seconds);
    let mut ingest: Vec<(&str, usize, Vec<Sample>)> = Vec::new();
    for (name, connections) in [
        ("bare hyper", 64),
        ("ingest", 64),
        ("bare hyper", 256),
        ("ingest", 256),
        ("whole way", 64),
    ] {
        ingest.push((name, connections, Vec::new()));
    }
    let mut settled = Vec::new();
    for round in 0..plan.rounds {
        for (name, connections, samples) in &mut ingest {
            eprintln!(
                "round {} of {}: {name}, {connections} connections",
                round + 1,
                plan.rounds
            );
            let setup = match *name {
                "bare hyper" => Setup::Bare,
                "ingest" => Setup::Ingest,
                _ => Setup::WholeWay,
            };
            let server = Server::start(setup)?;
            let cpu = server.cpu_time()?;
            let load = runtime.block_on(load::run(&server, *connections, duration))?;
            let drained = if setup == Setup::WholeWay {
                Some(server.wait_until_settled()?)
            } else {
                None
            };
            let spent = (server.cpu_time()? - cpu).as_secs_f64();
            samples.push(Sample {
                requests_per_second: load.requests as f64 / load.elapsed.as_secs_f64(),
                cpu_us: spent * 1e6 / load.requests as f64,
            });
            if let Some(drained) = drained {
                settled.push(load.requests as f64 / (load.elapsed + drained).as_secs_f64());
            }
            server.stop()?;
        }
    }
    print_requests(&ingest, &mut settled)?;
    print_runs(&runs::measure(plan.runs, plan.rounds)?);
    Ok(())
}

fn print_requests(ingest: &[(&str, usize, Vec<Sample>)], settled: &mut [f64]) -> anyhow::Result<()> {
    let of = |name: &str, connections: usize, field: fn(&Sample) -> f64| {
        let samples = ingest
            .iter()
            .find(|entry| entry.0 == name && entry.1 == connections)
            .context("a measure is missing")?;
        let mut values: Vec<f64> = samples.2.iter().map(field).collect();
        anyhow::Ok(median(&mut values))
    };
    println!(
        "\nserver CPU per request; medians of {} interleaved rounds, event of {} bytes\n",
        ingest[0].2.len(),
        load::BODY.len()
    );
    println!("{:38} {:>12} {:>10} {:>12}", "", "CPU µs", "req/s", "÷ bare hyper");
    for (name, connections, _) in ingest {
        let cpu = of(name, *connections, |sample| sample.cpu_us)?;
        let rate = of(name, *connections, |sample| sample.requests_per_second)?;
        let ratio = cpu / of("bare hyper", *connections, |sample| sample.cpu_us)?;
        println!(
            "{:38} {cpu:12.1} {rate:10.0} {ratio:12.2}",
            format!("{name}, {connections} connections")
        );
    }
    println!(
        "\nend to end: {:.0} events per second from signed request to settled action",
        median(settled)
    );
    Ok(())
}

fn print_runs(cost: &runs::Cost) {
    println!("\n{:38} {:>12}", "one thread, in process", "CPU µs");
    println!("{:38} {:12.1}", "sandboxed run (instantiate, call, drop)", cost.run_us);
    println!("{:38} {:12.1}", "claim, run, judge, settle (durable)", cost.settled_us);
    println!("\nto reach: ingest ≤ 4.0 × bare hyper at 256 connections; sandboxed run ≤ 60 µs");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Few connections: SQLite lets one instance write at a time, and the others wait for its lock.
const SPIN_CONNECTIONS: usize = 4;

fn spin(plan: &Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut costs = [
        ("native", Setup::Ingest, Vec::new()),
        ("on Spin", Setup::Spin, Vec::new()),
    ];
    for round in 0..plan.rounds {
        for (name, setup, samples) in &mut costs {
            eprintln!("round {} of {}: {name}", round + 1, plan.rounds);
            let server = Server::start(*setup)?;
            // The first instances compile nothing and still cost more.
            runtime.block_on(load::run(&server, SPIN_CONNECTIONS, Duration::from_secs(1)))?;
            let cpu = server.cpu_time()?;
            let load = runtime.block_on(load::run(&server, SPIN_CONNECTIONS, Duration::from_secs(plan.seconds)))?;
            let spent = (server.cpu_time()? - cpu).as_secs_f64();
            samples.push(spent * 1e6 / load.requests as f64);
            server.stop()?;
        }
    }
    let [native, on_spin] = costs.map(|(_, _, mut samples)| median(&mut samples));
    println!(
        "\ningest, {SPIN_CONNECTIONS} connections, server CPU per request; medians of {} rounds\n",
        plan.rounds
    );
    println!("{:38} {native:12.1} µs", "native");
    println!(
        "{:38} {on_spin:12.1} µs {:12.1} × native",
        "on Spin's interfaces",
        on_spin / native
    );
    let ingest = std::fs::metadata(tollgate_tests::spin_dir().join("tollgate_spin_ingest.wasm"))?.len();
    println!("\ningest.wasm: {ingest} bytes, stripped; to reach: fewer than 1000000");
    Ok(())
}

fn memory(receipts: u64) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let server = Server::start(Setup::Ingest)?;
    println!("{:>12} {:>14} {:>14}", "receipts", "resident MiB", "store MiB");
    let mut done = 0;
    while done < receipts {
        done += runtime
            .block_on(load::run(&server, 64, Duration::from_secs(5)))?
            .requests;
        let resident = server.resident_bytes()? as f64 / (1024.0 * 1024.0);
        let stored = server.store_bytes()? as f64 / (1024.0 * 1024.0);
        println!("{done:12} {resident:14.1} {stored:14.0}");
    }
    server.stop()
}
