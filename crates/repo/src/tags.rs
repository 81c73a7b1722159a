//! Tags, as far as `.hg_archival.txt` tells of them: the latest tag of a changeset, and how far it
//! is. Computed as `mercurial/tags.py` and `templateutil.get_latest_tags` do.

use std::collections::{BTreeMap, HashMap, HashSet};

use hg::utils::hg_path::HgPath;
use hgci_core::Node;

use crate::error::{Error, Result};
use crate::graph::Rev;
use crate::open;
use crate::reader::Reader;
use crate::repository::ReadBy;
use crate::revlog;
use crate::visible::Hidden;

/// `.hgtags` has at most this many bytes.
const MAX_TAGS: u64 = 64 << 20;

/// Where a changeset stands among the tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LatestTag {
    /// The tags of the nearest tagged ancestor, sorted; `["null"]` where there is none.
    pub(crate) tags: Vec<Vec<u8>>,
    /// The longest way to it.
    pub(crate) distance: u32,
    /// How many ancestors, itself included, the first of the tags does not have.
    pub(crate) changes: u64,
}

/// The bytes of a tag's name.
type Name = Vec<u8>;
/// What a tag names: a node, though nobody checked its length, and what it named before.
type Named = (Vec<u8>, Vec<Vec<u8>>);
type Tags = BTreeMap<Name, Named>;

impl Reader {
    pub(crate) fn latest_tag(&self, rev: Rev, hidden: &Hidden) -> Result<LatestTag> {
        let (tags, globals) = self.tags(hidden)?;
        let mut by_node: HashMap<Node, Vec<Vec<u8>>> = HashMap::new();
        for name in globals {
            if let Some(node) = tags.get(&name).copied() {
                by_node.entry(node).or_default().push(name);
            }
        }
        let nodes = by_node.keys().copied().collect();
        let mut tagged: HashMap<Rev, Vec<Vec<u8>>> = HashMap::new();
        for (node, tagged_rev) in self.revs(&nodes) {
            if let Some(names) = by_node.remove(&node) {
                tagged.insert(tagged_rev, names);
            }
        }
        Search { reader: self, tags, tagged, dates: HashMap::new(), bases: HashMap::new() }
            .latest(rev)
    }

    /// All tags that name a node, and the names of those that are global and not overridden.
    fn tags(&self, hidden: &Hidden) -> Result<(HashMap<Name, Node>, Vec<Name>)> {
        let mut tags = Tags::new();
        for text in self.tag_files(hidden)? {
            update(parse(&text), &mut tags, |_| ());
        }
        let mut globals: HashSet<Vec<u8>> = tags.keys().cloned().collect();
        update(self.local_tags()?, &mut tags, |name| {
            globals.remove(name);
        });
        let null: &[u8] = &[0; 20];
        let mut named = HashMap::new();
        for (name, (node, _)) in tags {
            if node != null
                && name != b"tip"
                && let Ok(node) = node.try_into()
            {
                named.insert(name, Node(node));
            }
        }
        let mut globals: Vec<_> = globals.into_iter().collect();
        globals.sort_unstable();
        Ok((named, globals))
    }

    /// Each version of `.hgtags` that some visible head has, once, from the oldest head on.
    fn tag_files(&self, hidden: &Hidden) -> Result<Vec<Vec<u8>>> {
        let (ReadBy::HgCore, _) = self.read_by() else { return Ok(Vec::new()) };
        let files = self.files()?;
        if !files.ever_had(b".hgtags") {
            return Ok(Vec::new());
        }
        let repo = self.repository().source();
        let heads: Vec<Node> =
            self.visible_heads(hidden)?.into_iter().filter_map(|head| self.node(head)).collect();
        let known = self.repository().tag_files(&heads);
        let fresh: Vec<Node> =
            heads.iter().filter(|head| !known.contains_key(head)).copied().collect();
        let manifests: Vec<Node> =
            fresh.iter().map(|head| Ok(self.changeset(head)?.manifest)).collect::<Result<_>>()?;
        let nodes = files.of_manifests(&manifests, |manifest| {
            let entry = manifest.find_by_path(HgPath::new(".hgtags")).map_err(Error::hg(repo))?;
            let node = entry.map(|entry| entry.node_id().map_err(Error::hg(repo))).transpose()?;
            Ok(node.map(|node| revlog::node(&node)))
        })?;
        let fresh: HashMap<Node, Option<Node>> = fresh.into_iter().zip(nodes).collect();
        let mut seen = HashSet::new();
        let mut texts = Vec::new();
        for head in &heads {
            let node = known.get(head).or_else(|| fresh.get(head)).copied().flatten();
            if let Some(node) = node.filter(|node| seen.insert(*node)) {
                texts.push(files.open(b".hgtags", &node)?.content_within(MAX_TAGS)?);
            }
        }
        self.repository().keep_tag_files(known.into_iter().chain(fresh).collect());
        Ok(texts)
    }

