//! `tollgate plugin check`: would this host take the component, and if not, why.

use std::path::Path;

use tollgate_sandbox::{Sandbox, SandboxOptions};

use super::{Exit, Usage, print_json};

pub(super) fn check(file: &Path, json: bool) -> anyhow::Result<Exit> {
    let bytes = std::fs::read(file).map_err(|error| Usage(format!("cannot read {}: {error}", file.display())))?;
    let sandbox = Sandbox::new(SandboxOptions { compiler: crate::serve::compiler()?, ..SandboxOptions::default() })?;
    match sandbox.vet(&bytes) {
        Ok(report) => {
            if json {
                print_json(&serde_json::json!({ "accepted": true, "report": report }))?;
            } else {
                let (good, dim) = (super::show::GOOD, super::show::DIM);
                anstream::println!("{good}accepted{good:#}  {}", file.display());
                let fields = serde_json::to_value(&report)?;
                for (name, value) in fields.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    anstream::println!("  {dim}{name:16}{dim:#} {text}");
                }
            }
            Ok(Exit::Yes)
        }
        Err(refusal) => {
            if json {
                print_json(&serde_json::json!({ "accepted": false, "code": refusal.code(), "message": refusal.to_string() }))?;
            } else {
                let bad = super::show::BAD;
                anstream::println!("{bad}refused{bad:#}  {}\n  {refusal}", file.display());
            }
            Ok(Exit::No)
        }
    }
}
