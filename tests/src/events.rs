//! Events as their providers send them, signed by the same profiles that verify them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use tollgate_core::ids::KeyId;
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;

/// Headers and body, ready to be sent.
#[derive(Debug, Clone)]
pub struct Message {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    /// The same with one byte of the body changed: still JSON, no longer what was signed.
    #[must_use]
    pub fn tampered(mut self) -> Self {
        if let Some(byte) = self.body.iter_mut().rev().find(|byte| byte.is_ascii_alphanumeric()) {
            *byte = if *byte == b'7' { b'8' } else { b'7' };
        }
        self
    }

    /// The same without its signature.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        self.headers.clear();
        self
    }
}

/// One sender with its secret.
#[derive(Clone)]
pub struct Signer {
    profile: Arc<Profile>,
    secret: SourceSecret,
}

impl Signer {
    /// # Panics
    /// When no such provider ships.
    pub fn new(provider: &str, secret: &str) -> Self {
        let (_, profile) = shipped()
            .iter()
            .find(|(name, _)| name.as_str() == provider)
            .unwrap_or_else(|| panic!("no profile `{provider}`"));
        let secret = SourceSecret {
            id: KeyId::new("test").expect("a key id"),
            text: Secret::new(secret),
            not_before: None,
            not_after: None,
        };
        Self {
            profile: Arc::clone(profile),
            secret,
        }
    }

    /// A sender of a profile of one's own.
    ///
    /// # Panics
    /// When the text is no profile.
    pub fn of_file(text: &str, secret: &str) -> Self {
        let profile = Profile::from_toml(text).expect("a profile");
        Self {
            profile: Arc::new(profile),
            ..Self::new("generic-hmac", secret)
        }
    }

    /// Signs now.
    pub fn sign(&self, id: &str, body: impl Into<Vec<u8>>) -> Message {
        self.sign_at(id, body, now())
    }

    /// Signs as if it were `at`. `id` is used by schemes that have it in a header.
    ///
    /// # Panics
    /// When the scheme cannot sign this.
    pub fn sign_at(&self, id: &str, body: impl Into<Vec<u8>>, at: UnixMillis) -> Message {
        let body = body.into();
        let input = SignInput {
            body: &body,
            id,
            at,
            url: None,
        };
        let secrets = std::slice::from_ref(&self.secret);
        let signed = sign(&self.profile, secrets, &Parameters::new(), &input).expect("a message to sign");
        Message {
            headers: signed.headers,
            body: signed.body.into_owned(),
        }
    }
}

/// The four families that a tenant of the tests has a source for: (source, provider, secret).
pub const FAMILIES: [(&str, &str, &str); 4] = [
    ("shop", "generic-hmac", "shop-secret-1f0c2d"),
    (
        "orders",
        "standard-webhooks",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwk3q1hJmXc3Y=",
    ),
    ("payments", "stripe", "whsec_stripe-live-77a1"),
    ("rewards", "voucherify", "voucherify-secret-09aa"),
];

/// The signer of a source of [`FAMILIES`].
///
/// # Panics
/// When there is no such source.
pub fn signer(source: &str) -> Signer {
    let (_, provider, secret) = FAMILIES
        .iter()
        .find(|(name, ..)| *name == source)
        .unwrap_or_else(|| panic!("no source `{source}`"));
    Signer::new(provider, secret)
}

/// A valid event of each family, its id unlike all others: for tests that do not care what it says.
pub fn any_event(source: &str, id: &str) -> String {
    match source {
        "shop" => redeemed(id, id, "success"),
        "orders" => order(id),
        "payments" => payment(id, id, "payment_intent.created", "requires_payment_method"),
        "rewards" => redemption(id, id, id, "PENDING"),
        other => panic!("no source `{other}`"),
    }
}

/// `reward.redeemed` as G1 has it: 5.00 INR by user_678.
pub fn redeemed(event: &str, redemption: &str, status: &str) -> String {
    redeemed_by(event, redemption, status, "user_678")
}

/// The same by another customer.
pub fn redeemed_by(event: &str, redemption: &str, status: &str, customer: &str) -> String {
    json!({
        "event": "reward.redeemed", "event_id": event, "redemption_id": redemption, "user_id": customer,
        "reward_id": "reward_999", "amount": 500, "currency": "INR", "status": status,
        "timestamp": "2026-05-05T10:00:00Z",
    })
    .to_string()
}

/// An event of no family with a lifecycle, by the generic profile.
pub fn plain(event_type: &str, event: &str) -> String {
    json!({ "event": event_type, "event_id": event, "order_id": event }).to_string()
}

/// A Standard Webhooks event; its id stands in a header.
pub fn order(order: &str) -> String {
    json!({ "type": "order.paid", "timestamp": "2026-05-05T10:00:00Z", "data": { "id": order } }).to_string()
}

/// A Stripe event about a payment intent.
pub fn payment(event: &str, intent: &str, event_type: &str, status: &str) -> String {
    json!({
        "id": event, "object": "event", "type": event_type, "created": 1_777_975_200,
        "data": { "object": { "id": intent, "object": "payment_intent", "status": status, "amount": 2000, "currency": "usd",
            "customer": "cus_1" } },
    })
    .to_string()
}

/// A Voucherify event about a reward's redemption: `state` in capitals, as Voucherify has it.
pub fn redemption(event: &str, reward_redemption: &str, operation: &str, state: &str) -> String {
    let event_type = format!("customer.reward_redemptions.{}", state.to_ascii_lowercase());
    json!({
        "id": format!("whs_{event}"), "type": event_type, "created_at": "2024-05-13T12:34:10.999Z",
        "data": {
            "customer": { "id": "cust_1", "object": "customer" },
            "reward": { "id": "rew_1", "product": { "id": "prod_1", "source_id": "laptop_123" } },
            "reward_redemption": { "id": reward_redemption, "state": state, "source_id": operation },
        },
        "event": { "id": event, "type": event_type, "created_at": "2024-05-13T12:34:10.464Z", "entity_id": "cust_1" },
    })
    .to_string()
}

/// The clock.
pub fn now() -> UnixMillis {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