    /// `.hg/localtags` of the repository that is served, without those that name nothing known.
    pub(crate) fn local_tags(&self) -> Result<Tags> {
        let repo = self.repository().source();
        let Some(text) = open::small(repo, &repo.join(".hg/localtags"), MAX_TAGS)? else {
            return Ok(Tags::new());
        };
        let mut tags = parse(&text);
        let wanted = tags.values().filter_map(|(node, _)| as_node(node)).collect();
        let known = self.revs(&wanted);
        tags.retain(|_, (node, _)| {
            as_node(node).is_some_and(|node| node == Node::NULL || known.contains_key(&node))
        });
        Ok(tags)
    }
}

pub(crate) fn as_node(bytes: &[u8]) -> Option<Node> {
    bytes.try_into().ok().map(Node)
}

/// Lines of node and name; the last line of a name counts, those before are its history.
fn parse(text: &[u8]) -> Tags {
    let mut tags = Tags::new();
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let Some(space) = line.iter().position(|byte| *byte == b' ') else { continue };
        let Some(node) = unhex(&line[..space]) else { continue };
        let name = line[space + 1..].trim_ascii().to_vec();
        match tags.entry(name) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert((node, Vec::new()));
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let (last, history) = entry.get_mut();
                history.push(std::mem::replace(last, node));
            }
        }
    }
    tags
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

/// Takes the tags of a newer file in. Which of two nodes wins: the one that the other one's history
/// knows; where both do, the one with the longer history. `took` hears of each name that the file
/// decided.
fn update(file: Tags, all: &mut Tags, mut took: impl FnMut(&[u8])) {
    for (name, (mut node, mut history)) in file {
        let Some((other, others)) = all.get(&name) else {
            took(&name);
            all.insert(name, (node, history));
            continue;
        };
        if *other != node
            && others.contains(&node)
            && (!history.contains(other) || others.len() > history.len())
        {
            node = other.clone();
        } else {
            took(&name);
        }
        for older in others {
            if !history.contains(older) {
                history.push(older.clone());
            }
        }
        all.insert(name, (node, history));
    }
}

/// The search for the latest tag.
struct Search<'a> {
    reader: &'a Reader,
    tags: HashMap<Vec<u8>, Node>,
    tagged: HashMap<Rev, Vec<Vec<u8>>>,
    dates: HashMap<Rev, i64>,
    /// What the first tag of a tagged changeset names.
    bases: HashMap<Rev, Option<Rev>>,
}

/// The nearest tagged ancestor, and the longest way to it. `None`: no ancestor is tagged.
type Nearest = (Option<Rev>, u32);

