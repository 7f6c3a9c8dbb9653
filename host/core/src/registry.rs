//! The registry's rules: how a plugin's version comes to run on a route, and how it stops.
//!
//! A *version* is one component, named by its digest. It is vetted when it is uploaded, published by a person, and retired when it
//! must never run again ([`Standing`]). A *binding* says which version a route runs ([`Binding`]): the active one, perhaps a canary
//! that runs in its stead for a share of subjects, perhaps a shadow that runs beside it without effect. A binding names digests and
//! never tags, so what runs changes only by a [`Change`], and each change is one value that replaces another.
//!
//! Nothing here knows who may ask for a change, or when; it says what each change makes of a binding, and which are refused.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::ids::{PluginDigest, PluginName, ReceiptId, RouteName, Subject, TenantName};

/// Digests that a binding remembers for going back; the oldest go first.
pub const PREVIOUS_MAX: usize = 16;

/// How far a version has come in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Uploaded and vetted; bound to nothing yet.
    Vetted,
    /// May be bound: its name and version mean this digest for ever.
    Published,
    /// Never bound again. Its bytes are kept, for the runs that it made.
    Retired,
}

/// What a person does to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Makes it fit to be bound.
    Publish,
    /// Keeps it from being bound, for ever.
    Retire,
}

impl Standing {
    /// The standing after a step.
    ///
    /// # Errors
    /// When the step cannot be made from this standing.
    pub fn next(self, step: Step) -> Result<Self, Refused> {
        match (self, step) {
            (Self::Vetted, Step::Publish) => Ok(Self::Published),
            (Self::Vetted | Self::Published, Step::Retire) => Ok(Self::Retired),
            (Self::Published, Step::Publish) => Err(Refused::AlreadyPublished),
            (Self::Retired, Step::Publish) => Err(Refused::Retired),
            (Self::Retired, Step::Retire) => Err(Refused::AlreadyRetired),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vetted => "vetted",
            Self::Published => "published",
            Self::Retired => "retired",
        })
    }
}

/// The part of a route's subjects that a canary serves, in thousandths: 1 to 999. None of them is no canary, all is a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Share(u16);

impl Share {
    /// A share of so many thousandths.
    ///
    /// # Errors
    /// When it is not 1 to 999.
    pub fn per_mille(thousandths: u16) -> Result<Self, Refused> {
        if (1..=999).contains(&thousandths) {
            Ok(Self(thousandths))
        } else {
            Err(Refused::Share { thousandths })
        }
    }

    /// The number of thousandths, 1 to 999.
    pub fn as_per_mille(self) -> u16 {
        self.0
    }
}
impl TryFrom<u16> for Share {
    type Error = Refused;
    fn try_from(thousandths: u16) -> Result<Self, Refused> {
        Self::per_mille(thousandths)
    }
}
impl From<Share> for u16 {
    fn from(share: Share) -> Self {
        share.0
    }
}
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

/// A version that runs in the active one's stead for a share of subjects, with all its effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Canary {
    /// The version that serves those subjects.
    pub digest: PluginDigest,
    /// In thousandths.
    #[cfg_attr(feature = "schema", schemars(with = "u16"))]
    pub share: Share,
}

/// Which versions of one plugin a route runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Binding {
    /// The name under which the plugin keeps its state. Versions of a binding have it in common.
    pub plugin: PluginName,
    /// The version that runs with effect for every subject that no canary serves.
    pub active: PluginDigest,
    /// The version that serves a share of the subjects, if one does.
    pub canary: Option<Canary>,
    /// Runs after the active one on the same input; what it proposes is compared and dropped.
    pub shadow: Option<PluginDigest>,
    /// The versions that were active before, the newest last; a rollback goes back to it.
    pub previous: Vec<PluginDigest>,
    /// Whether a person bound it. A binding that nobody touched follows the configuration file.
    pub by_hand: bool,
}

