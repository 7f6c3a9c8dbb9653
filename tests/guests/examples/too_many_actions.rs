//! Answers with 65 small proposals, one more than a run may have. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok((0..65)
            .map(|number| flag(&format!("many:{number}"), 1, Vec::new()))
            .collect())
    }
}

tollgate_guests::guest!(Component, "too_many_actions");
