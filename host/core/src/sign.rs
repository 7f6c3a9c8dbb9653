//! Signing: the inverse of [`crate::verify`], by the same profile. For samples, the demo, tests and outgoing deliveries.
//!
//! Shared secrets, Ed25519 and ECDSA may be real ones. RSA signs without blinding, which leaks time about the key
//! (RUSTSEC-2023-0071): its keys must be made for the test that they serve. Nothing that Tollgate delivers is signed with RSA.

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::form;
use crate::ids::KeyId;
use crate::profile::{
    BindPlace, BindValue, BodyFormat, CredentialKind, Encoding, FetchKind, FieldSource, Grammar, HeaderName,
    HttpSignaturesRule, JwsRule, Part, Profile, Rule, SignatureRule, Step, TimeFormat,
};
use crate::request::{Header, RawRequest};
use crate::secret::{Parameters, SourceSecret};
use crate::time::UnixMillis;
use crate::verify::{
    Decoded, KeyError, Keyring, Message, Unproven, content_digest, decode, form_sorted, shared_tag, signature_base,
};

/// One message to sign.
#[derive(Debug, Clone, Copy)]
pub struct SignInput<'a> {
    /// The bytes to sign.
    pub body: &'a [u8],
    /// The message id, for schemes with an id header. It must come again with each redelivery.
    pub id: &'a str,
    /// The instant to sign, for schemes that sign one; also decides which secrets are active.
    pub at: UnixMillis,
    /// The receiver's public URL, for schemes that sign it.
    pub url: Option<&'a str>,
}

/// What a sender sends to the receiver's URL, with POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<'a> {
    /// What the scheme adds; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it was given, or with the signature in it.
    pub body: Cow<'a, [u8]>,
    /// What the scheme adds to the URL's query.
    pub query: Option<String>,
}

/// Why a message was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A secret is no key by the profile's rule.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A public key verifies and cannot sign.
    #[error("secret `{id}` is a public key, which cannot sign: use the private one")]
    PublicKey {
        /// The secret.
        id: KeyId,
    },
    /// Every secret begins later or has ended.
    #[error("none of the secrets is valid at the time of signing")]
    NoActiveSecret,
    /// The URL is signed, and the input has none.
    #[error("the scheme signs the receiver's URL, and none was given")]
    NoUrl,
    /// A part of what is signed comes from the provider alone.
    #[error("the scheme signs `{part}`, which a sender cannot make up")]
    Unfillable {
        /// The part, as the profile writes it.
        part: String,
    },
    /// The id would make the signed bytes ambiguous.
    #[error("the message id `{id}` may not contain {text:?}, which the scheme puts beside it")]
    ForbiddenId {
        /// The id.
        id: String,
        /// The text that it must not hold.
        text: String,
    },
    /// The signature goes into the body, and the body has no place for it.
    #[error("the scheme puts its signature into the body, which must be {expected}")]
    Body {
        /// What the body must be.
        expected: &'static str,
    },
}

