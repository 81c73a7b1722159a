//! Opening a log for writing: what a crash or a bad disk left is put in order.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::{At, Damage, Error};
use crate::header::{Commit, HEADER_LEN, Header, LogId, Mark, write_identity};
use crate::place::Place;
use crate::scan::Scan;

/// A log that is ours to write, up to its last whole frame.
pub(crate) struct Opened {
    pub file: File,
    pub commit: Commit,
    /// What was found damaged and could not be mended.
    pub damage: Vec<Damage>,
    /// What was done about it, for people.
    pub notes: Vec<String>,
}

/// Opens the log at `place`, or makes an empty one, and locks it.
pub(crate) fn open(place: &Place) -> Result<Opened, Error> {
    let path = place.log();
    let mut notes = Vec::new();
    // Each turn that does not return has lost a race with somebody, or set a file aside.
    for _ in 0..10 {
        let file = match place.open_file(&path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(place)?;
                continue;
            }
            result => result.at("open", &path)?,
        };
        lock(&file, &path)?;
        if !place.is_at(&file, &path) {
            continue;
        }
        remove_leftovers(place);
        match Header::read(&file, &path) {
            Ok(header) => return recover(file, &path, header, notes),
            Err(Error::NotALog { .. }) => {
                let aside = unused(place, &path.with_extension("damaged"));
                place.rename(&path, &aside).at("set aside", &path)?;
                notes.push(format!("{} has no readable header, set aside", aside.display()));
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Replaced { path })
}

/// The path itself, or with the first number behind it that no file has: what was set aside before
/// stays. Nobody else sets a log aside while we have its lock.
fn unused(place: &Place, path: &Path) -> PathBuf {
    let is_free = |path: &Path| !place.has(path);
    let numbered = (2_u32..).map(|n| path.with_extension(format!("damaged.{n}")));
    let mut paths = std::iter::once(path.to_owned()).chain(numbered);
    paths.find(|path| is_free(path)).unwrap_or_else(|| path.to_owned())
}

/// The lock is on the log itself, so that no two writers have the same file, whatever is renamed.
pub(crate) fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path: path.to_owned() }),
        Err(error) => Err(io::Error::from(error)).at("lock", path),
    }
}

/// A new file in the folder, with a header; nobody sees it before it has the log's name.
pub(crate) fn create_unnamed(place: &Place) -> Result<(File, std::path::PathBuf, Commit), Error> {
    let path = place.log().with_extension(format!("{}.new", std::process::id()));
    place.remove(&path)?;
    let file = place.create(&path)?;
    let log = LogId::random(&path)?;
    let commit = Commit::start(log);
    write_identity(&file, &path, log)?;
    commit.write(&file, &path)?;
    Ok((file, path, commit))
}

/// Makes an empty log, unless somebody else just did.
fn create(place: &Place) -> Result<(), Error> {
    let (file, path, _) = create_unnamed(place)?;
    file.sync_all().at("sync", &path)?;
    let log = place.log();
    let linked = place.link(&path, &log);
    place.remove(&path)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).at("create", &log),
        _ => place.sync_folder(),
    }
}

/// Files that a writer left when it died while it made a new log. We have the lock, so nobody is
/// at it now; whoever is making a first log finds that there is one.
fn remove_leftovers(place: &Place) {
    for name in place.names() {
        if name.starts_with("results.") && name.ends_with(".new") {
            // Not removed: only room is lost.
            let _ = place.remove(&place.folder().join(name));
        }
    }
}

fn recover(
    file: File,
    path: &Path,
    header: Header,
    mut notes: Vec<String>,
) -> Result<Opened, Error> {
    let len = file.metadata().at("look at", path)?.len();
    let mut damage = header.damage.clone();
    let commit = match header.commit {
        Some(commit) if commit.end.offset <= len => take_in_tail(&file, path, commit, len)?,
        _ => {
            let commit = count_again(&file, path, header.log, len, &mut damage)?;
            if let Some(before) = header.commit {
                let (offset, len) = (commit.end.offset, before.end.offset - commit.end.offset);
                damage.push(Damage { offset, len, what: "the end of the log is missing" });
            }
            commit
        }
    };
    if commit.end.offset < len {
        file.set_len(commit.end.offset).at("truncate", path)?;
        let torn = len - commit.end.offset;
        notes.push(format!("{}: {torn} bytes of an unfinished append dropped", path.display()));
    }
    if !header.damage.is_empty() {
        write_identity(&file, path, header.log)?;
        notes.push(format!("{}: header written anew", path.display()));
    }
    if header.commit != Some(commit) || !header.damage.is_empty() {
        // Frames of the tail may be in the page cache alone.
        file.sync_data().at("sync", path)?;
        commit.write(&file, path)?;
    }
    Ok(Opened { file, commit, damage, notes })
}

/// Takes in the whole frames behind the commit that continue its chain.
fn take_in_tail(file: &File, path: &Path, from: Commit, len: u64) -> Result<Commit, Error> {
    let mut commit = from;
    let mut scan = Scan::new(file, path, from.end.offset, len);
    while let Some(piece) = scan.next()? {
        match &piece.frame {
            Ok(frame) if frame.follows(&commit.end.chain) => {
                commit.end = Mark { offset: piece.end, chain: frame.chain, ..commit.end };
                commit.frames += 1;
            }
            _ => break,
        }
    }
    Ok(commit)
}

/// Without a commit that can be believed: everything up to the last whole frame counts.
fn count_again(
    file: &File,
    path: &Path,
    log: LogId,
    len: u64,
    damage: &mut Vec<Damage>,
) -> Result<Commit, Error> {
    let mut commit = Commit::start(log);
    let mut scan = Scan::new(file, path, HEADER_LEN, len.max(HEADER_LEN));
    while let Some(piece) = scan.next()? {
        match &piece.frame {
            Ok(frame) => {
                commit.end = Mark { offset: piece.end, chain: frame.chain, log };
                commit.frames += 1;
            }
            Err(_) => {
                if let Some(place) = piece.damage() {
                    place.found(damage, 1000);
                }
            }
        }
    }
    damage.retain(|place| place.offset < commit.end.offset);
    Ok(commit)
}
