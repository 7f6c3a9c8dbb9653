//! The writer: one thread per host that owns the one connection that writes, and commits in groups.
//!
//! Whoever writes hands over a piece of work and waits. The thread takes what is waiting, a group, and does it in one transaction, which begins
//! with the lock on the chain's head: so of all hosts one writes at a time, and the statements may rely on what they read, as on SQLite.
//! A group is answered when its transaction is committed; where nobody outside is told of it, the commit does not wait for the disk.
//!
//! **A COMMIT whose answer is lost is found out about, never guessed.** The last statement before it writes the transaction's number into the
//! host's own row. On a new connection, behind the lock that the old transaction held, that row says whether it was committed; then the
//! group is answered, or done again. Where no connection can be had in time, the answer is [`StoreError::Away`]: whoever sends again is
//! recognised by the receipt.
//!
//! While there is no server, nothing waits: each piece of work is answered at once, and a connection is tried after a growing, uneven pause.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use tollgate_core::ids::Digest;
use tollgate_core::secret::Secret;
use tollgate_core::work::{EntryEvent, EntryState, JobEvent, JobState};

use super::client::{Client, last_number};
use super::hosts::{self, Presence};
use super::listener::{self, Heard};
use super::schema;
use super::target::Target;
use crate::log::Kind;
use crate::queue::{self, Done, Message, Queue, Signals, Work, answer_all};
use crate::sql::{Connection, Error, OptionalExtension as _};
use crate::statements::fault::Fault;
use crate::statements::head::ChainHead;
use crate::statements::receipts::Rows;
use crate::statements::transaction::{Memory, Transaction};
use crate::statements::{jobs, order, rows, unfinished};
use crate::{StoreError, Topic};

/// Writes that wait at most; one more is answered [`StoreError::Full`].
const QUEUE_MAX: usize = 4096;
/// Writes in one transaction at most.
const GROUP_MAX: usize = 256;
/// How often a group looks ahead. What asks more often waits for the rest.
const LOOKS_MAX: usize = 8;
/// The tables that get rows with nearly every group.
const NUMBERED_OFTEN: [&str; 5] = ["jobs", "runs", "actions", "outbox", "attempts"];
/// The first pause between two connections that fail, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// For how long a commit's outcome is looked for.
const FIND_OUT_MAX: Duration = Duration::from_secs(5);
/// Names the lock that every host shares while it has the store open: who has it alone knows that nobody else is there.
pub(super) const HOSTS: i64 = 0x746f_6c6c_6702;
/// A host that is frozen within a transaction keeps the others from writing. The server ends that transaction after this, in milliseconds: before they give up
/// waiting for its lock.
const FROZEN_MAX: u64 = 3_000;
/// Every statement of the writer finds its rows by an index. A plan is kept, and one that was made while a table was small would read all of it later.
const AS_OF_LARGE_TABLES: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off";
/// The head of the chain, locked. Each transaction leaves an older version of this row behind; while some session holds an old state of the database they all stay,
/// and an index has them from the oldest on. So it is read backwards, which asks for a range, though there is only one.
const HEAD: &str = "SELECT seq, link FROM chain_heads WHERE chain >= 0 ORDER BY chain DESC LIMIT 1 FOR UPDATE";
/// Where that row is.
const NEWEST_HEAD: &str = "SELECT ctid FROM chain_heads WHERE chain >= 0 ORDER BY chain DESC LIMIT 1";
/// How often a host that opens looks whether it is alone: one that has just ended is still seen for a moment.
const ALONE_TRIES: u32 = 5;

/// The writer as its callers see it.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Queue,
    signals: Arc<Signals>,
}

/// What the thread found when it opened the store.
pub(super) struct Opened {
    pub(super) receipt_key: Secret,
    /// This host's row.
    pub(super) host: i64,
    /// What other hosts had counted.
    pub(super) heard: Heard,
}

