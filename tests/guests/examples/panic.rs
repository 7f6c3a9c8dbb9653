//! Panics, with the message sent to the log first, as the SDK does it. Ends `trap`, and the run's log says why.

use tollgate_guests::{Event, Failure, Guest, Proposal, log};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        std::panic::set_hook(Box::new(|panic| log::write(log::Level::Error, &panic.to_string())));
        panic!("the rule met an event that it cannot read")
    }
}

tollgate_guests::guest!(Component, "panic");
