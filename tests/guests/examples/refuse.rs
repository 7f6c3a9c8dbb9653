//! Says that the event is not for it. Ends `refused`.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Err(Failure::Refuse("not for me".into()))
    }
}

tollgate_guests::guest!(Component, "refuse");
