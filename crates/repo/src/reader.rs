//! One look at a repository.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;

use hg::utils::hg_path::HgPath;
use hgci_core::Node;
use hgci_core::push::Phase;

use crate::changeset::Changeset;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::graph::{Graph, Rev};
use crate::hg::Hg;
use crate::obsstore::{Fate, ObsState};
use crate::phases::{PhaseRoots, Phases};
use crate::repository::{ReadBy, Repository};
use crate::revlog::{self, Reach, Requirements};
use crate::{bookmarks, obsstore, phases};

/// A repository as it was when this was opened. For one batch of work on one thread: it holds the
/// whole index of the changelog (64 bytes a changeset) and never looks at it again.
pub struct Reader {
    repository: Repository,
    requirements: Requirements,
    reach: Reach,
    locked: bool,
    graph: Graph,
    phase_roots: OnceCell<PhaseRoots>,
    phases: OnceCell<Phases>,
    bookmarks: OnceCell<BTreeMap<String, Node>>,
    obsolete: OnceCell<HashSet<Node>>,
    files: OnceCell<Files>,
}

impl Reader {
    /// Opens the repository at `path`. Prefer [`Repository::read`], which tries again.
    ///
    /// # Errors
    /// As [`Repository::open`] and [`Reader::new`].
    pub fn open(path: &Path) -> Result<Self> {
        Repository::open(path)?.reader()
    }

    /// Opens the repository.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Corrupt`], which may settle.
    pub fn new(repository: &Repository) -> Result<Self> {
        let store = repository.store();
        // `hg debugupgraderepo` replaces the folder: then no changelog is no empty repository.
        let before = std::fs::metadata(store).map_err(Error::io("stat", store))?;
        let locked = repository.is_locked();
        let requirements: Requirements = repository.requirements()?.into_iter().collect();
        let reach = revlog::reach(&requirements);
        let graph = match reach {
            Reach::Nothing(_) => Graph::ask(&Hg::of(repository, &requirements))?,
            _ => Graph::open(repository.source(), store, &requirements)?,
        };
        if graph.len() == 0 {
            check_same(store, &before)?;
        }
        Ok(Reader {
            repository: repository.clone(),
            requirements,
            reach,
            locked,
            graph,
            phase_roots: OnceCell::new(),
            phases: OnceCell::new(),
            bookmarks: OnceCell::new(),
            obsolete: OnceCell::new(),
            files: OnceCell::new(),
        })
    }

    /// The repository that it reads.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What a program must understand to read the repository.
    pub fn requirements(&self) -> BTreeSet<String> {
        self.requirements.iter().cloned().collect()
    }

    /// Who reads the files of this repository, and why it is not hg-core.
    pub fn read_by(&self) -> (ReadBy, Option<&str>) {
        match &self.reach {
            Reach::All => (ReadBy::HgCore, None),
            Reach::Changelog(why) | Reach::Nothing(why) => (ReadBy::Hg, Some(why)),
        }
    }

    /// Whether a writer held the store's lock at opening, or holds it now.
    pub fn is_locked(&self) -> bool {
        self.locked || self.repository.is_locked()
    }

    /// How many changesets there are, hidden ones included.
    pub fn len(&self) -> usize {
        self.graph.len() as usize
    }

    /// Whether there is no changeset.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The newest changeset.
    pub fn tip(&self) -> Option<Node> {
        self.node(Rev(self.graph.len().checked_sub(1)?))
    }

    /// The number of a changeset here; `None` when it is unknown.
    pub fn rev(&self, node: &Node) -> Option<Rev> {
        self.graph.rev(node)
    }

    /// The numbers of those of `nodes` that are known, in one pass.
    pub fn revs(&self, nodes: &HashSet<Node>) -> HashMap<Node, Rev> {
        self.graph.revs(nodes)
    }

    /// The changeset of a number; `None` past the end.
    pub fn node(&self, rev: Rev) -> Option<Node> {
        self.graph.node(rev)
    }

