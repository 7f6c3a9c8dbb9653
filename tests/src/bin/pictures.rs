//! Makes the pictures of docs/console.md: `cargo xtask pictures`. With a folder, pictures of every page go there, to be looked at.

use std::path::Path;

use tollgate_tests::console::pictures;
use tollgate_tests::root;

fn main() {
    match std::env::args().nth(1) {
        Some(folder) => pictures(Path::new(&folder), true),
        None => pictures(&root().join("docs/images"), false),
    }
}
