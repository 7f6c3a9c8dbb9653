//! The store of a guest: the row layout over a database that belongs to the guest's host, as `spin:sqlite` is.
//!
//! The transactions are those of the native store, from the same files. What differs is who commits: every call is one
//! transaction that takes the write lock first (`BEGIN IMMEDIATE`), so that look-up and insert are one step although several
//! instances write; nothing is remembered from one call to the next. A lock that is not given in time is [`StoreError::Busy`].
//!
//! Guarantee: a call that returns `Ok` has committed, and in WAL mode with `synchronous = FULL` the commit was synced.

use tollgate_core::admission::Admission;
use tollgate_core::event::Event;
use tollgate_core::ids::{
    ActionId, DeliveryId, JobId, LeaseEpoch, OutboxId, PluginName, ReceiptId, RouteName, TenantName,
};
use tollgate_core::review::Target;
use tollgate_core::secret::Secret;
use tollgate_core::state::{StateRead, StateValue};
use tollgate_core::time::UnixMillis;

use crate::registry::Act;
use crate::sql::{Connection, Driver, Hosted, OptionalExtension as _, Sql, params};
use crate::statements::fault::Fault;
use crate::statements::receipts::{Layout, Rows, View};
use crate::statements::schema::{MIGRATIONS, SCHEMA_VERSION};
use crate::statements::transaction::{Memory, Transaction, state_total, transact};
use crate::statements::{
    admit, budgets, bulks, counts, deliveries, issues, jobs, lists, outbox, pauses, quarantine, replay, resends,
    reviews, set_aside, trace, unfinished,
};
use crate::{
    Admitted, AskedList, AttemptRecord, AttemptRecorded, BudgetAsked, BudgetView, Bulk, BulkAbort, BulkFilter,
    BulkStep, ClaimRequest, Count, Counts, DeadLetter, DeadLetterFilter, GroupFailures, IssueChange, IssueFilter,
    IssueRecord, Item, JobClaim, KeptDelivery, NewBulk, NextDue, Notified, OldestWaiting, OutboxClaims, OutboxHold,
    Page, Pause, Place, Quarantine, Quotas, ReplayReport, ReplayRequest, ResendRequest, ReviewAnswer, ReviewRequest,
    Routable, RoutableFilter, RunEnd, Sent, SentFilter, SetAside, SetAsideCount, SetAsideFilter, Settled, Settlement,
    StoreError, Trace, TraceQuery,
};

/// How long a statement waits for another writer's lock, in milliseconds. Near to what the least patient providers wait for an
/// answer: one that comes late is worth more than a 503 that comes early.
const LOCK_WAIT_MS: u32 = 4_500;
/// How long one invocation keeps the database open for the others, in milliseconds. The last connection that closes moves SQLite's
/// log into the database and removes it, and the next makes a new one: five syncs for one admission. While one is open there are two: of the
/// log, and of its folder, which SQLite syncs once for each connection that writes.
const KEPT_OPEN_MS: i64 = 60_000;
/// With less than this left, in milliseconds, the next one keeps it open.
const KEPT_OPEN_MS_MIN: i64 = 20_000;
/// The row that says until when somebody keeps the database open.
const KEPT_OPEN_UNTIL: &str = "kept_open_until";
/// The row that says who works, and until when nobody else does.
const WORKS_UNTIL: &str = "works_until";
/// How errors speak of the database, which has no path here.
const PLACE: &str = "(the host's database)";

/// The store, for one invocation of a guest.
pub struct GuestStore {
    connection: Box<dyn Sql>,
    receipt_key: Secret,
}

/// What one plugin has for one tenant: all of it, or as much as was asked for.
#[derive(Debug, Clone)]
pub struct StateSnapshot {
    /// Keys with their versions and values, in the order of the keys.
    pub values: Vec<StateRead>,
    /// Whether there are no other keys.
    pub complete: bool,
}