/// What a person does to a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Runs a version beside the active one.
    Shadow(PluginDigest),
    /// Ends the shadow.
    EndShadow,
    /// Gives a version a share of the subjects; also changes the share.
    Canary(Canary),
    /// Ends the canary; its subjects go back to the active version.
    EndCanary,
    /// Makes a version the active one. It stops being the route's canary or shadow.
    Promote(PluginDigest),
    /// Takes the last step forward back: ends the canary if there is one, or else makes the active version of before active again.
    /// A shadow ends as well.
    Rollback,
    /// Gives the route back to the configuration file, which names this digest.
    FollowFile(PluginDigest),
}

impl Change {
    /// The version that the change brings in, if it brings one in.
    pub fn brings(&self) -> Option<PluginDigest> {
        match self {
            Self::Shadow(digest) | Self::Promote(digest) => Some(*digest),
            Self::Canary(canary) => Some(canary.digest),
            Self::EndShadow | Self::EndCanary | Self::Rollback | Self::FollowFile(_) => None,
        }
    }

    /// The change as the history names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shadow(_) => "shadow",
            Self::EndShadow => "shadow ended",
            Self::Canary(_) => "canary",
            Self::EndCanary => "canary ended",
            Self::Promote(_) => "promoted",
            Self::Rollback => "rolled back",
            Self::FollowFile(_) => "follows the file",
        }
    }
}

/// Why a change was refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A version is published once.
    #[error("the version is published already")]
    AlreadyPublished,
    /// A version is retired once.
    #[error("the version is retired already")]
    AlreadyRetired,
    /// A retired version stays so.
    #[error("the version is retired, which is for ever; upload another one")]
    Retired,
    /// Only a published version may be bound.
    #[error("the version is not published yet; publish it first")]
    NotPublished,
    /// The name and version already mean another component.
    #[error("{name} {version} is published already, with the digest {digest}; give the new component another version")]
    VersionTaken {
        /// The plugin's name.
        name: PluginName,
        /// The author's version.
        version: String,
        /// The component that they mean.
        digest: PluginDigest,
    },
    /// A version that runs somewhere cannot be retired.
    #[error("the version runs on {}; bind them to another one first", routes.join(", "))]
    InUse {
        /// The routes that it runs on.
        routes: Vec<String>,
    },
    /// A binding keeps to versions of one plugin.
    #[error(
        "the version is of the plugin `{found}`, but the route runs `{expected}`: its state is kept under that name"
    )]
    OtherPlugin {
        /// The plugin that the version is of.
        found: PluginName,
        /// The plugin that the route runs.
        expected: PluginName,
    },
    /// The share of a canary is out of range.
    #[error("a canary's share is 1 to 999 thousandths, not {thousandths}; promote a version that is to serve all")]
    Share {
        /// What was asked for.
        thousandths: u16,
    },
    /// The change would change nothing.
    #[error("the version is active on this route already")]
    AlreadyActive,
    /// The change would change nothing.
    #[error("the version is the route's canary with that share already")]
    AlreadyCanary,
    /// The change would change nothing.
    #[error("the version is the route's shadow already")]
    AlreadyShadow,
    /// There is no shadow to end.
    #[error("the route has no shadow")]
    NoShadow,
    /// There is no canary to end.
    #[error("the route has no canary")]
    NoCanary,
    /// There is no earlier version to go back to.
    #[error("nothing was active here before; there is no way back")]
    NothingBefore,
    /// The change would change nothing.
    #[error("the route follows the file already")]
    FollowsAlready,
    /// The tenant's promotion gate does not let the version advance.
    #[error("the version may not advance: {}", sentences(unmet))]
    Unmet {
        /// What is missing.
        unmet: Vec<Unmet>,
    },
    /// The owner has as many versions as are kept.
    #[error("{count_max} versions are kept of each owner, and as many are there")]
    TooMany {
        /// The bound.
        count_max: usize,
    },
}

fn sentences(unmet: &[Unmet]) -> String {
    let each: Vec<String> = unmet.iter().map(ToString::to_string).collect();
    each.join("; ")
}

