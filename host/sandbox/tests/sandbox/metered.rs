//! What enclosing does to core modules, against the modules as they were: random ones and written ones, the same calls on both,
//! the same results, memories and counts. wasmtime's own fuel watches over what is metered, so that a loop which the meter does
//! not see fails the test and does not hang it.

use std::sync::LazyLock;

use arbitrary::Unstructured;
use tollgate_enclose::meter;
use wasmtime::{
    AsContext as _, Config, Engine, Extern, ExternType, Func, Instance, Linker, Module, Store, StoreLimits,
    StoreLimitsBuilder, Trap, Val, ValType,
};

/// What a run may natively; random modules that loop end here.
const FUEL: u64 = 300_000;
const AMPLE: i64 = 1_000_000_000;
/// More than a module can ask for: growing fails as it does natively.
const AMPLE_MEMORY: i64 = 1 << 60;
const MEMORY_BYTES: usize = 4 * 1024 * 1024;
/// Random modules, of a dozen functions or fewer each.
const MODULES: u64 = 120;
/// What wasmtime counts for making an instance.
const INSTANCE_FUEL: u64 = 2;

/// As the sandbox's, but for the pool.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .wasm_multi_memory(true)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .cranelift_nan_canonicalization(true)
        .native_unwind_info(false);
    Engine::new(&config).unwrap()
});

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Results(Vec<String>),
    Trap(String),
    /// wasmtime's fuel was gone.
    Watchdog,
    /// Recursion: how deep one comes depends on the frames' size.
    Stack,
}

fn end_of(error: &wasmtime::Error) -> End {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => End::Watchdog,
        Some(Trap::StackOverflow) => End::Stack,
        Some(trap) => End::Trap(trap.to_string()),
        None => panic!("no trap: {error:#}"),
    }
}

/// A module's instance, metered or not.
struct Running {
    store: Store<StoreLimits>,
    instance: Instance,
    meter: Option<Instance>,
}

impl Running {
    fn store(watchdog: u64) -> Store<StoreLimits> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build();
        let mut store = Store::new(&ENGINE, limits);
        store.limiter(|limits| limits);
        store.set_fuel(watchdog).unwrap();
        store
    }

    fn native(module: &[u8]) -> Result<Self, End> {
        Self::natively(&Module::new(&ENGINE, module).unwrap())
    }

    fn natively(module: &Module) -> Result<Self, End> {
        let mut store = Self::store(FUEL);
        let instance = Instance::new(&mut store, module, &[]).map_err(|error| end_of(&error))?;
        Ok(Self {
            store,
            instance,
            meter: None,
        })
    }

    /// The watchdog bites late: it counts the meter's own instructions as well.
    fn metered(module: &[u8], fuel: i64, watchdog: u64) -> Result<Self, End> {
        let metered = Module::new(&ENGINE, meter::core_module(module).unwrap()).unwrap();
        Self::on_budget(&metered, fuel, watchdog)
    }

    fn on_budget(metered: &Module, fuel: i64, watchdog: u64) -> Result<Self, End> {
        let mut store = Self::store(watchdog);
        let budget = Module::new(&ENGINE, meter::budget()).unwrap();
        let meter = Instance::new(&mut store, &budget, &[]).unwrap();
        let mut linker = Linker::new(&ENGINE);
        linker.instance(&mut store, meter::MODULE, meter).unwrap();
        let begin = meter.get_typed_func::<(i64, i64), ()>(&mut store, "begin").unwrap();
        begin.call(&mut store, (fuel, AMPLE_MEMORY)).unwrap();
        let instance = linker
            .instantiate(&mut store, metered)
            .map_err(|error| end_of(&error))?;
        Ok(Self {
            store,
            instance,
            meter: Some(meter),
        })
    }

    fn functions(&mut self) -> Vec<(String, Func)> {
        let exports: Vec<_> = self
            .instance
            .exports(&mut self.store)
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .collect();
        exports
            .into_iter()
            .filter_map(|(name, export)| Some((name, export.into_func()?)))
            .collect()
    }

    fn call(&mut self, function: &Func, seed: u64) -> End {
        let ty = function.ty(self.store.as_context());
        let mut seed = seed;
        let arguments: Vec<_> = ty.params().map(|ty| argument(&ty, next(&mut seed))).collect();
        let mut results = vec![Val::I32(0); ty.results().len()];
        match function.call(&mut self.store, &arguments, &mut results) {
            Ok(()) => End::Results(results.iter().map(shown).collect()),
            Err(error) => end_of(&error),
        }
    }

    /// Everything that can be seen of an instance from outside.
    fn contents(&mut self) -> Vec<String> {
        let exports: Vec<_> = self
            .instance
            .exports(&mut self.store)
            .map(|export| (export.name().to_owned(), export.into_extern()))
            .collect();
        let mut seen = Vec::new();
        for (name, export) in exports {
            seen.push(match export {
                Extern::Global(global) => format!("{name}: {}", shown(&global.get(&mut self.store))),
                Extern::Memory(memory) => format!(
                    "{name}: {} bytes, {:08x}",
                    memory.data_size(&self.store),
                    fingerprint(memory.data(&self.store))
                ),
                Extern::Table(table) => format!("{name}: {} elements", table.size(&self.store)),
                _ => continue,
            });
        }
        seen
    }

    /// Fuel as the meter counts it, or as wasmtime does.
    fn used(&mut self) -> u64 {
        match self.meter {
            None => FUEL - self.store.get_fuel().unwrap(),
            Some(meter) => {
                let used = meter.get_typed_func::<(), i64>(&mut self.store, "fuel-used").unwrap();
                used.call(&mut self.store, ()).unwrap().unsigned_abs()
            }
        }
    }

    fn ended_by(&mut self) -> i32 {
        let meter = self.meter.unwrap();
        let ended = meter.get_typed_func::<(), i32>(&mut self.store, "ended-by").unwrap();
        ended.call(&mut self.store, ()).unwrap()
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// splitmix64.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn argument(ty: &ValType, bits: u64) -> Val {
    // Small numbers are addresses more often than large ones are.
    let small = bits % 1000;
    let bits = if bits & 0x1000 == 0 { small } else { bits };
    match ty {
        ValType::I32 => Val::I32(bits as i32),
        ValType::I64 => Val::I64(bits as i64),
        ValType::F32 => Val::F32((bits as f32).to_bits()),
        ValType::F64 => Val::F64((bits as f64).to_bits()),
        ValType::V128 => Val::V128(u128::from(bits).into()),
        ValType::Ref(_) => Val::FuncRef(None),
    }
}

