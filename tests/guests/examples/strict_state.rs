//! Keeps how often a customer came in the state value `visits`, as `{"visits":N}`. Reads exactly that form, and holds an event that
//! finds another there: the version before `wider_state`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag, state};

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let visits = match state::get("visits") {
            None => 0_u64,
            Some(value) => String::from_utf8(value)
                .ok()
                .and_then(|text| text.strip_prefix(r#"{"visits":"#)?.strip_suffix('}')?.parse().ok())
                .ok_or_else(|| Failure::Hold("state `visits`: unknown field".to_owned()))?,
        };
        state::set("visits", format!(r#"{{"visits":{}}}"#, visits + 1).as_bytes());
        Ok(vec![flag(&format!("visit:{}", event.id), 1, vec![])])
    }
}

tollgate_guests::guest!(Component, "strict_state");
