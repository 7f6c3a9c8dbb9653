//! The store of many hosts: PostgreSQL. Any host takes in, any host works, any may end.
//!
//! The statements are those of the row layout, the same that SQLite is asked (`dialect` says them in PostgreSQL's words). What differs is who
//! commits: the `writer` thread of each host, behind one lock that all hosts share; `readers` read beside it; the `listener` hears what
//! other hosts changed. See `docs/decisions/0014-postgresql.md`.

mod ahead;
mod arrays;
mod check;
mod client;
pub(crate) mod copy;
mod dialect;
mod footprint;
mod gathered;
mod hosts;
mod listener;
mod rates;
mod readers;
mod schema;
mod snapshots;
mod surveys;
mod target;
mod tls;
mod writer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_api::hosts::{Drain, DrainReport, HostView};
use tollgate_core::admission::Admission;
use tollgate_core::ids::{HostName, JobId, LeaseEpoch, PluginName, TenantName};
use tollgate_core::secret::Secret;
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;

pub use self::check::ServerFound;
use self::client::Client;
pub use self::hosts::HearClock;
use self::hosts::Presence;
use self::listener::Listener;
use self::readers::Readers;
pub use self::snapshots::HeldSnapshot;
use self::surveys::Surveyor;
use self::target::Target;
use self::writer::Writer;
use crate::log::Kind;
use crate::queue::Signals;
use crate::registry::ShadowRecord;
use crate::statements::due::Due;
use crate::statements::fault::Fault;
use crate::statements::operators::Transacts;
use crate::statements::receipts::{Rows, View};
use crate::statements::transaction::{Memory, Transaction};
use crate::statements::{admit, chain, counts, jobs, outbox, pulls, quarantine, registry, unfinished};
use crate::{
    Admitted, AttemptRecord, AttemptRecorded, BlockingReads, Changes, ClaimRequest, HostIdentity, Intake, JobClaim,
    NextDue, Outbox, OutboxClaims, OutboxHold, PullEnd, PullEnded, PullRequest, Quarantine, Quotas, ReceiptKey,
    Settled, Settlement, Store, StoreError, Topic, Work,
};

/// A host's handle of the store. Clones share its connections, which are closed when the last is dropped.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    receipt_key: Arc<Secret>,
    signals: Arc<Signals>,
    readers: Arc<Readers>,
    /// What is due, as far as claims need it.
    surveys: Surveys,
    /// None where the store was opened for reading only.
    host: Option<Host>,
    /// For people.
    shown: String,
}

/// Surveys of what is due.
#[derive(Debug)]
struct Surveys {
    jobs: Arc<Surveyor<String>>,
    outbox: Arc<Surveyor<(String, String)>>,
}

impl Surveys {
    fn new() -> Self {
        Self {
            jobs: Surveyor::of_jobs(),
            outbox: Surveyor::of_outbox(),
        }
    }
}

/// What makes whoever has the store open one of its hosts.
#[derive(Debug)]
struct Host {
    listener: Listener,
    writer: Writer,
    /// None for a command that only looks in to write something.
    presence: Option<Arc<Presence>>,
}

