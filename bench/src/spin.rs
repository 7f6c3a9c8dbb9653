//! The app on a Spin, or on the stand-in for one: what `docs/spin.md` says of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tollgate_tests::client::Client;
use tollgate_tests::events::{plain, signer};
use tollgate_tests::spin::SpinHost;

use super::process::{App, Server, Setup};
use super::{load, machine, median};

/// Each figure is the median of so many runs, of which each has an app and a database of its own.
const ROUNDS: usize = 3;
const DURATION: Duration = Duration::from_secs(5);
/// The first instances of an app cost more.
const WARMING: Duration = Duration::from_secs(1);
/// Events of the burst, and over how many connections they come.
const BURST: u64 = 600;
const BURST_CONNECTIONS: usize = 32;
/// How long after the burst its jobs are counted again.
const BURST_REST: Duration = Duration::from_secs(10);
/// How often an event comes that a plugin loops over.
const LOOP_EVERY: Duration = Duration::from_secs(2);

pub(super) fn bench(runtime: &Runtime) -> anyhow::Result<()> {
    let host = if SpinHost::found().is_real {
        "spin"
    } else {
        "the stand-in for spin"
    };
    println!("on {host}, commit {}; medians of {ROUNDS} runs", machine::commit());
    println!("\nwithout a route:");
    for connections in [1, 4] {
        let costs = rounds(|| Ok(taken(runtime, App::Ingest, connections)?.cpu_ms))?;
        println!(
            "  {connections:2} connections  {:6.2} ms of processor time per event",
            median(&costs)
        );
    }
    println!("\ntwo plugins:");
    for connections in [1, 8, 32] {
        let all = rounds(|| taken(runtime, App::TwoPlugins, connections))?;
        let of = |figure: fn(&Taken) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
        println!(
            "  {connections:2} connections  {:6.0} acknowledgements/s  {:5.2} % answered 503  {:6.2} ms of processor time per event",
            of(|taken| taken.per_second),
            of(|taken| taken.turned_away_percent),
            of(|taken| taken.cpu_ms),
        );
    }
    println!("\na burst of {BURST} over {BURST_CONNECTIONS} connections:");
    let left = rounds(|| burst(runtime))?;
    for (at_its_end, after, turned_away) in left {
        println!("  {at_its_end:4} jobs left at its end  {after:4} after {BURST_REST:?}  {turned_away:4} answered 503");
    }
    println!("\na plugin that loops, once every {LOOP_EVERY:?}, among others over 8 connections:");
    let ratios = rounds(|| with_a_loop(runtime))?;
    for (without, with, loops, ended) in ratios {
        println!(
            "  {without:6.0} acknowledgements/s without, {with:6.0} with: {:.2} x; {ended} of {loops} runs ended by their budget",
            without / with
        );
    }
    let ingest = std::fs::metadata(tollgate_tests::spin_dir().join("tollgate_spin_ingest.wasm"))?.len();
    println!("\ningest.wasm: {ingest} bytes, stripped");
    Ok(())
}

fn rounds<T>(mut run: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    (0..ROUNDS).map(|_| run()).collect()
}

struct Taken {
    per_second: f64,
    turned_away_percent: f64,
    /// Processor time of the app's processes for one event, until all of its work is done.
    cpu_ms: f64,
}

fn taken(runtime: &Runtime, app: App, connections: usize) -> anyhow::Result<Taken> {
    let server = Server::start(Setup::Spin(app))?;
    runtime.block_on(load::run_counted(&server.door, connections, 10_000, WARMING))?;
    server.wait_until_settled()?;
    let before = server.cpu_time()?;
    let load = runtime.block_on(load::run_counted(&server.door, connections, 10_000, DURATION))?;
    server.wait_until_settled()?;
    let spent = server.cpu_time()? - before;
    server.stop()?;
    let all = load.requests + load.turned_away;
    anyhow::ensure!(load.requests > 0, "nothing was taken in");
    Ok(Taken {
        per_second: load.requests as f64 / load.elapsed.as_secs_f64(),
        turned_away_percent: 100.0 * load.turned_away as f64 / all as f64,
        cpu_ms: spent.as_secs_f64() * 1e3 / load.requests as f64,
    })
}

/// Jobs that are left when the burst ends, and a while later; and how many events were turned away.
fn burst(runtime: &Runtime) -> anyhow::Result<(u64, u64, u64)> {
    let server = Server::start(Setup::Spin(App::TwoPlugins))?;
    runtime.block_on(load::run_counted(&server.door, 4, 100, WARMING))?;
    server.wait_until_settled()?;
    let patience = Duration::from_secs(120);
    let load = runtime.block_on(load::run_counted(&server.door, BURST_CONNECTIONS, BURST, patience))?;
    let waiting = || {
        let counts = server.app()?.counts();
        counts["jobs_waiting"].as_u64().context("no count of jobs")
    };
    let at_its_end = waiting()?;
    std::thread::sleep(BURST_REST);
    let after = waiting()?;
    server.stop()?;
    Ok((at_its_end, after, load.turned_away))
}

/// Acknowledgements per second without and with a plugin that loops; how many of its runs there were, and how many its budget ended.
fn with_a_loop(runtime: &Runtime) -> anyhow::Result<(f64, f64, u64, u64)> {
    let server = Server::start(Setup::Spin(App::WithALoop))?;
    let load = |duration| runtime.block_on(load::run_counted(&server.door, 8, 10_000, duration));
    let per_second = |load: load::Load| load.requests as f64 / load.elapsed.as_secs_f64();
    load(WARMING)?;
    let without = per_second(load(DURATION)?);
    server.wait_until_settled()?;
    let app = server.app()?;
    let is_over = AtomicBool::new(false);
    let (with, loops) = std::thread::scope(|scope| {
        let looping = scope.spawn(|| {
            let mut loops = 0;
            while !is_over.load(Ordering::Relaxed) {
                let message = signer("shop").sign("", plain("loop", &format!("loop_{loops}")));
                let answer = Client::connect(app.address)?.post("/in/acme/shop", &message)?;
                anyhow::ensure!(answer.status == 202, "a loop was answered {}", answer.status);
                loops += 1;
                let start = Instant::now();
                while start.elapsed() < LOOP_EVERY && !is_over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Ok(loops)
        });
        let with = load(DURATION);
        is_over.store(true, Ordering::Relaxed);
        let loops = looping.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        anyhow::Ok((per_second(with?), loops))
    })?;
    server.wait_until_settled()?;
    let ended = (0..loops)
        .filter(|at| {
            let trace = app.traces(&format!("loop_{at}"));
            trace
                .first()
                .is_some_and(|trace| trace["jobs"][0]["runs"][0]["outcome"] == "out-of-fuel")
        })
        .count();
    server.stop()?;
    Ok((without, with, loops, ended as u64))
}
