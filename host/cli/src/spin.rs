//! `tollgate spin add`, `remove`, `tenants` and `check`: the plugins and tenants of a Spin app.
//!
//! Adding a plugin needs no rebuild: it is vetted, enclosed beside spin.toml, and gets a block of its own there. What people wrote
//! in spin.toml stays as it is; only what belongs to the plugin is edited.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tollgate_core::ids::{PluginName, RouteName, TenantName};
use tollgate_enclose::{Kit, enclose, plugin_of};
use tollgate_sandbox::{Sandbox, SandboxOptions, VetReport};
use tollgate_tenants::{BuildError, Built};
use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::{Exit, Usage, print_json};
use tollgate_server::config::{Ink, Problems, Schemas, VersionSchema};

/// The component that takes events in.
const INGEST: &str = "ingest";
/// The component that works on them.
const WORKER: &str = "worker";
/// Where enclosed plugins are put, beside spin.toml.
const ENCLOSED: &str = "plugins";
/// What our components may import. What is not here was not looked at, so it is a problem.
const IMPORTS: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:random/",
    "tollgate:runner/plugin@",
];
/// Not the runner's.
const OWN_IMPORTS: [&str; 2] = ["fermyon:spin/variables@", "spin:sqlite/sqlite@"];

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Vet a plugin, enclose it, and write its block into spin.toml; a second time changes nothing
    Add {
        /// The plugin's component (.wasm)
        file: PathBuf,
        #[command(flatten)]
        app: App,
        /// The folder of the built kit: host calls, caller and runner; from the app's folder
        #[arg(long, default_value = "target/spin")]
        kit: PathBuf,
        /// Give this tenant a route to the plugin, for the event types of its manifest; it grants nothing yet
        #[arg(long, value_name = "TENANT/ROUTE")]
        route: Option<String>,
    },
    /// Take a plugin's block out of spin.toml
    Remove {
        /// The plugin's name
        name: String,
        #[command(flatten)]
        app: App,
    },
    /// Build the tenants' files into what the components are given; after each edit, as `spin build` does
    Tenants {
        #[command(flatten)]
        app: App,
    },
    /// Look at the whole app: tenants, routes, grants, secrets, and what each component imports
    Check {
        #[command(flatten)]
        app: App,
    },
}

#[derive(clap::Args)]
pub(super) struct App {
    /// The app's manifest
    #[arg(long, default_value = "spin.toml")]
    manifest: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Add { file, app, kit, route } => add(&file, &app, &kit, route.as_deref()),
        Command::Remove { name, app } => remove(&name, &app),
        Command::Tenants { app } => tenants(&app),
        Command::Check { app } => check(&app),
    }
}

/// A manifest under edit.
struct Manifest<'a> {
    path: &'a Path,
    folder: &'a Path,
    before: String,
    document: DocumentMut,
}

