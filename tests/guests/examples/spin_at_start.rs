//! Never finishes being instantiated. Refused by vetting (trial instantiation), or ends `out-of-fuel` or `deadline`.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(Vec::new())
    }
}

tollgate_guests::guest!(Component, "spin_at_start");

/// Called when the component is instantiated.
#[unsafe(export_name = "_initialize")]
extern "C" fn initialize() {
    #[expect(clippy::empty_loop, reason = "this is the misbehaviour")]
    loop {}
}
