//! One look at a repository: what is new since the mark, which push brought it, and what of it is
//! to be built. Blocking; nothing is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hgci_core::engine::{NewBuild, NoPlan, Trigger};
use hgci_core::job::Plan;
use hgci_core::push::{Phase, Push};
use hgci_core::{Node, document, pipeline, plan};
use hgci_repo::{Difference, Error, Mark, ObsState, Reader, Rev, mark};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::pusher::lane;
use super::split::{self, Span};
use super::taken::Made;
use crate::config::BuildPolicy;

/// The most that a pipeline's file may have; the parser says the same of larger ones.
const MAX_PIPELINE: u64 = (1 << 20) + 1;

/// The most bytes of pipelines that differ, in one push: their plans are in memory together.
const MAX_PIPELINES: usize = 8 << 20;

/// The most builds of one push.
const MAX_BUILDS: usize = 10_000;

/// Why a secret changeset has no build: what hg shows to nobody, CI does not run, mail or show.
const SECRET: &str = "secret changesets are not built";

/// What the daemon has taken in of a repository, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// All up to here is taken in.
    pub mark: Mark,
    /// When the repository was seen for the first time: milliseconds since 1970. What was there
    /// is not built, but for what hooks told of.
    pub adopted_ms: i64,
    /// Beyond the mark, what pushes have got whose hooks spoke before those of earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<(Node, Node)>,
}

/// What a repository's configuration says about building.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The repository's name.
    pub repo: String,
    /// Which changesets of a push are built.
    pub build: BuildPolicy,
    /// Who is trusted; `None`: whoever may push.
    pub trusted: Option<Vec<String>>,
}

/// What a look came to.
#[derive(Debug, Default)]
pub struct Looked {
    /// The pushes that waited, complete now, each with its builds.
    pub planned: Vec<(Push, Vec<NewBuild>)>,
    /// In the order of [`Pushes::hinted`], those that something is there for.
    pub hinted: Vec<Option<(Push, Vec<NewBuild>)>>,
    /// What no hook has spoken for, where it was taken in.
    pub rest: Option<(Push, Vec<NewBuild>)>,
    /// Pages of nodes to be stored with the mark.
    pub pages: Vec<(u32, Vec<u8>)>,
    /// What is taken in now.
    pub seen: Seen,
    /// Something is there that no hook has spoken for yet: look again after its deadline.
    pub left: bool,
    /// The first and the last changeset of that.
    pub ends: Option<(Node, Node)>,
    /// The changesets of `rest`.
    pub found: Vec<Node>,
    /// What is to be built again, where there is any.
    pub again: Option<(Push, Vec<NewBuild>)>,
    /// Obsolescence markers were taken in, which were not there up to here: builds of changesets
    /// that they are about are pointless.
    pub marked: Option<ObsState>,
}

/// For whom a look is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pushes<'a> {
    /// Pushes that wait for their plan, by number.
    pub waiting: &'a [Push],
    /// Pushes that there may be nothing for: they get the changesets that they name, and what moved
    /// where no other push has it.
    pub hinted: &'a [Push],
    /// Who gets what no hook has spoken for, up to this changeset; `None`: leave it, the hook may be
    /// under way.
    pub rest: Option<(&'a Push, Option<Node>)>,
    /// Builds that were lost: changesets that are to be built though they were seen, and who gets
    /// them.
    pub again: Option<(&'a Push, &'a [Made])>,
    /// What changesets come to that cannot be read.
    pub unreadable: Unreadable,
}

/// What a changeset that cannot be read comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreadable {
    /// The look fails, to be tried again: somebody may be writing, or the machine be in trouble.
    #[default]
    Fails,
    /// A build that says so, or one changeset would hold up all others for ever.
    Ends,
}

