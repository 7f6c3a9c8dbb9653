//! Subjects: whether they belong to a tenant or to one source (promises T3, T4).
//!
//! A subject is a name that a source gives to what its events are about. Two sources of one tenant may use one name for two things, and each
//! is believed by its own secret only: so a subject belongs to its source, unless the tenant says that sources share a family.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::event::Event;
use crate::ids::{FamilyName, SourceName, TenantName};
use crate::secret::Secret;

/// Who else means the same by the subject of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// The subject is its source's own: no other source moves it.
    #[default]
    Source,
    /// The subject is the same for all sources that share the family.
    Shared,
}

impl Scope {
    /// The source that is part of the subject's name, if one is.
    pub fn source(self, event: &Event) -> Option<&SourceName> {
        match self {
            Self::Source => Some(&event.source),
            Self::Shared => None,
        }
    }
}

/// Names a subject within its (tenant, family), and within its source where it is that source's own: HMAC-SHA-256 under the store's own key
/// over the length-prefixed parts, cut to 16 bytes. The key keeps a sender from choosing two subjects that share one name.
pub fn key(
    store_key: &Secret,
    tenant: &TenantName,
    family: Option<&str>,
    source: Option<&SourceName>,
    subject: &str,
) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(store_key.expose()).expect("HMAC takes a key of any length");
    // The label has blanks, which no tenant's name has: no receipt's id is made of these parts.
    let parts = ["tollgate subject 1", tenant.as_str(), family.unwrap_or(""), subject];
    for part in parts.into_iter().chain(source.map(SourceName::as_str)) {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part.as_bytes());
    }
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    let mut key = [0; 16];
    key.copy_from_slice(&full[..16]);
    key
}

/// The families that sources of a tenant share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing(pub BTreeMap<FamilyName, BTreeSet<SourceName>>);

impl Sharing {
    /// The scope of the subject that an event is about.
    pub fn scope(&self, event: &Event) -> Scope {
        let sharing = event.reading.family().and_then(|family| self.0.get(family));
        match sharing {
            Some(sources) if sources.contains(&event.source) => Scope::Shared,
            Some(_) | None => Scope::Source,
        }
    }
}
