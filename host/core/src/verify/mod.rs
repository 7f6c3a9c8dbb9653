//! Verification: a profile's rule applied to the raw bytes of one request (promise I1).
//!
//! [`verify`] is the only maker of [`Verified`]. It reads headers and body bytes as they came; it parses a body only where a
//! profile signs a field of it. Tags are decoded to bytes and compared in constant time. Time is judged against the instant of
//! receipt, never against a clock. Where a request names a key that nobody has yet, this module says which ([`KeyNeed`]), and the host
//! fetches it.
//!
//! Each family of schemes has a file: `template.rs` (a tag over joined parts), `jws.rs`, `http_signatures.rs` (RFC 9421) and
//! `credential.rs`. All of them make a `message::Message` and candidates, and `keys.rs` finds the key that fits.

mod credential;
mod http_signatures;
mod jws;
mod keys;
mod message;
mod public_key;
mod template;

use std::borrow::Cow;

use crate::admission::Identity;
use crate::event::Proof;
use crate::ids::{Digest, KeyId, ProviderName};
use crate::json;
use crate::profile::{BindPlace, BindValue, BodyFormat, Profile, Rule, TimeFormat, TimeRule};
use crate::request::RawRequest;
use crate::time::UnixMillis;

pub use credential::Credential;
pub(crate) use http_signatures::{base as signature_base, content_digest};
pub(crate) use keys::{Decoded, decode, shared_tag};
pub use keys::{KeyError, KeyNeed, Keyring, Window, pasted};
pub(crate) use message::Message;
pub(crate) use template::{form_sorted, minify};

/// A request whose bytes are proved to come from the holder of one of the source's secrets. Only [`verify`] makes one.
#[derive(Debug, Clone)]
pub struct Verified<'a> {
    request: RawRequest<'a>,
    proof: Proof,
    header_set: usize,
    body: Cow<'a, [u8]>,
    format: BodyFormat,
    messages: Vec<Digest>,
}

impl<'a> Verified<'a> {
    /// How the request was proved.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The proof, for a caller that needs nothing else of the request.
    pub fn into_proof(self) -> Proof {
        self.proof
    }

    /// The request as it came.
    pub fn request(&self) -> &RawRequest<'a> {
        &self.request
    }

    /// The body as it was signed: as it came, but for providers that sign it without its white space.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What tells the event at this position of the request (0 where it carries one) from others of the source.
    pub fn identity(&self, index: usize) -> Identity {
        self.messages
            .get(index)
            .map_or(Identity::EventId, |message| Identity::SignedMessage(*message))
    }

    /// Which of the profile's alternative header prefixes the request uses.
    pub(crate) fn header_set(&self) -> usize {
        self.header_set
    }

    pub(crate) fn format(&self) -> BodyFormat {
        self.format
    }
}

