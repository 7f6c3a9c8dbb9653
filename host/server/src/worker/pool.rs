//! A bounded pool of threads for plugin code.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

type Task = Box<dyn FnOnce() + Send>;

/// Threads that run one blocking task at a time each. Dropping the pool ends them after their current task.
pub(super) struct Pool {
    tasks: mpsc::Sender<Task>,
}

impl Pool {
    /// Starts `threads` threads of that name, at least one; each calls `begin` first.
    pub(super) fn start(name: &str, threads: usize, begin: fn()) -> Self {
        let (tasks, queue) = mpsc::channel::<Task>();
        let queue = Arc::new(Mutex::new(queue));
        for at in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let spawned = std::thread::Builder::new().name(format!("{name}-{at}")).spawn(move || {
                begin();
                loop {
                    // One thread waits for the next task at a time; the lock is free while a task runs.
                    let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match task {
                        Ok(task) => task(),
                        Err(mpsc::RecvError) => return,
                    }
                }
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "a plugin thread could not start");
            }
        }
        Self { tasks }
    }

    /// Runs `task` on a plugin thread. `None` when the pool is gone or the task panicked.
    pub(super) async fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        let task: Task = Box::new(move || {
            // A panic in the host's own code must cost one run, not the thread: the job's lease runs out and it is run again.
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task)) {
                let _ = done.send(value);
            }
        });
        self.tasks.send(task).ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_task_and_no_thread() {
        let pool = Pool::start("test", 1, || {});
        assert_eq!(pool.run(|| 1).await, Some(1));
        assert_eq!(pool.run(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(pool.run(|| 2).await, Some(2));
    }
}
