//! What was seen of a repository, and what is new since.
//!
//! A [`Mark`] is small, but exact: beside it the keeper stores *pages*, which hold the first eight
//! bytes of every node that was seen, [`PAGE`] of them each, in the repository's order. A push
//! changes the last page alone; nothing grows with the number of pushes. Pages are read only after
//! a strip: hg takes changesets out and adds those that should stay again, under new numbers, and
//! only a list of all that were seen can tell what is old there. In the usual case a sum over all
//! nodes in the mark proves that everything up to the mark is still there.
//!
//! The keeper writes mark and pages in one batch:
//! ```no_run
//! # use hgci_repo::{mark::*, Repository, Result};
//! # fn pages_of(store: u32) -> Option<Vec<u8>> { None }
//! # fn put_page(number: u32, page: Vec<u8>) {}
//! # fn demo(repository: &Repository, old: &Mark) -> Result<()> {
//! repository.read(|reader| {
//!     let difference = difference(reader, old, |number| pages_of(number))?;
//!     let new = difference.mark(reader)?;
//!     for (number, page) in difference.pages(reader) {
//!         put_page(number, page);
//!     }
//!     Ok(())
//! })
//! # }
//! ```
//! At adoption, [`Mark::of`] and [`pages`] give all there is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use hgci_core::Node;
use hgci_core::push::{BookmarkMove, Phase, PhaseMove, Push};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::graph::Rev;
use crate::obsstore::ObsState;
use crate::phases::{PhaseRoots, Phases};
use crate::reader::Reader;

/// How many nodes a page holds.
pub const PAGE: u32 = 512;

/// So many bytes of each node are in a page: 2⁻⁴⁰ is the chance that two of a million are the same.
const PREFIX: usize = 8;

/// The most bytes of a bookmark's name that a mark keeps.
const MAX_NAME: usize = 200;

/// What was seen of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// How many changesets there were.
    pub len: u32,
    /// The newest.
    pub tip: Option<Node>,
    /// The sum of the first 16 bytes of all nodes: the same sum is the same set.
    pub sum: u128,
    /// Where phases began.
    pub phase_roots: PhaseRoots,
    /// All bookmarks, long names cut as [`BookmarkMove`] has them.
    pub bookmarks: BTreeMap<String, Node>,
    /// The obsolescence markers.
    pub obsstore: ObsState,
}

/// What changed in a repository since a mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The numbers of new changesets, in this reader, ascending and apart from each other.
    pub new: Vec<Range<u32>>,
    /// How many changesets are new.
    pub count: u64,
    /// The first new changeset in the repository's order.
    pub first: Option<Node>,
    /// The last one.
    pub last: Option<Node>,
    /// New changesets without new children, in the repository's order.
    pub heads: Vec<Node>,
    /// Changesets that were there before and whose phase moved, at most [`Push::MAX_LISTED`].
    pub phases: Vec<PhaseMove>,
    /// How many changesets that were there before moved to another phase.
    pub phases_count: u64,
    /// The numbers of changesets that were secret and are not any more, ascending. Where the mark's
    /// keeper had seen changesets beyond it, those are among them, and new ones may be.
    pub revealed: Vec<u32>,
    /// Bookmarks that were set, moved or deleted. Those that only lost their changeset to a strip
    /// are among them.
    pub bookmarks: Vec<BookmarkMove>,
    /// How many obsolescence markers are new.
    pub markers: u64,
    /// Whether some may be new: there are more, or those that were there are not.
    pub remarked: bool,
    /// Whether changesets that were seen are gone, or have other numbers now.
    pub stripped: bool,
    /// The obsolescence markers that were counted.
    obsstore: ObsState,
    /// How many changesets, from the first on, have the number that they had.
    unmoved: u32,
}

impl Mark {
    /// Marks all that the reader sees as seen.
    ///
    /// # Errors
    /// When phases, bookmarks or markers cannot be read.
    pub fn of(reader: &Reader) -> Result<Mark> {
        Self::with(reader, reader.obsstore(None)?)
    }