impl<'a> Manifest<'a> {
    fn read(path: &'a Path) -> anyhow::Result<Self> {
        let before =
            std::fs::read_to_string(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
        let document = before
            .parse::<DocumentMut>()
            .map_err(|error| Usage(format!("{} is not TOML: {error}", path.display())))?;
        Ok(Self {
            path,
            folder: path.parent().unwrap_or(Path::new("")),
            before,
            document,
        })
    }

    /// Writes the file whole or not at all. Returns whether anything changed.
    fn write(&self, text: &str) -> anyhow::Result<bool> {
        if text == self.before {
            return Ok(false);
        }
        replace(self.path, text.as_bytes())?;
        Ok(true)
    }

    fn component(&self, id: &str) -> Option<&Table> {
        self.document.get("component")?.get(id)?.as_table()
    }

    fn components(&self) -> impl Iterator<Item = (&str, &Table)> {
        let all = self.document.get("component").and_then(Item::as_table);
        all.into_iter()
            .flat_map(Table::iter)
            .filter_map(|(id, item)| Some((id, item.as_table()?)))
    }

    /// Each trigger's route and component.
    fn triggers(&self) -> Vec<(Option<String>, String)> {
        let all = self.document.get("trigger").and_then(|trigger| trigger.get("http"));
        let tables = all.and_then(Item::as_array_of_tables);
        tables
            .into_iter()
            .flat_map(|tables| tables.iter())
            .map(|table| {
                let route = table.get("route").and_then(Item::as_str).map(str::to_owned);
                let component = table.get("component").and_then(Item::as_str).unwrap_or_default();
                (route, component.to_owned())
            })
            .collect()
    }

    /// What the worker may call.
    fn outbound_mut(&mut self) -> anyhow::Result<&mut Array> {
        let worker = self
            .document
            .get_mut("component")
            .and_then(|components| components.get_mut(WORKER))
            .and_then(Item::as_table_mut)
            .ok_or_else(|| Usage(format!("the manifest has no component `{WORKER}`")))?;
        worker
            .entry("allowed_outbound_hosts")
            .or_insert_with(|| toml_edit::value(Array::new()))
            .as_array_mut()
            .ok_or_else(|| Usage("allowed_outbound_hosts is not a list".to_owned()).into())
    }
}

fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A plugin's component. Spin wants words of letters and digits with `-` between.
fn component_id(name: &PluginName) -> Result<String, Usage> {
    let id = format!("plugin-{}", name.as_str().replace('_', "-"));
    let is_word = |word: &str| word.starts_with(|c: char| c.is_ascii_lowercase());
    if id.split('-').all(is_word) {
        Ok(id)
    } else {
        Err(Usage(format!(
            "`{name}` cannot name a Spin component: each part between - or _ must begin with a letter"
        )))
    }
}

fn chained(id: &str) -> String {
    format!("http://{id}.spin.internal")
}

fn sandbox() -> anyhow::Result<Sandbox> {
    Ok(Sandbox::new(SandboxOptions {
        compiler: tollgate_server::serve::compiler()?,
        ..SandboxOptions::default()
    })?)
}

fn read(path: &Path) -> Result<Vec<u8>, Usage> {
    std::fs::read(path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))
}

fn add(file: &Path, app: &App, kit: &Path, route: Option<&str>) -> anyhow::Result<Exit> {
    let bytes = read(file)?;
    let report = match sandbox()?.vet(&bytes) {
        Ok(report) => report,
        Err(refusal) => {
            if app.json {
                print_json(
                    &serde_json::json!({ "added": false, "code": refusal.code(), "message": refusal.to_string() }),
                )?;
            } else {
                let bad = super::show::BAD;
                anstream::println!("{bad}refused{bad:#}  {}\n  {refusal}", file.display());
            }
            return Ok(Exit::No);
        }
    };
    let name = &report.manifest.name;
    let id = component_id(name)?;
    let route = route.map(parse_route).transpose()?;
    let mut manifest = Manifest::read(&app.manifest)?;
    let kit_folder = manifest.folder.join(kit);
    let host_calls = read(&kit_folder.join("tollgate_spin_host_calls.wasm"))?;
    let caller = read(&kit_folder.join("tollgate_spin_caller.wasm"))?;
    let enclosed = enclose(
        Kit {
            host_calls: &host_calls,
            caller: &caller,
        },
        &bytes,
    )?;

    // The file first: a manifest never names what is not there.
    let folder = manifest.folder.join(ENCLOSED);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let enclosed_path = folder.join(format!("{name}.wasm"));
    let mut changed = false;
    if std::fs::read(&enclosed_path).ok().as_deref() != Some(enclosed.as_slice()) {
        replace(&enclosed_path, &enclosed)?;
        changed = true;
    }
    let dependency = format!("{ENCLOSED}/{name}.wasm");
    let runner = slashes(&kit.join("tollgate_spin_runner.wasm"));
    let exists = manifest.component(&id).is_some();
    if exists {
        let component = &mut manifest.document["component"][&id];
        set_text(
            &mut component["dependencies"][tollgate_enclose::EXPORT]["path"],
            &dependency,
        );
    }
    let hosts = manifest.outbound_mut()?;
    if !hosts.iter().any(|host| host.as_str() == Some(&chained(&id))) {
        push_as_the_others(hosts, &chained(&id));
    }
    let mut text = manifest.document.to_string();
    if !exists {
        text = format!(
            "{}\n{}",
            text.trim_end_matches('\n'),
            block(&id, &report, &runner, &dependency)
        );
    }
    changed |= manifest.write(&text)?;
    if let Some((tenant, route)) = route {
        changed |= add_route(&manifest, &tenant, &route, &report)?;
        changed |= tollgate_tenants::build(&tenants_folder(&manifest)?, true)?.changed;
    }
    if app.json {
        print_json(&serde_json::json!({
            "added": true, "changed": changed, "component": id, "plugin": name, "digest": report.digest,
        }))?;
    } else {
        let (good, dim) = (super::show::GOOD, super::show::DIM);
        let word = if changed { "added" } else { "unchanged" };
        anstream::println!("{good}{word}{good:#}  {name} as {id}  {dim}{}{dim:#}", report.digest);
    }
    Ok(Exit::Yes)
}

