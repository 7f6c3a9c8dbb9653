//! What a profile file says, before it is checked.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use toml::Spanned;

use super::vector::Vector;
use super::{
    About, Algorithm, AmountUnit, BodyFormat, CredentialKind, Decoding, EmptyBatch, Encoding, IdentityRule, Parameter,
    TimeFormat,
};
use crate::ids::{FamilyName, ProviderName, Status};
use crate::money::Currency;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProfile {
    pub(super) name: Spanned<ProviderName>,
    pub(super) version: u32,
    pub(super) title: String,
    pub(super) signature: Option<RawSignature>,
    pub(super) jws: Option<RawJws>,
    #[serde(rename = "http-signatures")]
    pub(super) http_signatures: Option<RawHttpSignatures>,
    pub(super) credential: Option<RawCredential>,
    #[serde(rename = "fetch-back")]
    pub(super) fetch_back: Option<RawFetchBack>,
    pub(super) time: Option<RawTime>,
    pub(super) fetch: Option<Spanned<RawFetch>>,
    #[serde(default)]
    pub(super) parameter: Vec<Spanned<Parameter>>,
    #[serde(default)]
    pub(super) bind: Vec<RawBind>,
    pub(super) event: RawEvent,
    pub(super) amounts: Option<RawAmounts>,
    pub(super) mode: Option<RawMode>,
    pub(super) batch: Option<RawBatch>,
    pub(super) challenge: Option<RawChallenge>,
    pub(super) handshake: Option<RawHandshake>,
    pub(super) ack: Option<Spanned<RawAck>>,
    pub(super) limits: Option<RawLimits>,
    #[serde(default)]
    pub(super) about: About,
    #[serde(default)]
    pub(super) statuses: BTreeMap<FamilyName, BTreeMap<String, Status>>,
    #[serde(default)]
    pub(super) vector: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignature {
    pub(super) headers: Option<Spanned<Vec<String>>>,
    pub(super) field: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) header_prefixes: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) repeated: bool,
    pub(super) grammar: Spanned<RawGrammar>,
    pub(super) separator: Option<Spanned<String>>,
    pub(super) prefix: Option<String>,
    #[serde(default)]
    pub(super) prefix_optional: bool,
    pub(super) key_id: Option<Spanned<String>>,
    pub(super) signed: Spanned<String>,
    pub(super) body_signed: Option<Spanned<bool>>,
    #[serde(default)]
    pub(super) uuid: Vec<Spanned<String>>,
    pub(super) free: Option<Spanned<RawFreeParts>>,
    pub(super) listed: Option<Spanned<RawListed>>,
    #[serde(default)]
    pub(super) minified: bool,
    pub(super) scheme: Spanned<Vec<RawScheme>>,
}

/// A part that may hold what stands beside it; where `when` is given, only while that part is one of `is`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFree {
    pub(super) part: String,
    pub(super) when: Option<String>,
    #[serde(default)]
    pub(super) is: Vec<String>,
}

/// One part that is always free, or a list of which the first that applies is.
pub(super) struct RawFreeParts(pub(super) Vec<RawFree>);

