//! Descriptors that whoever started us left open.

use std::fs;

/// From here on programs that we start inherit standard input, output and error alone. Ours are
/// made so from the start; those that we inherited may not be.
pub fn keep_to_ourselves() {
    // SAFETY: the call changes flags of descriptors and touches no memory.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == 0 {
        return;
    }
    // Linux before 5.11.
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: as above; a number that is closed meanwhile is an error that does no harm.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