/// A plugin's block, as it is appended.
fn block(id: &str, report: &VetReport, runner: &str, dependency: &str) -> String {
    let manifest = &report.manifest;
    let export = tollgate_enclose::EXPORT;
    format!(
        "\n# {name} {version} by {publisher}.\n[[trigger.http]]\nroute = {{ private = true }}\ncomponent = \"{id}\"\n\n\
         [component.{id}]\nsource = \"{runner}\"\n\n[component.{id}.dependencies]\n\"{export}\" = {{ path = \"{dependency}\" }}\n",
        name = manifest.name,
        version = manifest.version,
        publisher = manifest.publisher,
    )
}

/// Sets a text without touching what stands around it.
fn set_text(item: &mut Item, text: &str) {
    if item.as_str() == Some(text) {
        return;
    }
    let mut value = Value::from(text);
    if let Some(old) = item.as_value() {
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
}

/// Appends to a list in the way in which its last element is written.
fn push_as_the_others(list: &mut Array, text: &str) {
    let mut value = Value::from(text);
    match list.iter().last() {
        Some(last)
            if last
                .decor()
                .prefix()
                .and_then(|prefix| prefix.as_str())
                .is_some_and(|prefix| prefix.contains('\n')) =>
        {
            value.decor_mut().set_prefix("\n    ");
            list.push_formatted(value);
        }
        _ => list.push(value),
    }
}

fn slashes(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/")
}

fn parse_route(text: &str) -> Result<(TenantName, RouteName), Usage> {
    let wrong = |why: String| Usage(format!("--route: {why}"));
    let (tenant, route) = text
        .split_once('/')
        .ok_or_else(|| wrong(format!("`{text}` is not TENANT/ROUTE")))?;
    Ok((
        tenant.parse().map_err(|error| wrong(format!("{error}")))?,
        route.parse().map_err(|error| wrong(format!("{error}")))?,
    ))
}

/// Appends a route to the tenant's file, unless it has one of that name.
fn add_route(
    manifest: &Manifest<'_>,
    tenant: &TenantName,
    route: &RouteName,
    report: &VetReport,
) -> anyhow::Result<bool> {
    let path = tenants_folder(manifest)?.join(format!("{tenant}.toml"));
    let before =
        std::fs::read_to_string(&path).map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
    let document = before
        .parse::<DocumentMut>()
        .map_err(|error| Usage(format!("{} is not TOML: {error}", path.display())))?;
    let existing = document.get("routes").and_then(|routes| routes.get(route.as_str()));
    if let Some(existing) = existing {
        let plugin = existing.get("plugin").and_then(Item::as_str).unwrap_or_default();
        if plugin == report.manifest.name.as_str() {
            return Ok(false);
        }
        return Err(Usage(format!(
            "{}: the route `{route}` already runs `{plugin}`",
            path.display()
        ))
        .into());
    }
    let events = &report.manifest.events;
    let types: Vec<_> = events
        .iter()
        .map(|pattern| format!("{:?}", pattern.to_string()))
        .collect();
    let schema = report.manifest.configuration.as_ref();
    let keys = schema.and_then(|schema| schema.document()["properties"].as_object());
    let config = keys.map_or(String::new(), |keys| {
        let keys: Vec<_> = keys.keys().map(String::as_str).collect();
        format!(
            "# What the plugin's schema knows; `tollgate spin check` holds it against that.\n# config = {{ {} }}\n",
            keys.join(", ")
        )
    });
    let text = format!(
        "{}\n\n[routes.{route}]\ntypes = [{}]\nplugin = \"{}\"\n# Grant what the plugin may ask for; nothing else is recorded.\ngrants = []\n{config}",
        before.trim_end_matches('\n'),
        types.join(", "),
        report.manifest.name,
    );
    replace(&path, text.as_bytes())?;
    Ok(true)
}

fn remove(name: &str, app: &App) -> anyhow::Result<Exit> {
    let name: PluginName = name.parse().map_err(|error| Usage(format!("{error}")))?;
    let id = component_id(&name)?;
    let mut manifest = Manifest::read(&app.manifest)?;
    let there = manifest.component(&id).is_some();
    if let Some(components) = manifest.document.get_mut("component").and_then(Item::as_table_mut) {
        components.remove(&id);
    }
    let triggers = manifest
        .document
        .get_mut("trigger")
        .and_then(|trigger| trigger.get_mut("http"));
    if let Some(triggers) = triggers.and_then(Item::as_array_of_tables_mut) {
        triggers.retain(|table| table.get("component").and_then(Item::as_str) != Some(&id));
    }
    manifest
        .outbound_mut()?
        .retain(|host| host.as_str() != Some(&chained(&id)));
    let text = manifest.document.to_string();
    manifest.write(&text)?;
    let enclosed = manifest.folder.join(ENCLOSED).join(format!("{name}.wasm"));
    if there && enclosed.exists() {
        std::fs::remove_file(&enclosed).with_context(|| format!("cannot remove {}", enclosed.display()))?;
    }
    if app.json {
        print_json(&serde_json::json!({ "removed": there, "component": id }))?;
    } else if there {
        anstream::println!("removed {name}; tenants' routes to it fail until they are changed");
    } else {
        anstream::println!("the app has no plugin {name}");
    }
    Ok(if there { Exit::Yes } else { Exit::No })
}

/// The folder of the tenants' files: the one around the folder that spin.toml mounts.
fn tenants_folder(manifest: &Manifest<'_>) -> Result<PathBuf, Usage> {
    let mounted = mounted_tenants(manifest, INGEST).ok_or_else(|| {
        Usage(format!(
            "component `{INGEST}` mounts nothing at /tenants: add files = [{{ source = \"…/{}\", destination = \"/tenants\" }}]",
            tollgate_tenants::BUILT
        ))
    })?;
    let mounted = manifest.folder.join(mounted);
    match mounted.parent() {
        Some(folder) if mounted.ends_with(tollgate_tenants::BUILT) => Ok(folder.to_owned()),
        _ => Err(Usage(format!(
            "component `{INGEST}` mounts {} at /tenants: mount the folder `{}` in that of the tenants' files",
            mounted.display(),
            tollgate_tenants::BUILT
        ))),
    }
}

/// What a component mounts at /tenants.
fn mounted_tenants<'a>(manifest: &'a Manifest<'_>, component: &str) -> Option<&'a str> {
    let files = manifest.component(component)?.get("files")?.as_array()?;
    files.iter().find_map(|files| {
        let files = files.as_inline_table()?;
        let is_tenants = files.get("destination").and_then(Value::as_str) == Some("/tenants");
        files.get("source").and_then(Value::as_str).filter(|_| is_tenants)
    })
}

fn tenants(app: &App) -> anyhow::Result<Exit> {
    let folder = tenants_folder(&Manifest::read(&app.manifest)?)?;
    let built = match tollgate_tenants::build(&folder, true) {
        Ok(built) => built,
        Err(error) => {
            let problems = match &error {
                BuildError::Tenants(problems) => Some(problems),
                BuildError::File { .. } | BuildError::Encoding { .. } => None,
            };
            if app.json {
                let problems = problems.map(Problems::as_data);
                print_json(&serde_json::json!({ "built": false, "message": error.to_string(), "problems": problems }))?;
            } else {
                let bad = super::show::BAD;
                match problems {
                    Some(problems) => anstream::println!("{}", problems.render(Ink::Coloured)),
                    None => anstream::println!("{bad}refused{bad:#}  {error}"),
                }
            }
            return Ok(Exit::No);
        }
    };
    let sources: usize = built.tenants.values().map(|pieces| pieces.sources.len()).sum();
    if app.json {
        print_json(&serde_json::json!({
            "built": true, "changed": built.changed, "tenants": built.tenants.len(), "sources": sources,
        }))?;
    } else {
        let good = super::show::GOOD;
        let word = if built.changed { "built" } else { "unchanged" };
        anstream::println!(
            "{good}{word}{good:#}  {}, {}",
            super::show::counted(built.tenants.len() as u64, "tenant"),
            super::show::counted(sources as u64, "source")
        );
    }
    Ok(Exit::Yes)
}

/// What `tollgate spin check` found.
#[derive(Default)]
struct Findings {
    problems: Vec<String>,
    /// Digest of each plugin, by component.
    plugins: Vec<(String, String)>,
    /// What those plugins say of their configurations.
    schemas: Schemas,
}

impl Findings {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }
}

