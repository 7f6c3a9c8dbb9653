//! What operators see and do, of any store that gives the row layout's transactions: the statements are the same ones.

use std::collections::BTreeMap;
use std::future::Future;

use tollgate_core::event::Event;
use tollgate_core::ids::{
    ActionId, DeliveryId, HostName, OutboxId, PluginDigest, PluginName, ReceiptId, RouteName, SecretName, TenantName,
    TokenId,
};
use tollgate_core::review::Target;
use tollgate_core::time::UnixMillis;

use super::fault::Fault;
use super::head::read_chain_head;
use super::receipts::View;
use super::transaction::Transaction;
use super::{
    budgets, bulks, counts, deliveries, done, issues, lists, pauses, quarantine, registry, replay, resends, reviews,
    runs, set_aside, settings, state_edits, tokens, trace,
};
use crate::log::Kind;
use crate::registry::rows::RegistryRows as _;
use crate::registry::{
    Act, Answered, ApiRoute, BindingChange, BoundRoute, ChangeRequest, ConfiguredRoute, HistoryFilter, KeyRegistered,
    NamespaceChange, NewPublisherKey, NewVersion, PluginVersion, PublisherKeyView, RegistryLine, RevokePublisherKey,
    RouteNamespace, SetRoute, ShadowFilter, ShadowReport, StepRequest, TrialRecord, VersionFilter, rules,
};
use crate::sql::Connection;
use crate::{
    AskedList, BudgetAsked, BudgetView, Bulk, BulkAbort, BulkFilter, BulkStep, ChainView, Control, Count, Counts,
    DeadLetter, DeadLetterFilter, Drain, DrainReport, GroupFailures, HostView, IssueChange, IssueFilter, IssueRecord,
    Item, KeptDelivery, NewBulk, NewSettings, NewToken, NextDue, Notified, OldestWaiting, Page, Pause, Place,
    Quarantine, ReceiptKey, RecordedRun, RecordedRunFilter, ReplayReport, ReplayRequest, ResendRequest, ReviewAnswer,
    ReviewRequest, Revocation, Routable, RoutableFilter, SealedSecret, SecretReseal, Sent, SentFilter, SetAside,
    SetAsideCount, SetAsideFilter, SettingsLine, SettingsPut, SettingsVersion, StateEdit, StateEditView, StateEdited,
    StateEntry, StateFilter, StoreError, TokenRecord, Topic, Trace, TraceQuery, Views,
};

/// Gives the store's transactions.
pub(crate) trait Transacts: ReceiptKey {
    /// Does `work` in a transaction that may write, and answers when it is committed and on the disk. `work` may run again after a rollback. A store
    /// with a log says there of what kind it is.
    fn write<T, F>(&self, kind: Kind, work: F) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        T: Send + 'static,
        F: Fn(&mut Transaction<'_>) -> Result<T, Fault> + Send + 'static;

    /// Reads in one transaction: every statement of `work` sees the same commit.
    fn read<T, F>(&self, work: F) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> Result<T, Fault> + Send + 'static;

    /// As [`Views::next_due`]. A store that commits for its readers may know a cheaper way.
    fn due_next(&self) -> impl Future<Output = Result<NextDue, StoreError>> + Send {
        self.read(|view| counts::next_due(view.connection))
    }

    /// As [`Views::hosts`]. Only a store that many hosts share knows them.
    fn hosts_there(&self) -> impl Future<Output = Result<Vec<HostView>, StoreError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// As [`Control::drain_host`].
    fn drain_there(
        &self,
        name: HostName,
        _: Option<Drain>,
        _dry_run: bool,
    ) -> impl Future<Output = Result<DrainReport, StoreError>> + Send {
        std::future::ready(Err(StoreError::NotFound {
            what: format!("a store that hosts share, with the host `{name}`,"),
        }))
    }
}

/// A change of the registry, which may be tried dry: then it is done where nothing can be written.
async fn change_registry<S, T, F>(store: &S, dry_run: bool, work: F) -> Result<T, StoreError>
where
    S: Transacts,
    T: Send + 'static,
    F: Fn(&Connection) -> Result<T, Fault> + Send + 'static,
{
    if dry_run {
        store.read(move |view| work(view.connection)).await
    } else {
        let change = move |transaction: &mut Transaction<'_>| {
            transaction.changed.push(Topic::Registry);
            work(transaction.connection)
        };
        store.write(Kind::RegistryChanged, change).await
    }
}

impl<S: Transacts> Views for S {
    async fn hosts(&self) -> Result<Vec<HostView>, StoreError> {
        self.hosts_there().await
    }

    async fn trace(&self, query: TraceQuery) -> Result<Vec<Trace>, StoreError> {
        let key = self.receipt_key().clone();
        self.read(move |view| trace::trace(view, &key, &query)).await
    }