impl Writer {
    /// Opens the store on the writer's thread, and blocks until that is done.
    pub(super) fn start(
        target: &Target,
        signals: &Arc<Signals>,
        presence: Option<&Arc<Presence>>,
    ) -> Result<(Self, Opened), StoreError> {
        let (sender, waiting) = queue::channel(QUEUE_MAX);
        let (opened, opening) = sync_channel(1);
        let (target, of_thread, presence) = (target.clone(), Arc::clone(signals), presence.cloned());
        let opening_thread = move || Thread::open(target, of_thread, waiting, presence.as_deref());
        let queue = Queue::start(sender, move || match opening_thread() {
            Ok((thread, found)) => {
                let _ = opened.send(Ok(found));
                thread.run();
            }
            Err(error) => {
                let _ = opened.send(Err(error));
            }
        })?;
        let found = opening.recv().unwrap_or(Err(StoreError::Closed))?;
        let signals = Arc::clone(signals);
        Ok((Self { queue, signals }, found))
    }

    /// As [`Queue::hand_over`].
    pub(super) async fn write<T, F>(&self, kind: Kind, must_sync: bool, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.signals.check()?;
        self.queue.hand_over(kind, must_sync, work).await
    }

    /// Takes no more work, and waits until what was queued is committed and the connection is closed.
    pub(super) async fn close(&self) {
        self.signals.stop();
        self.queue.close().await;
    }
}

/// Dropping the last handle closes as [`Writer::close`] does, and blocks for as long.
impl Drop for Writer {
    fn drop(&mut self) {
        self.signals.stop();
    }
}

/// How a transaction ended.
enum Ended {
    Committed(Done),
    /// Nothing was written, and the connection is well.
    Refused(StoreError),
    /// Nothing was begun: another host has the store, or the server refuses everybody; and the connection is well.
    Held(StoreError),
    /// Nothing was written, and the connection is gone.
    Lost(StoreError),
    /// The COMMIT was sent, and its answer did not come.
    Unknown(Done),
}

/// Why a group is not done.
struct Failed {
    error: StoreError,
    /// No piece of it fares better alone.
    of_all: bool,
}

impl Failed {
    fn of_all(error: StoreError) -> Self {
        Self { error, of_all: true }
    }
}

/// A connection, and what is remembered of what it read.
struct Link {
    client: Client,
    memory: Memory,
    /// The schema that was there when it connected, in which this host works.
    schema: u32,
}

struct Thread {
    target: Target,
    signals: Arc<Signals>,
    waiting: Receiver<Message>,
    /// This host's row.
    host: i64,
    /// The number of the last transaction.
    mark: i64,
    link: Option<Link>,
    pause: Pause,
}

/// How long no connection is tried after one that failed.
struct Pause {
    next: Duration,
    until: Option<Instant>,
    /// Why the last one failed.
    why: String,
}

impl Pause {
    fn new() -> Self {
        Self {
            next: PAUSE.0,
            until: None,
            why: String::new(),
        }
    }

    /// After a connection failed: twice as long as the last time, and up to half of that less, so that hosts do not come back all at once.
    fn begin(&mut self, why: String) {
        let mut random = [0; 1];
        // Without randomness it is even: nothing depends on it.
        let _ = getrandom::fill(&mut random);
        let less = self.next / 2 * u32::from(random[0]) / 255;
        self.until = Some(Instant::now() + self.next - less);
        self.next = (self.next * 2).min(PAUSE.1);
        self.why = why;
    }
}

impl Thread {
    fn open(
        target: Target,
        signals: Arc<Signals>,
        waiting: Receiver<Message>,
        presence: Option<&Presence>,
    ) -> Result<(Self, Opened), StoreError> {
        let shown = target.shown.clone();
        let opening = |fault: Fault| match fault.of_writer(&shown) {
            error @ (StoreError::Away { .. } | StoreError::Busy | StoreError::NoSpace { .. }) => error,
            error => StoreError::Open {
                path: shown.clone(),
                detail: error.to_string(),
            },
        };
        let client = connect(&target).map_err(|error| opening(error.into()))?;
        let schema = schema::migrate(&client, &shown)?;
        if unfinished::is_there(&client).map_err(opening)? {
            return Err(StoreError::Open {
                path: shown,
                detail: unfinished::REFUSED.to_owned(),
            });
        }
        let receipt_key = schema::receipt_key(&client).map_err(opening)?;
        let (host, heard) = begin(&client, presence).map_err(opening)?;
        let memory = memory(&client).map_err(opening)?;
        let thread = Self {
            target,
            signals,
            waiting,
            host,
            mark: 0,
            link: Some(Link { client, memory, schema }),
            pause: Pause::new(),
        };
        let opened = Opened {
            receipt_key,
            host,
            heard,
        };
        Ok((thread, opened))
    }

    fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP_MAX);
        // Ends when every sender is gone and the queue is empty.
        while let Ok(first) = self.waiting.recv() {
            queue::gather(&mut group, first, &self.waiting, GROUP_MAX);
            self.serve(&mut group);
        }
        if let Some(link) = self.link.take() {
            // So that whoever opens the store next does not take this host for one that is still there.
            let _ = link.client.batch("SELECT pg_advisory_unlock_all()");
        }
    }

    /// Does a group; if that fails, each of its pieces alone.
    fn serve(&mut self, group: &mut Vec<Box<dyn Work>>) {
        match self.finish(group) {
            Ok(()) => answer_all(group),
            Err(Failed { error, of_all }) if of_all || group.len() == 1 => {
                let mut pieces = group.drain(..);
                let Some(last) = pieces.next_back() else { return };
                pieces.for_each(|work| work.fail(of_many(&error)));
                last.fail(error);
            }
            Err(_) => {
                let mut alone = Vec::with_capacity(1);
                for work in std::mem::take(group) {
                    alone.push(work);
                    self.serve(&mut alone);
                }
            }
        }
    }

    /// Brings a group to its end. A connection that was lost between two groups shows at the next: it is done once more on another.
    fn finish(&mut self, group: &mut [Box<dyn Work>]) -> Result<(), Failed> {
        let mut again = false;
        loop {
            self.connect().map_err(Failed::of_all)?;
            let lost = match self.transact(group) {
                Ended::Committed(done) => {
                    // The other hosts see it in this one's row.
                    self.signals.tell(&done);
                    return Ok(());
                }
                Ended::Refused(error) => return Err(Failed { error, of_all: false }),
                Ended::Held(error) => return Err(Failed::of_all(error)),
                Ended::Lost(error) => error,
                Ended::Unknown(done) => match guessed().or_else(|| self.find_out()) {
                    Some(true) => {
                        self.signals.tell(&done);
                        return Ok(());
                    }
                    Some(false) => StoreError::Away {
                        detail: "the connection was lost, and what was sent was not committed".to_owned(),
                    },
                    None => {
                        return Err(Failed::of_all(StoreError::Away {
                            detail: "the connection was lost while a commit was under way, and whether it was made cannot be asked".to_owned(),
                        }));
                    }
                },
            };
            if std::mem::replace(&mut again, true) {
                return Err(Failed::of_all(lost));
            }
        }
    }

    /// Has a connection, if one can be had now.
    fn connect(&mut self) -> Result<(), StoreError> {
        if self.link.is_some() {
            return Ok(());
        }
        if let Some(until) = self.pause.until
            && Instant::now() < until
        {
            return Err(StoreError::Away {
                detail: self.pause.why.clone(),
            });
        }
        match self.link_again() {
            Ok(link) => {
                if self.pause.until.is_some() {
                    tracing::info!(store = self.target.shown, "the database server is back");
                }
                self.pause = Pause::new();
                self.signals.note_away(None);
                self.link = Some(link);
                Ok(())
            }
            Err(fault) => {
                let detail = fault.detail();
                if self.pause.until.is_none() {
                    tracing::error!(
                        store = self.target.shown,
                        detail,
                        "the database server is away; nothing is taken in until it is back"
                    );
                }
                self.pause.begin(detail.clone());
                self.signals.note_away(Some(detail.clone()));
                Err(StoreError::Away { detail })
            }
        }
    }

    /// A new connection for a host that has been here.
    fn link_again(&self) -> Result<Link, Fault> {
        let client = connect(&self.target)?;
        let found = schema::version(&client)?;
        if !schema::is_workable(&client, found)? {
            return Err(schema::moved(found));
        }
        client.batch(&format!(
            "SELECT pg_advisory_lock_shared({HOSTS}); INSERT INTO hosts (id) VALUES ({}) ON CONFLICT DO NOTHING",
            self.host
        ))?;
        let memory = memory(&client)?;
        Ok(Link {
            client,
            memory,
            schema: found,
        })
    }

    fn transact(&mut self, group: &mut [Box<dyn Work>]) -> Ended {
        let Some(mut link) = self.link.take() else {
            return Ended::Lost(StoreError::Away {
                detail: "there is no connection".to_owned(),
            });
        };
        let mut is_begun = false;
        let applied = begin_group(&mut link).and_then(|()| {
            is_begun = true;
            Ok((apply(&mut link, group)?, outgrown(&mut link)?))
        });
        let done = match applied {
            Ok((applied, None)) => applied,
            // The transaction ends with its connection, and the next one finds the same.
            Ok((_, Some(schema))) => {
                return Ended::Lost(StoreError::Away {
                    detail: schema.detail(),
                });
            }
            Err(fault) => {
                let head = link.memory.head;
                link.memory.forget(head);
                let is_lost = fault.is_of_connection() || link.client.roll_back().is_err();
                let error = fault.of_writer(&self.target.shown);
                if is_lost {
                    return Ended::Lost(error);
                }
                self.link = Some(link);
                return match is_begun {
                    true => Ended::Refused(error),
                    false => Ended::Held(error),
                };
            }
        };
        if !done.must_sync && !link.client.has_written() {
            if link.client.roll_back().is_ok() {
                self.link = Some(link);
            }
            return Ended::Committed(done);
        }
        self.mark += 1;
        match link.client.batch(&self.commit(&link.memory.head, &done)) {
            Ok(()) => {
                self.link = Some(link);
                Ended::Committed(done)
            }
            // The server refused a statement before the COMMIT, or the COMMIT itself: it has rolled back.
            Err(error @ Error::Server { .. }) if !Fault::from(error.clone()).is_of_connection() => {
                let head = link.memory.head;
                link.memory.forget(head);
                if link.client.roll_back().is_ok() {
                    self.link = Some(link);
                }
                Ended::Refused(Fault::from(error).of_writer(&self.target.shown))
            }
            Err(_) => Ended::Unknown(done),
        }
    }

    /// What ends a transaction: the chain's new head, and what this host has to say to the others. A commit that waits for a standby must not be
    /// ended by a timeout of the server's: that would answer it as if it were there.
    fn commit(&self, head: &ChainHead, done: &Done) -> String {
        let mut sql = String::with_capacity(400);
        if done.must_sync {
            sql.push_str("SET LOCAL statement_timeout = 0; ");
        } else {
            sql.push_str("SET LOCAL synchronous_commit = off; ");
        }
        let mut link = String::with_capacity(64);
        for byte in head.link.0 {
            let _ = write!(link, "{byte:02x}");
        }
        let _ = write!(
            sql,
            "UPDATE chain_heads SET seq = {}, link = '\\x{link}' WHERE ctid = ANY (ARRAY({NEWEST_HEAD})) AND seq <> {0}; \
             UPDATE hosts SET seen_at = now(), mark = {}",
            head.seq, self.mark,
        );
        let moved = |topic: Topic| done.changed.contains(&topic);
        for (column, moved) in [
            ("jobs", done.jobs_ready),
            ("outbox", done.outbox_ready),
            ("tokens", moved(Topic::Tokens)),
            ("quarantines", moved(Topic::Quarantines)),
            ("registry", moved(Topic::Registry)),
        ] {
            if moved {
                let _ = write!(sql, ", {column} = {column} + 1");
            }
        }
        let _ = write!(sql, " WHERE ctid = ANY (ARRAY({})); COMMIT", newest(self.host));
        sql
    }

    /// Whether the last transaction was committed; nothing when that cannot be found out in time.
    fn find_out(&mut self) -> Option<bool> {
        tracing::warn!(
            store = self.target.shown,
            "the connection was lost while a commit was under way; asking whether it was made"
        );
        let begun = Instant::now();
        while begun.elapsed() < FIND_OUT_MAX {
            if self.connect().is_ok()
                && let Some(link) = self.link.take()
                && let Ok(mark) = last_mark(&link.client, self.host)
            {
                self.link = Some(link);
                return Some(mark == Some(self.mark));
            }
            std::thread::sleep(PAUSE.0);
        }
        None
    }
}

