//! A wall clock that is set while a process runs: `TOLLGATE_TEST_CLOCK` names a file with the seconds by which it is ahead, or behind when
//! they are negative. Clocks that only go forward are left alone, as the system leaves them alone.

use std::ffi::{OsString, c_int};
use std::sync::OnceLock;

use libc::{CLOCK_REALTIME, CLOCK_REALTIME_COARSE, clockid_t, syscall, time_t, timespec};

#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: whoever calls this keeps to what the system's own function asks.
    let done = unsafe { syscall(libc::SYS_clock_gettime, clock, time) };
    if done != 0 {
        return -1;
    }
    if matches!(clock, CLOCK_REALTIME | CLOCK_REALTIME_COARSE) {
        // SAFETY: the system has just written there.
        unsafe { (*time).tv_sec += ahead_s() };
    }
    0
}

fn ahead_s() -> time_t {
    static FILE: OnceLock<Option<OsString>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("TOLLGATE_TEST_CLOCK")) else {
        return 0;
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
