//! Where the log of a repository is, and to whom it belongs.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, fsync, linkat, mkdirat, open, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::error::{At, Error};

/// A folder with a log: `.hg/hgci` of a repository (of the share source, where it is a share), for
/// what its daemon writes, or one below `.hg/hgci/from`, for what was received from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    dot_hg: PathBuf,
    /// From there down, one name each.
    below: Vec<String>,
}

/// Below `.hg`: where a repository's own log is.
const OWN: &str = "hgci";

/// Below that: where what was received is, a folder for each source.
const RECEIVED: &str = "from";

/// The most sources that are looked at.
const MAX_SOURCES: usize = 64;

impl Place {
    /// The own log of the repository whose `.hg` folder this is.
    pub fn new(dot_hg: impl Into<PathBuf>) -> Place {
        Place { dot_hg: dot_hg.into(), below: vec![OWN.into()] }
    }

    /// What the repository received from `source`, a URL without password.
    pub fn received(dot_hg: impl Into<PathBuf>, source: &str) -> Place {
        let hash = Sha256::digest(source.as_bytes());
        let name = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Place { dot_hg: dot_hg.into(), below: vec![OWN.into(), RECEIVED.into(), name] }
    }

    /// All places of a repository in which something was received, in the order of their names.
    pub fn all_received(dot_hg: impl Into<PathBuf>) -> Vec<Place> {
        let dot_hg = dot_hg.into();
        let from = Place { dot_hg: dot_hg.clone(), below: vec![OWN.into(), RECEIVED.into()] };
        let Ok(folder) = from.handle() else { return Vec::new() };
        let is_folder = |name: &String| {
            let kind = statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
            kind.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        };
        let hidden = |name: &String| name.starts_with('.');
        let mut names: Vec<String> =
            from.names().into_iter().filter(|name| !hidden(name) && is_folder(name)).collect();
        names.sort_unstable();
        names.truncate(MAX_SOURCES);
        let below = |name| vec![OWN.into(), RECEIVED.into(), name];
        names.into_iter().map(|name| Place { dot_hg: dot_hg.clone(), below: below(name) }).collect()
    }

    /// The folder.
    pub fn folder(&self) -> PathBuf {
        self.below.iter().fold(self.dot_hg.clone(), |path, name| path.join(name))
    }

    /// The log: `results` in the folder.
    pub fn log(&self) -> PathBuf {
        self.folder().join("results")
    }

    /// Its index: `results.idx`.
    pub fn index(&self) -> PathBuf {
        self.folder().join("results.idx")
    }

    /// Makes the folder if it is not there, with owner, group and mode of `.hg/store`: whoever may
    /// read the repository may read its results. `.hg/hgci` is sticky: hooks of others write into
    /// it, and must not put another log in the place of ours.
    pub fn prepare(&self) -> Result<(), Error> {
        for depth in 1..=self.below.len() {
            let (dot_hg, below) = (self.dot_hg.clone(), self.below[..depth].to_vec());
            Place { dot_hg, below }.prepare_last()?;
        }
        Ok(())
    }

    fn is_own(&self) -> bool {
        self.below.len() == 1
    }

    fn prepare_last(&self) -> Result<(), Error> {
        let folder = self.folder();
        let Some((name, above)) = self.below.split_last() else { return Ok(()) };
        let above = Place { dot_hg: self.dot_hg.clone(), below: above.to_vec() };
        let above = above.handle().at("open the folder of", &folder)?;
        match mkdirat(&above, name.as_str(), Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return self.handle().map(drop).at("use", &folder),
            Err(error) => return Err(error.into()).at("create", &folder),
        }
        let made = File::from(folder_at(&above, name.as_ref()).at("open", &folder)?);
        let model = self.model()?;
        if let Some((user, group)) = owner(&model) {
            ignore_refusal(fchown(&made, user, Some(group))).at("change the owner of", &folder)?;
        }
        // After chown, which clears the set-group-ID bit.
        let sticky = if self.is_own() { 0o1000 } else { 0 };
        let mode = fs::Permissions::from_mode(model.mode() & 0o2777 | sticky);
        made.set_permissions(mode).at("change the mode of", &folder)
    }

