//! Signing: the inverse of [`crate::verify`], by the same profile. For sending samples, the demo, tests and outgoing deliveries.

use std::borrow::Cow;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::Signer;
use sha2::{Digest as _, Sha256};

use crate::ids::KeyId;
use crate::profile::{Encoding, FieldSource, Grammar, HeaderName, Part, Profile, TimeFormat};
use crate::secret::SourceSecret;
use crate::time::UnixMillis;
use crate::verify::{Decoded, KeyError, Tag, decode, shared_tag};

/// One message to sign.
#[derive(Debug, Clone, Copy)]
pub struct SignInput<'a> {
    pub body: &'a [u8],
    /// The message id, for schemes with an id header. It must come again with each redelivery.
    pub id: &'a str,
    /// The instant to sign, for schemes that sign one; also decides which secrets are active.
    pub at: UnixMillis,
    /// The receiver's public URL, for schemes that sign it.
    pub url: Option<&'a str>,
}

/// Why a message was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("secret `{id}` is a public key, which cannot sign: use the private one")]
    PublicKey { id: KeyId },
    #[error("none of the secrets is valid at the time of signing")]
    NoActiveSecret,
    #[error("the scheme signs the receiver's URL, and none was given")]
    NoUrl,
    #[error("the scheme signs `{part}`, which a sender cannot make up")]
    Unfillable { part: String },
    #[error("the message id `{id}` may not contain {text:?}, which the scheme puts beside it")]
    ForbiddenId { id: String, text: String },
}

/// The headers that a sender would add. Every secret that is active at `input.at` signs, in the given order; a scheme that
/// carries one signature only takes the first.
///
/// # Errors
/// When a secret is not one that signs, or the scheme signs something that `input` does not have.
pub fn sign(
    profile: &Profile,
    secrets: &[SourceSecret],
    input: &SignInput<'_>,
) -> Result<Vec<(String, String)>, SignError> {
    let rule = &profile.signature;
    let is_active = |secret: &&SourceSecret| {
        secret.not_before.is_none_or(|from| from <= input.at) && secret.not_after.is_none_or(|until| input.at < until)
    };
    let active: Vec<&SourceSecret> = secrets.iter().filter(is_active).collect();
    let Some(first) = active.first() else {
        return Err(SignError::NoActiveSecret);
    };

    let mut headers = Vec::new();
    let mut instant = None;
    let parts = fill(profile, input, &mut headers, &mut instant)?;
    // An id header that is not signed is sent all the same: the event cannot be read without it.
    if let Some(FieldSource::Header(name)) = profile.event.id.first() {
        add(&mut headers, name, input.id);
    }
    if let Some(name) = &rule.key_id {
        add(&mut headers, name, first.id.as_str());
    }

    let room = match rule.grammar {
        Grammar::Plain if rule.key_id.is_some() => 1,
        Grammar::Plain if rule.repeated => usize::MAX,
        Grammar::Plain => rule.headers.len(),
        Grammar::Params { .. } | Grammar::List => usize::MAX,
    };
    let mut signatures = Vec::new();
    for secret in active.iter().take(room) {
        signatures.push(signature(profile, secret, &parts)?);
    }
    let label = |at: usize| rule.schemes[at].name.as_str();
    let header = |at: usize| {
        rule.headers
            .get(at)
            .or(rule.headers.first())
            .map_or("", |name| name.in_set(0))
            .to_owned()
    };
    match rule.grammar {
        Grammar::Plain => {
            for (at, (_, text)) in signatures.iter().enumerate() {
                headers.push((
                    header(if rule.repeated { 0 } else { at }),
                    format!("{}{text}", rule.prefix),
                ));
            }
        }
        Grammar::List => {
            let entries: Vec<_> = signatures
                .iter()
                .map(|(scheme, text)| format!("{},{text}", label(*scheme)))
                .collect();
            headers.push((header(0), entries.join(" ")));
        }
        Grammar::Params { separator } => {
            let entries: Vec<_> = instant
                .into_iter()
                .chain(
                    signatures
                        .iter()
                        .map(|(scheme, text)| format!("{}={text}", label(*scheme))),
                )
                .collect();
            headers.push((header(0), entries.join(&char::from(separator).to_string())));
        }
    }
    Ok(headers)
}

