//! What the binary is made of besides our own code, and under which terms: `host/cli/licenses.txt`, which `tollgate licenses` prints.
//!
//! The list comes from cargo, the texts from the packages' own files as cargo unpacked them.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{cargo, read, root, run, say};

/// Licences that ask for no more than their text and a notice (SPDX identifiers).
const PERMISSIVE: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// What asks for more and is shipped all the same, with what it asks for. spin-sdk 5 cannot be had without its router.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "smartstring",
    "MPL-2.0+",
    "in the Spin app only, unchanged; its source is the package of this name and version in cargo's registry",
)];

const FILE: &str = "host/cli/licenses.txt";

/// The workspaces whose code is in what a user runs.
const SHIPPED: [(&str, &[&str]); 3] = [
    (".", &["--package", "tollgate", "--target", "x86_64-unknown-linux-gnu"]),
    ("host/spin", &["--workspace", "--target", "wasm32-wasip2"]),
    ("guest-plugins", &["--workspace", "--target", "wasm32-unknown-unknown"]),
];

/// One package of somebody else's.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    /// An SPDX expression, or the older form with `/` for `OR`.
    licence: String,
}

/// `cargo xtask licenses [--check]`.
///
/// # Errors
/// When a package may not be shipped, when its source is not there, or, with `--check`, when the file is not what it should be.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let text = collect()?;
    let path = root().join(FILE);
    match arguments {
        [] => {
            fs::write(&path, &text).with_context(|| format!("cannot write {FILE}"))?;
            say(&format!("{FILE}: {} KiB", text.len() / 1024));
            Ok(())
        }
        [flag] if flag == "--check" => {
            let found = fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
            ensure!(
                found == text,
                "{FILE} is not what the dependencies say: `cargo xtask licenses` writes it"
            );
            Ok(())
        }
        [other, ..] => bail!("`licenses` takes only `--check`; got `{other}`"),
    }
}

/// Holds what is known of vulnerabilities and of sources against the lock file, where cargo-deny is installed; else says loudly
/// that nothing was held.
///
/// # Errors
/// When cargo-deny finds something.
pub(crate) fn deny() -> Result<()> {
    let is_installed = cargo(&["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !is_installed {
        say(
            "SKIPPED: cargo-deny is not installed, so no advisory database was held against Cargo.lock (`cargo install cargo-deny`)",
        );
        return Ok(());
    }
    run(&mut cargo(&["deny", "--locked", "check", "bans", "sources"]))?;
    let has_advisories = cargo(&["deny", "fetch", "db"])
        .status()
        .is_ok_and(|status| status.success());
    if !has_advisories {
        say("SKIPPED: the advisory database cannot be had here, so known vulnerabilities were not looked for");
        return Ok(());
    }
    run(&mut cargo(&["deny", "--locked", "check", "advisories"]))
}

fn collect() -> Result<String> {
    let mut packages = BTreeSet::new();
    for (folder, arguments) in SHIPPED {
        packages.extend(packages_of(folder, arguments)?);
    }
    let sources = sources()?;
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut without = Vec::new();
    let mut out = String::from(
        "What Tollgate is made of besides its own code (Apache-2.0), and the terms of each package.\n\
         Written by `cargo xtask licenses`.\n\n",
    );
    for package in &packages {
        let Package { name, version, licence } = package;
        let exception = EXCEPTIONS
            .iter()
            .find(|(of, under, _)| of == name && under == licence)
            .map(|(_, _, why)| *why);
        ensure!(
            exception.is_some() || may_be_shipped(licence),
            "{name} {version} is under `{licence}`, which is none of the licences that Tollgate is shipped with"
        );
        let exception = exception.map_or_else(String::new, |why| format!(" ({why})"));
        writeln!(out, "{name} {version}: {licence}{exception}")?;
        let folder = format!("{name}-{version}");
        let Some(source) = sources
            .iter()
            .map(|source| source.join(&folder))
            .find(|path| path.is_dir())
        else {
            bail!("the source of {name} {version} is not there: `cargo fetch --locked` brings it");
        };
        let found = texts_of(&source, licence)?;
        if found.is_empty() {
            without.push(format!("{name} {version}"));
        }
        for text in found {
            texts.entry(text).or_default().push(format!("{name} {version}"));
        }
    }
    if !without.is_empty() {
        writeln!(out, "\nWithout a text of their own: {}.", without.join(", "))?;
    }
    let mut texts: Vec<_> = texts.into_iter().map(|(text, of)| (of, text)).collect();
    texts.sort();
    for (of, text) in texts {
        writeln!(out, "\n{}\n{}\n\n{text}", "-".repeat(80), of.join(", "))?;
    }
    Ok(out)
}

/// What a workspace's shipped code depends on, without what is of this repository.
fn packages_of(folder: &str, arguments: &[&str]) -> Result<Vec<Package>> {
    let mut tree = cargo(&["tree", "--quiet", "--locked", "--edges", "normal", "--prefix", "none"]);
    tree.args(["--format", "{p}|{l}"]).args(arguments);
    let text = read(tree.current_dir(root().join(folder)))?;
    let mut packages = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let line = line.trim_end_matches(" (*)");
        let (package, licence) = line
            .split_once('|')
            .with_context(|| format!("cargo tree said `{line}`"))?;
        // A path in parentheses: one of our own. `(proc-macro)` is none.
        if package.contains("(/") || package.contains(":\\") {
            continue;
        }
        let mut words = package.split_whitespace();
        let (name, version) = words
            .next()
            .zip(words.next())
            .with_context(|| format!("cargo tree said `{line}`"))?;
        packages.push(Package {
            name: name.to_owned(),
            version: version.trim_start_matches('v').to_owned(),
            licence: licence.to_owned(),
        });
    }
    Ok(packages)
}

