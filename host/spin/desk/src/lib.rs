//! Stands behind an enclosed plugin's imports: its state and its log. The rules of a run's calls are the core's.
//!
//! A bound that is crossed makes the run void, but does not end it at once: a trap would take the reason with it. Nothing that the
//! plugin does afterwards counts. One that goes on calling is ended by a trap after all, because Spin would let it go on for ever.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tollgate_core::desk::{Desk, DeskLimits, Stop};
use tollgate_core::outcome::LogLevel;
use tollgate_core::state::StateValue;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../wit"],
        world: "tollgate:runner/desk-room@1.0.0",
        generate_all,
    });
}

use bindings::exports::tollgate::plugin::{log, state};
use bindings::exports::tollgate::runner::desk;

/// One run. An instance serves one, so one place is enough.
struct Run {
    desk: Desk,
    at_hand: BTreeMap<String, StateValue>,
    complete: bool,
    missing: Vec<String>,
    stop: Option<Stop>,
    calls_after_stop: u32,
}

/// What a plugin may still call when its run is void already: enough to log its error and to return.
const CALLS_AFTER_STOP_MAX: u32 = 16;

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
}

/// Does one call, unless the run is void already.
fn call<T: Default>(work: impl FnOnce(&mut Run) -> Result<T, Stop>) -> T {
    RUN.with_borrow_mut(|run| match run {
        Some(run) if run.stop.is_none() => work(run).unwrap_or_else(|stop| {
            run.stop = Some(stop);
            T::default()
        }),
        Some(run) => {
            run.calls_after_stop += 1;
            if run.calls_after_stop > CALLS_AFTER_STOP_MAX {
                std::process::abort();
            }
            T::default()
        }
        None => T::default(),
    })
}

struct Room;

impl state::Guest for Room {
    fn get(key: String) -> Option<Vec<u8>> {
        call(|run| {
            let Run {
                desk,
                at_hand,
                complete,
                ..
            } = run;
            let known = at_hand.contains_key(&key);
            let value = desk.get(key.clone(), &|key| {
                let nothing = StateValue {
                    version: 0,
                    value: None,
                };
                Ok(at_hand.get(key).cloned().unwrap_or(nothing))
            })?;
            if !known && !*complete && !run.missing.contains(&key) {
                run.missing.push(key);
            }
            Ok(value)
        })
    }

    fn set(key: String, value: Vec<u8>) {
        call(|run| run.desk.put(key, Some(value)));
    }

    fn delete(key: String) {
        call(|run| run.desk.put(key, None));
    }
}

impl log::Guest for Room {
    fn write(level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        call(|run| run.desk.log(level, &message));
    }
}

impl desk::Guest for Room {
    fn open(values: Vec<(String, i64, Vec<u8>)>, complete: bool) {
        let at_hand = values
            .into_iter()
            .map(|(key, version, value)| {
                // Version 0 is a key that is known not to exist.
                let value = (version != 0).then_some(value);
                (key, StateValue { version, value })
            })
            .collect();
        RUN.set(Some(Run {
            desk: Desk::new(DeskLimits::default()),
            at_hand,
            complete,
            missing: Vec::new(),
            stop: None,
            calls_after_stop: 0,
        }));
    }

    fn close() -> desk::Remains {
        let Some(run) = RUN.take() else {
            return desk::Remains {
                reads: Vec::new(),
                writes: Vec::new(),
                logs: Vec::new(),
                missing: Vec::new(),
                stop: None,
            };
        };
        let remains = run.desk.into_remains();
        let line = |line: tollgate_core::outcome::LogLine| desk::Line {
            level: match line.level {
                LogLevel::Debug => 0,
                LogLevel::Info => 1,
                LogLevel::Warn => 2,
                LogLevel::Error => 3,
            },
            message: line.message,
        };
        desk::Remains {
            reads: remains
                .reads
                .into_iter()
                .map(|read| (read.key, read.version, read.value))
                .collect(),
            writes: remains
                .writes
                .into_iter()
                .map(|write| (write.key, write.value))
                .collect(),
            logs: remains.logs.into_iter().map(line).collect(),
            missing: run.missing,
            stop: run.stop.map(|stop| desk::Stop {
                fault: stop.fault.as_str().to_owned(),
                message: stop.message,
            }),
        }
    }
}

bindings::export!(Room with_types_in bindings);