fn check(app: &App) -> anyhow::Result<Exit> {
    let manifest = Manifest::read(&app.manifest)?;
    let mut findings = Findings::default();
    for id in [INGEST, WORKER] {
        check_own(&manifest, id, &mut findings);
    }
    let own_call = chained(WORKER);
    let of_ingest = outbound(&manifest, INGEST);
    if !of_ingest.contains(&own_call) {
        findings.problem(format!(
            "`{INGEST}` may not call {own_call}: add it to allowed_outbound_hosts"
        ));
    }
    for host in of_ingest.iter().filter(|host| **host != own_call) {
        findings.problem(format!("`{INGEST}` may call `{host}`: it has no need of that"));
    }
    let outbound = outbound(&manifest, WORKER);
    for host in outbound.iter().filter(|host| host.contains('*')) {
        findings.problem(format!("`{WORKER}` may call `{host}`: name each host"));
    }
    let sandbox = sandbox()?;
    let triggers = manifest.triggers();
    for (id, component) in manifest.components().filter(|(id, _)| ![INGEST, WORKER].contains(id)) {
        check_plugin(&manifest, &sandbox, id, component, &mut findings);
        for (route, _) in triggers.iter().filter(|(route, to)| to == id && route.is_some()) {
            let route = route.as_deref().unwrap_or_default();
            findings.problem(format!(
                "`{id}` stands on the public route `{route}`: write route = {{ private = true }}"
            ));
        }
        if !triggers.iter().any(|(_, to)| to == id) {
            findings.problem(format!(
                "`{id}` has no trigger, so that nobody reaches it: add one with route = {{ private = true }}"
            ));
        }
    }
    check_tenants(&manifest, &outbound, &mut findings)?;
    let good = findings.problems.is_empty();
    if app.json {
        let plugins: Vec<_> = findings
            .plugins
            .iter()
            .map(|(component, digest)| serde_json::json!({ "component": component, "digest": digest }))
            .collect();
        print_json(&serde_json::json!({ "ok": good, "problems": findings.problems, "plugins": plugins }))?;
    } else {
        let (ok, bad, dim) = (super::show::GOOD, super::show::BAD, super::show::DIM);
        if good {
            anstream::println!("{ok}ok{ok:#}  {}", app.manifest.display());
        }
        for problem in &findings.problems {
            anstream::println!("{bad}problem{bad:#}  {problem}");
        }
        for (component, digest) in &findings.plugins {
            anstream::println!("  {component}  {dim}{digest}{dim:#}");
        }
    }
    Ok(if good { Exit::Yes } else { Exit::No })
}

