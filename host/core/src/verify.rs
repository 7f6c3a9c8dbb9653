//! Verification: a profile's rule applied to the raw bytes of one request (promise I1).
//!
//! [`verify`] is the only maker of [`Verified`]. It reads headers and body bytes as they came; it parses a body only where a
//! profile signs a field of it. Tags are decoded to bytes and compared in constant time. Time is judged against the instant of
//! receipt, never against a clock.

use std::borrow::Cow;
use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::event::Proof;
use crate::ids::{KeyId, ProviderName};
use crate::json::Scalar;
use crate::limits::{SECRETS_MAX, SIGNATURE_ENTRIES_MAX};
use crate::profile::{Algorithm, Decoding, Encoding, Grammar, KeyRule, Part, Profile, Scheme, Shape, TimeFormat};
use crate::request::RawRequest;
use crate::secret::SourceSecret;
use crate::time::UnixMillis;

/// The longest signature of any algorithm, in bytes.
const TAG_BYTES_MAX: usize = 64;

/// A source's secrets, decoded as the profile says and ready to compute with. `Debug` shows their ids only.
#[derive(Clone)]
pub struct Keyring {
    provider: ProviderName,
    version: u32,
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: KeyId,
    /// Position among the profile's schemes.
    scheme: usize,
    not_before: Option<UnixMillis>,
    not_after: Option<UnixMillis>,
    material: Material,
}

/// A key with all the work done that does not depend on the message.
#[derive(Clone)]
enum Material {
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Hmac<Sha512>),
    Ed25519(Box<VerifyingKey>),
}

/// Why a secret is no key. Names the secret by its id and shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a source needs at least one secret")]
    NoSecrets,
    #[error("{count} secrets; a source has at most {SECRETS_MAX}")]
    TooMany { count: usize },
    #[error("two secrets have the id `{id}`")]
    RepeatedId { id: KeyId },
    #[error("secret `{id}` is empty")]
    Empty { id: KeyId },
    #[error("secret `{id}` begins or ends with white space, perhaps a line break at the end of its file: remove it")]
    WhiteSpace { id: KeyId },
    #[error("secret `{id}` does not begin with {expected}, as {provider} secrets do")]
    Prefix {
        id: KeyId,
        provider: ProviderName,
        expected: String,
    },
    #[error("secret `{id}` is not {expected}{after}")]
    Encoding {
        id: KeyId,
        expected: &'static str,
        after: String,
    },
    #[error("secret `{id}` decodes to {bytes} bytes; {expected}")]
    Length {
        id: KeyId,
        bytes: usize,
        expected: &'static str,
    },
    #[error("secret `{id}` is not a valid ed25519 key")]
    NotAKey { id: KeyId },
}

/// A secret's text as the profile understands it.
pub(crate) enum Decoded {
    Shared { scheme: usize, key: Zeroizing<Vec<u8>> },
    Public { scheme: usize, key: Box<VerifyingKey> },
    Private { scheme: usize, key: Box<SigningKey> },
}

/// Decodes one secret by the first scheme whose prefix it has; a scheme that can do without its prefix comes last.
pub(crate) fn decode(profile: &Profile, secret: &SourceSecret) -> Result<Decoded, KeyError> {
    let id = || secret.id.clone();
    let text = secret.text.expose();
    if text.is_empty() {
        return Err(KeyError::Empty { id: id() });
    }
    if text.first().is_some_and(u8::is_ascii_whitespace) || text.last().is_some_and(u8::is_ascii_whitespace) {
        return Err(KeyError::WhiteSpace { id: id() });
    }
    let schemes = || profile.signature.schemes.iter().enumerate();
    for (at, scheme) in schemes() {
        let rule = &scheme.key;
        if let Some(prefix) = &rule.private_prefix
            && let Some(rest) = text.strip_prefix(prefix.as_bytes())
        {
            return Ok(Decoded::Private {
                scheme: at,
                key: Box::new(private_key(secret, rule, prefix, rest)?),
            });
        }
        if !rule.prefix.is_empty()
            && let Some(rest) = text.strip_prefix(rule.prefix.as_bytes())
        {
            return decode_by(secret, at, scheme, rest);
        }
    }
    match schemes().find(|(_, scheme)| scheme.key.prefix_optional) {
        Some((at, scheme)) => decode_by(secret, at, scheme, text),
        None => {
            let prefixes: Vec<_> = schemes()
                .flat_map(|(_, scheme)| std::iter::once(&scheme.key.prefix).chain(&scheme.key.private_prefix))
                .map(|prefix| format!("`{prefix}`"))
                .collect();
            Err(KeyError::Prefix {
                id: id(),
                provider: profile.name.clone(),
                expected: prefixes.join(" or "),
            })
        }
    }
}

