//! `.hg/hgci` and the folders in it, by handle.
//!
//! Whoever may push by path can put anything in their place, and the daemon may be allowed to write
//! where that one is not. So no symbolic link below `.hg` is followed: each folder is opened from the
//! one above, and what is done in it is done by its handle.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::FOLDER;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// `hgci` in a share source's `.hg`, or what is in it by these names, one in the other.
    ///
    /// # Errors
    /// Also where one of them is a symbolic link, or no folder.
    pub fn open(hg: &Path, below: &[&str]) -> io::Result<Folder> {
        let path = hg.join(FOLDER);
        let mut folder = enter(CWD, &path, path.clone())?;
        for name in below {
            folder = folder.inner(name)?;
        }
        Ok(folder)
    }

    fn inner(&self, name: &str) -> io::Result<Folder> {
        enter(self.as_fd(), Path::new(name), self.path.join(name))
    }

    /// The same folder, made where there is nothing of its name. A new one has this mode, whatever
    /// the umask.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn make(hg: &Path, below: &[&str], mode: u32) -> io::Result<Folder> {
        let (made, folder) = match below.split_last() {
            Some((name, above)) => {
                let above = Folder::open(hg, above)?;
                (make_in(above.as_fd(), Path::new(name))?, above.inner(name)?)
            }
            None => (make_in(CWD, &hg.join(FOLDER))?, Folder::open(hg, below)?),
        };
        if made {
            rustix::fs::fchmod(&folder.handle, Mode::from_raw_mode(mode))?;
        }
        Ok(folder)
    }

    /// Where it was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, in no order.
    ///
    /// # Errors
    /// Where it cannot be listed.
    pub fn names(&self) -> io::Result<impl Iterator<Item = OsString>> {
        let entries = Dir::read_from(&self.handle)?;
        Ok(entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().to_bytes().to_owned();
            let name = OsString::from_vec(name);
            (name != "." && name != "..").then_some(name)
        }))
    }

    /// Opens a file in it to be read, and with `append` to be written at its end. No link is
    /// followed, and no fifo waited for.
    ///
    /// # Errors
    /// Where it cannot be opened, or is no regular file.
    pub fn file(&self, name: &OsStr, append: bool) -> io::Result<File> {
        let access = if append { OFlags::WRONLY | OFlags::APPEND } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.handle, name, flags, Mode::empty())?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Makes a new file in it that only its owner may read and write.
    ///
    /// # Errors
    /// Where there is anything of that name.
    pub fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        Ok(File::from(rustix::fs::openat(&self.handle, name, flags, mode)?))
    }

    /// Gives something in it another name in it, in the place of what has that.
    ///
    /// # Errors
    /// As `renameat` has them.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Removes a file in it.
    ///
    /// # Errors
    /// As `unlinkat` has them.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    /// Makes durable which names are in it.
    ///
    /// # Errors
    /// As `fsync` has them.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.handle)?)
    }
}

/// Opens a folder, but for a link in its place. `path` is what it is called in messages.
fn enter(above: BorrowedFd<'_>, name: &Path, path: PathBuf) -> io::Result<Folder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(above, name, flags, Mode::empty()) {
        Ok(handle) => Ok(Folder { handle, path }),
        Err(Errno::LOOP | Errno::NOTDIR) => {
            let why = format!("{} is a link or no folder: take it away", path.display());
            Err(io::Error::new(io::ErrorKind::NotADirectory, why))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes a folder that its owner alone may enter; whether there was nothing of its name.
fn make_in(above: BorrowedFd<'_>, name: &Path) -> io::Result<bool> {
    match rustix::fs::mkdirat(above, name, Mode::RWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}
