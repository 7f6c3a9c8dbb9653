//! Keys: from the texts that tenants paste and the documents that providers publish to what can be computed with.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::message::{Candidate, Message, Tag};
use super::public_key::{self, Pair, PrivateKey, PublicKey};
use crate::ids::{KeyId, ProviderName};
use crate::limits::{
    FETCHED_KEY_BYTES_MAX, FETCHED_KEY_MS_MAX, FETCHED_KEY_RENEWED_MS_MIN, FETCHED_KEYS_MAX, PARAMETER_BYTES_MAX,
    SECRETS_MAX, SIGNATURE_ENTRIES_MAX,
};
use crate::profile::{Algorithm, CredentialKind, Decoding, FetchKind, KeyRule, Piece, Profile, Rule, Scheme};
use crate::secret::{Parameters, Secret, SourceSecret};
use crate::time::UnixMillis;

/// A source's secrets and parameters, decoded as the profile says and ready to compute with, and the keys that were fetched for it.
/// `Debug` shows ids only.
#[derive(Clone)]
pub struct Keyring {
    provider: ProviderName,
    version: u32,
    /// Configured ones first, then fetched ones from old to new.
    keys: Vec<Key>,
    /// One for each of the profile's parameters.
    parameters: Vec<Option<Secret>>,
}

/// When one of a source's keys verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window<'k> {
    /// The key's id.
    pub id: &'k KeyId,
    /// It verifies from this instant on; without a beginning when absent.
    pub not_before: Option<UnixMillis>,
    /// It verifies before this instant; for ever when absent.
    pub not_after: Option<UnixMillis>,
}

impl Window<'_> {
    /// Whether the key verifies at this instant.
    pub fn holds(&self, at: UnixMillis) -> bool {
        self.not_before.is_none_or(|from| from <= at) && self.not_after.is_none_or(|until| at < until)
    }
}

#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    /// What requests call it, where that is not its id: a JWK's `kid`, a certificate's URL.
    name: Option<String>,
    /// Position among the profile's schemes.
    pub(super) scheme: usize,
    not_before: Option<UnixMillis>,
    not_after: Option<UnixMillis>,
    /// When it was fetched; configured keys never were.
    fetched_at: Option<UnixMillis>,
    /// It makes room for none that is not; see [`Keyring::vouch_for`].
    is_vouched_for: bool,
    material: Material,
}

/// A key with all the work done that does not depend on the message.
#[derive(Clone)]
enum Material {
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Hmac<Sha512>),
    Public(Arc<PublicKey>),
    /// The header's value that it makes.
    Credential(Secret),
}

