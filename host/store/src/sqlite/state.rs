//! Plugin state ahead of what readers see: what settlements wrote since the last commit, and some of what they wrote before.
//!
//! The writer alone puts values in, so none of them is ever old.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tollgate_core::ids::{PluginName, TenantName};
use tollgate_core::state::StateValue;

use super::transaction::StateChange;

/// Bytes of keys and values beyond which all of it is forgotten with the next commit.
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct StateAhead(Mutex<Values>);

#[derive(Debug, Default)]
struct Values {
    by_key: HashMap<String, StateValue>,
    /// Put in since it was empty.
    bytes: usize,
}

impl StateAhead {
    /// What the writer left under a key, if it is still known here.
    pub(super) fn get(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Option<StateValue> {
        let name = name(tenant, plugin, key);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .by_key
            .get(&name)
            .cloned()
    }

    /// Before anybody is answered.
    pub(super) fn put(&self, changes: Vec<StateChange>) {
        if changes.is_empty() {
            return;
        }
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            let name = name(&change.tenant, &change.plugin, &change.key);
            values.bytes += name.len() + change.value.value.as_ref().map_or(0, Vec::len);
            values.by_key.insert(name, change.value);
        }
    }

    /// After a commit: readers see all of it.
    pub(super) fn committed(&self) {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.bytes > BYTES_MAX {
            *values = Values::default();
        }
    }
}

/// No name of a tenant or a plugin has a slash.
fn name(tenant: &TenantName, plugin: &PluginName, key: &str) -> String {
    format!("{tenant}/{plugin}/{key}")
}
