//! A repository by its place on disk: cheap to keep, read by opening a [`Reader`].

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use hgci_core::Node;

use crate::archive::{self, Archived};
use crate::error::{Error, NotRead, Result};
use crate::hg::{Hg, PATIENCE};
use crate::open;
use crate::reader::Reader;
use crate::revlog::{self, Reach};

/// How long to wait before each new try to read what looks corrupt. A strip of a large repository
/// takes seconds; what is corrupt for longer is corrupt.
pub(crate) const SETTLE: [Duration; 7] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1500),
];

/// A list of requirements or a path to a share's source has at most this many bytes.
const MAX_SMALL: u64 = 64 << 10;

/// Which program reads a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBy {
    /// This process.
    HgCore,
    /// The `hg` command, since hg-core refuses something.
    Hg,
}

/// Where a repository is. Holds no file open.
#[derive(Clone, Debug)]
pub struct Repository {
    places: Arc<Places>,
    tag_files: Arc<Mutex<TagFiles>>,
}

/// Which revision of `.hgtags` a changeset has, for the heads that were last looked at. A changeset
/// never changes, so this cannot be wrong.
type TagFiles = HashMap<Node, Option<Node>>;

#[derive(Clone, Debug)]
struct Places {
    root: PathBuf,
    source: PathBuf,
    store: PathBuf,
    shared: bool,
    hg: PathBuf,
    hg_patience: Duration,
}

impl Repository {
    /// Finds the repository whose root is `path`. A share is read at its source.
    ///
    /// # Errors
    /// [`Error::NotARepository`] when there is no `.hg`, or the share's source is gone.
    pub fn open(path: &Path) -> Result<Self> {
        let refuse = |why: String| Error::NotARepository { path: path.to_owned(), why };
        let root = fs::canonicalize(path).map_err(Error::io("find", path))?;
        let dot_hg = root.join(".hg");
        if !dot_hg.is_dir() {
            return Err(refuse("it has no folder .hg".into()));
        }
        let requires = read_requires(&dot_hg.join("requires"))?;
        let relative = requires.contains("relshared");
        let shared = relative || requires.contains("shared");
        let mut source = root.clone();
        if shared {
            let sharedpath = dot_hg.join("sharedpath");
            let text = open::small(&root, &sharedpath, MAX_SMALL)?
                .ok_or_else(|| refuse("it has no .hg/sharedpath".into()))?;
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            // Joining an absolute path replaces `dot_hg`.
            let target = dot_hg.join(bytes_to_path(text));
            let target = fs::canonicalize(&target)
                .map_err(|why| refuse(format!("the source of the share: {why}")))?;
            source = match (target.file_name(), target.parent()) {
                (Some(name), Some(parent)) if name == ".hg" => parent.to_owned(),
                _ => return Err(refuse(".hg/sharedpath names no folder .hg".into())),
            };
        }
        let mut store = source.join(".hg");
        let requires = read_requires(&store.join("requires"))?;
        // The oldest repositories have everything in one folder.
        if requires.contains("store") || requires.contains("share-safe") {
            store.push("store");
        }
        let places = Places { root, source, store, shared, hg: "hg".into(), hg_patience: PATIENCE };
        Ok(Repository { places: Arc::new(places), tag_files: Arc::default() })
    }