impl Refused {
    /// A stable slug for programs and tests.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlreadyPublished => "already-published",
            Self::AlreadyRetired => "already-retired",
            Self::Retired => "retired",
            Self::NotPublished => "not-published",
            Self::VersionTaken { .. } => "version-taken",
            Self::InUse { .. } => "in-use",
            Self::OtherPlugin { .. } => "other-plugin",
            Self::Share { .. } => "share",
            Self::AlreadyActive => "already-active",
            Self::AlreadyCanary => "already-canary",
            Self::AlreadyShadow => "already-shadow",
            Self::NoShadow => "no-shadow",
            Self::NoCanary => "no-canary",
            Self::NothingBefore => "nothing-before",
            Self::FollowsAlready => "follows-already",
            Self::Unmet { .. } => "unmet",
            Self::TooMany { .. } => "too-many",
        }
    }
}

/// A version as far as a binding must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bindable<'a> {
    /// The plugin that it is a version of.
    pub name: &'a PluginName,
    /// How far it has come.
    pub standing: Standing,
}

impl Binding {
    /// The binding of a route that nobody has changed yet.
    pub fn new(plugin: PluginName, active: PluginDigest) -> Self {
        Self {
            plugin,
            active,
            canary: None,
            shadow: None,
            previous: Vec::new(),
            by_hand: false,
        }
    }

    /// Whether a version may be brought in at all.
    ///
    /// # Errors
    /// When it is not published, or is another plugin's.
    pub fn admits(&self, version: &Bindable<'_>) -> Result<(), Refused> {
        match version.standing {
            Standing::Vetted => return Err(Refused::NotPublished),
            Standing::Retired => return Err(Refused::Retired),
            Standing::Published => {}
        }
        if *version.name != self.plugin {
            return Err(Refused::OtherPlugin {
                found: version.name.clone(),
                expected: self.plugin.clone(),
            });
        }
        Ok(())
    }

    /// The binding after a change. What a change brings in was looked at by [`Binding::admits`].
    ///
    /// # Errors
    /// When the change does not follow, or changes nothing.
    pub fn after(&self, change: &Change) -> Result<Self, Refused> {
        let mut next = self.clone();
        next.by_hand = true;
        match change {
            Change::Shadow(digest) => {
                if *digest == self.active {
                    return Err(Refused::AlreadyActive);
                }
                if next.shadow.replace(*digest) == Some(*digest) {
                    return Err(Refused::AlreadyShadow);
                }
            }
            Change::EndShadow => {
                next.shadow.take().ok_or(Refused::NoShadow)?;
            }
            Change::Canary(canary) => {
                if canary.digest == self.active {
                    return Err(Refused::AlreadyActive);
                }
                if next.canary.replace(*canary) == Some(*canary) {
                    return Err(Refused::AlreadyCanary);
                }
                next.end_shadow_of(canary.digest);
            }
            Change::EndCanary => {
                next.canary.take().ok_or(Refused::NoCanary)?;
            }
            Change::Promote(digest) => {
                if *digest == self.active {
                    return Err(Refused::AlreadyActive);
                }
                next.activate(*digest);
                next.end_shadow_of(*digest);
                next.canary = None;
            }
            Change::Rollback => {
                next.shadow = None;
                if next.canary.take().is_none() {
                    next.active = next.previous.pop().ok_or(Refused::NothingBefore)?;
                }
            }
            Change::FollowFile(digest) => {
                if !self.by_hand {
                    return Err(Refused::FollowsAlready);
                }
                if *digest != self.active {
                    next.activate(*digest);
                }
                next.shadow = None;
                next.canary = None;
                next.by_hand = false;
            }
        }
        Ok(next)
    }

    /// The version that a job runs. The same subject always goes to the same side while the share stays, and stays with the canary
    /// while the share grows; an event without a subject goes by its receipt.
    pub fn chosen(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        subject: Option<&Subject>,
        receipt: ReceiptId,
    ) -> PluginDigest {
        match &self.canary {
            Some(canary) if slot(tenant, route, subject, receipt) < canary.share.0 => canary.digest,
            Some(_) | None => self.active,
        }
    }

