//! An outbox entry on its way to a destination, and the ids by which the destination recognises it.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::action::ActionKind;
use crate::ids::{
    ActionId, DestinationName, IdError, LeaseEpoch, Namespace, OperationKey, OutboxId, ReceiptId, ResendId, TenantName,
};
use crate::secret::Secret;
use crate::time::UnixMillis;

/// A leased outbox entry, with all that its delivery needs.
#[derive(Debug, Clone)]
pub struct OutboxClaim {
    /// The entry that is leased.
    pub entry: OutboxId,
    /// The `webhook-id`, made by [`message_id`].
    pub message_id: String,
    /// The lease; an attempt is recorded only while it is the newest.
    pub epoch: LeaseEpoch,
    /// Which attempt this is, from 1. Counts since the entry was made or last replayed.
    pub attempt: u32,
    /// Whose entry it is.
    pub tenant: TenantName,
    /// Where it goes.
    pub destination: DestinationName,
    /// The recorded action that it carries.
    pub action: ActionId,
    /// Together with `kind` and `operation_key`: which effect it is.
    pub namespace: Namespace,
    /// The name of the business effect.
    pub operation_key: OperationKey,
    /// The case of the action.
    pub kind: ActionKind,
    /// [`Action::to_json`](crate::action::Action::to_json), byte for byte as recorded.
    pub action_json: String,
    /// The receipt whose event led to the action.
    pub receipt: ReceiptId,
    /// When the ledger recorded the action.
    pub recorded_at: UnixMillis,
    /// Set when it was delivered before, and somebody has it sent again.
    pub resend: Option<ResendId>,
}

/// The `Idempotency-Key` of an effect: `{namespace}/{kind}/{operation key}`, at most 300 bytes of visible ASCII. Neither a namespace
/// nor a kind holds a slash, so the first two end where they say, and no two effects of a tenant share one.
pub fn idempotency_key(namespace: &Namespace, kind: ActionKind, key: &OperationKey) -> String {
    format!("{namespace}/{kind}/{key}")
}

/// `webhook-id` of one effect on its way to one destination: HMAC-SHA256 under the store's own key over the length-prefixed parts, cut
/// to 20 bytes, in hex. It is the same for every attempt, replay and resend, in a restored store too if the effect is the same one; it
/// is never another effect's, not in another store either, since each store draws its key.
pub fn message_id(
    key: &Secret,
    receipt: ReceiptId,
    namespace: &Namespace,
    kind: ActionKind,
    operation_key: &OperationKey,
    destination: &DestinationName,
) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    // The label has blanks, which no tenant's name has: no receipt's id is made of these parts.
    let parts: [&[u8]; 6] = [
        b"tollgate webhook-id 1",
        &receipt.0,
        namespace.as_str().as_bytes(),
        kind.as_str().as_bytes(),
        operation_key.as_str().as_bytes(),
        destination.as_str().as_bytes(),
    ];
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    let full: [u8; 32] = mac.finalize().into_bytes().into();
    format!("msg_{}", HEXLOWER.encode(&full[..20]))
}

/// The right to say what became of an entry that was pulled: which entry, and under which lease of it. It is a name, not a secret: only its
/// tenant's tokens are asked for it, and only the newest lease of an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullLease {
    /// The entry that is leased.
    pub entry: OutboxId,
    /// Its lease.
    pub epoch: LeaseEpoch,
}

impl fmt::Display for PullLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease_{}_{}", self.entry.0, self.epoch.0)
    }
}

impl FromStr for PullLease {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = |text: &str| text.parse().ok().filter(|number: &i64| number.to_string() == text);
        let read = || {
            let (entry, epoch) = text.strip_prefix("lease_")?.split_once('_')?;
            Some(Self {
                entry: OutboxId(number(entry)?),
                epoch: LeaseEpoch(number(epoch)?),
            })
        };
        read().ok_or(IdError::Shape {
            what: "lease",
            example: "lease_42_1",
        })
    }
}