fn decode_by(secret: &SourceSecret, at: usize, scheme: &Scheme, text: &[u8]) -> Result<Decoded, KeyError> {
    let key = decode_text(secret, &scheme.key, &scheme.key.prefix, text)?;
    match scheme.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha512 => Ok(Decoded::Shared { scheme: at, key }),
        Algorithm::Ed25519 => {
            let Ok(bytes) = <&[u8; 32]>::try_from(key.as_slice()) else {
                return Err(KeyError::Length {
                    id: secret.id.clone(),
                    bytes: key.len(),
                    expected: "an ed25519 public key has 32",
                });
            };
            let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAKey { id: secret.id.clone() })?;
            Ok(Decoded::Public {
                scheme: at,
                key: Box::new(key),
            })
        }
    }
}

/// Reads the seed, or the seed with the public half after it.
fn private_key(secret: &SourceSecret, rule: &KeyRule, prefix: &str, text: &[u8]) -> Result<SigningKey, KeyError> {
    let bytes = decode_text(secret, rule, prefix, text)?;
    if let Ok(seed) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(SigningKey::from_bytes(seed));
    }
    let Ok(pair) = <&[u8; 64]>::try_from(bytes.as_slice()) else {
        return Err(KeyError::Length {
            id: secret.id.clone(),
            bytes: bytes.len(),
            expected: "an ed25519 private key has 32 or 64",
        });
    };
    SigningKey::from_keypair_bytes(pair).map_err(|_| KeyError::NotAKey { id: secret.id.clone() })
}

fn decode_text(
    secret: &SourceSecret,
    rule: &KeyRule,
    prefix: &str,
    text: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |expected| KeyError::Encoding {
        id: secret.id.clone(),
        expected,
        after: if secret.text.expose().starts_with(prefix.as_bytes()) && !prefix.is_empty() {
            format!(" after {prefix}")
        } else {
            String::new()
        },
    };
    let bytes = match rule.decode {
        Decoding::Utf8 => text.to_vec(),
        Decoding::Hex => HEXLOWER_PERMISSIVE.decode(text).map_err(|_| failed("hexadecimal"))?,
        Decoding::Base64 => {
            let padding = text.iter().rev().take_while(|b| **b == b'=').count();
            // Some dashboards cut the padding off; it carries nothing.
            let decoded = if padding == 0 {
                BASE64_NOPAD.decode(text)
            } else {
                BASE64.decode(text)
            };
            decoded.map_err(|_| failed("base64"))?
        }
    };
    if bytes.is_empty() {
        return Err(KeyError::Empty { id: secret.id.clone() });
    }
    Ok(Zeroizing::new(bytes))
}

impl Keyring {
    /// Decodes a source's secrets. A private key is taken for its public half.
    ///
    /// # Errors
    /// When there is none, there are too many, or one is not a key by the profile's rule.
    pub fn new(profile: &Profile, secrets: &[SourceSecret]) -> Result<Self, KeyError> {
        if secrets.is_empty() {
            return Err(KeyError::NoSecrets);
        }
        if secrets.len() > SECRETS_MAX {
            return Err(KeyError::TooMany { count: secrets.len() });
        }
        let mut keys: Vec<Key> = Vec::with_capacity(secrets.len());
        for secret in secrets {
            if keys.iter().any(|key| key.id == secret.id) {
                return Err(KeyError::RepeatedId { id: secret.id.clone() });
            }
            let (scheme, material) = match decode(profile, secret)? {
                Decoded::Shared { scheme, key } => (
                    scheme,
                    Material::shared(profile.signature.schemes[scheme].algorithm, &key),
                ),
                Decoded::Public { scheme, key } => (scheme, Some(Material::Ed25519(key))),
                Decoded::Private { scheme, key } => (scheme, Some(Material::Ed25519(Box::new(key.verifying_key())))),
            };
            let material = material.ok_or_else(|| KeyError::NotAKey { id: secret.id.clone() })?;
            keys.push(Key {
                id: secret.id.clone(),
                scheme,
                not_before: secret.not_before,
                not_after: secret.not_after,
                material,
            });
        }
        Ok(Self {
            provider: profile.name.clone(),
            version: profile.version,
            keys,
        })
    }

