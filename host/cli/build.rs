//! Puts the shipped plugins into the binary, so that `tollgate demo` needs nothing beside it. They are there when they were built
//! before it, as `cargo xtask demo`, `test` and `build` do; without them the binary is whole but for the demo, which says so.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const PLUGINS: [&str; 4] = ["cashback", "fraud", "gift-card", "inventory"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not say OUT_DIR")?);
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out, or TARGET/TRIPLE/PROFILE/… where a target was named.
    let folders = out.ancestors().skip(4).take(2).map(|target| target.join("plugins"));
    let folders: Vec<PathBuf> = folders.collect();
    let found = folders
        .iter()
        .find(|folder| PLUGINS.iter().all(|name| file(folder, name).is_file()));
    let mut list = String::from("&[\n");
    match found {
        Some(folder) => {
            for name in PLUGINS {
                let path = file(folder, name);
                println!("cargo::rerun-if-changed={}", path.display());
                writeln!(
                    list,
                    "    ({name:?}, include_bytes!({:?})),",
                    path.display().to_string()
                )?;
            }
        }
        None => {
            // A folder that is there is looked at for changes; one that is not would make every build begin anew.
            let folder = &folders[0];
            fs::create_dir_all(folder)?;
            println!("cargo::rerun-if-changed={}", folder.display());
        }
    }
    list.push_str("]\n");
    fs::write(out.join("plugins.rs"), list)?;
    Ok(())
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wasm"))
}
