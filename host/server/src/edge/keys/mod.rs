//! Keys that a request names and its source does not hold: certificates and JSON Web Keys that providers publish.
//!
//! Whoever sends a request chooses the key's name and has proved nothing yet. So core lists where a key may come from; here it is
//! fetched under the guard of [`crate::outbound`], once for all who wait for it, and a failure is remembered for a while. A key
//! that cannot be had is our failure and never a refusal: the sender is asked to come again.
//!
//! A name is vouched for when it proved a request or when its source lists it. Such names wait for nobody, are fetched ahead and again
//! before they end, and are kept over restarts ([`kept`]). All other names share a small budget ([`budget`]).

mod budget;
mod kept;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tollgate_core::ids::{KeyId, SourceName, TenantName};
use tollgate_core::limits::{FETCHED_KEY_BYTES_MAX, VOUCHED_KEYS_MAX};
use tollgate_core::profile::Profile;
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{KeyNeed, Keyring};

use self::budget::{Asked, Asker, FAILURE_KEPT_NS, Strangers};
use self::kept::{Document, KeptName, KeyFile};
use crate::clock;
use crate::config::{Config, OutboundRules, Source, Tenant};
use crate::outbound;

/// The most time that a fetch may take, to its last byte. Providers wait longer for their answer than this.
const FETCH_MS_MAX: u64 = 5_000;
/// How often it is looked what is to be fetched ahead, and what waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a name is remembered after it last proved a request.
const UNUSED_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// How long a key that is fetched ahead and could not be had is not asked for again, while no request waits for it.
const AHEAD_AGAIN_NS: u64 = 60_000_000_000;

/// Why a key could not be had, in one line for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoKey {
    #[error("it could not be fetched a moment ago")]
    FailedBefore,
    #[error(
        "too many keys were asked for that are not known here; `published_keys` in the source lists names that need not wait"
    )]
    TooMany,
    #[error("it waits for its turn to be fetched")]
    Waits,
    #[error("{0}")]
    Failed(String),
}

/// What is known of published keys, by source. A reload keeps what the source of then would be told as well.
#[derive(Debug)]
pub(crate) struct Keys {
    file: KeyFile,
    sources: Mutex<BTreeMap<(TenantName, SourceName), Arc<SourceKeys>>>,
    client: Mutex<Option<Arc<outbound::Client>>>,
    /// What was read at the start, until a source takes it.
    remembered: Mutex<Vec<KeptName>>,
    /// The file lacks something.
    is_unwritten: AtomicBool,
}

#[derive(Debug)]
struct SourceKeys {
    known: ArcSwap<Known>,
    inside: Mutex<Inside>,
}

/// What requests are judged by. Swapped whole, under the lock of [`SourceKeys::inside`].
#[derive(Debug, Clone)]
struct Known {
    profile: Arc<Profile>,
    /// The source's own keyring, to which the fetched keys were added.
    own: Arc<Keyring>,
    all: Arc<Keyring>,
    /// When each name that is vouched for last proved a request, milliseconds; of listed ones `i64::MAX`.
    vouched: BTreeMap<String, Arc<AtomicI64>>,
}

#[derive(Debug, Default)]
struct Inside {
    strangers: Strangers,
    /// What is being fetched, and how it ended.
    under_way: BTreeMap<String, watch::Receiver<Option<Result<(), NoKey>>>>,
    /// The documents of the fetched keys in the keyring.
    documents: BTreeMap<String, Document>,
    /// Until when a name that is vouched for is not asked for again, and how often in a row it failed.
    failed: BTreeMap<String, Failures>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Failures {
    at_ns: u64,
    in_a_row: u32,
}

/// Whose fetch it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Vouched,
    Strangers,
}

/// What a fetch needs of the configuration of its moment.
struct Place<'c> {
    rules: &'c OutboundRules,
    tenant: &'c TenantName,
    source: &'c Source,
}

impl Keys {
    /// Begins with what was kept beside the store.
    pub(crate) fn beside(store: &Path) -> Self {
        let file = KeyFile::beside(store);
        Self {
            sources: Mutex::default(),
            client: Mutex::default(),
            remembered: Mutex::new(file.read()),
            is_unwritten: AtomicBool::new(false),
            file,
        }
    }

