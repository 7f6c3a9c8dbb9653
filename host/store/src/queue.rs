//! The queue in front of a store's writer: pieces of work, who waits for each, and the one thread that takes them in groups.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot, watch};

use crate::log::Kind;
use crate::statements::fault::Fault;
use crate::statements::transaction::Transaction;
use crate::{StoreError, Topic};

/// What a store tells those who wait, and whether it takes more work.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) work: Notify,
    pub(crate) outbox: Notify,
    closing: AtomicBool,
    /// Why nothing can be written at present, where the writer knows.
    away: Mutex<Option<String>>,
    tokens: watch::Sender<u64>,
    quarantines: watch::Sender<u64>,
    registry: watch::Sender<u64>,
}

impl Signals {
    /// # Errors
    /// [`StoreError::Closed`] once the store takes no more work.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.closing.load(Ordering::Acquire) {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }

    /// Takes no more work.
    pub(crate) fn stop(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Why nothing can be written at present, where the writer knows.
    pub(crate) fn away(&self) -> Option<String> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_away(&self, why: Option<String>) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// How often a topic has changed since the store was opened.
    pub(crate) fn changes_of(&self, topic: Topic) -> &watch::Sender<u64> {
        match topic {
            Topic::Tokens => &self.tokens,
            Topic::Quarantines => &self.quarantines,
            Topic::Registry => &self.registry,
        }
    }

    pub(crate) fn note_change(&self, topic: Topic) {
        self.changes_of(topic).send_modify(|changes| *changes += 1);
    }

    /// Tells what a group has done, now that it is.
    pub(crate) fn tell(&self, done: &Done) {
        if done.jobs_ready {
            self.work.notify_one();
        }
        if done.outbox_ready {
            self.outbox.notify_one();
        }
        done.changed.iter().for_each(|topic| self.note_change(*topic));
    }
}

/// What a group of work leaves to be done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) jobs_ready: bool,
    pub(crate) outbox_ready: bool,
    /// Somebody outside is told of it: it is on the disk before anybody is answered.
    pub(crate) must_sync: bool,
    pub(crate) changed: Vec<Topic>,
}

impl Done {
    pub(crate) fn of(transaction: &mut Transaction<'_>) -> Self {
        Self {
            jobs_ready: transaction.jobs_ready,
            outbox_ready: transaction.outbox_ready,
            must_sync: transaction.must_sync,
            changed: std::mem::take(&mut transaction.changed),
        }
    }
}

/// What the thread is sent.
#[derive(Debug)]
pub(crate) enum Message {
    Work(Box<dyn Work>),
    /// There may be something to do beside work.
    Look,
}

/// The queue as its store sees it. Dropping it ends the thread behind what was queued, and blocks for as long.
#[derive(Debug)]
pub(crate) struct Queue {
    sender: Mutex<Option<SyncSender<Message>>>,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// The two ends of a queue that holds so many pieces of work.
pub(crate) fn channel(pieces_max: usize) -> (SyncSender<Message>, Receiver<Message>) {
    sync_channel(pieces_max.max(1))
}

/// Takes what is waiting behind `first`, `pieces_max` at the most.
pub(crate) fn gather(group: &mut Vec<Box<dyn Work>>, first: Message, waiting: &Receiver<Message>, pieces_max: usize) {
    let mut next = Some(first);
    while let Some(message) = next {
        if let Message::Work(work) = message {
            group.push(work);
        }
        next = match group.len() < pieces_max {
            true => waiting.try_recv().ok(),
            false => None,
        };
    }
}

impl Queue {
    /// Starts the thread that takes from the queue, which ends when every sender is gone.
    pub(crate) fn start(
        sender: SyncSender<Message>,
        serve: impl FnOnce() + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (alive, ended) = watch::channel(());
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                serve();
                drop(alive);
            })
            .map_err(|error| StoreError::Database {
                detail: format!("cannot start the writer thread: {error}"),
            })?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            ended,
            thread: Some(thread),
        })
    }

    /// Has the thread do `work`, and answers when that is done; with `must_sync`, or where the work says so, when it is on the disk. Never
    /// blocks: a full queue is an answer.
    ///
    /// `work` may run again, what it did before being rolled back; so it takes its input by reference.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Closed`] when the thread takes nothing more, and what the work comes to.
    pub(crate) async fn hand_over<T, F>(&self, kind: Kind, must_sync: bool, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let task = Box::new(Task {
            kind,
            work,
            must_sync,
            result: None,
            waiting: sender,
            batcher: REPLY_BATCHER.with_borrow(Clone::clone),
        });
        match self.send(Message::Work(task)) {
            Ok(()) => receiver.await.unwrap_or(Err(StoreError::Closed)),
            Err(error) => Err(error),
        }
    }

    /// Has the thread look whether there is something to do. A full queue is as good: the thread looks after each group.
    pub(crate) fn look(&self) {
        let _ = self.send(Message::Look);
    }

    fn send(&self, message: Message) -> Result<(), StoreError> {
        match &*self.sender.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sender) => sender.try_send(message).map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Full,
                TrySendError::Disconnected(_) => StoreError::Closed,
            }),
            None => Err(StoreError::Closed),
        }
    }

    /// Closed when the thread has ended.
    pub(crate) fn ended(&self) -> watch::Receiver<()> {
        self.ended.clone()
    }

    /// Takes no more work, and waits until what was queued is done and the thread has ended.
    pub(crate) async fn close(&self) {
        self.stop_taking();
        let mut ended = self.ended();
        // Nothing is ever sent: this returns when the thread drops its end.
        while ended.changed().await.is_ok() {}
    }

    fn stop_taking(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.stop_taking();
        if let Some(thread) = self.thread.take() {
            // What became of a panic is the thread's to say.
            let _ = thread.join();
        }
    }
}

