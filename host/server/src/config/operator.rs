//! The operator's file, checked: listeners, store, worker, delivery, plugins, lifecycles.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http::Uri;
use tollgate_core::forward;
use tollgate_core::ids::{FamilyName, HostName, PluginName, TenantName};
use tollgate_core::lifecycle::{self, Lifecycle};
use tollgate_core::limits;
use tollgate_core::network::Network;
use tollgate_core::portal::Origin;
use tollgate_core::quarantine;
use tollgate_core::rate::Rate;
use tollgate_core::retry::RetryPolicy;
use tollgate_core::secret::Secret;
use tollgate_tenants::PluginLimits;
use tollgate_tenants::file::{
    self, BODY_BYTES_LEAST, File, Findings, Host, Leave, Offer, Problems, Schemas, Section, Value, WRITE_A_NETWORK, set,
};

use super::mail::{self, MailConfig};
use super::reach::{Tenancy, Trust};
use super::references::References;
use super::{
    ConsoleConfig, DeliveryConfig, EdgeConfig, OperatorConfig, OutboundRules, PluginConfig, PluginFiles, Rates,
    StoreConfig, WorkerConfig, host, tls,
};
use crate::seal::{SEAL_KEY_BYTES_MIN, SEAL_KEYS_MAX, SealKeys};

/// A shorter token of the operator's could be guessed by whoever reaches the private listener.
const OPERATOR_TOKEN_BYTES_MIN: usize = 16;
const THREADS_MAX: i64 = 256;
const RATE_MOST: i64 = 1_000_000;
const BODY_BYTES_MOST: i64 = 16 * 1024 * 1024;
const WAL_BYTES_LEAST: i64 = 64 * 1024;
const WAL_BYTES_MOST: i64 = 1024 * 1024 * 1024;
const READ_MS_MOST: i64 = 120_000;
const IDLE_MS_MOST: i64 = 3_600_000;
const CONNECTIONS_MOST: i64 = 1_000_000;
const IN_FLIGHT_MOST: i64 = 1_000;
const ATTEMPTS_MOST: i64 = 1_000;
const RETRY_BASE_MS_MOST: i64 = 60 * 60 * 1000;
const RETRY_CAP_MS_MOST: i64 = 24 * 60 * 60 * 1000;

/// The operator's part of the configuration.
pub(super) struct Settings {
    pub(super) host: HostName,
    pub(super) edge: EdgeConfig,
    pub(super) operator: OperatorConfig,
    pub(super) console: ConsoleConfig,
    pub(super) store: StoreConfig,
    pub(super) worker: WorkerConfig,
    pub(super) delivery: DeliveryConfig,
    /// How e-mails leave; absent: none do.
    pub(super) mail: Option<Arc<MailConfig>>,
    /// The domains that e-mails may go to, as `Offer` has them; also where the rest of `mail` is wrong.
    pub(super) mail_domains: Option<BTreeSet<String>>,
    pub(super) plugins: BTreeMap<PluginName, PluginConfig>,
    /// The plugins' names, those with problems as well; absent when the file could not be read.
    pub(super) plugin_names: Option<BTreeSet<PluginName>>,
    /// What routes' configurations are held against.
    pub(super) schemas: Schemas,
    pub(super) lifecycles: BTreeMap<FamilyName, Arc<Lifecycle>>,
    pub(super) tenancy: Tenancy,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            host: host::of_machine(),
            edge: EdgeConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
                threads: cores,
                body_bytes_max: limits::BODY_BYTES_MAX,
                source_body_bytes_max: limits::SOURCE_BODY_BYTES_MAX,
                header_read_ms_max: limits::HEADER_READ_MS_MAX,
                body_read_ms_max: limits::BODY_READ_MS_MAX,
                idle_ms_max: limits::IDLE_MS_MAX,
                connections_max: 10_000,
                tls: None,
                trusted_proxies: Vec::new(),
                require_https: false,
                rates: Rates::default(),
                public_url: None,
            },
            operator: OperatorConfig {
                listen: None,
                token: None,
            },
            console: ConsoleConfig::default(),
            store: StoreConfig {
                path: PathBuf::from("tollgate.db"),
                url: None,
                wal_bytes_max: limits::WAL_BYTES_MAX,
                keys_in_memory_max: limits::KEYS_IN_MEMORY_MAX,
            },
            worker: WorkerConfig {
                threads: cores,
                retry: RetryPolicy::JOBS,
                quarantine_after: quarantine::FAULTS_MAX,
                cache: None,
                cache_bytes_max: limits::PLUGIN_CACHE_BYTES_MAX,
                limits: PluginLimits::DEFAULT,
            },
            delivery: DeliveryConfig {
                retry: RetryPolicy::DELIVERIES,
                in_flight_max: 16,
                outbound: OutboundRules::default(),
            },
            mail: None,
            mail_domains: None,
            plugins: BTreeMap::new(),
            plugin_names: None,
            schemas: Schemas::default(),
            lifecycles: lifecycle::shipped(),
            tenancy: Tenancy::default(),
        }
    }
}

