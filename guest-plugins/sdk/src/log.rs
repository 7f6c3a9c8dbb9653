//! Lines for the people who operate the plugin. They are kept with the run, bounded in number and length, and never decide
//! anything. Natively (in tests) they go to standard error.

/// For the plugin's author.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// What a run did that its proposals do not show.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Something odd that the rule could deal with.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Something that the rule could not deal with.
pub fn error(message: &str) {
    write(Level::Error, message);
}

#[derive(Debug, Clone, Copy)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: &str) {
    use crate::bindings::tollgate::plugin::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, message);
}

#[cfg(not(target_arch = "wasm32"))]
#[expect(
    clippy::print_stderr,
    reason = "a native test has no host; its harness captures standard error"
)]
fn write(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

/// A panic traps, and a trap carries no message: so the message goes to the log first. Called by [`crate::plugin!`].
#[doc(hidden)]
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}
