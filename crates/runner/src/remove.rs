//! Removing what an attempt leaves on disk, whatever the job made of it.
//!
//! Nothing of the attempt runs any more, so nothing moves underneath. What a job can leave:
//! directories without permissions, trees deeper than a path may be long, folders with millions
//! of files, symlinks to everywhere. Depth and memory stay bounded; no symlink is followed.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, chmodat, fchmod, openat, renameat,
    seek, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

/// Directories deeper than this are first moved up to the root.
const MAX_DEPTH: usize = 64;

/// Entries that are listed at once.
const BATCH: usize = 1024;

/// Removes a directory with all that is in it. That it does not exist is no error.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            permit(CWD, path).and_then(|()| openat(CWD, path, flags, Mode::empty()))
        }
        opened => opened,
    };
    match opened {
        Ok(root) => empty(root.as_fd()).map_err(|errno| on(path, errno))?,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(on(path, errno)),
    }
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(on(path, errno)),
    }
}

fn on(path: &Path, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(error.kind(), format!("removing {}: {error}", path.display()))
}

/// Removes all that is in a directory and leaves it empty.
pub fn empty(root: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut removal = Removal { root, moved: 0, buffer: vec![MaybeUninit::uninit(); 32 * 1024] };
    // Each turn ends with the root empty but for what was moved up to it meanwhile.
    while removal.clear_root()? {}
    Ok(())
}

struct Removal<'a> {
    root: BorrowedFd<'a>,
    moved: u64,
    buffer: Vec<MaybeUninit<u8>>,
}

/// A directory on the way down: its handle, its name in its parent, what is known to be in it.
struct Level {
    handle: OwnedFd,
    name: CString,
    entries: Vec<(CString, FileType)>,
    /// Whether there may be more than what was listed.
    more: bool,
}

impl Removal<'_> {
    /// One pass over the root; false when there was nothing in it.
    fn clear_root(&mut self) -> Result<bool, Errno> {
        let (mut entries, _) = self.list(self.root)?;
        if entries.is_empty() {
            return Ok(false);
        }
        let mut levels: Vec<Level> = Vec::new();
        loop {
            let top = levels.last_mut();
            let next = match top {
                Some(level) => level.entries.pop(),
                None => entries.pop(),
            };
            if let Some((name, kind)) = next {
                let here = levels.last().map_or(self.root, |level| level.handle.as_fd());
                if let Some(handle) = self.take_away(here, &name, kind, levels.len())? {
                    let (entries, more) = self.list(handle.as_fd())?;
                    levels.push(Level { handle, name, entries, more });
                }
                continue;
            }
            // Nothing known is left at this level: look again or go up.
            let Some(mut level) = levels.pop() else { return Ok(true) };
            if level.more {
                (level.entries, level.more) = self.list(level.handle.as_fd())?;
                if !level.entries.is_empty() {
                    levels.push(level);
                    continue;
                }
            }
            let above = levels.last().map_or(self.root, |level| level.handle.as_fd());
            permitted(above, || unlinkat(above, &level.name, AtFlags::REMOVEDIR))?;
        }
    }

    /// Removes an entry, or opens it if it is a directory with something in it.
    fn take_away(
        &mut self,
        here: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<Option<OwnedFd>, Errno> {
        if kind != FileType::Directory {
            match permitted(here, || unlinkat(here, name, AtFlags::empty())) {
                Ok(()) | Err(Errno::NOENT) => return Ok(None),
                // A file system that does not tell kinds.
                Err(Errno::ISDIR | Errno::PERM) if kind == FileType::Unknown => {}
                Err(errno) => return Err(errno),
            }
        }
        match permitted(here, || unlinkat(here, name, AtFlags::REMOVEDIR)) {
            Ok(()) | Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        if depth >= MAX_DEPTH {
            return self.move_up(here, name).map(|()| None);
        }
        open_directory(here, name).map(Some)
    }

    /// Moves a directory to the root, to be removed from there.
    fn move_up(&mut self, here: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            let target = format!(".deep-{}", self.moved);
            self.moved += 1;
            match permitted(here, || renameat(here, name, self.root, &target)) {
                // The job has such a name of its own.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                // A directory without the right to write to it cannot get a new `..`.
                Err(Errno::ACCESS) => {
                    permit(here, name)?;
                    fchmod(self.root, Mode::RWXU)?;
                    return renameat(here, name, self.root, &target);
                }
                moved => return moved,
            }
        }
    }

    /// Some of the entries, from the start, and whether there may be more.
    fn list(&mut self, handle: BorrowedFd<'_>) -> Result<(Vec<(CString, FileType)>, bool), Errno> {
        seek(handle, SeekFrom::Start(0))?;
        let mut entries = Vec::new();
        let mut listing = RawDir::new(handle, &mut self.buffer);
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                entries.push((name.to_owned(), entry.file_type()));
            }
            if entries.len() == BATCH {
                return Ok((entries, true));
            }
        }
        Ok((entries, false))
    }
}

/// Gives ourselves all permissions on a directory, and on nothing that a symlink leads to.
fn permit(here: BorrowedFd<'_>, name: impl Arg) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(here, name, flags, Mode::empty())?;
    // `fchmod` refuses such a handle; its name in /proc does not.
    let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    chmodat(CWD, name, Mode::RWXU, AtFlags::empty())
}

/// Opens a directory for listing and clearing, giving ourselves the permissions where they lack.
fn open_directory(here: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(here, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            permit(here, name)?;
            openat(here, name, flags, Mode::empty())
        }
        opened => opened,
    }
}

/// Does it; if the directory forbids, gives ourselves the permission and does it again.
fn permitted<T>(
    here: BorrowedFd<'_>,
    mut action: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match action() {
        Err(Errno::ACCESS) => {
            fchmod(here, Mode::RWXU)?;
            action()
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn permissions_are_given_to_a_directory_and_not_through_a_symlink() {
        let folder = tempfile::tempdir().unwrap();
        let [closed, link] = ["closed", "link"].map(|name| folder.path().join(name));
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        symlink("closed", &link).unwrap();
        let here = File::open(folder.path()).unwrap();
        assert_eq!(permit(here.as_fd(), c"link"), Err(Errno::NOTDIR));
        assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0);
        assert_eq!(permit(here.as_fd(), c"closed"), Ok(()));
        assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0o700);
    }
}