/// Why a secret is no key. Names the secret by its id and shows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The profile needs a secret, and the source has none.
    #[error("a source needs at least one secret")]
    NoSecrets,
    /// The source has more secrets than the bound.
    #[error("{count} secrets; a source has at most {SECRETS_MAX}")]
    TooMany {
        /// How many it has.
        count: usize,
    },
    /// An id names one secret.
    #[error("two secrets have the id `{id}`")]
    RepeatedId {
        /// The id that two have.
        id: KeyId,
    },
    /// A secret has no characters.
    #[error("secret `{id}` is empty")]
    Empty {
        /// Its id.
        id: KeyId,
    },
    /// A secret begins or ends with white space, which no provider's does.
    #[error("secret `{id}` begins or ends with white space, perhaps a line break at the end of its file: remove it")]
    WhiteSpace {
        /// Its id.
        id: KeyId,
    },
    /// Something that is no part of the secret came with it when it was copied.
    #[error("secret `{id}` {what}")]
    Pasted {
        /// Its id.
        id: KeyId,
        /// What came with it, and how to mend it.
        what: &'static str,
    },
    /// A secret lacks the beginning that all of the provider's have.
    #[error("secret `{id}` does not begin with {expected}, as {provider} secrets do")]
    Prefix {
        /// Its id.
        id: KeyId,
        /// The provider.
        provider: ProviderName,
        /// The beginnings that it may have, in words.
        expected: String,
    },
    /// A secret is not written as the profile says.
    #[error("secret `{id}` is not {expected}{after}")]
    Encoding {
        /// Its id.
        id: KeyId,
        /// How it must be written.
        expected: &'static str,
        /// Behind which prefix, in words; empty where there is none.
        after: String,
    },
    /// A secret has not the length of a key.
    #[error("secret `{id}` decodes to {bytes} bytes; {expected}")]
    Length {
        /// Its id.
        id: KeyId,
        /// How many bytes it decodes to.
        bytes: usize,
        /// How many it must have, in words.
        expected: &'static str,
    },
    /// A secret has the length of an ed25519 key, and is none.
    #[error("secret `{id}` is not a valid ed25519 key")]
    NotAKey {
        /// Its id.
        id: KeyId,
    },
    /// A secret is a key of another algorithm, or none.
    #[error(
        "secret `{id}` is no key that {provider} could sign with: it must be {expected}, of the algorithm {algorithm}"
    )]
    Unsuitable {
        /// Its id.
        id: KeyId,
        /// The provider.
        provider: ProviderName,
        /// What it must be.
        expected: &'static str,
        /// The algorithms that the profile knows.
        algorithm: String,
    },
    /// A parameter that the profile requires is absent.
    #[error("the source does not say `{name}`: {what}")]
    MissingParameter {
        /// Its name.
        name: String,
        /// What it is and where the provider shows it.
        what: String,
    },
    /// The source sets a parameter that the profile does not have.
    #[error("{provider} has no parameter `{name}`; it has {known}")]
    UnknownParameter {
        /// Its name.
        name: String,
        /// The provider.
        provider: ProviderName,
        /// The parameters that the profile has, in words.
        known: String,
    },
    /// A parameter's value cannot be one.
    #[error(
        "the parameter `{name}` is empty, longer than {PARAMETER_BYTES_MAX} bytes, or has characters outside printable ASCII"
    )]
    BadParameter {
        /// Its name.
        name: String,
    },
    /// The provider's requests can be proved only by asking the provider.
    #[error(
        "{provider} proves nothing about its requests: each would have to be fetched back from the provider, which is off"
    )]
    FetchBack {
        /// The provider.
        provider: ProviderName,
    },
    /// The source's parameters lead to no place that a key may be fetched from.
    #[error("{provider} keys cannot be fetched with the source's parameters: {detail}")]
    Unfetchable {
        /// The provider.
        provider: ProviderName,
        /// What is wrong with them.
        detail: &'static str,
    },
    /// What was fetched is not the key that was needed.
    #[error("what was fetched from {url} is no key for this source: {detail}")]
    Fetched {
        /// Where it was fetched from.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// A key that a request names and the keyring does not have. Its URL is of a host that the profile lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyNeed {
    /// What the request calls the key: chosen by its sender, but printable ASCII of at most 512 bytes.
    name: String,
    url: String,
}

