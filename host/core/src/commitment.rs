//! What stands for a body in the chain (promise O5).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::ids::{Digest, TenantName};
use crate::secret::Secret;

/// What a chain says of a body: HMAC-SHA-256 of it under a key of the tenant's, which is made from the store's. It proves a body that is there to
/// whoever has the key, and once that is gone, or of a body that was erased, it confirms no guess, as a bare digest of a short body would.
pub fn body_commitment(store_key: &Secret, tenant: &TenantName, body: &[u8]) -> Digest {
    let mac = |key: &[u8], pieces: &[&[u8]]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        pieces.iter().for_each(|piece| mac.update(piece));
        mac.finalize().into_bytes().into()
    };
    let of_tenant = mac(
        store_key.expose(),
        &[b"tollgate body commitment 1 of ", tenant.as_str().as_bytes()],
    );
    Digest(mac(&of_tenant, &[body]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that a chain keeps of a body can be made from a guess of it without the store's key.
    #[test]
    fn a_commitment_is_of_one_store_one_tenant_and_one_body() {
        let of = |key: u8, tenant: &str, body: &[u8]| {
            body_commitment(&Secret::new([key; 32]), &tenant.parse().unwrap(), body)
        };
        let one = of(1, "acme", b"{}");
        assert_eq!(one, of(1, "acme", b"{}"));
        for other in [
            of(2, "acme", b"{}"),
            of(1, "other", b"{}"),
            of(1, "acme", b"{ }"),
            Digest::of(b"{}"),
        ] {
            assert_ne!(one, other);
        }
    }
}
