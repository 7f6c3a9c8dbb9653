//! libFuzzer's end of the fuzz targets: the one that TOLLGATE_FUZZ_TARGET names gets every input.
#![no_main]

#[path = "../../src/fuzz/mod.rs"]
#[expect(dead_code, reason = "seeds are laid out by the campaign, not here")]
mod fuzz;

use std::sync::OnceLock;

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

fn target() -> &'static Target {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("TOLLGATE_FUZZ_TARGET").unwrap_or_default();
        let named = TARGETS.iter().find(|target| target.name == name);
        named.unwrap_or_else(|| panic!("TOLLGATE_FUZZ_TARGET names no target: `{name}`"))
    })
}

fuzz_target!(init: {
    // Stores and keyrings are made before the first input, so that it is not charged for them.
    (target().run)(&[]);
}, |input: &[u8]| (target().run)(input));
