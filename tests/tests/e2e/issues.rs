//! O12: failures that are one failure, with what to do first, and a notice of each change of state, once.

use serde_json::{Value, json};
use tollgate_tests::destination::{Arrival, Destination, Reply};
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::{list, text};
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, wait_until};

fn send(stage: &Stage, tenant: &str, n: usize) {
    let body = redeemed(&format!("evt_{tenant}_{n}"), &format!("red_{tenant}_{n}"), "success");
    assert_eq!(
        stage.post_to(tenant, "shop", &signer("shop").sign("", body)).status,
        202
    );
    stage.quiet();
}

/// Waits until an issue has failed so often.
fn counted(stage: &Stage, count: u64) -> Value {
    wait_until("the failures are grouped", || {
        let issues = list(&stage.operator_get("/v1/issues?all=true").json());
        issues.into_iter().find(|issue| issue["count"] == count)
    })
}

/// What a notice says of a name.
fn value(arrival: &Arrival, name: &str) -> String {
    let said = arrival.json();
    let values = list(&said["action"]["values"]);
    let found = values
        .iter()
        .find(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().expect("a text").to_owned());
    found.unwrap_or_else(|| panic!("no {name}: {said}"))
}

#[test]
fn o12_failures_are_grouped_and_each_change_is_told_once_to_whoever_asked() {
    let (to_books, to_ops) = (Destination::start(), Destination::start());
    let ops = books("ops", &to_ops);
    let mut stage = Setup::acme(&format!(
        "{CASHBACK_TO_BOOKS}{}{ops}notices = true\n",
        books("books", &to_books)
    ))
    .plugin("cashback")
    .start();
    to_books.otherwise(Reply::Status(410));
    for n in 0..3 {
        send(&stage, "acme", n);
    }
    let issue = counted(&stage, 3);
    for (field, expect) in [
        ("issue", "issue_1"),
        ("kind", "dead-delivery"),
        ("place", "books"),
        ("code", "410"),
        ("state", "open"),
        ("filter", "tenant:acme status:dead destination:books code:410"),
    ] {
        assert_eq!(text(&issue, field), expect, "{issue}");
    }
    assert_eq!(list(&issue["receipts"]).len(), 3);
    // Its filter finds what it counts.
    let found = stage.ask(&[text(&issue, "list"), text(&issue, "filter")]).json();
    assert_eq!(list(&found["items"]).len(), 3);

    let opened = to_ops.wait_for(1);
    assert_eq!(opened[0].json()["action"]["template"], "issue-opened");
    assert_eq!(value(&opened[0], "first_action"), text(&issue, "first_action"));
    assert_eq!(opened[0].header("idempotency-key"), "tollgate/notify/issue_1:1");

    // A restart tells nothing again.
    stage.stop();
    stage.start();
    let looked = stage
        .ask(&[
            "issues",
            "acknowledge",
            "issue_1",
            "--why",
            "they were called",
            "--dry-run",
        ])
        .ok()
        .json();
    assert_eq!(
        (text(&looked, "state"), text(&looked, "changed_by")),
        ("acknowledged", "tester")
    );
    assert_eq!(text(&stage.ask(&["issues", "show", "issue_1"]).json(), "state"), "open");
    let acknowledged = stage
        .ask(&["issues", "acknowledge", "issue_1", "--why", "they were called"])
        .ok()
        .json();
    assert_eq!(
        (text(&acknowledged, "state"), text(&acknowledged, "changed_by")),
        ("acknowledged", "tester")
    );
    stage.ask(&["issues", "acknowledge", "issue_1"]).ok();
    send(&stage, "acme", 3);
    counted(&stage, 4);
    stage.ask(&["issues", "resolve", "issue_1"]).ok();
    assert_eq!(
        stage.ask(&["issues"]).json(),
        json!([]),
        "what is resolved is not in the way"
    );
    assert_eq!(list(&stage.ask(&["issues", "--state", "resolved"]).json()).len(), 1);
    send(&stage, "acme", 4);
    assert_eq!(counted(&stage, 5)["state"], "open");
    stage.quiet();
    let told: Vec<_> = to_ops
        .wait_for(4)
        .iter()
        .map(|arrival| text(&arrival.json()["action"], "template").to_owned())
        .collect();
    let expect = [
        "issue-opened",
        "issue-acknowledged",
        "issue-resolved",
        "issue-opened-again",
    ];
    assert_eq!(told, expect, "each once");
    stage
        .ask_for_people(&["issues", "resolve", "issue_9"])
        .fails(1, "issue_9 does not exist");
    stage
        .ask_for_people(&["issues", "--state", "closed"])
        .fails(2, "no state of an issue");
    stage.assert_whole();
}

#[test]
fn o2_o12_a_tenant_sees_its_own_issues() {
    let destination = Destination::start();
    let tenant = format!("{CASHBACK_TO_BOOKS}{}", books("books", &destination));
    let stage = Setup::acme(&tenant)
        .tenant("globex", &format!("{SOURCES}{tenant}"))
        .plugin("cashback")
        .start();
    destination.otherwise(Reply::Status(410));
    send(&stage, "acme", 0);
    send(&stage, "globex", 0);
    wait_until("both are grouped", || {
        (list(&stage.operator_get("/v1/issues").json()).len() == 2).then_some(())
    });
    let (admin, viewer) = (stage.token("tenant-admin", "globex"), stage.token("viewer", "acme"));
    for (token, own, other) in [(&admin, "globex", "acme"), (&viewer, "acme", "globex")] {
        for path in [
            "/v1/issues",
            "/v1/issues?all=true",
            &format!("/v1/issues?tenant={other}"),
        ] {
            let said = stage.ask_as(token, "GET", path, b"");
            assert!(
                !String::from_utf8_lossy(&said.body).contains(&format!("\"{other}\"")),
                "{path}: {said:?}"
            );
        }
        assert_eq!(stage.ask_as(token, "GET", "/v1/issues", b"").json()[0]["tenant"], own);
    }
    let issues = list(&stage.operator_get("/v1/issues").json());
    let of = |tenant: &str| {
        let issue = issues.iter().find(|issue| issue["tenant"] == tenant).expect("an issue");
        format!("/v1/issues/{}", text(issue, "issue"))
    };
    let body = br#"{ "state": "resolved" }"#;
    assert_eq!(stage.ask_as(&admin, "POST", &of("acme"), body).status, 404);
    assert_eq!(stage.ask_as(&viewer, "POST", &of("acme"), body).status, 403);
    assert_eq!(stage.ask_as(&viewer, "GET", &of("globex"), b"").status, 404);
    assert_eq!(
        stage.ask_as(&admin, "POST", &of("globex"), body).json()["state"],
        "resolved"
    );
}
