//! `tollgate plugin build`: the language's own tools make a component, which gets its manifest and is vetted.
//!
//! What the tools need comes from the language's package registry, at the versions that the project pins, into the project's folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use tollgate_sandbox::Refusal;

use super::super::{Exit, Refused, Usage, read};
use super::new::CONTRACT;
use super::project::{Language, Project, fixtures, sandbox};
use super::vetting;

/// What a plugin in Rust is built for: no WASI at all.
const TARGET: &str = "wasm32-unknown-unknown";
const WORLD: &str = "processor";
/// What a plugin in JavaScript is written in.
const JS_SOURCE: &str = "plugin.js";

#[derive(clap::Args)]
#[command(
    after_help = "Rust is built by cargo, JavaScript by componentize-qjs (npm), Python by componentize-py (pip in .venv).\n\n\
                        Exit status: 0 plugin.wasm is there and a host would take it, 1 it does not build or is refused."
)]
pub(crate) struct Args {
    /// The project's folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Put the fixtures into the component as its golden events: a host tries them before it takes the component in. Later builds
    /// by `test` and the others keep them, and take in fixtures that changed
    #[arg(long)]
    golden: bool,
    /// Print what was built as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let project = Project::open(&args.folder)?;
    let golden = args.golden.then(|| golden(&project)).transpose()?;
    // What a host tries before it takes the component in is tried here as well, so that `build` and `check` say the same.
    let proved = match build(&project, golden.as_deref())? {
        Ok(()) => vetting::prove(&sandbox(Some(project.cache()?))?, &project.component())?,
        Err(refusal) => Err(refusal),
    };
    vetting::tell(&project.component().display().to_string(), proved, args.json)
}

/// Builds a project and vets what came of it. Only a component that starts becomes the project's; how its golden events end is not
/// looked at, so that `test` can show it.
///
/// # Errors
/// When a tool is missing or fails, with what it said.
pub(super) fn build(project: &Project, golden: Option<&[u8]>) -> anyhow::Result<Result<(), Refusal>> {
    let manifest = project.manifest()?;
    let own = project.own_folder()?;
    let made = own.join("component.wasm");
    let component = match project.language {
        Language::Rust => read(&rust(&project.folder)?)?,
        Language::Js => {
            javascript(&project.folder, &contract(project, &own)?, &made)?;
            read(&made)?
        }
        Language::Python => {
            python(&project.folder, &contract(project, &own)?, &made)?;
            read(&made)?
        }
    };
    // The SDK's macro has embedded it already.
    let component = match project.language {
        Language::Rust => Ok(component),
        Language::Js | Language::Python => tollgate_sandbox::with_manifest(&component, &manifest),
    };
    let component = component.and_then(|component| match golden {
        Some(golden) => tollgate_sandbox::with_golden(&component, golden),
        None => Ok(component),
    });
    let sandbox = sandbox(Some(project.cache()?))?;
    let vetted = component.and_then(|component| {
        sandbox.vet(&component)?;
        Ok(component)
    });
    Ok(match vetted {
        Ok(component) => {
            // It appears whole or not at all: somebody may be reading the old one.
            let part = own.join("plugin.wasm");
            let to = project.component();
            fs::write(&part, component)
                .and_then(|()| fs::rename(&part, &to))
                .with_context(|| format!("cannot write {}", to.display()))?;
            Ok(())
        }
        Err(refusal) => Err(refusal),
    })
}

/// The project's fixtures as a component's golden events.
///
/// # Errors
/// When there are none, or one cannot be read.
pub(super) fn golden(project: &Project) -> anyhow::Result<Vec<u8>> {
    let mut list = String::new();
    for named in fixtures(&project.folder.join("fixtures"))? {
        if let Err(error) = &named.series {
            return Err(Usage(format!("{}: {error}", named.path.display())).into());
        }
        let name = serde_json::to_string(&named.name)?;
        let text = String::from_utf8_lossy(&named.text);
        list.push_str(if list.is_empty() { "[" } else { "," });
        list.push_str(&format!("{{\"name\":{name},\"fixture\":{text}}}"));
    }
    list.push(']');
    Ok(list.into_bytes())
}

/// The folder of the contract: the project's own, or else the one that this program knows.
fn contract(project: &Project, own: &Path) -> anyhow::Result<PathBuf> {
    let of_project = project.folder.join("wit");
    if of_project.is_dir() {
        return Ok(PathBuf::from("wit"));
    }
    let folder = own.join("wit");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("tollgate.wit"), CONTRACT))
        .with_context(|| format!("cannot write {}", folder.display()))?;
    absolute(&folder)
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))
}

