//! Logs for ever. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, log};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        loop {
            log::write(log::Level::Info, "and another thing");
        }
    }
}

tollgate_guests::guest!(Component, "flood_logs");
