//! What can be measured, each by itself.
//!
//! Servers that are held against each other take turns within a round, so that what the machine does meanwhile meets all of them.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Runtime;

use super::bare::Mode;
use super::lists;
use super::load;
use super::peers::Peer;
use super::process::{Server, Setup};
use super::runs;
use super::system::{say, spent, stat};

/// How long one who asks for lists has beside intake, before it is another's turn.
const LISTED_TURN: Duration = Duration::from_secs(2);

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) rounds: usize,
    pub(super) seconds: u64,
    /// Runs in process, in each round.
    pub(super) runs: u32,
    /// Receipts of the full store that an almost empty one is held against.
    pub(super) receipts: u64,
    /// How long the paced load goes on.
    pub(super) paced_seconds: u64,
    /// The same beside lists: the disk makes minutes differ by half, so there are many short rounds, of shorter turns.
    pub(super) listed_rounds: usize,
    /// Of [`LISTED_TURN`] for each who asks, in a round.
    pub(super) listed_turns: usize,
    pub(super) peer_rounds: usize,
}

impl Plan {
    pub(super) const FULL: Self = Self {
        rounds: 5,
        seconds: 4,
        runs: 20_000,
        receipts: 1_000_000,
        paced_seconds: 30,
        listed_rounds: 21,
        listed_turns: 5,
        peer_rounds: 3,
    };
    pub(super) const QUICK: Self = Self {
        rounds: 3,
        seconds: 2,
        runs: 5_000,
        receipts: 150_000,
        paced_seconds: 5,
        listed_rounds: 3,
        listed_turns: 3,
        peer_rounds: 1,
    };
}

/// What was found, by name: one value for each round.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) samples: BTreeMap<String, Vec<f64>>,
    /// What else is to be told, by what it is of.
    pub(super) words: BTreeMap<String, String>,
    /// What could not be measured, and why.
    pub(super) skipped: BTreeMap<String, String>,
}

impl Found {
    fn sample(&mut self, name: impl Into<String>, value: f64) {
        self.samples.entry(name.into()).or_default().push(value);
    }

    fn load(&mut self, name: &str, sample: Sample) {
        self.sample(cpu(name), sample.cpu_us);
        self.sample(rate(name), sample.requests_per_second);
    }

    fn skip(&mut self, name: &str, reason: &anyhow::Error) {
        let reason = format!("{reason:#}");
        say(&format!("SKIPPED {name}: {reason}"));
        self.skipped.insert(name.to_owned(), reason);
    }
}

pub(super) struct Measure {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    /// Whether a run without names takes it.
    pub(super) usual: bool,
    pub(super) run: fn(&Plan, &Runtime, &mut Found) -> anyhow::Result<()>,
}

pub(super) const MEASURES: [Measure; 8] = [
    Measure {
        name: "ingest",
        summary: "ingest beside bare HTTP and beside an append with fdatasync",
        usual: true,
        run: ingest,
    },
    Measure {
        name: "way",
        summary: "from the signed request to the settled action",
        usual: true,
        run: way,
    },
    Measure {
        name: "runs",
        summary: "a plugin's run by itself, and with the store around it",
        usual: true,
        run: in_process,
    },
    Measure {
        name: "repeat",
        summary: "recorded runs, run again: trial and replay",
        usual: true,
        run: repeat,
    },
    Measure {
        name: "stall",
        summary: "how late an answer is at 2,000 requests per second, checkpoints included",
        usual: true,
        run: stall,
    },
    Measure {
        name: "peers",
        summary: "ingest beside other people's servers",
        usual: true,
        run: peers,
    },
    Measure {
        name: "million",
        summary: "ingest over 1,000,000 receipts beside ingest over 10,000 (some ten minutes)",
        usual: false,
        run: million,
    },
    Measure {
        name: "lists",
        summary: "the first page of each list over 1,000,000 receipts, intake at 2,000 per second beside it, and the pages of the console (some ten minutes)",
        usual: false,
        run: listed,
    },
];

/// The name of a server's processor time per request.
pub(super) fn cpu(name: &str) -> String {
    format!("{name}: CPU µs per request")
}

