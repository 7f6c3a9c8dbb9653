//! Provider profiles: how a provider proves its requests, where its events keep what the envelope needs, and how it wants to be
//! answered. A provider is a TOML file, never a function.
//!
//! [`Profile::from_toml`] checks a file whole; what it returns can be applied to any request without further questions. The
//! grammar is described in `profiles/README.md`. This module has the checked profile; `raw.rs` has
//! what a file says, and `check.rs` makes the one from the other.

mod check;
mod raw;
mod vector;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::answer::Ack;
use crate::ids::{EventType, FamilyName, ProviderName, Status};
use crate::json::{Pointers, Slot};
use crate::mode::Accept;
use crate::money::Currency;
use crate::route::TypePattern;
pub use vector::{Vector, VectorEvent, VectorSecret};

/// A checked profile. It is serialised only for a Spin app, which is given what was checked when it was built; a file that a person wrote
/// goes through [`Profile::from_toml`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// The provider, as sources name it.
    pub name: ProviderName,
    /// Rises with every change of meaning; kept with each receipt that the profile verified and read.
    pub version: u32,
    /// For people.
    pub title: String,
    pub(crate) rule: Rule,
    /// The ways of proving, in their order. Never empty but for [`Rule::FetchBack`].
    pub(crate) schemes: Vec<Scheme>,
    pub(crate) time: Option<TimeRule>,
    /// Where keys come from that a source does not hold.
    pub(crate) fetch: Option<FetchRule>,
    pub(crate) binds: Vec<Bind>,
    /// Pointers of the binds into the body.
    pub(crate) bind_fields: Pointers,
    pub(crate) event: EventRule,
    pub(crate) batch: Option<BatchRule>,
    pub(crate) challenge: Option<ChallengeRule>,
    pub(crate) handshake: Option<Handshake>,
    parameters: Vec<Parameter>,
    ack: Ack,
    /// Which events the source gives effect.
    accept: Accept,
    /// The largest body that the provider sends, where that is more than usual.
    body_bytes_max: Option<usize>,
    /// For people; left out of the compact form, as are the vectors.
    #[serde(skip)]
    about: About,
    #[serde(skip)]
    vectors: Vec<Vector>,
    signed: Signed,
}

/// Which parts of an event its signature proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Signed {
    id: bool,
    body: bool,
}

/// How a request is proved: one family of schemes each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Rule {
    /// A tag over joined parts.
    Template(SignatureRule),
    /// A JSON Web Signature with a claim that holds the body's digest.
    Jws(JwsRule),
    /// RFC 9421 HTTP Message Signatures with RFC 9530 Content-Digest.
    HttpSignatures(HttpSignaturesRule),
    /// A shared text in a header. It proves the sender, and of the message nothing.
    Credential(CredentialRule),
    /// Requests prove nothing; the truth would have to be fetched from the provider. Declared, but off.
    FetchBack,
}

/// Where signatures stand and what they cover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SignatureRule {
    /// Each may carry signatures; any match proves the request. Empty where the signature is in the body.
    pub(crate) headers: Vec<HeaderName>,
    /// How many alternative prefixes the profile's header names have; 1 where it has none.
    pub(crate) header_sets: usize,
    /// A signature header may come several times.
    pub(crate) repeated: bool,
    pub(crate) grammar: Grammar,
    /// Stands before each signature of the plain grammar.
    pub(crate) prefix: String,
    pub(crate) prefix_optional: bool,
    /// Names the secret that signed, by the secret's id.
    pub(crate) key_id: Option<HeaderName>,
    pub(crate) signed: Vec<Part>,
    /// The signature's own place, where it is a field of the body.
    pub(crate) field: Option<(Slot, String)>,
    /// Each item of a batch carries its own signature, and `{json:…}` parts are the item's.
    pub(crate) per_item: bool,
    /// The sender may have signed the body without its white space: tried after the bytes as they came.
    pub(crate) minified: bool,
    /// Which part may hold the text that stands beside it: the first that applies, and no other. See [`Free`].
    pub(crate) free: Vec<Free>,
    /// Pointers of the signed parts and of the signature.
    pub(crate) fields: Pointers,
}

