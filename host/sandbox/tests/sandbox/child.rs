//! Compilation in a child process with limits of its own.

use std::ffi::OsString;

use tollgate_sandbox::{Compiler, Refusal, Sandbox, SandboxOptions};

use crate::guest::{GOOD, component, component_with, limits, run};

const MEMORY: u64 = 4 * 1024 * 1024 * 1024;

fn sandbox(program: &str, args: &[&str], memory_bytes_max: u64, ms_max: u64) -> Sandbox {
    let args = args.iter().map(OsString::from).collect();
    let compiler = Compiler::Child {
        program: program.into(),
        args,
        memory_bytes_max,
        ms_max,
        threads: 1,
    };
    Sandbox::new(SandboxOptions {
        instances_max: 1,
        compiler,
        ..SandboxOptions::default()
    })
    .unwrap()
}

const CHILD: &str = env!("CARGO_BIN_EXE_compile-plugin");

fn refusal(sandbox: &Sandbox, component: &[u8]) -> Refusal {
    sandbox.load(component).expect_err("this must not load")
}

/// A component that Cranelift works on for a while: one long function.
fn long() -> Vec<u8> {
    of_steps(60_000)
}

/// One that takes it more than a second.
fn very_long() -> Vec<u8> {
    of_steps(120_000)
}

fn of_steps(count: usize) -> Vec<u8> {
    let step = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.load (local.get 0))) (i32.const 3)))";
    component_with(&format!("(func $long (param i32) {})", step.repeat(count)), GOOD)
}

#[test]
fn a_child_compiles_what_the_parent_runs() {
    let sandbox = sandbox(CHILD, &[], MEMORY, 60_000);
    let plugin = sandbox.load(&component(GOOD)).unwrap();
    assert_eq!(run(&plugin, &limits()).outcome.name(), "completed");
    let bad = component_with("(func $f (result i32) (return_call $f))", GOOD);
    let refusal = refusal(&sandbox, &bad);
    assert_eq!(refusal.code(), "compile-failed", "{refusal}");
    assert!(refusal.to_string().contains("tail call"), "{refusal}");
}

/// How the one child of this process fares: (niceness, threads, how soon the kernel ends it when memory runs out).
fn child() -> Option<(i64, i64, String)> {
    let own = std::process::id().to_string();
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name, which may have anything in it: state, parent, …
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let adjusted = std::fs::read_to_string(entry.path().join("oom_score_adj")).ok()?;
        (fields[1] == own).then(|| {
            let number = |at: usize| fields[at].parse().unwrap_or(-1);
            (number(16), number(17), adjusted.trim().to_owned())
        })
    })
}

#[test]
#[cfg(target_os = "linux")]
fn a_child_has_its_share_of_processors_and_gives_way_to_all_others() {
    let loading = std::thread::spawn(|| sandbox(CHILD, &[], MEMORY, 60_000).load(&long()).is_ok());
    let mut seen = Vec::new();
    while !loading.is_finished() {
        seen.extend(child());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(loading.join().unwrap());
    let most_threads = seen.iter().map(|child| child.1).max();
    assert!(
        most_threads.is_some_and(|threads| threads <= 2),
        "itself and one that compiles: {seen:?}"
    );
    let (niceness, _, adjusted) = seen.last().expect("a child");
    let own = i64::from(rustix::process::getpriority_process(None).unwrap());
    assert!(
        *niceness >= (own + 15).min(19) && adjusted == "1000",
        "{own} {niceness} {adjusted}"
    );
}

#[test]
fn a_child_without_memory_or_time_fails_alone() {
    let small = refusal(&sandbox(CHILD, &[], 48 * 1024 * 1024, 60_000), &long());
    assert_eq!(small.code(), "compile-limits", "{small}");
    let late = |detail: &str| Refusal::CompileLimits {
        detail: detail.to_owned(),
    };
    // By the clock it has ten times its processor time, which the kernel counts in seconds.
    let short = refusal(&sandbox(CHILD, &[], MEMORY, 1), &long());
    assert_eq!(short, late("not done after 10 ms"));
    let busy = refusal(&sandbox(CHILD, &[], MEMORY, 1000), &very_long());
    // Among busy neighbours, to whom it gives way, the clock may be first.
    let bounds = ["not done after 1 s of processor time", "not done after 10000 ms"];
    assert!(bounds.map(late).contains(&busy), "{busy}");
    assert!(
        sandbox(CHILD, &[], MEMORY, 60_000).load(&component(GOOD)).is_ok(),
        "the parent lives"
    );
}

#[test]
fn a_child_that_is_no_compiler_is_the_hosts_fault() {
    let missing = refusal(&sandbox("/nowhere/compiler", &[], MEMORY, 1000), &component(GOOD));
    assert_eq!(missing.code(), "host", "{missing}");
    let silent = refusal(&sandbox("/bin/true", &[], MEMORY, 10_000), &component(GOOD));
    assert_eq!(silent.code(), "compile-limits", "{silent}");
    // What the child writes is checked by wasmtime for its shape; that it is honest, only its own program can promise.
    let other = refusal(&sandbox("/bin/cat", &[], MEMORY, 10_000), &component(GOOD));
    assert_eq!(other.code(), "over-limits", "{other}");
}
