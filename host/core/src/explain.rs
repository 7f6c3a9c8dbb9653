//! Explanations: why a request was not proved, for the tenant who owns the source. Never for its sender.
//!
//! Copies of the request that proxies, frameworks and people make are tried to find out what happened to it. Nothing that is found
//! so is ever a reason to accept: there is no way from here to a [`crate::verify::Verified`].

use crate::profile::Profile;
use crate::request::RawRequest;
use crate::verify::{Keyring, Strictness, Unproven, attempt, minify};

/// Why a request was not proved, and what may be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Which part of the request differs from what it should be.
    pub differs: Differs,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// What was found by trying, one sentence for each finding.
    pub hints: Vec<String>,
}

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differs {
    /// A header or field that must be there is not, or not in its form.
    Form,
    /// The signature is right, but not for the time at which the request came.
    Time,
    /// The signature is right, but of a key that was not, or is not yet, valid.
    Key,
    /// The signature is right for a body that was changed in a known way.
    Body,
    /// The signature is right for another URL.
    Url,
    /// The signature is right, but the request is for somebody else.
    Recipient,
    /// The signature is of another secret, or of bytes that nobody can guess any more.
    Signature,
}

impl Differs {
    /// The name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Time => "time",
            Self::Key => "key",
            Self::Body => "body",
            Self::Url => "url",
            Self::Recipient => "recipient",
            Self::Signature => "signature",
        }
    }
}

/// Explains a failed verification. It computes more than an edge should.
pub fn explain(profile: &Profile, keyring: &Keyring, request: &RawRequest<'_>, unproven: &Unproven) -> Explanation {
    let (mut differs, mut hints) = tried(profile, keyring, request);
    if differs.is_none() {
        differs = Some(match unproven {
            Unproven::TimestampOutsideTolerance { .. } | Unproven::Expired { .. } => Differs::Time,
            Unproven::NoActiveSecret | Unproven::NeedsKey(_) | Unproven::UnknownKey { .. } => Differs::Key,
            Unproven::WrongDigest { .. } => Differs::Body,
            Unproven::Foreign { .. } => Differs::Recipient,
            Unproven::NoMatch { .. } | Unproven::WrongCredential { .. } => Differs::Signature,
            _ => Differs::Form,
        });
        if let Unproven::NoMatch { .. } = unproven {
            hints.push(
                "no usual change of the body explains it: the signature is of another secret (another endpoint's, another mode's, or an old one), or the body was altered before it came here".into(),
            );
        }
    }
    Explanation {
        differs: differs.unwrap_or(Differs::Signature),
        summary: unproven.to_string(),
        hints,
    }
}

fn tried(profile: &Profile, keyring: &Keyring, request: &RawRequest<'_>) -> (Option<Differs>, Vec<String>) {
    let try_with = |request: &RawRequest<'_>| attempt(profile, keyring, request, Strictness::NONE).ok();
    if let Some(found) = try_with(request) {
        let in_time = Strictness {
            windows: false,
            ..Strictness::FULL
        };
        if attempt(profile, keyring, request, in_time).is_ok() {
            let hint = format!(
                "the signature matches secret `{}`, which was not valid at {}",
                found.key_id, request.received_at
            );
            return (Some(Differs::Key), vec![hint]);
        }
        let distance = found.signed_at.map(|at| request.received_at.since(at).div_euclid(1000));
        let distance = match distance {
            Some(seconds) if seconds < 0 => format!("it was signed {} s in the future", seconds.unsigned_abs()),
            Some(seconds) => format!("it was signed {seconds} s before it came in"),
            None => "it is out of its time".into(),
        };
        let hint = format!(
            "the signature itself is right (secret `{}`), but {distance}, and at most {} s are allowed: compare the clocks, or give the time of receipt when checking a recorded request",
            found.key_id,
            profile.tolerance_s().unwrap_or_default()
        );
        return (Some(Differs::Time), vec![hint]);
    }
    let mut differs = None;
    let mut hints = Vec::new();
    for (body, finding) in body_variants(request.body) {
        let copy = RawRequest {
            body: &body,
            ..*request
        };
        if try_with(&copy).is_some() {
            differs = Some(Differs::Body);
            hints.push(finding.to_owned());
        }
    }
    for (url, query, finding) in url_variants(request) {
        let copy = RawRequest {
            url: Some(&url),
            path: None,
            query: query.as_deref(),
            ..*request
        };
        if profile.signs_url() && try_with(&copy).is_some() {
            differs = Some(Differs::Url);
            let called = query.map(|query| format!("{url}?{query}")).unwrap_or(url);
            hints.push(format!("the signature matches for the URL {called}: {finding}"));
        }
    }
    (differs, hints)
}

/// The URLs that people and proxies make of the one that was called: each with its query, and what is said when it fits.
fn url_variants(request: &RawRequest<'_>) -> Vec<(String, Option<String>, &'static str)> {
    const CONFIGURE: &str = "configure the URL exactly as the provider has it";
    let Some(whole) = request.url else { return Vec::new() };
    let whole = whole.split('#').next().unwrap_or_default();
    let (url, own_query) = match whole.split_once('?') {
        Some((url, query)) => (url, Some(query)),
        None => (whole, None),
    };
    let query = request.query.or(own_query).map(str::to_owned);
    let mut variants = vec![(format!("{url}/"), query.clone(), CONFIGURE)];
    variants.extend(
        url.strip_suffix('/')
            .map(|url| (url.to_owned(), query.clone(), CONFIGURE)),
    );
    let scheme = "the provider calls it by the other of http and https";
    variants.extend(
        url.strip_prefix("https://")
            .map(|rest| (format!("http://{rest}"), query.clone(), scheme)),
    );
    variants.extend(
        url.strip_prefix("http://")
            .map(|rest| (format!("https://{rest}"), query.clone(), scheme)),
    );
    if query.is_some() {
        let finding = "without its query; something added one, or the query is not part of what the provider calls";
        variants.push((url.to_owned(), None, finding));
    }
    if let (Some(own), Some(sent)) = (own_query, request.query)
        && own != sent
    {
        let finding = "with the query of the configured URL; the request came with another one";
        variants.push((url.to_owned(), Some(own.to_owned()), finding));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if let Some((_, host)) = authority.rsplit_once('@') {
        let finding = "without user and password, which the provider does not sign";
        variants.push((format!("{scheme}://{host}{path}"), query.clone(), finding));
    }
    for port in ["8080", "8443", "3000"] {
        // A port that the scheme does not imply is part of what is signed; where it is missing only common ones can be guessed.
        if !authority.contains(':') {
            let finding = "with a port; write it into the URL";
            variants.push((format!("{scheme}://{authority}:{port}{path}"), query.clone(), finding));
        }
    }
    variants
}

/// The bodies that proxies, frameworks and copy and paste make of the one that was sent.
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
    for ending in [&b"\n"[..], b"\r\n"] {
        variants.push((
            [body, ending].concat(),
            "the signature matches with a line break at the body's end: something removed it",
        ));
    }
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
    if let Some(minified) = minify(body).filter(|minified| minified != trimmed) {
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
