//! Who goes first when the processors do not suffice for everybody: intake, whose senders wait for an answer; then what was taken in,
//! which is durable and may wait; then plugins that take long.
//!
//! The edge's threads and the store's keep the priority that the process was started with.

use std::sync::OnceLock;

/// Steps of niceness below intake. Each is worth a quarter of the processor's time, about.
const WORK: i32 = 5;
const SLOW: i32 = 15;

/// For a thread that runs plugins, delivers or answers operators: call it first.
pub(crate) fn of_work() {
    step_back(WORK);
}

/// For a thread that runs what takes long.
pub(crate) fn of_slow_work() {
    step_back(SLOW);
}

/// Counted from where the process began: threads inherit what the one that started them has.
fn step_back(steps: i32) {
    static BEGAN: OnceLock<i32> = OnceLock::new();
    let process = Some(rustix::process::getpid());
    let began = *BEGAN.get_or_init(|| rustix::process::getpriority_process(process).unwrap_or(0));
    // Elsewhere than on Linux it would be of the whole process.
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::setpriority_process(None, began + steps)
    {
        tracing::warn!(%error, "threads of the worker keep the priority of intake");
    }
}
