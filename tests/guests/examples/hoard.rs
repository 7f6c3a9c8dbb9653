//! Takes memory, 1 MiB at a time, and never gives any back. Ends `memory`.

use tollgate_guests::{Event, Failure, Guest, Proposal};

struct Component;

impl Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(vec![1; 1024 * 1024]);
            std::hint::black_box(&hoard);
        }
    }
}

tollgate_guests::guest!(Component, "hoard");