    /// Makes a new file at `path` (which must not exist yet) with owner and group of `.hg/store`,
    /// readable by whoever can read that. What the daemon writes, its owner alone can write; what
    /// was received, whoever may pull into the repository.
    pub(crate) fn create(&self, path: &Path) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let file = self.open_in(path, flags).at("create", path)?;
        let model = self.model()?;
        if let Some((user, group)) = owner(&model) {
            ignore_refusal(fchown(&file, user, Some(group))).at("change the owner of", path)?;
        }
        let most = if self.is_own() { 0o644 } else { 0o666 };
        let mode = fs::Permissions::from_mode(model.mode() & most);
        file.set_permissions(mode).at("change the mode of", path)?;
        Ok(file)
    }

    /// Opens a file of the folder for reading, and perhaps for writing.
    pub(crate) fn open_file(&self, path: &Path, write: bool) -> io::Result<File> {
        self.open_in(path, if write { OFlags::RDWR } else { OFlags::RDONLY })
    }

    /// Whoever may write the repository may have put anything there: no symbolic link is followed,
    /// and what is no regular file is refused instead of waited for.
    fn open_in(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let name = path.file_name().unwrap_or_default();
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(self.handle()?, name, flags, Mode::from_raw_mode(0o600))?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// Whether the path still leads to the file that is open.
    pub(crate) fn is_at(&self, file: &File, path: &Path) -> bool {
        let found = self.handle().and_then(|folder| {
            let name = path.file_name().unwrap_or_default();
            Ok((statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?, fstat(file)?))
        });
        found.is_ok_and(|(path, file)| (path.st_dev, path.st_ino) == (file.st_dev, file.st_ino))
    }

    /// Whether a file of the folder is there.
    pub(crate) fn has(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        self.handle().is_ok_and(|folder| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// Removes a file of the folder; no error where there is none.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default();
        match self.handle().and_then(|folder| Ok(unlinkat(folder, name, AtFlags::empty())?)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", path),
            _ => Ok(()),
        }
    }

    /// Puts a file of the folder in the place of another.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let folder = self.handle()?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        Ok(renameat(&folder, name(from), &folder, name(to))?)
    }

    /// Gives a file of the folder another name that is not taken.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let folder = self.handle()?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        Ok(linkat(&folder, name(from), &folder, name(to), AtFlags::empty())?)
    }

    /// The names of what is in the folder, as far as they can be read and are text.
    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(entries) = self.handle().and_then(|folder| Ok(Dir::new(folder)?)) else {
            return Vec::new();
        };
        let names = entries.map_while(Result::ok).map(|entry| entry.file_name().to_owned());
        names.filter_map(|name| name.into_string().ok()).collect()
    }

    /// The folder itself; not where a symbolic link in its place, or in that of a folder between
    /// `.hg` and it, leads. `.hg` is hg's, and may be a link.
    fn handle(&self) -> io::Result<OwnedFd> {
        let mut names = self.below.iter();
        let Some(first) = names.next() else {
            return Ok(open(&self.dot_hg, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        };
        // In one call, for whoever asks where there is nothing.
        let mut handle = folder_at(CWD, &self.dot_hg.join(first))?;
        for name in names {
            handle = folder_at(&handle, name.as_ref())?;
        }
        Ok(handle)
    }

    /// Makes renames in the folder durable.
    pub(crate) fn sync_folder(&self) -> Result<(), Error> {
        self.handle().and_then(|folder| Ok(fsync(folder)?)).at("sync", &self.folder())
    }

    fn model(&self) -> Result<fs::Metadata, Error> {
        let store = self.dot_hg.join("store");
        match fs::metadata(&store) {
            // Repositories older than Mercurial 0.9.2 have no store folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(&self.dot_hg).at("look at", &self.dot_hg)
            }
            result => result.at("look at", &store),
        }
    }
}

/// Opens a folder, not what a link in its place leads to.
fn folder_at(above: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(above, path, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => Err(io::Error::other(NO_FOLDER)),
        folder => Ok(folder?),
    }
}

const NO_FOLDER: &str = "a symbolic link, or no folder, is in the place of .hg/hgci or of a folder \
     in it, and nothing is read or written there: remove it";

/// Owner and group to set, where ours would be others. Only root can give files away.
fn owner(model: &fs::Metadata) -> Option<(Option<u32>, u32)> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    match user.is_root() {
        true => Some((Some(model.uid()), model.gid())),
        false if group.as_raw() != model.gid() => Some((None, model.gid())),
        false => None,
    }
}

/// A group that we are not in cannot be set. Mercurial's own files then have ours too.
fn ignore_refusal(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}
