//! What verification and reading cost, one thread, over the Voucherify event, and what a check of Stripe's scheme costs that somebody
//! wrote by hand for it alone: `cargo run --release -p tollgate-core --example verify_cost`.
#![expect(clippy::print_stdout, reason = "printing is what this example is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement needs a clock; the crate itself has none"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tollgate_core::envelope;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::shipped;
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{NO_PARAMETERS, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Keyring, verify};

const BODY: &str = include_str!("../../../tests/samples/voucherify-customer.reward_redemptions.pending.json");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at = UnixMillis::from_seconds(1_700_000_000);
    println!("body: {} bytes", BODY.len());
    for (provider, text) in [
        ("voucherify", "secretKey"),
        ("stripe", "whsec_secretKey"),
        ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (
            "standard-webhooks",
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
        ),
    ] {
        let profile = &shipped()[provider];
        let secrets = [SourceSecret {
            id: KeyId::new("a")?,
            text: Secret::new(text),
            not_before: None,
            not_after: None,
        }];
        let keyring = Keyring::new(profile, &secrets)?;
        let input = SignInput {
            body: BODY.as_bytes(),
            id: "msg_1",
            at,
            url: None,
        };
        let signed = sign(profile, &secrets, &NO_PARAMETERS, &input)?.headers;
        // What a provider's client sends beside them.
        let others = [
            "host",
            "user-agent",
            "content-type",
            "content-length",
            "accept",
            "accept-encoding",
            "connection",
        ];
        let headers: Vec<_> = others
            .iter()
            .map(|name| Header { name, value: b"value" })
            .chain(signed.iter().map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            }))
            .collect();
        let request = RawRequest {
            method: "POST",
            path: None,
            query: None,
            headers: &headers,
            body: BODY.as_bytes(),
            url: None,
            received_at: at,
        };
        let (tenant, source) = ("acme".parse()?, "in".parse()?);
        let verified = verify(profile, &keyring, request)?;
        let scheme = &verified.proof().scheme;
        let verify_ns = measure(|| drop(black_box(verify(profile, &keyring, black_box(request)))));
        println!("{provider} {scheme}: {verify_ns:.0} ns per verify");
        if provider == "stripe" {
            let keyed = Hmac::<Sha256>::new_from_slice(text.as_bytes())?;
            if !by_hand(&keyed, &request, 300) {
                return Err("the check by hand refuses what the profile takes".into());
            }
            let hand_ns = measure(|| {
                black_box(by_hand(&keyed, black_box(&request), 300));
            });
            println!(
                "{provider} by hand: {hand_ns:.0} ns per verify; the profile takes {:.2} times that",
                verify_ns / hand_ns
            );
        }
        if provider == "voucherify" {
            let read_ns = measure(|| {
                drop(black_box(envelope::read(
                    profile,
                    black_box(&verified),
                    &tenant,
                    &source,
                )))
            });
            println!(
                "{provider} {scheme}: {read_ns:.0} ns per envelope, {:.0} ns for both",
                verify_ns + read_ns
            );
        }
    }
    Ok(())
}

/// Stripe's scheme and nothing else, as a careful person would write it.
fn by_hand(keyed: &Hmac<Sha256>, request: &RawRequest<'_>, tolerance_s: u64) -> bool {
    let mut headers = request
        .headers
        .iter()
        .filter(|header| header.name == "stripe-signature");
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return false;
    };
    let mut time = None;
    let mut tags: Vec<[u8; 32]> = Vec::new();
    for entry in header.value.split(|b| *b == b',').take(16) {
        if let Some(text) = entry.strip_prefix(b"t=") {
            if time.replace(text).is_some() {
                return false;
            }
        } else if let Some(text) = entry.strip_prefix(b"v1=") {
            let mut tag = [0; 32];
            if text.len() == 64 && HEXLOWER_PERMISSIVE.decode_mut(text, &mut tag).is_ok() {
                tags.push(tag);
            }
        }
    }
    let Some(time) = time.filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit)) else {
        return false;
    };
    let seconds = std::str::from_utf8(time).ok().and_then(|text| text.parse::<i64>().ok());
    let is_now = seconds.is_some_and(|at| request.received_at.unix_seconds().abs_diff(at) <= tolerance_s);
    let mut mac = keyed.clone();
    mac.update(time);
    mac.update(b".");
    mac.update(request.body);
    let tag = mac.finalize().into_bytes();
    is_now
        && tags
            .iter()
            .any(|offered| offered.as_slice().ct_eq(tag.as_slice()).into())
}

/// Nanoseconds per call: the quickest of many short batches over at least a second, which other work on the machine disturbs least.
fn measure(mut call: impl FnMut()) -> f64 {
    const CALLS: u32 = 50;
    let begin = Instant::now();
    let mut quickest = Duration::MAX;
    while begin.elapsed() < Duration::from_millis(1200) {
        let batch = Instant::now();
        (0..CALLS).for_each(|_| call());
        quickest = quickest.min(batch.elapsed());
    }
    quickest.as_secs_f64() * 1e9 / f64::from(CALLS)
}
