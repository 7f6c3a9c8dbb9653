//! What a host did to its store's folder, and what it said to its peers in between.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::format::{HEAD_BYTES, kind};

/// One thing that the host did, in the order in which they took effect.
#[derive(Debug, Clone)]
pub enum Operation {
    /// A new file.
    Create {
        inode: u64,
        name: String,
    },
    /// A file that was there.
    Open {
        inode: u64,
        name: String,
    },
    /// `bytes` is a range of the recording.
    Write {
        inode: u64,
        at: u64,
        bytes: Range<usize>,
    },
    Truncate {
        inode: u64,
        size: u64,
    },
    /// A sync of a file, or of the folder as inode 0, begins.
    Sync {
        inode: u64,
        number: u64,
    },
    Synced {
        inode: u64,
        number: u64,
    },
    SyncFailed {
        inode: u64,
        number: u64,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Said(Said),
    /// A call was made to fail.
    Fault {
        error: u64,
    },
}

/// What the host was about to say to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// An answer that acknowledges an event.
    Acknowledged { status: u16, receipt: String },
    /// An action on its way to its destination.
    Delivery {
        kind: String,
        operation_key: String,
        body: String,
    },
    /// What promises nothing.
    Else,
}

/// A recording, read.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    bytes: Vec<u8>,
    pub operations: Vec<Operation>,
    /// What was there before: (inode, name, bytes). All of it durable.
    pub base: Vec<(u64, String, Vec<u8>)>,
}

impl Recording {
    /// Reads records to the end; a last one that is cut off was never made.
    pub(super) fn read(bytes: Vec<u8>, base: Vec<(u64, String, Vec<u8>)>) -> Self {
        let mut operations = Vec::new();
        let mut at = 0;
        while let Some((operation, next)) = record(&bytes, at) {
            operations.extend(operation);
            at = next;
        }
        Self {
            bytes,
            operations,
            base,
        }
    }

    /// What was written.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// How often something of that kind was done.
    pub fn count(&self, is_meant: impl Fn(&Operation) -> bool) -> usize {
        self.operations.iter().filter(|operation| is_meant(operation)).count()
    }

    /// The names that inodes have or had, for messages and for choosing.
    pub fn names(&self) -> BTreeMap<u64, String> {
        let mut names: BTreeMap<_, _> = self
            .base
            .iter()
            .map(|(inode, name, _)| (*inode, name.clone()))
            .collect();
        for operation in &self.operations {
            if let Operation::Create { inode, name } | Operation::Open { inode, name } = operation {
                names.insert(*inode, name.clone());
            }
        }
        names.insert(0, ".".to_owned());
        names
    }
}

/// The record at a place, and where the next one is. A kind that is not known is passed over.
fn record(bytes: &[u8], at: usize) -> Option<(Option<Operation>, usize)> {
    let head: &[u8; HEAD_BYTES] = bytes.get(at..)?.first_chunk()?;
    let number = |place: usize| {
        head[place * 8..]
            .first_chunk()
            .map_or(0, |chunk| u64::from_le_bytes(*chunk))
    };
    let (kind, inode, argument, length) = (number(0), number(1), number(2), number(3));
    let start = at + HEAD_BYTES;
    let range = start..start.checked_add(usize::try_from(length).ok()?)?;
    let payload = bytes.get(range.clone())?;
    let end = range.end;
    let text = || String::from_utf8_lossy(payload).into_owned();
    let operation = match kind {
        kind::CREATE => Operation::Create { inode, name: text() },
        kind::OPEN => Operation::Open { inode, name: text() },
        kind::WRITE => Operation::Write {
            inode,
            at: argument,
            bytes: range,
        },
        kind::TRUNCATE => Operation::Truncate { inode, size: argument },
        kind::SYNC => Operation::Sync {
            inode,
            number: argument,
        },
        kind::SYNCED => Operation::Synced {
            inode,
            number: argument,
        },
        kind::SYNC_FAILED => Operation::SyncFailed {
            inode,
            number: argument,
        },
        kind::UNLINK => Operation::Unlink { name: text() },
        kind::RENAME => {
            let names = text();
            let (from, to) = names.split_once('\0').unwrap_or((&names, ""));
            Operation::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
            }
        }
        kind::SAID => Operation::Said(Said::of(&text())),
        kind::FAULT => Operation::Fault { error: argument },
        _ => return Some((None, end)),
    };
    Some((Some(operation), end))
}

impl Said {
    fn of(message: &str) -> Self {
        let (head, body) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if head.starts_with("POST ") {
            return match (text("/action/kind"), text("/operation_key")) {
                (Some(kind), Some(operation_key)) => Self::Delivery {
                    kind,
                    operation_key,
                    body: body.to_owned(),
                },
                _ => Self::Else,
            };
        }
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        match text("/receipt") {
            Some(receipt) if (200..300).contains(&status) => Self::Acknowledged { status, receipt },
            _ => Self::Else,
        }
    }
}
