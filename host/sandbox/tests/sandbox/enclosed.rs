//! Plugins as Spin runs them, enclosed, beside the same plugins natively: the same events, the same answers, reads, writes and
//! logs. `cargo xtask spin` builds what they are enclosed with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use data_encoding::BASE64;
use serde_json::{Value, json};
use tollgate_core::action::{Proposal, UncheckedAction, UncheckedMoney, UncheckedTransfer};
use tollgate_core::event::Event;
use tollgate_core::fixture::Fixture;
use tollgate_core::limits as bounds;
use tollgate_core::outcome::{LogLevel, Outcome};
use tollgate_enclose::{EncloseError, Kit, enclose, meter, plugin_of};
use tollgate_sandbox::{Run, RunInput, RunLimits};
use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Config, Engine, Store, Trap};

use crate::built::{built, ends};
use crate::contract::{Given, folder};
use crate::guest::{GOOD, SANDBOX, component_with, event, limits};

/// wasmtime's own fuel, so that a loop which the meter does not see fails a test and does not hang it.
const WATCHDOG: u64 = 20_000_000_000;

/// What plugins are enclosed with; `None`, with words, where nobody built it.
struct Parts {
    host_calls: Vec<u8>,
    caller: Vec<u8>,
    engine: Engine,
}

impl Parts {
    fn found() -> Option<Self> {
        let built = built("TOLLGATE_SPIN", "spin");
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .wasm_multi_memory(true)
            .cranelift_nan_canonicalization(true)
            .native_unwind_info(false);
        Some(Self {
            host_calls: built.get("tollgate_spin_host_calls")?.clone(),
            caller: built.get("tollgate_spin_caller")?.clone(),
            engine: Engine::new(&config).unwrap(),
        })
    }

    fn kit(&self) -> Kit<'_> {
        Kit {
            host_calls: &self.host_calls,
            caller: &self.caller,
        }
    }

    fn enclosed(&self, plugin: &[u8]) -> Enclosed<'_> {
        let bytes = enclose(self.kit(), plugin).unwrap();
        Enclosed {
            engine: &self.engine,
            component: Component::new(&self.engine, bytes).unwrap(),
        }
    }
}

struct Enclosed<'a> {
    engine: &'a Engine,
    component: Component,
}

impl Enclosed<'_> {
    /// One run in an instance of its own: what the worker is answered, or `None` where a trap ended it.
    fn run(&self, input: &RunInput<'_>, state: &BTreeMap<String, Vec<u8>>, limits: &RunLimits) -> Option<Value> {
        let mut store = Store::new(self.engine, ());
        store.set_fuel(WATCHDOG).unwrap();
        let ran = (|| {
            let instance = Linker::new(self.engine).instantiate(&mut store, &self.component)?;
            let interface = instance
                .get_export_index(&mut store, None, tollgate_enclose::EXPORT)
                .unwrap();
            let run = instance.get_export_index(&mut store, Some(&interface), "run").unwrap();
            let run: TypedFunc<(Vec<u8>,), (Vec<u8>,)> = instance.get_typed_func(&mut store, run)?;
            let request = request(input, state, limits).to_string().into_bytes();
            run.call(&mut store, (request,))
        })();
        match ran {
            Ok((answer,)) => Some(serde_json::from_slice::<Value>(&answer).unwrap()["ended"].take()),
            Err(error) => {
                assert_ne!(
                    error.downcast_ref::<Trap>(),
                    Some(&Trap::OutOfFuel),
                    "the meter does not see it: {error:#}"
                );
                None
            }
        }
    }

    /// How it ends, in the words of native outcomes.
    fn outcome(&self, input: &RunInput<'_>, limits: &RunLimits) -> String {
        self.run(input, &BTreeMap::new(), limits)
            .map_or_else(|| "trap".to_owned(), |answer| name_of(&answer))
    }
}

fn name_of(answer: &Value) -> String {
    let result = &answer["result"];
    let names = [
        ("proposals", "completed"),
        ("refused", "refused"),
        ("held", "held"),
        ("retry", "retry-after"),
    ];
    match names.into_iter().find(|(key, _)| result.get(key).is_some()) {
        Some((_, name)) => name.to_owned(),
        None => result["stopped"]["fault"].as_str().unwrap().to_owned(),
    }
}