    /// Sets the `hg` command that reads what hg-core refuses; `hg` on PATH by default.
    pub fn with_hg(mut self, hg: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.places).hg = hg.into();
        self
    }

    /// Sets how long that command may be silent before it is killed; two minutes by default.
    pub fn with_hg_patience(mut self, patience: Duration) -> Self {
        Arc::make_mut(&mut self.places).hg_patience = patience;
        self
    }

    /// Who reads the files of this repository, and why it is not hg-core.
    ///
    /// # Errors
    /// As [`Repository::requirements`].
    pub fn read_by(&self) -> Result<(ReadBy, Option<String>)> {
        let requirements = self.requirements()?.into_iter().collect();
        Ok(match revlog::reach(&requirements) {
            Reach::All => (ReadBy::HgCore, None),
            Reach::Changelog(why) | Reach::Nothing(why) => (ReadBy::Hg, Some(why)),
        })
    }

    /// The repository's root, symlinks resolved.
    pub fn path(&self) -> &Path {
        &self.places.root
    }

    /// The root of the share's source; [`Repository::path`] for what is no share.
    pub fn source(&self) -> &Path {
        &self.places.source
    }

    /// Whether it is a share of another repository.
    pub fn is_share(&self) -> bool {
        self.places.shared
    }

    /// The store's folder.
    pub fn store(&self) -> &Path {
        &self.places.store
    }

    /// The `hg` command.
    pub fn hg(&self) -> &Path {
        &self.places.hg
    }

    /// How long that command may be silent.
    pub(crate) fn hg_patience(&self) -> Duration {
        self.places.hg_patience
    }

    /// What a program must understand to read this repository: `.hg/requires` and the store's.
    ///
    /// # Errors
    /// When a file cannot be read, or is no list of requirements.
    pub fn requirements(&self) -> Result<BTreeSet<String>> {
        let dot_hg = self.source().join(".hg");
        let mut requirements = read_requires(&dot_hg.join("requires"))?;
        if requirements.contains("share-safe") {
            requirements.extend(read_requires(&dot_hg.join("store/requires"))?);
        }
        Ok(requirements)
    }

    /// Whether some hg process holds the store's lock now: changesets may appear one by one,
    /// bookmarks after them; while it strips, changesets vanish that it adds again later. The lock
    /// of a process of this machine that is gone does not count.
    pub fn is_locked(&self) -> bool {
        let lock = self.store().join("lock");
        match fs::read_link(&lock) {
            Ok(holder) => !is_gone(&holder),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// What is known of these heads' `.hgtags`.
    pub(crate) fn tag_files(&self, heads: &[Node]) -> TagFiles {
        let known = self.tag_files.lock().unwrap_or_else(PoisonError::into_inner);
        heads.iter().filter_map(|head| Some((*head, *known.get(head)?))).collect()
    }

    /// Keeps it for the next time, and nothing else.
    pub(crate) fn keep_tag_files(&self, heads: TagFiles) {
        *self.tag_files.lock().unwrap_or_else(PoisonError::into_inner) = heads;
    }

    /// Opens it for one batch of reading.
    ///
    /// # Errors
    /// Those of [`Reader::new`].
    pub fn reader(&self) -> Result<Reader> {
        Reader::new(self)
    }

    /// Runs `read` on a fresh reader; again on another one when something looks corrupt or missing,
    /// as it does while somebody writes. Gives up after about three seconds.
    ///
    /// # Errors
    /// What `read` returned the last time.
    pub fn read<T>(&self, mut read: impl FnMut(&Reader) -> Result<T>) -> Result<T> {
        Ok(self.until_settled(|| self.read_once(&mut read), || true)?)
    }

    /// Streams a source tree as [`Reader::archive`] does; begins anew when something looks corrupt
    /// or missing before anything was passed on.
    ///
    /// # Errors
    /// As [`Reader::archive`], the last time.
    pub fn archive(
        &self,
        node: &Node,
        sink: &mut dyn Write,
    ) -> std::result::Result<Archived, NotRead> {
        let passed_on = Cell::new(false);
        let mut sink = Noted { sink, passed_on: &passed_on };
        let locked = self.is_locked();
        let requirements = self.requirements().map_err(|error| NotRead { error, locked })?;
        let requirements = requirements.into_iter().collect();
        if let Reach::Nothing(why) = revlog::reach(&requirements) {
            // Of the changelog, only this changeset is needed.
            return self.until_settled(
                || {
                    let locked = self.is_locked();
                    archive::by_hg(&Hg::of(self, &requirements), node, &why, &mut sink)
                        .map_err(|error| NotRead { error, locked: locked || self.is_locked() })
                },
                || !passed_on.get(),
            );
        }
        self.until_settled(
            || self.read_once(&mut |reader| reader.archive(node, &mut sink)),
            || !passed_on.get(),
        )
    }

    /// Reads by a fresh reader. It is the reader's word that counts when something is missing: by
    /// now the strip may be over that took it away for a while.
    fn read_once<T>(
        &self,
        read: &mut dyn FnMut(&Reader) -> Result<T>,
    ) -> std::result::Result<T, NotRead> {
        let locked = self.is_locked();
        let reader =
            self.reader().map_err(|error| NotRead { error, locked: locked || self.is_locked() })?;
        read(&reader).map_err(|error| NotRead { error, locked: reader.is_locked() })
    }

    fn until_settled<T>(
        &self,
        mut read: impl FnMut() -> std::result::Result<T, NotRead>,
        may_repeat: impl Fn() -> bool,
    ) -> std::result::Result<T, NotRead> {
        let mut pauses = SETTLE.iter();
        loop {
            let NotRead { error, locked } = match read() {
                Ok(done) => return Ok(done),
                Err(failed) => failed,
            };
            let missing = matches!(error, Error::UnknownChangeset { .. }) && locked;
            let pause = pauses.next().filter(|_| (missing || error.may_settle()) && may_repeat());
            match pause {
                Some(pause) => thread::sleep(*pause),
                None => return Err(NotRead { error, locked }),
            }
        }
    }
}

/// Notes whether anything went through.
struct Noted<'a> {
    sink: &'a mut dyn Write,
    passed_on: &'a Cell<bool>,
}

impl Write for Noted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.passed_on.set(true);
        self.sink.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Whether the holder of a lock, `HOST/NAMESPACE:PID`, is a process of ours that ended.
fn is_gone(holder: &Path) -> bool {
    let here = || {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        let namespace = fs::metadata("/proc/self/ns/pid").ok()?.ino();
        Some(format!("{}/{namespace:x}", host.trim_end()))
    };
    let holder = holder.to_string_lossy();
    let Some((host, pid)) = holder.rsplit_once(':') else { return false };
    pid.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        && here().as_deref() == Some(host)
}

/// A file that is missing is empty: very old repositories have none.
fn read_requires(path: &Path) -> Result<BTreeSet<String>> {
    let folder = path.parent().unwrap_or(path);
    let Some(text) = open::small(folder, path, MAX_SMALL)? else { return Ok(BTreeSet::new()) };
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| match std::str::from_utf8(line) {
            Ok(line) if line.starts_with(|c: char| c.is_ascii_alphanumeric()) => Ok(line.into()),
            _ => Err(Error::Corrupt {
                path: path.to_owned(),
                why: format!("not a requirement: {:?}", String::from_utf8_lossy(line)),
            }),
        })
        .collect()
}

/// A path as Mercurial wrote it.
pub(crate) fn bytes_to_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
