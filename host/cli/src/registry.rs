//! `tollgate plugin push|list|…`, `tollgate route …`, `tollgate publisher …`: a client of a running host's registry.
//!
//! All of it is asked over the private listener: of the host at `--url` with the token in TOLLGATE_TOKEN, or of the one whose
//! configuration is here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;
use tollgate_api::plugins::{
    ActBody, BindingChange, ChangeBody, PluginHistoryQuery, PluginPath, PluginQuery, PluginVersion, PluginsQuery,
    PublisherBody, PublisherPath, RegistryLine, RouteBody, RouteHistoryQuery, RoutePath, ShadowRunsQuery, TenantPath,
    UploadQuery,
};
use tollgate_api::quarantines::Quarantine;
use tollgate_api::trials::{TrialBody, TrialReport};
use tollgate_api::{Call, Content, Nothing, SIGNATURE_HEADER, calls, question};
use tollgate_core::action::Action;
use tollgate_core::difference::{Said, differences};
use tollgate_core::ids::{IdError, OperationKey};
use tollgate_core::secret::Secret;
use tollgate_core::signature::PluginSignature;
use tollgate_core::{limits, mask};

use super::{Exit, Refused, Target, Usage, ask, print_json, show, wire};

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
    pub(super) dry_run: bool,
}

/// A tenant's route.
#[derive(clap::Args, Clone)]
pub(super) struct OnRoute {
    #[command(flatten)]
    pub(super) target: Target,
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
    /// List the versions that the host keeps, newest first
    List {
        #[command(flatten)]
        of: Of,
        /// Only of this name
        #[arg(long)]
        name: Option<String>,
    },
    /// Show one version: its manifest, its report, where it runs
    Show {
        #[command(flatten)]
        of: Of,
        /// A digest, eight or more of its first digits, or name@version
        plugin: String,
    },
    /// Show what was done with a version, by whom and why
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
    /// Retire a version: it is never bound again; refused while it runs somewhere
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
    /// Undo a route's last step: end its canary, or run what ran before
    Rollback {
        #[command(flatten)]
        on: OnRoute,
        #[command(flatten)]
        act: Act,
    },
    /// List the versions in quarantine, which failed again and again and are not run
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
    /// List a tenant's routes, and what they run
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
    /// Show what was done with a route, by whom and why
    History {
        #[command(flatten)]
        on: OnRoute,
    },
}

