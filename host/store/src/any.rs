//! A store that is either one: for a host, and for commands beside it, whose configuration says which.

use tokio::sync::watch;
use tollgate_core::admission::Admission;
use tollgate_core::ids::{HostName, JobId, LeaseEpoch, PluginName, TenantName};
use tollgate_core::secret::Secret;
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;

use crate::log::Kind;
use crate::registry::ShadowRecord;
use crate::statements::fault::Fault;
use crate::statements::operators::Transacts;
use crate::statements::receipts::View;
use crate::statements::transaction::Transaction;
use crate::{
    Admitted, AttemptRecord, AttemptRecorded, BlockingReads, Changes, ClaimRequest, Drain, DrainReport, HostView,
    Intake, JobClaim, NextDue, Outbox, OutboxClaims, OutboxHold, PostgresStore, PullEnd, PullEnded, PullRequest,
    Quarantine, Quotas, ReceiptKey, Settled, Settlement, SqliteStore, Store, StoreError, Topic, WalStanding, Work,
};

/// One of the two stores.
#[derive(Debug, Clone)]
pub enum AnyStore {
    /// Of one machine, in files.
    Local(SqliteStore),
    /// Of many hosts.
    Shared(PostgresStore),
}

macro_rules! either {
    ($either:expr, $store:ident => $call:expr) => {
        match $either {
            AnyStore::Local($store) => $call,
            AnyStore::Shared($store) => $call,
        }
    };
}

impl AnyStore {
    /// How long the write-ahead log on this machine is; there is none of a store that many hosts share.
    pub fn wal_standing(&self) -> WalStanding {
        match self {
            Self::Local(store) => store.wal_standing(),
            Self::Shared(_) => WalStanding::default(),
        }
    }

    /// Why this host claims nothing, if a person has it drained. A host that has its store alone never is.
    pub fn drain(&self) -> Option<Drain> {
        match self {
            Self::Local(_) => None,
            Self::Shared(store) => store.drain(),
        }
    }

    /// Why nothing can be written at present, though reading may go on: a shared store's server does not let this host. Of a store that one host has
    /// alone its reads say so.
    pub fn away(&self) -> Option<String> {
        match self {
            Self::Local(_) => None,
            Self::Shared(store) => store.away(),
        }
    }

    /// Says what this host's tenants run from now on, to whoever lists the hosts of a shared store.
    pub fn set_configuration(&self, configuration: &str) {
        if let Self::Shared(store) = self {
            store.set_configuration(configuration);
        }
    }
}

impl AnyStore {
    /// Whether there may be other hosts, with which tenants' rates are shared.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Says how many requests of tenants' rates this host let in since it last said so, and returns how many the others did since then, as
    /// far as that is known yet. Waits for nothing.
    pub fn exchange_rates(&self, taken: Vec<(TenantName, u64)>) -> Vec<(TenantName, u64)> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::Shared(store) => store.exchange_rates(taken),
        }
    }
}

impl Transacts for AnyStore {
    async fn write<T, F>(&self, kind: Kind, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static,
    {
        either!(self, store => store.write(kind, work).await)
    }

    async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> Result<T, Fault> + Send + 'static,
    {
        either!(self, store => store.read(work).await)
    }

    async fn due_next(&self) -> Result<NextDue, StoreError> {
        either!(self, store => store.due_next().await)
    }

    async fn hosts_there(&self) -> Result<Vec<HostView>, StoreError> {
        either!(self, store => store.hosts_there().await)
    }

    async fn drain_there(
        &self,
        name: HostName,
        drain: Option<Drain>,
        dry_run: bool,
    ) -> Result<DrainReport, StoreError> {
        either!(self, store => store.drain_there(name, drain, dry_run).await)
    }
}

impl Store for AnyStore {
    async fn close(&self) {
        either!(self, store => store.close().await)
    }
}

impl ReceiptKey for AnyStore {
    fn receipt_key(&self) -> &Secret {
        either!(self, store => store.receipt_key())
    }
}

impl Intake for AnyStore {
    async fn admit(&self, admissions: Vec<Admission>) -> Result<Vec<Admitted>, StoreError> {
        either!(self, store => store.admit(admissions).await)
    }
}

impl Work for AnyStore {
    async fn claim_jobs(&self, request: ClaimRequest) -> Result<Vec<JobClaim>, StoreError> {
        either!(self, store => store.claim_jobs(request).await)
    }

    async fn extend_lease(&self, job: JobId, epoch: LeaseEpoch, until: UnixMillis) -> Result<bool, StoreError> {
        either!(self, store => store.extend_lease(job, epoch, until).await)
    }

    async fn settle(&self, settlement: Settlement) -> Result<Settled, StoreError> {
        either!(self, store => store.settle(settlement).await)
    }

    async fn quarantine(&self, quarantine: Quarantine) -> Result<(), StoreError> {
        either!(self, store => store.quarantine(quarantine).await)
    }

    async fn record_shadow_run(&self, record: ShadowRecord) -> Result<(), StoreError> {
        either!(self, store => store.record_shadow_run(record).await)
    }

    async fn work_ready(&self) {
        either!(self, store => store.work_ready().await)
    }

    fn blocking(&self) -> &impl BlockingReads {
        self
    }
}

impl BlockingReads for AnyStore {
    fn read_state(&self, tenant: &TenantName, plugin: &PluginName, key: &str) -> Result<StateValue, StoreError> {
        either!(self, store => store.read_state(tenant, plugin, key))
    }
}

impl Outbox for AnyStore {
    async fn claim_outbox(&self, request: ClaimRequest, quotas: Quotas) -> Result<OutboxClaims, StoreError> {
        either!(self, store => store.claim_outbox(request, quotas).await)
    }

    async fn record_attempt(&self, attempt: AttemptRecord) -> Result<AttemptRecorded, StoreError> {
        either!(self, store => store.record_attempt(attempt).await)
    }

    async fn release_outbox(&self, claims: Vec<OutboxHold>, at: UnixMillis) -> Result<(), StoreError> {
        either!(self, store => store.release_outbox(claims, at).await)
    }

    async fn pull(&self, request: PullRequest) -> Result<OutboxClaims, StoreError> {
        either!(self, store => store.pull(request).await)
    }

    async fn end_pulled(&self, end: PullEnd) -> Result<Vec<PullEnded>, StoreError> {
        either!(self, store => store.end_pulled(end).await)
    }

    async fn outbox_ready(&self) {
        either!(self, store => store.outbox_ready().await)
    }
}

impl Changes for AnyStore {
    fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        either!(self, store => store.subscribe(topic))
    }
}
