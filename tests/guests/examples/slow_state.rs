//! An event of the type `lay` lays out [`KEYS`] keys, and beside them so much that no host sends all of it along. Any other computes for as
//! long as the number at the end of its id says, and one of the type `read` then reads those keys, up to the first that is not there: where
//! state is brought as it is asked for, it is run as often as there are keys. Ends `completed`.

use tollgate_guests::{Event, Failure, Guest, Proposal, flag, state};

/// Fewer than a run may read.
const KEYS: usize = 60;

struct Component;

impl Guest for Component {
    fn process(event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let key = |at: usize| format!("key/{at}");
        let said = match event.event_type.as_str() {
            "lay" => {
                for at in 0..KEYS {
                    state::set(&key(at), b"1");
                }
                state::set("ballast/1", &[7; 40_000]);
                state::set("ballast/2", &[7; 40_000]);
                KEYS as u64
            }
            kind => {
                let times = event.id.rsplit('-').next().and_then(|number| number.parse().ok());
                let computed = std::hint::black_box(compute(times.unwrap_or(0)));
                match kind {
                    "read" => (0..KEYS).take_while(|at| state::get(&key(*at)).is_some()).count() as u64,
                    _ => computed,
                }
            }
        };
        Ok(vec![flag(&format!("slow:{}", event.id), 1, vec![said.to_string()])])
    }
}

/// Takes so many times 64 000 roots; 2000 are within the default budget. A root takes some fifteen cycles and counts as one unit of fuel where
/// no loop counts beside it, so this is as slow as counted code gets.
fn compute(times: u32) -> u64 {
    let mut root = std::hint::black_box(2.0_f64);
    for _ in 0..4000 * times {
        root = root.sqrt().sqrt().sqrt().sqrt().sqrt().sqrt().sqrt().sqrt();
        root = root.sqrt().sqrt().sqrt().sqrt().sqrt().sqrt().sqrt().sqrt();
    }
    root.to_bits()
}

tollgate_guests::guest!(Component, "slow-state");
