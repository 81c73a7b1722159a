//! Hints for a daemon that did not answer: files in `.hg/hgci/spool` of the share source.
//!
//! A file is named `TIME-PID-RANDOM.json`, so that names sort by time. Its content is a [`Hint`] as
//! one line of JSON and a line `crc32c XXXXXXXX` with the checksum of the first. It comes into being
//! under another name and is renamed when it is durable: what has the name is whole.
//!
//! Its owner is who pushed: only the system can say that, so files with several links, symlinks and
//! whatever is not a regular file are not read.

use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::SystemTime;

use hgci_api::hook::{Hint, MAX_HINT};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::FOLDER;

/// The spool's name in the folder `.hg/hgci`.
pub const SPOOL: &str = "spool";

/// The most bytes of a spool file: a hint, its line end, the checksum.
const MAX_FILE: u64 = MAX_HINT as u64 + 64;
const SUFFIX: &str = ".json";

/// What is in a folder with this bit only its owner may remove or rename, and the folder's.
const STICKY: u32 = 0o1000;

/// What is wrong with the spool, or with one of its files.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The system refused an operation.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a regular file with one name, owned by who wrote it.
    #[error("{0}: not a spool file: a link, or not a regular file")]
    NotAFile(PathBuf),
    /// More than a hint has.
    #[error("{0}: larger than a spool file can be")]
    TooLarge(PathBuf),
    /// The end is missing, or the content does not have its checksum.
    #[error("{0}: damaged: {1}")]
    Damaged(PathBuf, String),
}

impl SpoolError {
    fn io(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> SpoolError {
        SpoolError::Io { operation, path: path.to_owned(), source: source.into() }
    }
}

/// A hint as it was found in the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spooled {
    /// What the hook wrote.
    pub hint: Hint,
    /// The account that owns the file.
    pub owner: u32,
    /// When the file was last written: milliseconds since 1970.
    pub written_ms: i64,
}

/// The spool's folder for a share source's `.hg`.
pub fn folder(hg: &Path) -> PathBuf {
    hg.join(FOLDER).join(SPOOL)
}

/// Makes `.hg/hgci` and the spool in it where they are missing: whoever may write into `.hg/store`
/// may write into the spool, and nobody may remove or rename what another account wrote, in either.
///
/// For the daemon, when it adopts a repository: as the folder's owner it may remove what it read. A
/// folder of another account stays as it is.
pub fn prepare(hg: &Path) -> Result<(), SpoolError> {
    let mode = store_mode(hg)?;
    for path in [hg.join(FOLDER), folder(hg)] {
        make_folder(&path, mode | STICKY)?;
        make_sticky(&path)?;
    }
    Ok(())
}

/// Writes a hint, durably, and returns the file's path.
pub fn write(hg: &Path, hint: &Hint) -> Result<PathBuf, SpoolError> {
    let path = folder(hg);
    let mode = store_mode(hg)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::open(&path, flags, Mode::empty());
    let spool = match open() {
        Err(Errno::NOENT) => {
            make_folder(&hg.join(FOLDER), mode | STICKY)?;
            // Not sticky: a daemon of another account must be able to remove what it read.
            make_folder(&path, mode)?;
            open()
        }
        other => other,
    };
    let spool = spool.map_err(|e| SpoolError::io("open", &path, e))?;

    let name = format!("{:013}-{}-{:016x}{SUFFIX}", hint.time_ms.max(0), process::id(), random());
    let fresh = format!(".{name}.new");
    let target = path.join(&name);
    let failed = |operation| {
        let target = &target;
        move |e: io::Error| SpoolError::io(operation, target, e)
    };
    let content = print(hint).map_err(failed("write"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&spool, &*fresh, flags, Mode::from_raw_mode(0o600));
    let mut file = File::from(file.map_err(|e| SpoolError::io("create", &target, e))?);
    let written = (|| {
        file.write_all(&content).map_err(failed("write"))?;
        // Readable by whoever can read the store, the daemon among them; writable by its owner.
        let readable = fs::Permissions::from_mode(mode & 0o444 | 0o600);
        file.set_permissions(readable).map_err(failed("set permissions of"))?;
        file.sync_all().map_err(failed("sync"))?;
        rustix::fs::renameat(&spool, &*fresh, &spool, &*name)
            .map_err(|e| failed("rename")(e.into()))?;
        rustix::fs::fsync(&spool).map_err(|e| failed("sync the folder of")(e.into()))
    })();
    if written.is_err() {
        // A full disk: leave nothing that takes room. What cannot be removed is swept up later.
        let _ = rustix::fs::unlinkat(&spool, &*fresh, AtFlags::empty());
    }
    written.map(|()| target)
}

/// Reads a spool file, whatever somebody may have put in its place.
pub fn read(path: &Path) -> Result<Spooled, SpoolError> {
    // NONBLOCK: opening a fifo must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::LOOP | Errno::NXIO) => return Err(SpoolError::NotAFile(path.to_owned())),
        Err(e) => return Err(SpoolError::io("open", path, e)),
    };
    let meta = file.metadata().map_err(|e| SpoolError::io("stat", path, e))?;
    if !meta.is_file() || meta.nlink() != 1 {
        return Err(SpoolError::NotAFile(path.to_owned()));
    }
    if meta.len() > MAX_FILE {
        return Err(SpoolError::TooLarge(path.to_owned()));
    }
    let mut content = Vec::new();
    // It may still grow while it is read.
    file.take(MAX_FILE + 1)
        .read_to_end(&mut content)
        .map_err(|e| SpoolError::io("read", path, e))?;
    let hint = parse(&content).map_err(|why| SpoolError::Damaged(path.to_owned(), why))?;
    let written_ms =
        meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000);
    Ok(Spooled { hint, owner: meta.uid(), written_ms })
}

