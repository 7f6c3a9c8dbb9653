//! How runs end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tollgate_core::action::{Flag, Proposal, UncheckedAction};
use tollgate_core::outcome::{Fault, LogLevel, Outcome};
use tollgate_core::state::{StateRead, StateWrite};
use tollgate_sandbox::{RunLimits, Sandbox, SandboxOptions};

use crate::guest::{GOOD, SANDBOX, State, component, component_with, limits, load, run, run_with};

/// What the prelude's answer means.
fn good() -> Outcome {
    let flag = Flag {
        subject: "s".to_owned(),
        score: 7,
        reasons: Vec::new(),
    };
    Outcome::Completed {
        proposals: vec![Proposal {
            operation_key: "k:1".to_owned(),
            action: UncheckedAction::Flag(flag),
        }],
    }
}

/// Runs a guest and expects how it ends, in part; then runs a good one in the same sandbox.
fn check(component: &[u8], bounds: &RunLimits, fault: Fault, says: &str) {
    let run_of_guest = run(&load(component), bounds);
    let Outcome::Fault { fault: found, message } = &run_of_guest.outcome else {
        panic!("expected {fault}, not {:?}", run_of_guest.outcome);
    };
    assert_eq!(*found, fault, "{message}");
    assert!(message.contains(says), "`{message}` does not say `{says}`");
    assert!(message.len() <= 1030 && !message.contains('\n'), "{message}");
    assert_eq!(run_of_guest.writes, [], "a run that failed commits nothing");
    assert_eq!(
        run(&load(&component_of_good()), &limits()).outcome,
        good(),
        "the next run is unaffected"
    );
}

fn component_of_good() -> Vec<u8> {
    component(GOOD)
}

fn ends(body: &str, fault: Fault, says: &str) {
    check(&component(body), &limits(), fault, says);
}

const SPIN: &str = "(loop $again (br $again)) (unreachable)";

#[test]
fn spinning_ends_by_fuel_or_by_the_clock() {
    ends(SPIN, Fault::OutOfFuel, "the budget of 200000000 fuel is used up");
    let start = Instant::now();
    let limits = RunLimits {
        fuel: u64::MAX,
        deadline_ms: 60,
        ..limits()
    };
    check(
        &component(SPIN),
        &limits,
        Fault::Deadline,
        "not done after 60 ms, at process",
    );
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(60), "{took:?} is early");
    assert!(took < Duration::from_secs(10), "{took:?} is far too late");
}

#[test]
fn recursion_ends_by_the_stack() {
    let recurse = component_with(
        "(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))",
        "(call $deeper (i32.const 0))",
    );
    check(&recurse, &limits(), Fault::Memory, "stack overflow");
}

#[test]
fn memory_is_bounded_over_all_memories_and_tables() {
    let grow = "(loop $again (drop (memory.grow (i32.const 16))) (br $again)) (unreachable)";
    ends(grow, Fault::Memory, "at most 67108864 are allowed");
    let small = RunLimits {
        memory_bytes_max: 1024 * 1024,
        ..limits()
    };
    check(&component(grow), &small, Fault::Memory, "at most 1048576 are allowed");

    let memories: String = (0..7).map(|n| format!("(memory $m{n} 1)")).collect();
    let grows: String = (0..7)
        .map(|n| format!("(drop (memory.grow $m{n} (i32.const 4)))"))
        .collect();
    let many = component_with(&memories, &format!("{grows} {grows} {grows} {grows} {GOOD}"));
    check(&many, &small, Fault::Memory, "for all memories and tables together");
    assert_eq!(run(&load(&many), &limits()).outcome, good(), "each alone is small");

    let table = component_with(
        "(table $t 1 funcref)",
        "(drop (table.grow $t (ref.null func) (i32.const 60000))) (i32.const 1024)",
    );
    let less = RunLimits {
        memory_bytes_max: 700 * 1024,
        ..limits()
    };
    check(&table, &less, Fault::Memory, "at most 716800 are allowed");
    assert!(run(&load(&table), &limits()).memory_bytes > 4 * 65536 + 480_000);
}

#[test]
fn growing_over_its_own_maximum_is_the_guests_to_see() {
    let grow = component_with(
        "(memory $own 1 2)",
        "(if (i32.ne (memory.grow $own (i32.const 5)) (i32.const -1)) (then unreachable)) (i32.const 1024)",
    );
    assert_eq!(run(&load(&grow), &limits()).outcome, good());
}