    /// The source's keyring with what was fetched for it.
    pub(super) fn keyring(&self, tenant: &Tenant, source: &Source) -> Arc<Keyring> {
        if source.profile.fetches_keys() {
            Arc::clone(&self.of(&tenant.name, source).known.load().all)
        } else {
            Arc::clone(&source.keyring)
        }
    }

    /// The keyring with the key that a request needs, which was not in `seen`. `client` is the request's sender.
    ///
    /// # Errors
    /// When the key cannot be had now.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        rules: &OutboundRules,
        tenant: &Tenant,
        source: &Source,
        seen: &Arc<Keyring>,
        need: &KeyNeed,
        client: Option<IpAddr>,
    ) -> Result<Arc<Keyring>, NoKey> {
        let place = Place {
            rules,
            tenant: &tenant.name,
            source,
        };
        let keys = self.of(&tenant.name, source);
        let mut ended = {
            let mut inside = keys.inside();
            let known = keys.known.load_full();
            if !Arc::ptr_eq(&known.all, seen) {
                // Something was fetched meanwhile: perhaps the same key.
                return Ok(Arc::clone(&known.all));
            }
            let now_ns = clock::steady_ns();
            if let Some(ended) = inside.under_way.get(need.name()) {
                ended.clone()
            } else if known.vouched.contains_key(need.name()) {
                if inside.failed_within(need.name(), FAILURE_KEPT_NS, now_ns) {
                    return Err(NoKey::FailedBefore);
                }
                self.begin(&place, &keys, &mut inside, need, Whose::Vouched)
            } else {
                match inside.strangers.ask(Asker::of(client), need, now_ns)? {
                    Asked::Now => self.begin(&place, &keys, &mut inside, need, Whose::Strangers),
                    Asked::Later => return Err(NoKey::Waits),
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_millis(FETCH_MS_MAX), ended.wait_for(Option::is_some));
        match ended.await {
            Ok(Ok(ended)) => match &*ended {
                Some(Err(no_key)) => Err(no_key.clone()),
                Some(Ok(())) | None => Ok(Arc::clone(&keys.known.load().all)),
            },
            Ok(Err(_)) => Err(NoKey::Failed("its fetch broke off".to_owned())),
            Err(_) => Err(NoKey::Failed(format!(
                "{}: no key within {FETCH_MS_MAX} ms",
                need.url()
            ))),
        }
    }

    /// A request was proved by the key of this id: if it was a fetched one, its name is vouched for from now on.
    pub(super) fn proved(&self, tenant: &Tenant, source: &Source, keyring: &Keyring, id: &KeyId, at: UnixMillis) {
        if !source.profile.fetches_keys() {
            return;
        }
        let Some(name) = keyring.fetched_name(id) else { return };
        let keys = self.of(&tenant.name, source);
        if let Some(used_at) = keys.known.load().vouched.get(name) {
            used_at.fetch_max(at.0, Ordering::Relaxed);
            return;
        }
        keys.vouch_for(name, at.0);
        self.is_unwritten.store(true, Ordering::Relaxed);
    }

    /// Fetches ahead what is vouched for, and what waits for its turn, until the host stops; and keeps what is known.
    pub(crate) async fn keep(self: Arc<Self>, config: Arc<ArcSwap<Config>>, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = shutdown.cancelled() => return self.write(),
            }
            let config = config.load_full();
            self.forget_removed(&config);
            for (tenant, source) in config.tenants.values().flat_map(|tenant| {
                let sources = tenant.sources.values().filter(|source| source.profile.fetches_keys());
                sources.map(move |source| (&tenant.name, source))
            }) {
                self.look_ahead(&Place {
                    rules: &config.delivery.outbound,
                    tenant,
                    source,
                });
            }
            if self.is_unwritten.swap(false, Ordering::Relaxed) {
                let keys = Arc::clone(&self);
                let _ = tokio::task::spawn_blocking(move || keys.write()).await;
            }
        }
    }

    /// Begins to fetch what is due of one source.
    fn look_ahead(self: &Arc<Self>, place: &Place<'_>) {
        let keys = self.of(place.tenant, place.source);
        let now = clock::wall();
        let mut inside = keys.inside();
        keys.forget_unused(now);
        let known = keys.known.load_full();
        for name in known.vouched.keys() {
            let is_due = known.all.renewal(name).is_none_or(|renewal| renewal <= now);
            let waits = inside.failed_within(name, AHEAD_AGAIN_NS, clock::steady_ns());
            if !is_due || waits || inside.under_way.contains_key(name) {
                continue;
            }
            if let Some(need) = known.own.need(&known.profile, name.as_bytes()) {
                self.begin(place, &keys, &mut inside, &need, Whose::Vouched);
            }
        }
        while let Some(need) = inside.strangers.next(clock::steady_ns()) {
            if known.vouched.contains_key(need.name()) || inside.under_way.contains_key(need.name()) {
                inside.strangers.is_over();
            } else {
                self.begin(place, &keys, &mut inside, &need, Whose::Strangers);
            }
        }
    }

    /// Begins a fetch on a task of its own: whoever asked may go, and others may wait for the same.
    fn begin(
        self: &Arc<Self>,
        place: &Place<'_>,
        keys: &Arc<SourceKeys>,
        inside: &mut Inside,
        need: &KeyNeed,
        whose: Whose,
    ) -> watch::Receiver<Option<Result<(), NoKey>>> {
        let (end, ended) = watch::channel(None);
        inside.under_way.insert(need.name().to_owned(), ended.clone());
        let (all, keys, client) = (Arc::clone(self), Arc::clone(keys), self.client(place.rules));
        let (tenant, source, need) = (place.tenant.clone(), place.source.name.clone(), need.clone());
        tokio::spawn(async move {
            let known = keys.known.load_full();
            let document = ask(&client, &known, &need).await;
            let learned = keys.land(&need, document, whose);
            match (&learned, whose) {
                (Ok(()), Whose::Vouched) => all.is_unwritten.store(true, Ordering::Relaxed),
                // A request that waits for it says so itself.
                (Ok(()), Whose::Strangers) | (Err((_, 0)), _) => {}
                (Err((why, in_a_row)), _) if in_a_row.is_power_of_two() => tracing::warn!(
                    %tenant, %source, key = need.name(), in_a_row,
                    "a published key cannot be fetched ahead; what is known of it serves until it ends: {why}"
                ),
                (Err(_), _) => {}
            }
            let _ = end.send(Some(learned.map_err(|(why, _)| why)));
        });
        ended
    }

    fn of(&self, tenant: &TenantName, source: &Source) -> Arc<SourceKeys> {
        let keys = {
            let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            let keys = sources
                .entry((tenant.clone(), source.name.clone()))
                .or_insert_with(|| Arc::new(SourceKeys::new(source, self.take_remembered(tenant, source))));
            Arc::clone(keys)
        };
        if !Arc::ptr_eq(&keys.known.load().own, &source.keyring) {
            keys.follow(source);
        }
        keys
    }

    fn take_remembered(&self, tenant: &TenantName, source: &Source) -> Vec<KeptName> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (its, others) = remembered
            .drain(..)
            .partition(|kept| kept.tenant == *tenant && kept.source == source.name);
        *remembered = others;
        its
    }

    /// Drops what belongs to no source any more. What is known of a tenant whose file is wrong stays.
    fn forget_removed(&self, config: &Config) {
        let is_there = |tenant: &TenantName, source: &SourceName| {
            config.broken.contains_key(tenant.as_str())
                || config
                    .tenants
                    .get(tenant.as_str())
                    .is_some_and(|tenant| tenant.sources.contains_key(source.as_str()))
        };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|(tenant, source), _| is_there(tenant, source));
        drop(sources);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.retain(|kept| is_there(&kept.tenant, &kept.source));
    }

    fn write(&self) {
        let mut names = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((tenant, source), keys) in sources {
            names.extend(keys.to_keep(&tenant, &source));
        }
        if let Err(error) = self.file.write(&names) {
            tracing::warn!(%error, "published keys could not be kept; after a restart they are fetched again");
        }
    }

    /// One client for all keys, made over when the operator's rules have changed. It keeps no connections: keys are fetched seldom, and a
    /// kept connection would live in the thread that opened it.
    fn client(&self, rules: &OutboundRules) -> Arc<outbound::Client> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match &*client {
            Some(client) if client.obeys(rules) => Arc::clone(client),
            _ => Arc::clone(client.insert(Arc::new(outbound::Client::new(rules, 0)))),
        }
    }
}

