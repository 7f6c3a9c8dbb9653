//! A tag over joined parts: the family of most providers, whatever the algorithm.

use std::borrow::Cow;
use std::collections::BTreeSet;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::keys::{Keyring, Wanted};
use super::message::{Candidate, Message, Tag};
use super::{Found, Strictness, Unproven, judge_time, single};
use crate::batch::{self, BatchError};
use crate::form;
use crate::ids::Digest;
use crate::json::{self, Scalar, Slot, Values};
use crate::limits::{BATCH_ITEMS_MAX, SIGNATURE_ENTRIES_MAX};
use crate::profile::{BodyFormat, FetchKind, Free, Grammar, IdentityRule, Part, Profile, Shape, SignatureRule};
use crate::request::RawRequest;
use crate::time::UnixMillis;

pub(super) fn attempt(
    profile: &Profile,
    rule: &SignatureRule,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    let scheme = Template {
        profile,
        rule,
        keyring,
        strictness,
    };
    match &profile.batch {
        Some(batch) if rule.per_item => scheme.items(request, batch),
        _ => match scheme.one(request, request.body) {
            Err(Unproven::NoMatch { signatures, secrets }) if rule.minified => {
                // The provider signs the minified form, whatever it sends. Minifying takes nothing away that means something, and
                // what is kept is what was signed.
                let minified = minify(request.body);
                match minified {
                    Some(minified) if minified != request.body => {
                        let found = scheme.one(request, &minified)?;
                        Ok(Found {
                            minified: Some(minified),
                            ..found
                        })
                    }
                    _ => Err(Unproven::NoMatch { signatures, secrets }),
                }
            }
            result => result,
        },
    }
}

/// One profile's rule with what it is applied with.
#[derive(Clone, Copy)]
struct Template<'p> {
    profile: &'p Profile,
    rule: &'p SignatureRule,
    keyring: &'p Keyring,
    strictness: Strictness,
}

impl<'p> Template<'p> {
    /// Proves each item of a batch by the signature inside it. All must hold: an answer is for the whole request, and what is not
    /// acknowledged comes again.
    fn items(self, request: &RawRequest<'_>, batch: &crate::profile::BatchRule) -> Result<Found, Unproven> {
        let unreadable = |detail: String| Unproven::UnreadableBody {
            pointer: "items".into(),
            detail,
        };
        let text = json::document(request.body).map_err(|_| unreadable("the body is not UTF-8".into()))?;
        let items = batch::split(batch, text).map_err(|error| {
            unreadable(match error {
                BatchError::Json(_) => "the body is not JSON with a list of items, or repeats a key".into(),
                BatchError::Empty => "the list is empty".into(),
                BatchError::TooMany { items } => format!("{items} items, and at most {BATCH_ITEMS_MAX} are taken"),
            })
        })?;
        let mut first: Option<Found> = None;
        for (index, item) in items.unwrap_or_else(|| vec![text]).into_iter().enumerate() {
            let found = self.one(request, item.as_bytes()).map_err(|cause| Unproven::Item {
                index,
                cause: Box::new(cause),
            })?;
            match &mut first {
                Some(first) => first.messages.extend(found.messages),
                None => first = Some(found),
            }
        }
        first.ok_or_else(|| unreadable("the list is empty".into()))
    }

    /// Proves one body, or one item of a batch.
    fn one(self, request: &RawRequest<'_>, body: &[u8]) -> Result<Found, Unproven> {
        let header_set = self.header_set(request)?;
        let fields = if self.rule.fields.is_empty() {
            None
        } else {
            Some(self.body_fields(body)?)
        };
        let fields = fields.as_ref();
        let parts = self.signed_parts(request, body, fields, header_set)?;
        let signed_at = self.signed_at(request, &parts)?;
        let candidates = match &self.rule.field {
            None => self.candidates(request, header_set)?,
            Some((slot, name)) => vec![self.candidate_in(fields, *slot, name)?],
        };
        let name = self.named_key(request, header_set)?;
        let wanted = Wanted {
            candidates: &candidates,
            name,
            anonymous: self.profile.fetch.is_some(),
            active_at: self.strictness.windows.then_some(request.received_at),
        };
        let message = Message::new(parts);
        let key = self.keyring.find(self.profile, &wanted, &message).map_err(|tried| {
            match (tried, name, &self.rule.key_id) {
                (0, Some(name), Some(header)) if !self.keyring.has(name) => Unproven::UnknownKey {
                    header: header.in_set(header_set).to_owned(),
                },
                (0, ..) => Unproven::NoActiveSecret,
                (secrets, ..) => Unproven::NoMatch {
                    signatures: candidates.len(),
                    secrets,
                },
            }
        })?;
        Ok(Found {
            key_id: key.id.clone(),
            scheme: key.scheme,
            signed_at,
            header_set,
            minified: None,
            format: self.format(request),
            messages: match self.profile.event.identity {
                IdentityRule::EventId => Vec::new(),
                IdentityRule::SignedMessage => vec![Digest(*message.sha256())],
            },
        })
    }

