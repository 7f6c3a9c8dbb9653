//! A message under a profile, which tests sign, bend and judge.

use std::sync::Arc;

use tollgate_core::envelope::{self, Unreadable};
use tollgate_core::event::Event;
use tollgate_core::explain::{Explanation, explain};
use tollgate_core::ids::KeyId;
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Keyring, Unproven, Verified, verify};

/// Made for these tests, and worth nothing.
pub(crate) const RSA_KEY: &str = include_str!("rsa-test-key.pem");
/// The P-256 key of RFC 6979, section A.2.5.
pub(crate) const P256_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgya+p2EW6dRZrXCFX\n\
    Z7HWk05Qw9s26JsSe4piKxIPZyGhRANCAARg/tS6JVqdMclh63TGNW1owEm4kjth\n\
    +mzmaWIuYPKftnkD/hAIuLyZpBrp6VYovGTy8bIMLX6fUXejwpTURiKZ\n\
    -----END PRIVATE KEY-----\n";
pub(crate) const P256_JWK: &str = r#"{"kty":"EC","crv":"P-256","kid":"a","x":"YP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Y","y":"eQP-EAi4vJmkGunpVii8ZPLxsgwtfp9Rd6PClNRGIpk","d":"ya-p2EW6dRZrXCFXZ7HWk05Qw9s26JsSe4piKxIPZyE"}"#;

/// What a test may bend.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) profile: Arc<Profile>,
    pub(crate) secrets: Vec<SourceSecret>,
    pub(crate) parameters: Parameters,
    pub(crate) method: String,
    pub(crate) path: Option<String>,
    pub(crate) query: Option<String>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) url: Option<String>,
    pub(crate) received_at: UnixMillis,
}

impl Message {
    /// Signed by the profile itself at 1,700,000,000 s, with the id `msg_1` (a UUID for Twitch, which wants one).
    pub(crate) fn signed(provider: &str, secrets: &[(&str, &str)], body: &str) -> Self {
        Self::signed_by(shipped()[provider].clone(), secrets, body)
    }

    pub(crate) fn signed_by(profile: Arc<Profile>, secrets: &[(&str, &str)], body: &str) -> Self {
        let secrets: Vec<_> = secrets.iter().map(|(id, text)| secret(id, text)).collect();
        let at = UnixMillis::from_seconds(1_700_000_000);
        let url = "https://in.example.test/hook";
        let parameters = parameters(profile.name.as_str());
        let input = SignInput {
            body: body.as_bytes(),
            id: message_id(profile.name.as_str()),
            at,
            url: Some(url),
        };
        let signed = sign(&profile, &secrets, &parameters, &input).unwrap();
        let headers = signed.headers.into_iter();
        Self {
            secrets,
            parameters,
            method: "POST".into(),
            path: None,
            query: signed.query,
            headers: headers.map(|(name, value)| (name, value.into_bytes())).collect(),
            body: signed.body.into_owned(),
            url: Some(url.to_owned()),
            received_at: at,
            profile,
        }
    }

    /// The provider's own sample, signed with a key that suits it.
    pub(crate) fn sample(provider: &str) -> Self {
        Self::signed(provider, &[("a", key(provider))], body(provider))
    }

    pub(crate) fn keyring(&self) -> Keyring {
        Keyring::with_parameters(&self.profile, &self.secrets, &self.parameters).unwrap()
    }

