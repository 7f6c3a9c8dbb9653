//! Encloses a plugin for Spin.
//!
//! A plugin imports its state and its log, which no Spin host offers. So it is nested, byte for byte as it was vetted, between
//! two components of ours: the desk behind its imports and the caller in front of its export (`host/spin/wit`). The three are
//! instantiated inside of one component that imports nothing and exports one interface. What a plugin could reach is thereby
//! decided here, and not by what a runtime denies.
//!
//! ```text
//! enclosed = desk ──types, state, log──▶ plugin ──handler──▶ caller ──▶ tollgate:runner/plugin
//!              └──────────────────desk──────────────────────▲
//! ```
#![forbid(unsafe_code)]

use std::ops::Range;

use sha2::{Digest as _, Sha256};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentInstanceSection,
    ComponentSectionId, RawSection,
};

const TYPES: &str = "tollgate:plugin/types@1.0.0";
const STATE: &str = "tollgate:plugin/state@1.0.0";
const LOG: &str = "tollgate:plugin/log@1.0.0";
const HANDLER: &str = "tollgate:plugin/handler@1.0.0";
const DESK: &str = "tollgate:runner/desk@1.0.0";
/// What an enclosed plugin exports, and all that it has to do with the outside.
pub const EXPORT: &str = "tollgate:runner/plugin@1.0.0";

/// The text in the caller that the plugin's digest takes the place of.
const PLACEHOLDER: &[u8; 71] = b"sha256:----------------tollgate:digest-of-the-enclosed-plugin----------";

/// The components that a plugin is enclosed with, as `cargo xtask spin` builds them.
#[derive(Debug, Clone, Copy)]
pub struct Kit<'a> {
    pub desk: &'a [u8],
    pub caller: &'a [u8],
}

