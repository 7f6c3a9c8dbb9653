//! P1: death at every named point.

use tollgate_tests::campaign::points::{CAMPAIGN, POINTS};

#[test]
fn p1_a_host_that_dies_between_any_two_steps_loses_nothing_and_doubles_nothing() {
    let found = CAMPAIGN.hold_short(20_261_122);
    for (fact, times) in &found.facts[..POINTS.len()] {
        assert_eq!(*times, CAMPAIGN.short.to_string(), "{fact}");
    }
    // What is pulled, and what budgets held.
    for (fact, times) in &found.facts[found.facts.len() - 5..] {
        assert_ne!(times, "0", "{fact}");
    }
}