/// The hosts that a component may call.
fn outbound(manifest: &Manifest<'_>, id: &str) -> Vec<String> {
    let list = manifest
        .component(id)
        .and_then(|component| component.get("allowed_outbound_hosts"))
        .and_then(Item::as_array);
    let hosts = list.into_iter().flat_map(Array::iter).filter_map(Value::as_str);
    hosts.map(str::to_owned).collect()
}

/// One of the two components of ours: its database, its tenants, its imports.
fn check_own(manifest: &Manifest<'_>, id: &str, findings: &mut Findings) {
    let Some(component) = manifest.component(id) else {
        return findings.problem(format!("there is no component `{id}`"));
    };
    let databases = component.get("sqlite_databases").and_then(Item::as_array);
    let mut databases = databases.into_iter().flat_map(Array::iter);
    if !databases.any(|name| name.as_str() == Some("default")) {
        findings.problem(format!(
            "component `{id}` has no database: add sqlite_databases = [\"default\"]"
        ));
    }
    let mounted = mounted_tenants(manifest, INGEST);
    if mounted_tenants(manifest, id) != mounted {
        findings.problem(format!("component `{id}` mounts other tenants than `{INGEST}`"));
    }
    check_source(manifest, id, component, true, findings);
}

/// The tenants' files themselves, and what they need of spin.toml: variables, plugins, hosts.
fn check_tenants(manifest: &Manifest<'_>, outbound: &[String], findings: &mut Findings) -> anyhow::Result<()> {
    let folder = tenants_folder(manifest)?;
    let schemas = std::mem::take(&mut findings.schemas);
    // As Spin's own environment provider has it.
    let variable = |name: &str| std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).ok();
    let built = tollgate_tenants::build(&folder, false)
        .map(|built| (built, tollgate_tenants::check(&folder, &variable, &schemas).err()));
    let (built, problems) = built.unwrap_or_else(|error| (Built::default(), Some(error)));
    match problems {
        None => {}
        Some(BuildError::Tenants(problems)) => {
            for problem in problems.as_data() {
                let line = problem.line.map_or(String::new(), |line| format!(":{line}"));
                findings.problem(format!(
                    "{}{line}: {} ({})",
                    problem.file, problem.message, problem.help
                ));
            }
        }
        Some(error) => findings.problem(error.to_string()),
    }
    if built.changed {
        findings.problem(format!(
            "{}: the tenants' files were edited after they were built: tollgate spin tenants",
            folder.display()
        ));
    }
    let variables = manifest.document.get("variables").and_then(Item::as_table);
    let given = |id: &str, name: &str| {
        let own = manifest.component(id).and_then(|component| component.get("variables"));
        let template = own.and_then(|own| own.get(name)).and_then(Item::as_str);
        template.is_some_and(|template| template.replace(' ', "") == format!("{{{{{name}}}}}"))
    };
    let needs = |id: &str, name: &str| match id {
        INGEST => name == "sweep_token" || built.intake_variables.contains(name),
        _ => ["sweep_token", "operator_token"].contains(&name) || built.work_variables.contains(name),
    };
    if has_no_sweep_token(variables) {
        findings.problem(
            "`sweep_token` is empty: no worker would ever be woken, and no timer let in: set SPIN_VARIABLE_SWEEP_TOKEN to a long \
             random text, and let [variables] say required = true instead of a default"
                .to_owned(),
        );
    }
    let tokens = ["operator_token", "sweep_token"].map(str::to_owned);
    let named = built.intake_variables.iter().chain(&built.work_variables);
    for name in named.chain(&tokens).collect::<BTreeSet<_>>() {
        let declared = variables.and_then(|variables| variables.get(name));
        if declared
            .and_then(|declared| declared.get("secret"))
            .and_then(Item::as_bool)
            != Some(true)
        {
            findings.problem(format!(
                "[variables] has no secret `{name}`: add {name} = {{ required = true, secret = true }}"
            ));
        }
        for id in [INGEST, WORKER]
            .into_iter()
            .filter(|id| needs(id, name) && !given(id, name))
        {
            findings.problem(format!(
                "component `{id}` is not given `{name}`: add {name} = \"{{{{ {name} }}}}\" to its variables"
            ));
        }
    }
    for (tenant, pieces) in &built.tenants {
        for route in pieces.work.routes.iter().filter(|route| route.forward.is_none()) {
            let id = match component_id(&route.plugin) {
                Ok(id) => id,
                Err(error) => {
                    findings.problem(format!("tenant {tenant}, route {}: {error}", route.name));
                    continue;
                }
            };
            if manifest.component(&id).is_none() {
                findings.problem(format!(
                    "tenant {tenant}, route {}: the app has no plugin `{}`: tollgate spin add",
                    route.name, route.plugin
                ));
            } else if !outbound.contains(&chained(&id)) {
                findings.problem(format!(
                    "`{WORKER}` may not call {}: add it to allowed_outbound_hosts",
                    chained(&id)
                ));
            }
        }
        let renamed = |name| pieces.work.renamed.iter().any(|(old, _)| old == name);
        for (name, destination) in pieces.work.destinations.iter().filter(|(name, _)| !renamed(*name)) {
            let Ok(url) = url::Url::parse(&destination.url) else {
                continue;
            };
            let origin = url.origin().ascii_serialization();
            if !outbound.contains(&origin) {
                findings.problem(format!(
                    "tenant {tenant}, destination {name}: `{WORKER}` may not call {origin}: add it to allowed_outbound_hosts"
                ));
            }
        }
    }
    Ok(())
}

