//! A way to a PostgreSQL that is as long as one to another place: what is sent arrives later, and nothing is slower for it.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Ends with the process.
pub(super) struct Wire {
    folder: TempDir,
}

impl Wire {
    /// `socket` is the folder of the server's; `takes` is the time of one way.
    pub(super) fn to(socket: &Path, takes: Duration) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let listener = UnixListener::bind(folder.path().join(NAME))?;
        let server = socket.join(NAME);
        thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .for_each(|host| carry(host, &server, takes))
        });
        Ok(Self { folder })
    }

    pub(super) fn url(&self) -> String {
        let path = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://tollgate@{path}/postgres")
    }
}

const NAME: &str = ".s.PGSQL.5432";

fn carry(host: UnixStream, server: &PathBuf, takes: Duration) {
    let Ok(server) = UnixStream::connect(server) else {
        return;
    };
    let (Ok(to_host), Ok(to_server)) = (host.try_clone(), server.try_clone()) else {
        return;
    };
    one_way(host, to_server, takes);
    one_way(server, to_host, takes);
}

fn one_way(from: UnixStream, to: UnixStream, takes: Duration) {
    let (sent, on_their_way) = channel();
    thread::spawn(move || take_in(from, &sent, takes));
    thread::spawn(move || let_out(to, &on_their_way));
}

fn take_in(mut from: UnixStream, sent: &Sender<(Instant, Vec<u8>)>, takes: Duration) {
    let mut bytes = vec![0; 1 << 18];
    while let Ok(count) = from.read(&mut bytes) {
        let piece = (Instant::now() + takes, bytes[..count].to_vec());
        if count == 0 || sent.send(piece).is_err() {
            return;
        }
    }
}

fn let_out(mut to: UnixStream, on_their_way: &Receiver<(Instant, Vec<u8>)>) {
    for (arrives, bytes) in on_their_way {
        thread::sleep(arrives.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
