//! Tollgate on Spin, behind the door: runs plugins on what was admitted, delivers what was recorded, and answers operators.
//!
//! | call | who asks | answers |
//! |---|---|---|
//! | `POST /v1/sweep` | the ingest component after an admission, and a timer, with the sweep's token | works on what is due and says how much |
//! | `GET /v1/counts`, `/v1/trace`, `/v1/dead-letters`, `/v1/held`, `/v1/quarantines`, `POST /v1/replay`, `/v1/resend`, `/v1/review`, `/v1/tenants/{tenant}/routes/{route}/lift-quarantine` | an operator, with the operator's token | as the native private listener does |
//!
//! Each call has a token of its own, a secret variable of the app; without one, nobody is let in.

// An event is run, and what came of it leaves.
mod work;
mod tenants;
mod plugin;
mod delivery;

// What people ask.
mod operator;

use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use spin_sdk::http_component;
use tollgate_spin_shell::web::Head;

#[http_component]
async fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    operator::handle(Head::of(&request), request, answer).await;
}
