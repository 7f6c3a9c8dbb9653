//! Public keys of every algorithm: read from what providers publish, and applied to a message.
//!
//! RSA is verified by ring natively, and by `rsa` in wasm, where ring has no build; both are held to the same answers by a test.
//!
//! Verifying touches no secret. Signing is here for samples and tests: Ed25519 and ECDSA (RFC 6979) are deterministic and safe;
//! RSA signs without blinding, which leaks time (RUSTSEC-2023-0071), so its keys must be made for the purpose and worth nothing.

use ed25519_dalek::Signer as _;
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use serde_json::Value;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, DecodePem as _, Encode as _, pem};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::profile::Algorithm;
use crate::time::UnixMillis;

/// Smaller RSA keys are not taken, in bytes of the modulus; 4096 bits is the library's own upper bound.
const RSA_BYTES_MIN: usize = 256;

/// The DER of `DigestInfo` for SHA-256 up to the digest (RFC 8017, section 9.2, note 1).
const SHA256_PREFIX: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20,
];

/// A public key, ready to verify.
#[derive(Clone)]
pub(crate) enum PublicKey {
    Ed25519(ed25519_dalek::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
    Rsa(RsaPublicKey),
}

/// A private key, to sign with.
pub(crate) enum PrivateKey {
    Ed25519(ed25519_dalek::SigningKey),
    P256(p256::ecdsa::SigningKey),
    /// The private half is decoded when something is to be signed: a host that only verifies needs nothing of that arithmetic.
    Rsa {
        public: RsaPublicKey,
        pkcs8: zeroize::Zeroizing<Vec<u8>>,
    },
}

/// The key that a text holds.
pub(crate) enum Pair {
    Public(PublicKey),
    Private(PrivateKey),
}

impl PublicKey {
    /// Whether the key belongs to an algorithm.
    pub(crate) fn suits(&self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::Ed25519(_), Algorithm::Ed25519)
                | (
                    Self::P256(_),
                    Algorithm::EcdsaP256Sha256Der | Algorithm::EcdsaP256Sha256Raw
                )
                | (Self::Rsa(_), Algorithm::RsaPkcs1Sha256)
        )
    }

    /// Whether `signature` is this key's. Some algorithms ask for the `message` itself (Ed25519, and RSA natively), the others for its
    /// `digest` (SHA-256).
    pub(crate) fn verifies<'m>(
        &self,
        algorithm: Algorithm,
        message: impl FnOnce() -> &'m [u8],
        digest: impl FnOnce() -> &'m [u8; 32],
        signature: &[u8],
    ) -> bool {
        match (self, algorithm) {
            (Self::Ed25519(key), Algorithm::Ed25519) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message(), &signature).is_ok()),
            (Self::P256(key), Algorithm::EcdsaP256Sha256Der) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(digest(), &signature).is_ok()),
            (Self::P256(key), Algorithm::EcdsaP256Sha256Raw) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_prehash(digest(), &signature).is_ok()),
            #[cfg(not(target_family = "wasm"))]
            (Self::Rsa(key), Algorithm::RsaPkcs1Sha256) => verified_by_ring(key, message(), signature),
            #[cfg(target_family = "wasm")]
            (Self::Rsa(key), Algorithm::RsaPkcs1Sha256) => verified_by_rsa(key, digest(), signature),
            _ => false,
        }
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        if let Ok(key) = RsaPublicKey::from_public_key_der(der) {
            return (key.size() >= RSA_BYTES_MIN).then_some(Self::Rsa(key));
        }
        if let Ok(key) = p256::PublicKey::from_public_key_der(der) {
            return Some(Self::P256(key.into()));
        }
        let spki = x509_cert::spki::SubjectPublicKeyInfoRef::from_der(der).ok()?;
        // id-Ed25519 (RFC 8410, section 3).
        if spki.algorithm.oid.to_string() != "1.3.101.112" {
            return None;
        }
        let bytes = <&[u8; 32]>::try_from(spki.subject_public_key.as_bytes()?).ok()?;
        ed25519_dalek::VerifyingKey::from_bytes(bytes).ok().map(Self::Ed25519)
    }
}

impl PrivateKey {
    pub(crate) fn public(&self) -> PublicKey {
        match self {
            Self::Ed25519(key) => PublicKey::Ed25519(key.verifying_key()),
            Self::P256(key) => PublicKey::P256(*key.verifying_key()),
            Self::Rsa { public, .. } => PublicKey::Rsa(public.clone()),
        }
    }

