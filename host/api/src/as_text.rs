//! Writes an instant as RFC 3339, and reads it back.

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
use tollgate_core::time::UnixMillis;

pub(crate) fn serialize<S: Serializer>(instant: &UnixMillis, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(instant)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMillis, D::Error> {
    let text = String::deserialize(deserializer)?;
    UnixMillis::from_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not an instant")))
}
