//! What is set aside, and people's decisions about it (promise T4).

use serde::{Deserialize, Serialize};
use tollgate_core::ids::{DestinationName, ReceiptId, RouteName, SourceName, TenantName};
use tollgate_core::review::{Reviewed, Target};
use tollgate_core::time::UnixMillis;

use crate::check::{parse, rows, since};

/// Why something has not the effect that it would have had: what a list of set-aside work is of. In the order of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SetAsideKind {
    /// A receipt that waits for a person: its status is not mapped, or contradicts its subject's.
    HeldReceipt,
    /// A job that its plugin held.
    HeldJob,
    /// A delivery with the id of a receipt and other bytes.
    Conflict,
    /// A delivery with the signed message of a receipt under another id.
    SuspectedReplay,
    /// A proposal whose operation is recorded with other content.
    LedgerConflict,
    /// A receipt whose subject was already further. Nobody is asked.
    Superseded,
    /// An accepted receipt that no route took. Nobody is asked.
    NoRoute,
}

impl SetAsideKind {
    /// Every kind, in the order of lists.
    pub const ALL: [Self; 7] = [
        Self::HeldReceipt,
        Self::HeldJob,
        Self::Conflict,
        Self::SuspectedReplay,
        Self::LedgerConflict,
        Self::Superseded,
        Self::NoRoute,
    ];

    /// The word in JSON, in metrics and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeldReceipt => "held-receipt",
            Self::HeldJob => "held-job",
            Self::Conflict => "conflict",
            Self::SuspectedReplay => "suspected-replay",
            Self::LedgerConflict => "ledger-conflict",
            Self::Superseded => "superseded",
            Self::NoRoute => "no-route",
        }
    }

    /// Whether it waits for a person's decision.
    pub const fn waits(self) -> bool {
        match self {
            Self::HeldReceipt | Self::HeldJob | Self::Conflict | Self::SuspectedReplay | Self::LedgerConflict => true,
            Self::Superseded | Self::NoRoute => false,
        }
    }
}

impl std::str::FromStr for SetAsideKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("`{text}` is no kind of set-aside work; there are: {}", known.join(", "))
        })
    }
}

/// Narrows the list of what is set aside. Absent fields take everything.
#[derive(Debug, Clone, Default)]
pub struct SetAsideFilter {
    /// None: the kinds that wait for a person.
    pub kind: Option<SetAsideKind>,
    /// Only those of this tenant.
    pub tenant: Option<TenantName>,
    /// Only those whose event came in at this source.
    pub source: Option<SourceName>,
    /// Only held jobs of this route, and conflicts with the ledger that its jobs came into.
    pub route: Option<RouteName>,
    /// Only what was set aside at or after this instant.
    pub since: Option<UnixMillis>,
    /// Only those whose reason contains this text.
    pub reason: Option<String>,
    /// Those on which somebody decided as well.
    pub with_reviewed: bool,
    /// Only those behind this one in the list: it goes on where the last one ended.
    pub after: Option<Target>,
    /// The most rows that are returned.
    pub rows_max: usize,
}

/// A filter on what is set aside, as query parameters and command line flags alike.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HeldQuery {
    /// Only this kind: held-receipt, held-job, conflict, suspected-replay, ledger-conflict, superseded or no-route; without, those that
    /// wait for a person: all but the last two
    #[cfg_attr(feature = "cli", arg(long))]
    pub kind: Option<String>,
    /// Only this tenant's
    #[cfg_attr(feature = "cli", arg(long))]
    pub tenant: Option<String>,
    /// Only those that came in at this source
    #[cfg_attr(feature = "cli", arg(long))]
    pub source: Option<String>,
    /// Only held jobs and conflicts with the ledger of this route
    #[cfg_attr(feature = "cli", arg(long))]
    pub route: Option<String>,
    /// Only what was set aside at or after this instant (RFC 3339)
    #[cfg_attr(feature = "cli", arg(long))]
    pub since: Option<String>,
    /// Only those whose reason contains this text
    #[cfg_attr(feature = "cli", arg(long))]
    pub reason: Option<String>,
    /// Those already reviewed as well
    #[cfg_attr(feature = "cli", arg(long))]
    pub with_reviewed: bool,
    /// Go on behind this one, the last of the list before
    #[cfg_attr(feature = "cli", arg(long))]
    pub after: Option<String>,
    /// At most this many; of each kind the newest first
    #[cfg_attr(feature = "cli", arg(long))]
    pub limit: Option<u64>,
}

