//! `spin.toml`, version 2, as far as this repository's app uses it. An unknown key is an error: the stand-in would ignore what
//! Spin does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// A manifest with its variables resolved and its paths made whole.
pub struct Manifest {
    /// In the order of the file.
    pub routes: Vec<Route>,
    pub components: BTreeMap<String, Component>,
}

pub struct Route {
    /// Absent for a private one.
    pub pattern: Option<String>,
    pub component: String,
}

pub struct Component {
    pub source: PathBuf,
    /// By import name.
    pub dependencies: BTreeMap<String, PathBuf>,
    pub outbound: Vec<String>,
    pub databases: Vec<String>,
    /// Folder on this machine, folder in the guest.
    pub files: Vec<(PathBuf, String)>,
    pub variables: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    spin_manifest_version: u32,
    #[serde(rename = "application")]
    _application: toml::Table,
    #[serde(default)]
    variables: BTreeMap<String, RawVariable>,
    trigger: RawTriggers,
    component: BTreeMap<String, RawComponent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default, rename = "secret")]
    _secret: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTriggers {
    http: Vec<RawTrigger>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrigger {
    route: RawRoute,
    component: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawRoute {
    Public(String),
    Private { private: bool },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawComponent {
    source: PathBuf,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    dependencies: BTreeMap<String, RawDependency>,
    #[serde(default)]
    dependencies_inherit_configuration: bool,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    sqlite_databases: Vec<String>,
    #[serde(default)]
    files: Vec<RawFiles>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default, rename = "build")]
    _build: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDependency {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFiles {
    source: PathBuf,
    destination: String,
}

impl Manifest {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let raw: Raw = toml::from_str(&text).with_context(|| format!("{} is no manifest", path.display()))?;
        if raw.spin_manifest_version != 2 {
            bail!("manifest version {}; the stand-in knows 2", raw.spin_manifest_version);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut values = BTreeMap::new();
        for (name, variable) in raw.variables {
            // As Spin's own environment provider names them.
            let given = std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).ok();
            match given.or(variable.default) {
                Some(value) => {
                    values.insert(name, value);
                }
                None if variable.required => bail!("the variable {name} has no value"),
                None => {}
            }
        }
        let components = raw
            .component
            .into_iter()
            .map(|(id, component)| Ok((id.clone(), component.resolve(folder, &values).context(id)?)))
            .collect::<Result<_>>()?;
        let routes = raw
            .trigger
            .http
            .into_iter()
            .map(|trigger| {
                let pattern = match trigger.route {
                    RawRoute::Public(pattern) => Some(pattern),
                    RawRoute::Private { private: true } => None,
                    RawRoute::Private { private: false } => bail!("a route is a pattern or private"),
                };
                Ok(Route {
                    pattern,
                    component: trigger.component,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { routes, components })
    }
}

impl RawComponent {
    fn resolve(self, folder: &Path, values: &BTreeMap<String, String>) -> Result<Component> {
        if self.dependencies_inherit_configuration {
            bail!("the stand-in lets no dependency inherit");
        }
        let variables = self
            .variables
            .into_iter()
            .map(|(name, template)| Ok((name, expand(&template, values)?)))
            .collect::<Result<_>>()?;
        let outbound = self
            .allowed_outbound_hosts
            .iter()
            .map(|template| expand(template, values))
            .collect::<Result<_>>()?;
        Ok(Component {
            source: folder.join(self.source),
            dependencies: self
                .dependencies
                .into_iter()
                .map(|(import, dependency)| (import, folder.join(dependency.path)))
                .collect(),
            outbound,
            databases: self.sqlite_databases,
            files: self
                .files
                .into_iter()
                .map(|files| (folder.join(files.source), files.destination))
                .collect(),
            variables,
        })
    }
}

/// Replaces `{{ name }}` by the variable's value.
fn expand(template: &str, values: &BTreeMap<String, String>) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("{{ without }}")?;
        let name = name.trim();
        text.push_str(before);
        text.push_str(
            values
                .get(name)
                .with_context(|| format!("the variable {name} has no value"))?,
        );
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}
