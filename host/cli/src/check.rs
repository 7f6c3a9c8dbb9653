//! `tollgate check`: the whole configuration, and every plugin that it names, without starting anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;
use tollgate_core::action::ActionKind;
use tollgate_core::ids::PluginName;
use tollgate_sandbox::{Sandbox, SandboxOptions};
use tollgate_store::postgres::ServerFound;
use tollgate_store::registry::{Act, ApiRoute, NamespaceChange, VersionFilter};
use tollgate_store::{Control as _, StoreError, Views as _};

use super::{Exit, Target, ask, print_json, show};
use tollgate_server::config::{self, Config, Published, Runs, StoreConfig, Warning};
use tollgate_server::store::{self, HostStore};
use tollgate_server::{clock, registry};

/// A tenant whose file is wrong, and what a host makes of that.
#[derive(Serialize)]
struct Stale {
    tenant: String,
    /// Whether the host goes on with the tenant's last good configuration; else it leaves the tenant out.
    runs_last_good: bool,
    /// Whether the host runs it as written: only a plugin's schema refuses it, and nothing good is known.
    runs_as_written: bool,
    /// Whether it runs its file alone: what it set by API does not fit it.
    runs_file_alone: bool,
    /// When that was adopted.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    /// Since when the file is known to be wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

pub(super) fn run(target: &Target) -> anyhow::Result<Exit> {
    let config = match config::check(&target.config, &published) {
        Ok(config) => config,
        Err(problems) => {
            // What is wrong with the operator's file is wrong for all.
            let stale = config::load_knowing(&target.config, &published)
                .map(|config| stale(&config))
                .unwrap_or_default();
            if target.json {
                print_json(
                    &serde_json::json!({ "ok": false, "problems": problems.as_data(), "broken_tenants": stale }),
                )?;
            } else {
                anstream::eprintln!("{}", problems.render(config::Ink::Coloured));
                stale.iter().for_each(show_stale);
            }
            return Ok(Exit::No);
        }
    };
    let sandbox = Sandbox::new(SandboxOptions {
        compiler: tollgate_server::serve::compiler()?,
        ..SandboxOptions::default()
    })?;
    let plugins = registry::read_plugins(&sandbox, &config);
    let mut asks = asked_by_pushed(&config);
    for (version, plugin) in plugins.iter().flatten() {
        let kinds = plugin
            .manifest()
            .map(|manifest| manifest.actions.iter().copied().collect());
        asks.insert(version.name.clone(), kinds.unwrap_or_default());
    }
    let mut warnings = config::warnings(&config, &asks, clock::now());
    warnings.extend(moved_namespaces(&config));
    warnings.extend(open_folder(&config.store.path));
    let server = store::server(&config.store);
    warnings.extend(dangers(&server));
    if target.json {
        let problem = plugins
            .as_ref()
            .err()
            .map(|error| serde_json::json!({ "message": format!("{error:#}") }));
        let mut report = serde_json::json!({
            "ok": problem.is_none(),
            "problems": problem.into_iter().collect::<Vec<_>>(),
            "warnings": warnings,
            "tenants": config.tenants.len(),
            "plugins": config.plugins.len(),
        });
        if let Ok(Some(found)) = &server {
            report["store"] = serde_json::json!(found);
        }
        print_json(&report)?;
    } else if let Err(error) = &plugins {
        anstream::eprintln!("{error:#}");
    } else {
        list(target, &config);
        if let Ok(Some(found)) = &server {
            show_server(found);
        }
        for warning in &warnings {
            let (warn, dim) = (show::WARN, show::DIM);
            let field = warning
                .field
                .as_ref()
                .map(|field| format!("{field}: "))
                .unwrap_or_default();
            anstream::println!(
                "{warn}warning{warn:#}  {field}{}\n         {dim}{}{dim:#}",
                warning.message,
                warning.help
            );
        }
    }
    Ok(if plugins.is_ok() { Exit::Yes } else { Exit::No })
}

fn show_server(found: &ServerFound) {
    let dim = show::DIM;
    let schema = match found.schema {
        0 => "no schema yet".to_owned(),
        schema => format!("schema {schema}"),
    };
    let standbys = match found.synchronous_standby_names.as_str() {
        "" => "none",
        names => names,
    };
    anstream::println!(
        "  store  PostgreSQL {}, {schema} {dim}sslmode {}, fsync {}, full_page_writes {}, synchronous_commit {}, synchronous standbys {standbys}, \
         max_connections {}{dim:#}",
        found.version,
        found.sslmode,
        found.fsync,
        found.full_page_writes,
        found.synchronous_commit,
        found.max_connections,
    );
}

fn list(target: &Target, config: &Config) {
    let (good, dim) = (show::GOOD, show::DIM);
    anstream::println!("{good}ok{good:#}  {}", target.config.display());
    for tenant in config.tenants.values() {
        anstream::println!("  tenant {}", tenant.name);
        for source in tenant.sources.values() {
            anstream::println!(
                "    source {:16} {dim}POST /in/{}/{}  ({}){dim:#}",
                source.name,
                tenant.name,
                source.name,
                source.profile.title
            );
        }
        for route in &tenant.routes {
            let to: Vec<&str> = route.destinations.iter().map(|name| name.as_str()).collect();
            let to = if to.is_empty() {
                "the ledger".to_owned()
            } else {
                to.join(", ")
            };
            let what = match route.forward {
                Some(form) => format!("forward ({form})"),
                None => route.plugin.to_string(),
            };
            anstream::println!("    route  {:16} {dim}{what} → {to}{dim:#}", route.name);
            for grant in &route.grants {
                anstream::println!("           {:16} {dim}may {grant}{dim:#}", "");
            }
        }
    }
}

/// The store, if there is one that can be read.
fn existing(config: &StoreConfig) -> Option<HostStore> {
    if config.url.is_none() && !config.path.exists() {
        return None;
    }
    store::open_read_only(config).ok()
}

/// What of a shared store's server can lose what was acknowledged, or that it cannot be asked.
fn dangers(server: &Result<Option<ServerFound>, StoreError>) -> Vec<Warning> {
    let warning = |message: String, help: &str| Warning {
        field: Some("store.url".to_owned()),
        message,
        help: help.to_owned(),
    };
    match server {
        Ok(None) => Vec::new(),
        Ok(Some(found)) => {
            let say = |danger: &String| warning(danger.clone(), "docs/many-hosts.md says what each setting is for");
            found.dangers.iter().map(say).collect()
        }
        Err(error) => vec![warning(
            format!("the store was not reached: {error}"),
            "a host that starts now ends with this error",
        )],
    }
}

/// What is published in the store's registry. Without a store there is nothing; one that cannot be read is the server's to complain of.
fn published(store: &StoreConfig) -> Published {
    let read = || {
        let store = existing(store)?;
        ask::runtime().ok()?.block_on(registry::published(&store)).ok()
    };
    read().unwrap_or_else(Published::nothing)
}

/// What pushed plugins ask for, by name: all their versions together.
fn asked_by_pushed(config: &Config) -> BTreeMap<PluginName, BTreeSet<ActionKind>> {
    let read = || {
        let store = existing(&config.store)?;
        let versions = store.plugin_versions(VersionFilter::default());
        ask::runtime().ok()?.block_on(versions).ok()
    };
    let mut asks: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for version in read().unwrap_or_default() {
        let kinds = version.manifest["actions"].as_array().into_iter().flatten();
        let kinds = kinds.filter_map(|kind| ActionKind::from_name(kind.as_str()?));
        asks.entry(version.name).or_default().extend(kinds);
    }
    asks
}

/// Routes that would record their operations under another namespace than the host last did. Those that were set by API stand in for
/// the file's.
fn moved_namespaces(config: &Config) -> Vec<Warning> {
    let read = || {
        let store = existing(&config.store)?;
        let asked = async {
            let by_api = store.api_routes().await.ok()?;
            let mut named = registry::namespaces(config);
            named.retain(|named| {
                let stands_in = |api: &ApiRoute| api.tenant == named.tenant && api.route == named.route;
                !by_api.iter().any(stands_in)
            });
            let act = Act {
                actor: "check".to_owned(),
                why: None,
                at: clock::now(),
                dry_run: true,
            };
            store.follow_namespaces(named, act).await.ok()
        };
        ask::runtime().ok()?.block_on(asked)
    };
    let moved = read().unwrap_or_default();
    let warning = |change: &NamespaceChange| Warning {
        field: Some(format!("{}.routes.{}.operations", change.tenant, change.route)),
        message: format!(
            "the route's operations move from the namespace `{}` to `{}`: what was recorded under the former is not recognised, and would be \
             recorded again",
            change.before, change.after
        ),
        help: format!(
            "say operations = \"{}\" on the route to go on with what was recorded",
            change.before
        ),
    };
    moved.iter().map(warning).collect()
}

/// A store's folder that others may write to: they could put another store in its place.
fn open_folder(store: &Path) -> Option<Warning> {
    use std::os::unix::fs::MetadataExt as _;
    let folder = store
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mode = std::fs::metadata(folder).ok()?.mode();
    (mode & 0o022 != 0).then(|| Warning {
        field: Some("store.path".to_owned()),
        message: format!(
            "others may write to the store's folder {}: they could put other files in its place",
            folder.display()
        ),
        help: "chmod 700 the folder".to_owned(),
    })
}

fn stale(config: &Config) -> Vec<Stale> {
    let one = |(tenant, broken): (&String, &config::Broken)| {
        let (of, since) = match broken.runs {
            Runs::LastGood { of, since } => (Some(of.to_string()), Some(since.to_string())),
            Runs::AsWritten | Runs::Nothing | Runs::FileAlone => (None, None),
        };
        Stale {
            tenant: tenant.clone(),
            runs_last_good: of.is_some(),
            runs_as_written: broken.runs == Runs::AsWritten,
            runs_file_alone: broken.runs == Runs::FileAlone,
            of,
            since,
        }
    };
    config.broken.iter().map(one).collect()
}

fn show_stale(stale: &Stale) {
    let warn = show::WARN;
    let tenant = &stale.tenant;
    match (&stale.of, &stale.since) {
        (Some(of), Some(since)) => anstream::eprintln!(
            "\n{warn}meanwhile{warn:#}  the host goes on with the configuration of `{tenant}` that it adopted at {of} (its file is wrong since {since})"
        ),
        _ if stale.runs_as_written => anstream::eprintln!(
            "\n{warn}meanwhile{warn:#}  nothing good is known of `{tenant}`: a start runs it as written, and the plugin holds every event that it cannot read"
        ),
        _ if stale.runs_file_alone => anstream::eprintln!(
            "\n{warn}meanwhile{warn:#}  nothing is known of `{tenant}` that what it set by API would fit: a start runs its file alone, and a reload what runs"
        ),
        _ => anstream::eprintln!(
            "\n{warn}meanwhile{warn:#}  nothing good is known of `{tenant}`: a reload leaves it out, a start is refused without --without-broken-tenants"
        ),
    }
}
