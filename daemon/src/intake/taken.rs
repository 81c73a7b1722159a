//! What was taken in of a repository, kept in the repository: `.hg/hgci/taken`, for the day that
//! the store is lost.
//!
//! Lines, each `CRC32C JSON`: first what was seen, then the builds that were made since. It is
//! behind the store by what came in the last minute or so, and that is enough: what came since is
//! taken in again, and what the results log knows the end of is not built again.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hgci_core::engine::Trigger;
use hgci_core::{BuildId, Node, PushId};
use hgci_hooks::folder::Folder;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::look::Seen;

/// The most that is read: a million builds in flight.
const MAX_BYTES: u64 = 128 << 20;

/// A build that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its push.
    pub push: PushId,
    /// Its number.
    pub build: BuildId,
    /// Its changeset.
    pub node: Node,
    /// Why it is built.
    #[serde(default)]
    pub trigger: Trigger,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<T> {
    Seen(T),
    Build(Made),
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// What was seen; `None` where that line is damaged.
    pub seen: Option<Seen>,
    /// Builds that had not ended when it was written, and those made since.
    pub builds: Vec<Made>,
    /// How many lines are damaged.
    pub damaged: usize,
}

/// The file's name in the folder `.hg/hgci`.
const FILE: &str = "taken";

/// Reads it; `None` where there is none.
pub fn read(hg: &Path) -> io::Result<Option<Taken>> {
    let ours = Folder::ours(hg).and_then(|ours| ours.open(OsStr::new(FILE), OFlags::RDONLY));
    let file = match ours {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let mut taken = Taken::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match parse(line) {
            Some(Line::Seen(seen)) => taken.seen = Some(seen),
            Some(Line::Build(made)) => taken.builds.push(made),
            None => taken.damaged += 1,
        }
    }
    Ok(Some(taken))
}

/// Writes it anew, durably. Returns its size.
pub fn write(hg: &Path, seen: &Seen, builds: &[Made]) -> io::Result<u64> {
    let mut bytes = print(&Line::Seen(seen))?;
    for made in builds {
        bytes.extend(print(&Line::<&Seen>::Build(*made))?);
    }
    // Whoever may enter the folder may read the repository.
    Folder::ours(hg)?.replace(FILE, &bytes, 0o644)?;
    Ok(bytes.len() as u64)
}

/// Adds builds to it. Not synced: the store is, and only a store that is lost together with what
/// the system has not written yet would miss them. Returns how many bytes these are.
pub fn append(hg: &Path, builds: &[Made]) -> io::Result<u64> {
    let mut bytes = Vec::new();
    for made in builds {
        bytes.extend(print(&Line::<&Seen>::Build(*made))?);
    }
    let mut file = Folder::ours(hg)?.open(OsStr::new(FILE), OFlags::WRONLY | OFlags::APPEND)?;
    // What has another name too may be anybody's.
    if file.metadata()?.nlink() != 1 {
        return Err(io::Error::other("it has several names"));
    }
    file.write_all(&bytes)?;
    Ok(bytes.len() as u64)
}

fn print<T: Serialize>(line: &Line<T>) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(line)?;
    let mut bytes = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    bytes.extend(json);
    bytes.push(b'\n');
    Ok(bytes)
}

fn parse(line: &[u8]) -> Option<Line<Seen>> {
    let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let right = format!("{:08x} ", crc32c::crc32c(json));
    if crc != right.as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    fn path(hg: &Path) -> PathBuf {
        hg.join(hgci_hooks::FOLDER).join(FILE)
    }

    fn made(n: u64) -> Made {
        let node = Node([n as u8; 20]);
        Made { push: PushId(n), build: BuildId(n), node, trigger: Trigger::Push }
    }

    #[test]
    fn what_is_written_and_added_is_read() {
        let hg = tempfile::tempdir().unwrap();
        fs::create_dir(hg.path().join("hgci")).unwrap();
        assert_eq!(read(hg.path()).unwrap(), None);
        assert!(append(hg.path(), &[made(1)]).is_err(), "what was seen comes first");
        let seen = Seen { adopted_ms: 5, ..Seen::default() };
        write(hg.path(), &seen, &[made(1)]).unwrap();
        append(hg.path(), &[made(2), made(3)]).unwrap();
        let taken = read(hg.path()).unwrap().unwrap();
        let builds = vec![made(1), made(2), made(3)];
        assert_eq!(taken, Taken { seen: Some(seen.clone()), builds, damaged: 0 });
        write(hg.path(), &seen, &[]).unwrap();
        assert_eq!(read(hg.path()).unwrap().unwrap().builds, []);
    }

    #[test]
    fn damage_costs_the_lines_that_it_is_in() {
        let hg = tempfile::tempdir().unwrap();
        fs::create_dir(hg.path().join("hgci")).unwrap();
        write(hg.path(), &Seen::default(), &[made(1), made(2)]).unwrap();
        let whole = fs::read(path(hg.path())).unwrap();
        // Torn in the last line, as by a crash.
        fs::write(path(hg.path()), &whole[..whole.len() - 5]).unwrap();
        let taken = read(hg.path()).unwrap().unwrap();
        assert_eq!((taken.builds, taken.damaged), (vec![made(1)], 1));
        assert!(taken.seen.is_some());
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            fs::write(path(hg.path()), bad).unwrap();
            let taken = read(hg.path()).unwrap().unwrap();
            let left = taken.builds.len() + usize::from(taken.seen.is_some());
            assert!(taken.damaged > 0 && left < 3, "byte {at}: {taken:?}");
            assert!(taken.builds.iter().all(|found| [made(1), made(2)].contains(found)));
        }
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let hg = tempfile::tempdir().unwrap();
        fs::create_dir(hg.path().join("hgci")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path(hg.path()), 0o600.into()).unwrap();
        assert!(read(hg.path()).is_err());
        assert!(append(hg.path(), &[made(1)]).is_err());
    }
    #[test]
    fn nothing_is_read_or_written_where_a_link_leads() {
        let (hg, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), hg.path().join("hgci")).unwrap();
        assert!(write(hg.path(), &Seen::default(), &[]).is_err());
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        fs::write(elsewhere.path().join(FILE), "mine").unwrap();
        assert!(read(hg.path()).is_err());
        assert!(append(hg.path(), &[made(1)]).is_err());
        assert!(write(hg.path(), &Seen::default(), &[]).is_err());
        assert_eq!(fs::read(elsewhere.path().join(FILE)).unwrap(), b"mine");

        // Nor added to a file that has its place somewhere else.
        fs::remove_file(hg.path().join("hgci")).unwrap();
        fs::create_dir(hg.path().join("hgci")).unwrap();
        fs::hard_link(elsewhere.path().join(FILE), path(hg.path())).unwrap();
        assert!(append(hg.path(), &[made(1)]).is_err());
        assert_eq!(fs::read(elsewhere.path().join(FILE)).unwrap(), b"mine");
    }
}
