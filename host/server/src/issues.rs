//! Groups what fails into issues, on this host or another, and says who is told of them (promise O12).

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tollgate_store::{Control, GroupFailures, Notified, StoreError, Views};

use crate::clock;
use crate::config::Config;

/// How often it is looked for what has failed. Sooner would tell nobody sooner who reads it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Groups until shutdown.
pub(crate) async fn run<S: Views + Control>(store: S, config: Arc<ArcSwap<Config>>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = group(&store, &config).await {
            tracing::warn!(%error, "what failed is not grouped into issues yet");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn group<S: Views + Control>(store: &S, config: &ArcSwap<Config>) -> Result<(), StoreError> {
    while store.ungrouped_failures().await? > 0 {
        let request = GroupFailures {
            notified: notified(&config.load()),
            now: clock::now(),
        };
        if store.group_failures(request).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// The destinations that are told of each tenant's issues.
pub(crate) fn notified(config: &Config) -> Notified {
    let tenants = config.tenants.iter();
    tenants
        .map(|(name, tenant)| {
            let told = tenant
                .destinations
                .iter()
                .filter(|(_, destination)| destination.notices);
            (name.clone(), told.map(|(name, _)| name.clone()).collect())
        })
        .collect()
}
