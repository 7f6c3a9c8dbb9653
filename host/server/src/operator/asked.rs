//! Reads requests as calls of the table, and writes their answers as responses. Nothing else reads or writes either.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::routing::{MethodFilter, on};
use axum::{Json, Router};
use tollgate_api::{Call, Method, read_body, read_query};
use tollgate_core::access::Caller;
use tollgate_store::{Control, Views};

use super::{Operator, Refusal};

/// Who asks for a call, and what stands in its address.
pub(super) struct Heading<C: Call> {
    pub(super) caller: Caller,
    pub(super) path: C::Path,
    pub(super) query: C::Query,
}

/// A call with its caller and the values of its request.
pub(super) struct Asked<C: Call> {
    pub(super) caller: Caller,
    pub(super) path: C::Path,
    pub(super) query: C::Query,
    pub(super) body: C::Body,
}

/// What a handler returns: the call's answer, or why it is refused.
pub(super) type Answered<C> = Result<<C as Call>::Answer, Refusal>;

impl<C: Call, S: Send + Sync> FromRequestParts<S> for Heading<C> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        // The gate puts the caller there, and lets no request through without one.
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Refusal::internal("nobody looked at who asks"))?;
        let query = read_query::<C>(parts.uri.query().unwrap_or_default()).map_err(Refusal::bad)?;
        let Path(path) = Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
        Ok(Self { caller, path, query })
    }
}

impl<C: Call, S: Send + Sync> FromRequest<S> for Asked<C> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Heading { caller, path, query } = Heading::<C>::from_request_parts(&mut parts, state).await?;
        let body = Bytes::from_request(Request::from_parts(parts, body), state)
            .await
            .map_err(|rejection| Refusal::new(rejection.status(), rejection.body_text()))?;
        let body = read_body::<C>(&body).map_err(Refusal::bad)?;
        Ok(Self {
            caller,
            path,
            query,
            body,
        })
    }
}

/// A router of calls. Method and path are the table's.
pub(super) trait Routes<S>: Sized {
    /// Answers a call with what `handler` returns.
    fn call<C, F, A>(self, handler: F) -> Self
    where
        C: Call,
        F: Fn(Arc<Operator<S>>, Asked<C>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answered<C>> + Send + 'static;

    /// Answers a call whose body or answer is not JSON.
    fn other<C, H, T>(self, call: C, handler: H) -> Self
    where
        C: Call,
        H: Handler<T, Arc<Operator<S>>>,
        T: 'static;
}

impl<S: Views + Control> Routes<S> for Router<Arc<Operator<S>>> {
    fn call<C, F, A>(self, handler: F) -> Self
    where
        C: Call,
        F: Fn(Arc<Operator<S>>, Asked<C>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answered<C>> + Send + 'static,
    {
        let answering = move |State(operator): State<Arc<Operator<S>>>, asked: Asked<C>| {
            let answer = handler(operator, asked);
            async move { answer.await.map(Json) }
        };
        self.route(C::PATH, on(method::<C>(), answering))
    }

    fn other<C, H, T>(self, _: C, handler: H) -> Self
    where
        C: Call,
        H: Handler<T, Arc<Operator<S>>>,
        T: 'static,
    {
        self.route(C::PATH, on(method::<C>(), handler))
    }
}

fn method<C: Call>() -> MethodFilter {
    match C::METHOD {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    }
}
