//! Keys that a request names and its source does not hold: certificates and JSON Web Keys that providers publish.
//!
//! Whoever sends a request chooses the key's name and has proved nothing yet. So core lists where a key may come from; here it is
//! fetched under the guard of [`crate::outbound`], once for all who wait for it, seldom, and a failure is remembered for a while. A key
//! that cannot be had is our failure and never a refusal: the sender is asked to come again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use tollgate_core::ids::{SourceName, TenantName};
use tollgate_core::limits::FETCHED_KEY_BYTES_MAX;
use tollgate_core::rate::{Bucket, Rate};
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{KeyNeed, Keyring};

use crate::clock;
use crate::config::{OutboundRules, Source, Tenant};
use crate::outbound;

/// From the first byte to the last. Providers wait longer for their answer than this.
const FETCH_MS_MAX: u64 = 5_000;
/// A key that could not be had is not asked for again so long.
const FAILURE_KEPT_NS: u64 = 10_000_000_000;
/// Failures remembered for one source; beyond, the oldest are forgotten and the rate alone bounds what is asked.
const FAILURES_MAX: usize = 64;
/// Fetches of one source: a sender who makes up names must not make a flood of them.
const FETCHES_PER_S: u32 = 1;
const FETCHES_AT_ONCE: u32 = 8;

/// Why a key could not be had, in one line for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoKey {
    #[error("it could not be fetched a moment ago")]
    FailedBefore,
    #[error("too many keys were asked for")]
    TooMany,
    #[error("{0}")]
    Failed(String),
}

/// What was fetched for each source. A reload forgets it, as it makes each source's own keyring anew.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    sources: Mutex<BTreeMap<(TenantName, SourceName), Arc<SourceKeys>>>,
    client: Mutex<Option<Arc<outbound::Client>>>,
}

#[derive(Debug)]
struct SourceKeys {
    known: ArcSwap<Known>,
    /// Held while a key is fetched: the others wait, and then look again.
    fetching: tokio::sync::Mutex<Fetching>,
}

#[derive(Debug)]
struct Known {
    /// The source's own keyring, to which the fetched keys were added.
    own: Arc<Keyring>,
    all: Arc<Keyring>,
}

#[derive(Debug, Default)]
struct Fetching {
    bucket: Bucket,
    /// Until when a name is not asked for again.
    failed: BTreeMap<String, u64>,
}

impl Keys {
    /// The source's keyring with what was fetched for it.
    pub(super) fn keyring(&self, tenant: &Tenant, source: &Source) -> Arc<Keyring> {
        if source.profile.fetches_keys() {
            Arc::clone(&self.of(tenant, source).known.load().all)
        } else {
            Arc::clone(&source.keyring)
        }
    }

    /// The keyring with the key that a request needs, which was not in `seen`.
    ///
    /// # Errors
    /// When the key cannot be had now.
    pub(super) async fn fetch(
        &self,
        rules: &OutboundRules,
        tenant: &Tenant,
        source: &Source,
        seen: &Arc<Keyring>,
        need: &KeyNeed,
        at: UnixMillis,
    ) -> Result<Arc<Keyring>, NoKey> {
        let keys = self.of(tenant, source);
        let turn = tokio::time::timeout(Duration::from_millis(FETCH_MS_MAX), keys.fetching.lock());
        let mut fetching = turn.await.map_err(|_| NoKey::TooMany)?;
        let known = keys.known.load_full();
        if !Arc::ptr_eq(&known.all, seen) {
            // Somebody else fetched while this one waited: perhaps the same key.
            return Ok(Arc::clone(&known.all));
        }
        fetching.may_ask_for(need.name(), clock::steady_ns())?;
        let fetched = self.ask(rules, source, &known.all, need).await.and_then(|document| {
            known
                .all
                .learn(&source.profile, need, &document, at)
                .map_err(|error| NoKey::Failed(error.to_string()))
        });
        match fetched {
            Ok(all) => {
                let all = Arc::new(all);
                keys.known.store(Arc::new(Known {
                    own: Arc::clone(&known.own),
                    all: Arc::clone(&all),
                }));
                Ok(all)
            }
            Err(failed) => {
                fetching.remember_failure(need.name(), clock::steady_ns());
                Err(failed)
            }
        }
    }

