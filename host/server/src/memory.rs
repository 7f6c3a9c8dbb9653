//! How much memory there is, and how much of it the process has.

/// The machine's memory, or what this process's control group may have of it; `None` where the system does not say.
pub(crate) fn bytes() -> Option<u64> {
    let machine = kilobytes("/proc/meminfo", "MemTotal:");
    let group = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    machine.into_iter().chain(group).min()
}

/// Memory that the process has in use, as Linux says.
pub(crate) fn resident_bytes() -> Option<u64> {
    kilobytes("/proc/self/status", "VmRSS:")
}

/// What a line of such a file says in kilobytes, in bytes.
fn kilobytes(file: &str, name: &str) -> Option<u64> {
    let text = read(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.trim().strip_suffix("kB")?;
    number.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(file).ok()
}
