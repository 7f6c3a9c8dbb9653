//! Puts a plugin on a budget, because Spin counts no fuel and stops no guest.
//!
//! Every core module of the component is written anew: it counts what it does, as wasmtime counts fuel natively, and ends
//! when its budget is used up. An end is no trap, since a trap would take its reason with it: each function returns at once
//! with zeros, until the caller is reached, which then asks the meter. Until that, nothing more of the plugin runs.
//!
//! Budget and reason are globals of a module of our own. The component's modules import them; the author's code has no index
//! that reaches them, and what it would need to name them is refused. Modules of a nested component count on a budget of their
//! own, whose end is a trap: their meter cannot be asked from outside.
//!
//! The same bytes always give the same result. What is written here decides what a budget is worth: change [`VERSION`] with it.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{self, Reencode, ReencodeComponent, component_utils, utils};
use wasm_encoder::{
    Alias, BlockType, CanonicalFunctionSection, CodeSection, Component, ComponentAliasSection, ComponentExportKind,
    ComponentExportSection, ComponentInstanceSection, ComponentTypeSection, ConstExpr, CustomSection, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, ImportSection, InstanceSection,
    Instruction as I, Module, ModuleArg, ModuleSection, PrimitiveValType, RawSection, SectionId, TypeSection, ValType,
};
use wasmparser::{
    CompositeInnerType, Encoding, ExternalKind, Operator, Parser, Payload, TypeRef, Validator, WasmFeatures,
};

use crate::EncloseError;

/// The custom section that says by which version a component was metered.
pub const SECTION: &str = "tollgate:metered";
/// The version of the rewriting.
pub const VERSION: &str = "1";
/// What a metered component exports beside the plugin's own.
pub(crate) const METER: &str = "tollgate:runner/meter@1.0.0";
/// What its modules import.
pub const MODULE: &str = "tollgate:meter";

/// The fuel of whatever runs before a budget is given: start functions. The native default of a run.
pub const START_FUEL: i64 = 200_000_000;
/// The memory that may be there before a budget is given. The native default of a run.
pub const START_MEMORY_BYTES: i64 = 64 * 1024 * 1024;

const PAGE_BYTES: i64 = 65536;
/// What a table's element takes of the memory bound, in bytes: as natively, a pointer.
const TABLE_ELEMENT_BYTES: i64 = 8;
/// What is wiped at the front of a memory when a run is ended: the answer that is read there is an empty one.
const ANSWER_BYTES: i32 = 256;

/// As the meter module numbers them, and as they are imported, in this order.
const GLOBALS: [(&str, ValType); 3] = [
    ("fuel", ValType::I64),
    ("memory", ValType::I64),
    ("fault", ValType::I32),
];
const FAULT_MEMORY: i32 = 2;

type Result<T> = std::result::Result<T, EncloseError>;
type Reencoded<T> = std::result::Result<T, reencode::Error<EncloseError>>;

fn cannot(why: impl Into<String>) -> EncloseError {
    EncloseError::CannotMeter { why: why.into() }
}

fn of_reencode(error: reencode::Error<EncloseError>) -> EncloseError {
    match error {
        reencode::Error::UserError(error) => error,
        other => cannot(other.to_string()),
    }
}

fn of_parser(error: wasmparser::Error) -> EncloseError {
    cannot(error.to_string())
}

/// What the sandbox lets plugins use, and no more: each of these is known to be counted.
fn features() -> WasmFeatures {
    WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::FLOATS
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::GC_TYPES
        | WasmFeatures::COMPONENT_MODEL
}

/// The component with every core module metered, and the meter among its exports.
///
/// # Errors
/// When it is no valid component, or has what cannot be metered: modules that are imported, exported or taken from outside.
pub fn metered(component: &[u8]) -> Result<Vec<u8>> {
    Validator::new_with_features(features())
        .validate_all(component)
        .map_err(of_parser)?;
    let bytes = rewrite(component, Place::Outermost)?;
    Validator::new_with_features(features())
        .validate_all(&bytes)
        .map_err(|error| cannot(format!("what came of it is not valid: {error}")))?;
    Ok(bytes)
}

/// Where a component stands decides what the end of its budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its meter is asked: functions return.
    Outermost,
    /// A trap, where nobody could ask for the reason.
    Nested,
}

