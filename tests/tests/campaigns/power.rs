//! I4, P1: the power goes.

use tollgate_tests::campaign::power::CAMPAIGN;

#[test]
fn i4_p1_no_power_loss_takes_what_was_promised() {
    CAMPAIGN.hold_short(20_260_505);
}
