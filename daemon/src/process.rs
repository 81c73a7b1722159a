//! What this process uses.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// What the process uses now, or has used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// Resident bytes.
    pub memory: u64,
    /// Seconds of processor time.
    pub cpu: f64,
    /// Open files.
    pub files: usize,
}

/// `None` where the system does not say.
pub fn used() -> Option<Used> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Some(Used {
        memory: kib * 1024,
        cpu: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        // One of them is the folder that is read.
        files: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something() {
        let used = used().unwrap();
        assert!(used.memory > 100_000 && used.cpu >= 0.0 && used.files >= 3, "{used:?}");
    }
}
