//! P3, T1, T2: leases, order and operations among simulated faults.

use tollgate_tests::campaign::simulate::CAMPAIGN;

const SEED: u64 = 20_261_122;

#[test]
fn p3_t1_t2_simulated_lives_keep_every_promise_and_meet_every_fault() {
    let found = CAMPAIGN.hold_short(SEED);
    // A simulation in which something never happens proves nothing about it.
    for (fact, times) in &found.facts {
        assert_ne!(times, "0", "{fact}");
    }
}
