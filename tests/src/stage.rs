//! A stage for end-to-end tests: a folder with a configuration, and the real `tollgate serve` as a process of its own.
//!
//! The host's log is kept and shown only when the test fails. The process is killed when the stage is dropped.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_core::secret::Secret;
use tollgate_store::{AnyStore, PostgresStore, SqliteStore, StoreError};

use crate::client::{Answer, Client, request};
use crate::destination::{DESTINATION_SECRET, Destination};
use crate::documented;
use crate::events::{FAMILIES, Message, redeemed, signer};
use crate::postgres::Postgres;
use crate::{hostile_dir, plugin_cache, plugins_dir, tollgate_bin};

/// Longer than anything takes that a test waits for, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A first start may have to compile every plugin.
const START_PATIENCE: Duration = Duration::from_secs(300);

const OPERATOR_TOKEN: &str = "operator-token-of-the-tests";

/// A tenant with a source of each family of [`FAMILIES`] and no routes.
pub const SOURCES: &str = r#"
[sources.shop]
provider = "generic-hmac"
secrets = [{ id = "shop-1", value = { file = "../secrets/shop" } }]
[sources.orders]
provider = "standard-webhooks"
secrets = [{ id = "orders-1", value = { file = "../secrets/orders" } }]
[sources.payments]
provider = "stripe"
secrets = [{ id = "payments-1", value = { file = "../secrets/payments" } }]
[sources.rewards]
provider = "voucherify"
secrets = [{ id = "rewards-1", value = { file = "../secrets/rewards" } }]
"#;

/// 10 % cashback on everything that the shop redeems, kept in the ledger.
pub const CASHBACK: &str = r#"
[routes.cashback]
types = ["reward.redeemed"]
plugin = "cashback"
grants = [{ kind = "credit", amount_max = 5000, currencies = ["INR"] }]
[routes.cashback.config]
rate_bps = 1000
currency = "INR"
"#;

/// The same, delivered to `books`.
pub const CASHBACK_TO_BOOKS: &str = r#"
[routes.cashback]
types = ["reward.redeemed"]
plugin = "cashback"
destinations = ["books"]
grants = [{ kind = "credit", amount_max = 5000, currencies = ["INR"] }]
[routes.cashback.config]
rate_bps = 1000
currency = "INR"
"#;

/// A guest that counts: its state would show an effect lost or doubled.
pub const TALLY: &str = r#"
[routes.tally]
types = ["tally"]
plugin = "counter"
grants = [{ kind = "flag" }]
"#;

/// What a stage is set up with. Everything has a default that a small test can live with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the edge listens. A port of 0 is drawn at each start.
    pub listen: SocketAddr,
    /// Lines of `[edge]`.
    pub edge: String,
    /// Lines of `[worker]` and its tables.
    pub worker: String,
    /// Lines of `[delivery]` and its tables. Quick retries by default.
    pub delivery: String,
    /// The store's file, from the stage's folder.
    pub store: String,
    /// Further lines of `[store]`.
    pub store_lines: String,
    /// The test is about a store in files, whatever the others run on.
    is_native: bool,
    /// Lines of `[tenants]`. Where there are several tenants, their files are trusted by default: those of the tests share secrets.
    pub tenancy: Option<String>,
    /// Lines of `[console]`; none without them.
    pub console: String,
    plugins: BTreeMap<String, PathBuf>,
    secrets: BTreeMap<String, String>,
    tenants: BTreeMap<String, String>,
    /// A command that runs the host, for example under a limit.
    wrapper: Vec<String>,
    /// The host's environment, beside that of the tests.
    variables: BTreeMap<String, String>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut secrets: BTreeMap<_, _> = FAMILIES
            .iter()
            .map(|(source, _, secret)| ((*source).to_owned(), (*secret).to_owned()))
            .collect();
        secrets.insert("destination".to_owned(), DESTINATION_SECRET.to_owned());
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            edge: "threads = 2".to_owned(),
            worker: "threads = 2\n[worker.retry]\nattempts_max = 3\nbase_ms = 20\ncap_ms = 100".to_owned(),
            delivery: "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[delivery.retry]\nattempts_max = 4\n\
                       base_ms = 50\ncap_ms = 200"
                .to_owned(),
            store: "tollgate.db".to_owned(),
            store_lines: String::new(),
            is_native: false,
            tenancy: None,
            console: String::new(),
            plugins: BTreeMap::new(),
            secrets,
            tenants: BTreeMap::new(),
            wrapper: Vec::new(),
            variables: BTreeMap::new(),
        }
    }
}

