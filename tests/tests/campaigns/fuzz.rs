//! Fuzzing without coverage: seeds and what is made of them. The campaign that is led by coverage is `cargo xtask campaign fuzz`.

use tollgate_tests::campaign::fuzz::changed_seeds;

#[test]
fn changed_seeds_break_no_target() {
    // Fixed, so that a failure comes again; it says which file to repeat it with.
    let found = changed_seeds(20_260_506);
    // Shown by the runner when it is asked for the output of tests that pass.
    println!("{}", found.table());
    assert!(found.problems.is_empty(), "{}\n{}", found.verdict(), found.table());
}