    async fn event(&self, receipt: ReceiptId) -> Result<Event, StoreError> {
        self.read(move |view| reviews::event(view, receipt)).await
    }

    async fn receipt_of(&self, target: Target) -> Result<ReceiptId, StoreError> {
        self.read(move |view| reviews::receipt_of(view, target)).await
    }

    async fn route_of(&self, action: ActionId) -> Result<(TenantName, RouteName), StoreError> {
        self.read(move |view| reviews::route_of(view, action)).await
    }

    async fn list(&self, asked: AskedList) -> Result<Page<Item>, StoreError> {
        let key = self.receipt_key().clone();
        self.read(move |view| lists::list(view, &key, &asked)).await
    }

    async fn count(&self, asked: AskedList) -> Result<Count, StoreError> {
        let key = self.receipt_key().clone();
        self.read(move |view| lists::count(view, &key, &asked)).await
    }

    async fn bulks(&self, filter: BulkFilter) -> Result<Vec<Bulk>, StoreError> {
        self.read(move |view| bulks::list(view, &filter)).await
    }

    async fn issues(&self, filter: IssueFilter) -> Result<Vec<IssueRecord>, StoreError> {
        self.read(move |view| issues::list(view, &filter)).await
    }

    async fn ungrouped_failures(&self) -> Result<u64, StoreError> {
        self.read(issues::ungrouped).await
    }

    async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(move |view| replay::dead_letters(view, &filter)).await
    }

    async fn sent(&self, filter: SentFilter) -> Result<Vec<Sent>, StoreError> {
        self.read(move |view| resends::sent(view, &filter)).await
    }

    async fn set_aside(&self, filter: SetAsideFilter) -> Result<Vec<SetAside>, StoreError> {
        self.read(move |view| set_aside::list(view, &filter)).await
    }

    async fn set_aside_counts(&self, tenant: Option<TenantName>) -> Result<Vec<SetAsideCount>, StoreError> {
        self.read(move |view| set_aside::counts(view, tenant.as_ref())).await
    }

    async fn budgets(
        &self,
        asked: Vec<BudgetAsked>,
        account: Option<String>,
        at: UnixMillis,
    ) -> Result<Vec<BudgetView>, StoreError> {
        self.read(move |view| budgets::list(view.connection, &asked, account.as_deref(), at))
            .await
    }

    async fn kept_delivery(&self, delivery: DeliveryId) -> Result<KeptDelivery, StoreError> {
        self.read(move |view| deliveries::kept(view, delivery)).await
    }

    async fn routable(&self, filter: RoutableFilter) -> Result<Vec<Routable>, StoreError> {
        self.read(move |view| replay::routable(view, &filter)).await
    }

    async fn recorded_runs(&self, filter: RecordedRunFilter) -> Result<Vec<RecordedRun>, StoreError> {
        self.read(move |view| runs::recorded(view, &filter)).await
    }

    async fn plugin_state(&self, filter: StateFilter) -> Result<Vec<StateEntry>, StoreError> {
        self.read(move |view| state_edits::list(view, &filter)).await
    }

    async fn state_edits(
        &self,
        tenant: TenantName,
        plugin: PluginName,
        key: String,
    ) -> Result<Vec<StateEditView>, StoreError> {
        self.read(move |view| state_edits::edits(view, &tenant, &plugin, &key))
            .await
    }

    async fn quarantines(&self) -> Result<Vec<Quarantine>, StoreError> {
        self.read(quarantine::list).await
    }

    async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.read(tokens::list).await
    }

    async fn plugin_versions(&self, filter: VersionFilter) -> Result<Vec<PluginVersion>, StoreError> {
        self.read(move |view| registry::versions(view.connection, &filter))
            .await
    }

    async fn component(&self, digest: PluginDigest) -> Result<Vec<u8>, StoreError> {
        self.read(move |view| registry::component(view.connection, digest))
            .await
    }

    async fn bindings(&self, tenant: Option<TenantName>) -> Result<Vec<BoundRoute>, StoreError> {
        self.read(move |view| view.connection.bindings(tenant.as_ref())).await
    }

    async fn api_routes(&self) -> Result<Vec<ApiRoute>, StoreError> {
        self.read(|view| registry::api_routes(view.connection)).await
    }

    async fn publisher_keys(&self, tenant: Option<TenantName>) -> Result<Vec<PublisherKeyView>, StoreError> {
        self.read(move |view| view.connection.publisher_keys(tenant.as_ref()))
            .await
    }

    async fn registry_history(&self, filter: HistoryFilter) -> Result<Vec<RegistryLine>, StoreError> {
        self.read(move |view| {
            let mut lines = registry::history(view.connection, &filter)?;
            if filter.with_events {
                lines.extend(done::by_people(view, &filter)?);
            }
            Ok(lines)
        })
        .await
    }

    async fn shadow_runs(&self, filter: ShadowFilter) -> Result<ShadowReport, StoreError> {
        self.read(move |view| registry::shadow_report(view.connection, &filter))
            .await
    }

    async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        self.read(|view| pauses::list(view.connection)).await
    }

    async fn settings_changes(&self) -> Result<BTreeMap<TenantName, u64>, StoreError> {
        self.read(|view| settings::changes(view.connection)).await
    }

    async fn settings(&self, tenant: TenantName, version: Option<u64>) -> Result<Option<SettingsVersion>, StoreError> {
        self.read(move |view| settings::version(view.connection, &tenant, version))
            .await
    }

    async fn settings_versions(&self, tenant: TenantName, rows_max: usize) -> Result<Vec<SettingsLine>, StoreError> {
        self.read(move |view| settings::versions(view.connection, &tenant, rows_max))
            .await
    }

    async fn sealed_secrets(&self, tenant: TenantName) -> Result<Vec<SealedSecret>, StoreError> {
        self.read(move |view| settings::secrets(view.connection, &tenant)).await
    }

    async fn next_due(&self) -> Result<NextDue, StoreError> {
        self.due_next().await
    }

    async fn oldest_waiting(&self) -> Result<OldestWaiting, StoreError> {
        self.read(counts::oldest_waiting).await
    }

    async fn chain(&self) -> Result<ChainView, StoreError> {
        self.read(|view| {
            let head = read_chain_head(view.connection)?;
            Ok(ChainView {
                receipts: u64::try_from(head.seq).unwrap_or_default(),
                head: head.link.to_string(),
            })
        })
        .await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(counts::counts).await
    }
}

