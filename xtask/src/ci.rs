//! What must hold besides the tests: format, licences, lints, documentation, purity. What the repository's tests can check is in `tests/`.

use anyhow::{Result, ensure};

use crate::shell::{cargo, root, run, step, target_dir};
use crate::toolchain::{self, PLUGIN_TARGET, PROBE_TARGET};
use crate::{licenses, no_arguments, purity};

/// A workspace of its own beside the root's, because it is built for wasm.
struct WasmWorkspace {
    folder: &'static str,
    target: &'static str,
    /// What to lint. Not `--all-targets`: unit tests of guests are native.
    kinds: &'static [&'static str],
    /// `--all` also formats what a path leads to; the probe's leads into the root's workspace.
    format_all: bool,
}

/// A workspace of its own beside the root's, because it is built with coverage. Its targets are linted with the tests, which compile them too.
const FUZZ: &str = "tests/fuzz";

const WASM_WORKSPACES: [WasmWorkspace; 4] = [
    WasmWorkspace {
        folder: "guest-plugins",
        target: PLUGIN_TARGET,
        kinds: &["--lib"],
        format_all: true,
    },
    WasmWorkspace {
        folder: "host/spin",
        target: PROBE_TARGET,
        kinds: &["--lib"],
        // A path of it leads to the root's workspace.
        format_all: false,
    },
    WasmWorkspace {
        folder: "tests/guests",
        target: PLUGIN_TARGET,
        kinds: &["--lib", "--examples"],
        format_all: false,
    },
    WasmWorkspace {
        folder: "tests/purity-probe",
        target: PROBE_TARGET,
        kinds: &["--bins"],
        format_all: false,
    },
];

/// `cargo xtask ci`. The cheap checks come first.
///
/// # Errors
/// At the first check that fails.
pub(crate) fn ci(arguments: &[String]) -> Result<()> {
    no_arguments("ci", arguments)?;
    toolchain::need(&[PLUGIN_TARGET, PROBE_TARGET])?;
    step("check the format", || {
        run(&mut cargo(&["fmt", "--all", "--check"]))?;
        for WasmWorkspace { folder, format_all, .. } in WASM_WORKSPACES {
            ensure!(
                root().join(folder).join("Cargo.toml").is_file(),
                "{folder} has no Cargo.toml"
            );
            let mut format = cargo(&["fmt", "--check"]);
            run(format
                .args(format_all.then_some("--all"))
                .current_dir(root().join(folder)))?;
        }
        run(cargo(&["fmt", "--check"]).current_dir(root().join(FUZZ)))
    })?;
    step("check the licences of what is shipped", || {
        licenses::command(&["--check".to_owned()])
    })?;
    step("check for known vulnerabilities", licenses::deny)?;
    step("check the lints", || {
        run(&mut cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    // What plugins' authors read is the SDK's; links that lead nowhere are errors.
    step("check the documentation", || {
        let doc = ["doc", "--locked", "--no-deps", "--workspace"];
        run(cargo(&doc).env("RUSTDOCFLAGS", "--deny warnings"))?;
        let mut sdk = cargo(&doc);
        sdk.args(["--target", PLUGIN_TARGET, "--target-dir"])
            .arg(target_dir().join("guests"))
            .env("RUSTDOCFLAGS", "--deny warnings");
        run(sdk.current_dir(root().join("guest-plugins")))
    })?;
    for WasmWorkspace {
        folder, target, kinds, ..
    } in WASM_WORKSPACES
    {
        step(&format!("check the lints of {folder}"), || {
            // As they are built for the tests: macros and build scripts are compiled already.
            let mut clippy = cargo(&["clippy", "--locked", "--release", "--workspace", "--target", target]);
            clippy
                .args(kinds)
                .arg("--target-dir")
                .arg(target_dir().join("guests"))
                .args(["--", "--deny", "warnings"]);
            run(clippy.current_dir(root().join(folder)))
        })?;
    }
    purity::check_pure(&[])
}
