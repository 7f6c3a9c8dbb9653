//! Looks at uploaded bytes before any of them is compiled: what they are, what they import, and the manifest inside.

use tollgate_core::golden::{self, Golden, GoldenError};
use tollgate_core::manifest::{self, Manifest};
use tollgate_core::mask;
use wasmparser::{Encoding, Parser, Payload};

use crate::refusal::{Found, Refusal};

/// How much of a name or an error from outside is repeated.
const DETAIL_BYTES_MAX: usize = 512;

const WASI_MEND: &str = "plugins have no clock, random numbers, files or network. For Rust, build for wasm32-unknown-unknown instead \
                         of wasm32-wasip1 or wasm32-wasip2; for JavaScript use `componentize-qjs --sync --stub-wasi`, for Python \
                         `componentize-py … -s`";
const STRANGER_MEND: &str = "a plugin may import only tollgate:plugin/types, tollgate:plugin/state and tollgate:plugin/log; remove the \
                             import, or compose the component that provides it into this one";

/// What the bytes say of themselves.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) manifest: Manifest,
    /// The golden events; empty when the component brings none.
    pub(crate) golden: Vec<Golden>,
    /// In the component's own order.
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// Reads the component's outermost names and finds its manifest.
///
/// # Errors
/// When the bytes are no component, import something outside the world, or have no usable manifest.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspection, Refusal> {
    require_component(bytes)?;
    let outline = outline(bytes)?;
    outline
        .imports
        .iter()
        .try_for_each(|import| require_known_import(import))?;
    let handler = outline
        .exports
        .iter()
        .find_map(|export| export.strip_prefix("tollgate:plugin/handler"));
    match handler {
        None => {
            return Err(Refusal::WrongWorld {
                detail: "it does not export tollgate:plugin/handler@1.0.0".to_owned(),
            });
        }
        Some(version) if !is_version_1(version) => {
            return Err(Refusal::WrongVersion {
                found: format!("tollgate:plugin/handler{}", line(version)),
            });
        }
        Some(_) => {}
    }
    Ok(Inspection {
        manifest: outline.manifest()?,
        golden: outline.golden()?,
        imports: outline.imports,
        exports: outline.exports,
    })
}

/// The outermost imports of any component, in its own order.
///
/// # Errors
/// When the bytes are no component, or damaged.
pub fn imports(bytes: &[u8]) -> Result<Vec<String>, Refusal> {
    require_component(bytes)?;
    Ok(outline(bytes)?.imports)
}

/// The component with `manifest` as its own manifest section, at its end. For languages whose compilers embed none.
///
/// # Errors
/// When the bytes are no component, damaged, or have a manifest section of their own already.
pub fn with_manifest(component: &[u8], manifest: &Manifest) -> Result<Vec<u8>, Refusal> {
    require_component(component)?;
    let own = outline(component)?
        .manifests
        .iter()
        .filter(|(depth, _)| *depth == 1)
        .count();
    if own > 0 {
        return Err(Refusal::ManyManifests { count: own + 1 });
    }
    Ok(with_section(
        component,
        manifest::SECTION,
        manifest.to_json().as_bytes(),
    ))
}

/// The component with these golden events as a section of its own, at its end.
///
/// # Errors
/// When the bytes are no component or damaged, or `golden` is no such list.
pub fn with_golden(component: &[u8], golden: &[u8]) -> Result<Vec<u8>, Refusal> {
    require_component(component)?;
    golden::from_json(golden).map_err(Refusal::BadGolden)?;
    Ok(with_section(component, golden::SECTION, golden))
}

/// Whether a component brings golden events. Bytes that are no component bring none.
pub fn carries_golden(component: &[u8]) -> bool {
    outline(component).is_ok_and(|outline| !outline.golden.is_empty())
}

/// With a custom section at its end: id 0, its length, its name, its content.
fn with_section(component: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    put_length(&mut section, name.len());
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    let mut bytes = component.to_vec();
    bytes.push(0);
    put_length(&mut bytes, section.len());
    bytes.extend_from_slice(&section);
    bytes
}

