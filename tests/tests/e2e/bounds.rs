//! I3 and the bounds of intake: what is not an event, is too big, too slow or not HTTP, is refused by name and not kept.

use std::time::{Duration, Instant};

use tollgate_tests::client::{Client, request};
use tollgate_tests::events::{Message, any_event, signer};
use tollgate_tests::stage::{Setup, Stage};

fn refused(status: u16, word: &str) -> (u16, String) {
    (status, word.to_owned())
}

/// A signed body of exactly `bytes` bytes.
fn body_of(id: &str, bytes: usize) -> Message {
    let head = format!(r#"{{"event":"note","event_id":"{id}","text":""#);
    let filler = "x".repeat(bytes - head.len() - 2);
    signer("shop").sign(id, format!("{head}{filler}\"}}"))
}

fn assert_kept(stage: &Stage, receipts: u64) {
    assert_eq!(stage.counts()["receipts"], receipts);
}

#[test]
fn i3_what_is_signed_but_is_no_event_is_refused() {
    let stage = Setup::acme("").start();
    let nested = |levels: usize| {
        format!(
            r#"{{"event":"note","event_id":"deep-{levels}","x":{}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    // Of each cause one; tollgate-core has more of them.
    let cases: [(&str, Vec<u8>); 6] = [
        ("not-json", b"event=reward.redeemed".to_vec()),
        ("not-utf8", b"{\"event\":\"a\",\"event_id\":\"b\xff\"}".to_vec()),
        ("missing-id", br#"{"event":"a"}"#.to_vec()),
        ("missing-type", br#"{"event_id":"b"}"#.to_vec()),
        (
            "repeated-key",
            br#"{"event":"a","event_id":"b","event\u005fid":"c"}"#.to_vec(),
        ),
        ("too-deep", nested(200_000).into_bytes()),
    ];
    for (cause, body) in cases {
        let answer = stage.post("shop", &signer("shop").sign("", body));
        assert_eq!(answer.verdict(), refused(400, "malformed"), "{cause}");
        assert_eq!(
            stage.metric(&format!("tollgate_refused_total{{cause=\"{cause}\"}}")),
            1,
            "{cause}"
        );
    }
    assert_eq!(stage.metric("tollgate_intake_total{result=\"malformed\"}"), 6);
    assert_kept(&stage, 0);
    // What is just inside is kept: 127 lists in one object are 128 levels.
    let answer = stage.post("shop", &signer("shop").sign("", nested(127)));
    assert_eq!(answer.verdict(), (202, "accepted".to_owned()));
    assert_kept(&stage, 1);
}

#[test]
fn i3_only_a_post_to_a_source_that_exists_is_looked_at() {
    let stage = Setup::acme("").start();
    let message = signer("shop").sign("", any_event("shop", "evt_1"));
    let ask = |method: &str, path: &str| {
        let mut client = stage.connect();
        client
            .send(&request(method, path, &message.headers, &message.body))
            .expect("a request");
        client.answer().expect("an answer")
    };
    for path in [
        "/",
        "/in",
        "/in/acme",
        "/in/acme/",
        "/in/acme/nothing",
        "/in/nobody/shop",
        "/in/acme/shop/more",
        "/in//shop",
        "/in/acme/%73hop",
        "/in/acme/../acme/shop",
        "/metrics",
        "/healthz",
        "/v1/counts",
    ] {
        assert_eq!(ask("POST", path).verdict(), refused(404, "unknown-source"), "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = ask(method, "/in/acme/shop");
        assert_eq!(answer.verdict(), refused(405, "method"), "{method}");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    assert_kept(&stage, 0);
    assert_eq!(ask("POST", "/in/acme/shop").status, 202);
    // A query is not part of a source's name.
    assert_eq!(ask("POST", "/in/acme/shop?from=retry").status, 200);
}

#[test]
fn i3_bodies_and_headers_have_their_bounds() {
    let stage = Setup::acme("").start();
    const MIB: usize = 1024 * 1024;
    assert_eq!(stage.post("shop", &body_of("full", MIB)).status, 202, "exactly 1 MiB");

    // Refused by its length alone, before the body is sent.
    let mut client = stage.connect();
    let head = format!(
        "POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
        MIB + 1
    );
    client.send(head.as_bytes()).expect("a head");
    assert_eq!(
        client.answer().expect("an answer").verdict(),
        refused(413, "body-too-large")
    );

    // In chunks nobody knows the length beforehand.
    let mut client = stage.connect();
    client
        .send(b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
        .expect("a head");
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..17 {
        // The answer may come, and the connection end, before all is sent.
        let sent = client
            .send(format!("{:x}\r\n", chunk.len()).as_bytes())
            .and_then(|()| client.send(&chunk))
            .and_then(|()| client.send(b"\r\n"));
        if sent.is_err() {
            break;
        }
    }
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.verdict(), refused(413, "body-too-large"), "chunked");

    let with = |headers: Vec<(String, String)>| {
        let mut message = signer("shop").sign("", any_event("shop", "evt_headers"));
        message.headers.extend(headers);
        stage.post("shop", &message)
    };
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for encoding in ["gzip", "br", "deflate", "gzip, identity"] {
        let answer = with(header("content-encoding", encoding));
        assert_eq!(answer.verdict(), refused(415, "encoded"), "{encoding}");
    }
    assert_eq!(
        with((0..120).flat_map(|n| header(&format!("x-filler-{n}"), "1")).collect()).status,
        431
    );
    assert_eq!(with(header("x-long", &"y".repeat(40 * 1024))).status, 431);
    assert_kept(&stage, 1);
    assert_eq!(with(header("content-encoding", "identity")).status, 202);
    assert_eq!(
        with((0..80).flat_map(|n| header(&format!("x-filler-{n}"), "1")).collect()).status,
        200
    );
}

#[test]
fn i3_whoever_is_slow_is_let_go() {
    let stage = Setup::acme("")
        .edge("threads = 2\nheader_read_ms_max = 400\nbody_read_ms_max = 400")
        .start();
    let mut slow_body = stage.connect();
    let start = Instant::now();
    slow_body
        .send(b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{")
        .expect("a head");
    let answer = slow_body.answer().expect("an answer");
    assert_eq!(answer.verdict(), refused(408, "too-slow"));
    assert!(start.elapsed() >= Duration::from_millis(390), "{:?}", start.elapsed());

    let mut slow_head = stage.connect();
    slow_head
        .send(b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\n")
        .expect("half a head");
    let start = Instant::now();
    let ended = match slow_head.answer() {
        Ok(answer) => answer.status == 408,
        Err(_) => true,
    };
    assert!(
        ended && start.elapsed() < Duration::from_secs(10),
        "a slow head was waited for"
    );

    // Drop by drop: each byte comes in time, the whole does not.
    let mut drops = stage.connect();
    drops
        .send(b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n")
        .expect("a head");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(900) && drops.send(b"x").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = drops.answer().expect("an answer");
    assert_eq!(answer.verdict(), refused(408, "too-slow"), "drop by drop");
    assert_kept(&stage, 0);
    assert_eq!(
        stage
            .post("shop", &signer("shop").sign("", any_event("shop", "evt_1")))
            .status,
        202
    );
}

#[test]
fn i3_connections_that_say_nothing_lock_nobody_out() {
    // Longer than the test waits for anybody: whoever gets in was not waited for, but made room for.
    let slow = "threads = 2\nconnections_max = 20\nheader_read_ms_max = 60000\nbody_read_ms_max = 60000";
    let stage = Setup::acme("").edge(slow).start();
    let mut idle: Vec<_> = (0..60).map(|_| stage.connect()).collect();
    // Some of them have begun, and some wait for an answer that they do not fetch.
    for (at, client) in idle.iter_mut().enumerate() {
        let begun: &[u8] = match at % 3 {
            0 => b"",
            1 => b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\n",
            _ => b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{",
        };
        let _ = client.send(begun);
    }
    std::thread::sleep(Duration::from_millis(500));
    for number in 0..40 {
        let message = signer("shop").sign("", any_event("shop", &format!("evt_{number}")));
        let start = Instant::now();
        assert_eq!(stage.post("shop", &message).status, 202);
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{number}: {:?}",
            start.elapsed()
        );
    }
    assert_kept(&stage, 40);
}

#[test]
fn i3_a_body_that_stays_away_keeps_no_other_out() {
    let stage = Setup::acme("").edge("threads = 1\nbody_read_ms_max = 60000").start();
    // As much as bodies may take of memory, and more: each lacks its last byte.
    let mut almost = b"POST /in/acme/shop HTTP/1.1\r\nhost: test\r\ncontent-length: 1048576\r\n\r\n".to_vec();
    almost.resize(almost.len() + 1_048_575, b' ');
    let mut hoards = Vec::new();
    for _ in 0..300 {
        let mut client = stage.connect();
        let _ = client.send(&almost);
        hoards.push(client);
    }
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    let full = body_of("full", 1024 * 1024);
    assert_eq!(stage.post("shop", &full).status, 202, "a large one gets in");
    let message = signer("shop").sign("", any_event("shop", "evt_1"));
    assert_eq!(stage.post("shop", &message).status, 202);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_kept(&stage, 2);
}

#[test]
fn i3_the_host_asks_for_as_many_files_as_it_may_have() {
    let mut stage = Setup::acme("")
        .edge("threads = 2")
        .wrapper(&["prlimit", "--nofile=100:2000"])
        .start();
    let idle: Vec<_> = (0..300).map(|_| stage.connect()).collect();
    let open = || stage.metric("tollgate_connections_open");
    let start = Instant::now();
    while open() < idle.len() as u64 && start.elapsed() < Duration::from_secs(4) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(open(), idle.len() as u64);
    let warned = stage.log_with("there will be so many slots per thread");
    assert!(warned[0].contains("\"slots_max\":500"), "{warned:?}");
    drop(idle);
    assert_eq!(stage.stop(), Some(0));
}

#[test]
fn i3_one_connection_carries_many_requests_in_order() {
    let stage = Setup::acme("").start();
    let path = "/in/acme/shop";
    let message = |id: &str| signer("shop").sign("", any_event("shop", id));
    let mut client = stage.connect();
    for id in ["one", "two", "three"] {
        assert_eq!(client.post(path, &message(id)).expect("an answer").status, 202, "{id}");
    }
    // Three requests in one write: an event, a forgery, the event again.
    let mut together = Vec::new();
    for message in [message("four"), message("five").tampered(), message("four")] {
        together.extend(request("POST", path, &message.headers, &message.body));
    }
    client.send(&together).expect("requests");
    let statuses = [(); 3].map(|()| client.answer().expect("an answer").status);
    assert_eq!(statuses, [202, 401, 200]);

    // A body in chunks is verified as one.
    let chunked = message("six");
    let mut bytes = format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n").into_bytes();
    for (name, value) in &chunked.headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    for piece in chunked.body.chunks(7) {
        bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    client.send(&bytes).expect("a request");
    assert_eq!(client.answer().expect("an answer").status, 202);

    // A sender that asks before it sends its body.
    let asking = message("seven");
    let mut headers = asking.headers.clone();
    headers.push(("expect".to_owned(), "100-continue".to_owned()));
    let whole = request("POST", path, &headers, &asking.body);
    let (head, body) = whole.split_at(whole.len() - asking.body.len());
    client.send(head).expect("a head");
    assert_eq!(client.answer().expect("an answer").status, 100);
    client.send(body).expect("a body");
    assert_eq!(client.answer().expect("an answer").status, 202);
    assert_kept(&stage, 6);
}

/// A sender that ends its body with a line break, or begins its next request early, must not be left without an answer: it would
/// send again what was kept.
#[test]
fn i3_an_answer_does_not_wait_for_what_follows_the_request() {
    let stage = Setup::acme("").start();
    for (id, close, rest) in [
        ("break", false, "\r\n"),
        ("break-and-close", true, "\r\n"),
        ("half-a-request", false, "POST /in/acme/shop HTTP/1.1\r\nhost: te"),
    ] {
        let message = signer("shop").sign("", any_event("shop", id));
        let mut headers = message.headers.clone();
        if close {
            headers.push(("connection".to_owned(), "close".to_owned()));
        }
        let mut bytes = request("POST", "/in/acme/shop", &headers, &message.body);
        bytes.extend(rest.bytes());
        let mut client = stage.connect();
        client.send(&bytes).expect("a request");
        let start = Instant::now();
        assert_eq!(client.answer().expect("an answer").status, 202, "{id}");
        assert!(start.elapsed() < Duration::from_secs(3), "{id}: {:?}", start.elapsed());
    }
    assert_kept(&stage, 3);
}

#[test]
fn i3_what_is_no_http_is_not_kept_and_harms_nobody() {
    let stage = Setup::acme("").start();
    let message = signer("shop").sign("", any_event("shop", "evt_1"));
    let signature: String = message
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let body = String::from_utf8_lossy(&message.body).into_owned();
    let start = format!("POST /in/acme/shop HTTP/1.1\r\nhost: test\r\n{signature}");
    let length = body.len();
    let cases = [
        ("no HTTP at all", "\u{16}\u{3}\u{1}\u{2}hello\r\n\r\n".to_owned()),
        (
            "a chunk whose size is no number",
            format!("{start}transfer-encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk of the largest size",
            format!("{start}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{body}"),
        ),
        (
            "two lengths",
            format!(
                "{start}content-length: {length}\r\ncontent-length: {}\r\n\r\n{body}",
                length - 1
            ),
        ),
        ("a negative length", format!("{start}content-length: -1\r\n\r\n{body}")),
        (
            "a body that breaks off",
            format!("{start}content-length: {}\r\n\r\n{body}", length + 1),
        ),
        (
            "chunks that break off",
            format!("{start}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n"),
        ),
        (
            "a header line that is folded",
            format!("{start}x: 1\r\n folded\r\ncontent-length: {length}\r\n\r\n{body}"),
        ),
        (
            "a name with a space",
            format!("{start}x y: 1\r\ncontent-length: {length}\r\n\r\n{body}"),
        ),
    ];
    for (what, bytes) in cases {
        let mut client = Client::connect(stage.edge).expect("a connection");
        // The host may have hung up before all was sent.
        let _ = client.send(bytes.as_bytes());
        client.finish_sending();
        if let Ok(answer) = client.answer() {
            assert!((400..500).contains(&answer.status), "{what}: {}", answer.status);
        }
    }
    assert_kept(&stage, 0);
    assert_eq!(stage.post("shop", &message).verdict(), (202, "accepted".to_owned()));
}

/// A source may take larger bodies than others, within what the operator allows; who sends a larger one is told the bound and its setting.
#[test]
fn i3_a_source_may_take_larger_bodies_and_a_refusal_names_the_bound() {
    let sources = "[sources.shop]\nprovider = \"generic-hmac\"\nbody_bytes_max = 3000000\n\
        secrets = [{ id = \"a\", value = { file = \"../secrets/a\" } }]\n\
        [sources.usual]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"a\", value = { file = \"../secrets/a\" } }]\n\
        [sources.pushes]\nprovider = \"github\"\nsecrets = [{ id = \"a\", value = { file = \"../secrets/a\" } }]\n";
    let secret = "shop-secret-1f0c2d";
    let stage = Setup::default()
        .edge("source_body_bytes_max = 4000000")
        .secret("a", secret)
        .tenant("acme", sources)
        .start();
    let bound = |answer: &tollgate_tests::client::Answer| {
        assert_eq!(answer.verdict(), refused(413, "body-too-large"));
        let body = answer.json();
        assert!(
            body["setting"]
                .as_str()
                .is_some_and(|setting| setting.starts_with("body_bytes_max of the source")),
            "{body}"
        );
        body["body_bytes_max"].clone()
    };
    // By its length alone: who sends on would find the connection closed.
    let too_large = |source: &str, bytes: usize| {
        let mut client = stage.connect();
        let head = format!("POST /in/acme/{source} HTTP/1.1\r\nhost: test\r\ncontent-length: {bytes}\r\n\r\n");
        client.send(head.as_bytes()).expect("a head");
        bound(&client.answer().expect("an answer"))
    };
    assert_eq!(stage.post("shop", &body_of("evt_1", 3_000_000)).status, 202);
    assert_eq!(too_large("shop", 3_000_001), 3_000_000);
    assert_eq!(too_large("usual", 1_048_577), 1_048_576);
    // GitHub's own 25 MB, cut to what this operator allows.
    let push = |bytes: usize| {
        let mut message = tollgate_tests::events::Signer::new("github", secret).sign(
            &format!("push-{bytes}"),
            format!("{{\"x\":\"{}\"}}", "y".repeat(bytes - 8)),
        );
        message.headers.push(("x-github-event".to_owned(), "push".to_owned()));
        message
    };
    assert_eq!(stage.post("pushes", &push(4_000_000)).status, 202);
    assert_eq!(too_large("pushes", 4_000_001), 4_000_000);
    assert_kept(&stage, 2);
}
