//! Builds guests and puts them where the server and the tests look for them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{cargo, hostile_dir, plugins_dir, read, root, step, target_dir};
use crate::toolchain::{self, PLUGIN_TARGET};

/// Which guests to build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The plugins that we ship.
    Shipped,
    /// Those, and the guests that misbehave on purpose.
    Hostile,
}

/// What the demo and the tests cannot do without.
pub(crate) const SHIPPED: [&str; 4] = ["cashback.wasm", "fraud.wasm", "gift-card.wasm", "inventory.wasm"];

/// `cargo xtask guests [--hostile]`.
///
/// # Errors
/// On an unknown argument, or as [`build`].
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let kind = match arguments {
        [] => Kind::Shipped,
        [flag] if flag == "--hostile" => Kind::Hostile,
        [other, ..] => bail!("`guests` takes only `--hostile`; got `{other}`"),
    };
    build(kind)
}

/// Builds the guests. Cargo decides what is fresh; nothing is skipped by guess.
///
/// # Errors
/// When the toolchain lacks something, a build fails, or a shipped plugin did not come out of it.
pub(crate) fn build(kind: Kind) -> Result<()> {
    toolchain::need(&[PLUGIN_TARGET])?;
    step("build the plugins", || {
        let built = components("guest-plugins", PLUGIN_TARGET, &["--workspace"])?;
        // Cargo names a library's file by its crate; a plugin is called as its package is.
        publish_as(&built, &plugins_dir(), |crate_name| crate_name.replace('_', "-"))?;
        for shipped in SHIPPED {
            ensure!(
                plugins_dir().join(shipped).is_file(),
                "guest-plugins built no {shipped}"
            );
        }
        Ok(())
    })?;
    if kind == Kind::Hostile {
        step("build the hostile guests", || {
            publish(
                &components("tests/guests", PLUGIN_TARGET, &["--workspace", "--examples"])?,
                &hostile_dir(),
            )
        })?;
    }
    Ok(())
}

/// Builds a folder's guests and gives the paths of the components, as cargo reports them: a file that an older build left
/// behind is none of them.
pub(crate) fn components(folder: &str, target: &str, what: &[&str]) -> Result<Vec<PathBuf>> {
    components_with(folder, target, what, None)
}

/// The same with these flags for the compiler, as CARGO_ENCODED_RUSTFLAGS has them.
///
/// # Errors
/// As [`components`].
pub(crate) fn components_with(folder: &str, target: &str, what: &[&str], flags: Option<&str>) -> Result<Vec<PathBuf>> {
    ensure!(
        root().join(folder).join("Cargo.toml").is_file(),
        "{folder} has no Cargo.toml"
    );
    let report = read(
        cargo(&[
            "build",
            "--locked",
            "--release",
            "--target",
            target,
            "--message-format=json-render-diagnostics",
        ])
        .args(what)
        .arg("--target-dir")
        .arg(target_dir().join("guests"))
        .envs(flags.map(|flags| ("CARGO_ENCODED_RUSTFLAGS", flags)))
        .current_dir(root().join(folder)),
    )?;
    let mut paths: Vec<_> = report.lines().flat_map(wasm_files).map(PathBuf::from).collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The `.wasm` files that one line of cargo's JSON report names. A JSON parser would be most of what xtask compiles; the
/// lines are cargo's own, and the paths are ours.
fn wasm_files(line: &str) -> impl Iterator<Item = String> {
    let is_artifact = line.contains(r#""reason":"compiler-artifact""#);
    let files = line
        .split_once(r#""filenames":["#)
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(files, _)| files);
    files
        .split(',')
        .map(|file| file.trim().trim_matches('"').replace(r"\\", r"\"))
        .filter(move |file| is_artifact && file.ends_with(".wasm"))
        .collect::<Vec<_>>()
        .into_iter()
}

/// As [`publish_as`], under the names that they have.
pub(crate) fn publish(components: &[PathBuf], folder: &Path) -> Result<()> {
    publish_as(components, folder, str::to_owned)
}

/// Makes `folder` hold exactly these components (other kinds of files and folders stay), each under what `name` makes of its own
/// name. A file appears whole or not at all, and an unchanged one is not touched: a server may be reading it.
fn publish_as(components: &[PathBuf], folder: &Path, name: fn(&str) -> String) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut names = Vec::new();
    for component in components {
        let name = component
            .file_name()
            .and_then(|own| own.to_str())
            .map(name)
            .with_context(|| format!("{} is no file", component.display()))?;
        let bytes = fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
        let to = folder.join(&name);
        if fs::read(&to).ok().as_ref() != Some(&bytes) {
            let part = to.with_extension("wasm.part");
            fs::write(&part, &bytes).with_context(|| format!("cannot write {}", part.display()))?;
            fs::rename(&part, &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
        names.push(name);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm")
            && !names.iter().any(|name| path.ends_with(name))
        {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_components_that_cargo_reports_are_taken() {
        let check = |line: &str, expect: &[&str]| assert_eq!(wasm_files(line).collect::<Vec<_>>(), expect, "{line}");
        check(
            r#"{"reason":"compiler-artifact","filenames":["/t/a.wasm","/t/liba.rlib"],"executable":null}"#,
            &["/t/a.wasm"],
        );
        check(
            r#"{"reason":"compiler-artifact","filenames":["C:\\t\\a.wasm"],"fresh":true}"#,
            &[r"C:\t\a.wasm"],
        );
        check(r#"{"reason":"build-finished","success":true}"#, &[]);
        check(r#"{"reason":"other","filenames":["/t/a.wasm"]}"#, &[]);
    }
}