/// Whether the app would start with an empty sweep token, as far as that can be seen here. One that is required and not set here
/// may be set where the app runs, which does not start without it.
fn has_no_sweep_token(variables: Option<&Table>) -> bool {
    let default = variables
        .and_then(|variables| variables.get("sweep_token"))
        .and_then(|declared| declared.get("default"))
        .and_then(Item::as_str);
    match std::env::var("SPIN_VARIABLE_SWEEP_TOKEN") {
        Ok(token) => token.trim().is_empty(),
        Err(_) => default.is_some_and(|default| default.trim().is_empty()),
    }
}

/// A component that is not ours to trust: private, granted nothing, and a plugin enclosed as it was vetted.
fn check_plugin(manifest: &Manifest<'_>, sandbox: &Sandbox, id: &str, component: &Table, findings: &mut Findings) {
    for grant in [
        "ai_models",
        "allowed_http_hosts",
        "allowed_outbound_hosts",
        "dependencies_inherit_configuration",
        "environment",
        "files",
        "key_value_stores",
        "sqlite_databases",
        "variables",
    ] {
        if component.contains_key(grant) {
            findings.problem(format!("`{id}` has `{grant}`: a plugin is granted nothing"));
        }
    }
    check_source(manifest, id, component, false, findings);
    let dependencies = component.get("dependencies").and_then(Item::as_table);
    let path = dependencies
        .and_then(|dependencies| dependencies.get(tollgate_enclose::EXPORT))
        .and_then(|dependency| dependency.get("path"))
        .and_then(Item::as_str);
    let Some(path) = path else {
        findings.problem(format!("`{id}` runs no plugin: tollgate spin add writes its block"));
        return;
    };
    let enclosed = match std::fs::read(manifest.folder.join(path)) {
        Ok(bytes) => bytes,
        Err(error) => return findings.problem(format!("`{id}`: {path} cannot be read: {error}; build first")),
    };
    match tollgate_sandbox::imports(&enclosed) {
        Ok(imports) if imports.is_empty() => {}
        Ok(imports) => findings.problem(format!(
            "`{id}`: {path} imports {}: it is not enclosed",
            imports.join(", ")
        )),
        Err(refusal) => findings.problem(format!("`{id}`: {path}: {refusal}")),
    }
    match plugin_of(&enclosed) {
        Ok(plugin) => {
            if let Some(problem) = other_kit(manifest, component, plugin, &enclosed) {
                findings.problem(format!("`{id}`: {path}: {problem}"));
            }
            match sandbox.vet(plugin) {
                Ok(report) => {
                    findings.plugins.push((id.to_owned(), report.digest.to_string()));
                    let manifest = report.manifest;
                    let schema = VersionSchema::of(manifest.version, manifest.configuration);
                    findings.schemas.files.insert(manifest.name, schema);
                }
                Err(refusal) => findings.problem(format!("`{id}`: {path}: {refusal}")),
            }
        }
        Err(error) => findings.problem(format!("`{id}`: {path}: {error}")),
    }
}

