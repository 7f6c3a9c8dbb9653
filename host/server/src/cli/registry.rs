//! `tollgate plugin push|list|…`, `tollgate route …`, `tollgate publisher …`: a client of a running host's registry.
//!
//! All of it is asked over the private listener: of the host at `--url` with the token in TOLLGATE_TOKEN, or of the one whose
//! configuration is here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tollgate_core::action::Action;
use tollgate_core::difference::{Said, differences};
use tollgate_core::ids::OperationKey;
use tollgate_core::signature::PluginSignature;
use tollgate_core::{limits, mask};
use tollgate_store::Quarantine;
use tollgate_store::registry::{BindingChange, PluginVersion, PublisherKeyView, RegistryLine, ShadowReport};

use super::{Exit, Refused, Target, Usage, ask, print_json, show, wire};
use crate::operator::{ActBody, ChangeBody, PublisherBody, RouteBody, SIGNATURE_HEADER};

/// Vetting a big component takes a minute; another may be vetted before.
const PUSH_PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);
/// A change waits until the host has loaded what it brings in.
const CHANGE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// Whose plugin is meant.
#[derive(clap::Args, Clone)]
pub(super) struct Of {
    #[command(flatten)]
    target: Target,
    /// Of this tenant; without it, the operator's or whatever the token's tenant is
    #[arg(long)]
    tenant: Option<String>,
}

