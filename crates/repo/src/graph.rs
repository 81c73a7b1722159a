//! The changelog: which changesets there are, in which order, and what each says.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use hg::revlog::changelog::Changelog;
use hg::revlog::path_encode::PathEncoding;
use hg::revlog::{Revision, RevlogType};
use hg::utils::RawData;
use hg::vfs::VfsImpl;
use hgci_core::Node;

use crate::changeset::Changeset;
use crate::error::{Error, Result};
use crate::hg::Hg;
use crate::open;
use crate::revlog::{self, Requirements, check_chain, guarded};

/// A revision number: good for the reader that gave it, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev(pub u32);

/// The text of a changeset may have this many bytes; most of it is the list of files.
const MAX_CHANGESET: u64 = 64 << 20;

/// The list of changesets, as hg tells it, may have this many bytes: some millions of them.
const MAX_LIST: u64 = 512 << 20;

/// The changelog as it was when it was opened.
pub(crate) struct Graph {
    path: PathBuf,
    store: PathBuf,
    len: u32,
    source: Source,
}

enum Source {
    HgCore(Box<Changelog>),
    /// Nodes and parents in order, from the `hg` command.
    Hg(Vec<(Node, [Option<Rev>; 2])>),
}

impl Graph {
    /// Reads the index. `repo` is for messages.
    pub(crate) fn open(repo: &Path, store: &Path, requirements: &Requirements) -> Result<Self> {
        let vfs = VfsImpl::new(store.to_owned(), true, PathEncoding::None);
        let options = revlog::options(repo, requirements, RevlogType::Changelog)?;
        open::check_index(repo, &vfs.join("00changelog.i"))?;
        let changelog = guarded(repo, || Changelog::open(&vfs, options).map_err(Error::hg(repo)))?;
        let len = changelog.get_index().len() as u32;
        let (path, store) = (repo.to_owned(), store.to_owned());
        Ok(Graph { path, store, len, source: Source::HgCore(Box::new(changelog)) })
    }

    /// Asks the `hg` command for the list of changesets.
    pub(crate) fn ask(hg: &Hg<'_>) -> Result<Self> {
        let corrupt = |line: &str| Error::Corrupt {
            path: hg.repo.to_owned(),
            why: format!("hg says of its changesets: {line:?}"),
        };
        let text = hg.graph(MAX_LIST)?;
        let mut list = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let parent = |text: &str| match text.parse() {
                Ok(-1) => Some(None),
                Ok(rev @ 0..) if (rev as usize) < list.len() => Some(Some(Rev(rev as u32))),
                _ => None::<Option<Rev>>,
            };
            let mut words = line.split(' ');
            let parsed = (|| {
                let node = words.next()?.parse().ok()?;
                Some((node, [parent(words.next()?)?, parent(words.next()?)?]))
            })();
            list.push(parsed.ok_or_else(|| corrupt(line))?);
        }
        let path = hg.repo.to_owned();
        let len = list.len() as u32;
        Ok(Graph { path, store: PathBuf::new(), len, source: Source::Hg(list) })
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn node(&self, rev: Rev) -> Option<Node> {
        (rev.0 < self.len).then(|| self.node_at(rev.0))
    }

    /// `rev` is below `len`.
    fn node_at(&self, rev: u32) -> Node {
        match &self.source {
            Source::HgCore(changelog) => {
                revlog::node(changelog.node_from_rev(Revision(rev as i32)))
            }
            Source::Hg(list) => list[rev as usize].0,
        }
    }

    /// From the newest on: most questions are about those. No nodemap file is mapped for it.
    pub(crate) fn rev(&self, node: &Node) -> Option<Rev> {
        (0..self.len).rev().find(|rev| self.node_at(*rev) == *node).map(Rev)
    }

    pub(crate) fn revs(&self, nodes: &HashSet<Node>) -> HashMap<Node, Rev> {
        let mut found = HashMap::new();
        for rev in (0..self.len).rev() {
            if found.len() == nodes.len() {
                break;
            }
            let node = self.node_at(rev);
            if nodes.contains(&node) {
                found.insert(node, Rev(rev));
            }
        }
        found
    }

    /// None, one or two; smaller than `rev`, which is below `len`.
    pub(crate) fn parents(&self, rev: Rev) -> Result<[Option<Rev>; 2]> {
        let changelog = match &self.source {
            Source::HgCore(changelog) => changelog,
            Source::Hg(list) => return Ok(list[rev.0 as usize].1),
        };
        let entry = changelog.get_index().get_entry(Revision(rev.0 as i32));
        let check = |parent: i32| match parent {
            -1 => Ok(None),
            parent if parent >= 0 && (parent as u32) < rev.0 => Ok(Some(Rev(parent as u32))),
            _ => Err(Error::Corrupt {
                path: self.path.clone(),
                why: format!("changeset {} has an impossible parent", self.node_at(rev.0)),
            }),
        };
        Ok([check(entry.p1().0)?, check(entry.p2().0)?])
    }

    /// `rev` is below `len`. `hg` is asked where it gave the list.
    pub(crate) fn changeset(&self, rev: Rev, hg: &Hg<'_>) -> Result<Changeset> {
        let node = self.node_at(rev.0);
        let parents = self.parents(rev)?.into_iter().flatten();
        let parents = parents.map(|parent| self.node_at(parent.0)).collect();
        match &self.source {
            Source::HgCore(changelog) => guarded(&self.path, || {
                let text = self.text(changelog, rev, &node)?;
                Changeset::parse(&self.path, node, parents, &text)
            }),
            Source::Hg(_) => {
                let text = hg.changeset(&node, MAX_CHANGESET)?;
                Changeset::parse(&self.path, node, parents, &text)
            }
        }
    }

    fn text(&self, changelog: &Changelog, rev: Rev, node: &Node) -> Result<RawData> {
        let index = changelog.get_index();
        let data = if index.is_inline() { "00changelog.i" } else { "00changelog.d" };
        let rev = Revision(rev.0 as i32);
        check_chain(&self.path, index, rev, &self.store.join(data))?;
        let entry = changelog.entry(rev).map_err(Error::revlog(&self.path))?;
        let entry = entry.as_revlog_entry();
        let size = u64::from(entry.uncompressed_len().unwrap_or(0));
        if size > MAX_CHANGESET {
            return Err(Error::TooLarge {
                path: self.path.clone(),
                what: format!("changeset {node}"),
                size,
                limit: MAX_CHANGESET,
            });
        }
        entry.data().map_err(Error::revlog(&self.path))
    }
}
