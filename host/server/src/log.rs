//! Log lines on standard error, written by a thread of their own: nothing waits for whoever reads them.
//!
//! A reader that stands still, a full disk or a closed pipe costs lines and nothing else. Lines wait in a queue of bounded size;
//! what finds no room, or cannot be written, is left out and counted, and as soon as a line goes through again one more says how
//! many were.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The most bytes of lines that may wait.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a stop waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// The pause before a descriptor that takes nothing now is tried again; somebody else made it non-blocking.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// The one log of this process.
static LOG: Log = Log::new();

/// Sends log lines to standard error. `TOLLGATE_LOG` filters them as tracing's `EnvFilter` does (default `info`).
///
/// # Errors
/// When the system starts no thread.
pub fn start(format: LogFormat) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("TOLLGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(|| LOG.write_on(io::stderr()))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines)
        // What it would say of its own errors it would say on standard error.
        .log_internal_errors(false)
        .with_target(false);
    // A second start in one process (tests) keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // Of a thread that panics as well: the system's own words go straight to standard error, which may take none.
    std::panic::set_hook(Box::new(|panic| tracing::error!("a thread panicked: {panic}")));
    Ok(())
}

/// Lets a last text follow the log's lines, and waits a moment until all of it is written: a process that ends does not write on.
pub fn end_with(text: &str) {
    if !text.is_empty() {
        LOG.hand_in(text.as_bytes());
    }
    LOG.flush(FLUSH_MAX);
}

/// Lists the log's metrics.
pub(crate) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(LeftOut));
}

/// How many lines were left out so far.
#[derive(Debug)]
struct LeftOut;

impl Collector for LeftOut {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let left_out = ConstCounter::new(LOG.left_out_total.load(Ordering::Relaxed));
        let help = "Log lines that could not be written.";
        let metric = encoder.encode_descriptor("log_lines_left_out", help, None, left_out.metric_type())?;
        left_out.encode(metric)
    }
}

struct Log {
    waiting: Mutex<Waiting>,
    /// Wakes the thread that writes.
    handed_in: Condvar,
    /// Wakes whoever waits for all lines.
    written: Condvar,
    left_out_total: AtomicU64,
}

struct Waiting {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Lines that are not in the log and that it does not speak of yet.
    left_out: u64,
    is_writing: bool,
}

impl Log {
    const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: VecDeque::new(),
                bytes: 0,
                left_out: 0,
                is_writing: false,
            }),
            handed_in: Condvar::new(),
            written: Condvar::new(),
            left_out_total: AtomicU64::new(0),
        }
    }

    /// Puts a line in the queue, or leaves it out when there is no room. Never waits for a writer.
    fn hand_in(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.bytes + line.len() > WAITING_BYTES_MAX {
            self.leave_out(&mut waiting, 1);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.into());
        self.handed_in.notify_one();
    }

    /// Writes lines for as long as the process lives.
    fn write_on(&self, mut out: impl Write) {
        loop {
            let line = self.next();
            let done = write_whole(&mut out, &line);
            let mut waiting = self.waiting();
            waiting.bytes -= line.len();
            match done {
                Ok(()) if waiting.left_out > 0 => {
                    let left_out = std::mem::take(&mut waiting.left_out);
                    drop(waiting);
                    if say_at_once(left_out).is_err() {
                        self.leave_out(&mut self.waiting(), left_out);
                        self.left_out_total.fetch_sub(left_out, Ordering::Relaxed);
                    }
                }
                Ok(()) => {}
                Err(_) => self.leave_out(&mut waiting, 1),
            }
        }
    }

    fn next(&self) -> Box<[u8]> {
        let mut waiting = self.waiting();
        waiting.is_writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.is_writing = true;
                return line;
            }
            self.written.notify_all();
            waiting = self.handed_in.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave_out(&self, waiting: &mut Waiting, lines: u64) {
        waiting.left_out += lines;
        self.left_out_total.fetch_add(lines, Ordering::Relaxed);
    }

    /// Waits until all lines are written, for so long at most.
    fn flush(&self, longest: Duration) {
        let start = Instant::now();
        let mut waiting = self.waiting();
        while !waiting.lines.is_empty() || waiting.is_writing {
            let Some(left) = longest.checked_sub(start.elapsed()) else {
                return;
            };
            let waited = self.written.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_whole(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_AFTER),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

thread_local! {
    /// Set on the thread that writes while it says something of its own: how that went.
    static AT_ONCE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Says how many lines are missing, before those that wait. For the thread that writes.
fn say_at_once(left_out: u64) -> io::Result<()> {
    AT_ONCE.set(Some(true));
    tracing::warn!(
        left_out,
        "log lines were left out here: they could not be written, or came faster than they were"
    );
    match AT_ONCE.take() {
        Some(false) => Err(ErrorKind::Other.into()),
        Some(true) | None => Ok(()),
    }
}

/// Where tracing writes its lines, each in one call.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if AT_ONCE.get().is_some() {
            AT_ONCE.set(Some(write_whole(&mut io::stderr(), line).is_ok()));
        } else {
            LOG.hand_in(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes a line when it is told to.
    struct Gate {
        go: Receiver<io::Result<()>>,
        took: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.go.recv().unwrap_or(Err(ErrorKind::BrokenPipe.into()))?;
            let _ = self.took.send(line.to_vec());
            Ok(line.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn logs_never_decide_who_hands_a_line_in_does_not_wait_and_what_is_left_out_is_counted() {
        let log = Arc::new(Log::new());
        let ((go, gone), (took, taken)) = (channel(), channel());
        {
            let log = Arc::clone(&log);
            // It ends with the test's process.
            std::thread::spawn(move || log.write_on(Gate { go: gone, took }));
        }
        let line = vec![b'x'; 64 * 1024];
        let start = Instant::now();
        let fit = WAITING_BYTES_MAX / line.len();
        for _ in 0..fit + 7 {
            log.hand_in(&line);
        }
        log.flush(Duration::from_millis(50));
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "nobody waits for a reader that stands still"
        );
        assert_eq!(
            log.left_out_total.load(Ordering::Relaxed),
            7,
            "what is being written counts as well"
        );
        // One is lost on the way, the others are taken.
        go.send(Err(ErrorKind::StorageFull.into())).unwrap();
        for _ in 1..fit {
            go.send(Ok(())).unwrap();
            assert_eq!(taken.recv().unwrap().len(), line.len());
        }
        log.flush(Duration::from_secs(5));
        assert_eq!(log.left_out_total.load(Ordering::Relaxed), 8);
        assert_eq!(log.waiting().left_out, 0, "that so many are missing was said");
        log.hand_in(b"more");
        go.send(Ok(())).unwrap();
        assert_eq!(taken.recv().unwrap(), b"more");
    }
}
