//! Bulk actions (promise O11): one thing done to everything that fits a filter, by an object with progress that a person can end.
//!
//! A bulk action walks its list once, from one end to the other ([`BulkAction::direction`]), in steps. What a step does and how far it came are
//! one commit, so that a restart goes on behind it and nothing is done twice: what was put back and ended again lies behind the walk.

use std::fmt;
use std::str::FromStr;

use crate::filter::{Direction, Listing};
use crate::mask;

/// What is done to each item that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BulkAction {
    /// A job that ended runs again.
    Replay,
    /// A delivery that was given up is tried again; one that arrived is sent again, under its own names.
    Redeliver,
    /// An event gets the jobs that the routes of now give to it and that it lacks.
    Route,
    /// A person says that nothing is to be done about a held job or event.
    Dismiss,
    /// A person gives held events a status, and the lifecycle judges each by its own subject.
    Map,
}

impl BulkAction {
    /// Every action, in the order of this enum.
    pub const ALL: [Self; 5] = [Self::Replay, Self::Redeliver, Self::Route, Self::Dismiss, Self::Map];

    /// The word in requests and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Redeliver => "redeliver",
            Self::Route => "route",
            Self::Dismiss => "dismiss",
            Self::Map => "map",
        }
    }

    /// The lists whose items it may be done to; the one that is meant where nobody says which stands in front.
    pub fn lists(self) -> &'static [Listing] {
        match self {
            Self::Replay => &[Listing::Jobs],
            Self::Redeliver => &[Listing::Deliveries],
            Self::Route | Self::Map => &[Listing::Events],
            Self::Dismiss => &[Listing::Jobs, Listing::Events],
        }
    }

    /// The way through the list. Where events get new jobs, the older event goes first: what is of one subject runs in the order in which the
    /// jobs were made (promise P8).
    pub fn direction(self) -> Direction {
        match self {
            Self::Route | Self::Map => Direction::OldestFirst,
            Self::Replay | Self::Redeliver | Self::Dismiss => Direction::NewestFirst,
        }
    }
}

impl fmt::Display for BulkAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BulkAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str);
                format!(
                    "`{}` is no bulk action; there are: {}",
                    mask::line(text, 60),
                    known.join(", ")
                )
            })
    }
}

/// How far a bulk action has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BulkState {
    /// It goes on.
    Running,
    /// It has been through its list.
    Done,
    /// Somebody ended it. What it did until then stays done.
    Aborted,
}

impl BulkState {
    /// Every state, in the order of this enum.
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Aborted];

    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Aborted => "aborted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o11_an_action_is_read_by_its_word_and_has_a_list() {
        for action in BulkAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
            assert!(action.lists().iter().all(|list| list.is_of_events()));
        }
        // Those that give events new jobs, whose numbers are a subject's order.
        let upward = BulkAction::ALL
            .into_iter()
            .filter(|action| action.direction() == Direction::OldestFirst);
        assert_eq!(upward.collect::<Vec<_>>(), [BulkAction::Route, BulkAction::Map]);
        let said = "delete\u{202e}".parse::<BulkAction>().unwrap_err();
        assert!(
            said.contains("replay, redeliver, route, dismiss, map") && !said.contains('\u{202e}'),
            "{said}"
        );
    }
}
