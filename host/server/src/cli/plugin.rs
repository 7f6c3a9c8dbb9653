//! `tollgate plugin check`: would this host take the component, and if not, why.

use std::path::Path;

use tollgate_sandbox::{Sandbox, SandboxOptions};

use super::{Exit, Usage, print_json};

pub(super) fn check(file: &Path, json: bool) -> anyhow::Result<Exit> {
    let bytes = std::fs::read(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
    let sandbox = Sandbox::new(SandboxOptions {
        compiler: crate::serve::compiler()?,
        ..SandboxOptions::default()
    })?;
    match sandbox.vet(&bytes) {
        Ok(report) => {
            let facts = serde_json::json!({
                "digest": report.digest,
                "name": report.manifest.name,
                "version": report.manifest.version,
                "publisher": report.manifest.publisher,
                "imports": report.imports,
                "exports": report.exports,
                "component_bytes": report.component_bytes,
                "instance_bytes": report.instance_bytes,
                "instance_fuel": report.instance_fuel,
                "compile_ms": u64::try_from(report.compile_time.as_millis()).unwrap_or(u64::MAX),
            });
            if json {
                print_json(&serde_json::json!({ "accepted": true, "plugin": facts }))?;
            } else {
                let (good, dim) = (super::show::GOOD, super::show::DIM);
                anstream::println!("{good}accepted{good:#}  {}", file.display());
                for (name, value) in facts.as_object().into_iter().flatten() {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    anstream::println!("  {dim}{name:16}{dim:#} {text}");
                }
            }
            Ok(Exit::Yes)
        }
        Err(refusal) => {
            if json {
                print_json(
                    &serde_json::json!({ "accepted": false, "code": refusal.code(), "message": refusal.to_string() }),
                )?;
            } else {
                let bad = super::show::BAD;
                anstream::println!("{bad}refused{bad:#}  {}\n  {refusal}", file.display());
            }
            Ok(Exit::No)
        }
    }
}