/// The name of a server's requests per second.
pub(super) fn rate(name: &str) -> String {
    format!("{name}: requests per second")
}

/// A server under so many connections.
pub(super) fn at(name: &str, connections: usize) -> String {
    format!("{name}, {connections} connections")
}

/// One stretch of load.
#[derive(Debug, Clone, Copy)]
struct Sample {
    requests_per_second: f64,
    cpu_us: f64,
}

fn ingest(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    let duration = Duration::from_secs(plan.seconds);
    let turns = [
        (Setup::Bare(Mode::Answer), 64),
        (Setup::Ingest, 64),
        (Setup::Bare(Mode::Answer), 256),
        (Setup::Bare(Mode::Append), 256),
        (Setup::Bare(Mode::ProveAndAppend), 256),
        (Setup::Ingest, 256),
    ];
    for round in 1..=plan.rounds {
        for (setup, connections) in turns {
            let name = at(setup.name(), connections);
            say(&format!("round {round} of {}: {name}", plan.rounds));
            found.load(&name, warm(setup, connections, (WARM_UP, duration), runtime)?);
        }
    }
    Ok(())
}

impl Sample {
    fn of(load: &load::Load, cpu: Duration) -> Self {
        Self {
            requests_per_second: load.requests as f64 / load.elapsed.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / load.requests as f64,
        }
    }
}

pub(super) const WAY: &str = "whole way, 64 connections";
pub(super) const EVENTS_PER_SECOND: &str = "events settled per second";

fn way(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}: {WAY}", plan.rounds));
        let server = Server::start(Setup::WholeWay)?;
        let before = server.cpu_time()?;
        let load = runtime.block_on(load::run(&server.door, 64, Duration::from_secs(plan.seconds)))?;
        let drained = server.wait_until_settled()?;
        found.load(WAY, Sample::of(&load, server.cpu_time()? - before));
        let seconds = (load.elapsed + drained).as_secs_f64();
        found.sample(EVENTS_PER_SECOND, load.requests as f64 / seconds);
        server.stop()?;
    }
    Ok(())
}

pub(super) const RUN: &str = "sandboxed run (instantiate, call, drop): CPU µs";
pub(super) const SETTLED_RUN: &str = "claim, run, judge, settle (durable): CPU µs";

fn in_process(plan: &Plan, _: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    for round in 1..=plan.rounds {
        say(&format!(
            "round {round} of {}: {} runs in process",
            plan.rounds, plan.runs
        ));
        let cost = runs::measure(plan.runs)?;
        found.sample(RUN, cost.run_us);
        found.sample(SETTLED_RUN, cost.settled_us);
    }
    Ok(())
}

pub(super) const TRIAL_PER_SECOND: &str = "trial, one thread: recorded runs per second";
pub(super) const TRIAL_PER_CPU_SECOND: &str = "trial, one thread: recorded runs per second of processor time";
pub(super) const REPLAY_PER_CPU_SECOND: &str = "replay (proof): recorded runs per second of processor time";

/// Runs that are recorded for it.
const RECORDED: u64 = 25_000;