/// Why a plugin was not enclosed, or what looks like an enclosed one is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncloseError {
    #[error("{what} is no component")]
    NoComponent { what: &'static str },
    #[error("the caller has the place for the digest {found} times instead of once: it is another version's")]
    Placeholder { found: usize },
    #[error("it is no enclosed plugin: {reason}")]
    NotEnclosed { reason: &'static str },
}

/// Encloses `plugin`. The caller of this function has vetted it.
///
/// # Errors
/// When one of the three is no component, or the kit is another version's.
pub fn enclose(kit: Kit<'_>, plugin: &[u8]) -> Result<Vec<u8>, EncloseError> {
    for (what, bytes) in [
        ("the desk", kit.desk),
        ("the caller", kit.caller),
        ("the plugin", plugin),
    ] {
        if !is_component(bytes) {
            return Err(EncloseError::NoComponent { what });
        }
    }
    let caller = with_digest(kit.caller, &digest(plugin))?;
    let mut component = Component::new();
    for nested in [kit.desk, plugin, &caller] {
        component.section(&RawSection {
            id: ComponentSectionId::Component.into(),
            data: nested,
        });
    }
    let mut instances = Instances::default();
    let desk = instances.instantiate(&mut component, 0, &[]);
    let types = instances.export_of(&mut component, desk, TYPES);
    let state = instances.export_of(&mut component, desk, STATE);
    let log = instances.export_of(&mut component, desk, LOG);
    let desk_side = instances.export_of(&mut component, desk, DESK);
    let plugin = instances.instantiate(&mut component, 1, &[(TYPES, types), (STATE, state), (LOG, log)]);
    let handler = instances.export_of(&mut component, plugin, HANDLER);
    let caller = instances.instantiate(
        &mut component,
        2,
        &[(TYPES, types), (HANDLER, handler), (DESK, desk_side)],
    );
    let export = instances.export_of(&mut component, caller, EXPORT);
    let mut exports = ComponentExportSection::new();
    exports.export(EXPORT, ComponentExportKind::Instance, export, None);
    component.section(&exports);
    Ok(component.finish())
}

/// The plugin inside of an enclosed one, byte for byte as it was.
///
/// # Errors
/// When it is no enclosed plugin.
pub fn plugin_of(enclosed: &[u8]) -> Result<&[u8], EncloseError> {
    let not = |reason| EncloseError::NotEnclosed { reason };
    if !is_component(enclosed) {
        return Err(not("it is no component"));
    }
    let mut nested = Vec::new();
    let mut at = PREAMBLE_BYTES;
    while at < enclosed.len() {
        let (id, body) = section(enclosed, at).ok_or_else(|| not("a section runs over its end"))?;
        at = body.end;
        if id == u8::from(ComponentSectionId::Component) {
            nested.push(body);
        }
    }
    match nested.as_slice() {
        [_desk, plugin, _caller] => Ok(&enclosed[plugin.clone()]),
        _ => Err(not("it does not nest three components")),
    }
}

/// A plugin's digest, as the native host writes it.
pub fn digest(plugin: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(plugin)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Magic, version and layer.
const PREAMBLE_BYTES: usize = 8;

fn is_component(bytes: &[u8]) -> bool {
    bytes.get(..PREAMBLE_BYTES) == Some(&Component::HEADER)
}

/// The section that begins at `at`: its id and where its contents are.
fn section(bytes: &[u8], at: usize) -> Option<(u8, Range<usize>)> {
    let id = *bytes.get(at)?;
    let (mut size, mut shift, mut from) = (0_u64, 0, at + 1);
    loop {
        let byte = *bytes.get(from)?;
        from += 1;
        size |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        // A section's size is an unsigned LEB128 of 32 bits.
        if shift > 28 {
            return None;
        }
    }
    let end = from.checked_add(usize::try_from(size).ok()?)?;
    (end <= bytes.len()).then_some((id, from..end))
}

/// Writes the digest over its place; both are of one length, so nothing else moves.
fn with_digest(caller: &[u8], digest: &str) -> Result<Vec<u8>, EncloseError> {
    let places: Vec<_> = caller
        .windows(PLACEHOLDER.len())
        .enumerate()
        .filter(|(_, window)| window == PLACEHOLDER)
        .map(|(at, _)| at)
        .collect();
    let [at] = places.as_slice() else {
        return Err(EncloseError::Placeholder { found: places.len() });
    };
    let mut patched = caller.to_vec();
    patched[*at..at + PLACEHOLDER.len()].copy_from_slice(digest.as_bytes());
    Ok(patched)
}

/// Counts the component's instances as they are made.
#[derive(Default)]
struct Instances(u32);

impl Instances {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        self.0 - 1
    }

    fn instantiate(&mut self, component: &mut Component, nested: u32, arguments: &[(&str, u32)]) -> u32 {
        let mut section = ComponentInstanceSection::new();
        let arguments = arguments
            .iter()
            .map(|(name, instance)| (*name, ComponentExportKind::Instance, *instance));
        section.instantiate(nested, arguments);
        component.section(&section);
        self.next()
    }

    fn export_of(&mut self, component: &mut Component, instance: u32, name: &str) -> u32 {
        let mut section = ComponentAliasSection::new();
        section.alias(Alias::InstanceExport {
            instance,
            kind: ComponentExportKind::Instance,
            name,
        });
        component.section(&section);
        self.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with nothing but a custom section, to tell it by.
    fn marked(mark: &[u8]) -> Vec<u8> {
        let mut component = Component::new();
        component.section(&wasm_encoder::CustomSection {
            name: "mark".into(),
            data: mark.into(),
        });
        component.finish()
    }

    #[test]
    fn the_plugin_is_nested_byte_for_byte_and_its_digest_is_in_the_caller() {
        let (desk, caller, plugin) = (marked(b"desk"), marked(PLACEHOLDER), marked(&[7; 300]));
        let kit = Kit {
            desk: &desk,
            caller: &caller,
        };
        let enclosed = enclose(kit, &plugin).unwrap();
        assert_eq!(plugin_of(&enclosed), Ok(plugin.as_slice()));
        let text = digest(&plugin);
        assert_eq!(text.len(), PLACEHOLDER.len());
        assert!(enclosed.windows(text.len()).any(|window| window == text.as_bytes()));
        assert!(!enclosed.windows(PLACEHOLDER.len()).any(|window| window == PLACEHOLDER));
    }

    #[test]
    fn what_is_not_the_kit_or_not_enclosed_is_said() {
        let component = marked(b"any");
        let kit = Kit {
            desk: &component,
            caller: &component,
        };
        assert_eq!(enclose(kit, &component), Err(EncloseError::Placeholder { found: 0 }));
        assert_eq!(
            enclose(kit, b"\0asm\x01\0\0\0"),
            Err(EncloseError::NoComponent { what: "the plugin" }),
            "a core module"
        );
        for bytes in [
            b"".as_slice(),
            &component,
            &[0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0, 4, 0xff],
        ] {
            assert!(matches!(plugin_of(bytes), Err(EncloseError::NotEnclosed { .. })));
        }
    }
}
