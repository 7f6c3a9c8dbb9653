//! What a host did lately, in steps of time: for charts.

use serde::{Deserialize, Serialize};
use tollgate_core::time::UnixMillis;

/// The last hour of a host, as far as it has run for so long. Counts are of this host; what waits is of its store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Lately {
    /// How long a step is, in seconds.
    pub step_s: u64,
    /// The steps, the oldest first.
    pub steps: Vec<LatelyStep>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct LatelyStep {
    /// When it ended; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub at: UnixMillis,
    /// Events that were kept and are new.
    pub kept: u64,
    /// Events that came again, whatever they had in them.
    pub again: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Jobs that waited at its end; null where the store did not say.
    pub jobs_waiting: Option<u64>,
    /// Deliveries that waited at its end; null where the store did not say.
    pub deliveries_waiting: Option<u64>,
    /// How long the oldest of those has waited, in seconds; null where none does, or the store did not say.
    pub oldest_s: Option<u64>,
    /// What runs of jobs came to.
    pub jobs_ended: Ended,
    /// What attempts to deliver were answered.
    pub answers: Answers,
    /// How long the commits took that acknowledgements waited for.
    pub admit: Took,
    /// How long runs of plugins took.
    pub run: Took,
    /// How long attempts to deliver took.
    pub deliver: Took,
}

/// What things came to that ended in one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Ended {
    /// They are done, with their actions recorded.
    pub done: u64,
    /// They failed, and are tried again.
    pub again: u64,
    /// They wait for a person.
    pub held: u64,
    /// They were given up.
    pub dead: u64,
}

/// What was answered in one step, by HTTP or by SMTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Answers {
    /// A status from 200 to 299: taken.
    pub taken: u64,
    /// A status from 300 to 499.
    pub refused: u64,
    /// A status from 500 to 599.
    pub failed: u64,
    /// No answer with a status.
    pub none: u64,
}

/// How long things took that ended in one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct Took {
    /// How many there were.
    pub count: u64,
    /// Half of them took no longer, in microseconds, as near as the buckets of the histogram say; null where there were none.
    pub p50_us: Option<u64>,
    /// Of twenty, nineteen took no longer, likewise.
    pub p95_us: Option<u64>,
}
