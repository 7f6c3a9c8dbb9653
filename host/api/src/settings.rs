//! What a tenant configures itself: its settings, their versions, and its secrets (promises O1, O14).
//!
//! Settings are one text in the grammar of a tenant's file. What the operator's file of the tenant says stays as it is; settings add to it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tollgate_core::ids::{SecretName, TenantName};
use tollgate_core::secret::Secret;
use tollgate_core::time::UnixMillis;

use crate::FieldProblem;

/// One version of a tenant's settings, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SettingsLine {
    /// From 1, one more for each change.
    pub version: u64,
    /// How long its text is.
    pub bytes: u64,
    /// The version whose text it has again, where somebody went back.
    pub text_of: Option<u64>,
    /// When it was set; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub at: UnixMillis,
    /// Who set it.
    pub actor: String,
    /// Why.
    pub why: String,
}

/// One version of a tenant's settings. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SettingsVersion {
    /// Which it is, and who set it when and why.
    #[serde(flatten)]
    pub line: SettingsLine,
    /// The whole text: TOML, in the grammar of a tenant's file.
    pub text: String,
}

/// Whose a part of a tenant's configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// It stands in the operator's file of the tenant, and is changed there.
    File,
    /// It stands in the tenant's settings.
    Settings,
    /// It is a route that was set by itself, by API.
    Route,
}

impl Whose {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Settings => "settings",
            Self::Route => "route",
        }
    }
}

/// A source, a route or a destination of a tenant as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SettingsPart {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub whose: Whose,
    /// Of a source its provider, of a route what it runs or how it forwards, of a destination its URL.
    pub says: String,
    /// Of a source the path of its URL; of a route the destinations that it sends to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Of a source: the URL to paste into the provider, where the operator says where the public listener is reached (`public_url` in
    /// `[edge]`), or the source has a `public_url` of its own. Null otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of a source: what receipts call the secrets that verify its events, and when they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<SourceKey>,
}

/// A secret of a source, without what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SourceKey {
    /// What receipts call it.
    pub id: String,
    /// Before this instant it verifies nothing (RFC 3339); null: it always did.
    pub not_before: Option<String>,
    /// From this instant on it verifies nothing more (RFC 3339); null: no end is set.
    pub not_after: Option<String>,
    /// The secret of the settings that it is, where it is one; the operator's stand in files.
    pub secret: Option<SecretName>,
    /// When that secret was set (RFC 3339).
    pub since: Option<String>,
}

/// A tenant's configuration as it is in effect, and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SettingsView {
    /// Whose it is.
    pub tenant: TenantName,
    /// The newest version of the settings; 0 where there is none yet. A change expects it.
    pub version: u64,
    /// Its text; empty where there is none yet.
    pub text: String,
    /// When it was set (RFC 3339).
    pub at: Option<String>,
    /// Who set it.
    pub actor: Option<String>,
    /// Why.
    pub why: Option<String>,
    /// Whether this host runs that version. It does not where the version does not fit: `problems` says why.
    pub in_effect: bool,
    /// What keeps the newest version, or the operator's file, from being in effect on this host.
    pub problems: Vec<FieldProblem>,
    /// Whether secrets can be set: the operator's file names a key that they are sealed with.
    pub takes_secrets: bool,
    /// Where events come in.
    pub sources: Vec<SettingsPart>,
    /// What is done with them.
    pub routes: Vec<SettingsPart>,
    /// Where actions go.
    pub destinations: Vec<SettingsPart>,
}

/// New settings.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SettingsBody {
    /// The whole text, which takes the place of the one before.
    #[serde(default)]
    pub text: String,
    /// The version that it was made from, 0 for none: refused where somebody else was faster. Absent for a dry run: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<u64>,
    /// Of a dry run: how many of the tenant's newest receipts it is tried on; 100 unless said, 500 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<u64>,
    /// A secret that the text refers to and that is set in the same step: sealed first, and never shown again. The text is checked with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<NewSecret>,
    /// The reason, for the history. Required.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// A secret beside settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// What the settings refer to it by. No secret of this name is there yet: one that is there is replaced by itself.
    pub name: SecretName,
    /// The secret, as the provider shows it.
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub value: SecretText,
}

