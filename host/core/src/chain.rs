//! Evidence: every receipt is hashed into the one before it (promise O5).
//!
//! `chain = SHA-256(previous chain ‖ receipt digest)`, one chain per store. Changing, removing or swapping a receipt breaks every
//! later link.

use sha2::{Digest as _, Sha256};

use crate::admission::Disposition;
use crate::event::{Event, Proof, StatusReading};
use crate::ids::{Digest, ReceiptId};

/// The link before the first receipt.
pub const GENESIS: Digest = Digest([0; 32]);

/// What a receipt says for ever: who, what, when, how it was proved and read, what became of it. Admission and audit both make its digest
/// from these facts.
#[derive(Debug, Clone, Copy)]
pub struct ReceiptFacts<'a> {
    /// The receipt's name.
    pub receipt: ReceiptId,
    /// Its payload is not looked at: `body_commitment` stands for it.
    pub event: &'a Event,
    /// How the request was proved.
    pub proof: &'a Proof,
    /// [`crate::event::ENVELOPE_VERSION`] when it was admitted.
    pub envelope_version: u32,
    /// The version of the lifecycle that judged the event, if one did.
    pub lifecycle_version: Option<u32>,
    /// What stands for the body; see [`crate::commitment::body_commitment`].
    pub body_commitment: Digest,
    /// What became of the receipt when it was admitted.
    pub disposition: &'a Disposition,
}

impl ReceiptFacts<'_> {
    /// SHA-256 over the length-prefixed facts, so that no two different receipts hash the same bytes.
    pub fn digest(&self) -> Digest {
        let (event, proof) = (self.event, self.proof);
        let (disposition, detail) = match self.disposition {
            Disposition::Accepted => ("accepted", None),
            Disposition::Superseded { current } => ("superseded", Some(current.as_str())),
            Disposition::Held { reason } => ("held", Some(reason.as_str())),
        };
        let mut hash = Facts(Sha256::new());
        hash.bytes(&self.receipt.0);
        hash.text(event.tenant.as_str());
        hash.text(event.source.as_str());
        hash.text(event.id.as_str());
        hash.text(event.event_type.as_str());
        hash.bytes(&event.received_at.0.to_le_bytes());
        hash.text(&proof.scheme);
        hash.text(proof.key_id.as_str());
        hash.bytes(&self.body_commitment.0);
        hash.text(disposition);
        hash.optional(detail);
        hash.optional(event.subject.as_ref().map(|subject| subject.as_str()));
        let (reading, label) = match &event.reading {
            StatusReading::Stateless => ("stateless", None),
            StatusReading::Mapped { status, .. } => ("mapped", Some(status.as_str())),
            StatusReading::Unmapped { label, .. } => ("unmapped", label.as_deref()),
        };
        hash.text(reading);
        hash.optional(event.reading.family().map(|family| family.as_str()));
        hash.optional(label);
        hash.number(event.occurred_at.map(|at| at.0));
        hash.number(event.amount.map(|amount| amount.minor_units()));
        hash.optional(
            event
                .amount
                .map(|amount| amount.currency())
                .as_ref()
                .map(|currency| currency.as_str()),
        );
        for (name, value) in &event.attributes {
            hash.text(name);
            hash.text(value);
        }
        hash.number(i64::try_from(event.attributes.len()).ok());
        hash.text(proof.provider.as_str());
        hash.number(Some(proof.profile_version.into()));
        hash.number(proof.signed_at.map(|at| at.0));
        hash.number(self.lifecycle_version.map(i64::from));
        hash.number(Some(self.envelope_version.into()));
        Digest(hash.0.finalize().into())
    }
}

/// A hash of facts, each behind its length.
struct Facts(Sha256);

impl Facts {
    fn bytes(&mut self, fact: &[u8]) {
        self.0.update((fact.len() as u32).to_le_bytes());
        self.0.update(fact);
    }

    fn text(&mut self, fact: &str) {
        self.bytes(fact.as_bytes());
    }

    /// A fact that may be absent, which is not the same as empty: absence is a length that no fact has.
    fn optional(&mut self, fact: Option<&str>) {
        match fact {
            Some(fact) => self.text(fact),
            None => self.0.update(u32::MAX.to_le_bytes()),
        }
    }

    fn number(&mut self, fact: Option<i64>) {
        match fact {
            Some(fact) => self.bytes(&fact.to_le_bytes()),
            None => self.optional(None),
        }
    }
}

/// The link of a receipt with this digest, behind `previous`.
pub fn link(previous: &Digest, receipt: &Digest) -> Digest {
    let mut hash = Sha256::new();
    hash.update(previous.0);
    hash.update(receipt.0);
    Digest(hash.finalize().into())
}
