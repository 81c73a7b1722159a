//! One attempt in a test: its folder, its daemon, its runner.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use hgci_api::run::{Isolation, Job, Lease, Limits, Sandbox};
use hgci_core::job::JobSpec;
use hgci_core::push::Lane;
use hgci_core::result::{Outcome, Verdict};
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::tarball::Tarball;

/// The account of tests that must not be root.
pub const NOBODY: u32 = 65534;

/// Who runs the runner, and how the job is kept apart.
#[derive(Clone, Debug)]
pub struct Mode {
    pub isolation: Isolation,
    /// The runner's account, where it is not the test's.
    pub uid: Option<u32>,
}

pub fn sandbox() -> Isolation {
    Isolation::Sandbox(Sandbox::default())
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Every isolation, as root and as an ordinary account, as far as we can be both.
pub fn modes() -> Vec<Mode> {
    let mut modes = vec![
        Mode { isolation: Isolation::None, uid: None },
        Mode { isolation: sandbox(), uid: None },
    ];
    if is_root() {
        modes.push(Mode { isolation: Isolation::None, uid: Some(NOBODY) });
        modes.push(Mode { isolation: sandbox(), uid: Some(NOBODY) });
        modes.push(Mode { isolation: Isolation::User("nobody".into()), uid: None });
    }
    modes
}

/// For a test cargo says where the program is; an example lies one folder below it.
fn built() -> PathBuf {
    option_env!("CARGO_BIN_EXE_hgci-runner").map_or_else(
        || std::env::current_exe().unwrap().with_file_name("../hgci-runner"),
        PathBuf::from,
    )
}

pub fn job(steps: &[&str], isolation: Isolation) -> Job {
    Job {
        spec: JobSpec {
            name: "test".into(),
            run: steps.iter().map(|step| step.to_string()).collect(),
            env: Default::default(),
            needs: Vec::new(),
            labels: Vec::new(),
            timeout_ms: None,
            reports: Vec::new(),
            allow_failure: false,
        },
        env: [("CI", "1"), ("HGCI", "1"), ("HGCI_ATTEMPT", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        node: "1234567890123456789012345678901234567890".parse().unwrap(),
        lane: Lane::Trusted,
        isolation,
        limits: Limits { timeout_ms: 120_000, log: 256 << 20 },
        lease: Lease { ms: 60_000, cancel: false },
    }
}

/// Whether every account can start the program.
fn is_open_to_all(path: &Path) -> bool {
    path.ancestors().all(|above| fs::metadata(above).unwrap().mode() & 0o001 != 0)
}

pub struct Scene {
    pub folder: TempDir,
    program: PathBuf,
    pub work: PathBuf,
    pub daemon: Daemon,
    uid: Option<u32>,
}

/// A runner that is running.
pub struct Running {
    pub child: Child,
}

/// The bubblewrap that `make` fetched where the system has none.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/tools/bin")
}

/// By a process of its own: a program that another thread's child still has open for writing cannot
/// be started.
fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

impl Scene {
    pub fn new(mode: &Mode, steps: &[&str]) -> Scene {
        Scene::with(mode, job(steps, mode.isolation.clone()), Tarball::small().end())
    }

    pub fn with(mode: &Mode, job: Job, source: Vec<u8>) -> Scene {
        let folder = tempfile::Builder::new().prefix("hgci-runner").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let work = folder.path().join("12.0.1");
        fs::create_dir(&work).unwrap();
        fs::set_permissions(&work, fs::Permissions::from_mode(0o700)).unwrap();
        let mut program = built().canonicalize().unwrap();
        if let Some(uid) = mode.uid {
            if !is_open_to_all(&program) {
                let copy = folder.path().join("hgci-runner");
                copy_program(&program, &copy);
                program = copy;
            }
            let tool = tools().join("bwrap");
            if tool.exists() && !is_open_to_all(&tool.canonicalize().unwrap()) {
                copy_program(&tool, &folder.path().join("bwrap"));
            }
            for path in [folder.path(), &work] {
                chown(path, Some(uid), Some(uid)).unwrap();
            }
        }
        let daemon = Daemon::start(&folder.path().join("hgcid.sock"), job, source);
        Scene { folder, program, work, daemon, uid: mode.uid }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(&self.daemon.socket);
        command.args(["--attempt", "12.0.1"]).arg("--work").arg(&self.work);
        command.env_clear().env("PATH", self.path()).env("SECRET_OF_THE_DAEMON", "1");
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    /// Where the runner looks for bubblewrap.
    fn path(&self) -> String {
        format!(
            "{}:{}:/usr/local/bin:/usr/bin:/bin",
            self.folder.path().display(),
            tools().display()
        )
    }

    pub fn start(&self) -> Running {
        self.start_as(&mut self.command())
    }

    pub fn start_as(&self, command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"the-token\n").unwrap();
        Running { child }
    }

    /// Runs the attempt to its end, and sees that nothing is left.
    pub fn run(&self) -> Verdict {
        let status = self.start().wait();
        assert!(status.success(), "{status}");
        self.assert_nothing_left();
        self.verdict()
    }

    pub fn verdict(&self) -> Verdict {
        self.daemon.state().verdict.clone().expect("no verdict")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.daemon.state().log).into_owned()
    }

    /// No process that carries the attempt's marker, no folder.
    pub fn assert_nothing_left(&self) {
        assert!(self.processes().is_empty(), "left: {:?}", self.processes());
        assert!(!self.work.exists(), "left: {}", self.work.display());
    }

    pub fn processes(&self) -> Vec<String> {
        let state = self.daemon.state();
        let Some(instance) = state.instance.as_ref() else { return Vec::new() };
        let all = hgci_runner::procs::all();
        hgci_runner::procs::marked(instance, &all)
            .iter()
            .map(|process| {
                let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
                format!("{} {}", process.pid, String::from_utf8_lossy(&line).replace('\0', " "))
            })
            .collect()
    }

    /// As the daemon's pool does after a runner's death.
    pub fn sweep(&self) {
        let instance = self.daemon.state().instance.clone();
        hgci_runner::reap::sweep(&self.work, instance.as_deref()).unwrap();
    }
}

impl Running {
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the runner does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A runner that a failed test leaves must not outlive it.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn failed(exit: i32) -> Outcome {
    Outcome::Failed { exit: Some(exit), signal: None }
}
