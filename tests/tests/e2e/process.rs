//! The process and its listeners: addresses, plugins that are still compiled, logs that nobody reads, connections that stay, and
//! what the log and the metrics say once.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use tollgate_tests::client::{Answer, Client, request};
use tollgate_tests::destination::{Destination, Reply};
use tollgate_tests::events::{Message, any_event, redeemed, signer};
use tollgate_tests::json::{holds, says};
use tollgate_tests::stage::{
    CASHBACK, CASHBACK_TO_BOOKS, SOURCES, Setup, Stage, books, free_port, tollgate_with, wait_until,
};
use tollgate_tests::{disk_library, plugins_dir};

fn event(id: &str) -> Message {
    signer("shop").sign("", any_event("shop", id))
}

/// 10 % cashback for this customer's redemption.
fn redemption(id: &str) -> Message {
    signer("shop").sign("", redeemed(id, &format!("red_{id}"), "success"))
}

#[track_caller]
fn ask(to: SocketAddr, method: &str, path: &str) -> Answer {
    let mut client = Client::connect(to).expect("a connection");
    client.send(&request(method, path, &[], b"")).expect("a request");
    client.answer().expect("an answer")
}

/// The lines of the log that hold `text`, as objects.
fn lines(stage: &Stage, text: &str) -> Vec<Value> {
    let found = stage.log_with(text).into_iter();
    found
        .map(|line| serde_json::from_str(&line).expect("a JSON line"))
        .collect()
}

#[test]
fn an_address_in_use_is_refused_whoever_has_it_and_a_restart_has_it_at_once() {
    let mut first = Setup::acme("").start();
    let address = first.edge;
    for listen in [address, SocketAddr::from(([0, 0, 0, 0], address.port()))] {
        let mut second = Setup::acme("").listen(listen).set();
        let said = second.try_start().expect_err("a second host at the same address");
        says(&said, &["cannot listen on", "is the port taken?"]);
    }
    for number in 0..20 {
        assert_eq!(first.post("shop", &event(&format!("evt_{number}"))).status, 202);
    }
    assert_eq!(first.counts()["receipts"], 20, "none went to anybody else");
    first.kill();

    // Somebody else's listener, alone or ready to share.
    for shares in [false, true] {
        let theirs = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        theirs.set_reuse_address(true).expect("an option");
        theirs.set_reuse_port(shares).expect("an option");
        theirs
            .bind(&address.into())
            .expect("the address is free after a host was killed");
        theirs.listen(8).expect("a listener");
        let said = Setup::acme("")
            .listen(address)
            .set()
            .try_start()
            .expect_err("an address in use");
        assert!(said.contains("is the port taken?"), "{said}");
    }

    // A host that is killed while its peers are connected leaves their connections behind.
    let mut host = Setup::acme("").listen(address).start();
    for round in 0..3 {
        let mut open: Vec<_> = (0..5).map(|_| host.connect()).collect();
        for (number, client) in open.iter_mut().enumerate() {
            let message = event(&format!("evt_{round}_{number}"));
            assert_eq!(client.post("/in/acme/shop", &message).expect("an answer").status, 202);
        }
        host.kill();
        host.try_start().expect("the address is there again at once");
        drop(open);
    }
    assert_eq!(host.counts()["receipts"], 15);
}

/// A plugin's file that is there, and whose bytes do not come before they are told to: what compiling for minutes looks like.
fn slow_plugin(stage: &Stage, name: &str) -> std::path::PathBuf {
    let path = stage.path(name);
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    path
}

