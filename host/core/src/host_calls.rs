//! A run's calls to its host, which read and write the plugin's state and log: what each costs, and where the run must stop.
//!
//! The sandbox puts them behind a plugin's imports natively; on Spin they are linked to the plugin as a component of their own. Where a
//! value comes from is the caller's business: `read` is asked once per key.

use std::collections::BTreeMap;

use crate::limits;
use crate::mask;
use crate::outcome::{Fault, LogLevel, LogLine};
use crate::state::{StateRead, StateValue, StateWrite};

/// The bounds of one run's calls. Crossing any of them but `log_lines_max` ends the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCallLimits {
    /// Calls to state and log.
    pub host_calls_max: u32,
    /// Log lines kept; further ones are counted and dropped.
    pub log_lines_max: usize,
    /// Distinct state keys read or written.
    pub state_keys_max: usize,
    /// State bytes: values read from the store plus every value set.
    pub state_bytes_max: usize,
}

impl Default for HostCallLimits {
    fn default() -> Self {
        Self {
            host_calls_max: limits::RUN_HOST_CALLS_MAX,
            log_lines_max: limits::RUN_LOG_LINES_MAX,
            state_keys_max: limits::STATE_KEYS_PER_RUN_MAX,
            state_bytes_max: limits::STATE_BYTES_PER_RUN_MAX,
        }
    }
}

/// Why the host stops a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Stop {
    /// What the run ends with.
    pub fault: Fault,
    /// Which bound was crossed, or what failed.
    pub message: String,
}

impl Stop {
    fn too_big(message: String) -> Self {
        Self {
            fault: Fault::OutputTooBig,
            message,
        }
    }
}

/// The calls of one run, and what they left so far.
#[derive(Debug)]
pub struct HostCalls {
    limits: HostCallLimits,
    host_calls: u32,
    keys: BTreeMap<String, Key>,
    state_bytes: usize,
    logs: Vec<LogLine>,
    log_lines_dropped: u64,
    last_words: Option<String>,
}

/// One state key as this run knows it.
#[derive(Debug, Default)]
struct Key {
    read: Option<StateValue>,
    write: Option<Option<Vec<u8>>>,
}

/// What a run's calls left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Sorted by key.
    pub reads: Vec<StateRead>,
    /// Sorted by key.
    pub writes: Vec<StateWrite>,
    /// In the order in which they were logged; a last one says how many were dropped.
    pub logs: Vec<LogLine>,
    /// What the plugin logged as an error in its last call: a panic's message, when a trap follows.
    pub last_words: Option<String>,
}

impl HostCalls {
    /// A run that has made no calls yet.
    pub fn new(limits: HostCallLimits) -> Self {
        Self {
            limits,
            host_calls: 0,
            keys: BTreeMap::new(),
            state_bytes: 0,
            logs: Vec::new(),
            log_lines_dropped: 0,
            last_words: None,
        }
    }

    /// The value under `key`. Sees the run's own earlier writes; asks `read` only for what the run does not know yet.
    ///
    /// # Errors
    /// When a bound is crossed, or `read` fails: then the run must end.
    pub fn get(
        &mut self,
        key: String,
        read: &dyn Fn(&str) -> Result<StateValue, String>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        self.enter()?;
        let known = self.key(key.clone())?;
        if let Some(own) = &known.write {
            return Ok(own.clone());
        }
        if let Some(read) = &known.read {
            return Ok(read.value.clone());
        }
        let read = read(&key).map_err(|reason| Stop {
            fault: Fault::HostFault,
            message: format!(
                "the state could not be read: {}",
                mask::line(&reason, limits::RUN_MESSAGE_BYTES_MAX)
            ),
        })?;
        let value = read.value.clone();
        known.read = Some(read);
        self.count_state_bytes(value.as_ref().map_or(0, Vec::len))?;
        Ok(value)
    }

    /// Buffers a write; `None` removes the key.
    ///
    /// # Errors
    /// When a bound is crossed: then the run must end.
    pub fn put(&mut self, key: String, value: Option<Vec<u8>>) -> Result<(), Stop> {
        self.enter()?;
        let bytes = value.as_ref().map_or(0, Vec::len);
        let bytes_max = limits::STATE_VALUE_BYTES_MAX;
        if bytes > bytes_max {
            return Err(Stop::too_big(format!(
                "a state value of {bytes} bytes; at most {bytes_max} are allowed"
            )));
        }
        self.key(key)?.write = Some(value);
        self.count_state_bytes(bytes)
    }

    /// Keeps a log line, or counts it when there are enough.
    ///
    /// # Errors
    /// When the run has made too many calls: then it must end.
    pub fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Stop> {
        self.enter()?;
        let message = mask::line(message, limits::RUN_MESSAGE_BYTES_MAX);
        if level == LogLevel::Error {
            self.last_words = Some(message.clone());
        }
        if self.logs.len() < self.limits.log_lines_max {
            self.logs.push(LogLine { level, message });
        } else {
            self.log_lines_dropped += 1;
        }
        Ok(())
    }

