//! Issues, as people read them and what they say of them (promise O12).

use std::sync::Arc;

use axum::Router;
use tollgate_api::calls;
use tollgate_api::issues::{IssueFilter, IssuePath, IssueRecord, IssueView};
use tollgate_core::access::Caller;
use tollgate_core::ids::IssueId;
use tollgate_core::issue::IssueEvent;
use tollgate_store::{Control, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal, access};
use crate::clock;
use crate::issues::notified;

/// The calls about issues.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(list::<S>).call(show::<S>).call(change::<S>)
}

async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Issues>,
) -> Answered<calls::Issues> {
    let mut filter = query.checked().map_err(Refusal::bad)?;
    filter.tenant = caller.narrowed(filter.tenant)?;
    let issues = operator.store.issues(filter).await?;
    Ok(issues.into_iter().map(IssueView::from).collect())
}

/// # Errors
/// As if there were none, when it is another tenant's.
async fn own(store: &impl Views, caller: &Caller, issue: IssueId) -> Result<IssueRecord, Refusal> {
    let filter = IssueFilter::of(issue, caller.narrowed(None)?);
    let found = store.issues(filter).await?.pop();
    found.ok_or_else(|| Refusal::not_found(format!("{issue} does not exist")))
}

async fn show<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: IssuePath { issue },
        ..
    }: Asked<calls::ShowIssue>,
) -> Answered<calls::ShowIssue> {
    Ok(own(&operator.store, &caller, issue).await?.into())
}

async fn change<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked {
        caller,
        path: IssuePath { issue },
        body,
        ..
    }: Asked<calls::ChangeIssue>,
) -> Answered<calls::ChangeIssue> {
    let dry_run = body.dry_run;
    let mut asked = body.checked(issue, clock::now()).map_err(Refusal::bad)?;
    let mut record = own(&operator.store, &caller, issue).await?;
    asked.by = access::actor(&caller, asked.by);
    if dry_run {
        if let Some(state) = record.issue.state.next(IssueEvent::Says(asked.state)) {
            record.issue.state = state;
            (record.changed_at, record.changed_by, record.why) = (asked.now, asked.by, asked.why);
        }
        return Ok(record.into());
    }
    let told = notified(&operator.config.load());
    Ok(operator.store.change_issue(asked, told).await?.into())
}
