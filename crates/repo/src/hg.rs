//! The `hg` command, for what hg-core refuses.
//!
//! It runs without the configuration of system and user (`HGRCPATH` is empty) and with `HGPLAIN`.
//! The repository's own hgrc counts as far as hg trusts it: it may say `censor.policy=ignore`.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use hgci_core::Node;

use crate::error::{Error, Result};
use crate::open;

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

/// hg on one repository.
#[derive(Clone, Debug)]
pub(crate) struct Hg<'a> {
    /// The command.
    pub(crate) program: &'a Path,
    /// The repository's root.
    pub(crate) repo: &'a Path,
    /// The extensions that its requirements call for.
    pub(crate) extensions: Vec<&'static str>,
}

impl Hg<'_> {
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
        let mut child = command.spawn().map_err(|error| {
            failed(format!("could not start {}: {error}", self.program.display()))
        })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut child = Killed(child);
        thread::scope(|scope| {
            let said = thread::Builder::new()
                .spawn_scoped(scope, move || stderr.map(tail).unwrap_or_default())
                .map_err(|error| failed(format!("no thread for its stderr: {error}")))?;
            let taken = match stdout {
                // The pipe closes before hg is waited for: a taker that gives up ends hg.
                Some(mut stdout) => take(&mut stdout),
                None => Err(failed("it has no stdout".into())),
            };
            if taken.is_err() {
                // Nobody reads any more; hg is not to work for nothing.
                let _ = child.0.kill();
            }
            let status = child.0.wait().map_err(|error| failed(error.to_string()))?;
            let said = said.join().unwrap_or_default();
            let taken = taken?;
            match status.code() {
                Some(0) => Ok(taken),
                Some(1) if or_nothing => Ok(taken),
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

    /// The content of a file in a changeset; `None` when it has no such file.
    pub(crate) fn file(&self, node: &Node, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
        let mut pattern = b"path:".to_vec();
        pattern.extend_from_slice(path);
        let name = OsString::from_vec(pattern);
        let rev = OsString::from(node.to_string());
        let args = [
            "cat".into(),
            "--hidden".into(),
            "--rev".into(),
            rev.clone(),
            "--".into(),
            name.clone(),
        ];
        let what = String::from_utf8_lossy(path);
        let content = self.output(&what, limit, &args, true)?;
        if !content.is_empty() {
            return Ok(Some(content));
        }
        // An empty file, or none.
        let mut args: Vec<OsString> = Vec::new();
        args.extend(["files", "--hidden", "--print0", "--rev"].map(OsString::from));
        args.extend([rev, "--".into(), name]);
        let listed = self.output(&what, 64 << 10, &args, true)?;
        Ok((!listed.is_empty()).then_some(content))
    }

    /// Streams the source tree as a tar. Returns how many bytes it has.
    /// `hidden`: whether hg would not show the changeset.
    pub(crate) fn archive(&self, node: &Node, hidden: bool, sink: &mut dyn Write) -> Result<u64> {
        let node = node.to_string();
        let mut args = vec!["archive", "--no-decode", "--type", "tar", "--prefix", "."];
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
}

/// Ends the child when it goes out of scope, whatever happened.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails where it was waited for: then there is nothing to do.
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
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
