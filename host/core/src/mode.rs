//! Live or test: what a provider says of an event that it made for trying things out.
//!
//! Where a profile has `[mode]`, the mode is a fact of the event: its attribute [`MODE`], shown and matched wherever attributes are. A
//! source takes live events only, unless it says otherwise: test events come to live endpoints too, and would move real money.

use serde::{Deserialize, Serialize};

/// The attribute that holds an event's mode. No profile may use this name for another attribute.
pub const MODE: &str = "mode";

/// The attribute of an event that the host made itself, for somebody who tries a source. No profile may use this name for another attribute.
pub const HOST_TEST: &str = "tollgate_test";

/// Which events a source gives effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Accept {
    /// Live ones, and those whose provider does not say what they are.
    #[default]
    Live,
    /// Test ones alone.
    Test,
    /// Live and test ones.
    Both,
}

impl Accept {
    /// Reads what a tenant's file lists; nothing when it is neither `live` nor `test`, or names nothing.
    pub fn of(names: &[&str]) -> Option<Self> {
        let mut accept = None;
        for name in names {
            accept = Some(match (accept, *name) {
                (None | Some(Self::Live), "live") => Self::Live,
                (None | Some(Self::Test), "test") => Self::Test,
                (Some(_), "live" | "test") => Self::Both,
                (_, _) => return None,
            });
        }
        accept
    }

    /// Why an event with these attributes is kept without effect; nothing when it is accepted.
    pub fn why_not(self, attributes: &[(String, String)]) -> Option<String> {
        let mode = attributes.iter().find(|(name, _)| name == MODE);
        let is_test = mode.is_some_and(|(_, mode)| mode == "test");
        match (self, is_test) {
            (Self::Live, true) => Some(
                "a test event of the provider's, and the source accepts live ones only: set `accept = [\"test\"]` or both on the source to run \
                 them"
                    .to_owned(),
            ),
            (Self::Test, false) => {
                Some("a live event of the provider's, and the source accepts test ones only (`accept`)".to_owned())
            }
            (Self::Live, false) | (Self::Test, true) | (Self::Both, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_events_have_no_effect_where_nobody_asked_for_them() {
        let with = |mode: &str| vec![(MODE.to_owned(), mode.to_owned())];
        for (accept, mode, accepted) in [
            (Accept::Live, Some("live"), true),
            (Accept::Live, Some("test"), false),
            (Accept::Live, None, true),
            (Accept::Test, Some("test"), true),
            (Accept::Test, Some("live"), false),
            (Accept::Test, None, false),
            (Accept::Both, Some("test"), true),
            (Accept::Both, None, true),
        ] {
            let attributes = mode.map(with).unwrap_or_default();
            assert_eq!(accept.why_not(&attributes).is_none(), accepted, "{accept:?} {mode:?}");
        }
    }

    #[test]
    fn a_list_of_modes_is_read_whole() {
        assert_eq!(Accept::of(&["live"]), Some(Accept::Live));
        assert_eq!(Accept::of(&["test", "live"]), Some(Accept::Both));
        assert_eq!(Accept::of(&["test", "test"]), Some(Accept::Test));
        assert_eq!(Accept::of(&[]), None);
        assert_eq!(Accept::of(&["live", "sandbox"]), None);
    }
}