/// Returns the component that cargo made.
fn rust(folder: &Path) -> anyhow::Result<PathBuf> {
    need_target(folder)?;
    say("cargo build");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(&cargo);
    build
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(folder)
        .stderr(Stdio::inherit());
    let output = build
        .output()
        .map_err(|error| missing("cargo", "install Rust with rustup", &error))?;
    if !output.status.success() {
        return Err(Refused("the project does not compile".to_owned()).into());
    }
    let own_manifest = absolute(&folder.join("Cargo.toml"))?;
    let report = String::from_utf8_lossy(&output.stdout);
    let made = report.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        if message["reason"] != "compiler-artifact"
            || message["manifest_path"].as_str().map(Path::new) != Some(own_manifest.as_path())
        {
            return None;
        }
        let files = message["filenames"]
            .as_array()?
            .iter()
            .filter_map(serde_json::Value::as_str);
        files
            .into_iter()
            .find(|file| file.ends_with(".wasm"))
            .map(PathBuf::from)
    });
    made.ok_or_else(|| Usage("cargo made no component: Cargo.toml needs crate-type = [\"cdylib\"]".to_owned()).into())
}

/// Adds the wasm target to the folder's toolchain when it is missing.
fn need_target(folder: &Path) -> anyhow::Result<()> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(folder)
        .output()
        .map_err(|error| missing("rustc", "install Rust with rustup", &error))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        return Ok(());
    }
    say(&format!("rustup target add {TARGET}"));
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(folder)
        .stdout(Stdio::null())
        .status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Usage(format!(
            "this Rust cannot build for {TARGET}; run: rustup target add {TARGET}"
        ))
        .into()),
    }
}

fn javascript(folder: &Path, contract: &Path, made: &Path) -> anyhow::Result<()> {
    // Without it the component is made all the same, and every run ends in a trap that says nothing.
    let source = read(&folder.join(JS_SOURCE))?;
    if !String::from_utf8_lossy(&source).contains("handler") {
        return Err(Refused(format!(
            "{JS_SOURCE} does not export `handler`: `export const handler = {{ process(event, config) {{ … }} }}`"
        ))
        .into());
    }
    let tool = Path::new("node_modules/.bin/componentize-qjs");
    let mark = folder.join("node_modules/.package-lock.json");
    if !folder.join(tool).exists() || is_newer(&folder.join(Language::Js.mark()), &mark) {
        let install = ["install", "--no-audit", "--no-fund", "--loglevel=error"];
        tell(
            "npm install",
            "install Node.js, 18 or newer",
            Command::new("npm").args(install).current_dir(folder),
        )?;
    }
    let mut build = Command::new(absolute(&folder.join(tool))?);
    build
        .args(["--sync", "--stub-wasi", "--world", WORLD, "--js", JS_SOURCE, "--wit"])
        .arg(contract)
        .arg("--output")
        .arg(absolute_new(made)?)
        .current_dir(folder);
    tell("componentize-qjs", "remove node_modules and build again", &mut build)
}

fn python(folder: &Path, contract: &Path, made: &Path) -> anyhow::Result<()> {
    let tool = Path::new(".venv/bin/componentize-py");
    if !folder.join(tool).exists() || is_newer(&folder.join(Language::Python.mark()), &folder.join(tool)) {
        let mend = "install Python, 3.10 or newer, with its venv module";
        tell(
            "python3 -m venv .venv",
            mend,
            Command::new("python3")
                .args(["-m", "venv", ".venv"])
                .current_dir(folder),
        )?;
        let install = [
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--force-reinstall",
            "--requirement",
        ];
        let mut pip = Command::new(absolute(&folder.join(".venv"))?.join("bin/pip"));
        pip.args(install).arg(Language::Python.mark()).current_dir(folder);
        tell("pip install", "remove .venv and build again", &mut pip)?;
    }
    let mut build = Command::new(absolute(&folder.join(".venv"))?.join("bin/componentize-py"));
    build
        .args(["--quiet", "--world", WORLD, "--wit-path"])
        .arg(contract)
        .args(["componentize", "plugin", "--stub-wasi", "--output"])
        .arg(absolute_new(made)?)
        .current_dir(folder);
    tell("componentize-py", "remove .venv and build again", &mut build)
}

/// The absolute path of a file that need not be there yet.
fn absolute_new(file: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(file).with_context(|| format!("cannot find {}", file.display()))
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let changed = |path| fs::metadata(path).and_then(|file| file.modified());
    match (changed(file), changed(than)) {
        (Ok(file), Ok(than)) => file > than,
        _ => true,
    }
}

/// Runs a tool; what it says is shown only when it fails.
fn tell(what: &str, mend: &str, command: &mut Command) -> anyhow::Result<()> {
    say(what);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing(what, mend, &error))?;
    if output.status.success() {
        return Ok(());
    }
    for said in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(said);
        if !said.trim().is_empty() {
            anstream::eprintln!("{}", said.trim_end());
        }
    }
    Err(Refused(format!("`{what}` failed ({})", output.status)).into())
}

fn missing(what: &str, mend: &str, error: &std::io::Error) -> anyhow::Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return Usage(format!("`{what}` cannot be started: {error}; {mend}")).into();
    }
    anyhow::anyhow!("`{what}` cannot be started: {error}")
}

/// What takes a while is announced, on stderr: stdout is the answer's.
fn say(what: &str) {
    let dim = super::super::show::DIM;
    anstream::eprintln!("{dim}{what} …{dim:#}");
}