#[test]
fn ports_are_open_while_plugins_are_loaded_and_jobs_wait() {
    let address = free_port();
    let mut stage = Setup::acme(CASHBACK).listen(address).set();
    let fifo = slow_plugin(&stage, "cashback.wasm");
    stage.offer("cashback", &fifo);
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| stage.start());
        let post = |id: &str| {
            let mut client = Client::connect(address).ok()?;
            client.post("/in/acme/shop", &redemption(id)).ok()
        };
        let first = wait_until("an event is taken in", || post("evt_1"));
        assert_eq!(first.status, 202);
        assert_eq!(
            ask(address, "GET", "/healthz").status,
            200,
            "a load balancer may send here"
        );
        std::thread::sleep(Duration::from_millis(300));
        assert!(!starting.is_finished(), "it is not up without its plugins");
        assert_eq!(post("evt_2").map(|answer| answer.status), Some(202));
        let bytes = std::fs::read(plugins_dir().join("cashback.wasm")).expect("a plugin");
        std::fs::write(&fifo, bytes).expect("the plugin comes");
        starting.join().expect("it is up");
    });
    let counts = stage.quiet();
    holds(&counts, &json!({ "receipts": 2, "actions": 2 }));
    let order = ["events are taken in", "plugin loaded", "tollgate is up"];
    let log = stage.log().join("\n");
    let places: Vec<_> = order.iter().map(|text| log.find(text)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?}\n{log}"
    );
}

/// Whoever finds the address open may think that there is a host to reload; nobody hears a hangup that ends the process.
#[test]
fn a_reload_that_is_asked_for_while_the_host_starts_does_not_end_it() {
    let address = free_port();
    let mut stage = Setup::acme(CASHBACK)
        .listen(address)
        .plugin("cashback")
        .wrapper(&["sh", "-c", "echo $$ > \"$STAGE/pid\"; exec \"$@\"", "sh"])
        .set();
    let file = stage.path("pid");
    for round in 0..5 {
        let _ = std::fs::remove_file(&file);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until("the address is open", || TcpStream::connect(address).ok());
                let pid = std::fs::read_to_string(&file).expect("a pid");
                let hung_up = Command::new("kill").args(["-HUP", pid.trim()]).status();
                assert!(hung_up.is_ok_and(|status| status.success()), "round {round}");
            });
            stage.start();
        });
        // It is done when the host is up.
        wait_until("the configuration is reloaded", || {
            (stage.log_with("configuration reloaded").len() == 1).then_some(())
        });
        stage.kill();
    }
}