    /// Signs; `None` when the key does not suit the algorithm. See the module's warning about RSA.
    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8], digest: &[u8; 32]) -> Option<Vec<u8>> {
        match (self, algorithm) {
            (Self::Ed25519(key), Algorithm::Ed25519) => Some(key.sign(message).to_bytes().to_vec()),
            (Self::P256(key), Algorithm::EcdsaP256Sha256Der | Algorithm::EcdsaP256Sha256Raw) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(digest).ok()?;
                Some(match algorithm {
                    Algorithm::EcdsaP256Sha256Der => signature.to_der().as_bytes().to_vec(),
                    _ => signature.to_bytes().to_vec(),
                })
            }
            (Self::Rsa { pkcs8, .. }, Algorithm::RsaPkcs1Sha256) => {
                let key = RsaPrivateKey::from_pkcs8_der(pkcs8).ok()?;
                key.sign(padding(), digest).ok()
            }
            _ => None,
        }
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        if let Ok(key) = p256::SecretKey::from_pkcs8_der(der) {
            return Some(Self::P256(key.into()));
        }
        let info = p256::pkcs8::PrivateKeyInfoRef::from_der(der).ok()?;
        if info.algorithm.oid == rsa::pkcs1::ALGORITHM_OID {
            let key = rsa::pkcs1::RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).ok()?;
            let public = RsaPublicKey::try_from(key.public_key()).ok()?;
            let pkcs8 = zeroize::Zeroizing::new(der.to_vec());
            return (public.size() >= RSA_BYTES_MIN).then_some(Self::Rsa { public, pkcs8 });
        }
        if info.algorithm.oid.to_string() != "1.3.101.112" {
            return None;
        }
        // RFC 8410, section 7: the private key is an OCTET STRING inside the OCTET STRING.
        let seed = info.private_key.as_bytes().strip_prefix(&[0x04, 0x20])?;
        let seed = <&[u8; 32]>::try_from(seed).ok()?;
        Some(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(seed)))
    }
}

#[cfg(not(target_family = "wasm"))]
fn verified_by_ring(key: &RsaPublicKey, message: &[u8], signature: &[u8]) -> bool {
    let key = ring::signature::RsaPublicKeyComponents {
        n: key.n_bytes(),
        e: key.e_bytes(),
    };
    key.verify(&ring::signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
        .is_ok()
}

#[cfg(any(target_family = "wasm", test))]
fn verified_by_rsa(key: &RsaPublicKey, digest: &[u8; 32], signature: &[u8]) -> bool {
    key.verify(padding(), digest, signature).is_ok()
}

fn padding() -> Pkcs1v15Sign {
    Pkcs1v15Sign {
        hash_len: Some(32),
        prefix: Box::new(SHA256_PREFIX),
    }
}

/// Reads a PEM public or private key or certificate, or the base64 of a SubjectPublicKeyInfo.
pub(crate) fn from_text(text: &[u8]) -> Option<Pair> {
    let text = text.trim_ascii();
    if !text.starts_with(b"-----BEGIN ") {
        let mut compact = text.to_vec();
        compact.retain(|b| !b.is_ascii_whitespace());
        let der = data_encoding::BASE64.decode(&compact).ok()?;
        return PublicKey::from_spki(&der).map(Pair::Public);
    }
    if text.starts_with(b"-----BEGIN CERTIFICATE-----") {
        return certificate(text).map(|certificate| Pair::Public(certificate.key));
    }
    let (label, der) = pem::decode_vec(text).ok()?;
    match label {
        "PUBLIC KEY" => PublicKey::from_spki(&der).map(Pair::Public),
        "PRIVATE KEY" => PrivateKey::from_pkcs8(&zeroize::Zeroizing::new(der)).map(Pair::Private),
        _ => None,
    }
}

/// A certificate's key, with the names that it is for and the time that it is valid.
pub(crate) struct CertifiedKey {
    pub(crate) key: PublicKey,
    pub(crate) dns_names: Vec<String>,
    pub(crate) not_before: UnixMillis,
    pub(crate) not_after: UnixMillis,
}

/// Reads the first certificate of a PEM text. Its issuer is not looked at: what makes it believable is where it came from.
pub(crate) fn certificate(text: &[u8]) -> Option<CertifiedKey> {
    // Further certificates may follow: the chain.
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let text = text.trim_ascii();
    let end = text.windows(END.len()).position(|window| window == END)? + END.len();
    let certificate = Certificate::from_pem(&text[..end]).ok()?;
    let body = certificate.tbs_certificate();
    let names = body.get_extension::<SubjectAltName>().ok()?;
    let dns_names = names.map_or_else(Vec::new, |(_, names)| {
        let dns = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            _ => None,
        };
        names.0.iter().filter_map(dns).collect()
    });
    let millis = |time: &x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        UnixMillis::from_seconds(seconds)
    };
    Some(CertifiedKey {
        key: PublicKey::from_spki(&body.subject_public_key_info().to_der().ok()?)?,
        dns_names,
        not_before: millis(&body.validity().not_before),
        not_after: millis(&body.validity().not_after),
    })
}

