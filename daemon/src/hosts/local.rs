//! Runners as children of the daemon, each with a folder `work/ATTEMPT` of its own.
//!
//! A runner leaves the daemon's session and outlives it. The next daemon finds it again by what is
//! written in that folder, see [`record`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hgci_core::AttemptKey;
use hgci_runner::reap::SweepError;
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::record;

/// How long a runner that was asked to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// How many attempts are remembered whose runners have ended. A launch is asked for again soon, if
/// at all.
const REMEMBERED: usize = 4096;

/// Bytes of a dead runner's own messages that are repeated as the reason.
const LAST_WORDS: usize = 4096;

/// Where a runner's own messages go, in the attempt's folder.
const WORDS: &str = "runner.err";

/// Milliseconds between the tries to remove what could not be removed at once: what was killed a
/// moment ago may still be dying, and write.
const TRY_AGAIN: [u64; 6] = [100, 1_000, 3_000, 10_000, 30_000, 120_000];

/// What went wrong on the way to a running runner.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A file, a folder or a process.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Told when a runner has ended: which attempt, and its last words where it died of something.
pub type OnEnd = Arc<dyn Fn(AttemptKey, String) + Send + Sync>;

/// The local pools' runners. Slots are the engine's business.
#[derive(Clone)]
pub struct LocalPool {
    inner: Arc<Inner>,
}

struct Inner {
    /// The folder of the attempts' folders.
    work: PathBuf,
    /// The `hgci-runner` to start.
    runner: PathBuf,
    /// The daemon's socket.
    socket: PathBuf,
    /// `PATH` and what else of the daemon's environment a runner gets.
    environment: Vec<(String, String)>,
    on_end: OnEnd,
    runtime: tokio::runtime::Handle,
    /// Attempts with a runner that is alive.
    running: Mutex<BTreeMap<AttemptKey, Running>>,
    /// Attempts whose runner has ended, the oldest first: they get no other.
    ended: Mutex<VecDeque<AttemptKey>>,
}

/// A runner that is alive.
#[derive(Clone)]
struct Running {
    /// How to signal it.
    pidfd: Arc<OwnedFd>,
    /// Its name for itself, once it has claimed the attempt.
    instance: Option<String>,
}

/// What is known of a runner that is to be watched.
struct Found {
    /// Where it is a child of this very daemon.
    child: Option<Child>,
    /// What it says: read at its end, when it has removed its folder.
    words: Option<fs::File>,
    instance: Option<String>,
}