/// A part whose value may hold the text that stands beside it, by the part's position.
///
/// Of one request one part is free at most, and which one is said by a part that stands left or right of all that may be: that one is
/// found in the joined bytes by counting from its end, since nothing there is free; then the free part is known, and everything left and
/// right of it is found by counting from both ends. So the joined bytes split in one way only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Free {
    pub(crate) part: usize,
    /// Free only while the part at this position is one of these texts.
    pub(crate) when: Option<(usize, Vec<String>)>,
}

/// A compact JWS in a header.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JwsRule {
    pub(crate) header: HeaderName,
    /// The claim that holds the lower-case hexadecimal SHA-256 of the body.
    pub(crate) body_claim: String,
    /// The claim with the instant of signing, in Unix seconds.
    pub(crate) time_claim: String,
}

/// What a message signature must cover at least.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HttpSignaturesRule {
    /// As they are written in `Signature-Input`; one of the alternatives of each must be covered.
    pub(crate) components: Vec<Vec<String>>,
    /// The label of the signature; any label when absent.
    pub(crate) label: Option<String>,
}

/// A shared text in a header.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CredentialRule {
    pub(crate) header: HeaderName,
    pub(crate) kind: CredentialKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CredentialKind {
    /// `Bearer` and the secret.
    Bearer,
    /// `Basic` and the base64 of the secret, which is `user:password`.
    Basic,
    /// The secret is the header's whole value.
    Value,
}

impl CredentialKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::Value => "value",
        }
    }
}

/// A header name, lower case; one per alternative prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeaderName(Vec<String>);

impl HeaderName {
    /// The name under the alternative prefix that a request uses.
    pub(crate) fn in_set(&self, set: usize) -> &str {
        self.0.get(set).or(self.0.first()).map_or("", String::as_str)
    }
}

/// How the value of a signature header is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Grammar {
    /// The value is one signature.
    Plain,
    /// `name=value` with a separator between: `t=1,v1=…,v1=…`.
    Params { separator: u8 },
    /// `name,value` with spaces between: `v1,… v1a,…`.
    List,
}

/// A piece of the signed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    Literal(String),
    Header {
        name: HeaderName,
        shape: Shape,
    },
    Param {
        name: String,
        shape: Shape,
    },
    Json {
        slot: Slot,
        name: String,
        shape: Shape,
        /// Absent and null count as the empty text.
        optional: bool,
    },
    Body,
    BodySha256Hex,
    BodySha256Base64,
    /// The body's CRC-32 as an unsigned decimal. It finds accidents, not attacks.
    BodyCrc32,
    /// The body's form fields, sorted by name, each name followed by its values, sorted and without repetitions.
    FormSorted {
        /// When the request's query has a field of this name, it holds the body's SHA-256 in hexadecimal, and the part is that
        /// field as the query has it, with the `?` or `&` before it.
        digest: Option<String>,
    },
    /// The URL that was called, by the source's public URL: see [`RawRequest::urls`](crate::request::RawRequest::urls).
    Url,
    /// The values of the headers that a parameter of the signature header lists, in its order, with `.` between.
    Listed {
        param: String,
        /// What may be listed.
        headers: Vec<String>,
        /// The one of them whose value may hold a `.`: how many values there are is signed, so that the others, which hold none, are
        /// found from both ends.
        free: Option<String>,
    },
    /// A parameter of the source, by its position among the profile's.
    Config {
        at: usize,
        name: String,
    },
}

