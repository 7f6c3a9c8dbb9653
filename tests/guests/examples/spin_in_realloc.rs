//! Never returns when the host asks where to put the event. Ends `out-of-fuel`, or `deadline`.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "processor" });
}

tollgate_guests::manifest!("spin_in_realloc");

/// The contract's function as the canonical ABI has it: all parameters and the answer lie in memory.
#[unsafe(export_name = "tollgate:plugin/handler@1.0.0#process")]
extern "C" fn process(_parameters: usize) -> usize {
    static ANSWER: tollgate_guests::RawAnswer = tollgate_guests::RawAnswer::OK;
    ANSWER.address()
}

/// Where the host may put the parameters.
#[unsafe(export_name = "cabi_realloc")]
extern "C" fn realloc(_old: usize, _old_size: usize, _align: usize, _size: usize) -> usize {
    #[expect(clippy::empty_loop, reason = "this is the misbehaviour")]
    loop {}
}