/// Signs as the provider would. Every secret that is active at `input.at` signs, in the given order; a scheme that carries one
/// signature only takes the first.
///
/// # Errors
/// When a secret is not one that signs, or the scheme signs something that `input` and `parameters` do not have.
pub fn sign<'a>(
    profile: &Profile,
    secrets: &[SourceSecret],
    parameters: &Parameters,
    input: &SignInput<'a>,
) -> Result<Signed<'a>, SignError> {
    let is_active = |secret: &&SourceSecret| {
        secret.not_before.is_none_or(|from| from <= input.at) && secret.not_after.is_none_or(|until| input.at < until)
    };
    let active: Vec<&SourceSecret> = secrets.iter().filter(is_active).collect();
    let Some(first) = active.first() else {
        return Err(SignError::NoActiveSecret);
    };
    let mut signed = Signed {
        headers: Vec::new(),
        body: Cow::Borrowed(input.body),
        query: None,
    };
    let signer = Signer {
        profile,
        keyring: Keyring::with_parameters(profile, secrets, parameters)?,
        active: &active,
        first,
        input,
    };
    match &profile.rule {
        Rule::Template(rule) if rule.field.is_some() => signer.in_body(rule, &mut signed)?,
        Rule::Template(rule) => signer.in_headers(rule, &mut signed)?,
        Rule::Jws(rule) => signer.jws(rule, &mut signed)?,
        Rule::HttpSignatures(rule) => signer.http_signatures(rule, &mut signed)?,
        Rule::Credential(rule) => {
            let text = String::from_utf8_lossy(first.text.expose());
            let value = match rule.kind {
                CredentialKind::Bearer => format!("Bearer {text}"),
                CredentialKind::Basic => format!("Basic {}", BASE64.encode(text.as_bytes())),
                CredentialKind::Value => text.into_owned(),
            };
            add(&mut signed.headers, &rule.header, &value);
        }
        Rule::FetchBack => {}
    }
    // An id header that is not signed is sent all the same: the event cannot be read without it.
    if let Some(FieldSource::Header { name, .. }) = profile.event.id.first() {
        add(&mut signed.headers, name, input.id);
    }
    signer.bound(&mut signed);
    Ok(signed)
}

fn add(headers: &mut Vec<(String, String)>, name: &HeaderName, value: &str) {
    let name = name.in_set(0);
    if !headers.iter().any(|(known, _)| known == name) {
        headers.push((name.to_owned(), value.to_owned()));
    }
}

struct Signer<'s, 'a> {
    profile: &'s Profile,
    keyring: Keyring,
    active: &'s [&'s SourceSecret],
    first: &'s SourceSecret,
    input: &'s SignInput<'a>,
}

impl Signer<'_, '_> {
    fn in_headers(&self, rule: &SignatureRule, signed: &mut Signed<'_>) -> Result<(), SignError> {
        let mut said = Vec::new();
        let parts = self.fill(rule, signed, &mut said, None)?;
        if let Some(name) = &rule.key_id {
            add(&mut signed.headers, name, self.first.id.as_str());
        }
        let room = match rule.grammar {
            Grammar::Plain if rule.key_id.is_some() => 1,
            Grammar::Plain if rule.repeated => usize::MAX,
            Grammar::Plain => rule.headers.len(),
            Grammar::Params { .. } | Grammar::List => usize::MAX,
        };
        let message = Message::new(parts);
        let mut signatures = Vec::new();
        for secret in self.active.iter().take(room) {
            signatures.push(self.signature(secret, &message)?);
        }
        let label = |at: usize| self.profile.schemes[at].name.as_str();
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
                    signed.headers.push((
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
                signed.headers.push((header(0), entries.join(" ")));
            }
            Grammar::Params { separator } => {
                let entries: Vec<_> = said
                    .into_iter()
                    .chain(
                        signatures
                            .iter()
                            .map(|(scheme, text)| format!("{}={text}", label(*scheme))),
                    )
                    .collect();
                signed
                    .headers
                    .push((header(0), entries.join(&char::from(separator).to_string())));
            }
        }
        Ok(())
    }

