//! A receipt as a fixture: what a plugin was given, so that its author can run it again (promise W3).

use std::sync::Arc;

use axum::Router;
use serde_json::value::RawValue;
use tollgate_api::calls;
use tollgate_api::fixtures::FixtureText;
use tollgate_core::fixture::{Acted, Ending, Fixture};
use tollgate_core::forward;
use tollgate_core::ids::{ReceiptId, RouteName};
use tollgate_core::review::Target;
use tollgate_store::{Control, JobView, RecordedRun, RecordedRunFilter, StoreError, TraceBy, TraceQuery, Views};

use super::asked::{Answered, Asked, Routes as _};
use super::{Operator, Refusal, access};

/// The call about fixtures.
pub(super) fn calls<S: Views + Control>(router: Router<Arc<Operator<S>>>) -> Router<Arc<Operator<S>>> {
    router.call(get::<S>)
}

/// Why there is no fixture of a receipt.
#[derive(Debug, thiserror::Error)]
pub enum NoFixture {
    /// The store cannot be read, or has no such receipt.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// In words.
    #[error("{0}")]
    Refused(String),
}

impl From<NoFixture> for Refusal {
    fn from(error: NoFixture) -> Self {
        match error {
            NoFixture::Store(error) => error.into(),
            NoFixture::Refused(message) => Self::new(axum::http::StatusCode::CONFLICT, message),
        }
    }
}

async fn get<S: Views + Control>(
    operator: Arc<Operator<S>>,
    Asked { caller, query, .. }: Asked<calls::Fixture>,
) -> Answered<calls::Fixture> {
    let (receipt, route) = query.checked().map_err(Refusal::bad)?;
    access::own(&operator.store, &caller, Target::Receipt(receipt)).await?;
    Ok(fixture_of(&operator.store, receipt, route).await?)
}

/// The newest run of a plugin on a receipt's event, as a fixture: what it was given, the state that it read, and how it ended. Where none
/// ran, the event alone.
///
/// # Errors
/// When there is no such receipt, several routes ran and none is named, or the event's body is no text.
pub async fn fixture_of(
    store: &impl Views,
    receipt: ReceiptId,
    route: Option<RouteName>,
) -> Result<FixtureText, NoFixture> {
    let event = store.event(receipt).await?;
    let query = TraceQuery {
        by: TraceBy::Receipt(receipt),
        tenant: None,
        after: None,
        receipts_max: 1,
    };
    let trace = store.trace(query).await?.into_iter().next();
    let mut ran: Vec<JobView> = trace.map(|trace| trace.jobs).unwrap_or_default();
    ran.retain(|job| {
        let by_plugin = job.runs.last().is_some_and(|run| run.plugin.as_str() != forward::NAME);
        by_plugin && route.as_ref().is_none_or(|route| job.route == *route)
    });
    let fixture = match (&ran[..], &route) {
        ([], None) => Fixture {
            event,
            config_json: "{}".to_owned(),
            state: tollgate_core::fixture::State::new(),
            expect: None,
        },
        ([], Some(route)) => {
            return Err(NoFixture::Refused(format!(
                "no plugin ran on {receipt} for the route `{route}`; without a route, the fixture has the event alone"
            )));
        }
        ([job], _) => {
            let filter = RecordedRunFilter {
                run: job.runs.last().map(|run| run.id),
                rows_max: 1,
                ..RecordedRunFilter::default()
            };
            let run = store.recorded_runs(filter).await?.into_iter().next();
            let run = run.ok_or_else(|| NoFixture::Refused(format!("the run of {} is not there any more", job.id)))?;
            of_run(run, job)
        }
        (several, _) => {
            let routes: Vec<_> = several.iter().map(|job| job.route.as_str()).collect();
            return Err(NoFixture::Refused(format!(
                "several routes ran a plugin on {receipt}: {}; say which one is meant",
                routes.join(", ")
            )));
        }
    };
    let text = fixture.to_json().map_err(NoFixture::Refused)?;
    let text = RawValue::from_string(text).map_err(|error| NoFixture::Refused(error.to_string()))?;
    Ok(FixtureText(text))
}

fn of_run(run: RecordedRun, job: &JobView) -> Fixture {
    let expect = ending(&run, job);
    let state = run
        .reads
        .into_iter()
        .filter_map(|read| Some((read.key, read.value?)))
        .collect();
    Fixture {
        event: Arc::unwrap_or_clone(run.event),
        config_json: run.config,
        state,
        expect,
    }
}

/// How the run ended, where that is all known: not for a fault, which no fixture can expect, nor for what a job that is not done proposed.
fn ending(run: &RecordedRun, job: &JobView) -> Option<Ending> {
    let nothing = Ending {
        actions: None,
        refuse: None,
        hold: None,
        retry: None,
        state: None,
    };
    match run.outcome.as_str() {
        "completed" if job.state == "done" => {
            let acted = run.actions.iter().map(|(operation_key, action)| Acted {
                operation_key: operation_key.to_string(),
                action: action.clone(),
            });
            Some(Ending {
                actions: Some(acted.collect()),
                ..nothing
            })
        }
        "refused" => Some(Ending {
            refuse: Some(run.message.clone()),
            ..nothing
        }),
        "held" => Some(Ending {
            hold: Some(run.message.clone()),
            ..nothing
        }),
        _ => None,
    }
}
