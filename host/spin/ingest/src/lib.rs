//! Tollgate on Spin: proves an event over its raw bytes, records it durably, acknowledges, then works on what is due.
//!
//! A thin shell. What is decided stands in `tollgate-core`, what is kept in `tollgate-store`; here are HTTP, the clock, the
//! app's variables and the chained calls. An instance lives for one request and remembers nothing; several run at once.
//!
//! | call | who asks | answers |
//! |---|---|---|
//! | `POST /in/{tenant}/{source}` | a provider | as the native edge does |
//! | `GET /healthz` | anybody | 200 while the store can be read |
//! | `POST /v1/sweep` | a timer, with the sweep's token | works on what is due and says how much |
//! | `GET /v1/counts`, `/v1/trace`, `/v1/dead-letters`, `POST /v1/replay` | an operator, with the operator's token | as the native private listener does |

// The outside.
mod clock;
mod database;
mod web;
mod tenants;

// An event comes in, is run, and what came of it leaves.
mod intake;
mod worker;
mod plugin;
mod delivery;

// What people ask.
mod operator;

use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use spin_sdk::http_component;

#[http_component]
async fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let head = web::Head::of(&request);
    if head.path.starts_with("/in/") {
        intake::handle(head, request, answer).await;
    } else {
        operator::handle(head, request, answer).await;
    }
}

/// Says one line to whoever operates the app. Never a secret, and nothing of a payload.
#[expect(
    clippy::print_stderr,
    reason = "standard error is where Spin takes a component's log from"
)]
fn log(line: &str) {
    eprintln!("{line}");
}