fn repeat(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    say(&format!("recording {RECORDED} runs"));
    let server = Server::start(Setup::WholeWay)?;
    runtime.block_on(load::run_count(&server.door, 64, RECORDED))?;
    server.wait_until_settled()?;
    let folder = server.leave()?;
    let config = folder.path().join("tollgate.toml");
    let plugin = tollgate_tests::plugins_dir().join("cashback.wasm");
    let ask = |arguments: &[&str]| -> anyhow::Result<(serde_json::Value, f64)> {
        let before = stat("self")?.ended;
        let output = Command::new(tollgate_tests::tollgate_bin())
            .args(["plugin", arguments[0], "--json", "--config"])
            .arg(&config)
            .args(&arguments[1..])
            .output()?;
        let cpu = stat("self")?.ended - before;
        spent(cpu);
        let error = || String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(output.status.success(), "plugin {}: {}", arguments[0], error());
        Ok((serde_json::from_slice(&output.stdout)?, cpu.as_secs_f64()))
    };
    let plugin = plugin.to_str().context("a path that is no text")?;
    for round in 1..=plan.rounds {
        say(&format!("round {round} of {}: trial and replay", plan.rounds));
        let (trial, cpu) = ask(&["trial", plugin, "--threads", "1"])?;
        let (runs, differ) = (&trial["runs"], &trial["differing"]);
        // The same plugin must come to the same: one that did nothing would be fast.
        anyhow::ensure!(
            runs.as_u64() >= Some(RECORDED) && differ.as_u64() == Some(0),
            "of {RECORDED} recorded runs, {runs} were tried and {differ} differ"
        );
        let runs = runs.as_f64().context("no runs")?;
        found.sample(
            TRIAL_PER_SECOND,
            runs / trial["seconds"].as_f64().context("no seconds")?,
        );
        found.sample(TRIAL_PER_CPU_SECOND, runs / cpu);

        let (proof, cpu) = ask(&["proof", "--runs", &RECORDED.to_string()])?;
        let versions = proof["versions"].as_array().context("no versions")?;
        let count = |key: &str| -> f64 { versions.iter().filter_map(|version| version[key].as_f64()).sum() };
        let (runs, same) = (count("runs"), count("same"));
        anyhow::ensure!(
            runs >= RECORDED as f64 && (runs - same).abs() < 0.5,
            "of {RECORDED} recorded runs, {runs} were replayed and {same} came out the same"
        );
        found.sample(REPLAY_PER_CPU_SECOND, runs / cpu);
    }
    Ok(())
}

/// What providers send at their worst, and a tenth of what the machine can take.
const PACED_PER_SECOND: u64 = 2_000;
/// So many that a pause of 128 ms still finds a free connection for each instant.
const PACED_CONNECTIONS: usize = 256;
/// Receipts that the store has by then, so that its log and its keys are in their steady state.
const PACED_AFTER: u64 = 100_000;
const PACED_STRETCHES_MAX: usize = 4;
pub(super) const STALL_MS: f64 = 50.0;
/// What is told of each paced server, in order.
pub(super) const PACED: [&str; 7] = [
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "max ms",
    "over 50 ms",
    "requests",
    "checkpoints",
];
pub(super) const STALL_SETUPS: [Setup; 3] = [Setup::Ingest, Setup::Bare(Mode::Append), Setup::Bare(Mode::Answer)];

