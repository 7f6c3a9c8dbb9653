//! A primary with a synchronous standby, as processes that are killed, started again and promoted.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::{command, copy, done, end_all, folder, template};

/// Longer than a server takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of each server's disk: several times what a campaign writes and keeps.
const DISK_BYTES: u64 = 768 << 20;

/// Two servers, one behind the other.
pub(super) struct Cluster {
    /// The setting `synchronous_commit` of both.
    commits: &'static str,
    made: u32,
    primary: Node,
    standby: Node,
    /// Dropped last: their disks are in it.
    folder: TempDir,
}

/// A server, its data and its socket.
struct Node {
    place: PathBuf,
    process: Child,
    /// Where it can be mounted, which takes rights that not everybody has.
    disk: Option<Disk>,
}

/// A file system in memory, which a test can fill without harm to anybody else.
struct Disk {
    place: PathBuf,
}

impl Disk {
    fn mount(place: &Path) -> Option<Self> {
        let options = format!("size={DISK_BYTES},mode=0777");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tollgate-fleet"]).arg(place);
        let mounted = mount.stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self {
            place: place.to_owned(),
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file of it open keeps it for as long.
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
    }
}

impl Cluster {
    pub(super) fn start(commits: &'static str) -> Self {
        let folder = folder();
        let place = folder.path().join("1");
        let disk = make(&place);
        copy(template(), &place.join("data"));
        let primary = Node::start(place, disk, commits);
        let place = folder.path().join("2");
        let standby = Node::behind(&primary, place, commits);
        let cluster = Self {
            commits,
            made: 2,
            primary,
            standby,
            folder,
        };
        cluster.wait_for_standby();
        cluster
    }

    /// The folder of the socket of who takes writes now.
    pub(super) fn socket(&self) -> PathBuf {
        self.primary.place.join(".s.PGSQL.5432")
    }

    /// The primary, without the wire between.
    pub(super) fn url(&self) -> String {
        let place = self.primary.place.display().to_string().replace('/', "%2F");
        format!("postgres://tollgate@{place}/postgres")
    }

    /// What one column of one row answers.
    pub(super) fn ask(&self, sql: &str) -> Option<String> {
        self.primary.ask(sql)
    }

    /// Kills every process of the primary at once, and starts it on what it had.
    pub(super) fn kill_and_start(&mut self) {
        self.primary.kill();
        self.primary.process = serve(&self.primary.place, self.commits);
        self.primary.wait();
    }

    /// Ends the primary without a checkpoint, as an impatient administrator does, and starts it again.
    pub(super) fn restart_at_once(&mut self) {
        let mut stop = command("pg_ctl");
        stop.args(["stop", "-m", "immediate", "-w", "-D"])
            .arg(self.primary.place.join("data"));
        done(&mut stop);
        let _ = self.primary.process.wait();
        self.primary.process = serve(&self.primary.place, self.commits);
        self.primary.wait();
    }

    /// Kills the primary for good and promotes the standby. Then a new standby is made behind it, without which it commits nothing.
    /// `promoted` is told where to go as soon as there is somewhere.
    pub(super) fn fail_over(&mut self, promoted: impl FnOnce(&Path)) {
        self.primary.kill();
        let mut promote = command("pg_ctl");
        promote
            .args(["promote", "-w", "-D"])
            .arg(self.standby.place.join("data"));
        done(&mut promote);
        promoted(&self.standby.place.join(".s.PGSQL.5432"));
        self.made += 1;
        let place = self.folder.path().join(self.made.to_string());
        let standby = Node::behind(&self.standby, place, self.commits);
        let former = std::mem::replace(&mut self.primary, std::mem::replace(&mut self.standby, standby));
        let place = former.place.clone();
        drop(former);
        let _ = std::fs::remove_dir_all(place);
        self.wait_for_standby();
    }

    /// Whether the servers have disks of their own, which can be filled.
    pub(super) fn has_disks(&self) -> bool {
        self.primary.disk.is_some()
    }

