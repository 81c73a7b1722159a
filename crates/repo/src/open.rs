//! How files of a repository are opened: without waiting, and regular files alone.
//!
//! Who may push by path can put anything there. To open a fifo would wait for ever, and a device
//! has no end. Symlinks are followed as hg follows them: a store may lie elsewhere.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Error, Result};

/// An index may have this many bytes: 64 for each revision, and hg-core reads all of it.
const MAX_INDEX: u64 = 4 << 30;

/// Opens a file to be read; `None` when there is none.
pub(crate) fn file(path: &Path) -> Result<Option<File>> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    regular(path, &file.metadata().map_err(Error::io("stat", path))?)?;
    Ok(Some(file))
}

/// Reads a file that is replaced as a whole; `None` when there is none. `repo` is for messages.
pub(crate) fn small(repo: &Path, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = file(path)? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(limit + 1).read_to_end(&mut text).map_err(Error::io("read", path))?;
    if text.len() as u64 > limit {
        let size = fs::metadata(path).map_or(text.len() as u64, |about| about.len());
        return Err(too_large(repo, path, size, limit));
    }
    Ok(Some(text))
}

/// Checks a file that others are about to open: it is a regular one, or missing.
pub(crate) fn check(path: &Path) -> Result<()> {
    about(path).map(drop)
}

/// Checks an index that hg-core is about to read as a whole.
pub(crate) fn check_index(repo: &Path, path: &Path) -> Result<()> {
    match about(path)? {
        Some(about) if about.len() > MAX_INDEX => {
            Err(too_large(repo, path, about.len(), MAX_INDEX))
        }
        _ => Ok(()),
    }
}

/// What is known of a regular file; `None` when there is none.
pub(crate) fn about(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(about) => regular(path, &about).map(|()| Some(about)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("stat", path)(error)),
    }
}

fn regular(path: &Path, about: &Metadata) -> Result<()> {
    match about.is_file() {
        true => Ok(()),
        false => Err(Error::NotAFile { path: path.to_owned() }),
    }
}

fn too_large(repo: &Path, path: &Path, size: u64, limit: u64) -> Error {
    let what = path.strip_prefix(repo).unwrap_or(path).display().to_string();
    Error::TooLarge { path: repo.to_owned(), what, size, limit }
}