impl<S: Transacts> Control for S {
    async fn drain_host(&self, name: HostName, drain: Option<Drain>, dry_run: bool) -> Result<DrainReport, StoreError> {
        self.drain_there(name, drain, dry_run).await
    }

    async fn replay(&self, request: ReplayRequest) -> Result<ReplayReport, StoreError> {
        if request.dry_run {
            return self.read(move |view| replay::plan(view, &request)).await;
        }
        self.write(Kind::Replayed, move |transaction| replay::replay(transaction, &request))
            .await
    }

    async fn resend(&self, request: ResendRequest) -> Result<Vec<OutboxId>, StoreError> {
        self.write(Kind::Replayed, move |transaction| {
            resends::resend(transaction, &request)
        })
        .await
    }

    async fn group_failures(&self, request: GroupFailures) -> Result<usize, StoreError> {
        self.write(Kind::Grouped, move |transaction| issues::group(transaction, &request))
            .await
    }

    async fn change_issue(&self, change: IssueChange, notified: Notified) -> Result<IssueRecord, StoreError> {
        self.write(Kind::Grouped, move |transaction| {
            issues::change(transaction, &change, &notified)
        })
        .await
    }

    async fn start_bulk(&self, bulk: NewBulk) -> Result<Bulk, StoreError> {
        self.write(Kind::Replayed, move |transaction| bulks::start(transaction, &bulk))
            .await
    }

    async fn step_bulk(&self, step: BulkStep) -> Result<Bulk, StoreError> {
        let key = self.receipt_key().clone();
        self.write(Kind::Replayed, move |transaction| bulks::step(transaction, &key, &step))
            .await
    }

    async fn abort_bulk(&self, abort: BulkAbort) -> Result<Bulk, StoreError> {
        self.write(Kind::Replayed, move |transaction| bulks::abort(transaction, &abort))
            .await
    }

    async fn review(&self, request: ReviewRequest) -> Result<ReviewAnswer, StoreError> {
        let key = self.receipt_key().clone();
        if request.dry_run {
            return self.read(move |view| reviews::plan(view, &key, &request)).await;
        }
        self.write(Kind::Reviewed, move |transaction| {
            reviews::review(transaction, &key, &request)
        })
        .await
    }

    async fn edit_state(&self, edit: StateEdit) -> Result<StateEdited, StoreError> {
        if edit.dry_run {
            return self.read(move |view| state_edits::plan(view, &edit)).await;
        }
        self.write(Kind::StateEdited, move |transaction| {
            state_edits::edit(transaction, &edit)
        })
        .await
    }

    async fn lift_quarantine(
        &self,
        tenant: TenantName,
        route: RouteName,
        act: Act,
    ) -> Result<Vec<Quarantine>, StoreError> {
        self.write(Kind::Quarantined, move |transaction| {
            quarantine::lift(transaction, &tenant, &route, &act)
        })
        .await
    }