    /// The ids of the secrets, in their order.
    pub fn key_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().map(|key| &key.id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("provider", &self.provider)
            .field("keys", &self.key_ids().collect::<Vec<_>>())
            .finish()
    }
}

impl Key {
    fn is_active(&self, at: UnixMillis) -> bool {
        self.not_before.is_none_or(|from| from <= at) && self.not_after.is_none_or(|until| at < until)
    }
}

impl Material {
    /// `None` for an algorithm without shared keys.
    fn shared(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::HmacSha256 => Hmac::new_from_slice(key).ok().map(Self::HmacSha256),
            Algorithm::HmacSha512 => Hmac::new_from_slice(key).ok().map(Self::HmacSha512),
            Algorithm::Ed25519 => None,
        }
    }
}

/// A shared key's tag over the joined parts.
pub(crate) fn shared_tag(algorithm: Algorithm, key: &[u8], parts: &[Cow<'_, [u8]>]) -> Option<Tag> {
    Material::shared(algorithm, key).and_then(|material| material.tag(parts))
}

impl Material {
    fn tag(&self, parts: &[Cow<'_, [u8]>]) -> Option<Tag> {
        fn run<M: Mac + Clone>(keyed: &M, parts: &[Cow<'_, [u8]>]) -> Option<Tag> {
            let mut mac = keyed.clone();
            parts.iter().for_each(|part| mac.update(part));
            Tag::new(&mac.finalize().into_bytes())
        }
        match self {
            Self::HmacSha256(keyed) => run(keyed, parts),
            Self::HmacSha512(keyed) => run(keyed, parts),
            Self::Ed25519(_) => None,
        }
    }
}

/// Signature bytes of any algorithm.
#[derive(Clone, Copy)]
pub(crate) struct Tag {
    bytes: [u8; TAG_BYTES_MAX],
    len: usize,
}

impl Tag {
    pub(crate) fn new(from: &[u8]) -> Option<Self> {
        let mut bytes = [0; TAG_BYTES_MAX];
        bytes.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self { bytes, len: from.len() })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Decodes what a header carries; `None` when it is not that encoding or too long to be any signature.
    fn decode(encoding: Encoding, text: &[u8]) -> Option<Self> {
        let codec = match encoding {
            Encoding::Hex => &HEXLOWER_PERMISSIVE,
            Encoding::Base64 => &BASE64,
        };
        let mut bytes = [0; TAG_BYTES_MAX + 2];
        let room = codec.decode_len(text.len()).ok().filter(|room| *room <= bytes.len())?;
        let len = codec.decode_mut(text, &mut bytes[..room]).ok()?;
        if len == 0 { None } else { Self::new(&bytes[..len]) }
    }
}

/// A request whose bytes are proved to come from the holder of one of the source's secrets. Only [`verify`] makes one.
#[derive(Debug, Clone)]
pub struct Verified<'a> {
    request: RawRequest<'a>,
    proof: Proof,
    header_set: usize,
}

impl<'a> Verified<'a> {
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    pub fn request(&self) -> &RawRequest<'a> {
        &self.request
    }

    /// Which of the profile's alternative header prefixes the request uses.
    pub(crate) fn header_set(&self) -> usize {
        self.header_set
    }
}

/// Why a request is not proved. `Display` explains it to the tenant; the sender is told nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("the header `{name}` is missing")]
    MissingHeader { name: String },
    #[error("the header `{name}` came more than once")]
    RepeatedHeader { name: String },
    #[error("the header `{header}` is not a signature: {detail}")]
    MalformedSignature { header: String, detail: String },
    #[error("the timestamp in `{part}` is not {expected}")]
    MalformedTimestamp { part: String, expected: TimeFormat },
    /// `seconds` from the signed instant to the receipt; negative when the instant lies in the future.
    #[error("{}; at most {tolerance_s} s are allowed", distance(*seconds))]
    TimestampOutsideTolerance { seconds: i64, tolerance_s: u32 },
    #[error("`{part}` {detail}")]
    ForbiddenShape { part: String, detail: String },
    #[error("the scheme signs the source's public URL, and the source has none configured")]
    NoUrl,
    #[error("the scheme signs the field `{pointer}` of the body, which cannot be read: {detail}")]
    UnreadableBody { pointer: String, detail: String },
    #[error("the header `{header}` names a secret that the source does not have")]
    UnknownKey { header: String },
    #[error("none of the source's secrets was valid for this scheme when the request came in")]
    NoActiveSecret,
    #[error("no signature matches: {signatures} looked at, {secrets} active secrets tried")]
    NoMatch { signatures: usize, secrets: usize },
    #[error("the secrets were decoded for {provider}, version {version}, not for this profile")]
    ForeignKeyring { provider: ProviderName, version: u32 },
}

