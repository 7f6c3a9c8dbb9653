//! Answers with 100 000 proposals. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok((0..100_000)
            .map(|number| flag(&format!("flood:{number}"), 1, Vec::new()))
            .collect())
    }
}

tollgate_guests::guest!(Component, "flood_output");
