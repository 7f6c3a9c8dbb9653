//! Exports the contract's function under its name with another signature. Refused by vetting.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package tollgate:plugin@1.0.0;
            interface handler { process: func(event: u32) -> string; }
            world processor { export handler; }
        ",
        world: "processor",
    });
}

struct Component;

impl bindings::exports::tollgate::plugin::handler::Guest for Component {
    fn process(event: u32) -> String {
        event.to_string()
    }
}

tollgate_guests::manifest!("lie");
bindings::export!(Component with_types_in bindings);