impl Settings {
    /// What tenants are offered: routes may name `plugins`, and their configurations are held against `schemas`.
    pub(super) fn offer<'o>(
        &'o self,
        plugins: Option<&'o BTreeSet<PluginName>>,
        schemas: Option<&'o Schemas>,
    ) -> Offer<'o> {
        Offer {
            host: Host::Native,
            body_bytes_max: self.edge.body_bytes_max,
            source_body_bytes_max: self.edge.source_body_bytes_max,
            in_flight_max: self.delivery.in_flight_max,
            allow_http: self.delivery.outbound.allow_http,
            allow_networks: &self.delivery.outbound.allow_networks,
            mail_domains: self.mail_domains.as_ref(),
            limits: self.worker.limits,
            lifecycles: &self.lifecycles,
            plugins,
            schemas,
        }
    }
}

/// All that is wrong with the file, and what it comes to with defaults where it is wrong; nothing where it is no TOML.
pub(super) fn check(
    file: &File,
    references: &References,
    plugin_files: PluginFiles,
) -> (Option<Settings>, Option<Problems>) {
    let findings = Findings::new(references);
    let read = file.read(&findings, |top| {
        let mut settings = Settings::default();
        if let Some(section) = top.section("host") {
            set(&mut settings.host, host::host(&section));
        }
        if let Some(section) = top.section("edge") {
            edge(&section, &mut settings.edge);
        }
        if let Some(section) = top.section("operator") {
            operator(&section, &mut settings.operator, settings.edge.listen);
        }
        if let Some(section) = top.section("console") {
            console(&section, &mut settings.console, settings.operator.listen.is_some());
        }
        store(top, &mut settings.store, plugin_files);
        if let Some(section) = top.section("worker") {
            worker(&section, &mut settings.worker);
        }
        if let Some(section) = top.section("delivery") {
            delivery(&section, &mut settings.delivery);
        }
        if let Some(section) = top.section("notices") {
            if let Some(email) = section.section("email") {
                let mail = mail::email(&email);
                settings.mail_domains = Some(mail.as_ref().map(|mail| mail.domains.clone()).unwrap_or_default());
                settings.mail = mail.map(Arc::new);
            }
            section.finish();
        }
        let plugins = top.named::<PluginName>("plugins");
        for (_, section) in plugins.iter().filter(|(name, _)| name.as_str() == forward::NAME) {
            section.problem(
                format!(
                    "no plugin can be called `{}`: routes without a plugin have that name",
                    forward::NAME
                ),
                "rename it",
            );
        }
        settings.plugin_names = Some(plugins.iter().map(|(name, _)| name.clone()).collect());
        settings.plugins = plugins
            .into_iter()
            .filter_map(|(name, section)| Some((name, plugin(&section, plugin_files)?)))
            .collect();
        if let Some(files) = top.get("lifecycles") {
            lifecycles(&files, &mut settings.lifecycles);
        }
        settings.tenancy = tenancy(top);
        settings.tenancy.operators_env = references.variables.borrow().clone();
        Some(settings)
    });
    (read, findings.finish(std::iter::once(file)).err())
}

