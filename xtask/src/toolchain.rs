//! What must be installed: a new enough rustc, the wasm targets, the component linker.
//!
//! Targets in `rust-toolchain.toml` are not relied on: rustup ignores them silently when its auto-install is off. Everything
//! is looked up in the sysroot, which takes two short calls of rustc and no rustup, so that a prepared machine loses no time.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{program, read, say};

/// What plugins are built for: no WASI at all.
pub(crate) const PLUGIN_TARGET: &str = "wasm32-unknown-unknown";
/// What the purity probe is built for: here std turns each use of the outside into an import with a name.
pub(crate) const PROBE_TARGET: &str = "wasm32-wasip2";

/// Ships with Rust's wasm support; makes a component of what the linker made.
const COMPONENT_LINKER: &str = "wasm-component-ld";

/// Makes sure that the toolchain can build for `targets`. Adds missing ones with rustup; silent when all is there.
///
/// # Errors
/// One line that says what is missing and what to run.
pub(crate) fn need(targets: &[&str]) -> Result<()> {
    let toolchain = Toolchain::found()?;
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    if older(&toolchain.version, oldest) {
        bail!(
            "rustc is {}, but at least {oldest} is needed. Run: rustup toolchain install {oldest}",
            toolchain.version
        );
    }
    for target in targets {
        if !toolchain.has_target(target) {
            toolchain.add_target(target)?;
        }
    }
    if !toolchain.has_component_linker() {
        bail!(
            "the linker {COMPONENT_LINKER} is missing: it ships with Rust's own toolchains, but some distributions leave it \
             out. Run: cargo install wasm-component-ld"
        );
    }
    Ok(())
}

struct Toolchain {
    /// As rustc prints it, for example `1.95.0`.
    version: String,
    host: String,
    rustlib: PathBuf,
}

impl Toolchain {
    fn found() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let missing = "there is no working rustc. Install Rust with rustup, see https://rustup.rs";
        let about = read(program(&rustc).arg("-vV")).context(missing)?;
        let line = |key: &str| {
            about
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim().to_owned())
        };
        let sysroot = read(program(&rustc).args(["--print", "sysroot"])).context(missing)?;
        Ok(Self {
            version: line("release:").context("rustc -vV names no release")?,
            host: line("host:").context("rustc -vV names no host")?,
            rustlib: Path::new(sysroot.trim()).join("lib/rustlib"),
        })
    }

    fn has_target(&self, target: &str) -> bool {
        self.rustlib.join(target).join("lib").is_dir()
    }

    fn has_component_linker(&self) -> bool {
        let file = format!("{COMPONENT_LINKER}{}", env::consts::EXE_SUFFIX);
        let on_path = env::var_os("PATH").unwrap_or_default();
        self.rustlib.join(&self.host).join("bin").join(&file).is_file()
            || env::split_paths(&on_path).any(|folder| folder.join(&file).is_file())
    }

    fn add_target(&self, target: &str) -> Result<()> {
        // Cargo was started through rustup when this is set; then it names the toolchain that lacks the target.
        let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| self.version.clone());
        let advice = format!("Run: rustup target add --toolchain {toolchain} {target}");
        say(&format!("adding the Rust target {target} …"));
        let added = Command::new("rustup")
            .args(["target", "add", "--toolchain", &toolchain, target])
            .output();
        let output = added.with_context(|| {
            format!("the Rust target {target} is missing and rustup is not there to add it. {advice}")
        })?;
        if !output.status.success() || !self.has_target(target) {
            let said = String::from_utf8_lossy(&output.stderr);
            let reason = said
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("rustup said nothing")
                .trim();
            bail!("the Rust target {target} is missing and could not be added ({reason}). {advice}");
        }
        Ok(())
    }
}

/// Whether version `found` comes before `oldest`. Both are dotted numbers; what follows a `-` (nightly, beta) is not looked at.
fn older(found: &str, oldest: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        version
            .split('-')
            .next()
            .unwrap_or("")
            .split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    numbers(found) < numbers(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        for (found, oldest, expect) in [
            ("1.95.0", "1.95", false),
            ("1.95.0-nightly", "1.95", false),
            ("1.100.0", "1.95", false),
            ("1.94.1", "1.95", true),
            ("1.9.0", "1.95", true),
        ] {
            assert_eq!(older(found, oldest), expect, "{found} against {oldest}");
        }
    }
}
