//! Plugins' state: what they keep for a tenant, and a person's change of it, with who and why.

use std::sync::Arc;

use axum::Router;
use tollgate_api::calls;
use tollgate_api::state::{EditView, Shown, StateList, StateReport, StateView};
use tollgate_store::{Control, StateEdit, StateEditView, StateEdited, StateFilter, StoreError, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal, access};
use crate::clock;

/// The calls about plugins' state.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(list::<S>).call(change::<S>)
}

/// Returns what a plugin keeps.
///
/// # Errors
/// When the store cannot be read.
pub async fn state(store: &(impl Views + Control), filter: StateFilter) -> Result<StateList, StoreError> {
    let edits = match &filter.key {
        Some(key) => {
            store
                .state_edits(filter.tenant.clone(), filter.plugin.clone(), key.clone())
                .await?
        }
        None => Vec::new(),
    };
    let rows_max = filter.rows_max;
    let keys = store.plugin_state(filter).await?;
    Ok(StateList {
        next: keys
            .last()
            .filter(|_| keys.len() == rows_max)
            .map(|last| last.key.clone()),
        keys: keys
            .into_iter()
            .map(|entry| StateView {
                key: entry.key,
                version: entry.version,
                bytes: entry.value.len(),
                value: Shown::of(entry.value),
            })
            .collect(),
        edits: edits.into_iter().map(shown).collect(),
    })
}

fn shown(edit: StateEditView) -> EditView {
    EditView {
        version: edit.version,
        at: edit.at.to_string(),
        actor: edit.actor,
        why: edit.why,
        before: edit.before.map(Shown::of),
        after: edit.after.map(Shown::of),
    }
}

/// Changes one key, if nobody changed it since.
///
/// # Errors
/// In words when it has another version; or when the store does not do it.
pub async fn edit(store: &(impl Views + Control), edit: StateEdit) -> Result<Result<StateReport, String>, StoreError> {
    let (dry_run, key, seen) = (edit.dry_run, edit.key.clone(), edit.version);
    Ok(match store.edit_state(edit).await? {
        StateEdited::Done { version } => Ok(StateReport { dry_run, key, version }),
        StateEdited::OtherVersion { version: 0 } => Err(format!("`{key}` is not there; to make it, name version 0")),
        StateEdited::OtherVersion { version } => Err(format!(
            "`{key}` has version {version}, not {seen}: look at it again, and change what is there now"
        )),
    })
}

async fn list<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::PluginState>,
) -> Answered<calls::PluginState> {
    let filter = query.checked().map_err(Refusal::bad)?;
    caller.narrowed(Some(filter.tenant.clone()))?;
    Ok(state(&operator.store, filter).await?)
}

async fn change<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, body, .. }: Asked<calls::ChangeState>,
) -> Answered<calls::ChangeState> {
    let mut asked = body.checked(clock::now()).map_err(Refusal::bad)?;
    caller.narrowed(Some(asked.tenant.clone()))?;
    asked.actor = access::actor(&caller, asked.actor);
    let done = edit(&operator.store, asked).await?;
    done.map_err(Refusal::conflict)
}
