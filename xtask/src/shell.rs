//! Where things are, and how other programs are started.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // Cargo says at run time where the package is. What it said when this was compiled is wrong where two checkouts share a
    // target directory, so that is only for an xtask that is started without cargo.
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_owned)
}

/// Cargo's target directory: what CARGO_TARGET_DIR names, or `target`.
pub(crate) fn target_dir() -> PathBuf {
    root().join(
        env::var_os("CARGO_TARGET_DIR")
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "target".into()),
    )
}

/// Where built plugins are put.
pub(crate) fn plugins_dir() -> PathBuf {
    target_dir().join("plugins")
}

/// Where the Spin app's components are put.
pub(crate) fn spin_dir() -> PathBuf {
    target_dir().join("spin")
}

/// Where the misbehaving guests are put.
pub(crate) fn hostile_dir() -> PathBuf {
    plugins_dir().join("hostile")
}

/// Says one thing to the person, on stderr.
#[expect(clippy::print_stderr, reason = "a terminal tool speaks on stderr")]
pub(crate) fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Does one named piece of work and says how long it took.
///
/// # Errors
/// The work's own, under its name.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("{what} …"));
    let start = Instant::now();
    let done = work().with_context(|| format!("could not {what}"))?;
    say(&format!("{what}: done in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(done)
}

/// A program to start in the repository's root.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

/// The cargo that runs us, with arguments.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// Tells tests, crash and bench where the server and the plugins are; `profile_dir` is `debug` or `release` of the target
/// directory. The other end is `tests/src/lib.rs`.
pub(crate) fn tell_where(command: &mut Command, profile_dir: &Path) {
    command
        .env("TOLLGATE_BIN", profile_dir.join("tollgate"))
        .env("TOLLGATE_PLUGINS", plugins_dir())
        .env("TOLLGATE_HOSTILE", hostile_dir())
        .env("TOLLGATE_SPIN", spin_dir())
        .env("TOLLGATE_TEST_DISK", profile_dir.join("libtollgate_test_disk.so"))
        .env("TOLLGATE_SPIN_STAND_IN", profile_dir.join("spin-stand-in"));
}

/// Builds a binary for debugging, and returns where it is. Where the tests were built before, it is built as they were: features differ with what is
/// selected, and another set of them compiles wasmtime again.
///
/// # Errors
/// When it does not build.
pub(crate) fn built(package: &str, binary: &str) -> Result<PathBuf> {
    let selected: &[&str] = match tests_are_built().exists() {
        true => &["--workspace", "--test", "e2e"],
        false => &["--package", package],
    };
    run(cargo(&["build", "--locked", "--bin", binary]).args(selected))?;
    Ok(target_dir().join("debug").join(binary))
}

/// A file that says that the workspace was built with its tests.
pub(crate) fn tests_are_built() -> PathBuf {
    target_dir().join("debug/tests-are-built")
}

/// Runs a program to its end; its output goes where ours goes.
///
/// # Errors
/// When it cannot be started or does not end with status 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    check(command, status)
}

/// Runs a program to its end and gives its stdout; its stderr goes where ours goes.
///
/// # Errors
/// As [`run`].
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    check(command, output.status)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Becomes the program, so that signals and its exit status are its own.
///
/// # Errors
/// When it cannot be started; otherwise this does not return.
#[cfg(unix)]
pub(crate) fn exec(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", name(command)))
}

/// Where a process cannot become another: runs it and passes its failure on.
#[cfg(not(unix))]
pub(crate) fn exec(command: &mut Command) -> Result<()> {
    run(command)
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("`{} {}` failed ({status})", name(command), arguments.join(" "));
    }
    Ok(())
}

/// The program's file name: its whole path is noise in a message.
fn name(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
