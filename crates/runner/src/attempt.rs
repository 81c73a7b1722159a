//! One attempt from claim to verdict.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hgci_api::Client;
use hgci_api::run::{Isolation, Job};
use hgci_core::AttemptKey;
use hgci_core::result::{Outcome, Verdict};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, fchown, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::account::{self, FilesAs};
use crate::courier::{Courier, News};
use crate::link::{Failure, Link, Lost, Waits};
use crate::log::Log;
use crate::procs::MARKER;
use crate::sandbox::CommandLine;
use crate::signals::Signals;
use crate::supervise::{Launch, Ran, supervise};
use crate::unpack::{UnpackError, unpack};
use crate::warden::{self, Account, Plan};
use crate::{ground, remove, reports, sandbox};

/// The folders that an attempt's folder has.
const FOLDERS: [&str; 3] = ["tree", "tmp", "home"];

/// What a job finds on `PATH` unless its pipeline says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a source tree is tried for that does not come, after the first failure. A daemon that
/// answers renews the lease meanwhile, so that is no limit.
const FETCH_FOR: Duration = Duration::from_secs(600);

/// How often it is looked for signals and news while trees or reports are read.
const LOOK: Duration = Duration::from_millis(200);

/// Notes in a verdict; the rest is left out.
const MAX_NOTES: usize = 32;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's address.
    pub client: Client,
    /// Which attempt.
    pub attempt: AttemptKey,
    /// The attempt's own folder, absolute.
    pub work: PathBuf,
}

/// Why an attempt came to no acknowledged verdict.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The daemon has taken it back, or is away for too long.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The attempt's folder cannot be used, or something as basic.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> AttemptError {
    let what = what.into();
    move |source| AttemptError::Io { what, source }
}

/// Runs the attempt to its verdict and removes its folder. `signals` cancel it.
pub fn run(options: &Options, instance: &str, signals: &Signals) -> Result<(), AttemptError> {
    let ran = run_in(options, instance, signals);
    let removed = remove::remove_tree(&options.work).map_err(io_error("clearing up"));
    ran.and(removed)
}

fn run_in(options: &Options, instance: &str, signals: &Signals) -> Result<(), AttemptError> {
    let mut link = Link::new(options.client.clone(), options.attempt, instance.to_owned());
    let job = claim(&mut link, signals)?;
    if let Some(above) = options.work.parent() {
        // For the attempts to come, and only where the file system can.
        let _ = ground::spread(above);
    }
    let folder = Folder::open(&options.work)
        .map_err(io_error(format!("opening {}", options.work.display())))?;
    let mut courier = Courier::new(link, Log::new(job.limits.log)).map_err(io_error("eventfd"))?;
    let mut verdict = match prepare(&mut courier, &job, &folder, instance, signals) {
        Ok(Ok(mut place)) => {
            let ran = supervise(&mut place.launch, folder.work.as_fd(), &mut courier, signals)?;
            verdict_of(ran, &job, &place, &courier, signals)?
        }
        Ok(Err(outcome)) => Verdict {
            outcome,
            started_ms: unix_ms(),
            duration_ms: 0,
            tests: None,
            notes: Vec::new(),
        },
        Err(lost) => return Err(lost.into()),
    };
    let note = courier.log(|log| {
        if let Outcome::Errored { why } = &verdict.outcome {
            log.line(&format!("hgci: {why}"), folder.work.as_fd());
        }
        log.close(folder.work.as_fd())
    });
    verdict.notes.extend(note);
    verdict.notes.truncate(MAX_NOTES);
    let mut link = courier.finish()?;
    link.insist(|link| link.verdict(&verdict))?;
    Ok(())
}

