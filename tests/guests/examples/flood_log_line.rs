//! Logs one line of 8 MB, then would behave. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag, log};

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        log::write(log::Level::Info, &"x".repeat(8_000_000));
        Ok(vec![flag(&format!("flood:{}", event.id), 1, Vec::new())])
    }
}

tollgate_guests::guest!(Component, "flood_log_line");
