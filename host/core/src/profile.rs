//! Provider profiles: how a provider signs its requests and where its events keep what the envelope needs. A provider is a
//! TOML file, never a function.
//!
//! [`Profile::from_toml`] checks a file whole; what it returns can be applied to any request without further questions. The
//! grammar is described in `profiles/README.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde::de::{SeqAccess, Visitor};
use toml::Spanned;

use crate::ids::{FamilyName, ProviderName, Status};
use crate::json::{Pointers, Slot};
use crate::limits::ATTRIBUTES_MAX;
use crate::money::Currency;
use crate::route::TypePattern;

/// A checked profile.
#[derive(Debug, Clone)]
pub struct Profile {
    pub name: ProviderName,
    /// Rises with every change of meaning; kept with each receipt that the profile verified and read.
    pub version: u32,
    /// For people.
    pub title: String,
    pub(crate) signature: SignatureRule,
    pub(crate) time: Option<TimeRule>,
    pub(crate) event: EventRule,
    id_signed: bool,
    type_signed: bool,
}

/// Where signatures stand, what they cover and which algorithms make them.
#[derive(Debug, Clone)]
pub(crate) struct SignatureRule {
    /// Each may carry signatures; any match proves the request.
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
    /// Pointers of the signed parts.
    pub(crate) fields: Pointers,
    pub(crate) schemes: Vec<Scheme>,
}

/// A header name, lower case; one per alternative prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderName(Vec<String>);

impl HeaderName {
    /// The name under the alternative prefix that a request uses.
    pub(crate) fn in_set(&self, set: usize) -> &str {
        self.0.get(set).or(self.0.first()).map_or("", String::as_str)
    }
}

/// How the value of a signature header is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// The value is one signature.
    Plain,
    /// `name=value` with a separator between: `t=1,v1=…,v1=…`.
    Params { separator: u8 },
    /// `name,value` with spaces between: `v1,… v1a,…`.
    List,
}

/// A piece of the signed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(String),
    Header { name: HeaderName, shape: Shape },
    Param { name: String, shape: Shape },
    Json { slot: Slot, name: String, shape: Shape },
    Body,
    BodySha256Hex,
    BodySha256Base64,
    Url,
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
            Self::Url => "url".into(),
        }
    }

    fn shape_mut(&mut self) -> Option<&mut Shape> {
        match self {
            Self::Header { shape, .. } | Self::Param { shape, .. } | Self::Json { shape, .. } => Some(shape),
            Self::Literal(_) | Self::Body | Self::BodySha256Hex | Self::BodySha256Base64 | Self::Url => None,
        }
    }
}

/// What a sender-chosen part of the signed bytes may look like, so that the joined bytes can be split in one way only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// The literals beside the part: its value may contain none of them.
    pub(crate) forbidden: Vec<String>,
    /// The value must be a UUID in its 36-character form.
    pub(crate) uuid: bool,
}

/// One way of signing.
#[derive(Debug, Clone)]
pub(crate) struct Scheme {
    /// The label beside a signature where the grammar has labels; kept in the proof.
    pub(crate) name: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) encoding: Encoding,
    pub(crate) key: KeyRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Algorithm {
    HmacSha256,
    HmacSha512,
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Encoding {
    /// Digits of either case.
    Hex,
    /// The standard alphabet with padding.
    Base64,
}

/// How a secret's text becomes a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRule {
    /// Taken off before decoding. Empty: none.
    pub(crate) prefix: String,
    pub(crate) prefix_optional: bool,
    /// Before a private key, which signs, and whose public half verifies.
    pub(crate) private_prefix: Option<String>,
    pub(crate) decode: Decoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Decoding {
    /// The text's own bytes.
    Utf8,
    Hex,
    Base64,
}

/// The instant inside the signed bytes.
#[derive(Debug, Clone)]
pub(crate) struct TimeRule {
    /// Which part of the signed bytes it is.
    pub(crate) part: usize,
    pub(crate) format: TimeFormat,
    /// The largest allowed distance from the instant of receipt, in either direction, inclusive.
    pub(crate) tolerance_s: u32,
}

/// How an instant is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeFormat {
    UnixSeconds,
    UnixMillis,
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

/// Where an event keeps what the envelope needs.
#[derive(Debug, Clone)]
pub(crate) struct EventRule {
    pub(crate) pointers: Pointers,
    pub(crate) id: Vec<FieldSource>,
    pub(crate) event_type: Vec<FieldSource>,
    pub(crate) occurred_at: Vec<FieldSource>,
    pub(crate) occurred_format: TimeFormat,
    /// Looked at in order; the first that takes the type is used.
    pub(crate) by_type: Vec<(Vec<TypePattern>, TypeRule)>,
    /// For types that no rule takes.
    pub(crate) otherwise: TypeRule,
    /// The provider's labels in the house's statuses.
    pub(crate) statuses: BTreeMap<FamilyName, BTreeMap<String, Status>>,
}

/// What depends on the event's type. Lists are alternatives: the first that is present is taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct TypeRule {
    pub(crate) family: Option<FamilyName>,
    pub(crate) subject: Vec<FieldSource>,
    pub(crate) status: Vec<FieldSource>,
    pub(crate) amount: Vec<FieldSource>,
    pub(crate) amount_unit: AmountUnit,
    pub(crate) currency: Vec<FieldSource>,
    pub(crate) attributes: Vec<(String, Vec<FieldSource>)>,
}