/// The number of an entry's lane at a destination that asks for order. Entries of one lane leave in the order in which they were recorded. A
/// lane is (tenant, destination, subject): `subject` is the subject's name that [`crate::subject::key`] makes, and holds the tenant. Two lanes
/// that hash alike only wait for each other.
pub fn lane(destination: &DestinationName, subject: &[u8; 16]) -> i64 {
    use sha2::Digest as _;
    let mut hash = Sha256::new();
    for part in [b"tollgate order 1", destination.as_str().as_bytes(), subject] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let full: [u8; 32] = hash.finalize().into();
    let mut lane = [0; 8];
    lane.copy_from_slice(&full[..8]);
    i64::from_le_bytes(lane)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A second attempt at the entry `out_9`.
    pub(crate) fn claim() -> OutboxClaim {
        OutboxClaim {
            entry: OutboxId(9),
            message_id: "msg_1".to_owned(),
            epoch: LeaseEpoch(1),
            attempt: 2,
            tenant: "acme".parse().unwrap(),
            destination: "ledger".parse().unwrap(),
            action: ActionId(7),
            namespace: "loyalty".parse().unwrap(),
            operation_key: "cashback:1".parse().unwrap(),
            kind: ActionKind::Credit,
            action_json: String::new(),
            receipt: ReceiptId([0xab; 16]),
            recorded_at: UnixMillis(1_777_975_200_000),
            resend: None,
        }
    }

    /// The namespace, kind and operation key that [`idempotency_key`] made a text of. `None` for any other text.
    fn read_idempotency_key(text: &str) -> Option<(Namespace, ActionKind, OperationKey)> {
        let mut parts = text.splitn(3, '/');
        let namespace = parts.next()?.parse().ok()?;
        let kind = ActionKind::from_name(parts.next()?)?;
        Some((namespace, kind, parts.next()?.parse().ok()?))
    }

    #[test]
    fn p9_a_lease_is_written_and_read_the_same() {
        let lease = PullLease {
            entry: OutboxId(42),
            epoch: LeaseEpoch(3),
        };
        assert_eq!(lease.to_string(), "lease_42_3");
        assert_eq!("lease_42_3".parse(), Ok(lease));
        for text in [
            "",
            "lease_42",
            "lease_42_",
            "out_42_3",
            "lease_042_3",
            "lease_42_+3",
            "lease_42_3 ",
            "lease_99999999999999999999_1",
        ] {
            assert!(text.parse::<PullLease>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_two_effects_share_an_idempotency_key() {
        let kinds = ActionKind::ALL;
        let (names, keys) = (["a", "a-b", "credit"], ["a", "credit/a", "/", "a/credit/a", "b/a"]);
        let mut seen = std::collections::BTreeSet::new();
        for namespace in names {
            for kind in kinds {
                for key in keys {
                    let parts = (namespace.parse().unwrap(), kind, key.parse().unwrap());
                    let text = idempotency_key(&parts.0, parts.1, &parts.2);
                    assert_eq!(read_idempotency_key(&text), Some(parts), "{text}");
                    assert!(seen.insert(text.clone()), "{text} names two effects");
                }
            }
        }
        let longest = idempotency_key(
            &"n".repeat(63).parse().unwrap(),
            ActionKind::ReserveStock,
            &"k".repeat(200).parse().unwrap(),
        );
        assert!(longest.len() <= 300, "{}", longest.len());
    }

    #[test]
    fn a_message_id_is_of_one_effect_destination_and_store() {
        let id = |store: &[u8], receipt, namespace: &str, kind, key: &str, to: &str| {
            message_id(
                &Secret::new(store.to_vec()),
                ReceiptId([receipt; 16]),
                &namespace.parse().unwrap(),
                kind,
                &key.parse().unwrap(),
                &to.parse().unwrap(),
            )
        };
        let one = || id(b"a", 1, "n", ActionKind::Credit, "k", "d");
        assert_eq!(one(), one());
        let others = [
            id(b"b", 1, "n", ActionKind::Credit, "k", "d"),
            id(b"a", 2, "n", ActionKind::Credit, "k", "d"),
            id(b"a", 1, "m", ActionKind::Credit, "k", "d"),
            id(b"a", 1, "n", ActionKind::Flag, "k", "d"),
            id(b"a", 1, "n", ActionKind::Credit, "l", "d"),
            id(b"a", 1, "n", ActionKind::Credit, "k", "e"),
            id(b"a", 1, "n", ActionKind::Credit, "kd", "d"),
        ];
        for other in others {
            assert_ne!(one(), other);
        }
    }
}
