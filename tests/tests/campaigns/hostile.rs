//! I3, P6: hostile clients beside signed traffic.

use tollgate_tests::campaign::hostile::CAMPAIGN;

#[test]
fn i3_p6_hostile_clients_keep_no_signed_event_out_and_leave_nothing_behind() {
    CAMPAIGN.hold_short(20_260_505);
}
