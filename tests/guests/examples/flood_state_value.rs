//! Sets one state value of 64 KiB and 1 byte, one more than a value may have. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, state};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        state::set("big", &vec![0; 64 * 1024 + 1]);
        Ok(Vec::new())
    }
}

tollgate_guests::guest!(Component, "flood_state_value");
