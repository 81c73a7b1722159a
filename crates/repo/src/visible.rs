//! Which changesets hg hides and which it serves, and which heads are left. As
//! `mercurial/repoview.py` has it, but for the parents of an unfinished merge.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, PoisonError};

use hgci_core::Node;
use hgci_core::push::Phase;

use crate::error::{Error, Result};
use crate::graph::Rev;
use crate::open;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::tags::as_node;

/// How often it is tried to read while nobody writes, before what is kept is left alone.
const TRIES: usize = 3;

/// The hidden changesets.
pub(crate) type Hidden = HashSet<Rev>;

/// Which files were there, by device, number, size and times: what is served hangs on them alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<[i128; 5]>>);

/// What is not served, as it was with these files.
pub(crate) type Unserved = Option<(Stamp, Arc<HashSet<Node>>)>;

impl Repository {
    /// Those of `nodes` that hg serves to clients: they are there, and neither secret nor hidden.
    /// This is hg's view `served`; what a server's own `[server] view` takes away is not known.
    ///
    /// # Errors
    /// Those of [`Repository::read`].
    pub fn served(&self, nodes: &[Node]) -> Result<HashSet<Node>> {
        let served = |reader: &Reader, unserved: &HashSet<Node>| {
            let is = |node: &&Node| reader.rev(node).is_some() && !unserved.contains(*node);
            nodes.iter().filter(is).copied().collect()
        };
        for _ in 0..TRIES {
            let stamp = Stamp::of(self);
            let kept = self.unserved.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let kept = kept.filter(|(of, _)| *of == stamp).map(|(_, unserved)| unserved);
            let (unserved, found) = self.read(|reader| {
                let unserved = match &kept {
                    Some(unserved) => unserved.clone(),
                    None => Arc::new(reader.unserved()?),
                };
                let found = served(reader, &unserved);
                Ok((unserved, found))
            })?;
            if Stamp::of(self) == stamp {
                let kept = Some((stamp, unserved));
                *self.unserved.lock().unwrap_or_else(PoisonError::into_inner) = kept;
                return Ok(found);
            }
        }
        self.read(|reader| Ok(served(reader, &reader.unserved()?)))
    }
}

impl Stamp {
    fn of(repository: &Repository) -> Stamp {
        let store = repository.store();
        let hg = repository.source().join(".hg");
        let in_store = ["00changelog.i", "phaseroots", "obsstore", "bookmarks"];
        let in_hg = ["bookmarks", "localtags", "dirstate"];
        let files = in_store.map(|name| store.join(name)).into_iter();
        let files = files.chain(in_hg.map(|name| hg.join(name)));
        let stamp = files.map(|file| {
            let about = fs::metadata(file).ok()?;
            let changed =
                i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
            let modified =
                i128::from(about.mtime()) * 1_000_000_000 + i128::from(about.mtime_nsec());
            Some([about.dev().into(), about.ino().into(), about.size().into(), changed, modified])
        });
        Stamp(stamp.collect())
    }
}

impl Reader {
    /// What hg serves to nobody: secret changesets and hidden ones.
    fn unserved(&self) -> Result<HashSet<Node>> {
        let phases = self.phases()?;
        let secret = (phases.first()..self.len() as u32)
            .map(Rev)
            .filter(|rev| phases.get(*rev) == Phase::Secret);
        let unserved: HashSet<Rev> = self.hidden()?.into_iter().chain(secret).collect();
        Ok(unserved.into_iter().filter_map(|rev| self.node(rev)).collect())
    }

    /// What hg does not show: obsolete changesets that nobody needs, and internal ones.
    pub(crate) fn hidden(&self) -> Result<Hidden> {
        let phases = self.phases()?;
        let obsolete = self.precursors()?;
        let mut hidden = Hidden::new();
        let mut visible = Vec::new();
        for rev in
            (phases.first()..self.len() as u32).map(Rev).filter(|rev| phases.is_mutable(*rev))
        {
            let node = self.node(rev).unwrap_or(Node::NULL);
            if phases.is_internal(rev) || obsolete.contains(&node) {
                hidden.insert(rev);
            } else {
                visible.push(rev);
            }
        }
        if hidden.is_empty() {
            return Ok(hidden);
        }
        for rev in self.revs(&self.pinned()?).into_values() {
            if hidden.remove(&rev) {
                visible.push(rev);
            }
        }
        while let Some(rev) = visible.pop() {
            for parent in self.parent_revs(rev)?.into_iter().flatten() {
                if hidden.remove(&parent) {
                    visible.push(parent);
                }
            }
        }
        Ok(hidden)
    }

    /// Visible changesets without visible children, ascending.
    pub(crate) fn visible_heads(&self, hidden: &Hidden) -> Result<Vec<Rev>> {
        let mut is_head = vec![true; self.len()];
        for rev in (0..self.len() as u32).map(Rev) {
            if hidden.contains(&rev) {
                is_head[rev.0 as usize] = false;
                continue;
            }
            for parent in self.parent_revs(rev)?.into_iter().flatten() {
                is_head[parent.0 as usize] = false;
            }
        }
        Ok((0..).zip(is_head).filter(|(_, is_head)| *is_head).map(|(rev, _)| Rev(rev)).collect())
    }

    /// What is shown though obsolete: bookmarked, locally tagged, or checked out.
    fn pinned(&self) -> Result<HashSet<Node>> {
        let mut pinned: HashSet<Node> = self.bookmarks()?.values().copied().collect();
        pinned.extend(self.local_tags()?.values().filter_map(|(node, _)| as_node(node)));
        pinned.extend(self.checked_out()?);
        Ok(pinned)
    }

    /// The parents of the working copy: the first bytes of the dirstate, in either format.
    fn checked_out(&self) -> Result<Vec<Node>> {
        const V2: &[u8] = b"dirstate-v2\n";
        let path = self.repository().source().join(".hg/dirstate");
        let mut head = Vec::new();
        let Some(file) = open::file(&path)? else { return Ok(Vec::new()) };
        file.take(76).read_to_end(&mut head).map_err(Error::io("read", &path))?;
        let parents = match head.strip_prefix(V2) {
            // Space for longer hashes.
            Some(rest) => [rest.get(..20), rest.get(32..52)],
            None => [head.get(..20), head.get(20..40)],
        };
        Ok(parents.into_iter().flatten().filter_map(as_node).collect())
    }
}