fn edge(section: &Section, edge: &mut EdgeConfig) {
    set(&mut edge.listen, section.get("listen").and_then(|value| listen(&value)));
    set(&mut edge.threads, section.number("threads", 1..=THREADS_MAX));
    set(
        &mut edge.body_bytes_max,
        section.number("body_bytes_max", BODY_BYTES_LEAST..=BODY_BYTES_MOST),
    );
    let most = i64::try_from(limits::SOURCE_BODY_BYTES_MOST).unwrap_or(i64::MAX);
    set(
        &mut edge.source_body_bytes_max,
        section.number("source_body_bytes_max", BODY_BYTES_LEAST..=most),
    );
    set(
        &mut edge.header_read_ms_max,
        section.number("header_read_ms_max", 100..=READ_MS_MOST),
    );
    set(
        &mut edge.body_read_ms_max,
        section.number("body_read_ms_max", 100..=READ_MS_MOST),
    );
    set(&mut edge.idle_ms_max, section.number("idle_ms_max", 100..=IDLE_MS_MOST));
    set(
        &mut edge.connections_max,
        section.number("connections_max", 1..=CONNECTIONS_MOST),
    );
    let tls_section = section.section("tls");
    let speaks_tls = tls_section.is_some();
    edge.tls = tls_section.and_then(|section| tls::tls(&section));
    if let Some(proxies) = section.get("trusted_proxies") {
        edge.trusted_proxies = proxies.list_of(trusted_proxy);
    }
    if let Some(require) = section.get("require_https") {
        edge.require_https = require.boolean().unwrap_or_default();
        if edge.require_https && !speaks_tls && edge.trusted_proxies.is_empty() {
            require.problem(
                "nothing could come over HTTPS: the listener has no certificate and no proxy is trusted",
                "add [edge.tls] with certificate and key, or trusted_proxies = the networks of the proxies that speak HTTPS",
            );
        }
    }
    if let Some(value) = section.get("public_url") {
        edge.public_url = public_url(&value);
        let is_refused = edge.public_url.as_ref().is_some_and(|url| !url.starts_with("https:"));
        if edge.require_https && is_refused {
            value.problem(
                "providers that are given this URL would be refused: `require_https` is set",
                "write https, as providers reach the listener or the proxy before it",
            );
        }
    }
    if let Some(section) = section.section("rate") {
        edge.rates.every = rate(&section);
        for (name, section) in section.named::<TenantName>("tenants") {
            let of_tenant = rate(&section);
            if of_tenant.is_none() {
                section.require("requests_per_s", "add requests_per_s = the tenant's own limit");
            }
            section.finish();
            edge.rates.tenants.extend(of_tenant.map(|rate| (name, rate)));
        }
        section.finish();
    }
    section.finish();
}

/// Where the public listener is reached, to be written before the path of a source.
fn public_url(value: &Value) -> Option<String> {
    let text = value.text()?;
    let is_url = text.parse::<Uri>().is_ok_and(|url| {
        let is_web = matches!(url.scheme_str(), Some("http" | "https"));
        is_web && url.host().is_some_and(|host| !host.is_empty()) && !text.contains(['?', '#', '@'])
    });
    if !is_url {
        value.problem(
            format!("`{text}` is not where a provider reaches a listener"),
            "write scheme and host, for example https://hooks.example; and a path, where a proxy has the listener below one",
        );
    }
    is_url.then(|| text.trim_end_matches('/').to_owned())
}

fn trusted_proxy(value: &Value) -> Option<Network> {
    let network: Network = value.parse(WRITE_A_NETWORK)?;
    if network.prefix_length == 0 {
        value.problem(
            format!("`{network}` would trust everybody: any sender could say that it is somebody else"),
            "name the networks of your own proxies",
        );
        return None;
    }
    Some(network)
}

/// A burst is as much as a second's worth when nobody says otherwise.
fn rate(section: &Section) -> Option<Rate> {
    let per_s = section.get("requests_per_s");
    let burst = section.get("burst");
    if let (None, Some(burst)) = (&per_s, &burst) {
        burst.problem("`burst` bounds nothing without `requests_per_s`", "add requests_per_s");
    }
    let per_s = section.number("requests_per_s", 1..=RATE_MOST)?;
    let burst = match burst {
        Some(_) => section.number("burst", 1..=RATE_MOST)?,
        None => per_s,
    };
    Rate::new(per_s, burst)
}

