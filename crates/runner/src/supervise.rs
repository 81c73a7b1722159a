//! Watching over one job: its output, its time, its end. One loop waits for all of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use hgci_core::quantity::format_duration;
use hgci_core::result::Outcome;
use rustix::fs::OFlags;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, set_child_subreaper, waitpid,
};

use crate::courier::{Courier, News, SETTLED};
use crate::link::Lost;
use crate::log::Log;
use crate::procs::{MARKER, send};
use crate::sandbox::{self, CommandLine};
use crate::signals::Signals;
use crate::warden::{Channel, Order, Plan, Report, kill_orphans, wait_readable};

/// Between SIGTERM and SIGKILL, at a timeout or a cancel.
pub const GRACE: Duration = Duration::from_secs(5);

/// After the grace, how long a warden may need to kill what is left before it is killed itself.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// How long until the courier's thread is tried again that could not be started.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// How long the warden may take to read its plan.
const PLAN_PATIENCE: Duration = Duration::from_secs(10);

/// Read from the job's output at once.
const PIECE: usize = 64 << 10;

/// The most of a step that its header in the log shows.
const MAX_HEADER: usize = 4096;

/// How to start the warden, and what it is to run.
#[derive(Debug)]
pub struct Launch {
    /// The command: bubblewrap's, or our own.
    pub command: CommandLine,
    /// The marker by which all its processes are known.
    pub marker: String,
    /// The job.
    pub plan: Plan,
    /// How long the steps may take together.
    pub timeout: Duration,
}

/// How a job went.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// When its first step started: milliseconds since 1970.
    pub started_ms: i64,
    /// How long its steps took.
    pub duration: Duration,
    /// What should be known besides.
    pub notes: Vec<String>,
}

/// Why the job is being stopped.
#[derive(Debug)]
enum Why {
    TimedOut,
    Cancelled,
    Lost(Lost),
}

/// Runs the job to its end. When this returns, none of its processes is left. `work` is the
/// attempt's folder; a signal on `signals` cancels the job.
pub fn supervise(
    launch: &mut Launch,
    work: BorrowedFd<'_>,
    courier: &mut Courier,
    signals: &Signals,
) -> Result<Ran, Lost> {
    let started_ms = unix_ms();
    let failed = |what: &str, error: io::Error| Ran {
        outcome: Outcome::Errored { why: format!("{what}: {error}") },
        started_ms,
        duration: Duration::ZERO,
        notes: Vec::new(),
    };
    let files = std::mem::take(&mut launch.command.files);
    let mut job = match Job::start(launch, files, work) {
        Ok(job) => job,
        Err(error) => return Ok(failed("starting the job", error)),
    };
    let watched = job.watch(courier, signals, launch.timeout);
    let mut notes = Vec::new();
    let alive = job.bury(courier);
    if !alive.is_empty() {
        notes.push(format!("processes that could not be killed: {alive:?}"));
    }
    if let Err(error) = watched {
        return Ok(failed("watching the job", error));
    }
    if let Some(Why::Lost(lost)) = job.why {
        return Err(lost);
    }
    let duration = job.ended.unwrap_or_else(Instant::now) - job.started.map_or(job.born, |s| s.0);
    let started_ms = job.started.map_or(started_ms, |s| s.1);
    let outcome = job.outcome(courier, launch.timeout);
    Ok(Ran { outcome, started_ms, duration, notes })
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

struct Job<'a> {
    plan: &'a Plan,
    work: BorrowedFd<'a>,
    pid: Pid,
    handle: OwnedFd,
    /// `None` once it is at its end.
    output: Option<OwnedFd>,
    orders: Option<Channel>,
    born: Instant,
    /// When the first step started: here, and for people.
    started: Option<(Instant, i64)>,
    /// The warden's last word.
    report: Option<Report>,
    ended: Option<Instant>,
    why: Option<Why>,
    /// When the warden itself is killed.
    kill_at: Option<Instant>,
}

