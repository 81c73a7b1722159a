//! The source tree of a changeset as a stream.
//!
//! What comes out has the files, modes and symlinks of `hg archive --no-decode`, byte by byte, with
//! its `.hg_archival.txt`, unless the changeset has one of its own: names sorted, each time the
//! changeset's date. Of subrepositories there are `.hgsub` and `.hgsubstate` alone. Filelogs are
//! read on all cores, ahead of the writer by at most [`AHEAD`] bytes and as far as [`crate::memory`] has
//! room for all streams. What is too large for that is streamed by the `hg` command.

mod metadata;
mod parallel;
mod tar;

use std::io::{self, BufWriter, Read, Write};

use hg::revlog::manifest::Manifest;
use hgci_core::Node;

use crate::changeset::Changeset;
use crate::error::{Error, Result};
use crate::files::{Content, Files};
use crate::hg::Hg;
use crate::memory::LARGEST;
use crate::reader::Reader;
use crate::repository::ReadBy;
use crate::{repository, revlog};

/// So many bytes are decompressed ahead of the writer, if there is more than one file.
const AHEAD: u64 = 32 << 20;

/// What tells of the changeset.
const METADATA: &str = ".hg_archival.txt";

/// What was streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Who read it.
    pub read_by: ReadBy,
    /// Why the `hg` command was needed, for all or for some files.
    pub why: Option<String>,
    /// How many files, with `.hg_archival.txt`; `None` where hg did not say.
    pub files: Option<u64>,
    /// The size of the stream.
    pub bytes: u64,
}

/// A file of the manifest.
#[derive(Clone, Copy)]
struct Entry<'a> {
    path: &'a [u8],
    node: Node,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Executable,
    Symlink,
}

impl Reader {
    /// Writes the source tree of a changeset to `sink` as a tar. Opened files are read anew a few
    /// times while somebody writes; a stream that broke off nevertheless ends without the two empty
    /// blocks of a whole tar.
    ///
    /// # Errors
    /// [`Error::UnknownChangeset`]; [`Error::Sink`] when `sink` fails, which stops the reading too.
    pub fn archive(&self, node: &Node, sink: &mut dyn Write) -> Result<Archived> {
        let rev = self.known(node)?;
        if let (ReadBy::Hg, why) = self.read_by() {
            let hidden = self.hidden()?.contains(&rev);
            return whole(&self.hg(), node, hidden, why.unwrap_or_default(), sink);
        }
        let changeset = self.changeset(node)?;
        let files = self.files()?;
        let manifest = files.manifest(&changeset.manifest)?;
        let entries = self.entries(&manifest)?;
        // As in a folder that `hg archive` has written, where the file that is tracked comes last.
        let described = !entries.iter().any(|entry| is_metadata(entry.path));
        let metadata = described.then(|| metadata::text(self, rev, &changeset)).transpose()?;

        let buffer = BufWriter::with_capacity(256 << 10, Counted { sink, bytes: 0 });
        let mut out = tar::Writer::new(buffer, changeset.date.seconds);
        let written = metadata
            .map_or(Ok(()), |text| out.file(METADATA.as_bytes(), Kind::Plain, &text))
            .map_err(Error::Sink)
            .and_then(|()| self.stream(files, &changeset, &entries, &mut out))
            .and_then(|why| out.finish().map_err(Error::Sink).map(|()| why));
        // What is still in the buffer of a tree that failed must not be passed on.
        let (Counted { bytes, .. }, _) = out.into_inner().into_parts();
        let why = written?;
        let read_by = if why.is_some() { ReadBy::Hg } else { ReadBy::HgCore };
        let files = entries.len() as u64 + u64::from(described);
        Ok(Archived { read_by, why, files: Some(files), bytes })
    }

