//! The sandbox from outside: what it refuses, how runs end, and that nothing a plugin does outlives its run.
//!
//! Most guests here are core WebAssembly text, a few lines each, that [`guest`] wraps into components. `built` runs the Rust
//! guests of `tests/guests` and the shipped plugins where they have been built.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod guest;

mod built;
mod cache;
mod child;
mod contract;
mod enclosed;
mod metered;
mod runs;
mod vetting;
