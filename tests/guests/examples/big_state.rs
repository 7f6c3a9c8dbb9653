//! As `counter`, and keeps 40 000 bytes under each event's own key. An event of the type `strict` takes it for granted that there
//! is a count, and panics when there is none. Ends `completed`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag, state};

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let before = state::get("count").map(|value| String::from_utf8_lossy(&value).parse().unwrap_or(0_u64));
        let count = match event.event_type.as_str() {
            "strict" => before.expect("a count"),
            _ => before.unwrap_or(0),
        } + 1;
        state::set("count", count.to_string().as_bytes());
        state::set(&format!("ballast:{}", event.id), &[7; 40_000]);
        Ok(vec![flag(&format!("counter:{}", event.id), 1, vec![count.to_string()])])
    }
}

tollgate_guests::guest!(Component, "big-state");
