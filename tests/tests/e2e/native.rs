//! R1: one native binary with its store inside; nothing else to install.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tollgate_tests::events::{Signer, redeemed, signer};
use tollgate_tests::stage::{CASHBACK, Setup, sample, tollgate, wait_until};
use tollgate_tests::tollgate_bin;

#[test]
fn r1_the_binary_needs_nothing_from_its_surroundings() {
    // No variables, no PATH, no home.
    let mut stage = Setup::acme(CASHBACK)
        .native()
        .plugin("cashback")
        .wrapper(&["env", "-i"])
        .start();
    let receipt = stage.redeem(1).receipt();
    let trace = stage.finished(&receipt);
    assert_eq!(
        trace["jobs"][0]["runs"][0]["actions"][0]["summary"]
            .as_str()
            .map(str::is_empty),
        Some(false)
    );
    assert_eq!(stage.operator_get("/healthz").status, 200);
    assert_eq!(stage.stop(), Some(0));
    // The store is one file again, with nothing beside it that would have to be kept.
    assert!(stage.path("tollgate.db").is_file() && !stage.path("tollgate.db-wal").exists());
}

#[test]
fn r1_the_binary_carries_the_licences_of_what_it_is_made_of() {
    let printed = tollgate(&["licenses"], b"");
    let text = printed.stdout;
    for part in [
        "wasmtime 48.",
        "rusqlite 0.",
        "ring 0.17",
        "Permission is hereby granted",
        "LLVM Exceptions",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn r1_the_recorded_samples_go_all_the_way() {
    let rest = format!(
        "{CASHBACK}[routes.stock]\ntypes = [\"customer.reward_redemptions.*\"]\nplugin = \"inventory\"\n\
         grants = [{{ kind = \"reserve-stock\", quantity_max = 9 }}, {{ kind = \"release-stock\", quantity_max = 9 }}]\n"
    );
    let stage = Setup::acme(&rest).plugin("cashback").plugin("inventory").start();
    let kinds = |source: &str, name: &str| {
        let answer = stage.post(source, &signer(source).sign("", sample(name)));
        assert_eq!(answer.verdict(), (202, "accepted".to_owned()), "{name}");
        let trace = stage.finished(&answer.receipt());
        trace["jobs"][0]["runs"][0]["actions"][0]["action"]["kind"].clone()
    };
    assert_eq!(kinds("shop", "native-reward.redeemed.json"), json!("credit"));
    assert_eq!(
        kinds("rewards", "voucherify-customer.reward_redemptions.pending.json"),
        json!("reserve-stock")
    );
    assert_eq!(
        kinds("rewards", "voucherify-customer.reward_redemptions.completed.json"),
        json!(null)
    );
    assert_eq!(kinds("rewards", "voucherify-customer.rewarded.json"), json!(null));
}

#[test]
fn r1_the_private_listener_keeps_its_questions_to_itself() {
    use tollgate_tests::client::{Client, request};
    let stage = Setup::acme("").start();
    let ask = |path: &str, headers: &[(String, String)]| {
        let mut client = Client::connect(stage.operator).expect("a connection");
        client.send(&request("GET", path, headers, b"")).expect("a request");
        client.answer().expect("an answer").status
    };
    let wrong = [("authorization".to_owned(), "Bearer wrong".to_owned())];
    for path in ["/metrics", "/v1/counts", "/v1/trace", "/v1/dead-letters"] {
        assert_eq!((ask(path, &[]), ask(path, &wrong)), (401, 401), "{path}");
        assert_eq!(stage.operator_get(path).status, 200, "{path}");
    }
    assert_eq!(ask("/healthz", &[]), 200);
}

#[test]
fn r1_a_stop_waits_for_no_peer() {
    use tollgate_tests::client::Client;
    let mut stage = Setup::acme("").start();
    let mut private = Client::connect(stage.operator).expect("a connection");
    private.send(b"GET /healthz HT").expect("half a request");
    let mut public = stage.connect();
    public.send(b"POST /in/acme/shop HT").expect("half a request");
    let start = std::time::Instant::now();
    assert_eq!(stage.stop(), Some(0));
    assert!(
        start.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn r1_a_reload_takes_new_secrets_and_keeps_the_old_ones_when_the_new_are_wrong() {
    let stage = Setup::acme("").start();
    let status = |secret: &str, id: &str| {
        let message = Signer::new("generic-hmac", secret).sign("", redeemed(id, id, "success"));
        stage.post("shop", &message).status
    };
    let old = "shop-secret-1f0c2d";
    assert_eq!((status(old, "evt_1"), status("the-new-one", "evt_2")), (202, 401));
    stage.write("secrets/shop", "the-new-one");
    stage.reload();
    assert_eq!((status(old, "evt_3"), status("the-new-one", "evt_2")), (401, 202));
    stage.write("secrets/shop", "");
    stage.signal("HUP");
    wait_until("the host says that it keeps the old one", || {
        (!stage.log_with("keeps its last good configuration").is_empty()).then_some(())
    });
    assert_eq!(status("the-new-one", "evt_4"), 202);
}

/// A demo that does not outlive its test: it takes its host and its folder along.
struct Demo(Child);

impl Demo {
    fn end(&self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.end();
        let _ = self.0.wait();
    }
}

#[test]
fn o3_the_demo_of_a_bare_binary_needs_nothing_and_its_next_command_leads_to_an_action() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("tollgate");
    std::fs::copy(tollgate_bin(), &program).expect("a copy of the program");
    let demo = Command::new(&program)
        .arg("demo")
        .current_dir(folder.path())
        .env_clear()
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the demo");
    let mut demo = Demo(demo);
    let mut lines = BufReader::new(demo.0.stdout.take().expect("a pipe"))
        .lines()
        .map_while(Result::ok);
    let story: Vec<String> = lines.by_ref().take_while(|line| !line.contains("dlq list")).collect();
    assert!(
        story.iter().any(|line| line == "All of it came out as promised."),
        "{story:#?}"
    );
    let table = story.iter().skip_while(|line| !line.starts_with("What arrived"));
    let wide: Vec<_> = table
        .take_while(|line| !line.starts_with("The host stays up"))
        .filter(|line| line.chars().count() > 80)
        .collect();
    assert!(wide.is_empty(), "{wide:#?}");

    let at = story
        .iter()
        .position(|line| line.contains("tollgate send "))
        .expect("what to send");
    let send = story[at..at + 3].join("\n");
    let sent = Command::new("sh").arg("-c").arg(&send).output().expect("the command");
    assert!(sent.status.success(), "{send}: {sent:?}");
    let out = lines.find(|line| line.contains("out credit")).expect("what went out");
    assert!(out.contains("cashback:r_mine"), "{out}");

    demo.end();
    assert!(demo.0.wait().expect("its end").success());
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("the folder")
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .collect();
    assert_eq!(left, ["tollgate"], "the demo takes its folder along");
}
