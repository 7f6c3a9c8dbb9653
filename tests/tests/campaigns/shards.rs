//! R3: the rule by which tenants are divided among stores, simulated.

use tollgate_tests::campaign::shards::{CAMPAIGN, Move, run};
use tollgate_tests::campaign::{Asked, Progress};

const SEED: u64 = 20_261_130;

#[test]
fn r3_a_tenant_that_moves_with_its_receipts_loses_and_doubles_nothing() {
    let found = CAMPAIGN.hold_short(SEED);
    // A simulation in which something never happens proves nothing about it.
    for (fact, times) in &found.facts {
        assert_ne!(times, "0", "{fact}");
    }
}

/// What can be done without a command that hands receipts over, and why that is not enough.
#[test]
fn r3_a_tenant_that_moves_without_its_receipts_is_seen_to_have_events_recorded_twice() {
    let asked = Asked {
        seed: SEED,
        count: CAMPAIGN.short,
    };
    let found = run(asked, Move::NewEventsOnly, &mut Progress::silent());
    let twice = |problem: &String| problem.ends_with("events were recorded on two shards");
    assert!(found.problems.iter().any(twice), "{:?}", found.problems);
    assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
}