/// One place that a value may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldSource {
    Body(Slot),
    Header(HeaderName),
    Literal(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AmountUnit {
    /// An integer of the currency's minor unit (cents, paise).
    #[default]
    Minor,
    /// A decimal of the currency's major unit.
    Major,
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

/// One shipped profile, without reading the others: for a host that lives for one request.
pub fn shipped_one(name: &ProviderName) -> Option<Profile> {
    let line = format!("name = \"{name}\"");
    SHIPPED_TEXTS
        .iter()
        .filter(|text| text.lines().any(|found| found == line))
        .filter_map(|text| Profile::from_toml(text).ok())
        .find(|profile| profile.name == *name)
}

const SHIPPED_TEXTS: &[&str] = &[
    include_str!("../profiles/standard-webhooks.toml"),
    include_str!("../profiles/svix.toml"),
    include_str!("../profiles/voucherify.toml"),
    include_str!("../profiles/stripe.toml"),
    include_str!("../profiles/generic-hmac.toml"),
    include_str!("../profiles/generic-hmac-timestamped.toml"),
    include_str!("../profiles/razorpay.toml"),
    include_str!("../profiles/github.toml"),
    include_str!("../profiles/shopify.toml"),
    include_str!("../profiles/slack.toml"),
    include_str!("../profiles/square.toml"),
    include_str!("../profiles/paddle.toml"),
    include_str!("../profiles/tremendous.toml"),
    include_str!("../profiles/zendesk.toml"),
    include_str!("../profiles/twitch.toml"),
    include_str!("../profiles/checkout-com.toml"),
    include_str!("../profiles/klarna.toml"),
    include_str!("../profiles/hookdeck.toml"),
    include_str!("../profiles/mollie.toml"),
    include_str!("../profiles/coinbase-commerce.toml"),
];

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// When it is not TOML of the right shape, or describes a scheme that cannot be verified safely.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let raw: RawProfile =
            toml::from_str(text).map_err(|error| problem(text, error.span(), error.message().trim().to_owned()))?;
        Check { text, sets: Vec::new() }.profile(raw)
    }

    /// Whether the event id is among the signed bytes. Where it is not, whoever has one authentic request can send it
    /// again under another id, so the same body under a new id is a suspected replay.
    pub fn id_is_signed(&self) -> bool {
        self.id_signed
    }

    /// Whether the event type is among the signed bytes.
    pub fn type_is_signed(&self) -> bool {
        self.type_signed
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

    /// How far the signed instant may be from the receipt, in seconds; `None` where the scheme signs no instant.
    pub fn tolerance_s(&self) -> Option<u32> {
        self.time.as_ref().map(|time| time.tolerance_s)
    }

    /// Whether requests can be verified only by a source that knows its public URL.
    pub fn signs_url(&self) -> bool {
        self.signature.signed.contains(&Part::Url)
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
        self.signature.schemes.iter().map(|scheme| scheme.name.as_str())
    }
}

fn problem(text: &str, span: Option<Range<usize>>, problem: String) -> ProfileError {
    let before = span.and_then(|span| text.get(..span.start));
    ProfileError {
        line: before.map(|before| before.matches('\n').count() + 1),
        column: before.map(|before| before.rsplit('\n').next().unwrap_or_default().chars().count() + 1),
        problem,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    name: ProviderName,
    version: u32,
    title: String,
    signature: RawSignature,
    time: Option<RawTime>,
    event: RawEvent,
    #[serde(default)]
    statuses: BTreeMap<FamilyName, BTreeMap<String, Status>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSignature {
    headers: Spanned<Vec<String>>,
    #[serde(default)]
    header_prefixes: Vec<Spanned<String>>,
    #[serde(default)]
    repeated: bool,
    grammar: Spanned<RawGrammar>,
    separator: Option<Spanned<String>>,
    prefix: Option<String>,
    #[serde(default)]
    prefix_optional: bool,
    key_id: Option<Spanned<String>>,
    signed: Spanned<String>,
    #[serde(default)]
    uuid: Vec<Spanned<String>>,
    scheme: Spanned<Vec<RawScheme>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawGrammar {
    Plain,
    Params,
    List,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScheme {
    name: Spanned<String>,
    algorithm: Algorithm,
    encoding: Encoding,
    key: Spanned<RawKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    prefix_optional: bool,
    private_prefix: Option<String>,
    decode: Decoding,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTime {
    from: Spanned<String>,
    format: TimeFormat,
    tolerance_s: Spanned<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    id: Spanned<Alternatives>,
    id_signed: Option<Spanned<bool>>,
    #[serde(rename = "type")]
    event_type: Spanned<Alternatives>,
    occurred_at: Option<Spanned<Alternatives>>,
    occurred_format: Option<TimeFormat>,
    family: Option<Spanned<FamilyName>>,
    subject: Option<Spanned<Alternatives>>,
    status: Option<Spanned<Alternatives>>,
    amount: Option<Spanned<Alternatives>>,
    amount_unit: Option<AmountUnit>,
    currency: Option<Spanned<Alternatives>>,
    #[serde(default)]
    attributes: BTreeMap<String, Spanned<Alternatives>>,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    types: Spanned<Vec<String>>,
    family: Option<Spanned<FamilyName>>,
    subject: Option<Spanned<Alternatives>>,
    status: Option<Spanned<Alternatives>>,
    amount: Option<Spanned<Alternatives>>,
    amount_unit: Option<AmountUnit>,
    currency: Option<Spanned<Alternatives>>,
    #[serde(default)]
    attributes: BTreeMap<String, Spanned<Alternatives>>,
}

/// One place, or a list of places of which the first present counts.
struct Alternatives(Vec<String>);

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

/// Turns a raw profile into a checked one.
struct Check<'t> {
    text: &'t str,
    /// The alternative prefixes of header names.
    sets: Vec<String>,
}

impl Check<'_> {
    fn problem<T>(&self, at: &Spanned<T>, problem_text: impl Into<String>) -> ProfileError {
        problem(self.text, Some(at.span()), problem_text.into())
    }

    fn profile(mut self, raw: RawProfile) -> Result<Profile, ProfileError> {
        let mut signature = self.signature(&raw.signature)?;
        let time = raw.time.as_ref().map(|time| self.time(time, &signature)).transpose()?;
        self.joins(&raw.signature.signed, &mut signature.signed, time.as_ref())?;
        let event = self.event(&raw)?;

        let body_signed = signature
            .signed
            .iter()
            .any(|part| matches!(part, Part::Body | Part::BodySha256Hex | Part::BodySha256Base64));
        if !body_signed {
            return Err(self.problem(
                &raw.signature.signed,
                "the signed bytes do not contain the body: add `{body}` or a digest of it",
            ));
        }
        let is_signed = |source: &FieldSource| match source {
            FieldSource::Body(_) | FieldSource::Literal(_) => true,
            FieldSource::Header(wanted) => signature
                .signed
                .iter()
                .any(|part| matches!(part, Part::Header { name, .. } if name == wanted)),
        };
        let id_signed = event.id.iter().all(is_signed);
        let type_signed = event.event_type.iter().all(is_signed);
        match (&raw.event.id_signed, id_signed) {
            (None, false) => {
                return Err(self.problem(
                    &raw.event.id,
                    "the event id comes from a header that is not signed; if the provider has no better one, say so with `id_signed = false`",
                ));
            }
            (Some(said), found) if *said.get_ref() != found => {
                return Err(self.problem(
                    said,
                    format!(
                        "`id_signed` is {}, but by the rules above it is {found}",
                        said.get_ref()
                    ),
                ));
            }
            _ => {}
        }
        Ok(Profile {
            name: raw.name,
            version: raw.version,
            title: raw.title,
            signature,
            time,
            event,
            id_signed,
            type_signed,
        })
    }

    fn signature(&mut self, raw: &RawSignature) -> Result<SignatureRule, ProfileError> {
        for prefix in &raw.header_prefixes {
            self.lower_case(prefix, prefix.get_ref())?;
            self.sets.push(prefix.get_ref().clone());
        }
        let headers = raw
            .headers
            .get_ref()
            .iter()
            .map(|name| self.header(&raw.headers, name))
            .collect::<Result<Vec<_>, _>>()?;
        if headers.is_empty() {
            return Err(self.problem(&raw.headers, "name at least one header that carries the signature"));
        }
        let grammar = match (raw.grammar.get_ref(), &raw.separator) {
            (RawGrammar::Plain, None) => Grammar::Plain,
            (RawGrammar::List, None) => Grammar::List,
            (RawGrammar::Params, Some(separator)) => match separator.get_ref().as_bytes() {
                [separator @ (b',' | b';')] => Grammar::Params { separator: *separator },
                _ => return Err(self.problem(separator, "the separator is `,` or `;`")),
            },
            (RawGrammar::Params, None) => {
                return Err(self.problem(&raw.grammar, "the grammar `params` needs a `separator`, `,` or `;`"));
            }
            (_, Some(separator)) => return Err(self.problem(separator, "only the grammar `params` has a separator")),
        };
        if grammar != Grammar::Plain && raw.prefix.is_some() {
            return Err(self.problem(&raw.grammar, "only the grammar `plain` has a prefix"));
        }
        if matches!(grammar, Grammar::Params { .. }) && (headers.len() > 1 || raw.repeated) {
            return Err(self.problem(&raw.headers, "the grammar `params` takes one header that comes once"));
        }
        let key_id = raw
            .key_id
            .as_ref()
            .map(|name| self.header(name, name.get_ref()))
            .transpose()?;
        let mut fields = Pointers::new();
        let mut signed = self.template(&raw.signed, grammar, &mut fields)?;
        for name in &raw.uuid {
            let wanted = self.first_name(name.get_ref());
            let part = signed.iter_mut().find(|part| part.describe() == wanted);
            match part.and_then(Part::shape_mut) {
                Some(shape) => shape.uuid = true,
                None => {
                    return Err(self.problem(
                        name,
                        format!(
                            "`{}` is not a signed part; write it as in `signed`, without braces",
                            name.get_ref()
                        ),
                    ));
                }
            }
        }
        let schemes = self.schemes(&raw.scheme)?;
        if grammar == Grammar::Plain && schemes.len() > 1 {
            return Err(self.problem(&raw.scheme, "the grammar `plain` has no labels, so it takes one scheme"));
        }
        Ok(SignatureRule {
            headers,
            header_sets: self.sets.len().max(1),
            repeated: raw.repeated,
            grammar,
            prefix: raw.prefix.clone().unwrap_or_default(),
            prefix_optional: raw.prefix_optional,
            key_id,
            signed,
            fields,
            schemes,
        })
    }

    fn schemes(&self, raw: &Spanned<Vec<RawScheme>>) -> Result<Vec<Scheme>, ProfileError> {
        let mut schemes: Vec<Scheme> = Vec::new();
        for scheme in raw.get_ref() {
            let name = scheme.name.get_ref();
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            {
                return Err(self.problem(&scheme.name, "a scheme's name is made of letters, digits, `-` and `_`"));
            }
            if schemes.iter().any(|known| known.name == *name) {
                return Err(self.problem(&scheme.name, format!("the scheme `{name}` is declared twice")));
            }
            let key = scheme.key.get_ref();
            if key.private_prefix.is_some() != (scheme.algorithm == Algorithm::Ed25519) {
                return Err(self.problem(
                    &scheme.key,
                    "`private_prefix` belongs to ed25519 keys, and they need one",
                ));
            }
            if scheme.algorithm == Algorithm::Ed25519 && (key.prefix.is_empty() || key.prefix_optional) {
                return Err(self.problem(
                    &scheme.key,
                    "an ed25519 public key needs a `prefix`, so that it is not taken for a shared secret",
                ));
            }
            schemes.push(Scheme {
                name: name.clone(),
                algorithm: scheme.algorithm,
                encoding: scheme.encoding,
                key: KeyRule {
                    prefix: key.prefix.clone(),
                    prefix_optional: key.prefix_optional || key.prefix.is_empty(),
                    private_prefix: key.private_prefix.clone(),
                    decode: key.decode,
                },
            });
        }
        if schemes.is_empty() {
            return Err(self.problem(raw, "declare at least one scheme"));
        }
        Ok(schemes)
    }

    /// Reads `{header:x-id}.{body}` into parts.
    fn template(
        &self,
        raw: &Spanned<String>,
        grammar: Grammar,
        fields: &mut Pointers,
    ) -> Result<Vec<Part>, ProfileError> {
        let mut parts = Vec::new();
        let mut rest = raw.get_ref().as_str();
        while !rest.is_empty() {
            let Some(open) = rest.find('{') else {
                parts.push(Part::Literal(rest.to_owned()));
                break;
            };
            if open > 0 {
                parts.push(Part::Literal(rest[..open].to_owned()));
            }
            let Some(close) = rest[open..].find('}') else {
                return Err(self.problem(raw, "a `{` has no `}` after it"));
            };
            let name = &rest[open + 1..open + close];
            rest = &rest[open + close + 1..];
            let shape = Shape::default();
            parts.push(match name.split_once(':') {
                None if name == "body" => Part::Body,
                None if name == "body-sha256-hex" => Part::BodySha256Hex,
                None if name == "body-sha256-base64" => Part::BodySha256Base64,
                None if name == "url" => Part::Url,
                Some(("header", header)) => Part::Header { name: self.header(raw, header)?, shape },
                Some(("param", _)) if !matches!(grammar, Grammar::Params { .. }) => {
                    return Err(self.problem(raw, format!("`{{{name}}}` needs the grammar `params`")));
                }
                Some(("param", param)) => Part::Param { name: param.to_owned(), shape },
                Some(("json", pointer)) => {
                    let slot = fields.add(pointer).map_err(|wrong| self.problem(raw, wrong))?;
                    Part::Json { slot, name: pointer.to_owned(), shape }
                }
                _ => {
                    return Err(self.problem(
                        raw,
                        format!("`{{{name}}}` is no part; there are body, body-sha256-hex, body-sha256-base64, url, header:NAME, param:NAME and json:/POINTER"),
                    ));
                }
            });
        }
        Ok(parts)
    }

    fn time(&self, raw: &RawTime, signature: &SignatureRule) -> Result<TimeRule, ProfileError> {
        let wanted = raw.from.get_ref();
        let part = signature.signed.iter().position(|part| {
            matches!(part, Part::Header { .. } | Part::Param { .. } | Part::Json { .. })
                && part.describe() == self.first_name(wanted)
        });
        let Some(part) = part else {
            return Err(self.problem(
                &raw.from,
                format!("`{wanted}` is not a signed part; an instant that is not signed proves nothing"),
            ));
        };
        let tolerance_s = *raw.tolerance_s.get_ref();
        if tolerance_s == 0 || tolerance_s > 24 * 60 * 60 {
            return Err(self.problem(&raw.tolerance_s, "the tolerance is 1 to 86400 seconds"));
        }
        Ok(TimeRule {
            part,
            format: raw.format,
            tolerance_s,
        })
    }

    /// Sees to it that the joined bytes can be split in one way only: a part never contains a literal that stands beside it,
    /// and two parts without a literal between need one whose length is fixed.
    fn joins(&self, raw: &Spanned<String>, parts: &mut [Part], time: Option<&TimeRule>) -> Result<(), ProfileError> {
        for at in 0..parts.len() {
            let beside = |other: Option<&Part>| match other {
                Some(Part::Literal(text)) => Some(text.clone()),
                _ => None,
            };
            let mut forbidden: Vec<String> = beside(parts.get(at + 1)).into_iter().collect();
            // A literal at the very start separates nothing.
            if at > 1 {
                forbidden.extend(beside(parts.get(at - 1)));
            }
            if let Some(shape) = parts[at].shape_mut() {
                shape.forbidden = forbidden;
            }
        }
        // Within its tolerance an instant has one length; the source's URL and digests are not the sender's choice.
        let fixed = |at: usize| match &parts[at] {
            Part::Header { shape, .. } | Part::Param { shape, .. } | Part::Json { shape, .. } => {
                shape.uuid || time.is_some_and(|time| time.part == at)
            }
            Part::Literal(_) | Part::BodySha256Hex | Part::BodySha256Base64 | Part::Url => true,
            Part::Body => false,
        };
        match (1..parts.len()).find(|&at| !fixed(at - 1) && !fixed(at)) {
            None => Ok(()),
            Some(at) => Err(self.problem(
                raw,
                format!(
                    "`{}` and `{}` stand side by side, so bytes could move from one to the other; put a literal between, or name one of them under `uuid` if it always is one",
                    parts[at - 1].describe(),
                    parts[at].describe()
                ),
            )),
        }
    }

    fn event(&self, raw: &RawProfile) -> Result<EventRule, ProfileError> {
        let event = &raw.event;
        let mut pointers = Pointers::new();
        let base = TypeRule {
            family: self.family(event.family.as_ref(), &raw.statuses)?,
            subject: self.sources(event.subject.as_ref(), &mut pointers)?,
            status: self.statuses(event.status.as_ref(), &mut pointers)?,
            amount: self.sources(event.amount.as_ref(), &mut pointers)?,
            amount_unit: event.amount_unit.unwrap_or_default(),
            currency: self.currency(event.currency.as_ref(), &mut pointers)?,
            attributes: self.attributes(&[], &event.attributes, &mut pointers)?,
        };
        let mut by_type = Vec::new();
        for rule in &event.rule {
            let patterns = rule
                .types
                .get_ref()
                .iter()
                .map(|pattern| TypePattern::new(pattern))
                .collect::<Result<Vec<_>, _>>();
            let patterns = patterns.map_err(|wrong| self.problem(&rule.types, wrong))?;
            if patterns.is_empty() {
                return Err(self.problem(&rule.types, "a rule without types never applies: name one, or `*`"));
            }
            let or = |own: Vec<FieldSource>, base: &Vec<FieldSource>| if own.is_empty() { base.clone() } else { own };
            by_type.push((
                patterns,
                TypeRule {
                    family: self
                        .family(rule.family.as_ref(), &raw.statuses)?
                        .or_else(|| base.family.clone()),
                    subject: or(self.sources(rule.subject.as_ref(), &mut pointers)?, &base.subject),
                    status: or(self.statuses(rule.status.as_ref(), &mut pointers)?, &base.status),
                    amount: or(self.sources(rule.amount.as_ref(), &mut pointers)?, &base.amount),
                    amount_unit: rule.amount_unit.unwrap_or(base.amount_unit),
                    currency: or(self.currency(rule.currency.as_ref(), &mut pointers)?, &base.currency),
                    attributes: self.attributes(&base.attributes, &rule.attributes, &mut pointers)?,
                },
            ));
        }
        let rule = EventRule {
            id: self.sources(Some(&event.id), &mut pointers)?,
            event_type: self.sources(Some(&event.event_type), &mut pointers)?,
            occurred_at: self.sources(event.occurred_at.as_ref(), &mut pointers)?,
            occurred_format: event.occurred_format.unwrap_or(TimeFormat::Rfc3339),
            pointers,
            by_type,
            otherwise: base,
            statuses: raw.statuses.clone(),
        };
        if rule.id.iter().any(|source| matches!(source, FieldSource::Literal(_))) {
            return Err(self.problem(
                &event.id,
                "an event id cannot be a literal: every event would be the same",
            ));
        }
        Ok(rule)
    }

    fn family(
        &self,
        family: Option<&Spanned<FamilyName>>,
        statuses: &BTreeMap<FamilyName, BTreeMap<String, Status>>,
    ) -> Result<Option<FamilyName>, ProfileError> {
        let Some(family) = family else { return Ok(None) };
        if !statuses.contains_key(family.get_ref()) {
            return Err(self.problem(
                family,
                format!("the family `{0}` has no table of labels: add `[statuses.{0}]` with lines such as `PENDING = \"pending\"`", family.get_ref()),
            ));
        }
        Ok(Some(family.get_ref().clone()))
    }

    /// A literal status is one of the house's statuses, not a label of the provider.
    fn statuses(
        &self,
        raw: Option<&Spanned<Alternatives>>,
        pointers: &mut Pointers,
    ) -> Result<Vec<FieldSource>, ProfileError> {
        let sources = self.sources(raw, pointers)?;
        for source in &sources {
            if let (FieldSource::Literal(text), Some(raw)) = (source, raw) {
                Status::new(text).map_err(|wrong| self.problem(raw, format!("`{text}` is not a status: {wrong}")))?;
            }
        }
        Ok(sources)
    }

    fn currency(
        &self,
        raw: Option<&Spanned<Alternatives>>,
        pointers: &mut Pointers,
    ) -> Result<Vec<FieldSource>, ProfileError> {
        let sources = self.sources(raw, pointers)?;
        for source in &sources {
            if let (FieldSource::Literal(text), Some(raw)) = (source, raw)
                && Currency::new(text).is_none()
            {
                return Err(self.problem(raw, format!("`{text}` is not a currency code such as USD")));
            }
        }
        Ok(sources)
    }

    fn attributes(
        &self,
        base: &[(String, Vec<FieldSource>)],
        raw: &BTreeMap<String, Spanned<Alternatives>>,
        pointers: &mut Pointers,
    ) -> Result<Vec<(String, Vec<FieldSource>)>, ProfileError> {
        let mut attributes = base.to_vec();
        for (name, places) in raw {
            let sources = self.sources(Some(places), pointers)?;
            match attributes.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = sources,
                None => attributes.push((name.clone(), sources)),
            }
            if attributes.len() > ATTRIBUTES_MAX {
                return Err(self.problem(places, format!("an event has at most {ATTRIBUTES_MAX} attributes")));
            }
        }
        Ok(attributes)
    }

    fn sources(
        &self,
        raw: Option<&Spanned<Alternatives>>,
        pointers: &mut Pointers,
    ) -> Result<Vec<FieldSource>, ProfileError> {
        let Some(raw) = raw else { return Ok(Vec::new()) };
        let mut sources = Vec::new();
        for place in &raw.get_ref().0 {
            sources.push(if let Some(name) = place.strip_prefix("header:") {
                FieldSource::Header(self.header(raw, name)?)
            } else if let Some(text) = place.strip_prefix("literal:") {
                FieldSource::Literal(text.to_owned())
            } else if place.starts_with('/') {
                FieldSource::Body(pointers.add(place).map_err(|wrong| self.problem(raw, wrong))?)
            } else {
                return Err(self.problem(raw, format!("`{place}` is no place: write a JSON pointer such as `/data/id`, `header:NAME` or `literal:TEXT`")));
            });
        }
        if sources.is_empty() {
            return Err(self.problem(raw, "an empty list of places: name one, or leave the key out"));
        }
        Ok(sources)
    }

    fn header<T>(&self, at: &Spanned<T>, name: &str) -> Result<HeaderName, ProfileError> {
        self.lower_case(at, name.strip_prefix('*').unwrap_or(name))?;
        match name.strip_prefix('*') {
            None => Ok(HeaderName(vec![name.to_owned()])),
            Some(_) if self.sets.is_empty() => Err(self.problem(
                at,
                format!("`{name}` begins with `*`, which stands for one of `header_prefixes`; there are none"),
            )),
            Some(rest) => Ok(HeaderName(
                self.sets.iter().map(|prefix| format!("{prefix}{rest}")).collect(),
            )),
        }
    }

    /// A part as [`Part::describe`] writes it: with the first of the alternative prefixes.
    fn first_name(&self, name: &str) -> String {
        match (name.strip_prefix("header:*"), self.sets.first()) {
            (Some(rest), Some(prefix)) => format!("header:{prefix}{rest}"),
            _ => name.to_owned(),
        }
    }

    fn lower_case<T>(&self, at: &Spanned<T>, name: &str) -> Result<(), ProfileError> {
        let is_token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !name.is_empty() && name.bytes().all(is_token) {
            return Ok(());
        }
        Err(self.problem(at, format!("`{name}` is not a header name in lower case")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shipped_profile_is_found_alone() {
        for name in shipped().keys() {
            assert_eq!(shipped_one(name).map(|profile| profile.name), Some(name.clone()));
        }
        assert!(shipped_one(&"nobody".parse().unwrap()).is_none());
    }

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
