//! Sets a new state key for ever. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, state};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        for number in 0_u64.. {
            state::set(&format!("key/{number}"), b"1");
        }
        Ok(Vec::new())
    }
}

tollgate_guests::guest!(Component, "flood_state");
