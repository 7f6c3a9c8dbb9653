//! The differential campaign: the fast layout of the store against the plain one, the same random work on both.
//!
//! The work is the store's own test, `host/store/tests/contract/differential.rs`, which needs the store's file as only that crate
//! knows it; here it is run with as much work as is asked for. Its short form is that test as the suite runs it.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::thread;

use super::{Asked, Campaign, Found, Progress};
use crate::root;

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "differential",
    summary: "the fast layout of the store against the plain one: random work on both, every answer compared",
    unit: "operations",
    short: 1_500,
    full: 100_000,
    run,
};

const TEST: &str = "differential::the_log_answers_like_rows";
/// Lines of the test's words that are shown when it fails, and how much of each: it shows what both stores answered.
const LINES_SHOWN: usize = 12;
const LINE_CHARS_SHOWN: usize = 1_500;

fn run(asked: Asked, progress: &mut Progress) -> Found {
    let mut found = Found::default();
    match run_test(asked, progress) {
        Ok(ran) => {
            let has_run = !ran.facts.is_empty();
            found.facts = ran.facts;
            if !(ran.passed && has_run) {
                let what = if ran.passed { "was not run" } else { "failed" };
                let (seed, words) = (asked.seed, ran.words);
                found.problems.push(format!("seed {seed}: {TEST} {what}\n{words}"));
            }
        }
        Err(error) => found.problems.push(format!("cargo cannot be run: {error}")),
    }
    found
}

/// How the test went.
struct Ran {
    passed: bool,
    /// None where nothing of that name was run.
    facts: Vec<(String, String)>,
    /// The last of them.
    words: String,
}

fn run_test(asked: Asked, progress: &mut Progress) -> io::Result<Ran> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.args(["test", "--locked", "--package", "tollgate-store", "--test", "contract"]);
    // As this was built itself.
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let mut child = cargo
        .args(["--", "--exact", TEST, "--nocapture"])
        .env("TOLLGATE_OPERATIONS", asked.count.to_string())
        .env("TOLLGATE_SEED", asked.seed.to_string())
        .env("RUST_BACKTRACE", "0")
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let told = thread::spawn(move || {
        let mut told = String::new();
        stdout.map_or(Ok(0), |mut stdout| stdout.read_to_string(&mut told))?;
        io::Result::Ok(told)
    });
    let mut words: Vec<String> = Vec::new();
    for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
        let line: String = line?.chars().take(LINE_CHARS_SHOWN).collect();
        progress.line(&line);
        words.push(line);
    }
    let told = told
        .join()
        .map_err(|_| io::Error::other("its words cannot be read"))??;
    let facts = told
        .lines()
        .filter_map(|line| line.strip_prefix("fact: ")?.rsplit_once(": "))
        .map(|(what, count)| (what.to_owned(), count.to_owned()))
        .collect();
    let from = words.len().saturating_sub(LINES_SHOWN);
    Ok(Ran {
        passed: child.wait()?.success(),
        facts,
        words: words[from..].join("\n"),
    })
}
