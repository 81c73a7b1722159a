//! The history that lists show: pages of it, and what is taken out of it in time.

#![allow(clippy::unwrap_used)]

use hgci_core::engine::{
    AttemptRow, AttemptState, BuildRow, Change, JobRow, PushRow, Stage, Trigger,
};
use hgci_core::push::{Lane, Push, Via};
use hgci_core::result::{Outcome, Verdict};
use hgci_core::{BuildId, BuildState, JobKey, JobState, Node, PushId};
use hgcid::store::{Batch, Options, Scan, Store, Tree};
use hgcid::{Part, Records};

const DAY: i64 = 86_400_000;

/// A time long after 1970.
const NOW: i64 = 20_000 * DAY;

fn node(n: u64) -> Node {
    let mut node = [7; 20];
    node[..8].copy_from_slice(&n.to_be_bytes());
    Node(node)
}

fn push(id: u64, repo: &str, received: i64) -> PushRow {
    PushRow {
        push: Push {
            id: PushId(id),
            repo: repo.into(),
            received,
            via: Via::Hook,
            txid: Some(format!("TXN:{id}")),
            source: "serve".into(),
            user: None,
            url: None,
            first: Some(node(id)),
            last: Some(node(id)),
            changesets: 1,
            heads: vec![node(id)],
            phases: vec![],
            bookmarks: vec![],
            markers: 0,
            pushvars: Default::default(),
            no_build: None,
        },
        stage: Stage::Done,
        first_build: Some(BuildId(id)),
        builds: 1,
        trusted: vec![],
    }
}

fn build(id: u64, repo: &str, created_ms: i64, ended_ms: i64) -> Change {
    let build = BuildRow {
        id: BuildId(id),
        push: PushId(id),
        repo: repo.into(),
        node: node(id),
        trigger: Trigger::Push,
        branch: "default".into(),
        author: "alice".into(),
        description: "a change".into(),
        lane: Lane::Trusted,
        plan: None,
        message: None,
        created_ms,
        ended_ms: Some(ended_ms),
        by: None,
        state: BuildState::Passed,
        published: true,
    };
    let job = JobRow {
        key: JobKey { build: BuildId(id), index: 0 },
        name: "test".into(),
        allow_failure: false,
        state: JobState::Passed,
        queued_ms: created_ms,
        ended_ms: Some(ended_ms),
        why: None,
        cancelled_by: None,
        superseded: None,
        kept: None,
        attempts: vec![],
        published: true,
    };
    Change::ArchiveBuild { build: Box::new(build), jobs: vec![job] }
}

/// A store with a push and a build for each age in days, alternately of two repositories.
fn store(ages: &[i64]) -> (tempfile::TempDir, Store) {
    let room = tempfile::tempdir().unwrap();
    let options = Options::new(env!("CARGO_BIN_EXE_hgcid"));
    let (store, _) = Store::open(&room.path().join("state"), options).unwrap();
    for (id, days) in (1..).zip(ages) {
        let repo = if id % 2 == 0 { "gadgets" } else { "widgets" };
        let at = NOW - days * DAY;
        let mut batch = Batch::new();
        let push = push(id, repo, at);
        Records::remember(&mut batch, repo, push.push.txid.as_deref().unwrap(), push.push.id);
        let changes = vec![Change::ArchivePush(Box::new(push)), build(id, repo, at, at + 1000)];
        Records::add(&mut batch, changes).unwrap();
        store.commit(&batch).unwrap();
    }
    (room, store)
}

fn count(store: &Store, tree: Tree) -> usize {
    store.scan(tree, Scan::default(), 1000).unwrap().len()
}