    async fn pause(&self, tenant: TenantName, place: Place, act: Act) -> Result<Pause, StoreError> {
        if act.dry_run {
            let planned = move |view: View<'_>| pauses::pause(view.connection, &tenant, &place, &act);
            return self.read(planned).await;
        }
        self.write(Kind::RegistryChanged, move |transaction| {
            pauses::pause(transaction.connection, &tenant, &place, &act)
        })
        .await
    }

    async fn resume(&self, tenant: TenantName, place: Place, act: Act) -> Result<Option<Pause>, StoreError> {
        self.write(Kind::RegistryChanged, move |transaction| {
            pauses::resume(transaction, &tenant, &place, &act)
        })
        .await
    }

    async fn put_settings(&self, new: NewSettings) -> Result<SettingsPut, StoreError> {
        self.write(Kind::Configured, move |transaction| settings::put(transaction, &new))
            .await
    }

    async fn put_secret(&self, tenant: TenantName, secret: SealedSecret) -> Result<bool, StoreError> {
        self.write(Kind::Configured, move |transaction| {
            settings::put_secret(transaction, &tenant, &secret)
        })
        .await
    }

    async fn reseal_secret(&self, tenant: TenantName, reseal: SecretReseal, act: Act) -> Result<bool, StoreError> {
        self.write(Kind::Configured, move |transaction| {
            settings::reseal_secret(transaction, &tenant, &reseal, &act)
        })
        .await
    }

    async fn remove_secret(&self, tenant: TenantName, name: SecretName, act: Act) -> Result<bool, StoreError> {
        self.write(Kind::Configured, move |transaction| {
            settings::remove_secret(transaction, &tenant, &name, &act)
        })
        .await
    }

    async fn issue_token(&self, token: NewToken) -> Result<TokenId, StoreError> {
        self.write(Kind::TokenChanged, move |transaction| {
            tokens::issue(transaction, &token)
        })
        .await
    }

    async fn revoke_token(&self, id: TokenId, end: Revocation) -> Result<bool, StoreError> {
        self.write(Kind::TokenChanged, move |transaction| {
            tokens::revoke(transaction, id, &end)
        })
        .await
    }

    async fn add_version(&self, version: NewVersion, act: Act) -> Answered<PluginVersion> {
        change_registry(self, act.dry_run, move |connection| {
            rules::add_version(connection, &version, &act)
        })
        .await
    }

    async fn step_version(&self, request: StepRequest) -> Answered<PluginVersion> {
        change_registry(self, request.act.dry_run, move |connection| {
            rules::step(connection, &request)
        })
        .await
    }

    async fn change_binding(&self, request: ChangeRequest) -> Answered<BindingChange> {
        change_registry(self, request.act.dry_run, move |connection| {
            rules::change(connection, &request)
        })
        .await
    }

    async fn follow_configuration(
        &self,
        routes: Vec<ConfiguredRoute>,
        act: Act,
    ) -> Result<Vec<ConfiguredRoute>, StoreError> {
        change_registry(self, false, move |connection| rules::follow(connection, &routes, &act)).await
    }

    async fn follow_namespaces(
        &self,
        routes: Vec<RouteNamespace>,
        act: Act,
    ) -> Result<Vec<NamespaceChange>, StoreError> {
        if act.dry_run {
            return self
                .read(move |view| rules::follow_namespaces(view.connection, &routes, &act))
                .await;
        }
        self.write(Kind::RegistryChanged, move |transaction| {
            rules::follow_namespaces(transaction.connection, &routes, &act)
        })
        .await
    }

    async fn set_route(&self, request: SetRoute) -> Answered<BindingChange> {
        change_registry(self, request.act.dry_run, move |connection| {
            rules::set_route(connection, &request)
        })
        .await
    }

    async fn remove_route(
        &self,
        tenant: TenantName,
        route: RouteName,
        configured: Option<ConfiguredRoute>,
        act: Act,
    ) -> Answered<BindingChange> {
        change_registry(self, act.dry_run, move |connection| {
            rules::remove_route(connection, &tenant, &route, configured.as_ref(), &act)
        })
        .await
    }

    async fn register_publisher_key(&self, key: NewPublisherKey) -> Result<KeyRegistered, StoreError> {
        change_registry(self, key.act.dry_run, move |connection| {
            rules::register_key(connection, &key)
        })
        .await
    }

    async fn revoke_publisher_key(&self, request: RevokePublisherKey) -> Result<bool, StoreError> {
        change_registry(self, request.act.dry_run, move |connection| {
            rules::revoke_key(connection, &request)
        })
        .await
    }

    async fn record_trial(&self, trial: TrialRecord) -> Result<(), StoreError> {
        self.write(Kind::Tried, move |transaction| {
            registry::record_trial(transaction.connection, &trial)
        })
        .await
    }
}
