//! Compilation, which is the most that an upload can make the host do: in this process, or in a child with limits of its own.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getpriority_process, getrlimit, setpriority_process, setrlimit};
use tollgate_core::mask;
use wasmtime::Engine;

use crate::engine;
use crate::refusal::Refusal;

/// The most bytes of compiled code that one component may have.
pub(crate) const ARTIFACT_BYTES_MAX: usize = 512 * 1024 * 1024;
/// What is kept of a compiler's complaint.
const DETAIL_BYTES_MAX: usize = 512;
/// How much longer than its processor time a child may take by the clock: it gives way to every other process, so that on a busy
/// machine an honest component takes long. What this bounds is a child that waits for something that does not come.
const CLOCK_PER_PROCESSOR_TIME: u64 = 10;
/// How often the parent looks whether the child is done.
const WAIT_STEP: Duration = Duration::from_millis(2);

/// The child's exit status when the component does not compile; its standard error says why.
const EXIT_REFUSED: u8 = 3;
/// The child's exit status when it could not even begin.
const EXIT_UNABLE: u8 = 4;

const MEMORY_VARIABLE: &str = "TOLLGATE_COMPILE_MEMORY_BYTES_MAX";
const TIME_VARIABLE: &str = "TOLLGATE_COMPILE_MS_MAX";
/// How many threads compile functions side by side; read by the library that starts them.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";
/// Steps of niceness below the parent's: the child gets the processor time that the rest of the host leaves.
const NICENESS: i32 = 15;
const NICENESS_MOST: i32 = 19;

/// Who compiles.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// This process. For tests and tools: a hostile component can make the compiler take gigabytes and minutes.
    InProcess,
    /// A child process that gets a component on standard input and writes compiled code to standard output, as
    /// [`compile_child_main`] does.
    Child {
        /// What is started.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
        /// The child's address space, and so all memory that it can take. A Rust plugin of 0.2 MB compiles in 256 MiB; with
        /// less it is slow before it fails.
        memory_bytes_max: u64,
        /// Processor time over all its threads, which the kernel counts in whole seconds; by the clock ten times as much.
        ms_max: u64,
        /// Threads that compile, and so the processors that it can take; at least 1. They give way to every other thread of the host.
        threads: usize,
    },
}

/// Compiles a component for engines of [`engine::compatibility`].
pub(crate) fn compile(compiler: &Compiler, engine: &Engine, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    match compiler {
        Compiler::InProcess => engine
            .precompile_component(bytes)
            .map_err(|error| Refusal::CompileFailed { detail: detail(&error) }),
        Compiler::Child {
            program,
            args,
            memory_bytes_max,
            ms_max,
            threads,
        } => {
            let bounds = Bounds {
                memory_bytes_max: *memory_bytes_max,
                ms_max: *ms_max,
                threads: (*threads).max(1),
            };
            in_child(program, args, bounds, bytes)
        }
    }
}

fn detail(error: &wasmtime::Error) -> String {
    mask::line(&format!("{error:#}"), DETAIL_BYTES_MAX)
}

/// What a child may use.
#[derive(Clone, Copy)]
struct Bounds {
    memory_bytes_max: u64,
    ms_max: u64,
    threads: usize,
}

fn in_child(program: &Path, args: &[OsString], bounds: Bounds, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let Bounds {
        memory_bytes_max,
        ms_max,
        threads,
    } = bounds;
    let host = |error: io::Error| Refusal::Host {
        detail: format!("the compiler {}: {error}", program.display()),
    };
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env(MEMORY_VARIABLE, memory_bytes_max.to_string())
        .env(TIME_VARIABLE, ms_max.to_string())
        .env(THREADS_VARIABLE, threads.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(host)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Refusal::Host {
            detail: "the compiler has no pipes".to_owned(),
        });
    };
    thread::scope(|scope| {
        // A child that dies early breaks this pipe; its status says more than the error does.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        let code = scope.spawn(move || read_at_most(stdout, ARTIFACT_BYTES_MAX));
        let words = scope.spawn(move || read_at_most(stderr, 64 * 1024));
        let clock_ms_max = ms_max.saturating_mul(CLOCK_PER_PROCESSOR_TIME);
        let status = wait(&mut child, Duration::from_millis(clock_ms_max)).map_err(host)?;
        let code = code.join().map_err(|_| Refusal::Host {
            detail: "a reader panicked".to_owned(),
        })?;
        let words = words.join().map_err(|_| Refusal::Host {
            detail: "a reader panicked".to_owned(),
        })?;
        judge(status, code, &words.unwrap_or_default(), ms_max)
    })
}

