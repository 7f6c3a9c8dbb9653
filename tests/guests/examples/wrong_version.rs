//! Exports the contract's interface in version 2.0.0. Refused by vetting.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package tollgate:plugin@2.0.0;
            interface handler { process: func(event: string, config: string) -> string; }
            world processor { export handler; }
        ",
        world: "processor",
    });
}

struct Component;

impl bindings::exports::tollgate::plugin::handler::Guest for Component {
    fn process(event: String, _config: String) -> String {
        event
    }
}

tollgate_guests::manifest!("wrong_version");
bindings::export!(Component with_types_in bindings);