impl PostgresStore {
    /// As [`PostgresStore::open`], as a host that people see: it says that it is there until the store is closed, and claims nothing while a person
    /// has it drained.
    ///
    /// `hear_clock` is told what the database's clock said at a moment, at first and about once a second. Whatever time the store is told as the time
    /// of now has to be by that clock, which all hosts share: what one says is due, another takes.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub fn open_as(url: &Secret, identity: HostIdentity, hear_clock: HearClock) -> Result<Self, StoreError> {
        Self::opened(url, Some(Arc::new(Presence::new(identity, hear_clock))))
    }

    /// Opens the store at a URL such as `postgres://user:password@host/database`, makes it if there is none, and migrates it if it is
    /// older. Blocks. Where no other host has it open, jobs and outbox entries that were leased are free at once.
    ///
    /// # Errors
    /// [`StoreError::Away`], [`StoreError::NewerSchema`], and [`StoreError::Open`] for all else.
    pub fn open(url: &Secret) -> Result<Self, StoreError> {
        Self::opened(url, None)
    }

    fn opened(url: &Secret, presence: Option<Arc<Presence>>) -> Result<Self, StoreError> {
        let target = Target::parse(url)?;
        let signals = Arc::new(Signals::default());
        let (writer, opened) = Writer::start(&target, &signals, presence.as_ref())?;
        if let Some(danger) = target.danger() {
            tracing::warn!(store = target.shown, "{danger}");
        }
        Ok(Self {
            inner: Arc::new(Inner {
                receipt_key: Arc::new(opened.receipt_key),
                readers: Arc::new(Readers::start(&target)?),
                surveys: Surveys::new(),
                host: Some(Host {
                    listener: Listener::start(&target, opened.host, opened.heard, &signals, presence.clone())?,
                    writer,
                    presence,
                }),
                signals,
                shown: target.shown,
            }),
        })
    }

    /// Opens an existing store for reading only, beside the hosts that may be using it. Blocks. What writes answers
    /// [`StoreError::ReadOnly`].
    ///
    /// # Errors
    /// [`StoreError::Away`], [`StoreError::NewerSchema`], and [`StoreError::Open`] when there is no store or it has an older schema.
    pub fn open_read_only(url: &Secret) -> Result<Self, StoreError> {
        let target = Target::parse(url)?;
        let readers = Readers::start(&target)?;
        let (found, receipt_key, is_unfinished) = readers.read_here(|connection| {
            let found = schema::version(connection)?;
            let is_known = schema::is_workable(connection, found)?;
            let key = is_known.then(|| schema::receipt_key(connection)).transpose()?;
            Ok((found, key, is_known && unfinished::is_there(connection)?))
        })?;
        let known = schema::VERSION;
        let refused = |detail: String| StoreError::Open {
            path: target.shown.clone(),
            detail,
        };
        let receipt_key = match receipt_key {
            Some(_) if is_unfinished => return Err(refused(unfinished::REFUSED.to_owned())),
            Some(key) => key,
            None if found > known => {
                return Err(StoreError::NewerSchema {
                    path: target.shown,
                    found,
                    known,
                });
            }
            None if found == 0 => {
                return Err(refused(
                    "there is no store yet; a host makes it when it starts".to_owned(),
                ));
            }
            None => {
                return Err(refused(format!(
                    "it has schema {found}, and this Tollgate reads {known}; a host of this version brings it up to date when it starts"
                )));
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                receipt_key: Arc::new(receipt_key),
                signals: Arc::default(),
                readers: Arc::new(readers),
                surveys: Surveys::new(),
                host: None,
                shown: target.shown,
            }),
        })
    }

    fn writer(&self) -> Result<&Writer, StoreError> {
        self.inner.signals.check()?;
        match &self.inner.host {
            Some(host) => Ok(&host.writer),
            None => Err(StoreError::ReadOnly {
                path: self.inner.shown.clone(),
            }),
        }
    }

    fn presence(&self) -> Option<&Presence> {
        self.inner.host.as_ref()?.presence.as_deref()
    }

    /// Why this host claims nothing, if a person has it drained.
    pub fn drain(&self) -> Option<Drain> {
        self.presence()?.drain()
    }

    /// Why this host can write nothing at present, as its last attempt found.
    pub fn away(&self) -> Option<String> {
        self.inner.signals.away()
    }

    /// Says what this host's tenants run from now on, for the list of hosts.
    pub fn set_configuration(&self, configuration: &str) {
        if let Some(presence) = self.presence() {
            presence.set_configuration(configuration);
        }
    }

    /// As [`AnyStore::exchange_rates`](crate::AnyStore::exchange_rates).
    pub fn exchange_rates(&self, taken: Vec<(TenantName, u64)>) -> Vec<(TenantName, u64)> {
        self.presence()
            .map_or_else(Vec::new, |presence| presence.rates.tell(taken))
    }

    /// Whether this host may claim. While it may not, whoever asks waits a moment first.
    async fn may_claim(&self) -> bool {
        match self.presence() {
            Some(presence) => presence.may_claim().await,
            None => true,
        }
    }

    /// Connects, and says what is there and what of it is dangerous. Changes nothing. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Away`], and [`StoreError::Open`] when the URL is none or who connects may not.
    pub fn find(url: &Secret) -> Result<ServerFound, StoreError> {
        let target = Target::parse(url)?;
        let shown = target.shown.clone();
        let find = move || -> Result<ServerFound, Fault> {
            let client = Client::connect(&target)?;
            let schema = schema::version(&client)?;
            check::found(&client, &target, schema)
        };
        // On a thread of its own: a connection waits, and whoever asks may be where nothing may.
        let found = std::thread::spawn(find).join();
        found
            .unwrap_or_else(|_| Err(Fault::damaged("connection", "its thread panicked")))
            .map_err(|fault| match fault.of_reader() {
                error @ StoreError::Away { .. } => error,
                error => StoreError::Open {
                    path: shown,
                    detail: error.to_string(),
                },
            })
    }

    /// The session that has held an old state of the database for the longest, if that is longer than this: the server keeps dead rows for it. Blocks.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub fn snapshot_held(&self, longer_than: Duration) -> Result<Option<HeldSnapshot>, StoreError> {
        self.inner
            .readers
            .read_here(move |connection| Ok(snapshots::oldest(connection, longer_than)?))
    }

    /// Reads every receipt and row, and says in words what is not whole. Blocks, for as long as it takes to read all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn problems(&self) -> Result<Vec<String>, StoreError> {
        self.inner.signals.check()?;
        let key = Arc::clone(&self.inner.receipt_key);
        self.inner
            .readers
            .read_here(move |connection| chain::problems(View::new(connection, &Rows), &key))
    }

    /// A write that nobody outside is told of: its commit does not wait for the disk, unless it marks itself as one that must.
    async fn write_unsynced<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.writer()?.write(kind, false, work).await
    }

    /// A claim, which begins to look where something may be due.
    async fn claim<N, T, F>(
        &self,
        surveyor: &Arc<Surveyor<N>>,
        due: fn(&mut Memory) -> &mut Due<N>,
        kind: Kind,
        work: F,
    ) -> Result<T, StoreError>
    where
        N: Ord + Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + Sync + 'static,
    {
        let work = Arc::new(work);
        let mut survey = surveyor.hear(&self.inner.readers).await;
        loop {
            let work = Arc::clone(&work);
            let claimed = self.write_unsynced(kind, move |transaction| {
                let due = due(transaction.memory);
                if let Some(survey) = &survey {
                    due.hear(survey);
                }
                match due.is_known() {
                    true => work(transaction).map(Some),
                    false => Ok(None),
                }
            });
            match claimed.await? {
                Some(claimed) => return Ok(claimed),
                // The writer's connection is new, and it remembers nothing.
                None => survey = Some(surveyor.hear_first(&self.inner.readers).await?),
            }
        }
    }
}

