//! Turns at work that only one may do at a time, divided by asker: an asker with many requests waits behind itself, and delays no other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tollgate_core::ids::TenantName;

/// What one asker may have waiting, and all of them together. Whoever comes beyond is sent away at once.
const WAITING_OF_ONE_MAX: usize = 4;
const WAITING_MAX: usize = 64;

/// Who asks: a tenant, or the operator.
type Asker = Option<TenantName>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    is_taken: bool,
    waiting: BTreeMap<Asker, VecDeque<oneshot::Sender<Turn>>>,
    /// Each asker of `waiting` once, the next one first.
    order: VecDeque<Asker>,
    count: usize,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn(Arc<Mutex<Inside>>);

impl Turns {
    /// Waits for a turn. `None` when as many wait as may. Whoever stops waiting has given its place up.
    pub(crate) async fn take(&self, asker: Asker) -> Option<Turn> {
        let mine = {
            let mut inside = lock(&self.0);
            if !inside.is_taken {
                inside.is_taken = true;
                return Some(Turn(Arc::clone(&self.0)));
            }
            inside.forget_the_gone();
            if inside.count >= WAITING_MAX {
                return None;
            }
            let Inside {
                waiting, order, count, ..
            } = &mut *inside;
            let its = waiting.entry(asker.clone()).or_default();
            if its.len() >= WAITING_OF_ONE_MAX {
                return None;
            }
            if its.is_empty() {
                order.push_back(asker);
            }
            let (turn, mine) = oneshot::channel();
            its.push_back(turn);
            *count += 1;
            mine
        };
        mine.await.ok()
    }
}

impl Inside {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let asker = self.order.pop_front()?;
        let its = self.waiting.get_mut(&asker)?;
        let next = its.pop_front();
        self.count -= usize::from(next.is_some());
        if its.is_empty() {
            self.waiting.remove(&asker);
        } else {
            self.order.push_back(asker);
        }
        next
    }

    /// Those who do not wait any more keep nobody out.
    fn forget_the_gone(&mut self) {
        self.waiting.retain(|_, its| {
            its.retain(|turn| !turn.is_closed());
            !its.is_empty()
        });
        let waiting = &self.waiting;
        self.order.retain(|asker| waiting.contains_key(asker));
        self.count = waiting.values().map(VecDeque::len).sum();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut inside = lock(&self.0);
            inside.forget_the_gone();
            let next = inside.next();
            inside.is_taken = next.is_some();
            next
        };
        if let Some(next) = next {
            // An asker that has gone in this moment gives its turn back, and it is passed on.
            drop(next.send(Turn(Arc::clone(&self.0))));
        }
    }
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tenant(name: &str) -> Asker {
        Some(name.parse().unwrap())
    }

    #[tokio::test]
    async fn p6_who_hands_in_many_waits_behind_itself() {
        let turns = Turns::default();
        let first = turns.take(tenant("acme")).await.unwrap();
        let (seen, mut order) = tokio::sync::mpsc::unbounded_channel();
        let wait = |asker: Asker| {
            let (turns, seen) = (turns.clone(), seen.clone());
            tokio::spawn(async move {
                let turn = turns.take(asker.clone()).await;
                let _ = seen.send((asker, turn.is_some()));
            })
        };
        for _ in 0..WAITING_OF_ONE_MAX + 2 {
            wait(tenant("acme"));
            tokio::task::yield_now().await;
        }
        // Those beyond the bound are sent away at once.
        for _ in 0..2 {
            assert_eq!(order.recv().await, Some((tenant("acme"), false)));
        }
        let gone = wait(tenant("initech"));
        wait(tenant("globex"));
        wait(None);
        tokio::task::yield_now().await;
        gone.abort();
        let _ = gone.await;
        drop(first);
        let mut seen = Vec::new();
        for _ in 0..WAITING_OF_ONE_MAX + 2 {
            let (asker, had_turn) = tokio::time::timeout(Duration::from_secs(5), order.recv())
                .await
                .unwrap()
                .unwrap();
            assert!(had_turn);
            seen.push(asker);
        }
        assert_eq!(
            seen[..3],
            [tenant("acme"), tenant("globex"), None],
            "one of each before a second of anybody"
        );
        assert!(seen[3..].iter().all(|asker| *asker == tenant("acme")));
        drop(turns.take(None).await.expect("nobody waits any more"));
        assert_eq!(lock(&turns.0).count, 0);
    }
}
