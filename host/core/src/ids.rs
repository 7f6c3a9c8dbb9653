//! Every identifier, in one file.
//!
//! Three identifiers of an event have one purpose each (promise T1): the provider's [`EventId`] dedupes, the [`Subject`]
//! orders and is the internal reference, the [`OperationKey`] names the business effect.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// Why a text is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{what} is empty")]
    Empty {
        /// Which identifier it was taken for.
        what: &'static str,
    },
    /// The text is over the bound.
    #[error("{what} is {bytes} bytes long; at most {bytes_max} are allowed")]
    TooLong {
        /// Which identifier it was taken for.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// The text has a character that the identifier must not have.
    #[error("{what} has the character {found:?} at byte {at}; allowed: {allowed}")]
    Character {
        /// Which identifier it was taken for.
        what: &'static str,
        /// That character.
        found: char,
        /// Its position in bytes, from 0.
        at: usize,
        /// The characters that are allowed, in words.
        allowed: &'static str,
    },
    /// The text has not the form of the identifier.
    #[error("{what} must look like {example}")]
    Shape {
        /// Which identifier it was taken for.
        what: &'static str,
        /// What it should look like.
        example: &'static str,
    },
}

/// Stands in a name that was shortened, before the SHA-256 of the whole in hexadecimal.
const SHORTENED: &str = "…sha256:";

/// Makes the text of a name fit: it stays as it is when it has at most `bytes_max` bytes and no control characters, and becomes its beginning
/// with its SHA-256 otherwise. Two different texts never become the same one: a text that looks as if it had been shortened is shortened too.
///
/// `bytes_max` is at least 80.
pub(crate) fn fit(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        return Cow::Owned(shorten(text, sha2::Sha256::digest(text).as_slice(), bytes_max));
    }
    fit_bytes(text, bytes_max)
}

/// The same for a text that may have several lines.
pub(crate) fn fit_bytes(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max && !text.contains(SHORTENED) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(shorten(text, sha2::Sha256::digest(text).as_slice(), bytes_max))
}

/// The beginning of a text as it can be shown, and the digest of what it is.
pub(crate) fn shorten(text: &str, digest: &[u8], bytes_max: usize) -> String {
    let digest = data_encoding::HEXLOWER.encode(digest);
    let room = bytes_max.saturating_sub(SHORTENED.len() + digest.len());
    let mut short = String::with_capacity(bytes_max);
    for c in text.chars() {
        let c = if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        if short.len() + c.len_utf8() > room {
            break;
        }
        short.push(c);
    }
    short.push_str(SHORTENED);
    short.push_str(&digest);
    short
}

/// Whether a text has the form of one that was shortened.
pub(crate) fn is_shortened(text: &str) -> bool {
    text.contains(SHORTENED)
}

/// A type that is a text in JSON, for descriptions of an interface.
#[cfg(feature = "schema")]
macro_rules! text_schema {
    ($name:ident, $said:expr) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $said })
            }
        }
    };
}
#[cfg(not(feature = "schema"))]
macro_rules! text_schema {
    ($name:ident, $said:expr) => {};
}
pub(crate) use text_schema;

/// A text newtype: parsed at construction, trusted afterwards, cheap to clone.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $bytes_max:expr, $allowed:literal, $accepts:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The longest allowed text, in bytes.
            pub const BYTES_MAX: usize = $bytes_max;

            /// Checks the text.
            ///
            /// # Errors
            /// When the text is empty, too long or holds a character outside the allowed set.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if text.is_empty() {
                    return Err(IdError::Empty { what: $what });
                }
                if text.len() > Self::BYTES_MAX {
                    return Err(IdError::TooLong { what: $what, bytes: text.len(), bytes_max: Self::BYTES_MAX });
                }
                let accepts: fn(usize, char) -> bool = $accepts;
                if let Some((at, found)) = text.char_indices().find(|&(at, c)| !accepts(at, c)) {
                    return Err(IdError::Character { what: $what, found, at, allowed: $allowed });
                }
                Ok(Self(Arc::from(text)))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
        text_schema!($name, concat!("a ", $what, ": ", $allowed));
    };
}

fn is_name(at: usize, c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || (at > 0 && (c == '-' || c == '_'))
}
fn is_printable(_: usize, c: char) -> bool {
    !c.is_control()
}
fn is_visible_ascii(_: usize, c: char) -> bool {
    c.is_ascii_graphic()
}

text_id!(
    /// Who owns sources, routes and destinations. Nothing of one tenant is visible to another.
    TenantName, "tenant name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// A host among those that share a store.
    HostName, "host name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
/// Of a host whose machine has no name that it could have.
impl Default for HostName {
    fn default() -> Self {
        Self(Arc::from("host"))
    }
}
text_id!(
    /// Where a tenant's events come in: one provider, one set of secrets, one URL.
    SourceName, "source name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// A tenant's rule that sends matching events to one plugin.
    RouteName, "route name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// A plugin as the operator published it; its bytes are pinned by [`PluginDigest`].
    PluginName, "plugin name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// Who vouches for plugins by signing them. Each tenant says for itself whom it means by a name.
    PublisherName, "publisher name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// Where a tenant's actions are delivered.
    DestinationName, "destination name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// A tenant's secret that was set by API, as its settings refer to it. It is never the secret itself.
    SecretName, "secret name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// The slug of a provider profile, for example `standard-webhooks`.
    ProviderName, "provider name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// Names the secret of a source that verified a request. It is never the secret itself.
    KeyId, "key id", 63, "visible ASCII", is_visible_ascii
);
text_id!(
    /// A family of events that share a lifecycle, for example `reward-redemption`.
    FamilyName, "family name", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// An internal lifecycle status, for example `completed`.
    Status, "status", 63, "a-z, 0-9, and - or _ after the first character", is_name
);
text_id!(
    /// The provider's event id: what a redelivery repeats.
    EventId, "event id", 255, "printable characters", is_printable
);
text_id!(
    /// The provider's event type, for example `customer.rewarded`.
    EventType, "event type", 127, "printable characters", is_printable
);
text_id!(
    /// What an event is about: the ordering key and the internal reference.
    Subject, "subject", 255, "printable characters", is_printable
);
text_id!(
    /// Whose operation keys a route's actions are recorded under: the plugin's name, unless the route names another.
    Namespace, "namespace of operations", 63, "a-z, 0-9, and - or _ after the first character", is_name
);

impl From<&PluginName> for Namespace {
    /// A plugin's own namespace. Every plugin's name is one.
    fn from(plugin: &PluginName) -> Self {
        Self(Arc::clone(&plugin.0))
    }
}

text_id!(
    /// The name of one business operation, unique per (tenant, namespace, action kind) for ever.
    OperationKey, "operation key", 200, "visible ASCII", is_visible_ascii
);

/// A row number of the store, shown with a prefix so that people and logs cannot confuse two kinds of number.
macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or(IdError::Shape { what: stringify!($name), example: $example })
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        text_schema!($name, concat!("for example ", $example));
    };
}

