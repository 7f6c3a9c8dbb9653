//! Asks for another try after 2^64−1 ms. Ends `retry-after`; the host caps the wait.

use tollgate_guests::{Event, Failure, Guest, Proposal, RetryLater};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Err(Failure::Retry(RetryLater {
            after_ms: Some(u64::MAX),
            message: "never".into(),
        }))
    }
}

tollgate_guests::guest!(Component, "huge_retry_after");
