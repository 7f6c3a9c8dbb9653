//! Prints `docs/providers.md`: `cargo run -p tollgate-core --example providers > docs/providers.md`.
#![expect(clippy::print_stdout, reason = "printing is what this example is for")]

fn main() {
    print!("{}", tollgate_core::catalogue::markdown());
}