fn distance(seconds: i64) -> String {
    if seconds < 0 {
        format!("the request was signed {} s in the future", seconds.unsigned_abs())
    } else {
        format!("the request was signed {seconds} s before it came in")
    }
}

impl Unproven {
    /// A short name for counters and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingHeader { .. } => "missing-header",
            Self::RepeatedHeader { .. } => "repeated-header",
            Self::MalformedSignature { .. } => "malformed-signature",
            Self::MalformedTimestamp { .. } => "malformed-timestamp",
            Self::TimestampOutsideTolerance { .. } => "timestamp-outside-tolerance",
            Self::ForbiddenShape { .. } => "forbidden-shape",
            Self::NoUrl => "no-url",
            Self::UnreadableBody { .. } => "unreadable-body",
            Self::UnknownKey { .. } => "unknown-key",
            Self::NoActiveSecret => "no-active-secret",
            Self::NoMatch { .. } => "no-match",
            Self::ForeignKeyring { .. } => "foreign-keyring",
        }
    }
}

/// Proves a request by the profile's rule.
///
/// # Errors
/// Whatever keeps it from being proved. Nothing is guessed and no weaker rule is tried.
pub fn verify<'a>(profile: &Profile, keyring: &Keyring, request: RawRequest<'a>) -> Result<Verified<'a>, Unproven> {
    let found = attempt(profile, keyring, &request, Strictness::FULL)?;
    Ok(Verified {
        proof: Proof {
            provider: profile.name.clone(),
            profile_version: profile.version,
            scheme: profile.signature.schemes[found.scheme].name.clone(),
            key_id: found.key_id,
            signed_at: found.signed_at,
        },
        header_set: found.header_set,
        request,
    })
}

/// After a failure, tries to say why. For tenants' own tooling: it computes more than an edge should, and nothing that it
/// finds is ever a reason to accept.
pub fn hints(profile: &Profile, keyring: &Keyring, request: &RawRequest<'_>) -> Vec<String> {
    let mut hints = Vec::new();
    let try_with = |request: &RawRequest<'_>| attempt(profile, keyring, request, Strictness::NONE).ok();
    if let Some(found) = try_with(request) {
        if attempt(
            profile,
            keyring,
            request,
            Strictness {
                windows: false,
                ..Strictness::FULL
            },
        )
        .is_ok()
        {
            hints.push(format!(
                "the signature matches secret `{}`, which was not valid at {}",
                found.key_id, request.received_at
            ));
        } else if let (Some(at), Some(tolerance_s)) = (found.signed_at, profile.tolerance_s()) {
            let distance = distance(request.received_at.since(at).div_euclid(1000));
            hints.push(format!(
                "the signature itself is right (secret `{}`), but {distance}, and at most {tolerance_s} s are allowed: compare the clocks, or give the time of receipt when checking a recorded request",
                found.key_id
            ));
        }
        return hints;
    }
    for (body, finding) in body_variants(request.body) {
        if try_with(&RawRequest {
            body: &body,
            ..*request
        })
        .is_some()
        {
            hints.push(finding.to_owned());
        }
    }
    if let Some(url) = request.url {
        let (shorter, longer) = (url.strip_suffix('/').map(str::to_owned), format!("{url}/"));
        for url in shorter.iter().chain([&longer]) {
            if try_with(&RawRequest {
                url: Some(url),
                ..*request
            })
            .is_some()
            {
                hints.push(format!(
                    "the signature matches for the URL {url}: configure the URL exactly as the provider has it"
                ));
            }
        }
    }
    hints
}