    /// Writes the signature, and what of the signed parts is the sender's to say, into the body or each of its items.
    fn in_body(&self, rule: &SignatureRule, signed: &mut Signed<'_>) -> Result<(), SignError> {
        let not_json = SignError::Body {
            expected: "a JSON object with the items that the provider sends",
        };
        if self.profile.event.body == BodyFormat::Form {
            return Err(SignError::Unfillable { part: "a form".into() });
        }
        let mut body: Value = serde_json::from_slice(self.input.body).map_err(|_| not_json.clone())?;
        let items: Vec<&mut Value> = match &self.profile.batch {
            Some(batch) if rule.per_item => items(&mut body, &batch.steps).ok_or(not_json.clone())?,
            _ => vec![&mut body],
        };
        for item in items {
            for (at, part) in rule.signed.iter().enumerate() {
                let Part::Json { name, .. } = part else { continue };
                let time = self.profile.time.as_ref().filter(|time| time.part == at);
                let is_id = self.profile.event.id.iter().any(
                    |source| matches!(source, FieldSource::Body(slot) if self.profile.event.pointers.text(*slot) == *name),
                );
                if let Some(time) = time {
                    set(item, name, time.format.print(self.input.at)).ok_or(not_json.clone())?;
                } else if is_id {
                    set(item, name, self.input.id.to_owned()).ok_or(not_json.clone())?;
                }
            }
            let parts = self.fill(rule, &mut *signed, &mut Vec::new(), Some(item))?;
            let (_, text) = self.signature(self.first, &Message::new(parts))?;
            if let Some((_, name)) = &rule.field {
                set(item, name, format!("{}{text}", rule.prefix)).ok_or(not_json.clone())?;
            }
        }
        signed.body = Cow::Owned(body.to_string().into_bytes());
        Ok(())
    }

    fn jws(&self, rule: &JwsRule, signed: &mut Signed<'_>) -> Result<(), SignError> {
        let Decoded::Private { scheme, key, name } = decode(self.profile, self.first)? else {
            return Err(SignError::PublicKey {
                id: self.first.id.clone(),
            });
        };
        let kid = name.unwrap_or_else(|| self.first.id.to_string());
        let scheme = &self.profile.schemes[scheme];
        let protected = json!({ "alg": scheme.name, "kid": kid, "typ": "JWT" });
        let claims = json!({
            rule.time_claim.as_str(): self.input.at.unix_seconds(),
            rule.body_claim.as_str(): HEXLOWER.encode(&Sha256::digest(self.input.body)),
        });
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let input = format!("{}.{}", encode(&protected), encode(&claims));
        let message = Message::new(vec![Cow::Borrowed(input.as_bytes())]);
        let tag = key.sign(scheme.algorithm, message.joined(), message.sha256());
        let tag = tag.ok_or_else(|| KeyError::NotAKey {
            id: self.first.id.clone(),
        })?;
        add(
            &mut signed.headers,
            &rule.header,
            &format!("{input}.{}", BASE64URL_NOPAD.encode(&tag)),
        );
        Ok(())
    }

    fn http_signatures(&self, rule: &HttpSignaturesRule, signed: &mut Signed<'_>) -> Result<(), SignError> {
        let components: Vec<&str> = rule
            .components
            .iter()
            .filter_map(|one_of| one_of.first().map(String::as_str))
            .collect();
        let digest = content_digest(self.input.body);
        let has_digest = components.contains(&"content-digest");
        let headers = [Header {
            name: "content-digest",
            value: digest.as_bytes(),
        }];
        let request = RawRequest {
            method: "POST",
            path: None,
            query: None,
            headers: &headers[..usize::from(has_digest)],
            body: self.input.body,
            url: self.input.url,
            received_at: self.input.at,
        };
        let names: Vec<_> = components.iter().map(|name| format!("\"{name}\"")).collect();
        let parameters = format!(
            "({});created={};keyid=\"{}\"",
            names.join(" "),
            self.input.at.unix_seconds(),
            self.first.id
        );
        let base = signature_base(&request, &components, &parameters).map_err(|unproven| match unproven {
            Unproven::NoUrl => SignError::NoUrl,
            other => SignError::Unfillable {
                part: other.to_string(),
            },
        })?;
        let (_, text) = self.signature(self.first, &Message::new(vec![Cow::Owned(base)]))?;
        let label = rule.label.as_deref().unwrap_or("sig1");
        let mut push = |name: &str, value: String| signed.headers.push((name.to_owned(), value));
        if has_digest {
            push("content-digest", digest.clone());
        }
        push("signature-input", format!("{label}={parameters}"));
        push("signature", format!("{label}=:{text}:"));
        Ok(())
    }