fn memory(client: &Client) -> Result<Memory, Fault> {
    let mut memory = Memory::load(client, Box::new(Rows))?;
    memory.remember_due();
    Ok(memory)
}

fn connect(target: &Target) -> crate::sql::Result<Client> {
    let client = Client::connect(target)?;
    client.batch(&format!(
        "SET idle_in_transaction_session_timeout = {FROZEN_MAX}; {AS_OF_LARGE_TABLES}"
    ))?;
    Ok(client)
}

/// Only in a build with debug assertions, and where TOLLGATE_GUESS_COMMITS is set: takes a commit for made whose answer was lost. It is how the
/// campaign `fleet` shows that asking matters.
fn guessed() -> Option<bool> {
    (cfg!(debug_assertions) && std::env::var_os("TOLLGATE_GUESS_COMMITS").is_some()).then_some(true)
}

/// The number of a host's last transaction. Behind the lock that a transaction under way would hold; and committed once more, so that what is
/// seen is on the disk, and on the standby where there is one: the commit that is asked about may have been ended before it was.
fn last_mark(client: &Client, host: i64) -> Result<Option<i64>, Fault> {
    client.batch("BEGIN")?;
    lock(client)?;
    let connection: &Connection = client;
    let mark = connection
        .query_row("SELECT mark FROM hosts WHERE id = ?1", [host], |row| row.get(0))
        .optional()?;
    client.batch(&format!(
        "SET LOCAL statement_timeout = 0; UPDATE hosts SET seen_at = now() WHERE id = {host}; COMMIT"
    ))?;
    Ok(mark)
}