/// Compares the repository with what was seen and plans pushes. `built` tells whether a changeset
/// has a final build in the results log; `now_ms` is the wall clock's.
///
/// `seen` is `None` for a repository that is seen for the first time: then everything is as seen
/// but for what the pushes name.
pub fn look(
    reader: &Reader,
    policy: &Policy,
    seen: Option<&Seen>,
    pushes: Pushes,
    built: &dyn Fn(&Node) -> bool,
    now_ms: i64,
    page: impl FnMut(u32) -> Option<Vec<u8>>,
) -> hgci_repo::Result<Looked> {
    let planner = Planner { reader, policy, unreadable: pushes.unreadable, built };
    let named = pushes.waiting.iter().chain(pushes.hinted);
    let spans: Vec<Option<Span>> = named.map(|push| span(reader, push.first, push.last)).collect();
    let old = match seen {
        Some(seen) => seen.clone(),
        None => Seen { adopted_ms: now_ms, ..Seen::default() },
    };
    let difference = match seen {
        Some(seen) => mark::difference(reader, &seen.mark, page)?,
        None => Difference::default(),
    };
    let mut new: BTreeSet<u32> = difference.new.iter().cloned().flatten().collect();
    for (push, span) in pushes.waiting.iter().zip(&spans) {
        // Pushed before the repository was adopted, but with its hooks in place.
        if seen.is_none_or(|seen| push.received <= seen.adopted_ms) {
            new.extend(span.iter().cloned().flatten());
        }
    }
    let new: Vec<u32> = new.into_iter().collect();
    let taken: Vec<Span> = old
        .taken
        .iter()
        .filter_map(|(first, last)| span(reader, Some(*first), Some(*last)))
        .collect();
    let split = split::split(&new, &taken, &spans);
    let was_there =
        |rev: &&u32| new.binary_search(rev).is_err() || taken.iter().any(|span| span.contains(rev));
    let revealed: Vec<u32> = difference.revealed.iter().filter(was_there).copied().collect();
    let has_moves = difference.phases_count > 0
        || !revealed.is_empty()
        || !difference.bookmarks.is_empty()
        || difference.markers > 0;
    let mut moves = has_moves.then_some((&difference, revealed.as_slice()));

    let mut looked = Looked::default();
    let (mut waiting, mut left) = (split.pushes, split.left);
    let hinted = waiting.split_off(pushes.waiting.len());
    for (push, revs) in pushes.waiting.iter().zip(&waiting) {
        looked.planned.push(planner.complete(push.clone(), revs, moves.take())?);
    }
    for (push, revs) in pushes.hinted.iter().zip(&hinted) {
        let has_any = !revs.is_empty() || (push.last.is_none() && moves.is_some());
        let planned = has_any.then(|| planner.complete(push.clone(), revs, moves.take()));
        looked.hinted.push(planned.transpose()?);
    }
    let mut parts: Vec<Vec<u32>> = waiting.into_iter().chain(hinted).collect();
    if let Some((push, last)) = pushes.rest {
        // What came after it has a hook that may be under way.
        let last = last.and_then(|node| reader.rev(&node));
        let end = left.partition_point(|rev| last.is_some_and(|last| *rev <= last.0));
        let rest: Vec<u32> = left.drain(..end).collect();
        if !rest.is_empty() || moves.is_some() {
            looked.rest = Some(planner.complete(push.clone(), &rest, moves.take())?);
            looked.found = rest.iter().filter_map(|rev| reader.node(Rev(*rev))).collect();
            parts.push(rest);
        }
    }
    if let Some((push, lost)) = pushes.again {
        looked.again = planner.again(push.clone(), lost)?;
    }
    looked.left = !left.is_empty() || moves.is_some();
    looked.marked = (difference.remarked && moves.is_none()).then(|| old.mark.obsstore.clone());
    looked.ends = ends(reader, &left);
    let is_all = left.is_empty();
    let now = match seen {
        Some(_) => difference.mark(reader)?,
        None => Mark::of(reader)?,
    };
    looked.seen = advance(reader, seen.is_some(), now, &parts, old, !is_all, moves.is_some());
    if is_all {
        looked.pages = match seen {
            Some(_) => difference.pages(reader).collect(),
            None => mark::pages(reader).collect(),
        };
    }
    Ok(looked)
}

