//! The warden: the process between the runner and the job's steps.
//!
//! It runs `sh -e -c STEP` for one step after the other and has every process that the job starts
//! below it: in the sandbox because it is process 1 of the sandbox's pid namespace, elsewhere
//! because orphans are given to it (`PR_SET_CHILD_SUBREAPER`), also those that left the session.
//! Its standard input is a socket to the runner. When that closes, because the runner was killed,
//! it kills the job at once. When the warden is killed, the kernel ends the namespace, or gives
//! its children to the runner, which is a subreaper too and kills them.

mod kill;
mod protocol;

pub use kill::kill_orphans;
pub use protocol::{Account, Channel, Order, Plan, Report};

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, WaitStatus, getrlimit, set_dumpable_behavior, setrlimit,
};

use crate::signals::{Signals, ignore_none};
use kill::Family;

/// The command line that makes the runner's program a warden.
pub const ARGUMENT: &str = "--warden";

/// The most processes and threads of the job's account.
const MAX_PROCESSES: u64 = 8192;

/// What is added to a job's share of memory in thousandths when the kernel looks for whom to kill.
const OOM_SCORE: i32 = 500;

/// The longest text about a failure.
const MAX_WHY: usize = 300;

/// Runs a whole job, as told on standard input. Returns when no process of it is left.
pub fn run() -> io::Result<()> {
    // The runner's own session is not the job's: what is sent to one does not reach the other.
    let _ = rustix::process::setsid();
    ignore_none();
    let family = Family::found()?;
    limit_processes();
    die_first();
    if family.is_init() {
        // Our descriptors and memory are no business of the job, which may be the same user here.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    let signals = Signals::block(&[libc::SIGCHLD])?;
    // SAFETY: descriptor 0 is the socket that the runner gave us, and nothing else uses it: the
    // steps get /dev/null, and we read no standard input.
    let socket = unsafe { OwnedFd::from_raw_fd(0) };
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    let mut warden = Warden { channel: Channel::new(socket), signals, family, ended: None };
    let result = warden.job();
    // Whatever happened: nothing stays behind.
    warden.family.kill_rest();
    match result {
        Ok(report) => warden.channel.send(&report).or(Ok(())),
        Err(Away) => Ok(()),
    }
}

/// A job that forks without end must not take the host's process ids. The kernel counts all
/// processes and threads of an account, and does not apply the limit to root.
fn limit_processes() {
    let now = getrlimit(Resource::Nproc);
    let at_most = |limit: Option<u64>| Some(limit.map_or(MAX_PROCESSES, |l| l.min(MAX_PROCESSES)));
    let limit = Rlimit { current: at_most(now.current), maximum: at_most(now.maximum) };
    // Lowering it is always allowed.
    let _ = setrlimit(Resource::Nproc, limit);
}

/// When memory is short, the kernel is to take the job, not the daemon or what else runs on the host.
fn die_first() {
    const FILE: &str = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse().ok());
    if now.is_some_and(|now: i32| now < OOM_SCORE) {
        // Raising it is always allowed; should it not be, all is as it was.
        let _ = std::fs::write(FILE, OOM_SCORE.to_string());
    }
}

/// The runner is gone, or wants the job to be.
struct Away;

impl From<io::Error> for Away {
    fn from(_: io::Error) -> Away {
        Away
    }
}

struct Warden {
    channel: Channel,
    signals: Signals,
    family: Family,
    /// How the current step ended.
    ended: Option<WaitStatus>,
}

/// What came while waiting.
enum News {
    Order(Order),
    Ended(WaitStatus),
}

impl Warden {
    fn job(&mut self) -> Result<Report, Away> {
        let Some(News::Order(Order::Run(plan))) = self.wait(None)? else { return Err(Away) };
        // Steps of another account enter the tree as that account: it may be closed to us.
        if plan.account.is_none()
            && let Err(error) = std::env::set_current_dir(&plan.folder)
        {
            return Ok(Report::Fault(format!("entering {}: {error}", plan.folder)));
        }
        self.channel.send(&Report::Started)?;
        for (index, step) in plan.steps.iter().enumerate() {
            if index > 0 {
                self.channel.send(&Report::Next(index))?;
                match self.wait(None)? {
                    Some(News::Order(Order::Go)) => {}
                    Some(News::Order(Order::Stop { grace_ms })) => return self.stop(grace_ms),
                    _ => return Err(Away),
                }
            }
            if let Some(report) = self.step(&plan, step)? {
                return Ok(report);
            }
        }
        Ok(Report::Exited(0))
    }

