//! The repository's chores: `cargo xtask <command>`.
//!
//! This is the first thing that a stranger compiles, so it depends on almost nothing and reads its arguments by hand. It starts
//! cargo and the binaries that cargo builds; what it says itself goes to stderr, so that stdout belongs to what it starts.

mod ci;
mod guests;
mod licenses;
mod purity;
mod shell;
mod spin;
mod suite;
mod toolchain;

use std::process::ExitCode;

use anyhow::{Result, bail};

use shell::{built, cargo, exec, program, run, say, step, target_dir, tell_where};

/// One chore, as the help lists it.
struct Command {
    name: &'static str,
    usage: &'static str,
    /// One line for the list.
    summary: &'static str,
    /// What a person wants to know before running it.
    details: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const COMMANDS: [Command; 12] = [
    Command {
        name: "demo",
        usage: "demo [--once] [--json]",
        summary: "Build everything and watch signed events become actions",
        details: "Builds the plugins and the server, then runs `tollgate demo` with the arguments given here.\n\
                  --once   end after the story, with status 0 only if all of it came out as promised\n\
                  --json   the story as data on stdout; all else goes to stderr",
        run: demo,
    },
    Command {
        name: "test",
        usage: "test [FILTER…] [-- ARGUMENT…]",
        summary: "Build everything and run every test",
        details: "Runs the workspace's tests with cargo-nextest where it is installed and with cargo test where it is not, then the\n\
                  plugins' own tests. FILTERs are parts of test names; what follows `--` goes to the test runner as it is.",
        run: suite::test,
    },
    Command {
        name: "ci",
        usage: "ci",
        summary: "Check everything that tests do not: format, licences, lints, documentation, the purity of core",
        details: "rustfmt, the licences of what is shipped, cargo-deny where it is installed, clippy (warnings are errors) on every workspace of\n\
                  the repository, rustdoc (likewise), then `check-pure`.",
        run: ci::ci,
    },
    Command {
        name: "guests",
        usage: "guests [--hostile]",
        summary: "Build the plugins into target/plugins",
        details: "Release builds for wasm32-unknown-unknown.\n\
                  --hostile   also build the misbehaving guests of tests/guests into target/plugins/hostile",
        run: guests::command,
    },
    Command {
        name: "spin",
        usage: "spin [--test [FILTER…]]",
        summary: "Build the Spin app into target/spin",
        details: "What spin.toml names: the components, the shipped plugins enclosed for them, and the tenants. `spin build` does the\n\
                  same.\n\
                  --test   then run the Spin suite: on the stand-in of tests/spin, or on a `spin` that is installed",
        run: spin::command,
    },
    Command {
        name: "check-pure",
        usage: "check-pure",
        summary: "Prove that core reaches no clock, randomness, files or network",
        details: "Builds tests/purity-probe, which reaches every public function of core, for wasm32-wasip2 and looks at what the\n\
                  component imports. A control that does reach them is checked first.",
        run: purity::check_pure,
    },
    Command {
        name: "campaign",
        usage: "campaign [NAME] [--count N] [--seed S] [--short] [--json]",
        summary: "Break things for as long as there is time, and count what was lost",
        details: "Release builds, but for `points`: a release build of the host has none. Without a name it lists the campaigns; the\n\
                  arguments go to the `campaign` binary of the tests crate.",
        run: campaign,
    },
    Command {
        name: "bench",
        usage: "bench [--quick] [--only NAME,…] | --million | --render | --spin | --postgres [PART,…] | --memory RECEIPTS | --plugins COUNT",
        summary: "Measure what Tollgate and others cost on this machine, for docs/performance.md",
        details: "Release builds. The arguments go to the `bench` binary of the folder `bench`; one that it does not know prints what can be measured.",
        run: |arguments| {
            if arguments.iter().any(|argument| argument == "--spin") {
                spin::build()?;
                spin::build_stand_in()?;
            }
            run_built(Profile::Release, "tollgate-bench", "bench", arguments)
        },
    },
    Command {
        name: "pictures",
        usage: "pictures [FOLDER]",
        summary: "Make the pictures of docs/console.md",
        details: "Starts a host, sends it signed events, and has Chromium open the console's pages. Chromium and the packages of tests/browser\n\
                  must be there, as `.ci/run` installs them.\n\
                  FOLDER   pictures of every page go there instead: wide and narrow, light and dark, full and empty",
        run: |arguments| run_built(Profile::Debug, "tollgate-tests", "pictures", arguments),
    },
    Command {
        name: "licenses",
        usage: "licenses [--check]",
        summary: "Collect the licences of everything that is shipped",
        details: "Writes host/cli/licenses.txt, which `tollgate licenses` prints. A package under a licence that asks for more than a\n\
                  notice is refused.\n\
                  --check   write nothing, and fail where the file is not what the dependencies say",
        run: licenses::command,
    },
    Command {
        name: "setup",
        usage: "setup",
        summary: "Check the toolchain and add the wasm targets that are missing",
        details: "Every command does this for itself; run it to prepare a machine while it has a network.",
        run: |arguments| {
            no_arguments("setup", arguments)?;
            toolchain::need(&[toolchain::PLUGIN_TARGET, toolchain::PROBE_TARGET])?;
            say("the toolchain has everything");
            Ok(())
        },
    },
    Command {
        name: "help",
        usage: "help [COMMAND]",
        summary: "Print this list, or what a command does",
        details: "The same as `--help`.",
        run: |arguments| {
            match arguments.first() {
                Some(name) => print(&details(find(name)?)),
                None => print(&list()),
            }
            Ok(())
        },
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        bail!("which command?\n\n{}", list())
    };
    if is_help(name) {
        print(&list());
        return Ok(());
    }
    let command = find(name)?;
    if rest
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| is_help(argument))
    {
        print(&details(command));
        return Ok(());
    }
    (command.run)(rest)
}

