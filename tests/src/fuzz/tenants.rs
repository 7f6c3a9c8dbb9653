//! A tenant's file: any text is a tenant, or a problem in words that names its file.
//!
//! An input is the tenant's file; behind a line `%%%`, a profile of its own under the name `own/own.toml`.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::{Target, files};

pub(super) const TARGET: Target = Target {
    name: "config",
    what: "configuration: tenants' files with routes, grants, secrets and a profile of their own",
    seeds,
    run,
    short: 2_500,
};

const BETWEEN: &str = "\n%%%\n";

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for folder in ["host/server/examples/tenants", "host/spin/tenants", "host/cli/src/demo"] {
        seeds.extend(files(folder, "toml"));
    }
    let own = files("host/server/examples/tenants/profiles", "toml");
    let named = "[sources.club]\nprofile = { file = \"own/own.toml\" }\nsecrets = [{ id = \"a\", value = { variable = \"club\" } }]\n";
    seeds.extend(
        own.iter()
            .map(|profile| [named.as_bytes(), BETWEEN.as_bytes(), profile].concat()),
    );
    seeds
}

/// A folder for this process and thread, in memory where there is a place for that.
fn folder() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    static ROOT: OnceLock<tempfile::TempDir> = OnceLock::new();
    thread_local!(static OWN: PathBuf = {
        let root = ROOT.get_or_init(|| tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder"));
        let folder = root.path().join(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
        fs::create_dir(&folder).expect("a folder");
        folder
    });
    OWN.with(Clone::clone)
}

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (tenant, own) = text.split_once(BETWEEN).unwrap_or((text, ""));
    let folder = folder();
    let own_folder = folder.join("own");
    fs::write(folder.join("acme.toml"), tenant).expect("a file");
    fs::create_dir_all(&own_folder).expect("a folder");
    // The profile lies where a tenant's file is not looked for.
    fs::write(own_folder.join("own.toml"), own).expect("a file");
    match tollgate_tenants::build(&folder, false) {
        Ok(built) => assert_eq!(built.tenants.len(), 1),
        Err(error) => {
            let words = error.to_string();
            assert!(
                words.contains("acme.toml") && words.len() > folder.display().to_string().len() + 12,
                "{words}"
            );
        }
    }
}
