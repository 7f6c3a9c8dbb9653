//! What lies between the hosts and whoever takes writes: it leads to the primary of the moment, and cuts a connection when it is told to.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::postgres::folder;

/// What becomes of the message at which a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It does not reach the server.
    Before,
    /// The server does what it says, and its answer does not reach the host.
    After,
}

/// Which messages are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    All,
    /// Those that end a transaction whose result somebody outside is told.
    Commits,
}

/// How a host ends such a transaction.
const COMMIT_THAT_IS_TOLD: &[u8] = b"SET LOCAL statement_timeout = 0; UPDATE chain_heads";

/// Ends with the process.
pub(super) struct Wire {
    folder: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    leads_to: Mutex<PathBuf>,
    /// Messages of hosts until the next cut; below zero none is to come.
    left: AtomicI64,
    cut: Mutex<(Counted, Cut)>,
    made: AtomicU64,
}

impl Wire {
    pub(super) fn to(socket: &Path) -> Self {
        let folder = folder();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
        let shared = Arc::new(Shared {
            leads_to: Mutex::new(socket.to_owned()),
            left: AtomicI64::new(-1),
            cut: Mutex::new((Counted::All, Cut::Before)),
            made: AtomicU64::new(0),
        });
        let listening = Arc::clone(&shared);
        thread::spawn(move || {
            for host in listener.incoming().flatten() {
                let shared = Arc::clone(&listening);
                thread::spawn(move || shared.carry(host));
            }
        });
        Self { folder, shared }
    }

    /// For the hosts' configuration.
    pub(super) fn url(&self) -> String {
        let path = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://tollgate@{path}/postgres")
    }

    pub(super) fn lead_to(&self, socket: &Path) {
        let mut leads_to = self.shared.leads_to.lock().unwrap_or_else(PoisonError::into_inner);
        socket.clone_into(&mut leads_to);
    }

    /// Cuts the connection that carries the message behind so many others.
    pub(super) fn cut_behind(&self, messages: u64, counted: Counted, cut: Cut) {
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) = (counted, cut);
        self.shared
            .left
            .store(i64::try_from(messages).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub(super) fn cuts(&self) -> u64 {
        self.shared.made.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn carry(&self, mut host: UnixStream) {
        let leads_to = self.leads_to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Ok(mut server) = UnixStream::connect(leads_to) else {
            return;
        };
        let (Ok(mut from), Ok(mut to)) = (server.try_clone(), host.try_clone()) else {
            return;
        };
        let is_silent = Arc::new(Mutex::new(false));
        let silent = Arc::clone(&is_silent);
        thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while let Ok(count) = from.read(&mut bytes) {
                let hushed = *is_silent.lock().unwrap_or_else(PoisonError::into_inner);
                if count == 0 || hushed || to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut bytes = [0; 65_536];
        while let Ok(count) = host.read(&mut bytes) {
            if count == 0 {
                break;
            }
            let (counted, cut) = *self.cut.lock().unwrap_or_else(PoisonError::into_inner);
            let is_counted = match counted {
                Counted::All => true,
                Counted::Commits => {
                    let mut parts = bytes[..count].windows(COMMIT_THAT_IS_TOLD.len());
                    parts.any(|part| part == COMMIT_THAT_IS_TOLD)
                }
            };
            if is_counted && self.left.load(Ordering::SeqCst) >= 0 && self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
                self.made.fetch_add(1, Ordering::SeqCst);
                if cut == Cut::After {
                    *silent.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    let _ = server.write_all(&bytes[..count]);
                    // Until the server has answered, which nobody hears.
                    thread::sleep(Duration::from_millis(50));
                }
                break;
            }
            if server.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = host.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
}