fn shown(value: &Val) -> String {
    match value {
        Val::FuncRef(function) => format!("function: {}", function.is_some()),
        other => format!("{other:?}"),
    }
}

/// A random module that needs nothing from outside, or `None` where the seed gives none.
fn random_module(seed: u64) -> Option<Vec<u8>> {
    let mut bits = seed;
    let bytes: Vec<u8> = (0..3000).flat_map(|_| next(&mut bits).to_le_bytes()).collect();
    let config = wasm_smith::Config {
        allow_start_export: true,
        bulk_memory_enabled: true,
        custom_descriptors_enabled: false,
        // What traps ends early; half of them go on.
        disallow_traps: seed.is_multiple_of(2),
        exceptions_enabled: false,
        export_everything: true,
        gc_enabled: false,
        max_imports: 0,
        max_funcs: 12,
        min_funcs: 3,
        max_instructions: 300,
        max_memories: 2,
        min_memories: 1,
        max_memory32_bytes: 2 * 1024 * 1024,
        memory64_enabled: false,
        multi_value_enabled: true,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        simd_enabled: true,
        max_table_elements: 1000,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    };
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(&bytes)).ok()?;
    Some(module.to_bytes())
}

/// What was seen of a module's calls.
#[derive(Debug, Default)]
struct Seen {
    calls: u32,
    results: u32,
    traps: u32,
    endless: u32,
    cut_short: u32,
    fuel: u64,
}

/// Calls each function of a module natively and metered, each in new instances, and compares all that can be seen.
fn same_with_ample_fuel(module: &[u8], seed: u64, seen: &mut Seen) {
    let plain = Module::new(&ENGINE, module).unwrap();
    let metered = Module::new(&ENGINE, meter::core_module(module).unwrap()).unwrap();
    for at in 0.. {
        let native = Running::natively(&plain);
        let on_budget = Running::on_budget(&metered, AMPLE, FUEL * 20);
        let (mut native, mut on_budget) = match (native, on_budget) {
            (Ok(native), Ok(on_budget)) => (native, on_budget),
            (Err(End::Watchdog | End::Stack), _) => return,
            (native, on_budget) => {
                return assert_eq!(native.err(), on_budget.err(), "module {seed}: its start");
            }
        };
        // Start functions are counted as any other.
        let started = (native.used(), on_budget.used());
        assert!(
            started.0.abs_diff(started.1) <= INSTANCE_FUEL,
            "module {seed}: fuel of its start: {started:?}"
        );
        let (functions, others) = (native.functions(), on_budget.functions());
        let (Some((name, function)), Some((_, other))) = (functions.get(at), others.get(at)) else {
            return assert_eq!(functions.len(), others.len(), "module {seed}");
        };
        let arguments = seed.wrapping_mul(1000) + at as u64;
        seen.calls += 1;
        let expected = native.call(function, arguments);
        if matches!(expected, End::Watchdog | End::Stack) {
            seen.endless += 1;
            continue;
        }
        let found = on_budget.call(other, arguments);
        assert_eq!((&expected, 0), (&found, on_budget.ended_by()), "module {seed}, {name}");
        match expected {
            End::Results(_) => {
                let (plain, counted) = (native.used() - started.0, on_budget.used() - started.1);
                seen.results += 1;
                seen.fuel += plain;
                assert_eq!(plain, counted, "module {seed}, {name}: fuel");
            }
            _ => seen.traps += 1,
        }
        assert_eq!(native.contents(), on_budget.contents(), "module {seed}, after {name}");
    }
}

