//! Where the log of a repository is, and to whom it belongs.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fsync, linkat, open, openat, renameat, unlinkat};
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

    /// All places of a repository in which something was received, in the order of their names;
    /// where there are very many, those to which something came last.
    pub fn all_received(dot_hg: impl Into<PathBuf>) -> Vec<Place> {
        let dot_hg = dot_hg.into();
        let Ok(folder) = fs::read_dir(dot_hg.join(OWN).join(RECEIVED)) else { return Vec::new() };
        let mut found: Vec<(SystemTime, String)> = folder
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| {
                let changed = entry.metadata().and_then(|about| about.modified());
                Some((changed.ok()?, entry.file_name().into_string().ok()?))
            })
            .collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(MAX_SOURCES);
        let mut names: Vec<String> = found.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
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
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return self.handle().map(drop).at("use", &folder);
            }
            Err(error) => return Err(error).at("create", &folder),
        }
        let model = self.model()?;
        // What was made may have been replaced by now.
        let made = self.handle().at("use", &folder)?;
        if let Some((user, group)) = owner(&model) {
            ignore_refusal(fchown(&made, user, Some(group))).at("change the owner of", &folder)?;
        }
        // After chown, which clears the set-group-ID bit.
        let sticky = if self.is_own() { 0o1000 } else { 0 };
        let mode = Mode::from_raw_mode(model.mode() & 0o2777 | sticky);
        fchmod(&made, mode).map_err(Into::into).at("change the mode of", &folder)
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

    /// The folder itself; not where a symbolic link in its place, or in that of a folder between
    /// `.hg` and it, leads.
    fn handle(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut names = self.below.iter();
        let first = names.next().map_or_else(|| self.dot_hg.clone(), |own| self.dot_hg.join(own));
        let mut handle = open(first, flags, Mode::empty())?;
        for name in names {
            handle = openat(&handle, name.as_str(), flags, Mode::empty())?;
        }
        Ok(handle)
    }

    /// Gives a file of the folder another name in it, in the place of what has that.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let folder = self.handle()?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        Ok(renameat(&folder, name(from), &folder, name(to))?)
    }

    /// Gives a file of the folder a further name in it, that nothing has.
    pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let folder = self.handle()?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        Ok(linkat(&folder, name(from), &folder, name(to), AtFlags::empty())?)
    }

    /// Removes a file of the folder, where there is one of that name.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default();
        let removed =
            self.handle().and_then(|folder| match unlinkat(&folder, name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                result => Ok(result?),
            });
        removed.at("remove", path)
    }

    /// Makes renames in the folder durable.
    pub(crate) fn sync_folder(&self) -> Result<(), Error> {
        let folder = self.folder();
        self.handle().and_then(|folder| Ok(fsync(folder)?)).at("sync", &folder)
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
