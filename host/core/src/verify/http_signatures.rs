//! RFC 9421 HTTP Message Signatures, and RFC 9530 Content-Digest, which is what ties a signature to the body.
//!
//! Read strictly and narrowly: components without parameters, `created`, `expires`, `keyid`, `alg`, `nonce` and `tag`. What the
//! parser does not know it refuses. Scheme, authority and path come from the source's public URL, never from `Host`.

use std::borrow::Cow;

use data_encoding::BASE64;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::keys::{Keyring, Wanted};
use super::message::{Candidate, Message, Tag};
use super::{Found, Strictness, Unproven, judge_time};
use crate::profile::{HttpSignaturesRule, Profile, TimeFormat};
use crate::request::RawRequest;
use crate::time::UnixMillis;

const INPUT: &str = "signature-input";
const SIGNATURE: &str = "signature";
const DIGEST: &str = "content-digest";

/// Labels of one request that are looked at: each may cost a check with every public key.
const LABELS_MAX: usize = 4;

/// What one label of `Signature-Input` says.
struct Input<'a> {
    /// From the opening bracket to the last parameter, as it came: the value of `@signature-params`.
    text: &'a str,
    components: Vec<&'a str>,
    created: Option<i64>,
    expires: Option<i64>,
    key_id: Option<&'a str>,
    algorithm: Option<&'a str>,
}

pub(super) fn attempt(
    profile: &Profile,
    rule: &HttpSignaturesRule,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    let inputs = joined(request, INPUT)?;
    let signatures = joined(request, SIGNATURE)?;
    let mut first_failure = None;
    for (label, text) in members(&inputs)
        .ok_or_else(|| malformed(INPUT, "it is not a dictionary of signatures"))?
        .into_iter()
        .filter(|(label, _)| rule.label.as_ref().is_none_or(|wanted| wanted == label))
        .take(LABELS_MAX)
    {
        match one(profile, rule, keyring, request, strictness, (label, text), &signatures) {
            Ok(found) => return Ok(found),
            Err(failure) => {
                first_failure.get_or_insert(failure);
            }
        }
    }
    Err(first_failure.unwrap_or_else(|| malformed(INPUT, "it has no signature under the label that is looked for")))
}

fn malformed(header: &str, detail: &str) -> Unproven {
    Unproven::MalformedSignature {
        header: header.to_owned(),
        detail: detail.to_owned(),
    }
}

fn one(
    profile: &Profile,
    rule: &HttpSignaturesRule,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
    (label, text): (&str, &str),
    signatures: &str,
) -> Result<Found, Unproven> {
    let input = input(text).ok_or_else(|| malformed(INPUT, "it is not a list of components with parameters"))?;
    for one_of in &rule.components {
        if !one_of.iter().any(|name| input.components.contains(&name.as_str())) {
            return Err(Unproven::Uncovered {
                component: one_of.join("` or `"),
            });
        }
    }
    let signed_at = time(profile, &input, request, strictness)?;

    let signature = members(signatures)
        .into_iter()
        .flatten()
        .find(|(found, _)| *found == label)
        .and_then(|(_, value)| bytes(value))
        .ok_or_else(|| malformed(SIGNATURE, "it has no signature for this label"))?;
    let takes = |name: &str| input.algorithm.is_none_or(|algorithm| algorithm == name);
    let candidates: Vec<Candidate> = profile
        .schemes
        .iter()
        .enumerate()
        .filter(|(_, scheme)| takes(&scheme.name))
        .map(|(scheme, _)| Candidate {
            scheme,
            tag: Tag::new(&signature),
        })
        .collect();
    if candidates.is_empty() {
        return Err(malformed(INPUT, "its `alg` is not one that this profile takes"));
    }
    let name = input.key_id.map(str::as_bytes);
    if name.is_some_and(|name| !keyring.has(name)) {
        return Err(Unproven::UnknownKey { header: INPUT.into() });
    }
    let wanted = Wanted {
        candidates: &candidates,
        name,
        anonymous: false,
        active_at: strictness.windows.then_some(request.received_at),
    };
    let message = Message::new(vec![Cow::Owned(base(request, &input.components, input.text)?)]);
    let key = keyring.find(profile, &wanted, &message).map_err(|tried| match tried {
        0 => Unproven::NoActiveSecret,
        secrets => Unproven::NoMatch { signatures: 1, secrets },
    })?;
    if input.components.contains(&DIGEST) {
        check_digest(request)?;
    }
    Ok(Found {
        key_id: key.id.clone(),
        scheme: key.scheme,
        signed_at,
        header_set: 0,
        minified: None,
        format: profile.event.body,
        messages: Vec::new(),
    })
}

