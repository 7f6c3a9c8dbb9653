//! The signed message and its candidate signatures, in one form for every family of schemes.

use std::borrow::Cow;
use std::cell::OnceCell;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use sha2::{Digest as _, Sha256};

use crate::profile::Encoding;

/// The longest signature that is kept in place: every HMAC's, Ed25519's and raw ECDSA's.
const SHORT_BYTES_MAX: usize = 64;

/// The longest signature of any algorithm: RSA with 4096 bits.
const LONG_BYTES_MAX: usize = 512;

/// The pieces whose concatenation was signed.
pub(crate) struct Message<'a> {
    parts: Vec<Cow<'a, [u8]>>,
    joined: OnceCell<Vec<u8>>,
    sha256: OnceCell<[u8; 32]>,
}

impl<'a> Message<'a> {
    pub(crate) fn new(parts: Vec<Cow<'a, [u8]>>) -> Self {
        Self {
            parts,
            joined: OnceCell::new(),
            sha256: OnceCell::new(),
        }
    }

    pub(crate) fn parts(&self) -> &[Cow<'a, [u8]>] {
        &self.parts
    }

    /// The bytes in one piece; only Ed25519 needs them so.
    pub(crate) fn joined(&self) -> &[u8] {
        self.joined.get_or_init(|| self.parts.concat())
    }

    pub(crate) fn sha256(&self) -> &[u8; 32] {
        self.sha256.get_or_init(|| {
            let mut hash = Sha256::new();
            self.parts.iter().for_each(|part| hash.update(part));
            hash.finalize().into()
        })
    }
}

/// One signature of a request.
pub(crate) struct Candidate {
    /// Position among the profile's schemes.
    pub(crate) scheme: usize,
    pub(crate) tag: Tag,
}

/// Signature bytes of any algorithm.
#[derive(Clone)]
pub(crate) enum Tag {
    Short { bytes: [u8; SHORT_BYTES_MAX], len: usize },
    Long(Vec<u8>),
}

impl Tag {
    pub(crate) fn new(from: &[u8]) -> Self {
        let mut bytes = [0; SHORT_BYTES_MAX];
        match bytes.get_mut(..from.len()) {
            Some(room) => {
                room.copy_from_slice(from);
                Self::Short { bytes, len: from.len() }
            }
            None => Self::Long(from.to_vec()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { bytes, len } => &bytes[..*len],
            Self::Long(bytes) => bytes,
        }
    }

    /// Decodes what a request carries; `None` when it is not that encoding or too long to be any signature.
    pub(crate) fn decode(encoding: Encoding, text: &[u8]) -> Option<Self> {
        let codec = match encoding {
            Encoding::Hex => &HEXLOWER_PERMISSIVE,
            Encoding::Base64 => &BASE64,
        };
        let room = codec.decode_len(text.len()).ok()?;
        if room > LONG_BYTES_MAX + 2 {
            return None;
        }
        let mut short = [0; SHORT_BYTES_MAX + 2];
        let mut long;
        let bytes = if room <= short.len() {
            &mut short[..room]
        } else {
            long = vec![0; room];
            &mut long[..]
        };
        let len = codec.decode_mut(text, bytes).ok()?;
        if len == 0 || len > LONG_BYTES_MAX {
            None
        } else {
            Some(Self::new(&bytes[..len]))
        }
    }
}