/// Whose signatures a tenant believes.
#[derive(Subcommand)]
pub(super) enum PublisherCommand {
    /// List the keys that a tenant trusts
    List {
        #[command(flatten)]
        target: Target,
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Trust what a key signs
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
    /// Revoke a key for ever
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

/// Where a call goes, and what opens it there.
type Place = (String, Secret);

/// Asks the host for a call.
pub(super) fn asked<C: Call>(
    target: &Target,
    path: &C::Path,
    query: &C::Query,
    body: &C::Body,
) -> anyhow::Result<C::Answer> {
    asked_at::<C>(ask::host(target)?, path, query, body)
}

/// Asks the host or app at `place` for a call.
///
/// # Errors
/// When it is not there, or refuses.
pub(super) fn asked_at<C: Call>(
    place: Place,
    path: &C::Path,
    query: &C::Query,
    body: &C::Body,
) -> anyhow::Result<C::Answer> {
    let body = match C::TAKES {
        Content::Json => serde_json::to_vec(body)?,
        Content::Nothing | Content::Component | Content::Metrics => Vec::new(),
    };
    sent::<C>(place, &question::<C>(path, query)?, &[], body, CHANGE_PATIENCE)
}

/// The same with a body and headers by hand.
fn sent<C: Call>(
    (base, token): Place,
    question: &str,
    headers: &[(String, String)],
    body: Vec<u8>,
    patience: std::time::Duration,
) -> anyhow::Result<C::Answer> {
    let operated = wire::Operated { base, token: &token };
    let method = http::Method::from_bytes(C::METHOD.as_str().as_bytes())?;
    let (status, text) = ask::runtime()?.block_on(operated.send(method, question, headers, body, patience))?;
    if status == 200 {
        return Ok(serde_json::from_str(&text)?);
    }
    let message = wire::refusal(&text);
    // What the host says no to is an answer; what it could not do is not.
    if status < 500 && status != 401 {
        return Err(Refused(message).into());
    }
    anyhow::bail!("it answered {status}: {message}")
}

/// A name as the API has it, or the refusal that it would get.
pub(super) fn named<T: std::str::FromStr<Err = IdError>>(field: &str, text: &str) -> anyhow::Result<T> {
    text.parse()
        .map_err(|error| Refused(format!("{field}: {error}")).into())
}

fn tenant_path(tenant: &str) -> anyhow::Result<TenantPath> {
    Ok(TenantPath {
        tenant: named("tenant", tenant)?,
    })
}

impl Of {
    fn query(&self) -> PluginQuery {
        PluginQuery {
            tenant: self.tenant.clone(),
        }
    }
}

impl OnRoute {
    pub(super) fn path(&self) -> anyhow::Result<RoutePath> {
        Ok(RoutePath {
            tenant: named("tenant", &self.tenant)?,
            route: named("route", &self.route)?,
        })
    }
}

impl Act {
    pub(super) fn body(self) -> ActBody {
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
            let query = PluginsQuery {
                tenant: of.tenant.clone(),
                name,
            };
            let versions = asked::<calls::Plugins>(&of.target, &Nothing {}, &query, &Nothing {})?;
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
            let version = asked::<calls::ShowPlugin>(&of.target, &PluginPath { plugin }, &of.query(), &Nothing {})?;
            shown(&of.target, &version)
        }
        Command::History { of, plugin } => {
            let query = PluginHistoryQuery {
                tenant: of.tenant.clone(),
                limit: None,
            };
            let lines = asked::<calls::PluginHistory>(&of.target, &PluginPath { plugin }, &query, &Nothing {})?;
            history(&of.target, &lines)
        }
        Command::Publish { of, plugin, act } => step::<calls::PublishPlugin>(&of, plugin, act),
        Command::Retire { of, plugin, act } => step::<calls::RetirePlugin>(&of, plugin, act),
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
            change::<calls::Shadow>(&on, &act.change(plugin, None))
        }
        Command::Canary {
            on,
            plugin,
            per_mille,
            act,
            ..
        } => change::<calls::Canary>(&on, &act.change(plugin, per_mille)),
        Command::Promote { on, plugin, act } => change::<calls::Promote>(&on, &act.change(Some(plugin), None)),
        Command::Rollback { on, act } => change::<calls::Rollback>(&on, &act.change(None, None)),
        Command::Quarantined { target } => {
            let quarantines =
                asked_at::<calls::Quarantines>(ask::host_or_app(&target)?, &Nothing {}, &Nothing {}, &Nothing {})?;
            quarantined(&target, &quarantines)
        }
        Command::Lift { on, act } => {
            let lifted = asked_at::<calls::LiftQuarantine>(
                ask::host_or_app(&on.target)?,
                &on.path()?,
                &Nothing {},
                &act.body(),
            )?;
            quarantined(&on.target, &lifted)
        }
        Command::FollowFile { on, act } => change::<calls::FollowFile>(&on, &act.change(None, None)),
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
    let query = UploadQuery {
        tenant: of.tenant.clone(),
        dry_run,
        actor: ask::actor(),
    };
    let question = question::<calls::UploadPlugin>(&Nothing {}, &query)?;
    let version = sent::<calls::UploadPlugin>(ask::host(&of.target)?, &question, &headers, bytes, PUSH_PATIENCE)?;
    shown(&of.target, &version)
}

fn step<C>(of: &Of, plugin: String, act: Act) -> anyhow::Result<Exit>
where
    C: Call<Path = PluginPath, Query = PluginQuery, Body = ActBody, Answer = PluginVersion>,
{
    let version = asked::<C>(&of.target, &PluginPath { plugin }, &of.query(), &act.body())?;
    shown(&of.target, &version)
}

fn change<C>(on: &OnRoute, body: &ChangeBody) -> anyhow::Result<Exit>
where
    C: Call<Path = RoutePath, Query = Nothing, Body = ChangeBody, Answer = BindingChange>,
{
    let done = asked::<C>(&on.target, &on.path()?, &Nothing {}, body)?;
    changed(&on.target, &done)
}

/// What the digests that people are shown are called.
struct Versions(BTreeMap<String, String>);

impl Versions {
    /// As far as the host tells whoever asks; without an answer digests stand alone.
    fn of(target: &Target) -> Self {
        let query = PluginsQuery::default();
        let versions = asked::<calls::Plugins>(target, &Nothing {}, &query, &Nothing {}).unwrap_or_default();
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
fn quarantined(target: &Target, quarantines: &[Quarantine]) -> anyhow::Result<Exit> {
    if target.json {
        print_json(&quarantines)?;
    } else if quarantines.is_empty() {
        anstream::println!("nothing is in quarantine");
    } else {
        let (bold, bad, dim) = (show::BOLD, show::BAD, show::DIM);
        let versions = Versions::of(target);
        for one in quarantines {
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

/// Asks the running host for a trial, which may take as long as vetting does.
pub(super) fn trial(target: &Target, tenant: &str, route: &str, body: &TrialBody) -> anyhow::Result<TrialReport> {
    let path = RoutePath {
        tenant: named("tenant", tenant)?,
        route: named("route", route)?,
    };
    let question = question::<calls::RunTrial>(&path, &Nothing {})?;
    sent::<calls::RunTrial>(
        ask::host(target)?,
        &question,
        &[],
        serde_json::to_vec(body)?,
        PUSH_PATIENCE,
    )
}

fn history(target: &Target, history: &[RegistryLine]) -> anyhow::Result<Exit> {
    if target.json {
        print_json(&history)?;
    } else {
        lines(target, history);
    }
    Ok(Exit::Yes)
}

/// Shows what people changed, a line for each change, and below it what was before and is since.
pub(super) fn lines(target: &Target, lines: &[RegistryLine]) {
    let (bold, dim) = (show::BOLD, show::DIM);
    let versions = Versions::of(target);
    for line in lines {
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
            let to = versions.beside(to);
            match &line.from {
                // What was made or ended has no before, as what changed has.
                None if line.route.is_none() && line.plugin.is_none() => anstream::println!("    {dim}{to}{dim:#}"),
                from => {
                    let from = versions.beside(from.as_deref().unwrap_or("nothing"));
                    anstream::println!("    {dim}{from} → {to}{dim:#}");
                }
            }
        }
    }
}

fn shadow_report(on: &OnRoute) -> anyhow::Result<Exit> {
    let query = ShadowRunsQuery::default();
    let report = asked::<calls::ShadowRuns>(&on.target, &on.path()?, &query, &Nothing {})?;
    if on.target.json {
        print_json(&report)?;
        return Ok(Exit::Yes);
    }
    match &report.tally {
        Some(tally) => anstream::println!("{}, {} differ", show::counted(tally.runs, "run"), tally.differences),
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
    let where_to = if where_to.is_empty() {
        String::new()
    } else {
        format!("  {}", where_to.join(", "))
    };
    anstream::println!(
        "{bold}{}@{}{bold:#}  {}  {dim}{}{dim:#}  of {of}{where_to}",
        version.name,
        version.version,
        version.standing,
        version.digest,
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
            let routes = asked::<calls::Routes>(&target, &tenant_path(&tenant)?, &Nothing {}, &Nothing {})?;
            if target.json {
                print_json(&routes)?;
            } else if routes.is_empty() {
                anstream::println!("no routes");
            }
            if !target.json {
                let (bold, dim) = (show::BOLD, show::DIM);
                let versions = Versions::of(&target);
                for route in &routes {
                    let active = route.binding.as_ref().map(|binding| binding.active.to_string());
                    let active = versions.beside(active.as_deref().unwrap_or("nothing is bound"));
                    let runs = match (&route.forward, &route.plugin) {
                        (Some(form), _) => format!("forward ({form})"),
                        (None, Some(plugin)) => plugin.to_string(),
                        (None, None) => String::new(),
                    };
                    anstream::println!(
                        "{bold}{}{bold:#}  {runs}  {dim}{active}, set by {}{dim:#}",
                        route.route,
                        route.set_by.as_str()
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
            let done = asked::<calls::SetRoute>(&on.target, &on.path()?, &Nothing {}, &body)?;
            changed(&on.target, &done)
        }
        RouteCommand::Remove { on, act } => {
            let done = asked::<calls::RemoveRoute>(&on.target, &on.path()?, &Nothing {}, &act.body())?;
            changed(&on.target, &done)
        }
        RouteCommand::History { on } => {
            let query = RouteHistoryQuery::default();
            let lines = asked::<calls::RouteHistory>(&on.target, &on.path()?, &query, &Nothing {})?;
            history(&on.target, &lines)
        }
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
            let keys = asked::<calls::Publishers>(&target, &tenant_path(&tenant)?, &Nothing {}, &Nothing {})?;
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
            let done = asked::<calls::RegisterPublisher>(&target, &tenant_path(&tenant)?, &Nothing {}, &body)?;
            said(&target, &done, "added")
        }
        PublisherCommand::Revoke {
            target,
            tenant,
            publisher,
            key_id,
            act,
        } => {
            let path = PublisherPath {
                tenant: named("tenant", &tenant)?,
                publisher: named("publisher", &publisher)?,
                key: named("key", &key_id)?,
            };
            let done = asked::<calls::RevokePublisher>(&target, &path, &Nothing {}, &act.body())?;
            said(&target, &done, "revoked")
        }
    }
}

fn said(target: &Target, done: &impl serde::Serialize, words: &str) -> anyhow::Result<Exit> {
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