/// `tollgate_spin_protocol::Request`.
fn request(input: &RunInput<'_>, state: &BTreeMap<String, Vec<u8>>, limits: &RunLimits) -> Value {
    let Event {
        tenant,
        source,
        id,
        event_type,
        subject,
        reading,
        occurred_at,
        received_at,
        amount,
        attributes,
        payload,
    } = input.event;
    let state: Vec<_> = state
        .iter()
        .map(|(key, value)| json!({ "key": key, "version": 1, "value": BASE64.encode(value) }))
        .collect();
    json!({
        "event": {
            "tenant": tenant.to_string(),
            "source": source.to_string(),
            "id": id.to_string(),
            "event_type": event_type.to_string(),
            "subject": subject.as_ref().map(ToString::to_string),
            "family": reading.family().map(ToString::to_string),
            "status": reading.status().map(ToString::to_string),
            "occurred_at_ms": occurred_at.map(|at| at.0),
            "received_at_ms": received_at.0,
            "amount": amount.map(|amount| json!({
                "minor_units": amount.minor_units(), "currency": amount.currency().as_str(),
            })),
            "attributes": attributes,
            "payload": std::str::from_utf8(payload).unwrap(),
        },
        "config": input.config_json,
        "state": state,
        "complete": true,
        "fuel": limits.fuel,
        "memory_bytes": limits.memory_bytes_max,
        "proposals_max": limits.actions_max,
    })
}

/// What an enclosed plugin would have answered, of what it did natively: `tollgate_spin_protocol::Ended` without its fuel, which
/// counts the contract's glue differently. Faults keep their name only.
fn said(run: &Run) -> Value {
    let result = match &run.outcome {
        Outcome::Completed { proposals } => json!({ "proposals": proposals.iter().map(proposal).collect::<Vec<_>>() }),
        Outcome::Refused { message } => json!({ "refused": message }),
        Outcome::Held { message } => json!({ "held": message }),
        Outcome::RetryAfter { after_ms, message } => json!({ "retry": { "after_ms": after_ms, "message": message } }),
        Outcome::Fault { fault, .. } => json!({ "stopped": { "fault": fault.as_str() } }),
    };
    let level = |level| match level {
        LogLevel::Debug => 0,
        LogLevel::Info => 1,
        LogLevel::Warn => 2,
        LogLevel::Error => 3,
    };
    json!({
        "result": result,
        "reads": run.reads.iter().map(|read| json!({
            "key": read.key, "version": read.version, "value": read.value.as_ref().map(|value| BASE64.encode(value)),
        })).collect::<Vec<_>>(),
        "writes": run.writes.iter().map(|write| json!({
            "key": write.key, "value": write.value.as_ref().map(|value| BASE64.encode(value)),
        })).collect::<Vec<_>>(),
        "logs": run.logs.iter().map(|line| json!({
            "level": level(line.level), "message": line.message,
        })).collect::<Vec<_>>(),
    })
}

fn proposal(proposal: &Proposal) -> Value {
    let money = |money: &UncheckedMoney| json!({ "minor_units": money.minor_units, "currency": money.currency });
    let transfer =
        |of: &UncheckedTransfer| json!({ "account": of.account, "amount": money(&of.amount), "reason": of.reason });
    let action = match &proposal.action {
        UncheckedAction::Credit(credit) => json!({ "credit": transfer(credit) }),
        UncheckedAction::Debit(debit) => json!({ "debit": transfer(debit) }),
        UncheckedAction::ReserveStock(stock) => json!({ "reserve-stock": stock }),
        UncheckedAction::ReleaseStock(stock) => json!({ "release-stock": stock }),
        UncheckedAction::IssueGiftCard {
            recipient,
            amount,
            template,
        } => json!({ "issue-gift-card": { "recipient": recipient, "amount": money(amount), "template": template } }),
        UncheckedAction::Flag(flag) => json!({ "flag": flag }),
        UncheckedAction::Notify(notice) => json!({ "notify": notice }),
        UncheckedAction::Extension(extension) => json!({ "extension": {
            "kind": extension.name, "schema": extension.schema, "body": extension.body,
        } }),
    };
    json!({ "operation_key": proposal.operation_key, "action": action })
}

