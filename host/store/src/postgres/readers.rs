//! Readers: a few threads with a connection each, that cannot write.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::client::Client;
use super::target::Target;
use crate::StoreError;
use crate::sql::Connection;
use crate::statements::fault::Fault;

/// Connections that read at once.
const READERS: usize = 3;
/// Reads that wait at most; one more is answered [`StoreError::Full`].
const QUEUE_MAX: usize = 1024;

/// What a thread is to read, and whom it tells.
type Question = Box<dyn FnOnce(&mut Reader) + Send>;

#[derive(Debug)]
pub(super) struct Readers {
    queue: SyncSender<Question>,
}

/// One thread's connection. It is made when it is first needed, and again when it was lost.
struct Reader {
    target: Target,
    client: Option<Client>,
}

impl Readers {
    /// The threads end when this is dropped and what was asked is answered.
    pub(super) fn start(target: &Target) -> Result<Self, StoreError> {
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 1..=READERS {
            let (target, waiting) = (target.clone(), Arc::clone(&waiting));
            std::thread::Builder::new()
                .name(format!("store-reader-{number}"))
                .spawn(move || Reader { target, client: None }.run(&waiting))
                .map_err(|error| StoreError::Database {
                    detail: format!("cannot start a reader thread: {error}"),
                })?;
        }
        Ok(Self { queue })
    }

    /// Reads in one transaction: every statement of `work` sees the same commit.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.ask(Box::new(move |reader| {
            // Nobody may be waiting any more.
            let _ = sender.send(reader.read(work));
        }))?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The same, for a thread that may block.
    pub(super) fn read_here<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = sync_channel(1);
        self.ask(Box::new(move |reader| {
            let _ = sender.send(reader.read(work));
        }))?;
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    fn ask(&self, question: Question) -> Result<(), StoreError> {
        self.queue.try_send(question).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Full,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }
}

impl Reader {
    fn run(mut self, waiting: &Mutex<Receiver<Question>>) {
        loop {
            let question = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match question {
                Ok(question) => question(&mut self),
                Err(_) => return,
            }
        }
    }

    fn read<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        let client = self.begin().map_err(Fault::of_reader)?;
        let result = work(&client);
        let is_lost = result.as_ref().is_err_and(Fault::is_of_connection);
        if !is_lost && client.batch("ROLLBACK").is_ok() {
            self.client = Some(client);
        }
        result.map_err(Fault::of_reader)
    }

    /// A connection in a transaction that only reads. One that was idle may be gone without anybody having noticed.
    fn begin(&mut self) -> Result<Client, Fault> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        if let Some(client) = self.client.take()
            && client.batch(BEGIN).is_ok()
        {
            return Ok(client);
        }
        let client = Client::connect(&self.target)?;
        client.batch(BEGIN)?;
        Ok(client)
    }
}
