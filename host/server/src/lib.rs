//! The host, as a library: `tollgate serve` and the commands that need what a running host knows are made of it. Follow one event by
//! reading downwards: `edge` proves and admits it, `worker` runs its plugins and settles what they propose, `delivery` sends what was
//! recorded, [`operator`] shows what became of it, and [`repeat`] runs it again without effects.
//!
//! What is public here is what `host/cli` uses, and no more.

mod bulk;
mod cached;
pub mod clock;
pub mod config;
mod delivery;
mod edge;
pub mod log;
pub mod operator;
mod outbound;
mod failpoints;
mod issues;
mod memory;
pub mod registry;
pub mod repeat;
mod seal;
pub mod serve;
pub mod store;
mod telemetry;
mod thread_priority;
mod watch;
mod worker;
