//! A request of a stranger: any method, query, headers and body, against every shipped profile with the secrets of its known answers.
//!
//! An input is a byte that chooses the known answer, and a request as text: `name: value` lines, an empty line, the body. The names
//! `:method` and `:query` are those.

use std::sync::OnceLock;

use tollgate_core::profile::Vector;
use tollgate_core::profile::{self, Profile};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::time::UnixMillis;
use tollgate_core::vector;
use tollgate_core::verify::{Keyring, verify};
use tollgate_core::{challenge, envelope, explain};

use super::{Target, names, said};

pub(super) const TARGET: Target = Target {
    name: "headers",
    what: "signature headers: verification, its explanation and challenges, every shipped profile",
    seeds,
    run,
    short: 6_000,
};

/// A known answer, and what a source would have ready for it.
struct Known {
    vector: &'static Vector,
    profile: &'static Profile,
    keyring: Keyring,
}

fn known() -> &'static [Known] {
    static KNOWN: OnceLock<Vec<Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let can_run = |vector: &&Vector| vector.not_run.is_none();
        let known: Vec<_> = vector::shipped().iter().filter(can_run).filter_map(known_one).collect();
        let all = vector::shipped().iter().filter(can_run).count();
        assert!(
            all > 50 && known.len() == all,
            "of {all} known answers only {} can be run",
            known.len()
        );
        known
    })
}

fn known_one(vector: &'static Vector) -> Option<Known> {
    let name = vector.provider.as_deref()?;
    let profile: &Profile = profile::shipped().get(name)?;
    let mut keyring = Keyring::with_parameters(profile, &vector.secrets().ok()?, &vector.parameters()).ok()?;
    let headers = headers(&vector.headers);
    let request = request(vector, &headers, vector.body.as_bytes());
    if let (Err(unproven), Some(document)) = (verify(profile, &keyring, request), &vector.published)
        && let Some(need) = unproven.needs_key()
    {
        keyring = keyring
            .learn(profile, need, document.as_bytes(), request.received_at)
            .ok()?;
    }
    Some(Known {
        vector,
        profile,
        keyring,
    })
}

fn headers(texts: &[(String, String)]) -> Vec<Header<'_>> {
    texts
        .iter()
        .map(|(name, value)| Header {
            name,
            value: value.as_bytes(),
        })
        .collect()
}

fn request<'a>(vector: &'a Vector, headers: &'a [Header<'a>], body: &'a [u8]) -> RawRequest<'a> {
    RawRequest {
        method: &vector.method,
        path: None,
        query: vector.query.as_deref(),
        headers,
        body,
        url: vector.url.as_deref(),
        received_at: UnixMillis::from_seconds(vector.received_at_s),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    known()
        .iter()
        .enumerate()
        .map(|(at, known)| {
            let mut seed = vec![u8::try_from(at).unwrap_or_default()];
            let mut line = |name: &str, value: &str| seed.extend(format!("{name}: {value}\n").into_bytes());
            for (name, value) in &known.vector.headers {
                line(name, value);
            }
            if let Some(query) = &known.vector.query {
                line(":query", query);
            }
            if known.vector.method != "POST" {
                line(":method", &known.vector.method);
            }
            seed.push(b'\n');
            seed.extend(known.vector.body.as_bytes());
            seed
        })
        .collect()
}

fn run(input: &[u8]) {
    let Some((first, mut rest)) = input.split_first() else {
        return;
    };
    let known = &known()[usize::from(*first) % known().len()];
    let (mut method, mut query, mut headers) = (None, None, Vec::new());
    while let Some((line, behind)) = split_once(rest, b'\n') {
        rest = behind;
        if line.is_empty() {
            break;
        }
        // What the HTTP library lets through: names in lower case without odd bytes, values of visible bytes.
        let Some((name, value)) = split_once(line, b':') else {
            continue;
        };
        let value = value.trim_ascii();
        match (std::str::from_utf8(name).map(str::trim), std::str::from_utf8(value)) {
            (Ok(""), Ok(value)) => {
                // `:query: …`
                match value.split_once(':').map(|(name, value)| (name, value.trim())) {
                    Some(("method", value)) => method = Some(value),
                    Some(("query", value)) => query = Some(value),
                    _ => {}
                }
            }
            (Ok(name), _) if name.bytes().all(|byte| byte.is_ascii_graphic()) => {
                headers.push((name.to_lowercase(), value))
            }
            _ => {}
        }
    }
    let headers: Vec<_> = headers.iter().map(|(name, value)| Header { name, value }).collect();
    let request = RawRequest {
        method: method.unwrap_or("POST"),
        query,
        ..request(known.vector, &headers, rest)
    };
    judge(known, request);
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..place], &bytes[place + 1..]))
}

fn judge(known: &Known, request: RawRequest<'_>) {
    let Known { profile, keyring, .. } = known;
    let _ = challenge::preflight(profile, keyring, &request);
    let verified = match verify(profile, keyring, request) {
        Ok(verified) => verified,
        Err(unproven) => {
            assert!(!unproven.to_string().is_empty() && !unproven.reason().is_empty());
            let _ = explain::explain(profile, keyring, &request, &unproven);
            return;
        }
    };
    let again = verify(profile, keyring, request).expect("what was proved is proved again");
    assert_eq!(verified.proof(), again.proof());
    let _ = challenge::answer(profile, &verified);
    let (tenant, source) = names();
    let events = envelope::read(profile, &verified, &tenant, &source);
    assert_eq!(
        said(&events),
        said(&envelope::read(profile, &again, &tenant, &source)),
        "the same request is the same events"
    );
    if profile.body_is_signed() && !request.body.is_empty() {
        let mut other = request.body.to_vec();
        // No bit of it may be changed. Which one is tried follows from the input.
        let at = request
            .body
            .iter()
            .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let at = at % other.len();
        other[at] ^= 1;
        let changed = verify(
            profile,
            keyring,
            RawRequest {
                body: &other,
                ..request
            },
        );
        assert!(
            changed.is_err(),
            "{}: byte {at} of a signed body was changed",
            profile.name
        );
    }
}
