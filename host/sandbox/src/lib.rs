//! Runs plugins: the only crate that knows wasmtime and WIT.
//!
//! A [`Sandbox`] vets and compiles a component into a [`Plugin`]; [`Plugin::run`] turns one event into exactly one
//! [`Outcome`](tollgate_core::outcome::Outcome), whatever the plugin does. What a plugin gets is its arguments, its own state and
//! its log, as `wit/tollgate.wit` says; there is no clock, random number, file, socket or environment variable to be had,
//! because none is linked in.
//!
//! A plugin is untrusted. Each bound on it, with what the bound does not stop, stands at [`RunLimits`]. What is wrong with a
//! component and how to mend it is said by [`Refusal`].
#![deny(unsafe_code)]

// What comes in, and why it is refused.
mod inspect;
mod refusal;

// How it becomes machine code.
mod cache;
mod compile;
mod engine;

// How it runs.
mod contract;
mod limits;
mod pool;
mod host;
mod run;

mod sandbox;

pub use cache::CacheDir;
pub use compile::{Compiler, compile_child_main};
pub use engine::PoolTuning;
pub use inspect::{carries_golden, imports, manifest_of, with_golden, with_manifest};
pub use limits::{RunLimits, StateSource};
pub use refusal::{Found, Refusal};
pub use run::{Plugin, Run, RunInput};
pub use sandbox::{GoldenEnding, Proven, Sandbox, SandboxError, SandboxOptions, VetReport};

/// What runs the plugins, as kept with each run: a recorded run repeats exactly only on the same one.
pub const RUNTIME: &str = "wasmtime 48.0.8";
