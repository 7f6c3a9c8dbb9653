//! Reads the same state key for ever. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, state};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        loop {
            std::hint::black_box(state::get("key"));
        }
    }
}

tollgate_guests::guest!(Component, "flood_host_calls");