    /// Adds the headers that the profile wants to see beside a signature.
    fn bound(&self, signed: &mut Signed<'_>) {
        for bind in &self.profile.binds {
            if let BindPlace::Header(name) = &bind.place {
                let value = match &bind.equals {
                    BindValue::Literal(text) => text.clone(),
                    BindValue::Config(at) => {
                        String::from_utf8_lossy(self.keyring.parameter(*at).unwrap_or_default()).into_owned()
                    }
                };
                add(&mut signed.headers, name, &value);
            }
        }
        // There is no document at this URL; a receiver who pins the key never looks for it.
        if let Some(fetch) = &self.profile.fetch
            && let FetchKind::Certificate { url, .. } = &fetch.kind
            && let Some(host) = fetch.hosts.first()
        {
            let place = format!("https://{host}{}test", fetch.path_prefix);
            add(&mut signed.headers, url, &place);
        }
    }

    /// Makes up the parts to sign. Header parts go to the headers, what a `params` header says beside signatures to `said`; fields are
    /// read from `item`.
    fn fill<'m>(
        &'m self,
        rule: &'m SignatureRule,
        signed: &mut Signed<'_>,
        said: &mut Vec<String>,
        item: Option<&Value>,
    ) -> Result<Vec<Cow<'m, [u8]>>, SignError> {
        let body = self.input.body;
        let mut parts: Vec<Cow<'m, [u8]>> = Vec::new();
        for (at, part) in rule.signed.iter().enumerate() {
            let time = self
                .profile
                .time
                .as_ref()
                .filter(|time| time.part == at)
                .map(|time| time.format.print(self.input.at));
            let text = |text: String| Cow::Owned(text.into_bytes());
            parts.push(match (part, time) {
                (Part::Literal(literal), _) => Cow::Borrowed(literal.as_bytes()),
                (Part::Body, _) => Cow::Borrowed(body),
                (Part::BodySha256Hex, _) => text(HEXLOWER.encode(&Sha256::digest(body))),
                (Part::BodySha256Base64, _) => text(BASE64.encode(&Sha256::digest(body))),
                (Part::BodyCrc32, _) => text(crc32fast::hash(body).to_string()),
                (Part::Url, _) => Cow::Borrowed(self.input.url.ok_or(SignError::NoUrl)?.as_bytes()),
                // A sender may list any of the headers; one is enough.
                (Part::Listed { headers, .. }, _) => {
                    let name = headers.first().map_or("", String::as_str);
                    let value = if name == "content-type" {
                        "application/json"
                    } else {
                        self.input.id
                    };
                    if !signed.headers.iter().any(|(known, _)| known == name) {
                        signed.headers.push((name.to_owned(), value.to_owned()));
                    }
                    text(value.to_owned())
                }
                (Part::Param { name, .. }, None) if listed_by(rule, name).is_some() => {
                    let listed = listed_by(rule, name).unwrap_or_default();
                    said.push(format!("{name}={listed}"));
                    text(listed.to_owned())
                }
                (Part::Config { at, .. }, _) => Cow::Borrowed(self.keyring.parameter(*at).unwrap_or_default()),
                (Part::FormSorted { digest }, _) => self.form(signed, digest.as_deref())?,
                (Part::Header { name, .. }, Some(time)) => {
                    add(&mut signed.headers, name, &time);
                    text(time)
                }
                (Part::Param { name, .. }, Some(time)) => {
                    said.push(format!("{name}={time}"));
                    text(time)
                }
                (Part::Header { name, shape }, None) if self.is_id(name) => {
                    let id = self.input.id;
                    if let Some(text) = shape.forbidden.iter().find(|text| id.contains(text.as_str())) {
                        return Err(SignError::ForbiddenId {
                            id: id.to_owned(),
                            text: text.clone(),
                        });
                    }
                    add(&mut signed.headers, name, id);
                    Cow::Borrowed(id.as_bytes())
                }
                (Part::Json { name, optional, .. }, _) => match item.and_then(|item| item.pointer(name)) {
                    Some(Value::String(value)) => text(value.clone()),
                    Some(value @ (Value::Number(_) | Value::Bool(_))) => text(value.to_string()),
                    _ if *optional => Cow::Borrowed(b""),
                    _ => return Err(SignError::Unfillable { part: part.describe() }),
                },
                (Part::Header { .. } | Part::Param { .. }, _) => {
                    return Err(SignError::Unfillable { part: part.describe() });
                }
            });
        }
        Ok(parts)
    }

    fn is_id(&self, wanted: &HeaderName) -> bool {
        let mut sources = self.profile.event.id.iter();
        sources.any(|source| matches!(source, FieldSource::Header { name, .. } if name == wanted))
    }

    /// A form's fields, or for a body that is no form its digest for the query.
    fn form<'m>(&self, signed: &mut Signed<'_>, digest: Option<&str>) -> Result<Cow<'m, [u8]>, SignError> {
        let body = self.input.body;
        let is_json = matches!(body.trim_ascii_start().first(), Some(b'{' | b'['));
        if let Some(name) = digest.filter(|_| is_json) {
            let url = self.input.url.ok_or(SignError::NoUrl)?;
            let joint = if url.contains('?') { '&' } else { '?' };
            let field = format!("{}={}", form::encode(name), HEXLOWER.encode(&Sha256::digest(body)));
            signed.query = Some(field.clone());
            return Ok(Cow::Owned(format!("{joint}{field}").into_bytes()));
        }
        let not_form = SignError::Body { expected: "a form" };
        let text = std::str::from_utf8(body).map_err(|_| not_form.clone())?;
        form_sorted(text).map(Cow::Owned).map_err(|_| not_form)
    }

    /// One secret's signature as text, with its scheme.
    fn signature(&self, secret: &SourceSecret, message: &Message<'_>) -> Result<(usize, String), SignError> {
        let (scheme, tag) = match decode(self.profile, secret)? {
            Decoded::Shared { scheme, key } => (
                scheme,
                shared_tag(self.profile, scheme, &key, message).map(|tag| tag.as_slice().to_vec()),
            ),
            Decoded::Private { scheme, key, .. } => {
                let algorithm = self.profile.schemes[scheme].algorithm;
                (scheme, key.sign(algorithm, message.joined(), message.sha256()))
            }
            Decoded::Public { .. } => return Err(SignError::PublicKey { id: secret.id.clone() }),
        };
        let tag = tag.ok_or_else(|| KeyError::NotAKey { id: secret.id.clone() })?;
        let text = match self.profile.schemes[scheme].encoding {
            Encoding::Hex => HEXLOWER.encode(&tag),
            Encoding::Base64 => BASE64.encode(&tag),
        };
        Ok((scheme, text))
    }
}