    pub(crate) fn request<T>(&self, then: impl FnOnce(&Keyring, RawRequest<'_>) -> T) -> T {
        self.request_with(&self.keyring(), then)
    }

    pub(crate) fn request_with<T>(&self, keyring: &Keyring, then: impl FnOnce(&Keyring, RawRequest<'_>) -> T) -> T {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| Header { name, value })
            .collect();
        let request = RawRequest {
            method: &self.method,
            path: self.path.as_deref(),
            query: self.query.as_deref(),
            headers: &headers,
            body: &self.body,
            url: self.url.as_deref(),
            received_at: self.received_at,
        };
        then(keyring, request)
    }

    pub(crate) fn verified<T>(&self, then: impl FnOnce(&Verified<'_>) -> T) -> T {
        self.request(|keyring, request| then(&verify(&self.profile, keyring, request).unwrap()))
    }

    /// The key id of the match.
    pub(crate) fn verify(&self) -> Result<String, Unproven> {
        self.request(|keyring, request| verify(&self.profile, keyring, request).map(|v| v.proof().key_id.to_string()))
    }

    pub(crate) fn reason(&self) -> &'static str {
        self.verify().map_or_else(|unproven| unproven.reason(), |_| "verified")
    }

    pub(crate) fn read_all(&self) -> Result<Vec<Event>, Unreadable> {
        self.verified(|verified| {
            envelope::read(
                &self.profile,
                verified,
                &"acme".parse().unwrap(),
                &"in".parse().unwrap(),
            )
        })
    }

    /// The only event.
    pub(crate) fn read(&self) -> Result<Event, Unreadable> {
        let mut events = self.read_all()?;
        assert_eq!(events.len(), 1);
        Ok(events.remove(0))
    }

    pub(crate) fn explain(&self) -> Explanation {
        self.request(|keyring, request| {
            let unproven = verify(&self.profile, keyring, request).unwrap_err();
            explain(&self.profile, keyring, &request, &unproven)
        })
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
    }

    pub(crate) fn header(&self, name: &str) -> String {
        let value = self
            .headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone());
        String::from_utf8(value.unwrap()).unwrap()
    }
}

pub(crate) fn secret(id: &str, text: &str) -> SourceSecret {
    SourceSecret {
        id: KeyId::new(id).unwrap(),
        text: Secret::new(text),
        not_before: None,
        not_after: None,
    }
}

/// Every profile that a request can be proved by.
pub(crate) fn provable() -> Vec<&'static str> {
    let names = shipped().keys().map(|name| name.as_str());
    names.filter(|name| *name != "mollie-classic").collect()
}

pub(crate) fn message_id(provider: &str) -> &'static str {
    match provider {
        "twitch" => "e76c6bd4-55c9-4987-8304-da1588d8988b",
        _ => "msg_1",
    }
}

/// A secret that suits the profile, and signs.
pub(crate) fn key(provider: &str) -> &'static str {
    match provider {
        "standard-webhooks" | "svix" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "rfc9421-http-message-signatures" => "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "adyen" | "adyen-platform" => "DFB1EB5485895CFA84146406857104ABB4CBCABDC8AAF103A624C8F6A3EAAB00",
        "sendgrid" => P256_KEY,
        "plaid" => P256_JWK,
        "wise" | "paypal" => RSA_KEY,
        _ => "s3cRe7-at-least-10",
    }
}

/// What a source of the profile says beside its secrets.
pub(crate) fn parameters(provider: &str) -> Parameters {
    let values: &[(&str, &str)] = match provider {
        "wise" => &[("subscription_id", "sub-1")],
        "paypal" => &[("webhook_id", "WH-1")],
        "meta" => &[("verify_token", "t0ken")],
        "cloudevents-http" => &[("allowed_origin", "events.example.test")],
        _ => &[],
    };
    values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
        .collect()
}

/// A body that the provider could send, without white space.
pub(crate) fn body(provider: &str) -> &'static str {
    match provider {
        "adyen" => {
            r#"{"live":"false","notificationItems":[{"NotificationRequestItem":{"pspReference":"7914073381342284","merchantAccountCode":"TestMerchant","merchantReference":"order:1","amount":{"value":1130,"currency":"EUR"},"eventCode":"AUTHORISATION","success":"true","eventDate":"2024-01-01T00:00:00+01:00"}}]}"#
        }
        "mailgun" => {
            r#"{"event-data":{"id":"e1","event":"delivered","timestamp":1700000000.25,"recipient":"a@example.test"}}"#
        }
        "sendgrid" => r#"[{"sg_event_id":"e1","event":"delivered","timestamp":1700000000,"sg_message_id":"m1"}]"#,
        "meta" => r#"{"object":"page","entry":[{"id":"p1","time":1700000000}]}"#,
        "twilio" => "MessageSid=SM1&MessageStatus=delivered&To=15550100",
        "wise" => {
            r#"{"subscription_id":"sub-1","event_type":"transfers#state-change","data":{"resource":{"id":7},"current_state":"processing","occurred_at":"2024-01-01T00:00:00Z"}}"#
        }
        "plaid" => r#"{"webhook_type":"ITEM","webhook_code":"ERROR","item_id":"i1"}"#,
        _ => r#"{"id":"1","type":"t"}"#,
    }
}
