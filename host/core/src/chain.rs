//! Evidence: every receipt is hashed into the one before it (promise O5).
//!
//! `chain = SHA-256(previous chain ‖ receipt digest)`, per store lane. Changing, removing or swapping a receipt breaks every
//! later link.

use sha2::{Digest as _, Sha256};

use crate::admission::{Admission, Disposition};
use crate::ids::Digest;

/// The link before the first receipt.
pub const GENESIS: Digest = Digest([0; 32]);

/// Digest of what a receipt says for ever: who, what, when, how it was proved, what became of it.
pub fn receipt_digest(admission: &Admission, disposition: &Disposition) -> Digest {
    let event = &admission.event;
    ReceiptFacts {
        receipt: &admission.receipt.0,
        tenant: event.tenant.as_str(),
        source: event.source.as_str(),
        event_id: event.id.as_str(),
        event_type: event.event_type.as_str(),
        received_at_ms: event.received_at.0,
        scheme: &admission.proof.scheme,
        key_id: admission.proof.key_id.as_str(),
        body_digest: &admission.body_digest.0,
        disposition,
    }
    .digest()
}

/// The facts of a receipt as an auditor reads them back from the store.
#[derive(Debug, Clone, Copy)]
pub struct ReceiptFacts<'a> {
    pub receipt: &'a [u8; 16],
    pub tenant: &'a str,
    pub source: &'a str,
    pub event_id: &'a str,
    pub event_type: &'a str,
    pub received_at_ms: i64,
    pub scheme: &'a str,
    pub key_id: &'a str,
    pub body_digest: &'a [u8; 32],
    pub disposition: &'a Disposition,
}

impl ReceiptFacts<'_> {
    /// SHA-256 over the length-prefixed facts, so that no two different receipts hash the same bytes.
    pub fn digest(&self) -> Digest {
        let disposition = match self.disposition {
            Disposition::Accepted => "accepted",
            Disposition::Superseded { .. } => "superseded",
            Disposition::Held { .. } => "held",
        };
        let mut hash = Sha256::new();
        let parts: [&[u8]; 10] = [
            self.receipt,
            self.tenant.as_bytes(),
            self.source.as_bytes(),
            self.event_id.as_bytes(),
            self.event_type.as_bytes(),
            &self.received_at_ms.to_le_bytes(),
            self.scheme.as_bytes(),
            self.key_id.as_bytes(),
            self.body_digest,
            disposition.as_bytes(),
        ];
        for part in parts {
            hash.update((part.len() as u32).to_le_bytes());
            hash.update(part);
        }
        Digest(hash.finalize().into())
    }
}

/// The next link.
pub fn link(previous: &Digest, receipt: &Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(previous.0);
    hash.update(receipt.0);
    Digest(hash.finalize().into())
}