    /// Every version that the binding may run now.
    pub fn digests(&self) -> impl Iterator<Item = PluginDigest> + '_ {
        [Some(self.active), self.canary.map(|canary| canary.digest), self.shadow]
            .into_iter()
            .flatten()
    }

    fn activate(&mut self, digest: PluginDigest) {
        self.previous.push(self.active);
        if self.previous.len() > PREVIOUS_MAX {
            self.previous.remove(0);
        }
        self.active = digest;
    }

    fn end_shadow_of(&mut self, digest: PluginDigest) {
        if self.shadow == Some(digest) {
            self.shadow = None;
        }
    }
}

/// For the history and for people: what runs, in one line.
impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "active {}", self.active)?;
        if let Some(canary) = &self.canary {
            write!(f, ", canary {} for {}", canary.digest, canary.share)?;
        }
        if let Some(shadow) = &self.shadow {
            write!(f, ", shadow {shadow}")?;
        }
        Ok(())
    }
}

/// Where a subject stands among 1000 equal parts of a route's subjects. Routes cut differently, so that no subject is every
/// route's canary.
fn slot(tenant: &TenantName, route: &RouteName, subject: Option<&Subject>, receipt: ReceiptId) -> u16 {
    let mut hash = sha2::Sha256::new_with_prefix(b"tollgate-canary");
    for part in [tenant.as_str(), route.as_str()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    match subject {
        Some(subject) => hash.update(subject.as_str()),
        None => hash.update(receipt.0),
    }
    let full: [u8; 32] = hash.finalize().into();
    let mut start = [0; 8];
    start.copy_from_slice(&full[..8]);
    // 2^64 is not a multiple of 1000; the unevenness is below 10^-16.
    u16::try_from(u64::from_le_bytes(start) % 1000).unwrap_or(0)
}

/// What a tenant asks of a version before it has effects on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PromotionGate {
    /// Whether it must be signed by a publisher whose key the tenant registered. Asked of a shadow as well.
    pub require_signed: bool,
    /// Whether a trial over recorded runs against the active version must have found no differences.
    pub require_trial: bool,
    /// The least number of runs as this route's shadow. 0 asks for none.
    pub shadow_runs_min: u64,
    /// The most of those runs that may differ from the active version's.
    pub shadow_differences_max: Option<u64>,
}

/// What is known of a version on a route when it is to advance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Why its signature does not count; `None` when it does.
    pub unsigned: Option<String>,
    /// Its widest trial against the version that is active now: both are fixed, so what it found stands.
    pub trial: Option<TrialResult>,
    /// How it did as the route's shadow.
    pub shadow: ShadowTally,
}

/// What a trial over recorded runs found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Runs that were repeated.
    pub runs: u64,
    /// Of those, how many differ in meaning.
    pub differences: u64,
    /// Runs after which the active version could not go on with the state that the candidate wrote.
    pub unreadable: u64,
}

/// How a version did as a route's shadow, against the version that is active now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ShadowTally {
    /// Runs that were made.
    pub runs: u64,
    /// Of those, how many differ in meaning.
    pub differences: u64,
}

/// What a version lacks to advance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// No signature counts for the tenant.
    #[error("the tenant requires a signed plugin: {why}")]
    Unsigned {
        /// Why it does not count.
        why: String,
    },
    /// No trial was made against the active version.
    #[error("the tenant requires a trial against the active version; run `tollgate plugin trial`")]
    NoTrial,
    /// A trial found differences.
    #[error("the trial found {differences} differences in {runs} runs")]
    TrialDiffers {
        /// Runs that were repeated.
        runs: u64,
        /// Of those, how many differ.
        differences: u64,
    },
    /// A trial found state that the active version could not go on with.
    #[error(
        "the trial found {unreadable} of {runs} runs after which the active version cannot read the state that this one wrote: \
         it would hold those customers' events after a rollback"
    )]
    TrialUnreadable {
        /// Runs that were repeated.
        runs: u64,
        /// Of those, how many left such state.
        unreadable: u64,
    },
    /// The version has not run often enough as the route's shadow.
    #[error("the tenant requires {runs_min} shadow runs against the active version; there were {runs}")]
    FewShadowRuns {
        /// How often it has.
        runs: u64,
        /// How often it must.
        runs_min: u64,
    },
    /// The version differed too often as the route's shadow.
    #[error("{differences} of {runs} shadow runs differed; the tenant allows {differences_max}")]
    ShadowDiffers {
        /// How often it ran.
        runs: u64,
        /// How often it differed.
        differences: u64,
        /// How often it may.
        differences_max: u64,
    },
}

