//! What those see of a repository who come over the network: what hg itself would serve them.

use std::collections::HashSet;

use hgci_core::Node;
use hgci_core::push::Push;

use super::reading::blocking;
use super::{Failure, Sight};
use crate::app::App;

/// The changesets that a caller may see.
#[derive(Clone, Debug)]
pub enum Shown {
    /// Every one.
    All,
    /// Those of which hg speaks to clients: the others are secret, hidden or gone.
    Served(HashSet<Node>),
}

impl Shown {
    /// Which of `nodes` of the repository of this name the caller may see.
    pub async fn among(
        app: &App,
        sight: &Sight,
        repo: &str,
        nodes: Vec<Node>,
    ) -> Result<Shown, Failure> {
        if *sight == Sight::All {
            return Ok(Shown::All);
        }
        if nodes.is_empty() {
            return Ok(Shown::Served(HashSet::new()));
        }
        let served = sight.served(app, repo)?;
        let read = move || served.repository.served(&nodes).map_err(Failure::ours);
        Ok(Shown::Served(blocking(app, read).await?))
    }

    /// Whether that changeset is one of them.
    pub fn has(&self, node: &Node) -> bool {
        match self {
            Shown::All => true,
            Shown::Served(served) => served.contains(node),
        }
    }

    /// A push with nothing in it of what the caller may not see; `None` where nothing is left.
    pub fn of(&self, mut push: Push) -> Option<Push> {
        let Shown::Served(served) = self else { return Some(push) };
        let had_any = names(&push).next().is_some();
        let has = |node: &Node| served.contains(node);
        push.first = push.first.filter(has);
        push.last = push.last.filter(has);
        push.heads.retain(has);
        push.phases.retain(|moved| has(&moved.node));
        push.bookmarks.retain(|moved| moved.from.iter().chain(&moved.to).all(has));
        (!had_any || names(&push).next().is_some()).then_some(push)
    }
}

/// Every changeset that a push names.
pub fn names(push: &Push) -> impl Iterator<Item = Node> + '_ {
    let ends = push.first.into_iter().chain(push.last);
    let moved = push.phases.iter().map(|moved| moved.node);
    let marked = push.bookmarks.iter().flat_map(|moved| moved.from.into_iter().chain(moved.to));
    ends.chain(push.heads.iter().copied()).chain(moved).chain(marked)
}

#[cfg(test)]
mod tests {
    use hgci_core::PushId;
    use hgci_core::push::{BookmarkMove, Phase, PhaseMove, Via};

    use super::*;

    fn push() -> Push {
        let node = |n| Node([n; 20]);
        let marked = |from, to| BookmarkMove { name: "b".into(), from, to };
        Push {
            id: PushId(1),
            repo: "r".into(),
            received: 0,
            via: Via::Hook,
            txid: None,
            source: String::new(),
            user: None,
            url: None,
            first: Some(node(1)),
            last: Some(node(2)),
            changesets: 2,
            heads: vec![node(1), node(2)],
            phases: vec![PhaseMove { node: node(3), to: Phase::Secret }],
            bookmarks: vec![marked(Some(node(1)), Some(node(2))), marked(None, Some(node(1)))],
            markers: 0,
            pushvars: Default::default(),
            no_build: None,
        }
    }

    #[test]
    fn of_a_push_everything_is_taken_out_that_is_not_shown() {
        let node = Node([1; 20]);
        let seen = Shown::Served([node].into()).of(push()).unwrap();
        assert!(names(&seen).all(|named| named == node));
        assert_eq!((seen.first, seen.last, seen.bookmarks.len()), (Some(node), None, 1));
        assert_eq!(Shown::All.of(push()), Some(push()));
    }

    #[test]
    fn a_push_of_which_nothing_is_shown_is_none() {
        let none = Shown::Served(HashSet::new());
        assert_eq!(none.of(push()), None);
        let empty = Push { first: None, last: None, heads: Vec::new(), ..push() };
        let empty = Push { phases: Vec::new(), bookmarks: Vec::new(), ..empty };
        assert_eq!(none.of(empty.clone()), Some(empty));
    }
}