/// The answer in the form of [`said`].
fn comparable(answer: Option<Value>) -> Value {
    let Some(mut answer) = answer else {
        return json!({ "result": { "stopped": { "fault": "trap" } } });
    };
    let fields = answer.as_object_mut().unwrap();
    fields.remove("fuel");
    if let Some(stopped) = answer["result"].get_mut("stopped") {
        stopped.as_object_mut().unwrap().remove("message");
    }
    answer
}

/// Runs an event both ways, compares all that came of it, and returns how it ended.
#[track_caller]
fn same(what: &str, native: &tollgate_sandbox::Plugin, enclosed: &Enclosed<'_>, fixture: &Fixture) -> Run {
    let input = RunInput {
        event: &fixture.event,
        config_json: &fixture.config_json,
    };
    let run = native.run(&input, &Given(fixture), &limits());
    let answer = enclosed.run(&input, &fixture.state, &limits());
    let fuel = answer.as_ref().map_or(0, |answer| answer["fuel"].as_u64().unwrap());
    assert_eq!(comparable(answer), said(&run), "{what}");
    // One and the same budget is worth the same on both hosts.
    assert!(
        fuel.abs_diff(run.fuel) <= run.fuel / 100 + 100,
        "{what}: {fuel} fuel enclosed, {} natively",
        run.fuel
    );
    run
}

#[test]
fn components_of_1_0_0_do_the_same_enclosed() {
    let Some(parts) = Parts::found() else { return };
    let mut seen = 0;
    for component in ["everything", "minimal"] {
        let bytes = fs::read(folder().join(format!("{component}.wasm"))).unwrap();
        let (native, enclosed) = (SANDBOX.load(&bytes).unwrap(), parts.enclosed(&bytes));
        for entry in fs::read_dir(folder().join("fixtures")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if name.starts_with(component) {
                let fixture = Fixture::from_json(&fs::read(&path).unwrap()).unwrap();
                let _ = same(&name, &native, &enclosed, &fixture);
                seen += 1;
            }
        }
    }
    assert!(seen >= 9, "{seen} fixtures");
}

/// splitmix64.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Configurations of the shipped plugins; the last of each is wrong.
const CONFIGS: [(&str, &[&str]); 4] = [
    (
        "cashback",
        &[
            r#"{"rate_bps": 500, "cap_minor_units": 2000, "limit": {"amount_minor_units": 10000, "window_days": 30}}"#,
            r#"{"fixed_minor_units": 100, "currency": "USD", "minimum_amount_minor_units": 500}"#,
            r#"{"rate_bps": 250, "amount": "/order/amount", "currency": "EUR", "statuses": ["completed", "pending"]}"#,
            r#"{"rate_bps": "much"}"#,
        ],
    ),
    (
        "fraud",
        &[
            r#"{"currency": "USD", "rules": [{"name": "burst", "window_minutes": 60, "events_max": 2, "points": 40},
                {"name": "spend", "window_minutes": 1440, "amount_max_minor_units": 5000, "points": 60}]}"#,
            r#"{"rules": []}"#,
        ],
    ),
    (
        "gift-card",
        &[
            r#"{"currency": "USD", "recipient": "/customer/email", "cards": [{"value_minor_units": 1000, "template": "birthday"}]}"#,
            r#"{"currency": "EUR", "recipient": "email", "recipient_cards_max": 1, "cards": [
                {"minimum_minor_units": 500, "value_minor_units": 50, "template": "small"},
                {"minimum_minor_units": 20000, "value_minor_units": 2500, "template": "large"}]}"#,
            r#"{"cards": 7}"#,
        ],
    ),
    (
        "inventory",
        &[
            r#"{"products": {"p1": {"sku": "laptop-14", "quantity": 1}, "p2": {"sku": "bottle", "quantity": 6}}}"#,
            r#"{}"#,
            r#"{"products": 1}"#,
        ],
    ),
];

