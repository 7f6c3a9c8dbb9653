//! Plugins' state: what they keep for a tenant, and a person's change of it, with who and why.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tollgate_core::ids::{PluginName, TenantName};
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};

use crate::check::{read, rows_within};

/// Keys of one answer.
const KEYS_MAX: usize = 100;

/// Which state is asked for, as a query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateQuery {
    pub tenant: String,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl StateQuery {
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
    pub tenant: TenantName,
    pub plugin: PluginName,
    /// Only this key, or only those that begin so.
    pub key: Option<String>,
    pub prefix: Option<String>,
    /// Only keys behind this one: a list goes on where the last one ended.
    pub after: Option<String>,
    pub rows_max: usize,
}

/// A value as people see it: as text where it is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "document", schemars(rename = "StateValue"))]
pub enum Shown {
    Text(String),
    Base64(String),
}

impl Shown {
    pub fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Base64(BASE64.encode(error.as_bytes())), Self::Text)
    }

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
    pub key: String,
    /// Positive: the run that wrote it. Negative: the edit. An edit has to name it.
    pub version: i64,
    pub bytes: usize,
    pub value: Shown,
}

/// What was changed by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct EditView {
    pub version: i64,
    pub at: String,
    pub actor: String,
    pub why: String,
    pub before: Option<Shown>,
    pub after: Option<Shown>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct StateList {
    pub keys: Vec<StateView>,
    /// Of the one key that was asked for, the newest first.
    pub edits: Vec<EditView>,
    /// Where there were more keys than one answer holds: the last of them.
    pub next: Option<String>,
}

/// A change of one key: to `value`, or without one its removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StateBody {
    pub tenant: String,
    pub plugin: String,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Shown>,
    /// That was seen; 0: the key is new.
    pub version: i64,
    pub actor: String,
    pub why: String,
    #[serde(default)]
    pub dry_run: bool,
}

impl StateBody {
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
    pub tenant: TenantName,
    pub plugin: PluginName,
    pub key: String,
    /// None removes the key.
    pub value: Option<Vec<u8>>,
    /// That the key has, as far as the person knows; 0: there is none.
    pub version: i64,
    pub actor: String,
    pub why: String,
    pub now: UnixMillis,
    pub dry_run: bool,
}

/// What a change did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct StateReport {
    pub dry_run: bool,
    pub key: String,
    /// That the key has now; 0: there is none.
    pub version: i64,
}
