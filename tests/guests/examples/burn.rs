//! Turns a loop as often as the configuration says (a decimal number), then behaves. Ends `completed`, or `out-of-fuel` when
//! the number is too high for the budget.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag};

struct Component;

impl Guest for Component {
    fn process(event: Event, config: String) -> Result<Vec<Proposal>, Failure> {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for turn in 0..config.trim().parse::<u64>().unwrap_or(0) {
            hash = (hash ^ turn).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(vec![flag(&format!("burn:{}", event.id), 1, vec![hash.to_string()])])
    }
}

tollgate_guests::guest!(Component, "burn");