/// The build of a changeset that `user` asks for, or why it has none. It is not looked at whether
/// it was built before.
pub fn asked(
    reader: &Reader,
    policy: &Policy,
    user: Option<&str>,
    node: Node,
) -> hgci_repo::Result<Result<NewBuild, &'static str>> {
    let planner = Planner { reader, policy, unreadable: Unreadable::Fails, built: &|_| false };
    let build = planner.build(user, node, &mut Plans::of_at_most(MAX_PIPELINES))?;
    let by = user.map(str::to_owned);
    Ok(build.map(|build| NewBuild { trigger: Trigger::Asked, by, ..build }))
}

/// What is seen after a look that saw `now`. The mark moves only when no changeset behind it is left; until then
/// what pushes have got, `parts`, is remembered apart.
fn advance(
    reader: &Reader,
    was_seen: bool,
    now: Mark,
    parts: &[Vec<u32>],
    old: Seen,
    left: bool,
    moves_left: bool,
) -> Seen {
    if !was_seen {
        return Seen { mark: now, ..old };
    }
    let mut next = match left {
        true => old.clone(),
        false => Seen { mark: now.clone(), taken: Vec::new(), ..old },
    };
    let moved = if moves_left { old.mark } else { now };
    next.mark.phase_roots = moved.phase_roots;
    next.mark.bookmarks = moved.bookmarks;
    next.mark.obsstore = moved.obsstore;
    if left {
        next.taken.extend(parts.iter().filter_map(|revs| ends(reader, revs)));
    }
    next
}

/// The first and the last changeset of these.
fn ends(reader: &Reader, revs: &[u32]) -> Option<(Node, Node)> {
    Some((reader.node(Rev(*revs.first()?))?, reader.node(Rev(*revs.last()?))?))
}

/// The revision numbers from one node to the other; of one alone where the other is gone.
pub fn span(reader: &Reader, first: Option<Node>, last: Option<Node>) -> Option<Span> {
    let rev = |node: Option<Node>| reader.rev(&node?).map(|rev| rev.0);
    let (first, last) = (rev(first), rev(last));
    Some(first.or(last)?..=last.or(first)?)
}

/// Completes pushes and plans their builds.
struct Planner<'a> {
    reader: &'a Reader,
    policy: &'a Policy,
    unreadable: Unreadable,
    built: &'a dyn Fn(&Node) -> bool,
}

