//! A component of another world: it exports `run` and knows nothing of the contract. Refused by vetting.

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package other:tool@1.0.0;
            world command { export run: func() -> string; }
        ",
        world: "command",
    });
}

struct Component;

impl bindings::Guest for Component {
    fn run() -> String {
        "hello".to_owned()
    }
}

tollgate_guests::manifest!("wrong_world");
bindings::export!(Component with_types_in bindings);
