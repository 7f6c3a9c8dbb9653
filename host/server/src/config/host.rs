//! What people call a host: as its file says, or as its machine is called.

use tollgate_core::ids::HostName;
use tollgate_tenants::file::Section;

/// Where the system says what the machine is called.
const OF_SYSTEM: &str = "/proc/sys/kernel/hostname";

/// Reads `[host]`.
pub(super) fn host(section: &Section) -> Option<HostName> {
    let name = section.get("name");
    section.finish();
    name?.parse("write a name for this host, such as name = \"a\"")
}

/// The machine's name, as far as a host may have it.
pub(super) fn of_machine() -> HostName {
    let name = std::fs::read_to_string(OF_SYSTEM)
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    fit(&name)
}

fn fit(name: &str) -> HostName {
    let plain = |letter: char| match letter {
        'a'..='z' | '0'..='9' | '-' | '_' => letter,
        'A'..='Z' => letter.to_ascii_lowercase(),
        _ => '-',
    };
    let name: String = name.trim().chars().map(plain).collect();
    let name = name.trim_matches(['-', '_']);
    let name = name.get(..HostName::BYTES_MAX).unwrap_or(name);
    HostName::new(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_a_machines_name_is_made_one_of_a_host() {
        for (machine, host) in [
            ("node-1\n", "node-1"),
            ("Node_1.example.internal", "node_1-example-internal"),
            ("..", "host"),
            ("", "host"),
            (&"x".repeat(70), &"x".repeat(63)),
        ] {
            assert_eq!(fit(machine).as_str(), host);
        }
    }
}