/// An event of a small world, so that customers, operations and states meet again.
fn random_event(seed: &mut u64, at: u64) -> Value {
    let mut pick = |from: &[&str]| from[(next(seed) % from.len() as u64) as usize].to_owned();
    let customer = pick(&["cust_1", "cust_2", "kundin ✓"]);
    let (currency, product) = (pick(&["USD", "EUR"]), pick(&["p1", "p2", "p3"]));
    let (status, kind) = (
        pick(&["completed", "completed", "completed", "pending", "cancelled", "failed"]),
        pick(&["customer.rewarded", "reward.redeemed", "order.paid"]),
    );
    let operation = pick(&["op-1", "op-2", "op-3", "op-4", "op-5", "op-6", "op-7"]);
    let minor_units = next(seed) % 30_000;
    let payload = json!({
        "customer": { "email": format!("{customer}@example.org") }, "order": { "amount": minor_units }, "text": "ü\n\"",
        "product": product, "quantity": 1 + next(seed) % 5,
    });
    let mut event = json!({
        "id": format!("evt_{at}"),
        "type": kind,
        "family": "reward-redemption",
        "status": status,
        "occurred_at": format!("2026-0{}-{:02}T{:02}:00:00Z", 2 + next(seed) % 3, 1 + next(seed) % 28, next(seed) % 24),
        "subject": operation,
        "attributes": { "customer": customer, "operation": operation, "product": product, "email": "a@example.org" },
        "payload": payload,
    });
    if !next(seed).is_multiple_of(4) {
        event["amount"] = json!({ "minor_units": minor_units, "currency": currency });
    }
    event
}

#[test]
fn shipped_plugins_do_the_same_enclosed_on_random_events_with_their_state() {
    let (Some(parts), plugins) = (Parts::found(), built("TOLLGATE_PLUGINS", "plugins")) else {
        return;
    };
    for (name, configs) in CONFIGS {
        let bytes = &plugins[name];
        let (native, enclosed) = (SANDBOX.load(bytes).unwrap(), parts.enclosed(bytes));
        let (mut endings, mut proposed) = (BTreeMap::<String, u32>::new(), 0);
        for config in configs {
            let (mut seed, mut state) = (7, BTreeMap::new());
            for at in 0..60 {
                let event = random_event(&mut seed, at);
                let json = json!({ "event": event, "config": serde_json::from_str::<Value>(config).unwrap() });
                let mut fixture =
                    Fixture::from_json(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"));
                fixture.state = state;
                let run = same(&format!("{name}, {config}, {event}"), &native, &enclosed, &fixture);
                *endings.entry(run.outcome.name().to_owned()).or_default() += 1;
                if let Outcome::Completed { proposals } = &run.outcome {
                    proposed += proposals.len();
                }
                state = fixture.state;
                for write in run.writes {
                    match write.value {
                        Some(value) => drop(state.insert(write.key, value)),
                        None => drop(state.remove(&write.key)),
                    }
                }
            }
        }
        assert!(
            proposed >= 10 && endings.len() >= 2,
            "{name}: {proposed} proposals, {endings:?}"
        );
    }
}

#[test]
fn fixtures_of_the_examples_do_the_same_enclosed() {
    let (Some(parts), plugins) = (Parts::found(), built("TOLLGATE_PLUGINS", "plugins")) else {
        return;
    };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-plugins/examples/fixtures");
    let plugin = &plugins["cashback"];
    let (native, enclosed) = (SANDBOX.load(plugin).unwrap(), parts.enclosed(plugin));
    for entry in fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        let fixture = Fixture::from_json(&fs::read(&path).unwrap()).unwrap();
        let _ = same(&path.display().to_string(), &native, &enclosed, &fixture);
    }
}