/// Asks the place that publishes a key for it.
async fn ask(client: &outbound::Client, known: &Known, need: &KeyNeed) -> Result<Bytes, NoKey> {
    let failed = |why: String| NoKey::Failed(format!("{}: {why}", need.url()));
    let request = match known.own.fetch_body(&known.profile, need) {
        None => Request::get(need.url()).body(Full::default()),
        Some(body) => Request::post(need.url())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.expose()))),
    };
    let request = request.map_err(|error| failed(error.to_string()))?;
    let asking = async {
        let response = client
            .send(request, Duration::from_millis(FETCH_MS_MAX))
            .await
            .map_err(|error| failed(error.to_string()))?;
        // No redirect is followed: it would lead away from the hosts that the profile lists.
        if response.status() != StatusCode::OK {
            return Err(failed(format!("it answered {}", response.status().as_u16())));
        }
        let body = Limited::new(response.into_body(), FETCHED_KEY_BYTES_MAX)
            .collect()
            .await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| failed(format!("the answer broke off or was too long: {error}")))
    };
    tokio::time::timeout(Duration::from_millis(FETCH_MS_MAX), asking)
        .await
        .unwrap_or_else(|_| Err(failed(format!("no whole answer within {FETCH_MS_MAX} ms"))))
}

impl SourceKeys {
    fn new(source: &Source, remembered: Vec<KeptName>) -> Self {
        let mut inside = Inside::default();
        let mut known = Known::of(source);
        for kept in remembered {
            known.remember(&mut inside, kept);
        }
        Self {
            known: ArcSwap::from_pointee(known),
            inside: Mutex::new(inside),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source was configured anew: what was learned is judged again by what it says now.
    fn follow(&self, source: &Source) {
        let mut inside = self.inside();
        let before = self.known.load_full();
        let mut known = Known::of(source);
        let mut documents = std::mem::take(&mut inside.documents);
        for (name, used_at) in &before.vouched {
            let url = before.own.need(&before.profile, name.as_bytes());
            let used_at = used_at.load(Ordering::Relaxed);
            // A name that only the list of then vouched for goes with it.
            if let Some(url) = url.filter(|_| used_at != i64::MAX || known.vouched.contains_key(name)) {
                let document = documents.remove(name);
                known.take(&mut inside, name, url.url(), used_at, document);
            }
        }
        self.known.store(Arc::new(known));
    }

    /// A fetch is over. Returns how it ended, and for names that are vouched for how often in a row they failed.
    fn land(&self, need: &KeyNeed, document: Result<Bytes, NoKey>, whose: Whose) -> Result<(), (NoKey, u32)> {
        let mut inside = self.inside();
        inside.under_way.remove(need.name());
        if whose == Whose::Strangers {
            inside.strangers.is_over();
        }
        let known = self.known.load_full();
        let learned = document.and_then(|document| {
            let now = clock::wall();
            let all = known.all.learn(&known.profile, need, &document, now);
            let all = all.map_err(|error| NoKey::Failed(error.to_string()))?;
            let text = String::from_utf8(document.into()).map_err(|_| NoKey::Failed("it is not UTF-8".to_owned()))?;
            Ok((all, Document { fetched_at: now, text }))
        });
        match learned {
            Ok((all, document)) => {
                inside.failed.remove(need.name());
                inside.documents.insert(need.name().to_owned(), document);
                let all = if known.vouched.contains_key(need.name()) {
                    all.vouch_for(need.name())
                } else {
                    all
                };
                inside.documents.retain(|name, _| all.renewal(name).is_some());
                self.known.store(Arc::new(Known {
                    all: Arc::new(all),
                    ..Known::clone(&known)
                }));
                Ok(())
            }
            Err(why) if whose == Whose::Strangers => {
                inside.strangers.remember_failure(need.name(), clock::steady_ns());
                Err((why, 0))
            }
            Err(why) => {
                let failures = inside.failed.entry(need.name().to_owned()).or_default();
                failures.at_ns = clock::steady_ns();
                failures.in_a_row = failures.in_a_row.saturating_add(1);
                Err((why, failures.in_a_row))
            }
        }
    }

    /// From now on the name has a budget of its own. Of too many, the one that was not used for longest goes.
    fn vouch_for(&self, name: &str, at: i64) {
        let _inside = self.inside();
        let mut known = Known::clone(&self.known.load());
        if known.vouched.len() >= VOUCHED_KEYS_MAX && !known.vouched.contains_key(name) {
            let used_at = |used_at: &AtomicI64| used_at.load(Ordering::Relaxed);
            let oldest = known.vouched.iter().min_by_key(|(_, at)| used_at(at));
            match oldest.map(|(name, at)| (name.clone(), used_at(at))) {
                Some((oldest, at)) if at != i64::MAX => known.vouched.remove(&oldest),
                // The source lists all of them, so none is dropped.
                Some(_) | None => return,
            };
        }
        known.vouched.insert(name.to_owned(), Arc::new(AtomicI64::new(at)));
        known.all = Arc::new(known.all.vouch_for(name));
        self.known.store(Arc::new(known));
    }

    /// The caller holds the lock.
    fn forget_unused(&self, now: UnixMillis) {
        let known = self.known.load_full();
        let is_used = |at: &Arc<AtomicI64>| at.load(Ordering::Relaxed) > now.0.saturating_sub(UNUSED_KEPT_MS);
        if !known.vouched.values().all(is_used) {
            let mut known = Known::clone(&known);
            known.vouched.retain(|_, at| is_used(at));
            self.known.store(Arc::new(known));
        }
    }

    fn to_keep(&self, tenant: &TenantName, source: &SourceName) -> Vec<KeptName> {
        let inside = self.inside();
        let known = self.known.load_full();
        let kept = known.vouched.iter().filter_map(|(name, used_at)| {
            let need = known.own.need(&known.profile, name.as_bytes())?;
            Some(KeptName {
                tenant: tenant.clone(),
                source: source.clone(),
                name: name.clone(),
                url: need.url().to_owned(),
                used_at: UnixMillis(used_at.load(Ordering::Relaxed)),
                document: inside.documents.get(name).cloned(),
            })
        });
        kept.collect()
    }
}

impl Known {
    /// What a source knows by itself.
    fn of(source: &Source) -> Self {
        let listed = source.published_keys.iter().take(VOUCHED_KEYS_MAX);
        Self {
            profile: Arc::clone(&source.profile),
            own: Arc::clone(&source.keyring),
            all: Arc::clone(&source.keyring),
            vouched: listed
                .map(|name| (name.clone(), Arc::new(AtomicI64::new(i64::MAX))))
                .collect(),
        }
    }

    fn remember(&mut self, inside: &mut Inside, kept: KeptName) {
        if kept.used_at.0 != i64::MAX || self.vouched.contains_key(&kept.name) {
            self.take(inside, &kept.name, &kept.url, kept.used_at.0, kept.document);
        }
    }

    /// Takes over what is known of a name, if the source of now would fetch it at the same place.
    fn take(&mut self, inside: &mut Inside, name: &str, url: &str, used_at: i64, document: Option<Document>) {
        let Some(need) = self
            .own
            .need(&self.profile, name.as_bytes())
            .filter(|need| need.url() == url)
        else {
            return;
        };
        if !self.vouched.contains_key(name) {
            if self.vouched.len() >= VOUCHED_KEYS_MAX {
                return;
            }
            self.vouched.insert(name.to_owned(), Arc::new(AtomicI64::new(used_at)));
        }
        // What was fetched in the future, by a clock that was wrong, would be believed for too long.
        let Some(document) = document.filter(|document| document.fetched_at <= clock::wall()) else {
            return;
        };
        if let Ok(all) = self
            .all
            .learn(&self.profile, &need, document.text.as_bytes(), document.fetched_at)
        {
            self.all = Arc::new(all.vouch_for(name));
            inside.documents.insert(name.to_owned(), document);
        }
    }
}

impl Inside {
    /// Whether a name that is vouched for could not be had so lately.
    fn failed_within(&self, name: &str, within_ns: u64, now_ns: u64) -> bool {
        let failed = self.failed.get(name);
        failed.is_some_and(|failures| now_ns.saturating_sub(failures.at_ns) < within_ns)
    }
}
