//! Checkpoints of the evidence: a signed note of how many receipts a store has, and of the links up to there.
//!
//! The chain of a store ([`crate::chain`]) shows what was changed inside it. It cannot show that its end was cut off and its head
//! moved back, or that somebody who may write the files computed the whole chain anew: SHA-256 needs no key. A checkpoint that
//! is kept elsewhere shows both, because whoever rewrites the store cannot rewrite the note.
//!
//! Beside the store's one chain it notes each tenant's own: the same links, over that tenant's receipts alone. So a tenant can
//! be given a checkpoint that says nothing of others, and be shown later that its receipts are still the same.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

use crate::chain;
use crate::ids::{Digest, TenantName};
use crate::mask;
use crate::secret::Secret;
use crate::signature::{PrivateKey, PublicKey, SIGNATURE_BYTES};
use crate::time::UnixMillis;

/// The value of `format` in the document. Every change of the document's meaning changes it.
pub const FORMAT: &str = "tollgate-checkpoint/1";
/// The longest document that is read. A tenant takes about 160 bytes of it.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Names a store. It is derived from the store's own key, and reveals nothing of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// The id of the store that has this receipt key.
    pub fn of(receipt_key: &Secret) -> Self {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        hash.update(b"tollgate store id\n");
        hash.update(receipt_key.expose());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    fn from_text(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("store_")?;
        Some(Self(HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store_{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StoreId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StoreId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no store's id")))
    }
}

/// A place in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// How many receipts the chain has up to here.
    pub receipts: u64,
    /// The link of the last of them.
    pub head: Digest,
}

impl Mark {
    /// The place before the first receipt.
    pub const NONE: Self = Self {
        receipts: 0,
        head: chain::GENESIS,
    };

    /// The place behind one more receipt, whose facts have this digest.
    #[must_use]
    pub fn after(self, receipt: &Digest) -> Self {
        Self {
            receipts: self.receipts + 1,
            head: chain::link(&self.head, receipt),
        }
    }
}

/// What a store had at an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which store it is of.
    pub store: StoreId,
    /// When it was made.
    pub at: UnixMillis,
    /// The store's own chain; none where the checkpoint is for one tenant, who is told nothing of others.
    pub chain: Option<Mark>,
    /// Each tenant's receipts, chained by themselves in the order of the store.
    pub tenants: BTreeMap<TenantName, Mark>,
}

/// A checkpoint with somebody's signature, which only [`SignedCheckpoint::verify`] checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    signature: [u8; SIGNATURE_BYTES],
}

/// Why a document is not a checkpoint, or not one that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The document is over the bound.
    #[error("the checkpoint is {bytes} bytes long; at most {DOCUMENT_BYTES_MAX} are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The document cannot be read.
    #[error("the checkpoint is not the JSON document that `tollgate audit checkpoint` writes: {reason}")]
    Document {
        /// What is wrong, in words.
        reason: String,
    },
    /// The document is of another version.
    #[error("the checkpoint has the format `{found}`; this Tollgate knows {FORMAT}")]
    Format {
        /// What it calls its format.
        found: String,
    },
    /// The signature is not of this checkpoint by this key.
    #[error("the checkpoint's signature does not fit it and the key: it was changed, or another key signed it")]
    Forged,
}

/// The document as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    store: String,
    at: String,
    chain: Option<Mark>,
    tenants: BTreeMap<TenantName, Mark>,
    signature: String,
}

impl Checkpoint {
    /// What is signed. No part can hold a line break, and the numbers of lines and their first words leave no two checkpoints the
    /// same bytes.
    fn message(&self) -> Vec<u8> {
        let mut text = format!("{FORMAT}\n{}\n{}\n", self.store, self.at.0);
        if let Some(Mark { receipts, head }) = &self.chain {
            text.push_str(&format!("chain {receipts} {head}\n"));
        }
        for (tenant, Mark { receipts, head }) in &self.tenants {
            text.push_str(&format!("tenant {tenant} {receipts} {head}\n"));
        }
        text.into_bytes()
    }

    /// Signs the checkpoint.
    pub fn signed(self, key: &PrivateKey) -> SignedCheckpoint {
        SignedCheckpoint {
            signature: key.sign_message(&self.message()),
            checkpoint: self,
        }
    }
}

