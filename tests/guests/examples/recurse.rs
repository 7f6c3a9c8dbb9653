//! Calls itself until the stack is gone. Ends `memory`.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let depth_max = std::hint::black_box(u64::MAX);
        Err(Failure::Refuse(deeper(0, depth_max).to_string()))
    }
}

tollgate_guests::guest!(Component, "recurse");

#[inline(never)]
fn deeper(depth: u64, depth_max: u64) -> u64 {
    if depth == depth_max {
        return depth;
    }
    // Not a tail call, and nothing that could be turned into a loop.
    deeper(depth + 1, depth_max).rotate_left(7).wrapping_mul(depth | 1) ^ depth
}