impl HeldQuery {
    /// Checks the filter.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<SetAsideFilter, String> {
        Ok(SetAsideFilter {
            kind: parse("kind", self.kind)?,
            tenant: parse("tenant", self.tenant)?,
            source: parse("source", self.source)?,
            route: parse("route", self.route)?,
            since: since(self.since)?,
            reason: self.reason,
            with_reviewed: self.with_reviewed,
            after: parse("after", self.after)?,
            rows_max: rows(self.limit),
        })
    }
}

/// Whose set-aside work is counted.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HeldCountsQuery {
    /// Only this tenant's; without it all tenants'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

impl HeldCountsQuery {
    /// Checks the question.
    ///
    /// # Errors
    /// In words, when a field is not what its name says.
    pub fn checked(self) -> Result<Option<TenantName>, String> {
        parse("tenant", self.tenant)
    }
}

/// Something that is set aside, and what was decided about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SetAside {
    /// Why it is set aside.
    pub kind: SetAsideKind,
    /// What a review names, and where a list goes on: the receipt, the job, the delivery or the action.
    pub id: String,
    /// The receipt of the event.
    pub receipt: ReceiptId,
    /// Whose it is.
    pub tenant: TenantName,
    /// Where the event came in.
    pub source: SourceName,
    /// The route of a held job or of a conflict with the ledger; null for other kinds.
    pub route: Option<RouteName>,
    /// The provider's id of the event.
    pub event_id: String,
    /// The provider's type of the event.
    pub event_type: String,
    /// What the event is about, where that is known.
    pub subject: Option<String>,
    /// The family of the event's lifecycle, where it has one.
    pub family: Option<String>,
    /// The provider's label, or a mapped status.
    pub status: Option<String>,
    /// When the event came; of a conflict, when this delivery did.
    pub received_at: String,
    /// Since when it is set aside.
    pub since: String,
    /// Why, in words.
    pub reason: String,
    /// What a person decided, if somebody did.
    pub review: Option<ReviewView>,
}

/// How much is set aside of one kind, at one place: a source, or for held jobs and conflicts with the ledger a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct SetAsideCount {
    /// Which kind is counted.
    pub kind: SetAsideKind,
    /// Whose they are.
    pub tenant: TenantName,
    /// The source where they came in; null where the place is a route.
    pub source: Option<SourceName>,
    /// The route; null where the place is a source.
    pub route: Option<RouteName>,
    /// How many there are.
    pub count: u64,
    /// Whether that is only as far as a count goes: of each kind it looks at the newest 100 000, of held jobs and conflicts at as many of each
    /// place. Then there are at least so many, and the oldest is that old at least.
    #[serde(default)]
    pub at_least: bool,
    /// Since when the oldest of them is; as JSON, RFC 3339.
    #[serde(with = "crate::as_text")]
    #[cfg_attr(feature = "document", schemars(with = "String"))]
    pub oldest_at: UnixMillis,
}

/// A decision as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ReviewView {
    /// When it was decided (RFC 3339).
    pub at: String,
    /// Who decided.
    pub actor: String,
    /// The reason, where one was given.
    pub why: Option<String>,
    /// What it became.
    #[serde(flatten)]
    pub reviewed: Reviewed,
    /// The version of the lifecycle that judged the status, where one was given.
    pub lifecycle_version: Option<u32>,
}

/// What a decision did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct ReviewReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The receipt that it is about, or that the job or delivery belongs to.
    pub receipt: ReceiptId,
    /// What it became.
    #[serde(flatten)]
    pub reviewed: Reviewed,
    /// The routes whose jobs are made.
    pub routes: Vec<RouteName>,
    /// Where a proposal is sent that is recorded now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationName>,
}