/// Why a request is not proved. `Display` explains it to the tenant; the sender is told nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// A header that the profile needs is absent.
    #[error("the header `{name}` is missing")]
    MissingHeader {
        /// Its name.
        name: String,
    },
    /// A header that must be unique is not.
    #[error("the header `{name}` came more than once")]
    RepeatedHeader {
        /// Its name.
        name: String,
    },
    /// A signature cannot be read.
    #[error("`{header}` is not a signature: {detail}")]
    MalformedSignature {
        /// The header that it stands in.
        header: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A signed instant cannot be read.
    #[error("the timestamp in `{part}` is not {expected}")]
    MalformedTimestamp {
        /// The part of the signed bytes.
        part: String,
        /// How it must be written.
        expected: TimeFormat,
    },
    /// `seconds` from the signed instant to the receipt; negative when the instant lies in the future.
    #[error("{}; at most {tolerance_s} s are allowed", distance(*seconds))]
    TimestampOutsideTolerance {
        /// The distance.
        seconds: i64,
        /// How far it may be, in seconds.
        tolerance_s: u32,
    },
    /// The signature names its own end, and the request came after it.
    #[error("the signature expired {seconds} s before the request came in")]
    Expired {
        /// How long after it.
        seconds: i64,
    },
    /// A signed part has a form that would make the signed bytes ambiguous.
    #[error("`{part}` {detail}")]
    ForbiddenShape {
        /// The part, as the profile writes it.
        part: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The URL is signed, and the source has none.
    #[error("the scheme signs the source's public URL, and the source has none configured")]
    NoUrl,
    /// The signature covers a field that cannot be read.
    #[error("the scheme signs the field `{pointer}` of the body, which cannot be read: {detail}")]
    UnreadableBody {
        /// Where in the body.
        pointer: String,
        /// Why it cannot be read.
        detail: String,
    },
    /// The sender lists a header as signed that the profile does not.
    #[error("the header `{header}` lists `{name}` as signed, which the profile does not expect there")]
    Unlisted {
        /// The header with the list.
        header: String,
        /// What it lists.
        name: String,
    },
    /// The request names a secret by an id that the source does not have.
    #[error("the header `{header}` names a secret that the source does not have")]
    UnknownKey {
        /// The header that names it.
        header: String,
    },
    /// The key that the request names must be fetched first.
    #[error("the request names the key `{}`, which has to be fetched from {}", .0.name(), .0.url())]
    NeedsKey(KeyNeed),
    /// The request names a key at a place that the profile does not list.
    #[error("the header `{header}` names a key at a place that the profile does not list")]
    ForeignKey {
        /// The header that names it.
        header: String,
    },
    /// Every secret of this scheme begins later or has ended.
    #[error("none of the source's secrets was valid for this scheme when the request came in")]
    NoActiveSecret,
    /// No signature of the request was made with a secret of the source.
    #[error("no signature matches: {signatures} looked at, {secrets} active secrets tried")]
    NoMatch {
        /// How many signatures were looked at.
        signatures: usize,
        /// How many secrets were tried.
        secrets: usize,
    },
    /// The shared text in the header is another one.
    #[error("the header `{header}` does not carry the source's credential")]
    WrongCredential {
        /// The header.
        header: String,
    },
    /// The signature leaves out a component that the profile demands.
    #[error("the signature does not cover `{component}`, which it must")]
    Uncovered {
        /// That component.
        component: String,
    },
    /// The signed digest is not the body's.
    #[error("the signature is right, but the digest of the body in `{part}` is another: the body was altered")]
    WrongDigest {
        /// Where the digest stands.
        part: String,
    },
    /// The provider proved the request, and it is meant for another of its customers.
    #[error("the signature is right, but `{place}` is not what this source expects: the request is for somebody else")]
    Foreign {
        /// The value that tells.
        place: String,
    },
    /// One item of a batch is not proved, so the request is not.
    #[error("item {index} of the batch (the first is 0): {cause}")]
    Item {
        /// The item's position, from 0.
        index: usize,
        /// Why it is not proved.
        cause: Box<Unproven>,
    },
    /// The keyring was made for another profile or version.
    #[error("the secrets were decoded for {provider}, version {version}, not for this profile")]
    ForeignKeyring {
        /// The provider that it was made for.
        provider: ProviderName,
        /// The version that it was made for.
        version: u32,
    },
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
            Self::Expired { .. } => "expired",
            Self::ForbiddenShape { .. } => "forbidden-shape",
            Self::NoUrl => "no-url",
            Self::UnreadableBody { .. } => "unreadable-body",
            Self::Unlisted { .. } => "unlisted-header",
            Self::UnknownKey { .. } => "unknown-key",
            Self::NeedsKey(_) => "needs-key",
            Self::ForeignKey { .. } => "foreign-key",
            Self::NoActiveSecret => "no-active-secret",
            Self::NoMatch { .. } => "no-match",
            Self::WrongCredential { .. } => "wrong-credential",
            Self::Uncovered { .. } => "uncovered",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::Foreign { .. } => "foreign",
            Self::Item { cause, .. } => cause.reason(),
            Self::ForeignKeyring { .. } => "foreign-keyring",
        }
    }

    /// The key without which nothing can be said yet. The host fetches it, lets the keyring [learn](Keyring::learn) it, and verifies
    /// again; where it cannot, the request is refused.
    pub fn needs_key(&self) -> Option<&KeyNeed> {
        match self {
            Self::NeedsKey(need) => Some(need),
            Self::Item { cause, .. } => cause.needs_key(),
            _ => None,
        }
    }
}

/// Proves a request by the profile's rule.
///
/// # Errors
/// The reason why it is not proved. Nothing is guessed and no weaker rule is tried.
pub fn verify<'a>(profile: &Profile, keyring: &Keyring, request: RawRequest<'a>) -> Result<Verified<'a>, Unproven> {
    let found = attempt(profile, keyring, &request, Strictness::FULL)?;
    let name = profile.schemes[found.scheme].name.as_str();
    Ok(Verified {
        proof: Proof {
            provider: profile.name.clone(),
            profile_version: profile.version,
            scheme: match found.minified {
                Some(_) => format!("{name}/minified"),
                None => name.to_owned(),
            },
            key_id: found.key_id,
            signed_at: found.signed_at,
        },
        header_set: found.header_set,
        body: found.minified.map_or(Cow::Borrowed(request.body), Cow::Owned),
        format: found.format,
        messages: found.messages,
        request,
    })
}

/// What an attempt insists on beside a matching signature. Only [`Strictness::FULL`] may lead to acceptance.
#[derive(Clone, Copy)]
pub(crate) struct Strictness {
    pub(crate) windows: bool,
    pub(crate) tolerance: bool,
}