/// Where, why, and whether in earnest.
#[derive(clap::Args, Clone)]
pub(super) struct Act {
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A tenant's route.
#[derive(clap::Args, Clone)]
pub(super) struct OnRoute {
    #[command(flatten)]
    target: Target,
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// The tenant's route
    route: String,
}

/// What is done to plugins on a running host.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Hand in a component: the host vets it and, if it is well, keeps it
    Push {
        #[command(flatten)]
        of: Of,
        /// The component (.wasm)
        file: PathBuf,
        /// The signature document beside it, as `tollgate plugin sign` writes it
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
        /// Have it vetted, and keep nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// The versions that the host keeps, the newest first
    List {
        #[command(flatten)]
        of: Of,
        /// Only of this name
        #[arg(long)]
        name: Option<String>,
    },
    /// One version: its manifest, its report, where it runs
    Show {
        #[command(flatten)]
        of: Of,
        /// A digest, eight or more of its first digits, or name@version
        plugin: String,
    },
    /// What was done with a version, by whom and why
    History {
        #[command(flatten)]
        of: Of,
        /// A digest, eight or more of its first digits, or name@version
        plugin: String,
    },
    /// Make a vetted version fit to be bound: its name and version mean this digest for ever
    Publish {
        #[command(flatten)]
        of: Of,
        /// A digest, eight or more of its first digits, or name@version
        plugin: String,
        #[command(flatten)]
        act: Act,
    },
    /// Never let a version be bound again; refused while it runs somewhere
    Retire {
        #[command(flatten)]
        of: Of,
        /// A digest, eight or more of its first digits, or name@version
        plugin: String,
        #[command(flatten)]
        act: Act,
    },
    /// Run a version beside a route's active one, without effect
    Shadow {
        #[command(flatten)]
        on: OnRoute,
        /// The version; without one, the shadow ends
        #[arg(required_unless_present_any = ["end", "report"])]
        plugin: Option<String>,
        /// End the route's shadow
        #[arg(long, conflicts_with = "plugin")]
        end: bool,
        /// Show what the shadow did, and change nothing
        #[arg(long, conflicts_with_all = ["plugin", "end"])]
        report: bool,
        /// Why, for the history
        #[arg(long, value_name = "TEXT", required_unless_present = "report")]
        why: Option<String>,
        /// Say what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Let a version serve a share of a route's subjects, with all its effects
    Canary {
        #[command(flatten)]
        on: OnRoute,
        /// The version; without one, the canary ends
        #[arg(required_unless_present = "end", requires = "per_mille")]
        plugin: Option<String>,
        /// The share, in thousandths: 50 is 5 %
        #[arg(long, value_name = "1-999")]
        per_mille: Option<u16>,
        /// End the route's canary
        #[arg(long, conflicts_with_all = ["plugin", "per_mille"])]
        end: bool,
        #[command(flatten)]
        act: Act,
    },
    /// Make a version a route's active one
    Promote {
        #[command(flatten)]
        on: OnRoute,
        /// The version
        plugin: String,
        #[command(flatten)]
        act: Act,
    },
    /// Take a route's last step forward back: end its canary, or run what ran before
    Rollback {
        #[command(flatten)]
        on: OnRoute,
        #[command(flatten)]
        act: Act,
    },
    /// The versions that are not run any more because they failed again and again
    Quarantined {
        #[command(flatten)]
        target: Target,
    },
    /// Let a route's versions that are in quarantine run again
    Lift {
        #[command(flatten)]
        on: OnRoute,
        #[command(flatten)]
        act: Act,
    },
    /// Give a route back to the configuration file
    FollowFile {
        #[command(flatten)]
        on: OnRoute,
        #[command(flatten)]
        act: Act,
    },
}

/// Routes of a running host.
#[derive(Subcommand)]
pub(super) enum RouteCommand {
    /// A tenant's routes, and what they run
    List {
        #[command(flatten)]
        target: Target,
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Set a route from a file with the keys of [routes.NAME]; it stands in for the one of its name in the tenant's file
    Set {
        #[command(flatten)]
        on: OnRoute,
        /// TOML, or JSON if it is called .json
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// The version that it runs; without one, what it is bound to, or the newest that is published
        #[arg(long)]
        plugin: Option<String>,
        #[command(flatten)]
        act: Act,
    },
    /// Remove a route that was set so
    Remove {
        #[command(flatten)]
        on: OnRoute,
        #[command(flatten)]
        act: Act,
    },
    /// What was done with a route, by whom and why
    History {
        #[command(flatten)]
        on: OnRoute,
    },
}

/// Whose signatures a tenant believes.
#[derive(Subcommand)]
pub(super) enum PublisherCommand {
    /// The keys that a tenant knows
    List {
        #[command(flatten)]
        target: Target,
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Believe what a key signs
    Add {
        #[command(flatten)]
        target: Target,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The publisher, as its signatures name it
        publisher: String,
        /// The key's id, as its signatures name it
        key_id: String,
        /// The public key: 32 bytes in base64
        public_key: String,
        #[command(flatten)]
        act: Act,
    },
    /// Believe a key no more, for ever
    Revoke {
        #[command(flatten)]
        target: Target,
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The publisher
        publisher: String,
        /// The key's id
        key_id: String,
        #[command(flatten)]
        act: Act,
    },
}

/// One question to the host.
struct Question<'a> {
    target: &'a Target,
    path: String,
    /// Where it goes.
    asked: fn(&Target) -> anyhow::Result<(String, tollgate_core::secret::Secret)>,
}

impl<'a> Question<'a> {
    /// Parts of a path, each escaped.
    fn new(target: &'a Target, parts: &[&str]) -> Self {
        let mut url = url::Url::parse("http://host").expect("a constant URL");
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push("v1").extend(parts);
        }
        Self {
            target,
            path: url.path().to_owned(),
            asked: ask::host,
        }
    }

    /// What a Spin app answers as well.
    fn of_apps_too(self) -> Self {
        Self {
            asked: ask::host_or_app,
            ..self
        }
    }

    fn of(of: &'a Of, parts: &[&str]) -> Self {
        Self::new(&of.target, parts).with("tenant", of.tenant.as_deref())
    }

    fn on(on: &'a OnRoute, more: &[&str]) -> Self {
        let parts = [&["tenants", &on.tenant, "routes", &on.route], more].concat();
        Self::new(&on.target, &parts)
    }

    fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            let pair = form_urlencoded::Serializer::new(String::new())
                .append_pair(name, value)
                .finish();
            self.path.push(if self.path.contains('?') { '&' } else { '?' });
            self.path.push_str(&pair);
        }
        self
    }

