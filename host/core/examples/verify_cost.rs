//! What verification and reading cost, one thread, over the Voucherify event: `cargo run --release --example verify_cost`.
#![expect(clippy::print_stdout, reason = "printing is what this example is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement needs a clock; the crate itself has none"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use tollgate_core::envelope;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::shipped;
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Secret, SourceSecret};
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
        let signed = sign(
            profile,
            &secrets,
            &SignInput {
                body: BODY.as_bytes(),
                id: "msg_1",
                at,
                url: None,
            },
        )?;
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
