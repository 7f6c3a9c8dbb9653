//! Checks what a profile file says, and makes of it a profile that can be applied to any request, or an error at the line that is wrong.

use std::ops::Range;

use toml::Spanned;

use super::raw::{
    Alternatives, RawAck, RawAmounts, RawBatch, RawBind, RawChallenge, RawEvent, RawFetch, RawFetchKind, RawFreeParts,
    RawGrammar, RawHandshake, RawHandshakeKind, RawHttpSignatures, RawJws, RawListed, RawMode, RawProfile, RawScheme,
    RawSignature, RawSum, RawTime,
};
use super::{
    Algorithm, AmountChange, AmountSum, Amounts, BatchRule, Bind, BindPlace, BindValue, BodyFormat, ChallengeRule,
    CredentialKind, CredentialRule, Decoding, EmptyBatch, Encoding, EventRule, FetchKind, FetchRule, FieldSource, Free,
    Grammar, Handshake, HeaderForm, HeaderName, HttpSignaturesRule, IdentityRule, JwkPlace, JwsRule, KeyRule, ModeRule,
    Parameter, Part, Piece, Profile, ProfileError, Rule, Scheme, Shape, SignatureRule, Signed, Step, TimeFormat,
    TimeRule, TypeRule,
};
use crate::answer::Ack;
use crate::envelope::READING_NOTES;
use crate::ids::{FamilyName, Status};
use crate::json::Pointers;
use crate::limits::{ATTRIBUTES_MAX, SIGNATURE_ENTRIES_MAX, SOURCE_BODY_BYTES_MOST};
use crate::mode::{Accept, HOST_TEST, MODE};
use crate::money::{Currency, EXPONENT_MAX};
use crate::own_header;
use crate::route::TypePattern;

/// Reads and checks a profile file.
pub(super) fn profile(text: &str) -> Result<Profile, ProfileError> {
    let raw: RawProfile =
        toml::from_str(text).map_err(|error| problem(text, error.span(), error.message().trim().to_owned()))?;
    let mut parameters: Vec<Parameter> = Vec::new();
    let check = Check {
        text,
        sets: Vec::new(),
        parameters: Vec::new(),
    };
    for parameter in &raw.parameter {
        let name = &parameter.get_ref().name;
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(check.problem(
                parameter,
                format!("`{name}` is not a parameter's name: use a-z, 0-9 and `_`"),
            ));
        }
        if parameters.iter().any(|known| known.name == *name) {
            return Err(check.problem(parameter, format!("the parameter `{name}` is declared twice")));
        }
        parameters.push(parameter.get_ref().clone());
    }
    Check { parameters, ..check }.profile(raw)
}

fn problem(text: &str, span: Option<Range<usize>>, problem: String) -> ProfileError {
    let before = span.and_then(|span| text.get(..span.start));
    ProfileError {
        line: before.map(|before| before.matches('\n').count() + 1),
        column: before.map(|before| before.rsplit('\n').next().unwrap_or_default().chars().count() + 1),
        problem,
    }
}

/// Turns a raw profile into a checked one.
struct Check<'t> {
    text: &'t str,
    /// The alternative prefixes of header names.
    sets: Vec<String>,
    parameters: Vec<Parameter>,
}

/// The texts that an event's places point into.
struct Places {
    event: Pointers,
    around: Pointers,
}