impl Part {
    /// The part as a profile writes it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Literal(text) => format!("{text:?}"),
            Self::Header { name, .. } => format!("header:{}", name.in_set(0)),
            Self::Param { name, .. } => format!("param:{name}"),
            Self::Json { name, .. } => format!("json:{name}"),
            Self::Body => "body".into(),
            Self::BodySha256Hex => "body-sha256-hex".into(),
            Self::BodySha256Base64 => "body-sha256-base64".into(),
            Self::BodyCrc32 => "body-crc32".into(),
            Self::FormSorted { .. } => "form-sorted".into(),
            Self::Url => "url".into(),
            Self::Listed { param, .. } => format!("listed:{param}"),
            Self::Config { name, .. } => format!("config:{name}"),
        }
    }

    fn shape_mut(&mut self) -> Option<&mut Shape> {
        match self {
            Self::Header { shape, .. } | Self::Param { shape, .. } | Self::Json { shape, .. } => Some(shape),
            _ => None,
        }
    }
}

/// What a sender-chosen part of the signed bytes may look like, so that the joined bytes can be split in one way only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The literals beside the part: its value may contain none of them.
    pub(crate) forbidden: Vec<String>,
    /// The value must be a UUID in its 36-character form.
    pub(crate) uuid: bool,
}

/// One way of proving.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scheme {
    /// The label beside a signature where the grammar has labels; kept in the proof.
    pub(crate) name: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) encoding: Encoding,
    pub(crate) key: KeyRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Algorithm {
    HmacSha256,
    /// For providers that have nothing better.
    HmacSha1,
    HmacSha512,
    Ed25519,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1Sha256,
    /// ECDSA on P-256 with SHA-256, the signature in DER.
    EcdsaP256Sha256Der,
    /// The same, the signature as `r ‖ s`, 64 bytes.
    EcdsaP256Sha256Raw,
    /// No signature: the secret itself is compared. No file names it.
    Credential,
}

impl Algorithm {
    /// Whether verifying needs a public key only.
    pub(crate) fn is_public(self) -> bool {
        match self {
            Self::HmacSha256 | Self::HmacSha1 | Self::HmacSha512 | Self::Credential => false,
            Self::Ed25519 | Self::RsaPkcs1Sha256 | Self::EcdsaP256Sha256Der | Self::EcdsaP256Sha256Raw => true,
        }
    }

    /// For people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::HmacSha256 => "HMAC-SHA256",
            Self::HmacSha1 => "HMAC-SHA1",
            Self::HmacSha512 => "HMAC-SHA512",
            Self::Ed25519 => "Ed25519",
            Self::RsaPkcs1Sha256 => "RSA PKCS#1 v1.5 SHA-256",
            Self::EcdsaP256Sha256Der | Self::EcdsaP256Sha256Raw => "ECDSA P-256 SHA-256",
            Self::Credential => "static credential",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encoding {
    /// Digits of either case.
    Hex,
    /// The standard alphabet with padding.
    Base64,
}

/// How a secret's text becomes a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRule {
    /// Taken off before decoding. Empty: none.
    pub(crate) prefix: String,
    pub(crate) prefix_optional: bool,
    /// Before a private key, which signs, and whose public half verifies.
    pub(crate) private_prefix: Option<String>,
    pub(crate) decode: Decoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Decoding {
    /// The text's own bytes.
    Utf8,
    Hex,
    Base64,
    /// A PEM public key, a PEM certificate, or the base64 of a SubjectPublicKeyInfo; to sign, a PEM private key (PKCS#8).
    PublicKey,
    /// A JSON Web Key (RFC 7517), with `d` to sign; its `kid` is what a request names.
    Jwk,
}

/// The instant that is signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TimeRule {
    /// Which part of a template it is; 0 for other rules, which know theirs.
    pub(crate) part: usize,
    pub(crate) format: TimeFormat,
    /// The largest allowed distance from the instant of receipt, in either direction, inclusive.
    pub(crate) tolerance_s: u32,
}

/// How an instant is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFormat {
    /// Seconds since the Unix epoch: 1 to 12 decimal digits.
    UnixSeconds,
    /// Milliseconds since the Unix epoch: 1 to 15 decimal digits.
    UnixMillis,
    /// An instant of RFC 3339, with any offset.
    Rfc3339,
}

impl fmt::Display for TimeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnixSeconds => "Unix seconds (1 to 12 decimal digits)",
            Self::UnixMillis => "Unix milliseconds (1 to 15 decimal digits)",
            Self::Rfc3339 => "an RFC 3339 instant such as 2024-05-13T12:34:10Z",
        })
    }
}

