//! Finding and killing processes: the descendants of one, and those that carry a marker.
//!
//! A process id can be used again between looking and killing. So every kill goes through a pidfd
//! whose process is looked at again before the signal is sent.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable by which the processes of an attempt are known, besides their descent. Its value
/// is the runner's instance.
pub const MARKER: &str = "HGCI_KEY";

/// The most of a process's environment that is searched. The kernel allows 6 MiB of arguments and
/// environment; a job that hides its marker behind that much is still found by descent.
const MAX_ENVIRON: u64 = 8 << 20;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its session's id.
    pub session: i32,
    /// When it started, in clock ticks since the machine did. With `pid`, it names one process.
    pub start: u64,
    /// Dead, waiting for its parent to look.
    pub zombie: bool,
}

impl Process {
    /// The process with this id, if there is one.
    pub fn of(pid: i32) -> Option<Process> {
        parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Sends a signal to this very process; that it is gone already is fine.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            // A handle may be of a later process with the same id; then the start differs.
            Ok(handle) => match Process::of(self.pid) {
                Some(now) if now.start == self.start => send(handle.as_fd(), signal),
                _ => Ok(()),
            },
            Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Whether its environment says `MARKER=value`. What may not be read does not.
    fn is_marked(&self, value: &str) -> bool {
        let wanted = format!("{MARKER}={value}");
        let Ok(file) = fs::File::open(format!("/proc/{}/environ", self.pid)) else { return false };
        let mut environ = Vec::new();
        // A process that ends meanwhile ends the reading, with what was read so far.
        let _ = file.take(MAX_ENVIRON).read_to_end(&mut environ);
        environ.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }
}

/// Sends a signal by pidfd; that the process is gone already is fine.
pub fn send(pidfd: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    match pidfd_send_signal(pidfd, signal) {
        Err(Errno::SRCH) => Ok(()),
        sent => sent,
    }
}

/// Every process in sight, without zombies.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Process> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::of)
        .filter(|process| !process.zombie)
        .collect();
    // They are read one after the other. Where a parent ended after its child was read, the child
    // has another parent now, and would be nobody's descendant.
    for _ in 0..10 {
        let pids: HashSet<i32> = found.iter().map(|process| process.pid).collect();
        let mut moved = false;
        for process in found.iter_mut().filter(|process| !pids.contains(&process.parent)) {
            if let Some(now) = Process::of(process.pid)
                && now.start == process.start
                && now.parent != process.parent
            {
                *process = now;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    found
}

/// Those of `all` that descend from the process `of`, without itself.
pub fn descendants(of: i32, all: &[Process]) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut look = vec![of];
    while let Some(parent) = look.pop() {
        // Removed, so that a table read while it changed cannot lead in a circle.
        for child in children.remove(&parent).unwrap_or_default() {
            look.push(child.pid);
            found.push(*child);
        }
    }
    found
}

/// Those of `all` whose environment carries the marker, and their descendants.
pub fn marked(value: &str, all: &[Process]) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    for process in all.iter().filter(|process| process.is_marked(value)) {
        for process in std::iter::once(*process).chain(descendants(process.pid, all)) {
            if !found.contains(&process) {
                found.push(process);
            }
        }
    }
    found
}

/// Kills all that `find` finds, and what they start meanwhile, until it finds nothing more. Gives
/// up after some rounds, with what is left; `between` runs after each round, to reap.
///
/// All are stopped before the first is killed: who is stopped forks no more, and whose parent is
/// still there is found by descent, even when it has thrown its marker away.
pub fn kill_all(
    mut find: impl FnMut() -> Vec<Process>,
    mut between: impl FnMut(),
) -> Result<(), Vec<Process>> {
    let mut left = Vec::new();
    for round in 0..200 {
        left = stop_all(&mut find);
        if left.is_empty() {
            return Ok(());
        }
        for process in &left {
            // Not permitted: a program with another owner. It stays in the list.
            let _ = process.signal(Signal::KILL);
        }
        between();
        if round > 2 {
            // What is in the kernel's hands (a disk that hangs) dies later.
            std::thread::sleep(std::time::Duration::from_millis(round));
        }
    }
    Err(left)
}

/// Stops all that `find` finds until it finds none that is not stopped, and returns them. After
/// some rounds it takes what there is: something may start processes faster than it is found.
fn stop_all(find: &mut impl FnMut() -> Vec<Process>) -> Vec<Process> {
    let mut stopped = HashSet::new();
    let mut found = find();
    for _ in 0..100 {
        let running: Vec<_> =
            found.iter().filter(|process| stopped.insert((process.pid, process.start))).collect();
        if running.is_empty() {
            break;
        }
        for process in running {
            let _ = process.signal(Signal::STOP);
        }
        found = find();
    }
    found
}

/// The line of `/proc/PID/stat`. The name in it, in parentheses, can hold anything.
fn parse_stat(line: &[u8]) -> Option<Process> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(&line[..open]).ok()?.trim().parse().ok()?;
    let mut fields = std::str::from_utf8(line.get(close + 1..)?).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let _group = fields.next()?;
    let session = fields.next()?.parse().ok()?;
    // Fields are numbered from 1 in proc(5); the start is the 22nd, the session the 6th.
    let start = fields.nth(15)?.parse().ok()?;
    let zombie = matches!(state, "Z" | "X");
    Some(Process { pid, parent, session, start, zombie })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_mislead() {
        let line = b"42 (a) R 1 (b) S 7 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 22 33";
        let process = parse_stat(line).unwrap();
        assert_eq!((process.pid, process.parent, process.session), (42, 7, 39));
        assert_eq!((process.start, process.zombie), (987_654, false));
    }

    #[test]
    fn a_process_knows_itself() {
        let own = Process::of(std::process::id().cast_signed()).unwrap();
        let parent = own.parent;
        assert!(descendants(parent, &all()).contains(&own));
    }
}
