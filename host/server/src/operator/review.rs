//! Review: joins a person's decision about what was set aside with what the configuration says now (promise T4).

use tollgate_core::admission::{self, Admission, Identity};
use tollgate_core::budget::Budget;
use tollgate_core::event::Event;
use tollgate_core::grant;
use tollgate_core::ids::{ActionId, DeliveryId, ReceiptId, Status};
use tollgate_core::mode::Accept;
use tollgate_core::review::{self, Asked, Decision, Target, Word};
use tollgate_core::time::UnixMillis;
use tollgate_store::{Control, ReceiptKey, ReviewDecision, ReviewReport, ReviewRequest, StoreError, Targets, Views};

use crate::clock;
use crate::config::{Config, Tenant};

/// Why a review was not taken. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The store cannot be read or written, or has no such thing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be, in words.
    #[error("{0}")]
    Refused(String),
}

/// Decides about a held receipt, a held job, a delivery in conflict or a conflict with the ledger. The routes and the lifecycle are those
/// of `config`, not those of the day it came in.
///
/// # Errors
/// When it is not there, not held, reviewed before, or the decision does not fit it.
pub async fn review(
    store: &(impl Views + Control),
    config: &Config,
    asked: Asked,
    now: UnixMillis,
) -> Result<ReviewReport, ReviewError> {
    let decision = match (asked.target, asked.decision) {
        (_, Decision::Dismiss) => ReviewDecision::Dismiss,
        (Target::Receipt(receipt), Decision::Map(status, word)) => map(store, config, receipt, status, word).await?,
        (Target::Receipt(_), Decision::ReplaceWith(delivery)) => ReviewDecision::ReplaceWith {
            delivery,
            admission: Box::new(on_its_own(store, config, delivery).await?),
        },
        (Target::Delivery(delivery), Decision::Run) => {
            ReviewDecision::Admit(Box::new(on_its_own(store, config, delivery).await?))
        }
        (Target::Action(action), Decision::Record(operation_key)) => {
            let (targets, budgets) = terms_of(store, config, action).await?;
            ReviewDecision::Record {
                operation_key,
                targets,
                budgets,
            }
        }
        (_, Decision::RunBeyondBudget) => ReviewDecision::RunBeyondBudget,
        (_, Decision::Keep) | (Target::Receipt(_) | Target::Job(_) | Target::Delivery(_), Decision::Record(_)) => {
            ReviewDecision::Keep
        }
        (Target::Job(_) | Target::Receipt(_) | Target::Action(_), Decision::Run)
        | (Target::Job(_) | Target::Delivery(_) | Target::Action(_), Decision::Map(..) | Decision::ReplaceWith(_)) => {
            ReviewDecision::Run
        }
    };
    let request = ReviewRequest {
        target: asked.target,
        decision,
        actor: asked.actor,
        why: asked.why,
        now,
        dry_run: asked.dry_run,
    };
    store.review(request).await?.report().map_err(ReviewError::Refused)
}

/// The decision that a held receipt has this status, with the jobs that the routes of now give to it then.
///
/// # Errors
/// When it is not there, or its tenant is not configured any more.
pub(crate) async fn map(
    store: &impl Views,
    config: &Config,
    receipt: ReceiptId,
    status: Status,
    word: Word,
) -> Result<ReviewDecision, ReviewError> {
    let event = review::mapped(store.event(receipt).await?, &status);
    let tenant = tenant(config, &event)?;
    let scope = tenant.sharing.scope(&event);
    Ok(ReviewDecision::Map {
        lifecycle: config.lifecycle_of(&event),
        scope,
        jobs: admission::jobs(&event, receipt, scope, &mut tenant.matches()),
        status,
        word,
    })
}

/// Where the route of now sends what the job of an action proposed, and the budgets that it is taken from.
async fn terms_of(
    store: &impl Views,
    config: &Config,
    action: ActionId,
) -> Result<(Targets, Vec<Budget>), ReviewError> {
    let (tenant, route) = store.route_of(action).await?;
    let found = config.tenants.get(&tenant).and_then(|tenant| {
        let route = tenant.routes.iter().find(|found| found.name == route)?;
        Some((tenant.targets(route), grant::bounding(&route.grants, |_| true)))
    });
    found.ok_or_else(|| {
        ReviewError::Refused(format!(
            "the route `{route}` of `{tenant}` is not configured any more, so nothing says where its actions go"
        ))
    })
}

/// A conflicting delivery as an event of its own, by the lifecycle and the routes of now.
async fn on_its_own(
    store: &(impl ReceiptKey + Views),
    config: &Config,
    delivery: DeliveryId,
) -> Result<Admission, ReviewError> {
    let kept = store.kept_delivery(delivery).await?;
    let lifecycle = config.lifecycle_of(&kept.event);
    let tenant = tenant(config, &kept.event)?;
    // A source that is gone accepts what a source accepts by default.
    let source = tenant.sources.get(&kept.event.source);
    let accept = source.map_or(Accept::default(), |source| source.profile.accept());
    let scope = tenant.sharing.scope(&kept.event);
    let key = store.receipt_key();
    let admission = Admission::of(
        key,
        kept.event,
        Identity::EventId,
        kept.proof,
        lifecycle,
        &mut tenant.matches(),
    )
    .about(scope);
    Ok(Admission {
        due_at: clock::now(),
        ..admission.accepted_by(accept).on_its_own(key)
    })
}

fn tenant<'c>(config: &'c Config, event: &Event) -> Result<&'c Tenant, ReviewError> {
    let tenant = &event.tenant;
    config.tenants.get(tenant).ok_or_else(|| {
        ReviewError::Refused(format!(
            "the tenant `{tenant}` is not configured any more, so nothing says where its jobs go"
        ))
    })
}
