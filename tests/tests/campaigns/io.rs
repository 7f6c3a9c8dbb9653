//! I4, P1: the disk fails.

use tollgate_tests::campaign::io::CAMPAIGN;

#[test]
fn i4_p1_no_failing_call_takes_what_was_promised() {
    CAMPAIGN.hold_short(20_260_505);
}