    /// A form whose digest is in the signed query is no form: it is then JSON.
    fn format(self, request: &RawRequest<'_>) -> BodyFormat {
        let in_query = self.rule.signed.iter().any(|part| match part {
            Part::FormSorted { digest: Some(name) } => has_field(request.query, name),
            _ => false,
        });
        if in_query {
            BodyFormat::Json
        } else {
            self.profile.event.body
        }
    }

    /// Chooses the alternative prefix by which signature header is there. One choice serves the whole request, so that parts of two
    /// sets are never combined.
    fn header_set(self, request: &RawRequest<'_>) -> Result<usize, Unproven> {
        let headers = &self.rule.headers;
        if headers.is_empty() {
            return Ok(0);
        }
        (0..self.rule.header_sets)
            .find(|&set| {
                headers
                    .iter()
                    .any(|name| request.header_values(name.in_set(set)).next().is_some())
            })
            .ok_or_else(|| Unproven::MissingHeader {
                name: headers.first().map_or("", |name| name.in_set(0)).to_owned(),
            })
    }

    fn body_fields<'b>(self, body: &'b [u8]) -> Result<Values<'b>, Unproven> {
        let unreadable = |detail: &str| {
            let mut parts = self.rule.signed.iter();
            let part = parts.find(|part| matches!(part, Part::Json { .. })).map(Part::describe);
            let field = self.rule.field.as_ref().map(|(_, name)| format!("json:{name}"));
            Unproven::UnreadableBody {
                pointer: part.or(field).unwrap_or_default(),
                detail: detail.to_owned(),
            }
        };
        let text = json::document(body).map_err(|_| unreadable("the body is not UTF-8"))?;
        let values = match self.profile.event.body {
            BodyFormat::Json => self.rule.fields.read(text),
            BodyFormat::Form => {
                let fields = form::parse(text).map_err(|_| unreadable("the body is not a form"))?;
                self.rule.fields.read_form(fields)
            }
        };
        values.map_err(|_| unreadable("the body is not JSON, too deep, or repeats a key"))
    }

    /// The pieces whose concatenation was signed.
    fn signed_parts<'a>(
        self,
        request: &RawRequest<'a>,
        body: &'a [u8],
        fields: Option<&Values<'a>>,
        header_set: usize,
    ) -> Result<Vec<Cow<'a, [u8]>>, Unproven>
    where
        'p: 'a,
    {
        let mut parts: Vec<Cow<'a, [u8]>> = Vec::with_capacity(self.rule.signed.len());
        let mut shapes = Vec::with_capacity(self.rule.signed.len());
        for part in &self.rule.signed {
            let (value, shape): (Cow<'a, [u8]>, Option<&Shape>) = match part {
                Part::Literal(text) => (Cow::Borrowed(text.as_bytes()), None),
                Part::Header { name, shape } => (Cow::Borrowed(single(request, name.in_set(header_set))?), Some(shape)),
                Part::Param { name, shape } => (
                    Cow::Borrowed(self.single_param(request, header_set, name)?),
                    Some(shape),
                ),
                Part::Json {
                    slot,
                    name,
                    shape,
                    optional,
                } => match fields.and_then(|fields| fields.get(*slot)) {
                    Some(Scalar::Text(Cow::Borrowed(text))) => (
                        Cow::Borrowed(text.as_bytes()),
                        (!optional || !text.is_empty()).then_some(shape),
                    ),
                    Some(other) => {
                        let text = other.text().into_owned();
                        let shape = (!optional || !text.is_empty()).then_some(shape);
                        (Cow::Owned(text.into_bytes()), shape)
                    }
                    None if *optional => (Cow::Borrowed(&b""[..]), None),
                    None => {
                        return Err(Unproven::UnreadableBody {
                            pointer: name.clone(),
                            detail: "it is not there".into(),
                        });
                    }
                },
                Part::Body => (Cow::Borrowed(body), None),
                Part::BodySha256Hex => (Cow::Owned(HEXLOWER.encode(&Sha256::digest(body)).into_bytes()), None),
                Part::BodySha256Base64 => (Cow::Owned(BASE64.encode(&Sha256::digest(body)).into_bytes()), None),
                Part::BodyCrc32 => (Cow::Owned(crc32fast::hash(body).to_string().into_bytes()), None),
                Part::FormSorted { digest } => (self.form(request, body, digest.as_deref())?, None),
                Part::Url => (Cow::Borrowed(request.url.ok_or(Unproven::NoUrl)?.as_bytes()), None),
                Part::Listed { param, headers, free } => (
                    Cow::Owned(self.listed(request, header_set, param, headers, free.as_deref())?),
                    None,
                ),
                Part::Config { at, .. } => {
                    let value = self.keyring.parameter(*at).unwrap_or_default();
                    (Cow::Borrowed(value), None)
                }
            };
            shapes.push(shape);
            parts.push(value);
        }
        let free = self.free(&parts);
        for (at, (part, shape)) in self.rule.signed.iter().zip(shapes).enumerate() {
            let value = parts.get(at).map_or(&b""[..], |value| value);
            if let Some(detail) = shape.and_then(|shape| shape.objection(value, free == Some(at))) {
                return Err(Unproven::ForbiddenShape {
                    part: part.describe(),
                    detail,
                });
            }
        }
        Ok(parts)
    }

    /// Which part of this request may hold what stands beside it.
    fn free(self, parts: &[Cow<'_, [u8]>]) -> Option<usize> {
        let applies = |free: &&Free| match &free.when {
            None => true,
            Some((at, texts)) => {
                let said = parts.get(*at);
                said.is_some_and(|said| texts.iter().any(|text| text.as_bytes() == &**said))
            }
        };
        self.rule.free.iter().find(applies).map(|free| free.part)
    }

    /// The values of the headers that the signature says it holds. How many there are is signed with their names, and only one of them
    /// may hold a `.`, so that the joined bytes say where each of them ends.
    fn listed(
        self,
        request: &RawRequest<'_>,
        header_set: usize,
        param: &str,
        headers: &[String],
        free: Option<&str>,
    ) -> Result<Vec<u8>, Unproven> {
        let header = || {
            self.rule
                .headers
                .first()
                .map_or("", |name| name.in_set(header_set))
                .to_owned()
        };
        let mut names: Vec<&str> = Vec::new();
        let mut joined = Vec::new();
        for name in self.single_param(request, header_set, param)?.split(|b| *b == b' ') {
            let unlisted = || Unproven::Unlisted {
                header: header(),
                name: crate::mask::line(&String::from_utf8_lossy(name), 60),
            };
            let known = headers
                .iter()
                .find(|known| known.as_bytes() == name)
                .ok_or_else(unlisted)?;
            if names.contains(&known.as_str()) {
                return Err(Unproven::MalformedSignature {
                    header: header(),
                    detail: format!("it lists `{known}` twice"),
                });
            }
            let value = single(request, known)?;
            if free != Some(known.as_str()) && value.contains(&b'.') {
                return Err(Unproven::ForbiddenShape {
                    part: format!("header:{known}"),
                    detail: "may not contain \".\", which the scheme puts beside it: the signed bytes could be split in two ways".into(),
                });
            }
            if !names.is_empty() {
                joined.push(b'.');
            }
            joined.extend_from_slice(value);
            names.push(known);
        }
        Ok(joined)
    }

    /// The body's fields in the order in which they are signed, or the query's digest of a body that is no form.
    fn form<'a>(self, request: &RawRequest<'_>, body: &[u8], digest: Option<&str>) -> Result<Cow<'a, [u8]>, Unproven> {
        if let Some(name) = digest.filter(|name| has_field(request.query, name)) {
            let part = format!("query:{name}");
            let said = form::single(request.query, name).unwrap_or_default();
            let bytes = HEXLOWER_PERMISSIVE.decode(said.as_bytes()).unwrap_or_default();
            if bytes.len() != 32 {
                return Err(Unproven::ForbiddenShape {
                    part,
                    detail: "must be the hexadecimal SHA-256 of the body, once".into(),
                });
            }
            if !bool::from(bytes.ct_eq(Sha256::digest(body).as_slice())) {
                return Err(Unproven::WrongDigest { part });
            }
            // The query is signed with the URL before this part.
            return Ok(Cow::Borrowed(b""));
        }
        let unreadable = |detail: &str| Unproven::UnreadableBody {
            pointer: "form-sorted".into(),
            detail: detail.to_owned(),
        };
        let text = std::str::from_utf8(body).map_err(|_| unreadable("the body is not UTF-8"))?;
        form_sorted(text).map(Cow::Owned).map_err(unreadable)
    }

    /// The instant among the signed parts, judged against the receipt.
    fn signed_at(self, request: &RawRequest<'_>, parts: &[Cow<'_, [u8]>]) -> Result<Option<UnixMillis>, Unproven> {
        let Some(rule) = &self.profile.time else {
            return Ok(None);
        };
        let value = parts.get(rule.part).and_then(|value| std::str::from_utf8(value).ok());
        let Some(at) = value.and_then(|value| rule.format.parse(value)) else {
            let part = self.rule.signed.get(rule.part).map(Part::describe);
            return Err(Unproven::MalformedTimestamp {
                part: part.unwrap_or_default(),
                expected: rule.format,
            });
        };
        judge_time(rule, at, request.received_at, self.strictness)?;
        Ok(Some(at))
    }

    /// The key that the request names, where the profile has such a header.
    fn named_key<'a>(self, request: &RawRequest<'a>, header_set: usize) -> Result<Option<&'a [u8]>, Unproven> {
        if let Some(FetchKind::Certificate { url, .. }) = self.profile.fetch.as_ref().map(|fetch| &fetch.kind) {
            let header = url.in_set(header_set);
            let name = single(request, header)?;
            if !self.keyring.can_judge(name, true, request.received_at) {
                return Err(match self.keyring.need(self.profile, name) {
                    Some(need) => Unproven::NeedsKey(need),
                    None => Unproven::ForeignKey {
                        header: header.to_owned(),
                    },
                });
            }
            return Ok(Some(name));
        }
        let header = self.rule.key_id.as_ref();
        header.map(|name| single(request, name.in_set(header_set))).transpose()
    }

    /// A parameter that may come only once.
    fn single_param<'a>(self, request: &RawRequest<'a>, header_set: usize, name: &str) -> Result<&'a [u8], Unproven> {
        let (Some(header), Grammar::Params { separator }) = (self.rule.headers.first(), self.rule.grammar) else {
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

    /// The signature in a field of the body.
    fn candidate_in(self, fields: Option<&Values<'_>>, slot: Slot, name: &str) -> Result<Candidate, Unproven> {
        let malformed = |detail: &str| Unproven::MalformedSignature {
            header: name.to_owned(),
            detail: detail.to_owned(),
        };
        let text = match fields.and_then(|fields| fields.get(slot)) {
            Some(Scalar::Text(text)) => text,
            Some(_) => return Err(malformed("it is not a text")),
            None => return Err(malformed("it is not there")),
        };
        let text = text.as_bytes();
        let text = match text.strip_prefix(self.rule.prefix.as_bytes()) {
            Some(rest) => rest,
            None if self.rule.prefix_optional => text,
            None => return Err(malformed("it does not begin as it should")),
        };
        let encoding = self.profile.schemes[0].encoding;
        let tag = Tag::decode(encoding, text).ok_or_else(|| malformed("it is not in the scheme's encoding"))?;
        Ok(Candidate { scheme: 0, tag })
    }

    /// The request's signatures of known schemes, decoded. Labels that the profile does not name are passed over.
    fn candidates(self, request: &RawRequest<'_>, header_set: usize) -> Result<Vec<Candidate>, Unproven> {
        let (rule, schemes) = (self.rule, &self.profile.schemes);
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
                    let scheme = schemes
                        .iter()
                        .position(|scheme| label.is_none_or(|label| label == scheme.name.as_bytes()));
                    let Some(scheme) = scheme else { return };
                    known += 1;
                    if let Some(tag) = Tag::decode(schemes[scheme].encoding, text) {
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
            schemes
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
}

impl Shape {
    /// What is wrong with a value, if anything.
    fn objection(&self, value: &[u8], is_free: bool) -> Option<String> {
        if value.is_empty() {
            return Some("is empty".into());
        }
        let holds = |text: &str| value.windows(text.len()).any(|window| window == text.as_bytes());
        if let Some(text) = self.forbidden.iter().find(|text| !is_free && holds(text)) {
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

fn has_field(query: Option<&str>, name: &str) -> bool {
    query
        .unwrap_or_default()
        .split('&')
        .any(|entry| entry.split('=').next() == Some(name))
}

/// A form's fields sorted by name, each name followed by its values, sorted and without repetitions; as bytes, whatever they say.
///
/// # Errors
/// When there are too many fields; says so.
pub(crate) fn form_sorted(text: &str) -> Result<Vec<u8>, &'static str> {
    let fields: BTreeSet<_> = form::parse(text)?.into_iter().collect();
    let mut joined = Vec::with_capacity(text.len());
    for (name, value) in &fields {
        joined.extend_from_slice(name);
        joined.extend_from_slice(value);
    }
    Ok(joined)
}

/// Removes the white space outside of strings from a JSON object or list; `None` for what is neither.
pub(crate) fn minify(body: &[u8]) -> Option<Vec<u8>> {
    let is_space = |b: u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
    let first = body.iter().copied().find(|b| !is_space(*b))?;
    if !matches!(first, b'{' | b'[') {
        return None;
    }
    let (mut in_string, mut escaped) = (false, false);
    let keeps = |b: &u8| {
        if in_string {
            in_string = escaped || *b != b'"';
            escaped = !escaped && *b == b'\\';
            return true;
        }
        in_string = *b == b'"';
        !is_space(*b)
    };
    Some(body.iter().copied().filter(keeps).collect())
}