impl Setup {
    /// One tenant, `acme`, with [`SOURCES`] and these routes and destinations.
    pub fn acme(rest: &str) -> Self {
        Self::default().tenant("acme", &format!("{SOURCES}{rest}"))
    }

    /// As [`Setup::acme`], with 10 % cashback delivered to `destination` as `books`.
    pub fn to_books(destination: &Destination) -> Self {
        Self::acme(&format!("{CASHBACK_TO_BOOKS}{}", books("books", destination))).plugin("cashback")
    }

    #[must_use]
    pub fn tenant(mut self, name: &str, text: &str) -> Self {
        self.tenants.insert(name.to_owned(), text.to_owned());
        self
    }

    /// Offers a shipped plugin.
    #[must_use]
    pub fn plugin(mut self, name: &str) -> Self {
        self.plugins
            .insert(name.to_owned(), plugins_dir().join(format!("{name}.wasm")));
        self
    }

    /// Offers a guest of tests/guests.
    #[must_use]
    pub fn hostile(mut self, name: &str) -> Self {
        self.plugins
            .insert(name.to_owned(), hostile_dir().join(format!("{name}.wasm")));
        self
    }

    /// Offers a component under another name than its file's.
    #[must_use]
    pub fn plugin_file(mut self, name: &str, file: &Path) -> Self {
        self.plugins.insert(name.to_owned(), file.to_owned());
        self
    }

    /// Has the edge listen at an address that is known before.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    #[must_use]
    pub fn edge(mut self, lines: &str) -> Self {
        self.edge = lines.to_owned();
        self
    }

    #[must_use]
    pub fn worker(mut self, lines: &str) -> Self {
        self.worker = lines.to_owned();
        self
    }

    #[must_use]
    pub fn delivery(mut self, lines: &str) -> Self {
        self.delivery = lines.to_owned();
        self
    }

    /// A file `secrets/{name}`, which a tenant refers to as `../secrets/{name}`.
    #[must_use]
    pub fn secret(mut self, name: &str, text: &str) -> Self {
        self.secrets.insert(name.to_owned(), text.to_owned());
        self
    }

    /// Keeps the store in files: what the test looks at is not there on PostgreSQL (see [`on_postgres`]).
    #[must_use]
    pub fn native(mut self) -> Self {
        self.is_native = true;
        self
    }

    /// The store's file, from the stage's folder.
    #[must_use]
    pub fn store(mut self, path: &str) -> Self {
        self.store = path.to_owned();
        self.native()
    }

    /// Further lines of `[store]`, which say where it is.
    #[must_use]
    pub fn store_lines(mut self, lines: &str) -> Self {
        self.store_lines = lines.to_owned();
        self.native()
    }

    /// Lines of `[tenants]`.
    #[must_use]
    pub fn tenancy(mut self, lines: &str) -> Self {
        self.tenancy = Some(lines.to_owned());
        self
    }

    /// Lines of `[console]`.
    #[must_use]
    pub fn console(mut self, lines: &str) -> Self {
        self.console = format!("[console]\n{lines}\n");
        self
    }

