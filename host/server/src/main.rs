//! The `tollgate` binary. Follow one event by reading downwards: `edge` proves and admits it, `worker` runs its plugins and
//! settles what they propose, `delivery` sends what was recorded, `operator` and `cli` show what became of it.

mod cli;
mod clock;
mod config;
mod delivery;
mod edge;
mod operator;
mod outbound;
mod serve;
mod telemetry;
mod worker;

fn main() -> std::process::ExitCode {
    cli::main()
}
