//! Adds 1 to the state value `count` (decimal text) and flags with the new count as its reason, key `counter:{event id}`.
//! Ends `completed`; n events leave `count` at n, however many workers there are.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag, state};

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let before = state::get("count")
            .and_then(|value| String::from_utf8(value).ok())
            .and_then(|text| text.parse().ok());
        let count = before.unwrap_or(0_u64) + 1;
        state::set("count", count.to_string().as_bytes());
        Ok(vec![flag(&format!("counter:{}", event.id), 1, vec![count.to_string()])])
    }
}

tollgate_guests::guest!(Component, "counter");