impl KeyNeed {
    /// What the request calls the key. One entry of a cache, and of a cache of failures, for each.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is fetched from; `https`, and never with a redirect.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A secret's text as the profile understands it.
pub(crate) enum Decoded {
    Shared {
        scheme: usize,
        key: Zeroizing<Vec<u8>>,
    },
    Public {
        scheme: usize,
        key: PublicKey,
        name: Option<String>,
    },
    Private {
        scheme: usize,
        key: PrivateKey,
        name: Option<String>,
    },
}

/// Decodes one secret by the first scheme whose form it has; a scheme that can do without its prefix comes last.
pub(crate) fn decode(profile: &Profile, secret: &SourceSecret) -> Result<Decoded, KeyError> {
    let id = || secret.id.clone();
    let text = secret.text.expose();
    if text.is_empty() {
        return Err(KeyError::Empty { id: id() });
    }
    if let Some(what) = pasted(text) {
        return Err(KeyError::Pasted { id: id(), what });
    }
    let schemes = || profile.schemes.iter().enumerate();
    // Files of these two kinds end with a line break, and it means nothing.
    let form = match text.trim_ascii_start() {
        text if text.starts_with(b"-----BEGIN ") => Some(Decoding::PublicKey),
        text if text.starts_with(b"{") => Some(Decoding::Jwk),
        _ => None,
    };
    if let Some(form) = form
        && schemes().any(|(_, scheme)| scheme.key.decode == form)
    {
        return structured(profile, secret, form);
    }
    if text.first().is_some_and(u8::is_ascii_whitespace) || text.last().is_some_and(u8::is_ascii_whitespace) {
        return Err(KeyError::WhiteSpace { id: id() });
    }
    for (at, scheme) in schemes() {
        let rule = &scheme.key;
        if let Some(prefix) = &rule.private_prefix
            && let Some(rest) = text.strip_prefix(prefix.as_bytes())
        {
            return Ok(Decoded::Private {
                scheme: at,
                key: PrivateKey::Ed25519(ed25519_private_key(secret, rule, prefix, rest)?),
                name: None,
            });
        }
        if !rule.prefix.is_empty()
            && let Some(rest) = text.strip_prefix(rule.prefix.as_bytes())
        {
            return decode_by(profile, secret, at, scheme, rest);
        }
    }
    match schemes().find(|(_, scheme)| scheme.key.prefix_optional) {
        Some((at, scheme)) => decode_by(profile, secret, at, scheme, text),
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

/// What came with a secret when it was copied, and how to mend it. None of it is part of any provider's secrets, and as a key of the text's
/// own bytes it would be taken in silence and never match.
pub fn pasted(text: &[u8]) -> Option<&'static str> {
    match text {
        [0xef, 0xbb, 0xbf, ..] => {
            Some("begins with a byte order mark, which an editor put there: save it as UTF-8 without one")
        }
        [first @ (b'"' | b'\'' | b'`'), .., last] if first == last => {
            Some("stands in quotes, which are no part of it: remove them")
        }
        // Dashboards on Standard Webhooks (Supabase's among them) show `v1,whsec_…`.
        [b'v', digit, b',', rest @ ..] if digit.is_ascii_digit() && rest.starts_with(b"whsec_") => {
            Some("begins with `v1,`, which names the scheme and is no part of it: keep what begins with `whsec_`")
        }
        _ => None,
    }
}

fn decode_by(
    profile: &Profile,
    secret: &SourceSecret,
    at: usize,
    scheme: &Scheme,
    text: &[u8],
) -> Result<Decoded, KeyError> {
    if matches!(scheme.key.decode, Decoding::PublicKey | Decoding::Jwk) {
        return structured(profile, secret, scheme.key.decode);
    }
    let key = decode_text(secret, &scheme.key, &scheme.key.prefix, text)?;
    if scheme.algorithm != Algorithm::Ed25519 {
        return Ok(Decoded::Shared { scheme: at, key });
    }
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
        key: PublicKey::Ed25519(key),
        name: None,
    })
}

