//! Lists by filter, on every backend: the same answer, in pages that stay where they are (promises O10 and P11).

use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::delivery::{AttemptEnd, AttemptRecord, EntryEnd};
use tollgate_core::filter::{Direction, Filter, Listing};
use tollgate_core::limits::LIST_BODY_BYTES_MAX;
use tollgate_core::outbox::OutboxClaim;
use tollgate_core::outcome::JobEnd;
use tollgate_core::time::UnixMillis;
use tollgate_core::undelivered::Sends;
use tollgate_store::{AskedList, Control as _, Intake as _, Item, Outbox as _, Page, Quotas, Store, Views as _};

use crate::support::{
    ACCEPTED, Backend, Sent, SettlementExt as _, at, claim, claim_request, dismiss, name, settle, settlement,
};

/// The instant at which filters are read.
const NOW_MS: i64 = 10_000_000;

fn asked(list: Listing, filter: &str) -> AskedList {
    AskedList {
        list,
        filter: Filter::read(filter, list, at(NOW_MS)).unwrap_or_else(|error| panic!("{filter}: {error}")),
        tenant: None,
        before: None,
        newer: None,
        direction: Direction::NewestFirst,
        rows_max: 100,
        sends: BTreeMap::new(),
    }
}

/// One item, as a word.
fn word(item: &Item) -> String {
    match item {
        Item::Event(row) => row.event.event_id.clone(),
        Item::Job(row) => format!("{}/{} {}", row.event.event_id, row.route, row.status),
        Item::Run(row) => format!("{}/{} {}", row.event.event_id, row.route, row.outcome),
        Item::Action(row) => format!("{} {}", row.operation_key, row.status),
        Item::Delivery(row) => format!("{}>{} {}", row.operation_key, row.destination, row.status),
        Item::Undelivered(row) => format!("{}>{} {}", row.event.event_id, row.destination, row.status),
        Item::Refused(row) => row.place.clone(),
    }
}

fn words(page: &Page<Item>) -> Vec<String> {
    page.items.iter().map(word).collect()
}

/// The number of a place.
fn place(text: Option<&String>) -> Option<i64> {
    text.map(|text| text.split_once('_').unwrap().1.parse().unwrap())
}

async fn listed(store: &impl Store, list: Listing, filter: &str) -> Vec<String> {
    words(&store.list(asked(list, filter)).await.unwrap())
}

fn attempted(claim: &OutboxClaim, ms: i64, code: Option<u16>, entry_end: EntryEnd) -> AttemptRecord {
    let end = match code {
        Some(http_status) => AttemptEnd::Answered {
            http_status,
            retry_after_ms: None,
        },
        None => AttemptEnd::Failed {
            reason: "connection refused".into(),
        },
    };
    AttemptRecord {
        entry: claim.entry,
        epoch: claim.epoch,
        started_at: at(ms),
        duration_us: 1_500,
        end,
        answer: String::new(),
        entry_end,
    }
}

