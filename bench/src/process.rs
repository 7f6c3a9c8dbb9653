//! Servers as processes of their own, what they keep, and what they cost.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;
use tollgate_tests::destination::DESTINATION_SECRET;
use tollgate_tests::spin::{SpinSetup, SpinStage};

use super::bare::Mode;
use super::load::{self, Door, SECRET};
use super::peers::Peer;
use super::system::{empty_folder, free_port, resident_bytes, say, signal, spent, tree_cpu_time};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    /// [`super::bare`].
    Bare(Mode),
    /// Verify and durable receipt; no route, so that nothing else runs.
    Ingest,
    /// A route to cashback, whose actions stay in the ledger.
    WholeWay,
    /// As [`Setup::WholeWay`], delivered to who listens on this port, and with a private listener.
    Listed { books: u16 },
    /// A host whose store is in a PostgreSQL: [`Server::start_on`].
    OnPostgres(Events),
    /// On Spin or its stand-in.
    Spin(App),
    /// Somebody else's.
    Peer(Peer),
}

/// What a host on a PostgreSQL does with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    /// As [`Setup::Ingest`].
    TakenIn,
    /// As [`Setup::WholeWay`].
    Settled,
    /// And delivered to who listens on this port, [`IN_FLIGHT_MAX`] at once.
    Delivered { books: u16 },
}

/// Deliveries that a host has under way at once, where they are what it is bound by.
pub(super) const IN_FLIGHT_MAX: usize = 8;

/// What an app on Spin does with events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum App {
    /// As [`Setup::Ingest`].
    Ingest,
    /// Two routes, to cashback and to fraud, whose actions stay in the ledger.
    TwoPlugins,
    /// As [`App::TwoPlugins`]; a plugin that loops waits for events of its own source.
    WithALoop,
}

impl Setup {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare(mode) => mode.name(),
            Self::Ingest => "ingest",
            Self::WholeWay => "whole way",
            Self::Listed { .. } => "whole way to books",
            Self::OnPostgres(Events::TakenIn) => "ingest on PostgreSQL",
            Self::OnPostgres(Events::Settled) => "whole way on PostgreSQL",
            Self::OnPostgres(Events::Delivered { .. }) => "whole way to books on PostgreSQL",
            Self::Spin(_) => "on Spin",
            Self::Peer(peer) => peer.name(),
        }
    }

    /// Whether each body is on the disk, as it came, when it is answered.
    fn keeps_bodies(self) -> bool {
        match self {
            Self::Bare(mode) => !matches!(mode, Mode::Answer | Mode::AnswerLate),
            Self::Ingest | Self::WholeWay | Self::Listed { .. } => true,
            Self::Spin(_) | Self::OnPostgres(_) => false,
            Self::Peer(peer) => peer.keeps_bodies(),
        }
    }
}

pub(super) struct Server {
    /// Where it takes events in.
    pub(super) door: Door,
    /// Its private listener, where it has one.
    pub(super) operator: Option<u16>,
    setup: Setup,
    running: Running,
}

enum Running {
    Own(Child, Option<TempDir>),
    App(Box<SpinStage>),
}

impl Server {
    /// Starts a server on an empty store and waits until it accepts events.
    pub(super) fn start(setup: Setup) -> anyhow::Result<Self> {
        if let Setup::Spin(app) = setup {
            let source = "[sources.rewards]\nprovider = \"voucherify\"\n\
                          secrets = [{ id = \"bench\", value = { env = \"BENCH_SECRET\" } }]\n";
            let app = match app {
                App::Ingest => SpinSetup::of(source.to_owned()),
                App::TwoPlugins => SpinSetup::of(format!("{source}{CASHBACK}{FRAUD}"))
                    .plugin("cashback")
                    .plugin("fraud"),
                App::WithALoop => SpinSetup::of(format!("{source}{CASHBACK}{FRAUD}{LOOP}"))
                    .plugin("cashback")
                    .plugin("fraud")
                    .hostile("spin"),
            };
            let app = app.variable("bench_secret", SECRET).start();
            return Ok(Self {
                door: Door {
                    name: setup.name(),
                    port: app.address.port(),
                    path: "/in/acme/rewards",
                    with_key: false,
                    keeps_in: None,
                },
                operator: None,
                setup,
                running: Running::App(Box::new(app)),
            });
        }
        Self::start_in(setup, empty_folder()?)
    }

    /// A host, or a peer, whose store is where this URL leads.
    pub(super) fn start_on(setup: Setup, url: &str) -> anyhow::Result<Self> {
        Self::start_with(setup, empty_folder()?, Some(url))
    }

    /// The same on what a server before left in its folder.
    pub(super) fn start_in(setup: Setup, folder: TempDir) -> anyhow::Result<Self> {
        Self::start_with(setup, folder, None)
    }

