//! Runners as children of the daemon, each with a folder `work/ATTEMPT` of its own.
//!
//! A runner leaves the daemon's session and outlives it. The next daemon finds it again by its
//! command line, which names the attempt and the folder; nothing else is written about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hgci_core::AttemptKey;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

/// How long a runner that was asked to stop may take before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// How many attempts are remembered whose runners have ended. A launch is asked for again soon, if
/// at all.
const REMEMBERED: usize = 4096;

/// Bytes of a dead runner's own messages that are repeated as the reason.
const LAST_WORDS: u64 = 4096;

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
        let words = folder.join("runner.err");
        let stderr = fs::File::create(&words).map_err(at("create", &words))?;
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
        if let Some(mut stdin) = child.stdin.take() {
            // A runner that is gone already is heard of below.
            let _gone = writeln!(stdin, "{token}");
        }
        let pid = Pid::from_child(&child);
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => self.watch(attempt, pidfd, Some(child), None),
            Err(error) => {
                let _dead_already = child.kill();
                let _reaped = child.wait();
                self.clear(attempt, None);
                Err(at("watch", &inner.runner)(error.into()))?
            }
        }
        Ok(())
    }

    /// A runner has claimed the attempt under this name.
    pub fn claimed(&self, attempt: AttemptKey, instance: String) {
        if let Some(running) = self.inner.running().get_mut(&attempt) {
            running.instance = Some(instance);
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
        for (attempt, pid) in self.find_runners() {
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { continue };
            // The number may have gone to another process before it was pinned.
            if attempt_of(pid, &self.inner.work) != Some(attempt) {
                continue;
            }
            if let Some(instance) = alive.get(&attempt) {
                self.watch(attempt, pidfd, None, instance.clone());
            } else {
                let _gone = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
        let running: BTreeSet<_> = self.inner.running().keys().copied().collect();
        for attempt in self.folders() {
            if !running.contains(&attempt) {
                self.clear(attempt, alive.get(&attempt).cloned().flatten().as_deref());
            }
        }
        alive.keys().filter(|attempt| !running.contains(attempt)).copied().collect()
    }

    fn watch(
        &self,
        attempt: AttemptKey,
        pidfd: OwnedFd,
        child: Option<Child>,
        instance: Option<String>,
    ) {
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
                let words = pool.last_words(attempt, status);
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

    fn last_words(&self, attempt: AttemptKey, status: Option<std::process::ExitStatus>) -> String {
        use std::io::Read as _;
        let mut words = String::new();
        if let Ok(file) = fs::File::open(self.folder(attempt).join("runner.err")) {
            let mut bytes = Vec::new();
            let _unreadable = file.take(LAST_WORDS).read_to_end(&mut bytes);
            words = String::from_utf8_lossy(&bytes).trim().to_owned();
        }
        match status {
            Some(status) if words.is_empty() => {
                format!("the runner ended without a verdict: {status}")
            }
            Some(status) => format!("the runner ended without a verdict: {status}: {words}"),
            None if words.is_empty() => "the runner ended without a verdict".into(),
            None => format!("the runner ended without a verdict: {words}"),
        }
    }

    /// Kills whatever an attempt has left and removes its folder. A runner that ended well has done
    /// both, the folder last.
    fn clear(&self, attempt: AttemptKey, instance: Option<&str>) {
        let folder = self.folder(attempt);
        if folder.symlink_metadata().is_err() {
            return;
        }
        if let Err(error) = hgci_runner::reap::sweep(&folder, instance) {
            tracing::warn!(%attempt, %error, "could not remove all that an attempt left behind");
        }
    }

    fn folders(&self) -> Vec<AttemptKey> {
        let entries = fs::read_dir(&self.inner.work).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    fn find_runners(&self) -> Vec<(AttemptKey, Pid)> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|entry| {
                let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
                Some((attempt_of(pid, &self.inner.work)?, pid))
            })
            .collect()
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

/// The attempt that a process is the runner of, where its folder is in `work`.
fn attempt_of(pid: Pid, work: &Path) -> Option<AttemptKey> {
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    let value = |option: &[u8]| {
        let at = words.iter().position(|word| *word == option)?;
        std::str::from_utf8(words.get(at + 1)?).ok()
    };
    let attempt = value(b"--attempt")?.parse::<AttemptKey>().ok()?;
    (Path::new(value(b"--work")?) == work.join(attempt.to_string())).then_some(attempt)
}
