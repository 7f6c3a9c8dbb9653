//! The stage: a folder that goes away with the demo, the configuration in it, the destination, and the host as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tollgate_core::ids::KeyId;
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_store::Views as _;

use super::destination::Destination;
use super::story::Step;
use crate::Usage;
use crate::provider::find as find_profile;
use crate::send::tampered;
use tollgate_server::clock;
use tollgate_server::store::LocalStore;

const OPERATOR: &str = include_str!("tollgate.toml");
const TENANTS: [(&str, &str); 2] = [
    ("acme", include_str!("acme.toml")),
    ("globex", include_str!("globex.toml")),
];

/// The shipped plugins by their names, where they were built before this program; see build.rs.
const PLUGINS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

/// A host that does not answer after this long is not coming.
const START_MAX: Duration = Duration::from_secs(120);

/// A request, ready to be sent.
pub(super) struct Signed {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Scene {
    folder: tempfile::TempDir,
    pub(super) edge: SocketAddr,
    pub(super) destination: Destination,
    host: Option<Child>,
}

impl Scene {
    /// Writes the configuration and opens the destination; the host is not started yet. The plugins are the program's own, or those
    /// in `plugins`.
    pub(super) async fn set(plugins: Option<&Path>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("tollgate-demo-").tempdir()?;
        let plugins = match plugins {
            Some(given) => given.to_owned(),
            None if PLUGINS.is_empty() => {
                return Err(Usage(
                    "this program was built without its plugins: `cargo xtask demo` builds both, or name their folder with --plugins"
                        .to_owned(),
                )
                .into());
            }
            None => {
                let own = folder.path().join("plugins");
                std::fs::create_dir(&own)?;
                for (name, component) in PLUGINS {
                    std::fs::write(own.join(format!("{name}.wasm")), component)?;
                }
                own
            }
        };
        for name in ["cashback", "inventory", "fraud", "gift-card"] {
            let file = plugins.join(format!("{name}.wasm"));
            if !file.is_file() {
                let missing = file.display();
                return Err(Usage(format!("{missing} is missing; `cargo xtask guests` builds the plugins")).into());
            }
        }
        let secret = |length: usize| -> anyhow::Result<String> {
            let mut bytes = vec![0; length];
            getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            Ok(data_encoding::BASE64.encode(&bytes))
        };
        let destination_secret = format!("whsec_{}", secret(32)?);
        let destination = Destination::start(&destination_secret).await?;
        let (edge, operator) = (free_port()?, free_port()?);

        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        std::fs::create_dir(folder.path().join("tenants"))?;
        let plugins = std::fs::canonicalize(plugins)?;
        let operator_toml = OPERATOR
            .replace("EDGE", &edge.to_string())
            .replace("OPERATOR", &operator.to_string())
            .replace("PLUGINS", &plugins.display().to_string());
        write("tollgate.toml", &operator_toml)?;
        write("operator.token", &secret(24)?)?;
        for (tenant, text) in TENANTS {
            std::fs::create_dir_all(folder.path().join("secrets").join(tenant))?;
            write(&format!("secrets/{tenant}/source"), &secret(24)?)?;
            write(&format!("secrets/{tenant}/destination"), &destination_secret)?;
            let text = text.replace("DESTINATION", &format!("http://{}/{tenant}", destination.address));
            write(&format!("tenants/{tenant}.toml"), &text)?;
        }
        Ok(Self {
            folder,
            edge,
            destination,
            host: None,
        })
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join("tollgate.toml")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.folder.path().join("tollgate.db")
    }

    pub(super) fn secret_file(&self, tenant: &str) -> PathBuf {
        self.folder.path().join(format!("secrets/{tenant}/source"))
    }

    /// Starts the host as a process of its own and waits until it takes connections.
    pub(super) async fn start_host(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the host")?;
        // The host's log is shown only if it does not come up.
        let log = child.stderr.take().map(BufReader::new);
        let (lines, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in log.into_iter().flat_map(BufReader::lines).map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let host = self.host.insert(child);
        while !takes_events_in(self.edge).await {
            if let Some(status) = host.try_wait()? {
                let said: Vec<String> = said.iter().collect();
                anyhow::bail!("the host ended with {status} before it was up:\n{}", said.join("\n"));
            }
            anyhow::ensure!(start.elapsed() < START_MAX, "the host did not come up in {START_MAX:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(start.elapsed())
    }

    /// Kills the host as a power cut would: no signal handler, no goodbye. Returns how much it left unfinished.
    pub(super) fn kill_host(&mut self) -> anyhow::Result<u64> {
        let mut host = self.host.take().context("no host to kill")?;
        host.kill()?;
        host.wait()?;
        let store = LocalStore::open_read_only(self.store())?;
        let counts = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(store.counts()))?;
        Ok(counts.jobs_waiting + counts.outbox_waiting)
    }

    /// Asks the host to stop, and waits for it.
    pub(super) async fn stop_host(&mut self) -> anyhow::Result<()> {
        let Some(mut host) = self.host.take() else {
            return Ok(());
        };
        let asked = Command::new("kill").args(["-TERM", &host.id().to_string()]).status();
        if !asked.is_ok_and(|status| status.success()) {
            host.kill()?;
        }
        tokio::task::spawn_blocking(move || host.wait()).await??;
        Ok(())
    }

    /// A step as its provider would send it.
    pub(super) fn sign(&self, step: &Step) -> anyhow::Result<Signed> {
        let profile = find_profile(step.sample.provider)?;
        let text = std::fs::read(self.secret_file(step.tenant))?;
        let secret = SourceSecret {
            id: KeyId::new("demo")?,
            text: Secret::new(text),
            not_before: None,
            not_after: None,
        };
        let mut body = step.body()?;
        let url = format!("http://{}/in/{}/{}", self.edge, step.tenant, step.source);
        let input = SignInput {
            body: &body,
            id: step.name,
            at: clock::now(),
            url: Some(&url),
        };
        let mut headers = sign(&profile, &[secret], &Parameters::new(), &input)?.headers;
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        if step.tamper {
            body = tampered(body);
        }
        Ok(Signed { url, headers, body })
    }
}

/// The host does not outlive a demo that fails.
impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(host) = &mut self.host {
            let _ = host.kill();
            let _ = host.wait();
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Whether the host answers as a load balancer would ask it. Its port is open earlier than that.
async fn takes_events_in(edge: SocketAddr) -> bool {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(edge).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: demo\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    ask.await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