/// The paths of the oldest spool files, at most `limit` of them, oldest first. No spool, no files.
pub fn list(hg: &Path, limit: usize) -> Result<Vec<PathBuf>, SpoolError> {
    let path = folder(hg);
    let mut oldest = BinaryHeap::new();
    for name in names(&path)? {
        if is_spool_name(&name) {
            oldest.push(name);
            if oldest.len() > limit {
                oldest.pop();
            }
        }
    }
    Ok(oldest.into_sorted_vec().into_iter().map(|name| path.join(name)).collect())
}

/// Removes what hooks left that died before renaming, where it was last touched before `before`.
/// Returns how many files that were.
pub fn sweep(hg: &Path, before: SystemTime) -> Result<usize, SpoolError> {
    let path = folder(hg);
    let mut swept = 0;
    for name in names(&path)? {
        let half = name.as_encoded_bytes();
        if half.starts_with(b".") && half.ends_with(b".new") {
            let file = path.join(&name);
            let stale = fs::symlink_metadata(&file).and_then(|meta| meta.modified());
            if stale.is_ok_and(|time| time < before) && fs::remove_file(&file).is_ok() {
                swept += 1;
            }
        }
    }
    Ok(swept)
}

fn names(path: &Path) -> Result<impl Iterator<Item = std::ffi::OsString>, SpoolError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(SpoolError::io("list", path, e)),
    };
    Ok(entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name())))
}

fn is_spool_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.first().is_some_and(u8::is_ascii_digit) && bytes.ends_with(SUFFIX.as_bytes())
}

/// The content of a spool file. An error where the hint is too large for one.
pub fn print(hint: &Hint) -> io::Result<Vec<u8>> {
    let mut content = serde_json::to_vec(hint)?;
    if content.len() > MAX_HINT {
        return Err(io::Error::other(format!("a hint of {} bytes is too large", content.len())));
    }
    let sum = crc32c::crc32c(&content);
    content.extend_from_slice(format!("\ncrc32c {sum:08x}\n").as_bytes());
    Ok(content)
}

/// The hint in the content of a spool file, or what is wrong with it.
pub fn parse(content: &[u8]) -> Result<Hint, String> {
    let lines = content.strip_suffix(b"\n").ok_or("its end is missing")?;
    let at = lines.iter().rposition(|&b| b == b'\n').ok_or("its checksum is missing")?;
    let json = &lines[..at];
    let wanted = format!("crc32c {:08x}", crc32c::crc32c(json));
    if lines[at + 1..] != *wanted.as_bytes() {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(json).map_err(|e| e.to_string())
}

/// Mercurial's rule for files that it makes: they follow the mode of `.hg/store`.
fn store_mode(hg: &Path) -> Result<u32, SpoolError> {
    let store = hg.join("store");
    // Very old repositories have no such folder; their store is `.hg` itself.
    let meta = fs::metadata(&store).or_else(|_| fs::metadata(hg));
    Ok(meta.map_err(|e| SpoolError::io("stat", &store, e))?.mode() & 0o2777)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), SpoolError> {
    match fs::create_dir(path) {
        // mkdir is subject to the umask.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(|e| SpoolError::io("set permissions of", path, e)),
        // Not a link to a folder: the daemon may be allowed to write where who made the link is not.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(SpoolError::io("use", path, Errno::NOTDIR)),
            Err(e) => Err(SpoolError::io("stat", path, e)),
        },
        Err(e) => Err(SpoolError::io("create", path, e)),
    }
}

/// Adds the bit to a folder of ours that was made without.
fn make_sticky(path: &Path) -> Result<(), SpoolError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty());
    let folder = File::from(folder.map_err(|e| SpoolError::io("open", path, e))?);
    let meta = folder.metadata().map_err(|e| SpoolError::io("stat", path, e))?;
    let is_ours = rustix::process::geteuid().as_raw() == meta.uid();
    if meta.mode() & STICKY != 0 || !is_ours {
        return Ok(());
    }
    let mode = fs::Permissions::from_mode(meta.mode() & 0o7777 | STICKY);
    folder.set_permissions(mode).map_err(|e| SpoolError::io("set permissions of", path, e))
}

/// Enough to keep two names apart; nobody's safety hangs on it.
fn random() -> u64 {
    RandomState::new().hash_one(process::id())
}
