//! Secrets as a type: they compare in constant time, wipe themselves, and never print.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::ids::KeyId;
use crate::time::UnixMillis;

/// Bytes that must not be seen. `Debug` and `Display` show nothing of them, not even their length.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Keeps the bytes; they are wiped when the last copy is dropped.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves, for computing with them. Never log the result.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Compares in time that depends on the lengths only.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a source says beside its secrets, by the name that its profile gives it. Some of it is secret, so all of it is kept so.
pub type Parameters = std::collections::BTreeMap<String, Secret>;

/// For a source that says nothing beside its secrets.
pub static NO_PARAMETERS: Parameters = Parameters::new();

/// One of a source's secrets as configured, with the window in which it may verify.
#[derive(Debug, Clone)]
pub struct SourceSecret {
    /// What the proof of a request names it by.
    pub id: KeyId,
    /// The text as the provider shows it, prefix included. The profile says how it becomes a key.
    pub text: Secret,
    /// Verifies from this instant on; always until `not_after` when absent.
    pub not_before: Option<UnixMillis>,
    /// Verifies before this instant; for ever when absent.
    pub not_after: Option<UnixMillis>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("whsec_hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert!(secret.matches(b"whsec_hunter2"));
        assert!(!secret.matches(b"whsec_hunter3"));
        assert!(!secret.matches(b""));
    }
}
