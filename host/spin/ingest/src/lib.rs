//! Tollgate on Spin, the door: proves an event over its raw bytes, records it durably, acknowledges, and wakes the worker.
//!
//! | call | who asks | answers |
//! |---|---|---|
//! | `POST /in/{tenant}/{source}` | a provider | as the native edge does |
//! | `GET /healthz` | anybody | 200 while the store can be read |
//!
//! Small on purpose: it is what strangers reach, and an instance of it is made for each request.

// An event comes in.
mod intake;
mod source;

use spin_sdk::http::{IncomingRequest, ResponseOutparam};
use spin_sdk::http_component;
use tollgate_spin_shell::web::{self, Head, Whole};
use tollgate_spin_shell::{database, log};

#[http_component]
async fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let head = Head::of(&request);
    if head.path.starts_with("/in/") {
        return intake::handle(head, request, answer).await;
    }
    let (status, body) = if head.path == "/healthz" && head.is("GET") {
        health()
    } else {
        (404, "{\"error\":\"there is nothing here\"}\n")
    };
    let whole = Whole {
        status,
        content_type: "application/json",
        headers: Vec::new(),
        body: body.to_owned(),
    };
    web::respond(answer, whole).await;
}

fn health() -> (u16, &'static str) {
    match database::open().and_then(|store| store.next_due()) {
        Ok(_) => (200, "\"ok\"\n"),
        Err(error) => {
            log(&format!("the store cannot be read: {error}"));
            (503, "{\"error\":\"the store cannot be read\"}\n")
        }
    }
}
