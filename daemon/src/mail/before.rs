//! How jobs ended before a changeset: at the nearest ancestors that say something of the code.

use std::collections::{BinaryHeap, HashMap, HashSet};

use hgci_core::result::Entry;
use hgci_core::{JobState, Node};
use hgci_repo::Repository;
use hgci_results::Reader;

/// The most ancestors that are asked. Not every changeset of a push is built, so the parent alone
/// may know nothing; what is further away says little of this change.
const MAX_ANCESTORS: usize = 1000;

/// For each job of `names`, how it ended at the nearest ancestor of `node` where it ran to an end.
/// Names of jobs that never did are not in the answer. Reads the repository and its log; what
/// cannot be read is as if it were not there, since the rest can be told without it.
pub fn before(
    repository: &Repository,
    log: &Reader,
    node: &Node,
    names: &[&str],
) -> HashMap<String, JobState> {
    let mut found = HashMap::new();
    let walked = repository.read(|reader| {
        found.clear();
        let Some(rev) = reader.rev(node) else { return Ok(()) };
        let mut next: BinaryHeap<_> = reader.parent_revs(rev)?.into_iter().flatten().collect();
        let mut seen: HashSet<_> = next.iter().copied().collect();
        for _ in 0..MAX_ANCESTORS {
            // The highest number first: what was made last is nearest.
            let Some(rev) = next.pop() else { break };
            let ancestor = reader.node(rev);
            for (name, state) in ancestor.iter().flat_map(|ancestor| states(log, ancestor)) {
                if names.contains(&name.as_str()) {
                    found.entry(name).or_insert(state);
                }
            }
            if found.len() == names.len() {
                break;
            }
            let parents = reader.parent_revs(rev)?.into_iter().flatten();
            next.extend(parents.filter(|parent| seen.insert(*parent)));
        }
        Ok(())
    });
    if let Err(error) = walked {
        tracing::warn!(%node, %error, "cannot read what was built before");
    }
    found
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
