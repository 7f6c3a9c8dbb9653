//! P1: a steady load. The short form holds the machinery and the bound on the WAL; a slope takes hours.

use tollgate_tests::campaign::soak::CAMPAIGN;

#[test]
fn p1_a_short_soak_loses_nothing_and_keeps_the_wal_within_its_bound() {
    CAMPAIGN.hold_short(20_260_505);
}
