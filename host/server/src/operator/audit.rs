//! What people changed, put together from where each kind of change is kept, and how far the chain of receipts goes.

use std::sync::Arc;

use axum::Router;
use tollgate_api::audit::Audit;
use tollgate_api::calls;
use tollgate_api::plugins::RegistryLine;
use tollgate_core::access::{Permission, Role};
use tollgate_core::ids::TenantName;
use tollgate_core::issue::IssueState;
use tollgate_core::time::UnixMillis;
use tollgate_store::registry::HistoryFilter;
use tollgate_store::{Bulk, BulkFilter, Control, IssueFilter, IssueRecord, TokenRecord, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal};

/// Issues that are looked through for those of which people said something.
const ISSUES_LOOKED_AT: usize = 1000;

/// The call about changes.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(audit::<S>)
}

/// `GET /v1/audit`. Nobody sees more here than the calls show them that list one kind of it.
async fn audit<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Audit>,
) -> Answered<calls::Audit> {
    let asked = query.checked().map_err(Refusal::bad)?;
    let (tenant, rows_max) = (caller.narrowed(asked.tenant)?, asked.rows_max);
    let (store, may) = (&operator.store, |permission| caller.role.may(permission));
    let history = HistoryFilter {
        tenant: tenant.clone(),
        without_settings: !may(Permission::SettingsRead),
        with_events: may(Permission::ReceiptRead),
        rows_max,
        ..HistoryFilter::default()
    };
    let mut changes = store.registry_history(history).await?;
    if may(Permission::TokenRead) {
        let tokens = store.tokens().await?;
        let seen = tokens.iter().filter(|token| tenant.is_none() || token.tenant == tenant);
        changes.extend(seen.flat_map(of_token));
    }
    if may(Permission::ReceiptRead) {
        let bulks = BulkFilter {
            tenant: tenant.clone(),
            rows_max,
            ..BulkFilter::default()
        };
        changes.extend(store.bulks(bulks).await?.iter().flat_map(of_bulk));
        let issues = IssueFilter {
            id: None,
            tenant: tenant.clone(),
            states: IssueState::ALL.to_vec(),
            rows_max: ISSUES_LOOKED_AT,
        };
        changes.extend(store.issues(issues).await?.iter().filter_map(of_issue));
    }
    // Written alike, instants are in the order of their texts.
    changes.sort_by(|one, other| other.at.cmp(&one.at));
    changes.truncate(rows_max);
    let chain = match caller.may(Permission::HostRead, None) {
        Ok(()) => Some(store.chain().await?),
        Err(_) => None,
    };
    Ok(Audit { changes, chain })
}

fn line(at: UnixMillis, actor: &str, what: String, why: &str, tenant: Option<&TenantName>, to: String) -> RegistryLine {
    RegistryLine {
        at: at.to_string(),
        actor: actor.to_owned(),
        what,
        why: (!why.is_empty()).then(|| why.to_owned()),
        tenant: tenant.cloned(),
        route: None,
        plugin: None,
        digest: None,
        from: None,
        to: Some(to),
    }
}

/// That a token or a link was made, and that it was revoked.
fn of_token(token: &TokenRecord) -> Vec<RegistryLine> {
    let kind = if matches!(token.role, Role::Portal(_)) {
        "link"
    } else {
        "token"
    };
    let said = format!("{} ({}): {}", token.id, token.role, token.name);
    let of = token.tenant.as_ref();
    let made = line(
        token.created_at,
        &token.created_by,
        format!("{kind} made"),
        &token.why,
        of,
        said.clone(),
    );
    let revoked = token.revoked.as_ref();
    let revoked = revoked.map(|end| line(end.at, &end.by, format!("{kind} revoked"), &end.why, of, said));
    std::iter::once(made).chain(revoked).collect()
}

/// That a bulk action began, and that somebody ended it.
fn of_bulk(bulk: &Bulk) -> Vec<RegistryLine> {
    let begun = &bulk.begun;
    let said = format!("{}: {} {} {}", bulk.id, begun.action, begun.list.as_str(), begun.filter);
    let of = begun.tenant.as_ref();
    let began = line(
        begun.started_at,
        &begun.actor,
        "bulk action begun".to_owned(),
        &begun.why,
        of,
        said.clone(),
    );
    let ended = bulk.ended_at.zip(bulk.ended_by.as_ref());
    let ended = ended.map(|(at, (by, why))| line(at, by, "bulk action ended".to_owned(), why, of, said));
    std::iter::once(began).chain(ended).collect()
}

/// What somebody said of an issue last; none where it only failed.
fn of_issue(record: &IssueRecord) -> Option<RegistryLine> {
    let issue = &record.issue;
    let is_said = !record.changed_by.is_empty();
    is_said.then(|| {
        line(
            record.changed_at,
            &record.changed_by,
            format!("issue {}", issue.state),
            &record.why,
            Some(&issue.tenant),
            format!("{}: {} with {}", issue.id, issue.place, issue.code),
        )
    })
}
