//! The states of all changesets at once are those that looking up each of them gives.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashSet;

use hgci_core::result::{Entry, Origin};
use hgci_core::{BuildId, BuildState, JobState, Node};
use hgci_results::{Reader, States, Writer};
use proptest::prelude::*;
use support::{Repository, build, job, node, open, origin, stream};

fn states(repository: &Repository) -> States {
    States::read(&repository.place, &cache(repository)).unwrap().unwrap()
}

fn cache(repository: &Repository) -> std::path::PathBuf {
    repository.folder.path().join("cache").join("hgci-own.states")
}

/// What one lookup gives: state, and names and states of jobs.
type One = Option<Short>;
type Short = (BuildState, Vec<(String, JobState)>);

fn looked_up(repository: &Repository, node: &Node) -> One {
    let newest = Reader::open(&repository.place).unwrap().unwrap().newest(node).unwrap();
    let status = hgci_api::read::NodeStatus::from_log(&newest.entries, "")?;
    let jobs = status.jobs.iter().map(|job| (job.name.clone(), job.state)).collect();
    Some((status.state, jobs))
}

fn agree(repository: &Repository, nodes: u64) {
    let states = states(repository);
    let all: Vec<(Node, One)> =
        (0..nodes).map(node).map(|node| (node, looked_up(repository, &node))).collect();
    let looked_at: HashSet<Node> = all.iter().map(|(node, _)| *node).collect();
    let set = |nodes: Vec<Node>| {
        let len = nodes.len();
        let set: HashSet<Node> = nodes.into_iter().collect();
        assert!(set.len() == len, "each once");
        set.intersection(&looked_at).copied().collect::<HashSet<Node>>()
    };
    let same = |found: Vec<Node>, wanted: HashSet<Node>| assert!(set(found) == wanted);
    for (node, one) in &all {
        assert_eq!(states.of(node), one.as_ref().map(|one| one.0));
    }
    let with = |wanted: &dyn Fn(&Short) -> bool| {
        let found = all.iter().filter(|(_, one)| one.as_ref().is_some_and(wanted));
        found.map(|(node, _)| *node).collect::<HashSet<Node>>()
    };
    same(states.select(None), with(&|_| true));
    for state in BuildState::ALL {
        same(states.select(Some(state)), with(&|one| one.0 == state));
    }
    for name in ["build", "lint", "nobody"] {
        same(states.select_job(name, None), with(&|one| one.1.iter().any(|job| job.0 == name)));
        for state in JobState::ALL {
            same(
                states.select_job(name, Some(state)),
                with(&|one| one.1.iter().any(|job| job.0 == name && job.1 == state)),
            );
        }
    }
}

#[test]
fn a_summary_is_written_for_a_long_log_and_what_is_newer_is_seen() {
    let repository = Repository::new();
    let mut writer = open(&repository);
    writer.append(&(0..1000).map(stream).collect::<Vec<_>>()).unwrap();
    agree(&repository, 210);
    assert!(!cache(&repository).exists(), "not for a short one");
    writer.append(&(1000..20_000).map(stream).collect::<Vec<_>>()).unwrap();
    agree(&repository, 300);
    let made = std::fs::read(cache(&repository)).unwrap();
    // A job of an old changeset fails in a newer build, and a new changeset comes.
    let Entry::Job(mut again) = job(3, 1) else { unreachable!() };
    again.build = BuildId(900_000);
    again.state = JobState::Failed;
    writer.append(&[Entry::Job(again), build(5000, 0)]).unwrap();
    agree(&repository, 300);
    assert_eq!(states(&repository).of(&node(5000)), Some(BuildState::Passed));
    assert_eq!(states(&repository).of(&node(3)), Some(BuildState::Running));
    assert_eq!(std::fs::read(cache(&repository)).unwrap(), made, "it is not far behind");
    writer.append(&(20_000..40_000).map(stream).collect::<Vec<_>>()).unwrap();
    agree(&repository, 300);
    assert_ne!(std::fs::read(cache(&repository)).unwrap(), made);
    // A log in its place that is another one.
    writer.compact(|record| record.offset.is_multiple_of(3)).unwrap();
    agree(&repository, 300);
}

#[test]
fn a_summary_that_is_damaged_or_cannot_be_written_changes_nothing() {
    let repository = Repository::new();
    open(&repository).append(&(0..20_000).map(stream).collect::<Vec<_>>()).unwrap();
    agree(&repository, 100);
    let made = std::fs::read(cache(&repository)).unwrap();
    for at in [0, 9, 13, 20, 40, 60, 70, 5000, made.len() - 1] {
        let mut bytes = made.clone();
        bytes[at] ^= 16;
        std::fs::write(cache(&repository), bytes).unwrap();
        agree(&repository, 30);
    }
    for len in [0, 10, 63, 64, 1000] {
        std::fs::write(cache(&repository), &made[..len]).unwrap();
        agree(&repository, 30);
    }
    std::fs::remove_dir_all(repository.folder.path().join("cache")).unwrap();
    std::fs::write(repository.folder.path().join("cache"), "not a folder").unwrap();
    agree(&repository, 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_records_of_several_daemons_agree_with_lookups(
        records in proptest::collection::vec(
            (0u64..6, 0u64..4, 0u32..3, 0u32..3, 0u8..10, 0u8..2, any::<bool>()), 0..80),
    ) {
        let repository = Repository::new();
        for (n, id, index, attempt, state, daemon, ends) in records {
            let origin = Origin { daemon: format!("{daemon}"), ..origin() };
            let mut writer = Writer::open(&repository.place, &origin).unwrap();
            let state = usize::from(state);
            let entry = match (job(n, index), build(n, 3)) {
                (_, Entry::Build(mut build)) if ends => {
                    build.build = BuildId(id);
                    build.state = BuildState::ALL[state % BuildState::ALL.len()];
                    build.ended_ms = i64::from(attempt) * 7 + i64::from(index);
                    Entry::Build(build)
                }
                (Entry::Job(mut job), _) => {
                    job.build = BuildId(id);
                    job.attempt = attempt;
                    job.state = JobState::ALL[state % JobState::ALL.len()];
                    Entry::Job(job)
                }
                (entry, _) => entry,
            };
            writer.append(&[entry]).unwrap();
        }
        if Reader::open(&repository.place).unwrap().is_some() {
            agree(&repository, 6);
        }
    }
}
