//! The `hg` command, for what hg-core refuses.
//!
//! It runs without the configuration of system and user (`HGRCPATH` is empty) and with `HGPLAIN`.
//! The repository's own hgrc counts as far as hg trusts it: it may say `censor.policy=ignore`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hgci_core::Node;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::{Error, Result};
use crate::open;
use crate::repository::Repository;
use crate::revlog::Requirements;

/// So much of what hg says on its stderr gets into an error.
const MAX_STDERR: u64 = 4096;

/// What hg opens in every repository, whatever it is asked. It would wait for a fifo for ever.
const OPENED: [&str; 13] = [
    "requires",
    "hgrc",
    "sharedpath",
    "bookmarks",
    "localtags",
    "dirstate",
    "branch",
    "store/requires",
    "store/00changelog.i",
    "store/00manifest.i",
    "store/phaseroots",
    "store/obsstore",
    "store/bookmarks",
];
/// An hg that says nothing for so long hangs. A file of gigabytes takes it a minute to restore.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// hg on one repository.
#[derive(Clone, Debug)]
pub(crate) struct Hg<'a> {
    /// The command.
    pub(crate) program: &'a Path,
    /// The repository's root.
    pub(crate) repo: &'a Path,
    /// The extensions that its requirements call for.
    pub(crate) extensions: Vec<&'static str>,
    /// How long it may be silent.
    pub(crate) patience: Duration,
}

impl<'a> Hg<'a> {
    /// hg on a repository with these requirements.
    pub(crate) fn of(repository: &'a Repository, requirements: &Requirements) -> Self {
        let extensions =
            [("narrowhg-experimental", "narrow"), ("largefiles", "largefiles"), ("lfs", "lfs")];
        let needed = extensions.into_iter().filter(|(name, _)| requirements.contains(*name));
        Hg {
            program: repository.hg(),
            repo: repository.source(),
            extensions: needed.map(|(_, extension)| extension).collect(),
            patience: repository.hg_patience(),
        }
    }