/// Where a host's row is: read backwards as [`HEAD`] is, and for the same reason.
fn newest(host: i64) -> String {
    format!("SELECT ctid FROM hosts WHERE id >= {host} AND id <= {host} ORDER BY id DESC LIMIT 1")
}

/// Waits until no other host writes, and returns what the last one left.
fn lock(connection: &Connection) -> Result<ChainHead, Fault> {
    Ok(connection.query_row(HEAD, [], |row| {
        Ok(ChainHead {
            seq: row.get(0)?,
            link: Digest(row.get(1)?),
        })
    })?)
}

/// Begins a group's transaction, and has the store for itself.
fn begin_group(link: &mut Link) -> Result<(), Fault> {
    link.client.begin_sending()?;
    link.memory.head = lock(&link.client)?;
    link.memory.jobs_due.begin();
    link.memory.outbox_due.begin();
    link.client.has_written();
    schema::will_ask_version(&link.client)?;
    Ok(())
}

/// Why a transaction may not be committed, if it may not: the schema has become one that this host does not work in.
fn outgrown(link: &mut Link) -> Result<Option<Fault>, Fault> {
    let found = schema::version_asked(&link.client)?;
    if found == link.schema || schema::is_workable(&link.client, found)? {
        link.schema = found;
        return Ok(None);
    }
    Ok(Some(schema::moved(found)))
}

/// A group's changes, in the transaction that was begun.
fn apply(link: &mut Link, group: &mut [Box<dyn Work>]) -> Result<Done, Fault> {
    // What is admitted is asked about what is there, and what comes after it would change that.
    group.sort_by_key(|work| order_of(work.kind()));
    if group.len() > 1 {
        look_ahead(link, group)?;
    }
    let mut transaction = Transaction::new(&link.client, &mut link.memory);
    for work in group {
        work.apply(&mut transaction)?;
    }
    let done = Done::of(&mut transaction);
    // What cannot be said is found out before the COMMIT, whose own outcome is another matter.
    link.client.send_gathered()?;
    Ok(done)
}

/// The place of a piece of work in its group: nobody has been answered, so none has to come before another.
fn order_of(kind: Kind) -> u8 {
    match kind {
        Kind::Admitted => 0,
        Kind::Settled => 1,
        Kind::Attempted => 2,
        _ => 3,
    }
}