fn add(headers: &mut Vec<(String, String)>, name: &HeaderName, value: &str) {
    let name = name.in_set(0);
    if !headers.iter().any(|(known, _)| known == name) {
        headers.push((name.to_owned(), value.to_owned()));
    }
}

/// Makes up the parts to sign. Header parts go to `headers`, the instant of a `params` header to `instant`.
fn fill<'a>(
    profile: &'a Profile,
    input: &SignInput<'a>,
    headers: &mut Vec<(String, String)>,
    instant: &mut Option<String>,
) -> Result<Vec<Cow<'a, [u8]>>, SignError> {
    let mut parts: Vec<Cow<'a, [u8]>> = Vec::new();
    for (at, part) in profile.signature.signed.iter().enumerate() {
        let time = profile
            .time
            .as_ref()
            .filter(|time| time.part == at)
            .map(|time| time.format.print(input.at));
        parts.push(match (part, time) {
            (Part::Literal(text), _) => Cow::Borrowed(text.as_bytes()),
            (Part::Body, _) => Cow::Borrowed(input.body),
            (Part::BodySha256Hex, _) => Cow::Owned(HEXLOWER.encode(&Sha256::digest(input.body)).into_bytes()),
            (Part::BodySha256Base64, _) => Cow::Owned(BASE64.encode(&Sha256::digest(input.body)).into_bytes()),
            (Part::Url, _) => Cow::Borrowed(input.url.ok_or(SignError::NoUrl)?.as_bytes()),
            (Part::Header { name, .. }, Some(time)) => {
                add(headers, name, &time);
                Cow::Owned(time.into_bytes())
            }
            (Part::Param { name, .. }, Some(time)) => {
                *instant = Some(format!("{name}={time}"));
                Cow::Owned(time.into_bytes())
            }
            (Part::Header { name, shape }, None) if profile.event.id.contains(&FieldSource::Header(name.clone())) => {
                if let Some(text) = shape.forbidden.iter().find(|text| input.id.contains(text.as_str())) {
                    return Err(SignError::ForbiddenId {
                        id: input.id.to_owned(),
                        text: text.clone(),
                    });
                }
                add(headers, name, input.id);
                Cow::Borrowed(input.id.as_bytes())
            }
            (Part::Header { .. } | Part::Param { .. } | Part::Json { .. }, _) => {
                return Err(SignError::Unfillable { part: part.describe() });
            }
        });
    }
    Ok(parts)
}

/// One secret's signature as text, with its scheme.
fn signature(profile: &Profile, secret: &SourceSecret, parts: &[Cow<'_, [u8]>]) -> Result<(usize, String), SignError> {
    let (scheme, tag) = match decode(profile, secret)? {
        Decoded::Shared { scheme, key } => (
            scheme,
            shared_tag(profile.signature.schemes[scheme].algorithm, &key, parts),
        ),
        Decoded::Private { scheme, key } => (scheme, Tag::new(&key.sign(&parts.concat()).to_bytes())),
        Decoded::Public { .. } => return Err(SignError::PublicKey { id: secret.id.clone() }),
    };
    let tag = tag.ok_or_else(|| KeyError::NotAKey { id: secret.id.clone() })?;
    let text = match profile.signature.schemes[scheme].encoding {
        Encoding::Hex => HEXLOWER.encode(tag.as_slice()),
        Encoding::Base64 => BASE64.encode(tag.as_slice()),
    };
    Ok((scheme, text))
}

impl TimeFormat {
    fn print(self, at: UnixMillis) -> String {
        match self {
            Self::UnixSeconds => at.unix_seconds().to_string(),
            Self::UnixMillis => at.0.to_string(),
            Self::Rfc3339 => at.to_string(),
        }
    }
}
