//! W6: what a route may record in a day, not only in an action. What is beyond waits for a person.

use serde_json::{Value, json};
use tollgate_tests::destination::Destination;
use tollgate_tests::events::{redeemed_by, signer};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{CASHBACK, CASHBACK_TO_BOOKS, Setup, Stage, books};

/// A route's text whose grant has these budgets.
fn with_budgets(route: &str, budgets: &str) -> String {
    let granted = route.replace(
        "currencies = [\"INR\"] }",
        &format!("currencies = [\"INR\"], budgets = [{budgets}] }}"),
    );
    assert_ne!(granted, route);
    granted
}

/// Redeems the `number`th reward for a customer, who is credited 0.50 INR. Returns the receipt with all that became of it.
fn redeem(stage: &Stage, number: u32, customer: &str) -> Value {
    let body = redeemed_by(&format!("evt_{number}"), &format!("red_{number}"), "success", customer);
    let answer = stage.post("shop", &signer("shop").sign("", body));
    assert_eq!(
        answer.verdict(),
        (202, "accepted".to_owned()),
        "a budget is none of the sender's business"
    );
    stage.finished(&answer.receipt())
}

fn state(trace: &Value) -> &Value {
    &trace["jobs"][0]["state"]
}

/// What `tollgate budgets` says is spent and left, of the budget at `at` by account.
fn spent(stage: &Stage, at: usize) -> Value {
    let budgets = stage.ask(&["budgets", "--tenant", "acme"]).json();
    budgets[at]["spent"].clone()
}

#[test]
fn w6_a_budget_holds_what_is_beyond_it_until_a_person_lets_it_go() {
    let destination = Destination::start();
    let route = with_budgets(CASHBACK_TO_BOOKS, "{ window = \"month\", amount_max = 120 }");
    let stage = Setup::acme(&format!("{route}{}", books("books", &destination)))
        .plugin("cashback")
        .start();
    let people = stage.ask_for_people(&["budgets"]);
    says(
        &people.stdout,
        &[
            "acme/cashback",
            "credit: 1.20 INR a month",
            "0.00 INR spent",
            "1.20 INR left",
        ],
    );
    for number in 1..=2 {
        assert_eq!(state(&redeem(&stage, number, "ann")), "done");
    }
    let held = redeem(&stage, 3, "ann");
    let job = &held["jobs"][0];
    assert_eq!(state(&held), "held");
    says(
        text(job, "reason"),
        &[
            "over the budget of 1.20 INR a month for `credit`: 1.00 INR spent, 0.50 INR more asked for; the month ends at 20",
        ],
    );
    holds(&job["runs"][0], &json!({ "outcome": "over-budget", "actions": [] }));
    stage.quiet();
    assert_eq!(destination.arrivals().len(), 2, "nothing of it leaves");
    let part = |spent: u64, left: u64| json!([{ "account": null, "spent": spent, "left": left }]);
    assert_eq!(spent(&stage, 0), part(100, 20));

    // It is listed, counted, and said in the log.
    let listed = stage.ask(&["review", "--kind", "held-job", "--reason", "over the budget"]);
    assert_eq!(list(&listed.json()).len(), 1);
    let people = stage.ask_for_people(&["review"]);
    let id = text(&listed.json()[0], "id").to_owned();
    let how = format!("tollgate review {id} --run --beyond-budget --why TEXT");
    says(&people.stdout, &[&how]);
    assert_eq!(
        stage.metric("tollgate_jobs_held_total{tenant=\"acme\",route=\"cashback\"}"),
        1
    );
    assert!(!stage.log_with("over the budget of 1.20 INR a month").is_empty());

    // Run again while nothing has changed, it is held again.
    stage.ask(&["review", &id, "--run"]).ok();
    let again = stage.finished("evt_3");
    assert_eq!(
        (state(&again), list(&again["jobs"][0]["runs"]).len()),
        (&json!("held"), 2)
    );
    // So is all that is replayed at once: only who says so goes beyond a budget.
    stage.ask(&["replay", "--held", "--all"]).ok();
    assert_eq!(state(&stage.finished("evt_3")), "held");

    // A person lets it go, with a reason. A dry run first.
    stage
        .ask(&["review", &id, "--run", "--beyond-budget"])
        .fails(2, "--why");
    let dry = stage.ask(&[
        "review",
        &id,
        "--run",
        "--beyond-budget",
        "--why",
        "promised",
        "--dry-run",
    ]);
    assert_eq!(dry.json()["became"], "run_beyond_budget");
    assert_eq!(state(&stage.trace("evt_3")), "held");
    stage
        .ask(&["review", &id, "--run", "--beyond-budget", "--why", "promised by phone"])
        .ok();
    let gone = stage.finished("evt_3");
    assert_eq!(state(&gone), "done");
    says(
        &gone["history"].to_string(),
        &["run again beyond its budgets by tester: promised by phone"],
    );
    destination.wait_for(3);
    assert_eq!(spent(&stage, 0), part(150, 0), "it is counted like all others");
    says(
        &stage.ask_for_people(&["budgets"]).stdout,
        &["1.50 INR spent", "0.00 INR left"],
    );

    // What repeats takes nothing, though nothing is left; what is refused is refused.
    stage.ask(&["replay", text(&gone["receipt"], "id")]).ok();
    let repeated = stage.finished("evt_3");
    assert_eq!(state(&repeated), "done", "{repeated:#}");
    let fourth = redeem(&stage, 4, "bob");
    let id = text(&fourth["jobs"][0], "id").to_owned();
    stage.ask(&["review", &id, "--dismiss", "--why", "fraud"]).ok();
    assert_eq!(state(&stage.trace("evt_4")), "dismissed");
    stage.quiet();
    assert_eq!(
        (destination.arrivals().len(), stage.counts()["actions"].clone()),
        (3, json!(3))
    );
    stage.assert_whole();
}