impl LocalPool {
    /// Runners below `work`, which is created. `on_end` is called once for each that ends.
    pub fn new(
        work: PathBuf,
        runner: PathBuf,
        socket: PathBuf,
        environment: Vec<(String, String)>,
        runtime: tokio::runtime::Handle,
        on_end: OnEnd,
    ) -> Result<LocalPool, LaunchError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&work)
            .map_err(|source| LaunchError::Io { doing: "create", path: work.clone(), source })?;
        let running = Mutex::default();
        Ok(LocalPool {
            inner: Arc::new(Inner {
                work,
                runner,
                socket,
                environment,
                on_end,
                runtime,
                running,
                ended: Mutex::default(),
            }),
        })
    }

    /// The folder of an attempt.
    pub fn folder(&self, attempt: AttemptKey) -> PathBuf {
        self.inner.work.join(attempt.to_string())
    }

    /// Starts a runner for the attempt, unless it has one. Where it had one, the end of that is told
    /// again: the end of another could not be told from it.
    pub fn launch(&self, attempt: AttemptKey, token: &str) -> Result<(), LaunchError> {
        let inner = &self.inner;
        if inner.running().contains_key(&attempt) {
            return Ok(());
        }
        if inner.ended().contains(&attempt) {
            (inner.on_end)(attempt, "its runner has ended".into());
            return Ok(());
        }
        let folder = self.folder(attempt);
        let at = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| LaunchError::Io { doing, path, source }
        };
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left by a runner that is gone: nothing of it may reach the new one.
                self.clear(attempt, None);
                fs::DirBuilder::new().mode(0o700).create(&folder).map_err(at("create", &folder))?;
            }
            created => created.map_err(at("create", &folder))?,
        }
        let words = folder.join(WORDS);
        let stderr = fs::File::create_new(&words).map_err(at("create", &words))?;
        let said = open_words(&folder).map_err(at("read", &words))?;
        let spawned = Command::new(&inner.runner)
            .arg("--socket")
            .arg(&inner.socket)
            .arg("--attempt")
            .arg(attempt.to_string())
            .arg("--work")
            .arg(&folder)
            .env_clear()
            .envs(inner.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn();
        let mut child = spawned.map_err(|source| {
            self.clear(attempt, None);
            at("start", &inner.runner)(source)
        })?;
        let pid = Pid::from_child(&child);
        let watched =
            record::write(&folder, pid).and_then(|()| Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?));
        let pidfd = match watched {
            Ok(pidfd) => pidfd,
            Err(error) => {
                let _dead_already = child.kill();
                let _reaped = child.wait();
                self.clear(attempt, None);
                return Err(at("watch", &inner.runner)(error));
            }
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A runner that is gone already is heard of soon.
            let _gone = writeln!(stdin, "{token}");
        }
        self.watch(attempt, pidfd, Found { child: Some(child), words: Some(said), instance: None });
        Ok(())
    }

    /// A runner has claimed the attempt under this name.
    pub fn claimed(&self, attempt: AttemptKey, instance: String) {
        if let Some(running) = self.inner.running().get_mut(&attempt) {
            running.instance = Some(instance);
        }
    }

    /// Asks the runner of an attempt to stop its job, where there is one.
    pub fn stop(&self, attempt: AttemptKey) {
        if let Some(Running { pidfd, .. }) = self.inner.running().get(&attempt) {
            let _gone = pidfd_send_signal(pidfd, Signal::TERM);
        }
    }

    /// Asks the runner of an attempt to stop, and kills it when it does not. Where there is none,
    /// its end is told at once.
    pub fn kill(&self, attempt: AttemptKey) {
        let Some(Running { pidfd, .. }) = self.inner.running().get(&attempt).cloned() else {
            self.clear(attempt, None);
            self.inner.ends(attempt);
            (self.inner.on_end)(attempt, "it has no runner".into());
            return;
        };
        let _gone = pidfd_send_signal(&pidfd, Signal::TERM);
        self.inner.runtime.spawn(async move {
            tokio::time::sleep(GRACE).await;
            let _gone = pidfd_send_signal(&pidfd, Signal::KILL);
        });
    }

    /// After a restart: watches the runners of `alive` attempts that live on, and takes down what
    /// else is found. `alive` has the names of the runners that claimed. Returns those of `alive`
    /// that have no runner.
    pub fn adopt(&self, alive: &BTreeMap<AttemptKey, Option<String>>) -> Vec<AttemptKey> {
        let mut adopted = BTreeSet::new();
        for attempt in self.folders() {
            let folder = self.folder(attempt);
            let instance = alive.get(&attempt).cloned().flatten();
            let Some(pidfd) = record::find(&folder) else {
                self.clear(attempt, instance.as_deref());
                continue;
            };
            if !alive.contains_key(&attempt) {
                // Its folder goes when it is dead.
                let _gone = pidfd_send_signal(&pidfd, Signal::KILL);
            }
            let words = open_words(&folder).ok();
            self.watch(attempt, pidfd, Found { child: None, words, instance });
            adopted.insert(attempt);
        }
        alive.keys().filter(|attempt| !adopted.contains(attempt)).copied().collect()
    }

    fn watch(&self, attempt: AttemptKey, pidfd: OwnedFd, found: Found) {
        let Found { child, words, instance } = found;
        let pidfd = Arc::new(pidfd);
        self.inner.running().insert(attempt, Running { pidfd: pidfd.clone(), instance });
        let pool = self.clone();
        self.inner.runtime.spawn(async move {
            // SAFETY: the descriptor is owned, and never replaced while it is registered.
            let registered = unsafe { AsyncFd::register(pidfd) };
            if let Ok(readable) = registered {
                let _ended = readable.readable().await;
            }
            let ended = tokio::task::spawn_blocking(move || {
                let status = child.and_then(|mut child| child.wait().ok());
                let words = last_words(words.as_ref(), status);
                let instance = pool.inner.running().get(&attempt).and_then(|r| r.instance.clone());
                pool.clear(attempt, instance.as_deref());
                // In this order: at every moment it has a runner or had one.
                pool.inner.ends(attempt);
                pool.inner.running().remove(&attempt);
                (pool.inner.on_end)(attempt, words);
            });
            let _joined = ended.await;
        });
    }

    /// Kills whatever an attempt has left and removes its folder. A runner that ended well has done
    /// both, the folder last. What does not go at once is tried again.
    fn clear(&self, attempt: AttemptKey, instance: Option<&str>) {
        if self.sweep(attempt, instance).is_ok() {
            return;
        }
        // From now on the folder may go at any time: no other runner gets it.
        self.inner.ends(attempt);
        let (pool, instance) = (self.clone(), instance.map(str::to_owned));
        self.inner.runtime.spawn(async move {
            let mut last = String::new();
            for wait in TRY_AGAIN {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                let (pool, instance) = (pool.clone(), instance.clone());
                let swept = move || pool.sweep(attempt, instance.as_deref());
                match tokio::task::spawn_blocking(swept).await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => last = error.to_string(),
                    Err(error) => last = error.to_string(),
                }
            }
            tracing::warn!(%attempt, error = last, "could not remove what an attempt left behind");
        });
    }

    fn sweep(&self, attempt: AttemptKey, instance: Option<&str>) -> Result<(), SweepError> {
        let folder = self.folder(attempt);
        match folder.symlink_metadata() {
            Err(_) => Ok(()),
            Ok(_) => hgci_runner::reap::sweep(&folder, instance),
        }
    }

    /// The attempts that have a folder.
    fn folders(&self) -> BTreeSet<AttemptKey> {
        let entries = fs::read_dir(&self.inner.work).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }
}

impl Inner {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptKey, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, VecDeque<AttemptKey>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the runner of an attempt has ended.
    fn ends(&self, attempt: AttemptKey) {
        let mut ended = self.ended();
        if !ended.contains(&attempt) {
            if ended.len() == REMEMBERED {
                ended.pop_front();
            }
            ended.push_back(attempt);
        }
    }
}

/// What a runner says, for reading; there is nothing to be waited for, whatever a job put there.
fn open_words(folder: &Path) -> io::Result<fs::File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    fs::File::options().read(true).custom_flags(flags).open(folder.join(WORDS))
}

/// Why a runner ended, in its own words where it had some.
fn last_words(words: Option<&fs::File>, status: Option<std::process::ExitStatus>) -> String {
    let mut bytes = [0; LAST_WORDS];
    let read = words.and_then(|words| words.read_at(&mut bytes, 0).ok()).unwrap_or(0);
    let said = String::from_utf8_lossy(&bytes[..read]);
    let mut why = String::from("the runner ended without a verdict");
    if let Some(status) = status {
        why += &format!(": {status}");
    }
    match said.trim() {
        "" => why,
        said => format!("{why}: {said}"),
    }
}
