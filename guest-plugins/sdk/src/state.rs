//! The plugin's own keyed store, one per (tenant, plugin).
//!
//! The host records what a run read and commits what it wrote together with the run's outcome; when another run changed what
//! was read, the plugin runs again. So runs behave as if they came one after the other.
//!
//! There is no listing of keys: put what has to be found or pruned together under one key, and bound it.
//!
//! # Versions
//!
//! State outlives versions, in both directions: a route may go back to an older version, which then reads what the newer one wrote. So a
//! field that is added later has a default, one that is there keeps its meaning, and fields that are not known are passed over and kept
//! ([`Unknown`]); `deny_unknown_fields` is for configurations. What cannot be done so gets another key (`customer-2/…`), which reads the old one
//! where it has none. `tollgate plugin trial` runs the active version on what the candidate wrote, and says where they part.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::limits::{STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX};

/// Fields of a value that this version of the plugin does not know, so that it gives them back when it writes the value again. A newer version
/// may have run on the route before, and may again:
///
/// ```
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Customer {
///     credited: i64,
///     /// Since version 1.1; what an older version wrote has none.
///     #[serde(default)]
///     tier: u32,
///     #[serde(flatten)]
///     unknown: tollgate_plugin::state::Unknown,
/// }
/// let written_by_a_newer_one = br#"{"credited": 5, "tier": 1, "bonus": 7}"#;
/// let read: Customer = tollgate_plugin::serde_json::from_slice(written_by_a_newer_one).unwrap();
/// assert_eq!(tollgate_plugin::serde_json::to_string(&read).unwrap(), r#"{"credited":5,"tier":1,"bonus":7}"#);
/// ```
pub type Unknown = std::collections::BTreeMap<String, serde_json::Value>;

/// Keyed bytes that outlive the run.
pub trait State {
    /// The value under `key`, or none. Sees this run's own earlier writes.
    fn get(&self, key: &str) -> Option<Vec<u8>>;
    /// Sets `key` when this run commits.
    fn set(&mut self, key: &str, value: &[u8]);
    /// Removes `key` when this run commits.
    fn delete(&mut self, key: &str);
}

/// Typed values, kept as JSON.
impl dyn State + '_ {
    /// The value under `key`, or none.
    ///
    /// # Errors
    /// [`Failure::Hold`] when what is there is not a `T`: an earlier version of the plugin may have written it.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failure> {
        let Some(bytes) = self.get(key) else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Failure::hold(format!(
                "state `{key}` cannot be read by this version of the plugin: {error}"
            ))
        })
    }

    /// Sets `key` when this run commits.
    ///
    /// # Errors
    /// [`Failure::Hold`] when the value is longer than the host takes, or has no JSON form (a map with keys that are no text).
    pub fn set_json<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Failure::hold(format!("state `{key}` has no JSON form: {error}")))?;
        if bytes.len() > STATE_VALUE_BYTES_MAX {
            return Err(Failure::hold(format!(
                "state `{key}` would be {} bytes long; at most {STATE_VALUE_BYTES_MAX} are allowed",
                bytes.len()
            )));
        }
        self.set(key, &bytes);
        Ok(())
    }
}

/// The key `{kind}/{id}`, for example `customer/cust_1`.
///
/// # Errors
/// [`Failure::Hold`] when it would be longer than the host takes; cutting it could let two ids share one value.
pub fn key(kind: &str, id: &str) -> Result<String, Failure> {
    let key = format!("{kind}/{id}");
    if key.len() > STATE_KEY_BYTES_MAX {
        return Err(Failure::hold(format!(
            "the {kind} is named by {} bytes; a state key has room for {}",
            id.len(),
            STATE_KEY_BYTES_MAX - kind.len() - 1
        )));
    }
    Ok(key)
}

/// The host's store. Only a plugin inside a host has one: natively each call panics, and tests use
/// [`crate::testing::MemoryState`].
#[derive(Debug, Clone, Copy)]
pub struct HostState;

impl State for HostState {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        crate::bindings::tollgate::plugin::state::get(key)
    }

    fn set(&mut self, key: &str, value: &[u8]) {
        crate::bindings::tollgate::plugin::state::set(key, value);
    }

    fn delete(&mut self, key: &str) {
        crate::bindings::tollgate::plugin::state::delete(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryState;

    #[test]
    fn typed_values_read_back_and_strange_ones_are_held() {
        let state: &mut dyn State = &mut MemoryState::default();
        assert_eq!(state.get_json::<Vec<u32>>("a"), Ok(None));
        state.set_json("a", &vec![1, 2]).unwrap();
        assert_eq!(state.get_json("a"), Ok(Some(vec![1, 2])));
        state.set("a", b"[1,");
        assert!(
            matches!(state.get_json::<Vec<u32>>("a"), Err(Failure::Hold(message)) if message.starts_with("state `a` cannot be read"))
        );
        state.delete("a");
        assert_eq!(state.get_json::<Vec<u32>>("a"), Ok(None));
        let long = "x".repeat(STATE_VALUE_BYTES_MAX);
        assert!(
            matches!(state.set_json("a", &long), Err(Failure::Hold(_))),
            "the quotes make it too long"
        );
        assert_eq!(state.get("a"), None, "nothing is written then");
    }

    #[test]
    fn keys_keep_to_the_hosts_length() {
        assert_eq!(key("customer", "c"), Ok("customer/c".into()));
        assert_eq!(key("customer", &"c".repeat(191)).map(|key| key.len()), Ok(200));
        assert!(
            matches!(key("customer", &"c".repeat(192)), Err(Failure::Hold(message)) if message.ends_with("has room for 191"))
        );
    }
}