impl Planner<'_> {
    /// Fills in what a push brought and plans its builds. Of `moves`, the numbers are changesets
    /// that were taken in while they were secret.
    fn complete(
        &self,
        mut push: Push,
        revs: &[u32],
        moves: Option<(&Difference, &[u32])>,
    ) -> hgci_repo::Result<(Push, Vec<NewBuild>)> {
        let reader = self.reader;
        let was_named = push.last.is_some();
        push.changesets = revs.len() as u64;
        if let (Some(first), Some(last)) = (revs.first(), revs.last()) {
            push.first = reader.node(Rev(*first));
            push.last = reader.node(Rev(*last));
        }
        let nodes =
            |revs: &[u32]| revs.iter().filter_map(|rev| reader.node(Rev(*rev))).collect::<Vec<_>>();
        let heads = |revs: &[u32]| -> hgci_repo::Result<Vec<Node>> {
            let heads = reader.heads_among(revs.iter().map(|rev| Rev(*rev)))?;
            Ok(heads.into_iter().filter_map(|rev| reader.node(rev)).collect())
        };
        push.heads = heads(revs)?;
        push.heads.truncate(Push::MAX_LISTED);
        let revealed = moves.map_or(&[][..], |(_, revealed)| revealed);
        if let Some((moves, _)) = moves {
            push.phases = moves.phases.clone();
            push.bookmarks = moves.bookmarks.iter().take(Push::MAX_LISTED).cloned().collect();
            push.markers = moves.markers;
        }
        let mut shown = Vec::new();
        for rev in revs.iter().chain(revealed) {
            if reader.phase_of(Rev(*rev))? != Phase::Secret {
                shown.push(*rev);
            }
        }
        let secret = revs.len() + revealed.len() - shown.len();
        shown.sort_unstable();
        let candidates = match self.policy.build {
            BuildPolicy::Heads => heads(&shown)?,
            BuildPolicy::Every => nodes(&shown),
            BuildPolicy::Tip => nodes(&shown[shown.len().saturating_sub(1)..]),
        };
        let too_many = candidates.len().saturating_sub(MAX_BUILDS);
        if too_many > 0 {
            push.no_build = Some(format!(
                "{too_many} of its changesets have none: a push has at most {MAX_BUILDS} builds, \
                 of its newest changesets"
            ));
        }
        let mut builds = Vec::new();
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        if secret > 0 {
            reasons.insert(SECRET, secret);
        }
        let mut plans = Plans::of_at_most(MAX_PIPELINES);
        for node in candidates.into_iter().skip(too_many) {
            match self.plan(&push, node, &mut plans)? {
                Ok(build) => builds.push(build),
                Err(why) => *reasons.entry(why).or_default() += 1,
            }
        }
        if builds.is_empty() {
            let reason = reasons.into_iter().max_by_key(|(_, count)| *count);
            push.no_build = Some(match reason {
                Some((why, _)) => why.into(),
                None if was_named => "its changesets were taken in before, or are gone".into(),
                None => "it brought no changesets".into(),
            });
        }
        Ok((push, builds))
    }

    /// Plans the builds of changesets that are there and have no end. What was asked for after an
    /// end is made anew as a whole.
    fn again(
        &self,
        mut push: Push,
        lost: &[Made],
    ) -> hgci_repo::Result<Option<(Push, Vec<NewBuild>)>> {
        let there = lost.iter().filter_map(|made| {
            let asked = made.trigger == Trigger::Asked;
            Some(((self.reader.rev(&made.node)?, made.node), asked))
        });
        // One build of each.
        let there: BTreeMap<(Rev, Node), bool> = there.collect();
        let mut builds = Vec::new();
        // They had their plans before.
        let mut plans = Plans::of_at_most(usize::MAX);
        for ((_, node), asked) in there {
            let build = match asked {
                true => self.build(push.user.as_deref(), node, &mut plans)?,
                false => self.plan(&push, node, &mut plans)?,
            };
            let trigger = if asked { Trigger::Asked } else { Trigger::Push };
            builds.extend(build.map(|build| NewBuild { trigger, ..build }));
        }
        push.heads = builds.iter().map(|build| build.node).take(Push::MAX_LISTED).collect();
        push.changesets = builds.len() as u64;
        Ok((!builds.is_empty()).then_some((push, builds)))
    }

    /// The build of one changeset, or why it has none.
    fn plan(
        &self,
        push: &Push,
        node: Node,
        plans: &mut Plans,
    ) -> hgci_repo::Result<Result<NewBuild, &'static str>> {
        if (self.built)(&node) {
            return Ok(Err("its changesets were built before"));
        }
        if self.reader.is_obsolete(&node)? {
            return Ok(Err("its changesets are obsolete"));
        }
        self.build(push.user.as_deref(), node, plans)
    }

    /// The build of one changeset, whatever became of it before, or why it has none.
    fn build(
        &self,
        user: Option<&str>,
        node: Node,
        plans: &mut Plans,
    ) -> hgci_repo::Result<Result<NewBuild, &'static str>> {
        let phase = self.reader.phase(&node)?;
        if phase == Phase::Secret {
            return Ok(Err(SECRET));
        }
        let (mut branch, mut author, mut description) = Default::default();
        let plan = match self.reader.changeset(&node) {
            Ok(changeset) => {
                description = changeset.summary().chars().take(200).collect();
                (branch, author) = (changeset.branch, changeset.author);
                match self.reader.file(&node, pipeline::FILE, MAX_PIPELINE) {
                    Ok(Some(text)) => plans.of(text).map_err(|why| {
                        // Its text is a path then, of which all that is said is beside the point.
                        let link = self.reader.is_symlink(&node, pipeline::FILE).unwrap_or(false);
                        NoPlan::Malformed(match link {
                            true => document::symlink(pipeline::FILE).to_string(),
                            false => why,
                        })
                    }),
                    Ok(None) => return Ok(Err("there is no .hgci.toml")),
                    Err(Error::TooLarge { what, size, .. }) if what == pipeline::FILE => {
                        let mistake = document::too_large(pipeline::FILE, size);
                        Err(NoPlan::Malformed(mistake.to_string()))
                    }
                    Err(error) => Err(self.no_plan(pipeline::FILE, error)?),
                }
            }
            Err(error) => Err(self.no_plan("the changeset", error)?),
        };
        Ok(Ok(NewBuild {
            repo: self.policy.repo.clone(),
            node,
            trigger: Trigger::Push,
            branch,
            author,
            description,
            lane: lane(phase, user, self.policy.trusted.as_deref()),
            plan,
            by: None,
            kept: BTreeMap::new(),
        }))
    }

    /// What is said of a changeset that cannot be read, once it is time to. What it is made of is
    /// its own fault; all else is the machine's.
    fn no_plan(&self, what: &str, error: Error) -> hgci_repo::Result<NoPlan> {
        let why = format!("{what} cannot be read: {error}");
        match error {
            Error::TooLarge { .. } => Ok(NoPlan::Malformed(why)),
            // Whoever writes now may be what makes it unreadable.
            _ if self.unreadable == Unreadable::Fails || self.reader.is_locked() => Err(error),
            Error::Corrupt { .. } => Ok(NoPlan::Malformed(why)),
            _ => Ok(NoPlan::Unreadable(why)),
        }
    }
}

