//! Static credentials: a shared text in a header. It proves who sent a request, and nothing of what the request says.

use super::keys::{Keyring, Wanted, spelled};
use super::message::{Candidate, Message, Tag};
use super::{Found, Strictness, Unproven, single};
use crate::profile::{CredentialKind, CredentialRule, Profile};
use crate::request::RawRequest;
use crate::secret::Secret;

/// A credential that a source may ask for beside a signature (promise I7).
#[derive(Debug, Clone)]
pub struct Credential {
    header: String,
    kind: CredentialKind,
    /// What the header says after its scheme.
    expected: Secret,
}

impl Credential {
    /// `Authorization: Bearer TOKEN`.
    pub fn bearer(token: &Secret) -> Self {
        Self::authorization(CredentialKind::Bearer, token.expose())
    }

    /// `Authorization: Basic …` (RFC 7617). A user's name has no colon.
    pub fn basic(user: &str, password: &Secret) -> Self {
        let pair = zeroize::Zeroizing::new([user.as_bytes(), b":", password.expose()].concat());
        Self::authorization(CredentialKind::Basic, &pair)
    }

    /// A header with this value. `name` is lower case.
    pub fn header(name: &str, value: &Secret) -> Self {
        Self {
            header: name.to_owned(),
            kind: CredentialKind::Value,
            expected: value.clone(),
        }
    }

    fn authorization(kind: CredentialKind, key: &[u8]) -> Self {
        Self {
            header: "authorization".into(),
            kind,
            expected: spelled(kind, key),
        }
    }

    /// Whether a request carries it; compared in constant time.
    ///
    /// # Errors
    /// When the header is missing, came more than once, or says something else.
    pub fn check(&self, request: &RawRequest<'_>) -> Result<(), Unproven> {
        let offered = offered(self.kind, single(request, &self.header)?);
        match offered.filter(|offered| self.expected.matches(offered)) {
            Some(_) => Ok(()),
            None => Err(Unproven::WrongCredential {
                header: self.header.clone(),
            }),
        }
    }
}

/// The credential in a header's value: all of it, or what follows the scheme, whose case does not matter (RFC 9110, section 11.1).
fn offered(kind: CredentialKind, value: &[u8]) -> Option<&[u8]> {
    let scheme: &[u8] = match kind {
        CredentialKind::Bearer => b"bearer ",
        CredentialKind::Basic => b"basic ",
        CredentialKind::Value => return Some(value),
    };
    let (before, after) = value.split_at_checked(scheme.len())?;
    before.eq_ignore_ascii_case(scheme).then_some(after)
}

pub(super) fn attempt(
    profile: &Profile,
    rule: &CredentialRule,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    let header = rule.header.in_set(0);
    let wrong = || Unproven::WrongCredential {
        header: header.to_owned(),
    };
    let offered = offered(rule.kind, single(request, header)?).ok_or_else(wrong)?;
    let candidates = [Candidate {
        scheme: 0,
        tag: Tag::new(offered),
    }];
    let wanted = Wanted {
        candidates: &candidates,
        name: None,
        anonymous: false,
        active_at: strictness.windows.then_some(request.received_at),
    };
    let key = keyring
        .find(profile, &wanted, &Message::new(Vec::new()))
        .map_err(|tried| if tried == 0 { Unproven::NoActiveSecret } else { wrong() })?;
    Ok(Found {
        key_id: key.id.clone(),
        scheme: key.scheme,
        signed_at: None,
        header_set: 0,
        minified: None,
        format: profile.event.body,
        messages: Vec::new(),
    })
}
