//! Proposes two credits under one operation key. Ends `invalid-output`.

use tollgate_guests::{Event, Failure, Guest, Proposal, credit};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(vec![credit("same", 5, "USD"), credit("same", 6, "USD")])
    }
}

tollgate_guests::guest!(Component, "repeated_key");
