//! Hints for a daemon that did not answer: files in `.hg/hgci/spool` of the share source.
//!
//! A file is named `TIME-PID-RANDOM.json`, so that names sort by time. Its content is a [`Hint`] as
//! one line of JSON and a line `crc32c XXXXXXXX` with the checksum of the first. It comes into being
//! under another name and is renamed when it is durable: what has the name is whole.
//!
//! Its owner is who pushed: only the system can say that, so files with several links, symlinks and
//! whatever is not a regular file are not read.

use std::collections::BinaryHeap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use hgci_api::hook::{Hint, MAX_HINT};
use rustix::fs::{FileType, OFlags, Stat};

use crate::FOLDER;
use crate::folder::{Folder, NotAFolder};

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
    /// Whether something else is in the place of a folder.
    pub fn is_no_folder(&self) -> bool {
        matches!(self, SpoolError::Io { source, .. } if NotAFolder::is_why(source))
    }

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

/// The spool's path for a share source's `.hg`.
pub fn folder(hg: &Path) -> PathBuf {
    hg.join(FOLDER).join(SPOOL)
}

/// A spool that is open.
#[derive(Debug)]
pub struct Spool(Folder);

/// Makes `.hg/hgci` and the spool in it where they are missing: whoever may write into `.hg/store`
/// may write into the spool, and nobody may remove or rename what another account wrote, in either.
///
/// For the daemon, when it adopts a repository: as the folder's owner it may remove what it read. A
/// folder of another account stays as it is.
pub fn prepare(hg: &Path) -> Result<Spool, SpoolError> {
    let mode = store_mode(hg)?;
    let mut folder = Folder::dot_hg(hg).map_err(|e| SpoolError::io("open", hg, e))?;
    for name in [FOLDER, SPOOL] {
        let path = folder.path().join(name);
        let made = folder.make_within(name, mode | STICKY);
        folder = made.map_err(|e| SpoolError::io("use", &path, e))?;
        make_sticky(&folder).map_err(|e| SpoolError::io("set permissions of", &path, e))?;
    }
    Ok(Spool(folder))
}

/// Writes a hint, durably, and returns the file's path.
pub fn write(hg: &Path, hint: &Hint) -> Result<PathBuf, SpoolError> {
    let mode = store_mode(hg)?;
    let dot_hg = Folder::dot_hg(hg).map_err(|e| SpoolError::io("open", hg, e))?;
    let ours = dot_hg.make_within(FOLDER, mode | STICKY);
    let ours = ours.map_err(|e| SpoolError::io("use", &hg.join(FOLDER), e))?;
    // Not sticky: a daemon of another account must be able to remove what it read.
    let spool = ours.make_within(SPOOL, mode);
    let spool = spool.map_err(|e| SpoolError::io("use", &folder(hg), e))?;

    let name = format!("{:013}-{}-{:016x}{SUFFIX}", hint.time_ms.max(0), process::id(), random());
    let fresh = format!(".{name}.new");
    let (name, fresh) = (OsStr::new(&name), OsStr::new(&fresh));
    let target = spool.path().join(name);
    let failed = |operation| {
        let target = &target;
        move |e: io::Error| SpoolError::io(operation, target, e)
    };
    let content = print(hint).map_err(failed("write"))?;
    let mut file = spool.create(fresh).map_err(failed("create"))?;
    let written = (|| {
        file.write_all(&content).map_err(failed("write"))?;
        // Readable by whoever can read the store, the daemon among them; writable by its owner.
        let readable = fs::Permissions::from_mode(mode & 0o444 | 0o600);
        file.set_permissions(readable).map_err(failed("set permissions of"))?;
        file.sync_all().map_err(failed("sync"))?;
        spool.rename(fresh, name).map_err(failed("rename"))?;
        spool.sync().map_err(failed("sync the folder of"))
    })();
    if written.is_err() {
        // A full disk: leave nothing that takes room. What cannot be removed is swept up later.
        let _ = spool.remove(fresh);
    }
    written.map(|()| target)
}