#[test]
fn a_stop_does_not_wait_for_plugins_that_are_still_loaded() {
    let address = free_port();
    let mut stage = Setup::acme(CASHBACK).listen(address).set();
    let fifo = slow_plugin(&stage, "cashback.wasm");
    stage.offer("cashback", &fifo);
    let nowhere = File::options().write(true).open("/dev/null").expect("/dev/null");
    stage.start_with_log(nowhere.into());
    assert_eq!(stage.post("shop", &redemption("evt_1")).status, 202);
    let start = Instant::now();
    assert_eq!(stage.stop(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    // What was acknowledged meanwhile is run by the next host.
    stage.offer("cashback", &plugins_dir().join("cashback.wasm"));
    stage.start();
    assert_eq!(stage.quiet()["actions"], 1);
}

/// Everything that a host does, while nobody reads its log or nobody can.
#[track_caller]
fn works_without_a_log(log: OwnedFd, what: &str) {
    let destination = Destination::start();
    let tenant = format!("{SOURCES}{CASHBACK_TO_BOOKS}{}", books("books", &destination));
    let mut stage = Setup::default()
        .listen(free_port())
        .tenant("acme", &tenant)
        // A second one comes, with the same secret.
        .tenancy("trust_files = true")
        .plugin("cashback")
        // Much is said.
        .wrapper(&["env", "TOLLGATE_LOG=trace"])
        .set();
    stage.start_with_log(log);
    let start = Instant::now();
    for number in 0..20 {
        assert_eq!(
            stage.post("shop", &redemption(&format!("evt_{number}"))).status,
            202,
            "{what}: intake"
        );
        assert_eq!(
            stage.post("shop", &event("forged").tampered()).status,
            401,
            "{what}: refusals"
        );
        assert_eq!(stage.post("nothing", &event("lost")).status, 404, "{what}: refusals");
    }
    destination.wait_for(20);
    let counts = stage.quiet();
    assert_eq!(
        (&counts["actions"], &counts["receipts"]),
        (&20.into(), &20.into()),
        "{what}: runs"
    );

    stage.write("tenants/globex.toml", SOURCES);
    stage.signal("HUP");
    wait_until("a reload", || {
        (stage.post_to("globex", "shop", &event("evt_1")).status == 202).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(
        destination.arrivals().len(),
        20,
        "{what}: what is delivered is recorded, and not sent again"
    );
    assert_eq!(stage.stop(), Some(0), "{what}: stop");
    assert!(
        start.elapsed() < Duration::from_secs(50),
        "{what}: {:?}",
        start.elapsed()
    );
    stage.assert_whole();
}

#[test]
fn logs_never_decide_on_a_full_disk() {
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    works_without_a_log(full.into(), "/dev/full");
}

#[test]
fn logs_never_decide_when_their_reader_is_gone() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    works_without_a_log(writer.into(), "a closed pipe");
}

#[test]
fn logs_never_decide_when_their_reader_stands_still() {
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    // As much as it takes: the host's first line finds no room.
    writer.write_all(&[b'\n'; 64 * 1024]).expect("room for 64 KiB");
    works_without_a_log(writer.into(), "a pipe that nobody reads");
}

#[test]
fn logs_that_could_not_be_written_are_counted_and_said_when_they_flow_again() {
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut stage = Setup::acme("").listen(free_port()).set();
    stage.start_with_log(full.into());
    wait_until("what is left out is counted", || {
        (stage.metric("tollgate_log_lines_left_out_total") >= 1).then_some(())
    });
    assert_eq!(stage.stop(), Some(0));

    // A reader that comes back finds what waited, and the host's goodbye.
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; 64 * 1024]).expect("room for 64 KiB");
    stage.start_with_log(writer.into());
    assert_eq!(stage.post("nothing", &event("lost")).status, 404);
    let reading = std::thread::spawn(move || {
        let mut all = String::new();
        let _ = reader.read_to_string(&mut all);
        all
    });
    wait_until("the log is written", || {
        (stage.metric("tollgate_log_lines_left_out_total") == 0).then_some(())
    });
    assert_eq!(stage.stop(), Some(0));
    let log = reading.join().expect("the log");
    for text in ["events are taken in", "tollgate is up", "unknown-source", "\"stopped\""] {
        assert!(log.contains(text), "{text}: {log}");
    }
}

#[test]
fn connections_stay_idle_longer_than_a_head_may_take() {
    let stage = Setup::acme("")
        .edge("threads = 1\nheader_read_ms_max = 400\nidle_ms_max = 3000")
        .start();
    let mut client = stage.connect();
    for id in ["evt_1", "evt_2", "evt_3"] {
        assert_eq!(
            client.post("/in/acme/shop", &event(id)).expect("an answer").status,
            202,
            "{id}"
        );
        std::thread::sleep(Duration::from_millis(1000));
    }
    // A head that has begun is as short on an old connection as on a new one, also when it came with the request before it.
    let mut together = stage.connect();
    let message = event("evt_4");
    let mut bytes = request("POST", "/in/acme/shop", &message.headers, &message.body);
    bytes.extend(b"POST /in/acme/shop HTT");
    together.send(&bytes).expect("a request and a half");
    assert_eq!(together.answer().expect("an answer").status, 202);
    client.send(b"POST /in/acme/shop HTTP/1.1\r\nho").expect("half a head");
    let start = Instant::now();
    assert!(client.ends_within(Duration::from_millis(2000)), "a slow head");
    assert!(
        together.ends_within(Duration::from_millis(2000)),
        "a slow head behind a request"
    );
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
    // Silence has an end as well; before the first request it is a head's.
    let mut silent = stage.connect();
    assert!(
        silent.ends_within(Duration::from_millis(2000)),
        "a connection that never spoke"
    );
    let mut idle = stage.connect();
    assert_eq!(
        idle.post("/in/acme/shop", &event("evt_5")).expect("an answer").status,
        202
    );
    assert!(!idle.ends_within(Duration::from_millis(1500)), "not yet");
    assert!(idle.ends_within(Duration::from_millis(4000)), "an idle connection");
    // Load balancers keep connections for 60 s.
    const { assert!(tollgate_core::limits::IDLE_MS_MAX > 60_000) };
}

#[test]
fn a_load_balancer_is_answered_on_the_public_listener() {
    let stage = Setup::acme("")
        .edge("threads = 1\nrequire_https = true\ntrusted_proxies = [\"192.0.2.0/24\"]")
        .start();
    let answer = ask(stage.edge, "GET", "/healthz");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok\n".as_slice()));
    assert_eq!(ask(stage.edge, "GET", "/healthz?from=balancer").status, 200);
    assert_ne!(ask(stage.edge, "POST", "/healthz").status, 200, "it takes nothing");
    assert_ne!(ask(stage.edge, "GET", "/healthz/more").status, 200);
    assert_eq!(stage.counts()["receipts"], 0);
}

#[test]
fn a_bare_line_feed_in_a_head_is_refused() {
    let stage = Setup::acme("").start();
    let message = event("evt_1");
    let whole = request("POST", "/in/acme/shop", &message.headers, &message.body);
    let head_end = whole.len() - message.body.len();
    let line_ends: Vec<usize> = (1..head_end).filter(|at| whole[at - 1..=*at] == *b"\r\n").collect();
    assert!(line_ends.len() >= 5, "{line_ends:?}");
    for at in &line_ends {
        let mut bytes = whole.clone();
        bytes.remove(at - 1);
        for before in [b"".as_slice(), b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n"] {
            let mut client = stage.connect();
            client.send(&[before, &bytes].concat()).expect("a request");
            if !before.is_empty() {
                assert_eq!(client.answer().expect("an answer").status, 200);
            }
            let answer = client.answer().expect("an answer");
            assert_eq!(answer.status, 400, "without the carriage return at {at}");
            assert!(client.ends_within(Duration::from_secs(5)), "nothing more is read of it");
        }
    }
    assert_eq!(stage.counts()["receipts"], 0);
    let count = 2 * line_ends.len() as u64;
    wait_until("they are counted", || {
        (stage.metric("tollgate_refused_total{cause=\"bare-line-feed\"}") == count).then_some(())
    });
    // In a body they are nobody's business.
    let body = signer("shop").sign("", "{\"event\":\"note\",\n\"event_id\":\"evt_2\"\n}\n\n");
    assert_eq!(stage.post("shop", &body).status, 202);
    assert_eq!(stage.post("shop", &message).status, 202);
}

#[test]
fn i2_refusals_are_logged_by_tenant_source_and_cause_with_how_many_were_left_out() {
    let stage = Setup::acme("")
        .tenant("globex", SOURCES)
        .edge("threads = 1\nbody_bytes_max = 2048")
        .start();
    let big = signer("shop").sign(
        "",
        format!("{{\"event\":\"note\",\"event_id\":\"{}\"}}", "x".repeat(3000)),
    );
    let mut encoded = event("evt_1");
    encoded.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
    for _ in 0..30 {
        assert_eq!(stage.post("shop", &event("evt_1").tampered()).status, 401);
        assert_eq!(stage.post_to("globex", "shop", &event("evt_1").tampered()).status, 401);
        assert_eq!(stage.post("orders", &event("evt_1")).status, 401);
        assert_eq!(stage.post("shop", &big).status, 413);
        assert_eq!(stage.post("shop", &encoded).status, 415);
        assert_eq!(stage.post("shpo", &event("evt_1")).status, 404);
        assert_eq!(stage.post_to("nobody", "shop", &event("evt_1")).status, 404);
        assert_eq!(ask(stage.edge, "GET", "/in/acme/shop").status, 405);
    }
    let kinds = [
        (Some("acme"), Some("shop"), "no-match"),
        (Some("globex"), Some("shop"), "no-match"),
        (Some("acme"), Some("orders"), "missing-header"),
        (Some("acme"), Some("shop"), "body-too-large"),
        (Some("acme"), Some("shop"), "encoded"),
        (Some("acme"), None, "unknown-source"),
        (None, None, "unknown-source"),
        (Some("acme"), Some("shop"), "method"),
    ];
    for (tenant, source, cause) in kinds {
        // What was left out is said at the latest when it is over.
        wait_until(cause, || {
            let all = lines(&stage, "\"left_out\"");
            let of = all.iter().filter(|line| {
                line["cause"] == cause && line["tenant"].as_str() == tenant && line["source"].as_str() == source
            });
            let said: Vec<u64> = of.map(|line| line["left_out"].as_u64().unwrap_or_default()).collect();
            (said.iter().sum::<u64>() + said.len() as u64 >= 30 && said.len() < 30).then_some(())
        });
        let labels = [("tenant", tenant), ("source", source), ("cause", Some(cause))];
        let labels: Vec<_> = labels
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}=\"{}\"", (*value)?)))
            .collect();
        let name = format!("tollgate_source_refused_total{{{}}}", labels.join(","));
        assert!(stage.metric(&name) >= 30, "{name}");
    }
}

