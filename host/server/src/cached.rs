//! What a host keeps in memory of its store, and reads again once the store says that it changed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tollgate_store::{Changes, StoreError, Topic};

/// One thing that is kept in memory. The store says when it is out of date, whoever changed it.
pub(crate) struct Cached<T> {
    changes: watch::Receiver<u64>,
    kept: ArcSwapOption<Kept<T>>,
}

struct Kept<T> {
    /// The number of changes that the value is as new as.
    number: u64,
    value: Arc<T>,
}

impl<T> Cached<T> {
    /// Nothing is read yet.
    pub(crate) fn of(store: &impl Changes, topic: Topic) -> Self {
        Self {
            changes: store.subscribe(topic),
            kept: ArcSwapOption::empty(),
        }
    }

    /// The value with every change in it that anybody was told of. `read` is awaited only when there was one since it was read last.
    ///
    /// # Errors
    /// Those that `read` returns.
    pub(crate) async fn get(&self, read: impl Future<Output = Result<T, StoreError>>) -> Result<Arc<T>, StoreError> {
        // Looked at before the store is read: what changes meanwhile has it read again.
        let number = *self.changes.borrow();
        if let Some(kept) = &*self.kept.load()
            && kept.number == number
        {
            return Ok(Arc::clone(&kept.value));
        }
        let value = Arc::new(read.await?);
        self.kept.store(Some(Arc::new(Kept {
            number,
            value: Arc::clone(&value),
        })));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Told(watch::Sender<u64>);

    impl Changes for Told {
        fn subscribe(&self, _: Topic) -> watch::Receiver<u64> {
            self.0.subscribe()
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_again_after_each_change_and_not_without_one() {
        let told = Told(watch::Sender::new(5));
        let cached = Cached::of(&told, Topic::Tokens);
        let unread = async { panic!("it is read without a change") };
        let change = || told.0.send_modify(|number| *number += 1);
        assert_eq!(*cached.get(async { Ok(1) }).await.unwrap(), 1);
        assert_eq!(*cached.get(unread).await.unwrap(), 1);
        // A change in the midst of reading: what was read may lack it.
        change();
        let overtaken = async {
            change();
            Ok(2)
        };
        assert_eq!(*cached.get(overtaken).await.unwrap(), 2);
        assert!(matches!(
            cached.get(async { Err(StoreError::Full) }).await,
            Err(StoreError::Full)
        ));
        assert_eq!(*cached.get(async { Ok(3) }).await.unwrap(), 3);
    }
}