impl<'de> Deserialize<'de> for RawFreeParts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = RawFreeParts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part such as `json:/reference`, or a list of { part = …, when = …, is = [..] }")
            }
            fn visit_str<E>(self, part: &str) -> Result<RawFreeParts, E> {
                Ok(RawFreeParts(vec![RawFree {
                    part: part.to_owned(),
                    when: None,
                    is: Vec::new(),
                }]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawFreeParts, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(RawFreeParts(parts))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// The headers whose values `{listed:NAME}` may take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListed {
    pub(super) headers: Vec<String>,
    /// The one of them whose value may hold the text between the values.
    pub(super) free: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawGrammar {
    Plain,
    Params,
    List,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScheme {
    pub(super) name: Spanned<String>,
    pub(super) algorithm: Algorithm,
    pub(super) encoding: Option<Encoding>,
    pub(super) key: Spanned<RawKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKey {
    #[serde(default)]
    pub(super) prefix: String,
    #[serde(default)]
    pub(super) prefix_optional: bool,
    pub(super) private_prefix: Option<String>,
    pub(super) decode: Decoding,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJws {
    pub(super) header: Spanned<String>,
    pub(super) body_claim: String,
    pub(super) scheme: Spanned<Vec<RawScheme>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttpSignatures {
    pub(super) label: Option<String>,
    pub(super) components: Spanned<Vec<Alternatives>>,
    pub(super) body_signed: Option<Spanned<bool>>,
    pub(super) scheme: Spanned<Vec<RawScheme>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    pub(super) header: Spanned<String>,
    pub(super) kind: CredentialKind,
}

/// What would have to be fetched back; only people read it, as long as fetch-back is off.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFetchBack {
    #[expect(
        dead_code,
        reason = "a profile must say it, and nothing uses it while fetch-back is off"
    )]
    pub(super) id: String,
    #[expect(
        dead_code,
        reason = "a profile must say it, and nothing uses it while fetch-back is off"
    )]
    pub(super) url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTime {
    pub(super) from: Spanned<String>,
    pub(super) format: TimeFormat,
    pub(super) tolerance_s: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFetch {
    pub(super) kind: RawFetchKind,
    pub(super) url: Spanned<String>,
    pub(super) hosts: Spanned<Vec<String>>,
    pub(super) path_prefix: Spanned<String>,
    #[serde(default)]
    pub(super) subjects: Vec<String>,
    pub(super) body: Option<Spanned<String>>,
    pub(super) pointer: Option<Spanned<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawFetchKind {
    Certificate,
    Jwk,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBind {
    pub(super) place: Spanned<String>,
    pub(super) equals: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    #[serde(default)]
    pub(super) body: BodyFormat,
    pub(super) form_field: Option<Spanned<String>>,
    pub(super) structured: Option<String>,
    pub(super) id: Spanned<Alternatives>,
    pub(super) id_signed: Option<Spanned<bool>>,
    pub(super) identity: Option<Spanned<IdentityRule>>,
    #[serde(rename = "type")]
    pub(super) event_type: Option<Spanned<Alternatives>>,
    pub(super) occurred_at: Option<Spanned<Alternatives>>,
    pub(super) occurred_format: Option<TimeFormat>,
    pub(super) family: Option<Spanned<FamilyName>>,
    pub(super) subject: Option<Spanned<Alternatives>>,
    pub(super) status: Option<Spanned<Alternatives>>,
    pub(super) amount: Option<Spanned<Alternatives>>,
    pub(super) amount_unit: Option<AmountUnit>,
    pub(super) currency: Option<Spanned<Alternatives>>,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, Spanned<Alternatives>>,
    #[serde(default)]
    pub(super) rule: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) types: Spanned<Vec<String>>,
    pub(super) family: Option<Spanned<FamilyName>>,
    pub(super) subject: Option<Spanned<Alternatives>>,
    pub(super) status: Option<Spanned<Alternatives>>,
    pub(super) amount: Option<Spanned<Alternatives>>,
    pub(super) amount_change: Option<RawChange>,
    pub(super) amount_sum: Option<RawSum>,
    pub(super) amount_unit: Option<AmountUnit>,
    pub(super) currency: Option<Spanned<Alternatives>>,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, Spanned<Alternatives>>,
}

/// An amount that grew: what it was before the event, and what it is now.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChange {
    pub(super) from: Spanned<Alternatives>,
    pub(super) to: Spanned<Alternatives>,
}

/// An amount in parts: those of a list's entries whose fields say so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSum {
    /// The way to the entries, such as `/transactions/*`.
    pub(super) of: Spanned<String>,
    /// Pointers into one entry.
    pub(super) amount: Spanned<String>,
    pub(super) currency: Spanned<String>,
    /// What an entry has to say to count: the values that each of these may have.
    #[serde(default)]
    pub(super) only: BTreeMap<String, Spanned<Vec<String>>>,
}

/// Where the provider's minor units are not those of ISO 4217.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAmounts {
    pub(super) source: Spanned<String>,
    pub(super) exponent: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) exponents: BTreeMap<Currency, Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMode {
    pub(super) from: Spanned<Alternatives>,
    pub(super) test: Spanned<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBatch {
    pub(super) items: Spanned<String>,
    #[serde(default)]
    pub(super) optional: bool,
    #[serde(default)]
    pub(super) signed_items: bool,
    pub(super) empty: Option<EmptyBatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) body_bytes_max: Spanned<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChallenge {
    pub(super) when: Spanned<String>,
    pub(super) equals: String,
    pub(super) answer: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHandshake {
    pub(super) kind: RawHandshakeKind,
    pub(super) parameter: Spanned<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawHandshakeKind {
    HubChallenge,
    WebHookOrigin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAck {
    pub(super) kept: Option<u16>,
    pub(super) conflict: Option<u16>,
    pub(super) malformed: Option<u16>,
    pub(super) incomplete: Option<u16>,
    pub(super) body: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

/// One place, or a list of places of which the first present counts.
pub(super) struct Alternatives(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Alternatives {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Alternatives;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a place such as `/data/id` or `header:x-id`, or a list of places")
            }
            fn visit_str<E>(self, place: &str) -> Result<Alternatives, E> {
                Ok(Alternatives(vec![place.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Alternatives, A::Error> {
                let mut places = Vec::new();
                while let Some(place) = seq.next_element()? {
                    places.push(place);
                }
                Ok(Alternatives(places))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