/// Which version to go back to.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RollbackBody {
    /// The version whose text is to be in effect again; absent: the one before the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// The newest version as it was seen: refused where somebody else was faster. Absent: whatever is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<u64>,
    /// Of a dry run: how many of the newest receipts it is tried on; 100 unless said, 500 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<u64>,
    /// The reason, for the history. Required.
    #[serde(default)]
    pub why: String,
    /// Returns what would be done, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// What a change of settings did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SettingsChange {
    /// Whose they are.
    pub tenant: TenantName,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The newest version before; 0 for none.
    pub was: u64,
    /// The newest version now; of a dry run, the number that it would have. The same as `was` where the text is the same.
    pub version: u64,
    /// What is added, changed and removed.
    pub changes: Vec<PartChange>,
    /// The lines of the texts that differ, as a unified difference; empty where the texts are the same.
    pub difference: String,
    /// What to think of.
    pub warnings: Vec<String>,
    /// Of a dry run: what jobs the newest receipts would have had.
    pub tried: Option<Tried>,
}

/// How one part of a configuration differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct PartChange {
    /// `source`, `route` or `destination`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `added`, `changed` or `removed`.
    pub what: String,
}

/// What jobs receipts would have had by the configuration of now and by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Tried {
    /// How many receipts it was tried on: the tenant's newest that may have jobs.
    pub receipts: u64,
    /// How many jobs they have on each route, by the configuration of now and by the other.
    pub routes: Vec<TriedRoute>,
    /// Of these, receipts whose jobs would be others: the newest, a few.
    pub differing: Vec<TriedReceipt>,
}

/// Jobs of one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TriedRoute {
    /// The route.
    pub route: String,
    /// Jobs by the configuration of now.
    pub before: u64,
    /// Jobs by the other.
    pub after: u64,
}

/// A receipt whose jobs would be others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct TriedReceipt {
    /// The receipt.
    pub receipt: String,
    /// Its type.
    pub event_type: String,
    /// Routes that take it now.
    pub before: Vec<String>,
    /// Routes that would take it.
    pub after: Vec<String>,
}

/// A version of a tenant's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SettingsVersionPath {
    /// The tenant's name.
    pub tenant: TenantName,
    /// The version's number.
    pub version: u64,
}

/// A tenant's secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SecretPath {
    /// The tenant's name.
    pub tenant: TenantName,
    /// The secret's name.
    pub secret: SecretName,
}

/// A text that must not be seen: it prints as nothing, and an error about it does not repeat it.
#[derive(Clone)]
pub struct SecretText(pub Secret);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}
impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&String::from_utf8_lossy(self.0.expose()))
    }
}
impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What serde says of another type repeats the value.
        match serde_json::Value::deserialize(deserializer) {
            Ok(serde_json::Value::String(text)) => Ok(Self(Secret::new(text))),
            _ => Err(serde::de::Error::custom("`value` must be a text in quotes")),
        }
    }
}

/// A secret that is to be kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SecretBody {
    /// The secret, as the provider shows it. It is never shown again.
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub value: SecretText,
    /// The reason, for the history. Required.
    #[serde(default)]
    pub why: String,
    /// Checks it against what uses it, and keeps nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, beside the name of the token.
    #[serde(default)]
    pub actor: String,
}

/// A tenant's secret as people see it: never what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SecretView {
    /// What settings refer to it by: `{ store = "NAME" }`.
    pub name: SecretName,
    /// When it was set; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub at: UnixMillis,
    /// Who set it.
    pub actor: String,
    /// Why.
    pub why: String,
    /// Names the operator's key that it is sealed with.
    pub sealed_with: String,
    /// Whether this host has that key; null where nobody looked.
    pub opens: Option<bool>,
    /// The sources and destinations of the newest settings that refer to it, for example `sources.shop`.
    pub used_by: Vec<String>,
}

/// What sealing secrets anew did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Resealed {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Names the key that they are sealed with now.
    pub sealed_with: String,
    /// Secrets that were sealed anew, or would be.
    pub resealed: u64,
    /// Those that were sealed with that key already.
    pub unchanged: u64,
    /// Those that somebody set meanwhile: they are sealed with the newest key of whoever set them.
    pub overtaken: u64,
    /// Those that do not open on this host, with the reason. They stay as they are.
    pub unopened: Vec<UnopenedSecret>,
}

/// A secret that does not open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct UnopenedSecret {
    /// Whose it is.
    pub tenant: TenantName,
    /// Its name.
    pub secret: SecretName,
    /// Why, in words.
    pub why: String,
}

/// What setting or removing a secret did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SecretChange {
    /// The secret that was named.
    pub name: SecretName,
    /// Whether there was one of the name before.
    pub was_there: bool,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What of the settings uses it.
    pub used_by: Vec<String>,
}
