//! A stage for the Spin app: a folder with a manifest, the built components and a tenant's file, and `spin up` as a process of its
//! own. Without a `spin` the stand-in of tests/spin takes its place; the log of each test says which it was.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;
use tollgate_enclose::{Kit, enclose};
use tollgate_store::SqliteStore;

use crate::client::{Answer, Client, request};
use crate::destination::{DESTINATION_SECRET, Destination};
use crate::disk::Watch;
use crate::documented;
use crate::events::{FAMILIES, Message};
use crate::stage::{free_port, wait_until};
use crate::{hostile_dir, plugins_dir, spin_dir, spin_stand_in};

/// Components are compiled at a first start: 5 s for those of the hostile guests, on two cores that have nothing else to do.
const START_PATIENCE: Duration = Duration::from_secs(90);

pub const OPERATOR_TOKEN: &str = "operator-token-of-the-spin-tests";
pub const SWEEP_TOKEN: &str = "sweep-token-of-the-spin-tests";

/// What runs the app.
#[derive(Debug, Clone)]
pub struct SpinHost {
    program: PathBuf,
    /// Spin itself, and not the stand-in.
    pub is_real: bool,
}

impl SpinHost {
    /// What the variable SPIN names, or `spin` on PATH, or the stand-in.
    pub fn found() -> Self {
        let named = std::env::var_os("SPIN").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = || {
            std::env::split_paths(&path)
                .map(|folder| folder.join("spin"))
                .find(|program| program.is_file())
        };
        match named.or_else(on_path) {
            Some(program) => Self { program, is_real: true },
            None => Self {
                program: spin_stand_in(),
                is_real: false,
            },
        }
    }
}

/// A tenant with a source of each family of [`FAMILIES`], as [`crate::stage::SOURCES`], and no routes.
pub fn sources() -> String {
    let mut text = String::new();
    for (source, provider, _) in FAMILIES {
        let _ = write!(
            text,
            "[sources.{source}]\nprovider = \"{provider}\"\nsecrets = [{{ id = \"{source}-1\", value = {{ env = \"{}\" }} }}]\n",
            variable(source).to_uppercase(),
        );
    }
    text
}

fn variable(source: &str) -> String {
    format!("acme_{source}_secret")
}

/// The destination `books`.
pub fn books(destination: &Destination) -> String {
    format!(
        "\n[destinations.books]\nurl = \"{}\"\nsecrets = [{{ env = \"ACME_BOOKS_SECRET\" }}]\n",
        destination.url()
    )
}

