//! Which pushes changesets were taken in with lately, so that a hook that speaks late finds theirs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use hgci_core::{Node, PushId};

/// How many are remembered: a hook that speaks later than so many further changesets makes a push
/// of its own, without builds.
const REMEMBERED: usize = 20_000;

/// The push of a changeset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was found before a hook spoke.
    Found(PushId),
    /// Its hook has told of it.
    Told(PushId),
}

/// The pushes of changesets that were taken in lately.
#[derive(Debug, Default)]
pub struct Found(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pushes: HashMap<(String, Node), Known>,
    order: VecDeque<(String, Node)>,
}

impl Found {
    /// Remembers the push of changesets.
    pub fn add(&self, repo: &str, nodes: &[Node], push: Known) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last ones are those that a hook names.
        for node in &nodes[nodes.len().saturating_sub(REMEMBERED)..] {
            let key = (repo.to_owned(), *node);
            if inner.pushes.insert(key.clone(), push).is_none() {
                inner.order.push_back(key);
            }
        }
        while inner.order.len() > REMEMBERED {
            if let Some(oldest) = inner.order.pop_front() {
                inner.pushes.remove(&oldest);
            }
        }
    }

    /// The push that a changeset was taken in with.
    pub fn push_of(&self, repo: &str, node: &Node) -> Option<Known> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.pushes.get(&(repo.to_owned(), *node)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_hook_finds_the_push_of_its_changesets() {
        let found = Found::default();
        found.add("widgets", &[Node([1; 20]), Node([2; 20])], Known::Found(PushId(7)));
        assert_eq!(found.push_of("widgets", &Node([2; 20])), Some(Known::Found(PushId(7))));
        assert_eq!(found.push_of("gadgets", &Node([2; 20])), None);
    }

    #[test]
    fn memory_is_bounded() {
        let found = Found::default();
        let node = |n: usize| {
            let mut node = Node([0; 20]);
            node.0[..8].copy_from_slice(&n.to_be_bytes());
            node
        };
        let nodes: Vec<Node> = (0..REMEMBERED + 10).map(node).collect();
        found.add("widgets", &nodes[..10], Known::Found(PushId(1)));
        found.add("widgets", &nodes[10..], Known::Told(PushId(2)));
        assert_eq!(found.push_of("widgets", &node(0)), None);
        assert_eq!(found.push_of("widgets", &node(REMEMBERED + 9)), Some(Known::Told(PushId(2))));
    }
}