#[test]
fn i7_only_a_verified_event_uses_up_a_tenant_s_rate() {
    let tenant = format!(
        "{SOURCES}\n[sources.ce]\nprovider = \"cloudevents-http\"\n\
         secrets = [{{ id = \"ce-1\", value = {{ file = \"../secrets/shop\" }} }}]\nparameters = {{ allowed_origin = \"*\" }}\n"
    );
    let stage = Setup::default()
        .edge("threads = 1\nconnections_max = 12\nbody_read_ms_max = 20000\n[edge.rate]\nrequests_per_s = 1\nburst = 3")
        .tenant("acme", &tenant)
        .start();
    for _ in 0..30 {
        let origin = [("webhook-request-origin".to_owned(), "x.example".to_owned())];
        let mut client = stage.connect();
        client
            .send(&request("OPTIONS", "/in/acme/ce", &origin, b""))
            .expect("a request");
        assert_eq!(
            client.answer().expect("an answer").status,
            200,
            "a question that anybody may ask"
        );
        assert_eq!(stage.post("shop", &event("evt_1").tampered()).status, 401);
        assert_eq!(ask(stage.edge, "GET", "/in/acme/shop").status, 405);
    }
    // Bodies that do not come; some of them are sent away for the next.
    let head = b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{";
    let mut waiting = Vec::new();
    for _ in 0..30 {
        let mut client = stage.connect();
        client.send(head).expect("a head");
        waiting.push(client);
    }
    std::thread::sleep(Duration::from_millis(600));
    let (begun, mut accepted) = (Instant::now(), 0);
    let status = loop {
        match stage.post("shop", &event(&format!("evt_{}", accepted + 1))).status {
            202 => accepted += 1,
            status => break status,
        }
        let elapsed = begun.elapsed();
        // In each second another is earned.
        assert!(
            accepted <= 3 + elapsed.as_secs(),
            "and no more: {accepted} in {elapsed:?}"
        );
    };
    assert_eq!(status, 429);
    assert!(accepted >= 3, "a whole burst is there: {accepted}");
}

#[test]
fn what_the_private_listener_uses_up_is_not_the_public_one_s() {
    let stage = Setup::acme("").wrapper(&["prlimit", "--nofile=1024:1024"]).start();
    let mut held = Vec::new();
    let mut hold = |count: usize| {
        for _ in 0..count {
            let mut client = Client::connect(stage.operator).expect("a connection");
            let _ = client.send(b"GET / HTTP/1.1\r\nx: ");
            held.push(client);
        }
    };
    let open = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", stage.pid()));
        files.expect("the host's files").count()
    };
    let start = Instant::now();
    hold(600);
    std::thread::sleep(Duration::from_millis(200));
    let files = open();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "before any of them has taken too long"
    );
    assert!(files < 400, "{files} files are open");
    hold(550);
    for number in 0..10 {
        let start = Instant::now();
        assert_eq!(stage.post("shop", &event(&format!("evt_{number}"))).status, 202);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    // An operator gets in beside them, and those that say no more are let go.
    assert_eq!(stage.counts()["receipts"], 10);
    let last = held.last_mut().expect("a connection");
    assert!(last.ends_within(Duration::from_secs(15)), "a head that does not come");
}