/// The operator gives the route more: what is held fits then, and is run without anybody's word for each.
#[test]
fn w6_a_larger_budget_takes_what_was_held() {
    let mut stage = Setup::acme(&with_budgets(CASHBACK, "{ window = \"month\", amount_max = 50 }"))
        .plugin("cashback")
        .start();
    assert_eq!(state(&redeem(&stage, 1, "ann")), "done");
    assert_eq!(state(&redeem(&stage, 2, "ann")), "held");
    let larger = with_budgets(CASHBACK, "{ window = \"month\", amount_max = 100 }");
    stage.write(
        "tenants/acme.toml",
        &format!("{}{larger}", tollgate_tests::stage::SOURCES),
    );
    stage.reload();
    assert_eq!(spent(&stage, 0), json!([{ "account": null, "spent": 50, "left": 50 }]));
    // A restart forgets nothing of it.
    stage.kill();
    stage.start();
    stage.ask(&["replay", "--held", "--all"]).ok();
    assert_eq!(state(&stage.finished("evt_2")), "done");
    assert_eq!(spent(&stage, 0), json!([{ "account": null, "spent": 100, "left": 0 }]));
}

#[test]
fn w6_each_account_has_a_budget_of_its_own() {
    let budgets =
        "{ window = \"month\", actions_max = 2, per = \"account\" }, { window = \"month\", amount_max = 500 }";
    let stage = Setup::acme(&with_budgets(CASHBACK, budgets)).plugin("cashback").start();
    let customers = ["ann", "bob", "ann", "ann", "bob", "cid"];
    let states: Vec<_> = (1..)
        .zip(customers)
        .map(|(number, customer)| state(&redeem(&stage, number, customer)).clone())
        .collect();
    assert_eq!(states, ["done", "done", "done", "held", "done", "done"]);
    says(
        text(&stage.trace("evt_4")["jobs"][0], "reason"),
        &[
            "over the budget of 2 actions a month per account for `credit`: `ann` has 2 actions spent, 1 action more asked for",
        ],
    );
    let part = |account: &str, spent: u64, left: u64| json!({ "account": account, "spent": spent, "left": left });
    assert_eq!(
        spent(&stage, 0),
        json!([part("ann", 2, 0), part("bob", 2, 0), part("cid", 1, 1)])
    );
    let of_cid = stage.ask(&["budgets", "--account", "cid"]).json();
    assert_eq!(of_cid[0]["spent"], json!([part("cid", 1, 1)]));
    assert_eq!(of_cid[1]["spent"][0]["spent"], 250, "the route's is everybody's");
    says(
        &stage.ask_for_people(&["budgets"]).stdout,
        &["ann: 2 actions spent", "cid: 1 action spent, 1 action left"],
    );

    // Another tenant sees nothing of it, and nobody without a permission for events.
    let (own, others) = (stage.token("viewer", "acme"), stage.token("plugin-author", "acme"));
    assert_eq!(list(&stage.ask_as(&own, "GET", "/v1/budgets", b"").json()).len(), 2);
    assert_eq!(stage.ask_as(&own, "GET", "/v1/budgets?tenant=globex", b"").status, 403);
    assert_eq!(stage.ask_as(&others, "GET", "/v1/budgets", b"").status, 403);
}

/// `tollgate check` says in words what a grant allows.
#[test]
fn w6_check_says_what_a_grant_allows() {
    let budgets = "{ window = \"day\", amount_max = 50000 }, { window = \"day\", actions_max = 3, per = \"account\" }";
    let stage = Setup::acme(&with_budgets(CASHBACK, budgets)).plugin("cashback").set();
    let checked = stage.ask_for_people(&["check"]).ok();
    says(
        &checked.stdout,
        &["may credit: at most 50.00 INR each, 500.00 INR a day, 3 actions a day per account"],
    );
    let path = stage.path("tenants/acme.toml");
    let right = std::fs::read_to_string(&path).expect("the tenant's file");
    std::fs::write(
        &path,
        right.replace("window = \"day\", amount_max", "window = \"week\", amount_max"),
    )
    .expect("it can be written");
    let wrong = stage.ask_for_people(&["check"]);
    assert_eq!(wrong.code, 1);
    says(&wrong.stderr, &["`week` is no window", "tenants/acme.toml:"]);
}

/// A trial says how often the budgets of now would have held what was done without them.
#[test]
fn w6_a_trial_says_how_often_a_budget_would_have_held() {
    let stage = Setup::acme(CASHBACK).plugin("cashback").start();
    for number in 1..=5 {
        assert_eq!(state(&redeem(&stage, number, "ann")), "done");
    }
    // One operation, told of by two events, is spent once.
    let body = redeemed_by("evt_5_again", "red_5", "success", "ann");
    stage.post("shop", &signer("shop").sign("", body));
    stage.quiet();
    let budgeted = with_budgets(CASHBACK, "{ window = \"month\", amount_max = 120 }");
    stage.write(
        "tenants/acme.toml",
        &format!("{}{budgeted}", tollgate_tests::stage::SOURCES),
    );
    let candidate = tollgate_tests::plugins_dir().join("cashback.wasm");
    let asked = ["plugin", "trial", candidate.to_str().expect("a path in UTF-8")];
    let tried = stage.ask(&asked).json();
    holds(
        &tried["routes"][0],
        &json!({ "route": "cashback", "runs": 6, "differing": 0, "over_budget": 4, "over_budget_before": 4 }),
    );
    let people = stage.ask_for_people(&asked);
    says(
        &people.stdout,
        &["acme/cashback would have been held 4 times (before: 4 times)"],
    );
}