    fn of(&self, tenant: &Tenant, source: &Source) -> Arc<SourceKeys> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = sources
            .entry((tenant.name.clone(), source.name.clone()))
            .or_insert_with(|| Arc::new(SourceKeys::new(&source.keyring)));
        if !Arc::ptr_eq(&keys.known.load().own, &source.keyring) {
            // The source was configured anew: what was learned belongs to what was.
            *keys = Arc::new(SourceKeys::new(&source.keyring));
        }
        Arc::clone(keys)
    }

    async fn ask(
        &self,
        rules: &OutboundRules,
        source: &Source,
        keyring: &Keyring,
        need: &KeyNeed,
    ) -> Result<Bytes, NoKey> {
        let failed = |why: String| NoKey::Failed(format!("{}: {why}", need.url()));
        let request = match keyring.fetch_body(&source.profile, need) {
            None => Request::get(need.url()).body(Full::default()),
            Some(body) => Request::post(need.url())
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::copy_from_slice(body.expose()))),
        };
        let request = request.map_err(|error| failed(error.to_string()))?;
        let asking = async {
            let response = self
                .client(rules)
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

impl SourceKeys {
    fn new(own: &Arc<Keyring>) -> Self {
        Self {
            known: ArcSwap::from_pointee(Known {
                own: Arc::clone(own),
                all: Arc::clone(own),
            }),
            fetching: tokio::sync::Mutex::default(),
        }
    }
}

impl Fetching {
    fn may_ask_for(&mut self, name: &str, now_ns: u64) -> Result<(), NoKey> {
        self.failed.retain(|_, until_ns| *until_ns > now_ns);
        if self.failed.contains_key(name) {
            return Err(NoKey::FailedBefore);
        }
        match Rate::new(FETCHES_PER_S, FETCHES_AT_ONCE) {
            Some(rate) => self.bucket.take(rate, now_ns).map_err(|_| NoKey::TooMany),
            None => Ok(()),
        }
    }

    fn remember_failure(&mut self, name: &str, now_ns: u64) {
        if self.failed.len() >= FAILURES_MAX
            && let Some(oldest) = self
                .failed
                .iter()
                .min_by_key(|(_, until_ns)| **until_ns)
                .map(|(name, _)| name.clone())
        {
            self.failed.remove(&oldest);
        }
        self.failed
            .insert(name.to_owned(), now_ns.saturating_add(FAILURE_KEPT_NS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn names_that_a_sender_makes_up_cause_few_fetches_and_fill_no_memory() {
        let mut fetching = Fetching::default();
        let start = 100 * SECOND_NS;
        let ask = |fetching: &mut Fetching, number: usize, at: u64| {
            let name = format!("key-{number}");
            let asked = fetching.may_ask_for(&name, at);
            if asked.is_ok() {
                fetching.remember_failure(&name, at);
            }
            asked
        };
        let asked = (0..1000)
            .filter(|&number| ask(&mut fetching, number, start).is_ok())
            .count();
        assert_eq!(asked, FETCHES_AT_ONCE as usize);
        assert_eq!(ask(&mut fetching, 0, start), Err(NoKey::FailedBefore));
        assert_eq!(ask(&mut fetching, 9, start), Err(NoKey::TooMany));
        assert_eq!(
            ask(&mut fetching, 9, start + SECOND_NS),
            Ok(()),
            "one a second from then on"
        );
        assert_eq!(
            ask(&mut fetching, 0, start + FAILURE_KEPT_NS),
            Ok(()),
            "a failure is not for ever"
        );
        for number in 0..10 * FAILURES_MAX {
            fetching.remember_failure(&format!("name-{number}"), start + number as u64);
        }
        assert_eq!(fetching.failed.len(), FAILURES_MAX);
        assert!(
            fetching.failed.contains_key(&format!("name-{}", 10 * FAILURES_MAX - 1)),
            "the oldest go"
        );
    }
}