/// The words of `ends.json` differ where nothing but a trap can end an instance (an answer that cannot be read, calls without end,
/// recursion), and for a log line that is too long, which the host calls cut.
#[test]
fn each_hostile_guest_ends_enclosed_as_natively() {
    let Some(parts) = Parts::found() else { return };
    let mut guests = built("TOLLGATE_HOSTILE", "plugins/hostile");
    if guests.is_empty() {
        return;
    }
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/wat/many_memories.wat");
    guests.insert("many_memories".to_owned(), wat::parse_file(text).unwrap());
    let event = event();
    let input = RunInput {
        event: &event,
        config_json: "1000",
    };
    let mut wrong = Vec::new();
    for (name, ends) in ends() {
        let [natively_expected, enclosed_expected] = &ends[..] else {
            continue;
        };
        let bytes = &guests[&name];
        let native = SANDBOX.load(bytes).unwrap();
        let fixture = Fixture {
            event: event.clone(),
            config_json: "1000".to_owned(),
            state: BTreeMap::new(),
            expect: None,
        };
        let natively = native
            .run(&input, &Given(&fixture), &limits())
            .outcome
            .name()
            .to_owned();
        let enclosed = parts.enclosed(bytes).outcome(&input, &limits());
        if (&natively, &enclosed) != (natively_expected, enclosed_expected) {
            wrong.push(format!("{name}: {natively} natively, {enclosed} enclosed"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// A component with further sections at its end: `text` is a component whose own counts of components and modules begin where
/// the first one's end.
fn with_more(component: &[u8], text: &str) -> Vec<u8> {
    use wasmparser::{Parser, Payload};
    let (mut depth, mut modules, mut components) = (0, 0, 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } => {
                modules += usize::from(depth == 0);
                depth += 1;
            }
            Payload::ComponentSection { .. } => {
                components += usize::from(depth == 0);
                depth += 1;
            }
            Payload::End(_) if depth > 0 => depth -= 1,
            _ => {}
        }
    }
    let padding = "(core module)".repeat(modules) + &"(component)".repeat(components);
    let more = wat::parse_str(format!("(component {padding} {text})")).unwrap();
    // Magic and version; an empty module or component is a section of ten bytes.
    let own = &more[8 + 10 * (modules + components)..];
    [component, own].concat()
}

const LOOPS_AT_START: &str = "(core module $m (func $l (loop (br 0))) (start $l)) (core instance (instantiate $m))";

/// Rows of `loops.json`: where a loop stands, what a module has beside its function, what the function does, and how it ends.
#[test]
fn loops_end_wherever_they_stand() {
    let Some(parts) = Parts::found() else { return };
    let event = event();
    let input = RunInput {
        event: &event,
        config_json: "{}",
    };
    let check = |what: &str, plugin: &[u8], expected: &str| {
        let enclosed = parts.enclosed(plugin);
        assert_eq!(enclosed.outcome(&input, &limits()), expected, "{what}");
    };
    let rows: Vec<[String; 4]> = serde_json::from_str(include_str!("loops.json")).unwrap();
    for [what, beside, body, expected] in rows {
        check(&what, &component_with(&beside, &body.replace("GOOD", GOOD)), &expected);
    }
    let good = component_with("", GOOD);
    check(
        "in a second core module",
        &with_more(&good, LOOPS_AT_START),
        "out-of-fuel",
    );
    let nested = format!("(component $c {LOOPS_AT_START}) (instance (instantiate $c))");
    // Its meter cannot be asked, so nobody knows why.
    check("in a nested component", &with_more(&good, &nested), "trap");
}

#[test]
fn little_fuel_and_little_memory_end_a_run_and_leave_nothing() {
    let (Some(parts), plugins) = (Parts::found(), built("TOLLGATE_PLUGINS", "plugins")) else {
        return;
    };
    let plugin = &plugins["cashback"];
    let (native, enclosed) = (SANDBOX.load(plugin).unwrap(), parts.enclosed(plugin));
    let mut event = random_event(&mut 3, 1);
    event.as_object_mut().unwrap().remove("amount");
    let json = json!({ "event": event, "config": { "fixed_minor_units": 5, "currency": "USD", "statuses": [event["status"]] } });
    let fixture = Fixture::from_json(json.to_string().as_bytes()).unwrap();
    let run = same("cashback", &native, &enclosed, &fixture);
    assert_eq!((run.outcome.name(), run.writes.len()), ("completed", 1));
    let input = RunInput {
        event: &fixture.event,
        config_json: &fixture.config_json,
    };
    let mut least = None;
    for step in 0..40 {
        let limits = RunLimits {
            fuel: run.fuel * step / 20,
            ..limits()
        };
        let answer = enclosed.run(&input, &fixture.state, &limits).unwrap();
        match name_of(&answer).as_str() {
            "completed" => least = least.or(Some(step)),
            "out-of-fuel" => {
                assert_eq!(least, None, "more fuel than was enough is not enough");
                assert_eq!(answer["writes"], json!([]), "{answer}");
            }
            other => panic!("with {} fuel: {other}", limits.fuel),
        }
    }
    assert!(
        matches!(least, Some(20 | 21)),
        "natively {} fuel; {least:?} twentieths",
        run.fuel
    );
    let limits = RunLimits {
        memory_bytes_max: 65536,
        ..limits()
    };
    assert_eq!(enclosed.outcome(&input, &limits), "memory");
}

#[test]
fn a_meter_begins_with_the_limits_of_a_run() {
    assert_eq!(meter::START_FUEL.unsigned_abs(), bounds::RUN_FUEL);
    assert_eq!(
        meter::START_MEMORY_BYTES,
        i64::try_from(bounds::RUN_MEMORY_BYTES_MAX).unwrap()
    );
}

#[test]
fn enclosing_twice_gives_the_same_bytes_and_the_authors_digest() {
    let (Some(parts), plugins) = (Parts::found(), built("TOLLGATE_PLUGINS", "plugins")) else {
        return;
    };
    for (name, plugin) in &plugins {
        let enclosed = enclose(parts.kit(), plugin).unwrap();
        assert!(enclosed == enclose(parts.kit(), plugin).unwrap(), "{name}");
        assert!(plugin_of(&enclosed) == Ok(plugin.as_slice()), "{name}");
        assert_eq!(
            tollgate_enclose::digest(plugin_of(&enclosed).unwrap()),
            SANDBOX.load(plugin).unwrap().digest().to_string()
        );
    }
}

#[test]
fn what_is_not_on_this_budget_is_no_enclosed_plugin() {
    let Some(parts) = Parts::found() else { return };
    let plugin = component_with("", GOOD);
    let enclosed = enclose(parts.kit(), &plugin).unwrap();
    let place = |what: &[u8]| enclosed.windows(what.len()).position(|window| window == what).unwrap();
    // The author's plugin travels last; what runs stands between the host calls and the caller.
    let runs = 8 + parts.host_calls.len()..enclosed.len() - plugin.len();
    let mut refused = 0;
    for at in runs.step_by(997) {
        let mut tampered = enclosed.clone();
        tampered[at] ^= 1;
        refused += 1;
        let opened = plugin_of(&tampered);
        let in_caller = opened.is_ok();
        // Host calls and caller are another's to compare, who encloses anew with their own.
        if in_caller {
            assert!(enclose(parts.kit(), opened.unwrap()).unwrap() != tampered, "byte {at}");
        }
    }
    assert!(refused > 10);
    // Each byte of the metered plugin.
    let version = place(meter::SECTION.as_bytes()) + meter::SECTION.len();
    let mut older = enclosed.clone();
    older[version] ^= 2;
    assert!(matches!(plugin_of(&older), Err(EncloseError::NotEnclosed { .. })));
    // The plugin itself in the place of the metered one, everything else as it was.
    let unmetered = {
        let other = component_with("", "(loop (br 0)) (i32.const 1024)");
        let with_other = enclose(parts.kit(), &other).unwrap();
        let carried = with_other.len() - other.len();
        [&with_other[..carried], &plugin].concat()
    };
    assert!(plugin_of(&unmetered).is_err());
}

/// What the meter costs a run: the same component with and without it, on an engine that counts nothing itself. Of each the least of
/// many runs is taken: what else the machine does makes no run shorter.
#[expect(clippy::print_stdout, reason = "the figures of docs/spin.md")]
#[test]
fn the_meter_costs_a_run_at_most_a_third() {
    use std::time::{Duration, Instant};
    use wasmtime::component::Val;

    const RUNS: usize = 100;
    let engine = Engine::new(Config::new().wasm_multi_memory(true)).unwrap();
    let compiled = |bytes: &[u8]| {
        let component = Component::new(&engine, bytes).unwrap();
        let mut linker: Linker<()> = Linker::new(&engine);
        let mut state = linker.instance("tollgate:plugin/state@1.0.0").unwrap();
        state
            .func_new("get", |_, _, _, results| {
                results[0] = Val::Option(None);
                Ok(())
            })
            .unwrap();
        for name in ["set", "delete"] {
            state.func_new(name, |_, _, _, _| Ok(())).unwrap();
        }
        let mut log = linker.instance("tollgate:plugin/log@1.0.0").unwrap();
        log.func_new("write", |_, _, _, _| Ok(())).unwrap();
        linker.define_unknown_imports_as_traps(&component).unwrap();
        linker.instantiate_pre(&component).unwrap()
    };
    // The least time of a run, plain and metered, in nanoseconds.
    let least = |both: &[wasmtime::component::InstancePre<()>; 2], arguments: &[Val]| {
        let mut least = [Duration::MAX; 2];
        for _ in 0..RUNS {
            for (pre, least) in both.iter().zip(&mut least) {
                let mut store = Store::new(&engine, ());
                let instance = pre.instantiate(&mut store).unwrap();
                let handler = "tollgate:plugin/handler@1.0.0";
                let handler = instance.get_export_index(&mut store, None, handler).unwrap();
                let process = instance
                    .get_export_index(&mut store, Some(&handler), "process")
                    .unwrap();
                let process = instance.get_func(&mut store, process).unwrap();
                let mut answer = [Val::Bool(false)];
                let start = Instant::now();
                process.call(&mut store, arguments, &mut answer).unwrap();
                *least = (*least).min(start.elapsed());
                assert!(matches!(answer[0], Val::Result(_)), "{answer:?}");
            }
        }
        least.map(|time| time.as_nanos())
    };
    let both = |bytes: &[u8]| [compiled(bytes), compiled(&meter::metered(bytes).unwrap())];
    let shipped = built("TOLLGATE_PLUGINS", "plugins");
    let mut all = [0, 0];
    for (name, configs) in CONFIGS {
        let Some(bytes) = shipped.get(name) else { continue };
        let (both, mut seed, mut of_plugin) = (both(bytes), 7, [0, 0]);
        for at in 0..8 {
            let mut event = random_event(&mut seed, at);
            // So long that the time is the plugin's own, and not what it takes to call it.
            let line =
                |at: u64| json!({ "sku": format!("sku-{at}"), "quantity": at, "price": { "minor_units": at * 7 } });
            event["payload"]["lines"] = (0..400).map(line).collect();
            let json = json!({ "event": event });
            let fixture = Fixture::from_json(json.to_string().as_bytes()).unwrap();
            let arguments = [values(&fixture.event), Val::String(configs[0].to_owned())];
            let took = least(&both, &arguments);
            of_plugin = [of_plugin[0] + took[0], of_plugin[1] + took[1]];
        }
        println!(
            "{name}: {} ns plain, {} ns metered, for 8 events",
            of_plugin[0], of_plugin[1]
        );
        all = [all[0] + of_plugin[0], all[1] + of_plugin[1]];
    }
    // The worst that there is: a loop of a few instructions, whose end is looked at in each turn.
    if let Some(burn) = built("TOLLGATE_HOSTILE", "plugins/hostile").get("burn") {
        let [plain, metered] = least(&both(burn), &[values(&event()), Val::String("1000000".to_owned())]);
        println!("a million turns of a tight loop: {plain} ns plain, {metered} ns metered");
    }
    if all[0] > 0 {
        let price = all[1] as f64 / all[0] as f64;
        println!("the shipped plugins: {price:.3} x");
        assert!(price <= 1.33, "{price:.3} x");
    }
}

fn values(event: &Event) -> wasmtime::component::Val {
    use wasmtime::component::Val;
    let some = |text: Option<String>| Val::Option(text.map(|text| Box::new(Val::String(text))));
    let money = |amount: tollgate_core::money::Money| {
        Box::new(Val::Record(vec![
            ("minor-units".to_owned(), Val::S64(amount.minor_units())),
            (
                "currency".to_owned(),
                Val::String(amount.currency().as_str().to_owned()),
            ),
        ]))
    };
    let attributes = event
        .attributes
        .iter()
        .map(|(name, value)| Val::Tuple(vec![Val::String(name.to_string()), Val::String(value.to_string())]));
    let fields = [
        ("tenant", Val::String(event.tenant.to_string())),
        ("source", Val::String(event.source.to_string())),
        ("id", Val::String(event.id.to_string())),
        ("event-type", Val::String(event.event_type.to_string())),
        ("subject", some(event.subject.as_ref().map(ToString::to_string))),
        ("family", some(event.reading.family().map(ToString::to_string))),
        ("status", some(event.reading.status().map(ToString::to_string))),
        (
            "occurred-at-ms",
            Val::Option(event.occurred_at.map(|at| Box::new(Val::S64(at.0)))),
        ),
        ("received-at-ms", Val::S64(event.received_at.0)),
        ("amount", Val::Option(event.amount.map(money))),
        ("attributes", Val::List(attributes.collect())),
        (
            "payload",
            Val::String(String::from_utf8_lossy(&event.payload).into_owned()),
        ),
    ];
    Val::Record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}
