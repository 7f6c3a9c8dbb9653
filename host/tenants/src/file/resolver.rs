//! What the references of a file lead to. The reader has neither an environment nor a disk: whoever reads files gives it this.

use std::path::Path;

use tollgate_core::ids::SecretName;
use tollgate_core::secret::Secret;

/// The environment and the files that one file may refer to. Nothing here tells of what is out of its reach whether it is there.
pub trait Resolver {
    /// The secret that a variable holds. `None`: where the tenant runs it will hold one.
    ///
    /// # Errors
    /// When the variable is not the file's to name, or holds nothing.
    fn variable(&self, name: &str) -> Result<Option<Secret>, Refused>;

    /// The secret that a file holds.
    ///
    /// # Errors
    /// When the file is out of reach, or may not hold a secret.
    fn secret_file(&self, path: &Path) -> Result<Secret, Refused>;

    /// The secret of this name that the tenant set by API.
    ///
    /// # Errors
    /// When the file may not refer to one, or there is none that can be read.
    fn stored(&self, name: &SecretName) -> Result<Secret, Refused>;

    /// The text of the small file at `path`, which the reference writes as `written`, and whose it is.
    ///
    /// # Errors
    /// When it is out of reach or cannot be read.
    fn text(&self, path: &Path, written: &str) -> Result<(String, Owner), Refused>;

    /// Checks the hosts that a profile of the file's own fetches keys from.
    ///
    /// # Errors
    /// Names the first host that it may not ask.
    fn fetch_hosts(&self, hosts: &[String]) -> Result<(), Refused>;

    /// Whether secrets may be short.
    fn short_secrets(&self) -> Leave;

    /// How a reference to a secret is written here, for messages.
    fn example(&self) -> String;
}

/// Why a reference is not followed, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, for whoever wrote the file.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// Whose a file is that a reader may be shown lines of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The file belongs to whoever wrote the reference.
    Own,
    /// Somebody else put it there: its lines are shown to nobody.
    Foreign,
}

/// Whether something is let through that is refused by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leave {
    /// It is refused.
    #[default]
    Refused,
    /// It is let through.
    Given,
}

impl Refused {
    /// A refusal.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: help.into(),
        }
    }
}
