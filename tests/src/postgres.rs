//! A PostgreSQL of a test's own: a new cluster in a folder that goes with it. The tests of the store take this file as it is, since they come before this
//! crate.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "of a library here, and part of a test elsewhere"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Who the server runs as where the tests run as root, which it refuses to.
const UNPRIVILEGED: &str = "nobody";

/// A server with one empty database. Ends with the test, however that ends.
pub struct Postgres {
    server: Child,
    folder: TempDir,
    port: u16,
    /// What its command line says beside what all of them say.
    settings: Vec<String>,
}

/// The port of those that listen on a socket in their folder alone.
const PORT: u16 = 5432;

/// Where the server's programs are.
fn programs() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
                .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
                .unwrap_or_default();
            folders.sort();
            let path = std::env::var_os("PATH").unwrap_or_default();
            folders
                .into_iter()
                .rev()
                .chain(std::env::split_paths(&path))
                .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        })
        .as_deref()
}

/// Whether there is a PostgreSQL to test with. Says so where there is none, and where there must be one, ends the test.
#[expect(clippy::print_stderr, reason = "a test that is left out must be seen")]
pub fn is_there() -> bool {
    if programs().is_some() {
        return true;
    }
    assert!(
        std::env::var_os("TOLLGATE_TEST_POSTGRES").is_none(),
        "TOLLGATE_TEST_POSTGRES is set, and there is no initdb: install PostgreSQL 15 or newer"
    );
    eprintln!("SKIPPED: there is no initdb, so nothing of PostgreSQL was tested; install PostgreSQL 15 or newer");
    false
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}

/// A command of the server's, as whoever may run it. It ends when the thread that began it does.
pub fn command(program: &str) -> Command {
    unprivileged(&programs().unwrap().join(program))
}

/// A program that refuses to be root's. It ends when the thread that began it does.
pub fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if is_root() {
        command.args(["--reuid", UNPRIVILEGED, "--regid", "nogroup", "--clear-groups"]);
    }
    command.arg("--").arg(program).stdout(Stdio::null());
    command
}

pub fn done(command: &mut Command) {
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A folder that the server's user may write.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("tollgate-pg-")
        .tempdir_in("/dev/shm")
        .unwrap_or_else(|_| tempfile::tempdir().unwrap());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// A new cluster, made once for all tests of this build: that takes longer than most of them.
pub fn template() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        // Beside the other things that tests make: target/PROFILE/deps/TEST is who runs, or target/PROFILE/PROGRAM.
        let program = std::env::current_exe().unwrap();
        let is_target = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
        let target = program
            .ancestors()
            .find(is_target)
            .map_or_else(std::env::temp_dir, Path::to_owned);
        let place = &target.join("tmp");
        std::fs::create_dir_all(place).unwrap();
        let version = programs().unwrap().display().to_string().replace('/', "-");
        let template = place.join(format!("postgres{version}"));
        // Tests are processes: one makes it, the others wait.
        let lock = std::fs::File::create(place.join("postgres.lock")).unwrap();
        lock.lock().unwrap();
        if !template.exists() {
            let folder = folder();
            let data = folder.path().join("data");
            done(command("initdb").arg("-D").arg(&data).args([
                "--auth=trust",
                "--username=tollgate",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "--wal-segsize=1",
                "--no-instructions",
            ]));
            let half = place.join("postgres.half");
            let _ = std::fs::remove_dir_all(&half);
            copy(&data, &half);
            std::fs::rename(half, &template).unwrap();
        }
        template
    })
}

/// With owners and permissions.
pub fn copy(from: &Path, to: &Path) {
    done(Command::new("cp").arg("-a").arg(from).arg(to));
}

impl Postgres {
    /// Nothing where there is no PostgreSQL to test with, which is said.
    pub fn if_there() -> Option<Self> {
        is_there().then(|| Self::new(PORT, &[], |_| {}))
    }

