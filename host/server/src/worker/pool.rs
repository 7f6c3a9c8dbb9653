//! A bounded pool of threads for plugin code, which tenants take turns at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tollgate_core::ids::TenantName;

type Task = Box<dyn FnOnce() + Send>;

/// Threads that run one blocking task at a time each. Dropping the pool ends them after their current task; what waits is dropped.
pub(super) struct Pool {
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    inside: Mutex<Inside>,
    filled: Condvar,
}

#[derive(Default)]
struct Inside {
    waiting: Turns<Task>,
    is_closed: bool,
}

/// What waits, by tenant. Whoever has something waiting gets a turn before anybody gets a second one, so a tenant waits for one task
/// of each other tenant at the most, however many those have handed in.
struct Turns<T> {
    waiting: BTreeMap<TenantName, VecDeque<T>>,
    /// Each tenant of `waiting` once, the next one first.
    order: VecDeque<TenantName>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Turns<T> {
    fn push(&mut self, tenant: &TenantName, task: T) {
        match self.waiting.get_mut(tenant) {
            Some(its) => its.push_back(task),
            None => {
                self.waiting.insert(tenant.clone(), VecDeque::from([task]));
                self.order.push_back(tenant.clone());
            }
        }
    }

    fn pop(&mut self) -> Option<T> {
        let tenant = self.order.pop_front()?;
        let its = self.waiting.get_mut(&tenant)?;
        let task = its.pop_front();
        if its.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        task
    }
}

impl Pool {
    /// Starts `threads` threads of that name, at least one; each calls `begin` first.
    pub(super) fn start(name: &str, threads: usize, begin: fn()) -> Self {
        let line = Arc::new(Line::default());
        for at in 0..threads.max(1) {
            let line = Arc::clone(&line);
            let spawned = std::thread::Builder::new().name(format!("{name}-{at}")).spawn(move || {
                begin();
                while let Some(task) = line.next() {
                    task();
                }
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "a plugin thread could not start");
            }
        }
        Self { line }
    }

    /// Runs `task` on a plugin thread when it is the tenant's turn. `None` when the pool is gone or the task panicked. Whoever stops
    /// waiting for the answer before the task begins takes it back.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantName,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let task: Task = Box::new(move || {
            if done.is_closed() {
                return;
            }
            // A panic in the host's own code must cost one run, not the thread: the job's lease runs out and it is run again.
            if let Ok(value) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task)) {
                let _ = done.send(value);
            }
        });
        self.line.inside().waiting.push(tenant, task);
        self.line.filled.notify_one();
        result.await.ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.line.inside().is_closed = true;
        self.line.filled.notify_all();
    }
}

impl Line {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next task; none when the pool is gone. The last thread that ends takes with it what still waits.
    fn next(&self) -> Option<Task> {
        let mut inside = self.inside();
        loop {
            if inside.is_closed {
                return None;
            }
            if let Some(task) = inside.waiting.pop() {
                return Some(task);
            }
            inside = self.filled.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_task_and_no_thread() {
        let tenant: TenantName = "acme".parse().unwrap();
        let pool = Pool::start("test", 1, || {});
        assert_eq!(pool.run(&tenant, || 1).await, Some(1));
        assert_eq!(pool.run(&tenant, || -> u8 { panic!("on purpose") }).await, None);
        assert_eq!(pool.run(&tenant, || 2).await, Some(2));
    }

    #[test]
    fn who_waits_gets_a_turn_before_anybody_gets_a_second_one() {
        let [acme, storm, zeta]: [TenantName; 3] = ["acme", "storm", "zeta"].map(|name| name.parse().unwrap());
        let mut turns = Turns::default();
        for number in 0..40 {
            turns.push(&storm, ("storm", number));
        }
        assert_eq!(turns.pop(), Some(("storm", 0)));
        turns.push(&zeta, ("zeta", 0));
        turns.push(&zeta, ("zeta", 1));
        turns.push(&acme, ("acme", 0));
        let next: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(
            next[..6],
            [
                ("storm", 1),
                ("zeta", 0),
                ("acme", 0),
                ("storm", 2),
                ("zeta", 1),
                ("storm", 3)
            ]
        );
        assert_eq!(next.len(), 39 + 3, "and nothing is lost");
        assert!(turns.waiting.is_empty() && turns.order.is_empty());
    }

    #[tokio::test]
    async fn who_stops_waiting_takes_the_task_back() {
        let tenant: TenantName = "acme".parse().unwrap();
        let pool = Pool::start("test", 1, || {});
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (ran, was_run) = std::sync::mpsc::channel::<()>();
        let blocks = pool.run(&tenant, move || {
            let _ = held.recv();
        });
        let given_up = pool.run(&tenant, move || {
            let _ = ran.send(());
        });
        let moment = std::time::Duration::from_millis(50);
        let (mut blocks, given_up) = (Box::pin(blocks), Box::pin(given_up));
        assert!(tokio::time::timeout(moment, &mut blocks).await.is_err());
        assert!(tokio::time::timeout(moment, given_up).await.is_err());
        drop(release);
        assert_eq!(blocks.await, Some(()));
        assert_eq!(pool.run(&tenant, || 3).await, Some(3));
        assert!(was_run.recv().is_err(), "it was dropped, not run");
    }
}