fn rewrite(component: &[u8], place: Place) -> Result<Vec<u8>> {
    let census = Census::of(component)?;
    let mut out = Component::new();
    out.section(&ModuleSection(&meter_module(census.memory_bytes)));
    let mut instances = InstanceSection::new();
    instances.instantiate::<_, &str>(0, []);
    out.section(&instances);
    ComponentMeter { place }
        .parse_component(&mut out, Parser::new(0), component)
        .map_err(of_reencode)?;
    if place == Place::Outermost {
        export_meter(&mut out, &census);
        out.section(&CustomSection {
            name: SECTION.into(),
            data: VERSION.as_bytes().into(),
        });
    }
    Ok(out.finish())
}

/// What a component has of everything that is counted by index, and the memory that its modules begin with.
#[derive(Debug, Default)]
struct Census {
    types: u32,
    functions: u32,
    core_functions: u32,
    instances: u32,
    memory_bytes: i64,
}

impl Census {
    fn of(component: &[u8]) -> Result<Self> {
        let mut census = Self::default();
        let mut modules = Vec::new();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.map_err(of_parser)?;
            match &payload {
                Payload::ModuleSection { unchecked_range, .. } => {
                    if depth == 0 {
                        modules.push(initial_memory(&component[unchecked_range.clone()])?);
                    }
                    depth += 1;
                }
                Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) if depth > 0 => depth -= 1,
                _ if depth > 0 => {}
                _ => census.count(payload, &modules)?,
            }
        }
        Ok(census)
    }

    fn count(&mut self, payload: Payload<'_>, modules: &[i64]) -> Result<()> {
        use wasmparser::{ComponentAlias, ComponentExternalKind as Kind, ComponentOuterAliasKind, ComponentTypeRef};
        match payload {
            Payload::ComponentTypeSection(section) => self.types += section.count(),
            Payload::ComponentImportSection(section) => {
                for import in section {
                    match import.map_err(of_parser)?.ty {
                        ComponentTypeRef::Func(_) => self.functions += 1,
                        ComponentTypeRef::Type(_) => self.types += 1,
                        ComponentTypeRef::Instance(_) => self.instances += 1,
                        ComponentTypeRef::Module(_) => return Err(cannot("it imports a core module")),
                        ComponentTypeRef::Component(_) | ComponentTypeRef::Value(_) => {}
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    match export.map_err(of_parser)?.kind {
                        Kind::Func => self.functions += 1,
                        Kind::Type => self.types += 1,
                        Kind::Instance => self.instances += 1,
                        Kind::Module => return Err(cannot("it exports a core module")),
                        Kind::Component | Kind::Value => {}
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => self.instances += section.count(),
            Payload::InstanceSection(section) => {
                for instance in section {
                    if let wasmparser::Instance::Instantiate { module_index, .. } = instance.map_err(of_parser)? {
                        // Modules come from nowhere but the component's own sections, so their numbers are these.
                        let bytes = modules.get(module_index as usize).copied();
                        let bytes = bytes.ok_or_else(|| cannot("it makes an instance of a module that it has not"))?;
                        self.memory_bytes = self.memory_bytes.saturating_add(bytes);
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    match alias.map_err(of_parser)? {
                        ComponentAlias::InstanceExport { kind, .. } => match kind {
                            Kind::Func => self.functions += 1,
                            Kind::Type => self.types += 1,
                            Kind::Instance => self.instances += 1,
                            Kind::Module => return Err(cannot("it takes a core module out of an instance")),
                            Kind::Component | Kind::Value => {}
                        },
                        ComponentAlias::CoreInstanceExport { kind, .. } => {
                            self.core_functions += u32::from(kind == ExternalKind::Func);
                        }
                        ComponentAlias::Outer { kind, .. } => match kind {
                            ComponentOuterAliasKind::Type => self.types += 1,
                            ComponentOuterAliasKind::CoreModule => {
                                return Err(cannot("a nested component uses a core module of the one around it"));
                            }
                            ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Component => {}
                        },
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    match function.map_err(of_parser)? {
                        wasmparser::CanonicalFunction::Lift { .. } => self.functions += 1,
                        _ => self.core_functions += 1,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The bytes of the memories and tables that a module begins with.
fn initial_memory(module: &[u8]) -> Result<i64> {
    let mut bytes = 0_i64;
    let mut add = |count: u64, each: i64| {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        bytes = bytes.saturating_add(count.saturating_mul(each));
    };
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(of_parser)? {
            Payload::MemorySection(section) => {
                for memory in section {
                    add(memory.map_err(of_parser)?.initial, PAGE_BYTES);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    add(table.map_err(of_parser)?.ty.initial, TABLE_ELEMENT_BYTES);
                }
            }
            _ => {}
        }
    }
    Ok(bytes)
}

/// The module that holds the budget: three globals that modules import, and three functions for the caller.
fn meter_module(memory_bytes: i64) -> Module {
    const FUEL: u32 = 0;
    const MEMORY: u32 = 1;
    const FAULT: u32 = 2;
    const FUEL_BUDGET: u32 = 3;
    const MEMORY_BUDGET: u32 = 4;
    let mut types = TypeSection::new();
    types.ty().function([ValType::I64, ValType::I64], []);
    types.ty().function([], [ValType::I64]);
    types.ty().function([], [ValType::I32]);
    let mut functions = FunctionSection::new();
    for ty in 0..3 {
        functions.function(ty);
    }
    let is_over = memory_bytes > START_MEMORY_BYTES;
    let mut globals = GlobalSection::new();
    let long = |globals: &mut GlobalSection, value| {
        let ty = GlobalType {
            val_type: ValType::I64,
            mutable: true,
            shared: false,
        };
        globals.global(ty, &ConstExpr::i64_const(value));
    };
    long(&mut globals, if is_over { -1 } else { START_FUEL });
    long(&mut globals, START_MEMORY_BYTES.saturating_sub(memory_bytes));
    let fault = if is_over { FAULT_MEMORY } else { 0 };
    globals.global(
        GlobalType {
            val_type: ValType::I32,
            mutable: true,
            shared: false,
        },
        &ConstExpr::i32_const(fault),
    );
    long(&mut globals, START_FUEL);
    long(&mut globals, START_MEMORY_BYTES);
    let mut exports = ExportSection::new();
    for ((name, _), index) in GLOBALS.into_iter().zip(0..) {
        exports.export(name, ExportKind::Global, index);
    }
    for (name, index) in ["begin", "fuel-used", "ended-by"].into_iter().zip(0..) {
        exports.export(name, ExportKind::Func, index);
    }
    let mut code = CodeSection::new();
    // A budget counts from the beginning of the instance; a run that was ended before stays ended.
    let mut begin = Function::new([]);
    for instruction in [
        I::GlobalGet(FUEL),
        I::I64Const(0),
        I::I64LtS,
        I::If(BlockType::Empty),
        I::Return,
        I::End,
        I::GlobalGet(FUEL),
        I::LocalGet(0),
        I::I64Add,
        I::GlobalGet(FUEL_BUDGET),
        I::I64Sub,
        I::GlobalSet(FUEL),
        I::LocalGet(0),
        I::GlobalSet(FUEL_BUDGET),
        I::GlobalGet(MEMORY),
        I::LocalGet(1),
        I::I64Add,
        I::GlobalGet(MEMORY_BUDGET),
        I::I64Sub,
        I::GlobalSet(MEMORY),
        I::LocalGet(1),
        I::GlobalSet(MEMORY_BUDGET),
        I::GlobalGet(MEMORY),
        I::I64Const(0),
        I::I64LtS,
        I::If(BlockType::Empty),
        I::I32Const(FAULT_MEMORY),
        I::GlobalSet(FAULT),
        I::I64Const(-1),
        I::GlobalSet(FUEL),
        I::End,
        I::End,
    ] {
        begin.instruction(&instruction);
    }
    code.function(&begin);
    let mut used = Function::new([]);
    for instruction in [
        I::GlobalGet(FUEL_BUDGET),
        I::GlobalGet(FUEL),
        I::I64Const(0),
        I::GlobalGet(FUEL),
        I::I64Const(0),
        I::I64GtS,
        I::Select,
        I::I64Sub,
        I::End,
    ] {
        used.instruction(&instruction);
    }
    code.function(&used);
    let mut ended_by = Function::new([]);
    for instruction in [
        I::GlobalGet(FAULT),
        I::GlobalGet(FUEL),
        I::I64Const(0),
        I::I64LtS,
        I::GlobalGet(FAULT),
        I::Select,
        I::End,
    ] {
        ended_by.instruction(&instruction);
    }
    code.function(&ended_by);
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&globals)
        .section(&exports)
        .section(&code);
    module
}

/// Lifts the meter's functions and exports them as an instance.
fn export_meter(out: &mut Component, census: &Census) {
    let mut types = ComponentTypeSection::new();
    types
        .function()
        .params([("fuel", PrimitiveValType::U64), ("memory-bytes", PrimitiveValType::U64)])
        .result(None);
    types
        .function()
        .params::<[(&str, PrimitiveValType); 0], _>([])
        .result(Some(PrimitiveValType::U64.into()));
    types
        .function()
        .params::<[(&str, PrimitiveValType); 0], _>([])
        .result(Some(PrimitiveValType::U32.into()));
    out.section(&types);
    let names = ["begin", "fuel-used", "ended-by"];
    let mut aliases = ComponentAliasSection::new();
    let mut lifted = CanonicalFunctionSection::new();
    let mut items = Vec::new();
    for (name, at) in names.into_iter().zip(0..) {
        aliases.alias(Alias::CoreInstanceExport {
            instance: 0,
            kind: ExportKind::Func,
            name,
        });
        lifted.lift(census.core_functions + at, census.types + at, []);
        items.push((name, ComponentExportKind::Func, census.functions + at));
    }
    out.section(&aliases);
    out.section(&lifted);
    let mut instances = ComponentInstanceSection::new();
    instances.export_items(items);
    out.section(&instances);
    let mut exports = ComponentExportSection::new();
    exports.export(METER, ComponentExportKind::Instance, census.instances, None);
    out.section(&exports);
}

/// Writes a component anew: the meter stands before all, so each core module and core instance moves by one.
struct ComponentMeter {
    place: Place,
}

impl Reencode for ComponentMeter {
    type Error = EncloseError;
}

impl ReencodeComponent for ComponentMeter {
    fn module_index(&mut self, module: u32) -> u32 {
        module + 1
    }

    fn instance_index(&mut self, instance: u32) -> u32 {
        instance + 1
    }

    fn parse_instance(&mut self, instances: &mut InstanceSection, instance: wasmparser::Instance<'_>) -> Reencoded<()> {
        let wasmparser::Instance::Instantiate { module_index, args } = instance else {
            return component_utils::parse_instance(self, instances, instance);
        };
        if args.iter().any(|argument| argument.name == MODULE) {
            return Err(reencode::Error::UserError(cannot(format!(
                "it uses the name `{MODULE}`"
            ))));
        }
        let own = args
            .iter()
            .map(|argument| (argument.name, ModuleArg::Instance(argument.index + 1)));
        instances.instantiate(
            module_index + 1,
            own.chain([(MODULE, ModuleArg::Instance(0))]).collect::<Vec<_>>(),
        );
        Ok(())
    }

    fn parse_component_submodule(&mut self, component: &mut Component, _: Parser, module: &[u8]) -> Reencoded<()> {
        let module = metered_module(module, self.place).map_err(reencode::Error::UserError)?;
        component.section(&ModuleSection(&module));
        Ok(())
    }

    fn parse_component_subcomponent(
        &mut self,
        component: &mut Component,
        _: Parser,
        nested: &[u8],
        _: &[u8],
    ) -> Reencoded<()> {
        let has_code = has_code(nested).map_err(reencode::Error::UserError)?;
        let rewritten;
        let data = if has_code {
            rewritten = rewrite(nested, Place::Nested).map_err(reencode::Error::UserError)?;
            &rewritten
        } else {
            nested
        };
        component.section(&RawSection {
            id: wasm_encoder::ComponentSectionId::Component.into(),
            data,
        });
        Ok(())
    }

    fn parse_component_custom_section(
        &mut self,
        component: &mut Component,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Reencoded<()> {
        // Names are by index, and those moved. A version is ours to say.
        if !matches!(section.name(), "component-name" | SECTION) {
            component.section(&CustomSection {
                name: section.name().into(),
                data: section.data().into(),
            });
        }
        Ok(())
    }
}

/// Whether a component has core modules or takes some from outside. Most nested ones only rename functions, and stay as they are.
fn has_code(component: &[u8]) -> Result<bool> {
    use wasmparser::{ComponentAlias, ComponentOuterAliasKind};
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(of_parser)? {
            Payload::ModuleSection { .. } | Payload::InstanceSection(_) => return Ok(true),
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    let alias = alias.map_err(of_parser)?;
                    if let ComponentAlias::Outer {
                        kind: ComponentOuterAliasKind::CoreModule,
                        ..
                    } = alias
                    {
                        return Ok(true);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// What has to be known of a module before it is written anew.
#[derive(Debug, Default)]
struct ModuleMeter {
    place: Option<Place>,
    /// Parameters and results of each type.
    types: Vec<(u32, Vec<wasmparser::ValType>)>,
    /// The type of each function of the module's own.
    functions: Vec<u32>,
    /// How many of those were written.
    written: u32,
    imported_functions: u32,
    imported_globals: u32,
    /// Functions that somebody outside may call, by index.
    exported: Vec<u32>,
    has_memory: bool,
    /// The type of a block with these many-valued results.
    blocks: BTreeMap<u32, u32>,
    are_imports_written: bool,
}

/// A core module on a budget: what is done with each module of a component. It imports the globals of [`budget`].
///
/// # Errors
/// When it is no core module, or names what the budget is imported by.
pub fn core_module(module: &[u8]) -> Result<Vec<u8>> {
    Ok(metered_module(module, Place::Outermost)?.finish())
}

/// The core module that holds a budget. It exports what [`core_module`] imports from `tollgate:meter`, and the functions of
/// `tollgate:runner/meter` in `host/spin/wit`.
pub fn budget() -> Vec<u8> {
    meter_module(0).finish()
}

fn metered_module(bytes: &[u8], place: Place) -> Result<Module> {
    let mut meter = ModuleMeter::of(bytes, place)?;
    let mut module = Module::new();
    meter
        .parse_core_module(&mut module, Parser::new(0), bytes)
        .map_err(of_reencode)?;
    Ok(module)
}

impl ModuleMeter {
    fn of(bytes: &[u8], place: Place) -> Result<Self> {
        let mut meter = Self {
            place: Some(place),
            ..Self::default()
        };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(of_parser)? {
                Payload::Version {
                    encoding: Encoding::Component,
                    ..
                } => return Err(cannot("a core module is a component")),
                Payload::TypeSection(section) => {
                    for group in section {
                        for ty in group.map_err(of_parser)?.types() {
                            let CompositeInnerType::Func(ty) = &ty.composite_type.inner else {
                                return Err(cannot("a core module has types that are no functions"));
                            };
                            let params = u32::try_from(ty.params().len()).unwrap_or(u32::MAX);
                            meter.types.push((params, ty.results().to_vec()));
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(of_parser)?;
                        if import.module == MODULE {
                            return Err(cannot(format!("it uses the name `{MODULE}`")));
                        }
                        match import.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => meter.imported_functions += 1,
                            TypeRef::Global(_) => meter.imported_globals += 1,
                            TypeRef::Memory(memory) => meter.has_memory |= memory.initial > 0,
                            TypeRef::Table(_) | TypeRef::Tag(_) => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        meter.functions.push(ty.map_err(of_parser)?);
                    }
                }
                Payload::MemorySection(section) => {
                    // What is wiped is the first memory.
                    if let Some(memory) = section.into_iter().next() {
                        meter.has_memory |= memory.map_err(of_parser)?.initial > 0;
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(of_parser)?;
                        if export.kind == ExternalKind::Func {
                            meter.exported.push(export.index);
                        }
                    }
                }
                _ => {}
            }
        }
        let mut next = u32::try_from(meter.types.len()).unwrap_or(u32::MAX);
        for ty in &meter.functions {
            let results = meter.types.get(*ty as usize).map_or(0, |(_, results)| results.len());
            if results > 1 && !meter.blocks.contains_key(ty) {
                meter.blocks.insert(*ty, next);
                next += 1;
            }
        }
        Ok(meter)
    }

    fn write_imports(&mut self, imports: &mut ImportSection) {
        for (name, val_type) in GLOBALS {
            let global = GlobalType {
                val_type,
                mutable: true,
                shared: false,
            };
            imports.import(MODULE, name, EntityType::Global(global));
        }
        self.are_imports_written = true;
    }
}

impl Reencode for ModuleMeter {
    type Error = EncloseError;

    fn global_index(&mut self, global: u32) -> Reencoded<u32> {
        let moved = if global < self.imported_globals {
            0
        } else {
            u32::try_from(GLOBALS.len()).unwrap_or(0)
        };
        Ok(global + moved)
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Reencoded<()> {
        utils::parse_type_section(self, types, section)?;
        // In the order of their numbers.
        let mut blocks: Vec<_> = self.blocks.iter().map(|(of, number)| (*number, *of)).collect();
        blocks.sort_unstable();
        for (_, of) in blocks {
            let results = self.types[of as usize].1.clone();
            let results = results
                .into_iter()
                .map(|result| self.val_type(result))
                .collect::<Reencoded<Vec<_>>>()?;
            types.ty().function([], results);
        }
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Reencoded<()> {
        utils::parse_import_section(self, imports, section)?;
        self.write_imports(imports);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Reencoded<()> {
        let is_too_early = matches!(before, Some(SectionId::Type | SectionId::Import));
        if !is_too_early && !self.are_imports_written {
            let mut imports = ImportSection::new();
            self.write_imports(&mut imports);
            module.section(&imports);
        }
        Ok(())
    }

    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Reencoded<()> {
        // The functions keep their names; what speaks of places in the code speaks of other ones now.
        let speaks_of_places = [".debug_", "metadata.code.", "sourceMappingURL"]
            .iter()
            .any(|prefix| section.name().starts_with(prefix));
        if !speaks_of_places {
            module.section(&CustomSection {
                name: section.name().into(),
                data: section.data().into(),
            });
        }
        Ok(())
    }

    fn parse_function_body(&mut self, code: &mut CodeSection, body: wasmparser::FunctionBody<'_>) -> Reencoded<()> {
        let at = self.written as usize;
        let index = self.imported_functions + self.written;
        self.written += 1;
        let unknown = || reencode::Error::UserError(cannot("a function has no type"));
        let ty = *self.functions.get(at).ok_or_else(unknown)?;
        let (params, results) = self.types.get(ty as usize).cloned().ok_or_else(unknown)?;
        let mut locals = Vec::new();
        let mut locals_before = params;
        for group in body.get_locals_reader()? {
            let (count, ty) = group?;
            locals_before = locals_before.saturating_add(count);
            locals.push((count, self.val_type(ty)?));
        }
        locals.push((1, ValType::I64));
        locals.push((2, ValType::I32));
        let results = results
            .into_iter()
            .map(|result| self.val_type(result))
            .collect::<Reencoded<Vec<_>>>()?;
        let mut writer = Writer {
            out: Function::new(locals),
            first_global: self.imported_globals,
            fuel: locals_before,
            count: locals_before + 1,
            grown: locals_before + 2,
            pending: 1,
            depth: 0,
        };
        writer.open(match results.as_slice() {
            [] => BlockType::Empty,
            [one] => BlockType::Result(*one),
            _ => BlockType::FunctionType(self.blocks[&ty]),
        });
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            let instruction = self.instruction(operator.clone())?;
            writer.write(&operator, &instruction);
        }
        let wipes = self.has_memory && results == [ValType::I32] && self.exported.contains(&index);
        let place = self.place.unwrap_or(Place::Nested);
        code.function(&writer.close(place, &results, wipes));
        Ok(())
    }
}

/// One function under way. What it has left is in a local while it runs, and in the global when others may look.
///
/// ```text
/// block $ended
///   block $function (results)
///     …its code, which goes to $ended when its fuel is gone…
///   end
///   return
/// end
/// zeros
/// ```
struct Writer {
    out: Function,
    first_global: u32,
    fuel: u32,
    /// What the operand of a bulk operation is kept in.
    count: u32,
    /// What growing answered.
    grown: u32,
    /// Fuel of what was written since it was charged last. A call of an empty function costs one, as natively.
    pending: i64,
    /// Blocks of the function's own that are open.
    depth: u32,
}

impl Writer {
    fn put(&mut self, instructions: &[I<'_>]) {
        for instruction in instructions {
            self.out.instruction(instruction);
        }
    }

    fn load(&mut self) {
        self.put(&[I::GlobalGet(self.first_global), I::LocalSet(self.fuel)]);
    }

    fn save(&mut self) {
        self.put(&[I::LocalGet(self.fuel), I::GlobalSet(self.first_global)]);
    }

    fn charge(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if pending > 0 {
            self.put(&[
                I::LocalGet(self.fuel),
                I::I64Const(pending),
                I::I64Sub,
                I::LocalSet(self.fuel),
            ]);
        }
    }

    /// Charges the number on the stack, and leaves it there.
    fn charge_count(&mut self) {
        self.put(&[
            I::LocalTee(self.count),
            I::LocalGet(self.fuel),
            I::LocalGet(self.count),
            I::I64ExtendI32U,
            I::I64Sub,
            I::LocalSet(self.fuel),
        ]);
    }

    fn check(&mut self) {
        self.put(&[
            I::LocalGet(self.fuel),
            I::I64Const(0),
            I::I64LtS,
            I::BrIf(self.depth + 1),
        ]);
    }

    fn open(&mut self, results: BlockType) {
        self.put(&[I::Block(BlockType::Empty), I::Block(results)]);
        self.load();
        self.check();
    }

    /// Asks the meter before `grow`, whose number of units is on the stack.
    fn grow(&mut self, grow: &I<'_>, unit_bytes: i64) {
        let (memory, fault) = (self.first_global + 1, self.first_global + 2);
        let bytes = [
            I::LocalGet(self.count),
            I::I64ExtendI32U,
            I::I64Const(unit_bytes),
            I::I64Mul,
        ];
        self.put(&[I::LocalSet(self.count)]);
        self.put(&bytes);
        self.put(&[
            I::GlobalGet(memory),
            I::I64GtS,
            I::If(BlockType::Empty),
            I::I32Const(FAULT_MEMORY),
            I::GlobalSet(fault),
            I::I64Const(-1),
            I::LocalSet(self.fuel),
            I::Br(self.depth + 2),
            I::End,
            I::LocalGet(self.count),
        ]);
        self.put(std::slice::from_ref(grow));
        // The component's own maximum: growing failed as WebAssembly says, and nothing was taken.
        self.put(&[
            I::LocalTee(self.grown),
            I::I32Const(-1),
            I::I32Ne,
            I::If(BlockType::Empty),
            I::GlobalGet(memory),
        ]);
        self.put(&bytes);
        self.put(&[I::I64Sub, I::GlobalSet(memory), I::End, I::LocalGet(self.grown)]);
    }

    fn write(&mut self, operator: &Operator<'_>, instruction: &I<'_>) {
        self.pending += match operator {
            // As wasmtime's default costs.
            Operator::Nop
            | Operator::Drop
            | Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::Unreachable
            | Operator::Return
            | Operator::Else
            | Operator::End => 0,
            _ => 1,
        };
        match operator {
            Operator::Block { .. } => {
                self.put(std::slice::from_ref(instruction));
                self.depth += 1;
            }
            Operator::Loop { .. } => {
                self.charge();
                self.put(std::slice::from_ref(instruction));
                self.depth += 1;
                self.check();
            }
            Operator::If { .. } => {
                self.charge();
                self.put(std::slice::from_ref(instruction));
                self.depth += 1;
            }
            Operator::End => {
                self.charge();
                self.put(std::slice::from_ref(instruction));
                // The last one closes the function, whose block is ours.
                self.depth = self.depth.saturating_sub(1);
            }
            Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } | Operator::BrTable { .. } => {
                self.charge();
                self.put(std::slice::from_ref(instruction));
            }
            Operator::Return | Operator::Unreachable => {
                self.charge();
                self.save();
                self.put(std::slice::from_ref(instruction));
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } => {
                self.charge();
                self.save();
                self.put(std::slice::from_ref(instruction));
                self.load();
                self.check();
            }
            Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. } => {
                self.charge();
                self.charge_count();
                self.check();
                self.put(std::slice::from_ref(instruction));
            }
            Operator::MemoryGrow { .. } => self.grow(instruction, PAGE_BYTES),
            Operator::TableGrow { .. } => {
                self.charge();
                self.charge_count();
                self.check();
                self.grow(instruction, TABLE_ELEMENT_BYTES);
            }
            _ => self.put(std::slice::from_ref(instruction)),
        }
    }

    fn close(mut self, place: Place, results: &[ValType], wipes: bool) -> Function {
        self.save();
        self.put(&[I::Return, I::End]);
        self.save();
        if place == Place::Nested {
            self.put(&[I::Unreachable, I::End]);
            return self.out;
        }
        if wipes {
            self.put(&[
                I::I32Const(0),
                I::I32Const(0),
                I::I32Const(ANSWER_BYTES),
                I::MemoryFill(0),
            ]);
        }
        for result in results {
            self.out.instruction(&match result {
                ValType::I32 => I::I32Const(0),
                ValType::I64 => I::I64Const(0),
                ValType::F32 => I::F32Const(0.0.into()),
                ValType::F64 => I::F64Const(0.0.into()),
                ValType::V128 => I::V128Const(0),
                ValType::Ref(reference) => I::RefNull(reference.heap_type),
            });
        }
        self.put(&[I::End]);
        self.out
    }
}
