//! Folders below `.hg` that are worked in by their handles.
//!
//! Whoever may push may put a symbolic link in the place of `.hg/hgci`, or of a folder in it, at any
//! moment. The daemon, and the hook of another account, have rights that he has not: so nothing of
//! ours is reached by a path. Each folder is opened from the one above, links are not followed, and
//! files are named from the handle. `.hg` itself is hg's, and may be a link.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::FOLDER;

/// Something else is in the place of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is a symbolic link, or no folder, and nothing is read or written there: remove it, and the \
     daemon makes the folder anew"
)]
pub struct NotAFolder;

impl NotAFolder {
    /// Whether that is what an error says.
    pub fn is_why(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<NotAFolder>())
    }
}

/// A folder that is open, whatever becomes of its path.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// `.hg/hgci` of a share source's `.hg`. An error of kind `NotFound` where it is not there, of
    /// [`NotAFolder`] where it is something else; so with all that opens a folder.
    pub fn ours(hg: &Path) -> io::Result<Folder> {
        let path = hg.join(FOLDER);
        Folder::at(rustix::fs::CWD, &path.clone(), path)
    }

    /// `.hg` itself, also where it is a link.
    pub(crate) fn dot_hg(hg: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(hg, flags, Mode::empty())?;
        Ok(Folder { handle, path: hg.to_owned() })
    }

    /// A folder in this one.
    pub fn within(&self, name: &str) -> io::Result<Folder> {
        Folder::at(&self.handle, Path::new(name), self.path.join(name))
    }

    fn at(above: impl AsFd, name: &Path, path: PathBuf) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(above, name, flags, Mode::empty()) {
            Ok(handle) => Ok(Folder { handle, path }),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(io::Error::other(NotAFolder)),
            Err(error) => Err(error.into()),
        }
    }

    /// A folder in this one, made with this mode where it is missing.
    pub(crate) fn make_within(&self, name: &str, mode: u32) -> io::Result<Folder> {
        match rustix::fs::mkdirat(&self.handle, name, Mode::RWXU) {
            Ok(()) => {
                let made = self.within(name)?;
                // mkdir is subject to the umask, and takes no set-group-id bit.
                rustix::fs::fchmod(&made.handle, Mode::from_raw_mode(mode))?;
                Ok(made)
            }
            Err(Errno::EXIST) => self.within(name),
            Err(error) => Err(error.into()),
        }
    }

    /// The path that led here.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path to the folder that is open, for this process alone and while it is.
    pub fn own_path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd()).into()
    }

    /// Owner, mode and the like of the folder.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.handle)?)
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.handle, Mode::from_raw_mode(mode))?)
    }

    /// The same of something in it; of a link, of the link.
    pub fn stat_of(&self, name: &OsStr) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Opens a regular file in it, with these flags, without following a link or waiting for the
    /// other end of a fifo.
    pub fn open(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(0o600))?;
        let file = File::from(file);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Makes a file in it that is not there yet.
    pub fn create(&self, name: &OsStr) -> io::Result<File> {
        self.open(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL)
    }

    /// Puts a file with this content in the place of one, durably: whoever reads sees the one or
    /// the other.
    pub fn replace(&self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let fresh = format!("{name}.new");
        let fresh = OsStr::new(&fresh);
        // What a crash left.
        let _none = self.remove(fresh);
        let mut file = self.create(fresh)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        self.rename(fresh, OsStr::new(name))?;
        self.sync()
    }

    /// Renames a file in it.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Removes a file in it.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    /// What is in it, without `.` and `..`, as far as it can be read.
    pub fn names(&self) -> io::Result<impl Iterator<Item = OsString> + use<>> {
        let entries = Dir::read_from(&self.handle)?;
        let names = entries.map_while(Result::ok).map(|entry| {
            let name = entry.file_name().to_bytes();
            OsStr::from_bytes(name).to_owned()
        });
        Ok(names.filter(|name| name != "." && name != ".."))
    }

    /// Makes renames in it durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.handle)?)
    }
}
