//! The fuzzing campaign: what strangers, authors and broken disks can put before the host, made up by the million.
//!
//! In full, the targets of [`crate::fuzz`] are built with coverage and led by libFuzzer, each for as many seconds as were asked for
//! ([`CAMPAIGN`]). In the test suite the same targets get their seeds, and inputs made of them at random, without coverage
//! ([`changed_seeds`]): that compiles nothing twice, and finds less.
//!
//! The operator's configuration is read by the server's own code, which only its binary has: it is given to `tollgate check`, process by
//! process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Asked, Campaign, Found, Progress};
use crate::fuzz::{TARGETS, Target};
use crate::random::Random;
use crate::root;
use crate::stage::tollgate;

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "fuzz",
    summary: "coverage-guided fuzzing of headers, envelopes, profiles, configuration, plugin output, damaged stores",
    unit: "seconds for each target",
    short: 60,
    full: 300,
    run: led,
};

/// What instruments the code of these crates. All of it is stable; sanitizers of memory, which are not, have nothing to find in
/// code without `unsafe`.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Of the operator's configuration in the test suite.
const CHECKS: u64 = 120;

/// Builds the targets with coverage and runs one after the other.
fn led(asked: Asked, progress: &mut Progress) -> Found {
    let mut found = Found::default();
    progress.line("building the targets with coverage (some minutes the first time)");
    let begun = Instant::now();
    let binary = match build() {
        Ok(binary) => binary,
        Err(error) => {
            found.problems.push(error);
            return found;
        }
    };
    found.fact("seconds to build", begun.elapsed().as_secs());
    for target in TARGETS {
        match led_one(target, &binary, asked, progress) {
            Ok(run) => {
                found.fact(
                    &format!("{}: inputs, edges reached", target.name),
                    format!("{}, {}", run.inputs, run.edges),
                );
                found.problems.extend(run.crash);
            }
            Err(error) => found.problems.push(format!("{}: {error}", target.name)),
        }
    }
    let until = Instant::now() + Duration::from_secs(asked.count);
    let inputs = checks(asked.seed, |_| Instant::now() < until, &mut found.problems);
    found.fact("operator's configuration: processes", inputs);
    found
}

fn build() -> Result<PathBuf, String> {
    let triple = host_triple()?;
    let target_dir = root().join("target/fuzz");
    let built = Command::new("nice")
        .args([
            "-n",
            "10",
            "cargo",
            "build",
            "--release",
            "--locked",
            "--target",
            &triple,
        ])
        .arg("--manifest-path")
        .arg(root().join("tests/fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("RUSTFLAGS", COVERAGE)
        .output()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !built.status.success() {
        return Err(format!(
            "the targets cannot be built: {}",
            String::from_utf8_lossy(&built.stderr)
        ));
    }
    Ok(target_dir.join(triple).join("release/tollgate-fuzz"))
}

fn host_triple() -> Result<String, String> {
    let said = Command::new("rustc")
        .arg("-vV")
        .output()
        .map_err(|error| format!("rustc does not start: {error}"))?;
    String::from_utf8_lossy(&said.stdout)
        .lines()
        .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
        .ok_or_else(|| "rustc does not say what it builds for".to_owned())
}

/// What libFuzzer said at the end.
#[derive(Debug, Default)]
struct Led {
    inputs: u64,
    edges: u64,
    crash: Option<String>,
}

fn led_one(target: &Target, binary: &Path, asked: Asked, progress: &mut Progress) -> Result<Led, String> {
    let corpus = root().join("target/fuzz/corpus").join(target.name);
    let crashes = crashes()?;
    fs::create_dir_all(&corpus).map_err(|error| error.to_string())?;
    for (at, seed) in (target.seeds)().iter().enumerate() {
        fs::write(corpus.join(format!("seed-{at:04}")), seed).map_err(|error| error.to_string())?;
    }
    let mut fuzzer = Command::new("nice")
        .args(["-n", "10"])
        .arg(binary)
        .arg(&corpus)
        .arg(format!("-max_total_time={}", asked.count))
        .arg(format!("-seed={}", (asked.seed % u64::from(u32::MAX)).max(1)))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-artifact_prefix={}/{}-", crashes.display(), target.name))
        .args([
            "-timeout=25",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-len_control=0",
        ])
        .env("TOLLGATE_FUZZ_TARGET", target.name)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    let mut led = Led::default();
    let (mut last_words, mut artifact) = (Vec::new(), None);
    let mut shown = Instant::now();
    if let Some(said) = fuzzer.stderr.take() {
        for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let number_after =
                |words: &str| -> Option<u64> { line.split_once(words)?.1.split_whitespace().next()?.parse().ok() };
            if let Some(edges) = number_after(" cov: ") {
                led.edges = edges;
                if shown.elapsed() > Duration::from_secs(1) {
                    shown = Instant::now();
                    progress.line(&format!("{}: {line}", target.name));
                }
            } else if let Some(inputs) = number_after("number_of_executed_units:") {
                led.inputs = inputs;
            } else if let Some((_, path)) = line.split_once("Test unit written to ") {
                artifact = Some(path.to_owned());
            } else if line.contains("panicked at") || line.contains("ERROR: libFuzzer") || !last_words.is_empty() {
                last_words.push(line);
                last_words.truncate(6);
            }
        }
    }
    let status = fuzzer.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        led.crash = Some(format!(
            "{}: {}\nrepeat it: cargo run -p tollgate-tests --bin fuzz -- {} {}",
            target.name,
            last_words.join("\n"),
            target.name,
            artifact.unwrap_or_default()
        ));
    }
    Ok(led)
}

