//! The fast pool: each of its threads takes jobs from one line and sees them through, from the preparation to the settlement.
//!
//! A thread runs one plugin at a time. While the store commits what was settled it takes the next job, and what the store answers
//! comes to it once per commit: so a job is handed from one thread to another only where it must be, to the writer and back.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tollgate_store::ReplyBatcher;

use crate::thread_priority;

/// The line before the fast pool. Dropping it ends them, each after its current run; what has not settled then is left.
pub(super) struct FastPool<J> {
    line: Arc<Line<J>>,
    threads: usize,
}

struct Line<J> {
    inside: Mutex<Inside<J>>,
    filled: Notify,
}

struct Inside<J> {
    waiting: VecDeque<J>,
    is_closed: bool,
}

impl<J: Send + 'static> FastPool<J> {
    /// Starts `threads` threads, at least one, that do `process` with each job. It may block: its thread is its own. A panic in it
    /// costs its job and no other.
    pub(super) fn start<F>(threads: usize, process: impl Fn(J) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let threads = threads.max(1);
        let line = Arc::new(Line {
            inside: Mutex::new(Inside {
                waiting: VecDeque::new(),
                is_closed: false,
            }),
            filled: Notify::new(),
        });
        // What may block elsewhere, such as loading a plugin, does so on the threads of the one runtime there is.
        let runtime = Handle::current();
        for at in 0..threads {
            let (line, process, runtime) = (Arc::clone(&line), process.clone(), runtime.clone());
            let spawned = std::thread::Builder::new().name(format!("plugin-{at}")).spawn(move || {
                thread_priority::lower_to_work();
                runtime.block_on(LocalSet::new().run_until(work(&line, process)));
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "a plugin thread could not start");
            }
        }
        Self { line, threads }
    }

    /// Puts jobs at the end of the line.
    pub(super) fn hand_in(&self, jobs: Vec<J>) {
        let wanted = jobs.len().min(self.threads);
        self.line.inside().waiting.extend(jobs);
        for _ in 0..wanted {
            self.line.filled.notify_one();
        }
    }
}

impl<J> Drop for FastPool<J> {
    fn drop(&mut self) {
        self.line.inside().is_closed = true;
        for _ in 0..self.threads {
            self.line.filled.notify_one();
        }
        self.line.filled.notify_waiters();
    }
}

/// One thread's work.
async fn work<J, F>(line: &Line<J>, process: impl Fn(J) -> F)
where
    F: Future<Output = ()> + 'static,
{
    spawn_local(ReplyBatcher::of_this_thread().run());
    while let Some(job) = line.next().await {
        spawn_local(process(job));
        // The job runs now, and what others waited for goes on; then comes the next.
        yield_now().await;
    }
}

impl<J> Line<J> {
    fn inside(&self) -> MutexGuard<'_, Inside<J>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; none when the line is closed.
    async fn next(&self) -> Option<J> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            let mut filled = pin!(self.filled.notified());
            // From here on no notification is missed; one that came before is found in the line.
            filled.as_mut().enable();
            if let Some(next) = self.try_next() {
                return next;
            }
            filled.await;
        }
    }

    /// None while it must be waited for.
    fn try_next(&self) -> Option<Option<J>> {
        let mut inside = self.inside();
        if inside.is_closed {
            return Some(None);
        }
        inside.waiting.pop_front().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_panic_costs_one_job_and_no_thread() {
        let (done, seen) = mpsc::channel();
        let pool = FastPool::start(1, move |job: u32| {
            let done = done.clone();
            async move {
                assert!(job != 2, "on purpose");
                let _ = done.send(job);
            }
        });
        pool.hand_in(vec![1, 2, 3]);
        let seen = tokio::task::spawn_blocking(move || [seen.recv_timeout(SOON), seen.recv_timeout(SOON)]);
        assert_eq!(seen.await.unwrap(), [Ok(1), Ok(3)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn who_blocks_holds_up_one_thread_and_who_waits_none() {
        let (done, seen) = mpsc::channel();
        let (release, blocked) = mpsc::channel::<()>();
        let (blocked, never) = (Arc::new(Mutex::new(blocked)), Arc::new(Notify::new()));
        let pool = FastPool::start(2, move |job: u32| {
            let (done, blocked, never) = (done.clone(), Arc::clone(&blocked), Arc::clone(&never));
            async move {
                match job {
                    0 => drop(blocked.lock().unwrap().recv()),
                    1 => never.notified().await,
                    _ => drop(done.send(job)),
                }
            }
        });
        pool.hand_in(vec![0]);
        pool.hand_in(vec![1, 1, 2, 3]);
        pool.hand_in(vec![4]);
        let mut seen: Vec<u32> =
            tokio::task::spawn_blocking(move || (0..3).map_while(|_| seen.recv_timeout(SOON).ok()).collect())
                .await
                .unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [2, 3, 4]);
        drop(release);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn without_a_line_the_threads_end() {
        let alive = Arc::new(());
        let its = Arc::clone(&alive);
        let pool = FastPool::start(2, move |(): ()| {
            let its = Arc::clone(&its);
            async move { drop(its) }
        });
        drop(pool);
        for _ in 0..1000 {
            if Arc::strong_count(&alive) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a thread holds on");
    }
}