impl Search<'_> {
    fn latest(mut self, rev: Rev) -> Result<LatestTag> {
        // The ancestors up to the tagged ones, then from the oldest on. By number, not hashed:
        // without tags, that is the whole history.
        let mut wanted = vec![false; rev.0 as usize + 1];
        wanted[rev.0 as usize] = true;
        for ancestor in (0..=rev.0).rev().map(Rev) {
            if wanted[ancestor.0 as usize] && !self.tagged.contains_key(&ancestor) {
                for parent in self.reader.parent_revs(ancestor)?.into_iter().flatten() {
                    wanted[parent.0 as usize] = true;
                }
            }
        }
        let mut nearest: Vec<Nearest> = vec![(None, 0); wanted.len()];
        for rev in (0..=rev.0).map(Rev).filter(|rev| wanted[rev.0 as usize]) {
            let found = if self.tagged.contains_key(&rev) {
                (Some(rev), 0)
            } else {
                let of = |parent: Rev| nearest[parent.0 as usize];
                let (tag, distance) = match self.reader.parent_revs(rev)? {
                    [Some(first), Some(second)] => self.nearer(rev, of(first), of(second))?,
                    [Some(parent), None] | [None, Some(parent)] => of(parent),
                    [None, None] => (None, 0),
                };
                (tag, distance + 1)
            };
            nearest[rev.0 as usize] = found;
        }
        let (tag, distance) = nearest[rev.0 as usize];
        let base = self.base(tag)?;
        Ok(LatestTag {
            tags: match tag {
                Some(tag) => self.tagged.get(&tag).cloned().unwrap_or_default(),
                None => vec![b"null".to_vec()],
            },
            distance,
            changes: self.only(rev, base)?,
        })
    }

    /// Which of a merge's parents leads to its latest tag.
    fn nearer(&mut self, rev: Rev, first: Nearest, second: Nearest) -> Result<Nearest> {
        if first.0 == second.0 {
            return Ok((first.0, first.1.max(second.1)));
        }
        // The fewest changes since; then the newest.
        let mut rank = |tag: Option<Rev>| -> Result<(std::cmp::Reverse<u64>, i64)> {
            let base = self.base(tag)?;
            Ok((std::cmp::Reverse(self.only(rev, base)?), self.date(tag)?))
        };
        Ok(if rank(second.0)? > rank(first.0)? { second } else { first })
    }

    fn date(&mut self, tag: Option<Rev>) -> Result<i64> {
        let Some(rev) = tag else { return Ok(0) };
        if let Some(date) = self.dates.get(&rev) {
            return Ok(*date);
        }
        let node = self.reader.node(rev).unwrap_or(Node::NULL);
        let date = self.reader.changeset(&node)?.date.seconds;
        self.dates.insert(rev, date);
        Ok(date)
    }

    /// What hg finds under the name of the first of the tags: a bookmark goes before a tag.
    fn base(&mut self, tag: Option<Rev>) -> Result<Option<Rev>> {
        let Some(rev) = tag else { return Ok(None) };
        if let Some(base) = self.bases.get(&rev) {
            return Ok(*base);
        }
        let name = self.tagged.get(&rev).and_then(|names| names.first());
        let name = name.map_or(&[][..], Vec::as_slice);
        let bookmark = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.reader.bookmarks().ok()?.get(name).copied())
            .and_then(|node| self.reader.rev(&node));
        let tagged = self.tags.get(name).and_then(|node| self.reader.rev(node));
        let base = bookmark.or(tagged);
        self.bases.insert(rev, base);
        Ok(base)
    }

    /// How many ancestors of `rev`, itself included, are none of `base`.
    fn only(&self, rev: Rev, base: Option<Rev>) -> Result<u64> {
        const WANTED: u8 = 1;
        const OF_BASE: u8 = 2;
        let newest = rev.max(base.unwrap_or(rev));
        let mut marks = vec![0; newest.0 as usize + 1];
        // How many are left that are marked as wanted alone.
        let mut left = 0_u64;
        let mark = |marks: &mut [u8], left: &mut u64, rev: Rev, with: u8| {
            let before = marks[rev.0 as usize];
            marks[rev.0 as usize] |= with;
            *left += u64::from(before == 0 && with == WANTED);
            *left -= u64::from(before == WANTED && with & OF_BASE != 0);
        };
        mark(&mut marks, &mut left, rev, WANTED);
        if let Some(base) = base {
            mark(&mut marks, &mut left, base, OF_BASE);
        }
        let mut count = 0;
        for rev in (0..=newest.0).rev().map(Rev) {
            let with = match marks[rev.0 as usize] {
                0 => continue,
                WANTED => WANTED,
                _ => OF_BASE,
            };
            if with == WANTED {
                count += 1;
                left -= 1;
            }
            for parent in self.reader.parent_revs(rev)?.into_iter().flatten() {
                mark(&mut marks, &mut left, parent, with);
            }
            // All that follow are ancestors of `base`.
            if left == 0 {
                break;
            }
        }
        Ok(count)
    }
}