fn operator(section: &Section, operator: &mut OperatorConfig, public: SocketAddr) {
    let at = section.get("listen");
    let token = section.get("token");
    let short_token = leave(section, "short_token");
    let clear_text = leave(section, "clear_text");
    operator.listen = at.as_ref().and_then(listen);
    operator.token = token.as_ref().and_then(|token| operator_token(token, short_token));
    if let (Some(at), Some(address), Leave::Refused) = (&at, operator.listen, clear_text)
        && !address.ip().to_canonical().is_loopback()
    {
        at.problem(
            "the operator's listener would be reached from other machines, and speaks no TLS: tokens would travel in clear text",
            "listen on 127.0.0.1 or [::1], behind a proxy that speaks TLS; or say clear_text = true in [operator], where the network is yours",
        );
    }
    if let (Some(at), None) = (&at, &token) {
        at.problem(
            "the operator's listener has no token",
            "add token = { env = \"TOLLGATE_OPERATOR_TOKEN\" }, or remove `listen`",
        );
    }
    if let (Some(at), Some(address)) = (&at, operator.listen)
        && address == public
        && address.port() != 0
    {
        at.problem(
            "the operator's listener has the public listener's address",
            "give it a port of its own",
        );
    }
    section.finish();
}

const WRITE_AN_ORIGIN: &str = "write scheme and host, for example https://shop.example";

fn console(section: &Section, console: &mut ConsoleConfig, is_there: bool) {
    if let Some(value) = section.get("address") {
        console.address = value.parse::<Origin>(WRITE_AN_ORIGIN);
        if console.address.as_ref().is_some_and(|address| !address.is_safe()) {
            value.problem(
                "people would send the secrets of portal links, and their sessions, in clear text",
                "write https, of a proxy that speaks TLS before the private listener",
            );
        }
    }
    if let Some(value) = section.get("embed") {
        console.embed = value.list_of(embedder);
        if console.embed.len() > limits::EMBED_ORIGINS_MAX {
            value.problem(
                format!(
                    "{} origins; at most {} may embed the console",
                    console.embed.len(),
                    limits::EMBED_ORIGINS_MAX
                ),
                "name those whose pages have the console in a frame",
            );
        }
        let is_https = console.address.as_ref().is_some_and(Origin::is_https);
        if !console.embed.is_empty() && !is_https {
            value.problem(
                "no browser would keep a session in a frame: its cookie needs HTTPS",
                "say where the console is reached by HTTPS, with address = \"https://…\" in [console]",
            );
        }
    }
    if !is_there {
        section.problem(
            "there is no console without the private listener",
            "add listen and token to [operator]",
        );
    }
    section.finish();
}

fn embedder(value: &Value) -> Option<Origin> {
    let origin: Origin = value.parse(WRITE_AN_ORIGIN)?;
    if !origin.is_https() {
        value.problem(
            "whoever is on the way to a page over http could change it, and have the console in a frame of theirs",
            "write the https origin of the pages that embed the console",
        );
        return None;
    }
    Some(origin)
}

/// Reads the operator's token, which opens the whole private listener. `short` is the operator's word that a short one is meant.
fn operator_token(value: &Value, short: Leave) -> Option<Secret> {
    let token = file::any_secret(value)?.text?;
    let bytes = token.expose().len();
    if bytes < OPERATOR_TOKEN_BYTES_MIN && short == Leave::Refused {
        value.problem(
            format!("the token that this refers to has {bytes} bytes: it could be guessed, and it opens everything"),
            &format!(
                "use at least {OPERATOR_TOKEN_BYTES_MIN} random bytes, for example: openssl rand -hex 24; or say \
                 short_token = true in [operator]"
            ),
        );
        return None;
    }
    Some(token)
}

/// Whether the file gives leave to something that is refused by default.
fn leave(section: &Section, key: &'static str) -> Leave {
    match section.get(key).and_then(|value| value.boolean()) {
        Some(true) => Leave::Given,
        Some(false) | None => Leave::Refused,
    }
}