    /// The parents of a changeset: none for a root, two for a merge.
    ///
    /// # Errors
    /// [`Error::UnknownChangeset`], [`Error::Corrupt`].
    pub fn parents(&self, node: &Node) -> Result<Vec<Node>> {
        let revs = self.graph.parents(self.known(node)?)?;
        Ok(revs.into_iter().flatten().filter_map(|rev| self.node(rev)).collect())
    }

    /// The parents by number. `rev` comes from this reader.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn parent_revs(&self, rev: Rev) -> Result<[Option<Rev>; 2]> {
        if rev.0 >= self.graph.len() {
            return Ok([None, None]);
        }
        self.graph.parents(rev)
    }

    /// What a changeset says of itself.
    ///
    /// # Errors
    /// [`Error::UnknownChangeset`]; [`Error::TooLarge`] above 64 MiB.
    pub fn changeset(&self, node: &Node) -> Result<Changeset> {
        self.graph.changeset(self.known(node)?, &self.hg())
    }

    /// The phase of a changeset.
    ///
    /// # Errors
    /// [`Error::UnknownChangeset`], or when the phase roots cannot be read.
    pub fn phase(&self, node: &Node) -> Result<Phase> {
        let rev = self.known(node)?;
        Ok(self.phases()?.get(rev))
    }

    /// The phase of a changeset by number, without a search for its node. `rev` comes from this
    /// reader.
    ///
    /// # Errors
    /// When the phase roots cannot be read.
    pub fn phase_of(&self, rev: Rev) -> Result<Phase> {
        Ok(self.phases()?.get(rev))
    }

    /// Where phases begin, as on disk: roots may be unknown.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn phase_roots(&self) -> Result<&PhaseRoots> {
        once(&self.phase_roots, || phases::read(self.repository.source(), self.repository.store()))
    }

    pub(crate) fn phases(&self) -> Result<&Phases> {
        once(&self.phases, || Phases::new(&self.graph, self.phase_roots()?))
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// All bookmarks, as on disk: what they name may be unknown.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn bookmarks(&self) -> Result<&BTreeMap<String, Node>> {
        once(&self.bookmarks, || {
            let source = self.repository.source();
            let file = match self.requirements.contains("bookmarksinstore") {
                true => self.repository.store().join("bookmarks"),
                false => source.join(".hg/bookmarks"),
            };
            bookmarks::read(source, &file)
        })
    }

    /// Length, count and tail of the obsstore; reads on from `before` where that is still so.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn obsstore(&self, before: Option<&ObsState>) -> Result<ObsState> {
        ObsState::read(self.repository.store(), before)
    }

    /// Whether a marker says that the changeset was replaced or pruned. Public ones never are.
    ///
    /// # Errors
    /// As [`Reader::phase`], and when the obsstore cannot be read.
    pub fn is_obsolete(&self, node: &Node) -> Result<bool> {
        if self.phase(node)? == Phase::Public {
            return Ok(false);
        }
        Ok(self.precursors()?.contains(node))
    }

    /// What has become of those of some changesets that are obsolete by markers which `since` does
    /// not have. Public ones never are; those that are not there are left out. Secret successors are
    /// not named.
    ///
    /// # Errors
    /// As [`Reader::is_obsolete`].
    pub fn fates(&self, since: &ObsState, of: &BTreeSet<Node>) -> Result<BTreeMap<Node, Fate>> {
        let is_draft = |node: &Node| match self.rev(node) {
            Some(rev) => self.phase_of(rev).map(|phase| phase != Phase::Public),
            None => Ok(false),
        };
        let phases = self.phases()?;
        let is_there =
            |node: &Node| self.rev(node).is_some_and(|rev| phases.get(rev) != Phase::Secret);
        let mut fates = obsstore::fates(self.repository.store(), since, of, is_there)?;
        for node in of {
            if fates.contains_key(node) && !is_draft(node)? {
                fates.remove(node);
            }
        }
        Ok(fates)
    }

    /// The changesets that markers are about.
    pub(crate) fn precursors(&self) -> Result<&HashSet<Node>> {
        once(&self.obsolete, || obsstore::precursors(self.repository.store()))
    }

    /// Those of `revs`, ascending, that are no parent of another one among them.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn heads_among(&self, revs: impl IntoIterator<Item = Rev>) -> Result<Vec<Rev>> {
        let mut heads = BTreeSet::new();
        for rev in revs {
            for parent in self.parent_revs(rev)?.into_iter().flatten() {
                heads.remove(&parent);
            }
            heads.insert(rev);
        }
        Ok(heads.into_iter().collect())
    }

    /// The content of a file in a changeset; `None` when it has no such file. Of a symlink, the
    /// target. Where hg-core cannot read it, the `hg` command does.
    ///
    /// # Errors
    /// [`Error::UnknownChangeset`]; [`Error::TooLarge`] above `max_bytes`.
    pub fn file(&self, node: &Node, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        self.known(node)?;
        if self.reach == Reach::All {
            match self.file_in_store(node, path, max_bytes) {
                Err(Error::Unsupported { .. }) => {}
                done => return done,
            }
        }
        self.hg().file(node, path.as_bytes(), max_bytes)
    }

    /// Whether a file of a changeset is a symlink; `false` where there is no such file.
    ///
    /// # Errors
    /// [`Error::UnknownChangeset`], or when the manifest cannot be read.
    pub fn is_symlink(&self, node: &Node, path: &str) -> Result<bool> {
        self.known(node)?;
        if self.reach != Reach::All {
            return self.hg().is_symlink(node, path.as_bytes());
        }
        let repo = self.repository.source();
        let manifest = self.files()?.manifest(&self.changeset(node)?.manifest)?;
        let entry = manifest.find_by_path(HgPath::new(path)).map_err(Error::hg(repo))?;
        Ok(entry.is_some_and(|entry| entry.flags.is_link()))
    }

    fn file_in_store(&self, node: &Node, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>> {
        let repo = self.repository.source();
        let files = self.files()?;
        let manifest = files.manifest(&self.changeset(node)?.manifest)?;
        let entry = manifest.find_by_path(HgPath::new(path)).map_err(Error::hg(repo))?;
        let Some(entry) = entry else { return Ok(None) };
        let file = revlog::node(&entry.node_id().map_err(Error::hg(repo))?);
        files.open(path.as_bytes(), &file)?.content_within(max_bytes).map(Some)
    }

    pub(crate) fn files(&self) -> Result<&Files> {
        once(&self.files, || {
            let repository = &self.repository;
            Files::new(repository.source(), repository.store(), &self.requirements)
        })
    }

    pub(crate) fn hg(&self) -> Hg<'_> {
        Hg::of(&self.repository, &self.requirements)
    }

    /// Whether the changelog on disk still ends as it did at opening.
    pub(crate) fn check_current(&self) -> Result<()> {
        let source = self.repository.source();
        let now = match self.reach {
            Reach::Nothing(_) => Graph::ask(&self.hg())?,
            _ => Graph::open(source, self.repository.store(), &self.requirements)?,
        };
        let tip = |graph: &Graph| graph.len().checked_sub(1).and_then(|rev| graph.node(Rev(rev)));
        if (now.len(), tip(&now)) == (self.graph.len(), self.tip()) {
            return Ok(());
        }
        let why = "the changelog changes while it is read".into();
        Err(Error::Corrupt { path: source.to_owned(), why })
    }

    pub(crate) fn known(&self, node: &Node) -> Result<Rev> {
        self.rev(node).ok_or_else(|| Error::UnknownChangeset {
            path: self.repository.source().to_owned(),
            node: *node,
        })
    }
}

/// `OnceCell::get_or_try_init` is not stable.
fn once<T>(cell: &OnceCell<T>, init: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = init()?;
    Ok(cell.get_or_init(|| value))
}

/// Whether the store is still the folder that it was, and really has no changelog.
fn check_same(store: &Path, before: &std::fs::Metadata) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let changelog = store.join("00changelog.i");
    let after = std::fs::metadata(store).map_err(Error::io("stat", store))?;
    let same = (before.dev(), before.ino()) == (after.dev(), after.ino());
    match std::fs::metadata(&changelog) {
        Ok(about) if about.len() > 0 => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("stat", &changelog)(error));
        }
        _ if same => return Ok(()),
        _ => {}
    }
    Err(Error::Corrupt { path: store.to_owned(), why: "it was replaced while it was read".into() })
}