/// `None` when there is more than `bytes_max`; then the pipe is closed and the writer fails.
fn read_at_most(from: impl Read, bytes_max: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // A pipe that breaks ends what there is to read.
    let _ = from.take(bytes_max as u64 + 1).read_to_end(&mut bytes);
    (bytes.len() <= bytes_max).then_some(bytes)
}

/// `None` when the child had to be killed for its time.
fn wait(child: &mut Child, time_max: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= time_max {
            // It may have ended by itself in this moment; either way it is gone afterwards.
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(WAIT_STEP);
    }
}

fn judge(status: Option<ExitStatus>, code: Option<Vec<u8>>, words: &[u8], ms_max: u64) -> Result<Vec<u8>, Refusal> {
    let over = |detail: String| Err(Refusal::CompileLimits { detail });
    let words = String::from_utf8_lossy(words);
    // Of a panic's or the allocator's several lines, the first says it.
    let words = mask::line(
        words.trim().lines().next().unwrap_or("it said nothing"),
        DETAIL_BYTES_MAX,
    );
    let Some(status) = status else {
        let clock_ms_max = ms_max.saturating_mul(CLOCK_PER_PROCESSOR_TIME);
        return over(format!("not done after {clock_ms_max} ms"));
    };
    if status.signal() == Some(Signal::XCPU.as_raw()) {
        let seconds_max = processor_seconds(ms_max);
        return over(format!("not done after {seconds_max} s of processor time"));
    }
    match (status.code(), code) {
        (Some(0), Some(code)) if !code.is_empty() => Ok(code),
        (_, None) => over(format!("more than {ARTIFACT_BYTES_MAX} bytes of compiled code")),
        (Some(code), _) if code == i32::from(EXIT_REFUSED) => Err(Refusal::CompileFailed { detail: words }),
        (Some(code), _) if code == i32::from(EXIT_UNABLE) => Err(Refusal::Host { detail: words }),
        // Out of memory ends in an abort or a panic.
        (_, Some(_)) => over(format!("the compiler ended with {status}: {words}")),
    }
}

/// The kernel's bound on processor time is in seconds, and none is no bound.
fn processor_seconds(ms_max: u64) -> u64 {
    ms_max.div_ceil(1000).max(1)
}

/// The child's main function: limits itself, reads a component from standard input, writes compiled code to standard output.
///
/// The limits come in the environment, from the parent. Nothing else of the environment is there or is read.
pub fn compile_child_main() -> ExitCode {
    let failed = |status: u8, words: &str| {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(io::stderr(), "{words}");
        ExitCode::from(status)
    };
    if let Err(words) = limit_self() {
        return failed(EXIT_UNABLE, &words);
    }
    let mut bytes = Vec::new();
    if let Err(error) = io::stdin().lock().read_to_end(&mut bytes) {
        return failed(EXIT_UNABLE, &format!("the component could not be read: {error}"));
    }
    let engine = match engine::compiling_engine() {
        Ok(engine) => engine,
        Err(error) => return failed(EXIT_UNABLE, &detail(&error)),
    };
    match engine.precompile_component(&bytes) {
        Err(error) => failed(EXIT_REFUSED, &detail(&error)),
        Ok(code) => match io::stdout().lock().write_all(&code) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(EXIT_UNABLE, &format!("the compiled code could not be written: {error}")),
        },
    }
}

/// Lets others go first, and has the kernel end this process before any other when memory runs out. Where the system knows neither, the
/// limits stand alone.
fn give_way() {
    let niceness = getpriority_process(None).unwrap_or(0);
    let _ = setpriority_process(None, (niceness + NICENESS).min(NICENESS_MOST));
    if cfg!(target_os = "linux") {
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    }
}

fn limit_self() -> Result<(), String> {
    let number = |name: &str| {
        let text =
            std::env::var(name).map_err(|_| format!("{name} is not set; this command is for tollgate's own use"))?;
        text.parse::<u64>().map_err(|_| format!("{name} is not a number"))
    };
    let memory_bytes_max = number(MEMORY_VARIABLE)?;
    let seconds_max = processor_seconds(number(TIME_VARIABLE)?);
    give_way();
    for (resource, bound, hard) in [
        (Resource::As, memory_bytes_max, memory_bytes_max),
        // The signal of the first says what it was, and the second ends who does not listen.
        (Resource::Cpu, seconds_max, seconds_max.saturating_add(1)),
        // A crash must not leave a tenant's component in a core file, and there is nothing to write but the pipe.
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
    ] {
        // What is already lower stays: raising it needs a right that the service should not have.
        let own = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(
            resource,
            Rlimit {
                current: Some(bound.min(own)),
                maximum: Some(hard.min(own)),
            },
        )
        .map_err(|error| format!("the limit {resource:?} cannot be set: {error}"))?;
    }
    Ok(())
}
