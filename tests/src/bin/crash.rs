//! `crash --cycles N --seed S`: the kill -9 campaign by itself, for as many cycles as there is time for.
//!
//! A line per cycle goes to stderr, the summary to stdout. Exit status: 0 all promises kept, 1 some not, 2 bad usage.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use tollgate_tests::crash::{Cycle, Options, Report, run};

const USAGE: &str = "Usage: crash [--cycles N] [--seed S] [--connections C]

Starts the host, kills it under load (kill -9), starts it again on the same store, N times (100), and then looks for
everything that it acknowledged. A seed makes a campaign repeatable; without one it is drawn from the clock and printed.";

/// Problems of each end of the list that are shown.
const PROBLEMS_SHOWN: usize = 25;

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print(&format!("{USAGE}\n"));
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            say(&format!("crash: {message}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    say(&format!(
        "{} cycles, seed {}, {} connections",
        options.cycles, options.seed, options.connections
    ));
    let report = run(options, |cycle| say(&line(cycle, options.cycles)));
    print(&table(&report));
    if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut options = Options::new(100, clock.as_secs());
    let mut arguments = arguments;
    while let Some(flag) = arguments.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(None);
        }
        let mut number = || -> Result<u64, String> {
            let text = arguments.next().ok_or_else(|| format!("{flag} needs a number"))?;
            text.parse().map_err(|_| format!("{flag}: `{text}` is no number"))
        };
        match flag.as_str() {
            "--cycles" => options.cycles = u32::try_from(number()?).map_err(|_| "--cycles: too many".to_owned())?,
            "--seed" => options.seed = number()?,
            "--connections" => {
                options.connections = u32::try_from(number()?).map_err(|_| "--connections: too many".to_owned())?;
            }
            _ => return Err(format!("there is no option `{flag}`")),
        }
    }
    if options.cycles == 0 || options.connections == 0 {
        return Err("at least one cycle and one connection".to_owned());
    }
    Ok(Some(options))
}

fn line(cycle: &Cycle, cycles: u32) -> String {
    format!(
        "{:>5}/{cycles}  up in {:>4} ms, killed {:>3} ms after the first ack: {:>4} new, {:>3} recognised, {:>2} unanswered",
        cycle.number,
        cycle.restart.as_millis(),
        cycle.killed_after.as_millis(),
        cycle.acknowledged,
        cycle.recognised,
        cycle.unanswered,
    )
}

fn table(report: &Report) -> String {
    let recognised: usize = report.cycles.iter().map(|cycle| cycle.recognised).sum();
    let unanswered: usize = report.cycles.iter().map(|cycle| cycle.unanswered).sum();
    let restart = |share| report.restart_percentile(share).as_millis();
    let mut text = format!(
        "\nkill -9 under load, seed {}\n\
         {:<44}{:>10}\n{:<44}{:>10}\n{:<44}{:>10}\n{:<44}{:>10}\n{:<44}{:>10}\n{:<44}{:>10}\n{:<44}{:>10}\n{:<44}{:>10}\n{:<44}{:>10}\n",
        report.seed,
        "cycles",
        report.cycles.len(),
        "events acknowledged",
        report.acknowledged,
        "receipts found",
        report.receipts,
        "posts cut off, sent again",
        unanswered,
        "redeliveries recognised",
        recognised,
        "runs of plugins",
        report.runs,
        "operations recorded, each once",
        report.operations,
        "operations that arrived at the destination",
        report.deliverable,
        "deliveries beyond the first of an operation",
        report.repeated_deliveries,
    );
    text.push_str(&format!(
        "{:<44}{:>10}\n",
        "restart in ms: median / 95 % / longest",
        format!("{} / {} / {}", restart(0.5), restart(0.95), restart(1.0)),
    ));
    text.push_str(&format!(
        "{:<44}{:>10}\n",
        "work left after the last kill, in ms",
        report.drain.as_millis()
    ));
    if report.problems.is_empty() {
        text.push_str("\nevery promise was kept\n");
    } else {
        text.push_str(&format!("\n{} promises were not kept:\n", report.problems.len()));
        // Those of the cycles come first, those of the last look at everything come last: some of each.
        let later = report.problems.len().saturating_sub(PROBLEMS_SHOWN).max(PROBLEMS_SHOWN);
        let shown = report.problems.iter().take(PROBLEMS_SHOWN);
        for problem in shown.chain(report.problems.iter().skip(later)) {
            text.push_str(&format!("  {problem}\n"));
        }
    }
    text
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The result; a reader that has gone away is no reason to fail.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