/// Where inputs are kept that broke something.
fn crashes() -> Result<PathBuf, String> {
    let folder = root().join("target/fuzz/crashes");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// The form of the test suite: each target gets its seeds, and what is made of them at random.
pub fn changed_seeds(seed: u64) -> Found {
    let mut found = Found::default();
    let mut random = Random(seed);
    for target in TARGETS {
        let seeds = (target.seeds)();
        let made = target.short + seeds.len() as u64;
        let mut random = random.fork();
        let watch = Watch::begin();
        let begun = Instant::now();
        for number in 0..made {
            let input = match seeds.get(number as usize) {
                Some(seed) => seed.clone(),
                None => changed(&seeds, &mut random),
            };
            if let Some(problem) = watch.run(target, &input) {
                found.problems.push(problem);
                break;
            }
        }
        let inputs = format!("{made} in {} ms", begun.elapsed().as_millis());
        found.fact(&format!("{}: inputs", target.name), inputs);
    }
    let begun = Instant::now();
    let inputs = checks(seed, |number| number < CHECKS, &mut found.problems);
    let inputs = format!("{inputs} in {} ms", begun.elapsed().as_millis());
    found.fact("operator's configuration: processes", inputs);
    found
}

/// Notes the panics of all threads while it lives: a store's writer has one of its own.
struct Watch {
    panics: Arc<Mutex<Vec<String>>>,
}

impl Watch {
    fn begin() -> Self {
        let panics: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&panics);
        set_hook(Box::new(move |panic| {
            noted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(panic.to_string());
        }));
        Self { panics }
    }

    fn run(&self, target: &Target, input: &[u8]) -> Option<String> {
        let _ = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        let panics = std::mem::take(&mut *self.panics.lock().unwrap_or_else(PoisonError::into_inner));
        if panics.is_empty() {
            return None;
        }
        let name = format!(
            "{}-{}",
            target.name,
            &tollgate_core::ids::Digest::of(input).to_string()[7..23]
        );
        let kept = crashes().map(|folder| folder.join(name)).and_then(|path| {
            fs::write(&path, input).map_err(|error| error.to_string())?;
            Ok(path.display().to_string())
        });
        Some(format!(
            "{}: {}\nrepeat it: cargo run -p tollgate-tests --bin fuzz -- {} {}",
            target.name,
            panics.join("\n"),
            target.name,
            kept.unwrap_or_else(|error| error)
        ))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A thread that panics may not touch the hook.
        if !std::thread::panicking() {
            drop(take_hook());
        }
    }
}

