//! What runner and warden say to each other: lines of JSON on a socket.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{Gid, Uid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest line. A plan is below `hgci_api::run::MAX_BODY`, but JSON may double it.
const MAX_LINE: usize = 8 << 20;

/// What the warden is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The first order: run this.
    Run(Plan),
    /// Start the step that [`Report::Next`] named.
    Go,
    /// End the job: SIGTERM, then SIGKILL after the grace.
    Stop {
        /// Milliseconds between the two; 0: SIGKILL at once.
        grace_ms: u64,
    },
}

/// The job as the warden runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps, for `sh -e -c`.
    pub steps: Vec<String>,
    /// The whole environment of each.
    pub env: BTreeMap<String, String>,
    /// Where they run.
    pub folder: String,
    /// As whom they run, if not as the warden.
    pub account: Option<Account>,
}

/// An account of the host, by numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

impl Account {
    /// Makes the calling thread run as this account for good. For a process with one thread.
    pub fn become_it(&self) -> io::Result<()> {
        use rustix::thread::{
            set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
        };
        // No set-uid program leads back: what a job starts stays where it can be killed.
        set_no_new_privs(true)?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        // The slice has the memory layout of `groups`, without a copy: no allocation after fork.
        let mut groups = [Gid::ROOT; 64];
        let count = self.groups.len().min(groups.len());
        for (to, from) in groups.iter_mut().zip(&self.groups) {
            *to = Gid::from_raw(*from);
        }
        set_thread_groups(&groups[..count])?;
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)?;
        Ok(())
    }
}

/// What the warden says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It runs, in the sandbox if there is one; the first step starts now.
    Started,
    /// All before this step passed; it waits for [`Order::Go`].
    Next(usize),
    /// The last step that ran ended with this status.
    Exited(i32),
    /// It died of this signal.
    Killed(i32),
    /// Ended by order.
    Stopped,
    /// A step is such that no machine can start it.
    Refused(String),
    /// This machine cannot.
    Fault(String),
}

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    pending: Vec<u8>,
    /// Where the search for the end of the next line goes on.
    searched: usize,
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// Talks over a connected stream socket.
    pub fn new(socket: OwnedFd) -> Channel {
        Channel { socket, pending: Vec::new(), searched: 0 }
    }

    /// Sends one message, waiting as long as the socket's own time limit says.
    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there. The end of the stream is an error.
    pub fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, n)) => {
                    self.pending.extend_from_slice(&buffer[..n]);
                    if self.pending.len() > MAX_LINE {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next message of those that were read.
    pub fn take<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(at) = self.pending[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            return Ok(None);
        };
        let end = self.searched + at;
        let message = serde_json::from_slice(&self.pending[..end])?;
        self.pending.drain(..=end);
        self.searched = 0;
        Ok(Some(message))
    }
}