#[test]
fn the_private_listener_waits_for_no_body_and_reads_none_of_a_stranger() {
    let stage = Setup::acme("").start();
    // A stranger's body is not waited for.
    let mut stranger = Client::connect(stage.operator).expect("a connection");
    stranger
        .send(b"POST /v1/replay HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000000\r\n\r\n{")
        .expect("a head");
    let start = Instant::now();
    assert_eq!(stranger.answer().expect("an answer").status, 401);
    assert!(stranger.ends_within(Duration::from_secs(10)));
    // A caller's has to come.
    let mut head = stage.operator_head("POST", "/v1/replay", "content-length: 100");
    head.push(b'{');
    let mut slow = Client::connect(stage.operator).expect("a connection");
    slow.send(&head).expect("a head");
    let answer = slow.answer().expect("an answer");
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    // A bare line feed is no line's end here either.
    let mut bare = Client::connect(stage.operator).expect("a connection");
    bare.send(b"GET /healthz HTTP/1.1\nhost: test\r\n\r\n").expect("a head");
    assert_eq!(bare.answer().expect("an answer").status, 400);
    assert_eq!(ask(stage.operator, "GET", "/healthz").status, 200);
}

#[test]
fn o7_a_breaker_that_opens_says_so_once_and_in_a_metric() {
    let destination = Destination::start();
    destination.otherwise(Reply::Status(500));
    let stage = Setup::to_books(&destination).start();
    for number in 0..6 {
        assert_eq!(stage.post("shop", &redemption(&format!("evt_{number}"))).status, 202);
    }
    let metric = "tollgate_breaker_open{tenant=\"acme\",destination=\"books\"}";
    wait_until("the breaker opens", || (stage.metric(metric) == 1).then_some(()));
    let said = wait_until("it is said", || {
        lines(&stage, "a breaker has opened").into_iter().next()
    });
    holds(&said, &json!({ "tenant": "acme", "destination": "books" }));
    destination.otherwise(Reply::Status(204));
    wait_until("it closes", || (stage.metric(metric) == 0).then_some(()));
    wait_until("that is said", || {
        (lines(&stage, "a breaker has closed").len() == 1).then_some(())
    });
    assert_eq!(lines(&stage, "a breaker has opened").len(), 1, "once");
    assert_eq!(
        stage.metric("tollgate_breaker_opened_total{tenant=\"acme\",destination=\"books\"}"),
        1
    );
}