    /// Runs the host by this command, which gets the program and its arguments at its end. `STAGE` is its folder.
    #[must_use]
    pub fn wrapper(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Gives the host a variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the stage and starts the host.
    ///
    /// # Panics
    /// When the host does not come up; shows its log.
    #[track_caller]
    pub fn start(self) -> Stage {
        let mut stage = self.set();
        stage.start();
        stage
    }

    /// Sets the stage and starts nothing.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn set(self) -> Stage {
        let folder = tempfile::Builder::new()
            .prefix("tollgate-e2e-")
            .tempdir()
            .expect("a temporary folder");
        fs::create_dir(folder.path().join("tenants")).expect("a folder");
        let server = (on_postgres() && !self.is_native).then(|| Postgres::if_there().expect("a PostgreSQL"));
        let mut stage = Stage {
            folder,
            server,
            setup: self,
            edge: SocketAddr::from(([127, 0, 0, 1], 0)),
            operator: SocketAddr::from(([127, 0, 0, 1], 0)),
            host: None,
            exit: None,
            log: Arc::default(),
            flags: Vec::new(),
        };
        for (name, text) in &stage.setup.secrets {
            stage.write(&format!("secrets/{name}"), text);
        }
        for (name, text) in &stage.setup.tenants {
            stage.write(&format!("tenants/{name}.toml"), text);
        }
        stage.write("operator.token", OPERATOR_TOKEN);
        if let Some(server) = &stage.server {
            stage.write("store.url", &server.url());
        }
        stage.configure();
        stage
    }
}

/// A source table of this provider, whose one secret is the file `secrets/{name}`, with further lines of its own.
pub fn source(name: &str, provider: &str, lines: &str) -> String {
    format!(
        "\n[sources.{name}]\nprovider = \"{provider}\"\nsecrets = [{{ id = \"a\", value = {{ file = \"../secrets/{name}\" }} }}]\n{lines}\n"
    )
}

/// A destination table that points to `destination`.
pub fn books(name: &str, destination: &Destination) -> String {
    books_at(name, &destination.url())
}

/// A destination table with this URL.
pub fn books_at(name: &str, url: &str) -> String {
    format!("\n[destinations.{name}]\nurl = \"{url}\"\nsecrets = [{{ file = \"../secrets/destination\" }}]\n")
}

/// A set stage, with or without a running host.
pub struct Stage {
    folder: TempDir,
    /// Where the store is that is not in files.
    server: Option<Postgres>,
    setup: Setup,
    /// Where providers post to. Another one after each start.
    pub edge: SocketAddr,
    pub operator: SocketAddr,
    host: Option<Child>,
    /// How the last host ended that ended before it was up.
    exit: Option<ExitStatus>,
    log: Arc<Mutex<Vec<String>>>,
    /// Further arguments of `serve`.
    flags: Vec<String>,
}

/// How a command of the command line ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit status; −1 when a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// # Panics
    /// When it printed no JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{self:?}"))
    }

    /// # Panics
    /// When it did not succeed.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// # Panics
    /// When it did not end with this status, or said something else to whoever sits there.
    #[track_caller]
    pub fn fails(&self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(says), "{self:?} does not say `{says}`");
    }
}

impl Stage {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// # Panics
    /// When the file cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Starts the host and waits until it says that it is up. Answers how long that took.
    ///
    /// # Panics
    /// When it does not come up; shows its log.
    #[track_caller]
    pub fn start(&mut self) -> Duration {
        for _ in 0..5 {
            match self.try_start() {
                Ok(took) => return took,
                // Between choosing the operator's port and taking it, somebody else may have.
                Err(said) if said.contains("is the port taken?") => self.operator.set_port(0),
                Err(said) => panic!("the host did not come up:\n{said}"),
            }
        }
        panic!("no free port for the operator");
    }