    /// Runs a command and hands its stdout to `take`. Exit status 1 counts as success where
    /// `or_nothing`: hg's word for "there is no such thing".
    fn run<T>(
        &self,
        args: &[OsString],
        or_nothing: bool,
        take: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        for name in OPENED {
            open::check(&self.repo.join(".hg").join(name))?;
        }
        let shown: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
        let failed = |why: String| Error::Hg {
            path: self.repo.to_owned(),
            command: format!("hg {}", shown.join(" ")),
            why,
        };
        let mut command = Command::new(self.program);
        command.arg("--repository").arg(self.repo);
        // The extension would only cost time here.
        command.args(["--noninteractive", "--config", "extensions.hgci=!"]);
        command.args(["--config", "ui.archivemeta=yes", "--config", "ui.report_untrusted=no"]);
        // An hg without fast code refuses some formats; slow is better than not at all.
        command.args(["--config", "storage.fileindex.slow-path=allow"]);
        command.args(["--config", "storage.dirstate-v2.slow-path=allow"]);
        command.args(["--config", "storage.revlog.persistent-nodemap.slow-path=allow"]);
        for name in &self.extensions {
            command.args(["--config", &format!("extensions.{name}=")]);
        }
        command.args(args).current_dir("/");
        command.env("HGRCPATH", "").env("HGPLAIN", "1").env("HGENCODING", "UTF-8");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Whatever it starts ends with it.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| {
            failed(format!("could not start {}: {error}", self.program.display()))
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut child = Running(child);
        let silent =
            || failed(format!("it hung: no output for {:?}, and was killed", self.patience));
        thread::scope(|scope| {
            let said = thread::Builder::new()
                .spawn_scoped(scope, move || stderr.map(tail).unwrap_or_default())
                .map_err(|error| failed(format!("no thread for its stderr: {error}")))?;
            let taken = match stdout {
                // The pipe closes before hg is waited for: a taker that gives up ends hg.
                Some(stdout) => {
                    let mut out = Patient { stdout, patience: self.patience, gave_up: false };
                    let taken = take(&mut out);
                    if out.gave_up { Err(silent()) } else { taken }
                }
                None => Err(failed("it has no stdout".into())),
            };
            // Then hg says why itself.
            let ended_early = matches!(
                &taken,
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof
            );
            if taken.is_err() && !ended_early {
                // Nobody reads any more; hg is not to work for nothing.
                child.kill();
            }
            let status = child.wait(self.patience).map_err(|error| failed(error.to_string()))?;
            let said = said.join().unwrap_or_default();
            if taken.is_err() && !ended_early {
                return taken;
            }
            let status = status.ok_or_else(silent)?;
            match status.code() {
                Some(0) => taken,
                Some(1) if or_nothing => taken,
                _ => Err(failed(format!("{status}: {}", said.trim_end()))),
            }
        })
    }

    /// At most `limit` bytes of a command's output.
    fn output(
        &self,
        what: &str,
        limit: u64,
        args: &[OsString],
        or_nothing: bool,
    ) -> Result<Vec<u8>> {
        self.run(args, or_nothing, |stdout| {
            let mut out = Vec::new();
            let read = stdout.take(limit.saturating_add(1)).read_to_end(&mut out);
            read.map_err(Error::io("read the output of hg on", self.repo))?;
            if out.len() as u64 > limit {
                let (path, size) = (self.repo.to_owned(), out.len() as u64);
                return Err(Error::TooLarge { path, what: what.to_owned(), size, limit });
            }
            Ok(out)
        })
    }

    /// The text of a changeset as the changelog has it.
    pub(crate) fn changeset(&self, node: &Node, limit: u64) -> Result<Vec<u8>> {
        let args = ["debugdata", "--hidden", "--changelog", &node.to_string()].map(OsString::from);
        self.output(&format!("changeset {node}"), limit, &args, false)
    }

    /// Lines of node, first and second parent as numbers, in the repository's order.
    pub(crate) fn graph(&self, limit: u64) -> Result<Vec<u8>> {
        let template = "{node} {p1.rev} {p2.rev}\n";
        let args =
            ["log", "--hidden", "--rev", "all()", "--template", template].map(OsString::from);
        self.output("the list of changesets", limit, &args, false)
    }

    /// Whether hg would hide a changeset; `None` when it does not know it.
    pub(crate) fn hides(&self, node: &Node) -> Result<Option<bool>> {
        let rev = format!("present({node})");
        let template = "{ifcontains(rev, revset('hidden()'), 'hidden', 'visible')}";
        let args = ["log", "--hidden", "--rev", &rev, "--template", template].map(OsString::from);
        let said = self.output("the changeset", 64, &args, false)?;
        Ok((!said.is_empty()).then_some(said == b"hidden"))
    }

    /// Whether a changeset has a file or folder of that name.
    pub(crate) fn has(&self, node: &Node, path: &str) -> Result<bool> {
        let (rev, name) = (node.to_string(), format!("path:{path}"));
        let args = ["files", "--hidden", "--print0", "--rev", &rev, "--", &name];
        let args = args.map(OsString::from);
        self.run(&args, true, |stdout| {
            let mut first = [0];
            let read =
                stdout.read(&mut first).map_err(Error::io("read what hg lists of", self.repo))?;
            io::copy(stdout, &mut io::sink())
                .map_err(Error::io("read what hg lists of", self.repo))?;
            Ok(read > 0)
        })
    }

    /// The content of a file in a changeset; `None` when it has no such file.
    pub(crate) fn file(&self, node: &Node, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
        let mut pattern = b"path:".to_vec();
        pattern.extend_from_slice(path);
        let name = OsString::from_vec(pattern);
        let rev = OsString::from(node.to_string());
        // The pattern would also take all that is in a folder of that name.
        let within = within(path);
        let mut args: Vec<OsString> = ["cat", "--hidden", "--exclude"].map(OsString::from).into();
        args.extend([within.clone(), "--rev".into(), rev.clone(), "--".into(), name.clone()]);
        let what = String::from_utf8_lossy(path);
        let content = self.output(&what, limit, &args, true)?;
        if !content.is_empty() {
            return Ok(Some(content));
        }
        // An empty file, or none.
        let mut args: Vec<OsString> = Vec::new();
        args.extend(["files", "--hidden", "--print0", "--exclude"].map(OsString::from));
        args.extend([within, "--rev".into(), rev, "--".into(), name]);
        let listed = self.output(&what, 64 << 10, &args, true)?;
        Ok((!listed.is_empty()).then_some(content))
    }

    /// Whether a file of a changeset is a symlink.
    pub(crate) fn is_symlink(&self, node: &Node, path: &[u8]) -> Result<bool> {
        let name = OsString::from_vec([b"path:", path].concat());
        let mut args: Vec<OsString> = ["files", "--hidden", "--exclude"].map(OsString::from).into();
        args.extend([within(path), "--rev".into(), node.to_string().into()]);
        args.extend(["--template".into(), "{flags}".into(), "--".into(), name]);
        Ok(self.output(&String::from_utf8_lossy(path), 64, &args, true)? == b"l")
    }

    /// Streams the source tree as a tar. Returns how many bytes it has.
    /// `hidden`: whether hg would not show the changeset. `described`: with `.hg_archival.txt`.
    pub(crate) fn archive(
        &self,
        node: &Node,
        hidden: bool,
        described: bool,
        sink: &mut dyn Write,
    ) -> Result<u64> {
        let node = node.to_string();
        let mut args = vec!["archive", "--no-decode", "--type", "tar", "--prefix", "."];
        // This one comes after ours, and so wins.
        args.extend(
            (!described).then_some(["--config", "ui.archivemeta=no"]).into_iter().flatten(),
        );
        args.extend(hidden.then_some("--hidden"));
        args.extend(["--rev", &node, "-"]);
        let args: Vec<_> = args.into_iter().map(OsString::from).collect();
        let mut bytes = 0;
        self.run(&args, false, |stdout| {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = match stdout.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        return Err(Error::io("read the output of hg on", self.repo)(error));
                    }
                };
                sink.write_all(&buffer[..read]).map_err(Error::Sink)?;
                bytes += read as u64;
            }
        })?;
        Ok(bytes)
    }

    /// One file of a source tree as a tar of its own.
    pub(crate) fn entry<T>(
        &self,
        node: &Node,
        path: &[u8],
        take: impl FnOnce(&mut dyn Read) -> Result<T>,
    ) -> Result<T> {
        let mut args: Vec<OsString> =
            ["archive", "--hidden", "--no-decode", "--type", "tar"].map(OsString::from).into();
        args.extend(["--prefix", ".", "--config", "ui.archivemeta=no"].map(OsString::from));
        args.extend(["--include".into(), OsString::from_vec([b"path:", path].concat())]);
        args.extend(["--rev".into(), node.to_string().into(), "-".into()]);
        self.run(&args, false, take)
    }
}

