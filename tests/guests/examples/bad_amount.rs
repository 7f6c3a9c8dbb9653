//! Proposes a credit of −5. Ends `invalid-output`.

use tollgate_guests::{Event, Failure, Guest, Proposal, credit};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(vec![credit("bad", -5, "USD")])
    }
}

tollgate_guests::guest!(Component, "bad_amount");
