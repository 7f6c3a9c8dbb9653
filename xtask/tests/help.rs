//! What a person meets who types `cargo xtask` for the first time, or types it wrong.

use std::process::{Command, Output};

fn xtask(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(arguments)
        .output()
        .expect("xtask starts")
}

#[test]
fn every_command_explains_itself_and_does_nothing_else() {
    let list = String::from_utf8(xtask(&["--help"]).stdout).expect("help is text");
    for command in [
        "demo",
        "test",
        "ci",
        "guests",
        "spin",
        "check-pure",
        "campaign",
        "bench",
        "setup",
        "help",
    ] {
        assert!(
            list.contains(&format!("\n  {command} ")),
            "the list lacks {command}:\n{list}"
        );
        let help = xtask(&[command, "--help"]);
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success() && help.stderr.is_empty(), "{command}: {help:?}");
        assert!(
            text.contains(&format!("Usage: cargo xtask {command}")),
            "{command}: {text}"
        );
    }
}

#[test]
fn a_mistake_is_answered_with_what_is_possible() {
    for (arguments, expect) in [
        (&[][..], "which command?"),
        (&["dmeo"], "there is no command `dmeo`"),
        (&["ci", "fast"], "`ci` takes no arguments; got `fast`"),
        (
            &["guests", "--hostil"],
            "`guests` takes only `--hostile`; got `--hostil`",
        ),
        (
            &["test", "--release"],
            "`--release` is no part of a test name; what is meant for the test runner goes after `--`",
        ),
    ] {
        let answer = xtask(arguments);
        let text = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(
            answer.stdout.is_empty() && text.contains(expect),
            "{arguments:?}: {text}"
        );
    }
}
