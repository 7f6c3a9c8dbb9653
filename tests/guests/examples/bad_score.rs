//! Flags with a score of 101. Ends `invalid-output`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(vec![flag("bad", 101, Vec::new())])
    }
}

tollgate_guests::guest!(Component, "bad_score");
