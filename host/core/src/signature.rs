//! Publishers' signatures: who vouches for a plugin's exact bytes. [`crate::checkpoint`] uses the same keys.
//!
//! A signature is detached: a small JSON document beside the component ([`PluginSignature`]), so that signing changes no digest. It
//! is an Ed25519 signature (RFC 8032) over [`signed_message`], which holds the component's SHA-256 digest, and so all of its bytes,
//! manifest included. A tenant registers the public keys of the publishers that it believes; nobody else's count.
//!
//! What a signature does not say: that the plugin is good, or that it is meant for a certain tenant, route or event.

use data_encoding::BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ids::{KeyId, PluginDigest, PublisherName};
use crate::mask;

/// The value of `format` in the document. Every change of the document's meaning changes it.
pub const FORMAT: &str = "tollgate-plugin-signature/1";
/// The longest document that is read. A usual one has about 300 bytes.
pub const DOCUMENT_BYTES_MAX: usize = 4096;

const KEY_BYTES: usize = 32;
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// A publisher's statement that it vouches for one component. Only [`PluginSignature::verify`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSignature {
    /// Who vouches.
    pub publisher: PublisherName,
    /// Which of the publisher's keys signed.
    pub key_id: KeyId,
    /// The component that was signed.
    pub digest: PluginDigest,
    signature: [u8; SIGNATURE_BYTES],
}

/// A publisher's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A publisher's private key. `Debug` shows nothing of it; it is wiped when it is dropped.
#[derive(Clone)]
pub struct PrivateKey(SigningKey);

/// Why a document is not a signature, or not one that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The document is over the bound.
    #[error("the signature is {bytes} bytes long; at most {DOCUMENT_BYTES_MAX} are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The document cannot be read.
    #[error("the signature is not the JSON document that `tollgate plugin sign` writes: {reason}")]
    Document {
        /// What is wrong, in words.
        reason: String,
    },
    /// The document is of another version.
    #[error("the signature has the format `{found}`; this Tollgate knows {FORMAT}")]
    Format {
        /// What it calls its format.
        found: String,
    },
    /// The signature is not base64 of the right length.
    #[error("`signature` must be {SIGNATURE_BYTES} bytes in base64")]
    Encoding,
    /// The signature is for another component.
    #[error("the signature is for {signed}, but the component is {component}; sign the component that you upload")]
    OtherComponent {
        /// The component that was signed.
        signed: PluginDigest,
        /// The component that was uploaded.
        component: PluginDigest,
    },
    /// The signature is not by this key.
    #[error("the signature does not fit the component and the key `{key_id}` of `{publisher}`")]
    Forged {
        /// Who was said to vouch.
        publisher: PublisherName,
        /// The key that was said to have signed.
        key_id: KeyId,
    },
}

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// The text is not base64 of the right length.
    #[error("a key is {KEY_BYTES} bytes in base64, 44 characters")]
    Encoding,
    /// No key of Ed25519 has these bytes.
    #[error("the bytes are no public key of Ed25519")]
    NotAPoint,
    /// The key is of small order, so that signatures can be made for it without its private half.
    #[error("the key is one of the few that would fit any signature")]
    Weak,
}

/// The document as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    publisher: PublisherName,
    key_id: KeyId,
    digest: PluginDigest,
    signature: String,
}

/// What is signed: the format, the publisher and the key as well as the digest, so that one signature cannot be passed off as
/// another publisher's or as another kind of document's.
pub fn signed_message(publisher: &PublisherName, key_id: &KeyId, digest: PluginDigest) -> Vec<u8> {
    // None of the parts can hold a line break.
    format!("{FORMAT}\n{publisher}\n{key_id}\n{digest}\n").into_bytes()
}

impl PluginSignature {
    /// Reads the document that stands beside a component.
    ///
    /// # Errors
    /// What is wrong with the document. Nothing is said yet about whether the signature is good.
    pub fn from_json(json: &[u8]) -> Result<Self, SignatureError> {
        if json.len() > DOCUMENT_BYTES_MAX {
            return Err(SignatureError::TooLong { bytes: json.len() });
        }
        let document: Document = serde_json::from_slice(json).map_err(|error| SignatureError::Document {
            reason: mask::line(&error.to_string(), 256),
        })?;
        if document.format != FORMAT {
            return Err(SignatureError::Format {
                found: mask::line(&document.format, 64),
            });
        }
        let signature = BASE64
            .decode(document.signature.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(SignatureError::Encoding)?;
        Ok(Self {
            publisher: document.publisher,
            key_id: document.key_id,
            digest: document.digest,
            signature,
        })
    }

    /// The document, in one line of ASCII but for its line break: fit for an HTTP header as well.
    pub fn to_json(&self) -> String {
        let document = Document {
            format: FORMAT.to_owned(),
            publisher: self.publisher.clone(),
            key_id: self.key_id.clone(),
            digest: self.digest,
            signature: BASE64.encode(&self.signature),
        };
        serde_json::to_string(&document).expect("a signature is strings")
    }

    /// Whether the holder of `key` signed exactly the component of this digest. Strict: keys and signatures that other verifiers
    /// could judge otherwise are refused.
    ///
    /// # Errors
    /// [`SignatureError::OtherComponent`] or [`SignatureError::Forged`].
    pub fn verify(&self, key: &PublicKey, component: PluginDigest) -> Result<(), SignatureError> {
        if self.digest != component {
            return Err(SignatureError::OtherComponent {
                signed: self.digest,
                component,
            });
        }
        let message = signed_message(&self.publisher, &self.key_id, self.digest);
        if key.fits(&message, &self.signature) {
            Ok(())
        } else {
            Err(SignatureError::Forged {
                publisher: self.publisher.clone(),
                key_id: self.key_id.clone(),
            })
        }
    }
}

impl PublicKey {
    /// Reads the key as [`PublicKey::to_text`] writes it; white space around it is allowed.
    ///
    /// # Errors
    /// When the text is no key, or a key that fits any signature.
    pub fn from_text(text: &str) -> Result<Self, KeyTextError> {
        Self::from_bytes(&*key_bytes(text)?)
    }