impl<'a> Job<'a> {
    /// The program inherits `files`.
    fn start(launch: &'a Launch, files: Vec<OwnedFd>, work: BorrowedFd<'a>) -> io::Result<Job<'a>> {
        // Should the warden be killed, its children come to us.
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        set_socket_timeout(&ours, Timeout::Send, Some(PLAN_PATIENCE))?;
        let (output, input) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK)?;
        for file in &files {
            // This process has one thread and starts this one program.
            fcntl_setfd(file, FdFlags::empty())?;
        }
        let born = Instant::now();
        let CommandLine { program, arguments, .. } = &launch.command;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env(MARKER, &launch.marker)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(input.try_clone()?))
            .stderr(Stdio::from(input))
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
        drop(files);
        let pid = Pid::from_child(&child);
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let orders = Channel::new(ours);
        // Should it not be read: then the child is dead or dying, and the loop will see that.
        let _ = orders.send(&Order::Run(launch.plan.clone()));
        Ok(Job {
            plan: &launch.plan,
            work,
            pid,
            handle,
            output: Some(output),
            orders: Some(orders),
            born,
            started: None,
            report: None,
            ended: None,
            why: None,
            kill_at: None,
        })
    }

    /// Until the warden is dead.
    fn watch(
        &mut self,
        courier: &mut Courier,
        signals: &Signals,
        timeout: Duration,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let deadline = self.born.checked_add(timeout);
        let mut settle = self.born + SETTLED;
        loop {
            let now = Instant::now();
            if courier.is_here() && now >= settle {
                courier.settle();
                settle = now + SETTLE_AGAIN;
            }
            if self.why.is_none() && self.report.is_none() && deadline.is_some_and(|at| now >= at) {
                self.stop(Why::TimedOut, GRACE);
            }
            if self.kill_at.is_some_and(|at| now >= at) {
                send(self.handle.as_fd(), Signal::KILL)?;
                self.kill_at = None;
            }
            let courier_at = courier.is_here().then_some(settle);
            let timeout = deadline.filter(|_| self.why.is_none());
            let next = [courier_at, timeout, self.kill_at].into_iter().flatten().min();
            let ready = wait_readable(
                [
                    self.orders.as_ref().map(AsFd::as_fd),
                    self.output.as_ref().map(AsFd::as_fd),
                    Some(self.handle.as_fd()),
                    Some(signals.as_fd()),
                    Some(courier.bell()),
                ],
                next.map(|next| next.saturating_duration_since(now)),
            )?;
            let [order, output, dead, signal, bell] = ready;
            // Orders before output: what a step writes comes after the word that it starts.
            if order || output || dead {
                self.listen(courier);
            }
            if output {
                self.read(courier, &mut piece);
            }
            if bell {
                match courier.news() {
                    Some(News::Cancel) => self.stop(Why::Cancelled, GRACE),
                    Some(News::Lost(lost)) => {
                        // Nobody wants its last words.
                        self.why = None;
                        self.stop(Why::Lost(lost), Duration::ZERO);
                    }
                    None => {}
                }
            }
            if signal && signals.take() {
                self.stop(Why::Cancelled, GRACE);
            }
            if dead {
                return Ok(());
            }
        }
    }

    /// Has the warden end the job.
    fn stop(&mut self, why: Why, grace: Duration) {
        // What has ended by itself is not stopped, but it may be lost.
        if self.why.is_some() || (self.report.is_some() && !matches!(why, Why::Lost(_))) {
            return;
        }
        self.why = Some(why);
        self.kill_at = Some(Instant::now() + grace + LAST_GRACE);
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let heard = match &self.orders {
            Some(orders) => orders.send(&Order::Stop { grace_ms }),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if heard.is_err() {
            self.kill_at = Some(Instant::now());
        }
    }

    /// Takes the warden's reports.
    fn listen(&mut self, courier: &Courier) {
        let Some(orders) = &mut self.orders else { return };
        let end = orders.fill().is_err();
        loop {
            let report = match self.orders.as_mut().map(Channel::take) {
                Some(Ok(Some(report))) => report,
                Some(Ok(None)) | None => break,
                // A job without isolation may have meddled.
                Some(Err(error)) => {
                    self.report = Some(Report::Fault(format!("the warden's report: {error}")));
                    self.orders = None;
                    break;
                }
            };
            match report {
                Report::Started => {
                    self.started = Some((Instant::now(), unix_ms()));
                    self.header(courier, 0);
                }
                Report::Next(step) => {
                    self.drain(courier);
                    self.header(courier, step);
                    if let Some(orders) = &self.orders {
                        // If it is gone, its death tells.
                        let _ = orders.send(&Order::Go);
                    }
                }
                last => {
                    self.ended = Some(Instant::now());
                    self.report = Some(last);
                }
            }
        }
        if end {
            self.orders = None;
        }
    }

    /// The line above a step's output: `$ make`, its further lines after `>`.
    fn header(&self, courier: &Courier, step: usize) {
        let Some(step) = self.plan.steps.get(step) else { return };
        let cut = step.len() > MAX_HEADER;
        let shown: String = step.chars().take(MAX_HEADER).collect();
        let mut text = format!("$ {}", shown.trim_end().replace('\n', "\n> "));
        if cut {
            text += " …";
        }
        courier.log(|log| log.line(&text, self.work));
    }

    /// One piece of output.
    fn read(&mut self, courier: &Courier, piece: &mut [u8]) -> bool {
        let Some(output) = &self.output else { return false };
        match rustix::io::read(output, &mut *piece) {
            Ok(n) if n > 0 => {
                courier.log(|log| log.append(&piece[..n], self.work));
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            _ => {
                self.output = None;
                false
            }
        }
    }

    /// What is in the pipe, but not for ever: something may go on to write.
    fn drain(&mut self, courier: &Courier) {
        let mut piece = vec![0; PIECE];
        for _ in 0..64 {
            if !self.read(courier, &mut piece) {
                break;
            }
        }
    }

    /// After the warden's end, or when watching failed: nothing stays. Returns what does.
    fn bury(&mut self, courier: &Courier) -> Vec<i32> {
        // Does nothing when it is dead.
        let _ = send(self.handle.as_fd(), Signal::KILL);
        while matches!(waitpid(Some(self.pid), WaitOptions::empty()), Err(Errno::INTR)) {}
        let alive = kill_orphans();
        self.listen(courier);
        self.drain(courier);
        alive
    }

    fn outcome(&self, courier: &Courier, timeout: Duration) -> Outcome {
        let line = |text: String| courier.log(|log| log.line(&text, self.work));
        match (&self.why, &self.report) {
            (Some(Why::TimedOut), _) => {
                line(format!("hgci: timed out after {}", format_duration(timeout)));
                Outcome::TimedOut
            }
            (Some(_), _) => {
                line("hgci: cancelled".into());
                Outcome::Cancelled
            }
            (None, Some(Report::Exited(0))) => Outcome::Passed,
            (None, Some(Report::Exited(exit))) => {
                line(format!("hgci: exit status {exit}"));
                Outcome::Failed { exit: Some(*exit), signal: None }
            }
            (None, Some(Report::Killed(signal))) => {
                line(format!("hgci: killed by signal {signal}{}", name_of(*signal)));
                Outcome::Failed { exit: None, signal: Some(*signal) }
            }
            (None, Some(Report::Refused(why))) => {
                line(format!("hgci: {why}"));
                Outcome::Failed { exit: Some(126), signal: None }
            }
            (None, Some(Report::Fault(why))) => Outcome::Errored { why: why.clone() },
            (None, _) if self.started.is_none() => {
                let said = courier.log(|log: &mut Log| log.part(0, 1024)).read();
                let said = said.unwrap_or_default();
                let text = String::from_utf8_lossy(&said);
                let text = text.trim().lines().last().unwrap_or("it said nothing").to_owned();
                Outcome::Errored {
                    why: format!("the job's sandbox did not start: {text}{}", sandbox::mend(&said)),
                }
            }
            (None, _) => {
                Outcome::Errored { why: "the process that watches over the job was killed".into() }
            }
        }
    }
}

fn name_of(signal: i32) -> &'static str {
    match signal {
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        libc::SIGFPE => " (SIGFPE)",
        libc::SIGHUP => " (SIGHUP)",
        libc::SIGILL => " (SIGILL)",
        libc::SIGINT => " (SIGINT)",
        libc::SIGKILL => " (SIGKILL)",
        libc::SIGPIPE => " (SIGPIPE)",
        libc::SIGQUIT => " (SIGQUIT)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGXCPU => " (SIGXCPU)",
        libc::SIGXFSZ => " (SIGXFSZ)",
        _ => "",
    }
}
