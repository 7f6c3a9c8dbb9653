//! Vets a component as a host does, and tells what was found.

use std::path::Path;

use tollgate_sandbox::{Refusal, Sandbox, VetReport};

use super::super::show::{BAD, DIM, GOOD};
use super::super::{Exit, print_json, read};
use super::project::{grouped, size};

/// Tries a component as a host does before it takes one in, and keeps its compiled code: the cache is the project's own.
pub(super) fn prove(sandbox: &Sandbox, component: &Path) -> anyhow::Result<Result<VetReport, Refusal>> {
    Ok(sandbox.prove(&read(component)?).map(|proven| {
        sandbox.keep(&proven);
        proven.report
    }))
}

/// Says what vetting found.
pub(super) fn tell(path: &str, vetted: Result<VetReport, Refusal>, json: bool) -> anyhow::Result<Exit> {
    let report = match vetted {
        Ok(report) => report,
        Err(refusal) => {
            if json {
                print_json(
                    &serde_json::json!({ "accepted": false, "code": refusal.code(), "message": refusal.to_string() }),
                )?;
            } else {
                anstream::println!("{BAD}refused{BAD:#}  {path}\n  {refusal}");
            }
            return Ok(Exit::No);
        }
    };
    let compile_ms = u64::try_from(report.compile_time.as_millis()).unwrap_or(u64::MAX);
    let manifest = &report.manifest;
    if json {
        let plugin = serde_json::json!({
            "digest": report.digest,
            "name": manifest.name,
            "version": manifest.version,
            "publisher": manifest.publisher,
            "events": manifest.events.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "actions": manifest.actions,
            "imports": report.imports,
            "exports": report.exports,
            "component_bytes": report.component_bytes,
            "instance_bytes": report.instance_bytes,
            "instance_fuel": report.instance_fuel,
            "compile_ms": compile_ms,
        });
        print_json(&serde_json::json!({ "accepted": true, "plugin": plugin }))?;
        return Ok(Exit::Yes);
    }
    let list = |items: Vec<String>| match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    };
    anstream::println!("{GOOD}accepted{GOOD:#}  {path}");
    for (name, value) in [
        (
            "plugin",
            format!("{} {} by {}", manifest.name, manifest.version, manifest.publisher),
        ),
        ("digest", report.digest.to_string()),
        (
            "events",
            list(manifest.events.iter().map(ToString::to_string).collect()),
        ),
        (
            "actions",
            list(manifest.actions.iter().map(ToString::to_string).collect()),
        ),
        ("imports", list(report.imports)),
        ("component", size(report.component_bytes)),
        (
            "an instance",
            format!(
                "{}, {} fuel",
                size(report.instance_bytes),
                grouped(report.instance_fuel)
            ),
        ),
        ("compiled in", format!("{compile_ms} ms")),
    ] {
        anstream::println!("  {DIM}{name:12}{DIM:#} {value}");
    }
    Ok(Exit::Yes)
}
