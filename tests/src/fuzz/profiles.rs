//! A profile of a tenant's own: any text is a profile that holds, or a problem in words.

use tollgate_core::profile::Profile;
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Secret, SourceSecret};
use tollgate_core::time::UnixMillis;
use tollgate_core::vector;
use tollgate_core::verify::{Keyring, verify};

use super::{Target, files};

pub(super) const TARGET: Target = Target {
    name: "profiles",
    what: "profiles: TOML to a checked profile, its known answers, and a request against it",
    seeds,
    run,
    short: 1_500,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = files("host/core/profiles", "toml");
    seeds.extend(files("host/server/examples/tenants/profiles", "toml"));
    seeds
}

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let profile = match Profile::from_toml(text) {
        Ok(profile) => profile,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let words = [profile.scheme_title(), profile.id_places()];
    assert!(words.iter().all(|words| !words.is_empty()), "{words:?}");
    for vector in profile.vectors() {
        let _ = vector::run(&profile, vector);
    }
    let secret = SourceSecret {
        id: "a".parse().expect("an id"),
        text: Secret::new("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
        not_before: None,
        not_after: None,
    };
    let Ok(keyring) = Keyring::new(&profile, &[secret]) else {
        return;
    };
    let headers = [Header {
        name: "signature",
        value: b"t=1,v1=00",
    }];
    let request = RawRequest {
        method: "POST",
        path: None,
        query: Some("a=b"),
        headers: &headers,
        body: b"{}",
        url: Some("https://hooks.example/in/acme/shop"),
        received_at: UnixMillis(1_790_000_000_000),
    };
    assert!(verify(&profile, &keyring, request).is_err(), "nobody signed this");
}
