use hgci_core::engine::{Effect, Engine, Event, Meta, Reply, Restraint};
use hgci_core::result::{Entry, Outcome};
use hgci_core::{BuildId, JobState, PushId};

use super::World;
use crate::make::{self, attempt, job, needing};

#[test]
fn every_effect_that_is_not_done_is_asked_for_again() {
    let mut world = World::with_slots(2);
    world.push(vec![Ok(vec![job("a")]), Ok(vec![job("b"), job("c")])]);
    world.step(Event::Received(make::push(PushId(2))));
    world.claim(attempt(1, 0, 1));
    world.end(attempt(1, 0, 1), Outcome::Passed);
    world.restart();
    let plan = Effect::Plan(Box::new(make::push(PushId(2))));
    assert!(world.effects.contains(&plan));
    assert_eq!(world.launched_attempts(), [attempt(2, 0, 1)]);
    assert_eq!(world.killed(), [attempt(1, 0, 1)], "whether its runner has ended nobody knows");
    assert!(matches!(&world.publish()[..], [Entry::Job(_), Entry::Build(_)]));
}

#[test]
fn an_engine_that_may_start_nothing_starts_nothing_when_it_is_made_anew() {
    let full = || Some("the disk is full".to_owned());
    let restraints = [
        Restraint { draining: true, blocked: None },
        Restraint { draining: false, blocked: full() },
    ];
    for restraint in restraints {
        let mut world = World::with_slots(2);
        world.push(vec![Ok(vec![job("a"), job("b"), job("c")])]);
        world.claim(attempt(1, 0, 1));
        let rows = world.store.rows();
        let config = world.config.clone();
        let restored =
            Engine::restore_under(restraint.clone(), config, rows, Meta::default(), world.now);
        world.engine = restored.engine;
        world.effects.clear();
        world.turn();
        assert_eq!(world.engine.restraint(), restraint);
        // What was launched before is asked for again; the third waits, also for a free slot.
        assert_eq!(world.launched_attempts(), [attempt(1, 1, 1)]);
        world.end(attempt(1, 0, 1), Outcome::Passed);
        world.step(Event::HostGone { attempt: attempt(1, 0, 1), why: "it has ended".into() });
        assert_eq!(world.launched_attempts(), []);
        world.step(Event::Drain(false));
        world.step(Event::Blocked(None));
        assert_eq!(world.launched_attempts(), [attempt(1, 2, 1)]);
    }
}

#[test]
fn mail_that_is_not_in_the_outbox_is_asked_for_again() {
    let mut world = World::with_slots(1);
    world.push(vec![Err("malformed")]);
    world.publish();
    world.restart();
    assert_eq!(world.effects, [Effect::Mail(PushId(1))]);
    world.step(Event::Mailed(PushId(1)));
    world.restart();
    assert_eq!(world.effects, []);
}

#[test]
fn a_running_job_goes_on_under_the_same_attempt_and_runner() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    let grant = world.claim(key);
    world.restart();
    assert_eq!(world.launched_attempts(), []);
    assert_eq!(world.engine.held()[0].attempt, key);
    assert_eq!(world.claim(key), grant);
    assert!(matches!(world.renew(key), Reply::Lease { cancel: false, .. }));
    assert_eq!(world.end(key, Outcome::Passed), Reply::Accepted);
}

#[test]
fn every_lease_gets_a_full_term_after_a_restart() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    let term = world.config.lease_ms + world.config.lease_margin_ms;
    world.pass(term - 1);
    world.restart();
    world.pass(term - 1);
    assert_eq!(world.state(1, 0), JobState::Running);
    world.pass(1);
    assert_eq!(world.state(1, 0), JobState::Queued);
}

#[test]
fn the_time_of_a_job_goes_on_over_restarts_whatever_the_wall_clock_does() {
    for jump in [0, -1_000_000_000_000, 1_000_000_000_000] {
        let mut world = World::with_slots(1);
        world.build(vec![job("a")]);
        let key = attempt(1, 0, 1);
        world.claim(key);
        let most = world.config.timeout_ms + world.config.timeout_margin_ms;
        world.pass(60_000);
        world.now.wall += jump;
        world.restart();
        let mut passed = 0;
        while world.state(1, 0) == JobState::Running {
            world.renew(key);
            world.pass(60_000);
            passed += 60_000;
            assert!(passed <= most + 60_000, "it runs for ever");
        }
        assert!(passed >= world.config.lease_ms, "it has a lease at least");
    }
}

#[test]
fn a_cancel_is_not_forgotten() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    world.step(Event::Cancel { build, job: None, by: "alice".into() });
    world.restart();
    assert_eq!(world.state(1, 1), JobState::Cancelled);
    assert!(matches!(world.renew(key), Reply::Lease { cancel: true, .. }));
    world.pass(world.config.grace_ms);
    assert_eq!(world.state(1, 0), JobState::Cancelled);
}

#[test]
fn what_is_superseded_stays_so() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b")]);
    let key = attempt(1, 0, 1);
    world.claim(key);
    world.step(Event::Supersede { build, why: "obsolete".into() });
    world.restart();
    assert!(matches!(world.renew(key), Reply::Lease { cancel: true, .. }));
    world.pass(world.config.grace_ms);
    assert_eq!(world.states(build), [JobState::Superseded; 2]);
    assert_eq!(world.why(1, 0), "obsolete");
}