/// Where keys are fetched from, and what is believed of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FetchRule {
    pub(crate) kind: FetchKind,
    /// The hosts that a key may come from; an exact match of the URL's host.
    pub(crate) hosts: Vec<String>,
    /// What the URL's path begins with.
    pub(crate) path_prefix: String,
    /// Sent with POST where it is there; GET otherwise.
    pub(crate) body: Vec<Piece>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum FetchKind {
    /// A PEM certificate at the URL that a header names.
    Certificate {
        url: HeaderName,
        /// The certificate must be for one of these DNS names.
        subjects: Vec<String>,
    },
    /// A JSON document with a JWK in it; the request names the key by `kid`.
    Jwk { url: Vec<Piece>, fields: JwkPlace },
}

/// Where a JWK stands in a fetched document: the keys to follow from the root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JwkPlace(pub(crate) Vec<String>);

/// A piece of a text that the host sends while fetching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Piece {
    Literal(String),
    Config(usize),
    /// The key id that the request named.
    KeyId,
}

/// A value that must be what it is said to be, beside a matching signature.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bind {
    pub(crate) place: BindPlace,
    /// The place as the profile writes it.
    pub(crate) name: String,
    pub(crate) equals: BindValue,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum BindPlace {
    Header(HeaderName),
    Body(Slot),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum BindValue {
    Literal(String),
    Config(usize),
}

/// Where an event keeps what the envelope needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventRule {
    pub(crate) body: BodyFormat,
    /// A body that is no JSON is a form, and this field of it holds the JSON.
    pub(crate) form_field: Option<String>,
    /// Requests whose Content-Type begins so carry the whole event in the body: headers are not looked at.
    pub(crate) structured: Option<String>,
    /// Pointers into the event: the body, or one item of a batch.
    pub(crate) pointers: Pointers,
    /// Pointers into the body around the items of a batch.
    pub(crate) around: Pointers,
    pub(crate) id: Vec<FieldSource>,
    pub(crate) identity: IdentityRule,
    pub(crate) event_type: Vec<FieldSource>,
    pub(crate) occurred_at: Vec<FieldSource>,
    pub(crate) occurred_format: TimeFormat,
    /// Looked at in order; the first that takes the type is used.
    pub(crate) by_type: Vec<(Vec<TypePattern>, TypeRule)>,
    /// For types that no rule takes.
    pub(crate) otherwise: TypeRule,
    /// The status that each of the provider's labels stands for.
    pub(crate) statuses: BTreeMap<FamilyName, BTreeMap<String, Status>>,
    pub(crate) amounts: Amounts,
    /// Of each request, as attributes behind those of the profile.
    pub(crate) kept_headers: Vec<String>,
    pub(crate) mode: Option<ModeRule>,
}

/// How many digits of an integer amount stand behind the point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Where the provider publishes it; nothing where it keeps to ISO 4217.
    pub source: Option<String>,
    /// For every currency that `exponents` does not name; nothing: as ISO 4217 has it.
    pub exponent: Option<u32>,
    /// Digits behind the point, for the currencies that the provider writes otherwise than the rest.
    pub exponents: BTreeMap<Currency, u32>,
}

impl Amounts {
    /// The provider's own exponent of a currency.
    pub fn exponent(&self, currency: Currency) -> u32 {
        let named = self.exponents.get(&currency).copied();
        named.or(self.exponent).unwrap_or_else(|| currency.exponent())
    }
}

/// How the provider tells test events from live ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ModeRule {
    /// Absent everywhere: the event says nothing of its mode.
    pub(crate) from: Vec<FieldSource>,
    /// The values that say test, a prefix with `*` at its end among them; every other says live.
    pub(crate) test: Vec<String>,
}

