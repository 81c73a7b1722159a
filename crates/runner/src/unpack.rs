//! Putting the source tree on disk, beneath one directory handle.
//!
//! Every name is a single component opened relative to the handle of its parent with
//! `O_NOFOLLOW`, and `.`, `..` and names with a slash never reach the kernel. That gives what
//! `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` gives, on any kernel and under any seccomp
//! filter. Files are created with `O_EXCL`: what exists is never written to.

use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use crate::tar::{Kind, Tar, TarError};

/// How deep a tree may be: each level is an open handle while a file in it is written.
const MAX_DEPTH: usize = 200;

/// The longest path, as in the kernel.
const MAX_PATH: usize = 4095;

/// Why there is no source tree.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream broke off: another try may go well.
    #[error("reading the source stream: {0}")]
    Broken(#[source] std::io::Error),
    /// The stream says what no tree of a changeset says.
    #[error("{0}")]
    Refused(String),
    /// `between` asked for the end.
    #[error("interrupted")]
    Interrupted,
    /// The host's disk: full, read-only, failing.
    #[error("writing {path} of the source tree: {source}")]
    Disk {
        /// The path in the tree.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read(error) => UnpackError::Broken(error),
            TarError::Malformed(_) => UnpackError::Refused(error.to_string()),
        }
    }
}

/// What was put on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files and symlinks.
    pub files: u64,
    /// Bytes in the files.
    pub bytes: u64,
}

/// Unpacks a tar stream into the empty directory `root`. `between` is called between two pieces,
/// every 256 KiB or file, and can end it.
pub fn unpack(
    root: BorrowedFd<'_>,
    source: impl Read,
    between: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Unpacked, UnpackError> {
    let mut tar = Tar::new(source);
    let mut place = Place { root, open: Vec::new() };
    let mut done = Unpacked::default();
    while let Some(entry) = tar.entry()? {
        if between().is_break() {
            return Err(UnpackError::Interrupted);
        }
        let path = entry.path.as_slice();
        let disk = |errno: Errno| disk_error(path, errno);
        if path.first() == Some(&b'/') {
            return Err(refuse(path, "is absolute"));
        }
        if let Kind::Directory = entry.kind {
            place.enter(path, path)?;
            continue;
        }
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&[][..], path),
        };
        check(path, name)?;
        place.enter(path, folder)?;
        done.files += 1;
        match entry.kind {
            Kind::Directory => {}
            Kind::Symlink(target) => {
                if target.is_empty() || target.contains(&0) {
                    return Err(refuse(path, "is a symlink to nowhere"));
                }
                symlinkat(target.as_slice(), place.here(), name).map_err(disk)?;
            }
            Kind::File { executable } => {
                let mode = if executable { 0o777 } else { 0o666 };
                let flags = OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::WRONLY
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let file =
                    openat(place.here(), name, flags, Mode::from_raw_mode(mode)).map_err(disk)?;
                loop {
                    let mut chunk = tar.chunk()?;
                    if chunk.is_empty() {
                        break;
                    }
                    done.bytes += chunk.len() as u64;
                    while !chunk.is_empty() {
                        match rustix::io::write(&file, chunk) {
                            Ok(n) => chunk = &chunk[n..],
                            Err(Errno::INTR) => {}
                            Err(errno) => return Err(disk(errno)),
                        }
                    }
                    if between().is_break() {
                        return Err(UnpackError::Interrupted);
                    }
                }
            }
        }
    }
    Ok(done)
}

/// The directory that the last member was put into, as a chain of handles. A manifest is sorted,
/// so the next member is mostly in the same one.
struct Place<'a> {
    root: BorrowedFd<'a>,
    open: Vec<(Vec<u8>, OwnedFd)>,
}

impl Place<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root, |(_, handle)| handle.as_fd())
    }

    /// Goes to `folder`, making what is missing. `path` is for the messages.
    fn enter(&mut self, path: &[u8], folder: &[u8]) -> Result<(), UnpackError> {
        if path.len() > MAX_PATH {
            return Err(refuse(path, "has too long a path"));
        }
        let mut depth = 0;
        if !folder.is_empty() {
            for name in folder.split(|byte| *byte == b'/') {
                if self.open.get(depth).is_none_or(|(open, _)| open != name) {
                    check(path, name)?;
                    self.open.truncate(depth);
                    self.descend(path, name)?;
                }
                depth += 1;
            }
        }
        self.open.truncate(depth);
        Ok(())
    }

    fn descend(&mut self, path: &[u8], name: &[u8]) -> Result<(), UnpackError> {
        if self.open.len() == MAX_DEPTH {
            return Err(refuse(path, "is too deep"));
        }
        match mkdirat(self.here(), name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(disk_error(path, errno)),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match openat(self.here(), name, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(refuse(path, "goes through what is no directory"));
            }
            Err(errno) => return Err(disk_error(path, errno)),
        };
        self.open.push((name.to_vec(), handle));
        Ok(())
    }
}

fn check(path: &[u8], name: &[u8]) -> Result<(), UnpackError> {
    match name {
        b"" | b"." => Err(refuse(path, "is no plain path")),
        b".." => Err(refuse(path, "leads out of the tree")),
        _ => Ok(()),
    }
}

fn refuse(path: &[u8], what: &str) -> UnpackError {
    let path = &path[..path.len().min(200)];
    UnpackError::Refused(format!("source stream: {:?} {what}", path.escape_ascii().to_string()))
}

fn disk_error(path: &[u8], errno: Errno) -> UnpackError {
    match errno {
        Errno::EXIST => refuse(path, "is there twice"),
        _ => UnpackError::Disk { path: path.escape_ascii().to_string(), source: errno.into() },
    }
}