impl Spool {
    /// The spool of a share source's `.hg`, where there is one.
    pub fn open(hg: &Path) -> Result<Option<Spool>, SpoolError> {
        let missing = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
        let ours = match Folder::ours(hg) {
            Err(e) if missing(&e) => return Ok(None),
            ours => ours.map_err(|e| SpoolError::io("open", &hg.join(FOLDER), e))?,
        };
        match ours.within(SPOOL) {
            Err(e) if missing(&e) => Ok(None),
            spool => Ok(Some(Spool(spool.map_err(|e| SpoolError::io("open", &folder(hg), e))?))),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.0
    }

    /// Where a file of it is, for people.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.0.path().join(name)
    }

    /// Reads a spool file, whatever somebody may have put in its place.
    pub fn read(&self, name: &OsStr) -> Result<Spooled, SpoolError> {
        let path = &self.path_of(name);
        let not_a_file = || SpoolError::NotAFile(path.to_owned());
        let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode).is_file();
        let file = match self.0.open(name, OFlags::RDONLY) {
            Err(_) if self.0.stat_of(name).is_ok_and(|stat| !is_file(stat)) => {
                return Err(not_a_file());
            }
            file => file.map_err(|e| SpoolError::io("open", path, e))?,
        };
        let meta = file.metadata().map_err(|e| SpoolError::io("stat", path, e))?;
        if meta.nlink() != 1 {
            return Err(not_a_file());
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

    /// The names of the oldest spool files, at most `limit` of them, oldest first.
    pub fn list(&self, limit: usize) -> Result<Vec<OsString>, SpoolError> {
        let mut oldest = BinaryHeap::new();
        for name in self.names()?.filter(|name| is_spool_name(name)) {
            oldest.push(name);
            if oldest.len() > limit {
                oldest.pop();
            }
        }
        Ok(oldest.into_sorted_vec())
    }

    /// Removes a file that was read.
    pub fn remove(&self, name: &OsStr) -> Result<(), SpoolError> {
        self.0.remove(name).map_err(|e| SpoolError::io("remove", &self.path_of(name), e))
    }

    /// Puts a file out of the way that cannot be read, as `*.bad` beside the others.
    pub fn set_aside(&self, name: &OsStr) -> Result<(), SpoolError> {
        let bad = Path::new(name).with_extension("bad");
        let done = self.0.rename(name, bad.as_os_str()).or_else(|_| self.0.remove(name));
        done.map_err(|e| SpoolError::io("set aside", &self.path_of(name), e))
    }

    /// Removes what hooks left that died before renaming, where it was last touched before `before`,
    /// in milliseconds since 1970. Returns how many files that were.
    pub fn sweep(&self, before_ms: i64) -> Result<usize, SpoolError> {
        let mut swept = 0;
        for name in self.names()? {
            let half = name.as_encoded_bytes();
            if half.starts_with(b".") && half.ends_with(b".new") {
                let touched = |stat: Stat| stat.st_mtime.saturating_mul(1000);
                let is_stale = |stat| touched(stat) < before_ms;
                if self.0.stat_of(&name).is_ok_and(is_stale) && self.0.remove(&name).is_ok() {
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    fn names(&self) -> Result<impl Iterator<Item = OsString> + use<>, SpoolError> {
        self.0.names().map_err(|e| SpoolError::io("list", self.0.path(), e))
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
fn make_sticky(folder: &Folder) -> io::Result<()> {
    let stat = folder.stat()?;
    let is_ours = rustix::process::geteuid().as_raw() == stat.st_uid;
    if stat.st_mode & STICKY != 0 || !is_ours {
        return Ok(());
    }
    folder.set_mode(stat.st_mode & 0o7777 | STICKY)
}

/// Enough to keep two names apart; nobody's safety hangs on it.
fn random() -> u64 {
    RandomState::new().hash_one(process::id())
}
