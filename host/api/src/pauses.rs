//! Routes and destinations that people paused.

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{DestinationName, RouteName, TenantName};
use tollgate_core::time::UnixMillis;

/// What of a tenant's may be paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A route: no job of it begins.
    Route(RouteName),
    /// A destination: nothing is sent there.
    Destination(DestinationName),
}

impl Place {
    /// `route` or `destination`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Route(_) => "route",
            Self::Destination(_) => "destination",
        }
    }

    /// The name of either.
    pub fn name(&self) -> &str {
        match self {
            Self::Route(route) => route.as_str(),
            Self::Destination(destination) => destination.as_str(),
        }
    }
}

/// A route or a destination that waits for a person (promise P10). Events for it are taken in as ever, and what they lead to waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Pause {
    /// Whose it is.
    pub tenant: TenantName,
    /// What is paused.
    #[serde(flatten)]
    pub place: Place,
    /// Since when; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub at: UnixMillis,
    /// Who paused it.
    pub actor: String,
    /// Why.
    pub why: String,
}

/// A tenant's destination.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct DestinationPath {
    /// The tenant's name.
    pub tenant: TenantName,
    /// The destination's name.
    pub destination: DestinationName,
}