/// What an app is set up with.
#[derive(Debug, Clone, Default)]
pub struct SpinSetup {
    tenant: String,
    plugins: Vec<(String, PathBuf)>,
    outbound: Vec<String>,
    variables: Vec<(String, String)>,
    memory_bytes_max: Option<usize>,
    /// The tenant's file is one that Spin cannot hold: it is not built.
    is_refused: bool,
    /// Where the database is, and what watches it.
    watched: Option<(PathBuf, Vec<(&'static str, PathBuf)>)>,
}

impl SpinSetup {
    /// One tenant, `acme`, with [`sources`] and these routes and destinations.
    pub fn acme(rest: &str) -> Self {
        Self::of(format!("{}{rest}", sources()))
    }

    /// One tenant, `acme`, with this file.
    pub fn of(tenant: String) -> Self {
        let mut variables: Vec<_> = FAMILIES
            .iter()
            .map(|(source, _, secret)| (variable(source), (*secret).to_owned()))
            .collect();
        variables.push(("acme_books_secret".to_owned(), DESTINATION_SECRET.to_owned()));
        variables.push(("operator_token".to_owned(), OPERATOR_TOKEN.to_owned()));
        variables.push(("sweep_token".to_owned(), SWEEP_TOKEN.to_owned()));
        Self {
            tenant,
            variables,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A shipped plugin.
    #[must_use]
    pub fn plugin(mut self, name: &str) -> Self {
        self.plugins
            .push((name.to_owned(), plugins_dir().join(format!("{name}.wasm"))));
        self
    }

    /// A guest that misbehaves, under its file's name.
    #[must_use]
    pub fn hostile(mut self, name: &str) -> Self {
        self.plugins
            .push((name.to_owned(), hostile_dir().join(format!("{name}.wasm"))));
        self
    }

    #[must_use]
    pub fn destination(mut self, destination: &Destination) -> Self {
        self.outbound.push(format!("http://{}", destination.address));
        self
    }

    /// The database stands in a watched folder.
    #[must_use]
    pub fn watched(mut self, watch: &Watch) -> Self {
        self.watched = Some((watch.folder(), watch.environment_of_launcher()));
        self
    }

    #[must_use]
    pub fn refused(mut self) -> Self {
        self.is_refused = true;
        self
    }

    #[must_use]
    pub fn memory_bytes_max(mut self, bytes: usize) -> Self {
        self.memory_bytes_max = Some(bytes);
        self
    }

    /// Writes the folder and starts nothing.
    ///
    /// # Panics
    /// When a component was not built.
    pub fn set(self) -> SpinStage {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-spin-")
            .tempdir()
            .expect("a temporary folder");
        for name in ["kit", "plugins", "tenants", "state"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        for name in ["ingest", "worker", "runner", "host_calls", "caller"] {
            let file = format!("tollgate_spin_{name}.wasm");
            let from = spin_dir().join(&file);
            fs::copy(&from, folder.path().join("kit").join(file))
                .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask spin`", from.display()));
        }
        let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let host_calls = read(folder.path().join("kit/tollgate_spin_host_calls.wasm"));
        let caller = read(folder.path().join("kit/tollgate_spin_caller.wasm"));
        for (name, from) in &self.plugins {
            let kit = Kit {
                host_calls: &host_calls,
                caller: &caller,
            };
            let enclosed = enclose(kit, &read(from.clone())).expect("a plugin to enclose");
            fs::write(folder.path().join(format!("plugins/{name}.wasm")), enclosed).expect("a file");
        }
        fs::write(folder.path().join("tenants/acme.toml"), &self.tenant).expect("a file");
        if !self.is_refused {
            tollgate_tenants::build(&folder.path().join("tenants"), true).expect("a tenant's file");
        }
        fs::write(folder.path().join("spin.toml"), self.manifest()).expect("a file");
        SpinStage {
            folder,
            setup: self,
            address: free_port(),
            host: None,
            log: Arc::default(),
        }
    }

    /// Sets the stage and starts the app.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(self) -> SpinStage {
        let mut stage = self.set();
        stage.start();
        stage
    }

    fn manifest(&self) -> String {
        let mut text = String::from(
            "spin_manifest_version = 2\n[application]\nname = \"tollgate-tests\"\nversion = \"0.1.0\"\n\n[variables]\n",
        );
        for (name, _) in &self.variables {
            let _ = writeln!(text, "{name} = {{ required = true, secret = true }}");
        }
        let plugins = self
            .plugins
            .iter()
            .map(|(name, _)| format!("http://{}.spin.internal", component(name)));
        let hosts = plugins.chain(self.outbound.iter().cloned()).collect();
        for (name, route, hosts) in [
            ("ingest", "/...", vec!["http://worker.spin.internal".to_owned()]),
            ("worker", "/v1/...", hosts),
        ] {
            let _ = write!(
                text,
                "\n[[trigger.http]]\nroute = \"{route}\"\ncomponent = \"{name}\"\n\n[component.{name}]\n\
                 source = \"kit/tollgate_spin_{name}.wasm\"\nsqlite_databases = [\"default\"]\n\
                 files = [{{ source = \"tenants/built\", destination = \"/tenants\" }}]\nallowed_outbound_hosts = ["
            );
            for host in &hosts {
                let _ = write!(text, "\n    \"{host}\",");
            }
            text.push_str(if hosts.is_empty() { "]" } else { "\n]" });
            let _ = writeln!(text, "\n\n[component.{name}.variables]");
            for (variable, _) in &self.variables {
                let _ = writeln!(text, "{variable} = \"{{{{ {variable} }}}}\"");
            }
        }
        for (name, _) in &self.plugins {
            let id = component(name);
            let _ = write!(
                text,
                "\n[[trigger.http]]\nroute = {{ private = true }}\ncomponent = \"{id}\"\n\n[component.{id}]\n\
                 source = \"kit/tollgate_spin_runner.wasm\"\n\n[component.{id}.dependencies]\n\
                 \"tollgate:runner/plugin@1.0.0\" = {{ path = \"plugins/{name}.wasm\" }}\n"
            );
        }
        text
    }
}

fn component(plugin: &str) -> String {
    format!("plugin-{}", plugin.replace('_', "-"))
}

/// A set stage, with or without a running app.
pub struct SpinStage {
    folder: TempDir,
    setup: SpinSetup,
    pub address: SocketAddr,
    host: Option<Child>,
    log: Arc<Mutex<String>>,
}

impl SpinStage {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The app's variables with their values.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.setup.variables.clone()
    }

    /// Starts the app and waits until it is well.
    ///
    /// # Panics
    /// When it does not come up; shows its log.
    #[track_caller]
    pub fn start(&mut self) {
        for _ in 0..5 {
            let before = self.log().len();
            self.launch();
            if self.comes_up() {
                return;
            }
            // Between choosing the port and taking it, somebody else may have. What the app said last may be in its pipe still.
            let is_taken = (0..50).any(|_| {
                thread::sleep(Duration::from_millis(20));
                self.log()[before..].contains("already in use")
            });
            assert!(is_taken, "the app did not come up:\n{}", self.log());
        }
        panic!("no free port for the app:\n{}", self.log());
    }

    /// Waits until the app is well, or has ended. Returns whether it is well.
    #[track_caller]
    fn comes_up(&mut self) -> bool {
        let start = Instant::now();
        loop {
            let health = self.health();
            if matches!(health, Some((200, _))) {
                return true;
            }
            let ended = self.host.as_mut().and_then(|host| host.try_wait().ok().flatten());
            if ended.is_some() {
                return false;
            }
            assert!(
                start.elapsed() < START_PATIENCE,
                "the app is not up yet, and says {health:?}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What `/healthz` says; `None` while nobody answers.
    pub fn health(&self) -> Option<(u16, String)> {
        let mut client = Client::connect(self.address).ok()?;
        client.send(&request("GET", "/healthz", &[], b"")).ok()?;
        let answer = client.answer().ok()?;
        Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Starts the app, at another address each time.
    ///
    /// # Panics
    /// When its host cannot be started.
    pub fn launch(&mut self) {
        self.address = free_port();
        let host = SpinHost::found();
        println!(
            "running on {}",
            if host.is_real { "spin" } else { "the stand-in for spin" }
        );
        let mut command = Command::new(&host.program);
        command
            .arg("up")
            .arg("--from")
            .arg(self.path("spin.toml"))
            .arg("--listen")
            .arg(self.address.to_string())
            .arg("--state-dir")
            .arg(self.state());
        if let Some((_, environment)) = &self.setup.watched {
            command.envs(environment.iter().map(|(name, value)| (name, value)));
        }
        if let Some(bytes) = self.setup.memory_bytes_max {
            command.arg("--max-instance-memory").arg(bytes.to_string());
        }
        for (name, value) in &self.setup.variables {
            command.env(format!("SPIN_VARIABLE_{}", name.to_uppercase()), value);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // `spin up` starts a second process, which serves: they are killed as one.
            .process_group(0)
            .spawn()
            .expect("the host's program starts");
        let mut stderr = child.stderr.take().expect("a pipe");
        let log = Arc::clone(&self.log);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(bytes @ 1..) = stderr.read(&mut piece) {
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&piece[..bytes]));
            }
        });
        self.host = Some(child);
    }

    /// The process id of the running host.
    ///
    /// # Panics
    /// When none runs.
    pub fn pid(&self) -> u32 {
        self.host.as_ref().expect("a running host").id()
    }

    /// Ends the app as a power cut would: all of its processes.
    pub fn kill(&mut self) {
        if let Some(mut host) = self.host.take() {
            let group = i32::try_from(host.id()).ok().and_then(Pid::from_raw);
            let killed = group.is_some_and(|group| kill_process_group(group, Signal::KILL).is_ok());
            if !killed {
                let _ = host.kill();
            }
            let _ = host.wait();
            // What is killed is gone when nobody has the door open any more.
            let start = Instant::now();
            while std::net::TcpListener::bind(self.address).is_err() && start.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// What the app said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Posts to `/in/acme/{source}`.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn post(&self, source: &str, message: &Message) -> Answer {
        Client::connect(self.address)
            .and_then(|mut client| client.post(&format!("/in/acme/{source}"), message))
            .expect("an answer")
    }

    /// Sends a request with a bearer token.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, token: &str, body: &[u8]) -> Answer {
        let authorization = ("authorization".to_owned(), format!("Bearer {token}"));
        let mut client = Client::connect(self.address).expect("the app takes connections");
        client
            .send(&request(method, path, &[authorization], body))
            .expect("a request");
        let answer = client.answer().expect("an answer");
        documented::hold(method, path, &answer);
        answer
    }

    /// Works on what is due, as a timer would.
    #[track_caller]
    pub fn sweep(&self) -> Value {
        let answer = self.ask("POST", "/v1/sweep", SWEEP_TOKEN, b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    #[track_caller]
    pub fn counts(&self) -> Value {
        self.ask("GET", "/v1/counts", OPERATOR_TOKEN, b"").json()
    }

    /// All receipts that `id` names, newest first.
    #[track_caller]
    pub fn traces(&self, id: &str) -> Vec<Value> {
        let answer = self.ask("GET", &format!("/v1/trace?id={id}"), OPERATOR_TOKEN, b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json().as_array().cloned().unwrap_or_default()
    }

    /// Waits until every job of a receipt has come to an end, and answers its trace.
    #[track_caller]
    pub fn finished(&self, receipt: &str) -> Value {
        wait_until("the receipt's jobs are finished", || {
            let trace = self.traces(receipt).into_iter().next()?;
            let open = |job: &Value| job["state"] == "ready" || job["state"] == "leased";
            (!trace["jobs"].as_array()?.iter().any(open)).then_some(trace)
        })
    }

    /// The database, read as the native store that it is.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn store(&self) -> SqliteStore {
        SqliteStore::open_read_only(self.database()).expect("the app's database is a store")
    }

    pub fn database(&self) -> PathBuf {
        self.state().join("sqlite_db.db")
    }

    fn state(&self) -> PathBuf {
        let watched = self.setup.watched.as_ref();
        watched.map_or_else(|| self.path("state"), |(folder, _)| folder.clone())
    }
}

impl Drop for SpinStage {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("── the app's log ──\n{}", self.log());
        }
        self.kill();
    }
}
