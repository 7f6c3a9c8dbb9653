//! Says that its answer lies outside of its memory. Ends `invalid-output` or `trap`.

mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "processor" });
}

tollgate_guests::manifest!("wild_answer");

/// The contract's function as the canonical ABI has it: all parameters and the answer lie in memory.
#[unsafe(export_name = "tollgate:plugin/handler@1.0.0#process")]
extern "C" fn process(_parameters: usize) -> usize {
    0xffff_ff00
}

/// Where the host may put the parameters.
#[unsafe(export_name = "cabi_realloc")]
extern "C" fn realloc(_old: usize, _old_size: usize, align: usize, size: usize) -> usize {
    // Taken and never given back; a run is short.
    match std::alloc::Layout::from_size_align(size.max(1), align) {
        // SAFETY: the layout has a size of at least 1.
        Ok(layout) => unsafe { std::alloc::alloc_zeroed(layout) as usize },
        Err(_) => tollgate_guests::trap(),
    }
}
