//! The version after `strict_state`: does and answers the same, reads its form of the state value `visits`, and writes it with one
//! field more.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag, state};

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let before = state::get("visits").and_then(|value| String::from_utf8(value).ok());
        let digits = |text: &str| -> String {
            let rest = text.strip_prefix(r#"{"visits":"#).unwrap_or_default();
            rest.chars().take_while(char::is_ascii_digit).collect()
        };
        let visits = before.and_then(|text| digits(&text).parse().ok()).unwrap_or(0_u64);
        state::set(
            "visits",
            format!(r#"{{"visits":{},"tier":"gold"}}"#, visits + 1).as_bytes(),
        );
        Ok(vec![flag(&format!("visit:{}", event.id), 1, vec![])])
    }
}

tollgate_guests::guest!(Component, "wider_state");
