//! TLS to the server: what of its certificate is checked, and the connection over it.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// The longest file of certificates or of a key that is read, in bytes.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// What a PostgreSQL of version 17 or newer calls its protocol; older ones do not look.
const PROTOCOL: &[u8] = b"postgresql";
/// What the client library says of a server that has no certificate.
const NO_TLS_THERE: &str = "server does not support TLS";
/// What a server says to whoever shows no certificate where `pg_hba.conf` asks for one.
const NO_CERTIFICATE_SHOWN: &str = "valid client certificate";
/// What stands before a server's reason to end TLS. With TLS 1.3 that of a certificate comes behind the handshake, as an error of reading.
const ALERT: &str = "received fatal alert: ";

/// What of a server is checked before anything is said to it: libpq's `sslmode`, without those of its values that go on in clear text where somebody on
/// the way says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    /// No TLS.
    Disable,
    /// TLS with whoever answers.
    Require,
    /// An authority that is named vouches for the certificate, whatever name it is for.
    VerifyCa,
    /// An authority vouches for the certificate, and it is for the host that the URL names.
    VerifyFull,
}

impl SslMode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// # Errors
    /// In words, when there is no such mode, or it is none to be relied on.
    pub(super) fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "disable" => Ok(Self::Disable),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            "allow" | "prefer" => Err(format!(
                "`sslmode={name}` goes on in clear text where the server, or somebody on the way, says that there is no TLS: say `verify-full`, or \
                 `disable` where the network is yours"
            )),
            _ => Err("`sslmode` is `disable`, `require`, `verify-ca` or `verify-full`".to_owned()),
        }
    }
}

/// Whose signature under a server's certificate counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// The public authorities, by which destinations are known as well.
    Public,
    /// Those of a PEM file.
    File(PathBuf),
}

impl Roots {
    fn read(&self) -> Result<RootCertStore, String> {
        match self {
            Self::Public => Ok(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            }),
            Self::File(path) => from_file(path),
        }
    }
}

fn from_file(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("sslrootcert", path)? {
        roots.add(certificate).map_err(|error| {
            refused(
                "sslrootcert",
                path,
                format!("has a certificate that vouches for nobody: {error}"),
            )
        })?;
    }
    Ok(roots)
}

/// By what a host shows a server who it is, where that asks: its certificate, with those between it and the authority, and the private key to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Identity {
    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let certificates = certificates("sslcert", &self.certificate)?;
        let refused = |why| refused("sslkey", &self.key, why);
        let is_read = |error| refused(format!("cannot be read: {error}"));
        let metadata = std::fs::metadata(&self.key).map_err(is_read)?;
        // As libpq has it: a group of root's may read, so that a host needs no copy of its own.
        let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        if metadata.mode() & forbidden != 0 {
            return Err(refused(
                "is a private key that others may read: `chmod 600` it".to_owned(),
            ));
        }
        let pem = read_file(&self.key).map_err(is_read)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            refused(
                "holds no private key that can be read (PKCS#8, PKCS#1 or SEC1 in PEM, without a password)".to_owned(),
            )
        })?;
        Ok((certificates, key))
    }
}

/// Those of a PEM file; one at least.
fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_file(path).map_err(|error| refused(key, path, format!("cannot be read: {error}")))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| refused(key, path, format!("is not PEM: {error}")))?;
    match certificates.is_empty() {
        true => Err(refused(
            key,
            path,
            "holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned(),
        )),
        false => Ok(certificates),
    }
}