    /// As [`Stage::start`], for a host that is expected to refuse.
    ///
    /// # Errors
    /// What it said, when it ended before it was up.
    pub fn try_start(&mut self) -> Result<Duration, String> {
        self.configure();
        self.exit = None;
        let start = Instant::now();
        let mut child = self.spawn(Stdio::piped());
        let stderr = child.stderr.take().expect("a pipe");
        let (up, announced) = std::sync::mpsc::channel();
        lock(&self.log).clear();
        let log = Arc::clone(&self.log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let address = serde_json::from_str::<Value>(&line)
                    .ok()
                    .filter(|line| line["message"] == "tollgate is up")
                    .and_then(|line| line["edge"].as_str()?.parse::<SocketAddr>().ok());
                lock(&log).push(line);
                if let Some(address) = address {
                    let _ = up.send(address);
                }
            }
        });
        // The channel ends with the pipe, so a host that dies is not waited for.
        match announced.recv_timeout(START_PATIENCE) {
            Ok(address) => {
                self.edge = address;
                self.host = Some(child);
                Ok(start.elapsed())
            }
            Err(error) => {
                let _ = child.kill();
                let status = child.wait().ok();
                // Who was killed here for being slow did not end.
                self.exit = status.filter(|_| error == RecvTimeoutError::Disconnected);
                Err(self.log().join("\n"))
            }
        }
    }

    /// Starts the host with this end of its log, which is not read here, and waits until it takes events in. The stage must say
    /// where the edge listens, and gets another port where a host ends before it is up.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_with_log(&mut self, log: OwnedFd) {
        for _ in 0..5 {
            self.configure();
            self.exit = None;
            self.edge = self.setup.listen;
            let log = log.try_clone().expect("a file descriptor");
            self.host = Some(self.spawn(log.into()));
            let is_up = wait_until("the host takes events in", || {
                if self.ends_within(Duration::ZERO).is_some() {
                    return Some(false);
                }
                let mut client = Client::connect(self.edge).ok()?;
                client.send(&request("GET", "/healthz", &[], b"")).ok()?;
                client.answer().ok().filter(|answer| answer.status == 200)?;
                Some(true)
            });
            if is_up {
                return;
            }
            // Nobody reads why it ended. Between choosing the ports and taking them, somebody else may have.
            self.setup.listen = free_port();
            self.operator.set_port(0);
        }
        panic!("the host did not come up");
    }

    fn spawn(&self, log: Stdio) -> Child {
        let program = tollgate_bin();
        let mut command = match self.setup.wrapper.split_first() {
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(["serve", "--log", "json", "--config"])
            .arg(self.config())
            .args(&self.flags)
            .env_remove("TOLLGATE_LOG")
            .env("STAGE", self.folder.path())
            .envs(&self.setup.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the host's program starts")
    }

    fn configure(&mut self) {
        if self.operator.port() == 0 {
            self.operator = free_port();
        }
        let Setup {
            listen,
            edge,
            worker,
            delivery,
            store,
            store_lines,
            tenancy,
            console,
            plugins,
            tenants,
            ..
        } = &self.setup;
        let url = match &self.server {
            Some(_) => "url = { file = \"store.url\" }\n",
            None => "",
        };
        let tenancy = match tenancy {
            Some(lines) => lines,
            None if tenants.len() > 1 => "trust_files = true",
            None => "",
        };
        let cache = if worker.contains("cache =") {
            String::new()
        } else {
            format!("cache = '{}'", plugin_cache().display())
        };
        let plugins: String = plugins
            .iter()
            .map(|(name, path)| format!("[plugins.{name}]\npath = '{}'\n", path.display()))
            .collect();
        let text = format!(
            "[edge]\nlisten = \"{listen}\"\n{edge}\n[operator]\nlisten = \"{}\"\ntoken = {{ file = \"operator.token\" }}\n\
             [store]\npath = \"{store}\"\n{url}{store_lines}\n[worker]\n{cache}\n{worker}\n[delivery]\n{delivery}\n[tenants]\n{tenancy}\n{console}{plugins}",
            self.operator,
        );
        self.write("tollgate.toml", &text);
    }

    /// Offers another file under a plugin's name: from the next start or reload on.
    pub fn offer(&mut self, name: &str, file: &Path) {
        self.setup.plugins.insert(name.to_owned(), file.to_owned());
        self.configure();
    }

    /// Gives the host other lines of `[tenants]`: from the next start or reload on.
    pub fn tenancy(&mut self, lines: &str) {
        self.setup.tenancy = Some(lines.to_owned());
        self.configure();
    }

    /// Gives the host other lines of `[delivery]`: from the next start on.
    pub fn delivery(&mut self, lines: &str) {
        self.setup.delivery = lines.to_owned();
    }

    /// Has the running host read its configuration again, and waits until it has.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn reload(&self) {
        let count = || self.log_with("configuration reloaded").len();
        let before = count();
        self.signal("HUP");
        wait_until("the configuration is reloaded", || (count() > before).then_some(()));
    }

    /// Gives the host these arguments as well, from the next start on.
    pub fn serve_with(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Starts the host by this command from now on, as [`Setup::wrapper`] does.
    pub fn wrap(&mut self, command: &[&str]) {
        self.setup.wrapper = command.iter().map(|&word| word.to_owned()).collect();
    }

    /// Starts the host without its wrapper from now on.
    pub fn drop_wrapper(&mut self) {
        self.setup.wrapper.clear();
    }

    pub fn config(&self) -> PathBuf {
        self.path("tollgate.toml")
    }

    /// The process id of the running host.
    ///
    /// # Panics
    /// When none runs.
    pub fn pid(&self) -> u32 {
        self.host.as_ref().expect("a running host").id()
    }

    /// Ends the host as a power cut would: no signal handler, no goodbye.
    pub fn kill(&mut self) {
        if let Some(mut host) = self.host.take() {
            let _ = host.kill();
            let _ = host.wait();
        }
    }

    /// Asks the host to stop and waits for it. Answers its exit status.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait_for_exit()
    }

    /// How the host ended that [`Stage::try_start`] could not get up, or else how the running one ends within this time.
    /// `None` when it goes on.
    pub fn death(&mut self, within: Duration) -> Option<ExitStatus> {
        if let Some(status) = self.exit.take() {
            return Some(status);
        }
        let start = Instant::now();
        loop {
            let status = self.host.as_mut()?.try_wait().expect("the host's status");
            if status.is_some() {
                self.host = None;
                return status;
            }
            if start.elapsed() > within {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the host to end by itself. Answers its exit status.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let mut host = self.host.take().expect("a running host");
        let start = Instant::now();
        loop {
            if let Some(status) = host.try_wait().expect("the host's status") {
                return status.code();
            }
            if start.elapsed() > PATIENCE {
                let _ = host.kill();
                let _ = host.wait();
                panic!("the host did not end");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the host to end by itself. Answers its exit status, −1 when a signal ended it; `None` when it still runs.
    ///
    /// # Panics
    /// When the system does not know.
    pub fn ends_within(&mut self, patience: Duration) -> Option<i32> {
        let start = Instant::now();
        loop {
            let status = self.host.as_mut()?.try_wait().expect("the host's status");
            if let Some(status) = status {
                self.host = None;
                return Some(status.code().unwrap_or(-1));
            }
            if start.elapsed() > patience {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the running host.
    ///
    /// # Panics
    /// When none runs.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([format!("-{name}"), self.pid().to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// The lines of the running host's log so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// The lines of the log that hold `text`.
    pub fn log_with(&self, text: &str) -> Vec<String> {
        self.log().into_iter().filter(|line| line.contains(text)).collect()
    }

    /// A connection to the edge.
    ///
    /// # Panics
    /// When nothing listens.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.edge).expect("the edge takes connections")
    }

    /// Posts to `/in/acme/{source}` over a connection of its own.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn post(&self, source: &str, message: &Message) -> Answer {
        self.post_to("acme", source, message)
    }

    /// The same, to a source of another tenant.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn post_to(&self, tenant: &str, source: &str, message: &Message) -> Answer {
        self.connect()
            .post(&format!("/in/{tenant}/{source}"), message)
            .expect("an answer")
    }

    /// Posts the `number`th redeemed reward to the shop: the event `evt_{number}` about `red_{number}`.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn redeem(&self, number: impl Display) -> Answer {
        let body = redeemed(&format!("evt_{number}"), &format!("red_{number}"), "success");
        self.post("shop", &signer("shop").sign("", body))
    }

    /// Makes a token of this role for a tenant.
    ///
    /// # Panics
    /// When none is made.
    #[track_caller]
    pub fn token(&self, role: &str, tenant: &str) -> String {
        let body = json!({ "name": format!("a {role}"), "role": role, "tenant": tenant });
        let answer = self.operator_post("/v1/tokens", &body.to_string()).json();
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// The token that the configuration names.
    pub fn operator_token(&self) -> &'static str {
        OPERATOR_TOKEN
    }

    /// Asks the private listener.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn operator_get(&self, path: &str) -> Answer {
        self.operator_ask("GET", path, b"")
    }

    /// Tells the private listener.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn operator_post(&self, path: &str, body: &str) -> Answer {
        self.operator_ask("POST", path, body.as_bytes())
    }

    /// Tells the private listener by any method.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn operator_send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.operator_ask(method, path, body)
    }

    /// A bare connection to the private listener.
    ///
    /// # Panics
    /// When nothing listens.
    #[track_caller]
    pub fn operator_stream(&self) -> TcpStream {
        TcpStream::connect(self.operator).expect("the private listener takes connections")
    }

    /// The head of a request to the private listener with one more header, for who sends the body by hand.
    pub fn operator_head(&self, method: &str, path: &str, header: &str) -> Vec<u8> {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: tollgate\r\nauthorization: Bearer {OPERATOR_TOKEN}\r\n{header}\r\n\
             connection: close\r\n\r\n"
        )
        .into_bytes()
    }

    #[track_caller]
    fn operator_ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.ask_as(OPERATOR_TOKEN, method, path, body)
    }

    /// Asks the private listener as whoever holds the token.
    ///
    /// # Panics
    /// When no answer comes.
    #[track_caller]
    pub fn ask_as(&self, token: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        let authorization = ("authorization".to_owned(), format!("Bearer {token}"));
        let mut client = Client::connect(self.operator).expect("the private listener takes connections");
        client
            .send(&request(method, path, &[authorization], body))
            .expect("a request");
        let answer = client.answer().expect("an answer");
        documented::hold(method, path, &answer);
        answer
    }

    /// One counter or gauge by its whole name with labels; 0 when it is not there.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let answer = self.operator_get("/metrics");
        assert_eq!(answer.status, 200);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0)
    }

    /// How much of everything there is.
    #[track_caller]
    pub fn counts(&self) -> Value {
        self.operator_get("/v1/counts").json()
    }

    /// Waits until no job and no delivery waits any more.
    ///
    /// # Panics
    /// When that does not happen.
    #[track_caller]
    pub fn quiet(&self) -> Value {
        wait_until("all work is done", || {
            let counts = self.counts();
            (counts["jobs_waiting"] == 0 && counts["outbox_waiting"] == 0).then_some(counts)
        })
    }

    /// Runs the command line with these arguments, `--config` and `--json`.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Ran {
        self.ask_for_people(&[arguments, &["--json"]].concat())
    }

    /// Runs the command line with these arguments and `--config`.
    #[track_caller]
    pub fn ask_for_people(&self, arguments: &[&str]) -> Ran {
        let config = self.config();
        let mut all = arguments.to_vec();
        all.extend(["--config", config.to_str().expect("a path in UTF-8")]);
        tollgate(&all, b"")
    }

    /// Everything that became of the one receipt that `id` names, as `tollgate trace` shows it.
    ///
    /// # Panics
    /// When it is not exactly one.
    #[track_caller]
    pub fn trace(&self, id: &str) -> Value {
        let traces = self.traces(id);
        assert_eq!(traces.len(), 1, "traces of {id}: {traces:#?}");
        traces.into_iter().next().unwrap_or_default()
    }

    /// All receipts that `id` names, newest first.
    #[track_caller]
    pub fn traces(&self, id: &str) -> Vec<Value> {
        let ran = self.ask(&["trace", id]);
        assert!(ran.code == 0 || ran.code == 1, "{ran:?}");
        ran.json().as_array().cloned().unwrap_or_default()
    }

    /// Waits until every job of a receipt is done, held or dead, and answers its trace.
    ///
    /// # Panics
    /// When that does not happen.
    #[track_caller]
    pub fn finished(&self, receipt: &str) -> Value {
        wait_until("the receipt's jobs are finished", || {
            let traces = self.operator_get(&format!("/v1/trace?id={receipt}")).json();
            let jobs = traces[0]["jobs"].as_array()?;
            let finished = jobs
                .iter()
                .all(|job| job["state"] != "ready" && job["state"] != "leased");
            finished.then_some(())
        });
        self.trace(receipt)
    }

    /// The store, to be read beside the host.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn store(&self) -> AnyStore {
        let opened = match &self.server {
            Some(server) => {
                PostgresStore::open_read_only(&Secret::new(server.url().into_bytes())).map(AnyStore::Shared)
            }
            None => SqliteStore::open_read_only(self.path(&self.setup.store)).map(AnyStore::Local),
        };
        opened.expect("the store can be read")
    }

    /// Fails when the store is not whole: pages, receipts, hash chain.
    ///
    /// # Panics
    /// Then.
    #[track_caller]
    pub fn assert_whole(&self) {
        assert_eq!(problems(&self.store()).expect("a report"), [""; 0]);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(60);
            let mut text = format!("── the host's log, from line {} ──\n", from + 1);
            log[from..].iter().for_each(|line| text.extend([line, "\n"]));
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        self.kill();
    }
}