/// Rows of `runs.json` (what a guest does, how it ends, a part of what is said): floods of output and of calls into the host, answers that cannot be read, traps.
#[test]
fn a_guest_that_ends_badly_is_named_and_harms_no_other() {
    let guests: Vec<[String; 3]> = serde_json::from_str(include_str!("runs.json")).unwrap();
    for [body, fault, says] in guests {
        let fault = Fault::ALL.into_iter().find(|known| known.as_str() == fault).unwrap();
        ends(&body.replace("GOOD", GOOD), fault, &says);
    }
}

#[test]
fn an_allocator_that_points_outside_is_a_trap() {
    let moved = component_with("(func $move (global.set $heap (i32.const -65536))) (start $move)", GOOD);
    check(&moved, &limits(), Fault::Trap, "realloc return: beyond end of memory");
}

#[test]
fn log_lines_are_cut_and_counted() {
    let lines = component(
        "(local $n i32)
         (call $log (i32.const 1) (i32.const 8192) (i32.const 5000))
         (loop $again
            (call $log (i32.const 2) (i32.const 2000) (i32.const 3))
            (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 99))))
         (i32.const 1024)",
    );
    let run = run(&load(&lines), &limits());
    assert_eq!(run.outcome, good(), "lines decide nothing");
    assert_eq!(run.logs.len(), 65);
    assert_eq!(run.logs[0].message.len(), 1024 + "…".len());
    assert_eq!(
        (run.logs[1].level, run.logs[1].message.as_str()),
        (LogLevel::Warn, "k:1")
    );
    assert_eq!(run.logs[64].message, "36 further log lines were dropped");
}

#[test]
fn a_panic_says_why() {
    let panic = component_with(
        r#"(data (i32.const 4000) "panicked at lib.rs:9: no\nway") (func $cashback::rule (unreachable))"#,
        "(call $log (i32.const 3) (i32.const 4000) (i32.const 28)) (call $cashback::rule) (unreachable)",
    );
    check(
        &panic,
        &limits(),
        Fault::Trap,
        "panicked at lib.rs:9: no way — wasm `unreachable` instruction executed, at cashback::rule < process",
    );
    let stale = component(
        "(call $log (i32.const 3) (i32.const 2000) (i32.const 3)) (call $log (i32.const 1) (i32.const 2010) (i32.const 1))
         (unreachable)",
    );
    let stale = run(&load(&stale), &limits());
    assert!(
        !stale.outcome.message().contains("k:1"),
        "an earlier error is not what it died of: {stale:?}"
    );
}

#[test]
fn a_clean_up_that_misbehaves_fails_the_run() {
    let export = r#"(export "cabi_post_tollgate:plugin/handler@1.0.0#process")"#;
    let post = |body: &str| component_with(&format!("(func $clean {export} (param i32) {body})"), GOOD);
    check(&post("(unreachable)"), &limits(), Fault::Trap, "at clean");
    check(&post("(loop $again (br $again))"), &limits(), Fault::OutOfFuel, "");
}

#[test]
fn the_event_arrives_whole() {
    // Each text lies in the argument record as address and length.
    let echo = |at: u32| {
        format!(
            "(call $log (i32.const 1) (i32.load offset={at} (local.get $arguments)) (i32.load offset={} (local.get $arguments)))",
            at + 4
        )
    };
    let at = [0, 8, 16, 24, 36, 48, 60, 112, 128, 136];
    let body: String = at.into_iter().map(echo).collect();
    let numbers = "(if (i64.ne (i64.load offset=80 (local.get $arguments)) (i64.const 1715603650464)) (then unreachable))
                   (if (i64.ne (i64.load offset=88 (local.get $arguments)) (i64.const 1715603651000)) (then unreachable))
                   (if (i64.ne (i64.load offset=104 (local.get $arguments)) (i64.const 2500)) (then unreachable))";
    let run = run(&load(&component(&format!("{body} {numbers} {GOOD}"))), &limits());
    assert_eq!(run.outcome, good());
    let texts: Vec<_> = run.logs.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(
        texts,
        [
            "acme",
            "rewards",
            "evt_1",
            "customer.rewarded",
            "r_1",
            "reward-redemption",
            "completed",
            "USD",
            r#"{"id":"evt_1"}"#,
            r#"{"rate":5}"#
        ]
    );
}