/// A PEM text, the base64 of a public key, or a JWK: the key itself says which algorithm it is for.
fn structured(profile: &Profile, secret: &SourceSecret, form: Decoding) -> Result<Decoded, KeyError> {
    let text = secret.text.expose();
    let (pair, name) = match form {
        Decoding::Jwk => {
            let jwk = serde_json::from_slice(text)
                .ok()
                .and_then(|value| public_key::jwk(&value));
            match jwk {
                Some(jwk) => (Some(jwk.pair), jwk.kid),
                None => (None, None),
            }
        }
        _ => (public_key::from_text(text), None),
    };
    let scheme_of = |key: &PublicKey| {
        let mut schemes = profile.schemes.iter();
        schemes.position(|scheme| scheme.key.decode == form && key.suits(scheme.algorithm))
    };
    match pair {
        Some(Pair::Public(key)) => {
            if let Some(scheme) = scheme_of(&key) {
                return Ok(Decoded::Public { scheme, key, name });
            }
        }
        Some(Pair::Private(key)) => {
            if let Some(scheme) = scheme_of(&key.public()) {
                return Ok(Decoded::Private { scheme, key, name });
            }
        }
        None => {}
    }
    let algorithms: Vec<_> = profile
        .schemes
        .iter()
        .filter(|scheme| scheme.key.decode == form)
        .map(|scheme| scheme.algorithm.title())
        .collect();
    Err(KeyError::Unsuitable {
        id: secret.id.clone(),
        provider: profile.name.clone(),
        expected: if form == Decoding::Jwk {
            "a JSON Web Key"
        } else {
            "a PEM public key or certificate, or the base64 of a public key"
        },
        algorithm: algorithms.join(" or "),
    })
}

