//! Plugins' state: what they keep for a tenant, and a person's change of it, with who and why.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tollgate_core::ids::{PluginName, TenantName};
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{read, rows_within};

/// The most keys that one answer has.
const KEYS_MAX: usize = 100;

/// Which state is asked for, as a query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateQuery {
    /// Whose state it is.
    pub tenant: String,
    /// The plugin that keeps it.
    pub plugin: String,
    /// This key, with what people changed of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Keys that begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Keys behind this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most this many keys, up to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl StateQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<StateFilter, String> {
        Ok(StateFilter {
            tenant: read("tenant", &self.tenant)?,
            plugin: read("plugin", &self.plugin)?,
            key: self.key,
            prefix: self.prefix,
            after: self.after,
            rows_max: rows_within(self.limit, KEYS_MAX, KEYS_MAX).max(1),
        })
    }
}

/// Which of a plugin's state is asked for.
#[derive(Debug, Clone)]
pub struct StateFilter {
    /// Whose state it is.
    pub tenant: TenantName,
    /// The plugin that keeps it.
    pub plugin: PluginName,
    /// Only this key, or only those that begin so.
    pub key: Option<String>,
    /// Only keys that begin so.
    pub prefix: Option<String>,
    /// Only keys behind this one: a list goes on where the last one ended.
    pub after: Option<String>,
    /// The most keys that are returned.
    pub rows_max: usize,
}

/// A value as people see it: as text where it is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "document", schemars(rename = "StateValue"))]
pub enum Shown {
    /// Bytes that are UTF-8.
    Text(String),
    /// Bytes that are not UTF-8, in base64.
    Base64(String),
}

impl Shown {
    /// Shows bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Base64(BASE64.encode(error.as_bytes())), Self::Text)
    }

    /// The bytes that are shown.
    ///
    /// # Errors
    /// In words, when it is not base64.
    pub fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Base64(text) => BASE64
                .decode(text.as_bytes())
                .map_err(|error| format!("value: not base64: {error}")),
        }
    }
}

/// One key with its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct StateView {
    /// The plugin's name for the value.
    pub key: String,
    /// Positive: the number of the run that wrote it. Negative: that of the edit. An edit has to name the version.
    pub version: i64,
    /// How long the value is.
    pub bytes: usize,
    /// The value.
    pub value: Shown,
}

/// What was changed by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct EditView {
    /// The version that the edit made.
    pub version: i64,
    /// When it was made (RFC 3339).
    pub at: String,
    /// Who made it.
    pub actor: String,
    /// The reason.
    pub why: String,
    /// The value that was there; null when there was none.
    pub before: Option<Shown>,
    /// The value that is there since; null when it was removed.
    pub after: Option<Shown>,
}

/// Keys of a plugin's state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct StateList {
    /// In the order of their bytes.
    pub keys: Vec<StateView>,
    /// What people changed of the one key that was asked for, the newest first.
    pub edits: Vec<EditView>,
    /// Where there were more keys than one answer holds: the last of them.
    pub next: Option<String>,
}

/// A change of one key: to `value`, or without one its removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateBody {
    /// Whose state it is.
    pub tenant: String,
    /// The plugin that keeps it.
    pub plugin: String,
    /// The plugin's name for the value.
    pub key: String,
    /// The new value; without it the key is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Shown>,
    /// The version that the person saw; 0 for a key that is new.
    pub version: i64,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
    /// The reason, for the history. Required.
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

impl StateBody {
    /// Checks the change, which is made at `now`.
    ///
    /// # Errors
    /// In words, when a field is not what its name says, or nobody says why.
    pub fn checked(self, now: UnixMillis) -> Result<StateEdit, String> {
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        if self.why.trim().is_empty() {
            return Err("why: say why the state is changed: its history keeps it".to_owned());
        }
        if self.key.is_empty() || self.key.len() > limits::STATE_KEY_BYTES_MAX {
            return Err(format!("key: write 1 to {} bytes", limits::STATE_KEY_BYTES_MAX));
        }
        let value = self.value.map(Shown::bytes).transpose()?;
        if let Some(value) = &value
            && value.len() > limits::STATE_VALUE_BYTES_MAX
        {
            return Err(format!(
                "value: {} bytes; at most {} are kept",
                value.len(),
                limits::STATE_VALUE_BYTES_MAX
            ));
        }
        if value.is_none() && self.version == 0 {
            return Err("version: a key that is not there cannot be removed".to_owned());
        }
        Ok(StateEdit {
            tenant: read("tenant", &self.tenant)?,
            plugin: read("plugin", &self.plugin)?,
            key: self.key,
            value,
            version: self.version,
            actor: self.actor,
            why: self.why,
            now,
            dry_run: self.dry_run,
        })
    }
}

/// A person's change of one key.
#[derive(Debug, Clone)]
pub struct StateEdit {
    /// Whose state it is.
    pub tenant: TenantName,
    /// The plugin that keeps it.
    pub plugin: PluginName,
    /// The plugin's name for the value.
    pub key: String,
    /// None removes the key.
    pub value: Option<Vec<u8>>,
    /// The version that the key has, as far as the person knows; 0 where there is none.
    pub version: i64,
    /// Who asks, for the history.
    pub actor: String,
    /// The reason.
    pub why: String,
    /// When it is made.
    pub now: UnixMillis,
    /// Whether nothing must be changed.
    pub dry_run: bool,
}

/// What a change did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct StateReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The key that was named.
    pub key: String,
    /// The version that the key has now; 0 where there is none.
    pub version: i64,
}
