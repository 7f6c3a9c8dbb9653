//! I4, P1: kill -9 under load.

use std::time::Duration;

use tollgate_tests::campaign::kill::{CAMPAIGN, Options, run};

#[test]
fn i4_p1_kills_under_load_lose_nothing_and_double_nothing() {
    // Fixed, so that a failure can be repeated: `cargo xtask campaign kill --short --seed 20260505`.
    let cycles = u32::try_from(CAMPAIGN.short).expect("a count of cycles");
    let report = run(Options::new(cycles, 20_260_505), |_| {});
    assert_eq!(report.problems, [""; 0], "seed {}", report.seed);
    assert_eq!(report.cycles.len() as u64, CAMPAIGN.short);
    assert!(
        report.acknowledged >= 400 && report.operations >= 200 && report.deliveries >= report.deliverable,
        "the load was no load: {report:?}"
    );
    assert!(
        report.confirmed > 0 && report.given_back > 0 && report.within_budgets > 0 && report.over_budget > 0,
        "nothing was pulled, or no budget held anything: {report:?}"
    );
    // A debug build, beside other tests, on a machine that may stop everyone for a while: what is held here is that a restart waits for nothing
    // that takes seconds. How long one takes is a figure of the campaign with a release build, which shows the 95 % as well.
    let (median, longest) = (report.restart_percentile(0.5), report.restart_percentile(1.0));
    assert!(
        median < Duration::from_secs(1),
        "half of the restarts should take less than a second; took {median:?}"
    );
    assert!(
        longest < Duration::from_secs(20),
        "the longest restart took {longest:?}"
    );
}
