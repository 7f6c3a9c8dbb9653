//! Subjects: whether they belong to a tenant or to one source (promises T3, T4).
//!
//! A subject is a name that a source gives to what its events are about. Two sources of one tenant may use one name for two things, and each
//! is believed by its own secret only: so a subject belongs to its source, unless the tenant says that sources share a family.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::ids::{FamilyName, SourceName};

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
