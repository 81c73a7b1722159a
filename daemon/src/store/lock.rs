//! The lock against two daemons on one state folder.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{IoContext, StoreError, check_there};

/// Holds the lock until it is dropped, or the process ends in any way.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of a state folder, and writes the own process id into it.
    pub fn take(dir: &Path) -> Result<Lock, StoreError> {
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(&path)
            .on("open", &path)?;
        // A process that was just forked from the last holder keeps the lock until it has become
        // another program.
        let patience = Instant::now() + Duration::from_millis(500);
        let locked = loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() < patience => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                locked => break locked,
            }
        };
        match locked {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Locked { dir: dir.to_owned(), pid: pid_in(file) });
            }
            Err(error) => return Err(error).on("lock", &path),
        }
        // The id is for people: a full disk must not keep the daemon from starting for want of it.
        let _ = file.set_len(0);
        let _ = file.rewind();
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Lock { file, path })
    }

    /// Whether it still keeps others out: who makes the folder anew makes a lock of its own.
    pub fn check_there(&self) -> Result<(), StoreError> {
        check_there(
            &self.file,
            &self.path,
            "; put the state folder back, or restart hgcid, which begins a new one",
        )
    }
}

/// The process that has the state folder, if one has; what it wrote of itself is not sure.
pub fn holder(dir: &Path) -> Option<String> {
    let file = File::open(dir.join("lock")).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(pid_in(file)),
        _ => None,
    }
}

/// The process id that the lock file has.
fn pid_in(file: File) -> String {
    let mut pid = String::new();
    // Whatever is in there is shown to a person, so it is kept short.
    let _ = file.take(20).read_to_string(&mut pid);
    let pid = pid.trim();
    let known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    if known { pid.to_owned() } else { "unknown".to_owned() }
}