/// Plans of pipelines by the hash of their text: most changesets of a push have the same.
struct Plans {
    known: BTreeMap<[u8; 32], Result<Arc<Plan>, String>>,
    /// How many bytes may still be read.
    room: usize,
    most: usize,
}

impl Plans {
    fn of_at_most(most: usize) -> Plans {
        Plans { known: BTreeMap::new(), room: most, most }
    }

    fn of(&mut self, text: Vec<u8>) -> Result<Arc<Plan>, String> {
        let name = Sha256::digest(&text).into();
        if let Some(known) = self.known.get(&name) {
            return known.clone();
        }
        let Some(room) = self.room.checked_sub(text.len()) else {
            return Err(format!(
                "{}: the pipelines of this push that differ have more than {} MiB together; push \
                 fewer changesets at once",
                pipeline::FILE,
                self.most >> 20
            ));
        };
        self.room = room;
        let planned = match pipeline::parse(pipeline::FILE, &text) {
            Ok(pipeline) => Ok(Arc::new(plan::plan(&pipeline))),
            Err(mistakes) => {
                Err(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        };
        self.known.insert(name, planned.clone());
        planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipeline of about half a mebibyte, unlike those with another number.
    fn large(n: usize) -> Vec<u8> {
        let text = "x".repeat(50_000);
        let jobs = (0..10).map(|job| format!("[job.j{job}]\nrun = \"true {n} {text}\"\n"));
        format!("version = 1\n{}", jobs.collect::<String>()).into_bytes()
    }

    #[test]
    fn plans_of_one_push_are_bounded_and_the_same_text_is_one() {
        let mut plans = Plans::of_at_most(1 << 20);
        let first = plans.of(large(1)).unwrap();
        assert!((0..100).all(|_| Arc::ptr_eq(&plans.of(large(1)).unwrap(), &first)));
        plans.of(large(2)).unwrap();
        let why = plans.of(large(3)).unwrap_err();
        assert!(why.contains("more than 1 MiB together"), "{why}");
        assert!(plans.of(large(2)).is_ok() && plans.known.len() == 2);
    }
}