#[test]
fn o7_a_plugin_that_traps_and_its_quarantine_say_so_once_and_in_a_metric() {
    let route = "\n[routes.bad]\nplugin = \"panic\"\n";
    let stage = Setup::acme(route)
        .hostile("panic")
        .worker("threads = 1\nquarantine_after = 20\n[worker.retry]\nattempts_max = 1")
        .start();
    for number in 0..25 {
        assert_eq!(stage.post("shop", &event(&format!("evt_{number}"))).status, 202);
        stage.quiet();
    }
    assert_eq!(
        stage.metric("tollgate_quarantined{tenant=\"acme\",route=\"bad\",plugin=\"panic\"}"),
        1
    );
    // A job that is claimed between the twentieth fault's commit and the quarantine that follows still runs.
    let faults = stage.metric("tollgate_run_faults_total{tenant=\"acme\",route=\"bad\",fault=\"trap\"}");
    assert!((20..=21).contains(&faults), "{faults} faults");
    let quarantines = lines(&stage, "is in quarantine");
    assert_eq!(quarantines.len(), 1, "{quarantines:?}");
    holds(&quarantines[0], &json!({ "tenant": "acme", "route": "bad" }));
    let failed = lines(&stage, "a run failed");
    assert!((1..20).contains(&failed.len()), "sampled: {failed:?}");
    holds(
        &failed[0],
        &json!({ "tenant": "acme", "route": "bad", "fault": "trap" }),
    );
}