impl Check<'_> {
    fn problem<T>(&self, at: &Spanned<T>, problem_text: impl Into<String>) -> ProfileError {
        problem(self.text, Some(at.span()), problem_text.into())
    }

    fn profile(mut self, raw: RawProfile) -> Result<Profile, ProfileError> {
        let families = [
            raw.signature.is_some(),
            raw.jws.is_some(),
            raw.http_signatures.is_some(),
            raw.credential.is_some(),
            raw.fetch_back.is_some(),
        ];
        if families.iter().filter(|there| **there).count() != 1 {
            return Err(self.problem(
                &raw.name,
                "say once how requests are proved: one of `[signature]`, `[jws]`, `[http-signatures]`, `[credential]` and `[fetch-back]`",
            ));
        }
        let (mut rule, schemes) = self.rule(&raw)?;
        let time = self.time(raw.time.as_ref(), &rule, &raw)?;
        if let (Rule::Template(rule), Some(signature)) = (&mut rule, &raw.signature) {
            rule.free = self.joins(signature, &mut rule.signed, time.as_ref(), &raw.event)?;
        }
        let body_signed = self.body_signed(&raw, &rule)?;
        let fetch = raw.fetch.as_ref().map(|fetch| self.fetch(fetch, &rule)).transpose()?;
        let mut bind_fields = Pointers::new();
        let binds = raw
            .bind
            .iter()
            .map(|bind| self.bind(bind, body_signed, &mut bind_fields))
            .collect::<Result<Vec<_>, _>>()?;
        let batch = raw
            .batch
            .as_ref()
            .map(|batch| self.batch(batch, &rule, body_signed))
            .transpose()?;
        let mut event = self.event(&raw, batch.is_some())?;
        let signed = self.signed(&raw.event, &rule, &event, body_signed)?;
        event.identity = self.identity(&raw, &rule, time.as_ref(), signed)?;
        let challenge = raw.challenge.as_ref().map(|raw| self.challenge(raw)).transpose()?;
        let handshake = raw.handshake.as_ref().map(|raw| self.handshake(raw)).transpose()?;
        let body_bytes_max = match raw.limits.as_ref().map(|limits| &limits.body_bytes_max) {
            Some(bytes) if !(1024..=SOURCE_BODY_BYTES_MOST).contains(bytes.get_ref()) => {
                return Err(self.problem(
                    bytes,
                    format!("the largest body is 1024 to {SOURCE_BODY_BYTES_MOST} bytes"),
                ));
            }
            bytes => bytes.map(|bytes| *bytes.get_ref()),
        };
        let ack = raw
            .ack
            .as_ref()
            .map(|ack| self.ack(ack))
            .transpose()?
            .unwrap_or_default();
        Ok(Profile {
            name: raw.name.into_inner(),
            version: raw.version,
            title: raw.title,
            rule,
            schemes,
            time,
            fetch,
            binds,
            bind_fields,
            event,
            batch,
            challenge,
            handshake,
            parameters: self.parameters,
            ack,
            accept: Accept::default(),
            body_bytes_max,
            about: raw.about,
            vectors: raw.vector,
            signed,
        })
    }

    fn rule(&mut self, raw: &RawProfile) -> Result<(Rule, Vec<Scheme>), ProfileError> {
        if let Some(signature) = &raw.signature {
            let per_item = raw.batch.as_ref().is_some_and(|batch| batch.signed_items);
            let (rule, schemes) = self.signature(signature, per_item)?;
            return Ok((Rule::Template(rule), schemes));
        }
        if let Some(jws) = &raw.jws {
            return self.jws(jws, raw.time.as_ref());
        }
        if let Some(rule) = &raw.http_signatures {
            return self.http_signatures(rule);
        }
        if let Some(credential) = &raw.credential {
            let rule = CredentialRule {
                header: self.header(&credential.header, credential.header.get_ref())?,
                kind: credential.kind,
            };
            return Ok((Rule::Credential(rule), vec![credential_scheme(credential.kind)]));
        }
        Ok((Rule::FetchBack, Vec::new()))
    }

    fn signature(&mut self, raw: &RawSignature, per_item: bool) -> Result<(SignatureRule, Vec<Scheme>), ProfileError> {
        for prefix in &raw.header_prefixes {
            self.lower_case(prefix, prefix.get_ref())?;
            self.sets.push(prefix.get_ref().clone());
        }
        let mut fields = Pointers::new();
        let (headers, field) = match (&raw.headers, &raw.field) {
            (Some(names), None) if !names.get_ref().is_empty() => {
                let headers = names.get_ref().iter().map(|name| self.header(names, name));
                (headers.collect::<Result<Vec<_>, _>>()?, None)
            }
            (None, Some(field)) => {
                let slot = fields
                    .add(field.get_ref())
                    .map_err(|wrong| self.problem(field, wrong))?;
                (Vec::new(), Some((slot, field.get_ref().clone())))
            }
            (Some(names), None) => {
                return Err(self.problem(names, "name at least one header that carries the signature"));
            }
            (Some(_), Some(field)) => {
                return Err(self.problem(
                    field,
                    "the signature is in `headers` or in a `field` of the body, not in both: absence of one must never select the other",
                ));
            }
            (None, None) => {
                return Err(self.problem(
                    &raw.signed,
                    "say where the signature is: `headers = [\"x-signature\"]`, or `field = \"/signature\"` of the body",
                ));
            }
        };
        if per_item && field.is_none() {
            return Err(self.problem(
                &raw.signed,
                "signed items of a batch carry their signature in a `field`",
            ));
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
        if matches!(grammar, Grammar::Params { .. }) && (headers.len() != 1 || raw.repeated) {
            return Err(self.problem(&raw.grammar, "the grammar `params` takes one header that comes once"));
        }
        if field.is_some() && grammar != Grammar::Plain {
            return Err(self.problem(&raw.grammar, "a signature in the body has the grammar `plain`"));
        }
        let key_id = raw
            .key_id
            .as_ref()
            .map(|name| self.header(name, name.get_ref()))
            .transpose()?;
        let mut signed = self.template(raw, grammar, &mut fields)?;
        for name in &raw.uuid {
            let wanted = self.first_name(name.get_ref());
            let part = signed.iter_mut().find(|part| part.describe() == wanted);
            match part.and_then(Part::shape_mut) {
                Some(shape) => shape.uuid = true,
                None => return Err(self.no_such_part(name)),
            }
        }
        if raw.minified && !signed.contains(&Part::Body) {
            return Err(self.problem(&raw.signed, "`minified` concerns `{body}`, which is not signed here"));
        }
        let schemes = self.schemes(&raw.scheme, true)?;
        if grammar == Grammar::Plain && schemes.len() > 1 {
            return Err(self.problem(&raw.scheme, "the grammar `plain` has no labels, so it takes one scheme"));
        }
        let rule = SignatureRule {
            headers,
            header_sets: self.sets.len().max(1),
            repeated: raw.repeated,
            grammar,
            prefix: raw.prefix.clone().unwrap_or_default(),
            prefix_optional: raw.prefix_optional,
            key_id,
            signed,
            field,
            per_item,
            minified: raw.minified,
            free: Vec::new(),
            fields,
        };
        Ok((rule, schemes))
    }

    fn no_such_part(&self, name: &Spanned<String>) -> ProfileError {
        self.problem(
            name,
            format!(
                "`{}` is not a signed part; write it as in `signed`, without braces",
                name.get_ref()
            ),
        )
    }

    fn jws(&self, raw: &RawJws, time: Option<&RawTime>) -> Result<(Rule, Vec<Scheme>), ProfileError> {
        let schemes = self.schemes(&raw.scheme, false)?;
        for scheme in &schemes {
            // RFC 7518, section 3.1; `none` and the HMACs, which a public key could be taken for, are not among them.
            let expected = match scheme.name.as_str() {
                "ES256" => Some(Algorithm::EcdsaP256Sha256Raw),
                "RS256" => Some(Algorithm::RsaPkcs1Sha256),
                "EdDSA" => Some(Algorithm::Ed25519),
                _ => None,
            };
            if expected != Some(scheme.algorithm) || scheme.key.decode != Decoding::Jwk {
                return Err(self.problem(
                    &raw.scheme,
                    "a scheme of a JWS is named by its `alg` (ES256 with ecdsa-p256-sha256-raw, RS256 with rsa-pkcs1-sha256, EdDSA with ed25519), and its key is a `jwk`",
                ));
            }
        }
        let Some(claim) = time.and_then(|time| time.from.get_ref().strip_prefix("claim:")) else {
            return Err(self.problem(
                &raw.header,
                "a JWS needs `[time]` with `from = \"claim:iat\"`: without an instant it could be sent again for ever",
            ));
        };
        let rule = JwsRule {
            header: self.header(&raw.header, raw.header.get_ref())?,
            body_claim: raw.body_claim.clone(),
            time_claim: claim.to_owned(),
        };
        Ok((Rule::Jws(rule), schemes))
    }

    fn http_signatures(&self, raw: &RawHttpSignatures) -> Result<(Rule, Vec<Scheme>), ProfileError> {
        let schemes = self.schemes(&raw.scheme, false)?;
        for scheme in &schemes {
            // The registry of RFC 9421, section 6.2.2.
            let expected = match scheme.name.as_str() {
                "hmac-sha256" => Some(Algorithm::HmacSha256),
                "ed25519" => Some(Algorithm::Ed25519),
                "ecdsa-p256-sha256" => Some(Algorithm::EcdsaP256Sha256Raw),
                "rsa-v1_5-sha256" => Some(Algorithm::RsaPkcs1Sha256),
                _ => None,
            };
            if expected != Some(scheme.algorithm) {
                return Err(self.problem(
                    &raw.scheme,
                    format!("`{}` with this algorithm is not in RFC 9421's registry: hmac-sha256, ed25519, ecdsa-p256-sha256 (raw) and rsa-v1_5-sha256 are known here", scheme.name),
                ));
            }
        }
        let components: Vec<Vec<String>> = raw
            .components
            .get_ref()
            .iter()
            .map(|component| component.0.clone())
            .collect();
        if components.iter().any(Vec::is_empty) || components.is_empty() {
            return Err(self.problem(
                &raw.components,
                "name the components that must be covered: a signature that covers nothing is valid and proves nothing",
            ));
        }
        for name in components.iter().flatten() {
            self.lower_case(&raw.components, name.strip_prefix('@').unwrap_or(name))?;
        }
        let rule = HttpSignaturesRule {
            components,
            label: raw.label.clone(),
        };
        Ok((Rule::HttpSignatures(rule), schemes))
    }

    fn schemes(&self, raw: &Spanned<Vec<RawScheme>>, encoded: bool) -> Result<Vec<Scheme>, ProfileError> {
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
            if scheme.algorithm == Algorithm::Credential {
                return Err(self.problem(&scheme.name, "a shared text without a signature is a `[credential]`"));
            }
            if encoded != scheme.encoding.is_some() {
                let text = if encoded {
                    "say how signatures are written: `encoding = \"hex\"` or `\"base64\"`"
                } else {
                    "`encoding` belongs to `[signature]`; here the format decides"
                };
                return Err(self.problem(&scheme.name, text));
            }
            let key = scheme.key.get_ref();
            let is_structured = matches!(key.decode, Decoding::PublicKey | Decoding::Jwk);
            if scheme.algorithm.is_public() && !is_structured {
                if scheme.algorithm != Algorithm::Ed25519 {
                    return Err(self.problem(
                        &scheme.key,
                        "a key of this algorithm is a `public-key` (PEM, certificate or base64 SPKI) or a `jwk`",
                    ));
                }
                if key.private_prefix.is_none() {
                    return Err(self.problem(
                        &scheme.key,
                        "`private_prefix` belongs to ed25519 keys, and they need one",
                    ));
                }
                if key.prefix.is_empty() || key.prefix_optional {
                    return Err(self.problem(
                        &scheme.key,
                        "an ed25519 public key needs a `prefix`, so that it is not taken for a shared secret",
                    ));
                }
            } else if key.private_prefix.is_some() {
                return Err(self.problem(
                    &scheme.key,
                    "`private_prefix` belongs to ed25519 keys, and they need one",
                ));
            }
            if is_structured && (!scheme.algorithm.is_public() || !key.prefix.is_empty()) {
                return Err(self.problem(
                    &scheme.key,
                    "a `public-key` or `jwk` has no prefix and belongs to an algorithm with public keys",
                ));
            }
            schemes.push(Scheme {
                name: name.clone(),
                algorithm: scheme.algorithm,
                encoding: scheme.encoding.unwrap_or(Encoding::Base64),
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
        signature: &RawSignature,
        grammar: Grammar,
        fields: &mut Pointers,
    ) -> Result<Vec<Part>, ProfileError> {
        let raw = &signature.signed;
        let mut parts = Vec::new();
        for piece in self.braces(raw, raw.get_ref())? {
            let name = match piece {
                Braced::Text(text) => {
                    parts.push(Part::Literal(text.to_owned()));
                    continue;
                }
                Braced::Name(name) => name,
            };
            let shape = Shape::default();
            parts.push(match name.split_once(':') {
                None if name == "body" => Part::Body,
                None if name == "body-sha256-hex" => Part::BodySha256Hex,
                None if name == "body-sha256-base64" => Part::BodySha256Base64,
                None if name == "body-crc32" => Part::BodyCrc32,
                None if name == "form-sorted" => Part::FormSorted { digest: None },
                None if name == "url" => Part::Url,
                Some(("form-sorted", field)) => Part::FormSorted { digest: Some(field.to_owned()) },
                Some(("header", header)) => Part::Header { name: self.header(raw, header)?, shape },
                Some(("param" | "listed", _)) if !matches!(grammar, Grammar::Params { .. }) => {
                    return Err(self.problem(raw, format!("`{{{name}}}` needs the grammar `params`")));
                }
                Some(("param", param)) => Part::Param { name: param.to_owned(), shape },
                Some(("listed", param)) => self.listed(raw, param, signature.listed.as_ref())?,
                Some((kind @ ("json" | "json?"), pointer)) => {
                    let slot = fields.add(pointer).map_err(|wrong| self.problem(raw, wrong))?;
                    let optional = kind == "json?";
                    Part::Json { slot, name: pointer.to_owned(), shape, optional }
                }
                Some(("config", parameter)) => Part::Config {
                    at: self.parameter(raw, parameter)?,
                    name: parameter.to_owned(),
                },
                _ => {
                    return Err(self.problem(
                        raw,
                        format!("`{{{name}}}` is no part; there are body, body-sha256-hex, body-sha256-base64, body-crc32, form-sorted, url, header:NAME, param:NAME, listed:NAME, json:/POINTER, json?:/POINTER and config:PARAMETER"),
                    ));
                }
            });
        }
        let names_digest = parts
            .iter()
            .any(|part| matches!(part, Part::FormSorted { digest: Some(_) }));
        if names_digest && !parts.contains(&Part::Url) {
            return Err(self.problem(raw, "a digest in the query belongs to the URL: add `{url}` before it"));
        }
        Ok(parts)
    }

    /// The headers that a request may say it signs. One that the profile does not pin could be anybody's choice, so there is no such.
    fn listed(
        &self,
        signed: &Spanned<String>,
        param: &str,
        listed: Option<&Spanned<RawListed>>,
    ) -> Result<Part, ProfileError> {
        let Some(listed) = listed else {
            return Err(self.problem(
                signed,
                format!("`{{listed:{param}}}` needs `listed = {{ headers = [..] }}`: the headers that may be listed"),
            ));
        };
        let RawListed { headers, free } = listed.get_ref();
        if headers.is_empty() || headers.len() > SIGNATURE_ENTRIES_MAX {
            return Err(self.problem(
                listed,
                format!("name 1 to {SIGNATURE_ENTRIES_MAX} headers that may be listed"),
            ));
        }
        for name in headers {
            self.lower_case(listed, name)?;
        }
        if let Some(free) = free.as_ref().filter(|free| !headers.contains(free)) {
            return Err(self.problem(listed, format!("`{free}` is not among the headers that may be listed")));
        }
        Ok(Part::Listed {
            param: param.to_owned(),
            headers: headers.clone(),
            free: free.clone(),
        })
    }

    /// Splits a text at its braces.
    fn braces<'r, T>(&self, at: &Spanned<T>, text: &'r str) -> Result<Vec<Braced<'r>>, ProfileError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some(open) = rest.find('{') else {
                pieces.push(Braced::Text(rest));
                break;
            };
            if open > 0 {
                pieces.push(Braced::Text(&rest[..open]));
            }
            let Some(close) = rest[open..].find('}') else {
                return Err(self.problem(at, "a `{` has no `}` after it"));
            };
            pieces.push(Braced::Name(&rest[open + 1..open + close]));
            rest = &rest[open + close + 1..];
        }
        Ok(pieces)
    }

    fn parameter<T>(&self, at: &Spanned<T>, name: &str) -> Result<usize, ProfileError> {
        let position = self.parameters.iter().position(|parameter| parameter.name == name);
        position.ok_or_else(|| {
            self.problem(
                at,
                format!("there is no parameter `{name}`: declare it with `[[parameter]]`"),
            )
        })
    }

    fn time(&self, raw: Option<&RawTime>, rule: &Rule, whole: &RawProfile) -> Result<Option<TimeRule>, ProfileError> {
        let Some(raw) = raw else {
            if matches!(rule, Rule::HttpSignatures(_)) {
                return Err(self.problem(
                    &whole.name,
                    "message signatures need `[time]` with `from = \"param:created\"`: without an instant one could be sent again for ever",
                ));
            }
            return Ok(None);
        };
        let wanted = raw.from.get_ref();
        let part = match rule {
            Rule::Template(rule) => rule.signed.iter().position(|part| {
                matches!(part, Part::Header { .. } | Part::Param { .. } | Part::Json { .. })
                    && part.describe() == self.first_name(wanted)
            }),
            Rule::Jws(_) if wanted.starts_with("claim:") && raw.format == TimeFormat::UnixSeconds => Some(0),
            Rule::HttpSignatures(_) if wanted == "param:created" && raw.format == TimeFormat::UnixSeconds => Some(0),
            Rule::Jws(_) | Rule::HttpSignatures(_) | Rule::Credential(_) | Rule::FetchBack => None,
        };
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
        Ok(Some(TimeRule {
            part,
            format: raw.format,
            tolerance_s,
        }))
    }

    /// Makes sure that the joined bytes can be split in one way only: a part never contains a literal that stands beside it,
    /// and two parts without a literal between need one whose length is fixed. One part may be free of this where its provider
    /// needs it to be ([`Free`]): what stands before it is then found from the start, and what stands after it from the end.
    ///
    /// Returns the parts that may be free.
    fn joins(
        &self,
        raw: &RawSignature,
        parts: &mut [Part],
        time: Option<&TimeRule>,
        event: &RawEvent,
    ) -> Result<Vec<Free>, ProfileError> {
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
                // `::` is in `a:` + `::` twice, so that the two would not say which of them separates.
                let overlaps =
                    |text: &str| (1..text.len()).any(|n| text.is_char_boundary(n) && text.ends_with(&text[..n]));
                if let Some(text) = forbidden.iter().find(|text| overlaps(text)) {
                    return Err(self.problem(
                        &raw.signed,
                        format!("{text:?} ends as it begins, so it separates nothing for certain"),
                    ));
                }
                shape.forbidden = forbidden;
            }
        }
        let free = match &raw.free {
            Some(free) => self.free(free, parts)?,
            None => Vec::new(),
        };
        let is_json = event.body == BodyFormat::Json && event.form_field.is_none();
        for (at, part) in parts.iter().enumerate() {
            let Part::Listed {
                param, free: Some(_), ..
            } = part
            else {
                continue;
            };
            let names =
                matches!(at.checked_sub(2).map(|at| &parts[at]), Some(Part::Param { name, .. }) if name == param);
            if !names || !matches!(parts.get(at + 2), Some(Part::Body)) || at + 3 != parts.len() || !is_json {
                return Err(self.problem(
                    &raw.signed,
                    "listed headers of which one is `free` stand between the list itself and a JSON body, as in `{param:h}.{listed:h}.{body}`: otherwise the signed bytes could be split in two ways",
                ));
            }
        }
        // Within its tolerance an instant has one length; digests are not the sender's choice.
        let fixed = |at: usize| match &parts[at] {
            Part::Header { shape, .. } | Part::Param { shape, .. } | Part::Json { shape, .. } => {
                shape.uuid || time.is_some_and(|time| time.part == at)
            }
            Part::Literal(_) | Part::BodySha256Hex | Part::BodySha256Base64 | Part::BodyCrc32 | Part::Config { .. } => {
                true
            }
            Part::Body | Part::FormSorted { .. } | Part::Url | Part::Listed { .. } => false,
        };
        // The URL's query is the sender's choice. No JSON document is the end of another one, so none of a document can be taken for the
        // query. A form could: there the provider's scheme is what it is, as it joins the fields themselves without anything between.
        let ends_url = |at: usize| match (&parts[at - 1], &parts[at]) {
            (Part::Url, Part::Body) => is_json,
            (Part::Url, Part::FormSorted { .. }) => true,
            _ => false,
        };
        match (1..parts.len()).find(|&at| !fixed(at - 1) && !fixed(at) && !ends_url(at)) {
            None => Ok(free),
            Some(at) => Err(self.problem(
                &raw.signed,
                format!(
                    "`{}` and `{}` stand side by side, so bytes could move from one to the other; put a literal between, or name one of them under `uuid` if it always is one",
                    parts[at - 1].describe(),
                    parts[at].describe()
                ),
            )),
        }
    }

    /// Reads which parts may be free, and makes sure that the joined bytes say which one is.
    fn free(&self, raw: &Spanned<RawFreeParts>, parts: &mut [Part]) -> Result<Vec<Free>, ProfileError> {
        let has_body = parts
            .iter()
            .any(|part| matches!(part, Part::Body | Part::FormSorted { .. } | Part::Listed { .. }));
        if has_body {
            return Err(self.problem(raw, "one part may be free, and the body already is"));
        }
        let position = |name: &str, parts: &mut [Part]| {
            let wanted = self.first_name(name);
            let at = parts.iter().position(|part| part.describe() == wanted);
            let at = at.filter(|&at| parts[at].shape_mut().is_some());
            at.ok_or_else(|| {
                self.problem(
                    raw,
                    format!("`{name}` is not a signed part; write it as in `signed`, without braces"),
                )
            })
        };
        let mut free = Vec::new();
        for one in &raw.get_ref().0 {
            let part = position(&one.part, parts)?;
            let when = match (&one.when, one.is.is_empty()) {
                (Some(when), false) => Some((position(when, parts)?, one.is.clone())),
                (None, true) => None,
                (Some(_), true) | (None, false) => {
                    return Err(self.problem(raw, "`when` names a part and `is` lists its texts: one needs the other"));
                }
            };
            free.push(Free { part, when });
        }
        let all = || free.iter().map(|free| free.part);
        let (Some(first), Some(last)) = (all().min(), all().max()) else {
            return Err(self.problem(raw, "an empty list frees nothing: leave the key out"));
        };
        let always = free.iter().position(|free| free.when.is_none());
        if always.is_some_and(|at| at + 1 != free.len()) {
            return Err(self.problem(raw, "a part without `when` is always free, so it comes last"));
        }
        let within = |free: &Free| matches!(&free.when, Some((at, _)) if (first..=last).contains(at));
        if free.iter().any(within) {
            return Err(self.problem(
                raw,
                "`when` names a part that stands left or right of all parts that may be free: between them it could be moved itself",
            ));
        }
        Ok(free)
    }

    /// Whether the proof holds the whole body, and whether the profile knows it.
    fn body_signed(&self, raw: &RawProfile, rule: &Rule) -> Result<bool, ProfileError> {
        let (found, said, at) = match (rule, &raw.signature, &raw.http_signatures) {
            (Rule::Template(rule), Some(signature), _) => {
                let binds_body = |part: &Part| match part {
                    Part::Body | Part::BodySha256Hex | Part::BodySha256Base64 | Part::FormSorted { .. } => true,
                    // Anybody can change the rest and keep this checksum.
                    Part::BodyCrc32 => false,
                    Part::Literal(_)
                    | Part::Header { .. }
                    | Part::Param { .. }
                    | Part::Json { .. }
                    | Part::Url
                    | Part::Listed { .. }
                    | Part::Config { .. } => false,
                };
                (
                    rule.signed.iter().any(binds_body),
                    &signature.body_signed,
                    &signature.signed.span(),
                )
            }
            (Rule::HttpSignatures(rule), _, Some(http)) => (
                rule.components.iter().any(|one_of| one_of == &["content-digest"]),
                &http.body_signed,
                &http.components.span(),
            ),
            (Rule::Jws(_), ..) => return Ok(true),
            _ => return Ok(false),
        };
        match said {
            None if !found => Err(problem(
                self.text,
                Some(at.clone()),
                "the signed bytes do not contain the body: add `{body}` or a digest of it; if the provider really signs none of it, say so with `body_signed = false`".into(),
            )),
            Some(said) if *said.get_ref() != found => Err(self.problem(
                said,
                format!("`body_signed` is {}, but by the rules above it is {found}", said.get_ref()),
            )),
            _ => Ok(found),
        }
    }

    fn fetch(&self, raw: &Spanned<RawFetch>, rule: &Rule) -> Result<FetchRule, ProfileError> {
        let fetch = raw.get_ref();
        if fetch.hosts.get_ref().is_empty() || !fetch.path_prefix.get_ref().starts_with('/') {
            return Err(self.problem(
                &fetch.hosts,
                "a key is fetched from listed hosts only: name them, and a `path_prefix` that begins with `/`",
            ));
        }
        let is_host = |host: &String| {
            let (name, port) = host.split_once(':').unwrap_or((host, "443"));
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        if !fetch.hosts.get_ref().iter().all(is_host) {
            return Err(self.problem(&fetch.hosts, "a host is written in lower case, without scheme, and with a port only where it is not 443: `keys.example:8443`"));
        }
        let kind = match (fetch.kind, rule, &fetch.pointer) {
            (RawFetchKind::Certificate, Rule::Template(_), None) => {
                let Some(name) = fetch.url.get_ref().strip_prefix("header:") else {
                    return Err(self.problem(&fetch.url, "a certificate's URL comes from a header: `header:NAME`"));
                };
                if fetch.subjects.is_empty() {
                    return Err(self.problem(
                        raw,
                        "say in `subjects` which names the certificate may be for; any other certificate of the host would do otherwise",
                    ));
                }
                FetchKind::Certificate {
                    url: self.header(&fetch.url, name)?,
                    subjects: fetch.subjects.clone(),
                }
            }
            (RawFetchKind::Jwk, Rule::Jws(_), pointer) => {
                let fields = pointer.as_ref().map_or("", |pointer| pointer.get_ref());
                FetchKind::Jwk {
                    url: self.pieces(&fetch.url)?,
                    fields: JwkPlace(fields.split('/').skip(1).map(str::to_owned).collect()),
                }
            }
            _ => {
                return Err(self.problem(
                    raw,
                    "a `certificate` belongs to `[signature]`, a `jwk` with its `pointer` to `[jws]`",
                ));
            }
        };
        Ok(FetchRule {
            kind,
            hosts: fetch.hosts.get_ref().clone(),
            path_prefix: fetch.path_prefix.get_ref().clone(),
            body: fetch
                .body
                .as_ref()
                .map(|body| self.pieces(body))
                .transpose()?
                .unwrap_or_default(),
        })
    }

    /// Reads `https://{config:environment}.example/…`. A body is JSON and has braces of its own: only known names are places.
    fn pieces(&self, raw: &Spanned<String>) -> Result<Vec<Piece>, ProfileError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = raw.get_ref().as_str();
        while let Some(open) = rest.find('{') {
            let place = rest[open..].find('}').map(|close| &rest[open + 1..open + close]);
            let piece = match place {
                Some("key-id") => Some(Piece::KeyId),
                Some(name) => match name.strip_prefix("config:") {
                    Some(parameter) => Some(Piece::Config(self.parameter(raw, parameter)?)),
                    None => None,
                },
                None => None,
            };
            match (piece, place) {
                (Some(piece), Some(place)) => {
                    text.push_str(&rest[..open]);
                    pieces.push(Piece::Literal(std::mem::take(&mut text)));
                    pieces.push(piece);
                    rest = &rest[open + place.len() + 2..];
                }
                _ => {
                    text.push_str(&rest[..=open]);
                    rest = &rest[open + 1..];
                }
            }
        }
        text.push_str(rest);
        pieces.push(Piece::Literal(text));
        Ok(pieces)
    }

    fn bind(&self, raw: &RawBind, body_signed: bool, fields: &mut Pointers) -> Result<Bind, ProfileError> {
        let name = raw.place.get_ref();
        let place = if let Some(header) = name.strip_prefix("header:") {
            BindPlace::Header(self.header(&raw.place, header)?)
        } else if !body_signed {
            return Err(self.problem(&raw.place, "the body is not signed, so what it says binds nothing"));
        } else {
            BindPlace::Body(fields.add(name).map_err(|wrong| self.problem(&raw.place, wrong))?)
        };
        let equals = raw.equals.get_ref();
        let equals = if let Some(text) = equals.strip_prefix("literal:") {
            BindValue::Literal(text.to_owned())
        } else if let Some(parameter) = equals.strip_prefix("config:") {
            BindValue::Config(self.parameter(&raw.equals, parameter)?)
        } else {
            return Err(self.problem(&raw.equals, "write `literal:TEXT` or `config:PARAMETER`"));
        };
        Ok(Bind {
            place,
            name: name.clone(),
            equals,
        })
    }

    fn batch(&self, raw: &RawBatch, rule: &Rule, body_signed: bool) -> Result<BatchRule, ProfileError> {
        if raw.signed_items && !matches!(rule, Rule::Template(_)) {
            return Err(self.problem(&raw.items, "only `[signature]` knows signed items"));
        }
        let steps = self.steps(&raw.items)?;
        let is_proved = body_signed && !raw.signed_items;
        if raw.empty == Some(EmptyBatch::Acknowledge) && !is_proved {
            return Err(self.problem(
                &raw.items,
                "`empty = \"acknowledge\"` needs a signature over the whole body: an empty list proves nothing otherwise",
            ));
        }
        Ok(BatchRule {
            steps,
            optional: raw.optional,
            empty: match raw.empty {
                Some(empty) => empty,
                None if is_proved => EmptyBatch::Acknowledge,
                None => EmptyBatch::Refuse,
            },
        })
    }

    /// Reads the way to a list's items.
    fn steps(&self, raw: &Spanned<String>) -> Result<Vec<Step>, ProfileError> {
        let Some(path) = raw.get_ref().strip_prefix('/') else {
            return Err(self.problem(raw, "write the way to the items, such as `/items/*` or `/*`"));
        };
        let steps: Vec<Step> = path
            .split('/')
            .map(|step| match step {
                "*" => Step::Each,
                key => Step::Key(key.replace("~1", "/").replace("~0", "~")),
            })
            .collect();
        if steps.iter().filter(|step| **step == Step::Each).count() != 1 {
            return Err(self.problem(raw, "the way to the items has exactly one `*`, for their list"));
        }
        Ok(steps)
    }

    fn sum(&self, raw: &RawSum, body: BodyFormat) -> Result<AmountSum, ProfileError> {
        if body == BodyFormat::Form {
            return Err(self.problem(&raw.of, "a form has no list to add up"));
        }
        let mut pointers = Pointers::new();
        let mut slot = |at: &Spanned<String>| pointers.add(at.get_ref()).map_err(|wrong| self.problem(at, wrong));
        let (amount, currency) = (slot(&raw.amount)?, slot(&raw.currency)?);
        let mut only = Vec::new();
        for (pointer, values) in &raw.only {
            let slot = pointers.add(pointer).map_err(|wrong| self.problem(values, wrong))?;
            if values.get_ref().is_empty() {
                return Err(self.problem(values, "no value: then no entry would count"));
            }
            only.push((slot, values.get_ref().clone()));
        }
        Ok(AmountSum {
            list: BatchRule {
                steps: self.steps(&raw.of)?,
                optional: true,
                empty: EmptyBatch::Acknowledge,
            },
            pointers,
            amount,
            currency,
            only,
        })
    }

    fn challenge(&self, raw: &RawChallenge) -> Result<ChallengeRule, ProfileError> {
        let mut pointers = Pointers::new();
        let when = raw.when.get_ref();
        let when = match when.strip_prefix("header:") {
            Some(name) => FieldSource::Header {
                name: self.header(&raw.when, name)?,
                form: HeaderForm::Plain,
            },
            None => FieldSource::Body(pointers.add(when).map_err(|wrong| self.problem(&raw.when, wrong))?),
        };
        let answer = pointers
            .add(raw.answer.get_ref())
            .map_err(|wrong| self.problem(&raw.answer, wrong))?;
        Ok(ChallengeRule {
            pointers,
            when: (when, raw.equals.clone()),
            answer,
        })
    }

    fn handshake(&self, raw: &RawHandshake) -> Result<Handshake, ProfileError> {
        let parameter = self.parameter(&raw.parameter, raw.parameter.get_ref())?;
        Ok(match raw.kind {
            RawHandshakeKind::HubChallenge => Handshake::HubChallenge { token: parameter },
            RawHandshakeKind::WebHookOrigin => Handshake::WebHookOrigin { origin: parameter },
        })
    }

    fn ack(&self, raw: &Spanned<RawAck>) -> Result<Ack, ProfileError> {
        let ack = raw.get_ref();
        if ack.kept.is_some_and(|status| !(200..=204).contains(&status)) {
            return Err(self.problem(raw, "what is kept is answered with 200 to 204"));
        }
        if ack.conflict.is_some_and(|status| !(200..=499).contains(&status)) {
            return Err(self.problem(raw, "a conflict is answered with 200 to 499"));
        }
        if ack.malformed.is_some_and(|status| !(400..=499).contains(&status)) {
            return Err(self.problem(
                raw,
                "what is malformed is answered with 400 to 499: nothing was kept of it",
            ));
        }
        if ack.incomplete.is_some_and(|status| !(400..=599).contains(&status)) {
            return Err(self.problem(
                raw,
                "what lacks its id or type is answered with 400 to 599: nothing was kept of it",
            ));
        }
        for name in ack.headers.keys() {
            self.lower_case(raw, name)?;
        }
        if ack
            .headers
            .values()
            .any(|value| value.bytes().any(|b| !(b' '..=b'~').contains(&b)))
        {
            return Err(self.problem(raw, "a header's value is printable ASCII"));
        }
        Ok(Ack {
            kept: ack.kept,
            conflict: ack.conflict,
            malformed: ack.malformed,
            incomplete: ack.incomplete,
            body: ack.body.clone(),
            headers: ack.headers.clone().into_iter().collect(),
        })
    }

    fn event(&self, raw: &RawProfile, is_batch: bool) -> Result<EventRule, ProfileError> {
        let event = &raw.event;
        let mut places = Places {
            event: Pointers::new(),
            around: Pointers::new(),
        };
        let places = &mut places;
        let base = TypeRule {
            family: self.family(event.family.as_ref(), raw)?,
            subject: self.sources(event.subject.as_ref(), places)?,
            status: self.statuses(event.status.as_ref(), places)?,
            amount: self.sources(event.amount.as_ref(), places)?,
            amount_change: None,
            amount_sum: None,
            amount_unit: event.amount_unit.unwrap_or_default(),
            currency: self.currency(event.currency.as_ref(), places)?,
            attributes: self.attributes(&[], &event.attributes, places)?,
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
                    family: self.family(rule.family.as_ref(), raw)?.or_else(|| base.family.clone()),
                    subject: or(self.sources(rule.subject.as_ref(), places)?, &base.subject),
                    status: or(self.statuses(rule.status.as_ref(), places)?, &base.status),
                    amount: or(self.sources(rule.amount.as_ref(), places)?, &base.amount),
                    amount_change: match &rule.amount_change {
                        Some(change) => Some(AmountChange {
                            from: self.sources(Some(&change.from), places)?,
                            to: self.sources(Some(&change.to), places)?,
                        }),
                        None => None,
                    },
                    amount_sum: match &rule.amount_sum {
                        Some(sum) => Some(self.sum(sum, event.body)?),
                        None => None,
                    },
                    amount_unit: rule.amount_unit.unwrap_or(base.amount_unit),
                    currency: or(self.currency(rule.currency.as_ref(), places)?, &base.currency),
                    attributes: self.attributes(&base.attributes, &rule.attributes, places)?,
                },
            ));
        }
        let id = self.sources(Some(&event.id), places)?;
        if id.iter().any(|source| matches!(source, FieldSource::Literal(_))) {
            return Err(self.problem(
                &event.id,
                "an event id cannot be a literal: every event would be the same",
            ));
        }
        if let Some(field) = &event.form_field
            && (event.body != BodyFormat::Json || field.get_ref().is_empty())
        {
            return Err(self.problem(
                field,
                "`form_field` names the field of a form that holds the JSON; with `body = \"form\"` the fields themselves are the event",
            ));
        }
        let amounts = self.amounts(raw.amounts.as_ref())?;
        let mode = raw.mode.as_ref().map(|mode| self.mode(mode, places)).transpose()?;
        let rule = EventRule {
            body: event.body,
            form_field: event.form_field.as_ref().map(|field| field.get_ref().clone()),
            structured: event.structured.clone(),
            id,
            identity: IdentityRule::EventId,
            event_type: self.sources(event.event_type.as_ref(), places)?,
            occurred_at: self.sources(event.occurred_at.as_ref(), places)?,
            occurred_format: event.occurred_format.unwrap_or(TimeFormat::Rfc3339),
            pointers: places.event.clone(),
            around: places.around.clone(),
            by_type,
            otherwise: base,
            statuses: raw.statuses.clone(),
            amounts,
            kept_headers: Vec::new(),
            mode,
        };
        if !rule.around.is_empty() && !is_batch {
            return Err(self.problem(
                &event.id,
                "`around:` places stand around the items of a `[batch]`; there is none",
            ));
        }
        Ok(rule)
    }

    fn amounts(&self, raw: Option<&RawAmounts>) -> Result<Amounts, ProfileError> {
        let Some(raw) = raw else { return Ok(Amounts::default()) };
        if raw.source.get_ref().is_empty() {
            return Err(self.problem(&raw.source, "say where the provider publishes its minor units"));
        }
        let all = raw.exponent.iter().chain(raw.exponents.values());
        for exponent in all {
            if *exponent.get_ref() > EXPONENT_MAX {
                return Err(self.problem(
                    exponent,
                    format!("no currency has more than {EXPONENT_MAX} digits behind the point"),
                ));
            }
        }
        let exponents = raw.exponents.iter();
        Ok(Amounts {
            source: Some(raw.source.get_ref().clone()),
            exponent: raw.exponent.as_ref().map(|exponent| *exponent.get_ref()),
            exponents: exponents
                .map(|(currency, exponent)| (*currency, *exponent.get_ref()))
                .collect(),
        })
    }

    fn mode(&self, raw: &RawMode, places: &mut Places) -> Result<ModeRule, ProfileError> {
        if raw.test.get_ref().is_empty() {
            return Err(self.problem(&raw.test, "name the values that say test"));
        }
        Ok(ModeRule {
            from: self.sources(Some(&raw.from), places)?,
            test: raw.test.get_ref().clone(),
        })
    }

    /// What of the event the signature holds, and whether the profile knows that its id is not.
    fn signed(
        &self,
        raw: &RawEvent,
        rule: &Rule,
        event: &EventRule,
        body_signed: bool,
    ) -> Result<Signed, ProfileError> {
        let id = event
            .id
            .iter()
            .all(|source| is_signed(source, rule, event, body_signed));
        match (&raw.id_signed, id) {
            (None, false) => Err(self.problem(
                &raw.id,
                "the event id comes from a header or a body that is not signed; if the provider has no better one, say so with `id_signed = false`",
            )),
            (Some(said), found) if *said.get_ref() != found => Err(self.problem(
                said,
                format!("`id_signed` is {}, but by the rules above it is {found}", said.get_ref()),
            )),
            _ => Ok(Signed {
                id,
                body: body_signed,
            }),
        }
    }

    /// What tells events apart: the signed message where the file says so, and where the id is not signed and something is.
    fn identity(
        &self,
        raw: &RawProfile,
        rule: &Rule,
        time: Option<&TimeRule>,
        signed: Signed,
    ) -> Result<IdentityRule, ProfileError> {
        let has_one_message_each = match rule {
            Rule::Template(rule) => time.is_none() && (raw.batch.is_none() || rule.per_item),
            Rule::Jws(_) | Rule::HttpSignatures(_) | Rule::Credential(_) | Rule::FetchBack => false,
        };
        match &raw.event.identity {
            Some(said) => match said.get_ref() {
                IdentityRule::SignedMessage if !has_one_message_each => Err(self.problem(
                    said,
                    "`signed-message` needs `[signature]` without an instant, which each try would change, and one signature for each event: otherwise leave `identity` out, and the event id tells events apart",
                )),
                IdentityRule::EventId if has_one_message_each && !signed.id => Err(self.problem(
                    said,
                    "the event id is not signed, so whoever has one authentic request could send it again under others: write `signed-message`, or leave `identity` out",
                )),
                rule => Ok(*rule),
            },
            None if has_one_message_each && !signed.id => Ok(IdentityRule::SignedMessage),
            None => Ok(IdentityRule::EventId),
        }
    }

    fn family(
        &self,
        family: Option<&Spanned<FamilyName>>,
        raw: &RawProfile,
    ) -> Result<Option<FamilyName>, ProfileError> {
        let Some(family) = family else { return Ok(None) };
        if !raw.statuses.contains_key(family.get_ref()) {
            return Err(self.problem(
                family,
                format!("the family `{0}` has no table of labels: add `[statuses.{0}]` with lines such as `PENDING = \"pending\"`", family.get_ref()),
            ));
        }
        Ok(Some(family.get_ref().clone()))
    }

    /// A literal status is a status of a lifecycle, not a label of the provider.
    fn statuses(
        &self,
        raw: Option<&Spanned<Alternatives>>,
        places: &mut Places,
    ) -> Result<Vec<FieldSource>, ProfileError> {
        let sources = self.sources(raw, places)?;
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
        places: &mut Places,
    ) -> Result<Vec<FieldSource>, ProfileError> {
        let sources = self.sources(raw, places)?;
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
        raw: &std::collections::BTreeMap<String, Spanned<Alternatives>>,
        places: &mut Places,
    ) -> Result<Vec<(String, Vec<FieldSource>)>, ProfileError> {
        let mut attributes = base.to_vec();
        for (name, alternatives) in raw {
            if name == MODE {
                return Err(self.problem(
                    alternatives,
                    format!(
                        "`{MODE}` is the host's: `[mode]` says where the provider tells test events from live ones"
                    ),
                ));
            }
            if name == HOST_TEST {
                return Err(self.problem(
                    alternatives,
                    format!("`{HOST_TEST}` is the host's: it says which events the host made itself, to try a source"),
                ));
            }
            if name.starts_with(own_header::KEPT) {
                return Err(self.problem(
                    alternatives,
                    format!(
                        "`{}…` are the headers that a source keeps (`keep_headers`); choose another name",
                        own_header::KEPT
                    ),
                ));
            }
            if name == READING_NOTES {
                return Err(self.problem(
                    alternatives,
                    format!("`{READING_NOTES}` is the host's: it says what of an event is not read as it was sent; choose another name"),
                ));
            }
            let sources = self.sources(Some(alternatives), places)?;
            match attributes.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = sources,
                None => attributes.push((name.clone(), sources)),
            }
            if attributes.len() > ATTRIBUTES_MAX {
                return Err(self.problem(
                    alternatives,
                    format!("an event has at most {ATTRIBUTES_MAX} attributes"),
                ));
            }
        }
        Ok(attributes)
    }

    fn sources(
        &self,
        raw: Option<&Spanned<Alternatives>>,
        places: &mut Places,
    ) -> Result<Vec<FieldSource>, ProfileError> {
        let Some(raw) = raw else { return Ok(Vec::new()) };
        let mut sources = Vec::new();
        for place in &raw.get_ref().0 {
            sources.push(if place.contains('{') && !place.starts_with("literal:") {
                self.joined(raw, place, places)?
            } else {
                self.source(raw, place, places)?
            });
        }
        if sources.is_empty() {
            return Err(self.problem(raw, "an empty list of places: name one, or leave the key out"));
        }
        Ok(sources)
    }

    /// Reads `{/webhook_type}.{/webhook_code}`.
    fn joined(
        &self,
        raw: &Spanned<Alternatives>,
        text: &str,
        places: &mut Places,
    ) -> Result<FieldSource, ProfileError> {
        let mut sources: Vec<FieldSource> = Vec::new();
        for piece in self.braces(raw, text)? {
            let source = match piece {
                Braced::Text(text) => FieldSource::Literal(text.to_owned()),
                Braced::Name(place) => self.source(raw, place, places)?,
            };
            let is_literal = |source: &FieldSource| matches!(source, FieldSource::Literal(_));
            if let Some(before) = sources.last()
                && !is_literal(before)
                && !is_literal(&source)
            {
                return Err(self.problem(
                    raw,
                    format!(
                        "`{text}` has two places without a text between, so that different values could read the same"
                    ),
                ));
            }
            sources.push(source);
        }
        Ok(FieldSource::Joined(sources))
    }

    fn source(
        &self,
        raw: &Spanned<Alternatives>,
        place: &str,
        places: &mut Places,
    ) -> Result<FieldSource, ProfileError> {
        let header = |name: &str, form| {
            Ok(FieldSource::Header {
                name: self.header(raw, name)?,
                form,
            })
        };
        let pointer =
            |pointers: &mut Pointers, text: &str| pointers.add(text).map_err(|wrong| self.problem(raw, wrong));
        if place.starts_with('/') {
            return Ok(FieldSource::Body(pointer(&mut places.event, place)?));
        }
        match place.split_once(':') {
            Some(("header", name)) => header(name, HeaderForm::Plain),
            Some(("percent", name)) => header(name, HeaderForm::Percent),
            Some(("quoted", name)) => header(name, HeaderForm::Quoted),
            Some(("literal", text)) => Ok(FieldSource::Literal(text.to_owned())),
            Some(("around", text)) => Ok(FieldSource::Around(pointer(&mut places.around, text)?)),
            _ if place == "digest:body" => Ok(FieldSource::Digest),
            _ if place == "digest:request" => Ok(FieldSource::RequestDigest),
            _ => Err(self.problem(
                raw,
                format!("`{place}` is no place: write a JSON pointer such as `/data/id`, `header:NAME`, `literal:TEXT`, `digest:body`, `digest:request`, or several in one as `{{/type}}.{{/code}}`"),
            )),
        }
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
        let name = name.replace("json?:", "json:");
        match (name.strip_prefix("header:*"), self.sets.first()) {
            (Some(rest), Some(prefix)) => format!("header:{prefix}{rest}"),
            _ => name,
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

/// A text split at its braces.
enum Braced<'r> {
    Text(&'r str),
    Name(&'r str),
}

fn credential_scheme(kind: CredentialKind) -> Scheme {
    Scheme {
        name: kind.name().to_owned(),
        algorithm: Algorithm::Credential,
        encoding: Encoding::Base64,
        key: KeyRule {
            prefix: String::new(),
            prefix_optional: true,
            private_prefix: None,
            decode: Decoding::Utf8,
        },
    }
}

/// Whether a place is among what the signature holds.
fn is_signed(source: &FieldSource, rule: &Rule, event: &EventRule, body_signed: bool) -> bool {
    match source {
        FieldSource::Literal(_) => true,
        FieldSource::Digest | FieldSource::Around(_) => body_signed,
        FieldSource::RequestDigest => {
            let signs_url = matches!(rule, Rule::Template(rule) if rule.signed.contains(&Part::Url));
            body_signed && signs_url
        }
        FieldSource::Body(slot) => {
            let pointer = event.pointers.text(*slot);
            let signs_field = |part: &Part| matches!(part, Part::Json { name, .. } if *name == pointer);
            body_signed || matches!(rule, Rule::Template(rule) if rule.signed.iter().any(signs_field))
        }
        FieldSource::Header { name: wanted, .. } => match rule {
            Rule::Template(rule) => rule
                .signed
                .iter()
                .any(|part| matches!(part, Part::Header { name, .. } if name == wanted)),
            Rule::HttpSignatures(rule) => rule
                .components
                .iter()
                .any(|one_of| matches!(one_of.as_slice(), [name] if name == wanted.in_set(0))),
            Rule::Jws(_) | Rule::Credential(_) | Rule::FetchBack => false,
        },
        FieldSource::Joined(sources) => sources.iter().all(|source| is_signed(source, rule, event, body_signed)),
    }
}
