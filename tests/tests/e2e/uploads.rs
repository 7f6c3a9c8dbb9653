//! P6, W2, O2: what somebody who hands plugins in can make the host do and tell: turns at vetting, nothing left behind by what is refused or
//! only tried, and nothing of receipts in what an author is shown.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::ids::PluginDigest;
use tollgate_core::manifest::Manifest;
use tollgate_sandbox::with_manifest;
use tollgate_tests::events::signer;
use tollgate_tests::json::holds;
use tollgate_tests::stage::{CASHBACK, SOURCES, Setup, Stage, wait_until};
use tollgate_tests::{hostile_dir, plugins_dir};

/// Two tenants with the same for everything, and a cache of the stage's own.
fn two_tenants() -> Stage {
    Setup::acme(CASHBACK)
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .worker("cache = 'compiled'")
        .start()
}

/// A component that says of itself that it is this version of `cashback`.
fn component(file: &Path, version: &str) -> Vec<u8> {
    let manifest = json!({
        "name": "cashback", "version": version, "publisher": "Acme", "events": ["reward.redeemed"],
        "actions": ["credit", "flag"], "state": true,
    });
    let component = std::fs::read(file).expect("a component");
    let manifest = Manifest::from_json(manifest.to_string().as_bytes()).expect("a manifest");
    with_manifest(&component, &manifest).expect("a component with another manifest")
}

fn small(version: &str) -> Vec<u8> {
    component(&hostile_dir().join("refuse.wasm"), version)
}

/// The names of what is in the store's folder and in the cache of compiled plugins.
fn left(stage: &Stage) -> Vec<String> {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        entries
            .map(|entry| entry.path().display().to_string())
            .collect::<Vec<_>>()
    };
    let mut all = [names(&stage.path("")), names(&stage.path("compiled"))].concat();
    all.sort();
    all
}

