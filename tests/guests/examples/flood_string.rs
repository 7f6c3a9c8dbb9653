//! Answers with one string of 40 MB. Ends `output-too-big`, or `memory` where a plugin may have less than about 42 MB.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        // Fresh memory is zero, so this costs next to no fuel.
        // SAFETY: zeros are UTF-8.
        let reason = unsafe { String::from_utf8_unchecked(vec![0; 40_000_000]) };
        Ok(vec![flag("flood", 1, vec![reason])])
    }
}

tollgate_guests::guest!(Component, "flood_string");
