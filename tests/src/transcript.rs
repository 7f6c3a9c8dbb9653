//! What people read of the command line, held against snapshots in `tests/snapshots`.
//!
//! A snapshot that changed is a failure everywhere. `INSTA_UPDATE=always` before the tests writes the new ones; look at them with `git diff`.

use std::fmt::Write as _;

use crate::stage::{Ran, Stage, tollgate};
use crate::{hostile_dir, plugins_dir, root};

/// What differs between two runs or two machines, as regular expressions, and what a snapshot says in its place.
const FILTERS: [(&str, &str); 25] = [
    (r"[^\s'`(]*/tollgate-(e2e|spin)-\w+", "[stage]"),
    (r"\[stage\]/tollgate\.toml", "tollgate.toml"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
    (r"\b(rcpt|dlv)_[0-9a-f]{8,}", "${1}_[id]"),
    (r"\bmsg_[0-9a-zA-Z]{12,}", "msg_[id]"),
    (r"\btgt_[0-9a-zA-Z_-]{12,}", "tgt_[secret]"),
    (r"\b[0-9a-f]{64}\b", "[digest]"),
    (r"@[0-9a-f]{8,}", "@[digest]"),
    (r"\b[0-9]+ fuel", "[n] fuel"),
    (r"\b[0-9.]+ (kB|KB|KiB|MB|MiB|GiB)\b", "[n] $1"),
    (r"\b[0-9.]+( ?(ms|µs)|s)\b", "[n] ms"),
    (r"\bfuel +[0-9,]+( \([0-9.]+ %\))?", "fuel [n]"),
    (
        r"p50 [0-9]+ → [0-9]+, p99 [0-9]+ → [0-9]+, most [0-9]+ → [0-9]+",
        "p50 [n] → [n], p99 [n] → [n], most [n] → [n]",
    ),
    (r"fuel \[n\] then, [0-9]+ now", "fuel [n] then, [n] now"),
    (r"[0-9]+ runs/s", "[n] runs/s"),
    (r"[0-9]+ bytes in ([0-9]+) files", "[n] bytes in $1 files"),
    (r"memory \[n\] MiB \([0-9.]+ %\)", "memory [n] MiB"),
    (r"backed up with [0-9]+", "backed up with [n]"),
    (r"\bsha2…[0-9a-f]{4}\b", "sha2…[digest]"),
    (r"[A-Za-z0-9+/]{43}=", "[key]"),
    (r"bytes( +)[0-9]{5,}", "bytes$1[n]"),
    (r"wasmtime [0-9.]+", "wasmtime [version]"),
    (
        r"believed up to [0-9]+, and do not lead to [0-9]+",
        "believed up to [n], and do not lead to [n]",
    ),
    // What is underlined may be a path.
    (r"\^{20,}", "^^^"),
];

/// Commands and what they said, one after the other.
#[derive(Default)]
pub struct Transcript {
    text: String,
}

impl Transcript {
    /// Runs a command without a stage.
    #[track_caller]
    pub fn run(&mut self, arguments: &[&str]) {
        self.add(arguments, &tollgate(arguments, b""));
    }

    /// Runs a command with a stage's configuration.
    #[track_caller]
    pub fn ask(&mut self, stage: &Stage, arguments: &[&str]) {
        self.add(arguments, &stage.ask_for_people(arguments));
    }

    /// Adds a command that was run.
    ///
    /// # Panics
    /// Never: a text takes what is written to it.
    pub fn add(&mut self, arguments: &[&str], ran: &Ran) {
        let quoted: Vec<_> = arguments
            .iter()
            .map(|argument| match argument.contains(' ') {
                true => format!("'{argument}'"),
                false => (*argument).to_owned(),
            })
            .collect();
        let text = &mut self.text;
        writeln!(text, "$ tollgate {}", quoted.join(" ")).expect("a text");
        text.push_str(&ran.stdout);
        for line in ran.stderr.lines() {
            writeln!(text, "stderr: {line}").expect("a text");
        }
        if ran.code != 0 {
            writeln!(text, "exit status {}", ran.code).expect("a text");
        }
        text.push('\n');
    }

    /// Holds everything that was said against the snapshot of this name.
    ///
    /// # Panics
    /// When it differs, with the difference.
    #[track_caller]
    pub fn hold(self, name: &str) {
        let mut text = self.text;
        for (folder, name) in [
            (hostile_dir(), "[hostile]"),
            (plugins_dir(), "[plugins]"),
            (root(), "[root]"),
        ] {
            text = text.replace(&folder.display().to_string(), name);
        }
        let mut settings = insta::Settings::new();
        settings.set_snapshot_path(root().join("tests/snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (pattern, instead) in FILTERS {
            settings.add_filter(pattern, instead);
        }
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}