/// What tells one event of a source from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IdentityRule {
    /// The event's id.
    EventId,
    /// What was signed, for each item where each carries its own signature.
    SignedMessage,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BodyFormat {
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`; a pointer such as `/MessageSid` names a field.
    Form,
}

/// What depends on the event's type. Lists are alternatives: the first that is present is taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct TypeRule {
    pub(crate) family: Option<FamilyName>,
    pub(crate) subject: Vec<FieldSource>,
    pub(crate) status: Vec<FieldSource>,
    pub(crate) amount: Vec<FieldSource>,
    /// What the amount is taken from before `amount` is looked at, where the provider says both ends.
    pub(crate) amount_change: Option<AmountChange>,
    /// What is added up before `amount` is looked at, where the event has the list.
    pub(crate) amount_sum: Option<AmountSum>,
    pub(crate) amount_unit: AmountUnit,
    pub(crate) currency: Vec<FieldSource>,
    pub(crate) attributes: Vec<(String, Vec<FieldSource>)>,
}

impl TypeRule {
    fn reads_amounts(&self) -> bool {
        !self.amount.is_empty() || self.amount_sum.is_some()
    }
}

/// A total that the provider keeps, before the event and after it. The event is about what has come since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AmountChange {
    pub(crate) from: Vec<FieldSource>,
    pub(crate) to: Vec<FieldSource>,
}

/// An amount that the provider says in parts only: the event is about the sum of those entries of a list that count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AmountSum {
    pub(crate) list: BatchRule,
    /// Into one entry.
    pub(crate) pointers: Pointers,
    pub(crate) amount: Slot,
    pub(crate) currency: Slot,
    /// An entry counts where each of these reads as one of its values.
    pub(crate) only: Vec<(Slot, Vec<String>)>,
}

/// One place that a value may come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FieldSource {
    /// The event: the body, or one item of a batch.
    Body(Slot),
    /// The body around the items of a batch.
    Around(Slot),
    Header {
        name: HeaderName,
        form: HeaderForm,
    },
    Literal(String),
    /// The lower-case hexadecimal SHA-256 of the event's own bytes.
    Digest,
    /// The same over the request's query and the event's own bytes.
    RequestDigest,
    /// All of these, one after the other; absent when one of them is.
    Joined(Vec<FieldSource>),
}

/// How a header writes a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HeaderForm {
    Plain,
    /// Percent-encoded once (CloudEvents HTTP binding, section 3.1.3.2).
    Percent,
    /// A structured-field string (RFC 8941), or the bare text.
    Quoted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AmountUnit {
    /// An integer of the currency's minor unit (cents, paise).
    #[default]
    Minor,
    /// A decimal of the currency's major unit.
    Major,
}

/// Where the items of a batch are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BatchRule {
    pub(crate) steps: Vec<Step>,
    /// A body without the items' list is one event.
    pub(crate) optional: bool,
    pub(crate) empty: EmptyBatch,
}

/// What a batch without items is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EmptyBatch {
    /// Malformed: nothing is kept, so nothing is acknowledged. What holds where no signature is over the whole body.
    Refuse,
    /// A question whether the endpoint holds the secret: answered, with nothing kept, as there is nothing to keep. What holds otherwise.
    Acknowledge,
}

/// One step from the body to its items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Key(String),
    /// Every element of a list. There is exactly one such step.
    Each,
}

/// A request that is answered instead of kept, once it is verified.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChallengeRule {
    pub(crate) pointers: Pointers,
    /// What tells such a request, and its value then.
    pub(crate) when: (FieldSource, String),
    /// What the answer says.
    pub(crate) answer: Slot,
}

/// A question without a signature that comes before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Handshake {
    /// GET with `hub.mode=subscribe`, `hub.verify_token` and `hub.challenge` (WebSub, as Meta uses it). The parameter holds the token.
    HubChallenge { token: usize },
    /// OPTIONS with `WebHook-Request-Origin` (HTTP 1.1 Web Hooks for Event Delivery, section 4). The parameter holds the origin.
    WebHookOrigin { origin: usize },
}

/// What a source says beside its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// The name that a source sets it by.
    pub name: String,
    /// For the tenant: what it is and where the provider shows it.
    pub what: String,
    /// Whether a source must set it.
    #[serde(default)]
    pub required: bool,
    /// Kept as a secret is.
    #[serde(default)]
    pub secret: bool,
    /// What holds when a source does not say.
    pub default: Option<String>,
}

/// What people should know of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// How long the provider waits for an answer, in seconds.
    pub ack_within_s: Option<u32>,
    /// What happens while a secret is changed.
    pub rotation: String,
    /// How the provider repeats what was not acknowledged.
    pub retries: String,
    /// What has surprised people, one sentence or more each.
    pub gotchas: Vec<String>,
}

/// Why a text is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", self.place())]
pub struct ProfileError {
    /// From 1; absent when the problem has no one place.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// What is wrong and how to mend it.
    pub problem: String,
}

impl ProfileError {
    fn place(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("line {line}, column {column}: "),
            _ => String::new(),
        }
    }
}

/// The profiles that ship with Tollgate, by name.
///
/// # Panics
/// Never in a released build: a test reads every shipped file.
pub fn shipped() -> &'static BTreeMap<ProviderName, Arc<Profile>> {
    static SHIPPED: OnceLock<BTreeMap<ProviderName, Arc<Profile>>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        SHIPPED_TEXTS
            .iter()
            .map(|text| Profile::from_toml(text).expect("a shipped profile is valid"))
            .map(|profile| (profile.name.clone(), Arc::new(profile)))
            .collect()
    })
}

/// The shipped profile by which deliveries are signed: Standard Webhooks.
///
/// # Panics
/// Never in a released build, as [`shipped`].
pub fn standard_webhooks() -> &'static Arc<Profile> {
    shipped().get("standard-webhooks").expect("it is the first that ships")
}

macro_rules! shipped_texts {
    ($($name:literal)*) => {
        &[$(include_str!(concat!("../../profiles/", $name, ".toml"))),*]
    };
}

const SHIPPED_TEXTS: &[&str] = shipped_texts![
    // Our own, and the standards.
    "standard-webhooks"
    "svix"
    "generic-hmac"
    "generic-hmac-timestamped"
    "rfc9421-http-message-signatures"
    "cloudevents-http"
    "ietf-idempotency-key"
    // Rewards.
    "voucherify"
    "voucherify-2018"
    "voucherify-raw"
    "talon-one"
    "braze"
    "tremendous"
    // Payments.
    "stripe"
    "razorpay"
    "adyen"
    "adyen-platform"
    "square"
    "paypal"
    "paddle"
    "plaid"
    "coinbase-commerce"
    "coinbase-cdp"
    "checkout-com"
    "mollie"
    "mollie-classic"
    "wise"
    "klarna"
    // Everything else that a reward may hang on.
    "github"
    "shopify"
    "slack"
    "twilio"
    "sendgrid"
    "mailgun"
    "zendesk"
    "twitch"
    "meta"
    "hookdeck"
    "hook0"
];

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// When it is not TOML of the right shape, or describes a scheme that cannot be verified safely.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        check::profile(text)
    }

    /// Whether the event id is among the signed bytes. Where it is not, whoever has one authentic request can send it
    /// again under another id, so the same body under a new id is a suspected replay.
    pub fn id_is_signed(&self) -> bool {
        self.signed.id
    }

    /// Whether the signature holds the whole body. Where it does not, whoever has one authentic request can make up others.
    pub fn body_is_signed(&self) -> bool {
        self.signed.body
    }

    /// Whether the profile reads amounts of any event.
    pub fn reads_amounts(&self) -> bool {
        self.type_rules().any(TypeRule::reads_amounts)
    }

    /// Whether amounts are decimals of the currency's major unit.
    pub fn writes_major_units(&self) -> bool {
        let mut reading = self.type_rules().filter(|rule| rule.reads_amounts());
        reading.any(|rule| rule.amount_unit == AmountUnit::Major)
    }

    fn type_rules(&self) -> impl Iterator<Item = &TypeRule> {
        let by_type = self.event.by_type.iter().map(|(_, rule)| rule);
        by_type.chain([&self.event.otherwise])
    }

    /// How the provider writes amounts of money.
    pub fn amounts(&self) -> &Amounts {
        &self.event.amounts
    }

    /// Whether the provider tells test events from live ones.
    pub fn tells_mode(&self) -> bool {
        self.event.mode.is_some()
    }

    /// The same profile for a source that gives effect to these events.
    #[must_use]
    pub fn with_accept(mut self, accept: Accept) -> Self {
        self.accept = accept;
        self
    }

    /// The same profile for a source that keeps these headers of each request, by their names in lower case.
    #[must_use]
    pub fn with_kept_headers(mut self, names: Vec<String>) -> Self {
        self.event.kept_headers = names;
        self
    }

    /// Which events have effect by themselves.
    pub fn accept(&self) -> Accept {
        self.accept
    }

    /// Whether events are told apart by what was signed and not by their id: then one captured request is one event, under whatever id, type
    /// or spelling it comes again.
    pub fn is_told_by_message(&self) -> bool {
        match self.event.identity {
            IdentityRule::EventId => false,
            IdentityRule::SignedMessage => true,
        }
    }

    /// The same profile for a source whose provider leaves the currency unsaid: amounts that come without one are in `currency`.
    #[must_use]
    pub fn with_currency(mut self, currency: Currency) -> Self {
        let literal = FieldSource::Literal(currency.as_str().to_owned());
        let rules = self
            .event
            .by_type
            .iter_mut()
            .map(|(_, rule)| rule)
            .chain([&mut self.event.otherwise]);
        rules.for_each(|rule| rule.currency.push(literal.clone()));
        self
    }

    /// The same profile for a source whose provider leaves the event type unsaid: events that come without one are of `event_type`.
    #[must_use]
    pub fn with_event_type(mut self, event_type: &EventType) -> Self {
        let literal = FieldSource::Literal(event_type.as_str().to_owned());
        self.event.event_type.push(literal);
        self
    }

    /// Whether only the source can say what type its events are of: see [`Self::with_event_type`].
    pub fn needs_event_type(&self) -> bool {
        self.event.event_type.is_empty()
    }

    /// How far the signed instant may be from the receipt, in seconds; `None` where the scheme signs no instant.
    pub fn tolerance_s(&self) -> Option<u32> {
        self.time.as_ref().map(|time| time.tolerance_s)
    }

    /// Whether requests can be verified only by a source that knows its public URL.
    pub fn signs_url(&self) -> bool {
        match &self.rule {
            Rule::Template(rule) => rule.signed.contains(&Part::Url),
            Rule::HttpSignatures(_) => true,
            Rule::Jws(_) | Rule::Credential(_) | Rule::FetchBack => false,
        }
    }

    /// Whether a source must have secrets; not where every key can be fetched.
    pub fn needs_secrets(&self) -> bool {
        self.fetch.is_none()
    }

    /// Whether requests may name keys that have to be fetched.
    pub fn fetches_keys(&self) -> bool {
        self.fetch.is_some()
    }

    /// The hosts that keys may be fetched from, with a port where it is not 443. Empty when none is fetched.
    pub fn fetch_hosts(&self) -> &[String] {
        self.fetch.as_ref().map_or(&[], |fetch| &fetch.hosts)
    }

    /// What a source says beside its secrets.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// How the provider wants to be answered.
    pub fn ack(&self) -> &Ack {
        &self.ack
    }

    /// The largest body that the provider says it sends, in bytes, where that is more than usual. A source's bound unless it says another.
    pub fn body_bytes_max(&self) -> Option<usize> {
        self.body_bytes_max
    }

    /// What people should know of the provider.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The known answers that the profile itself carries: tenants' profiles do. [`crate::vector::of`] finds those of any profile.
    pub fn vectors(&self) -> &[Vector] {
        &self.vectors
    }

    /// Every family that the profile's events can be of; one may come more than once.
    pub fn families(&self) -> impl Iterator<Item = &FamilyName> {
        let rules = self.event.by_type.iter().map(|(_, rule)| rule);
        rules
            .chain([&self.event.otherwise])
            .filter_map(|rule| rule.family.as_ref())
    }

    /// Every status that the profile's events can have, with its family.
    pub fn statuses(&self) -> impl Iterator<Item = (&FamilyName, &Status)> {
        self.event
            .statuses
            .iter()
            .flat_map(|(family, labels)| labels.values().map(move |status| (family, status)))
    }

    /// The names of the schemes that prove a request.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.schemes.iter().map(|scheme| scheme.name.as_str())
    }

    /// One line on how requests are proved, for lists.
    pub fn scheme_title(&self) -> String {
        let mut titles: Vec<&str> = Vec::new();
        for scheme in &self.schemes {
            if !titles.contains(&scheme.algorithm.title()) {
                titles.push(scheme.algorithm.title());
            }
        }
        let titles = titles.join(", ");
        match &self.rule {
            Rule::Template(rule) => {
                let parts: String = rule
                    .signed
                    .iter()
                    .map(|part| match part {
                        Part::Literal(text) => text.clone(),
                        part => format!("{{{}}}", part.describe()),
                    })
                    .collect();
                let each = if rule.per_item { ", each item" } else { "" };
                format!("{titles} over `{parts}`{each}")
            }
            Rule::Jws(rule) => format!("JWS ({titles}), claim `{}`", rule.body_claim),
            Rule::HttpSignatures(_) => format!("RFC 9421 ({titles})"),
            Rule::Credential(rule) => format!("{titles} (`{}`, {})", rule.header.in_set(0), rule.kind.name()),
            Rule::FetchBack => "none: fetch-back, off".into(),
        }
    }

    /// Of each rule by type, and of all other types last: the types, the places of the subject, and those of the operation.
    pub fn operations(&self) -> Vec<(Option<String>, String, String)> {
        let places = |rule: &TypeRule| {
            let operation = rule.attributes.iter().find(|(name, _)| name == "operation");
            (
                self.places(&rule.subject),
                operation.map(|(_, places)| self.places(places)).unwrap_or_default(),
            )
        };
        let named = self.event.by_type.iter().map(|(types, rule)| {
            let types: Vec<_> = types.iter().map(ToString::to_string).collect();
            (Some(types.join(", ")), rule)
        });
        named
            .chain([(None, &self.event.otherwise)])
            .map(|(types, rule)| {
                let (subject, operation) = places(rule);
                (types, subject, operation)
            })
            .collect()
    }

    /// The places of the event id, as the profile writes them.
    pub fn id_places(&self) -> String {
        self.places(&self.event.id)
    }

    pub(crate) fn places(&self, sources: &[FieldSource]) -> String {
        sources
            .iter()
            .map(|source| self.place(source))
            .collect::<Vec<_>>()
            .join(" or ")
    }

    fn place(&self, source: &FieldSource) -> String {
        match source {
            FieldSource::Body(slot) => self.event.pointers.text(*slot),
            FieldSource::Around(slot) => format!("around:{}", self.event.around.text(*slot)),
            FieldSource::Header { name, form } => match form {
                HeaderForm::Plain => format!("header:{}", name.in_set(0)),
                HeaderForm::Percent => format!("percent:{}", name.in_set(0)),
                HeaderForm::Quoted => format!("quoted:{}", name.in_set(0)),
            },
            FieldSource::Literal(text) => format!("literal:{text}"),
            FieldSource::Digest => "digest:body".into(),
            FieldSource::RequestDigest => "digest:request".into(),
            FieldSource::Joined(sources) => sources
                .iter()
                .map(|source| match source {
                    FieldSource::Literal(text) => text.clone(),
                    source => format!("{{{}}}", self.place(source)),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_is_valid_and_has_a_name_of_its_own() {
        for text in SHIPPED_TEXTS {
            if let Err(error) = Profile::from_toml(text) {
                panic!("{error}\n{text}");
            }
        }
        assert_eq!(shipped().len(), SHIPPED_TEXTS.len());
    }
}