/// A JSON Web Key.
pub(crate) struct Jwk {
    pub(crate) kid: Option<String>,
    pub(crate) pair: Pair,
    /// Plaid's `expired_at`: from then on the key proves nothing.
    pub(crate) not_after: Option<UnixMillis>,
}

/// Reads a JWK of type EC (P-256) or OKP (Ed25519) (RFC 7518, section 6; RFC 8037).
pub(crate) fn jwk(value: &Value) -> Option<Jwk> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let bytes = |name: &str| -> Option<[u8; 32]> {
        let decoded = data_encoding::BASE64URL_NOPAD.decode(text(name)?.as_bytes()).ok()?;
        decoded.try_into().ok()
    };
    if text("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let has_private = value.get("d").is_some();
    let pair = match (text("kty")?, text("crv")?) {
        ("EC", "P-256") => {
            let mut point = vec![4];
            point.extend_from_slice(&bytes("x")?);
            point.extend_from_slice(&bytes("y")?);
            let public = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?;
            if has_private {
                let scalar = zeroize::Zeroizing::new(bytes("d")?);
                let key = p256::ecdsa::SigningKey::from_slice(&*scalar).ok()?;
                if *key.verifying_key() != public {
                    return None;
                }
                Pair::Private(PrivateKey::P256(key))
            } else {
                Pair::Public(PublicKey::P256(public))
            }
        }
        ("OKP", "Ed25519") => {
            let public = ed25519_dalek::VerifyingKey::from_bytes(&bytes("x")?).ok()?;
            if has_private {
                let seed = zeroize::Zeroizing::new(bytes("d")?);
                let key = ed25519_dalek::SigningKey::from_bytes(&seed);
                if key.verifying_key() != public {
                    return None;
                }
                Pair::Private(PrivateKey::Ed25519(key))
            } else {
                Pair::Public(PublicKey::Ed25519(public))
            }
        }
        _ => return None,
    };
    Some(Jwk {
        kid: text("kid").map(str::to_owned),
        pair,
        not_after: value
            .get("expired_at")
            .and_then(Value::as_i64)
            .map(UnixMillis::from_seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_verifiers_of_rsa_give_the_same_answers() {
        let Some(Pair::Private(key)) = from_text(include_bytes!("../../tests/verification/rsa-test-key.pem")) else {
            panic!("a private key")
        };
        let PublicKey::Rsa(public) = key.public() else {
            panic!("an RSA key")
        };
        let message = b"what the provider signed";
        let digest = crate::ids::Digest::of(message).0;
        let good = key.sign(Algorithm::RsaPkcs1Sha256, message, &digest).unwrap();
        let mut cases = vec![
            (good.clone(), true),
            (Vec::new(), false),
            (vec![0; good.len()], false),
            (vec![0xff; good.len()], false),
            (good[1..].to_vec(), false),
            ([&[0], good.as_slice()].concat(), false),
            ([good.as_slice(), &[0]].concat(), false),
        ];
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 1 << (at % 8);
            cases.push((bent, false));
        }
        for (signature, expect) in &cases {
            assert_eq!(
                verified_by_ring(&public, message, signature),
                *expect,
                "ring {signature:02x?}"
            );
            assert_eq!(
                verified_by_rsa(&public, &digest, signature),
                *expect,
                "rsa {signature:02x?}"
            );
        }
    }
}