fn time(
    profile: &Profile,
    input: &Input<'_>,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Option<UnixMillis>, Unproven> {
    let Some(rule) = &profile.time else { return Ok(None) };
    let created = input
        .created
        .and_then(|seconds| TimeFormat::UnixSeconds.parse(&seconds.to_string()));
    let Some(created) = created else {
        return Err(Unproven::MalformedTimestamp {
            part: "param:created".into(),
            expected: TimeFormat::UnixSeconds,
        });
    };
    judge_time(rule, created, request.received_at, strictness)?;
    let late = input
        .expires
        .map(|expires| request.received_at.unix_seconds().saturating_sub(expires));
    match late {
        Some(seconds) if strictness.tolerance && seconds > 0 => Err(Unproven::Expired { seconds }),
        _ => Ok(Some(created)),
    }
}

/// The signature base: one line for each component, and one for the parameters (RFC 9421, section 2.5).
pub(crate) fn base(request: &RawRequest<'_>, components: &[&str], parameters: &str) -> Result<Vec<u8>, Unproven> {
    let mut base = Vec::with_capacity(512);
    for name in components {
        base.extend_from_slice(format!("\"{name}\": ").as_bytes());
        match name.strip_prefix('@') {
            Some(derived) => base.extend_from_slice(derived_component(request, derived)?.as_bytes()),
            None => base.extend_from_slice(&field(request, name)?),
        }
        base.push(b'\n');
    }
    base.extend_from_slice(format!("\"@signature-params\": {parameters}").as_bytes());
    Ok(base)
}

fn derived_component(request: &RawRequest<'_>, name: &str) -> Result<String, Unproven> {
    if name == "method" {
        return Ok(request.method.to_owned());
    }
    let url = request.url.ok_or(Unproven::NoUrl)?;
    let url = url.split_once('#').map_or(url, |(url, _)| url);
    let (scheme, rest) = url.split_once("://").ok_or(Unproven::NoUrl)?;
    let (scheme, rest) = (scheme.to_ascii_lowercase(), rest.split('?').next().unwrap_or_default());
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let authority = authority.to_ascii_lowercase();
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
    // The path and query that were called: the request's own, or the configured ones where a proxy rewrites paths.
    let query = request.query.or(url.split_once('?').map(|(_, query)| query));
    let behind = query.map(|query| format!("?{query}")).unwrap_or_default();
    Ok(match name {
        "scheme" => scheme,
        "authority" => authority.to_owned(),
        "path" => path.to_owned(),
        "query" => format!("?{}", query.unwrap_or_default()),
        "request-target" => format!("{path}{behind}"),
        "target-uri" => format!("{scheme}://{authority}{path}{behind}"),
        _ => return Err(malformed(INPUT, "it covers a derived component that is not known here")),
    })
}

/// All values of a header, each without the white space around it, as one (RFC 9421, section 2.1).
fn field(request: &RawRequest<'_>, name: &str) -> Result<Vec<u8>, Unproven> {
    let mut all: Option<Vec<u8>> = None;
    for value in request.header_values(name) {
        match &mut all {
            None => all = Some(value.trim_ascii().to_vec()),
            Some(all) => {
                all.extend_from_slice(b", ");
                all.extend_from_slice(value.trim_ascii());
            }
        }
    }
    all.ok_or_else(|| Unproven::MissingHeader { name: name.to_owned() })
}