/// Calls each function with less fuel than it may want: each call ends soon, whatever the module does.
fn ends_with_little_fuel(module: &[u8], seed: u64, seen: &mut Seen) {
    for budget in [0, 1, 17, 300, 5000] {
        // What one unit of budget may cost at most, instrumentation included, and what each call costs before it looks.
        let watchdog = 200_000 + 40 * budget;
        let mut metered = match Running::metered(module, i64::try_from(budget).unwrap(), watchdog) {
            Ok(metered) => metered,
            Err(End::Watchdog) => panic!("module {seed}: its start goes on with {budget} fuel"),
            Err(_) => continue,
        };
        for (at, (name, function)) in metered.functions().into_iter().enumerate() {
            let was_ended = metered.ended_by() != 0;
            let end = metered.call(&function, seed.wrapping_mul(1000) + at as u64);
            assert_ne!(end, End::Watchdog, "module {seed}, {name} goes on with {budget} fuel");
            if metered.ended_by() != 0 {
                seen.cut_short += 1;
                let zero = |shown: &String| shown.ends_with("(0)") || shown.ends_with("false");
                // Whoever is called after the end does nothing, and traps no more.
                let is_nothing = matches!(&end, End::Results(results) if results.iter().all(zero));
                assert!(!was_ended || is_nothing, "module {seed}, {name} after its end: {end:?}");
            }
        }
    }
}

#[test]
fn metered_modules_do_what_they_did_and_count_what_wasmtime_counts() {
    let mut seen = Seen::default();
    for seed in 0..MODULES {
        if let Some(module) = random_module(seed) {
            same_with_ample_fuel(&module, seed, &mut seen);
        }
    }
    assert!(
        seen.results > 80 && seen.traps > 40 && seen.fuel > 3000,
        "too little was seen: {seen:?}"
    );
}

#[test]
fn metered_modules_end_soon_with_little_fuel_whatever_they_do() {
    let mut seen = Seen::default();
    for seed in 0..MODULES / 2 {
        if let Some(module) = random_module(seed) {
            ends_with_little_fuel(&module, seed, &mut seen);
        }
    }
    assert!(seen.cut_short > 200, "too little was seen: {seen:?}");
}

/// Modules with what random ones seldom have, each with a function `run` of one number that goes on for so long.
const WRITTEN: [(&str, &str); 9] = [
    (
        "a loop",
        "(func (export \"run\") (param i32) (result i32) (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))) (local.get 0))",
    ),
    (
        "a loop by table",
        "(func (export \"run\") (param i32) (result i32)
           (loop $l (block $out (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
             (br_table $l $out (i32.eqz (local.get 0))))) (local.get 0))",
    ),
    (
        "a loop with values",
        "(func (export \"run\") (param i32) (result i32) (local.get 0)
           (loop (param i32) (result i32) (i32.sub (i32.const 1)) (local.tee 0) (local.get 0) (br_if 0)))",
    ),
    (
        "recursion",
        "(func $run (export \"run\") (param i32) (result i32)
           (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 7))
             (else (i32.add (i32.const 1) (call $run (i32.sub (local.get 0) (i32.const 1)))))))",
    ),
    (
        "calls through a table",
        "(table 1 funcref) (elem (i32.const 0) $step) (type $t (func (param i32) (result i32)))
         (func $step (param i32) (result i32) (i32.sub (local.get 0) (i32.const 1)))
         (func (export \"run\") (param i32) (result i32)
           (loop (br_if 0 (local.tee 0 (call_indirect (type $t) (local.get 0) (i32.const 0))))) (local.get 0))",
    ),
    (
        "filling memory",
        "(memory 4) (func (export \"run\") (param i32) (result i32)
           (memory.fill (i32.const 16) (i32.const 255) (i32.mul (local.get 0) (i32.const 100))) (i32.load (i32.const 20)))",
    ),
    (
        "copying memory",
        "(memory 4) (data (i32.const 0) \"abcdefgh\") (func (export \"run\") (param i32) (result i32)
           (memory.copy (i32.const 4) (i32.const 0) (i32.mul (local.get 0) (i32.const 100))) (i32.load (i32.const 4)))",
    ),
    (
        "a start",
        "(memory 1) (global $n (mut i32) (i32.const 900)) (start $s)
         (func $s (loop (i32.store (i32.const 8) (i32.const 5)) (br_if 0 (global.set $n (i32.sub (global.get $n) (i32.const 1))) (global.get $n))))
         (func (export \"run\") (param i32) (result i32) (i32.load (i32.const 8)))",
    ),
    (
        "growing",
        "(memory $a 1 30) (memory $b 1 30) (func (export \"run\") (param i32) (result i32)
           (loop (br_if 0 (i32.and (i32.gt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0))
             (i32.and (i32.ne (memory.grow $a (i32.const 1)) (i32.const -1)) (i32.ne (memory.grow $b (i32.const 2)) (i32.const -1))))))
           (i32.add (memory.size $a) (i32.mul (memory.size $b) (i32.const 1000))))",
    ),
];