    fn with(reader: &Reader, obsstore: ObsState) -> Result<Mark> {
        let len = reader.len() as u32;
        Ok(Mark {
            len,
            tip: reader.tip(),
            sum: sum(reader, len),
            phase_roots: reader.phase_roots()?.clone(),
            bookmarks: with_short_names(reader.bookmarks()?),
            obsstore,
        })
    }
}

impl Difference {
    /// Whether nothing happened that a push would be recorded for. A strip alone is nothing, though
    /// the mark must move.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.phases_count == 0 && self.bookmarks.is_empty() && self.markers == 0
    }

    /// The new changesets in the repository's order. `reader` is the one that was compared.
    pub fn nodes<'a>(&'a self, reader: &'a Reader) -> impl Iterator<Item = Node> + 'a {
        self.new.iter().cloned().flatten().filter_map(|rev| reader.node(Rev(rev)))
    }

    /// The mark of all that was compared. What has come since will be new.
    ///
    /// # Errors
    /// As [`Mark::of`].
    pub fn mark(&self, reader: &Reader) -> Result<Mark> {
        Mark::with(reader, self.obsstore.clone())
    }

    /// The pages that are not what they were. `reader` is the one that was compared.
    pub fn pages<'a>(&self, reader: &'a Reader) -> impl Iterator<Item = (u32, Vec<u8>)> + 'a {
        pages_from(reader, self.unmoved)
    }
}

/// All pages of what the reader sees.
pub fn pages(reader: &Reader) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
    pages_from(reader, 0)
}

/// Compares what the reader sees with a mark. `page` returns a page as it was stored with the mark;
/// `None` makes what was on it count as unseen.
///
/// # Errors
/// [`Error::Corrupt`], which may settle, when a strip is going on: what it took may be added again
/// before it is over.
pub fn difference(
    reader: &Reader,
    mark: &Mark,
    page: impl FnMut(u32) -> Option<Vec<u8>>,
) -> Result<Difference> {
    let len = reader.len() as u32;
    let intact = mark.len == 0
        || (mark.len <= len
            && reader.node(Rev(mark.len - 1)) == mark.tip
            && sum(reader, mark.len) == mark.sum);
    let mut difference = Difference { stripped: !intact, ..Difference::default() };
    if intact {
        difference.unmoved = mark.len;
        if mark.len < len {
            difference.new.push(mark.len..len);
        }
    } else {
        compare_pages(reader, mark, page, &mut difference);
    }
    // A transaction writes its changesets last, but not in one go.
    if (difference.stripped || !difference.new.is_empty()) && reader.is_locked() {
        reader.check_current()?;
        if difference.stripped {
            return Err(Error::Corrupt {
                path: reader.repository().source().to_owned(),
                why: "changesets are gone while it is locked: a strip goes on".into(),
            });
        }
    }
    difference.count = difference.new.iter().map(|run| u64::from(run.end - run.start)).sum();
    difference.first = difference.new.first().and_then(|run| reader.node(Rev(run.start)));
    difference.last = difference.new.last().and_then(|run| reader.node(Rev(run.end - 1)));
    let heads = reader.heads_among(difference.new.iter().cloned().flatten().map(Rev))?;
    difference.heads = heads.into_iter().filter_map(|rev| reader.node(rev)).collect();
    compare_phases(reader, mark, &mut difference)?;
    difference.bookmarks =
        compare_bookmarks(&mark.bookmarks, &with_short_names(reader.bookmarks()?));
    difference.obsstore = reader.obsstore(Some(&mark.obsstore))?;
    difference.markers = difference.obsstore.markers.saturating_sub(mark.obsstore.markers);
    difference.remarked = difference.markers > 0
        || (difference.obsstore != mark.obsstore && difference.obsstore.markers > 0);
    Ok(difference)
}

