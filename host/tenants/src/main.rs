//! Builds the tenants of a Spin app: `tollgate-tenants FOLDER`. `tollgate spin tenants` does the same; this is for whoever builds
//! the app and has no built host.

use std::path::PathBuf;
use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "a terminal tool speaks on stderr")]
fn main() -> ExitCode {
    let given: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder] = given.as_slice() else {
        eprintln!("tollgate-tenants: name the folder of the tenants' files");
        return ExitCode::from(2);
    };
    match tollgate_tenants::build(folder, true) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-tenants: {error}");
            ExitCode::FAILURE
        }
    }
}
