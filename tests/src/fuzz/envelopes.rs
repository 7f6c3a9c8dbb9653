//! A body that is proved, of a provider that went mad or a tenant that signs by hand: whatever it says, it is events or a reason.
//!
//! An input is a byte that chooses the profile, and the body. It is signed as the provider would, because nothing unproved is read.

use std::sync::OnceLock;

use tollgate_core::admission::Admission;
use tollgate_core::profile::{self, Profile};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;
use tollgate_core::vector;
use tollgate_core::verify::{Keyring, verify};
use tollgate_core::{challenge, envelope, limits};

use super::{Target, files, names, said};

pub(super) const TARGET: Target = Target {
    name: "envelopes",
    what: "envelopes: events read of arbitrary proved bodies, every shipped profile that can be signed here",
    seeds,
    run,
    short: 6_000,
};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
const URL: &str = "https://hooks.example/in/acme/shop";

/// A profile and a secret of its own with which it verifies what was signed.
struct Signable {
    profile: &'static Profile,
    secrets: Vec<SourceSecret>,
    parameters: Parameters,
    keyring: Keyring,
}

fn signable() -> &'static [Signable] {
    static SIGNABLE: OnceLock<Vec<Signable>> = OnceLock::new();
    SIGNABLE.get_or_init(|| {
        let signable: Vec<_> = profile::shipped()
            .values()
            .filter_map(|profile| signable_one(profile))
            .collect();
        assert!(signable.len() > 20, "only {} profiles can be signed", signable.len());
        signable
    })
}

/// With the secret of the first known answer that serves. Some are of public keys alone: those profiles are left out.
fn signable_one(profile: &'static Profile) -> Option<Signable> {
    vector::of(profile).iter().find_map(|vector| {
        let texts = vector
            .secret
            .iter()
            .map(|secret| &secret.text)
            .chain(&vector.signing_secret);
        texts.into_iter().find_map(|text| {
            let secrets = vec![SourceSecret {
                id: "a".parse().ok()?,
                text: Secret::new(text.as_str()),
                not_before: None,
                not_after: None,
            }];
            let parameters = vector.parameters();
            let signable = Signable {
                profile,
                keyring: Keyring::with_parameters(profile, &secrets, &parameters).ok()?,
                secrets,
                parameters,
            };
            [&b"{}"[..], b"[]", b"a=b"]
                .into_iter()
                .any(|body| proved(&signable, body, |_, _| ()))
                .then_some(signable)
        })
    })
}

/// Signs a body and hands on what verifies; answers whether it did.
fn proved(signable: &Signable, body: &[u8], then: impl FnOnce(&tollgate_core::verify::Verified<'_>, &[u8])) -> bool {
    let Signable {
        profile,
        secrets,
        parameters,
        keyring,
    } = signable;
    let input = SignInput {
        body,
        id: "msg_1",
        at: NOW,
        url: Some(URL),
    };
    let Ok(signed) = sign(profile, secrets, parameters, &input) else {
        return false;
    };
    let headers: Vec<_> = signed
        .headers
        .iter()
        .map(|(name, value)| Header {
            name,
            value: value.as_bytes(),
        })
        .collect();
    let request = RawRequest {
        method: "POST",
        path: None,
        query: signed.query.as_deref(),
        headers: &headers,
        body: &signed.body,
        url: Some(URL),
        received_at: NOW,
    };
    match verify(profile, keyring, request) {
        Ok(verified) => {
            then(&verified, body);
            true
        }
        // A field that is signed may be missing from the body.
        Err(_) => false,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let samples = files("tests/samples", "json");
    let mut seeds = Vec::new();
    for (at, signable) in signable().iter().enumerate() {
        let own = vector::of(signable.profile)
            .into_iter()
            .map(|vector| vector.body.into_bytes());
        let own: Vec<_> = own.collect();
        // The same, but for a part that is nested too deep; and nothing but nesting, deeper than a stack.
        let deep = own.first().filter(|body| body.starts_with(b"{")).map(|body| {
            let nested = ["\"deep\":", &"[".repeat(200), &"]".repeat(200), ","].concat();
            [b"{", nested.as_bytes(), &body[1..]].concat()
        });
        let deeper = (at == 0).then(|| b"{\"data\":".repeat(7_000));
        let own = own.into_iter().chain(deep).chain(deeper);
        for body in own.chain(samples.iter().filter(|sample| sample.len() < 20_000).cloned()) {
            seeds.push([&[u8::try_from(at).unwrap_or_default()], body.as_slice()].concat());
        }
    }
    seeds
}

fn run(input: &[u8]) {
    let Some((first, body)) = input.split_first() else {
        return;
    };
    let signable = &signable()[usize::from(*first) % signable().len()];
    proved(signable, body, |verified, _| {
        let (tenant, source) = names();
        let _ = challenge::answer(signable.profile, verified);
        let read = envelope::read(signable.profile, verified, &tenant, &source);
        let again = envelope::read(signable.profile, verified, &tenant, &source);
        let events = match (read, again) {
            (Ok(events), Ok(again)) => {
                assert_eq!(said(&events), said(&again), "reading is a function");
                events
            }
            (Err(unreadable), Err(again)) => {
                assert_eq!(unreadable.reason(), again.reason());
                assert!(!unreadable.to_string().is_empty());
                return;
            }
            (read, again) => panic!("{read:?}, and then {again:?}"),
        };
        assert!(
            !events.is_empty() && events.len() <= limits::BATCH_ITEMS_MAX,
            "{} events",
            events.len()
        );
        let key = Secret::new(vec![7; 32]);
        for (index, event) in events.into_iter().enumerate() {
            assert_eq!((&event.tenant, &event.source), (&tenant, &source));
            // The profile's, and the host's own: the mode, and notes.
            assert!(
                event.attributes.len() <= limits::ATTRIBUTES_MAX + 2,
                "{} attributes",
                event.attributes.len()
            );
            assert!(
                event
                    .attributes
                    .iter()
                    .all(|(_, value)| value.len() <= limits::ATTRIBUTE_BYTES_MAX)
            );
            assert!(std::str::from_utf8(&event.payload).is_ok(), "a plugin gets text");
            let is_json = matches!(event.payload.trim_ascii_start().first(), Some(b'{' | b'['));
            assert!(
                !is_json || depth(&event.payload) <= limits::JSON_DEPTH_MAX,
                "too deep for a plugin"
            );
            // What the store is given is what it gives back: the names parse again.
            assert_eq!(event.id.as_str().parse().as_ref(), Ok(&event.id));
            assert_eq!(event.event_type.as_str().parse().as_ref(), Ok(&event.event_type));
            let identity = verified.identity(index);
            let admission = Admission::of(
                &key,
                event,
                identity,
                verified.proof().clone(),
                None,
                &mut std::iter::empty(),
            );
            assert!(admission.jobs.is_empty());
        }
    });
}

/// How deep a JSON text is nested.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