/// Reads `s` twice, sets it to `k:1`, reads it, deletes it, reads it; logs what it read.
const STATE: &str = "
    (call $get (i32.const 2010) (i32.const 1) (i32.const 3000))
    (call $log (i32.const 1) (i32.load (i32.const 3004)) (i32.load (i32.const 3008)))
    (call $get (i32.const 2010) (i32.const 1) (i32.const 3000))
    (call $log (i32.const 1) (i32.load (i32.const 3004)) (i32.load (i32.const 3008)))
    (call $set (i32.const 2010) (i32.const 1) (i32.const 2000) (i32.const 3))
    (call $get (i32.const 2010) (i32.const 1) (i32.const 3000))
    (call $log (i32.const 1) (i32.load (i32.const 3004)) (i32.load (i32.const 3008)))";

#[test]
fn state_is_read_once_and_written_at_the_end() {
    let plugin = load(&component(&format!("{STATE} {GOOD}")));
    let state = State {
        values: [("s", (4, b"old".to_vec()))].into(),
        ..State::default()
    };
    let run_of_state = run_with(&plugin, &state, &limits());
    assert_eq!(run_of_state.outcome, good());
    let texts: Vec<_> = run_of_state.logs.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(texts, ["old", "old", "k:1"], "a run sees its own writes");
    assert_eq!(
        run_of_state.reads,
        [StateRead {
            key: "s".into(),
            version: 4,
            value: Some(b"old".to_vec())
        }]
    );
    assert_eq!(
        run_of_state.writes,
        [StateWrite {
            key: "s".into(),
            value: Some(b"k:1".to_vec())
        }]
    );
    assert_eq!(state.reads.get(), 1);

    let delete = format!(
        "{STATE} (call $delete (i32.const 2010) (i32.const 1))
         (call $get (i32.const 2010) (i32.const 1) (i32.const 3000))
         (if (i32.load8_u (i32.const 3000)) (then unreachable)) {GOOD}"
    );
    let run_of_delete = run_with(&load(&component(&delete)), &state, &limits());
    assert_eq!(
        run_of_delete.writes,
        [StateWrite {
            key: "s".into(),
            value: None
        }]
    );
}

#[test]
fn a_failure_keeps_its_reads_and_drops_its_writes() {
    // `result` is `err` with one of its three cases; the text is the prelude's `k:1`. A retry has its wait before the text.
    let (error, text) = ((1024, 1), |at: u32| [(at, 2000), (at + 4, 3)]);
    let [retry, refuse, hold] = [(1032, 0), (1032, 1), (1032, 2)];
    let wait = [(1040, 1), (1048, 258)];
    for (stores, name) in [
        ([vec![error, hold], text(1040).to_vec()].concat(), "held"),
        ([vec![error, refuse], text(1040).to_vec()].concat(), "refused"),
        (
            [vec![error, retry], wait.to_vec(), text(1056).to_vec()].concat(),
            "retry-after",
        ),
    ] {
        let store = |(at, value)| format!("(i32.store (i32.const {at}) (i32.const {value}))");
        let body = stores.into_iter().map(store).collect::<String>() + GOOD;
        let run = run(&load(&component(&format!("{STATE} {body}"))), &limits());
        assert_eq!((run.outcome.name(), run.outcome.message()), (name, "k:1"));
        if let Outcome::RetryAfter { after_ms, .. } = run.outcome {
            assert_eq!(after_ms, Some(258));
        }
        assert_eq!(run.reads.len(), 1);
        assert_eq!(run.writes, []);
    }
}

#[test]
fn a_store_that_cannot_be_read_is_the_hosts_fault() {
    let plugin = load(&component(&format!("{STATE} {GOOD}")));
    let run = run_with(
        &plugin,
        &State {
            broken: true,
            ..State::default()
        },
        &limits(),
    );
    let Outcome::Fault {
        fault: Fault::HostFault,
        message,
    } = &run.outcome
    else {
        panic!("{:?}", run.outcome)
    };
    assert!(
        message.starts_with("the state could not be read: the disk is gone really"),
        "{message}"
    );
}