/// What tenants' files may refer to.
fn tenancy(top: &Section) -> Tenancy {
    let mut tenancy = Tenancy {
        secrets: vec![top.beside("secrets"), top.beside("tenants/secrets")],
        profiles: vec![top.beside("profiles"), top.beside("tenants/profiles")],
        folder: top.beside("."),
        ..Tenancy::default()
    };
    let Some(section) = top.section("tenants") else {
        return tenancy;
    };
    for (key, folders) in [("secrets", &mut tenancy.secrets), ("profiles", &mut tenancy.profiles)] {
        if let Some(path) = section.get(key).and_then(|path| path.path()) {
            *folders = vec![path];
        }
    }
    if leave(&section, "trust_files") == Leave::Given {
        tenancy.trust = Trust::Whole;
    }
    tenancy.short_secrets = leave(&section, "short_secrets");
    if let Some(list) = section.get("seal_keys") {
        tenancy.seal_keys = seal_keys(&list);
    }
    if let Some(list) = section.get("fetch_hosts") {
        tenancy.fetch_hosts = list
            .list_of(|host| host.text().map(str::to_owned))
            .into_iter()
            .collect();
    }
    if let Some(variables) = section.get("env").and_then(|value| value.section()) {
        for (name, list) in variables.entries() {
            match name.parse::<TenantName>() {
                Ok(tenant) => {
                    let names = list.list_of(|variable| variable.text().map(str::to_owned));
                    tenancy.env.insert(tenant, names);
                }
                Err(error) => list.problem(error.to_string(), "write the tenant's name"),
            }
        }
    }
    section.finish();
    tenancy
}

/// What tenants' secrets are sealed with; the first key seals, all of them open.
fn seal_keys(list: &Value) -> SealKeys {
    let elements = list.list().unwrap_or_default();
    if elements.len() > SEAL_KEYS_MAX {
        list.problem(
            format!("{} keys; at most {SEAL_KEYS_MAX} are allowed", elements.len()),
            "remove those that seal nothing any more: `tollgate settings secret list` names the key of each secret",
        );
    }
    if list.is_empty_list() {
        list.problem(
            "`seal_keys` is empty: nothing could be sealed",
            "name a key, or remove it",
        );
    }
    let texts: Vec<Secret> = elements.iter().filter_map(seal_key).collect();
    SealKeys::of(&texts)
}

fn seal_key(value: &Value) -> Option<Secret> {
    let key = file::any_secret(value)?.text?;
    let bytes = key.expose().len();
    if bytes < SEAL_KEY_BYTES_MIN {
        value.problem(
            format!("the key that this refers to has {bytes} bytes: whoever has a copy of the store could guess it"),
            &format!("use at least {SEAL_KEY_BYTES_MIN}, for example: openssl rand -hex 32"),
        );
        return None;
    }
    Some(key)
}

fn store(top: &Section, store: &mut StoreConfig, plugin_files: PluginFiles) {
    // A default path is relative to the file as well.
    match top.section("store") {
        Some(section) => {
            if let Some(url) = section.get("url") {
                store.url = file::any_secret(&url).and_then(|referred| referred.text);
                let path = section.get("path").and_then(|path| path.path());
                store.path = path.unwrap_or_else(|| top.beside("tollgate.db"));
                section.finish();
                return;
            }
            let path = section.require("path", "add path = \"tollgate.db\"");
            set(&mut store.path, path.as_ref().and_then(|path| path.path()));
            let folder = store.path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let (Some(path), Some(folder), PluginFiles::MustExist) = (&path, folder, plugin_files)
                && !folder.is_dir()
            {
                path.problem(
                    format!("the store's folder {} does not exist", folder.display()),
                    "make it for the host's user alone: mkdir -m 700",
                );
            }
            set(
                &mut store.wal_bytes_max,
                section.number("wal_bytes_max", WAL_BYTES_LEAST..=WAL_BYTES_MOST),
            );
            set(
                &mut store.keys_in_memory_max,
                section.number("keys_in_memory_max", 1_000..=10_000_000),
            );
            section.finish();
        }
        None => store.path = top.beside("tollgate.db"),
    }
}