impl Transacts for PostgresStore {
    async fn write<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.writer()?.write(kind, true, work).await
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> Result<T, Fault> + Send + 'static,
    {
        self.inner.signals.check()?;
        self.inner
            .readers
            .read(move |connection| work(View::new(connection, &Rows)))
            .await
    }

    async fn due_next(&self) -> Result<NextDue, StoreError> {
        let Surveys { jobs, outbox } = &self.inner.surveys;
        let again = jobs.look_again().or_else(|| outbox.look_again());
        self.read(move |view| match again {
            Some(_) => Ok(NextDue {
                job: again,
                outbox: again,
            }),
            None => counts::next_due(view.connection),
        })
        .await
    }

    async fn hosts_there(&self) -> Result<Vec<HostView>, StoreError> {
        self.read(|view| hosts::list(view.connection)).await
    }

    async fn drain_there(
        &self,
        name: HostName,
        drain: Option<Drain>,
        dry_run: bool,
    ) -> Result<DrainReport, StoreError> {
        let work = move |transaction: &mut Transaction<'_>| {
            hosts::drain(transaction.connection, &name, drain.as_ref(), dry_run)?
                .ok_or_else(|| Fault::NotFound(format!("the host `{name}`")))
        };
        // There is no log here that would tell kinds apart.
        self.write(Kind::RegistryChanged, work).await
    }
}

impl Store for PostgresStore {
    async fn close(&self) {
        match &self.inner.host {
            Some(host) => {
                host.writer.close().await;
                host.listener.close().await;
            }
            None => self.inner.signals.stop(),
        }
    }
}

impl ReceiptKey for PostgresStore {
    fn receipt_key(&self) -> &Secret {
        &self.inner.receipt_key
    }
}

impl Intake for PostgresStore {
    async fn admit(&self, admissions: Vec<Admission>) -> Result<Vec<Admitted>, StoreError> {
        let key = Arc::clone(&self.inner.receipt_key);
        self.write_unsynced(Kind::Admitted, move |transaction| {
            let admit = |admission| admit::admit(transaction, &key, admission);
            admissions.iter().map(admit).collect()
        })
        .await
    }
}