/// A length as WebAssembly's binary format has it: LEB128.
fn put_length(bytes: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn require_component(bytes: &[u8]) -> Result<(), Refusal> {
    let not = |found| Err(Refusal::NotAComponent { found });
    if bytes.is_empty() {
        return not(Found::Nothing);
    }
    if Parser::is_component(bytes) {
        return Ok(());
    }
    if Parser::is_core_wasm(bytes) {
        return not(Found::CoreModule);
    }
    let start: String = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    let text = start
        .lines()
        .map(str::trim_start)
        .find(|line| !line.is_empty() && !line.starts_with(";;"));
    not(if text.is_some_and(|line| line.starts_with('(')) {
        Found::Text
    } else {
        Found::Other
    })
}

/// The outermost imports and exports, and every section of ours with the depth at which it stands.
#[derive(Default)]
struct Outline<'a> {
    imports: Vec<String>,
    exports: Vec<String>,
    manifests: Vec<(usize, &'a [u8])>,
    golden: Vec<(usize, &'a [u8])>,
}

fn outline(bytes: &[u8]) -> Result<Outline<'_>, Refusal> {
    let damaged = |error: wasmparser::BinaryReaderError| Refusal::Damaged {
        detail: line(&error.to_string()),
    };
    let mut outline = Outline::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version {
                encoding: Encoding::Component | Encoding::Module,
                ..
            } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    outline.imports.push(line(import.map_err(damaged)?.name.name));
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    outline.exports.push(line(export.map_err(damaged)?.name.name));
                }
            }
            Payload::CustomSection(section) if section.name() == manifest::SECTION => {
                outline.manifests.push((depth, section.data()));
            }
            Payload::CustomSection(section) if section.name() == golden::SECTION => {
                outline.golden.push((depth, section.data()));
            }
            _ => {}
        }
    }
    Ok(outline)
}

/// Reads the manifest out of a component, and judges nothing else of it.
///
/// # Errors
/// When the bytes are no component, or have no manifest that can be used.
pub fn manifest_of(bytes: &[u8]) -> Result<Manifest, Refusal> {
    require_component(bytes)?;
    outline(bytes)?.manifest()
}

impl Outline<'_> {
    fn manifest(&self) -> Result<Manifest, Refusal> {
        match own_or_all(&self.manifests).as_slice() {
            [] => Err(Refusal::MissingManifest),
            [json] => Manifest::from_json(json).map_err(Refusal::BadManifest),
            many => Err(Refusal::ManyManifests { count: many.len() }),
        }
    }

    /// All of them together: a component that is composed of several may bring each one's.
    fn golden(&self) -> Result<Vec<Golden>, Refusal> {
        let mut all = Vec::new();
        for json in own_or_all(&self.golden) {
            all.extend(golden::from_json(json).map_err(Refusal::BadGolden)?);
            if golden::events(&all) > golden::EVENTS_MAX {
                return Err(Refusal::BadGolden(GoldenError::Count { count: all.len() }));
            }
        }
        Ok(all)
    }
}

/// The component's own sections, or else those of its nested modules and components: that is where a linker puts them.
fn own_or_all<'a>(sections: &[(usize, &'a [u8])]) -> Vec<&'a [u8]> {
    let has_own = sections.iter().any(|(depth, _)| *depth == 1);
    sections
        .iter()
        .filter(|(depth, _)| !has_own || *depth == 1)
        .map(|(_, data)| *data)
        .collect()
}

fn require_known_import(import: &str) -> Result<(), Refusal> {
    let outside = |mend| {
        Err(Refusal::ImportOutsideWorld {
            import: import.to_owned(),
            mend,
        })
    };
    let Some(own) = import.strip_prefix("tollgate:plugin/") else {
        let wasi = import.starts_with("wasi:") || import.starts_with("wasi_");
        return outside(if wasi { WASI_MEND } else { STRANGER_MEND });
    };
    let interface = own.split('@').next().unwrap_or(own);
    let version = &own[interface.len()..];
    if !is_version_1(version) {
        return Err(Refusal::WrongVersion {
            found: import.to_owned(),
        });
    }
    match interface {
        "types" | "state" | "log" => Ok(()),
        _ => outside(
            "this host is older than the interface; use a newer Tollgate, or build against its wit/tollgate.wit",
        ),
    }
}

/// `@1.` and then anything: what was added after 1.0 is found out by the linker.
fn is_version_1(version: &str) -> bool {
    version.starts_with("@1.")
}

fn line(text: &str) -> String {
    mask::line(text, DETAIL_BYTES_MAX)
}