/// A pattern for what is in a folder of that name.
fn within(path: &[u8]) -> OsString {
    let mut pattern = b"re:".to_vec();
    for byte in path {
        if byte.is_ascii_punctuation() || *byte == b' ' {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.push(b'/');
    OsString::from_vec(pattern)
}

/// What can be read of hg, as long as it is not silent for too long.
struct Patient {
    stdout: ChildStdout,
    patience: Duration,
    gave_up: bool,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !wait_readable(&self.stdout, self.patience)? {
            self.gave_up = true;
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stdout.read(buffer)
    }
}

/// Waits until there is something to read, or the end; false when it took too long.
fn wait_readable(from: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = left.try_into().map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// hg, which ends when this goes out of scope, whatever happened.
struct Running(Child);

impl Running {
    /// Kills it and what it has started.
    fn kill(&mut self) {
        // Not waited for yet, so the number is still its own.
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        }
    }

    /// Waits for its end; `None` when it had to be killed.
    fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(Some(status));
        }
        let pid = Pid::from_child(&self.0);
        let ended = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(end) => wait_readable(&end, patience)?,
            // A kernel without: then it is waited for as long as it takes.
            Err(_) => return self.0.wait().map(Some),
        };
        // Also what it leaves behind: that could hold its stderr open.
        let _ = kill_process_group(pid, Signal::KILL);
        let status = self.0.wait()?;
        Ok(ended.then_some(status))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        // Fails where it was waited for: then there is nothing to do.
        let _ = self.0.wait();
    }
}

/// The last bytes of what can be read.
fn tail(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(MAX_STDERR as usize);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}