impl Work for PostgresStore {
    async fn claim_jobs(&self, request: ClaimRequest) -> Result<Vec<JobClaim>, StoreError> {
        if !self.may_claim().await {
            return Ok(Vec::new());
        }
        let (surveyor, now, rows_max) = (&self.inner.surveys.jobs, request.now, request.rows_max);
        let claim = move |transaction: &mut Transaction<'_>| jobs::claim(transaction, &request);
        let claims = self
            .claim(surveyor, |memory| &mut memory.jobs_due, Kind::Claimed, claim)
            .await?;
        surveyor.note_claim(now, claims.len() >= rows_max);
        Ok(claims)
    }

    async fn extend_lease(&self, job: JobId, epoch: LeaseEpoch, until: UnixMillis) -> Result<bool, StoreError> {
        self.write_unsynced(Kind::Claimed, move |transaction| {
            jobs::extend_lease(transaction, job, epoch, until)
        })
        .await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        self.write_unsynced(Kind::Settled, move |transaction| jobs::settle(transaction, &settlement))
            .await
    }

    async fn quarantine(&self, quarantine: Quarantine) -> Result<(), StoreError> {
        self.write(Kind::Quarantined, move |transaction| {
            quarantine::put(transaction, &quarantine)
        })
        .await
    }

    async fn record_shadow_run(&self, record: ShadowRecord) -> Result<(), StoreError> {
        self.write_unsynced(Kind::Tried, move |transaction| {
            registry::record_shadow(transaction.connection, &record)
        })
        .await
    }

    fn work_ready(&self) -> impl Future<Output = ()> + Send {
        self.inner.signals.work.notified()
    }

    fn blocking(&self) -> &impl BlockingReads {
        self
    }
}

impl BlockingReads for PostgresStore {
    fn read_state(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Result<StateValue, StoreError> {
        self.inner.signals.check()?;
        let (tenant, plugin, key) = (tenant.clone(), plugin.clone(), key.to_owned());
        self.inner
            .readers
            .read_here(move |connection| jobs::read_state(connection, &tenant, &plugin, &key))
    }
}

impl Outbox for PostgresStore {
    async fn claim_outbox(&self, request: ClaimRequest, quotas: Quotas) -> Result<OutboxClaims, StoreError> {
        if !self.may_claim().await {
            return Ok(OutboxClaims {
                claims: Vec::new(),
                next_due: None,
            });
        }
        let (surveyor, now, rows_max) = (&self.inner.surveys.outbox, request.now, request.rows_max);
        let claim = move |transaction: &mut Transaction<'_>| outbox::claim(transaction, &request, &quotas);
        let claimed = self
            .claim(surveyor, |memory| &mut memory.outbox_due, Kind::Taken, claim)
            .await?;
        surveyor.note_claim(now, claimed.claims.len() >= rows_max);
        Ok(claimed)
    }

    async fn record_attempt(&self, attempt: AttemptRecord) -> Result<AttemptRecorded, StoreError> {
        self.write_unsynced(Kind::Attempted, move |transaction| {
            outbox::record_attempt(transaction, &attempt)
        })
        .await
    }

    async fn release_outbox(&self, claims: Vec<OutboxHold>, at: UnixMillis) -> Result<(), StoreError> {
        self.write_unsynced(Kind::Taken, move |transaction| {
            outbox::release(transaction, &claims, at)
        })
        .await
    }

    async fn pull(&self, request: PullRequest) -> Result<OutboxClaims, StoreError> {
        if !self.may_claim().await {
            return Ok(OutboxClaims {
                claims: Vec::new(),
                next_due: None,
            });
        }
        let surveyor = &self.inner.surveys.outbox;
        let pull = move |transaction: &mut Transaction<'_>| pulls::pull(transaction, &request);
        self.claim(surveyor, |memory| &mut memory.outbox_due, Kind::Taken, pull)
            .await
    }

    async fn end_pulled(&self, end: PullEnd) -> Result<Vec<PullEnded>, StoreError> {
        self.write_unsynced(Kind::Attempted, move |transaction| pulls::end(transaction, &end))
            .await
    }

    fn outbox_ready(&self) -> impl Future<Output = ()> + Send {
        self.inner.signals.outbox.notified()
    }
}

impl Changes for PostgresStore {
    fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        self.inner.signals.changes_of(topic).subscribe()
    }
}
