//! O7: what became of events as OpenTelemetry traces, derived from the ledger.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{plain, signer};
use tollgate_tests::json::{list, text};
use tollgate_tests::python::Server;
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, tollgate_with};

/// The spans of an export, of all of its lines.
fn spans_of(text: &str) -> Vec<Value> {
    let requests = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
    let scopes = requests.flat_map(|request| list(&request["resourceSpans"][0]["scopeSpans"]));
    scopes.flat_map(|scope| list(&scope["spans"])).collect()
}

fn attribute<'s>(span: &'s Value, key: &str) -> Option<&'s Value> {
    let attributes = span["attributes"].as_array()?;
    let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
    found["value"].as_object()?.values().next()
}

fn export(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    let ran = stage.ask_for_people(&[&["traces", "export", "--since", "1h"], arguments].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    spans_of(&ran.stdout)
}

/// A span's name, and the name of its parent.
fn tree(spans: &[Value]) -> Vec<(String, String)> {
    let names: BTreeMap<_, _> = spans
        .iter()
        .map(|span| (text(span, "spanId"), text(span, "name")))
        .collect();
    let parent = |span: &Value| match span["parentSpanId"].as_str() {
        None => String::new(),
        Some(parent) => names[parent].to_owned(),
    };
    spans
        .iter()
        .map(|span| (text(span, "name").to_owned(), parent(span)))
        .collect()
}

#[test]
fn o7_an_event_is_a_trace_with_its_admission_its_runs_and_its_attempts_below_it() {
    let destination = Destination::start();
    destination.script([Reply::Status(503), Reply::Status(204)]);
    let rest = format!(
        "{CASHBACK_TO_BOOKS}{}[routes.bad]\nplugin = \"panic\"\ntypes = [\"note\"]\n",
        books("books", &destination)
    );
    let stage = Setup::acme(&rest)
        .tenant("globex", SOURCES)
        .plugin("cashback")
        .hostile("panic")
        .start();
    let receipt = stage.redeem(1).receipt();
    stage.quiet();
    let spans = export(&stage, &[]);
    let pair = |name: &str, parent: &str| (name.to_owned(), parent.to_owned());
    let name = format!(
        "event {}",
        attribute(&spans[0], "tollgate.event_type")
            .and_then(Value::as_str)
            .unwrap_or("")
    );
    assert_eq!(
        tree(&spans),
        [
            pair(&name, ""),
            pair("admit", &name),
            pair("run cashback", &name),
            pair("deliver books", "run cashback"),
            pair("deliver books", "run cashback"),
        ]
    );
    // The same ids as in the log and the trace.
    let traced = stage.trace(&receipt);
    let run = &traced["jobs"][0]["runs"][0];
    for span in &spans {
        assert_eq!(format!("rcpt_{}", text(span, "traceId")), receipt);
        assert_eq!(text(span, "spanId").len(), 16);
        assert_eq!(attribute(span, "tollgate.tenant"), Some(&"acme".into()));
        let time = |name: &str| text(span, name).parse::<u128>().expect("nanoseconds");
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{span}");
        assert!(time("endTimeUnixNano") <= spans[0]["endTimeUnixNano"].as_str().unwrap().parse().unwrap());
    }
    assert_eq!(attribute(&spans[0], "tollgate.receipt"), Some(&receipt.as_str().into()));
    assert_eq!(attribute(&spans[2], "tollgate.run"), Some(&run["id"]));
    assert_eq!(attribute(&spans[2], "tollgate.job"), Some(&traced["jobs"][0]["id"]));
    let entry = &run["actions"][0]["deliveries"][0]["id"];
    assert_eq!(attribute(&spans[4], "tollgate.delivery"), Some(entry));
    let errors: Vec<_> = spans.iter().map(|span| span["status"]["message"].clone()).collect();
    assert_eq!(errors[..3], [Value::Null, Value::Null, Value::Null]);
    assert_eq!(errors[3..], ["answered 503".into(), Value::Null]);
    let ids: BTreeSet<_> = spans.iter().map(|span| text(span, "spanId")).collect();
    assert_eq!(ids.len(), spans.len(), "no two spans share an id");

    // What is exported twice is the same, of the running host through its listener as well.
    assert_eq!(export(&stage, &[]), spans);
    let (url, token) = (format!("http://{}", stage.operator), stage.path("operator.token"));
    let token = std::fs::read_to_string(token).expect("the token");
    let variables = [("TOLLGATE_URL", url.as_str()), ("TOLLGATE_TOKEN", token.trim())];
    let asked = tollgate_with(&variables, &["traces", "export", "--since", "1h"], b"");
    assert_eq!(spans_of(&asked.stdout), spans);

    // A run that failed says how, and not what the plugin said of the event.
    stage.post("shop", &signer("shop").sign("", plain("note", "evt_9")));
    stage.quiet();
    let all = export(&stage, &[]);
    let failed: Vec<_> = all.iter().filter(|span| text(span, "name") == "run panic").collect();
    assert!(!failed.is_empty(), "{all:?}");
    assert_eq!(failed[0]["status"]["message"], "trap");

    // Filters.
    let ran = |arguments: &[&str]| {
        let ran = stage.ask_for_people(&[&["traces", "export"], arguments].concat());
        (ran.code, spans_of(&ran.stdout).len())
    };
    assert_eq!(ran(&["--since", "1h", "--tenant", "globex"]), (1, 0));
    assert_eq!(ran(&["--since", "1h", "--until", "30m"]), (1, 0));
    assert_eq!(ran(&["--since", "2090-01-01T00:00:00Z"]), (1, 0));
    assert_eq!(ran(&["--since", "yesterday"]), (2, 0));
    assert_eq!(ran(&["--since", "1h", "--sample", "0"]), (2, 0));
}

#[test]
fn o7_traces_go_to_a_file_or_to_a_collector_and_a_sample_of_them_is_the_same_each_time() {
    let (destination, collector) = (Destination::start(), Destination::start());
    let stage = Setup::to_books(&destination).start();
    // More than are asked for at once.
    for number in 1..=60 {
        assert_eq!(stage.redeem(number).status, 202);
    }
    stage.quiet();
    let all = export(&stage, &[]);
    let traces =
        |spans: &[Value]| -> BTreeSet<String> { spans.iter().map(|span| text(span, "traceId").to_owned()).collect() };
    assert_eq!(traces(&all).len(), 60);
    let some = export(&stage, &["--sample", "3"]);
    assert!((5..40).contains(&traces(&some).len()), "{}", traces(&some).len());
    assert_eq!(export(&stage, &["--sample", "3"]), some);
    assert!(some.iter().all(|span| all.contains(span)), "whole traces");

    let file = stage.path("traces.jsonl").display().to_string();
    let ran = stage.ask(&["traces", "export", "--since", "1h", "--output", &file]);
    assert_eq!((ran.code, ran.json()["traces"].as_u64()), (0, Some(60)));
    assert_eq!(spans_of(&std::fs::read_to_string(&file).expect("the file")), all);

    let url = format!("{}/v1/traces", collector.url().trim_end_matches('/'));
    let post = ["traces", "export", "--since", "1h", "--post", &url];
    let config = stage.config().display().to_string();
    let headers = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")];
    let ran = tollgate_with(&headers, &[&post[..], &["--config", &config]].concat(), b"");
    assert_eq!(ran.code, 0, "{ran:?}");
    let arrivals = collector.take_arrivals();
    assert!(arrivals.len() > 1, "in several requests");
    let mut sent = Vec::new();
    for arrival in &arrivals {
        assert!(arrival.path.ends_with("/v1/traces"), "{}", arrival.path);
        assert_eq!(arrival.header("content-type"), "application/json");
        assert_eq!(arrival.header("authorization"), "Bearer abc");
        sent.extend(spans_of(&String::from_utf8_lossy(&arrival.body)));
    }
    assert_eq!(sent, all);
    collector.otherwise(Reply::Status(503));
    let ran = stage.ask_for_people(&post);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.stderr.contains("answered 503"), "{ran:?}");
}

