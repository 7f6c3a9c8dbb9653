//! Certificates of a test's own, made anew each time. The tests of the store take this file as it is, since they come before this crate.
#![allow(unreachable_pub, reason = "of a library here, and part of a test elsewhere")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Vouches for servers.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub root: String,
}

/// A server's certificate and its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Now,
    Over,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut about = CertificateParams::default();
        about.distinguished_name.push(DnType::CommonName, name);
        about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = about.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(about, key),
            root,
        }
    }

    /// Its own key, in PEM: for a server that stands there with the authority's certificate.
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a host.
    pub fn issue(&self, host: &str, validity: Validity) -> Issued {
        let mut about = CertificateParams::new([host.to_owned()]).unwrap();
        about.distinguished_name.push(DnType::CommonName, host);
        if validity == Validity::Over {
            about.not_before = date_time_ymd(2020, 1, 1);
            about.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        Issued {
            certificate: about.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}
