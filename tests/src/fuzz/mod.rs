//! What strangers, authors and broken disks can put before the host, as functions of arbitrary bytes. A target panics when a promise
//! does not hold for its input, and does nothing else.
//!
//! They are run in two ways: by `tests/fuzz`, which is built with coverage and led by it (`cargo xtask campaign fuzz`), and by the test
//! suite over seeds that are changed at random. `tests/fuzz` compiles these files again, so they use core, the store and the tenants'
//! reader, and nothing of the rest of this crate.

mod damage;
mod documents;
mod envelopes;
mod headers;
mod output;
mod profiles;
mod tenants;

use std::path::{Path, PathBuf};
use std::{env, fs};

use tollgate_core::ids::{SourceName, TenantName};

/// One way in.
#[derive(Clone, Copy)]
pub struct Target {
    /// One word, as the command line has it.
    pub name: &'static str,
    /// One line for the list.
    pub what: &'static str,
    /// Inputs that lead far inside, for others to be made of.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// # Panics
    /// When a promise does not hold.
    pub run: fn(&[u8]),
    /// How many inputs the test suite makes of the seeds: what takes it a second or two in a debug build.
    pub short: u64,
}

/// Every target, in the order of an event's way through the host.
pub const TARGETS: &[Target] = &[
    headers::TARGET,
    envelopes::TARGET,
    profiles::TARGET,
    tenants::TARGET,
    output::TARGET,
    documents::TARGET,
    damage::TARGET,
];

/// The repository's root: this is compiled by packages in different folders of it.
fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let is_root = |folder: &&Path| folder.join("host/core/profiles").is_dir();
    package.ancestors().find(is_root).unwrap_or(&package).to_owned()
}

/// The files of a folder with such a name, in the order of their names.
fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let folder = root().join(folder);
    let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Whose events they are.
fn names() -> (TenantName, SourceName) {
    ("acme".parse().expect("a name"), "shop".parse().expect("a name"))
}

/// All of a value, to be compared where it has no equality.
fn said(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

/// Takes pieces off an input. What is not there any more is empty or zero, so that every input is one.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let mut number = [0; 8];
        let bytes = self.bytes(8);
        number[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(number)
    }

    /// Up to the byte 0xFF, which no text has.
    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0xFF).unwrap_or(self.0.len());
        let text = String::from_utf8_lossy(self.bytes(end)).into_owned();
        self.bytes(1);
        text
    }
}
