//! Writes state, then holds. Ends `held`, and the write is not committed.

use tollgate_guests::{Event, Failure, Guest, Proposal, state};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        state::set("count", b"1");
        Err(Failure::Hold("after a write".into()))
    }
}

tollgate_guests::guest!(Component, "state_then_fail");