/// Fills in `new` and `unmoved` after a strip.
fn compare_pages(
    reader: &Reader,
    mark: &Mark,
    mut page: impl FnMut(u32) -> Option<Vec<u8>>,
    difference: &mut Difference,
) {
    let len = reader.len() as u32;
    let mut moved = false;
    let mut seen = HashSet::new();
    for number in 0..mark.len.div_ceil(PAGE) {
        let start = number * PAGE;
        let held = (mark.len - start).min(PAGE) as usize;
        let Some(page) = page(number) else {
            moved = true;
            continue;
        };
        for (rev, prefix) in (start..).zip(page.chunks_exact(PREFIX).take(held)) {
            let here = reader.node(Rev(rev)).is_some_and(|node| node.0[..PREFIX] == *prefix);
            moved |= !here;
            if moved {
                seen.insert(prefix.to_vec());
            } else {
                difference.unmoved = rev + 1;
            }
        }
    }
    for rev in difference.unmoved..len {
        let old = reader.node(Rev(rev)).is_some_and(|node| seen.contains(&node.0[..PREFIX]));
        match difference.new.last_mut() {
            _ if old => {}
            Some(run) if run.end == rev => run.end += 1,
            _ => difference.new.push(rev..rev + 1),
        }
    }
}

fn compare_phases(reader: &Reader, mark: &Mark, difference: &mut Difference) -> Result<()> {
    if *reader.phase_roots()? == mark.phase_roots && !difference.stripped {
        return Ok(());
    }
    let before = Phases::new(reader.graph(), &mark.phase_roots)?;
    let now = reader.phases()?;
    let mut new = difference.new.iter().cloned().peekable();
    let from = before.first().min(now.first());
    for rev in from..reader.len() as u32 {
        let (old, to) = (before.get(Rev(rev)), now.get(Rev(rev)));
        if old == Phase::Secret && to != Phase::Secret {
            difference.revealed.push(rev);
        }
        while new.next_if(|run| run.end <= rev).is_some() {}
        if new.peek().is_some_and(|run| run.contains(&rev)) {
            continue;
        }
        if old == to {
            continue;
        }
        difference.phases_count += 1;
        if let Some(node) = reader.node(Rev(rev))
            && difference.phases.len() < Push::MAX_LISTED
        {
            difference.phases.push(PhaseMove { node, to });
        }
    }
    Ok(())
}

/// Bookmarks by names of at most [`MAX_NAME`] bytes. What was cut off is in a digest at the end, so
/// that no two become the same.
fn with_short_names(bookmarks: &BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    let short = |name: &String| {
        if name.len() <= MAX_NAME {
            return name.clone();
        }
        let digest = Sha256::digest(name.as_bytes());
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let mut end = MAX_NAME - digest.len() - 1;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}~{digest}", &name[..end])
    };
    bookmarks.iter().map(|(name, node)| (short(name), *node)).collect()
}

fn compare_bookmarks(
    before: &BTreeMap<String, Node>,
    now: &BTreeMap<String, Node>,
) -> Vec<BookmarkMove> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let moves = names.into_iter().map(|name| BookmarkMove {
        name: name.clone(),
        from: before.get(name).copied(),
        to: now.get(name).copied(),
    });
    moves.filter(|moved| moved.from != moved.to).collect()
}

fn sum(reader: &Reader, len: u32) -> u128 {
    let first_16 = |node: Node| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&node.0[..16]);
        u128::from_be_bytes(bytes)
    };
    (0..len).filter_map(|rev| reader.node(Rev(rev)).map(first_16)).fold(0, u128::wrapping_add)
}

fn pages_from(reader: &Reader, unmoved: u32) -> impl Iterator<Item = (u32, Vec<u8>)> + '_ {
    let len = reader.len() as u32;
    (unmoved / PAGE..len.div_ceil(PAGE)).filter_map(move |number| {
        let revs = number * PAGE..len.min((number + 1) * PAGE);
        // Nothing was added where only the end was stripped.
        (revs.end > unmoved).then(|| {
            let nodes = revs.filter_map(|rev| reader.node(Rev(rev)));
            (number, nodes.flat_map(|node| node.0.into_iter().take(PREFIX)).collect())
        })
    })
}
