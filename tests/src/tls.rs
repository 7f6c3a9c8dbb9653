//! TLS as a test needs it: two certificates with their keys, and a client that takes exactly one certificate.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// A certificate for `localhost` and 127.0.0.1 that nobody signed but itself, and its key. Good for nothing but tests.
pub struct Identity {
    certificate: &'static str,
    key: &'static str,
}

pub const FIRST: Identity = Identity {
    certificate: "\
        MIIBrDCCAVKgAwIBAgIUfIsU4T9XClbziZSM3CHDQxHon1EwCgYIKoZIzj0EAwIwHjEcMBoGA1UEAwwTdG9sbGdhdGUgdGVzdCBm\
        aXJzdDAgFw0yNjExMjIwOTM3MjlaGA8yMTI2MTAyOTA5MzcyOVowHjEcMBoGA1UEAwwTdG9sbGdhdGUgdGVzdCBmaXJzdDBZMBMG\
        ByqGSM49AgEGCCqGSM49AwEHA0IABEwnC2BBJZIRay4mHcWZ+txholLp6/4o3A1hHwIYvtWs0BZOyUp5SRE573UEftEy1iN0GZwp\
        Vwuy6/iNLKIn6ESjbDBqMB0GA1UdDgQWBBRMvxH//WZ2a+42cJRovotB6hB1BDAfBgNVHSMEGDAWgBRMvxH//WZ2a+42cJRovotB\
        6hB1BDAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwDAYDVR0TAQH/BAIwADAKBggqhkjOPQQDAgNIADBFAiEAotR8b/0gl4Kn\
        1L9/qPugghyg2PP2fiw7xc5dZi/uhvYCICM7WF0ds4PoymQqO2DCX8P76VYnUavGuhY3VTBmftbC\
        ",
    key: "\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4adjD4AAKRtXeWnra+Tyrp/CMN4p4XlRuEma3yl2NHShRANCAARM\
        JwtgQSWSEWsuJh3FmfrcYaJS6ev+KNwNYR8CGL7VrNAWTslKeUkROe91BH7RMtYjdBmcKVcLsuv4jSyiJ+hE\
        ",
};

pub const SECOND: Identity = Identity {
    certificate: "\
        MIIBrTCCAVSgAwIBAgIUQ7ACiXiE1yuSYl2llALNyyzzD5kwCgYIKoZIzj0EAwIwHzEdMBsGA1UEAwwUdG9sbGdhdGUgdGVzdCBz\
        ZWNvbmQwIBcNMjYxMTIyMDkzNzI5WhgPMjEyNjEwMjkwOTM3MjlaMB8xHTAbBgNVBAMMFHRvbGxnYXRlIHRlc3Qgc2Vjb25kMFkw\
        EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEuknE6QIH9sM3rCwIy0RpwLMhoY4O7xHwgEwu/wEMRzDFYMwKJ49wSk/f0uurcdyWieSq\
        zJWNvqR+XBGaWXYYIKNsMGowHQYDVR0OBBYEFKTLqZiWg6+mHGZNYkSM3Fk+2RVLMB8GA1UdIwQYMBaAFKTLqZiWg6+mHGZNYkSM\
        3Fk+2RVLMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcEfwAAATAMBgNVHRMBAf8EAjAAMAoGCCqGSM49BAMCA0cAMEQCIF0BeKgHdMi4\
        K/5636Xw7GZJXNn+xGNllqfRvEMi4a7DAiBLiq6Bqwt7zWxEU/iEy7f0G4Eojx5F+S1KUmutCaHeFQ==\
        ",
    key: "\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgk2QJQj9cARVPGC316gpLs0yV/JqUWUOTwISLVJWMhuOhRANCAAS6\
        ScTpAgf2wzesLAjLRGnAsyGhjg7vEfCATC7/AQxHMMVgzAonj3BKT9/S66tx3JaJ5KrMlY2+pH5cEZpZdhgg\
        ",
};

impl Identity {
    /// The certificate as a PEM file.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", self.certificate)
    }

    /// Its key as a PEM file.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key)
    }

    /// Speaks TLS over `stream`, with whoever holds this certificate's key and nobody else.
    ///
    /// # Errors
    /// When the connection breaks or the peer is somebody else.
    ///
    /// # Panics
    /// When the certificate above is none.
    pub fn connect(&self, mut stream: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let provider = Arc::new(ring::default_provider());
        let expected = CertificateDer::from_pem_slice(self.certificate_pem().as_bytes()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring serves TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Exactly { expected, provider }))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

fn pem(label: &str, base64: &str) -> String {
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

/// Takes one certificate and asks no clock: the tests run on any day.
#[derive(Debug)]
struct Exactly {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another certificate".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection that a client can speak over, plain or not.
pub trait Connection: Read + Write {
    /// The TCP connection under it.
    fn socket(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Connection for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}
