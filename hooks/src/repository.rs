//! The repository that a hook runs in, found without asking hg.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::adoption::{self, Adoption};
use crate::{FOLDER, hgrc};

/// The most bytes of `.hg/sharedpath`: a path has 4096 at most.
const MAX_SHAREDPATH: u64 = 8192;

/// No repository where one was looked for.
#[derive(Debug, thiserror::Error)]
pub enum NoRepository {
    /// There is no `.hg` folder.
    #[error("no Mercurial repository in {0}")]
    None(PathBuf),
    /// `.hg` says that it is a share, and its source cannot be found.
    #[error("cannot read the share source of {path}: {source}")]
    Share {
        /// The file or folder that was tried.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// JSON has no way to write it, so the daemon serves none.
    #[error("the path of the repository is not UTF-8: {0:?}")]
    NotUtf8(PathBuf),
}

/// A repository on this machine. A share stands for its source: the daemon knows sources alone.
#[derive(Clone, Debug)]
pub struct Repository {
    root: String,
    /// The `.hg` of the folder that was asked for; of the share, where it is one.
    own_hg: PathBuf,
    /// The `.hg` of the share source; the same where it is no share.
    hg: PathBuf,
}

impl Repository {
    /// The repository whose working folder is `root`, as external hooks have it as their own.
    pub fn at(root: &Path) -> Result<Repository, NoRepository> {
        let hg = root.join(".hg");
        if !hg.is_dir() {
            return Err(NoRepository::None(root.to_owned()));
        }
        let source_hg = share_source(&hg)?;
        let lost = |source| NoRepository::Share { path: source_hg.clone(), source };
        // As hg does: a share whose source is gone is no repository.
        fs::metadata(&source_hg).map_err(lost)?;
        let parent = source_hg.parent().unwrap_or(Path::new("/"));
        let real = fs::canonicalize(parent).map_err(lost)?;
        match real.into_os_string().into_string() {
            Ok(root) => Ok(Repository { hg: Path::new(&root).join(".hg"), root, own_hg: hg }),
            Err(root) => Err(NoRepository::NotUtf8(root.into())),
        }
    }

    /// The root folder of the share source, symlinks resolved: what [`hgci_api::hook::Hint::repo`]
    /// wants.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The share source's `.hg`.
    pub fn hg(&self) -> &Path {
        &self.hg
    }

    /// The folder for our own files.
    pub fn folder(&self) -> PathBuf {
        self.hg.join(FOLDER)
    }

    /// What a daemon left here to say that it serves this repository.
    pub fn adoption(&self) -> Option<Adoption> {
        adoption::read(&self.hg)
    }

    /// Whether a hook has any business here. A setting for the whole machine is not enough: private
    /// clones are nobody's business.
    pub fn applies(&self) -> bool {
        self.own_socket().is_some() || self.adoption().is_some()
    }

    /// The socket that the repository's own hgrc names (for a share, also its source's).
    pub fn own_socket(&self) -> Option<String> {
        let own = hgrc::socket(&self.own_hg.join("hgrc"));
        own.or_else(|| hgrc::socket(&self.hg.join("hgrc")))
    }
}

/// `.hg/sharedpath` has the source's `.hg`, absolute, or from here (requirement `relshared`).
fn share_source(hg: &Path) -> Result<PathBuf, NoRepository> {
    let path = hg.join("sharedpath");
    let mut bytes = Vec::new();
    let read =
        fs::File::open(&path).and_then(|file| file.take(MAX_SHAREDPATH).read_to_end(&mut bytes));
    match read {
        Ok(_) => {
            let end = bytes.iter().rposition(|&b| b != b'\n').map_or(0, |last| last + 1);
            Ok(hg.join(OsStr::from_bytes(&bytes[..end])))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(hg.to_owned()),
        Err(source) => Err(NoRepository::Share { path, source }),
    }
}