#[test]
fn each_kind_of_work_counts_as_natively_and_ends_where_its_fuel_does() {
    for (what, text) in WRITTEN {
        let module = wat::parse_str(format!("(module {text})")).unwrap();
        let run = |running: &mut Running| {
            let run = running
                .functions()
                .into_iter()
                .find(|(name, _)| name == "run")
                .unwrap()
                .1;
            let mut results = [Val::I32(0)];
            match run.call(&mut running.store, &[Val::I32(500)], &mut results) {
                Ok(()) => End::Results(results.iter().map(shown).collect()),
                Err(error) => end_of(&error),
            }
        };
        let mut native = Running::native(&module).unwrap_or_else(|end| panic!("{what}: {end:?}"));
        let expected = run(&mut native);
        assert!(matches!(expected, End::Results(_)), "{what}: {expected:?}");
        let used = native.used();
        let mut metered = Running::metered(&module, AMPLE, FUEL * 20).unwrap();
        assert_eq!(run(&mut metered), expected, "{what}");
        let tolerance = if what == "a start" { INSTANCE_FUEL } else { 0 };
        assert!(
            metered.used().abs_diff(used) <= tolerance,
            "{what}: {used}, {}",
            metered.used()
        );
        let used = metered.used();
        // With exactly what it needs it comes to its end; with one less it does not, and whoever asks is told why.
        for (fuel, ended_by) in [(used, 0), (used - 1, 1), (used / 2, 1), (1, 1)] {
            let fuel = i64::try_from(fuel).unwrap();
            let mut metered = Running::metered(&module, fuel, FUEL * 20).unwrap();
            let end = run(&mut metered);
            assert_eq!(metered.ended_by(), ended_by, "{what} with {fuel} of {used} fuel");
            if ended_by == 0 {
                assert_eq!(end, expected, "{what}");
            }
        }
    }
}

#[test]
fn all_memories_together_stay_within_the_limit() {
    let (_, text) = WRITTEN[8];
    let module = wat::parse_str(format!("(module {text})")).unwrap();
    let mut metered = Running::metered(&module, AMPLE, FUEL * 20).unwrap();
    let begin = metered
        .meter
        .unwrap()
        .get_typed_func::<(i64, i64), ()>(&mut metered.store, "begin")
        .unwrap();
    // Ten pages may be added: three times one and two, and then one.
    begin.call(&mut metered.store, (AMPLE, 10 * 65536)).unwrap();
    let run = metered
        .functions()
        .into_iter()
        .find(|(name, _)| name == "run")
        .unwrap()
        .1;
    let mut results = [Val::I32(1)];
    run.call(&mut metered.store, &[Val::I32(500)], &mut results).unwrap();
    assert_eq!((metered.ended_by(), shown(&results[0])), (2, "I32(0)".to_owned()));
}

#[test]
fn nothing_of_the_budget_can_be_named_by_the_author() {
    for import in ["(global (mut i64))", "(func)"] {
        let text = format!("(module (import \"tollgate:meter\" \"fuel\" {import}))");
        let error = meter::core_module(&wat::parse_str(text).unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("it uses the name `tollgate:meter`"),
            "{error}"
        );
    }
    // What is exported is what was exported: no global of the budget is among it.
    let module =
        wat::parse_str("(module (global (export \"g\") (mut i64) (i64.const 5)) (memory (export \"m\") 1))").unwrap();
    let metered = Module::new(&ENGINE, meter::core_module(&module).unwrap()).unwrap();
    let exports: Vec<_> = metered.exports().map(|export| export.name().to_owned()).collect();
    assert_eq!(exports, ["g", "m"]);
    let imports: Vec<_> = metered
        .imports()
        .map(|import| (import.module().to_owned(), matches!(import.ty(), ExternType::Global(_))))
        .collect();
    assert!(
        imports
            .iter()
            .all(|(module, is_global)| module == meter::MODULE && *is_global)
    );
    let mut running = Running::metered(&module, 1000, FUEL).unwrap();
    assert_eq!(running.contents()[0], "g: I64(5)");
}
