//! Encloses a plugin for Spin.
//!
//! A plugin imports its state and its log, which no Spin host offers. So it is nested between two components of ours: the host calls
//! behind its imports and the caller in front of its export (`host/spin/wit`). The three are instantiated inside of one
//! component that imports nothing and exports one interface. So the enclosing decides what a plugin can reach, whatever a runtime
//! allows. It decides what a plugin may use up as well: its code is put on a budget ([`meter`]).
//!
//! ```text
//! enclosed = host calls ──types, state, log──▶ metered plugin ──handler, meter──▶ caller ──▶ tollgate:runner/plugin
//!                 └────────────────────────host calls─────────────────────────────▲
//! ```
//!
//! A custom section holds the author's own bytes. Whoever checks an enclosed plugin takes them out and encloses them again: the result
//! must be the same.
#![forbid(unsafe_code)]

pub mod meter;

use std::ops::Range;

use sha2::{Digest as _, Sha256};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentInstanceSection,
    ComponentSectionId, CustomSection, RawSection,
};

const TYPES: &str = "tollgate:plugin/types@1.0.0";
const STATE: &str = "tollgate:plugin/state@1.0.0";
const LOG: &str = "tollgate:plugin/log@1.0.0";
const HANDLER: &str = "tollgate:plugin/handler@1.0.0";
const HOST_CALLS: &str = "tollgate:runner/host-calls@1.0.0";
/// What an enclosed plugin exports, and all that it has to do with the outside.
pub const EXPORT: &str = "tollgate:runner/plugin@1.0.0";

/// The custom section with the plugin as its author made it.
const AUTHORS: &str = "tollgate:authors-plugin";

/// The text in the caller that the plugin's digest takes the place of.
const PLACEHOLDER: &[u8; 71] = b"sha256:----------------tollgate:digest-of-the-enclosed-plugin----------";

/// The components that a plugin is enclosed with, as `cargo xtask spin` builds them.
#[derive(Debug, Clone, Copy)]
pub struct Kit<'a> {
    /// Answers the plugin's imports.
    pub host_calls: &'a [u8],
    /// Calls the plugin's export; holds the place for its digest.
    pub caller: &'a [u8],
}

