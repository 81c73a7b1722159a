use std::collections::BTreeMap;

use hgci_core::engine::{Effect, Event, NewBuild, Reply, Trigger};
use hgci_core::job::JobSpec;
use hgci_core::push::{Push, Via};
use hgci_core::result::{Entry, JobResult, Outcome};
use hgci_core::{BuildId, BuildState, JobKey, JobState};

use super::World;
use crate::make::{self, attempt, job, needing};

fn plan() -> Vec<JobSpec> {
    vec![job("a"), needing("b", &[0]), job("c")]
}

impl World {
    /// Somebody asks for the changeset of the first push: the new builds, and the events again.
    fn ask(&mut self, kept: BTreeMap<u32, JobResult>) -> (Vec<BuildId>, [Event; 2]) {
        let id = self.engine.next_push();
        let push = Push { via: Via::Asked, user: Some("bob".into()), ..make::push(id) };
        let build = NewBuild {
            trigger: Trigger::Asked,
            by: Some("bob".into()),
            kept,
            ..make::new_build(1000, Ok(plan()))
        };
        let events = [Event::Received(push.clone()), Event::Planned { push, builds: vec![build] }];
        self.engine.step(self.now, events[0].clone());
        match self.step(events[1].clone()) {
            Reply::Planned(builds) => (builds, events),
            other => panic!("{other:?}"),
        }
    }

    /// A build in which `b` failed, and how its jobs ended.
    fn with_a_failure() -> (World, Vec<JobResult>) {
        let mut world = World::with_slots(4);
        let build = world.build(plan());
        world.run(attempt(1, 0, 1), Outcome::Passed);
        world.run(attempt(1, 2, 1), Outcome::Passed);
        world.run(attempt(1, 1, 1), make::failed());
        let row = world.engine.build(build).unwrap().clone();
        let results = world.engine.jobs(build);
        let results = results.iter().map(|job| job.result(&row).unwrap()).collect();
        world.effects.clear();
        (world, results)
    }

    fn published(&self, build: BuildId) -> Vec<Entry> {
        let of_build = |entry: &Entry| match entry {
            Entry::Job(job) => job.build == build,
            Entry::Build(end) => end.build == build,
            Entry::Origin(_) => false,
        };
        let entries = self.effects.iter().filter_map(|effect| match effect {
            Effect::Publish { entries, .. } => Some(entries.clone()),
            _ => None,
        });
        entries.flatten().filter(of_build).collect()
    }
}

#[test]
fn what_is_kept_is_not_run_and_counts_as_it_ended() {
    let (mut world, mut results) = World::with_a_failure();
    let failed = results.remove(1);
    assert_eq!(failed.state, JobState::Failed);
    let kept = BTreeMap::from([(0, results.remove(0)), (2, results.remove(0))]);
    let (builds, _) = world.ask(kept);
    let build = builds[0];
    use JobState::{Passed, Running};
    assert_eq!(world.states(build), [Passed, Running, Passed]);
    let row = world.engine.build(build).unwrap();
    assert_eq!((row.by.as_deref(), row.trigger), (Some("bob"), Trigger::Asked));
    let published = world.published(build);
    let Entry::Job(first) = &published[0] else { panic!("{published:?}") };
    let from = JobKey { build: BuildId(1), index: 0 };
    assert_eq!((first.from, first.attempt, first.build), (Some(from), 1, build));
    world.run(attempt(2, 1, 1), Outcome::Passed);
    assert_eq!(world.engine.build(build).unwrap().state, BuildState::Passed);
    let published = world.published(build);
    let Some(Entry::Build(end)) = published.last() else { panic!("{published:?}") };
    assert_eq!((end.by.as_deref(), end.jobs, end.state), (Some("bob"), 3, BuildState::Passed));
}

#[test]
fn what_is_kept_again_names_where_it_ran() {
    let (mut world, results) = World::with_a_failure();
    let mut kept = BTreeMap::from([(0, results[0].clone()), (2, results[2].clone())]);
    world.ask(kept.clone());
    world.run(attempt(2, 1, 1), make::failed());
    let row = world.engine.build(BuildId(2)).unwrap();
    kept.insert(0, world.engine.job_row(make::job_key(2, 0)).unwrap().result(row).unwrap());
    world.ask(kept);
    let row = world.engine.job_row(make::job_key(3, 0)).unwrap();
    assert_eq!(row.ran_as(), make::job_key(1, 0));
}

#[test]
fn a_build_with_nothing_to_run_ends_at_once_with_all_of_it_published() {
    let (mut world, results) = World::with_a_failure();
    let (builds, _) = world.ask((0..).zip(results).collect());
    assert_eq!(world.engine.build(builds[0]).unwrap().state, BuildState::Failed);
    assert_eq!(world.published(builds[0]).len(), 4);
}

#[test]
fn what_is_no_end_of_the_job_is_not_kept() {
    let (mut world, results) = World::with_a_failure();
    let open = JobResult { state: JobState::Running, ..results[0].clone() };
    let other = results[1].clone();
    let (builds, _) = world.ask(BTreeMap::from([(0, open), (2, other.clone()), (9, other)]));
    use JobState::{Running, Waiting};
    assert_eq!(world.states(builds[0]), [Running, Waiting, Running]);
}

#[test]
fn asking_twice_is_asking_once_and_the_next_waits_for_the_end() {
    let (mut world, _) = World::with_a_failure();
    let (builds, again) = world.ask(BTreeMap::new());
    for event in again {
        assert_eq!(world.step(event), Reply::Repeated);
    }
    assert_eq!(world.ask(BTreeMap::new()).0, []);
    world.step(Event::Cancel { build: builds[0], job: None, by: "bob".into() });
    assert_eq!(world.states(builds[0]), [JobState::Cancelled; 3]);
    assert_eq!(world.ask(BTreeMap::new()).0.len(), 1);
}

#[test]
fn a_push_that_was_asked_for_and_planned_in_one_turn_is_not_to_be_read() {
    let (mut world, _) = World::with_a_failure();
    world.ask(BTreeMap::new());
    assert!(!world.effects.iter().any(|effect| matches!(effect, Effect::Plan(_))));
}

#[test]
fn what_is_kept_stays_kept_over_a_restart() {
    let (mut world, results) = World::with_a_failure();
    let (builds, _) = world.ask(BTreeMap::from([(0, results[0].clone())]));
    let before = world.engine.jobs(builds[0]);
    world.restart();
    assert_eq!(world.engine.jobs(builds[0]), before);
    world.run(attempt(2, 1, 1), Outcome::Passed);
    world.run(attempt(2, 2, 1), Outcome::Passed);
    assert_eq!(world.engine.build(builds[0]).unwrap().state, BuildState::Passed);
}

#[test]
fn the_runner_of_a_cancelled_job_is_told_at_once() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b")]);
    world.claim(attempt(1, 0, 1));
    world.step(Event::Cancel { build, job: None, by: "alice".into() });
    let stops = world.effects.iter().filter_map(|effect| match effect {
        Effect::Stop { attempt, pool, slot } => Some((*attempt, &**pool, *slot)),
        _ => None,
    });
    assert_eq!(stops.collect::<Vec<_>>(), [(attempt(1, 0, 1), "here", 0)]);
}
