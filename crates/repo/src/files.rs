//! Manifests and the content of files, out of the store. Shared by threads.

use std::path::{Path, PathBuf};

use hg::revlog::manifest::Manifest;
use hg::revlog::options::RevlogOpenOptions;
use hg::revlog::path_encode::{PathEncoding, path_encode};
use hg::revlog::{Revision, RevlogType};
use hg::utils::RawData;
use hg::vfs::VfsImpl;
use hgci_core::Node;

use crate::error::{Error, Result};
use crate::repository::bytes_to_path;
use crate::revlog::{self, Log, Requirements, guarded};

/// A manifest may have this many bytes: some millions of files.
const MAX_MANIFEST: u64 = 512 << 20;

/// How to read the files of a repository.
pub(crate) struct Files {
    repo: PathBuf,
    vfs: VfsImpl,
    encoding: PathEncoding,
    manifests: RevlogOpenOptions,
    filelogs: RevlogOpenOptions,
}

/// A revision of a file whose content was not read yet.
pub(crate) struct FileRevision<'a> {
    files: &'a Files,
    path: &'a [u8],
    log: Log,
    rev: Revision,
}

/// The content of a file.
pub(crate) struct Content {
    data: RawData,
    /// Where the content begins, after the metadata.
    start: usize,
}

impl Files {
    pub(crate) fn new(repo: &Path, store: &Path, requirements: &Requirements) -> Result<Self> {
        let encoding = revlog::encoding(requirements).ok_or_else(|| Error::Unsupported {
            path: repo.to_owned(),
            what: "the encoding of names in the store".into(),
        })?;
        Ok(Files {
            repo: repo.to_owned(),
            // Names are encoded before they get there.
            vfs: VfsImpl::new(store.to_owned(), true, PathEncoding::None),
            encoding,
            manifests: revlog::options(repo, requirements, RevlogType::Manifestlog)?,
            filelogs: revlog::options(repo, requirements, RevlogType::Filelog)?,
        })
    }

    /// The manifest of that name; the null one is empty.
    pub(crate) fn manifest(&self, node: &Node) -> Result<Manifest> {
        Ok(self.manifests(&[*node])?.pop().unwrap_or_else(Manifest::empty))
    }

    /// The manifests of these names, in the same order.
    pub(crate) fn manifests(&self, nodes: &[Node]) -> Result<Vec<Manifest>> {
        self.of_manifests(nodes, Ok)
    }

    /// What `take` makes of the manifests of these names, in the same order. One of them at a time
    /// is in memory.
    pub(crate) fn of_manifests<T>(
        &self,
        nodes: &[Node],
        mut take: impl FnMut(Manifest) -> Result<T>,
    ) -> Result<Vec<T>> {
        guarded(&self.repo, || {
            let (index, data) = (Path::new("00manifest.i"), Path::new("00manifest.d"));
            let kind = RevlogType::Manifestlog;
            let log = Log::open(&self.repo, &self.vfs, index, data, self.manifests, kind)?;
            nodes.iter().map(|node| take(self.manifest_in(&log, node)?)).collect()
        })
    }

    fn manifest_in(&self, log: &Log, node: &Node) -> Result<Manifest> {
        if *node == Node::NULL {
            return Ok(Manifest::empty());
        }
        let what = || format!("manifest {node}");
        let rev = log.find(node).ok_or_else(|| self.corrupt(format!("no {}", what())))?;
        let size = log.size(rev);
        if size > MAX_MANIFEST {
            return Err(self.too_large(what(), size, MAX_MANIFEST));
        }
        Ok(Manifest::from_bytes(Box::new(log.text(rev)?)))
    }

    /// Whether any changeset ever had a file of that name.
    pub(crate) fn ever_had(&self, path: &[u8]) -> bool {
        let index = path_encode(&[b"data/", path, b".i"].concat(), self.encoding);
        self.vfs.join(bytes_to_path(&index)).metadata().is_ok_and(|about| about.len() > 0)
    }

    /// Finds a revision of a file by the name that the manifest gives it.
    pub(crate) fn open<'a>(&'a self, path: &'a [u8], node: &Node) -> Result<FileRevision<'a>> {
        guarded(&self.repo, || {
            let index = path_encode(&[b"data/", path, b".i"].concat(), self.encoding);
            let data = path_encode(&[b"data/", path, b".d"].concat(), self.encoding);
            let (index, data) = (bytes_to_path(&index), bytes_to_path(&data));
            let kind = RevlogType::Filelog;
            let log = Log::open(&self.repo, &self.vfs, index, data, self.filelogs, kind)?;
            let rev = log.find(node).ok_or_else(|| {
                self.corrupt(format!("no revision {node} of {}", String::from_utf8_lossy(path)))
            })?;
            Ok(FileRevision { files: self, path, log, rev })
        })
    }

    fn corrupt(&self, why: String) -> Error {
        Error::Corrupt { path: self.repo.clone(), why }
    }

    fn too_large(&self, what: String, size: u64, limit: u64) -> Error {
        Error::TooLarge { path: self.repo.clone(), what, size, limit }
    }
}

impl FileRevision<'_> {
    /// How many bytes its content has, or little more.
    pub(crate) fn size(&self) -> u64 {
        self.log.size(self.rev)
    }

    /// How many bytes the largest has of what must be in memory to read it.
    pub(crate) fn weight(&self) -> u64 {
        self.log.weight(self.rev)
    }

    /// The error for one that is not to be read here.
    pub(crate) fn too_heavy(&self, weight: u64) -> Error {
        let name = String::from_utf8_lossy(self.path);
        let what = format!("{name} takes {weight} bytes of memory");
        Error::Unsupported { path: self.files.repo.clone(), what }
    }

    /// Decompresses it, and checks its hash.
    pub(crate) fn content(&self) -> Result<Content> {
        let repo = &self.files.repo;
        let name = || String::from_utf8_lossy(self.path);
        guarded(repo, || {
            let data = self.log.text(self.rev).map_err(|error| match error {
                Error::Corrupt { path, why } => {
                    Error::Corrupt { path, why: format!("{}: {why}", name()) }
                }
                other => other,
            })?;
            let start = content_start(&data).ok_or_else(|| {
                self.files.corrupt(format!("the metadata of {} has no end", name()))
            })?;
            Ok(Content { data, start })
        })
    }

    /// The content, if it is not larger than a limit.
    pub(crate) fn content_within(&self, limit: u64) -> Result<Vec<u8>> {
        let name = || String::from_utf8_lossy(self.path).into_owned();
        // What is in front of the content is some hundred bytes.
        if self.size() > limit.saturating_add(64 << 10) {
            return Err(self.files.too_large(name(), self.size(), limit));
        }
        let content = self.content()?;
        let size = content.bytes().len() as u64;
        if size > limit {
            return Err(self.files.too_large(name(), size, limit));
        }
        Ok(content.bytes().to_vec())
    }
}

impl Content {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.start..]
    }
}

/// A revision of a file may begin with metadata between two marks of `\x01\n`: where it was copied
/// from, or nothing, when the content itself begins with the mark.
fn content_start(text: &[u8]) -> Option<usize> {
    const MARK: &[u8] = b"\x01\n";
    let Some(rest) = text.strip_prefix(MARK) else { return Some(0) };
    let end = rest.windows(MARK.len()).position(|window| window == MARK)?;
    Some(MARK.len() + end + MARK.len())
}
