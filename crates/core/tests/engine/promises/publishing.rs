use hgci_core::engine::{Effect, Event, Reply, Stage};
use hgci_core::result::{Entry, Outcome};
use hgci_core::{BuildState, JobState, PushId};

use super::World;
use crate::make::{self, attempt, job, needing};

#[test]
fn a_build_goes_from_push_to_history() {
    let mut world = World::with_slots(2);
    let build = world.build(vec![job("a"), needing("b", &[0])]);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    let mut entries = world.publish();
    world.run(attempt(1, 1, 1), make::failed());
    entries.extend(world.publish());
    let jobs: Vec<(u32, JobState)> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Job(job) => Some((job.index, job.state)),
            _ => None,
        })
        .collect();
    assert_eq!(jobs, [(0, JobState::Passed), (1, JobState::Failed)]);
    let Some(Entry::Build(last)) = entries.last() else { panic!("{entries:?}") };
    assert_eq!((last.state, last.jobs), (BuildState::Failed, 2));
    let Entry::Job(failed) = &entries[1] else { panic!("{entries:?}") };
    assert_eq!((failed.exit, failed.attempt, &*failed.host), (Some(1), 1, "here/1"));

    assert!(world.effects.contains(&Effect::Mail(PushId(1))));
    assert_eq!(world.step(Event::Mailed(PushId(1))), Reply::Accepted);
    assert_eq!(world.step(Event::Mailed(PushId(1))), Reply::Repeated);
    assert_eq!(world.store.history.builds[&build].state, BuildState::Failed);
    assert_eq!(world.store.history.pushes[&PushId(1)].stage, Stage::Done);
    assert!(world.store.pushes.is_empty() && world.store.builds.is_empty());
    assert!(world.store.jobs.is_empty());
    assert_eq!((world.engine.counts().builds, world.engine.next_wake()), (0, None));
}

#[test]
fn a_job_is_published_when_it_is_final_and_the_build_after_all_of_them() {
    let mut world = World::with_slots(2);
    world.build(vec![job("a"), job("b")]);
    world.run(attempt(1, 1, 1), Outcome::Passed);
    assert!(matches!(&world.publish()[..], [Entry::Job(job)] if job.index == 1));
    world.run(attempt(1, 0, 1), Outcome::Passed);
    assert!(matches!(&world.publish()[..], [Entry::Job(_), Entry::Build(_)]));
}

#[test]
fn the_end_of_a_build_brings_along_jobs_whose_publishing_was_lost() {
    let mut world = World::with_slots(2);
    world.build(vec![job("a"), job("b")]);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    world.effects.clear();
    world.run(attempt(1, 1, 1), Outcome::Passed);
    let entries = world.publish();
    assert!(matches!(&entries[..], [Entry::Job(_), Entry::Job(_), Entry::Build(_)]));
}

#[test]
fn what_is_not_reported_as_published_is_asked_for_again() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    let first: Vec<Effect> = std::mem::take(&mut world.effects);
    world.pass(world.config.reissue_ms);
    let publish = |effects: &[Effect]| {
        let mut all = effects.iter();
        all.find(|effect| matches!(effect, Effect::Publish { .. })).cloned()
    };
    assert!(publish(&first).is_some());
    assert_eq!(publish(&first), publish(&world.effects));
}

#[test]
fn mail_goes_out_when_the_last_build_of_the_push_is_published() {
    let mut world = World::with_slots(2);
    world.push(vec![Ok(vec![job("a")]), Ok(vec![job("a")])]);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    world.publish();
    assert!(!world.effects.contains(&Effect::Mail(PushId(1))));
    world.run(attempt(2, 0, 1), Outcome::Passed);
    assert!(!world.effects.contains(&Effect::Mail(PushId(1))));
    world.publish();
    assert!(world.effects.contains(&Effect::Mail(PushId(1))));
    assert_eq!(world.store.pushes[&PushId(1)].stage, Stage::Mailing);
    world.effects.clear();
    world.pass(world.config.reissue_ms);
    assert_eq!(world.effects, [Effect::Mail(PushId(1))], "until the outbox has it");
}

#[test]
fn mail_does_not_wait_for_a_host_to_be_cleaned_up() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    world.claim(attempt(1, 0, 1));
    world.end(attempt(1, 0, 1), Outcome::Passed);
    world.publish();
    assert!(world.effects.contains(&Effect::Mail(PushId(1))));
    assert_eq!(world.store.history.builds.len(), 0, "the slot is held");
    world.gone(attempt(1, 0, 1));
    assert_eq!(world.store.history.builds.len(), 1);
}

#[test]
fn what_was_never_final_is_never_counted_as_published() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a")]);
    let early = hgci_core::engine::Publication { build, jobs: vec![0, 7], whole: true };
    world.step(Event::Published(early));
    assert!(!world.store.builds[&build].published);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    assert_eq!(world.publish().len(), 2);
}

#[test]
fn plans_are_kept_once_and_dropped_when_they_are_long_unused() {
    let mut world = World::with_slots(1);
    world.push(vec![Ok(vec![job("a")]), Ok(vec![job("a")])]);
    assert_eq!((world.engine.plans(), world.store.plans.len()), (1, 1));
    for n in 0..100 {
        let name = format!("job{n}");
        world.step(Event::Cancel { build: hgci_core::BuildId(n + 1), job: None, by: "x".into() });
        world.build(vec![job(&name)]);
        world.publish();
        let held = world.engine.held();
        held.into_iter().for_each(|held| drop(world.gone(held.attempt)));
    }
    assert!(world.engine.plans() < 25, "{}", world.engine.plans());
    assert_eq!(world.engine.plans(), world.store.plans.len());
}