/// The header that a signer lists in the parameter `name`, where the rule signs those that are listed there.
fn listed_by<'r>(rule: &'r SignatureRule, name: &str) -> Option<&'r str> {
    rule.signed.iter().find_map(|part| match part {
        Part::Listed { param, headers, .. } if param == name => headers.first().map(String::as_str),
        _ => None,
    })
}

/// The items of a batch, to be written to.
fn items<'v>(body: &'v mut Value, steps: &[Step]) -> Option<Vec<&'v mut Value>> {
    let mut level = vec![body];
    for step in steps {
        level = match step {
            Step::Key(key) => level
                .into_iter()
                .map(|value| value.get_mut(key))
                .collect::<Option<Vec<_>>>()?,
            Step::Each => level
                .into_iter()
                .map(Value::as_array_mut)
                .collect::<Option<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect(),
        };
    }
    Some(level)
}

/// Writes a text at a pointer; the objects on the way are made.
fn set(value: &mut Value, pointer: &str, text: String) -> Option<()> {
    let mut at = value;
    for key in pointer.split('/').skip(1) {
        let object = at.as_object_mut()?;
        at = object
            .entry(key.replace("~1", "/").replace("~0", "~"))
            .or_insert_with(|| json!({}));
    }
    *at = Value::String(text);
    Some(())
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
