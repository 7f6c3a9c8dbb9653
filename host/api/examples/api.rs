//! Prints `docs/api.md`: `cargo run -p tollgate-api --features document --example api > docs/api.md`.
#![expect(clippy::print_stdout, reason = "printing is what this example is for")]

fn main() {
    print!("{}", tollgate_api::page::markdown());
}
