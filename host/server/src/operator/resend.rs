//! Sends again what was delivered, on purpose, to the destinations that are configured now.

use tollgate_api::resend::{AskedResend, PassedOver, ResendReport};
use tollgate_core::time::UnixMillis;
use tollgate_store::{Control, ResendRequest, Sent, SentState, StoreError, Views};

use crate::config::Config;

/// Puts delivered entries back to work under the names that they have, or with a dry run says which.
///
/// # Errors
/// When the store does not do it, or what is named is not there.
pub async fn resend(
    store: &(impl Views + Control),
    config: &Config,
    asked: AskedResend,
    now: UnixMillis,
) -> Result<ResendReport, StoreError> {
    let rows_max = asked.of.rows_max;
    let found = store.sent(asked.of).await?;
    let next = (found.len() == rows_max).then(|| found.last().map(|last| last.entry));
    let (mut resent, mut passed_over) = (Vec::new(), Vec::new());
    for sent in found {
        match why_not(config, &sent) {
            None => resent.push(sent),
            Some(because) => passed_over.push(PassedOver { sent, because }),
        }
    }
    if !asked.dry_run {
        let request = ResendRequest {
            entries: resent.iter().map(|sent| sent.entry).collect(),
            now,
            actor: asked.actor,
            why: asked.why,
        };
        let done = store.resend(request).await?;
        let (put_back, changed): (Vec<_>, Vec<_>) = resent.into_iter().partition(|sent| done.contains(&sent.entry));
        resent = put_back;
        passed_over.extend(changed.into_iter().map(|sent| PassedOver {
            sent,
            because: "somebody else had it sent again meanwhile".to_owned(),
        }));
    }
    Ok(ResendReport {
        dry_run: asked.dry_run,
        resent,
        passed_over,
        next: next.flatten(),
    })
}

fn why_not(config: &Config, sent: &Sent) -> Option<String> {
    match &sent.state {
        SentState::Waiting => return Some("it is still on its way".to_owned()),
        SentState::Dead => return Some("it was given up: put it back with `tollgate replay`".to_owned()),
        SentState::Delivered { .. } => {}
    }
    (!config.has_destination(&sent.tenant, &sent.destination)).then(|| {
        format!(
            "the tenant `{}` has no destination `{}` any more",
            sent.tenant, sent.destination
        )
    })
}