/// What is wrong with the file that a key of the URL names.
fn refused(key: &str, path: &Path, why: String) -> String {
    format!("{key}: {} {why}", path.display())
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(PEM_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes the handshakes of one target's connections.
#[derive(Clone)]
pub(super) struct Connector {
    config: Arc<ClientConfig>,
    roots: Roots,
}

impl Connector {
    /// None where there is to be no TLS.
    ///
    /// # Errors
    /// In words, when the authorities or the host's own certificate cannot be read.
    pub(super) fn new(mode: SslMode, roots: Roots, identity: Option<&Identity>) -> Result<Option<Self>, String> {
        let provider = Arc::new(ring::default_provider());
        let trusted = match mode {
            SslMode::Disable => return Ok(None),
            SslMode::Require => None,
            SslMode::VerifyCa | SslMode::VerifyFull => Some(roots.read()?),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = match (mode, trusted) {
            (SslMode::VerifyFull, Some(trusted)) => builder.with_root_certificates(trusted),
            (_, trusted) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName { trusted, provider })),
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (certificates, key) = identity.read()?;
                builder
                    .with_client_auth_cert(certificates, key)
                    .map_err(|error| refused("sslkey", &identity.key, format!("does not go with `sslcert`: {error}")))?
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Some(Self {
            config: Arc::new(config),
            roots,
        }))
    }
}

/// Takes a certificate for whatever name it is: of the authorities that are trusted, or of anybody where none are named.
#[derive(Debug)]
struct AnyName {
    trusted: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trusted) = &self.trusted {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, trusted, between, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// One handshake that is to be made.
pub(super) struct Handshake {
    connector: Connector,
    name: ServerName<'static>,
}

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = TlsStream<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::other("the URL's host is no name that a certificate could be for"))?;
        Ok(Handshake {
            connector: self.clone(),
            name,
        })
    }
}

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = TlsStream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TlsStream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self { connector, name } = self;
        Box::pin(async move {
            let shown = name.to_str().into_owned();
            let connected = TlsConnector::from(Arc::clone(&connector.config))
                .connect(name, stream)
                .await;
            connected.map(TlsStream).map_err(|error| {
                match error
                    .get_ref()
                    .and_then(|source| source.downcast_ref::<rustls::Error>())
                {
                    Some(refused) => io::Error::other(in_words(refused, &shown, &connector.roots)),
                    None => error,
                }
            })
        })
    }
}

/// Why a handshake failed, and how to mend it.
fn in_words(error: &rustls::Error, host: &str, roots: &Roots) -> String {
    let rustls::Error::InvalidCertificate(wrong) = error else {
        return error.to_string();
    };
    match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: give the server a new one".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: look at the clocks of both machines".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the server's certificate is not for `{host}`: let the URL name the host as one of the certificate's names does (its subjectAltName; \
             `hostaddr` may say its address)"
        ),
        CertificateError::UnknownIssuer => match roots {
            Roots::Public => "no public authority vouches for the server's certificate: name the file of yours with \
                              `sslrootcert=/path/to/root.crt`"
                .to_owned(),
            Roots::File(path) => format!(
                "no authority in {} vouches for the server's certificate: name the file of the one that does with `sslrootcert`",
                path.display()
            ),
        },
        // Of the library behind, whose errors cannot be named here.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "the server's certificate is that of an authority (CA:TRUE): give the server one of its own, which the authority has signed".to_owned()
        }
        other => format!("the server's certificate is refused: {other}"),
    }
}

/// What the client library said, with how to mend it where that is about TLS.
pub(super) fn explained(text: String) -> String {
    let is_certificate_refused = text
        .split_once(ALERT)
        .is_some_and(|(_, alert)| alert.starts_with("UnknownCA") || alert.contains("Certificate"));
    let mend = if text.contains(NO_TLS_THERE) {
        "set `ssl = on` and a certificate there, or say `sslmode=disable` in the URL where the network between is yours"
    } else if text.contains(NO_CERTIFICATE_SHOWN) {
        "name this host's own by `sslcert` and `sslkey` in the URL"
    } else if is_certificate_refused {
        "the server does not take the certificate of `sslcert`: have one made by an authority in its `ssl_ca_file`"
    } else {
        return text;
    };
    format!("{text}: {mend}")
}

/// A connection over TLS.
pub(super) struct TlsStream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> tokio_postgres::tls::TlsStream for TlsStream<S> {
    /// So that a password's proof is good for this connection alone (`channel_binding`).
    fn channel_binding(&self) -> ChannelBinding {
        let (_, connection) = self.0.get_ref();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        certificate
            .and_then(|certificate| end_point(certificate))
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// `tls-server-end-point` of RFC 5929: the certificate's digest, by the function that its signature has, and SHA-256 in place of older ones. None where
/// that function is not known, or the signature has none.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const SHA_256: [&str; 4] = [
        // MD5 and SHA-1 with RSA; SHA-256 with RSA and ECDSA.
        "1.2.840.113549.1.1.4",
        "1.2.840.113549.1.1.5",
        "1.2.840.113549.1.1.11",
        "1.2.840.10045.4.3.2",
    ];
    const SHA_384: [&str; 2] = ["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"];
    const SHA_512: [&str; 2] = ["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"];
    let by = Certificate::from_der(certificate)
        .ok()?
        .signature_algorithm()
        .oid
        .to_string();
    let is = |known: &[&str]| known.contains(&by.as_str());
    if is(&SHA_256) {
        Some(Sha256::digest(certificate).to_vec())
    } else if is(&SHA_384) {
        Some(Sha384::digest(certificate).to_vec())
    } else if is(&SHA_512) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connector").field(&self.roots).finish()
    }
}
