//! What the tests of the whole project share: where the built server and the built plugins are, a stage with a real host on it,
//! a provider that signs, a destination that verifies, and the campaigns.
//!
//! `cargo xtask test` builds them and says where they are. A test that is started by hand looks beside its own executable,
//! where cargo put the server if it was built before.

pub mod campaign;
pub mod certificates;
pub mod client;
pub mod console;
pub mod destination;
pub mod disk;
pub mod documented;
pub mod events;
pub mod fuzz;
pub mod json;
pub mod mail_server;
pub mod postgres;
pub mod python;
pub mod random;
pub mod spin;
pub mod stage;
pub mod tls;
pub mod transcript;

use std::env;
use std::path::{Path, PathBuf};

/// The built `tollgate`: what TOLLGATE_BIN names, or the one that was built with this test's profile.
///
/// # Panics
/// When it is not there, with what to run.
pub fn tollgate_bin() -> PathBuf {
    let beside = profile_dir().join(format!("tollgate{}", env::consts::EXE_SUFFIX));
    found(
        "the server",
        env::var_os("TOLLGATE_BIN").map_or(beside, PathBuf::from),
        Path::is_file,
    )
}

/// The folder of the shipped plugins, as components: what TOLLGATE_PLUGINS names, or `plugins` in the target directory.
///
/// # Panics
/// As [`tollgate_bin`].
pub fn plugins_dir() -> PathBuf {
    let built = profile_dir().join("../plugins");
    found(
        "the built plugins",
        env::var_os("TOLLGATE_PLUGINS").map_or(built, PathBuf::from),
        Path::is_dir,
    )
}

/// The folder of the guests that misbehave: what TOLLGATE_HOSTILE names, or `hostile` among the plugins.
///
/// # Panics
/// As [`tollgate_bin`].
pub fn hostile_dir() -> PathBuf {
    let built = profile_dir().join("../plugins/hostile");
    found(
        "the built hostile guests",
        env::var_os("TOLLGATE_HOSTILE").map_or(built, PathBuf::from),
        Path::is_dir,
    )
}

/// The folder of the Spin app's components: what TOLLGATE_SPIN names, or `spin` in the target directory.
///
/// # Panics
/// As [`tollgate_bin`].
pub fn spin_dir() -> PathBuf {
    let built = profile_dir().join("../spin");
    found(
        "the Spin app's components",
        env::var_os("TOLLGATE_SPIN").map_or(built, PathBuf::from),
        Path::is_dir,
    )
}

/// The stand-in for `spin`: what TOLLGATE_SPIN_STAND_IN names, or the one that was built with this test's profile.
///
/// # Panics
/// As [`tollgate_bin`].
pub fn spin_stand_in() -> PathBuf {
    let name = format!("spin-stand-in{}", env::consts::EXE_SUFFIX);
    let built = profile_dir().join(name);
    found(
        "the stand-in for spin",
        env::var_os("TOLLGATE_SPIN_STAND_IN").map_or(built, PathBuf::from),
        Path::is_file,
    )
}

/// The library that watches a host's disk: what TOLLGATE_TEST_DISK names, or the one that was built with this test's profile.
///
/// # Panics
/// As [`tollgate_bin`].
pub fn disk_library() -> PathBuf {
    let beside = profile_dir().join("libtollgate_test_disk.so");
    found(
        "the library that watches a disk (only on Linux)",
        env::var_os("TOLLGATE_TEST_DISK").map_or(beside, PathBuf::from),
        Path::is_file,
    )
}

/// Compiled plugins of all stages of this profile: compiling one takes longer than most tests.
pub fn plugin_cache() -> PathBuf {
    profile_dir().join("e2e-plugin-cache")
}

/// Projects that the tests of the author's kit build in: what cargo, npm and pip made there takes minutes to make again.
pub fn kit_dir() -> PathBuf {
    profile_dir().join("../kit")
}

/// The repository's root.
pub fn root() -> PathBuf {
    // Cargo says at run time where the package is. What it said when this was compiled is wrong where two checkouts share a
    // target directory, so that is only for a test that is started without cargo.
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_owned)
}

/// `debug` or `release` of the target directory: where this executable is, or one above for tests, which stand in `deps`.
fn profile_dir() -> PathBuf {
    let executable = env::current_exe().unwrap_or_default();
    let folder = executable.parent().unwrap_or(Path::new("."));
    let profile = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    profile.to_owned()
}

fn found(what: &str, path: PathBuf, is_there: fn(&Path) -> bool) -> PathBuf {
    assert!(
        is_there(&path),
        "{what} should be at {}; run `cargo xtask test`, which builds it",
        path.display()
    );
    path
}