    /// Leaves no byte on the primary's disk for a while, and returns whether it found that out. A server that does not go on when there is room again
    /// is started anew, as an operator would: its shared memory lies on that disk too.
    pub(super) fn fill_disk(&mut self, lasts: Duration) -> bool {
        let refusals = |node: &Node| node.log().matches("No space left on device").count();
        let before = refusals(&self.primary);
        let full = self.primary.place.join("full");
        let mut file = std::fs::File::create(&full).expect("a file on the primary's disk");
        for bytes in [1 << 20, 4 << 10, 1] {
            let block = vec![0; bytes];
            while file.write_all(&block).is_ok() {}
        }
        // One that is open would keep its room after its end.
        drop(file);
        let begun = Instant::now();
        while begun.elapsed() < lasts {
            // It has room for its log in advance, and uses that up faster.
            let _ = self.ask("SELECT pg_switch_wal()");
            thread::sleep(Duration::from_millis(100));
        }
        let found = refusals(&self.primary) > before;
        std::fs::remove_file(&full).expect("the file that fills the disk goes");
        let begun = Instant::now();
        while self.ask("SELECT 1").is_none() {
            if begun.elapsed() > Duration::from_secs(1) {
                self.kill_and_start();
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        found
    }

    fn wait_for_standby(&self) {
        let begun = Instant::now();
        while self
            .ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
            .as_deref()
            != Some("1")
        {
            assert!(
                begun.elapsed() < PATIENCE,
                "the standby does not follow: {}",
                self.standby.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.primary.kill();
        self.standby.kill();
    }
}

impl Node {
    fn start(place: PathBuf, disk: Option<Disk>, commits: &'static str) -> Self {
        let node = Self {
            process: serve(&place, commits),
            place,
            disk,
        };
        node.wait();
        node
    }

    /// A copy of who runs, which follows it.
    fn behind(primary: &Self, place: PathBuf, commits: &'static str) -> Self {
        let disk = make(&place);
        let mut copied = command("pg_basebackup");
        copied.arg("-h").arg(&primary.place).args([
            "-U",
            "tollgate",
            "-X",
            "stream",
            "-c",
            "fast",
            "-R",
            "--no-sync",
            "-D",
        ]);
        done(copied.arg(place.join("data")));
        Self::start(place, disk, commits)
    }

    /// Until it answers.
    fn wait(&self) {
        let begun = Instant::now();
        while self.ask("SELECT 1").is_none() {
            assert!(begun.elapsed() < PATIENCE, "the server does not start: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, sql: &str) -> Option<String> {
        let mut ask = command("psql");
        ask.arg("-h")
            .arg(&self.place)
            .args(["-U", "tollgate", "-d", "postgres", "-XtAc", sql]);
        let answer = ask
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .output()
            .expect("psql starts");
        let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        answer.status.success().then_some(text)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("log")).unwrap_or_default()
    }

    fn kill(&mut self) {
        end_all(&mut self.process, &self.place.join("data"));
    }
}

/// A folder of a server's, with a disk of its own where one can be had.
fn make(place: &Path) -> Option<Disk> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(place).expect("a folder");
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o777)).expect("a folder's permissions");
    Disk::mount(place)
}

fn serve(place: &Path, commits: &'static str) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.join("log"));
    let commits = format!("synchronous_commit={commits}");
    let settings = [
        "listen_addresses=",
        // No machine fails here, only processes.
        "fsync=off",
        "max_connections=60",
        "shared_buffers=16MB",
        "dynamic_shared_memory_type=mmap",
        "wal_level=replica",
        "wal_keep_size=128MB",
        "max_wal_size=128MB",
        "wal_retrieve_retry_interval=100ms",
        "synchronous_standby_names=*",
        commits.as_str(),
    ];
    command("postgres")
        .arg("-D")
        .arg(place.join("data"))
        .arg("-k")
        .arg(place)
        .args(settings.iter().flat_map(|setting| ["-c", *setting]))
        .stderr(log.expect("a log"))
        .spawn()
        .expect("the server's program starts")
}
