//! Proposes a credit in a currency that is no code. Ends `invalid-output`.

use tollgate_guests::{Event, Failure, Guest, Proposal, credit};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(vec![credit("bad", 5, "DOLLARS")])
    }
}

tollgate_guests::guest!(Component, "bad_currency");
