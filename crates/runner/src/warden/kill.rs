//! The processes below the warden: reaping and killing them.

use std::io;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};

use crate::procs::{all, descendants, kill_all};

/// All that descends from this process.
pub struct Family {
    /// Whether we are process 1: then all that is in sight is ours.
    init: bool,
    /// The process of the current step.
    step: Option<i32>,
    /// Nothing was left the last time we looked.
    none_left: bool,
}

impl Family {
    /// Makes this process the one that orphans below it are given to.
    pub fn found() -> io::Result<Family> {
        let init = getpid().as_raw_nonzero().get() == 1;
        if !init {
            // The argument is only asked whether it is there.
            set_child_subreaper(Some(getpid()))?;
        }
        Ok(Family { init, step: None, none_left: true })
    }

    /// Whether this is process 1 of the sandbox.
    pub fn is_init(&self) -> bool {
        self.init
    }

    /// The next step has started as this process.
    pub fn started(&mut self, pid: i32) {
        self.step = Some(pid);
        self.none_left = false;
    }

    /// Takes note of all that ended; returns how the current step did, if it was among them.
    pub fn reap(&mut self) -> Option<WaitStatus> {
        let mut status_of_step = None;
        loop {
            self.none_left = false;
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    let over = status.exited() || status.signaled();
                    if over && Some(pid) == self.step {
                        status_of_step = Some(status);
                        self.step = None;
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) => return status_of_step,
                Err(_) => {
                    // Every orphan becomes our child, so without children nothing is below us.
                    self.none_left = true;
                    return status_of_step;
                }
            }
        }
    }

    /// Whether nothing is left, after [`Family::reap`].
    pub fn is_empty(&self) -> bool {
        self.none_left
    }

    /// SIGTERM to all, and SIGCONT so that the stopped ones hear it.
    pub fn ask_to_end(&mut self) {
        if self.init {
            signal_all(libc::SIGTERM);
            signal_all(libc::SIGCONT);
            return;
        }
        for process in descendants(own(), &all()) {
            // Gone, or not to be killed by us: SIGKILL comes after it.
            let _ = process.signal(Signal::TERM);
            let _ = process.signal(Signal::CONT);
        }
    }

    /// SIGKILL until nothing is left.
    pub fn kill_rest(&mut self) {
        self.reap();
        if self.none_left {
            return;
        }
        if self.init {
            // The kernel sends it to all at once, so nothing can fork away from it. What does not
            // end at once is in the kernel's hands; ending ourselves waits for it.
            signal_all(libc::SIGKILL);
            return;
        }
        let me = own();
        // What cannot be killed is left to the runner, and to the daemon after it.
        let _ = kill_all(|| descendants(me, &all()), || _ = reap_any());
        for round in 0..100 {
            self.reap();
            if self.none_left {
                return;
            }
            thread::sleep(Duration::from_millis(round));
        }
    }
}

fn own() -> i32 {
    getpid().as_raw_nonzero().get()
}

fn signal_all(signal: i32) {
    // SAFETY: kill(2) takes any numbers and touches no memory of ours. -1 is all but ourselves.
    unsafe { libc::kill(-1, signal) };
}

/// Reaps all children that have ended; false when there are no children at all.
fn reap_any() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// For the runner after its warden's death: kills what was given to it, until nothing is left.
/// Returns the ids of what cannot be killed.
pub fn kill_orphans() -> Vec<i32> {
    if !reap_any() {
        return Vec::new();
    }
    let me = own();
    let left = kill_all(|| descendants(me, &all()), || _ = reap_any());
    left.err().unwrap_or_default().iter().map(|process| process.pid).collect()
}
