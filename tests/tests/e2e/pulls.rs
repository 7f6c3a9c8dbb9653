//! P9: a destination whose owner fetches what waits there, over HTTP and through the command line, with the same attempts, dead letters and keys.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_tests::events::signer;
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Setup, Stage, tollgate_with, wait_until};

const INSIDE: &str = "\n[destinations.books]\nkind = \"pull\"\norder = \"subject\"\n";

fn stage() -> Setup {
    Setup::acme(&format!("{CASHBACK_TO_BOOKS}{INSIDE}")).plugin("cashback")
}

/// The puller of a tenant.
struct Puller<'s> {
    stage: &'s Stage,
    token: String,
}

impl<'s> Puller<'s> {
    fn of(stage: &'s Stage, tenant: &str) -> Self {
        Self {
            stage,
            token: stage.token("puller", tenant),
        }
    }

    fn pull(&self, query: &str) -> Vec<Value> {
        let answer = self
            .stage
            .ask_as(&self.token, "GET", &format!("/v1/pull/books?{query}"), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        list(&answer.json()["deliveries"])
    }

    fn end(&self, how: &str, body: &Value) -> (u16, Value) {
        let path = format!("/v1/pull/books/{how}");
        let answer = self
            .stage
            .ask_as(&self.token, "POST", &path, body.to_string().as_bytes());
        (answer.status, answer.json())
    }

    fn confirm(&self, lease: &Value) -> (u16, Value) {
        self.end("confirm", &json!({ "leases": [lease] }))
    }
}

fn recorded(stage: &Stage, actions: u64) {
    wait_until("the actions are recorded", || {
        (stage.counts()["actions"] == actions).then_some(())
    });
}

#[test]
fn p9_an_owner_fetches_leases_and_confirms() {
    let mut stage = stage().start();
    let receipt = stage.redeem(1).receipt();
    recorded(&stage, 1);
    let token = stage.token("puller", "acme");
    let lease = {
        let puller = Puller {
            stage: &stage,
            token: token.clone(),
        };
        let pulled = puller.pull("max=5");
        assert_eq!(pulled.len(), 1);
        let one = &pulled[0];
        holds(one, &json!({ "attempt": 1, "lease": "lease_1_1", "delivery": "out_1" }));
        // What a push has, but for a signature, which nobody asked for.
        let headers = &one["headers"];
        assert_eq!(headers["idempotency-key"], "cashback/credit/cashback:red_1");
        assert_eq!(headers["content-type"], "application/json");
        assert!(text(headers, "webhook-id").starts_with("msg_") && text(headers, "traceparent").starts_with("00-"));
        assert!(headers.get("webhook-signature").is_none());
        let body: Value = serde_json::from_str(text(one, "body")).expect("a body of JSON");
        holds(
            &body,
            &json!({ "type": "action.credit", "receipt": receipt, "operation_key": "cashback:red_1" }),
        );
        assert!(puller.pull("").is_empty(), "it is leased");
        one["lease"].clone()
    };
    // The lease is its owner's, and outlives the host.
    stage.kill();
    stage.start();
    let puller = Puller { stage: &stage, token };
    assert!(puller.pull("").is_empty());
    let (status, ended) = puller.confirm(&lease);
    assert_eq!((status, text(&ended["ended"][0], "became")), (200, "delivered"));
    let (status, refused) = puller.confirm(&lease);
    assert_eq!((status, text(&refused, "code")), (409, "lease-over"));
    says(
        text(&refused, "error"),
        &["lease_1_1", "the lease is over", "out_1 was confirmed before"],
    );
    stage.quiet();
    let trace = stage.trace(&receipt);
    let entry = &trace["jobs"][0]["runs"][0]["actions"][0]["deliveries"][0];
    holds(entry, &json!({ "state": "delivered", "destination": "books" }));
    assert_eq!(entry["attempts"][0]["end"], "confirmed");
    says(&stage.ask_for_people(&["trace", &receipt]).stdout, &["confirmed"]);
    stage.assert_whole();
}

#[test]
fn p9_what_is_given_back_comes_again_and_after_the_last_attempt_is_a_dead_letter() {
    let stage = stage().start();
    stage.redeem(1);
    recorded(&stage, 1);
    let puller = Puller::of(&stage, "acme");
    let mut keys = Vec::new();
    for attempt in 1..=4 {
        let pulled = wait_until("it is due again", || puller.pull("wait=5").pop());
        assert_eq!(pulled["attempt"], attempt);
        keys.push((pulled["headers"]["webhook-id"].clone(), pulled["body"].clone()));
        let body = json!({ "leases": [pulled["lease"]], "why": "no room" });
        let (status, ended) = puller.end("give-back", &body);
        let became = if attempt == 4 { "dead" } else { "waiting" };
        assert_eq!((status, text(&ended["ended"][0], "became")), (200, became), "{ended}");
    }
    keys.dedup();
    assert_eq!(keys.len(), 1, "the same message each time");
    let letters = stage.ask(&["dlq", "list"]).json();
    holds(
        &letters[0],
        &json!({ "destination": "books", "attempts": 4, "reason": "its owner gave it back: no room (gave up after 4 attempts)" }),
    );
    // Put back, it is offered again.
    stage.ask(&["replay", "--all"]).ok();
    let pulled = puller.pull("wait=5").pop().expect("a delivery");
    assert_eq!(
        (pulled["attempt"].clone(), pulled["headers"]["webhook-id"].clone()),
        (json!(1), keys[0].0.clone())
    );
    let later = json!({ "leases": [pulled["lease"]], "delay": 3600 });
    assert_eq!(puller.end("give-back", &later).0, 200);
    assert!(puller.pull("wait=1").is_empty(), "its owner said when");
}

#[test]
fn p9_a_pull_waits_for_what_comes_and_no_longer_than_it_says() {
    let stage = stage().start();
    let puller = Puller::of(&stage, "acme");
    let begun = Instant::now();
    assert!(puller.pull("wait=1").is_empty());
    assert!(
        (900..5_000).contains(&begun.elapsed().as_millis()),
        "{:?}",
        begun.elapsed()
    );
    let begun = Instant::now();
    let found = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| puller.pull("wait=20"));
        std::thread::sleep(Duration::from_millis(300));
        stage.redeem(1);
        waiting.join().expect("an answer")
    });
    assert_eq!(found.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn p9_who_may_pull_is_the_tenants_affair_and_a_lease_runs_out() {
    let tenant = format!("{}{CASHBACK_TO_BOOKS}{INSIDE}", tollgate_tests::stage::SOURCES);
    let stage = stage().tenant("globex", &tenant).start();
    stage.redeem(1);
    recorded(&stage, 1);
    let (ours, theirs) = (Puller::of(&stage, "acme"), Puller::of(&stage, "globex"));
    assert!(theirs.pull("").is_empty());
    let asked = |token: &str, path: &str| stage.ask_as(token, "GET", path, b"").status;
    assert_eq!(asked(&theirs.token, "/v1/pull/books?tenant=acme"), 403);
    assert_eq!(asked(&stage.token("viewer", "acme"), "/v1/pull/books"), 403);
    assert_eq!(asked(&ours.token, "/v1/trace"), 403, "a puller sees nothing else");
    assert_eq!(asked(&ours.token, "/v1/pull/nowhere"), 404);
    assert_eq!(asked(&ours.token, "/v1/pull/books?max=1000"), 400);
    let operator = stage.operator_get("/v1/pull/books");
    assert_eq!(operator.status, 400, "whose?");
    let pulled = ours.pull("lease=5").pop().expect("a delivery");
    assert_eq!(theirs.confirm(&pulled["lease"]).0, 409, "it does not exist for them");
    let again = wait_until("the lease runs out", || ours.pull("wait=10").pop());
    assert_eq!(again["attempt"], 2);
    let (status, refused) = ours.confirm(&pulled["lease"]);
    assert_eq!(status, 409);
    says(
        text(&refused, "error"),
        &["it ran out, and out_1 was fetched again since"],
    );
    assert_eq!(ours.confirm(&again["lease"]).0, 200);
    let trace = stage.trace("cashback:red_1");
    let attempts = list(&trace["jobs"][0]["runs"][0]["actions"][0]["deliveries"][0]["attempts"]);
    let ends: Vec<_> = attempts.iter().map(|attempt| text(attempt, "end")).collect();
    assert_eq!(ends, ["failed", "confirmed"]);
}

#[test]
fn p9_the_command_line_pulls_confirms_what_a_command_accepts_and_gives_the_rest_back() {
    let stage = stage().start();
    for number in 1..=3_u64 {
        stage.redeem(number);
        recorded(&stage, number);
    }
    let pull = |arguments: &[&str]| stage.ask_for_people(&[&["pull", "books", "--tenant", "acme"], arguments].concat());
    // Without a word: they stay leased for as long as asked.
    let looked = pull(&["--max", "1", "--no-confirm"]);
    let line: Value = serde_json::from_str(looked.stdout.trim()).expect("a line of JSON");
    assert_eq!((looked.code, text(&line, "delivery")), (0, "out_1"));
    let done = pull(&[
        "--exec",
        "grep -q red_2 && test -n \"$TOLLGATE_HEADER_IDEMPOTENCY_KEY\"",
    ]);
    assert_eq!((done.code, done.stdout.lines().count()), (1, 2), "{done:?}");
    says(&done.stderr, &["given back: the command ended with exit status: 1"]);
    assert_eq!(stage.counts()["delivered"], 1, "{done:?}");
    // By its address and a token of the tenant, as somebody elsewhere does.
    let (url, token) = (format!("http://{}", stage.operator), stage.token("puller", "acme"));
    let variables = [("TOLLGATE_URL", url.as_str()), ("TOLLGATE_TOKEN", token.as_str())];
    let rest = tollgate_with(&variables, &["pull", "books", "--wait", "10"], b"");
    assert_eq!((rest.code, rest.stdout.lines().count()), (0, 1), "{rest:?}");
    assert_eq!(stage.counts()["delivered"], 2);
    let nothing = pull(&[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (1, ""));
    let pushed = stage.ask_for_people(&["pull", "nowhere", "--tenant", "acme"]);
    says(&pushed.stderr, &["there is no destination `nowhere` of `acme`"]);
}

#[test]
fn p9_a_pulled_destination_may_sign_and_hands_on_events() {
    let inside = "\n[destinations.books]\nkind = \"pull\"\nsecrets = [{ file = \"../secrets/destination\" }]\n\
                  [routes.all]\ntypes = [\"step\"]\nforward = \"body\"\ndestinations = [\"books\"]\n";
    let stage = Setup::acme(inside).start();
    let body = json!({ "event": "step", "event_id": "s1", "order_id": "a", "text": "über" }).to_string();
    assert_eq!(stage.post("shop", &signer("shop").sign("s1", body.clone())).status, 202);
    let puller = Puller::of(&stage, "acme");
    let pulled = wait_until("it comes", || puller.pull("wait=5").pop());
    assert_eq!(text(&pulled, "body"), body, "byte for byte");
    assert!(text(&pulled["headers"], "webhook-signature").starts_with("v1,"));
    assert_eq!(puller.confirm(&pulled["lease"]).0, 200);
    stage.quiet();
    stage.assert_whole();
}