/// What proxies, frameworks and copy and paste do to a body.
fn body_variants(body: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let mut variants = Vec::new();
    let mut trimmed = body;
    while let Some(rest) = trimmed.strip_suffix(b"\n").or_else(|| trimmed.strip_suffix(b"\r")) {
        trimmed = rest;
    }
    if trimmed.len() < body.len() {
        variants.push((
            trimmed.to_vec(),
            "the signature matches without the line break at the body's end: something added it",
        ));
    }
    variants.push((
        [body, b"\n"].concat(),
        "the signature matches with a line break at the body's end: something removed it",
    ));
    if let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
        variants.push((
            rest.to_vec(),
            "the signature matches without the byte order mark at the body's start: something added it",
        ));
    }
    if body.contains(&b'\r') {
        let unix = body.iter().copied().filter(|b| *b != b'\r').collect();
        variants.push((
            unix,
            "the signature matches with LF line breaks instead of CRLF: something converted them",
        ));
    }
    let minified = minify(body);
    if minified != trimmed {
        variants.push((
            minified,
            "the signature matches the minified body: something formatted the JSON after it was signed",
        ));
    }
    if let Ok(Ok(value)) = std::str::from_utf8(body).map(serde_json::from_str::<serde_json::Value>) {
        let encoded = value.to_string().into_bytes();
        variants.push((
            encoded,
            "the signature matches the body when it is parsed and written again: something re-encoded it",
        ));
    }
    variants
}

/// Removes white space outside of JSON strings.
fn minify(body: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let keeps = |b: &u8| {
        if in_string {
            in_string = escaped || *b != b'"';
            escaped = !escaped && *b == b'\\';
            return true;
        }
        in_string = *b == b'"';
        !b.is_ascii_whitespace()
    };
    body.iter().copied().filter(keeps).collect()
}

/// What an attempt insists on beside a matching signature. Only [`Strictness::FULL`] may lead to acceptance.
#[derive(Clone, Copy)]
struct Strictness {
    windows: bool,
    tolerance: bool,
}

impl Strictness {
    const FULL: Self = Self {
        windows: true,
        tolerance: true,
    };
    const NONE: Self = Self {
        windows: false,
        tolerance: false,
    };
}

struct Found {
    key_id: KeyId,
    scheme: usize,
    signed_at: Option<UnixMillis>,
    header_set: usize,
}

/// One signature of the request.
struct Candidate {
    scheme: usize,
    tag: Tag,
}

fn attempt(
    profile: &Profile,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    if keyring.provider != profile.name || keyring.version != profile.version {
        return Err(Unproven::ForeignKeyring {
            provider: keyring.provider.clone(),
            version: keyring.version,
        });
    }
    let header_set = header_set(profile, request)?;
    let parts = signed_parts(profile, request, header_set)?;
    let signed_at = signed_at(profile, request, &parts, strictness)?;
    let candidates = candidates(profile, request, header_set)?;
    let named = named_key(profile, request, header_set)?;

    let mut tried = 0;
    let mut public_checks = 0;
    let mut message = None;
    for key in &keyring.keys {
        let wanted = named.is_none_or(|name| key.id.as_str().as_bytes() == name);
        let offered = || candidates.iter().filter(|candidate| candidate.scheme == key.scheme);
        if !wanted || (strictness.windows && !key.is_active(request.received_at)) || offered().next().is_none() {
            continue;
        }
        tried += 1;
        let matches = match &key.material {
            Material::Ed25519(public) => {
                let message: &Vec<u8> = message.get_or_insert_with(|| parts.concat());
                offered().any(|candidate| {
                    // A check costs some forty microseconds, and whoever sends the request chooses how many signatures it has.
                    public_checks += 1;
                    public_checks <= SIGNATURE_ENTRIES_MAX
                        && Signature::from_slice(candidate.tag.as_slice())
                            .is_ok_and(|signature| public.verify_strict(message, &signature).is_ok())
                })
            }
            shared => shared
                .tag(&parts)
                .is_some_and(|tag| offered().any(|candidate| tag.as_slice().ct_eq(candidate.tag.as_slice()).into())),
        };
        if matches {
            return Ok(Found {
                key_id: key.id.clone(),
                scheme: key.scheme,
                signed_at,
                header_set,
            });
        }
    }
    if tried == 0 {
        return Err(match (named, &profile.signature.key_id) {
            (Some(name), Some(header)) if !keyring.keys.iter().any(|key| key.id.as_str().as_bytes() == name) => {
                Unproven::UnknownKey {
                    header: header.in_set(header_set).to_owned(),
                }
            }
            _ => Unproven::NoActiveSecret,
        });
    }
    Err(Unproven::NoMatch {
        signatures: candidates.len(),
        secrets: tried,
    })
}

