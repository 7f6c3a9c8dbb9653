//! A plugin's project: its folder, its fixtures, and the sandbox and limits that it is run with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tollgate_core::fixture::{Fixture, Series, State};
use tollgate_core::limits;
use tollgate_core::manifest::Manifest;
use tollgate_core::state::StateValue;
use tollgate_sandbox::{CacheDir, Compiler, Plugin, Run, RunInput, RunLimits, Sandbox, SandboxOptions, StateSource};

use super::super::{Usage, read};

/// What a project builds.
pub(super) const COMPONENT: &str = "plugin.wasm";
pub(super) const MANIFEST: &str = "manifest.json";
/// What the kit keeps for itself in a project: compiled code, tools' output.
const OWN_FOLDER: &str = ".tollgate";
/// A language that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Language {
    /// Components of some 80 KiB
    Rust,
    /// By QuickJS; components of some 1.6 MiB
    Js,
    /// By CPython; components of some 18 MiB
    Python,
}

impl Language {
    pub(super) const ALL: [Self; 3] = [Self::Rust, Self::Js, Self::Python];

    /// The file that says how a project of this language is built.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Js => "package.json",
            Self::Python => "requirements.txt",
        }
    }
}

/// A plugin under work.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) language: Language,
}

impl Project {
    /// The project in a folder.
    ///
    /// # Errors
    /// When it has none.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        let has = |name: &str| folder.join(name).is_file();
        if !has(MANIFEST) {
            let folder = folder.display();
            return Err(Usage(format!(
                "{folder} holds no plugin: it has no {MANIFEST}; start one with `tollgate plugin new NAME --lang rust`"
            ))
            .into());
        }
        let mut languages = Language::ALL.into_iter().filter(|language| has(language.mark()));
        match (languages.next(), languages.next()) {
            (Some(language), None) => Ok(Self {
                folder: folder.to_owned(),
                language,
            }),
            _ => {
                let marks = Language::ALL.map(Language::mark).join(", ");
                Err(Usage(format!("{} must have one of {marks}, and no second", folder.display())).into())
            }
        }
    }

    pub(super) fn component(&self) -> PathBuf {
        self.folder.join(COMPONENT)
    }

    /// The kit's own folder in the project, made when it is not there.
    pub(super) fn own_folder(&self) -> anyhow::Result<PathBuf> {
        own_folder(&self.folder)
    }

    /// Where the project's compiled code is kept.
    pub(super) fn cache(&self) -> anyhow::Result<CacheDir> {
        compiled(&self.folder)
    }

    pub(super) fn manifest(&self) -> anyhow::Result<Manifest> {
        let path = self.folder.join(MANIFEST);
        let json = read(&path)?;
        Manifest::from_json(&json).map_err(|error| Usage(format!("{}: {error}", path.display())).into())
    }
}

fn own_folder(project: &Path) -> anyhow::Result<PathBuf> {
    let folder = project.join(OWN_FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Where the compiled code of a project's folder is kept.
pub(super) fn compiled(project: &Path) -> anyhow::Result<CacheDir> {
    Ok(CacheDir::new(own_folder(project)?.join("compiled")))
}

/// Time of the kit's compiler. It gives way to all else on the author's machine, who waits for it and has nobody to protect.
const COMPILER_MS_MAX: u64 = 600_000;

/// A sandbox as a host has it, for one run at a time.
pub(super) fn sandbox(cache: Option<CacheDir>) -> anyhow::Result<Sandbox> {
    let mut compiler = tollgate_server::serve::compiler()?;
    if let Compiler::Child { ms_max, .. } = &mut compiler {
        *ms_max = COMPILER_MS_MAX;
    }
    Ok(Sandbox::new(SandboxOptions {
        instances_max: 1,
        cache,
        compiler,
        ..SandboxOptions::default()
    })?)
}

/// The limits of a run, where they are not those that a host has without configuration.
#[derive(clap::Args)]
pub(super) struct Limits {
    /// Fuel of one run
    #[arg(long, value_name = "UNITS", default_value_t = limits::RUN_FUEL)]
    fuel: u64,
    /// Wall-clock time of one run, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = limits::RUN_DEADLINE_MS)]
    deadline_ms: u64,
    /// Memories and tables of one run, in MiB
    #[arg(long, value_name = "MIB", default_value_t = limits::RUN_MEMORY_BYTES_MAX / MIB)]
    memory_mib: usize,
}

pub(super) const MIB: usize = 1024 * 1024;

impl Limits {
    pub(super) fn get(&self) -> RunLimits {
        RunLimits {
            fuel: self.fuel,
            deadline_ms: self.deadline_ms,
            memory_bytes_max: self.memory_mib.saturating_mul(MIB),
            ..RunLimits::default()
        }
    }
}

/// A state that a file gave.
struct Given<'a>(&'a Fixture);

impl StateSource for Given<'_> {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        Ok(self.0.read(key))
    }
}

/// Runs a plugin on what a fixture has. Its state is a host's: nothing is written, only said.
pub(super) fn run(plugin: &Plugin, fixture: &Fixture, limits: &RunLimits) -> Run {
    let input = RunInput {
        event: &fixture.event,
        config_json: &fixture.config_json,
    };
    plugin.run(&input, &Given(fixture), limits)
}

/// The fixtures of a folder by name, with what is wrong with those that cannot be read.
///
/// # Errors
/// When there is no such folder, or no fixture in it.
pub(super) fn fixtures(folder: &Path) -> anyhow::Result<Vec<Named>> {
    let listed = fs::read_dir(folder).map_err(|error| {
        Usage(format!(
            "cannot read {}: {error}; fixtures are JSON files there, or where --fixtures says",
            folder.display()
        ))
    })?;
    let mut named = Vec::new();
    for entry in listed {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = read(&path)?;
        let series = Series::from_json(&text).map_err(|error| error.to_string());
        named.push(Named {
            name,
            path,
            text,
            series,
        });
    }
    named.sort_by(|a, b| a.name.cmp(&b.name));
    if named.is_empty() {
        return Err(Usage(format!("{} has no fixture (NAME.json)", folder.display())).into());
    }
    Ok(named)
}

/// One fixture's file.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) text: Vec<u8>,
    pub(super) series: Result<Series, String>,
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.2 MiB`, `80 KiB`.
pub(super) fn size(bytes: usize) -> String {
    if bytes >= MIB {
        format!("{:.1} MiB", bytes as f64 / MIB as f64)
    } else {
        format!("{} KiB", bytes.div_ceil(1024))
    }
}

/// `0.04 %` of a limit.
pub(super) fn per_cent(part: u64, whole: u64) -> String {
    format!("{:.2} %", part as f64 * 100.0 / whole.max(1) as f64)
}

/// The state that a file of the command line holds.
pub(super) fn read_state(path: &Path) -> anyhow::Result<State> {
    tollgate_core::fixture::state_from_json(&read(path)?)
        .map_err(|error| Usage(format!("{}: {error}", path.display())).into())
}