    fn start_with(setup: Setup, folder: TempDir, store: Option<&str>) -> anyhow::Result<Self> {
        let port = free_port()?;
        let threads = std::thread::available_parallelism()?.get();
        let operator = matches!(setup, Setup::Listed { .. }).then(free_port).transpose()?;
        let mut command = match setup {
            Setup::Bare(mode) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bare", mode.name(), &port.to_string(), &threads.to_string()]);
                command.arg(folder.path().join("bodies"));
                command
            }
            Setup::Peer(peer) => peer.command(port, folder.path(), store)?,
            Setup::Ingest | Setup::WholeWay | Setup::Listed { .. } | Setup::OnPostgres(_) | Setup::Spin(_) => {
                configure(folder.path(), (port, operator), setup, store)?;
                let mut command = Command::new(tollgate_tests::tollgate_bin());
                command
                    .args(["serve", "--config"])
                    .arg(folder.path().join("tollgate.toml"));
                command
            }
        };
        let log = std::fs::File::create(folder.path().join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // So that what it starts can be ended with it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} does not start", setup.name()))?;
        let (path, with_key) = match setup {
            Setup::Peer(peer) => (peer.path(), peer.with_key()),
            _ => ("/in/bench/rewards", false),
        };
        let mut server = Self {
            door: Door {
                name: setup.name(),
                port,
                path,
                with_key,
                keeps_in: setup.keeps_bodies().then(|| folder.path().to_owned()),
            },
            operator,
            setup,
            running: Running::Own(child, Some(folder)),
        };
        server.wait_until_up()?;
        Ok(server)
    }

    fn wait_until_up(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut last = None;
        while start.elapsed() < Duration::from_secs(60) {
            match load::one(&self.door) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
            if let Running::Own(child, _) = &mut self.running
                && child.try_wait()?.is_some()
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = self.folder().map(|folder| std::fs::read_to_string(folder.join("log")));
        let log = log.transpose()?.unwrap_or_default();
        let said = log
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("nothing");
        let error = last.unwrap_or_else(|| anyhow::anyhow!("it ended"));
        Err(error.context(format!("{} did not come up; it said: {said}", self.setup.name())))
    }

    /// Whether it is somebody else's.
    pub(super) fn is_peer(&self) -> bool {
        matches!(self.setup, Setup::Peer(_))
    }

    fn pid(&self) -> u32 {
        match &self.running {
            Running::Own(child, _) => child.id(),
            Running::App(app) => app.pid(),
        }
    }

    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.running {
            Running::Own(_, folder) => folder.as_ref().map(TempDir::path),
            Running::App(_) => None,
        }
    }

    fn store_path(&self) -> anyhow::Result<PathBuf> {
        match &self.running {
            Running::Own(..) => Ok(self.folder().context("no folder")?.join("tollgate.db")),
            Running::App(app) => Ok(app.database()),
        }
    }