    fn get<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        self.send(http::Method::GET, &[], Vec::new(), CHANGE_PATIENCE)
    }

    fn post<T: DeserializeOwned>(self, body: &impl serde::Serialize) -> anyhow::Result<T> {
        self.write(http::Method::POST, body)
    }

    fn write<T: DeserializeOwned>(self, method: http::Method, body: &impl serde::Serialize) -> anyhow::Result<T> {
        self.send(method, &[], serde_json::to_vec(body)?, CHANGE_PATIENCE)
    }

    fn send<T: DeserializeOwned>(
        self,
        method: http::Method,
        headers: &[(String, String)],
        body: Vec<u8>,
        patience: std::time::Duration,
    ) -> anyhow::Result<T> {
        let (base, token) = (self.asked)(self.target)?;
        let operated = wire::Operated { base, token: &token };
        let (status, text) = ask::runtime()?.block_on(operated.send(method, &self.path, headers, body, patience))?;
        if status == 200 {
            return Ok(serde_json::from_str(&text)?);
        }
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut message = said["error"].as_str().unwrap_or(text.trim()).to_owned();
        for problem in said["problems"].as_array().into_iter().flatten() {
            let part = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
            message = format!("{message}\n  {}: {} ({})", part("field"), part("message"), part("help"));
        }
        // What the host says no to is an answer; what it could not do is not.
        if status < 500 && status != 401 {
            return Err(Refused(message).into());
        }
        anyhow::bail!("it answered {status}: {message}")
    }
}

impl Act {
    fn body(self) -> ActBody {
        ActBody {
            why: self.why,
            dry_run: self.dry_run,
            actor: ask::actor(),
        }
    }

    fn change(self, plugin: Option<String>, per_mille: Option<u16>) -> ChangeBody {
        ChangeBody {
            plugin,
            per_mille,
            why: self.why,
            dry_run: self.dry_run,
            actor: ask::actor(),
        }
    }
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Push {
            of,
            file,
            signature,
            dry_run,
        } => push(&of, &file, signature.as_deref(), dry_run),
        Command::List { of, name } => {
            let versions: Vec<PluginVersion> = Question::of(&of, &["plugins"]).with("name", name.as_deref()).get()?;
            if of.target.json {
                print_json(&versions)?;
            } else if versions.is_empty() {
                anstream::println!("no plugins");
            } else {
                versions.iter().for_each(version_line);
            }
            Ok(Exit::Yes)
        }
        Command::Show { of, plugin } => {
            let version: PluginVersion = Question::of(&of, &["plugins", &plugin]).get()?;
            shown(&of.target, &version)
        }
        Command::History { of, plugin } => history(&of.target, Question::of(&of, &["plugins", &plugin, "history"])),
        Command::Publish { of, plugin, act } => step(&of, &plugin, "publish", act),
        Command::Retire { of, plugin, act } => step(&of, &plugin, "retire", act),
        Command::Shadow { on, report: true, .. } => shadow_report(&on),
        Command::Shadow {
            on,
            plugin,
            why,
            dry_run,
            ..
        } => {
            let act = Act {
                why: why.unwrap_or_default(),
                dry_run,
            };
            change(&on, "shadow", &act.change(plugin, None))
        }
        Command::Canary {
            on,
            plugin,
            per_mille,
            act,
            ..
        } => change(&on, "canary", &act.change(plugin, per_mille)),
        Command::Promote { on, plugin, act } => change(&on, "promote", &act.change(Some(plugin), None)),
        Command::Rollback { on, act } => change(&on, "rollback", &act.change(None, None)),
        Command::Quarantined { target } => {
            let held = Question::new(&target, &["quarantines"]).of_apps_too().get()?;
            quarantined(&target, held)
        }
        Command::Lift { on, act } => {
            let lifted = Question::on(&on, &["lift-quarantine"])
                .of_apps_too()
                .post(&act.body())?;
            quarantined(&on.target, lifted)
        }
        Command::FollowFile { on, act } => change(&on, "follow-file", &act.change(None, None)),
    }
}

