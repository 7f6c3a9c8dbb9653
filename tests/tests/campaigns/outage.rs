//! P5, T2: a storm while every destination is down.

use tollgate_tests::campaign::outage::CAMPAIGN;

#[test]
fn p5_t2_a_storm_while_everything_is_down_is_taken_in_and_drains_with_each_effect_once() {
    CAMPAIGN.hold_short(20_260_505);
}