/// Chooses the alternative prefix by which signature header is there. One choice serves the whole request, so that parts of two
/// sets are never combined.
fn header_set(profile: &Profile, request: &RawRequest<'_>) -> Result<usize, Unproven> {
    let headers = &profile.signature.headers;
    (0..profile.signature.header_sets)
        .find(|&set| {
            headers
                .iter()
                .any(|name| request.header_values(name.in_set(set)).next().is_some())
        })
        .ok_or_else(|| Unproven::MissingHeader {
            name: headers.first().map_or("", |name| name.in_set(0)).to_owned(),
        })
}

fn single<'a>(request: &RawRequest<'a>, name: &str) -> Result<&'a [u8], Unproven> {
    match request.single_header(name) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Unproven::MissingHeader { name: name.to_owned() }),
        Err(()) => Err(Unproven::RepeatedHeader { name: name.to_owned() }),
    }
}

/// The pieces whose concatenation was signed.
fn signed_parts<'a>(
    profile: &'a Profile,
    request: &RawRequest<'a>,
    header_set: usize,
) -> Result<Vec<Cow<'a, [u8]>>, Unproven> {
    let rule = &profile.signature;
    let fields = if rule.fields.is_empty() {
        None
    } else {
        Some(body_fields(profile, request)?)
    };
    let mut parts = Vec::with_capacity(rule.signed.len());
    for part in &rule.signed {
        let (value, shape): (Cow<'a, [u8]>, Option<&Shape>) = match part {
            Part::Literal(text) => (Cow::Borrowed(text.as_bytes()), None),
            Part::Header { name, shape } => (Cow::Borrowed(single(request, name.in_set(header_set))?), Some(shape)),
            Part::Param { name, shape } => (
                Cow::Borrowed(single_param(profile, request, header_set, name)?),
                Some(shape),
            ),
            Part::Json { slot, name, shape } => {
                let value = fields.as_ref().and_then(|fields| fields.get(*slot));
                let Some(value) = value else {
                    return Err(Unproven::UnreadableBody {
                        pointer: name.clone(),
                        detail: "it is not there".into(),
                    });
                };
                let text = match value {
                    Scalar::Text(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
                    other => Cow::Owned(other.text().into_owned().into_bytes()),
                };
                (text, Some(shape))
            }
            Part::Body => (Cow::Borrowed(request.body), None),
            Part::BodySha256Hex => (
                Cow::Owned(HEXLOWER_PERMISSIVE.encode(&Sha256::digest(request.body)).into_bytes()),
                None,
            ),
            Part::BodySha256Base64 => (
                Cow::Owned(BASE64.encode(&Sha256::digest(request.body)).into_bytes()),
                None,
            ),
            Part::Url => (Cow::Borrowed(request.url.ok_or(Unproven::NoUrl)?.as_bytes()), None),
        };
        if let Some(detail) = shape.and_then(|shape| shape.objection(&value)) {
            return Err(Unproven::ForbiddenShape {
                part: part.describe(),
                detail,
            });
        }
        parts.push(value);
    }
    Ok(parts)
}