fn push(of: &Of, file: &Path, signature: Option<&Path>, dry_run: bool) -> anyhow::Result<Exit> {
    let unreadable = |path: &Path, error: std::io::Error| Usage(format!("cannot read {}: {error}", path.display()));
    let size = std::fs::metadata(file).map_err(|error| unreadable(file, error))?.len();
    if size > limits::COMPONENT_BYTES_MAX as u64 {
        let most = limits::COMPONENT_BYTES_MAX;
        return Err(Refused(format!(
            "{} is {size} bytes long; at most {most} are taken",
            file.display()
        ))
        .into());
    }
    let bytes = std::fs::read(file).map_err(|error| unreadable(file, error))?;
    let mut headers = Vec::new();
    if let Some(path) = signature {
        let document = std::fs::read(path).map_err(|error| unreadable(path, error))?;
        let signature = PluginSignature::from_json(&document).map_err(|error| Usage(error.to_string()))?;
        headers.push((SIGNATURE_HEADER.to_owned(), signature.to_json()));
    }
    headers.push(("content-type".to_owned(), "application/wasm".to_owned()));
    let question = Question::of(of, &["plugins"]).with("dry_run", dry_run.then_some("true"));
    let version: PluginVersion = question.send(http::Method::POST, &headers, bytes, PUSH_PATIENCE)?;
    shown(&of.target, &version)
}

fn step(of: &Of, plugin: &str, step: &str, act: Act) -> anyhow::Result<Exit> {
    let version: PluginVersion = Question::of(of, &["plugins", plugin, step]).post(&act.body())?;
    shown(&of.target, &version)
}

fn change(on: &OnRoute, what: &str, body: &ChangeBody) -> anyhow::Result<Exit> {
    let done: BindingChange = Question::on(on, &[what]).post(body)?;
    changed(&on.target, &done)
}

/// What the digests that people are shown are called.
struct Versions(BTreeMap<String, String>);

impl Versions {
    /// As far as the host tells whoever asks; without an answer digests stand alone.
    fn of(target: &Target) -> Self {
        let versions: Vec<PluginVersion> = Question::new(target, &["plugins"]).get().unwrap_or_default();
        let called = |version: PluginVersion| {
            (
                version.digest.to_string(),
                format!("{}@{}", version.name, version.version),
            )
        };
        Self(versions.into_iter().map(called).collect())
    }

    /// A text with the version beside each digest in it.
    fn beside(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (digest, version)| {
            text.replace(digest, &format!("{digest} ({version})"))
        })
    }
}

/// Shows what is in quarantine, or what was lifted. No when it is nothing.
fn quarantined(target: &Target, quarantines: Vec<Quarantine>) -> anyhow::Result<Exit> {
    if target.json {
        print_json(&quarantines)?;
    } else if quarantines.is_empty() {
        anstream::println!("nothing is in quarantine");
    } else {
        let (bold, bad, dim) = (show::BOLD, show::BAD, show::DIM);
        let versions = Versions::of(target);
        for one in &quarantines {
            anstream::println!(
                "{bold}{}/{}{bold:#}  {}  {dim}{}{dim:#}",
                one.tenant,
                one.route,
                one.plugin,
                versions.beside(&one.digest.to_string())
            );
            let reason = mask::line(&one.reason, 300);
            anstream::println!("  {bad}{} faults in a row{bad:#}, {}: {reason}", one.faults, one.at);
        }
    }
    Ok(if quarantines.is_empty() { Exit::No } else { Exit::Yes })
}

/// Asks the running host for something that may take as long as vetting does.
pub(super) fn on_route<T: DeserializeOwned>(
    target: &Target,
    tenant: &str,
    route: &str,
    what: &str,
    body: &impl serde::Serialize,
) -> anyhow::Result<T> {
    let question = Question::new(target, &["tenants", tenant, "routes", route, what]);
    question.send(http::Method::POST, &[], serde_json::to_vec(body)?, PUSH_PATIENCE)
}

fn history(target: &Target, question: Question<'_>) -> anyhow::Result<Exit> {
    let lines: Vec<RegistryLine> = question.get()?;
    if target.json {
        print_json(&lines)?;
    } else {
        let (bold, dim) = (show::BOLD, show::DIM);
        let versions = Versions::of(target);
        for line in &lines {
            let place = line.tenant.as_ref().map(|tenant| match &line.route {
                Some(route) => format!(" {tenant}/{route}"),
                None => format!(" {tenant}"),
            });
            let why = line.why.as_deref().map(mask::shown);
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let place = place.unwrap_or_default();
            anstream::println!(
                "{dim}{}{dim:#}  {bold}{}{bold:#}{place} by {}{why}",
                line.at,
                line.what,
                mask::shown(&line.actor)
            );
            if let Some(to) = &line.to {
                let (from, to) = (line.from.as_deref().unwrap_or("nothing"), versions.beside(to));
                anstream::println!("    {dim}{} → {to}{dim:#}", versions.beside(from));
            }
        }
    }
    Ok(Exit::Yes)
}