/// Takes the attempt, once there is a daemon to take it from; a signal ends the waiting.
fn claim(link: &mut Link, signals: &Signals) -> Result<Job, Lost> {
    let mut waits = Waits::default();
    loop {
        let why = match link.claim() {
            Ok(job) => return Ok(job),
            Err(Failure::LetGo(why)) => return Err(Lost::LetGo(why)),
            Err(Failure::Later(why)) => why,
        };
        let wait = waits.next();
        if Instant::now() + wait >= link.until() {
            return Err(Lost::Over(why));
        }
        // Should waiting fail, the next try comes at once.
        let _ = warden::wait_readable([Some(signals.as_fd())], Some(wait));
        if signals.take() {
            return Err(Lost::LetGo("stopped before it had the attempt".into()));
        }
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn verdict_of(
    ran: Ran,
    job: &Job,
    place: &Place,
    courier: &Courier,
    signals: &Signals,
) -> Result<Verdict, Lost> {
    let mut notes = ran.notes;
    let mut tests = None;
    if !job.spec.reports.is_empty() {
        let mut looked = Instant::now();
        let mut lost = None;
        // What has ended by itself keeps its outcome: a cancel ends the reading alone.
        let mut stop = || {
            if looked.elapsed() < LOOK {
                return false;
            }
            looked = Instant::now();
            match courier.news() {
                Some(News::Lost(why)) => lost = Some(why),
                Some(News::Cancel) => {}
                None => return signals.take(),
            }
            true
        };
        let found = reports::collect(place.tree.as_fd(), &job.spec.reports, &mut stop);
        if let Some(lost) = lost {
            return Err(lost);
        }
        notes.extend(found.notes);
        tests = found.tests;
    }
    let duration_ms = u64::try_from(ran.duration.as_millis()).unwrap_or(u64::MAX);
    Ok(Verdict { outcome: ran.outcome, started_ms: ran.started_ms, duration_ms, tests, notes })
}

/// The attempt's folder.
struct Folder {
    path: PathBuf,
    work: OwnedFd,
}

/// A job that can be started.
struct Place {
    tree: OwnedFd,
    launch: Launch,
}

impl Folder {
    fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Folder { path: path.to_owned(), work: openat(CWD, path, flags, Mode::empty())? })
    }

    /// Makes the folders, for the account, and opens the one for the source tree.
    fn lay_out(&self, account: Option<&Account>) -> io::Result<OwnedFd> {
        for name in FOLDERS {
            match mkdirat(&self.work, name, Mode::RWXU) {
                // What a runner before us left: it is dead, or the attempt would not be ours.
                Err(Errno::EXIST) => {
                    remove::empty(self.work.as_fd())?;
                    return self.lay_out(account);
                }
                made => made?,
            }
            if let Some(account) = account {
                let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                chownat(&self.work, name, Some(uid), Some(gid), flags)?;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.work, "tree", flags, Mode::empty())?)
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).to_string_lossy().into_owned()
    }
}

/// Unpacks the source and makes the job ready to start. The inner error is a verdict.
fn prepare(
    courier: &mut Courier,
    job: &Job,
    folder: &Folder,
    instance: &str,
    signals: &Signals,
) -> Result<Result<Place, Outcome>, Lost> {
    if job.lease.cancel {
        return Ok(Err(Outcome::Cancelled));
    }
    let errored = |why: String| Ok(Err(Outcome::Errored { why }));
    let account = match account_for(&job.isolation, instance) {
        Ok(account) => account,
        Err(error) => return errored(format!("isolation: {error}")),
    };
    let tree = match folder.lay_out(account.as_ref()) {
        Ok(tree) => tree,
        Err(error) => return errored(format!("making {}: {error}", folder.path("tree"))),
    };
    match fetch(courier, &tree, account.as_ref(), signals)? {
        Ok(None) => {}
        Ok(Some(why)) => {
            let line = format!("hgci: the source tree was read by hg, which is slower: {why}");
            courier.log(|log| log.line(&line, folder.work.as_fd()));
        }
        Err(outcome) => return Ok(Err(outcome)),
    }
    Ok(launch(job, folder, instance, account)
        .map(|launch| Place { tree, launch })
        .map_err(|why| Outcome::Errored { why }))
}

/// As whom the steps run, where that is not as ourselves.
fn account_for(isolation: &Isolation, instance: &str) -> io::Result<Option<Account>> {
    let root = geteuid().is_root();
    match isolation {
        Isolation::None => Ok(None),
        Isolation::Sandbox(_) if root => {
            let digits = instance.get(..8).unwrap_or(instance);
            let random = u32::from_str_radix(digits, 16).map_err(io::Error::other)?;
            Ok(Some(account::nobody_else(random)))
        }
        Isolation::Sandbox(_) => Ok(None),
        Isolation::User(name) if root => account::by_name(name).map(Some),
        Isolation::User(name) => Err(io::Error::other(format!(
            "only root can run jobs as {name:?}; run hgcid as root, or use the sandbox"
        ))),
    }
}

/// Gets the source tree; tries again when the connection breaks. Returns why `hg` read it, if so.
/// The inner error is a verdict.
fn fetch(
    courier: &mut Courier,
    tree: &OwnedFd,
    account: Option<&Account>,
    signals: &Signals,
) -> Result<Result<Option<String>, Outcome>, Lost> {
    let errored = |why: String| Ok(Err(Outcome::Errored { why }));
    let Some(link) = courier.link() else {
        return Err(Lost::Over("no connection".into()));
    };
    let mut waits = Waits::default();
    let mut give_up = None;
    loop {
        let why = match link.source() {
            Ok(Err(why)) => return errored(format!("no source tree: {why}")),
            Ok(Ok((source, by_hg))) => {
                let mut watch = Watch { link, signals, looked: Instant::now(), lost: None };
                let files = FilesAs::account(account);
                let unpacked = match &files {
                    Ok(_) => unpack(tree.as_fd(), source, &mut || watch.look()),
                    Err(error) => Err(UnpackError::Refused(error.to_string())),
                };
                drop(files);
                if let Some(lost) = watch.lost {
                    return Err(lost);
                }
                match unpacked {
                    Ok(_) => return Ok(Ok(by_hg)),
                    Err(UnpackError::Broken(error)) => error.to_string(),
                    Err(UnpackError::Interrupted) => return Ok(Err(Outcome::Cancelled)),
                    Err(error) => return errored(error.to_string()),
                }
            }
            Err(Failure::LetGo(why)) => return Err(Lost::LetGo(why)),
            Err(Failure::Later(why)) => why,
        };
        let now = Instant::now();
        if now >= *give_up.get_or_insert(now + FETCH_FOR) {
            return errored(format!("no source tree: {why}"));
        }
        if now >= link.renew_at() {
            match link.renew() {
                Ok(true) => return Ok(Err(Outcome::Cancelled)),
                Err(Failure::LetGo(why)) => return Err(Lost::LetGo(why)),
                Ok(false) | Err(Failure::Later(_)) => {}
            }
        }
        let wait = waits.next();
        if Instant::now() + wait >= link.until() {
            return Err(Lost::Over(why));
        }
        std::thread::sleep(wait);
        if signals.take() {
            return Ok(Err(Outcome::Cancelled));
        }
        if let Err(errno) = remove::empty(tree.as_fd()) {
            return errored(format!("clearing the source tree: {}", io::Error::from(errno)));
        }
    }
}