#[test]
fn waiting_jobs_still_wait_for_the_rest() {
    let mut world = World::with_slots(1);
    let build = world.build(vec![job("a"), job("b"), needing("c", &[0, 1])]);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    world.restart();
    use JobState::{Passed, Running, Waiting};
    assert_eq!(world.states(build), [Passed, Running, Waiting]);
    world.run(attempt(1, 1, 1), Outcome::Passed);
    assert_eq!(world.states(build), [Passed, Passed, Running]);
}

#[test]
fn the_order_of_the_queue_survives() {
    let mut world = World::with_slots(1);
    for _push in 0..4 {
        world.build(vec![job("a")]);
        world.pass(10);
    }
    world.launched();
    world.restart();
    world.launched();
    let mut order = Vec::new();
    let mut next = attempt(1, 0, 1);
    for _job in 0..4 {
        order.push(next.job.build.0);
        world.run(next, Outcome::Passed);
        next = world.launched_attempts().pop().unwrap_or(next);
    }
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn a_pause_before_a_retry_is_kept() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    world.launched();
    world.run(attempt(1, 0, 1), make::errored());
    world.restart();
    assert_eq!(world.launched_attempts(), []);
    world.pass(world.config.backoff_ms);
    assert_eq!(world.launched_attempts(), [attempt(1, 0, 2)]);
}

#[test]
fn slots_stay_taken_even_when_the_pool_was_made_smaller() {
    let mut world = World::with_slots(2);
    world.build(vec![job("a"), job("b"), job("c")]);
    world.claim(attempt(1, 0, 1));
    world.claim(attempt(1, 1, 1));
    world.config.pools[0].slots = 1;
    world.restart();
    assert_eq!(world.engine.pools()[0].held, 2);
    world.run(attempt(1, 0, 1), Outcome::Passed);
    assert_eq!(world.launched_attempts(), [], "one still runs where there is one slot");
    world.run(attempt(1, 1, 1), Outcome::Passed);
    assert_eq!(world.launched_attempts(), [attempt(1, 2, 1)]);
}

#[test]
fn numbers_are_never_used_twice() {
    let mut world = World::with_slots(1);
    world.push(vec![Err("malformed")]);
    world.publish();
    world.step(Event::Mailed(PushId(1)));
    assert!(world.store.builds.is_empty() && world.store.pushes.is_empty());
    world.restart();
    assert_eq!(world.push(vec![Err("malformed")]), [BuildId(2)]);
    // The store is lost; results logs and spools know better.
    world.store.meta = Meta::default();
    world.store.builds.clear();
    world.store.pushes.clear();
    world.restart_with(Meta { next_push: PushId(40), next_build: BuildId(70) });
    assert_eq!(world.engine.next_push(), PushId(40));
    assert_eq!(world.push(vec![Err("malformed")]), [BuildId(70)]);
}

#[test]
fn a_build_whose_plan_was_lost_is_errored_and_said() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    world.claim(attempt(1, 0, 1));
    world.store.plans.clear();
    let rows = world.store.rows();
    let restored = Engine::restore(world.config.clone(), rows, Meta::default(), world.now);
    assert_eq!(restored.lost.len(), 2, "{:?}", restored.lost);
    world.engine = restored.engine;
    world.effects.clear();
    world.turn();
    assert_eq!(world.killed(), [attempt(1, 0, 1)]);
    let entries = world.publish();
    let [Entry::Build(build)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(build.state, hgci_core::BuildState::Errored);
    assert!(build.message.as_deref().unwrap().contains("lost"), "{build:?}");
    assert!(world.store.jobs.is_empty(), "the rows of its jobs are nobody's");
}

#[test]
fn jobs_without_a_build_are_said_once_and_leave_the_store() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a"), job("b")]);
    world.claim(attempt(1, 0, 1));
    world.store.builds.clear();
    let mut lost = Vec::new();
    for _start in 0..2 {
        let (config, rows) = (world.config.clone(), world.store.rows());
        let restored = Engine::restore(config, rows, Meta::default(), world.now);
        lost.push(restored.lost.len());
        world.engine = restored.engine;
        world.turn();
    }
    assert_eq!(lost, [1, 0]);
    assert_eq!(world.killed(), [attempt(1, 0, 1)]);
    assert!(world.store.jobs.is_empty());
}

#[test]
fn an_attempt_that_ended_before_it_was_asked_for_again_is_not_launched() {
    let mut world = World::with_slots(1);
    world.build(vec![job("a")]);
    world.launched();
    let (config, rows) = (world.config.clone(), world.store.rows());
    world.engine = Engine::restore(config, rows, Meta::default(), world.now).engine;
    // Heard of while the store did not take anything: it comes with the first turn.
    let why = "the runner ended without a verdict".to_owned();
    world.step(Event::HostGone { attempt: attempt(1, 0, 1), why });
    assert_eq!(world.launched_attempts(), []);
    assert_eq!(world.engine.pools()[0].held, 0);
    world.pass(world.config.backoff_ms);
    assert_eq!(world.launched_attempts(), [attempt(1, 0, 2)]);
}