    /// One that listens on 127.0.0.1 too, with this certificate and its key, in PEM.
    pub fn with_tls(certificate: &str, key: &str) -> Option<Self> {
        let settings = [
            "listen_addresses=127.0.0.1",
            "ssl=on",
            "ssl_cert_file=server.crt",
            "ssl_key_file=server.key",
        ];
        let write = |data: &Path| {
            for (name, pem) in [("server.crt", certificate), ("server.key", key)] {
                let path = data.join(name);
                std::fs::write(&path, pem).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
                let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(data).unwrap());
                std::os::unix::fs::chown(path, Some(owner), None).unwrap();
            }
        };
        is_there().then(|| Self::new(free_port(), &settings, write))
    }

    /// One that listens on 127.0.0.1 too, in clear text.
    pub fn without_tls() -> Option<Self> {
        is_there().then(|| Self::new(free_port(), &["listen_addresses=127.0.0.1"], |_| {}))
    }

    /// One that loses nothing with the power, as an operator has it: on a disk in `place`, and with memory to work in.
    pub fn durable(place: &Path) -> Option<Self> {
        let settings = ["fsync=on", "shared_buffers=256MB", "max_wal_size=4GB"];
        let within = || {
            let folder = tempfile::Builder::new()
                .prefix("tollgate-pg-")
                .tempdir_in(place)
                .unwrap();
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
            folder
        };
        is_there().then(|| Self::within(within(), PORT, &settings, |_| {}))
    }

    fn new(port: u16, settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::within(folder(), port, settings, prepare)
    }

    /// `prepare` is given the folder of its data before it starts.
    fn within(folder: TempDir, port: u16, settings: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let data = folder.path().join("data");
        copy(template(), &data);
        prepare(&data);
        let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self {
            server: serve(folder.path(), port, &settings),
            folder,
            port,
            settings,
        }
    }

    /// The server's first process, which all others are children of.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From the next reload on it asks who comes over the network for a password.
    pub fn ask_for_passwords(&self) {
        let path = self.folder.path().join("data/pg_hba.conf");
        std::fs::write(path, "local all all trust\nhost all all all scram-sha-256\n").unwrap();
    }

    /// From the next reload on it asks who comes over the network for a certificate by this authority, in PEM, with the role's name.
    pub fn ask_for_certificates(&self, authority: &str) {
        let data = self.folder.path().join("data");
        std::fs::write(data.join("clients.crt"), authority).unwrap();
        std::fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\nhostssl all all all cert\n",
        )
        .unwrap();
        self.execute("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'");
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its database is, for whoever may do everything there.
    pub fn url(&self) -> String {
        let path = self.folder().display().to_string().replace('/', "%2F");
        format!("postgres://tollgate@{path}:{}/postgres", self.port)
    }

    /// Makes the store's schema one that takes no older hosts, as a newer one would that came.
    pub fn make_schema_newer(&self, version: u32) {
        self.execute(&format!(
            "INSERT INTO tollgate.schema_version (version, works_with) VALUES ({version}, {version})"
        ));
    }

    /// Takes that back.
    pub fn make_schema_as_it_was(&self, version: u32) {
        self.execute(&format!(
            "DELETE FROM tollgate.schema_version WHERE version = {version}"
        ));
    }

    fn execute(&self, sql: &str) {
        done(command("psql").arg(self.url()).args(["-Xqc", sql]));
    }

    /// Ends the server at once, as a crash does.
    pub fn kill(&mut self) {
        end_all(&mut self.server, &self.folder.path().join("data"));
    }

    /// Starts it on what it had.
    pub fn start_again(&mut self) {
        self.server = serve(self.folder.path(), self.port, &self.settings);
    }
}

/// Kills all of a server's processes at once, as a power cut would end them, and waits until they are gone: one that has a connection serves it until it
/// hears of the others' end. `data` is its folder.
pub fn end_all(server: &mut Child, data: &Path) {
    // Of one that has ended the number may be somebody else's by now: in a long campaign it was a thread of the campaign's own.
    if !matches!(server.try_wait(), Ok(Some(_))) {
        kill_all(server);
    }
    // The kernel keeps the segment of memory by which servers of a folder know each other, and has room for some thousand of them.
    let run = data.join("postmaster.pid");
    let said = std::fs::read_to_string(&run).unwrap_or_default();
    if let Some(segment) = said.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        let _ = done_quietly(Command::new("ipcrm").args(["-m", segment]));
    }
    let _ = std::fs::remove_file(run);
}

fn kill_all(server: &mut Child) {
    let postmaster = server.id();
    let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
    let children = children.unwrap_or_default();
    let mut kill = Command::new("kill");
    kill.arg("-9")
        .arg(postmaster.to_string())
        .args(children.split_whitespace());
    // One that has ended meanwhile is no failure.
    let _ = kill.stderr(Stdio::null()).status();
    let _ = server.wait();
    let begun = Instant::now();
    while children.split_whitespace().any(is_running) && begun.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(2));
    }
}

fn is_running(process: &str) -> bool {
    // Whoever has ended and is not yet buried holds nothing.
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Starts the server, and waits until it takes connections.
fn serve(folder: &Path, port: u16, settings: &[String]) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let mut server = command("postgres")
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        // No machine fails in these tests, only processes.
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=40"])
        .args(["-c", "shared_buffers=16MB", "-c", "dynamic_shared_memory_type=mmap"])
        .args(["-p", &port.to_string()])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .stderr(log)
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !done_quietly(
        command("pg_isready")
            .arg("-h")
            .arg(folder)
            .args(["-p", &port.to_string()]),
    ) {
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(server.try_wait().unwrap().is_none(), "the server ended: {}", log());
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "the server does not start: {}",
            log()
        );
        thread::sleep(Duration::from_millis(20));
    }
    server
}

fn done_quietly(command: &mut Command) -> bool {
    command
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Postgres").field(&self.folder.path()).finish()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}
