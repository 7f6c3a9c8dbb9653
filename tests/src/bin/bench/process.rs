//! Servers as processes of their own, and what the kernel counts for them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tollgate_tests::spin::{SpinSetup, SpinStage};

pub(super) const SECRET: &str = "bench-secret";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    /// [`super::bare`].
    Bare,
    /// Verify and durable receipt; no route, so that nothing else runs.
    Ingest,
    /// A route to cashback, whose actions stay in the ledger.
    WholeWay,
    /// As [`Setup::Ingest`], on Spin or its stand-in.
    Spin,
}

pub(super) struct Server {
    pub(super) port: u16,
    /// Where the source is.
    pub(super) path: &'static str,
    running: Running,
}

enum Running {
    Own(Child, tempfile::TempDir),
    App(SpinStage),
}

impl Server {
    /// Starts a server on an empty store and waits until it takes connections.
    pub(super) fn start(setup: Setup) -> anyhow::Result<Self> {
        if setup == Setup::Spin {
            let source = "[sources.rewards]\nprovider = \"voucherify\"\n\
                          secrets = [{ id = \"bench\", value = { env = \"BENCH_SECRET\" } }]\n";
            let app = SpinSetup::of(source.to_owned())
                .variable("bench_secret", SECRET)
                .start();
            return Ok(Self {
                port: app.address.port(),
                path: "/in/acme/rewards",
                running: Running::App(app),
            });
        }
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        // Beside the binaries: a temporary directory may be memory, on which an fsync costs nothing.
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(folder()?)?;
        let threads = std::thread::available_parallelism()?.get();
        let mut command = if setup == Setup::Bare {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["bare", &port.to_string(), &threads.to_string()]);
            command
        } else {
            configure(folder.path(), port, setup)?;
            let mut command = Command::new(tollgate_tests::tollgate_bin());
            command
                .args(["serve", "--config"])
                .arg(folder.path().join("tollgate.toml"));
            command
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(child.try_wait()?.is_none(), "the server ended before it was up");
            anyhow::ensure!(start.elapsed() < Duration::from_secs(60), "the server did not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            port,
            path: "/in/bench/rewards",
            running: Running::Own(child, folder),
        })
    }

    fn pid(&self) -> u32 {
        match &self.running {
            Running::Own(child, _) => child.id(),
            Running::App(app) => app.pid(),
        }
    }

    fn store_path(&self) -> PathBuf {
        match &self.running {
            Running::Own(_, folder) => folder.path().join("tollgate.db"),
            Running::App(app) => app.database(),
        }
    }

    /// User and system time of the process so far.
    pub(super) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name, in parentheses, may hold spaces; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit_once(") ").context("no stat line")?.1.split(' ').collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // USER_HZ is 100 on every Linux that Tollgate is measured on.
        Ok(Duration::from_millis(ticks * 10))
    }

    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(&self.pid().to_string())
    }

    pub(super) fn store_bytes(&self) -> anyhow::Result<u64> {
        Ok(std::fs::metadata(self.store_path())?.len())
    }

    /// Waits until no job is waiting; how long that took.
    pub(super) fn wait_until_settled(&self) -> anyhow::Result<Duration> {
        use tollgate_store::Store as _;
        let start = Instant::now();
        let store = tollgate_store::sqlite::SqliteStore::open_read_only(self.store_path())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        while runtime.block_on(store.counts())?.jobs_waiting > 0 {
            anyhow::ensure!(start.elapsed() < Duration::from_secs(120), "the jobs did not settle");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(start.elapsed())
    }

    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.running.end();
        Ok(())
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
                let _ = child.kill();
                let _ = child.wait();
            }
            Self::App(app) => app.kill(),
        }
    }
}

fn folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("the program is in no folder")?.to_owned())
}

fn configure(folder: &std::path::Path, port: u16, setup: Setup) -> anyhow::Result<()> {
    let plugins = tollgate_tests::plugins_dir();
    let operator = format!(
        "[edge]\nlisten = \"127.0.0.1:{port}\"\n[store]\npath = \"tollgate.db\"\n[worker]\ncache = \"cache\"\n\
         [plugins.cashback]\npath = \"{}\"\n",
        plugins.join("cashback.wasm").display()
    );
    let route = "[routes.cashback]\nplugin = \"cashback\"\n\
                 grants = [{ kind = \"credit\", amount_max = 100000, currencies = [\"USD\"] }]\n\
                 [routes.cashback.config]\nrate_bps = 10000\ncurrency = \"USD\"\nstatuses = [\"pending\"]\n\
                 points = { from = \"/data/voucher/redemption/redeemed_points\", value_minor_units = 2 }\n";
    let source = "[sources.rewards]\nprovider = \"voucherify\"\n\
                  [[sources.rewards.secrets]]\nid = \"bench\"\nvalue = { file = \"../secret\" }\n";
    let tenant = if setup == Setup::WholeWay {
        format!("{source}{route}")
    } else {
        source.to_owned()
    };
    std::fs::create_dir(folder.join("tenants"))?;
    std::fs::write(folder.join("secret"), SECRET)?;
    std::fs::write(folder.join("tollgate.toml"), operator)?;
    std::fs::write(folder.join("tenants/bench.toml"), tenant)?;
    Ok(())
}

/// What a process (its id, or `self`) holds in memory.
pub(super) fn resident_bytes(process: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
