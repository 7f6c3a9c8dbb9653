//! Who is in quarantine, and how close the others are (promise P6). The store has it; here it is looked up for every run.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tollgate_core::ids::{PluginDigest, RouteName, TenantName};
use tollgate_core::quarantine::Row;
use tollgate_store::registry::Act;
use tollgate_store::{Quarantine, RunEnd, Store, StoreError};

/// A version on a route.
type Place = (TenantName, RouteName, PluginDigest);

/// The versions in quarantine, and the faults in a row of those that are not.
#[derive(Default)]
pub(crate) struct Ward {
    held: ArcSwap<BTreeMap<Place, Quarantine>>,
    rows: Mutex<HashMap<Place, Row>>,
}

impl Ward {
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn load(store: &impl Store) -> Result<Self, StoreError> {
        let ward = Self::default();
        ward.reload(store).await?;
        Ok(ward)
    }

    async fn reload(&self, store: &impl Store) -> Result<(), StoreError> {
        let held = store.quarantines().await?.into_iter();
        let by_place = held.map(|one| ((one.tenant.clone(), one.route.clone(), one.digest), one));
        self.held.store(Arc::new(by_place.collect()));
        Ok(())
    }

    /// What is in quarantine, by tenant and route.
    pub(crate) fn all(&self) -> Vec<Quarantine> {
        self.held.load().values().cloned().collect()
    }

    /// What is in quarantine, in Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        out.push_str(
            "# HELP tollgate_quarantined Versions of plugins that are in quarantine, by tenant, route and plugin.\n\
             # TYPE tollgate_quarantined gauge\n",
        );
        let mut routes: BTreeMap<_, usize> = BTreeMap::new();
        let held = self.held.load();
        for one in held.values() {
            let Quarantine {
                tenant, route, plugin, ..
            } = one;
            *routes.entry((tenant, route, plugin)).or_default() += 1;
        }
        for ((tenant, route, plugin), versions) in routes {
            let _ = writeln!(
                out,
                "tollgate_quarantined{{tenant=\"{tenant}\",route=\"{route}\",plugin=\"{plugin}\"}} {versions}"
            );
        }
    }

    pub(super) fn holds(&self, tenant: &TenantName, route: &RouteName, digest: PluginDigest) -> Option<Quarantine> {
        let held = self.held.load();
        // Nothing is looked up, and no name copied, on a host where nothing is in quarantine.
        if held.is_empty() {
            return None;
        }
        held.get(&(tenant.clone(), route.clone(), digest)).cloned()
    }

    /// Notes how a run ended. Answers what is to be put into quarantine, if it was one fault too many.
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

    /// # Errors
    /// When the store does not keep it.
    pub(super) async fn put(&self, store: &impl Store, quarantine: Quarantine) -> Result<(), StoreError> {
        store.quarantine(quarantine).await?;
        self.reload(store).await
    }

    /// Lets a route's versions run again. Answers which were held.
    ///
    /// # Errors
    /// When the store does not keep it.
    pub(crate) async fn lift(
        &self,
        store: &impl Store,
        tenant: TenantName,
        route: RouteName,
        act: Act,
    ) -> Result<Vec<Quarantine>, StoreError> {
        let lifted = store.lift_quarantine(tenant, route, act).await?;
        self.reload(store).await?;
        Ok(lifted)
    }
}
