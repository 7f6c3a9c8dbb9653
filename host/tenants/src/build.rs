//! The folder of the pieces.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tollgate_core::ids::TenantName;

use crate::form::{Intake, Work, encode};
use crate::{BUILT, file};

/// Why the pieces were not built. What was there before stays.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot {what} {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// What is wrong with a tenant's file, and what it would have to say.
    #[error("{}: {problem}", path.display())]
    Tenant { path: PathBuf, problem: String },
}

/// What was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Built {
    pub tenants: usize,
    pub sources: usize,
    /// The app's variables that the sources name, and those that the destinations name.
    pub intake_variables: BTreeSet<String>,
    pub work_variables: BTreeSet<String>,
    /// Whether any piece is not as it was before.
    pub changed: bool,
}

/// Reads every tenant's file in `folder` and writes the pieces into its folder [`BUILT`]. A piece appears whole or not at all, one
/// that is as it was is not touched, and one whose source is gone goes. With `write` unset nothing is written: the answer says
/// whether something would be.
///
/// # Errors
/// When a file cannot be read or written, or is no tenant's. Everything is read before anything is written.
pub fn build(folder: &Path, write: bool) -> Result<Built, BuildError> {
    let mut pieces: Vec<(String, Vec<u8>)> = Vec::new();
    let mut built = Built::default();
    for path in listed(folder)? {
        if path.extension().is_none_or(|extension| extension != "toml") || !path.is_file() {
            continue;
        }
        let problem = |problem: String| BuildError::Tenant {
            path: path.clone(),
            problem,
        };
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let name: TenantName = name.parse().map_err(|error| problem(format!("its name: {error}")))?;
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        let tenant = file::read(&text, &|own| read_own(folder, own)).map_err(problem)?;
        let unwritten = |error: postcard::Error| problem(error.to_string());
        for (source, intake) in &tenant.sources {
            built
                .intake_variables
                .extend(intake.variables().map(|variable| variable.0.clone()));
            pieces.push((Intake::file_name(&name, source), encode(intake).map_err(unwritten)?));
        }
        pieces.push((Work::file_name(&name), encode(&tenant.work).map_err(unwritten)?));
        built
            .work_variables
            .extend(tenant.work.variables().map(|variable| variable.0.clone()));
        built.tenants += 1;
        built.sources += tenant.sources.len();
    }
    built.changed = put(&pieces, &folder.join(BUILT), write)?;
    Ok(built)
}

/// The text of a file that a tenant's file names: one in the tenants' folder, wherever links and dots lead. Whoever writes a tenant's
/// file need not be who builds the app.
fn read_own(folder: &Path, own: &str) -> io::Result<String> {
    let outside = || io::Error::other("it lies outside the tenants' folder");
    let folder = fs::canonicalize(folder)?;
    // Of what lies outside nothing is told, not even whether it is there.
    let real = fs::canonicalize(folder.join(own)).map_err(|error| {
        let stays = !Path::new(own).is_absolute() && !own.split('/').any(|part| part == "..");
        if stays { error } else { outside() }
    })?;
    if !real.starts_with(&folder) {
        return Err(outside());
    }
    fs::read_to_string(real)
}