/// A collector of somebody else's takes what is posted and hands it on as protobuf: each span finds its parent there, of a host that runs and of
/// the store of one that has ended; and what a destination was told to be the child of is the attempt.
#[test]
fn o7_a_real_collector_gets_an_events_trace_with_parent_and_child_right() {
    let Some(collector) = Server::start("otlp.py", &json!({})) else {
        return;
    };
    let destination = Destination::start();
    destination.script([Reply::Status(503), Reply::Status(204)]);
    let mut stage = Setup::to_books(&destination).start();
    let receipt = stage.redeem(1).receipt();
    stage.quiet();
    let url = format!("http://127.0.0.1:{}/v1/traces", collector.port);
    let export = ["traces", "export", "--since", "1h", "--post", &url];
    let ran = stage.ask(&export);
    assert_eq!((ran.code, ran.json()["spans"].as_u64()), (0, Some(5)), "{ran:?}");
    let live = collector.wait_for(5);
    let parent_of = |span: &Value| {
        live.iter()
            .find(|other| other["span"] == span["parent"])
            .map(|found| text(found, "name"))
    };
    let tree: Vec<_> = live.iter().map(|span| (text(span, "name"), parent_of(span))).collect();
    let event = text(&live[0], "name");
    assert!(event.starts_with("event "), "{live:#?}");
    assert_eq!(
        tree,
        [
            (event, None),
            ("admit", Some(event)),
            ("run cashback", Some(event)),
            ("deliver books", Some("run cashback")),
            ("deliver books", Some("run cashback")),
        ]
    );
    assert_eq!(text(&live[0], "parent"), "", "an event has no parent");
    for span in &live {
        assert_eq!(
            (text(span, "service"), format!("rcpt_{}", text(span, "trace"))),
            ("tollgate", receipt.clone())
        );
        let within = |key: &str| (live[0]["start"].as_u64(), span[key].as_u64(), live[0]["end"].as_u64());
        for key in ["start", "end"] {
            let (from, at, to) = within(key);
            assert!(from <= at && at <= to, "{key}: {span}");
        }
    }
    assert_eq!(
        (&live[3]["error"], &live[4]["error"]),
        (&json!("answered 503"), &Value::Null)
    );
    assert_eq!(live[4]["attributes"]["http.response.status_code"], 204);
    assert_eq!(
        (&live[0]["kind"], &live[4]["kind"]),
        (&json!(2), &json!(3)),
        "server and client"
    );
    let told: Vec<_> = destination
        .arrivals()
        .iter()
        .map(|arrival| arrival.header("traceparent").to_owned())
        .collect();
    let exported: Vec<_> = live[3..]
        .iter()
        .map(|span| format!("00-{}-{}-01", text(span, "trace"), text(span, "span")))
        .collect();
    assert_eq!(told, exported, "what a destination does below an attempt finds it");

    // The past, of a host that is gone.
    stage.stop();
    assert_eq!(stage.ask(&export).json()["traces"], 1);
    assert_eq!(collector.wait_for(10)[5..], live, "what is exported twice is the same");
}