/// Why a plugin was not enclosed, or what looks like an enclosed one is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncloseError {
    /// The bytes are no component.
    #[error("{what} is no component")]
    NoComponent {
        /// Which of the three it was.
        what: &'static str,
    },
    /// The caller's place for the digest is not there once.
    #[error("the caller has the place for the digest {found} times instead of once: it is another version's")]
    Placeholder {
        /// How often it is there.
        found: usize,
    },
    /// The plugin's code cannot be metered.
    #[error("the plugin cannot be put on a budget: {why}")]
    CannotMeter {
        /// Why.
        why: String,
    },
    /// What should be an enclosed plugin is none.
    #[error("it is no enclosed plugin: {reason}")]
    NotEnclosed {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Encloses `plugin`. The caller of this function has vetted it.
///
/// # Errors
/// When one of the three is no component, or the kit is another version's.
pub fn enclose(kit: Kit<'_>, plugin: &[u8]) -> Result<Vec<u8>, EncloseError> {
    for (what, bytes) in [
        ("the component of the host calls", kit.host_calls),
        ("the caller", kit.caller),
        ("the plugin", plugin),
    ] {
        if !is_component(bytes) {
            return Err(EncloseError::NoComponent { what });
        }
    }
    let caller = replaced(kit.caller, PLACEHOLDER, digest(plugin).as_bytes())?;
    let metered = meter::metered(plugin)?;
    let mut component = Component::new();
    for nested in [kit.host_calls, &metered, &caller] {
        component.section(&RawSection {
            id: ComponentSectionId::Component.into(),
            data: nested,
        });
    }
    let mut instances = Instances::default();
    let host_calls = instances.instantiate(&mut component, 0, &[]);
    let types = instances.export_of(&mut component, host_calls, TYPES);
    let state = instances.export_of(&mut component, host_calls, STATE);
    let log = instances.export_of(&mut component, host_calls, LOG);
    let runner_side = instances.export_of(&mut component, host_calls, HOST_CALLS);
    let instance = instances.instantiate(&mut component, 1, &[(TYPES, types), (STATE, state), (LOG, log)]);
    let handler = instances.export_of(&mut component, instance, HANDLER);
    let meter = instances.export_of(&mut component, instance, meter::METER);
    let caller = instances.instantiate(
        &mut component,
        2,
        &[
            (TYPES, types),
            (HANDLER, handler),
            (meter::METER, meter),
            (HOST_CALLS, runner_side),
        ],
    );
    let export = instances.export_of(&mut component, caller, EXPORT);
    let mut exports = ComponentExportSection::new();
    exports.export(EXPORT, ComponentExportKind::Instance, export, None);
    component.section(&exports);
    component.section(&CustomSection {
        name: AUTHORS.into(),
        data: plugin.into(),
    });
    Ok(component.finish())
}

/// The plugin inside of an enclosed one, byte for byte as its author made it. It is enclosed once more, with the host calls and the
/// caller that are there, and the result compared: so what runs is that plugin on a budget, and wired as it must be. Whether host calls
/// and caller are those of a kit, [`enclose`] with that kit tells.
///
/// # Errors
/// When it is no enclosed plugin, or what would run is not the author's plugin on a budget of this version.
pub fn plugin_of(enclosed: &[u8]) -> Result<&[u8], EncloseError> {
    let not = |reason| EncloseError::NotEnclosed { reason };
    if !is_component(enclosed) {
        return Err(not("it is no component"));
    }
    let mut nested = Vec::new();
    let mut authors = Vec::new();
    let mut at = PREAMBLE_BYTES;
    while at < enclosed.len() {
        let (id, body) = section(enclosed, at).ok_or_else(|| not("a section runs over its end"))?;
        at = body.end;
        if id == u8::from(ComponentSectionId::Component) {
            nested.push(body);
        } else if id == CUSTOM_SECTION {
            authors.extend(authors_plugin(&enclosed[body]));
        }
    }
    let [host_calls, _, caller] = nested.as_slice() else {
        return Err(not("it does not nest three components"));
    };
    let [plugin] = authors.as_slice() else {
        return Err(not(
            "it does not carry the author's plugin: it was enclosed by an older version, without a budget; add it again",
        ));
    };
    let caller = replaced(&enclosed[caller.clone()], digest(plugin).as_bytes(), &PLACEHOLDER[..])
        .map_err(|_| not("its caller does not name the plugin that it carries; add it again"))?;
    let kit = Kit {
        host_calls: &enclosed[host_calls.clone()],
        caller: &caller,
    };
    if enclose(kit, plugin)? != enclosed {
        return Err(not(
            "what would run is not the author's plugin on a budget of this version; add it again",
        ));
    }
    Ok(plugin)
}

/// A component without the names that stand in it for people who read it: no host needs them, and each request pays for their
/// bytes. What is no component stays as it is.
pub fn without_names(component: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\x0ecomponent-name";
    let mut kept = component.get(..PREAMBLE_BYTES).unwrap_or(component).to_vec();
    let mut at = kept.len();
    while at < component.len() {
        let Some((id, body)) = section(component, at).filter(|_| is_component(component)) else {
            return component.to_vec();
        };
        if id != CUSTOM_SECTION || !component[body.clone()].starts_with(NAMES) {
            kept.extend_from_slice(&component[at..body.end]);
        }
        at = body.end;
    }
    kept
}

const CUSTOM_SECTION: u8 = 0;

/// The contents of the custom section with the author's plugin, when it is that.
fn authors_plugin(section: &[u8]) -> Option<&[u8]> {
    let length = usize::from(*section.first()?);
    (length == AUTHORS.len() && section.get(1..=length)? == AUTHORS.as_bytes()).then(|| &section[1 + length..])
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

/// Writes `to` over the one place where `from` stands; both are of one length, so nothing else moves.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Result<Vec<u8>, EncloseError> {
    let places: Vec<_> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    let [at] = places.as_slice() else {
        return Err(EncloseError::Placeholder { found: places.len() });
    };
    let mut patched = bytes.to_vec();
    patched[*at..at + from.len()].copy_from_slice(to);
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
        let (host_calls, caller, plugin) = (marked(b"host_calls"), marked(PLACEHOLDER), marked(&[7; 300]));
        let kit = Kit {
            host_calls: &host_calls,
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
    fn names_are_left_out_and_nothing_else() {
        let named = |name: &'static str| {
            let mut component = Component::new();
            component.section(&wasm_encoder::CustomSection {
                name: name.into(),
                data: b"a".as_slice().into(),
            });
            component.finish()
        };
        assert_eq!(without_names(&named("component-name")), Component::new().finish());
        for kept in [
            named("component-named"),
            named("mark"),
            b"no component".to_vec(),
            Vec::new(),
        ] {
            assert_eq!(without_names(&kept), kept);
        }
        let both = [named("component-name"), named("mark")[PREAMBLE_BYTES..].to_vec()].concat();
        assert_eq!(without_names(&both), named("mark"));
    }

    #[test]
    fn what_is_not_the_kit_or_not_enclosed_is_said() {
        let component = marked(b"any");
        let kit = Kit {
            host_calls: &component,
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
