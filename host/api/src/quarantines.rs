//! Versions in quarantine.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{PluginDigest, PluginName, RouteName, TenantName};
use tollgate_core::time::UnixMillis;

/// A version that is not run on a route, because it failed there again and again (promise P6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Quarantine {
    /// Whose route it is.
    pub tenant: TenantName,
    /// The route that does not run it.
    pub route: RouteName,
    /// The plugin.
    pub plugin: PluginName,
    /// The version.
    pub digest: PluginDigest,
    /// Since when it is not run; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub at: UnixMillis,
    /// How many runs in a row had ended in a fault of the plugin's.
    pub faults: u32,
    /// How the last of them ended: the fault, and after a colon what the plugin said, which may be of an event.
    pub reason: String,
}

impl Quarantine {
    /// Why a job whose plugin is in quarantine is given up; `mend` says how its version is let run again.
    pub fn why_dead(&self, mend: &str) -> String {
        format!(
            "{} is in quarantine on this route since {}, after {} faults in a row, the last {}; {mend}, and replay",
            self.digest, self.at, self.faults, self.reason
        )
    }

    /// How the last run ended, without anything of what it was about.
    pub fn fault(&self) -> &str {
        self.reason.split_once(": ").map_or(&self.reason, |(fault, _)| fault)
    }
}