#[test]
fn p6_uploads_wait_for_those_of_the_same_owner_and_not_others_for_them() {
    let stage = two_tenants();
    let (acme, globex) = (
        stage.token("plugin-author", "acme"),
        stage.token("plugin-author", "globex"),
    );
    // Each takes long to compile.
    let long = |version: &str| component(&plugins_dir().join("cashback.wasm"), version);
    let (taken, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let before_globex = thread::scope(|scope| {
        for number in 0..12 {
            let (stage, acme, taken, busy) = (&stage, &acme, &taken, &busy);
            let bytes = long(&format!("2.0.{number}"));
            scope.spawn(move || {
                let answer = stage.ask_as(acme, "POST", "/v1/plugins?tenant=acme&dry_run=true", &bytes);
                match answer.status {
                    200 => taken.fetch_add(1, Ordering::SeqCst),
                    503 => busy.fetch_add(1, Ordering::SeqCst),
                    other => panic!("{other}: {answer:?}"),
                }
            });
        }
        wait_until("acme has as many waiting as it may", || {
            (busy.load(Ordering::SeqCst) >= 4).then_some(())
        });
        let before = taken.load(Ordering::SeqCst);
        let answer = stage.ask_as(&globex, "POST", "/v1/plugins?tenant=globex", &long("3.0.0"));
        assert_eq!(answer.status, 200, "{answer:?}");
        taken.load(Ordering::SeqCst) - before
    });
    assert!(
        before_globex <= 3,
        "{before_globex} of acme's went before the one of globex's"
    );
    assert!(taken.load(Ordering::SeqCst) >= 5, "acme's own wait and are taken");
}

#[test]
fn w2_what_is_refused_or_only_tried_leaves_nothing_behind() {
    let stage = two_tenants();
    let author = stage.token("plugin-author", "acme");
    let push = |bytes: &[u8], dry_run: bool| {
        let path = format!("/v1/plugins?tenant=acme&dry_run={dry_run}");
        stage.ask_as(&author, "POST", &path, bytes)
    };
    let before = left(&stage);
    let versions = stage.operator_get("/v1/plugins?tenant=acme").json();
    let good = small("2.0.0");
    for _ in 0..2 {
        assert_eq!(push(&good, true).status, 200);
    }
    for hostile in ["trap_at_start", "no_manifest", "wrong_world"] {
        let bytes = std::fs::read(hostile_dir().join(format!("{hostile}.wasm"))).expect("a component");
        assert_eq!(push(&bytes, false).status, 400, "{hostile}");
    }
    // One that compiles, and is refused for what it does on the event that everything is tried on.
    let traps = component(&hostile_dir().join("panic.wasm"), "2.0.1");
    assert_eq!(push(&traps, false).status, 400);
    assert_eq!(push(b"no component", false).status, 400);
    assert_eq!(left(&stage), before);
    assert_eq!(stage.operator_get("/v1/plugins?tenant=acme").json(), versions);

    // What is taken is compiled once, and kept.
    assert_eq!(push(&good, false).status, 200);
    let digest = PluginDigest::of(&good).to_string();
    let kept: Vec<_> = left(&stage).into_iter().filter(|name| !before.contains(name)).collect();
    assert!(
        kept.len() == 1 && kept[0].contains(&digest["sha256:".len()..]),
        "{kept:?}"
    );
}

#[test]
fn w2_the_compiler_has_its_share_and_the_cache_its_bound() {
    let stage = Setup::acme(CASHBACK)
        .plugin("cashback")
        .worker("cache = 'compiled'\ncache_mib_max = 1")
        .start();
    let used = stage.operator_get("/v1/tenants/acme/routes/cashback").json()["binding"]["active"].clone();
    let used = used.as_str().expect("a digest")["sha256:".len()..].to_owned();
    let author = stage.token("plugin-author", "acme");
    let seen = thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            for number in 0..3 {
                let bytes = component(&plugins_dir().join("cashback.wasm"), &format!("2.0.{number}"));
                let answer = stage.ask_as(&author, "POST", "/v1/plugins?tenant=acme", &bytes);
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        });
        let mut seen = Vec::new();
        while !pushing.is_finished() {
            seen.extend(compiler_of(stage.pid()));
            thread::sleep(Duration::from_millis(5));
        }
        seen
    });
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let most = seen
        .iter()
        .map(|child| child.threads)
        .max()
        .expect("a compiler was seen");
    assert!(
        most <= (processors / 2).max(1) + 1,
        "{most} threads on {processors} processors"
    );
    let last = seen.last().expect("a compiler");
    assert!(last.niceness >= 15, "{last:?}");
    let memory = std::fs::read_to_string("/proc/meminfo").expect("what memory there is");
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .expect("in all");
    let memory: u64 = memory.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    assert!(last.memory_bytes_max <= (memory * 1024 / 2).max(1 << 30), "{last:?}");

    let codes: Vec<_> = left(&stage)
        .into_iter()
        .filter(|name| name.ends_with(".code"))
        .collect();
    assert!(
        codes.iter().any(|name| name.contains(&used)),
        "what a route runs stays: {codes:?}"
    );
    let bytes = |name: &String| std::fs::metadata(name).map_or(0, |metadata| metadata.len());
    let all: u64 = codes.iter().map(bytes).sum();
    let its: u64 = codes.iter().filter(|name| name.contains(&used)).map(bytes).sum();
    assert!(all <= its.max(1 << 20) + its, "{all} bytes: {codes:?}");
    assert!(codes.len() < 4, "{codes:?}");
}

#[derive(Debug)]
struct Compiling {
    threads: usize,
    niceness: i64,
    memory_bytes_max: u64,
}

/// The child of that process, once it has limited itself.
fn compiler_of(host: u32) -> Option<Compiling> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        if fields[1] != host.to_string() {
            return None;
        }
        let limits = std::fs::read_to_string(entry.path().join("limits")).ok()?;
        let memory = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
        Some(Compiling {
            threads: fields[17].parse().ok()?,
            niceness: fields[16].parse().ok()?,
            memory_bytes_max: memory.split_whitespace().next()?.parse().ok()?,
        })
    })
}

