//! Runs every test of the repository.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::guests::{self, Kind};
use crate::shell::{cargo, root, run, say, step, target_dir, tell_where, tests_are_built};
use crate::spin;

/// `cargo xtask test [FILTER…] [-- ARGUMENT…]`.
///
/// # Errors
/// When something does not build, or a suite fails; every suite is run before that is said.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    let dashes = arguments
        .iter()
        .position(|argument| argument == "--")
        .unwrap_or(arguments.len());
    let filters = &arguments[..dashes];
    let runner_arguments = arguments.get(dashes + 1..).unwrap_or_default();
    if let Some(option) = filters.iter().find(|filter| filter.starts_with('-')) {
        bail!("`{option}` is no part of a test name; what is meant for the test runner goes after `--`");
    }
    let start = Instant::now();
    // Side by side: what is linked whole keeps one processor, and the other has nothing to do.
    thread::scope(|scope| {
        let guests = scope.spawn(|| guests::build(Kind::Hostile).and_then(|()| spin::components()));
        let workspace = build_workspace();
        let guests = guests.join().map_err(|_| anyhow!("the build of the guests panicked"))?;
        guests.and(workspace)
    })?;
    spin::assemble()?;

    let mut results = Vec::new();
    let mut suite = |name: &'static str, result: Result<()>| {
        if let Err(error) = &result {
            say(&format!("{name}: {error:#}"));
        }
        results.push((name, result.is_ok()));
    };
    if on_postgres() {
        suite(
            "the end-to-end tests on PostgreSQL",
            workspace(filters, runner_arguments),
        );
        return told(start, &results);
    }
    suite("the workspace", workspace(filters, runner_arguments));
    if has_doc_tests(&root().join("host"))? {
        let mut doc = cargo(&["test", "--locked", "--workspace", "--doc", "--"]);
        suite("doc tests", run(doc.args(filters)));
    }
    let mut plugins = cargo(&["test", "--locked", "--workspace", "--target-dir"]);
    plugins
        .arg(target_dir().join("guests-native"))
        .current_dir(root().join("guest-plugins"));
    suite("guest-plugins", run(plugins.arg("--").args(filters)));

    told(start, &results)
}

/// Whether only the end-to-end tests are to run, with their stores in PostgreSQL: `TOLLGATE_TEST_STORE=postgres cargo xtask test`.
fn on_postgres() -> bool {
    env::var("TOLLGATE_TEST_STORE").is_ok_and(|store| store == "postgres")
}

/// Says how the suites ended.
fn told(start: Instant, results: &[(&str, bool)]) -> Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let failed: Vec<_> = results
        .iter()
        .filter(|(_, passed)| !passed)
        .map(|(name, _)| *name)
        .collect();
    let names: Vec<_> = results.iter().map(|(name, _)| *name).collect();
    if failed.is_empty() {
        say(&format!("all tests passed in {seconds:.0} s ({})", names.join(", ")));
        Ok(())
    } else {
        bail!(
            "tests FAILED after {seconds:.0} s: {} (of {})",
            failed.join(", "),
            names.join(", ")
        )
    }
}

/// Test targets and binaries in one call: one set of features, so that the run finds everything fresh and the end-to-end tests find the server.
/// Libraries as well, for the one that is loaded and not linked.
fn build_workspace() -> Result<()> {
    step("build the workspace and its tests", || {
        run(&mut cargo(&[
            "build",
            "--locked",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
        ]))?;
        let path = tests_are_built();
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))
    })
}

fn workspace(filters: &[String], runner_arguments: &[String]) -> Result<()> {
    let has_nextest = cargo(&["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    let mut tests = if has_nextest {
        let mut tests = cargo(&["nextest", "run", "--locked", "--workspace", "--no-fail-fast"]);
        // Halves of a processor: `.config/nextest.toml` says which tests take one, because they wait more than they work, and which take two.
        let halves = 2 * thread::available_parallelism().map_or(1, usize::from);
        tests.env("NEXTEST_TEST_THREADS", halves.to_string());
        if on_postgres() {
            tests.args(["-E", "binary(e2e)"]);
        }
        tests.args(runner_arguments).args(filters);
        tests
    } else if on_postgres() {
        let mut tests = cargo(&[
            "test",
            "--locked",
            "--workspace",
            "--test",
            "e2e",
            "--no-fail-fast",
            "--",
        ]);
        tests.args(filters).args(runner_arguments);
        tests
    } else {
        let mut tests = cargo(&[
            "test",
            "--locked",
            "--workspace",
            "--bins",
            "--lib",
            "--tests",
            "--no-fail-fast",
            "--",
        ]);
        tests.args(filters).args(runner_arguments);
        tests
    };
    tell_where(&mut tests, &target_dir().join("debug"));
    run(&mut tests)
}

/// Whether any file under `folder` documents with code that rustdoc would run. Without one, building doc tests is time for nothing.
fn has_doc_tests(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if has_doc_tests(&path)? {
                return Ok(true);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            if holds_doc_test(&text) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a doc comment has a code block that says nothing of its language, or says Rust: rustdoc runs those.
fn holds_doc_test(text: &str) -> bool {
    let mut inside = false;
    for line in text.lines().map(str::trim_start) {
        let Some(comment) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        let Some(language) = comment.trim_start().strip_prefix("```") else {
            continue;
        };
        let first = language.split(',').next().unwrap_or("").trim();
        if !inside && matches!(first, "" | "rust" | "should_panic" | "no_run" | "compile_fail") {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_block_is_a_doc_test_by_its_language() {
        for (text, expect) in [
            ("/// ```\n/// let a = 1;\n/// ```", true),
            ("    //! ```no_run\n    //! ```", true),
            ("/// ```text\n/// a → b\n/// ```", false),
            ("/// ```text\n/// ```\nfn f() {}\n/// ```\n/// ```", true),
            ("// ```\n// ```", false),
        ] {
            assert_eq!(holds_doc_test(text), expect, "{text}");
        }
    }
}