fn shadow_report(on: &OnRoute) -> anyhow::Result<Exit> {
    let report: ShadowReport = Question::on(on, &["shadow-runs"]).get()?;
    if on.target.json {
        print_json(&report)?;
        return Ok(Exit::Yes);
    }
    match &report.tally {
        Some(tally) => anstream::println!("{} runs, {} differ", tally.runs, tally.differences),
        None => anstream::println!("no shadow ran beside the active version"),
    }
    for run in report.runs.iter().filter(|run| run.differs) {
        let bad = show::BAD;
        anstream::println!(
            "{bad}{}{bad:#}  {} → {} {}",
            run.run,
            run.active_outcome,
            run.outcome,
            mask::line(&run.message, 300)
        );
        let differences = differing_actions(&run.active_actions, &run.actions);
        differences.iter().for_each(|line| anstream::println!("    {line}"));
    }
    Ok(Exit::Yes)
}

/// What a shadow proposed otherwise than the active version, a line each; the recorded text where it cannot be read as actions.
fn differing_actions(active: &Value, shadow: &Value) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Proposed {
        operation_key: OperationKey,
        action: Action,
    }
    let said = |actions: &Value| {
        let proposed: Vec<Proposed> = serde_json::from_value(actions.clone()).ok()?;
        Some(Said {
            outcome: String::new(),
            message: String::new(),
            actions: proposed
                .into_iter()
                .map(|one| (one.operation_key, one.action))
                .collect(),
            fuel: 0,
        })
    };
    match (said(active), said(shadow)) {
        (Some(active), Some(shadow)) => differences(&active, &shadow)
            .iter()
            .map(|difference| mask::line(&difference.to_string(), 300))
            .collect(),
        _ => vec![mask::line(&format!("{active} → {shadow}"), 600)],
    }
}

fn version_line(version: &PluginVersion) {
    let (bold, dim) = (show::BOLD, show::DIM);
    let of = version.owner.as_ref().map_or("every tenant", |owner| owner.as_str());
    let where_to: Vec<_> = version
        .bound
        .iter()
        .map(|bound| format!("{} on {}/{}", bound.stage, bound.tenant, bound.route))
        .collect();
    anstream::println!(
        "{bold}{}@{}{bold:#}  {}  {dim}{}{dim:#}  of {of}  {}",
        version.name,
        version.version,
        version.standing,
        version.digest,
        where_to.join(", ")
    );
}

fn shown(target: &Target, version: &PluginVersion) -> anyhow::Result<Exit> {
    if target.json {
        print_json(version)?;
    } else {
        version_line(version);
        let dim = show::DIM;
        let signed = version.signature.as_ref().map_or_else(
            || "no".to_owned(),
            |signature| format!("by {} with {}", signature.publisher, signature.key_id),
        );
        let facts = [
            ("publisher", version.publisher.clone()),
            ("signed", signed),
            ("bytes", version.component_bytes.to_string()),
            ("added", format!("{} by {}", version.added_at, version.added_by)),
        ];
        let manifest = manifest_lines(&version.manifest);
        let report = report_lines(&version.report);
        for (name, value) in facts.into_iter().chain(manifest).chain(report) {
            anstream::println!("  {dim}{name:10}{dim:#} {}", mask::line(&value, 500));
        }
    }
    Ok(Exit::Yes)
}