fn body_fields<'a>(profile: &Profile, request: &RawRequest<'a>) -> Result<crate::json::Values<'a>, Unproven> {
    let unreadable = |detail: String| {
        let pointer = profile
            .signature
            .signed
            .iter()
            .find(|part| matches!(part, Part::Json { .. }))
            .map(Part::describe);
        Unproven::UnreadableBody {
            pointer: pointer.unwrap_or_default(),
            detail,
        }
    };
    let text = std::str::from_utf8(request.body).map_err(|_| unreadable("the body is not UTF-8".into()))?;
    profile
        .signature
        .fields
        .read(text)
        .map_err(|_| unreadable("the body is not JSON, too deep, or repeats a key".into()))
}

impl Shape {
    /// What is wrong with a value, if anything.
    fn objection(&self, value: &[u8]) -> Option<String> {
        if value.is_empty() {
            return Some("is empty".into());
        }
        let holds = |text: &str| value.windows(text.len()).any(|window| window == text.as_bytes());
        if let Some(text) = self.forbidden.iter().find(|text| holds(text)) {
            return Some(format!(
                "may not contain {text:?}, which the scheme puts beside it: the signed bytes could be split in two ways"
            ));
        }
        let is_uuid = || {
            value.len() == 36
                && value.iter().enumerate().all(|(at, b)| {
                    if matches!(at, 8 | 13 | 18 | 23) {
                        *b == b'-'
                    } else {
                        b.is_ascii_hexdigit()
                    }
                })
        };
        (self.uuid && !is_uuid()).then(|| "must be a UUID, as the scheme puts nothing beside it".into())
    }
}

/// The instant among the signed parts, judged against the receipt.
fn signed_at(
    profile: &Profile,
    request: &RawRequest<'_>,
    parts: &[Cow<'_, [u8]>],
    strictness: Strictness,
) -> Result<Option<UnixMillis>, Unproven> {
    let Some(rule) = &profile.time else { return Ok(None) };
    let value = parts.get(rule.part).and_then(|value| std::str::from_utf8(value).ok());
    let Some(at) = value.and_then(|value| rule.format.parse(value)) else {
        let part = profile
            .signature
            .signed
            .get(rule.part)
            .map(Part::describe)
            .unwrap_or_default();
        return Err(Unproven::MalformedTimestamp {
            part,
            expected: rule.format,
        });
    };
    let distance_ms = request.received_at.since(at);
    // Schemes in whole seconds are compared in whole seconds, as their senders do: 300.9 s after a signed second is 300.
    let seconds = match rule.format {
        TimeFormat::UnixSeconds => request.received_at.unix_seconds().saturating_sub(at.unix_seconds()),
        TimeFormat::UnixMillis | TimeFormat::Rfc3339 if distance_ms < 0 => distance_ms.div_euclid(1000),
        TimeFormat::UnixMillis | TimeFormat::Rfc3339 => distance_ms.saturating_add(999).div_euclid(1000),
    };
    if strictness.tolerance && seconds.unsigned_abs() > u64::from(rule.tolerance_s) {
        return Err(Unproven::TimestampOutsideTolerance {
            seconds,
            tolerance_s: rule.tolerance_s,
        });
    }
    Ok(Some(at))
}

impl TimeFormat {
    /// Reads an instant strictly: no sign, no space, nothing before or after it.
    pub(crate) fn parse(self, text: &str) -> Option<UnixMillis> {
        let digits = |len_max: usize| {
            let is_decimal = !text.is_empty() && text.len() <= len_max && text.bytes().all(|b| b.is_ascii_digit());
            if is_decimal { text.parse::<i64>().ok() } else { None }
        };
        match self {
            Self::UnixSeconds => digits(12).map(UnixMillis::from_seconds),
            Self::UnixMillis => digits(15).map(UnixMillis),
            Self::Rfc3339 => {
                let bytes = text.as_bytes();
                let has_shape = (20..=35).contains(&bytes.len())
                    && bytes[10] == b'T'
                    && bytes
                        .iter()
                        .all(|b| b.is_ascii_digit() || matches!(b, b'T' | b'Z' | b'-' | b'+' | b':' | b'.'));
                if has_shape {
                    UnixMillis::from_rfc3339(text)
                } else {
                    None
                }
            }
        }
    }
}

/// The key that the request names, where the profile has such a header.
fn named_key<'a>(profile: &Profile, request: &RawRequest<'a>, header_set: usize) -> Result<Option<&'a [u8]>, Unproven> {
    profile
        .signature
        .key_id
        .as_ref()
        .map(|name| single(request, name.in_set(header_set)))
        .transpose()
}