    /// Ends the run's calls.
    pub fn into_remains(self) -> Remains {
        let mut reads = Vec::new();
        let mut writes = Vec::new();
        for (key, Key { read, write }) in self.keys {
            if let Some(value) = write {
                writes.push(StateWrite {
                    key: key.clone(),
                    value,
                });
            }
            if let Some(StateValue { version, value }) = read {
                reads.push(StateRead { key, version, value });
            }
        }
        let mut logs = self.logs;
        if self.log_lines_dropped > 0 {
            let message = format!("{} further log lines were dropped", self.log_lines_dropped);
            logs.push(LogLine {
                level: LogLevel::Warn,
                message,
            });
        }
        Remains {
            reads,
            writes,
            logs,
            last_words: self.last_words,
        }
    }

    /// Counts a call. Every call goes through here first.
    fn enter(&mut self) -> Result<(), Stop> {
        self.last_words = None;
        self.host_calls = self.host_calls.saturating_add(1);
        if self.host_calls > self.limits.host_calls_max {
            return Err(Stop::too_big(format!(
                "more than {} calls into the host (state and log) in one run",
                self.limits.host_calls_max
            )));
        }
        Ok(())
    }

    /// The entry of a key, made when this is the first that the run has to do with it.
    fn key(&mut self, key: String) -> Result<&mut Key, Stop> {
        let bytes_max = limits::STATE_KEY_BYTES_MAX;
        if key.is_empty() {
            return Err(Stop {
                fault: Fault::InvalidOutput,
                message: "a state key is empty".to_owned(),
            });
        }
        if key.len() > bytes_max {
            return Err(Stop::too_big(format!(
                "a state key of {} bytes; at most {bytes_max} are allowed",
                key.len()
            )));
        }
        if self.keys.len() >= self.limits.state_keys_max && !self.keys.contains_key(&key) {
            return Err(Stop::too_big(format!(
                "more than {} state keys in one run",
                self.limits.state_keys_max
            )));
        }
        Ok(self.keys.entry(key).or_default())
    }

    fn count_state_bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.state_bytes = self.state_bytes.saturating_add(bytes);
        if self.state_bytes > self.limits.state_bytes_max {
            return Err(Stop::too_big(format!(
                "more than {} bytes of state read and written in one run",
                self.limits.state_bytes_max
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> StateValue {
        StateValue {
            version: 3,
            value: Some(text.as_bytes().to_vec()),
        }
    }

    #[test]
    fn a_run_sees_its_own_writes_and_reads_each_key_once() {
        let mut host_calls = HostCalls::new(HostCallLimits::default());
        assert_eq!(
            host_calls.get("a".into(), &|_| Ok(value("old"))),
            Ok(Some(b"old".to_vec()))
        );
        assert_eq!(
            host_calls.get("a".into(), &|_| Err("asked twice".into())),
            Ok(Some(b"old".to_vec()))
        );
        host_calls.put("a".into(), None).unwrap();
        assert_eq!(host_calls.get("a".into(), &|_| Err("asked again".into())), Ok(None));
        let remains = host_calls.into_remains();
        assert_eq!(remains.reads.len(), 1);
        assert_eq!(remains.reads[0].version, 3);
        assert_eq!(remains.writes[0].value, None);
    }

    #[test]
    fn each_bound_stops_the_run_by_its_name() {
        let limits = HostCallLimits {
            host_calls_max: 3,
            log_lines_max: 1,
            state_keys_max: 1,
            state_bytes_max: 4,
        };
        let check = |result: Result<(), Stop>, expect: &str| {
            let stop = result.unwrap_err();
            assert_eq!((stop.fault, stop.message.as_str()), (Fault::OutputTooBig, expect));
        };
        let mut host_calls = HostCalls::new(limits);
        host_calls.put("a".into(), None).unwrap();
        check(host_calls.put("b".into(), None), "more than 1 state keys in one run");
        check(
            host_calls.put("a".into(), Some(vec![0; 5])),
            "more than 4 bytes of state read and written in one run",
        );
        check(
            host_calls.log(LogLevel::Info, "x"),
            "more than 3 calls into the host (state and log) in one run",
        );

        let mut host_calls = HostCalls::new(limits);
        host_calls.log(LogLevel::Error, "first").unwrap();
        host_calls.log(LogLevel::Error, "second").unwrap();
        let remains = host_calls.into_remains();
        assert_eq!(remains.last_words.as_deref(), Some("second"));
        assert_eq!(remains.logs[1].message, "1 further log lines were dropped");
    }
}