/// What a plugin says of itself, by name.
fn manifest_lines(manifest: &Value) -> Vec<(&'static str, String)> {
    let list = |name: &str| -> Vec<_> {
        let each = manifest[name].as_array().into_iter().flatten();
        each.filter_map(Value::as_str).collect()
    };
    let mut lines = vec![("events", list("events").join(", "))];
    lines.push(match list("actions").as_slice() {
        [] => ("actions", "none: it only looks".to_owned()),
        actions => ("actions", actions.join(", ")),
    });
    if manifest["state"] == true {
        lines.push(("state", "keeps some between runs".to_owned()));
    }
    if let Some(fuel) = manifest["fuel"].as_u64() {
        lines.push(("fuel", format!("{fuel} a run at most, as its author measured")));
    }
    if let Some(description) = manifest["description"].as_str() {
        lines.push(("about", description.to_owned()));
    }
    lines
}

/// What vetting found, by name. Empty for what came with the configuration.
fn report_lines(report: &Value) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let (Some(bytes), Some(fuel), Some(compile_ms)) = (
        report["instance_bytes"].as_u64(),
        report["instance_fuel"].as_u64(),
        report["compile_ms"].as_u64(),
    ) {
        let memory_kib = bytes.div_ceil(1024);
        lines.push((
            "vetted",
            format!("an instance takes {memory_kib} KiB and {fuel} fuel; compiled in {compile_ms} ms"),
        ));
    }
    for golden in report["golden"].as_array().into_iter().flatten() {
        let text = |name: &str| golden[name].as_str().unwrap_or("?").to_owned();
        lines.push((
            "golden",
            format!("{}: {}, {} fuel", text("name"), text("outcome"), golden["fuel"]),
        ));
    }
    if let Some(runtime) = report["runtime"].as_str() {
        lines.push(("runtime", runtime.to_owned()));
    }
    lines
}

fn changed(target: &Target, done: &BindingChange) -> anyhow::Result<Exit> {
    if target.json {
        print_json(done)?;
    } else {
        let (good, dim) = (show::GOOD, show::DIM);
        let would = if done.dry_run { " (nothing changed)" } else { "" };
        let versions = Versions::of(target);
        anstream::println!("{good}{}{good:#}  {}/{}{would}", done.what, done.tenant, done.route);
        for (name, binding) in [("before", &done.before), ("after", &done.after)] {
            let text = binding
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), ToString::to_string);
            anstream::println!("  {dim}{name:7}{dim:#} {}", versions.beside(&text));
        }
        let warn = show::WARN;
        for warning in &done.warnings {
            anstream::println!("  {warn}warning{warn:#} {warning}");
        }
    }
    Ok(Exit::Yes)
}

pub(super) fn route(command: RouteCommand) -> anyhow::Result<Exit> {
    match command {
        RouteCommand::List { target, tenant } => {
            let routes: Vec<Value> = Question::new(&target, &["tenants", &tenant, "routes"]).get()?;
            if target.json {
                print_json(&routes)?;
            } else if routes.is_empty() {
                anstream::println!("no routes");
            }
            if !target.json {
                let (bold, dim) = (show::BOLD, show::DIM);
                let versions = Versions::of(&target);
                for route in &routes {
                    let text = |name: &str| route[name].as_str().unwrap_or_default().to_owned();
                    let active = versions.beside(route["binding"]["active"].as_str().unwrap_or("nothing is bound"));
                    anstream::println!(
                        "{bold}{}{bold:#}  {}  {dim}{active}, set by {}{dim:#}",
                        text("route"),
                        match route["forward"].as_str() {
                            Some(form) => format!("forward ({form})"),
                            None => text("plugin"),
                        },
                        text("set_by")
                    );
                }
            }
            Ok(Exit::Yes)
        }
        RouteCommand::Set { on, file, plugin, act } => {
            let body = RouteBody {
                definition: definition(&file)?,
                plugin,
                why: act.why,
                dry_run: act.dry_run,
                actor: ask::actor(),
            };
            let done: BindingChange = Question::on(&on, &[]).write(http::Method::PUT, &body)?;
            changed(&on.target, &done)
        }
        RouteCommand::Remove { on, act } => {
            let done: BindingChange = Question::on(&on, &[]).write(http::Method::DELETE, &act.body())?;
            changed(&on.target, &done)
        }
        RouteCommand::History { on } => history(&on.target, Question::on(&on, &["history"])),
    }
}

