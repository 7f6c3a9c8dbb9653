//! Which store's files a command reads: those that the configuration names, or any.

use std::path::PathBuf;

use tollgate_server::config;

#[derive(clap::Args)]
pub(super) struct StoreFiles {
    /// The operator's configuration file, which names the store
    #[arg(long, short, env = "TOLLGATE_CONFIG", default_value = "tollgate.toml")]
    config: PathBuf,
    /// The store's file, for example a backup's; then no configuration is read
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl StoreFiles {
    /// The database's path.
    ///
    /// # Errors
    /// When the configuration is asked for it and cannot be read.
    pub(super) fn database(&self) -> anyhow::Result<PathBuf> {
        match &self.store {
            Some(path) => Ok(path.clone()),
            None => {
                let store = config::load(&self.config)?.store;
                if store.url.is_some() {
                    anyhow::bail!(
                        "the store is in PostgreSQL, and this command is about a store's files: PostgreSQL's own tools back it up and copy it, \
                         see docs/many-hosts.md"
                    );
                }
                Ok(store.path)
            }
        }
    }
}
