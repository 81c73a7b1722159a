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
use crate::folder::Folder;

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
    for below in [&[][..], &[SPOOL]] {
        let made = Folder::make(hg, below, mode | STICKY);
        let made = made.map_err(|e| SpoolError::io("make", &folder(hg), e))?;
        make_sticky(made)?;
    }
    Ok(())
}

/// Writes a hint, durably, and returns the file's path.
pub fn write(hg: &Path, hint: &Hint) -> Result<PathBuf, SpoolError> {
    let path = folder(hg);
    let mode = store_mode(hg)?;
    let spool = match Folder::open(hg, &[SPOOL]) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Folder::make(hg, &[], mode | STICKY)
                // Not sticky: a daemon of another account must be able to remove what it read.
                .and_then(|_| Folder::make(hg, &[SPOOL], mode))
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
    let mut file = spool.create(fresh.as_ref()).map_err(failed("create"))?;
    let written = (|| {
        file.write_all(&content).map_err(failed("write"))?;
        // Readable by whoever can read the store, the daemon among them; writable by its owner.
        let readable = fs::Permissions::from_mode(mode & 0o444 | 0o600);
        file.set_permissions(readable).map_err(failed("set permissions of"))?;
        file.sync_all().map_err(failed("sync"))?;
        spool.rename(fresh.as_ref(), name.as_ref()).map_err(failed("rename"))?;
        spool.sync().map_err(failed("sync the folder of"))
    })();
    if written.is_err() {
        // A full disk: leave nothing that takes room. What cannot be removed is swept up later.
        let _ = spool.remove(fresh.as_ref());
    }
    written.map(|()| target)
}

/// Reads a spool file, whatever somebody may have put in its place.
pub fn read(path: &Path) -> Result<Spooled, SpoolError> {
    let (spool, name) = place_of(path).map_err(|e| SpoolError::io("open", path, e))?;
    // NONBLOCK: opening a fifo must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&spool, name, flags, Mode::empty()) {
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

/// The spool that a file of it is in, and the file's name.
fn place_of(path: &Path) -> io::Result<(Folder, &OsStr)> {
    // HG/hgci/spool/NAME.
    let (Some(name), Some(hg)) = (path.file_name(), path.ancestors().nth(3)) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    Ok((Folder::open(hg, &[SPOOL])?, name))
}

/// Removes a spool file.
///
/// # Errors
/// As the system has them, and where the spool is not a folder any more.
pub fn remove(path: &Path) -> io::Result<()> {
    let (spool, name) = place_of(path)?;
    spool.remove(name)
}

/// Gives a spool file a name by which it is not read again, for whoever wants to know; removes it
/// where that cannot be.
///
/// # Errors
/// As [`remove`].
pub fn set_aside(path: &Path) -> io::Result<()> {
    let (spool, name) = place_of(path)?;
    let aside = Path::new(name).with_extension("bad");
    spool.rename(name, aside.as_os_str()).or_else(|_| spool.remove(name))
}

/// The paths of the oldest spool files, at most `limit` of them, oldest first. No spool, no files.
pub fn list(hg: &Path, limit: usize) -> Result<Vec<PathBuf>, SpoolError> {
    let path = folder(hg);
    let Some(spool) = existing(hg)? else { return Ok(Vec::new()) };
    let mut oldest = BinaryHeap::new();
    for name in spool.names().map_err(|e| SpoolError::io("list", &path, e))? {
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
    let Some(spool) = existing(hg)? else { return Ok(0) };
    let before = before.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let mut swept = 0;
    for name in spool.names().map_err(|e| SpoolError::io("list", &folder(hg), e))? {
        let half = name.as_encoded_bytes();
        if half.starts_with(b".") && half.ends_with(b".new") {
            let about = rustix::fs::statat(&spool, &name, AtFlags::SYMLINK_NOFOLLOW);
            if about.is_ok_and(|about| about.st_mtime < before) && spool.remove(&name).is_ok() {
                swept += 1;
            }
        }
    }
    Ok(swept)
}

/// The spool, where there is one.
fn existing(hg: &Path) -> Result<Option<Folder>, SpoolError> {
    match Folder::open(hg, &[SPOOL]) {
        Ok(spool) => Ok(Some(spool)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(SpoolError::io("open", &folder(hg), e)),
    }
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

/// Adds the bit to a folder of ours that was made without.
fn make_sticky(folder: Folder) -> Result<(), SpoolError> {
    let path = folder.path().to_owned();
    let failed = |operation| move |e: Errno| SpoolError::io(operation, &path, e);
    let about = rustix::fs::fstat(&folder).map_err(failed.clone()("stat"))?;
    let is_ours = rustix::process::geteuid().as_raw() == about.st_uid;
    if about.st_mode & STICKY != 0 || !is_ours {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(about.st_mode & 0o7777 | STICKY);
    rustix::fs::fchmod(&folder, mode).map_err(failed("set permissions of"))
}

/// Enough to keep two names apart; nobody's safety hangs on it.
fn random() -> u64 {
    RandomState::new().hash_one(process::id())
}
