//! Asks for a person. Ends `held`.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Err(Failure::Hold("somebody look at this".into()))
    }
}

tollgate_guests::guest!(Component, "hold");
