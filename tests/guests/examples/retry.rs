//! Asks for another try after 5000 ms. Ends `retry-after`.

use tollgate_guests::{Event, Failure, Guest, Proposal, RetryLater};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Err(Failure::Retry(RetryLater {
            after_ms: Some(5000),
            message: "not yet".into(),
        }))
    }
}

tollgate_guests::guest!(Component, "retry");