/// Redemptions of `amount` each.
fn redeem(stage: &Stage, tenant: &str, amount: u64) {
    for number in 0..6 {
        let body = json!({
            "event": "reward.redeemed", "event_id": format!("evt_{number}"), "redemption_id": format!("red_{number}"),
            "user_id": format!("user_{number}"), "reward_id": "reward_999", "amount": amount, "currency": "INR",
            "status": "success", "timestamp": "2026-05-05T10:00:00Z",
        });
        let answer = stage.post_to(tenant, "shop", &signer("shop").sign("", body.to_string()));
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    stage.quiet();
}

#[test]
fn o2_an_author_reads_no_amounts_of_events_by_trials_shadows_or_faults() {
    let stage = two_tenants();
    redeem(&stage, "acme", 500);
    redeem(&stage, "globex", 31_000);
    let candidate = component(&plugins_dir().join("inventory.wasm"), "2.0.0");
    let digest = PluginDigest::of(&candidate).to_string();
    let trial = |tenant: &str, role: &str, more: Value| {
        let mut body = json!({ "plugin": digest });
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let path = format!("/v1/tenants/{tenant}/routes/cashback/trials");
        stage.ask_as(&stage.token(role, tenant), "POST", &path, body.to_string().as_bytes())
    };
    for tenant in ["acme", "globex"] {
        let author = stage.token("plugin-author", tenant);
        let answer = stage.ask_as(&author, "POST", &format!("/v1/plugins?tenant={tenant}"), &candidate);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // Who reads receipts sees what moves; an author sees the same for any amounts.
    let report = |tenant: &str, role: &str| {
        let mut report = trial(tenant, role, json!({})).json();
        report["routes"][0]["tenant"] = Value::Null;
        report
    };
    let (ours, theirs) = (report("acme", "tenant-admin"), report("globex", "tenant-admin"));
    assert_ne!(ours["money"][0]["before"], theirs["money"][0]["before"], "{ours:#}");
    holds(&ours, &json!({ "runs": 6, "differing": 6 }));
    let (ours, theirs) = (report("acme", "plugin-author"), report("globex", "plugin-author"));
    assert_eq!(ours, theirs);
    holds(&ours, &json!({ "runs": 6, "differing": 6 }));
    for withheld in ["money", "examples"] {
        assert_eq!(ours[withheld], json!([]), "{ours:#}");
    }
    for withheld in ["fuel_before", "fuel_after", "micros_after"] {
        assert_eq!(ours[withheld]["max"], 0, "{ours:#}");
        assert!(ours["withheld"].as_array().expect("a list").contains(&json!(withheld)));
    }
    // Nor does an author choose the runs, by which one could be told from the others.
    for narrowed in [json!({ "runs_max": 1 }), json!({ "since": "2026-05-05T10:00:00Z" })] {
        let refused = trial("acme", "plugin-author", narrowed.clone());
        assert!(
            refused.status == 403 && String::from_utf8_lossy(&refused.body).contains("receipt-read"),
            "{refused:?}"
        );
        assert_eq!(trial("acme", "tenant-admin", narrowed).status, 200);
    }
    // Runs of a shadow show its actions.
    let shadows = "/v1/tenants/acme/routes/cashback/shadow-runs";
    for (role, status) in [("plugin-author", 403), ("viewer", 200), ("tenant-admin", 200)] {
        assert_eq!(
            stage.ask_as(&stage.token(role, "acme"), "GET", shadows, b"").status,
            status,
            "{role}"
        );
    }
}

#[test]
fn o2_what_a_plugin_says_when_it_ends_is_not_shown_to_who_reads_no_receipts() {
    let route = "[routes.cashback]\ntypes = [\"reward.redeemed\"]\nplugin = \"panic\"\n";
    let stage = Setup::acme(route)
        .hostile("panic")
        .worker("quarantine_after = 2")
        .start();
    for number in 0..2 {
        let body = json!({
            "event": "reward.redeemed", "event_id": format!("evt_{number}"), "redemption_id": format!("red_{number}"),
            "user_id": format!("user_{number}"), "reward_id": "reward_999", "amount": 777, "currency": "INR",
            "status": "success", "timestamp": "2026-05-05T10:00:00Z",
        });
        assert_eq!(
            stage.post("shop", &signer("shop").sign("", body.to_string())).status,
            202
        );
    }
    let seen = |role: &str| {
        let answer = stage
            .ask_as(&stage.token(role, "acme"), "GET", "/v1/quarantines", b"")
            .json();
        answer[0]["reason"].as_str().map(str::to_owned)
    };
    let all = wait_until("the plugin is in quarantine", || seen("viewer"));
    let fault = seen("plugin-author").expect("an author sees that it is");
    assert!(
        all.starts_with(&format!("{fault}: ")) && all.len() > fault.len() + 2,
        "{all} {fault}"
    );
    let history = stage.ask_as(
        &stage.token("plugin-author", "acme"),
        "GET",
        "/v1/tenants/acme/routes/cashback/history",
        b"",
    );
    let history = String::from_utf8_lossy(&history.body).into_owned();
    let said = &all[fault.len() + 2..];
    assert!(history.contains(&fault) && !history.contains(said), "{history}");
}
