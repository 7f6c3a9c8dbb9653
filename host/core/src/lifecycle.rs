//! Lifecycles: which status of a family may follow which (promises T3, T4).
//!
//! A lifecycle is a declared graph without cycles. A status that can be reached from the current one is news, wherever
//! it stands on the way; one from which the current status can be reached came late; one that is neither is a contradiction.
//!
//! Late is not never: a status that came late may have happened all the same, and what it makes due is due. Which statuses a later one
//! leaves due is data of the lifecycle ([`Lateness`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{FamilyName, Status};

/// A checked lifecycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The events that it is for.
    pub family: FamilyName,
    /// Rises with every change of meaning; kept with each receipt that it judged.
    pub version: u32,
    statuses: Vec<StatusNode>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StatusNode {
    name: Status,
    terminal: bool,
    /// Bit i is set when `statuses[i]` can be reached from here.
    reachable: u64,
    /// Bit i is set when `statuses[i]` is [`Lateness::Due`] once the subject is here.
    leaves_due: u64,
    /// The same of [`Lateness::Open`].
    leaves_open: u64,
}

/// What a status that comes late is, once the subject has a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lateness {
    /// It happened or may have happened, and the later status does not undo its effect: what was fulfilled was paid.
    Due,
    /// The later status undoes it or puts it in doubt, and nothing in the two says which: what was refunded was paid before, or is paid again.
    Open,
    /// A step on the way that nobody needs any more: `pending` after `completed`.
    Overtaken,
}

/// What an incoming status is to a subject's current one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Transition {
    /// It moves the subject on, or repeats its status (then operation keys see to it that nothing happens twice).
    Apply,
    /// It came late: the subject has a later status.
    Superseded {
        /// The status that the subject has.
        current: Status,
    },
    /// Neither may follow the other, as `completed` and `rolledback`.
    Contradicts {
        /// The status that the subject has.
        current: Status,
    },
    /// The lifecycle does not know this status.
    Unknown {
        /// The status that came.
        status: Status,
    },
}