impl GuestStore {
    /// How long a lease of jobs lasts, in milliseconds. Nobody else works meanwhile, also when its holder was killed: so it is short, and
    /// a living holder extends it.
    pub const LEASE_MS: i64 = 10_000;

    /// Opens the database, makes the store if there is none, and migrates it if it is older.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::NewerSchema`], and [`StoreError::Open`] for all else.
    pub fn open(driver: impl Driver + 'static) -> Result<Self, StoreError> {
        let connection: Box<dyn Sql> = Box::new(Hosted(driver));
        let opening = |fault: Fault| match fault.of_writer(PLACE) {
            error @ (StoreError::Busy | StoreError::NoSpace { .. }) => error,
            error => StoreError::Open {
                path: PLACE.to_owned(),
                detail: error.to_string(),
            },
        };
        configure(&*connection).map_err(opening)?;
        let found = user_version(&*connection).map_err(opening)?;
        if found > SCHEMA_VERSION {
            return Err(StoreError::NewerSchema {
                path: PLACE.to_owned(),
                found,
                known: SCHEMA_VERSION,
            });
        }
        if found < SCHEMA_VERSION {
            migrate(&*connection).map_err(opening)?;
        }
        if Layout::read(&*connection).map_err(opening)? == Layout::Log {
            return Err(opening(Fault::damaged(
                "layout",
                "its receipts are in a log, which only a native host reads; `tollgate copy --to spin:FILE` writes them as rows",
            )));
        }
        if unfinished::is_there(&*connection).map_err(opening)? {
            return Err(StoreError::Open {
                path: PLACE.to_owned(),
                detail: unfinished::REFUSED.to_owned(),
            });
        }
        let receipt_key = read_receipt_key(&*connection).map_err(opening)?;
        Ok(Self {
            connection,
            receipt_key,
        })
    }

    /// The key under which receipt ids are made; drawn once, when the store is created.
    pub fn receipt_key(&self) -> &Secret {
        &self.receipt_key
    }

    /// As [`crate::Intake::admit`]. Returns as well how long, in milliseconds, the caller is to leave this store open: 0 when
    /// somebody else does.
    ///
    /// # Errors
    /// In each case nothing was kept of any of them: do not acknowledge.
    pub fn admit_all(&self, admissions: &[Admission], now: UnixMillis) -> Result<(Vec<Admitted>, u64), StoreError> {
        self.write(|transaction| {
            let admit = |admission| admit::admit(transaction, &self.receipt_key, admission);
            let admitted = admissions.iter().map(admit).collect::<Result<_, _>>()?;
            // In the commit that there is anyway: it costs no sync of its own.
            let keep_ms = take_keeping(transaction.connection, now)?;
            Ok((admitted, keep_ms))
        })
    }

    /// For whoever admits nothing: how long, in milliseconds, the caller is to leave this store open; 0 when somebody else does.
    ///
    /// # Errors
    /// When nothing was written.
    pub fn keep_open(&self, now: UnixMillis) -> Result<u64, StoreError> {
        // Looking takes no lock, and whoever takes the lock looks again.
        if self.glance(|connection| is_kept_open(connection, now))? {
            return Ok(0);
        }
        self.write(|transaction| take_keeping(transaction.connection, now))
    }