row_id!(
    /// One receipt × one route: the unit of work.
    JobId, "job", "job_42"
);
row_id!(
    /// One execution of a plugin for a job.
    RunId, "run", "run_42"
);
row_id!(
    /// One recorded action in the ledger.
    ActionId, "act", "act_42"
);
row_id!(
    /// One action on its way to one destination.
    OutboxId, "out", "out_42"
);
row_id!(
    /// One time that somebody had deliveries sent again.
    ResendId, "resend", "resend_42"
);
row_id!(
    /// One entry of the dead-letter queue.
    DeadLetterId, "dead", "dead_42"
);
row_id!(
    /// A further delivery of an event whose receipt exists, kept because its bytes were others.
    DeliveryId, "dlv", "dlv_42"
);
row_id!(
    /// Names failures that are one failure.
    IssueId, "issue", "issue_7"
);
row_id!(
    /// Names a bulk action.
    BulkId, "bulk", "bulk_7"
);
row_id!(
    /// Names a token of the private listener.
    TokenId, "tok", "tok_3"
);

/// Names a receipt, and is what duplicates are recognised by: a keyed hash of (tenant, source, event id).
///
/// One type serves both uses because a receipt is exactly one such triple; see [`crate::admission::receipt_id`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiptId(pub [u8; 16]);

impl fmt::Display for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rcpt_")?;
        let mut digits = [0; 32];
        data_encoding::HEXLOWER.encode_mut(&self.0, &mut digits);
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}
impl fmt::Debug for ReceiptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for ReceiptId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("rcpt_")
            .and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(IdError::Shape {
                what: "receipt id",
                example: "rcpt_ and 32 hex digits",
            })
    }
}
impl Serialize for ReceiptId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for ReceiptId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
text_schema!(ReceiptId, "rcpt_ and 32 hex digits");

/// SHA-256 of some bytes: of a body, a plugin, a configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("sha256:")
            .and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(IdError::Shape {
                what: "digest",
                example: "sha256: and 64 hex digits",
            })
    }
}
impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
text_schema!(Digest, "sha256: and 64 hex digits");

/// The digest of a plugin's component, manifest included: what a run is pinned to.
pub type PluginDigest = Digest;

/// Counts the leases that were given for one row. A write by a lease holder carries its epoch and takes effect only while
/// that epoch is the row's newest, so a worker that lost its lease cannot commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseEpoch(pub i64);

impl LeaseEpoch {
    /// The epoch of a row that was never leased.
    pub const NONE: Self = Self(0);

    /// The epoch of the next lease.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_wrong_and_where() {
        let error = TenantName::new("Acme").unwrap_err();
        assert_eq!(
            error.to_string(),
            "tenant name has the character 'A' at byte 0; allowed: a-z, 0-9, and - or _ after the first character"
        );
        assert_eq!(SourceName::new(""), Err(IdError::Empty { what: "source name" }));
        assert_eq!(
            OperationKey::new(&"k".repeat(201)),
            Err(IdError::TooLong {
                what: "operation key",
                bytes: 201,
                bytes_max: 200
            })
        );
        assert!(EventId::new("evt_1\n").is_err(), "a line break could forge a log line");
    }

    #[test]
    fn a_name_that_does_not_fit_is_shortened_and_stays_a_name_of_its_own() {
        assert_eq!(fit("msg_1", 255), "msg_1");
        let long = "m".repeat(300);
        let short = fit(&long, 255);
        assert!(
            short.len() <= 255 && short.starts_with("mmm") && is_shortened(&short),
            "{short}"
        );
        assert_eq!(Subject::new(&short).unwrap().as_str(), short);
        assert_ne!(short, fit(&format!("{long}m"), 255));
        assert_ne!(fit("a\0", 255), fit("a\u{1}", 255));
        assert!(Subject::new(&fit("a\0", 255)).is_ok());
        // A text that somebody made to look like a shortened one is none.
        assert_ne!(fit(&short, 255), short);
        let umlauts = "ä".repeat(200);
        assert!(fit(&umlauts, 127).len() <= 127);
        assert_eq!(fit_bytes("two\nlines", 1024), "two\nlines");
    }

    #[test]
    fn ids_read_back_what_they_print() {
        let receipt = ReceiptId([7; 16]);
        assert_eq!(receipt.to_string().parse(), Ok(receipt));
        assert_eq!("job_17".parse(), Ok(JobId(17)));
        assert!("run_17".parse::<JobId>().is_err());
        assert!("job_-1".parse::<JobId>().is_err());
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
}
