//! Files of keys: made once, never overwritten, and private ones for their owner alone.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::BASE64;
use tollgate_core::secret::Secret;
use tollgate_core::signature::PrivateKey;

use super::{Usage, read};

/// A private key of Ed25519 in PKCS #8 (RFC 8410) is this, and its 32 bytes.
pub(super) const ED25519_PRIVATE: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// A public one in SPKI.
pub(super) const ED25519_PUBLIC: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// Columns of a PEM file's lines (RFC 7468).
const PEM_LINE: usize = 64;

pub(super) fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system's random source")?;
    Ok(bytes)
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(PEM_LINE) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}

/// Where the public half of a private key's file lies.
pub(super) fn public_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Overwrites nothing. A private key is for its owner alone.
pub(super) fn write_new(file: &Path, text: &str, private: bool) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = if private { 0o600 } else { 0o644 };
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(|error| Usage(format!("cannot write {}: {error}", file.display())).into())
}

/// The private key in a file: 32 bytes in base64, or PKCS #8 in PEM.
pub(super) fn private_key(file: &Path) -> anyhow::Result<PrivateKey> {
    let bytes = Secret::new(read(file)?);
    let cannot = |reason: &str| Usage(format!("{} holds no key of Ed25519: {reason}", file.display()));
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| cannot("it is no text"))?;
    if !text.contains("-----BEGIN") {
        return Ok(PrivateKey::from_text(text).map_err(|error| cannot(&error.to_string()))?);
    }
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let body = Secret::new(body);
    let der = BASE64.decode(body.expose()).map_err(|_| cannot("it is no PEM"))?;
    let der = Secret::new(der);
    let seed = der
        .expose()
        .strip_prefix(ED25519_PRIVATE)
        .and_then(|seed| <&[u8; 32]>::try_from(seed).ok())
        .ok_or_else(|| cannot("it is another kind of key, or encrypted"))?;
    Ok(PrivateKey::from_seed(seed))
}
