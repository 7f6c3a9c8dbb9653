//! Hosts as people see them: who is there, and who is to claim nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate_core::delivery::EntryEnd;
use tollgate_core::ids::HostName;
use tollgate_store::{
    Changes as _, Control as _, Drain, HostIdentity, HostState, HostView, Intake as _, Outbox as _, PostgresStore,
    Quotas, Settled, Store as _, StoreError, Topic, Views as _, Work as _,
};

use crate::postgres::{execute, secret};
use crate::server::Postgres;
use crate::support::{
    ACCEPTED, SOON, Sent, SettlementExt as _, T0, at, claim, claim_one, claim_outbox_one, claim_request, eventually,
    settle, settlement,
};

fn name(name: &str) -> HostName {
    name.parse().unwrap()
}

fn host(server: &Postgres, called: &str, process: u32) -> PostgresStore {
    let identity = HostIdentity {
        name: name(called),
        // As the tests' claims name who makes them.
        process: format!("worker-{process}"),
        version: "1.2.3".to_owned(),
    };
    PostgresStore::open_as(&secret(server), identity, |_, _| {}).unwrap()
}

fn by_ann(why: &str) -> Option<Drain> {
    Some(Drain {
        at: T0,
        by: "ann".to_owned(),
        why: why.to_owned(),
    })
}

async fn listed(store: &PostgresStore) -> Vec<(String, HostState)> {
    let hosts = store.hosts().await.unwrap();
    hosts.iter().map(|host| (host.name.to_string(), host.state)).collect()
}

async fn one(store: &PostgresStore, called: &str) -> HostView {
    let hosts = store.hosts().await.unwrap();
    hosts.into_iter().find(|host| host.name.as_str() == called).unwrap()
}

/// Waits until the host knows whether it is drained.
async fn knows(store: &PostgresStore, is_drained: bool) {
    eventually("it hears of it", async || {
        (store.drain().is_some() == is_drained).then_some(())
    })
    .await;
}

/// Waits until the host has looked at what the others say. Only then it says for how long it had not.
async fn has_looked(store: &PostgresStore, called: &str) {
    eventually("it looks", async || {
        (one(store, called).await.lag_ms != Some(0)).then_some(())
    })
    .await;
}

/// Waits until the host has tried to look twice, where it cannot: the second time it had begun later than this.
async fn cannot_look(store: &PostgresStore) {
    // What it cannot look at may have changed.
    let mut changes = store.subscribe(Topic::Tokens);
    changes.mark_unchanged();
    for _ in 0..2 {
        let changed = tokio::time::timeout(SOON, changes.changed()).await;
        changed.expect("it tries").expect("it runs");
    }
}

