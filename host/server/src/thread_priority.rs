//! Priorities of the host's threads, for when the processors do not suffice: intake first, whose senders wait for an answer; then work on
//! what was taken in, which is durable and may wait; then plugins that take long.
//!
//! Threads of the edge and of the store keep the priority that the process was started with.

use std::sync::OnceLock;

/// Steps of niceness below intake. Each is worth a quarter of the processor's time, about.
const WORK: i32 = 5;
const SLOW: i32 = 15;

/// Lowers the calling thread to the priority of work. Called first by threads that run plugins, deliver or answer operators.
pub(crate) fn lower_to_work() {
    step_back(WORK);
}

/// Lowers the calling thread to the priority of slow work. Called first by threads that run what takes long.
pub(crate) fn lower_to_slow_work() {
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
