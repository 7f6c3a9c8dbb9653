//! Behaves: one flag with score 1, key `good:{event id}`. Ends `completed`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Ok(vec![flag(
            &format!("good:{}", event.id),
            1,
            vec![format!("seen {}", event.event_type)],
        )])
    }
}

tollgate_guests::guest!(Component, "good");