fn stall(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    let duration = Duration::from_secs(plan.paced_seconds);
    for setup in STALL_SETUPS {
        let name = setup.name();
        say(&format!(
            "{name}: {PACED_PER_SECOND} requests per second for {} s",
            plan.paced_seconds
        ));
        let server = Server::start(setup)?;
        runtime.block_on(load::run_count(&server.door, 256, PACED_AFTER))?;
        let begun = server.checkpoints()?.unwrap_or(0);
        let mut latencies = Vec::new();
        let mut checkpoints = None;
        // A stretch without a checkpoint says nothing of what one costs.
        for _ in 0..PACED_STRETCHES_MAX {
            latencies.extend(load::paced(
                &server.door,
                PACED_PER_SECOND,
                duration,
                PACED_CONNECTIONS,
            )?);
            checkpoints = server.checkpoints()?.map(|now| now.wrapping_sub(begun));
            if checkpoints != Some(0) {
                break;
            }
        }
        latencies.sort_unstable();
        let ms = |at: usize| {
            latencies
                .get(at)
                .or(latencies.last())
                .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        let share = |per_mille: usize| ms(latencies.len() * per_mille / 1000);
        let over = latencies.iter().filter(|time| time.as_secs_f64() * 1e3 > STALL_MS);
        let mut values = vec![share(500), share(990), share(999), ms(usize::MAX), over.count() as f64];
        values.push(latencies.len() as f64);
        values.extend(checkpoints.map(f64::from));
        for (what, value) in PACED.into_iter().zip(values) {
            found.sample(format!("{name}: {what}"), value);
        }
        server.stop()?;
    }
    Ok(())
}

/// Connections that a server may find best.
const CONNECTIONS: [usize; 3] = [16, 64, 256];
/// The name under which a server's best is told.
pub(super) fn best(name: &str) -> String {
    format!("{name}, connections")
}

fn peers(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    let mut servers = vec![(Setup::Ingest, 0)];
    for peer in Peer::ALL {
        say(&format!("{}: installing what is missing", peer.name()));
        match peer.install().and_then(|()| peer.versions()) {
            Ok(versions) => {
                found.words.insert(peer.name().to_owned(), versions);
                servers.push((Setup::Peer(peer), 0));
            }
            Err(error) => found.skip(peer.name(), &error),
        }
    }
    servers.retain_mut(|(setup, connections)| match most(*setup, runtime) {
        Ok(count) => {
            found.sample(best(setup.name()), count as f64);
            *connections = count;
            true
        }
        Err(error) => {
            found.skip(setup.name(), &error);
            false
        }
    });
    for round in 1..=plan.peer_rounds {
        servers.retain(|(setup, connections)| {
            let name = setup.name();
            say(&format!(
                "round {round} of {}: {name}, {connections} connections",
                plan.peer_rounds
            ));
            match warm(
                *setup,
                *connections,
                (SECOND, Duration::from_secs(plan.seconds)),
                runtime,
            ) {
                Ok(sample) => found.load(name, sample),
                Err(error) => {
                    let [cpu, rate] = [cpu(name), rate(name)];
                    found.samples.retain(|of, _| *of != cpu && *of != rate);
                    found.skip(name, &error);
                    return false;
                }
            }
            true
        });
    }
    let measured = servers.iter().any(|(setup, _)| *setup == Setup::Ingest);
    anyhow::ensure!(measured, "without ingest there is nothing to hold the others against");
    Ok(())
}

/// With how many connections a server answers most.
fn most(setup: Setup, runtime: &Runtime) -> anyhow::Result<usize> {
    let mut most = (0.0, 0);
    for connections in CONNECTIONS {
        let sample = warm(setup, connections, (SECOND, SECOND), runtime)?;
        let per_second = sample.requests_per_second;
        say(&format!(
            "{}, {connections} connections: {per_second:.0} per second",
            setup.name()
        ));
        if per_second > most.0 {
            most = (per_second, connections);
        }
    }
    Ok(most.1)
}

/// What a host keeps in memory, and pages of it, is there for the first time only once.
const WARM_UP: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);

/// A stretch of load on a server that was under the same load before: it has compiled what it runs often, and has its memory.
fn warm(
    setup: Setup,
    connections: usize,
    (before, duration): (Duration, Duration),
    runtime: &Runtime,
) -> anyhow::Result<Sample> {
    let server = Server::start(setup)?;
    runtime.block_on(load::run(&server.door, connections, before))?;
    // Not worth the wait where only the rate is looked at.
    let works_afterwards = matches!(setup, Setup::Peer(peer) if peer.works_afterwards()) && duration > SECOND;
    if works_afterwards {
        server.wait_until_idle()?;
    }
    let before = server.cpu_time()?;
    let load = runtime.block_on(load::run(&server.door, connections, duration))?;
    if works_afterwards {
        server.wait_until_idle()?;
    }
    let sample = Sample::of(&load, server.cpu_time()? - before);
    server.stop()?;
    Ok(sample)
}

pub(super) const FEW: &str = "ingest over 10,000 receipts";
pub(super) const MANY: &str = "ingest over a full store";
pub(super) const RECEIPTS: &str = "receipts at first";
pub(super) const RESIDENT: &str = "resident MiB";
/// Twice as many as fill the keys that wait in memory, so that carrying them into their indexes is in each figure.
const WINDOW: u64 = 131_072;
const FILL: u64 = 100_000;

