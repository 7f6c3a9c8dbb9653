//! Documents that people hand in: manifests, fixtures, golden events, signatures of publishers, checkpoints, keys. What is read and
//! written again is read the same.

use tollgate_core::checkpoint::{Checkpoint, Mark, SignedCheckpoint, StoreId};
use tollgate_core::fixture::{self, Fixture};
use tollgate_core::golden;
use tollgate_core::ids::{Digest, PluginDigest};
use tollgate_core::manifest::Manifest;
use tollgate_core::secret::Secret;
use tollgate_core::signature::{PluginSignature, PrivateKey, PublicKey};
use tollgate_core::time::UnixMillis;

use super::{Target, files};

pub(super) const TARGET: Target = Target {
    name: "documents",
    what: "documents: manifests, fixtures, golden events, signatures, checkpoints, keys",
    seeds,
    run,
    short: 20_000,
};

fn key() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, document: &[u8]| [&[kind], document].concat();
    let digest = PluginDigest::of(b"component");
    let signature = key().sign("acme".parse().expect("a name"), "k1".parse().expect("an id"), digest);
    let mark = Mark::NONE.after(&Digest([1; 32]));
    let checkpoint = Checkpoint {
        store: StoreId::of(&Secret::new(vec![1; 32])),
        at: UnixMillis(1_790_000_000_123),
        chain: Some(mark),
        tenants: [("acme".parse().expect("a name"), mark)].into(),
    };
    let fixtures = [
        files("guest-plugins/examples/fixtures", "json"),
        files("tests/contract-1.0.0/fixtures", "json"),
    ]
    .concat();
    let mut seeds = vec![
        with(0, br#"{"name":"cashback","version":"1.0.0","publisher":"acme","summary":"x","events":["reward.*"],"actions":["credit"]}"#),
        with(4, br#"{"total":"500","limit":"10"}"#),
        with(5, signature.to_json().as_bytes()),
        with(6, checkpoint.signed(&key()).to_json().as_bytes()),
        with(7, key().public().to_text().as_bytes()),
    ];
    for fixture in &fixtures {
        seeds.push(with(1, fixture));
        seeds.push(with(
            2,
            br#"{"type":"reward.redeemed","subject":"s","amount":{"minor_units":5,"currency":"USD"}}"#,
        ));
        let list = [br#"[{"name":"a","fixture":"#.as_slice(), fixture, b"}]"].concat();
        seeds.push(with(3, &list));
    }
    seeds
}

fn run(input: &[u8]) {
    let Some((kind, document)) = input.split_first() else {
        return;
    };
    match kind % 8 {
        0 => {
            if let Ok(manifest) = Manifest::from_json(document) {
                let again = Manifest::from_json(manifest.to_json().as_bytes());
                assert_eq!(again.as_ref(), Ok(&manifest));
                let _ = golden::neutral(&manifest);
            }
        }
        1 => drop(Fixture::from_json(document)),
        2 => drop(Fixture::of_event(document)),
        3 => drop(golden::from_json(document)),
        4 => drop(fixture::state_from_json(document)),
        5 => {
            if let Ok(signature) = PluginSignature::from_json(document) {
                assert_eq!(
                    PluginSignature::from_json(signature.to_json().as_bytes()).as_ref(),
                    Ok(&signature)
                );
                // The one that was signed, or none: nobody finds another that fits.
                if signature
                    .verify(&key().public(), PluginDigest::of(b"component"))
                    .is_ok()
                {
                    assert_eq!(
                        (signature.publisher.as_str(), signature.key_id.as_str()),
                        ("acme", "k1")
                    );
                }
            }
        }
        6 => {
            if let Ok(signed) = SignedCheckpoint::from_json(document) {
                assert_eq!(
                    SignedCheckpoint::from_json(signed.to_json().as_bytes()).as_ref(),
                    Ok(&signed)
                );
                if let Ok(checkpoint) = signed.verify(&key().public()) {
                    assert_eq!((checkpoint.at.0, checkpoint.tenants.len()), (1_790_000_000_123, 1));
                }
            }
        }
        _ => {
            let text = String::from_utf8_lossy(document);
            if let Ok(key) = PublicKey::from_text(&text) {
                assert_eq!(PublicKey::from_text(&key.to_text()).as_ref(), Ok(&key));
            }
        }
    }
}
