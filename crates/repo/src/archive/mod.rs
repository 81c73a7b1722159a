//! The source tree of a changeset as a stream.
//!
//! What comes out has the files, modes and symlinks of `hg archive --no-decode`, byte by byte, with
//! its `.hg_archival.txt`: names sorted, each time the changeset's date. Filelogs are read on all
//! cores, ahead of the writer by at most [`AHEAD`] bytes and one file.

mod metadata;
mod parallel;
mod tar;

use std::io::{self, BufWriter, Write};

use hg::revlog::manifest::Manifest;
use hg::utils::hg_path::HgPath;
use hgci_core::Node;

use crate::changeset::Changeset;
use crate::error::{Error, Result};
use crate::files::{Content, Files};
use crate::reader::Reader;
use crate::repository::ReadBy;
use crate::{repository, revlog};

/// So many bytes are decompressed ahead of the writer, if there is more than one file.
const AHEAD: u64 = 32 << 20;

/// A list of subrepositories has at most this many bytes.
const MAX_SUBREPOSITORIES: u64 = 1 << 20;

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
    /// [`Error::UnknownChangeset`], [`Error::Subrepositories`]; [`Error::Sink`] when `sink` fails,
    /// which stops the reading too.
    pub fn archive(&self, node: &Node, sink: &mut dyn Write) -> Result<Archived> {
        let rev = self.known(node)?;
        if let (ReadBy::Hg, why) = self.read_by() {
            let subrepositories = self.file(node, ".hgsubstate", MAX_SUBREPOSITORIES)?;
            self.refuse_subrepositories(node, subrepositories.as_deref())?;
            let hidden = self.hidden()?.contains(&rev);
            let bytes = self.hg().archive(node, hidden, sink)?;
            let why = why.map(str::to_owned);
            return Ok(Archived { read_by: ReadBy::Hg, why, files: None, bytes });
        }
        let changeset = self.changeset(node)?;
        let files = self.files()?;
        let manifest = files.manifest(&changeset.manifest)?;
        self.check_subrepositories(files, node, &manifest)?;
        let entries = self.entries(&manifest)?;
        let metadata = metadata::text(self, rev, &changeset)?;

        let buffer = BufWriter::with_capacity(256 << 10, Counted { sink, bytes: 0 });
        let mut out = tar::Writer::new(buffer, changeset.date.seconds);
        let written = out
            .file(b".hg_archival.txt", Kind::Plain, &metadata)
            .map_err(Error::Sink)
            .and_then(|()| self.stream(files, &changeset, &entries, &mut out))
            .and_then(|why| out.finish().map_err(Error::Sink).map(|()| why));
        // What is still in the buffer of a tree that failed must not be passed on.
        let (Counted { bytes, .. }, _) = out.into_inner().into_parts();
        let why = written?;
        let read_by = if why.is_some() { ReadBy::Hg } else { ReadBy::HgCore };
        Ok(Archived { read_by, why, files: Some(entries.len() as u64 + 1), bytes })
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
            let content = match content {
                // Censored files and such: hg may know what to do.
                Err(Error::Unsupported { what, .. }) => {
                    let bytes = self.hg().file(&changeset.node, entry.path, u64::MAX)?;
                    why.get_or_insert(what);
                    Content::plain(bytes.unwrap_or_default())
                }
                content => content?,
            };
            out.file(entry.path, entry.kind, content.bytes()).map_err(Error::Sink)
        })?;
        Ok(why)
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

    fn check_subrepositories(&self, files: &Files, node: &Node, manifest: &Manifest) -> Result<()> {
        let repo = self.repository().source();
        let path = b".hgsubstate";
        let entry = manifest.find_by_path(HgPath::new(path)).map_err(Error::hg(repo))?;
        let Some(entry) = entry else { return Ok(()) };
        let file = revlog::node(&entry.node_id().map_err(Error::hg(repo))?);
        let text = files.open(path, &file)?.content_within(MAX_SUBREPOSITORIES)?;
        self.refuse_subrepositories(node, Some(&text))
    }

    fn refuse_subrepositories(&self, node: &Node, state: Option<&[u8]>) -> Result<()> {
        let names: Vec<String> = state
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
            .map(|line| String::from_utf8_lossy(line.get(41..).unwrap_or(line)).into_owned())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let path = self.repository().source().to_owned();
        Err(Error::Subrepositories { path, node: *node, names: names.join(", ") })
    }
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

/// Reads a file, and again while it looks as if somebody writes it.
fn content(
    files: &Files,
    entry: &Entry<'_>,
    reserve: impl Fn(u64) -> bool,
) -> Result<Option<Content>> {
    let mut pauses = repository::SETTLE.iter();
    let mut reserved = false;
    loop {
        let read = files.open(entry.path, &entry.node).and_then(|revision| {
            if !reserved && !reserve(revision.size()) {
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