/// What is not whole in a store, in words.
///
/// # Errors
/// When it cannot be read.
pub fn problems(store: &AnyStore) -> Result<Vec<String>, StoreError> {
    match store {
        AnyStore::Local(store) => store.problems(),
        AnyStore::Shared(store) => store.problems(),
    }
}

/// Whether stages that do not say otherwise keep their store in a PostgreSQL of their own: TOLLGATE_TEST_STORE is `postgres`.
///
/// # Panics
/// When the variable says something else.
pub fn on_postgres() -> bool {
    match std::env::var("TOLLGATE_TEST_STORE").as_deref() {
        Ok("postgres") => true,
        Ok("files" | "") | Err(_) => false,
        Ok(other) => panic!("TOLLGATE_TEST_STORE is `postgres` or `files`, and not `{other}`"),
    }
}

/// Runs `tollgate` with `stdin`.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn tollgate(arguments: &[&str], stdin: &[u8]) -> Ran {
    tollgate_with(&[], arguments, stdin)
}

/// As [`tollgate`], with the arguments as words of one line.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn tollgate_line(line: &str, stdin: &[u8]) -> Ran {
    tollgate(&line.split_whitespace().collect::<Vec<_>>(), stdin)
}

/// Runs `tollgate` with `stdin` and these variables beside those of the tests.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn tollgate_with(variables: &[(&str, &str)], arguments: &[&str], stdin: &[u8]) -> Ran {
    let mut child = Command::new(tollgate_bin())
        .args(arguments)
        .env_remove("TOLLGATE_CONFIG")
        .env_remove("TOLLGATE_URL")
        .env_remove("TOLLGATE_TOKEN")
        // How wide a terminal is.
        .env_remove("COLUMNS")
        .env("USER", "tester")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tollgate starts");
    // A command that reads no input ends without it.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin);
    let output = child.wait_with_output().expect("tollgate ends");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Asks until there is an answer.
///
/// # Panics
/// When there is none in time.
#[track_caller]
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        thread::sleep(Duration::from_millis(15));
    }
}

/// Runs a question to the store to its end.
///
/// # Panics
/// When there can be no runtime.
pub fn block_on<T>(question: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(question)
}

/// A port that was free a moment ago.
///
/// # Panics
/// When there is none.
pub fn free_port() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}

/// The recorded JSON of a sample in tests/samples.
///
/// # Panics
/// When there is none of that name.
pub fn sample(name: &str) -> Vec<u8> {
    let path = crate::root().join("tests/samples").join(name);
    fs::read(Path::new(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