/// Six events of two tenants, each of which came to another end:
/// `done` delivered, `dead` a dead job, `hold` a held job, `lost` delivered to one place and given up at the other, `late` not run yet,
/// `what` a status that nobody knows, and `else` of another tenant, tried once without an answer.
async fn scene(store: &impl Store) {
    let sent = [
        Sent::new("done").of("s 1").at(0),
        Sent::new("dead")
            .of("s 2")
            .body(r#"{"data":{"amount":1500,"tags":["x"]}}"#)
            .at(1_000_000),
        Sent::new("hold").source("payments").at(2_000_000),
        Sent::new("lost").at(3_000_000),
        Sent::new("else")
            .tenant("globex")
            .body(r#"{"data":{"amount":"7.50"}}"#)
            .at(4_000_000),
        Sent::new("what").unmapped().at(5_000_000),
        Sent::new("none").routes(&[]).at(6_000_000),
        Sent::new("late").at(8_000_000),
    ];
    for one in &sent {
        let _ = one.admit(store).await;
        // At the time when the event came, but for the last.
        for job in claim(store, one.at, 10).await {
            if one.id == "late" {
                continue;
            }
            let settling = settlement(&job);
            let settling = match one.id.as_str() {
                "done" => settling.acts("op_done", 1).to("books"),
                "dead" => settling.end(JobEnd::Dead {
                    reason: "trap: Unreachable".into(),
                }),
                "hold" => settling.end(JobEnd::Held { reason: "ask".into() }),
                "lost" => settling.acts("op_lost", 1).to("books").to("mail"),
                _ => settling.acts("op_else", 1).to("books"),
            };
            let _ = settle(store, settling).await;
        }
        let claims = store
            .claim_outbox(claim_request(one.at.plus_ms(10), 10), Quotas::unlimited())
            .await
            .unwrap()
            .claims;
        for claim in claims {
            let (code, outcome) = match (one.id.as_str(), claim.destination.as_str()) {
                ("lost", "mail") => (
                    Some(503),
                    EntryEnd::Dead {
                        reason: "answered 503".into(),
                    },
                ),
                ("else", _) => (
                    None,
                    EntryEnd::RetryAt {
                        at: at(NOW_MS),
                        reason: "connection refused".into(),
                    },
                ),
                _ => (Some(200), EntryEnd::Delivered),
            };
            let record = attempted(&claim, one.at.since(at(0)) + 20, code, outcome);
            let _ = store.record_attempt(record).await.unwrap();
        }
    }
}

pub(crate) async fn o10_a_filter_finds_what_fits_in_every_list(backend: &impl Backend) {
    let store = backend.open();
    scene(&store).await;
    let all = "late none what else lost hold dead done";
    let check = async |list, filter: &str, expect: &str| {
        let found = listed(&store, list, filter).await.join(" ");
        assert_eq!(found, expect, "{list:?} {filter}");
    };
    let rcpt = Sent::new("lost").receipt(&store).to_string();
    for (filter, expect) in [
        ("", all),
        ("tenant:acme", "late none what lost hold dead done"),
        ("-tenant:acme", "else"),
        ("source:payments", "hold"),
        ("type:customer.*", all),
        ("type:order.*", ""),
        ("event:dead,hold", "hold dead"),
        ("event:d*", "dead done"),
        (&format!("receipt:{rcpt}"), "lost"),
        ("receipt:rcpt_nothing", ""),
        ("subject:\"s 2\"", "dead"),
        ("family:reward-redemption lifecycle:EXPLODED", "what"),
        ("disposition:held", "what"),
        ("disposition:superseded", ""),
        ("disposition:accepted,held", all),
        ("since:1h", "late"),
        ("since:7000s", "late none what else lost"),
        ("until:7000s", "hold dead done"),
        ("since:7000s until:1h", "none what else lost"),
        ("status:dead", "lost dead"),
        ("status:held", "what hold"),
        ("status:waiting", "late else"),
        ("status:unrouted", "none"),
        ("status:delivered", "lost done"),
        ("status:done status:delivered", "lost done"),
        ("-status:done -status:unrouted", "late what hold dead"),
        ("status:dead,held tenant:acme -event:lost", "what hold dead"),
        ("route:cashback", "late what else lost hold dead done"),
        ("outcome:completed", "else lost hold dead done"),
        ("plugin:cashback status:dead", "lost dead"),
        ("destination:mail", "lost"),
        ("code:5xx", "lost"),
        ("code:200", "lost done"),
        ("code:none", "else"),
        ("attempts:>0", "late else lost hold dead done"),
        ("kind:flag", "else lost done"),
        ("operation:\"op_lost\"", "lost"),
        ("body.data.amount:>1000", "dead"),
        ("body.data.amount:<10", "else"),
        ("body.data.tags:x", "dead"),
        ("-body.data.amount:*", "late none what lost hold done"),
        ("body.id:late", "late"),
    ] {
        // A held event has no job until somebody decides.
        let expect = if filter == "route:cashback" {
            "late else lost hold dead done"
        } else {
            expect
        };
        check(Listing::Events, filter, expect).await;
    }
    for (filter, expect) in [
        (
            "",
            "late/cashback leased else/cashback done lost/cashback done hold/cashback held dead/cashback dead done/cashback done",
        ),
        ("status:dead", "dead/cashback dead"),
        ("status:waiting", "late/cashback leased"),
        ("status:held,dead", "hold/cashback held dead/cashback dead"),
        ("reason:unreachable", "dead/cashback dead"),
        ("since:1h", "late/cashback leased"),
        ("outcome:completed tenant:globex", "else/cashback done"),
    ] {
        check(Listing::Jobs, filter, expect).await;
    }
    check(
        Listing::Runs,
        "event:lost,done",
        "lost/cashback completed done/cashback completed",
    )
    .await;
    check(Listing::Runs, "plugin:other", "").await;
    check(
        Listing::Actions,
        "",
        "op_else recorded op_lost recorded op_done recorded",
    )
    .await;
    check(Listing::Actions, "destination:mail", "op_lost recorded").await;
    check(Listing::Actions, "operation:\"op_done\"", "op_done recorded").await;
    check(Listing::Actions, "status:conflict", "").await;
    check(Listing::Actions, "subject:\"s 1\"", "op_done recorded").await;
    for (filter, expect) in [
        ("status:dead", "op_lost>mail dead"),
        ("status:waiting", "op_else>books ready"),
        ("status:delivered", "op_lost>books delivered op_done>books delivered"),
        ("code:5xx,none", "op_else>books ready op_lost>mail dead"),
        (
            "destination:books tenant:acme",
            "op_lost>books delivered op_done>books delivered",
        ),
        ("reason:\"503\"", "op_lost>mail dead"),
    ] {
        check(Listing::Deliveries, filter, expect).await;
    }
    let count = store.count(asked(Listing::Events, "status:dead")).await.unwrap();
    assert_eq!((count.count, count.complete, count.next), (2, true, None));
}

pub(crate) async fn o10_what_was_decided_about_a_held_event_is_not_held_any_more(backend: &impl Backend) {
    let store = backend.open();
    let sent = Sent::new("what").unmapped();
    let _ = sent.admit(&store).await;
    assert_eq!(listed(&store, Listing::Events, "status:held").await, ["what"]);
    let _ = store.review(dismiss(&store, &sent, 10)).await.unwrap();
    assert_eq!(
        listed(&store, Listing::Events, "status:held").await,
        Vec::<String>::new()
    );
    assert_eq!(listed(&store, Listing::Events, "disposition:held").await, ["what"]);
}

pub(crate) async fn o10_pages_stay_where_they_are_while_events_come_in(backend: &impl Backend) {
    let store = backend.open();
    let admit = async |from: usize, to: usize| {
        let admissions = (from..to).map(|number| Sent::new(&format!("e{number}")).admission(&store));
        let _ = store.admit(admissions.collect()).await.unwrap();
    };
    admit(0, 30).await;
    for list in [Listing::Events, Listing::Jobs] {
        let mut seen = Vec::new();
        let mut question = asked(list, "route:cashback");
        question.rows_max = 7;
        let first = store.list(question.clone()).await.unwrap();
        let newest = first.newest.clone();
        let mut page = first;
        loop {
            seen.extend(
                page.items
                    .iter()
                    .map(|item| word(item).split('/').next().unwrap().to_owned()),
            );
            let Some(next) = place(page.next.as_ref()) else { break };
            admit(100 + seen.len() * 10, 103 + seen.len() * 10).await;
            question.before = Some(next);
            page = store.list(question.clone()).await.unwrap();
        }
        let all: BTreeSet<_> = seen.iter().collect();
        assert_eq!(all.len(), seen.len(), "{list:?}: nothing twice");
        for number in 0..30 {
            assert!(all.contains(&format!("e{number}")), "{list:?}: e{number}");
        }
        // Whoever follows asks for what came since.
        let mut newer = asked(list, "");
        newer.newer = place(newest.as_ref());
        let came = store.list(newer).await.unwrap();
        assert_eq!(came.items.len() % 3, 0);
        assert!(!came.items.is_empty() && came.next.is_none(), "{list:?}");
        assert!(words(&came).iter().all(|one| !all.contains(one)), "{list:?}");
    }
}

pub(crate) async fn o2_o10_a_list_keeps_to_its_tenant(backend: &impl Backend) {
    let store = backend.open();
    scene(&store).await;
    // An index names them without a look at their tenant.
    let named = ["done", "else", "held"].map(|id| format!("receipt:{}", Sent::new(id).receipt(&store)));
    let named = named.iter().map(String::as_str);
    assert!(
        store.list(asked(Listing::Refused, "")).await.is_err(),
        "what was refused is in no store"
    );
    for list in Listing::ALL.into_iter().filter(|list| list.is_of_events()) {
        for filter in ["", "tenant:acme", "event:done", "tenant:acme,globex"]
            .into_iter()
            .chain(named.clone())
        {
            for (tenant, other) in [("globex", "acme"), ("acme", "globex"), ("nobody", "acme")] {
                let mut question = asked(list, filter);
                question.tenant = Some(name(tenant));
                let page = store.list(question.clone()).await.unwrap();
                let of = format!("{:?}", page.items);
                assert!(!of.contains(other), "{list:?} {filter}: {of}");
                let count = store.count(question).await.unwrap();
                assert_eq!(count.count, page.items.len() as u64, "{list:?} {filter} of {tenant}");
            }
        }
    }
    let mut question = asked(Listing::Events, "");
    question.tenant = Some(name("globex"));
    assert_eq!(words(&store.list(question).await.unwrap()), ["else"]);
}

pub(crate) async fn p11_each_event_has_a_standing_at_each_destination(backend: &impl Backend) {
    let store = backend.open();
    scene(&store).await;
    let routes = |names: &[&str]| names.iter().map(|route| name(route)).collect::<BTreeSet<_>>();
    let sends = Sends {
        to: [
            (name("books"), routes(&["cashback"])),
            (name("mail"), routes(&["notify"])),
        ]
        .into(),
    };
    let check = async |filter: &str, expect: &[&str]| {
        let mut question = asked(Listing::Undelivered, filter);
        question.sends = [(name("acme"), sends.clone())].into();
        let page = store.list(question.clone()).await.unwrap();
        assert_eq!(words(&page), expect, "{filter}");
        assert_eq!(store.count(question).await.unwrap().count, expect.len() as u64);
        page
    };
    let due = check(
        "",
        &[
            "late>books waiting",
            "what>books held",
            "what>mail held",
            "else>books waiting",
            "lost>mail dead",
            "hold>books held",
            "dead>books dead",
        ],
    )
    .await;
    let Item::Undelivered(lost) = &due.items[4] else {
        panic!("{due:?}")
    };
    assert_eq!((lost.reason.as_str(), lost.job), ("answered 503", None));
    assert!(lost.entry.is_some());
    let Item::Undelivered(dead) = &due.items[6] else {
        panic!("{due:?}")
    };
    assert!(
        dead.reason.contains("trap: Unreachable") && dead.job.is_some(),
        "{dead:?}"
    );
    check("status:dead", &["lost>mail dead", "dead>books dead"]).await;
    check("status:delivered", &["lost>books delivered", "done>books delivered"]).await;
    check(
        "status:not-meant",
        &[
            "late>mail not-meant",
            "none>books not-meant",
            "none>mail not-meant",
            "hold>mail not-meant",
            "dead>mail not-meant",
            "done>mail not-meant",
        ],
    )
    .await;
    check("destination:mail -event:what", &["lost>mail dead"]).await;
    check("reason:503", &["lost>mail dead"]).await;
    check("tenant:globex", &["else>books waiting"]).await;
}

/// What another event's run had recorded already reached its destination for this event too.
pub(crate) async fn p11_an_operation_that_another_event_recorded_counts_for_both(backend: &impl Backend) {
    let store = backend.open();
    for (number, id) in ["one", "two"].into_iter().enumerate() {
        let sent = Sent::new(id).at(number as i64 * 100);
        assert_eq!(sent.admit(&store).await, ACCEPTED);
        let claims = claim(&store, at(1_000), 10).await;
        let _ = settle(&store, settlement(&claims[0]).acts("op", 1).to("books")).await;
    }
    assert_eq!(
        listed(&store, Listing::Undelivered, "").await,
        ["two>books waiting", "one>books waiting"]
    );
    let claims = store
        .claim_outbox(claim_request(at(2_000), 10), Quotas::unlimited())
        .await
        .unwrap()
        .claims;
    assert_eq!(claims.len(), 1);
    let _ = store
        .record_attempt(attempted(&claims[0], 2_001, Some(200), EntryEnd::Delivered))
        .await
        .unwrap();
    assert_eq!(listed(&store, Listing::Undelivered, "").await, Vec::<String>::new());
    assert_eq!(
        listed(&store, Listing::Undelivered, "status:delivered").await,
        ["two>books delivered", "one>books delivered"]
    );
}

/// Fits nothing and says how far it looked; and where time says so, it does not look at all.
pub(crate) async fn o10_a_page_looks_no_further_than_it_may(backend: &impl Backend) {
    let store = &backend.open();
    let events = tollgate_core::limits::LIST_LOOKED_AT_MAX + 500;
    let day = 86_400_000;
    for first in (0..events).step_by(500) {
        let admissions = (first..(first + 500).min(events)).map(|number| {
            let mut sent = Sent::new(&format!("e{number}")).routes(&[]).at(number as i64 * 1_000);
            if number.is_multiple_of(100) {
                sent = sent.tenant("globex");
            }
            sent.admission(store)
        });
        let _ = store.admit(admissions.collect()).await.unwrap();
    }
    let read = |filter: &str| {
        let now: UnixMillis = at(events as i64 * 1_000 + day);
        AskedList {
            filter: Filter::read(filter, Listing::Events, now).unwrap(),
            ..asked(Listing::Events, "")
        }
    };
    let mut question = read("source:nothing");
    let page = store.list(question.clone()).await.unwrap();
    assert_eq!(page.looked_at as usize, tollgate_core::limits::LIST_LOOKED_AT_MAX);
    assert_eq!(page.looked_back_to, Some(at(500_000).to_string()));
    question.before = place(page.next.as_ref());
    let rest = store.list(question).await.unwrap();
    assert_eq!((rest.looked_at, rest.next, rest.items.len()), (500, None, 0));
    let count = store.count(read("")).await.unwrap();
    assert_eq!((count.count as usize, count.complete), (events, true));
    // A day later nothing is as young as an hour: only the slack of the clocks is looked at.
    assert_eq!(store.list(read("since:1h")).await.unwrap().looked_at, 0);
    let oldest = store.list(read(&format!("until:{}", at(5_000)))).await.unwrap();
    assert_eq!(words(&oldest), ["e4", "e3", "e2", "e1", "e0"]);
    assert!(oldest.looked_at < 700, "{}", oldest.looked_at);
    let mut question = read("");
    question.tenant = Some(name("globex"));
    let page = store.list(question).await.unwrap();
    assert_eq!((page.items.len(), page.looked_at), (100, 100));
}

/// What a filter asks of bodies is read up to a bound, and the page says where that was and how to go on.
pub(crate) async fn o10_a_page_reads_no_more_of_bodies_than_it_may(backend: &impl Backend) {
    const EACH: usize = 1 << 20;
    let store = backend.open();
    let within = LIST_BODY_BYTES_MAX / EACH;
    let events = within + 4;
    for number in 0..events {
        let filler = "x".repeat(EACH);
        let sent = Sent::new(&format!("e{number}")).routes(&[]).at(number as i64 * 1_000);
        let body = format!(r#"{{"n":{number},"filler":"{filler}"}}"#);
        assert_eq!(sent.body(&body).admit(&store).await, ACCEPTED);
    }
    let mut question = asked(Listing::Events, "body.n:<2");
    let page = store.list(question.clone()).await.unwrap();
    assert_eq!((page.items.len(), page.looked_at as usize), (0, within));
    assert_eq!(page.looked_back_to, Some(at(4_000).to_string()));
    question.before = place(page.next.as_ref());
    assert!(question.before.is_some(), "it says how to go on");
    let rest = store.list(question).await.unwrap();
    assert_eq!(
        (words(&rest), rest.looked_at),
        (vec!["e1".to_owned(), "e0".to_owned()], 4)
    );
    // What needs no body is not read.
    let all = store
        .list(asked(Listing::Events, "type:nothing body.n:<2"))
        .await
        .unwrap();
    assert_eq!((all.looked_at as usize, all.next), (events, None));
}

/// The way up finds what the way down does, in pages too.
pub(crate) async fn o10_a_list_goes_both_ways(backend: &impl Backend) {
    let store = backend.open();
    scene(&store).await;
    for (list, filter, tenant) in [
        (Listing::Events, "", None),
        (Listing::Events, "", Some("acme")),
        (Listing::Events, "disposition:held", None),
        (Listing::Events, "since:90m", None),
        (Listing::Events, "receipt:rcpt_00000000000000000000000000000000", None),
        (Listing::Actions, "", None),
    ] {
        let mut down = asked(list, filter);
        down.tenant = tenant.map(name);
        let mut expect = words(&store.list(down.clone()).await.unwrap());
        expect.reverse();
        let mut up = AskedList {
            direction: Direction::OldestFirst,
            rows_max: 2,
            ..down
        };
        let mut found = Vec::new();
        loop {
            let page = store.list(up.clone()).await.unwrap();
            found.extend(words(&page));
            up.newer = place(page.next.as_ref());
            if up.newer.is_none() {
                break;
            }
        }
        assert_eq!(found, expect, "{list:?} {filter} {tenant:?}");
    }
    let mut beyond = asked(Listing::Events, "");
    beyond.newer = Some(i64::MAX);
    assert!(store.list(beyond).await.unwrap().items.is_empty());
}