/// What is wrong with the host calls and the caller around a plugin: they must be those that were built with the runner.
fn other_kit(manifest: &Manifest<'_>, component: &Table, plugin: &[u8], enclosed: &[u8]) -> Option<String> {
    let runner = component.get("source").and_then(Item::as_str)?;
    let folder = manifest.folder.join(runner).parent()?.to_owned();
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|error| {
            format!(
                "{} cannot be read, so nothing says whether it was enclosed with it: {error}; build first",
                path.display()
            )
        })
    };
    let (host_calls, caller) = match (read("tollgate_spin_host_calls.wasm"), read("tollgate_spin_caller.wasm")) {
        (Ok(host_calls), Ok(caller)) => (host_calls, caller),
        (Err(problem), _) | (_, Err(problem)) => return Some(problem),
    };
    let kit = Kit {
        host_calls: &host_calls,
        caller: &caller,
    };
    match enclose(kit, plugin) {
        Ok(again) if again == enclosed => None,
        Ok(_) => Some(
            "it was enclosed with other host calls or another caller than stand beside the runner: add it again"
                .to_owned(),
        ),
        Err(error) => Some(error.to_string()),
    }
}

/// What our own components import is what this version of them is known to.
fn check_source(manifest: &Manifest<'_>, id: &str, component: &Table, is_ours: bool, findings: &mut Findings) {
    let Some(source) = component.get("source").and_then(Item::as_str) else {
        return findings.problem(format!("`{id}` has no source in a file"));
    };
    let bytes = match std::fs::read(manifest.folder.join(source)) {
        Ok(bytes) => bytes,
        Err(error) => return findings.problem(format!("`{id}`: {source} cannot be read: {error}; build first")),
    };
    let imports = match tollgate_sandbox::imports(&bytes) {
        Ok(imports) => imports,
        Err(refusal) => return findings.problem(format!("`{id}`: {source}: {refusal}")),
    };
    let own: &[&str] = if is_ours { &OWN_IMPORTS } else { &[] };
    for import in imports {
        if !IMPORTS.iter().chain(own).any(|known| import.starts_with(known)) {
            findings.problem(format!("`{id}`: {source} imports {import}, which it has no need of"));
        }
    }
}
