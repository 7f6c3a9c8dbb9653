//! The HTTP component in front of an enclosed plugin, on a private route: only the worker component reaches it, by service chaining.
//!
//! It answers 200 before the plugin is started, so that an answer which breaks off is known to be the plugin's doing. At `/digest` it
//! answers which plugin it is, and starts none.

use futures::SinkExt as _;
use spin_sdk::http::{Headers, IncomingRequest, OutgoingResponse, ResponseOutparam};
use spin_sdk::http_component;
use tollgate_spin_protocol::{DIGEST_HEADER, DIGEST_PATH};

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit", "../wit"],
        world: "tollgate:runner/runner@1.0.0",
        generate_all,
    });
}

#[http_component]
async fn handle(request: IncomingRequest, answer: ResponseOutparam) {
    let is_run = request.path_with_query().is_none_or(|path| path != DIGEST_PATH);
    let request = match request.into_body().await {
        Ok(body) => body,
        // A caller that sent half a request does not read an answer.
        Err(_) => return,
    };
    let headers = Headers::new();
    // A digest is plain ASCII: the header can be set.
    let _ = headers.append(
        DIGEST_HEADER,
        &bindings::tollgate::runner::plugin::digest().into_bytes(),
    );
    let response = OutgoingResponse::new(headers);
    let mut body = response.take_body();
    answer.set(response);
    if !is_run {
        return;
    }
    let answered = bindings::tollgate::runner::plugin::run(&request);
    // Nobody may be listening any more, and nothing follows.
    let _ = body.send(answered).await;
}
