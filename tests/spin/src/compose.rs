//! A component and its dependencies become one, as in Spin: each dependency that an import names is instantiated beside it. A
//! dependency inherits nothing here, and unlike Spin's deny adapter this refuses one that imports anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};

pub fn compose(id: &str, source: Vec<u8>, dependencies: &BTreeMap<String, PathBuf>) -> Result<Vec<u8>> {
    if dependencies.is_empty() {
        return Ok(source);
    }
    let mut graph = CompositionGraph::new();
    let package = Package::from_bytes(id, None, source, graph.types_mut())?;
    let world = package.ty();
    let package = graph.register_package(package)?;
    let instance = graph.instantiate(package);
    for (at, (import, path)) in dependencies.iter().enumerate() {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let dependency = Package::from_bytes(&format!("dependency{at}:of"), None, bytes, graph.types_mut())?;
        if let Some((open, _)) = graph.types()[dependency.ty()].imports.first() {
            bail!("{} imports {open}, which nobody gives a dependency", path.display());
        }
        let dependency = graph.register_package(dependency)?;
        let dependency = graph.instantiate(dependency);
        let export = graph
            .alias_instance_export(dependency, import)
            .with_context(|| format!("{} does not export {import}", path.display()))?;
        graph
            .set_instantiation_argument(instance, import, export)
            .with_context(|| format!("{id} does not import {import}"))?;
    }
    let exports: Vec<_> = graph.types()[world].exports.keys().cloned().collect();
    for name in exports {
        let export = graph.alias_instance_export(instance, &name)?;
        graph.export(export, &name)?;
    }
    Ok(graph.encode(EncodeOptions::default())?)
}
