//! `tollgate plugin new`: a project that builds and passes at once.
//!
//! What is written are the examples of `guest-plugins/examples` under another name, with the contract beside them and, for Rust,
//! the SDK. So what an author starts from is what the tests build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tollgate_core::ids::PluginName;

use super::super::show::{BOLD, DIM, GOOD};
use super::super::{Exit, Usage, print_json};
use super::project::Language;

/// The contract with plugins, of this release.
pub(super) const CONTRACT: &str = include_str!("../../../../wit/tollgate.wit");
/// What the examples are called.
const EXAMPLE: &str = "loyalty";
/// The same where Rust names a type.
const EXAMPLE_TITLE: &str = "Loyalty";

/// A file of a project: its place there, and its text.
type File = (&'static str, &'static str);

macro_rules! files {
    ($from:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../guest-plugins/", $from, "/", $name)))),+]
    };
}

const RUST: &[File] = files!("examples/rust":
    ".cargo/config.toml",
    ".gitignore",
    "Cargo.toml",
    "README.md",
    "manifest.json",
    "src/lib.rs",
);
const JS: &[File] =
    files!("examples/js": ".gitignore", "README.md", "manifest.json", "package.json", "plugin.js", "tollgate.d.ts");
const PYTHON: &[File] = files!("examples/python":
    ".gitignore",
    "README.md",
    "manifest.json",
    "plugin.py",
    "requirements.txt",
);
const FIXTURES: &[File] = files!("examples/fixtures":
    "a-completed-order-earns-its-share.json",
    "a-large-amount-keeps-every-unit.json",
    "a-pending-order-is-refused.json",
    "a-used-up-limit-refuses.json",
    "a-wrong-configuration-is-held.json",
    "an-event-without-a-customer-is-held.json",
    "the-limit-cuts-the-last-credit.json",
    "the-same-order-again-earns-the-same.json",
);
const SDK: &[File] = files!("sdk":
    "Cargo.toml",
    "src/arena.rs",
    "src/config.rs",
    "src/event.rs",
    "src/failure.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/manifest.rs",
    "src/pointer.rs",
    "src/proposal.rs",
    "src/state.rs",
    "src/testing.rs",
);
/// Where the SDK lies in a project: the contract is two folders above it, as in the repository.
const SDK_FOLDER: &str = "vendor/tollgate-plugin";
const SDK_IN_REPOSITORY: &str = "../../sdk";

#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 the project is there, 2 the name cannot be, or the folder is not empty.")]
pub(crate) struct Args {
    /// The plugin's name, and the folder's: a-z, 0-9, - and _, beginning with a letter
    name: String,
    /// The language to write it in
    #[arg(long, value_enum)]
    lang: Language,
    /// The project's folder; without it, the plugin's name
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let name = PluginName::new(&args.name).map_err(|error| Usage(error.to_string()))?;
    if !name.as_str().starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(Usage(format!(
            "`{name}` must begin with a letter: a crate's or a package's name cannot begin otherwise"
        ))
        .into());
    }
    let folder = args.folder.clone().unwrap_or_else(|| name.as_str().into());
    if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Usage(format!("{} is not empty", folder.display())).into());
    }
    let files = project(&name, args.lang);
    for (path, text) in &files {
        write(&folder.join(path), text)?;
    }
    if args.json {
        let files: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        print_json(&serde_json::json!({ "name": name, "folder": folder, "files": files }))?;
        return Ok(Exit::Yes);
    }
    let source = match args.lang {
        Language::Rust => "src/lib.rs",
        Language::Js => "plugin.js",
        Language::Python => "plugin.py",
    };
    anstream::println!(
        "{GOOD}made{GOOD:#} {BOLD}{}{BOLD:#}; the rule is in {source}\n\n  cd {}\n  tollgate plugin test     \
         {DIM}# builds it, and runs fixtures/*.json{DIM:#}",
        folder.display(),
        folder.display()
    );
    Ok(Exit::Yes)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Every file of a new project.
fn project(name: &PluginName, language: Language) -> Vec<(String, String)> {
    let title: String = name.as_str().split(['-', '_']).map(capitalised).collect();
    let renamed = |text: &str| text.replace(EXAMPLE, name.as_str()).replace(EXAMPLE_TITLE, &title);
    let own = match language {
        Language::Rust => RUST,
        Language::Js => JS,
        Language::Python => PYTHON,
    };
    let mut files: Vec<(String, String)> = own
        .iter()
        .map(|(path, text)| ((*path).to_owned(), renamed(text).replace(SDK_IN_REPOSITORY, SDK_FOLDER)))
        .collect();
    files.extend(
        FIXTURES
            .iter()
            .map(|(path, text)| (format!("fixtures/{path}"), renamed(text))),
    );
    files.push(("wit/tollgate.wit".to_owned(), CONTRACT.to_owned()));
    if language == Language::Rust {
        files.extend(
            SDK.iter()
                .map(|(path, text)| (format!("{SDK_FOLDER}/{path}"), (*text).to_owned())),
        );
    }
    files
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files under a folder of guest-plugins that are under version control, by their place there.
    fn tracked(folder: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../guest-plugins")
            .join(folder);
        let output = std::process::Command::new("git")
            .args(["ls-files"])
            .current_dir(root)
            .output()
            .expect("git starts");
        let text = String::from_utf8(output.stdout).expect("names are UTF-8");
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    #[test]
    fn every_file_of_the_examples_and_the_sdk_is_written() {
        for (folder, files) in [
            ("examples/rust", RUST),
            ("examples/js", JS),
            ("examples/python", PYTHON),
            ("examples/fixtures", FIXTURES),
            ("sdk", SDK),
        ] {
            let mut written: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
            written.sort_unstable();
            assert_eq!(written, tracked(folder), "{folder}");
        }
    }

    #[test]
    fn a_project_has_its_own_name_everywhere() {
        let name = PluginName::new("two-words").expect("a name");
        for language in Language::ALL {
            let files = project(&name, language);
            assert!(files.iter().any(|(path, _)| path == language.mark()));
            let ignored = files.iter().find(|(path, _)| path == ".gitignore");
            assert!(ignored.is_some_and(|(_, text)| text.lines().any(|line| line == "*.key")));
            for (path, text) in &files {
                assert!(!text.to_lowercase().contains(EXAMPLE), "{path}");
                assert!(!text.contains(SDK_IN_REPOSITORY), "{path}");
            }
        }
        let rust = project(&name, Language::Rust);
        let source = rust
            .iter()
            .find(|(path, _)| path == "src/lib.rs")
            .map(|(_, text)| text.as_str());
        assert!(source.is_some_and(|text| text.contains("struct TwoWords;")));
    }
}