/// `name=value` entries of the signature header, bounded.
fn params(value: &[u8], separator: u8) -> impl Iterator<Item = (&[u8], &[u8])> {
    value
        .split(move |b| *b == separator)
        .take(SIGNATURE_ENTRIES_MAX)
        .filter_map(|entry| {
            let at = entry.iter().position(|b| *b == b'=')?;
            Some((&entry[..at], &entry[at + 1..]))
        })
}

/// A parameter that may come only once.
fn single_param<'a>(
    profile: &Profile,
    request: &RawRequest<'a>,
    header_set: usize,
    name: &str,
) -> Result<&'a [u8], Unproven> {
    let (Some(header), Grammar::Params { separator }) = (profile.signature.headers.first(), profile.signature.grammar)
    else {
        return Err(Unproven::MissingHeader { name: name.to_owned() });
    };
    let header = header.in_set(header_set);
    let malformed = |detail| Unproven::MalformedSignature {
        header: header.to_owned(),
        detail,
    };
    let mut values = params(single(request, header)?, separator).filter(|(key, _)| *key == name.as_bytes());
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value),
        (None, _) => Err(malformed(format!("it has no `{name}=`"))),
        (Some(_), Some(_)) => Err(malformed(format!("it has `{name}=` more than once"))),
    }
}

/// The request's signatures of known schemes, decoded. Labels that the profile does not name are passed over.
fn candidates(profile: &Profile, request: &RawRequest<'_>, header_set: usize) -> Result<Vec<Candidate>, Unproven> {
    let rule = &profile.signature;
    let mut candidates = Vec::with_capacity(2);
    let mut entries = 0;
    let mut known = 0;
    let mut present = "";
    for header in &rule.headers {
        let name = header.in_set(header_set);
        let mut values = request.header_values(name).peekable();
        if values.peek().is_some() {
            present = name;
        }
        for (instance, value) in values.enumerate() {
            if instance > 0 && !rule.repeated {
                return Err(Unproven::RepeatedHeader { name: name.to_owned() });
            }
            let mut look = |label: Option<&[u8]>, text: &[u8]| {
                entries += 1;
                if entries > SIGNATURE_ENTRIES_MAX {
                    return;
                }
                let scheme = rule
                    .schemes
                    .iter()
                    .position(|scheme| label.is_none_or(|label| label == scheme.name.as_bytes()));
                let Some(scheme) = scheme else { return };
                known += 1;
                if let Some(tag) = Tag::decode(rule.schemes[scheme].encoding, text) {
                    candidates.push(Candidate { scheme, tag });
                }
            };
            match rule.grammar {
                Grammar::Plain => match value.strip_prefix(rule.prefix.as_bytes()) {
                    Some(text) => look(None, text),
                    None if rule.prefix_optional => look(None, value),
                    None => {}
                },
                Grammar::Params { separator } => {
                    params(value, separator).for_each(|(label, text)| look(Some(label), text))
                }
                Grammar::List => {
                    for entry in value
                        .split(|b| *b == b' ')
                        .filter(|entry| !entry.is_empty())
                        .take(SIGNATURE_ENTRIES_MAX)
                    {
                        if let Some(at) = entry.iter().position(|b| *b == b',') {
                            look(Some(&entry[..at]), &entry[at + 1..]);
                        }
                    }
                }
            }
        }
    }
    if !candidates.is_empty() {
        return Ok(candidates);
    }
    let labels = || {
        rule.schemes
            .iter()
            .map(|scheme| format!("`{}`", scheme.name))
            .collect::<Vec<_>>()
            .join(" or ")
    };
    let detail = match (known, rule.grammar) {
        (0, Grammar::Plain) => format!("it does not begin with `{}`", rule.prefix),
        (0, _) => format!("it has no entry labelled {}", labels()),
        _ => "what it carries is not in the scheme's encoding".into(),
    };
    Err(Unproven::MalformedSignature {
        header: present.to_owned(),
        detail,
    })
}