#[test]
fn the_same_input_gives_the_same_run_anywhere() {
    let component = component(&format!("{STATE} {GOOD}"));
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let sandbox = Sandbox::new(SandboxOptions {
                instances_max: 2,
                ..SandboxOptions::default()
            })
            .unwrap();
            let plugin = sandbox.load(&component).unwrap();
            let _ = run(&plugin, &limits());
            run(&plugin, &limits())
        })
        .collect();
    assert!(runs[0].fuel > 0);
    assert_eq!(runs[0].fuel, runs[1].fuel);
    assert_eq!(runs[0].outcome, runs[1].outcome);
    assert_eq!((&runs[0].reads, &runs[0].writes), (&runs[1].reads, &runs[1].writes));
    assert_eq!(runs[0].memory_bytes, runs[1].memory_bytes);
}

#[test]
fn an_instance_starts_from_nothing() {
    // Fails when its own mark of an earlier run is still there.
    let mark = component(
        "(if (i32.load (i32.const 60000)) (then unreachable)) (i32.store (i32.const 60000) (i32.const 1)) (i32.const 1024)",
    );
    let plugin = load(&mark);
    for _ in 0..20 {
        assert_eq!(run(&plugin, &limits()).outcome, good());
    }
}

#[test]
fn many_runs_at_once_do_not_touch_each_other() {
    let sandbox = Sandbox::new(SandboxOptions {
        instances_max: 3,
        ..SandboxOptions::default()
    })
    .unwrap();
    let of = |body: &str| sandbox.load(&component(body)).unwrap();
    let plugins = [
        (of(GOOD), "completed"),
        (of("(unreachable)"), "trap"),
        (
            of("(loop $again (drop (memory.grow (i32.const 64))) (br $again)) (unreachable)"),
            "memory",
        ),
        (of(&format!("{STATE} {GOOD}")), "completed"),
        (
            of("(loop $again (call $log (i32.const 0) (i32.const 2000) (i32.const 3)) (br $again)) (unreachable)"),
            "output-too-big",
        ),
    ];
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= 100 {
                        break;
                    }
                    let (plugin, expect) = &plugins[number as usize % plugins.len()];
                    assert_eq!(run(plugin, &limits()).outcome.name(), *expect);
                }
            });
        }
    });
}

#[test]
fn a_run_waits_for_an_instance_and_no_longer_than_its_deadline() {
    let sandbox = Sandbox::new(SandboxOptions {
        instances_max: 1,
        ..SandboxOptions::default()
    })
    .unwrap();
    let (spin, good_one) = (
        sandbox.load(&component(SPIN)).unwrap(),
        sandbox.load(&component_of_good()).unwrap(),
    );
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            run(
                &spin,
                &RunLimits {
                    fuel: u64::MAX,
                    deadline_ms: 3_000,
                    ..limits()
                },
            )
        });
        let brief = RunLimits {
            deadline_ms: 20,
            ..limits()
        };
        // Until the other has the instance, nothing has to be waited for.
        let early = loop {
            let early = run(&good_one, &brief);
            if early.outcome.name() == "host-fault" || busy.is_finished() {
                break early;
            }
            thread::sleep(Duration::from_millis(1));
        };
        let late = run(
            &good_one,
            &RunLimits {
                deadline_ms: 30_000,
                ..limits()
            },
        );
        assert_eq!(early.outcome.name(), "host-fault");
        assert_eq!(late.outcome, good());
        assert_eq!(busy.join().unwrap().outcome.name(), "deadline");
    });
}

#[test]
fn a_plugin_outlives_its_sandbox_handle() {
    let sandbox = Sandbox::new(SandboxOptions {
        instances_max: 1,
        ..SandboxOptions::default()
    })
    .unwrap();
    let plugin = sandbox.load(&component(SPIN)).unwrap();
    drop(sandbox);
    let limits = RunLimits {
        fuel: u64::MAX,
        deadline_ms: 20,
        ..limits()
    };
    assert_eq!(
        run(&plugin, &limits).outcome.name(),
        "deadline",
        "its clock still ticks"
    );
    assert_eq!(
        SANDBOX.load(&component_of_good()).unwrap().digest(),
        load(&component_of_good()).digest()
    );
}
