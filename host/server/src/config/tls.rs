//! Certificates and their keys: PEM files, read and held against each other before anything takes effect.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, crypto};
use tollgate_tenants::file::{Section, Value};

const NAME_A_KEY: &str = "name the PEM file with the certificate's private key";
/// The longest PEM file that is read, in bytes.
const CERTIFICATES_BYTES_MAX: u64 = 256 * 1024;

/// How the public listener speaks TLS: 1.2 and 1.3, HTTP/1.1 inside.
#[derive(Clone)]
pub(crate) struct TlsConfig {
    pub(crate) server: Arc<ServerConfig>,
}

/// Shows nothing of what it holds, since a key is in it.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfig(…)")
    }
}

/// Reads `[edge.tls]`.
pub(super) fn tls(section: &Section) -> Option<TlsConfig> {
    let certificate = section.require(
        "certificate",
        "add certificate = \"chain.pem\", the host's certificate first",
    );
    let key = section.require("key", "add key = \"key.pem\"");
    section.finish();
    let (certificate, key) = (certificate?, key?);
    let chain = chain(&certificate);
    let private = private_key(&key);
    let (chain, private) = (chain?, private?);
    let server = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, private));
    match server {
        Ok(mut server) => {
            server.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(TlsConfig {
                server: Arc::new(server),
            })
        }
        Err(error) => {
            certificate.problem(
                format!("the certificate and its key do not serve: {error}"),
                "name the files of one and the same certificate",
            );
            None
        }
    }
}

/// Reads certificates that vouch for others.
pub(super) fn roots(value: &Value) -> Option<Vec<CertificateDer<'static>>> {
    let roots = chain(value)?;
    let mut store = RootCertStore::empty();
    if let Some(error) = roots.iter().find_map(|root| store.add(root.clone()).err()) {
        value.problem(
            format!("one of the certificates vouches for nobody: {error}"),
            "name a PEM file with the certificates of your own authority",
        );
        return None;
    }
    Some(roots)
}

/// All certificates of a PEM file.
fn chain(value: &Value) -> Option<Vec<CertificateDer<'static>>> {
    let path = value.path()?;
    let pem = match read_file(&path) {
        Ok(pem) => pem,
        Err(error) => {
            value.problem(
                format!("{} cannot be read: {error}", path.display()),
                "mend the path; a relative one starts in the folder of this file",
            );
            return None;
        }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => {
            value.problem(
                format!("{} holds no certificate", path.display()),
                "name a PEM file with -----BEGIN CERTIFICATE-----, the host's own first",
            );
            None
        }
        Err(error) => {
            value.problem(format!("{} is not PEM: {error}", path.display()), "name a PEM file");
            None
        }
    }
}

fn private_key(value: &Value) -> Option<PrivateKeyDer<'static>> {
    let path = value.path()?;
    let pem = value.resolver().secret_file(&path);
    let pem = pem
        .map_err(|refused| value.problem(refused.message, &refused.help))
        .ok()?;
    // The error says at most what kind of PEM it is, and is left out all the same: the file holds a secret.
    let key = PrivateKeyDer::from_pem_slice(pem.expose()).ok();
    if key.is_none() {
        value.problem(format!("{} holds no private key in PEM", path.display()), NAME_A_KEY);
    }
    key
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(CERTIFICATES_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