/// Takes out what is older than 90 days, in steps of `most`.
fn sweep(store: &Store, most: usize) -> (u64, u64) {
    let mut found = [0, 0];
    for (at, old) in [Records::old_builds, Records::old_pushes].into_iter().enumerate() {
        let mut after = 0;
        loop {
            let step = old(store, NOW - 90 * DAY, after, most).unwrap();
            assert!(step.found <= most as u64);
            store.commit(&step.batch).unwrap();
            found[at] += step.found;
            match step.next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    (found[0], found[1])
}

#[test]
fn what_is_past_its_time_leaves_the_history_with_its_indexes() {
    let (_room, store) = store(&[100, 99, 98, 97, 96, 50, 1]);
    assert_eq!(sweep(&store, 2), (5, 5));
    for tree in [
        Tree::BuildHistory,
        Tree::JobHistory,
        Tree::BuildsByRepo,
        Tree::BuildsByNode,
        Tree::PushHistory,
        Tree::PushesByRepo,
        Tree::Transactions,
    ] {
        assert_eq!(count(&store, tree), 2, "{tree}");
    }
    assert!(Records::build(&store, BuildId(5)).unwrap().is_none());
    assert!(Records::build(&store, BuildId(6)).unwrap().is_some());
    assert!(Records::push(&store, PushId(5)).unwrap().is_none());
    assert_eq!(sweep(&store, 2), (0, 0));
}

#[test]
fn what_was_built_is_known_for_ever() {
    let (_room, store) = store(&[100, 1]);
    sweep(&store, 100);
    let known = Records::known(&store, "widgets", &node(1), Trigger::Push).unwrap();
    assert_eq!(known, Some(BuildId(1)));
}

#[test]
fn a_build_that_ran_for_long_stays_until_its_end_is_old() {
    let (_room, store) = store(&[100, 99]);
    let mut batch = Batch::new();
    let long = build(1, "widgets", NOW - 100 * DAY, NOW - 89 * DAY);
    Records::add(&mut batch, vec![long]).unwrap();
    store.commit(&batch).unwrap();
    assert_eq!(sweep(&store, 1), (1, 2));
    assert!(Records::build(&store, BuildId(1)).unwrap().is_some());
    assert!(Records::build(&store, BuildId(2)).unwrap().is_none());
}

#[test]
fn what_nobody_can_read_goes_and_stops_nothing() {
    let (_room, store) = store(&[100, 99, 98]);
    let mut batch = Batch::new();
    batch.put(Tree::BuildHistory, 2_u64.to_be_bytes(), *b"rubbish");
    store.commit(&batch).unwrap();
    assert_eq!(sweep(&store, 1), (2, 3));
    assert_eq!(count(&store, Tree::BuildHistory), 0);
}

#[test]
fn pages_go_from_the_newest_to_the_oldest_whatever_is_wanted() {
    let ages: Vec<i64> = (0..25).rev().collect();
    let (_room, store) = store(&ages);
    for repo in [None, Some("widgets"), Some("gadgets")] {
        let mut seen = Vec::new();
        let mut below = u64::MAX;
        loop {
            let part = Part { below, limit: 4, looks: 6 };
            let wanted = |row: &PushRow| row.push.repo == "gadgets";
            let slice = Records::pushes(&store, repo, part, wanted).unwrap();
            assert!(slice.rows.len() <= 4);
            seen.extend(slice.rows.iter().map(|row| row.push.id.0));
            match slice.stopped_at {
                Some(next) => below = next,
                None => break,
            }
        }
        let odd = repo == Some("widgets");
        let expected: Vec<u64> = (1..=25).rev().filter(|id| (id % 2 == 1) == odd).collect();
        assert_eq!(seen, expected, "{repo:?}");
    }
    let part = Part { below: u64::MAX, limit: 4, looks: 6 };
    let found = Records::builds_of(&store, &node(3), part, |_| true).unwrap();
    assert_eq!(found.rows.len(), 1);
    assert_eq!(found.rows[0].build.id, BuildId(3));
}

#[test]
fn a_build_of_a_thousand_jobs_with_all_that_they_may_say_goes_into_the_history() {
    let (_room, store) = store(&[100]);
    let Change::ArchiveBuild { build, jobs } = build(2, "widgets", NOW - 99 * DAY, NOW - 99 * DAY)
    else {
        panic!("not a build")
    };
    // The longest texts that the engine keeps, of what is longest as JSON.
    let text = |len| "\u{1}".repeat(len);
    let attempt = |n| AttemptRow {
        n,
        pool: "here".into(),
        slot: 0,
        lane: Lane::Try,
        state: AttemptState::Over,
        gone: true,
        instance: Some("i".repeat(64)),
        timeout_ms: 1,
        launched_ms: 1,
        claimed_ms: Some(1),
        ended_ms: Some(1),
        verdict: Some(Box::new(Verdict {
            outcome: Outcome::Errored { why: text(500) },
            started_ms: 1,
            duration_ms: 1,
            tests: None,
            notes: vec![text(200); 8],
        })),
        why: Some(text(500)),
    };
    let attempts: Vec<AttemptRow> = (1..=3).map(attempt).collect();
    let jobs: Vec<JobRow> = (0..1000)
        .map(|index| JobRow {
            key: JobKey { build: BuildId(2), index },
            attempts: attempts.clone(),
            ..jobs[0].clone()
        })
        .collect();
    let mut batch = Batch::new();
    Records::add(&mut batch, vec![Change::ArchiveBuild { build, jobs: jobs.clone() }]).unwrap();
    store.commit(&batch).unwrap();
    let archived = Records::build(&store, BuildId(2)).unwrap().unwrap();
    assert!(archived.jobs == jobs, "{} of them", archived.jobs.len());
    assert_eq!(sweep(&store, 1), (2, 1));
    assert_eq!(count(&store, Tree::JobHistory), 0);
}

#[test]
fn a_build_whose_jobs_are_in_its_own_record_is_read() {
    let (_room, store) = store(&[]);
    let record = include_bytes!("records/archived-build-1.json");
    let mut batch = Batch::new();
    batch.put(Tree::BuildHistory, 7_u64.to_be_bytes(), *record);
    store.commit(&batch).unwrap();
    let archived = Records::build(&store, BuildId(7)).unwrap().unwrap();
    assert_eq!((archived.build.id, archived.jobs.len()), (BuildId(7), 1));
}