fn put(pieces: &[(String, Vec<u8>)], folder: &Path, write: bool) -> Result<bool, BuildError> {
    if write {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
    } else if !folder.exists() {
        return Ok(!pieces.is_empty());
    }
    let mut changed = false;
    for (name, bytes) in pieces {
        let path = folder.join(name);
        if fs::read(&path).ok().as_ref() != Some(bytes) {
            changed = true;
            if write {
                let part = folder.join(format!("{name}.part"));
                fs::write(&part, bytes).map_err(failed("write", &part))?;
                fs::rename(&part, &path).map_err(failed("write", &path))?;
            }
        }
    }
    let names: BTreeSet<_> = pieces.iter().map(|(name, _)| folder.join(name)).collect();
    for path in listed(folder)? {
        let is_piece = path.extension().is_some_and(|kind| kind == "source" || kind == "work");
        if is_piece && !names.contains(&path) {
            changed = true;
            if write {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
    }
    Ok(changed)
}

/// What is in a folder, by name.
fn listed(folder: &Path) -> Result<BTreeSet<PathBuf>, BuildError> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(failed("list", folder))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::File { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str =
        "[sources.shop]\nprovider = \"stripe\"\nsecrets = [{ id = \"s\", value = { env = \"SHOP_SECRET\" } }]\n";

    #[test]
    fn a_route_forwards_or_runs_a_plugin_and_a_destination_has_headers_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let destination =
            "[destinations.books]\nurl = \"https://books.example/\"\nsecrets = [{ env = \"ACME_BOOKS\" }]\n";
        let headers = "headers = { X-Team = \"a\", Authorization = { env = \"ACME_BEARER\" } }\ntimeout_ms = 500\n";
        let forward = "[routes.archive]\nforward = \"body\"\ndestinations = [\"books\"]\n";
        let look = |text: &str| {
            fs::write(folder.path().join("acme.toml"), format!("{SHOP}{text}")).unwrap();
            build(folder.path(), true)
        };
        let built = look(&format!("{destination}{headers}{forward}")).unwrap();
        assert!(
            built.work_variables.contains("acme_bearer"),
            "{:?}",
            built.work_variables
        );
        let piece = fs::read(folder.path().join(BUILT).join("acme.work")).unwrap();
        let work = crate::Work::decode(&piece).unwrap();
        assert_eq!(work.routes[0].forward, Some(tollgate_core::forward::ForwardForm::Body));
        let books = work.destinations.values().next().unwrap();
        assert_eq!((books.timeout_ms, books.headers.len()), (500, 2));
        for (text, says) in [
            (
                format!("{destination}{forward}plugin = \"cashback\"\n"),
                "either `plugin` or `forward`",
            ),
            (
                format!("{destination}[routes.archive]\ndestinations = [\"books\"]\n"),
                "either `plugin` or `forward`",
            ),
            (
                "[routes.archive]\nforward = \"body\"\n".to_owned(),
                "needs `destinations`",
            ),
            (
                format!("{destination}headers = {{ webhook-id = \"a\" }}\n"),
                "is Tollgate's own",
            ),
            (
                format!("{destination}headers = {{ Authorization = \"Bearer a\" }}\n"),
                "the secret itself stands",
            ),
            (format!("{destination}timeout_ms = 5\n"), "out of bounds"),
        ] {
            let error = look(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn pieces_are_those_of_the_files_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let pieces = || -> Vec<String> {
            let listed = listed(&folder.path().join(BUILT)).unwrap();
            listed
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
                .collect()
        };
        file("acme.toml", SHOP);
        file("notes.txt", "not a tenant");
        assert!(build(folder.path(), false).unwrap().changed);
        assert!(!folder.path().join(BUILT).exists(), "a look writes nothing");
        let built = build(folder.path(), true).unwrap();
        assert_eq!((built.tenants, built.sources, built.changed), (1, 1, true));
        assert_eq!(built.intake_variables, BTreeSet::from(["shop_secret".to_owned()]));
        assert_eq!(pieces(), ["acme.shop.source", "acme.work"]);
        assert!(!build(folder.path(), true).unwrap().changed);

        // One file is wrong: nothing of any is written.
        file("acme.toml", &SHOP.replace("sources.shop", "sources.store"));
        file("other.toml", "colour = 1\n");
        let error = build(folder.path(), true).unwrap_err().to_string();
        assert!(error.contains("other.toml: line 1: unknown field `colour`"), "{error}");
        assert_eq!(pieces(), ["acme.shop.source", "acme.work"]);

        file("other.toml", "");
        assert!(build(folder.path(), false).unwrap().changed);
        build(folder.path(), true).unwrap();
        assert_eq!(pieces(), ["acme.store.source", "acme.work", "other.work"]);
    }

    /// What a file says wrongly is named, and never by quoting its line: a secret may stand where it should not.
    #[test]
    fn a_file_that_is_wrong_is_refused() {
        for (from, to, expect) in [
            (
                "env = \"SHOP_SECRET\"",
                "file = \"hunter2\"",
                "line 3: unknown field `file`",
            ),
            ("\"stripe\"", "\"nobody\"", "source shop: there is no provider `nobody`"),
            (
                "provider = \"stripe\"",
                "profile = { file = \"own.toml\" }",
                "source shop: its profile own.toml cannot be read",
            ),
            (
                "provider = \"stripe\"\n",
                "provider = \"stripe\"\nallow_networks = [\"10.0.0.0/8\"]\n",
                "source shop: `allow_networks` cannot be held on Spin",
            ),
            (
                "provider = \"stripe\"\n",
                "provider = \"stripe\"\npublished_keys = [\"a\"]\n",
                "source shop: `published_keys` cannot be held on Spin",
            ),
            (
                "provider = \"stripe\"\n",
                "provider = \"stripe\"\nparameters = { colour = \"red\" }\n",
                "source shop: `stripe` has no parameter `colour`",
            ),
        ] {
            let text = SHOP.replace(from, to);
            assert_ne!(text, SHOP, "{from}");
            let missing = |_: &str| Err(io::Error::from(io::ErrorKind::NotFound));
            let problem = file::read(&text, &missing).unwrap_err();
            assert!(problem.contains(expect) && !problem.contains("hunter2"), "{problem}");
        }
    }

    #[test]
    fn what_waits_for_a_renamed_destination_goes_where_it_is_now() {
        let text = "[destinations.books]\nurl = \"https://b.example/\"\nsecrets = [{ env = \"B\" }]\nformerly = [\"ledger\"]\n";
        let missing = |_: &str| Err(io::Error::from(io::ErrorKind::NotFound));
        let tenant = file::read(text, &missing).unwrap();
        let names: Vec<_> = tenant.work.destinations.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["books", "ledger"]);
        assert_eq!(tenant.work.destinations["ledger"].url, "https://b.example/");
    }

    #[test]
    fn a_profile_is_read_in_the_tenants_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        let tenants = folder.path().join("tenants");
        fs::create_dir_all(tenants.join("profiles")).unwrap();
        for name in ["tenants/profiles/own.toml", "outside.toml"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(folder.path().join("outside.toml"), tenants.join("link.toml")).unwrap();
        let outside = folder.path().join("outside.toml").display().to_string();
        for own in ["profiles/own.toml", "./profiles/../profiles/own.toml"] {
            assert_eq!(read_own(&tenants, own).unwrap(), "tenants/profiles/own.toml", "{own}");
        }
        for own in [
            outside.as_str(),
            "../outside.toml",
            "../none.toml",
            "link.toml",
            "/etc/passwd",
            "/etc/none",
        ] {
            let refused = read_own(&tenants, own).unwrap_err().to_string();
            assert_eq!(refused, "it lies outside the tenants' folder", "{own}");
        }
        assert_eq!(
            read_own(&tenants, "none.toml").unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
