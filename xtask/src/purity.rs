//! Core is pure: it reaches no clock, randomness, files, network or environment of its own.
//!
//! On wasm32-wasip2, std turns each use of the outside into an import with a name, and the linker drops what nothing reaches.
//! So a component that reaches every public function of core names what core reaches, and nothing else. What this cannot see
//! is code that the probe does not reach: `tests/tests/repository.rs` holds the probe against core's public functions.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::no_arguments;
use crate::shell::{cargo, root, run, say, step, target_dir};
use crate::toolchain::{self, PROBE_TARGET};

/// The interfaces that a pure component must not import. What std brings by itself is none of them: a program with an empty
/// `main` imports wasi:cli (environment, exit, stdin, stdout, stderr, terminals) and wasi:io (error, poll, streams).
const FORBIDDEN: [&str; 5] = [
    "wasi:clocks/",
    "wasi:random/",
    "wasi:filesystem/",
    "wasi:sockets/",
    "wasi:http/",
];

/// What the control reaches on purpose: one interface each by `SystemTime::now`, a default `HashMap` and `fs::read`.
const REACHED_BY_CONTROL: [&str; 3] = ["wasi:clocks/", "wasi:random/", "wasi:filesystem/"];

/// `cargo xtask check-pure`.
///
/// # Errors
/// When the probe does not build or imports what it must not, or when the control shows that the check is blind.
pub(crate) fn check_pure(arguments: &[String]) -> Result<()> {
    no_arguments("check-pure", arguments)?;
    toolchain::need(&[PROBE_TARGET])?;
    step("build the purity probe", || {
        run(cargo(&[
            "build",
            "--locked",
            "--release",
            "--target",
            PROBE_TARGET,
            "--target-dir",
        ])
        .arg(target_dir().join("guests"))
        .current_dir(root().join("tests/purity-probe")))
    })?;
    let control = imports("control")?;
    for name in REACHED_BY_CONTROL {
        ensure!(
            control.contains(&name),
            "the control reaches {name} on purpose, but the check does not see it"
        );
    }
    let probe = imports("purity-probe")?;
    ensure!(
        probe.is_empty(),
        "core is not pure: it reaches {}. Time, randomness and files are arguments; maps are BTreeMaps",
        probe.join(", ")
    );
    say("core is pure: it reaches no clock, randomness, files or network");
    Ok(())
}

/// The forbidden interfaces that a component names. Import names stand in a component as plain bytes, so that a search finds
/// them without a parser; that a constant of ours holds such a name would be a false alarm, never a miss.
fn imports(binary: &str) -> Result<Vec<&'static str>> {
    let path = target_dir()
        .join("guests")
        .join(PROBE_TARGET)
        .join("release")
        .join(format!("{binary}.wasm"));
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    Ok(FORBIDDEN.into_iter().filter(|name| names(name)).collect())
}
