//! A pgbouncer before the servers, in session mode: it leads to the primary of the moment, and is killed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::{folder, unprivileged};

/// Longer than it takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with the thread that started it.
pub(super) struct Pooler {
    program: PathBuf,
    folder: TempDir,
    process: Child,
}

impl Pooler {
    /// None where there is no pgbouncer.
    pub(super) fn start(socket: &Path) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let mut programs = folders.map(|folder| folder.join("pgbouncer"));
        let program = programs.find(|program| program.exists())?;
        let folder = folder();
        let place = folder.path().display();
        // It looks the primary up by a name that can be given to another.
        let settings = format!(
            "[databases]\n* = host={place}/primary port=5432 user=tollgate\n\
             [pgbouncer]\nunix_socket_dir = {place}\nlisten_addr =\nlisten_port = 6432\nauth_type = any\npool_mode = session\n\
             default_pool_size = 60\nmax_client_conn = 200\nserver_login_retry = 1\nlogfile = {place}/log\n"
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), settings).expect("a file");
        let pooler = Self {
            process: serve(&program, folder.path()),
            program,
            folder,
        };
        pooler.lead_to(socket);
        pooler.wait();
        Some(pooler)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.6432")
    }

    /// From the next connection on.
    pub(super) fn lead_to(&self, socket: &Path) {
        let (name, new) = (
            self.folder.path().join("primary"),
            self.folder.path().join("primary.new"),
        );
        symlink(socket.parent().expect("a folder"), &new).expect("a link");
        std::fs::rename(new, name).expect("a link");
    }

    /// All connections end with it.
    pub(super) fn kill_and_start(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(self.socket());
        self.process = serve(&self.program, self.folder.path());
        self.wait();
    }

    fn wait(&self) {
        let begun = Instant::now();
        while !self.socket().exists() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "pgbouncer does not start: {log}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(program: &Path, folder: &Path) -> Child {
    let mut command: Command = unprivileged(program);
    command
        .arg("--quiet")
        .arg(folder.join("pgbouncer.ini"))
        .stderr(Stdio::null())
        .spawn()
        .expect("pgbouncer starts")
}