fn joined(request: &RawRequest<'_>, name: &str) -> Result<String, Unproven> {
    String::from_utf8(field(request, name)?).map_err(|_| malformed(name, "it is not ASCII"))
}

/// Compares `Content-Digest` with the body as it came. Every digest of a known algorithm must be right, and there must be one.
fn check_digest(request: &RawRequest<'_>) -> Result<(), Unproven> {
    let text = joined(request, DIGEST)?;
    let members = members(&text).ok_or_else(|| malformed(DIGEST, "it is not a dictionary of digests"))?;
    let mut known = 0;
    for (algorithm, value) in members {
        let actual = match algorithm {
            "sha-256" => Sha256::digest(request.body).to_vec(),
            "sha-512" => Sha512::digest(request.body).to_vec(),
            _ => continue,
        };
        known += 1;
        let said = bytes(value).ok_or_else(|| malformed(DIGEST, "a digest stands between colons, in base64"))?;
        if !bool::from(said.as_slice().ct_eq(actual.as_slice())) {
            return Err(Unproven::WrongDigest { part: DIGEST.into() });
        }
    }
    if known == 0 {
        return Err(malformed(DIGEST, "it has neither sha-256 nor sha-512"));
    }
    Ok(())
}

/// The header that a sender adds for a body.
pub(crate) fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(body)))
}

/// The members of a structured-field dictionary (RFC 8941, section 3.2), each value as its text. `None` when it is none, or a name comes
/// twice: then two readers could take different ones.
fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let is_key = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*');
        if name.is_empty() || !name.bytes().all(is_key) || members.iter().any(|(known, _)| *known == name) {
            return None;
        }
        let end = comma(after);
        members.push((name, after[..end].trim()));
        rest = match after.get(end + 1..) {
            // A comma at the very end is a broken list.
            Some(more) if more.trim().is_empty() => return None,
            Some(more) => more.trim_start(),
            None => "",
        };
    }
    if members.is_empty() { None } else { Some(members) }
}

/// Where the first comma stands that is outside of quoted text; the end when there is none.
fn comma(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let ends = |b: u8| {
        if quoted {
            quoted = escaped || b != b'"';
            escaped = !escaped && b == b'\\';
            return false;
        }
        quoted = b == b'"';
        b == b','
    };
    text.bytes().position(ends).unwrap_or(text.len())
}

/// A byte sequence: `:base64:`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64
        .decode(text.strip_prefix(':')?.strip_suffix(':')?.as_bytes())
        .ok()
}

/// Reads `("@method" "content-digest");created=1;keyid="k"`.
fn input(text: &str) -> Option<Input<'_>> {
    let (list, mut rest) = text.strip_prefix('(')?.split_once(')')?;
    let mut components: Vec<&str> = Vec::new();
    for name in list.split(' ').filter(|name| !name.is_empty()) {
        // A component with parameters (`;sf`, `;key`, `;req`) does not end in a quote, and is refused.
        let name = name.strip_prefix('"')?.strip_suffix('"')?;
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'@');
        if name.is_empty() || !name.bytes().all(is_name) || components.contains(&name) {
            return None;
        }
        components.push(name);
    }
    let mut input = Input {
        text,
        components,
        created: None,
        expires: None,
        key_id: None,
        algorithm: None,
    };
    let mut seen: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix(';')?.split_once('=')?;
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        let (value, more) = match after.strip_prefix('"') {
            // Ids and algorithms have no escapes; a value with one is refused below by its quote.
            Some(quoted) => {
                let (value, more) = quoted.split_once('"')?;
                if value.contains('\\') {
                    return None;
                }
                (value, more)
            }
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        let seconds = || value.parse::<i64>().ok();
        match name {
            "created" => input.created = Some(seconds()?),
            "expires" => input.expires = Some(seconds()?),
            "keyid" => input.key_id = Some(value),
            "alg" => input.algorithm = Some(value),
            "nonce" | "tag" => {}
            _ => return None,
        }
        rest = more;
    }
    Some(input)
}