    /// User and system time so far of the process and of all that it started.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        tree_cpu_time(self.pid())
    }

    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(&self.pid().to_string())
    }

    pub(super) fn store_bytes(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(self.store_path()?)?.len())
    }

    /// How often the database's log was begun anew because all of it had been moved into the database: bytes 12 to 15 of the log,
    /// as SQLite's file format has them. None while there is no log.
    pub(super) fn checkpoints(&self) -> anyhow::Result<Option<u32>> {
        use std::io::Read as _;
        let path = self.store_path()?.with_extension("db-wal");
        let mut head = [0; 16];
        let read = std::fs::File::open(path).and_then(|mut log| log.read_exact(&mut head));
        Ok(read
            .ok()
            .map(|()| u32::from_be_bytes([head[12], head[13], head[14], head[15]])))
    }

    /// The app, where the server is one.
    pub(super) fn app(&self) -> anyhow::Result<&SpinStage> {
        match &self.running {
            Running::App(app) => Ok(app),
            Running::Own(..) => anyhow::bail!("the server is no app"),
        }
    }

    /// Waits until no job and no delivery is waiting; how long that took.
    pub(super) fn wait_until_settled(&self) -> anyhow::Result<Duration> {
        use tollgate_store::Views as _;
        let start = Instant::now();
        let store = tollgate_store::sqlite::SqliteStore::open_read_only(self.store_path()?)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let waits = || {
            let counts = runtime.block_on(store.counts())?;
            anyhow::Ok(counts.jobs_waiting + counts.outbox_waiting > 0)
        };
        while waits()? {
            anyhow::ensure!(start.elapsed() < Duration::from_secs(600), "the jobs did not settle");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(start.elapsed())
    }

    /// Waits until the processes have little to do, for work that they put off until after their answer. It is theirs, so its time
    /// counts; but not for ever.
    pub(super) fn wait_until_idle(&self) -> anyhow::Result<()> {
        const LOOK: Duration = Duration::from_millis(500);
        let start = Instant::now();
        let mut before = self.cpu_time()?;
        while start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(LOOK);
            let now = self.cpu_time()?;
            if now - before < LOOK / 5 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.running.end();
        Ok(())
    }

    /// Ends it as an operator would, and leaves its folder for another start.
    pub(super) fn leave(mut self) -> anyhow::Result<TempDir> {
        let Running::Own(child, folder) = &mut self.running else {
            anyhow::bail!("an app's folder is its own")
        };
        let folder = folder.take().context("no folder")?;
        spent(tree_cpu_time(child.id())?);
        signal("TERM", child.id())?;
        let start = Instant::now();
        while child.try_wait()?.is_none() {
            anyhow::ensure!(start.elapsed() < Duration::from_secs(60), "the server did not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.end();
    }
}

impl Running {
    fn end(&mut self) {
        match self {
            Self::Own(child, _) => {
                if matches!(child.try_wait(), Ok(None)) {
                    spent(tree_cpu_time(child.id()).unwrap_or_default());
                    if let Err(error) = signal("KILL", child.id()) {
                        say(&format!("{error:#}"));
                        let _ = child.kill();
                    }
                }
                let _ = child.wait();
            }
            Self::App(app) => app.kill(),
        }
    }
}

/// A route to cashback.
const CASHBACK: &str = "[routes.cashback]\nplugin = \"cashback\"\nsources = [\"rewards\"]\n\
     grants = [{ kind = \"credit\", amount_max = 100000, currencies = [\"USD\"] }]\n\
     [routes.cashback.config]\nrate_bps = 10000\ncurrency = \"USD\"\nstatuses = [\"pending\"]\n\
     points = { from = \"/data/voucher/redemption/redeemed_points\", value_minor_units = 2 }\n";
/// A route to fraud, which keeps what each customer did.
const FRAUD: &str = "[routes.fraud]\nplugin = \"fraud\"\nsources = [\"rewards\"]\ngrants = [{ kind = \"flag\" }]\n\
     [routes.fraud.config]\ncurrency = \"USD\"\nflag_at = 40\n\
     rules = [{ name = \"burst\", window_minutes = 60, events_max = 2, points = 40 }]\n";
/// A route to a plugin that loops.
const LOOP: &str = "[sources.shop]\nprovider = \"generic-hmac\"\n\
     secrets = [{ id = \"shop\", value = { env = \"ACME_SHOP_SECRET\" } }]\n\
     [routes.loop]\nplugin = \"spin\"\nsources = [\"shop\"]\n";

/// Opens the private listener of a server that has one.
pub(super) const OPERATOR_TOKEN: &str = "operator-token-of-the-bench";

fn configure(
    folder: &Path,
    (port, operator_port): (u16, Option<u16>),
    setup: Setup,
    store: Option<&str>,
) -> anyhow::Result<()> {
    let plugins = tollgate_tests::plugins_dir();
    std::fs::create_dir_all(folder.join("secrets"))?;
    let store = match store {
        Some(url) => {
            std::fs::write(folder.join("secrets/store"), url)?;
            "url = { file = \"secrets/store\" }"
        }
        None => "path = \"tollgate.db\"",
    };
    let private = operator_port
        .map(|port| format!("[operator]\nlisten = \"127.0.0.1:{port}\"\ntoken = {{ file = \"secrets/operator\" }}\n"));
    let private = private.unwrap_or_default();
    let delivered = match setup {
        Setup::Listed { books } => Some((books, 64)),
        Setup::OnPostgres(Events::Delivered { books }) => Some((books, IN_FLIGHT_MAX)),
        _ => None,
    };
    let delivery =
        delivered.map(|_| "[delivery]\nallow_http = true\nallow_networks = [\"127.0.0.0/8\"]\nin_flight_max = 64\n");
    let delivery = delivery.unwrap_or_default();
    let operator = format!(
        "{private}{delivery}[edge]\nlisten = \"127.0.0.1:{port}\"\n[store]\n{store}\n[worker]\ncache = \"cache\"\n\
         [plugins.cashback]\npath = \"{}\"\n",
        plugins.join("cashback.wasm").display()
    );
    let source = "[sources.rewards]\nprovider = \"voucherify\"\n\
                  [[sources.rewards.secrets]]\nid = \"bench\"\nvalue = { file = \"../secrets/source\" }\n";
    let tenant = match (setup, delivered) {
        (_, Some((books, in_flight_max))) => {
            let cashback = CASHBACK.replacen("plugin =", "destinations = [\"books\"]\nplugin =", 1);
            format!(
                "{source}{cashback}[destinations.books]\nurl = \"http://127.0.0.1:{books}/\"\n\
                 secrets = [{{ file = \"../secrets/books\" }}]\nin_flight_max = {in_flight_max}\n"
            )
        }
        (Setup::WholeWay | Setup::OnPostgres(Events::Settled), None) => format!("{source}{CASHBACK}"),
        _ => source.to_owned(),
    };
    std::fs::create_dir_all(folder.join("tenants"))?;
    std::fs::write(folder.join("secrets/source"), SECRET)?;
    std::fs::write(folder.join("secrets/operator"), OPERATOR_TOKEN)?;
    std::fs::write(folder.join("secrets/books"), DESTINATION_SECRET)?;
    std::fs::write(folder.join("tollgate.toml"), operator)?;
    std::fs::write(folder.join("tenants/bench.toml"), tenant)?;
    Ok(())
}