/// Reads the seed, or the seed with the public half after it.
fn ed25519_private_key(
    secret: &SourceSecret,
    rule: &KeyRule,
    prefix: &str,
    text: &[u8],
) -> Result<SigningKey, KeyError> {
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
        Decoding::Utf8 | Decoding::PublicKey | Decoding::Jwk => text.to_vec(),
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
    /// A keyring for a profile whose sources say nothing but secrets; see [`Self::with_parameters`].
    ///
    /// # Errors
    /// As [`Self::with_parameters`].
    pub fn new(profile: &Profile, secrets: &[SourceSecret]) -> Result<Self, KeyError> {
        Self::with_parameters(profile, secrets, &Parameters::new())
    }

    /// Decodes a source's secrets and takes its parameters. A private key is taken for its public half.
    ///
    /// # Errors
    /// When there is no secret and the profile needs one, there are too many, one is not a key by the profile's rule, a parameter
    /// is missing or unknown, or the profile's requests cannot be proved at all (fetch-back, which is off).
    pub fn with_parameters(
        profile: &Profile,
        secrets: &[SourceSecret],
        parameters: &Parameters,
    ) -> Result<Self, KeyError> {
        if matches!(profile.rule, Rule::FetchBack) {
            return Err(KeyError::FetchBack {
                provider: profile.name.clone(),
            });
        }
        if secrets.is_empty() && profile.needs_secrets() {
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
            let (scheme, material, name) = match decode(profile, secret)? {
                Decoded::Shared { scheme, key } => (scheme, Material::shared(profile, scheme, &key), None),
                Decoded::Public { scheme, key, name } => (scheme, Some(Material::Public(Arc::new(key))), name),
                Decoded::Private { scheme, key, name } => {
                    (scheme, Some(Material::Public(Arc::new(key.public()))), name)
                }
            };
            let material = material.ok_or_else(|| KeyError::NotAKey { id: secret.id.clone() })?;
            keys.push(Key {
                id: secret.id.clone(),
                name,
                scheme,
                not_before: secret.not_before,
                not_after: secret.not_after,
                fetched_at: None,
                is_vouched_for: true,
                material,
            });
        }
        let keyring = Self {
            provider: profile.name.clone(),
            version: profile.version,
            keys,
            parameters: checked_parameters(profile, parameters)?,
        };
        keyring.can_fetch(profile)?;
        Ok(keyring)
    }

    /// Whether what the source says leads to keys that are fetched by their id; a certificate's place is the request's to say.
    fn can_fetch(&self, profile: &Profile) -> Result<(), KeyError> {
        let Some(rule) = &profile.fetch else { return Ok(()) };
        let unfetchable = |detail| KeyError::Unfetchable {
            provider: profile.name.clone(),
            detail,
        };
        if let FetchKind::Jwk { .. } = rule.kind {
            if self.keys.is_empty() && self.fill(&rule.body, "x", str::to_owned).is_none() {
                return Err(unfetchable(
                    "a credential is missing, and no key is given as a secret either",
                ));
            }
            if self.fill(&rule.body, "x", str::to_owned).is_some() && self.need(profile, b"x").is_none() {
                return Err(unfetchable("they lead to a host that the profile does not list"));
            }
        }
        Ok(())
    }

    /// The ids of the keys, in their order.
    pub fn key_ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().map(|key| &key.id)
    }

    /// When each key verifies, in their order. Fetched keys are left out: they are renewed.
    pub fn windows(&self) -> impl Iterator<Item = Window<'_>> {
        let configured = self.keys.iter().filter(|key| key.fetched_at.is_none());
        configured.map(|key| Window {
            id: &key.id,
            not_before: key.not_before,
            not_after: key.not_after,
        })
    }

    /// What the host sends to the URL of a needed key, with POST as JSON; nothing, and GET, when it is `None`. Holds the source's
    /// credentials.
    pub fn fetch_body(&self, profile: &Profile, need: &KeyNeed) -> Option<Secret> {
        let rule = profile.fetch.as_ref().filter(|rule| !rule.body.is_empty())?;
        let json_text = |text: &str| {
            // A parameter is JSON text inside the body's own quotes.
            let quoted = serde_json::Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        };
        Some(Secret::new(self.fill(&rule.body, &need.name, json_text)?))
    }

    fn fill(&self, pieces: &[Piece], key_id: &str, write: impl Fn(&str) -> String) -> Option<String> {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::KeyId => text.push_str(&write(key_id)),
                Piece::Config(at) => {
                    let value = self.parameter(*at)?;
                    text.push_str(&write(std::str::from_utf8(value).ok()?));
                }
            }
        }
        Some(text)
    }

    /// The same keyring with a key that was fetched at `at`. It is believed for [`FETCHED_KEY_MS_MAX`], and no longer than it says of
    /// itself; the oldest of [`FETCHED_KEYS_MAX`] makes room, one that nobody vouched for before any other.
    ///
    /// What makes a certificate believable is that its host was asked by name over TLS, and that it is for a name that the profile
    /// lists; its issuer is not looked at.
    ///
    /// # Errors
    /// When `document` is no key of the kind that the profile fetches, or not the one that was asked for.
    pub fn learn(&self, profile: &Profile, need: &KeyNeed, document: &[u8], at: UnixMillis) -> Result<Self, KeyError> {
        let failed = |detail: &str| KeyError::Fetched {
            url: need.url.clone(),
            detail: detail.to_owned(),
        };
        let Some(rule) = &profile.fetch else {
            return Err(failed("the provider's keys are not fetched"));
        };
        if document.len() > FETCHED_KEY_BYTES_MAX {
            return Err(failed("it is too large"));
        }
        let (key, not_before, not_after) = match &rule.kind {
            FetchKind::Certificate { subjects, .. } => {
                let certificate =
                    public_key::certificate(document).ok_or_else(|| failed("it is no PEM certificate"))?;
                if !certificate.dns_names.iter().any(|name| subjects.contains(name)) {
                    return Err(failed("the certificate is for another name"));
                }
                let (from, until) = (certificate.not_before, certificate.not_after);
                (certificate.key, Some(from), Some(until.plus_ms(1)))
            }
            FetchKind::Jwk { fields, .. } => {
                let value: serde_json::Value = serde_json::from_slice(document).map_err(|_| failed("it is no JSON"))?;
                let place = fields.0.iter().try_fold(&value, |value, key| value.get(key));
                let jwk = place
                    .and_then(public_key::jwk)
                    .ok_or_else(|| failed("it holds no JSON Web Key"))?;
                let Pair::Public(key) = jwk.pair else {
                    return Err(failed("it is a private key, which nobody should publish"));
                };
                if jwk.kid.as_deref() != Some(&need.name) {
                    return Err(failed("it is another key than the one that was asked for"));
                }
                (key, None, jwk.not_after)
            }
        };
        let scheme = profile.schemes.iter().position(|scheme| key.suits(scheme.algorithm));
        let scheme = scheme.ok_or_else(|| failed("the key is for another algorithm"))?;
        // One document under two names makes two keys, so that the id of a key leads back to the name that a request used.
        let digest = Sha256::new()
            .chain_update(&need.name)
            .chain_update([0])
            .chain_update(document);
        let digest = HEXLOWER.encode(&digest.finalize()[..8]);
        let id = KeyId::new(&need.name).or_else(|_| KeyId::new(&format!("fetched-{digest}")));
        let mut keyring = self.clone();
        let before = keyring.keys.iter().position(|key| key.is_fetched_as(&need.name));
        let before = before.map(|at| keyring.keys.remove(at));
        if keyring.keys.iter().filter(|key| key.fetched_at.is_some()).count() >= FETCHED_KEYS_MAX {
            let oldest = |is_vouched_for| {
                let mut keys = keyring.keys.iter();
                keys.position(|key| key.fetched_at.is_some() && key.is_vouched_for == is_vouched_for)
            };
            if let Some(oldest) = oldest(false).or_else(|| oldest(true)) {
                keyring.keys.remove(oldest);
            }
        }
        keyring.keys.push(Key {
            id: id.map_err(|_| failed("its id cannot be kept"))?,
            name: Some(need.name.clone()),
            scheme,
            not_before,
            not_after,
            fetched_at: Some(at),
            is_vouched_for: before.is_some_and(|before| before.is_vouched_for),
            material: Material::Public(Arc::new(key)),
        });
        Ok(keyring)
    }

    /// The same keyring, where the fetched key of that name makes room only for others that were vouched for. For names that proved a
    /// request or that the source lists: whoever makes up names pushes none of those out.
    pub fn vouch_for(&self, name: &str) -> Self {
        let mut keyring = self.clone();
        for key in keyring.keys.iter_mut().filter(|key| key.is_fetched_as(name)) {
            key.is_vouched_for = true;
        }
        keyring
    }

    /// What requests call the fetched key of this id; `None` when the key was configured or is not here.
    pub fn fetched_name(&self, id: &KeyId) -> Option<&str> {
        let mut fetched = self.keys.iter().filter(|key| key.fetched_at.is_some());
        fetched.find(|key| key.id == *id)?.name.as_deref()
    }

    /// From when on the fetched key of that name should be fetched again, so that it never ends while it is used; `None` when none of
    /// that name was fetched. Never sooner than [`FETCHED_KEY_RENEWED_MS_MIN`] after it was.
    pub fn renewal(&self, name: &str) -> Option<UnixMillis> {
        let key = self.keys.iter().find(|key| key.is_fetched_as(name))?;
        let fetched_at = key.fetched_at?;
        let ends_at = fetched_at.plus_ms(FETCHED_KEY_MS_MAX);
        let ends_at = key.not_after.map_or(ends_at, |not_after| not_after.min(ends_at));
        let in_time = ends_at.plus_ms(-FETCHED_KEY_MS_MAX / 4);
        Some(in_time.max(fetched_at.plus_ms(FETCHED_KEY_RENEWED_MS_MIN)))
    }

    pub(super) fn serves(&self, profile: &Profile) -> bool {
        self.provider == profile.name && self.version == profile.version
    }

    pub(super) fn provider(&self) -> (ProviderName, u32) {
        (self.provider.clone(), self.version)
    }

    pub(crate) fn parameter(&self, at: usize) -> Option<&[u8]> {
        self.parameters.get(at)?.as_ref().map(Secret::expose)
    }

    /// What has to be fetched for a request that names `name`; `None` when the name is no such thing.
    pub fn need(&self, profile: &Profile, name: &[u8]) -> Option<KeyNeed> {
        let rule = profile.fetch.as_ref()?;
        let name = std::str::from_utf8(name).ok()?;
        // The sender chooses the name, so only names of the form that providers use are accepted.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/' | b':');
        if name.is_empty() || name.len() > 512 || !name.bytes().all(is_plain) {
            return None;
        }
        let url = match &rule.kind {
            FetchKind::Certificate { .. } => name.to_owned(),
            FetchKind::Jwk { url, .. } => {
                // A key can be asked for only with the source's credentials.
                self.fill(&rule.body, name, str::to_owned)?;
                self.fill(url, name, str::to_owned)?
            }
        };
        let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
        let is_listed = rule.hosts.iter().any(|listed| listed == host);
        let is_below = rule.path_prefix[1..].is_empty() || path.starts_with(&rule.path_prefix[1..]);
        let has_detour = path.split('/').any(|step| step == ".." || step == ".") || path.contains("//");
        if !is_listed || !is_below || has_detour {
            return None;
        }
        Some(KeyNeed {
            name: name.to_owned(),
            url,
        })
    }

    /// The key that made one of the candidates, and the number of secrets that were tried.
    pub(super) fn find(&self, profile: &Profile, wanted: &Wanted<'_>, message: &Message<'_>) -> Result<&Key, usize> {
        let mut tried = 0;
        let mut public_checks = 0;
        for key in &self.keys {
            let offered = || {
                wanted
                    .candidates
                    .iter()
                    .filter(|candidate| candidate.scheme == key.scheme)
            };
            if !wanted.takes(key) || offered().next().is_none() {
                continue;
            }
            tried += 1;
            let algorithm = profile.schemes[key.scheme].algorithm;
            let matches = match &key.material {
                // A check costs from forty microseconds up, and whoever sends the request chooses how many signatures it has.
                Material::Public(public) => offered().any(|candidate| {
                    public_checks += 1;
                    public_checks <= SIGNATURE_ENTRIES_MAX
                        && public.verifies(
                            algorithm,
                            || message.joined(),
                            || message.sha256(),
                            candidate.tag.as_slice(),
                        )
                }),
                Material::Credential(secret) => offered().any(|candidate| secret.matches(candidate.tag.as_slice())),
                shared => shared.tag(message).is_some_and(|tag| {
                    offered().any(|candidate| tag.as_slice().ct_eq(candidate.tag.as_slice()).into())
                }),
            };
            if matches {
                return Ok(key);
            }
        }
        Err(tried)
    }

    /// Whether a key answers to a name, whatever its windows.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.keys.iter().any(|key| key.is_called(name))
    }

    /// Whether a request that names a key can be judged with what is here: a configured key, or one fetched lately.
    pub(super) fn can_judge(&self, name: &[u8], anonymous: bool, at: UnixMillis) -> bool {
        self.keys
            .iter()
            .any(|key| (key.is_called(name) || (anonymous && key.name.is_none())) && key.is_fresh(at))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("provider", &self.provider)
            .field("keys", &self.key_ids().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn checked_parameters(profile: &Profile, parameters: &Parameters) -> Result<Vec<Option<Secret>>, KeyError> {
    for (name, value) in parameters {
        if !profile.parameters().iter().any(|known| known.name == *name) {
            let known: Vec<_> = profile.parameters().iter().map(|known| known.name.as_str()).collect();
            return Err(KeyError::UnknownParameter {
                name: name.clone(),
                provider: profile.name.clone(),
                known: if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                },
            });
        }
        let text = value.expose();
        let is_printable = text.iter().all(|b| (b' '..=b'~').contains(b));
        if text.is_empty() || text.len() > PARAMETER_BYTES_MAX || !is_printable {
            return Err(KeyError::BadParameter { name: name.clone() });
        }
    }
    let value = |parameter: &crate::profile::Parameter| match parameters.get(&parameter.name) {
        Some(value) => Ok(Some(value.clone())),
        None if parameter.required => Err(KeyError::MissingParameter {
            name: parameter.name.clone(),
            what: parameter.what.clone(),
        }),
        None => Ok(parameter.default.as_ref().map(|text| Secret::new(text.as_bytes()))),
    };
    profile.parameters().iter().map(value).collect()
}

/// Which keys a request lets be tried, and against what.
pub(super) struct Wanted<'a> {
    pub(super) candidates: &'a [Candidate],
    /// What the request calls its key.
    pub(super) name: Option<&'a [u8]>,
    /// A key without a name of its own may be tried all the same: the tenant pinned it.
    pub(super) anonymous: bool,
    /// The instant at which keys must be active; every key may be tried when absent.
    pub(super) active_at: Option<UnixMillis>,
}