/// Asks for all that a group will ask before it changes anything, each question together with those of the others: with each look everyone comes as
/// far as the next question whose answer is not there.
fn look_ahead(link: &mut Link, group: &mut [Box<dyn Work>]) -> Result<(), Fault> {
    let Link { client, memory, .. } = link;
    let connection: &Connection = client;
    for table in NUMBERED_OFTEN {
        connection.will_ask(&last_number(table), &[])?;
    }
    let mut looking: Vec<&mut Box<dyn Work>> = group.iter_mut().filter(|work| order_of(work.kind()) < 3).collect();
    for _ in 0..LOOKS_MAX {
        client.look_ahead(true);
        looking.retain_mut(|work| {
            let looked = work.apply(&mut Transaction::new(client, memory));
            client.has_stopped_at_question() && looked.is_err()
        });
        client.look_ahead(false);
        client.wait_for_all()?;
        if looking.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Takes a row for this host, says who it is and hears whether it may claim, and frees what was leased if nobody else is there to hold it.
fn begin(client: &Client, presence: Option<&Presence>) -> Result<(i64, Heard), Fault> {
    let connection: &Connection = client;
    let mut is_alone = false;
    for attempt in 0..ALONE_TRIES {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        is_alone = connection.query_row(&format!("SELECT pg_try_advisory_lock({HOSTS})"), [], |row| row.get(0))?;
        if is_alone {
            break;
        }
    }
    client.batch("BEGIN")?;
    lock(client)?;
    if is_alone {
        release_leases(connection)?;
    }
    let host = connection.query_row("INSERT INTO hosts (mark) VALUES (0) RETURNING id", [], |row| row.get(0))?;
    hosts::forget_old(connection)?;
    if let Some(presence) = presence {
        presence.hear_clock(connection)?;
        presence.beat(connection, host, Duration::ZERO)?;
        presence.told(hosts::drain_of(connection, &presence.identity.name)?);
    }
    let heard = listener::look(connection, host)?;
    client.batch("COMMIT")?;
    client.batch(&format!("SELECT pg_advisory_lock_shared({HOSTS})"))?;
    if is_alone {
        client.batch(&format!("SELECT pg_advisory_unlock({HOSTS})"))?;
    }
    Ok((host, heard))
}

/// The hosts that held these leases are gone, so what they held may be claimed at once. Its attempts stay counted.
fn release_leases(connection: &Connection) -> Result<(), Fault> {
    let (from, to) = (JobState::Leased, JobState::Leased.next(JobEvent::Release)?);
    let leased = connection
        .prepare_cached("SELECT id, lane FROM jobs WHERE state = ?1 AND state IN (1, 2)")?
        .query_map([rows::job_code(from)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, i64)>, _>>()?;
    release("jobs", "", rows::job_code(from), rows::job_code(to), connection)?;
    for (job, lane) in leased {
        jobs::yield_to_older(connection, job, lane, to)?;
    }
    let (from, to) = (EntryState::Leased, EntryState::Leased.next(EntryEvent::Release)?);
    let in_lanes = order::leased(connection)?;
    // What somebody pulled is not this process's: it is theirs until its time is over.
    release(
        "outbox",
        " AND pulled_at IS NULL",
        rows::entry_code(from),
        rows::entry_code(to),
        connection,
    )?;
    order::after_release(connection, &in_lanes)
}

/// `and` narrows which.
fn release(table: &str, and: &str, from: i64, to: i64, connection: &Connection) -> Result<(), Fault> {
    connection.execute(
        &format!("UPDATE {table} SET state = ?2, due_at = 0, worker = NULL WHERE state = ?1 AND state IN (1, 2){and}"),
        crate::sql::params![from, to],
    )?;
    Ok(())
}

/// An error that several are told: those that come of one connection, or of the host that has the store.
fn of_many(error: &StoreError) -> StoreError {
    match error {
        StoreError::Busy => StoreError::Busy,
        StoreError::Away { detail } => StoreError::Away { detail: detail.clone() },
        other => StoreError::Away {
            detail: other.to_string(),
        },
    }
}
