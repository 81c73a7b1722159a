//! Which process is the runner of an attempt: a line in the attempt's folder, for the next daemon.
//!
//! Command lines and environments say whatever a job likes; the folder is the daemon's own. A runner
//! gets its token only when the line is written: one that no line names claims nothing and ends.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use hgci_runner::procs::Process;
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The file in an attempt's folder.
const NAME: &str = "runner.pid";

/// More than a line can have.
const MAX_LINE: u64 = 256;

/// Writes that this process, which is not reaped yet, is the runner.
pub fn write(folder: &Path, pid: Pid) -> io::Result<()> {
    let line = line_of(pid).ok_or_else(|| io::Error::other("the runner is not in /proc"))?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(NAME))?;
    file.write_all(line.as_bytes())
}

/// The runner that is written of in an attempt's folder, if it is alive: a handle of it.
pub fn find(folder: &Path) -> Option<OwnedFd> {
    let line = read(&folder.join(NAME)).ok()?;
    let pid = Pid::from_raw(line.split(' ').next()?.parse().ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    // The number may be another process's by now, and not before the handle is it pinned.
    (line_of(pid)? == line).then_some(pidfd)
}

/// A job without isolation may have put anything there.
fn read(path: &Path) -> io::Result<String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut line = String::new();
    file.take(MAX_LINE).read_to_string(&mut line)?;
    Ok(line)
}

/// Number, start in ticks since the machine's, and which start of the machine that was: the same
/// for no two processes.
fn line_of(pid: Pid) -> Option<String> {
    let pid = pid.as_raw_nonzero().get();
    let start = Process::of(pid)?.start;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{pid} {start} {}", boot.trim()))
}
