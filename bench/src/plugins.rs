//! What many plugins cost a host that has them all ready: memory, and the time from compiled code to the first instance.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tollgate_core::manifest::Manifest;
use tollgate_core::outcome::Outcome;
use tollgate_sandbox::{CacheDir, Sandbox, SandboxOptions, with_manifest};

use super::system::resident_bytes;

/// Publishes `count` plugins, then starts as a host does that finds all of them compiled.
pub(super) fn many(count: usize) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let folder = tempfile::tempdir_in(program.parent().context("the program is in no folder")?)?;
    let cashback = std::fs::read(tollgate_tests::plugins_dir().join("cashback.wasm"))?;
    let components = (0..count)
        .map(|number| different(&cashback, number))
        .collect::<anyhow::Result<Vec<_>>>()?;

    let sandbox = sandbox(folder.path())?;
    let start = Instant::now();
    for (done, component) in components.iter().enumerate() {
        let _ = sandbox.load(component)?;
        if (done + 1) % 100 == 0 {
            eprintln!("{} of {count} compiled", done + 1);
        }
    }
    let compiling = start.elapsed();
    drop(sandbox);

    let sandbox = self::sandbox(folder.path())?;
    let before = resident_bytes("self")?;
    let mut plugins = Vec::with_capacity(count);
    let mut cold = Vec::with_capacity(count);
    for component in &components {
        let start = Instant::now();
        let plugin = sandbox.load(component)?;
        let trial = plugin.trial();
        cold.push(start.elapsed());
        anyhow::ensure!(
            matches!(trial.outcome, Outcome::Completed { .. }),
            "{:?}",
            trial.outcome
        );
        plugins.push(plugin);
    }
    let held = resident_bytes("self")?.saturating_sub(before);
    cold.sort_unstable();
    let at = |per_cent: usize| {
        let time = cold.get(count * per_cent / 100).or(cold.last());
        time.copied().unwrap_or(Duration::ZERO).as_secs_f64() * 1e3
    };
    println!(
        "\n{count} plugins of {} KiB, each compiled by itself in {:.1} ms\n",
        cashback.len() / 1024,
        compiling.as_secs_f64() * 1e3 / count as f64
    );
    println!("{:46} {:10.2} ms", "from compiled code to an instance, p50", at(50));
    println!("{:46} {:10.2} ms", "the same, p99", at(99));
    println!("{:46} {:10.1} MiB", "memory of all of them, ready", mib(held));
    println!("{:46} {:10.1} KiB", "of one", held as f64 / 1024.0 / count as f64);
    println!("\nto reach: from compiled code to an instance ≤ 1 ms");
    drop(plugins);
    Ok(())
}

fn sandbox(cache: &std::path::Path) -> anyhow::Result<Sandbox> {
    Ok(Sandbox::new(SandboxOptions {
        cache: Some(CacheDir::new(cache)),
        ..SandboxOptions::default()
    })?)
}

/// The same plugin under another name, and so with another digest.
fn different(component: &[u8], number: usize) -> anyhow::Result<Vec<u8>> {
    let json = format!(
        r#"{{"name":"plugin-{number}","version":"1.0.0","publisher":"bench","events":["*"],"actions":["credit"],"state":true}}"#
    );
    Ok(with_manifest(component, &Manifest::from_json(json.as_bytes())?)?)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