#[test]
fn o7_a_secret_that_expires_says_so_once_and_in_a_metric() {
    let tenant = "[sources.shop]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"old\", value = { file = \"../secrets/shop\" }, \
                  not_after = \"2024-01-01T00:00:00Z\" }, { id = \"new\", value = { file = \"../secrets/orders\" } }]\n";
    let stage = Setup::default().tenant("acme", tenant).start();
    let said = wait_until("it is said", || {
        lines(&stage, "a secret has expired").into_iter().next()
    });
    let of = [&said["tenant"], &said["source"], &said["secret"]];
    assert_eq!(of, [&Value::from("acme"), &"shop".into(), &"old".into()]);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(lines(&stage, "a secret has expired").len(), 1, "once");
    let text = String::from_utf8_lossy(&stage.operator_get("/metrics").body).into_owned();
    let line = text.lines().find(|line| {
        line.starts_with("tollgate_secret_expires_seconds{tenant=\"acme\",source=\"shop\",secret=\"old\"} -")
    });
    assert!(line.is_some(), "{text}");
}

#[test]
fn what_people_say_of_themselves_forges_no_line_and_hides_nothing() {
    let tenant = format!("{SOURCES}{CASHBACK}");
    let mut stage = Setup::default().tenant("acme", &tenant).plugin("cashback").start();
    // A status that the lifecycle does not know waits for a person.
    let held = stage
        .post(
            "shop",
            &signer("shop").sign("", redeemed("evt_1", "red_1", "teleported")),
        )
        .receipt();
    let forged = "ana\n  history   2026-01-01T00:00:00Z  approved";
    for (what, body) in [
        (
            "/v1/review",
            json!({ "receipt": held, "dismiss": true, "why": "a test", "actor": forged }),
        ),
        (
            "/v1/review",
            json!({ "receipt": held, "dismiss": true, "why": "a\u{202e}b", "actor": "ana" }),
        ),
        ("/v1/replay", json!({ "receipt": held, "actor": forged })),
        ("/v1/tokens", json!({ "name": "ci\u{200b}", "role": "viewer" })),
    ] {
        let answer = stage.operator_post(what, &body.to_string());
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 400, "{what} {body}: {said}");
        assert!(said.contains("which people would not see"), "{said}");
    }
    // The command line says who asks by the environment.
    let config = stage.config();
    let config = config.to_str().expect("a path in UTF-8");
    let arguments = ["review", &held, "--dismiss", "--why", "a test", "--config", config];
    tollgate_with(&[("USER", forged)], &arguments, b"").ok();
    let shown = stage.ask_for_people(&["trace", &held]).stdout;
    assert!(shown.contains("ana\\u{a}") || shown.contains("ana\\\\u{a}"), "{shown}");
    assert!(
        !shown
            .lines()
            .any(|line| line.trim_start().starts_with("history   2026-01-01")),
        "{shown}"
    );

    // What a provider's sender chose.
    let id = "evt_\u{202e}gpj.\u{2066}exe\u{200b}";
    assert_eq!(stage.post("shop", &event(id)).status, 202);
    for arguments in [vec!["trace", id], vec!["trace"]] {
        let shown = stage.ask_for_people(&arguments).stdout;
        assert!(
            !shown.chars().any(|c| matches!(c, '\u{202e}' | '\u{2066}' | '\u{200b}')),
            "{shown:?}"
        );
    }
    let shown = stage.ask_for_people(&["trace", id]).stdout;
    assert!(shown.contains("evt_\\u{202e}gpj.\\u{2066}exe\\u{200b}"), "{shown}");
    assert_eq!(stage.trace(id)["receipt"]["event_id"], id, "programs get it as it is");
    assert_eq!(stage.stop(), Some(0));
}