/// Where cargo unpacks packages, one folder for each registry.
fn sources() -> Result<Vec<PathBuf>> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let unpacked = home.join("registry/src");
    let folders = fs::read_dir(&unpacked).with_context(|| format!("cannot list {}", unpacked.display()))?;
    folders.map(|folder| Ok(folder?.path())).collect()
}

/// The texts that a package carries. Where it may be had under MIT and has a file of that name, that one is enough, with notices.
fn texts_of(source: &Path, licence: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().to_ascii_uppercase())
            .unwrap_or_default();
        let is_text = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|start| name.starts_with(start));
        if is_text && path.is_file() {
            files.push((name, path));
        }
    }
    files.sort();
    let is_mit = |name: &str| name.contains("MIT");
    let is_choice = licence.contains("OR") || licence.contains('/');
    if is_choice && !licence.contains("AND") && files.iter().any(|(name, _)| is_mit(name)) {
        files.retain(|(name, _)| is_mit(name) || name.starts_with("NOTICE"));
    }
    let mut texts = Vec::new();
    for (_, path) in files {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        texts.push(lines.join("\n").trim_matches('\n').to_owned());
    }
    Ok(texts)
}

/// Whether an SPDX expression lets us choose licences that are all permissive. Parentheses stand around choices only, as they do in
/// every package that cargo has shown us; a form that is not understood is refused.
fn may_be_shipped(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let mut depth = 0_u32;
    let mut parts = vec![String::new()];
    for word in expression.replace('(', " ( ").replace(')', " ) ").split_whitespace() {
        match word {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "AND" if depth == 0 => parts.push(String::new()),
            word => {
                let part = parts.last_mut().expect("there is always one");
                part.push_str(if part.is_empty() { "" } else { " " });
                part.push_str(word);
            }
        }
    }
    parts
        .iter()
        .all(|part| part.split(" OR ").any(|licence| PERMISSIVE.contains(&licence.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_held_against_those_that_may_be_shipped() {
        for (expression, expect) in [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / MIT", true),
            ("GPL-3.0-only OR MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true),
            ("GPL-3.0-only", false),
            ("MIT AND LGPL-2.1-only", false),
            ("(GPL-2.0-only OR LGPL-2.1-only) AND MIT", false),
            ("", false),
        ] {
            assert_eq!(may_be_shipped(expression), expect, "{expression}");
        }
    }
}
