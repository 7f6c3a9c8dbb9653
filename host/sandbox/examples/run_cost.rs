//! What a run costs: processor time per run, all threads of the process counted, with every limit on.
//!
//! `cargo run --release -p tollgate-sandbox --example run_cost -- PLUGIN.wasm [RUNS]`
//!
//! The plugin is best `cashback`; the event is a Voucherify `customer.reward_redemptions.pending` of about 2.5 KB. Each setting of
//! the pool is measured several times in turns, and the smallest figure counts: what is above it is the machine's other work.
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::ids::{EventId, EventType, FamilyName, SourceName, Status, Subject, TenantName};
use tollgate_core::money::{Currency, Money};
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;
use tollgate_sandbox::{Plugin, PoolTuning, RunInput, RunLimits, Sandbox, SandboxOptions, StateSource};

const BODY: &str = include_str!("../../../tests/samples/voucherify-customer.reward_redemptions.pending.json");
const CONFIG: &str = r#"{"rate_bps":500,"cap_minor_units":2000,"currency":"USD","statuses":["pending"],
    "limit":{"amount_minor_units":10000,"window_days":30}}"#;
const ROUNDS: u32 = 5;

/// A customer that was never seen.
struct Empty;
impl StateSource for Empty {
    fn read(&self, _: &str) -> Result<StateValue, String> {
        Ok(StateValue {
            version: 0,
            value: None,
        })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(path), runs) = (
        arguments.first(),
        arguments.get(1).map_or(Ok(5000), |text| text.parse::<u32>()),
    ) else {
        println!("which plugin? run_cost PLUGIN.wasm [RUNS]");
        return ExitCode::from(2);
    };
    match runs
        .map_err(|error| error.to_string())
        .and_then(|runs| measure(Path::new(path), runs))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn measure(path: &Path, runs: u32) -> Result<(), String> {
    let component = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let event = event()?;
    println!(
        "{}: {} bytes; event: {} bytes; {runs} runs × {ROUNDS} rounds",
        path.display(),
        component.len(),
        event.payload.len()
    );
    let best = PoolTuning::best();
    let tunings = [0, 64, 128, 256, 1024]
        .into_iter()
        .flat_map(|kib| {
            [false, true].map(|pagemap_scan| PoolTuning {
                keep_resident_bytes: kib * 1024,
                pagemap_scan,
            })
        })
        .filter(|tuning| {
            tuning.pagemap_scan <= best.pagemap_scan && !(tuning.pagemap_scan && tuning.keep_resident_bytes == 0)
        });
    let mut measured = Vec::new();
    for tuning in tunings {
        let options = SandboxOptions {
            instances_max: 8,
            ..SandboxOptions::default()
        };
        let sandbox = Sandbox::with_pool_tuning(options, tuning).map_err(|error| error.to_string())?;
        let plugin = sandbox.load(&component).map_err(|refusal| refusal.to_string())?;
        measured.push((tuning, plugin, [Duration::MAX; 3]));
    }
    for _ in 0..ROUNDS {
        for (_, plugin, [start, call, wall]) in &mut measured {
            let (cpu, _) = per_run(runs, || drop(plugin.trial()));
            *start = cpu.min(*start);
            let (cpu, time) = per_run(runs, || drop(run(plugin, &event)));
            (*call, *wall) = (cpu.min(*call), time.min(*wall));
        }
    }
    println!("kept KiB  pagemap  instance µs cpu  run µs cpu  run µs wall");
    for (tuning, _, [start, call, wall]) in &measured {
        let chosen = if *tuning == best { "  ← used" } else { "" };
        let us = |time: &Duration| time.as_nanos() as f64 / 1000.0;
        println!(
            "{:>8}  {:>7}  {:>15.1}  {:>10.1}  {:>11.1}{chosen}",
            tuning.keep_resident_bytes / 1024,
            if tuning.pagemap_scan { "yes" } else { "no" },
            us(start),
            us(call),
            us(wall)
        );
    }
    if let Some((_, plugin, _)) = measured.last() {
        let run = run(plugin, &event);
        println!("outcome: {} {}", run.outcome.name(), run.outcome.message());
        println!(
            "fuel: {}; memory: {} KiB; reads: {}; writes: {}",
            run.fuel,
            run.memory_bytes / 1024,
            run.reads.len(),
            run.writes.len()
        );
    }
    Ok(())
}

fn run(plugin: &Plugin, event: &Event) -> tollgate_sandbox::Run {
    plugin.run(
        &RunInput {
            event,
            config_json: CONFIG,
        },
        &Empty,
        &RunLimits::default(),
    )
}

/// Processor time and wall-clock time of one of `runs`.
fn per_run(runs: u32, mut work: impl FnMut()) -> (Duration, Duration) {
    for _ in 0..runs / 10 {
        work();
    }
    let (cpu, start) = (cpu_time(), Instant::now());
    for _ in 0..runs {
        work();
    }
    ((cpu_time() - cpu) / runs, start.elapsed() / runs)
}

/// Processor time of all threads that this process has now. Linux keeps it, to the nanosecond.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    Duration::from_nanos(
        nanoseconds
            .filter_map(|line| line.split(' ').next()?.parse::<u64>().ok())
            .sum(),
    )
}

fn event() -> Result<Event, String> {
    let text = |error: tollgate_core::ids::IdError| error.to_string();
    Ok(Event {
        tenant: TenantName::new("acme").map_err(text)?,
        source: SourceName::new("voucherify").map_err(text)?,
        id: EventId::new("wdet_55b7b26e8cdd2f2d1b").map_err(text)?,
        event_type: EventType::new("customer.reward_redemptions.pending").map_err(text)?,
        subject: Some(Subject::new("r_0ebe386a24c311bff7").map_err(text)?),
        reading: StatusReading::Mapped {
            family: FamilyName::new("reward-redemption").map_err(text)?,
            status: Status::new("pending").map_err(text)?,
        },
        occurred_at: Some(UnixMillis(1_715_603_650_464)),
        received_at: UnixMillis(1_715_603_651_000),
        amount: Currency::new("USD").and_then(|currency| Money::new(25_000, currency)),
        attributes: vec![("customer".to_owned(), "cust_2myfc5acSBgoMV72R5tyTBc8".to_owned())],
        payload: Bytes::from(without_space(BODY)),
    })
}

/// JSON without the space between its tokens, as providers send it.
fn without_space(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    json.chars()
        .filter(|&c| {
            if c == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = quoted && c == '\\' && !escaped;
            quoted || !c.is_whitespace()
        })
        .collect()
}