fn is_not_found<T: std::fmt::Debug>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::NotFound { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_hosts_are_listed_with_what_they_say_of_themselves() {
    let Some(server) = Postgres::if_there() else { return };
    let (a, b) = (host(&server, "a", 1), host(&server, "b", 2));
    // A command that opens the store to write something is no host.
    let command = PostgresStore::open(&secret(&server)).unwrap();
    assert_eq!(
        listed(&command).await,
        [("a".into(), HostState::Running), ("b".into(), HostState::Running)]
    );
    a.set_configuration("c0ffee");
    let said = eventually("its configuration is said", async || {
        Some(one(&b, "a").await).filter(|said| said.configuration == "c0ffee")
    })
    .await;
    assert_eq!(
        (said.version.as_str(), said.jobs, said.deliveries),
        ("1.2.3", Some(0), Some(0))
    );
    assert!(
        said.seen_ms < 10_000 && said.lag_ms.is_some_and(|ms| (1..10_000).contains(&ms)),
        "{said:?}"
    );
    // What it holds is said by its process.
    assert_eq!(Sent::new("e1").admit(&a).await, ACCEPTED);
    let held = claim_one(&a, at(0)).await;
    assert_eq!((one(&b, "a").await.jobs, one(&b, "b").await.jobs), (Some(1), Some(0)));
    assert!(matches!(settle(&a, settlement(&held)).await, Settled::Committed { .. }));
    a.close().await;
    assert_eq!(
        listed(&b).await,
        [("a".into(), HostState::Stopped), ("b".into(), HostState::Running)]
    );
    // The next process of its name takes its place.
    let again = host(&server, "a", 3);
    assert_eq!(
        listed(&b).await,
        [("a".into(), HostState::Running), ("b".into(), HostState::Running)]
    );
    assert_eq!(one(&b, "a").await.process, "worker-3");
    // One that says nothing any more is gone, and after a week nobody asks.
    execute(&server, "INSERT INTO tollgate.heartbeats (host, name, process, version, seen_at) VALUES \
                      (77, 'c', 'c/1', '1', now() - interval '11 seconds'), (78, 'd', 'd/1', '1', now() - interval '8 days')").await;
    assert_eq!(listed(&again).await[2..], [("c".into(), HostState::Gone)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_drained_host_claims_nothing_more_and_finishes_what_it_has() {
    let Some(server) = Postgres::if_there() else { return };
    let (a, b) = (host(&server, "a", 1), host(&server, "b", 2));
    for event in ["e1", "e2", "e3"] {
        assert_eq!(Sent::new(event).of(event).admit(&a).await, ACCEPTED);
    }
    let mut claims = claim(&a, at(0), 2).await;
    let (first, held) = (claims.remove(0), claims.remove(0));
    assert!(matches!(
        settle(&a, settlement(&first).acts("op1", 1).to("shop")).await,
        Settled::Committed { .. }
    ));
    let entry = claim_outbox_one(&a, at(10)).await;

    let would = b.drain_host(name("a"), by_ann("a new kernel"), true).await.unwrap();
    assert!(would.changed && would.drain == by_ann("a new kernel") && one(&b, "a").await.drain.is_none());
    let report = b.drain_host(name("a"), by_ann("a new kernel"), false).await.unwrap();
    assert_eq!((report.changed, report.drain), (true, by_ann("a new kernel")));
    // The first word holds.
    let report = a.drain_host(name("a"), by_ann("again"), false).await.unwrap();
    assert_eq!((report.changed, report.drain), (false, by_ann("a new kernel")));
    knows(&a, true).await;
    assert!(b.drain().is_none());
    let said = one(&b, "a").await;
    assert_eq!(
        (said.drain.clone(), said.jobs, said.deliveries),
        (by_ann("a new kernel"), Some(1), Some(1))
    );
    assert!(!said.is_drained());
    assert!(claim(&a, at(2), 10).await.is_empty());
    let attempt = crate::suite::attempt(&entry, 20, EntryEnd::Delivered);
    let _ = a.record_attempt(attempt).await.unwrap();
    assert!(a.extend_lease(held.job, held.epoch, at(60_000)).await.unwrap());
    assert!(matches!(
        settle(&a, settlement(&held).acts("op2", 1).to("shop")).await,
        Settled::Committed { .. }
    ));
    let claims = a
        .claim_outbox(claim_request(at(30), 10), Quotas::unlimited())
        .await
        .unwrap();
    assert!(claims.claims.is_empty());
    assert!(one(&b, "a").await.is_drained());
    // The others take the rest, and what it takes in.
    assert_eq!(Sent::new("e4").of("e4").admit(&a).await, ACCEPTED);
    assert_eq!(claim(&b, at(30), 10).await.len(), 2);
    let entry = claim_outbox_one(&b, at(30)).await;
    assert_eq!(entry.epoch.0, 1);

    // It holds over a restart, from the first claim on.
    a.close().await;
    let a = host(&server, "a", 3);
    assert_eq!(a.drain(), by_ann("a new kernel"));
    assert_eq!(Sent::new("e5").of("e5").admit(&a).await, ACCEPTED);
    assert!(claim(&a, at(40), 10).await.is_empty());

    let report = b.drain_host(name("a"), None, false).await.unwrap();
    assert_eq!((report.changed, report.drain), (true, None));
    assert!(!b.drain_host(name("a"), None, false).await.unwrap().changed);
    knows(&a, false).await;
    assert_eq!(claim(&a, at(50), 10).await.len(), 1);
    assert!(is_not_found(&b.drain_host(name("z"), by_ann(""), false).await));
    assert_eq!(server_problems(&server, &b), [] as [String; 0]);
}

fn server_problems(server: &Postgres, store: &PostgresStore) -> Vec<String> {
    use crate::support::Backend as _;
    server.problems(store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_whoever_waits_to_claim_on_a_drained_host_is_let_in_when_it_may_again() {
    let Some(server) = Postgres::if_there() else { return };
    let (a, b) = (host(&server, "a", 1), host(&server, "b", 2));
    let drained = a.drain_host(name("a"), by_ann(""), false).await.unwrap();
    assert!(drained.changed);
    knows(&a, true).await;
    assert_eq!(Sent::new("e1").admit(&b).await, ACCEPTED);
    // It is kept waiting, so that it does not ask again and again.
    let begun = Instant::now();
    assert!(claim(&a, at(0), 1).await.is_empty());
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    let waiting = tokio::spawn(async move { claim(&a, at(0), 1).await.len() });
    let freed = b.drain_host(name("a"), None, false).await.unwrap();
    assert!(freed.changed);
    assert_eq!(waiting.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_processes_of_long_ago_are_forgotten_and_what_they_counted_is_not() {
    let Some(server) = Postgres::if_there() else { return };
    let a = host(&server, "a", 1);
    let sums = "SELECT sum(jobs)::bigint, sum(tokens)::bigint, count(*), min(id) FROM tollgate.hosts";
    execute(
        &server,
        "INSERT INTO tollgate.hosts (id, jobs, tokens, seen_at) SELECT n, n, 1, now() - interval '8 days' \
                      FROM generate_series(50, 59) n",
    )
    .await;
    execute(
        &server,
        "INSERT INTO tollgate.heartbeats (host, name, process, version, seen_at) \
                      VALUES (50, 'old', 'old/1', '1', now() - interval '8 days'), (51, 'idle', 'idle/1', '1', now())",
    )
    .await;
    let (client, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    drop(tokio::spawn(connection));
    let ask = async || {
        let row = client.query_one(sums, &[]).await.unwrap();
        (
            row.get::<_, i64>(0),
            row.get::<_, i64>(1),
            row.get::<_, i64>(2),
            row.get::<_, i64>(3),
        )
    };
    let (jobs, tokens, count, _) = ask().await;
    let b = host(&server, "b", 2);
    let (jobs_now, tokens_now, count_now, least) = ask().await;
    assert_eq!((jobs_now, tokens_now, least), (jobs, tokens, 0));
    // Kept are 51, which has just said that it is there, and the two hosts. There is a row of nobody now.
    assert_eq!(count_now, count - 9 + 2);
    let names: Vec<_> = listed(&a).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "idle"]);
    // What is forgotten later is counted with it.
    execute(
        &server,
        "INSERT INTO tollgate.hosts (id, jobs, tokens, seen_at) VALUES (52, 1000, 1, now() - interval '8 days')",
    )
    .await;
    let c = host(&server, "c", 3);
    let (jobs_later, tokens_later, ..) = ask().await;
    assert_eq!((jobs_later, tokens_later), (jobs_now + 1000, tokens_now + 1));
    drop((b, c));
}

/// Whoever else has the store is waited for once by all that wait together, and not once by each of them; and what was refused then is new later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_group_waits_once_for_whoever_has_the_store() {
    let Some(server) = Postgres::if_there() else { return };
    let store = Arc::new(host(&server, "a", 1));
    let (other, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    drop(tokio::spawn(connection));
    let has_it = "BEGIN; SELECT seq FROM tollgate.chain_heads WHERE chain = 0 FOR UPDATE";
    other.batch_execute(has_it).await.unwrap();
    let events: Vec<_> = (0..8).map(|number| Sent::new(&format!("evt_{number}"))).collect();
    let begun = Instant::now();
    let waiting: Vec<_> = events
        .iter()
        .map(|sent| {
            let (store, admission) = (Arc::clone(&store), sent.admission(&*store));
            tokio::spawn(async move { store.admit(vec![admission]).await })
        })
        .collect();
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert!(matches!(answer, Err(StoreError::Busy)), "{answer:?}");
    }
    // Five seconds for the first, which may have been alone, and five for all others; forty, if each waited by itself.
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    other.batch_execute("ROLLBACK").await.unwrap();
    for sent in events {
        assert_eq!(sent.admit(&*store).await, ACCEPTED);
    }
}

/// What a host let in, the others hear of once; and a crash of the server, after which the counts begin anew, makes nobody hear of all that ever was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_i7_what_hosts_tell_each_other_of_rates_outlives_a_crash_of_the_server() {
    let Some(mut server) = Postgres::if_there() else {
        return;
    };
    let (a, b) = (host(&server, "a", 1), host(&server, "b", 2));
    let lets_in = |requests| drop(a.exchange_rates(vec![("acme".parse().unwrap(), requests)]));
    let hears = async |expected: u64| {
        let (begun, mut heard) = (Instant::now(), 0);
        // A while longer than it takes, for what must not come.
        while heard < expected && begun.elapsed() < Duration::from_secs(10) || begun.elapsed() < Duration::from_secs(1)
        {
            heard += b.exchange_rates(Vec::new()).iter().map(|(_, taken)| taken).sum::<u64>();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(heard, expected);
    };
    // Before they have looked, they take what is there for what was before them.
    has_looked(&b, "a").await;
    has_looked(&a, "b").await;
    lets_in(100_000);
    hears(100_000).await;
    server.kill();
    server.start_again();
    // The table is there again, and empty, and both have seen that.
    hears(0).await;
    lets_in(3);
    hears(3).await;
    // What is said while there is no server is said later.
    server.kill();
    lets_in(4);
    cannot_look(&a).await;
    server.start_again();
    hears(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_store_that_one_host_has_alone_knows_no_others() {
    use crate::support::Backend as _;
    let place = crate::sqlite::Sqlite::new();
    let store = place.open();
    assert_eq!(store.hosts().await.unwrap(), []);
    assert!(is_not_found(&store.drain_host(name("a"), by_ann(""), false).await));
}