/// What is wrong with a lifecycle file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// The file cannot be read; the text says why.
    #[error("not a lifecycle file: {0}")]
    Syntax(String),
    /// A status stands twice.
    #[error("lifecycle `{family}`: `{status}` is declared more than once")]
    Repeated {
        /// The lifecycle's family.
        family: FamilyName,
        /// That status.
        status: Status,
    },
    /// A status leads to one that is not declared.
    #[error("lifecycle `{family}`: `{status}` leads to `{next}`, which is not declared")]
    Dangling {
        /// The lifecycle's family.
        family: FamilyName,
        /// Where the step begins.
        status: Status,
        /// Where it leads.
        next: Status,
    },
    /// A status leads back to itself.
    #[error("lifecycle `{family}`: `{status}` can be reached from itself; a lifecycle has no cycles")]
    Cycle {
        /// The lifecycle's family.
        family: FamilyName,
        /// That status.
        status: Status,
    },
    /// A status is marked terminal and leads on.
    #[error("lifecycle `{family}`: `{status}` is marked terminal but leads on")]
    NotTerminal {
        /// The lifecycle's family.
        family: FamilyName,
        /// That status.
        status: Status,
    },
    /// A status leads nowhere and is not marked terminal.
    #[error("lifecycle `{family}`: `{status}` leads nowhere but is not marked terminal")]
    DeadEnd {
        /// The lifecycle's family.
        family: FamilyName,
        /// That status.
        status: Status,
    },
    /// A status leaves one due or open that does not come before it.
    #[error("lifecycle `{family}`: `{status}` leaves `{earlier}` due or open, which does not come before it")]
    NotEarlier {
        /// The lifecycle's family.
        family: FamilyName,
        /// The status that leaves it so.
        status: Status,
        /// The one that does not come before.
        earlier: Status,
    },
    /// A status leaves an earlier one both due and open.
    #[error("lifecycle `{family}`: `{status}` leaves `{earlier}` both due and open")]
    DueAndOpen {
        /// The lifecycle's family.
        family: FamilyName,
        /// The status that leaves it so.
        status: Status,
        /// The earlier status.
        earlier: Status,
    },
    /// The lifecycle has more than 64 statuses.
    #[error("lifecycle `{family}` declares {statuses} statuses; at most 64 are allowed")]
    TooMany {
        /// The lifecycle's family.
        family: FamilyName,
        /// How many it declares.
        statuses: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLifecycle {
    family: FamilyName,
    version: u32,
    status: Vec<RawStatus>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatus {
    name: Status,
    #[serde(default)]
    next: Vec<Status>,
    #[serde(default)]
    terminal: bool,
    #[serde(default)]
    leaves_due: Vec<Status>,
    #[serde(default)]
    leaves_open: Vec<Status>,
}

impl Lifecycle {
    /// Reads and checks a lifecycle file.
    ///
    /// # Errors
    /// When it is not TOML of the right shape, or the graph is not a lifecycle.
    pub fn from_toml(text: &str) -> Result<Self, LifecycleError> {
        let raw: RawLifecycle = toml::from_str(text).map_err(|error| LifecycleError::Syntax(error.to_string()))?;
        let family = raw.family;
        if raw.status.len() > 64 {
            return Err(LifecycleError::TooMany {
                family,
                statuses: raw.status.len(),
            });
        }
        let mut index = BTreeMap::new();
        for (at, status) in raw.status.iter().enumerate() {
            if index.insert(status.name.clone(), at).is_some() {
                return Err(LifecycleError::Repeated {
                    family,
                    status: status.name.clone(),
                });
            }
        }
        let mut reachable = vec![0_u64; raw.status.len()];
        for (at, status) in raw.status.iter().enumerate() {
            match (status.terminal, status.next.is_empty()) {
                (true, false) => {
                    return Err(LifecycleError::NotTerminal {
                        family,
                        status: status.name.clone(),
                    });
                }
                (false, true) => {
                    return Err(LifecycleError::DeadEnd {
                        family,
                        status: status.name.clone(),
                    });
                }
                (true, true) | (false, false) => {}
            }
            for next in &status.next {
                let Some(&to) = index.get(next) else {
                    return Err(LifecycleError::Dangling {
                        family,
                        status: status.name.clone(),
                        next: next.clone(),
                    });
                };
                reachable[at] |= 1 << to;
            }
        }
        // Follow edges until nothing new is reached: at most as many rounds as there are statuses.
        for _ in 0..raw.status.len() {
            for at in 0..reachable.len() {
                let through = (0..reachable.len())
                    .filter(|to| reachable[at] & (1 << to) != 0)
                    .fold(0, |all, to| all | reachable[to]);
                reachable[at] |= through;
            }
        }
        if let Some(at) = (0..reachable.len()).find(|&at| reachable[at] & (1 << at) != 0) {
            return Err(LifecycleError::Cycle {
                family,
                status: raw.status[at].name.clone(),
            });
        }
        let mut statuses = Vec::with_capacity(raw.status.len());
        for (at, status) in raw.status.into_iter().enumerate() {
            let earlier = |named: &[Status]| {
                named.iter().try_fold(0_u64, |bits, earlier| match index.get(earlier) {
                    Some(&from) if reachable[from] & (1 << at) != 0 => Ok(bits | 1 << from),
                    Some(_) | None => Err(LifecycleError::NotEarlier {
                        family: family.clone(),
                        status: status.name.clone(),
                        earlier: earlier.clone(),
                    }),
                })
            };
            let (leaves_due, leaves_open) = (earlier(&status.leaves_due)?, earlier(&status.leaves_open)?);
            if let Some(earlier) = status
                .leaves_open
                .iter()
                .find(|earlier| status.leaves_due.contains(earlier))
            {
                return Err(LifecycleError::DueAndOpen {
                    family,
                    status: status.name,
                    earlier: earlier.clone(),
                });
            }
            statuses.push(StatusNode {
                name: status.name,
                terminal: status.terminal,
                reachable: reachable[at],
                leaves_due,
                leaves_open,
            });
        }
        Ok(Self {
            family,
            version: raw.version,
            statuses,
        })
    }

    /// Judges an incoming status against the subject's current one. The first status of a subject always applies: the earlier
    /// ones may be late or lost.
    pub fn transition(&self, current: Option<&Status>, incoming: &Status) -> Transition {
        let Some(to) = self.position(incoming) else {
            return Transition::Unknown {
                status: incoming.clone(),
            };
        };
        let Some(current) = current else {
            return Transition::Apply;
        };
        let Some(from) = self.position(current) else {
            return Transition::Contradicts {
                current: current.clone(),
            };
        };
        if from == to || self.statuses[from].reachable & (1 << to) != 0 {
            Transition::Apply
        } else if self.statuses[to].reachable & (1 << from) != 0 {
            Transition::Superseded {
                current: current.clone(),
            }
        } else {
            Transition::Contradicts {
                current: current.clone(),
            }
        }
    }

    /// What the late status `incoming` is once the subject is at `current`; none when it is not late.
    pub fn lateness(&self, current: &Status, incoming: &Status) -> Option<Lateness> {
        let (at, late) = (self.position(current)?, self.position(incoming)?);
        if at == late || self.statuses[late].reachable & (1 << at) == 0 {
            return None;
        }
        let node = &self.statuses[at];
        Some(if node.leaves_due & (1 << late) != 0 {
            Lateness::Due
        } else if node.leaves_open & (1 << late) != 0 {
            Lateness::Open
        } else {
            Lateness::Overtaken
        })
    }

    /// Whether the status is declared.
    pub fn knows(&self, status: &Status) -> bool {
        self.position(status).is_some()
    }

    /// Whether the status is declared, and nothing may follow it.
    pub fn is_terminal(&self, status: &Status) -> bool {
        self.position(status).is_some_and(|at| self.statuses[at].terminal)
    }

    /// Every declared status, in the order of the file.
    pub fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.statuses.iter().map(|node| &node.name)
    }

    fn position(&self, status: &Status) -> Option<usize> {
        self.statuses.iter().position(|node| node.name == *status)
    }
}

/// The lifecycles that ship with Tollgate, by family.
///
/// # Panics
/// Never in a released build: a test reads every shipped file.
pub fn shipped() -> BTreeMap<FamilyName, std::sync::Arc<Lifecycle>> {
    SHIPPED_TEXTS
        .iter()
        .map(|text| Lifecycle::from_toml(text).expect("a shipped lifecycle is valid"))
        .map(|lifecycle| (lifecycle.family.clone(), std::sync::Arc::new(lifecycle)))
        .collect()
}

const SHIPPED_TEXTS: &[&str] = &[
    include_str!("../lifecycles/reward-redemption.toml"),
    include_str!("../lifecycles/payment.toml"),
    include_str!("../lifecycles/refund.toml"),
    include_str!("../lifecycles/payout.toml"),
    include_str!("../lifecycles/order.toml"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str) -> Status {
        name.parse().unwrap()
    }

    #[test]
    fn what_may_follow_what_is_said_by_the_lifecycle() {
        let shipped = shipped();
        for (family, current, incoming, expect) in [
            ("reward-redemption", "", "created", "apply"),
            ("reward-redemption", "", "completed", "apply"),
            ("reward-redemption", "created", "pending", "apply"),
            ("reward-redemption", "created", "completed", "apply"),
            ("reward-redemption", "pending", "rolledback", "apply"),
            ("reward-redemption", "pending", "pending", "apply"),
            ("reward-redemption", "completed", "pending", "superseded"),
            ("reward-redemption", "rolledback", "created", "superseded"),
            ("reward-redemption", "completed", "rolledback", "contradicts"),
            ("reward-redemption", "completed", "exploded", "unknown"),
            // A payment survives a failed try but not a step back.
            ("payment", "failed", "captured", "apply"),
            ("payment", "captured", "authorized", "superseded"),
            ("payment", "captured", "refunded", "apply"),
            ("payment", "created", "pending", "apply"),
            ("payment", "pending", "failed", "apply"),
            // The payer may try again, but what was under way before the failure is late.
            ("payment", "failed", "pending", "superseded"),
            ("payment", "failed", "authorized", "apply"),
            ("payment", "captured", "created", "superseded"),
            ("payment", "captured", "failed", "superseded"),
            ("payment", "canceled", "captured", "superseded"),
            // The rest of an authorization, what was captured of it, and a capture that was tried again.
            ("payment", "captured", "canceled", "apply"),
            ("payment", "canceled", "partially-refunded", "apply"),
            ("payment", "capture-failed", "captured", "apply"),
        ] {
            let current = (!current.is_empty()).then(|| status(current));
            let found = match shipped[family].transition(current.as_ref(), &status(incoming)) {
                Transition::Apply => "apply",
                Transition::Superseded { current: of } if Some(&of) == current.as_ref() => "superseded",
                Transition::Contradicts { current: of } if Some(&of) == current.as_ref() => "contradicts",
                Transition::Unknown { status: of } if of == status(incoming) => "unknown",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expect, "{family}: {current:?} → {incoming}");
        }
        let redemption = &shipped["reward-redemption"];
        assert!(redemption.is_terminal(&status("completed")) && !redemption.is_terminal(&status("pending")));
    }

    #[test]
    fn what_a_later_status_leaves_due_is_said_by_the_lifecycle() {
        let shipped = shipped();
        for (family, current, late, expect) in [
            ("order", "fulfilled", "paid", Some(Lateness::Due)),
            ("order", "partially-refunded", "paid", Some(Lateness::Due)),
            ("order", "refunded", "paid", Some(Lateness::Open)),
            ("order", "refunded", "partially-refunded", Some(Lateness::Due)),
            ("order", "paid", "pending", Some(Lateness::Overtaken)),
            ("order", "paid", "fulfilled", None),
            ("order", "paid", "paid", None),
            ("payment", "partially-refunded", "captured", Some(Lateness::Due)),
            ("payment", "captured", "capture-failed", Some(Lateness::Due)),
            ("payment", "disputed", "refunded", Some(Lateness::Due)),
            ("payment", "disputed", "captured", Some(Lateness::Due)),
            ("payment", "lost", "captured", Some(Lateness::Open)),
            ("payment", "canceled", "captured", Some(Lateness::Open)),
            ("payment", "captured", "failed", Some(Lateness::Overtaken)),
            ("payout", "failed", "paid", Some(Lateness::Open)),
            ("refund", "failed", "completed", Some(Lateness::Open)),
            ("reward-redemption", "completed", "pending", Some(Lateness::Overtaken)),
            ("reward-redemption", "completed", "rolledback", None),
            ("reward-redemption", "completed", "exploded", None),
        ] {
            assert_eq!(
                shipped[family].lateness(&status(current), &status(late)),
                expect,
                "{family}: {late} after {current}"
            );
        }
    }

    #[test]
    fn a_graph_that_is_no_lifecycle_is_refused_by_name() {
        let check = |statuses: &str, expect: &str| {
            let text = format!("family = \"f\"\nversion = 1\n{statuses}");
            assert_eq!(Lifecycle::from_toml(&text).unwrap_err().to_string(), expect);
        };
        check(
            "[[status]]\nname = \"a\"\nnext = [\"b\"]\n[[status]]\nname = \"b\"\nnext = [\"a\"]",
            "lifecycle `f`: `a` can be reached from itself; a lifecycle has no cycles",
        );
        check(
            "[[status]]\nname = \"a\"\nnext = [\"b\"]",
            "lifecycle `f`: `a` leads to `b`, which is not declared",
        );
        check(
            "[[status]]\nname = \"a\"",
            "lifecycle `f`: `a` leads nowhere but is not marked terminal",
        );
        let two = |last: &str| {
            format!("[[status]]\nname = \"a\"\nnext = [\"b\"]\n[[status]]\nname = \"b\"\nterminal = true\n{last}")
        };
        check(
            &two("leaves_due = [\"b\"]"),
            "lifecycle `f`: `b` leaves `b` due or open, which does not come before it",
        );
        check(
            &two("leaves_open = [\"c\"]"),
            "lifecycle `f`: `b` leaves `c` due or open, which does not come before it",
        );
        check(
            &two("leaves_due = [\"a\"]\nleaves_open = [\"a\"]"),
            "lifecycle `f`: `b` leaves `a` both due and open",
        );
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever order the statuses of one subject arrive in, the applied ones never go back.
        #[test]
        fn no_order_of_arrival_moves_a_subject_back(arrivals in proptest::collection::vec(0_usize..4, 1..20)) {
            let shipped = shipped();
            let lifecycle = &shipped["reward-redemption"];
            let statuses: Vec<_> = lifecycle.statuses().cloned().collect();
            let mut current: Option<Status> = None;
            for at in arrivals {
                let before = current.clone();
                if lifecycle.transition(current.as_ref(), &statuses[at]) == Transition::Apply {
                    current = Some(statuses[at].clone());
                }
                if let (Some(before), Some(after)) = (before, &current) {
                    let superseded = Transition::Superseded { current: after.clone() };
                    let back = lifecycle.transition(Some(after), &before);
                    prop_assert!(back == Transition::Apply || back == superseded);
                    prop_assert!(before == *after || !lifecycle.is_terminal(&before));
                }
            }
        }
    }
}