    /// Writes the files. Returns why `hg` was needed for some.
    fn stream(
        &self,
        files: &Files,
        changeset: &Changeset,
        entries: &[Entry<'_>],
        out: &mut tar::Writer<impl Write>,
    ) -> Result<Option<String>> {
        let mut why = None;
        parallel::in_order(files, entries, AHEAD, |entry, content| {
            match content {
                // Censored files, large ones and such: hg may know what to do.
                Err(Error::Unsupported { what, .. }) => {
                    why.get_or_insert(what);
                    self.hg().entry(&changeset.node, entry.path, |tar| self.copy(tar, out))
                }
                content => out.file(entry.path, entry.kind, content?.bytes()).map_err(Error::Sink),
            }
        })?;
        Ok(why)
    }

    fn copy(&self, tar: &mut dyn Read, out: &mut tar::Writer<impl Write>) -> Result<()> {
        out.copy(tar).map_err(|error| match error {
            tar::CopyError::Read(source) => {
                Error::io("read the output of hg on", self.repository().source())(source)
            }
            tar::CopyError::Write(source) => Error::Sink(source),
        })
    }

    fn entries<'a>(&self, manifest: &'a Manifest) -> Result<Vec<Entry<'a>>> {
        let repo = self.repository().source();
        let entry = |entry: hg::revlog::manifest::ManifestEntry<'a>| {
            let kind = match entry.flags {
                flags if flags.is_link() => Kind::Symlink,
                flags if flags.is_exec() => Kind::Executable,
                flags if flags.is_tree() => {
                    let what = "a manifest that refers to another one".to_owned();
                    return Err(Error::Unsupported { path: repo.to_owned(), what });
                }
                _ => Kind::Plain,
            };
            let node = revlog::node(&entry.node_id().map_err(Error::hg(repo))?);
            Ok(Entry { path: entry.path.as_bytes(), node, kind })
        };
        manifest.iter().map(|line| entry(line.map_err(Error::hg(repo))?)).collect()
    }
}

/// Streams the source tree of a changeset by the `hg` command, without looking at anything else of
/// the repository.
pub(crate) fn by_hg(hg: &Hg<'_>, node: &Node, why: &str, sink: &mut dyn Write) -> Result<Archived> {
    match hg.hides(node)? {
        Some(hidden) => whole(hg, node, hidden, why, sink),
        None => Err(Error::UnknownChangeset { path: hg.repo.to_owned(), node: *node }),
    }
}

fn whole(
    hg: &Hg<'_>,
    node: &Node,
    hidden: bool,
    why: &str,
    sink: &mut dyn Write,
) -> Result<Archived> {
    let described = !hg.has(node, METADATA)?;
    let bytes = hg.archive(node, hidden, described, sink)?;
    Ok(Archived { read_by: ReadBy::Hg, why: Some(why.to_owned()), files: None, bytes })
}

/// Whether the path is where `.hg_archival.txt` would be, or below it.
fn is_metadata(path: &[u8]) -> bool {
    let rest = path.strip_prefix(METADATA.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Counts what goes through.
struct Counted<W> {
    sink: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Reads a file, and again while it looks as if somebody writes it. `reserve` is asked once for
/// room; `None` when it says that nobody wants the file any more.
fn content(
    files: &Files,
    entry: &Entry<'_>,
    mut reserve: impl FnMut(u64) -> bool,
) -> Result<Option<Content>> {
    let mut pauses = repository::SETTLE.iter();
    let mut reserved = false;
    loop {
        let read = files.open(entry.path, &entry.node).and_then(|revision| {
            let weight = revision.weight();
            if weight > LARGEST {
                return Err(revision.too_heavy(weight));
            }
            if !reserved && !reserve(weight) {
                return Ok(None);
            }
            reserved = true;
            revision.content().map(Some)
        });
        match read {
            Err(error) if error.may_settle() => match pauses.next() {
                Some(pause) => std::thread::sleep(*pause),
                None => return Err(error),
            },
            done => return done,
        }
    }
}