fn worker(section: &Section, worker: &mut WorkerConfig) {
    set(&mut worker.threads, section.number("threads", 1..=THREADS_MAX));
    set(
        &mut worker.quarantine_after,
        section.number("quarantine_after", 0..=1_000_000),
    );
    worker.cache = section.get("cache").and_then(|path| path.path());
    set(
        &mut worker.cache_bytes_max,
        section
            .number::<u64>("cache_mib_max", 1..=1024 * 1024)
            .map(|mib| mib * 1024 * 1024),
    );
    retry(section, &mut worker.retry);
    if let Some(section) = section.section("limits") {
        worker.limits.read(&section, &PluginLimits::MOST);
    }
    section.finish();
}

fn delivery(section: &Section, delivery: &mut DeliveryConfig) {
    set(
        &mut delivery.outbound.allow_http,
        section.get("allow_http").and_then(|value| value.boolean()),
    );
    set(
        &mut delivery.in_flight_max,
        section.number("in_flight_max", 1..=IN_FLIGHT_MOST),
    );
    retry(section, &mut delivery.retry);
    if let Some(networks) = section.get("allow_networks") {
        delivery.outbound.allow_networks = networks.list_of(|network| network.parse(WRITE_A_NETWORK));
    }
    if let Some(roots) = section.get("extra_roots") {
        delivery.outbound.extra_roots = tls::roots(&roots).unwrap_or_default().into();
    }
    section.finish();
}

fn retry(parent: &Section, retry: &mut RetryPolicy) {
    let Some(section) = parent.section("retry") else {
        return;
    };
    set(
        &mut retry.attempts_max,
        section.number("attempts_max", 1..=ATTEMPTS_MOST),
    );
    let base = section.get("base_ms");
    set(
        &mut retry.base_ms,
        base.as_ref().and_then(|value| value.integer(1..=RETRY_BASE_MS_MOST)),
    );
    set(
        &mut retry.cap_ms,
        section
            .get("cap_ms")
            .and_then(|value| value.integer(1..=RETRY_CAP_MS_MOST)),
    );
    if retry.cap_ms < retry.base_ms {
        section.problem(
            format!(
                "{}: `cap_ms` ({}) is below `base_ms` ({})",
                section.title(),
                retry.cap_ms,
                retry.base_ms
            ),
            "make `cap_ms` the longest delay and `base_ms` the first",
        );
    }
    section.finish();
}

fn plugin(section: &Section, plugin_files: PluginFiles) -> Option<PluginConfig> {
    let path = section.require("path", "add path = \"plugins/NAME.wasm\"");
    let digest = section
        .get("digest")
        .map(|digest| digest.parse("write sha256: and the file's digest in hex"));
    section.finish();
    let file = path.as_ref().and_then(|path| path.path());
    if let (Some(path), Some(file)) = (&path, &file)
        && plugin_files == PluginFiles::MustExist
        && !file.is_file()
    {
        path.problem(
            format!("there is no file {}", file.display()),
            "build the plugin, or mend the path",
        );
    }
    match digest {
        None => Some(PluginConfig {
            path: file?,
            digest: None,
        }),
        Some(digest) => Some(PluginConfig {
            path: file?,
            digest: Some(digest?),
        }),
    }
}

/// Adds declared lifecycles to the shipped ones. One of a shipped family replaces it.
fn lifecycles(files: &Value, lifecycles: &mut BTreeMap<FamilyName, Arc<Lifecycle>>) {
    let declared = files.list_of(|file| {
        let (text, _) = file.file_text()?;
        match Lifecycle::from_toml(&text) {
            Ok(lifecycle) => Some((file.clone(), lifecycle)),
            Err(error) => {
                file.problem(error.to_string(), "mend the lifecycle's file");
                None
            }
        }
    });
    let mut families = BTreeSet::new();
    for (file, lifecycle) in declared {
        if !families.insert(lifecycle.family.clone()) {
            file.problem(
                format!("the family `{}` is declared twice", lifecycle.family),
                "remove one of the files",
            );
        }
        lifecycles.insert(lifecycle.family.clone(), Arc::new(lifecycle));
    }
}

fn listen(value: &Value) -> Option<SocketAddr> {
    let text = value.text()?;
    let address = text.parse().ok();
    if address.is_none() {
        value.problem(
            format!("`{text}` is not an address to listen on"),
            "write an IP address and a port, for example \"127.0.0.1:8080\" or \"[::]:8080\"",
        );
    }
    address
}
