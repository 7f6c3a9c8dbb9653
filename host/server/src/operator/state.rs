//! Plugins' state: what they keep for a tenant, and a person's change of it, with who and why.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tollgate_core::access::Caller;
use tollgate_core::time::UnixMillis;
use tollgate_core::{limits, mask};
use tollgate_store::{StateEdit, StateEditView, StateEdited, StateFilter, Store, StoreError};

use super::{Operator, Refusal, access};
use crate::clock;

/// Keys of one answer.
const KEYS_MAX: usize = 100;

/// Which state is asked for, as a query.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateQuery {
    pub(crate) tenant: String,
    pub(crate) plugin: String,
    /// This key, with what people changed of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Keys that begin so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    /// Keys behind this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
}

impl StateQuery {
    /// # Errors
    /// In words, when a field is not what its name says.
    pub(crate) fn checked(self) -> Result<StateFilter, String> {
        Ok(StateFilter {
            tenant: self.tenant.parse().map_err(|error| format!("tenant: {error}"))?,
            plugin: self.plugin.parse().map_err(|error| format!("plugin: {error}"))?,
            key: self.key,
            prefix: self.prefix,
            after: self.after,
            rows_max: self.limit.unwrap_or(KEYS_MAX).clamp(1, KEYS_MAX),
        })
    }
}

/// A value as people see it: as text where it is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shown {
    Text(String),
    Base64(String),
}

impl Shown {
    fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Base64(BASE64.encode(error.as_bytes())), Self::Text)
    }

    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Base64(text) => BASE64
                .decode(text.as_bytes())
                .map_err(|error| format!("value: not base64: {error}")),
        }
    }
}

/// One key with its value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StateView {
    pub(crate) key: String,
    /// Positive: the run that wrote it. Negative: the edit. An edit has to name it.
    pub(crate) version: i64,
    pub(crate) bytes: usize,
    pub(crate) value: Shown,
}

/// What was changed by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EditView {
    pub(crate) version: i64,
    pub(crate) at: String,
    pub(crate) actor: String,
    pub(crate) why: String,
    pub(crate) before: Option<Shown>,
    pub(crate) after: Option<Shown>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StateList {
    pub(crate) keys: Vec<StateView>,
    /// Of the one key that was asked for, the newest first.
    pub(crate) edits: Vec<EditView>,
    /// Where there were more keys than one answer holds: the last of them.
    pub(crate) next: Option<String>,
}

/// Answers what a plugin keeps.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn state(store: &impl Store, filter: StateFilter) -> Result<StateList, StoreError> {
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

/// A change of one key: to `value`, or without one its removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateBody {
    pub(crate) tenant: String,
    pub(crate) plugin: String,
    pub(crate) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Shown>,
    /// That was seen; 0: the key is new.
    pub(crate) version: i64,
    pub(crate) actor: String,
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// What a change did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateReport {
    pub(crate) dry_run: bool,
    pub(crate) key: String,
    /// That the key has now; 0: there is none.
    pub(crate) version: i64,
}

impl StateBody {
    /// # Errors
    /// In words, when a field is not what its name says, or nobody says why.
    pub(crate) fn checked(self, now: UnixMillis) -> Result<StateEdit, String> {
        mask::check_note("actor", &self.actor, limits::WHY_BYTES_MAX)?;
        mask::check_note("why", &self.why, limits::WHY_BYTES_MAX)?;
        if self.why.trim().is_empty() {
            return Err("why: say why the state is changed: its history keeps it".to_owned());
        }
        if self.key.is_empty() || self.key.len() > limits::STATE_KEY_BYTES_MAX {
            return Err(format!("key: write 1 to {} bytes", limits::STATE_KEY_BYTES_MAX));
        }
        let value = self.value.map(Shown::bytes).transpose()?;
        if let Some(value) = &value
            && value.len() > limits::STATE_VALUE_BYTES_MAX
        {
            return Err(format!(
                "value: {} bytes; at most {} are kept",
                value.len(),
                limits::STATE_VALUE_BYTES_MAX
            ));
        }
        if value.is_none() && self.version == 0 {
            return Err("version: a key that is not there cannot be removed".to_owned());
        }
        Ok(StateEdit {
            tenant: self.tenant.parse().map_err(|error| format!("tenant: {error}"))?,
            plugin: self.plugin.parse().map_err(|error| format!("plugin: {error}"))?,
            key: self.key,
            value,
            version: self.version,
            actor: self.actor,
            why: self.why,
            now,
            dry_run: self.dry_run,
        })
    }
}

/// Changes one key, if nobody changed it since.
///
/// # Errors
/// In words when it has another version; or when the store does not do it.
pub(crate) async fn edit(store: &impl Store, edit: StateEdit) -> Result<Result<StateReport, String>, StoreError> {
    let (dry_run, key, seen) = (edit.dry_run, edit.key.clone(), edit.version);
    Ok(match store.edit_state(edit).await? {
        StateEdited::Done { version } => Ok(StateReport { dry_run, key, version }),
        StateEdited::OtherVersion { version: 0 } => Err(format!("`{key}` is not there; to make it, name version 0")),
        StateEdited::OtherVersion { version } => Err(format!(
            "`{key}` has version {version}, not {seen}: look at it again, and change what is there now"
        )),
    })
}

pub(super) async fn list<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<StateQuery>,
) -> Result<Response, Refusal> {
    let filter = query.checked().map_err(Refusal::bad)?;
    caller.narrowed(Some(filter.tenant.clone()))?;
    Ok(Json(state(&operator.store, filter).await?).into_response())
}

pub(super) async fn change<S: Store>(
    State(operator): State<Arc<Operator<S>>>,
    Extension(caller): Extension<Caller>,
    body: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let body: StateBody = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad(format!("the body is not a change of state: {error}")))?;
    let mut asked = body.checked(clock::now()).map_err(Refusal::bad)?;
    caller.narrowed(Some(asked.tenant.clone()))?;
    asked.actor = access::actor(&caller, asked.actor);
    let done = edit(&operator.store, asked).await?;
    Ok(Json(done.map_err(Refusal::conflict)?).into_response())
}