fn is_help(argument: &str) -> bool {
    matches!(argument, "--help" | "-h")
}

fn find(name: &str) -> Result<&'static Command> {
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => Ok(command),
        None => bail!("there is no command `{name}`\n\n{}", list()),
    }
}

fn list() -> String {
    let mut text = String::from("Usage: cargo xtask <command> [arguments]\n\nCommands:\n");
    for command in &COMMANDS {
        text.push_str(&format!("  {:<11} {}\n", command.name, command.summary));
    }
    text.push_str("\n`cargo xtask <command> --help` says more.\n");
    text
}

fn details(command: &Command) -> String {
    format!(
        "{}\n\nUsage: cargo xtask {}\n\n{}\n",
        command.summary, command.usage, command.details
    )
}

#[expect(clippy::print_stdout, reason = "help that was asked for is the command's result")]
fn print(text: &str) {
    print!("{text}");
}

/// Fails on any argument, for commands that take none.
fn no_arguments(command: &str, arguments: &[String]) -> Result<()> {
    match arguments.first() {
        Some(argument) => bail!("`{command}` takes no arguments; got `{argument}`"),
        None => Ok(()),
    }
}

fn demo(arguments: &[String]) -> Result<()> {
    guests::build(guests::Kind::Shipped)?;
    let tollgate = step("build the server", || built("tollgate", "tollgate"))?;
    let mut tollgate = program(tollgate);
    exec(tollgate.arg("demo").args(passed_on(arguments)))
}

fn campaign(arguments: &[String]) -> Result<()> {
    // The points at which it dies are compiled only into a build with debug assertions.
    let needs_points = passed_on(arguments).first().is_some_and(|name| name == "points");
    let profile = if needs_points { Profile::Debug } else { Profile::Release };
    run_built(profile, "tollgate-tests", "campaign", arguments)
}

/// How cargo builds, and where it puts what it built.
#[derive(Clone, Copy)]
enum Profile {
    Debug,
    Release,
}

/// Builds the server and one binary of the tests crate, then becomes that binary.
fn run_built(profile: Profile, package: &str, binary: &str, arguments: &[String]) -> Result<()> {
    guests::build(guests::Kind::Hostile)?;
    let (name, flags): (_, &[&str]) = match profile {
        Profile::Debug => ("debug", &[]),
        Profile::Release => ("release", &["--release"]),
    };
    // One cargo call, so that both are built with one set of features and nothing is compiled twice.
    step(&format!("build the server and `{binary}` ({name})"), || {
        let packages = ["tollgate", package, "tollgate-test-disk"];
        run(cargo(&["build", "--locked", "--lib"])
            .args(flags)
            .args(packages.iter().flat_map(|package| ["--package", package]))
            .args(["--bin", "tollgate", "--bin", binary]))
    })?;
    let folder = target_dir().join(name);
    let mut tests = program(folder.join(binary));
    tell_where(&mut tests, &folder);
    exec(tests.args(passed_on(arguments)))
}

/// `cargo xtask demo -- --once` and `cargo xtask demo --once` mean the same.
fn passed_on(arguments: &[String]) -> &[String] {
    match arguments {
        [dashes, rest @ ..] if dashes == "--" => rest,
        all => all,
    }
}