impl Wanted<'_> {
    fn takes(&self, key: &Key) -> bool {
        let is_named = match self.name {
            None => true,
            Some(name) => key.is_called(name) || (self.anonymous && key.name.is_none()),
        };
        is_named && self.active_at.is_none_or(|at| key.is_active(at) && key.is_fresh(at))
    }
}

impl Key {
    fn is_called(&self, name: &[u8]) -> bool {
        self.name.as_deref().unwrap_or(self.id.as_str()).as_bytes() == name
    }

    fn is_fetched_as(&self, name: &str) -> bool {
        self.fetched_at.is_some() && self.name.as_deref() == Some(name)
    }

    fn is_active(&self, at: UnixMillis) -> bool {
        self.not_before.is_none_or(|from| from <= at) && self.not_after.is_none_or(|until| at < until)
    }

    fn is_fresh(&self, at: UnixMillis) -> bool {
        self.fetched_at
            .is_none_or(|fetched| at.since(fetched) < FETCHED_KEY_MS_MAX)
    }
}

/// What a header must say for a secret.
fn expected(profile: &Profile, key: &[u8]) -> Secret {
    match &profile.rule {
        Rule::Credential(rule) => spelled(rule.kind, key),
        _ => Secret::new(key),
    }
}

/// A secret as a header has it.
pub(super) fn spelled(kind: CredentialKind, key: &[u8]) -> Secret {
    match kind {
        CredentialKind::Bearer | CredentialKind::Value => Secret::new(key),
        CredentialKind::Basic => Secret::new(BASE64.encode(key)),
    }
}

