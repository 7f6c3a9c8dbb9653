//! Seals what tenants set by API and nobody may read: under a key of the operator's, which is in no store.
//!
//! ChaCha20-Poly1305 with a random nonce for each secret. Tenant and name are sealed with it, so that a row that somebody moves to another
//! tenant or another name does not open. The first key seals, all of them open: a key is replaced by naming the new one first.

use std::fmt;
use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use tollgate_core::ids::{SecretName, TenantName};
use tollgate_core::secret::Secret;
use tollgate_store::SealedSecret;

/// The least length of what a key is made from: as many random bytes as the key has, however they are written.
pub(crate) const SEAL_KEY_BYTES_MIN: usize = 32;
/// Keys that a host may have at once.
pub(crate) const SEAL_KEYS_MAX: usize = 8;
/// The first byte of what is sealed: how it is.
const VERSION: u8 = 1;
/// So many bytes of a digest name a key.
const NAME_BYTES: usize = 6;

/// The keys of a host. Never prints one.
#[derive(Clone, Default)]
pub(crate) struct SealKeys(Arc<[SealKey]>);

struct SealKey {
    name: String,
    key: LessSafeKey,
}

/// Why a secret does not open here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unopened {
    #[error("is sealed with the key {0}, which this host does not have")]
    NoKey(String),
    #[error("is damaged: it does not open with the key that it names")]
    Damaged,
}

impl SealKeys {
    /// The keys that are made from these texts, the one that seals first.
    pub(crate) fn of(texts: &[Secret]) -> Self {
        let keys = texts.iter().filter_map(|text| {
            // What people write is of any length and form; what is made of it is a key.
            let made = hmac::Key::new(hmac::HMAC_SHA256, text.expose());
            let key = hmac::sign(&made, b"tollgate: seals tenants' secrets");
            let name = hmac::sign(&made, b"tollgate: names the key that seals tenants' secrets");
            Some(SealKey {
                name: data_encoding::HEXLOWER.encode(name.as_ref().get(..NAME_BYTES)?),
                key: LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).ok()?),
            })
        });
        Self(keys.collect())
    }

    /// Whether nothing can be sealed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name of the key that seals.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.0.first().map(|key| key.name.as_str())
    }

    /// Whether the host has the key of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|key| key.name == name)
    }

    /// Seals a secret, and names the key. `nonce` is random and used for nothing else. None where there is no key.
    pub(crate) fn seal(
        &self,
        tenant: &TenantName,
        name: &SecretName,
        secret: &Secret,
        nonce: [u8; NONCE_LEN],
    ) -> Option<(Vec<u8>, String)> {
        let key = self.0.first()?;
        // As long as it will be: a buffer that grew would leave the secret behind.
        let mut text = Vec::with_capacity(secret.expose().len() + CHACHA20_POLY1305.tag_len());
        text.extend_from_slice(secret.expose());
        let unique = Nonce::assume_unique_for_key(nonce);
        key.key
            .seal_in_place_append_tag(unique, Aad::from(bound_to(tenant, name)), &mut text)
            .ok()?;
        Some(([&[VERSION], &nonce[..], &text].concat(), key.name.clone()))
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// When the host has not its key, or it is not what was sealed for this tenant under this name.
    pub(crate) fn open(&self, tenant: &TenantName, secret: &SealedSecret) -> Result<Secret, Unopened> {
        let view = &secret.view;
        let key = self.0.iter().find(|key| key.name == view.sealed_with);
        let key = key.ok_or_else(|| Unopened::NoKey(view.sealed_with.clone()))?;
        let open = || {
            let rest = secret.sealed.strip_prefix(&[VERSION])?;
            let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
            let mut text = sealed.to_vec();
            let bytes = key
                .key
                .open_in_place(
                    Nonce::assume_unique_for_key(*nonce),
                    Aad::from(bound_to(tenant, &view.name)),
                    &mut text,
                )
                .ok()?
                .len();
            text.truncate(bytes);
            Some(Secret::new(text))
        };
        open().ok_or(Unopened::Damaged)
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.name)).finish()
    }
}

/// What is sealed with a secret: no two pairs of names have the same.
fn bound_to(tenant: &TenantName, name: &SecretName) -> Vec<u8> {
    format!("{}:{tenant}:{name}", tenant.as_str().len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use tollgate_store::SecretView;

    use super::*;

    fn sealed(keys: &SealKeys, tenant: &str, name: &str, text: &str) -> SealedSecret {
        let (tenant, name) = (tenant.parse().unwrap(), name.parse().unwrap());
        let (sealed, sealed_with) = keys.seal(&tenant, &name, &Secret::new(text), [7; NONCE_LEN]).unwrap();
        SealedSecret {
            view: SecretView {
                name,
                at: tollgate_core::time::UnixMillis(0),
                actor: String::new(),
                why: String::new(),
                sealed_with,
                opens: None,
                used_by: Vec::new(),
            },
            sealed,
        }
    }

    #[test]
    fn o14_a_secret_opens_for_its_tenant_and_name_alone_and_shows_nothing() {
        let text = |text: &str| Secret::new(text);
        let old = SealKeys::of(&[text("an operator's key of some length")]);
        let both = SealKeys::of(&[
            text("the next of the operator's keys.."),
            text("an operator's key of some length"),
        ]);
        let acme: TenantName = "acme".parse().unwrap();
        let secret = sealed(&old, "acme", "stripe", "whsec_canary");
        assert!(!secret.sealed.windows(6).any(|part| part == b"canary"));
        for keys in [&old, &both] {
            assert!(keys.open(&acme, &secret).unwrap().matches(b"whsec_canary"));
        }
        let newer = sealed(&both, "acme", "stripe", "x");
        assert_eq!(
            old.open(&acme, &newer).unwrap_err(),
            Unopened::NoKey(newer.view.sealed_with.clone())
        );
        assert!(both.has(&newer.view.sealed_with) && !old.has(&newer.view.sealed_with));

        // Another tenant's row, another name's, and one that was changed.
        let moved = |change: &dyn Fn(&mut SealedSecret)| {
            let mut moved = secret.clone();
            change(&mut moved);
            moved
        };
        assert_eq!(
            old.open(&"acm".parse().unwrap(), &secret).unwrap_err(),
            Unopened::Damaged
        );
        let renamed = moved(&|secret| secret.view.name = "paypal".parse().unwrap());
        assert_eq!(old.open(&acme, &renamed).unwrap_err(), Unopened::Damaged);
        for at in 0..secret.sealed.len() {
            let changed = moved(&|secret| secret.sealed[at] ^= 1);
            assert_eq!(old.open(&acme, &changed).unwrap_err(), Unopened::Damaged, "{at}");
            let cut = moved(&|secret| secret.sealed.truncate(at));
            assert_eq!(old.open(&acme, &cut).unwrap_err(), Unopened::Damaged, "{at}");
        }
        assert!(SealKeys::default().is_empty());
        assert!(
            SealKeys::default()
                .seal(&acme, &secret.view.name, &text("x"), [0; NONCE_LEN])
                .is_none()
        );
        let shown = format!("{old:?} {secret:?}");
        assert!(!shown.contains("canary") && !shown.contains("some length"), "{shown}");
    }
}
