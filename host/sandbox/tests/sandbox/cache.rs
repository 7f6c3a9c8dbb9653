//! Compiled plugins on disk are believed only when this host made them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tollgate_sandbox::{CacheDir, Compiler, Sandbox, SandboxError, SandboxOptions};

use crate::guest::{GOOD, component, component_with, limits, run};

fn sandbox(directory: &Path, compiler: Compiler) -> Sandbox {
    let cache = Some(CacheDir::new(directory));
    Sandbox::new(SandboxOptions {
        instances_max: 1,
        cache,
        compiler,
        ..SandboxOptions::default()
    })
    .unwrap()
}

/// A compiler that cannot be started: what loads without one comes from the cache.
fn no_compiler() -> Compiler {
    Compiler::Child {
        program: "/nowhere/compiler".into(),
        args: Vec::new(),
        memory_bytes_max: 1,
        ms_max: 1,
        threads: 1,
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "code"));
    paths
}

fn loads_from_cache(directory: &Path, component: &[u8]) -> bool {
    match sandbox(directory, no_compiler()).load(component) {
        Ok(plugin) => {
            assert_eq!(run(&plugin, &limits()).outcome.name(), "completed");
            true
        }
        Err(refusal) => {
            assert_eq!(refusal.code(), "host", "{refusal}");
            false
        }
    }
}

#[test]
fn a_compiled_plugin_is_kept_and_a_tampered_one_is_not_believed() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = &temporary.path().join("plugins");
    let component = component(GOOD);
    sandbox(directory, Compiler::InProcess).load(&component).unwrap();
    assert!(loads_from_cache(directory, &component));
    let [entry] = entries(directory).try_into().unwrap();
    assert_eq!(
        fs::metadata(directory.join("key")).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let whole = fs::read(&entry).unwrap();
    for at in [0, 8, 39, 40, whole.len() / 2, whole.len() - 1] {
        let mut tampered = whole.clone();
        tampered[at] ^= 1;
        fs::write(&entry, tampered).unwrap();
        assert!(!loads_from_cache(directory, &component), "byte {at}");
    }
    for length in [0, 7, 40, whole.len() - 1] {
        fs::write(&entry, &whole[..length]).unwrap();
        assert!(!loads_from_cache(directory, &component), "{length} bytes");
    }
    sandbox(directory, Compiler::InProcess)
        .load(&component)
        .expect("a damaged entry is compiled again");
    assert!(loads_from_cache(directory, &component), "and written again");
}

#[test]
fn an_entry_stands_for_its_own_plugin_and_host_only() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (component(GOOD), component("(unreachable)"));
    let sandbox_here = sandbox(here.path(), Compiler::InProcess);
    sandbox_here.load(&one).unwrap();
    let [entry_of_one] = entries(here.path()).try_into().unwrap();
    let good = fs::read(&entry_of_one).unwrap();
    sandbox_here.load(&two).unwrap();
    for entry in entries(here.path()) {
        fs::write(entry, &good).unwrap();
    }
    assert!(loads_from_cache(here.path(), &one));
    assert!(
        !loads_from_cache(here.path(), &two),
        "another plugin's code is not taken"
    );

    sandbox(there.path(), Compiler::InProcess).load(&one).unwrap();
    fs::write(there.path().join(entry_of_one.file_name().unwrap()), &good).unwrap();
    assert!(
        !loads_from_cache(there.path(), &one),
        "another host's code is not taken"
    );
}

#[test]
fn the_cache_keeps_to_its_bound_and_never_loses_what_is_in_use() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path();
    let components: Vec<_> = (0..5)
        .map(|number| component(&format!("(drop (i32.const {number})) {GOOD}")))
        .collect();
    let digest = |at: usize| tollgate_core::ids::PluginDigest::of(&components[at]);
    let is_there = |at: usize| {
        let digest = digest(at).to_string();
        let paths = entries(directory);
        paths
            .iter()
            .any(|path| path.to_string_lossy().contains(&digest["sha256:".len()..]))
    };
    sandbox(directory, Compiler::InProcess).load(&components[0]).unwrap();
    let each = fs::metadata(&entries(directory)[0]).unwrap().len();
    let bounded = Sandbox::new(SandboxOptions {
        instances_max: 1,
        cache: Some(CacheDir {
            path: directory.into(),
            bytes_max: each * 3 + each / 2,
        }),
        ..SandboxOptions::default()
    })
    .unwrap();
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    for component in &components[1..4] {
        pause();
        bounded.load(component).unwrap();
    }
    assert_eq!(
        entries(directory).len(),
        4,
        "nothing goes before it is known what is in use"
    );
    // The oldest is in use, the next is used again.
    pause();
    bounded.load(&components[1]).unwrap();
    fs::write(directory.join(".tmpleft"), "half").unwrap();
    bounded.pin([digest(0)].into());
    assert_eq!([0, 1, 2, 3].map(is_there), [true, true, false, true]);
    pause();
    bounded.load(&components[4]).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(is_there), [true, true, false, false, true]);
    assert!(directory.join(".tmpleft").exists(), "somebody may still be writing it");
    // What is in use stays, however little there may be.
    bounded.pin([0, 1, 4].map(digest).into());
    assert_eq!([0, 1, 4].map(is_there), [true; 3]);
    bounded.load(&components[2]).unwrap();
    assert_eq!(
        [0, 1, 2, 4].map(is_there),
        [true, true, false, true],
        "and what is not has no room"
    );
    assert!(loads_from_cache(directory, &components[0]));
}

#[test]
fn what_was_only_proved_or_is_refused_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let sandbox = sandbox(temporary.path(), Compiler::InProcess);
    let proven = sandbox.prove(&component(GOOD)).unwrap();
    assert!(entries(temporary.path()).is_empty());
    // It compiles, and is refused by what it does.
    assert!(sandbox.prove(&component("(unreachable)")).is_err());
    let wrong = component_with("(func $start unreachable) (start $start)", GOOD);
    assert!(sandbox.vet(&wrong).is_err());
    assert!(entries(temporary.path()).is_empty());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1, "the key alone");
    sandbox.keep(&proven);
    assert!(loads_from_cache(temporary.path(), &component(GOOD)));
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let temporary = tempfile::tempdir().unwrap();
    drop(sandbox(temporary.path(), Compiler::InProcess));
    fs::set_permissions(temporary.path().join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let cache = Some(CacheDir::new(temporary.path()));
    let error = Sandbox::new(SandboxOptions {
        cache,
        ..SandboxOptions::default()
    })
    .unwrap_err();
    let SandboxError::Cache { source, .. } = error else {
        panic!("{error}")
    };
    assert!(
        source.to_string().contains("may be read by others (mode 644)"),
        "{source}"
    );
}
