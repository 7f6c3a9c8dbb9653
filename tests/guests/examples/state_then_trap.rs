//! Writes state, then traps. Ends `trap`, and the write is not committed.

use tollgate_guests::{Event, Failure, Guest, Proposal, state};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        state::set("count", b"1");
        tollgate_guests::trap()
    }
}

tollgate_guests::guest!(Component, "state_then_trap");
