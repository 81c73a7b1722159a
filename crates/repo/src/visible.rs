//! Which changesets hg hides, and which heads are left. As `mercurial/repoview.py` has it, but for
//! the parents of an unfinished merge.

use std::collections::HashSet;
use std::io::Read;

use hgci_core::Node;

use crate::error::{Error, Result};
use crate::graph::Rev;
use crate::open;
use crate::reader::Reader;
use crate::tags::as_node;

/// The hidden changesets.
pub(crate) type Hidden = HashSet<Rev>;

impl Reader {
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