    /// One step, to its end; `None` when the next may start.
    fn step(&mut self, plan: &Plan, step: &str) -> Result<Option<Report>, Away> {
        let mut command = Command::new("/bin/sh");
        command.args(["-e", "-c", step]).env_clear().envs(&plan.env).stdin(Stdio::null());
        // `kill 0` in a step means the step.
        command.process_group(0);
        if let Some(account) = plan.account.clone() {
            let Ok(folder) = CString::new(plan.folder.as_str()) else {
                return Ok(Some(Report::Fault("the tree's path has a NUL byte".into())));
            };
            // SAFETY: between fork and exec this makes system calls alone; nothing allocates.
            unsafe {
                command.pre_exec(move || {
                    account.become_it()?;
                    Ok(rustix::process::chdir(folder.as_c_str())?)
                });
            }
        }
        // The step must not inherit what we block.
        let child = match self.signals.open(|| command.spawn())? {
            Ok(child) => child,
            Err(error) => return Ok(Some(cannot_start(&error))),
        };
        // Not `Child::wait`: one place reaps all that end, ours and orphans.
        self.family.started(child.id().cast_signed());
        // It may have ended while nothing was blocked.
        self.ended = self.family.reap();
        match self.wait(None)? {
            Some(News::Ended(status)) => {
                Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(0), _) => None,
                    (Some(exit), _) => Some(Report::Exited(exit)),
                    (_, Some(signal)) => Some(Report::Killed(signal)),
                    _ => Some(Report::Fault("a step ended in an unknown way".into())),
                })
            }
            Some(News::Order(Order::Stop { grace_ms })) => self.stop(grace_ms).map(Some),
            _ => Err(Away),
        }
    }

    /// Asks all processes to end, and gives them the time to.
    fn stop(&mut self, grace_ms: u64) -> Result<Report, Away> {
        if grace_ms > 0 {
            self.family.ask_to_end();
            let until = Instant::now() + Duration::from_millis(grace_ms);
            while !self.family.is_empty() && Instant::now() < until {
                // Asked again: at once.
                if let Some(News::Order(_)) = self.wait(Some(until))? {
                    break;
                }
            }
        }
        Ok(Report::Stopped)
    }

    /// Waits for an order or the end of the current step. With `until` not longer than that, and
    /// also for the end of any other process; both give `None`.
    fn wait(&mut self, until: Option<Instant>) -> Result<Option<News>, Away> {
        loop {
            if let Some(order) = self.channel.take()? {
                return Ok(Some(News::Order(order)));
            }
            if let Some(status) = self.ended.take() {
                return Ok(Some(News::Ended(status)));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let [order, child] =
                wait_readable([Some(self.channel.as_fd()), Some(self.signals.as_fd())], left)?;
            if order {
                self.channel.fill()?;
            }
            if child {
                self.signals.take();
                self.ended = self.family.reap();
            }
            if until.is_some() && !order {
                return Ok(self.ended.take().map(News::Ended));
            }
        }
    }
}

/// Which of the descriptors can be read, or are at their end. `left`: `None` waits for ever.
pub(crate) fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    left: Option<Duration>,
) -> io::Result<[bool; N]> {
    let until = left.map(|left| Instant::now() + left);
    let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(N);
    polled.extend(fds.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| left.try_into().ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut answers = polled.iter().map(|fd| !fd.revents().is_empty());
    Ok(fds.map(|fd| fd.is_some() && answers.next().unwrap_or(false)))
}

/// A step that no machine would start is the pipeline's fault, anything else the host's.
fn cannot_start(error: &io::Error) -> Report {
    let why: String = format!("cannot start sh: {error}").chars().take(MAX_WHY).collect();
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => Report::Refused(why),
        _ => Report::Fault(why),
    }
}
