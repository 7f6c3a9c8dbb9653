//! Looks up for every run which versions are in quarantine, and how close the others are (promise P6). The store keeps it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_core::ids::{PluginDigest, RouteName, TenantName};
use tollgate_core::quarantine::Row;
use tollgate_store::{Changes, Quarantine, RunEnd, StoreError, Topic, Views};

use crate::cached::Cached;

/// A version on a route.
type Place = (TenantName, RouteName, PluginDigest);

/// The versions in quarantine.
pub(crate) struct Held(BTreeMap<Place, Quarantine>);

impl Held {
    /// By tenant and route.
    pub(crate) fn all(&self) -> Vec<Quarantine> {
        self.0.values().cloned().collect()
    }

    pub(super) fn get(&self, tenant: &TenantName, route: &RouteName, digest: PluginDigest) -> Option<&Quarantine> {
        // Nothing is looked up, and no name copied, on a host where nothing is in quarantine.
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(tenant.clone(), route.clone(), digest))
    }
}

/// The versions in quarantine, and the faults in a row of those that are not.
pub(crate) struct Quarantines {
    held: Cached<Held>,
    rows: Mutex<HashMap<Place, Row>>,
}

impl Quarantines {
    pub(crate) fn new(store: &impl Changes) -> Self {
        Self {
            held: Cached::of(store, Topic::Quarantines),
            rows: Mutex::default(),
        }
    }

    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn held(&self, store: &impl Views) -> Result<Arc<Held>, StoreError> {
        let read = async {
            let held = store.quarantines().await?.into_iter();
            let by_place = held.map(|one| ((one.tenant.clone(), one.route.clone(), one.digest), one));
            Ok(Held(by_place.collect()))
        };
        self.held.get(read).await
    }

    /// Notes how a run ended. Returns what is to be put into quarantine, if it was one fault too many.
    pub(super) fn note(&self, end: RunEnd, faults_max: u32) -> Option<Quarantine> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (end.tenant.clone(), end.route.clone(), end.digest);
        let Some(fault) = end.fault else {
            rows.remove(&place);
            return None;
        };
        let faults = rows.entry(place.clone()).or_default().add(Some(fault), faults_max)?;
        rows.remove(&place);
        end.quarantine(faults)
    }
}