impl Strictness {
    pub(crate) const FULL: Self = Self {
        windows: true,
        tolerance: true,
    };
    pub(crate) const NONE: Self = Self {
        windows: false,
        tolerance: false,
    };
}

/// What matched.
pub(crate) struct Found {
    pub(crate) key_id: KeyId,
    scheme: usize,
    pub(crate) signed_at: Option<UnixMillis>,
    header_set: usize,
    /// The body without its white space, where that is what was signed.
    minified: Option<Vec<u8>>,
    format: BodyFormat,
    /// Digests of what was signed, one for each event, where that is what tells events apart; otherwise none.
    messages: Vec<Digest>,
}

pub(crate) fn attempt(
    profile: &Profile,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    if !keyring.serves(profile) {
        let (provider, version) = keyring.provider();
        return Err(Unproven::ForeignKeyring { provider, version });
    }
    let found = if profile.signs_url() {
        with_url(profile, keyring, request, strictness)
    } else {
        by_rule(profile, keyring, request, strictness)
    }?;
    if !profile.binds.is_empty() {
        bound(profile, keyring, request)?;
    }
    Ok(found)
}

fn by_rule(
    profile: &Profile,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    match &profile.rule {
        Rule::Template(rule) => template::attempt(profile, rule, keyring, request, strictness),
        Rule::Jws(rule) => jws::attempt(profile, rule, keyring, request, strictness),
        Rule::HttpSignatures(rule) => http_signatures::attempt(profile, rule, keyring, request, strictness),
        Rule::Credential(rule) => credential::attempt(profile, rule, keyring, request, strictness),
        // No keyring can be made for such a profile, so that none is served here.
        Rule::FetchBack => Err(Unproven::NoActiveSecret),
    }
}

/// Tries the few URLs that the sender can have called. All of them are this source's, so that it is one to which a signature belongs.
fn with_url(
    profile: &Profile,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    let mut first_failure = None;
    for url in request.urls() {
        let called = RawRequest {
            url: Some(&url),
            ..*request
        };
        match by_rule(profile, keyring, &called, strictness) {
            Err(no_match @ Unproven::NoMatch { .. }) => first_failure.get_or_insert(no_match),
            result => return result,
        };
    }
    Err(first_failure.unwrap_or(Unproven::NoUrl))
}

/// Looks at what must be this source's own: keys that a provider shares among its customers prove the provider only.
fn bound(profile: &Profile, keyring: &Keyring, request: &RawRequest<'_>) -> Result<(), Unproven> {
    let text = json::document(request.body).unwrap_or_default();
    let fields = if profile.bind_fields.is_empty() {
        None
    } else {
        profile.bind_fields.read(text).ok()
    };
    for bind in &profile.binds {
        let expected = match &bind.equals {
            BindValue::Literal(text) => Some(text.as_bytes()),
            BindValue::Config(at) => keyring.parameter(*at),
        };
        let is_bound = match &bind.place {
            BindPlace::Header(name) => {
                let value = single(request, name.in_set(0))?;
                Some(value) == expected
            }
            BindPlace::Body(slot) => {
                let value = fields.as_ref().and_then(|fields| fields.get(*slot));
                value.is_some_and(|value| Some(value.text().as_bytes()) == expected)
            }
        };
        if !is_bound {
            return Err(Unproven::Foreign {
                place: bind.name.clone(),
            });
        }
    }
    Ok(())
}

fn single<'a>(request: &RawRequest<'a>, name: &str) -> Result<&'a [u8], Unproven> {
    match request.single_header(name) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Unproven::MissingHeader { name: name.to_owned() }),
        Err(()) => Err(Unproven::RepeatedHeader { name: name.to_owned() }),
    }
}

/// Judges a signed instant against the receipt.
fn judge_time(
    rule: &TimeRule,
    at: UnixMillis,
    received_at: UnixMillis,
    strictness: Strictness,
) -> Result<(), Unproven> {
    let distance_ms = received_at.since(at);
    // Schemes in whole seconds are compared in whole seconds, as their senders do: 300.9 s after a signed second is 300.
    let seconds = match rule.format {
        TimeFormat::UnixSeconds => received_at.unix_seconds().saturating_sub(at.unix_seconds()),
        TimeFormat::UnixMillis | TimeFormat::Rfc3339 if distance_ms < 0 => distance_ms.div_euclid(1000),
        TimeFormat::UnixMillis | TimeFormat::Rfc3339 => distance_ms.saturating_add(999).div_euclid(1000),
    };
    if strictness.tolerance && seconds.unsigned_abs() > u64::from(rule.tolerance_s) {
        return Err(Unproven::TimestampOutsideTolerance {
            seconds,
            tolerance_s: rule.tolerance_s,
        });
    }
    Ok(())
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