/// A piece of work for the writer: something to do inside a transaction, and someone who waits for the result.
pub(crate) trait Work: Send {
    /// May be called a second time, after a rollback.
    fn apply(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault>;
    /// Sends the last result, now that it is committed.
    fn answer(self: Box<Self>);
    /// Whether it can fail on a sound disk.
    fn may_fail(&self) -> bool;
    /// What the log says that it is.
    fn kind(&self) -> Kind;
    /// Returns where the waiting thread takes batches of replies from, if it does.
    fn batcher(&mut self) -> Option<Batches>;
    /// Sends an error; whatever was applied is rolled back.
    fn fail(self: Box<Self>, error: StoreError);
}

struct Task<T, F> {
    kind: Kind,
    work: F,
    must_sync: bool,
    result: Option<Result<T, StoreError>>,
    waiting: oneshot::Sender<Result<T, StoreError>>,
    batcher: Option<Batches>,
}

/// Carries all the replies that one commit has for one thread.
pub(crate) type Batches = UnboundedSender<Vec<Box<dyn Work>>>;

impl<T, F> Work for Task<T, F>
where
    T: Send + 'static,
    F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
{
    fn apply(&mut self, transaction: &mut Transaction<'_>) -> Result<(), Fault> {
        transaction.must_sync |= self.must_sync;
        self.result = match (self.work)(transaction) {
            Ok(result) => Some(Ok(result)),
            // Everyday work looks for what it is about before it writes, so there is nothing to take back.
            Err(Fault::NotFound(what)) if !self.must_sync => Some(Err(StoreError::NotFound { what })),
            Err(fault) => return Err(fault),
        };
        Ok(())
    }

    fn may_fail(&self) -> bool {
        self.must_sync
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn batcher(&mut self) -> Option<Batches> {
        self.batcher.take()
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // Nobody may be waiting any more; the commit stands all the same.
            let _ = self.waiting.send(result);
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.waiting.send(Err(error));
    }
}

thread_local! {
    static REPLY_BATCHER: RefCell<Option<Batches>> = const { RefCell::new(None) };
}

/// Brings the writer's answers to the tasks of one thread. A commit answers many tasks, and each answer from another thread
/// wakes the sleeping one with a system call; with a reply batcher it is woken once, and the batcher wakes the tasks from inside.
///
/// For threads with a single-threaded runtime. What is asked from other threads is answered directly.
#[derive(Debug)]
pub struct ReplyBatcher {
    batches: UnboundedReceiver<Vec<Box<dyn Work>>>,
}

impl ReplyBatcher {
    /// Makes this thread take the replies of every store through this batcher from now on. [`run`](Self::run) it on this thread.
    pub fn of_this_thread() -> Self {
        let (sender, batches) = unbounded_channel();
        REPLY_BATCHER.set(Some(sender));
        Self { batches }
    }

    /// Answers until the thread's runtime ends.
    pub async fn run(mut self) {
        while let Some(answers) = self.batches.recv().await {
            answers.into_iter().for_each(Work::answer);
        }
    }
}

/// Replies to a whole group, to each thread once.
pub(crate) fn answer_all(batch: &mut Vec<Box<dyn Work>>) {
    // As many as the host has threads that ask: a handful.
    let mut batchers: Vec<(Batches, Vec<Box<dyn Work>>)> = Vec::new();
    for mut work in batch.drain(..) {
        match work.batcher() {
            None => work.answer(),
            Some(batcher) => match batchers.iter_mut().find(|(known, _)| known.same_channel(&batcher)) {
                Some((_, answers)) => answers.push(work),
                None => batchers.push((batcher, vec![work])),
            },
        }
    }
    for (batcher, answers) in batchers {
        // The replies of a batcher that is gone are given from here.
        if let Err(returned) = batcher.send(answers) {
            returned.0.into_iter().for_each(Work::answer);
        }
    }
}

impl std::fmt::Debug for dyn Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}