    /// Takes the key as RFC 8032 encodes it.
    ///
    /// # Errors
    /// As [`PublicKey::from_text`].
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<Self, KeyTextError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyTextError::NotAPoint)?;
        if key.is_weak() {
            return Err(KeyTextError::Weak);
        }
        Ok(Self(key))
    }

    /// The key's 32 bytes in base64.
    pub fn to_text(&self) -> String {
        BASE64.encode(self.0.as_bytes())
    }

    /// The key as RFC 8032 encodes it.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.as_bytes()
    }

    /// Strict: signatures that other verifiers could judge otherwise do not fit.
    pub(crate) fn fits(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl PrivateKey {
    /// Makes a key of 32 random bytes, which the caller draws.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads the seed in base64, as [`PrivateKey::to_text`] writes it.
    ///
    /// # Errors
    /// When the text is not 32 bytes in base64.
    pub fn from_text(text: &str) -> Result<Self, KeyTextError> {
        Ok(Self::from_seed(&*key_bytes(text)?))
    }

    /// The seed in base64: a secret, for the file in which its owner keeps it.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_bytes()))
    }

    /// The public half, which others verify with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a component in a publisher's name.
    pub fn sign(&self, publisher: PublisherName, key_id: KeyId, digest: PluginDigest) -> PluginSignature {
        let signature = self.sign_message(&signed_message(&publisher, &key_id, digest));
        PluginSignature {
            publisher,
            key_id,
            digest,
            signature,
        }
    }

    /// Every kind of message begins with its format's name, so that no signature passes for one of another kind.
    pub(crate) fn sign_message(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

fn key_bytes(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyTextError> {
    let bytes = Zeroizing::new(
        BASE64
            .decode(text.trim().as_bytes())
            .map_err(|_| KeyTextError::Encoding)?,
    );
    let bytes: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| KeyTextError::Encoding)?;
    Ok(Zeroizing::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (PrivateKey, PluginSignature, PluginDigest) {
        let key = PrivateKey::from_seed(&[7; 32]);
        let digest = PluginDigest::of(b"component");
        let signature = key.sign("acme".parse().unwrap(), "2026-05".parse().unwrap(), digest);
        (key, signature, digest)
    }

    #[test]
    fn a_signature_fits_its_component_and_its_key_only() {
        let (key, signature, digest) = signed();
        assert_eq!(signature.verify(&key.public(), digest), Ok(()));
        let other = PluginDigest::of(b"component!");
        assert_eq!(
            signature.verify(&key.public(), other),
            Err(SignatureError::OtherComponent {
                signed: digest,
                component: other
            })
        );
        let stranger = PrivateKey::from_seed(&[8; 32]).public();
        assert!(matches!(
            signature.verify(&stranger, digest),
            Err(SignatureError::Forged { .. })
        ));
        // What is around the digest is signed as well.
        let renamed = PluginSignature {
            publisher: "globex".parse().unwrap(),
            ..signature.clone()
        };
        assert!(matches!(
            renamed.verify(&key.public(), digest),
            Err(SignatureError::Forged { .. })
        ));
        let passed_on = PluginSignature {
            digest: other,
            ..signature
        };
        assert!(matches!(
            passed_on.verify(&key.public(), other),
            Err(SignatureError::Forged { .. })
        ));
    }

    #[test]
    fn documents_and_keys_read_back_and_bad_ones_are_told_apart() {
        let (key, signature, _) = signed();
        let json = signature.to_json();
        assert!(json.is_ascii() && !json.contains('\n'), "{json}");
        assert_eq!(PluginSignature::from_json(json.as_bytes()), Ok(signature));
        assert_eq!(PublicKey::from_text(&key.public().to_text()), Ok(key.public()));
        assert_eq!(PrivateKey::from_text(&key.to_text()).unwrap().public(), key.public());
        assert_eq!(format!("{key:?}"), "PrivateKey(…)");

        let check = |from: &str, to: &str, expect: &str| {
            assert!(json.contains(from), "{from}");
            let error = PluginSignature::from_json(json.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expect), "{to}: {error}");
        };
        check("signature/1", "signature/2", "has the format");
        check("acme", "Acme", "publisher name has the character");
        check("sha256:", "sha1:", "digest must look like");
        check("\"publisher\"", "\"author\"", "unknown field `author`");
        check("==\"", "\"", "64 bytes in base64");
        let long = vec![b' '; DOCUMENT_BYTES_MAX + 1];
        assert!(matches!(
            PluginSignature::from_json(&long),
            Err(SignatureError::TooLong { .. })
        ));

        assert_eq!(PublicKey::from_text("AAAA"), Err(KeyTextError::Encoding));
        // The neutral element: a signature of zeros would fit every message.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicKey::from_bytes(&neutral), Err(KeyTextError::Weak));
    }
}
