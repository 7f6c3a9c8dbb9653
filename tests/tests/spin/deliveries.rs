//! What leaves a Spin app, in order and by content, as natively.

use serde_json::json;
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::signer;
use tollgate_tests::json::{list, text};
use tollgate_tests::spin::{SpinSetup, books};
use tollgate_tests::stage::wait_until;

#[test]
fn p8_p10_order_and_filters_hold_on_spin() {
    let destination = Destination::start();
    let ordered = books(&destination).replacen("url = ", "order = \"subject\"\nurl = ", 1);
    let stage = SpinSetup::acme(&format!(
        "\n[routes.steps]\ntypes = [\"step\"]\nfilter = \"body.number:<=3\"\nforward = \"body\"\ndestinations = [\"books\"]\n{ordered}"
    ))
    .destination(&destination)
    .start();
    destination.script([Reply::Status(500)]);
    let step = |subject: &str, number: u32| {
        let id = format!("{subject}-{number}");
        let body = json!({ "event": "step", "event_id": id, "order_id": subject, "number": number }).to_string();
        let answer = stage.post("shop", &signer("shop").sign(&id, body));
        assert_eq!(answer.status, 202, "{id}");
        answer.receipt()
    };
    let mut receipts = Vec::new();
    for number in 1..=4 {
        receipts.push(step("a", number));
    }
    let numbers = || -> Vec<_> {
        let arrivals = destination.arrivals();
        arrivals
            .iter()
            .filter_map(|arrival| arrival.json()["number"].as_u64())
            .collect()
    };
    wait_until("all steps are delivered", || {
        stage.sweep();
        (stage.counts()["delivered"] == 3).then_some(())
    });
    assert_eq!(numbers(), [1, 1, 2, 3]);
    let trace = stage.traces(&receipts[3]).remove(0);
    assert!(list(&trace["jobs"]).is_empty(), "{trace}");
    assert_eq!(
        text(&trace["history"][0], "detail"),
        "route steps: its filter does not fit"
    );
}