    /// Whether somebody works, or stays for a while after it has. It looks for more: what was committed before this was asked is seen
    /// then, and nobody else needs to be woken.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_at_work(&self, now: UnixMillis) -> Result<bool, StoreError> {
        self.glance(|connection| Ok(at_work(connection, now)?.is_some()))
    }

    /// As [`crate::Work::claim_jobs`].
    ///
    /// # Errors
    /// When nothing was leased.
    pub fn claim_jobs(&self, request: &ClaimRequest) -> Result<Vec<JobClaim>, StoreError> {
        self.write(|transaction| claim_jobs(transaction, request))
    }

    /// Like [`Self::claim_jobs`], but leases nothing while another worker works. A worker that claimed is at work until its leases end, or
    /// until it says otherwise.
    ///
    /// # Errors
    /// When nothing was leased.
    pub fn claim_jobs_alone(&self, request: &ClaimRequest) -> Result<Vec<JobClaim>, StoreError> {
        self.write(|transaction| {
            let at_work = at_work(transaction.connection, request.now)?;
            if at_work.is_some_and(|worker| worker != request.worker.as_bytes()) {
                return Ok(Vec::new());
            }
            let claims = claim_jobs(transaction, request)?;
            if !claims.is_empty() {
                let until = request.now.plus_ms(request.lease_ms);
                promise(transaction.connection, WORKS_UNTIL, until, request.worker.as_bytes())?;
            }
            Ok(claims)
        })
    }

    /// As [`crate::Work::extend_lease`], all of a worker's.
    ///
    /// # Errors
    /// When nothing was written.
    pub fn extend_leases(
        &self,
        worker: &str,
        leases: &[(JobId, LeaseEpoch)],
        until: UnixMillis,
    ) -> Result<Vec<bool>, StoreError> {
        self.write(|transaction| {
            promise(transaction.connection, WORKS_UNTIL, until, worker.as_bytes())?;
            let extend = |(job, epoch): &_| jobs::extend_lease(transaction, *job, *epoch, until);
            leases.iter().map(extend).collect()
        })
    }

    /// As [`crate::Work::settle`], many in one transaction, in their order. One that is not committed hinders no other. The ends of
    /// those that are count towards quarantine, which `faults_max` in a row are enough for; returns what began. `worker` looks for
    /// more until `until`, and nobody else is woken.
    ///
    /// # Errors
    /// When nothing was written.
    pub fn settle_all(
        &self,
        finished: &[(Settlement, Option<RunEnd>)],
        faults_max: u32,
        worker: &str,
        until: UnixMillis,
    ) -> Result<(Vec<Settled>, Vec<Quarantine>), StoreError> {
        self.write(|transaction| {
            let (mut all, mut begun) = (Vec::new(), Vec::new());
            for (settlement, end) in finished {
                let settled = jobs::settle(transaction, settlement)?;
                if let (Settled::Committed { .. }, Some(end)) = (&settled, end) {
                    begun.extend(quarantine::count(transaction, end, faults_max)?);
                }
                all.push(settled);
            }
            promise(transaction.connection, WORKS_UNTIL, until, worker.as_bytes())?;
            Ok((all, begun))
        })
    }

    /// As [`crate::Views::quarantines`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn quarantines(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.read(quarantine::list)
    }

    /// As [`crate::Views::pauses`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        self.read(|view| pauses::list(view.connection))
    }

    /// As [`crate::Control::pause`].
    ///
    /// # Errors
    /// When the store cannot be written; nothing is changed then.
    pub fn pause(&self, tenant: &TenantName, place: &Place, act: &Act) -> Result<Pause, StoreError> {
        self.write(|transaction| pauses::pause(transaction.connection, tenant, place, act))
    }

    /// As [`crate::Control::resume`].
    ///
    /// # Errors
    /// When the store cannot be written; nothing is changed then.
    pub fn resume(&self, tenant: &TenantName, place: &Place, act: &Act) -> Result<Option<Pause>, StoreError> {
        self.write(|transaction| pauses::resume(transaction, tenant, place, act))
    }

    /// As [`crate::Control::lift_quarantine`].
    ///
    /// # Errors
    /// When nothing was written.
    pub fn lift_quarantine(
        &self,
        tenant: &TenantName,
        route: &RouteName,
        act: &Act,
    ) -> Result<Vec<Quarantine>, StoreError> {
        self.write(|transaction| quarantine::lift(transaction, tenant, route, act))
    }

    /// As [`crate::Outbox::claim_outbox`].
    ///
    /// # Errors
    /// When nothing was leased.
    pub fn claim_outbox(&self, request: &ClaimRequest, quotas: &Quotas) -> Result<OutboxClaims, StoreError> {
        self.write(|transaction| claim_outbox(transaction, request, quotas))
    }

    /// As [`crate::Outbox::record_attempt`], many in one transaction.
    ///
    /// # Errors
    /// When nothing was written.
    pub fn record_attempts(&self, attempts: &[AttemptRecord]) -> Result<Vec<AttemptRecorded>, StoreError> {
        self.write(|transaction| {
            let record = |attempt| outbox::record_attempt(transaction, attempt);
            attempts.iter().map(record).collect()
        })
    }

    /// As [`crate::Outbox::release_outbox`].
    ///
    /// # Errors
    /// When nothing was written.
    pub fn release_outbox(&self, claims: &[OutboxHold], at: UnixMillis) -> Result<(), StoreError> {
        self.write(|transaction| outbox::release(transaction, claims, at))
    }

    /// As [`crate::BlockingReads::read_state`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read_state(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Result<StateValue, StoreError> {
        self.read(|view| jobs::read_state(view.connection, tenant, plugin, key))
    }

    /// All state of a plugin if its keys and values are at most `bytes_max` bytes; else what it has under `keys`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn snapshot_state(
        &self,
        tenant: &TenantName,
        plugin: &PluginName,
        bytes_max: usize,
        keys: Vec<String>,
    ) -> Result<StateSnapshot, StoreError> {
        self.read(|view| snapshot_state(view.connection, tenant, plugin, bytes_max, keys))
    }

    /// As [`crate::Views::next_due`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next_due(&self) -> Result<NextDue, StoreError> {
        self.read(|view| counts::next_due(view.connection))
    }

    /// As [`crate::Views::trace`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn trace(&self, query: &TraceQuery) -> Result<Vec<Trace>, StoreError> {
        self.read(|view| trace::trace(view, &self.receipt_key, query))
    }

    /// As [`crate::Views::list`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, asked: &AskedList) -> Result<Page<Item>, StoreError> {
        self.read(|view| lists::list(view, &self.receipt_key, asked))
    }

    /// As [`crate::Views::count`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn count(&self, asked: &AskedList) -> Result<Count, StoreError> {
        self.read(|view| lists::count(view, &self.receipt_key, asked))
    }

    /// As [`crate::Views::dead_letters`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(|view| replay::dead_letters(view, filter))
    }

    /// As [`crate::Control::replay`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when nothing was written.
    pub fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport, StoreError> {
        if request.dry_run {
            return self.read(|view| replay::plan(view, request));
        }
        self.write(|transaction| replay::replay(transaction, request))
    }

    /// As [`crate::Views::issues`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn issues(&self, filter: &IssueFilter) -> Result<Vec<IssueRecord>, StoreError> {
        self.read(|view| issues::list(view, filter))
    }

    /// As [`crate::Views::ungrouped_failures`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn ungrouped_failures(&self) -> Result<u64, StoreError> {
        self.read(issues::ungrouped)
    }

    /// As [`crate::Control::group_failures`].
    ///
    /// # Errors
    /// When nothing was written.
    pub fn group_failures(&self, request: &GroupFailures) -> Result<usize, StoreError> {
        self.write(|transaction| issues::group(transaction, request))
    }

    /// As [`crate::Control::change_issue`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when nothing was written.
    pub fn change_issue(&self, change: &IssueChange, notified: &Notified) -> Result<IssueRecord, StoreError> {
        self.write(|transaction| issues::change(transaction, change, notified))
    }

    /// As [`crate::Views::bulks`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn bulks(&self, filter: &BulkFilter) -> Result<Vec<Bulk>, StoreError> {
        self.read(|view| bulks::list(view, filter))
    }

    /// As [`crate::Control::start_bulk`].
    ///
    /// # Errors
    /// When nothing was written.
    pub fn start_bulk(&self, bulk: &NewBulk) -> Result<Bulk, StoreError> {
        self.write(|transaction| bulks::start(transaction, bulk))
    }

    /// As [`crate::Control::step_bulk`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when nothing was written.
    pub fn step_bulk(&self, step: &BulkStep) -> Result<Bulk, StoreError> {
        self.write(|transaction| bulks::step(transaction, &self.receipt_key, step))
    }

    /// As [`crate::Control::abort_bulk`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when nothing was written.
    pub fn abort_bulk(&self, abort: &BulkAbort) -> Result<Bulk, StoreError> {
        self.write(|transaction| bulks::abort(transaction, abort))
    }

    /// As [`crate::Views::sent`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when the store cannot be read.
    pub fn sent(&self, filter: &SentFilter) -> Result<Vec<Sent>, StoreError> {
        self.read(|view| resends::sent(view, filter))
    }

    /// As [`crate::Control::resend`].
    ///
    /// # Errors
    /// When nothing was written.
    pub fn resend(&self, request: &ResendRequest) -> Result<Vec<OutboxId>, StoreError> {
        self.write(|transaction| resends::resend(transaction, request))
    }

    /// As [`crate::Views::set_aside`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when the store cannot be read.
    pub fn set_aside(&self, filter: &SetAsideFilter) -> Result<Vec<SetAside>, StoreError> {
        self.read(|view| set_aside::list(view, filter))
    }

    /// As [`crate::Views::set_aside_counts`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn set_aside_counts(&self, tenant: Option<&TenantName>) -> Result<Vec<SetAsideCount>, StoreError> {
        self.read(|view| set_aside::counts(view, tenant))
    }

    /// As [`crate::Views::kept_delivery`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when the store cannot be read.
    pub fn kept_delivery(&self, delivery: DeliveryId) -> Result<KeptDelivery, StoreError> {
        self.read(|view| deliveries::kept(view, delivery))
    }

    /// As [`crate::Views::routable`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when the store cannot be read.
    pub fn routable(&self, filter: &RoutableFilter) -> Result<Vec<Routable>, StoreError> {
        self.read(|view| replay::routable(view, filter))
    }

    /// As [`crate::Views::receipt_of`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when the store cannot be read.
    pub fn receipt_of(&self, target: Target) -> Result<ReceiptId, StoreError> {
        self.read(|view| reviews::receipt_of(view, target))
    }

    /// As [`crate::Views::route_of`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when the store cannot be read.
    pub fn route_of(&self, action: ActionId) -> Result<(TenantName, RouteName), StoreError> {
        self.read(|view| reviews::route_of(view, action))
    }

    /// As [`crate::Views::event`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when the store cannot be read.
    pub fn event(&self, receipt: ReceiptId) -> Result<Event, StoreError> {
        self.read(|view| reviews::event(view, receipt))
    }

    /// As [`crate::Control::review`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and when nothing was written.
    pub fn review(&self, request: &ReviewRequest) -> Result<ReviewAnswer, StoreError> {
        if request.dry_run {
            return self.read(|view| reviews::plan(view, &self.receipt_key, request));
        }
        self.write(|transaction| reviews::review(transaction, &self.receipt_key, request))
    }

    /// As [`crate::Views::oldest_waiting`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn oldest_waiting(&self) -> Result<OldestWaiting, StoreError> {
        self.read(counts::oldest_waiting)
    }

    /// As [`crate::Views::budgets`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn budgets(
        &self,
        asked: &[BudgetAsked],
        account: Option<&str>,
        at: UnixMillis,
    ) -> Result<Vec<BudgetView>, StoreError> {
        self.read(|view| budgets::list(view.connection, asked, account, at))
    }

    /// As [`crate::Views::counts`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.read(counts::counts)
    }

    /// One transaction that may write.
    fn write<T>(&self, work: impl Fn(&mut Transaction<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.commit("BEGIN IMMEDIATE", |connection| {
            // Nothing is remembered from the last one: others write too.
            let mut memory = Memory::load(connection, Box::new(Rows))?;
            let mut transaction = Transaction::new(connection, &mut memory);
            let done = work(&mut transaction)?;
            memory.write_head(connection)?;
            Ok(done)
        })
    }

    /// One statement that only reads: it sees one commit without a transaction.
    fn glance<T>(&self, statement: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        statement(&*self.connection).map_err(|fault| fault.of_writer(PLACE))
    }

    /// One transaction that only reads: every statement of `work` sees the same commit.
    fn read<T>(&self, work: impl FnOnce(View<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.commit("BEGIN", |connection| work(View::new(connection, &Rows)))
    }

    fn commit<T>(&self, begin: &str, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, StoreError> {
        transact(&*self.connection, begin, work).map_err(|fault| fault.of_writer(PLACE))
    }
}

/// Settings of this connection. Those of the file are made with it.
fn configure(connection: &Connection) -> Result<(), Fault> {
    connection.execute(&format!("PRAGMA busy_timeout = {LOCK_WAIT_MS}"), [])?;
    connection.execute("PRAGMA synchronous = FULL", [])?;
    Ok(())
}

/// What the store knows about itself under a name, so that all instances see it.
fn remembered(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    Ok(connection
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

fn remember(connection: &Connection, name: &str, value: &[u8]) -> Result<(), Fault> {
    connection
        .prepare_cached(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?
        .execute(params![name, value])?;
    Ok(())
}

/// Leases jobs. A row keeps whose turn it was last; without it the first tenant by name would be served before all others.
fn claim_jobs(transaction: &mut Transaction<'_>, request: &ClaimRequest) -> Result<Vec<JobClaim>, Fault> {
    let connection = transaction.connection;
    let last = remembered(connection, "last_turn")?.unwrap_or_default();
    transaction.memory.last_turn = String::from_utf8_lossy(&last).into_owned();
    let claims = jobs::claim(transaction, request)?;
    if !claims.is_empty() {
        remember(connection, "last_turn", transaction.memory.last_turn.as_bytes())?;
    }
    Ok(claims)
}

/// Leases outbox entries. A row keeps which destination had its turn last, as tenant and name with a slash between: no name has one.
fn claim_outbox(
    transaction: &mut Transaction<'_>,
    request: &ClaimRequest,
    quotas: &Quotas,
) -> Result<OutboxClaims, Fault> {
    let connection = transaction.connection;
    let last = remembered(connection, "last_delivered")?.unwrap_or_default();
    let last = String::from_utf8_lossy(&last);
    let (tenant, destination) = last.split_once('/').unwrap_or_default();
    transaction.memory.last_delivered = (tenant.to_owned(), destination.to_owned());
    let claimed = outbox::claim(transaction, request, quotas)?;
    if !claimed.claims.is_empty() {
        let (tenant, destination) = &transaction.memory.last_delivered;
        remember(
            connection,
            "last_delivered",
            format!("{tenant}/{destination}").as_bytes(),
        )?;
    }
    Ok(claimed)
}

/// A promise: who gave it, and for how much longer it holds.
struct Promise {
    left_ms: i64,
    who: Vec<u8>,
}

/// A promise that is not over. A clock that was set back makes none last longer than `ms_max`, which is the longest that one is given for.
fn promised(connection: &Connection, name: &str, now: UnixMillis, ms_max: i64) -> Result<Option<Promise>, Fault> {
    let found = remembered(connection, name)?;
    // A value that is too short is no promise.
    let Some((until, who)) = found.as_deref().and_then(|bytes| bytes.split_first_chunk()) else {
        return Ok(None);
    };
    let left_ms = i64::from_be_bytes(*until).saturating_sub(now.0);
    let who = who.to_vec();
    Ok((1..=ms_max).contains(&left_ms).then_some(Promise { left_ms, who }))
}

fn promise(connection: &Connection, name: &str, until: UnixMillis, who: &[u8]) -> Result<(), Fault> {
    remember(connection, name, &[until.0.to_be_bytes().as_slice(), who].concat())
}

/// The worker that is at work, if one is.
fn at_work(connection: &Connection, now: UnixMillis) -> Result<Option<Vec<u8>>, Fault> {
    Ok(promised(connection, WORKS_UNTIL, now, GuestStore::LEASE_MS)?.map(|promise| promise.who))
}

fn is_kept_open(connection: &Connection, now: UnixMillis) -> Result<bool, Fault> {
    let promise = promised(connection, KEPT_OPEN_UNTIL, now, KEPT_OPEN_MS)?;
    Ok(promise.is_some_and(|promise| promise.left_ms >= KEPT_OPEN_MS_MIN))
}

/// Promises to keep the database open, if nobody does for long enough. Returns for how long, in milliseconds.
fn take_keeping(connection: &Connection, now: UnixMillis) -> Result<u64, Fault> {
    if is_kept_open(connection, now)? {
        return Ok(0);
    }
    promise(connection, KEPT_OPEN_UNTIL, now.plus_ms(KEPT_OPEN_MS), &[])?;
    Ok(KEPT_OPEN_MS.unsigned_abs())
}

fn user_version(connection: &Connection) -> Result<u32, Fault> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Brings the schema up to date, in one transaction. Of several instances that try at once, the first does it.
fn migrate(connection: &Connection) -> Result<(), Fault> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::damaged(
            "journal mode",
            format_args!("the host's database is in mode `{mode}`; Tollgate needs `wal`"),
        ));
    }
    transact(connection, "BEGIN IMMEDIATE", |connection| {
        let from = user_version(connection)?;
        for (step, sql) in MIGRATIONS.iter().enumerate().skip(from as usize) {
            for statement in statements(sql) {
                connection.execute(&statement, [])?;
            }
            if step == 0 {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(|error| Fault::damaged("the host's random source", error))?;
                remember(connection, "receipt_key", &key)?;
                remember(connection, "layout", Layout::Rows.name().as_bytes())?;
            }
        }
        connection.execute(&format!("PRAGMA user_version = {SCHEMA_VERSION}"), [])?;
        Ok(())
    })
}

/// The statements of a migration. A host takes one at a time and may silently leave out a second. The files hold no `;` and no
/// `--` inside of quotes.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql
        .lines()
        .map(|line| line.split_once("--").map_or(line, |(code, _)| code))
        .collect();
    code.join("\n")
        .split(';')
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}

fn read_receipt_key(connection: &Connection) -> Result<Secret, Fault> {
    let key = remembered(connection, "receipt_key")?;
    match key {
        Some(key) if key.len() == 32 => Ok(Secret::new(key)),
        Some(key) => Err(Fault::damaged(
            "receipt key",
            format_args!("{} bytes instead of 32", key.len()),
        )),
        None => Err(Fault::damaged("receipt key", "it is missing")),
    }
}

fn snapshot_state(
    connection: &Connection,
    tenant: &TenantName,
    plugin: &PluginName,
    bytes_max: usize,
    keys: Vec<String>,
) -> Result<StateSnapshot, Fault> {
    let bytes = state_total(connection, tenant, plugin)?;
    if usize::try_from(bytes).map_or(true, |bytes| bytes > bytes_max) {
        let read = |key: String| {
            let StateValue { version, value } = jobs::read_state(connection, tenant, plugin, &key)?;
            Ok(StateRead { key, version, value })
        };
        return Ok(StateSnapshot {
            values: keys.into_iter().map(read).collect::<Result<_, Fault>>()?,
            complete: false,
        });
    }
    let values = connection
        .prepare_cached("SELECT key, version, value FROM plugin_state WHERE tenant = ?1 AND plugin = ?2 ORDER BY key")?
        .query_map(params![tenant.as_str(), plugin.as_str()], |row| {
            Ok(StateRead {
                key: row.get(0)?,
                version: row.get(1)?,
                value: Some(row.get(2)?),
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(StateSnapshot { values, complete: true })
}
