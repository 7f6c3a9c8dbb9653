//! Asks the calls of the operator API, as a client of the private listener would, without a socket between.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tollgate_api::{Call, Content, ErrorBody, FieldProblem, question};
use tollgate_core::secret::Secret;
use tower_service::Service as _;

use crate::Console;

/// The most bytes of an answer that a page is made of: a trace of an event with many runs, or a body of the largest kind.
const ANSWER_BYTES_MAX: usize = 96 * 1024 * 1024;

/// What a call was refused with, or what is wrong with a request for a page.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) status: StatusCode,
    /// In words: what is wrong, where, and how to mend it.
    pub(crate) says: String,
    /// Each thing that is wrong with what was sent, where there may be several.
    pub(crate) problems: Vec<FieldProblem>,
}

impl Trouble {
    pub(crate) fn new(status: StatusCode, says: impl Into<String>) -> Self {
        Self {
            status,
            says: says.into(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn bad(says: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, says)
    }

    pub(crate) fn not_found(says: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, says)
    }

    /// Whether it is for what a form says: whoever filled it in can mend that.
    pub(crate) fn is_of_form(&self) -> bool {
        matches!(self.status, StatusCode::BAD_REQUEST | StatusCode::CONFLICT)
    }

    /// Whether it is for the role or the tenant of whoever asks: a page then leaves that part out.
    pub(crate) fn is_denied(&self) -> bool {
        self.status == StatusCode::FORBIDDEN
    }
}

impl IntoResponse for Trouble {
    /// The guard dresses it as a page: it knows who reads it.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What came back, or went out, is not what the call's types say.
fn broken<C: Call>(error: &dyn std::fmt::Display) -> Trouble {
    Trouble::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}", C::PATH))
}

impl Console {
    /// Asks a call with a token.
    ///
    /// # Errors
    /// When it is refused, as the API says it.
    pub(crate) async fn ask<C: Call>(
        &self,
        token: &Secret,
        path: &C::Path,
        query: &C::Query,
        body: &C::Body,
    ) -> Result<C::Answer, Trouble> {
        let body = match C::TAKES {
            Content::Json => serde_json::to_vec(body).map_err(|error| broken::<C>(&error))?,
            Content::Nothing | Content::Component | Content::Metrics => Vec::new(),
        };
        self.send::<C>(token, path, query, (Body::from(body), HeaderMap::new()))
            .await
    }

    /// As [`Console::ask`], with a body and headers by hand.
    pub(crate) async fn send<C: Call>(
        &self,
        token: &Secret,
        path: &C::Path,
        query: &C::Query,
        (body, headers): (Body, HeaderMap),
    ) -> Result<C::Answer, Trouble> {
        let broken = broken::<C>;
        let question = question::<C>(path, query).map_err(|error| broken(&error))?;
        let mut bearer = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
            .map_err(|_| Trouble::new(StatusCode::UNAUTHORIZED, "a token is one line of plain text"))?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(C::METHOD.as_str())
            .uri(question)
            .body(body)
            .map_err(|_| Trouble::bad("what was asked for does not fit into one request"))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        let Ok(answer) = self.host.calls.clone().call(request).await;
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX)
            .await
            .map_err(|error| broken(&error))?;
        if status != StatusCode::OK {
            let said = serde_json::from_slice::<ErrorBody>(&bytes);
            let (says, problems) = said.map_or_else(
                |_| (format!("the host answered {status}"), Vec::new()),
                |body| (body.error, body.problems),
            );
            return Err(Trouble { status, says, problems });
        }
        serde_json::from_slice(&bytes).map_err(|error| broken(&error))
    }

    /// As [`Console::ask`], of a call that answers to nothing but its query.
    pub(crate) async fn read<C>(&self, token: &Secret, query: &C::Query) -> Result<C::Answer, Trouble>
    where
        C: Call<Path = tollgate_api::Nothing, Body = tollgate_api::Nothing>,
    {
        let nothing = tollgate_api::Nothing {};
        self.ask::<C>(token, &nothing, query, &nothing).await
    }
}