fn million(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    let fill = |receipts: u64| -> anyhow::Result<tempfile::TempDir> {
        let server = Server::start(Setup::Ingest)?;
        let mut stored = 0;
        while stored < receipts {
            let next = FILL.min(receipts - stored);
            stored += runtime.block_on(load::run_count(&server.door, 256, next))?.requests;
            say(&format!("{stored} of {receipts} receipts stored"));
        }
        server.leave()
    };
    let mut many = Some(fill(plan.receipts)?);
    found.sample(format!("{MANY}: {RECEIPTS}"), plan.receipts as f64);
    for round in 1..=plan.rounds.min(3) {
        for name in [FEW, MANY] {
            say(&format!("round {round}: {name}"));
            let full = name == MANY;
            let folder = if full {
                many.take().context("no full store")?
            } else {
                fill(10_000)?
            };
            let server = Server::start_in(Setup::Ingest, folder)?;
            let before = server.cpu_time()?;
            let load = runtime.block_on(load::run_count(&server.door, 256, WINDOW))?;
            found.load(name, Sample::of(&load, server.cpu_time()? - before));
            found.sample(
                format!("{name}: {RESIDENT}"),
                server.resident_bytes()? as f64 / f64::from(1 << 20),
            );
            if full {
                many = Some(server.leave()?);
            } else {
                server.stop()?;
            }
        }
    }
    Ok(())
}

/// Over a store whose events were run and delivered: the same load, in each round without questions and then beside them.
fn listed(plan: &Plan, runtime: &Runtime, found: &mut Found) -> anyhow::Result<()> {
    let books = Server::start(Setup::Bare(Mode::Answer))?;
    let server = Server::start(Setup::Listed { books: books.door.port })?;
    let mut stored = 0;
    while stored < plan.receipts {
        let next = FILL.min(plan.receipts - stored);
        stored += runtime.block_on(load::run_count(&server.door, 256, next))?.requests;
        server.wait_until_settled()?;
        say(&format!(
            "{stored} of {} receipts stored, settled and delivered",
            plan.receipts
        ));
    }
    found.sample(lists::RECEIPTS, stored as f64);
    // What the kernel has still to write of all that would be written in the first round.
    let synced = Command::new("sync").status().context("sync")?;
    anyhow::ensure!(synced.success(), "sync: {synced}");
    let intake = || load::paced(&server.door, PACED_PER_SECOND, LISTED_TURN, PACED_CONNECTIONS);
    let operator = server.operator.context("a host without a private listener")?;
    let mut orders = lists::ORDERS;
    for round in 1..=plan.listed_rounds {
        say(&format!(
            "round {round} of {}: {PACED_PER_SECOND} events per second, and nobody, ten people, somebody without end asks for lists",
            plan.listed_rounds
        ));
        let mut found_by = lists::Asking::ALL.map(|asking| (asking, Vec::new(), lists::Took::new()));
        for _ in 0..plan.listed_turns {
            // In each of their six orders: what the one before left to be done, on the disk above all, is nobody's more often than another's.
            orders.rotate_left(1);
            for place in orders[0] {
                let (asking, latencies, took) = &mut found_by[place];
                let asking = *asking;
                let is_over = AtomicBool::new(false);
                let (answered, pages) = std::thread::scope(|scope| {
                    let asks = (asking != lists::Asking::Nobody)
                        .then(|| scope.spawn(|| lists::ask(operator, asking, &is_over)));
                    let answered = intake();
                    is_over.store(true, Ordering::Relaxed);
                    let pages = asks.map(|asks| asks.join().map_err(|_| anyhow::anyhow!("who asks panicked")));
                    anyhow::Ok((answered?, pages.transpose()?.transpose()?.unwrap_or_default()))
                })?;
                latencies.extend(answered);
                for (list, times) in pages {
                    took.entry(list).or_default().extend(times);
                }
                server.wait_until_settled()?;
            }
        }
        for (asking, latencies, took) in found_by {
            found.sample(asking.p99(), lists::per_mille(latencies, 990));
            if asking == lists::Asking::WithoutEnd {
                let asked: usize = took.values().map(Vec::len).sum();
                let seconds = LISTED_TURN.as_secs_f64() * plan.listed_turns as f64;
                found.sample(lists::ASKED_PER_SECOND, asked as f64 / seconds);
                for (list, times) in took {
                    found.sample(lists::p95(list), lists::per_mille(times, 950));
                }
            }
        }
    }
    say("and how long a browser takes to open each page of the console");
    match lists::open(operator)? {
        Some(pages) => {
            for (page, took) in pages {
                found.sample(lists::opened(page), lists::per_mille(took, 950));
            }
        }
        None => found.skip(
            "pages of the console",
            &anyhow::anyhow!("there is no Chromium with playwright-core here"),
        ),
    }
    server.stop()?;
    books.stop()
}
