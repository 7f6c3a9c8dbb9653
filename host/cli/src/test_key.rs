//! Test keys: for providers that sign with a private key that nobody else has. A key of one's own takes its place, and the source is told
//! to trust its public half. Never for anything but tests.

use std::path::Path;

use anyhow::Context as _;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use rsa::rand_core::{TryCryptoRng, TryRng, UnwrapErr};
use tollgate_core::ids::KeyId;
use tollgate_core::profile::Profile;
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::verify::Keyring;

use super::Usage;
use super::key_file::{ED25519_PRIVATE, ED25519_PUBLIC, pem, public_file, random, write_new};

/// A private key and its public half, as the texts that a source or a sender is given.
struct Pair {
    private: String,
    public: String,
}

/// The test key in `file`; made, with its public half beside it, when the file is not there.
pub(super) fn read_or_make(profile: &Profile, parameters: &Parameters, file: &Path) -> anyhow::Result<SourceSecret> {
    if !file.exists() {
        let pair = make(profile, parameters)?;
        let public = public_file(file);
        write_new(file, &pair.private, true)?;
        write_new(&public, &pair.public, false)?;
        anstream::eprintln!(
            "made a test key for {}: the source trusts it when one of its secrets is {{ file = \"{}\" }}",
            profile.name,
            public.display()
        );
    }
    let text = std::fs::read(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
    Ok(secret(text))
}

fn secret(text: Vec<u8>) -> SourceSecret {
    SourceSecret {
        id: KeyId::new("test-key").expect("a name"),
        text: Secret::new(text),
        not_before: None,
        not_after: None,
    }
}

/// A key of the first kind that the profile takes.
fn make(profile: &Profile, parameters: &Parameters) -> anyhow::Result<Pair> {
    let kinds: [fn() -> anyhow::Result<Pair>; 4] = [ed25519, p256_pem, p256_jwk, rsa_pem];
    for kind in kinds {
        let pair = kind()?;
        let public = secret(pair.public.clone().into_bytes());
        if Keyring::with_parameters(profile, &[public], parameters).is_ok() {
            return Ok(pair);
        }
    }
    let name = &profile.name;
    Err(Usage(format!(
        "{name} does not sign with a private key: give the source's secret with --secret-file"
    ))
    .into())
}

fn ed25519() -> anyhow::Result<Pair> {
    let seed = random()?;
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    Ok(Pair {
        private: pem("PRIVATE KEY", &[ED25519_PRIVATE, &seed].concat()),
        public: pem("PUBLIC KEY", &[ED25519_PUBLIC, public.as_bytes()].concat()),
    })
}

fn p256_key() -> anyhow::Result<p256::SecretKey> {
    // All but one in four thousand million texts of 32 bytes are a key.
    for _ in 0..8 {
        if let Ok(key) = p256::SecretKey::from_slice(&random()?) {
            return Ok(key);
        }
    }
    anyhow::bail!("the system's random source gives no key")
}

fn p256_pem() -> anyhow::Result<Pair> {
    let key = p256_key()?;
    Ok(Pair {
        private: pem("PRIVATE KEY", key.to_pkcs8_der()?.as_bytes()),
        public: pem("PUBLIC KEY", key.public_key().to_public_key_der()?.as_bytes()),
    })
}

fn p256_jwk() -> anyhow::Result<Pair> {
    use data_encoding::BASE64URL_NOPAD;
    use p256::elliptic_curve::sec1::ToSec1Point as _;
    let key = p256_key()?;
    let point = key.public_key().to_sec1_point(false);
    let coordinates = point.x().zip(point.y()).context("a point of the curve")?;
    let (x, y) = (
        BASE64URL_NOPAD.encode(coordinates.0),
        BASE64URL_NOPAD.encode(coordinates.1),
    );
    let kid = format!("tollgate-test-{}", data_encoding::HEXLOWER.encode(&random()?[..4]));
    let mut jwk =
        serde_json::json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid, "x": x, "y": y });
    let public = jwk.to_string();
    jwk["d"] = BASE64URL_NOPAD.encode(&key.to_bytes()).into();
    Ok(Pair {
        private: jwk.to_string(),
        public,
    })
}

fn rsa_pem() -> anyhow::Result<Pair> {
    let key = rsa::RsaPrivateKey::new(&mut UnwrapErr(SystemRandom), 2048)?;
    Ok(Pair {
        private: pem("PRIVATE KEY", key.to_pkcs8_der()?.as_bytes()),
        public: pem("PUBLIC KEY", key.to_public_key().to_public_key_der()?.as_bytes()),
    })
}

/// The system's random source in the words of `rsa`.
struct SystemRandom;

impl TryRng for SystemRandom {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, getrandom::Error> {
        getrandom::u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, getrandom::Error> {
        getrandom::u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        getrandom::fill(bytes)
    }
}

impl TryCryptoRng for SystemRandom {}
