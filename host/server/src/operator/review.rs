//! Review: a person's decision about a held receipt, joined with what the configuration says now (promise T4).

use tollgate_core::admission;
use tollgate_core::review::{self, Asked, Decision};
use tollgate_core::time::UnixMillis;
use tollgate_store::{ReviewDecision, ReviewReport, ReviewRequest, Store, StoreError};

use crate::config::Config;

/// Why a review was not taken. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be, in words.
    #[error("{0}")]
    Refused(String),
}

/// Maps or dismisses a held receipt. The routes and the lifecycle are those of `config`, not those of the day it came in.
///
/// # Errors
/// When the receipt is not there, not held, reviewed before, or the status cannot be given to it.
pub(crate) async fn review(
    store: &impl Store,
    config: &Config,
    asked: Asked,
    now: UnixMillis,
) -> Result<ReviewReport, ReviewError> {
    let receipt = asked.receipt;
    let decision = match asked.decision {
        Decision::Dismiss => ReviewDecision::Dismiss,
        Decision::Map(status) => {
            let event = review::mapped(store.event(receipt).await?, &status);
            let tenant = config.tenants.get(&event.tenant).ok_or_else(|| {
                let tenant = &event.tenant;
                ReviewError::Refused(format!(
                    "the tenant `{tenant}` is not configured any more, so nothing says where its jobs go"
                ))
            })?;
            ReviewDecision::Map {
                lifecycle: config.lifecycle_of(&event),
                jobs: admission::jobs(&event, receipt, &mut tenant.matches()),
                status,
            }
        }
    };
    let request = ReviewRequest {
        receipt,
        decision,
        actor: asked.actor,
        why: asked.why,
        now,
        dry_run: asked.dry_run,
    };
    store.review(request).await?.report().map_err(ReviewError::Refused)
}
