//! Keeps the contract, but imports a clock from WASI. Refused by vetting, which names the import.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package test:guest;
            world with-clock {
                include tollgate:plugin/processor@1.0.0;
                import wasi:clocks/monotonic-clock@0.2.0;
            }
            package wasi:clocks@0.2.0 {
                interface monotonic-clock { type instant = u64; now: func() -> instant; }
            }
        ",
        world: "test:guest/with-clock",
        generate_all,
    });
}

use bindings::tollgate::plugin::types::{Event, Failure, Proposal};

struct Component;

impl bindings::exports::tollgate::plugin::handler::Guest for Component {
    fn process(_event: Event, _config: String) -> Result<Vec<Proposal>, Failure> {
        Err(Failure::Refuse(
            bindings::wasi::clocks::monotonic_clock::now().to_string(),
        ))
    }
}

tollgate_guests::manifest!("wasi_import");
bindings::export!(Component with_types_in bindings);
