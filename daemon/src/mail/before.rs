//! How jobs ended before a changeset: at the nearest ancestors that say something of the code.

use std::collections::{BTreeMap, HashMap};

use hgci_core::result::Entry;
use hgci_core::{JobState, Node};
use hgci_repo::Repository;
use hgci_results::Reader;

/// The most ancestors that are asked. Not every changeset of a push is built, so the parent alone
/// may know nothing; what is further away says little of this change.
const MAX_ANCESTORS: usize = 1000;

/// The most ancestors that are gone through to see that they need not be asked.
const MAX_PASSED: usize = 100_000;

/// For each job of `names`, how it ended at the nearest ancestor of `node` where it ran to an end.
/// Of several that are nearest, as a merge may have them, the one on the first parents' line
/// counts: that is what was merged into. Where there is none on it, one that is not well does.
/// Names of jobs that never ran are not in the answer. Reads the repository and its log; what
/// cannot be read is as if it were not there, since the rest can be told without it.
pub fn before(
    repository: &Repository,
    log: &Reader,
    node: &Node,
    names: &[&str],
) -> HashMap<String, JobState> {
    let walked = repository.read(|reader| {
        let Some(rev) = reader.rev(node) else { return Ok(HashMap::new()) };
        nearest(
            rev,
            names,
            |rev| reader.parent_revs(rev),
            |rev| reader.node(rev).map(|node| states(log, &node)).unwrap_or_default(),
        )
    });
    walked.unwrap_or_else(|error| {
        tracing::warn!(%node, %error, "cannot read what was built before");
        HashMap::new()
    })
}

/// An ancestor that is still to be asked.
struct Lookout {
    /// Of each name, whether something nearer has told.
    told: Vec<bool>,
    /// Whether first parents alone lead here.
    first_line: bool,
}

/// See [`before`]. Numbers of changesets are larger than those of their ancestors, which is all
/// that they are good for: what came into the repository first does not decide anything.
fn nearest<R: Copy + Ord, E>(
    start: R,
    names: &[&str],
    parents: impl Fn(R) -> Result<[Option<R>; 2], E>,
    states: impl Fn(R) -> Vec<(String, JobState)>,
) -> Result<HashMap<String, JobState>, E> {
    let mut found: HashMap<String, (bool, bool, JobState)> = HashMap::new();
    let mut next: BTreeMap<R, Lookout> = BTreeMap::new();
    let mut here = Some((start, Lookout { told: vec![false; names.len()], first_line: true }));
    let (mut asked, mut passed) = (0, 0);
    while let Some((rev, mut at)) = here {
        let open = at.told.iter().any(|told| !told);
        if open && rev != start {
            asked += 1;
            for (name, state) in states(rev) {
                let Some(n) = names.iter().position(|one| *one == name) else { continue };
                if !std::mem::replace(&mut at.told[n], true) {
                    let bad = matches!(state, JobState::Failed | JobState::TimedOut);
                    let one = (at.first_line, bad, state);
                    let best = found.entry(name).or_insert(one);
                    if (one.0, one.1) > (best.0, best.1) {
                        *best = one;
                    }
                }
            }
        } else {
            passed += 1;
        }
        if asked == MAX_ANCESTORS || passed == MAX_PASSED {
            break;
        }
        for (parent, is_first) in parents(rev)?.into_iter().zip([true, false]) {
            let Some(parent) = parent else { continue };
            let first_line = at.first_line && is_first;
            let all = || Lookout { told: vec![false; names.len()], first_line };
            let lookout = next.entry(parent).or_insert_with(all);
            lookout.first_line |= first_line;
            lookout.told.iter_mut().zip(&at.told).for_each(|(to, from)| *to |= from);
        }
        if next.values().all(|lookout| lookout.told.iter().all(|told| *told)) {
            break;
        }
        // The highest number first, so that all that is nearer has spoken.
        here = next.pop_last();
    }
    Ok(found.into_iter().map(|(name, (_, _, state))| (name, state)).collect())
}

/// How the jobs of a changeset's newest build ended, those that did by themselves.
fn states(log: &Reader, node: &Node) -> Vec<(String, JobState)> {
    let entries = log.newest(node).map(|newest| newest.entries).unwrap_or_default();
    let jobs = entries.into_iter().filter_map(|entry| match entry {
        Entry::Job(job) => Some(job),
        _ => None,
    });
    let jobs: Vec<_> = jobs.collect();
    let newest = jobs.iter().map(|job| job.build).max();
    jobs.into_iter()
        .filter(|job| Some(job.build) == newest && job.state.says_of_the_code())
        .map(|job| (job.name, job.state))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobState::{Failed, Passed};

    /// Numbers of changesets with their parents, and how the job ended at some of them.
    fn job(graph: &[(u32, &[u32])], ends: &[(u32, JobState)], start: u32) -> Option<JobState> {
        let parents = |rev: u32| {
            let of = graph.iter().find(|(one, _)| *one == rev).map_or(&[][..], |(_, of)| of);
            Ok::<_, ()>([of.first().copied(), of.get(1).copied()])
        };
        let states = |rev: u32| {
            let ended = ends.iter().filter(|(one, _)| *one == rev);
            ended.map(|(_, state)| ("test".to_owned(), *state)).collect()
        };
        nearest(start, &["test"], parents, states).unwrap().remove("test")
    }

    #[test]
    fn the_nearest_ancestor_that_was_built_counts() {
        let line: &[(u32, &[u32])] = &[(1, &[]), (2, &[1]), (3, &[2]), (4, &[3])];
        assert_eq!(job(line, &[(1, Passed), (2, Failed), (4, Passed)], 4), Some(Failed));
        assert_eq!(job(line, &[], 4), None);
    }

    #[test]
    fn of_parents_that_ended_differently_the_first_counts_whichever_came_first() {
        for (first, second) in [(2, 3), (3, 2)] {
            let graph: &[(u32, &[u32])] =
                &[(1, &[]), (2, &[1]), (3, &[1]), (4, &[first, second]), (5, &[4])];
            for (one, other) in [(Passed, Failed), (Failed, Passed)] {
                let ends = [(1, other), (first, one), (second, other)];
                assert_eq!(job(graph, &ends, 4), Some(one));
                // What was not built in between changes nothing.
                assert_eq!(job(graph, &ends, 5), Some(one));
            }
        }
    }

    #[test]
    fn what_was_merged_counts_where_the_other_line_knows_nothing_newer() {
        // 1 is an ancestor of 3 too, which has spoken since.
        let graph: &[(u32, &[u32])] = &[(1, &[]), (2, &[1]), (3, &[1]), (4, &[2, 3])];
        assert_eq!(job(graph, &[(1, Passed), (3, Failed)], 4), Some(Failed));
        assert_eq!(job(graph, &[(1, Failed), (3, Passed)], 4), Some(Passed));
    }

    #[test]
    fn of_lines_that_were_merged_one_that_is_not_well_counts() {
        let graph: &[(u32, &[u32])] = &[(1, &[]), (2, &[]), (3, &[]), (4, &[2, 3]), (5, &[1, 4])];
        for (one, other) in [(Passed, Failed), (Failed, Passed)] {
            assert_eq!(job(graph, &[(2, one), (3, one)], 5), Some(one));
            let second = job(graph, &[(3, one), (2, other)], 5);
            assert_eq!(second, Some(Failed));
        }
    }
}