/// A route's definition from a file.
fn definition(file: &Path) -> anyhow::Result<Value> {
    let text =
        std::fs::read_to_string(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
    let wrong = |error: String| Usage(format!("{}: {error}", file.display()));
    if file.extension().is_some_and(|extension| extension == "json") {
        return Ok(serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?);
    }
    let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    Ok(to_json(toml::Value::Table(table)))
}

/// Dates and times become texts, as in a tenant's file.
fn to_json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(boolean) => boolean.into(),
        toml::Value::Datetime(instant) => instant.to_string().into(),
        toml::Value::Array(elements) => elements.into_iter().map(to_json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, to_json(value))).collect(),
    }
}

pub(super) fn publisher(command: PublisherCommand) -> anyhow::Result<Exit> {
    match command {
        PublisherCommand::List { target, tenant } => {
            let keys: Vec<PublisherKeyView> = Question::new(&target, &["tenants", &tenant, "publishers"]).get()?;
            if target.json {
                print_json(&keys)?;
            } else if keys.is_empty() {
                anstream::println!("no keys");
            }
            if !target.json {
                let (bold, dim) = (show::BOLD, show::DIM);
                for key in &keys {
                    let state = key
                        .revoked_at
                        .as_deref()
                        .map(|at| format!("revoked {at}"))
                        .unwrap_or_default();
                    let (publisher, id) = (&key.publisher, &key.key_id);
                    anstream::println!(
                        "{bold}{publisher}/{id}{bold:#}  {dim}{}{dim:#}  {state}",
                        key.public_key
                    );
                }
            }
            Ok(Exit::Yes)
        }
        PublisherCommand::Add {
            target,
            tenant,
            publisher,
            key_id,
            public_key,
            act,
        } => {
            let body = PublisherBody {
                publisher,
                key_id,
                public_key,
                why: act.why,
                dry_run: act.dry_run,
                actor: ask::actor(),
            };
            let done: Value = Question::new(&target, &["tenants", &tenant, "publishers"]).post(&body)?;
            said(&target, &done, "believed")
        }
        PublisherCommand::Revoke {
            target,
            tenant,
            publisher,
            key_id,
            act,
        } => {
            let parts = ["tenants", &tenant, "publishers", &publisher, &key_id, "revoke"];
            let done: Value = Question::new(&target, &parts).post(&act.body())?;
            said(&target, &done, "not believed any more")
        }
    }
}

fn said(target: &Target, done: &Value, words: &str) -> anyhow::Result<Exit> {
    if target.json {
        print_json(done)?;
    } else {
        anstream::println!("{words}");
    }
    Ok(Exit::Yes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shadow_that_differs_is_shown_in_money_and_not_in_json() {
        let credit = |minor_units: i64| {
            json!([{ "operation_key": "cashback:1", "action":
                { "kind": "credit", "account": "cust_1", "amount": { "minor_units": minor_units, "currency": "USD" }, "reason": "r" } }])
        };
        let lines = differing_actions(&credit(500), &credit(550));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("5.00 USD") && lines[0].contains("5.50 USD"),
            "{lines:?}"
        );
        assert!(differing_actions(&credit(500), &credit(500)).is_empty());
        let unread = differing_actions(&json!([{ "other": 1 }]), &json!([]));
        assert_eq!(unread, [r#"[{"other":1}] → []"#]);
    }

    #[test]
    fn what_a_version_says_of_itself_is_shown_in_words() {
        let manifest = json!({ "events": ["payment.*"], "actions": [], "state": true, "description": "watches" });
        let lines = manifest_lines(&manifest);
        assert!(
            lines.contains(&("actions", "none: it only looks".to_owned())),
            "{lines:?}"
        );
        assert!(lines.contains(&("about", "watches".to_owned())), "{lines:?}");
        let report = json!({ "instance_bytes": 2000, "instance_fuel": 7, "compile_ms": 3,
            "golden": [{ "name": "one", "outcome": "completed", "fuel": 9 }] });
        assert_eq!(
            report_lines(&report),
            [
                (
                    "vetted",
                    "an instance takes 2 KiB and 7 fuel; compiled in 3 ms".to_owned()
                ),
                ("golden", "one: completed, 9 fuel".to_owned()),
            ]
        );
        assert!(report_lines(&json!({ "from": "configuration" })).is_empty());
    }
}
