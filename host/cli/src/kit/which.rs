//! Which plugin a command is about: a project's folder, which is built first where a source is newer, or a component that somebody
//! else built.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tollgate_sandbox::{CacheDir, Plugin};

use super::super::{Refused, read};
use super::build;
use super::project::{COMPONENT, MANIFEST, Project, compiled, sandbox};

/// What a build never reads.
const NO_SOURCES: [&str; 6] = [
    "fixtures",
    "node_modules",
    "target",
    "__pycache__",
    COMPONENT,
    "README.md",
];

/// Which plugin.
#[derive(clap::Args)]
pub(super) struct Which {
    /// A project's folder, or a component (.wasm)
    #[arg(default_value = ".")]
    pub(super) path: PathBuf,
}

impl Which {
    /// The component's file; a project is built first when a source is newer.
    pub(super) fn component(&self) -> anyhow::Result<PathBuf> {
        if !self.path.is_dir() {
            return Ok(self.path.clone());
        }
        let project = Project::open(&self.path)?;
        build_if_older(&project)?;
        Ok(project.component())
    }

    /// When the newest of what a test looks at was changed: sources or the component, and the fixtures in `fixtures`.
    pub(super) fn changed(&self, fixtures: &Path) -> std::io::Result<SystemTime> {
        let plugin = if self.path.is_dir() {
            newest(&self.path)?
        } else {
            fs::metadata(&self.path)?.modified()?
        };
        Ok(plugin.max(newest_in(fixtures)?))
    }

    /// The folder of the project that the plugin belongs to, if it belongs to one.
    pub(super) fn project(&self) -> Option<&Path> {
        let folder = if self.path.is_dir() {
            &self.path
        } else {
            self.path.parent()?
        };
        folder.join(MANIFEST).is_file().then_some(folder)
    }

    /// Where compiled code is kept, for a project.
    pub(super) fn cache(&self) -> anyhow::Result<Option<CacheDir>> {
        self.project().map(compiled).transpose()
    }

    /// The plugin, compiled; a project keeps the compiled code.
    ///
    /// # Errors
    /// When it is refused, with how to mend it.
    pub(super) fn load(&self) -> anyhow::Result<Plugin> {
        let bytes = read(&self.component()?)?;
        let sandbox = sandbox(self.cache()?)?;
        let refused = |refusal| Refused(format!("{} is refused: {refusal}", self.path.display()));
        Ok(sandbox.load(&bytes).map_err(refused)?)
    }
}

/// Builds where a source is newer than the component. What carries golden events goes on carrying the fixtures of now: so what is
/// tested is, byte for byte, what is signed and pushed.
fn build_if_older(project: &Project) -> anyhow::Result<()> {
    let is_golden = fs::read(project.component()).is_ok_and(|component| tollgate_sandbox::carries_golden(&component));
    let built = fs::metadata(project.component()).and_then(|component| component.modified());
    let source = newest(&project.folder).and_then(|source| match is_golden {
        true => Ok(source.max(newest_in(&project.folder.join("fixtures"))?)),
        false => Ok(source),
    });
    if built.is_ok_and(|built| source.is_ok_and(|source| source <= built)) {
        return Ok(());
    }
    let golden = is_golden.then(|| build::golden(project)).transpose()?;
    match build::build(project, golden.as_deref())? {
        Ok(()) => Ok(()),
        Err(refusal) => Err(Refused(format!("the component is refused: {refusal}")).into()),
    }
}

/// When the newest file of a folder without folders in it was changed; the beginning of time where there is no such folder.
fn newest_in(folder: &Path) -> std::io::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder).into_iter().flatten() {
        newest = newest.max(entry?.metadata()?.modified()?);
    }
    Ok(newest)
}

/// When the newest source in a folder was changed.
fn newest(folder: &Path) -> std::io::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name != ".cargo" || NO_SOURCES.contains(&&*name) {
            continue;
        }
        let changed = if entry.file_type()?.is_dir() {
            self::newest(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        newest = newest.max(changed);
    }
    Ok(newest)
}
