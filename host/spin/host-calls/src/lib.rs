//! Stands behind an enclosed plugin's imports: its state and its log. The rules of a run's calls are the core's.
//!
//! A bound that is crossed makes the run void, but does not end it at once: a trap would take the reason with it. Nothing that the
//! plugin does afterwards counts. One that goes on calling is ended by a trap after all, because Spin would let it go on for ever.

use std::cell::RefCell;
use std::collections::BTreeMap;

use tollgate_core::host_calls::{HostCallLimits, HostCalls, Stop};
use tollgate_core::outcome::LogLevel;
use tollgate_core::state::StateValue;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../wit"],
        world: "tollgate:runner/plugin-imports@1.0.0",
        generate_all,
    });
}

use bindings::exports::tollgate::plugin::{log, state};
use bindings::exports::tollgate::runner::host_calls;

/// One run. An instance serves one, so one place is enough.
struct Run {
    host_calls: HostCalls,
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

struct Component;

impl state::Guest for Component {
    fn get(key: String) -> Option<Vec<u8>> {
        call(|run| {
            let Run {
                host_calls,
                at_hand,
                complete,
                ..
            } = run;
            let known = at_hand.contains_key(&key);
            let value = host_calls.get(key.clone(), &|key| {
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
        call(|run| run.host_calls.put(key, Some(value)));
    }

    fn delete(key: String) {
        call(|run| run.host_calls.put(key, None));
    }
}

impl log::Guest for Component {
    fn write(level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        call(|run| run.host_calls.log(level, &message));
    }
}

impl host_calls::Guest for Component {
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
            host_calls: HostCalls::new(HostCallLimits::default()),
            at_hand,
            complete,
            missing: Vec::new(),
            stop: None,
            calls_after_stop: 0,
        }));
    }

    fn close() -> host_calls::Remains {
        let Some(run) = RUN.take() else {
            return host_calls::Remains {
                reads: Vec::new(),
                writes: Vec::new(),
                logs: Vec::new(),
                missing: Vec::new(),
                stop: None,
            };
        };
        let remains = run.host_calls.into_remains();
        let line = |line: tollgate_core::outcome::LogLine| host_calls::Line {
            level: match line.level {
                LogLevel::Debug => 0,
                LogLevel::Info => 1,
                LogLevel::Warn => 2,
                LogLevel::Error => 3,
            },
            message: line.message,
        };
        host_calls::Remains {
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
            stop: run.stop.map(|stop| host_calls::Stop {
                fault: stop.fault.as_str().to_owned(),
                message: stop.message,
            }),
        }
    }
}

bindings::export!(Component with_types_in bindings);
