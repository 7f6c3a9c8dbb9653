//! Compresses the log's full segments beside the writer, on a thread that gives way to all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::files::StorePath;
use crate::StoreError;
use crate::log::{self, Contents};

/// After how long what could not be compressed is tried again: whoever makes room on the disk has not to wait for a segment that is full.
const AGAIN: Duration = Duration::from_secs(60);
/// Steps of niceness below whoever opened the store.
const NICER: i32 = 15;

/// The thread that compresses.
#[derive(Debug)]
pub(super) struct Compressor {
    asks: Option<SyncSender<()>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Compressor {
    /// What the last process left is compressed at once.
    pub(super) fn start(path: &StorePath, place: log::Place, contents: Arc<Contents>) -> Result<Self, StoreError> {
        let (asks, asked) = sync_channel(1);
        let ends = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("store-compress".into())
            .spawn({
                let (path, ends) = (path.text.clone(), Arc::clone(&ends));
                move || {
                    give_way();
                    let goes_on = || !ends.load(Ordering::Relaxed);
                    let mut is_behind = false;
                    loop {
                        let done = log::compress_full(&place, &contents, &goes_on);
                        // Said once, however often it is tried.
                        if let Err(error) = &done
                            && goes_on()
                            && !is_behind
                        {
                            tracing::warn!(path, %error, "a full segment of the log was not compressed; it stays as it is, and is tried again");
                        }
                        is_behind = done.is_err();
                        let next = match is_behind {
                            true => asked.recv_timeout(AGAIN),
                            false => asked.recv().map_err(RecvTimeoutError::from),
                        };
                        if next == Err(RecvTimeoutError::Disconnected) {
                            return;
                        }
                    }
                }
            })
            .map_err(|error| path.cannot_open(format_args!("a thread cannot be started: {error}")))?;
        Ok(Self {
            asks: Some(asks),
            ends,
            thread: Some(thread),
        })
    }

    /// A segment is full.
    pub(super) fn ask(&self) {
        // One that is asked already looks at all of them.
        let _ = self.asks.as_ref().map(|asks| asks.try_send(()));
    }

    /// Returns when the thread is gone. A segment that it was at stays as it was.
    pub(super) fn stop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.stop();
    }
}

fn give_way() {
    // Elsewhere than on Linux it would be of the whole process.
    if cfg!(target_os = "linux")
        && let Ok(began) = rustix::process::getpriority_process(None)
    {
        // Without it compressing only takes its turn like all else.
        let _ = rustix::process::setpriority_process(None, began + NICER);
    }
}