impl SignedCheckpoint {
    /// Reads the document. Does not check its signature.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn from_json(json: &[u8]) -> Result<Self, CheckpointError> {
        if json.len() > DOCUMENT_BYTES_MAX {
            return Err(CheckpointError::TooLong { bytes: json.len() });
        }
        let wrong = |reason: &str| CheckpointError::Document {
            reason: mask::line(reason, 256),
        };
        let document: Document = serde_json::from_slice(json).map_err(|error| wrong(&error.to_string()))?;
        if document.format != FORMAT {
            return Err(CheckpointError::Format {
                found: mask::line(&document.format, 64),
            });
        }
        let signature = BASE64
            .decode(document.signature.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| wrong("`signature` must be 64 bytes in base64"))?;
        let store = StoreId::from_text(&document.store)
            .ok_or_else(|| wrong("`store` must be store_ and 32 hexadecimal digits"))?;
        let at = UnixMillis::from_rfc3339(&document.at).ok_or_else(|| wrong("`at` must be an instant of RFC 3339"))?;
        Ok(Self {
            checkpoint: Checkpoint {
                store,
                at,
                chain: document.chain,
                tenants: document.tenants,
            },
            signature,
        })
    }

    /// The document, for people too.
    pub fn to_json(&self) -> String {
        let Checkpoint {
            store,
            at,
            chain,
            tenants,
        } = &self.checkpoint;
        let document = Document {
            format: FORMAT.to_owned(),
            store: store.to_string(),
            at: at.to_string(),
            chain: *chain,
            tenants: tenants.clone(),
            signature: BASE64.encode(&self.signature),
        };
        serde_json::to_string_pretty(&document).expect("a checkpoint is strings and numbers")
    }

    /// The checkpoint, if the holder of `key` signed exactly it.
    ///
    /// # Errors
    /// [`CheckpointError::Forged`].
    pub fn verify(&self, key: &PublicKey) -> Result<&Checkpoint, CheckpointError> {
        if key.fits(&self.checkpoint.message(), &self.signature) {
            Ok(&self.checkpoint)
        } else {
            Err(CheckpointError::Forged)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let mark = |byte: u8| Mark::NONE.after(&Digest([byte; 32]));
        Checkpoint {
            store: StoreId::of(&Secret::new(vec![1; 32])),
            at: UnixMillis(1_790_000_000_123),
            chain: Some(mark(1).after(&Digest([2; 32]))),
            tenants: [("acme".parse().unwrap(), mark(1)), ("globex".parse().unwrap(), mark(2))].into(),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_and_counts_only_as_it_was_signed() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let json = checkpoint().signed(&key).to_json();
        let read = SignedCheckpoint::from_json(json.as_bytes()).unwrap();
        assert_eq!(read.verify(&key.public()), Ok(&checkpoint()));
        let stranger = PrivateKey::from_seed(&[8; 32]).public();
        assert_eq!(read.verify(&stranger), Err(CheckpointError::Forged));

        let forged = |from: &str, to: &str| {
            assert!(json.contains(from), "{from}: {json}");
            let changed = SignedCheckpoint::from_json(json.replacen(from, to, 1).as_bytes()).unwrap();
            assert_eq!(changed.verify(&key.public()), Err(CheckpointError::Forged), "{from}");
        };
        forged("\"receipts\": 2", "\"receipts\": 1");
        // One digit of a link.
        let digit = json.find("sha256:").unwrap() + 10;
        let other = if json.as_bytes()[digit] == b'0' { "1" } else { "0" };
        let mut changed = json.clone();
        changed.replace_range(digit..=digit, other);
        let changed = SignedCheckpoint::from_json(changed.as_bytes()).unwrap();
        assert_eq!(changed.verify(&key.public()), Err(CheckpointError::Forged));
        forged(".123Z", ".124Z");
        forged("globex", "hooli");
    }

    #[test]
    fn what_is_no_checkpoint_is_told_apart() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let json = checkpoint().signed(&key).to_json();
        let check = |from: &str, to: &str, expect: &str| {
            assert!(json.contains(from), "{from}");
            let error = SignedCheckpoint::from_json(json.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(error.to_string().contains(expect), "{to}: {error}");
        };
        check("checkpoint/1", "checkpoint/2", "has the format");
        check("acme", "Acme", "tenant name has the character");
        check("sha256:", "sha1:", "digest must look like");
        check("store_", "shop_", "`store` must be");
        check(".123Z", ".123", "`at` must be");
        check("==\"", "\"", "64 bytes in base64");
        check("\"chain\"", "\"chains\"", "unknown field `chains`");
        let long = vec![b' '; DOCUMENT_BYTES_MAX + 1];
        assert!(matches!(
            SignedCheckpoint::from_json(&long),
            Err(CheckpointError::TooLong { .. })
        ));
    }
}
