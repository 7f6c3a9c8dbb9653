//! Sets eight state values of 60 KiB, each allowed, together too much for one run. Ends `output-too-big`.

use tollgate_guests::{Event, Failure, Guest, Proposal, state};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        for number in 0..8 {
            state::set(&format!("big/{number}"), &vec![0; 60 * 1024]);
        }
        Ok(Vec::new())
    }
}

tollgate_guests::guest!(Component, "flood_state_bytes");