impl Material {
    /// `None` for an algorithm without shared keys.
    fn shared(profile: &Profile, scheme: usize, key: &[u8]) -> Option<Self> {
        match profile.schemes[scheme].algorithm {
            Algorithm::HmacSha1 => Hmac::new_from_slice(key).ok().map(Self::HmacSha1),
            Algorithm::HmacSha256 => Hmac::new_from_slice(key).ok().map(Self::HmacSha256),
            Algorithm::HmacSha512 => Hmac::new_from_slice(key).ok().map(Self::HmacSha512),
            Algorithm::Credential => Some(Self::Credential(expected(profile, key))),
            _ => None,
        }
    }

    fn tag(&self, message: &Message<'_>) -> Option<Tag> {
        fn run<M: Mac + Clone>(keyed: &M, message: &Message<'_>) -> Tag {
            let mut mac = keyed.clone();
            message.parts().iter().for_each(|part| mac.update(part));
            Tag::new(&mac.finalize().into_bytes())
        }
        match self {
            Self::HmacSha1(keyed) => Some(run(keyed, message)),
            Self::HmacSha256(keyed) => Some(run(keyed, message)),
            Self::HmacSha512(keyed) => Some(run(keyed, message)),
            Self::Public(_) | Self::Credential(_) => None,
        }
    }
}

/// A shared key's tag over a message.
pub(crate) fn shared_tag(profile: &Profile, scheme: usize, key: &[u8], message: &Message<'_>) -> Option<Tag> {
    Material::shared(profile, scheme, key).and_then(|material| material.tag(message))
}
