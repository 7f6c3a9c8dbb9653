//! Never returns. Ends `out-of-fuel`, or `deadline` when the fuel lasts longer.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        #[expect(clippy::empty_loop, reason = "this is the misbehaviour")]
        loop {}
    }
}

tollgate_guests::guest!(Component, "spin");
