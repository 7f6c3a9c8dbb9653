//! Builds the Spin app: its components, and the shipped plugins enclosed for it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tollgate_enclose::{Kit, enclose};

use crate::guests::{self, Kind, components, publish};
use crate::shell::{cargo, plugins_dir, root, run, say, spin_dir, step, target_dir};
use crate::toolchain::{self, PLUGIN_TARGET, PROBE_TARGET};

/// `cargo xtask spin`: what spin.toml names as sources.
///
/// # Errors
/// When something does not build.
pub(crate) fn build() -> Result<()> {
    toolchain::need(&[PLUGIN_TARGET, PROBE_TARGET])?;
    guests::build(Kind::Shipped)?;
    step("build the Spin components", || {
        let ours = ["--package", "tollgate-spin-ingest", "--package", "tollgate-spin-runner"];
        let mut built = components("host/spin", PROBE_TARGET, &ours)?;
        let kit = ["--package", "tollgate-spin-desk", "--package", "tollgate-spin-caller"];
        built.extend(components("host/spin", PLUGIN_TARGET, &kit)?);
        publish(&built, &spin_dir())
    })?;
    step("enclose the plugins", || {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let desk = read(&spin_dir().join("tollgate_spin_desk.wasm"))?;
        let caller = read(&spin_dir().join("tollgate_spin_caller.wasm"))?;
        let kit = Kit {
            desk: &desk,
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

/// Runs the Spin suite: in the harness, or on the `spin` that is installed.
///
/// # Errors
/// When it does not build, or a test fails.
pub(crate) fn test(filters: &[String]) -> Result<()> {
    let mut tests = cargo(&["test", "--locked", "--target-dir"]);
    tests
        .arg(target_dir().join("spin-harness"))
        .current_dir(root().join("tests/spin"))
        .arg("--")
        .args(filters);
    tests
        .env("TOLLGATE_SPIN", spin_dir())
        .env("TOLLGATE_PLUGINS", plugins_dir())
        .env("TOLLGATE_HOSTILE", crate::shell::hostile_dir())
        .env("TOLLGATE_BIN", target_dir().join("debug/tollgate"));
    run(&mut tests)
}

/// `cargo xtask spin [--test [FILTER…]]`.
///
/// # Errors
/// As [`build`] and [`test`].
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    build()?;
    match arguments {
        [] => {
            say("built; `spin up` serves it, after its variables are set (docs/spin.md)");
            Ok(())
        }
        [flag, filters @ ..] if flag == "--test" => {
            guests::build(Kind::Hostile)?;
            step("build the server", || {
                run(&mut cargo(&["build", "--locked", "--package", "tollgate", "--package", "tollgate-tests", "--bins"]))
            })?;
            test(filters)
        }
        [other, ..] => anyhow::bail!("`spin` takes only `--test`; got `{other}`"),
    }
}