/// What is looked after while a large tree is unpacked.
struct Watch<'a> {
    link: &'a mut Link,
    signals: &'a Signals,
    looked: Instant,
    lost: Option<Lost>,
}

impl Watch<'_> {
    fn look(&mut self) -> ControlFlow<()> {
        let now = Instant::now();
        if now - self.looked < LOOK {
            return ControlFlow::Continue(());
        }
        self.looked = now;
        if self.signals.take() {
            return ControlFlow::Break(());
        }
        if now < self.link.renew_at() {
            return ControlFlow::Continue(());
        }
        // The stream has its connection for itself; this takes another one.
        match self.link.renew() {
            Ok(false) => ControlFlow::Continue(()),
            Ok(true) => ControlFlow::Break(()),
            Err(Failure::Later(_)) if Instant::now() < self.link.until() => {
                ControlFlow::Continue(())
            }
            Err(Failure::Later(why)) => {
                self.lost = Some(Lost::Over(why));
                ControlFlow::Break(())
            }
            Err(Failure::LetGo(why)) => {
                self.lost = Some(Lost::LetGo(why));
                ControlFlow::Break(())
            }
        }
    }
}

fn launch(
    job: &Job,
    folder: &Folder,
    instance: &str,
    account: Option<Account>,
) -> Result<Launch, String> {
    let (command, places) = match &job.isolation {
        Isolation::Sandbox(wanted) => {
            let command = sandbox::command_line(wanted, &folder.path, account.as_ref())
                .map_err(|error| error.to_string())?;
            let places = [sandbox::TREE, sandbox::TMP, sandbox::HOME].map(str::to_owned);
            (command, places)
        }
        Isolation::User(_) | Isolation::None => {
            if let Some(account) = &account {
                open_to(folder, account)?;
            }
            let program = env::current_exe()
                .map_err(|error| format!("finding the runner's own program: {error}"))?;
            let places = ["tree", "tmp", "home"].map(|name| folder.path(name));
            let arguments = vec![warden::ARGUMENT.into()];
            (CommandLine { program, arguments, files: Vec::new() }, places)
        }
    };
    let [tree, tmp, home] = places;
    let timeout_ms = job.spec.timeout_ms.unwrap_or(job.limits.timeout_ms);
    Ok(Launch {
        command,
        marker: instance.to_owned(),
        plan: Plan {
            steps: job.spec.run.clone(),
            env: environment(job, &tmp, &home, instance),
            folder: tree,
            account,
        },
        timeout: Duration::from_millis(timeout_ms.min(job.limits.timeout_ms)),
    })
}

/// The whole environment of a job: what every job has, the pipeline's, hgci's own.
fn environment(job: &Job, tmp: &str, home: &str, instance: &str) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> =
        [("PATH", PATH), ("HOME", home), ("TMPDIR", tmp), ("LANG", "C.UTF-8")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    let theirs = job.spec.env.iter().filter(|(name, _)| !name.starts_with("HGCI_"));
    env.extend(theirs.chain(&job.env).map(|(name, value)| (name.clone(), value.clone())));
    env.insert(MARKER.to_owned(), instance.to_owned());
    env
}

/// Lets the account walk through the attempt's folder to its own folders in it, and sees whether
/// it can walk to there from the root.
fn open_to(folder: &Folder, account: &Account) -> Result<(), String> {
    let to = |error: io::Error| format!("opening {} to the job: {error}", folder.path.display());
    // Theirs to walk through, ours to write to.
    fchown(&folder.work, None, Some(Gid::from_raw(account.gid)))
        .and_then(|()| rustix::fs::fchmod(&folder.work, Mode::from_raw_mode(0o710)))
        .map_err(|errno| to(errno.into()))?;
    let _as = FilesAs::account(Some(account)).map_err(to)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, folder.path("tree"), flags, Mode::empty()) {
        Ok(_) => Ok(()),
        Err(errno) => Err(format!(
            "the job's account cannot reach {}: {}; every folder above it must be searchable by \
             others (chmod o+x), or the pool needs another isolation",
            folder.path("tree"),
            io::Error::from(errno)
        )),
    }
}
