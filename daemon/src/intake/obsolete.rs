//! Builds of changesets that have become obsolete: what an amend, rebase, fold, split or prune has
//! replaced needs no answer any more.

use std::collections::{BTreeMap, BTreeSet};

use hgci_core::engine::{Event, Reply};
use hgci_core::{BuildId, BuildState, Node};
use hgci_repo::Fate;

use crate::scheduler::Turn;

/// So many successors are named.
const MAX_NAMED: usize = 3;

/// The changesets of a repository that have builds in flight.
pub fn in_flight(engine: &hgci_core::engine::Engine, repo: &str) -> BTreeSet<Node> {
    let open = engine.builds().filter(|row| row.repo == repo && row.state == BuildState::Running);
    open.map(|row| row.node).collect()
}

/// Stops the builds of changesets that have become obsolete, within a turn. Returns how many.
pub fn supersede(turn: &mut Turn, repo: &str, fates: &BTreeMap<Node, Fate>) -> usize {
    let mut stopped = 0;
    for (node, fate) in fates {
        let builds: Vec<BuildId> =
            turn.engine().builds_of(repo, *node).map(|build| build.id).collect();
        for build in builds {
            let reply = turn.step(Event::Supersede { build, why: why(fate) });
            stopped += usize::from(reply == Reply::Accepted);
        }
    }
    stopped
}

/// Why a build is pointless, in hg's words.
fn why(fate: &Fate) -> String {
    let named =
        fate.successors.iter().take(MAX_NAMED).map(|node| node.to_string()[..12].to_owned());
    let mut how = match (fate.pruned, fate.successors.is_empty()) {
        (true, _) => "pruned".to_owned(),
        (false, true) => "rewritten".to_owned(),
        (false, false) => format!("rewritten as {}", named.collect::<Vec<_>>().join(", ")),
    };
    if fate.successors.len() > MAX_NAMED {
        how += &format!(" and {} more", fate.successors.len() - MAX_NAMED);
    }
    format!("the changeset is obsolete: {how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_has_become_of_the_changeset() {
        let why = |successors: &[u8], pruned| {
            let successors = successors.iter().map(|n| Node([*n; 20])).collect();
            why(&Fate { successors, pruned })
        };
        assert_eq!(why(&[], true), "the changeset is obsolete: pruned");
        assert_eq!(why(&[], false), "the changeset is obsolete: rewritten");
        assert_eq!(why(&[0x1a], false), "the changeset is obsolete: rewritten as 1a1a1a1a1a1a");
        let many = why(&[1, 2, 3, 4, 5], false);
        assert!(many.ends_with("010101010101, 020202020202, 030303030303 and 2 more"), "{many}");
    }
}
