//! Traps while it is instantiated. Refused by vetting (trial instantiation), or ends `trap`.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(Vec::new())
    }
}

tollgate_guests::guest!(Component, "trap_at_start");

/// Called when the component is instantiated.
#[unsafe(export_name = "_initialize")]
extern "C" fn initialize() {
    tollgate_guests::trap()
}