impl Evidence {
    /// A warning for whoever makes the change, whether the tenant asks for evidence or not. None where the change gives the version no
    /// effects.
    pub fn warning(&self, change: &Change) -> Option<String> {
        let has_effects = match change {
            Change::Canary(_) | Change::Promote(_) => true,
            Change::Shadow(_) | Change::EndShadow | Change::EndCanary | Change::Rollback | Change::FollowFile(_) => {
                false
            }
        };
        let trial = self.trial.filter(|trial| has_effects && trial.unreadable > 0)?;
        Some(format!(
            "in {} of {} runs of its trial it wrote state that the active version cannot read: after a rollback, events of those \
             customers would be held or fail",
            trial.unreadable, trial.runs
        ))
    }
}

impl PromotionGate {
    /// What is missing for a change; empty when it may be made. Going back never asks for anything.
    pub fn unmet(&self, change: &Change, evidence: &Evidence) -> Vec<Unmet> {
        let has_effects = match change {
            Change::Shadow(_) => false,
            Change::Canary(_) | Change::Promote(_) => true,
            Change::EndShadow | Change::EndCanary | Change::Rollback | Change::FollowFile(_) => return Vec::new(),
        };
        let mut unmet = Vec::new();
        if self.require_signed
            && let Some(why) = &evidence.unsigned
        {
            unmet.push(Unmet::Unsigned { why: why.clone() });
        }
        if !has_effects {
            return unmet;
        }
        if self.require_trial {
            match evidence.trial {
                None | Some(TrialResult { runs: 0, .. }) => unmet.push(Unmet::NoTrial),
                Some(TrialResult {
                    runs,
                    differences,
                    unreadable,
                }) => {
                    if differences > 0 {
                        unmet.push(Unmet::TrialDiffers { runs, differences });
                    }
                    if unreadable > 0 {
                        unmet.push(Unmet::TrialUnreadable { runs, unreadable });
                    }
                }
            }
        }
        let ShadowTally { runs, differences } = evidence.shadow;
        if runs < self.shadow_runs_min {
            unmet.push(Unmet::FewShadowRuns {
                runs,
                runs_min: self.shadow_runs_min,
            });
        }
        if let Some(differences_max) = self.shadow_differences_max
            && differences > differences_max
        {
            unmet.push(Unmet::ShadowDiffers {
                runs,
                differences,
                differences_max,
            });
        }
        unmet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(name: &str) -> PluginDigest {
        PluginDigest::of(name.as_bytes())
    }

    fn binding() -> Binding {
        Binding::new("cashback".parse().unwrap(), digest("1"))
    }

    fn canary(name: &str, thousandths: u16) -> Change {
        Change::Canary(Canary {
            digest: digest(name),
            share: Share::per_mille(thousandths).unwrap(),
        })
    }

    /// Applies changes one after the other; the last must end as expected.
    fn check(changes: &[Change], expect: Result<&str, Refused>) {
        let (last, before) = changes.split_last().unwrap();
        let start = before
            .iter()
            .fold(binding(), |binding, change| binding.after(change).unwrap());
        let short = |binding: &Binding| {
            let name = |of: PluginDigest| ["1", "2", "3"].into_iter().find(|name| digest(name) == of).unwrap();
            let mut text = name(binding.active).to_owned();
            if let Some(canary) = &binding.canary {
                text += &format!(" canary {} {}", name(canary.digest), canary.share.as_per_mille());
            }
            if let Some(shadow) = binding.shadow {
                text += &format!(" shadow {}", name(shadow));
            }
            text
        };
        let found = start.after(last);
        assert_eq!(
            found.map(|binding| short(&binding)),
            expect.map(str::to_owned),
            "{changes:?}"
        );
    }

    #[test]
    fn each_change_makes_one_binding_of_another_or_is_refused() {
        let promote = |name| Change::Promote(digest(name));
        let shadow = |name| Change::Shadow(digest(name));
        check(&[shadow("2")], Ok("1 shadow 2"));
        check(&[shadow("1")], Err(Refused::AlreadyActive));
        check(&[shadow("2"), shadow("2")], Err(Refused::AlreadyShadow));
        check(&[shadow("2"), shadow("3")], Ok("1 shadow 3"));
        check(&[Change::EndShadow], Err(Refused::NoShadow));
        check(&[shadow("2"), Change::EndShadow], Ok("1"));
        check(&[shadow("2"), canary("2", 50)], Ok("1 canary 2 50"));
        check(&[shadow("3"), canary("2", 50)], Ok("1 canary 2 50 shadow 3"));
        check(&[canary("2", 50), canary("2", 100)], Ok("1 canary 2 100"));
        check(&[canary("2", 50), canary("2", 50)], Err(Refused::AlreadyCanary));
        check(&[canary("1", 50)], Err(Refused::AlreadyActive));
        check(&[Change::EndCanary], Err(Refused::NoCanary));
        check(&[canary("2", 50), Change::EndCanary], Ok("1"));
        check(&[canary("2", 50), promote("2")], Ok("2"));
        check(&[canary("3", 50), shadow("3"), promote("2")], Ok("2 shadow 3"));
        check(&[promote("1")], Err(Refused::AlreadyActive));
        check(&[Change::Rollback], Err(Refused::NothingBefore));
        check(&[promote("2"), promote("3"), Change::Rollback], Ok("2"));
        check(
            &[promote("2"), Change::Rollback, Change::Rollback],
            Err(Refused::NothingBefore),
        );
        check(&[promote("2"), canary("3", 1), Change::Rollback], Ok("2"));
        check(
            &[promote("2"), canary("3", 1), Change::Rollback, Change::Rollback],
            Ok("1"),
        );
        check(&[Change::FollowFile(digest("1"))], Err(Refused::FollowsAlready));
        check(
            &[promote("2"), canary("3", 1), Change::FollowFile(digest("1"))],
            Ok("1"),
        );
    }

    #[test]
    fn a_hand_is_seen_until_the_file_is_followed_again() {
        let bound = binding().after(&Change::Promote(digest("2"))).unwrap();
        assert!(bound.by_hand);
        let followed = bound.after(&Change::FollowFile(digest("1"))).unwrap();
        assert!(!followed.by_hand);
        assert_eq!(followed.previous, [digest("1"), digest("2")]);
    }

    #[test]
    fn the_way_back_is_bounded() {
        let mut bound = binding();
        for number in 0..PREVIOUS_MAX + 5 {
            bound = bound
                .after(&Change::Promote(digest(&number.to_string())))
                .unwrap_or(bound);
        }
        assert_eq!(bound.previous.len(), PREVIOUS_MAX);
    }

    #[test]
    fn a_version_goes_one_way() {
        use Standing::{Published, Retired, Vetted};
        for (from, step, expect) in [
            (Vetted, Step::Publish, Ok(Published)),
            (Vetted, Step::Retire, Ok(Retired)),
            (Published, Step::Publish, Err(Refused::AlreadyPublished)),
            (Published, Step::Retire, Ok(Retired)),
            (Retired, Step::Publish, Err(Refused::Retired)),
            (Retired, Step::Retire, Err(Refused::AlreadyRetired)),
        ] {
            assert_eq!(from.next(step), expect, "{from} {step:?}");
        }
        let name = "cashback".parse().unwrap();
        let other = "other".parse().unwrap();
        let admits = |name, standing| binding().admits(&Bindable { name, standing });
        assert_eq!(admits(&name, Published), Ok(()));
        assert_eq!(admits(&name, Vetted), Err(Refused::NotPublished));
        assert_eq!(admits(&name, Retired), Err(Refused::Retired));
        assert!(matches!(admits(&other, Published), Err(Refused::OtherPlugin { .. })));
    }

    /// Of 10 shadow runs with so many that differ, after a trial of 100 with so many that differ and so many that cannot be read.
    fn evidence(runs: u32, differences: u32, trial: Option<(u32, u32)>) -> Evidence {
        Evidence {
            unsigned: None,
            trial: trial.map(|(differences, unreadable)| TrialResult {
                runs: 100,
                differences: differences.into(),
                unreadable: unreadable.into(),
            }),
            shadow: ShadowTally {
                runs: runs.into(),
                differences: differences.into(),
            },
        }
    }

    #[test]
    fn a_gate_says_all_that_is_missing_and_never_bars_the_way_back() {
        let gate = PromotionGate {
            require_signed: true,
            require_trial: true,
            shadow_runs_min: 10,
            shadow_differences_max: Some(0),
        };
        let (promote, shadow) = (Change::Promote(digest("2")), Change::Shadow(digest("2")));
        let nothing = Evidence {
            unsigned: Some("no signature".into()),
            ..evidence(3, 1, None)
        };
        let why = "no signature".into();
        let missing = [
            Unmet::Unsigned { why },
            Unmet::NoTrial,
            Unmet::FewShadowRuns { runs: 3, runs_min: 10 },
            Unmet::ShadowDiffers {
                runs: 3,
                differences: 1,
                differences_max: 0,
            },
        ];
        assert_eq!(gate.unmet(&promote, &nothing), missing);
        assert_eq!(gate.unmet(&shadow, &nothing).len(), 1, "no effects, no trial");
        let follow = Change::FollowFile(digest("1"));
        for back in [Change::Rollback, Change::EndCanary, Change::EndShadow, follow] {
            assert_eq!(gate.unmet(&back, &nothing), []);
        }
        assert_eq!(
            PromotionGate::default().unmet(&promote, &nothing),
            [],
            "the default asks for nothing"
        );

        let canary = canary("2", 50);
        assert_eq!(gate.unmet(&canary, &evidence(10, 0, Some((0, 0)))), []);
        let differing = evidence(10, 0, Some((2, 0)));
        assert!(matches!(
            gate.unmet(&canary, &differing)[..],
            [Unmet::TrialDiffers { .. }]
        ));
        assert_eq!(differing.warning(&canary), None, "differences are the trial's own news");
        let no_way_back = evidence(10, 0, Some((0, 3)));
        let (runs, unreadable) = (100, 3);
        assert_eq!(
            gate.unmet(&canary, &no_way_back),
            [Unmet::TrialUnreadable { runs, unreadable }]
        );
        for (change, warns) in [
            (promote, true),
            (canary, true),
            (shadow, false),
            (Change::Rollback, false),
        ] {
            assert_eq!(
                no_way_back.warning(&change).is_some(),
                warns,
                "asked for or not: {change:?}"
            );
        }
    }

    #[test]
    fn a_share_is_served_as_said() {
        let (tenant, route) = ("acme".parse().unwrap(), "cashback".parse().unwrap());
        let with = binding().after(&canary("2", 100)).unwrap();
        let served = (0..10_000)
            .filter(|number| {
                let subject = Subject::new(&format!("cust_{number}")).unwrap();
                with.chosen(&tenant, &route, Some(&subject), ReceiptId([0; 16])) == digest("2")
            })
            .count();
        assert!((900..1100).contains(&served), "{served} of 10000");
    }

    proptest! {
        /// A subject stays on its side whatever receipt it comes with, and a growing share never sends one back.
        #[test]
        fn a_subject_stays_on_its_side(subject in "[a-z]{1,20}", receipts: ([u8; 16], [u8; 16]), small in 1_u16..999, more in 0_u16..998) {
            let (tenant, route) = ("acme".parse().unwrap(), "cashback".parse().unwrap());
            let subject = Subject::new(&subject).unwrap();
            let large = (small + more).min(999);
            let side = |share, receipt| {
                binding().after(&canary("2", share)).unwrap().chosen(&tenant, &route, Some(&subject), ReceiptId(receipt))
            };
            prop_assert_eq!(side(small, receipts.0), side(small, receipts.1));
            if side(small, receipts.0) == digest("2") {
                prop_assert_eq!(side(large, receipts.1), digest("2"));
            }
            prop_assert!([digest("1"), digest("2")].contains(&side(small, receipts.0)));
        }
    }
}