#[test]
fn a_clock_that_goes_back_two_hours_delays_nothing_that_was_scheduled() {
    let destination = Destination::start();
    let mut stage = Setup::to_books(&destination)
        .delivery(
            "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\n[delivery.retry]\nattempts_max = 8\nbase_ms = 3000\n\
             cap_ms = 3000",
        )
        .set();
    stage.write("ahead", "0");
    let clock = stage.path("ahead");
    let (disk, clock) = (disk_library(), clock.to_str().expect("a path in UTF-8"));
    stage.wrap(&[
        "env",
        &format!("LD_PRELOAD={}", disk.display()),
        &format!("TOLLGATE_TEST_CLOCK={clock}"),
    ]);
    stage.start();
    destination.script([Reply::Status(500), Reply::Status(500)]);
    assert_eq!(stage.post("shop", &redemption("evt_1")).status, 202);
    destination.wait_for(1);
    // The retry is due by the time as it was.
    stage.write("ahead", "-7200");
    wait_until("the clock is seen to be back", || {
        (!stage.log_with("the system's clock was set back").is_empty()).then_some(())
    });
    let start = Instant::now();
    destination.wait_for(3);
    // And so is what comes now: runs, leases, deliveries.
    assert_eq!(stage.post("shop", &redemption("evt_2")).status, 202);
    destination.wait_for(4);
    stage.quiet();
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    assert_eq!(lines(&stage, "the system's clock was set back").len(), 1, "once");
    // Forward again, past where it was.
    stage.write("ahead", "7200");
    assert_eq!(stage.post("shop", &redemption("evt_3")).status, 202);
    destination.wait_for(5);
    stage.quiet();
    assert_eq!(stage.stop(), Some(0));
}

#[test]
fn a_database_behind_a_link_is_the_same_store_by_either_name() {
    let mut stage = Setup::acme("").store("link.db").set();
    std::fs::create_dir(stage.path("data")).expect("a folder");
    std::os::unix::fs::symlink("data/real.db", stage.path("link.db")).expect("a link");
    stage.start();
    for number in 0..5 {
        assert_eq!(stage.post("shop", &event(&format!("evt_{number}"))).status, 202);
    }
    // By its own name it is in use.
    let config = stage.path("second.toml");
    std::fs::write(
        &config,
        "[edge]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"data/real.db\"\n",
    )
    .expect("a file");
    let ran = tollgate_with(&[], &["serve", "--config", config.to_str().expect("UTF-8")], b"");
    assert!(
        ran.code != 0 && ran.stderr.contains("already uses the store"),
        "{ran:?}"
    );
    // What a host leaves when it is killed is found again, beside the file itself.
    stage.kill();
    stage.start();
    assert_eq!(stage.counts()["receipts"], 5);
    assert_eq!(stage.post("shop", &event("evt_1")).status, 200, "the same");
    assert_eq!(stage.stop(), Some(0));
    stage.assert_whole();
    let beside: Vec<_> = std::fs::read_dir(stage.path(""))
        .expect("the stage's folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("link.db"))
        .collect();
    assert_eq!(beside, ["link.db"], "nothing is kept beside the link");
}

#[test]
fn no_temporary_folder_is_needed() {
    let stage = Setup::acme(CASHBACK)
        .plugin("cashback")
        .wrapper(&["env", "TMPDIR=/no/such/folder"])
        .start();
    assert_eq!(stage.post("shop", &redemption("evt_1")).status, 202);
    assert_eq!(stage.quiet()["actions"], 1);
    let plugin = std::fs::read(plugins_dir().join("fraud.wasm")).expect("a plugin");
    let pushed = stage.operator_send("POST", "/v1/plugins", &plugin);
    assert!(
        pushed.status < 300,
        "{} {}",
        pushed.status,
        String::from_utf8_lossy(&pushed.body)
    );
}

#[test]
fn an_answer_that_cannot_be_written_is_no_panic() {
    let print_to = |sink: Stdio| {
        let child = Command::new(tollgate_tests::tollgate_bin())
            .args(["provider", "list"])
            .stdout(sink)
            .stderr(Stdio::piped())
            .spawn();
        let output = child
            .and_then(std::process::Child::wait_with_output)
            .expect("tollgate ends");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let (code, said) = print_to(full.into());
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.starts_with("error: the answer could not be written to stdout"),
        "{said}"
    );
    // Whoever read it has read enough.
    assert_eq!(print_to(closed_pipe()), (Some(0), String::new()));
}

fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}
