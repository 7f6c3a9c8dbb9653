//! Guests, and what a run needs around one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use tollgate_core::event::{Event, StatusReading};
use tollgate_core::ids::{EventId, EventType, FamilyName, SourceName, Status, Subject, TenantName};
use tollgate_core::money::{Currency, Money};
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;
use tollgate_sandbox::{Plugin, Run, RunInput, RunLimits, Sandbox, SandboxOptions, StateSource};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve};

pub(crate) const MANIFEST: &str =
    r#"{"name":"guest","version":"1.0.0","publisher":"tests","events":["*"],"actions":["flag"],"state":true}"#;

/// What every guest has: the imports, memory, an allocator that never frees, and at address 1024 an answer: one flag with score
/// 7 on the subject `s`, under the key `k:1`.
const PRELUDE: &str = r#"
  (import "tollgate:plugin/state@1.0.0" "get" (func $get (param i32 i32 i32)))
  (import "tollgate:plugin/state@1.0.0" "set" (func $set (param i32 i32 i32 i32)))
  (import "tollgate:plugin/state@1.0.0" "delete" (func $delete (param i32 i32)))
  (import "tollgate:plugin/log@1.0.0" "write" (func $log (param i32 i32 i32)))
  (memory $memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (data (i32.const 1024) "\00\00\00\00\00\00\00\00\40\04\00\00\01\00\00\00")
  (data (i32.const 1088) "\d0\07\00\00\03\00\00\00\05\00\00\00\00\00\00\00\da\07\00\00\01\00\00\00\07\00\00\00")
  (data (i32.const 2000) "k:1")
  (data (i32.const 2010) "s")
"#;

/// The body of `process` that gives the prelude's answer.
pub(crate) const GOOD: &str = "(i32.const 1024)";

/// A component whose `process` has this body; `more` are further fields of its core module.
pub(crate) fn component_with(more: &str, body: &str) -> Vec<u8> {
    in_world("", "tollgate:plugin/processor@1.0.0", &core(more, body), Some(MANIFEST))
}

pub(crate) fn component(body: &str) -> Vec<u8> {
    component_with("", body)
}

/// The fields of a well-formed core module.
pub(crate) fn core(more: &str, body: &str) -> String {
    core_importing("", more, body)
}

/// The same with further imports, which come first.
pub(crate) fn core_importing(imports: &str, more: &str, body: &str) -> String {
    format!(
        r#"{imports} {PRELUDE} {more}
        (func $process (export "tollgate:plugin/handler@1.0.0#process") (param $arguments i32) (result i32) {body})"#
    )
}

/// A component of any world. `wit` is a package of its own (or empty) beside the contract's, `world` a full name.
pub(crate) fn in_world(wit: &str, world: &str, core: &str, manifest: Option<&str>) -> Vec<u8> {
    let manifest = manifest.map(|json| format!(r#"(@custom "tollgate:manifest" "{}")"#, json.replace('"', "\\\"")));
    let mut module = wat::parse_str(format!("(module {core} {})", manifest.unwrap_or_default())).unwrap();
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/tollgate.wit");
    let mut packages: Vec<PackageId> = Vec::new();
    if !wit.contains("package tollgate:plugin") {
        packages.push(
            resolve
                .push_source("tollgate.wit", &std::fs::read_to_string(contract).unwrap())
                .unwrap(),
        );
    }
    if !wit.is_empty() {
        for part in wit.split("---") {
            packages.push(resolve.push_source("test.wit", part).unwrap());
        }
    }
    let world = resolve.select_world(&packages, Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// One sandbox for most tests: what one guest does must not touch another's run.
pub(crate) static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| Sandbox::new(SandboxOptions::default()).unwrap());

pub(crate) fn load(component: &[u8]) -> Plugin {
    SANDBOX.load(component).unwrap_or_else(|refusal| panic!("{refusal}"))
}

pub(crate) fn event() -> Event {
    Event {
        tenant: TenantName::new("acme").unwrap(),
        source: SourceName::new("rewards").unwrap(),
        id: EventId::new("evt_1").unwrap(),
        event_type: EventType::new("customer.rewarded").unwrap(),
        subject: Some(Subject::new("r_1").unwrap()),
        reading: StatusReading::Mapped {
            family: FamilyName::new("reward-redemption").unwrap(),
            status: Status::new("completed").unwrap(),
        },
        occurred_at: Some(UnixMillis(1_715_603_650_464)),
        received_at: UnixMillis(1_715_603_651_000),
        amount: Money::new(2500, Currency::new("USD").unwrap()),
        attributes: vec![("customer".to_owned(), "cust_1".to_owned())],
        payload: Bytes::from_static(br#"{"id":"evt_1"}"#),
    }
}

/// State in memory. Versions are what the tests say they are.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) values: BTreeMap<&'static str, (i64, Vec<u8>)>,
    pub(crate) reads: Cell<u32>,
    pub(crate) broken: bool,
}

impl StateSource for State {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        self.reads.set(self.reads.get() + 1);
        if self.broken {
            return Err("the disk is gone\nreally".to_owned());
        }
        Ok(match self.values.get(key) {
            Some((version, value)) => StateValue {
                version: *version,
                value: Some(value.clone()),
            },
            None => StateValue {
                version: 0,
                value: None,
            },
        })
    }
}

/// The default limits with time to spare: on a busy machine a test must end by the bound that it is about.
pub(crate) fn limits() -> RunLimits {
    RunLimits {
        deadline_ms: 120_000,
        ..RunLimits::default()
    }
}

pub(crate) fn run(plugin: &Plugin, limits: &RunLimits) -> Run {
    run_with(plugin, &State::default(), limits)
}

pub(crate) fn run_with(plugin: &Plugin, state: &State, limits: &RunLimits) -> Run {
    plugin.run(
        &RunInput {
            event: &event(),
            config_json: r#"{"rate":5}"#,
        },
        state,
        limits,
    )
}
