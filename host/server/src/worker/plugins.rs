//! The plugins that this host offers, loaded and pinned.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use tollgate_core::ids::{PluginDigest, PluginName};
use tollgate_sandbox::{Plugin, Sandbox};

use crate::config::PluginConfig;

/// Loaded plugins by name.
#[derive(Default)]
pub(crate) struct PluginSet {
    plugins: BTreeMap<PluginName, Plugin>,
}

impl PluginSet {
    /// Loads every configured plugin.
    ///
    /// # Errors
    /// The first plugin that cannot be read, is refused by the sandbox, or has another digest than the configuration pins.
    pub(crate) fn load(sandbox: &Sandbox, configured: &BTreeMap<PluginName, PluginConfig>) -> anyhow::Result<Self> {
        let mut plugins = BTreeMap::new();
        for (name, config) in configured {
            let plugin =
                load_one(sandbox, &config.path, config.digest.as_ref()).with_context(|| format!("plugin `{name}`"))?;
            tracing::info!(plugin = %name, digest = %plugin.digest(), "plugin loaded");
            plugins.insert(name.clone(), plugin);
        }
        Ok(Self { plugins })
    }

    /// # Errors
    /// In words, when there is no such plugin.
    pub(crate) fn get(&self, name: &PluginName) -> Result<&Plugin, String> {
        self.plugins
            .get(name)
            .ok_or_else(|| format!("no plugin `{name}` is configured in tollgate.toml"))
    }
}

fn load_one(sandbox: &Sandbox, path: &Path, pinned: Option<&PluginDigest>) -> anyhow::Result<Plugin> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let plugin = sandbox
        .load(&bytes)
        .with_context(|| format!("{} was refused", path.display()))?;
    if let Some(pinned) = pinned
        && plugin.digest() != *pinned
    {
        anyhow::bail!(
            "{} has digest {}, but the configuration pins {pinned}",
            path.display(),
            plugin.digest()
        );
    }
    Ok(plugin)
}
