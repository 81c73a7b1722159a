//! Signals as something to wait for, beside sockets and pipes.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals that no longer interrupt this process but make a descriptor readable. A child inherits
/// what is blocked, unless it is started by [`Signals::open`].
#[derive(Debug)]
pub struct Signals {
    handle: OwnedFd,
    set: libc::sigset_t,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Lets every signal act as it does by default that whoever started us had us ignore, as `nohup`
/// and the background of a shell do: a step would ignore it too. Rust itself ignores SIGPIPE, and
/// gives it back to what it starts.
pub fn ignore_none() {
    for number in (1..32).filter(|number| *number != libc::SIGPIPE) {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: the call writes the whole action where it answers 0, and changes nothing.
        let ignored = unsafe {
            libc::sigaction(number, std::ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_IGN
        };
        if ignored {
            // SAFETY: no handler is set. Of SIGKILL and SIGSTOP nobody can say that they are ignored.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}

impl Signals {
    /// Blocks these signals and no others, in this thread and those that it starts.
    pub fn block(signals: &[i32]) -> io::Result<Signals> {
        let set = set_of(signals);
        mask(&set)?;
        // SAFETY: the set is initialised, and the call only reads it.
        let handle = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if handle < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor.
        let handle = unsafe { OwnedFd::from_raw_fd(handle) };
        Ok(Signals { handle, set })
    }

    /// Does something with no signal blocked. Those that come meanwhile act as they do by default:
    /// one that is ignored leaves nothing to be taken.
    pub fn open<T>(&self, action: impl FnOnce() -> T) -> io::Result<T> {
        mask(&set_of(&[]))?;
        let done = action();
        mask(&self.set)?;
        Ok(done)
    }

    /// Takes all that came since; whether there was any.
    pub fn take(&self) -> bool {
        let mut buffer = [0; 4 * size_of::<libc::signalfd_siginfo>()];
        let mut any = false;
        while rustix::io::read(&self.handle, &mut buffer).is_ok_and(|n| n > 0) {
            any = true;
        }
        any
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` initialises the set that is then added to.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

fn mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialised, and the call only reads it.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
