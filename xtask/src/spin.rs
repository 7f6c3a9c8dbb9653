//! Builds the Spin app: its components, and the shipped plugins enclosed for it.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result};
use tollgate_enclose::{Kit, enclose, without_names};

use crate::guests::{self, Kind, components_with, publish};
use crate::shell::{built, cargo, plugins_dir, program, root, run, say, spin_dir, step, target_dir, tell_where};
use crate::toolchain::{self, PLUGIN_TARGET, PROBE_TARGET};

/// The folder of the tenants' files that spin.toml mounts.
const TENANTS: &str = "host/spin/tenants";

/// The stand-in for `spin`, which the Spin suite runs on where there is no Spin.
const STAND_IN: &str = "spin-stand-in";

/// `cargo xtask spin`: what spin.toml names as sources.
///
/// # Errors
/// When something does not build.
pub(crate) fn build() -> Result<()> {
    guests::build(Kind::Shipped)?;
    components()?;
    assemble()
}

/// The components that are compiled.
///
/// # Errors
/// When something does not build.
pub(crate) fn components() -> Result<()> {
    toolchain::need(&[PLUGIN_TARGET, PROBE_TARGET])?;
    step("build the Spin components", || {
        let packages = |names: &[&'static str]| names.iter().flat_map(|name| ["--package", name]).collect::<Vec<_>>();
        let ours = packages(&["tollgate-spin-ingest", "tollgate-spin-worker", "tollgate-spin-runner"]);
        let flags = short_paths()?;
        let mut built = components_with("host/spin", PROBE_TARGET, &ours, Some(&flags))?;
        let kit = packages(&["tollgate-spin-host-calls", "tollgate-spin-caller"]);
        built.extend(components_with("host/spin", PLUGIN_TARGET, &kit, Some(&flags))?);
        publish(&built, &spin_dir())?;
        for name in ["ingest", "worker", "runner"] {
            let path = spin_dir().join(format!("tollgate_spin_{name}.wasm"));
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            fs::write(&path, without_names(&bytes)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    })
}

/// What is made of compiled components and plugins.
///
/// # Errors
/// When the tool does not build, or they are not what it needs.
pub(crate) fn assemble() -> Result<()> {
    step("build the tenants", || {
        let tool = built("tollgate-tenants", "tollgate-tenants")?;
        run(program(tool).arg(TENANTS))
    })?;
    step("enclose the plugins", || {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let host_calls = read(&spin_dir().join("tollgate_spin_host_calls.wasm"))?;
        let caller = read(&spin_dir().join("tollgate_spin_caller.wasm"))?;
        let kit = Kit {
            host_calls: &host_calls,
            caller: &caller,
        };
        let folder = spin_dir().join("plugins");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for name in guests::SHIPPED {
            let to = folder.join(name);
            let enclosed = enclose(kit, &read(&plugins_dir().join(name))?).with_context(|| (*name).to_owned())?;
            fs::write(&to, enclosed).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(())
    })
}

/// Flags that have the components name source files by short paths. A panic says its file, so each of them is in the component: a hundred paths of the
/// machine that built it, which made the size of the component depend on that machine.
///
/// # Errors
/// When cargo does not fetch the packages.
fn short_paths() -> Result<String> {
    // Their folders are there, and have names, once something was fetched.
    run(cargo(&["fetch", "--locked", "--quiet"]).current_dir(root().join("host/spin")))?;
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let sources = home.context("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    let mut folders = vec![root()];
    if sources.is_dir() {
        for entry in fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))? {
            folders.push(entry?.path());
        }
    }
    folders.sort();
    let flags: Vec<_> = folders
        .iter()
        .map(|folder| format!("--remap-path-prefix={}=", folder.display()))
        .collect();
    // As cargo separates them, so that a folder may have a space in its name.
    Ok(flags.join("\u{1f}"))
}

/// Builds the stand-in for `spin` as what is shipped is built, for measuring.
///
/// # Errors
/// When it does not build.
pub(crate) fn build_stand_in() -> Result<()> {
    step("build the stand-in for spin (release)", || {
        run(&mut cargo(&["build", "--locked", "--release", "--package", STAND_IN]))
    })
}

/// `cargo xtask spin [--test [FILTER…]]`.
///
/// # Errors
/// As [`build`], or when a test fails.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    build()?;
    match arguments {
        [] => {
            say("built; `spin up` serves it, after its variables are set (docs/spin.md)");
            Ok(())
        }
        [flag, filters @ ..] if flag == "--test" => {
            guests::build(Kind::Hostile)?;
            let packages = [
                "--package",
                "tollgate",
                "--package",
                "tollgate-tests",
                "--package",
                STAND_IN,
            ];
            run(cargo(&["build", "--locked"])
                .args(packages)
                .args(["--bins", "--test", "spin"]))?;
            let mut tests = cargo(&["test", "--locked"]);
            tests.args(packages).args(["--test", "spin", "--"]).args(filters);
            tell_where(&mut tests, &target_dir().join("debug"));
            say(&format!("the suite runs on {}", host()));
            run(&mut tests)
        }
        [other, ..] => anyhow::bail!("`spin` takes only `--test`; got `{other}`"),
    }
}

/// What the tests find (`SpinHost` in `tests/src/spin.rs`), for the person who reads their result.
fn host() -> String {
    let named = env::var_os("SPIN").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = || {
        env::split_paths(&path)
            .map(|folder| folder.join("spin"))
            .find(|program| program.is_file())
    };
    let found = named.or_else(on_path);
    found.map_or_else(
        || "the stand-in for spin".to_owned(),
        |program| program.display().to_string(),
    )
}
