//! `fuzz TARGET FILE…`: gives one target of `tollgate_tests::fuzz` the inputs in these files, to see again what a campaign found.

use std::io::Write as _;
use std::process::ExitCode;

use tollgate_tests::fuzz::TARGETS;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let target = arguments
        .first()
        .and_then(|name| TARGETS.iter().find(|target| target.name == name));
    let (Some(target), Some(files)) = (target, arguments.get(1..).filter(|files| !files.is_empty())) else {
        let mut usage = "Usage: fuzz TARGET FILE...\n\n".to_owned();
        for target in TARGETS {
            usage.push_str(&format!("  {:<12} {}\n", target.name, target.what));
        }
        let _ = std::io::stderr().write_all(usage.as_bytes());
        return ExitCode::from(2);
    };
    for file in files {
        match std::fs::read(file) {
            Ok(input) => (target.run)(&input),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{file}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    let _ = writeln!(std::io::stdout(), "every promise was kept");
    ExitCode::SUCCESS
}
