//! Where the pipeline is read from: a file, standard input or a changeset.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hgci_core::document::{self, Mistake};
use hgci_core::pipeline;

use crate::Check;

/// A pipeline's text, not more than one byte above what a pipeline may have.
pub(crate) struct Source {
    /// What mistakes call it.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSource {
    #[error("there is no {FILE} here, and this is not in a Mercurial repository", FILE = pipeline::FILE)]
    NoRepository,
    #[error("there is no {FILE} in the repository {0}", FILE = pipeline::FILE)]
    NoFile(PathBuf),
    #[error("{0} is no Mercurial repository: it has no .hg")]
    NotARepository(PathBuf),
    #[error("cannot read {0}: {1}")]
    Read(String, io::Error),
    #[error("{0}")]
    Link(Box<Mistake>),
    #[error("cannot run {}: {error}", .hg.display())]
    Run { hg: OsString, error: io::Error },
    #[error("cannot read {FILE} at {rev:?}: {said}", FILE = pipeline::FILE)]
    Hg { rev: String, said: String },
}

/// The most of hg's complaints that is repeated.
const MAX_SAID: u64 = 4096;

/// Reads what the command line asks for.
pub(crate) fn read(args: &Check) -> Result<Source, NoSource> {
    if let Some(rev) = &args.rev {
        return at_revision(rev, args.repository.as_deref());
    }
    match (&args.file, &args.repository) {
        (Some(file), _) if file.as_os_str() == "-" => {
            let name = "<stdin>".to_owned();
            let bytes = limited(io::stdin().lock()).map_err(|e| NoSource::Read(name.clone(), e))?;
            Ok(Source { name, bytes })
        }
        (Some(file), _) => from_file(file),
        (None, Some(root)) if !root.join(".hg").is_dir() => {
            Err(NoSource::NotARepository(root.clone()))
        }
        (None, Some(root)) => at_root(root),
        (None, None) => around(),
    }
}

/// The pipeline of the current folder, or of the repository that the folder is in.
fn around() -> Result<Source, NoSource> {
    if is_there(Path::new(pipeline::FILE)) {
        return from_file(Path::new(pipeline::FILE));
    }
    let here = std::env::current_dir().map_err(|e| NoSource::Read(".".into(), e))?;
    let ups = here.ancestors().position(|folder| folder.join(".hg").is_dir());
    let root: PathBuf = std::iter::repeat_n("..", ups.ok_or(NoSource::NoRepository)?).collect();
    at_root(&root)
}

fn at_root(root: &Path) -> Result<Source, NoSource> {
    let file = root.join(pipeline::FILE);
    if is_there(&file) {
        return from_file(&file);
    }
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    Err(NoSource::NoFile(root.canonicalize().unwrap_or_else(|_| root.to_owned())))
}

/// Also where it is a symlink that leads nowhere.
fn is_there(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

fn from_file(file: &Path) -> Result<Source, NoSource> {
    let name = file.display().to_string();
    // hg tracks the link, and not what it leads to. A link of another name is none of hg's business.
    if file.file_name().is_some_and(|name| name == pipeline::FILE) && file.is_symlink() {
        return Err(link(&name));
    }
    let bytes = File::open(file).and_then(limited).map_err(|e| NoSource::Read(name.clone(), e))?;
    Ok(Source { name, bytes })
}

fn link(name: &str) -> NoSource {
    let message = document::symlink(pipeline::FILE).message;
    NoSource::Link(Box::new(Mistake { message, ..document::symlink(name) }))
}

/// Asks hg for the file at a changeset.
fn at_revision(rev: &str, repository: Option<&Path>) -> Result<Source, NoSource> {
    if rev.is_empty() {
        // To hg that is the working folder's parent; from a script it is a variable that is not set.
        return Err(NoSource::Hg { rev: rev.to_owned(), said: "the revision is empty".to_owned() });
    }
    let (hg, mut command) = hg("cat", rev, repository);
    let run = |error| NoSource::Run { hg: hg.clone(), error };
    let mut child = command.spawn().map_err(run)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // On a thread of its own: hg may block on either pipe while the other is waited for.
    let said = std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.by_ref().take(MAX_SAID).read_to_end(&mut said);
            let _ = io::copy(&mut stderr, &mut io::sink());
        }
        String::from_utf8_lossy(&said).trim().to_owned()
    });
    // Dropping the pipe ends an hg that has more to say than a pipeline may.
    let bytes = stdout.map_or(Ok(Vec::new()), limited).map_err(run)?;
    let status = child.wait().map_err(run)?;
    let said = said.join().unwrap_or_default();
    // A path has no line's end, and every pipeline has one.
    if status.success() && !bytes.contains(&b'\n') && is_link_at(rev, repository) {
        return Err(link(pipeline::FILE));
    }
    if status.success() || bytes.len() > pipeline::MAX_SIZE {
        return Ok(Source { name: pipeline::FILE.to_owned(), bytes });
    }
    let said = match status.code() {
        // Where there is a folder of that name, hg has nothing to say.
        Some(1) if said.is_empty() => "there is no such file".to_owned(),
        _ if said.is_empty() => format!("hg ended with {status}"),
        _ => said,
    };
    Err(NoSource::Hg { rev: rev.to_owned(), said })
}

/// A command of hg about the file at a changeset, and the program that it is.
fn hg(what: &str, rev: &str, repository: Option<&Path>) -> (OsString, Command) {
    let hg = std::env::var_os("HG").unwrap_or_else(|| "hg".into());
    let mut command = Command::new(&hg);
    if let Some(root) = repository {
        command.arg("--repository").arg(root);
    }
    // In one word, so that a revision is never taken for an option.
    command.args([what, &format!("--rev={rev}"), &format!("path:{}", pipeline::FILE)]);
    // The pattern would also take all that is in a folder of that name.
    command.arg(format!("--exclude=re:{}/", pipeline::FILE.replace('.', "\\.")));
    // No aliases, defaults, colours or translations of the user's.
    command.env("HGPLAIN", "1").env("HGENCODING", "UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (hg, command)
}

/// Whether the file is a symlink at a changeset where there is one.
fn is_link_at(rev: &str, repository: Option<&Path>) -> bool {
    let (_, mut command) = hg("files", rev, repository);
    command.arg("--template={flags}");
    command.output().is_ok_and(|said| said.stdout == b"l")
}

/// Everything, or one byte more than is allowed.
fn limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(pipeline::MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
