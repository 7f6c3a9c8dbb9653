//! What a file's references lead to on this host: its environment and its disk, as far as the file's references reach.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tollgate_core::ids::SecretName;
use tollgate_core::secret::Secret;
use tollgate_tenants::file::{Leave, Owner, Refused, Resolver};

use super::reach::{Kind, Reach, Unopened};

/// The longest file that a secret is read from, in bytes.
const SECRET_BYTES_MAX: u64 = 16 * 1024;
/// The longest file that a configuration may name, in bytes.
const NAMED_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The references of one file.
pub(super) struct References<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    reach: Reach,
    /// Texts of the files that it names, by their paths as written, when it is read as it was at an earlier time.
    kept: Option<&'e BTreeMap<String, String>>,
    /// The same, as they were read now.
    pub(super) read: RefCell<BTreeMap<String, String>>,
    /// Names of the variables that were asked for.
    pub(super) variables: RefCell<BTreeSet<String>>,
}

impl<'e> References<'e> {
    pub(super) fn new(env: &'e dyn Fn(&str) -> Option<String>, reach: Reach) -> Self {
        Self {
            env,
            reach,
            kept: None,
            read: RefCell::default(),
            variables: RefCell::default(),
        }
    }

    /// The same of the file as it was when those that it names had these texts.
    pub(super) fn as_kept<'k>(&self, files: &'k BTreeMap<String, String>) -> References<'k>
    where
        'e: 'k,
    {
        References {
            kept: Some(files),
            ..References::new(self.env, self.reach.clone())
        }
    }
}

impl Resolver for References<'_> {
    fn variable(&self, name: &str) -> Result<Option<Secret>, Refused> {
        self.reach.variable(name)?;
        self.variables.borrow_mut().insert(name.to_owned());
        match (self.env)(name) {
            Some(text) => Ok(Some(Secret::new(text))),
            None => Err(Refused::new(
                format!("the environment variable `{name}` is not set"),
                "set it where Tollgate starts",
            )),
        }
    }

    /// A file that its group or others may write is refused: they could put their own secret there. One that others may read is not,
    /// because that is how orchestrators mount secrets. The file is opened once, and what is read is what was judged.
    fn secret_file(&self, path: &Path) -> Result<Secret, Refused> {
        let unusable =
            |message: &str, help: &str| Refused::new(format!("the secret's file {}: {message}", path.display()), help);
        let unreadable = |error: io::Error| {
            let help = "put the secret there; a relative path starts in the folder of this file";
            unusable(&format!("cannot be read: {error}"), help)
        };
        let (file, _) = self.reach.open(path, Kind::Secret).map_err(|unopened| match unopened {
            Unopened::Refused(refused) => refused,
            Unopened::Io(error) => unreadable(error),
        })?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unusable("is not a file", "name a file that holds the secret"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(unusable("may be written by others", "chmod 600 the file"));
        }
        let mut text = Vec::new();
        file.take(SECRET_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(unreadable)?;
        if text.len() as u64 > SECRET_BYTES_MAX {
            let message = format!("is longer than {SECRET_BYTES_MAX} bytes");
            return Err(unusable(&message, "keep nothing but the secret in it"));
        }
        Ok(Secret::new(text))
    }

    fn stored(&self, _: &SecretName) -> Result<Secret, Refused> {
        Err(Refused::new(
            "what a tenant set by API is referred to in its settings alone, and this is a file",
            format!("write {}", self.example()),
        ))
    }

    fn text(&self, path: &Path, written: &str) -> Result<(String, Owner), Refused> {
        if let Some(kept) = self.kept {
            let text = kept.get(written).cloned();
            let text = text.ok_or_else(|| Refused::new(format!("{written} was not kept"), "mend the file of today"))?;
            return Ok((text, Owner::Own));
        }
        let unreadable = |error: io::Error| {
            let help = "mend the path; a relative one starts in the folder of this file";
            Refused::new(format!("{} cannot be read: {error}", path.display()), help)
        };
        let (file, owner) = self
            .reach
            .open(path, Kind::Profile)
            .map_err(|unopened| match unopened {
                Unopened::Refused(refused) => refused,
                Unopened::Io(error) => unreadable(error),
            })?;
        let text = read_text(file).map_err(unreadable)?;
        self.read.borrow_mut().insert(written.to_owned(), text.clone());
        Ok((text, owner))
    }

    fn fetch_hosts(&self, hosts: &[String]) -> Result<(), Refused> {
        self.reach.fetch_hosts(hosts)
    }

    fn short_secrets(&self) -> Leave {
        self.reach.short_secrets()
    }

    fn example(&self) -> String {
        self.reach.example()
    }
}

fn read_text(file: File) -> io::Result<String> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let read = file.take(NAMED_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > NAMED_FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is longer than {NAMED_FILE_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}
