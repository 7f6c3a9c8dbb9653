//! What the probe must not be: reaches a clock, randomness and a file, so that the check of imports is seen to see.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::SystemTime;

fn main() {
    black_box(SystemTime::now());
    black_box(HashMap::from([(black_box(1), 2)]));
    let _unread = black_box(std::fs::read(black_box("file")));
}
