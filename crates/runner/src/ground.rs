//! The folder that attempts' folders are made in.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, IFlags, Mode, OFlags, fstat, ioctl_getflags, ioctl_setflags, openat};
use rustix::process::geteuid;

/// Makes ext4 put each folder that is made in this one somewhere else on the disk. It keeps what
/// was made near its parent otherwise, and gives no inode again for minutes after its removal: a
/// place where trees come and go is soon full of inodes to step over. Unpacking 2,600 files took
/// 3 s there and 0.2 s with this flag, the same as on an unused disk.
///
/// Does nothing to a folder of somebody else's or one that everybody may write to. Other file
/// systems refuse, which is an error that may be ignored.
pub fn spread(folder: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(CWD, folder, flags, Mode::empty())?;
    let stat = fstat(&handle)?;
    let shared = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    if stat.st_uid != geteuid().as_raw() || shared {
        return Ok(());
    }
    let now = ioctl_getflags(&handle)?;
    if !now.contains(IFlags::TOPDIR) {
        ioctl_setflags(&handle, now | IFlags::TOPDIR)?;
    }
    Ok(())
}
