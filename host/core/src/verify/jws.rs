//! A compact JWS in a header (RFC 7515), with the instant of signing and the digest of the body among its claims.

use std::borrow::Cow;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::keys::{Keyring, Wanted};
use super::message::{Candidate, Message, Tag};
use super::{Found, Strictness, Unproven, judge_time, single};
use crate::json::{Pointers, Scalar};
use crate::profile::{JwsRule, Profile, TimeFormat};
use crate::request::RawRequest;
use crate::time::UnixMillis;

/// The protected header. A repeated key is refused by the reader, and `crit` by us: it would name rules that we do not know.
#[derive(Deserialize)]
struct Protected {
    alg: String,
    kid: String,
    crit: Option<IgnoredAny>,
}

pub(super) fn attempt(
    profile: &Profile,
    rule: &JwsRule,
    keyring: &Keyring,
    request: &RawRequest<'_>,
    strictness: Strictness,
) -> Result<Found, Unproven> {
    let header = rule.header.in_set(0);
    let malformed = |detail: &str| Unproven::MalformedSignature {
        header: header.to_owned(),
        detail: detail.to_owned(),
    };
    let token = single(request, header)?;
    let last_dot = token.iter().rposition(|b| *b == b'.');
    let (input, signature) = last_dot
        .map(|at| (&token[..at], &token[at + 1..]))
        .ok_or_else(|| malformed("a compact JWS has three parts with dots between"))?;
    let mut parts = input.split(|b| *b == b'.');
    let (Some(protected), Some(claims), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed("a compact JWS has three parts with dots between"));
    };
    let decode = |text: &[u8]| {
        BASE64URL_NOPAD
            .decode(text)
            .map_err(|_| malformed("a part of it is not base64url without padding"))
    };
    let protected: Protected =
        serde_json::from_slice(&decode(protected)?).map_err(|_| malformed("its header has no `alg` and `kid`"))?;
    if protected.crit.is_some() {
        return Err(malformed(
            "its header has `crit`, which names rules that are not known here",
        ));
    }
    // The profile decides which algorithms are taken; the token only says which of them it uses.
    let scheme = profile.schemes.iter().position(|scheme| scheme.name == protected.alg);
    let scheme = scheme.ok_or_else(|| malformed("its `alg` is not one that this provider signs with"))?;

    let (signed_at, digest) = claims_of(rule, &decode(claims)?)
        .ok_or_else(|| malformed("its claims are not JSON with the instant and the digest of the body, each once"))?;
    if let Some(time) = &profile.time {
        let at = signed_at.ok_or_else(|| Unproven::MalformedTimestamp {
            part: format!("claim:{}", rule.time_claim),
            expected: TimeFormat::UnixSeconds,
        })?;
        judge_time(time, at, request.received_at, strictness)?;
    }

    let kid = protected.kid.as_bytes();
    if !keyring.can_judge(kid, false, request.received_at) {
        return Err(match keyring.need(profile, kid) {
            Some(need) => Unproven::NeedsKey(need),
            None => Unproven::UnknownKey {
                header: header.to_owned(),
            },
        });
    }
    let candidates = [Candidate {
        scheme,
        tag: Tag::new(&decode(signature)?),
    }];
    let wanted = Wanted {
        candidates: &candidates,
        name: Some(kid),
        anonymous: false,
        active_at: strictness.windows.then_some(request.received_at),
    };
    let message = Message::new(vec![Cow::Borrowed(input)]);
    let key = keyring.find(profile, &wanted, &message).map_err(|tried| match tried {
        0 => Unproven::NoActiveSecret,
        secrets => Unproven::NoMatch { signatures: 1, secrets },
    })?;

    let is_body = HEXLOWER_PERMISSIVE
        .decode(digest.as_bytes())
        .is_ok_and(|digest| digest.as_slice().ct_eq(Sha256::digest(request.body).as_slice()).into());
    if !is_body {
        return Err(Unproven::WrongDigest {
            part: format!("claim:{}", rule.body_claim),
        });
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

/// The instant, where it is one, and the digest's text.
fn claims_of(rule: &JwsRule, claims: &[u8]) -> Option<(Option<UnixMillis>, String)> {
    let mut pointers = Pointers::new();
    let time = pointers.add(&pointer(&rule.time_claim)).ok()?;
    let digest = pointers.add(&pointer(&rule.body_claim)).ok()?;
    let values = pointers.read(std::str::from_utf8(claims).ok()?).ok()?;
    let at = match values.get(time) {
        Some(Scalar::Integer(seconds)) => TimeFormat::UnixSeconds.parse(&seconds.to_string()),
        _ => None,
    };
    match values.get(digest)? {
        Scalar::Text(text) => Some((at, text.clone().into_owned())),
        _ => None,
    }
}

fn pointer(claim: &str) -> String {
    format!("/{}", claim.replace('~', "~0").replace('/', "~1"))
}
