//! `tollgate check`: the whole configuration, and every plugin that it names, without starting anything.

use tollgate_sandbox::{Sandbox, SandboxOptions};

use super::{Exit, Target, print_json};
use crate::config;
use crate::registry;

pub(super) fn run(target: &Target) -> anyhow::Result<Exit> {
    let config = match config::check(&target.config) {
        Ok(config) => config,
        Err(problems) if target.json => {
            print_json(&serde_json::json!({ "ok": false, "problems": problems.as_data() }))?;
            return Ok(Exit::No);
        }
        Err(problems) => {
            anstream::eprintln!("{}", problems.render(config::Ink::Coloured));
            return Ok(Exit::No);
        }
    };
    let sandbox = Sandbox::new(SandboxOptions {
        compiler: crate::serve::compiler()?,
        ..SandboxOptions::default()
    })?;
    let plugins = registry::read_plugins(&sandbox, &config);
    if target.json {
        let problem = plugins
            .as_ref()
            .err()
            .map(|error| serde_json::json!({ "message": format!("{error:#}") }));
        print_json(&serde_json::json!({
            "ok": problem.is_none(),
            "problems": problem.into_iter().collect::<Vec<_>>(),
            "tenants": config.tenants.len(),
            "plugins": config.plugins.len(),
        }))?;
    } else if let Err(error) = &plugins {
        anstream::eprintln!("{error:#}");
    } else {
        let (good, dim) = (super::show::GOOD, super::show::DIM);
        anstream::println!("{good}ok{good:#}  {}", target.config.display());
        for tenant in config.tenants.values() {
            anstream::println!("  tenant {}", tenant.name);
            for source in tenant.sources.values() {
                anstream::println!(
                    "    source {:16} {dim}POST /in/{}/{}  ({}){dim:#}",
                    source.name,
                    tenant.name,
                    source.name,
                    source.profile.title
                );
            }
            for route in &tenant.routes {
                let to: Vec<&str> = route.destinations.iter().map(|name| name.as_str()).collect();
                let to = if to.is_empty() {
                    "the ledger".to_owned()
                } else {
                    to.join(", ")
                };
                anstream::println!("    route  {:16} {dim}{} → {to}{dim:#}", route.name, route.plugin);
            }
        }
    }
    Ok(if plugins.is_ok() { Exit::Yes } else { Exit::No })
}
