//! The `tollgate` binary. Follow one event by reading downwards: `edge` proves and admits it, `worker` runs its plugins and
//! settles what they propose, `delivery` sends what was recorded, `operator` and `cli` show what became of it, and `repeat` runs
//! it again without effects.

mod cli;
mod clock;
mod config;
mod delivery;
mod edge;
mod log;
mod operator;
mod outbound;
mod points;
mod thread_priority;
mod registry;
mod repeat;
mod serve;
mod telemetry;
mod watch;
mod worker;

/// What is allocated on one thread is often freed on another here (an event is made by the edge and dropped by the writer),
/// which the system's allocator pays for with locks. SQLite allocates from it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
