//! Behaves, but has no manifest. Refused by vetting.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(Vec::new())
    }
}

tollgate_guests::bindings::export_guest!(Component with_types_in tollgate_guests::bindings);
