//! Answers with one string of 40 MB. Ends `output-too-big`, or `memory` where a plugin may have less than about 42 MB.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let mut reason = String::new();
        if reason.try_reserve_exact(40_000_000).is_err() {
            tollgate_guests::trap();
        }
        reason.extend(std::iter::repeat_n('x', 40_000_000));
        Ok(vec![flag("flood", 1, vec![reason])])
    }
}

tollgate_guests::guest!(Component, "flood_string");