/// An input made of others.
fn changed(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    const ODD: &[u8] = b"{}[]\":,=\n\r\t .;%&+-_/\\'0123456789eE\0\x7f\x80\xc3\xff";
    let pick = |random: &mut Random, of: usize| random.below(of as u64) as usize;
    let mut input = seeds[pick(random, seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = pick(random, input.len() + 1);
        let most = [4, 16, 64, 400][pick(random, 4)];
        let length = 1 + pick(random, most);
        let end = (at + length).min(input.len());
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.number() as u8,
            2 if at < input.len() => input[at] = ODD[pick(random, ODD.len())],
            3 => input.insert(at, ODD[pick(random, ODD.len())]),
            4 => drop(input.drain(at..end)),
            5 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            6 | 7 => {
                // A piece of another, in place of what stands here or between.
                let other = &seeds[pick(random, seeds.len())];
                let from = pick(random, other.len() + 1);
                let piece = other[from..(from + length).min(other.len())].to_vec();
                let end = if random.below(2) == 0 { at } else { end };
                input.splice(at..end, piece);
            }
            _ => input.truncate(at),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// Gives changed configurations to `tollgate check`, which may refuse each, and must say why. Answers how many.
fn checks(seed: u64, mut goes_on: impl FnMut(u64) -> bool, problems: &mut Vec<String>) -> u64 {
    let mut random = Random(seed ^ 0xc0ff_ee00);
    let Ok(folder) = tempfile::tempdir() else {
        problems.push("there is no folder for temporary files".to_owned());
        return 0;
    };
    let mut files: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, places) in [
        (
            "tollgate.toml",
            ["host/server/examples/tollgate.toml", "host/cli/src/demo/tollgate.toml"],
        ),
        (
            "acme.toml",
            ["host/server/examples/tenants/acme.toml", "host/cli/src/demo/acme.toml"],
        ),
    ] {
        let texts = places
            .iter()
            .filter_map(|place| fs::read(root().join(place)).ok())
            .collect::<Vec<_>>();
        assert_eq!(
            texts.len(),
            places.len(),
            "{name}: the examples are not where they were"
        );
        files.insert(name, texts);
    }
    let config = folder.path().join("tollgate.toml");
    let tenants = folder.path().join("tenants");
    let _ = fs::create_dir(&tenants);
    let mut number = 0;
    while goes_on(number) {
        number += 1;
        for (name, path) in [
            ("tollgate.toml", config.clone()),
            ("acme.toml", tenants.join("acme.toml")),
        ] {
            let text = match number {
                1 => files[name][0].clone(),
                _ => changed(&files[name], &mut random),
            };
            let _ = fs::write(path, text);
        }
        let json = ["--json"];
        let json = if number % 2 == 0 { &json[..] } else { &[] };
        let ran = tollgate(
            &[&["check", "--config", config.to_str().unwrap_or_default()], json].concat(),
            b"",
        );
        let said = ran.stdout.len() + ran.stderr.len();
        if !matches!(ran.code, 0 | 1) || said == 0 || ran.stderr.contains("panicked") {
            let kept = crashes().unwrap_or_default().join(format!("check-{seed}-{number}"));
            let _ = fs::create_dir_all(&kept);
            let _ = fs::copy(&config, kept.join("tollgate.toml"));
            let _ = fs::copy(tenants.join("acme.toml"), kept.join("acme.toml"));
            problems.push(format!(
                "tollgate check ended with {}: {}\nits files are kept in {}",
                ran.code,
                ran.stderr,
                kept.display()
            ));
            break;
        }
    }
    number
}
